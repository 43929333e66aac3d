from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput, SessionNotFound
from steno.storage.listing import Filter
from steno.storage.model import Content, NewMessage, parse_time
from steno.storage.search import search
from steno.storage.store import Store

ALL = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steno.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    clock = itertools.count(1_700_000_000_000, 1000)
    with Store(path, now_ms=lambda: next(clock)) as opened:
        yield opened


def say(store: Store, text: Content, *, session: str = "s", role: str = "user", **fields: Any) -> str:
    if store.find(session) is None:
        store.create(id=session, title="Untitled")
    return store.append(session, NewMessage(role=role, content=text, **fields)).id


def found(store: Store, query: str, **options: Any) -> list[str | None]:
    return [hit.message for hit in search(store, query, **options).hits]


# What is found


def test_words_need_not_stand_together_but_must_all_be_there(store: Store):
    both = say(store, "the cache is warm and the index is cold")
    say(store, "the cache is warm")
    assert found(store, "index cache") == [both]


def test_a_quoted_phrase_is_found_only_where_its_words_follow_each_other(store: Store):
    there = say(store, "a warm cache helps")
    say(store, "a cache that is warm helps")
    assert found(store, '"warm cache"') == [there]


def test_a_star_finds_words_by_their_beginning(store: Store):
    there = say(store, "sync2024 is hard")
    assert found(store, "sync*") == [there]
    assert found(store, "sync") == []


def test_a_star_behind_a_phrase_belongs_to_its_last_word(store: Store):
    there = say(store, "segments are sealed at once")
    assert found(store, '"are sea"*') == [there]


def test_curly_quotes_make_a_phrase_too(store: Store):
    there = say(store, "a warm cache helps")
    say(store, "a cache that is warm helps")
    assert found(store, "“warm cache”") == [there]


@pytest.mark.parametrize("query", ["cafe", "CAFÉ", "cafe\u0301", "ＣＡＦＥ", "caf*"])
def test_case_accents_and_width_do_not_matter(store: Store, query: str):
    there = say(store, "Un Café, s'il vous plaît")
    assert found(store, query) == [there]


@pytest.mark.parametrize("query", ["*", '"', '""', '"*"', "+-", "🎉", "\0x", "-plain", "OR"])
def test_a_query_without_a_word_of_the_text_finds_nothing(store: Store, query: str):
    say(store, "plain words * + 🎉")
    assert found(store, query) == []


def test_a_query_that_can_find_nothing_says_why(store: Store):
    say(store, "plain words")
    assert search(store, "-words").hint == "say what is to be there, besides what is not"
    assert search(store, "words").hint == search(store, "others").hint == ""


@pytest.mark.parametrize("query", ["", "  \n", "\0", "\ud800"])
def test_a_blank_query_is_refused(store: Store, query: str):
    with pytest.raises(InvalidInput, match="search query cannot be empty"):
        search(store, query)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=40) | st.text(alphabet='"*a東カ한\0 -+^():é\u0301', max_size=20))
def test_no_text_is_too_odd_to_be_sought(store: Store, query: str):
    if store.find("s") is None:
        say(store, "some text 東京 a b")
    try:
        results = search(store, query)
    except InvalidInput:
        assert not re.sub(r"[\0\s\ud800-\udfff]", "", query)
    else:
        assert len(results.hits) <= 1


def test_titles_and_tags_are_found_as_the_session(store: Store):
    store.create(id="s", title="Quarterly planning", tags=["finance", "東京支店"])
    for query in ("quarterly", "finance", "京支", "planning finance"):
        (hit,) = search(store, query).hits
        assert (hit.session, hit.title, hit.message, hit.role) == ("s", "Quarterly planning", None, None)


def test_an_automatic_title_is_not_a_hit_beside_its_own_message(store: Store):
    store.create(id="s")
    message = say(store, "fix the flaky login")
    store.update("s", add_tags=["bug"])
    assert found(store, "flaky") == [message]


def test_a_title_that_was_given_up_is_not_found_any_more(store: Store):
    store.create(id="s", title="Obsolete heading")
    assert len(search(store, "obsolete").hits) == 1
    store.update("s", fields={"title": None})
    assert search(store, "obsolete").hits == []


# Chinese, Japanese, Korean

CJK_TEXTS = [
    "東京都庁の近くにある",
    "我们今天学习计算机科学",
    "데이터베이스를 검색한다",
    "カタカナとひらがな",
    "𠮷野家で𩸽を食べた",
]


@pytest.mark.parametrize("text", CJK_TEXTS)
def test_every_part_of_two_characters_or_more_is_found(store: Store, text: str):
    there = say(store, f"before {text}, after")
    say(store, "something else 京 计 데 カ 𠮷")
    parts = {text[i:j] for i in range(len(text)) for j in range(i + 2, len(text) + 1)}
    assert {part for part in parts if found(store, part) != [there]} == set()


def test_a_single_character_is_found_wherever_it_stands(store: Store):
    ids = [say(store, text) for text in ("黒猫だ", "猫", "黒猫", "猫舌", "a猫b")]
    say(store, "黒犬")
    assert set(found(store, "猫")) == set(ids)


