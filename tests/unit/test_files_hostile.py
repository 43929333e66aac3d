"""Files that nobody could take, or that are none: each is named and left alone, and the others go on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.storage.errors import LocalStorageError
from steno.storage.model import MAX_ID_BYTES, NewMessage
from steno.sync.files.mirror import MARKER
from steno.sync.files.reading import MAX_FILE_BYTES
from steno.tests.unit.test_files_mirror import Desk

NOBODY = 65534
REQUIRED = bool(os.environ.get("STENO_REQUIRE_SERVERS"))
MIB = 1 << 20


class Two:
    """A session whose file is to suffer, and another one beside it that must not."""

    def __init__(self, desk: Desk, *, apart: bool = False) -> None:
        self.desk = desk
        self.mine, self.other = desk.session("mine"), desk.session("theirs")
        desk.write()
        self.path, self.theirs = desk.path(self.mine), desk.path(self.other)
        if apart:  # in a folder of its own
            self.theirs = self.theirs.rename(desk.root / self.theirs.name)
            desk.mirror.scan()

    @property
    def relative(self) -> str:
        return str(self.path.relative_to(self.desk.root))

    def go_on(self, *, running: bool = True, also: list[Path] | None = None) -> None:
        """Edit the file of the other session, add to both, and let the mirror do what it can."""
        self.theirs.write_text(self.theirs.read_text().replace('"content":"theirs"', '"content":"edited"'))
        for session in (self.mine, self.other):
            self.desk.store.append(session, NewMessage(role="user", content="arrived"))
        if running:
            gone = self.desk.mirror.saved([self.path, *(also or []), self.theirs])
            self.desk.mirror.vanished(gone)
        else:
            self.desk.opened()
        self.desk.write()
        self.desk.mirror.scan()
        self.desk.write()
        self.others_went_on()

    def others_went_on(self) -> None:
        assert self.desk.contents(self.other) == ["edited", "arrived"]
        assert self.shown(self.theirs) == ["edited", "arrived"]
        assert self.desk.live() == sorted([self.mine, self.other]), "no session came, none went"
        assert self.desk.contents(self.mine) == ["mine", "arrived"]

    def refused(self) -> tuple[int, int, str]:
        """Where and why the one file was refused."""
        (found,) = self.desk.mirror.refused()
        assert found.path == self.relative
        return found.line, found.column, found.reason

    def shown(self, path: Path) -> list[str]:
        return [json.loads(line)["content"] for line in path.read_text().splitlines()[1:]]

    def is_whole_again(self) -> None:
        """What stood in the way is gone: the file is taken up and written as ever."""
        self.desk.mirror.scan()
        self.desk.write()
        assert self.desk.mirror.refused() == []
        assert self.shown(self.path) == self.desk.contents(self.mine) == ["mine", "arrived"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(params=[True, False], ids=["running", "started"])
def running(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the directory, with a session's file and another; nothing of it may ever change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "foreign.jsonl").write_text('{"role":"user","content":"foreign"}\n')
    (folder / "plain.txt").write_text("plain")
    before = _tree(folder)
    yield folder
    assert _tree(folder) == before


def _look(path: Path) -> tuple[int, ...]:
    """What a path looks like, but for when it was last looked at."""
    status = path.lstat()
    return status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_size, status.st_mtime_ns


def _tree(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_ino,
            path.is_dir() or path.read_bytes(),
        )
        for path in folder.rglob("*")
    }


# What a formatter makes of a file


def _formatted(path: Path, *, indent: int | None = 2) -> str:
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    return "\n".join(json.dumps(dict(sorted(row.items())), indent=indent) for row in rows)


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_a_formatted_file_is_no_edit_and_is_written_a_line_each_again(desk: Desk, indent: int | None):
    session = desk.session("one", "two", tags=["b", "a"], metadata={"z": 1, "a": {"b": [1, {}]}})
    desk.write()
    path, written = desk.path(session), desk.path(session).read_text()
    changes = desk.store.execute("SELECT count(*) FROM revisions").fetchall()
    desk.save(path, _formatted(path, indent=indent))
    desk.write()
    assert path.read_text().splitlines()[1:] == written.splitlines()[1:]
    assert desk.store.execute("SELECT count(*) FROM revisions").fetchall() == changes
    assert desk.mirror.refused() == []


def test_an_edit_in_a_formatted_file_is_an_edit(desk: Desk):
    session = desk.session("one", "two", "three")
    desk.write()
    path = desk.path(session)
    text = _formatted(path).replace('"content": "two"', '"content": "2"')
    desk.save(path, text + '\n{\n  "role": "user",\n\n  "content": "four" }')
    desk.write()
    assert desk.contents(session) == desk.shown(session) == ["one", "2", "three", "four"]


def test_a_formatted_file_under_another_name_is_its_session(desk: Desk, running: bool):
    session, other = desk.session("one"), desk.session("other")
    desk.write()
    path = desk.path(session)
    renamed = path.with_name("formatted.jsonl")
    renamed.write_text(_formatted(path))
    path.unlink()
    if running:
        desk.mirror.vanished(desk.mirror.saved([path, renamed]))
    else:
        desk.opened()
    desk.write()
    assert desk.live() == sorted([session, other])
    assert desk.path(session) == renamed


# What stands in a file


TAIL = b'{"role":"user","content":"new"}\n'


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (b'{"role":"user","content":"\xff"}', 27, "not UTF-8"),
        (b"\xff\xfe\x00\x01", 1, "not UTF-8"),
        (b'{"role":"user","content":"a\x00b"}', 28, "a NUL"),
        (b"\x00" * 5000, 1, "a NUL"),
        (b'{"role":"user","content":"\\ud800"}', 26, "lone surrogate"),
        (b'{"role":"user","content":"x","metadata":{"\\udfff":1}}', 42, "lone surrogate"),
        (b'{"role":"user","content":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 90, "nests deeper than 64"),
        (b'{"role":"user","content":"x","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, 361, "nests deeper"),
        (b'{"role":"user","content":"x","content":"y"}', 30, "`content` stands twice"),
        (b'{"role":"user","content":"x","metadata":{"a":{"b":1,"b":2}}}', 53, "`b` stands twice"),
        (b'{"role":"user","content":"x","metadata":{"a":1e400}}', 46, "too large"),
        (b'{"role":"user","content":"x","metadata":{"a":' + b"9" * 5000 + b"}}", 46, "8192 bits"),
        (b'{"id":"a\\u0000","role":"user","content":"x"}', 2, "control characters"),
        (b'{"id":"%s","role":"user","content":"x"}' % (b"a" * (MAX_ID_BYTES + 1)), 2, "1 to 2048 bytes"),
        (b'{"role":"user","content":"%s"}' % (b"x" * 17 * MIB), 1, "17,825,821 bytes"),
    ],
    ids=range(15),
)  # fmt: skip
def test_what_no_session_can_hold_is_refused_with_its_place(
    desk: Desk, running: bool, row: bytes, column: int, reason: str
):
    two = Two(desk)
    data = two.path.read_bytes().replace(b'"content":"mine"', b'"content":"edited"') + row + b"\n" + TAIL
    two.path.write_bytes(data)
    two.go_on(running=running)
    assert two.refused()[:2] == (3, column)
    assert reason in two.refused()[2]
    assert two.path.read_bytes() == data, "it is left alone"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("id", "a\0b", "control characters"),
        ("id", "a" * (MAX_ID_BYTES + 1), "1 to 2048 bytes"),
        ("id", "", "1 to 2048 bytes"),
        ("tags", ["a\0b"], "a tag must be"),
        ("metadata", {"a": "x" * 17 * MIB}, "16,777,216 bytes"),
    ],
    ids=range(5),
)
def test_a_header_that_no_session_can_have_is_refused_with_its_place(desk: Desk, key: str, value: object, reason: str):
    two = Two(desk)
    head, *rest = two.path.read_text().splitlines(keepends=True)
    two.path.write_text(json.dumps({**json.loads(head), key: value}) + "\n" + "".join(rest))
    two.go_on()
    line, column, found = two.refused()
    assert (line, two.path.read_text()[column:].startswith(f'{key}"')) == (1, True)
    assert reason in found


def test_a_title_with_control_characters_is_taken_without_them(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.change(session, '"title":"A title"', '"title":"An\\u0000other\\u0007\\ttitle"')
    assert desk.store.get(session).title == "An other title"
    assert desk.head(desk.path(session))["title"] == "An other title"


@pytest.mark.parametrize("value", [10**30, 2**64, -(10**40), {"a": [10**25]}])
def test_a_number_beyond_sixty_four_bits_is_kept(desk: Desk, value: object):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    line = {"role": "user", "content": [{"type": "x", "n": value}], "metadata": {"n": value}, "usage": {"n": value}}
    desk.save(
        path, path.read_text().replace('"metadata":{}', json.dumps({"metadata": {"n": value}})[1:-1]) + json.dumps(line)
    )
    desk.write()
    assert desk.mirror.refused() == []
    assert desk.store.get(session).metadata == {"n": value}
    _, added = desk.store.messages(session)
    assert (added.content, added.metadata, added.usage) == (line["content"], {"n": value}, {"n": value})
    shown = desk.lines(session)[1]
    assert (shown["content"], shown["metadata"], shown["usage"]) == (line["content"], {"n": value}, {"n": value})
    desk.change(session, '"content":"one"', '"content":"two"')
    assert desk.store.get(session).metadata == {"n": value}


def test_a_line_of_a_hundred_megabytes_is_refused_with_its_size(desk: Desk):
    two = Two(desk)
    with two.path.open("ab") as file:
        file.write(b'{"role":"user","content":"')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')
    two.go_on()
    assert two.refused() == (3, 1, "the message takes 100,000,029 bytes, and steno keeps up to 16,777,216")


@pytest.mark.fault(38)
def test_a_file_of_five_hundred_megabytes_is_refused_unread(desk: Desk, running: bool):
    two = Two(desk)
    os.truncate(two.path, 500 * MIB)
    before = _bytes_read()
    two.go_on(running=running)
    line, column, reason = two.refused()
    assert (line, column) == (0, 0)
    assert f"has 524,288,000 bytes, and a file larger than {MAX_FILE_BYTES:,} bytes is not read" in reason
    assert "steno import" in reason
    assert _bytes_read() - before < 100 * MIB
    os.truncate(two.path, two.path.read_bytes().index(b"\0"))
    two.is_whole_again()


def test_a_large_file_of_ours_that_is_only_touched_is_not_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    two = Two(desk)
    monkeypatch.setattr("steno.sync.files.taking.MAX_FILE_BYTES", 100)
    os.utime(two.path)
    two.desk.mirror.saved([two.path])
    two.desk.store.append(two.mine, NewMessage(role="user", content="arrived"))
    desk.write()
    assert desk.mirror.refused() == []
    assert two.shown(two.path) == ["mine", "arrived"]
    assert [path for path in desk.everything() if ".steno-" in path] == []


def test_a_large_file_that_is_put_in_our_place_while_it_is_written_is_refused_where_it_stands(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    two = Two(desk)
    monkeypatch.setattr("steno.sync.files.taking.MAX_FILE_BYTES", 1000)
    large = two.path.read_text() + '{"role":"user","content":"%s"}\n' % ("x" * 1000)
    saved = iter([large])

    def save(name: str) -> None:
        if name == "files.temp-written":
            for text in saved:
                two.path.write_text(text)

    monkeypatch.setattr("steno.sync.files.exchange.step", save)
    two.desk.store.append(two.mine, NewMessage(role="user", content="arrived"))
    desk.write()
    assert "larger than 1,000 bytes is not read" in two.refused()[2]
    assert two.path.read_text() == large
    assert [path for path in desk.everything() if ".steno-" in path] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process holds")
def test_what_a_large_file_took_is_given_back(tmp_path: Path):
    program = (
        "from pathlib import Path; from steno.tests.unit import test_files_hostile as tests; "
        f"print(*tests.held_after_a_large_file(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, peak, after = map(int, done.stdout.split())
    assert peak - before > 64 * MIB, "so much it took"
    assert after - before < 16 * MIB


def held_after_a_large_file(folder: Path) -> tuple[int, int, int]:
    """How many bytes this process holds before a large file is edited, at most, and afterwards."""
    desk = Desk(folder)
    path = desk.root / "large.jsonl"
    row = json.dumps({"role": "user", "content": "x" * 1200}) + "\n"
    desk.save(path, row * (24 * MIB // len(row)))
    desk.write()
    before = _held("VmRSS")
    with path.open("a") as file:
        file.write('{"role":"user","content":"added"}\n')
    desk.mirror.saved([path])
    desk.write()
    held = before, _held("VmHWM"), _held("VmRSS")
    desk.store.close()
    return held


def _held(what: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{what}:")[2].split()[0]) << 10


def _bytes_read() -> int:
    """How much this process has asked of files so far; 0 where the system does not count it."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/io").read_text().split()[1])
    return 0


