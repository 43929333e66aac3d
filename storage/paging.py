"""Cursors of lists that are shown a page at a time, as text that nobody need understand.

A cursor names the last thing that was shown, not a number of rows, so that what is added or moved
meanwhile is neither shown twice nor jumps over others (tests/unit/test_paging.py).
"""

from __future__ import annotations

import base64
from typing import TypeVar

import msgspec

from .errors import InvalidInput

_Place = TypeVar("_Place")


def cursor_of(place: object) -> str:
    """The cursor that stands for a place, a value that JSON can carry."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str, kind: type[_Place]) -> _Place:
    """The place that a cursor stands for; raises `InvalidInput`."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as exc:
        raise bad_cursor() from exc


def bad_cursor() -> InvalidInput:
    """What is said of a cursor of no list, or of another one."""
    return InvalidInput("this cursor is not one that this list gave", hint="begin again without a cursor")
