"""ChatGPT's export: conversations.json, an array of trees (tests/unit/test_transcript_chatgpt.py).

What is hidden from its user (custom instructions, empty system messages) is left out and counted. Pictures and other
files stay as pointers: their blocks say what they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..model import Content, Json, parse_time
from .branches import Node, sessions_of
from .lines import Lines
from .transcript import Draft, Reading, Transcript, digest, shallow, text, time_text, tool_result, tool_use, usable_id

_KEPT = ("attachments", "citations", "content_references", "aggregate_result", "finish_details", "canvas")
_OF_THE_CONVERSATION = ("gizmo_id", "is_archived", "is_starred", "conversation_template_id")
_HIDDEN = ("user_editable_context", "model_editable_context")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def recognises(record: dict[str, Any]) -> bool:
    """Say whether a record is a conversation of ChatGPT."""
    return isinstance(record.get("mapping"), dict)


def read(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:  # noqa: ARG001  each names itself
    """A session for each conversation, and a fork for each of its other branches."""
    for number, line in lines:
        try:
            record = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            reading.fault(number, f"not a conversation: {exc}")
            continue
        if not recognises(record):
            reading.fault(number, "not a conversation: it has no mapping")
            continue
        nodes = dict(_nodes(record["mapping"], line, number, reading))
        if not any(node.draft for node in nodes.values()):
            reading.leave_out("empty conversation")
            continue
        yield from sessions_of(_session(record, nodes, reading), nodes, text(record.get("current_node")), reading)


def _session(record: dict[str, Any], nodes: dict[str, Node], reading: Reading) -> Transcript:
    native = usable_id(record.get("id")) or usable_id(record.get("conversation_id")) or digest(record["mapping"])
    began = time_text(record.get("create_time"))
    first = next((each.draft.timestamp for each in nodes.values() if each.draft and each.draft.timestamp), None)
    about = {key: record[key] for key in _OF_THE_CONVERSATION if record.get(key)}
    return Transcript(
        id=native,
        title=text(record.get("title")),
        created_ms=parse_time(began or first) if began or first else reading.default_ms,
        provider="openai",
        model=text(record.get("default_model_slug")),
        metadata={"chatgpt": about} if about else {},
        source={"tool": "chatgpt", "id": native},
        messages=[],
    )


def _nodes(mapping: dict[str, Any], line: bytes, number: int, reading: Reading) -> Iterator[tuple[str, Node]]:
    for name, node in mapping.items():
        if not isinstance(node, dict):
            reading.leave_out("node that is no object")
            continue
        message = node.get("message")
        draft = _draft(name, message, reading) if isinstance(message, dict) else None
        if draft is not None:
            draft.content = shallow(draft.content, line, number=number, reading=reading)
        parent = node.get("parent")
        yield name, Node(name, parent if isinstance(parent, str) else None, draft)


def _draft(name: str, message: dict[str, Any], reading: Reading) -> Draft | None:
    """The message of a node; None for what was never shown."""
    author = message.get("author") if isinstance(message.get("author"), dict) else {}
    about = message.get("metadata") if isinstance(message.get("metadata"), dict) else {}
    assert isinstance(author, dict)
    assert isinstance(about, dict)
    given = message.get("content")
    kind = given.get("content_type") if isinstance(given, dict) else None
    if about.get("is_visually_hidden_from_conversation") or kind in _HIDDEN:
        reading.leave_out("hidden message")
        return None
    recipient = text(message.get("recipient")) or "all"
    content = _content(given, recipient=recipient)
    if not content:
        reading.leave_out("empty message")
        return None
    metadata: dict[str, Json] = {key: about[key] for key in _KEPT if about.get(key)}
    if text(message.get("channel")):
        metadata["channel"] = message["channel"]
    role = text(author.get("role")) or "unknown"
    return Draft(
        id=usable_id(message.get("id")) or name,
        role=" ".join(role.split()),
        content=content,
        sender=text(author.get("name")),
        timestamp=time_text(message.get("create_time")),
        model=text(about.get("model_slug")) if role == "assistant" else None,
        metadata=metadata,
    )


def _content(given: object, *, recipient: str) -> Content:
    """The content: text where it is nothing else, else blocks; a kind that is not known stays as it is."""
    if not isinstance(given, dict):
        return given if isinstance(given, str) else ""
    kind = text(given.get("content_type")) or "unknown"
    said = given.get("text") if isinstance(given.get("text"), str) else None
    if recipient != "all" and kind in ("code", "text"):
        asked = said if said is not None else "\n".join(part for part in _parts(given) if isinstance(part, str))
        return [tool_use(None, recipient, asked)] if asked else ""
    if kind in ("text", "multimodal_text"):
        blocks = [block for part in _parts(given) if (block := _part(part))]
        alone = len(blocks) == 1 and blocks[0]["type"] == "text"
        return blocks[0]["text"] if alone else blocks
    if kind == "execution_output":
        return [tool_result(None, said or "")]
    if kind == "thoughts":
        return [block for each in _list(given.get("thoughts")) if (block := _thought(each))]
    return [{**{key: value for key, value in given.items() if key != "content_type"}, "type": kind}]


def _parts(given: dict[str, Any]) -> list[Any]:
    return _list(given.get("parts"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _part(part: object) -> dict[str, Json] | None:
    if isinstance(part, str):
        return {"type": "text", "text": part} if part else None
    if isinstance(part, dict):
        kind = text(part.get("content_type")) or "unknown"
        return {**{key: value for key, value in part.items() if key != "content_type"}, "type": kind}
    return None if part is None else {"type": "unknown", "value": part}


def _thought(each: object) -> dict[str, Json] | None:
    if not isinstance(each, dict):
        return None
    said = [part for key in ("summary", "content") if (part := text(each.get(key)))]
    return {"type": "thinking", "thinking": "\n\n".join(said)} if said else None
