"""A message as the dict that a program gave, and as the message that is kept.

Whatever stands in a dict comes back equal, in this process or another one: what a message has no
field for, and what its fields would give back otherwise, is kept under one key of its metadata
(tests/library/test_session_delta.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ..errors import InvalidInput
from ..model import EXTRA, Json, Message, check_content, check_json, check_object, check_role, check_text, parse_time

_TEXTS = ("sender", "parent", "model")
_USAGE = {"token_usage", "cost"}
"""Other words for a message's usage."""
_TOKENS = {"prompt": "input_tokens", "completion": "output_tokens", "total": "total_tokens"}


class MessageDict(dict[str, Any]):
    """The dict of a message; the fields of the message it stands for are its attributes.

    ``sequence`` is the message's place in its session, from 1.
    """

    def __init__(self, message: Message, sequence: int) -> None:
        super().__init__(to_dict(message))
        self.message = message
        self.sequence = sequence

    def __getattr__(self, name: str) -> Any:
        if name == "message":  # while it is being unpickled or copied
            raise AttributeError(name)
        return getattr(self.message, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return MessageDict, (self.message, self.sequence)


def to_dict(message: Message) -> dict[str, Any]:
    """The dict that was given for a message; role, content and what else was said where none was given."""
    extra = message.extra
    plain = _plain(message)
    if _USAGE & extra.keys():
        plain.pop("usage", None)
    return {**plain, **extra}


def without_extra(message: Message, names: Iterable[str]) -> Message:
    """The message without what was said of these fields when it was given: they are written anew."""
    gone = set(names) | (_USAGE if "usage" in names else set())
    if not gone & message.extra.keys():
        return message
    extra = {key: value for key, value in message.extra.items() if key not in gone}
    metadata = {key: value for key, value in message.metadata.items() if key != EXTRA}
    return msgspec.structs.replace(message, metadata={**metadata, EXTRA: extra} if extra else metadata)


def from_dict(given: Mapping[str, Json], *, id: str, timestamp: str, is_message: Callable[[str], bool]) -> Message:
    """The message that is kept for a dict; ``id`` and ``timestamp`` stand where it has none that can.

    Its ``parent`` is a reply's only where ``is_message`` knows it. Raises `InvalidInput` where it has no role, or holds
    what JSON cannot carry.
    """
    if "role" not in given:
        raise InvalidInput("a message must have a role")
    # A copy: whoever gave it may use it again for the next message.
    fields: dict[str, Any] = {
        key: value if isinstance(value, str) else copy.deepcopy(value)
        for key, value in check_object(dict(given), "a message").items()
    }
    kept: dict[str, Any] = {name: fields[name] for name in _TEXTS if isinstance(fields.get(name), str)}
    if "parent" in kept and not is_message(kept["parent"]):
        del kept["parent"]
    for name in ("usage", "metadata"):
        if fields.get(name) and isinstance(fields[name], dict):
            kept[name] = dict(fields[name])
    if "usage" not in kept:
        usage = usage_of(fields.get("token_usage"), fields.get("cost"))
        if usage:
            kept["usage"] = usage
    kept.setdefault("metadata", {}).pop(EXTRA, None)
    message = Message(
        id=id,
        role=check_role(fields["role"]),
        content=_content(fields.get("content")),
        timestamp=_timestamp(fields.get("timestamp"), timestamp),
        **kept,
    )
    extra = _unsaid(fields, message)
    if not extra:
        return message
    return msgspec.structs.replace(message, metadata={**message.metadata, EXTRA: extra})


def usage_of(token_usage: Json, cost: Json) -> dict[str, Json]:
    """Our usage for token counts named prompt, completion and total, and a cost."""
    usage: dict[str, Json] = {}
    if isinstance(token_usage, Mapping):
        for name, ours in _TOKENS.items():
            value = token_usage.get(name, token_usage.get(f"{name}_tokens"))
            if isinstance(value, int):
                usage[ours] = value
    if isinstance(cost, int | float):
        usage["cost"] = cost
    return usage


def check_fields(message: Message) -> Message:
    """The message, whose fields a caller chose one by one; raises `InvalidInput`."""
    check_role(message.role)
    check_content(message.content)
    parse_time(message.timestamp)
    for name in _TEXTS:
        value = getattr(message, name)
        if value is not None:
            check_text(value, name)
    if message.usage is not None:
        check_object(message.usage, "usage")
    check_object(message.metadata, "metadata")
    return message


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    for name in (*_TEXTS, "usage"):
        value = getattr(message, name)
        if value is not None:
            plain[name] = value
    metadata = {key: value for key, value in message.metadata.items() if key != EXTRA}
    if metadata:
        plain["metadata"] = metadata
    return plain


def _unsaid(fields: dict[str, Json], message: Message) -> dict[str, Json]:
    """What the message would not give back by itself."""
    plain = _plain(message)
    encode = msgspec.json.encode
    unsaid = {key: value for key, value in fields.items() if key not in plain or encode(plain[key]) != encode(value)}
    if "usage" in fields and _USAGE & fields.keys():
        unsaid["usage"] = fields["usage"]
    return unsaid


def _content(value: Json) -> Any:
    """The content; text and blocks as they are, all else (None beside tool calls, numbers) stands in the extra."""
    try:
        return check_content(value)
    except InvalidInput:
        check_json(value, "content")
        return "" if value is None else msgspec.json.encode(value).decode()


def _timestamp(value: Json, otherwise: str) -> str:
    try:
        parse_time(value)
    except InvalidInput:
        return otherwise
    return str(value)
