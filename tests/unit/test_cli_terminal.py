"""What is stored may be anything; what is sent to a terminal must not steer it."""

from __future__ import annotations

import json
import time
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.cli import terminal
from steno.cli.terminal import colours, escaped, fit, local_time, safe, safe_line, table, when, width
from steno.storage.model import format_ms

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


@pytest.mark.parametrize(
    ("passed_s", "said"),
    [
        (0, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "59 min ago"), (3600, "1 h ago"),
        (86_399, "23 h ago"), (86_400, "1 day ago"), (13 * 86_400, "13 days ago"),
    ],
)  # fmt: skip
def test_a_time_on_a_terminal_is_told_as_people_tell_it(
    monkeypatch: pytest.MonkeyPatch, passed_s: int, said: str
) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: 80)
    now_ms = 1_800_000_000_000
    monkeypatch.setattr(terminal.time, "time", lambda: now_ms / 1000)
    assert when(format_ms(now_ms - passed_s * 1000)) == said


@pytest.mark.parametrize("days", [-1, 14, 10_000])
def test_a_time_that_is_far_away_is_told_by_its_date(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: 80)
    text = format_ms(int(time.time() * 1000) - days * 86_400_000)
    assert when(text) == local_time(text)


def test_a_time_in_a_pipe_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: None)
    text = format_ms(int(time.time() * 1000))
    assert when(text) == local_time(text)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: 80)
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert colours() is coloured


def test_a_time_that_no_calendar_of_this_machine_has_stays_as_it_is() -> None:
    assert local_time("9999-12-31T23:59:59.999Z")
    assert local_time("not a \x1b time") == "not a \\x1b time"
