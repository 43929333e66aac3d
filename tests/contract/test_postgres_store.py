"""What holds for sessions in PostgreSQL beyond what holds for every store: its tables, its pool, and odd text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from steno.storage.errors import (
    InvalidInput,
    MissingDriver,
    NewerSchema,
    StoreDamaged,
    StoreRefused,
    StoreUnreachable,
)
from steno.storage.library.contract import Selection
from steno.storage.library.postgres_store import PostgresSessionStore
from steno.tests.contract.stores import Clock, Wire, contents, loaded, made


@pytest.fixture
def store(postgres_url: str, postgres_schema: str) -> Iterator[PostgresSessionStore]:
    store = PostgresSessionStore(postgres_url, schema=postgres_schema, clock=Clock())
    yield store
    store.close()


@pytest.fixture
def connection(postgres_url: str, postgres_schema: str) -> Iterator[psycopg.Connection]:
    """Another connection, which sees the store's tables under their bare names."""
    with psycopg.connect(postgres_url, autocommit=True, options=f"-csearch_path={postgres_schema}") as connection:
        yield connection


def test_stores_that_are_opened_at_once_for_the_first_time_make_the_tables_once(
    postgres_url: str, postgres_schema: str
):
    stores = [PostgresSessionStore(postgres_url, schema=postgres_schema, pool_size=1) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: made(each[1], f"s{each[0]}", "a"), enumerate(stores)))
    assert stores[0].count() == 8
    for each in stores:
        each.close()


def test_threads_that_use_one_store_for_the_first_time_open_it_once(store: PostgresSessionStore):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: made(store, f"s{n}", "a"), range(8)))
    assert store.count() == 8


def test_tables_of_a_newer_version_are_left_alone(store: PostgresSessionStore, connection: psycopg.Connection):
    made(store, "one")
    store.close()
    connection.execute("UPDATE version SET number = 1000")
    with pytest.raises(NewerSchema):
        store.get("one")


def test_two_schemas_in_one_database_know_nothing_of_each_other(store: PostgresSessionStore, postgres_url: str):
    made(store, "one", "a")
    other = PostgresSessionStore(postgres_url, schema="test_other")
    assert other.get("one") is None
    other.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA test_other CASCADE")


def test_a_schema_that_somebody_made_for_us_is_used(
    store: PostgresSessionStore, connection: psycopg.Connection, postgres_schema: str
):
    connection.execute(f"CREATE SCHEMA {postgres_schema}".encode())
    made(store, "one", "a")
    assert contents(store) == ["a"]


def test_who_may_not_create_uses_the_tables_that_are_there(
    store: PostgresSessionStore, connection: psycopg.Connection, postgres_url: str, postgres_schema: str
):
    made(store, "one", "a")
    grants = f"""CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {postgres_schema} TO guest;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {postgres_schema} TO guest"""
    connection.execute(grants.encode())
    guest = PostgresSessionStore(postgres_url.replace("steno@", "guest@"), schema=postgres_schema)
    made(guest, "two", "b")
    assert contents(guest, "one") == ["a"]
    guest.close()
    connection.execute("DROP OWNED BY guest; DROP ROLE guest")


@pytest.mark.parametrize("text", ["a\0b", "\0", "\x01", "\x01\x02\0\x01", "\0\0\x01\x01"])
def test_characters_that_postgresql_cannot_carry_come_back(store: PostgresSessionStore, text: str):
    session = made(store, "one", text, provider=text, model=text, metadata={"agent_id": text, text: text})
    session.set_state(text, text)
    store.save(session)
    again = loaded(store)
    assert (again.provider, again.model, again.state) == (text, text, {text: text})
    assert again.metadata == {"agent_id": text, text: text}
    assert [message.content for message in again.messages] == [text]
    assert [each.id for each in store.select(Selection(agent_id=text))] == ["one"]


def test_texts_longer_than_an_index_can_hold_are_kept_and_found(store: PostgresSessionStore):
    user, title, session_id = "üser-" * 1000, "title-" * 1000, "i" * 2048
    made(store, session_id, "a", user_id=user, title=title)
    made(store, "two", "a", user_id=user + "other", title=title + "other")
    assert [each.id for each in store.list_for_user(user)] == [session_id]
    assert [each.id for each in store.select(Selection(title=title))] == [session_id]


def test_messages_are_rows_and_a_purge_leaves_none(store: PostgresSessionStore, connection: psycopg.Connection):
    made(store, "one", "a", "b")
    made(store, "two", "c")
    store.delete("one")
    rows = connection.execute("SELECT body::json ->> 'content' FROM messages ORDER BY session, place").fetchall()
    assert rows == [("a",), ("b",), ("c",)]
    store.purge("one")
    assert connection.execute("SELECT count(*) FROM messages").fetchone() == (1,)


