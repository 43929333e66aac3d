"""The copies of a store that lie beside it: what was purged is purged from them as well.

A copy of this version hears of the purges as it would from another device, and so goes on well when it is
put in the store's place. A copy that an older version left loses the rows. What a rebuild kept of a lost store is
named where it may hold such words (docs/decisions/0013). Whatever is no copy of this store is left alone
(tests/unit/test_purge.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .apply import Applied, apply
from .change import VERSION as BATCH_VERSION
from .change import Batch, RegisterState, SessionChange
from .deletion import PURGED
from .errors import LocalStorageError, StenoError
from .indexing import scrub
from .rows import HIDDEN_FOR_EVER, HIDDEN_ITSELF, SESSION_COLUMNS, SessionRow, session_births
from .schema import VERSION
from .sqlite import MEMORY, dbapi, translated
from .state import StateWire, find_message
from .store import Store
from .tombstones import FORGET_REPORTS, stripped

if TYPE_CHECKING:
    from sqlite3 import Connection

_UNSETTLED = "purged, not written anew"
"""What a copy is called from the transaction that purges it until no file of it holds the words any more."""
_BESIDE = ("-wal", "-shm", "-journal")
_TOUCHED = (
    f"SELECT {SESSION_COLUMNS} FROM sessions WHERE purged OR history_seq "  # noqa: S608
    "OR no IN (SELECT session FROM messages WHERE hidden >= ?) ORDER BY no"
)
_STATES = (
    "SELECT m.id, r.path, r.state FROM registers r LEFT JOIN messages m ON m.no = r.message WHERE r.session = ? "
    "AND (? OR r.path = ?) ORDER BY r.message, r.path"
)
_FILE_ROWS = ("files", "unwritten")
_OLDER = ("registers", "revisions", "waiting", "saves", "files", "unwritten", "messages")

_decode_state = msgspec.msgpack.Decoder(StateWire).decode


class _Named(msgspec.Struct, frozen=True):
    id: str


def purge_copies(store: Store) -> list[str]:
    """Purge from the copies of a store what was purged from it; say of which that cannot be done, and why."""
    problems: list[str] = []
    for path in _copies(store.path):
        try:
            problems += _purge_copy(store, path)
        except (StenoError, dbapi.Error, OSError, ValueError) as exc:
            problems.append(f"backup {path} was not purged ({exc})")
    return [*problems, *(f"{path} may hold what was purged; remove it" for path in _left_of_a_lost_store(store))]


def _left_of_a_lost_store(store: Store) -> Iterator[Path]:
    """Files, and logs without their database, that a rebuild kept and that may hold what was purged from a store."""
    touched = {SessionRow(*row).id for row in store.execute(_TOUCHED, (HIDDEN_FOR_EVER,)).fetchall()}
    if not touched or str(store.path) == MEMORY:
        return
    backups = store.path.parent / "backups"
    for path in sorted(backups.glob("*.db-wal")):
        if not path.with_name(path.name.removesuffix("-wal")).exists():
            yield path
    for folder in sorted(backups.glob("files-*")):
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and _names_one_of(path, touched))


def _names_one_of(path: Path, sessions: set[str]) -> bool:
    """Say whether a file of a session is of one of these, or may be."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.readline(), type=_Named).id in sessions
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return True


def _copies(database: Path) -> list[Path]:
    if str(database) == MEMORY:
        return []
    found = [*(database.parent / "backups").glob("*.db"), *database.parent.glob(f"{database.name}.before-*")]
    return sorted(path for path in found if not path.name.endswith(_BESIDE) and path.is_file())


