"""A store that goes on as another device, because some other store writes under the same id.

    written before the fork   written since, published   written since, not published
    ───────────────────────── ────────────────────────── ────────────────────────────
    stays                     new id; what others were   new id; what it claimed to know of
                              told is known as before    the old one goes back to the fork

What was written since the fork gets the new id wherever a stamp stands: in births, registers, revisions, deletions,
actors. Else it would claim to know what the other store wrote meanwhile, and that would be dropped without a
conflict. It is found by its number in the feed, since clocks of two stores say nothing of each other
(tests/simulation/test_identity.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .caches import remake
from .database import Database
from .deletion import PURGED
from .registers import Known, Register, Value
from .rows import MESSAGE_COLUMNS, SESSION_COLUMNS, MessageRow, SessionRow, encode_births, session_births
from .stamps import REBUILT, Stamp
from .state import VECTORS, StateWire, birth_stamps, from_wire, to_wire

IDENTIFIED = "identified"
"""The name in ``meta`` of what was last said of this store's id: JSON, the time and a note."""

_decode_state = msgspec.msgpack.Decoder(StateWire).decode
_encode = msgspec.msgpack.encode
_SEEN = dict[str, dict[str, int]]


class Moment(msgspec.Struct, frozen=True):
    """Where a store stood: its feed's number, its clock, and the counter of its rebuilt stamps."""

    seq: int = 0
    clock: int = 0
    rebuilt: int = 0

    def of(self, rank: int) -> int:
        """The newest clock of a class that could stand in a stamp then."""
        return self.rebuilt if rank == REBUILT else self.clock


def moment(database: Database, seq: int) -> Moment:
    """Now, with the number up to which the feed was read for publishing. In a transaction."""
    clock, rebuilt = database.one(
        "SELECT max(hlc, ifnull((SELECT clock FROM messages ORDER BY seq DESC LIMIT 1), 0)), rebuilt FROM clock"
    )
    return Moment(seq, clock, rebuilt)


