"""A file of nodes and edges, read once and laid out so that any part of it can be asked for.

Lines may stand in any order and a file may be larger than the memory, so what was read lies in a
temporary database of its own until it is loaded. What is settled here needs no look into the store:
what a line says, which nodes are sessions, and which way an edge leads
(tests/unit/test_memoriesdb_loading.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ..storage.errors import InvalidInput
from ..storage.model import Content, Json, check_content, check_message_id, check_object, parse_time
from ..storage.rows import check_size, content_column, content_of, decode_json, encode_json
from ..storage.sqlite import dbapi
from ..storage.store import check_new
from .messages import new_message
from .sessions import given_title

MAX_LINE_BYTES = 64 * 1024 * 1024
SESSION_TYPE = "session"

_TABLES = """
CREATE TABLE nodes (
    line INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content NOT NULL, metadata TEXT NOT NULL,
    created_ms INTEGER, time_ms INTEGER,  -- when it was made, and when it was sent, where it says so
    created_text TEXT,
    session INTEGER NOT NULL,          -- 1 where it is one
    origin TEXT, origin_line INTEGER,  -- what a session was forked from, and the edge that says so
    level INTEGER                      -- how many forks lie above it, within the file
);
CREATE TABLE edges (
    line INTEGER PRIMARY KEY, relation TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,   -- 1 where a reply was taken
    UNIQUE (relation, source, target)
);
CREATE INDEX edges_target ON edges (relation, target, source);
CREATE INDEX nodes_level ON nodes (level, line);
CREATE INDEX nodes_origin ON nodes (origin);
CREATE TABLE skipped (line INTEGER PRIMARY KEY, reason TEXT NOT NULL);
"""
_SESSIONS = """
UPDATE nodes SET session = 1
WHERE id IN (SELECT target FROM edges WHERE relation = 'belongs_to')
OR id IN (SELECT source FROM edges WHERE relation = 'forked_from')
OR id IN (SELECT target FROM edges WHERE relation = 'forked_from')
"""
# The page's own query follows the edge from the original to the fork, its program writes it the other way round.
# A fork is younger than its original, so the times tell; without them the source is what was forked.
_WAYS = """
UPDATE edges SET (source, target) = (target, source) WHERE relation = 'forked_from'
AND (SELECT created_ms FROM nodes WHERE id = source) < (SELECT created_ms FROM nodes WHERE id = target)
AND NOT EXISTS (
    SELECT 1 FROM edges o WHERE o.relation = 'forked_from' AND (o.source, o.target) = (edges.target, edges.source)
)
"""
# Nothing may be known of what an edge leads from but what the file says.
_LOOSE = """
INSERT OR IGNORE INTO skipped SELECT line, 'there is no node ' || source || ' in this file' FROM edges
WHERE source NOT IN (SELECT id FROM nodes)
"""
_NESTED = """
INSERT OR IGNORE INTO skipped SELECT line, 'a session belongs to no other' FROM edges
WHERE relation = 'belongs_to' AND source IN (SELECT id FROM nodes WHERE session)
"""
_UNTITLED = """
INSERT OR IGNORE INTO skipped SELECT line, 'Session title cannot be empty' FROM nodes
WHERE session AND (typeof(content) <> 'text' OR trim(content) = '')
"""
_ORIGINS = """
UPDATE nodes SET (origin, origin_line) =
    (SELECT target, line FROM edges WHERE relation = 'forked_from' AND source = nodes.id ORDER BY line LIMIT 1)
