"""``steno files`` beside a running daemon, and at a terminal: a person edits, and is told what became of it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.daemon.client import DaemonClient
from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until
from steno.tests.e2e.terminal import Terminal

pytestmark = pytest.mark.usefixtures("forked")
STENO = f"{shlex.quote(sys.executable)} -m steno.cli.main"
LINE = """{"role":"user","content":"typed"}"""
BREAK, MEND = """sed -i '3s/"two",/"two" /' "$file\"""", """sed -i '3s/"two" /"two",/' "$file\""""
ADD = f"echo '{LINE}' >>\"$file\""


@pytest.fixture(scope="module")
def device(short: Path) -> Iterator[Device]:
    """One device whose daemon runs as long as the tests of this module."""
    made = Device(short / "verb").make().start()
    yield made
    made.stop()


@pytest.fixture
def made(device: Device) -> str:
    return session(device)


def session(device: Device) -> str:
    """A session with two messages, just made."""
    with device.store(write=True) as store:
        session = store.create(title="A title").id
        store.add_messages(session, [NewMessage(role="user", content=each, id=each) for each in ("one", "two")])
    return session


def editor(place: Path, script: str) -> str:
    """The command of an editor that is a script of the shell, in which ``$file`` is the file."""
    program = place / "vim"
    program.write_text(f'#!/bin/sh\nfor file; do :; done\necho "opened $*"\n{script}\n')
    program.chmod(0o700)
    return f"{shlex.quote(str(program))} --mine"


def test_the_status_says_that_saves_are_taken_at_once(device: Device):
    until(lambda: "saves are taken at once" in device.steno("files", "status", code=None).out, "the files are watched")


def test_the_file_of_a_session_that_was_just_made_is_there(device: Device, made: str):
    path = Path(device.steno("files", "path", made).out.strip())
    assert '"content":"two"' in path.read_text(encoding="utf-8")


def test_an_edit_is_taken_when_the_command_returns(device: Device, made: str, place: Path):
    done = device.steno("files", "edit", made, EDITOR=editor(place, ADD))
    assert done.out.splitlines()[-1] == f"Session {made}: 1 message added."
    assert device.contents(made) == ["one", "two", "typed"]


def test_an_edit_of_several_saves_is_told_as_one(device: Device, made: str, place: Path):
    taken = f"""until grep -q 'typed' "$file" && grep -c '"id"' "$file" | grep -q 4; do {STENO} files status; done"""
    script = f"""{ADD}; {taken} >/dev/null; sed -i '/"two"/d' "$file\""""
    done = device.steno("files", "edit", made, EDITOR=editor(place, script))
    assert done.out.splitlines()[-1] == f"Session {made}: 1 message added; 1 message removed."
    assert device.contents(made) == ["one", "typed"]


def test_what_came_of_a_save_is_said_at_once_and_stands_in_the_status_and_the_api(
    device: Device, made: str, place: Path
):
    script = """sed -i '3s/"role":"user"/"role":"system"/' "$file\""""
    done = device.steno("files", "edit", made, EDITOR=editor(place, script))
    text = "what does not change was edited, and is restored (role of two)"
    assert (done.out.splitlines()[-1], done.err) == ("Nothing changed.", f"{text.capitalize()}.\n")
    name = str(device.file(made).relative_to(device.home.sessions))
    assert f"{name}: {text}" in device.steno("files", "status").out
    found = device.json("files", "status")["reports"]
    assert [(each["path"], each["session"], each["kind"]) for each in found] == [(name, made, "birth-restored")]
    assert device.status()["files"]["reports"] == found
    assert DaemonClient(device.home).files()["reports"] == found
    device.steno("purge", made, "--yes")
    assert device.json("files", "status")["reports"] == []


def test_what_is_refused_is_said_with_its_place_in_one_line(device: Device, made: str, place: Path):
    done = device.steno("files", "edit", made, code=4, EDITOR=editor(place, BREAK))
    assert f"{device.file(made)}:3:13: " in done.err
    assert len(done.err.splitlines()) == 1
    assert device.steno("files", "status", code=8).out.count(":3:13: ") == 1
    assert device.steno("files", "verify", code=8).out.startswith("refused ")
    device.steno("files", "edit", made, EDITOR=editor(place, MEND))
    device.steno("files", "status")


@pytest.fixture
def at_terminal(device: Device, place: Path) -> Iterator[Callable[[str, str], Terminal]]:
    terminals: list[Terminal] = []

    def begin(made: str, script: str) -> Terminal:
        environment = device.environment(EDITOR=editor(place, script))
        terminals.append(
            Terminal([sys.executable, "-m", "steno.cli.main", "files", "edit", made], environment=environment)
        )
        return terminals[-1]

    yield begin
    for each in terminals:
        each.close()


