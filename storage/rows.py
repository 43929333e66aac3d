"""How sessions and messages stand in rows, and rows in what people see.

A message's columns from ``id`` to ``births`` are also how it travels in a segment, so that
pushing is a select and pulling an insert. Plain text content is TEXT; a list of blocks is a
BLOB of JSON. Absent values are NULL. (tests/unit/test_rows.py)
"""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import InvalidInput
from .model import Content, Message, SessionHeader, format_ms
from .registers import text_of, value_of

decode_json = msgspec.json.decode
encode_json = msgspec.json.encode

BORN_COLUMNS = (
    "id, clock, author, after, inserted, role, sender, content, time_ms, time_text, "
    "parent, model, usage, metadata, origin, births"
)
MESSAGE_COLUMNS = f"no, session, ord, seq, local_seq, born_seq, hidden, edited, {BORN_COLUMNS}"
INSERT_MESSAGE = (
    f"INSERT INTO messages (session, ord, seq, local_seq, born_seq, hidden, edited, {BORN_COLUMNS}) "  # noqa: S608
    f"VALUES ({', '.join('?' * 23)})"
)
SESSION_COLUMNS = (
    "no, id, life, seq, local_seq, births, touched, title, automatic, status, provider, model, user_id, tags, "
    "metadata, state, created_ms, updated_ms, message_count, deleted_ms, hidden, vectors, incomplete, size_bytes, "
    "purged"
)

HIDDEN_ITSELF, HIDDEN_IN_VECTOR = 1, 2
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
SCALARS = ("content", "sender", "parent", "timestamp", "model", "usage")


class Born(msgspec.Struct, frozen=True, array_like=True):
    """A message as it was born: one row, and one entry of a segment. ``author`` is device number * 4 + class."""

    id: str
    clock: int
    author: int
    after: str | None
    inserted: int
    role: str
    sender: str | None
    content: Any  # text, or bytes of JSON: a union that msgspec does not decode
    time_ms: int
    time_text: str | None
    parent: str | None
    model: str | None
    usage: str | None
    metadata: str | None
    origin: str | None
    births: bytes | None


class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``sessions``."""

    no: int
    id: str
    life: int
    seq: int
    local_seq: int
    births: bytes
    touched: int
    title: str
    automatic: int
    status: str
    provider: str | None
    model: str | None
    user_id: str | None
    tags: str
    metadata: str
    state: str
    created_ms: int
    updated_ms: int
    message_count: int
    deleted_ms: int | None
    hidden: int
    vectors: int
    incomplete: int
    size_bytes: int
    purged: int


class MessageRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``messages``; from ``id`` on the fields of `Born`."""

    no: int
    session: int
    ord: int
    seq: int
    local_seq: int
    born_seq: int
    hidden: int
    edited: int
    id: str
    clock: int
    author: int
    after: str | None
    inserted: int
    role: str
    sender: str | None
    content: str | bytes
    time_ms: int
    time_text: str | None
    parent: str | None
    model: str | None
    usage: str | None
    metadata: str | None
    origin: str | None
    births: bytes | None


class SessionBirth(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One birth of a session; the least (clock, author's device) is what stands."""

    clock: int
    author: int
    created_ms: int
    forked_from: str | None
    source: str | None


def header(row: SessionRow) -> SessionHeader:
    """The session that people see."""
    birth = session_births(row.births)[0]
    return SessionHeader(
        id=row.id,
        title=row.title,
        status=row.status,
        provider=row.provider,
        model=row.model,
        user_id=row.user_id,
        tags=decode_json(row.tags),
        metadata=decode_json(row.metadata),
        state=decode_json(row.state),
        created_at=format_ms(row.created_ms),
        updated_at=format_ms(row.updated_ms),
        message_count=row.message_count,
        deleted_at=None if row.deleted_ms is None else format_ms(row.deleted_ms),
        forked_from=None if birth.forked_from is None else decode_json(birth.forked_from),
        source=None if birth.source is None else decode_json(birth.source),
        automatic_title=bool(row.automatic),
        incomplete=bool(row.incomplete),
    )


def message(row: MessageRow, *, deleted_ms: int | None = None) -> Message:
    """The message that people see."""
    return Message(
        id=row.id,
        role=row.role,
        content=content_of(row.content),
        timestamp=row.time_text or format_ms(row.time_ms),
        sender=row.sender,
        parent=row.parent,
        model=row.model,
        usage=None if row.usage is None else decode_json(row.usage),
        metadata={} if row.metadata is None else decode_json(row.metadata),
        deleted_at=None if deleted_ms is None else format_ms(deleted_ms),
        origin=None if row.origin is None else decode_json(row.origin),
    )


def size_bytes(*columns: object) -> int:
    """How many bytes the texts among some columns take."""
    return sum(
        len(each) if isinstance(each, bytes) or each.isascii() else len(each.encode())
        for each in columns
        if isinstance(each, str | bytes)
    )


def check_size(*columns: object) -> None:
    """Raise `InvalidInput` for a message that is too large to travel."""
    if size_bytes(*columns) > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"a message of more than {MAX_MESSAGE_BYTES >> 20} MiB", hint="split it, or keep its attachments elsewhere"
        )


def content_of(column: str | bytes) -> Content:
    """The content that a column holds."""
    return column if isinstance(column, str) else decode_json(column)


def content_column(content: Content) -> str | bytes:
    """The column that holds a content."""
    return content if isinstance(content, str) else encode_json(content)


def json_column(value: Any) -> str | None:
    """The column of an optional JSON value: NULL for None and for an empty object."""
    return None if value is None or value == {} else encode_json(value).decode()


def session_births(column: bytes) -> list[SessionBirth]:
    """The births of a session, least first."""
    return _BIRTHS.decode(column)


def encode_births(births: list[SessionBirth]) -> bytes:
    """The column of a session's births."""
    return msgspec.msgpack.encode(births)


def scalar_text(row: MessageRow | Born, path: str) -> bytes:
    """The register text that a message was born with at one of `SCALARS`."""
    if path == "content":
        return row.content if isinstance(row.content, bytes) else text_of(row.content)
    if path == "timestamp":
        return text_of(row.time_text or format_ms(row.time_ms))
    if path == "usage":
        return b"null" if row.usage is None else row.usage.encode()
    return text_of(getattr(row, path))


def scalar_columns(path: str, text: bytes, *, time_ms: int) -> dict[str, Any]:
    """The columns that show a register text; ``time_ms`` stands where a timestamp's text is no time."""
    value = value_of(text)
    if path == "content":
        return {"content": value if isinstance(value, str) else text}
    if path == "timestamp":
        return {"time_ms": time_ms, "time_text": None if value == format_ms(time_ms) else value}
    if path == "usage":
        return {"usage": None if value is None else text.decode()}
    return {path: value}


_BIRTHS = msgspec.msgpack.Decoder(list[SessionBirth])
