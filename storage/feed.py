"""The feed for programs: what changed behind a number, and new messages as they are committed.

A row carries the number of its last change only, so what happened to it before that is not told:
whoever reads the feed learns of every row that changed, once for each time that it looks, and
never of one that it would have to guess (tests/unit/test_feed.py, tests/e2e/test_feed.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Literal, NamedTuple

import msgspec

from .errors import InvalidInput, SessionNotFound
from .model import Message
from .rows import HIDDEN_FOR_EVER, MESSAGE_COLUMNS, TOMBSTONE, MessageRow, message
from .sqlite import MEMORY
from .store import Store

PAGE = 1000

Kind = Literal[
    "session.created", "session.updated", "session.deleted", "session.purged",
    "message.added", "message.edited", "message.deleted", "message.purged",
]  # fmt: skip

_CHANGED = """
SELECT m.seq, 'message', m.born_seq, m.hidden, s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session
WHERE m.seq > ?1 AND (?2 IS NULL OR m.session = ?2)
UNION ALL
SELECT seq, 'session', born_seq, hidden, id, NULL FROM sessions WHERE seq > ?1 AND (?2 IS NULL OR no = ?2)
ORDER BY 1 LIMIT ?3
"""
_ARRIVED = "SELECT born_seq, no FROM messages WHERE seq > ?1 AND born_seq > ?1 AND {} = ?2 ORDER BY born_seq LIMIT ?3"
_MESSAGE = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE no = ?"  # noqa: S608
# Who is little behind looks through the end of the feed, who is far behind through the session.
_LITTLE, _LOOK = 10_000, 50_000


class _Kinds(NamedTuple):
    """What is said of a row, and by what of its column ``hidden`` a purge is known."""

    born: Kind
    changed: Kind
    deleted: Kind
    purged: Kind
    for_ever: int


_KINDS = {
    "session": _Kinds("session.created", "session.updated", "session.deleted", "session.purged", TOMBSTONE),
    "message": _Kinds("message.added", "message.edited", "message.deleted", "message.purged", HIDDEN_FOR_EVER),
}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A session or message that changed; ``seq`` is the number of its last change.

    ``session.updated`` and ``message.edited`` are also said of what was restored. A session's deletion and return
    hide and show its messages without a change of their own.
    """

    kind: Kind
    seq: int
    session: str
    message: str | None = None


class Changes(msgspec.Struct, frozen=True):
    """Changes in the order of the feed; ``cursor`` is where to go on. ``more``: there are some behind it already."""

    items: list[Change]
    cursor: int
    more: bool


class NewArrival(msgspec.Struct, frozen=True):
    """A message that was added to a session, by whatever device; ``cursor`` is where to go on behind it."""

    cursor: int
    message: Message


def changes(store: Store, since: int = 0, *, session: str | None = None, limit: int = PAGE) -> Changes:
    """What changed behind a number of the feed, the oldest change first, in all sessions or in one.

    Ask again with the ``cursor``: nothing is passed over, and what did not change again does not come again.
    Raises `InvalidInput`, and `SessionNotFound` where there never was such a session.
    """
    if since < 0 or limit < 1:
        raise InvalidInput("the feed is read from 0 on, at least one change at a time")
    no = None
    if session is not None:
        row = store.row(session)
        if row is None:
            raise SessionNotFound(ref=session)
        no = row.no
    with _snapshot(store):
        last = store.last_seq
        rows = store.execute(_CHANGED, (since, no, limit + 1)).fetchall()
    items = [_change(since, *row) for row in rows[:limit]]
    more = len(rows) > limit
    return Changes(items, items[-1].seq if more else max(last, since), more)


def follow(
    store: Store,
    session_id: str,
    *,
    since: int | None = None,
    wait_s: float = 0.05,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[NewArrival]:
    """Yield each new message of a session once, as it is committed by any process or thread, in order of arrival.

    ``since`` is the cursor behind which to begin, None now; ``wait_s`` how long to wait between two looks; ``stop`` is
    asked at each. It reads through a connection of its own, so the store may be used meanwhile (one in memory has no
    other). Raises `SessionNotFound`. A message that is deleted before it was seen is passed over.
    """
    row = store.find(session_id)
    if row is None:
        raise SessionNotFound(ref=session_id)
    cursor = store.last_seq if since is None else since
    return _followed(store, row.no, cursor, wait_s=wait_s, stop=stop)


def _followed(store: Store, no: int, cursor: int, *, wait_s: float, stop: Callable[[], bool]) -> Generator[NewArrival]:
    own = nullcontext(store) if str(store.path) == MEMORY else Store(store.path, read_only=True)
    with own as reader:
        seen: int | None = None
        while not stop():
            last = reader.last_seq
            if last == seen:
                time.sleep(wait_s)
                continue
            arrived = _arrivals(reader, no, cursor)
            for cursor, message_no in arrived:  # noqa: PLR1704  where the next look begins
                found = reader.one(_MESSAGE, (message_no,))
                if found is not None and not (row := MessageRow(*found)).hidden:
                    yield NewArrival(cursor, message(row))
            if len(arrived) < _LOOK:
                seen = last


def _arrivals(reader: Store, no: int, cursor: int) -> list[tuple[int, int]]:
    """The next messages that arrived in a session behind a number: (when, row)."""
    session = "+session" if reader.last_seq - cursor <= _LITTLE else "session"
    return reader.execute(_ARRIVED.format(session), (cursor, no, _LOOK)).fetchall()


@contextmanager
def _snapshot(store: Store) -> Generator[None]:
    """Let several statements see one moment, unless a transaction does already."""
    if store.connection.in_transaction:
        yield
        return
    store.execute("BEGIN")
    try:
        yield
    finally:
        store.execute("COMMIT")


def _change(
    since: int, seq: int, what: str, born_seq: int, hidden: int, session: str, message_id: str | None
) -> Change:
    kinds = _KINDS[what]
    if hidden:
        kind = kinds.purged if hidden & kinds.for_ever else kinds.deleted
    else:
        kind = kinds.born if born_seq > since else kinds.changed
    return Change(kind=kind, seq=seq, session=session, message=message_id)
