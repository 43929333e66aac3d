"""Metadata and state: JSON objects that merge by leaf.

A document is what its leaves replay to, in the order of their stamps: a value replaces
everything below it, any leaf makes its ancestors objects, a removal is a value of its own.
A write stores only the leaves whose view it changes, and so the replay equals applying the
patches one after the other (tests/unit/test_document.py; the patches are RFC 7396).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .registers import REMOVED, Value, text_of, value_of
from .stamps import BY_HAND, Stamp

Path = tuple[str, ...]


def pointer(path: Path) -> str:
    """The JSON pointer (RFC 6901) of a path; the empty path is the empty text."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def path_of(text: str) -> Path:
    """The path of a JSON pointer."""
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in text.split("/")[1:])


def related(one: str, other: str) -> bool:
    """Say whether one of two pointers stands above the other."""
    return one != other and (one.startswith(other + "/") or other.startswith(one + "/"))


def view(leaves: Iterable[tuple[Stamp, str, bytes]]) -> dict[str, Any]:
    """The document that leaves (stamp, pointer, text) replay to."""
    document: dict[str, Any] = {}
    for _, where, text in sorted(leaves):
        _place(document, where, text)
    return document


def patched(document: dict[str, Any], changed: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """The document after leaves (pointer, text or `REMOVED`) were written to it; the one given is not changed."""
    new = copy.deepcopy(document)
    for where, text in changed:
        _place(new, where, text)
    return new


def _place(document: dict[str, Any], where: str, text: bytes) -> None:
    *above, last = path_of(where)
    node = document
    for key in above:
        below = node.get(key)
        if not isinstance(below, dict):
            below = node[key] = {}
        node = below
    if text == REMOVED:
        node.pop(last, None)
    else:
        node[last] = value_of(text)


def leaves(document: dict[str, Any], above: Path = ()) -> Iterator[tuple[str, bytes]]:
    """The leaves (pointer, text) that a document consists of; an empty object is a leaf."""
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield pointer((*above, key)), text_of(value)


def changes(old: dict[str, Any], new: dict[str, Any], above: Path = ()) -> Iterator[tuple[str, bytes]]:
    """The leaves (pointer, text or `REMOVED`) that turn one document into another."""
    for key in old.keys() - new.keys():
        yield pointer((*above, key)), REMOVED
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            yield from changes(before, value, (*above, key))
        elif isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        elif key not in old or text_of(value) != text_of(before):
            yield pointer((*above, key)), text_of(value)


def beaten(tops: Mapping[str, tuple[Stamp, Value]]) -> dict[str, str]:
    """Leaves whose value is lost to one above or below that did not know of it, nor it of that: path to path.

    Both written by hand; of the two the greater stamp is what the view shows.
    """
    lost: dict[str, str] = {}
    for below, (stamp, value) in tops.items():
        above = below
        while "/" in (above := above.rpartition("/")[0]):
            if above not in tops:
                continue
            other, shown = tops[above]
            by_hand = stamp.rank == other.rank == BY_HAND
            if by_hand and not (_knew(value, above, other, stamp) or _knew(shown, below, stamp, other)):
                first, second = (below, above) if stamp < other else (above, below)
                lost[first] = second
    return lost


def _knew(value: Value, path: str, stamp: Stamp, own: Stamp) -> bool:
    """Say whether the writer of a value knew, at another path, of a stamp; one write knows of itself."""
    if stamp == own:
        return True
    seen = value_of(value.seen) or {}
    return seen.get(path, {}).get(f"{stamp.device}:{stamp.rank}", -1) >= stamp.clock


def merge_patch(target: Any, patch: Any) -> Any:
    """The target after a JSON merge patch (RFC 7396); neither argument is changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two objects merged to any depth, where lists and all else replace and None is a value; neither is changed."""
    both = dict(old)
    for key, value in new.items():
        before = both.get(key)
        both[key] = merged(before, value) if isinstance(value, dict) and isinstance(before, dict) else value
    return both
