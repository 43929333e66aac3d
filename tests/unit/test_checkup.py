"""What is around a store is looked at, and what is wrong there is told with what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.daemon.checkup import around, far
from steno.daemon.lock import ProcessLock
from steno.storage.doctor import Finding
from steno.storage.home import Home
from steno.storage.model import NewMessage
from steno.storage.stamps import COUNTER_BITS
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror
from steno.sync.vault.names import DEVICES, KEYS, LOG
from steno.tests.e2e.device import Device


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A device that has synced with a folder; tests take copies."""
    place = tmp_path_factory.mktemp("synced")
    made = Device(place / "home", remote=place / "remote").make(found=True)
    with made.store(write=True) as store:
        store.create(id="s", title="Plan")
        store.append("s", NewMessage(role="user", content="one"))
    made.sync_here()
    return made


@pytest.fixture
def device(synced: Device, tmp_path: Path) -> Device:
    shutil.copytree(synced.folder, tmp_path / "remote")
    return synced.copy(tmp_path / "home", remote=tmp_path / "remote")


@pytest.fixture
def store(device: Device) -> Iterator[Store]:
    with device.store(write=True) as opened:
        yield opened


def at_home(store: Store, home: Home) -> dict[str, Finding]:
    return {each.name: each for each in around(store, home)}


def on_remote(home: Home) -> dict[str, Finding]:
    return {each.name: each for each in asyncio.run(far(home))}


def test_all_is_well_around_a_home_that_was_just_synced(device: Device, store: Store) -> None:
    found = {**at_home(store, device.home), **on_remote(device.home)}
    assert {"daemon", "files", "sync", "clock", "disk", "access", "remote", "key"} == set(found)
    assert [each for each in found.values() if not each.ok or each.advice] == []


def test_looking_writes_nothing(device: Device, store: Store, tmp_path: Path) -> None:
    def everything() -> dict[Path, bytes]:
        return {
            path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "steno.db" not in path.name
        }

    before, seq = everything(), store.last_seq
    at_home(store, device.home)
    on_remote(device.home)
    assert (everything(), store.last_seq) == (before, seq)


# on this machine


def test_a_daemon_that_does_not_answer_is_told(device: Device, store: Store) -> None:
    with ProcessLock(device.home.daemon_lock, task="the daemon"):
        found = at_home(store, device.home)["daemon"]
    assert (found.ok, str(os.getpid()) in found.what, "steno daemon stop" in found.advice) == (False, True, True)


def test_a_file_that_is_refused_is_named(device: Device, store: Store) -> None:
    mirror = Mirror(store, device.home.sessions)
    mirror.start()
    while mirror.write_pending() is not None:
        pass
    [file] = device.files()
    file.write_text(file.read_text() + "no JSON\n")
    mirror.saved([file])
    found = at_home(store, device.home)["files"]
    assert (found.ok, file.name in found.what, found.advice) == (False, True, "see `steno files status`")


def test_what_the_last_sync_met_is_told(device: Device, store: Store) -> None:
    store.execute("UPDATE sessions SET incomplete = 1")
    found = at_home(store, device.home)["sync"]
    assert (found.ok, found.what) == (False, "session s is incomplete: some of it has not arrived")


def test_what_waits_to_be_sent_is_no_fault(device: Device, store: Store) -> None:
    store.append("s", NewMessage(role="user", content="two"))
    found = at_home(store, device.home)["sync"]
    assert (found.ok, "wait to be sent" in found.what) == (True, True)


@pytest.mark.parametrize("now_ms", [0, 86_400_000, 9_000_000_000_000])
def test_a_clock_that_was_never_set_is_told(device: Device, now_ms: int) -> None:
    with Store(device.home.database, read_only=True, now_ms=lambda: now_ms) as store:
        found = at_home(store, device.home)["clock"]
    assert (found.ok, found.advice) == (False, "set it, then go on")


def test_a_stamp_that_is_far_ahead_is_said_and_is_no_fault(device: Device, store: Store) -> None:
    ahead = (store.now_ms() + 3_600_000) << COUNTER_BITS
    with store.transaction():
        store.follow(ahead)
    found = at_home(store, device.home)["clock"]
    assert (found.ok, "60 minutes ahead" in found.what, "clocks" in found.advice) == (True, True, True)


def test_a_home_that_others_may_read_is_told_with_the_command_that_closes_it(device: Device, store: Store) -> None:
    device.home.data.chmod(0o755)
    device.home.vault_file.chmod(0o644)
    found = at_home(store, device.home)["access"]
    assert (found.ok, found.count, found.advice) == (False, 2, f"run `chmod go= {device.home.data}`")


def test_in_a_directory_of_one_s_own_nobody_meets_an_open_file(device: Device, store: Store) -> None:
    device.home.vault_file.chmod(0o644)
    assert at_home(store, device.home)["access"].ok


def test_a_store_that_is_damaged_does_not_end_the_look(device: Device, store: Store) -> None:
    store.execute("DROP TABLE outbox")
    assert {"daemon", "disk", "access"} <= set(at_home(store, device.home))


# on the remote


def test_a_home_without_a_remote_is_well(tmp_path: Path) -> None:
    lonely = Device(tmp_path / "lonely").make()
    found = on_remote(lonely.home)
    assert (list(found), found["remote"].ok) == (["remote"], True)


def test_a_remote_that_is_not_there_is_told(device: Device, tmp_path: Path) -> None:
    (tmp_path / "remote").rename(tmp_path / "away")
    found = on_remote(device.home)
    assert (list(found), found["remote"].ok, bool(found["remote"].advice)) == (["remote"], False, True)


def test_another_vault_in_the_place_of_ours_is_told(device: Device, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "remote")
    Device(tmp_path / "other", remote=tmp_path / "remote").make(found=True)
    found = on_remote(device.home)["remote"]
    assert (found.ok, "this home belongs to vault" in found.what) == (False, True)


@pytest.mark.parametrize("folder", [DEVICES, LOG])
def test_a_key_that_does_not_open_what_lies_there_is_told(device: Device, tmp_path: Path, folder: str) -> None:
    other = Device(tmp_path / "other", remote=tmp_path / "elsewhere").make(found=True)
    other.here("create", "--title", "Other")
    for each in (device, other):
        if folder == DEVICES:
            each.here("sync")  # which says who it is as well
        else:
            each.sync_here()
    shutil.rmtree(tmp_path / "remote" / folder)
    shutil.copytree(tmp_path / "elsewhere" / folder, tmp_path / "remote" / folder)
    found = on_remote(device.home)["key"]
    assert (found.ok, "steno join URL" in found.advice) == (False, True)


def test_a_vault_that_no_passphrase_opens_is_told(device: Device, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "remote" / KEYS)
    found = on_remote(device.home)["key"]
    assert (found.ok, "steno vault passwd" in found.what) == (False, True)


def test_a_damaged_object_says_nothing_of_the_key(device: Device, tmp_path: Path) -> None:
    for torn in (tmp_path / "remote" / LOG).iterdir():
        torn.write_bytes(b"torn")
    found = on_remote(device.home)["key"]
    assert (found.ok, "nothing on the remote yet" in found.what) == (True, True)


def test_a_file_of_the_vault_that_cannot_be_read_is_told(device: Device) -> None:
    device.home.vault_file.write_text("{")
    found = on_remote(device.home)["key"]
    assert (found.ok, "is no vault file" in found.what) == (False, True)
