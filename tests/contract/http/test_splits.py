"""Where devices diverged in a session, and splitting it, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steno.storage.database import wall_ms
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_settling import tell


@pytest.fixture
def diverged(server: Any, tmp_path: Path) -> Any:
    """The server, whose session ``s`` went on here with ``b`` and elsewhere with ``c``."""
    with Store(tmp_path / "other.db", now_ms=lambda: wall_ms() + 1000) as other:
        server.store.create(id="s", title="S")
        server.store.append("s", NewMessage(id="a", role="user", content="a"))
        tell(server.store, other)
        for store, each in ((server.store, "b"), (other, "c")):
            store.append("s", NewMessage(id=each, role="user", content=each))
        tell(other, server.store)
    return server


def shown(server: Any, session: str) -> list[str]:
    return [each["id"] for each in server.ask("GET", server.path(session, "messages")).json["messages"]]


def test_the_places_where_devices_diverged_are_listed(diverged: Any):
    found = diverged.ask("GET", diverged.path("s", "divergences"))
    place = {"at": "c", "anchor": "a", "against": "b", "run": ["c"]}
    assert (found.status, found.json) == (200, {"divergences": [place]})


def test_a_split_answers_the_fork_and_where_it_is(diverged: Any):
    made = diverged.ask("POST", diverged.path("s", "split"), {"at": "c"})
    assert (made.status, made.headers["Location"]) == (201, diverged.path(made.json["id"]))
    assert made.json["forked_from"] == {"session": "s", "message": "a"}
    assert (shown(diverged, "s"), shown(diverged, made.json["id"])) == (["a", "b"], ["a", "c"])


def test_without_a_place_the_only_one_is_split(diverged: Any):
    assert diverged.ask("POST", diverged.path("s", "split"), {}).json["message_count"] == 2


@pytest.mark.parametrize(
    ("session", "body", "status", "code"),
    [
        ("s", {"at": "b"}, 400, "InvalidInput"),
        ("s", {"to": "c"}, 400, "InvalidInput"),
        ("nowhere", {}, 404, "SessionNotFound"),
    ],
)
def test_what_cannot_be_split_is_refused_and_nothing_made(
    diverged: Any, session: str, body: Any, status: int, code: str
):
    before = diverged.store.last_seq
    answer = diverged.ask("POST", diverged.path(session, "split"), body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert diverged.store.last_seq == before
