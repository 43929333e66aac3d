"""What a purge leaves in the tables: the tombstone of a session, the place of a message, and nothing that was said.

A tombstone is the row of an id under a new number, hidden for good; its one register says which lives are
over and what those who ended them knew. What the life held hung on the old number, which nothing takes
again, so that nothing of it returns with the next life of the id (tests/unit/test_purge.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .database import Database
from .deletion import LAST_PURGE, PURGED, purged_life
from .indexing import forget
from .registers import Register
from .rows import HIDDEN_FOR_EVER, HIDDEN_IN_VECTOR, TOMBSTONE, MessageRow, SessionBirth, encode_births, session_births
from .state import StateWire, to_wire

REPORTS = "reports"
"""The name under which whoever keeps the files keeps what is said of saves: a list in JSON, each with its session."""

FORGET_REPORTS = f"""
UPDATE meta SET value = (
    SELECT json_group_array(json(value)) FROM json_each(meta.value) WHERE json_extract(value, '$.session') != ?
) WHERE key = '{REPORTS}'
"""  # noqa: S608
_HOLDERS = ("registers", "revisions", "waiting", "saves", "forks", "messages")
_BURY = """
INSERT OR REPLACE INTO sessions (no, id, life, purged, seq, local_seq, history_seq, births, touched, title, automatic,
    status, tags, metadata, state, created_ms, updated_ms, message_count, hidden, vectors, incomplete, local_only)
VALUES ((SELECT ifnull(max(no), 0) + 1 FROM sessions), ?1, ?2, ?2, ?3, ?4, ?3, ?5, 0, '', 1,
    'active', '[]', '{}', '{}', ?6, ?6, 0, ?7, 0, 0, ifnull((SELECT local_only FROM sessions WHERE id = ?1), 0))
"""
_ERASE = """
UPDATE messages SET hidden = hidden & ? | ?, edited = 1, seq = ?, sender = NULL, content = '', time_ms = 0,
    time_text = NULL, parent = NULL, model = NULL, usage = NULL, metadata = NULL, origin = NULL WHERE no = ?
"""
_encode = msgspec.msgpack.encode
_decode_state = msgspec.msgpack.Decoder(StateWire).decode
_decode_pairs = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


def bury(
    database: Database, session_id: str, births: Iterable[SessionBirth], ended: Register, *, seq: int, local: bool
) -> None:
    """Erase what an id holds, and put its tombstone there: the lives that ``ended`` names are over. In a transaction.

    ``seq`` must have been taken before, since the message that keeps the feed's counter may be erased here.
    """
    mark(database, seq)
    row = database.one(
        "SELECT no, (SELECT local_seq FROM registers WHERE session = no AND message = 0 AND path = ?) FROM sessions "
        "WHERE id = ?",
        (PURGED, session_id),
    )
    no, told = row or (None, None)
    if no is not None:
        _erase_session(database, no)
        database.execute(FORGET_REPORTS, (session_id,))  # their paths hold titles
    left = stripped(births)
    # What was purged here before may not be sent yet.
    life, local_seq = purged_life(ended), seq if local else told or 0
    values = (session_id, life, seq, local_seq, encode_births(left), left[0].created_ms, TOMBSTONE)
    _keep(database, database.write(_BURY, values), 0, ended, seq=seq, local_seq=local_seq)


def stripped(births: Iterable[SessionBirth]) -> list[SessionBirth]:
    """The births of a session without what they say of forks and sources."""
    return [SessionBirth(birth.clock, birth.author, birth.created_ms, None, None) for birth in births]


def erase_message(database: Database, row: MessageRow, purged: Register, *, seq: int, local: bool) -> None:
    """Erase all of a message but its id, its place, its role and when it was born.

    Caches are refreshed apart, and kept saves forget it apart, since they are large: `saves.forget_messages`.
    """
    mark(database, seq)
    _forget_actors(database, row.session, [row.no])
    for table in ("registers", "revisions"):
        database.execute(f"DELETE FROM {table} WHERE session = ? AND message = ?", (row.session, row.no))  # noqa: S608
    database.execute("DELETE FROM waiting WHERE session = ? AND message = ?", (row.session, row.id))
    forget(database, [row.no])
    database.execute(_ERASE, (HIDDEN_IN_VECTOR, HIDDEN_FOR_EVER, seq, row.no))
    _keep(database, row.session, row.no, purged, seq=seq, local_seq=seq if local else 0)


def join_purge(database: Database, session: int, row: MessageRow | None, purged: Register, *, seq: int) -> None:
    """Keep what others say of a purge that is known: of a message, or of the session."""
    message = row.no if row else 0
    database.execute(
        "UPDATE registers SET state = ?, seq = ? WHERE session = ? AND message = ? AND path = ?",
        (_encode(to_wire(database, purged)), seq, session, message, PURGED),
    )
    table, no = ("messages", message) if row else ("sessions", session)
    database.execute(f"UPDATE {table} SET seq = ? WHERE no = ?", (seq, no))  # noqa: S608


def mark(database: Database, seq: int) -> None:
    """Let what is deleted from now on be overwritten, and remember that something was purged at this number."""
    database.execute("PRAGMA secure_delete = ON")
    database.set_meta(LAST_PURGE, str(seq))


def _keep(database: Database, session: int, message: int, purged: Register, *, seq: int, local_seq: int) -> None:
    state = _encode(to_wire(database, purged))
    database.execute(
        "INSERT INTO registers VALUES (?, ?, ?, ?, ?, 0, ?)", (session, message, PURGED, seq, local_seq, state)
    )


def _erase_session(database: Database, no: int) -> None:
    messages = [each for (each,) in database.execute("SELECT no FROM messages WHERE session = ?", (no,)).fetchall()]
    _forget_actors(database, no, [0, *messages])
    forget(database, [-no, *messages])
    for table in _HOLDERS:
        database.execute(f"DELETE FROM {table} WHERE session = ?", (no,))  # noqa: S608
    # Its file is still there: whoever keeps the files finds it owed, without a session, and removes it.
    database.execute("INSERT OR IGNORE INTO unwritten SELECT session FROM files WHERE session = ?", (no,))


def _forget_actors(database: Database, session: int, messages: Iterable[int]) -> None:
    """Forget who wrote what is erased: messages by their numbers, 0 being the session itself."""
    if not database.one("SELECT 1 FROM actors LIMIT 1"):  # as in nearly all stores
        return
    gone: set[tuple[int, int]] = set()
    for message in messages:
        for table in ("registers", "revisions"):
            sql = f"SELECT state FROM {table} WHERE session = ? AND message = ?"  # noqa: S608
            for (state,) in database.execute(sql, (session, message)).fetchall():
                gone |= {(author // 4, clock) for clock, author, _, _ in _decode_state(state)[0]}
        if not message:
            [births] = database.one("SELECT births FROM sessions WHERE no = ?", (session,))
            gone |= {(birth.author // 4, birth.clock) for birth in session_births(births)}
            continue
        born = database.one("SELECT clock, author, births FROM messages WHERE no = ?", (message,))
        if born is not None:
            others = [] if born[2] is None else _decode_pairs(born[2])
            gone |= {(author // 4, clock) for clock, author in [born[:2], *others]}
    database.executemany("DELETE FROM actors WHERE device = ? AND clock = ?", sorted(gone))
