from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput
from steno.sync.vault.ranges import Cursor, Range, Ranges

A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"

spans = st.builds(lambda first, more: (first, first + more), st.integers(1, 30), st.integers(0, 6))
many = st.lists(spans, max_size=12)


def numbers(spans: list[Range]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


@given(many)
def test_a_set_of_ranges_holds_what_the_set_of_integers_holds(spans: list[Range]):
    ranges, model = Ranges.of(*spans), numbers(spans)
    assert {number for number in range(45) if number in ranges} == model


@given(many, st.randoms(use_true_random=False))
def test_equal_sets_are_equal_values_however_they_came_about(spans: list[Range], random: Any):
    one_by_one = [(number, number) for number in numbers(spans)]
    random.shuffle(one_by_one)
    assert Ranges.of(*one_by_one) == Ranges.of(*spans)


@given(many, spans)
def test_covers_is_inclusion(spans: list[Range], asked: Range):
    assert Ranges.of(*spans).covers(*asked) == (numbers([asked]) <= numbers(spans))


@given(many, spans)
def test_missing_is_the_difference(spans: list[Range], asked: Range):
    missing = Ranges.of(*spans).missing(*asked)
    assert numbers(missing) == numbers([asked]) - numbers(spans)
    assert missing == sorted(missing)


@given(many)
def test_holes_fill_up_to_the_last_number(spans: list[Range]):
    ranges, model = Ranges.of(*spans), numbers(spans)
    assert ranges.last == max(model, default=0)
    assert numbers(ranges.holes) == set(range(1, ranges.last + 1)) - model


@given(many)
def test_the_first_missing_number_is_the_least_that_is_not_there(spans: list[Range]):
    model = numbers(spans)
    assert Ranges.of(*spans).first_missing == next(number for number in range(1, 99) if number not in model)


@given(many, many)
def test_the_union_holds_both(local: list[Range], remote: list[Range]):
    assert Ranges.of(*local) | Ranges.of(*remote) == Ranges.of(*local, *remote)


@given(many)
def test_ranges_survive_json(spans: list[Range]):
    assert Ranges.from_json(Ranges.of(*spans).to_json()) == Ranges.of(*spans)


@pytest.mark.parametrize(
    "value",
    [None, {}, [[1]], [[1, 2, 3]], [["1", "2"]], [[2, 1]], [[0, 1]], [[1, 2], [3, 4]], [[5, 6], [1, 2]], [[1, 10**12]]],
)
def test_what_to_json_never_writes_is_refused(value: Any):
    with pytest.raises(InvalidInput):
        Ranges.from_json(value)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (-3, -1)])
def test_what_is_no_range_is_not_added(first: int, last: int):
    with pytest.raises(InvalidInput):
        Ranges().add(first, last)


def test_a_cursor_keeps_each_devices_ranges_apart():
    cursor = Cursor().add(A, 1, 3).add(B, 1, 1).add(A, 5, 6)
    assert cursor.covers(A, 1, 3)
    assert not cursor.covers(B, 1, 3)
    assert cursor.of(A).holes == [(4, 4)]
    assert cursor.of("cccccccccccc") == Ranges()


def test_adding_to_a_cursor_leaves_the_old_one_as_it_was():
    before = Cursor().add(A, 1, 1)
    before.add(A, 2, 2)
    assert before == Cursor().add(A, 1, 1)


def test_a_cursor_survives_json():
    cursor = Cursor().add(B, 2, 3).add(A, 1, 1)
    assert cursor.to_json() == {A: [[1, 1]], B: [[2, 3]]}
    assert Cursor.from_json(cursor.to_json()) == cursor


@pytest.mark.parametrize("value", [None, [], {"nobody": [[1, 2]]}, {A: [[2, 1]]}, {1: []}])
def test_what_is_no_cursor_is_refused(value: Any):
    with pytest.raises(InvalidInput):
        Cursor.from_json(value)