def is_written_since(database: Database, seq: int, floor: int) -> bool:
    """Say whether anything was written here that `local_changes` finds, or passes over as local-only."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM messages WHERE seq > ?1 AND local_seq > ?1) "
        "OR EXISTS (SELECT 1 FROM sessions WHERE seq > ?1 AND local_seq > ?2) "
        "OR EXISTS (SELECT 1 FROM messages m JOIN registers r ON r.session = m.session AND r.message = m.no "
        "WHERE m.seq > ?1 AND m.edited AND r.local_seq > ?2)"
    )
    return bool(database.one(sql, (seq, floor))[0])


def reidentify(database: Database, *, fork: Moment, told: Moment) -> str:
    """Go on under a new id, which is returned: all that was written here since ``fork`` gets it. In a transaction.

    ``told`` is when something was last published under the old id; it is ``fork`` where nothing was since.
    """
    old, new = database.device, database.random(12)
    database.device_no(new)
    _Restamping(database, old=old, new=new, fork=fork, told=told).run()
    database.set_meta("formerly", " ".join(dict.fromkeys([old, *database.former_devices])))
    database.set_meta("device", new)
    database.set_meta("store", database.random(8))
    database.set_cursor("files", 0)  # they are written anew, under the new name
    database.look_who()
    return new


class _Restamping:
    """The passage of one store's writes from one id to another."""

    def __init__(self, database: Database, *, old: str, new: str, fork: Moment, told: Moment) -> None:
        self._database = database
        self._old, self._new = old, new
        self._fork, self._told = fork, told

    def run(self) -> None:
        """Rewrite every row that was written here since the fork."""
        database, since = self._database, self._fork.seq
        sessions: set[int] = set()
        sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE seq > ?1 AND local_seq > ?1"  # noqa: S608
        for row in database.execute(sql, (since,)).fetchall():
            message = MessageRow(*row)
            if self._bear(message):
                sessions.add(message.session)
        sql = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE seq > ?1 AND local_seq > ?1"  # noqa: S608
        for row in database.execute(sql, (since,)).fetchall():
            if self._bear_session(SessionRow(*row)):
                sessions.add(row[0])
        sessions |= self._registers()
        self._actors()
        for no in sorted(sessions):
            remake(database, no)

    # Stamps

    def _moves(self, stamp: Stamp) -> bool:
        return stamp.device == self._old and stamp.clock > self._fork.of(stamp.rank)

    def _is_told(self, stamp: Stamp) -> bool:
        return stamp.clock <= self._told.of(stamp.rank)

    def _moved(self, stamp: Stamp) -> Stamp:
        return stamp._replace(device=self._new) if self._moves(stamp) else stamp

    def _births(self, stamps: Iterable[Stamp]) -> set[Stamp]:
        """The births of what was born under these: a birth that others were told of cannot be taken back."""
        stamps = set(stamps)
        return {self._moved(stamp) for stamp in stamps} | {
            stamp for stamp in stamps if not self._moves(stamp) or self._is_told(stamp)
        }

    # Births

    def _bear(self, row: MessageRow) -> bool:
        database = self._database
        before = birth_stamps(database, row)
        after = sorted(self._births(before), key=lambda stamp: stamp.instant)
        if after == before:
            return False
        least, *others = after
        pairs = [(stamp.clock, database.author(*stamp.writer)) for stamp in others]
        database.execute(
            "UPDATE messages SET clock = ?, author = ?, births = ? WHERE no = ?",
            (least.clock, database.author(*least.writer), _encode(pairs) if pairs else None, row.no),
        )
        return True

    def _bear_session(self, row: SessionRow) -> bool:
        database = self._database
        before = session_births(row.births)
        after = {
            msgspec.structs.replace(birth, author=database.author(*stamp.writer))
            for birth in before
            for stamp in self._births([database.stamp(birth.clock, birth.author)])
        }
        if after == set(before):
            return False
        births = sorted(after, key=lambda birth: (*database.stamp(birth.clock, birth.author).instant, birth))
        database.execute("UPDATE sessions SET births = ? WHERE no = ?", (encode_births(births), row.no))
        return True

    # Registers

    def _registers(self) -> set[int]:
        """Rewrite the registers that were written here since, and what they were; return the sessions."""
        database, since = self._database, self._fork.seq
        found = database.execute(
            "SELECT session, message, path, local_seq, state FROM registers WHERE local_seq > ?", (since,)
        ).fetchall()
        sessions: set[int] = set()
        for session, message, path, written, state in found:
            here = (session, message, path)
            past = database.execute(
                "SELECT from_seq, state FROM revisions WHERE session = ? AND message = ? AND path = ?", here
            ).fetchall()
            back = self._knowledge_before(here, [self._register(each) for _, each in past])
            moved = self._state(state, back, here, written)
            if moved is not None:
                database.execute(
                    "UPDATE registers SET state = ? WHERE session = ? AND message = ? AND path = ?", (moved, *here)
                )
                sessions.add(session)
            for from_seq, state_then in past:
                moved = self._state(state_then, back, here, from_seq) if from_seq > since else None
                if moved is not None:
                    database.execute(
                        "UPDATE revisions SET state = ? WHERE session = ? AND message = ? AND path = ? "
                        "AND from_seq = ?",
                        (moved, *here, from_seq),
                    )
        return sessions

    def _register(self, state: bytes) -> Register:
        return from_wire(self._database, _decode_state(state))

    def _knowledge_before(self, here: tuple[int, int, str], past: list[Register]) -> Known:
        """What a register knew of the old id's stamps before the writes of which nobody was told."""
        [purged] = self._database.one("SELECT history_seq FROM sessions WHERE no = ?", (here[0],))
        known: Known = {}
        if purged > self._fork.seq:  # its past is gone: it knew all that is common, if it knew anything
            known = {(self._old, rank): self._fork.of(rank) for rank in (0, 1, 2) if self._fork.of(rank)}
        for register in past:
            for (device, rank), clock in register.known.items():
                if device == self._old and clock <= self._told.of(rank):
                    known[device, rank] = max(known.get((device, rank), 0), clock)
        return known

    def _state(self, state: bytes, back: Known, here: tuple[int, int, str], written: int) -> bytes | None:
        """The state with the new id; None where it stays as it is."""
        before = self._register(state)
        opened: dict[Stamp, Value] = {}
        for stamp, value in before.open.items():
            moved = value if not self._moves(stamp) else self._value(value, back, here, written)
            opened[self._moved(stamp)] = moved
        after = Register(opened, self._known(before.known, back))
        return None if after == before else _encode(to_wire(self._database, after))

    def _known(self, known: Known, back: Known) -> Known:
        """What others were told that was known stays; what nobody was told goes back to what it was before."""
        moved: Known = {}
        for (device, rank), clock in known.items():
            writer, stamp = (device, rank), Stamp(rank, clock, device)
            if not self._moves(stamp):
                moved[writer] = clock
                continue
            moved[self._new, rank] = clock
            if self._is_told(stamp):
                moved[writer] = clock
            elif writer in back:
                moved[writer] = back[writer]
        return moved

    # What a value says of other stamps

    def _value(self, value: Value, back: Known, here: tuple[int, int, str], written: int) -> Value:
        text, seen = value
        if here[2] in (*VECTORS, PURGED) and text not in (b"", b"null"):
            text = self._vector(text, self._others_seen(here[0], written) if here[1] == 0 else [])
        if seen:
            found = msgspec.json.decode(seen, type=_SEEN)
            seen = msgspec.json.encode({path: _named(self._known(_knew(met), back)) for path, met in found.items()})
        return Value(text, seen)

    def _vector(self, text: bytes, others: list[Stamp]) -> bytes:
        """A deletion, with its own births under the new id; what it saw of the other store's is named one by one."""
        said: dict[str, Any] = msgspec.json.decode(text)
        upto: Known = {}
        also = {Stamp(*each) for each in said.get("also", [])}
        for (device, rank), clock in _knew(said.get("upto", {})).items():
            stamp = Stamp(rank, clock, device)
            if self._moves(stamp):
                upto[self._new, rank] = clock
                also |= {each for each in others if each.rank == rank and each.clock <= clock}
                clock = self._fork.of(rank)  # noqa: PLW2901  the fork's, where anything was before it
            if clock:
                upto[device, rank] = clock
        said["upto"] = _named(upto)
        said["also"] = sorted(self._births(also))
        return msgspec.json.encode(said)

    def _others_seen(self, session: int, seq: int) -> list[Stamp]:
        """The births under the old id that arrived from elsewhere since the fork, and before a number of the feed."""
        sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ? AND local_seq = 0 AND born_seq BETWEEN ? AND ?"  # noqa: S608
        rows = self._database.execute(sql, (session, self._fork.seq + 1, seq)).fetchall()
        births = (birth_stamps(self._database, MessageRow(*row)) for row in rows)
        return [stamp for stamps in births for stamp in stamps if self._moves(stamp)]

    # What hangs on them

    def _actors(self) -> None:
        database = self._database
        old, new = database.device_no(self._old), database.device_no(self._new)
        database.execute(
            "INSERT OR IGNORE INTO actors SELECT ?, clock, actor FROM actors WHERE device = ? AND clock > ?",
            (new, old, self._fork.clock),
        )
        database.execute("DELETE FROM actors WHERE device = ? AND clock > ?", (old, self._told.clock))


def _knew(named: dict[str, int]) -> Known:
    """Knowledge as deletions and leaves of documents spell it."""
    return {(name.rpartition(":")[0], int(name.rpartition(":")[2])): clock for name, clock in named.items()}


def _named(known: Known) -> dict[str, int]:
    return {f"{device}:{rank}": clock for (device, rank), clock in sorted(known.items())}
