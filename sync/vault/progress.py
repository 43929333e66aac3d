"""How far a long sync is, as values; whoever shows them decides how (tests/unit/test_vault_progress.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Doing = Literal["receiving", "sending"]


class Progress(msgspec.Struct, frozen=True):
    """``done`` of ``total``: segments that are received, or changes of the feed that are sent.

    ``size_bytes`` travelled so far, ``messages`` arrived; ``rest_s`` is about how long the rest takes, None where
    nothing is done yet.
    """

    doing: Doing
    done: int
    total: int
    size_bytes: int = 0
    messages: int = 0
    rest_s: float | None = None


class Course:
    """Counts along. ``now`` is None where nothing goes on; ``told`` hears of every step."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._began_ms = 0
        self.now: Progress | None = None
        self.told: Callable[[Progress], None] = lambda _: None

    def begin(self, doing: Doing, *, total: int) -> None:
        """Begin something of which is known how much it is."""
        self._began_ms = self._now_ms()
        self._say(Progress(doing, 0, total))

    def reached(self, done: int, *, size_bytes: int, messages: int = 0) -> None:
        """So much of it is done; the bytes and messages are those since the last time."""
        before = self.now
        if before is None:
            return
        done = min(done, before.total)
        elapsed_s = max(self._now_ms() - self._began_ms, 0) / 1000
        self._say(
            Progress(
                before.doing,
                done,
                before.total,
                before.size_bytes + size_bytes,
                before.messages + messages,
                round(elapsed_s * (before.total - done) / done, 1) if done else None,
            )
        )

    def end(self) -> None:
        """Nothing goes on any more."""
        self.now = None

    def _say(self, progress: Progress) -> None:
        self.now = progress
        self.told(progress)
