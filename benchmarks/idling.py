"""What a real daemon takes that has nothing to do."""

from __future__ import annotations

import time

from homes import Home, cpu_percent, memory_mb, until
from listing import fill
from measure import Bench, Figure

from steno.storage.database import Database

GOAL_CPU_PERCENT, GOAL_MB = 0.5, 100.0
IDLE_MESSAGES = 3
_SETTLED_WINDOW_S = 3.0
_SETTLED_PERCENT = 2.0


def figures(bench: Bench) -> list[Figure]:
    """Its time and its memory, once all is done that it found to do."""
    scale = bench.scale
    home = Home(bench.folder / "home")
    home.steno("init", "--remote", str(bench.folder / "remote"))
    fill(home.database, scale.sessions, messages=IDLE_MESSAGES)
    with home.daemon() as process:
        came_to_rest(bench, process, home, sessions=scale.sessions)
        busy = cpu_percent(process, scale.idle_s)
        resident, most = memory_mb(process)
    what = f"idle daemon, {scale.sessions:,} sessions"
    return [
        Figure(
            what=f"{what}, CPU", ours=f"{busy:.2f} % of a core", yardstick="-", value=busy, goal=GOAL_CPU_PERCENT,
            unit="%", spread=f"over {scale.idle_s:.0f} s",
        ),
        Figure(
            what=f"{what}, memory", ours=f"{resident:.0f} MB", yardstick="-", value=resident, goal=GOAL_MB,
            unit="MB", spread=f"at most {most:.0f} MB",
        ),
    ]  # fmt: skip


def came_to_rest(bench: Bench, process: int, home: Home, *, sessions: int) -> None:
    """Wait until a daemon has written files and index, has sent all, and does nothing any more."""
    scale, began = bench.scale, time.monotonic()
    until(lambda: _has_done_all(home, sessions), "files and index are written", within_s=scale.settle_s)
    while cpu_percent(process, min(_SETTLED_WINDOW_S, scale.idle_s)) > _SETTLED_PERCENT:
        assert time.monotonic() - began < scale.settle_s, "the daemon does not come to rest"
    bench.say(f"at rest after {time.monotonic() - began:.0f} s")


def _has_done_all(home: Home, sessions: int) -> bool:
    if len(list(home.sessions.rglob("*.jsonl"))) < sessions:
        time.sleep(1)  # looking through thousands of files is work too
        return False
    with Database(home.database, read_only=True) as database:
        return database.cursor("search") == database.last_seq and not database.one("SELECT 1 FROM outbox")
