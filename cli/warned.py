"""What the library warns of while a verb runs: a line on stderr each, where nothing else is set up to take it.

Python itself would print it as it stands, with all that a file's name may hold (tests/e2e/test_sync_verbs.py).
"""

from __future__ import annotations

import logging
import os
import traceback

from .terminal import note


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Say it in a line; a program's fault by its kind, and where it lies if STENO_DEBUG asks for that."""
        try:
            exc = record.exc_info[1] if record.exc_info else None
            note(record.getMessage() + (f" ({type(exc).__name__}: {exc})" if exc else ""))
            if exc is not None and os.environ.get("STENO_DEBUG", "") not in ("", "0"):
                traceback.print_exception(exc)
        except Exception:  # noqa: BLE001  as every handler does: what cannot be said ends no verb
            self.handleError(record)


def say_warnings() -> None:
    """Let warnings be said so from now on."""
    logging.lastResort = _Notes(logging.WARNING)
