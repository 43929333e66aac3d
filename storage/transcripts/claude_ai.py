"""claude.ai's export: conversations.json, an array of conversations; some savers keep them as trees.

Pasted text stays as a block of its own; of other files the export has the names only, which stay and are counted
(tests/unit/test_transcript_claude_ai.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..model import Content, Json, parse_time
from .branches import Node, sessions_of
from .lines import Lines
from .transcript import Draft, Reading, Transcript, digest, shallow, text, time_text, tool_result, tool_use, usable_id

_ROLES = {"human": "user"}
_OF_A_BLOCK = ("start_timestamp", "stop_timestamp", "flags")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def recognises(record: dict[str, Any]) -> bool:
    """Say whether a record is a conversation of claude.ai."""
    return isinstance(record.get("chat_messages"), list) and ("uuid" in record or "name" in record)


def read(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:  # noqa: ARG001  each names itself
    """A session for each conversation, and a fork for each of its other branches."""
    for number, line in lines:
        try:
            record = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            reading.fault(number, f"not a conversation: {exc}")
            continue
        if not recognises(record):
            reading.fault(number, "not a conversation: it has no chat_messages")
            continue
        nodes = dict(_nodes(record["chat_messages"], line, number, reading))
        if not nodes:
            reading.leave_out("empty conversation")
            continue
        leaf = text(record.get("current_leaf_message_uuid"))
        yield from sessions_of(_session(record, nodes, reading), nodes, leaf, reading)


def _session(record: dict[str, Any], nodes: dict[str, Node], reading: Reading) -> Transcript:
    native = usable_id(record.get("uuid")) or digest(record["chat_messages"])
    began = time_text(record.get("created_at"))
    first = next((each.draft.timestamp for each in nodes.values() if each.draft and each.draft.timestamp), None)
    metadata = {"summary": record["summary"]} if text(record.get("summary")) else {}
    return Transcript(
        id=native,
        title=text(record.get("name")),
        created_ms=parse_time(began or first) if began or first else reading.default_ms,
        provider="anthropic",
        model=text(record.get("model")),
        metadata=metadata,
        source={"tool": "claude.ai", "id": native},
        messages=[],
    )


def _nodes(messages: list[Any], line: bytes, number: int, reading: Reading) -> Iterator[tuple[str, Node]]:
    before: str | None = None
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            reading.leave_out("message that is no object")
            continue
        name = usable_id(message.get("uuid")) or f"m{at + 1}"
        content = shallow(_content(message, reading), line, number=number, reading=reading)
        role = text(message.get("sender")) or "unknown"
        draft = Draft(
            id=name,
            role=_ROLES.get(role, " ".join(role.split())),
            content=content,
            timestamp=time_text(message.get("created_at")),
        )
        parent = message.get("parent_message_uuid", before)
        if not content:
            reading.leave_out("empty message")
        yield name, Node(name, parent if isinstance(parent, str) else None, draft if content else None)
        before = name


def _content(message: dict[str, Any], reading: Reading) -> Content:
    given = message.get("content")
    blocks = [block for each in given if (block := _block(each))] if isinstance(given, list) else []
    said = message.get("text")
    if not blocks and isinstance(said, str) and said:
        blocks = [{"type": "text", "text": said}]
    named: set[str] = set()
    for each in _objects(message.get("attachments")):
        blocks.append(_attachment(each))
        named.add(str(each.get("file_name")))
    for each in [*_objects(message.get("files")), *_objects(message.get("files_v2"))]:
        if str(each.get("file_name")) not in named:
            named.add(str(each.get("file_name")))
            reading.leave_out("file of which the export has the name only")
            blocks.append({**each, "type": "file"})
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _attachment(given: dict[str, Any]) -> dict[str, Json]:
    block: dict[str, Json] = {key: value for key, value in given.items() if key != "extracted_content"}
    block["type"] = "document"
    if isinstance(given.get("extracted_content"), str):
        block["text"] = given["extracted_content"]
    return block


def _block(given: object) -> dict[str, Json] | None:
    if not isinstance(given, dict):
        return {"type": "text", "text": given} if isinstance(given, str) and given else None
    kind = text(given.get("type")) or "unknown"
    if kind == "tool_use":
        return tool_use(text(given.get("id")), given.get("name"), given.get("input"))
    if kind == "tool_result":
        block = tool_result(text(given.get("tool_use_id")), given.get("content"))
        return {**block, "is_error": True} if given.get("is_error") else block
    if kind == "token_budget" or (kind == "text" and not given.get("text")):
        return None
    rest = {key: value for key, value in given.items() if key not in _OF_A_BLOCK and value not in (None, [], {})}
    return {**rest, "type": kind}
