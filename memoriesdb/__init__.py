"""MemoriesDB's functions, under their own names, on a store of Steno; and the same store through SQL.

Knows how MemoriesDB speaks of sessions and messages: as memories with ``_metadata``, joined by edges.
Declines to know how they are kept: everything here is an ordinary session or message, and every write
an ordinary, stamped change that syncs.

    from steno import SQLiteSessionStore
    from steno.memoriesdb import add_message_to_session, create_session, get_conversation_text

    store = SQLiteSessionStore("sessions.db")
    session = create_session(store, "Team Discussion", {"type": "group_chat"})
    add_message_to_session(store, session, "user1", "Hello team!")
    print(get_conversation_text(store, session))

Names are looked up when they are first used (PEP 562), so that ``steno sql`` loads only what it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conversation import (
        fork_session,
        get_conversation_text,
        get_formatted_conversation,
        get_replies,
        get_session_ancestors,
        get_session_messages,
        get_session_tree,
    )
    from .loading import LoadResult, load_jsonl
    from .messages import add_message_to_session, message_view
    from .sessions import (
        create_session,
        list_sessions,
        session_view,
        soft_delete_session,
        update_session_metadata,
    )

_HOMES = {
    "create_session": "sessions",
    "session_view": "sessions",
    "list_sessions": "sessions",
    "soft_delete_session": "sessions",
    "update_session_metadata": "sessions",
    "add_message_to_session": "messages",
    "message_view": "messages",
    "fork_session": "conversation",
    "get_session_messages": "conversation",
    "get_formatted_conversation": "conversation",
    "get_conversation_text": "conversation",
    "get_session_tree": "conversation",
    "get_session_ancestors": "conversation",
    "get_replies": "conversation",
    "load_jsonl": "loading",
    "LoadResult": "loading",
}

__all__ = [
    "LoadResult",
    "add_message_to_session",
    "create_session",
    "fork_session",
    "get_conversation_text",
    "get_formatted_conversation",
    "get_replies",
    "get_session_ancestors",
    "get_session_messages",
    "get_session_tree",
    "list_sessions",
    "load_jsonl",
    "message_view",
    "session_view",
    "soft_delete_session",
    "update_session_metadata",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  only where a name is used

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
