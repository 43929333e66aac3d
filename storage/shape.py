"""The JSON of a session and of a message, the same in HTTP answers and in ``--format json``.

Every field stands in every object, in this order, with null where it has no value, so that a
program need not ask whether it is there (tests/unit/test_shape.py).
"""

from __future__ import annotations

from typing import Any

from .model import Message, SessionHeader
from .runs import Divergence


def session_json(session: SessionHeader) -> dict[str, Any]:
    """A session as a JSON object; ``name`` repeats the title and ``project`` is ``metadata.project``."""
    return {
        "id": session.id,
        "title": session.title,
        "name": session.name,
        "user_id": session.user_id,
        "status": session.status,
        "provider": session.provider,
        "model": session.model,
        "project": session.project,
        "tags": session.tags,
        "metadata": session.metadata,
        "state": session.state,
        "forked_from": session.forked_from,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "deleted_at": session.deleted_at,
        "message_count": session.message_count,
        "source": session.source,
        "local_only": session.local_only,
    }


def message_json(message: Message) -> dict[str, Any]:
    """A message as a JSON object; the content is text or a list of blocks, as it was given."""
    return {
        "id": message.id,
        "role": message.role,
        "sender": message.sender,
        "content": message.content,
        "timestamp": message.timestamp,
        "parent": message.parent,
        "model": message.model,
        "usage": message.usage,
        "metadata": message.metadata,
        "deleted_at": message.deleted_at,
        "origin": message.origin,
    }


def divergence_json(found: Divergence) -> dict[str, Any]:
    """A place where devices diverged: a run that begins ``at`` a message, written without knowing of ``against``."""
    return {"at": found.at, "anchor": found.anchor, "against": found.against, "run": list(found.run)}
