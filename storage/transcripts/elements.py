"""The elements of one JSON array, one at a time, with their places: a file of any size in the memory of its largest.

    [ {…} , {…} , "text" , 7 ]
      ^^^   ^^^   ^^^^^^   ^    each with the line and the column where it begins

msgspec looks where an element ends, for its complaint about what stands behind it names the place: that is some
fifteen times as fast as a scanner written here (docs/decisions/0024, tests/unit/test_transcript_elements.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec

from ..errors import InvalidInput

MAX_ELEMENT_BYTES = 512 << 20
_CHUNK_BYTES = 1 << 20
_BLANKS = b" \t\r\n"
_PLACE = re.compile(r"(.*) \(byte (\d+)\)")
_TRAILING = "JSON is malformed: trailing characters"
_decode = msgspec.json.Decoder(msgspec.Raw).decode


class Element(NamedTuple):
    """The bytes of an element, and where it begins: line and column from 1, columns in characters."""

    line: int
    column: int
    data: bytes


class Broken(InvalidInput):
    """The array does not go on as one; what came before this place (line and column) stands."""

    def __init__(self, reason: str, *, place: tuple[int, int]) -> None:
        super().__init__(reason)
        self.place = place


def elements(stream: BinaryIO) -> Iterator[Element]:
    """The elements of the array that a stream holds; raises `Broken` where it is none or is cut off."""
    return _Splitter(stream).elements()


def behind(line: int, column: int, data: bytes) -> tuple[int, int]:
    """The line and the column behind some bytes that begin at others. Columns count characters."""
    lines = data.count(b"\n")
    last = data[data.rfind(b"\n") + 1 :]
    characters = len(last) if last.isascii() else len(last.decode(errors="replace"))
    return line + lines, characters + (1 if lines else column)


class _Splitter:
    """Where in the stream it stands. What lies before ``_at`` is done and goes with the next reading."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._data = b""
        self._at = 0
        self._place = 1, 1

    def elements(self) -> Iterator[Element]:
        self._expect(b"[")
        mark = self._skip_blanks()
        while mark != b"]":
            size = self._size()
            element = self._data[self._at : self._at + size]
            yield Element(*self._place, element.rstrip(_BLANKS))
            self._pass(element)
            mark = self._skip_blanks()
            if mark != b"]":
                self._expect(b",")
                self._skip_blanks()
        self._expect(b"]")
        if self._skip_blanks():
            raise Broken("something stands behind the end of the array", place=self._place)

    def _size(self) -> int:
        """How many bytes the value takes that begins here, blanks behind it included."""
        while True:
            found = None
            whole = True
            try:
                _decode(memoryview(self._data)[self._at :])
            except RecursionError as exc:
                raise Broken("what begins here is nested too deeply", place=self._place) from exc
            except msgspec.DecodeError as exc:
                found = _PLACE.fullmatch(str(exc))
                whole = False
            rest = len(self._data) - self._at
            wrong = int(found[2]) if found else rest
            if found and found[1] == _TRAILING:
                return wrong - 1
            # What is wrong at the end of the data may only be cut off there, and a number may go on.
            if (found and wrong < rest) or not self._more():
                if whole:
                    return rest
                reason = found[1] if found else "the file is cut off: what begins here has no end"
                place = behind(*self._place, self._data[self._at : self._at + wrong]) if found else self._place
                raise Broken(reason, place=place)

    def _skip_blanks(self) -> bytes:
        """Go on to what is no white space, and return its first byte; nothing at the end of the stream."""
        while True:
            rest = self._data[self._at : self._at + 256]
            found = rest.lstrip(_BLANKS)
            self._pass(rest[: len(rest) - len(found)])
            if found or (not rest and not self._more()):
                return found[:1]

    def _expect(self, mark: bytes) -> None:
        if self._skip_blanks() != mark:
            raise Broken(f"`{mark.decode()}` is missing here", place=self._place)
        self._pass(mark)

    def _pass(self, data: bytes) -> None:
        """Go past bytes that stand here."""
        self._place = behind(*self._place, data)
        self._at += len(data)

    def _more(self) -> bool:
        """Read on, as much again as is kept; say whether there was anything."""
        kept = self._data[self._at :]
        if len(kept) > MAX_ELEMENT_BYTES:
            raise Broken(f"a value of more than {MAX_ELEMENT_BYTES >> 20} MiB", place=self._place)
        read = self._stream.read(max(_CHUNK_BYTES, len(kept)))
        self._data, self._at = kept + read, 0
        return bool(read)
