"""Forks and conversations under MemoriesDB's names (tests/unit/test_memoriesdb.py)."""

from __future__ import annotations

from ..storage.conversation import Entry, Reply, Turn, formatted, history, replies, text
from ..storage.errors import SessionNotFound
from ..storage.forks import fork
from ..storage.lineage import Ancestor, Node, ancestors, descendants
from ..storage.model import Json, check_object, check_text
from ..storage.store import Store
from .calling import on_store
from .errors import UnknownOriginal
from .sessions import given_title, owner_in

PARENT_MESSAGE, REASON = "parent_message_id", "reason"

get_conversation_text = on_store(text)
get_session_tree = on_store(descendants)
get_session_ancestors = on_store(ancestors)
get_replies = on_store(replies)


@on_store
def fork_session(
    store: Store, original_id: str, title: str | None = None, metadata: dict[str, Json] | None = None
) -> str:
    """Make a session of another's messages and return its id; the other one is not changed.

    ``metadata`` may name the last message that is taken (``parent_message_id``) and a ``reason``; both also stand in
    what the fork says of its origin. Raises `InvalidInput`, `UnknownOriginal` and `MessageNotFound`.
    """
    given = check_object(metadata or {}, "metadata")
    at, reason = (_text(given, name) for name in (PARENT_MESSAGE, REASON))
    owner = owner_in(given)
    # What the original itself says of where and why it was forked is not said of this fork.
    patch = {PARENT_MESSAGE: None, REASON: None, **given}
    with store.transaction():
        try:
            made = fork(
                store,
                original_id,
                at=at,
                title=None if title is None else given_title(title),
                reason=reason,
                metadata=patch,
            )
        except SessionNotFound as exc:
            raise UnknownOriginal(ref=exc.ref) from None
        if owner is not None:
            store.update(made.id, fields={"user_id": owner})
    return made.id


@on_store
def get_session_messages(store: Store, session_id: str) -> list[Entry]:
    """A session's history: what it inherited through its forks, then its own. Raises `SessionNotFound`."""
    return list(history(store, session_id))


@on_store
def get_formatted_conversation(store: Store, session_id: str, include_metadata: bool = False) -> list[Turn]:
    """A session's history as it is read aloud; raises `NotASession`."""
    return list(formatted(store, session_id, include_metadata=include_metadata))


def _text(metadata: dict[str, Json], name: str) -> str | None:
    value = metadata.get(name)
    return None if value is None else check_text(value, name)


__all__ = [
    "Ancestor",
    "Entry",
    "Node",
    "Reply",
    "Turn",
    "fork_session",
    "get_conversation_text",
    "get_formatted_conversation",
    "get_replies",
    "get_session_ancestors",
    "get_session_messages",
    "get_session_tree",
]
