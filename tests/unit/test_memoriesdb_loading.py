"""MemoriesDB's files of nodes and edges are loaded whatever their order, once, and what is wrong in them is told."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.memoriesdb import (
    LoadResult,
    get_conversation_text,
    get_session_messages,
    get_session_tree,
    list_sessions,
    load_jsonl,
    message_view,
    session_view,
)
from steno.memoriesdb.staging import _PLACES, _TABLES, MAX_LINE_BYTES, Skipped
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import LocalStorageError, SessionNotFound
from steno.storage.forks import fork
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.storage.sqlite import dbapi
from steno.storage.stamps import DERIVED
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        yield opened


def node(id: str, content: Any, created: str | None = None, **metadata: Any) -> str:
    record = {"kind": "node", "id": id, "content": content, "_metadata": metadata}
    return json.dumps(record if created is None else {**record, "_created_at": created})


def edge(source: str, relation: str, target: str) -> str:
    return json.dumps({"kind": "edge", "source_id": source, "target_id": target, "relation": relation})


def at(second: int) -> str:
    return f"2025-06-27T10:00:{second:02d}Z"


TEAM = [
    node("s1", "Team Discussion", at(0), type="session", created_by="user1"),
    node("m1", "Hello team!", at(1), sender="user1", sent_at="2025-06-27T10:00:01.5000+00:00"),
    node("m2", "Hi!", at(2), sender="bot", role="assistant"),
    edge("m1", "belongs_to", "s1"),
    edge("m2", "belongs_to", "s1"),
    edge("m2", "reply_to", "m1"),
]
FORK = [
    node("s2", "Mobile", at(4), parent_message_id="m1", reason="Focus"),
    node("m3", "And on the phone?", at(5), sender="user2"),
    edge("s2", "forked_from", "s1"),
    edge("m3", "belongs_to", "s2"),
]


@pytest.mark.check("MDB-27")
def test_sessions_messages_and_links_are_loaded_and_counted(store: Store):
    assert load_jsonl(store, TEAM) == LoadResult(nodes=3, edges=3, skipped=[])
    view = session_view(store, "s1")
    assert (view["content"], view["_created_at"]) == ("Team Discussion", "2025-06-27T10:00:00.000Z")
    assert view["_metadata"] == {"type": "session", "created_by": "user1"}
    assert get_conversation_text(store, "s1") == "user1: Hello team!\nassistant: Hi!\n"
    assert message_view(store, "s1", "m2")["parent_id"] == "m1"
    assert message_view(store, "s1", "m1")["_metadata"]["sent_at"] == "2025-06-27T10:00:01.5000+00:00"
    assert [each["id"] for each in list_sessions(store, "user1")] == ["s1"]


@pytest.mark.check("MDB-27")
def test_the_order_of_the_lines_does_not_matter(tmp_path: Path):
    lines = TEAM + FORK
    seen: set[str] = set()
    for number, order in enumerate((lines, lines[::-1], sorted(lines))):
        with Store(tmp_path / f"{number}.db") as store:
            assert load_jsonl(store, order).skipped == []
            seen.add(repr([get_session_messages(store, each) for each in ("s1", "s2")]))
    assert len(seen) == 1


@pytest.mark.check("MDB-27")
def test_loading_a_file_again_changes_nothing(store: Store):
    first = load_jsonl(store, TEAM + FORK)
    before = store.last_seq
    assert load_jsonl(store, TEAM + FORK) == first
    assert store.last_seq == before


@pytest.mark.check("MDB-27")
def test_a_load_that_broke_off_goes_on(store: Store):
    load_jsonl(store, TEAM[:1] + TEAM[1:2] + TEAM[3:4])
    load_jsonl(store, TEAM + FORK)
    assert (
        get_conversation_text(store, "s2") == "user1: Hello team! (from: Team Discussion)\nuser2: And on the phone?\n"
    )


@pytest.mark.check("MDB-27")
def test_blank_and_malformed_lines_are_counted_with_their_numbers(store: Store):
    wrong = {
        2: "", 4: "{", 5: "[]", 6: '{"kind": "other"}', 7: '{"kind": "node", "id": "x"}', 8: "   ", 9: "\ud800",
        10: node("x", 5), 11: node("", "x"), 12: node("x", "x", "yesterday"), 13: edge("m1", "likes", "s1"),
        14: node("s9", " ", type="session"), 15: node("x", "x", sent_at=5), 16: node("x", "x", role=["user"]),
    }  # fmt: skip
    lines = [wrong.get(number) or TEAM[0 if number == 1 else 1] for number in range(1, 17)]
    lines = [wrong.get(number, line) for number, line in enumerate(lines, start=1)]
    found = load_jsonl(store, [*lines, TEAM[3]])
    assert [line for line, _ in found.skipped] == list(wrong)
    assert (found.nodes, found.edges) == (2, 1)
    assert dict(found.skipped)[2] == dict(found.skipped)[8] == "blank"
    assert dict(found.skipped)[14] == "Session title cannot be empty"


@pytest.mark.parametrize(
    ("lines", "skipped"),
    [
        ([*TEAM, TEAM[1]], {7: "a node of this id stands on an earlier line"}),
        ([*TEAM, TEAM[3]], {7: "the same edge stands on an earlier line"}),
        ([*TEAM, edge("m1", "reply_to", "m1")], {7: "an edge from a node to itself"}),
        ([*TEAM, edge("m1", "reply_to", "m2")], {7: "there is no message m2 in this session to reply to"}),
        ([*TEAM, edge("m1", "reply_to", "nope")], {7: "there is no message nope in this session to reply to"}),
        ([*TEAM, edge("nope", "belongs_to", "s1")], {7: "there is no node nope in this file"}),
        ([*TEAM, node("m9", "lost")], {7: "it belongs to no session"}),
        (
            [*TEAM, node("m9", "lost"), edge("m9", "belongs_to", "nope")],
            {7: "it belongs to no session", 8: "there is no session nope"},
        ),
        ([*TEAM, *FORK[:3], FORK[3], edge("s1", "belongs_to", "s2")], {11: "a session belongs to no other"}),
        (
            [*TEAM, *FORK, node("s3", "C"), edge("s2", "forked_from", "s3")],
            {12: "a session is a fork of one other only"},
        ),
        (
            [node("a", "A"), node("b", "B"), edge("a", "forked_from", "b"), edge("b", "forked_from", "a")],
            {3: "sessions that are forks of each other", 4: "sessions that are forks of each other"},
        ),
        ([*TEAM, node("s2", "F"), edge("s2", "forked_from", "nope")], {8: "there is no session nope"}),
        (
            [*TEAM, node("s2", "F", parent_message_id="nope"), edge("s2", "forked_from", "s1")],
            {8: "session s1 has no message nope"},
        ),
        (
            [*TEAM, node("m9", "x", parent_id="nope"), edge("m9", "belongs_to", "s1")],
            {7: "it belongs to no session", 8: "there is no message nope in this session to reply to"},
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_and_the_rest_is_loaded(store: Store, lines: list[str], skipped: dict[int, str]):
    found = load_jsonl(store, lines)
    assert dict(found.skipped) == skipped
    assert found.nodes + found.edges + len(skipped) == len(lines)
    before = store.last_seq
    again = load_jsonl(store, lines)
    assert (again.nodes, again.edges) == (found.nodes, found.edges)
    assert store.last_seq == before


@pytest.mark.check("MDB-27", "MDB-16")
@pytest.mark.parametrize("way", [("s2", "forked_from", "s1"), ("s1", "forked_from", "s2")])
def test_a_fork_is_the_younger_one_whichever_way_the_edge_leads(store: Store, way: tuple[str, str, str]):
    load_jsonl(store, [*TEAM, *FORK[:2], edge(*way), FORK[3]])
    assert session_view(store, "s2")["forked_from"] == {"session": "s1", "message": "m1", "reason": "Focus"}
    found = [(each.message_id, each.fork_depth, each.session_id) for each in get_session_messages(store, "s2")]
    assert found == [("m1", 1, "s1"), ("m3", 0, "s2")]


@pytest.mark.check("MDB-14", "MDB-27")
def test_a_fork_that_names_no_point_takes_what_there_was_when_it_was_made(store: Store):
    later = [node("m4", "later", at(9), sender="user1"), edge("m4", "belongs_to", "s1")]
    load_jsonl(store, [*TEAM, *later, node("s2", "Fork", at(4)), edge("s2", "forked_from", "s1")])
    assert [each.message_id for each in get_session_messages(store, "s2")] == ["m1", "m2"]


def test_forks_of_forks_are_loaded_behind_their_originals(store: Store):
    lines = [node(f"s{number}", f"S{number}", at(number)) for number in range(5, 0, -1)]
    lines += [edge(f"s{number}", "forked_from", f"s{number - 1}") for number in range(5, 1, -1)]
    lines += [node(f"m{number}", f"M{number}", at(number)) for number in range(1, 6)]
    lines += [edge(f"m{number}", "belongs_to", f"s{number}") for number in range(1, 6)]
    assert load_jsonl(store, lines).skipped == []
    assert [(each.session.id, each.level) for each in get_session_tree(store, "s1")] == [
        (f"s{number}", number) for number in range(1, 6)
    ]
    assert [each.fork_depth for each in get_session_messages(store, "s5")] == [4, 3, 2, 1, 0]


def test_what_a_person_deleted_or_purged_is_not_brought_back(store: Store):
    load_jsonl(store, TEAM + FORK)
    store.delete("s1")
    store.delete_message("s2", "m3")
    before = store.last_seq
    load_jsonl(store, TEAM + FORK)
    assert store.last_seq == before
    with pytest.raises(SessionNotFound):
        store.get("s1")
    purge_session(store, "s1")
    found = load_jsonl(store, TEAM)
    assert (found.nodes, found.skipped[0]) == (0, (1, "the session was purged"))


def test_what_a_person_wrote_in_between_stays_where_it_stands(store: Store):
    load_jsonl(store, [TEAM[0], TEAM[1], TEAM[3]])
    store.append("s1", NewMessage(role="user", content="A note", id="note"))
    store.edit_message("s1", "m1", {"content": "Hello, all!"})
    load_jsonl(store, TEAM)
    assert [each.content for each in store.messages("s1")] == ["Hello, all!", "A note", "Hi!"]


def test_messages_are_added_to_a_session_that_is_not_in_the_file(store: Store):
    load_jsonl(store, TEAM)
    found = load_jsonl(store, [node("m4", "later", at(9), sender="user1"), edge("m4", "belongs_to", "s1")])
    assert found == LoadResult(1, 1, [])
    assert [each.id for each in store.messages("s1")] == ["m1", "m2", "m4"]


def test_a_session_that_is_no_fork_does_not_become_one(store: Store):
    load_jsonl(store, [*TEAM, node("s2", "Alone", at(4), type="session")])
    found = load_jsonl(store, [*TEAM, node("s2", "Alone", at(4)), edge("s2", "forked_from", "s1")])
    assert found.skipped == [(8, "the session is here already, and no fork of that one")]


def test_a_fork_that_was_made_here_is_not_filled_again(store: Store):
    load_jsonl(store, TEAM)
    fork(store, "s1", at="m1", id="s2", title="Mine")
    load_jsonl(store, TEAM + FORK)
    assert [each.message_id for each in get_session_messages(store, "s2")] == ["m1", "m3"]


def test_what_is_loaded_is_derived_and_travels(store: Store):
    load_jsonl(store, TEAM + FORK)
    batch, _, _ = local_changes(store, since=0, floor=0, max_bytes=1 << 20)
    sent = {each.id: [message.id for message in each.messages] for each in decode_batch(batch).sessions}
    assert sent == {"s1": ["m1", "m2"], "s2": ["m1", "m3"]}
    ranks = {author % 4 for (author,) in store.execute("SELECT author FROM messages")}
    assert ranks == {DERIVED}


@pytest.mark.check("MDB-27")
def test_a_file_is_named_by_its_path(store: Store, tmp_path: Path):
    file = tmp_path / "memories.jsonl"
    file.write_text("\n".join(TEAM), encoding="utf-8")
    assert (
        load_jsonl(store, file) == load_jsonl(store, str(file)) == load_jsonl(store, [each.encode() for each in TEAM])
    )


def test_a_line_that_is_too_long_costs_only_itself(store: Store, tmp_path: Path):
    file = tmp_path / "memories.jsonl"
    with file.open("wb") as out:
        out.write(TEAM[0].encode() + b"\n")
        out.truncate(MAX_LINE_BYTES * 2)
        out.seek(0, 2)
        out.write(b"\n" + "\n".join(TEAM[1:]).encode())
    found = load_jsonl(store, file)
    assert found == LoadResult(3, 3, [Skipped(2, "longer than a line may be")])


def test_a_file_that_cannot_be_read_is_named(store: Store, tmp_path: Path):
    with pytest.raises(LocalStorageError, match="nothing-here"):
        load_jsonl(store, tmp_path / "nothing-here")


def test_a_file_is_not_held_in_memory(store: Store):
    def lines() -> Iterator[str]:
        yield TEAM[0]
        for number in range(400):
            yield node(f"m{number}", f"{number} " + "x" * 100_000, at(1), sender="user1")
            yield edge(f"m{number}", "belongs_to", "s1")

    tracemalloc.start()
    try:
        assert load_jsonl(store, lines()).nodes == 401
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_the_messages_of_a_session_are_looked_up_and_not_searched_for():
    connection = dbapi.connect(":memory:")
    connection.executescript(_TABLES)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {_PLACES}", ("s1",))]
    connection.close()
    assert plan[0] == "SEARCH e USING COVERING INDEX edges_target (relation=? AND target=?)"
