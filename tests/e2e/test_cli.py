"""The real command in real processes: pipes, terminals, signals, and several at once."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.storage.store import Store

STENO = [sys.executable, "-m", "steno.cli.main"]

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Store(tmp_path / "steno.db").close()
    return tmp_path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "STENO_HOME": str(home), "PYTHONUNBUFFERED": ""}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*STENO, *arguments], env=environment, input=stdin, capture_output=True, check=False)

    return run


def test_a_session_is_made_filled_found_changed_and_deleted(run: Run) -> None:
    session = json.loads(run("create", "--title", "Plan", "--json").stdout)["id"]
    run("add", session, stdin="Größe prüfen\n".encode())
    assert json.loads(run("search", "größe", "--json").stdout)["results"][0]["session"] == session
    run("tag", session, "go")
    run("meta", session, "project", "x")
    run("rename", session, "Other")
    (listed,) = json.loads(run("list", "--tag", "go", "--project", "x", "--json").stdout)
    assert (listed["title"], listed["message_count"]) == ("Other", 1)
    assert run("delete", "Other").returncode == 0
    assert json.loads(run("list", "--json").stdout) == []


def test_output_in_a_pipe_has_no_colour_and_no_cut_titles(run: Run, home: Path) -> None:
    with Store(home / "steno.db") as store:
        store.create(id="abc123", title="long " * 60)
    out = run("list").stdout.decode()
    assert "\x1b" not in out
    assert ("long " * 60).strip() in out


def test_a_line_fits_the_terminal_and_steers_it_nowhere(environment: dict[str, str], home: Path) -> None:
    with Store(home / "steno.db") as store:
        store.create(id="abc123", title="\x1b[2J\x9b2J" + "日本語" * 60)
    shown = _on_a_terminal(["list"], environment | {"COLUMNS": "60"})
    assert not {"\x1b", "\x9b"} & set(shown)
    assert len(shown.splitlines()[1]) < 60


@pytest.mark.check("AIN-44")
def test_a_match_is_bold_on_a_terminal(environment: dict[str, str], home: Path) -> None:
    with Store(home / "steno.db") as store:
        store.create(id="x", title="T")
        store.append("x", NewMessage(role="user", content="here is a needle"))
    assert "\x1b[1mneedle\x1b[0m" in _on_a_terminal(["search", "needle"], environment)


def test_a_reader_that_stops_reading_is_no_error(environment: dict[str, str], home: Path) -> None:
    with Store(home / "steno.db") as store, store.transaction():
        for _ in range(2000):
            store.create(title="t" * 100)
    with subprocess.Popen([*STENO, "list", "--all"], env=environment, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)


def test_an_interrupted_command_exits_130_in_one_line(environment: dict[str, str]) -> None:
    with subprocess.Popen([*STENO, "create", "--title", "T", "--json"], env=environment, stdout=-1) as process:
        assert process.stdout is not None
        session = json.loads(process.stdout.read())["id"]
    with subprocess.Popen([*STENO, "add", session, "-"], env=environment, stdin=-1, stderr=-1) as process:
        assert process.stderr is not None
        _until_it_reads(process)
        process.send_signal(signal.SIGINT)
        assert (process.wait(), process.stderr.read()) == (130, b"Interrupted.\n")


def test_a_full_disk_behind_standard_output_is_one_line(environment: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*STENO, "--help"], env=environment, stdout=full, stderr=-1, check=False)
    assert (done.returncode, done.stderr.count(b"\n"), done.stderr[:7]) == (1, 1, b"Error: ")


def test_several_processes_write_at_once_and_nothing_is_lost(environment: dict[str, str], home: Path) -> None:
    with Store(home / "steno.db") as store:
        store.create(id="x")
    writers = [
        subprocess.Popen([*STENO, "add", "x", f"message {number}"], env=environment, stdout=subprocess.DEVNULL)
        for number in range(6)
    ]
    assert [each.wait() for each in writers] == [0] * 6
    with Store(home / "steno.db") as store:
        assert sorted(str(each.content) for each in store.messages("x")) == [f"message {number}" for number in range(6)]


def test_a_terminal_that_does_not_know_a_character_shows_its_number(environment: dict[str, str], home: Path) -> None:
    with Store(home / "steno.db") as store:
        store.create(title="日本")
    done = subprocess.run(
        [*STENO, "list"], env=environment | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert (done.returncode, b"\\u65e5\\u672c" in done.stdout) == (0, True)


def test_a_database_that_may_not_be_written_can_still_be_looked_at_and_searched(run: Run, home: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    run("create", "--title", "Plan")
    (home / "steno.db").chmod(0o400)
    assert [run(*verb).returncode for verb in (("list",), ("search", "Plan"), ("create", "--id", "x"))] == [0, 0, 1]


def _on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """What a command writes to a terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen([*STENO, *arguments], env=environment, stdout=its, stderr=subprocess.DEVNULL) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not piece:
                break
            shown += piece
        process.wait()
    os.close(ours)
    return shown.decode()


def _until_it_reads(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has taken what is in its pipe, and so waits for more."""
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    import fcntl
    import termios

    while int.from_bytes(fcntl.ioctl(process.stdin, termios.FIONREAD, b"\0" * 4), sys.byteorder):
        os.sched_yield()
