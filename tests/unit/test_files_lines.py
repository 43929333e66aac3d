from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.sync.files.lines import Header, Line, Refused, Rev, parse, parse_rev, render

HEADER = Header(
    id="k3v9",
    rev="q7f3.00000418",
    title="REST API",
    status="active",
    tags=["go"],
    metadata={"project": "backend"},
    created_at="2026-11-20T10:00:00.000Z",
)
ASKED = Line(id="m-1", role="user", content="How do I …?", timestamp="2026-11-20T10:00:05.120Z")
ANSWERED = Line(id="m-2", role="assistant", content="Start with …", model="m", usage={"output_tokens": 80})
HEAD = b'{"steno":1,"id":"k3v9"}\n'


def _refused(data: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(data)
    return caught.value


def test_a_file_looks_as_designed() -> None:
    assert render(HEADER, [ASKED, ANSWERED]).decode().splitlines() == [
        (
            '{"steno":1,"id":"k3v9","rev":"q7f3.00000418","title":"REST API","status":"active","tags":["go"],'
            '"provider":null,"model":null,"user_id":null,"metadata":{"project":"backend"},"state":{},'
            '"created_at":"2026-11-20T10:00:00.000Z"}'
        ),
        '{"id":"m-1","role":"user","content":"How do I …?","timestamp":"2026-11-20T10:00:05.120Z"}',
        '{"id":"m-2","role":"assistant","content":"Start with …","model":"m","usage":{"output_tokens":80}}',
    ]


def test_what_ends_a_line_for_some_editors_stands_escaped() -> None:
    line = Line(id="m", role="user", content="one\u2028two\u2029three\x85four\nfive\rsix")
    data = render(HEADER, [line])
    assert len(data.decode().splitlines()) == 2
    assert parse(data).lines == [line]


_texts = st.text(max_size=12)
_names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_texts, _values, max_size=3)
_blocks = st.lists(st.builds(lambda block, kind: {**block, "type": kind}, _objects, _texts), max_size=3)
_lines = st.builds(
    Line,
    id=st.none() | _names,
    role=_names,
    sender=st.none() | _texts,
    content=_texts | _blocks,
    timestamp=st.none() | _texts,
    parent=st.none() | _names,
    model=st.none() | _texts,
    usage=st.none() | _objects,
    metadata=_objects,
    origin=st.none() | _objects,
)
_headers = st.builds(
    Header,
    id=_names,
    rev=st.none() | _texts,
    title=_texts,
    status=st.sampled_from([None, "active", "paused", "archived"]),
    tags=st.lists(_names.map(str.strip).filter(bool), unique=True, max_size=3),
    provider=st.none() | _texts,
    metadata=_objects,
    state=_objects,
    created_at=st.just("2026-11-20T10:00:00.000Z"),
    forked_from=st.none() | _objects,
    source=st.none() | _objects,
)
_files = st.tuples(_headers, st.lists(_lines, max_size=4, unique_by=lambda line: line.id or id(line)))


@given(_files)
def test_what_is_rendered_reads_back_unchanged(file: tuple[Header, list[Line]]) -> None:
    header, lines = file
    parsed = parse(render(header, lines))
    assert (parsed.header, parsed.lines) == (header, lines)
    assert render(parsed.header or Header(), parsed.lines) == render(header, lines)


@given(_files)
def test_the_form_that_another_program_gives_a_file_does_not_matter(file: tuple[Header, list[Line]]) -> None:
    header, lines = file
    rows = render(header, lines).decode().removesuffix("\n").split("\n")
    rows = [json.dumps(dict(reversed(json.loads(row).items())), indent=None) for row in rows]
    data = b"\xef\xbb\xbf" + "\r\n\r\n".join(rows).encode()
    parsed = parse(data)
    assert (parsed.header, parsed.lines) == (header, lines)
    assert parsed.numbers == [2 * place + 3 for place in range(len(lines))]


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert _reason(data)


def _reason(data: bytes) -> str:
    try:
        parse(data)
    except Refused as refused:
        return refused.reason
    return "understood"


def test_an_absent_key_of_the_header_is_told_from_null() -> None:
    parsed = parse(b'{"steno":1,"id":"k3v9","provider":null,"tags":null}')
    assert parsed.present == {"steno", "id", "provider", "tags"}
    assert parsed.header == Header(id="k3v9")


def test_a_file_without_header_is_valid() -> None:
    parsed = parse(b'{"role":"user","content":"hello"}\n')
    assert parsed.header is None
    assert parsed.lines == [Line(role="user", content="hello")]


