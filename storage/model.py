"""What a session and a message look like from outside, and what counts as valid.

Values only: no clock, no disk. A value that passes the checks here can be stored,
written to a file, sealed and read back without change (tests/unit/test_model.py).
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import index
from typing import Any, SupportsIndex

import msgspec

from .errors import InvalidInput

Content = str | list[dict[str, Any]]
Json = Any

ROLES = ("system", "user", "assistant", "tool", "developer", "function")
STATUSES = ("active", "paused", "archived")
MAX_ID_BYTES = 2048
MAX_ACTOR_LENGTH = 256
MAX_DEPTH = 64
MAX_INTEGER_BITS = 8192
AUTOMATIC_TITLE_LENGTH = 60
EXTRA = "coda.extra"
"""The key of a message's metadata for what a program said of it that it has no field for."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_10000_MS = 253_402_300_800_000


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One message as people and programs see it; times are RFC 3339 text."""

    id: str
    role: str
    content: Content
    timestamp: str
    sender: str | None = None
    parent: str | None = None
    model: str | None = None
    usage: dict[str, Json] | None = None
    metadata: dict[str, Json] = {}
    deleted_at: str | None = None
    origin: dict[str, Json] | None = None

    @property
    def extra(self) -> dict[str, Json]:
        """What the program that added the message said beyond its fields, as it said it."""
        value = self.metadata.get(EXTRA)
        return value if isinstance(value, dict) else {}

    @property
    def tool_calls(self) -> list[dict[str, Json]]:
        """The calls of tools that the message asks for, as they were given."""
        value = self.extra.get("tool_calls")
        return value if isinstance(value, list) else []

    @property
    def tool_call_id(self) -> str | None:
        """The call that the message answers."""
        value = self.extra.get("tool_call_id")
        return value if isinstance(value, str) else None

    @property
    def created_at(self) -> datetime:
        """The timestamp as a moment; text without an offset is UTC."""
        moment = datetime.fromisoformat(self.timestamp)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def token_usage(self) -> dict[str, int]:
        """Tokens of the prompt, of the completion and in total; 0 where nobody said."""
        usage = self.usage or {}
        prompt, completion = (_first(usage, names) for names in _TOKEN_NAMES)
        return {
            "prompt": prompt,
            "completion": completion,
            "total": _first(usage, ("total_tokens",)) or prompt + completion,
        }

    @property
    def cost(self) -> float:
        """What the message cost, in the caller's currency; 0 where nobody said."""
        value = (self.usage or {}).get("cost")
        return float(value) if isinstance(value, int | float) else 0.0


class SessionHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a session but its messages; times are RFC 3339 text in UTC."""

    id: str
    title: str
    status: str
    provider: str | None
    model: str | None
    user_id: str | None
    tags: list[str]
    metadata: dict[str, Json]
    state: dict[str, Json]
    created_at: str
    updated_at: str
    message_count: int
    deleted_at: str | None = None
    forked_from: dict[str, Json] | None = None
    source: dict[str, Json] | None = None
    automatic_title: bool = False
    incomplete: bool = False
    size_bytes: int = 0
    life: int = 1
    local_only: bool = False

    @property
    def name(self) -> str:
        """The title, under the name that some tools use."""
        return self.title

    @property
    def project(self) -> str | None:
        """``metadata.project`` where that is a string."""
        value = self.metadata.get("project")
        return value if isinstance(value, str) else None


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way into a store.

    ``id`` None draws one. ``after`` names the message it stands behind; None means
    the end of the session. ``timestamp`` None means now; other text is kept as it is.
    """

    role: str
    content: Content
    id: str | None = None
    after: str | None = None
    timestamp: str | None = None
    sender: str | None = None
    parent: str | None = None
    model: str | None = None
    usage: dict[str, Json] | None = None
    metadata: dict[str, Json] = {}
    origin: dict[str, Json] | None = None


def check_session_id(value: object) -> str:
    """Return the id; raise `InvalidInput` unless it is 1 to 2,048 bytes without control characters."""
    return _id(value, "session id")


def check_name(value: object, what: str) -> str:
    """Return a name of anything; the rules are those of a session's id."""
    return _id(value, what)


def check_user_id(value: object) -> str:
    """Return the id; the rules are those of a session's id."""
    return _id(value, "user id")


def check_message_id(value: object) -> str:
    """Return the id; the rules are those of a session's id."""
    return _id(value, "message id")


def check_role(value: object) -> str:
    """Return the role: any non-empty text without control characters."""
    return _id(value, "role")


def check_actor(value: object) -> str:
    """Return the name of who writes: 1 to 256 characters, none of them a control character."""
    name = _id(value, "actor")
    if len(name) > MAX_ACTOR_LENGTH:
        raise InvalidInput(f"an actor is longer than {MAX_ACTOR_LENGTH} characters: {name[:40]}…")
    return name


def check_status(value: object) -> str:
    """Return the status, one of `STATUSES`."""
    if value not in STATUSES:
        raise InvalidInput(f"invalid status: {value} (valid: {', '.join(STATUSES)})")
    return str(value)


