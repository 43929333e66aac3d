"""What people, disks and other programs do to the directory at bad moments: nothing is lost, doubled or deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import MARKER, MirrorStopped, halt_of

from .test_files_mirror import Desk

NOBODY = 65534


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def _filled(desk: Desk, count: int) -> list[str]:
    sessions = sorted(desk.session(f"text {at}") for at in range(count))
    desk.write()
    return sessions


def _halted(desk: Desk) -> None:
    """Stop the mirror by removing every file."""
    for path in desk.files():
        path.unlink()
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()


# Files that are written again


def test_files_come_back_under_the_names_that_people_gave_them(desk: Desk):
    _filled(desk, 12)
    for at, path in enumerate(desk.files()):
        path.rename(desk.root / f"mine {at}.jsonl")
    desk.mirror.scan()
    names = [path.name for path in desk.files()]
    _halted(desk)
    desk.mirror.resume(restore=True)
    desk.write()
    assert [path.name for path in desk.files()] == names


def test_files_that_come_back_before_they_are_written_again_are_no_copies(desk: Desk):
    sessions = _filled(desk, 12)
    shutil.copytree(desk.root, desk.root.with_name("kept"))
    _halted(desk)
    desk.mirror.resume(restore=True)
    shutil.copytree(desk.root.with_name("kept"), desk.root, dirs_exist_ok=True)
    desk.write()
    desk.mirror.scan()
    desk.write()
    assert (desk.live(), len(desk.files())) == (sessions, 12)


def test_an_edit_in_a_file_that_comes_back_before_it_is_written_again_is_taken(desk: Desk):
    sessions = _filled(desk, 12)
    path = desk.path(sessions[0])
    edited = path.read_text().replace("text", "edited")
    _halted(desk)
    desk.mirror.resume(restore=True)
    path.write_text(edited)
    desk.write()
    assert [str(each)[:6] for each in desk.contents(sessions[0])] == ["edited"]


def test_a_disk_that_is_unmounted_before_the_files_are_written_again_stops_the_mirror(desk: Desk):
    _filled(desk, 12)
    _halted(desk)
    desk.mirror.resume(restore=True)
    shutil.rmtree(desk.root)
    desk.root.mkdir()
    with pytest.raises(MirrorStopped):
        desk.write()
    assert not (desk.root / MARKER).exists()


def test_files_are_written_again_twice_although_one_session_waits(desk: Desk):
    sessions = _filled(desk, 30)
    busy = desk.store.live(sessions[0]).no
    for _ in range(2):
        _halted(desk)
        desk.mirror.resume(restore=True)
        desk.mirror._writing._pace.hold(busy, 50.0)
        while desk.mirror.write_pending() == 0:
            pass
        desk.mirror._writing._pace.hold(busy, 0.0)
        desk.write()
        assert len(desk.files()) == 30


def test_rebuilding_follows_a_renamed_file_that_cannot_be_understood(desk: Desk):
    sessions = _filled(desk, 2)
    path = desk.path(sessions[0])
    mine = desk.root / "mine.jsonl"
    text = path.read_text()
    path.unlink()
    mine.write_text(text + '{"role":"user","content":')
    desk.mirror.rebuild()
    desk.save(mine, text + '{"role":"user","content":"typed"}\n')
    desk.write()
    assert (desk.live(), len(desk.files()), desk.contents(sessions[0])[-1]) == (sessions, 2, "typed")


def test_rebuilding_ends_although_a_file_is_removed_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    sessions = _filled(desk, 2)
    desk.store.append(sessions[0], NewMessage(role="user", content="pending"))
    path = desk.path(sessions[0])
    take = desk.mirror._taking.take

    def removed_meanwhile(place: Path, **how: object) -> int | None:
        taken = take(place, **how)  # pyright: ignore[reportArgumentType]
        path.unlink(missing_ok=True)
        return taken

    monkeypatch.setattr(desk.mirror._taking, "take", removed_meanwhile)
    desk.mirror.rebuild()
    assert desk.clock < 60


# Names and links


def test_a_folder_whose_name_is_no_text_deletes_nothing(desk: Desk):
    sessions = _filled(desk, 2)
    folder = Path(os.fsdecode(os.fsencode(desk.root) + b"/caf\xe9"))
    folder.mkdir()
    path = desk.path(sessions[0])
    moved = folder / path.name
    path.rename(moved)
    for _ in range(3):
        desk.mirror.vanished(desk.mirror.saved([path, moved]))
        desk.mirror.scan()
        desk.write()
    assert not (desk.root / "caf\\xe9").exists()
    assert len(desk.mirror.refused()) == 1
    moved.rename(desk.root / "back.jsonl")
    desk.mirror.scan()
    assert desk.live() == sessions


@pytest.mark.parametrize("target", [".", "../outside"])
def test_a_link_to_a_folder_is_not_followed(desk: Desk, target: str):
    sessions = _filled(desk, 2)
    outside = desk.root.parent / "outside"
    outside.mkdir()
    (outside / "notes.jsonl").write_text('{"role":"user","content":"private"}\n')
    link = desk.root / "link"
    link.symlink_to(target)
    desk.mirror.vanished(desk.mirror.saved([link, *link.rglob("*.jsonl")]))
    desk.mirror.scan()
    link.unlink()
    desk.mirror.vanished(desk.mirror.saved([link]))
    assert desk.live() == sessions


# What vanishes


def test_a_file_that_is_there_again_says_nothing_of_the_volume(desk: Desk):
    sessions = _filled(desk, 8)
    with desk.store.transaction():
        desk.store.set_meta("files-volume", "1")
    paths = [str(path.relative_to(desk.root)) for path in desk.files()]
    desk.mirror.vanished(paths[:1])
    for path in desk.files()[3:]:
        path.unlink()
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    assert desk.live() == sessions


def test_a_renamed_file_does_not_bring_back_a_session_that_was_deleted_meanwhile(desk: Desk):
    sessions = _filled(desk, 3)
    path = desk.path(sessions[0])
    path.rename(desk.root / "renamed.jsonl")
    desk.store.delete(sessions[0])
    while desk.mirror.write_pending() == 0:
        pass
    desk.mirror.scan()
    desk.write()
    assert desk.live() == sessions[1:]
    assert len(desk.files()) == 2


def test_a_file_that_is_removed_before_it_was_written_deletes_nothing_unseen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    path = desk.root / "notes.jsonl"
    path.write_text('{"role":"user","content":"mine"}\n')
    with monkeypatch.context() as patched:
        patched.setattr(desk.mirror._writing, "write", lambda *_, **__: False)
        desk.mirror.saved([path])
    (session,) = desk.live()
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    path.unlink()
    desk.mirror.vanished(["notes.jsonl"])
    desk.write()
    assert desk.contents(session) == ["mine", "arrived"]


def test_files_of_sessions_that_were_deleted_are_not_counted(desk: Desk):
    sessions = _filled(desk, 14)
    paths = [desk.path(each) for each in sessions[:12]]
    for each in sessions[:12]:
        desk.store.delete(each)
    for path in paths:
        path.unlink()
    desk.mirror.scan()
    assert (desk.live(), halt_of(desk.store)) == (sessions[12:], None)


def test_sessions_that_were_restored_since_are_not_counted(desk: Desk):
    sessions = _filled(desk, 20)
    for _ in range(3):
        gone = desk.files()[:6]
        ids = [desk.head(path)["id"] for path in gone]
        for path in gone:
            path.unlink()
        desk.mirror.scan()
        for each in ids:
            desk.store.restore(each)
        desk.write()
    assert (desk.live(), halt_of(desk.store)) == (sessions, None)


def test_what_was_deleted_on_purpose_while_it_stood_still_stays_deleted(desk: Desk):
    sessions = _filled(desk, 30)
    first = desk.files()[:6]
    wanted = desk.head(first[0])["id"]
    for path in first:
        path.unlink()
    desk.mirror.scan()
    for path in desk.files()[:6]:
        path.unlink()
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    desk.store.restore(wanted)
    desk.store.delete(wanted)
    desk.mirror.resume(restore=True)
    assert desk.live() == [each for each in sessions if each != wanted]


# Folders that may not be entered


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process of another user")
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_folder_that_may_not_be_entered_holds_up_no_other(mode: int):
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        closed, other = _with_a_closed_folder(place, mode)
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                code = _edit_as_nobody(place, other)
            os._exit(code)
        _, status = os.waitpid(child, 0)
        (place / "sessions" / "closed").chmod(0o700)
        with Store(place / "steno.db") as store:
            assert os.waitstatus_to_exitcode(status) == 0
            assert sorted(each.id for each in store.sessions()) == sorted([closed, other])


def _with_a_closed_folder(place: Path, mode: int) -> tuple[str, str]:
    """A home of nobody with two sessions, of which one lies in a folder of this mode."""
    desk = Desk(place)
    closed, other = desk.session("closed"), desk.session("other")
    desk.write()
    folder = desk.root / "closed"
    folder.mkdir()
    desk.path(closed).rename(folder / "x.jsonl")
    desk.mirror.scan()
    desk.store.close()
    for path in (place, *place.rglob("*")):
        if os.getuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    folder.chmod(mode)
    return closed, other


def _edit_as_nobody(place: Path, other: str) -> int:
    """Edit a file as somebody who may not enter the closed folder; 0 where that was taken and the other was named."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    desk = Desk(place)
    path = next(path for path in (desk.root / "2027").rglob("*.jsonl"))
    path.write_text(path.read_text().replace('"content":"other"', '"content":"edited"'))
    desk.mirror.scan()
    named = [each.path for each in desk.mirror.refused()]
    return 0 if desk.contents(other) == ["edited"] and named == ["closed/x.jsonl"] else 2
