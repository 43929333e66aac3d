"""What must hold in a store, one question each: every function names what does not hold, and writes nothing.

They take nothing for granted: rows may be missing, bytes may be no msgpack, numbers may be of
no device. `steno.storage.doctor` asks them all (tests/unit/test_doctor.py breaks each rule).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from .database import Database
from .indexing import CURSOR
from .prose import phrase, prose, words
from .rows import MESSAGE_COLUMNS, MessageRow, content_of, decode_json, legible, session_births
from .stamps import BY_HAND, plausible
from .state import StateWire

SAMPLES = 100
_INDEX = "PRAGMA integrity_check('search')"
_WORD = re.compile(r"\b[a-z0-9]{3,30}\b", re.ASCII | re.IGNORECASE)
_decode_state = msgspec.msgpack.Decoder(StateWire).decode
_decode_pairs = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode

_NUMBERS = {
    "session {} and message {} have one number": ("SELECT s.id, m.id FROM sessions s JOIN messages m ON m.seq = s.seq"),
    "session {} has a number that the feed has not reached": "SELECT id FROM sessions WHERE seq > ?1",
    "message {} has a number that the feed has not reached": "SELECT id FROM messages WHERE seq > ?1",
    "session {} changed before it arrived": "SELECT id FROM sessions WHERE max(born_seq, local_seq) > seq",
    "message {} changed before it arrived": "SELECT id FROM messages WHERE max(born_seq, local_seq) > seq",
    "register {} of session {} changed after its session": (
        "SELECT path, s.id FROM registers r JOIN sessions s ON s.no = r.session WHERE r.message = 0 AND r.seq > s.seq"
    ),
    "register {} of message {} changed after its message": (
        "SELECT path, m.id FROM registers r JOIN messages m ON m.no = r.message WHERE r.seq > m.seq"
    ),
    "an earlier state of {} lasted no time": "SELECT path FROM revisions WHERE until_seq <= from_seq OR until_seq > ?1",
}
_CLOCK = """
SELECT id FROM messages WHERE clock > (SELECT max(hlc, ifnull(
    (SELECT clock FROM messages ORDER BY seq DESC LIMIT 1), 0)) FROM clock) LIMIT 20
"""
_ORPHANS = {
    "message {} is of no session": "SELECT id FROM messages WHERE session NOT IN (SELECT no FROM sessions)",
    "message {} is of a session that was purged": (
        "SELECT m.id FROM sessions s JOIN messages m ON m.session = s.no WHERE s.hidden = 2"
    ),
    "register {} is of no session": "SELECT path FROM registers WHERE session NOT IN (SELECT no FROM sessions)",
    "register {} is of no message": (
        "SELECT path FROM registers r WHERE message > 0 AND NOT EXISTS "
        "(SELECT 1 FROM messages m WHERE m.no = r.message AND m.session = r.session)"
    ),
    "an earlier state of {} is of no session": (
        "SELECT path FROM revisions WHERE session NOT IN (SELECT no FROM sessions)"
    ),
    "an earlier state of {} is of no message": (
        "SELECT path FROM revisions r WHERE message > 0 AND NOT EXISTS "
        "(SELECT 1 FROM messages m WHERE m.no = r.message AND m.session = r.session)"
    ),
    "what waits for message {} is of no session": (
        "SELECT message FROM waiting WHERE session NOT IN (SELECT no FROM sessions)"
    ),
    "a save of {} is of no session": "SELECT rev FROM saves WHERE session NOT IN (SELECT no FROM sessions)",
    # That of a purged session is owed until it is removed.
    "file {} is of no session": (
        "SELECT path FROM files WHERE session NOT IN (SELECT no FROM sessions) "
        "AND session NOT IN (SELECT session FROM unwritten)"
    ),
    "actor {} wrote on a device that is not known": (
        "SELECT actor FROM actors WHERE device NOT IN (SELECT no FROM devices)"
    ),
}
_INDEXED_TOO_MUCH = """
SELECT id FROM search_docsize WHERE id > 0 AND id NOT IN (SELECT no FROM messages)
    OR id < 0 AND -id NOT IN (SELECT no FROM sessions)
