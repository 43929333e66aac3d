"""What nobody saves is saved, whoever holds it; what cannot be is kept and told."""

from __future__ import annotations

import gc
import logging

import pytest

from steno import MemorySessionStore, Session, SessionManager
from steno.storage.library.adapter import Adapter
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


class Own:
    """Somebody's store that makes its sessions anew, and fails for one of them in a way of its own."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def save(self, session: Session) -> None:
        if session.id == "bad":
            raise RuntimeError("no such table")
        self.kept[session.id] = session.to_json()

    def get(self, session_id: str) -> Session | None:
        return Session.from_json(self.kept[session_id]) if session_id in self.kept else None

    def delete(self, session_id: str) -> bool:
        return self.kept.pop(session_id, None) is not None

    def list_all(self) -> list[str]:
        return list(self.kept)


def test_reading_from_a_store_of_ones_own_saves_nothing():
    own = Own()
    with SessionManager({"session": {}}, store=own) as manager:
        manager.create_session("A", session_id="a")
        read = manager.get_session("a")
        manager.add_message("a", "user", "one")
        manager.list_sessions()
        assert read is not None
        manager.autosave()
        assert [each["content"] for each in manager.get_messages("a")] == ["one"]
        manager.delete("a")
        manager.autosave()
        assert own.kept == {}


def test_a_store_that_fails_in_its_own_way_does_not_keep_the_others_from_being_saved(caplog: pytest.LogCaptureFixture):
    own = Own()
    autosave = Autosave(Adapter(own), interval_s=3600)
    for name in ("bad", "good"):
        autosave.watch(Session(name))
    with caplog.at_level(logging.ERROR, "steno"):
        autosave.save()
    assert list(own.kept) == ["good"]
    assert "no such table" in caplog.text
    autosave.close()


def test_what_was_changed_in_place_is_saved_also_if_the_program_let_go_of_it(store: MemorySessionStore):
    autosave, session = _watched(store)
    session.metadata["k"] = "v"
    del session
    gc.collect()
    autosave.save()
    found = store.get("s")
    assert found is not None
    assert found.metadata == {"k": "v"}
    autosave.close()
