"""`steno config`: settings read, changed and edited by a person."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import pytest

from steno.cli.main import main
from steno.tests.unit.test_cli_purge import Terminal
from steno.tests.unit.test_cli_sessions import Run, home, run

__all__ = ["home", "run"]


@pytest.fixture
def edits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that appends what stands in the file ``typed`` of the home, and ends with the code in ``code``.

    What stands in ``meanwhile`` is what somebody else writes into the settings at the same time.
    """
    script = home / "editor.py"
    script.write_text(
        "import pathlib, sys; here = pathlib.Path(__file__).parent; file = pathlib.Path(sys.argv[1])\n"
        "file.write_bytes(file.read_bytes() + (here / 'typed').read_bytes())\n"
        "if (here / 'meanwhile').exists(): (here / 'config.toml').write_bytes((here / 'meanwhile').read_bytes())\n"
        "sys.exit(int((here / 'code').read_text()) if (here / 'code').exists() else 0)\n"
    )
    monkeypatch.setenv("VISUAL", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")


def config(home: Path) -> Path:
    return home / "config.toml"


def test_every_setting_is_listed_with_where_it_comes_from(run: Run) -> None:
    run("config", "set", "session.autosave_interval", "60")
    lines = run("config", "list").out.splitlines()
    assert "session.autosave_interval = 60" in lines
    assert "daemon.port = 7836  # default" in lines
    assert "vault.local-only = []  # default" in lines


def test_settings_are_listed_for_programs(run: Run) -> None:
    found = run("config", "list", "--json").json
    assert (found["daemon.port"], found["vault.local-only"], found["session.storage_path"]) == (7836, [], None)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_password_in_an_address_is_not_listed(run: Run, form: list[str]) -> None:
    run("config", "set", "session.storage_path", "redis://me:s3cret@nas:6379/0")
    listed = run("config", "list", *form).out
    assert ("s3cret" in listed, "redis://me:…@nas:6379/0" in listed) == (False, True)


def test_a_password_in_an_address_is_not_repeated_when_it_is_set(run: Run) -> None:
    done = run("config", "set", "session.storage_path", "redis://me:s3cret@nas:6379/0")
    assert (done.code, "s3cret" in done.out + done.err) == (0, False)


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        ("daemon.port", "7836\n"),
        ("session.backend", "sqlite\n"),
        ("session.storage_path", ""),
        ("vault.local-only", ""),
    ],
)
def test_one_setting_is_printed_by_itself(run: Run, key: str, printed: str) -> None:
    assert run("config", "get", key) == (0, printed, "")


def test_a_list_is_printed_a_line_each_and_as_json(run: Run) -> None:
    run("config", "set", "vault.local-only", "diary", "tax 2026")
    assert run("config", "get", "vault.local-only").out == "diary\ntax 2026\n"
    assert run("config", "get", "vault.local-only", "--json").json == ["diary", "tax 2026"]


def test_a_bad_value_is_one_line_that_names_key_and_what_is_allowed(run: Run, home: Path) -> None:
    done = run("config", "set", "daemon.port", "many")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert "[daemon] port must be a whole number from 0 to 65535, not 'many'" in done.err
    assert not config(home).exists()


def test_an_unknown_key_is_answered_with_the_nearest(run: Run) -> None:
    done = run("config", "get", "session.backends")
    assert (done.code, done.err) == (4, "Error: there is no setting session.backends: did you mean session.backend?\n")


@pytest.mark.parametrize("arguments", [["daemon.port"], ["daemon.port", "1", "--unset"]])
def test_setting_needs_a_value_or_its_removal(run: Run, arguments: list[str]) -> None:
    assert run("config", "set", *arguments).code == 2


def test_a_setting_is_removed(run: Run) -> None:
    run("config", "set", "daemon.port", "1")
    assert run("config", "set", "daemon.port", "--unset").out == "daemon.port = 7836  # default\n"
    assert run("config", "set", "daemon.port", "--unset").err == "daemon.port was not set.\n"


