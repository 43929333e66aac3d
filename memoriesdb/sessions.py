"""Sessions as MemoriesDB has them: memories of the kind ``session``, with an owner (tests/unit/test_memoriesdb.py).

What a session is stands in ``kind``, so that the caller's metadata may have a key ``type`` of its own. The owner
is the session's user; who makes a session names it as ``created_by`` in the metadata.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from ..storage.edit import Edit
from ..storage.errors import InvalidInput
from ..storage.lineage import live, owner
from ..storage.model import Json, SessionHeader, check_object
from ..storage.rows import decode_json
from ..storage.store import Store
from .calling import on_store

OWNER = "created_by"


@on_store
def create_session(store: Store, title: str, metadata: dict[str, Json] | None = None) -> str:
    """Make a session and return its id; raises `InvalidInput`, also for a blank title."""
    metadata = check_object(metadata or {}, "metadata")
    return store.create(title=given_title(title), metadata=metadata, user_id=owner_in(metadata)).id


@on_store
def session_view(store: Store, session_id: str) -> dict[str, Json]:
    """A session as a memory; ``parent_id`` is what it was forked from. Raises `SessionNotFound`."""
    return _view(store.get(session_id))


@on_store
def list_sessions(store: Store, owner: str, limit: int = 20, offset: int = 0) -> list[dict[str, Json]]:
    """An owner's sessions as memories, the last written to first, without deleted and archived ones."""
    if limit < 0 or offset < 0:
        raise InvalidInput("limit and offset cannot be negative")
    where = [("user_id = ?", (owner,)), ("status <> 'archived'", ())]
    return [_view(each) for each in islice(store.sessions(where=where, limit=offset + limit), offset, None)]


@on_store
def soft_delete_session(store: Store, session_id: str, owner: str) -> bool:
    """Hide a session and its messages until it is restored; False, and nothing changed, unless it is the owner's."""
    with store.transaction():
        row = store.find(session_id)
        if row is None or row.hidden or row.user_id is None or row.user_id != owner:
            return False
        with store.acting(owner):
            store.delete(session_id)
        return True


@on_store
def update_session_metadata(
    store: Store, session_id: str, patch: dict[str, Json], actor: str | None = None
) -> dict[str, Json]:
    """Merge into a session's metadata and return it; objects merge, all else is replaced, null is a value.

    ``actor`` is named in the audit. What changes nothing writes nothing. Raises `InvalidInput`, `SessionNotFound`.
    """
    check_object(patch, "metadata")
    with store.transaction(), store.acting(store.actor if actor is None else actor):
        row = live(store, session_id)
        merged = _merged(decode_json(row.metadata), patch)
        edit = Edit(store, row)
        edit.set_document("metadata", merged)
        edit.finish()
        return merged


def given_title(title: object) -> str:
    """The title, not blank; raises `InvalidInput`."""
    if title is None or (isinstance(title, str) and not title.strip()):
        raise InvalidInput("Session title cannot be empty")
    return title  # pyright: ignore[reportReturnType]  what is no text is refused where it is stored


def owner_in(metadata: dict[str, Json]) -> str | None:
    """Whom metadata names as the one who made the session."""
    named = metadata.get(OWNER)
    return named if isinstance(named, str) and named else None


def _view(session: SessionHeader) -> dict[str, Json]:
    return {
        "id": session.id,
        "kind": "session",
        "content": session.title,
        "parent_id": owner(session.forked_from) or None,
        "_metadata": session.metadata,
        "_created_at": session.created_at,
        "_updated_at": session.updated_at,
        "forked_from": session.forked_from,
    }


def _merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in patch.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
