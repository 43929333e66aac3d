"""What is wrong is said where people and programs look: in `steno status`, in the API, and in the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, equal, until

Pair = tuple[Device, Device]
pytestmark = pytest.mark.usefixtures("forked")


def _folder(device: Device) -> Path:
    assert isinstance(device.remote, Path)
    return device.remote


def _objects(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _said(device: Device) -> tuple[str, dict[str, Any]]:
    """What the command says, and what the API does; the exit code must be 8."""
    return device.steno("status", code=8).out, device.status()


@pytest.mark.fault(6)
def test_a_session_of_which_a_part_is_missing_is_said_to_be_incomplete_everywhere(pair: Pair):
    laptop, desktop = pair
    for text in ("one", "two", "three"):
        with laptop.store(write=True) as store:
            if text == "one":
                store.create(id="torn")
            store.append("torn", NewMessage(role="user", content=text))
        laptop.sync_here()
    with laptop.store(write=True) as store:
        store.create(id="whole")
        store.append("whole", NewMessage(role="user", content="text"))
    laptop.sync_here()
    middle = sorted((_folder(laptop) / "log").iterdir())[1]
    kept = middle.read_bytes()
    middle.unlink()
    assert "2-2" in desktop.steno("sync", code=8).err
    assert desktop.contents("whole") == ["text"]
    assert "two" not in desktop.contents("torn")
    for _ in range(2):  # also without a daemon, and after a restart
        assert "session torn is incomplete" in desktop.steno("status", code=8).out
        assert "publications 2-2" in desktop.steno("status", code=8).out
        desktop.start()
        until(lambda: desktop.status()["vault"].get("synced_ms"), "it has looked")
        command, api = _said(desktop)
        assert "session torn is incomplete" in command
        assert api["incomplete"] == ["torn"]
        assert any("publications 2-2" in problem for problem in api["problems"])
        desktop.stop()
    middle.write_bytes(kept)
    desktop.steno("sync")
    assert desktop.steno("status").code == 0
    assert equal(laptop, desktop)


@pytest.mark.fault(8, 11)
def test_what_the_remote_lost_is_said_and_nothing_is_deleted_for_it(pair: Pair):
    laptop, desktop = pair
    for session in ("old", "new"):
        laptop.steno("create", "--id", session)
        laptop.steno("sync")
    desktop.steno("sync")
    max((_folder(laptop) / "log").iterdir()).unlink()
    for device in pair:
        assert "gone" in device.steno("sync", code=8).err
        assert "gone" in device.steno("status", code=8).out
        assert sorted(device.everything()) == ["new", "old"]
    desktop.start()
    until(lambda: "gone" in str(desktop.status()["problems"]), "the API says so")
    desktop.stop()
    laptop.steno("repair")
    for device in pair:
        device.steno("sync")
        assert device.steno("status").code == 0
    fresh = Device(laptop.place.parent / "c", remote=laptop.remote).make()
    fresh.steno("sync")
    assert sorted(fresh.everything()) == ["new", "old"]


@pytest.mark.fault(12)
def test_a_new_device_is_not_told_that_an_emptied_log_is_a_vault_without_sessions(pair: Pair):
    laptop, desktop = pair
    laptop.steno("create", "--id", "kept")
    laptop.steno("sync")
    desktop.steno("sync")
    shutil.rmtree(_folder(laptop) / "log")
    fresh = Device(laptop.place.parent / "c", remote=laptop.remote).make()
    assert "not on the remote" in fresh.steno("sync", code=8).err
    assert "not on the remote" in fresh.steno("status", code=8).out
    laptop.steno("repair")
    fresh.steno("sync")
    assert equal(laptop, fresh)


@pytest.mark.fault(14)
def test_a_remote_that_was_not_there_is_said_until_it_is_reached_again(pair: Pair):
    laptop, _ = pair
    folder = _folder(laptop)
    away = folder.rename(folder.with_name("away"))
    error = laptop.steno("sync", code=6).err
    assert str(folder) in error
    for _ in range(2):
        assert error.removeprefix("Error: ").splitlines()[0] in laptop.steno("status", code=8).out
    away.rename(folder)
    laptop.sync_here()
    laptop.steno("status", code=0)


@pytest.mark.fault(13)
def test_a_vault_at_another_place_gets_everything_and_the_old_place_stays(pair: Pair, place: Path):
    laptop, desktop = pair
    for number in range(3):
        laptop.steno("create", "--id", f"s{number}")
        laptop.steno("sync")
    desktop.steno("sync")
    before = _objects(_folder(laptop))
    laptop.steno("vault", "leave")
    laptop.steno("init", "--remote", str(place / "other"))
    laptop.steno("create", "--id", "later")
    laptop.steno("sync")
    assert _objects(_folder(desktop)) == before
    fresh = Device(place / "c", remote=place / "other").make()
    fresh.steno("sync")
    assert sorted(fresh.everything()) == ["later", "s0", "s1", "s2"]
    desktop.steno("sync")
    assert sorted(desktop.everything()) == ["s0", "s1", "s2"]


@pytest.mark.fault(40)
def test_a_conflicted_copy_among_the_objects_is_told_and_holds_up_nothing(pair: Pair):
    laptop, desktop = pair
    laptop.steno("create", "--id", "kept")
    laptop.steno("sync")
    (name,) = (_folder(laptop) / "log").iterdir()
    copy = name.with_name(f"{name.name} (desktop's conflicted copy 2026-11-21)")
    shutil.copy(name, copy)
    assert "conflicted copy" in desktop.steno("sync").err
    assert "conflicted copy" in desktop.steno("status").out
    desktop.start()
    until(lambda: "conflicted copy" in str(desktop.status()["notes"]), "the API says so")
    assert equal(laptop, desktop)
    assert copy.exists()
    desktop.stop()


@pytest.mark.fault(23)
def test_a_transcript_that_became_shorter_takes_nothing_away_and_that_is_said(lonely: Device, place: Path):
    lines = [
        {"type": kind, "uuid": f"u{at}", "parentUuid": f"u{at - 1}" if at else None, "sessionId": "s" * 8,
         "timestamp": f"2026-11-21T10:00:0{at}.000Z", "cwd": "/x", "version": "2.0.0",
         "message": {"role": kind, "content": f"text {at}"}}
        for at, kind in enumerate(("user", "assistant", "user"))
    ]  # fmt: skip
    transcript = place / "transcript.jsonl"

    def written(count: int) -> None:
        transcript.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:count]), encoding="utf-8")

    written(3)
    lonely.steno("import", str(transcript))
    (session,) = lonely.everything()
    written(1)
    assert "2 messages more stay" in lonely.steno("import", str(transcript)).err
    assert lonely.json("import", str(transcript))["kept"] == {session: 2}
    assert len(lonely.contents(session)) == 3
    written(3)
    assert lonely.steno("import", str(transcript)).err == ""
