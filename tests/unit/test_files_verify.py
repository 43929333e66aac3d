"""Looking whether the files show what the store would write: everything is found, nothing is written."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files import verify as verifying
from steno.sync.files.mirror import Mirror
from steno.sync.files.reading import Look
from steno.sync.files.verify import Difference, Place, Slice, verify


class Desk:
    """A store whose files are written, and somebody who does things to them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "sessions"
        self.store = Store(folder / "steno.db")
        self.clock = 0.0
        self.mirror = Mirror(self.store, self.root, monotonic=lambda: self.clock, sleep=self.sleep)
        self.mirror.start()

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def session(self, *contents: str) -> str:
        session = self.store.create(title="A title").id
        self.store.add_messages(session, [NewMessage(role="user", content=each, id=each) for each in contents])
        return session

    def written(self, *contents: str) -> tuple[str, Path]:
        session = self.session(*contents)
        self.write()
        return session, self.path(session)

    def write(self) -> None:
        for _ in range(1000):
            wait = self.mirror.write_pending()
            if wait is None:
                return
            self.clock += wait
        raise AssertionError("writing does not come to an end")

    def path(self, session: str) -> Path:
        no = self.store.live(session).no
        return self.root / self.store.one("SELECT path FROM files WHERE session = ?", (no,))[0]

    def found(self) -> list[Difference]:
        return [each for part in self.slices() for each in part.differences]

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(each.kind, each.session) for each in self.found()]

    def slices(self, limit: int = 1000) -> Iterator[Slice]:
        after: Place | None = None
        while True:
            part = verify(self.store, self.root, after, limit=limit)
            yield part
            after = part.after
            if after is None:
                return


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def everything(root: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_nothing_is_found_where_every_file_is_as_it_was_written(desk: Desk):
    for contents in ((), ("one",), ("two", "ünïcode \u2028 ☃", "three")):
        desk.written(*contents)
    assert [(part.compared, part.differences, part.after) for part in desk.slices()] == [(3, [], None)]


def test_a_session_without_a_file_is_missing_one(desk: Desk):
    session = desk.session("one")
    assert desk.found() == [Difference("missing", None, "it is not written yet", session)]


def test_a_file_that_is_gone_is_missing(desk: Desk):
    session, path = desk.written("one")
    path.unlink()
    (found,) = desk.found()
    assert (found.kind, found.session, desk.root / (found.path or "")) == ("missing", session, path)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [('"A title"', '"B title"', 1), ('"one"', '"eno"', 2), ('"two",', '"two" ,', 3), ("two", "two and more", 3)],
)
def test_a_file_that_was_changed_differs_from_a_line_on(desk: Desk, old: str, new: str, line: int):
    session, path = desk.written("one", "two")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    (found,) = desk.found()
    assert (found.kind, found.session, found.line) == ("differs", session, line)


@pytest.mark.parametrize(("kept", "more", "line"), [(1, "", 2), (2, "", 3), (3, "x", 4)])
def test_a_file_with_lines_fewer_or_more_differs(desk: Desk, kept: int, more: str, line: int):
    _, path = desk.written("one", "two")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]) + more)
    assert [(each.kind, each.line) for each in desk.found()] == [("differs", line)]


def test_a_file_that_is_equal_but_for_its_rev_is_as_it_should_be(desk: Desk):
    session, path = desk.written("one")
    text = path.read_text()
    rev = text.partition('"rev":"')[2].partition('"')[0]
    path.write_text(text.replace(rev, "anotherstore.00000007"))
    assert desk.found() == []
    desk.store.edit_message(session, "one", {"content": "1"})
    assert [each.line for each in desk.found()] == [2]


def test_a_file_whose_bytes_rotted_is_found_although_it_looks_the_same(desk: Desk):
    session, path = desk.written("one")
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert desk.found() == [
        Difference("differs", str(path.relative_to(desk.root)), "it does not show what was written there", session, 2)
    ]


def test_a_file_that_is_behind_its_session_is_said_to_be(desk: Desk):
    session, _ = desk.written("one")
    desk.store.append(session, NewMessage(role="user", content="two"))
    assert desk.kinds() == [("behind", session)]


def test_a_file_of_a_deleted_session_is_behind_until_it_is_gone(desk: Desk):
    session, path = desk.written("one")
    desk.store.delete(session)
    assert desk.kinds() == [("behind", session)]
    path.unlink()
    assert desk.kinds() == []


def test_a_refused_file_is_found_with_its_place(desk: Desk):
    session, path = desk.written("one")
    path.write_text(path.read_text() + '{"role": "user", "content": "unfin')
    dropped = desk.root / "dropped.jsonl"
    dropped.write_text("no JSON\n")
    desk.mirror.saved([path, dropped])
    found = desk.found()
    assert [(each.kind, each.session, each.line) for each in found] == [("refused", session, 3), ("refused", None, 1)]
    assert all(each.reason for each in found)


