"""A device that lost its database goes on from its files and its remote, and nobody loses or gets anything twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.conflicts import conflicts
from steno.storage.forks import fork
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.tests.e2e.device import Device, equal, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


def fill(device: Device) -> None:
    """Sessions with everything that a file can show."""
    with device.store(write=True) as store:
        store.create(
            id="plan", title="Plan", status="paused", provider="anthropic", model="m", user_id="u", tags=["b", "a"],
            metadata={"project": "x", "deep": {"k": [1, None], "empty": {}}}, state={"step": 3},
        )  # fmt: skip
        store.add_messages(
            "plan",
            [
                NewMessage(role="user", content="one", id="1", sender="Ann", timestamp="2026-01-02T03:04:05Z"),
                NewMessage(role="assistant", content=[{"type": "text", "text": "two"}], id="2", parent="1", model="x",
                           usage={"input_tokens": 3}, metadata={"k": {"l": 1}}),
                NewMessage(role="user", content="three", id="3"),
            ],
        )  # fmt: skip
        store.append("plan", NewMessage(role="user", content="between", id="b", after="1"))
        store.delete_message("plan", "3")
        store.create(id="untitled")
        store.append("untitled", NewMessage(role="user", content="What is to be done?"))
        store.create(id="gone", title="Gone")
        store.append("gone", NewMessage(role="user", content="deleted"))
        store.delete("gone")
        fork(store, "plan")


def lose_database(device: Device) -> None:
    for path in device.place.glob("steno.db*"):
        path.unlink()


def settle(*devices: Device) -> None:
    """Let devices exchange everything, in both directions."""
    for device in (*devices, *devices):
        device.sync_here()


def timeless(device: Device) -> dict[str, Any]:
    """Every session that is shown, but for when it was last written to: only its messages tell that in a file."""
    return {
        id_: (msgspec.structs.replace(header, updated_at=""), messages)
        for id_, (header, messages) in device.everything().items()
    }


def logs(remote: Path | None) -> list[str]:
    assert remote is not None
    return sorted(path.name for path in (remote / "log").iterdir())


def open_conflicts(device: Device) -> list[Any]:
    with device.store() as store:
        return list(conflicts(store))


@pytest.fixture
def used(pair: Pair) -> Pair:
    """Two devices that agree; the laptop's files are written."""
    laptop, desktop = pair
    fill(laptop)
    laptop.sync_here()
    desktop.sync_here()
    laptop.write_files_here()
    desktop.write_files_here()
    assert equal(laptop, desktop)
    return pair


@pytest.mark.fault(39)
def test_everything_is_back_after_the_database_is_lost_and_the_other_device_is_as_it_was(used: Pair):
    laptop, desktop = used
    laptop.start()
    until(laptop.settled, "the daemon has done what there was to do")
    laptop.stop()
    before, files, objects = desktop.everything(), laptop.files(), logs(laptop.folder)
    lose_database(laptop)
    told = laptop.steno("doctor", "--rebuild").out
    assert "it was missing" in told
    laptop.start()
    until(laptop.settled, "the daemon has taken up the rebuilt store")
    assert laptop.status()["problems"] == []
    laptop.stop()
    assert logs(laptop.folder) == objects
    settle(laptop, desktop)
    assert laptop.everything() == desktop.everything() == before
    assert open_conflicts(laptop) == open_conflicts(desktop) == []
    assert laptop.files() == files
    laptop.steno("doctor")
    laptop.steno("status")


def test_everything_that_files_show_is_back_without_a_remote(lonely: Device):
    fill(lonely)
    lonely.write_files_here()
    before, files = timeless(lonely), lonely.files()
    lose_database(lonely)
    lonely.steno("doctor", "--rebuild")
    assert timeless(lonely) == before
    lonely.start()
    until(lonely.settled, "the daemon has taken up the rebuilt store")
    assert lonely.status()["problems"] == []
    path = lonely.file("plan")
    path.write_text(path.read_text(encoding="utf-8").replace('"between"', '"edited"'), encoding="utf-8")
    until(lambda: "edited" in lonely.contents("plan"), "an edit in a file is taken")
    lonely.stop()
    assert timeless(lonely).keys() == before.keys()
    assert lonely.files() == files
    lonely.steno("doctor")


def test_what_others_wrote_meanwhile_stands_and_what_was_never_sent_is_sent(used: Pair):
    laptop, desktop = used
    with laptop.store(write=True) as store:
        store.append("plan", NewMessage(role="user", content="never sent"))
        store.update("plan", fields={"title": "Never sent"})
        store.create(id="unsent", title="Unsent", tags=["t"])
    laptop.write_files_here()
    with desktop.store(write=True) as store:
        store.append("plan", NewMessage(role="user", content="meanwhile"))
        store.update("plan", metadata={"project": "y"}, remove_tags=["a"])
        store.edit_message("plan", "1", {"content": "edited meanwhile"})
        store.delete("untitled")
        store.create(id="theirs", title="Theirs")
    desktop.sync_here()
    lose_database(laptop)
    laptop.steno("doctor", "--rebuild")
    settle(laptop, desktop)
    assert equal(laptop, desktop)
    assert sorted(map(str, desktop.contents("plan"))) == sorted(
        ["edited meanwhile", "between", "[{'type': 'text', 'text': 'two'}]", "never sent", "meanwhile"]
    )
    plan = desktop.everything()["plan"][0]
    assert (plan.title, plan.tags, plan.metadata["project"]) == ("Never sent", ["b"], "y")
    assert desktop.title("unsent") == "Unsent"
    assert laptop.title("theirs") == "Theirs"
    assert laptop.title("untitled") is None


