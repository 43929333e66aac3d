"""Messages as MemoriesDB has them: memories with a sender, who may be anybody (tests/unit/test_memoriesdb.py).

Of the metadata that a message comes with, ``sender``, ``sent_at`` and ``parent_id`` are fields of the message;
the rest, ``role`` included, is kept as it was given.
"""

from __future__ import annotations

from ..storage.conversation import NO_ROLE
from ..storage.errors import InvalidInput, MessageNotFound, SessionNotFound
from ..storage.lineage import live
from ..storage.model import ROLES, Content, Json, NewMessage, check_object, check_text, format_ms
from ..storage.rows import message
from ..storage.state import find_message
from ..storage.store import Store
from .calling import on_store
from .errors import UnknownSession

FIELDS = ("sender", "sent_at", "parent_id")


@on_store
def add_message_to_session(
    store: Store,
    session_id: str | None,
    sender: str | None,
    content: Content,
    metadata: dict[str, Json] | None = None,
    *,
    id: str | None = None,
) -> str:
    """Add a message and return its id; raises `InvalidInput` and `UnknownSession`.

    ``metadata`` may say ``role``, ``sent_at`` (now without it) and ``parent_id``, the message of this session that
    this one replies to. The same text added twice makes two messages.
    """
    if session_id is None:
        raise InvalidInput("Session ID cannot be NULL")
    new = new_message(content, {**check_object(metadata or {}, "metadata"), "sender": sender}, id=id)
    try:
        return store.append(session_id, new).id
    except SessionNotFound as exc:
        raise UnknownSession(ref=exc.ref) from None


@on_store
def message_view(store: Store, session_id: str, message_id: str) -> dict[str, Json]:
    """A message as a memory; ``parent_id`` is what it replies to. Raises `SessionNotFound` and `MessageNotFound`.

    It takes the session as well, since a fork's copy of a message has the id of the message.
    """
    session = live(store, session_id)
    row = find_message(store, session.no, message_id)
    if row is None or row.hidden:
        raise MessageNotFound(session=session_id, message=message_id)
    shown = message(row)
    sender = {} if shown.sender is None else {"sender": shown.sender}
    return {
        "id": shown.id,
        "kind": "message",
        "content": shown.content,
        "role": None if shown.role == NO_ROLE else shown.role,
        "session_id": session_id,
        "parent_id": shown.parent,
        "_metadata": {**shown.metadata, **sender, "sent_at": shown.timestamp},
        "_created_at": format_ms(row.time_ms),
    }


def new_message(
    content: Content, metadata: dict[str, Json], *, id: str | None, parent: str | None = None
) -> NewMessage:
    """A message on its way into the store, of its content and of metadata that says the rest; raises `InvalidInput`."""
    sender, sent_at, parent_id = (metadata.get(name) for name in FIELDS)
    if sender is not None:
        check_text(sender, "sender")
    return NewMessage(
        id=id,
        role=_role(metadata.get("role"), sender),
        content=content,
        sender=sender or None,
        timestamp=None if sent_at is None else check_text(sent_at, "sent_at"),
        parent=parent if parent_id is None else check_text(parent_id, "parent_id"),
        metadata={key: value for key, value in metadata.items() if key not in FIELDS},
    )


def _role(role: Json, sender: str | None) -> str:
    """The role that was said, else that of a sender who is called by one."""
    if role is None or role == "":
        return sender if sender in ROLES else NO_ROLE
    return check_text(role, "role")
