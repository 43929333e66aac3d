"""What a save sends is what was done: a random course of things against a plain model of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from steno import MemorySessionStore, Session, SessionDeleted, SessionError, SessionManager
from steno.storage.library.dicts import from_dict, to_dict

KEYS = st.sampled_from(["a", "b", "a/b", "~c", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "ä"]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(KEYS, below, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from(
    ["id", "timestamp", "sender", "parent", "model", "usage", "metadata", "tool_calls", "cost", "token_usage", "odd"]
)
DICTS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "narrator"]), "content": VALUES | st.just([{"type": "text", "text": "t"}])},
)


@given(DICTS, st.dictionaries(FIELDS, VALUES | st.dictionaries(KEYS, VALUES, max_size=2), max_size=6))
def test_every_dict_comes_back_from_its_message(required: dict[str, Any], more: dict[str, Any]):
    message = {**required, **more}
    kept = from_dict(message, id="m", timestamp="2026-01-02T03:04:05.000Z", is_message=lambda _: False)
    assert to_dict(kept) == message


class TwoWriters(RuleBasedStateMachine):
    """One session object that is used and saved, while another one adds to the same session in the store."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = SessionManager(store=MemorySessionStore())
        self.session = self.manager.create_session(session_id="s")
        self.texts: list[str] = []  # what this object shows
        self.unseen: list[str] = []  # what others added since it was loaded
        self.metadata: dict[str, Any] = {}
        self.count = 0

    def teardown(self) -> None:
        self.manager.close()

    def _text(self) -> str:
        self.count += 1
        return str(self.count)

    @rule()
    def add(self) -> None:
        text = self._text()
        self.session.add_message("user", text)
        self.texts.append(text)

    @rule()
    def another_adds(self) -> None:
        text = self._text()
        self.manager.add_message("s", "user", text)
        self.unseen.append(text)

    @rule(keep=st.integers(0, 4))
    def truncate(self, keep: int) -> None:
        self.session.truncate_messages(keep)
        self.texts = self.texts[max(len(self.texts) - keep, 0) :]

    @rule()
    def clear(self) -> None:
        self.session.clear_messages()
        self.texts = []

    @rule(count=st.integers(0, 3))
    def rewind(self, count: int) -> None:
        self.session.rewind_n_messages(count)
        self.texts = self.texts[: max(len(self.texts) - count, 0)]

    @rule(at=st.integers(0, 5))
    def edit(self, at: int) -> None:
        if at < len(self.texts):
            text = self._text()
            self.session.edit_message(self.session.messages[at].id, content=text)
            self.texts[at] = text

    @rule(key=KEYS, value=VALUES)
    def set_metadata(self, key: str, value: Any) -> None:
        self.session.metadata[key] = value
        self.metadata[key] = value

    @rule(key=KEYS)
    def remove_metadata(self, key: str) -> None:
        self.session.remove_metadata(key)
        self.metadata.pop(key, None)

    @rule()
    def save(self) -> None:
        self.session.all_messages()
        self.manager.save(self.session)
        stored = self.manager.load_session("s")
        assert sorted(each.content for each in stored.messages) == sorted(self.texts + self.unseen)
        assert [each.content for each in stored.messages if each.content in self.texts] == self.texts
        assert stored.metadata == self.metadata
        assert stored.message_count == len(self.texts) + len(self.unseen)

    @rule()
    def save_and_load(self) -> None:
        self.save()
        self.session = self.manager.load_session("s")
        self.texts = [str(each.content) for each in self.session.messages]
        self.unseen = []

    @invariant()
    def the_object_shows_what_was_done_to_it(self) -> None:
        assert [each.content for each in self.session.messages] == self.texts
        assert self.session.message_count == len(self.texts)


TwoWriters.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTwoWriters = TwoWriters.TestCase


def test_a_repeated_save_sends_nothing():
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session()
        session.add_message("user", "x")
        manager.save(session)
        assert session.delta().empty


def test_an_id_that_a_deleted_message_had_is_not_taken_for_it():
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s")
        session.add_message({"role": "user", "content": "old", "id": "m"})
        manager.save(session)
        session.clear_messages()
        manager.save(session)
        again = manager.load_session("s")
        again.add_message({"role": "user", "content": "new", "id": "m"})
        manager.save(again)
        [found] = manager.get_messages("s")
        assert found == {"role": "user", "content": "new", "id": "m"}