def check_text(value: object, what: str) -> str:
    """Return text that UTF-8 can carry; raise `InvalidInput` otherwise."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be text, not {_type(value)}")
    if not value.isascii() and _SURROGATE.search(value):
        raise InvalidInput(f"{what} holds half of a character (a lone surrogate)")
    return value


def check_title(value: object) -> str:
    """Return the title, trimmed, on one line and without control characters; blank ones are rejected."""
    title = " ".join(_CONTROL.sub(" ", check_text(value, "title")).split())
    if not title:
        raise InvalidInput("session title cannot be empty")
    return title


def check_tag(value: object) -> str:
    """Return the tag, trimmed; blank ones are rejected."""
    tag = check_text(value, "tag").strip()
    if not tag or _CONTROL.search(tag):
        raise InvalidInput("a tag must be text of one line, not blank")
    return tag


def check_content(value: object) -> Content:
    """Return the content: text, or a list of objects each with a ``type``."""
    if isinstance(value, str):
        return check_text(value, "content")
    if isinstance(value, list):
        check_json(value, "content")
        for block in value:
            if not isinstance(block, dict) or not isinstance(block.get("type"), str):
                raise InvalidInput("content must be text or a list of blocks, each an object with a type")
        return value
    raise InvalidInput(f"content must be text or a list of blocks, not {_type(value)}")


def check_object(value: object, what: str) -> dict[str, Json]:
    """Return a JSON object; raise `InvalidInput` for anything else."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} must be a JSON object, not {_type(value)}")
    check_json(value, what)
    return value


def object_of(value: object, what: str) -> dict[str, Json]:
    """Return a JSON object of a mapping, which it shares nothing with; raise `InvalidInput` for anything else."""
    return copy.deepcopy(check_object(dict(value) if isinstance(value, Mapping) else value, what))


def list_of(value: object, what: str) -> list[Any]:
    """Return what stands in a list or what is like one; raise `InvalidInput` for anything else, text among it."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInput(f"{what} must be a list, not {_type(value)}")
    return list(value)


def check_count(value: object, what: str) -> int:
    """Return a whole number from 0 on; raise `InvalidInput` for anything else."""
    if not isinstance(value, SupportsIndex):
        raise InvalidInput(f"{what} must be a whole number, not {_type(value)}")
    if index(value) < 0:
        raise InvalidInput(f"{what} must not be negative")
    return index(value)


def check_json(value: object, what: str, *, depth: int = 0) -> None:
    """Raise `InvalidInput` unless JSON can carry the value and it nests at most `MAX_DEPTH` deep."""
    if isinstance(value, str):
        check_text(value, what)
    elif isinstance(value, dict):
        _check_keys(value, what)
        _check_items(value.values(), what, depth)
    elif isinstance(value, list):
        _check_items(value, what, depth)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{what} holds {value}, which JSON cannot carry")
    elif isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise InvalidInput(f"{what} holds a number of more than {MAX_INTEGER_BITS} bits")
    elif value is not None:
        raise InvalidInput(f"{what} holds {_type(value)}, which JSON cannot carry")


def _check_keys(value: Iterable[object], what: str) -> None:
    for key in value:
        if not (type(key) is str and key.isascii()):
            check_text(key, f"a key of {what}")


def _check_items(items: Iterable[object], what: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise InvalidInput(f"{what} nests deeper than {MAX_DEPTH} levels")
    for item in items:
        if not (type(item) is str and item.isascii()):  # as most are
            check_json(item, what, depth=depth + 1)


def format_ms(ms: int) -> str:
    """UTC milliseconds since 1970 as RFC 3339 text with milliseconds and ``Z``."""
    minute, rest = divmod(ms, 60_000)
    return f"{_minute(minute)}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _minute(minute: int) -> str:
    return (_EPOCH + timedelta(minutes=minute)).isoformat()[:16]


def parse_time(text: object) -> int:
    """RFC 3339 text as UTC milliseconds; text without an offset is UTC. Years 1970 to 9999."""
    ms = _parsed(text) if isinstance(text, str) else -1
    if ms < 0:
        raise InvalidInput(f"not a time: {text!r}", hint="write it as 2026-11-20T10:00:00Z")
    return ms


@lru_cache(maxsize=256)  # a message's time is read several times on its way
def _parsed(text: str) -> int:
    if not (text.isascii() and text.isprintable()):
        return -1
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return -1
    return ms if 0 <= ms < _YEAR_10000_MS else -1


def check_ms(value: int, what: str) -> int:
    """Return UTC milliseconds of the years 1970 to 9999; raise `InvalidInput` otherwise."""
    if not 0 <= value < _YEAR_10000_MS:
        raise InvalidInput(f"{what} lies outside the years 1970 to 9999")
    return value


def plain_text(content: Content) -> str:
    """The readable text of a content: what a person wrote or read, without tool traffic."""
    if isinstance(content, str):
        return content
    parts = [block["text"] for block in content if block.get("type") == "text" and isinstance(block.get("text"), str)]
    return "\n\n".join(parts)


def automatic_title(content: Content) -> str:
    """A title from a first message: its first words, at most `AUTOMATIC_TITLE_LENGTH` characters."""
    plain = plain_text(content)
    text = _one_line(plain[: 2 * AUTOMATIC_TITLE_LENGTH])  # mostly enough
    if len(text) <= AUTOMATIC_TITLE_LENGTH:
        text = _one_line(plain[: 10 * AUTOMATIC_TITLE_LENGTH])
    if len(text) <= AUTOMATIC_TITLE_LENGTH:
        return text
    cut = text[: AUTOMATIC_TITLE_LENGTH - 1]
    return (cut[: cut.rfind(" ")] if " " in cut[20:] else cut).rstrip() + "…"


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())


def _id(value: object, what: str) -> str:
    text = check_text(value, what)
    if is_plain_id(text):  # as nearly all are
        return text
    if not text or len(text.encode()) > MAX_ID_BYTES or _CONTROL.search(text):
        raise InvalidInput(f"{what} must be 1 to {MAX_ID_BYTES} bytes without control characters")
    return text


def is_plain_id(text: str) -> bool:
    """Whether a text is an id that needs no closer look."""
    return text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ID_BYTES


def _first(usage: dict[str, Json], names: tuple[str, ...]) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int):
            return value
    return 0


_TOKEN_NAMES = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))


def _type(value: object) -> str:
    return "null" if value is None else f"a value of type {type(value).__name__}"
