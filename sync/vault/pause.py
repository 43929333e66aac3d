"""Whether the daemon leaves the remote alone for a while (`steno pause-sync`)."""

from __future__ import annotations

from ...storage.database import Database

_KEY = "sync-paused-until"
FOREVER = 253_402_300_799_999
"""The last millisecond that can be shown: of the year 9999."""


def pause(database: Database, *, until_ms: int = FOREVER) -> None:
    """Leave the remote alone until a time; said again the last word counts."""
    with database.transaction():
        database.set_meta(_KEY, str(until_ms))


def resume(database: Database) -> None:
    """Go on at once; where nothing is paused it does nothing."""
    with database.transaction():
        database.execute("DELETE FROM meta WHERE key = ?", (_KEY,))


def paused_until(database: Database, *, now_ms: int) -> int | None:
    """Until when the remote is left alone, `FOREVER` for no end; None where it is not."""
    until_ms = int(database.meta(_KEY) or 0)
    return until_ms if until_ms > now_ms else None
