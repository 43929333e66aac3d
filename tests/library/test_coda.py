"""What Coda's session module promises, check by check."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from steno import InvalidInput, Session, SessionError, SessionManager, SessionNotFoundError, SQLiteSessionStore
from steno.storage.errors import AmbiguousRef

# As their page prints them, but for the line that imports.
QUICK_START = """
from steno import SessionManager

# Initialize session manager
manager = SessionManager({
    "session": {
        "storage_path": "~/.coda/sessions"
    }
})

# Create or load a session
session = manager.create_session("my-chat")

# Add messages
session.add_message({"role": "user", "content": "Hello!"})
session.add_message({"role": "assistant", "content": "Hi there!"})

# Save session
manager.save_session(session)

# List all sessions
for session_info in manager.list_sessions():
    print(f"{session_info.name}: {session_info.message_count} messages")
"""
BRANCHING = """
# New session
session = manager.create_session("project-discussion")

# Branch from existing session
branch = manager.create_session(
    "project-discussion-v2",
    branch_from="project-discussion"
)
"""
METADATA = """
# Update metadata
session.update_metadata({
    "topic": "Python programming",
    "tags": ["tutorial", "basics"],
    "model": "gpt-4"
})

# Access metadata
print(session.metadata)
"""
EXPORT_IMPORT = """
import json

# Export session
data = {
    "messages": session.get_messages(),
    "metadata": session.metadata
}
with open("session-backup.json", "w") as f:
    json.dump(data, f)

# Import session
with open("session-backup.json") as f:
    data = json.load(f)
imported = manager.create_session("imported")
for msg in data["messages"]:
    imported.add_message(msg)
