"""Real editors, programs and sync tools on the files of a running daemon.

Whatever saves a file, and however, what was meant reaches the store once, the file gets its ids, no
other session is touched, and a program that does not read the file again undoes and doubles nothing.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import pytest

from steno.storage.model import NewMessage
from steno.sync.files.ledger import Ledger
from steno.sync.files.reading import look_at
from steno.tests.e2e import editors
from steno.tests.e2e.device import Device, until
from steno.tests.e2e.editors import Buffer, Editor, through

WITHIN_S = 10.0


@pytest.fixture(scope="module")
def device(short: Path, forked: None) -> Iterator[Device]:
    """One device whose daemon runs as long as the tests of this module, with a session that nobody edits."""
    made = Device(short / "editors").make().start()
    session(made, "bystander")
    yield made
    made.stop()


Opener = Callable[[Path, Path], Editor]
AnEditor = TypeVar("AnEditor", bound=Editor)


class Opened(Protocol):
    """Opens a file in an editor, which ends with the test."""

    def __call__(self, kind: Callable[[Path, Path], AnEditor], path: Path) -> AnEditor: ...


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    running: list[Editor] = []

    def open_in(kind: Callable[[Path, Path], AnEditor], path: Path) -> AnEditor:
        editor = kind(path, tmp_path)
        running.append(editor)
        return editor

    yield open_in
    for each in running:
        each.kill()


def session(device: Device, *contents: str) -> tuple[str, Path]:
    """A session with these messages, and its file once it shows them."""
    with device.store(write=True) as store:
        made = store.create(title="Edited by hand").id
        store.add_messages(made, [NewMessage(role="user", content=each) for each in contents])
    path = device.file(made)
    until(lambda: is_settled(device, made, path, *contents), "the file is written")
    return made, path


def shown(path: Path) -> list[Any]:
    """The contents that a file shows; nothing where it is not whole."""
    try:
        return [json.loads(line)["content"] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    except (OSError, ValueError, KeyError):
        return []


def is_settled(device: Device, made: str, path: Path, *contents: str) -> bool:
    """Say whether store and file show this, and nothing is left to take or to write."""
    with device.store() as store:
        row = store.find(made)
        record = Ledger(store).of(row.no) if row else None
        if row is None or record is None or Ledger(store).is_owed(row.no) or look_at(path) != record.fingerprint.look:
            return False
        messages = list(store.messages(made)) if not row.hidden else []
    if [each.content for each in messages] != list(contents):
        return False
    header, *lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    shown = [(line["id"], line["content"]) for line in lines]
    return header["id"] == made and shown == [(each.id, each.content) for each in messages]


def settles(device: Device, made: str, path: Path, *contents: str) -> None:
    """Wait until store and file show this, with its ids, and nothing is left to do."""
    try:
        until(lambda: is_settled(device, made, path, *contents), f"{contents} in store and file", within_s=WITHIN_S)
    except AssertionError as exc:
        exc.add_note(f"the store shows {device.contents(made)}")
        exc.add_note(f"the file shows {path.read_text(encoding='utf-8') if path.exists() else None}")
        exc.add_note(device.log()[-2000:])
        raise


def births(device: Device, made: str) -> int:
    """How many messages a session ever had."""
    with device.store() as store:
        row = store.find(made)
        assert row is not None
        return len(list(store.message_rows(row.no, hidden=True)))


class Others:
    """What a test does not touch: every session but its own, and every other name in the directory."""

    def __init__(self, device: Device, made: str, path: Path) -> None:
        self._device, self._made, self._path = device, made, path
        self._before = self._now()

    def are_untouched(self, *left: str) -> None:
        """Compare; what an editor leaves for good apart."""
        sessions, looks, names = self._now()
        names -= {str(self._path.relative_to(self._device.home.sessions).with_name(each)) for each in left}
        assert (sessions, looks, names) == self._before

    def _now(self) -> tuple[dict[str, Any], dict[Path, Any], set[str]]:
        root = self._device.home.sessions
        sessions = {id_: each for id_, each in self._device.everything().items() if id_ != self._made}
        looks = {path: look_at(path) for path in self._device.files() if path != self._path}
        names = {str(each.relative_to(root)) for each in root.rglob("*") if ".git" not in each.parts}
        return sessions, looks, names


def saved_by(write: Callable[[Path, bytes], None]) -> Opener:
    return functools.partial(Buffer, write=write)


REAL: dict[str, Opener] = {
    "vim": editors.Vim,
    "vim nobackup": editors.vim("nobackup nowritebackup"),
    "vim backupcopy=yes": editors.vim("backupcopy=yes"),
    "vim backupcopy=no": editors.vim("backupcopy=no"),
    "vim backup": editors.vim("backup", leaves=("{}~",)),
    "vim dos": editors.vim("ff=dos", "bomb", "noendofline nofixendofline"),
    "vim -es": editors.VimScript,
    "neovim": editors.Neovim,
    "nano": editors.Nano,
    "emacs": editors.Emacs,
    "emacs --batch": editors.EmacsBatch,
    "ed": editors.Ed,
    "sed -i": editors.Sed,
    "sed -i.bak": editors.SedWithBackup,
    "perl -i": editors.Perl,
    "jq -c": editors.Jq,
    "jq": editors.JqPretty,
}
IMITATED: dict[str, Opener] = {
    "VS Code": saved_by(editors.in_place),
    "VS Code, atomic": saved_by(editors.renamed_over("{}.vsctmp")),
    "JetBrains": saved_by(editors.by_jetbrains),
    "gedit": saved_by(editors.renamed_over(".goutputstream-AB12C3")),
    "Kate": saved_by(editors.renamed_over("{}.Ab12Cd")),
    "by backup": saved_by(editors.by_backup),
    "in pieces": saved_by(editors.in_pieces),
    "written over": saved_by(editors.written_over),
    "Syncthing": saved_by(editors.by_syncthing),
    "Dropbox": saved_by(editors.renamed_over(".dropbox.cache/{}")),
    "Windows line ends": saved_by(editors.with_windows_line_ends),
    "byte order mark": saved_by(editors.with_byte_order_mark),
    "no final newline": saved_by(editors.without_final_newline),
    "blank lines": saved_by(editors.with_blank_lines),
    "other key order": saved_by(editors.with_other_key_order),
    "cp": saved_by(through("cp")),
    "mv": saved_by(through("mv")),
    "rsync": saved_by(through("rsync", "-aI")),
    "rsync --inplace": saved_by(through("rsync", "-aI", "--inplace")),
    "rsync --delay-updates": saved_by(through("rsync", "-aI", "--delay-updates")),
}


@pytest.mark.parametrize("name", [*REAL, *IMITATED])
def test_what_was_meant_reaches_the_store_once_however_it_is_saved(device: Device, opened: Opened, name: str):
    made, path = session(device, "one", "two", "three")
    others = Others(device, made, path)
    editor = opened((REAL | IMITATED)[name], path)
    editor.change("two", "2")
    editor.save()
    settles(device, made, path, "one", "2", "three")
    editor.add("four")
    editor.save()
    settles(device, made, path, "one", "2", "three", "four")
    editor.save()
    settles(device, made, path, "one", "2", "three", "four")
    editor.remove("three")
    editor.save()
    settles(device, made, path, "one", "2", "four")
    editor.close()
    assert births(device, made) == 4
    left = [each.format(path.name) for each in editor.leaves]
    others.are_untouched(*left)
    assert all(path.with_name(each).exists() for each in left)
    for each in left:
        path.with_name(each).unlink()


# What stands beside the files

LEFT = [
    "{}~", "{}.~1~", ".#{}", "#{}#", ".{}.swp", ".{}.swo", ".{}.un~", "4913", "{}.bak", "{}.orig", "{}.tmp",
    "{}.save", ".{}.kate-swp", ".goutputstream-AB12C3", "{}.crswap", "{}.vsctmp", "~${}", ".~lock.{}#",
    "{}___jb_tmp___", "{}___jb_old___", ".{}.AbC123", "sedAbC123", ".syncthing.{}.tmp", "~syncthing~{}.tmp",
    ".~{}", "._{}", ".dropbox.cache/{}", ".stversions/{}", ".git/{}", "#recycle/{}",
]  # fmt: skip


def test_what_editors_and_sync_tools_leave_beside_a_file_is_neither_taken_nor_touched(device: Device):
    made, path = session(device, "one", "two")
    left = [path.parent / each.format(path.name) for each in LEFT]
    for each in left:
        each.parent.mkdir(exist_ok=True)
        each.write_text(path.read_text(encoding="utf-8").replace("one", "another text"), encoding="utf-8")
    others = Others(device, made, path)
    before = [(look_at(each), each.read_bytes()) for each in left]
    editors.in_place(path, path.read_bytes().replace(b'"two"', b'"2"'))
    settles(device, made, path, "one", "2")
    device.stop()
    editors.in_place(path, path.read_bytes().replace(b'"2"', b'"zwei"'))
    device.start()
    settles(device, made, path, "one", "zwei")
    others.are_untouched()
    assert [(look_at(each), each.read_bytes()) for each in left] == before
    for each in left:
        each.unlink()
    editors.in_place(path, path.read_bytes().replace(b'"zwei"', b'"two"'))
    settles(device, made, path, "one", "two")


def test_the_lock_and_the_auto_save_of_an_emacs_are_left_to_it(device: Device, opened: Opened):
    made, path = session(device, "one", "two")
    lock, auto_save = path.with_name(f".#{path.name}"), path.with_name(f"#{path.name}#")
    editor = opened(editors.Emacs, path)
    editor.change("two", "2")
    editor.terminal.type("\x1bxdo-auto-save\r")
    until(lambda: (editor.terminal.look(), auto_save.exists())[1], "emacs keeps what is not saved yet")
    others = Others(device, made, path)
    with device.store(write=True) as store:
        store.append(made, NewMessage(role="assistant", content="arrived"))
    settles(device, made, path, "one", "two", "arrived")
    assert lock.is_symlink()
    others.are_untouched()
    editor.stale = True
    editor.save()
    settles(device, made, path, "one", "2", "arrived")
    editor.close()
    assert not lock.is_symlink()
    path.with_name(f"{path.name}~").unlink()


def test_an_editor_that_does_not_reload_may_save_and_go_on_as_often_as_it_likes(device: Device, opened: Opened):
    made, path = session(device, "one")
    editor = opened(editors.Vim, path)
    editor.add("two")
    for _ in range(3):
        editor.save()
        settles(device, made, path, "one", "two")
    editor.change("two", "2")
    editor.save()
    settles(device, made, path, "one", "2")
    editor.add("three")
    editor.save()
    settles(device, made, path, "one", "2", "three")
    editor.remove("2")
    editor.save()
    settles(device, made, path, "one", "three")
    editor.close()
    assert births(device, made) == 3


# Copies

CONFLICTS = [
    "{} (conflicted copy 2026-11-20).jsonl",
    "{} (Zoë's conflicted copy 2026-11-20).jsonl",
    "{}.sync-conflict-20261120-101112-ABCDEFG.jsonl",
]


def reported(device: Device) -> set[tuple[str, str, str]]:
    return {(each["path"], each["kind"], each["session"]) for each in device.status()["files"]["reports"]}


def test_conflicted_copies_become_sessions_of_their_own_and_are_reported(device: Device):
    made, path = session(device, "one", "two")
    original = path.read_bytes()
    others = Others(device, made, path)
    copies = {path.with_name(each.format(path.name.removesuffix(".jsonl"))): "" for each in CONFLICTS}
    for number, copy in enumerate(copies):
        edited = original.replace(b'"two"', b'"zwei"') + editors.line(f"added {number}").encode()
        editors.renamed_over(".arriving")(copy, edited)
    for number, copy in enumerate(copies):
        copies[copy] = until(lambda copy=copy: id_of(copy) != made and id_of(copy), "the copy has an id of its own")
        settles(device, copies[copy], copy, "one", "zwei", f"added {number}")
        said = f"{copy.name}: this is a copy, and became a session of its own ({copies[copy]})"
        until(lambda said=said: said in device.log(), "the log says so")
        assert (str(copy.relative_to(device.home.sessions)), "copy", copies[copy]) in reported(device)
    assert len({made, *copies.values()}) == len(CONFLICTS) + 1
    assert path.read_bytes() == original
    assert is_settled(device, made, path, "one", "two")
    for copy in copies:
        copy.unlink()
    until(lambda: not any(map(device.title, copies.values())), "their sessions went with them")
    others.are_untouched()
    assert is_settled(device, made, path, "one", "two")


def test_a_file_that_a_sync_tool_sets_aside_for_a_newer_one_loses_neither(device: Device):
    made, path = session(device, "one", "two")
    theirs = path.read_bytes().replace(b'"two"', b'"theirs"')
    with device.store(write=True) as store:
        store.append(made, NewMessage(role="assistant", content="ours"))
    settles(device, made, path, "one", "two", "ours")
    aside = path.with_name("x (conflicted copy 2026-11-20).jsonl")
    path.rename(aside)
    editors.by_syncthing(path, theirs)
    until(lambda: {id_of(path), id_of(aside)} > {made} and None not in {id_of(path), id_of(aside)}, "two sessions")
    until(device.settled, "nothing is pending")
    contents = [each for file in (path, aside) for each in device.contents(str(id_of(file)))]
    assert "theirs" in contents
    assert "ours" in contents
    assert "two" in contents
    for file in (path, aside):
        settles(device, str(id_of(file)), file, *shown(file))


def id_of(path: Path) -> str | None:
    """The id that a file names; None where it is not whole."""
    try:
        return json.loads(path.read_bytes().splitlines()[0]).get("id")
    except (OSError, ValueError, IndexError):
        return None


# A directory under git


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run([editors.program("git"), "-C", str(folder), *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(device: Device) -> Iterator[Path]:
    """The directory as a work tree."""
    git(device.home.sessions, "init", "-q")
    yield device.home.sessions
    shutil.rmtree(device.home.sessions / ".git")


def test_an_older_version_that_git_checks_out_undoes_the_edit_and_keeps_what_arrived(device: Device, repository: Path):
    made, path = session(device, "one", "two", "three")
    git(repository, "add", str(path))
    git(repository, "commit", "-qm", "As it was")
    others = Others(device, made, path)
    edited = path.read_bytes().replace(b'"two"', b'"2"') + editors.line("four").encode()
    editors.in_place(path, edited)
    settles(device, made, path, "one", "2", "three", "four")
    with device.store(write=True) as store:
        store.append(made, NewMessage(role="assistant", content="arrived"))
    settles(device, made, path, "one", "2", "three", "four", "arrived")
    git(repository, "checkout", "-q", "HEAD", "--", str(path))
    settles(device, made, path, "one", "two", "three", "arrived")
    assert births(device, made) == 5
    others.are_untouched()


def test_a_stash_takes_the_edit_away_and_loses_no_message(device: Device, repository: Path):
    made, path = session(device, "one", "two")
    git(repository, "add", str(path))
    git(repository, "commit", "-qm", "As it was")
    editors.in_place(path, path.read_bytes().replace(b'"two"', b'"2"'))
    settles(device, made, path, "one", "2")
    git(repository, "stash")
    settles(device, made, path, "one", "two")
    git(repository, "checkout", "-q", "--", str(path))
    settles(device, made, path, "one", "two")
    assert births(device, made) == 2


# Saves that take their time


class SlowSave:
    """A process that truncates a file, writes a part, and goes on when it is told to, the file open all the while."""

    def __init__(self, path: Path, data: bytes, *, upto: int) -> None:
        command = [editors.program("tee"), str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._data, self._upto, self._path = data, upto, path

    def __enter__(self) -> Self:
        self._write(self._data[: self._upto])
        until(lambda: self._path.stat().st_size == self._upto, "a part is written")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def go_on(self) -> None:
        self._write(self._data[self._upto :])
        self._process.communicate()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()


def ever_deleted(device: Device, made: str) -> int:
    """How many messages of a session were deleted at any time, restored ones included."""
    with device.store() as store:
        row = store.find(made)
        assert row is not None
        sql = "SELECT count(*) FROM registers WHERE session = ? AND message != 0 AND path = 'deleted'"
        return store.one(sql, (row.no,))[0]


LONG = [f"message {number}" for number in range(30)]


def behind(data: bytes, line: int) -> int:
    """Where a line of a file ends."""
    return len(b"".join(data.splitlines(keepends=True)[:line]))


PAUSES: dict[str, Callable[[bytes], int]] = {
    "at once": lambda _: 0,
    "in the header": lambda _: 10,
    "behind the header": lambda data: behind(data, 1),
    "in a line": lambda data: behind(data, 3) + 20,
    "having lost most of the lines": lambda data: behind(data, 4),
    "having lost a few lines": lambda data: behind(data, 28),
    "having lost one line": lambda data: behind(data, 30),
}


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """What a test began ends with it."""
    with ExitStack() as stack:
        yield stack


def test_a_read_in_the_middle_of_a_slow_save_deletes_nothing(device: Device, ending: ExitStack):
    other, bystander = session(device, "looked at 0")
    saves: list[tuple[str, Path, SlowSave]] = []
    for pause in PAUSES.values():
        made, path = session(device, *LONG)
        data = path.read_bytes().replace(b'"message 29"', b'"edited"') + editors.line("added").encode() + b"\n"
        saves.append((made, path, ending.enter_context(SlowSave(path, data, upto=pause(data)))))
        with device.store(write=True) as store:
            store.append(made, NewMessage(role="assistant", content="arrived"))
    sizes = [path.stat().st_size for _, path, _ in saves]
    deadline, looks = time.monotonic() + 3.0, 0
    while time.monotonic() < deadline:  # for as long the daemon takes whatever else is saved
        looks += 1
        editors.in_place(
            bystander, bystander.read_bytes().replace(b'"looked at %d"' % (looks - 1), b'"looked at %d"' % looks)
        )
        settles(device, other, bystander, f"looked at {looks}")
        assert [device.contents(made) for made, _, _ in saves] == [[*LONG, "arrived"]] * len(PAUSES)
    assert [path.stat().st_size for _, path, _ in saves] == sizes, "a half-saved file was written over"
    for _, _, save in saves:
        save.go_on()
    for made, path, _ in saves:
        settles(device, made, path, *LONG[:-1], "edited", "arrived", "added")
    assert [ever_deleted(device, made) for made, _, _ in saves] == [0] * len(PAUSES)


def test_a_save_that_comes_in_two_goes_deletes_nothing(device: Device):
    made, path = session(device, *LONG)
    other, bystander = session(device, "one")
    data = path.read_bytes().replace(b'"message 29"', b'"edited"')
    editors.in_place(path, data[: behind(data, 4)])
    editors.in_place(bystander, bystander.read_bytes().replace(b'"one"', b'"1"'))
    settles(device, other, bystander, "1")
    editors.in_place(path, data)
    settles(device, made, path, *LONG[:-1], "edited")
    assert ever_deleted(device, made) == 0


def test_a_save_that_drops_most_lines_of_a_short_session_is_meant(device: Device):
    made, path = session(device, *LONG[:10])
    others = Others(device, made, path)
    data = path.read_bytes()
    editors.in_place(path, data[: behind(data, 3)])
    settles(device, made, path, "message 0", "message 1")
    others.are_untouched()
    assert ever_deleted(device, made) == 8


def test_what_an_editor_writes_into_a_file_that_was_replaced_meanwhile_is_not_lost(device: Device):
    made, path = session(device, "one", "two")
    edited = path.read_bytes().replace(b'"two"', b'"2"')
    with path.open("r+b", buffering=0) as file:
        with device.store(write=True) as store:
            store.append(made, NewMessage(role="assistant", content="arrived"))
        settles(device, made, path, "one", "two", "arrived")
        session(device, "written next, so the daemon is done with the file")
        file.write(edited)
        file.truncate()
    settles(device, made, path, "one", "2", "arrived")
    until(lambda: list(path.parent.glob(".steno-*")) == [], "nothing lies aside")


# While much arrives

WRITER = """
import sys, time
kind, place, session, count = sys.argv[1:]
from pathlib import Path
if kind == "library":
    from steno import SessionManager, SQLiteSessionStore
    manager = SessionManager(store=SQLiteSessionStore(Path(place) / "steno.db"))
    opened = manager.load_session(session)
    def add(text):
        opened.add_message("assistant", text)
        manager.save(opened)
