"""What a store wrote since a fork stands under its new id, wherever a stamp stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.actors import actor_of
from steno.storage.deletion import in_force, purge_knew
from steno.storage.doctor import examine
from steno.storage.history import Past
from steno.storage.identity import Moment, is_written_since, moment, reidentify
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.storage.stamps import BY_HAND
from steno.storage.state import birth_stamps, find_message, load
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    ticks = iter(range(1_800_000_000_000, 1_900_000_000_000))
    with Store(tmp_path / "steno.db", now_ms=lambda: next(ticks)) as made:
        made.create(id="one", title="Before")
        made.append("one", NewMessage(id="m1", role="user", content="before"))
        yield made


def now(store: Store) -> Moment:
    with store.transaction():
        return moment(store, store.last_seq)


def moved(store: Store, fork: Moment, told: Moment | None = None) -> tuple[str, str]:
    old = store.device
    with store.transaction():
        return old, reidentify(store, fork=fork, told=told or fork)


def births(store: Store, message: str, session: str = "one") -> set[str]:
    row = store.row(session)
    assert row is not None
    found = find_message(store, row.no, message)
    assert found is not None
    return {stamp.device for stamp in birth_stamps(store, found)}


def test_only_what_was_written_since_is_born_under_the_new_id(store: Store):
    fork = now(store)
    store.append("one", NewMessage(id="m2", role="user", content="since"))
    old, new = moved(store, fork)
    assert (births(store, "m1"), births(store, "m2")) == ({old}, {new})
    assert [each.content for each in store.messages("one")] == ["before", "since"]


def test_a_birth_that_others_were_told_of_stays_beside_the_new_one(store: Store):
    fork = now(store)
    store.append("one", NewMessage(id="m2", role="user", content="told"))
    told = now(store)
    store.append("one", NewMessage(id="m3", role="user", content="not told"))
    old, new = moved(store, fork, told)
    assert (births(store, "m2"), births(store, "m3")) == ({old, new}, {new})


def test_what_is_written_next_is_written_under_the_new_id_by_every_process(store: Store):
    fork = now(store)
    with Store(store.path) as other:
        other.append("one", NewMessage(id="m2", role="user", content="since"))
        _, new = moved(store, fork)
        other.append("one", NewMessage(id="m3", role="user", content="later"))
    assert births(store, "m3") == {new}


def test_a_register_claims_to_know_of_the_old_id_what_it_knew_at_the_fork(store: Store):
    no = store.live("one").no
    before = load(store, no, None, "title").known
    fork = now(store)
    store.update("one", fields={"title": "Since"})
    clock = max(load(store, no, None, "title").known.values())
    old, new = moved(store, fork)
    register = load(store, no, None, "title")
    assert {stamp.device for stamp in register.open} == {new}
    assert register.known == {**before, (new, BY_HAND): clock}
    assert (old, BY_HAND) in before


def test_a_register_that_others_were_told_of_knows_what_it_knew(store: Store):
    no = store.live("one").no
    fork = now(store)
    store.update("one", fields={"title": "Told"})
    told = load(store, no, None, "title").known
    old, new = moved(store, fork, now(store))
    register = load(store, no, None, "title")
    assert register.known == {**told, (new, BY_HAND): told[old, BY_HAND]}
    assert {stamp.device for stamp in register.open} == {new}


def test_what_a_register_was_since_then_is_told_under_the_new_id(store: Store):
    fork = now(store)
    store.update("one", fields={"title": "Since"})
    between = store.last_seq
    store.update("one", fields={"title": "Later"})
    old, new = moved(store, fork)
    row = store.live("one")
    assert {stamp.device for stamp in Past(store, row, between).register(None, "title").open} == {new}
    assert {stamp.device for stamp in Past(store, row, fork.seq).register(None, "title").open} == {old}


def test_a_deletion_knows_the_own_messages_under_the_new_id_and_no_more_of_the_old_one(store: Store):
    fork = now(store)
    store.append("one", NewMessage(id="m2", role="user", content="since"))
    newest = store.one("SELECT max(clock) FROM messages")[0]
    store.delete("one")
    old, new = moved(store, fork)
    row = store.row("one")
    assert row is not None
    deleted = in_force(load(store, row.no, None, "deleted"))
    assert deleted is not None
    assert deleted.upto == {(old, BY_HAND): fork.clock, (new, BY_HAND): newest}
    assert store.get("one", deleted=True).deleted_at is not None


def test_a_purge_knows_the_own_messages_under_the_new_id(store: Store):
    fork = now(store)
    store.append("one", NewMessage(id="m2", role="user", content="since"))
    purge_session(store, "one")
    old, new = moved(store, fork)
    row = store.row("one")
    assert row is not None
    knew = purge_knew(load(store, row.no, None, "purged"))
    assert knew.upto[old, BY_HAND] == fork.clock
    assert knew.upto[new, BY_HAND] > fork.clock


def test_a_deleted_message_stays_deleted(store: Store):
    fork = now(store)
    store.edit_message("one", "m1", {"content": "since"})
    store.delete_message("one", "m1")
    moved(store, fork)
    assert list(store.messages("one")) == []


def test_leaves_of_metadata_and_tags_stay_as_they_are_shown(store: Store):
    fork = now(store)
    store.update("one", metadata={"a": {"b": 1}}, add_tags=["x", "y"])
    store.update("one", metadata={"a": {"b": {"c": 2}}})
    before = store.get("one")
    moved(store, fork)
    assert store.get("one") == before
    assert [each for each in examine(store) if not each.ok] == []


def test_who_wrote_is_known_under_the_new_id(store: Store):
    fork = now(store)
    with store.acting("Ann"):
        store.append("one", NewMessage(id="m2", role="user", content="since"))
    old, new = moved(store, fork)
    clock = store.one("SELECT clock FROM messages WHERE id = 'm2'")[0]
    assert actor_of(store, store.device_no(new), clock) == "Ann"
    assert actor_of(store, store.device_no(old), clock) is None


def test_the_store_has_a_new_name_and_remembers_its_id(store: Store):
    name = store.store_name
    old, new = moved(store, now(store))
    assert store.store_name != name
    assert (store.device, store.former_devices[0]) == (new, old)


@pytest.mark.parametrize("writes", ["append", "edit", "title"])
def test_whether_something_was_written_since_is_known(store: Store, writes: str):
    since = store.last_seq
    assert not is_written_since(store, since, since)
    if writes == "append":
        store.append("one", NewMessage(role="user", content="since"))
    elif writes == "edit":
        store.edit_message("one", "m1", {"content": "since"})
    else:
        store.update("one", fields={"title": "Since"})
    assert is_written_since(store, since, since)