def test_a_file_that_was_not_taken_up_yet_is_unknown(desk: Desk):
    (desk.root / "new").mkdir()
    (desk.root / "new" / "dropped.jsonl").write_text('{"role":"user","content":"x"}\n')
    (desk.root / ".steno-abc.dropped.jsonl.swap").write_text("")
    assert [(each.kind, each.path) for each in desk.found()] == [
        ("unknown", ".steno-abc.dropped.jsonl.swap"),
        ("unknown", "new/dropped.jsonl"),
    ]


def test_what_is_no_session_s_file_is_named_and_what_is_hidden_is_not(desk: Desk):
    (desk.root / "notes.txt").write_text("x")
    (desk.root / "x.jsonl~").write_text("x")
    (desk.root / ".git").mkdir()
    (desk.root / ".git" / "x.jsonl").write_text("x")
    (desk.root / "link.jsonl").symlink_to("/etc/passwd")
    (desk.root / os.fsdecode(b"\xff.txt")).write_text("x")
    assert [(each.kind, each.path) for each in desk.found()] == [
        ("foreign", "link.jsonl"), ("foreign", "notes.txt"), ("foreign", "x.jsonl~"), ("foreign", "\\xff.txt"),
    ]  # fmt: skip


@pytest.mark.parametrize("instead", ["folder", "link"])
def test_what_stands_in_a_file_s_place_and_is_none_cannot_be_read(desk: Desk, instead: str):
    session, path = desk.written("one")
    path.unlink()
    if instead == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    assert ("unreadable", session) in desk.kinds()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named_alone(desk: Desk):
    session, path = desk.written("one")
    desk.written("two")
    path.chmod(0)
    assert desk.kinds() == [("unreadable", session)]


def test_a_directory_that_is_gone_misses_every_file(desk: Desk):
    desk.written("one")
    desk.root.rename(desk.root.with_name("elsewhere"))
    assert [each.kind for each in desk.found()] == ["missing"]


def test_looking_writes_nothing(desk: Desk):
    _, path = desk.written("one")
    path.write_text("no JSON")
    (desk.root / "dropped.jsonl").write_text("no JSON")
    before, seq = everything(desk.root), desk.store.last_seq
    with Store(desk.store.path, read_only=True) as looking:
        assert len(verify(looking, desk.root).differences) == 2
    assert (everything(desk.root), desk.store.last_seq) == (before, seq)


@pytest.mark.parametrize("limit", range(1, 12))
def test_slices_find_together_what_one_finds(desk: Desk, limit: int):
    for number in range(3):
        desk.session(f"unwritten {number}")
    for name in ("a/x.txt", "a/b/x.jsonl", "a/b.jsonl", "a-b/x.txt", "b.txt", "a/é.txt"):
        (desk.root / name).parent.mkdir(parents=True, exist_ok=True)
        (desk.root / name).write_text("x")
    parts = list(desk.slices(limit))
    assert [each for part in parts for each in part.differences] == desk.found()
    assert all(part.compared <= limit for part in parts)
    assert len(desk.found()) == 9


def test_a_slice_ends_behind_what_it_may_read(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    for number in range(5):
        desk.written(f"{number}" * 1000)
    monkeypatch.setattr(verifying, "SLICE_BYTES", 4000)
    assert [part.compared for part in desk.slices()] == [2, 2, 1]


def test_a_large_session_is_compared_to_its_last_line(desk: Desk):
    session = desk.session(*(f"message {number}" for number in range(1000)))
    desk.write()
    path = desk.path(session)
    assert desk.found() == []
    path.write_text(path.read_text().replace('"message 999"', '"Message 999"'))
    assert [each.line for each in desk.found()] == [1001]


def test_a_session_that_is_written_meanwhile_is_looked_at_again(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session, _ = desk.written("one")
    desk.store.append(session, NewMessage(role="user", content="two"))
    looks, look_at = itertools.count(), verifying.look_at

    def look(path: Path) -> Look | None:
        if next(looks) == 2:  # before, while it is compared, after
            desk.write()
        return look_at(path)

    monkeypatch.setattr(verifying, "look_at", look)
    assert desk.found() == []


def test_folders_a_thousand_levels_deep_are_looked_through(desk: Desk):
    folder = str(desk.root)
    for _ in range(1100):
        folder += "/d"
        Path(folder).mkdir()
    Path(folder, "x.txt").write_text("x")
    found = desk.found()
    subprocess.run(["rm", "-rf", desk.root / "d"], check=True)  # what cleans up behind tests recurses
    assert [each.kind for each in found] == ["foreign"]
