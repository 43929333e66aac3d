"""The order of messages: the same list on every device, whatever arrived when.

A message hangs on the one it was written behind. The order is the pre-order walk of that
tree; under one anchor first the insertions, younger first, then the appends, older first:

    a ─┬─ x (inserted)          a, x, b, b1, c      concurrent runs b… and c…
       ├─ b ── b1               stay in one piece each
       └─ c

Proved by tests/unit/test_order.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """Where a message was born. ``instant`` is its stamp without the class."""

    id: str
    after: str | None
    inserted: bool
    instant: tuple[int, str]


def walk(places: Iterable[Place]) -> tuple[list[str], set[str]]:
    """Every id in order, and the ids whose anchor has not arrived (they stand at the end)."""
    by_id = {place.id: place for place in places}
    below: dict[str | None, list[Place]] = {}
    orphans: list[Place] = []
    for place in by_id.values():
        anchor = place if place.after is None else by_id.get(place.after)
        # An anchor that is younger has an older birth that has not arrived; taken as it is, it could close a circle.
        if anchor is place or (anchor is not None and anchor.instant < place.instant):
            below.setdefault(place.after, []).append(place)
        else:
            orphans.append(place)
    ordered: list[str] = []
    stack = _last_first(orphans) + _last_first(below.get(None, []))
    while stack:
        place = stack.pop()
        ordered.append(place.id)
        if place.id in below:
            stack += _last_first(below[place.id])
    return ordered, {place.id for place in orphans}


def _last_first(siblings: list[Place]) -> list[Place]:
    inserted = sorted((place for place in siblings if place.inserted), key=_instant, reverse=True)
    appended = sorted((place for place in siblings if not place.inserted), key=_instant)
    return (inserted + appended)[::-1]


def _instant(place: Place) -> tuple[int, str]:
    return place.instant
