"""Merging what other devices wrote into this store.

Applying a change twice, or changes in any order, ends in the same state. A record that cannot
be true is refused alone and named; the others go on (tests/unit/test_apply.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .actors import keep
from .change import Batch, RegisterState, SessionChange
from .database import Database
from .deletion import MAX_LIFE, PURGED, check_purge, in_force, purge_knew, purged_life
from .deletion import decode as decode_vector
from .document import leaves
from .errors import InvalidInput
from .lives import meet, rescue_edit
from .model import (
    check_content,
    check_message_id,
    check_ms,
    check_object,
    check_role,
    check_session_id,
    check_text,
    is_plain_id,
    parse_time,
)
from .registers import EMPTY, MAX_PATH_LENGTH, REMOVED, Known, Register, Value, join_known, merge
from .rows import (
    HIDDEN_FOR_EVER,
    HIDDEN_IN_VECTOR,
    INSERT_QUICKLY,
    MESSAGE_COLUMNS,
    SCALARS,
    Born,
    MessageRow,
    SessionBirth,
    SessionRow,
    decode_json,
    encode_births,
    erased,
    quick,
    scalar_text,
    session_births,
    size_bytes,
)
from .saves import forget_messages
from .stamps import BY_HAND, plausible
from .state import (
    StateWire,
    birth_stamps,
    find_message,
    from_wire,
    implied,
    link_forks,
    load,
    materialise_metadata,
    recount,
    refresh_message,
    refresh_session,
    renumber,
    retitle,
    save,
    session_row,
    to_wire,
)
from .store import Store
from .tombstones import erase_message, join_purge

SLICE_ROWS = 2000
_POISON = (InvalidInput, msgspec.ValidationError, msgspec.DecodeError, ValueError, OverflowError, RecursionError)
_KEPT_FOR_EVER = {"title", "status", "provider", "model", "user_id", *SCALARS}
_decode_pairs = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode
_decode_state = msgspec.msgpack.Decoder(StateWire).decode
_encode = msgspec.msgpack.encode


_Registers = dict[str | None, dict[str, Register]]
"""By message (None: the session) and path."""


class Applied(msgspec.Struct):
    """What applying did: sessions that changed, messages that were new, records that were refused.

    ``rescued`` says where that went which was written here and which somebody purged without knowing of it.
    """

    sessions: int = 0
    messages: int = 0
    refused: list[str] = []
    rescued: list[str] = []


def slices(batch: Batch, *, rows: int = SLICE_ROWS) -> Iterator[list[SessionChange]]:
    """A batch in parts of about ``rows`` rows, each for one transaction. A message keeps its registers with it."""
    part: list[SessionChange] = []
    size = 0
    for change in batch.sessions:
        for piece in _pieces(change, rows):
            part.append(piece)
            size += 1 + len(piece.messages) + len(piece.registers)
            if size >= rows:
                yield part
                part, size = [], 0
    if part:
        yield part


def apply(store: Store, batch: Batch, part: list[SessionChange], *, done: Applied) -> None:
    """Merge one slice of a batch. Needs a transaction; what was done is added to ``done``."""
    authors = _Authors(store, batch.devices)
    for change in part:
        try:
            check_session_id(change.id)
            births = [_session_birth(birth, authors) for birth in change.births]
            if not births or not 0 < change.life <= MAX_LIFE:
                raise InvalidInput("a session without a birth")
            check_ms(change.touched, "the last write to a session")
        except (InvalidInput, msgspec.ValidationError, msgspec.DecodeError) as exc:
            done.refused.append(f"session {change.id[:80]!r}: {exc}")
            continue
        _Session(store, change, births, authors, done).apply()


class _Authors:
    """Translates the sender's device numbers into ours, and lets our clock follow."""

    def __init__(self, database: Database, devices: dict[int, str]) -> None:
        self._database = database
        self._devices = devices
        self._known: dict[int, int] = {}
        self.newest = 0
        self.roles: set[str] = set()
        """Those that were checked: of many messages there are few."""

    def __getitem__(self, author: int) -> int:
        local = self._known.get(author)
        if local is None:
            number, rank = divmod(author, 4)
            device = self._devices.get(number)
            if device is None or rank > BY_HAND or not (len(device) == 12 and device.isascii() and device.isalnum()):
                raise InvalidInput(f"an author that is no device ({author})")
            local = self._known[author] = self._database.author(device, rank)
        return local

    def met(self, clock: int) -> int:
        if not plausible(clock):
            raise InvalidInput(f"a stamp beyond the year 2200 is refused ({clock})")
        self.newest = max(self.newest, clock)
        return clock


