"""AINative Code's exports: the shape of ours without ``steno``, and the shape of its own database.

    {"id":…, "title":…, "messages":[{"role":…, "content":…}]}
    {"session":{"id":…, "name":…}, "messages":[{"id":…, "role":…, "tokens_used":…}]}

What it says and we have no field for becomes metadata (tests/unit/test_transcript_steno_json.py).
"""

from __future__ import annotations

from typing import Any

from ..model import Json

_SESSION = (
    "id", "title", "name", "status", "tags", "provider", "model", "user_id", "metadata", "state", "forked_from",
    "source", "created_at", "updated_at", "message_count",
)  # fmt: skip
_MESSAGE = ("id", "role", "content", "timestamp", "sender", "parent", "model", "usage", "metadata", "origin")
_OF_AN_EXPORT = ("title", "created_at", "updated_at")
_SAID_ELSEWHERE = ("session_id", "sequence", "messages", "session", "deleted_at", "project")


def is_ainative(record: object) -> bool:
    """Say whether a record is one of AINative Code's sessions, with faults or not."""
    if not isinstance(record, dict) or "mapping" in record or "chat_messages" in record or "role" in record:
        return False
    if isinstance(record.get("session"), dict):
        return "messages" in record
    return any(name in record for name in _OF_AN_EXPORT) and ("messages" in record or "id" in record)


def heading(record: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of the session, and the path at which they stand."""
    session = record.get("session")
    return (session, ("session",)) if isinstance(session, dict) else (record, ())


def as_ours(record: dict[str, Any]) -> dict[str, Json]:
    """A record without faults in the shape of ours."""
    given, _ = heading(record)
    ours = {name: given[name] for name in _SESSION if name in given}
    metadata = dict(given.get("metadata") or {})
    ours["metadata"] = metadata
    if "tags" not in given:
        ours["tags"] = metadata.get("tags")
    for name, value in given.items():
        if name not in (*_SESSION, *_SAID_ELSEWHERE) and value is not None:
            metadata.setdefault(name, value)
    ours["messages"] = [_message(each) for each in record["messages"]]
    return ours


def _message(given: dict[str, Any]) -> dict[str, Json]:
    ours = {name: given[name] for name in _MESSAGE if name in given}
    for name, other in (("timestamp", "created_at"), ("parent", "parent_id")):
        if ours.get(name) is None and given.get(other):
            ours[name] = given[other]
    tokens = given.get("tokens_used")
    if isinstance(tokens, int) and tokens and ours.get("usage") is None:
        ours["usage"] = {"total_tokens": tokens}
    known = (*_MESSAGE, *_SAID_ELSEWHERE, "created_at", "parent_id", "tokens_used")
    rest = {name: value for name, value in given.items() if name not in known and value not in (None, "", [], {})}
    if rest:
        ours["metadata"] = {**rest, **(given.get("metadata") or {})}
    return ours
