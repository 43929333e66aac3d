"""A session as a conversation: its history with the forks it went through, as text, and the replies to a message.

A fork holds copies of what it inherited, so its history is read from it alone; who wrote a message first, and
through which forks it came, is told by its origin and the lineage of the session (tests/unit/test_conversation.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from .errors import MessageNotFound, NotASession, SessionNotFound
from .lineage import ancestors, lineage, live, owner
from .model import Content, Json, Message, plain_text
from .rows import MESSAGE_COLUMNS, MessageRow, SessionRow, message
from .state import find_message
from .store import Store

NO_ROLE = "participant"
"""The role of a message to whose speaker nobody gave one, who has a name alone: a message cannot be without."""

# UNION keeps a set, so that replies which name each other in a circle end; CROSS JOIN keeps the order of the tables,
# so that the index of parents is asked, not the whole session read for each reply.
_BELOW = f"""
WITH RECURSIVE below (id) AS (
    VALUES (?2) UNION SELECT m.id FROM below CROSS JOIN messages m ON m.session = ?1 AND m.parent = below.id
)
SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ?1 AND id IN below AND id != ?2 ORDER BY time_ms, ord
"""  # noqa: S608


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a session's history.

    ``session_id`` is the session that it was written in, ``fork_chain`` the way there from the session that was asked
    for, and ``fork_depth`` how many forks that were. ``position`` counts from 1. A message without a role is the
    system's, and spoken by its sender; ``speaker`` is None where there is neither.
    """

    message_id: str
    content: Content
    role: str
    sender: str | None
    fork_depth: int
    position: int
    session_id: str
    fork_chain: tuple[str, ...]
    parent: str | None
    timestamp: str
    metadata: dict[str, Json]
    speaker: str | None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it is read aloud: ``speaker`` ends in a colon and a space, ``fork_info`` is mostly empty."""

    speaker: str
    message: str
    fork_info: str
    message_id: str
    session_id: str
    message_metadata: dict[str, Json] | None
    timestamp: str


class Reply(msgspec.Struct, frozen=True):
    """A message below another one; a direct reply has depth 1."""

    message: Message
    depth: int


def history(store: Store, session_id: str) -> Iterator[Entry]:
    """The messages of a session in order, each with where it comes from; raises `SessionNotFound`."""
    return _history(store, live(store, session_id))


def formatted(store: Store, session_id: str, *, include_metadata: bool = False) -> Iterator[Turn]:
    """The messages of a session in order, as they are read aloud; raises `NotASession`."""
    try:
        row = live(store, session_id)
    except SessionNotFound:
        raise NotASession(ref=session_id) from None
    return _turns(store, row, include_metadata=include_metadata)


def text(store: Store, session_id: str) -> str:
    """A session as text, a line for each message, the empty text for an empty one; raises `NotASession`."""
    return lines(formatted(store, session_id))


def lines(turns: Iterable[Turn]) -> str:
    """Turns as text, a line for each."""
    return "".join(f"{turn.speaker}{turn.message}{' ' * bool(turn.fork_info)}{turn.fork_info}\n" for turn in turns)


def replies(store: Store, session_id: str, message_id: str) -> list[Reply]:
    """Every reply below a message: each before what replies to it, replies to one message in the order of time.

    Deleted replies are left out, what replies to them is not; no reply stands there twice. Raises `SessionNotFound`
    and `MessageNotFound`.
    """
    session = live(store, session_id)
    root = find_message(store, session.no, message_id)
    if root is None or root.hidden:
        raise MessageNotFound(session=session_id, message=message_id)
    below: dict[str | None, list[MessageRow]] = {}
    for row in store.execute(_BELOW, (session.no, message_id)):
        reply = MessageRow(*row)
        below.setdefault(reply.parent, []).append(reply)
    found: list[Reply] = []
    waiting = [(reply, 1) for reply in reversed(below.pop(message_id, []))]
    while waiting:
        reply, depth = waiting.pop()
        if not reply.hidden:
            found.append(Reply(message(reply), depth))
        waiting += [(each, depth + 1) for each in reversed(below.pop(reply.id, []))]
    return found


def _history(store: Store, session: SessionRow) -> Iterator[Entry]:
    chain = (session.id, *lineage(store, session))
    depths = {each: depth for depth, each in enumerate(chain)}
    for position, row in enumerate(store.message_rows(session.no), start=1):
        shown = message(row)
        depth = depths.get(owner(shown.origin), 0)
        yield Entry(
            message_id=shown.id,
            content=shown.content,
            role="system" if shown.role == NO_ROLE else shown.role,
            speaker=shown.sender if shown.role == NO_ROLE else shown.role,
            sender=shown.sender,
            fork_depth=depth,
            position=position,
            session_id=chain[depth],
            fork_chain=chain[: depth + 1],
            parent=shown.parent,
            timestamp=shown.timestamp,
            metadata=shown.metadata,
        )


def _turns(store: Store, session: SessionRow, *, include_metadata: bool) -> Iterator[Turn]:
    names = [each.title or each.id for each in ancestors(store, session.id)]
    for entry in _history(store, session):
        yield Turn(
            speaker=f"{entry.speaker or 'unknown'}: ",
            message=plain_text(entry.content),
            fork_info=f"(from: {' → '.join(names[: entry.fork_depth])})" if entry.fork_depth else "",
            message_id=entry.message_id,
            session_id=entry.session_id,
            message_metadata=entry.metadata if include_metadata else None,
            timestamp=entry.timestamp,
        )
