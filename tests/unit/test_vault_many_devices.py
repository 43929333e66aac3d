"""Twenty devices: what one of them writes costs each of them what it would cost two."""

from __future__ import annotations

import pytest

from steno.sync.vault.compaction import MOST
from steno.sync.vault.names import SegmentName
from steno.sync.vault.rewriting import GRACE_MS
from steno.tests.unit.vaults import Device, Vault

DEVICES = 20
ROUNDS = 30


@pytest.fixture
async def devices(vault: Vault) -> list[Device]:
    """Each has written into one session of its own and into one of all, and has everything."""
    found = [vault.device(f"device-{at}") for at in range(DEVICES)]
    found[0].session("begun", id="shared")
    for _ in range(2):
        for device in found:
            await device.sync()
    for device in found:
        device.session("mine")
        device.add("shared", "and I")
    for _ in range(2):
        for device in found:
            await device.sync()
            await device.engine.tend()
    return found


async def test_what_any_of_them_wrote_all_of_them_show(devices: list[Device]):
    shown = [device.everything() for device in devices]
    assert all(each == shown[0] for each in shown)
    assert len(shown[0]) == DEVICES + 1
    assert len(shown[0]["shared"][1]) == DEVICES + 1


async def test_a_message_is_one_request_for_its_writer_and_two_for_each_other(devices: list[Device]):
    writer, *others = devices
    for device in devices:
        await device.sync()
        device.asked()
    writer.add("shared", "one more")
    await writer.engine.push()
    assert writer.asked() == {"put": 1}
    for device in others:
        await device.engine.pull()
        assert device.asked() == {"list": 1, "get": 1}


async def test_the_objects_stay_few_for_each_of_them(vault: Vault, devices: list[Device]):
    for _ in range(ROUNDS):
        for device in devices:
            device.add("shared", "again")
            await device.engine.push()
            await device.engine.tend()
    vault.clock_ms += 2 * GRACE_MS
    for device in devices:
        await device.engine.tend()
    names = [name for name in map(SegmentName.parse, vault.log()) if name is not None]
    per_device = [sum(name.device == device.store.device for name in names) for device in devices]
    assert max(per_device) <= MOST
