"""Who wrote: a name kept beside a stamp, sent along with it, and taken from others as what they say.

A name says what the writer's program said of its user; nothing is decided by it. One that is known
already stays, whatever somebody else says of that stamp (tests/unit/test_actors.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .database import Database
from .errors import InvalidInput
from .model import check_actor
from .stamps import plausible

Signed = tuple[int, int, str]
"""(number of the device, clock, actor)."""


def actor_of(database: Database, device: int, clock: int) -> str | None:
    """Who gave the stamp of a device (by number) and clock; None where nobody said."""
    found = database.one("SELECT actor FROM actors WHERE device = ? AND clock = ?", (device, clock))
    return found[0] if found else None


def signed(database: Database, stamps: Iterable[tuple[int, int]]) -> list[Signed]:
    """Those of some stamps (clock, author) of which it is known who gave them."""
    if not database.one("SELECT 1 FROM actors LIMIT 1"):  # as in nearly all stores
        return []
    found: dict[tuple[int, int], str] = {}
    for clock, author in stamps:
        actor = actor_of(database, author // 4, clock)
        if actor is not None:
            found[author // 4, clock] = actor
    return [(device, clock, actor) for (device, clock), actor in found.items()]


def keep(database: Database, sent: Iterable[Signed], *, local_author: Callable[[int], int]) -> list[str]:
    """Keep what another device says of who wrote; return why some of it cannot be. In a transaction.

    ``local_author`` gives our number for the sender's author, or raises `InvalidInput`.
    """
    kept: list[Signed] = []
    refused: list[str] = []
    for device, clock, actor in sent:
        try:
            if not plausible(clock):
                raise InvalidInput(f"a stamp beyond the year 2200 is refused ({clock})")
            kept.append((local_author(device * 4) // 4, clock, check_actor(actor)))
        except InvalidInput as exc:
            refused.append(f"actor {actor[:80]!r}: {exc}")
    database.executemany("INSERT OR IGNORE INTO actors VALUES (?, ?, ?)", kept)
    return refused