"""
SEARCH = """
# Find sessions by metadata
python_sessions = [
    s for s in manager.list_sessions()
    if "python" in s.metadata.get("topic", "").lower()
]
"""


def _config(place: Path, **more: Any) -> dict[str, Any]:
    return {"session": {"storage_path": str(place), "autosave_interval": 0, **more}}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    with SessionManager(_config(tmp_path / "coda")) as made:
        yield made


def _filled(manager: SessionManager, name: str, *texts: str) -> Session:
    session = manager.create_session(name)
    for at, text in enumerate(texts):
        session.add_message({"role": "assistant" if at % 2 else "user", "content": text})
    manager.save(session)
    return session


def _contents(messages: Any) -> list[Any]:
    return [each["content"] for each in messages]


@pytest.mark.check("COD-1", "COD-2", "COD-5")
def test_the_quick_start_of_their_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, Any] = {}
    exec(QUICK_START, names)
    assert capsys.readouterr().out == "my-chat: 2 messages\n"
    names["manager"].close()


@pytest.mark.check("COD-1")
def test_the_place_is_expanded_made_private_and_holds_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with SessionManager({"session": {"storage_path": "~/.coda/sessions"}}) as manager:
        manager.create_session("x")
    place = tmp_path / ".coda" / "sessions"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    [database] = place.glob("*.db")
    with sqlite3.connect(database) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    opened.close()


@pytest.mark.check("COD-2")
def test_a_known_name_is_loaded_with_its_messages(manager: SessionManager):
    made = _filled(manager, "my-chat", "one", "two")
    again = manager.create_session("my-chat")
    assert (again.id, _contents(again.get_messages())) == (made.id, ["one", "two"])
    assert manager.count() == 1


@pytest.mark.check("COD-3")
@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "What is Python?", "timestamp": datetime(2026, 1, 2).isoformat(), "model": "gpt-4"},  # noqa: DTZ001
        {"role": "user", "content": "", "nested": [[1, [2]], {"a": None}], "metadata": {"k": "v"}, "n": 1.5},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}], "model": None, "usage": {}},
        {"role": "tool", "content": "x", "id": "given", "timestamp": "2026-01-02T03:04:05.000Z", "metadata": {}},
        {"role": "narrator", "content": 7, "timestamp": 1767326400.5, "sender": 3},
        {"role": "user", "content": [{"type": "text", "text": "x"}], "coda.extra": "mine", "parent": "p"},
        {"role": "user", "content": "x", "token_usage": {"prompt": 1}, "cost": 0.5, "message": 1, "sequence": "s"},
        {"role": "user", "content": "x", "metadata": {"coda.extra": {"role": "evil"}}},
    ],
    ids=",".join,
)
def test_whatever_stands_in_a_message_comes_back_equal(manager: SessionManager, message: dict[str, Any]):
    session = manager.create_session("x")
    session.add_message({"role": "user", "content": "before"})
    session.add_message(message)
    assert session.get_messages()[1] == message
    manager.save(session)
    assert manager.load_session("x").get_messages()[1] == message


@pytest.mark.check("COD-4")
def test_another_process_sees_what_was_saved(manager: SessionManager, tmp_path: Path):
    session = _filled(manager, "x", "one")
    session.add_message({"role": "user", "content": "unsaved"})
    code = (
        "from steno import SessionManager\n"
        f"m = SessionManager({_config(tmp_path / 'coda')!r})\n"
        "print([each['content'] for each in m.create_session('x').get_messages()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['one']\n"


@pytest.mark.check("COD-4")
def test_what_nobody_saved_is_saved_within_the_interval_also_if_nobody_holds_it(tmp_path: Path):
    with SessionManager(_config(tmp_path, autosave_interval=0.05)) as manager:
        manager.create_session("x").add_message({"role": "user", "content": "forgotten"})
        arrived = threading.Event()
        reader = SQLiteSessionStore(tmp_path / "sessions.db")
        waiting = threading.Timer(30, arrived.set)  # only where it never comes
        waiting.start()
        while not arrived.is_set():
            if _contents(reader.list_all()[0].get_messages()) == ["forgotten"]:
                break
            arrived.wait(0.01)
        waiting.cancel()
        assert not arrived.is_set()
        reader.close()


@pytest.mark.check("COD-4")
def test_what_nobody_saved_is_saved_when_the_program_ends(tmp_path: Path):
    code = (
        "from steno import SessionManager\n"
        f"m = SessionManager({_config(tmp_path, autosave_interval=300)!r})\n"
        "m.create_session('x').add_message({'role': 'user', 'content': 'last words'})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with SessionManager(_config(tmp_path)) as manager:
        assert _contents(manager.create_session("x").get_messages()) == ["last words"]


@pytest.mark.check("COD-5")
def test_the_items_of_a_list_say_everything_and_load_no_message(manager: SessionManager):
    _filled(manager, "x", "grüß", "dich").update_metadata({"k": 1})
    with manager.store.database() as store:
        asked: list[str] = []
        store.connection.set_trace_callback(asked.append)
        [item] = manager.list_sessions()
        shown = (item.name, item.message_count, item.size_bytes, item.metadata)
        store.connection.set_trace_callback(None)
    assert shown == ("x", 2, len("grüßdich".encode()), {})
    assert item.created_at <= item.updated_at
    assert not [sql for sql in asked if "FROM messages WHERE session" in sql]


@pytest.mark.check("COD-6")
def test_the_branching_of_their_page_runs(manager: SessionManager):
    names: dict[str, Any] = {"manager": manager}
    exec(BRANCHING, names)
    assert names["branch"].parent == names["session"].id


@pytest.mark.check("COD-6")
def test_a_branch_has_all_messages_and_neither_shows_in_the_other(manager: SessionManager):
    original = manager.create_session("v1")
    original.add_message({"role": "user", "content": "about python", "metadata": {"k": [1]}, "odd": True})
    manager.save(original)
    branch = manager.create_session("v2", branch_from="v1")
    assert branch.get_messages() == original.get_messages()
    assert (branch.message_count, branch.parent) == (1, original.id)
    branch.add_message({"role": "user", "content": "in the branch"})
    original.add_message({"role": "user", "content": "in the original"})
    manager.save(branch)
    manager.save(original)
    assert _contents(manager.create_session("v1").get_messages()) == ["about python", "in the original"]
    assert _contents(manager.create_session("v2").get_messages()) == ["about python", "in the branch"]
    assert {found.session.name for found in manager.search("python")} == {"v1", "v2"}


@pytest.mark.check("COD-7")
def test_branching_from_nothing_makes_nothing(manager: SessionManager):
    with pytest.raises(SessionNotFoundError):
        manager.create_session("v2", branch_from="nowhere")
    assert manager.count() == 0


@pytest.mark.check("COD-7")
def test_branching_to_a_name_that_is_taken_is_refused(manager: SessionManager):
    _filled(manager, "v1", "one")
    _filled(manager, "v2", "two")
    with pytest.raises(SessionError):
        manager.create_session("v2", branch_from="v1")
    with pytest.raises(SessionError):
        manager.create_session("v2", "anthropic", branch_from="v1")
    assert _contents(manager.create_session("v2").get_messages()) == ["two"]
    assert manager.count() == 2


@pytest.mark.check("COD-8")
@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize(("limit", "expected"), [(2, ["3", "4"]), (9, ["0", "1", "2", "3", "4"]), (0, [])])
def test_a_limit_gives_the_newest_oldest_first(
    manager: SessionManager, limit: int, expected: list[str], reloaded: bool
):
    session = _filled(manager, "x", *"01234")
    session = manager.load_session("x") if reloaded else session
    assert _contents(session.get_messages(limit=limit)) == expected


@pytest.mark.check("COD-8")
def test_a_negative_limit_is_rejected(manager: SessionManager):
    with pytest.raises(InvalidInput):
        manager.create_session("x").get_messages(limit=-1)


@pytest.mark.check("COD-9")
def test_clearing_leaves_metadata_and_id(manager: SessionManager):
    session = _filled(manager, "x", "one", "two")
    session.update_metadata({"k": 1})
    session.clear_messages()
    assert (session.get_messages(), session.message_count) == ([], 0)
    manager.save(session)
    found = manager.load_session("x")
    assert (found.id, found.metadata, found.message_count, found.get_messages()) == (session.id, {"k": 1}, 0, [])


@pytest.mark.check("COD-10")
@pytest.mark.parametrize(("keep", "first", "left"), [(50, 10, 50), (40, 20, 40), (60, 0, 60), (90, 0, 60), (0, 60, 0)])
def test_truncating_keeps_the_newest_in_order(manager: SessionManager, keep: int, first: int, left: int):
    session = _filled(manager, "x", *map(str, range(60)))
    session.truncate_messages(max_messages=keep)
    manager.save(session)
    assert _contents(manager.load_session("x").get_messages()) == [str(each) for each in range(first, first + left)]


@pytest.mark.check("COD-11")
def test_the_metadata_of_their_page_runs(manager: SessionManager, capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {"session": manager.create_session("x")}
    exec(METADATA, names)
    assert "Python programming" in capsys.readouterr().out


@pytest.mark.check("COD-11")
def test_metadata_is_merged_lists_are_replaced_and_the_session_was_written_to(tmp_path: Path):
    moment = [1_800_000_000_000]
    with SessionManager(_config(tmp_path), clock=lambda: moment[0]) as manager:
        session = manager.create_session("x")
        session.update_metadata({"topic": "a", "tags": ["t", "b"], "kept": {"deep": 1}})
        manager.save(session)
        before = session.updated_at
        moment[0] += 1000
        session.update_metadata({"tags": ["c"], "kept": {"er": 2}})
        manager.save(session)
        found = manager.load_session("x")
        assert found.metadata == {"topic": "a", "tags": ["c"], "kept": {"deep": 1, "er": 2}}
        assert found.updated_at > before


@pytest.mark.check("COD-12")
def test_memory_writes_nothing_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with SessionManager({"session": {"backend": "memory"}}) as manager:
        _filled(manager, "x", "one")
        assert manager.count() == 1
    assert list(tmp_path.iterdir()) == []
    with SessionManager({"session": {"backend": "memory"}}) as manager:
        assert manager.count() == 0


@pytest.mark.check("COD-12")
def test_sqlite_is_the_default_and_an_unknown_back_end_is_told_the_known_ones(tmp_path: Path):
    with SessionManager(_config(tmp_path)) as manager:
        assert isinstance(manager.store, SQLiteSessionStore)
    with pytest.raises(InvalidInput, match=r"sqlite.*memory"):
        SessionManager({"session": {"backend": "mongo"}})


@pytest.mark.check("COD-12")
def test_no_more_connections_are_open_than_the_pool_may_hold(tmp_path: Path):
    with SessionManager(_config(tmp_path, connection_pool_size=2)) as manager:
        _filled(manager, "x", "one")
        inside, leave = threading.Barrier(3), threading.Event()
        done = threading.Event()

        def hold() -> None:
            with manager.store.database():
                inside.wait(30)
                leave.wait(30)

        holders = [threading.Thread(target=hold) for _ in range(2)]
        for each in holders:
            each.start()
        inside.wait(30)
        third = threading.Thread(target=lambda: (manager.count(), done.set()))
        third.start()
        assert not done.wait(0.2)
        leave.set()
        assert done.wait(30)
        for each in [*holders, third]:
            each.join()


@pytest.mark.check("COD-13")
@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("code_review", {}, "You are an expert code reviewer."),
        ("tutoring", {"subject": "algebra"}, "You are a patient tutor for algebra."),
    ],
)
def test_a_template_begins_with_its_instruction(
    manager: SessionManager, template: str, values: dict[str, str], text: str
):
    session = manager.create_from_template(template, "lesson", **values)
    manager.create_session("lesson").add_message({"role": "user", "content": "x"})
    found = manager.load_session("lesson")
    assert [(each.role, each.content) for each in found.messages] == [("system", text)]
    assert found.metadata == {**values, "template": template, "created_from_template": True}
    assert session.name == "lesson"


@pytest.mark.check("COD-13")
def test_an_unknown_template_and_a_missing_value_are_rejected(manager: SessionManager):
    with pytest.raises(InvalidInput, match="code_review"):
        manager.create_from_template("nothing")
    with pytest.raises(InvalidInput, match="subject"):
        manager.create_from_template("tutoring")
    assert manager.count() == 0


@pytest.mark.check("COD-14")
def test_the_export_and_import_of_their_page_give_an_equal_session(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    session = _filled(manager, "x", "one", "two")
    session.add_message({"role": "tool", "content": "3", "tool_call_id": "c", "timestamp": "2026-01-02T03:04:05"})
    names: dict[str, Any] = {"session": session, "manager": manager}
    exec(EXPORT_IMPORT, names)
    assert names["imported"].get_messages() == session.get_messages()


@pytest.mark.check("COD-14")
def test_the_managers_own_export_carries_name_and_times_and_comes_back(manager: SessionManager):
    session = _filled(manager, "x", "one", "two")
    data = json.loads(manager.export_session(session.id))
    assert {"name", "created_at", "updated_at"} <= data["session"].keys()
    back = manager.import_session(data)
    assert [(each.role, each.content, each.timestamp) for each in back.messages] == [
        (each.role, each.content, each.timestamp) for each in session.messages
    ]


@pytest.mark.check("COD-15")
def test_the_search_of_their_page_finds_exactly_the_right_sessions(manager: SessionManager):
    for name, topic in (("a", "Python programming"), ("b", "Go"), ("c", None)):
        session = manager.create_session(name)
        if topic:
            session.update_metadata({"topic": topic})
        manager.save(session)
    names: dict[str, Any] = {"manager": manager}
    exec(SEARCH, names)
    assert [each.name for each in names["python_sessions"]] == ["a"]


@pytest.mark.check("COD-17")
def test_an_addition_beyond_the_largest_size_is_refused_and_what_is_there_is_kept(tmp_path: Path):
    with SessionManager(_config(tmp_path, max_session_size=0.001)) as manager:
        session = _filled(manager, "x", "a" * 900)
        for each in (session, manager.load_session("x")):
            with pytest.raises(SessionError):
                each.add_message({"role": "user", "content": "b" * 101})
            each.add_message({"role": "user", "content": "c" * 100})
        assert manager.load_session("x").message_count == 1


@pytest.mark.check("COD-18")
def test_a_repetitive_message_takes_little_room_and_is_found_all_the_same(tmp_path: Path):
    text = "the quick brown fox jumps over the lazy dog " * 24_000
    with SessionManager(_config(tmp_path)) as manager:
        manager.store.vacuum()
        before = manager.store.size_bytes()
        _filled(manager, "x", text)
        manager.store.vacuum()
        assert len(text) > 1_000_000
        assert manager.store.size_bytes() - before < len(text) / 5
        assert _contents(manager.load_session("x").get_messages()) == [text]
        assert [found.session.name for found in manager.search("lazy dog")] == ["x"]


@pytest.mark.check("COD-20")
def test_a_session_is_deleted_asked_about_and_loaded_by_its_name(manager: SessionManager):
    _filled(manager, "x", "one")
    info = manager.get_session_info("x")
    assert info is not None
    assert info.message_count == 1
    assert manager.delete_session("x")
    assert manager.get_session_info("x") is None
    with pytest.raises(SessionNotFoundError):
        manager.load_session("x")
    assert issubclass(SessionNotFoundError, SessionError)


@pytest.mark.check("COD-20")
def test_tokens_of_english_are_about_four_characters_each(manager: SessionManager):
    session = _filled(manager, "x", "word " * 4000)
    assert abs(manager.get_token_count(session.id) - 5000) < 1000


class Storage:
    """Somebody's own storage, with Coda's names."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def save(self, session: Session) -> None:
        self.kept[session.id] = session.to_json()

    def load(self, session_id: str) -> Session | None:
        return Session.from_json(self.kept[session_id]) if session_id in self.kept else None

    def delete(self, session_id: str) -> bool:
        return self.kept.pop(session_id, None) is not None

    def list_all(self) -> list[str]:
        return list(self.kept)


