"""A fork is a whole copy that stands alone; a merge brings back what is new, once; a split moves a run."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.change import Batch, local_changes
from steno.storage.errors import AmbiguousSplit, InvalidInput, MessageNotFound, SessionExists, SessionNotFound
from steno.storage.forks import ancestors, descendants, divergences, fork, merge, split
from steno.storage.model import Message, NewMessage
from steno.storage.purge import purge_session
from steno.storage.search import search
from steno.storage.store import Store
from steno.sync.files.absorb import absorb
from steno.sync.files.lines import Rev, header_of, line_of, parse, render
from steno.tests.simulation.test_stores_converge import Device, state
from steno.tests.unit.test_apply import Stores, take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(1_700_000_000_000).__next__) as opened:
        yield opened


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path)
    yield made
    for each in made.opened:
        each.close()


def new(content: str, **fields: Any) -> NewMessage:
    return NewMessage(role="user", content=content, id=content, **fields)


def add(store: Store, session: str, *contents: str) -> None:
    store.add_messages(session, [new(each) for each in contents])


def contents(store: Store, session: str) -> list[Any]:
    return [message.content for message in store.messages(session)]


def as_shown(messages: Iterator[Message]) -> list[Message]:
    return [msgspec.structs.replace(each, origin=None) for each in messages]


def rows(store: Store, session: str) -> list[Any]:
    """Every row that the store holds of a session."""
    [(no,)] = store.execute("SELECT no FROM sessions WHERE id = ?", (session,)).fetchall()
    wheres = {"sessions": "no", "messages": "session", "registers": "session", "revisions": "session"}
    return [
        store.execute(f"SELECT * FROM {table} WHERE {where} = ? ORDER BY 1, 2, 3", (no,)).fetchall()
        for table, where in wheres.items()
    ]


@pytest.fixture
def original(store: Store) -> Store:
    """A session of four messages, one of them edited, one deleted and one inserted."""
    store.create(
        id="orig", title="Design", provider="anthropic", model="m1", user_id="u", tags=["a", "b"],
        metadata={"project": "x", "deep": {"k": None}}, state={"step": 3},
    )  # fmt: skip
    store.add_messages(
        "orig",
        [
            new("one", sender="ana", model="m2", usage={"input_tokens": 3}, metadata={"mood": "calm"}),
            new("two", parent="one", timestamp="2024-01-02T03:04:05+02:00"),
            new("gone"),
            new("three", parent="gone"),
        ],
    )
    store.append("orig", new("note", after="one"))
    store.edit_message("orig", "two", {"content": [{"type": "text", "text": "2"}], "metadata": {"x": {"y": [1]}}})
    store.edit_message("orig", "one", {"timestamp": "2020-05-05T05:05:05.000Z", "usage": {"input_tokens": 4}})
    store.delete_message("orig", "gone")
    return store


# Forking


@pytest.mark.check("COD-6")
def test_a_fork_shows_every_message_of_its_original_as_it_is_shown_there(original: Store):
    fork(original, "orig", id="copy")
    assert as_shown(original.messages("copy")) == as_shown(original.messages("orig"))


def test_a_copy_names_the_session_and_message_that_it_was_copied_from(original: Store):
    fork(original, "orig", id="copy")
    assert [each.origin for each in original.messages("copy")] == [
        {"session": "orig", "message": each} for each in ("one", "note", "two", "three")
    ]


@pytest.mark.check("COD-25", "MDB-13")
def test_a_fork_at_a_message_has_those_up_to_it(store: Store):
    store.create(id="s", title="S")
    add(store, "s", "Message 1", "Message 2", "Message 3")
    made = fork(store, "s", at="Message 2")
    assert contents(store, made.id) == ["Message 1", "Message 2"]
    assert made.message_count == 2


@pytest.mark.check("MDB-13")
def test_a_fork_has_the_title_given_and_says_where_and_why_it_was_made(original: Store):
    made = fork(original, "orig", at="two", title="Mobile Design Discussion", reason="Focus on mobile design")
    assert made.title == "Mobile Design Discussion"
    assert made.forked_from == {"session": "orig", "message": "two", "reason": "Focus on mobile design"}
    assert original.get(made.id) == made


@pytest.mark.check("MDB-13", "COD-6")
def test_forking_leaves_the_original_byte_for_byte_as_it_was(original: Store):
    before = rows(original, "orig")
    fork(original, "orig")
    assert rows(original, "orig") == before


@pytest.mark.check("MDB-14", "COD-6")
def test_a_fork_without_a_title_or_a_message_says_of_what_it_is_one_and_ends_where_that_ends(original: Store):
    made = fork(original, "orig")
    assert made.title == "Fork of Design"
    assert made.forked_from == {"session": "orig", "message": "three"}


def test_a_fork_of_a_session_without_a_title_is_named_after_its_id(store: Store):
    store.create(id="bare")
    assert fork(store, "bare").title == "Fork of bare"


@pytest.mark.check("MDB-14")
def test_a_fork_of_an_empty_session_is_empty_and_has_no_fork_point(store: Store):
    store.create(id="s", title="S")
    made = fork(store, "s")
    assert made.forked_from == {"session": "s", "message": None}
    assert (made.message_count, contents(store, made.id)) == (0, [])


@pytest.mark.check("COD-6")
def test_a_fork_has_the_header_of_its_original_and_is_active(original: Store):
    original.update("orig", fields={"status": "archived"})
    made = fork(original, "orig")
    assert (made.provider, made.model, made.user_id, made.tags) == ("anthropic", "m1", "u", ["a", "b"])
    assert made.metadata == {"project": "x", "deep": {"k": None}}
    assert made.status == "active"


def test_metadata_given_to_a_fork_is_merged_into_that_of_the_original(original: Store):
    made = fork(original, "orig", metadata={"topic": "new", "deep": {"j": 1}, "project": None})
    assert made.metadata == {"topic": "new", "deep": {"k": None, "j": 1}}


def test_a_fork_has_the_state_only_together_with_the_message_that_it_stands_behind(original: Store):
    assert fork(original, "orig").state == {"step": 3}
    assert fork(original, "orig", at="three").state == {"step": 3}
    assert fork(original, "orig", at="two").state == {}


def test_the_fork_of_a_fork_names_who_wrote_each_message_and_all_that_stand_above(original: Store):
    fork(original, "orig", id="copy", at="two")
    add(original, "copy", "own")
    made = fork(original, "copy")
    assert made.forked_from == {"session": "copy", "message": "own", "above": ["orig"]}
    origins = [(each.origin or {})["session"] for each in original.messages(made.id)]
    assert origins == ["orig", "orig", "orig", "copy"]


@pytest.mark.check("MDB-17", "COD-6")
def test_what_is_added_or_changed_in_one_does_not_show_in_the_other(original: Store):
    fork(original, "orig", id="copy")
    add(original, "orig", "later there")
    add(original, "copy", "later here")
    original.edit_message("orig", "one", {"content": "changed"})
    original.delete_message("copy", "three")
    assert contents(original, "orig") == ["changed", "note", [{"type": "text", "text": "2"}], "three", "later there"]
    assert contents(original, "copy") == ["one", "note", [{"type": "text", "text": "2"}], "later here"]


@pytest.mark.check("MDB-20", "COD-27")
@pytest.mark.parametrize("what", ["delete", "archive", "purge"])
def test_a_fork_stays_whole_whatever_becomes_of_its_original(original: Store, what: str):
    fork(original, "orig", id="copy")
    before = rows(original, "copy")
    if what == "delete":
        original.delete("orig")
    elif what == "purge":
        purge_session(original, "orig")
    else:
        original.update("orig", fields={"status": "archived"})
    assert rows(original, "copy") == before


@pytest.mark.check("COD-6")
def test_a_fork_is_found_by_what_its_copies_say(original: Store):
    fork(original, "orig", id="copy")
    assert {hit.session for hit in search(original, "three").hits} == {"orig", "copy"}


@pytest.mark.check("MDB-15", "COD-7")
def test_an_unknown_or_deleted_original_is_an_error_and_nothing_is_made(original: Store):
    original.create(id="deleted", title="D")
    original.delete("deleted")
    for session in ("unknown", "deleted"):
        with pytest.raises(SessionNotFound):
            fork(original, session, id="never")
    assert original.find("never") is None


@pytest.mark.check("MDB-15")
@pytest.mark.parametrize("at", ["unknown", "foreign", "gone"])
def test_a_message_that_the_original_does_not_show_is_an_error_and_nothing_is_made(original: Store, at: str):
    original.create(id="other", title="Other")
    add(original, "other", "foreign")
    with pytest.raises(MessageNotFound):
        fork(original, "orig", at=at, id="never")
    assert original.find("never") is None


@pytest.mark.check("COD-7")
def test_an_id_that_is_taken_is_an_error_and_changes_nothing(original: Store):
    original.create(id="taken", title="Taken")
    before = rows(original, "taken")
    with pytest.raises(SessionExists):
        fork(original, "orig", id="taken")
    assert rows(original, "taken") == before


@pytest.mark.parametrize(
    "wrong", [{"title": " "}, {"metadata": ["a"]}, {"metadata": {"x": object()}}, {"reason": 7}, {"id": "a\nb"}]
)
def test_what_cannot_stand_in_a_session_is_refused_and_nothing_is_made(original: Store, wrong: dict[str, Any]):
    count, seq = original.count(), original.last_seq
    with pytest.raises(InvalidInput):
        fork(original, "orig", **wrong)
    assert (original.count(), original.last_seq) == (count, seq)


def test_a_large_content_stands_as_compressed_in_the_fork_as_in_its_original(store: Store):
    store.create(id="s", title="S")
    store.append("s", NewMessage(role="user", content="x" * 100_000, id="large"))
    made = fork(store, "s")
    assert contents(store, made.id) == ["x" * 100_000]
    stored = store.execute("SELECT content FROM messages WHERE id = 'large'").fetchall()
    assert stored[0] == stored[1]


@pytest.mark.check("MDB-19")
def test_forking_costs_two_statements_a_message_at_most(store: Store):
    store.create(id="s", title="S")
    add(store, "s", *map(str, range(1000)))
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    fork(store, "s")
    store.connection.set_trace_callback(None)
    assert len(statements) < 1100


@pytest.mark.check("MDB-19")
def test_the_file_of_a_fork_stands_alone(tmp_path: Path, original: Store):
    fork(original, "orig", id="copy")
    add(original, "copy", "own")
    fork(original, "copy", id="again")
    for each in ("orig", "copy"):
        original.delete(each)
    shown = original.get("again")
    file = render(header_of(shown, rev=Rev("elsewhere", 1)), map(line_of, original.messages("again")))
    with Store(tmp_path / "alone.db") as alone:
        with alone.transaction():
            absorb(alone, parse(file), session_id="again")
        assert list(alone.messages("again")) == list(original.messages("again"))
        assert [each.id for each in ancestors(alone, "again")] == ["copy", "orig"]


def test_the_order_of_a_fork_holds_when_it_is_worked_out_anew(stores: Stores, original: Store):
    fork(original, "orig", id="copy")
    original.append("copy", new("inserted", after="one"))
    assert [each.id for each in original.messages("copy")] == ["one", "inserted", "note", "two", "three"]


def test_a_fork_is_the_same_on_every_device(stores: Stores):
    here, there = stores.open(), stores.open()
    here.create(id="s", title="S", tags=["t"], metadata={"m": 1})
    add(here, "s", "one", "two")
    fork(here, "s", id="f", at="one", reason="why")
    take(there, stores.news(here))
    assert state(there) == state(here)
    assert there.get("f") == here.get("f")
    assert [node.session.id for node in descendants(there, "s")] == ["s", "f"]


# Merging


@pytest.fixture
def forked(store: Store) -> Store:
    """Session ``s`` of two messages, and its fork ``f`` with two of its own."""
    store.create(id="s", title="S")
    add(store, "s", "one", "two")
    fork(store, "s", id="f", at="one")
    add(store, "f", "three", "four")
    return store


def test_a_merge_appends_what_was_written_in_the_fork(forked: Store):
    add(forked, "s", "later")
    merged = merge(forked, "f")
    assert contents(forked, "s") == ["one", "two", "later", "three", "four"]
    assert [each.content for each in merged] == ["three", "four"]
    assert forked.get("s").message_count == 5


def test_what_was_merged_names_the_fork_and_its_message_there(forked: Store):
    assert [each.origin for each in merge(forked, "f")] == [
        {"session": "f", "message": "three"},
        {"session": "f", "message": "four"},
    ]


def test_what_was_merged_is_as_it_is_shown_in_the_fork(forked: Store):
    forked.edit_message("f", "three", {"content": [{"type": "text", "text": "3"}], "usage": {"input_tokens": 1}})
    forked.edit_message("f", "four", {"metadata": {"a": 1}, "sender": "bo", "timestamp": "2024-01-02T03:04:05+02:00"})
    merged = [msgspec.structs.replace(each, id="", origin=None) for each in merge(forked, "f")]
    own = list(forked.messages("f"))[1:]
    assert merged == [msgspec.structs.replace(each, id="", origin=None) for each in own]


def test_a_second_merge_appends_nothing(forked: Store):
    merge(forked, "f")
    before = rows(forked, "s")
    assert merge(forked, "f") == []
    assert rows(forked, "s") == before


def test_a_merge_leaves_the_fork_as_it_is(forked: Store):
    before = rows(forked, "f")
    merge(forked, "f")
    assert rows(forked, "f") == before


def test_what_was_added_to_the_fork_since_is_appended_by_the_next_merge(forked: Store):
    merge(forked, "f")
    add(forked, "s", "between")
    add(forked, "f", "five")
    merge(forked, "f")
    assert contents(forked, "s") == ["one", "two", "three", "four", "between", "five"]


def test_what_was_merged_and_then_deleted_does_not_come_back(forked: Store):
    [first, _] = merge(forked, "f")
    forked.delete_message("s", first.id)
    assert merge(forked, "f") == []
    assert contents(forked, "s") == ["one", "two", "four"]


def test_what_is_deleted_in_the_fork_is_not_merged(forked: Store):
    forked.delete_message("f", "three")
    merge(forked, "f")
    assert contents(forked, "s") == ["one", "two", "four"]


def test_an_id_that_the_original_has_got_for_another_message_is_no_hindrance(forked: Store):
    add(forked, "s", "three")
    merge(forked, "f")
    assert contents(forked, "s") == ["one", "two", "three", "three", "four"]


def test_replies_are_replies_to_the_same_messages_after_the_merge(forked: Store):
    forked.add_messages("f", [new("to a copy", parent="one"), new("to an own", parent="three")])
    merged = {each.content: each for each in merge(forked, "f")}
    assert merged["to a copy"].parent == "one"
    assert merged["to an own"].parent == merged["three"].id


def test_a_reply_to_what_the_original_has_not_got_is_a_reply_to_nothing(forked: Store):
    forked.append("f", new("reply", parent="three"))
    forked.delete_message("f", "three")
    assert [(each.content, each.parent) for each in merge(forked, "f")] == [("four", None), ("reply", None)]


def test_a_fork_of_a_fork_is_merged_into_its_own_original(forked: Store):
    fork(forked, "f", id="g")
    add(forked, "g", "five")
    merge(forked, "g")
    assert contents(forked, "s") == ["one", "two"]
    merge(forked, "f")
    assert contents(forked, "s") == ["one", "two", "three", "four", "five"]


def test_what_was_merged_is_the_originals_own_in_its_later_forks(forked: Store):
    merge(forked, "f")
    later = fork(forked, "s").id
    assert {(each.origin or {})["session"] for each in forked.messages(later)} == {"s"}
    assert merge(forked, later) == []


def test_an_archived_original_is_active_again_once_something_was_merged(forked: Store):
    forked.update("s", fields={"status": "archived"})
    merge(forked, "f")
    assert forked.get("s").status == "active"


def test_a_deleted_original_takes_nothing(forked: Store):
    forked.delete("s")
    with pytest.raises(SessionNotFound):
        merge(forked, "f")
    assert forked.get("s", deleted=True).deleted_at is not None


def test_a_session_that_is_no_fork_is_not_merged(forked: Store):
    with pytest.raises(InvalidInput, match="not a fork"):
        merge(forked, "s")
    with pytest.raises(SessionNotFound):
        merge(forked, "unknown")


def test_an_original_without_the_fork_point_takes_nothing(store: Store):
    store.create(id="s", title="Another session of this name")
    store.create(id="f", title="F", forked_from={"session": "s", "message": "one"})
    add(store, "f", "three")
    with pytest.raises(MessageNotFound):
        merge(store, "f")
    assert contents(store, "s") == []


def test_a_fork_under_an_id_that_was_merged_from_before_is_merged_whole(forked: Store):
    first = {each.id for each in merge(forked, "f")}
    forked.execute("UPDATE sessions SET life = 2 WHERE id = 'f'")
    second = {each.id for each in merge(forked, "f")}
    assert len(first | second) == 4


def test_eight_who_merge_at_once_merge_once(tmp_path: Path, forked: Store):
    gate = threading.Barrier(8)
    merged: list[int] = []

    def run() -> None:
        with Store(tmp_path / "steno.db") as own:
            gate.wait()
            merged.append(len(merge(own, "f")))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(merged) == [0] * 7 + [2]
    assert contents(forked, "s") == ["one", "two", "three", "four"]


@pytest.fixture
def pair(stores: Stores) -> tuple[Store, Store]:
    """Two devices that both have ``s`` of two messages and its fork ``f`` with two of its own."""
    here, there = stores.open(), stores.open()
    here.create(id="s", title="S")
    add(here, "s", "one", "two")
    fork(here, "s", id="f")
    add(here, "f", "three", "four")
    take(there, stores.news(here))
    return here, there


def news(stores: Stores, store: Store) -> list[Batch]:
    floor = stores.sent.get(store.device, 0)
    data, _, _ = local_changes(store, since=floor, floor=floor, max_bytes=1 << 30)
    return [stores.news(store)] if data else []


def exchange(stores: Stores, here: Store, there: Store) -> None:
    ours, theirs = news(stores, here), news(stores, there)
    take(here, *theirs)
    take(there, *ours)
    assert state(here) == state(there)


def test_two_devices_that_merge_one_fork_have_merged_it_once(stores: Stores, pair: tuple[Store, Store]):
    here, there = pair
    merge(here, "f")
    merge(there, "f")
    exchange(stores, here, there)
    assert contents(here, "s") == ["one", "two", "three", "four"]
    assert merge(here, "f") == merge(there, "f") == []
    assert divergences(here, "s") == []


def test_two_devices_that_merge_at_different_times_lose_nothing_and_repeat_nothing(
    stores: Stores, pair: tuple[Store, Store]
):
    here, there = pair
    merge(here, "f")
    add(here, "s", "here")
    add(there, "s", "there")
    add(there, "f", "five")
    merge(there, "f")
    exchange(stores, here, there)
    assert merge(here, "f") == []
    assert sorted(contents(here, "s")) == sorted(["one", "two", "three", "four", "five", "here", "there"])


def test_a_message_of_another_device_under_an_id_of_the_fork_stays_another_message(
    stores: Stores, pair: tuple[Store, Store]
):
    here, there = pair
    merge(here, "f")
    there.append("s", NewMessage(role="user", content="mine", id="three"))
    merge(there, "f")
    exchange(stores, here, there)
    assert sorted(contents(here, "s")) == sorted(["one", "two", "three", "four", "mine"])


def test_what_was_merged_here_and_deleted_and_merged_there_is_shown_on_both(stores: Stores, pair: tuple[Store, Store]):
    here, there = pair
    [first, _] = merge(here, "f")
    here.delete_message("s", first.id)
    merge(there, "f")
    exchange(stores, here, there)
    assert contents(here, "s") == contents(there, "s") == ["one", "two", "three", "four"]


# Splitting


@pytest.fixture
def diverged(stores: Stores) -> tuple[Store, Store]:
    """Two devices that each continued ``s`` and then met: a, b, b1 by one, c, c1 by the other."""
    here, there = stores.open(), stores.open()
    here.create(id="s", title="S", state={"step": 1})
    add(here, "s", "a")
    take(there, stores.news(here))
    add(here, "s", "b", "b1")
    add(there, "s", "c", "c1")
    exchange(stores, here, there)
    return here, there


def test_where_two_devices_continued_one_session_is_a_divergence(diverged: tuple[Store, Store]):
    for store in diverged:
        assert contents(store, "s") == ["a", "b", "b1", "c", "c1"]
        [found] = divergences(store, "s")
        assert (found.anchor, found.at, found.run, found.against) == ("a", "c", ("c", "c1"), "b")


@pytest.mark.fault(22)
def test_a_split_moves_the_second_run_into_a_fork(diverged: tuple[Store, Store]):
    store, _ = diverged
    made = split(store, "s")
    assert contents(store, "s") == ["a", "b", "b1"]
    assert contents(store, made.id) == ["a", "c", "c1"]
    assert made.forked_from == {"session": "s", "message": "a"}
    assert (made.title, made.message_count, made.state) == ("Fork of S", 3, {"step": 1})
    assert divergences(store, "s") == divergences(store, made.id) == []


def test_the_id_of_a_split_run_begins_as_it_was_asked_to(diverged: tuple[Store, Store]):
    here, there = diverged
    made = split(here, "s", prefix="space/")
    assert made.id.startswith("space/")
    assert made.id == "space/" + split(there, "s").id


def test_a_split_that_is_merged_brings_the_run_back(diverged: tuple[Store, Store]):
    store, _ = diverged
    merge(store, split(store, "s").id)
    assert contents(store, "s") == ["a", "b", "b1", "c", "c1"]
    assert divergences(store, "s") == []


def test_two_devices_that_split_one_run_make_one_fork(stores: Stores, diverged: tuple[Store, Store]):
    here, there = diverged
    assert split(here, "s").id == split(there, "s").id
    exchange(stores, here, there)
    assert here.count() == (2, 6)
    assert contents(there, "s") == ["a", "b", "b1"]


@pytest.mark.fault(22)
def test_a_split_on_one_device_is_one_on_the_other(stores: Stores, diverged: tuple[Store, Store]):
    here, there = diverged
    made = split(here, "s")
    exchange(stores, here, there)
    assert contents(there, made.id) == ["a", "c", "c1"]


def test_what_the_other_device_had_added_to_a_run_that_is_split_stays_and_can_be_split(
    stores: Stores, diverged: tuple[Store, Store]
):
    here, there = diverged
    add(there, "s", "c2")
    first = split(here, "s")
    exchange(stores, here, there)
    assert contents(here, "s") == ["a", "b", "b1", "c2"]
    second = split(here, "s")
    assert contents(here, second.id) == ["a", "c2"]
    assert first.id != second.id


def test_who_goes_on_with_a_session_after_a_split_does_not_diverge(stores: Stores, diverged: tuple[Store, Store]):
    here, there = diverged
    split(here, "s")
    exchange(stores, here, there)
    add(there, "s", "b2")
    exchange(stores, here, there)
    add(here, "s", "b3")
    assert contents(here, "s") == ["a", "b", "b1", "b2", "b3"]
    assert divergences(here, "s") == []


def test_a_run_that_was_split_restored_and_split_again_makes_a_second_fork(diverged: tuple[Store, Store]):
    store, _ = diverged
    first = split(store, "s")
    for each in ("c", "c1"):
        store.edit_message("s", each, {"content": each})
    assert contents(store, "s") == ["a", "b", "b1", "c", "c1"]
    second = split(store, "s")
    assert first.id != second.id
    assert contents(store, second.id) == ["a", "c", "c1"]


def test_two_devices_that_split_a_restored_run_once_more_make_one_fork(stores: Stores, diverged: tuple[Store, Store]):
    here, there = diverged
    split(here, "s")
    here.edit_message("s", "c", {"content": "c again"})
    exchange(stores, here, there)
    second = split(here, "s")
    assert second.id == split(there, "s").id
    exchange(stores, here, there)
    assert [contents(here, each) for each in ("s", second.id)] == [["a", "b", "b1"], ["a", "c again"]]


def test_of_several_runs_the_one_that_is_named_is_split(stores: Stores, diverged: tuple[Store, Store]):
    here, _ = diverged
    third = stores.open()
    source = stores.open()
    source.create(id="x", title="X")
    add(source, "x", "a")
    first = stores.news(source)
    for each in (here, third):
        take(each, first)
    for each, content in ((source, "b"), (here, "c"), (third, "d")):
        add(each, "x", content)
    take(source, stores.news(here), stores.news(third))
    assert [each.at for each in divergences(source, "x")] == ["c", "d"]
    with pytest.raises(AmbiguousSplit, match="at c, d"):
        split(source, "x")
    made = split(source, "x", at="d")
    assert contents(source, made.id) == ["a", "d"]
    assert contents(source, "x") == ["a", "b", "c"]


@pytest.mark.parametrize("at", [None, "a", "unknown"])
def test_where_nothing_diverged_there_is_nothing_to_split(store: Store, at: str | None):
    store.create(id="s", title="S")
    add(store, "s", "a", "b")
    before = rows(store, "s")
    with pytest.raises(InvalidInput, match="diverged"):
        split(store, "s", at=at)
    assert rows(store, "s") == before
    assert store.count() == (1, 2)


def test_a_place_that_is_no_divergence_is_not_split(diverged: tuple[Store, Store]):
    store, _ = diverged
    with pytest.raises(InvalidInput, match="at b1"):
        split(store, "s", at="b1")


@pytest.mark.parametrize("call", [divergences, split])
def test_an_unknown_session_has_no_divergences(store: Store, call: Any):
    with pytest.raises(SessionNotFound):
        call(store, "unknown")


def test_the_divergences_of_a_session_of_one_device_cost_one_statement(store: Store):
    store.create(id="s", title="S")
    add(store, "s", *map(str, range(100)))
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    assert divergences(store, "s") == []
    store.connection.set_trace_callback(None)
    assert len(statements) == 2


def test_of_any_part_of_a_session_those_are_told_that_begin_in_it(tmp_path: Path):
    rng = random.Random(3)
    clock = [0]
    devices = [Device(name, tmp_path, clock, rng) for name in "ab"]
    one, other = (device.store for device in devices)
    one.create(id="s", title="S")
    for number in range(60):
        clock[0] += 1
        if number % 8 == 0:
            for device, source in itertools.permutations(devices):
                source.publish(1 << 20)
                device.pull(source, rng, holes=0)
        for store in rng.sample([one, other], rng.randint(1, 2)):
            shown = [each.id for each in store.messages("s")]
            if shown and rng.random() < 0.2:
                store.delete_message("s", rng.choice(shown))
            after = rng.choice(shown) if shown and rng.random() < 0.15 else None
            store.append("s", NewMessage(role="user", content="text", after=after))
    shown, whole = [each.id for each in one.messages("s")], divergences(one, "s")
    assert len(whole) > 3
    for first, last in itertools.combinations(range(len(shown) + 1), 2):
        part = shown[first:last]
        assert divergences(one, "s", among=part) == [each for each in whole if each.at in part]
    for store in (one, other):
        store.close()


def test_the_end_of_a_long_session_costs_no_look_at_all_of_it(store: Store):
    store.create(id="s", title="S")
    add(store, "s", *map(str, range(5000)))
    steps: list[int] = []
    store.connection.set_progress_handler(lambda: steps.append(1), 100)
    assert divergences(store, "s", among=["4998", "4999"]) == []
    store.connection.set_progress_handler(None, 0)
    assert len(steps) < 20


# Everything at once


@pytest.mark.parametrize("seed", range(12))
def test_devices_that_fork_merge_and_split_end_with_equal_sessions(tmp_path: Path, seed: int):
    rng = random.Random(seed)
    clock = [0]
    devices = [Device(name, tmp_path, clock, rng) for name in "ab"]
    devices[0].store.create(id="s", title="S")
    said: list[str] = []
    for _ in range(60):
        clock[0] += rng.randint(0, 20)
        device = rng.choice(devices)
        _act(device.store, rng, said)
        if rng.random() < 0.3:
            device.publish(1 << 20)
            rng.choice(devices).pull(device, rng, holes=0.3)
    for _ in range(2):
        for each in devices:
            each.publish(1 << 20)
        for each, other in itertools.permutations(devices, 2):
            each.pull(other, rng, holes=0)
    one, two = (device.store for device in devices)
    assert state(one) == state(two)
    shown = [content for (session,) in one.execute("SELECT id FROM sessions") for content in contents(one, session)]
    assert set(shown) == set(said)
    for device in devices:
        device.store.close()


def _act(store: Store, rng: random.Random, said: list[str]) -> None:
    sessions = [row[0] for row in store.execute("SELECT id FROM sessions ORDER BY id").fetchall()]
    if not sessions:
        return
    session, choice = rng.choice(sessions), rng.random()
    if choice < 0.6:
        said.append(f"text {len(said)}")
        store.append(session, NewMessage(role="user", content=said[-1]))
    elif choice < 0.75 and len(sessions) < 6:
        fork(store, session, at=rng.choice([None, *(each.id for each in store.messages(session))]))
    elif found := divergences(store, session):
        split(store, session, at=rng.choice(found).at)
    elif ancestors(store, session):
        with suppress(SessionNotFound, MessageNotFound):  # the original, or the place in it, has not arrived
            merge(store, session)
