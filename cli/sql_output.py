"""Rows of SQL as a table, as JSON or as CSV, each printed as it comes (tests/unit/test_cli_sql.py).

A table's columns are as wide as its first rows need; what comes later and is wider stands out, or is cut where
somebody looks at a terminal. Bytes are written as SQL writes them, x'00ff'.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import click
import msgspec

from ..memoriesdb.sql import Result, Row
from .terminal import columns, escaped, fit, pad, safe, safe_line, width

FORMS = ("text", "json", "csv")
_SEEN_FIRST = 200
_GAP = 2
_NARROWEST = 8


class Printer:
    """Prints results in one form."""

    def __init__(self, form: str) -> None:
        self._pieces = {"text": _text, "json": _json, "csv": _csv}[form]
        self._between = "\n" if form == "text" else ""
        self._first = True

    def show(self, result: Result) -> None:
        """Print a result; one without columns is run and prints nothing."""
        if not result.columns:
            for _ in result.rows:
                pass
            return
        click.echo("" if self._first else self._between, nl=False)
        self._first = False
        for piece in self._pieces(result):
            click.echo(piece, nl=False)


def _text(result: Result) -> Iterator[str]:
    """A table; a single column is printed as it is, line ends included."""
    if len(result.columns) > 1:
        return _table(result)
    heads: list[Row] = [result.columns]
    return (f"{safe(_cell(row[0]))}\n" for row in chain(heads, result.rows))


def _table(result: Result) -> Iterator[str]:
    rows = map(_cells, result.rows)
    first = list(islice(rows, _SEEN_FIRST))
    heads = _cells(result.columns)
    widths = [max(map(width, column)) for column in zip(heads, *first, strict=True)]
    room = columns()
    if room is not None:
        widths = _narrowed(widths, room)
    for row in chain([heads], first, rows):
        shown = row if room is None else [fit(cell, limit) for cell, limit in zip(row, widths, strict=True)]
        yield (" " * _GAP).join(map(pad, shown, widths)).rstrip() + "\n"


def _narrowed(widths: list[int], room: int) -> list[int]:
    """Column widths that fit a line: the widest give way, down to a few characters each."""
    left = room - _GAP * (len(widths) - 1)
    narrowed = list(widths)
    for done, at in enumerate(sorted(range(len(widths)), key=widths.__getitem__)):
        narrowed[at] = min(widths[at], max(left // (len(widths) - done), _NARROWEST))
        left -= narrowed[at]
    return narrowed


def _json(result: Result) -> Iterator[bytes]:
    names = _distinct(result.columns)
    between = b"[\n"
    for row in result.rows:
        record = dict(zip(names, map(_plain, row), strict=True))
        yield between + escaped(msgspec.json.encode(record))
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"


def _csv(result: Result) -> Iterator[str]:
    shown = sys.stdout.isatty()
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in chain([result.columns], result.rows):
        writer.writerow(map(_plain, row))
        yield safe(line.getvalue()) if shown else line.getvalue()
        line.seek(0)
        line.truncate()


def _cells(row: Row) -> list[str]:
    return [safe_line(_cell(value)) for value in row]


def _cell(value: Any) -> str:
    return "" if value is None else str(_plain(value))


def _plain(value: Any) -> Any:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else value


def _distinct(names: tuple[str, ...]) -> list[str]:
    """The names of columns, those that stand there twice with a number."""
    seen: dict[str, int] = {}
    distinct: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}:{seen[name] - 1}")
    return distinct
