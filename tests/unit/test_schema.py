"""Migrations are frozen, older databases are migrated after a copy was made, newer ones are left alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from steno.storage import schema
from steno.storage.database import Database
from steno.storage.errors import NewerSchema, NoHome, OlderSchema
from steno.storage.sqlite import dbapi
from steno.storage.store import Store

FROZEN = ["b4e0f84c29dbe7bd", "d45b6a9557ee72ca", "2a5e1f7ff2125e28", "a4ea4863e2690bb5", "cff04df5f17a0824"]
"""A released migration never changes; a new one adds its hash here."""

SECOND = "CREATE TABLE more (x INTEGER);\nINSERT INTO more VALUES (7);\n"
BROKEN = "CREATE TABLE more (x INTEGER);\nINSERT INTO nowhere VALUES (7);\n"


def _version(path: Path) -> int:
    connection = dbapi.connect(str(path))
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def _next_version(monkeypatch: pytest.MonkeyPatch, migration: str) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, migration))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of this version with one session."""
    place = tmp_path / "steno.db"
    with Store(place) as store:
        store.create(id="kept")
    return place


def test_migrations_are_frozen():
    assert [hashlib.sha256(text.encode()).hexdigest()[:16] for text in schema.MIGRATIONS] == FROZEN


def test_the_version_is_the_number_of_migrations(path: Path):
    assert _version(path) == schema.VERSION == len(schema.MIGRATIONS)


def test_opening_a_current_database_migrates_nothing(path: Path):
    with Store(path):
        assert [each.name for each in path.parent.iterdir() if ".before-" in each.name] == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_database_says_upgrade_and_is_left_alone(path: Path, read_only: bool):
    connection = dbapi.connect(str(path))
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NewerSchema) as caught:
        Database(path, read_only=read_only)
    assert "upgrade" in caught.value.line
    assert path.read_bytes() == before


def test_an_older_database_is_migrated_and_keeps_what_it_held(path: Path, monkeypatch: pytest.MonkeyPatch):
    _next_version(monkeypatch, SECOND)
    with Store(path) as store:
        assert store.one("SELECT x FROM more") == (7,)
        assert store.get("kept").id == "kept"
    assert _version(path) == schema.VERSION


def test_an_older_database_is_copied_before_it_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch):
    old = schema.VERSION
    _next_version(monkeypatch, SECOND)
    with Store(path):
        pass
    [copy] = path.parent.glob(f"steno.db.before-{schema.VERSION}.*")
    assert _version(copy) == old
    assert copy.stat().st_mode & 0o777 == 0o600
    monkeypatch.undo()
    with Store(copy) as store:
        assert store.get("kept").id == "kept"


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch):
    old = schema.VERSION
    _next_version(monkeypatch, BROKEN)
    with pytest.raises(Exception, match="nowhere"):
        Store(path)
    monkeypatch.undo()
    assert _version(path) == old
    with Store(path) as store:
        assert store.one("SELECT count(*) FROM sqlite_master WHERE name = 'more'") == (0,)


def test_an_older_database_is_not_migrated_by_a_reader(path: Path, monkeypatch: pytest.MonkeyPatch):
    old = schema.VERSION
    _next_version(monkeypatch, SECOND)
    with pytest.raises(OlderSchema):
        Database(path, read_only=True)
    assert _version(path) == old


def test_an_empty_file_is_no_store_for_a_reader(tmp_path: Path):
    path = tmp_path / "steno.db"
    path.touch()
    with pytest.raises(NoHome):
        Database(path, read_only=True)
    assert path.read_bytes() == b""


def test_the_index_of_a_sessions_messages_is_used_to_find_the_last_one(path: Path):
    with Database(path) as database:
        plan = database.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM messages WHERE session = 1 ORDER BY ord DESC LIMIT 1"
        ).fetchall()
    assert "messages_ord" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_what_happened_since_a_number_of_the_feed_is_an_index_range(path: Path):
    with Database(path) as database:
        for table in ("sessions", "messages"):
            plan = database.execute(f"EXPLAIN QUERY PLAN SELECT id FROM {table} WHERE seq > 7 ORDER BY seq").fetchall()
            assert f"{table}_seq" in str(plan)
