"""A store that finds what it did not write under its own id: it catches up, or goes on as another device."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from steno.storage.purge import purge_session
from steno.sync.vault import compaction
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import SegmentName
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.vault import found_vault
from steno.tests.unit.vaults import Device, Vault


@pytest.fixture
async def vault(tmp_path: Path) -> Any:
    remote = MemoryRemote()
    draw = random.Random(0).randbytes
    id_, keyring = await found_vault(remote, passphrase="p", draw=draw, cost=MINIMUM_COST, derive=derive)
    made = Vault(id_, keyring, remote, tmp_path)
    yield made
    for device in made.devices:
        device.store.close()


def copied(vault: Vault, device: Device, name: str) -> Device:
    device.store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(device.store.path, vault.folder / f"{name}.db")
    return vault.device(name)


async def end_equal(*devices: Device) -> None:
    for device in [*devices, *devices, *devices]:
        assert (await device.sync()).complete
    assert all(device.everything() == devices[0].everything() for device in devices)


async def test_a_copy_says_once_that_it_goes_on_as_another_device(
    laptop: Device, vault: Vault, caplog: pytest.LogCaptureFixture
):
    laptop.session("before")
    await laptop.sync()
    copy = copied(vault, laptop, "copy")
    for device in (laptop, copy):
        device.session("of this one")
        report = await device.sync()
    assert len(report.notes) == 1
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []  # a command prints it as well


@pytest.mark.fault(9)
async def test_a_copy_that_wrote_as_well_goes_on_as_another_device(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    copy = copied(vault, laptop, "copy")
    laptop.add(session, "of the laptop")
    copy.add(session, "of the copy")
    await laptop.sync()
    report = await copy.sync()
    assert len(report.notes) == 1
    assert copy.store.device in report.notes[0]
    assert copy.store.device != laptop.store.device
    await end_equal(laptop, copy, desktop)
    assert sorted(desktop.contents(session)) == ["before", "of the copy", "of the laptop"]
    assert [SegmentName.parse(name).first for name in vault.log() if copy.store.device in name] == [1]  # pyright: ignore[reportOptionalMemberAccess]


async def test_it_is_said_once(laptop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    copy = copied(vault, laptop, "copy")
    laptop.add(session, "of the laptop")
    copy.add(session, "of the copy")
    await laptop.sync()
    await copy.sync()
    assert (await copy.sync()).notes == (await laptop.sync()).notes == []


@pytest.mark.fault(9)
async def test_where_a_number_was_given_twice_both_publish_anew(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("before", title="Before")
    await laptop.sync()
    copy = copied(vault, laptop, "copy")
    for device, title in ((laptop, "Laptop"), (copy, "Copy")):
        device.add(session, f"of {title}")
        device.store.update(session, fields={"title": title})
        await device.engine.push()
    await end_equal(laptop, copy, desktop)
    assert sorted(desktop.contents(session)) == ["before", "of Copy", "of Laptop"]
    assert desktop.store.one("SELECT count(*) FROM registers WHERE path = 'title' AND conflict")[0] == 1
    assert len({device.store.device for device in vault.devices}) == 3


@pytest.mark.fault(10)
async def test_an_older_copy_catches_up_and_its_next_number_is_behind(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    older = copied(vault, laptop, "older")
    for each in ("two", "three"):
        laptop.add(session, each)
        await laptop.sync()
    report = await older.sync()
    assert "it catches up" in report.notes[0]
    assert older.contents(session) == ["before", "two", "three"]
    older.add(session, "four")
    await older.sync()
    assert older.store.device == laptop.store.device
    assert [SegmentName.parse(name).last for name in vault.log()] == [1, 2, 3, 4]  # pyright: ignore[reportOptionalMemberAccess]
    await end_equal(older, desktop)


async def _rewritten(laptop: Device, session: str) -> None:
    for at in range(8):
        laptop.add(session, str(at))
        await laptop.sync()
    await laptop.engine.tend()


async def test_an_older_copy_catches_up_with_segments_that_were_written_again(laptop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    older = copied(vault, laptop, "older")
    await _rewritten(laptop, session)
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert (await older.sync()).complete
    assert older.everything() == laptop.everything()
    assert older.store.device == laptop.store.device
    assert (await older.engine.tend()).complete


async def test_what_was_only_written_again_is_no_other_stores(laptop: Device, vault: Vault):
    session = laptop.session("before")
    for at in range(8):
        laptop.add(session, str(at))
        await laptop.sync()
    copy = copied(vault, laptop, "copy")
    await laptop.engine.tend()
    copy.add(session, "of the copy")
    report = await copy.sync()
    assert report.complete
    assert report.notes == []
    assert copy.store.device == laptop.store.device


async def test_nothing_is_given_a_number_while_another_stores_object_does_not_open(laptop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    copy = copied(vault, laptop, "copy")
    laptop.add(session, "of the laptop")
    await laptop.sync()
    last = vault.log()[-1]
    whole, vault.remote.objects[last] = vault.remote.objects[last], b"torn"
    report = await copy.sync()
    assert [problem for problem in report.problems if last in problem]
    copy.add(session, "of the copy")
    await copy.engine.push()
    assert vault.log()[-1] == last
    vault.remote.objects[last] = whole
    vault.clock_ms += 3_600_000
    await end_equal(copy, laptop)
    assert sorted(laptop.contents(session)) == ["before", "of the copy", "of the laptop"]


async def test_what_stands_for_ours_and_does_not_open_stops_sending_for_a_while_only(laptop: Device, vault: Vault):
    """Whoever has read it passes over what we write again of those numbers: they are published under a new id."""
    session = laptop.session("before")
    for at in range(3):
        laptop.add(session, str(at))
        await laptop.sync()
    former = laptop.store.device
    junk = SegmentName(former, 1, 3, 1, "junkjunkjunk").path
    vault.remote.objects[junk] = b"junk"
    laptop.add(session, "written later")
    report = await laptop.sync()
    assert [problem for problem in report.problems if junk in problem]
    assert len(vault.log()) == 4
    vault.clock_ms += WAIT_MS
    report = await laptop.sync()
    assert laptop.store.device != former
    fresh = vault.device("fresh")
    await fresh.sync()
    assert fresh.contents(session) == ["before", "0", "1", "2", "written later"]


@pytest.mark.fault(16)
async def test_it_stops_sending_no_longer_where_the_clock_was_ahead(laptop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    junk = SegmentName(laptop.store.device, 1, 1, 1, "junkjunkjunk").path
    vault.remote.objects[junk] = b"junk"
    vault.clock_ms += 9 * 24 * WAIT_MS
    await laptop.sync()
    vault.clock_ms -= 9 * 24 * WAIT_MS
    laptop.add(session, "written later")
    for _ in range(2):
        await laptop.sync()
        vault.clock_ms += WAIT_MS
    await laptop.sync()
    assert laptop.store.device not in junk
    assert (await laptop.sync()).sent_segments == 0
    fresh = vault.device("fresh")
    await fresh.sync()
    assert fresh.contents(session) == ["before", "written later"]


async def test_what_did_not_open_once_and_opens_now_is_no_other_stores(laptop: Device, vault: Vault):
    session = laptop.session("before")
    for at in range(8):
        laptop.add(session, str(at))
        await laptop.sync()
    copy = copied(vault, laptop, "copy")
    await laptop.engine.tend()
    [name] = [name for name in vault.log() if ".1." in name]
    whole, vault.remote.objects[name] = vault.remote.objects[name], b"torn"
    assert not (await copy.sync()).complete
    vault.remote.objects[name] = whole
    vault.clock_ms += WAIT_MS
    copy.add(session, "of the copy")
    assert (await copy.sync()).complete
    assert copy.store.device == laptop.store.device


async def test_a_copy_of_a_store_that_never_published_goes_on_as_another_device(laptop: Device, vault: Vault):
    session = laptop.session("before")
    copy = copied(vault, laptop, "copy")
    await laptop.sync()
    copy.add(session, "of the copy")
    await end_equal(copy, laptop)
    assert laptop.contents(session) == ["before", "of the copy"]


async def test_what_was_known_of_the_log_at_the_fork_is_known_of_it_as_of_anybodys(laptop: Device, vault: Vault):
    session = laptop.session("before")
    await laptop.sync()
    copy = copied(vault, laptop, "copy")
    former = copy.store.device
    laptop.add(session, "of the laptop")
    copy.add(session, "of the copy")
    await laptop.sync()
    await copy.sync()
    ledger = Ledger(copy.store, vault.id)
    assert ledger.cursor().of(former).spans == ((1, 2),)
    assert copy.asked().get("get", 0) == 2  # vault.json, and what the other store wrote


async def test_a_home_that_was_put_back_rewrites_nothing_before_all_of_its_log_is_taken_up(
    vault: Vault, laptop: Device, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compaction, "FAN_IN", 3)
    monkeypatch.setattr(compaction, "GROWTH", 1)
    copy = copied(vault, laptop, "copy")
    session = laptop.session("first")
    await laptop.sync()
    laptop.add(session, "second")
    await laptop.sync()
    purge_session(laptop.store, session)
    await laptop.sync()
    await laptop.engine.tend()
    await copy.sync()
    await copy.engine.tend()
    report = await copy.sync()
    assert report.problems == []
    copy.session("last")
    assert (await copy.sync()).complete
