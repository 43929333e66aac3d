"""What the store promises: writes are whole, seen by all, refused with a reason, and cost the same at any size."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import AmbiguousRef, InvalidInput, MessageNotFound, SessionExists, SessionNotFound, StenoError
from steno.storage.model import NewMessage, format_ms
from steno.storage.rows import session_births
from steno.storage.stamps import BY_HAND, DERIVED
from steno.storage.state import load
from steno.storage.store import Store

NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(NOW_MS).__next__) as opened:
        yield opened


def _new(content: Any = "text", **fields: Any) -> NewMessage:
    given: dict[str, Any] = {"role": "user", "content": content, **fields}
    return NewMessage(**given)


def _contents(store: Store, session_id: str) -> list[Any]:
    return [message.content for message in store.messages(session_id)]


def _filled(store: Store, *contents: str, **fields: Any) -> str:
    """A session with these messages, whose ids are their contents."""
    session_id = store.create(**fields).id
    store.add_messages(session_id, [_new(content, id=content) for content in contents])
    return session_id


# Creating


def test_a_session_is_read_as_it_was_created(store: Store):
    created = store.create(
        id="chosen",
        title="A title",
        status="paused",
        provider="anthropic",
        model="m-1",
        user_id="ann",
        tags=["go", "api"],
        metadata={"project": "backend", "deep": {"a": [1, None]}},
        state={"step": 2},
        source={"tool": "x"},
        created_ms=1_000,
    )
    assert store.get("chosen") == created
    assert (created.title, created.status, created.provider, created.model) == ("A title", "paused", "anthropic", "m-1")
    assert (created.user_id, created.tags, created.source) == ("ann", ["go", "api"], {"tool": "x"})
    assert created.metadata == {"project": "backend", "deep": {"a": [1, None]}}
    assert (created.state, created.created_at, created.updated_at) == ({"step": 2}, format_ms(1_000), format_ms(1_000))
    assert (created.message_count, created.deleted_at, created.automatic_title) == (0, None, False)


def test_an_id_that_nobody_chose_is_twelve_small_characters(store: Store):
    created = store.create().id
    assert len(created) == 12
    assert set(created) <= set("abcdefghijklmnopqrstuvwxyz0123456789")


def test_an_id_that_is_taken_is_refused_and_nothing_is_changed(store: Store):
    before = store.create(id="taken", title="A")
    with pytest.raises(SessionExists):
        store.create(id="taken", title="B")
    assert store.get("taken") == before


def test_the_id_of_a_deleted_session_is_taken(store: Store):
    store.create(id="taken")
    store.delete("taken")
    with pytest.raises(SessionExists):
        store.create(id="taken")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a\nb"},
        {"title": " "},
        {"status": "done"},
        {"tags": [""]},
        {"tags": [7]},
        {"provider": 7},
        {"user_id": "\ud800"},
        {"metadata": []},
        {"metadata": {"a": float("nan")}},
        {"state": {"a": {1: 2}}},
    ],
)
def test_a_session_that_cannot_be_is_refused_and_not_made(store: Store, fields: dict[str, Any]):
    fields = {"metadata": {"a": 1}, **fields}
    if fields["metadata"] == []:
        fields["metadata"] = ["a"]
    with pytest.raises(InvalidInput):
        store.create(**fields)
    assert store.count() == (0, 0)


def test_tags_that_are_given_twice_stand_once(store: Store):
    assert store.create(tags=["a", " a", "b", "a"]).tags == ["a", "b"]


def test_null_is_a_value_of_metadata(store: Store):
    assert store.create(metadata={"a": None}).metadata == {"a": None}


# Finding


def test_a_session_answers_to_its_id_its_prefix_and_its_title(store: Store):
    store.create(id="k3v9x0", title="REST API")
    assert {store.resolve(ref) for ref in ("k3v9x0", "k3v", "k", "REST API")} == {"k3v9x0"}


def test_a_whole_id_is_no_prefix(store: Store):
    store.create(id="a")
    store.create(id="ab")
    assert store.resolve("a") == "a"


def test_a_prefix_of_several_ids_names_them(store: Store):
    for each in ("ab", "ac", "b"):
        store.create(id=each)
    with pytest.raises(AmbiguousRef) as caught:
        store.resolve("a")
    assert caught.value.candidates == ["ab", "ac"]


def test_a_title_of_several_sessions_is_ambiguous(store: Store):
    for each in ("x1", "y2"):
        store.create(id=each, title="Twins")
    with pytest.raises(AmbiguousRef) as caught:
        store.resolve("Twins")
    assert caught.value.candidates == ["x1", "y2"]


@pytest.mark.parametrize("ref", ["", "nobody", "API", "%", "_", "\x00", "*"])
def test_a_reference_that_means_nothing_is_not_found(store: Store, ref: str):
    store.create(id="k3v9x0", title="REST API")
    with pytest.raises(SessionNotFound):
        store.resolve(ref)


def test_a_reference_that_is_no_text_is_refused(store: Store):
    with pytest.raises(StenoError):
        store.resolve("\udcff")


@pytest.mark.parametrize("ref", ["-", "@last"])
def test_the_last_session_is_the_one_last_written_to(store: Store, ref: str):
    for each in ("a", "b", "c"):
        store.create(id=each)
    store.append("a", _new())
    store.append("c", _new())
    store.delete("c")
    assert store.resolve(ref) == "a"


def test_without_sessions_there_is_no_last_one(store: Store):
    with pytest.raises(SessionNotFound):
        store.resolve("@last")


def test_a_deleted_session_answers_to_its_whole_id_only(store: Store):
    store.create(id="abc", title="A title")
    store.delete("abc")
    assert store.resolve("abc") == "abc"
    for ref in ("ab", "A title"):
        with pytest.raises(SessionNotFound):
            store.resolve(ref)


def test_sessions_are_listed_the_last_written_to_first(store: Store):
    for each in ("a", "b", "c"):
        store.create(id=each)
    store.append("a", _new())
    assert [header.id for header in store.sessions()] == ["a", "c", "b"]


@pytest.mark.parametrize("descending", [True, False])
def test_pages_of_sessions_hold_each_once(store: Store, descending: bool):
    for number in range(7):
        store.create(id=f"s{number}", created_ms=number // 3)
    whole = [header.id for header in store.sessions(descending=descending)]
    paged, after = [], None
    while page := list(store.sessions(limit=2, after=after, descending=descending)):
        paged += [header.id for header in page]
        last = store.find(page[-1].id)
        assert last is not None
        after = (last.updated_ms, last.id)
    assert paged == whole
    assert sorted(paged) == [f"s{number}" for number in range(7)]


def test_deleted_sessions_are_listed_apart(store: Store):
    store.create(id="a")
    store.create(id="b")
    store.delete("a")
    assert [header.id for header in store.sessions()] == ["b"]
    assert [header.id for header in store.sessions(deleted=True)] == ["a"]


@pytest.mark.check("ZEP-9")
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get("nobody"),
        lambda store: list(store.messages("nobody")),
        lambda store: store.newest_messages("nobody", 1),
        lambda store: store.get_message("nobody", "m"),
        lambda store: store.update("nobody", fields={"title": "A"}),
        lambda store: store.delete("nobody"),
        lambda store: store.restore("nobody"),
        lambda store: store.append("nobody", _new()),
        lambda store: store.edit_message("nobody", "m", {"content": "x"}),
        lambda store: store.delete_message("nobody", "m"),
    ],
)
def test_a_session_that_is_not_there_is_not_found(store: Store, call: Any):
    with pytest.raises(SessionNotFound):
        call(store)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get_message("s", "nobody"),
        lambda store: store.edit_message("s", "nobody", {"content": "x"}),
        lambda store: store.delete_message("s", "nobody"),
    ],
)
def test_a_message_that_is_not_there_is_not_found(store: Store, call: Any):
    store.create(id="s")
    with pytest.raises(MessageNotFound):
        call(store)


# Adding messages


def test_a_message_is_read_as_it_was_added(store: Store):
    session_id = store.create().id
    first = store.append(session_id, _new("Go?", id="other"))
    added = store.append(
        session_id,
        NewMessage(
            id="m",
            role="assistant",
            content=[{"type": "text", "text": "Start"}, {"type": "tool_use", "input": {"a": None}}],
            timestamp="2026-11-20T11:00:05.120+01:00",
            sender="claude",
            parent="other",
            model="m-1",
            usage={"input_tokens": 12},
            metadata={"k": {"l": []}},
            origin={"session": "x"},
        ),
    )
    assert store.get_message(session_id, "m") == added
    assert list(store.messages(session_id)) == [first, added]
    assert added.timestamp == "2026-11-20T11:00:05.120+01:00"
    assert (added.content[1], added.usage) == ({"type": "tool_use", "input": {"a": None}}, {"input_tokens": 12})
    assert (added.metadata, added.origin, added.parent) == ({"k": {"l": []}}, {"session": "x"}, "other")


def test_messages_stand_in_the_order_in_which_they_were_added(store: Store):
    session_id = store.create().id
    for number in range(20):
        store.append(session_id, _new(str(number)))
    assert _contents(store, session_id) == [str(number) for number in range(20)]


def test_messages_are_read_in_parts(store: Store):
    session_id = _filled(store, *"abcdef")
    assert [message.content for message in store.messages(session_id, skip=2, limit=3)] == ["c", "d", "e"]
    assert [message.content for message in store.newest_messages(session_id, 2)] == ["e", "f"]


def test_a_message_without_a_time_has_that_of_now(store: Store):
    assert store.append(store.create().id, _new()).timestamp >= format_ms(NOW_MS)


def test_a_message_is_counted_and_moves_the_last_change(store: Store):
    session_id = store.create().id
    store.add_messages(session_id, [_new(timestamp="2999-01-01T00:00:00Z"), _new(timestamp="1999-01-01T00:00:00Z")])
    header = store.get(session_id)
    assert (header.message_count, header.updated_at) == (2, "2999-01-01T00:00:00.000Z")
    assert store.count() == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": ""},
        {"content": None},
        {"content": [{"no": "type"}]},
        {"content": "\ud800"},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-11-20\ud80010:00:00"},
        {"id": "a\nb"},
        {"id": "first"},
        {"after": "nobody"},
        {"sender": 7},
        {"parent": "\ud800"},
        {"usage": [1]},
        {"metadata": []},
        {"metadata": {"a": float("inf")}},
        {"origin": "x"},
    ],
)
def test_a_batch_with_a_message_that_cannot_be_is_refused_whole(store: Store, wrong: dict[str, Any]):
    session_id = _filled(store, "first")
    before = store.get(session_id), store.last_seq
    with pytest.raises(InvalidInput):
        store.add_messages(session_id, [_new("second"), _new(**wrong), _new("third")])
    assert (store.get(session_id), store.last_seq) == before
    assert _contents(store, session_id) == ["first"]


def test_two_messages_of_one_batch_cannot_share_an_id(store: Store):
    session_id = store.create().id
    with pytest.raises(InvalidInput, match="already exists"):
        store.add_messages(session_id, [_new(id="m"), _new(id="m")])
    assert _contents(store, session_id) == []


def test_two_sessions_may_share_the_ids_of_messages(store: Store):
    sessions = [_filled(store, "m"), _filled(store, "m")]
    store.edit_message(sessions[0], "m", {"content": "edited"})
    assert [store.get_message(each, "m").content for each in sessions] == ["edited", "m"]


def test_an_empty_batch_adds_nothing(store: Store):
    session_id = store.create().id
    before = store.last_seq
    assert store.add_messages(session_id, []) == []
    assert store.last_seq == before


def test_ids_that_the_store_draws_differ(store: Store):
    session_id = store.create().id
    added = store.add_messages(session_id, [_new() for _ in range(200)])
    assert len({message.id for message in added}) == 200


# Order


def test_an_insertion_stands_right_behind_its_anchor(store: Store):
    session_id = _filled(store, *"abc")
    store.append(session_id, _new("x", after="a"))
    assert _contents(store, session_id) == ["a", "x", "b", "c"]


def test_a_later_insertion_stands_before_an_earlier_one(store: Store):
    session_id = _filled(store, *"ab")
    store.append(session_id, _new("x", after="a"))
    store.append(session_id, _new("y", after="a"))
    assert _contents(store, session_id) == ["a", "y", "x", "b"]


def test_a_message_behind_the_last_one_is_an_append(store: Store):
    session_id = _filled(store, "a")
    store.append(session_id, _new("x", after="a"))
    store.append(session_id, _new("y"))
    assert _contents(store, session_id) == ["a", "x", "y"]


def test_an_append_after_an_insertion_stands_at_the_end(store: Store):
    session_id = _filled(store, *"ab")
    store.append(session_id, _new("x", after="a"))
    store.append(session_id, _new("c"))
    assert _contents(store, session_id) == ["a", "x", "b", "c"]


def test_a_batch_may_stand_behind_its_own_messages(store: Store):
    session_id = _filled(store, *"ab")
    store.add_messages(session_id, [_new("x", id="x", after="a"), _new("y", after="x"), _new("c")])
    assert _contents(store, session_id) == ["a", "x", "y", "b", "c"]


def test_a_message_may_stand_behind_a_deleted_one(store: Store):
    session_id = _filled(store, *"abc")
    store.delete_message(session_id, "b")
    store.append(session_id, _new("x", after="b"))
    assert _contents(store, session_id) == ["a", "x", "c"]


def test_a_deleted_last_message_keeps_its_place(store: Store):
    session_id = _filled(store, *"ab")
    store.delete_message(session_id, "b")
    store.append(session_id, _new("c"))
    store.edit_message(session_id, "b", {"content": "b again"})
    assert _contents(store, session_id) == ["a", "b again", "c"]


# Titles


def test_the_first_message_of_a_user_is_the_title(store: Store):
    session_id = store.create().id
    store.append(session_id, _new("Hello there", role="assistant"))
    store.append(session_id, _new("How do I\nsort?"))
    store.append(session_id, _new("Thanks"))
    header = store.get(session_id)
    assert (header.title, header.automatic_title) == ("How do I sort?", True)


def test_a_title_that_was_given_stays(store: Store):
    session_id = _filled(store, "How do I sort?", title="Sorting")
    assert (store.get(session_id).title, store.get(session_id).automatic_title) == ("Sorting", False)


def test_a_title_that_is_taken_away_is_automatic_again(store: Store):
    session_id = _filled(store, "How do I sort?", title="Sorting")
    assert store.update(session_id, fields={"title": None}).title == "How do I sort?"


def test_a_message_put_before_the_first_one_of_a_user_gives_the_title(store: Store):
    session_id = store.create().id
    store.add_messages(session_id, [_new("Be brief", role="system", id="s"), _new("Later")])
    store.append(session_id, _new("Earlier", after="s"))
    assert store.get(session_id).title == "Earlier"


def test_a_first_message_without_text_gives_no_title_but_the_next_does(store: Store):
    session_id = store.create().id
    store.append(session_id, _new([{"type": "image", "data": "x"}]))
    assert store.get(session_id).title == ""
    store.append(session_id, _new("Look at this"))
    assert store.get(session_id).title == "Look at this"


# Changing sessions


def test_fields_that_are_not_named_stay(store: Store):
    before = store.create(id="s", title="A", provider="p", user_id="ann", tags=["x"], metadata={"a": 1})
    after = store.update("s", fields={"provider": "q"})
    assert (after.title, after.provider, after.user_id) == ("A", "q", "ann")
    assert (after.tags, after.metadata, after.created_at) == (["x"], {"a": 1}, before.created_at)


def test_fields_may_be_emptied(store: Store):
    store.create(id="s", provider="p", model="m", user_id="ann")
    after = store.update("s", fields={"provider": None, "model": None, "user_id": None})
    assert (after.provider, after.model, after.user_id) == (None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {"title": ""}},
        {"fields": {"status": "done"}},
        {"fields": {"role": "x"}},
        {"fields": {"created_at": "2026-11-20T10:00:00Z"}},
        {"fields": {"provider": 7}},
        {"tags": ["a", ""]},
        {"add_tags": ["\n"]},
        {"metadata": [1]},
        {"state": {"a": float("nan")}},
    ],
)
def test_a_change_that_cannot_be_is_refused_whole(store: Store, change: dict[str, Any]):
    before = store.create(id="s", title="A", tags=["x"], metadata={"a": 1})
    whole: dict[str, Any] = {"metadata": {"a": 2}, **change, "fields": {"provider": "p", **change.get("fields", {})}}
    with pytest.raises(InvalidInput):
        store.update("s", **whole)
    assert store.get("s") == before


def test_metadata_and_state_are_patched(store: Store):
    store.create(id="s", metadata={"a": 1, "b": {"c": 2, "d": 3}}, state={"x": 1})
    after = store.update("s", metadata={"a": None, "b": {"c": 4}, "e": {}}, state={"x": {"y": 2}})
    assert (after.metadata, after.state) == ({"b": {"c": 4, "d": 3}, "e": {}}, {"x": {"y": 2}})


def test_tags_are_replaced_added_and_removed(store: Store):
    store.create(id="s", tags=["a", "b"])
    assert store.update("s", tags=["c", "a"], add_tags=["d"], remove_tags=["a"]).tags == ["c", "d"]


@pytest.mark.parametrize("status", ["paused", "archived"])
def test_a_session_may_be_paused_and_archived(store: Store, status: str):
    store.create(id="s")
    assert store.update("s", fields={"status": status}).status == status


def test_an_archived_session_is_active_again_once_it_is_added_to(store: Store):
    store.create(id="s", status="archived")
    store.append("s", _new())
    assert store.get("s").status == "active"


def test_a_paused_session_stays_paused_when_it_is_added_to(store: Store):
    store.create(id="s", status="paused")
    store.append("s", _new())
    assert store.get("s").status == "paused"


# Changing messages


def test_a_message_is_edited_field_by_field(store: Store):
    session_id = _filled(store, "m")
    before = store.get_message(session_id, "m")
    changes = {
        "content": [{"type": "text", "text": "new"}],
        "sender": "ann",
        "parent": "p",
        "timestamp": "2026-11-20T10:00:00.000Z",
        "model": "m-1",
        "usage": {"input_tokens": 1},
        "metadata": {"a": {"b": 1}},
    }
    after = store.edit_message(session_id, "m", changes)
    assert {name: getattr(after, name) for name in changes} == changes
    assert (after.id, after.role, after.origin) == (before.id, before.role, before.origin)
    assert store.get_message(session_id, "m") == after


def test_fields_of_a_message_may_be_emptied(store: Store):
    session_id = store.create().id
    store.append(session_id, _new(id="p"))
    store.append(session_id, _new(id="m", sender="ann", parent="p", model="x", usage={"a": 1}, metadata={"k": 1}))
    empty = {"sender": None, "parent": None, "model": None, "usage": None, "metadata": {"k": None}}
    after = store.edit_message(session_id, "m", empty)
    assert (after.sender, after.parent, after.model, after.usage, after.metadata) == (None, None, None, None, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "system"},
        {"id": "x"},
        {"origin": {}},
        {"content": None},
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"usage": 7},
        {"metadata": ["a"]},
    ],
)
def test_an_edit_that_cannot_be_is_refused_whole(store: Store, changes: dict[str, Any]):
    session_id = _filled(store, "m")
    before = store.get_message(session_id, "m")
    with pytest.raises(InvalidInput):
        store.edit_message(session_id, "m", {"sender": "ann", **changes})
    assert store.get_message(session_id, "m") == before


def test_an_edit_keeps_the_place_of_a_message(store: Store):
    session_id = _filled(store, *"abc")
    store.edit_message(session_id, "b", {"content": "new"})
    assert _contents(store, session_id) == ["a", "new", "c"]


# Deleting and restoring


def test_a_deleted_message_is_hidden_and_says_when(store: Store):
    session_id = _filled(store, *"abc")
    store.delete_message(session_id, "b")
    assert _contents(store, session_id) == ["a", "c"]
    assert store.get(session_id).message_count == 2
    assert store.get_message(session_id, "b").deleted_at is not None


def test_deleting_a_message_twice_changes_nothing(store: Store):
    session_id = _filled(store, *"ab")
    store.delete_message(session_id, "b")
    before = store.last_seq
    store.delete_message(session_id, "b")
    assert store.last_seq == before


def test_editing_the_content_of_a_deleted_message_shows_it_again(store: Store):
    session_id = _filled(store, *"ab")
    store.delete_message(session_id, "a")
    store.edit_message(session_id, "a", {"content": "a again"})
    assert _contents(store, session_id) == ["a again", "b"]
    assert store.get_message(session_id, "a").deleted_at is None


def test_the_id_of_a_deleted_message_is_taken(store: Store):
    session_id = _filled(store, *"ab")
    store.delete_message(session_id, "b")
    with pytest.raises(InvalidInput, match="already exists"):
        store.append(session_id, _new(id="b"))


@pytest.mark.check("ZEP-9")
def test_a_deleted_session_is_hidden_and_says_when(store: Store):
    session_id = _filled(store, *"ab")
    deleted = store.delete(session_id)
    assert deleted.deleted_at is not None
    assert store.get(session_id, deleted=True) == deleted
    assert store.count() == (0, 0)
    with pytest.raises(SessionNotFound):
        store.get(session_id)
    with pytest.raises(SessionNotFound):
        store.delete(session_id)


def test_a_restored_session_has_its_messages(store: Store):
    session_id = _filled(store, *"ab", title="A", tags=["x"])
    store.delete(session_id)
    restored = store.restore(session_id)
    assert (restored.deleted_at, restored.message_count, restored.title) == (None, 2, "A")
    assert _contents(store, session_id) == ["a", "b"]


def test_restoring_what_is_not_deleted_changes_nothing(store: Store):
    session_id = _filled(store, *"ab")
    before = store.get(session_id), store.last_seq
    store.restore(session_id)
    assert (store.get(session_id), store.last_seq) == before


def test_a_message_deleted_before_its_session_stays_deleted_when_that_is_restored(store: Store):
    session_id = _filled(store, *"ab")
    store.delete_message(session_id, "a")
    store.delete(session_id)
    store.restore(session_id)
    assert _contents(store, session_id) == ["b"]


def test_a_session_can_be_deleted_and_restored_again_and_again(store: Store):
    session_id = _filled(store, *"ab")
    for _ in range(3):
        store.delete(session_id)
        store.restore(session_id)
    assert _contents(store, session_id) == ["a", "b"]


def test_adding_to_a_deleted_session_brings_back_the_session_and_not_its_messages(store: Store):
    session_id = _filled(store, "old", title="A", tags=["x"])
    store.delete(session_id)
    store.append(session_id, _new("new"))
    header = store.get(session_id)
    assert _contents(store, session_id) == ["new"]
    assert (header.message_count, header.title, header.tags, header.deleted_at) == (1, "A", ["x"], None)


def test_a_session_brought_back_is_titled_after_its_new_messages(store: Store):
    session_id = _filled(store, "old")
    store.delete(session_id)
    store.append(session_id, _new("new"))
    assert store.get(session_id).title == "new"


def test_a_session_brought_back_can_be_deleted_and_restored_with_its_new_messages(store: Store):
    session_id = _filled(store, "old")
    store.delete(session_id)
    store.append(session_id, _new("new"))
    store.delete(session_id)
    assert store.count() == (0, 0)
    store.restore(session_id)
    assert _contents(store, session_id) == ["new"]


def test_a_message_that_went_with_its_session_says_when(store: Store):
    session_id = _filled(store, "old")
    store.delete(session_id)
    store.append(session_id, _new("new"))
    assert store.get_message(session_id, "old").deleted_at is not None


# Two stores


def _pull(store: Store, other: Store) -> None:
    """Take in everything that was written in another store."""
    batch, _, complete = local_changes(other, since=0, floor=0, max_bytes=1 << 30)
    assert complete
    decoded, done = decode_batch(batch), Applied()
    for part in slices(decoded):
        with store.transaction():
            apply(store, decoded, part, done=done)
    assert done.refused == []


@pytest.fixture
def other(tmp_path: Path, store: Store) -> Iterator[Store]:
    """A second device, whose clock is a little behind."""
    with Store(tmp_path / "other.db", now_ms=itertools.count(NOW_MS - 50).__next__) as opened:
        yield opened


def _both(store: Store, other: Store) -> None:
    _pull(store, other)
    _pull(other, store)


def test_a_message_that_the_deleter_had_not_seen_keeps_its_session(store: Store, other: Store):
    session_id = _filled(store, "seen")
    _pull(other, store)
    other.append(session_id, _new("unseen"))
    store.delete(session_id)
    _both(store, other)
    assert _contents(store, session_id) == _contents(other, session_id) == ["unseen"]


def test_a_deletion_reaches_the_other_device_and_so_does_the_restoring(store: Store, other: Store):
    session_id = _filled(store, "text")
    store.delete(session_id)
    _pull(other, store)
    assert other.count() == (0, 0)
    other.restore(session_id)
    _both(store, other)
    assert store.get(session_id) == other.get(session_id)


def test_adding_to_a_deleted_session_does_not_undo_what_another_device_deleted_meanwhile(store: Store, other: Store):
    session_id = _filled(store, "first")
    _pull(other, store)
    store.append(session_id, _new("second"))
    store.delete(session_id)
    other.delete(session_id)
    for _ in range(100):
        other.now_ms()
    other.append(session_id, _new("third"))
    _both(store, other)
    assert _contents(store, session_id) == _contents(other, session_id) == ["third"]


def test_deleting_again_still_deletes_what_has_not_arrived_here(store: Store, other: Store, tmp_path: Path):
    session_id = _filled(store, "first")
    _pull(other, store)
    with Store(tmp_path / "third.db", now_ms=itertools.count(NOW_MS + 500).__next__) as third:
        _pull(third, store)
        third.append(session_id, _new("of the third"))
        _pull(store, third)
        store.delete(session_id)
        other.append(session_id, _new("of the second"))
        _pull(other, store)
        other.delete(session_id)
        for device in (store, other, third):
            for source in (store, other, third):
                if source is not device:
                    _pull(device, source)
        assert [device.count() for device in (store, other, third)] == [(0, 0)] * 3


def test_an_insertion_changes_the_automatic_title_alike_on_both_devices(store: Store, other: Store):
    session_id = store.create().id
    store.add_messages(session_id, [_new("Be brief", role="system", id="s"), _new("Later")])
    _pull(other, store)
    store.append(session_id, _new("Earlier", after="s"))
    _pull(other, store)
    assert store.get(session_id) == other.get(session_id)


# Processes


APPEND = """
import sys
from steno.storage.model import NewMessage
from steno.storage.store import Store
path, name = sys.argv[1:]
with Store(path) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(100):
        store.append("s", NewMessage(role="user", content=f"{name}.{number}"))
