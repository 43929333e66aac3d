"""What is restored from a backup goes on without using anything twice, and what it replaced is kept."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage import schema
from steno.storage.apply import Applied, apply
from steno.storage.backup import backup
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import InvalidInput, LocalStorageError, NewerSchema, StenoError
from steno.storage.model import NewMessage
from steno.storage.restore import Restored, alone, restore
from steno.storage.search import search
from steno.storage.sqlite import dbapi
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home" / "steno.db") as opened:
        opened.create(id="s", title="Plan")
        add(opened, "one", "two")
        yield opened


@pytest.fixture(autouse=True)
def _home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()


@pytest.fixture
def saved(store: Store, tmp_path: Path) -> Path:
    """A backup of the store with "one" and "two"; the store is closed, and holds "three" besides."""
    path = backup(store, tmp_path / "saved.db")
    add(store, "three")
    store.close()
    return path


def add(store: Store, *contents: str) -> None:
    store.add_messages("s", [NewMessage(role="user", content=each) for each in contents])


def contents(path: Path) -> list[object]:
    with Store(path, read_only=True) as store:
        return [each.content for each in store.messages("s")]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put_back(source: Path, home: Path) -> Restored:
    return restore(source, home / "steno.db", backups=home / "backups")


def damage(path: Path) -> None:
    """Overwrite pages of a closed database that are not needed to open it."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 120_000)
        file.write(b"\xaa" * 60_000)


@pytest.mark.check("COD-38")
def test_a_restored_store_holds_what_the_backup_held(saved: Path, tmp_path: Path) -> None:
    put_back(saved, tmp_path / "home")
    assert contents(tmp_path / "home" / "steno.db") == ["one", "two"]
    with Store(tmp_path / "home" / "steno.db") as store:
        assert [hit.session for hit in search(store, "plan").hits] == ["s"]
        add(store, "four")
        assert [each.content for each in store.messages("s")] == ["one", "two", "four"]


def test_what_is_replaced_is_kept_and_named(saved: Path, tmp_path: Path) -> None:
    done = put_back(saved, tmp_path / "home")
    assert done.kept is not None
    assert done.kept.parent == tmp_path / "home" / "backups"
    assert done.kept.stat().st_mode & 0o777 == 0o600
    assert contents(done.kept) == ["one", "two", "three"]
    assert left(tmp_path / "home") == ["backups", "steno.db"]


def test_a_restored_store_can_be_put_back_to_what_it_replaced(saved: Path, tmp_path: Path) -> None:
    first = put_back(saved, tmp_path / "home")
    assert first.kept is not None
    put_back(first.kept, tmp_path / "home")
    assert contents(tmp_path / "home" / "steno.db") == ["one", "two", "three"]


def test_a_restored_store_has_another_name_and_is_another_device(saved: Path, tmp_path: Path) -> None:
    with Store(saved, read_only=True) as before:
        device, name = before.device, before.store_name
    done = put_back(saved, tmp_path / "home")
    with Store(tmp_path / "home" / "steno.db") as store:
        assert store.device == done.device != device
        assert store.store_name != name
        assert store.former_devices == [device]
        add(store, "four")
        row = next(row for row in store.message_rows(1) if row.content == "four")
        assert store.stamp(row.clock, row.author).device == done.device
        assert store.stamp(*store.one("SELECT clock, author FROM messages WHERE content = 'one'")).device == device


def test_ids_that_a_store_had_are_remembered_through_every_restoration(saved: Path, tmp_path: Path) -> None:
    with Store(saved, read_only=True) as before:
        first = before.device
    second = put_back(saved, tmp_path / "home").device
    third = put_back(saved, tmp_path / "home").device
    with Store(tmp_path / "home" / "steno.db", read_only=True) as store:
        assert store.device == third
        assert set(store.former_devices) == {first, second}


def test_numbers_and_times_that_the_replaced_store_gave_are_not_given_again(saved: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "home" / "steno.db", read_only=True) as replaced:
        seq = replaced.last_seq
        clock = replaced.one("SELECT max(clock) FROM messages")[0]
    put_back(saved, tmp_path / "home")
    with Store(tmp_path / "home" / "steno.db", now_ms=lambda: 1_000) as store:  # a wall that runs behind
        add(store, "four")
        born_seq, born_clock = store.one("SELECT seq, clock FROM messages WHERE content = 'four'")
    assert born_seq > seq
    assert born_clock > clock


def test_what_others_know_of_the_replaced_store_meets_the_restored_one_without_loss(saved: Path, tmp_path: Path):
    """The replaced store had published an edit that the backup does not know; the restored one edits the same field."""
    path = tmp_path / "home" / "steno.db"
    with Store(path) as replaced, Store(tmp_path / "other.db") as other:
        replaced.update("s", fields={"title": "published"})
        exchange(replaced, other)
        replaced.close()
        put_back(saved, tmp_path / "home")
        with Store(path) as restored:
            restored.update("s", fields={"title": "restored"})
            exchange(restored, other)
            exchange(other, restored, everything=True)
            for store in (restored, other):
                assert store.get("s").title == "restored"
                assert store.one("SELECT count(*) FROM registers WHERE conflict")[0] == 1


