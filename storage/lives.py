"""Which life of an id a change from elsewhere is of.

    life 1 ── purged: tombstone ── life 2 ── purged: tombstone …      in any order, the greatest stands

A life that another device ended ends here too, whatever the stamps of what it holds; what comes of a life
that is over is dropped. Only what was written here by hand, unknown to whoever purged it, is kept: it
becomes a session of its own. Proved by tests/simulation/test_purges_converge.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from .deletion import PURGED, Vector, purge_knew, purged_life, unknown_to
from .model import NewMessage
from .registers import EMPTY, Register, merge, value_of
from .rows import (
    TOMBSTONE,
    MessageRow,
    SessionBirth,
    SessionRow,
    encode_births,
    message,
    session_births,
)
from .stamps import BY_HAND, Stamp
from .state import birth_stamps, find_message, load
from .store import Placed, Store
from .tombstones import bury, join_purge, stripped


class Met(NamedTuple):
    """The row that a change of a session goes to, None where its life is over; what meeting it did."""

    row: SessionRow | None
    new: bool
    changed: bool
    rescued: str | None


def meet(store: Store, session_id: str, *, life: int, births: list[SessionBirth], touched: int, ended: Register) -> Met:
    """Bring an id up to the lives that a change says are over, and find the row that it goes to. In a transaction.

    ``ended`` is the register of the change that says so; the change is of the life behind those, or a tombstone of
    the last of them.
    """
    row = store.row(session_id)
    before = EMPTY if row is None else load(store, row.no, None, PURGED)
    merged = merge(before, ended)
    rescued, changed = None, False
    if purged_life(merged) > (0 if row is None else row.purged):
        rescued = None if row is None else rescue(store, row, purge_knew(merged))
        seq, _ = store.advance()
        bury(store, session_id, births, merged, seq=seq, local=False)
        row, changed = store.row(session_id), True
    elif row is not None:
        same = row.hidden == TOMBSTONE and life == row.life == purged_life(ended)
        changed = _join_ends(store, row, stripped(births) if same else [], before, merged)
    if row is None or life > row.life:
        seq, _ = store.advance()
        made = store.insert_session_row(session_id, births, seq=seq, local_seq=0, touched=touched, life=life)
        return Met(made, new=True, changed=True, rescued=rescued)
    over = row.hidden == TOMBSTONE or life < row.life
    return Met(None if over else row, new=False, changed=changed, rescued=rescued)


def rescue(store: Store, row: SessionRow, knew: Vector) -> str | None:
    """Keep what was written here by hand, is shown, and was unknown to who purged the session: in one of its own.

    Returns the id of that session, None where nothing was. Done again it is the same session with the same messages,
    also where it is done by another store that had this one's id once: each id that wrote has a session of its own.
    """
    unknown: dict[str, list[MessageRow]] = {}
    for each in [] if row.hidden else store.message_rows(row.no):
        writer = _unknown_writer(store, birth_stamps(store, each), knew)
        if writer is not None:
            unknown.setdefault(writer, []).append(each)
    kept = [_keep(store, row, messages, writer) for writer, messages in unknown.items()]
    return ", ".join(each for each in kept if each is not None) or None


def _keep(store: Store, row: SessionRow, unknown: list[MessageRow], writer: str) -> str | None:
    apart = "\nlocal-only" if row.local_only else ""  # never in a session that is sent
    session_id = sha256(f"{row.id}\n{row.life}\n{writer}{apart}".encode()).hexdigest()[:12]
    if store.lives_over(session_id):
        return None
    here = store.find(session_id)
    if here is None:
        title = value_of(load(store, row.no, None, "title").shown) or ""
        named = title if title.strip() else None
        store.create(id=session_id, title=named, local_only=bool(row.local_only))
        there: set[str] = set()
    else:
        there = {each.id for each in store.message_rows(here.no, hidden=True)}
    known = there | {each.id for each in unknown}
    moved = [_moved(row, each, known) for each in unknown if each.id not in there]
    store.extend(session_id, moved, checked=True)  # one may reply to what stands behind it
    return session_id


def rescue_edit(store: Store, row: MessageRow, knew: Vector) -> str | None:
    """Keep the text that was written here by hand, is shown, and was unknown to who purged the message.

    It becomes a message of its own right behind. Returns its id; None where there is no such text.
    """
    content = load(store, row.session, row, "content")
    if row.hidden or _unknown_writer(store, unknown_to(knew, content), knew) is None:
        return None
    newest = max(content.open)
    message_id = f"m-{sha256(f'{row.id} {newest.clock} {row.clock}'.encode()).hexdigest()[:19]}"
    if find_message(store, row.session, message_id) is not None:  # by another store that had this one's id once
        return None
    new = NewMessage(id=message_id, role=row.role, content=message(row).content, sender=row.sender)
    placed = Placed(new, message_id, row.content, row.time_ms, row.id, inserted=True)
    store.insert_messages(row.session, [placed])
    return message_id


def _unknown_writer(store: Store, stamps: Iterable[Stamp], knew: Vector) -> str | None:
    """The oldest of this store's ids under which something was written by hand that somebody did not know."""
    ids = [store.device, *store.former_devices]
    own = [stamp for stamp in stamps if stamp.rank == BY_HAND and stamp.device in ids]
    if all(knew.has([stamp]) for stamp in own):
        return None
    return max((stamp.device for stamp in own), key=ids.index)


def _moved(session: SessionRow, row: MessageRow, known: set[str]) -> NewMessage:
    shown = message(row)
    return NewMessage(
        id=row.id,
        role=row.role,
        content=shown.content,
        sender=shown.sender,
        timestamp=shown.timestamp,
        parent=shown.parent if shown.parent in known else None,
        model=shown.model,
        usage=shown.usage,
        metadata=shown.metadata,
        origin={"session": session.id, "message": row.id},
    )


def _join_ends(store: Store, row: SessionRow, births: list[SessionBirth], before: Register, merged: Register) -> bool:
    """Merge what others say of lives that are over here already; say whether that was news."""
    ours = session_births(row.births)
    joined = sorted({*ours, *births}, key=lambda birth: (*store.stamp(birth.clock, birth.author).instant, birth))
    if merged == before and joined == ours:
        return False
    seq, _ = store.advance()
    join_purge(store, row.no, None, merged, seq=seq)
    store.execute(
        "UPDATE sessions SET births = ?, created_ms = ? WHERE no = ?",
        (encode_births(joined), joined[0].created_ms, row.no),
    )
    return True