def test_a_refused_save_is_opened_again_at_its_place(
    device: Device, made: str, place: Path, at_terminal: Callable[[str, str], Terminal]
):
    script = f"if [ -e '{place}/again' ]; then {MEND}; {ADD}; else touch '{place}/again'; {BREAK}; fi"
    terminal = at_terminal(made, script)
    terminal.wait("or [d]iscard what you changed?")
    terminal.type("a\n")
    terminal.wait("opened --mine +3 ")
    terminal.wait(f"Session {made}: 1 message added.")
    assert terminal.end() == 0
    assert device.contents(made) == ["one", "two", "typed"]


def test_a_refused_save_is_discarded_and_kept_beside(
    device: Device, made: str, at_terminal: Callable[[str, str], Terminal]
):
    terminal = at_terminal(made, f"{BREAK}; {ADD}")
    terminal.wait("or [d]iscard what you changed?")
    terminal.type("d\n")
    terminal.wait("Nothing changed.")
    assert terminal.end() == 0
    path = device.file(made)
    assert "typed" in path.with_name(f"{path.name}.refused").read_text(encoding="utf-8")
    assert "typed" not in path.read_text(encoding="utf-8")
    assert device.contents(made) == ["one", "two"]
    assert device.title(made) == "A title"
    assert device.steno("files", "status").code == 0


def test_ctrl_c_at_the_question_leaves_the_file_as_it_is(
    device: Device, made: str, at_terminal: Callable[[str, str], Terminal]
):
    terminal = at_terminal(made, BREAK)
    terminal.wait("or [d]iscard what you changed?")
    terminal.type("\x03")
    assert terminal.end() in (1, 130)
    assert '"two" "role"' in device.file(made).read_text(encoding="utf-8")
    device.steno("files", "edit", made, EDITOR='sed -i \'3s/"two" /"two",/\'')


def test_verify_finds_nothing_beside_a_daemon_that_has_written_all(lonely: Device):
    session(lonely)
    lonely.start()
    until(lonely.settled, "everything is written")
    assert lonely.steno("files", "verify").out == ""
    lonely.stop()


@pytest.mark.parametrize("daemon", ["stops", "starts"])
def test_an_edit_is_taken_whoever_keeps_the_files_by_then(lonely: Device, place: Path, daemon: str):
    made = session(lonely)
    if daemon == "stops":
        lonely.start()
    script = f"{STENO} daemon {daemon.removesuffix('s')}; {ADD}"
    try:
        done = lonely.steno("files", "edit", made, EDITOR=editor(place, script))
        assert done.out.splitlines()[-1] == f"Session {made}: 1 message added."
        assert lonely.contents(made) == ["one", "two", "typed"]
    finally:
        lonely.steno("daemon", "stop", code=None)


def test_a_directory_that_is_emptied_comes_back_by_resume(lonely: Device):
    sessions = [session(lonely) for _ in range(12)]
    lonely.start()
    until(lonely.settled, "every file is written")
    shutil.rmtree(lonely.home.sessions)
    until(lambda: lonely.status()["files"]["halted"], "everything stands still")
    assert "steno files resume --restore" in lonely.steno("files", "status", code=8).out
    until(lambda: lonely.status()["files"]["watched"] is False, "a daemon says that it hears of no save now")
    assert lonely.steno("files", "path", sessions[0], code=1).err.count("\n") == 1
    lonely.steno("files", "resume", "--restore")
    until(lambda: len(lonely.files()) == len(sessions), "every file is back")
    assert sorted(lonely.everything()) == sorted(sessions)
    until(lambda: lonely.status()["problems"] == [], "nothing is wrong any more")
    lonely.stop()


def test_sessions_whose_files_went_are_deleted_by_resume(lonely: Device):
    sessions = [session(lonely) for _ in range(12)]
    lonely.start()
    until(lonely.settled, "every file is written")
    for each in lonely.files():
        each.unlink()
    until(lambda: lonely.status()["files"]["halted"], "everything stands still")
    assert len(lonely.everything()) == len(sessions)
    done = lonely.steno("files", "resume", "--delete", code=2)
    assert "12 sessions" in done.err
    assert lonely.json("files", "resume", "--delete", "--yes")["deleted"] == 12
    assert lonely.everything() == {}
    lonely.steno("restore", sessions[0])
    until(lambda: len(lonely.files()) == 1, "the file of the one that was restored is back")
    lonely.stop()
