"""A ZIP of conversations is read without being unpacked, and one that is out to hurt is refused."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput
from steno.storage.transcripts import archives, read_transcripts

CLAUDE = {"uuid": "c1", "name": "N", "chat_messages": [{"uuid": "m1", "sender": "human", "text": "Hello"}]}


def packed(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def conversations(*names: str) -> bytes:
    return json.dumps([{**CLAUDE, "uuid": name} for name in names]).encode()


def test_all_parts_of_an_export_are_read_in_order() -> None:
    data = packed(**{"a/conversations-001.json": conversations("c2"), "a/conversations-000.json": conversations("c1")})
    assert [each.id for each in read_transcripts(data, name="x.zip").transcripts] == ["c1", "c2"]


def test_what_else_lies_in_it_is_counted() -> None:
    data = packed(**{"conversations.json": conversations("c1"), "file-1.png": b"x", "users.json": b"[]"})
    assert read_transcripts(data, name="x.zip").left_out == {"file of media": 1, "users.json": 1}


def test_a_name_that_leads_upwards_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = packed(**{"../../conversations.json": conversations("c1")})
    assert [each.id for each in read_transcripts(data, name="x.zip").transcripts] == ["c1"]
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(InvalidInput, match="packed as no conversations are"):
        read_transcripts(packed(**{"conversations.json": b"[" + b" " * (80 << 20)}), name="x.zip")


def test_a_table_of_contents_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 1000)
    data = packed(**{f"file-{number}": b"" for number in range(100)}, **{"conversations.json": conversations("c1")})
    with pytest.raises(InvalidInput, match="table of contents"):
        read_transcripts(data, name="x.zip")


@pytest.mark.parametrize("name", ["notes.json", "conversations.json.exe"])
def test_an_archive_without_conversations_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"no conversations\.json"):
        read_transcripts(packed(**{name: b"[]"}), name="x.zip")


@pytest.mark.parametrize("cut", [30, 200])
def test_an_archive_that_is_cut_off_is_refused_in_one_line(cut: int) -> None:
    data = packed(**{"conversations.json": conversations(*map(str, range(200)))})
    with pytest.raises(InvalidInput) as refused:
        read_transcripts(data[:-cut], name="x.zip")
    assert "\n" not in refused.value.line


def test_a_member_whose_bytes_were_changed_is_refused() -> None:
    data = bytearray(packed(**{"conversations.json": conversations(*map(str, range(2000)))}))
    [size] = struct.unpack_from("<L", data, 18)
    data[30 + size // 2 : 40 + size // 2] = b"\xff" * 10
    with pytest.raises(InvalidInput):
        read_transcripts(bytes(data), name="x.zip")
