"""Steno's own sessions as files that leave it and come back: the JSON export, and JSONL session files.

A JSON object holds a session with its messages; in JSONL the same object stands first, without them,
and a line follows for each. Several sessions may follow each other. AINative Code's exports are of the same shape,
without ``steno``. What is exported comes back equal, and a file with a fault is refused whole, after all faults were
found (tests/unit/test_transcript_steno_json.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

import msgspec

from ..errors import InvalidInput
from ..model import (
    ROLES,
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
    is_plain_id,
    parse_time,
    plain_text,
)
from ..shape import message_json, session_json
from .ainative import as_ours, is_ainative
from .faults import Faulty, Wrong, faults_of, located
from .lines import Lines
from .transcript import Fault, Reading, Transcript, created_ms, digest

VERSION = 1


class Exported(Transcript, frozen=True, kw_only=True):
    """A session of ours: besides what other tools know, its own fields, which return with it."""

    updated_ms: int
    stated: frozenset[str] = frozenset()
    """The fields that the file names; about the others it says nothing."""
    shown_title: str | None = None
    """The title as the file has it, automatic or not."""

    def titled(self, title: str) -> Self:
        """The same under another title."""
        return msgspec.structs.replace(self, title=title, shown_title=title, stated=self.stated | {"title"})


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
    metadata_has_tags: bool = False
    messages: list[_Message] = []


_STATED = (
    "title", "status", "tags", "provider", "model", "user_id", "metadata", "state", "source", "forked_from",
    "created_at", "updated_at",
)  # fmt: skip
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_session = msgspec.json.Decoder(_Session).decode
# A document's keys stand in the order in which they were written, which is not the order in which they come back.
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


def recognises(record: dict[str, Any]) -> bool:
    """Say whether a record is a session of ours or the header of one, or one of AINative Code's."""
    return "steno" in record or is_ainative(record)


def read(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:  # noqa: ARG001  the header names the session
    """The sessions of a file that have no fault; raises `Faulty` at the end, with every fault, if there was one."""
    current: _Session | None = None
    numbers: list[int] = []
    for number, line in lines:
        place = reading.place or (number, 1)
        try:
            began = _began(line)
            if began is None:
                if current is None:
                    raise InvalidInput("a message stands before any header")
                current.messages.append(_decode_message(line))
                numbers.append(number)
                _message(current.messages[-1], after=None, taken=set())
                continue
            if current is not None:
                yield from _finished(current, reading, numbers)
            current, numbers = (None, []) if began.messages else (began, [])
            if began.messages:
                whole = _checked(began, reading)
                if not reading.faults:
                    yield whole
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidInput) as exc:
            found = located(line, _all_wrong(line, exc), place=place)
            reading.faults += found
            if current is None or _is_header(line):
                current, numbers = _Session(steno=VERSION, id="x"), []
    if current is not None:
        yield from _finished(current, reading, numbers)
    if reading.faults:
        raise Faulty(reading.faults)


def written(session: SessionHeader, messages: Iterable[Message]) -> Iterator[bytes]:
    """The export of a session in pieces: each message on a line, and no line but a whole export is JSON by itself."""
    yield written_header(session)
    separator = b"\n"
    for message in messages:
        yield separator + _encode(message_json(message))
        separator = b",\n"
    yield b"]}"


def written_header(session: SessionHeader) -> bytes:
    """The beginning of an export, up to the first message. The tags stand in the metadata too, where others look."""
    head = {"steno": VERSION, **session_json(session)}
    head["metadata"] = msgspec.Raw(_encode_sorted({"tags": session.tags, **session.metadata}))
    head["state"] = msgspec.Raw(_encode_sorted(session.state))
    if session.metadata.get("tags", None) == session.tags:
        head["metadata_has_tags"] = True
    return _encode(head)[:-1] + b',"messages":['


def _finished(session: _Session, reading: Reading, numbers: list[int]) -> Iterator[Exported]:
    """The session, unless the file has faults; in JSONL only now it is seen whether ids stand twice."""
    seen: set[str] = set()
    for number, message in zip(numbers, session.messages, strict=False):
        if message.id is not None and message.id in seen and message.deleted_at is None:
            reading.faults.append(Fault(number, f"the id {message.id} stands twice", 1))
        seen.add(message.id or "")
    if not reading.faults:
        yield _checked(session, reading)


def _all_wrong(line: bytes, exc: Exception) -> list[Wrong]:
    """Everything that is wrong with a record; what only its reader noticed is told as that said it."""
    if isinstance(exc, _OtherVersion):
        return [Wrong((), exc.line)]
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        return [Wrong((), str(wrong), wrong)]
    return faults_of(value) or [Wrong((), str(exc))]


def _is_header(line: bytes) -> bool:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(value, dict) and recognises(value)


def _began(line: bytes) -> _Session | None:
    """The session that begins with this line; None where it is a message of the one before."""
    marks = _decode_marks(line)
    version = marks.steno
    if version is msgspec.UNSET:
        if marks.role is not msgspec.UNSET:
            return None
        return _foreign(line)
    if isinstance(version, int) and version > VERSION:
        raise _OtherVersion("written by a newer version of steno", hint="upgrade steno on this machine")
    if version != VERSION or isinstance(version, bool):
        raise _OtherVersion(f"`steno` must be {VERSION}")
    return _decode_session(line)


def _foreign(line: bytes) -> _Session | None:
    value = msgspec.json.decode(line)
    if not is_ainative(value):
        return None
    wrong = faults_of(value)
    if wrong:
        raise InvalidInput(wrong[0].reason)
    return msgspec.convert({"steno": VERSION, **as_ours(value)}, _Session)


class _OtherVersion(InvalidInput):
    """The rest of the record may mean anything."""


class _Marks(msgspec.Struct):
    steno: Any = msgspec.UNSET
    role: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_marks = msgspec.json.Decoder(_Marks).decode


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
        metadata=_own_metadata(session),
        state=check_object(session.state or {}, "state"),
        source=check_object(session.source or {}, "source"),
        forked_from=check_object(session.forked_from or {}, "forked_from"),
        local_only=session.local_only,
        messages=messages,
        checked=True,
        shown_title=session.title or session.name,
        stated=frozenset(name for name in _STATED if getattr(session, name) is not None),
    )


def _own_metadata(session: _Session) -> dict[str, Json]:
    """The metadata without the tags that an export repeats there."""
    metadata = check_object(session.metadata or {}, "metadata")
    if session.metadata_has_tags or "tags" not in metadata or metadata["tags"] != (session.tags or []):
        return metadata
    return {key: value for key, value in metadata.items() if key != "tags"}


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
    if message.role not in ROLES:
        check_role(message.role)
    # msgspec has seen to it that text is text; what stands in objects it does not ask.
    content = message.content if isinstance(message.content, str) else check_content(message.content)
    if message.timestamp is not None:
        parse_time(message.timestamp)
    message_id = message.id
    if message_id is None:
        message_id = _id_of(message, taken)
        taken.add(message_id)
    return NewMessage(
        id=message_id if is_plain_id(message_id) else check_message_id(message_id),
        after=after,
        role=message.role,
        content=content,
        timestamp=message.timestamp,
        sender=message.sender,
        parent=message.parent,
        model=message.model,
        usage=check_object(message.usage, "usage") if message.usage else message.usage,
        metadata=check_object(message.metadata, "metadata") if message.metadata else {},
        origin=check_object(message.origin, "origin") if message.origin else message.origin,
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
