from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from steno.storage.model import MAX_DEPTH, check_content, check_object
from steno.storage.packing import MAX_MESSAGE_BYTES
from steno.sync.files import lines as lines_module
from steno.sync.files.lines import Header, Line, Refused, Rev, Shared, parse, parse_rev, render

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


def _shape(draw: Callable[..., Any], row: str) -> str:
    """An object as some program lays it out: key order, line ends and indentation are its own."""
    keys = list(json.loads(row).items())
    separators = draw(st.sampled_from([None, (",", ":"), (" ,\t", "\r\n: ")]))
    ordered = dict(draw(st.permutations(keys)))
    return json.dumps(ordered, indent=draw(st.sampled_from([None, 0, 2, "\t"])), separators=separators)


@given(st.data(), _files)
def test_objects_may_span_lines_and_share_them(data: st.DataObject, file: tuple[Header, list[Line]]) -> None:
    header, lines = file
    rows = render(header, lines).decode().removesuffix("\n").split("\n")
    text, numbers = data.draw(st.sampled_from(["", "\ufeff", "\n\n"])), []
    for row in rows:
        numbers.append(text.count("\n") + 1)
        text += _shape(data.draw, row) + data.draw(st.sampled_from(["\n", "\r\n", "\n\n", " ", "\t", "\r"]))
    ending = data.draw(st.sampled_from(["\n", "\r\n", "", " "]))
    parsed = parse((text.rstrip() + ending).encode())
    assert (parsed.header, parsed.lines) == (header, lines)
    assert parsed.numbers == numbers[1:]


_odd = st.sampled_from([
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"\r", b",", b":", b" ", b"\x00", b"\xff", b"\xed\xa0\x80", b"\x0b",
    b"\xef\xbb\xbf", "\u2028".encode(), b"\\ud800", b"\\u0041", b"1", b"NaN", b"1e999", b"null", b'"role":"user"',
    b'"content":"x"', b'{"role":"user","content":"x"}', b'{"steno":1}', b'{"id":"a",', b'"metadata":{"a":',
])  # fmt: skip


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.lists(_odd, max_size=12).map(b"".join))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert _reason(data)


@given(_files, st.integers(min_value=0), _odd)
def test_whatever_is_wrong_is_refused_at_a_place_that_is_there(
    file: tuple[Header, list[Line]], at: int, odd: bytes
) -> None:
    data = render(*file)
    data = data[: at % len(data)] + odd + data[at % len(data) :]
    try:
        parse(data)
    except Refused as refused:
        line, column = refused.line_number or 0, refused.column or 0
        rows = data.decode(errors="surrogateescape").split("\n")
        assert 1 <= line <= len(rows)
        assert 1 <= column <= len(rows[line - 1].removeprefix("\ufeff")) + 1


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
        (b'{"role":"user","content":"x","metadata":{"n":NaN}}', 46, "NaN is no JSON number"),
        (b'{"role":"user","content":"x","metadata":{"n":1e999}}', 46, "inf"),
        (b'["role"]', 1, "no JSON object"),
        (b'{"content":"x"}', 1, "no role"),
        (b'{"role":null,"content":"x"}', 2, "no role"),
        (b'{"role":"","content":"x"}', 2, "role must be"),
        (b'{"role":"user"}', 1, "no content"),
        (b'{"role":"user","content":null}', 16, "no content"),
        (b'{"role":"user","content":7}', 16, "wrong type"),
        (b'{"role":"user","content":["x"]}', 16, "wrong type"),
        (b'{"role":"user","content":[{"text":"x"}]}', 16, "each an object with a type"),
        (b'{"role":"user","content":"x","usage":[]}', 30, "wrong type"),
        (b'{"role":"user","content":"x","tool_calls":[]}', 30, "no key `tool_calls`"),
        (b'{"role":"user","content":"x","content":"y"}', 30, "`content` stands twice"),
        (b'{"role":"user","content":"x","metadata":{"a":1,"a":1}}', 48, "`a` stands twice"),
        (b'{"role":"user","content":"\\ud800"}', 26, "lone surrogate"),
        (b'{"id":"a\\u0000","role":"user","content":"x"}', 2, "control characters"),
        (b'{"id":"","role":"user","content":"x"}', 2, "message id must be"),
        (b'{"role":"user","content":"x","parent":"a\\nb"}', 30, "control characters"),
        (b'{"role":"user","content":"x","metadata":' + b'{"a":' * 70 + b"1" + b"}" * 71, 361, "nests deeper"),
        (b'{"role":"user","content":"x","metadata":' + b"[" * 90_000, 105, "nests deeper"),
        (b'{"steno":1,"id":"other"}', 1, "only be the first line"),
    ],
)
def test_a_line_that_cannot_be_understood_refuses_the_file(row: bytes, column: int, reason: str) -> None:
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


