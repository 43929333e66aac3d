"""A file that was renamed and broken may be the one that is missing: its session is not deleted meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.sync.files.mirror import MirrorStopped

from .test_files_mirror import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def _written(desk: Desk) -> tuple[str, Path]:
    session = desk.session("one", "two")
    desk.write()
    return session, desk.path(session)


def _broken(text: str) -> str:
    """A file whose header cannot be read any more, but with the eyes."""
    assert text.startswith('{"steno":1,')
    return text.replace('{"steno":1,', '{"steno":1,,', 1)


def _renamed_and_broken(desk: Desk, path: Path) -> Path:
    """As an editor leaves it that writes the new name and removes the old one."""
    new = desk.root / "mine.jsonl"
    new.write_text(_broken(path.read_text()))
    path.unlink()
    return new


def _renamed_and_emptied(desk: Desk, path: Path) -> Path:
    new = path.rename(desk.root / "mine.jsonl")
    new.write_text("{")
    return new


Renamed = Callable[[Desk, Path], Path]
RENAMED = [_renamed_and_broken, _renamed_and_emptied]


def _halted(desk: Desk) -> None:
    """Remove every file but those at the root, and let the mirror stand still for that."""
    for path in desk.root.glob("*/*/*.jsonl"):
        path.unlink()
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()


@pytest.mark.parametrize("renamed", RENAMED)
def test_resuming_with_delete_keeps_the_session_of_a_file_that_was_renamed_and_broken(desk: Desk, renamed: Renamed):
    session, path = _written(desk)
    others = [desk.session(f"text {at}") for at in range(20)]
    desk.write()
    renamed(desk, path)
    _halted(desk)
    done = desk.mirror.resume(restore=False)
    assert (done.deleted, len(done.kept)) == (len(others), 1)
    assert session in done.kept[0]
    assert "mine.jsonl" in done.kept[0]
    for _ in range(2):
        desk.mirror.scan()
        desk.write()
    assert desk.live() == [session]
    assert [each.path for each in desk.mirror.refused()] == ["mine.jsonl"]


@pytest.mark.parametrize("renamed", RENAMED)
@pytest.mark.parametrize("running", [True, False])
def test_a_file_that_was_renamed_and_broken_does_not_delete_its_session(desk: Desk, renamed: Renamed, running: bool):
    session, path = _written(desk)
    new = renamed(desk, path)
    if running:
        desk.mirror.vanished(desk.mirror.saved([path, new]))
    desk.mirror.scan()
    desk.mirror.scan()
    assert desk.live() == [session]


def test_it_is_the_sessions_file_once_it_is_mended(desk: Desk):
    session, path = _written(desk)
    text = path.read_text()
    new = _renamed_and_broken(desk, path)
    desk.mirror.scan()
    new.write_text(text.replace('"content":"two"', '"content":"2"'))
    desk.mirror.scan()
    desk.write()
    assert (desk.live(), desk.contents(session), desk.files()) == ([session], ["one", "2"], [new])


def test_its_session_is_deleted_once_it_is_removed_as_well(desk: Desk):
    _, path = _written(desk)
    new = _renamed_and_broken(desk, path)
    desk.mirror.scan()
    new.unlink()
    desk.mirror.scan()
    assert desk.live() == []


def test_a_broken_file_that_names_another_session_keeps_none(desk: Desk):
    _, path = _written(desk)
    (desk.root / "foreign.jsonl").write_text('{"steno":1,,"id":"another"}\n')
    desk.mirror.scan()
    keeps_its_inode = path.rename(desk.root.parent / "elsewhere")
    desk.mirror.scan()
    assert keeps_its_inode.exists()
    assert desk.live() == []


def test_an_id_that_is_part_of_another_is_not_named(desk: Desk):
    _, path = _written(desk)
    session = desk.session("short", id="ab")
    desk.write()
    (desk.root / "foreign.jsonl").write_text('{"steno":1,,"id":"abc"}\n')
    desk.mirror.scan()
    desk.path(session).rename(desk.root.parent / "elsewhere")
    desk.mirror.scan()
    assert session not in desk.live()
    assert path.exists()


@pytest.mark.parametrize("session", ["a session/with: more", 'a "quoted" one', "été"])
def test_an_id_of_any_characters_is_found(desk: Desk, session: str):
    desk.session("one", id=session)
    desk.write()
    path = desk.path(session)
    _renamed_and_broken(desk, path)
    desk.mirror.scan()
    assert desk.live() == [session]


def test_it_is_said_once(desk: Desk, caplog: pytest.LogCaptureFixture):
    session, path = _written(desk)
    _renamed_and_broken(desk, path)
    for _ in range(3):
        desk.mirror.scan()
    assert len([record for record in caplog.records if session in record.message and "may be" in record.message]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_renamed_file_that_may_not_be_read_keeps_its_session(desk: Desk):
    session, path = _written(desk)
    path.rename(desk.root / "mine.jsonl").chmod(0)
    desk.mirror.scan()
    assert desk.live() == [session]
