"""Files under a running daemon: what editors and file managers do to them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until


@pytest.fixture(scope="module")
def device(short: Path, forked: None) -> Iterator[Device]:
    """One device whose daemon runs as long as the tests of this module."""
    made = Device(short / "files").make().start()
    yield made
    made.stop()


@pytest.fixture
def alone(lonely: Device, forked: None) -> Iterator[Device]:
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
    assert device.json("show", made)["message_count"] == 2


def test_a_changed_header_is_an_edit(device: Device):
    made, path = session(device, "one")
    in_place(path, path.read_text(encoding="utf-8").replace('"title":"Edited by hand"', '"title":"By me"'))
    until(lambda: device.title(made) == "By me", "the title is set")
    device.steno("tag", made, "from-the-command")
    until(lambda: '"tags":["from-the-command"]' in path.read_text(encoding="utf-8"), "the tag is in the file")
    assert device.title(made) == "By me"


def test_a_vanished_file_deletes_its_session_and_restore_brings_both_back(device: Device):
    made, path = session(device, "one")
    until(device.settled, "it is known that the file stands there")
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
    assert not path.exists()
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
    assert (device.contents(made), device.contents(other)) == (["one"], ["copied"])


def test_a_file_without_header_becomes_a_session(device: Device):
    path = device.home.sessions / "dropped.jsonl"
    path.write_text(line("hello") + line("there"), encoding="utf-8")
    made = until(lambda: _id(path), "the file has a header")
    both_show(device, made, path, "hello", "there")
    assert device.json("show", made)["title"] == "hello"


def test_a_malformed_file_is_left_alone_named_and_taken_when_it_is_mended(device: Device):
    made, path = session(device, "one")
    mended = path.read_text(encoding="utf-8") + line("two")
    broken = mended + '{"role": "user", "content": "unfin'
    in_place(path, broken)
    until(lambda: device.status()["files"]["refused"], "the file is refused")
    done = device.steno("status", code=8)
    relative = str(path.relative_to(device.home.sessions))
    assert f"{relative}:4:" in done.out
    assert len(done.err.strip().splitlines()) == 1
    append(device, made, "arrived")
    until(lambda: device.status()["files"]["not_written"] == 0, "the daemon has looked")
    assert path.read_text(encoding="utf-8") == broken
    in_place(path, mended)
    until(lambda: sorted(shown(path)) == ["arrived", "one", "two"], "the file is taken and gets what arrived")
    assert sorted(device.contents(made)) == ["arrived", "one", "two"]
    device.steno("status")


def sessions(device: Device, count: int) -> list[str]:
    """Sessions, each with its file."""
    with device.store(write=True) as store:
        made = [store.create(title=f"Session {number}").id for number in range(count)]
        for each in made:
            store.append(each, NewMessage(role="user", content="one"))
    until(lambda: [shown(path) for path in device.files()] == [["one"]] * count, "every file is written")
    until(device.settled, "nothing is pending")
    return made


def stands_still(device: Device) -> None:
    """Wait until the mirror stands still."""
    until(lambda: device.status()["files"].get("stopped"), "the mirror stands still")


def goes_on(device: Device, *, files: int) -> None:
    """Wait until the mirror goes on and every file stands there, and see that what is saved and written arrives."""
    until(lambda: not device.status()["files"].get("stopped"), "the mirror goes on")
    until(lambda: len(device.files()) == files, "every file is there")
    until(device.settled, "nothing is pending")
    path = device.files()[0]
    made, *contents = str(_id(path)), *shown(path)
    in_place(path, path.read_text(encoding="utf-8").replace('"content":"one"', '"content":"edited"'))
    contents[0] = "edited"
    both_show(device, made, path, *contents)
    append(device, made, "arrived")
    both_show(device, made, path, *contents, "arrived")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def remove(root: Path) -> None:
    run("rm", "-rf", str(root))


def remove_slowly(root: Path) -> None:
    """As from a slow disk: three seconds for all."""
    run(
        "sh",
        "-c",
        'find "$1" -type f | while read -r file; do rm "$file"; sleep 0.2; done; rm -rf "$1"',
        "sh",
        str(root),
    )


def empty(root: Path) -> None:
    run("sh", "-c", 'rm -rf "$1"/*', "sh", str(root))


def clean(root: Path) -> None:
    run("git", "-C", str(root), "init", "-q")
    run("git", "-C", str(root), "clean", "-fdxq")


def move_away(root: Path) -> None:
    root.rename(root.with_name(f"elsewhere-{root.stat().st_ino}"))


def move_away_and_make_anew(root: Path) -> None:
    move_away(root)
    root.mkdir()


@pytest.fixture(scope="module")
def shelf(short: Path, forked: None) -> Iterator[Device]:
    """A device with fifteen sessions, whose directory is removed and comes back."""
    made = Device(short / "shelf").make().start()
    sessions(made, 15)
    yield made
    made.stop()


@pytest.mark.parametrize("removal", [remove, remove_slowly, empty, clean, move_away, move_away_and_make_anew])
def test_a_directory_that_is_removed_deletes_nothing_and_comes_back_at_a_word(
    shelf: Device, removal: Callable[[Path], None]
):
    before = shelf.everything()
    removal(shelf.home.sessions)
    stands_still(shelf)
    assert shelf.files() == []
    assert shelf.everything() == before
    shelf.here("files", "resume", "--restore")
    assert shelf.everything() == before
    goes_on(shelf, files=15)


@pytest.mark.fault(41)
def test_a_mirror_that_stands_still_says_so_everywhere_also_after_a_restart(alone: Device):
    sessions(alone, 2)
    before, listed = alone.everything(), alone.json("list")
    remove(alone.home.sessions)
    stands_still(alone)
    alone.stop()
    alone.start()
    stands_still(alone)
    assert (alone.everything(), alone.json("list")) == (before, listed)
    assert alone.files() == []
    for command in (("status",), ("files", "status")):
        said = alone.steno(*command, code=8)
        assert "no session was deleted" in said.out
        assert "steno files resume --restore" in said.out
        assert said.err.count("\n") == 1
    assert "no session was deleted" in alone.log()
    alone.steno("files", "resume", "--restore")
    goes_on(alone, files=2)
    alone.steno("status")


@pytest.mark.fault(41)
def test_a_directory_that_is_removed_on_one_device_deletes_nothing_on_the_other(pair: tuple[Device, Device]):
    laptop, desktop = pair
    laptop.start()
    made = sessions(laptop, 15)
    desktop.sync_here()
    before = desktop.everything()
    remove(laptop.home.sessions)
    stands_still(laptop)
    append(desktop, made[0], "from the desktop")
    desktop.sync_here()
    until(lambda: laptop.contents(made[0]) == ["one", "from the desktop"], "syncing goes on")
    laptop.client.sync()
    desktop.sync_here()
    after = desktop.everything()
    assert after.keys() == before.keys()
    assert {id_: after[id_] for id_ in made[1:]} == {id_: before[id_] for id_ in made[1:]}
    laptop.here("files", "resume", "--restore")
    until(lambda: shown(laptop.file(made[0])) == ["one", "from the desktop"], "the files are back and current")
    laptop.stop()


def test_a_directory_that_is_moved_away_and_back_goes_on_by_itself(alone: Device):
    sessions(alone, 3)
    root, elsewhere = alone.home.sessions, alone.place / "elsewhere"
    root.rename(elsewhere)
    stands_still(alone)
    elsewhere.rename(root)
    goes_on(alone, files=3)


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here ({done.stderr.strip()})")


@pytest.fixture
def on_a_disk(lonely: Device, forked: None) -> Iterator[tuple[Device, Path]]:
    """A device whose directory lies on a disk of its own, and where else that disk stands."""
    disk = lonely.place / "disk"
    disk.mkdir()
    lonely.home.sessions.mkdir(exist_ok=True)
    with ExitStack() as stack:
        mount("-t", "tmpfs", "tmpfs", str(disk))
        stack.callback(run, "umount", str(disk))
        mount("--bind", str(disk), str(lonely.home.sessions))
        stack.callback(subprocess.run, ["umount", str(lonely.home.sessions)], capture_output=True, check=False)
        stack.callback(lonely.stop)
        yield lonely.start(), disk


def test_a_disk_that_is_unmounted_and_mounted_again_deletes_nothing_and_goes_on_by_itself(
    on_a_disk: tuple[Device, Path],
):
    device, disk = on_a_disk
    made = sessions(device, 15)
    before = device.everything()
    run("umount", str(device.home.sessions))
    stands_still(device)
    assert device.everything() == before
    assert list(device.home.sessions.iterdir()) == []
    append(device, made[0], "written meanwhile")
    assert len(device.contents(made[0])) == 2
    assert list(device.home.sessions.iterdir()) == []
    mount("--bind", str(disk), str(device.home.sessions))
    until(lambda: shown(device.file(made[0])) == ["one", "written meanwhile"], "what was written meanwhile is there")
    goes_on(device, files=15)


@pytest.mark.fault(41)
def test_many_vanished_files_stop_the_mirror_and_delete_nothing_until_they_are_back(alone: Device):
    made = sessions(alone, 15)
    before = alone.everything()
    aside = alone.place / "aside"
    aside.mkdir()
    paths = alone.files()
    for path in paths:
        path.rename(aside / path.name)
    stands_still(alone)
    assert alone.everything() == before
    for path in paths:
        (aside / path.name).rename(path)
    goes_on(alone, files=len(made))


def test_a_directory_of_another_device_stops_the_mirror_and_is_left_alone(lonely: Device):
    marker = lonely.home.sessions / ".steno"
    marker.write_text('{"steno":1,"device":"zzzzzzzzzzzz"}', encoding="utf-8")
    lonely.start()
    until(lambda: "zzzzzzzzzzzz" in (lonely.status()["files"].get("stopped") or ""), "the mirror stops")
    lonely.steno("create", "--id", "kept")
    assert lonely.files() == []
    lonely.stop()


@pytest.mark.fault(38)
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
