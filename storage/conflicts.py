"""Open conflicts: what was written by hand differently on two devices that did not know of each other.

What is shown is the same everywhere; the other values wait here until somebody settles it by
writing (tests/unit/test_conflicts.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .deletion import decode
from .document import beaten
from .model import Json, format_ms
from .registers import REMOVED, Register, value_of
from .stamps import BY_HAND, Stamp, clock_ms
from .state import VECTORS, family, find_message, load
from .store import Store


class Written(msgspec.Struct, frozen=True):
    """One value, who wrote it, and when by that device's clock. ``removed``: the field was taken away."""

    value: Json
    device: str
    written_at: str
    removed: bool = False


class Conflict(msgspec.Struct, frozen=True):
    """One field with several values; ``shown`` is the one that everybody sees.

    Where ``field`` is ``deleted``, a value is the time of a deletion, or null for one that was not deleted.
    """

    session: str
    title: str
    message: str | None
    field: str
    shown: Written
    others: list[Written]


def conflicts(store: Store) -> Iterator[Conflict]:
    """Every open conflict of a session that is shown, the last one first."""
    rows = store.execute(
        "SELECT registers.path, sessions.no, sessions.id, sessions.title, messages.id FROM registers "
        "JOIN sessions ON sessions.no = registers.session AND sessions.hidden = 0 "
        "LEFT JOIN messages ON messages.no = registers.message "
        "WHERE registers.conflict ORDER BY registers.seq DESC"
    ).fetchall()
    for path, session_no, session, title, message in rows:
        row = find_message(store, session_no, message) if message is not None else None
        register = load(store, session_no, row, path)
        hidden = row is not None and bool(row.hidden)
        if path in VECTORS:
            conflict = _of_deletion(register, hidden=hidden)
        else:
            conflict = _of_values(register) or _of_leaves(
                family(store, session_no, row.no if row else 0, _head(path)), path
            )
        if conflict is not None:
            shown, others = conflict
            yield Conflict(session, title, message, path, shown, others)


def _of_values(register: Register) -> tuple[Written, list[Written]] | None:
    top, value = register.top
    others: dict[bytes, Written] = {}
    for stamp, other in sorted(register.open.items(), reverse=True):
        if stamp.rank == BY_HAND and other.text != value.text:
            others.setdefault(other.text, _written(stamp, other.text))
    return (_written(top, value.text), list(others.values())) if others else None


def _of_leaves(registers: dict[str, Register], path: str) -> tuple[Written, list[Written]] | None:
    """A value of metadata or state that is not shown because of one above or below it."""
    tops = {each: register.top for each, register in registers.items() if register.open}
    shown = beaten(tops).get(path)
    if shown is None:
        return None
    return _written(tops[shown][0], tops[shown][1].text), [_written(tops[path][0], tops[path][1].text)]


def _head(path: str) -> str:
    return path.partition("/")[0]


def _of_deletion(register: Register, *, hidden: bool) -> tuple[Written, list[Written]] | None:
    """What is shown of a deletion that somebody overruled, knowingly or not: it, and what it stands against."""
    values = [_deletion(stamp, value.text) for stamp, value in sorted(register.open.items(), reverse=True)]
    against = [each for each in values if (each.value is not None) != hidden]
    agreeing = [each for each in values if (each.value is not None) == hidden]
    newest = values[0] if values else None
    if newest is None:
        return None
    shown = agreeing[0] if agreeing else Written(None, newest.device, newest.written_at)
    return (shown, against) if against else None


def _written(stamp: Stamp, text: bytes) -> Written:
    return Written(value_of(text), stamp.device, format_ms(clock_ms(stamp.clock)), text == REMOVED)


def _deletion(stamp: Stamp, text: bytes) -> Written:
    vector = decode(text)
    value = None if vector is None else format_ms(vector.at_ms)
    return Written(value, stamp.device, format_ms(clock_ms(stamp.clock)))