"""


def file(store: Database) -> Iterator[str]:
    """The pages, tables and indexes of the file, the search index apart."""
    wrong = [row[0] for row in store.execute("PRAGMA integrity_check(20)").fetchall()]
    if wrong != ["ok"]:
        of_index = {row[0] for row in store.execute(_INDEX).fetchall()}
        yield from (each for each in wrong if each not in of_index)


def numbers(store: Database) -> Iterator[str]:
    """The numbers of the feed and the clock."""
    last = store.last_seq
    for what, sql in _NUMBERS.items():
        yield from _each(store, what, sql, *([last] if "?1" in sql else []))
    yield from _each(store, "message {} was born after the clock", _CLOCK)


def cursors(store: Database) -> Iterator[str]:
    """How far each consumer of the feed has come."""
    yield from _each(
        store, "consumer {} is ahead of the feed", "SELECT name FROM cursors WHERE seq > ?", store.last_seq
    )


def orphans(store: Database) -> Iterator[str]:
    """Rows whose session or message is not there."""
    for what, sql in _ORPHANS.items():
        yield from _each(store, what, sql)


def births(store: Database) -> Iterator[str]:
    """The births of sessions and messages."""
    devices = store.devices
    for session, column in store.execute("SELECT id, births FROM sessions"):
        try:
            found = session_births(column)
            instants = [(birth.clock, devices[birth.author // 4]) for birth in found]
            if not found or instants != sorted(instants) or not all(plausible(clock) for clock, _ in instants):
                yield f"session {session} has no births, or impossible ones"
            for text in (found[0].forked_from, found[0].source) if found else ():
                _ = None if text is None else decode_json(text)
        except (msgspec.MsgspecError, KeyError):
            yield f"the birth of session {session} cannot be read"
    for message, clock, author, column in store.execute("SELECT id, clock, author, births FROM messages"):
        try:
            others = [] if column is None else _decode_pairs(column)
        except msgspec.MsgspecError:
            yield f"the births of message {message} cannot be read"
            continue
        if not all(plausible(at) and _is_author(who, devices) for at, who in [(clock, author), *others]):
            yield f"message {message} was born at no time, or on no known device"


def registers(store: Database) -> Iterator[str]:
    """The states of registers, of now and of before."""
    devices = store.devices
    for table in ("registers", "revisions", "waiting"):
        for path, column in store.execute(f"SELECT path, state FROM {table}"):  # noqa: S608
            try:
                opened, known = _decode_state(column)
            except msgspec.MsgspecError:
                yield f"a state of {path} in {table} cannot be read"
                continue
            writers = [(clock, author) for clock, author, _, _ in opened] + [(clock, author) for author, clock in known]
            if not all(plausible(clock) and _is_author(author, devices) for clock, author in writers):
                yield f"a state of {path} in {table} was written at no time, or on no known device"


def contents(store: Database) -> Iterator[str]:
    """What messages say, also where it stands compressed."""
    for columns in store.execute(f"SELECT {MESSAGE_COLUMNS} FROM messages"):  # noqa: S608
        row = MessageRow(*columns)
        try:
            content_of(row.content)
            for text in (row.usage, row.metadata, row.origin):
                _ = None if text is None else decode_json(text)
        except msgspec.MsgspecError:
            yield f"message {row.id} cannot be read"


def index(store: Database) -> Iterator[str]:
    """The search index: whole, nothing in it that is not there, and what should be found is found."""
    wrong = [row[0] for row in store.execute(_INDEX).fetchall()]
    yield from (each for each in wrong if each != "ok")
    yield from _each(store, "row {} of the index is of nothing", _INDEXED_TOO_MUCH)
    yield from _not_found(store)


def _not_found(store: Database) -> Iterator[str]:
    """Messages, of a sample over the whole store, whose words the index does not have."""
    cursor, [most] = store.cursor(CURSOR), store.one("SELECT ifnull(max(no), 0) FROM messages")
    if not cursor:  # made anew before anything is sought
        return
    sql = "SELECT no, id, role, content FROM messages WHERE no >= ? AND seq <= ? ORDER BY no LIMIT 1"
    step = max(1, most // SAMPLES)
    sample = {row[0]: row for start in range(1, most + 1, step) if (row := store.one(sql, (start, cursor)))}
    for no, message, role, content in sample.values():
        word = _WORD.search(words(prose(role, legible(content))))
        if word is None:
            continue
        found = store.one(
            "SELECT 1 FROM search WHERE search MATCH ? AND rowid = ?", (phrase(word[0], prefix=False), no)
        )
        if not found:
            yield f"message {message} is not found by its word {word[0]!r}"


def _is_author(author: int, devices: dict[int, str]) -> bool:
    return author // 4 in devices and author % 4 <= BY_HAND


def _each(store: Database, what: str, sql: str, *values: Any) -> Iterator[str]:
    for row in store.execute(sql, values):
        yield what.format(*row)
