"""Documents by leaf: the replay equals the merge patches applied one after the other."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.document import changes, leaves, merge_patch, path_of, pointer, related, view
from steno.storage.registers import REMOVED, text_of
from steno.storage.stamps import BY_HAND, Stamp
from steno.tests.unit.strategies import DOCUMENTS, KEYS, PATCHES, canonical

PATHS = st.lists(st.one_of(KEYS, st.text(max_size=4)), max_size=4).map(tuple)


def _stamped(clock: int, written: list[tuple[str, bytes]]) -> dict[str, tuple[Stamp, str, bytes]]:
    return {where: (Stamp(BY_HAND, clock, "a"), where, text) for where, text in written}


# Merge patches


RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_the_examples_of_rfc_7396(target: Any, patch: Any, result: Any):
    assert canonical(merge_patch(target, patch)) == canonical(result)


def test_the_example_document_of_rfc_7396():
    target = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    patch = {"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": None}, "tags": ["example"]}
    assert merge_patch(target, patch) == {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    }


@given(DOCUMENTS, PATCHES)
def test_a_merge_patch_changes_neither_argument(target: dict[str, Any], patch: dict[str, Any]):
    before = copy.deepcopy((target, patch))
    merge_patch(target, patch)
    assert (target, patch) == before


# Replay


@given(DOCUMENTS, st.lists(PATCHES, max_size=8))
def test_the_replay_equals_the_patches_one_after_the_other(first: dict[str, Any], patches: list[dict[str, Any]]):
    document, written = first, _stamped(0, list(leaves(first)))
    for clock, patch in enumerate(patches, start=1):
        before, document = document, merge_patch(document, patch)
        written |= _stamped(clock, list(changes(before, document)))
        assert canonical(view(written.values())) == canonical(document)


@given(DOCUMENTS, DOCUMENTS, st.randoms(use_true_random=False))
def test_the_replay_does_not_depend_on_the_order_in_which_leaves_are_found(
    first: dict[str, Any], second: dict[str, Any], random: Random
):
    written = list((_stamped(0, list(leaves(first))) | _stamped(1, list(changes(first, second)))).values())
    shuffled = random.sample(written, len(written))
    assert canonical(view(shuffled)) == canonical(view(written))


@given(DOCUMENTS, DOCUMENTS)
def test_the_leaves_of_one_write_never_stand_below_each_other(old: dict[str, Any], new: dict[str, Any]):
    paths = [where for where, _ in changes(old, new)]
    assert not any(related(one, other) for one in paths for other in paths)
    assert len(set(paths)) == len(paths)


@given(DOCUMENTS)
def test_a_document_that_stays_as_it_is_writes_nothing(document: dict[str, Any]):
    assert list(changes(document, copy.deepcopy(document))) == []


def test_a_write_sets_only_the_leaves_that_it_changes():
    old = {"a": {"b": 1, "c": 2}, "d": 3}
    assert list(changes(old, {"a": {"b": 1, "c": 9}, "d": 3})) == [("/a/c", b"9")]


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (1, True), (0, False), (None, False)])
def test_values_that_python_takes_for_equal_are_changes(old: Any, new: Any):
    assert list(changes({"a": old}, {"a": new})) == [("/a", text_of(new))]


def test_null_is_a_value_and_a_removal_is_none():
    assert list(changes({}, {"a": None})) == [("/a", b"null")]
    assert list(changes({"a": None}, {})) == [("/a", REMOVED)]


def _view(*written: tuple[str, bytes]) -> dict[str, Any]:
    return view((Stamp(BY_HAND, clock, "a"), where, text) for clock, (where, text) in enumerate(written))


def test_a_value_replaces_everything_below_it():
    assert _view(("/a/b", b"1"), ("/a", b"2")) == {"a": 2}


def test_an_empty_object_replaces_everything_below_it():
    assert _view(("/a/b", b"1"), ("/a", b"{}")) == {"a": {}}


def test_a_leaf_makes_its_ancestors_objects():
    assert _view(("/a", b"2"), ("/a/b/c", b"1")) == {"a": {"b": {"c": 1}}}


def test_a_removal_leaves_the_object_that_the_leaf_stood_in():
    assert _view(("/a/b", b"1"), ("/a/b", REMOVED)) == {"a": {}}


def test_concurrent_writes_of_different_leaves_both_stand():
    one, other = (Stamp(BY_HAND, 5, "a"), "/a/x", b"1"), (Stamp(BY_HAND, 5, "b"), "/a/y", b"2")
    assert view([one, other]) == view([other, one]) == {"a": {"x": 1, "y": 2}}


# Pointers


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("",), "/"),
        (("a", ""), "/a/"),
        (("a/b",), "/a~1b"),
        (("m~n",), "/m~0n"),
        (("~1",), "/~01"),
        ((" ", "0"), "/ /0"),
        (("a", "b"), "/a/b"),
    ],
)
def test_pointers_are_those_of_rfc_6901(path: tuple[str, ...], text: str):
    assert pointer(path) == text
    assert path_of(text) == path


@given(PATHS)
def test_a_path_comes_back_from_its_pointer(path: tuple[str, ...]):
    assert path_of(pointer(path)) == path


@given(PATHS, PATHS)
def test_two_pointers_are_related_where_one_path_begins_the_other(one: tuple[str, ...], other: tuple[str, ...]):
    begins = one[: len(other)] == other or other[: len(one)] == one
    assert related(pointer(one), pointer(other)) == (begins and one != other)
