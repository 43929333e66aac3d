"""A session as it was at a number of the feed: the base of a three-way merge, and what people look back at.

Nothing is rebuilt by undoing: every state that a register had is kept with the span in which
it stood, and every message keeps the number at which it arrived (tests/unit/test_history.py,
tests/unit/test_cli_history.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from .audit import AuditEntry, audit
from .deletion import Vector, in_force, message_deleted, session_hidden
from .document import leaves
from .errors import InvalidInput, SessionNotFound
from .model import Message, SessionHeader, automatic_title, format_ms, parse_time, plain_text
from .registers import EMPTY, Known, Register, value_of
from .rows import (
    HIDDEN_FOR_EVER,
    SCALARS,
    MessageRow,
    SessionRow,
    content_column,
    decode_json,
    header,
    json_column,
    message,
    size_bytes,
)
from .stamps import BY_HAND, Stamp
from .state import StateWire, birth_stamps, document, from_wire, implied, load
from .store import Store

_decode_state = msgspec.msgpack.Decoder(StateWire).decode


class Past:
    """One session as it was at ``seq``; needs to be used inside one transaction."""

    def __init__(self, store: Store, session: SessionRow, seq: int) -> None:
        self._store = store
        self._session = session
        self.seq = seq
        self._states = self._changed_since()

    def register(self, row: MessageRow | None, path: str) -> Register:
        """The state of a register then; `EMPTY` where it was not written yet."""
        state = self._states.get((row.no if row else 0, path))
        if state is not None:
            return state
        if row is not None and row.born_seq > self.seq:
            return EMPTY
        return load(self._store, self._session.no, row, path)

    def known(self, row: MessageRow | None, path: str) -> Known:
        """What someone who looked at the session then knew of a register."""
        if row is not None and path.startswith("metadata/") and not row.edited:
            leaf = dict(leaves(decode_json(row.metadata))).get(path.removeprefix("metadata")) if row.metadata else None
            return implied(self._store, row, leaf).known if leaf is not None else {}
        return self.register(row, path).known

    def header(self) -> SessionHeader:
        """The header then. An automatic title is computed from the messages that were shown."""
        fields: dict[str, Any] = {name: value_of(self.register(None, name).shown) for name in _PLAIN}
        now = header(self._session)
        title = fields.pop("title")
        fields["status"] = fields["status"] or "active"
        registers = self._family("tags")
        tags = [(value_of(register.shown), path[5:]) for path, register in registers.items() if register.shown]
        return msgspec.structs.replace(
            now,
            title=title or self._automatic_title(),
            automatic_title=not title,
            tags=[tag for _, tag in sorted(tags)],
            metadata=document(self._family("metadata"), "metadata"),
            state=document(self._family("state"), "state"),
            **fields,
        )

    def _automatic_title(self) -> str:
        contents = (shown.content for _, shown in self.messages() if shown.role == "user")
        return next((automatic_title(content) for content in contents if plain_text(content).strip()), "")

    def messages(self) -> Iterator[tuple[MessageRow, Message]]:
        """The messages that were shown then, in the order of now, each with its row of now: read anew each time."""
        deleted, cleared = (in_force(self.register(None, path)) for path in ("deleted", "cleared"))
        births = self._births() if deleted or cleared else {}
        if _hidden(deleted, births):
            return
        vectors = [vector for vector in (deleted, cleared) if vector]
        for row in self._born():
            if row.hidden & HIDDEN_FOR_EVER or any(vector.has(births[row.no]) for vector in vectors):
                continue
            if row.edited and message_deleted(self.register(row, "deleted"), self.register(row, "content")) is not None:
                continue
            yield row, message(self._as_it_was(row))

    def deleted_at(self) -> str | None:
        """When the session was deleted, where it was then."""
        deleted = in_force(self.register(None, "deleted"))
        return format_ms(deleted.at_ms) if deleted and _hidden(deleted, self._births()) else None

    def _births(self) -> dict[int, list[Stamp]]:
        return {row.no: birth_stamps(self._store, row) for row in self._born()}

    def _born(self) -> Iterator[MessageRow]:
        rows = self._store.message_rows(self._session.no, hidden=True)
        return (row for row in rows if row.born_seq <= self.seq)

    def _as_it_was(self, row: MessageRow) -> MessageRow:
        changed = {path for number, path in self._states if number == row.no} if row.edited else set()
        if not changed:
            return row
        columns: dict[str, Any] = {}
        for path in changed & set(SCALARS):
            value = value_of(self.register(row, path).shown)
            if path == "content":
                columns["content"] = content_column(value)
            elif path == "timestamp":
                columns["time_text"] = value
            elif path == "usage":
                columns["usage"] = json_column(value)
            else:
                columns[path] = value
        if any(path.startswith("metadata/") for path in changed):
            columns["metadata"] = json_column(document(self._family("metadata", row.no), "metadata"))
        return msgspec.structs.replace(row, **columns)

    def _changed_since(self) -> dict[tuple[int, str], Register]:
        """The states then of every register that was changed since."""
        store, no, seq = self._store, self._session.no, self.seq
        states: dict[tuple[int, str], Register] = {}
        late = store.execute("SELECT message, path FROM registers WHERE session = ? AND seq > ?", (no, seq)).fetchall()
        for message_no, path in late:
            found = store.one(
                "SELECT state FROM revisions "
                "WHERE session = ?1 AND message = ?2 AND path = ?3 AND from_seq <= ?4 AND until_seq > ?4",
                (no, message_no, path, seq),
            )
            states[message_no, path] = from_wire(store, _decode_state(found[0])) if found else EMPTY
        return states

    def _family(self, name: str, message_no: int = 0) -> dict[str, Register]:
        rows = self._store.execute(
            "SELECT path, state FROM registers WHERE session = ? AND message = ? AND path >= ? AND path < ?",
            (self._session.no, message_no, f"{name}/", f"{name}0"),
        ).fetchall()
        found = {
            path: self._states[message_no, path]
            if (message_no, path) in self._states
            else from_wire(self._store, _decode_state(state))
            for path, state in rows
        }
        return {path: register for path, register in found.items() if register.open}


def _hidden(deleted: Vector | None, births: Mapping[int, list[Stamp]]) -> bool:
    outside = deleted is not None and any(
        any(stamp.rank == BY_HAND for stamp in stamps) and not deleted.has(stamps) for stamps in births.values()
    )
    return session_hidden(deleted, outside)


_PLAIN = ("title", "status", "provider", "model", "user_id")
_LOOK = "see `steno history`"


class AsItWas(NamedTuple):
    """What a session showed then: no messages while it was deleted."""

    header: SessionHeader
    messages: list[Message]


def entries(store: Store, session_id: str, *, message: str | None = None) -> Iterator[AuditEntry]:
    """What was written to a session, or to one of its messages, in the order in which it arrived here.

    Raises `SessionNotFound`, and `MessageNotFound` for a message that never was there.
    """
    found = audit(store, session_id)
    if message is None:
        return found
    session = store.find(session_id)
    if session is None:
        raise SessionNotFound(ref=session_id)
    store.message_row(session, message)
    return (each for each in found if each.message == message)


def seq_before(store: Store, session_id: str, *, at_ms: int) -> int:
    """The number of the feed before anything arrived in a session that was written later than a time.

    Nothing that was written later is in what the session showed then. Raises as `entries`, and `InvalidInput` where
    nothing was written yet.
    """
    seq = 0
    for each in entries(store, session_id):
        if parse_time(each.at) > at_ms:
            break
        seq = each.seq
    if not seq:
        raise InvalidInput(f"session {session_id} was not here yet at {format_ms(at_ms)}", hint=_LOOK)
    return seq


def as_it_was(store: Store, session_id: str, seq: int) -> AsItWas:
    """A session, deleted or not, as it was at a number of the feed. Needs one transaction.

    Raises `SessionNotFound`, and `InvalidInput` where the session was not here yet, and for a past that was purged.
    """
    row = store.find(session_id)
    if row is None:
        raise SessionNotFound(ref=session_id)
    [born_seq] = store.one("SELECT born_seq FROM sessions WHERE no = ?", (row.no,))
    if not born_seq <= seq <= store.last_seq:
        raise InvalidInput(f"session {session_id} has no change {seq}", hint=_LOOK)
    if seq < row.history_seq:
        raise InvalidInput(
            f"what session {session_id} was before change {row.history_seq} is purged", hint="name that or a later one"
        )
    past = Past(store, row, seq)
    messages = [shown for _, shown in past.messages()]
    times = [parse_time(each.at) for each in entries(store, session_id) if each.seq <= seq]
    header_then = msgspec.structs.replace(
        past.header(),
        message_count=len(messages),
        size_bytes=size_bytes(*(content_column(each.content) for each in messages)),
        updated_at=format_ms(max(times)),
        deleted_at=past.deleted_at(),
        incomplete=False,
    )
    return AsItWas(header_then, messages)
