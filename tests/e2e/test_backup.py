"""Backups beside busy writers, and devices that go on after a restoration: nobody loses a message."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.backup import backup
from steno.storage.model import NewMessage
from steno.storage.restore import restore
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.tests.e2e.device import Device, equal, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]

# It writes without a pause, in one process, until it is ended, and says what is committed.
WRITER = """
import os, sys
from steno.storage.model import NewMessage
from steno.storage.store import Store

store = Store(sys.argv[1])
for number in range(10**9):
    store.append("s", NewMessage(role="user", content=os.urandom(2000).hex(), id=f"m{number}"))
    print(number, flush=True)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with Store(tmp_path / "steno.db") as store:
        store.create(id="s")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "steno.db")], stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.check("COD-38")
def test_a_backup_beside_a_busy_writer_ends_is_whole_and_has_all_that_was_committed(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert writer.stdout is not None
    for number in range(5):
        committed = -1
        for _ in range(200):
            committed = int(writer.stdout.readline())
        with Store(tmp_path / "steno.db", read_only=True) as store:
            path = backup(store, tmp_path / f"saved{number}.db")
        connection = dbapi.connect(str(path))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        with Store(path, read_only=True) as saved:
            ids = [row[0] for row in saved.execute("SELECT id FROM messages ORDER BY seq")]
        assert ids == [f"m{at}" for at in range(len(ids))]
        assert len(ids) > committed
    assert writer.poll() is None


def add(device: Device, content: str, session: str = "s") -> None:
    with device.store(write=True) as store:
        store.append(session, NewMessage(role="user", content=content, id=content))


def settle(*devices: Device) -> None:
    """Let devices exchange everything, in both directions."""
    for device in (*devices, *devices):
        device.sync_here()


@pytest.fixture
def saved(pair: Pair, place: Path) -> Path:
    """A backup of the laptop with "one", of which the desktop knows; there is more since, everywhere."""
    laptop, desktop = pair
    with laptop.store(write=True) as store:
        store.create(id="s", title="Plan", metadata={"topic": "a"})
    add(laptop, "one")
    settle(laptop, desktop)
    laptop.steno("backup", str(place / "saved.db"))
    add(laptop, "two, synced")
    with laptop.store(write=True) as store:
        store.create(id="later", title="Later")
        store.update("s", metadata={"topic": "b"})
    add(laptop, "in a later session", "later")
    add(desktop, "three, of the other")
    settle(laptop, desktop)
    return place / "saved.db"


ALL = ["one", "two, synced", "three, of the other"]


@pytest.mark.fault(10)
def test_after_a_restoration_and_a_sync_no_message_is_lost_on_either_device(pair: Pair, saved: Path) -> None:
    laptop, desktop = pair
    laptop.steno("backup", "--restore", str(saved))
    assert laptop.contents("s") == ["one"]
    add(laptop, "four, after the restoration")
    add(desktop, "five, meanwhile")
    settle(laptop, desktop)
    assert sorted(laptop.contents("s")) == sorted([*ALL, "four, after the restoration", "five, meanwhile"])
    assert laptop.contents("later") == ["in a later session"]
    assert equal(laptop, desktop)
    with laptop.store() as store:
        assert store.get("s").metadata == {"topic": "b"}
    laptop.steno("sync")  # which would report an object under its id that it does not know


def test_what_was_never_sent_before_the_backup_is_sent_after_it(pair: Pair, place: Path) -> None:
    """The machine was lost between the backup and the next sync."""
    laptop, desktop = pair
    with laptop.store(write=True) as store:
        store.create(id="s")
    add(laptop, "one")
    settle(laptop, desktop)
    add(laptop, "two, never sent")
    laptop.steno("backup", str(place / "saved.db"))
    laptop.steno("backup", "--restore", str(place / "saved.db"))
    settle(laptop, desktop)
    assert desktop.contents("s") == ["one", "two, never sent"]
    assert equal(laptop, desktop)


@pytest.mark.fault(10)
def test_a_segment_that_was_about_to_be_sent_at_the_backup_is_sent_once(pair: Pair, place: Path) -> None:
    laptop, desktop = pair
    with laptop.store(write=True) as store:
        store.create(id="s")
    add(laptop, "one")
    laptop.steno("sync", code=-9, STENO_KILL_AT="push.intended")
    laptop.steno("backup", str(place / "saved.db"))
    laptop.steno("sync")
    add(laptop, "two, synced")
    settle(laptop, desktop)
    laptop.steno("backup", "--restore", str(place / "saved.db"))
    add(laptop, "three, after the restoration")
    settle(laptop, desktop)
    assert sorted(laptop.contents("s")) == ["one", "three, after the restoration", "two, synced"]
    assert equal(laptop, desktop)


def test_writing_the_same_field_after_a_restoration_covers_nothing_that_was_published(pair: Pair, saved: Path) -> None:
    laptop, desktop = pair
    laptop.steno("backup", "--restore", str(saved))
    with laptop.store(write=True) as store:
        store.update("s", metadata={"topic": "c"})
    settle(laptop, desktop)
    assert equal(laptop, desktop)
    [conflict] = desktop.json("conflicts")
    assert conflict["shown"]["value"] == "c"
    assert [other["value"] for other in conflict["others"]] == ["b"]


def test_deleting_after_a_restoration_deletes_only_what_the_backup_knew(pair: Pair, saved: Path) -> None:
    laptop, desktop = pair
    laptop.steno("backup", "--restore", str(saved))
    with laptop.store(write=True) as store:
        store.delete("s")
    settle(laptop, desktop)
    assert sorted(laptop.contents("s")) == sorted(ALL[1:])
    assert equal(laptop, desktop)


def test_a_backup_put_into_a_second_home_makes_a_third_device(pair: Pair, saved: Path, place: Path) -> None:
    """The device that the backup is of lives on: the two must not speak under one id."""
    laptop, desktop = pair
    other = Device(place / "c", remote=laptop.remote).configure()
    other.home.make()
    shutil.copy(laptop.home.vault_file, other.home.vault_file)
    restore(saved, other.home.database, backups=other.home.backups)
    add(other, "four, of the third")
    add(laptop, "five, of the first")
    settle(laptop, other, desktop)
    assert sorted(other.contents("s")) == sorted([*ALL, "four, of the third", "five, of the first"])
    assert equal(laptop, desktop, other)


def test_files_that_are_newer_than_the_backup_are_taken_in_and_none_is_taken_for_deleted(
    lonely: Device, place: Path
) -> None:
    """Without a vault the files are what is left of the time after the backup."""
    with lonely.store(write=True) as store:
        store.create(id="s", title="Plan")
        store.create(id="removed", title="Removed")
    add(lonely, "one")
    lonely.write_files_here()
    lonely.steno("backup", str(place / "saved.db"))
    add(lonely, "two")
    with lonely.store(write=True) as store:
        store.create(id="later", title="Later")
        store.delete("removed")
    add(lonely, "in a later session", "later")
    lonely.write_files_here()
    lonely.steno("backup", "--restore", str(place / "saved.db"))
    lonely.write_files_here()
    assert lonely.contents("s") == ["one", "two"]
    assert lonely.contents("later") == ["in a later session"]
    assert lonely.title("removed") == "Removed"
    assert len(lonely.files()) == 3
    with lonely.store() as store:
        assert f'"rev":"{store.store_name}.' in lonely.file("s").read_text(encoding="utf-8")


@pytest.mark.fault(10)
def test_the_daemon_goes_on_after_a_restoration(pair: Pair, saved: Path) -> None:
    laptop, desktop = pair
    laptop.start()
    assert "steno daemon stop" in laptop.steno("backup", "--restore", str(saved), code=1).err
    laptop.stop()
    laptop.steno("backup", "--restore", str(saved))
    laptop.start()
    until(lambda: laptop.settled() and sorted(laptop.contents("s")) == sorted(ALL), "what was synced is back")
    assert laptop.status()["problems"] == []
    laptop.stop()
    settle(laptop, desktop)
    assert equal(laptop, desktop)
