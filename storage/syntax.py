"""How the text of a query is read: into a tree of what is to be found (tests/unit/test_query.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from .excerpt import pattern
from .prose import folded, phrase
from .stems import stem

MAX_DEPTH = 8
NEAR = 10
_FARTHEST = 1_000_000

_TOKEN = re.compile(
    r"\s+"
    r"|(?P<not>NOT)(?=[\s(\"]|$)|(?P<and>AND)(?=[\s(\"]|$)|(?P<or>OR)(?=[\s(\"]|$)"
    r"|(?P<near>NEAR(?:/(?P<within>[0-9]+))?)(?=[\s\"]|$)"
    r"|NEAR\((?P<group>(?:\"[^\"]*\"|[^\"()])*)\)"
    r"|\"(?P<quoted>[^\"]*)\"(?P<star>\*?)"
    r"|(?P<open>\()|(?P<close>\))"
    r"|(?P<minus>(?<![^\s(])-(?=[^\s-]))"
    r"|(?P<word>[^\s\"()]+(?:\([^\s\"()]*\)[^\s\"()]*)*)"
    r"|(?s:.)"
)
_GROUPED = re.compile(r"\"([^\"]*)\"(\*?)|([^\s\",]+)")
_DISTANCE = re.compile(r",\s*([0-9]+)\s*$")
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


class Term(msgspec.Struct, frozen=True):
    """Words that follow each other: as a phrase of FTS5, as what is marked, and the stem of one that has one."""

    phrase: str
    pattern: str
    stem: str = ""


class Near(msgspec.Struct, frozen=True):
    """Terms with at most so many words between them."""

    terms: tuple[Term, ...]
    within: int


class Not(msgspec.Struct, frozen=True):
    """What is not to be there."""

    of: Node


class AllOf(msgspec.Struct, frozen=True):
    """All of these; none at all is punctuation, which asks for nothing."""

    of: tuple[Node, ...]


class AnyOf(msgspec.Struct, frozen=True):
    """One of these or several."""

    of: tuple[Node, ...]


Node = Term | Near | Not | AllOf | AnyOf
NOTHING = AllOf(())


class _Token(msgspec.Struct, frozen=True):
    """``kind`` is term, not, and, or, near, open or close; ``node`` what it asks for if it is, or becomes, a term."""

    kind: str
    node: Node = NOTHING
    within: int = NEAR


def read(text: str) -> Node:
    """What a query asks for, given as NFKC with plain quotes; any text has a meaning, if only `NOTHING`."""
    return _Reader(_joined(_balanced(list(_tokens(text))))).alternatives()


def _tokens(plain: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(plain):
        kind = found.lastgroup
        if kind == "star":
            yield _Token("term", _phrase(found["quoted"], prefix=bool(found["star"])))
        elif kind == "word":
            yield _Token("term", _word(found[0]))
        elif kind == "group":
            yield _Token("term", _near_group(found["group"]))
        elif kind == "near":
            yield _Token("near", _word(found[0]), within=_distance(found["within"]))
        elif kind == "minus":
            yield _Token("not")
        elif kind is not None:
            yield _Token(kind, _word(found[0]))


def _balanced(tokens: Sequence[_Token]) -> list[_Token]:
    """The tokens without brackets that have no partner and without those that lie too deep to be meant."""
    kept, opened = [True] * len(tokens), list[int]()
    for at, token in enumerate(tokens):
        if token.kind == "open":
            opened.append(at)
        elif token.kind == "close" and opened:
            partner = opened.pop()
            kept[at] = kept[partner] = len(opened) < MAX_DEPTH
        elif token.kind == "close":
            kept[at] = False
    for at in opened:
        kept[at] = False
    return [token for token, keep in zip(tokens, kept, strict=True) if keep]


def _joined(tokens: Sequence[_Token]) -> list[_Token]:
    """The tokens, each operator that has nothing to join as the word that it is."""
    read: list[_Token] = []
    for token, following in pairwise([*tokens, _Token("close")]):
        before = read[-1].kind if read else "open"
        after = following.kind
        joins = {
            "not": after in ("term", "open", "not"),
            "and": before in ("term", "close") and after in ("term", "open", "not"),
            "or": before in ("term", "close") and after in ("term", "open", "not"),
            "near": before == after == "term",
        }
        read.append(token if joins.get(token.kind, True) else _Token("term", token.node))
    return read


class _Reader:
    """A recursive descent, as deep as the brackets; tokens are used up as they are read."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = [*tokens][::-1]

    def alternatives(self) -> Node:
        """``a OR b``, to the end or to the bracket that closes."""
        found = [self._together()]
        while self._skipped("or"):
            found.append(self._together())
        return found[0] if len(found) == 1 else AnyOf(tuple(found))

    def _together(self) -> Node:
        """``a b``, ``a AND b``."""
        found: list[Node] = []
        while self._kind() not in ("or", "close", ""):
            if not self._skipped("and"):
                found.append(self._single())
        return found[0] if len(found) == 1 else AllOf(tuple(found))

    def _single(self) -> Node:
        """One thing, or what is not that."""
        excluded = False
        while self._skipped("not"):
            excluded = not excluded
        node = self._group() if self._skipped("open") else self._neighbours()
        return Not(node) if excluded else node

    def _group(self) -> Node:
        node = self.alternatives()
        self._skipped("close")
        return node

    def _neighbours(self) -> Node:
        """A term, or terms each near to the one before."""
        left, found = self._tokens.pop().node, list[Node]()
        while self._kind() == "near":
            within = self._tokens.pop().within
            right = self._tokens.pop().node
            found.append(_near([left, right], within))
            left = right
        return AllOf(tuple(found)) if found else left

    def _kind(self) -> str:
        return self._tokens[-1].kind if self._tokens else ""

    def _skipped(self, kind: str) -> bool:
        if self._kind() != kind:
            return False
        self._tokens.pop()
        return True


def _word(text: str) -> Node:
    """What stands between blanks: one word, or with punctuation inside a phrase."""
    bare = folded(_EDGES.sub("", text))
    prefix = text.endswith("*")
    found = _phrase(text, prefix=prefix)
    if prefix or not isinstance(found, Term):
        return found
    return msgspec.structs.replace(found, stem=stem(bare))


def _phrase(text: str, *, prefix: bool) -> Node:
    marked = pattern(text, prefix=prefix)
    return Term(phrase(text, prefix=prefix), marked) if marked else NOTHING


def _near_group(text: str) -> Node:
    """What stands between the brackets of ``NEAR(…)``."""
    end = _DISTANCE.search(text)
    terms = [
        _word(word) if word else _phrase(quoted, prefix=bool(star))
        for quoted, star, word in _GROUPED.findall(text[: end.start()] if end else text)
    ]
    return _near(terms, _distance(end[1] if end else None))


def _near(nodes: Sequence[Node], within: int) -> Node:
    """Terms near to each other, by the words themselves; where something else stands among them, just all of it."""
    asked = [node for node in nodes if node is not NOTHING]
    terms = tuple(msgspec.structs.replace(node, stem="") for node in asked if isinstance(node, Term))
    return Near(terms, within) if len(terms) == len(asked) > 1 else AllOf(tuple(asked))


def _distance(digits: str | None) -> int:
    return NEAR if digits is None else min(int(digits[:10]), _FARTHEST)
