"""Two devices go on with one session apart; whoever splits it, both have two sessions, and every message."""

from __future__ import annotations

import pytest

from steno.tests.e2e.device import Device, equal

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


@pytest.fixture
def apart(pair: Pair) -> Pair:
    """Two devices that have synced what each added to one session while it was offline."""
    laptop, desktop = pair
    laptop.steno("create", "--id", "s", "--title", "Design")
    laptop.steno("add", "s", "begun together")
    sync(laptop, desktop)
    laptop.steno("add", "s", "by the laptop")
    desktop.steno("add", "s", "by the desktop")
    sync(laptop, desktop, laptop)
    return pair


def sync(*devices: Device) -> None:
    for device in devices:
        device.steno("sync")


@pytest.mark.fault(22)
def test_what_one_device_splits_is_split_on_the_other(apart: Pair):
    laptop, desktop = apart
    assert all("┄┄ Diverged" in device.steno("show", "s").out for device in apart)
    made = desktop.json("split", "s")["id"]
    sync(desktop, laptop)
    assert (laptop.contents("s"), laptop.contents(made)) == (
        ["begun together", "by the laptop"],
        ["begun together", "by the desktop"],
    )
    assert equal(laptop, desktop)


@pytest.mark.fault(22)
def test_a_split_on_both_devices_at_once_is_one_and_what_was_added_meanwhile_stays(apart: Pair):
    laptop, desktop = apart
    laptop.steno("add", "s", "added meanwhile")
    made = [device.json("split", "s")["id"] for device in apart]
    sync(laptop, desktop, laptop)
    assert made == [made[0]] * 2
    assert laptop.contents(made[0]) == ["begun together", "by the desktop", "added meanwhile"]
    assert laptop.contents("s") == ["begun together", "by the laptop"]
    assert equal(laptop, desktop)
