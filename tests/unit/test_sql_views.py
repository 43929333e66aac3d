"""The views of `steno sql` show what is there, in Coda's and in MemoriesDB's shape, and find it by index."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.memoriesdb import add_message_to_session, create_session, fork_session, message_view, session_view
from steno.memoriesdb.functions import FUNCTIONS
from steno.memoriesdb.sql import SqlConnection
from steno.memoriesdb.views import VIEWS
from steno.storage.conversation import history
from steno.storage.model import NewMessage, format_ms
from steno.storage.purge import purge_session
from steno.storage.sqlite import dbapi
from steno.storage.store import Store

Sql = Callable[[str], list[dict[str, Any]]]

TREE = """
WITH RECURSIVE session_tree AS (
    SELECT id, content, parent_id, 1 as level, _created_at
    FROM memories
    WHERE id = '{}'

    UNION ALL

    SELECT m.id, m.content, m.parent_id, st.level + 1, m._created_at
    FROM memories m
    JOIN memory_edges e ON m.id = e.target_id
    JOIN session_tree st ON e.source_id = st.id
    WHERE e.relation = 'forked_from'
)
SELECT * FROM session_tree
ORDER BY level, _created_at;
"""
"""The page's own query, which orders by ``_created_at`` and here carries it along."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(1_750_000_000_000).__next__) as opened:
        yield opened


@pytest.fixture
def sql(store: Store) -> Iterator[Sql]:
    connection = SqlConnection(store, writable=False)

    def run(statement: str) -> list[dict[str, Any]]:
        result = connection.run(statement)
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

    yield run
    connection.close()


def family(store: Store) -> tuple[str, str, str]:
    """Root with two messages; fork 1 at the first and one of its own; fork 2 of that with one of its own."""
    root = create_session(store, "Root", {"created_by": "user1"})
    point = add_message_to_session(store, root, "user1", "One", {"emotion": "joy"})
    add_message_to_session(store, root, "user1", "Two", {"parent_id": point})
    fork1 = fork_session(store, root, "Fork 1", {"parent_message_id": point})
    add_message_to_session(store, fork1, "user2", "Three")
    fork2 = fork_session(store, fork1, "Fork 2")
    add_message_to_session(store, fork2, "bot", "Four", {"role": "assistant"})
    return root, fork1, fork2


# Coda's shape


@pytest.mark.check("COD-19")
def test_sessions_stand_in_coda_s_columns(store: Store, sql: Sql):
    made = store.create(title="my-chat", metadata={"topic": "Python"}, created_ms=1_700_000_000_123)
    [row] = sql("SELECT * FROM sessions")
    assert list(row)[:5] == ["id", "name", "created_at", "updated_at", "metadata"]
    assert (row["id"], row["name"], row["created_at"]) == (made.id, "my-chat", "2023-11-14T22:13:20.123Z")
    assert json.loads(row["metadata"]) == {"topic": "Python"}


@pytest.mark.check("COD-19")
def test_messages_stand_in_coda_s_columns(store: Store, sql: Sql):
    store.create(id="s")
    store.append("s", NewMessage(role="user", content="Hi", timestamp="2026-11-20T10:00:00+01:00", metadata={"a": 1}))
    [row] = sql("SELECT * FROM messages")
    assert list(row)[:6] == ["id", "session_id", "role", "content", "timestamp", "metadata"]
    assert isinstance(row["id"], int)
    assert (row["session_id"], row["role"], row["content"]) == ("s", "user", "Hi")
    assert (row["timestamp"], json.loads(row["metadata"])) == ("2026-11-20T10:00:00+01:00", {"a": 1})


@pytest.mark.check("COD-19")
def test_names_are_unique_where_titles_are_not(store: Store, sql: Sql):
    for name, title in (("a", "chat"), ("b", "chat"), ("c", "other"), ("d", None), ("e", None)):
        store.create(id=name, title=title)
    store.create(id="f", title="other")
    store.delete("f")
    rows = sql("SELECT name FROM sessions ORDER BY id")
    assert [row["name"] for row in rows] == ["chat (a)", "chat (b)", "other", "(d)", "(e)"]