# Names


IDS = [
    "../../escaped",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "~root",
    "C:\\x",
    "-rf",
    "con",
    "x" * MAX_ID_BYTES,
    "é" * 1024,
    "a b\u202ec",
]


@pytest.mark.fault(37)
@pytest.mark.parametrize("session", IDS)
def test_an_id_is_never_a_path(desk: Desk, tmp_path: Path, session: str):
    beside = sorted(tmp_path.iterdir())
    desk.store.create(id=session, title="x" * 300 + "/../" + "y" * 300)
    desk.store.add_messages(session, [NewMessage(role="user", content="one", id="../../m")])
    desk.write()
    (path,) = desk.files()
    assert path.resolve().is_relative_to(desk.root.resolve())
    assert len(path.relative_to(desk.root).parts) == 3
    assert len(os.fsencode(path.name)) <= 200
    desk.save(
        path,
        path.read_text().replace('"content":"one"', '"content":"two"')
        + '{"id":"/etc/x","role":"user","content":"new"}\n',
    )
    desk.write()
    assert desk.contents(session) == ["two", "new"]
    assert [message.id for message in desk.store.messages(session)] == ["../../m", "/etc/x"]
    assert desk.files() == [path]
    assert sorted(tmp_path.iterdir()) == beside


@pytest.mark.parametrize("session", IDS)
def test_a_foreign_file_may_name_any_id(desk: Desk, tmp_path: Path, session: str):
    beside = sorted(tmp_path.iterdir())
    path = desk.root / "dropped.jsonl"
    desk.save(path, json.dumps({"steno": 1, "id": session}) + '\n{"role":"user","content":"one"}\n')
    desk.write()
    assert desk.live() == [session]
    desk.store.append(session, NewMessage(role="user", content="two"))
    desk.write()
    assert desk.files() == [path]
    assert desk.shown(session) == ["one", "two"]
    assert sorted(tmp_path.iterdir()) == beside


