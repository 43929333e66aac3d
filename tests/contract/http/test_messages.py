"""Messages over HTTP: added, paged through, changed and deleted."""

from __future__ import annotations

from typing import Any

import pytest

FIELDS = {
    "id", "role", "sender", "content", "timestamp", "parent", "model", "usage", "metadata", "deleted_at", "origin"
}  # fmt: skip


def _ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer.json["messages"]]


def _ten_messages(server: Any) -> list[str]:
    batch = [{"id": f"m{number}", "role": "user", "content": f"text {number}"} for number in range(10)]
    return _ids(server.ask("POST", server.path("one", "messages"), {"messages": batch}))


def test_one_message_makes_the_session_that_does_not_exist(server: Any):
    added = server.ask("POST", server.path("a/b", "messages"), {"role": "user", "content": "Hello"})
    assert (added.status, added.json["content"]) == (201, "Hello")
    assert server.ask("GET", server.path("a/b")).json["message_count"] == 1


def test_a_message_has_exactly_its_fields(server: Any):
    assert set(server.ask("POST", server.path("one", "messages"), {"role": "user", "content": ""}).json) == FIELDS


def test_a_message_comes_back_as_it_was_given(server: Any):
    given = {
        "id": "m/1", "role": "assistant", "sender": "Claude", "content": [{"type": "text", "text": "Hi"}],
        "timestamp": "2026-11-20T11:00:05.120+01:00", "parent": "m/0", "model": "m", "usage": {"input_tokens": 12},
        "metadata": {"a": {"b": [1, 2.5, None]}}, "origin": {"session": "s"},
    }  # fmt: skip
    server.ask("POST", server.path("one", "messages"), {"id": "m/0", "role": "user", "content": "Hi?"})
    server.ask("POST", server.path("one", "messages"), given)
    (_, back) = server.ask("GET", server.path("one", "messages")).json["messages"]
    assert {name: back[name] for name in given} == given


def test_several_messages_are_added_in_their_order(server: Any):
    batch = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    added = server.ask("POST", server.path("one", "messages"), {"messages": batch})
    assert added.status == 201
    assert [each["content"] for each in added.json["messages"]] == ["one", "two", "three"]


def test_one_bad_message_adds_none_and_makes_no_session(server: Any):
    batch = [{"id": "m1", "role": "user", "content": "good"}, {"id": "m1", "role": "user", "content": "twin"}]
    assert server.ask("POST", server.path("one", "messages"), {"messages": batch}).status == 400
    assert server.ask("GET", server.path("one")).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {}, {"messages": []}, {"messages": [{}]}, {"messages": {}}, {"messages": [5]}, {"content": "no role"},
        {"role": "user"}, {"role": "", "content": "x"}, {"role": "user", "content": None},
        {"role": "user", "content": [{"text": "no type"}]}, {"role": "user", "content": {"type": "text"}},
        {"role": "user", "content": "x", "timestamp": "yesterday"}, {"role": "user", "content": "x", "more": 1},
        {"role": "user", "content": "x", "after": "nobody"}, {"role": "user", "content": "x", "id": ""}, [], 5,
        {"messages": [{"role": "user", "content": "x"}], "role": "user"},
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(server: Any, body: Any):
    assert server.ask("POST", server.path("one", "messages"), body).status == 400


def test_a_limit_shows_the_newest_oldest_first(server: Any):
    ids = _ten_messages(server)
    assert _ids(server.ask("GET", server.path("one", "messages") + "?limit=3")) == ids[-3:]


def test_the_cursor_of_the_newest_leads_to_older_ones(server: Any):
    ids = _ten_messages(server)
    pages, query = [], "?limit=4"
    while query:
        answer = server.ask("GET", server.path("one", "messages") + query)
        pages.append(_ids(answer))
        query = f"?limit=4&cursor={answer.json['next']}" if answer.json["next"] else ""
    assert pages == [ids[6:], ids[2:6], ids[:2]]


def test_an_empty_cursor_begins_at_the_first_message(server: Any):
    ids = _ten_messages(server)
    pages, cursor = [], ""
    while cursor is not None:
        answer = server.ask("GET", server.path("one", "messages") + f"?limit=4&cursor={cursor}")
        pages.append(_ids(answer))
        cursor = answer.json["next"]
    assert pages == [ids[:4], ids[4:8], ids[8:]]


