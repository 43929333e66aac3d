"""A database that is lost or damaged is told from a sound one, and a new one takes its place only when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from steno.storage import schema
from steno.storage.errors import LocalStorageError, NewerSchema, TargetExists
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.storage.rebuilding import Former, begin, fault, former, is_unused, put_in_place, staging
from steno.storage.relics import purge_copies
from steno.storage.sqlite import dbapi
from steno.storage.store import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "steno.db"


@pytest.fixture
def sound(database: Path) -> Path:
    with Store(database) as store:
        store.create(id="s", title="Plan")
        store.add_messages("s", [NewMessage(role="user", content=f"{number} " * 500) for number in range(200)])
    return database


@pytest.fixture
def held(sound: Path) -> Iterator[Store]:
    with Store(sound) as store:
        yield store


def damage(path: Path) -> None:
    """Overwrite pages of a closed database that are not needed to open it."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 120_000)
        file.write(b"\xaa" * 60_000)


def replaced(database: Path, *, content: str = "new") -> list[Path]:
    """Put a new database in the place of another one."""
    with staging(database) as staged:
        with Store(staged) as store:
            begin(store, former(database))
            store.create(id=content)
        return put_in_place(staged, database, backups=database.parent / "backups")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sessions(database: Path) -> list[str]:
    with Store(database, read_only=True) as store:
        return [each.id for each in store.sessions()]


# Whether there is a reason


def test_a_sound_database_has_no_fault(sound: Path):
    assert fault(sound) is None
    assert not is_unused(sound)


def test_a_database_that_is_open_elsewhere_has_no_fault(held: Store):
    held.create(id="t")
    assert fault(held.path) is None


def test_a_damaged_index_is_no_fault_of_the_database(sound: Path):
    with Store(sound) as store:
        store.execute("DELETE FROM search_data WHERE id > 100")
    assert fault(sound) is None


def _of_others(path: Path) -> None:
    with closing(dbapi.connect(str(path))) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()


FAULTS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "no database": lambda path: path.write_bytes(b"nothing of a database is left" * 1000),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:20_000]),
    "overwritten pages": damage,
    "of another program": lambda path: (path.unlink(), _of_others(path)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_lost_or_damaged_database_says_what_is_wrong(sound: Path, name: str):
    FAULTS[name](sound)
    assert fault(sound)


def test_a_store_to_which_nothing_was_written_is_unused(database: Path):
    Store(database).close()
    assert fault(database) is None
    assert is_unused(database)


def test_a_newer_database_is_not_damaged(sound: Path):
    with closing(dbapi.connect(str(sound))) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(NewerSchema):
        fault(sound)


def test_a_database_that_cannot_be_opened_is_not_damaged(database: Path):
    database.mkdir()
    (database / "something").touch()
    with pytest.raises(LocalStorageError):
        fault(database)


def test_a_damaged_database_may_still_tell_who_it_was(sound: Path):
    with Store(sound, read_only=True) as store:
        device, last = store.device, store.last_seq
    damage(sound)
    found = former(sound)
    assert (found.devices, found.seq) == ([device], last)


@pytest.mark.parametrize("name", ["missing", "no database"])
def test_of_others_nothing_is_known(sound: Path, name: str):
    FAULTS[name](sound)
    assert former(sound) == Former()


# Taking its place


def test_a_new_database_takes_an_empty_place(database: Path):
    assert replaced(database) == []
    assert sessions(database) == ["new"]
    assert left(database.parent) == ["steno.db"]
    assert database.stat().st_mode & 0o777 == 0o600


def test_what_is_replaced_is_kept_as_it_was(sound: Path):
    damage(sound)
    before = sound.read_bytes()
    [kept] = replaced(sound)
    assert kept.parent == sound.parent / "backups"
    assert kept.read_bytes()[4096:] == before[4096:]  # the first page says whether there is a log
    assert sessions(sound) == ["new"]
    assert left(sound.parent) == ["backups", "steno.db"]


def test_the_log_of_a_deleted_database_is_moved_aside_and_not_taken_for_the_new_ones(sound: Path):
    with Store(sound) as store:
        store.create(id="in the log")
        log = (sound.with_name("steno.db-wal").read_bytes(), sound.with_name("steno.db-shm").read_bytes())
    sound.unlink()
    sound.with_name("steno.db-wal").write_bytes(log[0])
    sound.with_name("steno.db-shm").write_bytes(log[1])
    kept = replaced(sound)
    assert [path.read_bytes() for path in kept] == list(log)
    assert sorted(path.name.rpartition("-")[2] for path in kept) == ["shm", "wal"]
    assert sessions(sound) == ["new"]


def test_the_new_store_is_another_device_that_goes_on_behind_the_lost_one(sound: Path):
    with Store(sound, read_only=True) as store:
        device, name, last = store.device, store.store_name, store.last_seq
        clock = store.one("SELECT max(clock) FROM messages")[0]
    damage(sound)
    replaced(sound)
    with Store(sound, now_ms=lambda: 1_000) as store:  # a wall that runs behind
        assert store.device != device
        assert store.store_name != name
        assert store.former_devices == [device]
        assert store.one("SELECT min(seq) FROM sessions")[0] > last
        store.append("new", NewMessage(role="user", content="one"))
        assert store.one("SELECT min(clock) FROM messages")[0] > clock


def test_a_database_that_another_process_has_open_is_not_replaced(held: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steno.storage.restore.PATIENCE_S", 0.0)
    held.execute("BEGIN IMMEDIATE")
    with pytest.raises(LocalStorageError, match="in use"):
        replaced(held.path)
    held.execute("ROLLBACK")
    assert sessions(held.path) == ["s"]


def test_a_database_that_was_made_meanwhile_is_not_written_over(database: Path, monkeypatch: pytest.MonkeyPatch):
    def somebody_makes_one(name: str) -> None:
        if name == "rebuild.set-aside":
            with Store(database) as store:
                store.create(id="somebody's")

    monkeypatch.setattr("steno.storage.rebuilding.step", somebody_makes_one)
    with pytest.raises(TargetExists):
        replaced(database)
    assert sessions(database) == ["somebody's"]


def test_what_was_begun_and_failed_leaves_nothing(sound: Path):
    def fails() -> None:
        with staging(sound) as staged:
            Store(staged).close()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert left(sound.parent) == ["steno.db"]


def test_what_one_left_that_was_killed_is_removed(sound: Path):
    (sound.parent / ".rebuilding-x").mkdir()
    (sound.parent / ".rebuilding-x" / "steno.db").touch()
    with staging(sound):
        assert not (sound.parent / ".rebuilding-x").exists()


# What was kept, and purged later


def test_what_was_kept_of_a_lost_store_is_named_where_it_may_hold_what_is_purged(sound: Path):
    backups = sound.parent / "backups"
    copies = backups / "files-20260102-030405" / "2026" / "01"
    copies.mkdir(parents=True)
    (copies / "of.s.jsonl").write_text('{"steno":1,"id":"s"}\n{"role":"user","content":"secret"}\n')
    (copies / "of.t.jsonl").write_text('{"steno":1,"id":"t"}\n')
    (backups / "steno-20260102-030405.db-wal").write_bytes(b"a log without its database")
    with Store(sound) as store:
        store.create(id="t")
        assert purge_copies(store) == []
        purge_session(store, "s")
        assert purge_copies(store) == [
            f"{backups / 'steno-20260102-030405.db-wal'} may hold what was purged; remove it",
            f"{copies / 'of.s.jsonl'} may hold what was purged; remove it",
        ]
