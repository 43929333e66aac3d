"""The tables of ``steno.db`` and how an older database becomes a newer one.

Migrations are frozen text: a new one is added, an old one is never edited
(tests/unit/test_schema.py compares their hashes). The version stands in ``user_version``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import NewerSchema, OlderSchema
from .rows import encode_json, originals, session_births
from .sqlite import dbapi

if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Connection

    from sqlite_utils import Database as SchemaDatabase

VERSION = 5

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL,      -- the feed's counter
    hlc INTEGER NOT NULL,      -- the hybrid logical clock
    rebuilt INTEGER NOT NULL   -- the counter of rebuilt stamps
);
CREATE TABLE devices (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE gaps (device TEXT PRIMARY KEY, clock INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE sessions (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    life INTEGER NOT NULL,
    seq INTEGER NOT NULL,        -- last changed, in the feed
    local_seq INTEGER NOT NULL,  -- last written here, or 0
    births BLOB NOT NULL,        -- msgpack [[clock, author, created_ms, forked_from, source]], least first
    touched INTEGER NOT NULL,
    -- what follows is cached from births, registers and messages
    title TEXT NOT NULL, automatic INTEGER NOT NULL, status TEXT NOT NULL, provider TEXT, model TEXT, user_id TEXT,
    tags TEXT NOT NULL, metadata TEXT NOT NULL, state TEXT NOT NULL,
    created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, message_count INTEGER NOT NULL,
    deleted_ms INTEGER, hidden INTEGER NOT NULL, vectors INTEGER NOT NULL, incomplete INTEGER NOT NULL
);
CREATE UNIQUE INDEX sessions_id ON sessions (id);
CREATE UNIQUE INDEX sessions_seq ON sessions (seq);
CREATE INDEX sessions_recent ON sessions (hidden, updated_ms);
CREATE INDEX sessions_title ON sessions (title);

CREATE TABLE messages (
    no INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    ord INTEGER NOT NULL,
    seq INTEGER NOT NULL,        -- last changed, in the feed
    local_seq INTEGER NOT NULL,  -- born here, or 0
    born_seq INTEGER NOT NULL,   -- arrived, in the feed
    hidden INTEGER NOT NULL,     -- 1 deleted by itself, 2 within a vector of its session
    edited INTEGER NOT NULL,     -- 1 where registers of this message stand in their table
    id TEXT NOT NULL, clock INTEGER NOT NULL, author INTEGER NOT NULL, after TEXT, inserted INTEGER NOT NULL,
    role TEXT NOT NULL, sender TEXT, content NOT NULL, time_ms INTEGER NOT NULL, time_text TEXT,
    parent TEXT, model TEXT, usage TEXT, metadata TEXT, origin TEXT, births BLOB
);
CREATE UNIQUE INDEX messages_id ON messages (session, id);
CREATE INDEX messages_ord ON messages (session, ord);
CREATE UNIQUE INDEX messages_seq ON messages (seq);
CREATE INDEX messages_moved ON messages (local_seq) WHERE local_seq < seq AND local_seq > 0;

CREATE TABLE registers (
    session INTEGER NOT NULL, message INTEGER NOT NULL, path TEXT NOT NULL,
    seq INTEGER NOT NULL, local_seq INTEGER NOT NULL, conflict INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (session, message, path)
) WITHOUT ROWID;
CREATE INDEX registers_conflict ON registers (conflict, seq) WHERE conflict;
CREATE TABLE revisions (
    session INTEGER NOT NULL, message INTEGER NOT NULL, path TEXT NOT NULL,
    from_seq INTEGER NOT NULL, until_seq INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (session, message, path, from_seq)
) WITHOUT ROWID;
CREATE TABLE waiting (
    session INTEGER NOT NULL, message TEXT NOT NULL, path TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (session, message, path)
) WITHOUT ROWID;

CREATE TABLE files (
    session INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, sha256 BLOB NOT NULL
);
CREATE TABLE refused (path TEXT PRIMARY KEY, line INTEGER NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE unwritten (session INTEGER PRIMARY KEY);  -- its file is to be written whatever the feed says
CREATE TABLE saves (
    no INTEGER PRIMARY KEY, session INTEGER NOT NULL, rev TEXT NOT NULL, lines BLOB NOT NULL, UNIQUE (session, rev)
);

CREATE TABLE outbox (
    vault TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sealed BLOB NOT NULL,
    upto_seq INTEGER NOT NULL, PRIMARY KEY (vault, number)
);
CREATE TABLE logs (
    vault TEXT NOT NULL, device TEXT NOT NULL, ranges TEXT NOT NULL, gapless_clock INTEGER NOT NULL,
    PRIMARY KEY (vault, device)
) WITHOUT ROWID;
CREATE TABLE objects (
    vault TEXT NOT NULL, name TEXT NOT NULL, problem TEXT NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (vault, name)
) WITHOUT ROWID;

CREATE VIRTUAL TABLE search USING fts5 (
    text, content = '', contentless_delete = 1, detail = full, tokenize = "unicode61 remove_diacritics 2"
);
INSERT INTO search (search, rank) VALUES ('hashsize', 16777216);  -- a slice of the index is flushed once, at its end
INSERT INTO clock VALUES (1, 0, 0, 0);
"""

