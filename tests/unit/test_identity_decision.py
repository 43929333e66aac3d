"""Whether a store still is the only one that writes under its id."""

from __future__ import annotations

import pytest

from steno.storage.change import VERSION, Batch, SessionChange
from steno.storage.rows import SessionBirth
from steno.sync.vault.identity import Verdict, decide, doubtful, holds
from steno.sync.vault.names import SegmentName
from steno.sync.vault.ranges import Ranges


def segment(first: int, last: int | None = None, *, random: str = "b") -> SegmentName:
    last = first if last is None else last
    return SegmentName("a" * 12, first, last, int(last > first), random * 12)


def verdict(
    *strange: SegmentName,
    have: int = 3,
    given: set[int] | None = None,
    written: bool = False,
    **options: tuple[SegmentName, ...],
) -> Verdict:
    numbers = {1, 2, 3} if given is None else given
    return decide(strange, have=Ranges.of((1, have)), given=numbers, is_written=written, **options)


def test_a_log_that_goes_on_where_nothing_was_written_is_caught_up_with():
    assert verdict(segment(4), segment(5)) == Verdict("behind", 3)


def test_a_log_that_goes_on_where_something_was_written_is_another_stores():
    assert verdict(segment(4), written=True) == Verdict("apart", 3)


def test_a_number_that_was_given_twice_is_the_first_that_is_not_agreed():
    assert verdict(segment(3), segment(4)) == Verdict("apart", 2)


def test_a_number_that_another_store_gave_is_no_reason_to_go_apart():
    assert verdict(segment(4), have=5, given={1, 2, 3}) == Verdict("same", 5)


def test_a_number_that_was_missing_among_those_caught_up_with_is_caught_up_with():
    have = Ranges.of((1, 3), (5, 5))
    assert decide([segment(4)], have=have, given={1, 2, 3}, is_written=False) == Verdict("behind", 3)


def test_what_stands_for_what_is_here_says_nothing_new():
    assert verdict(segment(1, 3), written=True) == Verdict("same", 3)


def test_what_stands_for_others_of_our_numbers_goes_apart_before_them():
    assert verdict(segment(1, 3), differing=(segment(2), segment(3))) == Verdict("apart", 1)


def test_only_what_covers_something_of_ours_is_to_be_read():
    ours = [segment(1), segment(2), segment(7)]
    assert list(doubtful([segment(9), segment(2, 5)], ours)) == [(segment(2, 5), [segment(2)])]


def test_what_is_covered_is_compared_from_its_end():
    ours = [segment(1), segment(2), segment(3)]
    assert list(doubtful([segment(1, 5)], ours)) == [(segment(1, 5), ours[::-1])]


def _batch(*clocks: int, device: str = "a" * 12) -> Batch:
    births = [SessionBirth(clock, 2, 1, None, None) for clock in clocks]
    return Batch(VERSION, {0: device}, [SessionChange("one", 1, births, 0, [], [])])


@pytest.mark.parametrize(
    ("part", "held"),
    [(_batch(1), True), (_batch(1, 2), True), (_batch(3), False), (_batch(1, device="c" * 12), False)],
)
def test_a_segment_holds_another_one_if_it_has_all_its_stamps(part: Batch, *, held: bool):
    assert holds(_batch(1, 2), part) is held
