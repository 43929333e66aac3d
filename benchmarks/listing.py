"""``steno list`` as a whole process, against a Python that imports what it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from generate import Prose
from measure import Bench, Figure, compared, seconds_of, side_by_side

from steno.storage.model import NewMessage
from steno.storage.store import Store

GOAL = 2.0


def figures(bench: Bench) -> list[Figure]:
    """The list that a person sees first, and that of everything."""
    home = bench.folder / "home"
    home.mkdir()
    fill(home / "steno.db", bench.scale.sessions, messages=1)
    steno = Path(sys.executable).with_name("steno")
    environment = {**os.environ, "STENO_HOME": str(home)}

    def ours(_: int) -> float:
        return seconds_of(lambda: _run([str(steno), "list"], environment))

    def yardstick(_: int) -> float:
        return seconds_of(lambda: _run([sys.executable, "-c", "import click, sqlite3"], environment))

    timed = side_by_side(ours, yardstick, rounds=bench.scale.starts)
    return [compared(f"steno list, {bench.scale.sessions:,} sessions", timed, goal=GOAL, unit="ms")]


def fill(database: Path, sessions: int, *, messages: int) -> None:
    """Make a store with so many sessions of so many messages."""
    prose = Prose(2)
    start_ms = 1_760_000_000_000
    with Store(database) as store:
        for first in range(0, sessions, 500):
            with store.transaction():
                for at in range(first, min(first + 500, sessions)):
                    created_ms = start_ms + at * 3_600_000 // 4
                    header = store.create(
                        title=prose.text(45).replace("\n", " "),
                        provider="anthropic",
                        tags=[prose.name()],
                        metadata={"project": prose.name()},
                        created_ms=created_ms,
                    )
                    store.add_messages(header.id, [NewMessage(role="user", content=prose.text(300))] * messages)


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
