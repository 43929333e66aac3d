"""A message as a store keeps it that counts by itself: its JSON text, and what is counted beside it.

Redis and PostgreSQL keep the text and never look into it: what they must know stands apart
(tests/contract/test_session_stores.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ..document import patched
from ..model import Message, automatic_title, check_message_id, parse_time


class Item(NamedTuple):
    """One message; ``title`` is the title that it gives its session where it is the first of a user."""

    id: str
    size_bytes: int
    time_ms: int
    title: str
    text: bytes


def item(message: Message) -> Item:
    """The item that a message is kept as."""
    content = message.content
    return Item(
        check_message_id(message.id),
        len(content.encode()) if isinstance(content, str) else len(_encode(content)),
        parse_time(message.timestamp),
        automatic_title(content) if message.role == "user" else "",
        _encode(message),
    )


def message(text: bytes | str) -> Message:
    """The message that a text was made of; raises `msgspec.DecodeError` for any other text."""
    return _decode(text)


def edited(text: bytes | str, fields: Mapping[str, Any]) -> Item:
    """The item after some fields of its message were changed, as `Delta.edited` says them."""
    old = _decode(text)
    metadata = patched(old.metadata, fields.get("metadata", ()))
    return item(msgspec.structs.replace(old, **{**fields, "metadata": metadata}))


def repeated(added: Message, text: bytes | str | None) -> bool:
    """Say whether a message that is to be added is the one that is there under its id; None is a hidden one."""
    there = None if text is None else _decode(text)
    return there is not None and (added.role, added.content) == (there.role, there.content)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode
