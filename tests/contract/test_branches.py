"""A branch is made whole or not at all, and in one write, whichever store it is made in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.errors import InvalidInput
from steno.storage.library.contract import Backend
from steno.storage.library.manager import SessionManager
from steno.storage.library.session import Session
from steno.storage.library.sqlite_store import SQLiteSessionStore
from steno.tests.contract.stores import Clock, OwnStore, Wire, made

MANUAL = {"session": {"autosave_interval": 0}}


@pytest.fixture
def manager(any_store: Backend) -> Iterator[SessionManager]:
    with SessionManager(MANUAL, store=any_store) as manager:
        session = manager.create_session("v1", "openai", "gpt", user_id="ann", tags=["old"], metadata={"kept": 1})
        session.add_message("user", "one")
        manager.save(session)
        yield manager


@pytest.mark.parametrize(
    "wrong",
    [
        {"provider": 5},
        {"model": ["m"]},
        {"user_id": 5},
        {"title": 5},
        {"tags": 5},
        {"tags": "one word"},
        {"tags": [5]},
        {"tags": [""]},
        {"agent_id": 5},
        {"metadata": 5},
        {"metadata": ["a"]},
        {"metadata": {"half": "\ud800"}},
        {"mode": {1}},
    ],
    ids=repr,
)
def test_a_branch_that_cannot_be_as_it_is_asked_for_is_not_made_at_all(manager: SessionManager, wrong: dict[str, Any]):
    with pytest.raises(InvalidInput):
        manager.create_session("v2", branch_from="v1", **wrong)
    assert [session.title for session in manager.list_sessions()] == ["v1"]


def test_a_branch_has_in_the_store_what_is_given_beside_it_and_else_what_its_original_has(manager: SessionManager):
    branch = manager.create_session(
        "v2", "anthropic", branch_from="v1", tags=["new", "newer"], metadata={"more": 2}, agent_id="coder", mode="code"
    )
    found = manager.load_session(branch.id)
    assert (found.title, found.provider, found.model, found.user_id) == ("v2", "anthropic", "gpt", "ann")
    assert found.tags == ["new", "newer"]
    assert found.metadata == {"kept": 1, "more": 2, "agent_id": "coder", "coda.mode": "code"}
    assert [message.content for message in found.messages] == ["one"]


def test_a_branch_is_handed_out_as_it_stands_in_the_store(manager: SessionManager):
    branch = manager.create_session("v2", "anthropic", branch_from="v1", user_id="bob", tags=["new"])
    assert not branch.pending
    assert branch.to_dict() == manager.load_session(branch.id).to_dict()


# One write


def test_a_branch_is_one_transaction_in_sqlite(tmp_path: Path):
    store = SQLiteSessionStore(tmp_path / "sessions.db", pool_size=1)
    with SessionManager(MANUAL, store=store) as manager:
        original = manager.create_session("v1")
        said: list[str] = []
        with store.database() as database:
            database.connection.set_trace_callback(said.append)
        manager.create_session("v2", "anthropic", branch_from=original.id, user_id="bob", tags=["new"])
        with store.database() as database:
            database.connection.set_trace_callback(None)
    assert said.count("BEGIN IMMEDIATE") == said.count("COMMIT") == 1


def test_a_branch_is_one_save_in_a_store_of_ones_own():
    saved: list[tuple[str | None, list[str]]] = []

    class Recording(OwnStore):
        def save(self, session: Session) -> None:
            saved.append((session.provider, list(session.tags)))
            super().save(session)

    with SessionManager(MANUAL, store=Recording(Clock())) as manager:
        manager.create_session("v1")
        manager.create_session("v2", "anthropic", branch_from="v1", tags=["new"])
    assert saved == [(None, []), ("anthropic", ["new"])]


def test_what_is_given_beside_a_branch_costs_a_server_no_further_turn(wired: tuple[Backend, Wire]):
    store, wire = wired
    made(store, "one", "hello")
    store.fork("one")  # what is prepared once
    plain = wire.cost(lambda: store.fork("one"))
    given = wire.cost(lambda: store.fork("one", fields={"provider": "anthropic", "tags": ["new"]}))
    assert given.turns == plain.turns
