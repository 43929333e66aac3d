"""Whatever goes wrong is one line on stderr and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from steno.cli import main as entry
from steno.cli.main import main, told
from steno.storage.errors import RemoteUnreachable, SessionNotFound, WrongKey
from steno.storage.sqlite import dbapi
from steno.storage.store import Store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STENO_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SessionNotFound(ref="x"), 3),
        (WrongKey(vault="v"), 7),
        (RemoteUnreachable(remote="r", reason="a\nb"), 6),
        (click.UsageError("no\nsuch thing"), 2),
        (click.Abort(), 1),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/etc/x"), 1),
        (dbapi.OperationalError("disk I/O error"), 1),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), 4),
        (RuntimeError("two\nlines"), 1),
    ],
)
def test_every_error_is_told_in_one_line_with_its_exit_code(error: BaseException, code: int) -> None:
    line, found = told(error)
    assert (found, line.count("\n")) == (code, 0)


@pytest.mark.parametrize(
    "arguments",
    ["list --bogus", "show", "rename x", "list --limit many", "nonsense", "--nonsense", "delete"],
)
def test_a_usage_error_is_one_line_that_names_the_help(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("Error: "), err.endswith(" --help`\n"), err.count("\n")) == ("", True, True, 1)


@pytest.mark.parametrize("arguments", ["list", "show x", "create --id x", "add x y", "search x", "conflicts"])
def test_a_home_without_a_store_says_how_to_make_one(
    arguments: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(arguments.split()) == 1
    assert "steno init" in capsys.readouterr().err
    assert list(home.iterdir()) == []


def test_a_damaged_database_is_one_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / "steno.db").write_bytes(b"no database" * 1000)
    assert main(["list"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_traceback_is_shown_only_when_it_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry.Verbs, "get_command", lambda *_: 1 / 0)
    assert (main(["list"]), "Traceback" in capsys.readouterr().err) == (1, False)
    monkeypatch.setenv("STENO_DEBUG", "1")
    assert (main(["list"]), "Traceback" in capsys.readouterr().err) == (1, True)


def test_an_argument_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    main(["init"])
    capsys.readouterr()
    assert main(["show", "\udcff"]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_a_verb_that_needs_another_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["daemon"]) == 2
    assert capsys.readouterr().err.startswith("Usage: steno daemon")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("verb", ["list", "--help", "export --all -o -"])
def test_a_stream_that_is_closed_is_no_reason_to_fail(home: Path, closed: str, verb: str) -> None:
    Store(home / "steno.db").close()
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m steno.cli.main {verb} {closed}', sys.executable],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "Error" in done.stderr) == (0, False)


def test_an_error_that_quotes_something_does_not_steer_the_terminal(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(home / "steno.db").close()
    main(["show", "z\x1b[2J\u202e"])
    assert "session not found: z\\x1b[2J\\u202e: see" in capsys.readouterr().err
