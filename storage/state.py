"""Registers in the database: read, saved with what they were before, and cached in their rows.

A message's registers stand nowhere as long as they are what it was born with: they are implied
by its row. A register that was written later has a row of its own, and every state that it had
before is kept in ``revisions`` with the span of the feed in which it stood, so that a session
can be read as it was at any number of the feed (tests/unit/test_history.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from .database import Database
from .deletion import PURGED, Vector, in_force, message_deleted, session_hidden
from .deletion import decode as decode_vector
from .document import beaten, leaves, related, view
from .errors import InvalidInput
from .model import automatic_title, parse_time, plain_text
from .order import Place, walk
from .packing import size_sql
from .registers import EMPTY, REMOVED, Known, Register, Value, join_known, value_of
from .rows import (
    HIDDEN_IN_VECTOR,
    HIDDEN_ITSELF,
    MESSAGE_COLUMNS,
    SCALARS,
    SESSION_COLUMNS,
    Born,
    MessageRow,
    SessionBirth,
    SessionRow,
    bound,
    decode_json,
    encode_json,
    legible,
    originals,
    scalar_columns,
    scalar_text,
    size_bytes,
)
from .stamps import BY_HAND, Stamp

StateWire = tuple[list[tuple[int, int, bytes, bytes]], list[tuple[int, int]]]
"""A register between device numbers: open [(clock, author, text, seen)] and known [(author, clock)]."""

_decode_state = msgspec.msgpack.Decoder(StateWire).decode
_encode = msgspec.msgpack.encode
_decode_births = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode

DOCUMENTS = ("metadata", "state")
VECTORS = ("deleted", "cleared")


def to_wire(database: Database, register: Register) -> StateWire:
    """A register with devices as numbers, in one order."""
    opened = [(s.clock, database.author(s.device, s.rank), v.text, v.seen) for s, v in sorted(register.open.items())]
    known = [(database.author(*writer), clock) for writer, clock in sorted(register.known.items())]
    return opened, known


def from_wire(database: Database, wire: StateWire) -> Register:
    """The register of `to_wire`."""
    opened, known = wire
    return Register(
        {database.stamp(clock, author): Value(text, seen) for clock, author, text, seen in opened},
        {database.stamp(clock, author).writer: clock for author, clock in known},
    )


def session_row(database: Database, no: int) -> SessionRow:
    """The row of a session."""
    row = database.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE no = ?", (no,))  # noqa: S608
    return SessionRow(*row)


def find_message(database: Database, session: int, message_id: str) -> MessageRow | None:
    """The row of a message, hidden or not."""
    row = database.one(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ? AND id = ?",  # noqa: S608
        (session, message_id),
    )
    return MessageRow(*row) if row else None


def birth_stamps(database: Database, row: MessageRow | Born) -> list[Stamp]:
    """Every stamp that a message was born under, least first."""
    stamps = [database.stamp(row.clock, row.author)]
    if row.births is not None:
        stamps += [database.stamp(clock, author) for clock, author in _decode_births(row.births)]
    return stamps


def implied(database: Database, row: MessageRow | Born, text: bytes) -> Register:
    """A register that every birth of a message wrote with this text."""
    stamps = birth_stamps(database, row)
    known: Known = {}
    for stamp in stamps:
        known = join_known(known, {stamp.writer: stamp.clock})
    return Register({stamp: Value(text) for stamp in stamps}, known)


def load(database: Database, session: int, row: MessageRow | None, path: str) -> Register:
    """The state of a register now; `EMPTY` where it was never written."""
    if row is None or row.edited:
        found = database.one(
            "SELECT state FROM registers WHERE session = ? AND message = ? AND path = ?",
            (session, row.no if row else 0, path),
        )
        if found:
            return from_wire(database, _decode_state(found[0]))
    if row is not None and path in SCALARS:
        return implied(database, row, scalar_text(row, path))
    return EMPTY


def family(database: Database, session: int, message: int, name: str) -> dict[str, Register]:
    """Every register below ``name/``, by path."""
    rows = database.execute(
        "SELECT path, state FROM registers WHERE session = ? AND message = ? AND path >= ? AND path < ?",
        (session, message, f"{name}/", f"{name}0"),
    )
    return {path: from_wire(database, _decode_state(state)) for path, state in rows.fetchall()}


def save(
    database: Database,
    session: int,
    row: MessageRow | None,
    path: str,
    old: Register,
    new: Register,
    *,
    seq: int,
    local: bool,
) -> None:
    """Keep a register's new state and, in ``revisions``, the one that it had. Caches are refreshed apart."""
    message = row.no if row else 0
    found = database.one(
        "SELECT seq, local_seq FROM registers WHERE session = ? AND message = ? AND path = ?", (session, message, path)
    )
    since, local_seq = found or ((row.born_seq, row.local_seq) if row else (0, 0))
    if old != EMPTY and since < seq:
        database.execute(
            "INSERT OR IGNORE INTO revisions VALUES (?, ?, ?, ?, ?, ?)",
            (session, message, path, since, seq, _encode(to_wire(database, old))),
        )
    database.execute(
        "INSERT OR REPLACE INTO registers VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            session,
            message,
            path,
            seq,
            seq if local else local_seq,
            _conflict(path, new),
            _encode(to_wire(database, new)),
        ),
    )
    table, no = ("messages", message) if row else ("sessions", session)
    edited = ", edited = 1" if row else (", local_seq = ?1" if local else "")
    database.execute(f"UPDATE {table} SET seq = ?1{edited} WHERE no = ?2", (seq, no))  # noqa: S608


