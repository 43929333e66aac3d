"""English stems: what lets a search for *decorator* find *decorators*.

The index holds every word, and in a column of their own the stems that differ from their word;
so a word and its stem are told apart, and words of other languages cost nothing. What is
indexed, sought and marked has the same stem (tests/unit/test_stems.py).
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import Any, Protocol

from .prose import folded

MAX_LENGTH = 32
_CACHED = 25_000  # some 4 MB

_SPACED = str.maketrans({chr(code): chr(code).lower() if chr(code).isalnum() else " " for code in range(128)})
# Latin letters; with \b no word that has a digit or a letter of another script in it.
_LATIN = re.compile(r"\b[a-z\u00df-\u00f6\u00f8-\u017f]+\b")


def stem(word: str) -> str:
    """The stem of one word as `folded` gives it, often the word itself; empty for what is not of English letters."""
    return (_DIFFERING[word] or word) if _is_english(word) else ""


def stems(text: str) -> str:
    """The stems of all words that are not their own stem, for text as `words` gives it; each as often as its words."""
    found = text.translate(_SPACED).split() if text.isascii() else _LATIN.findall(text.lower().replace("_", " "))
    return " ".join(filter(None, map(_DIFFERING.__getitem__, found)))


class _Differing(dict[str, str]):
    """The stem of a word in lower case where that is another word, else nothing; made when the word is first met."""

    def __missing__(self, word: str) -> str:
        plain = folded(word)
        if not _is_english(plain):
            return ""  # not kept: numbers and ids would drive the words out
        with _ALONE:
            stemmed = _english().stemWord(plain)
            if len(self) >= _CACHED:
                self.clear()
            self[word] = differing = "" if stemmed == plain else stemmed
        return differing


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # noqa: N802  the library's name


def _is_english(word: str) -> bool:
    return len(word) <= MAX_LENGTH and word.isascii() and word.isalpha()


@cache
def _english() -> _Stemmer:
    from snowballstemmer import stemmer  # noqa: PLC0415  up to 15 ms, needed only where something is indexed or sought

    found: Any = stemmer("english")
    found.maxCacheSize = 0  # PyStemmer would keep words too, and take longer with them
    return found


_ALONE = threading.Lock()  # a stemmer keeps its word in itself
_DIFFERING = _Differing()
