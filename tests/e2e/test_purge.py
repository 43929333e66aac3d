"""Purging on real devices: the words leave both homes, files and logs of SQLite included, while daemons run."""

from __future__ import annotations

import asyncio

import pytest

from steno.daemon import app
from steno.storage.model import NewMessage
from steno.storage.purge import is_shrunk, purge_session
from steno.storage.store import Store
from steno.tests.e2e.device import Device, until
from steno.tests.unit.traces import traces

WORDS = ("quokkaword", "wombatword", "numbatword", "bilbyword")

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


def planted(device: Device) -> None:
    device.here("create", "--id", "s", "--title", "Quokkaword", "--tags", "wombatword")
    device.here("add", "s", "numbatword " * 1000)
    device.here("add", "s", "Bilbyword")
    device.here("create", "--id", "kept", "--title", "Kept")


def words_in(device: Device) -> set[str]:
    """The words that stand anywhere in a home, or in the name of a file."""
    return {word for _, word in traces(device.place, WORDS)}


def test_a_purge_while_the_daemon_runs_leaves_no_word_in_the_home(lonely: Device) -> None:
    lonely.start()
    planted(lonely)
    lonely.file("s")
    until(lonely.settled, "all is written and indexed")
    assert words_in(lonely) == {*WORDS}
    done = lonely.steno("purge", "s")
    assert "is still as it was" not in done.err
    assert words_in(lonely) == set()
    assert len(lonely.files()) == 1
    assert "Traceback" not in lonely.log()


def test_a_session_that_is_purged_on_one_device_is_gone_from_the_other(pair: Pair) -> None:
    laptop, desktop = pair
    planted(laptop)
    laptop.here("sync")
    desktop.here("sync")
    assert words_in(desktop) == {*WORDS}
    desktop.steno("purge", "s")
    desktop.here("sync")
    laptop.here("sync")
    assert (laptop.show("s"), laptop.title("kept")) == (None, "Kept")
    assert [path.name for path in laptop.files()] == ["kept.kept.jsonl"]
    assert words_in(desktop) == set()
    # What is purged afterwards writes the database anew.
    laptop.steno("purge", "kept")
    assert words_in(laptop) == set()


@pytest.mark.fault(21)
def test_what_was_written_meanwhile_on_the_other_device_is_kept_and_told(pair: Pair) -> None:
    laptop, desktop = pair
    planted(laptop)
    laptop.here("sync")
    desktop.here("sync")
    desktop.steno("add", "s", "written meanwhile")
    laptop.steno("purge", "s")
    laptop.here("sync")
    done = desktop.here("sync")
    assert "session s was purged on another device" in done.err
    [kept] = [each["id"] for each in desktop.json("list") if each["id"] != "kept"]
    assert desktop.contents(kept) == ["written meanwhile"]
    laptop.here("sync")
    assert laptop.contents(kept) == ["written meanwhile"]


async def test_the_daemon_gets_off_the_disk_what_was_purged_before(
    lonely: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HOUSE_S", 0.01)
    lonely.home.token_file.write_text("token")
    with lonely.store(write=True) as store:
        store.create(id="s")
        store.append("s", NewMessage(role="user", content="quokkaword"))
        purge_session(store, "s")
        assert not is_shrunk(store)

    def open_store() -> Store:
        return Store(lonely.home.database)

    stop = asyncio.Event()
    running = asyncio.create_task(app.Daemon(lonely.home, open_store).run(port=0, ready=lambda _: None, stop=stop))

    def done() -> bool:
        with lonely.store() as store:
            return is_shrunk(store)

    await asyncio.to_thread(until, done, "the database is written anew")
    stop.set()
    await running
    assert words_in(lonely) == set()


def test_status_names_a_device_that_has_not_taken_out_yet_what_was_purged(pair: Pair) -> None:
    laptop, desktop = pair
    planted(laptop)
    laptop.here("sync")
    desktop.here("sync")
    desktop.here("add", "s", "of the desktop")
    desktop.here("sync")
    laptop.here("sync")
    laptop.steno("purge", "s")
    laptop.here("sync")
    stands = laptop.json("status")
    assert stands["vault"]["holds_purged"] == [desktop.json("status")["device"]]
    assert any("what was purged may still stand in what" in each for each in stands["notes"])
    desktop.here("sync")
    laptop.here("sync")
    stands = laptop.json("status")
    assert (stands["vault"]["holds_purged"], stands["notes"]) == ([], [])
