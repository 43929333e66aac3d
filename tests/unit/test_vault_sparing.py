"""On a connection that costs: what is new goes and comes, and what can wait asks nothing; counted in requests."""

from __future__ import annotations

from steno.storage.purge import purge_session
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.peers import EVERY_MS
from steno.sync.vault.plan import FEW
from steno.sync.vault.rewriting import GRACE_MS, SPARING_MOST
from steno.sync.vault.seal import unpack, unseal
from steno.tests.unit.vaults import Device, Vault


async def chatty(device: Device, count: int) -> str:
    """A session that grew message by message, each in a segment of its own."""
    session = device.session()
    for at in range(count):
        device.add(session, f"message {at}")
        await device.engine.push()
    return session


async def test_the_history_of_a_new_device_waits_and_is_named(laptop: Device, desktop: Device):
    session = await chatty(laptop, FEW + 1)
    await desktop.engine.sync(sparing=True)
    desktop.asked()
    report = await desktop.engine.pull(sparing=True)
    assert desktop.asked() == {"list": 1}
    assert desktop.everything() == {}
    assert (report.complete, len(report.notes)) == (True, 1)
    assert f"({FEW + 1} objects)" in report.notes[0]
    report = await desktop.sync()
    assert report.notes == []
    assert desktop.contents(session) == laptop.contents(session)


async def test_what_was_joined_is_a_history_however_few_it_became(laptop: Device, desktop: Device, vault: Vault):
    await chatty(laptop, 100)
    for _ in range(2):
        await laptop.engine.tend()
        vault.clock_ms += GRACE_MS + 1
    assert len(vault.log()) < FEW
    await desktop.engine.sync(sparing=True)
    assert desktop.everything() == {}


async def test_what_a_new_device_wrote_that_has_only_begun_is_news(laptop: Device, desktop: Device):
    await chatty(laptop, FEW)
    await desktop.engine.sync(sparing=True)
    assert desktop.everything() == laptop.everything()


async def test_what_a_known_device_appends_costs_one_list_and_one_get(laptop: Device, desktop: Device):
    session = await chatty(laptop, FEW + 1)
    await desktop.sync()
    laptop.add(session, "news")
    await laptop.engine.push()
    desktop.asked()
    await desktop.engine.pull(sparing=True)
    assert desktop.asked() == {"list": 1, "get": 1}
    assert desktop.contents(session)[-1] == "news"


async def test_a_history_that_waits_holds_back_no_news_of_others(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("of the laptop")
    await laptop.sync()
    await desktop.sync()
    await chatty(vault.device("tower"), FEW + 1)
    laptop.add(session, "news")
    await laptop.sync()
    report = await desktop.engine.sync(sparing=True)
    assert report.complete
    assert desktop.contents(session) == ["of the laptop", "news"]
    assert len(desktop.everything()) == 1


async def test_a_deletion_made_while_a_history_waits_hides_nothing_of_it(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("of the laptop")
    await laptop.sync()
    tower = vault.device("tower")
    await tower.sync()
    await desktop.sync()
    for at in range(FEW + 1):
        tower.add(session, f"of the tower {at}")
        await tower.engine.push()
    await desktop.engine.sync(sparing=True)
    desktop.store.delete(session)
    for _ in range(2):
        for device in (desktop, tower, laptop):
            await device.sync()
    assert all(len(device.contents(session)) == FEW + 1 for device in vault.devices)
    assert laptop.everything() == desktop.everything() == tower.everything()


async def test_tidying_up_asks_nothing_until_far_too_many_segments_stand(laptop: Device, vault: Vault):
    session = await chatty(laptop, SPARING_MOST)
    vault.clock_ms += EVERY_MS
    laptop.asked()
    await laptop.engine.tend(sparing=True)
    assert laptop.asked() == {}
    laptop.add(session, "one more")
    await laptop.engine.push()
    await laptop.engine.tend(sparing=True)
    assert laptop.asked()["put"] < 10
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert len(vault.log()) < 40


async def test_what_was_purged_goes_from_the_remote_all_the_same(laptop: Device, desktop: Device, vault: Vault):
    secret, kept = laptop.session("the word that must go"), desktop.session("kept")
    await laptop.sync()
    for device in (desktop, laptop):
        await device.sync()
    purge_session(desktop.store, secret)
    await desktop.engine.sync(sparing=True)
    await laptop.engine.pull(sparing=True)
    await laptop.engine.tend(sparing=True)
    said = [
        unpack(unseal(vault.remote.objects[name], keyring=vault.keyring, vault_id=vault.id, name=name), name=name)
        for name in vault.log()
    ]
    assert not any(b"the word that must go" in each for each in said)
    assert laptop.contents(kept) == ["kept"]


async def test_what_the_remote_lost_is_named_and_healed_when_the_connection_costs_nothing(
    laptop: Device, desktop: Device, vault: Vault
):
    laptop.session("x" * 10_000)
    await laptop.sync()
    await desktop.sync()
    for name in vault.log():
        del vault.remote.objects[name]
    await desktop.sync()
    vault.clock_ms += 3 * WAIT_MS
    desktop.asked()
    report = await desktop.engine.pull(sparing=True)
    assert "put" not in desktop.asked()
    assert (report.healed_segments, len(report.problems)) == (0, 1)
    assert (await desktop.engine.pull()).healed_segments == 1