class _Session:
    """The merge of one session's change."""

    def __init__(
        self,
        store: Store,
        change: SessionChange,
        births: list[SessionBirth],
        authors: _Authors,
        done: Applied,
    ) -> None:
        self._store = store
        self._change = change
        self._births = births
        self._authors = authors
        self._done = done
        self._new = False
        self._changed = False
        self._renumber = False
        self._recount = False
        self._retitle = False
        self._paths: set[str] = set()
        self._fresh: set[str] = set()
        self._erased: list[MessageRow] = []
        self._touched_messages: dict[int, tuple[MessageRow, set[str]]] = {}

    def apply(self) -> None:
        store, change = self._store, self._change
        registers = self._registers()
        ended = registers.get(None, {}).pop(PURGED, EMPTY)
        if change.life - purged_life(ended) not in (0, 1):
            self._done.refused.append(f"session {change.id[:80]!r}: a life without the end of the one before")
            return
        met = meet(store, change.id, life=change.life, births=self._births, touched=change.touched, ended=ended)
        self._new, self._changed, row = met.new, met.changed, met.row
        if met.rescued is not None:
            what = f"session {change.id} was purged on another device"
            self._done.rescued.append(f"{what}; what was written here meanwhile is session {met.rescued} now")
        if row is None:
            store.follow(self._authors.newest)
            self._done.sessions += int(self._changed)
            return
        if not met.new:
            self._join_births(row)
        fresh, known = self._sorted(row, registers)
        self._insert(row, fresh, registers)
        for born, local in known:
            self._join_message(row, born, local, registers.get(born.id, {}))
        for message_id, states in registers.items():
            self._join_registers(row, message_id, states)
        if row.incomplete:
            self._take_waiting(row)
        forget_messages(store, row.no, self._erased)
        if change.actors:
            refused = keep(store, change.actors, local_author=self._authors.__getitem__)
            self._done.refused += [f"{why} of session {change.id[:80]!r}" for why in refused]
        self._finish(row)

    def _registers(self) -> _Registers:
        """The registers of the change that can be, by message; the others are refused, each alone."""
        found: _Registers = {}
        for state in self._change.registers:
            try:
                if state.message is not None:
                    check_message_id(state.message)
                register = _register(self._store, state, self._authors)
            except _POISON as exc:
                self._done.refused.append(f"{state.path[:80]!r} of session {self._change.id[:80]!r}: {exc}")
                continue
            found.setdefault(state.message, {})[state.path] = register
        return found

    def _join_births(self, row: SessionRow) -> None:
        ours = session_births(row.births)
        joined = sorted({*ours, *self._births}, key=self._instant)
        if joined != ours:
            store = self._store
            seq, _ = store.advance()
            store.execute(
                "UPDATE sessions SET births = ?, seq = ?, created_ms = ? WHERE no = ?",
                (encode_births(joined), seq, joined[0].created_ms, row.no),
            )
            link_forks(store, row.no, joined)
            self._changed = self._recount = True

    def _instant(self, birth: SessionBirth) -> tuple[int, str, SessionBirth]:
        return (*self._store.stamp(birth.clock, birth.author).instant, birth)

    def _sorted(self, row: SessionRow, registers: _Registers) -> tuple[list[Born], list[tuple[Born, MessageRow]]]:
        """The messages that are new here, and those that are here already."""
        checked = []
        for born in self._change.messages:
            try:
                checked.append(_checked(born, self._authors))
            except _POISON as exc:
                self._done.refused.append(f"message {born.id[:80]!r} of session {self._change.id[:80]!r}: {exc}")
                registers.pop(born.id, None)
        if self._new or not checked:
            return _unique(checked), []
        here: dict[str, MessageRow] = {}
        ids = _encode_ids([born.id for born in checked])
        sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ? AND id IN (SELECT value FROM json_each(?))"  # noqa: S608
        for found in self._store.execute(sql, (row.no, ids)):
            here[found[8]] = MessageRow(*found)
        fresh = [born for born in checked if born.id not in here]
        return _unique(fresh), [(born, here[born.id]) for born in checked if born.id in here]

    def _insert(self, row: SessionRow, fresh: list[Born], registers: _Registers) -> None:
        if not fresh:
            return
        store = self._store
        purged = self._purged(row, registers)
        fresh = [erased(born) if born.id in purged else born for born in fresh]
        seq, _ = store.advance(len(fresh))
        sql = "SELECT id, ord FROM messages WHERE session = ? ORDER BY ord DESC LIMIT 1"
        tail, place = (None if self._new else store.one(sql, (row.no,))) or (None, 0)
        self._renumber |= bool(row.incomplete)
        hidden_by = self._vectors(row)
        rows = []
        newest = row.updated_ms
        shown = shown_bytes = 0
        for at, born in enumerate(fresh):
            place += 1
            if born.inserted or born.after != tail:
                self._renumber = True
            tail = born.id
            hidden = HIDDEN_IN_VECTOR if hidden_by and any(v.has(birth_stamps(store, born)) for v in hidden_by) else 0
            content_bytes = size_bytes(born.content)
            if not hidden:
                shown += 1
                shown_bytes += content_bytes
                newest = max(newest, born.time_ms)
            values = (row.no, place, seq + at, 0, seq + at, hidden, int(born.id in registers), *_fields(born))
            rows.append(quick(values, content_bytes=content_bytes))
        store.executemany(INSERT_QUICKLY, rows)
        self._fresh = {born.id for born in fresh}
        store.execute(
            "UPDATE sessions SET message_count = message_count + ?, size_bytes = size_bytes + ?, "
            "updated_ms = max(updated_ms, ?) WHERE no = ?",
            (shown, shown_bytes, newest, row.no),
        )
        if row.vectors:
            self._paths.add("deleted")
        self._changed = True
        self._done.messages += len(fresh)

    def _purged(self, row: SessionRow, registers: _Registers) -> set[str]:
        """The messages of which is known that they were purged, before they have arrived."""
        named = {message_id for message_id, states in registers.items() if message_id and PURGED in states}
        if not row.incomplete:  # nothing waits
            return named
        waiting = self._store.execute("SELECT message FROM waiting WHERE session = ? AND path = ?", (row.no, PURGED))
        return named | {message_id for (message_id,) in waiting}

    def _vectors(self, row: SessionRow) -> list[Any]:
        if not row.vectors:
            return []
        found = [in_force(load(self._store, row.no, None, path)) for path in ("deleted", "cleared")]
        return [each for each in found if each is not None]

    def _join_message(self, row: SessionRow, born: Born, local: MessageRow, explicit: Mapping[str, Register]) -> None:
        """Merge a message that is here already: it may have been born a second time, on another device."""
        store = self._store
        ours, theirs = birth_stamps(store, local), birth_stamps(store, born)
        if local.hidden & HIDDEN_FOR_EVER or PURGED in explicit:
            self._extend_births(local, erased(born), ours, theirs)
            return
        with_metadata = any(path.startswith("metadata/") for path in explicit)
        if set(theirs) <= set(ours) and _same(local, born):
            return
        incoming = {path: implied(store, born, scalar_text(born, path)) for path in SCALARS}
        incoming |= {path: register for path, register in explicit.items() if path in SCALARS}
        # Read before our births meet theirs: the text that we imply is not what they were born with.
        before = {path: load(store, row.no, local, path) for path in SCALARS}
        merged = {path: merge(before[path], register) for path, register in incoming.items()}
        if born.metadata != local.metadata or local.edited or with_metadata:
            materialise_metadata(store, local)
            local = _again(store, local)
            if local.metadata:  # it is shown as its leaves replay from now on: their order may be another
                self._touched_messages.setdefault(local.no, (local, set()))[1].add("metadata/")
            if born.metadata and not with_metadata:
                for where, text in leaves(decode_json(born.metadata)):
                    self._join_register(row, local, f"metadata{where}", implied(store, born, text))
        stays_implied = {path for path in merged if not _explicit(store, local, path)}
        self._extend_births(local, born, ours, theirs)
        local = _again(store, local)
        if local.edited:  # whoever deleted it did not know of a birth that it has only now
            self._touched_messages.setdefault(local.no, (local, set()))[1].add("deleted")
        for path, register in merged.items():
            if path in stays_implied and register == implied(store, local, scalar_text(local, path)):
                continue
            self._keep_register(row, local, path, before[path], register)

    def _extend_births(self, local: MessageRow, born: Born, ours: list[Any], theirs: list[Any]) -> None:
        if set(theirs) <= set(ours):
            return
        store = self._store
        together = sorted({*ours, *theirs}, key=lambda stamp: stamp.instant)
        least, *others = together
        elder = born if least in theirs and least not in ours else local
        pairs = [(stamp.clock, store.author(*stamp.writer)) for stamp in others]
        seq, _ = store.advance()
        store.execute(
            "UPDATE messages SET clock = ?, author = ?, births = ?, after = ?, inserted = ?, role = ?, origin = ?, "
            "seq = ? WHERE no = ?",
            (
                least.clock,
                store.author(*least.writer),
                _encode(pairs),
                elder.after,
                elder.inserted,
                elder.role,
                elder.origin,
                seq,
                local.no,
            ),
        )
        self._renumber = self._changed = self._recount = True
        if self._vectors(session_row(store, local.session)):
            self._paths.add("deleted")

    def _join_registers(self, row: SessionRow, message_id: str | None, registers: Mapping[str, Register]) -> None:
        local = None if message_id is None else find_message(self._store, row.no, message_id)
        if message_id is not None and self._is_purged(row, message_id, local, registers):
            registers = {path: register for path, register in registers.items() if path == PURGED}
            if local is not None and registers:
                self._purge(row, local, registers[PURGED])
            if local is not None:
                return
        for path, register in registers.items():
            if message_id is not None and local is None:
                self._wait(row, message_id, path, register)
                continue
            if local is not None and local.id not in self._fresh:
                local = self._ready(local, path)
            self._join_register(row, local, path, register)

    def _is_purged(
        self, row: SessionRow, message_id: str, local: MessageRow | None, registers: Mapping[str, Register]
    ) -> bool:
        """Say whether a message is purged, or is to be: then nothing else of it is kept, not even until it arrives."""
        if local is not None:
            return PURGED in registers or bool(local.hidden & HIDDEN_FOR_EVER)
        here = (row.no, message_id, PURGED)
        if PURGED in registers:
            self._store.execute("DELETE FROM waiting WHERE session = ? AND message = ? AND path != ?", here)
            return True
        sql = "SELECT 1 FROM waiting WHERE session = ? AND message = ? AND path = ?"
        return self._store.one(sql, here) is not None

    def _purge(self, row: SessionRow, local: MessageRow, register: Register) -> None:
        """Erase a message that was purged elsewhere."""
        store = self._store
        before = load(store, row.no, local, PURGED)
        merged = merge(before, register)
        if merged == before:
            return
        rescued = None if local.id in self._fresh else rescue_edit(store, local, purge_knew(merged))
        if rescued is not None:
            what = f"message {local.id} of session {row.id} was purged on another device"
            self._done.rescued.append(f"{what}; what was written here meanwhile is message {rescued} now")
        seq, _ = store.advance()
        if local.hidden & HIDDEN_FOR_EVER:
            join_purge(store, row.no, local, merged, seq=seq)
        else:
            self._tell_when_written(row, local)
            erase_message(store, local, merged, seq=seq, local=False)
            self._erased.append(local)
        self._touched_messages.pop(local.no, None)
        self._changed = self._recount = self._retitle = True
        if row.vectors:
            self._paths.add("deleted")

    def _tell_when_written(self, row: SessionRow, local: MessageRow) -> None:
        """Publish the session where the message was written to here: nothing else tells when, once it is erased."""
        store = self._store
        sql = "SELECT 1 FROM registers WHERE session = ? AND message = ? AND local_seq > 0 LIMIT 1"
        if store.one(sql, (row.no, local.no)) is not None:
            seq, _ = store.advance()
            store.execute("UPDATE sessions SET seq = ?1, local_seq = ?1 WHERE no = ?2", (seq, row.no))

    def _ready(self, local: MessageRow, path: str) -> MessageRow:
        """The row, its metadata leaves given rows of their own before the first of them is written."""
        if not path.startswith("metadata/"):
            return local
        materialise_metadata(self._store, local)
        return _again(self._store, local)

    def _join_register(self, row: SessionRow, local: MessageRow | None, path: str, register: Register) -> None:
        """Merge one register. A message that came with this change brought all its registers, so nothing is implied."""
        store = self._store
        just_born = local is not None and local.id in self._fresh and not _explicit(store, local, path)
        ours = EMPTY if just_born else load(store, row.no, local, path)
        self._keep_register(row, local, path, ours, merge(ours, register))

    def _keep_register(
        self, row: SessionRow, local: MessageRow | None, path: str, before: Register, merged: Register
    ) -> None:
        if merged == before:
            return
        seq, _ = self._store.advance()
        save(self._store, row.no, local, path, before, merged, seq=seq, local=False)
        self._changed = True
        if local is None:
            self._paths.add(path)
        else:
            self._touched_messages.setdefault(local.no, (local, set()))[1].add(path)

    def _wait(self, row: SessionRow, message_id: str, path: str, register: Register) -> None:
        """Keep a register whose message has not arrived."""
        store = self._store
        found = store.one(
            "SELECT state FROM waiting WHERE session = ? AND message = ? AND path = ?", (row.no, message_id, path)
        )
        if found:
            register = merge(from_wire(store, _decode_state(found[0])), register)
        store.execute(
            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)",
            (row.no, message_id, path, _encode(to_wire(store, register))),
        )
        store.execute("UPDATE sessions SET incomplete = 1 WHERE no = ?", (row.no,))

    def _take_waiting(self, row: SessionRow) -> None:
        """Apply the registers that waited for a message which is here now."""
        store = self._store
        rows = store.execute(
            "SELECT w.message, w.path, w.state FROM waiting w "
            "JOIN messages m ON m.session = w.session AND m.id = w.message WHERE w.session = ?",
            (row.no,),
        ).fetchall()
        for message_id, path, state in rows:
            local = find_message(store, row.no, message_id)
            if local is not None and path == PURGED:
                self._purge(row, local, from_wire(store, _decode_state(state)))
            elif local is not None and not local.hidden & HIDDEN_FOR_EVER:
                local = self._ready(local, path)
                self._fresh.discard(local.id)
                self._join_register(row, local, path, from_wire(store, _decode_state(state)))
            store.execute(
                "DELETE FROM waiting WHERE session = ? AND message = ? AND path = ?", (row.no, message_id, path)
            )
        self._renumber |= bool(rows)

    def _finish(self, row: SessionRow) -> None:
        store, no = self._store, row.no
        if self._authors.newest:
            store.follow(self._authors.newest)
        if not self._new:
            store.execute("UPDATE sessions SET touched = max(touched, ?) WHERE no = ?", (self._change.touched, no))
        recounting = self._recount
        for local, paths in self._touched_messages.values():
            # Read anew: it may have been born a second time since it was read.
            recounting |= refresh_message(store, _again(store, local), paths) or "timestamp" in paths
        if self._renumber:
            renumber(store, no)
        if recounting or self._touched_messages:
            recount(store, no)
        if not self._new:  # which begins with that
            store.execute("UPDATE sessions SET updated_ms = max(updated_ms, touched) WHERE no = ?", (no,))
        refresh_session(store, no, self._paths)
        if not self._paths & {"deleted", "cleared", "title"} and self._changed:
            now = session_row(store, no)
            if now.automatic and (self._touched_messages or self._renumber or self._retitle or not now.title):
                retitle(store, no)
        self._done.sessions += int(self._changed)


