"""Purging: what is to be gone for good, of a session, of a message, or of what either once was.

A purge is a write like any other and so travels: other devices end the same life of an id, or erase the
same message, whatever was written there meanwhile (storage/apply.py). Purging twice does nothing. What
is purged is gone from the tables at once, and from the disk with `steno.storage.shrink.shrink`
(tests/unit/test_purge.py looks for the words).
"""

from __future__ import annotations

from .deletion import PURGED, Vector, join, purge, purge_knew
from .document import leaves
from .errors import MessageNotFound, MessagePurged, SessionNotFound
from .registers import REMOVED, Register, Value, write
from .rows import HIDDEN_FOR_EVER, TOMBSTONE, MessageRow, SessionRow, session_births
from .saves import forget_messages, forget_texts
from .shrink import Remains, is_shrunk, shrink
from .stamps import BY_HAND, Stamp
from .state import (
    DOCUMENTS,
    VECTORS,
    document,
    find_message,
    load,
    recount,
    refresh_message,
    refresh_session,
    retitle,
    save,
    touch,
)
from .store import Store
from .tombstones import bury, erase_message, mark

__all__ = [
    "Remains",
    "is_shrunk",
    "purge_deleted",
    "purge_history",
    "purge_message",
    "purge_session",
    "shrink",
]

SLICE = 100


def purge_session(store: Store, session_id: str) -> bool:
    """End the life of a session, deleted or not; False where that was done. Raises `SessionNotFound`."""
    with store.transaction():
        row = store.row(session_id)
        if row is None:
            raise SessionNotFound(ref=session_id)
        if row.hidden == TOMBSTONE:
            return False
        before = load(store, row.no, None, PURGED)
        # Who knew less of an earlier life would else be taken to have known nothing of it.
        knew = join([store.vector_of(row), purge_knew(before)])
        assert knew is not None
        seq, stamp = _signed(store)
        ended = write(before, stamp, Value(purge(knew, life=row.life)))
        bury(store, row.id, session_births(row.births), ended, seq=seq, local=True)
        return True


def purge_message(store: Store, session_id: str, message_id: str) -> bool:
    """Erase a message, deleted or not; False where that was done. Raises `SessionNotFound`, `MessageNotFound`.

    It keeps its id, its place, its role and when it was born.
    """
    with store.transaction():
        session = _session(store, session_id)
        row = _message(store, session, message_id)
        if row.hidden & HIDDEN_FOR_EVER:
            return False
        _purge_messages(store, session, [row])
        return True


def purge_history(store: Store, session_id: str, message_id: str | None = None) -> int:
    """Erase what a session, or one message of it, was before: only what is shown now remains.

    Values that were beaten, conflicts among them, are gone on every device, earlier texts on this one alone. Deleted
    messages are purged; returns how many. Raises `SessionNotFound`, `MessageNotFound` and `MessagePurged`.
    """
    with store.transaction():
        mark(store, store.advance()[0])
        session = _session(store, session_id)
        if message_id is None:
            rows = [row for row in store.message_rows(session.no, hidden=True) if not row.hidden & HIDDEN_FOR_EVER]
        else:
            rows = [_message(store, session, message_id)]
            if rows[0].hidden & HIDDEN_FOR_EVER:
                raise MessagePurged(session=session.id, message=rows[0].id)
        forget_texts(store, session.no)  # of whole files, as they were
        deleted = [row for row in rows if row.hidden]
        _purge_messages(store, session, deleted)
        for row in rows:
            if row.edited and not row.hidden:
                _prune(store, session, row)
        if message_id is None:
            _prune(store, session, None)
        _forget_past(store, session, None if message_id is None else rows[0])
        return len(deleted)


