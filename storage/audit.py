"""What was written to a session, by whom, and what stood there before: read from what the store keeps anyway.

Nothing is logged twice: a birth is a row, every state that a register had stands in ``revisions``,
and who wrote stands beside the stamp. What a purge removed is not told (tests/unit/test_audit.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from .actors import actor_of
from .deletion import PURGED
from .deletion import decode as decode_vector
from .errors import SessionNotFound
from .model import Json, format_ms
from .registers import EMPTY, REMOVED, Register, value_of
from .rows import HIDDEN_FOR_EVER, MESSAGE_COLUMNS, MessageRow, decode_json, message, session_births
from .stamps import Stamp, clock_ms
from .state import VECTORS, StateWire, from_wire
from .store import Store

BIRTH = "birth"
"""The path of an entry that says that a session or a message came into being."""

_decode_state = msgspec.msgpack.Decoder(StateWire).decode

_STATES = """
SELECT s.seq, m.id, m.born_seq, s.message, s.path, s.state FROM (
    SELECT from_seq AS seq, message, path, state FROM revisions WHERE session = ?1
    UNION ALL SELECT seq, message, path, state FROM registers WHERE session = ?1
) s LEFT JOIN messages m ON m.no = s.message ORDER BY s.seq, s.message, s.path
"""
_BEFORE = "SELECT state FROM revisions WHERE session = ? AND message = ? AND path = ? AND until_seq = ?"
_CONTENT = "SELECT 1 FROM registers WHERE session = ? AND message = ? AND path = 'content'"
_FIRST_CONTENT = "SELECT state FROM revisions WHERE session = ? AND message = ? AND path = 'content' AND from_seq = ?"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One value that one writer wrote; ``message`` None is the session itself.

    ``seq`` is where it arrived in the feed of this store, ``at`` when it was written by the clock of its ``device``.
    ``before`` is what was shown; None is also what was not there. ``removed`` says that ``after`` takes the field away.
    ``beaten`` says that another value stayed shown, or came to be. The value of a deletion, and of a purge, is the time
    at which it was made.
    """

    seq: int
    at: str
    device: str
    actor: str | None
    message: str | None
    path: str
    before: Json
    after: Json
    removed: bool = False
    beaten: bool = False


def audit(store: Store, session_id: str) -> Iterator[AuditEntry]:
    """Everything that was written to a session, deleted or not, in the order in which it arrived here.

    Of a purged one it is told that, and by whom. Raises `SessionNotFound`. Read it to its end, or close it, before you
    write with the same store.
    """
    row = store.row(session_id)
    if row is None:
        raise SessionNotFound(ref=session_id)
    return heapq.merge(_births(store, row.no), _writes(store, row.no), key=_seq)


def _births(store: Store, no: int) -> Iterator[AuditEntry]:
    seq, births = store.one("SELECT born_seq, births FROM sessions WHERE no = ?", (no,))
    birth = session_births(births)[0]
    said = {
        "created_at": format_ms(birth.created_ms),
        "forked_from": None if birth.forked_from is None else decode_json(birth.forked_from),
        "source": None if birth.source is None else decode_json(birth.source),
    }
    born = {name: value for name, value in said.items() if value is not None}
    yield _entry(store, seq, store.stamp(birth.clock, birth.author), None, BIRTH, None, born)
    sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ? ORDER BY born_seq"  # noqa: S608
    for columns in store.execute(sql, (no,)):
        row = MessageRow(*columns)
        born = {"role": row.role, **_content_at_birth(store, row)}
        yield _entry(store, row.born_seq, store.stamp(row.clock, row.author), row.id, BIRTH, None, born)


def _content_at_birth(store: Store, row: MessageRow) -> dict[str, Json]:
    """The content that a message was born with, where that is known here."""
    if row.hidden & HIDDEN_FOR_EVER:
        return {}
    if not row.edited or not store.one(_CONTENT, (row.session, row.no)):
        return {"content": message(row).content}
    found = store.one(_FIRST_CONTENT, (row.session, row.no, row.born_seq))
    return {} if found is None else {"content": value_of(from_wire(store, _decode_state(found[0])).shown)}


def _writes(store: Store, no: int) -> Iterator[AuditEntry]:
    for seq, message_id, born_seq, message_no, path, state in store.execute(_STATES, (no,)):
        if seq == born_seq:  # what the message was born with
            continue
        found = store.one(_BEFORE, (no, message_no, path, seq))
        before = EMPTY if found is None else from_wire(store, _decode_state(found[0]))
        after = from_wire(store, _decode_state(state))
        for stamp in _new(before, after):
            text = after.open[stamp].text
            values = _value(path, before.shown), _value(path, text)
            beaten = text != after.shown and path not in (*VECTORS, PURGED)  # open vectors are joined
            yield _entry(store, seq, stamp, message_id, path, *values, removed=text == REMOVED, beaten=beaten)


def _new(before: Register, after: Register) -> list[Stamp]:
    """The values that came with a change of a register; where none did, the one that is shown by it."""
    new = sorted(stamp for stamp in after.open if stamp not in before.open)
    return new or ([after.top[0]] if after.shown != before.shown and after.open else [])


def _entry(
    store: Store,
    seq: int,
    stamp: Stamp,
    message_id: str | None,
    path: str,
    before: Json,
    after: Json,
    *,
    removed: bool = False,
    beaten: bool = False,
) -> AuditEntry:
    return AuditEntry(
        seq=seq,
        at=format_ms(clock_ms(stamp.clock)),
        device=stamp.device,
        actor=actor_of(store, store.device_no(stamp.device), stamp.clock),
        message=message_id,
        path=path,
        before=before,
        after=after,
        removed=removed,
        beaten=beaten,
    )


def _value(path: str, text: bytes) -> Json:
    if path not in (*VECTORS, PURGED):
        return value_of(text)
    vector = decode_vector(text)
    knew = vector is not None and (path == PURGED or vector.upto or vector.also)
    return format_ms(vector.at_ms) if vector is not None and knew else None


def _seq(entry: AuditEntry) -> int:
    return entry.seq