def _pieces(change: SessionChange, rows: int) -> Iterator[SessionChange]:
    if len(change.messages) <= rows:
        yield change
        return
    registers: dict[str | None, list[RegisterState]] = {}
    for register in change.registers:
        registers.setdefault(register.message, []).append(register)
    replace = msgspec.structs.replace
    ended = [state for state in registers.get(None, []) if state.path == PURGED]  # tells each piece its life
    for start in range(0, len(change.messages), rows):
        part = change.messages[start : start + rows]
        with_them = [*ended, *(state for born in part for state in registers.pop(born.id, []))]
        yield replace(change, messages=part, registers=with_them, actors=[])
    yield replace(change, messages=[], registers=[state for states in registers.values() for state in states])


def _session_birth(birth: SessionBirth, authors: _Authors) -> SessionBirth:
    for text in (birth.forked_from, birth.source):
        if text is not None:
            check_object(decode_json(text), "the birth of a session")
    check_ms(birth.created_ms, "the birth of a session")
    return msgspec.structs.replace(birth, clock=authors.met(birth.clock), author=authors[birth.author])


def _checked(born: Born, authors: _Authors) -> Born:
    """The message with our device numbers; raises `InvalidInput` for one that cannot be."""
    if not is_plain_id(born.id):
        check_message_id(born.id)
    if born.role not in authors.roles:
        authors.roles.add(check_role(born.role))
    check_ms(born.time_ms, "the time of a message")
    if born.inserted not in (0, 1):
        raise InvalidInput("a message that no steno writes")
    if not isinstance(born.content, str):
        check_content(decode_json(born.content) if isinstance(born.content, bytes) else born.content)
    for text in (born.usage, born.metadata, born.origin):
        if text is not None:
            check_object(decode_json(text), "a field of a message")
    if born.time_text is not None:
        parse_time(born.time_text)
    births = born.births
    if births is not None:
        births = _encode([(authors.met(clock), authors[author]) for clock, author in _decode_pairs(births)])
    return msgspec.structs.replace(born, clock=authors.met(born.clock), author=authors[born.author], births=births)


