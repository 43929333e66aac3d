"""A session made of messages of another: the one way in which messages are copied.

A copy has the id of what it copies and shows what that shows now; its birth is new, by hand, in the new session,
and its ``origin`` names the session that wrote it. So the new session needs nothing of the other one
(tests/unit/test_forks.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from .document import merge_patch
from .lineage import lineage, live, owner
from .model import Json, SessionHeader, check_object, check_text
from .rows import SessionRow, decode_json, encode_json, header, json_column
from .stamps import BY_HAND
from .state import recount, session_row
from .store import Store

BEYOND = 1 << 62
"""A place behind every message."""

_PART = """
FROM messages WHERE session = ? AND hidden = 0 AND (ord < ? OR id IN (SELECT value FROM json_each(?))) ORDER BY ord
"""
# The content never leaves the database: a large one stands there compressed, and a session may be larger than memory.
_COPY = """
INSERT INTO messages (session, ord, seq, local_seq, born_seq, hidden, edited, id, clock, author, after, inserted,
    role, sender, content, time_ms, time_text, parent, model, usage, metadata, origin, births)
SELECT ?1, ?2, ?3, ?3, ?3, 0, 0, id, ?4, ?5, ?6, 0,
    role, sender, content, time_ms, time_text, parent, model, usage, metadata, ?7, NULL
FROM messages WHERE no = ?8
"""
_LAST = "SELECT id, ord FROM messages WHERE session = ? AND hidden = 0 AND ord < ? ORDER BY ord DESC LIMIT 1"


class Part(NamedTuple):
    """What is taken of a session: copies of what it shows before a place, and messages that move from there."""

    before: int = BEYOND
    moved: Collection[str] = ()


def copy_session(
    store: Store,
    source: SessionRow,
    part: Part,
    *,
    id: str | None,
    title: str | None = None,
    reason: str | None = None,
    metadata: dict[str, Json] | None = None,
) -> SessionHeader:
    """Make a session of a part of another, with its header. Needs a transaction.

    The state is that behind the last message, and goes only with that one. Raises `InvalidInput` and `SessionExists`.
    """
    above = lineage(store, source)
    point, _ = store.one(_LAST, (source.no, part.before)) or (None, 0)
    last, place = store.one(_LAST, (source.no, BEYOND)) or (None, 0)
    stated: dict[str, Json] = {"session": source.id, "message": point}
    if reason is not None:
        stated["reason"] = check_text(reason, "reason")
    if above:
        stated["above"] = above
    made = store.create(
        id=id,
        title=f"Fork of {source.title or source.id}" if title is None else title,
        provider=source.provider,
        model=source.model,
        user_id=source.user_id,
        tags=decode_json(source.tags),
        metadata=merge_patch(decode_json(source.metadata), check_object(metadata or {}, "metadata")),
        state=decode_json(source.state) if place < part.before or last in part.moved else None,
        forked_from=stated,
    )
    row = live(store, made.id)
    _copy(store, source, part, row.no, above=set(above))
    recount(store, row.no)
    return header(session_row(store, row.no))


def inherited(origin: str | None, above: Collection[str]) -> bool:
    """Say whether the column of an origin names one of the sessions above."""
    return origin is not None and owner(decode_json(origin)) in above


def _copy(store: Store, source: SessionRow, part: Part, no: int, *, above: set[str]) -> None:
    place = (source.no, part.before, encode_json(list(part.moved)).decode())
    [count] = store.one(f"SELECT count(*) {_PART}", place)
    if not count:
        return
    seq, clock = store.advance(count)
    store.sign(clock, count)
    author = store.author(store.device, BY_HAND)

    def copies() -> Iterator[tuple[Any, ...]]:
        tail = None
        rows = store.execute(f"SELECT no, id, ord, origin {_PART}", place)
        for at, (copied, name, position, origin) in enumerate(rows):
            kept = position >= part.before or inherited(origin, above)  # what moves is no copy
            stated = origin if kept else json_column({"session": source.id, "message": name})
            yield no, at + 1, seq + at, clock + at, author, tail, stated, copied
            tail = name

    store.executemany(_COPY, copies())
