"""What Zep promises of its sessions, shown on the library; its HTTP face comes on top of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno import InvalidInput, MessageNotFound, SessionManager, SessionNotFound, SQLiteSessionStore


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        self.ms += 1
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(tmp_path: Path, clock: Clock) -> Iterator[SessionManager]:
    with SessionManager(store=SQLiteSessionStore(tmp_path / "s.db", clock=clock), clock=clock) as made:
        yield made


def _contents(manager: SessionManager, session_id: str) -> list[str]:
    return [each["content"] for each in manager.get_messages(session_id)]


@pytest.mark.check("ZEP-4")
def test_a_user_has_exactly_the_sessions_that_were_given_to_them(manager: SessionManager):
    made = [manager.create_session("ann").id for _ in range(2)]
    manager.create_session("bob")
    assert {each.id for each in manager.get_sessions_for_user("ann")} == set(made)


@pytest.mark.check("ZEP-4")
def test_a_session_has_at_most_one_user(manager: SessionManager):
    session = manager.create_session("ann")
    manager.update_session(session.id, user_id="bob")
    assert manager.get_sessions_for_user("ann") == []
    assert [each.id for each in manager.get_sessions_for_user("bob")] == [session.id]


@pytest.mark.check("ZEP-4")
def test_deleting_a_user_hides_their_sessions_and_they_can_come_back(manager: SessionManager):
    manager.users.create("ann", email="ann@example.org", metadata={"k": 1})
    mine, other = manager.create_session("ann"), manager.create_session("bob")
    assert manager.users.delete("ann")
    assert manager.users.get("ann") is None
    assert manager.get_session(mine.id) is None
    assert manager.get_session(other.id) is not None
    assert manager.restore(mine.id)


def test_users_are_made_changed_and_listed(manager: SessionManager):
    manager.users.create("ann", email="ann@example.org", metadata={"a": 1})
    manager.users.create("bob")
    changed = manager.users.update("ann", first_name="Ann", metadata={"b": 2})
    assert (changed.email, changed.first_name, changed.metadata) == ("ann@example.org", "Ann", {"a": 1, "b": 2})
    assert [user.id for user in manager.users.list(limit=1)] == ["ann"]
    with pytest.raises(InvalidInput, match="user already exists"):
        manager.users.create("ann")


def test_a_user_must_exist_only_where_that_was_asked_for(tmp_path: Path):
    config = {"session": {"storage_path": str(tmp_path), "strict_users": True, "autosave_interval": 0}}
    with SessionManager(config) as manager:
        with pytest.raises(InvalidInput, match="user does not exist with user_id: ann"):
            manager.create_session("x", user_id="ann")
        manager.users.create("ann")
        assert manager.create_session("x", user_id="ann").user_id == "ann"


@pytest.mark.check("ZEP-6")
def test_metadata_is_merged_to_any_depth_and_null_is_kept(manager: SessionManager):
    session = manager.create_session(metadata={"foo": "bar", "deep": {"a": {"x": 1}}, "list": [1, 2]})
    found = manager.update_metadata(session.id, {"qax": "baz", "deep": {"a": {"y": 2}}, "list": [3], "none": None})
    expected = {"foo": "bar", "qax": "baz", "deep": {"a": {"x": 1, "y": 2}}, "list": [3], "none": None}
    assert (found.metadata, manager.load_session(session.id).metadata) == (expected, expected)


@pytest.mark.check("ZEP-7")
def test_an_update_of_nothing_says_only_that_the_session_was_written_to(manager: SessionManager, clock: Clock):
    session = manager.create_session(metadata={"foo": "bar"})
    clock.ms += 5000
    manager.update_metadata(session.id)
    found = manager.load_session(session.id)
    assert (found.metadata, found.created_at) == ({"foo": "bar"}, session.created_at)
    assert found.updated_at > session.updated_at


@pytest.mark.check("ZEP-7")
def test_an_empty_update_does_nothing_and_an_unknown_session_is_not_found(manager: SessionManager):
    session = manager.create_session(metadata={"foo": "bar"})
    manager.update_metadata(session.id, {})
    found = manager.load_session(session.id)
    assert (found.metadata, found.updated_at) == ({"foo": "bar"}, session.updated_at)
    with pytest.raises(SessionNotFound):
        manager.update_metadata("nowhere", {"a": 1})


@pytest.mark.check("ZEP-9")
def test_a_deleted_session_is_hidden_everywhere_and_still_in_the_database(manager: SessionManager):
    manager.add_message("s", "user", "findable")
    assert manager.delete("s")
    assert (manager.get_session("s"), manager.list_sessions(), manager.search("findable")) == (None, [], [])
    assert manager.get_messages("s") == []
    assert [manager.delete("s"), manager.delete("unknown")] == [False, False]
    with manager.store.database() as store:
        assert store.one("SELECT count(*) FROM messages") == (1,)


@pytest.mark.check("ZEP-11")
def test_writing_to_a_deleted_session_brings_back_the_session_and_not_its_messages(manager: SessionManager):
    session = manager.create_session("ann", session_id="s", metadata={"foo": "bar"})
    session.add_message("user", "old")
    manager.save(session)
    manager.delete("s")
    manager.add_messages("s", [{"role": "user", "content": "new"}])
    found = manager.load_session("s")
    assert (found.metadata, found.user_id, found.created_at) == ({"foo": "bar"}, "ann", session.created_at)
    assert _contents(manager, "s") == ["new"]


@pytest.mark.check("ZEP-12")
def test_after_a_purge_the_same_id_begins_afresh(manager: SessionManager):
    manager.create_session("ann", session_id="s", metadata={"foo": "bar"})
    manager.add_message("s", "user", "old")
    assert manager.purge("s")
    manager.add_message("s", "user", "new")
    found = manager.load_session("s")
    assert (found.metadata, found.user_id, _contents(manager, "s")) == ({}, None, ["new"])


@pytest.mark.check("ZEP-16")
def test_the_newest_messages_come_oldest_first(manager: SessionManager):
    manager.add_messages("s", [{"role": "user", "content": str(number)} for number in range(9)])
    assert [each["content"] for each in manager.get_messages("s", last_n=5)] == ["4", "5", "6", "7", "8"]
    with pytest.raises(InvalidInput):
        manager.get_messages("s", last_n=-1)


@pytest.mark.check("ZEP-16")
def test_of_a_deleted_or_unknown_session_there_are_no_messages(manager: SessionManager):
    manager.add_message("s", "user", "x")
    manager.delete("s")
    assert (manager.get_messages("s", last_n=5), manager.get_messages("unknown")) == ([], [])


@pytest.mark.check("ZEP-17")
def test_a_page_of_messages_and_a_message_by_its_id(manager: SessionManager):
    added = manager.add_messages("s", [{"role": "user", "content": str(number)} for number in range(5)])
    assert [each["content"] for each in manager.get_messages("s", limit=2, offset=2)] == ["2", "3"]
    assert manager.get_message("s", added[1].id).content == "1"


@pytest.mark.check("ZEP-17")
def test_a_messages_metadata_is_merged_and_another_sessions_message_is_not_found(manager: SessionManager):
    message = manager.add_message("s", "user", "x", metadata={"a": 1, "deep": {"x": 1}})
    manager.add_message("other", "user", "y")
    manager.update_message("s", message.id, metadata={"b": 2, "deep": {"y": 2}})
    assert manager.get_message("s", message.id).metadata == {"a": 1, "b": 2, "deep": {"x": 1, "y": 2}}
    with pytest.raises(MessageNotFound):
        manager.update_message("other", message.id, metadata={"b": 2})


@pytest.mark.check("ZEP-21")
def test_twenty_updates_of_different_keys_at_once_all_survive(manager: SessionManager):
    manager.create_session(session_id="s")
    together = threading.Barrier(20)

    def update(number: int) -> None:
        together.wait()
        manager.update_metadata("s", {f"k{number}": number, "deep": {f"k{number}": number}})

    threads = [threading.Thread(target=update, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = manager.load_session("s").metadata
    assert found.pop("deep") == found == {f"k{number}": number for number in range(20)}


@pytest.mark.check("MDB-29")
def test_only_the_owner_deletes(manager: SessionManager):
    session = manager.create_session("ann")
    assert [manager.delete(session.id, owner=who) for who in ("bob", "ann", "ann")] == [False, True, False]


@pytest.mark.check("MDB-30")
def test_who_changed_what_stands_in_the_audit(manager: SessionManager):
    session = manager.create_session(metadata={"k": "old"})
    with manager.acting("ann"):
        manager.update_metadata(session.id, {"k": "new"})
    [entry] = [
        each for each in manager.store.audit(session.id) if each.path == "metadata/k" and each.before is not None
    ]
    assert (entry.before, entry.after, entry.actor) == ("old", "new", "ann")


@pytest.mark.check("MDB-31")
def test_changes_are_fetched_behind_a_cursor(manager: SessionManager):
    manager.add_message("s", "user", "one")
    seen = manager.store.changes()
    manager.add_message("s", "user", "two")
    later = manager.store.changes(seen.cursor)
    assert [each.kind for each in later.items if each.message is not None] == ["message.added"]
    assert manager.store.changes(later.cursor).items == []


@pytest.mark.check("ZEP-11")
def test_changing_a_deleted_session_brings_it_back_without_its_messages(manager: SessionManager):
    manager.create_session("ann", session_id="s", metadata={"foo": "bar"})
    manager.add_message("s", "user", "old")
    manager.delete("s")
    found = manager.update_metadata("s", {"qax": "baz"})
    assert (found.metadata, found.user_id, _contents(manager, "s")) == ({"foo": "bar", "qax": "baz"}, "ann", [])
    with pytest.raises(SessionNotFound):
        manager.update_session("nowhere", name="x")


def test_strict_users_are_asked_for_by_branches_and_imports_too(tmp_path: Path):
    config = {"session": {"storage_path": str(tmp_path), "strict_users": True, "autosave_interval": 0}}
    with SessionManager(config) as manager:
        manager.create_session("x")
        with pytest.raises(InvalidInput):
            manager.create_session("y", branch_from="x", user_id="ann")
        exported = {"session": {"name": "z", "user_id": "ann"}, "messages": []}
        with pytest.raises(InvalidInput):
            manager.import_session(exported)
        assert manager.count() == 1
