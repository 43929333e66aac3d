"""The merge rule on states that three devices can reach: three laws, and no value lost or kept wrongly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.registers import (
    EMPTY,
    REMOVED,
    Known,
    Register,
    Value,
    born,
    covers,
    join_known,
    merge,
    text_of,
    value_of,
    write,
)
from steno.storage.stamps import BY_HAND, DERIVED, REBUILT, Stamp
from steno.tests.unit.strategies import VALUES, WORLDS, World, canonical

PICKS = st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))


def _three(world: World, picks: tuple[int, int, int]) -> tuple[Register, Register, Register]:
    one, two, three = (world.states[pick % len(world.states)] for pick in picks)
    return one, two, three


# The laws


@given(WORLDS, PICKS)
def test_merging_is_commutative(world: World, picks: tuple[int, int, int]):
    local, other, _ = _three(world, picks)
    assert merge(local, other) == merge(other, local)


@given(WORLDS, PICKS)
def test_merging_is_associative(world: World, picks: tuple[int, int, int]):
    one, two, three = _three(world, picks)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(WORLDS)
def test_merging_a_state_with_itself_changes_nothing(world: World):
    for state in world.states:
        assert merge(state, state) == state


@given(WORLDS)
def test_merging_with_a_register_never_written_changes_nothing(world: World):
    for state in world.states:
        assert merge(state, EMPTY) == merge(EMPTY, state) == state


@given(WORLDS)
def test_merging_again_what_was_merged_changes_nothing(world: World):
    for device in world.devices:
        for other in world.devices:
            merged = merge(device.register, other.register)
            assert merge(merged, other.register) == merged


@given(WORLDS)
def test_equal_knowledge_is_equal_state(world: World):
    world.settle()
    by_knowledge: dict[Any, Any] = {}
    for state in world.states:
        known = frozenset(state.known.items())
        assert by_knowledge.setdefault(known, state.open) == state.open


@given(WORLDS)
def test_whatever_is_open_is_known(world: World):
    for state in world.states:
        assert all(covers(state.known, stamp) for stamp in state.open)


# What a person may rely on


@given(WORLDS)
def test_all_devices_end_with_the_same_state(world: World):
    world.settle()
    assert world.devices[0].register == world.devices[1].register == world.devices[2].register


@given(WORLDS)
def test_no_value_is_lost_that_nobody_replaced_knowingly(world: World):
    world.settle()
    assert world.alive <= set(world.devices[0].register.open)


@given(WORLDS)
def test_no_value_stays_open_that_somebody_replaced_knowingly(world: World):
    world.settle()
    assert set(world.devices[0].register.open) <= world.alive


@given(WORLDS)
def test_a_stamp_keeps_the_value_that_was_written_under_it(world: World):
    world.settle()
    for stamp, value in world.devices[0].register.open.items():
        assert value.text == world.writes[stamp].text


@given(WORLDS)
def test_a_register_that_was_written_shows_a_value(world: World):
    for state in world.states:
        assert bool(state.open) == bool(state.known)


@given(WORLDS)
def test_what_was_written_by_hand_is_shown_over_what_was_derived(world: World):
    for state in world.states:
        if any(rank == BY_HAND for _, rank in state.known):
            assert state.top[0].rank == BY_HAND


@given(WORLDS)
def test_a_conflict_is_two_differing_values_that_people_wrote_unknowing_of_each_other(world: World):
    world.settle()
    texts = {world.writes[stamp].text for stamp in world.alive if stamp.rank == BY_HAND}
    assert world.devices[0].register.conflict == (len(texts) > 1)


# Single writes


def _stamp(clock: int, device: str = "a", rank: int = BY_HAND) -> Stamp:
    return Stamp(rank, clock, device)


def _state(*stamps: Stamp) -> Register:
    known: Known = {}
    for stamp in stamps:
        known = join_known(known, {stamp.writer: stamp.clock})
    return Register({stamp: Value(stamp.device.encode()) for stamp in stamps}, known)


def test_a_write_by_hand_replaces_every_value_that_it_knew():
    state = _state(_stamp(1), _stamp(2, "b"), _stamp(3, "c", DERIVED))
    assert write(state, _stamp(4), Value(b"new")).open == {_stamp(4): Value(b"new")}


@pytest.mark.parametrize("rank", [DERIVED, REBUILT])
def test_a_derived_write_leaves_what_was_written_by_hand(rank: int):
    written = write(_state(_stamp(1, "b"), _stamp(2, "c", DERIVED)), _stamp(3, "a", rank), Value(b"new"))
    assert set(written.open) == {_stamp(1, "b"), _stamp(3, "a", rank)}
    assert written.shown == b"b"


def test_a_write_on_an_older_base_leaves_what_arrived_meanwhile():
    state = _state(_stamp(1, "b"), _stamp(5, "c"))
    written = write(state, _stamp(6), Value(b"new"), base={("b", BY_HAND): 1})
    assert set(written.open) == {_stamp(5, "c"), _stamp(6)}
    assert written.conflict


def test_a_write_after_a_conflict_was_seen_settles_it():
    state = _state(_stamp(1, "b"), _stamp(2, "c"))
    assert state.conflict
    assert not write(state, _stamp(3), Value(b"new")).conflict


def test_a_derived_value_is_no_conflict():
    assert not _state(_stamp(1), _stamp(2, "b", DERIVED)).conflict


def test_equal_values_are_no_conflict():
    assert not Register({_stamp(1): Value(b"1"), _stamp(2, "b"): Value(b"1")}, {}).conflict


def test_of_two_values_under_one_stamp_the_greater_bytes_stay():
    one, other = born(_stamp(1), b"one"), born(_stamp(1), b"two")
    assert merge(one, other) == merge(other, one) == other


def test_a_later_write_of_a_lower_class_does_not_make_its_writer_know_less():
    known = write(_state(_stamp(9)), _stamp(10, "a", DERIVED), Value(b"x")).known
    assert known == {("a", BY_HAND): 9, ("a", DERIVED): 10}


def test_merging_changes_neither_side():
    local, other = _state(_stamp(1)), _state(_stamp(2, "b"))
    merge(local, other)
    assert (local, other) == (_state(_stamp(1)), _state(_stamp(2, "b")))


def test_a_register_that_was_written_once_is_plain():
    assert born(_stamp(1), b"1").plain


@pytest.mark.parametrize(
    "register",
    [
        EMPTY,
        _state(_stamp(1), _stamp(2, "b")),
        Register({_stamp(1): Value(b"1")}, {("a", BY_HAND): 1, ("b", BY_HAND): 1}),
        Register({_stamp(1): Value(b"1")}, {("a", BY_HAND): 2}),
        Register({_stamp(1): Value(b"1", b"{}")}, {("a", BY_HAND): 1}),
    ],
)
def test_a_register_that_knows_more_than_its_value_is_not_plain(register: Register):
    assert not register.plain


def test_a_register_never_written_shows_a_removal():
    assert EMPTY.shown == REMOVED


@given(VALUES)
def test_a_value_comes_back_from_its_text(value: Any):
    assert canonical(value_of(text_of(value))) == canonical(value)


@given(VALUES)
def test_no_value_has_the_text_of_a_removal(value: Any):
    assert text_of(value) != REMOVED
