"""What a session was forked from, and what was forked from it.

A fork's birth names its original, and above that one the originals of the original, so that a fork still
knows them when they are purged here, or never came here:

    forked_from  {"session": original, "message": fork point, "reason": …, "above": [its original, …]}

What a birth says may come from anybody: forks that name each other in a circle end every walk
(tests/unit/test_lineage.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .errors import SessionNotFound
from .model import SessionHeader
from .rows import SESSION_COLUMNS, SessionRow, decode_json, encode_json, header, originals, session_births
from .store import Store

_FORKS_OF = """
SELECT ancestor, distance, id FROM forks JOIN sessions ON no = session
WHERE ancestor IN (SELECT value FROM json_each(?))
"""
_SHOWN = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE hidden = 0 AND id IN (SELECT value FROM json_each(?))"  # noqa: S608
_NAMED = "SELECT id, title, hidden FROM sessions WHERE id IN (SELECT value FROM json_each(?))"


class Node(msgspec.Struct, frozen=True):
    """A session in the tree of forks; the one that was asked for stands at level 1."""

    session: SessionHeader
    level: int


class Ancestor(msgspec.Struct, frozen=True):
    """A session that another was forked from, directly or not. One that is purged or never came here has no title."""

    id: str
    title: str | None
    deleted: bool


def descendants(store: Store, session_id: str) -> list[Node]:
    """A session and all forks below it, by level, then by creation; raises `SessionNotFound`.

    Deleted and purged forks are left out, what was forked from them is not.
    """
    levels = {live(store, session_id).id: 1}
    news = set(levels)
    while news:  # once more: a fork that names its original alone is found through that one
        below: dict[str, int] = {}
        for ancestor, distance, each in store.execute(_FORKS_OF, (_array(news),)):
            if each not in levels:
                level = levels[ancestor] + distance
                below[each] = min(level, below.get(each, level))
        levels |= below
        news = set(below)
    rows = [SessionRow(*row) for row in store.execute(_SHOWN, (_array(levels),))]
    return [Node(header(row), levels[row.id]) for row in sorted(rows, key=lambda row: (levels[row.id], _creation(row)))]


def ancestors(store: Store, session_id: str) -> list[Ancestor]:
    """What a session was forked from, nearest first; raises `SessionNotFound`."""
    above = lineage(store, live(store, session_id))
    rows = store.execute(_NAMED, (_array(above),))
    here = {each: Ancestor(each, title or None, bool(hidden)) for each, title, hidden in rows}
    return [here.get(each, Ancestor(each, None, deleted=True)) for each in above]


def lineage(store: Store, row: SessionRow) -> list[str]:
    """The ids of what a session was forked from, nearest first."""
    found: list[str] = []
    seen: set[str] = {row.id}
    current: SessionRow | None = row
    while current is not None:
        news = [each for each in originals(session_births(current.births)) if each not in seen]
        found += news
        seen.update(news)
        # A birth that was not made here may name its original alone.
        current = store.find(found[-1]) if news else None
    return found


def fork_point(row: SessionRow) -> dict[str, Any] | None:
    """What the birth of a session says of where it was forked; None where it is no fork."""
    stated = session_births(row.births)[0].forked_from
    return None if stated is None else decode_json(stated)


def owner(origin: dict[str, Any] | None) -> str:
    """The session that a message was copied from; the empty text for what was not copied."""
    session = None if origin is None else origin.get("session")
    return session if isinstance(session, str) else ""


def live(store: Store, session_id: str) -> SessionRow:
    """The row of a session; raises `SessionNotFound`, also for a deleted one."""
    row = store.find(session_id)
    if row is None or row.hidden:
        raise SessionNotFound(ref=session_id)
    return row


def _array(ids: Iterable[str]) -> str:
    return encode_json(list(ids)).decode()


def _creation(row: SessionRow) -> tuple[int, int, str]:
    return row.created_ms, session_births(row.births)[0].clock, row.id
