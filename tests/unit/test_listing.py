"""Which sessions a list shows, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from steno.storage.errors import AmbiguousRef, SessionNotFound
from steno.storage.listing import Filter, listed, place, resolve_deleted
from steno.storage.model import NewMessage
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "steno.db", now_ms=lambda: 5_000)
    store.create(id="a", title="Übung OAuth", created_ms=3_000, tags=["go", "rest"], provider="Anthropic")
    store.create(id="d", title="again", metadata={"project": "x"}, user_id="ada", created_ms=500)
    store.create(id="b", title="oauth again", created_ms=1_000, tags=["go"], status="paused")
    store.create(id="c", title="Zebra", created_ms=2_000)
    store.append("c", NewMessage(role="user", content="x", timestamp="1970-01-01T00:00:02Z"))
    return store


def ids(store: Store, chosen: Filter = Filter(), **how: object) -> list[str]:  # noqa: B008
    return [each.id for each in listed(store, chosen, **how)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (Filter(), ["a", "c", "b", "d"]),
        (Filter(title="OAUTH"), ["a", "b"]),
        (Filter(title="üBUNG"), ["a"]),
        (Filter(title="%"), []),
        (Filter(tags=("go",)), ["a", "b"]),
        (Filter(tags=("go", "rest")), ["a"]),
        (Filter(project="x"), ["d"]),
        (Filter(provider="anthropic"), ["a"]),
        (Filter(status="paused"), ["b"]),
        (Filter(user_id="ada"), ["d"]),
        (Filter(shared=True), []),
        (Filter(since_ms=2_000), ["a", "c"]),
        (Filter(before_ms=2_000), ["b", "d"]),
        (Filter(since_ms=2_000, before_ms=3_000), ["c"]),
        (Filter(title="oauth", status="paused", tags=("go",)), ["b"]),
    ],
)
def test_a_filter_chooses_what_meets_all_of_it(store: Store, chosen: Filter, found: list[str]) -> None:
    assert ids(store, chosen) == found


@pytest.mark.parametrize(("sort", "first"), [("date", "a"), ("title", "d"), ("messages", "c")])
def test_a_list_can_be_sorted(store: Store, sort: str, first: str) -> None:
    assert ids(store, sort=sort)[0] == first


@pytest.mark.parametrize("sort", ["date", "title", "messages"])
def test_reversed_is_exactly_the_other_way_around(store: Store, sort: str) -> None:
    assert ids(store, sort=sort, reverse=True) == ids(store, sort=sort)[::-1]


@pytest.mark.parametrize("sort", ["date", "title", "messages"])
@pytest.mark.parametrize("reverse", [False, True])
def test_behind_the_place_of_a_session_goes_on_the_list(store: Store, sort: str, reverse: bool) -> None:
    store.create(id="e", title="ZEBRA", created_ms=1_000)  # as "Zebra" is sorted, and of the time of "b"
    whole = list(listed(store, Filter(), sort=sort, reverse=reverse))
    for at, each in enumerate(whole):
        after = place(each, sort=sort)
        assert ids(store, sort=sort, reverse=reverse, after=after) == [one.id for one in whole[at + 1 :]]


def test_a_deleted_session_answers_to_its_id_its_beginning_and_its_title(store: Store) -> None:
    store.create(id="deleted-1", title="Gone")
    store.delete("deleted-1")
    assert [resolve_deleted(store, ref) for ref in ("deleted-1", "del", "Gone")] == ["deleted-1"] * 3


def test_a_live_session_is_no_deleted_one(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        resolve_deleted(store, "a")


def test_two_deleted_sessions_of_one_beginning_are_ambiguous(store: Store) -> None:
    for name in ("d1", "d2"):
        store.create(id=name)
        store.delete(name)
    with pytest.raises(AmbiguousRef):
        resolve_deleted(store, "d")
