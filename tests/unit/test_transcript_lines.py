from __future__ import annotations

import io
import json
import random

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.transcripts.lines import mend, numbered, records, unpacked
from steno.storage.transcripts.transcript import Reading

WHOLE = '{"type":"user","sessionId":"s","text":"later"}'


def is_whole(value: dict[str, object]) -> bool:
    return "sessionId" in value


def read(data: bytes) -> tuple[list[dict[str, object]], Reading]:
    reading = Reading()
    decode = msgspec.json.Decoder(dict[str, object]).decode
    with unpacked(io.BytesIO(data)) as stream:
        found = [record for _, _, record in records(numbered(stream, reading), decode, reading, stands_alone=is_whole)]
    return found, reading


def test_line_separators_inside_strings_do_not_end_a_line() -> None:
    found, reading = read('{"a":"one\u2028two\u0085three"}\r\n{"a":"four"}'.encode())
    assert [record["a"] for record in found] == ["one\u2028two\u0085three", "four"]
    assert reading.faults == []


def test_blank_lines_and_a_byte_order_mark_are_no_faults_and_lines_keep_their_numbers() -> None:
    found, reading = read(b'\xef\xbb\xbf{"a":1}\n\n  \nbroken\n')
    assert found == [{"a": 1}]
    assert [fault.line for fault in reading.faults] == [4]


def test_a_whole_record_behind_a_truncated_one_is_recovered() -> None:
    found, reading = read(b'{"type":"user","sessionId":"s","message":{"content":"cut he' + WHOLE.encode() + b"\n")
    assert found == [json.loads(WHOLE)]
    assert len(reading.faults) == 1


def test_two_whole_records_on_one_line_are_both_read() -> None:
    found, reading = read((WHOLE + WHOLE).encode())
    assert found == [json.loads(WHOLE)] * 2
    assert "0 characters" in reading.faults[0].reason


def test_a_part_of_a_torn_record_is_not_taken_for_a_record() -> None:
    found, reading = read(b'{"type":"user","sessionId":"s","message":{"type":"text","text":"whole part"}')
    assert found == []
    assert len(reading.faults) == 1


def test_an_unterminated_last_line_is_read_if_it_is_whole() -> None:
    found, reading = read(WHOLE.encode())
    assert found == [json.loads(WHOLE)]
    assert reading.faults == []


def test_a_lone_surrogate_costs_one_character_and_is_reported() -> None:
    found, reading = read(b'{"a":"x\\ud800y \\ud83d\\ude00"}\n')
    assert found == [{"a": "x\ufffdy \U0001f600"}]
    assert "surrogate" in reading.faults[0].reason


def test_bytes_that_are_not_utf8_cost_themselves_and_are_reported() -> None:
    found, reading = read(b'{"a":"x\xffy"}\n')
    assert found == [{"a": "x\ufffdy"}]
    assert "UTF-8" in reading.faults[0].reason


def test_numbers_that_json_does_not_know_become_null() -> None:
    found, _ = read(b'{"a":NaN,"b":-Infinity,"c":1e999}\n')
    assert found == [{"a": None, "b": None, "c": None}]


def test_a_line_that_is_no_object_is_reported() -> None:
    found, reading = read(b'[1,2]\n"text"\n')
    assert found == []
    assert [fault.line for fault in reading.faults] == [1, 2]


def test_nesting_without_end_is_a_fault_and_no_crash() -> None:
    deep = b'{"a":' * 100_000
    found, reading = read(deep + b"\n" + WHOLE.encode())
    assert found == [json.loads(WHOLE)]
    assert [fault.line for fault in reading.faults] == [1]


def test_compressed_bytes_are_read_as_what_they_hold() -> None:
    found, _ = read(zstandard.compress(WHOLE.encode()))
    assert found == [json.loads(WHOLE)]


def packed_lines(count: int) -> bytes:
    drawn = random.Random(1)
    return zstandard.compress(
        "".join(f'{{"sessionId":"s","n":{n},"pad":"{drawn.getrandbits(63)}"}}\n' for n in range(count)).encode()
    )


def test_frames_behind_each_other_are_one_file() -> None:
    found, reading = read(packed_lines(20_000) + packed_lines(3))
    assert [record["n"] for record in found] == [*range(20_000), 0, 1, 2]
    assert reading.faults == []


@pytest.mark.parametrize("tail", [b"", b"\0" * 64, b"\xff" * 64])
def test_what_stands_before_the_damage_of_a_compressed_file_is_read_and_the_damage_reported(tail: bytes) -> None:
    packed = packed_lines(20_000)
    found, reading = read(packed[: len(packed) * 3 // 4] + tail)
    assert [record["n"] for record in found] == list(range(len(found)))
    assert len(found) > 5_000
    assert "compressed file" in reading.faults[-1].reason


def test_the_stream_that_was_read_stays_open() -> None:
    stream = io.BytesIO(WHOLE.encode())
    with unpacked(stream) as source:
        source.read()
    assert not stream.closed


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_no_bytes_make_mending_fail(noise: bytes, cut: int) -> None:
    for line in (noise, WHOLE.encode()[:cut] + noise, noise + WHOLE.encode()[cut:]):
        pieces, _ = mend(line, stands_alone=is_whole)
        assert all(isinstance(msgspec.json.decode(piece), dict) for piece in pieces)


@given(st.integers(0, len(WHOLE) - 1))
def test_wherever_a_record_was_torn_the_next_one_is_found(cut: int) -> None:
    pieces, _ = mend((WHOLE[:cut] + WHOLE).encode(), stands_alone=is_whole)
    assert [msgspec.json.decode(piece) for piece in pieces] == [json.loads(WHOLE)]
