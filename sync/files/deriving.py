"""A file as derived data: what it shows and the store does not know is added, and nothing is taken away.

A store that lost its database has no base to compare a file with. The file may be older than what others
wrote meanwhile, or newer than what this device had sent, so each value that it shows is weighed by itself:

    nothing is known of the register        it is written as rebuilt, and yields to whatever anybody wrote
    it is shown, or was once                nothing: the file is as it should be, or stale
    the last word was the lost device's     an edit that was never sent: written by hand, in conflict
    the last word was another's             it yields: nobody can say which is newer

A message that is not known is added as rebuilt; by hand where a person typed it, as a line without an id shows, and
where whoever deleted the session did not know of it. What was deleted or purged stays so
(tests/unit/test_deriving.py, tests/simulation/test_rebuilds_converge.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from ...storage.apply import Applied, apply
from ...storage.change import VERSION, Batch, SessionChange
from ...storage.deletion import PURGED
from ...storage.document import leaves, related
from ...storage.edit import Edit
from ...storage.errors import InvalidInput
from ...storage.local_only import keep_here
from ...storage.model import Json, NewMessage, automatic_title, parse_time, plain_text
from ...storage.registers import EMPTY, Known, Register, text_of, value_of
from ...storage.rows import (
    HIDDEN_FOR_EVER,
    MessageRow,
    SessionRow,
    decode_json,
    json_column,
    message,
    session_births,
)
from ...storage.stamps import BY_HAND, REBUILT
from ...storage.state import (
    StateWire,
    family,
    find_message,
    from_wire,
    implied,
    load,
    recount,
    refresh_session,
    retitle,
    session_row,
)
from ...storage.store import Placed, Store, check_new
from .absorb import TO_KEEP, Save, births_given, keep_save
from .alignment import accepted
from .lines import Header, Line, ParsedFile, Refused, line_of, parse_rev

_PLAIN = ("provider", "model", "user_id")
_FIELDS = ("sender", "content", "timestamp", "parent", "model", "usage")
_decode_state = msgspec.msgpack.Decoder(StateWire).decode

Verdict = Literal["new", "known", "edit", "yields"]


class Shown(NamedTuple):
    """A value that a file shows: of a message, or of the session (None), at a register's path."""

    message: str | None
    path: str
    value: Json


class Derived(msgspec.Struct, frozen=True):
    """What a file became: its session by number, whether that is new, and how many messages it added.

    ``edits`` are written by hand, in conflict; ``yielded`` is what the file shows and the store does not.
    """

    session: int
    created: bool
    added: int
    edits: list[Shown]
    yielded: list[Shown]


def verdict(
    register: Register, earlier: Iterable[Register], *, same: Callable[[bytes], bool], lost: Collection[str]
) -> Verdict:
    """What becomes of a value that a file shows; ``same`` says whether a text is that value.

    ``earlier`` are the states that the register had, ``lost`` the ids of the device whose database was lost.
    """
    if not register.open:
        return "new"
    if any(same(value.text) for each in (register, *earlier) for value in each.open.values()):
        return "known"
    return "edit" if {stamp.device for stamp in register.open} <= set(lost) else "yields"


def derive(store: Store, mine: ParsedFile, *, session_id: str, lost: Collection[str]) -> Derived:
    """Add to a session what a file of it shows. Needs a transaction.

    Raises `Refused` for a file that may bring back what was purged, or that holds what no session can.
    """
    row = store.find(session_id)
    if row is None and store.lives_over(session_id):
        raise Refused(1, f"session {session_id} was purged; {TO_KEEP}")
    created = row is None
    try:
        row = _born(store, mine, session_id) if row is None else row
        if mine.header is not None and mine.header.local_only:  # also where another device has one of this id
            keep_here(store, row.no)
        deriving = _Deriving(store, row, mine, lost)
        if not row.hidden and mine.header is not None:
            deriving.weigh_header(mine.header)
        deriving.weigh_lines()
        return deriving.carry_out(created=created)
    except Refused:
        raise
    except InvalidInput as exc:
        raise Refused(None, str(exc)) from exc


def _born(store: Store, mine: ParsedFile, session_id: str) -> SessionRow:
    stated = mine.header or Header()
    times = [stated.created_at] if stated.created_at else [line.timestamp for line in mine.lines if line.timestamp]
    return store.insert_session(
        session_id,
        created_ms=min(map(parse_time, times), default=None),
        forked_from=json_column(stated.forked_from),
        source=json_column(stated.source),
        rank=REBUILT,
        metadata=stated.metadata,
        local_only=stated.local_only,
    )


