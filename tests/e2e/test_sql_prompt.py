"""The prompt of `steno sql`, driven through a terminal as a person drives it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from steno.tests.e2e.device import Device, until

_READY, _GOING_ON = "steno> ", "  ...> "
_ENDLESS = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;"
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]|\r")


class Terminal:
    """A terminal with a program in it: what is typed, and what stands there."""

    def __init__(self, device: Device, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "steno.cli.main", "sql", *arguments],
            env=device.environment(TERM="dumb"), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=_take_the_terminal,  # noqa: PLW1509  only so does Ctrl-C reach it
        )  # fmt: skip
        os.close(slave)
        self._shown = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def wait(self, text: str) -> str:
        """Wait until a text is shown; what was shown up to it."""
        until(lambda: text in self._look(), f"{text!r} on the terminal, where stands {self._shown!r}")
        before, _, self._shown = self._shown.partition(text)
        return before

    def enter(self, line: str, then: str = _READY) -> str:
        """Type a line and wait for the next prompt; what was shown in between."""
        self.type(line + "\n")
        self.wait(line.rpartition("\n")[2])
        return self.wait(then).strip()

    def end(self) -> int:
        """Wait for the end of the program."""
        until(lambda: (self._look(), self.process.poll() is not None)[1], "the end of the program")
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _look(self) -> str:
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self._master, 65536):
                self._shown += _ESCAPES.sub("", piece.decode(errors="replace"))
        return self._shown


def _take_the_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def device(lonely: Device) -> Device:
    lonely.steno("create", "--title", "Team Discussion", "--id", "s1")
    return lonely


@pytest.fixture
def terminal(device: Device) -> Iterator[Terminal]:
    opened = Terminal(device, "--write")
    opened.wait(_READY)
    yield opened
    opened.close()


def test_statements_are_answered_over_several_lines(terminal: Terminal):
    assert terminal.enter("SELECT id, name", then=_GOING_ON) == ""
    assert terminal.enter("FROM sessions;").split() == ["id", "name", "s1", "Team", "Discussion"]


def test_an_error_is_one_line_and_the_prompt_goes_on(terminal: Terminal):
    assert terminal.enter("SELECT missing;") == "Error: no such column: missing"
    assert terminal.enter("SELECT 1 AS one;").split() == ["one", "1"]


def test_functions_write_and_what_they_wrote_is_seen(terminal: Terminal):
    terminal.enter("SELECT add_message_to_session('s1', 'user1', 'Hello team!');")
    assert terminal.enter("SELECT get_conversation_text('s1') AS text;").split("\n")[1] == "user1: Hello team!"


def test_ctrl_c_drops_what_was_typed(terminal: Terminal):
    terminal.enter("SELECT 'never", then=_GOING_ON)
    terminal.type("\x03")
    terminal.wait(_READY)
    assert terminal.enter("SELECT 1 AS one;").split() == ["one", "1"]


def test_ctrl_c_ends_a_long_statement(terminal: Terminal):
    terminal.type(_ENDLESS + "\n")
    terminal.wait("FROM n;")
    until(lambda: _has_run(terminal.process.pid), "the statement to run")
    terminal.type("\x03")
    terminal.wait(_READY)
    assert terminal.enter("SELECT 1 AS one;").split() == ["one", "1"]


def test_ctrl_d_ends(terminal: Terminal):
    terminal.type("\x04")
    assert terminal.end() == 0


@pytest.mark.parametrize("word", [".quit", ".exit"])
def test_a_word_ends(terminal: Terminal, word: str):
    terminal.type(f"{word}\n")
    assert terminal.end() == 0


def test_the_views_and_functions_are_named(terminal: Terminal):
    shown = terminal.enter(".schema")
    assert all(f"{view}(" in shown for view in ("sessions", "messages", "session_messages", "memories", "memory_edges"))
    assert "memory_edges(source_id, target_id, relation)" in terminal.enter(".schema memory_edges")
    assert "create_session(title [, metadata])" in terminal.enter(".help")
    assert terminal.enter(".what").startswith("Error: ")


def test_what_was_typed_comes_back_and_is_for_its_owner_only(device: Device, terminal: Terminal):
    terminal.enter("SELECT 'remembered' AS word;")
    terminal.type(".quit\n")
    terminal.end()
    history = device.home.sql_history
    assert (history.stat().st_mode & 0o777, "remembered" in history.read_text(encoding="utf-8")) == (0o600, True)
    again = Terminal(device)
    again.wait(_READY)
    again.type("\x1b[A\x1b[A")
    again.wait("SELECT 'remembered' AS word;")
    again.type("\n")
    again.wait("remembered\n")
    again.close()


def test_an_interrupted_command_leaves_nothing_half_done(device: Device):
    process = device.begin(
        "sql", "--write",
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT create_session('A ' || i) FROM n",
    )  # fmt: skip
    log = Path(f"{device.home.database}-wal")
    until(lambda: process.poll() is not None or (log.exists() and log.stat().st_size > 1_000_000), "it to write much")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert [each["id"] for each in device.json("list")] == ["s1"]


def _has_run(pid: int) -> bool:
    """Say whether a process has used more of a processor than its start takes."""
    used = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(used[11]) / os.sysconf("SC_CLK_TCK") > 1.5
