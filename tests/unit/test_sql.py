"""SQL reads the store as it stands, writes through functions alone, and reaches nothing beyond it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.memoriesdb.functions import FUNCTIONS
from steno.memoriesdb.sql import SqlConnection
from steno.memoriesdb.statements import complete, statements, with_tables
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import InvalidInput, SessionNotFound, StenoError
from steno.storage.model import NewMessage
from steno.storage.store import Store

Sql = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(1_750_000_000_000).__next__) as opened:
        yield opened


@pytest.fixture
def connection(store: Store) -> Iterator[SqlConnection]:
    opened = SqlConnection(store, writable=True)
    yield opened
    opened.close()


@pytest.fixture
def sql(connection: SqlConnection) -> Sql:
    return lambda statement: list(connection.run(statement).rows)


@pytest.fixture
def reading(store: Store) -> Iterator[Sql]:
    with Store(store.path, read_only=True) as opened:
        connection = SqlConnection(opened, writable=False)
        yield lambda statement: list(connection.run(statement).rows)
        connection.close()


def titles(store: Store) -> list[str]:
    return sorted(each.title for each in store.sessions())


# Functions that write


@pytest.mark.check("MDB-1", "MDB-2")
def test_the_page_s_own_call_makes_a_session(store: Store, sql: Sql):
    metadata = '{"type": "group_chat", "members": ["user1", "user2"], "status": "active"}'
    [(session,)] = sql(f"""
        -- Create a new session
        SELECT create_session(
            'Team Discussion',
            '{metadata}'
        );
    """)
    found = store.get(session)
    assert (found.title, found.metadata) == ("Team Discussion", json.loads(metadata))


@pytest.mark.check("MDB-5")
def test_the_page_s_own_call_adds_a_message(store: Store, sql: Sql):
    store.create(id="session-123")
    [(message,)] = sql("""
        SELECT add_message_to_session(
            'session-123',           -- Session ID
            'user1',                 -- Sender
            'Hello team!',           -- Message content
            '{"type": "text"}'       -- Additional metadata
        );
    """)
    found = store.get_message("session-123", message)
    assert (found.sender, found.content, found.metadata) == ("user1", "Hello team!", {"type": "text"})


@pytest.mark.check("MDB-13")
def test_the_page_s_own_call_makes_a_fork(store: Store, sql: Sql):
    store.create(id="original-session-id")
    for name in ("msg-123", "msg-124"):
        store.append("original-session-id", NewMessage(role="user", content=name, id=name))
    [(fork,)] = sql("""
        SELECT fork_session(
            'original-session-id',   -- Original session ID
            'Mobile Design Discussion',  -- New session title
            '{"parent_message_id": "msg-123", "reason": "Focus on mobile design"}'  -- Metadata
        );
    """)
    assert store.get(fork).forked_from == {
        "session": "original-session-id", "message": "msg-123", "reason": "Focus on mobile design",
    }  # fmt: skip
    assert [each.id for each in store.messages(fork)] == ["msg-123"]


def test_functions_may_stand_in_each_other(store: Store, sql: Sql):
    [(message,)] = sql("SELECT add_message_to_session(create_session('A'), 'user1', 'Hello')")
    [session] = store.sessions()
    assert [each.id for each in store.messages(session.id)] == [message]


def test_a_statement_that_writes_for_each_row_reads_none_of_what_it_writes(store: Store, sql: Sql):
    for name in "abc":
        store.create(id=name, title=name)
    assert len(sql("SELECT create_session('of ' || name) FROM sessions")) == 3
    assert len(sql("SELECT add_message_to_session(id, 'user1', 'Hello') FROM sessions ORDER BY updated_at")) == 6
    assert store.count() == (6, 6)


def test_a_function_sees_what_was_written_before_it_in_the_statement(store: Store, sql: Sql):
    store.create(id="s")
    [(_, text)] = sql("SELECT add_message_to_session('s', 'user1', 'Hello'), get_conversation_text('s')")
    assert text == "user1: Hello\n"


def test_a_statement_writes_all_or_nothing(store: Store, sql: Sql):
    for name in "ab":
        store.create(id=name, title=name)
    with pytest.raises(SessionNotFound, match="nope"):
        sql("""
            SELECT add_message_to_session(column1, 'user1', 'Hello') FROM (VALUES ('a'), ('b'), ('nope'))
        """)
    assert store.count() == (2, 0)


def test_a_statement_that_fails_by_itself_writes_nothing(store: Store, sql: Sql):
    with pytest.raises(InvalidInput, match="malformed JSON"):
        sql("SELECT create_session('A'), json_extract(column1, '$') FROM (VALUES ('{}'), ('{'))")
    assert store.count() == (0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT add_message_to_session('s', 'u', 'd') AS x WHERE x IS NOT NULL",
        "SELECT add_message_to_session(id, 'u', 'd') AS x, count(*) FROM sessions GROUP BY 1 HAVING x > ''",
        "SELECT x, x FROM (SELECT add_message_to_session(id, 'u', 'd') AS x FROM sessions)",
        "WITH m AS (SELECT add_message_to_session('s', 'u', 'd') AS x) SELECT x FROM m WHERE x IS NOT NULL",
        "WITH m AS NOT MATERIALIZED (SELECT add_message_to_session('s', 'u', 'd') AS x) SELECT x, x FROM m",
        "SELECT id, x FROM sessions, (SELECT add_message_to_session('s', 'u', 'd') AS x)",
        "SELECT x FROM add_by_view",
        "WITH m AS (SELECT add_message_to_session('s', 'u', 'd') AS x) SELECT 1 FROM sessions, m",
    ],
)
def test_a_statement_that_would_call_a_function_twice_for_a_row_is_refused(store: Store, sql: Sql, statement: str):
    for name in "st":
        store.create(id=name)
    sql("CREATE TEMP VIEW add_by_view AS SELECT add_message_to_session('s', 'u', 'd') AS x")
    with pytest.raises(InvalidInput, match=r"more than once for a row|cannot stand in a subquery") as caught:
        sql(statement)
    assert "MATERIALIZED" in caught.value.line
    assert store.count() == (2, 0)


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("SELECT add_message_to_session(id, 'u', 'd') FROM sessions ORDER BY 1", 2),
        ("SELECT ADD_MESSAGE_TO_SESSION((SELECT min(id) FROM sessions), 'u', 'd')", 1),
        ("SELECT add_message_to_session('s', 'u', 'd'), add_message_to_session('s', 'u', 'd')", 2),
        ("SELECT add_message_to_session('s', 'u', 'd') UNION ALL SELECT add_message_to_session('s', 'u', 'e')", 2),
        ("CREATE TEMP TABLE made AS SELECT add_message_to_session('s', 'u', 'd') AS x", 1),
        (
            """WITH m AS MATERIALIZED (SELECT add_message_to_session('s', 'u', 'd') AS x)
            SELECT a.x, b.x FROM m a, m b, sessions WHERE a.x IS NOT NULL UNION SELECT x, x FROM m""",
            1,
        ),
        ("explain SELECT add_message_to_session('s', 'u', 'd') AS x WHERE x IS NOT NULL", 0),
    ],
)
def test_a_function_writes_as_often_as_it_is_called(store: Store, sql: Sql, statement: str, count: int):
    for name in "st":
        store.create(id=name)
    sql(statement)
    assert store.count() == (2, count)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT add_message_to_session(id, 'u', 'd') AS x FROM main.sessions GROUP BY x",
        "SELECT DISTINCT \"add_message_to_session\"(id, 'u', 'd') AS x FROM main.sessions ORDER BY x",
    ],
)
def test_where_versions_of_sqlite_differ_a_statement_is_refused_or_writes_once(store: Store, sql: Sql, statement: str):
    for name in "st":
        store.create(id=name)
    try:
        sql(statement)
    except InvalidInput as exc:
        assert store.count() == (2, 0), exc  # noqa: PT017  either is right
    else:
        assert store.count() == (2, 2)


def test_rows_of_a_statement_that_writes_come_when_it_is_committed(store: Store, connection: SqlConnection):
    store.create(id="s")
    rows = connection.run("SELECT add_message_to_session('s', 'user1', column1) FROM (VALUES ('a'), ('b'))").rows
    assert not store.connection.in_transaction
    next(rows)
    assert store.count() == (1, 2)


def test_rows_of_a_statement_that_reads_come_as_they_are_asked_for(connection: SqlConnection):
    rows = connection.run("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n").rows
    assert list(itertools.islice(rows, 3)) == [(1,), (2,), (3,)]


@pytest.mark.check("MDB-5", "MDB-13")
def test_what_functions_write_is_stamped_and_syncs(store: Store, sql: Sql):
    [(session,)] = sql("SELECT create_session('A', '{\"created_by\": \"user1\"}')")
    since = store.last_seq
    [(message,)] = sql(f"SELECT add_message_to_session('{session}', 'user1', 'Hello')")
    sql(f"SELECT update_session_metadata('{session}', '{{\"status\": \"closed\"}}', 'user1')")
    batch, _, _ = local_changes(store, since=since, floor=since, max_bytes=1 << 20)
    [change] = decode_batch(batch).sessions
    assert (change.id, [each.id for each in change.messages]) == (session, [message])
    assert "metadata/status" in [each.path for each in change.registers]


def test_functions_take_as_many_arguments_as_they_say():
    counts = {each.name: list(each.counts) for each in FUNCTIONS}
    assert counts["create_session"] == [1, 2]
    assert counts["fork_session"] == [1, 2, 3]
    assert counts["get_conversation_text"] == [1]


@pytest.mark.check("MDB-29", "MDB-30")
def test_an_owner_s_session_is_changed_and_deleted(store: Store, sql: Sql):
    [(session,)] = sql("SELECT create_session('A', '{\"created_by\": \"user1\"}')")
    assert json.loads(sql(f"SELECT update_session_metadata('{session}', '{{\"a\": 1}}')")[0][0])["a"] == 1
    assert sql(f"SELECT soft_delete_session('{session}', 'user2')") == [(0,)]
    assert sql(f"SELECT soft_delete_session('{session}', 'user1')") == [(1,)]
    assert sql("SELECT * FROM sessions") == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT create_session('  ')", "Session title cannot be empty"),
        ("SELECT create_session(NULL)", "Session title cannot be empty"),
        ("SELECT create_session(5)", "title must be text"),
        ("SELECT create_session('A', '[]')", "must be a JSON object"),
        ("SELECT create_session('A', 'x')", "is no JSON"),
        ("SELECT create_session('A', x'7b7d')", "must be a JSON object"),
        ("SELECT create_session()", "wrong number of arguments"),
        ("SELECT add_message_to_session(NULL, 'user1', 'Hello')", "Session ID cannot be NULL"),
        ("SELECT add_message_to_session('nope', 'user1', 'Hello')", "Session not found: nope"),
        ("SELECT add_message_to_session('s', 'user1', NULL)", "content must be text"),
        ("SELECT add_message_to_session('s', 5, 'Hello')", "sender must be text"),
        ("SELECT fork_session('nope')", "Original session not found: nope"),
        ("SELECT fork_session('s', 'F', '{\"parent_message_id\": \"nope\"}')", "message not found"),
        ("SELECT fork_session(5)", "a session id is text"),
        ("SELECT update_session_metadata('nope', '{}')", "session not found"),
        ("SELECT get_formatted_conversation('nope')", "Session not found or is not a valid session: nope"),
        ("SELECT get_conversation_text(NULL)", "Session ID cannot be NULL"),
    ],
)
@pytest.mark.check("MDB-3", "MDB-8", "MDB-15", "MDB-21")
def test_bad_input_is_told_and_nothing_is_written(store: Store, sql: Sql, statement: str, said: str):
    store.create(id="s")
    before = store.last_seq
    with pytest.raises(StenoError, match=said):
        sql(statement)
    assert store.last_seq == before


@pytest.mark.parametrize("name", [each.name for each in FUNCTIONS if each.writes])
def test_functions_do_not_write_unless_that_was_asked_for(reading: Sql, name: str):
    function = next(each for each in FUNCTIONS if each.name == name)
    arguments = ", ".join(["'{}'"] * function.counts[0])
    with pytest.raises(InvalidInput) as caught:
        reading(f"SELECT {name}({arguments})")
    assert caught.value.line == "read-only: use --write"


def test_reading_needs_no_lock(store: Store, reading: Sql):
    store.create(id="s", title="A")
    with store.transaction():
        store.append("s", NewMessage(role="user", content="not yet"))
        assert reading("SELECT message_count, get_conversation_text(id) FROM sessions") == [(0, "")]


# What is refused


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET title = 'x'",
        "UPDATE main.sessions SET title = 'x'",
        "DELETE FROM messages",
        "DELETE FROM main.messages",
        "INSERT INTO main.meta VALUES ('a', 'b')",
        "INSERT INTO search (search) VALUES ('delete-all')",
        "WITH x AS (SELECT 1) UPDATE main.clock SET seq = 0",
        "CREATE TABLE main.t (a)",
        "CREATE VIRTUAL TABLE temp.t USING fts5 (a)",
        "CREATE INDEX main.i ON messages (id)",
        "CREATE TRIGGER main.t AFTER INSERT ON main.messages BEGIN SELECT 1; END",
        "DROP TABLE main.messages",
        "ALTER TABLE main.messages RENAME TO x",
        "REINDEX",
        "ANALYZE",
        "VACUUM",
        "VACUUM INTO 'stolen.db'",
        "ATTACH 'other.db' AS other",
        "DETACH main",
        "SELECT load_extension('x')",
        "PRAGMA writable_schema = 1",
        "PRAGMA trusted_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "SELECT * FROM pragma_journal_mode",
        "PRAGMA wal_checkpoint",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
    ],
)
def test_nothing_but_functions_writes_and_nothing_reaches_further(store: Store, sql: Sql, statement: str):
    store.create(id="s", title="A")
    before = store.path.read_bytes(), store.execute("SELECT * FROM sqlite_master").fetchall()
    with pytest.raises(InvalidInput):
        sql(statement)
    assert (store.path.read_bytes(), store.execute("SELECT * FROM sqlite_master").fetchall()) == before
    assert titles(store) == ["A"]


def test_who_updates_a_view_is_told_what_to_use(sql: Sql):
    with pytest.raises(InvalidInput, match="does not write to Steno's tables") as caught:
        sql("UPDATE sessions SET title = 'x'")
    assert "--write" in caught.value.line


@pytest.mark.parametrize(
    "statement", ["DROP TABLE sessions", "ALTER TABLE sessions RENAME TO x", "CREATE INDEX temp.i ON sessions (id)"]
)
def test_who_changes_a_view_as_a_table_is_told_the_same(sql: Sql, statement: str):
    with pytest.raises(InvalidInput, match="does not write to Steno's tables"):
        sql(statement)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_rows_that_nobody_read_end_with_the_connection(store: Store):
    connection = SqlConnection(store, writable=False)
    rows = connection.run("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n").rows
    next(rows)
    connection.close()
    assert list(rows) == []


def test_temporary_tables_are_one_s_own(store: Store, sql: Sql):
    store.create(id="s", title="A")
    sql("CREATE TEMP TABLE kept AS SELECT name FROM sessions")
    sql("INSERT INTO kept VALUES ('B')")
    assert sql("SELECT name FROM kept ORDER BY name") == [("A",), ("B",)]
    assert store.one("SELECT count(*) FROM sqlite_master WHERE name = 'kept'") == (0,)


def test_tables_can_be_described(sql: Sql):
    assert [row[1] for row in sql("PRAGMA table_info(sessions)")][:2] == ["id", "name"]
    assert ("messages",) in sql("SELECT name FROM pragma_table_list WHERE schema = 'temp'")


def test_a_file_of_somebody_else_calls_none_of_the_functions(tmp_path: Path):
    with Store(tmp_path / "steno.db") as store:
        store.execute("CREATE VIEW main.trap AS SELECT title FROM sessions")
        store.execute("PRAGMA writable_schema = 1")
        trap = "CREATE VIEW trap AS SELECT create_session('trapped')"
        store.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'trap'", (trap,))
    with Store(tmp_path / "steno.db") as store:
        connection = SqlConnection(store, writable=True)
        with pytest.raises(InvalidInput, match="unsafe use of create_session"):
            list(connection.run("SELECT * FROM main.trap").rows)
        connection.close()
        assert store.count() == (0, 0)


@pytest.mark.parametrize("statement", ["SELEC 1", "SELECT nothing", "SELECT ?", "SELECT 'a\0b'", "SELECT '\ud800'"])
def test_a_wrong_statement_is_bad_input(sql: Sql, statement: str):
    with pytest.raises(InvalidInput):
        sql(statement)


def test_a_statement_runs_behind_one_that_failed(sql: Sql):
    with pytest.raises(InvalidInput):
        sql("SELECT create_session('')")
    assert sql("SELECT 1") == [(1,)]


def test_a_long_statement_can_be_interrupted(sql: Sql):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sql("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    timer.join()
    assert sql("SELECT 1") == [(1,)]


def test_an_interrupted_statement_writes_nothing(store: Store, sql: Sql):
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sql("""
            WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT create_session('A ' || i) FROM n
        """)
    timer.join()
    assert store.count() == (0, 0)


# Functions as tables


@pytest.mark.check("MDB-16", "MDB-21", "MDB-22")
def test_the_page_s_own_questions_are_answered(store: Store, reading: Sql):
    store.create(id="session-123", title="Team")
    store.append("session-123", NewMessage(role="user", content="Hello team!", id="m", sender="user1"))
    [row] = reading("SELECT message_id, content, role, fork_depth FROM get_session_messages('session-123');")
    assert row == ("m", "Hello team!", "user", 0)
    [row] = reading("SELECT speaker, message, fork_info FROM get_formatted_conversation('session-123') AS turn;")
    assert row == ("user: ", "Hello team!", "")
    assert reading("SELECT get_conversation_text('session-123');") == [("user: Hello team!\n",)]
    assert len(reading("SELECT * FROM get_session_messages('session-123');")[0]) == 12


@pytest.mark.check("MDB-16")
def test_functions_give_arrays_for_json_each(store: Store, reading: Sql):
    for name in "ab":
        store.create(id=name)
        store.append(name, NewMessage(role="user", content=f"of {name}"))
    found = reading("""
        SELECT s.id, m.value ->> '$.content' FROM sessions s, json_each(get_session_messages(s.id)) m ORDER BY s.id
    """)
    assert found == [("a", "of a"), ("b", "of b")]


@pytest.mark.check("MDB-21")
def test_metadata_stands_in_a_formatted_conversation_where_it_is_asked_for(store: Store, reading: Sql):
    store.create(id="s")
    store.append("s", NewMessage(role="user", content="Hello", metadata={"emotion": "joy"}))
    assert reading("SELECT message_metadata FROM get_formatted_conversation('s')") == [(None,)]
    assert reading("SELECT message_metadata FROM get_formatted_conversation('s', 1)") == [('{"emotion":"joy"}',)]


@pytest.mark.parametrize(
    ("statement", "becomes"),
    [
        ("SELECT * FROM f('x')", "SELECT * FROM (SELECT value ->> '$.a' AS a FROM json_each(f('x')))"),
        ("select * from /* here */ F ( g(1, ')') ) x", "select * from /* here */ {F ( g(1, ')') )} x"),
        ("SELECT 1 JOIN f(1) JOIN\nf(2)", "SELECT 1 JOIN {f(1)} JOIN\n{f(2)}"),
        ("SELECT f('x') FROM t", "SELECT f('x') FROM t"),
        ("SELECT ' FROM f(1)', \" FROM f(1)\" -- FROM f(1)", "SELECT ' FROM f(1)', \" FROM f(1)\" -- FROM f(1)"),
        ("SELECT * FROM f", "SELECT * FROM f"),
        ("SELECT * FROM f(", "SELECT * FROM f("),
        ("SELECT 'it''s' FROM [from f(1)] /* FROM f(1)", "SELECT 'it''s' FROM [from f(1)] /* FROM f(1)"),
    ],
)
def test_only_where_a_table_is_read_is_a_function_one(statement: str, becomes: str):
    expected = becomes
    if "{" in becomes:
        expected = becomes.replace("{", "(SELECT value ->> '$.a' AS a FROM json_each(").replace("}", "))")
    assert with_tables(statement, {"f": ("a",)}) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1;", " SELECT 2"]),
        ("SELECT ';' ; -- ; \n ", ["SELECT ';' ;"]),
        (" ;; \n", []),
        ("", []),
        (
            "CREATE TEMP TRIGGER t AFTER INSERT ON t BEGIN SELECT 1; END; SELECT 2;",
            ["CREATE TEMP TRIGGER t AFTER INSERT ON t BEGIN SELECT 1; END;", " SELECT 2;"],
        ),
        ("SELECT 'open; ", ["SELECT 'open; "]),
    ],
)
def test_a_text_is_taken_apart_where_its_statements_end(text: str, found: list[str]):
    assert list(statements(text)) == found


@pytest.mark.parametrize(
    ("text", "whole"), [("SELECT 1", False), ("SELECT 1;", True), ("", True), ("-- a", True), ("SELECT ';\n", False)]
)
def test_a_statement_is_whole_when_it_ends_in_a_semicolon(text: str, whole: bool):
    assert complete(text) is whole
