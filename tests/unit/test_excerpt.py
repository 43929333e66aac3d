from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from steno.storage.excerpt import LENGTH, excerpt, pattern, sought
from steno.storage.prose import folded


def marked(text: str, *things: str, prefix: bool = False) -> str:
    wanted = sought([pattern(each, prefix=prefix) for each in things], [])
    return excerpt(text, wanted, start="<", end=">")


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
    assert LENGTH * 0.7 < len(shown) < LENGTH + 10


def test_long_text_without_spaces_is_cut_around_the_match():
    shown = marked("東京都" * 100 + "大阪" + "名古屋" * 100, "大阪")
    assert "都<大阪>名" in shown
    assert len(shown) < LENGTH + 10


def test_the_excerpt_shows_the_place_where_most_is_found():
    text = "cache " + "filler " * 100 + "the cache and its index " + "filler " * 100
    assert "<cache> and its <index>" in marked(text, "cache", "index")


def test_an_excerpt_is_one_line_without_control_characters():
    assert marked("one\r\n\ttwo \x1b[31mred\x1b[0m \x00 end", "two") == "one <two> [31mred [0m end"


def test_without_a_match_the_beginning_is_shown():
    assert excerpt("some words", None, start="<", end=">") == "some words"
    assert marked("some words", "other") == "some words"


@given(text=st.text(max_size=400), thing=st.text(min_size=1, max_size=5))
def test_an_excerpt_is_made_of_its_text(text: str, thing: str):
    one = pattern(thing, prefix=False)
    shown = excerpt(text, sought([one] if one else [], []), start="\x02", end="\x03")
    assert shown.count("\x02") == shown.count("\x03")
    assert len(shown.replace("\x02", "").replace("\x03", "")) <= LENGTH + 2
    for part in re.findall("\x02(.*?)\x03", shown):
        assert re.search(one, folded(part))