# Where a person has to look


FINE = b'{"id":"m-0","role":"user","content":"fine"}\n'


def _place(data: bytes) -> tuple[int | None, int | None, str]:
    refused = _refused(data)
    return refused.line_number, refused.column, refused.reason


@pytest.mark.parametrize(
    ("broken", "line", "column", "reason"),
    [
        (b'{"id":"m","role":"user",\n"content":\n7}', 4, 1, "wrong type"),
        (b'{"id":"m",\n "role":"user",\n  "content":"x",\n   "extra":1}', 6, 4, "no key `extra`"),
        (b'{\n"role":"user",\n"content":"x",\n"metadata":{"a":1,\n  "b":{"c":1,"c":2}}}', 7, 14, "`c` stands twice"),
        (b'{"role":"user",\n"content":"\xc3\xa4\xff"}', 4, 13, "not UTF-8"),
        (b'{"role":"user",\n"content":"\xc3\xa4",\xff}', 4, 15, "not UTF-8"),
        (b'{"role":"user",\n"content":[{"type":"text",\n"text":"a\\udc00"}]}', 5, 8, "lone surrogate"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n":-Infinity}}', 5, 14, "-Infinity is no JSON number"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n":1e400}}', 5, 14, "too large"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n":' + b"9" * 3000 + b"}}", 5, 14, "8192 bits"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n":' + b"9" * 9000 + b"}}", 5, 14, "8192 bits"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n": tru}}', 5, 15, "no JSON"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n": 1 2}}', 5, 17, "no JSON"),
        (b'{"role":"user",\n"content":"x",\n"usage":{"n": 1]}', 5, 16, "no JSON"),
        (b'{"role":"user",\n"content":"x"\n"usage":{}}', 5, 1, "no JSON"),
        (b'{"role":"user",\n"content":"x\n"}', 4, 13, "not closed before its line ends"),
        (b'{"role":"user",\n"content":"x\r\n"}', 4, 13, "not closed before its line ends"),
        (b'{"role":"user",\n"content":"x\ty"}', 4, 13, "\\u0009"),
        (b'{"role":"user",\n"content":"x\x0cy"}', 4, 13, "\\u000c"),
        (b'{"role":"user",\n"content":"x\x00y"}', 4, 13, "a NUL"),
        (b'{"role":"user",\n"content":"\\x"}', 4, 12, "no JSON"),
        (b'{"role":"user",\n"id":"m-0","content":"x"}', 4, 1, "the id m-0 already stands in line 2"),
        (b'{"role":"user","content":"x"} {"role":"user",\n"content":7}', 4, 1, "wrong type"),
        (b'{"role":"user","content":"x"} {"role":"user","content":"x"} {"role":"user"}', 3, 61, "no content"),
        ('{"role":"user","content":"ä😀"} {"role":7,"content":"x"}'.encode(), 3, 33, "wrong type"),
        (b'{"role":"user",\n"content":"x"} {"role":7,"content":"x"}', 4, 17, "wrong type"),
    ],
)
def test_a_fault_is_named_where_it_stands(broken: bytes, line: int, column: int, reason: str) -> None:
    found = _place(HEAD + FINE + broken + b"\n")
    assert found[:2] == (line, column)
    assert reason in found[2]


