"""The benchmarks measure: the same text each time, every figure in the table, and a goal is met or it is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FIGURES = (
    "append to a session of 10 ",
    "append to a session of 200 ",
    "library append, durability full",
    "library load, 50 messages",
    "fork of 20 messages, p90",
    "Redis append",
    "PostgreSQL append",
    "memory for reading a session of 0.0005 GB",
    "steno list, 20 sessions ",
    "steno list, 20 sessions, 80 messages",
    "steno show, 20 sessions, 80 messages",
    "steno search, 20 sessions, 80 messages",
    "steno list, 20 sessions: llm logs list",
    "search, 200 messages, p50",
    "search, 200 messages, p95",
    "import, generated transcripts",
    "bytes on the remote, generated transcripts",
    "the same after compaction, generated transcripts",
    "export of 20 sessions to one JSON",
    "import of 20 sessions from one JSON",
    "memory for importing 0.0005 GB of ChatGPT",
    "push 60 messages",
    "pull 60 messages into a new device",
    "append on A, readable on B, p50",
    "append on A, readable on B, p99",
    "append on A, readable on B, Redis, p50",
    "append on A, readable on B, PostgreSQL, p50",
    "append on A, readable on B, S3, p50",
    "idle daemon, 20 sessions, CPU",
    "idle daemon, 20 sessions, memory",
    "save in the editor, in the store (4 saves), p50",
    "save in the editor, in the store (4 saves), p99",
    "first mirror, 20 messages",
    "start with 20 unchanged files",
    "session of 200, 10 appends a second, writing",
    "session of 200, file current after the last",
    "first push + bootstrap of 5 sessions, 200 messages",
    "bootstrap of 5 sessions, 200 messages",
    "memory for the bootstrap of 5 sessions, 200 messages",
    "memory for it after compaction",
    "1 message to 200, both ends, time: git",
    "1 message to 200, both ends, bytes: git",
    "1 message to 200, both ends, time: rclone",
    "1 message to 200, both ends, bytes: rclone",
    "1 message to 200, both ends, time: unison",
    "1 message to 200, both ends, bytes: unison",
    "20 ms, 100 Mbit/s, S3: push + bootstrap of 5 sessions, 200 messages",
)
NOTED = [
    "pairs of words for which search finds what ripgrep does",
    "time for importing it",
    "first mirror of 20 files",
    "memory for a start with 20 unchanged files",
    "time to write a session of 200",
    "memory for writing a session of 200",
    "time to absorb an edit in a session of 200",
    "memory for absorbing an edit in a session of 200",
    "writes of a file in a burst of 20 messages",
    "its files written on the second device",
    "bytes on the remote, of the JSONL files",
    "objects in the log",
    "compaction of it",
    "1 message to 200, both ends, turns",
    "bytes and requests of it",
    "bytes and requests of rclone",
    "rclone with the same server and no line before it",
]
OPTIONAL = re.compile("durability full|Redis|PostgreSQL|S3|first push|1 message|llm logs|^search")


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import generate  # pyright: ignore[reportMissingImports]

    return generate


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure  # pyright: ignore[reportMissingImports]

    return measure


def test_one_seed_gives_one_text(generate: Any):
    assert generate.messages(generate.Prose(7), 20) == generate.messages(generate.Prose(7), 20)


def test_another_seed_gives_another_text(generate: Any):
    assert generate.Prose(7).text(500) != generate.Prose(8).text(500)


def test_one_seed_gives_one_set_of_transcripts(generate: Any, tmp_path: Path):
    made = [generate.claude_code_files(tmp_path / name, seed=7, size_bytes=50_000) for name in ("one", "two")]
    named = [{path.relative_to(tmp_path).parts[1:]: path.read_bytes() for path in files} for files in made]
    assert named[0] == named[1] != {}


def test_generated_messages_have_the_length_that_was_asked_for(generate: Any):
    texts = [text for _, text in generate.messages(generate.Prose(7), 3000, mean=700)]
    assert 600 < sum(map(len, texts)) / len(texts) < 800


def test_generated_text_compresses_like_chat(generate: Any):
    texts = [text for _, text in generate.messages(generate.Prose(7), 6500)]
    assert sum(map(len, texts)) > generate.SAMPLE_BYTES
    assert 0.3 < generate.zstd_ratio(texts) < 0.4


@pytest.mark.parametrize(("value", "at_least", "met"), [(1.0, False, True), (1.1, False, False), (1.1, True, True)])
def test_a_goal_is_met_on_its_side(measure: Any, value: float, at_least: bool, met: bool):
    figure = measure.Figure(what="x", ours="", yardstick="", value=value, goal=1.0, at_least=at_least)
    assert figure.met is met


def test_ours_and_the_yardstick_are_measured_by_turns(measure: Any):
    order: list[str] = []
    measure.side_by_side(lambda _: order.append("ours") or 1.0, lambda _: order.append("bare") or 1.0, rounds=2)
    assert order == ["ours", "bare"] * 3


def test_what_is_shown_is_the_round_of_the_median_ratio(measure: Any):
    timed = measure.Timed([9.0, 2.0, 8.0], [3.0, 1.0, 8.0])
    assert timed.typical == (2.0, 1.0)


@pytest.mark.parametrize(("part", "found"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(measure: Any, part: float, found: int):
    assert measure.percentile(range(1, 101), part) == found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what a daemon costs is read from /proc")
@pytest.mark.timeout(300)
def test_a_quick_run_fills_every_row_of_the_table(tmp_path: Path):
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--folder", str(tmp_path), "--results", str(results)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left_out = re.findall(r"^left out: (.*): \S.* is not installed", done.stdout, flags=re.MULTILINE)
    assert all(map(OPTIONAL.search, left_out))
    figures = [name for name in FIGURES if name not in left_out]
    rows = {name: row for name in figures for row in done.stdout.splitlines() if f"{row} ".startswith(name)}
    assert set(rows) == set(figures)
    assert all(re.search(r"[<>]= [\d.]+ \S+ +(yes|NO)$", row) for row in rows.values())
    assert re.search(r"zstd level 3 leaves 0\.\d\d", done.stdout)
    written = json.loads(results.read_text())
    assert [each["what"] for each in written["figures"]] == [name.strip() for name in figures]
    assert list(written["noted"]) == re.findall(r"^noted: (.*?): \S", done.stdout, flags=re.MULTILINE)
    assert list(written["noted"]) == NOTED or left_out
    assert list(written["left_out"]) == left_out
    assert list(tmp_path.iterdir()) == [results]
