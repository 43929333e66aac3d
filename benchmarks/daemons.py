"""Real daemons: how soon one shows what the other's device wrote, and what one costs that has nothing to do.

The cost is read from ``/proc``, so it is measured on Linux only.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from generate import Prose
from listing import fill
from measure import Bench, Figure, percentile

from steno.storage.database import Database
from steno.storage.model import NewMessage
from steno.storage.store import Store

GOAL_P50_S, GOAL_P99_S = 0.3, 1.5
GOAL_CPU_PERCENT, GOAL_MB = 0.5, 100.0
IDLE_MESSAGES = 3
_LOOK_S = 0.005
_SETTLED_WINDOW_S = 3.0
_SETTLED_PERCENT = 2.0
_WITHIN_S = 60.0


class Home:
    """A home and its daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "steno.db"
        self._environment = {**os.environ, "STENO_HOME": str(folder), "STENO_PASSPHRASE": "a passphrase of benchmarks"}
        folder.mkdir()
        (folder / "config.toml").write_text("[daemon]\nport = 0\n", encoding="utf-8")

    def steno(self, *arguments: str) -> None:
        """Run a command to its end."""
        command = [sys.executable, "-m", "steno.cli.main", *arguments]
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def daemon(self) -> Generator[int]:
        """Run the daemon; its process id."""
        command = [sys.executable, "-m", "steno.cli.main", "daemon", "run"]
        with (self.folder / "bench.log").open("wb") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        try:
            until((self.folder / "daemon.json").exists, f"the daemon of {self.folder} listens")
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_WITHIN_S)


def latency(bench: Bench) -> list[Figure]:
    """From an append on A to the message standing in B's store."""
    near, far = Home(bench.folder / "a"), Home(bench.folder / "b")
    remote = str(bench.folder / "remote")
    near.steno("init", "--remote", remote)
    far.steno("join", remote)
    prose, draw = Prose(5), random.Random(5)
    seconds: list[float] = []
    with near.daemon(), far.daemon(), Store(near.database) as store:
        session = store.create(title="latency").id
        with Database(far.database, read_only=True) as other:
            for at in range(bench.scale.arrivals + 1):
                text = prose.text(700)
                began = time.perf_counter()
                message = store.append(session, NewMessage(role="user", content=text))
                until(lambda message=message: _arrived(other, message.id), "the message arrives")
                if at:  # the first one also brings the session, and finds both daemons starting
                    seconds.append(time.perf_counter() - began)
                time.sleep(draw.uniform(0, bench.scale.pause_s))
    spread = f"{min(seconds) * 1e3:.0f}-{max(seconds) * 1e3:.0f} ms"
    return [
        _within("append on A, readable on B, p50", statistics.median(seconds), GOAL_P50_S, spread),
        _within("append on A, readable on B, p99", percentile(seconds, 0.99), GOAL_P99_S, spread),
    ]


def idle(bench: Bench) -> list[Figure]:
    """What a daemon takes when nothing happens."""
    scale = bench.scale
    home = Home(bench.folder / "home")
    home.steno("init", "--remote", str(bench.folder / "remote"))
    fill(home.database, scale.sessions, messages=IDLE_MESSAGES)
    with home.daemon() as process:
        began = time.monotonic()
        until(lambda: _has_done_all(home, scale.sessions), "files and index are written", within_s=scale.settle_s)
        while _cpu_percent(process, min(_SETTLED_WINDOW_S, scale.idle_s)) > _SETTLED_PERCENT:
            assert time.monotonic() - began < scale.settle_s, "the daemon does not come to rest"
        bench.say(f"at rest after {time.monotonic() - began:.0f} s")
        busy = _cpu_percent(process, scale.idle_s)
        resident, most = _memory_mb(process)
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


def _within(what: str, seconds: float, goal: float, spread: str) -> Figure:
    return Figure(
        what=what, ours=f"{seconds * 1e3:.0f} ms", yardstick="-", value=seconds, goal=goal, unit="s", spread=spread
    )


def _arrived(database: Database, message: str) -> bool:
    return database.one("SELECT 1 FROM messages WHERE id = ?", (message,)) is not None


def _has_done_all(home: Home, sessions: int) -> bool:
    if len(list((home.folder / "sessions").rglob("*.jsonl"))) < sessions:
        time.sleep(1)  # looking through thousands of files is work too
        return False
    with Database(home.database, read_only=True) as database:
        return database.cursor("search") == database.last_seq and not database.one("SELECT 1 FROM outbox")


def until(true: Callable[[], bool], what: str, *, within_s: float = _WITHIN_S) -> None:
    """Wait until something is true; fail where that takes too long."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(_LOOK_S)


def _cpu_percent(process: int, seconds: float) -> float:
    """How much of one core a process takes in the next seconds, its threads included."""
    before, began = _cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu_s(process) - before) / (time.monotonic() - began)


def _cpu_s(process: int) -> float:
    # What follows the name, which may hold blanks: fields 14 and 15 of proc_pid_stat(5), of all threads together.
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(process: int) -> tuple[float, float]:
    """Resident now, and at most."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in status)
    now, most = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most
