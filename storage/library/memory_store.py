"""Sessions in memory: the SQLite store without a file, for tests and for what may be forgotten."""

from __future__ import annotations

from collections.abc import Callable

from ..database import random_text, wall_ms
from .session import Limits
from .sqlite_store import SQLiteSessionStore


class MemorySessionStore(SQLiteSessionStore):
    """Everything that `SQLiteSessionStore` can, for this process alone; nothing is written to the disk."""

    def __init__(
        self,
        *,
        limits: Limits = Limits(),  # noqa: B008  a frozen value
        clock: Callable[[], int] = wall_ms,
        ids: Callable[[int], str] = random_text,
    ) -> None:
        super().__init__(":memory:", limits=limits, clock=clock, ids=ids)
