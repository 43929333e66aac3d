"""Where a value of a path stands in a JSON text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.transcripts.faults import Wrong, faults_of, located, offset_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=3), below, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(value=JSON, indent=st.none() | st.integers(0, 2), data=st.data())
def test_what_begins_at_the_place_of_a_path_is_its_value(value: Any, indent: int | None, data: st.DataObject) -> None:
    text, path = json.dumps(value, indent=indent), []
    while isinstance(value, dict | list) and data.draw(st.booleans()):
        step = data.draw(st.sampled_from(list(value) if isinstance(value, dict) else list(range(len(value)))))
        path.append(step)
        value = value[step]
    assert json.JSONDecoder().raw_decode(text, offset_of(text, tuple(path)))[0] == value


@pytest.mark.parametrize("path", [("b",), ("a", "c"), ("a", 3), (0,)])
def test_what_is_not_there_is_looked_for_where_it_should_be(path: tuple[str | int, ...]) -> None:
    text = ' {"a": [1, 2]}'
    assert text[offset_of(text, path)] in "{["


def test_columns_count_characters_and_lines_go_on_from_the_element() -> None:
    text = '{"é": 1,\n "x": 2}'.encode()
    [fault] = located(text, [Wrong(("x",), "why")], place=(7, 3))
    assert (fault.line, fault.column, fault.reason) == (8, 7, "why")


@given(JSON)
def test_whatever_stands_in_a_file_its_faults_are_listed(value: Any) -> None:
    assert all(each.reason for each in faults_of(value))
    assert all(each.reason for each in faults_of({"steno": 1, "id": value, "messages": [value], "tags": value}))
