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


def test_what_is_written_while_news_from_elsewhere_wait_as_well_is_sent_afterwards(both: Pair):
    laptop, desktop = both
    laptop.start()
    until(laptop.settled, "nothing is pending")
    laptop.steno("pause-sync")
    with desktop.store(write=True) as store:
        store.create(id="of the desktop")
    desktop.sync_here()
    append(laptop, "written meanwhile")
    laptop.steno("pause-sync", "--off")
    until(lambda: laptop.settled() and len(laptop.everything()) == 2, "all is sent and taken in")
    laptop.stop()


def test_on_a_connection_that_costs_what_is_written_is_sent_and_nothing_else_is_asked(both: Pair):
    laptop, desktop = both
    append(laptop, "before")
    assert "spares the connection until" in laptop.steno("metered", "2h").out
    laptop.start()
    until(laptop.settled, "the first sync is done")
    before = laptop.requests()
    append(laptop, "written meanwhile")
    until(laptop.settled, "it is sent")
    assert {verb: count - before.get(verb, 0) for verb, count in laptop.requests().items()} == {
        **dict.fromkeys(before, 0), "put": 1
    }  # fmt: skip
    assert laptop.status()["vault"]["metered_until"] is not None
    assert "Metered:    the daemon spares the connection until" in laptop.steno("status").out
    desktop.sync_here()
    assert desktop.contents("s") == ["before", "written meanwhile"]
    assert laptop.steno("metered", "--off").out == "The daemon syncs as ever.\n"
    until((laptop.folder / "devices").is_dir, "what waited is done")
    laptop.stop()


def test_the_history_of_a_new_device_waits_until_a_sync_is_asked_for(both: Pair):
    laptop, desktop = both
    laptop.publish_here("s", segments=9)
    desktop.steno("metered")
    desktop.start()
    until(desktop.settled, "the first sync is done")
    assert desktop.contents("s") == []
    assert "(9 objects): `steno sync` takes it in" in desktop.steno("status").out
    desktop.steno("sync")
    assert len(desktop.contents("s")) == 9
    desktop.stop()
