"""The form of a session's file: a header line, then one JSON object for each message.

What `render` writes `parse` reads back unchanged, and whatever a person wrote is either
understood whole or refused whole with line and reason: nothing in a file is ever dropped
(tests/unit/test_files_lines.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from ...storage.document import leaves
from ...storage.errors import InvalidInput
from ...storage.model import (
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
from ...storage.packing import MAX_MESSAGE_BYTES
from ...storage.rows import size_bytes
from .objects import BOM, DEEPEST, LONGEST_DIGITS, Refused, Rows, Source, too_large

__all__ = [
    "Header", "Line", "ParsedFile", "Refused", "Rev",
    "header_of", "line_of", "named_message", "named_rev", "named_session", "parse", "parse_rev", "render",
]  # fmt: skip

VERSION = 1
MAX_MESSAGES = 500_000
MAX_BRACKETS = 1 << 24

_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_Value = TypeVar("_Value")

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_REV = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,19})")
_ELSEWHERE = "put what steno does not know into metadata"
_IMPORT = "take it out of the directory and bring it in with `steno import`"
# JSON lets these stand in a text, but some editors and readers end a line at them.
_ENDS_OF_EDITORS = {"\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029", "\x85".encode(): b"\\u0085"}


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
    local_only: bool = False


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


class Shared:
    """Lines that several versions of a session have in common; each is held once."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = {line.id: line for line in lines}

    def of(self, line: Line) -> Line:
        """The line that reads the same, byte for byte, if one was met before; else the line itself."""
        met = self._lines.setdefault(line.id, line)
        return met if reads_same(line, met) else line


class _Named(msgspec.Struct, frozen=True):
    steno: Json = None
    id: Json = None
    rev: Json = None


_LINE_ENDS = (b"\n", b"\r\n", b"")
_KEY_OF_ERROR = re.compile(r"at `\$\.(\w+)")
_HEADER_CHECKS = {"id": check_session_id, "status": check_status, "created_at": parse_time}
_LINE_CHECKS = {"id": check_message_id, "role": check_role, "parent": check_message_id, "content": check_content}
_HEADER_KEYS = frozenset(Header.__struct_fields__)
_LINE_KEYS = frozenset(Line.__struct_fields__)
_REQUIRED = frozenset({"role", "content"})
_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(Line)


def named_session(row: bytes) -> str | None:
    """The id that a first line names; None where it is no header, or names none."""
    found = _named(row)
    return found.id if found and found.steno is not None and isinstance(found.id, str) else None


def named_message(row: bytes) -> str | None:
    """The id that a first line names which is no header, empty where it names none; None where it may be a header."""
    found = _named(row)
    if found is None or found.steno is not None:
        return None
    return found.id if isinstance(found.id, str) else ""


def named_rev(row: bytes) -> Rev | None:
    """The rev that a first line names; None where it is no header, or names none."""
    found = _named(row)
    return parse_rev(found.rev) if found and found.steno is not None and isinstance(found.rev, str) else None


def _named(row: bytes) -> _Named | None:
    try:
        return msgspec.json.decode(row.removeprefix(BOM), type=_Named)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


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
        local_only=session.local_only,
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


def reads_same(line: Line, other: Line) -> bool:
    """Say whether two lines are written alike, byte for byte."""
    return line is other or (line.content == other.content and _encoder.encode(line) == _encoder.encode(other))


def render(header: Header, lines: Iterable[Line]) -> bytes:
    """The bytes of a session's file."""
    return render_header(header) + render_lines(lines)


def render_header(header: Header) -> bytes:
    """The bytes of the first line of a session's file."""
    shown = msgspec.structs.asdict(header)
    for birth in ("forked_from", "source"):
        if shown[birth] is None:
            del shown[birth]
    if not header.local_only:
        del shown["local_only"]
    return _one_line_each(_encoder.encode_lines([shown]))


def render_lines(lines: Iterable[Line]) -> bytes:
    """The bytes of some of the lines below it."""
    return _one_line_each(_encoder.encode_lines(lines))


def _one_line_each(data: bytes) -> bytes:
    if data.isascii():
        return data
    for end, escape in _ENDS_OF_EDITORS.items():
        data = data.replace(end, escape)
    return data


def parse(data: bytes, *, limited: bool = True) -> ParsedFile:
    """Read a file; raise `Refused` for the first thing in it that cannot be understood.

    ``limited`` refuses also a file whose merging would take more memory than a process in the background may have.
    """
    if data.startswith(_UTF16):
        raise Refused(None, "the file is UTF-16 text; save it as UTF-8")
    if limited and data.count(b"{") + data.count(b"[") > MAX_BRACKETS:
        raise Refused(None, f"the file holds more than {MAX_BRACKETS:,} objects and lists; {_IMPORT}")
    header: Header | None = None
    present: frozenset[str] = frozenset()
    messages = _Messages(MAX_MESSAGES if limited else sys.maxsize)
    rows = Rows(data)
    for number, row in rows:
        line = _as_written(row)
        if line is not None:
            messages.add(line, number, row)
        elif not rows.is_blank(row):
            for source in rows.objects(row):
                found = source.value()
                if "steno" in found and header is None and not messages.lines:
                    header, present = _header(source, found), frozenset(found)
                else:
                    messages.add(_line(source, found), source.line, source)
    if header is None and not messages.lines:
        raise Refused(None, "the file is empty")
    return ParsedFile(header, present, messages.lines, messages.numbers)


