"""The feed says what changed behind a number, each thing once, and a follower sees each new message once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.apply import Applied, apply
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import InvalidInput, SessionNotFound
from steno.storage.feed import NewArrival, changes, follow
from steno.storage.model import NewMessage
from steno.storage.purge import purge_message, purge_session
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        opened.create(id="s")
        yield opened


def add(store: Store, *ids: str, session: str = "s") -> None:
    store.add_messages(session, [NewMessage(role="user", content=f"text of {id_}", id=id_) for id_ in ids])


def said(store: Store, since: int, **options: object) -> list[tuple[str, str, str | None]]:
    return [(each.kind, each.session, each.message) for each in changes(store, since, **options).items]  # pyright: ignore[reportArgumentType]


def follower(store: Store, since: int | None = None, session: str = "s") -> Iterator[NewArrival]:
    """A follower that ends when nothing is left, instead of waiting."""
    looks = iter(range(2))
    return follow(store, session, since=since, wait_s=0.0, stop=lambda: next(looks, None) is None)


def test_the_feed_of_a_new_store_is_empty(tmp_path: Path) -> None:
    with Store(tmp_path / "empty.db") as empty:
        found = changes(empty)
    assert (found.items, found.cursor, found.more) == ([], 0, False)


@pytest.mark.check("MDB-31")
def test_what_happened_behind_a_cursor_is_told_in_order(store: Store) -> None:
    add(store, "a", "b", "c")
    cursor = changes(store).cursor
    store.edit_message("s", "a", {"content": "other"})
    add(store, "d")
    store.delete_message("s", "b")
    store.update("s", metadata={"topic": "x"})
    store.create(id="t")
    assert said(store, cursor) == [
        ("message.edited", "s", "a"),
        ("message.added", "s", "d"),
        ("message.deleted", "s", "b"),
        ("session.updated", "s", None),
        ("session.created", "t", None),
    ]


def test_what_was_told_is_not_told_again(store: Store) -> None:
    add(store, "a")
    assert changes(store, changes(store).cursor).items == []


def test_a_message_that_was_added_and_edited_since_is_told_once_as_added(store: Store) -> None:
    cursor = changes(store).cursor
    add(store, "a")
    store.edit_message("s", "a", {"content": "other"})
    assert said(store, cursor) == [("message.added", "s", "a")]


def test_deleting_and_restoring_a_session_is_told_of_the_session(store: Store) -> None:
    add(store, "a")
    cursor = changes(store).cursor
    store.delete("s")
    assert said(store, cursor) == [("session.deleted", "s", None)]
    cursor = changes(store).cursor
    store.restore("s")
    assert said(store, cursor) == [("session.updated", "s", None)]


def test_a_purge_is_told_of_what_was_purged(store: Store) -> None:
    add(store, "a", "b")
    cursor = changes(store).cursor
    purge_message(store, "s", "a")
    assert said(store, cursor) == [("message.purged", "s", "a")]
    cursor = changes(store).cursor
    purge_session(store, "s")
    assert said(store, cursor) == said(store, cursor, session="s") == [("session.purged", "s", None)]


def test_a_page_ends_where_its_cursor_says_and_the_next_goes_on_there(store: Store) -> None:
    add(store, *(f"m{at}" for at in range(7)))
    told, cursor, pages = [], 0, 0
    while True:
        page = changes(store, cursor, limit=3)
        told += [each.message for each in page.items]
        cursor, pages = page.cursor, pages + 1
        if not page.more:
            break
    assert told == [None, *(f"m{at}" for at in range(7))]
    assert pages == 3


def test_the_feed_of_one_session_passes_over_the_others(store: Store) -> None:
    store.create(id="t")
    add(store, "a")
    add(store, "b", session="t")
    assert said(store, 0, session="t") == [("session.created", "t", None), ("message.added", "t", "b")]
    assert changes(store, session="s").cursor == store.last_seq


def test_a_message_of_another_device_is_told_as_added(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path / "other.db") as other:
        other.create(id="theirs")
        add(other, "a", session="theirs")
        batch = decode_batch(local_changes(other, since=0, floor=0, max_bytes=1 << 20)[0])
    cursor = changes(store).cursor
    with store.transaction():
        apply(store, batch, batch.sessions, done=Applied())
    assert said(store, cursor) == [("session.created", "theirs", None), ("message.added", "theirs", "a")]


@pytest.mark.parametrize(("since", "limit"), [(-1, 1), (0, 0)])
def test_a_range_that_is_none_is_refused(store: Store, since: int, limit: int) -> None:
    with pytest.raises(InvalidInput):
        changes(store, since, limit=limit)


def test_the_feed_of_an_unknown_session_is_refused(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        changes(store, session="nowhere")
    with pytest.raises(SessionNotFound):
        follow(store, "nowhere")


def test_the_feed_can_be_read_inside_a_transaction(store: Store) -> None:
    with store.transaction():
        add(store, "a")
        assert said(store, 1) == [("message.added", "s", "a")]


@pytest.mark.check("MDB-31")
def test_a_follower_that_comes_back_gets_what_it_missed_once(store: Store) -> None:
    add(store, "a", "b")
    first = next(follower(store, since=0))
    store.create(id="t")
    add(store, "elsewhere", session="t")
    add(store, "c")
    store.edit_message("s", "a", {"content": "told already"})
    store.edit_message("s", "b", {"content": "as it is now"})
    rest = list(follower(store, since=first.cursor))
    assert [each.message.id for each in [first, *rest]] == ["a", "b", "c"]
    assert rest[0].message.content == "as it is now"
    assert list(follower(store, since=rest[-1].cursor)) == []


def test_a_follower_begins_now_unless_it_is_told_otherwise(store: Store) -> None:
    add(store, "a")
    arrivals = follower(store)
    add(store, "b")
    assert [each.message.id for each in arrivals] == ["b"]


def test_a_follower_passes_over_what_was_deleted_before_it_looked(store: Store) -> None:
    add(store, "a", "b")
    store.delete_message("s", "a")
    assert [each.message.id for each in follower(store, since=0)] == ["b"]


def test_a_follower_that_is_far_behind_gets_all_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steno.storage.feed._LITTLE", 2)
    monkeypatch.setattr("steno.storage.feed._LOOK", 3)
    add(store, *(f"m{at}" for at in range(8)))
    store.append("s", NewMessage(role="user", content="between", id="x", after="m2"))
    arrivals = follow(store, "s", since=0, wait_s=0.0)
    assert [next(arrivals).message.id for _ in range(9)] == [*(f"m{at}" for at in range(8)), "x"]


def test_a_follower_does_not_hinder_the_store_it_was_made_from(store: Store) -> None:
    arrivals = follow(store, "s", since=0, wait_s=0.0)
    for number in range(5):
        add(store, f"m{number}")
        assert next(arrivals).message.id == f"m{number}"
