"""What the model lets in can be stored, sent and read back without change; everything else is refused in one line."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput
from steno.storage.model import (
    AUTOMATIC_TITLE_LENGTH,
    MAX_DEPTH,
    MAX_ID_BYTES,
    Message,
    SessionHeader,
    automatic_title,
    check_content,
    check_json,
    check_message_id,
    check_object,
    check_role,
    check_session_id,
    check_status,
    check_tag,
    check_text,
    check_title,
    format_ms,
    parse_time,
    plain_text,
)
from steno.tests.unit.strategies import DOCUMENTS, VALUES, canonical

LAST_MS = 253_402_300_799_999
TEXTS = st.text(max_size=20)
ANYTHING = st.one_of(
    VALUES, st.binary(max_size=3), st.floats(), st.tuples(VALUES), st.text(alphabet="a\ud800\x00\x9b ")
)
CHECKS = [
    check_session_id,
    check_message_id,
    check_role,
    check_status,
    check_title,
    check_tag,
    check_content,
    parse_time,
    lambda value: check_text(value, "text"),
    lambda value: check_object(value, "object"),
    lambda value: check_json(value, "value"),
]


@given(st.sampled_from(CHECKS), ANYTHING)
def test_a_check_lets_a_value_pass_or_refuses_it_in_one_line(check: Any, value: Any):
    refused = ""
    try:
        check(value)
    except InvalidInput as exc:
        refused = exc.line
    assert len(refused.splitlines()) <= 1


@given(ANYTHING)
def test_json_that_passes_comes_back_from_text_without_change(value: Any):
    try:
        check_json(value, "value")
    except InvalidInput:
        return
    assert canonical(msgspec.json.decode(msgspec.json.encode(value))) == canonical(value)


@given(VALUES)
def test_every_json_value_passes(value: Any):
    check_json(value, "value")


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, b"x", ("a",), {1: "a"}, {"a": {2}}, "\ud800", ["\udfff"], {"\ud800": 1}]
)
def test_what_json_cannot_carry_is_refused(value: Any):
    with pytest.raises(InvalidInput):
        check_json(value, "metadata")


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_values_may_nest_as_deep_as_allowed():
    check_json(_nested(MAX_DEPTH), "metadata")


def test_values_that_nest_deeper_are_refused_without_exhausting_the_stack():
    with pytest.raises(InvalidInput, match="nests deeper"):
        check_json(_nested(100_000), "metadata")


def test_an_integer_that_json_text_cannot_carry_is_refused():
    value = {"n": 10**5000}
    try:
        check_json(value, "metadata")
    except InvalidInput:
        return
    msgspec.json.encode(value)


# Ids


@pytest.mark.parametrize("check", [check_session_id, check_message_id])
@pytest.mark.parametrize("value", ["a", "with space", "a/b", "été", "😀", "x" * MAX_ID_BYTES, "-", ".."])
def test_an_id_is_kept_as_it_is(check: Any, value: str):
    assert check(value) == value


@pytest.mark.parametrize("check", [check_session_id, check_message_id])
@pytest.mark.parametrize(
    "value", ["", "x" * (MAX_ID_BYTES + 1), "é" * MAX_ID_BYTES, "a\nb", "a\x00", "\x7f", "\x9b", None, 7]
)
def test_an_id_that_is_none_is_refused(check: Any, value: Any):
    with pytest.raises(InvalidInput):
        check(value)


def test_a_role_may_be_any_word():
    assert check_role("critic") == "critic"


def test_an_unknown_status_is_refused_with_the_valid_ones():
    with pytest.raises(InvalidInput, match="active, paused, archived"):
        check_status("done")


# Titles and tags


def test_a_title_is_trimmed_to_one_line():
    assert check_title("  A \n title\t") == "A title"


@pytest.mark.parametrize("value", ["", "  \n ", None, 3, "\ud800"])
def test_a_title_that_is_none_is_refused(value: Any):
    with pytest.raises(InvalidInput):
        check_title(value)


def test_a_tag_is_trimmed():
    assert check_tag(" go ") == "go"


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\x00b", "\udc00", None, 3])
def test_a_tag_that_is_none_is_refused(value: Any):
    with pytest.raises(InvalidInput):
        check_tag(value)


# Content


@pytest.mark.parametrize(
    "value", ["", "text", [], [{"type": "text", "text": "a"}], [{"type": "image", "data": {"x": None}}]]
)
def test_content_is_kept_as_given(value: Any):
    assert check_content(value) == value


@pytest.mark.parametrize(
    "value", [None, 7, {"type": "text"}, ["a"], [{}], [{"type": 1}], [{"type": "x", "n": math.nan}], "\ud83d"]
)
def test_content_that_is_none_is_refused(value: Any):
    with pytest.raises(InvalidInput):
        check_content(value)


def test_the_text_of_blocks_is_that_of_the_text_blocks():
    blocks = [
        {"type": "text", "text": "a"},
        {"type": "tool_use", "text": "no"},
        {"type": "text"},
        {"type": "text", "text": "b"},
    ]
    assert plain_text(blocks) == "a\n\nb"


@given(DOCUMENTS)
def test_an_object_passes_as_an_object(document: dict[str, Any]):
    assert check_object(document, "metadata") is document


@pytest.mark.parametrize("value", [None, [], "a", 1])
def test_what_is_no_object_is_refused_as_one(value: Any):
    with pytest.raises(InvalidInput, match="metadata must be a JSON object"):
        check_object(value, "metadata")


# Times


@given(st.integers(0, LAST_MS))
def test_a_time_comes_back_from_its_text(ms: int):
    assert parse_time(format_ms(ms)) == ms


@given(st.integers(0, LAST_MS), st.integers(0, LAST_MS))
def test_texts_of_times_sort_as_the_times_do(one: int, other: int):
    assert (format_ms(one) < format_ms(other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T10:00:00.120Z",
        "2026-11-20T11:00:00.120+01:00",
        "2026-11-20T05:30:00.120-04:30",
        "2026-11-20T10:00:00.120",
        "2026-11-20 10:00:00.120Z",
        "2026-11-20T10:00:00.120999Z",
    ],
)
def test_a_time_is_read_with_and_without_an_offset(text: str):
    assert format_ms(parse_time(text)) == "2026-11-20T10:00:00.120Z"


@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "10:00", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z", None, 7, b"2026-11-20T10:00:00Z"],
)
def test_a_time_that_is_none_is_refused(value: Any):
    with pytest.raises(InvalidInput, match="not a time"):
        parse_time(value)


@pytest.mark.parametrize("between", ["\ud800", "\n", "\x00", "\x1b", "é"])
def test_a_time_with_an_odd_character_between_day_and_hour_is_refused(between: str):
    with pytest.raises(InvalidInput, match="not a time"):
        parse_time(f"2026-11-20{between}10:00:00Z")


@pytest.mark.parametrize("text", ["1970-01-01T00:30:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_its_offset_takes_out_of_range_is_refused(text: str):
    with pytest.raises(InvalidInput, match="not a time"):
        parse_time(text)


# Automatic titles


def test_a_short_message_is_its_own_title():
    assert automatic_title("How do I  sort\na list?") == "How do I sort a list?"


@given(st.one_of(TEXTS, st.text(alphabet="ab \n", min_size=50, max_size=900)))
def test_an_automatic_title_is_one_short_line(text: str):
    title = automatic_title(text)
    assert len(title) <= AUTOMATIC_TITLE_LENGTH
    assert title == " ".join(title.split())


def test_a_long_message_is_cut_between_words():
    assert automatic_title("word " * 50) == "word " * 10 + "word…"


def test_a_long_word_is_cut_within():
    assert automatic_title("x" * 100) == "x" * (AUTOMATIC_TITLE_LENGTH - 1) + "…"


# Shapes


def _header(**fields: Any) -> SessionHeader:
    given: dict[str, Any] = {
        "id": "s",
        "title": "A title",
        "status": "active",
        "provider": None,
        "model": None,
        "user_id": None,
        "tags": [],
        "metadata": {},
        "state": {},
        "created_at": format_ms(0),
        "updated_at": format_ms(0),
        "message_count": 0,
    }
    return SessionHeader(**{**given, **fields})


def test_a_sessions_name_is_its_title():
    assert _header().name == "A title"


@pytest.mark.parametrize(
    ("metadata", "project"), [({"project": "backend"}, "backend"), ({"project": 7}, None), ({}, None)]
)
def test_a_sessions_project_is_the_text_in_its_metadata(metadata: dict[str, Any], project: str | None):
    assert _header(metadata=metadata).project == project


def test_a_message_in_json_has_exactly_the_promised_fields():
    message = Message(id="m", role="user", content="c", timestamp=format_ms(0))
    assert list(msgspec.to_builtins(message)) == [
        "id",
        "role",
        "content",
        "timestamp",
        "sender",
        "parent",
        "model",
        "usage",
        "metadata",
        "deleted_at",
        "origin",
    ]
