"""Sessions that a program keeps off every remote."""

from __future__ import annotations

from pathlib import Path

import pytest

from steno import InvalidInput, Session, SessionError, SessionManager, SessionStore, SQLiteSessionStore, Unsupported
from steno.storage.change import local_changes
from steno.storage.local_only import follow_projects
from steno.storage.store import Store

WORDS = "what stays here"


@pytest.fixture
def manager(tmp_path: Path) -> SessionManager:
    return SessionManager(store=SQLiteSessionStore(tmp_path / "steno.db"))


def told(tmp_path: Path) -> bytes:
    """All that would be sent."""
    with Store(tmp_path / "steno.db") as store:
        return local_changes(store, since=0, floor=0, max_bytes=1 << 30)[0]


def test_nothing_of_a_local_only_session_is_sent(manager: SessionManager, tmp_path: Path):
    session = manager.create_session(user_id="u", local_only=True)
    session.add_message("user", WORDS)
    manager.save(session)
    found = manager.get_session(session.id)
    assert found is not None
    assert found.local_only
    assert told(tmp_path) == b""


def test_a_session_that_is_written_out_and_read_again_is_so_still(manager: SessionManager, tmp_path: Path):
    session = manager.create_session(user_id="u", local_only=True)
    session.add_message("user", WORDS)
    again = Session.from_json(session.to_json())
    with SessionManager(store=SQLiteSessionStore(tmp_path / "other.db")) as other:
        other.create_session(session_id=session.id)
        with pytest.raises(InvalidInput):
            other.save(again)
    assert again.local_only


def test_a_branch_of_it_stays_as_well(manager: SessionManager, tmp_path: Path):
    session = manager.create_session(user_id="u", local_only=True)
    session.add_message("user", WORDS)
    manager.save(session)
    assert manager.create_session(branch_from=session.id, title="branch").local_only
    assert manager.forks.fork(session.id).local_only
    assert told(tmp_path) == b""


def test_a_branch_of_what_is_sent_is_not_made_local_only(manager: SessionManager):
    session = manager.create_session(user_id="u")
    with pytest.raises(InvalidInput):
        manager.create_session(branch_from=session.id, title="branch", local_only=True)


def test_a_session_of_a_project_that_stays_is_not_sent(manager: SessionManager, tmp_path: Path):
    with Store(tmp_path / "steno.db") as store:
        follow_projects(store, ["client-x"])
    session = manager.create_session(user_id="u", metadata={"project": "client-x"})
    session.add_message("user", WORDS)
    manager.save(session)
    assert told(tmp_path) == b""


def test_a_name_that_means_a_session_that_is_sent_is_refused(tmp_path: Path):
    manager = SessionManager({"session": {"storage_path": str(tmp_path)}})
    manager.create_session("notes")
    with pytest.raises(SessionError):
        manager.create_session("notes", local_only=True)


class Own(SessionStore):
    """A store of somebody's own, wherever it may keep sessions."""

    def __init__(self) -> None:
        self.kept: dict[str, Session] = {}

    def save(self, session: Session) -> None:
        self.kept[session.id] = session

    def get(self, session_id: str) -> Session | None:
        return self.kept.get(session_id)


def test_a_store_that_may_be_a_server_knows_no_local_only_sessions():
    store = Own()
    with pytest.raises(Unsupported):
        SessionManager(store=store).create_session(local_only=True)
    assert store.kept == {}


def test_nor_is_one_saved_there_that_comes_from_elsewhere(manager: SessionManager):
    session = manager.create_session(local_only=True)
    session.add_message("user", WORDS)
    store = Own()
    with SessionManager(store=store) as other, pytest.raises(Unsupported):
        other.save(Session.from_json(session.to_json()))
    assert store.kept == {}
