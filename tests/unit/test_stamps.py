"""The clock of stamps: it never runs backwards, and a full counter carries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.stamps import BY_HAND, DERIVED, MAX_CLOCK, REBUILT, Stamp, clock_ms, plausible, tick

CLOCKS = st.integers(0, MAX_CLOCK - 1)
TIMES_MS = st.integers(0, clock_ms(MAX_CLOCK) - 1)
STAMPS = st.builds(Stamp, st.sampled_from([BY_HAND, DERIVED, REBUILT]), CLOCKS, st.sampled_from(["a", "b"]))


@pytest.mark.fault(16, 17)
@given(CLOCKS, st.lists(TIMES_MS, min_size=1))
def test_the_clock_never_runs_backwards_whatever_the_wall_says(clock: int, wall: list[int]):
    for now_ms in wall:
        before, clock = clock, tick(clock, now_ms=now_ms)
        assert clock > before


@given(CLOCKS, TIMES_MS)
def test_the_clock_is_never_behind_the_wall(clock: int, now_ms: int):
    assert clock_ms(tick(clock, now_ms=now_ms)) >= now_ms


@given(st.integers(1, clock_ms(MAX_CLOCK) - 1))
def test_a_wall_that_is_ahead_starts_the_counter_anew(now_ms: int):
    assert tick(0, now_ms=now_ms) == now_ms << 16


@pytest.mark.fault(16)
@given(CLOCKS, st.integers(clock_ms(MAX_CLOCK), 1 << 60))
def test_a_wall_beyond_the_year_2200_is_not_followed(clock: int, now_ms: int):
    assert tick(clock, now_ms=now_ms) == clock + 1


@pytest.mark.fault(18)
@given(TIMES_MS)
def test_a_full_counter_carries_into_the_milliseconds(now_ms: int):
    full = now_ms << 16 | 0xFFFF
    assert tick(full, now_ms=now_ms) == (now_ms + 1) << 16


def test_a_clock_has_46_bits_of_milliseconds():
    assert (MAX_CLOCK - 1).bit_length() <= 46 + 16


@pytest.mark.fault(18)
def test_stamps_are_refused_from_the_year_2200_on():
    year_2200_ms = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert plausible((year_2200_ms << 16) - 1)
    assert not plausible(year_2200_ms << 16)


def test_a_clock_of_nothing_is_refused():
    assert not plausible(0)
    assert not plausible(-1)


@given(STAMPS, STAMPS)
def test_the_class_stands_above_the_time_when_values_are_compared(one: Stamp, other: Stamp):
    if one.rank > other.rank:
        assert one > other


@given(STAMPS, STAMPS)
def test_the_instant_orders_births_whatever_their_class(one: Stamp, other: Stamp):
    assert (one.instant < other.instant) == ((one.clock, one.device) < (other.clock, other.device))