def _register(database: Database, state: RegisterState, authors: _Authors) -> Register:
    """The register of a state; raises `InvalidInput` for one that cannot be."""
    if not 0 < len(state.path) <= MAX_PATH_LENGTH:
        raise InvalidInput("a register without a path, or with one that is too long")
    opened, known = state.state
    if not opened and state.path in _KEPT_FOR_EVER:
        raise InvalidInput(f"{state.path} without a value")
    values: dict[Any, Value] = {}
    for clock, author, text, seen in opened:
        _check_value(state, text)
        values[database.stamp(authors.met(clock), authors[author])] = Value(text, seen)
    met: Known = {database.stamp(0, authors[author]).writer: authors.met(clock) for author, clock in known}
    for stamp in values:
        met = join_known(met, {stamp.writer: stamp.clock})
    return Register(values, met)


def _check_value(state: RegisterState, text: bytes) -> None:
    head = state.path.partition("/")[0]
    if head == PURGED:
        check_purge(text)
    elif head in ("deleted", "cleared"):
        decode_vector(text)
    elif text != REMOVED:
        value = decode_json(text)
        if head == "content":
            check_content(value)
        elif head == "timestamp":
            parse_time(value)
        elif head == "usage" and value is not None:
            check_object(value, head)
        elif head == "tags":
            if not isinstance(value, int):
                raise InvalidInput("the place of a tag must be a number")
        elif head in ("title", "status", "provider", "model", "user_id", "sender", "parent") and value is not None:
            check_text(value, head)
    elif head in _KEPT_FOR_EVER:
        raise InvalidInput(f"{head} cannot be removed")


_fields = msgspec.structs.astuple


def _unique(fresh: list[Born]) -> list[Born]:
    return list({born.id: born for born in fresh}.values())


def _encode_ids(ids: list[str]) -> str:
    return msgspec.json.encode(ids).decode()


def _same(local: MessageRow, born: Born) -> bool:
    return not local.edited and all(getattr(local, name) == getattr(born, name) for name in _SHOWN)


def _explicit(database: Database, local: MessageRow, path: str) -> bool:
    found = database.one(
        "SELECT 1 FROM registers WHERE session = ? AND message = ? AND path = ?", (local.session, local.no, path)
    )
    return found is not None


def _again(database: Database, local: MessageRow) -> MessageRow:
    row = find_message(database, local.session, local.id)
    return local if row is None else row


_SHOWN = ("sender", "content", "time_ms", "time_text", "parent", "model", "usage", "metadata")
