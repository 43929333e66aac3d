from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from steno.storage.store import check_new
from steno.storage.transcripts import Reading, read_transcripts

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
FILES = sorted(
    path
    for tool in ("claude-code", "codex", "openai-jsonl", "sharegpt")
    for path in (CORPUS / tool).rglob("*")
    if path.is_file() and path.suffix in (".jsonl", ".json", ".zst") and not path.name.endswith(".meta.json")
)
STRANGE = {"duplicate-assistant-response-2.jsonl", "session_branch.jsonl"}  # a log file; lines of no known tool
NAMED = [
    path
    for path in FILES
    if path.name not in STRANGE and path.parts[-3:] != ("codex", "agent-sessions", "schema_drift.jsonl")
]

pytestmark = pytest.mark.skipif(not FILES, reason="the corpus of real transcripts is not beside this repository")


def read(path: Path) -> Reading:
    return read_transcripts(path, name=str(path.relative_to(CORPUS)))


def label(path: Path) -> str:
    return "/".join(path.parts[-2:])


@pytest.mark.parametrize("path", NAMED, ids=label)
def test_every_real_file_gives_messages_that_a_store_takes_in(path: Path) -> None:
    found = read(path)
    for transcript in found.transcripts:
        ids = [message.id for message in transcript.messages]
        assert len(set(ids)) == len(ids) > 0
        assert [message.after for message in transcript.messages] == [None, *ids[:-1]]
        for message in transcript.messages:
            check_new(message)


@pytest.mark.parametrize("path", NAMED, ids=label)
def test_reading_a_real_file_twice_gives_the_same(path: Path) -> None:
    assert read(path) == read(path)


def test_real_snapshots_of_a_growing_session_only_add_messages() -> None:
    snapshots = [read(path).transcripts[0] for path in sorted((CORPUS / "claude-code/growth").rglob("t?.jsonl"))]
    assert len(snapshots) == 4
    for early, late in pairwise(snapshots):
        head = late.messages[: len(early.messages)]
        assert [(one.id, one.content) for one in head] == [(one.id, one.content) for one in early.messages]
        assert early.id == late.id


def test_the_usage_of_real_api_messages_stands_once() -> None:
    for path in (CORPUS / "claude-code/entireio-cli").rglob("*.jsonl"):
        for transcript in read(path).transcripts:
            keys = [
                (message.metadata.get("api_message"), message.metadata.get("request_id"))
                for message in transcript.messages
                if message.usage
            ]
            assert len(set(keys)) == len(keys)


def test_the_real_fused_line_gives_both_its_records() -> None:
    (path,) = (CORPUS / "claude-code/entireio-cli").rglob("130d7b7e*.jsonl")
    found = read(path)
    assert "3252495b-f5ee-4004-9370-21c6d432eb59" in [message.id for message in found.transcripts[0].messages]
    assert [fault.line for fault in found.faults] == [128]


def test_the_real_file_with_records_of_two_sessions_gives_two() -> None:
    (path,) = (CORPUS / "claude-code/entireio-cli").rglob("2a8af1a8*.jsonl")
    assert len(read(path).transcripts) == 2


def test_the_tokens_of_real_rollouts_add_up_to_their_own_totals() -> None:
    for path in (CORPUS / "codex/agentcmd/sessions").rglob("*.jsonl"):
        payloads = [json.loads(line)["payload"] for line in path.read_bytes().splitlines() if b"total_token" in line]
        totals = [payload["info"]["total_token_usage"]["output_tokens"] for payload in payloads if payload.get("info")]
        peaks = [before for before, after in pairwise(totals) if after < before]  # a resumed thread counts anew
        (transcript,) = read(path).transcripts
        counted = sum((message.usage or {}).get("output_tokens", 0) for message in transcript.messages)
        assert counted == sum(peaks) + totals[-1]


def test_the_compressed_real_rollout_holds_the_same_messages_as_the_plain_one() -> None:
    (packed,) = (CORPUS / "codex/zst").rglob("*.zst")
    plain = next((CORPUS / "codex/agentcmd/sessions/2025/09/24").rglob("*.jsonl"))
    assert read(packed).transcripts[0].messages == read(plain).transcripts[0].messages
