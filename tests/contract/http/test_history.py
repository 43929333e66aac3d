"""The history of a session over HTTP: what was written to it, page by page, and what it was before."""

from __future__ import annotations

from typing import Any

import pytest

from steno.daemon.client import DaemonClient
from steno.storage.model import NewMessage


@pytest.fixture
def written(server: Any) -> Any:
    """A session that was written to a few times."""
    store = server.store
    store.create(id="s", title="First", metadata={"a": 1, "b": 2})
    store.append("s", NewMessage(id="m", role="user", content="one"))
    store.update("s", fields={"title": "Second"}, metadata={"a": 3, "b": None})
    store.edit_message("s", "m", {"content": "two"})
    return server


def pages(server: Any, limit: int, query: str = "") -> list[Any]:
    found, cursor = [], ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = server.ask("GET", f"/v1/sessions/s/history?limit={limit}{more}{query}").json
        assert len(page["entries"]) <= limit
        found += page["entries"]
        cursor = page["next"]
    return found


def test_every_write_is_told_with_what_stood_there_before(written: Any):
    entries = written.ask("GET", "/v1/sessions/s/history").json["entries"]
    told = [(each["message"], each["path"], each["before"], each["after"]) for each in entries]
    assert (None, "title", "First", "Second") in told
    assert ("m", "content", "one", "two") in told


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_pages_tell_each_write_once_also_where_several_came_at_once(written: Any, limit: int):
    whole = written.ask("GET", "/v1/sessions/s/history").json
    assert whole["next"] is None
    assert pages(written, limit) == whole["entries"]


def test_writes_to_one_message_are_told_alone(written: Any):
    found = pages(written, 1, "&message=m")
    assert [(each["path"], each["message"]) for each in found] == [("birth", "m"), ("content", "m")]


def test_a_session_is_shown_as_it_was(written: Any):
    seq = next(each["seq"] for each in pages(written, 10) if each["path"] == "title" and each["before"] is not None)
    then = written.ask("GET", f"/v1/sessions/s/history?at={seq - 1}").json
    assert (then["title"], then["metadata"], then["seq"]) == ("First", {"a": 1, "b": 2}, seq - 1)
    assert [each["content"] for each in then["messages"]] == ["one"]


def test_a_session_is_shown_as_it_is_at_a_time_to_come(written: Any):
    then = written.ask("GET", "/v1/sessions/s/history?at=2199-01-01T00:00:00Z").json
    assert (then["title"], [each["content"] for each in then["messages"]]) == ("Second", ["two"])


@pytest.mark.parametrize("at", ["0", "9999999", "99999999999999999999", "yesterday", "1999-01-01T00:00:00Z", "-1"])
def test_a_moment_at_which_there_was_no_session_is_refused(written: Any, at: str):
    answer = written.ask("GET", f"/v1/sessions/s/history?at={at}")
    assert (answer.status, answer.json["code"]) == (400, "InvalidInput")


@pytest.mark.parametrize(
    ("address", "code"), [("nobody/history", "SessionNotFound"), ("s/history?message=x", "MessageNotFound")]
)
def test_what_is_not_there_has_no_history(written: Any, address: str, code: str):
    answer = written.ask("GET", f"/v1/sessions/{address}")
    assert (answer.status, answer.json["code"]) == (404, code)


def test_at_goes_alone(written: Any):
    assert written.ask("GET", "/v1/sessions/s/history?at=3&message=m").status == 400


@pytest.mark.usefixtures("written")
def test_our_own_client_reads_it(client: DaemonClient):
    entries = list(client.history("s", message="m"))
    assert [each["path"] for each in entries] == ["birth", "content"]
    assert client.session_at("s", entries[0]["seq"])["messages"][0]["content"] == "one"
