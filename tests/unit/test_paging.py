"""Cursors of lists: what they stand for, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput
from steno.storage.paging import cursor_of, place_of

TEXT = st.text(st.characters(codec="utf-8"))


@given(st.tuples(st.integers(0, 2**63 - 1), TEXT))
def test_a_cursor_stands_for_its_place_and_needs_no_quotes_in_a_shell_or_an_address(place: tuple[int, str]) -> None:
    cursor = cursor_of(place)
    assert place_of(cursor, tuple[int, str]) == place
    assert not {char for char in cursor if not (char.isascii() and (char.isalnum() or char in "-_"))}


@given(TEXT)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="this cursor is not one that this list gave"):
        place_of(text, tuple[int, str])


def test_the_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not one that this list gave"):
        place_of(cursor_of(("older", "m1")), tuple[int, str])