class _Deriving:
    """One file on its way into one session."""

    def __init__(self, store: Store, row: SessionRow, mine: ParsedFile, lost: Collection[str]) -> None:
        self._store, self._row, self._lost = store, row, lost
        self._held = {each.id: each for each in store.message_rows(row.no, hidden=True)}
        purged = _purged(store, row)
        kept = [at for at, line in enumerate(mine.lines) if line.id not in purged]
        self._mine = msgspec.structs.replace(
            mine, lines=[mine.lines[at] for at in kept], numbers=[mine.numbers[at] for at in kept]
        )
        # Also the title that a purged message made.
        self._automatic_titles = {_automatic_title(mine.lines), _automatic_title(self._mine.lines)}
        self._new: list[Shown] = []
        self._edits: list[Shown] = []
        self._yielded: list[Shown] = []
        self._placed: list[Placed] = []
        self._ids: list[str] = []

    # What the file shows

    def weigh_header(self, stated: Header) -> None:
        """Weigh the fields of the session. What a field has when nobody wrote it says nothing."""
        title = " ".join(stated.title.split())
        if title not in ("", self._row.title, *self._automatic_titles):
            self._weigh(None, "title", title)
        if stated.status not in (None, "active"):
            self._weigh(None, "status", stated.status)
        for field in _PLAIN:
            if (value := getattr(stated, field)) is not None:
                self._weigh(None, field, value)
        self._weigh_tags(stated.tags)
        for name in ("metadata", "state"):
            self._weigh_document(None, name, getattr(stated, name))

    def _weigh_tags(self, tags: Sequence[str]) -> None:
        """A tag that anybody ever gave or took away is as it was left; the others stand behind."""
        registers = family(self._store, self._row.no, 0, "tags")
        last = max((value_of(each.shown) or 0 for each in registers.values()), default=0)
        missing = [tag for tag in tags if f"tags/{tag}" not in registers]
        self._new += [Shown(None, f"tags/{tag}", last + place) for place, tag in enumerate(missing, start=1)]

    def _weigh_document(self, held: MessageRow | None, name: str, stated: dict[str, Json]) -> None:
        if not stated:
            return
        registers = _document(self._store, self._row, held, name)
        for where, text in leaves(stated):
            path = name + where
            around = [each for other, each in registers.items() if related(other, path)]
            self._judge(held, path, value_of(text), registers.get(path, EMPTY), around=around)

    def _weigh(self, held: MessageRow | None, path: str, value: Json) -> None:
        self._judge(held, path, value, load(self._store, self._row.no, held, path))

    def _judge(
        self, held: MessageRow | None, path: str, value: Json, register: Register, *, around: Sequence[Register] = ()
    ) -> None:
        shown = Shown(held.id if held else None, path, value)
        earlier = self._earlier(held, path)
        found = verdict(register, earlier, same=lambda text: _same(path, value_of(text), value), lost=self._lost)
        if found == "new":  # where it stands above or below others it is they that have the last word
            together = {stamp: each for other in around for stamp, each in other.open.items()}
            found = verdict(Register(together, {}), (), same=lambda _: False, lost=self._lost)
        match found:
            case "new":
                self._new.append(shown)
            case "edit" if held is None or not held.hidden:
                self._edits.append(shown)
            case "edit" | "yields":
                self._yielded.append(shown)
            case "known":
                pass

    def _earlier(self, held: MessageRow | None, path: str) -> Iterator[Register]:
        sql = "SELECT state FROM revisions WHERE session = ? AND message = ? AND path = ?"
        rows = self._store.execute(sql, (self._row.no, held.no if held else 0, path)).fetchall()
        return (from_wire(self._store, _decode_state(state)) for (state,) in rows)

    def weigh_lines(self) -> None:
        """Weigh the lines of messages that are here, and place the others behind the line above them."""
        lines = self._mine.lines
        last_held = max((at for at, line in enumerate(lines) if line.id in self._held), default=-1)
        last_named = max((at for at, line in enumerate(lines) if line.id is not None), default=-1)
        for at, line in enumerate(lines):
            held = None if line.id is None else self._held.get(line.id)
            if held is not None:
                self._weigh_line(line, held)
                self._ids.append(held.id)
            else:
                self._place(at, line, inserted=at < (last_named if line.id is None else last_held))

    def _weigh_line(self, line: Line, held: MessageRow) -> None:
        if held.hidden:
            self._weigh(held, "content", line.content)
            return
        if line_of(message(held)) == line:
            return
        for field in _FIELDS:
            value = getattr(line, field)
            if value not in (None, {}):
                self._weigh(held, field, value)
        self._weigh_document(held, "metadata", line.metadata)

    def _place(self, at: int, line: Line, *, inserted: bool) -> None:
        store = self._store
        new = NewMessage(
            id=line.id or store.new_message_id(),
            role=line.role,
            content=line.content,
            timestamp=line.timestamp,
            sender=line.sender,
            parent=line.parent,
            model=line.model,
            usage=line.usage,
            metadata=line.metadata,
            origin=line.origin,
        )
        assert new.id is not None, "drawn above"
        try:
            time_ms = store.now_ms() if line.timestamp is None else parse_time(line.timestamp)
        except InvalidInput as exc:
            raise Refused(self._mine.numbers[at], str(exc)) from exc
        above = self._ids[-1] if self._ids else None
        rank = BY_HAND if line.id is None or self._row.hidden else REBUILT
        self._placed.append(Placed(new, new.id, check_new(new), time_ms, above, inserted, rank))
        self._ids.append(new.id)

    # What becomes of it

    def carry_out(self, *, created: bool) -> Derived:
        """Write what is new, and say what else the file shows."""
        store, row = self._store, self._row
        if row.purged and (self._new or self._edits or self._placed):
            raise Refused(1, f"session {row.id} was purged once, and this file may be of before; {TO_KEEP}")
        self._write(Edit(store, row, rank=REBUILT), self._new)
        self._write(Edit(store, row, base=_nothing), self._edits)
        self._add()
        return Derived(row.no, created, len(self._placed), self._edits, self._yielded)

    def _write(self, edit: Edit, values: Sequence[Shown]) -> None:
        documents: dict[tuple[str | None, str], list[tuple[str, bytes]]] = {}
        for each in values:
            name, _, below = each.path.partition("/")
            if name in ("metadata", "state"):
                documents.setdefault((each.message, name), []).append((f"/{below}", text_of(each.value)))
            else:
                edit.set(each.path, text_of(each.value), message=self._found(each.message))
        for (message_id, name), changed in documents.items():
            edit.set_leaves(name, changed, message=self._found(message_id))
        edit.finish(touched_ms=0)

    def _found(self, message_id: str | None) -> MessageRow | None:
        return None if message_id is None else find_message(self._store, self._row.no, message_id)

    def _add(self) -> None:
        if not self._placed:
            return
        store, no = self._store, self._row.no
        added = store.insert_messages(no, self._placed)
        row = session_row(store, no)
        if row.incomplete:
            _settle(store, row)
        if row.vectors:
            refresh_session(store, no, {"deleted"})
        recount(store, no)
        if row.automatic:
            retitle(store, no)
        if any(line.id is None for line in self._mine.lines):
            # An editor that does not reload saves these lines again, without the ids that they have now.
            rev = parse_rev(self._mine.header.rev if self._mine.header else None)
            keep_save(store, row, rev, Save(accepted(self._mine, self._ids), births_given(store, added)))


