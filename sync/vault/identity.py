"""Whether this store still is the only one that writes under its device id, decided from a listing; pure.

    objects under our id that this store did not publish
        say nothing that is not here                           same: they are ours
        go on where this store stopped, nothing written since  behind: it catches up from its own log
        go on where this store wrote as well                   apart: it goes on under a new id

A number that two stores gave is never shared: where one of them can still be told from the other by a name, by a
number that is missing here, or by what an object holds, everything behind it is apart
(tests/unit/test_identity_decision.py, tests/simulation/test_identity.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal

import msgspec

from ...storage.change import Batch
from .names import SegmentName
from .ranges import Ranges


class Verdict(msgspec.Struct, frozen=True):
    """What strange objects mean; ``agreed`` is the last number up to which this log is the one that is listed."""

    kind: Literal["same", "behind", "apart"]
    agreed: int


def decide(
    strange: Collection[SegmentName],
    *,
    have: Ranges,
    given: Collection[int],
    differing: Collection[SegmentName] = (),
    is_written: bool,
) -> Verdict:
    """Decide what objects mean that are listed under our id and were not published here.

    ``have`` is what is applied of our own log, ``given`` the numbers under which this store published something itself,
    ``differing`` those of its segments that a strange one covers and does not hold, and ``is_written`` whether
    something is not published yet.
    """
    breaks = [name.first for name in differing]
    for name in strange:
        if name.level == 0 and name.first in given:
            breaks.append(name.first)
        breaks += [first for first, _ in have.missing(name.first, name.last)[:1]]
    if not breaks:
        return Verdict("same", have.last)
    agreed = min(breaks) - 1
    is_apart = is_written or any(number > agreed for number in given)
    return Verdict("apart" if is_apart else "behind", agreed)


def doubtful(
    strange: Iterable[SegmentName], ours: Collection[SegmentName]
) -> Iterator[tuple[SegmentName, list[SegmentName]]]:
    """Strange segments that stand for others, each with those of ours that it covers, in whole or in part, last first.

    Whoever wrote it may have known ours, which then are about to be deleted, or others of the same numbers.
    """
    for name in strange:
        covered = [each for each in ours if each.first <= name.last and name.first <= each.last]
        if name.level and covered:
            yield name, sorted(covered, key=lambda each: each.last, reverse=True)


def holds(whole: Batch, part: Batch) -> bool:
    """Say whether a segment holds all that another one says; what was written over since it does not hold."""
    return _said(part) <= _said(whole)


def _said(batch: Batch) -> set[tuple[object, ...]]:
    """Every birth and every value: where it stands, and its stamp."""
    found: set[tuple[object, ...]] = set()
    for change in batch.sessions:
        life = (change.id, change.life)
        found |= {(*life, *_stamp(batch, birth.clock, birth.author)) for birth in change.births}
        found |= {(*life, born.id, *_stamp(batch, born.clock, born.author)) for born in change.messages}
        for each in change.registers:
            found |= {
                (*life, each.message, each.path, *_stamp(batch, clock, author), text)
                for clock, author, text, _ in each.state[0]
            }
    return found


def _stamp(batch: Batch, clock: int, author: int) -> tuple[int, int, str]:
    return clock, author % 4, batch.devices.get(author // 4, "")
