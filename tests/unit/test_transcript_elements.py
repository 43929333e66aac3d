"""The elements of a JSON array come one at a time, whole, and with their places."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.transcripts import elements as module
from steno.storage.transcripts.elements import Broken, elements

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3)


@given(
    values=st.lists(JSON, max_size=5),
    indent=st.none() | st.integers(0, 2),
    ascii=st.booleans(),
    chunk=st.integers(1, 9),
)
def test_an_array_is_the_sum_of_its_elements_however_it_is_read(
    values: list[object], indent: int | None, ascii: bool, chunk: int
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii)
    data = text.encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_BYTES", chunk)
        found = list(elements(io.BytesIO(data)))
    assert [json.loads(each.data) for each in found] == values
    lines = text.split("\n")
    assert all(lines[each.line - 1][each.column - 1] == chr(each.data[0]) for each in found)


def test_the_place_that_msgspec_names_is_the_one_behind_the_value() -> None:
    with pytest.raises(msgspec.DecodeError, match=r"^JSON is malformed: trailing characters \(byte 10\)$"):
        msgspec.json.decode(b'{"a": 1} , {}', type=msgspec.Raw)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", (1, 1)),
        (b"{}", (1, 1)),
        (b"[", (1, 2)),
        (b"[1", (1, 3)),
        (b"[1,]", (1, 4)),
        (b"[1 2]", (1, 4)),
        (b'[\n{"a":1,\n"b" 2}]', (3, 5)),
        (b'["\xc3\xa9" x]', (1, 6)),
        (b"[1]]", (1, 4)),
        (b'[1,\n"never ends', (2, 1)),
    ],
)
def test_where_it_is_no_array_is_told_to_the_character(data: bytes, place: tuple[int, int]) -> None:
    with pytest.raises(Broken) as broken:
        list(elements(io.BytesIO(data)))
    assert broken.value.place == place


def test_what_comes_before_a_break_is_there(small: None) -> None:
    found: list[bytes] = []
    with pytest.raises(Broken):
        found.extend(each.data for each in elements(io.BytesIO(b'[{"a":1},{"b":2},{"c"')))
    assert found == [b'{"a":1}', b'{"b":2}']


def test_an_element_beyond_all_measure_is_refused(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ELEMENT_BYTES", 1000)
    with pytest.raises(Broken, match="a value of more than"):
        list(elements(io.BytesIO(b'["' + b"x" * 5000 + b'"]')))


def test_no_more_is_kept_than_the_largest_element_needs() -> None:
    class Endless(io.RawIOBase):
        largest = 0

        def read(self, size: int = -1) -> bytes:
            self.largest = max(self.largest, size)
            return (b'["x"' + b',"x"' * size)[: max(0, size)]

    stream = Endless()
    found = elements(stream)  # pyright: ignore[reportArgumentType]
    assert next(found).data == b'"x"'
    assert stream.largest == module._CHUNK_BYTES


def test_an_element_that_nests_too_deeply_is_told_with_its_place() -> None:
    with pytest.raises(Broken, match="nested too deeply") as caught:
        list(elements(io.BytesIO(b"[" * 100_000)))
    assert caught.value.place == (1, 2)
