"""A schedule that goes wrong, told as its seed and the shortest list of steps that was found to go wrong in that place.

(tests/simulation/vault_room.py, tests/simulation/test_files_machine.py)
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

Step = TypeVar("Step")


class Failure(NamedTuple, Generic[Step]):
    """What went wrong with the steps of a seed."""

    seed: int
    steps: list[Step]
    error: BaseException


def told(
    failure: Failure[Step],
    play: Callable[[list[Step]], BaseException | None],
    *,
    plainer: Callable[[list[Step]], Iterable[list[Step]]],
    size: Callable[[list[Step]], int],
    seconds: float,
) -> str:
    """The seed of a failure and the shortest and plainest steps that are found to fail in the same place.

    ``play`` says what goes wrong with steps; ``plainer`` makes some of them plainer, as ``size`` measures it.
    """
    place = _place(failure.error)
    deadline = time.monotonic() + seconds
    steps, found = failure.steps, True
    while found and time.monotonic() < deadline:
        found = False
        for less in (*_shorter(steps), *plainer(steps)):
            if time.monotonic() > deadline:
                break
            if len(less) <= len(steps) and size(less) < size(steps):
                error = play(less)
                if error is not None and _place(error) == place:
                    steps, found = less, True
    listed = "".join(f"\n    {step!r}," for step in steps)
    return f"seed {failure.seed}: {play(steps)!r} after\n[{listed}\n]"


def _shorter(steps: list[Step]) -> Iterator[list[Step]]:
    size = len(steps) + 1
    while size := size // 2:
        for start in range(len(steps) - size, -1, -size):
            yield steps[:start] + steps[start + size :]


def _place(error: BaseException) -> tuple[type[BaseException], int]:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_lineno if trace else 0


@contextlib.contextmanager
def folder_in_memory() -> Generator[Path]:
    """A directory in memory, where there is some: thousands of commits wait for the disk otherwise."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base, prefix="steno-simulation-") as folder:
        yield Path(folder)
