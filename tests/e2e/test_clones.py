"""A home that was copied whole (`cp -r`): both write, both daemons sync, and nothing of either is lost."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from steno.storage.conflicts import conflicts
from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, equal, until

pytestmark = pytest.mark.usefixtures("forked")
SESSION = "thesession01"


class Homes(NamedTuple):
    laptop: Device
    desktop: Device


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    remote = tmp_path / "remote"
    remote.mkdir()
    laptop = Device(tmp_path / "laptop", remote=remote).make(found=True)
    desktop = Device(tmp_path / "desktop", remote=remote).make()
    with laptop.store(write=True) as store:
        store.create(id=SESSION, title="Before")
        store.append(SESSION, NewMessage(role="user", content="before"))
    laptop.sync_here()
    desktop.sync_here()
    return Homes(laptop, desktop)


def write(device: Device, content: str, *, title: str | None = None) -> None:
    with device.store(write=True) as store:
        store.append(SESSION, NewMessage(role="user", content=content))
        if title is not None:
            store.update(SESSION, fields={"title": title})


@pytest.mark.fault(9)
def test_daemons_of_a_home_and_its_copy_keep_what_both_wrote(homes: Homes, tmp_path: Path):
    laptop, desktop = homes
    copy = laptop.copy(tmp_path / "copy")
    write(laptop, "of the laptop", title="Laptop")
    write(copy, "of the copy", title="Copy")
    devices = [laptop, copy, desktop]
    try:
        for device in devices:
            device.start()
        wanted = {"before", "of the laptop", "of the copy"}
        until(lambda: all(set(each.contents(SESSION)) == wanted for each in devices), "all hold what both wrote")
        notes = [note for each in (laptop, copy) for note in each.status()["notes"]]
        assert any("publishes under that id what was written here since" in note for note in notes)
        assert [problem for each in devices for problem in each.status()["problems"]] == []
    finally:
        for device in devices:
            device.stop()
    for device in [*devices, *devices]:
        device.sync_here()
    assert equal(laptop, desktop)
    assert equal(copy, desktop)
    with desktop.store() as store:
        values = {(each.shown.value, *(other.value for other in each.others)) for each in conflicts(store)}
    assert values in ({("Laptop", "Copy")}, {("Copy", "Laptop")})


@pytest.mark.fault(10)
def test_a_home_that_is_put_back_as_it_was_catches_up_and_keeps_its_id(homes: Homes, tmp_path: Path):
    laptop, desktop = homes
    older = laptop.copy(tmp_path / "older")
    write(laptop, "after the copy")
    laptop.sync_here()
    with older.store() as store:
        device = store.device
    assert "it catches up" in older.steno("sync").err
    write(older, "since")
    assert older.steno("sync").err == ""
    desktop.sync_here()
    assert desktop.contents(SESSION) == ["before", "after the copy", "since"]
    with older.store() as store:
        assert store.device == device


def test_a_copy_says_what_a_purge_leaves_under_its_former_id_and_how_that_goes(homes: Homes, tmp_path: Path):
    laptop, _ = homes
    copy = laptop.copy(tmp_path / "copy")
    write(laptop, "of the laptop")
    write(copy, "of the copy")
    laptop.sync_here()
    with copy.store() as store:
        former = store.device
    copy.steno("sync")
    done = copy.steno("purge", SESSION, "--yes")
    retire = f"`steno devices retire {former}`"
    assert f"sent under its former id {former} goes when a home that still has this id syncs" in done.err
    assert retire in done.err
    copy.steno("sync")
    assert retire in copy.steno("status").out
    copy.steno("devices", "retire", former, "--yes")
    assert retire not in copy.steno("status").out
    assert [path.name for path in (tmp_path / "remote" / "log").iterdir() if path.name.startswith(former)] == []
