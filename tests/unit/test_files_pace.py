"""A file is written at once after a rest, seldom in a burst, and never for more than a twentieth of the time."""

from __future__ import annotations

import pytest

from steno.sync.files.pace import BUSY_SHARE, LAST_GAP_S, Pace


class _Disk:
    """A clock, and files that take so long to write."""

    def __init__(self, write_s: float) -> None:
        self.now, self.write_s, self.busy_s, self.count = 0.0, write_s, 0.0, 0
        self.pace = Pace(lambda: self.now)

    def write(self) -> None:
        began = self.now
        self.now += self.write_s
        self.busy_s += self.write_s
        self.count += 1
        self.pace.wrote(7, began_s=began)

    def append_for(self, seconds: float, *, every_s: float) -> None:
        """Messages that arrive one after another, each wanting the file to be written."""
        end = self.now + seconds
        while self.now < end:
            if self.pace.wait_s(7) == 0:
                self.write()
            self.now += every_s


def test_a_file_is_written_at_once_after_a_rest():
    disk = _Disk(0.001)
    assert disk.pace.wait_s(7) == 0
    disk.write()
    disk.now += LAST_GAP_S * 2
    assert disk.pace.wait_s(7) == 0


def test_a_burst_of_a_thousand_messages_writes_a_small_file_a_handful_of_times():
    disk = _Disk(0.001)
    disk.append_for(2.0, every_s=0.002)
    assert 2 <= disk.count <= 6


def test_a_burst_never_holds_a_small_file_back_for_long():
    disk = _Disk(0.001)
    disk.append_for(60.0, every_s=0.01)
    assert disk.pace.wait_s(7) <= LAST_GAP_S


@pytest.mark.parametrize("write_s", [0.001, 0.2, 3.0])
def test_writing_takes_at_most_a_twentieth_of_the_time(write_s: float):
    disk = _Disk(write_s)
    disk.append_for(600 * write_s, every_s=write_s / 10)
    assert disk.busy_s / disk.now <= 1 / BUSY_SHARE + write_s / disk.now


def test_a_file_that_is_held_waits_so_long():
    disk = _Disk(0.001)
    disk.pace.hold(7, 2.0)
    assert disk.pace.wait_s(7) == 2.0
    assert disk.pace.wait_s(8) == 0


def test_sessions_that_rest_are_forgotten():
    disk = _Disk(0.001)
    for session in range(100):
        disk.pace.wrote(session, began_s=disk.now)
        disk.now += 10
    assert len(disk.pace._gaps) == 1
