"""`steno` alone: how the home stands, and what to type next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from steno.cli.verbs import VERBS
from steno.daemon.lock import ProcessLock
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Done, Run, home, run, store

__all__ = ["home", "run", "store"]


def commands(done: Done) -> list[str]:
    """The verbs that are offered."""
    assert done.code == 0, done.err
    return [line.split()[1] for line in done.out.splitlines() if line.startswith("  steno ")]


def test_a_used_home_is_told_with_its_last_session(run: Run, store: Store, home: Path) -> None:
    store.create(id="k3v9", title="REST API")
    done = run()
    assert done.out.splitlines()[0] == f"Home:      {home}"
    assert "Sessions:  1 with 0 messages" in done.out
    assert "Last:      k3v9  REST API  (" in done.out
    assert commands(done) == ["list", "show", "search", "status", "--help"]


def test_whether_a_daemon_runs_is_told(run: Run, home: Path) -> None:
    assert "Daemon:    not running; `steno daemon start` starts it\n" in run().out
    with ProcessLock(home / "daemon.lock", task="the daemon"):
        assert f"Daemon:    runs (process {os.getpid()})\n" in run().out


def test_the_current_session_is_told_where_it_is_not_the_last(run: Run, store: Store) -> None:
    store.create(id="k3v9", title="Chosen")
    run("resume", "k3v9")
    assert "Current:" not in run().out
    store.create(id="later", created_ms=store.now_ms() + 60_000)
    assert "Current:   k3v9  Chosen\n" in run().out


def test_an_empty_home_is_told_how_to_fill_it(run: Run) -> None:
    assert commands(run()) == ["create", "import", "status", "--help"]


def test_a_machine_without_a_home_is_told_how_to_begin(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "none"))
    assert commands(run()) == ["up", "init", "join", "--help"]
    assert not (tmp_path / "none").exists()


def test_a_home_that_lost_its_database_is_told_how_to_get_it_back(run: Run, home: Path) -> None:
    (home / "steno.db").unlink()
    (home / "vault.json").write_text("{}")
    done = run()
    assert (done.code, "steno doctor --rebuild" in done.err) == (1, True)


def test_every_command_that_is_offered_exists(run: Run, store: Store, home: Path) -> None:
    offered = commands(run())
    store.create(id="k3v9")
    offered += commands(run())
    (home / "steno.db").unlink()
    offered += commands(run())
    assert set(offered) - {"--help"} <= VERBS.keys()


def test_a_title_cannot_steer_the_terminal(run: Run, store: Store) -> None:
    store.create(id="k3v9", title="\x1b[2Jevil")
    assert "\x1b" not in run().out