@pytest.mark.check("COD-19")
def test_every_message_has_its_session(store: Store, sql: Sql):
    root, fork1, _ = family(store)
    store.delete(root)
    store.create(id="gone")
    store.append("gone", NewMessage(role="user", content="gone"))
    purge_session(store, "gone")
    assert sql("SELECT DISTINCT session_id FROM messages WHERE session_id NOT IN (SELECT id FROM sessions)") == []
    assert len(sql(f"SELECT * FROM messages WHERE session_id = '{fork1}'")) == 2


def test_what_is_deleted_is_in_no_view(store: Store, sql: Sql):
    store.create(id="kept")
    for name in ("kept", "deleted"):
        store.append("kept", NewMessage(role="user", content=name, id=name))
    store.delete_message("kept", "deleted")
    family(store)
    for header in list(store.sessions()):
        if header.id != "kept":
            store.delete(header.id)
    found = {view.name: len(sql(f"SELECT * FROM {view.name}")) for view in VIEWS}
    assert found == {"sessions": 1, "messages": 1, "session_messages": 1, "memories": 2, "memory_edges": 1}


@pytest.mark.parametrize("content", ["x" * 100_000, [{"type": "text", "text": "y" * 100_000}], [{"type": "image"}], ""])
def test_contents_are_text_however_they_are_kept(store: Store, sql: Sql, content: Any):
    store.create(id="s")
    store.append("s", NewMessage(role="user", content=content))
    for view in ("messages", "session_messages", "memories"):
        where = "WHERE kind = 'message'" if view == "memories" else ""
        [row] = sql(f"SELECT content, typeof(content) AS kept FROM {view} {where}")
        assert row["kept"] == "text"
        assert row["content"] == content or json.loads(row["content"]) == content


@given(ms=st.integers(0, 253_402_300_799_999))
def test_times_are_written_as_everywhere_else(ms: int):
    text = "strftime('%Y-%m-%dT%H:%M:%fZ', ? / 1000.0, 'unixepoch')"
    assert any(text.replace("?", "s.created_ms") in view.sql for view in VIEWS)
    assert dbapi.connect(":memory:").execute(f"SELECT {text}", (ms,)).fetchone() == (format_ms(ms),)


# MemoriesDB's shape


@pytest.mark.check("MDB-16", "MDB-17")
def test_histories_are_those_of_the_library(store: Store, sql: Sql):
    for session in family(store):
        expected = [
            (e.message_id, e.content, e.role, e.sender, e.fork_depth, e.position, e.session_id, list(e.fork_chain))
            for e in history(store, session)
        ]
        rows = sql(f"SELECT * FROM session_messages WHERE session_id = '{session}' ORDER BY position")
        found = [
            (
                row["message_id"], row["content"], row["role"], row["sender"], row["fork_depth"], row["position"],
                row["owner_id"], json.loads(row["fork_chain"]),
            )
            for row in rows
        ]  # fmt: skip
        assert found == expected


@pytest.mark.check("MDB-20")
def test_a_history_outlives_its_original(store: Store, sql: Sql):
    root, fork1, fork2 = family(store)
    store.delete(root)
    purge_session(store, fork1)
    rows = sql(f"SELECT content, fork_depth FROM session_messages WHERE session_id = '{fork2}' ORDER BY position")
    assert [(row["content"], row["fork_depth"]) for row in rows] == [("One", 2), ("Three", 1), ("Four", 0)]


@pytest.mark.check("MDB-23")
def test_the_page_s_own_query_gives_the_tree_of_a_session(store: Store, sql: Sql):
    root, fork1, fork2 = family(store)
    sibling = fork_session(store, root, "Sibling")
    found = [(row["id"], row["content"], row["parent_id"], row["level"]) for row in sql(TREE.format(root))]
    assert found == [
        (root, "Root", None, 1), (fork1, "Fork 1", root, 2), (sibling, "Sibling", root, 2), (fork2, "Fork 2", fork1, 3),
    ]  # fmt: skip
    assert [row["id"] for row in sql(TREE.format(fork1))] == [fork1, fork2]


@pytest.mark.check("MDB-4", "MDB-5")
def test_memories_are_those_of_the_functions(store: Store, sql: Sql):
    session, *_ = family(store)
    [row] = sql(f"SELECT * FROM memories WHERE id = '{session}'")
    view = session_view(store, session)
    assert {**row, "_metadata": json.loads(row["_metadata"])}.items() <= {**view, "session_id": None}.items()
    for row in sql(f"SELECT * FROM memories WHERE session_id = '{session}'"):
        view = message_view(store, session, row["id"])
        assert {**row, "_metadata": json.loads(row["_metadata"])}.items() <= view.items()


