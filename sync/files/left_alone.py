"""How refused files looked when they were read: one that still looks so need not be read again.

Kept in memory, so a mirror that was started again reads each of them once (tests/unit/test_files_left_alone.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ...storage.errors import InvalidInput
from ...storage.store import Store
from .ledger import Ledger
from .reading import Forbidden, Look, look_at
from .walk import Directory


class _Refusal(NamedTuple):
    """The look of a file, and the ``seq`` of the store that refused it; None where no store would take it."""

    look: Look
    seq: int | None


class LeftAlone:
    """What was refused after it was read; what may not be read is not among it, since looking again costs nothing."""

    def __init__(self, store: Store, ledger: Ledger, directory: Directory) -> None:
        self._store, self._ledger, self._directory = store, ledger, directory
        self._refusals: dict[str, _Refusal] = {}

    def keep(self, relative: str, look: Look, *, by_store: bool) -> None:
        """Remember how a file looked that was read and refused: ``by_store`` what came since may mend that."""
        self._refusals[relative] = _Refusal(look, self._store.last_seq if by_store else None)

    def forget(self) -> None:
        """Let every file be read again."""
        self._refusals.clear()

    def is_as_refused(self, path: Path) -> bool:
        """Say whether a file stands there as it was refused, and would be refused again."""
        relative = self._directory.relative(path)
        refusal = self._refusals.get(relative)
        if refusal is None:
            return False
        if not self._ledger.is_refused(relative):
            del self._refusals[relative]
            return False
        try:
            same = self._directory.in_the_way(path) is None and look_at(path) == refusal.look
        except (InvalidInput, Forbidden):
            return False
        return same and refusal.seq in (None, self._store.last_seq)
