"""Devices with the real engine over a remote that fails in every way a remote may, in any order: nothing is lost.

    pytest tests/simulation/test_vault_simulation.py                   2,000 schedules, in about a minute
    make simulate HOURS=8                                              new schedules as long as that; SEED=5000 begins there
    STENO_FIND=1 pytest tests/simulation/test_vault_simulation.py      which seed is the first to show each broken rule

Each schedule comes from a seed: what people write, who syncs when, what fails, who dies (`vault_schedule`). At the end
every device holds the same, everything that was acknowledged is there, and what `vault_check` names. A failure is
printed as its seed and the shortest list of steps that was found to show it; `replay` plays such a list.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from steno.tests.simulation.vault_schedule import Step, play, schedule, shortest, templates, wired
from steno.tests.simulation.vault_world import World

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "2000"))
FIRST = int(os.environ.get("STENO_SEED", "0"))
HOURS = float(os.environ.get("STENO_HOURS", "0"))
FIND = bool(os.environ.get("STENO_FIND"))
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
        self.templates = templates(folder)
        self._world: World | None = None

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    def fails(self, steps: list[Step]) -> BaseException | None:
        """Play steps in a new world; what went wrong."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        self._world = World(place, self.templates)
        try:
            play(self._world, steps)
        except Exception as exc:  # noqa: BLE001
            return exc
        finally:
            self._world.close()
            shutil.rmtree(place)
        return None

    def first_failure(self, seeds: Iterable[int]) -> Failure | None:
        """Play the schedules of seeds until one of them goes wrong."""
        for seed in seeds:
            drawn = schedule(seed)
            error = self.fails(drawn)
            if error is not None:
                return Failure(seed, drawn, error)
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
    """A directory in memory, where there is one: thousands of commits wait for the disk otherwise."""
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


@pytest.mark.fault(1, 2, 16, 33, 34)
@pytest.mark.parametrize("part", range(PARTS))
def test_devices_over_a_failing_remote_end_equal_and_lose_nothing(room: Room, part: int) -> None:
    failure = room.first_failure(range(FIRST + part, FIRST + SCHEDULES, PARTS))
    assert failure is None, room.told(failure)
