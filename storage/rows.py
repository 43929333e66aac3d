"""How sessions and messages stand in rows, and rows in what people see.

A message's columns from ``id`` to ``births`` are also how it travels in a segment, so that
pushing is a select and pulling an insert. Plain text content is TEXT; a list of blocks is a
BLOB of JSON; large ones stand packed in the table and nowhere else (storage/packing.py). Absent
values are NULL. (tests/unit/test_rows.py)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from .errors import ContentDamaged, InvalidInput
from .model import Content, Message, SessionHeader, format_ms
from .packing import LARGE_BYTES, MAX_MESSAGE_BYTES, read_sql, unpack, write_sql
from .registers import text_of, value_of

decode_json = msgspec.json.decode
encode_json = msgspec.json.encode

_STORED = (
    "session", "ord", "seq", "local_seq", "born_seq", "hidden", "edited",
    "id", "clock", "author", "after", "inserted", "role", "sender", "content", "time_ms", "time_text",
    "parent", "model", "usage", "metadata", "origin", "births",
)  # fmt: skip


def bound(name: str, at: int) -> str:
    """SQL for the value of a message's column that is bound as parameter ``at``."""
    return write_sql(f"?{at}") if name == "content" else f"?{at}"


_READ = [f"{read_sql(name)} AS content" if name == "content" else name for name in _STORED]
_BOUND = [bound(name, at) for at, name in enumerate(_STORED, start=1)]
BORN_COLUMNS = ", ".join(_READ[_STORED.index("id") :])
MESSAGE_COLUMNS = ", ".join(["no", *_READ])
INSERT_MESSAGE = f"INSERT INTO messages ({', '.join(_STORED)}) VALUES ({', '.join(_BOUND)})"  # noqa: S608
_MAY_BE_NULL = {"after", "sender", "time_text", "parent", "model", "usage", "metadata", "origin", "births"}


def _bound_quickly(name: str, at: int) -> str:
    if name == "content":
        return f"iif(?{len(_STORED) + 1}, {bound(name, at)}, ?{at})"
    return f"nullif(?{at}, 0)" if name in _MAY_BE_NULL else f"?{at}"


_BOUND_QUICKLY = [_bound_quickly(name, at) for at, name in enumerate(_STORED, start=1)]
INSERT_QUICKLY = f"INSERT INTO messages ({', '.join(_STORED)}) VALUES ({', '.join(_BOUND_QUICKLY)})"  # noqa: S608
"""`INSERT_MESSAGE` for rows that went through `quick`, in a third of its time."""
SHOWN_COLUMNS = ", ".join(
    _READ[_STORED.index(name)]
    for name in (
        "id", "role", "content", "time_ms", "time_text", "sender", "parent", "model", "usage", "metadata", "origin",
    )
)  # fmt: skip
SESSION_COLUMNS = (
    "no, id, life, seq, local_seq, births, touched, title, automatic, status, provider, model, user_id, tags, "
    "metadata, state, created_ms, updated_ms, message_count, deleted_ms, hidden, vectors, incomplete, size_bytes, "
    "purged, history_seq, local_only"
)

HIDDEN_ITSELF, HIDDEN_IN_VECTOR, HIDDEN_FOR_EVER = 1, 2, 4
TOMBSTONE = 2
"""What a session is hidden by that was purged; 1 is one that was deleted."""
SCALARS = ("content", "sender", "parent", "timestamp", "model", "usage")


class Born(msgspec.Struct, frozen=True, array_like=True, gc=False):
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


def quick(row: Iterable[Any], *, content_bytes: int) -> list[Any]:
    """The values of `INSERT_MESSAGE` as `INSERT_QUICKLY` takes them.

    No None is bound, for which `sqlite3` looks for an adapter each time; nor is SQLite asked how large a content is,
    which copies it for that.
    """
    values = [0 if each is None else each for each in row]
    values.append(int(content_bytes > LARGE_BYTES))
    return values


def erased(born: Born) -> Born:
    """What stays of a message that was purged: its id, its place, its role and when it was born."""
    return msgspec.structs.replace(
        born, sender=None, content="", time_ms=0, time_text=None, parent=None, model=None, usage=None, metadata=None,
        origin=None,
    )  # fmt: skip


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
    history_seq: int
    local_only: int


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


