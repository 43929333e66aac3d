"""The form of a session's file: a header line, then one JSON object for each message.

What `render` writes `parse` reads back unchanged, and whatever a person wrote is either
understood whole or refused whole with line and reason: nothing in a file is ever dropped
(tests/unit/test_files_lines.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from ...storage.errors import InvalidInput
from ...storage.model import (
    MAX_DEPTH,
    MAX_ID_BYTES,
    Content,
    Json,
    Message,
    SessionHeader,
    check_content,
    check_json,
    check_message_id,
    check_role,
    check_session_id,
    check_status,
    check_tag,
    parse_time,
)

VERSION = 1

_Kind = TypeVar("_Kind", bound=msgspec.Struct)

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_REV = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,19})")
_ELSEWHERE = "put what steno does not know into metadata"
# JSON lets these stand in a text, but some editors and readers end a line at them.
_LINE_ENDS = {"\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029", "\x85".encode(): b"\\u0085"}


class Rev(NamedTuple):
    """Which store wrote a file, and at which ``seq``."""

    store: str
    seq: int

    def __str__(self) -> str:
        return f"{self.store}.{self.seq:08d}"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a file. A title that is empty and a status that is None stand for the automatic ones."""

    steno: int = VERSION
    id: str | None = None
    rev: str | None = None
    title: str = ""
    status: str | None = None
    tags: list[str] = []
    provider: str | None = None
    model: str | None = None
    user_id: str | None = None
    metadata: dict[str, Json] = {}
    state: dict[str, Json] = {}
    created_at: str | None = None
    forked_from: dict[str, Json] | None = None
    source: dict[str, Json] | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One message as its line shows it; what is None or empty is left out."""

    id: str | None = None
    role: str
    sender: str | None = None
    content: Content
    timestamp: str | None = None
    parent: str | None = None
    model: str | None = None
    usage: dict[str, Json] | None = None
    metadata: dict[str, Json] = {}
    origin: dict[str, Json] | None = None


class ParsedFile(msgspec.Struct, frozen=True):
    """A file that was understood: ``present`` are the keys its header has, ``numbers`` where each line stands."""

    header: Header | None
    present: frozenset[str]
    lines: Sequence[Line]
    numbers: Sequence[int]


class Refused(InvalidInput):
    """A file cannot be understood; it is left alone, and nothing of it was applied."""

    def __init__(self, line: int | None, reason: str, *, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}: " if column is None else f"line {line}, column {column}: "
        super().__init__(place + reason, hint="mend the file and save it again")
        self.line_number, self.column, self.reason = line, column, reason


class _Named(msgspec.Struct, frozen=True):
    steno: Json = None
    id: Json = None


_HEADER_KEYS = frozenset(Header.__struct_fields__)
_LINE_KEYS = frozenset(Line.__struct_fields__)
_REQUIRED = frozenset({"role", "content"})
_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(Line)


def named_session(row: bytes) -> str | None:
    """The id that a first line names; None where it is no header, or names none."""
    try:
        found = msgspec.json.decode(row.removeprefix(_BOM), type=_Named)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found.id if found.steno is not None and isinstance(found.id, str) else None


def parse_rev(text: str | None) -> Rev | None:
    """The rev that a header names; None where it is missing or no rev of any store."""
    match = _REV.fullmatch(text or "")
    return Rev(match[1], int(match[2])) if match else None


def header_of(session: SessionHeader, *, rev: Rev) -> Header:
    """The first line of a session's file."""
    return Header(
        id=session.id,
        rev=str(rev),
        title=session.title,
        status=session.status,
        tags=session.tags,
        provider=session.provider,
        model=session.model,
        user_id=session.user_id,
        metadata=session.metadata,
        state=session.state,
        created_at=session.created_at,
        forked_from=session.forked_from,
        source=session.source,
    )


def line_of(message: Message) -> Line:
    """The line of a message."""
    return Line(
        id=message.id,
        role=message.role,
        sender=message.sender,
        content=message.content,
        timestamp=message.timestamp,
        parent=message.parent,
        model=message.model,
        usage=message.usage,
        metadata=message.metadata,
        origin=message.origin,
    )


def render(header: Header, lines: Iterable[Line]) -> bytes:
    """The bytes of a session's file."""
    shown = msgspec.structs.asdict(header)
    for birth in ("forked_from", "source"):
        if shown[birth] is None:
            del shown[birth]
    data = _encoder.encode_lines([shown, *lines])
    for end, escape in _LINE_ENDS.items():
        data = data.replace(end, escape)
    return data


