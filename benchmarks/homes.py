"""Homes of devices for what is measured between them; each command, sync and daemon is a process of its own.

What a process costs is read from ``/proc``, so it is measured on Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

WITHIN_S = 60.0
_LOOK_S = 0.005
_PROCESS = Path(__file__).with_name("home_process.py")


class Synced(msgspec.Struct, frozen=True):
    """What a process took that synced a home once."""

    took_s: float
    most_mb: float
    requests: dict[str, int]


class Home:
    """A home and its daemon."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.database = folder / "steno.db"
        self.sessions = folder / "sessions"
        own = {"STENO_HOME": str(folder), "STENO_PASSPHRASE": "a passphrase of benchmarks"}
        self._environment = {**os.environ, **own, **settings}
        folder.mkdir()
        (folder / "config.toml").write_text("[daemon]\nport = 0\n", encoding="utf-8")

    def steno(self, *arguments: str) -> None:
        """Run a command to its end."""
        command = [sys.executable, "-m", "steno.cli.main", *arguments]
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL)

    def synced(self, verb: str) -> Synced:
        """Push, pull or compact, with the engine alone."""
        command = [sys.executable, str(_PROCESS), verb]
        done = subprocess.run(command, env=self._environment, check=True, stdout=subprocess.PIPE)
        return msgspec.json.decode(done.stdout, type=Synced)

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
            process.wait(WITHIN_S)


def pair(folder: Path, remote: str, **settings: str) -> tuple[Home, Home]:
    """Two homes that share a new vault on a remote."""
    near, far = Home(folder / "a", **settings), Home(folder / "b", **settings)
    near.steno("init", "--remote", remote)
    far.steno("join", remote)
    return near, far


def until(true: Callable[[], bool], what: str, *, within_s: float = WITHIN_S) -> None:
    """Wait until something is true; fail where that takes too long."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(_LOOK_S)


def cpu_percent(process: int, seconds: float) -> float:
    """How much of one core a process takes in the next seconds, its threads included."""
    before, began = _cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu_s(process) - before) / (time.monotonic() - began)


def _cpu_s(process: int) -> float:
    # What follows the name, which may hold blanks: fields 14 and 15 of proc_pid_stat(5), of all threads together.
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process: int) -> tuple[float, float]:
    """Resident now, and at most."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in status)
    now, most = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most
