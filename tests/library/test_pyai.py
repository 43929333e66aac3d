"""What PYAI's sessions module promises, check by check."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steno import (
    InvalidInput,
    MemorySessionStore,
    Session,
    SessionDeleted,
    SessionManager,
    SessionStore,
    SQLiteSessionStore,
    store_from_environment,
)
from steno.storage.library.contract import Backend

DAY_MS = 86_400_000
START_MS = 1_800_000_000_000

# As their pages print them, but for the line that imports.
BASIC_USAGE = """
from steno import SessionManager, SQLiteSessionStore

# Create manager with SQLite storage
manager = SessionManager(
    store=SQLiteSessionStore("sessions.db")
)

# Create a session
session = manager.create_session(user_id="user123")

# Add messages
session.add_message("user", "Hello!")
session.add_message("assistant", "Hi there!")

# Save session
manager.save(session)

# Later: retrieve session
session = manager.get_session(session.session_id)
"""
WITH_AGENTS = """
from steno import SessionManager, SQLiteSessionStore

# Setup
manager = SessionManager(store=SQLiteSessionStore("chat.db"))

# Create agent
agent = Agent(
    name="Assistant",
    instructions="You are helpful."
)

# Chat with session persistence
async def chat(user_id: str, message: str):
    # Get or create session
    sessions = manager.get_sessions_for_user(user_id)
    session = sessions[0] if sessions else manager.create_session(user_id)

    # Get history for context
    history = [
        {"role": msg.role, "content": msg.content}
        for msg in session.messages
    ]

    # Run agent with history
    result = await Runner.run_async(agent, message, history=history)

    # Store conversation
    session.add_message("user", message)
    session.add_message("assistant", result.final_output)
    manager.save(session)

    return result.final_output
