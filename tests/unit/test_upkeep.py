"""A store says how large it is, and gives room back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.storage.upkeep import size_bytes, vacuum


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        yield opened


def fill(store: Store) -> None:
    store.create(id="s")
    store.add_messages("s", [NewMessage(role="user", content=f"{at} " * 1000) for at in range(100)])


@pytest.mark.check("COD-38")
def test_the_size_is_that_of_the_file_and_its_log(store: Store) -> None:
    before = size_bytes(store)
    fill(store)
    files = (store.path, store.path.with_name("steno.db-wal"))
    assert size_bytes(store) == sum(path.stat().st_size for path in files) > before


@pytest.mark.check("COD-38")
def test_room_of_what_was_removed_is_given_back(store: Store) -> None:
    fill(store)
    full = size_bytes(store)
    with store.transaction():
        store.execute("DELETE FROM messages")
    given = vacuum(store)
    assert given > 0
    assert size_bytes(store) < full / 2
    assert store.get("s").id == "s"


def test_room_is_not_given_back_inside_a_transaction(store: Store) -> None:
    with store.transaction(), pytest.raises(InvalidInput):
        vacuum(store)


def test_a_store_in_memory_has_a_size(tmp_path: Path) -> None:
    with Store(":memory:") as store:
        before = size_bytes(store)
        fill(store)
        assert size_bytes(store) > before
        vacuum(store)
        assert store.get("s").message_count == 100