def save_births(database: Database, no: int, stamp: Stamp, texts: Mapping[str, bytes], *, seq: int) -> None:
    """Write the first registers of a session that is being made, and its columns; the same as `save` and a refresh."""
    rows = [
        (no, path, seq, seq, _encode(to_wire(database, Register({stamp: Value(text)}, {stamp.writer: stamp.clock}))))
        for path, text in texts.items()
    ]
    database.executemany("INSERT INTO registers VALUES (?, 0, ?, ?, ?, 0, ?)", rows)
    columns: dict[str, Any] = {
        name: value_of(texts[name]) for name in ("status", "provider", "model", "user_id") if name in texts
    }
    if "title" in texts:
        columns |= {"title": value_of(texts["title"]), "automatic": 0}
    tags = [(value_of(text), path.removeprefix("tags/")) for path, text in texts.items() if path.startswith("tags/")]
    if tags:
        columns["tags"] = encode_json([tag for _, tag in sorted(tags)]).decode()
    for name in DOCUMENTS:
        below = [(stamp, path.removeprefix(name), text) for path, text in texts.items() if path.startswith(f"{name}/")]
        if below:
            columns[name] = encode_json(view(below)).decode()
    if columns:
        names = ", ".join(f"{name} = ?" for name in columns)
        database.execute(f"UPDATE sessions SET {names} WHERE no = ?", (*columns.values(), no))  # noqa: S608


def materialise_metadata(database: Database, row: MessageRow) -> None:
    """Give every metadata leaf that a message was born with a row of its own, before the first write to one."""
    if row.edited and family(database, row.session, row.no, "metadata"):
        return
    for where, text in leaves(decode_json(row.metadata)) if row.metadata else ():
        state = _encode(to_wire(database, implied(database, row, text)))
        database.execute(
            "INSERT INTO registers VALUES (?, ?, ?, ?, ?, 0, ?)",
            (row.session, row.no, f"metadata{where}", row.born_seq, row.local_seq, state),
        )
    database.execute("UPDATE messages SET edited = 1 WHERE no = ?", (row.no,))


def seen_around(known: Mapping[str, Known], path: str) -> bytes:
    """What a writer of one document leaf knows of the leaves above and below it, as JSON text; mostly nothing."""
    around = {
        other: {f"{device}:{rank}": clock for (device, rank), clock in sorted(met.items())}
        for other, met in sorted(known.items())
        if met and related(other, path)
    }
    return encode_json(around) if around else b""


