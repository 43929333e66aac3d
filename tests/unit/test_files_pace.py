"""A file is written at once after a rest, seldom in a burst, and never for more than a twentieth of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.sync.files.pace import BUSY_SHARE, LAST_GAP_S, Pace

SESSION = 7


class _Disk:
    """A clock, and a file that takes so long to write, one time after another."""

    def __init__(self, *takes_s: float) -> None:
        self.now = 0.0
        self.pace = Pace(lambda: self.now)
        self.writes: list[tuple[float, float]] = []
        self.is_current = True
        self._takes: Iterator[float] = cycle(takes_s)

    @property
    def count(self) -> int:
        return len(self.writes)

    @property
    def last_s(self) -> float:
        """How long the last writing took."""
        began, ended = self.writes[-1]
        return ended - began

    def write(self) -> None:
        began = self.now
        self.now += next(self._takes)
        self.writes.append((began, self.now))
        self.pace.wrote(SESSION, began_s=began)
        self.is_current = True

    def append(self) -> None:
        self.pace.changed(SESSION)
        self.is_current = False
        self._write_if_due()

    def append_until(self, is_enough: Callable[[], bool], *, every_s: float) -> None:
        """Messages that arrive one after another, each wanting the file to be written."""
        while not is_enough():
            self.append()
            self.now += every_s

    def append_for(self, seconds: float, *, every_s: float) -> None:
        end = self.now + seconds
        self.append_until(lambda: self.now >= end, every_s=every_s)

    def settle(self) -> float:
        """Wait until the file is written; how long that took."""
        since = self.now
        while not self.is_current:
            self.now += self.pace.wait_s(SESSION)
            self._write_if_due()
        return self.now - since

    def rest(self, seconds: float) -> None:
        """Let time pass without a message."""
        end = self.now + seconds
        while not self.is_current and self.now + self.pace.wait_s(SESSION) <= end:
            self.now += self.pace.wait_s(SESSION)
            self._write_if_due()
        self.now = max(self.now, end)

    def busiest_share(self) -> float:
        """The greatest share of the time from the first writing to the end of any other."""
        return max(self._shares()[1:])

    def _shares(self) -> list[float]:
        first, busy, shares = self.writes[0][0], 0.0, []
        for began, ended in self.writes:
            busy += ended - began
            shares.append(busy / (ended - first))
        return shares

    def _write_if_due(self) -> None:
        if self.pace.wait_s(SESSION) == 0:
            self.write()


def test_a_file_is_written_at_once_after_a_rest():
    disk = _Disk(0.001)
    assert disk.pace.wait_s(SESSION) == 0
    disk.write()
    disk.now += LAST_GAP_S * 2
    disk.append()
    assert disk.count == 2


def test_a_large_file_is_written_at_once_after_a_rest():
    disk = _Disk(1.0)
    disk.append_for(200.0, every_s=0.1)
    disk.settle()
    disk.now += 25.0
    count = disk.count
    disk.append()
    assert disk.count == count + 1


def test_a_burst_of_a_thousand_messages_writes_a_small_file_a_handful_of_times():
    disk = _Disk(0.001)
    disk.append_for(2.0, every_s=0.002)
    assert 2 <= disk.count <= 6


def test_a_burst_never_holds_a_small_file_back_for_long():
    disk = _Disk(0.001)
    disk.append_for(60.0, every_s=0.01)
    assert disk.pace.wait_s(SESSION) <= LAST_GAP_S


@pytest.mark.parametrize("write_s", [0.001, 0.2, 3.0])
def test_writing_takes_at_most_a_twentieth_of_the_time(write_s: float):
    disk = _Disk(write_s)
    disk.append_for(600 * write_s, every_s=write_s / 10)
    assert disk.busiest_share() <= 1 / BUSY_SHARE


@given(st.lists(st.floats(1.0, 2.0), min_size=40, max_size=40), st.floats(0.05, 3.0))
def test_while_messages_keep_coming_writing_stays_under_its_share_though_it_takes_up_to_twice_as_long(
    takes_s: list[float], every_s: float
):
    disk = _Disk(*takes_s)
    disk.append_until(lambda: disk.count >= 30, every_s=every_s)
    assert disk.busiest_share() <= 1 / BUSY_SHARE


@given(st.lists(st.tuples(st.floats(1.0, 2.0), st.floats(0.0, 60.0)), min_size=2))
def test_however_messages_come_writing_takes_its_share_and_two_writings_more(drawn: list[tuple[float, float]]):
    takes_s, pauses_s = zip(*drawn, strict=True)
    disk = _Disk(*takes_s)
    for pause_s in pauses_s:
        disk.append()
        disk.rest(pause_s)
    busy_s = sum(ended - began for began, ended in disk.writes)
    assert busy_s <= disk.writes[-1][1] / BUSY_SHARE + 2 * max(takes_s)


@given(st.lists(st.floats(1.0, 2.0), min_size=40, max_size=40), st.integers(1, 20))
def test_a_file_is_current_within_twenty_writing_times_of_the_last_message_of_a_burst(
    takes_s: list[float], writes: int
):
    disk = _Disk(*takes_s)
    disk.append_until(lambda: disk.count >= writes, every_s=0.1)
    disk.append()
    before_s = disk.last_s
    waited_s = disk.settle()
    assert waited_s <= BUSY_SHARE * max(before_s, disk.last_s)


@pytest.mark.parametrize(("times", "within"), [(1, BUSY_SHARE), (20, BUSY_SHARE + 1)])
def test_a_file_is_current_soon_after_a_writing_during_which_one_message_came(times: int, within: int):
    disk = _Disk(1.0)
    disk.append()
    waited_s: list[float] = []
    for _ in range(times):
        disk.append()
        waited_s.append(disk.settle())
    assert max(waited_s) <= within


def test_a_file_that_is_held_waits_so_long():
    disk = _Disk(0.001)
    disk.pace.hold(SESSION, 2.0)
    assert disk.pace.wait_s(SESSION) == 2.0
    assert disk.pace.wait_s(8) == 0


def test_sessions_that_rest_are_forgotten():
    disk = _Disk(0.001)
    for session in range(100):
        disk.pace.wrote(session, began_s=disk.now)
        disk.now += 10
    assert len(disk.pace._bursts) == 1
