"""``steno files``: what it says of the files, what it does to them, and what becomes of an edit."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.cli import editing, keeper
from steno.cli.main import main
from steno.daemon.lock import ProcessLock
from steno.storage.database import wall_ms
from steno.storage.errors import LocalStorageError
from steno.storage.model import NewMessage, parse_time
from steno.storage.store import Store
from steno.sync.files import exchange as exchanging
from steno.sync.files import session_file
from steno.sync.files.mirror import Mirror, MirrorStopped
from steno.sync.files.reports import Report, keep
from steno.tests.unit.test_cli_purge import Terminal
from steno.tests.unit.test_cli_sessions import Done, Run, home, run

__all__ = ["home", "run"]

STENO = f"{shlex.quote(sys.executable)} -m steno.cli.main"
NOTICE = "The history keeps the earlier text of 1 message until `steno purge s --history`"
Ask = Callable[..., Done]
Editor = Callable[..., None]


@pytest.fixture(autouse=True)
def no_editor_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "steno.db") as made:
        yield made


@pytest.fixture
def path(run: Run, store: Store) -> Path:
    """The file of a session ``s`` with the messages ``one``, ``two`` and ``three``."""
    store.create(id="s", title="A title")
    add(store, "one", "two", "three")
    return Path(run("files", "path", "s").out.strip())


@pytest.fixture
def many(home: Path, store: Store) -> list[Path]:
    """The files of fifteen sessions."""
    for number in range(15):
        store.create(id=f"s{number}")
    written(home, store)
    return sorted((home / "sessions").rglob("*.jsonl"))


@pytest.fixture
def halted(home: Path, store: Store, many: list[Path]) -> list[Path]:
    """The same files, gone, so that everything stands still."""
    for each in many:
        each.unlink()
    with pytest.raises(MirrorStopped):
        Mirror(store, home / "sessions").start()
    return many


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command line with somebody at the terminal, who answers this."""

    def ask(answers: str, *arguments: str) -> Done:
        monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(answers.encode())))
        code = main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return ask


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """Make an editor of a script of the shell, in which ``$file`` is the file."""

    def made(script: str, name: str = "an editor") -> None:
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nfor file; do :; done\necho "$@" >>"{tmp_path}/opened"\n{script}\n')
        program.chmod(0o700)
        monkeypatch.setenv("EDITOR", f"{shlex.quote(str(program))} --mine")

    return made


def opened(tmp_path: Path) -> list[str]:
    """The arguments of the editor, each time that it ran."""
    return (tmp_path / "opened").read_text().splitlines()


def written(home: Path, store: Store) -> None:
    mirror = Mirror(store, home / "sessions")
    mirror.start()
    while (wait_s := mirror.write_pending()) is not None:
        time.sleep(wait_s)


def add(store: Store, *contents: str) -> None:
    store.add_messages("s", [NewMessage(role="user", content=each, id=each) for each in contents])


def contents(store: Store) -> list[Any]:
    return [each.content for each in store.messages("s")]


def kept_texts(store: Store) -> str:
    """Whatever the store holds of messages and their history."""
    sql = "SELECT content FROM messages UNION ALL SELECT state FROM revisions"
    return str(store.execute(sql).fetchall())


def live(store: Store) -> list[str]:
    return [each.id for each in store.sessions()]


def line(content: str) -> str:
    return json.dumps({"role": "user", "content": content})


# status


def test_status_says_where_the_files_are_and_how_many(run: Run, home: Path, path: Path) -> None:
    said = run("files", "status").out
    assert str(home / "sessions") in said
    assert "Files:        1\n" in said
    assert "steno daemon start" in said


def test_status_says_what_is_not_written(run: Run, home: Path, store: Store) -> None:
    store.create(id="s")
    found = run("files", "status", "--json").json
    assert (found["files"], found["not_written"], found["directory"]) == (0, 1, str(home / "sessions"))
    assert "Not written:  1 change\n" in run("files", "status").out