def test_mixed_text_is_found_by_its_parts_from_the_beginning_of_a_word(store: Store):
    there = say(store, "see 東京tower大阪2024年 now")
    for part in (
        "東京tower",
        "京tower",
        "京t",
        "tower大",
        "tower大阪",
        "京tower大",
        "東京",
        "tower",
        "2024年",
        "阪2024",
        "阪20",
    ):
        assert found(store, part) == [there], part


def test_characters_must_stand_together_to_be_found(store: Store):
    say(store, "東京 京都")
    assert found(store, "東京都") == []
    assert found(store, "東都") == []


def test_punctuation_at_the_end_of_a_query_does_not_end_the_run(store: Store):
    there = say(store, "東京都に住む")
    assert found(store, "東京。") == [there]


@pytest.mark.parametrize(
    ("text", "query"),
    [("ｻｰﾋﾞｽｶﾞｲﾄﾞ", "サービスガイド"), ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글")],
    ids=["narrow kana", "decomposed hangul"],
)
def test_characters_written_in_another_way_are_the_same_text(store: Store, text: str, query: str):
    ids = {say(store, text), say(store, query)}
    assert set(found(store, query)) == set(found(store, text)) == ids


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="東京都大ひカ한글𠮷ー々", min_size=2, max_size=12), data=st.data())
def test_any_run_is_found_by_any_part_and_the_part_is_marked(store: Store, text: str, data: st.DataObject):
    there = say(store, f"x {text} y")
    begin = data.draw(st.integers(0, len(text) - 2))
    part = text[begin : data.draw(st.integers(begin + 2, len(text)))]
    hits = {hit.message: hit for hit in search(store, part, limit=1000, marks=("<", ">")).hits}
    assert f"<{part}>" in hits[there].snippet


# What is not found


def test_tool_output_is_found_to_its_limit_and_no_further(store: Store):
    output = "early " + "filler " * 1200 + "late"
    there = say(store, [{"type": "tool_result", "tool_use_id": "t", "content": output}])
    assert found(store, "early") == [there]
    assert found(store, "late") == []


def test_a_deleted_message_is_not_found_and_a_restored_session_is(store: Store):
    kept, gone = say(store, "alpha one"), say(store, "alpha two")
    assert set(found(store, "alpha")) == {kept, gone}
    store.delete_message("s", gone)
    assert found(store, "alpha") == [kept]
    store.delete("s")
    assert found(store, "alpha") == found(store, "untitled") == []
    store.restore("s")
    assert found(store, "alpha") == [kept]


def test_what_was_indexed_while_it_was_hidden_is_found_when_it_is_restored(store: Store):
    there = say(store, "alpha")
    store.delete("s")
    assert found(store, "alpha") == []
    store.restore("s")
    assert found(store, "alpha") == [there]


def test_an_edited_message_is_found_by_its_new_text_only(store: Store):
    there = say(store, "before the edit")
    assert found(store, "before") == [there]
    store.edit_message("s", there, {"content": "after the edit"})
    assert found(store, "before") == []
    assert found(store, "after") == [there]


@pytest.mark.check("MDB-26")
def test_a_search_can_be_kept_to_one_session(store: Store):
    say(store, "alpha", session="one")
    there = say(store, "alpha", session="two")
    assert found(store, "alpha", session="two") == [there]


@pytest.mark.parametrize(
    "chosen",
    [
        Filter(provider="acme"), Filter(tags=("go", "web")), Filter(project="backend"), Filter(user_id="ann"),
        Filter(status="paused"), Filter(since_ms=1_700_000_000_000, provider="acme"),
    ],
)  # fmt: skip
def test_a_search_can_be_kept_to_the_sessions_that_a_list_would_show(store: Store, chosen: Filter):
    store.create(id="one", provider="acme", tags=["go", "web"], metadata={"project": "backend"}, user_id="ann")
    store.update("one", fields={"status": "paused"})
    store.create(id="two", provider="other", tags=["go"], metadata={"project": "x"}, user_id="bob")
    there = say(store, "alpha", session="one")
    say(store, "alpha", session="two")
    assert found(store, "alpha", chosen=chosen) == [there]
    assert found(store, "alpha", chosen=chosen, session="two") == []


def test_a_search_can_be_kept_to_a_role(store: Store):
    store.create(id="s", title="alpha")
    say(store, "alpha")
    there = say(store, "alpha", role="assistant")
    assert found(store, "alpha", role="assistant") == [there]
    assert found(store, "alpha", role="tool") == []


def test_a_search_can_be_kept_to_when_a_message_was_written(store: Store):
    store.create(id="s", title="alpha", created_ms=1_000)
    first = say(store, "alpha", timestamp="2026-01-01T00:00:00Z")
    second = say(store, "alpha", timestamp="2026-02-01T00:00:00Z")
    third = say(store, "alpha", timestamp="2026-03-01T00:00:00Z")
    january, february, march = (parse_time(f"2026-0{month}-01T00:00:00Z") for month in (1, 2, 3))
    assert found(store, "alpha", since_ms=february) == [third, None, second]
    assert found(store, "alpha", before_ms=february) == [first]
    assert found(store, "alpha", since_ms=january, before_ms=march) == [second, first]
    assert store.get("s").updated_at == "2026-03-01T00:00:00.000Z"  # by which the title was found