def document(registers: dict[str, Register], name: str) -> dict[str, Any]:
    """The object that the leaves below ``name/`` replay to."""
    tops = ((path, *register.top) for path, register in registers.items())
    return view((stamp, path.removeprefix(name), value.text) for path, stamp, value in tops)


def flagged(database: Database, session: int, message: int, name: str) -> set[str]:
    """The paths below ``name/`` that stand in conflict."""
    rows = database.execute(
        "SELECT path FROM registers WHERE conflict AND session = ? AND message = ? AND path >= ? AND path < ?",
        (session, message, f"{name}/", f"{name}0"),
    )
    return {path for (path,) in rows.fetchall()}


def _flag(database: Database, session: int, message: int, name: str, registers: Mapping[str, Register]) -> None:
    """Judge the conflicts of a document: within each leaf, and between leaves above and below each other."""
    wanted = {path for path, register in registers.items() if register.conflict}
    wanted |= beaten({path: register.top for path, register in registers.items() if register.open}).keys()
    present = flagged(database, session, message, name)
    changed = [(path in wanted, session, message, path) for path in sorted(wanted ^ present)]
    database.executemany("UPDATE registers SET conflict = ? WHERE session = ? AND message = ? AND path = ?", changed)


def refresh_message(database: Database, row: MessageRow, paths: Iterable[str]) -> bool:
    """Bring a message's cached columns up to its registers; say whether it was hidden or shown by that."""
    columns: dict[str, Any] = {}
    changed = set(paths)
    for path in changed & set(SCALARS):
        text = load(database, row.session, _edited(row), path).shown
        columns |= scalar_columns(path, text, time_ms=_time_ms(text, row.time_ms) if path == "timestamp" else 0)
    if any(path.startswith("metadata/") for path in changed):
        registers = family(database, row.session, row.no, "metadata")
        _flag(database, row.session, row.no, "metadata", registers)
        metadata = document(registers, "metadata")
        columns["metadata"] = encode_json(metadata).decode() if metadata else None
    hidden = row.hidden
    if changed & {"content", "deleted"}:
        hidden = (row.hidden & ~HIDDEN_ITSELF) | (HIDDEN_ITSELF if _deleted_itself(database, row) else 0)
        columns["hidden"] = hidden
    if columns:
        if "content" in columns and not row.hidden:
            _resize(database, row, columns["content"])
        names = ", ".join(f"{name} = {bound(name, at)}" for at, name in enumerate(columns, start=2))
        database.execute(f"UPDATE messages SET {names} WHERE no = ?1", (row.no, *columns.values()))  # noqa: S608
    return bool(hidden) != bool(row.hidden)


def deleted_ms(database: Database, row: MessageRow) -> int | None:
    """When a message was deleted by itself, in ms; None where it was not."""
    deleted = load(database, row.session, _edited(row), "deleted")
    return message_deleted(deleted, load(database, row.session, _edited(row), "content"))


def refresh_session(database: Database, no: int, paths: Iterable[str]) -> None:
    """Bring a session's cached columns up to its registers."""
    changed = {path.partition("/")[0] for path in paths}
    columns: dict[str, Any] = {}
    for name in changed & {"status", "provider", "model", "user_id"}:
        columns[name] = value_of(load(database, no, None, name).shown)
    if "status" in columns:
        columns["status"] = columns["status"] or "active"
    if "tags" in changed:
        columns["tags"] = encode_json(_tags(family(database, no, 0, "tags"))).decode()
    for name in changed & set(DOCUMENTS):
        registers = family(database, no, 0, name)
        columns[name] = encode_json(document(registers, name)).decode()
        _flag(database, no, 0, name, registers)
    if columns:
        names = ", ".join(f"{name} = ?" for name in columns)
        database.execute(f"UPDATE sessions SET {names} WHERE no = ?", (*columns.values(), no))  # noqa: S608
    if changed & set(VECTORS):
        refresh_vectors(database, no)
    if "title" in changed:
        retitle(database, no)