"""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def manager(path: Path, clock: Clock) -> Iterator[SessionManager]:
    with SessionManager(store=SQLiteSessionStore(path, clock=clock), clock=clock) as made:
        yield made


@pytest.mark.check("PYA-1", "PYA-3")
def test_the_basic_usage_of_their_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(BASIC_USAGE, names)
    assert [(each.role, each.content) for each in names["session"].messages] == [
        ("user", "Hello!"),
        ("assistant", "Hi there!"),
    ]
    assert names["session"].user_id == "user123"
    names["manager"].close()


@pytest.mark.check("PYA-15")
async def test_the_chat_of_their_page_remembers_what_was_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    histories = []

    async def run_async(agent: Any, message: str, *, history: list[dict[str, Any]]) -> Any:
        histories.append(history)
        await asyncio.sleep(0)
        return SimpleNamespace(final_output=f"echo {message}")

    names: dict[str, Any] = {"Agent": SimpleNamespace, "Runner": SimpleNamespace(run_async=run_async)}
    exec(WITH_AGENTS, names)
    assert await names["chat"]("ann", "one") == "echo one"
    await names["chat"]("ann", "two")
    assert histories == [[], [{"role": "user", "content": "one"}, {"role": "assistant", "content": "echo one"}]]
    names["manager"].close()


@pytest.mark.check("PYA-1")
def test_a_generated_id_is_marked_long_and_never_the_same(manager: SessionManager):
    ids = [manager.create_session("ann").id for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(each.startswith("sess_") and len(each) >= 13 for each in ids)


@pytest.mark.check("PYA-1")
def test_the_user_may_be_named_by_place_or_by_name(manager: SessionManager):
    assert manager.create_session("ann").user_id == manager.create_session(user_id="ann").user_id == "ann"


@pytest.mark.check("PYA-2")
def test_adding_gives_back_the_message_as_an_object(manager: SessionManager):
    message = manager.create_session().add_message("user", "Hello!")
    assert (message.role, message.content) == ("user", "Hello!")
    assert message.id
    assert datetime.fromisoformat(message.timestamp).tzinfo is not None


@pytest.mark.check("PYA-2")
@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_the_four_roles_are_taken(role: str):
    assert Session("s").add_message(role, "x").role == role


@pytest.mark.check("PYA-2")
def test_another_role_is_rejected_and_nothing_is_added():
    session = Session("s")
    with pytest.raises(InvalidInput, match="invalid role: alien"):
        session.add_message("alien", "x")
    assert session.message_count == 0


@pytest.mark.check("PYA-3")
def test_a_new_process_gets_an_equal_session(manager: SessionManager, path: Path):
    session = manager.create_session("ann", metadata={"channel": "web"})
    session.add_message("user", "Grüße 👋", metadata={"k": [1, None]})
    session.set_state("topic", {"a": [1]})
    manager.save(session)
    code = (
        "import sys; from steno import SessionManager, SQLiteSessionStore\n"
        f"m = SessionManager(store=SQLiteSessionStore({str(path)!r}))\n"
        f"sys.stdout.buffer.write(m.get_session({session.id!r}).to_json().encode())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert Session.from_json(done.stdout).to_dict() == manager.load_session(session.id).to_dict() == session.to_dict()


@pytest.mark.check("PYA-3")
def test_an_unknown_session_is_none(manager: SessionManager):
    assert manager.get_session("nowhere") is None


@pytest.mark.check("PYA-4")
def test_a_session_made_by_hand_keeps_its_id_and_is_saved_as_any_other(manager: SessionManager):
    session = Session(session_id="sess_abc123", user_id="user123", metadata={"channel": "web", "language": "en"})
    session.add_message("user", "What is it?")
    manager.save(session)
    found = manager.load_session("sess_abc123")
    assert found is not None
    assert (found.user_id, found.metadata, found.message_count) == (
        "user123", {"channel": "web", "language": "en"}, 1,
    )  # fmt: skip


@pytest.mark.check("PYA-4")
def test_times_know_their_zone_and_grow_when_something_is_added(manager: SessionManager, clock: Clock):
    session = manager.create_session("ann")
    created, before = session.created_at, session.updated_at
    clock.ms += 5000
    session.add_message("user", "later")
    assert session.updated_at - before == timedelta(seconds=5)
    assert (session.created_at, created.tzinfo) == (created, UTC)


@pytest.mark.check("PYA-5")
@pytest.mark.parametrize("value", [None, 0, "x", [1, {"a": None}], {"deep": {"er": []}}, True, 1.5])
def test_any_json_value_is_kept_in_the_state(manager: SessionManager, value: Any):
    session = manager.create_session(metadata={"k": "metadata"})
    session.set_state("k", value)
    manager.save(session)
    found = manager.load_session(session.id)
    assert found is not None
    assert (found.get_state("k", "missing"), found.metadata) == (value, {"k": "metadata"})


@pytest.mark.check("PYA-5")
def test_a_missing_state_is_none_or_what_was_asked_for():
    session = Session("s")
    assert session.get_state("k") is None
    assert session.get_state("k", 7) == 7


@pytest.mark.check("PYA-6")
def test_two_table_names_in_one_file_see_nothing_of_each_other(path: Path):
    first = SessionManager(store=SQLiteSessionStore(path=path, table_name="sessions"))
    second = SessionManager(store=SQLiteSessionStore(path=path, table_name="others"))
    first.add_message("same", "user", "in the first")
    second.add_message("same", "user", "in the second")
    second.create_session("ann")
    assert [each["content"] for each in first.get_messages("same")] == ["in the first"]
    assert [each["content"] for each in second.get_messages("same")] == ["in the second"]
    assert (first.count(), second.count()) == (1, 2)
    assert first.get_sessions_for_user("ann") == []
    assert [found.session.id for found in first.search("in")] == ["same"]
    first.clear_all()
    assert (first.count(), second.count()) == (0, 2)
    first.close()
    second.close()


@pytest.mark.check("PYA-6")
def test_a_fork_in_a_space_stays_in_it(path: Path):
    manager = SessionManager(store=SQLiteSessionStore(path, "space"))
    manager.add_message("a", "user", "hello")
    fork = manager.forks.fork("a")
    assert fork.parent == "a"
    assert [session.id for _, session in manager.forks.tree("a")] == ["a", fork.id]
    assert [each.id for each in manager.forks.ancestors(fork.id)] == ["a"]
    manager.close()


@pytest.mark.check("PYA-6")
def test_without_anything_said_a_file_is_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with SessionManager(store=SQLiteSessionStore()) as manager:
        manager.create_session("ann")
    assert (tmp_path / "sessions.db").exists()


@pytest.mark.check("PYA-8")
def test_memory_is_empty_after_a_restart():
    with SessionManager(store=MemorySessionStore()) as manager:
        manager.add_message("a", "user", "x")
    with SessionManager(store=MemorySessionStore()) as manager:
        assert manager.count() == 0


@pytest.mark.check("PYA-8")
def test_what_is_done_to_a_loaded_session_and_not_saved_is_not_in_the_store():
    with SessionManager(store=MemorySessionStore()) as manager:
        manager.add_message("a", "user", "x")
        session = manager.load_session("a")
        session.metadata["k"] = "v"
        session.state["k"] = "v"
        session.tags.append("t")
        session.add_message("user", "y")
        found = manager.load_session("a")
        assert (found.metadata, found.state, found.tags, found.message_count) == ({}, {}, [], 1)


@pytest.mark.check("PYA-9")
def test_the_sessions_of_a_user_come_newest_first_without_archived_ones(manager: SessionManager, clock: Clock):
    made = []
    for user in ("ann", "bob", "ann", "ann"):
        clock.ms += 1000
        made.append(manager.create_session(user).id)
    manager.archive(made[2])
    assert [each.id for each in manager.get_sessions_for_user("ann")] == [made[3], made[0]]
    assert {each.id for each in manager.get_sessions_for_user("ann", include_archived=True)} == {
        made[0], made[2], made[3],
    }  # fmt: skip
    assert manager.get_sessions_for_user("nobody") == []


@pytest.mark.check("PYA-10")
def test_deleting_says_whether_there_was_something(manager: SessionManager):
    session = manager.create_session("ann")
    assert [manager.delete(session.id), manager.delete(session.id), manager.delete("nowhere")] == [True, False, False]


@pytest.mark.check("PYA-10")
def test_a_purge_leaves_no_row_behind(manager: SessionManager):
    session = manager.create_session("ann", metadata={"k": 1})
    session.add_message("user", "x")
    manager.save(session)
    assert manager.purge(session.id)
    with manager.store.database() as store:
        assert store.one("SELECT count(*) FROM messages") == (0,)
        assert store.one("SELECT count(*) FROM revisions") == (0,)
        assert store.one("SELECT count(*) FROM registers WHERE path <> 'purged'") == (0,)  # that it is purged


@pytest.mark.check("PYA-11")
def test_thirty_days_without_a_write_archive_a_session_and_a_second_less_does_not(
    manager: SessionManager, clock: Clock
):
    old = manager.create_session("ann")
    clock.ms += 1000
    young = manager.create_session("ann")
    clock.ms = START_MS + 30 * DAY_MS
    assert manager.archive_inactive(days=30) == 1
    assert (manager.load_session(old.id).status, manager.load_session(young.id).status) == ("archived", "active")


@pytest.mark.check("PYA-11")
def test_archiving_the_inactive_again_changes_nothing_and_can_be_undone(manager: SessionManager, clock: Clock):
    session = manager.create_session("ann")
    session.add_message("user", "kept")
    manager.save(session)
    clock.ms += 31 * DAY_MS
    assert [manager.archive_inactive(), manager.archive_inactive()] == [1, 0]
    assert manager.activate(session.id).status == "active"
    assert [each["content"] for each in manager.get_messages(session.id)] == ["kept"]


@pytest.mark.check("PYA-12")
def test_clearing_all_leaves_no_session_and_no_message(manager: SessionManager):
    for user in ("ann", "bob"):
        session = manager.create_session(user)
        session.add_message("user", "x")
        manager.save(session)
    manager.clear_all()
    assert manager.count() == 0
    assert manager.list_sessions() == []
    with manager.store.database() as store:
        assert store.count() == (0, 0)


@pytest.mark.check("PYA-13")
def test_a_session_goes_through_its_whole_life(manager: SessionManager):
    session = manager.create_session("ann")
    session.add_message("user", "x")
    manager.save(session)
    loaded = manager.load_session(session.id)
    assert manager.archive(loaded).status == "archived"
    assert manager.delete(session.id)
    assert manager.get_session(session.id) is None


@pytest.mark.check("PYA-13")
def test_adding_to_an_archived_session_makes_it_active_again(manager: SessionManager):
    session = manager.create_session("ann")
    manager.archive(session)
    session.add_message("user", "back")
    manager.save(session)
    assert manager.load_session(session.id).status == "active"


@pytest.mark.check("PYA-13")
def test_saving_what_was_deleted_meanwhile_is_refused(manager: SessionManager):
    session = manager.create_session("ann")
    session.add_message("user", "x")
    manager.delete(session.id)
    with pytest.raises(SessionDeleted):
        manager.save(session)
    assert manager.get_session(session.id) is None


class AsyncStore(SessionStore):
    """What their page sketches: a store of one's own, with coroutines."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def save(self, session: Session) -> None:
        await asyncio.sleep(0)
        self.kept[session.session_id] = session.to_json()

    async def get(self, session_id: str) -> Session | None:
        await asyncio.sleep(0)
        return Session.from_json(self.kept[session_id]) if session_id in self.kept else None

    async def delete(self, session_id: str) -> None:
        self.kept.pop(session_id, None)

    async def list_for_user(self, user_id: str) -> list[Session]:
        found = [Session.from_json(text) for text in self.kept.values()]
        return [session for session in found if session.user_id == user_id]


