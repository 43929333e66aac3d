"""Files under a running daemon: what editors and file managers do to them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until


@pytest.fixture(scope="module")
def device(short: Path) -> Iterator[Device]:
    """One device whose daemon runs as long as the tests of this module."""
    made = Device(short / "files").make().start()
    yield made
    made.stop()


@pytest.fixture
def alone(lonely: Device) -> Iterator[Device]:
    """A device of this test alone, for what concerns its whole directory."""
    yield lonely.start()
    lonely.stop()


def session(device: Device, *contents: str) -> tuple[str, Path]:
    """A session with these messages, and its file once it shows them."""
    with device.store(write=True) as store:
        made = store.create(title="Edited by hand").id
        store.add_messages(made, [NewMessage(role="user", content=each, id=each) for each in contents])
    path = device.file(made)
    until(lambda: shown(path) == list(contents), "the file is written")
    return made, path


def shown(path: Path) -> list[Any]:
    """The contents that a file shows; nothing where it is not whole."""
    try:
        return [json.loads(line)["content"] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    except (OSError, ValueError, KeyError):
        return []


def line(content: str) -> str:
    return json.dumps({"role": "user", "content": content}) + "\n"


def append(device: Device, made: str, content: str) -> None:
    with device.store(write=True) as store:
        store.append(made, NewMessage(role="assistant", content=content))


def both_show(device: Device, made: str, path: Path, *contents: str) -> None:
    """Wait until store and file show this."""
    wanted = list(contents)
    until(
        lambda: device.contents(made) == wanted == shown(path), f"{wanted}, not {device.contents(made)}, {shown(path)}"
    )


def in_place(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def by_rename(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.swp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def by_backup(path: Path, text: str) -> None:
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    path.write_text(text, encoding="utf-8")
    backup.unlink()


def in_pieces(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        for at in range(0, len(text), 40):
            file.write(text[at : at + 40])
            file.flush()


SAVES = [in_place, by_rename, by_backup, in_pieces]


@pytest.mark.parametrize("save", SAVES)
def test_a_hand_edit_is_taken_however_the_editor_saves(device: Device, save: Callable[[Path, str], None]):
    made, path = session(device, "one", "two")
    save(path, path.read_text(encoding="utf-8").replace('"content":"two"', '"content":"2"') + line("three"))
    both_show(device, made, path, "one", "2", "three")


def test_a_file_saved_twice_without_reloading_adds_its_line_once(device: Device):
    made, path = session(device, "one")
    text = path.read_text(encoding="utf-8") + line("new")
    in_place(path, text)
    both_show(device, made, path, "one", "new")
    in_place(path, text)
    until(lambda: '"id":null' not in path.read_text() and path.read_text() != text, "the file has ids again")
    both_show(device, made, path, "one", "new")


def test_a_stale_file_changes_nothing_of_a_line_that_was_edited_elsewhere(device: Device):
    made, path = session(device, "one", "two")
    stale = path.read_text(encoding="utf-8")
    with device.store(write=True) as store:
        store.edit_message(made, "two", {"content": "edited elsewhere"})
    both_show(device, made, path, "one", "edited elsewhere")
    in_place(path, stale.replace('"content":"one"', '"content":"1"'))
    both_show(device, made, path, "1", "edited elsewhere")
    assert [each for each in device.json("conflicts") if each["session"] == made] == []


def test_a_file_edited_while_an_append_arrives_keeps_both(device: Device):
    made, path = session(device, "one")
    stale = path.read_text(encoding="utf-8")
    append(device, made, "arrived")
    in_place(path, stale.replace('"content":"one"', '"content":"1"'))
    both_show(device, made, path, "1", "arrived")


@pytest.mark.parametrize("save", [in_place, by_rename])
def test_a_hundred_saves_while_a_hundred_appends_arrive_lose_nothing(device: Device, save: Callable[[Path, str], None]):
    made, path = session(device, "count 0")
    written = [f"appended {number}" for number in range(100)]
    writer = threading.Thread(target=lambda: [append(device, made, each) for each in written])
    writer.start()
    for number in range(1, 101):
        text = path.read_text(encoding="utf-8")
        if text.endswith("\n") and f'"content":"count {number - 1}"' in text:
            save(path, text.replace(f'"content":"count {number - 1}"', f'"content":"count {number}"'))
        else:
            until(lambda number=number: f"count {number - 1}" in path.read_text(encoding="utf-8"), "the file is back")
            text = path.read_text(encoding="utf-8")
            save(path, text.replace(f'"content":"count {number - 1}"', f'"content":"count {number}"'))
    writer.join()
    until(lambda: device.contents(made) == ["count 100", *written], "every save and every append is in the store")
    both_show(device, made, path, "count 100", *written)


def test_a_removed_line_deletes_its_message(device: Device):
    made, path = session(device, "one", "two", "three")
    kept = [each for each in path.read_text(encoding="utf-8").splitlines(keepends=True) if '"two"' not in each]
    in_place(path, "".join(kept))
    both_show(device, made, path, "one", "three")


def test_a_changed_header_is_an_edit(device: Device):
    made, path = session(device, "one")
    in_place(path, path.read_text(encoding="utf-8").replace('"title":"Edited by hand"', '"title":"By me"'))
    until(lambda: device.title(made) == "By me", "the title is set")
    device.steno("tag", made, "from-the-command")
    until(lambda: '"tags":["from-the-command"]' in path.read_text(encoding="utf-8"), "the tag is in the file")
    assert device.title(made) == "By me"


def test_a_vanished_file_deletes_its_session_and_restore_brings_both_back(device: Device):
    made, path = session(device, "one")
    path.unlink()
    until(lambda: device.title(made) is None, "the session is deleted")
    assert device.steno("show", made, code=3).err
    device.steno("restore", made)
    until(lambda: shown(device.file(made)) == ["one"], "the file is back")
    assert device.contents(made) == ["one"]


def test_a_renamed_file_stays_the_session(device: Device):
    made, path = session(device, "one")
    renamed = path.with_name("a name of my own.jsonl")
    path.rename(renamed)
    append(device, made, "two")
    both_show(device, made, renamed, "one", "two")
    assert not path.exists()


def test_a_file_moved_to_a_new_folder_stays_the_session(device: Device):
    made, path = session(device, "one")
    folder = device.home.sessions / "projects" / "basket"
    folder.mkdir(parents=True)
    moved = folder / path.name
    path.rename(moved)
    append(device, made, "two")
    both_show(device, made, moved, "one", "two")
    in_place(moved, moved.read_text(encoding="utf-8").replace('"content":"two"', '"content":"2"'))
    both_show(device, made, moved, "one", "2")


def test_a_copied_file_becomes_a_new_session(device: Device):
    made, path = session(device, "one")
    copy = path.with_name("copy.jsonl")
    shutil.copy(path, copy)
    other = until(lambda: (found := _id(copy)) != made and found, "the copy has an id of its own")
    both_show(device, other, copy, "one")
    in_place(copy, copy.read_text(encoding="utf-8").replace('"content":"one"', '"content":"copied"'))
    both_show(device, other, copy, "copied")
    both_show(device, made, path, "one")


def test_a_file_without_header_becomes_a_session(device: Device):
    path = device.home.sessions / "dropped.jsonl"
    path.write_text(line("hello") + line("there"), encoding="utf-8")
    made = until(lambda: _id(path), "the file has a header")
    both_show(device, made, path, "hello", "there")


def test_a_malformed_file_is_left_alone_named_and_taken_when_it_is_mended(device: Device):
    made, path = session(device, "one")
    mended = path.read_text(encoding="utf-8") + line("two")
    broken = mended + '{"role": "user", "content": "unfin'
    in_place(path, broken)
    until(lambda: device.status()["files"]["refused"], "the file is refused")
    done = device.steno("status", code=8)
    relative = str(path.relative_to(device.home.sessions))
    assert f"{relative}, line 4" in done.out
    assert len(done.err.strip().splitlines()) == 1
    append(device, made, "arrived")
    until(lambda: device.status()["files"]["not_written"] == 0, "the daemon has looked")
    assert path.read_text(encoding="utf-8") == broken
    in_place(path, mended)
    until(lambda: sorted(shown(path)) == ["arrived", "one", "two"], "the file is taken and gets what arrived")
    assert sorted(device.contents(made)) == ["arrived", "one", "two"]
    device.steno("status")


def test_a_directory_that_is_removed_deletes_nothing_is_rebuilt_and_watched_again(alone: Device):
    sessions = [session(alone, f"text {number}")[0] for number in range(15)]
    shutil.rmtree(alone.home.sessions)
    until(lambda: len(alone.files()) == len(sessions), "every file is written anew")
    assert sorted(alone.everything()) == sorted(sessions)
    path = alone.file(sessions[0])
    until(alone.settled, "nothing is pending")
    in_place(path, path.read_text(encoding="utf-8").replace('"content":"text 0"', '"content":"after"'))
    both_show(alone, sessions[0], path, "after")


def test_a_directory_that_is_moved_away_deletes_nothing_and_is_rebuilt(alone: Device):
    sessions = [session(alone, f"text {number}")[0] for number in range(3)]
    alone.home.sessions.rename(alone.place / "elsewhere")
    until(lambda: len(alone.files()) == len(sessions), "every file is written anew")
    assert sorted(alone.everything()) == sorted(sessions)
    path = alone.file(sessions[0])
    in_place(path, path.read_text(encoding="utf-8").replace('"content":"text 0"', '"content":"after"'))
    both_show(alone, sessions[0], path, "after")


def test_many_vanished_files_stop_the_mirror_and_delete_nothing_until_they_are_back(alone: Device):
    made = [session(alone, f"text {number}") for number in range(15)]
    aside = alone.place / "aside"
    aside.mkdir()
    for _, path in made:
        path.rename(aside / path.name)
    until(lambda: alone.status()["files"].get("stopped"), "the mirror stops")
    assert "no session was deleted" in alone.steno("status", code=8).out
    assert len(alone.everything()) == 15
    for _, path in made:
        (aside / path.name).rename(path)
    until(lambda: not alone.status()["files"].get("stopped"), "the mirror goes on")
    append(alone, made[0][0], "after")
    both_show(alone, *made[0], "text 0", "after")


def test_a_directory_of_another_device_stops_the_mirror_and_is_left_alone(lonely: Device):
    marker = lonely.home.sessions / ".steno"
    marker.write_text('{"steno":1,"device":"zzzzzzzzzzzz"}', encoding="utf-8")
    lonely.start()
    until(lambda: "zzzzzzzzzzzz" in (lonely.status()["files"].get("stopped") or ""), "the mirror stops")
    lonely.steno("create", "--id", "kept")
    assert lonely.files() == []
    lonely.stop()


def test_the_daemon_is_quiet_when_nothing_happens(device: Device):
    until(device.settled, "nothing is pending")
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in device.files()}
    with device.store() as store:
        seq = store.last_seq
        device.steno("status", code=None)
        assert store.last_seq == seq
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in device.files()} == before
    assert [path.name for path in device.home.sessions.rglob(".steno-*")] == []
    assert device.home.sessions.stat().st_mode & 0o777 == 0o700


def _id(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8").splitlines()[0]).get("id")
    except (OSError, ValueError, IndexError):
        return None
