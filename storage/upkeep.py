"""Looking after the file of a store: how large it is, giving room back, and emptying it.

(tests/unit/test_upkeep.py)
"""

from __future__ import annotations

from contextlib import suppress

from .errors import InvalidInput
from .sqlite import MEMORY
from .store import Store

CLEARED_AT_ONCE = 200


def size_bytes(store: Store) -> int:
    """How many bytes a store takes: its file and the log beside it."""
    if str(store.path) == MEMORY:
        return store.one("PRAGMA page_count")[0] * store.one("PRAGMA page_size")[0]
    size = store.path.stat().st_size
    with suppress(FileNotFoundError):
        size += store.path.with_name(f"{store.path.name}-wal").stat().st_size
    return size


def vacuum(store: Store) -> int:
    """Give the room of what was removed back to the disk; return how many bytes that was.

    For as long as it takes it needs as much room again, and other writers wait. Raises `LocalStorageError`.
    """
    if store.depth:
        raise InvalidInput("room is not given back inside a transaction")
    before = size_bytes(store)
    store.lock()
    try:
        store.execute("VACUUM")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        store.unlock()
    return before - size_bytes(store)


def clear_all(store: Store) -> int:
    """Delete every session that is there when it begins, each as `Store.delete` does; return how many.

    It deletes a few at a time, so that others can write meanwhile; killed on the way, it goes on when called again.
    """
    rows = store.execute("SELECT id FROM sessions WHERE hidden = 0 ORDER BY no").fetchall()
    cleared = 0
    for start in range(0, len(rows), CLEARED_AT_ONCE):
        with store.transaction():
            for (session_id,) in rows[start : start + CLEARED_AT_ONCE]:
                row = store.find(session_id)
                if row is not None and not row.hidden:
                    store.delete(session_id)
                    cleared += 1
    return cleared
