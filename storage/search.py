"""Search: a consumer of the feed that keeps an FTS5 index, and the questions asked of it.

The index lags behind and catches up in slices, each one short transaction that also moves the
cursor: after a crash it goes on where it was, a slice done twice changes nothing, and with the
cursor at 0 the index is made anew. Whether something is hidden is looked up when it is sought,
since a deletion may hide and a restoration show messages without moving them in the feed
(tests/unit/test_search.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from .database import Database
from .errors import InvalidInput, LocalStorageError, SessionNotFound
from .model import format_ms
from .prose import excerpt, pattern, phrase, prose, words
from .rows import content_of, decode_json

CURSOR = "search"
SLICE_BYTES = 1024 * 1024
SLICE_ROWS = 5_000
MAX_QUERY_LENGTH = 10_000
MAX_MARKED = 32

_TERM = re.compile(r'"([^"]*)"(\*?)|([^\s"]+)')
_QUOTES = str.maketrans({"“": '"', "”": '"', "\0": " "})

_CHANGED = (
    "SELECT seq, no, born_seq, role, content, NULL FROM messages WHERE seq > ?1 "
    "UNION ALL SELECT seq, -no, 0, '', iif(automatic, '', title), tags FROM sessions WHERE seq > ?1 "
    "ORDER BY seq LIMIT ?2"
)
_FOUND = """
SELECT search.rowid, rank, s.id, s.title, s.automatic, s.tags, m.id, m.role, m.content, m.time_text,
    ifnull(m.time_ms, s.updated_ms) AS moment
