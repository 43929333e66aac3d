"""Conflicts over HTTP: listed page by page, and settled by their ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.daemon.client import DaemonClient
from steno.storage.conflicts import conflict_id
from steno.storage.database import wall_ms
from steno.storage.errors import ConflictNotFound
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_settling import tell


@pytest.fixture
def other(server: Any, tmp_path: Path) -> Iterator[Store]:
    """Another device, which differs in the title, a key and a message's text from the server's."""
    with Store(tmp_path / "other.db", now_ms=lambda: wall_ms() + 1000) as other:  # so that its values are the newer
        server.store.create(id="s", title="First")
        server.store.append("s", NewMessage(id="m", role="user", content="text"))
        tell(server.store, other)
        for store, value in ((server.store, "here"), (other, "there")):
            store.update("s", fields={"title": value}, metadata={"k": value})
            store.edit_message("s", "m", {"content": value})
        tell(other, server.store)
        yield other


def listed(server: Any, query: str = "") -> list[Any]:
    return server.ask("GET", f"/v1/conflicts{query}").json["conflicts"]


def of(server: Any, field: str) -> Any:
    return next(each for each in listed(server) if each["field"] == field)


def test_without_a_conflict_the_list_is_empty(server: Any):
    assert server.ask("GET", "/v1/conflicts").json == {"conflicts": [], "next": None}


def test_a_conflict_names_its_field_and_numbers_its_values(server: Any, other: Store):
    found = of(server, "content")
    values = {each["number"]: (each["value"], each["device"]) for each in [found["shown"], *found["others"]]}
    assert (found["session"], found["message"]) == ("s", "m")
    assert values == {1: ("here", server.store.device), 2: ("there", other.device)}


@pytest.mark.usefixtures("other")
def test_pages_show_each_conflict_once(server: Any):
    whole, found, cursor = listed(server), [], ""
    while cursor is not None:
        page = server.ask("GET", f"/v1/conflicts?limit=1{'&cursor=' + cursor if cursor else ''}").json
        found += page["conflicts"]
        cursor = page["next"]
    assert found == whole
    assert sorted(each["field"] for each in whole) == ["content", "metadata/k", "title"]


@pytest.mark.usefixtures("other")
def test_conflicts_of_one_session_are_listed_alone(server: Any):
    assert len(listed(server, "?session=s")) == 3
    assert listed(server, "?session=another") == []


def test_a_restored_value_is_shown_and_settled_on_the_other_device_too(server: Any, other: Store):
    answer = server.ask("POST", f"/v1/conflicts/{of(server, 'title')['id']}/restore", {"value": 1})
    assert (answer.status, answer.json["value"]) == (200, "here")
    tell(server.store, other)
    assert other.get("s").title == server.store.get("s").title == "here"
    assert sorted(each["field"] for each in listed(server)) == ["content", "metadata/k"]


@pytest.mark.usefixtures("other")
def test_a_dismissed_conflict_is_gone_and_the_session_stays_as_it_is(server: Any):
    before = server.store.get("s").metadata
    answer = server.ask("POST", f"/v1/conflicts/{of(server, 'metadata/k')['id']}/dismiss")
    assert (answer.status, answer.json["value"]) == (200, before["k"])
    assert sorted(each["field"] for each in listed(server)) == ["content", "title"]
    assert server.store.get("s").metadata == before


@pytest.mark.usefixtures("other")
def test_a_number_that_no_value_has_is_refused(server: Any):
    answer = server.ask("POST", f"/v1/conflicts/{of(server, 'title')['id']}/restore", {"value": 3})
    assert (answer.status, answer.json["code"]) == (400, "InvalidInput")


@pytest.mark.parametrize("which", ["nonsense", conflict_id("s", None, "status"), "%00"])
@pytest.mark.parametrize("verb", ["restore", "dismiss"])
@pytest.mark.usefixtures("other")
def test_an_id_that_names_no_conflict_is_not_found(server: Any, which: str, verb: str):
    answer = server.ask("POST", f"/v1/conflicts/{which}/{verb}", {"value": 1})
    assert (answer.status, answer.json["code"]) == (404, "ConflictNotFound")


@pytest.mark.usefixtures("other")
def test_our_own_client_lists_and_settles(client: DaemonClient):
    by_field = {each["field"]: each["id"] for each in client.conflicts("s")}
    client.dismiss_conflict(by_field["title"])
    assert client.restore_conflict(by_field["metadata/k"], 1)["value"] == "here"
    assert [each["field"] for each in client.conflicts()] == ["content"]
    with pytest.raises(ConflictNotFound):
        client.dismiss_conflict(by_field["title"])