@pytest.mark.parametrize(
    ("broken", "line", "column", "reason"),
    [
        (b'{"id":"m","role":"user","content":"x"', 3, 1, "before line 4 begins another"),
        (b'{"id":"m","role":"user","content":"x",', 3, 1, "before line 4 begins another"),
        (b'{"id":"m","role":"user","content":', 3, 1, "before line 4 begins another"),
        (b'{"id":"m","role":"user","content":[', 3, 1, "before line 4 begins another"),
        (b'{"id":"m","role":"user","content":[{"type":"text"}', 3, 1, "before line 4 begins another"),
        (b'{"id":"m","role":"user","content":"x","metadata":{"a":{}', 3, 1, "before line 4 begins another"),
        (b'{"id":"m",\n"role":"user",\n"content":"x"', 3, 1, "before line 6 begins another"),
        (b'{"id":"m","role":"user","content":"x"} {"role":"user"', 3, 40, "before line 4 begins another"),
        (b'{"id":"m","role":"user","content":"x', 3, 37, "not closed before its line ends"),
        (b'{"id":"m","role":"user","content":"x"}}', 3, 39, "an object must begin here, not '}'"),
        (b'{"id":"m","role":"user"\n\n"content":"x"}', 5, 1, "no JSON"),
        (b'"role":"user","content":"x"}', 3, 1, "an object must begin here"),
        (b'{"id":"m","role":"us\ner","content":"x"}', 3, 21, "not closed before its line ends"),
        (b'{"id":"m","role":"user","content":"x"}\n\x00\x00\x00', 4, 1, "a NUL"),
        (b"\xff\xfe", 3, 1, "not UTF-8"),
        (b"<<<<<<< HEAD", 3, 1, "an object must begin here, not '<<<<<<< HEAD'"),
        (b"\xef\xbb\xbf" + FINE, 3, 1, "an object must begin here, not '\\ufeff"),
    ],
)
def test_a_broken_line_in_a_long_file_is_named_itself(broken: bytes, line: int, column: int, reason: str) -> None:
    below = b"".join(b'{"id":"n-%d","role":"user","content":"x"}\n' % number for number in range(20_000))
    found = _place(HEAD + FINE + broken + b"\n" + below)
    assert found[:2] == (line, column)
    assert reason in found[2]


def test_a_brace_that_is_missing_in_a_file_of_a_formatter_is_looked_for_where_its_object_begins() -> None:
    rows = [json.dumps({"id": f"m-{number}", "role": "user", "content": "x"}, indent=2) for number in range(3000)]
    rows[2] = rows[2].removesuffix("}")
    found = _place("\n".join(rows).encode())
    assert found[:2] == (11, 1)
    assert "before line 16 begins another" in found[2]


def test_a_file_that_was_torn_off_is_refused_at_its_end() -> None:
    data = HEAD + FINE + b'{\n  "id":"m-1",\n  "role":"us'
    assert _place(data) == (5, 10, _refused(data).reason)
    data = HEAD + FINE + b'{\n  "id":"m-1",\n  "role":"user"\n\n'
    assert _place(data)[:2] == (5, 16)
    assert "begins in line 3 has no end" in _refused(data).reason


def test_lines_like_objects_within_one_are_no_fault() -> None:
    blocks = '[\n{"id":"1","type":"x"},\n{"role":"y","type":"x"}\n]'
    data = HEAD + f'{{"role":"user",\n"content":{blocks},\n"metadata":\n{{"id":1}}}}\n'.encode() + FINE
    parsed = parse(data)
    assert [line.id for line in parsed.lines] == [None, "m-0"]
    assert parsed.numbers == [2, 9]
    found = _place(data.replace(b'"metadata"', b'"metadata'))
    assert found[:2] == (7, 11)


@pytest.mark.parametrize("data", [b'[{"steno":1},\n{"role":"user","content":"x"}]', b"[]", b"\n [\n{}]", b'["x"]'])
def test_an_array_is_refused_with_what_to_do(data: bytes) -> None:
    assert "jq -c '.[]'" in _refused(data).reason


def test_a_comma_between_objects_is_named() -> None:
    found = _place(HEAD.replace(b"}\n", b"},\n") + FINE)
    assert found[:2] == (1, 24)
    assert "a comma" in found[2]


def test_the_header_is_a_header_on_several_lines_too() -> None:
    data = json.dumps({"title": "T", "steno": 1, "metadata": {"a": 1}}, indent=4).encode() + b"\n" + FINE
    parsed = parse(data)
    assert parsed.header == Header(title="T", metadata={"a": 1})
    assert parsed.present == {"title", "steno", "metadata"}
    assert parsed.numbers == [8]
    assert _place(data.replace(b'"T"', b'["T"]'))[:2] == (2, 5)


