"""When a session's file may be written again: at once after a rest, ever more seldom in a burst.

Writing a file takes less than a twentieth of the time, however long one writing takes, and a burst of messages writes
a small file a handful of times. While changes keep coming, the next writing is paid for before it begins, even if it
takes twice as long as the last: so the share holds from the first writing of a burst to the end of any other. Once
they cease nobody waits for that, and the file is current within twenty writing times of the last change, or of the
writing that it met; where one change met each of many writings, within twenty-one (tests/unit/test_files_pace.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

BUSY_SHARE = 20
FIRST_GAP_S, LAST_GAP_S = 0.1, 1.6
# All below are in writing times.
_COST = BUSY_SHARE + 1  # one more for the looks at what is due
_AHEAD = 2 * (BUSY_SHARE - 1)
_QUIET = 4
_EARLY = 1.5


class _Burst(msgspec.Struct):
    """Writings of one file that follow each other without a rest.

    At ``paid_s`` they will have taken their share of the time since the first of them, and no more.
    """

    not_before_s: float
    began_s: float = 0.0
    took_s: float = 0.0
    paid_s: float = 0.0
    gap_s: float = FIRST_GAP_S / 2
    changed_s: float | None = None
    """When the last change came that is not written yet, if any."""

    @property
    def rest_s(self) -> float:
        """When the file has rested: a change that comes later, and none before it, begins another burst."""
        return max(self.not_before_s, self.paid_s, self._alone_s) + self.gap_s

    @property
    def latest_s(self) -> float:
        """When the file is written, although changes keep coming."""
        return max(self.not_before_s, self.paid_s + _AHEAD * self.took_s, self._alone_s)

    @property
    def _alone_s(self) -> float:
        """When the last writing alone has taken its share."""
        return self.began_s + _COST * self.took_s

    @property
    def due_s(self) -> float:
        """When the file is written, if nothing changes until then."""
        paid_s = self.paid_s - _EARLY * self.took_s
        quiet_s = paid_s if self.changed_s is None else max(paid_s, self.changed_s + _QUIET * self.took_s)
        return max(self.not_before_s, min(quiet_s, self.latest_s))


class Pace:
    """When each session may be written; it remembers only those that were written a moment ago."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._bursts: OrderedDict[int, _Burst] = OrderedDict()  # the one that was written longest ago first

    def now(self) -> float:
        """The time by which waiting is measured, in seconds."""
        return self._monotonic()

    def wait_s(self, session: int) -> float:
        """How long to wait before a session's file is written; 0 for now."""
        burst = self._bursts.get(session)
        return 0.0 if burst is None else max(0.0, burst.due_s - self._monotonic())

    def hold(self, session: int, seconds: float) -> None:
        """Let a session's file wait."""
        not_before_s = self._monotonic() + seconds
        self._bursts.setdefault(session, _Burst(not_before_s)).not_before_s = not_before_s

    def changed(self, session: int) -> None:
        """A session changed just now, and its file is to be written."""
        burst, now = self._bursts.get(session), self._monotonic()
        if burst is not None and burst.changed_s is None and now > burst.rest_s:
            del self._bursts[session]
        elif burst is not None:
            burst.changed_s = now

    def wrote(self, session: int, *, began_s: float) -> None:
        """A session's file was written just now."""
        now = self._monotonic()
        took_s = now - began_s
        burst = self._bursts.get(session)
        if burst is None or (burst.changed_s is None and began_s > burst.rest_s):
            paid_s, gap_s = began_s, FIRST_GAP_S
        else:
            # What was paid ahead is kept, what a writing that came late could have saved is not.
            paid_s = max(burst.paid_s, began_s - _AHEAD * burst.took_s)
            gap_s = min(burst.gap_s * 2, LAST_GAP_S)
        self._forget(now)
        self._bursts[session] = _Burst(now + gap_s, began_s, took_s, paid_s + _COST * took_s, gap_s)
        self._bursts.move_to_end(session)

    def _forget(self, now: float) -> None:
        while self._bursts:
            session, burst = next(iter(self._bursts.items()))
            if burst.latest_s + LAST_GAP_S >= now:
                return
            del self._bursts[session]
