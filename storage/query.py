"""What a person types into a search, as a question to FTS5.

    word            this word, or another form of it (decorator, decorators)
    "two words"     exactly these, in a row            begin*, "two wor"*    by the beginning of the last word
    one two         both, as with AND                  one OR two            either
    -word           not this, as with NOT              ( … )                 what belongs together
    one NEAR/3 two  at most three words between them; NEAR alone is NEAR/10, NEAR(one two, 3) is the same

NOT binds tightest, then AND, then OR. Operators are written in capitals; one that has nothing to
join is a word. All other punctuation is a gap between words, so no text is an error
(tests/unit/test_query.py tries them on FTS5).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from .errors import InvalidInput
from .excerpt import Sought, sought
from .syntax import AllOf, AnyOf, Near, Node, Not, Term, read

MAX_LENGTH = 10_000
MAX_MARKED = 32

_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "\0": " "})


class Query(msgspec.Struct, frozen=True):
    """What is sought: for FTS5, and for marking it in text.

    ``match`` is empty where nothing can be found; ``hint`` says why then.
    """

    match: str
    sought: Sought | None
    hint: str = ""


def parse(text: str) -> Query:
    """The query that a person typed. Raises `InvalidInput` for blank and for endless text, and for nothing else.

    Nothing is found where no word is sought: by punctuation alone, and by a query that only says what
    is not to be there.
    """
    if not isinstance(text, str):
        raise InvalidInput("search query must be text")
    plain = unicodedata.normalize("NFKC", text.encode(errors="ignore").decode()).translate(_QUOTES)
    if not plain.strip():
        raise InvalidInput("search query cannot be empty")
    if len(plain) > MAX_LENGTH:
        raise InvalidInput(f"search query is too long (at most {MAX_LENGTH:,} characters)")
    tree = read(plain)
    found = _match(tree)
    if found is None:
        return Query("", None, "there is no word in this query")
    match, excluded = found
    if excluded:
        return Query("", None, "say what is to be there, besides what is not")
    return Query(match, _marks(tree))


def _match(node: Node) -> tuple[str, bool] | None:
    """The question in FTS5's words, and whether it finds what is *not* sought, for FTS5 knows no NOT by itself."""
    if isinstance(node, Term):
        return _term(node), False
    if isinstance(node, Near):
        return f"text : NEAR({' '.join(each.phrase for each in node.terms)}, {node.within})", False
    if isinstance(node, Not):
        found = _match(node.of)
        return found and (found[0], not found[1])
    parts = [found for found in map(_match, node.of) if found]
    if not parts:
        return None
    # By De Morgan: what any of them finds is what not all of them miss.
    turned = isinstance(node, AnyOf)
    wanted = [match for match, excludes in parts if excludes == turned]
    unwanted = [match for match, excludes in parts if excludes != turned]
    if not wanted:
        return _group(" OR ", unwanted), not turned
    match = _group(" AND ", wanted)
    return (f"({match} NOT {_group(' OR ', unwanted)})" if unwanted else match), turned


def _group(operator: str, parts: Sequence[str]) -> str:
    different = list(dict.fromkeys(parts))
    return different[0] if len(different) == 1 else f"({operator.join(different)})"


def _term(term: Term) -> str:
    """A word by itself and by its stem, so that the word itself is the better find; a phrase as it stands."""
    exact = f"text : {term.phrase}"
    if not term.stem:
        return exact
    by_stem = f'{{text stems}} : "{term.stem}"'
    return by_stem if term.phrase.lower() == f'"{term.stem}"' else f"({by_stem} OR {exact})"


def _marks(tree: Node) -> Sought | None:
    terms = list(islice(dict.fromkeys(_wanted(tree, wanted=True)), MAX_MARKED))
    return sought([term.pattern for term in terms if not term.stem], [term.stem for term in terms if term.stem])


def _wanted(node: Node, *, wanted: bool) -> Iterator[Term]:
    """The terms that are to be found, not those that are not to be there."""
    if isinstance(node, Not):
        yield from _wanted(node.of, wanted=not wanted)
    elif isinstance(node, AllOf | AnyOf):
        for each in node.of:
            yield from _wanted(each, wanted=wanted)
    elif wanted and isinstance(node, Near):
        yield from node.terms
    elif wanted and isinstance(node, Term):
        yield node
