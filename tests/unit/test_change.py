"""What is sent: all that was written here since, once, whole, and nothing that was pulled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import Batch, SessionChange, decode_batch, encode_batch, local_changes
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.state import load
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript

NOW_MS = 1_800_000_000_000
ALL = 1 << 30


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    clock = itertools.count(NOW_MS).__next__
    local, other = (Store(tmp_path / f"{name}.db", now_ms=clock) for name in "ab")
    yield local, other
    local.close()
    other.close()


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]


def sent(store: Store, since: int = 0, floor: int | None = None) -> Batch | None:
    """Everything that was written here behind a number of the feed."""
    data, seq, complete = local_changes(store, since=since, floor=since if floor is None else floor, max_bytes=ALL)
    assert (seq, complete) == (store.last_seq, True)
    return decode_batch(data) if data else None


def the_only(batch: Batch | None) -> SessionChange:
    assert batch is not None
    (change,) = batch.sessions
    return change


def take(store: Store, batch: Batch | None) -> None:
    assert batch is not None
    for part in slices(batch):
        with store.transaction():
            apply(store, batch, part, done=Applied())


def add(store: Store, *contents: str) -> None:
    store.add_messages("s", [NewMessage(role="user", content=each, id=each) for each in contents])


def test_where_nothing_was_written_nothing_is_sent(store: Store):
    assert local_changes(store, since=0, floor=0, max_bytes=ALL) == (b"", 0, True)


def test_a_new_session_is_sent_whole(store: Store):
    store.create(id="s", title="T", tags=["a"], metadata={"k": 1})
    add(store, "one", "two")
    change = the_only(sent(store))
    assert (change.id, change.life, len(change.births)) == ("s", 1, 1)
    assert [born.id for born in change.messages] == ["one", "two"]
    assert sorted(state.path for state in change.registers) == ["metadata/k", "tags/a", "title"]


def test_what_was_sent_is_not_sent_again(store: Store):
    store.create(id="s")
    add(store, "one")
    assert sent(store, since=store.last_seq) is None


def test_a_message_that_was_added_is_sent_alone(store: Store):
    store.create(id="s", title="T")
    add(store, "one")
    since = store.last_seq
    add(store, "two")
    change = the_only(sent(store, since))
    assert [born.id for born in change.messages] == ["two"]
    assert change.registers == []


def test_an_edited_message_is_sent_as_the_register_alone_in_its_whole_state(store: Store):
    store.create(id="s")
    add(store, "one")
    store.edit_message("s", "one", {"content": "1"})
    since = store.last_seq
    store.edit_message("s", "one", {"content": "2"})
    change = the_only(sent(store, since))
    assert change.messages == []
    ((message, path, (opened, known)),) = [(each.message, each.path, each.state) for each in change.registers]
    assert (message, path) == ("one", "content")
    assert [value[2] for value in opened] == [b'"2"']
    assert known == [(2, opened[0][0])]


def test_a_message_that_was_born_and_edited_since_is_sent_with_its_registers(store: Store):
    store.create(id="s")
    add(store, "one")
    store.edit_message("s", "one", {"content": "1", "metadata": {"k": 1}})
    change = the_only(sent(store))
    assert [born.content for born in change.messages] == ["1"]
    assert {state.path for state in change.registers} >= {"content", "metadata/k"}


def test_only_the_registers_that_were_written_are_sent(store: Store):
    store.create(id="s", title="T", tags=["a"], metadata={"k": 1})
    since = store.last_seq
    store.update("s", metadata={"other": 2})
    assert [state.path for state in the_only(sent(store, since)).registers] == ["metadata/other"]


def test_what_was_pulled_is_not_sent_back(stores: tuple[Store, Store]):
    local, other = stores
    other.create(id="s", title="T", tags=["a"])
    add(other, "one")
    other.edit_message("s", "one", {"content": "1"})
    take(local, sent(other))
    assert sent(local) is None


def test_a_write_to_a_pulled_session_is_sent_without_what_was_pulled(
    stores: tuple[Store, Store],
):
    local, other = stores
    other.create(id="s", title="T")
    add(other, "one")
    take(local, sent(other))
    add(local, "two")
    local.update("s", fields={"status": "paused"})
    change = the_only(sent(local))
    assert [born.id for born in change.messages] == ["two"]
    assert [state.path for state in change.registers] == ["status"]


def test_what_another_device_wrote_since_does_not_come_along(stores: tuple[Store, Store]):
    local, other = stores
    local.create(id="s", title="T")
    take(other, sent(local))
    floor = local.last_seq
    other.update("s", fields={"provider": "theirs"})
    take(local, sent(other, floor=0))
    assert sent(local, floor) is None
    local.update("s", fields={"model": "ours"})
    assert [state.path for state in the_only(sent(local, floor)).registers] == ["model"]


def test_a_register_that_was_merged_here_is_sent_with_all_it_knows(
    stores: tuple[Store, Store],
):
    local, other = stores
    local.create(id="s", title="T")
    take(other, sent(local))
    other.update("s", fields={"title": "theirs"})
    take(local, sent(other))
    local.update("s", fields={"title": "ours"})
    ((opened, known),) = [state.state for state in the_only(sent(local)).registers if state.path == "title"]
    assert [value[2] for value in opened] == [b'"ours"']
    assert {clock for _, clock in known} >= {opened[0][0]}
    assert len(known) == 2


def test_an_imported_session_is_sent_as_derived(store: Store):
    new = NewMessage(id="m", role="user", content="x")
    transcript = Transcript(id="s", title="T", created_ms=1, source={"tool": "x"}, messages=[new])
    take_in(store, transcript)
    change = the_only(sent(store))
    assert {born.author % 4 for born in change.messages} == {1}


def test_the_devices_of_all_numbers_are_named(stores: tuple[Store, Store]):
    local, other = stores
    other.create(id="s")
    take(local, sent(other))
    add(local, "one")
    batch = sent(local)
    assert batch is not None
    assert batch.devices == {0: local.device, 1: other.device}


def test_a_large_change_goes_in_parts_that_together_are_the_whole(
    stores: tuple[Store, Store],
):
    local, other = stores
    for session in ("s", "t"):
        local.create(id=session, title=session)
        local.add_messages(session, [NewMessage(role="user", content=f"{at} " + "x" * 100) for at in range(20)])
    local.edit_message("s", next(local.messages("s")).id, {"content": "edited"})
    since, complete, parts = 0, False, 0
    while not complete:
        data, since, complete = local_changes(local, since=since, floor=0, max_bytes=500)
        if data:
            take(other, decode_batch(data))
            parts += 1
    assert parts > 5
    assert since == local.last_seq
    for session in ("s", "t"):
        assert other.get(session) == local.get(session)
        assert list(other.messages(session)) == list(local.messages(session))


def test_a_row_that_is_written_between_two_parts_is_sent_with_its_new_state(
    stores: tuple[Store, Store],
):
    local, other = stores
    local.create(id="s", title="T")
    add(local, "one", "two", "three")
    data, since, complete = local_changes(local, since=0, floor=0, max_bytes=1)
    assert not complete
    take(other, decode_batch(data))
    local.edit_message("s", "two", {"content": "2"})
    while not complete:
        data, since, complete = local_changes(local, since=since, floor=0, max_bytes=1)
        if data:
            take(other, decode_batch(data))
    assert [message.content for message in other.messages("s")] == ["one", "2", "three"]
    row = other.find("s")
    assert row is not None
    assert load(other, row.no, None, "title").shown == b'"T"'


@given(st.dictionaries(st.integers(0, 5), st.sampled_from(["a" * 12, "b" * 12])))
def test_a_batch_is_read_back(devices: dict[int, str]):
    change = SessionChange("s", 1, [], 0, [], [])
    batch = decode_batch(encode_batch(devices, [change]))
    assert (batch.devices, batch.sessions) == (devices, [change])