"""


def test_four_processes_append_to_one_session_and_every_message_is_there_once(store: Store):
    store.create(id="s")
    with ExitStack() as stack:
        processes = [stack.enter_context(_appending(store.path, name)) for name in "abcd"]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60) for process in processes] == [("", "")] * 4

    rows = list(store.message_rows(1))
    contents = [row.content for row in rows]
    assert Counter(contents) == Counter(f"{name}.{number}" for name in "abcd" for number in range(100))
    for name in "abcd":
        assert [each for each in contents if each[0] == name] == [f"{name}.{number}" for number in range(100)]
    assert [row.after for row in rows] == [None, *(row.id for row in rows[:-1])]
    assert [row.ord for row in rows] == list(range(1, 401))
    assert [row.clock for row in rows] == sorted({row.clock for row in rows})
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert store.get("s").message_count == 400


def _appending(path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPEND, str(path), name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_reader_sees_whole_batches_only(store: Store):
    session_id = store.create().id
    with Store(store.path, read_only=True) as reader:
        with store.transaction():
            store.add_messages(session_id, [_new("a"), _new("b")])
            assert _contents(reader, session_id) == []
        assert _contents(reader, session_id) == ["a", "b"]


def test_several_calls_in_one_transaction_are_kept_or_undone_together(store: Store):
    session_id = _filled(store, "a")
    before = store.get(session_id), store.last_seq
    with pytest.raises(MessageNotFound), store.transaction():  # noqa: PT012  the transaction is the point
        store.append(session_id, _new("b"))
        store.update(session_id, fields={"title": "lost"})
        store.edit_message(session_id, "nobody", {"content": "x"})
    assert (store.get(session_id), store.last_seq) == before
    assert _contents(store, session_id) == ["a"]


def test_a_call_that_is_refused_within_a_transaction_undoes_only_itself(store: Store):
    session_id = _filled(store, "a")
    with store.transaction():
        store.append(session_id, _new("b", id="b"))
        with pytest.raises(InvalidInput):
            store.add_messages(session_id, [_new("c"), _new("d", id="b")])
        store.append(session_id, _new("e"))
    assert _contents(store, session_id) == ["a", "b", "e"]


# Work


def _statements(store: Store, call: Any) -> list[str]:
    seen: list[str] = []
    store.connection.set_trace_callback(seen.append)
    try:
        call()
    finally:
        store.connection.set_trace_callback(None)
    return seen


def _fill(store: Store, count: int) -> str:
    session_id = store.create().id
    store.add_messages(session_id, [_new(f"message {number}") for number in range(count)])
    return session_id


def _steps(store: Store, call: Any) -> int:
    """How many instructions SQLite's machine runs: an index that is not used shows here."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    store.connection.set_progress_handler(step, 1)
    try:
        call()
    finally:
        store.connection.set_progress_handler(None, 0)
    return count