def refresh_vectors(database: Database, no: int) -> None:
    """Hide and show a session and its messages by its ``deleted`` and ``cleared`` vectors."""
    deleted = in_force(load(database, no, None, "deleted"))
    cleared = in_force(load(database, no, None, "cleared"))
    hidden = session_hidden(deleted, deleted is not None and _hand_birth_outside(database, no, deleted))
    database.execute(
        "UPDATE sessions SET hidden = ?, deleted_ms = ?, vectors = ? WHERE no = ?",
        (int(hidden), deleted.at_ms if deleted and hidden else None, int(bool(deleted or cleared)), no),
    )
    overruled = deleted is not None and not hidden
    database.execute(
        "UPDATE registers SET conflict = ? WHERE session = ? AND message = 0 AND path = 'deleted'",
        (max(_conflict("deleted", load(database, no, None, "deleted")), int(overruled)), no),
    )
    _mark_within(database, no, [vector for vector in (None if hidden else deleted, cleared) if vector])
    recount(database, no)
    retitle(database, no)


def recount(database: Database, no: int) -> None:
    """Count a session's shown messages and their bytes anew, and find when it was last written to."""
    database.execute(
        "UPDATE sessions SET (message_count, size_bytes, updated_ms) = (SELECT count(*), "  # noqa: S608
        f"ifnull(sum({size_sql('content')}), 0), max(ifnull(max(time_ms), 0), sessions.touched, sessions.created_ms) "
        "FROM messages WHERE session = sessions.no AND hidden = 0) WHERE no = ?",
        (no,),
    )


def retitle(database: Database, no: int) -> None:
    """Show the title that was given, else the one that the first message of a user makes."""
    given = value_of(load(database, no, None, "title").shown)
    title, automatic = given or "", 0
    if not title:
        automatic = 1
        rows = database.execute(
            "SELECT content FROM messages WHERE session = ? AND hidden = 0 AND role = 'user' ORDER BY ord", (no,)
        )
        for (content,) in rows:
            text = legible(content)
            if plain_text(text).strip():
                title = automatic_title(text)
                break
    database.execute("UPDATE sessions SET title = ?, automatic = ? WHERE no = ?", (title, automatic, no))


def _resize(database: Database, row: MessageRow, content: str | bytes) -> None:
    """Count the bytes that a shown message is about to have instead of those that it has."""
    database.execute(
        f"UPDATE sessions SET size_bytes = size_bytes + ? - (SELECT {size_sql('content')} FROM messages WHERE no = ?) "  # noqa: S608
        "WHERE no = ?",
        (size_bytes(content), row.no, row.session),
    )


def judge(database: Database, no: int) -> None:
    """Judge anew which registers of a session are in conflict, each by itself; the rest is judged by refreshing."""
    rows = database.execute("SELECT message, path, state FROM registers WHERE session = ?", (no,)).fetchall()
    judged = [
        (_conflict(path, from_wire(database, _decode_state(state))), no, message, path) for message, path, state in rows
    ]
    database.executemany("UPDATE registers SET conflict = ? WHERE session = ? AND message = ? AND path = ?", judged)


def touch(database: Database, no: int, at_ms: int) -> None:
    """Say that a session was written to at this time; an earlier time changes nothing."""
    database.execute(
        "UPDATE sessions SET touched = max(touched, ?1), updated_ms = max(updated_ms, ?1) WHERE no = ?2", (at_ms, no)
    )


def renumber(database: Database, session: int) -> None:
    """Bring the cached order of a session up to its births, and say whether an anchor is missing."""
    rows = database.execute(
        "SELECT no, id, after, inserted, clock, author, ord FROM messages WHERE session = ?", (session,)
    )
    places, numbers = [], {}
    for no, message_id, after, inserted, clock, author, position in rows.fetchall():
        places.append(Place(message_id, after, bool(inserted), database.stamp(clock, author).instant))
        numbers[message_id] = (no, position)
    ordered, orphans = walk(places)
    moved = [(at, numbers[each][0]) for at, each in enumerate(ordered, start=1) if numbers[each][1] != at]
    database.executemany("UPDATE messages SET ord = ? WHERE no = ?", moved)
    waiting = database.one("SELECT 1 FROM waiting WHERE session = ? LIMIT 1", (session,))
    database.execute(
        "UPDATE sessions SET incomplete = ? WHERE no = ?", (int(bool(orphans) or waiting is not None), session)
    )


