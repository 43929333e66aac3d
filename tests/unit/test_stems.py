from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snowballstemmer.english_stemmer import EnglishStemmer

from steno.storage import stems as module
from steno.storage.prose import folded, words
from steno.storage.stems import MAX_LENGTH, stem, stems

ENGLISH = "decorator decorators decorating happy happiness running runs ran cafés Straße news dying the of x".split()  # noqa: SIM905


@pytest.mark.parametrize(
    "forms",
    [("decorator", "decorators", "decorate"), ("run", "runs", "running"), ("happy", "happiness"), ("query", "queries")],
)
def test_the_forms_of_a_word_have_one_stem(forms: tuple[str, ...]):
    assert len({stem(form) for form in forms}) == 1


@pytest.mark.parametrize("word", ["utf8", "3d", "東京", "привет", "a_b", "", "a" * (MAX_LENGTH + 1)])
def test_what_is_no_english_word_has_no_stem(word: str):
    assert stem(word) == ""


def test_only_stems_that_differ_from_their_word_are_indexed():
    assert stems("The decorator runs, RUNNING; go_runs!") == "decor run run run"


def test_a_word_with_a_digit_or_another_script_in_it_is_left_alone():
    assert stems("runs2 2runs бruns") == stems("ünlü東京") == ""


def test_words_of_text_that_is_not_all_ascii_have_stems_too():
    assert stems(words("“Decorators” — cafés_running 東京runs")) == "decor cafe run run"


def test_an_accented_word_is_indexed_by_the_stem_that_a_search_without_accents_seeks():
    assert stems("cafés") == stem(folded("cafés")) == stem("cafe")


@given(st.lists(st.sampled_from(ENGLISH)))
def test_each_word_counts_as_often_as_it_stands(chosen: list[str]):
    alone = [stems(word) for word in chosen]
    assert stems(" ".join(chosen)).split() == [each for each in alone if each]


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True))
def test_a_stem_begins_as_its_word(word: str):
    assert stem(word)[0] == word[0]


def test_more_words_than_are_kept_have_the_right_stems(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CACHED", 3)
    text = "decorators running queries houses cars runs"
    assert stems(text) == stems(text) == " ".join(stem(word) for word in text.split())


@pytest.fixture
def impatient_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient_threads")
def test_threads_do_not_get_each_others_stems(monkeypatch: pytest.MonkeyPatch):
    in_python = EnglishStemmer()  # as where PyStemmer has no wheel
    monkeypatch.setattr(module, "_english", lambda: in_python)
    syllables = [first + second for first in "bdfgklmnprst" for second in "aeiou"]
    wrong: list[str] = []

    def ask(ending: str) -> None:
        alone = EnglishStemmer()
        for word in (one + other + ending for one in syllables for other in syllables[:10]):
            wrong.extend([word] if stems(word) not in ("", alone.stemWord(word)) else [])

    threads = [threading.Thread(target=ask, args=(ending,)) for ending in ("rations", "nings", "bly")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True) | st.sampled_from(ENGLISH).map(str.lower))
def test_a_word_has_the_same_stem_with_and_without_the_quicker_library(word: str):
    assert stem(folded(word)) == EnglishStemmer().stemWord(folded(word))


def test_the_library_is_imported_when_the_first_word_is_met_and_not_before():
    code = (
        "import sys, steno.storage.search; print('snowballstemmer' in sys.modules);"
        "steno.storage.stems.stem('runs'); print('snowballstemmer' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
