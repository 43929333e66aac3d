"""What keeps a vanished directory from deleting sessions, and how a person lets the mirror go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput
from steno.storage.model import NewMessage
from steno.sync.files.mirror import MARKER, MirrorStopped, halt_of

from .test_files_mirror import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def _filled(desk: Desk, count: int) -> list[str]:
    sessions = sorted(desk.session(f"text {at}") for at in range(count))
    desk.write()
    return sessions


def _remove(desk: Desk, count: int) -> None:
    """Remove files one by one, and let the mirror hear of all of them at once."""
    gone = desk.files()[:count]
    for path in gone:
        path.unlink()
    desk.mirror.vanished(desk.mirror.saved(gone))


def _kind(desk: Desk) -> str | None:
    halt = halt_of(desk.store)
    return halt.kind if halt else None


def _removed_root(desk: Desk) -> None:
    shutil.rmtree(desk.root)


def _emptied(desk: Desk) -> None:
    """What an unmounted disk leaves: the empty folder that it was mounted on."""
    shutil.rmtree(desk.root)
    desk.root.mkdir()


def _cleaned(desk: Desk) -> None:
    """What `git clean` leaves of files that it does not know: hidden ones."""
    for path in desk.files():
        path.unlink()


def _unmarked(desk: Desk) -> None:
    (desk.root / MARKER).unlink()


def _of_another(desk: Desk) -> None:
    (desk.root / MARKER).write_text('{"steno":1,"device":"zzzzzzzzzzzz"}')


FAULTS: dict[str, tuple[Callable[[Desk], None], str]] = {
    "the root is gone": (_removed_root, "root-missing"),
    "the root is empty": (_emptied, "marker-missing"),
    "every file is gone": (_cleaned, "vanished"),
    "the marker is gone": (_unmarked, "marker-missing"),
    "the marker is of another device": (_of_another, "other-device"),
}


@pytest.fixture(params=FAULTS.values(), ids=list(FAULTS))
def fault(request: pytest.FixtureRequest) -> tuple[Callable[[Desk], None], str]:
    return request.param


def test_a_directory_that_is_not_in_its_place_stops_the_mirror_and_deletes_nothing(
    desk: Desk, fault: tuple[Callable[[Desk], None], str]
):
    sessions = _filled(desk, 12)
    fault[0](desk)
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    assert desk.live() == sessions
    assert _kind(desk) == fault[1]


@pytest.mark.fault(41)
def test_it_stands_still_also_after_a_restart(desk: Desk, fault: tuple[Callable[[Desk], None], str]):
    sessions = _filled(desk, 12)
    fault[0](desk)
    with pytest.raises(MirrorStopped):
        desk.opened()
    with pytest.raises(MirrorStopped):
        desk.opened()
    with pytest.raises(MirrorStopped):
        desk.mirror.write_pending()
    assert desk.live() == sessions


def test_it_says_what_to_do(desk: Desk, fault: tuple[Callable[[Desk], None], str]):
    _filled(desk, 12)
    fault[0](desk)
    with pytest.raises(MirrorStopped, match=r".*") as caught:
        desk.mirror.scan()
    assert "steno files resume --restore" in caught.value.line


@pytest.mark.fault(41)
def test_resuming_with_restore_brings_every_file_back(desk: Desk, fault: tuple[Callable[[Desk], None], str]):
    sessions = _filled(desk, 12)
    before = {path: data for path, data in desk.everything().items() if path != MARKER}
    fault[0](desk)
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    desk.mirror.resume(restore=True)
    desk.mirror.scan()
    desk.write()
    assert desk.live() == sessions
    assert [path for path in desk.everything() if path != MARKER] == list(before)
    assert halt_of(desk.store) is None


def test_resuming_with_delete_deletes_the_sessions_of_the_missing_files(desk: Desk):
    sessions = _filled(desk, 15)
    kept = [desk.head(path)["id"] for path in desk.files()[12:]]
    with pytest.raises(MirrorStopped):
        _remove(desk, 12)
    assert desk.live() == sessions
    done = desk.mirror.resume(restore=False)
    desk.write()
    assert desk.live() == sorted(kept)
    assert done.deleted == 12


@pytest.mark.fault(41)
@pytest.mark.parametrize(("total", "gone", "stops"), [(12, 10, False), (12, 11, True), (60, 12, False), (60, 13, True)])
def test_more_than_ten_files_and_a_fifth_of_all_are_too_many(desk: Desk, total: int, gone: int, stops: bool):
    _filled(desk, total)
    if stops:
        with pytest.raises(MirrorStopped, match=f"{gone} of {total}"):
            _remove(desk, gone)
    else:
        _remove(desk, gone)
    assert len(desk.live()) == (total if stops else total - gone)


def test_files_that_vanish_little_by_little_are_counted_together(desk: Desk):
    sessions = _filled(desk, 30)
    _remove(desk, 6)
    desk.clock += 5
    with pytest.raises(MirrorStopped, match="12 of 30"):
        _remove(desk, 6)
    assert len(desk.live()) == 24
    done = desk.mirror.resume(restore=True)
    desk.write()
    assert desk.live() == sessions
    assert (done.restored, done.files) == (6, 6)
    assert len(desk.files()) == 30


def test_files_that_vanish_long_after_each_other_are_meant(desk: Desk):
    _filled(desk, 30)
    _remove(desk, 6)
    desk.clock += 600
    _remove(desk, 6)
    assert len(desk.live()) == 18


def test_a_directory_that_comes_back_as_it_was_goes_on_by_itself(desk: Desk):
    sessions = _filled(desk, 12)
    desk.root.rename(desk.root.with_name("elsewhere"))
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    desk.root.with_name("elsewhere").rename(desk.root)
    desk.mirror.scan()
    assert halt_of(desk.store) is None
    assert desk.live() == sessions


def test_a_directory_that_comes_back_with_a_file_less_still_asks(desk: Desk):
    sessions = _filled(desk, 12)
    desk.root.rename(desk.root.with_name("elsewhere"))
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    desk.root.with_name("elsewhere").rename(desk.root)
    desk.files()[0].unlink()
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    assert desk.live() == sessions


def test_files_missing_on_another_volume_stop_the_mirror(desk: Desk):
    sessions = _filled(desk, 3)
    with desk.store.transaction():
        desk.store.set_meta("files-volume", "1")
    with pytest.raises(MirrorStopped, match="volume"):
        _remove(desk, 1)
    assert desk.live() == sessions


def test_another_number_of_the_volume_alone_is_learnt(desk: Desk):
    _filled(desk, 3)
    with desk.store.transaction():
        desk.store.set_meta("files-volume", "1")
    desk.opened()
    _remove(desk, 1)
    assert len(desk.live()) == 2


def test_a_home_without_any_file_yet_makes_its_directory(desk: Desk):
    shutil.rmtree(desk.root)
    desk.opened()
    assert (desk.root / MARKER).exists()


def test_resuming_what_does_not_stand_still_is_an_error(desk: Desk):
    _filled(desk, 1)
    with pytest.raises(InvalidInput, match="do not stand still"):
        desk.mirror.resume(restore=True)


def test_files_that_vanished_while_nothing_ran_can_be_restored_at_once(desk: Desk):
    sessions = _filled(desk, 3)
    for path in desk.files()[:2]:
        path.unlink()
    assert desk.mirror.resume(restore=True).files == 2
    desk.mirror.scan()
    desk.write()
    assert desk.live() == sessions
    assert len(desk.files()) == 3


@pytest.mark.parametrize("restore", [True, False])
def test_a_file_that_was_moved_while_it_stood_still_is_not_missing(desk: Desk, restore: bool):
    sessions = _filled(desk, 13)
    moved = desk.files()[0]
    kept = desk.head(moved)["id"]
    moved.rename(desk.root / "moved.jsonl")
    gone = desk.files()[:12]
    for path in gone:
        path.unlink()
    with pytest.raises(MirrorStopped):
        desk.mirror.scan()
    desk.mirror.resume(restore=restore)
    desk.mirror.scan()
    desk.write()
    assert (kept in desk.live(), len(desk.live())) == (True, len(sessions) if restore else 1)


def test_edits_made_while_it_stood_still_are_taken_when_it_goes_on(desk: Desk):
    _filled(desk, 12)
    path = desk.files()[-1]
    session = desk.head(path)["id"]
    with pytest.raises(MirrorStopped):
        _remove(desk, 11)
    path.write_text(path.read_text().replace("text", "edited"))
    desk.mirror.resume(restore=True)
    desk.mirror.scan()
    assert [str(each).startswith("edited") for each in desk.contents(session)] == [True]


# A save that would delete most of a session


def _cut(desk: Desk, session: str, keep: int) -> None:
    path = desk.path(session)
    desk.save(path, "".join(path.read_text().splitlines(keepends=True)[: keep + 1]))


def _long(desk: Desk, count: int) -> str:
    session = desk.session(*(f"message {at}" for at in range(count)))
    desk.write()
    return session


@pytest.mark.fault(41)
@pytest.mark.parametrize(("count", "keep", "waits"), [(30, 14, True), (30, 15, False), (12, 2, False), (12, 1, True)])
def test_a_save_that_drops_over_half_of_many_lines_waits(desk: Desk, count: int, keep: int, waits: bool):
    session = _long(desk, count)
    _cut(desk, session, keep)
    assert len(desk.contents(session)) == (count if waits else keep)
    assert [each.dropped for each in desk.mirror.refused()] == ([count - keep] if waits else [])


def test_such_a_save_is_taken_when_somebody_says_that_it_is_meant(desk: Desk):
    session = _long(desk, 30)
    _cut(desk, session, 5)
    desk.mirror.resume(restore=False)
    assert len(desk.contents(session)) == 5
    assert desk.mirror.refused() == []


def test_such_a_save_gets_its_lines_back_and_keeps_what_it_added(desk: Desk):
    session = _long(desk, 30)
    _cut(desk, session, 5)
    path = desk.path(session)
    desk.save(path, path.read_text() + '{"role":"user","content":"added"}\n')
    desk.mirror.resume(restore=True)
    assert len(desk.contents(session)) == 31
    assert "added" in desk.shown(session)
    assert len(desk.shown(session)) == 31


def test_a_line_that_came_back_can_be_deleted_afterwards(desk: Desk):
    session = _long(desk, 24)
    _cut(desk, session, 8)
    desk.mirror.resume(restore=True)
    path = desk.path(session)
    lines = path.read_text().splitlines(keepends=True)
    desk.save(path, "".join(line for line in lines if '"content":"message 20"' not in line))
    assert len(desk.contents(session)) == 23
    assert "message 20" not in desk.contents(session)


def test_a_save_that_waits_is_forgotten_when_the_file_is_whole_again(desk: Desk):
    session = _long(desk, 30)
    whole = desk.path(session).read_text()
    _cut(desk, session, 5)
    desk.store.append(session, NewMessage(role="user", content="more"))
    desk.write()
    desk.save(desk.path(session), whole)
    desk.write()
    assert desk.mirror.refused() == []
    assert len(desk.shown(session)) == 31


# Text that was taken out


def test_text_that_was_taken_out_by_hand_is_told_until_the_history_is_purged(desk: Desk):
    from steno.storage.purge import purge_history
    from steno.sync.files.ledger import Ledger

    session = desk.session("one", "secret", "three")
    desk.write()
    desk.change(session, "secret", "***")
    path = desk.path(session)
    desk.save(path, "".join(path.read_text().splitlines(keepends=True)[:-1]))
    ledger = Ledger(desk.store)
    assert [(each.session, each.messages) for each in ledger.taken_out()] == [(session, 2)]
    purge_history(desk.store, session)
    assert ledger.taken_out() == []
