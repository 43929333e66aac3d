"""A pager for what is longer than the screen, on a terminal only.

What is printed is held until the verb is through with the store, since somebody who reads for an hour must not keep a
snapshot open that long; only what is too large for memory is sent on meanwhile. Leaving the pager early is no error,
and Ctrl-C is the pager's while it runs (tests/e2e/test_terminal.py).
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .terminal import columns, rows, width

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_HELD_BYTES = 32 << 20
_LESS = "FRX"
"""As git sets it: quit if it fits on a screen, show colours, leave the text on the screen."""


@contextmanager
def paged() -> Generator[None]:
    """Send what is printed within through ``$PAGER`` if it is longer than the screen."""
    command = _command()
    if command is None:
        yield
        return
    real = sys.stdout
    held = _Held(command)
    sys.stdout = io.TextIOWrapper(held, encoding=real.encoding, errors=real.errors, write_through=True)
    try:
        with suppress(BrokenPipeError):  # the reader has seen enough
            yield
    finally:
        text = held.getvalue()
        sys.stdout.detach()
        sys.stdout = real
        if held.pager is None and _is_long(text):
            held.start()
        if held.pager is None:
            real.buffer.write(text)
            real.flush()
        else:
            _finish(held.pager)


class _Held(io.BytesIO):
    """What is printed meanwhile: it says of itself what the terminal says."""

    def __init__(self, command: list[str]) -> None:
        super().__init__()
        self.pager: subprocess.Popen[bytes] | None = None
        self._command = command
        self._terminal = sys.stdout.fileno()

    def write(self, data: ReadableBuffer, /) -> int:
        """Hold it, or send it on once there is too much."""
        if self.pager is not None:
            assert self.pager.stdin is not None
            self.pager.stdin.write(data)
            return memoryview(data).nbytes
        size = super().write(data)
        if self.tell() > _HELD_BYTES:
            self.start()
        return size

    def start(self) -> None:
        """Start the pager with what is held; where it does not start, everything is printed as it stands."""
        try:
            self.pager = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, env={"LESS": _LESS, "LV": "-c", **os.environ}
            )
        except OSError:
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with suppress(BrokenPipeError):
            assert self.pager.stdin is not None
            self.pager.stdin.write(self.getvalue())

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True

    def fileno(self) -> int:
        """The terminal's own."""
        return self._terminal


def _command() -> list[str] | None:
    """What to page with; None where nobody reads, or does not want it."""
    if columns() is None or os.environ.get("TERM") == "dumb":
        return None
    wanted = os.environ.get("PAGER")
    if wanted is None:
        wanted = "less" if shutil.which("less") else "more"
    try:
        command = shlex.split(wanted)
    except ValueError:
        return None
    return command if command and command != ["cat"] and shutil.which(command[0]) else None


def _is_long(text: bytes) -> bool:
    room, most = columns() or 1, rows() - 1
    taken = 0
    for line in text.decode(errors="replace").splitlines():
        taken += max(-(-width(line) // room), 1)
        if taken > most:
            return True
    return False


def _finish(pager: subprocess.Popen[bytes]) -> None:
    with suppress(BrokenPipeError):
        assert pager.stdin is not None
        pager.stdin.close()
    pager.wait()
    signal.signal(signal.SIGINT, signal.default_int_handler)
