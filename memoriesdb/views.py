"""The store as tables, for people who type SQL: temporary views over the tables, which have other columns.

Deleted sessions and messages are in none of them. Times are RFC 3339 text in UTC; a message's ``timestamp`` is
the text that its writer gave. (docs/sql.md, tests/unit/test_sql_views.py)
"""

# ruff: noqa: S608  every piece of a view is a constant

from __future__ import annotations

from typing import NamedTuple

from ..storage.conversation import NO_ROLE
from ..storage.packing import read_sql


def _time(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"


_CONTENT = f"CAST({read_sql('m.content')} AS TEXT)"
_ROLE = f"iif(m.role = '{NO_ROLE}', 'system', m.role)"
_TIMESTAMP = f"ifnull(m.time_text, {_time('m.time_ms')})"
_METADATA = "ifnull(m.metadata, '{}')"
_MEMORY_METADATA = (
    f"json_set({_METADATA}, '$.sent_at', {_TIMESTAMP}, iif(m.sender IS NULL, '$.sent_at', '$.sender'), "
    f"ifnull(m.sender, {_TIMESTAMP}))"
)
# A title that no other session has is a name; any other is one together with the id.
_REPEATED = "EXISTS (SELECT 1 FROM main.sessions o WHERE o.title = s.title AND o.no <> s.no AND o.hidden = 0)"
_NAME = f"iif(s.title = '' OR {_REPEATED}, ltrim(s.title || ' (' || s.id || ')'), s.title)"
_ORIGINAL = "(SELECT ancestor FROM main.forks WHERE session = s.no AND distance = 1)"
_SESSIONS = "main.sessions s"
_MESSAGES = "main.sessions s JOIN main.messages m ON m.session = s.no"
_LIVE, _SHOWN = "s.hidden = 0", "s.hidden = 0 AND m.hidden = 0"
_CHAIN = "iif(m.origin IS NULL, json_array(k.session_id), fork_chain(k.session_id, m.origin))"
# A copy that a fork holds is the same memory as what it was copied from, as long as that is there.
_COPIED = """EXISTS (
    SELECT 1 FROM main.sessions o JOIN main.messages c ON c.session = o.no
    WHERE o.id = m.origin ->> '$.session' AND c.id = m.origin ->> '$.message' AND o.hidden = 0 AND c.hidden = 0
)"""
_OWN = f"{_SHOWN} AND (m.origin IS NULL OR NOT {_COPIED})"


class View(NamedTuple):
    """A view: what it is good for, and what it is."""

    name: str
    purpose: str
    sql: str


VIEWS = (
    View(
        "sessions",
        "every session; name is the title, with the id where several have it",
        f"""
        SELECT s.id, {_NAME} AS name, {_time("s.created_ms")} AS created_at, {_time("s.updated_ms")} AS updated_at,
            s.metadata, s.title, s.status, s.provider, s.model, s.user_id, s.tags, s.state, s.message_count,
            s.size_bytes, {_ORIGINAL} AS forked_from
        FROM {_SESSIONS} WHERE {_LIVE}
        """,
    ),
    View(
        "messages",
        "every message; id is a number of this store, message_id is what the rest of Steno calls it",
        f"""
        SELECT m.no AS id, s.id AS session_id, m.role, {_CONTENT} AS content, {_TIMESTAMP} AS timestamp,
            {_METADATA} AS metadata, m.id AS message_id, m.sender, m.parent AS parent_id, m.model, m.usage,
            m.origin, m.ord AS place
        FROM {_MESSAGES} WHERE {_SHOWN}
        """,
    ),
    View(
        "session_messages",
        "the history of a session, with where each message comes from",
        # The places are counted without the contents, which may be larger than the memory.
        f"""
        SELECT k.session_id, m.id AS message_id, {_CONTENT} AS content, {_ROLE} AS role, m.sender,
            json_array_length({_CHAIN}) - 1 AS fork_depth, k.position, json_extract({_CHAIN}, '$[#-1]') AS owner_id,
            {_CHAIN} AS fork_chain, m.parent AS parent_id, {_TIMESTAMP} AS timestamp, {_METADATA} AS metadata
        FROM (
            SELECT s.id AS session_id, m.no, row_number() OVER (PARTITION BY s.id ORDER BY m.ord) AS position
            FROM {_MESSAGES} WHERE {_SHOWN}
        ) k CROSS JOIN main.messages m ON m.no = k.no
        """,
    ),
    View(
        "memories",
        "MemoriesDB's shape: sessions and messages alike, a message once however often it was forked",
        # What is found is read at the end: whoever joins this holds the ids of all messages, and not the contents.
        f"""
        SELECT k.id,
            iif(k.kind = 'session', (SELECT s.title FROM {_SESSIONS} WHERE s.no = k.no),
                (SELECT {_CONTENT} FROM main.messages m WHERE m.no = k.no)) AS content,
            iif(k.kind = 'session', (SELECT {_ORIGINAL} FROM {_SESSIONS} WHERE s.no = k.no),
                (SELECT m.parent FROM main.messages m WHERE m.no = k.no)) AS parent_id,
            iif(k.kind = 'session', (SELECT s.metadata FROM {_SESSIONS} WHERE s.no = k.no),
                (SELECT {_MEMORY_METADATA} FROM main.messages m WHERE m.no = k.no)) AS _metadata,
            iif(k.kind = 'session', (SELECT {_time("s.created_ms")} FROM {_SESSIONS} WHERE s.no = k.no),
                (SELECT {_time("m.time_ms")} FROM main.messages m WHERE m.no = k.no)) AS _created_at,
            k.kind, k.session_id
        FROM (
            SELECT s.id, s.no, 'session' AS kind, NULL AS session_id FROM {_SESSIONS} WHERE {_LIVE}
            UNION ALL
            SELECT m.id, m.no, 'message', s.id FROM {_MESSAGES} WHERE {_OWN}
        ) k
        """,
    ),
    View(
        "memory_edges",
        "belongs_to and reply_to from a message, forked_from from the original to the fork",
        f"""
        SELECT f.ancestor AS source_id, s.id AS target_id, 'forked_from' AS relation
        FROM main.forks f JOIN {_SESSIONS} ON s.no = f.session WHERE f.distance = 1 AND {_LIVE}
        UNION ALL
        SELECT m.id, s.id, 'belongs_to' FROM {_MESSAGES} WHERE {_OWN}
        UNION ALL
        SELECT m.id, m.parent, 'reply_to' FROM {_MESSAGES} WHERE {_OWN} AND m.parent IS NOT NULL
        """,
    ),
)
