"""`steno backup` and `steno doctor` as a person meets them: what they print, write, refuse, and end with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.cli.main import main
from steno.daemon.lock import ProcessLock
from steno.storage.home import Home
from steno.storage.indexing import index
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    place = tmp_path / "home"
    monkeypatch.setenv("STENO_HOME", str(place))
    made = Home.from_environment()
    made.make()
    with Store(made.database) as store:
        store.create(id="s", title="Plan")
        store.append("s", NewMessage(role="user", content="one"))
        index(store)
    return made


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Done:
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def add(home: Home, content: str) -> None:
    with Store(home.database) as store:
        store.append("s", NewMessage(role="user", content=content))


def contents(path: Path) -> list[object]:
    with Store(path, read_only=True) as store:
        return [each.content for each in store.messages("s")]


# backup


@pytest.mark.check("COD-38")
def test_a_backup_goes_where_it_is_told(run: Run, tmp_path: Path) -> None:
    done = run("backup", tmp_path / "saved.db")
    assert done == (0, f"Saved 1 session with 1 message in {tmp_path / 'saved.db'}\n", "")
    assert contents(tmp_path / "saved.db") == ["one"]


def test_a_backup_without_a_file_gets_a_dated_name(run: Run, home: Home) -> None:
    done = run("backup", "--json").json
    [path] = home.backups.iterdir()
    assert done == {"file": str(path), "size_bytes": path.stat().st_size, "sessions": 1, "messages": 1}
    assert path.name.startswith("steno-20")
    assert contents(path) == ["one"]


def test_a_file_that_is_there_is_written_over_only_by_force(run: Run, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "saved.db"
    run("backup", path)
    add(home, "two")
    refused = run("backup", path)
    assert refused.code == 5
    assert refused.err.startswith(f"Error: there is a file already: {path}")
    assert contents(path) == ["one"]
    assert run("backup", path, "--force").code == 0
    assert contents(path) == ["one", "two"]


def test_a_home_without_a_store_has_no_backup(run: Run, home: Home) -> None:
    home.database.unlink()
    done = run("backup")
    assert done.code == 1
    assert done.err.startswith("Error: no steno store in ")


@pytest.mark.parametrize("arguments", [["--force"], ["--restore"], ["--restore", "x", "--force"]])
def test_options_that_make_no_sense_together_are_usage_errors(run: Run, arguments: list[str]) -> None:
    done = run("backup", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1


@pytest.mark.check("COD-38")
def test_restoring_brings_back_the_backup_and_names_what_it_replaced(run: Run, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "saved.db"
    run("backup", path)
    add(home, "two")
    done = run("backup", "--restore", path)
    [kept] = home.backups.iterdir()
    assert done.code == 0
    assert f"Restored 1 session with 1 message from {path}; this is device " in done.out
    assert f"What was here before is kept in {kept}\n" in done.out
    assert contents(home.database) == ["one"]
    assert contents(kept) == ["one", "two"]
    assert run("doctor").code == 0


def test_what_restoring_did_is_printed_as_json(run: Run, home: Home, tmp_path: Path) -> None:
    run("backup", tmp_path / "saved.db")
    done = run("backup", "--restore", tmp_path / "saved.db", "--json").json
    with Store(home.database, read_only=True) as store:
        assert done["device"] == store.device
    assert Path(done["kept"]).parent == home.backups
    assert (done["sessions"], done["messages"]) == (1, 1)


def test_nothing_is_restored_while_a_daemon_runs(run: Run, home: Home, tmp_path: Path) -> None:
    run("backup", tmp_path / "saved.db")
    add(home, "two")
    with ProcessLock(home.daemon_lock, task="the daemon"):
        done = run("backup", "--restore", tmp_path / "saved.db")
    assert done.code == 1
    assert "steno daemon stop" in done.err
    assert contents(home.database) == ["one", "two"]


def test_a_backup_makes_a_home_where_there_was_none(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backup", tmp_path / "saved.db")
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "new"))
    done = run("backup", "--restore", tmp_path / "saved.db")
    assert done.code == 0
    assert "kept" not in done.out
    assert contents(tmp_path / "new" / "steno.db") == ["one"]


def test_what_is_no_backup_is_refused_in_one_line(run: Run, home: Home, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 100)
    done = run("backup", "--restore", tmp_path / "notes.txt")
    assert done.code == 4
    assert done.err.count("\n") == 1
    assert contents(home.database) == ["one"]


# doctor


def test_a_sound_home_is_told_so(run: Run) -> None:
    done = run("doctor")
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("ok ") for line in done.out.splitlines())


def test_what_is_wrong_is_told_with_what_to_do_and_the_exit_code_says_so(run: Run, home: Home) -> None:
    with Store(home.database) as store:
        store.execute("UPDATE sessions SET message_count = 99")
    done = run("doctor")
    assert done.code == 8
    assert "WRONG  counts     message_count of session s\n" in done.out
    assert "→ run `steno doctor --repair`" in done.out
    assert done.err == "Error: 1 thing is pending or needs a look: run `steno doctor --repair`\n"


def test_repairing_mends_and_says_how_much(run: Run, home: Home) -> None:
    with Store(home.database) as store:
        store.execute("UPDATE sessions SET message_count = 99")
    done = run("doctor", "--repair")
    assert done.code == 0
    assert done.err == "Made anew what was wrong in 1 session.\n"
    with Store(home.database, read_only=True) as store:
        assert store.get("s").message_count == 1


def test_the_index_is_made_anew(run: Run, home: Home) -> None:
    with Store(home.database) as store:
        store.execute("DELETE FROM search_data WHERE id > 100")
    assert run("doctor").code == 8
    assert run("doctor", "--rebuild-index").code == 0
    assert run("search", "one", "--json").json["results"][0]["session"] == "s"


def test_findings_are_printed_as_json(run: Run) -> None:
    found = run("doctor", "--json").json
    assert {each["name"] for each in found} >= {"sqlite", "file", "index", "order", "counts"}
    assert all(each["ok"] for each in found)


def test_a_home_that_cannot_be_written_is_looked_at(run: Run, home: Home) -> None:
    home.database.chmod(0o400)
    home.data.chmod(0o500)
    try:
        assert run("doctor").code == 0
    finally:
        home.data.chmod(0o700)


def test_a_database_that_is_none_is_an_error_of_one_line(run: Run, home: Home) -> None:
    home.database.write_bytes(b"nothing of a database is left" * 1000)
    done = run("doctor")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "steno backup --restore" in done.err


# doctor --rebuild


@pytest.fixture
def lost(home: Home) -> Home:
    """A home whose files are written and whose database is gone."""
    with Store(home.database) as store:
        mirror = Mirror(store, home.sessions)
        mirror.start()
        while mirror.write_pending() is not None:
            pass
    home.database.unlink()
    return home


def test_a_lost_database_is_made_anew_and_told(run: Run, lost: Home) -> None:
    done = run("doctor", "--rebuild")
    assert (done.code, done.err) == (0, "")
    with Store(lost.database, read_only=True) as store:
        device = store.device
    first, second, third = done.out.splitlines()
    assert first == f"Rebuilt {lost.database} (it was missing); this is device {device} now."
    assert second == "1 session with 1 message: 0 from the remote, 1 from the files."
    assert third.startswith("Files hold no earlier texts")
    assert contents(lost.database) == ["one"]
    assert run("doctor").code == 0


def test_what_rebuilding_did_is_printed_as_json(run: Run, lost: Home) -> None:
    done = run("doctor", "--rebuild", "--json").json
    assert (done["sessions"], done["messages"], done["from_files"], done["kept"]) == (1, 1, 1, [])


def test_a_damaged_database_is_kept_and_made_anew(run: Run, lost: Home) -> None:
    lost.database.write_bytes(b"nothing of a database is left" * 1000)
    done = run("doctor", "--rebuild")
    [kept] = lost.backups.iterdir()
    assert done.code == 0
    assert f"What was there before is kept in {kept}\n" in done.out
    assert kept.read_bytes() == b"nothing of a database is left" * 1000
    assert contents(lost.database) == ["one"]


def test_a_sound_database_is_left_as_it_is(run: Run, home: Home) -> None:
    before = home.database.read_bytes()
    done = run("doctor", "--rebuild")
    assert done.code == 5
    assert done.err == f"Error: the database in {home.data} is sound; nothing was changed: see `steno doctor`\n"
    assert home.database.read_bytes() == before


def test_an_empty_store_that_stands_beside_the_files_of_a_lost_one_is_replaced(run: Run, lost: Home) -> None:
    Store(lost.database).close()
    assert run("doctor", "--rebuild").code == 0
    assert contents(lost.database) == ["one"]
    assert len(list(lost.backups.iterdir())) == 1


def test_an_empty_store_without_files_is_sound(run: Run, home: Home) -> None:
    home.database.unlink()
    Store(home.database).close()
    assert run("doctor", "--rebuild").code == 5


def test_nothing_is_rebuilt_while_a_daemon_runs(run: Run, lost: Home) -> None:
    with ProcessLock(lost.daemon_lock, task="the daemon"):
        done = run("doctor", "--rebuild")
    assert done.code == 1
    assert "steno daemon stop" in done.err
    assert not lost.database.exists()


def test_a_home_of_which_nothing_is_left_is_not_made_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "none"))
    done = run("doctor", "--rebuild")
    assert done.code == 1
    assert "steno init" in done.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", [["--files-only"], ["--rebuild", "--repair"], ["--rebuild", "--rebuild-index"]])
def test_options_of_the_doctor_that_make_no_sense_together_are_usage_errors(run: Run, arguments: list[str]) -> None:
    done = run("doctor", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1


def test_a_file_that_cannot_be_understood_is_named_and_the_others_come_back(run: Run, lost: Home) -> None:
    path = next(lost.sessions.rglob("*.jsonl"))
    (path.parent / "broken.t.jsonl").write_text('{"steno":1,"id":"t"}\nno JSON\n')
    done = run("doctor", "--rebuild")
    assert done.code == 8
    assert "broken.t.jsonl:2:1: " in done.err
    assert contents(lost.database) == ["one"]


# A home without a database


@pytest.mark.parametrize(
    "verb", [["list"], ["show", "s"], ["create", "--id", "x"], ["add", "s", "two"], ["doctor"], ["status"]]
)
@pytest.mark.parametrize("left", [None, b""])
def test_a_verb_says_how_a_lost_database_is_made_anew(
    run: Run, lost: Home, verb: list[str], left: bytes | None
) -> None:
    if left is not None:
        lost.database.write_bytes(left)
    done = run(*verb)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "`steno doctor --rebuild`" in done.err
    assert not lost.exists


@pytest.mark.parametrize("verb", [["init"], ["up", "--no-import"]])
def test_no_empty_store_is_made_beside_the_files_of_a_lost_one(run: Run, lost: Home, verb: list[str]) -> None:
    done = run(*verb)
    assert done.code == 5
    assert "`steno doctor --rebuild`" in done.err
    assert not lost.database.exists()


def test_a_vault_is_not_made_for_a_home_that_has_lost_its_database(run: Run, lost: Home, tmp_path: Path) -> None:
    assert run("init", "--remote", tmp_path / "remote").code == 5
    assert not (tmp_path / "remote").exists()


def test_a_home_without_files_is_made_anew(run: Run, lost: Home) -> None:
    shutil.rmtree(lost.sessions)
    assert run("init").code == 0
    assert lost.exists