@pytest.mark.check("COD-21")
def test_a_storage_of_ones_own_is_used_for_everything():
    storage = Storage()
    with SessionManager({"session": {"autosave_interval": 0}}, storage=storage) as manager:
        session = _filled(manager, "v1", "one", "two")
        branch = manager.create_session("v2", branch_from="v1")
        assert set(storage.kept) == {session.id, branch.id}
        assert _contents(manager.create_session("v2").get_messages()) == ["one", "two"]
        assert {each.name for each in manager.list_sessions()} == {"v1", "v2"}
        assert manager.delete_session("v1")
        assert set(storage.kept) == {branch.id}


@pytest.mark.check("COD-22")
def test_a_session_made_with_everything_holds_everything(manager: SessionManager):
    arguments: dict[str, Any] = {
        "provider": "openai", "model": "gpt-4", "mode": "code", "description": "about x", "system_prompt": "be kind",
        "config": {"temperature": 0.5},
    }  # fmt: skip
    first, second = (manager.create_session("x", **arguments) for _ in range(2))
    assert first.id != second.id
    found = manager.load_session(first.id)
    assert {name: getattr(found, name) for name in arguments} == arguments
    assert found.status == "active"


@pytest.mark.check("COD-22")
def test_the_mode_is_general_where_nobody_said(manager: SessionManager):
    assert manager.create_session("x", "openai", "gpt-4").mode == "general"