def exchange(source: Store, target: Store, *, everything: bool = False) -> None:
    if everything:  # as a device does that heals a remote: all it holds, whoever wrote it
        for table in ("sessions", "messages", "registers"):
            source.execute(f"UPDATE {table} SET local_seq = seq")
    batch = decode_batch(local_changes(source, since=0, floor=0, max_bytes=1 << 20)[0])
    done = Applied()
    with target.transaction():
        apply(target, batch, batch.sessions, done=done)
    assert done.refused == []


def test_a_store_that_another_process_has_open_is_not_replaced(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steno.storage.restore.PATIENCE_S", 0.0)
    path = tmp_path / "home" / "steno.db"
    with Store(path) as store:
        with pytest.raises(LocalStorageError, match="in use"):
            put_back(saved, tmp_path / "home")
        add(store, "four")
    assert contents(path) == ["one", "two", "three", "four"]
    assert "backups" not in left(tmp_path / "home")


def test_whoever_opens_the_store_while_it_is_replaced_loses_nothing_silently(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "home" / "steno.db"
    came: list[object] = []

    def write() -> None:
        try:
            with Store(path) as store:
                add(store, "late")
                came.append("written")
        except StenoError as exc:
            came.append(exc)

    with alone(path) as held:
        assert held is not None
        writer = threading.Thread(target=write)
        writer.start()
        shutil.copy(saved, tmp_path / "new.db")
        (tmp_path / "new.db").replace(path)
    writer.join(30)
    assert ("late" in contents(path)) == (came == ["written"])


@pytest.mark.parametrize("kind", ["text", "empty", "other", "missing", "folder"])
def test_what_is_no_backup_is_refused_and_changes_nothing(saved: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "wrong"
    if kind == "text":
        source.write_text("this is no database " * 100)
    elif kind == "empty":
        source.touch()
    elif kind == "other":
        connection = dbapi.connect(str(source))
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA user_version = 1")
        connection.close()
    elif kind == "folder":
        source.mkdir()
    before = (tmp_path / "home" / "steno.db").read_bytes()
    with pytest.raises(InvalidInput):
        put_back(source, tmp_path / "home")
    assert (tmp_path / "home" / "steno.db").read_bytes() == before
    assert left(tmp_path / "home") == ["steno.db"]


def test_a_store_is_not_restored_from_itself(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        put_back(tmp_path / "home" / "steno.db", tmp_path / "home")


def test_a_damaged_backup_is_refused(store: Store, tmp_path: Path) -> None:
    store.create(id="filler", metadata={"text": "x" * 200_000})
    path = backup(store, tmp_path / "saved.db")
    store.close()
    damage(path)
    with pytest.raises(LocalStorageError):
        put_back(path, tmp_path / "home")
    assert left(tmp_path / "home") == ["steno.db"]
    assert contents(store.path) == ["one", "two"]


def test_a_backup_of_a_newer_version_is_refused(saved: Path, tmp_path: Path) -> None:
    connection = dbapi.connect(str(saved))
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(NewerSchema):
        put_back(saved, tmp_path / "home")
    assert contents(tmp_path / "home" / "steno.db") == ["one", "two", "three"]


def test_a_backup_of_an_older_version_is_brought_up_to_this_one(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr("steno.storage.restore.VERSION", schema.VERSION)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE more (x INTEGER);\n"))
    put_back(saved, tmp_path / "home")
    with Store(tmp_path / "home" / "steno.db", read_only=True) as store:
        assert store.one("SELECT count(*) FROM more") == (0,)
    assert [name for name in left(tmp_path / "home") if "before" in name] == []


def test_a_backup_that_is_a_plain_copy_with_its_log_is_restored_whole(store: Store, tmp_path: Path) -> None:
    store.execute("PRAGMA wal_autocheckpoint = 0")
    add(store, "in the log")
    copies = tmp_path / "copies"
    shutil.copytree(store.path.parent, copies)
    store.close()
    put_back(copies / "steno.db", tmp_path / "home")
    assert contents(store.path) == ["one", "two", "in the log"]


def test_a_damaged_store_is_replaced_and_kept_with_its_log(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "home" / "steno.db"
    path.write_bytes(b"nothing of a database is left" * 1000)
    path.with_name("steno.db-wal").write_bytes(b"a log that belongs to it")
    done = put_back(saved, tmp_path / "home")
    assert contents(path) == ["one", "two"]
    assert done.kept is not None
    assert done.kept.read_bytes() == b"nothing of a database is left" * 1000
    assert done.kept.with_name(f"{done.kept.name}-wal").read_bytes() == b"a log that belongs to it"


def test_a_home_without_a_store_gets_the_backup(saved: Path, tmp_path: Path) -> None:
    done = put_back(saved, tmp_path / "fresh")
    assert done.kept is None
    assert contents(tmp_path / "fresh" / "steno.db") == ["one", "two"]
    assert (tmp_path / "fresh" / "steno.db").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_restoration_left_is_removed_by_the_next(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / ".restoring-abc").mkdir()
    (tmp_path / "home" / ".restoring-abc" / "steno.db").touch()
    put_back(saved, tmp_path / "home")
    assert left(tmp_path / "home") == ["backups", "steno.db"]
