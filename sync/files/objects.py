"""The JSON objects that stand in a file one after another, and the exact place of whatever is wrong with one.

An object may share its line or span many. Where it ends is found before it is read, so that time and
memory stay linear in what stands there, however it is broken, and what can be no message is refused
unread (tests/unit/test_files_lines.py).
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from ...storage.errors import InvalidInput
from ...storage.model import MAX_DEPTH, MAX_INTEGER_BITS, check_json
from ...storage.packing import MAX_MESSAGE_BYTES

BOM = b"\xef\xbb\xbf"
DEEPEST = MAX_DEPTH + 1
"""How deep an object may nest: the value of a field `MAX_DEPTH` levels, and the object is one more."""
LONGEST_DIGITS = len(str(1 << MAX_INTEGER_BITS))

_AROUND_BYTES = 1 << 16  # the names of fields, ids, times: what a message has beside its content
_LOOK_BYTES = 1 << 16

_SPACE = re.compile(rb"[ \t\r\n]*+")
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}
_TEXT, _PLAIN = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"', rb'[^{}\[\]"]*+'
_FLAT = rb"%b(?:%b%b)*+" % (_PLAIN, _TEXT, _PLAIN)
_UP_TO_BRACKET = re.compile(rb"%b(?:(?:%b|\{%b\}|\[%b\])%b)*+" % (_PLAIN, _TEXT, _FLAT, _FLAT, _PLAIN))
"""Up to a bracket that holds others, or is left open, or to a text that is not closed in its line."""
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]++', re.DOTALL)
_NUMBER = re.compile(r"(-?[0-9]++)((?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)")
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
_ANOTHER = re.compile(r'^\{\s*"(?:id|role|steno)"\s*:', re.MULTILINE)
_HALF = re.compile(r"[\ud800-\udfff]")

_NO_UTF8 = "the text is not UTF-8"
_NUL = "no JSON: a NUL stands here, as in a file that is damaged or is no UTF-8 text"


class Refused(InvalidInput):
    """A file cannot be understood; it is left alone, and nothing of it was applied."""

    def __init__(self, line: int | None, reason: str, *, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}: " if column is None else f"line {line}, column {column}: "
        super().__init__(place + reason, hint="mend the file and save it again")
        self.line_number, self.column, self.reason = line, column, reason


class _Unfinished(Refused):
    """The text ends before the object does."""


class Source(NamedTuple):
    """The text of one object, and where in its file it begins. Bytes that are no UTF-8 stand in it as halves."""

    text: str
    line: int
    column: int = 1

    def value(self) -> dict[str, Any]:
        """The object, every key of it once; raises `Refused` where it is none, or holds what cannot be kept."""
        try:
            found, _ = _decoder.raw_decode(self.text)
            check_json(found, "the object", depth=-1)
        except json.JSONDecodeError as exc:
            raise self._malformed(exc.msg, exc.pos) from exc
        except (ValueError, RecursionError) as exc:
            at, reason = _first_fault(self.text) or (0, str(exc))
            raise self.refused(reason, at=at) from exc
        return found

    def refused(self, reason: str, *, at: int = 0) -> Refused:
        """The refusal of what stands at a place of the text."""
        line, column = self._place(at)
        return Refused(line, reason, column=column)

    def refused_key(self, key: str, reason: str) -> Refused:
        """The refusal of what the object says under a key."""
        stands = (token.at for token in _tokens(self.text) if token.key == key and token.depth == 1)
        return self.refused(reason, at=next(stands, 0))

    def _malformed(self, reason: str, at: int) -> Refused:
        """What a person has to look for where the text ceases to be JSON."""
        end = _length(self.text)
        another = _ANOTHER.search(self.text, 1)
        if another and (at >= end or _ANOTHER.match(self.text, at)):
            below, _ = self._place(another.start())
            return self.refused(f"no JSON: the object that begins here does not end before line {below} begins another")
        if at >= end:
            line, column = self._place(end)
            return _Unfinished(line, f"no JSON: the object that begins in line {self.line} has no end", column=column)
        found = self.text[at]
        if _HALF.match(found):
            reason = _NO_UTF8
        elif found == "\0":
            reason = _NUL
        elif reason.startswith("Unterminated string") or (reason.startswith("Invalid control") and found in "\r\n"):
            reason = r"no JSON: a text is not closed before its line ends (a line end within a text is written \n)"
        elif reason.startswith("Invalid control"):
            reason = rf"no JSON: a control character stands in a text, where it is written \u{ord(found):04x}"
        else:
            reason = f"no JSON ({reason})"
        return self.refused(reason, at=at)

    def _place(self, at: int) -> tuple[int, int]:
        above = self.text.count("\n", 0, at)
        column = at - self.text.rfind("\n", 0, at) if above else self.column + at
        return self.line + above, column


class Rows:
    """The lines of a file, one after another; one that is not the whole of one object is read by `objects`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._file = io.BytesIO(data)  # shares the bytes
        self._begin = self._file.seek(len(BOM) if data.startswith(BOM) else 0)
        self._number = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Every line that is not read yet, with its number."""
        for row in self._file:
            self._number += 1
            yield self._number, row

    def is_blank(self, row: bytes) -> bool:
        """Say whether the line read last is blank; then those below it that are blank too are passed over."""
        if not row.isspace():
            return False
        begin = self._file.tell()
        end = self._data.rfind(b"\n", begin, _after(_SPACE, self._data, begin)) + 1
        if end > begin:
            self._number += self._data.count(b"\n", begin, end)
            self._file.seek(end)
        return True

    def objects(self, row: bytes) -> Iterator[Source]:
        """The objects from the line read last on, to the first that ends where its line does; raises `Refused`."""
        at, column, touches = self._file.tell() - len(row), 1, False
        while True:
            begin = _after(_SPACE, self._data, at)
            line_end = self._data.find(b"\n", at, begin)
            if line_end >= 0 or begin == len(self._data):
                self._file.seek(line_end + 1 or begin)
                return
            column += begin - at
            touches = touches and begin == at
            end = self._end(begin, column, touches=touches)
            source = self._source(begin, end, column)
            yield source
            lines = source.text.count("\n")
            self._number += lines
            column = len(source.text) - source.text.rfind("\n") if lines else column + len(source.text)
            at, touches = end, True

    def _end(self, begin: int, column: int, *, touches: bool) -> int:
        """Where the object ends that begins there; raises `Refused`."""
        if self._data[begin] != ord("{"):
            raise Refused(self._number, _no_object(self._data[begin : begin + 64]), column=column)
        if touches:
            raise Refused(self._number, "no JSON: another object must begin on a line of its own", column=column)
        end = self._end_of_brackets(begin)
        if end is None:
            self._refuse_broken(begin, column)
        if (reason := self._too_large(begin, end)) is not None:
            raise Refused(self._number, reason, column=column)
        return end

    def _end_of_brackets(self, begin: int) -> int | None:
        """Where they all are closed; None where they, or a text, are not, nest too deep, or hold too much."""
        data, at, closing = self._data, begin, bytearray()
        look_at = begin + MAX_MESSAGE_BYTES
        while at < len(data):
            if data[at] in _CLOSING:
                closing.append(_CLOSING[data[at]])
            elif data[at] != closing.pop():
                return None
            at += 1
            if not closing:
                return at
            if len(closing) > DEEPEST:
                return None
            at = _after(_UP_TO_BRACKET, data, at)
            if at > look_at:
                if self._too_large(begin, at):
                    return None
                look_at = at + at - begin
        return None

    def _refuse_broken(self, begin: int, column: int) -> NoReturn:
        """Refuse an object that has no end, nests too deep or holds too much, read as far as needed to say why."""
        size_bytes = _LOOK_BYTES
        while True:
            end = self._data.find(b"\n", begin + size_bytes) + 1 or len(self._data)
            if (reason := self._too_large(begin, end)) is not None:
                raise Refused(self._number, reason, column=column)
            source = self._source(begin, end, column)
            try:
                source.value()
            except _Unfinished:
                if end == len(self._data):
                    raise
                size_bytes *= 8
            else:
                raise source.refused("no JSON")

    def _too_large(self, begin: int, end: int) -> str | None:
        """Why this is not read, which would take far more memory than a message or a header may."""
        if end - begin <= MAX_MESSAGE_BYTES:
            return None
        if begin - self._begin < _LOOK_BYTES and self._data.find(b'"steno"', begin) >= 0:
            marks = (b",", b"[", b"[", b"{", b"{")
            too_many = sum(self._data.count(mark, begin, end) for mark in marks) > MAX_MESSAGE_BYTES
            return "the header holds too many values" if too_many else None
        # Of six bytes `\u0041` one may be left, of others but a backslash less.
        spared = {b" ": 1, b"\t": 1, b"\r": 1, b"\n": 1, b"\\": 1, b"\\u": 4}
        least = end - begin - sum(self._data.count(mark, begin, end) * each for mark, each in spared.items())
        return too_large(end - begin) if least > MAX_MESSAGE_BYTES + _AROUND_BYTES else None

    def _source(self, begin: int, end: int, column: int) -> Source:
        return Source(self._data[begin:end].decode(errors="surrogateescape"), self._number, column)


def too_large(size_bytes: int) -> str:
    """Why a message of this size is refused."""
    return f"the message takes {size_bytes:,} bytes, and steno keeps up to {MAX_MESSAGE_BYTES:,}"


def _no_object(found: bytes) -> str:
    """What stands where an object must begin."""
    text = found.decode(errors="surrogateescape")
    if text.startswith("["):
        return "no JSON object but an array: leave out its brackets and the commas between (`jq -c '.[]'` does it)"
    if text.startswith(","):
        return "no JSON: a comma stands between two objects, where a line end does"
    if text.startswith("\0"):
        return _NUL
    if _HALF.match(text):
        return _NO_UTF8
    first, _, _ = text.partition("\n")
    return f"no JSON: an object must begin here, not {first[:20]!r}"


class _Token(NamedTuple):
    """A bracket, a key or a value; ``key`` is None for what is no key. A bracket is as deep as what it holds."""

    at: int
    text: str
    depth: int
    key: str | None = None


def _tokens(text: str) -> Iterator[_Token]:
    """What an object consists of, in order; of one that is broken what stands before that place."""
    objects: list[bool] = []
    key_next = False
    for found in _TOKEN.finditer(text):
        part, depth = found[0], len(objects)
        if part in ("{", "["):
            key_next = part == "{"
            objects.append(key_next)
            yield _Token(found.start(), part, depth + 1)
        elif part in ("}", "]"):
            key_next = False
            objects.pop()
            yield _Token(found.start(), part, depth)
        elif part == ",":
            key_next = objects[-1]
        elif part != ":":
            yield _Token(found.start(), part, depth, json.loads(part) if key_next else None)
            key_next = False


def _first_fault(text: str) -> tuple[int, str] | None:
    """Where the first thing stands that JSON may say and a session cannot hold, and what it is."""
    keys: list[set[str]] = []
    for token in _tokens(text):
        if token.text in ("{", "["):
            keys.append(set())
            if token.depth > DEEPEST:
                return token.at, f"this nests deeper than {MAX_DEPTH} levels"
        elif token.text in ("}", "]"):
            keys.pop()
        elif token.key in keys[-1]:
            return token.at, f"the key `{token.key}` stands twice in one object"
        else:
            if token.key is not None:
                keys[-1].add(token.key)
            at, reason = _fault_of_text(token.text) if token.text[0] == '"' else (0, _fault_of_number(token.text))
            if reason is not None:
                return token.at + at, reason
    return None


def _fault_of_text(text: str) -> tuple[int, str | None]:
    if bad := _HALF.search(text):
        return bad.start(), _NO_UTF8
    if "\\u" in text and _HALF.search(json.loads(text)):
        return 0, "this holds half of a character (a lone surrogate)"
    return 0, None


def _fault_of_number(text: str) -> str | None:
    number = _NUMBER.match(text)
    if number is None:
        return f"{text[:9]} is no JSON number" if text.startswith(_NO_NUMBERS) else None
    whole, fraction = number.groups()
    if not fraction:
        too_long = len(whole) > LONGEST_DIGITS + 1 or int(whole).bit_length() > MAX_INTEGER_BITS
        return f"a number of more than {MAX_INTEGER_BITS} bits" if too_long else None
    return None if math.isfinite(float(number[0])) else f"the number {number[0][:40]} is too large (it reads as inf)"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidInput("a key stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise InvalidInput(f"{text} is no JSON number")


def _after(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where what a pattern matches ends; it matches also nothing."""
    found = pattern.match(data, at)
    return found.end() if found else at


def _length(text: str) -> int:
    """The length of a text without the white space at its end, which is not copied."""
    end = len(text)
    while end and text[end - 1] in " \t\r\n":
        end -= 1
    return end


_decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
