"""The order of messages: the same list on every device, whatever arrived when.

A message hangs on the one it was written behind. The order is the pre-order walk of that
tree; under one anchor first the insertions, younger first, then the appends, older first:

    a ─┬─ x (inserted)          a, x, b, b1, c      concurrent runs b… and c…
       ├─ b ── b1               stay in one piece each
       └─ c

Proved by tests/unit/test_order.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    orphans = {place.id for place in by_id.values() if place.after is not None and place.after not in by_id}
    ordered = _pre_order(by_id.values(), orphans)
    if len(ordered) < len(by_id):
        orphans |= _closing(by_id, by_id.keys() - set(ordered))
        ordered = _pre_order(by_id.values(), orphans)
    return ordered, orphans


def _pre_order(places: Iterable[Place], orphans: set[str]) -> list[str]:
    below: dict[str | None, list[Place]] = {}
    ends: list[Place] = []
    for place in places:
        (ends if place.id in orphans else below.setdefault(place.after, [])).append(place)
    ordered: list[str] = []
    stack = _last_first(ends) + _last_first(below.get(None, []))
    while stack:
        place = stack.pop()
        ordered.append(place.id)
        if place.id in below:
            stack += _last_first(below[place.id])
    return ordered


def _closing(by_id: Mapping[str, Place], unreached: Iterable[str]) -> set[str]:
    """Those of the unreached by which a circle closes: their anchor was born after them.

    An anchor has an older birth that has not arrived: the message was pasted here behind what hangs on it.
    """
    anchors = ((message, by_id[message].after) for message in unreached)
    return {each for each, after in anchors if after is not None and by_id[after].instant >= by_id[each].instant}


def _last_first(siblings: list[Place]) -> list[Place]:
    inserted = sorted((place for place in siblings if place.inserted), key=_instant, reverse=True)
    appended = sorted((place for place in siblings if not place.inserted), key=_instant)
    return (inserted + appended)[::-1]


def _instant(place: Place) -> tuple[tuple[int, str], str]:
    return place.instant, place.id  # two stores that wrote as one device may have given a stamp twice
