"""What is neither a folder nor a file, and stands where a folder of sessions may be, is named until it is gone."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .test_files_mirror import Desk

Thing = Callable[[Path, Path], None]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(params=[True, False], ids=["running", "scanned"])
def seen(request: pytest.FixtureRequest, desk: Desk) -> Callable[[Path], object]:
    """Let the mirror see what happened at a path: it is told of it, or looks at the whole directory."""

    def told(path: Path) -> None:
        gone = desk.mirror.saved([path])
        desk.mirror.vanished(gone)

    return told if request.param else lambda _: desk.mirror.scan()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the directory in which a session lies."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "foreign.jsonl").write_text('{"role":"user","content":"foreign"}\n')
    return folder


def _fifo(place: Path, outside: Path) -> None:
    os.mkfifo(place)


def _socket(place: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(place.parent):  # its path may be too long
        made.bind(place.name)


def _link_to_a_folder(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def _link_to_nowhere(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "nowhere")


def _link_to_a_device(place: Path, outside: Path) -> None:
    place.symlink_to("/dev/zero")


def _link_to_itself(place: Path, outside: Path) -> None:
    place.symlink_to(place.name)


THINGS = [_fifo, _socket, _link_to_a_folder, _link_to_nowhere, _link_to_a_device, _link_to_itself]


def _refused(desk: Desk) -> list[str]:
    return [each.path for each in desk.mirror.refused()]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", ["2026", "2026/11", "projects"])
def test_what_is_no_folder_where_one_may_be_is_named_until_it_is_gone(
    desk: Desk, outside: Path, seen: Callable[[Path], object], thing: Thing, name: str
):
    place = desk.root / name
    place.parent.mkdir(exist_ok=True)
    thing(place, outside)
    seen(place)
    seen(place)
    assert _refused(desk) == [name]
    place.unlink()
    seen(place)
    assert (_refused(desk), desk.live()) == ([], [])


@pytest.mark.parametrize("thing", THINGS)
def test_it_is_said_once(desk: Desk, outside: Path, thing: Thing, caplog: pytest.LogCaptureFixture):
    thing(desk.root / "projects", outside)
    for _ in range(3):
        desk.mirror.scan()
    assert [record.message.split(":")[0] for record in caplog.records] == ["projects"]


def test_of_a_link_it_is_said_that_it_is_not_followed(desk: Desk, outside: Path):
    _link_to_a_folder(desk.root / "projects", outside)
    desk.mirror.scan()
    (found,) = desk.mirror.refused()
    assert found.reason.startswith("it is a link, and what lies behind a link is not read")


def test_the_folder_itself_in_the_place_of_its_link_is_entered(
    desk: Desk, outside: Path, seen: Callable[[Path], object]
):
    place = desk.root / "projects"
    place.symlink_to(outside)
    seen(place)
    place.unlink()
    outside.rename(place)
    seen(place)
    assert _refused(desk) == []
    assert [desk.contents(each) for each in desk.live()] == [["foreign"]]


def test_a_file_that_is_no_session_in_its_place_is_nothing(desk: Desk, seen: Callable[[Path], object]):
    place = desk.root / "notes"
    os.mkfifo(place)
    seen(place)
    place.unlink()
    place.write_text("my notes")
    seen(place)
    assert _refused(desk) == []


def test_it_is_named_also_in_a_folder_that_was_moved_in(desk: Desk, outside: Path, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(outside)
    folder.rename(desk.root / "folder")
    desk.mirror.saved([desk.root / "folder"])
    assert _refused(desk) == ["folder/link", "folder/pipe"]


@pytest.mark.parametrize("name", [".git", ".#lock", "$RECYCLE.BIN", ".hidden/pipe"])
def test_what_is_hidden_or_thrown_away_is_not_named(desk: Desk, seen: Callable[[Path], object], name: str):
    place = desk.root / name
    place.parent.mkdir(exist_ok=True)
    os.mkfifo(place)
    seen(place)
    assert _refused(desk) == []


def test_a_link_to_a_file_that_is_no_session_is_not_named(desk: Desk, outside: Path, seen: Callable[[Path], object]):
    (outside / "notes.txt").write_text("mine")
    place = desk.root / "notes.txt"
    place.symlink_to(outside / "notes.txt")
    seen(place)
    assert _refused(desk) == []
