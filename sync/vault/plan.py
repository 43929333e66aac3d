"""What to fetch, decided from a listing and what is here; pure.

The listing is the manifest. Every object of level 0 is read, also a second one of the same
number (two homes may have written as one device); of the compacted ones only the cheapest
cover of what is still missing. Absence is never deletion: what once was applied and is no
longer listed is named, not obeyed (tests/unit/test_vault_plan.py). A listing may say anything: names
that did not open cover nothing, and more than a vault can hold are passed over
(tests/contract/test_hostile_remote.py).
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import msgspec

from .names import ID_LENGTH, LOG, SegmentName
from .ranges import Cursor, Range, Ranges

MOST_NAMES = 20_000
"""How many segments of a device that was heard of before are looked at in a listing, and how many of all others."""

MOST_MISSES = 64
FEW = 8
"""A device with more segments than this has a history."""

_MOST_COMPACTED = 1000
_DEVICE = slice(len(LOG), len(LOG) + ID_LENGTH)


class Healed(msgspec.Struct, frozen=True):
    """Publications of devices that others, of ``publisher``, stand for: they are there as long as those are.

    ``unread`` are those that were not here yet when this was met.
    """

    publisher: str
    first: int
    last: int
    stands_for: dict[str, list[Range]]
    unread: dict[str, list[Range]] = {}


class PullPlan(msgspec.Struct, frozen=True):
    """``fetch`` in the order to apply; ``holes`` per device; ``strange``: under our id and not ours; ``lost``: gone.

    ``passed_over`` counts the names that are listed and were not looked at, ``foreign`` are names of no segment.
    ``strangers`` are the devices of which nothing was ever applied.
    """

    fetch: list[SegmentName]
    holes: dict[str, list[Range]]
    strange: list[SegmentName]
    lost: list[SegmentName]
    passed_over: int = 0
    strangers: frozenset[str] = frozenset()
    foreign: list[str] = []


def without_histories(plan: PullPlan, *, but: Collection[str]) -> tuple[PullPlan, list[SegmentName]]:
    """A plan without the logs of devices that are new here and have a history, and what it leaves out.

    A whole log or nothing of it, so that no hole comes of it; ``but`` are devices of which nothing is left out. What a
    device wrote that has only just begun is news.
    """
    found = [name for name in plan.fetch if name.device in plan.strangers and name.device not in but]
    count = Counter(name.device for name in found)
    old = {name.device for name in found if name.level or count[name.device] > FEW}
    left_out = [name for name in found if name.device in old]
    return msgspec.structs.replace(plan, fetch=[each for each in plan.fetch if each.device not in old]), left_out


class Fetching:
    """What is left to fetch in one pull.

    Where `MOST_MISSES` objects of a device did not open, or of all strangers together, the rest is for the next pull,
    which goes on behind them.
    """

    def __init__(self, plan: PullPlan) -> None:
        self._plan = plan
        self._misses: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How much there is to fetch at most."""
        return len(self._plan.fetch)

    def __iter__(self) -> Iterator[SegmentName]:
        """What may be fetched now."""
        return (name for name in self._plan.fetch if self._misses[self._who(name)] < MOST_MISSES)

    def missed(self, name: SegmentName) -> None:
        """Count an object that is not there or does not open."""
        self._misses[self._who(name)] += 1

    def _who(self, name: SegmentName) -> str:
        return "" if name.device in self._plan.strangers else name.device


def plan_pull(
    listing: Iterable[str],
    *,
    device: str,
    cursor: Cursor,
    applied: Collection[str],
    pending: Collection[str] = (),
    aside: Collection[str] = (),
    healed: Iterable[Healed] = (),
) -> PullPlan:
    """Decide a pull.

    ``applied`` are the names that this store has applied or published itself, ``pending`` those that it is about to:
    they may be there without having been acknowledged. ``aside`` did not open when they were tried: they are tried
    again, behind all others. Of devices that were heard of before everything is fetched first.
    """
    listed, foreign, passed_over = _looked_at(listing, known={device, *cursor.devices})
    strange = [
        name for name in listed if name.device == device and name.path not in applied and name.path not in pending
    ]
    others: dict[str, list[SegmentName]] = {}
    for name in listed:
        if name.device != device:
            others.setdefault(name.device, []).append(name)
    fetch: list[SegmentName] = []
    holes: dict[str, list[Range]] = {}
    # Also of one of which nothing is listed any more, and of ourselves: a home that was put back catches up.
    for other in sorted({*others, *cursor.devices}):
        found = wanted(others.get(other, []), cursor.of(other), applied, aside)
        fetch += found
        reached = Ranges.of(*cursor.of(other).spans, *((name.first, name.last) for name in found))
        if reached.holes:
            holes[other] = reached.holes
    fetch.sort(key=lambda name: (name.path in aside, name.device not in cursor.devices, name.first, name.path))
    lost = [] if passed_over else _lost(listed, {*applied}.difference(pending), healed)
    strangers = frozenset(others.keys() - cursor.devices.keys())
    return PullPlan(fetch, holes, strange, lost, passed_over, strangers, foreign)


