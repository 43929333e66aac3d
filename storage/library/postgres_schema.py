"""The tables of a PostgreSQL store, and how they come to be and to be newer.

Each step of `STEPS` is done once and never changed after a release. Programs that start at once wait for each other
on an advisory lock (tests/contract/test_postgres_store.py).
"""

from __future__ import annotations

from ..errors import NewerSchema
from .postgres_link import Work

STEPS = (
    """
    CREATE TABLE steno.sessions (
        no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text COLLATE "C" NOT NULL UNIQUE,
        title text COLLATE "C" NOT NULL DEFAULT '',
        automatic text COLLATE "C" NOT NULL DEFAULT '',
        shown text COLLATE "C" NOT NULL GENERATED ALWAYS AS (CASE WHEN title = '' THEN automatic ELSE title END) STORED,
        status text COLLATE "C" NOT NULL DEFAULT 'active',
        provider text COLLATE "C",
        model text COLLATE "C",
        user_id text COLLATE "C",
        agent_id text COLLATE "C",
        tags json NOT NULL DEFAULT '[]',
        metadata json NOT NULL DEFAULT '{}',
        state json NOT NULL DEFAULT '{}',
        forked_from json,
        created_ms bigint NOT NULL,
        touched_ms bigint NOT NULL,
        newest_ms bigint NOT NULL DEFAULT 0,
        updated_ms bigint NOT NULL GENERATED ALWAYS AS (greatest(touched_ms, newest_ms)) STORED,
        deleted_ms bigint,
        message_count bigint NOT NULL DEFAULT 0,
        size_bytes bigint NOT NULL DEFAULT 0,
        pushed bigint NOT NULL,
        hidden_upto bigint NOT NULL
    );
    CREATE INDEX sessions_by_update ON steno.sessions (updated_ms DESC);
    CREATE INDEX sessions_by_user ON steno.sessions (left(user_id, 255), updated_ms DESC);
    CREATE INDEX sessions_by_title ON steno.sessions (left(shown, 255));
    CREATE TABLE steno.messages (
        session bigint NOT NULL REFERENCES steno.sessions (no) ON DELETE CASCADE,
        place bigint NOT NULL,
        id text COLLATE "C" NOT NULL,
        size_bytes bigint NOT NULL,
        time_ms bigint NOT NULL,
        title text COLLATE "C" NOT NULL,
        body text COLLATE "C" NOT NULL,
        PRIMARY KEY (session, place),
        UNIQUE (session, id)
    );
    CREATE TABLE steno.users (
        id text COLLATE "C" PRIMARY KEY,
        created_ms bigint NOT NULL,
        deleted_ms bigint,
        profile json NOT NULL
    );
    """,
)
"""``place`` is a message's number in the order of arrival; up to ``hidden_upto`` they were hidden by a deletion."""


def ready(work: Work) -> None:
    """Make the tables, or bring them up to date; done again it does nothing. Raises `NewerSchema`."""
    schema = work.schema
    with work.transaction():
        work.row("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"steno schema {schema}",))
        # Asked, not created IF NOT EXISTS: that needs a right to create also where there is nothing to do.
        if not _exists(work, "to_regnamespace", schema):
            work.do(f'CREATE SCHEMA "{schema}"')
        if not _exists(work, "to_regclass", f"{schema}.version"):
            work.do("CREATE TABLE steno.version (number integer NOT NULL)")
        row = work.row("SELECT max(number) FROM steno.version")
        done = row[0] or 0 if row else 0
        if done > len(STEPS):
            raise NewerSchema(path=f"schema {schema}")
        for step in STEPS[done:]:
            work.do(step)
        if done < len(STEPS):
            work.do("DELETE FROM steno.version")
            work.do("INSERT INTO steno.version VALUES (%s)", (len(STEPS),))


def _exists(work: Work, look_up: str, name: str) -> bool:
    row = work.row(f"SELECT {look_up}(%s) IS NOT NULL", (name,))
    return row is not None and row[0]