# What values survive


def _kept(value: Any) -> Any:
    """What is read of a value that somebody typed, written as we write it and read again."""
    text = f'{{"role":"user","content":"x","metadata":{{"a":{value}}}}}'
    (line,) = parse(text.encode()).lines
    (again,) = parse(render(HEADER, [line])).lines
    assert again == line
    return again.metadata["a"]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("1E5", 1e5), ("-0", 0), ("-0.0", -0.0), ("1" + "0" * 30, 10**30), ("-" + "9" * 2466, -int("9" * 2466)),
        (str(2**64), 2**64), (str(-(2**63) - 1), -(2**63) - 1), ("1.0", 1.0), ('"\\u0000"', "\0"),
        ('"\u2028\u2029\x85\x7f"', "\u2028\u2029\x85\x7f"), ('"\\ud83d\\ude00"', "😀"), ('{"": ""}', {"": ""}),
    ],
)  # fmt: skip
def test_a_value_is_kept_as_it_is(typed: str, kept: Any) -> None:
    assert repr(_kept(typed)) == repr(kept)


def test_what_may_nest_deepest_is_read_back() -> None:
    def nested(depth: int) -> Any:
        return [nested(depth - 1)] if depth > 1 else []

    deepest = {"type": "x", "value": nested(MAX_DEPTH - 2)}
    line = Line(role="user", content=[deepest], metadata={"a": nested(MAX_DEPTH - 1)})
    check_content(line.content)
    check_object(line.metadata, "metadata")
    header = Header(metadata=line.metadata, state=line.metadata)
    parsed = parse(render(header, [line]))
    assert (parsed.header, parsed.lines) == (header, [line])
    assert parse(json.dumps(to_builtins(line), indent=1).encode()).lines == [line]
    line = Line(role="user", content="x", metadata={"a": nested(MAX_DEPTH)})
    assert "nests deeper" in _refused(render(header, [line])).reason


def test_a_number_that_no_store_takes_is_refused_also_on_a_line_as_we_write_it() -> None:
    assert "8192 bits" in _refused(render(HEADER, [Line(role="user", content="x", usage={"n": 10**2500})])).reason


# Time and memory


LONG = 100_000
MANY_KEYS = b"".join(b'"a%d":1,' % each for each in range(LONG))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEAD + b"\n" * 5 * LONG + FINE, "understood"),
        (HEAD + b" \t\r\n" * LONG + FINE, "understood"),
        (b"{" + b"\n" * 5 * LONG + HEAD[1:] + FINE, "understood"),
        (b'{"role":"user","content":"x"} ' * LONG, "understood"),
        (b'{"role":"user",\n"content":"x"} ' * LONG, "understood"),
        (b'{\n"role":"user",\n"content":"x"\n}\n' * LONG, "understood"),
        (b'{"role":"user","content":"x"}\r' * LONG, "understood"),
        (HEAD + FINE * LONG, "already stands in line 2"),
        (b'{"id":"a","role":"user","content":"x"} ' * LONG, "already stands in line 1"),
        (b'{"role":"user","content":"x","usage":{%s"a1":1}}' % MANY_KEYS, "stands twice"),
        (b'{"role":"user","content":[' + b'{"type":"x"},\n' * LONG, "has no end"),
        (b'{"role":"user","content":[' + b'{"id":"x","role":"user","content":"x"},\n' * LONG, "before line 2"),
        (b'{"role":"user","content":"' + b'\\"' * 10 * LONG, "not closed"),
        (b'{"role":"user","content":"x","metadata":' + b'{"a":' * LONG, "nests deeper"),
        (b'{"role":"user","content":"x","metadata":' + b'{"a":\n' * LONG + b"1" + b"}" * LONG, "nests deeper"),
        (b"[" * LONG, "an array"),
        (b"{" * LONG, "no JSON"),
        (b"}" * LONG, "no JSON"),
        (b'{"' * LONG, "no JSON"),
        (b"\xff" * 5 * LONG, "not UTF-8"),
        (b'{"role":"user","content":"' + b"\xff" * 5 * LONG + b'"}', "not UTF-8"),
        (b"\x00" * 5 * LONG, "a NUL"),
    ],
    ids=range(22),
)  # fmt: skip
def test_time_grows_no_faster_than_the_file(data: bytes, reason: str) -> None:
    # What grew with the square would outlast the time limit of a test by far.
    assert reason in _reason(data)