class _Messages:
    """The messages that were understood so far, and where each begins."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.lines: list[Line] = []
        self.numbers: list[int] = []
        self._places: dict[str, int] = {}

    def add(self, line: Line, number: int, text: Source | bytes) -> None:
        place = len(self.lines)
        if line.id is not None and self._places.setdefault(line.id, place) != place:
            source = Source(text.decode(), number) if isinstance(text, bytes) else text
            first = self.numbers[self._places[line.id]]
            raise source.refused_key("id", f"the id {line.id} already stands in line {first}")
        if place == self._most:
            raise Refused(number, f"the file holds more than {self._most:,} messages; {_IMPORT}")
        self.lines.append(line)
        self.numbers.append(number)


def _as_written(row: bytes) -> Line | None:
    """The message of a line that reads as it was written; None for one that needs a second look."""
    if len(row) > MAX_MESSAGE_BYTES:
        return None
    try:
        line = _line_decoder.decode(row)
        written = _encoder.encode(line)
        if not row.startswith(written) or row[len(written) :] not in _LINE_ENDS:
            return None
        _check(line)
        if (line.usage or line.metadata or line.origin) and _may_hide(row):
            check_json([line.usage, line.metadata, line.origin], "the line", depth=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput):
        return None
    return line


def _check(line: Line) -> None:
    """Raise `InvalidInput` for a value of the right type that no message can have."""
    for id_ in (line.id, line.parent):
        if id_ is not None and not _plain(id_):
            check_message_id(id_)
    if not _plain(line.role):
        check_role(line.role)
    if not isinstance(line.content, str):
        check_content(line.content)


def _plain(text: str) -> bool:
    return 0 < len(text) <= MAX_ID_BYTES and text.isascii() and text.isprintable()


def _may_hide(row: bytes) -> bool:
    """Say whether a line may hold what nests too deep, or a number that is too long."""
    return len(row) > LONGEST_DIGITS or row.count(b"{") + row.count(b"[") > DEEPEST


def _header(source: Source, found: Mapping[str, Any]) -> Header:
    """The header that a first object is."""
    version = found["steno"]
    if isinstance(version, int) and version > VERSION:
        raise source.refused("the file was written by a newer version of steno; upgrade steno on this machine")
    if version is not VERSION:
        raise source.refused_key("steno", f"the header's `steno` must be {VERSION}")
    _refuse_unknown(source, found, _HEADER_KEYS, "header")
    header = _converted(source, found, Header)
    for key, check in _HEADER_CHECKS.items():
        if getattr(header, key) is not None:
            _checked(source, key, check, getattr(header, key))
    if len(source.text) > MAX_MESSAGE_BYTES // 4:  # a character takes up to four bytes
        _refuse_large_values(source, header)
    return msgspec.structs.replace(header, tags=_checked(source, "tags", _tags, header.tags))


def _tags(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(check_tag, tags)))


def _refuse_large_values(source: Source, header: Header) -> None:
    """Refuse what no register can hold."""
    for key, value in msgspec.structs.asdict(header).items():
        for _, text in leaves({key: value}):
            if len(text) > MAX_MESSAGE_BYTES:
                raise source.refused_key(key, f"a value takes more than {MAX_MESSAGE_BYTES:,} bytes")


def _line(source: Source, found: Mapping[str, Any]) -> Line:
    """The message of an object that somebody typed, or that a program wrote its own way."""
    if "steno" in found:
        raise source.refused("a header may only be the first line")
    for key in ("role", "content"):
        if found.get(key) is None:
            raise source.refused_key(key, f"the line has no {key}")
    _refuse_unknown(source, found, _LINE_KEYS, "message")
    line = _converted(source, found, Line)
    for key, check in _LINE_CHECKS.items():
        if getattr(line, key) is not None:
            _checked(source, key, check, getattr(line, key))
    if len(source.text) > MAX_MESSAGE_BYTES // 4:
        content = line.content if isinstance(line.content, str) else _encoder.encode(line.content)
        more = [_encoder.encode(value) for value in (line.usage, line.metadata, line.origin) if value]
        size = size_bytes(content, line.timestamp, line.parent, line.model, *more)
        if size > MAX_MESSAGE_BYTES:
            raise source.refused(too_large(size))
    return line


def _converted(source: Source, found: Mapping[str, Any], kind: type[_Kind]) -> _Kind:
    """The struct that an object is; null stands for a value left out."""
    stated = {key: value for key, value in found.items() if value is not None or key in _REQUIRED}
    try:
        return msgspec.convert(stated, kind)
    except msgspec.ValidationError as exc:
        key = _KEY_OF_ERROR.search(str(exc))
        raise source.refused_key(key[1] if key else "", f"wrong type: {exc}") from exc


def _checked(source: Source, key: str, check: Callable[[Any], _Value], value: Any) -> _Value:
    try:
        return check(value)
    except InvalidInput as exc:
        raise source.refused_key(key, str(exc)) from exc


def _refuse_unknown(source: Source, found: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise source.refused_key(key, f"a {where} has no key `{key}` ({_ELSEWHERE})")
