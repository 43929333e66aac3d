"""A saved file becomes writes in the store: carries out what `plan` decides, in one transaction.

What the file changed replaces only the values that its base knew; what had arrived meanwhile
stands beside it as a conflict (tests/unit/test_files_mirror.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from ...storage.deletion import Vector, encode, in_force
from ...storage.document import leaves, pointer
from ...storage.edit import Edit, Written
from ...storage.errors import InvalidInput, StenoError
from ...storage.history import Past
from ...storage.local_only import copies
from ...storage.model import Json, NewMessage, check_title, parse_time, plain_text
from ...storage.registers import REMOVED, Known, text_of
from ...storage.rows import (
    HIDDEN_FOR_EVER,
    HIDDEN_IN_VECTOR,
    SCALARS,
    MessageRow,
    SessionRow,
    decode_json,
    header,
    json_column,
    message,
)
from ...storage.saves import pack, unpack
from ...storage.stamps import BY_HAND
from ...storage.state import find_message, load, recount, refresh_session, retitle, session_row
from ...storage.store import Placed, Store, check_new
from .alignment import Accepted, accepted, may_be_purged, shares_a_line
from .lines import Header, ParsedFile, Refused, Rev, Shared, header_of, line_of, parse_rev
from .plan import (
    AddMessage,
    Base,
    Current,
    DeleteMessage,
    EditMessage,
    Held,
    Leaf,
    Plan,
    Restore,
    SetHeader,
    SetTags,
    plan,
)

_REFERENCE_REV = Rev("base", 0)
FEW = 10
Deletions = Literal["some", "all", "none"]
_SAY = "`steno files resume --delete` if that is meant, `--restore` to have them back"
TO_KEEP = "remove it, or take the id out of its first line to keep it as a new session"
MAY_BE_PURGED = "this line has no id, and may be one that was purged; remove it, or give it an id to keep it"


class Absorbed(msgspec.Struct, frozen=True):
    """What a file became: its session, whether that is new, and the plan that was carried out.

    ``purged`` are the ids of lines that were left out of it, since their messages were purged, and "title" where that
    may be of one of them; ``kept`` are those that it lacked and that came back.
    """

    session: SessionRow
    created: bool
    plan: Plan
    purged: list[str] = []
    kept: list[str] = []


class HalfSaved(StenoError):
    """A save takes lines away while somebody still writes to the file: it may be half of one."""


class TooManyDeleted(Refused):
    """A save would delete so many messages that it may be half of a file: somebody must say that this is meant."""

    def __init__(self, dropped: int, total: int) -> None:
        super().__init__(None, f"this save would delete {dropped} of {total} messages; {_SAY}")
        self.dropped = dropped


def absorb(
    store: Store, mine: ParsedFile, *, session_id: str | None, revive: bool = True, deletions: Deletions = "some",
    finished: bool = True,
) -> Absorbed:  # fmt: skip
    """Bring the session up to a saved file of it; None makes a new session. Needs a transaction.

    A deleted session is restored by its file, also where something came later that keeps it shown; with ``revive``
    False only by a file that changes something. Missing lines
    are ``deletions``: of "some" messages, of "all" that are missing, or of "none", which lets them come back. Raises
    `Refused` for a file that may bring back what was purged, `TooManyDeleted`, and where nobody has ``finished``
    writing it `HalfSaved`.
    """
    rev = parse_rev(mine.header.rev if mine.header else None)
    row = None if session_id is None else store.find(session_id)
    created = row is None
    source = row or _copied(store, mine, rev)
    last = _held_against(store, source, mine, rev) if source else None
    mine, purged = _without_purged(store, source, mine, rev, last, created=created)
    if row is None:
        row = _born(store, mine, session_id, local_only=source.local_only > 0 if source else _is_copy(store, mine))
    elif revive and (row.hidden or _was_deleted_since(store, row, rev)):
        store.restore(row.id)
        row = session_row(store, row.no)
    past = _past(store, row, rev) if not created else None
    shared = Shared(mine.lines)
    base = _base(past, shared) if past is not None else None
    last = None if created else last
    previous = last.accepted if last else None
    decided = plan(
        mine,
        current=_current(store, row, past, base, shared, created=created),
        base=base,
        previous=_titled(previous, base, mine),
        new_id=store.new_message_id,
    )
    decided = _without_made_title(store, row, mine, rev, decided, created=created)
    kept: list[str] = []
    if deletions == "none":
        decided, kept = _without_deletions(decided)
    if not finished and any(isinstance(action, DeleteMessage) for action in decided.actions):
        raise HalfSaved("lines are missing while the file is still written")
    if deletions == "some":
        _check_deletions(decided, past)
    written = last.written if last else {}
    if decided.actions or _takes_away(store, row, rev, decided):
        _check_purges(store, row, rev)
    if decided.actions:
        if row.hidden:
            store.restore(row.id)
            row = session_row(store, row.no)
        written = _carry_out(store, row, decided, past, written)
    save = Save(_with_kept(accepted(mine, decided.ids, previous), kept, base, previous), written)
    if _is_worth_keeping(row, save.accepted, base, previous):
        keep_save(store, row, rev, save)
        if not decided.actions:
            store.advance()  # the file is written anew, and who opens that one must not be taken for who saved this one
    return Absorbed(session_row(store, row.no), created, decided, purged, kept)


def _check_deletions(decided: Plan, past: Past | None) -> None:
    dropped = sum(isinstance(action, DeleteMessage) for action in decided.actions)
    if past is not None and dropped > FEW:
        total = sum(1 for _ in past.messages())
        if dropped * 2 > total:
            raise TooManyDeleted(dropped, total)


def _without_deletions(decided: Plan) -> tuple[Plan, list[str]]:
    """A plan that deletes nothing, and the messages that come back by that."""
    actions = tuple(action for action in decided.actions if not isinstance(action, DeleteMessage))
    kept = [action.id for action in decided.actions if isinstance(action, DeleteMessage)]
    return msgspec.structs.replace(decided, actions=actions, rewrite=decided.rewrite or bool(kept)), kept


def _without_made_title(
    store: Store, row: SessionRow, mine: ParsedFile, rev: Rev | None, decided: Plan, *, created: bool
) -> Plan:
    """A plan that gives a copy no title which a message of the copied session had made: its own messages make one."""
    of = store.find(mine.header.id) if mine.header and mine.header.id else None
    past = _past(store, of, rev) if of is not None and of.no != row.no else None
    shown = past.header() if past else None
    if shown is None or not shown.automatic_title:
        return decided
    actions = list(decided.actions)
    made = SetHeader(("title",), shown.title)
    if made in actions:
        actions[actions.index(made) : actions.index(made) + 1] = [] if created else [SetHeader(("title",), REMOVED)]
    return msgspec.structs.replace(decided, actions=tuple(actions))


def _with_kept(save: Accepted, kept: list[str], base: Base | None, previous: Accepted | None) -> Accepted:
    """A save with the lines that it lacked and that came back: whoever saves next has seen them again."""
    before = {line.id: line for line in (*(base.lines if base else ()), *(previous.lines if previous else ()))}
    back = [line for each in kept if (line := before.get(each)) is not None]
    return msgspec.structs.replace(save, lines=[*save.lines, *back]) if back else save


def _born(store: Store, mine: ParsedFile, session_id: str | None, *, local_only: bool) -> SessionRow:
    stated = mine.header
    created_ms = parse_time(stated.created_at) if stated and stated.created_at else None
    if created_ms is None:
        times = [parse_time(line.timestamp) for line in mine.lines if line.timestamp]
        created_ms = min(times, default=None)
    return store.insert_session(
        session_id or store.random(12),
        created_ms=created_ms,
        forked_from=json_column(stated.forked_from) if stated else None,
        source=json_column(stated.source) if stated else None,
        rank=BY_HAND,
        metadata=stated.metadata if stated else {},
        local_only=local_only or bool(stated and stated.local_only),
    )


def _is_copy(store: Store, mine: ParsedFile) -> bool:
    """Say whether a file that names no session begins or ends with a message of one that is local-only."""
    known = [(line.id, parse_time(line.timestamp)) for line in mine.lines if line.id and line.timestamp]
    return bool(known) and copies(store, [known[0], known[-1]])


def _past(store: Store, row: SessionRow, rev: Rev | None) -> Past | None:
    return Past(store, row, rev.seq) if rev and _reaches(store, row, rev) else None


def _reaches(store: Store, row: SessionRow, rev: Rev | None) -> bool:
    """Say whether the history of a session goes back to a rev."""
    return rev is not None and rev.store == store.store_name and row.history_seq <= rev.seq <= store.last_seq


def _was_deleted_since(store: Store, row: SessionRow, rev: Rev | None) -> bool:
    """Say whether a session was deleted after this file was written, and is shown for what came later alone."""
    past = _past(store, row, rev) if row.vectors else None
    if past is None:
        return False
    deleted = load(store, row.no, None, "deleted")
    return in_force(deleted) is not None and past.register(None, "deleted") != deleted


def _copied(store: Store, mine: ParsedFile, rev: Rev | None) -> SessionRow | None:
    """The session that a file names which becomes another one; raises `Refused`."""
    row = store.find(mine.header.id) if mine.header and mine.header.id else None
    if row is not None:
        _check_purges(store, row, rev)
    return row


def _held_against(store: Store, row: SessionRow, mine: ParsedFile, rev: Rev | None) -> Save | None:
    """The last save of a rev, if a file is what became of it; raises `Refused` where a line may be a purged one."""
    last = _last_save(store, row, rev)
    if last is None:
        return None
    place = may_be_purged(mine.lines, last.accepted)
    if place is not None:
        raise Refused(mine.numbers[place], MAY_BE_PURGED)
    return last if _reaches(store, row, rev) or shares_a_line(mine, last.accepted) else None


def _without_purged(
    store: Store, row: SessionRow | None, mine: ParsedFile, rev: Rev | None, last: Save | None, *, created: bool
) -> tuple[ParsedFile, list[str]]:
    """A file without what was purged from a session: lines of messages, and a title that one may have made."""
    if row is None:
        return mine, []
    named = store.find(mine.header.id) if mine.header and mine.header.id else None
    of = row if named is None else named  # a copy that is saved again names the session that it was made from
    gone = _purged(store, row)
    if of.no != row.no:
        gone |= {each for each in _purged(store, of) if find_message(store, row.no, each) is None}
    if not gone:
        return mine, []
    stands_for = last.accepted.anew if last else {}
    ids = [line.id and stands_for.get(line.id, line.id) for line in mine.lines]
    kept = [at for at, id_ in enumerate(ids) if id_ not in gone]
    purged = [id_ for id_ in ids if id_ and id_ in gone]
    header = mine.header
    may_be = any(_may_be_purged_title(store, each, rev) for each in (row, of))
    if header and header.title not in ("", row.title) and may_be:
        header = msgspec.structs.replace(header, title="" if created else row.title)
        purged.append("title")
    if not purged:
        return mine, []
    lines, numbers = [mine.lines[at] for at in kept], [mine.numbers[at] for at in kept]
    return msgspec.structs.replace(mine, header=header, lines=lines, numbers=numbers), purged


def _purged(store: Store, row: SessionRow) -> set[str]:
    sql = "SELECT id FROM messages WHERE session = ? AND hidden >= ?"
    return {each for (each,) in store.execute(sql, (row.no, HIDDEN_FOR_EVER)).fetchall()}


def _may_be_purged_title(store: Store, row: SessionRow, rev: Rev | None) -> bool:
    """Say whether a file may show the automatic title that a message made which was purged since.

    Nobody knows that title any more, so it may be each that the file shows.
    """
    past = _past(store, row, rev)
    if past is not None and not past.header().automatic_title:
        return False
    shown = past.messages() if past else ((each, message(each)) for each in store.message_rows(row.no))
    contents = ((each.ord, said.content) for each, said in shown if said.role == "user")
    first = next((place for place, content in contents if plain_text(content).strip()), None)
    return (
        store.one(
            "SELECT 1 FROM messages WHERE session = ?1 AND hidden >= ?2 AND role = 'user' AND seq > ?3 "
            "AND ord < ifnull(?4, ord + 1)",
            (row.no, HIDDEN_FOR_EVER, past.seq if past else 0, first),
        )
        is not None
    )


def _titled(previous: Accepted | None, base: Base | None, mine: ParsedFile) -> Accepted | None:
    """An earlier save with the automatic title of its base in the place of none: a purge may have taken it."""
    if previous is None or previous.header is None or previous.header.title or not (base and base.automatic_title):
        return previous
    if mine.header is None or not mine.header.title:
        return previous
    header = msgspec.structs.replace(previous.header, title=base.header.title)
    return msgspec.structs.replace(previous, header=header)


def _check_purges(store: Store, row: SessionRow, rev: Rev | None) -> None:
    """Raise `Refused` for a file of a session that cannot be told from one of before a purge."""
    ours = rev is not None and rev.store == store.store_name and rev.seq <= store.last_seq
    early = rev is not None and ours and rev.seq < row.history_seq
    if row.purged and (early or not ours):
        raise Refused(1, f"session {row.id} was purged once, and this file may be of before; {TO_KEEP}")
    if early:
        raise Refused(1, f"the history of session {row.id} was purged after this file was written; {TO_KEEP}")


def _takes_away(store: Store, row: SessionRow, rev: Rev | None, decided: Plan) -> bool:
    """Say whether a file of before a purge of the history lacks a line that it showed and that is as it was."""
    if rev is None or rev.store != store.store_name or rev.seq >= row.history_seq:
        return False
    shown = set(decided.ids)
    return any(each.seq <= rev.seq and each.id not in shown for each in store.message_rows(row.no))


def _base(past: Past, shared: Shared) -> Base:
    then = past.header()
    lines = [shared.of(line_of(shown)) for _, shown in past.messages()]
    return Base(header_of(then, rev=_REFERENCE_REV), lines, automatic_title=then.automatic_title)


def _current(
    store: Store, row: SessionRow, past: Past | None, base: Base | None, shared: Shared, *, created: bool
) -> Current:
    shown = header_of(header(row), rev=_REFERENCE_REV)
    if created:
        shown = msgspec.structs.replace(shown, id=None)
    then = {line.id: line for line in base.lines} if base else {}
    held = [
        Held(
            # What was never edited reads as it did.
            (None if each.edited else then.get(each.id)) or shared.of(line_of(message(each))),
            hidden=bool(each.hidden),
            content_changed_since_base=past is not None and _content_changed(store, row, each, past),
            cleared=bool(each.hidden & HIDDEN_IN_VECTOR),
        )
        for each in store.message_rows(row.no, hidden=True)
    ]
    return Current(shown, held, automatic_title=bool(row.automatic))


def _content_changed(store: Store, row: SessionRow, each: MessageRow, past: Past) -> bool:
    return bool(each.edited) and past.register(each, "content") != load(store, row.no, each, "content")


def _carry_out(store: Store, row: SessionRow, decided: Plan, past: Past | None, earlier: Written) -> Written:
    placed = {f"tags/{tag}" for action in decided.actions if isinstance(action, SetTags) for tag in action.order or ()}

    def base(each: MessageRow | None, path: str) -> Known:
        known = past.known(each, path) if past is not None else {}
        if not known and each is None and path in placed:  # a tag that arrived moves behind the others: no conflict
            return load(store, row.no, None, path).known
        return known

    edit = Edit(store, row, base=base, earlier=earlier)
    _set_header(edit, [action for action in decided.actions if isinstance(action, SetHeader)])
    for action in decided.actions:
        if isinstance(action, SetTags):
            kept = [tag for tag in decode_json(row.tags) if tag not in action.removed]
            edit.set_tags(list(action.order) if action.order else [*kept, *action.added])
        elif isinstance(action, EditMessage):
            _edit(edit, _found(store, row, action.id), action)
        elif isinstance(action, DeleteMessage):
            each = _found(store, row, action.id)
            edit.set("deleted", _deletion(store, row, each, base(each, "content"), earlier), message=each)
        elif isinstance(action, Restore):
            edit.set("deleted", b"null", message=_found(store, row, action.id))
    edit.finish()
    added = _add(store, row, [action for action in decided.actions if isinstance(action, AddMessage)])
    return {**edit.stamps, **births_given(store, added)}


def _deletion(store: Store, row: SessionRow, each: MessageRow, base: Known, earlier: Written) -> bytes:
    """The deletion of a line by someone who knew its base, and what the same person had saved since."""
    own = frozenset(earlier.get(f"{each.id}\ncontent", ()))
    known = base if base or own else load(store, row.no, each, "content").known
    return encode(Vector(dict(known), own, store.now_ms()))


def births_given(store: Store, added: Sequence[MessageRow]) -> Written:
    """The stamps that new lines gave: the next save of an editor that does not reload knows of them."""
    written: Written = {}
    for each in added:
        stamp = store.stamp(each.clock, each.author)
        under = leaves(decode_json(each.metadata)) if each.metadata else ()
        for path in (*SCALARS, *(f"metadata{where}" for where, _ in under)):
            written[f"{each.id}\n{path}"] = [stamp]
    return written


def _set_header(edit: Edit, actions: Sequence[SetHeader]) -> None:
    for name in ("metadata", "state"):
        found = [action for action in actions if action.path[0] == name]
        edit.set_leaves(name, [(pointer(action.path[1:]), _text(action.value)) for action in found])
    for action in actions:
        name = action.path[0]
        if name in ("metadata", "state"):
            continue
        value = action.value if action.value != REMOVED else None
        if name == "title" and isinstance(value, str):
            value = _title(value)
        if name == "status" and value is None:
            value = "active"
        edit.set(name, text_of(value))


def _title(text: str) -> str | None:
    """The title on one line and without control characters; None for the automatic one."""
    try:
        return check_title(text)
    except InvalidInput:
        return None


def _edit(edit: Edit, each: MessageRow, action: EditMessage) -> None:
    for field, value in action.fields.items():
        if field != "metadata":
            edit.set(field, text_of(value), message=each)
    leaves: list[Leaf] = list(action.metadata)
    edit.set_leaves("metadata", [(pointer(leaf.path), _text(leaf.value)) for leaf in leaves], message=each)


def _add(store: Store, row: SessionRow, actions: Sequence[AddMessage]) -> list[MessageRow]:
    if not actions:
        return []
    placed = [_placed(store, action) for action in actions]
    added = store.insert_messages(row.no, placed)
    now = session_row(store, row.no)
    if now.vectors:
        refresh_session(store, row.no, {"deleted"})
    recount(store, row.no)
    if now.automatic:
        retitle(store, row.no)
    return added


def _placed(store: Store, action: AddMessage) -> Placed:
    line = action.message
    new = NewMessage(
        id=action.id,
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
    time_ms = store.now_ms() if line.timestamp is None else parse_time(line.timestamp)
    return Placed(new, action.id, check_new(new), time_ms, action.after_id, inserted=action.insertion)


def _found(store: Store, row: SessionRow, message_id: str) -> MessageRow:
    each = find_message(store, row.no, message_id)
    assert each is not None, "the plan names messages of the session only"
    return each


def _text(value: Json) -> bytes:
    return REMOVED if value == REMOVED else text_of(value)


# The last accepted saves


_KEPT_SAVES = 20
_KEPT_SAVES_BYTES = 32 << 20


class Save(msgspec.Struct, frozen=True):
    """``written`` are the stamps that all saves of this rev gave: the person knows of them, the base does not."""

    accepted: Accepted
    written: Written


def saved_under(store: Store, row: SessionRow, header: Header) -> bool:
    """Say whether a file of this session was saved before with this id and rev: a copy that is saved again."""
    last = _last_save(store, row, parse_rev(header.rev))
    return last is not None and last.accepted.header is not None and last.accepted.header.id == header.id


def newest_save(store: Store) -> int:
    """The number of the last save that is kept; `saves_since` tells those behind it."""
    return store.one("SELECT ifnull(max(no), 0) FROM saves")[0]


def saves_since(store: Store, row: SessionRow, number: int) -> list[tuple[Base | None, Accepted]]:
    """What was saved of a session behind a number, under each rev the last, with what it was made from, if known.

    Needs a transaction.
    """
    sql = "SELECT rev, lines FROM saves WHERE session = ? AND no > ? ORDER BY no"
    found: list[tuple[Base | None, Accepted]] = []
    for text, lines in store.execute(sql, (row.no, number)).fetchall():
        past = _past(store, row, parse_rev(text))
        found.append((None if past is None else _base(past, Shared(())), unpack(lines, Save).accepted))
    return found


def _is_worth_keeping(row: SessionRow, save: Accepted, base: Base | None, previous: Accepted | None) -> bool:
    """Say whether the next save of the same rev is to be held against this one.

    Also one that changed nothing is kept, for what it says may be what somebody else had written meanwhile. Without
    a base it is kept if the same file, saved again, would be another session or have other messages.
    """
    if previous is not None:
        return save != previous
    if base is not None:
        return (_without_rev(save.header), save.lines) != (_without_rev(base.header), base.lines)
    return bool(save.given or save.anew) or (save.header is not None and save.header.id != row.id)


def _without_rev(header: Header | None) -> Header | None:
    return header and msgspec.structs.replace(header, rev=None)


def _last_save(store: Store, row: SessionRow, rev: Rev | None) -> Save | None:
    found = store.one("SELECT lines FROM saves WHERE session = ? AND rev = ?", (row.no, _saved_rev(rev)))
    return None if found is None else unpack(found[0], Save)


def keep_save(store: Store, row: SessionRow, rev: Rev | None, save: Save) -> None:
    """Keep a save, and the last few of the session: an editor or a program may still hold what those were made from."""
    store.execute(
        "INSERT OR REPLACE INTO saves (session, rev, lines) VALUES (?, ?, ?)", (row.no, _saved_rev(rev), pack(save))
    )
    store.execute(
        "DELETE FROM saves WHERE no IN (SELECT no FROM (SELECT no, row_number() OVER newest AS place, "
        "sum(length(lines)) OVER newest AS bytes FROM saves WHERE session = ? WINDOW newest AS (ORDER BY no DESC)) "
        "WHERE place > ? OR (place > 1 AND bytes > ?))",
        (row.no, _KEPT_SAVES, _KEPT_SAVES_BYTES),
    )


def _saved_rev(rev: Rev | None) -> str:
    """The rev that a save is kept under; a file that names none is the last of the session that named none."""
    return str(rev) if rev else ""
