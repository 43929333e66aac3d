"""How a figure is measured: ours and its yardstick in turns, so that a busy machine slows both alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. ``value`` is what the goal speaks of: mostly ours by the yardstick."""

    what: str
    ours: str
    yardstick: str
    value: float
    goal: float
    at_least: bool = False
    unit: str = "x"
    spread: str = ""

    @property
    def met(self) -> bool:
        """Say whether the goal holds."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal


class LeftOut(msgspec.Struct, frozen=True):
    """A row that was not measured, and why: its yardstick is not on this machine."""

    what: str
    why: str


class Noted(msgspec.Struct, frozen=True):
    """A row that is worth knowing, and has no goal."""

    what: str
    found: str


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured; the full scale is what the goals speak of."""

    session_sizes: tuple[int, ...] = (10, 100_000)
    appends: int = 400
    rounds: int = 21
    sessions: int = 10_000
    starts: int = 25
    corpus_bytes: int = 24_000_000
    import_rounds: int = 5
    exported: int = 10_000
    messages: int = 200_000
    mirror_rounds: int = 3
    loaded: int = 10_000
    forked: int = 1_000
    large_bytes: int = 1_000_000_000
    arrivals: int = 150
    distant_arrivals: int = 50
    pause_s: float = 1.5
    idle_s: float = 60.0
    settle_s: float = 600.0
    edited: int = 300
    saves: int = 240
    breath_s: float = 0.2
    mirrored: int = 10_000
    mirrored_messages: int = 40
    first_rounds: int = 5
    unchanged: int = 100_000
    start_rounds: int = 15
    long: int = 100_000
    paced_s: float = 60.0
    burst: int = 1000
    kept: int = 25_000
    sent: int = 5_000
    singles: int = 5
    conversations: int = 100_000
    sought: int = 1_000_000
    pairs: int = 200


QUICK = Scale(
    session_sizes=(10, 200), appends=5, rounds=2, sessions=20, starts=1, corpus_bytes=60_000, import_rounds=1,
    exported=20, messages=60, mirror_rounds=1, loaded=50, forked=20, large_bytes=500_000, arrivals=3,
    distant_arrivals=1,
    pause_s=0.05, idle_s=1.0, settle_s=60.0, edited=3, saves=4, breath_s=0.05, mirrored=5, mirrored_messages=4,
    first_rounds=1, unchanged=20, start_rounds=1, long=200, paced_s=0.5, burst=20, kept=5, sent=5, singles=1,
    conversations=20, sought=200, pairs=3,
)  # fmt: skip


class Bench(msgspec.Struct, frozen=True):
    """What every measurement is given: its scale, and a directory of its own on the disk that is measured."""

    scale: Scale
    folder: Path
    say: Callable[[str], None]


class Timed(msgspec.Struct, frozen=True):
    """Seconds of ours and of the yardstick, round by round."""

    ours: list[float]
    yardstick: list[float]

    @property
    def typical(self) -> tuple[float, float]:
        """The round of the median ratio: ours and the yardstick as they were measured side by side."""
        at = self._ratios.index(statistics.median_low(self._ratios))
        return self.ours[at], self.yardstick[at]

    @property
    def spread(self) -> str:
        """The least and the greatest ratio."""
        return f"{min(self._ratios):.2f}-{max(self._ratios):.2f}"

    @property
    def _ratios(self) -> list[float]:
        return [ours / yardstick for ours, yardstick in zip(self.ours, self.yardstick, strict=True)]


def side_by_side(ours: Callable[[int], float], yardstick: Callable[[int], float], *, rounds: int) -> Timed:
    """Run both by turns, the first of each for warmth; each gets its round's number and gives the seconds it took."""
    ours(0)
    yardstick(0)
    timed = Timed([], [])
    for at in range(1, rounds + 1):
        for run, seconds in ((ours, timed.ours), (yardstick, timed.yardstick)):
            gc.collect()
            seconds.append(run(at))
    return timed


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def percentile(values: Sequence[float], part: float) -> float:
    """The value that ``part`` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(round(part * len(ordered), 6)) - 1)]


def compared(what: str, timed: Timed, *, goal: float, unit: str, per: float = 1) -> Figure:
    """The figure of a time by a time; ``unit`` is us, ms or s."""
    factor = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit] / per
    ours, yardstick = (seconds * factor for seconds in timed.typical)
    return Figure(
        what=what,
        ours=f"{ours:.3g} {unit}" if ours < 1000 else f"{ours:.0f} {unit}",
        yardstick=f"{yardstick:.3g} {unit}" if yardstick < 1000 else f"{yardstick:.0f} {unit}",
        value=ours / yardstick,
        goal=goal,
        spread=timed.spread,
    )
