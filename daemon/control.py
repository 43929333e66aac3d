"""Starting and stopping the daemon of a home from another process.

Whether one runs is asked of its lock, never guessed from a file (tests/e2e/test_daemon.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

from ..storage.errors import DaemonNotRunning, HomeBusy, LocalStorageError, StenoError
from ..storage.home import Home
from .client import DaemonClient
from .lock import holder_of

START_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02


def start(home: Home) -> DaemonClient:
    """Start a daemon in the background and wait until it answers; raises `HomeBusy` where one runs."""
    home.require()
    home.settings()  # what is wrong with them is said here, not in a log
    holder = holder_of(home.daemon_lock)
    if holder is not None:
        raise HomeBusy(home=str(home.data), holder=holder, task="the daemon")
    descriptor = os.open(home.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "steno.cli.main", "daemon", "run"],
            stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True,
            env={**os.environ, "STENO_HOME": str(home.data)} if os.environ.get("STENO_HOME") else None,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LocalStorageError(f"the daemon ended with code {process.returncode}", hint=f"see {home.log_file}")
        client = running(home)
        if client is not None:
            return client
        time.sleep(_LOOK_EVERY_S)
    process.terminate()
    raise LocalStorageError(f"the daemon did not answer within {START_WITHIN_S:.0f} s", hint=f"see {home.log_file}")


def stop(home: Home) -> int:
    """Stop the daemon of a home and wait until it has ended; raises `DaemonNotRunning`. Returns its process id."""
    holder = holder_of(home.daemon_lock)
    if not holder:
        raise DaemonNotRunning(home=str(home.data))
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN_S
    while holder_of(home.daemon_lock) == holder:
        if time.monotonic() > deadline:
            raise LocalStorageError(f"process {holder} does not stop", hint=f"see {home.log_file}")
        time.sleep(_LOOK_EVERY_S)
    return holder


def running(home: Home) -> DaemonClient | None:
    """The client of the daemon that answers for a home; None where none does."""
    if holder_of(home.daemon_lock) is None:
        return None
    try:
        client = DaemonClient(home)
        return client if client.health() else None
    except StenoError:
        return None
