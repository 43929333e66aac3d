"""``steno import`` and ``steno export``: what comes in, what goes out, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.cli.main import main
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.lines import parse


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]

CHAT = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("STENO_HOME", str(place))
    store = Store(place / "steno.db")
    store.create(id="s1", title="Plans", tags=["a"], metadata={"project": "x"})
    store.append("s1", NewMessage(id="m1", role="user", content='Use `<b>` & "quotes"\n```\nfence\n```'))
    return store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "folder"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def run(store: Store, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def chat(*messages: dict[str, str]) -> bytes:
    return (json.dumps({"messages": list(messages or CHAT)}) + "\n").encode()


def imported(done: Done) -> dict[str, Any]:
    return json.loads(done.out)


# import


def test_import_says_what_came_in(run: Run, folder: Path) -> None:
    (folder / "chat.jsonl").write_bytes(chat())
    done = run("import", "chat.jsonl")
    assert (done.code, done.out) == (0, "Sessions: 1 new, 0 changed, 0 unchanged\nMessages: 2 added\n")


def test_importing_twice_changes_nothing(run: Run, folder: Path, store: Store) -> None:
    (folder / "chat.jsonl").write_bytes(chat())
    run("import", "chat.jsonl")
    before = store.last_seq

    found = imported(run("import", "chat.jsonl", "--json"))

    assert (found["sessions"], found["messages_added"]) == ({"new": 0, "changed": 0, "unchanged": 1}, 0)
    assert store.last_seq == before


def test_import_reads_standard_input(run: Run, store: Store) -> None:
    assert run("import", "-", stdin=chat()).code == 0
    assert store.count()[0] == 2


def test_an_export_comes_back_equal_after_it_was_lost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run("show", "s1", "--json").out
    run("export", "s1")
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "new"))
    (tmp_path / "new").mkdir()
    Store(tmp_path / "new" / "steno.db").close()

    run("import", "session-s1.json")

    assert run("show", "s1", "--json").out == before


def test_a_file_of_no_known_format_is_one_line_and_exit_4(run: Run, folder: Path) -> None:
    (folder / "x.json").write_text("nonsense")
    done = run("import", "x.json")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)


def test_a_path_that_is_not_there_is_refused_before_anything_is_taken(run: Run, folder: Path, store: Store) -> None:
    (folder / "chat.jsonl").write_bytes(chat())
    assert run("import", "chat.jsonl", "nowhere").code == 2
    assert store.count()[0] == 1


def test_a_directory_is_taken_whole_around_a_bad_file_and_exits_4(run: Run, folder: Path, store: Store) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.json").write_text("nonsense")
    (folder / "deep" / "er" / "b.jsonl").write_bytes(chat())
    (folder / "c.txt").write_text("not looked at")

    done = run("import", ".")

    assert (done.code, store.count()[0]) == (4, 2)
    assert done.err.splitlines()[0].startswith("Refused a.json: ")


def test_what_claude_code_keeps_beside_its_transcripts_is_passed_over(run: Run, folder: Path) -> None:
    (folder / "sessions-index.json").write_text('{"version": 1}')
    (folder / "agent-x.meta.json").write_text('{"agentType": "x"}')
    assert run("import", ".").code == 0


def test_a_torn_line_is_told_with_file_and_line_and_the_rest_comes_in(run: Run, folder: Path) -> None:
    (folder / "chat.jsonl").write_bytes(chat() + b'{"messages": [{"role": \n' + chat({"role": "user", "content": "x"}))
    done = run("import", "chat.jsonl")
    assert (done.code, done.out.splitlines()[0]) == (0, "Sessions: 2 new, 0 changed, 0 unchanged")
    assert done.err.startswith("chat.jsonl, line 2: ")


def test_many_faults_are_counted_and_not_all_told(run: Run, folder: Path) -> None:
    (folder / "chat.jsonl").write_bytes(chat() + b"torn\n" * 50)
    done = run("import", "chat.jsonl")
    assert done.err.splitlines()[-1] == "… and 30 more faults; --json lists all of them"
    assert len(imported(run("import", "chat.jsonl", "--json"))["faults"]) == 50


def test_a_file_of_our_own_with_a_fault_brings_nothing_in(run: Run, folder: Path, store: Store) -> None:
    header = {"steno": 1, "id": "s2"}
    lines = [header, {"role": "user", "content": "x"}, {**header, "id": "s3"}, {"role": "user"}]
    (folder / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run("import", "x.jsonl")
    assert (done.code, store.count()[0]) == (4, 1)
    assert done.err.startswith("Error: x.jsonl: line 4, column 1: content is required")


def test_importing_a_session_that_was_deleted_here_says_so(run: Run, store: Store) -> None:
    run("export", "s1")
    store.delete("s1")
    done = run("import", "session-s1.json")
    assert (done.code, "deleted here" in done.err) == (0, True)


# export


def test_export_writes_a_file_named_by_the_id(run: Run, folder: Path) -> None:
    assert run("export", "Plans").code == 0
    assert json.loads((folder / "session-s1.json").read_text())["id"] == "s1"


def test_export_to_standard_output_is_nothing_but_the_session(run: Run) -> None:
    assert json.loads(run("export", "@last", "-o", "-").out)["messages"][0]["id"] == "m1"


def test_an_id_that_is_no_file_name_still_makes_one_in_this_directory(run: Run, folder: Path, store: Store) -> None:
    store.create(id="../../up/and away")
    assert run("export", "../../up/and away").code == 0
    assert [each.parent for each in folder.rglob("session-*.json")] == [folder]


def test_all_sessions_go_into_one_file_that_comes_back_in_one_go(run: Run, store: Store) -> None:
    store.create(id="s2")
    run("export", "--all", "-o", "backup/all.json")
    assert imported(run("import", "backup/all.json", "--json"))["sessions"]["unchanged"] == 2


def test_all_sessions_of_an_empty_store_are_an_empty_array(run: Run, store: Store) -> None:
    store.delete("s1")
    assert json.loads(run("export", "--all", "-o", "-").out) == []


def test_exported_jsonl_is_a_session_file(run: Run, folder: Path) -> None:
    run("export", "s1", "--format", "jsonl")
    parsed = parse((folder / "session-s1.jsonl").read_bytes())
    assert parsed.header is not None
    assert (parsed.header.id, [each.id for each in parsed.lines]) == ("s1", ["m1"])


def test_jsonl_of_all_sessions_comes_back_in_one_go(run: Run, store: Store) -> None:
    store.create(id="s2")
    run("export", "--all", "--format", "jsonl", "-o", "all.jsonl")
    assert imported(run("import", "all.jsonl", "--json"))["sessions"]["unchanged"] == 2


def test_markdown_holds_each_message_byte_for_byte(run: Run, store: Store, folder: Path) -> None:
    run("export", "s1", "--format", "markdown", "-o", "x.md")
    (message,) = store.messages("s1")
    assert isinstance(message.content, str)
    assert message.content.encode() in (folder / "x.md").read_bytes()


@pytest.mark.parametrize("place", ["/proc/nowhere/x.json", "file/x.json", "file/"])
def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(run: Run, folder: Path, place: str) -> None:
    (folder / "file").write_text("")
    done = run("export", "s1", "-o", place)
    assert (done.code in (1, 4), place in done.err, done.err.count("\n")) == (True, True, 1)
    assert [each.name for each in folder.iterdir()] == ["file"]


def test_an_export_that_fails_leaves_the_file_that_was_there(run: Run, folder: Path, store: Store) -> None:
    (folder / "x.json").write_text("precious")
    store.connection.execute("UPDATE messages SET content = CAST('no json' AS BLOB)")
    assert run("export", "s1", "-o", "x.json").code == 1
    assert [(each.name, each.read_text()) for each in folder.iterdir()] == [("x.json", "precious")]


@pytest.mark.parametrize("arguments", [(), ("s1", "--all"), ("s1", "-o", "x", "-f", "y"), ("s1", "--format", "pdf")])
def test_an_export_of_nothing_or_without_a_place_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("export", *arguments).code == 2
