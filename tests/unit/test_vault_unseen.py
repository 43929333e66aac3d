"""A PUT that something else than the remote answered: the next listing tells, and it is put again."""

from __future__ import annotations

import pytest

from steno.storage.errors import RemoteRefused, RemoteUnreachable, StenoError
from steno.storage.purge import purge_session
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.seal import unpack, unseal
from steno.sync.vault.unseen import MOST_TIMES
from steno.tests.unit.vaults import Device, Vault

SECRET = "the word that must go"


@pytest.fixture
async def portal(laptop: Device, vault: Vault) -> str:
    """A session of which the second message was taken by a page of a network, which keeps nothing."""
    session = laptop.session("before")
    await laptop.sync()
    laptop.add(session, "swallowed")
    before = dict(vault.remote.objects)
    report = await laptop.engine.push()
    assert report.sent_segments == 1
    for name in [*vault.remote.objects]:
        if name not in before:
            del vault.remote.objects[name]
    laptop.asked()
    return session


@pytest.mark.fault(32)
async def test_it_is_put_again_with_the_next_listing_and_nothing_is_reported(
    portal: str, laptop: Device, desktop: Device
):
    report = await laptop.engine.pull()
    assert laptop.asked() == {"list": 1, "get": 1, "put": 1}, "vault.json is looked at first"
    assert report.complete
    await desktop.sync()
    assert desktop.contents(portal) == ["before", "swallowed"]
    assert (await laptop.engine.pull()).complete
    assert laptop.asked() == {"list": 1}


async def test_what_is_swallowed_again_and_again_is_reported(portal: str, laptop: Device, vault: Vault):
    kept = vault.log()
    for expected in (True, False, False):
        report = await laptop.engine.pull()
        assert report.complete == expected
        for name in vault.log():
            if name not in kept:
                del vault.remote.objects[name]
    assert (await laptop.engine.pull()).complete is False
    assert (await laptop.engine.pull()).complete


async def test_what_is_swallowed_without_end_is_not_put_without_end(portal: str, laptop: Device, vault: Vault):
    kept = vault.log()
    for _ in range(60):
        await laptop.engine.pull()
        for name in vault.log():
            if name not in kept:
                del vault.remote.objects[name]
    assert laptop.asked()["put"] <= MOST_TIMES
    vault.clock_ms += 2 * WAIT_MS
    await laptop.sync()
    assert (await laptop.sync()).complete, "it is healed as any loss"


@pytest.mark.parametrize("error", [RemoteRefused(remote="memory", reason="full"), None], ids=["refused", "put"])
async def test_a_remote_that_takes_nothing_is_read_on(
    portal: str, laptop: Device, desktop: Device, error: StenoError | None
):
    await desktop.sync()
    desktop.add(portal, "of the desktop")
    await desktop.sync()
    laptop.remote.fails = lambda verb, _: error if verb == "put" else None
    await laptop.engine.pull()
    assert "of the desktop" in laptop.contents(portal)
    laptop.remote.fails = lambda *_: None
    for device in (laptop, desktop):
        await device.sync()
    assert sorted(desktop.contents(portal)) == ["before", "of the desktop", "swallowed"]


async def test_what_was_purged_before_the_next_listing_is_not_put_again(laptop: Device):
    await laptop.sync()
    secret = laptop.session(SECRET)
    await laptop.engine.push()
    purge_session(laptop.store, secret)
    await laptop.engine.push()
    laptop.asked()
    assert (await laptop.engine.pull()).complete
    assert laptop.asked() == {"list": 1}


async def test_what_was_swallowed_and_purged_is_taken_out_of_what_is_put_again(laptop: Device, vault: Vault):
    await laptop.sync()
    secret = laptop.session(SECRET)
    await laptop.engine.push()
    [swallowed] = vault.log()
    del vault.remote.objects[swallowed]
    purge_session(laptop.store, secret)
    for _ in range(2):
        await laptop.sync()
    assert (await laptop.sync()).complete
    said = [
        unpack(unseal(vault.remote.objects[name], keyring=vault.keyring, vault_id=vault.id, name=name), name=name)
        for name in vault.log()
    ]
    assert not any(SECRET.encode() in each for each in said)


async def test_one_that_breaks_off_when_it_is_put_again_waits_until_it_is_whole(
    portal: str, laptop: Device, desktop: Device, vault: Vault
):
    def torn(verb: str, name: str) -> StenoError | None:
        if verb != "put":
            return None
        vault.remote.objects[name] = b"the beginning"
        return RemoteUnreachable(remote="memory", reason="it broke off")

    laptop.remote.fails = torn
    with pytest.raises(RemoteUnreachable):
        await laptop.engine.pull()
    laptop.restart()
    laptop.remote.fails = lambda *_: None
    assert (await laptop.sync()).complete
    assert (await desktop.sync()).complete
    assert desktop.contents(portal) == ["before", "swallowed"]
