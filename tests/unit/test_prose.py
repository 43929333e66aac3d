from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.model import Content
from steno.storage.prose import EXCERPT_LENGTH, TOOL_BYTES, excerpt, folded, pattern, prose, without_base64, words

NOISE = base64.b64encode(bytes(range(256)) * 8).decode()


def marked(text: str, *sought: str, prefix: bool = False) -> str:
    one = re.compile("|".join(f"({pattern(each, prefix=prefix)})" for each in sought))
    return excerpt(text, one, start="<", end=">")


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


# How a hit is shown


def test_matched_words_are_marked_whatever_their_case_and_accents():
    assert marked("Straße, CAFÉ und Ähre", "cafe", "ahre", "STRASSE") == "<Straße>, <CAFÉ> und <Ähre>"


def test_a_word_inside_another_is_not_marked():
    assert marked("cart art artful", "art") == "cart <art> artful"


def test_a_beginning_marks_the_whole_word():
    assert marked("cart art artful", "art", prefix=True) == "cart <art> <artful>"


def test_characters_that_fold_to_several_keep_the_marks_in_place():
    assert marked("ﬁne ﬁsh ㌔ word x\u0302y", "fish", "word", "キロ", "xy") == "ﬁne <ﬁsh> <㌔> <word> <x\u0302y>"


def test_a_character_with_two_matches_in_it_is_marked_once():
    assert marked("a ㌔ b", "キ", "ロ") == "a <㌔> b"


def test_an_accent_that_stands_alone_is_marked_with_its_letter():
    assert marked("x\u0302 y", "x") == "<x\u0302> y"


def test_a_phrase_is_marked_over_its_punctuation():
    assert marked("it was a-b, not a b c", "a-b") == "it was <a-b>, not <a b> c"


def test_long_text_is_cut_around_the_match_at_spaces():
    text = "lorem ipsum " * 100 + "needle " + "dolor sit " * 100
    shown = marked(text, "needle")
    assert "<needle>" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert set(shown.strip("…").replace("<", "").replace(">", "").split()) <= set(text.split())
    assert EXCERPT_LENGTH * 0.7 < len(shown) < EXCERPT_LENGTH + 10


def test_long_text_without_spaces_is_cut_around_the_match():
    shown = marked("東京都" * 100 + "大阪" + "名古屋" * 100, "大阪")
    assert "都<大阪>名" in shown
    assert len(shown) < EXCERPT_LENGTH + 10


def test_the_excerpt_shows_the_place_where_most_is_found():
    text = "cache " + "filler " * 100 + "the cache and its index " + "filler " * 100
    assert "<cache> and its <index>" in marked(text, "cache", "index")


def test_an_excerpt_is_one_line_without_control_characters():
    assert marked("one\r\n\ttwo \x1b[31mred\x1b[0m \x00 end", "two") == "one <two> [31mred [0m end"


def test_without_a_match_the_beginning_is_shown():
    assert excerpt("some words", None, start="<", end=">") == "some words"
    assert marked("some words", "other") == "some words"


@given(text=st.text(max_size=400), sought=st.text(min_size=1, max_size=5))
def test_an_excerpt_is_made_of_its_text(text: str, sought: str):
    one = pattern(sought, prefix=False)
    shown = excerpt(text, re.compile(f"({one})") if one else None, start="\x02", end="\x03")
    assert shown.count("\x02") == shown.count("\x03")
    assert len(shown.replace("\x02", "").replace("\x03", "")) <= EXCERPT_LENGTH + 2
    for part in re.findall("\x02(.*?)\x03", shown):
        assert re.search(one, folded(part))
