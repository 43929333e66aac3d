"""Which format a file has, told by its records and never by its name, and reading it.

A file of a format that is not known is refused whole; a known one is read to its end, whatever
lies between. An array is read an element at a time, so that a file of any size takes the memory of its
largest session (tests/unit/test_transcript_detect.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from ..errors import InvalidInput
from .archives import DAMAGED, MAGIC, conversations
from .chat_jsonl import is_openai, is_sharegpt, read_openai, read_sharegpt
from .chatgpt import read as read_chatgpt
from .chatgpt import recognises as is_chatgpt
from .claude_ai import read as read_claude_ai
from .claude_ai import recognises as is_claude_ai
from .claude_code import read as read_claude_code
from .claude_code import recognises as is_claude_code
from .codex import read as read_codex
from .codex import recognises as is_codex
from .elements import Broken, elements
from .faults import Wrong, located
from .lines import BOM, Lines, numbered, unpacked
from .steno_json import read as read_steno
from .steno_json import recognises as is_steno
from .transcript import Fault, Reading, Transcript

Source = Path | BinaryIO | bytes
Reader = Callable[..., Iterator[Transcript]]

HEAD_BYTES = 4 << 20  # how far to look for a record that tells the format
HEAD_ELEMENTS = 100


class Format(msgspec.Struct, frozen=True):
    """A format that can be read: how to know one of its records, and how to read its lines."""

    name: str
    label: str
    recognises: Callable[[dict[str, Any]], bool]
    read: Reader


# The first that recognises a record reads the file.
FORMATS: tuple[Format, ...] = (
    Format("steno", "Steno", is_steno, read_steno),
    Format("chatgpt", "ChatGPT exports", is_chatgpt, read_chatgpt),
    Format("claude-ai", "claude.ai exports", is_claude_ai, read_claude_ai),
    Format("codex", "Codex", is_codex, read_codex),
    Format("claude-code", "Claude Code", is_claude_code, read_claude_code),
    Format("openai-jsonl", "OpenAI chat JSONL", is_openai, read_openai),
    Format("sharegpt", "ShareGPT", is_sharegpt, read_sharegpt),
)


def read_transcripts(source: Source, *, name: str, default_ms: int = 0) -> Reading:
    """Read all of a file; raises `InvalidInput` if it cannot be read or has no known format.

    ``name`` is the file's path or name: subagents are told by it. ``default_ms`` is when sessions
    began whose source records no time.
    """
    reading = Reading(default_ms=default_ms)
    reading.transcripts.extend(stream_transcripts(source, reading, name=name))
    return reading


def stream_transcripts(source: Source, reading: Reading, *, name: str) -> Iterator[Transcript]:
    """Read a file one session at a time; faults and what was left out gather in ``reading`` as it goes."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as stream:
                yield from _read(stream, reading, name=name)
        except OSError as exc:
            raise InvalidInput(f"cannot read {name} ({exc.strerror})") from exc
    else:
        yield from _read(io.BytesIO(source) if isinstance(source, bytes) else source, reading, name=name)


def format_of(record: object) -> Format | None:
    """The format that a record belongs to."""
    if not isinstance(record, dict):
        return None
    return next((known for known in FORMATS if known.recognises(record)), None)


def _read(stream: BinaryIO, reading: Reading, *, name: str) -> Iterator[Transcript]:
    if stream.read(len(MAGIC)) == MAGIC:
        stream.seek(0)
        for member in conversations(stream, reading, name=name):
            yield from _read_plain(io.BufferedReader(member), reading, name=name)  # pyright: ignore[reportArgumentType]
        return
    stream.seek(0)
    yield from _read_plain(stream, reading, name=name)


