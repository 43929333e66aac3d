"""Codex CLI: rollout files, plain or Zstandard, with and without the envelope of September 2025.

Each turn stands twice in a rollout: as ``event_msg`` (what a person saw) and as ``response_item`` (what the model
saw). Texts are taken from the events if the file has any ``user_message``, else from the response items; of the
other kind only what has no twin stays. Reasoning and tools come from the response items, in the shape of
``tool_use`` and ``tool_result`` blocks; ``encrypted_content`` is left behind, since it opens for nobody
(tests/unit/test_transcript_codex.py).

A forked file replays its parent under new times. Everything of it stays, and ``metadata.forked_from`` says so;
message ids come from native ids or the content, never from times, so the copies carry the ids of the originals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from ..model import Content, Json, plain_text
from .injected import separated
from .lines import Lines, records
from .transcript import (
    Draft,
    Reading,
    Transcript,
    assemble,
    created_ms,
    digest,
    project_of,
    shallow,
    text,
    tidy,
    time_text,
    tool_result,
    tool_use,
    usable_id,
)

TOOL = "codex"

_UUID_AT_END = re.compile(r"[0-9a-zA-Z]{8}(?:-[0-9a-zA-Z]{4}){3}-[0-9a-zA-Z]{12}$")
_OUTER = frozenset(("session_meta", "turn_context", "response_item", "event_msg", "compacted"))
_ITEMS = frozenset(
    (
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "local_shell_call",
    )
)
_SILENT_ITEMS = frozenset(("ghost_snapshot", "compaction", "token_count", "other"))
_TEXTS = ("input_text", "output_text")
_TELLING_LENGTH = 16
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Side = Literal["event", "response", "both"]


class _Item(msgspec.Struct, kw_only=True):
    """A message that may have a twin on the other side, or a mark between messages."""

    draft: Draft | None = None
    side: Side = "both"
    texts: list[str] = []  # what a twin would say, in pieces or as a whole
    usage: dict[str, Json] | None = None
    roll_back: int = 0


class _Reader:
    def __init__(self, reading: Reading, *, name: str) -> None:
        self.reading = reading
        self.name = name
        self.meta: dict[str, Any] | None = None
        self.first: Json = None
        self.items: list[_Item] = []
        self.model: str | None = None
        self.cwd: str | None = None
        self.title: str | None = None
        self.replayed = False
        self.total: Json = None

    def add(self, record: dict[str, Any], *, number: int, line: bytes) -> None:
        if self.first is None:
            self.first = record
        payload, kind, timestamp = record.get("payload"), record.get("type"), record.get("timestamp")
        before = len(self.items)
        if not isinstance(payload, dict):
            self._bare(record)
        elif kind == "session_meta":
            self._session_meta(payload)
        elif kind == "turn_context":
            self.model = text(payload.get("model")) or self.model
            self.cwd = self.cwd or text(payload.get("cwd"))
            self.reading.leave_out("turn_context")
        elif kind == "response_item":
            self._response_item(payload, timestamp=timestamp)
        elif kind == "event_msg":
            self._event(payload, timestamp=timestamp)
        elif kind == "compacted":
            self._add("system", payload.get("message"), timestamp=timestamp, metadata={"kind": "compact-summary"})
        else:
            self.reading.leave_out(text(kind) or "unknown")
        for item in self.items[before:]:
            if item.draft is not None:
                item.draft.content = shallow(item.draft.content, line, number=number, reading=self.reading)

    def finish(self) -> Iterator[Transcript]:
        drafts = self._settled()
        messages = assemble(drafts, self.reading)
        if not messages:
            return
        meta = self.meta or {}
        native = self._native_id(meta)
        yield Transcript(
            id=native,
            title=self.title,
            created_ms=created_ms(messages, default_ms=self.reading.default_ms),
            provider=text(meta.get("model_provider")) or "openai",
            model=self.model,
            metadata=self._metadata(meta),
            source={"tool": TOOL, "id": native},
            messages=messages,
        )

    def _bare(self, record: dict[str, Any]) -> None:
        """Take a record of the time before the envelope."""
        if record.get("type") in _ITEMS:
            self._response_item(record, timestamp=record.get("timestamp"))
        elif self.meta is None and isinstance(record.get("id"), str) and "type" not in record:
            self._session_meta(record)
        else:
            self.reading.leave_out(text(record.get("type")) or text(record.get("record_type")) or "unknown")

    def _session_meta(self, payload: dict[str, Any]) -> None:
        """Take the first as the file's own; later ones are copies of a parent's."""
        self.reading.leave_out("session_meta")
        if self.meta is None:
            self.meta = payload
            self.cwd = text(payload.get("cwd"))
        elif payload.get("id") != self.meta.get("id"):
            self.replayed = True

    def _response_item(self, payload: dict[str, Any], *, timestamp: Json) -> None:
        kind = payload.get("type") or ("message" if "role" in payload else None)
        call = text(payload.get("call_id"))
        native = text(payload.get("id"))
        timestamp = timestamp if timestamp is not None else payload.get("timestamp")
        metadata: dict[str, Json] = {}
        if kind == "message":
            self._message(payload, native=native, timestamp=timestamp)
        elif kind == "reasoning":
            self._reasoning(payload, native=native, timestamp=timestamp)
        elif kind in ("function_call", "custom_tool_call", "local_shell_call", "web_search_call"):
            name = payload.get("name") or str(kind).removesuffix("_call")
            given = next((payload[key] for key in ("arguments", "input", "action") if key in payload), None)
            self._add("assistant", [tool_use(call or native, name, given)], native=call or native, timestamp=timestamp)
        elif kind in ("function_call_output", "custom_tool_call_output", "local_shell_call_output"):
            output, details = _output(payload.get("output"))
            if details is not None:
                metadata["result"] = details
            name = f"{call}.output" if call else native
            self._add("tool", [tool_result(call, output)], native=name, timestamp=timestamp, metadata=metadata)
        elif kind is None or kind in _SILENT_ITEMS:
            self.reading.leave_out(f"response_item/{kind}" if kind else "response_item")
        else:
            self._add("assistant", [payload], native=native, timestamp=timestamp, metadata={"kind": kind})

    def _message(self, payload: dict[str, Any], *, native: str | None, timestamp: Json) -> None:
        content = _plain(payload.get("content", payload.get("message")))
        role = text(payload.get("role")) or "assistant"
        metadata: dict[str, Json] = {}
        side: Side = "response"
        said = _said(content)
        if role == "user":
            content, injected = separated(content)
            if injected is not None:
                role, side, metadata = "system", "both", {"injected": injected}
        elif role != "assistant":
            side = "both"
        self._add(role, content, native=native, timestamp=timestamp, metadata=metadata, side=side, texts=[said])

    def _reasoning(self, payload: dict[str, Any], *, native: str | None, timestamp: Json) -> None:
        lists = [payload[key] for key in ("summary", "content") if isinstance(payload.get(key), list)]
        parts = [part["text"] for found in lists for part in found if isinstance(part, dict) and text(part.get("text"))]
        if not parts:
            self.reading.leave_out("response_item/reasoning, encrypted")
            return
        block = {"type": "thinking", "thinking": "\n\n".join(parts)}
        texts = [part.strip() for part in (*parts, block["thinking"])]
        self._add("assistant", [block], native=native, timestamp=timestamp, side="response", texts=texts)

    def _event(self, payload: dict[str, Any], *, timestamp: Json) -> None:
        kind = text(payload.get("type")) or "unknown"
        if kind == "user_message":
            self._user_event(payload, timestamp=timestamp)
        elif kind == "agent_message":
            said = _plain(payload.get("message"))
            self._add("assistant", said, timestamp=timestamp, side="event", texts=[_said(said)])
        elif kind in ("agent_reasoning", "agent_reasoning_raw_content") and text(payload.get("text")):
            block = {"type": "thinking", "thinking": payload["text"]}
            self._add("assistant", [block], timestamp=timestamp, side="event", texts=[payload["text"].strip()])
        elif kind == "token_count":
            self._token_count(payload)
        elif kind == "thread_name_updated":
            self.title = " ".join(str(payload.get("thread_name") or "").split()) or None
            self.reading.leave_out("event_msg/thread_name_updated")
        elif kind == "thread_rolled_back" and isinstance(payload.get("num_turns"), int):
            self.items.append(_Item(roll_back=payload["num_turns"]))
            self.reading.leave_out("event_msg/thread_rolled_back")
        else:
            self.reading.leave_out(f"event_msg/{kind}")

    def _user_event(self, payload: dict[str, Any], *, timestamp: Json) -> None:
        said = _plain(payload.get("message"))
        content, injected = separated(said)
        images = payload.get("images")
        if isinstance(images, list) and images:
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            content = [*blocks, *({"type": "image_url", "image_url": {"url": image}} for image in images)]
        metadata: dict[str, Json] = {} if injected is None else {"injected": injected}
        role = "user" if injected is None else "system"
        self._add(role, content, timestamp=timestamp, metadata=metadata, side="event", texts=[_said(said)])

    def _token_count(self, payload: dict[str, Any]) -> None:
        """Take the tokens of one model call; the same record is repeated when only limits were refreshed."""
        info = payload.get("info")
        usage = info.get("last_token_usage") if isinstance(info, dict) else None
        total = info.get("total_token_usage") if isinstance(info, dict) else None
        self.reading.leave_out("event_msg/token_count")
        if not isinstance(usage, dict) or (total is not None and total == self.total):
            return
        self.total = total
        self.items.append(_Item(usage=usage))

    def _add(
        self,
        role: str,
        content: object,
        *,
        timestamp: Json,
        native: str | None = None,
        metadata: dict[str, Json] | None = None,
        side: Side = "both",
        texts: list[str] | None = None,
    ) -> None:
        draft = Draft(
            role=role,
            content=tidy(content),
            id=native,
            timestamp=time_text(timestamp),
            model=self.model if role == "assistant" else None,
            metadata=metadata or {},
        )
        self.items.append(_Item(draft=draft, side=side, texts=texts or []))

    def _settled(self) -> list[Draft]:
        """The messages without twins, with the usage of each model call on one of its messages.

        Older versions count a call's tokens before its messages, newer ones after them: the count goes
        to the last message of the assistant since the last answer of a person or a tool, else to the next.
        """
        drafts: list[Draft] = []
        waiting: dict[str, Json] | None = None
        speaking: Draft | None = None
        for item in self._without_twins():
            draft = item.draft
            if draft is not None:
                drafts.append(draft)
                speaking = draft if draft.role == "assistant" else None
                if speaking is not None and waiting is not None:
                    speaking.usage, waiting = waiting, None
            elif item.usage is not None:
                if speaking is not None:
                    speaking.usage = _sum(speaking.usage, item.usage)
                else:
                    waiting = _sum(waiting, item.usage)
            else:
                _roll_back(drafts, turns=item.roll_back)
        if waiting is not None:
            last = next((draft for draft in reversed(drafts) if draft.role == "assistant"), None)
            if last is not None:
                last.usage = _sum(last.usage, waiting)
        return drafts

    def _without_twins(self) -> Iterator[_Item]:
        drafts = [(item, item.draft) for item in self.items if item.draft is not None]
        by_events = any(item.side == "event" and draft.role == "user" for item, draft in drafts)
        chosen: dict[bool, set[str]] = {False: set(), True: set()}
        for item, draft in drafts:
            if item.side != "both" and item.side == _side(draft, by_events=by_events):
                chosen[_thinks(draft)].update(item.texts)
        for item in self.items:
            draft = item.draft
            if draft is not None and item.side not in ("both", _side(draft, by_events=by_events)):
                said = chosen[_thinks(draft)]
                if any(one in said for one in item.texts) or (draft.role == "user" and _within(item.texts, said)):
                    continue
            yield item

    def _native_id(self, meta: dict[str, Any]) -> str:
        stem = PurePosixPath(self.name.replace("\\", "/")).name.split(".", 1)[0]
        found = _UUID_AT_END.search(stem)
        return usable_id(meta.get("id")) or (found[0] if found else None) or digest(self.first)

    def _metadata(self, meta: dict[str, Any]) -> dict[str, Json]:
        metadata: dict[str, Json] = {}
        if self.cwd:
            metadata["cwd"] = self.cwd
            if project := project_of(self.cwd):
                metadata["project"] = project
        git = meta.get("git")
        spawn = _spawn(meta)
        found = {
            "git_branch": git.get("branch") if isinstance(git, dict) else None,
            "tool_version": meta.get("cli_version"),
            "originator": meta.get("originator"),
            "forked_from": meta.get("forked_from_id"),
            "parent_session": meta.get("parent_thread_id") or spawn.get("parent_thread_id"),
            "agent_id": spawn.get("agent_nickname"),
        }
        metadata |= {key: value for key, value in found.items() if text(value)}
        if self.replayed or "forked_from" in metadata:
            metadata["replays_parent"] = True
        return metadata


def recognises(record: dict[str, Any]) -> bool:
    """Say whether a record is one of Codex, with or without envelope."""
    kind = record.get("type")
    if isinstance(record.get("payload"), dict):
        return kind in _OUTER
    if kind is None:
        header = isinstance(record.get("id"), str) and "timestamp" in record
        return "record_type" in record or (header and ("instructions" in record or "git" in record))
    content = record.get("content")
    first = content[0] if isinstance(content, list) and content else None
    return kind == "message" and isinstance(first, dict) and first.get("type") in _TEXTS


def read(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:
    """The one session of a rollout."""
    reader = _Reader(reading, name=name)
    for number, line, record in records(lines, _decode, reading, stands_alone=_stands_alone):
        reader.add(record, number=number, line=line)
    yield from reader.finish()


def _stands_alone(value: dict[str, Any]) -> bool:
    return isinstance(value.get("type"), str) and isinstance(value.get("payload"), dict)


def _side(draft: Draft, *, by_events: bool) -> Side:
    """The side that a message is taken from: texts from the one that the file has, thoughts from the model's."""
    return "event" if by_events and not _thinks(draft) else "response"


