"""When a session's file may be written again: at once after a rest, ever more seldom in a burst.

Writing a file takes less than a twentieth of the time, however long one writing takes, and a burst of
messages writes a small file a handful of times (tests/unit/test_files_pace.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

BUSY_SHARE = 20
FIRST_GAP_S, LAST_GAP_S = 0.1, 1.6


class Pace:
    """When each session may be written; it remembers only those that were written a moment ago."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._not_before: OrderedDict[int, float] = OrderedDict()  # the one that was written longest ago first
        self._gaps: dict[int, float] = {}

    def now(self) -> float:
        """The time by which waiting is measured, in seconds."""
        return self._monotonic()

    def wait_s(self, session: int) -> float:
        """How long to wait before a session's file is written; 0 for now."""
        return max(0.0, self._not_before.get(session, 0.0) - self._monotonic())

    def hold(self, session: int, seconds: float) -> None:
        """Let a session's file wait."""
        self._not_before[session] = self._monotonic() + seconds

    def wrote(self, session: int, *, began_s: float) -> None:
        """A session's file was written just now."""
        now = self._monotonic()
        gap = self._gaps.get(session, FIRST_GAP_S / 2)
        since = self._not_before.get(session)
        # Written as soon as it might be, it is in a burst; after a rest as long as the gap the burst is over.
        rested = since is None or now - since > gap
        gap = FIRST_GAP_S if rested else min(gap * 2, LAST_GAP_S)
        self._forget(now)
        self._gaps[session] = gap
        self._not_before[session] = max(now + gap, began_s + (now - began_s) * BUSY_SHARE)
        self._not_before.move_to_end(session)

    def _forget(self, now: float) -> None:
        while self._not_before:
            session, at = next(iter(self._not_before.items()))
            if at + LAST_GAP_S >= now:
                return
            del self._not_before[session]
            self._gaps.pop(session, None)
