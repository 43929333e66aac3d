"""What cannot be kept or done is refused in one line, as a `StenoError`, and nothing is changed by it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from steno import (
    InvalidInput,
    MemorySessionStore,
    PostgresSessionStore,
    Session,
    SessionManager,
    SessionStore,
    SQLiteSessionStore,
    StenoError,
    Template,
    store_from_environment,
)

_CYCLE: dict[str, Any] = {}
_CYCLE["again"] = _CYCLE
_DEEP: dict[str, Any] = {}
for _ in range(2000):
    _DEEP = {"deeper": _DEEP}

NOT_JSON: dict[str, Any] = {
    "datetime": datetime(2026, 11, 20, tzinfo=UTC),
    "set": {1},
    "bytes": b"x",
    "nan": float("nan"),
    "infinity": float("inf"),
    "half a character": "\ud800",
    "cycle": _CYCLE,
    "too deep": _DEEP,
    "tuple": (1,),
    "key of a number": {1: 2},
    "key of half a character": {"\ud800": 1},
    "number without end": 10**3000,
}
NOT_TEXT: dict[str, Any] = {"number": 5, "bytes": b"x", "list": [], "dict": {}, "half a character": "\ud800"}
NOT_A_COUNT: dict[str, Any] = {
    "negative": -1, "text": "5", "fraction": 1.5, "nan": float("nan"), "infinity": float("inf"), "list": [],
}  # fmt: skip
NOT_AN_OBJECT: dict[str, Any] = {"number": 5, "text": "x", "list": ["a"], "bytes": b"x", "set": {1}}
NOT_A_LIST: dict[str, Any] = {"number": 5, "text": "abc"}


@pytest.fixture(scope="module")
def manager() -> Iterator[SessionManager]:
    with SessionManager(store=MemorySessionStore()) as made:
        yield made


@pytest.fixture
def session(manager: SessionManager) -> Session:
    manager.purge("one")
    made = manager.create_session("ada", session_id="one")
    made.add_message("user", "Hello!")
    made.add_message("assistant", "Hi there!")
    manager.save(made)
    return made


Act = Callable[[SessionManager, Session, Any], object]


def _each(acts: dict[str, Act], values: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(act, value, id=f"{name}: {kind}") for name, act in acts.items() for kind, value in values.items()
    ]


_KEEPING: dict[str, Act] = {
    "metadata at the beginning": lambda m, _, v: m.create_session(metadata={"key": v}),
    "state at the beginning": lambda m, _, v: m.create_session(state={"key": v}),
    "set_state": lambda _, s, v: s.set_state("key", v),
    "update_metadata": lambda _, s, v: s.update_metadata({"key": v}),
    "metadata as a whole": lambda _, s, v: setattr(s, "metadata", {"key": v}),
    "state as a whole": lambda _, s, v: setattr(s, "state", {"key": v}),
    "context as a whole": lambda _, s, v: setattr(s, "context", {"key": v}),
    "an extra key of a message": lambda _, s, v: s.add_message({"role": "user", "content": "x", "more": v}),
    "content": lambda _, s, v: s.add_message("user", [{"type": "text", "more": v}]),
    "metadata of a message": lambda _, s, v: s.add_message("user", "x", metadata={"key": v}),
    "metadata of an edit": lambda _, s, v: s.edit_message(s.messages[0].id, metadata={"key": v}),
    "metadata of a user": lambda m, _, v: m.users.create("bob", metadata={"key": v}),
    "metadata of a fork": lambda m, s, v: m.forks.fork(s.id, metadata={"key": v}),
}
_TEXTS: dict[str, Act] = {
    "user_id": lambda m, _, v: m.create_session(user_id=v),
    "title": lambda m, _, v: m.create_session(title=v),
    "session_id": lambda m, _, v: m.create_session(session_id=v),
    "provider": lambda m, _, v: m.create_session(provider=v),
    "model": lambda m, _, v: m.create_session(model=v),
    "agent_id": lambda m, _, v: m.create_session(agent_id=v),
    "branch_from": lambda m, _, v: m.create_session(branch_from=v),
    "template": lambda m, _, v: m.create_session(template=v),
    "user_id set": lambda m, s, v: (setattr(s, "user_id", v), m.save(s)),
    "title set": lambda m, s, v: (setattr(s, "title", v), m.save(s)),
    "provider set": lambda m, s, v: (setattr(s, "provider", v), m.save(s)),
    "model set": lambda m, s, v: (setattr(s, "model", v), m.save(s)),
    "status set": lambda m, s, v: (setattr(s, "status", v), m.save(s)),
    "role": lambda _, s, v: s.add_message(v, "x"),
    "role of any kind": lambda _, s, v: s.add_message(role=v, content="x"),
    "parent": lambda _, s, v: s.add_message("user", "x", parent=v),
    "tag": lambda _, s, v: s.add_tag(v),
    "key of the state": lambda _, s, v: s.set_state(v, 1),
    "get_state": lambda _, s, v: s.get_state(v),
    "message": lambda _, s, v: s.message(v),
    "edit_message": lambda _, s, v: s.edit_message(v, content="x"),
    "checkpoint": lambda _, s, v: s.checkpoint(v),
    "get_session": lambda m, _, v: m.get_session(v),
    "load_session": lambda m, _, v: m.load_session(v),
    "resolve": lambda m, _, v: m.resolve(v),
    "delete": lambda m, _, v: m.delete(v),
    "purge": lambda m, _, v: m.purge(v),
    "search": lambda m, _, v: m.search(v),
    "export": lambda m, s, v: m.export_session(s.id, v),
    "sort": lambda m, _, v: m.list_sessions(sort=v),
    "status of a list": lambda m, _, v: m.list_sessions(status=v),
    "sessions of a user": lambda m, _, v: m.get_sessions_for_user(v),
    "count of a user": lambda m, _, v: m.count(v),
    "user": lambda m, _, v: m.users.create(v),
    "get a user": lambda m, _, v: m.users.get(v),
    "delete a user": lambda m, _, v: m.users.delete(v),
    "e-mail": lambda m, _, v: m.users.create("bob", email=v),
    "archive": lambda m, _, v: m.archive(v),
    "save": lambda m, _, v: m.save(v),
    "title of a fork": lambda m, s, v: m.forks.fork(s.id, title=v),
    "title of a search": lambda m, _, v: m.search("x", title=v),
    "role of a search": lambda m, _, v: m.search("x", role=v),
    "key of the changes": lambda m, _, v: m.store.changes(session=v),
}
_COUNTS: dict[str, Act] = {
    "get_messages(limit)": lambda _, s, v: s.get_messages(limit=v),
    "get_messages(offset)": lambda _, s, v: s.get_messages(offset=v),
    "get_messages(last_n)": lambda _, s, v: s.get_messages(last_n=v),
    "get_messages of an unknown session": lambda m, _, v: m.get_messages("nobody's", limit=v),
    "rewind_n_messages": lambda _, s, v: s.rewind_n_messages(v),
    "truncate_messages": lambda _, s, v: s.truncate_messages(v),
    "list_sessions(limit)": lambda m, _, v: m.list_sessions(limit=v),
    "list_sessions(offset)": lambda m, _, v: m.list_sessions(offset=v),
    "users.list(limit)": lambda m, _, v: m.users.list(limit=v),
    "users.list(offset)": lambda m, _, v: m.users.list(offset=v),
    "search(limit)": lambda m, _, v: m.search("x", limit=v),
    "search(offset)": lambda m, _, v: m.search("x", offset=v),
    "search(since_ms)": lambda m, _, v: m.search("x", since_ms=v),
    "max_tokens": lambda m, s, v: m.get_session_context(s.id, v),
    "changes": lambda m, _, v: m.store.changes(v),
    "changes(limit)": lambda m, _, v: m.store.changes(0, limit=v),
    "follow": lambda m, s, v: m.store.follow(s.id, since=v),
}
_DAYS: dict[str, Act] = {
    "archive_inactive": lambda m, _, v: m.archive_inactive(v),
    "delete_where": lambda m, _, v: m.delete_where(older_than_days=v),
    "purge_deleted": lambda m, _, v: m.purge_deleted(older_than_days=v),
}
_OBJECTS: dict[str, Act] = {
    "configuration": lambda _, __, v: SessionManager(v),
    "metadata": lambda m, _, v: m.create_session(metadata=v),
    "state": lambda m, _, v: m.create_session(state=v),
    "values": lambda m, _, v: m.create_session(template="tutoring", values=v),
    "update_metadata": lambda _, s, v: s.update_metadata(v),
    "metadata set": lambda _, s, v: setattr(s, "metadata", v),
    "state set": lambda _, s, v: setattr(s, "state", v),
    "context set": lambda _, s, v: setattr(s, "context", v),
    "config": lambda m, s, v: m.update_session(s.id, config=v),
    "import_session": lambda m, _, v: m.import_session(v),
    "from_dict": lambda _, __, v: Session.from_dict(v),
    "metadata of an import": lambda m, _, v: m.import_session({"session": {"metadata": v}, "messages": []}),
    "state of an import": lambda m, _, v: m.import_session({"session": {"state": v}, "messages": []}),
    "metadata of a dict": lambda _, __, v: Session.from_dict({"session_id": "a", "metadata": v}),
    "context of a dict": lambda _, __, v: Session.from_dict({"session_id": "a", "context": v}),
    "forked_from of a dict": lambda _, __, v: Session.from_dict({"session_id": "a", "forked_from": v}),
    "metadata of a message": lambda _, s, v: s.add_message("user", "x", metadata=v),
    "metadata of a user": lambda m, _, v: m.users.create("bob", metadata=v),
    "metadata of a fork": lambda m, s, v: m.forks.fork(s.id, metadata=v),
}
_LISTS: dict[str, Act] = {
    "tags": lambda m, _, v: m.create_session(tags=v),
    "tags set": lambda m, s, v: (setattr(s, "tags", v), m.save(s)),
    "tags of an update": lambda m, s, v: m.update_session(s.id, tags=v),
    "tags of an import": lambda m, _, v: m.import_session({"session": {"tags": v}, "messages": []}),
    "tags of a dict": lambda _, __, v: Session.from_dict({"session_id": "a", "tags": v}),
    "tags of a search": lambda m, _, v: m.search("x", tags=v),
    "add_messages": lambda _, s, v: s.add_messages(v),
    "add_messages by id": lambda m, _, v: m.add_messages("new", v),
    "remove_messages": lambda _, s, v: s.remove_messages(v),
}


@pytest.mark.parametrize(
    ("act", "value"),
    [
        *_each(_KEEPING, NOT_JSON),
        *_each(_TEXTS, NOT_TEXT),
        *_each(_COUNTS, NOT_A_COUNT),
        *_each(_DAYS, {"negative": -1, "text": "5", "nan": float("nan"), "infinity": float("inf")}),
        *_each(_OBJECTS, NOT_AN_OBJECT),
        *_each(_LISTS, NOT_A_LIST),
    ],
)
def test_a_wrong_argument_is_one_line_and_changes_nothing(
    act: Act, value: Any, manager: SessionManager, session: Session
):
    before = manager.store.changes().cursor
    with pytest.raises(StenoError) as refused:
        act(manager, session, value)
    assert "\n" not in str(refused.value)
    assert manager.store.changes().cursor == before


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.messages.append("x"),
        lambda s: setattr(s, "id", "other"),
        lambda s: setattr(s, "messages", []),
        lambda s: setattr(s.messages[0], "content", "x"),
    ],
    ids=["append", "id", "messages", "content"],
)
def test_what_is_changed_by_methods_is_not_changed_otherwise(act: Callable[[Session], object], session: Session):
    with pytest.raises(AttributeError):
        act(session)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_a_session_is_not_copied_or_pickled(copied: Callable[[Session], object], session: Session):
    with pytest.raises(InvalidInput) as refused:
        copied(session)
    assert "to_json" in refused.value.line


def test_nobody_is_not_everybody(manager: SessionManager, session: Session):
    """A user_id that a program failed to find out must not mean every user."""
    nobody: Any = None
    with pytest.raises(InvalidInput):
        manager.get_sessions_for_user(nobody)
    with pytest.raises(InvalidInput):
        manager.users.delete(nobody)
    assert manager.exists(session.id)


def test_a_message_too_large_to_keep_is_refused_when_it_is_added(manager: SessionManager, session: Session):
    with pytest.raises(InvalidInput, match="16 MiB"):
        session.add_message("user", "x" * 17_000_000)
    with pytest.raises(InvalidInput, match="16 MiB"):
        session.edit_message(session.messages[0].id, metadata={"attachment": "x" * 17_000_000})
    session.add_message("user", "What fits.")
    manager.save(session)
    assert session.message_count == 3


def test_what_is_no_message_is_not_printed_in_full(session: Session):
    wrong: Any = session.messages[0]
    with pytest.raises(InvalidInput, match="value of type Message"):
        session.add_message(wrong)
    with pytest.raises(InvalidInput) as refused:
        session.add_message("x" * 100_000, "x")
    assert len(str(refused.value)) < 200


def test_messages_of_which_one_is_wrong_leave_the_session_as_it_was(manager: SessionManager):
    session = manager.create_session()
    session.status = "archived"
    with pytest.raises(InvalidInput):
        session.add_messages([{"role": "user", "content": "A title."}, {"content": "nobody's"}])
    assert (session.title, session.status, session.message_count) == ("", "archived", 0)


def test_a_checkpoint_without_a_name_is_found_by_its_id_alone(session: Session):
    nothing: Any = None
    session.checkpoint()
    session.add_message("user", "Later.")
    assert not session.rewind_to_checkpoint(nothing)
    assert session.message_count == 3


def test_tags_may_be_set_as_any_list_and_added_to_then(manager: SessionManager, session: Session):
    session.tags = ("go", "api", "go")
    session.add_tag("web")
    session.remove_tag("go")
    manager.save(session)
    assert manager.get_session("one").tags == session.tags == ["api", "web"]  # pyright: ignore[reportOptionalMemberAccess]


def test_messages_equal_a_list_of_the_same(manager: SessionManager, session: Session):
    assert manager.create_session().messages == []
    assert session.messages == [session.messages[0], session.messages[1]]
    assert session.messages != [session.messages[0]]


@pytest.mark.parametrize(
    "options",
    [
        {"path": None}, {"path": 5}, {"path": b"x"}, {"path": "a\0b"}, {"path": ""}, {"durability": "some"},
        {"durability": 5}, {"pool_size": 0}, {"pool_size": -1}, {"pool_size": "5"}, {"table_name": ""},
        {"table_name": 5}, {"table_name": "a␟b"}, {"actor": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_store_is_not_made_with_what_it_cannot_be_made_of(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StenoError) as refused:
        SQLiteSessionStore(**options)
    assert "session id" not in str(refused.value)


@pytest.mark.parametrize("store", ["sessions.db", 5, [], SQLiteSessionStore, SessionStore])
def test_what_is_no_store_is_refused_at_once(store: Any):
    with pytest.raises(InvalidInput, match="store"):
        SessionManager(store=store)


def test_the_address_of_a_server_is_enough_to_name_it():
    names = {"STENO_POSTGRES_URL": "postgresql://localhost/steno", "STENO_SQLITE_PATH": "s.db"}
    assert isinstance(store_from_environment(names), PostgresSessionStore)


def test_a_store_in_the_place_of_the_configuration_is_told_where_to_go():
    store: Any = MemorySessionStore()
    with pytest.raises(InvalidInput) as refused:
        SessionManager(store)
    assert "store=" in refused.value.line


@pytest.mark.parametrize("prompt", ["Hello {", "Hello {}", "Hello {0}", "Hello {a.b}"])
def test_a_template_that_cannot_be_filled_in_is_refused(prompt: str, manager: SessionManager):
    manager.templates["mine"] = Template(system_prompt=prompt)
    with pytest.raises(InvalidInput, match="template mine"):
        manager.create_session(template="mine")


def test_a_store_of_somebody_else_is_asked_for_no_id_that_cannot_be():
    class Mine(SessionStore):
        def get(self, session_id: str) -> None:
            raise AssertionError(session_id)

    wrong: Any = []
    with SessionManager(store=Mine()) as manager:
        for act in (manager.get_session, manager.delete, manager.exists, manager.get_messages):
            with pytest.raises(InvalidInput):
                act(wrong)


def test_what_a_store_cannot_do_is_said_of_the_class_that_was_given():
    class Mine(SessionStore):
        def get(self, session_id: str) -> None: ...

    with SessionManager(store=Mine()) as manager:
        for act in (lambda: manager.search("x"), lambda: manager.forks.tree("x"), lambda: manager.backup("x")):
            with pytest.raises(StenoError, match=r"^Mine has no"):
                act()
