"""What a transcript of another tool says, as values: sessions, messages, and what was not taken.

Reading the same bytes twice gives equal values, and reading a longer file gives the same messages
under the same ids with more behind them; so importing twice changes nothing and an append stays an
append (tests/unit/test_transcript_claude_code.py, tests/unit/test_transcript_corpus.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

import msgspec

from ..errors import InvalidInput
from ..model import MAX_DEPTH, MAX_ID_BYTES, Content, Json, NewMessage, check_message_id, format_ms, parse_time

_LONGEST_ID = MAX_ID_BYTES - 48
_encode = msgspec.json.Encoder(order="deterministic").encode


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """One session as its source has it; ``title`` only where the source names one."""

    id: str
    title: str | None = None
    created_ms: int
    provider: str | None = None
    model: str | None = None
    tags: list[str] = []
    metadata: dict[str, Json] = {}
    source: dict[str, Json]
    forked_from: dict[str, Json] = {}
    messages: list[NewMessage]
    local_only: bool = False
    status: str = "active"
    user_id: str | None = None
    state: dict[str, Json] = {}
    checked: bool = False
    """That its messages can be stored has been seen to, but for their size."""

    def titled(self, title: str) -> Self:
        """The same under another title."""
        return msgspec.structs.replace(self, title=title)


class Fault(msgspec.Struct, frozen=True):
    """What could not be read as it stands: the line (or array element), counted from 1, and why.

    ``column`` is there where the place is known to the character.
    """

    line: int
    reason: str
    column: int | None = None


class Reading(msgspec.Struct, kw_only=True):
    """What became of one file. ``left_out`` counts the records that carry no message, by their type.

    ``default_ms`` is when sessions began whose source records no time. ``place`` is the line and the column where the
    element of an array begins that was read last.
    """

    format: str | None = None
    default_ms: int = 0
    place: tuple[int, int] | None = None
    transcripts: list[Transcript] = []
    faults: list[Fault] = []
    left_out: dict[str, int] = {}

    def leave_out(self, kind: str) -> None:
        """Count a record that carries no message."""
        self.left_out[kind] = self.left_out.get(kind, 0) + 1

    def fault(self, line: int, reason: str) -> None:
        """Note what could not be read."""
        self.faults.append(Fault(line, reason))


class Draft(msgspec.Struct, kw_only=True):
    """A message whose id and predecessor are not settled yet."""

    role: str
    content: Content
    id: str | None = None
    timestamp: str | None = None
    sender: str | None = None
    model: str | None = None
    usage: dict[str, Json] | None = None
    metadata: dict[str, Json] = {}


def assemble(drafts: Iterable[Draft], reading: Reading) -> list[NewMessage]:
    """Give each draft its id and its predecessor in the file.

    A native id stays; where the source has none, the id comes from role and content, and from the
    number of equal ones before, so that equal twins both stay. Time is no part of it: tools that
    replay a conversation into another file stamp it anew. A record written twice counts once.
    """
    kept: dict[str, Draft] = {}
    for draft in drafts:
        name = usable_id(draft.id) or digest([draft.role, draft.content])
        twin = kept.get(name)
        if twin is not None and name == draft.id and (twin.role, twin.content) == (draft.role, draft.content):
            twin.usage = draft.usage or twin.usage
            reading.leave_out("record written twice")
            continue
        unique, number = name, 1
        while unique in kept:
            number += 1
            unique = f"{name}~{number}"
        kept[unique] = draft
    messages: list[NewMessage] = []
    after: str | None = None
    for name, draft in kept.items():
        messages.append(
            NewMessage(
                id=name,
                role=draft.role,
                content=draft.content,
                after=after,
                timestamp=draft.timestamp,
                sender=draft.sender,
                model=draft.model,
                usage=draft.usage,
                metadata=draft.metadata,
            )
        )
        after = name
    return messages


def digest(value: Json) -> str:
    """A name for a JSON value: 20 hexadecimal digits of its hash, whatever the order of its keys."""
    return hashlib.blake2b(_encode(value), digest_size=10).hexdigest()


def created_ms(messages: Iterable[NewMessage], *, default_ms: int) -> int:
    """When a session began: the time of the first message that has one."""
    return next((parse_time(message.timestamp) for message in messages if message.timestamp), default_ms)


def time_text(value: object) -> str | None:
    """A source's time as RFC 3339 text: text as it stands, numbers as seconds or milliseconds; None for no time."""
    if isinstance(value, str):
        try:
            if 1970 < datetime.fromisoformat(value).year < 9999:
                return value
            parse_time(value)
        except ValueError:  # InvalidInput is one too
            return None
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 253_402_300_800_000:
        return format_ms(int(value if value > 100_000_000_000 else value * 1000))
    return None


def tidy(content: object) -> Content:
    """A content as the model wants it, every block kept as given; a lone plain text block becomes its text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else [_block(content)]
    if len(content) == 1:
        match content[0]:
            case {"type": "text", "text": str(only), **rest} if not rest:
                return only
            case _:
                pass
    return [_block(item) for item in content]


def nests_deeply(content: Json, *, limit: int = MAX_DEPTH) -> bool:
    """Say whether a JSON value nests deeper than the model allows."""
    level = [content]
    for _ in range(limit + 1):
        level = [
            below
            for value in level
            for below in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
            if isinstance(below, dict | list)
        ]
        if not level:
            return False
    return True


def shallow(content: Content, line: bytes, *, number: int, reading: Reading) -> Content:
    """The content; one that nests too deeply becomes the text of its JSON, which is reported."""
    if isinstance(content, str) or line.count(b"{") + line.count(b"[") < MAX_DEPTH or not nests_deeply(content):
        return content
    reading.fault(number, f"the content nests deeper than {MAX_DEPTH} levels; kept as the text of its JSON")
    return _encode(content).decode()


def project_of(cwd: str) -> str | None:
    """The last part of a working directory, written for whichever system."""
    return re.split(r"[\\/]", cwd.rstrip("\\/"))[-1] or None


def text(value: object) -> str | None:
    """The value if it is text that says something."""
    return value if isinstance(value, str) and value.strip() else None


def tool_use(call: str | None, name: object, arguments: object) -> dict[str, Json]:
    """A tool call as a block; arguments given as the text of a JSON object become that object."""
    given = arguments
    if isinstance(arguments, str):
        try:
            given = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            given = arguments
        given = given if isinstance(given, dict) else arguments
    block: dict[str, Json] = {"type": "tool_use", "name": text(name) or "unknown"}
    if call is not None:
        block["id"] = call
    block["input"] = given if isinstance(given, dict) else {} if given is None else {"arguments": given}
    return block


def tool_result(call: str | None, content: object) -> dict[str, Json]:
    """What a tool answered as a block."""
    block: dict[str, Json] = {"type": "tool_result", "content": content}
    if call is not None:
        block["tool_use_id"] = call
    return block


def _block(item: object) -> dict[str, Any]:
    if isinstance(item, dict):
        if item.get("type") == "text" and "text" not in item and isinstance(item.get("value"), str):
            return {"type": "text", "text": item["value"]}
        if isinstance(item.get("type"), str):
            return item
    if isinstance(item, str):
        return {"type": "text", "text": item}
    return {"type": "unknown", "value": item}


def usable_id(value: object) -> str | None:
    """The value if it can be an id, with room for an occurrence number."""
    if not isinstance(value, str):
        return None
    if value.isascii() and value.isprintable():
        return value if 0 < len(value) <= _LONGEST_ID else None
    try:
        check_message_id(value)
    except InvalidInput:
        return None
    return value if len(value.encode()) <= _LONGEST_ID else None
