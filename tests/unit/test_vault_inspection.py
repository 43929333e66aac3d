"""Looking through a remote: what is gone from it is named as well as what does not open, and nothing is written."""

from __future__ import annotations

import pytest

from steno.sync.vault.names import KeyName
from steno.tests.unit.vaults import Device, Vault


@pytest.fixture
def named(vault: Vault) -> Vault:
    """A vault with a key that some passphrase opens."""
    vault.remote.objects[KeyName(1, "randomrandom").path] = b"a key"
    return vault


@pytest.mark.fault(8)
async def test_what_is_gone_is_named_by_who_knew_it(named: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    [name] = named.log()
    del named.remote.objects[name]
    [said] = (await desktop.engine.inspect()).missing
    assert name in said


@pytest.mark.fault(8)
async def test_a_hole_in_a_log_is_named_by_who_never_read_it(named: Vault, laptop: Device, desktop: Device):
    for text in ("one", "two"):
        laptop.session(text)
        await laptop.sync()
    del named.remote.objects[named.log()[0]]
    assert (await desktop.engine.inspect()).missing == [
        f"publications 1-1 of device {laptop.store.device} are not on the remote"
    ]


async def test_what_is_not_taken_in_yet_is_not_missing(named: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    assert (await desktop.engine.inspect()).missing == []


@pytest.mark.fault(8)
async def test_a_vault_that_no_passphrase_opens_is_told(vault: Vault, laptop: Device):
    laptop.session("one")
    await laptop.sync()
    [said] = (await laptop.engine.inspect()).missing
    assert "`steno vault passwd`" in said


@pytest.mark.fault(12)
async def test_a_repair_says_that_the_passphrase_went_with_the_rest(named: Vault, laptop: Device):
    laptop.session("one")
    await laptop.sync()
    named.remote.objects.clear()
    _, said = (await laptop.engine.repair()).notes
    assert "`steno vault passwd`" in said


async def test_nothing_is_written_by_looking(named: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    before, stands = dict(named.remote.objects), desktop.store.connection.total_changes
    await desktop.engine.inspect()
    assert (named.remote.objects, desktop.store.connection.total_changes) == (before, stands)
