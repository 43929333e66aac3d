"""The prompt of `steno sql`, driven through a terminal as a person drives it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.tests.e2e.device import Device, until
from steno.tests.e2e.terminal import Terminal

_READY, _GOING_ON = "steno> ", "  ...> "
_ENDLESS = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;"


class Prompt(Terminal):
    """The prompt of a device in a terminal."""

    def __init__(self, device: Device, *arguments: str) -> None:
        command = [sys.executable, "-m", "steno.cli.main", "sql", *arguments]
        super().__init__(command, environment=device.environment())

    def enter(self, line: str, then: str = _READY) -> str:
        """Type a line and wait for the next prompt; what was shown in between."""
        self.type(line + "\n")
        self.wait(line.rpartition("\n")[2])
        return self.wait(then).strip()


@pytest.fixture
def device(lonely: Device) -> Device:
    lonely.steno("create", "--title", "Team Discussion", "--id", "s1")
    return lonely


@pytest.fixture
def terminal(device: Device) -> Iterator[Prompt]:
    opened = Prompt(device, "--write")
    opened.wait(_READY)
    yield opened
    opened.close()


def test_statements_are_answered_over_several_lines(terminal: Prompt):
    assert terminal.enter("SELECT id, name", then=_GOING_ON) == ""
    assert terminal.enter("FROM sessions;").split() == ["id", "name", "s1", "Team", "Discussion"]


def test_an_error_is_one_line_and_the_prompt_goes_on(terminal: Prompt):
    assert terminal.enter("SELECT missing;") == "Error: no such column: missing"
    assert terminal.enter("SELECT 1 AS one;").split() == ["one", "1"]


def test_functions_write_and_what_they_wrote_is_seen(terminal: Prompt):
    terminal.enter("SELECT add_message_to_session('s1', 'user1', 'Hello team!');")
    assert terminal.enter("SELECT get_conversation_text('s1') AS text;").split("\n")[1] == "user1: Hello team!"


def test_ctrl_c_drops_what_was_typed(terminal: Prompt):
    terminal.enter("SELECT 'never", then=_GOING_ON)
    terminal.type("\x03")
    terminal.wait(_READY)
    assert terminal.enter("SELECT 1 AS one;").split() == ["one", "1"]


def test_ctrl_c_ends_a_long_statement(terminal: Prompt):
    terminal.type(_ENDLESS + "\n")
    terminal.wait("FROM n;")
    until(lambda: _has_run(terminal.process.pid), "the statement to run")
    terminal.type("\x03")
    terminal.wait(_READY)
    assert terminal.enter("SELECT 1 AS one;").split() == ["one", "1"]


def test_ctrl_d_ends(terminal: Prompt):
    terminal.type("\x04")
    assert terminal.end() == 0


@pytest.mark.parametrize("word", [".quit", ".exit"])
def test_a_word_ends(terminal: Prompt, word: str):
    terminal.type(f"{word}\n")
    assert terminal.end() == 0


def test_the_views_and_functions_are_named(terminal: Prompt):
    shown = terminal.enter(".schema")
    assert all(f"{view}(" in shown for view in ("sessions", "messages", "session_messages", "memories", "memory_edges"))
    assert "memory_edges(source_id, target_id, relation)" in terminal.enter(".schema memory_edges")
    assert "create_session(title [, metadata])" in terminal.enter(".help")
    assert terminal.enter(".what").startswith("Error: ")


def test_what_was_typed_comes_back_and_is_for_its_owner_only(device: Device, terminal: Prompt):
    terminal.enter("SELECT 'remembered' AS word;")
    terminal.type(".quit\n")
    terminal.end()
    history = device.home.sql_history
    assert (history.stat().st_mode & 0o777, "remembered" in history.read_text(encoding="utf-8")) == (0o600, True)
    again = Prompt(device)
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