class SessionBirth(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One birth of a session; the least (clock, author's device) is what stands."""

    clock: int
    author: int
    created_ms: int
    forked_from: str | None
    source: str | None

    def __lt__(self, other: SessionBirth) -> bool:
        """Order them wholly: what somebody crafted may give two of one stamp."""
        return self._place < other._place

    @property
    def _place(self) -> tuple[int, int, int, str, str]:
        return self.clock, self.author, self.created_ms, self.forked_from or "", self.source or ""


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
        size_bytes=row.size_bytes,
        life=row.life,
        local_only=bool(row.local_only),
    )


def message(row: MessageRow, *, deleted_ms: int | None = None) -> Message:
    """The message that people see; raises `ContentDamaged`."""
    try:
        content = content_of(row.content)
    except msgspec.DecodeError as exc:
        raise ContentDamaged(message=row.id) from exc
    return Message(
        id=row.id,
        role=row.role,
        content=content,
        timestamp=row.time_text or format_ms(row.time_ms),
        sender=row.sender,
        parent=row.parent,
        model=row.model,
        usage=None if row.usage is None else decode_json(row.usage),
        metadata={} if row.metadata is None else decode_json(row.metadata),
        deleted_at=None if deleted_ms is None else format_ms(deleted_ms),
        origin=None if row.origin is None else decode_json(row.origin),
    )


def shown(rows: Iterable[tuple[Any, ...]]) -> Iterator[Message]:
    """The messages of rows of `SHOWN_COLUMNS`; raises `ContentDamaged`. Loading a session is this loop."""
    for id_, role, column, time_ms, time_text, sender, parent, model, usage, metadata, origin in rows:
        content: Any = column
        if type(column) is not str:
            try:
                content = content_of(column)
            except msgspec.DecodeError as exc:
                raise ContentDamaged(message=id_) from exc
        yield Message(
            id=id_,
            role=role,
            content=content,
            timestamp=time_text or format_ms(time_ms),
            sender=sender,
            parent=parent,
            model=model,
            usage=usage and decode_json(usage),
            metadata=decode_json(metadata) if metadata else {},
            origin=origin and decode_json(origin),
        )


def size_bytes(*columns: object) -> int:
    """How many bytes the texts among some columns take."""
    size = 0
    for each in columns:
        if isinstance(each, str):
            size += len(each) if each.isascii() else len(each.encode())
        elif isinstance(each, bytes):
            size += len(each)
    return size


def check_size(*columns: object) -> None:
    """Raise `InvalidInput` for a message that is too large to travel."""
    if size_bytes(*columns) > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"a message of more than {MAX_MESSAGE_BYTES >> 20} MiB", hint="split it, or keep its attachments elsewhere"
        )


def check_document(document: Mapping[str, Any], name: str, *, before: Mapping[str, Any] | None = None) -> None:
    """Raise `InvalidInput` for a metadata or state that is too large to travel, unless it was and is smaller now."""
    size = size_bytes(encode_json(document))
    if size > MAX_MESSAGE_BYTES and (before is None or size > size_bytes(encode_json(before))):
        raise InvalidInput(f"{name} of more than {MAX_MESSAGE_BYTES >> 20} MiB", hint="keep what is large elsewhere")


def content_of(column: str | bytes) -> Content:
    """The content that a column holds; raises `msgspec.DecodeError` for a damaged one."""
    return column if isinstance(column, str) else decode_json(column)


def legible(column: str | bytes) -> Content:
    """The content of a column as it stands in the table; nothing of one that is damaged."""
    try:
        return content_of(unpack(column))
    except msgspec.DecodeError:
        return ""


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


def originals(births: list[SessionBirth]) -> list[str]:
    """The ids of what a session says that it was forked from, nearest first, each once."""
    if births[0].forked_from is None:
        return []
    stated = decode_json(births[0].forked_from)
    above = stated.get("above")
    named = [stated.get("session"), *(above if isinstance(above, list) else [])]
    return list(dict.fromkeys(each for each in named if isinstance(each, str)))


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