def test_without_a_limit_all_messages_come(server: Any):
    ids = _ten_messages(server)
    answer = server.ask("GET", server.path("one", "messages"))
    assert (_ids(answer), answer.json["next"]) == (ids, None)


def test_a_message_inserted_above_shifts_no_page(server: Any):
    ids = _ten_messages(server)
    cursor = server.ask("GET", server.path("one", "messages") + "?limit=4&cursor=").json["next"]
    server.ask("POST", server.path("one", "messages"), {"role": "user", "content": "above", "after": "m1"})
    assert _ids(server.ask("GET", server.path("one", "messages") + f"?limit=4&cursor={cursor}")) == ids[4:8]


def test_a_page_ends_early_when_its_messages_are_big(server: Any):
    for number in range(4):
        message = {"id": f"m{number}", "role": "user", "content": "x" * (5 << 20)}
        server.ask("POST", server.path("one", "messages"), message)
    first = server.ask("GET", server.path("one", "messages"))
    rest = server.ask("GET", server.path("one", "messages") + f"?cursor={first.json['next']}")
    assert (_ids(first), _ids(rest)) == (["m0", "m1"], ["m2", "m3"])


def test_the_cursor_of_another_session_is_refused(server: Any):
    _ten_messages(server)
    cursor = server.ask("GET", server.path("one", "messages") + "?limit=4").json["next"]
    server.store.create(id="two")
    assert server.ask("GET", server.path("two", "messages") + f"?cursor={cursor}").status == 400


def test_messages_of_no_session_are_not_found(server: Any):
    assert server.ask("GET", server.path("nobody", "messages")).status == 404


def test_a_patch_changes_what_it_names_of_a_message(server: Any):
    given = {"id": "m/1", "role": "user", "content": "old", "usage": {"a": 1, "b": 2}, "metadata": {"x": 1, "y": 2}}
    before = server.ask("POST", server.path("one", "messages"), given).json
    patch = {"content": "new", "usage": {"a": None, "c": 3}, "metadata": {"x": None}}
    after = server.ask("PATCH", server.path("one", "messages", "m/1"), patch).json
    assert after == before | {"content": "new", "usage": {"b": 2, "c": 3}, "metadata": {"y": 2}}


def test_null_removes_the_metadata_of_a_message(server: Any):
    given = {"id": "m1", "role": "user", "content": "x", "metadata": {"a": {"b": 1}}}
    server.ask("POST", server.path("one", "messages"), given)
    assert server.ask("PATCH", server.path("one", "messages", "m1"), {"metadata": None}).json["metadata"] == {}


@pytest.mark.parametrize(
    "patch",
    [{"role": "user"}, {"id": "m2"}, {"content": None}, {"content": 5}, {"timestamp": None}, {"timestamp": "x"},
     {"usage": []}, {"metadata": "x"}, {"deleted_at": None}, []],
)  # fmt: skip
def test_a_patch_that_is_not_one_leaves_the_message(server: Any, patch: Any):
    before = server.ask("POST", server.path("one", "messages"), {"id": "m1", "role": "user", "content": "x"}).json
    body = {"sender": "changed", **patch} if isinstance(patch, dict) else patch
    assert server.ask("PATCH", server.path("one", "messages", "m1"), body).status == 400
    assert server.ask("GET", server.path("one", "messages")).json["messages"] == [before]


def test_a_deleted_message_is_gone_and_says_when(server: Any):
    _ten_messages(server)
    deleted = server.ask("DELETE", server.path("one", "messages", "m4"))
    assert (deleted.status, deleted.json["deleted_at"] is None) == (200, False)
    assert "m4" not in _ids(server.ask("GET", server.path("one", "messages")))


def test_a_page_goes_on_behind_a_message_that_was_deleted_meanwhile(server: Any):
    ids = _ten_messages(server)
    cursor = server.ask("GET", server.path("one", "messages") + "?limit=4&cursor=").json["next"]
    server.ask("DELETE", server.path("one", "messages", ids[3]))
    assert _ids(server.ask("GET", server.path("one", "messages") + f"?limit=2&cursor={cursor}")) == ids[4:6]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_message_that_is_not_there_is_not_found(server: Any, method: str):
    server.store.create(id="one")
    answer = server.ask(method, server.path("one", "messages", "nobody"), {} if method == "PATCH" else None)
    assert (answer.status, answer.json["code"]) == (404, "MessageNotFound")
