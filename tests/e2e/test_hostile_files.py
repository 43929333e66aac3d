"""Files that nobody could take, under a running daemon: each is named with its place, and everything else goes on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage
from steno.sync.files.reading import MAX_FILE_BYTES
from steno.tests.e2e.device import Device, until

MIB = 1 << 20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process took")


@pytest.fixture
def device(lonely: Device) -> Iterator[Device]:
    yield lonely.start()
    lonely.stop()


def session(device: Device, content: str) -> tuple[str, Path]:
    """A session with one message, and its file."""
    with device.store(write=True) as store:
        made = store.create(title="Beside hostile ones").id
        store.append(made, NewMessage(role="user", content=content))
    path = device.file(made)
    until(lambda: shown(path) == [content], "the file is written")
    return made, path


def shown(path: Path) -> list[Any]:
    """The contents that a file shows; nothing where it is not whole."""
    try:
        return [json.loads(line)["content"] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    except (OSError, ValueError, KeyError):
        return []


def goes_on(device: Device, made: str, path: Path) -> None:
    """An edit of this file is taken, and what is added to its session is written."""
    before, *rest = device.contents(made)
    path.write_text(path.read_text(encoding="utf-8").replace(f'"{before}"', f'"{before}!"'), encoding="utf-8")
    with device.store(write=True) as store:
        store.append(made, NewMessage(role="assistant", content="more"))
    wanted = [f"{before}!", *rest, "more"]
    until(lambda: device.contents(made) == wanted == shown(path), "the other session goes on")


def refused(device: Device) -> dict[str, tuple[int, int, str]]:
    """Line, column and reason of each file that is left alone."""
    return {
        each["path"]: (each["line"], each["column"], each["reason"]) for each in device.status()["files"]["refused"]
    }


def message(text: bytes) -> Callable[[Path], object]:
    return lambda place: place.write_bytes(b'{"steno":1}\n{"role":"user","content":' + text + b"}\n")


def large(place: Path) -> None:
    with place.open("wb") as file:
        file.write(b'{"role":"user","content":"')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')


def larger(place: Path) -> None:
    place.touch()
    os.truncate(place, 500 * MIB)


HOSTILE: dict[str, tuple[Callable[[Path], object], int, int, str]] = {
    "bytes": (message(b'"\xff"'), 2, 27, "not UTF-8"),
    "nul": (message(b'"\x00"'), 2, 27, "a NUL"),
    "surrogate": (message(b'"\\ud800"'), 2, 26, "lone surrogate"),
    "nested": (message(b"[" * 10_000 + b"]" * 10_000), 2, 90, "nests deeper"),
    "twice": (message(b'"x","metadata":{"a":1,"a":2}'), 2, 48, "stands twice"),
    "torn": (message(b'"x"\n{"role":"user"'), 2, 1, "before line 3 begins another"),
    "large": (large, 1, 1, "the message takes 100,000,029 bytes"),
    "larger": (larger, 0, 0, f"larger than {MAX_FILE_BYTES:,} bytes is not read"),
    "pipe": (os.mkfifo, 0, 0, "is no plain file"),
    "link": (lambda place: place.symlink_to("/etc/hosts"), 0, 0, "is no plain file"),
    "loop": (lambda place: place.symlink_to(place.name), 0, 0, "is no plain file"),
    "device": (lambda place: place.symlink_to("/dev/zero"), 0, 0, "is no plain file"),
}


def test_every_hostile_file_is_named_with_its_place_and_no_other_session_notices(device: Device):
    made, path = session(device, "one")
    before = device.everything().keys()
    for name, (make, *_) in HOSTILE.items():
        make(device.home.sessions / f"{name}.jsonl")
    goes_on(device, made, path)
    until(lambda: len(refused(device)) == len(HOSTILE), "all of them are looked at")
    for name, (line, column, reason) in ((name, each[1:]) for name, each in HOSTILE.items()):
        found = refused(device)[f"{name}.jsonl"]
        assert found[:2] == (line, column)
        assert reason in found[2]
    assert device.everything().keys() == before
    told = device.steno("status", code=8).out
    for name, (_, line, column, _) in HOSTILE.items():
        assert f"{name}.jsonl" + (f":{line}:{column}: " if line else ": ") in told
    device.stop()
    device.start()
    until(lambda: len(refused(device)) == len(HOSTILE), "they are still there after a restart")
    goes_on(device, made, path)
    for name in HOSTILE:
        (device.home.sessions / f"{name}.jsonl").unlink()
    until(lambda: refused(device) == {}, "they are gone")
    device.steno("status")
    assert device.everything().keys() == before


@pytest.mark.fault(37, 38)
@LINUX
def test_hostile_files_take_little_memory_and_are_not_read_over_and_over(device: Device):
    made, path = session(device, "one")
    peak, read = _peak_bytes(device), _bytes_read(device)
    large(device.home.sessions / "large.jsonl")
    larger(device.home.sessions / "larger.jsonl")
    until(lambda: len(refused(device)) == 2, "both are looked at")
    for _ in range(3):
        goes_on(device, made, path)
    assert _bytes_read(device) - read < 600 * MIB, "the one is read a few times at most, the other never"
    assert _peak_bytes(device) - peak < 400 * MIB


def _peak_bytes(device: Device) -> int:
    assert device.daemon is not None
    text = Path(f"/proc/{device.daemon.pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def _bytes_read(device: Device) -> int:
    assert device.daemon is not None
    return int(Path(f"/proc/{device.daemon.pid}/io").read_text(encoding="ascii").split()[1])


@pytest.mark.parametrize("thing", ["file", "link"])
def test_what_stands_in_the_place_of_a_folder_holds_back_only_what_lies_below_it(
    device: Device, place: Path, thing: str
):
    below, held = session(device, "below")
    made, path = session(device, "one")
    path = path.rename(device.home.sessions / path.name)
    folder = held.parents[1]
    aside = folder.rename(place / "aside")
    if thing == "file":
        folder.write_text("no folder", encoding="utf-8")
    else:
        folder.symlink_to(aside)
    outside = {each: each.lstat().st_mtime_ns for each in aside.rglob("*")}
    with device.store(write=True) as store:
        store.append(below, NewMessage(role="user", content="arrived"))
    goes_on(device, made, path)
    until(lambda: list(refused(device)) == [str(held.relative_to(device.home.sessions))], "it is named")
    assert device.contents(below) == ["below", "arrived"]
    assert {each: each.lstat().st_mtime_ns for each in aside.rglob("*")} == outside
    folder.unlink()
    shutil.move(aside, folder)
    until(lambda: shown(held) == ["below", "arrived"], "it is taken up again")
    until(lambda: refused(device) == {}, "nothing is wrong any more")
