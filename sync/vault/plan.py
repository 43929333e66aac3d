"""What to fetch, decided from a listing and what is here; pure.

The listing is the manifest. Every object of level 0 is read, also a second one of the same
number (two homes may have written as one device); of the compacted ones only the cheapest
cover of what is still missing. Absence is never deletion: what once was applied and is no
longer listed is named, not obeyed (tests/unit/test_vault_plan.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from .names import SegmentName
from .ranges import Cursor, Range, Ranges


class PullPlan(msgspec.Struct, frozen=True):
    """``fetch`` in the order to apply; ``holes`` per device; ``strange``: under our id and not ours; ``lost``: gone."""

    fetch: list[SegmentName]
    holes: dict[str, list[Range]]
    strange: list[SegmentName]
    lost: list[SegmentName]


def plan_pull(
    listing: Iterable[str], *, device: str, cursor: Cursor, applied: Collection[str], pending: Collection[str] = ()
) -> PullPlan:
    """Decide a pull.

    ``applied`` are the names that this store has applied or published itself, ``pending`` those that it is about to:
    they may be there without having been acknowledged.
    """
    listed = sorted(name for name in map(SegmentName.parse, listing) if name is not None)
    strange = [
        name for name in listed if name.device == device and name.path not in applied and name.path not in pending
    ]
    others: dict[str, list[SegmentName]] = {}
    for name in listed:
        if name.device != device:
            others.setdefault(name.device, []).append(name)
    fetch: list[SegmentName] = []
    holes: dict[str, list[Range]] = {}
    for other, names in others.items():
        wanted = _wanted(names, cursor.of(other), applied)
        fetch += wanted
        reached = Ranges.of(*cursor.of(other).spans, *((name.first, name.last) for name in wanted))
        if reached.holes:
            holes[other] = reached.holes
    return PullPlan(sorted(fetch, key=_in_order), holes, strange, _lost(listed, applied))


def _wanted(names: list[SegmentName], have: Ranges, applied: Collection[str]) -> list[SegmentName]:
    wanted = [name for name in names if name.level == 0 and name.path not in applied]
    have = Ranges.of(*have.spans, *((name.first, name.last) for name in wanted))
    compacted = [name for name in names if name.level > 0]
    while compacted:
        best = max(compacted, key=lambda name: (_gain(name, have), -name.level, name.path))
        if not _gain(best, have):
            break
        wanted.append(best)
        have = have.add(best.first, best.last)
        compacted.remove(best)
    return wanted


def _gain(name: SegmentName, have: Ranges) -> int:
    return sum(last - first + 1 for first, last in have.missing(name.first, name.last))


def _in_order(name: SegmentName) -> tuple[int, str]:
    return name.first, name.path


def _lost(listed: list[SegmentName], applied: Collection[str]) -> list[SegmentName]:
    """What was applied once, is not listed, and is not covered by anything that is."""
    present = {name.path for name in listed}
    covered: dict[str, Ranges] = {}
    for name in listed:
        covered[name.device] = covered.get(name.device, Ranges()).add(name.first, name.last)
    gone = [name for name in map(SegmentName.parse, applied) if name is not None and name.path not in present]
    return sorted(name for name in gone if not covered.get(name.device, Ranges()).covers(name.first, name.last))
