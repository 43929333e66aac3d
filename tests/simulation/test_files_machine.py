"""People, editors, programs, another device and crashes at one directory in any order: what was meant happens.

    pytest tests/simulation/test_files_machine.py                      20,000 steps, in about a minute
    STENO_STEPS=1000000 pytest tests/simulation/test_files_machine.py  a longer run; STENO_SEED=1000 begins there

A failure is printed as its seed and the shortest list of steps that was found to show it; `replay` plays such a list.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from steno.tests.simulation.files_desk import World, template, wired
from steno.tests.simulation.files_schedule import Step, play, schedule, shortest

STEPS = int(os.environ.get("STENO_STEPS", "20000"))
FIRST = int(os.environ.get("STENO_SEED", "0"))
PARTS = 4
SHRINKING_S = 45


class Failure(NamedTuple):
    """What went wrong with the steps of a seed."""

    seed: int
    steps: list[Step]
    error: BaseException


class Room:
    """Where schedules are played, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.templates = template(folder)
        self.world: World | None = None

    def fails(self, steps: list[Step]) -> BaseException | None:
        """Play steps in a new world; what went wrong."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        self.world = World(place, self.templates)
        try:
            play(self.world, steps)
        except Exception as exc:  # noqa: BLE001
            return exc
        finally:
            self.world.close()
            shutil.rmtree(place)
        return None

    def first_failure(self, seeds: Iterator[int], *, steps: int) -> Failure | None:
        """Play the schedules of seeds until so many steps are done, or one of them goes wrong."""
        done = 0
        for seed in seeds:
            drawn = schedule(seed)
            error = self.fails(drawn)
            if error is not None:
                return Failure(seed, drawn, error)
            done += len(drawn)
            if done >= steps:
                return None
        return None

    def told(self, failure: Failure, *, seconds: float = SHRINKING_S) -> str:
        """The seed of a failure and the shortest list of steps that fails in the same place."""
        place = _place(failure.error)

        def fails(steps: list[Step]) -> bool:
            error = self.fails(steps)
            return error is not None and _place(error) == place

        steps = shortest(failure.steps, fails, seconds=seconds)
        listed = "".join(f"\n    {step!r}," for step in steps)
        return f"seed {failure.seed}: {self.fails(steps)!r} after\n[{listed}\n]"


def _place(error: BaseException) -> tuple[type[BaseException], int]:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_lineno if trace else 0


@pytest.fixture
def room() -> Iterator[Room]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        room = Room(Path(folder))
        with wired(lambda: room.world):
            yield room


def replay(room: Room, steps: list[Step]) -> None:
    """Play a list of steps as a failure prints them."""
    error = room.fails(steps)
    if error is not None:
        raise error


@pytest.mark.timeout(120 if STEPS <= 20000 else 0)
@pytest.mark.parametrize("part", range(PARTS))
def test_what_was_meant_happens(room: Room, part: int) -> None:
    failure = room.first_failure(itertools.count(FIRST + part, PARTS), steps=STEPS // PARTS)
    assert failure is None, room.told(failure)