def _automatic_title(lines: Sequence[Line]) -> str:
    contents = (line.content for line in lines if line.role == "user")
    return next((automatic_title(content) for content in contents if plain_text(content).strip()), "")


def _purged(store: Store, row: SessionRow) -> set[str]:
    """The messages of a session that were purged, also those of which nothing else has arrived."""
    sql = (
        "SELECT id FROM messages WHERE session = ?1 AND hidden >= ?2 "
        "UNION SELECT message FROM waiting WHERE session = ?1 AND path = ?3"
    )
    return {each for (each,) in store.execute(sql, (row.no, HIDDEN_FOR_EVER, PURGED)).fetchall()}


def _document(store: Store, row: SessionRow, held: MessageRow | None, name: str) -> dict[str, Register]:
    """The registers of a document; those of a message that nobody edited are implied by its row."""
    registers = family(store, row.no, held.no if held else 0, name)
    if held is None or registers or held.metadata is None:
        return registers
    born = leaves(decode_json(held.metadata))
    return {f"{name}{where}": implied(store, held, text) for where, text in born}


def _settle(store: Store, row: SessionRow) -> None:
    """Let what waited for messages that have arrived now be merged: as a change does that brings nothing else."""
    births = session_births(row.births)
    change = SessionChange(id=row.id, life=row.life, births=births, touched=0, registers=[], messages=[])
    apply(store, Batch(VERSION, store.devices, [change]), [change], done=Applied())


def _nothing(_: MessageRow | None, __: str) -> Known:
    """What a file without a base knew."""
    return {}


def _same(path: str, value: Json, other: Json) -> bool:
    """Say whether two values are the same at a path, whatever the order of their keys."""
    if path == "timestamp" and isinstance(value, str) and isinstance(other, str):
        return parse_time(value) == parse_time(other)
    if isinstance(value, str) or isinstance(other, str):
        return value == other
    return msgspec.json.encode(value, order="sorted") == msgspec.json.encode(other, order="sorted")
