"""claude.ai's conversations: straight or as trees, pasted text and the names of files kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steno.storage.importing import take_in
from steno.storage.store import Store
from steno.storage.transcripts import Reading, read_transcripts

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "claude-ai"


def message(name: str, **fields: Any) -> dict[str, Any]:
    made = {"uuid": name, "text": name, "sender": "human", "created_at": "2024-10-29T15:59:00.123456Z"}
    return {**made, **fields}


def read(*messages: dict[str, Any], **fields: Any) -> Reading:
    record = {
        "uuid": "c",
        "name": "T",
        "created_at": "2024-10-29T15:58:00+00:00",
        "chat_messages": list(messages),
        **fields,
    }
    return read_transcripts(json.dumps([record]).encode(), name="conversations.json")


def content(**fields: Any) -> Any:
    [found] = read(message("a", **fields)).transcripts
    return found.messages[0].content


def test_a_conversation_is_a_session() -> None:
    reading = read(message("a"), message("b", sender="assistant"), summary="S", model="claude")
    [found] = reading.transcripts
    assert reading.format == "claude-ai"
    assert (found.id, found.title, found.provider, found.model, found.metadata) == (
        "c",
        "T",
        "anthropic",
        "claude",
        {"summary": "S"},
    )
    assert [(each.id, each.role, each.content, each.timestamp) for each in found.messages] == [
        ("a", "user", "a", "2024-10-29T15:59:00.123456Z"), ("b", "assistant", "b", "2024-10-29T15:59:00.123456Z"),
    ]  # fmt: skip


def test_blocks_are_preferred_to_their_flattened_text() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "start_timestamp": "x"},
        {"type": "tool_use", "id": "t", "name": "artifacts", "input": {"a": 1}, "message": "m"},
        {"type": "tool_result", "name": "artifacts", "content": [{"type": "text", "text": "OK"}], "is_error": True},
        {"type": "text", "text": "Done", "citations": []},
        {"type": "token_budget"},
    ]
    assert content(text="This block is not supported", content=blocks) == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "tool_use", "name": "artifacts", "id": "t", "input": {"a": 1}},
        {"type": "tool_result", "content": [{"type": "text", "text": "OK"}], "is_error": True},
        {"type": "text", "text": "Done"},
    ]


def test_pasted_text_is_a_block_of_its_own_and_a_file_keeps_its_name() -> None:
    attachments = [{"file_name": "p.txt", "file_size": 3, "extracted_content": "abc"}]
    reading = read(message("a", attachments=attachments, files=[{"file_name": "x.png"}, {"file_name": "p.txt"}]))
    assert reading.transcripts[0].messages[0].content == [
        {"type": "text", "text": "a"},
        {"type": "document", "file_name": "p.txt", "file_size": 3, "text": "abc"},
        {"type": "file", "file_name": "x.png"},
    ]
    assert reading.left_out == {"file of which the export has the name only": 1}


def test_a_tree_follows_its_last_leaf_and_its_other_branches_are_forks() -> None:
    messages = [
        message("a", parent_message_uuid="00000000-0000-4000-8000-000000000000"),
        message("b", parent_message_uuid="a"),
        message("x", parent_message_uuid="a"),
    ]
    reading = read(*messages, current_leaf_message_uuid="b")
    assert {each.id: [one.id for one in each.messages] for each in reading.transcripts} == {
        "c": ["a", "b"],
        "c~x": ["a", "x"],
    }


def test_an_empty_conversation_is_left_out_and_no_error() -> None:
    reading = read()
    assert (reading.transcripts, reading.faults, reading.left_out) == ([], [], {"empty conversation": 1})


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
@pytest.mark.parametrize(
    "path",
    sorted(path for path in SAMPLES.rglob("*.json") if path.name not in ("projects.json", "users.json")),
    ids=str,
)
def test_samples_come_in_without_a_fault_and_once(path: Path, tmp_path: Path) -> None:
    reading = read_transcripts(path, name=str(path))
    assert (reading.format, reading.faults) == ("claude-ai", [])
    with Store(tmp_path / "steno.db") as store:
        for each in reading.transcripts:
            take_in(store, each)
        assert sum(take_in(store, each).added for each in reading.transcripts) == 0
