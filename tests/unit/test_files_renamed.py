"""A file that was renamed, and another one that was put where it stood: the session goes with its own file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .test_files_mirror import Desk

OTHER = '{"role":"user","content":"hello"}\n{"role":"user","content":"there"}\n'


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def _both(desk: Desk, *paths: Path) -> None:
    desk.mirror.saved(paths)


def _scan(desk: Desk, *_: Path) -> None:
    desk.mirror.scan()


def _new_one(desk: Desk, *paths: Path) -> None:
    desk.mirror.saved(paths[1:])


def _put(path: Path, text: str) -> None:
    """Put a file of another program in a place."""
    made = path.with_name("made elsewhere")
    made.write_text(text)
    made.rename(path)


def _come_to_rest(desk: Desk) -> None:
    for _ in range(3):
        desk.mirror.scan()
        desk.write()


@pytest.mark.parametrize("seen", [_both, _scan, _new_one])
@pytest.mark.parametrize("lines", [OTHER, OTHER.replace("{", '{"id":"another",', 1), '{"type":"user","uuid":"u"}\n'])
def test_a_renamed_file_in_whose_place_a_file_without_header_was_put_stays_the_session(
    desk: Desk, seen: Callable[..., None], lines: str
):
    session = desk.session("one", "two")
    desk.write()
    path, renamed = desk.path(session), desk.root / "renamed.jsonl"
    path.rename(renamed)
    _put(path, lines)
    seen(desk, path, renamed)
    _come_to_rest(desk)
    assert desk.head(renamed)["id"] == session
    assert desk.contents(session) == ["one", "two"]


@pytest.mark.parametrize("seen", [_both, _scan, _new_one])
def test_a_file_without_header_in_the_place_of_a_renamed_one_becomes_a_session(desk: Desk, seen: Callable[..., None]):
    session = desk.session("one", "two")
    desk.write()
    path, renamed = desk.path(session), desk.root / "renamed.jsonl"
    path.rename(renamed)
    _put(path, OTHER)
    seen(desk, path, renamed)
    _come_to_rest(desk)
    [other] = [each for each in desk.live() if each != session]
    assert desk.contents(other) == ["hello", "there"]


def test_a_save_of_an_editor_whose_file_was_renamed_and_then_overwritten_stays_the_session(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path, renamed = desk.path(session), desk.root / "renamed.jsonl"
    text = path.read_text()
    path.rename(renamed)
    desk.mirror.saved([path, renamed])
    desk.clock += 60
    _put(renamed, OTHER)
    _put(path, text.replace('"content":"one"', '"content":"edited"'))
    _come_to_rest(desk)
    assert desk.path(session) == path
    assert sorted(desk.contents(each) for each in desk.live()) == [["edited", "two"], ["hello", "there"]]


def test_a_file_that_lost_its_header_stays_the_session_beside_a_copy(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path, copy = desk.path(session), desk.root / "copy.jsonl"
    shutil.copy(path, copy)
    _put(path, "".join(path.read_text().splitlines(keepends=True)[1:]) + OTHER)
    desk.mirror.saved([path, copy])
    _come_to_rest(desk)
    assert desk.contents(session) == ["one", "two", "hello", "there"]


@pytest.mark.parametrize("half", ["", '{"steno":1,"id', '{"role":"us', "{\n"])
def test_a_file_that_is_half_written_where_a_backup_was_made_stays_the_session(desk: Desk, half: str):
    session = desk.session("one", "two")
    desk.write()
    path, backup = desk.path(session), desk.root / "backup.jsonl"
    text = path.read_text()
    path.rename(backup)
    path.write_text(half)
    desk.mirror.saved([path, backup])
    desk.clock += 60
    path.write_text(text.replace('"content":"one"', '"content":"edited"'))
    _come_to_rest(desk)
    assert desk.path(session) == path
    assert desk.contents(session) == ["edited", "two"]


def test_a_line_taken_for_the_first_where_a_backup_was_made_stays_the_session(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path, backup = desk.path(session), desk.root / "backup.jsonl"
    text = path.read_text()
    path.rename(backup)
    path.write_text("".join(text.replace('"content":"one"', '"content":"edited"').splitlines(keepends=True)[1:]))
    desk.mirror.saved([path, backup])
    _come_to_rest(desk)
    assert desk.path(session) == path
    assert desk.contents(session) == ["edited", "two"]