def test_status_names_a_refused_file_with_its_place(run: Run, path: Path, home: Path) -> None:
    path.write_text(path.read_text() + '{"role": "user" "content": 1}\n')
    run("files", "rebuild")
    done = run("files", "status")
    name = str(path.relative_to(home / "sessions"))
    assert f"Refused:      {name}:5:17: " in done.out
    assert (done.code, done.err.count("\n")) == (8, 1)
    done = run("files", "status", "--json")
    (refused,) = json.loads(done.out)["refused"]
    assert (done.code, refused["path"], refused["line"], refused["column"]) == (8, name, 5, 17)


def test_status_says_why_the_files_stand_still_and_what_to_do(run: Run, halted: list[Path]) -> None:
    done = run("files", "status")
    assert done.code == 8
    assert "15 of 15 session files are gone" in done.out
    assert "steno files resume --restore" in done.out
    found = json.loads(run("files", "status", "--json").out)["halted"]
    assert (found["kind"], found["missing"]) == ("vanished", 15)
    done = run("status")
    assert (done.code, "Problem:    15 of 15 session files are gone" in done.out) == (8, True)
    assert "steno files resume" in done.out


def test_status_tells_what_was_taken_out_and_that_is_no_problem(run: Run, path: Path, editor: Editor) -> None:
    editor('sed -i 3d "$file"')
    run("files", "edit", "s")
    for verb in (("files", "status"), ("status",)):
        done = run(*verb)
        assert (done.code, "session s: text of 1 message was taken out by hand" in done.out) == (0, True)
        assert "`steno purge s --history`" in done.out
    (taken_out,) = run("files", "status", "--json").json["taken_out"]
    assert (taken_out["session"], taken_out["messages"]) == ("s", 1)
    run("purge", "s", "--history", "--yes")
    assert run("status", "--json").json["notes"] == []


def test_status_tells_of_few_sessions_whose_history_keeps_something(run: Run, home: Path, store: Store) -> None:
    for number in range(8):
        store.create(id=f"s{number}")
        store.append(f"s{number}", NewMessage(role="user", content="a secret"))
    written(home, store)
    for each in (home / "sessions").rglob("*.jsonl"):
        each.write_text(each.read_text().replace("a secret", "no secret"))
    run("files", "rebuild")
    notes = run("status", "--json").json["notes"]
    assert (len(notes), notes[-1]) == (6, "so it is with 3 more sessions: see `steno files status`")


def test_status_tells_what_was_reported_of_saves_and_that_is_no_problem(run: Run, path: Path, home: Path) -> None:
    path.write_text(path.read_text().replace('"id":"two","role":"user"', '"id":"two","role":"system"'))
    run("files", "rebuild")
    name = str(path.relative_to(home / "sessions"))
    text = "what does not change was edited, and is restored (role of two)"
    done = run("files", "status")
    (line,) = [each for each in done.out.splitlines() if each.startswith("Reported:")]
    assert (done.code, line.partition(", ")[2]) == (0, f"{name}: {text}")
    (found,) = run("files", "status", "--json").json["reports"]
    assert parse_time(found.pop("at")) <= wall_ms()
    assert found == {"path": name, "session": "s", "kind": "birth-restored", "text": text}
    done = run("status")
    assert (done.code, done.out.count("Note: "), "1 report on files" in done.out) == (0, 1, True)


def test_status_tells_few_reports_and_of_the_last_day_and_how_many_there_are_else(run: Run, store: Store) -> None:
    day_ms, now_ms = 86_400_000, wall_ms()
    with store.transaction():
        keep(store, [Report(now_ms, f"{number}.jsonl", "s", "copy", "x") for number in range(30)])
        keep(store, [Report(now_ms - 2 * day_ms, "old.jsonl", "s", "copy", "x")])
    lines = [each for each in run("files", "status").out.splitlines() if each.startswith("Reported:")]
    assert (len(lines), "old.jsonl" in "".join(lines)) == (21, False)
    assert "11 more: `steno files status --json`" in lines[-1]
    assert len(run("files", "status", "--json").json["reports"]) == 31
    assert "30 reports on files saved by hand: see `steno files status`" in run("status").out


