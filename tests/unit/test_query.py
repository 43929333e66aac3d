"""Each query is asked of a real FTS5 table, set up as the index is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput
from steno.storage.excerpt import excerpt
from steno.storage.prose import words
from steno.storage.query import MAX_LENGTH, parse
from steno.storage.sqlite import dbapi
from steno.storage.stems import stems
from steno.storage.syntax import MAX_DEPTH

Table = Any


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """An empty index; each test fills it within a transaction that is undone."""
    connection = dbapi.connect(":memory:", isolation_level=None)
    connection.execute(
        "CREATE VIRTUAL TABLE search USING fts5 (text, stems, content = '', contentless_delete = 1, "
        'tokenize = "unicode61 remove_diacritics 2")'
    )
    yield connection
    connection.close()


def fill(table: Table, *texts: str) -> None:
    table.execute("INSERT INTO search (search) VALUES ('delete-all')")
    for no, text in enumerate(texts):
        table.execute("INSERT INTO search (rowid, text, stems) VALUES (?, ?, ?)", (no, words(text), stems(words(text))))


def asked(table: Table, query: str) -> set[int]:
    match = parse(query).match
    return (
        {no for (no,) in table.execute("SELECT rowid FROM search WHERE search MATCH ?", (match,))} if match else set()
    )


def question(query: str) -> str:
    """What FTS5 is asked, its phrases as FTS5 reads them."""
    plain = lambda quoted: " ".join(re.findall(r"[^\W_]+", quoted[0].casefold()))  # noqa: E731
    return re.sub(r'"[^"]*"', lambda quoted: f'"{plain(quoted)}"', parse(query).match)


FRUIT = ("apple banana", "banana cherry", "apple cherry", "apple banana cherry", "date")


@pytest.mark.check("MDB-26")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("apple banana", {0, 3}),
        ("apple AND banana", {0, 3}),
        ("apple OR date", {0, 2, 3, 4}),
        ("apple -banana", {2}),
        ("-banana apple", {2}),
        ("apple NOT banana", {2}),
        ("apple AND NOT banana", {2}),
        ("apple -banana -cherry", set()),
        ("apple banana OR date", {0, 3, 4}),
        ("date OR apple NOT banana", {2, 4}),
        ("(apple OR date) -cherry", {0, 4}),
        ("cherry (apple OR banana)", {1, 2, 3}),
        ("cherry -(apple OR date)", {1}),
        ("cherry -(apple banana)", {1, 2}),
        ("cherry NOT NOT apple", {2, 3}),
        ("cherry (apple OR NOT banana)", {2, 3}),
        ("apple AND(banana OR cherry)", {0, 2, 3}),
        ('apple -"banana cherry"', {0, 2}),
        ("cherry -app*", {1}),
        ("cherry -NEAR(apple banana)", {1, 2}),
    ],
)
def test_words_are_joined_by_and_or_not_and_brackets(table: Table, query: str, found: set[int]):
    fill(table, *FRUIT)
    assert asked(table, query) == found


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ("OR", "or"), ("NOT", "not"), ("AND AND", "and"), ("apple OR", "apple or"), ("OR apple", "or apple"),
        ("AND apple", "and apple"), ("apple NOT", "apple not"), ("NEAR apple", "near apple"),
        ("apple NEAR", "apple near"), ("(OR)", "or"), ("apple or cherry", "apple AND or AND cherry"),
        ("apple OR OR date", "(apple or) OR date"),
    ],
)  # fmt: skip
def test_an_operator_with_nothing_to_join_is_a_word(query: str, same: str):
    assert question(query) == question(same)


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ("((apple)", "apple"), ("apple)", "apple"), (")(", None), ("() apple", "apple"), ("apple OR ()", "apple"),
        ("apple *", "apple"), ("apple OR *", "apple"), ("apple - date", "apple date"), ("apple -- date", "apple date"),
        ('apple "', "apple"), ('apple ""', "apple"), ("apple 🎉 -!", "apple"), ("--apple", "apple"), ("C++", "c"),
        ("what's up?", '"what s" up'), ("a-b", '"a b"'), ("x.y", '"x y"'), ("f(x)", '"f x"'), ("foo_bar", '"foo bar"'),
        ("main()", "main"), ("NEAR(apple)", "apple"), ("NEAR()", None), ("NEAR(apple", "near apple"),
        ("apple NEAR 🎉", "apple"), ("“a b”", '"a b"'), ("（fig OR date） －apple", "(fig OR date) -apple"),
        ("text:apple", '"text apple"'), ("^apple", "apple"), ("{apple} : date", "apple date"), ("a + b", "a b"),
    ],
)  # fmt: skip
def test_all_other_punctuation_is_a_gap_between_words(query: str, same: str | None):
    assert question(query) == (question(same) if same else "")


def test_words_apart_and_words_in_punctuation_find_the_text_they_came_from(table: Table):
    fill(table, "what's up? C++ a-b x.y foo_bar f(x) text: say", "unlike")
    for query in ("what's up?", "C++", "a-b", "x.y", "foo_bar", "f(x)", "text:", 'say "', "^up"):
        assert asked(table, query) == {0}, query


@pytest.mark.check("MDB-26")
def test_a_phrase_is_words_in_a_row_and_a_star_finds_the_last_word_by_its_beginning(table: Table):
    fill(table, "a warm cache helps", "a cache that is warm", "warming caches")
    assert asked(table, '"warm cache"') == {0}
    assert asked(table, '"warm cac"*') == {0}
    assert asked(table, "cach*") == {0, 1, 2}
    assert asked(table, "warm*") == {0, 1, 2}


@pytest.mark.check("MDB-26")
def test_near_counts_the_words_between(table: Table):
    fill(table, "one x x x two", "one x x x x two", "two x one", "one " + "x " * 10 + "two", "one " + "x " * 11 + "two")
    assert asked(table, "one NEAR/3 two") == asked(table, "NEAR(one two, 3)") == {0, 2}
    assert asked(table, "one NEAR two") == asked(table, "NEAR(one two)") == {0, 1, 2, 3}
    assert asked(table, "one NEAR/99999999999999999999 two") == {0, 1, 2, 3, 4}


def test_near_takes_phrases_beginnings_and_chains(table: Table):
    fill(table, "red apple near green pear x x x x plum", "apple red x green pear plum", "green pear red apple plum")
    assert asked(table, '"red apple" NEAR/1 "green pear"') == {0, 2}
    assert asked(table, '"red apple" NEAR/1 gre*') == {0, 2}
    assert asked(table, 'NEAR("red apple" gre* plum, 3)') == {2}
    assert asked(table, "apple NEAR/1 green NEAR/1 plum") == set()
    assert asked(table, "apple NEAR/3 green NEAR/1 plum") == {1}


@pytest.mark.check("COD-26")
def test_a_word_is_found_in_its_other_forms_but_a_phrase_a_beginning_and_near_are_not(table: Table):
    fill(table, "python decorators", "a decorator here", "decorate it", "decor")
    assert asked(table, "decorator") == asked(table, "decorators") == {0, 1, 2, 3}
    assert asked(table, "DECORATORS,") == {0, 1, 2, 3}
    assert asked(table, '"decorator"') == {1}
    assert asked(table, "decorator*") == {0, 1}
    assert asked(table, "decorator NEAR here") == {1}
    assert asked(table, "python -decorate") == set()


def test_a_phrase_is_not_found_among_the_stems(table: Table):
    fill(table, "running decorators")
    assert asked(table, "runs decorator") == {0}
    assert asked(table, '"run decor"') == asked(table, '"run"') == asked(table, "run NEAR decor") == set()


PAGE = Path(__file__).parents[2] / "docs" / "search.md"
EXAMPLES = re.findall(r"^\| `(.+)` \| `(.+)` \| `(.+)` \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=[query for query, _, _ in EXAMPLES])
def test_the_examples_of_the_page_find_what_it_says(table: Table, example: tuple[str, str, str]):
    query, found, not_found = example
    fill(table, found, not_found)
    assert asked(table, query) == {0}


@pytest.mark.parametrize("query", ["-apple", "NOT apple", "-apple -date", "-(apple OR date)", "apple OR -date", "-a*"])
def test_a_query_that_only_excludes_finds_nothing_and_says_why(query: str):
    found = parse(query)
    assert (found.match, found.sought) == ("", None)
    assert "besides what is not" in found.hint


@pytest.mark.parametrize("query", ["*", "-", "((", "🎉", '""', "()", "+-", "\0*", "NEAR()"])
def test_a_query_without_a_word_finds_nothing_and_says_why(query: str):
    found = parse(query)
    assert found.match == ""
    assert "no word" in found.hint


@pytest.mark.parametrize("query", ["", "  \n", "\0", "\ud800"])
def test_a_blank_query_is_refused(query: str):
    with pytest.raises(InvalidInput, match="search query cannot be empty"):
        parse(query)


def test_an_endless_query_is_refused():
    with pytest.raises(InvalidInput, match="too long"):
        parse("word " * 5000)


@pytest.mark.parametrize(
    "query",
    [
        "(" * 4000 + "a" + ")" * 4000,
        "(a OR -(b " * 700 + "c" + "))" * 700,
        "(a b OR -(c d NOT " * (MAX_DEPTH * 2) + "e" + "))" * (MAX_DEPTH * 2),
        "NOT " * 2400 + "a",
        "a NEAR " * 1400 + "a",
        "NEAR(" * 1900,
        " ".join(f"w{number}" for number in range(1500)),
        " OR ".join(f"words{number // 26}{chr(97 + number % 26)}" for number in range(500)),
        "京都大阪" * 2400,
        "NEAR(" + "ab " * 3000 + ")",
        "a NEAR/" + "9" * 5000 + " b",
        '"' * 9999,
    ],
    ids=range(12),
)
def test_a_monstrous_query_is_answered(table: Table, query: str):
    assert len(query) <= MAX_LENGTH
    fill(table, "a b c d e")
    asked(table, query)


PIECES = st.sampled_from(
    ["a", "cats", "Cat*", '"', '"a b"', "*", "-", "(", ")", "((", "NOT", "AND", "OR", "NEAR", "NEAR/3", "NEAR(", ", 2)",
     "東京", "カ", "手机iPhone", "é", "e\u0301", "🎉", "\0", "\ud800", "^", ":", "+", "{text}", "text:", "ﬁ", "ß", "½",
     "\U00010940", "\U0001e900", "ⅷ", "'", "\\", "--", "’"]
)  # fmt: skip


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.text(max_size=40)
    | st.lists(PIECES, max_size=14).map(" ".join)
    | st.lists(PIECES, max_size=14).map("".join)
)
@example("a NEAR(b OR -(")
@example("-\U0001e900 a")
def test_no_text_is_an_error(table: Table, query: str):
    if not table.execute("SELECT 1 FROM search WHERE search MATCH 'cats'").fetchone():
        fill(table, "some cats a b 東京 iPhone手机 é")
    try:
        asked(table, query)
    except InvalidInput:
        assert not re.sub(r"[\0\s\ud800-\udfff]", "", query)


LEAVES = st.sampled_from(["apple", "banana", "cherry", '"apple banana"', "app*", "dates"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from(["{0} {1}", "{0} OR {1}", "{0} AND {1}", "{0} -{1}", "{0} NOT {1}"]), inner, inner
    ),
    max_leaves=8,
)


def spelt(tree: Any) -> str:
    return tree if isinstance(tree, str) else "(" + tree[0].format(spelt(tree[1]), spelt(tree[2])) + ")"


def meant(tree: Any) -> set[int]:
    if isinstance(tree, str):
        holds = {"app*": "apple", "dates": "date"}.get(tree, tree.strip('"'))
        return {no for no, text in enumerate(FRUIT) if holds in text}
    form, left, right = tree[0], meant(tree[1]), meant(tree[2])
    return left | right if "OR" in form else left - right if "-" in form or "NOT" in form else left & right


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_whatever_is_joined_finds_what_it_means(table: Table, tree: Any):
    fill(table, *FRUIT)
    assert asked(table, spelt(tree)) == meant(tree)


# Chinese, Japanese, Korean


def test_characters_are_sought_alike_alone_in_phrases_and_between_operators(table: Table):
    fill(table, "東京都庁", "京都大学", "大阪 tower", "iPhone手机很好")
    assert asked(table, "東京 OR 大阪") == {0, 2}
    assert asked(table, "京都 -東京") == {1}
    assert asked(table, "京都 NOT 大学") == {0}
    assert asked(table, '"京都大"') == {1}
    assert asked(table, "(東京 OR 京都) 都庁") == {0}
    assert asked(table, "大阪 NEAR/2 tower") == {2}
    assert asked(table, "iPhone手机") == asked(table, "手机 iphone") == asked(table, "NEAR(iphone 手机, 0)") == {3}
    assert asked(table, "iPhones OR 手") == {3}


# Marks


def marked(query: str, text: str) -> str:
    return excerpt(text, parse(query).sought, start="<", end=">")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("decorator", "<Decorators> and <decorated> daemons do"),
        ('decorator "daemons do"', "<Decorators> and <decorated> <daemons do>"),
        ("dec*", "<Decorators> and <decorated> daemons do"),
        ('"decorator"', "Decorators and decorated daemons do"),
        ("decorator -daemon", "<Decorators> and <decorated> daemons do"),
        ("doing OR NOT NOT daemon", "Decorators and decorated <daemons> <do>"),
        ("and NEAR daemons", "Decorators <and> decorated <daemons> do"),
    ],
)
def test_what_is_sought_is_marked_in_all_its_forms(query: str, shown: str):
    assert marked(query, "Decorators and decorated daemons do") == shown


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(
        st.sampled_from(
            ["decorators", "run", "東京都", "cafés", "e-mail", "utf8", "the", "running,", "queries.", "ß", "ﬁsh"]
        ),
        min_size=1,
    ),
    word=st.sampled_from(
        ["decorator", "runs", "京都", "cafe", "CAFÉS", "mail", "utf8", "query", "SS", "fish", "dec*", "ca*"]
    ),
)
def test_a_word_that_is_found_is_marked(table: Table, text: list[str], word: str):
    fill(table, " ".join(text))
    if asked(table, word):
        assert "<" in marked(word, " ".join(text))
