"""What is stored may be anything; what is sent to a terminal must not steer it."""

from __future__ import annotations

import json
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.cli import terminal
from steno.cli.terminal import escaped, fit, local_time, safe, safe_line, table, width

TEXT = st.text(st.characters(codec="utf-8"))


@given(TEXT)
def test_safe_text_holds_no_control_character_but_lines_and_tabs(text: str) -> None:
    assert {char for char in safe(text) if unicodedata.category(char) in ("Cc", "Zl", "Zp")} <= {"\n", "\t"}


@given(TEXT)
def test_safe_line_is_one_line(text: str) -> None:
    assert len(safe_line(text).splitlines()) <= 1


@given(TEXT)
def test_escaped_json_is_the_same_value_without_steering_characters(text: str) -> None:
    data = escaped(msgspec.json.encode([text]))
    assert json.loads(data) == [text]
    assert safe(data.decode()) == data.decode()


@given(TEXT, st.integers(2, 40))
def test_a_fitted_text_takes_no_more_columns_than_there_are(text: str, room: int) -> None:
    assert width(fit(safe_line(text), room)) <= room


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert (width("日本"), width("e\u0301")) == (4, 1)


def test_a_table_on_a_terminal_cuts_the_flexible_column_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: 40)
    lines = table(("ID", "TITLE", "N"), [("abc", "日本語の長い題名" * 5, "12"), ("d", "short", "1")], flexible=1)
    assert all(width(line) < 40 for line in lines)
    assert "…" in lines[1]


def test_a_table_in_a_pipe_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: None)
    assert "x" * 500 in table(("ID", "TITLE"), [("a", "x" * 500)], flexible=1)[1]


def test_a_time_that_no_calendar_of_this_machine_has_stays_as_it_is() -> None:
    assert local_time("9999-12-31T23:59:59.999Z")
    assert local_time("not a \x1b time") == "not a \\x1b time"
