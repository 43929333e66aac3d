"""A session as Coda exports it: json, markdown, txt and html; and taken in again from the json.

The command line's own export is another shape (cli/exporting.py). (tests/library/test_coda.py)
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..model import Json, Message, object_of, plain_text
from .session import Session

_SPEAKERS = {"user": "👤 User", "assistant": "🤖 Assistant", "system": "⚙️ System", "tool": "🔧 Tool"}
_STYLE = (
    "body{font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
    ".message{margin:1em 0;padding:.5em 1em;border-left:4px solid #999;white-space:pre-wrap}"
    ".user{border-color:#06c}.assistant{border-color:#393}"
)


def export(session: Session, form: str) -> str:
    """The text of a session in one of `FORMATS`; raises `InvalidInput` for another."""
    writer = FORMATS.get(form) if isinstance(form, str) else None
    if writer is None:
        raise InvalidInput(f"Unsupported export format: {form}", hint=f"there are {', '.join(FORMATS)}")
    return writer(session)


def exported(session: Session) -> dict[str, Json]:
    """The values of the json export: ``session`` and its ``messages`` with their places."""
    metadata = dict(session.metadata)
    metadata.setdefault("tags", list(session.tags))
    return {
        "session": {
            "id": session.id,
            "name": session.name,
            "description": session.description,
            "provider": session.provider,
            "model": session.model,
            "mode": session.mode,
            "status": session.status,
            "user_id": session.user_id,
            "tags": list(session.tags),
            "metadata": metadata,
            "state": session.to_dict()["state"],
            "parent": session.parent,
            "created_at": session.created_at.isoformat(),
            "updated_at": session.updated_at.isoformat(),
            "message_count": session.message_count,
        },
        "messages": [_exported(message, sequence) for sequence, message in enumerate(session.messages, start=1)],
    }


def _exported(message: Message, sequence: int) -> dict[str, Json]:
    extra = message.extra
    return {
        "id": message.id,
        "sequence": sequence,
        "role": message.role,
        "sender": message.sender,
        "content": message.content,
        "created_at": message.timestamp,
        "model": message.model,
        "provider": extra.get("provider"),
        "tokens": message.token_usage,
        "cost": message.cost,
        "metadata": message.metadata,
        "tool_calls": message.tool_calls or None,
        "attachments": extra.get("attachments"),
    }


def imported(given: Mapping[str, Json], make: Callable[..., Session]) -> Session:
    """The new session, made by ``make``, that a json export describes; raises `InvalidInput`."""
    about, messages = (given.get("session"), given.get("messages")) if isinstance(given, Mapping) else (None, None)
    if not isinstance(about, dict) or not isinstance(messages, list):
        raise InvalidInput("not an exported session: it must have session and messages")
    metadata = object_of({} if about.get("metadata") is None else about["metadata"], "metadata")
    tags = about.get("tags", metadata.get("tags")) or []
    if metadata.get("tags") == tags:
        metadata.pop("tags")
    session = make(
        title=about.get("name") or about.get("title"),
        provider=about.get("provider"),
        model=about.get("model"),
        user_id=about.get("user_id"),
        tags=tags,
        metadata=metadata,
        state=about.get("state"),
    )
    for at, each in enumerate(messages, start=1):
        if not isinstance(each, dict) or "role" not in each:
            raise InvalidInput(f"message {at} of the export has no role")
        tokens, cost = each.get("tokens"), each.get("cost")
        usage = {"token_usage": tokens} if isinstance(tokens, dict) and any(tokens.values()) else {}
        session.add_message(
            role=each["role"],
            content=each.get("content", ""),
            timestamp=each.get("created_at"),
            sender=each.get("sender"),
            model=each.get("model"),
            metadata=each.get("metadata") or {},
            cost=cost or None,
            **usage,
        )
    return session


def _json(session: Session) -> str:
    return msgspec.json.format(msgspec.json.encode(exported(session)), indent=2).decode()


def _markdown(session: Session) -> str:
    parts = [f"# {session.name or session.id}"]
    if session.description:
        parts.append(session.description)
    for message in session.messages:
        parts.append(f"### {_speaker(message)}")
        parts.append(_readable(message))
    return "\n\n".join(parts) + "\n"


def _text(session: Session) -> str:
    parts = [f"{session.name or session.id}\n{'=' * 40}"]
    parts += [f"[{message.timestamp}] {message.role.upper()}:\n{_readable(message)}" for message in session.messages]
    return "\n\n".join(parts) + "\n"


def _html(session: Session) -> str:
    title = html.escape(session.name or session.id)
    blocks = "\n".join(
        f'<div class="message {html.escape(message.role)}"><strong>{html.escape(_speaker(message))}</strong>\n'
        f"{html.escape(_readable(message))}</div>"
        for message in session.messages
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n{blocks}\n</body></html>\n"
    )


def _speaker(message: Message) -> str:
    return _SPEAKERS.get(message.role, message.sender or message.role)


def _readable(message: Message) -> str:
    text = plain_text(message.content)
    return text if text or isinstance(message.content, str) else msgspec.json.encode(message.content).decode()


FORMATS: Mapping[str, Callable[[Session], Any]] = {"json": _json, "markdown": _markdown, "txt": _text, "html": _html}