WHERE session AND line NOT IN (SELECT line FROM skipped)
"""
_LEVELS = """
WITH RECURSIVE reached (id, level) AS (
    SELECT id, 0 FROM titled WHERE origin IS NULL OR origin NOT IN (SELECT id FROM titled)
    UNION ALL
    SELECT n.id, r.level + 1 FROM reached r JOIN titled n ON n.origin = r.id
), titled AS (SELECT * FROM nodes WHERE session AND line NOT IN (SELECT line FROM skipped))
UPDATE nodes SET level = reached.level FROM reached WHERE reached.id = nodes.id
"""
_CIRCLES = """
INSERT OR IGNORE INTO skipped SELECT origin_line, 'sessions that are forks of each other' FROM nodes
WHERE origin_line IS NOT NULL AND level IS NULL
"""
_NO_CIRCLES = """
UPDATE nodes SET origin = NULL, origin_line = NULL, level = 0
WHERE session AND level IS NULL AND line NOT IN (SELECT line FROM skipped)
"""
_OTHERS = """
INSERT OR IGNORE INTO skipped SELECT e.line, 'a session is a fork of one other only'
FROM edges e JOIN nodes n ON n.id = e.source
WHERE e.relation = 'forked_from' AND n.origin_line IS NOT NULL AND e.line <> n.origin_line
"""
_SETTLING = (_LOOSE, _SESSIONS, _NESTED, _UNTITLED, _WAYS, _ORIGINS, _OTHERS, _LEVELS, _CIRCLES, _NO_CIRCLES)

_PLACES = """
SELECT e.line, n.line FROM edges e JOIN nodes n ON n.id = e.source
WHERE e.relation = 'belongs_to' AND e.target = ? AND NOT n.session ORDER BY n.time_ms IS NULL, n.time_ms, n.line
"""
_REPLY = "SELECT target, line FROM edges WHERE relation = 'reply_to' AND source = ? ORDER BY line LIMIT 1"
_UNUSED = """
INSERT OR IGNORE INTO skipped SELECT line, 'there is no message ' || target || ' in this session to reply to'
FROM edges WHERE relation = 'reply_to' AND NOT used
"""
_HOMELESS = """
INSERT OR IGNORE INTO skipped SELECT line, 'it belongs to no session' FROM nodes WHERE NOT session AND NOT EXISTS (
    SELECT 1 FROM edges e WHERE e.relation = 'belongs_to' AND e.source = nodes.id
    AND e.line NOT IN (SELECT line FROM skipped)
)
"""


class Skipped(NamedTuple):
    """A line that was not taken, and why."""

    line: int
    reason: str


class StagedSession(NamedTuple):
    """A session of the file; ``origin`` is what it was forked from, as the edge in ``origin_line`` says."""

    line: int
    id: str
    title: str
    metadata: dict[str, Json]
    created_ms: int | None
    origin: str | None
    origin_line: int


class StagedMessage(NamedTuple):
    """A message of one session, as the edge in ``edge_line`` says; ``parent`` is what it replies to."""

    line: int
    edge_line: int
    id: str
    content: Content
    metadata: dict[str, Json]
    created_at: str | None
    parent: str | None
    parent_line: int
    size_bytes: int


class _Node(msgspec.Struct, tag_field="kind", tag="node"):
    id: str
    content: Any
    metadata: dict[str, Any] = msgspec.field(name="_metadata", default_factory=dict)
    created_at: str | None = msgspec.field(name="_created_at", default=None)


class _Edge(msgspec.Struct, tag_field="kind", tag="edge"):
    source_id: Annotated[str, msgspec.Meta(min_length=1)]
    target_id: Annotated[str, msgspec.Meta(min_length=1)]
    relation: Literal["belongs_to", "forked_from", "reply_to"]


_decode = msgspec.json.Decoder(_Node | _Edge).decode


class Staging:
    """What a file says, line by line, and why some of it says nothing."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def skip(self, line: int, reason: str) -> None:
        """Say why a line is not taken; the first reason stands."""
        self._connection.execute("INSERT OR IGNORE INTO skipped VALUES (?, ?)", (line, reason))

    def skipped(self) -> list[Skipped]:
        """Every line that is not taken, in order."""
        return [Skipped(*row) for row in self._connection.execute("SELECT line, reason FROM skipped ORDER BY line")]

    def taken(self, table: Literal["nodes", "edges"]) -> int:
        """How many nodes or edges are taken."""
        sql = f"SELECT count(*) FROM {table} WHERE line NOT IN (SELECT line FROM skipped)"  # noqa: S608
        return self._connection.execute(sql).fetchone()[0]

    # Reading the file

    def read(self, lines: Iterable[bytes | None]) -> None:
        """Take in every line; None stands for one that was too long to be read."""
        self._connection.execute("BEGIN")
        for number, line in enumerate(lines, start=1):
            reason = "longer than a line may be" if line is None else self._take(number, line)
            if reason:
                self.skip(number, reason)
        self._connection.execute("COMMIT")

    def settle(self) -> None:
        """Find out which nodes are sessions, what was forked from what, and in which order that can be loaded."""
        for statement in _SETTLING:
            self._connection.execute(statement)

    def _take(self, line: int, data: bytes) -> str:
        """Lay out one line; the reason if it is not taken."""
        if not data.strip():
            return "blank"
        try:
            record = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return f"not a node or an edge ({exc})"
        if isinstance(record, _Edge):
            return self._edge(line, record)
        try:
            return self._node(line, record)
        except InvalidInput as exc:
            return str(exc)

    def _edge(self, line: int, edge: _Edge) -> str:
        if edge.source_id == edge.target_id:
            return "an edge from a node to itself"
        values = (line, edge.relation, edge.source_id, edge.target_id)
        sql = "INSERT OR IGNORE INTO edges (line, relation, source, target) VALUES (?, ?, ?, ?)"
        return "" if self._connection.execute(sql, values).rowcount else "the same edge stands on an earlier line"

    def _node(self, line: int, node: _Node) -> str:
        """Lay out a node that the store will take, whatever it turns out to be."""
        metadata = check_object(node.metadata, "metadata")
        column, text = content_column(check_content(node.content)), encode_json(metadata).decode()
        check_size(column, text)
        is_session = metadata.get("type") == SESSION_TYPE
        if is_session:
            given_title(node.content)
        else:
            check_new(new_message(node.content, metadata, id=node.id))
        created_ms = None if node.created_at is None else parse_time(node.created_at)
        sent_at = None if is_session else metadata.get("sent_at")
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO nodes (line, id, content, metadata, created_ms, time_ms, created_text, session) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                line,
                check_message_id(node.id),  # those of sessions have the same form
                column,
                text,
                created_ms,
                created_ms if sent_at is None else parse_time(sent_at),
                node.created_at,
                int(is_session),
            ),
        )
        return "" if cursor.rowcount else "a node of this id stands on an earlier line"

    # What was read

    def sessions(self) -> Iterator[StagedSession]:
        """The sessions, each behind what it was forked from."""
        sql = (
            "SELECT line, id, content, metadata, created_ms, origin, ifnull(origin_line, 0) FROM nodes "
            "WHERE level IS NOT NULL ORDER BY level, line"
        )
        for line, name, title, metadata, *rest in self._connection.execute(sql):
            yield StagedSession(line, name, title, decode_json(metadata), *rest)

    def sessions_elsewhere(self) -> Iterator[str]:
        """The sessions that messages of the file belong to and that the file does not hold."""
        sql = (
            "SELECT DISTINCT target FROM edges WHERE relation = 'belongs_to' "
            "AND target NOT IN (SELECT id FROM nodes WHERE level IS NOT NULL)"
        )
        for (target,) in self._connection.execute(sql):
            yield target

    def messages(self, session: str) -> Iterator[StagedMessage]:
        """The messages of a session by their times, in the order of the file where these are equal or missing."""
        # Only their places are sorted: the contents may be larger than the memory.
        for edge_line, line in self._connection.execute(_PLACES, (session,)):
            name, content, metadata, created_at = self._connection.execute(
                "SELECT id, content, metadata, created_text FROM nodes WHERE line = ?", (line,)
            ).fetchone()
            parent, parent_line = self._connection.execute(_REPLY, (name,)).fetchone() or (None, 0)
            yield StagedMessage(
                line=line,
                edge_line=edge_line,
                id=name,
                content=content_of(content),
                metadata=decode_json(metadata),
                created_at=created_at,
                parent=parent,
                parent_line=parent_line,
                size_bytes=len(content) + len(metadata),
            )

    def use(self, line: int) -> None:
        """Take note that an edge between messages is taken."""
        self._connection.execute("UPDATE edges SET used = 1 WHERE line = ?", (line,))

    def note_what_is_left(self) -> None:
        """Skip messages that belong to no session, and replies to what is not in a session of theirs."""
        self._connection.execute(_UNUSED)
        self._connection.execute(_HOMELESS)


@contextmanager
def staged(lines: Iterable[bytes | None]) -> Generator[Staging]:
    """What some lines say, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="steno-") as place:  # only its owner may enter it
        connection = dbapi.connect(str(Path(place) / "staging.db"), isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_TABLES)
            staging = Staging(connection)
            staging.read(lines)
            staging.settle()
            yield staging
        finally:
            connection.close()