def purge_deleted(store: Store, *, before_ms: int | None = None) -> list[str]:
    """Purge every session that was deleted before a time, None: every deleted one; returns their ids.

    Each few in a transaction of their own: stopped in between, it goes on where it was when it is called again.
    """
    purged: list[str] = []
    condition, values = ("", ()) if before_ms is None else (" AND deleted_ms < ?", (before_ms,))
    sql = f"SELECT id FROM sessions WHERE hidden = 1{condition} ORDER BY no LIMIT {SLICE}"  # noqa: S608
    while True:
        with store.transaction():
            found = [each for (each,) in store.execute(sql, values).fetchall()]
            for session_id in found:
                purge_session(store, session_id)
        purged += found
        if len(found) < SLICE:
            return purged


def _session(store: Store, session_id: str) -> SessionRow:
    row = store.find(session_id)
    if row is None:
        raise SessionNotFound(ref=session_id)
    return row


def _message(store: Store, session: SessionRow, message_id: str) -> MessageRow:
    row = find_message(store, session.no, message_id)
    if row is None:
        raise MessageNotFound(session=session.id, message=message_id)
    return row


def _signed(store: Store) -> tuple[int, Stamp]:
    seq, clock = store.advance()
    store.sign(clock)
    return seq, Stamp(BY_HAND, clock, store.device)


def _purge_messages(store: Store, session: SessionRow, rows: list[MessageRow]) -> None:
    for row in rows:
        knew = Vector(load(store, session.no, row, "content").known, at_ms=store.now_ms())
        seq, stamp = _signed(store)
        purged = write(load(store, session.no, row, PURGED), stamp, Value(purge(knew)))
        erase_message(store, row, purged, seq=seq, local=True)
    forget_messages(store, session.no, rows)
    if rows:
        touch(store, session.no, store.now_ms())
        recount(store, session.no)
        retitle(store, session.no)


def _prune(store: Store, session: SessionRow, row: MessageRow | None) -> None:
    """Drop the values of registers that are not shown. What is known of them stays, so that none of them returns."""
    sql = "SELECT path FROM registers WHERE session = ? AND message = ? ORDER BY path"
    paths = [path for (path,) in store.execute(sql, (session.no, row.no if row else 0)).fetchall()]
    states = {path: load(store, session.no, row, path) for path in paths if path not in (PURGED, *VECTORS)}
    pruned = {path: _shown_alone(state) for path, state in states.items()}
    for name in DOCUMENTS:
        pruned |= _pruned_document({path: each for path, each in pruned.items() if path.startswith(f"{name}/")}, name)
    changed = [path for path, state in states.items() if pruned[path] != state]
    if not changed:
        return
    seq, _ = store.advance()
    for path in changed:
        save(store, session.no, row, path, states[path], pruned[path], seq=seq, local=True)
    if row is not None:
        refresh_message(store, row, changed)
    else:
        refresh_session(store, session.no, changed)


def _shown_alone(state: Register) -> Register:
    if len(state.open) < 2:
        return state
    stamp, value = state.top
    return Register({stamp: value}, state.known)


def _pruned_document(registers: dict[str, Register], name: str) -> dict[str, Register]:
    """The leaves of a document, emptied where another one above or below is shown in their place."""
    whole = document(registers, name)
    shown = dict(leaves(whole))
    pruned = {}
    for path, state in registers.items():
        stays = state.shown in (REMOVED, b"{}", shown.get(path.removeprefix(name)))
        pruned[path] = state if stays else Register({}, state.known)
    # What is hidden may hide something older in its turn.
    return pruned if document(pruned, name) == whole else registers


def _forget_past(store: Store, session: SessionRow, row: MessageRow | None) -> None:
    if row is None:
        store.execute("DELETE FROM revisions WHERE session = ?", (session.no,))
    else:
        store.execute("DELETE FROM revisions WHERE session = ? AND message = ?", (session.no, row.no))
    seq, _ = store.advance()
    store.execute("UPDATE sessions SET history_seq = ?, seq = ? WHERE no = ?", (seq, seq, session.no))
    # A file that names an earlier moment has no base any more, so it must name this one.
    store.execute("INSERT OR IGNORE INTO unwritten SELECT session FROM files WHERE session = ?", (session.no,))