def _read_plain(stream: BinaryIO, reading: Reading, *, name: str) -> Iterator[Transcript]:
    with unpacked(stream) as source:
        try:
            start = source.peek(64)[:64].removeprefix(BOM).lstrip()
        except (zstandard.ZstdError, *DAMAGED) as exc:
            raise InvalidInput(f"{name} is damaged: {exc}") from exc
        if start[:1] not in (b"{", b"[", b""):  # looked at before a line is read: other files may have none
            raise _unknown(name)
        if start[:1] == b"[":
            known, lines = _format_of_elements(_elements(source, reading), reading, name=name)
        else:
            known, lines = _detected(numbered(source, reading), reading, name=name)
        if known is None:
            return
        reading.format = known.name
        yield from known.read(lines, reading, name=name)


def _elements(source: io.BufferedReader, reading: Reading) -> Lines:
    """The elements of an array, numbered from 1; where it ends too soon, that is a fault."""
    if source.peek(3)[:3] == BOM:
        source.read(3)
    try:
        for number, element in enumerate(elements(source), start=1):
            reading.place = element.line, element.column
            yield number, element.data
    except Broken as exc:
        line, column = exc.place
        reading.faults.append(Fault(line, str(exc), column))
    except (zstandard.ZstdError, *DAMAGED) as exc:
        line, column = reading.place or (1, 1)
        reading.faults.append(Fault(line, f"the compressed file is damaged behind this place: {exc}", column))


def _format_of_elements(lines: Lines, reading: Reading, *, name: str) -> tuple[Format | None, Lines]:
    """The format of an array's elements, and all of them; None for an empty one."""
    head: list[tuple[int, bytes]] = []
    places: list[tuple[int, int] | None] = []
    size = 0
    source = iter(lines)
    for number, data in islice(source, HEAD_ELEMENTS):
        head.append((number, data))
        places.append(reading.place)
        size += len(data)
        known = format_of(_value(data))
        if known is not None:
            return known, chain(_placed(head, places, reading), source)
        if size > HEAD_BYTES:
            break
    if reading.faults:
        fault = reading.faults[0]
        raise InvalidInput(f"{name} is not JSON: line {fault.line}, column {fault.column}: {fault.reason}")
    if head:
        raise _unknown(name)
    return None, head


def _placed(head: Lines, places: list[tuple[int, int] | None], reading: Reading) -> Lines:
    for (number, data), place in zip(head, places, strict=True):
        reading.place = place
        yield number, data


def _detected(lines: Lines, reading: Reading, *, name: str) -> tuple[Format | None, Lines]:
    """The format and all the lines; None for a file that holds nothing."""
    head: list[tuple[int, bytes]] = []
    size = 0
    source = iter(lines)
    for number, line in source:
        head.append((number, line))
        size += len(line)
        known = format_of(_value(line))
        if known is not None:
            return known, chain(head, source)
        if size > HEAD_BYTES and len(head) > 1:
            break
    if not head:
        return None, head
    # Blank lines count; where the document begins is the first of the others.
    whole = _joined(chain(head, source))
    value = _value(whole)
    known = format_of(value)
    if known is None and value is None and _value(head[0][1]) is None:
        raise _no_json(whole, head[0][0], name)
    if known is None:
        raise _unknown(name)
    reading.place = head[0][0], 1
    return known, [(1, whole)]


def _joined(lines: Lines) -> bytes:
    """The lines with the blank ones between them, as they were."""
    pieces: list[bytes] = []
    before: int | None = None
    for number, line in lines:
        pieces.append(b"\n" * (number - before - 1 if before is not None else 0))
        pieces.append(line)
        before = number
    return b"".join(pieces)


def _no_json(data: bytes, line: int, name: str) -> InvalidInput:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        [fault] = located(data, [Wrong((), str(exc), exc)], place=(line, 1))
        return InvalidInput(f"{name} is not JSON: line {fault.line}, column {fault.column}: {fault.reason}")
    return _unknown(name)


def _value(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _unknown(name: str) -> InvalidInput:
    labels = ", ".join(known.label for known in FORMATS if known.name != "steno")
    return InvalidInput(f"the format of {name} is not known", hint=f"steno reads {labels} and its own files")
