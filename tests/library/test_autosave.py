"""What nobody saves is saved, whoever holds it; what cannot be is kept and told."""

from __future__ import annotations

import gc
import logging

import pytest

from steno import MemorySessionStore, Session, SessionManager
from steno.storage.library.autosave import Autosave


@pytest.fixture
def store() -> MemorySessionStore:
    return MemorySessionStore()


def _watched(store: MemorySessionStore) -> tuple[Autosave, Session]:
    autosave = Autosave(store, interval_s=3600)
    session = Session("s")
    store.save(session)
    autosave.watch(session)
    return autosave, session


def test_a_changed_session_is_saved_once(store: MemorySessionStore):
    autosave, session = _watched(store)
    session.add_message("user", "x")
    assert [autosave.save(), autosave.save()] == [1, 0]
    autosave.close()


def test_metadata_that_was_changed_in_place_is_seen(store: MemorySessionStore):
    autosave, session = _watched(store)
    session.metadata["k"] = "v"
    autosave.save()
    found = store.get("s")
    assert found is not None
    assert found.metadata == {"k": "v"}
    autosave.close()


def test_a_session_that_the_program_let_go_of_is_saved(store: MemorySessionStore):
    autosave, session = _watched(store)
    session.add_message("user", "x")
    del session
    gc.collect()
    assert autosave.save() == 1
    autosave.close()


def test_a_session_without_anything_to_save_is_let_go(store: MemorySessionStore):
    autosave, session = _watched(store)
    del session
    gc.collect()
    assert autosave.save() == 0
    autosave.close()


def test_one_that_was_deleted_meanwhile_is_told_and_the_others_are_saved(
    store: MemorySessionStore, caplog: pytest.LogCaptureFixture
):
    autosave, session = _watched(store)
    session.add_message("user", "x")
    store.delete("s")
    other = Session("other")
    autosave.watch(other)
    with caplog.at_level(logging.WARNING, "steno"):
        autosave.save()
    assert "session was deleted meanwhile" in caplog.text
    assert store.get("other") is not None
    autosave.close()


def test_closing_saves_and_a_second_time_does_nothing(store: MemorySessionStore):
    autosave, session = _watched(store)
    session.add_message("user", "x")
    autosave.close()
    autosave.close()
    found = store.get("s")
    assert found is not None
    assert found.message_count == 1


def test_a_manager_that_is_handed_a_store_saves_only_when_asked(store: MemorySessionStore):
    manager = SessionManager(store=store)
    manager.create_session(session_id="s").add_message("user", "x")
    assert manager.autosave() == 0
    assert manager.get_messages("s") == []