else:
    from steno.daemon.client import DaemonClient
    from steno.storage.home import Home
    client = DaemonClient(Home(Path(place), Path(place)))
    def add(text):
        client.request("POST", f"/v1/sessions/{session}/messages", body={"role": "assistant", "content": text})
print("ready", flush=True)
sys.stdin.readline()
begun = time.monotonic()
for number in range(int(count)):
    time.sleep(max(0.0, begun + number / 25 - time.monotonic()))
    add(f"{kind} {number}")
"""
ARRIVING = 50
BUSY: dict[str, Opener] = {name: (REAL | IMITATED)[name] for name in ("vim", "VS Code", "in pieces")}


@pytest.mark.parametrize("name", BUSY)
def test_an_edit_made_while_fifty_messages_a_second_arrive_lands_and_nothing_is_lost(
    device: Device, opened: Opened, ending: ExitStack, name: str
):
    made, path = session(device, "count 0", "removed")
    others = Others(device, made, path)
    writers = [
        ending.enter_context(subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(device.place), made, str(ARRIVING)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=device.environment(),
        ))
        for kind in ("library", "http")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    editor = opened(BUSY[name], path)
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    saves = 0
    while any(writer.poll() is None for writer in writers):
        saves += 1
        editor.change(f"count {saves - 1}", f"count {saves}")
        editor.add(f"added {saves}")
        if saves == 2:
            editor.remove("removed")
        editor.save()
        until(lambda saves=saves: f"count {saves}" in device.contents(made), f"save {saves} is in the store")
    editor.close()
    assert [writer.communicate() and writer.returncode for writer in writers] == [0, 0]
    assert saves > 2
    arrived = [f"{kind} {number}" for kind in ("library", "http") for number in range(ARRIVING)]
    wanted = sorted([f"count {saves}", *arrived, *(f"added {number + 1}" for number in range(saves))])
    until(lambda: is_settled(device, made, path, *device.contents(made)), "store and file agree")
    assert sorted(device.contents(made)) == wanted
    assert births(device, made) == len(wanted) + 1
    # A vim whose write was broken off, since the file was replaced under it, leaves its backup.
    backups = [each.name for each in path.parent.iterdir() if each.name.endswith("~")] if name == "vim" else []
    others.are_untouched(*backups)
    for each in backups:
        path.with_name(each).unlink()


# Two devices


def test_a_stale_file_saved_after_a_remote_edit_changes_nothing_of_what_it_did_not_touch(
    pair: tuple[Device, Device], opened: Opened
):
    laptop, desktop = pair
    laptop.start()
    made, path = session(laptop, "one", "two", "three", "four")
    editor = opened(editors.Vim, path)
    editor.change("one", "1")
    until(laptop.settled, "it is sent")
    desktop.sync_here()
    with desktop.store(write=True) as store:
        ids = {message.content: message.id for message in store.messages(made)}
        store.edit_message(made, ids["two"], {"content": "edited elsewhere"})
        store.delete_message(made, ids["three"])
        store.append(made, NewMessage(role="assistant", content="five"))
    desktop.sync_here()
    settles(laptop, made, path, "one", "edited elsewhere", "four", "five")
    editor.save()
    settles(laptop, made, path, "1", "edited elsewhere", "four", "five")
    editor.add("six")
    editor.save()
    settles(laptop, made, path, "1", "edited elsewhere", "four", "five", "six")
    editor.save()
    editor.close()
    until(laptop.settled, "it is sent")
    desktop.sync_here()
    assert desktop.contents(made) == ["1", "edited elsewhere", "four", "five", "six"]
    assert [device.json("conflicts") for device in pair] == [[], []]
    laptop.stop()
