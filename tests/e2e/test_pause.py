"""The daemon leaves the remote alone for as long as somebody wants it to, and loses nothing by it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


@pytest.fixture
def both(short: Path, make_pair: Callable[[Path], Pair]) -> Pair:
    return make_pair(Path(tempfile.mkdtemp(dir=short)))


def append(device: Device, content: str) -> None:
    with device.store(write=True) as store:
        if store.find("s") is None:
            store.create(id="s")
        store.append("s", NewMessage(role="user", content=content))


def test_a_paused_daemon_sends_nothing_until_it_goes_on(both: Pair):
    laptop, desktop = both
    laptop.start()
    until(laptop.settled, "nothing is pending")
    assert "leaves the remote alone until" in laptop.steno("pause-sync", "2h").out
    before = laptop.requests()
    append(laptop, "written meanwhile")
    assert laptop.status()["vault"]["paused_until"] is not None
    assert "Paused:" in laptop.steno("status", code=8).out
    assert laptop.requests() == before
    laptop.steno("pause-sync", "--off")
    until(laptop.settled, "it is sent")
    desktop.sync_here()
    assert desktop.contents("s") == ["written meanwhile"]
    laptop.stop()


def test_a_sync_that_is_asked_for_is_done_all_the_same(both: Pair):
    laptop, desktop = both
    laptop.start()
    until(laptop.settled, "nothing is pending")
    laptop.steno("pause-sync")
    append(laptop, "urgent")
    laptop.steno("sync")
    desktop.sync_here()
    assert desktop.contents("s") == ["urgent"]
    laptop.stop()


def test_a_pause_ends_by_itself(both: Pair):
    laptop, _ = both
    with laptop.store(write=True) as store, store.transaction():
        store.set_meta("sync-paused-until", str(store.now_ms() + 1500))
    laptop.start()
    append(laptop, "later")
    until(laptop.settled, "it is sent")
    laptop.stop()