def test_what_is_added_while_it_is_saved_stays_to_be_saved():
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s")
        session.add_message("user", "one")
        sent = session.delta()
        session.add_message("user", "two")
        session.metadata["k"] = "v"
        session.saved(sent, manager.store.apply(sent))
        assert [each.content for each in session.delta().added] == ["two"]
        manager.save(session)
        assert [each["content"] for each in manager.get_messages("s")] == ["one", "two"]
        assert manager.load_session("s").metadata == {"k": "v"}


@pytest.mark.parametrize("kind", ["added", "metadata", "state", "tags", "title"])
def test_what_another_one_saved_shows_after_the_next_save_and_is_not_undone(kind: str):
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s", metadata={"a": 1}, tags=["t"])
        other = manager.load_session("s")
        other.metadata["b"] = 2
        other.state["b"] = 2
        other.tags.append("u")
        other.name = "Renamed"
        other.add_message("user", "theirs")
        manager.save(other)
        session.metadata["c"] = 3
        session.add_message("user", "mine")
        manager.save(session)
        found = manager.load_session("s")
        shown = {
            "added": [each.content for each in found.messages] == ["theirs", "mine"],
            "metadata": found.metadata == session.metadata == {"a": 1, "b": 2, "c": 3},
            "state": found.state == session.state == {"b": 2},
            "tags": found.tags == session.tags == ["t", "u"],
            "title": found.name == session.name == "Renamed",
        }
        assert shown[kind]


def test_a_session_object_can_be_made_without_any_store():
    assert Session("s").delta().new


def test_a_stale_session_does_not_reach_into_the_next_life_of_its_id():
    with SessionManager(store=MemorySessionStore()) as manager:
        stale = manager.create_session(session_id="s")
        stale.metadata["mine"] = 1
        stale.add_message("user", "mine")
        manager.purge("s")
        manager.create_session(session_id="s", user_id="other")
        with pytest.raises(SessionDeleted):
            manager.save(stale)
        found = manager.load_session("s")
        assert (found.metadata, found.message_count) == ({}, 0)


def test_an_id_that_a_deleted_session_has_is_not_taken_by_a_new_one():
    with SessionManager(store=MemorySessionStore()) as manager:
        manager.create_session(session_id="s", metadata={"old": 1})
        manager.delete("s")
        with pytest.raises(SessionError):
            manager.create_session(session_id="s")
        assert manager.get_session("s") is None


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0, False)])
def test_what_another_one_saved_is_not_undone_where_it_only_looks_equal(old: object, new: object):
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s", metadata={"k": old})
        other = manager.load_session("s")
        other.metadata["k"] = new
        manager.save(other)
        for text in ("one", "two"):
            session.add_message("user", text)
            manager.save(session)
        assert repr(manager.load_session("s").metadata["k"]) == repr(new)


def test_tags_keep_the_order_that_they_were_given():
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s", tags=["a", "b"])
        session.tags = ["new", "b", "a"]
        manager.save(session)
        assert manager.load_session("s").tags == ["new", "b", "a"]


def test_a_dict_that_is_used_again_says_each_time_what_it_said_then():
    session = Session("s")
    message: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "one"}]}
    session.add_message(message)
    message["content"][0]["text"] = "two"
    session.add_message(message)
    assert [each["content"][0]["text"] for each in session.get_messages()] == ["one", "two"]


def test_a_reply_to_what_was_removed_before_it_was_saved_is_saved():
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s")
        first = session.add_message("user", "one")
        session.add_message("assistant", "two", parent=first.id)
        session.truncate_messages(1)
        manager.save(session)
        assert [each["content"] for each in manager.get_messages("s")] == ["two"]


def test_an_edit_of_what_was_purged_does_not_keep_the_rest_from_being_saved():
    with SessionManager(store=MemorySessionStore()) as manager:
        session = manager.create_session(session_id="s")
        message = session.add_message("user", "one")
        manager.save(session)
        session.edit_message(message.id, content="edited")
        session.add_message("user", "two")
        manager.store.purge_message("s", message.id)
        manager.save(session)
        assert [each["content"] for each in manager.get_messages("s")] == ["two"]
