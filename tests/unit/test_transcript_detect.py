from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput
from steno.storage.transcripts import Reading, read_transcripts, stream_transcripts

CLAUDE = {"type": "user", "uuid": "u1", "sessionId": "s1", "message": {"role": "user", "content": "Hello"}}
CODEX = {"type": "session_meta", "payload": {"id": "t1"}}
OPENAI = {"messages": [{"role": "user", "content": "Hello"}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "Hello"}]}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (CLAUDE, "claude-code"),
        ({"type": "summary", "summary": "x", "leafUuid": "u1"}, "claude-code"),
        ({"type": "file-history-snapshot", "messageId": "u1", "snapshot": {}}, "claude-code"),
        (CODEX, "codex"),
        (OPENAI, "openai-jsonl"),
        ({"custom_id": "r1", "body": {"messages": []}}, "openai-jsonl"),
        (SHAREGPT, "sharegpt"),
    ],
)
def test_the_records_tell_the_format_and_not_the_name(record: dict[str, object], name: str) -> None:
    assert read_transcripts(json.dumps(record).encode(), name="any.txt").format == name


@pytest.mark.parametrize(
    "data",
    [
        b"Dear diary,\n",
        b'{"role":"user","content":"one message a line"}\n',
        b'{"sessionId":"s","projectHash":"h","type":"main","messages":[{"id":"1","type":"user"}]}',
        b'{"type":"session","version":3,"id":"x","cwd":"/"}\n',
        b'{"type":"user","uuid":"u","sessionId":"s","message":{"role":"user","parts":[]}}\n',
        b'[{"mapping":[],"current_node":"x"}]',
        b"[1,2",
        b"{broken\n",
        b"SQLite format 3\0",
        b"\x28\xb5\x2f\xfdnot really",
    ],
)
def test_a_file_of_another_format_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_transcripts(data, name="notes.txt")
    assert "notes.txt" in refused.value.line
    assert "\n" not in refused.value.line


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_holds_nothing_and_is_no_error(data: bytes) -> None:
    assert read_transcripts(data, name="empty.jsonl") == Reading()


def test_a_torn_first_line_does_not_hide_the_format() -> None:
    data = b'{"type":"user","uuid":"u0","sess\n' + json.dumps(CLAUDE).encode()
    found = read_transcripts(data, name="a.jsonl")
    assert [one.id for one in found.transcripts] == ["s1"]
    assert [fault.line for fault in found.faults] == [1]


@pytest.mark.parametrize("record", [OPENAI, SHAREGPT])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_array_is_read_like_lines(record: dict[str, object], indent: int | None) -> None:
    found = read_transcripts(json.dumps([record, record], indent=indent).encode(), name="set.json")
    assert len(found.transcripts) == 2


def test_one_json_object_on_many_lines_is_read() -> None:
    assert len(read_transcripts(json.dumps(OPENAI, indent=2).encode(), name="one.json").transcripts) == 1


def test_paths_and_streams_are_read_alike(tmp_path: Path) -> None:
    data = json.dumps(CLAUDE).encode()
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with path.open("rb") as stream:
        assert read_transcripts(path, name="a.jsonl") == read_transcripts(stream, name="a.jsonl")
    assert read_transcripts(io.BytesIO(data), name="a.jsonl") == read_transcripts(data, name="a.jsonl")


def test_a_file_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(InvalidInput, match="cannot read"):
            read_transcripts(path, name=path.name)


def test_sessions_come_one_at_a_time_while_the_file_is_read() -> None:
    stream = io.BufferedReader(io.BytesIO(json.dumps(OPENAI).encode() + b"\n" * 1_000_000), buffer_size=4096)
    first = next(stream_transcripts(stream, Reading(), name="set.jsonl"))
    assert first.messages[0].content == "Hello"
    assert stream.tell() < 100_000
