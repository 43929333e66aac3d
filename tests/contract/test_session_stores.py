"""What holds for every store of sessions: for ours one and all, and as far as the small contract goes for anybody's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steno.storage.errors import (
    InvalidInput,
    LocalStorageError,
    SessionDeleted,
    SessionExists,
    SessionNotFound,
    Unsupported,
)
from steno.storage.library.contract import Backend, Selection, User
from steno.storage.library.memory_store import MemorySessionStore
from steno.storage.library.session import Session
from steno.storage.model import Message
from steno.tests.contract.stores import BEGAN_MS, OURS, Place, Wire, contents, loaded, made
from steno.tests.unit.strategies import DOCUMENTS, canonical

# What is saved comes back


def test_all_that_a_session_holds_comes_back(any_place: Place):
    metadata = {"none": None, "empty": {}, "deep": {"list": [1, {"a": [None]}, 2.5], "é": {"": 0}}}
    session = Session(
        "sess: ünïcode / 7", "ann", metadata, title="Plans for Bergen", status="paused", provider="anthropic",
        model="m-1", tags=["b", "a", "ö"], state={"step": 3, "big": 10**40, "none": None}, clock=any_place.clock,
    )  # fmt: skip
    session.context["topic"] = {"of": ["talk"]}
    session.add_message("user", "Hello\0 there 👋")
    session.add_message({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}], "odd key!": {"x": None}})
    session.add_message({"role": "tool", "content": "", "tool_call_id": "c1", "timestamp": "2026-11-20T10:00:00+01:00"})
    session.add_message(role="captain", content=[{"type": "text", "text": "Blocks"}], sender="ann", model="m-2")
    session.add_message("assistant", "Hi", usage={"input_tokens": 3, "cost": 0.25}, metadata={"n": {"m": None}})
    session.checkpoint("before")
    any_place.open().save(session)
    assert loaded(any_place.open(), session.id).to_dict() == session.to_dict()


def test_the_dicts_of_messages_come_back_equal_and_in_order(any_place: Place):
    given = [{"role": "user", "content": f"{n}", "n": n, "list": [n, {"of": None}]} for n in range(20)]
    session = Session("one", clock=any_place.clock)
    session.add_messages(given)
    any_place.open().save(session)
    assert loaded(any_place.open()).get_messages() == given


def test_a_megabyte_of_content_comes_back(any_place: Place):
    text = "🚢 Schiff\0" * 100_000
    made(any_place.open(), "one", text)
    assert contents(any_place.open()) == [text]


def test_a_session_that_is_not_there_is_none(any_store: Backend):
    assert any_store.get("nobody") is None


def test_thousands_of_messages_are_saved_at_once_and_come_back_in_order(place: Place):
    texts = [f"{n}" for n in range(10_000)]
    made(place.open(), "one", *texts)
    assert contents(place.open()) == texts


@pytest.mark.parametrize("field", ["title", "user_id", "provider", "model", "metadata", "state"])
def test_half_a_character_is_refused_and_nothing_is_saved(any_store: Backend, field: str):
    session = made(any_store, "one", "a")
    if field in ("metadata", "state"):
        getattr(session, field)["a"] = "\ud800"
    else:
        setattr(session, field, "\ud800")
    session.add_message("user", "b")
    with pytest.raises(InvalidInput):
        any_store.save(session)
    assert contents(any_store) == ["a"]


def test_what_a_session_had_no_value_for_has_none_afterwards(any_place: Place):
    made(any_place.open(), "one")
    session = loaded(any_place.open())
    assert (session.user_id, session.provider, session.model, session.title, session.tags) == (None, None, None, "", [])
    assert (session.metadata, session.state, session.forked_from, session.message_count) == ({}, {}, None, 0)


def test_a_loaded_session_that_is_changed_and_not_saved_changes_nothing_in_the_store(any_place: Place):
    made(any_place.open(), "one", "kept", metadata={"deep": {"list": [1]}}, state={"a": [1]}, tags=["t"])
    session = loaded(any_place.open())
    session.metadata["deep"]["list"].append(2)
    session.state["a"].append(2)
    session.tags.append("u")
    session.add_message("user", "never saved")
    session.messages[0].metadata["x"] = 1
    again = loaded(any_place.open())
    assert (again.metadata, again.state, again.tags) == ({"deep": {"list": [1]}}, {"a": [1]}, ["t"])
    assert [(each.content, each.metadata) for each in again.messages] == [("kept", {})]


def test_what_is_changed_and_saved_is_there_and_what_is_removed_is_not(any_place: Place):
    made(any_place.open(), "one", metadata={"a": {"b": 1, "c": 2}, "d": 3}, tags=["x", "y"], user_id="ann", title="Old")
    session = loaded(any_place.open())
    session.metadata["a"].pop("b")
    session.metadata["d"] = None
    session.tags[:] = ["y", "z"]
    session.user_id, session.title, session.status = None, "New", "archived"
    any_place.open().save(session)
    again = loaded(any_place.open())
    assert (again.metadata, again.tags) == ({"a": {"c": 2}, "d": None}, ["y", "z"])
    assert (again.user_id, again.title, again.status) == (None, "New", "archived")


def test_a_title_made_of_the_first_words_gives_way_to_a_given_one_and_comes_back(place: Place):
    session = made(place.open(), "one", "How do ships float?")
    assert loaded(place.open()).title == "How do ships float?"
    session.title = "Ships"
    place.open().save(session)
    assert loaded(place.open()).title == "Ships"
    session.title = ""
    place.open().save(session)
    assert loaded(place.open()).title == "How do ships float?"


def test_the_title_made_of_the_first_words_is_that_of_the_first_message_that_is_left(place: Place):
    session = made(place.open(), "one", "first", "second")
    session.remove_messages([session.messages[0].id])
    place.open().save(session)
    assert loaded(place.open()).title == "second"


ANY_MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "机器"]), "content": st.text(max_size=20)},
    optional={
        "sender": st.text(max_size=5),
        "n": st.integers(),
        "metadata": DOCUMENTS,
        "timestamp": st.text(max_size=9),
    },
)


# The threads of psycopg's pool draw from `random` at any time, which looks like a strategy that does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(ANY_MESSAGE, max_size=4), metadata=DOCUMENTS, state=DOCUMENTS, changed=DOCUMENTS)
def test_whatever_is_saved_comes_back(
    any_place: Place, messages: list[Any], metadata: dict[str, Any], state: dict[str, Any], changed: dict[str, Any]
):
    session = Session(None, None, metadata, state=state, clock=any_place.clock)
    session.add_messages(messages)
    store = any_place.open()
    store.save(session)
    session = loaded(store, session.id)
    session.metadata.clear()
    session.metadata |= changed
    store.save(session)
    again = loaded(store, session.id)
    shown = [dict(each) for each in again.get_messages()]
    assert canonical([shown, again.metadata, again.state]) == canonical([messages, changed, state])


# Several save one session


def test_two_who_save_one_session_both_keep_their_messages_and_metadata(place: Place):
    made(place.open(), "one", "start", metadata={"shared": {"old": 0}}, state={"old": 0})
    first, second = loaded(place.open()), loaded(place.open())
    first.add_message("user", "of the first")
    first.metadata["shared"]["first"] = 1
    first.set_state("first", 1)
    first.add_tag("first")
    second.add_message("user", "of the second")
    second.metadata["shared"]["second"] = 2
    second.set_state("second", 2)
    second.add_tag("second")
    place.open().save(first)
    place.open().save(second)
    session = loaded(place.open())
    assert [message.content for message in session.messages] == ["start", "of the first", "of the second"]
    assert session.metadata == {"shared": {"old": 0, "first": 1, "second": 2}}
    assert (session.state, session.tags) == ({"old": 0, "first": 1, "second": 2}, ["first", "second"])


def test_who_saves_sees_what_others_saved_meanwhile(place: Place):
    made(place.open(), "one", "start")
    first, second = loaded(place.open()), loaded(place.open())
    first.metadata["first"] = 1
    place.open().save(first)
    second.metadata["second"] = 2
    place.open().save(second)
    assert second.metadata == {"first": 1, "second": 2}


def test_threads_that_save_one_session_at_once_keep_every_message_once_and_every_key(place: Place):
    store = place.open()
    made(store, "one")

    def saves(thread: int) -> None:
        session = loaded(store)
        for number in range(25):
            session.add_message("user", f"{thread}:{number}")
            if number % 5 == 0:
                session.metadata[f"{thread}:{number}"] = number
            store.save(session)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(saves, range(8)))
    session = loaded(place.open())
    texts = [message.content for message in session.messages]
    assert session.message_count == 200
    assert sorted(texts) == sorted(f"{thread}:{number}" for thread in range(8) for number in range(25))
    for thread in range(8):
        assert [text for text in texts if str(text).startswith(f"{thread}:")] == [f"{thread}:{n}" for n in range(25)]
    assert session.metadata == {f"{thread}:{number}": number for thread in range(8) for number in range(0, 25, 5)}


def test_threads_that_make_one_session_at_once_make_one(place: Place):
    store = place.open()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: made(store, "one", f"{n}", metadata={f"{n}": n}), range(8)))
    session = loaded(store)
    assert sorted(message.content for message in session.messages) == [f"{n}" for n in range(8)]
    assert session.metadata == {f"{n}": n for n in range(8)}
    assert store.count() == 1


def test_a_session_that_must_be_new_is_refused_where_there_is_one(any_store: Backend):
    made(any_store, "one", "a", title="first")
    session = Session("one", title="second", clock=any_store.clock)
    session.must_be_new()
    session.add_message("user", "b")
    with pytest.raises(SessionExists):
        any_store.save(session)
    assert (loaded(any_store).title, contents(any_store)) == ("first", ["a"])


def test_a_session_that_must_be_new_is_refused_where_a_deleted_one_has_its_id(store: Backend):
    made(store, "one", "a")
    store.delete("one")
    session = Session("one", clock=store.clock)
    session.must_be_new()
    with pytest.raises(SessionExists):
        store.save(session)
    assert store.get("one") is None


def test_of_threads_that_make_one_session_which_must_be_new_one_does(place: Place):
    store = place.open()

    def makes(number: int) -> bool:
        session = Session("one", title=f"{number}", clock=place.clock)
        session.must_be_new()
        session.add_message("user", f"{number}")
        try:
            store.save(session)
        except SessionExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(makes, range(8)))
    assert done.count(True) == 1
    assert contents(store) == [f"{done.index(True)}"]


def test_a_new_session_is_kept_although_the_server_was_told_twice(wired: tuple[Backend, Wire]):
    store, _ = wired
    session = Session("one", title="T", clock=store.clock, metadata={"a": 1})
    session.must_be_new()
    session.add_messages([{"role": "user", "content": text} for text in "ab"])
    delta = session.delta()  # as a link repeats it when the answer was lost
    assert store.apply(delta) == store.apply(delta)
    assert contents(store) == ["a", "b"]


def test_a_session_still_reads_from_its_store_when_another_one_refuses_it(store: Backend):
    here = MemorySessionStore()
    made(here, "one", "a", "b")
    session = loaded(here)
    session.metadata["a"] = 1
    with pytest.raises(SessionDeleted):
        store.save(session)
    assert [message.content for message in session.messages] == ["a", "b"]


def test_a_session_that_is_saved_to_another_store_reads_from_there(store: Backend):
    here = MemorySessionStore()
    made(here, "one", "a")
    made(store, "one", "there")
    session = loaded(here)
    session.add_message("user", "b")
    store.save(session)
    assert [message.content for message in session.messages] == ["there", "b"]


def test_a_save_that_is_repeated_changes_nothing(store: Backend):
    made(store, "one", "start")
    session = loaded(store)
    session.add_message("user", "once")
    session.metadata["a"] = 1
    delta = session.delta()
    first = store.apply(delta)
    assert store.apply(delta) == first
    assert contents(store) == ["start", "once"]


def test_a_save_that_was_done_in_part_by_another_is_done_for_the_rest(store: Backend):
    made(store, "one", "start")
    session = loaded(store)
    session.add_message("user", "once")
    store.apply(session.delta())
    session.add_message("user", "twice")
    store.apply(session.delta())
    assert contents(store) == ["start", "once", "twice"]
    assert loaded(store).message_count == 3


def test_two_messages_that_were_given_one_id_are_both_kept(place: Place):
    made(place.open(), "one", "start")
    first, second = loaded(place.open()), loaded(place.open())
    first.add_message({"role": "user", "content": "of the first", "id": "m1"})
    second.add_message({"role": "user", "content": "of the second", "id": "m1"})
    place.open().save(first)
    place.open().save(second)
    assert contents(place.open()) == ["start", "of the first", "of the second"]


def test_a_message_that_is_removed_and_added_again_is_there(place: Place):
    session = made(place.open(), "one", "a")
    session.add_message({"role": "user", "content": "b", "id": "m1"})
    place.open().save(session)
    session.remove_messages(["m1"])
    place.open().save(session)
    session.add_message({"role": "user", "content": "b", "id": "m1"})
    place.open().save(session)
    assert contents(place.open()) == ["a", "b"]


def test_an_edit_of_a_message_that_was_removed_meanwhile_does_not_stop_a_save(place: Place):
    made(place.open(), "one", "a", "b")
    first, second = loaded(place.open()), loaded(place.open())
    (one, _), (also_one, _) = first.messages, second.messages
    first.remove_messages([one.id])
    second.edit_message(also_one.id, metadata={"a": 1})
    second.add_message("user", "c")
    place.open().save(first)
    place.open().save(second)
    assert contents(place.open())[-2:] == ["b", "c"]


def test_two_who_edit_different_messages_and_fields_both_keep_their_edits(place: Place):
    made(place.open(), "one", "a", "b")
    first, second = loaded(place.open()), loaded(place.open())
    (one, two), _ = first.messages, second.messages
    first.edit_message(one.id, content="A", metadata={"x": {"first": 1}})
    second.edit_message(two.id, content="B")
    second.edit_message(one.id, metadata={"x": {"second": 2}})
    place.open().save(first)
    place.open().save(second)
    session = loaded(place.open())
    assert [message.content for message in session.messages] == ["A", "B"]
    assert session.messages[0].metadata == {"x": {"first": 1, "second": 2}}


# Messages


def test_the_newest_messages_are_given_oldest_first(store: Backend):
    made(store, "one", *"abcde")
    assert [message.content for message in store.newest("one", 2)[0]] == ["d", "e"]
    assert [message.content for message in store.newest("one", None)[0]] == list("abcde")
    assert [message.content for message in store.newest("one", 9)[0]] == list("abcde")
    assert store.newest("one", 0)[0] == []
    assert store.newest("nobody", 3)[0] == []


def test_the_newest_messages_are_as_many_as_were_asked_for_though_some_between_were_removed(store: Backend):
    session = made(store, "one", *"abcdefgh")
    session.remove_messages([message.id for message in session.messages if str(message.content) in "ceg"])
    store.save(session)
    assert [message.content for message in store.newest("one", 4)[0]] == ["b", "d", "f", "h"]


def test_a_stream_gives_all_messages_in_order(store: Backend):
    session = made(store, "one", *(f"{n}" for n in range(500)))
    assert [message.content for message in store.stream("one")] == [f"{n}" for n in range(500)]
    session.remove_messages([message.id for message in session.messages[10:490]])
    store.save(session)
    assert [message.content for message in store.stream("one")] == [f"{n}" for n in [*range(10), *range(490, 500)]]


def test_a_stream_of_no_session_raises(store: Backend):
    with pytest.raises(SessionNotFound):
        list(store.stream("nobody"))


def test_a_session_is_counted_in_messages_and_bytes_whatever_is_done_to_it(place: Place):
    session = made(place.open(), "one", "four", "ünï")
    session.add_message(role="user", content=[{"type": "text", "text": "é"}])
    place.open().save(session)
    assert (loaded(place.open()).message_count, loaded(place.open()).size_bytes) == (3, 4 + 5 + 29)
    session.edit_message(session.messages[0].id, content="seven!!")
    session.remove_messages([session.messages[1].id])
    place.open().save(session)
    assert (loaded(place.open()).message_count, loaded(place.open()).size_bytes) == (2, 7 + 29)
    session.clear_messages()
    place.open().save(session)
    assert (loaded(place.open()).message_count, loaded(place.open()).size_bytes) == (0, 0)


def test_a_removed_message_is_gone_and_the_others_stay(any_place: Place):
    session = made(any_place.open(), "one", *"abc")
    session.remove_messages([session.messages[1].id, "m-nowhere"])
    any_place.open().save(session)
    assert contents(any_place.open()) == ["a", "c"]


def test_tags_keep_the_order_in_which_they_were_put(any_place: Place):
    made(any_place.open(), "one", tags=["a", "b", "c"])
    session = loaded(any_place.open())
    session.tags = ["c", "new", "a", "b"]
    any_place.open().save(session)
    assert session.tags == loaded(any_place.open()).tags == ["c", "new", "a", "b"]


def test_a_session_that_is_truncated_again_and_again_keeps_its_newest(any_place: Place):
    store = any_place.open()
    made(store, "one", *"abcde")
    for text in "fghij":
        session = loaded(store)
        session.add_message("user", text)
        session.truncate_messages(3)
        store.save(session)
    assert contents(store) == ["h", "i", "j"]


def test_an_edited_message_shows_what_was_written_and_keeps_the_rest(any_place: Place):
    session = made(any_place.open(), "one", "old")
    old = session.messages[0]
    session.edit_message(old.id, content="new", sender="ann", model="m", usage={"total_tokens": 2}, metadata={"a": 1})
    any_place.open().save(session)
    assert list(loaded(any_place.open()).messages) == [
        Message(
            id=old.id, role="user", content="new", timestamp=old.timestamp, sender="ann", model="m",
            usage={"total_tokens": 2}, metadata={"a": 1},
        )
    ]  # fmt: skip


def test_clearing_empties_a_session_and_keeps_what_it_is(any_place: Place):
    made(any_place.open(), "one", *"abc", title="Kept", metadata={"a": 1}, tags=["t"])
    session = loaded(any_place.open())
    session.clear_messages()
    any_place.open().save(session)
    again = loaded(any_place.open())
    assert (again.message_count, list(again.messages)) == (0, [])
    assert (again.title, again.metadata, again.tags) == ("Kept", {"a": 1}, ["t"])


def test_clearing_keeps_what_arrived_in_the_store_unseen(place: Place):
    made(place.open(), "one", *"abc")
    first, second = loaded(place.open()), loaded(place.open())
    second.add_message("user", "unseen")
    place.open().save(second)
    first.clear_messages()
    place.open().save(first)
    assert contents(place.open()) == ["unseen"]
    assert (loaded(place.open()).message_count, loaded(place.open()).size_bytes) == (1, 6)


def test_clearing_takes_what_was_saved_since_the_session_was_loaded(place: Place):
    made(place.open(), "one", *"abc")
    session = loaded(place.open())
    session.add_message("user", "mine")
    place.open().save(session)
    session.clear_messages()
    session.add_message("user", "afterwards")
    place.open().save(session)
    assert contents(place.open()) == ["afterwards"]


def test_a_session_is_written_to_at_the_time_of_its_newest_message_or_change(place: Place):
    store, clock = place.open(), place.clock
    session = made(store, "one")
    clock.now_ms += 1000
    session.add_message("user", "now")
    store.save(session)
    assert loaded(store).updated_at.timestamp() * 1000 == clock.now_ms
    session.add_message({"role": "user", "content": "long ago", "timestamp": "2020-01-01T00:00:00Z"})
    store.save(session)
    assert loaded(store).updated_at.timestamp() * 1000 == clock.now_ms
    clock.now_ms += 1000
    session.metadata["a"] = 1
    store.save(session)
    assert loaded(store).updated_at.timestamp() * 1000 == clock.now_ms
    assert loaded(store).created_at.timestamp() * 1000 == BEGAN_MS


# Archive, delete, restore, purge


def test_adding_to_a_session_that_was_archived_meanwhile_makes_it_active(place: Place):
    made(place.open(), "one", "a")
    first, second = loaded(place.open()), loaded(place.open())
    first.status = "archived"
    place.open().save(first)
    second.add_message("user", "b")
    place.open().save(second)
    assert loaded(place.open()).status == "active"


def test_archiving_is_no_addition_and_stays(any_place: Place):
    session = made(any_place.open(), "one", "a")
    session.status = "archived"
    any_place.open().save(session)
    session.metadata["a"] = 1
    any_place.open().save(session)
    assert loaded(any_place.open()).status == "archived"


def test_a_deleted_session_is_neither_found_nor_listed_nor_counted(any_place: Place):
    store = any_place.open()
    made(store, "one", "a", user_id="ann")
    made(store, "two", "b", user_id="ann")
    assert store.delete("one") is True
    assert store.get("one") is None
    assert [each.id for each in store.list_for_user("ann")] == [each.id for each in store.list_all()] == ["two"]
    assert store.count() == 1
    assert store.newest("one", None)[0] == []


def test_what_is_not_there_cannot_be_deleted_or_purged(any_store: Backend):
    made(any_store, "one")
    assert any_store.delete("one") is True
    assert any_store.delete("one") is False
    assert any_store.delete("nobody") is False
    assert any_store.purge("nobody") is False


def test_a_deleted_session_can_be_asked_for_all_the_same(place: Place):
    store = place.open()
    made(store, "one", "a", title="Gone")
    place.clock.now_ms += 5
    store.delete("one")
    session = store.get("one", deleted=True)
    assert session is not None
    assert session.deleted_at is not None
    assert (session.title, session.deleted_at.timestamp() * 1000) == ("Gone", place.clock.now_ms)
    assert [each.id for each in store.select(Selection(deleted=True))] == ["one"]


def test_a_restored_session_is_there_with_all_it_had(place: Place):
    made(place.open(), "one", "a", "b", user_id="ann", metadata={"a": 1}, title="Kept")
    before = loaded(place.open())
    place.open().delete("one")
    assert place.open().restore("one") is True
    again = loaded(place.open())
    assert [each.content for each in again.messages] == ["a", "b"]
    assert (again.title, again.metadata, again.size_bytes) == ("Kept", {"a": 1}, before.size_bytes)
    assert [each.id for each in place.open().list_for_user("ann")] == ["one"]
    assert place.open().select(Selection(deleted=True)) == []


def test_only_what_was_there_can_be_restored(store: Backend):
    made(store, "one", "a")
    assert store.restore("nobody") is False
    assert store.restore("one") is True
    assert contents(store) == ["a"]
    store.purge("one")
    assert store.restore("one") is False


@pytest.mark.check("PYA-13")
@pytest.mark.parametrize("gone", ["delete", "purge"])
@pytest.mark.parametrize("change", ["message", "metadata", "removal"])
def test_saving_a_session_that_was_deleted_meanwhile_raises_and_saves_nothing(store: Backend, gone: str, change: str):
    made(store, "one", "a")
    session = loaded(store)
    if change == "message":
        session.add_message("user", "b")
    elif change == "metadata":
        session.metadata["a"] = 1
    else:
        session.remove_messages([session.messages[0].id])
    getattr(store, gone)("one")
    with pytest.raises(SessionDeleted):
        store.save(session)
    assert store.get("one") is None
    assert session.pending


def test_a_new_session_under_the_id_of_a_deleted_one_wakes_that_without_its_messages(place: Place):
    made(place.open(), "one", "old", "older", metadata={"kept": 1})
    place.open().delete("one")
    made(place.open(), "one", "new", metadata={"new": 2})
    session = loaded(place.open())
    assert [message.content for message in session.messages] == ["new"]
    assert (session.message_count, session.size_bytes, session.title) == (1, 3, "new")
    assert session.metadata == {"kept": 1, "new": 2}
    assert [message.content for message in place.open().stream("one")] == ["new"]


def test_a_new_session_under_the_id_of_a_purged_one_has_nothing_of_it(place: Place):
    made(place.open(), "one", "old", metadata={"kept": 1}, user_id="ann")
    place.open().purge("one")
    made(place.open(), "one", "new")
    session = loaded(place.open())
    assert (session.metadata, session.user_id) == ({}, None)
    assert contents(place.open()) == ["new"]
    assert place.open().list_for_user("ann") == []


def test_who_knew_a_purged_session_clears_nothing_of_the_one_that_has_its_id_now(place: Place):
    made(place.open(), "one", *"abc")
    stale = loaded(place.open())
    place.open().purge("one")
    place.clock.now_ms += 1000
    made(place.open(), "one", "new")
    stale.clear_messages()
    with suppress(SessionDeleted):  # a store that knows lives says so
        place.open().save(stale)
    assert contents(place.open()) == ["new"]


def test_a_session_can_be_deleted_and_restored_again_and_again(store: Backend):
    session = made(store, "one", "a")
    for text in "bcd":
        assert store.delete("one")
        assert store.restore("one")
        session = loaded(store)
        session.add_message("user", text)
        store.save(session)
    assert contents(store) == ["a", "b", "c", "d"]


# Lists


@pytest.mark.check("PYA-9")
def test_the_sessions_of_a_user_are_listed_the_last_written_to_first(any_place: Place):
    store = any_place.open()
    for number, user in enumerate(["ann", "bob", "ann", "ann", None]):
        any_place.clock.now_ms += 1000
        made(store, f"s{number}", "hello", user_id=user)
    any_place.clock.now_ms += 1000
    session = loaded(store, "s0")
    session.add_message("user", "again")
    store.save(session)
    assert [each.id for each in store.list_for_user("ann")] == ["s0", "s3", "s2"]
    assert [each.id for each in store.list_for_user("bob")] == ["s1"]
    assert store.list_for_user("nobody") == []
    assert [each.id for each in store.list_all()] == ["s0", "s4", "s3", "s2", "s1"]


def test_a_session_that_goes_to_another_user_leaves_the_first_ones_list(any_place: Place):
    session = made(any_place.open(), "one", "a", user_id="ann")
    session.user_id = "bob"
    any_place.open().save(session)
    assert any_place.open().list_for_user("ann") == []
    assert [each.id for each in any_place.open().list_for_user("bob")] == ["one"]


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), ["d", "c", "b", "a"]),
        (Selection(user_id="ann"), ["c", "a"]),
        (Selection(agent_id="coder"), ["c", "b"]),
        (Selection(user_id="ann", agent_id="coder"), ["c"]),
        (Selection(title="Berlin"), ["b"]),
        (Selection(title="hello from d"), ["d"]),
        (Selection(title="berlin"), []),
        (Selection(status="paused"), ["b"]),
        (Selection(archived=False), ["d", "b", "a"]),
        (Selection(status="archived"), ["c"]),
        (Selection(since_ms=BEGAN_MS + 2000), ["d", "c"]),
        (Selection(before_ms=BEGAN_MS + 2000), ["b", "a"]),
        (Selection(since_ms=BEGAN_MS + 1000, before_ms=BEGAN_MS + 3000, user_id="ann"), ["c"]),
        (Selection(agent_id="coder", before_ms=BEGAN_MS + 2000), ["b"]),
        (Selection(limit=2), ["d", "c"]),
        (Selection(limit=2, offset=1), ["c", "b"]),
        (Selection(offset=3), ["a"]),
        (Selection(limit=0), []),
        (Selection(limit=9, offset=9), []),
        (Selection(limit=1, agent_id="coder"), ["c"]),
        (Selection(limit=1, archived=False, offset=1), ["b"]),
        (Selection(sort="created"), ["a", "b", "c", "d"]),
        (Selection(sort="created", limit=2), ["a", "b"]),
        (Selection(sort="title"), ["a", "b", "c", "d"]),
        (Selection(sort="title", limit=1, offset=1), ["b"]),
        (Selection(deleted=True), []),
    ],
)
def test_a_selection_means_the_sessions_for_which_all_of_it_holds(
    any_place: Place, selection: Selection, meant: list[str]
):
    store = any_place.open()
    for number, (session_id, options) in enumerate(
        {
            "a": {"user_id": "ann", "title": "amsterdam"},
            "b": {"user_id": "bob", "title": "Berlin", "agent_id": "coder", "status": "paused"},
            "c": {"user_id": "ann", "title": "Copenhagen", "agent_id": "coder"},
            "d": {},
        }.items()
    ):
        any_place.clock.now_ms = BEGAN_MS + 1000 * number
        made(store, session_id, f"hello from {session_id}", **options)
        if session_id == "c":
            archived = loaded(store, "c")
            archived.status = "archived"
            store.save(archived)
    assert [each.id for each in store.select(selection)] == meant
    if selection.limit is None and selection.offset == 0:
        assert store.count(selection) == len(meant)


def test_a_listed_session_has_its_messages(any_place: Place):
    made(any_place.open(), "one", "a", "b", user_id="ann")
    (session,) = any_place.open().list_for_user("ann")
    assert [message.content for message in session.messages] == ["a", "b"]


# Users


def user(user_id: str, number: int, **more: Any) -> User:
    at = f"2026-11-20T10:00:0{number}.000Z"
    return User(id=user_id, created_at=at, updated_at=at, **more)


def test_the_profile_of_a_user_comes_back_and_can_be_changed(store: Backend):
    ann = user("ann", 1, email="ann@example.org", first_name="Ånn\0", metadata={"a": {"b": None}})
    store.save_user(ann)
    assert store.find_user("ann") == ann
    changed = user("ann", 1, last_name="Other")
    store.save_user(changed)
    assert store.find_user("ann") == changed
    assert store.find_user("bob") is None


def test_users_are_listed_in_the_order_in_which_they_were_made(store: Backend):
    everybody = [user("zoe", 1), user("ann", 2), user("bob", 3)]
    for each in reversed(everybody):
        store.save_user(each)
    assert list(store.users()) == everybody
    assert list(store.users(limit=1, offset=1)) == everybody[1:2]
    assert list(store.users(limit=0)) == []


def test_a_deleted_user_is_hidden(store: Backend):
    store.save_user(user("ann", 1))
    store.save_user(user("bob", 2))
    store.save_user(user("ann", 1, deleted_at="2026-11-21T10:00:00.000Z"))
    assert store.find_user("ann") is None
    assert [each.id for each in store.users()] == ["bob"]


def test_a_store_that_is_not_ours_says_what_it_cannot_do(own_store: Backend):
    with pytest.raises(Unsupported):
        own_store.restore("one")
    with pytest.raises(Unsupported):
        own_store.save_user(user("ann", 1))


@pytest.mark.parametrize("place", [kind for kind in OURS if kind != "memory"], indirect=True)
def test_what_a_store_holds_is_there_when_it_is_opened_again_after_closing_it_twice(place: Place):
    store = place.open()
    made(store, "one", "kept")
    store.close()
    store.close()
    assert contents(place.open()) == ["kept"]


def test_a_store_in_memory_that_was_closed_twice_says_that_it_is_closed():
    store = MemorySessionStore()
    store.close()
    store.close()
    with pytest.raises(LocalStorageError, match="the store is closed"):
        store.get("one")