_SECOND = """
ALTER TABLE sessions ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;  -- cached: contents of the shown messages
UPDATE sessions SET size_bytes =
    (SELECT ifnull(sum(length(CAST(content AS BLOB))), 0) FROM messages WHERE session = sessions.no AND hidden = 0);
ALTER TABLE sessions ADD COLUMN born_seq INTEGER NOT NULL DEFAULT 0;  -- arrived, in the feed; earlier ones: at most
UPDATE sessions SET born_seq =
    min(seq, ifnull((SELECT min(born_seq) FROM messages WHERE session = sessions.no), seq));
ALTER TABLE sessions ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;      -- the greatest life that was purged, or 0
ALTER TABLE sessions ADD COLUMN history_seq INTEGER NOT NULL DEFAULT 0; -- what it was before this number is purged
CREATE INDEX sessions_user ON sessions (user_id, hidden, updated_ms) WHERE user_id IS NOT NULL;
CREATE TABLE forks (                                                    -- cached from births; 1 is a session's original
    ancestor TEXT NOT NULL, session INTEGER NOT NULL, distance INTEGER NOT NULL, PRIMARY KEY (ancestor, session)
) WITHOUT ROWID;
CREATE INDEX forks_session ON forks (session);
INSERT INTO forks SELECT value, no, key + 1 FROM sessions, json_each(originals(births));
CREATE INDEX messages_parent ON messages (session, parent) WHERE parent IS NOT NULL;
DROP INDEX messages_ord;
CREATE INDEX messages_ord ON messages (session, ord, hidden);           -- a page is skipped to without reading rows

CREATE TABLE users (
    id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER,
    email TEXT, first_name TEXT, last_name TEXT, metadata TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE actors (
    device INTEGER NOT NULL, clock INTEGER NOT NULL, actor TEXT NOT NULL, PRIMARY KEY (device, clock)
) WITHOUT ROWID;

DROP TABLE search;
CREATE VIRTUAL TABLE search USING fts5 (
    text, stems, content = '', contentless_delete = 1, detail = full, tokenize = "unicode61 remove_diacritics 2"
);
INSERT INTO search (search, rank) VALUES ('hashsize', 16777216);
INSERT INTO search (search, rank) VALUES ('automerge', 8);  -- a fifth faster to write than 4, as fast to search
DELETE FROM cursors WHERE name = 'search';
"""

_THIRD = """
ALTER TABLE refused ADD COLUMN col INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refused ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;  -- so many messages it would delete, if it is asked
CREATE TABLE taken_out (                                            -- lost text by hand, which the history keeps
    session INTEGER NOT NULL, message INTEGER NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (session, message)
) WITHOUT ROWID;
"""

_FOURTH = """
CREATE TABLE published (                                            -- segments under this device's id on a remote
    vault TEXT NOT NULL, name TEXT NOT NULL,
    state INTEGER NOT NULL,                                         -- 0 to be put, 1 there, 2 replaced, 3 deleted
    since_ms INTEGER NOT NULL, content_bytes INTEGER NOT NULL, key TEXT NOT NULL,
    seq INTEGER NOT NULL,                                           -- the feed's number when its content was made
    sessions BLOB,                                                  -- hashes of the ids in it; NULL: not known
    PRIMARY KEY (vault, name)
) WITHOUT ROWID;
INSERT INTO published SELECT vault, name, 1, 0, 0, '', 0, NULL FROM objects, meta
    WHERE key = 'device' AND problem = '' AND name LIKE 'log/' || value || '.%';
CREATE TABLE peers (                                                -- what other devices say of themselves
    vault TEXT NOT NULL, device TEXT NOT NULL, n INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (vault, device)
) WITHOUT ROWID;
"""

_FIFTH = """
ALTER TABLE sessions ADD COLUMN local_only INTEGER NOT NULL DEFAULT 0;  -- 1: nothing of it is sent to a remote
CREATE INDEX sessions_local ON sessions (no) WHERE local_only;
"""

MIGRATIONS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)


def ready(connection: Connection, path: Path, *, read_only: bool) -> bool:
    """Bring the database to `VERSION`; False where it is empty and may not be written.

    An older database is copied to ``<name>.before-<version>`` first. Raises `NewerSchema`, and `OlderSchema` where it
    may not be written.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found == VERSION:
        return True
    if found > VERSION:
        raise NewerSchema(path=str(path))
    if read_only and found:
        raise OlderSchema(path=str(path))
    if read_only:
        return False
    if found:
        _back_up(connection, path, found)
    _migrate(connection)
    return True


def _back_up(connection: Connection, path: Path, version: int) -> None:
    copy = path.with_name(f"{path.name}.before-{version + 1}.{int(time.time())}")
    copy.touch(mode=0o600)
    target = dbapi.connect(str(copy))
    try:
        connection.backup(target)
    finally:
        target.close()


def _migrate(connection: Connection) -> None:
    from sqlite_utils import Database, Migrations  # noqa: PLC0415  80 ms, needed once in a store's life

    migrations = Migrations("steno")
    for number, text in enumerate(MIGRATIONS, start=1):
        migrations(name=f"{number:04d}")(_step(number, text))
    connection.create_function("originals", 1, _originals)
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(Database(connection))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _originals(births: bytes) -> str:
    return encode_json(originals(session_births(births))).decode()


def _step(number: int, text: str) -> Callable[[SchemaDatabase], None]:
    def apply(database: SchemaDatabase) -> None:
        for statement in _statements(text):
            database.conn.execute(statement)
        database.conn.execute(f"PRAGMA user_version = {number}")

    return apply


def _statements(text: str) -> list[str]:
    statements, lines = [], ""
    for line in text.splitlines():
        lines += line + "\n"
        if dbapi.complete_statement(lines):
            statements.append(lines)
            lines = ""
    return statements
