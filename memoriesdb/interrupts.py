"""Ctrl-C while a statement runs: noticed soon, and never between two steps of a write.

Python raises it wherever it happens to be, also while a transaction is being undone. Within a statement it is
only taken note of, and raised where nothing is half-done (tests/unit/test_sql.py).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


class Interrupts:
    """Takes note of an interruption while it is ``deferred``."""

    def __init__(self) -> None:
        self.pending = False
        self.deferred = False

    @contextmanager
    def within(self) -> Generator[None]:
        """Be asked first, for as long as the block lasts; only the main thread is ever interrupted."""
        self.pending = False
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) in _NOT_OURS:
            yield
            return
        self.deferred = True
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self.deferred = False

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if there was an interruption."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    def _interrupted(self, *_: object) -> None:
        self.pending = True
        if not self.deferred:
            self.check()


_NOT_OURS = (signal.SIG_IGN, None)
