"""MemoriesDB's functions as functions of SQL: JSON goes in and comes out as text (tests/unit/test_sql.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ..storage.conversation import Entry, Turn
from ..storage.errors import InvalidInput
from ..storage.lineage import lineage, owner
from ..storage.model import Json
from ..storage.rows import decode_json, encode_json
from ..storage.store import Store
from .conversation import fork_session, get_conversation_text, get_formatted_conversation, get_session_messages
from .messages import add_message_to_session
from .sessions import create_session, soft_delete_session, update_session_metadata


class Function(NamedTuple):
    """One function: its arguments as people read them, those in brackets optional."""

    name: str
    arguments: str
    purpose: str
    call: Callable[..., Any]
    writes: bool = False

    @property
    def counts(self) -> range:
        """With how many arguments it can be called."""
        required = self.arguments.partition("[")[0]
        return range(_count(required), _count(self.arguments) + 1)


def _count(arguments: str) -> int:
    return len([each for each in arguments.replace("[", "").replace("]", "").split(",") if each.strip()])


def _create(store: Store, title: Any, metadata: Any = None) -> str:
    return create_session(store, title, _object(metadata))


def _add(store: Store, session_id: Any, sender: Any, content: Any, metadata: Any = None) -> str:
    return add_message_to_session(store, session_id, sender, content, _object(metadata))


def _fork(store: Store, original_id: Any, title: Any = None, metadata: Any = None) -> str:
    return fork_session(store, _id(original_id), title, _object(metadata))


def _update(store: Store, session_id: Any, patch: Any, actor: Any = None) -> str:
    return _json(update_session_metadata(store, _id(session_id), _object(patch), actor))


def _delete(store: Store, session_id: Any, owner: Any) -> int:
    return int(soft_delete_session(store, _id(session_id), owner))


def _text(store: Store, session_id: Any) -> str:
    return get_conversation_text(store, _id(session_id))


def _messages(store: Store, session_id: Any) -> str:
    return _json(get_session_messages(store, _id(session_id)))


def _formatted(store: Store, session_id: Any, include_metadata: Any = 0) -> str:
    return _json(get_formatted_conversation(store, _id(session_id), bool(include_metadata)))


def whole_chain(store: Store, session_id: str) -> list[str]:
    """A session and what it was forked from, nearest first."""
    row = store.find(session_id)
    return [session_id] if row is None else [session_id, *lineage(store, row)]


def chain_to(chain: list[str], origin: str) -> str:
    """A chain up to the session that wrote a message of this origin, as a JSON array."""
    written_in = owner(decode_json(origin))
    return _json(chain[: chain.index(written_in) + 1] if written_in in chain else chain[:1])


FUNCTIONS = (
    Function("create_session", "title [, metadata]", "make a session; its id", _create, writes=True),
    Function(
        "add_message_to_session", "id, sender, text [, metadata]", "add a message; its id", _add, writes=True
    ),
    Function(
        "fork_session", "id [, title, metadata]", "copy a session, up to metadata.parent_message_id; the new id",
        _fork, writes=True,
    ),
    Function(
        "update_session_metadata", "id, metadata [, actor]", "merge into a session's metadata; all of it",
        _update, writes=True,
    ),
    Function("soft_delete_session", "id, owner", "hide an owner's session; 1 if it is theirs", _delete, writes=True),
    Function("get_session_messages", "id", "a session's history, a JSON array or a table", _messages),
    Function(
        "get_formatted_conversation", "id [, with_metadata]", "the same as it is read aloud", _formatted
    ),
    Function("get_conversation_text", "id", "the same as text, a line for each message", _text),
)  # fmt: skip

TABLES: dict[str, tuple[str, ...]] = {
    "get_session_messages": Entry.__struct_fields__,
    "get_formatted_conversation": Turn.__struct_fields__,
}
"""The functions that give rows, with their columns."""


def _id(value: Any) -> str:
    if value is None:
        raise InvalidInput("Session ID cannot be NULL")
    if not isinstance(value, str):
        raise InvalidInput(f"a session id is text, not {value!r}")
    return value


def _object(text: Any) -> dict[str, Json]:
    if text is None:
        return {}
    try:
        found = decode_json(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidInput(f"the metadata is no JSON ({exc})") from exc
    if not isinstance(found, dict):
        raise InvalidInput("the metadata must be a JSON object", hint="""write it as '{"type": "group_chat"}'""")
    return found


def _json(value: Any) -> str:
    return encode_json(value).decode()
