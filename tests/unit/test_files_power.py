"""What a loss of power leaves of files that were just written: shorter, zeros, nothing; never a deletion.

The machine's end is played by cutting files as their disks do, which keeps their times, and by another name for its
start. It started when the files are looked at, unless somebody touched one since.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.storage.errors import StenoError
from steno.storage.model import NewMessage
from steno.sync.files.mirror import Mirror
from steno.sync.files.power import Machine, machine
from steno.sync.files.reports import reports

from .test_files_mirror import Desk as AnyDesk

pytestmark = pytest.mark.fault(3)
WORDS = ("one", "two", "three", "four")


class Desk(AnyDesk):
    """A store and its directory on a machine that may lose its power."""

    machine = Machine("first", 0)

    def opened(self) -> Mirror:
        self.mirror = Mirror(
            self.store, self.root, monotonic=lambda: self.clock, sleep=self._sleep, machine=lambda: self.machine
        )
        self.mirror.start()
        return self.mirror

    def boots(self) -> None:
        """The machine comes up again: what is there was there before, what is saved from now on comes after."""
        probe = self.root.with_name("probe")
        newest = max(path.lstat().st_ctime_ns for path in [self.root, *self.root.rglob("*")])
        probe.touch()
        while probe.stat().st_ctime_ns <= newest:
            probe.touch()
        self.machine = Machine(f"{self.machine.boot}+", newest + 1)

    def machine_starts(self) -> None:
        """The machine comes up again, and the daemon on it."""
        self.boots()
        self.opened()
        self.write()

    def path(self, session: str) -> Path:
        return next(iter(self.root.rglob(f"*.{session}.jsonl")))

    def add(self, session: str, *contents: str) -> None:
        self.store.add_messages(session, [NewMessage(role="user", content=each, id=each) for each in contents])

    def said(self) -> list[str]:
        return [each.kind for each in reports(self.store)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def cut(path: Path, left: bytes) -> None:
    """Leave this of a file, under its times: as a disk does that lost the rest."""
    times = path.stat()
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(left)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _without_last_line(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-1])


def take_out_last_line(desk: Desk, session: str) -> Path:
    """Save the file of a session without its last line, as an editor does."""
    path = desk.path(session)
    path.write_bytes(_without_last_line(path.read_bytes()))
    return path


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "at the end of a line": _without_last_line,
    "within a line": lambda data: data[:-20],
    "within the first line": lambda data: data[:60],
    "before its rev": lambda data: data[:20],
    "empty": lambda _: b"",
    "zeros at its end": lambda data: data[:-90] + bytes(90),
    "zeros in its middle": lambda data: data[:50] + bytes(200) + data[250:],
    "zeros and too short": lambda data: data[:100] + bytes(100),
    "all zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("left", CUTS.values(), ids=CUTS)
def test_a_file_that_was_cut_short_is_written_anew(desk: Desk, left: Callable[[bytes], bytes]):
    session = desk.session(*WORDS, tags=["b", "a"], metadata={"z": {"k": 1}, "a": [2]}, state={"x": 1})
    desk.write()
    cut(desk.path(session), left(desk.path(session).read_bytes()))
    desk.machine_starts()
    assert desk.contents(session) == list(WORDS)
    assert desk.shown(session) == list(WORDS)
    assert desk.said() == ["cut-short"]
    assert desk.mirror.refused() == []


@pytest.mark.parametrize("left", CUTS.values(), ids=CUTS)
def test_so_is_one_of_whose_writing_the_store_lost_the_record(desk: Desk, left: Callable[[bytes], bytes]):
    session = desk.session(*WORDS[:2])
    desk.write()
    record = desk.store.one("SELECT * FROM files")
    desk.add(session, *WORDS[2:])
    desk.write()
    with desk.store.transaction():
        desk.store.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", record)
    cut(desk.path(session), left(desk.path(session).read_bytes()))
    desk.machine_starts()
    assert desk.contents(session) == list(WORDS)


@pytest.mark.parametrize("left", CUTS.values(), ids=CUTS)
def test_so_is_a_new_one_that_the_store_does_not_know(desk: Desk, left: Callable[[bytes], bytes]):
    session = desk.session(*WORDS)
    desk.write()
    with desk.store.transaction():
        desk.store.execute("DELETE FROM files")
        desk.store.set_cursor("files", 0)
    cut(desk.path(session), left(desk.path(session).read_bytes()))
    desk.machine_starts()
    assert desk.contents(session) == list(WORDS)


def test_a_cut_file_whose_session_changed_since_it_was_written_is_written_anew(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    desk.store.edit_message(session, "two", {"content": "2"})
    desk.store.delete_message(session, "one")
    desk.store.update(session, fields={"title": "Another"}, metadata={"k": 1})
    cut(desk.path(session), _without_last_line(desk.path(session).read_bytes()))
    desk.machine_starts()
    assert desk.shown(session) == desk.contents(session) == ["2", "three", "four"]
    assert desk.said() == ["cut-short"]


def test_zeros_are_seen_in_a_file_that_looks_as_it_was_left(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    path = desk.path(session)
    before = path.stat()
    cut(path, path.read_bytes()[:-90] + bytes(90))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    desk.machine_starts()
    assert desk.shown(session) == list(WORDS)


def test_a_cut_file_that_lies_aside_is_no_edit(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    path = desk.path(session)
    aside = path.with_name(f".steno-0123456789ab.{path.name}.swap")
    aside.write_bytes(_without_last_line(path.read_bytes()))
    desk.machine_starts()
    assert desk.contents(session) == desk.shown(session) == list(WORDS)
    assert not aside.exists()


def test_a_file_that_is_gone_with_the_power_deletes_no_session(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    desk.path(session).unlink()
    desk.machine_starts()
    assert desk.contents(session) == desk.shown(session) == list(WORDS)
    assert desk.said() == ["lost-with-power"]


def test_very_many_that_are_gone_with_the_power_do_not_stop_the_mirror(desk: Desk):
    sessions = [desk.session("one") for _ in range(15)]
    desk.write()
    for path in desk.root.rglob("*.jsonl"):
        path.unlink()
    desk.machine_starts()
    assert [desk.shown(session) for session in sessions] == [["one"]] * 15


def test_a_file_whose_removal_was_lost_does_not_bring_its_session_back(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    path = desk.path(session)
    written = path.read_bytes()
    desk.store.delete(session)
    desk.write()
    path.write_bytes(written)
    desk.machine_starts()
    row = desk.store.find(session)
    assert row is not None
    assert row.hidden
    assert not path.exists()


def test_an_older_file_that_stands_there_again_cut_short_is_written_anew(desk: Desk):
    session = desk.session(*WORDS[:2])
    desk.write()
    older = desk.path(session).read_bytes()
    desk.add(session, *WORDS[2:])
    desk.write()
    cut(desk.path(session), _without_last_line(older))
    desk.machine_starts()
    assert desk.contents(session) == desk.shown(session) == list(WORDS)


# What somebody saved


def test_an_edit_that_was_not_taken_before_is_taken_and_what_it_lacks_comes_back(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    path = desk.path(session)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]).replace('"content":"one"', '"content":"1"'))
    desk.machine_starts()
    assert desk.contents(session) == desk.shown(session) == ["1", "two", "three", "four"]
    assert desk.said() == ["line-kept"]


def test_a_save_since_the_machine_started_deletes_as_ever(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    desk.boots()
    take_out_last_line(desk, session)
    desk.opened()
    assert desk.contents(session) == ["one", "two", "three"]


def test_what_another_machine_lost_is_no_deletion_on_one_that_runs_for_long(desk: Desk):
    session, gone = desk.session(*WORDS), desk.session("one")
    desk.write()
    take_out_last_line(desk, session)
    desk.path(gone).unlink()
    desk.machine = Machine("another", 1)
    desk.opened()
    desk.write()
    assert desk.contents(session) == desk.shown(session) == list(WORDS)
    assert desk.shown(gone) == ["one"]


def test_nor_is_it_where_the_machine_comes_up_with_an_older_time(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    take_out_last_line(desk, session)
    behind_ns = 3600 * 10**9
    machine = Machine("first+", time.time_ns() - behind_ns - 10**9)
    mirror = Mirror(desk.store, desk.root, wall_ns=lambda: time.time_ns() - behind_ns, machine=lambda: machine)
    mirror.start()
    mirror.write_pending()
    assert desk.contents(session) == desk.shown(session) == list(WORDS)


@pytest.mark.fault(16)
def test_what_was_lost_is_no_deletion_although_the_clock_was_ahead_when_it_was_written(desk: Desk):
    session = desk.session("one")
    ahead_ns = 9 * 24 * 3600 * 10**9
    mirror = Mirror(desk.store, desk.root, wall_ns=lambda: time.time_ns() + ahead_ns, machine=lambda: desk.machine)
    mirror.start()
    mirror.write_pending()
    desk.path(session).unlink()
    desk.machine_starts()
    assert desk.contents(session) == desk.shown(session) == ["one"]


@pytest.mark.parametrize("boot", ["first", "first+"])
def test_a_save_after_a_daemon_was_killed_deletes_as_ever(desk: Desk, boot: str):
    """A machine that has no name for its start cannot tell: there it counts when the file was saved."""
    if boot == "first+":
        desk.machine = Machine("", 0)
        desk.opened()
    session = desk.session(*WORDS)
    desk.write()
    take_out_last_line(desk, session)
    desk.opened()
    assert desk.contents(session) == ["one", "two", "three"]


def test_after_a_clean_stop_nothing_is_in_doubt(desk: Desk):
    session, gone = desk.session(*WORDS), desk.session("one")
    desk.write()
    desk.mirror.close()
    take_out_last_line(desk, session)
    desk.path(gone).unlink()
    desk.machine_starts()
    assert desk.contents(session) == ["one", "two", "three"]
    assert [each.id for each in desk.store.sessions()] == [session]


def test_a_disk_that_does_not_answer_leaves_the_files_in_doubt(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    desk.root.rename(desk.root.with_name("unmounted"))
    desk.mirror.close()
    desk.root.with_name("unmounted").rename(desk.root)
    desk.path(session).unlink()
    desk.machine_starts()
    assert desk.shown(session) == list(WORDS)


def test_what_was_looked_at_once_is_in_doubt_no_more(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    desk.machine_starts()
    desk.mirror.saved([take_out_last_line(desk, session)])
    assert desk.contents(session) == ["one", "two", "three"]


def test_what_the_look_itself_wrote_is_in_doubt_again(desk: Desk):
    session = desk.session(*WORDS)
    desk.write()
    for _ in range(2):
        cut(desk.path(session), b"")
        desk.machine_starts()
        assert desk.shown(session) == list(WORDS)


def test_a_look_that_was_stopped_is_taken_up_by_the_next(desk: Desk):
    sessions = [desk.session(*WORDS) for _ in range(3)]
    desk.write()
    for session in sessions:
        cut(desk.path(session), b"")
    desk.boots()
    Mirror(desk.store, desk.root, stopping=lambda: True, machine=lambda: desk.machine).start()
    desk.opened()
    assert [desk.shown(session) for session in sessions] == [list(WORDS)] * 3


def test_the_store_knows_that_a_file_is_in_doubt_before_it_is_written(desk: Desk):
    desk.session("one")
    desk.root.chmod(0o500)
    with contextlib.suppress(StenoError):
        desk.mirror.write_pending()
    desk.root.chmod(0o700)
    assert "first" in desk.store.meta("files-not-on-disk")


def test_this_machine_tells_when_it_was_started():
    one, two = machine(), machine()
    assert one.boot == two.boot
    assert abs(one.started_ns - two.started_ns) < 10**9
    assert one.started_ns < time.time_ns()
