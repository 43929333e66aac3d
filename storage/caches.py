"""What is cached of a session: made anew from births and registers, and compared with what stands there.

A session is copied into a database in memory and made anew there by the functions that every write
uses, so that looking writes nothing; `remake` on the store itself mends what differs, and touches
nothing that anybody wrote (tests/unit/test_doctor.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .database import Database
from .packing import read_sql, size_sql
from .rows import MESSAGE_COLUMNS, TOMBSTONE, MessageRow, session_births
from .sqlite import MEMORY
from .state import (
    DOCUMENTS,
    VECTORS,
    judge,
    link_forks,
    recount,
    refresh_message,
    refresh_session,
    renumber,
    session_row,
)

_FIELDS = ("title", "status", "provider", "model", "user_id", "tags", *DOCUMENTS, *VECTORS)
_OF_SESSION = (
    "title", "automatic", "status", "provider", "model", "user_id", "tags", "metadata", "state",
    "created_ms", "updated_ms", "message_count", "deleted_ms", "hidden", "vectors", "incomplete",
)  # fmt: skip
_OF_MESSAGE = ("ord", "hidden", "sender", "time_ms", "time_text", "parent", "model", "usage", "metadata")
# Of most messages no content is needed, and a session may be larger than memory.
_NEEDED = "iif(edited OR role = 'user', content, '')"
_OTHERS = ("registers", "waiting", "forks")


class Stale(NamedTuple):
    """Columns that do not say what they should: of a message, by its number and id, or of the session (0, None)."""

    no: int
    message: str | None
    columns: tuple[str, ...]


def remake(database: Database, no: int) -> None:
    """Make everything anew that is cached of a session; done twice it changes nothing. In a transaction."""
    row = session_row(database, no)
    if row.hidden == TOMBSTONE:
        return
    births = session_births(row.births)
    database.execute("UPDATE sessions SET created_ms = ? WHERE no = ?", (births[0].created_ms, no))
    link_forks(database, no, births)
    judge(database, no)
    renumber(database, no)
    written: dict[int, set[str]] = {}
    for message, path in database.execute("SELECT message, path FROM registers WHERE session = ?", (no,)).fetchall():
        written.setdefault(message, set()).add(path)
    sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ? AND edited"  # noqa: S608
    for columns in database.execute(sql, (no,)).fetchall():
        each = MessageRow(*columns)
        refresh_message(database, each, {"deleted", *written.get(each.no, ())})
    refresh_session(database, no, {*_FIELDS, *written.get(0, ())})
    recount(database, no)


class Comparison:
    """A place where sessions of a store are made anew, one at a time, and compared."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._made = Database(MEMORY)
        self._columns = {table: _columns(store, table) for table in ("sessions", "messages", *_OTHERS)}
        self._made.execute("DELETE FROM devices")
        self._made.executemany("INSERT INTO devices VALUES (?, ?)", store.devices.items())
        self._made.forget_devices()

    def close(self) -> None:
        """Give the place back."""
        self._made.close()

    def stale(self, no: int) -> list[Stale]:
        """What of a session's caches is not as it would be made anew."""
        self._made.execute("BEGIN")
        try:
            self._copy(no)
            remake(self._made, no)
            return [*self._of_session(no), *self._of_messages(no)]
        finally:
            self._made.execute("ROLLBACK")

    def _copy(self, no: int) -> None:
        for table, columns in self._columns.items():
            names = [_NEEDED if name == "content" else name for name in columns]
            key = "no" if table == "sessions" else "session"
            rows = self._store.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {key} = ?", (no,))  # noqa: S608
            slots = ", ".join("?" * len(columns))
            self._made.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({slots})", rows)  # noqa: S608

    def _of_session(self, no: int) -> Iterator[Stale]:
        sql = f"SELECT {', '.join(_OF_SESSION)} FROM sessions WHERE no = ?"  # noqa: S608
        wrong = _differing(_OF_SESSION, self._store.one(sql, (no,)), self._made.one(sql, (no,)))
        sized = f"SELECT ifnull(sum({size_sql('content')}), 0) FROM messages WHERE session = ? AND hidden = 0"  # noqa: S608
        if self._store.one(sized, (no,)) != self._store.one("SELECT size_bytes FROM sessions WHERE no = ?", (no,)):
            wrong.append("size_bytes")
        for name, sql in (
            ("forks", "SELECT ancestor, distance FROM forks WHERE session = ? ORDER BY distance"),
            ("conflict", "SELECT message, path FROM registers WHERE session = ? AND conflict ORDER BY 1, 2"),
        ):
            if self._store.execute(sql, (no,)).fetchall() != self._made.execute(sql, (no,)).fetchall():
                wrong.append(name)
        if wrong:
            yield Stale(0, None, tuple(wrong))

    def _of_messages(self, no: int) -> Iterator[Stale]:
        names = (*_OF_MESSAGE, "content")
        shown = f"iif(edited, {read_sql('content')}, NULL)"
        columns = ", ".join(_OF_MESSAGE)
        sql = f"SELECT no, id, {columns}, {shown} FROM messages WHERE session = ? ORDER BY no"  # noqa: S608
        there, made = (database.execute(sql, (no,)) for database in (self._store, self._made))
        for stands, anew in zip(there, made, strict=True):
            if stands != anew:
                yield Stale(stands[0], stands[1], tuple(_differing(names, stands[2:], anew[2:])))


def _differing(names: Sequence[str], stands: Sequence[Any], anew: Sequence[Any]) -> list[str]:
    return [name for name, here, there in zip(names, stands, anew, strict=True) if here != there]


def _columns(store: Database, table: str) -> list[str]:
    return [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