def test_a_save_that_was_taken_before_a_crash_is_reported(run: Run, path: Path, home: Path) -> None:
    path.write_text(path.read_text().replace('"id":"two","role":"user"', '"id":"two","role":"system"'))
    environment = {**os.environ, "STENO_HOME": str(home), "STENO_KILL_AT": "files.absorbed"}
    done = subprocess.run([*shlex.split(STENO), "files", "rebuild"], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [each["kind"] for each in run("files", "status", "--json").json["reports"]] == ["birth-restored"]


def test_a_refused_file_is_named_alike_everywhere(run: Run, path: Path, home: Path) -> None:
    path.write_text(path.read_text() + '{"role": "user" "content": 1}\n')
    run("files", "rebuild")
    place = f"{path.relative_to(home / 'sessions')}:5:17: "
    assert f"Problem:    {place}" in run("status").out
    assert f"Refused:      {place}" in run("files", "status").out
    assert f"refused     {place}" in run("files", "verify").out


def test_what_is_refused_is_named_once_and_with_what_to_do(run: Run, path: Path, home: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hosts")
    run("files", "rebuild")
    (refused,) = json.loads(run("files", "status", "--json").out)["refused"]
    reason = "it is no plain file: session files are neither links nor folders"
    assert refused["reason"] == reason
    assert run("files", "verify").out == f"refused     {path.relative_to(home / 'sessions')}: {reason}\n"


def test_what_cannot_be_read_is_named_once_and_with_what_to_do(run: Run, path: Path, home: Path) -> None:
    path.unlink()
    path.mkdir()
    reason = "it is no plain file: session files are neither links nor folders"
    assert run("files", "verify").out == f"unreadable  {path.relative_to(home / 'sessions')}: {reason}\n"


def test_a_home_without_a_store_has_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "nothing"))
    for verb in ("status", "verify", "rebuild", "path x", "edit x", "resume --restore"):
        assert main(["files", *verb.split()]) == 1
        assert "steno init" in capsys.readouterr().err


# path


def test_path_writes_the_file_where_there_is_none(run: Run, store: Store, home: Path) -> None:
    store.create(id="s", title="A title")
    add(store, "one")
    done = run("files", "path", "s")
    assert done.out.startswith(str(home / "sessions"))
    assert line("one")[1:-1].replace(": ", ":").replace(", ", ",") in Path(done.out.strip()).read_text()


def test_path_brings_the_file_up_to_its_session(run: Run, store: Store, path: Path) -> None:
    add(store, "four")
    assert run("files", "path", "A title", "--json").json == {"session": "s", "path": str(path)}
    assert "four" in path.read_text()


def test_path_writes_nothing_where_nothing_changed(run: Run, path: Path) -> None:
    before = path.stat()
    run("files", "path", "s")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_path_of_nobody_is_not_found(run: Run, home: Path) -> None:
    assert run("files", "path", "nobody").code == 3


def test_path_of_a_file_that_is_gone_says_so(run: Run, path: Path) -> None:
    path.unlink()
    done = run("files", "path", "s")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert str(path) in done.err


