"""The search index: a consumer of the feed that keeps FTS5 equal to what is said.

The index lags behind and catches up in slices, each one short transaction that also moves the
cursor: after a crash it goes on where it was, a slice done twice changes nothing, and with the
cursor at 0 the index is made anew. A message stands in it under its number, a session's title and
tags under the session's number negated: all words in one column, in the other the stems that
differ from their word (tests/unit/test_indexing.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from .database import Database
from .deletion import LAST_PURGE
from .packing import unpack
from .prose import prose, words
from .rows import decode_json, legible
from .stems import stems

CURSOR = "search"
SLICE_BYTES = 2 * 1024 * 1024
SLICE_ROWS = 5_000

_CHANGED = (
    "SELECT seq, no, born_seq, role, content, NULL FROM messages WHERE seq > ?1 "
    "UNION ALL SELECT seq, -no, 0, '', iif(automatic, '', title), tags FROM sessions WHERE seq > ?1 "
    "ORDER BY seq LIMIT ?2"
)
_OUTDATED = "SELECT no FROM messages WHERE seq > ?1 UNION ALL SELECT -no FROM sessions WHERE seq > ?1"
_EMPTY = "INSERT INTO search (search) VALUES ('delete-all')"


class Progress(NamedTuple):
    """How far the index came: rows handled, and numbers of the feed left; 0 only when nothing is missing."""

    done: int
    remaining: int


def index(database: Database, *, limit_bytes: int = SLICE_BYTES, limit_rows: int = SLICE_ROWS) -> Progress:
    """Bring one slice of the feed into the index; the row that reaches a limit is its last.

    What is read stands outside the transaction; if another process moved the cursor, or purged something, meanwhile,
    this slice is dropped.
    """
    cursor, last_seq, last_purge = database.cursor(CURSOR), database.last_seq, database.meta(LAST_PURGE)
    if cursor >= last_seq:
        return Progress(0, 0)
    changed = _slice(database, cursor, limit_bytes=limit_bytes, limit_rows=limit_rows)
    upto = changed[-1][0] if changed else last_seq
    with database.transaction():
        if database.cursor(CURSOR) != cursor or database.meta(LAST_PURGE) != last_purge:
            return Progress(0, max(database.last_seq - database.cursor(CURSOR), 0))
        if cursor == 0:
            database.execute(_EMPTY)
        # A message that arrived after the cursor cannot be in the index; of a session that is not known.
        forget(database, (no for _, no, born_seq, _, _ in changed if born_seq <= cursor))
        texts = sorted((no, text, stemmed) for _, no, _, text, stemmed in changed if text)
        database.executemany("INSERT INTO search (rowid, text, stems) VALUES (?, ?, ?)", texts)
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


def forget(database: Database, rows: Iterable[int]) -> None:
    """Take rows out of the index, those that are in it. Needs a transaction; their terms stay on disk until `scrub`."""
    # In the order of their rows: FTS5 flushes all it has gathered when it meets a lower one.
    database.executemany("DELETE FROM search WHERE rowid = ?", sorted((no,) for no in rows))


def scrub(database: Database) -> None:
    """Write the index anew without the terms of what was deleted, edited or forgotten. Needs a transaction.

    Behind it a VACUUM, which drops the free pages, and a truncated WAL leave no such term in any file. What changed
    and is not indexed yet leaves the index, until it is indexed.

    A deletion only marks a row: FTS5 keeps the terms until it happens to merge their segment. Its ``secure-delete``
    works only where a deletion is given the old text, which nobody has any more, so all segments are merged. That
    takes some ten seconds for a gigabyte of text, and next to nothing where nothing was deleted since the last time.
    """
    cursor = database.cursor(CURSOR)
    if cursor:
        forget(database, [no for (no,) in database.execute(_OUTDATED, (cursor,))])
    else:
        database.execute(_EMPTY)
    # Twice: the one segment that is left may still carry marks of a merge that was under way. If not, it stays.
    for _ in range(2):
        database.execute("INSERT INTO search (search) VALUES ('optimize')")


def heading(title: str, tags: str) -> str:
    """What is searched of a session: its title, empty where it is automatic, and its tags as their column has them."""
    return "\n".join([title, *decode_json(tags)]).strip()


def _slice(
    database: Database, cursor: int, *, limit_bytes: int, limit_rows: int
) -> list[tuple[int, int, int, str, str]]:
    """The next changed rows: number of the feed, row of the index, when it arrived, text and stems as indexed."""
    changed: list[tuple[int, int, int, str, str]] = []
    # Closed before the transaction begins: a read that is still open would hold it to an old snapshot.
    with closing(database.execute(_CHANGED, (cursor, limit_rows))) as rows:
        for seq, no, born_seq, role, stored, tags in rows:
            column = unpack(stored)
            text = words(prose(role, legible(column)) if tags is None else heading(stored, tags))
            changed.append((seq, no, born_seq, text, stems(text)))
            limit_bytes -= len(column)
            if limit_bytes <= 0:
                break
    return changed