def test_null_stands_for_a_value_left_out() -> None:
    data = HEAD + b'{"role":"user","content":"x","id":null,"metadata":null,"usage":null}'
    assert parse(data).lines == [Line(role="user", content="x")]


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (b'{"role":"user","content":"x"', 29, "no JSON"),
        (b'{"role":"user","content":"x"},', 30, "no JSON"),
        (b'{"role":"user" "content":"x"}', 16, "no JSON"),
        (b'{"role":"user","content":"x"}{}', 30, "no JSON"),
        (b'{"role":"user","content":"\xff"}', 27, "not UTF-8"),
        (b'{"role":"user","content":"x","metadata":{"n":NaN}}', None, "NaN is no JSON number"),
        (b'{"role":"user","content":"x","metadata":{"n":1e999}}', None, "inf"),
        (b'["role"]', None, "no JSON object"),
        (b'{"content":"x"}', None, "no role"),
        (b'{"role":null,"content":"x"}', None, "no role"),
        (b'{"role":"","content":"x"}', None, "role must be"),
        (b'{"role":"user"}', None, "no content"),
        (b'{"role":"user","content":null}', None, "no content"),
        (b'{"role":"user","content":7}', None, "wrong type"),
        (b'{"role":"user","content":["x"]}', None, "wrong type"),
        (b'{"role":"user","content":[{"text":"x"}]}', None, "each an object with a type"),
        (b'{"role":"user","content":"x","usage":[]}', None, "wrong type"),
        (b'{"role":"user","content":"x","tool_calls":[]}', None, "no key `tool_calls`"),
        (b'{"role":"user","content":"x","content":"y"}', None, "`content` stands twice"),
        (b'{"role":"user","content":"x","metadata":{"a":1,"a":1}}', None, "`a` stands twice"),
        (b'{"role":"user","content":"\\ud800"}', None, "lone surrogate"),
        (b'{"id":"a\\u0000","role":"user","content":"x"}', None, "control characters"),
        (b'{"id":"","role":"user","content":"x"}', None, "message id must be"),
        (b'{"role":"user","content":"x","parent":"a\\nb"}', None, "control characters"),
        (b'{"role":"user","content":"x","metadata":' + b'{"a":' * 70 + b"1" + b"}" * 71, None, "nests deeper"),
        (b'{"role":"user","content":"x","metadata":' + b"[" * 90_000, None, "nests deeper"),
        (b'{"steno":1,"id":"other"}', None, "only be the first line"),
    ],
)
def test_a_line_that_cannot_be_understood_refuses_the_file(row: bytes, column: int | None, reason: str) -> None:
    refused = _refused(HEAD + b'{"id":"m-1","role":"user","content":"fine"}\n' + row + b"\n")
    assert (refused.line_number, refused.column) == (3, column)
    assert reason in refused.reason
    assert refused.line.startswith("line 3")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"steno":2,"id":"k3v9","anything":1}', "newer version"),
        (b'{"steno":true,"id":"k3v9"}', "must be 1"),
        (b'{"steno":1,"id":"k3v9","updated_at":"x"}', "no key `updated_at`"),
        (b'{"steno":1,"id":"k\\u0007"}', "session id must be"),
        (b'{"steno":1,"id":"k3v9","status":"done"}', "invalid status: done"),
        (b'{"steno":1,"id":"k3v9","tags":["a",""]}', "a tag must be"),
        (b'{"steno":1,"id":"k3v9","tags":"go"}', "wrong type"),
        (b'{"steno":1,"id":"k3v9","metadata":[]}', "wrong type"),
        (b'{"steno":1,"id":"k3v9","created_at":"yesterday"}', "not a time"),
        (b'{"id":"k3v9","title":"T"}', "no role"),
    ],
)
def test_a_header_that_cannot_be_understood_refuses_the_file(row: bytes, reason: str) -> None:
    refused = _refused(row + b'\n{"role":"user","content":"x"}\n')
    assert refused.line_number == 1
    assert reason in refused.reason


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data: bytes) -> None:
    assert _refused(data).reason == "the file is empty"


def test_an_id_that_stands_twice_is_refused_with_both_places() -> None:
    row = b'{"id":"m-1","role":"user","content":"x"}\n'
    refused = _refused(HEAD + row + b"\n" + row)
    assert refused.line_number == 4
    assert "line 2" in refused.reason


def test_utf_16_is_named() -> None:
    assert "UTF-16" in _refused('{"steno":1}'.encode("utf-16")).reason


@pytest.mark.parametrize(
    ("text", "rev"),
    [("q7f3.00000418", Rev("q7f3", 418)), ("q7f3.123456789", Rev("q7f3", 123_456_789)), ("q7f3", None), (None, None)],
)
def test_a_rev_names_store_and_seq(text: str | None, rev: Any) -> None:
    assert parse_rev(text) == rev
    assert rev is None or str(rev) == text
