"""Where schedules are played one after the other: `make simulate HOURS=8` goes on with new ones as long as that.

    make simulate HOURS=8 ARGS="--seed 5000"      begins with that one; every minute it prints how fast it is

It ends early with the first schedule that goes wrong, printed as its seed and the shortest list of steps that shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from steno.tests.simulation.failing import Failure, folder_in_memory, told
from steno.tests.simulation.vault_schedule import Step, plainer, play, schedule, size, templates, wired
from steno.tests.simulation.vault_world import World

SHRINKING_S = 45
LONG_SHRINKING_S = 300
EVERY_S = 60


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

    def first_failure(self, seeds: Iterable[int], *, says: str = "") -> Failure[Step] | None:
        """Play the schedules of seeds until one of them goes wrong, and ``says`` so."""
        for seed in seeds:
            drawn = schedule(seed)
            error = self.fails(drawn)
            if error is not None and says in str(error):
                return Failure(seed, drawn, error)
        return None

    def told(self, failure: Failure[Step], *, seconds: float = SHRINKING_S) -> str:
        """The seed of a failure and the shortest list of steps that fails in the same place."""
        return told(failure, self.fails, plainer=plainer, size=size, seconds=seconds)


@contextlib.contextmanager
def opened() -> Generator[Room]:
    """A room in memory, and the engine wired to it."""
    with folder_in_memory() as folder:
        room = Room(folder)
        with wired(lambda: room.world):
            yield room


def main() -> int:
    """Play new schedules for some hours."""
    parser = argparse.ArgumentParser(prog="make simulate", description="devices over a failing remote, from new seeds")
    parser.add_argument("--hours", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=int(time.time()) * 1000, help="the first one")
    given = parser.parse_args()
    began = said = time.monotonic()
    print(f"from seed {given.seed}", flush=True)  # noqa: T201
    with opened() as room:
        for count, seed in enumerate(itertools.count(given.seed)):
            now = time.monotonic()
            is_over = now - began > given.hours * 3600
            if count and (is_over or now - said > EVERY_S):
                said = now
                print(f"{count} schedules, {count * 60 / (now - began):.0f} a minute, up to {seed - 1}", flush=True)  # noqa: T201
            if is_over:
                return 0
            failure = room.first_failure([seed])
            if failure is not None:
                print(f"seed {seed} went wrong: {failure.error!r}; looking for a shorter schedule", flush=True)  # noqa: T201
                print(room.told(failure, seconds=LONG_SHRINKING_S))  # noqa: T201
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