@pytest.mark.check("PYA-14")
def test_a_store_of_coroutines_works_under_the_same_manager():
    with SessionManager(store=AsyncStore()) as manager:
        session = manager.create_session("ann")
        session.add_message("user", "x")
        session.set_state("k", 1)
        manager.save(session)
        found = manager.load_session(session.id)
        assert (found.get_state("k"), [each.content for each in found.messages]) == (1, ["x"])
        assert [each.id for each in manager.get_sessions_for_user("ann")] == [session.id]
        assert [manager.delete(session.id), manager.exists(session.id)] == [True, False]


@pytest.mark.check("PYA-14")
async def test_a_store_of_coroutines_works_from_inside_a_running_loop():
    with SessionManager(store=AsyncStore()) as manager:
        assert manager.create_session("ann").user_id == "ann"


@pytest.mark.check("PYA-16")
def test_the_three_ways_of_speaking_and_what_is_listed_of_them():
    session = Session("s")
    session.add_system_message("be kind")
    session.add_user_message("hello")
    session.add_assistant_message("hi")
    assert [each.role for each in session.messages] == ["system", "user", "assistant"]
    assert [each["content"] for each in session.get_messages(include_system=False, last_n=2)] == ["hello", "hi"]


@pytest.mark.check("PYA-16")
def test_a_chat_api_is_told_of_tools_only_where_there_are_some():
    session = Session("s")
    calls = [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]
    session.add_user_message("hello")
    session.add_assistant_message(None, tool_calls=calls)
    session.add_message("tool", "42", tool_call_id="c1")
    assert session.get_api_messages() == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]