def _looked_at(listing: Iterable[str], *, known: Collection[str]) -> tuple[list[SegmentName], list[str], int]:
    """The segments of a listing, each once and sorted, the names of none, and how many names were passed over.

    Each device that was heard of has room of its own, so that nobody can crowd it out; all others share one.
    """
    found: dict[str, list[SegmentName]] = {}
    foreign: list[str] = []
    passed_over = 0
    for name in dict.fromkeys(listing):
        device = name[_DEVICE]
        room = found.setdefault(device if device in known else "", [])
        if len(room) < MOST_NAMES:
            segment = SegmentName.parse(name)
            room += [] if segment is None else [segment]
            foreign += [name] if segment is None else []
        else:
            passed_over += 1
    return sorted(itertools.chain.from_iterable(found.values())), foreign, passed_over


def wanted(
    names: list[SegmentName], have: Ranges, applied: Collection[str], aside: Collection[str]
) -> list[SegmentName]:
    """What to fetch of one device's segments: every one of level 0, and what covers the rest that is missing."""
    found = [name for name in names if name.level == 0 and name.path not in applied]
    have = Ranges.of(*have.spans, *((name.first, name.last) for name in found if name.path not in aside))
    compacted = [name for name in names if name.level > 0]
    for cover in (
        [name for name in compacted if name.path not in aside],
        [name for name in compacted if name.path in aside],
    ):
        more = _cover(cover[:_MOST_COMPACTED], have)
        found += more
        have = Ranges.of(*have.spans, *((name.first, name.last) for name in more))
    return found


def _cover(compacted: list[SegmentName], have: Ranges) -> list[SegmentName]:
    """The cheapest cover of what is missing: always the one that brings most; of equal ones the lowest level."""
    chosen: list[SegmentName] = []
    ordered = sorted(compacted, key=lambda name: name.path, reverse=True)
    heap = [(-_gain(name, have), name.level, at, name) for at, name in enumerate(ordered)]
    heapq.heapify(heap)
    while heap:
        promised, level, at, name = heapq.heappop(heap)
        gain = _gain(name, have)
        if gain and gain != -promised:  # others brought some of it meanwhile
            heapq.heappush(heap, (-gain, level, at, name))
        elif gain:
            chosen.append(name)
            have = have.add(name.first, name.last)
    return chosen


def _gain(name: SegmentName, have: Ranges) -> int:
    return sum(last - first + 1 for first, last in have.missing(name.first, name.last))


def _lost(listed: list[SegmentName], applied: Collection[str], healed: Iterable[Healed]) -> list[SegmentName]:
    """What was applied once, is not listed, and is not covered by anything that is."""
    missing = set(applied).difference(name.path for name in listed)
    gone = [name for name in map(SegmentName.parse, missing) if name is not None]
    if not gone:
        return []
    covered = covered_by(listed, healed)
    return sorted(name for name in gone if not covered.get(name.device, Ranges()).covers(name.first, name.last))


def covered_by(listed: Iterable[SegmentName], healed: Iterable[Healed]) -> dict[str, Ranges]:
    """The publications of each device for which something is listed.

    What stands for others is itself listed: who stands for it in its turn must name what it stood for.
    """
    there: dict[str, Ranges] = {}
    for name in listed:
        there[name.device] = there.get(name.device, Ranges()).add(name.first, name.last)
    covered = dict(there)
    for each in healed:
        if there.get(each.publisher, Ranges()).covers(each.first, each.last):
            for device, ranges in each.stands_for.items():
                covered[device] = covered.get(device, Ranges()) | Ranges.of(*ranges)
    return covered
