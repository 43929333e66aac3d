r"""From bytes to records, line by line: no bad byte and no torn line costs more than itself.

Lines end at ``\n`` only, since other line ends stand inside strings. The good case decodes a line once,
to the few fields that its reader asks for; what fails is mended or reported
(tests/unit/test_transcript_lines.py).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

import msgspec
import zstandard

from .transcript import Reading

Lines = Iterable[tuple[int, bytes]]
T = TypeVar("T")

BOM = b"\xef\xbb\xbf"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES = 1 << 16
_SURROGATE = re.compile("[\ud800-\udfff]")
_parse = json.JSONDecoder(strict=False, parse_constant=lambda _: None)


@contextmanager
def unpacked(stream: BinaryIO) -> Iterator[io.BufferedReader]:
    """The stream, decompressed if it holds Zstandard frames; it stays open."""
    source = _buffered(stream)
    try:
        if source.peek(4)[:4] == _ZSTD_MAGIC:
            yield io.BufferedReader(_Unpacker(source))
        else:
            yield source
    finally:
        if source is not stream:
            source.detach()


class _Unpacker(io.RawIOBase):
    """What Zstandard frames hold. Unlike the library's reader it notices that a frame was cut off."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._source.read(_CHUNK_BYTES)
            if not self._packed:
                if self._frame is not None:
                    self._frame = None
                    raise zstandard.ZstdError("it was cut off")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(self._packed)
            self._packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _buffered(stream: Any) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)


def numbered(stream: BinaryIO, reading: Reading) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1, the unterminated last one included."""
    number = 0
    try:
        for line in stream:
            number += 1
            data = line.removeprefix(BOM) if number == 1 else line
            if data and not data.isspace():
                yield number, data
    except zstandard.ZstdError as exc:
        reading.fault(number + 1, f"the compressed file is damaged from here on: {exc}")


def records(
    lines: Lines,
    decode: Callable[[bytes], T],
    reading: Reading,
    *,
    stands_alone: Callable[[dict[str, Any]], bool],
) -> Iterator[tuple[int, bytes, T]]:
    """The records of the lines: number, bytes, value.

    ``stands_alone`` says whether an object found inside a torn line is a record of its own and not
    a part of another.
    """
    for number, line in lines:
        try:
            yield number, line, decode(line)
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pieces, reasons = mend(line, stands_alone=stands_alone)
        for reason in reasons:
            reading.fault(number, reason)
        for piece in pieces:
            try:
                record = decode(piece)
            except msgspec.DecodeError as exc:
                reading.fault(number, f"not a record of this format: {exc}")
            else:
                yield number, piece, record


def mend(line: bytes, *, stands_alone: Callable[[dict[str, Any]], bool]) -> tuple[list[bytes], list[str]]:
    """The records that a line that does not decode still holds, as clean JSON, and what was wrong with it."""
    reasons: list[str] = []
    try:
        line_text = line.decode()
    except UnicodeDecodeError:
        line_text = line.decode(errors="replace")
        reasons.append("bytes that are not UTF-8 were replaced")
    try:
        values = [_parse.decode(line_text)]
    except (ValueError, RecursionError):
        values, lost = _fused(line_text, stands_alone=stands_alone)
        reasons.append(f"torn line: {len(values)} whole records in it were read, {lost} characters were not")
    pieces: list[bytes] = []
    for value in values:
        if not isinstance(value, dict):
            reasons.append("not a JSON object")
            continue
        try:
            clean = _clean(value)
            pieces.append(msgspec.json.encode(clean))
        except RecursionError:
            reasons.append("nests too deeply to be read")
            continue
        if clean != value:
            reasons.append("halves of characters (lone surrogates) were replaced")
    return pieces, reasons


def _fused(line_text: str, *, stands_alone: Callable[[dict[str, Any]], bool]) -> tuple[list[Any], int]:
    """The whole records of a line where two writers met, and how many characters belong to none.

    A record begins at a ``{"`` from which on it parses, and stands alone.
    """
    found: list[Any] = []
    lost = len(line_text.strip())
    at = line_text.find('{"')
    while at >= 0:
        try:
            value, end = _parse.raw_decode(line_text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            if stands_alone(value):
                found.append(value)
                lost -= end - at
            at = end
        at = line_text.find('{"', at)
    return found, lost


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