@pytest.mark.check("PYA-16")
def test_clear_keeps_the_instructions():
    session = Session("s")
    session.add_system_message("be kind")
    session.add_user_message("hello")
    session.clear()
    assert [each.role for each in session.messages] == ["system"]


@pytest.mark.check("PYA-16")
def test_reset_empties_messages_context_and_state(manager: SessionManager):
    session = manager.create_session()
    session.add_system_message("be kind")
    session.context["c"] = 1
    session.set_state("k", 1)
    manager.save(session)
    session.reset()
    manager.save(session)
    found = manager.load_session(session.id)
    assert (found.message_count, found.context, found.state) == (0, {}, {})


def _talk(session: Session, *texts: str) -> list[str]:
    return [session.add_message("user", text).id for text in texts]


@pytest.mark.check("PYA-17")
@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("restore_context", [True, False])
def test_going_back_to_a_checkpoint_cuts_the_messages(manager: SessionManager, reloaded: bool, restore_context: bool):
    session = manager.create_session()
    _talk(session, "one", "two")
    session.context["phase"] = "before"
    mark = session.checkpoint("before_research")
    _talk(session, "three")
    session.context["phase"] = "after"
    if reloaded:
        manager.save(session)
        session = manager.load_session(session.id)
    assert session.rewind_to_checkpoint(mark, restore_context=restore_context)
    manager.save(session)
    found = manager.load_session(session.id)
    assert [each.content for each in found.messages] == ["one", "two"]
    assert found.context == {"phase": "before" if restore_context else "after"}


@pytest.mark.check("PYA-17")
def test_by_name_the_newest_checkpoint_is_meant_and_later_ones_are_forgotten():
    session = Session("s")
    _talk(session, "one")
    first = session.checkpoint("here")
    _talk(session, "two")
    second = session.checkpoint("here")
    _talk(session, "three")
    session.checkpoint("later")
    assert session.rewind_to_checkpoint("here")
    assert session.message_count == 2
    assert [each.id for each in session.checkpoints] == [first, second]
    assert session.rewind_to_checkpoint("later") is False


@pytest.mark.check("PYA-18")
def test_rewinding_to_a_message_keeps_it_and_cuts_what_came_after():
    session = Session("s")
    ids = _talk(session, "one", "two", "three")
    assert session.rewind(ids[1]) is True
    assert [each.content for each in session.messages] == ["one", "two"]
    assert session.rewind("nowhere") is False


@pytest.mark.check("PYA-18")
@pytest.mark.parametrize(("count", "removed", "left"), [(2, 2, 1), (9, 3, 0), (0, 0, 3)])
def test_rewinding_by_a_number_says_how_many_went(count: int, removed: int, left: int):
    session = Session("s")
    _talk(session, "one", "two", "three")
    assert (session.rewind_n_messages(count), session.message_count) == (removed, left)


