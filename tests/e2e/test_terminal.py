"""Steno as a person meets it, in a pseudo-terminal: completion, questions, the pager, progress, tables, colours."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from steno.storage.database import wall_ms
from steno.storage.model import NewMessage
from steno.storage.store import Store

_BIN = Path(sys.executable).parent
_ROWS, _COLUMNS = 24, 80
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")
_PROMPT = "ready> "
_TITLE = "What's up, with C++ & (the) token?"

Spawn = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Store(tmp_path / "steno.db", now_ms=lambda: wall_ms() - 3 * 3_600_000) as store:
        store.create(id="short1", title="Bug Investigation", tags=["golang"])
        store.add_messages("short1", [NewMessage(role="user", content="Why does the token expire early?")])
        store.create(id="long22", title="A " + "very " * 40 + "long title")
        store.add_messages("long22", [NewMessage(role="user", content=f"line number {at}") for at in range(200)])
        store.create(id="odd333", title=_TITLE)
    return tmp_path


@pytest.fixture
def spawn(home: Path) -> Iterator[Spawn]:
    """Start a program in a terminal of 80 columns and 24 lines."""
    started: list[pexpect.spawn[str]] = []

    def start(program: str, *arguments: str, **environment: str) -> pexpect.spawn[str]:
        env = {
            "PATH": f"{_BIN}:{os.environ['PATH']}", "HOME": str(home), "STENO_HOME": str(home), "LANG": "C.UTF-8",
            "TERM": "xterm", "PAGER": "less", "PS1": _PROMPT, **environment,
        }  # fmt: skip
        made = pexpect.spawn(
            program, list(arguments), env=env, cwd=home, dimensions=(_ROWS, _COLUMNS), encoding="utf-8", timeout=30
        )
        started.append(made)
        return made

    yield start
    for each in started:
        each.close(force=True)


def ended(terminal: pexpect.spawn[str]) -> tuple[int | None, str]:
    """The exit code, and all that was shown."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, terminal.before or ""


# Completion


@pytest.fixture
def bash(spawn: Spawn) -> pexpect.spawn[str]:
    return _shell(spawn, "bash", "--norc", "--noprofile", "-i", said='eval "$(steno completion bash)"')


def _shell(spawn: Spawn, *command: str, said: str) -> pexpect.spawn[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    shell = spawn(*command)
    shell.expect_exact(_PROMPT)
    shell.sendline(f"{said}; echo taught''here")
    shell.expect_exact("taughthere")
    shell.expect_exact(_PROMPT)
    return shell


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("steno sho\t", "steno show "),
        ("steno show sho\t", "steno show short1 "),
        ("steno show Bug\t", "Bug\\ Investigation "),
        ('steno show "Bug\t', '"Bug Investigation" '),
        ("steno list --tag go\t", "--tag golang "),
        ("steno list --status ar\t", "--status archived "),
    ],
)
def test_bash_completes_verbs_ids_titles_and_tags(bash: pexpect.spawn[str], typed: str, completed: str):
    bash.send(typed)
    bash.expect_exact(completed)


def test_a_title_that_bash_completed_names_its_session(bash: pexpect.spawn[str]):
    bash.send("steno show Wha\t")
    bash.expect_exact("token\\? ")
    bash.send("--summary\n")
    bash.expect_exact(f"Session: {_TITLE}")
    bash.expect_exact("ID: odd333")


def test_zsh_completes_titles_that_name_their_session(spawn: Spawn):
    zsh = _shell(
        spawn,
        "zsh",
        "-f",
        "-i",
        said="PS1='ready> '; autoload -U compinit; compinit -u; eval \"$(steno completion zsh)\"",
    )
    zsh.send("steno show Wha\t")
    zsh.expect_exact("token")
    zsh.send("--summary\n")
    zsh.expect_exact("ID: odd333")


def test_fish_completes_titles_that_name_their_session(spawn: Spawn):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    shown = spawn("fish", "--no-config", "-c", "steno completion fish | source; complete -C 'steno show Wha'")
    code, text = ended(shown)
    assert (code, text.split("\t")[0].strip()) == (0, _TITLE)


# Questions


def test_a_deletion_is_asked_for_on_a_terminal_and_no_keeps_all(spawn: Spawn):
    asked = spawn("steno", "delete", "--tag", "golang")
    asked.expect_exact("(y/N): ")
    asked.sendline("n")
    code, _ = ended(asked)
    assert (code, "short1" in ended(spawn("steno", "list"))[1]) == (0, True)


def test_yes_deletes(spawn: Spawn):
    asked = spawn("steno", "delete", "--tag", "golang")
    asked.expect_exact("(y/N): ")
    asked.sendline("y")
    assert ended(asked)[0] == 0
    assert "short1" not in ended(spawn("steno", "list"))[1]


