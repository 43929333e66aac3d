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
from steno.storage.model import Content, NewMessage
from steno.storage.search import backlog, index, parse, rebuild, search
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
    there = say(store, "synchronization is hard")
    assert found(store, "synchron*") == [there]
    assert found(store, "synchron") == []


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


@pytest.mark.parametrize(
    "query", ["what's up?", "C++", "a-b", "x.y", "AND", "NOT NEAR(", "foo_bar", "text:", "^up", 'say "']
)
def test_punctuation_and_operators_are_read_as_the_text_reads_them(store: Store, query: str):
    there = say(store, "what's up? C++ a-b x.y AND NOT NEAR( foo_bar text: say")
    assert found(store, query) == [there]


@pytest.mark.parametrize("query", ["*", '"', '""', '"*"', "+-", "🎉", "\0x"])
def test_a_query_without_a_word_of_the_text_finds_nothing(store: Store, query: str):
    say(store, "plain words * + 🎉")
    assert found(store, query) == []


@pytest.mark.parametrize("query", ["", "  \n", "\0", "\ud800"])
def test_a_blank_query_is_refused(store: Store, query: str):
    with pytest.raises(InvalidInput, match="search query cannot be empty"):
        search(store, query)


def test_an_endless_query_is_refused():
    with pytest.raises(InvalidInput, match="too long"):
        parse("word " * 5000)


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


def test_a_search_can_be_kept_to_one_session_or_provider(store: Store):
    store.create(id="one", provider="acme")
    store.create(id="two", provider="other")
    first, second = say(store, "alpha", session="one"), say(store, "alpha", session="two")
    assert found(store, "alpha", session="two") == [second]
    assert found(store, "alpha", provider="acme") == [first]
    assert found(store, "alpha", where=[("id LIKE ?", ("o%",))]) == [first]
    assert found(store, "alpha", session="one", provider="other") == []


def test_a_session_that_is_not_there_is_an_error(store: Store):
    with pytest.raises(SessionNotFound):
        search(store, "alpha", session="nowhere")


# What a hit says


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


# The index as a consumer


def fill(store: Store, count: int) -> None:
    for number in range(count):
        say(store, f"alpha number{number}")


def test_a_slice_ends_at_its_limit_and_the_next_goes_on_there(store: Store):
    fill(store, 9)
    dones = []
    while True:
        progress = index(store, limit_rows=4)
        dones.append(progress.done)
        if not progress.remaining:
            break
    assert dones == [4, 4, 2]
    assert index(store) == (0, 0)
    assert len(found(store, "alpha", index_bytes=0)) == 9


def test_the_message_that_reaches_the_byte_limit_is_the_last_of_its_slice(store: Store):
    fill(store, 5)
    index(store, limit_rows=1)
    assert index(store, limit_bytes=1).done == 1


def test_a_search_indexes_what_is_missing(store: Store):
    fill(store, 5)
    results = search(store, "alpha")
    assert (len(results.hits), results.not_indexed) == (5, 0)


def test_a_search_that_may_not_index_says_how_much_is_missing(store: Store):
    fill(store, 5)
    index(store, limit_rows=3)
    results = search(store, "alpha", index_bytes=0)
    assert (len(results.hits), results.not_indexed) == (2, 3)


def test_a_store_opened_read_only_is_searched_as_far_as_it_is_indexed(store: Store, path: Path):
    fill(store, 3)
    index(store)
    say(store, "alpha late")
    with Store(path, read_only=True) as reader:
        results = search(reader, "alpha")
    assert (len(results.hits), results.not_indexed) == (3, 1)


def test_a_slice_that_is_undone_is_done_again(store: Store):
    fill(store, 3)

    class Crash(Exception):
        pass

    def crash_behind_a_slice() -> None:
        with store.transaction():
            index(store)
            raise Crash

    with pytest.raises(Crash):
        crash_behind_a_slice()
    assert found(store, "alpha", index_bytes=0) == []
    assert backlog(store) == 4
    index(store)
    assert len(found(store, "alpha", index_bytes=0)) == 3