def test_a_memory_stands_there_once_however_often_it_was_forked(store: Store, sql: Sql):
    root, *_ = family(store)
    assert [row["content"] for row in sql("SELECT content FROM memories WHERE kind = 'message' ORDER BY content")] == [
        "Four", "One", "Three", "Two",
    ]  # fmt: skip
    store.delete(root)
    assert {row["content"] for row in sql("SELECT content FROM memories WHERE kind = 'message'")} == {
        "One", "Three", "Four",
    }  # fmt: skip


@pytest.mark.check("MDB-9", "MDB-10")
def test_edges_lead_from_a_message_to_its_session_and_to_what_it_replies_to(store: Store, sql: Sql):
    root, *_ = family(store)
    one, two = (each.id for each in store.messages(root))
    rows = sql(f"SELECT source_id, target_id, relation FROM memory_edges WHERE source_id IN ('{one}', '{two}')")
    assert {tuple(row.values()) for row in rows} == {
        (one, root, "belongs_to"), (two, root, "belongs_to"), (two, one, "reply_to"),
    }  # fmt: skip


# Indexes


@pytest.mark.check("MDB-25")
@pytest.mark.parametrize(
    ("statement", "searches"),
    [
        ("SELECT * FROM sessions WHERE id = 'x'", ["s USING INDEX sessions_id (id=?)"]),
        (
            "SELECT * FROM messages WHERE session_id = 'x'",
            ["s USING INDEX sessions_id (id=?)", "m USING INDEX messages_ord (session=?)"],
        ),
        (
            "SELECT * FROM messages WHERE session_id = 'x' AND parent_id = 'y'",
            ["s USING INDEX sessions_id (id=?)", "m USING INDEX messages_parent (session=? AND parent=?)"],
        ),
        (
            "SELECT * FROM messages WHERE session_id = 'x' AND message_id = 'y'",
            ["s USING INDEX sessions_id (id=?)", "m USING INDEX messages_id (session=? AND id=?)"],
        ),
        (
            "SELECT * FROM session_messages WHERE session_id = 'x'",
            ["s USING INDEX sessions_id (id=?)", "m USING INDEX messages_ord (session=?)"],
        ),
        ("SELECT * FROM memory_edges WHERE source_id = 'x' AND relation = 'forked_from'", ["f USING PRIMARY KEY"]),
    ],
)
def test_what_is_looked_up_is_found_by_index(sql: Sql, statement: str, searches: list[str]):
    plan = [row["detail"].replace("COVERING ", "") for row in sql(f"EXPLAIN QUERY PLAN {statement}")]
    for each in searches:
        assert any(line.startswith(f"SEARCH {each}") for line in plan), plan
    assert not any(line in ("SCAN s", "SCAN m") for line in plan)


@pytest.mark.check("MDB-25")
@pytest.mark.parametrize("where", ["session_id = 'x'", "session_id = 'x' AND parent_id = 'y'"])
def test_a_page_of_a_large_session_reads_no_other_rows(store: Store, where: str):
    """The rows that SQLite walks through are counted by what it asks of them."""
    store.create(id="x")
    store.create(id="other")
    for session, count in (("x", 10), ("other", 2000)):
        store.add_messages(session, [NewMessage(role="user", content="Hello") for _ in range(count)])
    connection = SqlConnection(store, writable=False)
    steps = itertools.count()
    connection._connection.set_progress_handler(lambda: next(steps) * 0, 1)
    list(connection.run(f"SELECT id FROM messages WHERE {where}").rows)
    connection.close()
    assert next(steps) < 500


# What the page says


def _table(head: str) -> list[list[str]]:
    """The rows of a table of docs/sql.md, by the first word of its head."""
    page = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.mark.check("COD-19")
def test_the_page_names_every_view_with_its_columns(store: Store):
    connection = SqlConnection(store, writable=False)
    columns = {view.name: ", ".join(connection.run(f"SELECT * FROM {view.name}").columns) for view in VIEWS}
    connection.close()
    assert {row[0]: row[1] for row in _table("view")} == columns


def test_the_page_names_every_function_with_its_arguments():
    assert [row[0] for row in _table("function")] == [f"{each.name}({each.arguments})" for each in FUNCTIONS]