def _thinks(draft: Draft) -> bool:
    return not isinstance(draft.content, str) and draft.content[0]["type"] == "thinking" if draft.content else False


def _within(texts: list[str], others: set[str]) -> bool:
    """Say whether one text ends with another of some length: what the model saw may have context before it."""
    return any(
        (one.endswith(other) or other.endswith(one)) and min(len(one), len(other)) >= _TELLING_LENGTH
        for one in texts
        for other in others
    )


def _plain(content: object) -> Content:
    """A content whose texts are plain text blocks."""
    if not isinstance(content, list):
        return tidy(content)
    return tidy(
        [
            {"type": "text", "text": block["text"]}
            if isinstance(block, dict) and block.get("type") in _TEXTS and "text" in block
            else block
            for block in content
        ]
    )


def _said(content: Content) -> str:
    return plain_text(content).strip()


def _output(output: object) -> tuple[object, Json]:
    """What a tool answered; early versions wrapped it, with exit code and duration, in JSON."""
    if isinstance(output, str) and output.startswith('{"output":'):
        try:
            value = msgspec.json.decode(output)
        except (msgspec.DecodeError, RecursionError):
            return output, None
        if isinstance(value.get("output"), str) and value.keys() <= {"output", "metadata"}:
            return value["output"], value.get("metadata")
    if isinstance(output, list):
        return _plain(output), None
    return output, None


def _sum(one: dict[str, Json] | None, other: dict[str, Json]) -> dict[str, Json]:
    """The tokens of two calls together: the messages of the first were not recorded."""
    if one is None:
        return other
    merged = dict(one)
    for key, value in other.items():
        before = merged.get(key)
        if isinstance(value, int | float) and isinstance(before, int | float):
            merged[key] = before + value
        else:
            merged[key] = value
    return merged


def _roll_back(drafts: list[Draft], *, turns: int) -> None:
    """Mark the last turns as taken back: a turn begins with what a person asked."""
    for draft in reversed(drafts):
        if turns <= 0:
            return
        draft.metadata = {**draft.metadata, "rolled_back": True}
        turns -= draft.role == "user"


def _spawn(meta: dict[str, Any]) -> dict[str, Any]:
    source = meta.get("source")
    agent = source.get("subagent") if isinstance(source, dict) else None
    spawn = agent.get("thread_spawn") if isinstance(agent, dict) else None
    return spawn if isinstance(spawn, dict) else {}