def _purge_copy(store: Store, path: Path) -> list[str]:
    touched = [SessionRow(*row) for row in store.execute(_TOUCHED, (HIDDEN_FOR_EVER,)).fetchall()]
    if not touched:
        return []
    with closing(dbapi.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        if not _is_of(connection, store):
            return []
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version < VERSION:
        return _purge_older(store, path, touched)
    with closing(Store(path, read_only=True)) as copy:  # a newer one raises
        changes = [change for row in touched if (change := _change(store, copy, row)) is not None]
        unsettled = copy.meta(_UNSETTLED) != ""
    if changes or unsettled:
        with closing(Store(path)) as copy:
            _tell(store, copy, changes)
            _settle(copy.connection, path)
    return []


def _is_of(connection: Connection, store: Store) -> bool:
    """Say whether a database is a store of this device, or of one that it has met."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"meta", "clock", "sessions", "devices"} <= tables:
        return False
    found = connection.execute("SELECT value FROM meta WHERE key = 'device'").fetchone()
    return found is not None and found[0] in store.devices.values()


# A copy of this version


def _change(store: Store, copy: Store, row: SessionRow) -> SessionChange | None:
    """What a copy is to be told of a session; None where it knows, or has no such session."""
    there = copy.row(row.id)
    if there is None:
        return None
    births = session_births(row.births)
    if there.life < row.life or there.purged < row.purged:
        ended = [each for each in _states(store, row, whole=False) if each.message is None]
        return SessionChange(row.id, row.purged, stripped(births), 0, ended, [])
    known = there.history_seq >= row.history_seq
    told = [each for each in _states(store, row, whole=not known) if _is_news(copy, there, each)]
    if known and all(each.message is None for each in told):
        return None
    return SessionChange(row.id, row.life, births, 0, told, [])


def _states(store: Store, row: SessionRow, *, whole: bool) -> Iterator[RegisterState]:
    """The registers of a session and its messages: all of them, or those that say what was purged."""
    for message, path, state in store.execute(_STATES, (row.no, whole, PURGED)).fetchall():
        yield RegisterState(message, path, _decode_state(state))


def _is_news(copy: Store, there: SessionRow, state: RegisterState) -> bool:
    if state.message is None:
        return True
    found = find_message(copy, there.no, state.message)
    return found is not None and not found.hidden & HIDDEN_FOR_EVER


def _tell(store: Store, copy: Store, changes: list[SessionChange]) -> None:
    batch, done = Batch(BATCH_VERSION, store.devices, changes), Applied()
    with copy.transaction():
        apply(copy, batch, changes, done=done)
        for change in changes:
            there, here = copy.find(change.id), store.find(change.id)
            if there is not None and here is not None and there.history_seq < here.history_seq:
                for table in ("revisions", "saves"):
                    copy.execute(f"DELETE FROM {table} WHERE session = ?", (there.no,))  # noqa: S608
                copy.execute("UPDATE sessions SET history_seq = ? WHERE no = ?", (here.history_seq, there.no))
            if there is not None:
                _forget_file(copy, there.no, change.id)
        for table in _FILE_ROWS:  # whose names hold titles
            copy.execute(f"DELETE FROM {table} WHERE session NOT IN (SELECT no FROM sessions)")  # noqa: S608
        scrub(copy)
        copy.set_meta(_UNSETTLED, "1")
    if done.refused:
        raise LocalStorageError(done.refused[0])


# A copy that an older version left


def _purge_older(store: Store, path: Path, touched: list[SessionRow]) -> list[str]:
    """Remove the rows of what was purged. Texts that were written over since then stay, which is told."""
    problems: list[str] = []
    with closing(dbapi.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        changed = connection.execute("SELECT 1 FROM meta WHERE key = ?", (_UNSETTLED,)).fetchone() is not None
        for row in touched:
            found = connection.execute("SELECT no FROM sessions WHERE id = ?", (row.id,)).fetchone()
            if found is None:
                continue
            if row.purged:
                connection.execute(FORGET_REPORTS, (row.id,))
                changed |= _remove(connection, found[0])
                continue
            erased = "SELECT id FROM messages WHERE session = ? AND hidden >= ?"
            for (message,) in store.execute(erased, (row.no, HIDDEN_FOR_EVER)).fetchall():
                changed |= _erase(connection, found[0], message)
            _forget_file(connection, found[0], row.id)
            if row.history_seq:
                problems.append(f"backup {path} is of an older version and may hold earlier texts of session {row.id}")
        connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
        connection.execute("DELETE FROM cursors WHERE name = 'search'")
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (_UNSETTLED,))
        connection.execute("COMMIT" if changed else "ROLLBACK")
        if changed:
            _settle(connection, path)
    return problems


def _forget_file(copy: Store | Connection, no: int, session_id: str) -> None:
    """Forget the name of a session's file, which may hold what was purged; whoever takes the copy writes it anew."""
    copy.execute("INSERT OR IGNORE INTO unwritten SELECT session FROM files WHERE session = ?", (no,))
    copy.execute("DELETE FROM files WHERE session = ?", (no,))
    copy.execute(FORGET_REPORTS, (session_id,))


def _remove(connection: Connection, no: int) -> bool:
    for table in _OLDER:
        connection.execute(f"DELETE FROM {table} WHERE session = ?", (no,))  # noqa: S608
    connection.execute("DELETE FROM sessions WHERE no = ?", (no,))
    return True


def _erase(connection: Connection, session: int, message: str) -> bool:
    found = connection.execute(
        "SELECT no FROM messages WHERE session = ? AND id = ? AND hidden < ?", (session, message, HIDDEN_FOR_EVER)
    ).fetchone()
    if found is None:
        return False
    for table in ("registers", "revisions"):
        connection.execute(f"DELETE FROM {table} WHERE session = ? AND message = ?", (session, found[0]))  # noqa: S608
    connection.execute("DELETE FROM saves WHERE session = ?", (session,))
    connection.execute("UPDATE sessions SET title = '' WHERE no = ? AND automatic", (session,))
    connection.execute(
        "UPDATE messages SET hidden = ?, sender = NULL, content = '', time_ms = 0, time_text = NULL, parent = NULL, "
        "model = NULL, usage = NULL, metadata = NULL, origin = NULL WHERE no = ?",
        (HIDDEN_FOR_EVER | HIDDEN_ITSELF, found[0]),
    )
    return True


def _settle(connection: Connection, path: Path) -> None:
    """Write a copy anew, and let it be one file again, without a log beside it.

    Killed before the mark is gone, it is done again; the mark goes only when the log was emptied into the file.
    """
    try:
        connection.execute("VACUUM")
        [busy, *_] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise LocalStorageError(f"another process reads {path}")
        connection.execute("DELETE FROM meta WHERE key = ?", (_UNSETTLED,))
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    except dbapi.Error as exc:
        raise translated(exc, path) from exc
