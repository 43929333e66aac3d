"""A device that takes everything from the remote anew discards what it never sent, and keeps a copy of that first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.conflicts import conflicts
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.e2e.device import Device, Done, equal, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


@pytest.fixture(scope="module")
def used(short: Path, make_pair: Callable[[Path], Pair]) -> Pair:
    """Two devices that agreed, and then both wrote; the laptop has not sent what it wrote. Tests take copies."""
    laptop, desktop = make_pair(short / "agreed")
    with laptop.store(write=True) as store:
        for session in ("plan", "other"):
            store.create(id=session, title=session)
            store.append(session, NewMessage(id="1", role="user", content="one"))
    laptop.sync_here()
    desktop.sync_here()
    laptop.write_files_here()
    with laptop.store(write=True) as store:
        store.append("plan", NewMessage(id="never", role="user", content="never sent"))
        store.update("other", fields={"title": "Never sent"})
        store.create(id="mine", title="Mine")
        store.append("mine", NewMessage(role="user", content="mine alone"))
    laptop.write_files_here()
    with desktop.store(write=True) as store:
        store.append("plan", NewMessage(id="2", role="user", content="two"))
    desktop.sync_here()
    return laptop, desktop


@pytest.fixture
def apart(used: Pair, place: Path) -> Iterator[Pair]:
    laptop, desktop = used
    assert isinstance(laptop.remote, Path)
    shutil.copytree(laptop.remote, folder := place / "r")
    devices = laptop.copy(place / "a", remote=folder), desktop.copy(place / "b", remote=folder)
    yield devices
    for device in devices:
        device.kill()


def forced(device: Device, *more: str, code: int | None = 0) -> Done:
    return device.steno("sync", "--force", "--pull", "--yes", *more, code=code)


def identity(device: Device) -> str:
    with device.store() as store:
        return store.device


def held(file: Path, session: str) -> list[Any]:
    with Store(file, read_only=True) as store:
        return [message.content for message in store.messages(session)]


def test_the_device_is_equal_to_the_others_afterwards(apart: Pair):
    laptop, desktop = apart
    forced(laptop)
    assert equal(laptop, desktop)
    assert laptop.contents("plan") == ["one", "two"]


def test_what_is_discarded_is_in_the_backup_that_is_named(apart: Pair):
    laptop, _ = apart
    kept = Path(forced(laptop, "--json").json["kept"])
    assert kept.parent == laptop.home.backups
    assert (held(kept, "plan"), held(kept, "mine")) == (["one", "never sent"], ["mine alone"])
    assert laptop.contents("mine") == []


def test_what_was_saved_in_a_file_and_not_taken_up_yet_is_in_the_backup(apart: Pair):
    laptop, _ = apart
    with laptop.file("other").open("a", encoding="utf-8") as file:
        file.write('{"role":"user","content":"typed"}\n')
    kept = Path(forced(laptop, "--json").json["kept"])
    assert held(kept, "other") == ["one", "typed"]


def test_the_files_show_what_the_remote_has_and_nothing_is_sent_of_what_was_discarded(apart: Pair):
    laptop, desktop = apart
    forced(laptop)
    files = {json.loads(each.read_text().splitlines()[0])["id"]: each.read_text() for each in laptop.files()}
    assert set(files) == {"plan", "other"}
    assert "two" in files["plan"]
    assert not [each for each in files.values() if "never sent" in each.lower()]
    laptop.start()
    until(laptop.settled, "the daemon has taken up what is there")
    assert laptop.status()["problems"] == []
    laptop.stop()
    desktop.sync_here()
    assert equal(laptop, desktop)
    with desktop.store() as store:
        assert list(conflicts(store)) == []
    laptop.steno("doctor")


def test_the_device_goes_on_under_another_id(apart: Pair):
    laptop, desktop = apart
    before = identity(laptop)
    told = forced(laptop, "--json").json
    assert told["device"] == identity(laptop) != before
    laptop.steno("add", "plan", "three")
    laptop.steno("sync")
    desktop.sync_here()
    assert desktop.contents("plan") == ["one", "two", "three"]


def test_what_was_discarded_comes_back_with_the_backup(apart: Pair):
    laptop, desktop = apart
    kept = forced(laptop, "--json").json["kept"]
    laptop.steno("backup", "--restore", kept)
    laptop.steno("sync")
    desktop.sync_here()
    assert equal(laptop, desktop)
    assert sorted(desktop.contents("plan")) == ["never sent", "one", "two"]
    assert desktop.contents("mine") == ["mine alone"]


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_remote_that_does_not_give_everything_changes_nothing(apart: Pair, how: str):
    laptop, desktop = apart
    assert laptop.remote is not None
    with laptop.store() as store:
        name = next((Path(laptop.remote) / "log").glob(f"{store.device}.*"))
    if how == "lost":
        name.unlink()
    else:
        name.write_bytes(name.read_bytes()[:-1] + b"x")
    before, device = laptop.everything(), identity(laptop)
    refused = forced(laptop, code=8)
    assert "nothing was changed" in refused.err
    assert (laptop.everything(), identity(laptop)) == (before, device)
    assert not laptop.home.backups.exists() or list(laptop.home.backups.iterdir()) == []
    desktop.steno("doctor")


def test_an_empty_directory_in_the_place_of_the_remote_changes_nothing(apart: Pair):
    laptop, _ = apart
    before = laptop.everything()
    assert laptop.remote is not None
    Path(laptop.remote).rename(Path(laptop.remote).with_name("moved"))
    Path(laptop.remote).mkdir()
    assert forced(laptop, code=None).code not in (0, 2)
    assert laptop.everything() == before


def test_it_is_not_done_without_a_yes_where_nobody_can_be_asked(apart: Pair):
    laptop, _ = apart
    before = laptop.everything()
    assert "--yes" in laptop.steno("sync", "--force", "--pull", code=2).err
    assert laptop.everything() == before


def test_force_goes_with_pull_alone(apart: Pair):
    laptop, _ = apart
    for wrong in (["--force"], ["--force", "--push"], ["--force", "--pull", "--push"], ["--yes"]):
        assert "sync --help" in laptop.steno("sync", *wrong, code=2).err


def test_push_alone_sends_and_takes_nothing_in(apart: Pair):
    laptop, desktop = apart
    laptop.steno("sync", "--push")
    assert laptop.contents("plan") == ["one", "never sent"]
    desktop.sync_here()
    assert desktop.contents("mine") == ["mine alone"]


def test_pull_alone_takes_in_and_sends_nothing(apart: Pair):
    laptop, desktop = apart
    laptop.steno("sync", "--pull")
    assert sorted(laptop.contents("plan")) == ["never sent", "one", "two"]
    desktop.sync_here()
    assert desktop.contents("mine") == []


def test_one_way_goes_through_the_daemon_too(apart: Pair):
    laptop, desktop = apart
    desktop.start()
    laptop.steno("sync", "--push")
    desktop.steno("sync", "--pull")
    assert desktop.contents("mine") == ["mine alone"]


def test_push_alone_sends_nothing_where_another_store_has_our_id(apart: Pair, tmp_path: Path):
    laptop, _ = apart
    assert isinstance(laptop.remote, Path)
    copy = laptop.copy(tmp_path / "copy", remote=laptop.remote)
    copy.steno("sync", "--push")
    before = sorted(path.name for path in (laptop.remote / "log").iterdir())
    laptop.steno("sync", "--push", code=8)
    assert sorted(path.name for path in (laptop.remote / "log").iterdir()) == before