FROM search
LEFT JOIN messages m ON m.no = search.rowid
CROSS JOIN sessions s ON s.no = ifnull(m.session, -search.rowid)
WHERE search MATCH ? AND s.hidden = 0 AND ifnull(m.hidden, 0) = 0 {among}
ORDER BY rank, moment DESC, search.rowid DESC LIMIT ?
"""


class Progress(NamedTuple):
    """How far the index came: rows handled, and numbers of the feed left; 0 only when nothing is missing."""

    done: int
    remaining: int


class Query(msgspec.Struct, frozen=True):
    """What is sought: for FTS5 (empty if no word is in it), and for marking it in text."""

    match: str
    sought: re.Pattern[str] | None


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
    """The best hits first; whether there are ``more``; how many changed rows the index did not have yet."""

    hits: list[Hit]
    more: bool
    not_indexed: int


def index(database: Database, *, limit_bytes: int = SLICE_BYTES, limit_rows: int = SLICE_ROWS) -> Progress:
    """Bring one slice of the feed into the index; the row that reaches a limit is its last.

    What is read stands outside the transaction; if another process moved the cursor meanwhile, this slice is dropped.
    """
    cursor, last_seq = database.cursor(CURSOR), database.last_seq
    if cursor >= last_seq:
        return Progress(0, 0)
    changed = _slice(database, cursor, limit_bytes=limit_bytes, limit_rows=limit_rows)
    upto = changed[-1][0] if changed else last_seq
    with database.transaction():
        if database.cursor(CURSOR) != cursor:
            return Progress(0, max(database.last_seq - database.cursor(CURSOR), 0))
        if cursor == 0:
            database.execute("INSERT INTO search (search) VALUES ('delete-all')")
        # A message that arrived after the cursor cannot be in the index; of a session that is not known.
        # In the order of their rows: FTS5 flushes all it has gathered when it meets a lower one.
        outdated = sorted((no,) for _, no, born_seq, _ in changed if born_seq <= cursor)
        database.executemany("DELETE FROM search WHERE rowid = ?", outdated)
        texts = sorted((no, text) for _, no, _, text in changed if text)
        database.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", texts)
        database.set_cursor(CURSOR, upto)
    return Progress(len(changed), max(last_seq - upto, 0))


def rebuild(database: Database) -> None:
    """Forget the index; `index` makes it anew."""
    with database.transaction():
        database.set_cursor(CURSOR, 0)


def backlog(database: Database) -> int:
    """How many sessions and messages changed since they were indexed."""
    sql = "SELECT (SELECT count(*) FROM messages WHERE seq > ?1) + (SELECT count(*) FROM sessions WHERE seq > ?1)"
    return database.one(sql, (database.cursor(CURSOR),))[0]


def parse(text: str) -> Query:
    """A query from what a person typed: words that must all be there, ``"quoted phrases"``, ``beginnings*``.

    All other punctuation is a gap between words. Raises `InvalidInput` for blank and for endless text.
    """
    plain = unicodedata.normalize("NFKC", text.encode(errors="ignore").decode()).translate(_QUOTES)
    if not plain.strip():
        raise InvalidInput("search query cannot be empty")
    if len(plain) > MAX_QUERY_LENGTH:
        raise InvalidInput(f"search query is too long (at most {MAX_QUERY_LENGTH:,} characters)")
    phrases: dict[str, str] = {}
    for quoted, star, word in _TERM.findall(plain):
        body, prefix = (word, word.endswith("*")) if word else (quoted, bool(star))
        sought = pattern(body, prefix=prefix)
        if sought:
            phrases[phrase(body, prefix=prefix)] = sought
    marked = "|".join(f"({each})" for each in islice(phrases.values(), MAX_MARKED))
    return Query(" ".join(phrases), re.compile(marked) if marked else None)


def search(
    database: Database,
    text: str,
    *,
    limit: int = 50,
    session: str | None = None,
    provider: str | None = None,
    where: Sequence[tuple[str, Sequence[Any]]] = (),
    marks: tuple[str, str] = ("**", "**"),
    index_bytes: int = 16 * SLICE_BYTES,
) -> Results:
    """Find messages and sessions, the best match first and of equal ones the newest.

    ``session`` is an id; ``where`` holds further conditions on columns of sessions. ``marks`` stand around what
    matched in a snippet. What is not indexed yet is indexed first, as far as ``index_bytes`` of content go.
    Raises `InvalidInput` and `SessionNotFound`.
    """
    query = parse(text)
    if session is not None and not database.one("SELECT 1 FROM sessions WHERE id = ? AND hidden = 0", (session,)):
        raise SessionNotFound(ref=session)
    conditions = [*where]
    conditions += [("id = ?", (session,))] if session is not None else []
    conditions += [("provider = ?", (provider,))] if provider is not None else []
    not_indexed = _catch_up(database, limit_bytes=index_bytes)
    hits = _hits(database, query, limit=limit + 1, where=conditions, marks=marks) if query.match else []
    return Results(hits=hits[:limit], more=len(hits) > limit, not_indexed=not_indexed)


def _hits(
    database: Database, query: Query, *, limit: int, where: Sequence[tuple[str, Sequence[Any]]], marks: tuple[str, str]
) -> list[Hit]:
    among = ""
    if where:
        conditions = " AND ".join(f"({condition})" for condition, _ in where)
        among = f"AND s.no IN (SELECT no FROM sessions WHERE {conditions})"  # noqa: S608
    values = [value for _, each in where for value in each]
    rows = database.execute(_FOUND.format(among=among), (query.match, *values, limit))
    return [_hit(query, row, marks) for row in rows]


def _slice(database: Database, cursor: int, *, limit_bytes: int, limit_rows: int) -> list[tuple[int, int, int, str]]:
    """The next changed rows: number of the feed, row of the index, when it arrived, text as it is indexed."""
    changed: list[tuple[int, int, int, str]] = []
    # Closed before the transaction begins: a read that is still open would hold it to an old snapshot.
    with closing(database.execute(_CHANGED, (cursor, limit_rows))) as rows:
        for seq, no, born_seq, role, content, tags in rows:
            text = prose(role, _content(content)) if tags is None else _heading(content, tags)
            changed.append((seq, no, born_seq, words(text)))
            limit_bytes -= len(content)
            if limit_bytes <= 0:
                break
    return changed


def _content(column: str | bytes) -> Any:
    """A message's content; one that cannot be read has no text, and does not stop the index."""
    try:
        return content_of(column)
    except msgspec.DecodeError:
        return ""


def _heading(title: str, tags: str) -> str:
    return "\n".join([title, *decode_json(tags)]).strip()


def _catch_up(database: Database, *, limit_bytes: int) -> int:
    """Index what is missing, within bounds; say how many rows are missing then."""
    try:
        while limit_bytes > 0 and index(database, limit_bytes=min(limit_bytes, SLICE_BYTES)).remaining:
            limit_bytes -= SLICE_BYTES
    except LocalStorageError:
        # Opened read-only, or the disk is full: what is indexed can be searched all the same.
        pass
    return backlog(database)


def _hit(query: Query, row: Sequence[Any], marks: tuple[str, str]) -> Hit:
    no, rank, session, title, automatic, tags, message, role, content, time_text, time_ms = row
    text = _heading("" if automatic else title, tags) if no < 0 else prose(role, _content(content))
    return Hit(
        session=session,
        title=title,
        message=message,
        role=role,
        timestamp=time_text or format_ms(time_ms),
        snippet=excerpt(text, query.sought, start=marks[0], end=marks[1]),
        score=-rank,
    )
