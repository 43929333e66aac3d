"""A terminal with a program in it, driven as a person drives it: keys are pressed, and what is shown is read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress

from steno.tests.e2e.device import until

_ESCAPES = re.compile(r"\x1b(?:\[[?>0-9;]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78MDEHc])|[\r\x0e\x0f]")
_ROWS, _COLUMNS = 50, 250


class Terminal:
    """A terminal with a program in it: what is typed, and what stands there."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], term: str = "dumb") -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command, env={**environment, "TERM": term}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=_take_the_terminal,  # noqa: PLW1509  only so does Ctrl-C reach it
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        """Press keys."""
        self.look()
        os.write(self._master, text.encode())

    def wait(self, text: str) -> str:
        """Wait until a text is shown; what was shown up to it."""
        try:
            until(lambda: text in self.look(), f"{text!r} on the terminal")
        except AssertionError as exc:
            exc.add_note(f"there stands {self.shown[-2000:]!r}")
            raise
        before, _, self.shown = self.shown.partition(text)
        return before

    def wait_for_one_of(self, *texts: str) -> str:
        """Wait until one of some texts is shown, and say which."""
        until(lambda: any(text in self.look() for text in texts), f"one of {texts} on the terminal")
        first = min((text for text in texts if text in self.shown), key=self.shown.index)
        self.wait(first)
        return first

    def end(self) -> int:
        """Wait for the end of the program."""
        until(lambda: (self.look(), self.process.poll() is not None)[1], "the end of the program")
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def look(self) -> str:
        """What was shown and not yet waited for."""
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self._master, 65536):
                self.shown += _ESCAPES.sub("", piece.decode(errors="replace"))
        return self.shown


def _take_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
