"""What was purged here, for whoever writes again what was published: it is left out there as well.

Answers the questions of `steno.sync.vault.compaction.Gone` (tests/unit/test_purged.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .database import Database
from .registers import Register
from .rows import HIDDEN_FOR_EVER
from .state import StateWire, from_wire

_decode_state = msgspec.msgpack.Decoder(StateWire).decode


class Purged:
    """The purges that a store knows of, its own and those of other devices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ended(self, session: str) -> int:
        """The greatest life of a session's id that was purged; 0 where none was."""
        found = self._database.one("SELECT purged FROM sessions WHERE id = ?", (session,))
        return found[0] if found else 0

    def erased(self, session: str, life: int, message: str) -> bool:
        """Say whether a message was purged."""
        sql = (
            "SELECT 1 FROM messages m JOIN sessions s ON s.no = m.session "
            "WHERE s.id = ? AND s.life = ? AND m.id = ? AND m.hidden >= ?"
        )
        return self._database.one(sql, (session, life, message, HIDDEN_FOR_EVER)) is not None

    def forgotten(self, session: str, life: int, message: str | None) -> Mapping[str, Register] | None:
        """The registers as they are now of a session, or a message of it, whose history was purged; None for others."""
        database = self._database
        sql = "SELECT no FROM sessions WHERE id = ? AND life = ? AND history_seq > 0"
        found = database.one(sql, (session, life))
        if found is None:
            return None
        no = 0
        if message is not None:
            row = database.one("SELECT no FROM messages WHERE session = ? AND id = ?", (found[0], message))
            if row is None:
                return None
            [no] = row
        states = database.execute("SELECT path, state FROM registers WHERE session = ? AND message = ?", (found[0], no))
        return {path: from_wire(database, _decode_state(state)) for path, state in states.fetchall()}


def purged_since(database: Database, seq: int) -> Iterator[str]:
    """The ids of sessions of which something was purged behind a number of the feed."""
    sql = """
        SELECT id FROM sessions WHERE history_seq > ?1
        UNION SELECT s.id FROM registers r JOIN sessions s ON s.no = r.session WHERE r.path = 'purged' AND r.seq > ?1
    """
    yield from (session for (session,) in database.execute(sql, (seq,)).fetchall())