def test_path_waits_for_whoever_keeps_the_files_and_then_says_who(
    run: Run, store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(id="s")
    monkeypatch.setattr(keeper, "BUSY_WITHIN_S", 0.2)
    with ProcessLock(home / "daemon.lock", task="the daemon"):
        done = run("files", "path", "s")
    assert (done.code, "already runs" in done.err, done.err.count("\n")) == (1, True, 1)
    assert run("files", "path", "s").code == 0


# verify


def test_verify_finds_nothing_where_all_is_well(run: Run, path: Path) -> None:
    done = run("files", "verify")
    assert (done.code, done.out) == (0, "")
    assert "Compared 1 file" in done.err
    assert run("files", "verify", "--json").json == {"compared": 1, "differences": []}


def test_verify_says_what_to_do_where_the_files_stand_still(run: Run, halted: list[Path]) -> None:
    done = run("files", "verify")
    assert (done.code, "steno files resume --restore" in done.err, "rebuild" in done.err) == (8, True, False)


def test_verify_names_what_is_not_as_it_should_be_and_writes_nothing(
    run: Run, store: Store, path: Path, home: Path
) -> None:
    path.write_text(path.read_text().replace("two", "2"))
    (home / "sessions" / "notes.txt").write_text("mine")
    store.create(id="t")
    before, seq = path.read_bytes(), store.last_seq
    done = run("files", "verify")
    assert done.code == 8
    assert done.out.splitlines() == [
        f"differs     {path.relative_to(home / 'sessions')}:3: it was changed, and that is not taken up yet",
        "missing     session t: it is not written yet",
        "foreign     notes.txt: it is no session's file, and is left alone",
    ]
    found = json.loads(run("files", "verify", "--json").out)["differences"]
    assert [(each["kind"], each["session"], each["line"]) for each in found] == [
        ("differs", "s", 3), ("missing", "t", 0), ("foreign", None, 0),
    ]  # fmt: skip
    assert (path.read_bytes(), store.last_seq) == (before, seq)


def test_verify_does_not_mind_files_of_others(run: Run, path: Path) -> None:
    path.with_name("README.md").write_text("mine")
    done = run("files", "verify")
    assert (done.code, "README.md" in done.out) == (0, True)


# rebuild


def test_rebuild_takes_up_edits_and_writes_what_is_missing(run: Run, store: Store, path: Path, home: Path) -> None:
    path.write_text(path.read_text().replace('"content":"two"', '"content":"2"'))
    store.create(id="t")
    store.create(id="u")
    gone = Path(run("files", "path", "u").out.strip())
    gone.unlink()
    assert run("files", "rebuild").out == "Wrote 3 files.\n"
    assert contents(store) == ["one", "2", "three"]
    assert (sorted(live(store)), gone.exists()) == (["s", "t", "u"], True)
    assert run("files", "verify").code == 0
    assert run("files", "rebuild", "--json").json == {"written": 0}


# resume


def test_resume_where_nothing_stands_still_is_refused(run: Run, path: Path) -> None:
    for way in ("--restore", "--delete"):
        done = run("files", "resume", way)
        assert (done.code, "do not stand still" in done.err, done.err.count("\n")) == (4, True, 1)


@pytest.mark.parametrize("ways", [(), ("--restore", "--delete")])
def test_resume_wants_to_know_which_of_the_two(run: Run, halted: list[Path], ways: tuple[str, ...]) -> None:
    assert run("files", "resume", *ways).code == 2


def test_resume_restore_writes_every_file_and_deletes_nothing(run: Run, store: Store, halted: list[Path]) -> None:
    done = run("files", "resume", "--restore")
    assert done.out == "Wrote 15 missing files; the files go on, and nothing was deleted.\n"
    assert all(each.exists() for each in halted)
    assert len(live(store)) == 15
    assert run("files", "status").code == 0


def test_resume_delete_deletes_what_is_missing_and_leaves_the_rest(
    run: Run, store: Store, halted: list[Path], home: Path
) -> None:
    store.create(id="new")
    done = run("files", "resume", "--delete", "--yes", "--json")
    assert done.json["deleted"] == 15
    assert live(store) == ["new"]
    assert len(list((home / "sessions").rglob("*.jsonl"))) == 1


def test_resume_delete_needs_an_answer_or_yes(run: Run, store: Store, halted: list[Path]) -> None:
    done = run("files", "resume", "--delete")
    assert (done.code, "15 sessions" in done.err, "--yes" in done.err) == (2, True, True)
    assert len(live(store)) == 15


def test_resume_delete_says_how_many_and_asks(ask: Ask, store: Store, halted: list[Path]) -> None:
    done = ask("n\n", "files", "resume", "--delete")
    assert (done.code, "Delete 15 sessions?" in done.err, len(live(store))) == (0, True, 15)
    done = ask("y\n", "files", "resume", "--delete")
    assert (done.code, "15 sessions" in done.out, live(store)) == (0, True, [])


# edit


def sed(expression: str) -> str:
    return f'sed -i {shlex.quote(expression)} "$file"'


def content(old: str, new: str) -> str:
    return f's/"content":"{old}"/"content":"{new}"/'


def append(content: str) -> str:
    return f'echo {shlex.quote(line(content))} >>"$file"'


ALL = ["one", "two", "three"]
BREAK, MEND = sed('3s/"two",/"two" /'), sed('3s/"two" /"two",/')


@pytest.mark.parametrize(
    ("script", "said", "kept"),
    [
        ("true", "Nothing changed.", ALL),
        ('touch "$file"', "Nothing changed.", ALL),
        (sed(content("two", "2")), "Session s: 1 message edited.", ["one", "2", "three"]),
        (append("four"), "Session s: 1 message added.", [*ALL, "four"]),
        (sed("2,3d"), "Session s: 2 messages removed.", ["three"]),
        (sed("s/A title/B/; s/active/paused/"), "Session s: title, status set.", ALL),
        (
            sed(f"s/A title/B/; 2d; {content('three', '3')}") + "; " + append("four"),
            "Session s: 1 message edited; 1 message added; 1 message removed; title set.",
            ["two", "3", "four"],
        ),
        (sed('s/"role":"user"/"role":"system"/'), "Nothing changed.", ALL),
        (f"{append('four')}; {append('four')}; {sed('$d')}", "Session s: 1 message added.", [*ALL, "four"]),
    ],
)
def test_edit_says_what_was_changed(
    run: Run, store: Store, path: Path, editor: Editor, script: str, said: str, kept: list[str]
) -> None:
    editor(script)
    done = run("files", "edit", "s")
    assert (done.code, done.out) == (0, f"{said}\n")
    assert contents(store) == kept
    assert run("files", "verify").code == 0


def test_edit_runs_the_editor_s_command_with_its_arguments_on_the_file(
    run: Run, path: Path, editor: Editor, tmp_path: Path
) -> None:
    editor("true")
    run("files", "edit", "A title")
    assert opened(tmp_path) == [f"--mine {path}"]


def test_edit_prefers_visual(run: Run, path: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    editor("false")
    monkeypatch.setenv("VISUAL", "true")
    assert run("files", "edit", "s").code == 0


def test_edit_shows_the_editor_what_the_store_holds_now(
    run: Run, store: Store, path: Path, editor: Editor, tmp_path: Path
) -> None:
    path.write_text(path.read_text().replace('"content":"two"', '"content":"2"'))
    add(store, "four")
    editor(f'cp "$file" {shlex.quote(str(tmp_path / "seen"))}')
    assert run("files", "edit", "s").out == "Nothing changed.\n"
    seen = [json.loads(each)["content"] for each in (tmp_path / "seen").read_text().splitlines()[1:]]
    assert seen == contents(store) == ["one", "2", "three", "four"]


def test_edit_tells_only_what_was_typed_and_not_what_arrived(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    editor(f"{sed('2d')}; {STENO} add s arrived; {STENO} rename s 'Renamed elsewhere'")
    assert run("files", "edit", "s").out == "Session s: 1 message removed.\n"
    assert contents(store) == ["two", "three", "arrived"]
    assert store.get("s").title == "Renamed elsewhere"


def test_edit_tells_what_every_save_of_one_sitting_changed(run: Run, store: Store, path: Path, editor: Editor) -> None:
    editor(f"{sed('2d')}; {STENO} files path s; {append('four')}")
    assert run("files", "edit", "s").out.splitlines()[-1] == "Session s: 1 message added; 1 message removed."
    assert contents(store) == ["two", "three", "four"]


def test_edit_says_that_a_message_came_back_which_changed_meanwhile(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    change = f"{shlex.quote(sys.executable)} -c " + shlex.quote(
        f"from steno.storage.store import Store; Store({str(path.parents[3] / 'steno.db')!r})"
        ".edit_message('s', 'two', {'content': 'edited elsewhere'})"
    )
    editor(f"{change}; {sed('3d; 2d')}")
    assert run("files", "edit", "s").out == "Session s: 1 message removed; 1 came back, changed meanwhile.\n"
    assert contents(store) == ["edited elsewhere", "three"]


def test_edit_prints_json(run: Run, path: Path, editor: Editor) -> None:
    editor(sed(f"s/A title/B/; 3d; {content('three', '3')}") + "; " + append("four"))
    found = run("files", "edit", "s", "--json").json
    (added,) = found.pop("added")
    assert added.startswith("m-")
    assert found == {
        "session": "s", "path": str(path), "became": None, "edited": ["three"], "removed": ["two"], "returned": [],
        "fields": ["title"], "old_texts": 2, "unknown": False, "reports": [],
    }  # fmt: skip


@pytest.mark.parametrize("script", [sed("3d"), sed(content("two", "2"))])
def test_edit_says_that_the_history_keeps_what_was_taken_out(
    run: Run, store: Store, path: Path, editor: Editor, home: Path, script: str
) -> None:
    editor(script)
    assert run("files", "edit", "s").err == f"{NOTICE}.\n"
    assert "two" in kept_texts(store)
    run("purge", "s", "--history", "--yes")
    assert "two" not in kept_texts(store)


def test_edit_says_that_the_remote_keeps_it_too(run: Run, path: Path, editor: Editor, home: Path) -> None:
    (home / "vault.json").write_text("{}")
    editor(sed("3d"))
    notice = NOTICE.replace("history keeps", "history and the remote keep")
    assert run("files", "edit", "s").err == f"{notice}.\n"


@pytest.mark.parametrize("script", [append("four"), sed("s/A title/B/"), "true"])
def test_edit_says_nothing_of_the_history_where_no_text_went(run: Run, path: Path, editor: Editor, script: str) -> None:
    editor(script)
    assert run("files", "edit", "s").err == ""


def test_edit_says_what_came_of_its_save_beyond_what_was_asked_for(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    path.write_text(path.read_text().replace('"id":"one","role":"user"', '"id":"one","role":"system"'))
    editor(sed('3h; 3d; 4G; 4s/"role":"user"/"role":"system"/'))
    done = run("files", "edit", "s", "--json")
    assert done.err.splitlines() == [
        "What does not change was edited, and is restored (role of three).",
        "Lines stood in another order, which is restored (two).",
    ]
    assert [(each["kind"], each["session"]) for each in done.json["reports"]] == [
        ("birth-restored", "s"), ("order-restored", "s")
    ]  # fmt: skip
    assert contents(store) == ALL


def test_edit_says_nothing_of_what_came_of_earlier_saves(run: Run, path: Path, editor: Editor) -> None:
    editor(sed('s/"role":"user"/"role":"system"/'))
    assert run("files", "edit", "s").err.count("\n") == 1
    editor(append("four"))
    assert run("files", "edit", "s").err == ""


def test_edit_says_what_came_of_a_save_of_an_editor_that_failed_then(run: Run, path: Path, editor: Editor) -> None:
    editor(f"""{sed('3s/"role":"user"/"role":"system"/')}; exit 3""")
    done = run("files", "edit", "s")
    assert (done.code, done.out) == (0, "Nothing changed.\n")
    assert done.err == "What does not change was edited, and is restored (role of two).\n"


def test_edit_names_the_place_of_a_refused_save_and_leaves_it(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    editor(BREAK)
    done = run("files", "edit", "s")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert done.err.startswith(f"Error: {path}:3:13: ")
    assert "`steno files edit s`" in done.err
    assert '{"id":"two" "role"' in path.read_text()
    assert contents(store) == ALL


def test_edit_opens_a_refused_file_at_its_place(run: Run, path: Path, editor: Editor, tmp_path: Path) -> None:
    editor(BREAK, "vim")
    run("files", "edit", "s")
    editor(MEND, "nano")
    assert run("files", "edit", "s").out == "Nothing changed.\n"
    assert opened(tmp_path) == [f"--mine {path}", f"--mine +3,13 {path}"]


def test_edit_offers_to_open_a_refused_save_again(
    ask: Ask, store: Store, path: Path, editor: Editor, tmp_path: Path
) -> None:
    mend = f"{MEND}; {sed(content('two', '2'))}"
    editor(f"if [ -e '{tmp_path}/again' ]; then {mend}; else touch '{tmp_path}/again'; {BREAK}; fi", "vim")
    done = ask("a\n", "files", "edit", "s")
    assert (done.code, done.out) == (0, "Session s: 1 message edited.\n")
    assert f"{path}:3:13: " in done.err
    assert opened(tmp_path) == [f"--mine {path}", f"--mine +3 {path}"]
    assert contents(store) == ["one", "2", "three"]


def test_edit_leaves_a_refused_save_as_it_is_where_that_is_wanted(ask: Ask, path: Path, editor: Editor) -> None:
    editor(BREAK)
    done = ask("l\n", "files", "edit", "s")
    assert (done.code, '{"id":"two" "role"' in path.read_text()) == (4, True)


@pytest.mark.parametrize("exchange", [True, False])
def test_edit_discards_a_refused_save_and_keeps_what_was_typed(
    ask: Ask, run: Run, store: Store, path: Path, editor: Editor, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(exchanging, "atomic_rename", lambda *_: False)
    before = path.read_text().splitlines()[1:]
    editor(BREAK)
    for number in ("", ".2"):
        done = ask("d\n", "files", "edit", "s")
        kept = path.with_name(f"{path.name}.refused{number}")
        assert (done.code, done.out, str(kept) in done.err) == (0, "Nothing changed.\n", True)
        assert '{"id":"two" "role"' in kept.read_text()
        assert path.read_text().splitlines()[1:] == before
    assert kept.stat().st_mode & 0o077 == 0
    assert contents(store) == ALL
    assert run("files", "status").code == 0
    assert run("files", "verify").code == 0


@pytest.mark.parametrize("script", [BREAK, sed("2,$d")])
def test_edit_discard_asks_nobody_and_opens_nothing(
    run: Run, store: Store, path: Path, editor: Editor, tmp_path: Path, script: str
) -> None:
    before = path.read_text().splitlines()[1:]
    add(store, *map(str, range(20)))
    editor(script)
    assert run("files", "edit", "s").code == 4
    typed = path.read_text()
    done = run("files", "edit", "s", "--discard")
    kept = path.with_name(f"{path.name}.refused")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"The session's own text stands there again; what you typed is kept in {kept}\n"
    assert (kept.read_text(), path.read_text().splitlines()[1:4]) == (typed, before)
    assert len(opened(tmp_path)) == 1
    assert len(contents(store)) == 23
    assert run("files", "status").code == 0


def test_edit_discard_prints_json_and_needs_no_editor(
    run: Run, path: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(BREAK)
    run("files", "edit", "s")
    monkeypatch.setenv("EDITOR", "no-such-editor")
    found = run("files", "edit", "s", "--discard", "--json").json
    assert found == {"session": "s", "path": str(path), "kept": f"{path}.refused"}


def test_edit_discard_takes_a_save_that_nobody_refuses(run: Run, store: Store, path: Path) -> None:
    path.write_text(path.read_text() + line("four") + "\n")
    done = run("files", "edit", "s", "--discard")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert "is not refused: there is nothing to discard" in done.err
    assert contents(store) == [*ALL, "four"]


def test_what_is_saved_in_the_moment_in_which_a_text_is_set_aside_is_what_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = exchanging.atomic_rename

    def save_first(*arguments: Any) -> bool:
        path.write_text("saved in the last moment")
        return rename(*arguments)

    monkeypatch.setattr(exchanging, "atomic_rename", save_first)
    path.write_text("refused")
    assert session_file.set_aside(path, b"own").read_text() == "saved in the last moment"
    assert path.read_text() == "own"


def test_without_exchange_what_is_saved_in_that_moment_stays_and_the_other_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def save_first(*arguments: Any) -> None:
        path.write_text("saved in the last moment")
        link(*arguments)

    monkeypatch.setattr(exchanging, "atomic_rename", lambda *_: False)
    monkeypatch.setattr(os, "link", save_first)
    path.write_text("refused")
    with pytest.raises(LocalStorageError, match="saved meanwhile"):
        session_file.set_aside(path, b"own")
    assert path.read_text() == "saved in the last moment"
    assert [each.read_text() for each in path.parent.iterdir() if each != path] == ["refused"]


@pytest.fixture
def long(run: Run, store: Store, path: Path) -> Path:
    """The same file with 23 messages."""
    add(store, *(f"more {number}" for number in range(20)))
    return Path(run("files", "path", "s").out.strip())


def test_edit_asks_before_it_deletes_most_of_a_session(ask: Ask, store: Store, long: Path, editor: Editor) -> None:
    editor(sed("5,$d"))
    done = ask("d\n", "files", "edit", "s")
    assert (done.code, done.out, contents(store)) == (0, "Session s: 20 messages removed.\n", ALL)
    assert "would delete 20 of 23 messages" in done.err


def test_edit_keeps_most_of_a_session_and_takes_the_rest(ask: Ask, store: Store, long: Path, editor: Editor) -> None:
    editor(sed("5,$d; s/A title/B/"))
    done = ask("k\n", "files", "edit", "s")
    assert (done.code, len(contents(store)), store.get("s").title) == (0, 23, "B")
    assert len(long.read_text().splitlines()) == 24


def test_edit_without_a_terminal_deletes_little_and_says_how_to_delete_much(
    run: Run, store: Store, long: Path, editor: Editor
) -> None:
    editor(sed("5,$d"))
    done = run("files", "edit", "s")
    assert (done.code, len(contents(store)), done.err.count("\n")) == (4, 23, 1)
    assert "steno files resume --delete" in done.err
    assert run("files", "resume", "--delete").code == 2
    assert run("files", "resume", "--delete", "--yes").out == "Deleted 20 messages; the files go on.\n"
    assert contents(store) == ALL


def test_edit_says_that_it_cannot_tell_what_a_text_without_a_version_changed(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    editor(sed(f's/"rev":"[^"]*",//; {content("two", "2")}'))
    assert "does not say which version" in run("files", "edit", "s").out
    assert contents(store) == ["one", "2", "three"]
    editor("true")
    assert run("files", "edit", "s").out == "Nothing changed.\n"


def test_edit_says_that_nothing_changed_where_only_others_wrote(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    editor(f"{STENO} add s arrived >/dev/null")
    assert run("files", "edit", "s").out == "Nothing changed.\n"
    assert contents(store) == [*ALL, "arrived"]


def test_edit_says_that_a_file_with_another_id_became_another_session(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    editor(sed('s/"id":"s"/"id":"t"/'))
    done = run("files", "edit", "s")
    (other,) = set(live(store)) - {"s"}
    said = f"The file became session {other}, since its id was changed; session s stays as it was.\n"
    assert (done.out, done.err) == (said, "")
    assert contents(store) == ALL


def test_edit_of_a_file_that_is_taken_away_says_so_and_deletes_nothing(
    run: Run, store: Store, path: Path, editor: Editor
) -> None:
    editor('rm "$file"')
    done = run("files", "edit", "s")
    assert (done.code, done.err.count("\n"), live(store)) == (1, 1, ["s"])
    assert "is gone from" in done.err


def test_edit_says_that_an_editor_failed(run: Run, path: Path, editor: Editor) -> None:
    editor("exit 3")
    done = run("files", "edit", "s")
    assert (done.code, done.out, "ended with code 3" in done.err) == (1, "", True)


def test_edit_takes_what_an_editor_saved_that_failed_then(run: Run, store: Store, path: Path, editor: Editor) -> None:
    editor(f"{append('four')}; exit 3")
    assert (run("files", "edit", "s").code, contents(store)) == (0, [*ALL, "four"])


def test_edit_does_not_begin_where_the_files_stand_still(run: Run, halted: list[Path], editor: Editor) -> None:
    editor("true")
    done = run("files", "edit", "s1")
    assert (done.code, "steno files resume" in done.err) == (1, True)


def test_edit_needs_an_editor(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "no-such-editor --wait")
    done = run("files", "edit", "s")
    assert (done.code, "EDITOR names no program that is found: no-such-editor" in done.err) == (4, True)


def test_edit_says_how_an_editor_is_told_to_wait(run: Run, path: Path, editor: Editor) -> None:
    editor("true", "code")
    assert "`code --wait`" in run("files", "edit", "s").err
    editor(append("four"), "code")
    assert run("files", "edit", "s").err == ""


def test_edit_gives_up_on_a_file_that_does_not_hold_still(
    run: Run, store: Store, path: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "TAKEN_WITHIN_S", 0.0)
    editor(f'(for n in $(seq 400); do echo >>"$file"; sleep 0.02; done) >/dev/null 2>&1 & {append("four")}')
    done = run("files", "edit", "s")
    assert (done.code, "does not hold still" in done.err) == (1, True)
