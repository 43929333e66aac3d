"""A change: what one device tells others of its sessions, and how it is read from the feed.

Devices stand as the sender's own numbers, with a table of what they mean, so that rows travel
as they stand in the sender's database. (tests/unit/test_apply.py)
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from operator import itemgetter
from typing import Any

import msgspec

from .actors import Signed, signed
from .database import Database
from .deletion import PURGED
from .rows import BORN_COLUMNS, SESSION_COLUMNS, Born, SessionBirth, SessionRow, session_births, size_bytes
from .state import StateWire

VERSION = 1

_CONTENT = Born.__struct_fields__.index("content")
_BEHIND_TIME = Born.__struct_fields__.index("time_ms") + 1

StandsFor = dict[str, list[tuple[int, int]]]


class RegisterState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One register's whole state; ``message`` None is the session itself."""

    message: str | None
    path: str
    state: StateWire


class SessionChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is new of one session. A message that has registers of its own is sent with all of them."""

    id: str
    life: int
    births: list[SessionBirth]
    touched: int
    registers: list[RegisterState]
    messages: list[Born]
    actors: list[Signed] = []


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The content of a segment. ``devices`` says what the numbers in authors (number * 4 + class) mean.

    ``stands_for`` names publications of devices, as first and last number, that a remote lost and that this one holds,
    together with those of its publisher before it.
    """

    version: int
    devices: dict[int, str]
    sessions: list[SessionChange]
    stands_for: StandsFor = {}

    def writers(self) -> set[str]:
        """The devices of whose writing something stands in it."""
        authors = {born.author for change in self.sessions for born in change.messages}
        authors |= {birth.author for change in self.sessions for birth in change.births}
        authors |= {
            author for change in self.sessions for each in change.registers for _, author, _, _ in each.state[0]
        }
        return {self.devices[number] for number in {author // 4 for author in authors} if number in self.devices}


class _Names(msgspec.Struct, frozen=True, array_like=True):
    version: int
    devices: msgspec.Raw
    sessions: list[_Named]


class _Named(msgspec.Struct, frozen=True, array_like=True):
    id: str


decode_batch = msgspec.msgpack.Decoder(Batch).decode
_decode_names = msgspec.msgpack.Decoder(_Names).decode
_encode = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(StateWire).decode
_decode_pairs = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


def encode_batch(devices: dict[int, str], sessions: list[Any], stands_for: StandsFor | None = None) -> bytes:
    """The bytes of a batch."""
    return _encode((VERSION, devices, sessions, stands_for) if stands_for else (VERSION, devices, sessions))


def sessions_in(content: bytes) -> list[str]:
    """The ids of the sessions of which a batch's bytes say something."""
    return [each.id for each in _decode_names(content).sessions]


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
    few = heapq.merge(_moved(database, since), _sessions(database, since, floor), key=_number)
    for number, session, born, registers in _merged(_messages(database, since, floor), few):
        collected = changed.get(session)
        if collected is None:
            collected = changed[session] = _Collected()
        size += collected.take(born, registers)
        if size > max_bytes:
            upto, complete = number, False
            break
    if not changed:
        return b"", upto, complete
    return _encoded(database, changed), upto, complete


_Entry = tuple[int, int, tuple[Any, ...] | None, list[RegisterState]]
"""What stands at a number of what is to be published, of which session: a birth, and registers.

Births come in the order in which they were born. A plain tuple, as there is one for each message.
"""


class _Collected:
    def __init__(self) -> None:
        self.registers: list[RegisterState] = []
        self.messages: list[tuple[Any, ...]] = []

    def take(self, born: tuple[Any, ...] | None, registers: list[RegisterState]) -> int:
        """Take an entry in; about how many bytes it takes in a batch, never much less."""
        weight = 200
        if registers:
            self.registers += registers
            for register in registers:
                weight += 100 + sum(100 + len(text) + len(seen) for _, _, text, seen in register.state[0])
        if born is None:
            return weight
        self.messages.append(born)
        content, others = born[_CONTENT], born[_BEHIND_TIME:]
        weight += len(content) if isinstance(content, bytes) or content.isascii() else len(content.encode())
        return weight + (size_bytes(*others) if any(others) else 0)


_number = itemgetter(0)


def _merged(many: Iterator[_Entry], few: Iterator[_Entry]) -> Iterator[_Entry]:
    """Both in the order of their numbers."""
    waiting = next(few, None)
    for entry in many:
        while waiting is not None and waiting[0] < entry[0]:
            yield waiting
            waiting = next(few, None)
        yield entry
    if waiting is not None:
        yield waiting
    yield from few


def _messages(database: Database, since: int, floor: int) -> Iterator[_Entry]:
    """Births that stand where they were born, and the registers that were written since."""
    sql = (
        f"SELECT seq, session, local_seq, edited, no, {BORN_COLUMNS} FROM messages "  # noqa: S608
        "WHERE seq > ? AND (local_seq = seq OR edited) ORDER BY seq"
    )
    for row in database.execute(sql, (since,)):
        seq, session, local_seq, edited, no = row[:5]
        if local_seq == seq:
            yield seq, session, row[5:], _registers(database, session, no, None, row[5]) if edited else []
        elif registers := _registers(database, session, no, floor, row[5]):
            yield seq, session, None, registers


def _moved(database: Database, since: int) -> Iterator[_Entry]:
    """Births whose row was changed since: at the number at which they were born, with all their registers.

    Were they sent where their row stands now, whoever holds a younger message of ours would seem to know them.
    """
    sql = (
        f"SELECT local_seq, session, edited, no, {BORN_COLUMNS} FROM messages "  # noqa: S608
        "WHERE local_seq < seq AND local_seq > 0 AND local_seq > ? ORDER BY local_seq"
    )
    for row in database.execute(sql, (since,)):
        number, session, edited, no = row[:4]
        yield number, session, row[4:], _registers(database, session, no, None, row[4]) if edited else []


def _sessions(database: Database, since: int, floor: int) -> Iterator[_Entry]:
    sql = "SELECT seq, no FROM sessions WHERE seq > ? AND local_seq > ? ORDER BY seq"
    for seq, no in database.execute(sql, (since, floor)):
        yield seq, no, None, _registers(database, no, 0, floor, None)


def _registers(
    database: Database, session: int, message: int, floor: int | None, message_id: str | None
) -> list[RegisterState]:
    """The registers that were written here behind ``floor``; None for all there are."""
    rows = database.execute(
        "SELECT path, state FROM registers WHERE session = ? AND message = ? AND local_seq > ?",
        (session, message, -1 if floor is None else floor),
    )
    return [RegisterState(message_id, path, _decode_state(state)) for path, state in rows.fetchall()]


def _change(database: Database, row: SessionRow, collected: _Collected) -> tuple[Any, ...]:
    births = session_births(row.births)
    messages = sorted(collected.messages, key=_clock)
    if row.purged and not any(each.message is None and each.path == PURGED for each in collected.registers):
        collected.registers.append(_ended(database, row.no))
    actors = signed(database, _stamps(births, collected.registers, messages))
    return row.id, row.life, births, row.touched, collected.registers, messages, actors


def _ended(database: Database, no: int) -> RegisterState:
    """Which lives of a session's id are over: whoever has not met their end cannot place a later one."""
    sql = "SELECT state FROM registers WHERE session = ? AND message = 0 AND path = ?"
    [state] = database.one(sql, (no, PURGED))
    return RegisterState(None, PURGED, _decode_state(state))


def _stamps(
    births: list[SessionBirth], registers: list[RegisterState], messages: list[tuple[Any, ...]]
) -> Iterator[tuple[int, int]]:
    """Clock and author of all that a change brings."""
    yield from ((birth.clock, birth.author) for birth in births)
    yield from ((clock, author) for register in registers for clock, author, _, _ in register.state[0])
    yield from ((born[1], born[2]) for born in messages)


_clock = itemgetter(Born.__struct_fields__.index("clock"))


# Whole sessions


def whole(database: Database, sessions: Iterable[int], *, max_bytes: int, local_only: bool = False) -> Iterator[bytes]:
    """All that is known of some sessions (by number), in batches: every message, with every register.

    A batch ends with the row that takes it over ``max_bytes``. ``local_only``: those that are, and no others, for
    another store on this device.
    """
    changed: dict[int, _Collected] = {}
    size = 0
    for no in sessions:
        for _, _, born, registers in _everything(database, no):
            collected = changed.get(no)
            if collected is None:
                collected = changed[no] = _Collected()
            size += collected.take(born, registers)
            if size > max_bytes:
                if content := _encoded(database, changed, local_only=local_only):
                    yield content
                changed, size = {}, 0
    if content := _encoded(database, changed, local_only=local_only):
        yield content


def known_to(database: Database, devices: Collection[str]) -> list[int]:
    """The numbers of the sessions in which any of some devices wrote something, as far as it still stands here."""
    numbers = {number for number, device in database.devices.items() if device in devices}
    found: set[int] = set()
    for session, author, births in database.execute("SELECT session, author, births FROM messages"):
        if session not in found and (author // 4 in numbers or (births and _any_of(_decode_pairs(births), numbers))):
            found.add(session)
    for session, state in database.execute(
        "SELECT session, state FROM registers UNION ALL SELECT session, state FROM waiting"
    ):
        if session not in found:
            opened, known = _decode_state(state)
            if any(author // 4 in numbers for author, _ in known) or any(each[1] // 4 in numbers for each in opened):
                found.add(session)
    for no, births in database.execute("SELECT no, births FROM sessions"):
        if no not in found and any(birth.author // 4 in numbers for birth in session_births(births)):
            found.add(no)
    return sorted(found)


def withheld(database: Database, devices: Collection[str]) -> str | None:
    """A session that is local-only and in which any of some devices wrote: `whole` leaves out what they said of it."""
    kept = dict(database.execute("SELECT no, id FROM sessions WHERE local_only").fetchall())
    return next((kept[no] for no in known_to(database, devices) if no in kept), None) if kept else None


def _any_of(pairs: list[tuple[int, int]], numbers: Collection[int]) -> bool:
    return any(author // 4 in numbers for _, author in pairs)


def _everything(database: Database, no: int) -> Iterator[_Entry]:
    yield 0, no, None, _registers(database, no, 0, None, None)
    sql = f"SELECT edited, no, {BORN_COLUMNS} FROM messages WHERE session = ? ORDER BY clock"  # noqa: S608
    for row in database.execute(sql, (no,)):
        edited, message = row[:2]
        yield 0, no, row[2:], _registers(database, no, message, None, row[2]) if edited else []
    for message_id, path, state in database.execute(
        "SELECT message, path, state FROM waiting WHERE session = ?", (no,)
    ).fetchall():
        yield 0, no, None, [RegisterState(message_id, path, _decode_state(state))]


def _encoded(database: Database, changed: dict[int, _Collected], *, local_only: bool = False) -> bytes:
    """The batch of what was collected of sessions that are local-only, or not; empty where nothing was.

    All that is ever published of a store comes through here, and so nothing of a session that is local-only.
    """
    rows = [(_row(database, no), each) for no, each in changed.items()]
    changes = [_change(database, row, each) for row, each in rows if bool(row.local_only) is local_only]
    return encode_batch(database.devices, changes) if changes else b""


def _row(database: Database, no: int) -> SessionRow:
    return SessionRow(*database.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE no = ?", (no,)))  # noqa: S608
