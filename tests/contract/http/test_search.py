"""Search, status and sync over HTTP."""

from __future__ import annotations

from typing import Any

import pytest


def test_what_was_just_added_is_found(server: Any):
    server.ask("POST", server.path("one", "messages"), {"id": "m1", "role": "user", "content": "the quick brown fox"})
    (hit,) = server.ask("GET", "/v1/search?q=brown").json["hits"]
    assert (hit["session"], hit["message"]) == ("one", "m1")


def test_filters_narrow_a_search_down(server: Any):
    for name, tag in (("one", "go"), ("two", "web")):
        server.ask("POST", "/v1/sessions", {"id": name, "tags": [tag]})
        server.ask("POST", server.path(name, "messages"), {"role": "user", "content": "brown"})
    hits = server.ask("GET", "/v1/search?q=brown&tag=web").json["hits"]
    assert [hit["session"] for hit in hits] == ["two"]


def test_a_search_in_a_session_stays_in_it(server: Any):
    for name in ("one", "a/b"):
        server.ask("POST", server.path(name, "messages"), {"role": "user", "content": "brown"})
    hits = server.ask("GET", "/v1/search?q=brown&session=a%2Fb").json["hits"]
    assert [hit["session"] for hit in hits] == ["a/b"]


def test_archived_sessions_are_searched_when_that_is_asked_for(server: Any):
    server.ask("POST", "/v1/sessions", {"id": "old", "title": "brown", "status": "archived"})
    found = [server.ask("GET", f"/v1/search?q=brown{more}").json["hits"] for more in ("", "&archived=true")]
    assert [len(each) for each in found] == [0, 1]


def test_a_limited_search_says_that_there_is_more(server: Any):
    batch = [{"role": "user", "content": "brown"} for _ in range(3)]
    server.ask("POST", server.path("one", "messages"), {"messages": batch})
    found = server.ask("GET", "/v1/search?q=brown&limit=2").json
    assert (len(found["hits"]), found["more"]) == (2, True)


@pytest.mark.parametrize(
    "query",
    ["", "?q=", "?q=+", "?q=%FF", "?q=a&q=b", "?q=a&limit=0", "?q=a&sort=x", "?q=a&status=x", "?q=a&archived=1"],
)
def test_a_search_that_makes_no_sense_is_refused(server: Any, query: str):
    assert server.ask("GET", f"/v1/search{query}").status == 400


@pytest.mark.parametrize(
    "query", ["%22", "a%22b", "*", "NEAR(", "a+OR", "-", "%28", "a%00b", "title:x", "%F0%9F%98%80"]
)
def test_what_is_syntax_to_the_index_is_text_to_a_search(server: Any, query: str):
    assert server.ask("GET", f"/v1/search?q={query}").status == 200


def test_status_is_what_the_daemon_says_of_itself(server: Any):
    assert server.ask("GET", "/v1/status").json == {"pid": 1}


def test_sync_answers_when_it_is_done(server: Any):
    assert server.ask("POST", "/v1/sync").json == {"pushed": 0}