@pytest.mark.check("COD-23")
def test_messages_are_numbered_and_tokens_and_cost_add_up(manager: SessionManager):
    session = manager.create_session("x", "openai", "gpt-4")
    usage = {"prompt": 10, "completion": 20, "total": 30}
    manager.add_message(session.id, role="user", content="hello")
    manager.add_message(session.id, role="assistant", content="hi", token_usage=usage, cost=0.001, model="gpt-4")
    found = manager.load_session(session.id)
    assert [each.sequence for each in found.get_messages()] == [1, 2]
    assert (found.messages[1].token_usage, found.messages[1].cost) == (usage, 0.001)
    assert (found.message_count, found.total_tokens, found.total_cost) == (2, 30, 0.001)


@pytest.mark.check("COD-24")
@pytest.mark.parametrize(
    ("window", "expected"),
    [({"limit": 3}, [2, 3, 4]), ({"limit": 2, "offset": 2}, [2, 3]), ({"offset": 3}, [3, 4]), ({"offset": 9}, [])],
)
def test_a_window_of_messages_may_begin_anywhere(manager: SessionManager, window: dict[str, int], expected: list[int]):
    session = _filled(manager, "x", *(f"Message {number}" for number in range(5)))
    found = manager.get_messages(session.id, **window)
    assert _contents(found) == [f"Message {number}" for number in expected]
    assert [each.sequence for each in found] == [number + 1 for number in expected]


