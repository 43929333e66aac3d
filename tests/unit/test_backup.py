"""A backup is whole or is not there, and neither hinders who writes nor is hindered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.storage.backup import backup, dated
from steno.storage.errors import InvalidInput, LocalStorageError, StenoError, TargetExists
from steno.storage.indexing import index
from steno.storage.model import NewMessage
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


def add(store: Store, *contents: str) -> None:
    store.add_messages("s", [NewMessage(role="user", content=each) for each in contents])


def contents(path: Path) -> list[object]:
    with Store(path, read_only=True) as store:
        return [each.content for each in store.messages("s")]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_backup_holds_what_the_store_holds(store: Store, tmp_path: Path) -> None:
    path = backup(store, tmp_path / "saved.db")
    with Store(path, read_only=True) as copy:
        assert copy.get("s") == store.get("s")
        assert list(copy.messages("s")) == list(store.messages("s"))


def test_a_backup_is_one_file_that_only_its_owner_may_read(store: Store, tmp_path: Path) -> None:
    path = backup(store, tmp_path / "saved.db")
    assert path.stat().st_mode & 0o777 == 0o600
    assert left(tmp_path) == ["home", "saved.db"]


def test_a_backup_opens_where_nothing_can_be_written_beside_it(store: Store, tmp_path: Path) -> None:
    path = backup(store, tmp_path / "saved.db")
    connection = dbapi.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_file_that_is_there_is_not_written_over_unless_asked(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "saved.db"
    path.write_text("mine")
    with pytest.raises(TargetExists):
        backup(store, path)
    assert path.read_text() == "mine"
    backup(store, path, overwrite=True)
    assert contents(path) == ["one", "two"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(os.devnull)])
def test_what_is_no_file_is_not_written_over_when_asked(
    store: Store, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    target = tmp_path / "odd"
    make(target)
    before = target.lstat()
    with pytest.raises(InvalidInput):
        backup(store, target, overwrite=True)
    assert (target.lstat().st_ino, left(tmp_path)) == (before.st_ino, ["home", "odd"])


def test_a_store_is_not_written_over_by_its_own_backup(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link.db").hardlink_to(store.path)
    for target in (store.path, tmp_path / "link.db", tmp_path / "home" / "steno.db-wal"):
        with pytest.raises(InvalidInput):
            backup(store, Path(target), overwrite=True)
    add(store, "three")
    assert contents(Path(store.path)) == ["one", "two", "three"]


def test_a_file_that_appeared_meanwhile_is_not_written_over(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "saved.db"

    def appear(_: int, __: int) -> None:
        path.write_text("mine")

    with pytest.raises(TargetExists):
        backup(store, path, progress=appear)
    assert path.read_text() == "mine"
    assert left(tmp_path) == ["home", "saved.db"]


def test_a_backup_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(_: int, __: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        backup(store, tmp_path / "saved.db", progress=stop)
    assert left(tmp_path) == ["home"]


@pytest.mark.parametrize("target", ["missing/saved.db", "home"])
def test_a_place_that_cannot_be_written_is_refused_in_one_line(store: Store, tmp_path: Path, target: str) -> None:
    with pytest.raises(StenoError):
        backup(store, tmp_path / target)
    assert left(tmp_path) == ["home"]


def test_progress_counts_pages_up_to_all_of_them(store: Store, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    backup(store, tmp_path / "saved.db", progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0


def test_a_damaged_store_gives_no_backup(store: Store, tmp_path: Path) -> None:
    store.create(id="filler", metadata={"text": "x" * 200_000})
    store.close()
    damage(store.path)
    with Store(store.path, read_only=True) as damaged, pytest.raises(LocalStorageError, match="damaged"):
        backup(damaged, tmp_path / "saved.db")
    assert not (tmp_path / "saved.db").exists()


def damage(path: Path) -> None:
    """Overwrite pages of a closed database that are not needed to open it."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 120_000)
        file.write(b"\xaa" * 60_000)


def test_a_damaged_index_is_left_out_and_made_anew_from_the_copy(store: Store, tmp_path: Path) -> None:
    index(store)
    store.execute("DELETE FROM search_data WHERE id > 100")
    path = backup(store, tmp_path / "saved.db")
    with Store(path) as copy:
        assert [hit.session for hit in search(copy, "plan").hits] == ["s"]


def test_a_backup_is_not_taken_inside_a_transaction(store: Store, tmp_path: Path) -> None:
    with store.transaction(), pytest.raises(InvalidInput):
        backup(store, tmp_path / "saved.db")


def test_a_writer_that_is_busy_neither_waits_nor_prolongs_a_backup(store: Store, tmp_path: Path) -> None:
    add(store, *(noise := [os.urandom(50_000).hex() for _ in range(30)]))
    steps: list[int] = []

    def write(done: int, _: int) -> None:
        add(store, "meanwhile")
        steps.append(done)

    path = backup(store, tmp_path / "saved.db", progress=write)
    assert steps == sorted(set(steps))  # it never began again
    assert len(steps) > 1
    assert contents(path) == ["one", "two", *noise]


def test_a_store_in_memory_has_a_backup_too(tmp_path: Path) -> None:
    with Store(":memory:") as store:
        store.create(id="s")
        add(store, "one")
        assert contents(backup(store, tmp_path / "saved.db")) == ["one"]


def test_names_of_backups_say_when_and_are_never_taken(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    first = dated(folder, now_ms=1_800_000_000_000)
    assert first == folder / "steno-20270115-080000.db"
    assert folder.stat().st_mode & 0o777 == 0o700
    first.touch()
    assert dated(folder, now_ms=1_800_000_000_000) == folder / "steno-20270115-080000-2.db"