def _peak(data: bytes) -> tuple[str, float]:
    """How it is read, and how often the size of a file its reading takes at most, beside the file."""
    tracemalloc.start()
    try:
        return _reason(data), tracemalloc.get_traced_memory()[1] / len(data)
    finally:
        tracemalloc.stop()


MIB = 1 << 20


@pytest.mark.parametrize(
    ("large", "reason"),
    [
        (lambda: b'{"role":"user","content":"' + b"x" * 64 * MIB + b'"}', "67,108,892 bytes"),
        (lambda: b'{"role":"user","content":"' + "😀".encode() * 8 * MIB + b'"}', "33,554,460 bytes"),
        (lambda: b'{"role":"user","content":[' + b'{"type":"x"},' * 2 * MIB + b'{"type":"x"}]}', "bytes"),
        (lambda: b'{"role":"user","content":[' + b"[]," * 8 * MIB, "bytes"),
        (lambda: HEAD[:-2] + b',"metadata":{"a":[' + b"[]," * 8 * MIB + b"[]]}}", "too many values"),
        (lambda: b"[" + b" " * 32 * MIB, "an array"),
        (lambda: b"[" * 32 * MIB, "objects and lists"),
        (lambda: b"\x00" * 32 * MIB, "a NUL"),
        (lambda: b"\n" * 32 * MIB, "empty"),
    ],
    ids=range(9),
)
def test_what_is_too_large_is_refused_before_it_takes_memory(large: Callable[[], bytes], reason: str) -> None:
    found, peak = _peak(large())
    assert reason in found
    assert peak < 1.2


@pytest.mark.parametrize("character", ["x", "ä", "😀", "\\n"])
def test_a_file_of_ordinary_lines_takes_a_small_multiple_of_its_size(character: str) -> None:
    row = '{{"id":"m-{}","role":"user","content":"{}"}}\n'
    data = "".join(row.format(number, character * 500) for number in range(5000)).encode()
    found, peak = _peak(data)
    assert found == "understood"
    assert peak < 4
    found, peak = _peak(data.replace(b"{", b"{\n"))
    assert found == "understood"
    assert peak < 4


def test_a_message_of_the_largest_size_is_read_in_any_form_and_one_byte_more_is_refused() -> None:
    largest = "é" * (MAX_MESSAGE_BYTES // 2)
    for ascii_only in (False, True):
        row = json.dumps({"role": "user", "content": largest}, indent=1, ensure_ascii=ascii_only)
        assert parse(row.encode()).lines == [Line(role="user", content=largest)]
    data = render(HEADER, [Line(role="user", content=largest + "x")])
    assert f"{MAX_MESSAGE_BYTES + 1:,} bytes" in _refused(data).reason


def test_a_file_of_more_messages_than_can_be_merged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_MESSAGES", 3)
    row = b'{"role":"user","content":"x"}\n'
    assert len(parse(HEAD + row * 3).lines) == 3
    found = _place(HEAD + row * 5)
    assert found[0] == 5
    assert "more than 3 messages" in found[2]
    assert len(parse(HEAD + row * 5, limited=False).lines) == 5


@pytest.mark.parametrize(
    ("text", "rev"),
    [("q7f3.00000418", Rev("q7f3", 418)), ("q7f3.123456789", Rev("q7f3", 123_456_789)), ("q7f3", None), (None, None)],
)
def test_a_rev_names_store_and_seq(text: str | None, rev: Any) -> None:
    assert parse_rev(text) == rev
    assert rev is None or str(rev) == text


def test_a_line_that_reads_the_same_in_two_versions_is_held_once() -> None:
    [line] = parse(HEAD + render(HEADER, [ANSWERED]).splitlines(keepends=True)[1]).lines
    assert Shared([line]).of(ANSWERED) is line


@pytest.mark.parametrize("usage", [{"output_tokens": 80.0}, {"output_tokens": 81}, None])
def test_a_line_that_reads_otherwise_is_held_as_it_is(usage: dict[str, Any] | None) -> None:
    line = Line(id="m-2", role="assistant", content="Start with …", model="m", usage=usage)
    assert Shared([ANSWERED]).of(line) is line
