"""Getting what was purged off the disk: out of the database file, its log, its index, and the copies beside it.

A deletion alone leaves words behind: in free pages, in the log until it is begun anew, in the segments of the
index. So the index is merged, the database written anew, the log emptied. That may be done late, or twice, or
again after it failed; what still stands somewhere is told (tests/unit/test_purge.py).
"""

from __future__ import annotations

import msgspec

from .deletion import LAST_PURGE
from .errors import InvalidInput, LocalStorageError
from .indexing import scrub
from .relics import purge_copies
from .sqlite import BUSY_TIMEOUT_MS, MEMORY
from .store import Store

PATIENCE_MS = 2_000
_SHRUNK = "shrunk"
_FILES = """
SELECT path FROM files WHERE session NOT IN (SELECT no FROM sessions)
UNION SELECT path FROM files JOIN sessions ON sessions.no = files.session WHERE history_seq > files.seq
UNION SELECT path FROM messages JOIN files ON files.session = messages.session
    WHERE messages.hidden >= 4 AND messages.seq > files.seq
ORDER BY path
"""


class Remains(msgspec.Struct, frozen=True):
    """Where words that were purged here may still stand on this machine; empty where nowhere.

    ``files`` are those that whoever keeps the files has not removed, or given a name and text anew, since, by path,
    ``unsent`` counts sealed segments that wait to be sent, ``problems`` say what could not be done.
    """

    problems: list[str]
    files: list[str]
    unsent: int


def shrink(store: Store) -> Remains:
    """Write the database anew without what was purged, and purge it from the backups that lie beside it.

    It needs as much room again as the database takes, and other writers wait meanwhile. Raises `InvalidInput` inside a
    transaction.
    """
    if store.depth:
        raise InvalidInput("a database is not written anew inside a transaction")
    purged = store.meta(LAST_PURGE)
    problems = [*_written_anew(store), *purge_copies(store)]
    if not problems:
        with store.transaction():
            store.set_meta(_SHRUNK, purged)
    files = [path for (path,) in store.execute(_FILES).fetchall()]
    return Remains(problems, files, store.one("SELECT count(*) FROM outbox")[0])


def is_shrunk(store: Store) -> bool:
    """Say whether nothing was purged, be it on another device, since the database was last written anew."""
    return store.meta(LAST_PURGE) == store.meta(_SHRUNK)


def _written_anew(store: Store) -> list[str]:
    try:
        with store.transaction():
            scrub(store)
    except LocalStorageError as exc:
        return [f"the index of {store.path} was not written anew: {exc.line}"]
    store.lock()
    try:
        store.execute("VACUUM")
        store.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        try:
            [busy, *_] = store.one("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            store.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    except LocalStorageError as exc:
        return [f"{store.path} was not written anew: {exc.line}"]
    finally:
        store.unlock()
    if busy and str(store.path) != MEMORY:
        return [f"another process reads {store.path}: what was purged stays in its log until that has ended"]
    return []