@pytest.mark.parametrize(
    "name", ["a" * 249 + ".jsonl", "é" * 124 + ".jsonl", "a\nb.jsonl", "\\.jsonl", "*?.jsonl", " .jsonl"]
)
def test_a_file_may_have_any_name(desk: Desk, name: str):
    path = desk.root / name
    desk.save(path, '{"role":"user","content":"one"}\n')
    desk.write()
    (session,) = desk.live()
    desk.store.append(session, NewMessage(role="user", content="two"))
    desk.write()
    assert desk.files() == [path]
    assert desk.shown(session) == ["one", "two"]
    path.write_text(path.read_text().replace('"content":"one"', '"content":"1"'))
    desk.opened()
    assert desk.contents(session) == ["1", "two"]


# What is no plain file


def _fifo(place: Path, outside: Path) -> None:
    os.mkfifo(place)


def _socket(place: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(place.parent):  # its path may be too long
        made.bind(place.name)


def _folder(place: Path, outside: Path) -> None:
    (place / "inside.jsonl").mkdir(parents=True)


def _link(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "foreign.jsonl")


def _link_to_nowhere(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "nowhere")


def _link_to_a_folder(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def _link_to_a_device(place: Path, outside: Path) -> None:
    place.symlink_to("/dev/zero")


def _link_to_itself(place: Path, outside: Path) -> None:
    place.symlink_to(place.name)


THINGS = [_fifo, _socket, _folder, _link, _link_to_nowhere, _link_to_a_folder, _link_to_a_device, _link_to_itself]
Thing = Callable[[Path, Path], None]


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_file_in_the_place_of_one_is_refused_and_left_alone(
    desk: Desk, outside: Path, running: bool, thing: Thing
):
    two = Two(desk)
    two.path.unlink()
    thing(two.path, outside)
    before = _look(two.path)
    two.go_on(running=running)
    assert "is no plain file" in two.refused()[2]
    assert _look(two.path) == before
    _remove(two.path)
    two.path.write_text("")
    two.path.unlink()
    assert desk.mirror.vanished([two.relative]) == 1


@pytest.mark.parametrize("thing", [each for each in THINGS if each is not _folder])
def test_what_is_no_file_and_is_called_like_one_is_refused_until_it_is_gone(
    desk: Desk, outside: Path, running: bool, thing: Thing
):
    two = Two(desk)
    place = desk.root / "new.jsonl"
    thing(place, outside)
    two.go_on(running=running, also=[place])
    assert [each.path for each in desk.mirror.refused()] == ["new.jsonl"]
    place.unlink()
    desk.mirror.scan()
    assert desk.mirror.refused() == []


def test_a_folder_that_is_called_like_a_file_is_a_folder(desk: Desk, running: bool):
    two = Two(desk)
    place = desk.root / "new.jsonl"
    place.mkdir()
    (place / "inside.jsonl").write_text('{"role":"user","content":"inside"}\n')
    if running:
        desk.mirror.saved([place])
    else:
        desk.opened()
    assert desk.mirror.refused() == []
    (session,) = set(desk.live()) - {two.mine, two.other}
    assert desk.contents(session) == ["inside"]


def test_nothing_is_taken_out_of_a_pipe(desk: Desk):
    two = Two(desk)
    two.path.unlink()
    os.mkfifo(two.path)
    reader = os.open(two.path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(two.path, os.O_WRONLY)
    os.write(writer, b"for somebody else\n")
    two.go_on()
    assert os.read(reader, 100) == b"for somebody else\n"
    os.close(writer)
    os.close(reader)


def test_a_hard_link_is_a_copy_and_neither_name_changes_the_other(desk: Desk, tmp_path: Path):
    two = Two(desk)
    outside = tmp_path / "linked.jsonl"
    os.link(two.path, outside)
    inside = two.path.with_name("linked.jsonl")
    os.link(two.path, inside)
    before = outside.read_bytes()
    desk.mirror.saved([inside])
    desk.write()
    (copy,) = set(desk.live()) - {two.mine, two.other}
    assert desk.path(two.mine) == two.path
    assert (desk.contents(copy), desk.contents(two.mine)) == (["mine"], ["mine"])
    desk.change(copy, '"content":"mine"', '"content":"copied"')
    desk.store.append(two.mine, NewMessage(role="user", content="arrived"))
    desk.write()
    assert (desk.shown(copy), desk.shown(two.mine)) == (["copied"], ["mine", "arrived"])
    assert outside.read_bytes() == before


# What is no folder


def _plain(place: Path, outside: Path) -> None:
    place.write_text("not a folder")


IN_THE_WAY = [_plain, _fifo, _socket, _link_to_a_folder, _link_to_nowhere, _link_to_a_device, _link_to_itself]


@pytest.mark.parametrize("depth", [0, 1], ids=["year", "month"])
@pytest.mark.parametrize("thing", IN_THE_WAY)
def test_what_stands_in_the_place_of_a_folder_holds_what_lies_below_it_and_nothing_else(
    desk: Desk, outside: Path, running: bool, thing: Thing, depth: int
):
    two = Two(desk, apart=True)
    folder = two.path.parents[1 - depth]
    aside = folder.rename(desk.root.parent / "aside")
    thing(folder, outside)
    before = _look(folder)
    two.go_on(running=running, also=[folder])
    assert f"{folder.relative_to(desk.root)} is no folder" in two.refused()[2]
    assert _look(folder) == before
    folder.unlink()
    aside.rename(folder)
    two.is_whole_again()


def test_a_file_that_is_brought_out_from_behind_a_link_is_its_session(desk: Desk, tmp_path: Path, running: bool):
    two = Two(desk, apart=True)
    folder = two.path.parents[1]
    away = folder.rename(tmp_path / "away")
    folder.symlink_to(away)
    back = desk.root / "back"
    shutil.copytree(away, back)
    if running:
        desk.mirror.saved([folder, back])
    else:
        desk.opened()
    desk.mirror.scan()
    assert desk.live() == sorted([two.mine, two.other])
    assert [each.path for each in desk.mirror.refused()] == [folder.name], "the link, and nothing behind it"
    desk.store.append(two.mine, NewMessage(role="user", content="arrived"))
    desk.write()
    assert two.shown(back / two.path.relative_to(folder)) == ["mine", "arrived"]


def test_a_new_session_waits_for_its_folder_and_is_named(desk: Desk):
    two = Two(desk, apart=True)
    folder = two.path.parents[1]
    aside = folder.rename(desk.root.parent / "aside")
    folder.write_text("not a folder")
    new = desk.session("new")
    desk.mirror.write_pending()
    (refused,) = [each for each in desk.mirror.refused() if each.path != two.relative]
    assert refused.path.startswith(f"{folder.name}/")
    assert "is no folder" in refused.reason
    folder.unlink()
    aside.rename(folder)
    desk.mirror.scan()
    desk.write()
    assert desk.mirror.refused() == []
    assert desk.shown(new) == ["new"]


@pytest.mark.parametrize("depth", [0, 1], ids=["year", "month"])
def test_files_that_were_moved_away_behind_a_link_are_neither_read_nor_written_nor_deleted(
    desk: Desk, tmp_path: Path, running: bool, depth: int
):
    two = Two(desk, apart=True)
    folder = two.path.parents[1 - depth]
    away = folder.rename(tmp_path / "away")
    folder.symlink_to(away)
    two.path.write_text(two.path.read_text().replace('"content":"mine"', '"content":"changed outside"'))
    (away / "foreign.jsonl").write_text('{"role":"user","content":"foreign"}\n')
    (away / ".steno-0123456789ab.x.jsonl.swap").write_text('{"role":"user","content":"foreign"}\n')
    (away / ".steno-0123456789ab.x.jsonl.part").write_text("torn")
    before = _tree(away)
    two.go_on(running=running, also=[folder, folder / "foreign.jsonl"])
    refused = {each.path: "is no folder" in each.reason for each in desk.mirror.refused()}
    assert refused[two.relative]
    assert refused.keys() <= {two.relative, f"{folder.relative_to(desk.root)}/foreign.jsonl"}
    desk.store.delete(two.mine)
    desk.write()
    desk.mirror.rebuild()
    assert _tree(away) == before


@pytest.mark.parametrize("step", ["files.temp-written", "files.exchanged", "files.displaced-removed"])
def test_a_link_that_appears_in_the_middle_of_a_write_lets_nothing_out(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    two = Two(desk, apart=True)
    folder, away = two.path.parent, tmp_path / "away"
    away.mkdir()
    (away / two.path.name).write_text("of somebody else")
    before = _tree(away)
    once = iter([step])

    def relink(name: str) -> None:
        if name == step and next(once, None):
            folder.rename(tmp_path / "aside")
            folder.symlink_to(away)

    monkeypatch.setattr("steno.sync.files.exchange.step", relink)
    desk.store.append(two.mine, NewMessage(role="user", content="arrived"))
    with contextlib.suppress(LocalStorageError):
        desk.write()
    assert _tree(away) == before
    monkeypatch.undo()
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    desk.opened()
    desk.write()
    assert two.shown(two.path) == desk.contents(two.mine) == ["mine", "arrived"]
    assert [path for path in desk.everything() if ".steno-" in path] == []


# What may not be read or written


def _as_nobody(scenario: Callable[[Desk], None]) -> None:
    """Run a scenario in a process that is not root: to root nothing is forbidden."""
    folder = Path(tempfile.mkdtemp(prefix="st"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        program = (
            "from pathlib import Path; from steno.tests.unit import test_files_hostile as tests; "
            f"tests.run(tests.{scenario.__name__}, Path({str(folder)!r}))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(scenario: Callable[[Desk], None], folder: Path) -> None:
    """Play a scenario as nobody, who may not even read our own modules: they are loaded before."""
    with tempfile.TemporaryDirectory() as loading:
        desk = Desk(Path(loading))
        Two(desk).go_on()
        desk.store.close()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    desk = Desk(folder)
    scenario(desk)
    desk.store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there other rules hold for permissions")
class TestAsNobody:
    def test_a_file_that_may_not_be_read_is_refused_alone(self):
        _as_nobody(unreadable_file)

    def test_a_folder_that_may_not_be_entered_holds_what_lies_below_it(self):
        _as_nobody(closed_folder)

    def test_a_folder_that_may_not_be_listed_loses_nothing(self):
        _as_nobody(unlisted_folder)

    def test_a_folder_that_may_not_be_written_holds_what_lies_below_it(self):
        _as_nobody(read_only_folder)

    def test_a_directory_that_may_not_be_written_says_so_and_is_caught_up_with(self):
        _as_nobody(read_only_root)

    def test_a_new_session_waits_until_its_folder_may_be_written(self):
        _as_nobody(new_in_a_read_only_folder)


def unreadable_file(desk: Desk) -> None:
    for running in (True, False):
        two = Two(desk)
        two.path.chmod(0)
        two.go_on(running=running)
        assert "Permission denied" in two.refused()[2]
        assert two.path.lstat().st_mode & 0o777 == 0
        two.path.chmod(0o600)
        two.is_whole_again()
        for path in desk.files():
            path.unlink()
        desk.opened()


def _forbidden_folder(desk: Desk, mode: int, *, running: bool) -> None:
    two = Two(desk, apart=True)
    folder = two.path.parents[1]
    folder.chmod(mode)
    two.go_on(running=running)
    assert "Permission denied" in two.refused()[2]
    folder.chmod(0o700)
    two.is_whole_again()
    for path in desk.files():
        path.unlink()
    desk.opened()


def closed_folder(desk: Desk) -> None:
    _forbidden_folder(desk, 0o000, running=True)
    _forbidden_folder(desk, 0o000, running=False)


def unlisted_folder(desk: Desk) -> None:
    two = Two(desk, apart=True)
    folder = two.path.parents[1]
    folder.chmod(0o300)
    two.go_on(running=False)
    assert desk.mirror.refused() == [], "what is known there can be read and written"
    folder.chmod(0o700)
    two.is_whole_again()


def read_only_folder(desk: Desk) -> None:
    for running in (True, False):
        two = Two(desk, apart=True)
        folder = two.path.parent
        folder.chmod(0o500)
        two.go_on(running=running)
        assert "Permission denied" in two.refused()[2]
        folder.chmod(0o700)
        two.is_whole_again()
        for path in desk.files():
            path.unlink()
        desk.opened()


def read_only_root(desk: Desk) -> None:
    two = Two(desk)
    two.theirs.write_text(two.theirs.read_text().replace('"content":"theirs"', '"content":"edited"'))
    for each in [desk.root, *desk.root.rglob("*")]:
        if each.is_dir():
            each.chmod(0o500)
    for session in (two.mine, two.other):
        desk.store.append(session, NewMessage(role="user", content="arrived"))
    desk.mirror.saved([two.theirs])
    desk.mirror.write_pending()
    assert desk.contents(two.other) == ["edited", "arrived"], "what was saved is taken all the same"
    assert sorted(each.path for each in desk.mirror.refused()) == sorted(
        str(each.relative_to(desk.root)) for each in (two.path, two.theirs)
    )
    for each in [desk.root, *desk.root.rglob("*")]:
        if each.is_dir():
            each.chmod(0o700)
    two.is_whole_again()
    two.others_went_on()


def new_in_a_read_only_folder(desk: Desk) -> None:
    two = Two(desk)
    two.path.parent.chmod(0o500)
    new = desk.session("new")
    desk.mirror.write_pending()
    assert "Permission denied" in desk.mirror.refused()[0].reason
    two.path.parent.chmod(0o700)
    desk.mirror.scan()
    desk.write()
    assert desk.mirror.refused() == []
    assert desk.shown(new) == ["new"]


# A disk without room


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        if REQUIRED:
            raise AssertionError("mounting a small file system needs root")
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.fault(31)
def test_a_full_disk_leaves_every_file_whole_and_is_caught_up_with(desk: Desk, small_disk: Path):
    desk.root = small_disk / "sessions"
    desk.opened()
    two = Two(desk)
    before = desk.everything()
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    two.theirs.write_bytes(two.theirs.read_bytes().replace(b'"content":"theirs"', b'"content":"edited"'))
    edited = desk.everything()
    for session in (two.mine, two.other):
        desk.store.append(session, NewMessage(role="user", content="arrived"))
    with pytest.raises(LocalStorageError, match="No space left"):
        desk.mirror.saved([two.theirs])
    with pytest.raises(LocalStorageError, match="No space left"):
        desk.mirror.write_pending()
    assert desk.contents(two.other) == ["edited", "arrived"], "what was saved is taken all the same"
    assert desk.everything() == edited
    assert before.keys() == edited.keys()
    ballast.unlink()
    two.is_whole_again()
    two.others_went_on()
    assert [path for path in desk.everything() if ".steno-" in path] == []
    assert (desk.root / MARKER).exists()