@pytest.mark.check("COD-25")
def test_a_branch_may_begin_at_any_message(manager: SessionManager):
    session = _filled(manager, "x", "one", "two", "three")
    fork = manager.forks.fork(session.id, at=session.messages[1].id)
    assert [each.content for each in fork.messages] == ["one", "two"]


@pytest.fixture
def two_languages(manager: SessionManager) -> SessionManager:
    _filled(manager, "py", "How do decorators work in Python?", "A decorator wraps a callable.")
    _filled(manager, "js", "What are arrow functions?", "They are short functions of JavaScript.")
    return manager


@pytest.mark.check("COD-26")
@pytest.mark.parametrize(
    ("query", "name"), [("Python", "py"), ("functions", "js"), ("decorator", "py"), ("wrap", "py")]
)
def test_a_search_finds_the_session_and_says_where(two_languages: SessionManager, query: str, name: str):
    [found] = two_languages.search(query)
    assert found.session.name == name
    known = {each.id for each in found.session.messages}
    assert found.messages
    assert {hit.message for hit in found.messages} <= known


@pytest.mark.check("COD-26")
@pytest.mark.parametrize("query", ["what's up?", 'foo"', "C++", "a-b", "*"])
def test_no_query_is_too_odd(two_languages: SessionManager, query: str):
    assert isinstance(two_languages.search(query), list)


