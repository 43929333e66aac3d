"""Which format a file has, told by its records and never by its name, and reading it.

A file of a format that is not known is refused whole; a known one is read to its end, whatever
lies between (tests/unit/test_transcript_detect.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from ..errors import InvalidInput
from .chat_jsonl import is_openai, is_sharegpt, read_openai, read_sharegpt
from .claude_code import read as read_claude_code
from .claude_code import recognises as is_claude_code
from .codex import read as read_codex
from .codex import recognises as is_codex
from .lines import BOM, Lines, numbered, unpacked
from .steno_json import read as read_steno
from .steno_json import recognises as is_steno
from .transcript import Reading, Transcript

Source = Path | BinaryIO | bytes
Reader = Callable[..., Iterator[Transcript]]

HEAD_BYTES = 4 << 20  # how far to look for a record that tells the format

_values = msgspec.json.Decoder(list[msgspec.Raw])


class Format(msgspec.Struct, frozen=True):
    """A format that can be read: how to know one of its records, and how to read its lines."""

    name: str
    label: str
    recognises: Callable[[dict[str, Any]], bool]
    read: Reader


# The first that recognises a record reads the file.
FORMATS: tuple[Format, ...] = (
    Format("steno", "Steno", is_steno, read_steno),
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
    with unpacked(stream) as source:
        try:
            start = source.peek(64)[:64].removeprefix(BOM).lstrip()
        except zstandard.ZstdError as exc:
            raise InvalidInput(f"{name} is damaged: {exc}") from exc
        if start[:1] not in (b"{", b"[", b""):  # looked at before a line is read: other files may have none
            raise _unknown(name)
        known, lines = _detected(numbered(source, reading), name=name)
        if known is None:
            return
        reading.format = known.name
        yield from known.read(lines, reading, name=name)


def _detected(lines: Lines, *, name: str) -> tuple[Format | None, Lines]:
    """The format and all the lines; None for a file that holds nothing."""
    head: list[tuple[int, bytes]] = []
    size = 0
    source = iter(lines)
    for number, line in source:
        head.append((number, line))
        size += len(line)
        if number == head[0][0] and line.lstrip().startswith(b"["):
            break
        known = format_of(_value(line))
        if known is not None:
            return known, chain(head, source)
        if size > HEAD_BYTES and len(head) > 1:
            break
    if not head:
        return None, head
    document = _document(b"".join(line for _, line in chain(head, source)))
    for _, item in document:
        known = format_of(_value(item))
        if known is not None:
            return known, document
    raise _unknown(name)


def _document(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of a file that is one JSON array, or its one object, numbered from 1."""
    try:
        if data.lstrip().startswith(b"["):
            return [(number, bytes(item)) for number, item in enumerate(_values.decode(data), 1)]
    except (msgspec.DecodeError, RecursionError):
        return []
    return [(1, data)]


def _value(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _unknown(name: str) -> InvalidInput:
    labels = ", ".join(known.label for known in FORMATS if known.name != "steno")
    return InvalidInput(f"the format of {name} is not known", hint=f"steno reads {labels} and its own files")
