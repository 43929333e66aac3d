from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.model import Content
from steno.storage.prose import TOOL_BYTES, prose, without_base64, words

NOISE = base64.b64encode(bytes(range(256)) * 8).decode()


# What is searched


def test_text_and_thinking_are_prose_in_their_order():
    content = [{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": "so"}]
    assert prose("assistant", content) == "hm\n\nso"


def test_long_prose_is_kept_whole():
    text = "word " * 10_000
    assert prose("user", text) == text


def test_tool_calls_count_by_their_texts_but_not_by_their_ids():
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "pytest -k x", "timeout": 5}}
    assert prose("assistant", [call]).split("\n\n") == ["Bash", "pytest -k x"]


@pytest.mark.parametrize(
    ("role", "content"),
    [
        ("tool", "é" * 9000),
        ("tool", [{"type": "text", "text": "é" * 9000}]),
        ("user", [{"type": "tool_result", "content": "é" * 9000}]),
        ("user", [{"type": "tool_result", "content": [{"type": "text", "text": "é" * 3000}]}] * 3),
    ],
)
def test_tool_output_counts_to_eight_kibibytes_a_message(role: str, content: Content):
    assert len(prose(role, content).replace("\n", "").encode()) == TOOL_BYTES


def test_prose_behind_long_tool_output_is_kept():
    content = [{"type": "tool_result", "content": "x " * 9000}, {"type": "text", "text": "the end"}]
    assert prose("user", content).endswith("the end")


def test_images_hold_no_text():
    source = {"type": "base64", "media_type": "image/png", "data": "c2hvcnQ="}
    blocks = [
        {"type": "image", "source": source},
        {"type": "tool_result", "content": [{"type": "image", "source": source}]},
    ]
    assert prose("user", blocks) == ""


@pytest.mark.parametrize(
    "noise",
    [
        NOISE,
        f"data:image/png;base64,{NOISE[:40]}" + "x" * 300,
        "\n".join(NOISE[at : at + 76] for at in range(0, len(NOISE), 76)),
        "\r\n".join(NOISE[at : at + 64] for at in range(0, len(NOISE), 64)),
        bytes(range(256)).hex(),
    ],
)
def test_base64_is_dropped_and_what_stands_around_it_kept(noise: str):
    assert without_base64(f"before {noise} after").split() == ["before", "after"]


@pytest.mark.parametrize(
    "text",
    [
        "/home/someone/projects/a-rather-long-name/src/main/components/deeply/nested/directory/structure/and/more/of/it",
        "https://example.org/" + "path/" * 20 + "?q=1&" + "key=value&" * 30,
        "長い文章には空白がない" * 40,
        "one\ntwo\n" * 100,
    ],
)
def test_long_text_without_spaces_is_no_base64(text: str):
    assert without_base64(text) == text


def test_runs_become_pairs_and_their_last_character():
    assert words("see 東京都tower").split() == ["see", "東京", "京都", "都", "tower"]


@given(st.text())
def test_text_without_cjk_reaches_the_index_letter_by_letter(text: str):
    plain = text.encode("ascii", "ignore").decode()
    assert words(plain) == plain