def link_forks(database: Database, no: int, births: list[SessionBirth]) -> None:
    """Bring the cached line of originals of a session up to its births."""
    database.execute("DELETE FROM forks WHERE session = ?", (no,))
    above = enumerate(originals(births), start=1)
    database.executemany("INSERT INTO forks VALUES (?, ?, ?)", [(each, no, distance) for distance, each in above])


def message_births(database: Database, no: int, *, upto_seq: int) -> tuple[list[Stamp], list[Stamp]]:
    """The birth stamps of a session: of messages that had arrived by a number of the feed, and of the others."""
    arrived: list[Stamp] = []
    later: list[Stamp] = []
    for born_seq, stamps in _births(database, no):
        (arrived if born_seq <= upto_seq else later).extend(stamps)
    return arrived, later


def _births(database: Database, no: int) -> Iterator[tuple[int, list[Stamp]]]:
    rows = database.execute("SELECT born_seq, clock, author, births FROM messages WHERE session = ?", (no,))
    for born_seq, clock, author, births in rows:
        stamps = [database.stamp(clock, author)]
        if births is not None:
            stamps += [database.stamp(*each) for each in _decode_births(births)]
        yield born_seq, stamps


def _tags(registers: dict[str, Register]) -> list[str]:
    shown = [(register.shown, path.removeprefix("tags/")) for path, register in registers.items()]
    return [tag for _, tag in sorted((value_of(text), tag) for text, tag in shown if text != REMOVED)]


def _conflict(path: str, register: Register) -> int:
    if path == PURGED:
        return 0
    if path not in VECTORS:
        return int(register.conflict)
    by_hand = [value.text for stamp, value in register.open.items() if stamp.rank == BY_HAND]
    restored = any(text in (b"", b"null") for text in by_hand)
    deleted = any(found.upto or found.also for text in by_hand if (found := decode_vector(text)))
    return int(restored and deleted)


def _edited(row: MessageRow) -> MessageRow:
    return row if row.edited else msgspec.structs.replace(row, edited=1)


def _deleted_itself(database: Database, row: MessageRow) -> bool:
    deleted = load(database, row.session, _edited(row), "deleted")
    at_ms = message_deleted(deleted, load(database, row.session, _edited(row), "content"))
    overruled = at_ms is None and in_force(deleted) is not None
    database.execute(
        "UPDATE registers SET conflict = ? WHERE session = ? AND message = ? AND path = 'deleted'",
        (max(_conflict("deleted", deleted), int(overruled)), row.session, row.no),
    )
    return at_ms is not None


def _hand_birth_outside(database: Database, no: int, vector: Vector) -> bool:
    return any(
        any(stamp.rank == BY_HAND for stamp in stamps) and not vector.has(stamps) for _, stamps in _births(database, no)
    )


def _mark_within(database: Database, no: int, vectors: list[Vector]) -> None:
    if not vectors:
        database.execute("UPDATE messages SET hidden = hidden & ~? WHERE session = ?", (HIDDEN_IN_VECTOR, no))
        return
    rows = database.execute(
        "SELECT no, clock, author, births, hidden FROM messages WHERE session = ?", (no,)
    ).fetchall()
    changed = []
    for message, clock, author, births, hidden in rows:
        stamps = [database.stamp(clock, author)]
        if births is not None:
            stamps += [database.stamp(*each) for each in _decode_births(births)]
        bit = HIDDEN_IN_VECTOR if any(vector.has(stamps) for vector in vectors) else 0
        if hidden & HIDDEN_IN_VECTOR != bit:
            changed.append(((hidden & ~HIDDEN_IN_VECTOR) | bit, message))
    database.executemany("UPDATE messages SET hidden = ? WHERE no = ?", changed)


def _time_ms(text: bytes, fallback: int) -> int:
    try:
        return parse_time(value_of(text))
    except InvalidInput:
        return fallback
