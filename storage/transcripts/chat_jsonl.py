"""Chat data sets: OpenAI's JSONL (chat, preference and batch lines) and ShareGPT, one session a record.

Such records have no id and no time, so a session is named by the hash of its record, and equal records of one file
are told apart by their number among equals: equal twins both stay, and importing twice changes nothing. A native id
is kept in ``metadata.native_id``; data sets number theirs from 0, so it names nothing
(tests/unit/test_transcript_chat_jsonl.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..model import Content, Json
from .lines import Lines, records
from .transcript import (
    Draft,
    Reading,
    Transcript,
    assemble,
    digest,
    shallow,
    text,
    tidy,
    time_text,
    tool_result,
    tool_use,
)

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Chat(msgspec.Struct, kw_only=True):
    drafts: list[Draft]
    model: str | None = None
    metadata: dict[str, Json] = {}


class _Unusable(Exception):
    """The record holds no conversation; the text says why."""


def is_openai(record: dict[str, Any]) -> bool:
    """Say whether a record is a line of OpenAI's chat, preference or batch files."""
    preference = "preferred_output" in record and isinstance(record.get("input"), dict)
    batch = "custom_id" in record and ("body" in record or "response" in record)
    return _have_roles(record.get("messages")) or preference or batch


def _have_roles(messages: object) -> bool:
    return isinstance(messages, list) and all(isinstance(message, dict) and "role" in message for message in messages)


def is_sharegpt(record: dict[str, Any]) -> bool:
    """Say whether a record is a ShareGPT conversation."""
    turns = record.get("conversations", record.get("items"))
    return isinstance(turns, list) and all(isinstance(turn, dict) and "from" in turn for turn in turns)


