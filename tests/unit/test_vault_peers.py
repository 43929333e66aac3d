"""Devices say who they are once a day, and the log of one that never comes back is adopted by another."""

from __future__ import annotations

import pytest

from steno.storage.errors import DeviceNotFound, InvalidInput
from steno.sync.vault.names import DEVICES, MAX_NUMBER, DeviceName
from steno.sync.vault.peers import EVERY_MS, STRANGER_LOOKS, STRANGER_MS
from steno.tests.simulation.test_stores_converge import state
from steno.tests.unit.vaults import Device, Vault


def records(vault: Vault) -> list[str]:
    return sorted(name for name in vault.remote.objects if name.startswith(DEVICES))


# Who is there


async def test_a_device_is_known_to_the_others_with_what_it_has(laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    await laptop.engine.tend()
    await desktop.sync()
    await desktop.engine.tend()
    known = desktop.engine.peers.known()
    assert known.keys() == {laptop.store.device, desktop.store.device}
    assert known[laptop.store.device].applied == {laptop.store.device: [(1, 1)]}
    assert known[laptop.store.device].name


async def test_a_record_is_written_once_a_day_and_replaces_the_one_before(vault: Vault, laptop: Device):
    await laptop.engine.tend()
    [first] = records(vault)
    laptop.asked()
    await laptop.engine.tend()
    assert (records(vault), laptop.asked()) == ([first], {})
    vault.clock_ms += EVERY_MS
    await laptop.engine.tend()
    [second] = records(vault)
    assert DeviceName.parse(second) == DeviceName(laptop.store.device, 2)
    assert laptop.asked() == {"list": 1, "put": 1, "delete": 1}


async def test_a_new_device_is_known_by_name_before_the_day_is_over(laptop: Device, desktop: Device):
    await laptop.engine.tend()
    desktop.session("one")
    await desktop.sync()
    await desktop.engine.tend()
    await laptop.sync()
    await laptop.engine.tend()
    assert desktop.store.device in laptop.engine.peers.known()


async def test_a_device_that_never_says_who_it_is_is_looked_for_a_few_times_only(
    vault: Vault, laptop: Device, desktop: Device
):
    await laptop.engine.tend()
    desktop.session("one")
    await desktop.sync()
    await laptop.sync()
    laptop.asked()
    for _ in range(20):
        vault.clock_ms += STRANGER_MS
        await laptop.engine.tend()
    assert laptop.asked() == {"list": STRANGER_LOOKS}


@pytest.mark.fault(7)
@pytest.mark.parametrize("content", [b"", b"STENO", b"x" * 100])
async def test_a_record_that_does_not_open_is_passed_over(vault: Vault, laptop: Device, content: bytes):
    vault.remote.objects[DeviceName("otherdevice0", 1).path] = content
    report = await laptop.engine.tend()
    assert report.problems == []
    assert laptop.engine.peers.known().keys() == {laptop.store.device}


async def test_a_record_of_another_device_under_a_name_of_ours_is_not_believed(
    vault: Vault, laptop: Device, desktop: Device
):
    await desktop.engine.tend()
    [name] = records(vault)
    vault.remote.objects[DeviceName("otherdevice0", 1).path] = vault.remote.objects[name]
    await laptop.engine.tend()
    assert laptop.engine.peers.known().keys() == {laptop.store.device, desktop.store.device}


# Who never comes back


async def test_the_log_of_a_retired_device_goes_and_nothing_with_it(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one", title="T")
    await laptop.sync()
    await desktop.sync()
    desktop.add(session, "two")
    await desktop.sync()
    await laptop.sync()
    report = await desktop.engine.retire(laptop.store.device)
    assert report.problems == []
    assert not any(laptop.store.device in name for name in vault.log())
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == []
    assert state(fresh.store) == state(desktop.store)
    assert (await desktop.sync()).problems == []


async def test_a_third_device_notices_nothing_of_it(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    third = vault.device("third")
    for device in (desktop, third):
        await device.sync()
    await desktop.engine.retire(laptop.store.device)
    assert (await third.sync()).problems == []
    assert third.contents(session) == ["one"]


async def test_a_device_that_was_retired_is_named_as_such(laptop: Device, desktop: Device, vault: Vault):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    await desktop.engine.retire(laptop.store.device)
    third = vault.device("third")
    await third.engine.tend()
    assert third.engine.peers.known()[desktop.store.device].retired == {laptop.store.device: 1}


async def test_no_device_retires_itself(laptop: Device):
    with pytest.raises(InvalidInput):
        await laptop.engine.retire(laptop.store.device)


async def test_a_device_that_nobody_met_is_not_retired(laptop: Device):
    with pytest.raises(DeviceNotFound):
        await laptop.engine.retire("otherdevice0")


async def test_a_device_of_which_something_is_missing_here_is_not_retired(
    vault: Vault, laptop: Device, desktop: Device
):
    laptop.session("one")
    await laptop.sync()
    [name] = vault.log()
    vault.remote.objects[name] = b"damaged"
    with pytest.raises(InvalidInput):
        await desktop.engine.retire(laptop.store.device)
    assert vault.log() == [name]


async def test_retiring_twice_is_retiring_once(vault: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    await desktop.engine.retire(laptop.store.device)
    before = vault.log()
    await desktop.engine.retire(laptop.store.device)
    assert vault.log() == before


async def test_a_device_of_which_something_was_refused_here_is_not_retired(
    vault: Vault, laptop: Device, desktop: Device
):
    desktop.session("one")
    await desktop.sync()
    await laptop.sync()
    [name] = vault.log()
    vault.remote.objects[name] = b"it opens no more"
    laptop.engine._ledger.set_aside(name, "a record of it is refused", now_ms=vault.now())
    with pytest.raises(InvalidInput, match="not all"):
        await laptop.engine.retire(desktop.store.device)
    assert vault.log() == [name]


async def test_a_retired_device_that_comes_back_goes_on(vault: Vault, laptop: Device, desktop: Device):
    session = desktop.session("one")
    await desktop.sync()
    await laptop.sync()
    desktop.add(session, "not sent yet")
    await laptop.engine.retire(desktop.store.device)
    for at in range(40):
        desktop.add(session, f"later {at}")
        await desktop.sync()
    assert (await desktop.engine.tend()).problems == []
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == []
    assert state(fresh.store) == state(desktop.store)


async def test_a_retired_device_that_comes_back_is_not_called_retired_any_more(laptop: Device, desktop: Device):
    session = desktop.session("one")
    await desktop.sync()
    await laptop.sync()
    await laptop.engine.retire(desktop.store.device)
    assert [each.id for each in await laptop.engine.devices() if each.retired] == [desktop.store.device]
    desktop.add(session, "back again")
    await desktop.sync()
    await laptop.sync()
    assert laptop.contents(session) == ["one", "back again"]
    assert [each for each in await laptop.engine.devices() if each.retired] == []


async def test_the_last_number_there_is_under_our_id_stops_nothing(vault: Vault, laptop: Device):
    vault.remote.objects[DeviceName(laptop.store.device, MAX_NUMBER).path] = b"somebody's"
    await laptop.engine.tend()
    assert [name for name in vault.remote.objects if name.startswith(DEVICES)] == [
        DeviceName(laptop.store.device, 1).path
    ]


async def test_a_record_whose_ranges_cannot_be_is_passed_over(vault: Vault, laptop: Device, desktop: Device):
    name = DeviceName(desktop.store.device, 1).path
    content = (
        b'{"steno_device":1,"name":"d","platform":"","version":"","written_ms":1,"applied":{"aaaaaaaaaaaa":[[5,1]]}}'
    )
    vault.remote.objects[name] = desktop.engine._sealer.close(content, name=name)
    assert (await laptop.engine.tend()).problems == []
    assert desktop.store.device not in laptop.engine.peers.known()