def test_an_append_runs_as_many_statements_in_a_session_of_one_as_in_one_of_five_thousand(store: Store):
    small, large = _fill(store, 1), _fill(store, 5_000)
    in_small = _statements(store, lambda: store.append(small, _new("one more")))
    in_large = _statements(store, lambda: store.append(large, _new("one more")))
    assert len(in_large) == len(in_small)
    assert len(in_small) <= 8


def test_an_append_does_as_much_work_in_a_session_of_one_as_in_one_of_five_thousand(store: Store):
    small, large = _fill(store, 1), _fill(store, 5_000)
    in_small = _steps(store, lambda: store.append(small, _new("one more")))
    in_large = _steps(store, lambda: store.append(large, _new("one more")))
    assert in_large <= in_small * 1.1


def test_the_newest_messages_cost_the_same_in_a_session_of_ten_as_in_one_of_five_thousand(store: Store):
    small, large = _fill(store, 10), _fill(store, 5_000)
    in_small = _steps(store, lambda: store.newest_messages(small, 5))
    in_large = _steps(store, lambda: store.newest_messages(large, 5))
    assert in_large <= in_small * 1.1


def test_appending_n_messages_at_once_commits_once(store: Store):
    session_id = store.create().id
    seen = _statements(store, lambda: store.add_messages(session_id, [_new() for _ in range(50)]))
    assert sum(each.startswith("BEGIN") for each in seen) == 1
    assert sum(each == "COMMIT" for each in seen) == 1


# Classes


@pytest.mark.parametrize("rank", [BY_HAND, DERIVED])
def test_a_session_carries_the_class_of_whoever_made_it(store: Store, rank: int):
    store.create(id="s", title="A", rank=rank)
    row = store.find("s")
    assert row is not None
    assert load(store, row.no, None, "title").top[0].rank == rank
    assert {birth.author % 4 for birth in session_births(row.births)} == {rank}
