"""The current session is a pointer of one device that never leads to what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.change import local_changes
from steno.storage.current import current_session, set_current
from steno.storage.errors import SessionNotFound
from steno.storage.purge import purge_session
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        yield opened


def test_a_new_store_has_no_current_session(store: Store) -> None:
    store.create(title="There, and not chosen")
    assert current_session(store) is None


def test_the_session_that_was_chosen_last_is_the_current_one(store: Store) -> None:
    for title in ("One", "Two"):
        set_current(store, store.create(id=title).id)
    assert current_session(store) == "Two"


def test_every_process_sees_the_same_current_session(store: Store) -> None:
    set_current(store, store.create(id="k3v9").id)
    with Store(store.path, read_only=True) as other:
        assert current_session(other) == "k3v9"


def test_a_deleted_session_is_not_the_current_one(store: Store) -> None:
    set_current(store, store.create(id="k3v9").id)
    store.delete("k3v9")
    assert current_session(store) is None


def test_a_restored_session_is_the_current_one_again(store: Store) -> None:
    set_current(store, store.create(id="k3v9").id)
    store.delete("k3v9")
    store.restore("k3v9")
    assert current_session(store) == "k3v9"


def test_a_purged_session_is_not_the_current_one(store: Store) -> None:
    set_current(store, store.create(id="k3v9").id)
    purge_session(store, "k3v9")
    assert current_session(store) is None


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_not_there_cannot_become_current(store: Store, gone: bool) -> None:
    set_current(store, store.create(id="kept").id)
    if gone:
        store.create(id="k3v9")
        store.delete("k3v9")
    with pytest.raises(SessionNotFound):
        set_current(store, "k3v9")
    assert current_session(store) == "kept"


def test_choosing_a_session_writes_nothing_that_is_sent(store: Store) -> None:
    store.create(id="k3v9")
    before = store.last_seq
    set_current(store, "k3v9")
    assert local_changes(store, since=before, floor=0, max_bytes=1_000_000) == (b"", before, True)
