"""How far the daemon leaves the remote alone: not asked at all (`steno pause-sync`), or sparingly (`steno metered`)."""

from __future__ import annotations

from ...storage.database import Database

FOREVER = 253_402_300_799_999
"""The last millisecond that can be shown: of the year 9999."""


class Restraint:
    """A wish that stands until a time."""

    def __init__(self, key: str) -> None:
        self._key = key

    def begin(self, database: Database, *, until_ms: int = FOREVER) -> None:
        """Let it stand until a time; said again the last word counts."""
        with database.transaction():
            database.set_meta(self._key, str(until_ms))

    def end(self, database: Database) -> None:
        """Let it stand no more; where it does not, nothing is done."""
        with database.transaction():
            database.execute("DELETE FROM meta WHERE key = ?", (self._key,))

    def until(self, database: Database, *, now_ms: int) -> int | None:
        """Until when it stands, `FOREVER` for no end; None where it does not."""
        until_ms = int(database.meta(self._key) or 0)
        return until_ms if until_ms > now_ms else None


PAUSED = Restraint("sync-paused-until")
METERED = Restraint("sync-metered-until")
