"""Everything that is wrong with a session of a file, and where: found only once something is.

The good case decodes a record into its fields and never comes here. Here it is looked at field by field, and what is
wrong is then looked for in the text, so that nobody needs to keep places while all is well
(tests/unit/test_transcript_faults.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..model import (
    check_content,
    check_message_id,
    check_object,
    check_role,
    check_session_id,
    check_status,
    check_tag,
    check_text,
    parse_time,
)
from .ainative import heading
from .elements import behind
from .transcript import Fault

Path = tuple[str | int, ...]
_BYTE = re.compile(r"(.*) \(byte (\d+)\)")
_BLANKS = re.compile(r"[ \t\r\n]*")
_parse = json.JSONDecoder(strict=False)


class Wrong(NamedTuple):
    """A fault: the path of the value, why, and what the decoder said where it is no JSON."""

    path: Path
    reason: str
    undecoded: Exception | None = None


class Faulty(InvalidInput):
    """A file of ours has faults, so nothing of it is taken; all of them are in ``faults``."""

    def __init__(self, faults: list[Fault]) -> None:
        first = faults[0]
        where = f"line {first.line}" + (f", column {first.column}" if first.column else "")
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{where}: {first.reason}{more}")
        self.faults = faults


def faults_of(value: object) -> list[Wrong]:
    """What is wrong with a session, or with a message that stands by itself."""
    if not isinstance(value, dict):
        return [Wrong((), "not a JSON object")]
    if "role" in value or not ("steno" in value or "messages" in value or "session" in value or "title" in value):
        return list(_message(value, ()))
    return list(_session(value))


def located(text: bytes, wrong: list[Wrong], *, place: tuple[int, int]) -> list[Fault]:
    """The faults of a text that begins at a place, in its order."""
    found: list[tuple[tuple[int, int], str]] = []
    decoded = text.decode(errors="replace")
    for each in wrong:
        syntax = _BYTE.fullmatch(str(each.undecoded)) if each.undecoded else None
        if syntax:
            found.append((behind(*place, text[: int(syntax[2])]), syntax[1]))
        else:
            at = 0 if each.undecoded else offset_of(decoded, each.path)
            found.append((behind(*place, decoded[:at].encode()), each.reason))
    return [Fault(line, reason, column) for (line, column), reason in sorted(found)]


def offset_of(text: str, path: Path) -> int:
    """Where in a JSON text the value of a path begins; of what is not there, that which should hold it."""
    at = _skip(text, 0)
    for step in path:
        below = _below(text, at, step)
        if below is None:
            break
        at = below
    return at


def _below(text: str, at: int, step: str | int) -> int | None:
    """Where the value of a key or a number begins in the object or array that begins at a place."""
    opening = text[at : at + 1]
    if opening not in "{[" or (opening == "{") != isinstance(step, str):
        return None
    at, number = _skip(text, at + 1), 0
    try:
        while text[at] not in "}]":
            key: str | int = number
            if opening == "{":
                key, at = _parse.raw_decode(text, at)
                at = _skip(text, _skip(text, at) + 1)
            if key == step:
                return at
            at = _skip(text, _parse.raw_decode(text, at)[1])
            at, number = _skip(text, at + 1) if text[at] == "," else at, number + 1
    except (ValueError, IndexError, RecursionError):
        return None
    return None


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()


def _session(record: dict[str, Any]) -> Iterator[Wrong]:
    ours = "steno" in record
    given, above = heading(record) if not ours else (record, ())
    yield from _required(given, above, "id", check_session_id)
    title = given.get("title", given.get("name"))
    if not ours and (title is None or (isinstance(title, str) and not title.strip())):
        yield Wrong((*above, "title"), "a title is required")
    for name in ("title", "name", "provider", "model", "user_id"):
        yield from _optional(given, above, name, lambda value, name=name: check_text(value, name))
    yield from _optional(given, above, "status", check_status)
    for name in ("created_at", "updated_at"):
        yield from _optional(given, above, name, parse_time)
    for name in ("metadata", "state", "source", "forked_from"):
        yield from _optional(given, above, name, lambda value, name=name: check_object(value, name))
    yield from _optional(given, above, "tags", _tags)
    metadata = given.get("metadata")
    if given.get("tags") is None and not ours and isinstance(metadata, dict):
        yield from _optional(metadata, (*above, "metadata"), "tags", _tags)
    if ours:
        yield from (Wrong((name,), f"there is no field {name}") for name in record if name not in _OURS)
    yield from _messages(record, ours=ours)


def _messages(record: dict[str, Any], *, ours: bool) -> Iterator[Wrong]:
    messages = record.get("messages", [] if ours else None)
    if not isinstance(messages, list):
        yield Wrong(("messages",), "messages are required" if messages is None else "messages must be a list")
        return
    seen: set[object] = set()
    for number, message in enumerate(messages):
        yield from _message(message, ("messages", number), ours=ours)
        name = message.get("id") if isinstance(message, dict) else None
        if isinstance(name, str) and name in seen and message.get("deleted_at") is None:
            yield Wrong(("messages", number, "id"), f"message {number + 1}: the id {name} stands twice")
        seen.add(name if isinstance(name, str) else None)


def _message(message: object, above: Path, *, ours: bool = True) -> Iterator[Wrong]:
    if not isinstance(message, dict):
        yield Wrong(above, "a message must be a JSON object")
        return
    of = f"message {above[-1] + 1}: " if above and isinstance(above[-1], int) else ""
    found = [
        *_required(message, above, "role", check_role),
        *_required(message, above, "content", check_content),
        *_optional(message, above, "id", check_message_id),
        *(each for name in ("timestamp", "deleted_at") for each in _optional(message, above, name, parse_time)),
    ]
    for name in ("sender", "parent", "model"):
        found += _optional(message, above, name, lambda value, name=name: check_text(value, name))
    for name in ("usage", "metadata", "origin"):
        found += _optional(message, above, name, lambda value, name=name: check_object(value, name))
    if ours:
        found += [Wrong((*above, name), f"there is no field {name}") for name in message if name not in _OURS_SAID]
    yield from (Wrong(each.path, of + each.reason) for each in found)


def _required(given: dict[str, Any], above: Path, name: str, check: Callable[[object], Any]) -> Iterator[Wrong]:
    if given.get(name) is None:
        yield Wrong((*above, name), f"{name} is required")
    else:
        yield from _optional(given, above, name, check)


def _optional(given: dict[str, Any], above: Path, name: str, check: Callable[[object], Any]) -> Iterator[Wrong]:
    if given.get(name) is not None:
        try:
            check(given[name])
        except InvalidInput as exc:
            reason = str(exc)
            yield Wrong((*above, name), reason if name in reason else f"{name}: {reason}")


def _tags(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidInput("tags must be a list of strings")
    for each in value:
        check_tag(each)


_OURS_SAID = frozenset({
    "id", "role", "content", "timestamp", "sender", "parent", "model", "usage", "metadata", "origin", "deleted_at",
})  # fmt: skip
_OURS = frozenset({
    "steno", "id", "rev", "title", "name", "status", "tags", "provider", "model", "user_id", "project", "metadata",
    "state", "forked_from", "source", "created_at", "updated_at", "deleted_at", "message_count", "local_only",
    "metadata_has_tags", "messages",
})  # fmt: skip
