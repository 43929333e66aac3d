"""What a pull fetches, and what it says of what it does not find, from a listing alone."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.sync.vault.names import SegmentName
from steno.sync.vault.plan import PullPlan, plan_pull
from steno.sync.vault.ranges import Cursor, Ranges

OWN, LEFT, RIGHT = "own" * 4, "left" * 3, "righ" * 3


def name(device: str, first: int, last: int | None = None, *, level: int = 0, random: str = "r") -> SegmentName:
    return SegmentName(device, first, last or first, level, random * 12)


def plan(
    listed: list[SegmentName],
    *,
    applied: list[SegmentName] | None = None,
    pending: list[SegmentName] | None = None,
    extra: tuple[str, ...] = (),
) -> PullPlan:
    cursor = Cursor()
    for each in applied or []:
        cursor = cursor.add(each.device, each.first, each.last)
    return plan_pull(
        [*(each.path for each in listed), *extra],
        device=OWN,
        cursor=cursor,
        applied={each.path for each in applied or []},
        pending={each.path for each in pending or []},
    )


def test_an_empty_listing_asks_for_nothing():
    assert plan([]) == PullPlan([], {}, [], [])


def test_what_is_not_applied_is_fetched_in_the_order_of_its_numbers():
    listed = [name(LEFT, 10), name(LEFT, 2), name(LEFT, 1)]
    assert plan(listed, applied=[name(LEFT, 1)]).fetch == [name(LEFT, 2), name(LEFT, 10)]


def test_what_is_applied_is_not_fetched_again():
    listed = [name(LEFT, 1), name(RIGHT, 1)]
    assert plan(listed, applied=listed).fetch == []


def test_what_this_device_published_is_not_fetched():
    assert plan([name(OWN, 1)], applied=[name(OWN, 1)]) == PullPlan([], {}, [], [])


def test_what_this_device_is_about_to_publish_is_neither_strange_nor_lost():
    found = plan([name(OWN, 1)], pending=[name(OWN, 1)])
    assert (found.strange, found.lost) == ([], [])
    assert plan([], pending=[name(OWN, 1)]).lost == []


def test_an_object_under_our_id_that_we_did_not_write_is_strange():
    other = name(OWN, 1, random="x")
    assert plan([name(OWN, 1), other], applied=[name(OWN, 1)]).strange == [other]


@pytest.mark.fault(34)
def test_a_second_object_of_one_number_is_read_too():
    first, second = name(LEFT, 1, random="a"), name(LEFT, 1, random="b")
    assert plan([first, second], applied=[first]).fetch == [second]


def test_a_number_that_is_missing_is_a_hole_and_what_lies_behind_it_is_fetched():
    found = plan([name(LEFT, 1), name(LEFT, 3), name(LEFT, 6)])
    assert [each.first for each in found.fetch] == [1, 3, 6]
    assert found.holes == {LEFT: [(2, 2), (4, 5)]}


def test_a_log_that_begins_late_has_a_hole_at_its_beginning():
    assert plan([name(RIGHT, 3)]).holes == {RIGHT: [(1, 2)]}


def test_a_hole_in_our_own_log_is_named_where_we_caught_up_with_it():
    kept = [name(OWN, 1), name(OWN, 3)]
    assert plan(kept, applied=kept).holes == {OWN: [(2, 2)]}


def test_of_compacted_objects_the_fewest_that_cover_what_is_missing_are_fetched():
    small = [name(LEFT, at, at + 1, level=1) for at in (1, 3, 5, 7)]
    large = name(LEFT, 1, 8, level=2)
    assert plan([*small, large]).fetch == [large]
    assert plan([*small, large], applied=[name(LEFT, 1, 6)]).fetch == [small[-1]]


def test_a_compacted_object_whose_range_is_applied_is_not_fetched():
    pieces = [name(LEFT, at) for at in (1, 2, 3)]
    assert plan([name(LEFT, 1, 3, level=1)], applied=pieces).fetch == []


def test_pieces_that_were_compacted_are_not_lost():
    pieces = [name(LEFT, at) for at in (1, 2, 3)]
    assert plan([name(LEFT, 1, 3, level=1)], applied=pieces).lost == []


@pytest.mark.fault(33)
def test_what_was_applied_and_is_gone_is_lost_and_not_obeyed():
    found = plan([name(LEFT, 1), name(LEFT, 3)], applied=[name(LEFT, 1), name(LEFT, 2)])
    assert found.lost == [name(LEFT, 2)]
    assert found.fetch == [name(LEFT, 3)]


def test_what_this_device_published_and_is_gone_is_lost():
    assert plan([], applied=[name(OWN, 1)]).lost == [name(OWN, 1)]


@pytest.mark.fault(40)
def test_foreign_names_are_passed_over():
    extra = ("log/desktop.ini", f"{name(LEFT, 1).path} (1)", "log/", "keys/1.aaaaaaaaaaaa")
    assert plan([], extra=extra) == PullPlan([], {}, [], [], foreign=list(extra))


_DEVICES = st.sampled_from([LEFT, RIGHT])


def _drawn(device: str, first: int, more: int, level: int, random: str) -> SegmentName:
    return name(device, first, first + (more if level else 0), level=level, random=random)


_NAMES = st.builds(_drawn, _DEVICES, st.integers(1, 12), st.integers(0, 5), st.integers(0, 2), st.sampled_from("ab"))


@given(st.lists(_NAMES), st.lists(_NAMES))
def test_what_is_fetched_and_what_is_here_cover_all_that_is_listed(
    listed: list[SegmentName], applied: list[SegmentName]
):
    found = plan(listed, applied=applied)
    for device in (LEFT, RIGHT):
        have = Ranges.of(*((each.first, each.last) for each in [*applied, *found.fetch] if each.device == device))
        assert all(have.covers(each.first, each.last) for each in listed if each.device == device)
        assert found.holes.get(device, []) == have.holes


@pytest.mark.fault(33)
@given(st.lists(_NAMES), st.lists(_NAMES), st.randoms(use_true_random=False))
def test_the_order_of_a_listing_and_repeats_in_it_change_nothing_but_repeats(
    listed: list[SegmentName], applied: list[SegmentName], random: Random
):
    shuffled = [*listed, *listed]
    random.shuffle(shuffled)
    once, twice = plan(sorted(set(listed)), applied=applied), plan(shuffled, applied=applied)
    assert set(once.fetch) == set(twice.fetch)
    assert (once.holes, once.lost) == (twice.holes, twice.lost)


@given(st.lists(_NAMES), st.lists(_NAMES))
def test_when_all_is_applied_that_was_fetched_nothing_is_fetched_again(
    listed: list[SegmentName], applied: list[SegmentName]
):
    assert plan(listed, applied=[*applied, *plan(listed, applied=applied).fetch]).fetch == []