def test_what_a_deletion_hid_comes_back_by_a_restore_though_the_session_was_written_to(store: PostgresSessionStore):
    made(store, "one", "old", user_id="ann")
    store.delete("one")
    made(store, "one", "new")
    assert contents(store) == ["new"]
    assert store.restore("one")
    assert contents(store) == ["old", "new"]
    assert (loaded(store).message_count, loaded(store).size_bytes, loaded(store).title) == (2, 6, "old")


def test_the_lists_of_a_user_and_of_all_use_an_index(store: PostgresSessionStore, connection: psycopg.Connection):
    made(store, "one", "a", user_id="ann")
    connection.execute("SET enable_seqscan = off")
    for where, index in (
        ("deleted_ms IS NULL ORDER BY updated_ms DESC, id LIMIT 20", "sessions_by_update"),
        ("left(user_id, 255) = left('ann', 255) AND user_id = 'ann' ORDER BY updated_ms DESC", "sessions_by_user"),
        ("left(shown, 255) = left('a', 255) AND shown = 'a'", "sessions_by_title"),
    ):
        plan = connection.execute(f"EXPLAIN SELECT * FROM sessions WHERE {where}".encode()).fetchall()
        assert any(index in line for (line,) in plan)


def test_no_more_connections_are_open_than_the_pool_may_have(
    postgres_url: str, postgres_schema: str, connection: psycopg.Connection
):
    store = PostgresSessionStore(f"{postgres_url}?application_name=counted", schema=postgres_schema, pool_size=2)
    made(store, "one")
    most = 0

    def saves(number: int) -> None:
        session = loaded(store)
        for at in range(5):
            session.add_message("user", f"{number}:{at}")
            store.save(session)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(saves, number) for number in range(8)]
        while not all(each.done() for each in waiting):
            sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"
            most = max(most, *(connection.execute(sql).fetchone() or (0,)))
    store.close()
    assert 1 <= most <= 2


# What goes wrong


@pytest.mark.parametrize("module", ["psycopg", "psycopg_pool"])
def test_without_the_driver_an_import_error_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'steno\[postgres\]'") as caught:
        PostgresSessionStore("postgresql://localhost/steno")
    assert isinstance(caught.value, MissingDriver)


def test_a_server_that_does_not_answer_is_named_without_the_password():
    store = PostgresSessionStore("postgresql://ann:secret@127.0.0.1:1/steno")
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:1/steno") as caught:
        store.get("one")
    assert caught.value.retryable
    assert "secret" not in caught.value.line


def test_a_database_that_is_not_there_is_refused(postgres_url: str):
    store = PostgresSessionStore(postgres_url.replace("steno@", "steno:secret@").replace("/postgres", "/nowhere"))
    with pytest.raises(StoreRefused) as caught:
        store.get("one")
    assert not caught.value.retryable
    assert "secret" not in caught.value.line


@pytest.mark.parametrize("url", ["postgresql://ann:secret@localhost/x?nonsense=1", "secret"])
def test_what_is_no_url_is_not_repeated(url: str):
    with pytest.raises(InvalidInput) as caught:
        PostgresSessionStore(url)
    assert "secret" not in caught.value.line


@pytest.mark.parametrize("schema", ["", "Steno", "a b", 'a"; DROP', "1a", "a" * 64])
def test_a_schema_has_a_plain_name(schema: str):
    with pytest.raises(InvalidInput):
        PostgresSessionStore("postgresql://localhost/steno", schema=schema)


def test_a_pool_has_at_least_one_connection():
    with pytest.raises(InvalidInput):
        PostgresSessionStore("postgresql://localhost/steno", pool_size=0)


def test_a_message_that_something_else_wrote_is_reported(store: PostgresSessionStore, connection: psycopg.Connection):
    made(store, "one", "a")
    connection.execute("UPDATE messages SET body = '{\"role\": 3}'")
    session = loaded(store)
    with pytest.raises(StoreDamaged, match="session one"):
        session.all_messages()


def test_connections_that_were_cut_are_opened_again(store: PostgresSessionStore, connection: psycopg.Connection):
    session = made(store, "one", "a")
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '' AND pid <> pg_backend_pid()"
    )
    session.add_message("user", "b")
    store.save(session)
    assert contents(store) == ["a", "b"]


def test_a_save_whose_answer_was_lost_is_done_once(postgres_url: str, postgres_schema: str):
    wire = Wire(postgres_url)
    store = PostgresSessionStore(wire.url, schema=postgres_schema, clock=Clock())
    session = made(store, "one", "a")
    session.add_message("user", "b")
    wire.lose_next_answer()
    store.save(session)
    assert contents(store) == ["a", "b"]
    assert loaded(store).message_count == 2
    store.close()
    wire.close()