@pytest.mark.check("PYA-19")
def test_json_loses_nothing():
    session = Session("s", "ann", {"m": [1, None]}, title="T", tags=["a"], state={"k": {"x": None}})
    session.context["c"] = {"d": 1}
    session.add_message(
        "assistant", None, tool_calls=[{"id": "1", "function": {"name": "f"}}], usage={"input_tokens": 3}
    )
    session.checkpoint("here")
    session.add_message({"role": "narrator", "content": [{"type": "text", "text": "x"}], "odd": {"key": [1]}})
    again = Session.from_json(session.to_json())
    assert again.to_dict() == session.to_dict()
    assert again.get_messages() == session.get_messages()
    assert [each.id for each in again.checkpoints] == [each.id for each in session.checkpoints]


@pytest.mark.check("PYA-19")
def test_get_or_create_exists_and_count(manager: SessionManager):
    assert manager.exists("a") is False
    made = manager.get_or_create("a", "ann")
    assert (made.id, manager.get_or_create("a").user_id, manager.exists("a"), manager.count()) == ("a", "ann", True, 1)


@pytest.mark.check("PYA-19")
def test_the_limit_of_a_list_counts_what_the_filters_left(manager: SessionManager):
    for number in range(6):
        manager.create_session("ann" if number % 2 else "bob", agent_id="x" if number < 4 else "y")
    assert len(manager.list_sessions("ann", limit=2)) == 2
    assert len(manager.list_sessions(agent_id="x", limit=100)) == 4
    assert len(manager.list_sessions("ann", "y", limit=1)) == 1


@pytest.mark.check("PYA-20")
@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, "MemorySessionStore"),
        ({"STENO_SQLITE_PATH": "made.db"}, "SQLiteSessionStore"),
        ({"STENO_BACKEND": "memory", "STENO_SQLITE_PATH": "made.db"}, "MemorySessionStore"),
        ({"STENO_BACKEND": "sqlite", "STENO_SQLITE_PATH": "made.db"}, "SQLiteSessionStore"),
    ],
)
def test_the_environment_chooses_the_store(
    environment: dict[str, str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    store: Backend = store_from_environment(environment)
    assert type(store).__name__ == kind
    store.close()


@pytest.mark.check("PYA-20")
def test_an_unknown_back_end_is_a_value_error():
    with pytest.raises(ValueError, match="Unknown backend: x"):
        store_from_environment({"STENO_BACKEND": "x"})


@pytest.mark.check("PYA-20")
def test_a_manager_without_arguments_uses_what_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STENO_SQLITE_PATH", str(tmp_path / "named.db"))
    with SessionManager() as manager:
        manager.create_session("ann")
    assert (tmp_path / "named.db").exists()


@pytest.mark.check("PYA-20")
def test_a_manager_without_anything_uses_the_store_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "home"))
    with SessionManager() as manager:
        manager.create_session("ann")
    assert (tmp_path / "home" / "steno.db").exists()


@pytest.mark.check("PYA-20")
def test_a_redis_host_is_chosen_before_an_sqlite_path_and_the_variable_before_both(redis_url: str, tmp_path: Path):
    host, _, port = redis_url.rpartition("//")[2].rstrip("/0").rpartition(":")
    environment = {"STENO_REDIS_HOST": host, "STENO_REDIS_PORT": port, "STENO_SQLITE_PATH": str(tmp_path / "made.db")}
    for more, kind in (({}, "RedisSessionStore"), ({"STENO_BACKEND": "memory"}, "MemorySessionStore")):
        store = store_from_environment({**environment, **more})
        assert type(store).__name__ == kind
        store.close()


def test_a_manager_of_the_home_saves_by_itself_and_one_of_a_store_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "home"))
    with SessionManager() as manager:
        manager.create_session(session_id="s").add_message("user", "x")
    with SessionManager() as manager:
        assert [each["content"] for each in manager.get_messages("s")] == ["x"]
    with SessionManager(store=SQLiteSessionStore(tmp_path / "s.db")) as manager:
        manager.create_session(session_id="s").add_message("user", "x")
    with SessionManager(store=SQLiteSessionStore(tmp_path / "s.db")) as manager:
        assert manager.get_messages("s") == []


def test_the_managers_clock_is_that_of_the_store_as_well(path: Path, clock: Clock):
    with SessionManager(store=SQLiteSessionStore(path), clock=clock) as manager:
        manager.create_session(session_id="s")
        manager.delete("s")
        deleted = manager.store.get("s", deleted=True).deleted_at
        assert int(deleted.timestamp() * 1000) == START_MS