@pytest.mark.check("COD-26")
def test_deleted_and_archived_sessions_are_not_found_unless_asked_for(two_languages: SessionManager):
    two_languages.archive(two_languages.load_session("py"))
    two_languages.delete_session("js")
    assert two_languages.search("Python") == []
    assert two_languages.search("functions") == []
    assert [found.session.name for found in two_languages.search("Python", archived=True)] == ["py"]


@pytest.mark.check("COD-26")
def test_twenty_hits_are_given_where_nobody_says_how_many(manager: SessionManager):
    _filled(manager, "x", *(f"needle {number}" for number in range(30)))
    [found] = manager.search("needle")
    assert len(found.messages) == 20


@pytest.mark.check("COD-27")
def test_a_deleted_session_leaves_the_lists_and_can_be_had_when_asked_for(manager: SessionManager):
    session = _filled(manager, "x", "one")
    assert manager.delete_session("x")
    assert manager.get_active_sessions() == []
    deleted = manager.store.get(session.id, deleted=True)
    assert deleted is not None
    assert deleted.deleted_at is not None


@pytest.mark.check("COD-27")
def test_a_hard_deletion_leaves_nothing_and_branches_stay_complete(manager: SessionManager, tmp_path: Path):
    _filled(manager, "x", "unheardofword", "two")
    branch = manager.create_session("y", branch_from="x")
    branch.clear_messages()
    branch.add_message({"role": "user", "content": "mine"})
    manager.save(branch)
    other = manager.create_session("z", branch_from="x")
    session = manager.load_session("x")
    assert manager.delete_session("x", hard=True)
    assert manager.get_session(session.id) is None
    assert manager.store.get(session.id, deleted=True) is None
    assert _contents(manager.load_session("z").get_messages()) == ["unheardofword", "two"]
    assert {found.session.id for found in manager.search("unheardofword")} == {other.id}
    with manager.store.database() as store:
        for table in ("registers", "revisions", "messages"):
            assert store.one(
                f"SELECT count(*) FROM {table} t JOIN sessions s ON s.no = t.session WHERE s.id = ?"
                + (" AND path <> 'purged'" if table == "registers" else ""),  # that it is purged
                (session.id,),
            ) == (0,)


@pytest.mark.check("COD-28")
def test_archived_sessions_are_not_active_and_a_limit_holds(manager: SessionManager):
    for name in ("a", "b", "c"):
        manager.create_session(name)
    assert manager.archive(manager.load_session("a")).status == "archived"
    assert {each.name for each in manager.get_active_sessions()} == {"b", "c"}
    assert len(manager.get_active_sessions(limit=1)) == 1


@pytest.mark.check("COD-29")
def test_an_update_replaces_tags_and_config_and_leaves_the_rest(manager: SessionManager):
    session = manager.create_session("x", "openai", "gpt-4", description="old", config={"a": 1, "b": 2})
    manager.update_session(session.id, tags=["one", "two"], config={"c": 3})
    changed = manager.update_session(session.id, name="y", tags=["two", "three", "two"])
    assert (changed.name, changed.tags, changed.config, changed.description, changed.provider) == (
        "y", ["two", "three"], {"c": 3}, "old", "openai",
    )  # fmt: skip
    found = manager.load_session(session.id)
    assert (found.name, found.tags, found.config) == ("y", ["two", "three"], {"c": 3})


def _long(manager: SessionManager) -> str:
    session = manager.create_session("long")
    session.add_message({"role": "system", "content": "be kind"})
    for number in range(20):
        session.add_message({"role": "assistant" if number % 2 else "user", "content": f"{number} " + "word " * 100})
    manager.save(session)
    return session.id


@pytest.mark.check("COD-30")
def test_a_window_keeps_the_instructions_and_the_newest_and_sums_up_the_rest(manager: SessionManager):
    messages, truncated = manager.get_session_context(_long(manager), max_tokens=1000)
    assert truncated
    assert len(messages) < 20
    assert messages[0] == {"role": "system", "content": "be kind"}
    assert messages[-1]["content"].startswith("19 ")
    kept = len(messages) - 2
    gone = 20 - kept
    [summary] = [each for each in messages if each["content"].startswith("[Previous conversation summary: ")]
    assert summary["content"].startswith(
        f"[Previous conversation summary: {gone} messages ({-(-gone // 2)} user, {gone // 2} assistant)]"
    )
    assert summary["role"] == "system"