def parse(data: bytes) -> ParsedFile:
    """Read a file; raise `Refused` for the first line that cannot be understood."""
    if data.startswith(_UTF16):
        raise Refused(None, "the file is UTF-16 text; save it as UTF-8")
    rows = data.removeprefix(_BOM).replace(b"\r\n", b"\n").split(b"\n")
    numbered = [(number, row) for number, row in enumerate(rows, 1) if row and not row.isspace()]
    if not numbered:
        raise Refused(None, "the file is empty")
    header, present = _header(*numbered[0])
    if header is not None:
        del numbered[0]
    lines = [_line(number, row) for number, row in numbered]
    numbers = [number for number, _ in numbered]
    _refuse_repeated(lines, numbers)
    return ParsedFile(header, present, lines, numbers)


def _header(number: int, row: bytes) -> tuple[Header | None, frozenset[str]]:
    """The header that a first line is, and the keys it has; None where that line is a message."""
    found = _object(number, row)
    if "steno" not in found:
        return None, frozenset()
    version = found["steno"]
    if isinstance(version, int) and version > VERSION:
        raise Refused(number, "the file was written by a newer version of steno; upgrade steno on this machine")
    if version is not VERSION:
        raise Refused(number, f"the header's `steno` must be {VERSION}")
    _refuse_unknown(number, found, _HEADER_KEYS, "header")
    header = _converted(number, found, Header)
    try:
        if header.id is not None:
            check_session_id(header.id)
        if header.status is not None:
            check_status(header.status)
        if header.created_at is not None:
            parse_time(header.created_at)
        tags = list(dict.fromkeys(map(check_tag, header.tags)))
    except InvalidInput as exc:
        raise _refusal(number, exc) from exc
    return msgspec.structs.replace(header, tags=tags), frozenset(found)


def _line(number: int, row: bytes) -> Line:
    """The message of a line. A line that reads as it was written needs no second look at its keys."""
    try:
        line = _line_decoder.decode(row)
        if _encoder.encode(line) != row or row.count(b"{") + row.count(b"[") > MAX_DEPTH:
            line = _line_by_hand(number, row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        line = _line_by_hand(number, row)
    try:
        _check(line)
    except InvalidInput as exc:
        raise _refusal(number, exc) from exc
    return line


def _line_by_hand(number: int, row: bytes) -> Line:
    """The message of a line that somebody typed, or the exact reason why it is none."""
    found = _object(number, row)
    if "steno" in found:
        raise Refused(number, "a header may only be the first line")
    if found.get("role") is None:
        raise Refused(number, "the line has no role")
    if found.get("content") is None:
        raise Refused(number, "the line has no content")
    _refuse_unknown(number, found, _LINE_KEYS, "message")
    return _converted(number, found, Line)


def _check(line: Line) -> None:
    """Raise `InvalidInput` for a value of the right type that no message can have."""
    if line.id is not None and not _plain(line.id):
        check_message_id(line.id)
    if not _plain(line.role):
        check_role(line.role)
    if line.parent is not None and not _plain(line.parent):
        check_message_id(line.parent)
    if not isinstance(line.content, str):
        check_content(line.content)


def _plain(text: str) -> bool:
    return 0 < len(text) <= MAX_ID_BYTES and text.isascii() and text.isprintable()


def _object(number: int, row: bytes) -> dict[str, Any]:
    """The JSON object of one line, every key of it once."""
    try:
        found = json.loads(row.decode(), object_pairs_hook=_once, parse_constant=_no_number)
        check_json(found, "the line")
    except json.JSONDecodeError as exc:
        raise Refused(number, f"the line is no JSON ({exc.msg})", column=exc.colno) from exc
    except UnicodeDecodeError as exc:
        column = len(row[: exc.start].decode()) + 1
        raise Refused(number, "the line is not UTF-8", column=column) from exc
    except InvalidInput as exc:
        raise _refusal(number, exc) from exc
    except RecursionError as exc:
        raise Refused(number, f"the line nests deeper than {MAX_DEPTH} levels") from exc
    except ValueError as exc:
        raise Refused(number, f"the line holds a number that is too long ({exc})") from exc
    if not isinstance(found, dict):
        raise Refused(number, "the line is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(f"the key `{twice}` stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise InvalidInput(f"{text} is no JSON number")


def _converted(number: int, found: Mapping[str, Any], kind: type[_Kind]) -> _Kind:
    """The struct that an object is; null stands for a value left out."""
    stated = {key: value for key, value in found.items() if value is not None or key in _REQUIRED}
    try:
        return msgspec.convert(stated, kind)
    except msgspec.ValidationError as exc:
        raise Refused(number, f"wrong type: {exc}") from exc


def _refuse_unknown(number: int, found: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise Refused(number, f"a {where} has no key `{key}` ({_ELSEWHERE})")


def _refuse_repeated(lines: Sequence[Line], numbers: Sequence[int]) -> None:
    first: dict[str, int] = {}
    for line, number in zip(lines, numbers, strict=True):
        if line.id is not None and first.setdefault(line.id, number) != number:
            raise Refused(number, f"the id {line.id} already stands in line {first[line.id]}")


def _refusal(number: int, exc: InvalidInput) -> Refused:
    return Refused(number, str(exc))
