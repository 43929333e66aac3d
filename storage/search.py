"""Search: the questions asked of the index, and what is shown of what it finds.

Whether something is hidden is looked up when it is sought, since a deletion may hide and a
restoration show messages without moving them in the feed (tests/unit/test_search.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from .database import Database
from .errors import InvalidInput, LocalStorageError, SessionNotFound
from .excerpt import excerpt
from .indexing import SLICE_BYTES, backlog, heading, index
from .listing import Condition, Filter
from .model import format_ms
from .prose import prose
from .query import Query, parse
from .rows import legible

DEFAULT_LIMIT = 20

_MOMENT = "ifnull(m.time_ms, s.updated_ms)"
_MATCHES = """
    FROM search
    LEFT JOIN messages m ON m.no = search.rowid
    CROSS JOIN sessions s ON s.no = ifnull(m.session, -search.rowid)
    WHERE search MATCH ?{ranked} AND s.hidden = 0 AND ifnull(m.hidden, 0) = 0{among}
"""
# Only the hits that are shown are read whole: contents are large, and a word may be in very many.
_FOUND = """
WITH found AS MATERIALIZED (
    SELECT search.rowid AS no, rank AS rank, s.no AS session, {moment} AS moment
    {matches}
    ORDER BY rank, moment DESC, search.rowid DESC LIMIT ? OFFSET ?
)
SELECT found.no, found.rank, s.id, s.title, s.automatic, s.tags, m.id, m.role, m.content, m.time_text, found.moment
FROM found
CROSS JOIN sessions s ON s.no = found.session
LEFT JOIN messages m ON m.no = found.no
ORDER BY found.rank, found.moment DESC, found.no DESC
"""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A message in which all was found, or, with ``message`` and ``role`` None, a session's title and tags."""

    session: str
    title: str
    message: str | None
    role: str | None
    timestamp: str
    snippet: str
    score: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits first; whether there are ``more``; how many changed rows the index did not have yet.

    ``hint`` says why nothing can be found, where that lies in the query.
    """

    hits: list[Hit]
    more: bool
    not_indexed: int
    hint: str = ""


def search(
    database: Database,
    text: str,
    *,
    chosen: Filter = Filter(),  # noqa: B008  frozen
    session: str | None = None,
    role: str | None = None,
    since_ms: int | None = None,
    before_ms: int | None = None,
    archived: bool = False,
    limit: int = DEFAULT_LIMIT,
    offset: int = 0,
    marks: tuple[str, str] = ("**", "**"),
    index_bytes: int = 8 * SLICE_BYTES,
    told: Callable[[int], None] = lambda _: None,
) -> Results:
    """Find messages and sessions, the best match first and of equal ones the newest. `parse` says what can be asked.

    ``chosen`` says of which sessions, ``session`` is the id of a single one. With a ``role`` only messages are found;
    ``since_ms`` and ``before_ms`` are about the time of a message, and of a session found by its title the time when
    it was last written to. Archived sessions are left out unless ``archived``, or asked for by status or id. ``marks``
    stand around what matched in a snippet. What is not indexed yet is indexed first, as far as ``index_bytes`` of
    content go; ``told`` is given how many numbers of the feed are left. Raises `InvalidInput` and `SessionNotFound`.
    """
    query = parse(text)
    if limit < 1 or offset < 0:
        raise InvalidInput("a search limit is at least 1, an offset at least 0")
    among = _among(database, chosen, session, role, since_ms=since_ms, before_ms=before_ms, archived=archived)
    not_indexed = _catch_up(database, limit_bytes=index_bytes, told=told)
    found = _found(database, query, among, limit=limit + 1, offset=offset) if query.match else []
    hits = [_hit(query, row, marks) for row in found[:limit]]
    return Results(hits=hits, more=len(found) > limit, not_indexed=not_indexed, hint=query.hint)


def total(
    database: Database,
    text: str,
    *,
    chosen: Filter = Filter(),  # noqa: B008  frozen
    session: str | None = None,
    role: str | None = None,
    since_ms: int | None = None,
    before_ms: int | None = None,
    archived: bool = False,
) -> int:
    """How many hits `search` finds without a limit, of what is indexed; all of them are looked at."""
    query = parse(text)
    among = _among(database, chosen, session, role, since_ms=since_ms, before_ms=before_ms, archived=archived)
    matches = _MATCHES.format(ranked="", among=_sql(among))
    return database.one(f"SELECT count(*) {matches}", (query.match, *_values(among)))[0] if query.match else 0


def _among(
    database: Database,
    chosen: Filter,
    session: str | None,
    role: str | None,
    *,
    since_ms: int | None,
    before_ms: int | None,
    archived: bool,
) -> list[Condition]:
    """The conditions of SQL on hits; raises `SessionNotFound`."""
    if session is not None and not database.one("SELECT 1 FROM sessions WHERE id = ? AND hidden = 0", (session,)):
        raise SessionNotFound(ref=session)
    of_sessions = chosen.conditions()
    if session is not None:
        of_sessions.append(("id = ?", (session,)))
    elif not archived and chosen.status is None:
        of_sessions.append(("status <> 'archived'", ()))
    of_hits: list[Condition] = [
        (condition, (value,))
        for condition, value in (("m.role = ?", role), (f"{_MOMENT} >= ?", since_ms), (f"{_MOMENT} < ?", before_ms))
        if value is not None
    ]
    if of_sessions:
        where = " AND ".join(f"({condition})" for condition, _ in of_sessions)
        values = tuple(value for _, each in of_sessions for value in each)
        of_hits.append((f"s.no IN (SELECT no FROM sessions WHERE {where})", values))  # noqa: S608
    return of_hits


def _sql(among: Sequence[Condition]) -> str:
    return "".join(f" AND {condition}" for condition, _ in among)


def _values(among: Sequence[Condition]) -> list[Any]:
    return [value for _, values in among for value in values]


def _found(
    database: Database, query: Query, among: Sequence[Condition], *, limit: int, offset: int
) -> list[Sequence[Any]]:
    matches = _MATCHES.format(ranked=" AND rank MATCH 'bm25(2.0, 1.0)'", among=_sql(among))
    sql = _FOUND.format(moment=_MOMENT, matches=matches)
    return database.execute(sql, (query.match, *_values(among), limit, offset)).fetchall()


def _catch_up(database: Database, *, limit_bytes: int, told: Callable[[int], None]) -> int:
    """Index what is missing, within bounds; say how many rows are missing then."""
    try:
        while limit_bytes > 0 and (left := index(database, limit_bytes=min(limit_bytes, SLICE_BYTES)).remaining):
            limit_bytes -= SLICE_BYTES
            told(left)
    except LocalStorageError:
        # Opened read-only, or the disk is full: what is indexed can be searched all the same.
        pass
    return backlog(database)


def _hit(query: Query, row: Sequence[Any], marks: tuple[str, str]) -> Hit:
    no, rank, session, title, automatic, tags, message, role, content, time_text, time_ms = row
    text = heading("" if automatic else title, tags) if no < 0 else prose(role, legible(content))
    return Hit(
        session=session,
        title=title,
        message=message,
        role=role,
        timestamp=time_text or format_ms(time_ms),
        snippet=excerpt(text, query.sought, start=marks[0], end=marks[1]),
        score=-rank,
    )