def test_two_processes_that_index_at_once_do_not_index_twice(store: Store, path: Path):
    fill(store, 3)
    with Store(path) as other:
        assert index(store, limit_rows=2).done == 2
        while index(other, limit_rows=2).remaining:
            pass
        assert index(store) == (0, 0)
    assert len(found(store, "alpha")) == 3


def test_a_slice_that_another_process_overtook_is_dropped(store: Store, path: Path):
    fill(store, 3)
    with Store(path) as other:
        store.connection.set_trace_callback(lambda statement: "UNION ALL" in statement and index(other))
        assert index(store) == (0, 0)
        store.connection.set_trace_callback(None)
    assert len(found(store, "number1")) == 1


def test_a_rebuilt_index_answers_as_before(store: Store):
    fill(store, 4)
    store.update("s", add_tags=["alpha"])
    before = search(store, "alpha").hits
    rebuild(store)
    assert backlog(store) == 5
    assert search(store, "alpha").hits == before


def test_a_rebuilt_index_holds_nothing_but_what_the_store_holds(store: Store):
    fill(store, 1)
    index(store)
    store.execute("INSERT OR REPLACE INTO search (rowid, text) SELECT no, 'stray' FROM messages")
    assert len(found(store, "stray")) == 1
    rebuild(store)
    assert found(store, "stray") == []


def test_numbers_of_the_feed_without_a_row_are_passed(store: Store):
    fill(store, 2)
    with store.transaction():
        store.advance(3)
    index(store)
    assert index(store) == (0, 0)
    assert store.cursor("search") == store.last_seq


def test_a_content_that_cannot_be_read_does_not_stop_the_index(store: Store):
    broken = say(store, [{"type": "text", "text": "x"}])
    store.execute("UPDATE messages SET content = ? WHERE id = ?", (b"[{", broken))
    there = say(store, "alpha")
    assert found(store, "alpha") == [there]


COMMANDS = st.lists(
    st.tuples(st.sampled_from(["say", "edit", "delete", "retitle", "drop", "restore", "index"]), st.integers(0, 5)),
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=COMMANDS)
def test_an_index_kept_up_in_slices_equals_one_made_at_the_end(
    tmp_path_factory: pytest.TempPathFactory, commands: list[tuple[str, int]]
):
    with Store(tmp_path_factory.mktemp("model") / "steno.db") as store:
        store.create(id="s", title="Word0")
        ids = []
        for name, number in commands:
            if name == "say":
                ids.append(say(store, f"word{number} common"))
            elif name == "index":
                index(store, limit_rows=number + 1)
            elif name == "restore":
                store.restore("s")
            elif store.get("s", deleted=True).deleted_at:
                continue
            elif name == "drop":
                store.delete("s")
            elif name == "retitle":
                store.update("s", fields={"title": f"Word{number}"}, tags=["common"])
            elif ids and name == "edit":
                store.edit_message("s", ids[number % len(ids)], {"content": f"word{number} edited"})
            elif ids:
                store.delete_message("s", ids[number % len(ids)])
        queries = ["common", "edited", *(f"word{n}" for n in range(6))]
        kept_up = {query: search(store, query, index_bytes=ALL).hits for query in queries}
        rebuild(store)
        anew = {query: search(store, query, index_bytes=ALL).hits for query in queries}
    assert {q: {(h.message, h.snippet) for h in hits} for q, hits in kept_up.items()} == {
        q: {(h.message, h.snippet) for h in hits} for q, hits in anew.items()
    }


def test_searching_imports_nothing_heavy():
    heavy = ["aiohttp", "cryptography", "opendal", "rich", "sqlite_utils", "watchdog"]
    code = f"import sys, steno.storage.search; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
