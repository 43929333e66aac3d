"""A session as it was at a number of the feed: the base of a three-way merge.

Nothing is rebuilt by undoing: every state that a register had is kept with the span in which
it stood, and every message keeps the number at which it arrived (tests/unit/test_history.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .deletion import in_force, message_deleted, session_hidden
from .document import leaves
from .model import Message, SessionHeader, automatic_title, plain_text
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
)
from .stamps import BY_HAND
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
        births = {row.no: birth_stamps(self._store, row) for row in self._born()} if deleted or cleared else {}
        outside = deleted is not None and any(
            any(stamp.rank == BY_HAND for stamp in stamps) and not deleted.has(stamps) for stamps in births.values()
        )
        if session_hidden(deleted, outside):
            return
        vectors = [vector for vector in (deleted, cleared) if vector]
        for row in self._born():
            if row.hidden & HIDDEN_FOR_EVER or any(vector.has(births[row.no]) for vector in vectors):
                continue
            if row.edited and message_deleted(self.register(row, "deleted"), self.register(row, "content")) is not None:
                continue
            yield row, message(self._as_it_was(row))

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


_PLAIN = ("title", "status", "provider", "model", "user_id")