def test_what_is_typed_while_there_is_no_database_is_taken_in(used: Pair):
    laptop, desktop = used
    path = laptop.file("plan")
    lose_database(laptop)
    text = path.read_text(encoding="utf-8").replace('"content":"one"', '"content":"1"')
    path.write_text(text + '{"role":"user","content":"typed"}\n', encoding="utf-8")
    told = laptop.steno("doctor", "--rebuild").out
    assert "steno conflicts" in told
    settle(laptop, desktop)
    assert equal(laptop, desktop)
    assert [each for each in desktop.contents("plan") if isinstance(each, str)] == ["1", "between", "typed"]
    [conflict] = open_conflicts(desktop)
    assert (conflict.shown.value, [each.value for each in conflict.others]) == ("1", ["one"])


def test_a_text_that_yields_is_kept_in_a_copy_of_its_file(used: Pair):
    laptop, desktop = used
    with laptop.store(write=True) as store:
        store.edit_message("plan", "1", {"content": "mine"})
    laptop.write_files_here()
    with desktop.store(write=True) as store:
        store.edit_message("plan", "1", {"content": "theirs"})
    desktop.sync_here()
    lose_database(laptop)
    done = laptop.steno("doctor", "--rebuild", "--json").json
    assert done["yielded"] == 1
    [kept] = Path(done["aside"]).rglob("*.jsonl")
    assert '"content":"mine"' in kept.read_text(encoding="utf-8")
    assert laptop.contents("plan")[0] == "theirs"


def test_a_purged_session_does_not_come_back_from_a_file(used: Pair):
    laptop, desktop = used
    with desktop.store(write=True) as store:
        purge_session(store, "untitled")
    desktop.sync_here()
    lose_database(laptop)
    done = laptop.steno("doctor", "--rebuild", code=8)
    assert "was purged" in done.err
    settle(laptop, desktop)
    assert equal(laptop, desktop)
    assert laptop.title("untitled") is None


def test_a_remote_that_does_not_answer_stops_the_rebuild_before_anything_is_made(used: Pair):
    laptop, desktop = used
    lose_database(laptop)
    away = laptop.folder.with_name("away")
    laptop.folder.rename(away)
    done = laptop.steno("doctor", "--rebuild", code=None)
    assert done.code == 6
    assert done.err.count("\n") == 1
    assert "--files-only" in done.err
    assert not laptop.home.exists
    assert "doctor --rebuild" in laptop.steno("list", code=1).err
    before = desktop.everything()
    laptop.steno("doctor", "--rebuild", "--files-only")
    assert timeless(laptop) == timeless(desktop)
    away.rename(laptop.folder)
    settle(laptop, desktop)
    assert laptop.everything() == desktop.everything() == before
    assert open_conflicts(laptop) == open_conflicts(desktop) == []


@pytest.mark.fault(39)
def test_what_was_rebuilt_from_files_alone_deletes_and_doubles_nothing_when_the_remote_is_back(used: Pair):
    laptop, desktop = used
    with desktop.store(write=True) as store:
        store.append("plan", NewMessage(role="user", content="meanwhile"))
        store.update("plan", fields={"title": "Theirs"})
        store.delete_message("plan", "b")
        store.delete("untitled")
    desktop.sync_here()
    before = desktop.everything()
    lose_database(laptop)
    laptop.steno("doctor", "--rebuild", "--files-only")
    settle(laptop, desktop)
    assert laptop.everything() == desktop.everything() == before
    assert open_conflicts(desktop) == []


@pytest.mark.fault(39)
def test_a_damaged_database_is_kept_with_its_log_and_made_anew(used: Pair):
    laptop, desktop = used
    with laptop.home.database.open("r+b") as file:
        file.write(b"nothing of a database is left" * 1000)
    (laptop.place / "steno.db-wal").write_bytes(b"a log of another time")
    assert "doctor --rebuild" in laptop.steno("list", code=1).err
    done = laptop.steno("doctor", "--rebuild", "--json").json
    kept = {Path(each).name.partition(".")[2]: Path(each).read_bytes() for each in done["kept"]}
    assert kept["db"].startswith(b"nothing of a database is left")
    assert kept["db-wal"] == b"a log of another time"
    assert not (laptop.place / "steno.db-wal").exists()
    settle(laptop, desktop)
    assert equal(laptop, desktop)


def test_files_that_lost_all_else_join_their_vault_again(used: Pair):
    """Only the directory of sessions is left of the home: no database, no key."""
    laptop, desktop = used
    before = desktop.everything()
    fresh = Device(laptop.place.with_name("fresh"), remote=laptop.folder).configure()
    shutil.copytree(laptop.home.sessions, fresh.home.sessions)
    assert "doctor --rebuild" in fresh.steno("join", str(laptop.folder), code=5).err
    fresh.steno("doctor", "--rebuild")
    settle(fresh, desktop)
    assert fresh.everything() == desktop.everything() == before


def test_a_rebuilt_device_reports_no_strange_objects_and_sends_what_it_writes(used: Pair):
    laptop, desktop = used
    lose_database(laptop)
    laptop.steno("doctor", "--rebuild")
    laptop.steno("add", "plan", "after the loss")
    laptop.steno("sync")
    desktop.sync_here()
    assert desktop.contents("plan")[-1] == "after the loss"
    assert len({name.partition(".")[0] for name in logs(laptop.folder)}) == 2
