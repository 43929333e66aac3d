"""What is in a store: sessions and messages by id, by title, in order, page by page.

Nothing here writes; a reader may have the database open read-only (tests/unit/test_store.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .database import Database
from .deletion import in_force
from .errors import AmbiguousRef, MessageNotFound, MessagePurged, SessionNotFound
from .model import Message, SessionHeader
from .rows import (
    HIDDEN_FOR_EVER,
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    SHOWN_COLUMNS,
    TOMBSTONE,
    MessageRow,
    SessionRow,
    encode_json,
    header,
    message,
    shown,
)
from .state import birth_stamps, deleted_ms, find_message, load


class Reader(Database):
    """The sessions and messages of one SQLite file."""

    def find(self, session_id: str) -> SessionRow | None:
        """The row of a session by its exact id, deleted or not; None also for one that was purged."""
        row = self.row(session_id)
        return None if row is None or row.hidden == TOMBSTONE else row

    def row(self, session_id: str) -> SessionRow | None:
        """The row of an id, be it of a session or of the tombstone that a purge left."""
        row = self.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?", (session_id,))  # noqa: S608
        return SessionRow(*row) if row else None

    def lives_over(self, session_id: str) -> int:
        """How many lives of an id were purged."""
        row = self.one("SELECT purged FROM sessions WHERE id = ?", (session_id,))
        return row[0] if row else 0

    def resolve(self, ref: str) -> str:
        """The id that a reference means: an id, its unique prefix, an exact title, or ``-``/``@last``.

        Raises `SessionNotFound` and `AmbiguousRef`. A deleted session answers to its whole id only.
        """
        if ref in ("-", "@last"):
            row = self.one("SELECT id FROM sessions WHERE hidden = 0 ORDER BY updated_ms DESC, no DESC LIMIT 1")
            if row is None:
                raise SessionNotFound(ref=ref)
            return row[0]
        if self.one("SELECT 1 FROM sessions WHERE id = ? AND hidden < 2", (ref,)):
            return ref
        for where, parameters in (
            ("id >= ? AND id < ? AND hidden = 0", (ref, ref + "\U0010ffff")),
            ("title = ? AND hidden = 0", (ref,)),
        ):
            sql = f"SELECT id FROM sessions WHERE {where} ORDER BY id LIMIT 6"  # noqa: S608
            found = [row[0] for row in self.execute(sql, parameters)] if ref else []
            if len(found) > 1:
                raise AmbiguousRef(ref=ref, candidates=found)
            if found:
                return found[0]
        raise SessionNotFound(ref=ref)

    def get(self, session_id: str, *, deleted: bool = False) -> SessionHeader:
        """A session by its exact id; raises `SessionNotFound`, also for a deleted one unless asked for."""
        row = self.find(session_id)
        if row is None or (row.hidden and not deleted):
            raise SessionNotFound(ref=session_id)
        return header(row)

    def sessions(
        self,
        *,
        limit: int | None = None,
        after: tuple[Any, str] | None = None,
        where: Sequence[tuple[str, Sequence[Any]]] = (),
        order: str = "updated_ms",
        descending: bool = True,
        deleted: bool = False,
    ) -> Iterator[SessionHeader]:
        """Sessions, the last written to first. ``after`` continues behind (order value, id) of the last one seen."""
        clauses = [("hidden = ?", (int(deleted),)), *where]
        if after is not None:
            sign = "<" if descending else ">"
            clauses.append((f"({order}, id) {sign} (?, ?)", after))
        condition = " AND ".join(f"({text})" for text, _ in clauses)
        parameters = [value for _, values in clauses for value in values]
        way = "DESC" if descending else "ASC"
        sql = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE {condition} ORDER BY {order} {way}, id {way}"  # noqa: S608
        if limit is not None:
            sql += f" LIMIT {int(limit)}"
        for row in self.execute(sql, parameters):
            yield header(SessionRow(*row))

    def count(self) -> tuple[int, int]:
        """How many sessions and messages are shown."""
        row = self.one("SELECT count(*), ifnull(sum(message_count), 0) FROM sessions WHERE hidden = 0")
        return row[0], row[1]

    def message_rows(self, session: int, *, hidden: bool = False) -> Iterator[MessageRow]:
        """The rows of a session's messages in order."""
        condition = "" if hidden else " AND hidden = 0"
        sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ?{condition} ORDER BY ord"  # noqa: S608
        for row in self.execute(sql, (session,)):
            yield MessageRow(*row)

    def messages(self, session_id: str, *, skip: int = 0, limit: int | None = None) -> Iterator[Message]:
        """The messages of a session in order, from the ``skip``-th on; raises `SessionNotFound`."""
        row = self.live(session_id)
        columns = SHOWN_COLUMNS
        sql = f"SELECT {columns} FROM messages WHERE session = ? AND hidden = 0 ORDER BY ord LIMIT ? OFFSET ?"  # noqa: S608
        yield from shown(self.execute(sql, (row.no, -1 if limit is None else limit, skip)))

    def newest_messages(self, session_id: str, limit: int) -> list[Message]:
        """The newest messages of a session, oldest first; raises `SessionNotFound`."""
        row = self.live(session_id)
        sql = f"SELECT {SHOWN_COLUMNS} FROM messages WHERE session = ? AND hidden = 0 ORDER BY ord DESC LIMIT ?"  # noqa: S608
        return list(shown(self.execute(sql, (row.no, limit))))[::-1]

    def get_message(self, session_id: str, message_id: str) -> Message:
        """One message, deleted or not; raises `SessionNotFound` and `MessageNotFound`."""
        session = self.live(session_id)
        row = self.message_row(session, message_id)
        return message(row, deleted_ms=self._deleted_ms(session, row) if row.hidden else None)

    def known_messages(self, session_id: str, message_ids: Sequence[str]) -> dict[str, Message | None]:
        """Those of some message ids that a session has already, with their messages; None for deleted ones."""
        rows = self.execute(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = (SELECT no FROM sessions WHERE id = ?) "  # noqa: S608
            "AND id IN (SELECT value FROM json_each(?))",
            (session_id, encode_json(message_ids).decode()),
        )
        found = (MessageRow(*row) for row in rows)
        return {row.id: None if row.hidden else message(row) for row in found}

    def live(self, session_id: str) -> SessionRow:
        """The row of a session that is not deleted; raises `SessionNotFound`."""
        row = self.find(session_id)
        if row is None or row.hidden:
            raise SessionNotFound(ref=session_id)
        return row

    def message_row(self, session: SessionRow, message_id: str) -> MessageRow:
        """The row of a message, deleted or not; raises `MessageNotFound` and `MessagePurged`."""
        row = find_message(self, session.no, message_id)
        if row is None:
            raise MessageNotFound(session=session.id, message=message_id)
        if row.hidden & HIDDEN_FOR_EVER:
            raise MessagePurged(session=session.id, message=message_id)
        return row

    def _deleted_ms(self, session: SessionRow, row: MessageRow) -> int | None:
        """When a hidden message was deleted, by itself or with its session."""
        vectors = [in_force(load(self, session.no, None, path)) for path in ("deleted", "cleared")]
        stamps = birth_stamps(self, row)
        times = [deleted_ms(self, row), *(each.at_ms for each in vectors if each and each.has(stamps))]
        return max((each for each in times if each is not None), default=None)
