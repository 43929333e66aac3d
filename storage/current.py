"""The current session: the one that this device goes on with where none is named.

A pointer of this device alone, kept beside the store's own names and never sent (tests/unit/test_current.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .reader import Reader
    from .store import Store

_CURRENT = "current"


def current_session(store: Reader) -> str | None:
    """The id of the current session; None where none was chosen, and while the chosen one is deleted or purged."""
    chosen = store.meta(_CURRENT)
    row = store.find(chosen) if chosen else None
    return None if row is None or row.hidden else row.id


def set_current(store: Store, session_id: str) -> None:
    """Make a session the current one; raises `SessionNotFound` for one that is not there or is deleted."""
    with store.transaction():
        store.set_meta(_CURRENT, store.live(session_id).id)
