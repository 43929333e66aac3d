"""A change: what one device tells others of its sessions, and how it is read from the feed.

Devices stand as the sender's own numbers, with a table of what they mean, so that rows travel
as they stand in the sender's database. (tests/unit/test_apply.py)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .database import Database
from .rows import BORN_COLUMNS, SESSION_COLUMNS, Born, SessionBirth, SessionRow, session_births
from .state import StateWire

VERSION = 1


class RegisterState(msgspec.Struct, frozen=True, array_like=True):
    """One register's whole state; ``message`` None is the session itself."""

    message: str | None
    path: str
    state: StateWire


class SessionChange(msgspec.Struct, frozen=True, array_like=True):
    """What is new of one session. A message that has registers of its own is sent with all of them."""

    id: str
    life: int
    births: list[SessionBirth]
    touched: int
    registers: list[RegisterState]
    messages: list[Born]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The content of a segment. ``devices`` says what the numbers in authors (number * 4 + class) mean."""

    version: int
    devices: dict[int, str]
    sessions: list[SessionChange]


decode_batch = msgspec.msgpack.Decoder(Batch).decode
_encode = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(StateWire).decode


def encode_batch(devices: dict[int, str], sessions: list[Any]) -> bytes:
    """The bytes of a batch."""
    return _encode((VERSION, devices, sessions))


def local_changes(database: Database, *, since: int, floor: int, max_bytes: int) -> tuple[bytes, int, bool]:
    """What was written here and stands behind number ``since`` of the feed: (batch, number reached, whether all).

    Only rows written here after ``floor`` are taken, so that what a pull brought is not echoed. The batch is
    empty bytes where there is nothing. A batch ends with the row that takes it over ``max_bytes``.
    """
    database.execute("BEGIN")
    try:
        return _local_changes(database, since, floor, max_bytes)
    finally:
        database.execute("COMMIT")


def _local_changes(database: Database, since: int, floor: int, max_bytes: int) -> tuple[bytes, int, bool]:
    upto, complete, size = database.last_seq, True, 0
    changed: dict[int, _Collected] = {}
    for seq, kind, row in heapq.merge(_messages(database, since), _sessions(database, since), key=_by_seq):
        if kind == "message":
            session, local_seq, edited, no = row[1:5]
            born = row[5:] if local_seq > floor else None
            registers = list(_registers(database, session, no, None if born else floor, row[5])) if edited else []
            size += _weight(born, registers)
        else:
            session, local_seq, no, born = row[0], row[4], 0, None
            if local_seq <= floor:
                continue
            registers = list(_registers(database, session, 0, floor, None))
            size += 200 + _weight(None, registers)
        if born is None and not registers and kind == "message":
            continue
        collected = changed.setdefault(session, _Collected())
        collected.registers += registers
        if born is not None:
            collected.messages.append(born)
        if size > max_bytes:
            upto, complete = seq, False
            break
    if not changed:
        return b"", upto, complete
    return encode_batch(database.devices, [_change(database, no, each) for no, each in changed.items()]), upto, complete


class _Collected:
    def __init__(self) -> None:
        self.registers: list[RegisterState] = []
        self.messages: list[tuple[Any, ...]] = []


def _by_seq(entry: tuple[int, str, Any]) -> int:
    return entry[0]


def _messages(database: Database, since: int) -> Iterator[tuple[int, str, Any]]:
    sql = f"SELECT seq, session, local_seq, edited, no, {BORN_COLUMNS} FROM messages WHERE seq > ? ORDER BY seq"  # noqa: S608
    for row in database.execute(sql, (since,)):
        yield row[0], "message", row


def _sessions(database: Database, since: int) -> Iterator[tuple[int, str, Any]]:
    for row in database.execute(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE seq > ? ORDER BY seq", (since,)):  # noqa: S608
        yield row[3], "session", row


def _registers(
    database: Database, session: int, message: int, floor: int | None, message_id: str | None
) -> Iterable[RegisterState]:
    """The registers that were written here behind ``floor``; None for all there are."""
    rows = database.execute(
        "SELECT path, state FROM registers WHERE session = ? AND message = ? AND local_seq > ?",
        (session, message, -1 if floor is None else floor),
    )
    return [RegisterState(message_id, path, _decode_state(state)) for path, state in rows.fetchall()]


def _weight(born: tuple[Any, ...] | None, registers: list[RegisterState]) -> int:
    weight = sum(100 + sum(len(text) for _, _, text, _ in each.state[0]) for each in registers)
    return weight if born is None else weight + 100 + len(born[7])


def _change(database: Database, no: int, collected: _Collected) -> tuple[Any, ...]:
    row = SessionRow(*database.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE no = ?", (no,)))  # noqa: S608
    births = session_births(row.births)
    return row.id, row.life, births, row.touched, collected.registers, collected.messages
