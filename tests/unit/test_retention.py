"""What is archived and deleted by age or by what it is, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage import retention
from steno.storage.listing import Filter
from steno.storage.model import NewMessage
from steno.storage.retention import SLICE, archive_inactive, delete_where, select
from steno.storage.store import Store

DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000


class Wall:
    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def store(tmp_path: Path, wall: Wall) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=wall) as opened:
        yield opened


def session(store: Store, id: str, **fields: str) -> str:
    store.create(id=id, **fields)  # pyright: ignore[reportArgumentType]
    store.append(id, NewMessage(role="user", content=id))
    return id


def by_status(store: Store) -> dict[str, str]:
    return {each.id: each.status for each in store.sessions()}


@pytest.mark.check("PYA-11", "MDB-24")
def test_what_was_last_written_to_at_the_time_or_before_is_archived_and_later_ones_are_not(store: Store, wall: Wall):
    session(store, "at the time")
    wall.now_ms += 3_600_000
    session(store, "later")
    wall.now_ms = NOW_MS + 30 * DAY_MS
    assert archive_inactive(store, before_ms=wall.now_ms - 30 * DAY_MS) == 1
    assert by_status(store) == {"at the time": "archived", "later": "active"}
    assert [each.content for each in store.messages("at the time")] == ["at the time"]


@pytest.mark.check("PYA-11")
def test_archiving_what_is_inactive_again_archives_nothing(store: Store, wall: Wall):
    session(store, "a")
    session(store, "paused", status="paused")
    assert archive_inactive(store, before_ms=NOW_MS) == 2
    before = store.last_seq
    wall.now_ms += DAY_MS
    assert archive_inactive(store, before_ms=wall.now_ms) == 0
    assert store.last_seq == before


@pytest.mark.check("PYA-11")
def test_an_archived_session_can_be_made_active_again(store: Store):
    session(store, "a")
    archive_inactive(store, before_ms=NOW_MS)
    store.update("a", fields={"status": "active"})
    assert by_status(store) == {"a": "active"}


def test_deleted_sessions_are_not_archived(store: Store):
    session(store, "a")
    store.delete("a")
    assert archive_inactive(store, before_ms=NOW_MS) == 0
    store.restore("a")
    assert by_status(store) == {"a": "active"}


def test_more_than_a_slice_is_archived_and_deleted(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "SLICE", 2)
    ids = {session(store, str(at)) for at in range(5)}
    assert archive_inactive(store, before_ms=NOW_MS) == 5
    assert {*delete_where(store, Filter(status="archived"))} == ids
    assert list(store.sessions()) == []


def test_what_is_written_to_meanwhile_is_neither_archived_nor_deleted(
    store: Store, wall: Wall, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "SLICE", 1)
    for each in ("first", "second"):
        session(store, each)
    update = store.update

    def updated(session_id: str, **fields: object) -> object:
        wall.now_ms += DAY_MS
        store.append("first" if session_id == "second" else "second", NewMessage(role="user", content="meanwhile"))
        return update(session_id, **fields)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "update", updated)
    assert archive_inactive(store, before_ms=NOW_MS) == 1


def test_sessions_are_deleted_by_what_they_are(store: Store):
    session(store, "mine", user_id="me", title="Draft one")
    session(store, "mine too", user_id="me", title="Kept")
    session(store, "yours", user_id="you", title="Draft two")
    assert delete_where(store, Filter(user_id="me", title="draft")) == ["mine"]
    assert {each.id for each in store.sessions()} == {"mine too", "yours"}
    assert [each.id for each in store.sessions(deleted=True)] == ["mine"]


def test_sessions_are_deleted_by_age(store: Store, wall: Wall):
    session(store, "old")
    wall.now_ms += DAY_MS
    session(store, "new")
    assert delete_where(store, Filter(before_ms=wall.now_ms)) == ["old"]


def test_a_dry_run_names_what_it_would_delete_and_deletes_nothing(store: Store):
    for each in ("a", "b"):
        session(store, each)
    before = store.last_seq
    assert {*delete_where(store, Filter(), dry_run=True)} == {*select(store, Filter())} == {"a", "b"}
    assert store.last_seq == before


def test_deleting_again_deletes_nothing(store: Store):
    session(store, "a")
    assert [delete_where(store, Filter()), delete_where(store, Filter())] == [["a"], []]


def test_how_many_were_deleted_is_told_slice_by_slice(store: Store) -> None:
    with store.transaction():
        for number in range(SLICE + 1):
            store.create(id=f"more-{number}")
    heard: list[int] = []
    assert len(delete_where(store, Filter(), told=heard.append)) == heard[-1]
    assert heard[0] == SLICE
