"""How a hit is shown: a piece of its text on one line, with what was sought between marks.

What is sought here is what the index is asked for (tests/unit/test_excerpt.py).
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import accumulate, islice, pairwise
from operator import add

import msgspec

from .prose import CJK, FOLD, LETTER, cjk_run, folded
from .stems import stem

LENGTH = 160

_ASCII_LETTER = r"[^\W_]"
_ASCII_PIECE = re.compile(f"{_ASCII_LETTER}+")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Sought(msgspec.Struct, frozen=True):
    """What is marked: each group of ``pattern`` is one thing; the last one is any word, if ``stems`` has its stem."""

    pattern: str
    stems: frozenset[str]

    def compiled(self, plain: str) -> re.Pattern[str]:
        """The pattern, for a text. For ASCII text it is a simpler one, which is made a good deal sooner."""
        return _compiled(self.pattern.replace(LETTER, _ASCII_LETTER) if plain.isascii() else self.pattern)


def sought(patterns: Sequence[str], stems: Iterable[str]) -> Sought | None:
    """What to mark: what `pattern` made, and words by their stem; None for nothing."""
    groups = [*patterns]
    sought_stems = frozenset(stems)
    if sought_stems:
        # A stem begins as its word does. Last, so that a word of another stem does not hide what begins with it.
        initials = "".join(sorted({each[0] for each in sought_stems}))
        groups.append(f"(?<!{LETTER})[{initials}][a-z]*(?!{LETTER})")
    return Sought("|".join(f"({each})" for each in groups), sought_stems) if groups else None


def pattern(text: str, *, prefix: bool) -> str:
    """A regular expression that finds in `folded` text what `phrase` finds in the index; empty for no words."""
    pieces = _pieces(folded(text))
    if not pieces:
        return ""
    gaps = [r"[\W_]*" if _is_cjk(left) or _is_cjk(right) else r"[\W_]+" for left, right in pairwise(pieces)]
    inner = "".join(map(add, map(re.escape, pieces), [*gaps, ""]))
    opening = "" if _is_cjk(pieces[0]) else f"(?<!{LETTER})"
    if _is_cjk(pieces[-1]):
        return opening + inner
    return opening + inner + (f"{LETTER}*" if prefix or gaps[-1:] == [r"[\W_]*"] else f"(?!{LETTER})")


def excerpt(text: str, wanted: Sought | None, *, start: str, end: str) -> str:
    """About `LENGTH` characters on one line, matches between the marks; without a match the text's beginning.

    The excerpt shows where most of what is sought stands together. The text's own control characters
    are dropped, so a control character is a mark that cannot be mistaken.
    """
    shown = unicodedata.normalize("NFC", text)
    spans = _densest(_spans(shown, wanted)) if wanted else []
    begin, stop = _window(shown, *(spans[0] if spans else (0, 0)))
    parts, at = ["…" if begin else ""], begin
    for left, right in spans:
        if right > stop:
            break
        if left < at:  # two matches in one character, as of キ and ロ in ㌔
            continue
        parts += [_one_line(shown[at:left]), start, _one_line(shown[left:right]), end]
        at = right
    return "".join([*parts, _one_line(shown[at:stop]), "…" if stop < len(shown) else ""]).strip(" ")


@lru_cache(maxsize=8)  # of a query there are two
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _pieces(plain: str) -> list[str]:
    return (_ASCII_PIECE if plain.isascii() else _any_piece()).findall(plain)


@cache
def _any_piece() -> re.Pattern[str]:
    return re.compile(f"[{CJK}]+|{LETTER}+")


def _is_cjk(piece: str) -> bool:
    return not piece.isascii() and cjk_run().match(piece) is not None


def _spans(text: str, wanted: Sought) -> list[tuple[int, int, Hashable]]:
    """Where something sought stands: from, to, and what it is. The first few hundred are enough to choose."""
    plain = folded(text)
    found = list(islice(_matches(plain, wanted), 300))
    if text.isascii() or all(len(FOLD[ord(char)]) == 1 for char in set(text)):
        return found
    ends = list(accumulate((len(FOLD[ord(char)]) for char in text), initial=0))
    return [(bisect_right(ends, left) - 1, _end(ends, right), what) for left, right, what in found]


def _matches(plain: str, wanted: Sought) -> Iterator[tuple[int, int, Hashable]]:
    compiled = wanted.compiled(plain)
    any_word = compiled.groups if wanted.stems else None
    for match in compiled.finditer(plain):
        what: Hashable = match.lastindex
        if what == any_word:
            # A word that is itself what another one's stem looks like was found too.
            what = next((each for each in (stem(match[0]), match[0]) if each in wanted.stems), None)
            if what is None:
                continue
        yield (*match.span(), what)


def _end(ends: list[int], folded_end: int) -> int:
    """Where a match ends in the text: behind a character that it ends inside of, and behind marks upon the last one."""
    return max(bisect_left(ends, folded_end), bisect_right(ends, folded_end) - 1)


def _densest(spans: list[tuple[int, int, Hashable]]) -> list[tuple[int, int]]:
    """The spans from the first place on where the most different things stand within one excerpt."""
    best, most = 0, 0
    for index, (left, _, _) in enumerate(spans):
        near = {what for begin, _, what in spans[index : index + 40] if begin < left + LENGTH * 2 // 3}
        if len(near) > most:
            best, most = index, len(near)
    return [(left, right) for left, right, _ in spans[best:]]


def _window(text: str, left: int, right: int) -> tuple[int, int]:
    """From where to where an excerpt goes that shows this span: whole words, where there are spaces."""
    begin = max(0, min(left - LENGTH // 4, len(text) - LENGTH))
    stop = min(len(text), max(begin + LENGTH, right))
    if begin:
        begin = text.find(" ", begin, min(left, begin + 20)) + 1 or begin
    if stop < len(text):
        stop = max(text.rfind(" ", max(right, stop - 20), stop), 0) or stop
    return begin, stop


def _one_line(text: str) -> str:
    return _BLANK.sub(" ", text)