@pytest.mark.check("COD-26")
def test_archived_sessions_are_left_out_unless_they_are_asked_for(store: Store):
    there = say(store, "alpha", session="old")
    here = say(store, "alpha", session="new")
    store.update("old", fields={"status": "archived"})
    assert found(store, "alpha") == [here]
    assert set(found(store, "alpha", archived=True)) == {here, there}
    assert found(store, "alpha", chosen=Filter(status="archived")) == found(store, "alpha", session="old") == [there]


def test_a_session_that_is_not_there_is_an_error(store: Store):
    with pytest.raises(SessionNotFound):
        search(store, "alpha", session="nowhere")


# What a hit says


@pytest.mark.check("COD-26", "MDB-26")
def test_a_search_finds_the_session_that_speaks_of_it_with_its_messages(store: Store):
    store.create(id="py", title="Notes")
    store.create(id="js", title="More notes")
    python = say(store, "How do Python decorators work?", session="py")
    decorator = say(store, "A decorator wraps a callable", session="py", role="assistant")
    functions = say(store, "JavaScript arrow functions", session="js")
    assert [(hit.session, hit.message) for hit in search(store, "Python").hits] == [("py", python)]
    assert [(hit.session, hit.message) for hit in search(store, "functions").hits] == [("js", functions)]
    assert set(found(store, "decorator")) == set(found(store, "decorators")) == {python, decorator}


@pytest.mark.check("COD-26")
def test_twenty_hits_are_shown_unless_more_are_asked_for(store: Store):
    for _ in range(22):
        say(store, "alpha")
    assert len(found(store, "alpha")) == 20
    assert len(found(store, "alpha", limit=22)) == 22


def test_the_hits_behind_an_offset_go_on_where_those_before_it_ended(store: Store):
    for number in range(5):
        say(store, "alpha " * (number % 2 + 1))
    whole = found(store, "alpha")
    pages = [search(store, "alpha", limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [hit.message for page in pages for hit in page.hits] == whole
    assert [page.more for page in pages] == [True, True, False, False]


@pytest.mark.parametrize("bounds", [{"limit": 0}, {"limit": -1}, {"offset": -1}])
def test_bounds_that_make_no_sense_are_refused(store: Store, bounds: dict[str, Any]):
    with pytest.raises(InvalidInput, match="limit"):
        search(store, "alpha", **bounds)


@pytest.mark.parametrize("word", ["decorator", "decorators", "decorate"])
def test_the_word_itself_is_a_better_match_than_another_form_of_it(store: Store, word: str):
    ids = {form: say(store, f"a {form} here") for form in ("decorators", "decorate", "decorator", "decor")}
    assert found(store, word)[0] == ids[word]
    assert set(found(store, word)) == set(ids.values())


def test_the_word_itself_is_a_better_match_in_text_of_the_same_length_too(store: Store):
    itself = say(store, "a decor here now")  # its stem is indexed beside another form
    other = say(store, "a decorators here")
    assert found(store, "decor") == [itself, other]


def test_another_form_of_a_word_is_marked_too(store: Store):
    say(store, "Two decorators, one décorated")
    (hit,) = search(store, "decorator", marks=("<", ">")).hits
    assert hit.snippet == "Two <decorators>, one <décorated>"


def test_the_best_match_stands_first_and_of_equal_ones_the_newest(store: Store):
    old = say(store, "alpha beta", timestamp="2026-01-01T00:00:00Z")
    new = say(store, "alpha beta", timestamp="2026-03-01T00:00:00Z")
    middle = say(store, "alpha beta", timestamp="2026-02-01T00:00:00Z")
    best = say(store, "alpha alpha", timestamp="2025-01-01T00:00:00Z")
    assert found(store, "alpha") == [best, new, middle, old]


def test_more_hits_than_asked_for_are_announced(store: Store):
    for _ in range(3):
        say(store, "alpha")
    assert search(store, "alpha", limit=3).more is False
    assert search(store, "alpha", limit=2).more is True
    assert len(search(store, "alpha", limit=2).hits) == 2


def test_a_hit_names_message_and_session_and_marks_what_matched(store: Store):
    store.create(id="s", title="Notes")
    there = say(store, "Ein Café\nin Köln.", role="assistant", timestamp="2026-01-01T00:00:00.000Z")
    (hit,) = search(store, "cafe köln", marks=("[", "]")).hits
    assert (hit.session, hit.title, hit.message, hit.role) == ("s", "Notes", there, "assistant")
    assert hit.timestamp == "2026-01-01T00:00:00.000Z"
    assert hit.snippet == "Ein [Café] in [Köln]."
    assert hit.score > 0


def test_searching_imports_nothing_heavy():
    heavy = ["aiohttp", "cryptography", "opendal", "rich", "snowballstemmer", "sqlite_utils", "watchdog", "zstandard"]
    code = f"import sys, steno.storage.search; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
