"""Writers killed at 200 random moments: the store is sound each time and holds what was acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.e2e.killing import Killer, looked, model_of

SEED = 20_260_725


@pytest.mark.timeout(600)
def test_a_store_whose_writers_are_killed_stays_sound_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    killer = Killer(tmp_path, SEED)
    try:
        killer.run(200)
    finally:
        killer.close()
    assert killer.acknowledged > 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Store(tmp_path / "steno.db") as store:
        store.create(id="s", title="Plan")
        store.append("s", NewMessage(role="user", content="one", id="1"))
    return tmp_path / "steno.db"


TWO = {"op": "add", "session": "s", "messages": [["2", "two"], ["3", "three"]]}


def held(path: Path):
    with Store(path, read_only=True) as store:
        return model_of(store)


def test_a_write_that_was_acknowledged_and_is_not_there_is_noticed(path: Path) -> None:
    with pytest.raises(AssertionError, match="the last begun"):
        looked(path, held(path), [(TWO, True)])
    assert looked(path, held(path), [(TWO, False)]) == held(path)


def test_a_write_that_is_there_by_half_is_noticed(path: Path) -> None:
    before = held(path)
    with Store(path) as store:
        store.append("s", NewMessage(role="user", content="two", id="2"))
    with pytest.raises(AssertionError, match="the last begun"):
        looked(path, before, [(TWO, False)])


def test_a_store_that_is_not_sound_is_noticed(path: Path) -> None:
    before = held(path)
    with Store(path) as store:
        store.execute("UPDATE sessions SET message_count = 7")
    with pytest.raises(AssertionError, match="message_count of session s"):
        looked(path, before, [])
