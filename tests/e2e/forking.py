"""Commands as processes that are forked from one which has everything imported: a daemon starts in a tenth of the time.

Such a process has arguments, environment, directory, streams, signals and an end of its own, as one that a shell
starts. Only what comes before `main` is not in it: tests of how commands and daemons come up start theirs anew
(test_forking.py).

    the test ──(a request and its descriptors)──> the server ──fork──> a keeper ──fork──> the command
        ^─────────────(the process id, then how it ended)─────────────────┘
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# What a command imports at its start or on its way.
PACKAGES = ("storage", "sync.files", "sync.vault", "cli", "daemon")
APART = ("library", "chat_model")


class Forked:
    """A process that was forked, as `subprocess.Popen` is one."""

    def __init__(self, said: int, arguments: Sequence[str]) -> None:
        self._said = said
        self._arguments = list(arguments)
        self.returncode: int | None = None
        self.pid = int(self._line())

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and say how; raises `subprocess.TimeoutExpired`."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, within_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._said], [], [], within_s)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self._line()))
            os.close(self._said)
        return self.returncode

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self._said, 1)
            assert more, "whoever keeps the process is gone"
            line += more
        return line


class Forker:
    """The process that commands are forked from."""

    def __init__(self, *, imports: Sequence[str] = (), path: Path | None = None) -> None:
        """``imports`` are modules that its commands find imported as well, ``path`` is searched for more of them."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "steno.tests.e2e.forking", str(theirs.fileno()), *imports],
                env={**os.environ, **({"PYTHONPATH": str(path)} if path else {})},
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def close(self) -> None:
        """End it; what was forked goes on."""
        self._channel.close()
        self._server.wait()

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdin: str, *, cwd: Path
    ) -> tuple[int, str, str]:
        """Run a command to its end: its exit code, output and talk."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            code = self.start(arguments, environment, (given.fileno(), out.fileno(), err.fileno()), cwd=cwd).wait()
            for each in (out, err):
                each.seek(0)
            return code, out.read().decode(), err.read().decode()

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[int], *, cwd: Path
    ) -> Forked:
        """Start a command; ``streams`` are descriptors for its input, output and talk."""
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps([arguments, dict(environment), str(cwd)]).encode())
            request.flush()
            hears, says = os.pipe()
            try:
                socket.send_fds(self._channel, [b"\n"], [request.fileno(), says, *streams])
            finally:
                os.close(says)
        return Forked(hears, arguments)


# The server


def serve(channel: socket.socket) -> list[str]:
    """Fork for each request; returns in the process that is to be the command, with its arguments."""
    own = [f"steno.{name}" for package in PACKAGES for name in _modules_of(package)]
    for name in [*own, *sys.argv[2:]]:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a keeper ended
    while True:
        asked, descriptors, _, _ = socket.recv_fds(channel, 1, 5)
        if not asked:
            sys.exit()
        if os.fork() == 0:
            channel.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` has ignored by all that it starts
            return _kept(*descriptors)
        for each in descriptors:
            os.close(each)


def _modules_of(package: str) -> list[str]:
    """The modules of a package, but for those that need what not everybody has, or bring what few commands use."""
    found = importlib.import_module(f"steno.{package}")
    return [f"{package}.{each.name}" for each in pkgutil.iter_modules(found.__path__) if each.name not in APART]


def _kept(request: int, says: int, *streams: int) -> list[str]:
    pid = os.fork()
    if pid:
        for each in (request, *streams):
            os.close(each)
        os.write(says, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(says, b"%d\n" % status)
        os._exit(0)
    os.close(says)
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    with open(request, "rb") as file:
        file.seek(0)
        arguments, environment, cwd = json.load(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(importlib.import_module("steno.storage.steps"))  # all else looks when it is asked
    return arguments


def main() -> None:
    """Serve on the descriptor that was given, and be the command in what is forked."""
    arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = ["steno", *arguments]
    try:
        code = importlib.import_module("steno.cli.main").main()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    # As the forks of multiprocessing end: whatever is to be done at the end is done, but nothing is taken apart.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
