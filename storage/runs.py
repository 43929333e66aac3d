"""Where the runs of several devices diverged in one session.

Two devices that add to a session without knowing of each other hang their messages on one anchor; each run
stays in one piece (storage/order.py), and between them stands what nobody wrote as one conversation:

    a ─┬─ b ── b1     by one device
       └─ c ── c1     by another: here they diverged

Insertions are no runs, nor is what a capture brought beside what was written by hand, since it may well have
known of it. Whoever writes behind a message that is deleted goes on with what is shown before it, not with the
run: where a run was deleted, or moved away, what follows is no part of it. Proved by tests/unit/test_runs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Link(NamedTuple):
    """One message of a session: what it hangs on, and the class and the devices (by number) that it was born under.

    ``place`` is its number in the order; ``cut``: its anchor was deleted when it was written.
    """

    id: str
    place: int
    after: str | None
    inserted: bool
    shown: bool
    cut: bool
    rank: int
    devices: frozenset[int]


class Divergence(msgspec.Struct, frozen=True):
    """A run that was written without knowledge of another one on the same anchor (None: the session's beginning).

    ``run`` is what it shows, ``against`` the first message that the other one shows, and ``shared`` the place before
    which stands what is before every run of that anchor.
    """

    anchor: str | None
    run: tuple[str, ...]
    against: str
    shared: int

    @property
    def at(self) -> str:
        """The message with which the run begins."""
        return self.run[0]


class _Run(NamedTuple):
    first: Link
    shown: tuple[str, ...]

    def diverges_from(self, earlier: _Run) -> bool:
        return self.first.rank == earlier.first.rank and not self.first.devices & earlier.first.devices


def diverged(links: Sequence[Link]) -> list[Divergence]:
    """The divergences of a session in the order of their places, from all its messages in order."""
    index = {link.id: at for at, link in enumerate(links)}
    # An anchor that has not arrived, or stands behind, carries nothing.
    above = [index.get(link.after, at) if link.after is not None else -1 for at, link in enumerate(links)]
    ends = _ends(above)
    siblings: dict[str | None, list[int]] = {}
    for at, link in enumerate(links):
        if above[at] < at and not link.inserted:
            siblings.setdefault(link.after, []).append(at)
    found: list[tuple[int, Divergence]] = []
    for anchor, starts in siblings.items():
        if len(starts) > 1:
            runs = [(start, _run(links, start, ends)) for start in starts]
            found += _among([(start, run) for start, run in runs if run.shown], anchor, shared=links[starts[0]].place)
    return [divergence for _, divergence in sorted(found, key=_start)]


def _among(runs: list[tuple[int, _Run]], anchor: str | None, *, shared: int) -> list[tuple[int, Divergence]]:
    found: list[tuple[int, Divergence]] = []
    for at, (start, run) in enumerate(runs):
        against = next((earlier for _, earlier in runs[:at] if run.diverges_from(earlier)), None)
        if against is not None:
            found.append((start, Divergence(anchor, run.shown, against.shown[0], shared)))
    return found


def _run(links: Sequence[Link], start: int, ends: list[int]) -> _Run:
    shown: list[str] = []
    at = start
    while at <= ends[start]:
        if links[at].cut and at != start:
            at = ends[at]
        elif links[at].shown:
            shown.append(links[at].id)
        at += 1
    return _Run(links[start], tuple(shown))


def _ends(above: list[int]) -> list[int]:
    """For each message where that ends which hangs on it; in pre-order that stands in one piece behind it."""
    ends = list(range(len(above)))
    for at in range(len(above) - 1, -1, -1):
        if 0 <= above[at] < at:
            ends[above[at]] = max(ends[above[at]], ends[at])
    return ends


def _start(found: tuple[int, Divergence]) -> int:
    return found[0]
