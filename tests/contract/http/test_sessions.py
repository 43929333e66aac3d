"""Sessions over HTTP: made, listed, shown, changed, deleted and brought back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from steno.storage.store import Store

FIELDS = {
    "id", "title", "name", "user_id", "status", "provider", "model", "project", "tags", "metadata", "state",
    "forked_from", "created_at", "updated_at", "deleted_at", "message_count", "source", "local_only",
}  # fmt: skip

ODD_IDS = [
    "a/b", "..", ".", "%2F", "a%20b", "{id}", "ü€𝄞", "a b?c#d", "restore", "x;y=z", "+", "\\", "//", "a:b@c",
    "%25", "ÿ" * 1024,
]  # fmt: skip


def test_a_session_that_is_made_stands_where_its_location_says(server: Any):
    made = server.ask("POST", "/v1/sessions", {"title": "REST API", "tags": ["go"], "metadata": {"project": "web"}})
    assert made.status == 201
    assert server.ask("GET", made.headers["Location"]).json == made.json


def test_a_session_has_exactly_its_fields(server: Any):
    assert set(server.ask("POST", "/v1/sessions", {}).json) == FIELDS


def test_a_session_may_be_made_local_only(server: Any):
    assert server.ask("POST", "/v1/sessions", {"local_only": True}).json["local_only"] is True


def test_a_patch_shares_what_was_local_only(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one", "local_only": True})
    assert server.ask("PATCH", server.path("one"), {"local_only": False}).json["local_only"] is False


def test_a_patch_does_not_make_local_only_what_is_sent(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one"})
    refused = server.ask("PATCH", server.path("one"), {"local_only": True, "title": "new"})
    assert (refused.status, refused.json["code"]) == (400, "InvalidInput")
    assert server.ask("GET", server.path("one")).json["title"] == ""


def test_name_is_the_title_and_project_that_of_the_metadata(server: Any):
    made = server.ask("POST", "/v1/sessions", {"title": "REST API", "metadata": {"project": "web"}}).json
    assert (made["name"], made["project"]) == ("REST API", "web")


@pytest.mark.parametrize("odd", ODD_IDS)
def test_any_id_can_be_addressed_percent_encoded(server: Any, odd: str):
    location = server.ask("POST", "/v1/sessions", {"id": odd}).headers["Location"]
    assert server.ask("GET", location).json["id"] == odd


def test_an_id_that_is_taken_is_refused_and_nothing_changes(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one", "title": "first"})
    refused = server.ask("POST", "/v1/sessions", {"id": "one", "title": "second"})
    assert (refused.status, refused.json["code"]) == (409, "SessionExists")
    assert server.ask("GET", server.path("one")).json["title"] == "first"


def test_a_session_that_is_not_there_is_not_found(server: Any):
    answer = server.ask("GET", server.path("nobody"))
    assert (answer.status, answer.json["code"]) == (404, "SessionNotFound")


def test_the_daemon_sees_what_another_process_wrote(server: Any):
    server.store.create(id="one", title="from elsewhere")
    assert server.ask("GET", server.path("one")).json["title"] == "from elsewhere"


def test_a_write_that_waits_for_another_process_keeps_nobody_else_waiting(server: Any):
    with ThreadPoolExecutor(max_workers=1) as thread, Store(server.store.path) as other:
        with other.transaction():
            made = thread.submit(server.ask, "POST", "/v1/sessions", {"id": "one"})
            assert server.ask("GET", "/v1/status").status == 200
            assert not made.done()
        assert made.result().status == 201


def test_a_patch_changes_what_it_names_and_nothing_else(server: Any):
    before = server.ask("POST", "/v1/sessions", {"id": "one", "title": "old", "tags": ["a"], "model": "m"}).json
    after = server.ask("PATCH", server.path("one"), {"title": "new", "status": "paused", "tags": ["b", "c"]}).json
    changed = {name for name in FIELDS if before[name] != after[name]}
    assert changed - {"updated_at"} == {"title", "name", "status", "tags"}


def test_a_patch_merges_metadata_by_leaf(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one", "metadata": {"a": {"x": 1, "y": 2}, "b": 3}})
    after = server.ask("PATCH", server.path("one"), {"metadata": {"a": {"x": None, "z": 4}}}).json
    assert after["metadata"] == {"a": {"y": 2, "z": 4}, "b": 3}


@pytest.mark.parametrize("name", ["metadata", "state"])
def test_null_removes_a_whole_document(server: Any, name: str):
    server.ask("POST", "/v1/sessions", {"id": "one", name: {"a": {"b": 1}, "c": 2}})
    assert server.ask("PATCH", server.path("one"), {name: None}).json[name] == {}


def test_null_removes_all_tags(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one", "tags": ["a", "b"]})
    assert server.ask("PATCH", server.path("one"), {"tags": None}).json["tags"] == []


def test_an_empty_patch_changes_nothing(server: Any):
    before = server.ask("POST", "/v1/sessions", {"id": "one", "tags": ["a"]}).json
    assert server.ask("PATCH", server.path("one"), {}).json == before


def test_a_patch_may_name_its_own_content_type(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one"})
    headers = {"Content-Type": "application/merge-patch+json"}
    assert server.ask("PATCH", server.path("one"), {"title": "new"}, headers=headers).json["title"] == "new"


@pytest.mark.parametrize(
    "patch",
    [
        {"unknown": 1}, {"id": "two"}, {"created_at": "2026-01-01T00:00:00Z"}, {"message_count": 3},
        {"status": "gone"}, {"status": None}, {"title": 5}, {"title": "  "}, {"tags": "abc"}, {"tags": [1]},
        {"tags": [""]}, {"metadata": 5}, {"metadata": []}, [], "title", None, 7,
    ],
)  # fmt: skip
def test_a_patch_that_is_not_one_is_refused_whole(server: Any, patch: Any):
    before = server.ask("POST", "/v1/sessions", {"id": "one"}).json
    body = {"model": "changed", **patch} if isinstance(patch, dict) else b"null" if patch is None else patch
    assert server.ask("PATCH", server.path("one"), body).status == 400
    assert server.ask("GET", server.path("one")).json == before


def test_a_deleted_session_is_gone_from_view_and_the_list(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one"})
    deleted = server.ask("DELETE", server.path("one"))
    assert (deleted.status, deleted.json["deleted_at"] is None) == (200, False)
    assert server.ask("GET", server.path("one")).status == 404
    assert server.ask("GET", "/v1/sessions").json["sessions"] == []


def test_deleted_sessions_are_shown_to_who_asks_for_them(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "one"})
    deleted = server.ask("DELETE", server.path("one")).json
    assert server.ask("GET", server.path("one") + "?deleted=true").json == deleted
    assert server.ask("GET", "/v1/sessions?deleted=true").json["sessions"] == [deleted]


def test_a_deleted_session_is_restored_with_its_messages(server: Any):
    server.ask("POST", server.path("one", "messages"), {"role": "user", "content": "Hello"})
    server.ask("DELETE", server.path("one"))
    restored = server.ask("POST", server.path("one", "restore"))
    assert (restored.status, restored.json["deleted_at"], restored.json["message_count"]) == (200, None, 1)


def test_a_session_that_never_was_cannot_be_restored(server: Any):
    assert server.ask("POST", server.path("nobody", "restore")).status == 404


def test_pages_of_the_list_hold_every_session_once(server: Any):
    for number in range(7):
        server.store.create(id=f"s{number}", created_ms=1000 + number // 3)
    seen, cursor = [], ""
    while cursor is not None:
        page = server.ask("GET", f"/v1/sessions?limit=3&cursor={cursor}").json
        seen += [each["id"] for each in page["sessions"]]
        cursor = page["next"]
    assert seen == ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]


def test_the_last_page_leads_nowhere_also_when_it_is_full(server: Any):
    server.store.create(id="one")
    assert server.ask("GET", "/v1/sessions?limit=1").json["next"] is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("title=api", {"one"}), ("title=%25", set()), ("provider=openai", {"two"}), ("tag=go", {"one", "two"}),
        ("tag=go&tag=web", {"one"}), ("project=backend", {"one"}), ("status=paused", {"two"}), ("model=m1", {"one"}),
        ("user_id=ada", {"two"}), ("tag=go&status=active", {"one"}), ("project=", set()), ("title=&tag=web", {"one"}),
        ("title=%C3%BCber", {"four"}), ("tag=two+words", {"four"}), ("tag=a%2Bb%26c", {"four"}),
    ],
)  # fmt: skip
def test_filters_of_the_list_must_all_hold(server: Any, query: str, found: set[str]):
    server.store.create(id="one", title="REST API", tags=["go", "web"], metadata={"project": "backend"}, model="m1")
    server.store.create(id="two", provider="openai", tags=["go"], status="paused", user_id="ada")
    server.store.create(id="three", title="other", metadata={"project": True})
    server.store.create(id="four", title="über", tags=["two words", "a+b&c"])
    assert {each["id"] for each in server.ask("GET", f"/v1/sessions?{query}").json["sessions"]} == found


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=1001", "limit=x", "limit=%C2%B2", "limit=1&limit=2", "cursor=x", "cursor=WzEsMl0",
     "status=gone", "deleted=1", "sort=title", "title=%FF", "cursor=WzFlNDAwLCJhIl0", "cursor=%F0%9F%98%80"],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(server: Any, query: str):
    assert server.ask("GET", f"/v1/sessions?{query}").status == 400
