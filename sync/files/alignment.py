"""Which line of a file saved again is which message: lines without id meet those that got one.

An editor that does not reload saves its new lines again and again without the ids that they
were given. A line without id in the place of one that got an id is that message, edited or
not; so saving twice adds nothing twice (tests/unit/test_files_plan.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import msgspec

from .lines import Header, Line, ParsedFile


class Accepted(msgspec.Struct, frozen=True):
    """The last accepted save of a rev: every line with its id; ``given`` are the ids that we gave.

    ``anew`` names, for a line whose message cannot be shown again, the message that stands for it, also where that was
    purged or is not in this save. ``dropped`` are lines of earlier saves of the rev that this one has not, as they were
    last. Of what was purged since only its id remains, in ``given`` and ``anew``.
    """

    header: Header | None
    lines: Sequence[Line]
    given: frozenset[str]
    anew: dict[str, str] = {}
    dropped: Sequence[Line] = ()


def accepted(mine: ParsedFile, ids: Sequence[str], previous: Accepted | None = None) -> Accepted:
    """What to keep of a save that was applied, with the id of each of its lines."""
    named = [
        line if line.id == id_ else msgspec.structs.replace(line, id=id_)
        for line, id_ in zip(mine.lines, ids, strict=True)
    ]
    given = {id_ for line, id_ in zip(mine.lines, ids, strict=True) if line.id is None}
    anew = {line.id: id_ for line, id_ in zip(mine.lines, ids, strict=True) if line.id not in (None, id_)}
    dropped: list[Line] = []
    if previous is not None:
        shown = set(ids)
        dropped = [line for line in (*previous.lines, *previous.dropped) if line.id not in shown]
        given |= previous.given & {line.id for line in dropped} | _forgotten(previous)
        anew = {**previous.anew, **anew}
    return Accepted(mine.header, named, frozenset(given), anew, dropped)


def may_be_purged(lines: Sequence[Line], previous: Accepted) -> int | None:
    """The place of the first line without id that may be one whose message was purged; None where there is none.

    What such a line said nobody knows any more, so it may be each that is new to the earlier save.
    """
    if not _forgotten(previous):
        return None
    before = (line for line in (*previous.lines, *previous.dropped) if line.id in previous.given)
    left = Counter(map(_text, before))
    for index, line in enumerate(lines):
        if line.id is None:
            text = _text(line)
            if not left[text]:
                return index
            left[text] -= 1
    return None


def _forgotten(previous: Accepted) -> frozenset[str]:
    """The ids that were given to lines which an earlier save holds no more."""
    return previous.given - {line.id for line in (*previous.lines, *previous.dropped)}


def shares_a_line(mine: ParsedFile, previous: Accepted) -> bool:
    """Say whether any line of a file stood in an earlier save; else the file holds something else by now."""
    before = {_text(line) for line in previous.lines}
    return any(_text(line) in before for line in mine.lines)


def known_ids(lines: Sequence[Line], previous: Accepted | None) -> list[str | None]:
    """The id of each line: its own, or that of the line it repeats; None for a new line."""
    ids = [line.id for line in lines]
    if previous is None:
        return ids
    ids = [previous.anew.get(id_, id_) if id_ else None for id_ in ids]
    if not previous.given:
        return ids
    own = {id_ for id_ in ids if id_ is not None}
    given, new = _given_by_anchor(previous, own), _new_by_anchor(lines, {line.id for line in previous.lines})
    in_place = [pair for anchor in given.keys() & new.keys() for pair in _pairs(given[anchor], new[anchor], lines)]
    for id_, index, is_equal in in_place:
        ids[index] = id_ if is_equal else None
    _match_moved(ids, lines, previous, own)
    taken = set(ids)
    for id_, index, _ in in_place:
        if ids[index] is None and id_ not in taken:
            ids[index] = id_
    return ids


def _given_by_anchor(previous: Accepted, own: set[str]) -> dict[str | None, list[Line]]:
    """The lines that got an id, by the nearest line above that both saves name."""
    groups: dict[str | None, list[Line]] = defaultdict(list)
    anchor: str | None = None
    for line in previous.lines:
        if line.id in own:
            anchor = line.id
        elif line.id in previous.given:
            groups[anchor].append(line)
    return groups


def _new_by_anchor(lines: Sequence[Line], before: set[str | None]) -> dict[str | None, list[int]]:
    """The lines without id, by the nearest line above that both saves name."""
    groups: dict[str | None, list[int]] = defaultdict(list)
    anchor: str | None = None
    for index, line in enumerate(lines):
        if line.id is None:
            groups[anchor].append(index)
        elif line.id in before:
            anchor = line.id
    return groups


def _pairs(given: Sequence[Line], new: Sequence[int], lines: Sequence[Line]) -> Iterator[tuple[str | None, int, bool]]:
    """Lines that are equal, and between them lines that stand in the same place."""
    before, after = [_text(line) for line in given], [_text(lines[index]) for index in new]
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind in {"equal", "replace"}:
            for line, index in zip(given[start:end], new[new_start:new_end], strict=False):
                yield line.id, index, kind == "equal"


def _match_moved(ids: list[str | None], lines: Sequence[Line], previous: Accepted, own: set[str]) -> None:
    """Give what is left the id of an equal line elsewhere: it was moved, its neighbours were, or it comes back."""
    taken = own | {id_ for id_ in ids if id_ is not None}
    left: dict[bytes, list[str]] = defaultdict(list)
    for line in reversed((*previous.lines, *previous.dropped)):
        if line.id in previous.given and line.id not in taken:
            left[_text(line)].append(line.id)
    for index, line in enumerate(lines):
        if ids[index] is None and (same := left.get(_text(line))):
            ids[index] = same.pop()


def _text(line: Line) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(line, id=None), order="sorted")
