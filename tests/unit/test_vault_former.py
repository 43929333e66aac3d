"""Where what was purged may still lie on the remote: under ids that a home had before it became another device."""

from __future__ import annotations

import shutil

import pytest

from steno.storage.backup import backup
from steno.storage.purge import purge_session
from steno.storage.restore import restore
from steno.sync.vault.former import former_logs, unscrubbed
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.names import SegmentName
from steno.sync.vault.own_log import OwnLog
from steno.sync.vault.peers import EVERY_MS
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.seal import unpack, unseal
from steno.tests.unit.vaults import Device, Vault

SECRET = "the word that must go"


class Copied:
    """A home and its copy, which has become another device; both hold a session with a secret that the home sent."""

    def __init__(self, home: Device, copy: Device, *, session: str, kept: str) -> None:
        self.home, self.copy, self.session, self.kept = home, copy, session, kept
        self.ledger = Ledger(copy.store, copy.vault.id)


@pytest.fixture
async def copied(vault: Vault, laptop: Device) -> Copied:
    session = laptop.session(SECRET)
    kept = laptop.session("before")
    await laptop.sync()
    laptop.store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(laptop.store.path, vault.folder / "copy.db")
    copy = vault.device("copy")
    laptop.add(kept, "of the laptop")
    copy.add(kept, "of the copy")
    await laptop.sync()
    await copy.sync()
    assert copy.store.device != laptop.store.device
    return Copied(laptop, copy, session=session, kept=kept)


def said(vault: Vault) -> bytes:
    """All that stands in the objects of a vault, opened."""
    return b"".join(
        unpack(unseal(sealed, keyring=vault.keyring, vault_id=vault.id, name=name), name=name)
        for name, sealed in vault.remote.objects.items()
        if SegmentName.parse(name) is not None
    )


async def test_before_anything_is_purged_nothing_is_said(copied: Copied):
    assert former_logs(copied.ledger) == [copied.home.store.device]
    assert unscrubbed(copied.ledger) == []


async def test_what_was_sent_under_the_former_id_is_named_as_long_as_nobody_took_the_purge_out(
    copied: Copied, vault: Vault
):
    purge_session(copied.copy.store, copied.session)
    await copied.copy.sync()
    await copied.copy.engine.tend()
    assert SECRET.encode() in said(vault)
    assert unscrubbed(copied.ledger) == [copied.home.store.device]


async def test_it_is_named_no_more_when_the_home_that_has_the_id_took_it_out(copied: Copied, vault: Vault):
    purge_session(copied.copy.store, copied.session)
    for device in (copied.copy, copied.home):
        await device.sync()
        await device.engine.tend()
    assert SECRET.encode() not in said(vault)
    vault.clock_ms += EVERY_MS
    await copied.copy.engine.tend()
    assert unscrubbed(copied.ledger) == []


async def test_retiring_the_former_id_removes_what_was_sent_under_it_and_loses_nothing(
    copied: Copied, vault: Vault, desktop: Device
):
    purge_session(copied.copy.store, copied.session)
    await copied.copy.sync()
    await copied.copy.engine.retire(copied.home.store.device)
    assert SECRET.encode() not in said(vault)
    assert unscrubbed(copied.ledger) == former_logs(copied.ledger) == []
    await desktop.sync()
    assert desktop.everything() == copied.copy.everything()
    assert sorted(desktop.contents(copied.kept)) == ["before", "of the copy", "of the laptop"]


async def test_a_restored_home_joins_nothing_that_it_sent_under_its_former_id(vault: Vault, laptop: Device):
    session = laptop.session()
    for at in range(40):
        laptop.add(session, str(at))
        await laptop.engine.push()
    former, before = laptop.store.device, vault.log()
    backup(laptop.store, vault.folder / "backup.db")
    restore(vault.folder / "backup.db", vault.folder / "restored.db", backups=vault.folder)
    restored = vault.device("restored")
    assert restored.store.former_devices == [former]
    for at in range(40):
        restored.add(session, f"again {at}")
        await restored.sync()
    for _ in range(2):
        await restored.engine.tend()
        vault.clock_ms += GRACE_MS + 1
    assert [name for name in vault.log() if former in name] == before
    assert len(vault.log()) < len(before) + 40


async def test_nothing_that_was_sent_under_a_former_id_stands_for_what_is_lost(vault: Vault, laptop: Device):
    session = laptop.session("before")
    await laptop.sync()
    backup(laptop.store, vault.folder / "backup.db")
    restore(vault.folder / "backup.db", vault.folder / "restored.db", backups=vault.folder)
    restored = vault.device("restored")
    restored.add(session, "since")
    await restored.sync()
    [name] = [name for name in map(SegmentName.parse, vault.log()) if name and name.device == restored.store.device]
    assert not OwnLog(Ledger(restored.store, vault.id)).let_go(name)


async def test_what_another_store_joined_under_the_new_id_replaces_nothing_of_the_former(vault: Vault, laptop: Device):
    laptop.session("before")
    await laptop.sync()
    backup(laptop.store, vault.folder / "backup.db")
    restore(vault.folder / "backup.db", vault.folder / "restored.db", backups=vault.folder)
    restored = vault.device("restored")
    log = OwnLog(Ledger(restored.store, vault.id))
    log.adopt(SegmentName(restored.store.device, 1, 5, 1, "randomrandom"), 0, None, listed=vault.log())
    assert log.to_delete(before_ms=vault.now()) == []