def test_what_is_no_setting_is_removed(run: Run, home: Path) -> None:
    config(home).write_text("[daemon]\nprot = 1\n")
    assert run("config", "list").code == 4
    assert run("config", "set", "daemon.prot", "--unset").code == 0
    assert run("config", "list").code == 0


def test_the_path_is_told_whether_the_file_is_there_or_not(run: Run, home: Path) -> None:
    assert run("config", "path").out == f"{config(home)}\n"
    assert run("config", "path", "--json").json == {"path": str(config(home)), "exists": False}


@pytest.mark.parametrize("verb", [["list"], ["get", "daemon.port"], ["path"]])
def test_a_home_need_not_be_made_to_look_at_its_settings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "none"))
    assert run("config", *verb).code == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("edits")
def test_what_was_typed_is_taken_up(run: Run, home: Path) -> None:
    config(home).write_text("# mine\n")
    (home / "typed").write_text("[daemon]\nport = 1\n")
    assert run("config", "edit").out == f"Changed {config(home)}\n"
    assert config(home).read_text() == "# mine\n[daemon]\nport = 1\n"
    assert list(home.glob("config.?*.toml")) == []


@pytest.mark.usefixtures("edits")
def test_nothing_typed_is_nothing_changed(run: Run, home: Path) -> None:
    (home / "typed").write_text("")
    assert run("config", "edit", "--json").json == {"path": str(config(home)), "changed": False}
    assert not config(home).exists()


@pytest.mark.usefixtures("edits")
@pytest.mark.parametrize("typed", [b"[daemon]\nport = 'many'\n", b"[daemon\n", b"\xff"])
def test_what_cannot_be_read_is_kept_beside_the_file(run: Run, home: Path, typed: bytes) -> None:
    config(home).write_text("[daemon]\nport = 1\n")
    (home / "typed").write_bytes(b"#\n" + typed)
    done = run("config", "edit")
    [kept] = home.glob("config.?*.toml")
    assert (done.code, str(kept) in done.err, done.err.count("\n")) == (4, True, 1)
    assert kept.read_bytes() == b"[daemon]\nport = 1\n#\n" + typed
    assert config(home).read_text() == "[daemon]\nport = 1\n"


@pytest.mark.usefixtures("edits")
@pytest.mark.parametrize(("answers", "code"), [("n\n", 4), ("y\nn\n", 4), ("", 1)])
def test_somebody_at_a_terminal_may_open_it_again(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: str,
    code: int,
) -> None:
    (home / "typed").write_text("[daemon\n")
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(answers.encode())))
    assert main(["config", "edit"]) == code
    [kept] = home.glob("config.?*.toml")
    assert kept.read_text() == "[daemon\n" * max(answers.count("\n"), 1)
    assert (str(kept) in capsys.readouterr().err, config(home).exists()) == (True, False)


@pytest.mark.usefixtures("edits")
def test_what_somebody_else_set_meanwhile_is_not_written_over(home: Path, run: Run) -> None:
    (home / "meanwhile").write_text("[daemon]\nport = 2\n")
    (home / "typed").write_text("[daemon]\nport = 1\n")
    done = run("config", "edit")
    assert (done.code, "changed by somebody else meanwhile" in done.err) == (4, True)
    assert config(home).read_text() == "[daemon]\nport = 2\n"


@pytest.mark.usefixtures("edits")
def test_an_editor_that_fails_changes_nothing(run: Run, home: Path) -> None:
    (home / "typed").write_text("[daemon]\nport = 1\n")
    (home / "code").write_text("3")
    done = run("config", "edit")
    assert (done.code, "ended with code 3" in done.err) == (1, True)
    assert list(home.glob("config*")) == []


@pytest.mark.usefixtures("edits")
def test_settings_that_cannot_be_read_can_be_edited(run: Run, home: Path) -> None:
    config(home).write_text("[daemon")
    (home / "typed").write_text("]\nport = 1\n")
    assert run("config", "edit").code == 0
    assert run("config", "get", "daemon.port").out == "1\n"