@pytest.mark.check("COD-30")
def test_what_fits_a_window_is_given_as_it_is_and_of_nothing_there_is_nothing(manager: SessionManager):
    session = _filled(manager, "x", "one", "two")
    assert manager.get_session_context(session.id, max_tokens=1000) == (session.get_messages(), False)
    assert manager.get_session_context("nowhere", max_tokens=1000) == ([], False)


@pytest.mark.check("COD-32")
def test_the_json_export_has_its_keys(manager: SessionManager):
    session = manager.create_session("x", "openai", "gpt-4", description="about x")
    calls = [{"id": "c", "function": {"name": "f"}}]
    session.add_message("assistant", "hi", model="gpt-4", tool_calls=calls, attachments=["a.png"], provider="openai",
                        token_usage={"prompt": 1, "completion": 2, "total": 3}, cost=0.5)  # fmt: skip
    manager.save(session)
    data = json.loads(manager.export_session(session.id, "json"))
    assert data["session"]["name"] == "x"
    [message] = data["messages"]
    assert {key: message[key] for key in message if key not in ("id", "created_at", "metadata", "sender")} == {
        "sequence": 1, "role": "assistant", "content": "hi", "model": "gpt-4", "provider": "openai",
        "tokens": {"prompt": 1, "completion": 2, "total": 3}, "cost": 0.5, "tool_calls": calls,
        "attachments": ["a.png"],
    }  # fmt: skip


@pytest.mark.check("COD-32")
def test_the_readable_exports_are_readable(manager: SessionManager):
    session = manager.create_session("Title <1>", "openai", description="about x")
    session.add_message("user", "<script>alert(1)</script>")
    session.add_message("assistant", "sure")
    manager.save(session)
    markdown, text, page = (manager.export_session(session.id, form) for form in ("markdown", "txt", "html"))
    assert "# Title <1>\n\nabout x" in markdown
    assert "### 👤 User\n\n<script>alert(1)</script>" in markdown
    assert "### 🤖 Assistant" in markdown
    assert "sure" in text
    assert page.lower().startswith("<!doctype html>")
    assert "<title>Title &lt;1&gt;</title>" in page
    assert 'class="message user"' in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.check("COD-32")
def test_an_export_of_nothing_or_to_nothing_is_refused(manager: SessionManager):
    session = manager.create_session("x")
    with pytest.raises(InvalidInput, match="Unsupported export format: pdf"):
        manager.export_session(session.id, "pdf")
    with pytest.raises(SessionNotFoundError, match="nowhere"):
        manager.export_session("nowhere")


@pytest.mark.check("COD-33")
def test_the_history_of_tools_is_in_order_and_summed_up(manager: SessionManager):
    session = manager.create_session("x")
    for number in range(4):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}
        session.add_message({"role": "assistant", "content": "", "tool_calls": [call]})
        session.add_message({"role": "tool", "content": str(number), "tool_call_id": f"c{number}"})
    session.add_message("assistant", [{"type": "tool_use", "id": "t", "name": "write_file", "input": {}}])
    manager.save(session)
    history = manager.get_tool_history(session.id)
    assert [each["sequence"] for each in history] == list(range(1, 10))
    assert [each["type"] for each in history[:2]] == ["call", "result"]
    assert history[1]["tool_call_id"] == "c0"
    assert manager.get_tool_summary(session.id) == {
        "total_tool_calls": 5, "unique_tools": 2, "tool_counts": {"read_file": 4, "write_file": 1},
        "most_used": "read_file",
    }  # fmt: skip


@pytest.mark.check("COD-33")
def test_without_tools_there_is_nothing_to_sum_up(manager: SessionManager):
    session = _filled(manager, "x", "one")
    assert manager.get_tool_history(session.id) == []
    assert manager.get_tool_summary(session.id) == {
        "total_tool_calls": 0, "unique_tools": 0, "tool_counts": {}, "most_used": None,
    }  # fmt: skip


@pytest.mark.check("COD-35")
def test_a_reference_is_an_id_its_beginning_a_name_or_a_part_of_one(manager: SessionManager):
    session = manager.create_session(session_id="abc123", name="Data Pipeline")
    manager.create_session(session_id="abd456", name="Pipeline")
    for ref in ("abc123", "abc", "data pipeline", "data"):
        assert manager.resolve(ref) == session.id
    assert manager.resolve("PIPELINE") == "abd456"


