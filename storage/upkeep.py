"""Looking after the file of a store: how large it is, and giving room back.

(tests/unit/test_upkeep.py)
"""

from __future__ import annotations

from contextlib import suppress

from .errors import InvalidInput
from .sqlite import MEMORY
from .store import Store


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
