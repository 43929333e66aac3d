"""``steno import`` of exported sessions: looked through first, nothing twice, nothing lost, nothing by half."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.cli.main import main
from steno.storage.lineage import lineage
from steno.storage.model import NewMessage
from steno.storage.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "export"
GUIDE: dict[str, Any] = {
    "id": "abc123def456",
    "title": "REST API Development",
    "created_at": "2024-01-15T10:30:00Z",
    "updated_at": "2024-01-15T14:22:00Z",
    "provider": "anthropic",
    "model": "claude-3-5-sonnet-20241022",
    "metadata": {"tags": ["go", "rest-api"], "project": "backend-service"},
    "messages": [
        {"role": "user", "content": "How do I create a REST API in Go?", "timestamp": "2024-01-15T10:30:05Z"},
        {"role": "assistant", "content": "I'll help you.", "timestamp": "2024-01-15T10:30:15Z"},
    ],
}


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("STENO_HOME", str(place))
    return Store(place / "steno.db")


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


@pytest.fixture
def guide(folder: Path) -> Path:
    path = folder / "session.json"
    path.write_text(json.dumps(GUIDE, indent=2))
    return path


def contents(store: Store, session: str = "abc123def456") -> list[Any]:
    return [each.content for each in store.messages(session)]


def ids(store: Store) -> set[str]:
    return {each.id for each in store.sessions()}


@pytest.mark.check("AIN-29")
def test_the_guide_s_export_comes_in_exactly(run: Run, guide: Path, store: Store) -> None:
    assert run("import", "-i", "session.json").code == 0
    found = store.get("abc123def456")
    assert (found.title, found.tags, found.metadata) == (
        "REST API Development", ["go", "rest-api"], {"project": "backend-service"},
    )  # fmt: skip
    assert (found.created_at, found.updated_at) == ("2024-01-15T10:30:00.000Z", "2024-01-15T14:22:00.000Z")
    assert [(each.role, each.content, each.timestamp) for each in store.messages(found.id)] == [
        (each["role"], each["content"], each["timestamp"]) for each in GUIDE["messages"]
    ]


@pytest.mark.check("AIN-30")
def test_a_new_id_makes_another_session_that_names_its_origin(run: Run, guide: Path, store: Store) -> None:
    run("import", "-i", "session.json", "--new-id")
    [made] = ids(store)
    found = store.get(made)
    assert made != "abc123def456"
    assert found.source == {"tool": "steno", "id": "abc123def456"}
    assert contents(store, made) == [each["content"] for each in GUIDE["messages"]]
    assert (found.title, found.created_at) == ("REST API Development", "2024-01-15T10:30:00.000Z")


@pytest.mark.check("AIN-30")
def test_a_title_of_one_s_own_replaces_that_of_the_file(run: Run, guide: Path, store: Store) -> None:
    assert run("import", "-i", "session.json", "--title", "Imported Session").code == 0
    assert store.get("abc123def456").title == "Imported Session"


def test_one_title_is_not_for_several_sessions(run: Run, folder: Path, store: Store) -> None:
    (folder / "two.json").write_text(json.dumps([GUIDE, {**GUIDE, "id": "other"}]))
    assert (run("import", "two.json", "--title", "T").code, ids(store)) == (4, set())


@pytest.mark.check("AIN-31")
def test_a_backup_file_holds_several_sessions(run: Run, folder: Path, store: Store) -> None:
    (folder / "backup.json").write_text(json.dumps([GUIDE, {**GUIDE, "id": "other"}]))
    run("import", "-i", "backup.json")
    assert ids(store) == {"abc123def456", "other"}


@pytest.mark.check("AIN-31")
def test_a_directory_of_backups_is_read_by_name_and_told_file_by_file(run: Run, folder: Path, store: Store) -> None:
    (folder / "d" / "deeper").mkdir(parents=True)
    for name in ("b.json", "a.json", "deeper/c.json", "notes.txt"):
        (folder / "d" / name).write_text(json.dumps({**GUIDE, "id": name}))
    done = run("import", "--dir", "d")
    assert ids(store) == {"a.json", "b.json"}
    assert done.out.splitlines()[:2] == [
        "d/a.json: 1 new, 0 changed, 0 unchanged",
        "d/b.json: 1 new, 0 changed, 0 unchanged",
    ]


@pytest.mark.check("AIN-32")
def test_every_fault_is_listed_with_its_line_and_column_and_nothing_is_written(
    run: Run, folder: Path, store: Store
) -> None:
    bad = {
        **GUIDE, "id": None, "title": 7, "created_at": "soon", "metadata": {"tags": ["go", 1]},
        "messages": [{"role": "", "content": "x"}, {"role": "user", "content": 7}, {"role": "user"}, "text"],
    }  # fmt: skip
    text = json.dumps([{**GUIDE, "id": "good"}, bad], indent=1)
    (folder / "bad.json").write_text(text)
    done = run("import", "bad.json")
    assert (done.code, done.out, ids(store)) == (4, "", set())
    *faults, last = done.err.splitlines()
    assert last == "Error: bad.json: 8 faults, so nothing of it was taken"
    lines = text.splitlines()
    for fault, part in zip(faults, ["null", "7", '"soon"', "[", '""', "7", "{", '"text"'], strict=True):
        line, column = (int(word) for word in fault.replace(",", ":").replace(":", " ").split()[:5] if word.isdigit())
        assert lines[line - 1][column - 1 :].startswith(part), (fault, lines[line - 1])


@pytest.mark.check("AIN-32")
@pytest.mark.parametrize("missing", ["id", "title", "messages"])
def test_what_a_session_must_have_is_missed(run: Run, folder: Path, store: Store, missing: str) -> None:
    (folder / "x.json").write_text(json.dumps({key: value for key, value in GUIDE.items() if key != missing}))
    done = run("import", "x.json")
    assert (done.code, ids(store)) == (4, set())
    assert missing in done.err


@pytest.mark.check("AIN-32")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{\n "id": "x",\n "title" "T"\n}', "line 3, column 10"),
        ('{"id": "x" "title": "T", "messages": []}', "line 1, column 12"),
        ('[\n {"id": "a", "title": "T", "messages": []},\n {"id": "b" "title": 1}\n]', "line 3, column 13"),
        ('[\n {"id": "a", "title": "T", "messages": []}', "line 2, column 43"),
        ('[{"id": "é", "title": "T", "messages": []} 1]', "line 1, column 44"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(run: Run, folder: Path, store: Store, text: str, place: str) -> None:
    (folder / "x.json").write_text(text)
    done = run("import", "x.json")
    assert (done.code, done.out, ids(store), done.err.count("\n")) == (4, "", set(), 1)
    assert place in done.err


@pytest.mark.check("AIN-32")
def test_a_dry_run_says_what_would_come_in_and_keeps_nothing(run: Run, guide: Path, store: Store) -> None:
    before = store.last_seq
    done = run("import", "session.json", "--dry-run", "--json")
    assert (done.json["sessions"]["new"], done.json["dry_run"]) == (1, True)
    assert (ids(store), store.last_seq) == (set(), before)


@pytest.mark.check("AIN-33")
def test_a_session_that_is_here_as_the_file_has_it_is_unchanged(run: Run, guide: Path, store: Store) -> None:
    run("import", "session.json")
    before = store.last_seq
    done = run("import", "session.json")
    assert (done.code, done.out.splitlines()[0]) == (0, "Sessions: 0 new, 0 changed, 1 unchanged")
    assert store.last_seq == before


@pytest.mark.check("AIN-33")
@pytest.mark.parametrize("change", ["title", "message", "tag", "metadata", "status"])
def test_a_session_that_is_here_and_differs_is_refused(run: Run, guide: Path, store: Store, change: str) -> None:
    run("import", "session.json")
    changes: dict[str, Callable[[], object]] = {
        "title": lambda: store.update("abc123def456", fields={"title": "Other"}),
        "message": lambda: store.append("abc123def456", NewMessage(role="user", content="More")),
        "tag": lambda: store.update("abc123def456", add_tags=["x"]),
        "metadata": lambda: store.update("abc123def456", metadata={"x": 1}),
        "status": lambda: store.update("abc123def456", fields={"status": "archived"}),
    }
    changes[change]()
    before = store.last_seq
    done = run("import", "session.json")
    # The guide's shape has no status, so it says nothing of it.
    assert (done.code, store.last_seq) == (0 if change == "status" else 5, before)
    assert change == "status" or "--merge, --replace or --new-id" in done.err


@pytest.mark.check("AIN-33")
def test_a_file_with_one_session_that_differs_brings_nothing_in(run: Run, folder: Path, store: Store) -> None:
    store.create(id="abc123def456", title="Mine")
    (folder / "two.json").write_text(json.dumps([{**GUIDE, "id": "new"}, GUIDE]))
    assert (run("import", "two.json").code, ids(store)) == (5, {"abc123def456"})


@pytest.mark.check("AIN-33")
def test_merging_adds_what_is_missing_and_keeps_what_was_written_here(run: Run, guide: Path, store: Store) -> None:
    run("import", "session.json")
    store.append("abc123def456", NewMessage(role="user", content="Mine"))
    store.update("abc123def456", fields={"title": "My title"})
    longer = {**GUIDE, "messages": [*GUIDE["messages"], {"role": "user", "content": "Theirs"}]}
    guide.write_text(json.dumps(longer))
    assert run("import", "session.json", "--merge").code == 0
    assert store.get("abc123def456").title == "My title"
    assert set(contents(store)) == {*(each["content"] for each in longer["messages"]), "Mine"}


@pytest.mark.check("AIN-33")
def test_replacing_makes_the_session_what_the_file_says(run: Run, folder: Path, store: Store) -> None:
    store.create(id="s", title="First", tags=["a"], metadata={"k": 1, "gone": 2})
    for number in range(4):
        store.append("s", NewMessage(id=f"m{number}", role="user", content=f"text {number}", metadata={"n": number}))
    run("export", "s", "-o", "s.json")
    store.update("s", fields={"title": "Second", "status": "paused"}, add_tags=["b"], metadata={"new": 1, "gone": None})
    store.edit_message("s", "m1", {"content": "edited", "metadata": {"n": None, "o": 1}})
    store.delete_message("s", "m2")
    store.append("s", NewMessage(id="m9", role="user", content="later"))
    assert run("import", "s.json", "--replace").code == 0
    assert run("import", "s.json").out.splitlines()[0] == "Sessions: 0 new, 0 changed, 1 unchanged"
    assert contents(store, "s") == [f"text {number}" for number in range(4)]


@pytest.mark.check("AIN-33")
@pytest.mark.parametrize("at", [0, 1, 3])
def test_replacing_puts_a_message_that_is_missing_here_into_its_place(
    run: Run, folder: Path, store: Store, at: int
) -> None:
    store.create(id="s")
    said: list[dict[str, Any]] = [{"id": f"m{n}", "role": "user", "content": str(n)} for n in range(4)]
    for each in [each for number, each in enumerate(said) if number != at]:
        store.append("s", NewMessage(**each))
    (folder / "s.json").write_text(json.dumps({"steno": 1, "id": "s", "messages": said}))
    assert run("import", "s.json", "--replace").code == 0
    assert contents(store, "s") == ["0", "1", "2", "3"]


@pytest.mark.check("AIN-33")
def test_replacing_brings_a_deleted_session_back(run: Run, guide: Path, store: Store) -> None:
    run("import", "session.json")
    store.delete("abc123def456")
    assert run("import", "session.json", "--replace").code == 0
    assert contents(store) == [each["content"] for each in GUIDE["messages"]]


@pytest.mark.check("AIN-33")
def test_the_shape_of_the_source_s_own_database_is_read(run: Run, folder: Path, store: Store) -> None:
    session = {
        "id": "s",
        "name": "Theirs",
        "created_at": "2024-01-15T10:30:00Z",
        "status": "active",
        "settings": {"t": 1},
    }
    messages = [
        {"id": "m1", "session_id": "s", "role": "user", "content": "x", "timestamp": "2024-01-15T10:30:00Z"},
        {"id": "m2", "session_id": "s", "role": "assistant", "content": "y", "parent_id": "m1", "tokens_used": 12},
    ]
    (folder / "x.json").write_text(json.dumps({"session": session, "messages": messages}))
    assert run("import", "x.json").code == 0
    assert (store.get("s").title, store.get("s").metadata) == ("Theirs", {"settings": {"t": 1}})
    second = list(store.messages("s"))[1]
    assert (second.parent, second.token_usage["total"]) == ("m1", 12)


@pytest.mark.parametrize("pair", [("--merge", "--replace"), ("--merge", "--new-id"), ("--replace", "--new-id")])
def test_what_excludes_each_other_is_a_usage_error(run: Run, guide: Path, pair: tuple[str, str]) -> None:
    assert run("import", "session.json", *pair).code == 2


@pytest.mark.check("AIN-42")
def test_a_branch_made_by_a_file_is_linked_to_its_origin(run: Run, guide: Path, store: Store) -> None:
    run("import", "session.json")
    run("export", "abc123def456", "-o", "base-session.json")
    run("import", "-i", "base-session.json", "--new-id", "--title", "Branched Session")
    [made] = ids(store) - {"abc123def456"}
    row = store.find(made)
    assert row is not None
    assert (row.title, lineage(store, row)) == ("Branched Session", ["abc123def456"])
    assert [each.origin and each.origin["session"] for each in store.messages(made)] == ["abc123def456"] * 2


def test_standard_input_is_read_like_a_file(run: Run, guide: Path, store: Store) -> None:
    assert run("import", "-i", "-", stdin=guide.read_bytes()).code == 0
    assert ids(store) == {"abc123def456"}


def test_the_json_of_an_import_is_frozen(run: Run, folder: Path, store: Store) -> None:
    (folder / "bad.json").write_text(json.dumps({**GUIDE, "title": "", "messages": [{"role": "user"}]}))
    (folder / "good.json").write_text(json.dumps(GUIDE))
    done = run("import", "good.json", "bad.json", "--json")
    assert (done.code, done.out) == (4, (GOLDEN / "import.json").read_text())


def test_a_zip_of_chatgpt_brings_its_conversations(run: Run, folder: Path, store: Store) -> None:
    mapping = {
        "r": {"id": "r", "parent": None, "children": ["a"], "message": None},
        "a": {"id": "a", "parent": "r", "children": [], "message": {
            "id": "a", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Hello"]}}},
    }  # fmt: skip
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x/conversations.json", json.dumps([{"id": "c1", "title": "T", "mapping": mapping}]))
        made.writestr("user.json", "{}")
    done = run("import", "export.zip", "--json")
    assert (done.json["session_ids"], done.json["left_out"]) == (["c1"], {"user.json": 1})


def test_replacing_refuses_a_file_in_which_a_session_stands_twice(run: Run, store: Store, folder: Path) -> None:
    other = {**GUIDE, "messages": [{**GUIDE["messages"][0], "content": "Something else"}]}
    (folder / "twice.json").write_text(json.dumps([GUIDE, other]), encoding="utf-8")
    done = run("import", "twice.json", "--replace")
    assert (done.code, "abc123def456 stands twice" in done.err, store.count()[0]) == (4, True, 0)


@pytest.mark.timeout(20)
def test_a_pipe_in_a_directory_is_left_alone(run: Run, store: Store, folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "session.json").write_text(json.dumps(GUIDE), encoding="utf-8")
    assert run("import", str(folder)).code == 0
    assert store.count()[0] == 1
