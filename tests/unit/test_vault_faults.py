"""Faults of a vault as `tests/faults.md` lists them, where no other test of the engine shows the whole row."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from steno.storage.change import VERSION
from steno.storage.conflicts import conflicts
from steno.storage.errors import InvalidInput, NoVault, ObjectDamaged, OtherVault
from steno.storage.home import Home
from steno.storage.model import parse_time
from steno.storage.purge import purge_message, purge_session
from steno.storage.store import Store
from steno.sync.vault.compaction import MOST
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.ledger import standing
from steno.sync.vault.membership import make_vault
from steno.sync.vault.names import DEVICES, VAULT, DeviceName, SegmentName
from steno.sync.vault.peers import EVERY_MS
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.seal import SALT_BYTES, pack, seal
from steno.sync.vault.vault import vault_json
from steno.tests.simulation.test_stores_converge import state
from steno.tests.unit.vaults import Device, Vault

from .test_vault_engine_keys import Device as AtHome

DAY_MS = 86_400_000


def _sealed(vault: Vault, name: str, content: bytes) -> None:
    vault.remote.objects[name] = seal(
        pack(content), key=vault.keyring.current, vault_id=vault.id, name=name, salt=b"s" * SALT_BYTES
    )


def _records(vault: Vault) -> list[str]:
    return sorted(name for name in vault.remote.objects if name.startswith(DEVICES))


# What is gone


@pytest.mark.fault(14)
def test_an_empty_directory_in_the_place_of_a_folder_gets_nothing_from_an_engine_that_runs_on(tmp_path: Path):
    home = Home(tmp_path / "a", tmp_path / "a")
    url = str(tmp_path / "remote")
    asyncio.run(make_vault(home, url, passphrase="of a test", made=str, draw=os.urandom, cost=MINIMUM_COST))
    device = AtHome(home.data)
    device.store.create(id="s")
    device.sync()
    away = device.folder.rename(tmp_path / "away")
    device.folder.mkdir()
    device.add("s", "meanwhile")
    with pytest.raises(NoVault):
        asyncio.run(device.engine.push())
    assert list(device.folder.iterdir()) == []
    device.folder.rmdir()
    away.rename(device.folder)
    assert asyncio.run(device.engine.push()).sent_segments == 1
    device.store.close()


def test_another_vault_in_the_place_of_a_folder_gets_nothing_from_an_engine_that_runs_on(tmp_path: Path):
    home = Home(tmp_path / "a", tmp_path / "a")
    url = str(tmp_path / "remote")
    asyncio.run(make_vault(home, url, passphrase="of a test", made=str, draw=os.urandom, cost=MINIMUM_COST))
    device = AtHome(home.data)
    device.store.create(id="s")
    device.sync()
    device.folder.rename(tmp_path / "away")
    device.folder.mkdir()
    (device.folder / VAULT).write_bytes(vault_json("othervault00"))
    device.add("s", "meanwhile")
    with pytest.raises(OtherVault):
        asyncio.run(device.engine.push())
    assert [path.name for path in device.folder.iterdir()] == [VAULT]
    device.store.close()


# What is said


@pytest.mark.fault(6, 8, 11)
async def test_what_the_last_look_left_to_be_said_is_kept_until_it_is_over(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await laptop.sync()
    laptop.add(session, "two")
    await laptop.sync()
    name = vault.log()[0]
    kept = vault.remote.objects.pop(name)
    report = await desktop.sync()
    assert report.problems
    desktop.restart()
    assert standing(desktop.store, vault.id).problems == report.problems
    vault.remote.objects[name] = kept
    assert (await desktop.sync()).problems == []
    assert standing(desktop.store, vault.id).problems == []


@pytest.mark.fault(40)
async def test_a_conflicted_copy_is_passed_over_and_told(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    (name,) = vault.log()
    copy = f"{name} (conflicted copy \u202e)"
    vault.remote.objects[copy] = vault.remote.objects[name]
    report = await desktop.sync()
    assert report.complete
    assert report.notes == [f"a name that is none of ours is on the remote and passed over ({copy!a})"]
    assert standing(desktop.store, vault.id).notes == report.notes
    assert desktop.contents(session) == ["one"]
    del vault.remote.objects[copy]
    assert (await desktop.sync()).notes == []


# What is damaged


@pytest.mark.fault(7)
async def test_a_vault_json_that_rotted_is_put_back_by_a_repair(vault: Vault, laptop: Device):
    laptop.session("one")
    await laptop.sync()
    whole = vault.remote.objects[VAULT]
    vault.remote.objects[VAULT] = bytes([whole[0] ^ 1]) + whole[1:]
    laptop.restart()
    with pytest.raises(ObjectDamaged):
        await laptop.sync()
    assert (await laptop.engine.repair()).problems == []
    assert vault.remote.objects[VAULT] == whole


@pytest.mark.fault(7)
async def test_a_device_record_that_rotted_is_found_and_written_anew_by_its_owner(
    vault: Vault, laptop: Device, desktop: Device
):
    laptop.session("one")
    await laptop.sync()
    await laptop.engine.tend()
    [name] = _records(vault)
    vault.remote.objects[name] = vault.remote.objects[name][:-1] + b"?"
    assert (await desktop.sync()).problems == []
    assert list((await desktop.engine.inspect()).damaged) == [name]
    await laptop.engine.repair()
    assert _records(vault) != [name]
    assert (await desktop.engine.inspect()).damaged == {}


# A remote that lost its log


@pytest.mark.fault(12)
async def test_a_new_device_is_told_of_what_others_have_and_the_remote_has_not(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    await desktop.engine.tend()
    for name in vault.log():
        del vault.remote.objects[name]
    fresh = vault.device("fresh")
    assert (await fresh.sync()).received_segments == 0
    report = await fresh.engine.tend()
    assert [laptop.store.device in problem for problem in report.problems] == [True]
    assert not report.complete
    await laptop.engine.repair()
    assert (await fresh.sync()).problems == []
    assert fresh.contents(session) == ["one"]


async def test_what_came_after_the_last_look_is_not_called_lost(vault: Vault, laptop: Device, desktop: Device):
    fresh = vault.device("fresh")
    await fresh.sync()
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    await desktop.engine.tend()
    assert (await fresh.engine.tend()).problems == []


# Clocks


class Skewed:
    """A device whose clock is not that of the others."""

    def __init__(self, vault: Vault, name: str) -> None:
        self.ahead_ms = 0
        self.device = vault.device(name)
        self.device.store.close()
        self.device.store = Store(vault.folder / f"{name}.db", now_ms=lambda: vault.now() + self.ahead_ms)
        self.device.restart()


@pytest.mark.fault(16)
async def test_what_did_not_open_while_the_clock_was_ahead_is_tried_again_when_it_is_right(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await laptop.sync()
    [name] = vault.log()
    whole, vault.remote.objects[name] = vault.remote.objects[name], b"torn"
    vault.clock_ms += 9 * DAY_MS
    await desktop.sync()
    vault.clock_ms -= 9 * DAY_MS
    vault.remote.objects[name] = whole
    for _ in range(3):
        vault.clock_ms += 10_000
        await desktop.sync()
    assert desktop.contents(session) == ["one"]


@pytest.mark.fault(16)
async def test_what_was_lost_while_the_clock_was_ahead_is_healed_in_time(vault: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    [name] = vault.log()
    vault.clock_ms += 9 * DAY_MS
    del vault.remote.objects[name]
    await desktop.sync()
    vault.clock_ms -= 9 * DAY_MS
    for _ in range(4):
        await desktop.sync()
        vault.clock_ms += WAIT_MS
    assert (await desktop.sync()).complete
    assert vault.log() != []


@pytest.mark.fault(16)
async def test_a_clock_that_is_days_ahead_for_a_minute_wins_nothing_for_ever(vault: Vault, desktop: Device):
    skewed = Skewed(vault, "laptop")
    laptop = skewed.device
    session = laptop.session("before", title="before")
    await laptop.sync()
    await desktop.sync()
    skewed.ahead_ms = 9 * DAY_MS
    laptop.store.update(session, fields={"title": "ahead"})
    await laptop.sync()
    skewed.ahead_ms = 0
    laptop.store.update(session, fields={"title": "after"})
    laptop.add(session, "after")
    await laptop.sync()
    await desktop.sync()
    assert desktop.store.get(session).title == "after"
    desktop.store.update(session, fields={"title": "of the desktop"})
    desktop.add(session, "of the desktop")
    await desktop.sync()
    await laptop.sync()
    assert state(laptop.store) == state(desktop.store)
    assert laptop.store.get(session).title == "of the desktop"
    assert laptop.contents(session) == ["before", "after", "of the desktop"]
    assert list(conflicts(laptop.store)) == []
    shown = [parse_time(message.timestamp) for message in desktop.store.messages(session)]
    assert shown == sorted(shown)
    assert shown[-1] <= vault.clock_ms


@pytest.mark.fault(17)
async def test_a_clock_that_falls_back_to_1970_writes_on_in_order(vault: Vault, desktop: Device):
    skewed = Skewed(vault, "laptop")
    laptop = skewed.device
    session = laptop.session("before", title="before")
    await laptop.sync()
    await desktop.sync()
    desktop.store.update(session, fields={"title": "of the desktop"})
    await desktop.sync()
    await laptop.sync()
    skewed.ahead_ms = 1_000 - vault.clock_ms
    laptop.store.update(session, fields={"title": "later, in 1970"})
    laptop.add(session, "later, in 1970")
    await laptop.sync()
    await desktop.sync()
    assert desktop.store.get(session).title == "later, in 1970"
    assert desktop.contents(session) == ["before", "later, in 1970"]
    assert state(laptop.store) == state(desktop.store)


@pytest.mark.fault(20)
async def test_one_field_that_is_written_here_and_then_there_is_no_conflict(laptop: Device, desktop: Device):
    session = laptop.session("one", title="first")
    for writer, reader, title in ((laptop, desktop, "second"), (desktop, laptop, "third"), (laptop, desktop, "last")):
        await writer.sync()
        writer.store.update(session, fields={"title": title})
        await writer.sync()
        await reader.sync()
    for device in (laptop, desktop):
        assert list(conflicts(device.store)) == []
        assert device.store.get(session).title == "last"


# Away for long


@pytest.mark.fault(36)
async def test_who_was_away_for_a_year_reads_what_was_rewritten_and_keeps_what_it_wrote(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("first", title="T")
    await laptop.sync()
    await desktop.sync()
    desktop.add(session, "written offline")
    desktop.store.update(session, fields={"title": "of the desktop"})
    purged = laptop.session("secret")
    for number in range(40):
        laptop.add(session, str(number))
        await laptop.engine.push()
    purge_session(laptop.store, purged)
    vault.clock_ms += 365 * DAY_MS
    await laptop.sync()
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert len(vault.log()) <= MOST
    report = await desktop.sync()
    assert report.problems == []
    await desktop.engine.tend()
    await laptop.sync()
    assert state(laptop.store) == state(desktop.store)
    assert {"first", "39", "written offline"} <= set(desktop.contents(session))
    assert len(desktop.contents(session)) == 42
    assert laptop.store.get(session).title == "of the desktop"


@pytest.mark.fault(36)
async def test_two_devices_that_tidy_up_at_once_touch_each_other_nowhere(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("first")
    await laptop.sync()
    await desktop.sync()
    for number in range(20):
        for device in (laptop, desktop):
            device.add(session, str(number))
            await device.engine.push()
    for _ in range(2):
        for device in (laptop, desktop):
            await device.engine.tend()
        vault.clock_ms += GRACE_MS + 1
    for device in (laptop, desktop):
        own = [name for name in map(SegmentName.parse, vault.log()) if name and name.device == device.store.device]
        assert [own[0].first, own[-1].last] == [1, 21 if device is laptop else 20]
    fresh = vault.device("fresh")
    for device in (laptop, desktop, fresh):
        assert (await device.sync()).problems == []
    assert len(fresh.contents(session)) == 41
    assert state(fresh.store) == state(laptop.store) == state(desktop.store)


# Other versions


def _demand(vault: Vault, needs: int) -> None:
    record = {
        "steno_device": 1, "name": "newer", "platform": "linux", "version": "9", "written_ms": 1,
        "applied": {}, "retired": {}, "needs": needs, "colour": "blue",
    }  # fmt: skip
    _sealed(vault, DeviceName("newernewer00", 1).path, msgspec.json.encode(record))


@pytest.mark.fault(43)
async def test_a_least_version_that_the_vault_names_stops_an_older_program_from_writing(
    vault: Vault, laptop: Device, desktop: Device
):
    session = desktop.session("one")
    await desktop.sync()
    _demand(vault, VERSION + 1)
    await laptop.sync()
    await laptop.engine.tend()
    laptop.session("mine")
    before = dict(vault.remote.objects)
    for engine in (laptop.engine, _restarted(laptop)):
        report = await engine.sync()
        assert report.sent_segments == 0
        assert any("upgrade steno" in problem for problem in report.problems)
        await engine.push()
        await engine.tend()
    assert vault.remote.objects == before
    assert laptop.contents(session) == ["one"]
    _sealed(vault, DeviceName("newernewer00", 2).path, _plain(vault))
    vault.clock_ms += EVERY_MS
    await laptop.engine.tend()
    assert (await laptop.sync()).sent_segments == 1


@pytest.mark.fault(43)
@pytest.mark.parametrize("what", ["repair", "retire"])
async def test_a_least_version_that_the_vault_names_stops_also_who_would_publish_what_others_wrote(
    vault: Vault, laptop: Device, desktop: Device, what: str
):
    desktop.session("one")
    await desktop.sync()
    await laptop.sync()
    _demand(vault, VERSION + 1)
    await laptop.engine.tend()
    if what == "repair":
        vault.remote.objects.pop(vault.log()[0])
    before = dict(vault.remote.objects)
    with pytest.raises(InvalidInput, match="upgrade steno"):
        await (laptop.engine.repair() if what == "repair" else laptop.engine.retire(desktop.store.device))
    assert vault.remote.objects == before


def _restarted(device: Device) -> VaultEngine:
    device.restart()
    return device.engine


def _plain(vault: Vault) -> bytes:
    return msgspec.json.encode(
        {"steno_device": 1, "name": "newer", "platform": "linux", "version": "9", "written_ms": 1}
    )


@pytest.mark.fault(43)
async def test_a_version_that_is_not_above_ours_stops_nothing(vault: Vault, laptop: Device):
    _demand(vault, VERSION)
    await laptop.engine.tend()
    laptop.session("mine")
    assert (await laptop.sync()).sent_segments == 1


@pytest.mark.fault(28, 43)
async def test_what_a_later_version_published_waits_and_is_never_rewritten(
    vault: Vault, laptop: Device, desktop: Device
):
    """A program that was put back to an older version meets even its own segments of the later one."""
    session = laptop.session("one")
    for number in range(12):
        laptop.add(session, str(number))
        await laptop.engine.push()
    later = vault.log()[3]
    content = msgspec.msgpack.encode((VERSION + 1, {}, [], {}, "what nobody knows yet"))
    _sealed(vault, later, content)
    kept = vault.remote.objects[later]
    report = await desktop.sync()
    assert [later in problem and "newer version" in problem for problem in report.problems] == [True]
    assert not report.complete
    for _ in range(2):
        report = await laptop.engine.tend()
        vault.clock_ms += GRACE_MS + 1
    assert any(later in problem for problem in report.problems)
    assert vault.remote.objects[later] == kept
    laptop.add(session, "goes on")
    await laptop.sync()
    await desktop.sync()
    assert desktop.contents(session)[-1] == "goes on"


@pytest.mark.parametrize("letter", ["0", "z"])  # which of the two is met first
async def test_what_does_not_open_and_brings_nothing_is_no_problem_any_more(
    vault: Vault, laptop: Device, desktop: Device, letter: str
):
    session = laptop.session("first", "second")
    await laptop.sync()
    purge_message(laptop.store, session, next(iter(laptop.store.messages(session))).id)
    await laptop.sync()
    [first, *_] = laptop.engine._log.standing()
    name = SegmentName.parse(first.name)
    assert name is not None
    assert name.level, "of level 0 everything is read"
    other = msgspec.structs.replace(name, random=letter * len(name.random))
    vault.remote.objects[other.path] = b"it does not open"
    reports = [await desktop.sync() for _ in range(3)]
    assert desktop.contents(session) == ["second"]
    assert reports[-1].problems == []
