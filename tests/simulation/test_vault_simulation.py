"""Devices with the real engine over a remote that fails in every way a remote may, in any order: nothing is lost.

    pytest tests/simulation/test_vault_simulation.py                2,000 schedules; STENO_SCHEDULES says how many
    make simulate HOURS=8                                           new schedules for as long as that (`vault_room`)
    STENO_FIND=1 pytest tests/simulation/test_vault_simulation.py   which seed is the first to show each broken rule

Each schedule comes from a seed: what people write and save into files by hand, who syncs when, what fails, who dies, is
copied or shut out (`vault_schedule`, `vault_hands`). At the end every device holds the same, its files say so, what was
acknowledged is there, and whatever else `vault_check` names. A failure is printed as its seed and the shortest list of
steps that was found to show it; `replay` plays such a list. That what goes wrong is noticed is shown by rules that are
broken on purpose (`vault_mutants`), each from the first seed that shows it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import pytest

from steno.tests.simulation.vault_mutants import MUTANTS, Mutant
from steno.tests.simulation.vault_room import Room, opened
from steno.tests.simulation.vault_schedule import Step, schedule

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "2000"))
FIRST = int(os.environ.get("STENO_SEED", "0"))
FIND = bool(os.environ.get("STENO_FIND"))
PARTS = 10
SCHEDULES_TO_NOTICE = 2000 if FIND else 50


@pytest.fixture
def room() -> Iterator[Room]:
    with opened() as room:
        yield room


def replay(room: Room, steps: list[Step]) -> None:
    """Play a list of steps as a failure prints them."""
    error = room.fails(steps)
    if error is not None:
        raise error


@pytest.mark.parametrize("part", range(PARTS))
def test_devices_over_a_failing_remote_end_equal_and_lose_nothing(room: Room, part: int) -> None:
    began, seeds = time.monotonic(), range(FIRST + part, FIRST + SCHEDULES, PARTS)
    failure = room.first_failure(seeds)
    assert failure is None, room.told(failure)
    print(f"{len(seeds) * 60 / (time.monotonic() - began):.0f} schedules a minute")  # noqa: T201


def test_a_seed_gives_one_schedule_and_one_end(room: Room) -> None:
    assert schedule(FIRST) == schedule(FIRST)
    ends: list[dict[str, bytes]] = []
    for _ in range(2):
        assert room.fails(schedule(FIRST)) is None
        ends.append(room.world.objects.whole)
    assert ends[0] == ends[1]


@pytest.mark.timeout(0 if FIND else 120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=[each.name for each in MUTANTS])
def test_a_broken_rule_is_noticed(room: Room, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    mutant.breaks(monkeypatch)
    seeds = itertools.islice(itertools.count(0 if FIND else mutant.seed), SCHEDULES_TO_NOTICE)
    noticed = room.first_failure(seeds, says=mutant.says)
    assert noticed is not None, f"nobody notices that {mutant.name}"
    assert not FIND or noticed.seed == mutant.seed, f"{mutant.name}: seed {noticed.seed}, {noticed.error}"
