"""Who has not yet taken out of their log what was purged here: named, as long as it is so and no longer."""

from __future__ import annotations

import pytest

from steno.storage.backup import backup
from steno.storage.purge import purge_session
from steno.storage.restore import restore
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.names import SegmentName
from steno.sync.vault.peers import EVERY_MS, STRANGER_MS, unscrubbed
from steno.sync.vault.seal import unpack, unseal
from steno.tests.unit.vaults import Device, Vault

SECRET = "the word that must go"


def said(vault: Vault) -> bytes:
    """All that stands in the segments of a vault, opened."""
    return b"".join(
        unpack(unseal(sealed, keyring=vault.keyring, vault_id=vault.id, name=name), name=name)
        for name, sealed in vault.remote.objects.items()
        if SegmentName.parse(name) is not None
    )


def named(device: Device) -> list[str]:
    """Whom the status of a device names."""
    return unscrubbed(Ledger(device.store, device.vault.id))


async def tended(device: Device) -> None:
    await device.sync()
    await device.engine.tend()


@pytest.fixture
async def session(laptop: Device, desktop: Device) -> str:
    """A session in which both wrote, the desktop a secret, and of which both know all."""
    made = laptop.session("of the laptop")
    await tended(laptop)
    await desktop.sync()
    desktop.add(made, SECRET)
    await tended(desktop)
    await tended(laptop)
    return made


async def test_before_anything_is_purged_nobody_is_named(laptop: Device, session: str):
    assert laptop.contents(session)
    assert named(laptop) == []


async def test_a_device_that_has_not_synced_since_a_purge_is_named(
    vault: Vault, laptop: Device, desktop: Device, session: str
):
    purge_session(laptop.store, session)
    await tended(laptop)
    assert SECRET.encode() in said(vault)
    assert named(laptop) == [desktop.store.device]


async def test_it_is_named_no_more_soon_after_it_synced(vault: Vault, laptop: Device, desktop: Device, session: str):
    purge_session(laptop.store, session)
    await tended(laptop)
    await tended(desktop)
    vault.clock_ms += 2 * STRANGER_MS
    await tended(laptop)
    assert SECRET.encode() not in said(vault)
    assert named(laptop) == []


async def test_a_day_later_everybody_still_is_not_named(vault: Vault, laptop: Device, desktop: Device, session: str):
    purge_session(laptop.store, session)
    for _ in range(3):
        await tended(laptop)
        await tended(desktop)
        vault.clock_ms += EVERY_MS
    assert (named(laptop), named(desktop)) == ([], [])


async def test_a_device_that_only_reads_is_not_named(vault: Vault, laptop: Device, session: str):
    reader = vault.device("reader")
    await tended(reader)
    purge_session(laptop.store, session)
    await tended(laptop)
    assert reader.store.device not in named(laptop)


async def test_what_was_never_sent_and_is_purged_names_nobody(laptop: Device, session: str):
    kept_here = laptop.session("of nobody else", local_only=True)
    purge_session(laptop.store, kept_here)
    laptop.add(session, "more")
    await tended(laptop)
    assert named(laptop) == []


async def test_two_that_purge_the_same_at_once_do_not_name_each_other_for_long(
    vault: Vault, laptop: Device, desktop: Device, session: str
):
    for device in (laptop, desktop):
        purge_session(device.store, session)
    for _ in range(3):
        for device in (laptop, desktop):
            await tended(device)
        vault.clock_ms += 4 * STRANGER_MS
    assert (named(laptop), named(desktop)) == ([], [])


async def test_a_device_that_is_retired_is_not_named(laptop: Device, desktop: Device, session: str):
    purge_session(laptop.store, session)
    await tended(laptop)
    await laptop.engine.retire(desktop.store.device)
    assert named(laptop) == []


async def test_a_device_that_read_of_the_purge_and_could_not_take_it_out_is_named(
    vault: Vault, laptop: Device, desktop: Device, session: str
):
    purge_session(laptop.store, session)
    await tended(laptop)
    [held] = [name for name in vault.log() if desktop.store.device in name]
    whole, vault.remote.objects[held] = vault.remote.objects[held], b"damaged"
    vault.clock_ms += EVERY_MS
    await tended(desktop)
    await tended(laptop)
    assert named(laptop) == [desktop.store.device]
    vault.remote.objects[held] = whole
    await tended(desktop)
    vault.clock_ms += 2 * STRANGER_MS
    await tended(laptop)
    assert named(laptop) == []


async def test_a_home_that_was_restored_after_a_purge_names_nobody_by_numbers_of_its_former_log(
    vault: Vault, laptop: Device, desktop: Device, session: str
):
    purge_session(laptop.store, session)
    await tended(laptop)
    await tended(desktop)
    backup(laptop.store, vault.folder / "backup.db")
    restore(vault.folder / "backup.db", vault.folder / "restored.db", backups=vault.folder)
    restored = vault.device("restored")
    restored.session("anew")
    await tended(restored)
    assert restored.store.device != laptop.store.device
    assert named(restored) == []


async def test_a_purge_costs_those_who_read_of_it_one_record(laptop: Device, desktop: Device, session: str):
    purge_session(laptop.store, session)
    await tended(laptop)
    await desktop.sync()
    desktop.asked()
    await desktop.engine.tend()
    assert desktop.asked() == {"list": 1, "put": 1, "delete": 1}
    await desktop.engine.tend()
    assert desktop.asked() == {}


async def test_what_is_written_in_a_later_life_of_a_purged_id_costs_no_record(
    laptop: Device, desktop: Device, session: str
):
    purge_session(laptop.store, session)
    await tended(laptop)
    await tended(desktop)
    laptop.store.create(id=session)
    await tended(laptop)
    laptop.add(session, "anew")
    await tended(laptop)
    await desktop.sync()
    assert desktop.contents(session) == ["anew"]
    desktop.asked()
    await desktop.engine.tend()
    assert desktop.asked() == {}


async def test_who_stays_away_is_looked_for_ever_more_seldom(
    vault: Vault, laptop: Device, desktop: Device, session: str
):
    purge_session(laptop.store, session)
    await tended(laptop)
    laptop.asked()
    for _ in range(1000):
        vault.clock_ms += STRANGER_MS
        await laptop.engine.tend()
    assert named(laptop) == [desktop.store.device]
    assert laptop.asked()["list"] < 30