def test_ctrl_c_at_a_question_changes_nothing(spawn: Spawn):
    asked = spawn("steno", "delete", "--tag", "golang")
    asked.expect_exact("(y/N): ")
    asked.sendintr()
    code, text = ended(asked)
    assert (code, "Traceback" in text) == (130, False)
    assert "short1" in ended(spawn("steno", "list"))[1]


# The pager


needs_less = pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")


@needs_less
def test_a_long_session_goes_through_the_pager(spawn: Spawn):
    shown = spawn("steno", "show", "long22")
    shown.expect_exact("line number 3")
    shown.expect_exact("\n:\x1b[K")
    assert "line number 150" not in (shown.before or "")
    shown.send("G")
    shown.expect_exact("line number 199")
    shown.send("q")
    assert ended(shown)[0] == 0


@needs_less
def test_leaving_the_pager_early_is_no_error(spawn: Spawn):
    shown = spawn("steno", "show", "long22", "--json")
    shown.expect_exact("\n:\x1b[K")
    shown.send("q")
    code, text = ended(shown)
    assert (code, "rror" in text, "Broken" in text) == (0, False, False)


@needs_less
def test_ctrl_c_is_the_pager_s(spawn: Spawn):
    shown = spawn("steno", "show", "long22")
    shown.expect_exact("\n:\x1b[K")
    shown.sendintr()
    shown.send("G")
    shown.expect_exact("line number 199")
    shown.send("q")
    code, text = ended(shown)
    assert (code, "Traceback" in text, "Interrupted" in text) == (0, False, False)


def test_the_pager_is_the_one_that_was_chosen_and_holds_no_snapshot(spawn: Spawn, home: Path):
    program = home / "pager"
    program.write_text("#!/bin/sh\necho paged by $1\nread wait </dev/tty\ncat >/dev/null\n", encoding="utf-8")
    program.chmod(0o700)
    shown = spawn("steno", "show", "long22", PAGER=f"{program} me")
    shown.expect_exact("paged by me")
    with Store(home / "steno.db") as store:
        store.append("long22", NewMessage(role="user", content="meanwhile"))
        [busy, *_] = store.one("PRAGMA wal_checkpoint(TRUNCATE)")
    shown.sendline()
    assert (ended(shown)[0], busy) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["show", "short1"], {}),
        (["show", "long22"], {"PAGER": "cat"}),
        (["show", "long22"], {"PAGER": ""}),
        (["show", "long22"], {"PAGER": "no-such-program"}),
        (["show", "long22"], {"TERM": "dumb"}),
        (["list"], {}),
    ],
)
def test_what_fits_or_is_not_to_be_paged_is_printed(spawn: Spawn, arguments: list[str], environment: dict[str, str]):
    code, text = ended(spawn("steno", *arguments, **environment))
    assert (code, "\x1b" in text) == (0, False)


def test_a_pipe_is_never_paged(spawn: Spawn):
    code, text = ended(spawn("sh", "-c", "steno show long22 | cat"))
    assert (code, "line number 199" in text, "\x1b" in text) == (0, True, False)


# Tables, times, colours


def test_a_table_fits_the_terminal_and_times_are_relative(spawn: Spawn):
    _, text = ended(spawn("steno", "list"))
    lines = _ESCAPES.sub("", text).splitlines()
    assert max(map(len, lines)) < _COLUMNS
    assert all("3 h ago" in line for line in lines[1:])


def test_in_a_pipe_titles_are_whole_and_times_exact(spawn: Spawn):
    _, text = ended(spawn("sh", "-c", "steno list | cat"))
    assert "long title" in text
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", text)) == 3


def test_what_was_found_is_bold_on_a_terminal(spawn: Spawn):
    assert "\x1b[1mtoken\x1b[0m" in ended(spawn("steno", "search", "expire", "token"))[1]


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nothing_is_bold_where_nobody_wants_it(spawn: Spawn, environment: dict[str, str]):
    code, text = ended(spawn("steno", "search", "expire", "token", **environment))
    assert (code, "\x1b" in text) == (0, False)


# Progress


def test_long_work_says_how_far_it_is_and_takes_the_line_away(spawn: Spawn, home: Path):
    line = json.dumps({"messages": [{"role": "user", "content": "word"}, {"role": "assistant", "content": "another"}]})
    (home / "many.jsonl").write_text(f"{line}\n" * 5_000, encoding="utf-8")
    working = spawn("steno", "import", "many.jsonl")
    working.expect(r"many\.jsonl \[#*\s*\]\s+\d+%, [\d,]+ sessions")
    code, text = ended(working)
    assert (code, "\r\x1b[K" in text) == (0, True)
