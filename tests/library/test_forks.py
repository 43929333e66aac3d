"""Forks through the manager: copies on every store; tree, merging and splitting on SQLite's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno import InvalidInput, MessageNotFound, Session, SessionManager, SessionNotFound, SQLiteSessionStore
from steno.storage.errors import Unsupported


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    with SessionManager(store=SQLiteSessionStore(tmp_path / "s.db")) as made:
        yield made


def _said(manager: SessionManager, session_id: str) -> list[str]:
    return [each["content"] for each in manager.get_messages(session_id)]


def _talk(manager: SessionManager, session_id: str, *texts: str) -> list[str]:
    return [manager.add_message(session_id, "user", text).id for text in texts]


@pytest.mark.check("MDB-13", "MDB-14")
def test_a_fork_says_where_it_comes_from_and_why(manager: SessionManager):
    ids = _talk(manager, "a", "one", "two", "three")
    fork = manager.forks.fork("a", at=ids[1], title="Mobile", reason="Focus on mobile design", metadata={"k": 1})
    assert _said(manager, fork.id) == ["one", "two"]
    assert (fork.name, fork.parent, fork.metadata["k"]) == ("Mobile", "a", 1)
    assert (fork.forked_from or {})["message"] == ids[1]
    assert (fork.forked_from or {})["reason"] == "Focus on mobile design"
    assert manager.forks.fork("a").name == "Fork of one"


@pytest.mark.check("MDB-15")
def test_forking_nothing_or_at_nothing_is_refused(manager: SessionManager):
    _talk(manager, "a", "one")
    with pytest.raises(SessionNotFound):
        manager.forks.fork("nowhere")
    with pytest.raises(MessageNotFound):
        manager.forks.fork("a", at="nowhere")
    assert manager.count() == 1


@pytest.mark.check("MDB-23")
def test_the_tree_of_forks_goes_by_level(manager: SessionManager):
    _talk(manager, "a", "one")
    first, second = manager.forks.fork("a"), manager.forks.fork("a")
    third = manager.forks.fork(first.id)
    tree = manager.forks.tree("a")
    assert [(level, session.id) for level, session in tree] == [(1, "a"), (2, first.id), (2, second.id), (3, third.id)]
    assert [each.id for each in manager.forks.ancestors(third.id)] == [first.id, "a"]


def test_a_merge_brings_the_new_messages_back_once(manager: SessionManager):
    _talk(manager, "a", "one")
    fork = manager.forks.fork("a")
    _talk(manager, fork.id, "two", "three")
    _talk(manager, "a", "meanwhile")
    assert [manager.forks.merge(fork.id), manager.forks.merge(fork.id)] == [2, 0]
    assert _said(manager, "a") == ["one", "meanwhile", "two", "three"]
    _talk(manager, fork.id, "four")
    assert manager.forks.merge(fork.id) == 1


def test_what_is_no_fork_is_not_merged_and_what_did_not_diverge_not_split(manager: SessionManager):
    _talk(manager, "a", "one")
    with pytest.raises(InvalidInput):
        manager.forks.merge("a")
    with pytest.raises(InvalidInput):
        manager.forks.split("a")


@pytest.mark.check("MDB-20")
def test_forks_are_whole_when_the_original_is_deleted_or_purged(manager: SessionManager):
    _talk(manager, "a", "one")
    fork = manager.forks.fork("a")
    manager.delete("a")
    assert _said(manager, fork.id) == ["one"]
    manager.purge("a")
    assert _said(manager, fork.id) == ["one"]
    assert [each.fork_info for each in manager.forks.formatted(fork.id)] == ["(from: a)"]


@pytest.mark.check("MDB-16", "MDB-21", "MDB-22")
def test_a_fork_is_read_with_whence_each_message_came(manager: SessionManager):
    manager.add_message("a", "user", "one")
    manager.update_session("a", name="Original")
    fork = manager.forks.fork("a")
    manager.add_message(fork.id, "assistant", "two")
    entries = manager.forks.messages(fork.id)
    assert [(each.fork_depth, each.session_id, each.position) for each in entries] == [(1, "a", 1), (0, fork.id, 2)]
    assert manager.forks.text(fork.id) == "user: one (from: Original)\nassistant: two\n"


class WholeSessions:
    """Somebody's own store."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def save(self, session: Session) -> None:
        self.kept[session.id] = session.to_json()

    def get(self, session_id: str) -> Session | None:
        return Session.from_json(self.kept[session_id]) if session_id in self.kept else None

    def delete(self, session_id: str) -> bool:
        return self.kept.pop(session_id, None) is not None


def test_a_store_of_ones_own_forks_as_well():
    manager = SessionManager(store=WholeSessions())
    ids = _talk(manager, "a", "one", "two")
    fork = manager.forks.fork("a", at=ids[0])
    assert (_said(manager, fork.id), fork.parent) == (["one"], "a")
    assert [each.origin for each in manager.load_session(fork.id).messages] == [{"session": "a", "message": ids[0]}]


def test_what_such_a_store_cannot_do_is_told(tmp_path: Path):
    manager = SessionManager(store=WholeSessions())
    _talk(manager, "a", "one")
    for asked in (manager.list_sessions, lambda: manager.forks.tree("a"), lambda: manager.search("one")):
        with pytest.raises(Unsupported, match=r"WholeSessions|Adapter"):
            asked()
    with pytest.raises(Unsupported):
        manager.backup(tmp_path / "x.db")


def test_the_feed_of_a_space_tells_of_its_own_sessions_by_their_ids(tmp_path: Path):
    first, second = (SessionManager(store=SQLiteSessionStore(tmp_path / "s.db", name)) for name in ("sessions", "more"))
    first.add_message("a", "user", "one")
    second.add_message("b", "user", "two")
    assert {each.session for each in first.store.changes().items} == {"a"}
    assert {each.session for each in second.store.changes().items} == {"b"}
    first.close()
    second.close()


@pytest.mark.parametrize("whole", [True, False])
def test_a_fork_has_state_and_context_with_the_last_message_on_any_store(tmp_path: Path, whole: bool):
    for store in (SQLiteSessionStore(tmp_path / "s.db"), WholeSessions()):
        manager = SessionManager(store=store)
        session = manager.create_session(session_id="a", metadata={"d": {"x": 1}}, state={"k": 1})
        session.context["c"] = 1
        first = session.add_message("user", "one").id
        session.add_message("user", "two")
        session.checkpoint("here")
        manager.save(session)
        fork = manager.forks.fork("a", at=None if whole else first, metadata={"d": {"y": 2}})
        assert fork.metadata == {"d": {"x": 1, "y": 2}}
        expected = ({"k": 1}, {"c": 1}, ["here"]) if whole else ({}, {}, [])
        assert (fork.state, fork.context, [each.name for each in fork.checkpoints]) == expected
        manager.close()


def test_nothing_in_a_space_shows_how_its_ids_stand_in_the_file(tmp_path: Path):
    manager = SessionManager(store=SQLiteSessionStore(tmp_path / "s.db", "team"))
    manager.add_message("a", "system", "one")
    fork = manager.forks.fork("a")
    assert fork.name == "Fork of a"
    assert "team" not in manager.forks.text(fork.id)
    with pytest.raises(SessionNotFound, match=r"^session not found: nope$"):
        manager.forks.fork("nope")
    manager.close()
