"""When and where a register was written: hybrid logical clock, device and class.

A clock is one integer, ``milliseconds << 16 | counter``: 46 bits and 16 bits, so adding
one to a full counter carries into the milliseconds by itself. It never runs backwards
(tests/unit/test_stamps.py). Source: Kulkarni et al., "Logical Physical Clocks" (2014).
"""

from __future__ import annotations

from typing import NamedTuple

BY_HAND, DERIVED, REBUILT = 2, 1, 0
"""The classes: a person wrote it; a capture or an import did; a rebuild from files did."""

COUNTER_BITS = 16
MAX_CLOCK = 7_258_118_400_000 << COUNTER_BITS
"""The year 2200: a clock from there on is refused, whoever sends it."""

Writer = tuple[str, int]
"""(device, class): whose stamps one entry of a knowledge or a vector speaks of."""


class Stamp(NamedTuple):
    """A stamp. Compared as it is, it orders values: what was written by hand stands above what was derived."""

    rank: int
    clock: int
    device: str

    @property
    def writer(self) -> Writer:
        """Device and class, the key of this stamp in a knowledge or a vector."""
        return self.device, self.rank

    @property
    def instant(self) -> tuple[int, str]:
        """The stamp without its class: orders births."""
        return self.clock, self.device


def wall_clock(now_ms: int) -> int:
    """The clock that this machine's time asks for; 0 where that time is absurd and would be refused by all others."""
    clock = now_ms << COUNTER_BITS
    return clock if plausible(clock) else 0


def tick(clock: int, *, now_ms: int) -> int:
    """The clock of the next write: the wall's time, or one more than the clock where that is not behind."""
    return max(clock + 1, wall_clock(now_ms))


def clock_ms(clock: int) -> int:
    """The milliseconds of a clock. For ordering and diagnosis; times shown to people come from time fields."""
    return clock >> COUNTER_BITS


def plausible(clock: int) -> bool:
    """Say whether a clock that somebody sent may be merged."""
    return 0 < clock < MAX_CLOCK
