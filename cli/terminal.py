"""Text on a terminal: what is stored may be anything, what is sent must not steer the terminal.

Control characters and the marks that turn the writing direction are shown by their number; JSON
says the same characters by its own escapes and so stays exact (tests/unit/test_cli_terminal.py).
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from datetime import datetime

import click
import msgspec

from ..storage.errors import InvalidInput
from ..storage.model import Json, parse_time

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile("[\t\n]")
_MARGIN = 1
_UNKNOWN_WIDTH, _UNKNOWN_HEIGHT = 80, 24
_RELATIVE_S = 14 * 86_400


def safe(text: str) -> str:
    """The text with steering characters by their number; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _STEERING.sub(_number, text.replace("\r\n", "\n"))


def safe_line(text: str) -> str:
    """The text on one line, with steering characters by their number."""
    return _LINE_ENDS.sub(" ", safe(text))


def counted(count: int, what: str) -> str:
    """A number of things, in words."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def local_time(text: str, form: str = "%Y-%m-%d %H:%M") -> str:
    """A stored time as this machine's clock would show it; what cannot be shown so stays as it is."""
    try:
        return datetime.fromtimestamp(parse_time(text) / 1000).astimezone().strftime(form)
    except (InvalidInput, ValueError, OverflowError, OSError):
        return safe_line(text)


def when(text: str) -> str:
    """A stored time as a person thinks of it: ``5 min ago`` on a terminal, what `local_time` says elsewhere."""
    if columns() is not None:
        with suppress(InvalidInput):
            passed_s = int(time.time() - parse_time(text) / 1000)
            if 0 <= passed_s < _RELATIVE_S:
                return _ago(passed_s)
    return local_time(text)


def colours() -> bool:
    """Say whether text may be coloured: on a terminal that can, unless ``NO_COLOR`` is set."""
    return columns() is not None and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int | None:
    """How many columns the terminal has; None where nobody looks at one."""
    return _measure("COLUMNS", 0, _UNKNOWN_WIDTH) if sys.stdout.isatty() else None


def rows() -> int:
    """How many lines the terminal has."""
    return _measure("LINES", 1, _UNKNOWN_HEIGHT)


def width(text: str) -> int:
    """How many columns a text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415  most lists need none of it

    taken = 0
    for char in text:
        if unicodedata.category(char) not in ("Mn", "Me", "Cf"):
            taken += 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
    return taken


def fit(text: str, room: int) -> str:
    """The text, cut to so many columns with ``…`` at the end where it is longer."""
    if width(text) <= room:
        return text
    kept, taken = "", 0
    for char in text:
        taken += width(char)
        if taken > room - 1:
            break
        kept += char
    return f"{kept.rstrip()}…"


def pad(text: str, room: int) -> str:
    """The text with blanks up to so many columns."""
    return text + " " * (room - width(text))


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]], *, flexible: int) -> list[str]:
    """Lines of columns. On a terminal the ``flexible`` column is cut so that a line fits."""
    widths = [max(map(width, column)) for column in zip(heads, *rows, strict=True)]
    room = columns()
    if room is not None:
        others = sum(widths) - widths[flexible] + 2 * (len(widths) - 1) + _MARGIN
        widths[flexible] = min(widths[flexible], max(room - others, 12))
        rows = [(*row[:flexible], fit(row[flexible], widths[flexible]), *row[flexible + 1 :]) for row in rows]
    return ["  ".join(map(pad, row, widths)).rstrip() for row in [heads, *rows]]


def json_bytes(value: Json) -> bytes:
    """A value as JSON for people and programs, with characters that steer a terminal escaped."""
    return escaped(msgspec.json.format(msgspec.json.encode(value), indent=2))


def escaped(data: bytes) -> bytes:
    """JSON text whose strings hold no steering character as it stands; the values are the same."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _STEERING.sub(_json_number, data.decode()).encode() if _STEERING_BYTES.search(data) else data


def one_line_json(value: Json) -> str:
    """A value as JSON on one line, for people."""
    return escaped(msgspec.json.encode(value)).decode()


def print_json(value: Json) -> None:
    """Print a value as JSON."""
    click.echo(json_bytes(value))


def note(text: str) -> None:
    """Say something that is no data."""
    click.echo(safe_line(text), err=True)


def _ago(passed_s: int) -> str:
    if passed_s < 60:
        return "just now"
    if passed_s < 3600:
        return f"{passed_s // 60} min ago"
    return f"{passed_s // 3600} h ago" if passed_s < 86_400 else f"{counted(passed_s // 86_400, 'day')} ago"


def _measure(variable: str, side: int, unknown: int) -> int:
    told = os.environ.get(variable, "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(sys.stdout.fileno())[side] or unknown
    except (OSError, ValueError):
        return unknown


_STEERING_BYTES = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def _number(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _json_number(match: re.Match[str]) -> str:
    # msgspec has escaped what JSON forbids; of the rest only line ends between values are below U+0020.
    return match[0] if match[0] < " " else f"\\u{ord(match[0]):04x}"
