"""Steno's own sessions as files that leave it and come back: the JSON export, and JSONL session files.

A JSON object holds a session with its messages; in JSONL the same object stands first, without them,
and a line follows for each. Several sessions may follow each other. What is exported comes back
equal, and a file with a fault is refused whole (tests/unit/test_transcript_steno_json.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..model import (
    Content,
    Json,
    Message,
    NewMessage,
    SessionHeader,
    automatic_title,
    check_content,
    check_message_id,
    check_object,
    check_role,
    check_session_id,
    check_status,
    check_tag,
    check_text,
    parse_time,
    plain_text,
)
from ..shape import message_json, session_json
from .lines import Lines
from .transcript import Reading, Transcript, created_ms, digest

VERSION = 1


class Exported(Transcript, frozen=True, kw_only=True):
    """A session of ours: besides what other tools know, its own fields, which return with it."""

    status: str
    user_id: str | None
    state: dict[str, Json]
    updated_ms: int


class _Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    id: str | None = None
    role: str
    content: Content
    timestamp: str | None = None
    sender: str | None = None
    parent: str | None = None
    model: str | None = None
    usage: dict[str, Json] | None = None
    metadata: dict[str, Json] | None = None
    origin: dict[str, Json] | None = None
    deleted_at: str | None = None


class _Session(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An exported session, and the header of a session file: what `session_json` writes, and ``rev``."""

    steno: int
    id: str
    rev: str | None = None
    title: str | None = None
    name: str | None = None
    status: str | None = None
    tags: list[str] | None = None
    provider: str | None = None
    model: str | None = None
    user_id: str | None = None
    project: Json = None
    metadata: dict[str, Json] | None = None
    state: dict[str, Json] | None = None
    forked_from: dict[str, Json] | None = None
    source: dict[str, Json] | None = None
    created_at: str | None = None
    updated_at: str | None = None
    deleted_at: str | None = None
    message_count: int | None = None
    local_only: bool = False
    messages: list[_Message] = []


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_session = msgspec.json.Decoder(_Session).decode
_encode = msgspec.json.Encoder().encode


def recognises(record: dict[str, Any]) -> bool:
    """Say whether a record is a session of ours or the header of one."""
    return "steno" in record


def read(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:  # noqa: ARG001  the header names the session
    """The sessions of a file; raises `InvalidInput` naming the line (in an array: the element) of the first fault."""
    header: _Session | None = None
    for number, line in lines:
        try:
            began = _began(line)
            if began is not None:
                if header is not None:
                    yield _transcript(header, reading)
                header = began
            elif header is None:
                raise InvalidInput("a message stands before any header")
            else:
                header.messages.append(_decode_message(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise InvalidInput(f"line {number}: {exc}") from exc
        except InvalidInput as exc:
            raise InvalidInput(f"line {number}: {exc}", hint=exc.hint) from exc
    if header is not None:
        yield _transcript(header, reading)


def written(session: SessionHeader, messages: Iterable[Message]) -> Iterator[bytes]:
    """The export of a session in pieces: each message on a line, and no line but a whole export is JSON by itself."""
    head = {"steno": VERSION, **session_json(session)}
    yield _encode(head)[:-1] + b',"messages":['
    separator = b"\n"
    for message in messages:
        yield separator + _encode(message_json(message))
        separator = b",\n"
    yield b"]}"


def _began(line: bytes) -> _Session | None:
    """The session that begins with this line; None where it is a message of the one before."""
    version = msgspec.json.decode(line, type=_Version).steno
    if version is msgspec.UNSET:
        return None
    if isinstance(version, int) and version > VERSION:
        raise InvalidInput("written by a newer version of steno", hint="upgrade steno on this machine")
    if version != VERSION:
        raise InvalidInput(f"`steno` must be {VERSION}")
    return _decode_session(line)


class _Version(msgspec.Struct):
    steno: Any = msgspec.UNSET


def _transcript(session: _Session, reading: Reading) -> Exported:
    try:
        return _checked(session, reading)
    except InvalidInput as exc:
        raise InvalidInput(f"session {session.id}: {exc}", hint=exc.hint) from exc


def _checked(session: _Session, reading: Reading) -> Exported:
    messages = list(_messages(session, reading))
    created = created_ms(messages, default_ms=reading.default_ms)
    if session.created_at is not None:
        created = parse_time(session.created_at)
    return Exported(
        id=check_session_id(session.id),
        title=_given_title(session, messages),
        created_ms=created,
        updated_ms=0 if session.updated_at is None else parse_time(session.updated_at),
        provider=_text(session.provider, "provider"),
        model=_text(session.model, "model"),
        user_id=_text(session.user_id, "user_id"),
        status=check_status(session.status or "active"),
        tags=list(dict.fromkeys(map(check_tag, session.tags or []))),
        metadata=check_object(session.metadata or {}, "metadata"),
        state=check_object(session.state or {}, "state"),
        source=check_object(session.source or {}, "source"),
        local_only=session.local_only,
        messages=messages,
    )


def _messages(session: _Session, reading: Reading) -> Iterator[NewMessage]:
    """The messages, each behind the one before it; one without an id gets it from what it says."""
    taken: set[str] = {message.id for message in session.messages if message.id is not None}
    seen: set[str] = set()
    after: str | None = None
    for number, message in enumerate(session.messages, 1):
        if message.deleted_at is not None:
            reading.leave_out("deleted message")
            continue
        try:
            new = _message(message, after=after, taken=taken)
        except InvalidInput as exc:
            raise InvalidInput(f"message {number}: {exc}", hint=exc.hint) from exc
        if new.id in seen:
            raise InvalidInput(f"message {number}: the id {new.id} stands twice")
        seen.add(str(new.id))
        after = new.id
        yield new


def _message(message: _Message, *, after: str | None, taken: set[str]) -> NewMessage:
    check_role(message.role)
    content = check_content(message.content)
    if message.timestamp is not None:
        parse_time(message.timestamp)
    message_id = message.id
    if message_id is None:
        message_id = _id_of(message, taken)
        taken.add(message_id)
    return NewMessage(
        id=check_message_id(message_id),
        after=after,
        role=message.role,
        content=content,
        timestamp=message.timestamp,
        sender=_text(message.sender, "sender"),
        parent=_text(message.parent, "parent"),
        model=_text(message.model, "model"),
        usage=None if message.usage is None else check_object(message.usage, "usage"),
        metadata=check_object(message.metadata or {}, "metadata"),
        origin=None if message.origin is None else check_object(message.origin, "origin"),
    )


def _id_of(message: _Message, taken: set[str]) -> str:
    """An id from role and content; equal twins are numbered, so that both stay."""
    first = digest([message.role, message.content])
    name, number = first, 1
    while name in taken:
        number += 1
        name = f"{first}~{number}"
    return name


def _given_title(session: _Session, messages: list[NewMessage]) -> str | None:
    """The title; None where it is the one that the messages make by themselves."""
    title = _text(session.title, "title") or _text(session.name, "name")
    spoken = (each.content for each in messages if each.role == "user" and plain_text(each.content).strip())
    first = next(spoken, None)
    if not title or not title.strip() or (first is not None and title == automatic_title(first)):
        return None
    return title


def _text(value: str | None, what: str) -> str | None:
    return None if value is None else check_text(value, what)
