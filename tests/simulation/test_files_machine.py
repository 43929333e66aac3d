"""People, editors, programs, another device and crashes at one directory in any order: what was meant happens.

    pytest tests/simulation/test_files_machine.py                      20,000 steps, in about a minute
    STENO_STEPS=1000000 pytest tests/simulation/test_files_machine.py  a longer run; STENO_SEED=1000 begins there
    STENO_FIND=1 pytest tests/simulation/test_files_machine.py -k rule which seed is the first to show each broken rule

A failure is printed as its seed and the shortest list of steps that was found to show it; `replay` plays such a list.
That the machine notices what it should is shown by rules that are broken on purpose (`files_mutants`), each from the
seed that is the first to show it. After a change of what is drawn, STENO_FIND fails where that is another one by now,
and says which; until it is put into the table a broken rule is looked for in a few schedules more.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.tests.simulation.failing import Failure, folder_in_memory, told
from steno.tests.simulation.files_desk import World
from steno.tests.simulation.files_mutants import MUTANTS, Mutant
from steno.tests.simulation.files_schedule import Step, plainer, play, schedule, size
from steno.tests.simulation.files_wiring import template, wired

STEPS = int(os.environ.get("STENO_STEPS", "20000"))
FIRST = int(os.environ.get("STENO_SEED", "0"))
FIND = bool(os.environ.get("STENO_FIND"))
PARTS = 4
STEPS_TO_NOTICE = STEPS if FIND else 2000
SHRINKING_S = 45


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

    def first_failure(self, seeds: Iterator[int], *, steps: int, says: str = "") -> Failure[Step] | None:
        """Play the schedules of seeds until so many steps are done, or one of them goes wrong and ``says`` so."""
        done = 0
        for seed in seeds:
            drawn = schedule(seed)
            error = self.fails(drawn)
            if error is not None and says in str(error):
                return Failure(seed, drawn, error)
            done += len(drawn)
            if done >= steps:
                return None
        return None

    def told(self, failure: Failure[Step], *, seconds: float = SHRINKING_S) -> str:
        """The seed of a failure and the shortest list of steps that fails in the same place."""
        return told(failure, self.fails, plainer=plainer, size=size, seconds=seconds)


@pytest.fixture
def room() -> Iterator[Room]:
    with folder_in_memory() as folder:
        room = Room(folder)
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


@pytest.mark.parametrize("mutant", MUTANTS, ids=[each.name for each in MUTANTS])
def test_a_broken_rule_is_noticed(room: Room, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    mutant.breaks(monkeypatch)
    seeds = itertools.count(0 if FIND else mutant.seed)
    noticed = room.first_failure(seeds, steps=STEPS_TO_NOTICE, says=mutant.says)
    assert noticed is not None, f"nobody notices that {mutant.name}"
    assert not FIND or noticed.seed == mutant.seed, f"{mutant.name}: seed {noticed.seed}, {noticed.error}"
