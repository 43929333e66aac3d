"""Sets of numbers kept as ranges: what a device has of every other device's log.

Immutable, and one form for each set (sorted, disjoint, never adjacent), so that equal
sets are equal values. tests/unit/test_vault_ranges.py compares them with sets of integers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ...storage.errors import InvalidInput
from .names import MAX_NUMBER, is_id

Range = tuple[int, int]
"""First and last number, both included."""


class Ranges(msgspec.Struct, frozen=True):
    """A set of numbers from 1 on."""

    spans: tuple[Range, ...] = ()

    @classmethod
    def of(cls, *spans: Range) -> Ranges:
        """The set of all numbers in these ranges, which may overlap."""
        joined: list[Range] = []
        for first, last in sorted(spans):
            if not 1 <= first <= last:
                raise InvalidInput(f"not a range of numbers: {first}-{last}")
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(joined[-1][1], last))
            else:
                joined.append((first, last))
        return cls(tuple(joined))

    def add(self, first: int, last: int) -> Ranges:
        """The set with ``first`` to ``last`` in it."""
        if not 1 <= first <= last:
            raise InvalidInput(f"not a range of numbers: {first}-{last}")
        # The spans that overlap or touch first..last stand in one piece between these two.
        before = bisect_left(self.spans, first - 1, key=_last)
        behind = bisect_right(self.spans, last + 1, key=_first)
        if before < behind:
            first = min(first, self.spans[before][0])
            last = max(last, self.spans[behind - 1][1])
        return Ranges((*self.spans[:before], (first, last), *self.spans[behind:]))

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from ``first`` to ``last`` is in the set."""
        at = bisect_left(self.spans, last, key=_last)
        return at < len(self.spans) and self.spans[at][0] <= first

    def missing(self, first: int, last: int) -> list[Range]:
        """What of ``first`` to ``last`` is not in the set."""
        gaps: list[Range] = []
        at = first
        for start, end in self.spans[bisect_left(self.spans, first, key=_last) :]:
            if start > last:
                break
            if start > at:
                gaps.append((at, start - 1))
            at = end + 1
        if at <= last:
            gaps.append((at, last))
        return gaps

    @property
    def holes(self) -> list[Range]:
        """What is missing between 1 and the greatest number."""
        return self.missing(1, self.last)

    @property
    def last(self) -> int:
        """The greatest number; 0 for the empty set."""
        return self.spans[-1][1] if self.spans else 0

    @property
    def first_missing(self) -> int:
        """The least number, from 1 on, that is not in the set: one behind the contiguous part."""
        return self.spans[0][1] + 1 if self.spans and self.spans[0][0] == 1 else 1

    def __contains__(self, number: int) -> bool:
        """Whether the number is in the set."""
        return self.covers(number, number)

    def __or__(self, other: Ranges) -> Ranges:
        """Both sets in one."""
        return Ranges.of(*self.spans, *other.spans)

    def to_json(self) -> list[list[int]]:
        """The set as JSON can carry it: ``[[1,5],[7,9]]``."""
        return [list(span) for span in self.spans]

    @classmethod
    def from_json(cls, value: Any) -> Ranges:
        """The set back from `to_json`; raise `InvalidInput` for anything it does not write."""
        try:
            spans = msgspec.convert(value, tuple[Range, ...])
        except msgspec.ValidationError as exc:
            raise InvalidInput(f"not a list of ranges: {exc}") from exc
        behind = -1
        for first, last in spans:
            if not max(behind + 2, 1) <= first <= last <= MAX_NUMBER:
                raise InvalidInput("not a list of ranges: they overlap, touch, stand in disorder or lead too far")
            behind = last
        return cls(spans)


class Cursor(msgspec.Struct, frozen=True):
    """What has been applied of each device's log."""

    devices: dict[str, Ranges] = {}

    def of(self, device: str) -> Ranges:
        """What has been applied of this device's log."""
        return self.devices.get(device, Ranges())

    def add(self, device: str, first: int, last: int) -> Cursor:
        """The cursor after that device's ``first`` to ``last`` have been applied."""
        return Cursor({**self.devices, device: self.of(device).add(first, last)})

    def covers(self, device: str, first: int, last: int) -> bool:
        """Whether all of that device's ``first`` to ``last`` have been applied."""
        return self.of(device).covers(first, last)

    def __iter__(self) -> Iterator[tuple[str, Ranges]]:
        """Each device with its ranges, by device."""
        return iter(sorted(self.devices.items()))

    def to_json(self) -> dict[str, list[list[int]]]:
        """The cursor as JSON can carry it."""
        return {device: ranges.to_json() for device, ranges in self}

    @classmethod
    def from_json(cls, value: Any) -> Cursor:
        """The cursor back from `to_json`; raise `InvalidInput` for anything it does not write."""
        if not isinstance(value, dict) or not _are_ids(value):
            raise InvalidInput("not a cursor: it must map device ids to ranges")
        return cls({device: Ranges.from_json(ranges) for device, ranges in value.items()})


def _first(span: Range) -> int:
    return span[0]


def _last(span: Range) -> int:
    return span[1]


def _are_ids(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and is_id(value) for value in values)