def read_openai(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:
    """One session for each line."""
    del name
    yield from _read(lines, reading, tool="openai-jsonl", chat_of=_openai)


def read_sharegpt(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:
    """One session for each record."""
    del name
    yield from _read(lines, reading, tool="sharegpt", chat_of=_sharegpt)


def _read(
    lines: Lines, reading: Reading, *, tool: str, chat_of: Callable[[dict[str, Any]], _Chat]
) -> Iterator[Transcript]:
    seen: dict[str, int] = {}
    for number, line, record in records(lines, _decode, reading, stands_alone=_stands_alone):
        try:
            chat = chat_of(record)
        except _Unusable as exc:
            reading.fault(number, str(exc))
            continue
        if not chat.drafts:
            reading.leave_out("empty conversation")
            continue
        for place, draft in enumerate(chat.drafts, 1):
            draft.id = f"m{place}"
            draft.content = shallow(draft.content, line, number=number, reading=reading)
        session_id = _numbered(digest(record), seen)
        yield Transcript(
            id=session_id,
            created_ms=reading.default_ms,
            model=chat.model,
            metadata=chat.metadata,
            source={"tool": tool, "id": session_id},
            messages=assemble(chat.drafts, reading),
        )


def _numbered(name: str, seen: dict[str, int]) -> str:
    number = seen[name] = seen.get(name, 0) + 1
    return name if number == 1 else f"{name}-{number}"


def _stands_alone(value: dict[str, Any]) -> bool:
    return is_openai(value) or is_sharegpt(value)


def _openai(record: dict[str, Any]) -> _Chat:
    if "preferred_output" in record:
        return _preference(record)
    if "custom_id" in record:
        return _batch(record)
    if not isinstance(record.get("messages"), list):
        raise _Unusable("no messages in this record")
    rest = {key: value for key, value in record.items() if key not in ("messages", "model")}
    return _Chat(drafts=list(_openai_drafts(record["messages"])), model=text(record.get("model")), metadata=_rest(rest))


def _preference(record: dict[str, Any]) -> _Chat:
    """A question with the answer that was preferred and the one that was not, each marked so."""
    asked = record.get("input")
    if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list):
        raise _Unusable("a preference record without input.messages")
    drafts = list(_openai_drafts(asked["messages"]))
    for key, mark in (("preferred_output", "preferred"), ("non_preferred_output", "non_preferred")):
        answers = record.get(key)
        for draft in _openai_drafts(answers if isinstance(answers, list) else []):
            draft.metadata = {**draft.metadata, "preference": mark}
            drafts.append(draft)
    return _Chat(drafts=drafts, metadata=_rest({key: asked[key] for key in asked if key != "messages"}))


def _batch(record: dict[str, Any]) -> _Chat:
    """One line of a batch: a request with its messages, or a response with its choices."""
    response = record.get("response")
    body = response.get("body") if isinstance(response, dict) else record.get("body")
    body = body if isinstance(body, dict) else {}
    metadata: dict[str, Json] = {"custom_id": record["custom_id"]}
    if isinstance(body.get("messages"), list):
        return _Chat(drafts=list(_openai_drafts(body["messages"])), model=text(body.get("model")), metadata=metadata)
    if not isinstance(body.get("choices"), list):
        raise _Unusable("a batch line without messages or choices (failed, or not a chat)")
    answers = [choice.get("message") for choice in body["choices"] if isinstance(choice, dict)]
    drafts = list(_openai_drafts(answers))
    for draft in drafts:
        draft.timestamp = time_text(body.get("created"))
        draft.model = text(body.get("model"))
    if drafts and isinstance(body.get("usage"), dict):
        drafts[0].usage = body["usage"]
    return _Chat(drafts=drafts, model=text(body.get("model")), metadata=metadata)


def _openai_drafts(messages: Iterable[object]) -> Iterator[Draft]:
    for message in messages:
        if not isinstance(message, dict):
            raise _Unusable("a message that is no object")
        role = text(message.get("role"))
        if role is None:
            raise _Unusable("a message without a role")
        content = tidy(message.get("content"))
        calls = message.get("tool_calls")
        legacy = message.get("function_call")
        if isinstance(calls, list) and calls:
            content = [*_as_blocks(content), *(_call(call) for call in calls)]
        elif isinstance(legacy, dict):
            content = [*_as_blocks(content), tool_use(None, legacy.get("name"), legacy.get("arguments"))]
        elif isinstance(message.get("tool_call_id"), str):
            content = [tool_result(message["tool_call_id"], content)]
        yield Draft(
            role=" ".join(role.split()),
            content=content,
            sender=text(message.get("name")),
            metadata=_rest({key: message[key] for key in message if key not in _MESSAGE}),
        )


_MESSAGE = ("role", "content", "name", "tool_calls", "function_call", "tool_call_id")


def _call(call: object) -> dict[str, Json]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        return {"type": "tool_use", "name": "unknown", "input": {"call": call}}
    return tool_use(text(call.get("id")), function.get("name"), function.get("arguments"))


def _as_blocks(content: Content) -> list[dict[str, Json]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _sharegpt(record: dict[str, Any]) -> _Chat:
    turns = record.get("conversations", record.get("items"))
    if not isinstance(turns, list):
        raise _Unusable("no conversations in this record")
    drafts = [Draft(role="system", content=record["system"])] if text(record.get("system")) else []
    drafts += _sharegpt_drafts(turns)
    rest = {key: value for key, value in record.items() if key not in ("conversations", "items", "system", "model")}
    if "id" in rest:
        rest["native_id"] = rest.pop("id")
    if isinstance(rest.get("tools"), str):
        rest["tools"] = _parsed(rest["tools"])
    return _Chat(drafts=drafts, model=text(record.get("model")), metadata=_rest(rest))


def _sharegpt_drafts(turns: list[object]) -> Iterator[Draft]:
    """The turns; a call has no id, so it is numbered, and an answer belongs to the last call."""
    calls = 0
    for turn in turns:
        speaker = text(turn.get("from")) if isinstance(turn, dict) else None
        if not isinstance(turn, dict) or speaker is None:
            raise _Unusable("a turn that does not say who speaks")
        content = tidy(turn.get("value", turn.get("text")))
        if speaker == "function_call":
            blocks: list[dict[str, Json]] = []
            for call in _function_calls(content):
                calls += 1
                blocks.append(tool_use(f"call-{calls}", call.get("name"), call.get("arguments")))
            yield Draft(role="assistant", content=blocks or content, metadata={} if blocks else {"kind": speaker})
        elif speaker == "observation" and calls:
            yield Draft(role="tool", content=[tool_result(f"call-{calls}", content)])
        else:
            yield Draft(role=_SPEAKERS.get(speaker, " ".join(speaker.split())), content=content)


def _function_calls(content: Content) -> list[dict[str, Any]]:
    value = _parsed(content)
    found = value if isinstance(value, list) else [value]
    return found if all(isinstance(call, dict) and "name" in call for call in found) else []


def _parsed(value: object) -> Json:
    """The JSON that a text holds; the text itself if it holds none."""
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except (msgspec.DecodeError, RecursionError):
        return value


def _rest(fields: dict[str, Json]) -> dict[str, Json]:
    """The fields that say something; they become metadata as they are."""
    return {key: value for key, value in fields.items() if key and value not in (None, "", [], {})}