@pytest.mark.check("COD-35")
def test_more_than_one_hit_is_refused_and_named_among_all_sessions(manager: SessionManager):
    for number in range(130):
        manager.create_session(session_id=f"s{number}", name=f"Chat {number}")
    with pytest.raises(AmbiguousRef) as caught:
        manager.resolve("chat")
    assert len(caught.value.candidates) > 1
    assert manager.resolve("chat 129") == "s129"
    with pytest.raises(SessionNotFoundError):
        manager.resolve("nothing")


@pytest.mark.check("COD-37")
def test_the_last_session_comes_back_with_all_that_belongs_to_it(manager: SessionManager):
    manager.create_session("older", "openai", "gpt-4")
    session = manager.create_session("newer", "anthropic", "claude", mode="code")
    session.add_message("assistant", "hi", token_usage={"prompt": 1, "completion": 2, "total": 3}, cost=0.25)
    manager.save(session)
    last = manager.last()
    assert last is not None
    assert (last.id, last.provider, last.model, last.mode) == (session.id, "anthropic", "claude", "code")
    assert (last.messages[0].token_usage["total"], last.messages[0].cost) == (3, 0.25)


@pytest.mark.check("COD-37")
def test_saving_under_another_name_keeps_the_id(manager: SessionManager):
    session = _filled(manager, "old", "one")
    session.name = "new"
    manager.save(session)
    assert manager.load_session("new").id == session.id
    assert manager.get_session_info("old") is None


@pytest.mark.check("COD-38")
def test_a_backup_holds_what_was_saved(manager: SessionManager, tmp_path: Path):
    _filled(manager, "x", "one")
    copy = manager.backup(tmp_path / "copy.db")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with SessionManager(store=SQLiteSessionStore(copy)) as restored:
        assert _contents(restored.load_session("x").get_messages()) == ["one"]


@pytest.mark.check("COD-38")
def test_emptying_the_store_and_its_file(manager: SessionManager):
    _filled(manager, "x", *("word " * 20_000 for _ in range(20)))
    assert manager.clear_all() == 1
    assert manager.count() == 0
    manager.store.vacuum()
    assert manager.store.size_bytes() > 0


def test_a_branch_takes_what_is_given_beside_it_and_refuses_what_it_cannot(manager: SessionManager):
    _filled(manager, "v1", "one")
    branch = manager.create_session(
        "v2", "anthropic", "claude", branch_from="v1", tags=["t"], agent_id="a", mode="code"
    )
    found = manager.load_session(branch.id)
    assert (found.provider, found.model, found.tags, found.agent_id, found.mode) == (
        "anthropic", "claude", ["t"], "a", "code",
    )  # fmt: skip
    with pytest.raises(InvalidInput):
        manager.create_session("v3", branch_from="v1", session_id="mine")
    assert manager.get_session_info("v3") is None


@pytest.mark.check("COD-17")
def test_an_edit_beyond_the_largest_size_is_refused_as_well(tmp_path: Path):
    with SessionManager(_config(tmp_path, max_session_size=0.001)) as manager:
        session = _filled(manager, "x", "a" * 900)
        with pytest.raises(SessionError):
            session.edit_message(session.messages[0].id, content="b" * 1001)
        assert session.messages[0].content == "a" * 900


@pytest.mark.check("COD-26")
def test_the_limit_of_a_search_counts_sessions(manager: SessionManager):
    _filled(manager, "many", *(f"needle {number}" for number in range(60)))
    _filled(manager, "few", "a needle, and much that is no such thing at all, for the sake of the score")
    assert {found.session.name for found in manager.search("needle")} == {"many", "few"}
    assert len(manager.search("needle", limit=1)) == 1


@pytest.mark.check("COD-2")
def test_a_name_with_runs_of_blanks_is_the_same_name(manager: SessionManager):
    assert manager.create_session("my  chat").id == manager.create_session(" my chat ").id


def test_a_hard_deletion_asks_which_where_two_have_the_name(manager: SessionManager):
    first = manager.create_session("Project", mode="a")
    manager.create_session("Project", mode="b")
    with pytest.raises(AmbiguousRef):
        manager.delete_session("Project", hard=True)
    manager.delete(first.id)
    manager.create_session(first.id, mode="c")  # titled as the deleted one's id
    assert manager.delete_session(first.id, hard=True)
    assert manager.store.get(first.id, deleted=True) is None
    assert manager.count() == 2
