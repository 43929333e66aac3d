"""What a saved file means: the three-way merge of design §4, from values to actions.

    base (the session at the file's rev)  ─┐
    mine (the saved file)                 ─┼─ plan ─ actions for the store, reports, ids of the lines
    current (the session now)             ─┘

Only what the file changed against its base becomes an action; a file equal to its base gives
none, and the actions applied to the base give what the file says (tests/unit/test_files_plan.py).
Which values an edit replaces is not decided here: the store knows what the base knew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec

from ...storage.document import Path, changes, path_of
from ...storage.errors import InvalidInput
from ...storage.model import Json, parse_time
from ...storage.registers import REMOVED, value_of
from .alignment import Accepted, known_ids
from .lines import Header, Line, ParsedFile, Refused, reads_same

_EDITABLE = ("sender", "content", "timestamp", "parent", "model", "usage", "metadata")
_BIRTH = ("role", "origin")
_PLAIN_FIELDS = ("status", "provider", "model", "user_id")
_HEADER_BIRTH = ("created_at", "forked_from", "source", "local_only")
_TIMES = {"timestamp", "created_at"}
_UNSTATED: tuple[Json, ...] = (None, {})
_DEFAULT_STATUS = "active"


class Base(msgspec.Struct, frozen=True):
    """The session as it was at the file's rev: its header, and the messages that were shown."""

    header: Header
    lines: Sequence[Line]
    automatic_title: bool = False


class Held(msgspec.Struct, frozen=True):
    """A message as the store holds it now. One that is ``cleared`` cannot be shown again."""

    line: Line
    hidden: bool = False
    content_changed_since_base: bool = False
    cleared: bool = False


class Current(msgspec.Struct, frozen=True):
    """The session as the store holds it now: its messages in order, the hidden ones too."""

    header: Header
    messages: Sequence[Held]
    automatic_title: bool = False


class Leaf(msgspec.Struct, frozen=True):
    """One leaf of a document that the file set, or removed (`REMOVED`)."""

    path: Path
    value: Json


class SetHeader(msgspec.Struct, frozen=True):
    """Set a field, or a leaf as in ``("metadata", "project")``; `REMOVED` where its key was taken away."""

    path: Path
    value: Json


class SetTags(msgspec.Struct, frozen=True):
    """Add and remove tags; ``order`` is the whole list as it shall be, where the file changed its order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    order: tuple[str, ...] | None = None


class EditMessage(msgspec.Struct, frozen=True):
    """Set these fields whole; of ``metadata``, if it is among them, the leaves are given as well."""

    id: str
    fields: dict[str, Json]
    metadata: tuple[Leaf, ...] = ()


class AddMessage(msgspec.Struct, frozen=True):
    """Add a message behind another; ``after_id`` None is before the first. ``line`` counts from 0 in the file."""

    line: int
    id: str
    after_id: str | None
    insertion: bool
    message: Line


class DeleteMessage(msgspec.Struct, frozen=True):
    """Delete what the base knew of a message."""

    id: str


class Restore(msgspec.Struct, frozen=True):
    """Show a deleted message again."""

    id: str


Action = SetHeader | SetTags | EditMessage | AddMessage | DeleteMessage | Restore

Kind = Literal["birth-restored", "line-came-back", "order-restored", "unknown-id-added", "deleted-line-restored"]


class Report(msgspec.Struct, frozen=True):
    """Something that the person did not ask for: what, at which line of the file, about which message or field."""

    kind: Kind
    number: int | None = None
    id: str | None = None
    field: str | None = None


class Plan(msgspec.Struct, frozen=True):
    """What to do, in this order. ``ids`` names each line of the file; keep it as `alignment.accepted`.

    ``rewrite`` says that the file does not show (its rev apart) what the store will hold.
    """

    actions: tuple[Action, ...]
    reports: tuple[Report, ...]
    rewrite: bool
    ids: tuple[str, ...]


def plan(
    mine: ParsedFile,
    *,
    current: Current,
    base: Base | None,
    previous: Accepted | None = None,
    new_id: Callable[[], str],
) -> Plan:
    """Decide what a saved file means; raise `Refused` for a new or edited time that is none.

    ``base`` None: the rev is of another store or too old; then nothing is deleted. ``previous``: the last
    accepted save of the same rev, if there is one. For a new session ``current`` is empty, its header without id.
    """
    draft = _Draft(mine, current, base, previous)
    if mine.header is not None:
        draft.compare_header(mine.header)
    draft.compare_lines(new_id)
    draft.find_missing()
    return draft.finished()


class _Draft:
    """A plan in the making."""

    def __init__(self, mine: ParsedFile, current: Current, base: Base | None, previous: Accepted | None) -> None:
        self.mine, self.current, self.base, self.previous = mine, current, base, previous
        self.actions: list[Action] = []
        self.reports: list[Report] = []
        self.rewrite = False
        self.ids: list[str] = []
        self.held = {_id(held.line): held for held in current.messages}
        known = previous.lines if previous else base.lines if base else None
        self.known = None if known is None else {_id(line): line for line in known}
        older = (*(base.lines if base else ()), *previous.dropped) if previous else ()
        self.older = {_id(line): line for line in older}

    def finished(self) -> Plan:
        return Plan(tuple(self.actions), tuple(self.reports), self.rewrite, tuple(self.ids))

    # The header

    def compare_header(self, mine: Header) -> None:
        reference = self.previous.header if self.previous else None
        if reference is None and self.base:
            reference = self.base.header
        self._compare_title(mine, reference)
        for field in _PLAIN_FIELDS:
            self._compare_field(field, mine, reference)
        self._compare_tags(mine.tags, reference)
        for field in ("metadata", "state"):
            self._compare_document(field, mine, reference)
        self._compare_births(mine, reference)

    def _compare_title(self, mine: Header, reference: Header | None) -> None:
        title, now = _one_line(mine.title), _one_line(self.current.header.title)
        automatic = self.base is not None and self.base.automatic_title
        if title == now:
            return
        if reference is None:
            edited = bool(title)
        else:
            edited = title != _one_line(reference.title) and not (not title and self.current.automatic_title)
        if edited and (not title or (automatic and self.base and title == _one_line(self.base.header.title))):
            self.actions.append(SetHeader(("title",), REMOVED))
            self.rewrite = True
        elif edited:
            self.actions.append(SetHeader(("title",), title))
        else:
            self.rewrite = True

    def _compare_field(self, field: str, mine: Header, reference: Header | None) -> None:
        value, now = _field(mine, field), _field(self.current.header, field)
        if value == now:
            return
        stated = getattr(mine, field) is not None
        edited = stated if reference is None else value != _field(reference, field)
        if edited:
            removed = field not in self.mine.present or (field == "status" and not stated)
            self.actions.append(SetHeader((field,), REMOVED if removed else value))
        else:
            self.rewrite = True

    def _compare_tags(self, tags: Sequence[str], reference: Header | None) -> None:
        now = self.current.header.tags
        if tags == now:
            return
        before = now if reference is None else reference.tags
        added = tuple(tag for tag in tags if tag not in before and tag not in now)
        removed = () if reference is None else tuple(tag for tag in before if tag not in tags and tag in now)
        kept = [tag for tag in before if tag in tags]
        order = None if reference is None or tags[: len(kept)] == kept else _ordered(tags, now, added, removed)
        if added or removed or order:
            self.actions.append(SetTags(added, removed, order))
        moved_on = reference is None or now != before
        self.rewrite = self.rewrite or moved_on or not (added or removed or order)

    def _compare_document(self, field: str, mine: Header, reference: Header | None) -> None:
        value, now = getattr(mine, field), getattr(self.current.header, field)
        if _same(value, now):
            return
        if reference is None:
            edits = [leaf for leaf in _leaves(now, value) if _stated(leaf)]
        else:
            edits = [leaf for leaf in _leaves(getattr(reference, field), value) if not _holds(now, leaf)]
        self.actions += [SetHeader((field, *leaf.path), leaf.value) for leaf in edits]
        moved_on = reference is None or not _same(now, getattr(reference, field))
        self.rewrite = self.rewrite or moved_on or not edits

    def _compare_births(self, mine: Header, reference: Header | None) -> None:
        if self.current.header.id is None:
            return
        for field in _HEADER_BIRTH:
            value, now = getattr(mine, field), getattr(self.current.header, field)
            if not _same_field(field, value, now) and (reference is not None or value is not None):
                self._report("birth-restored", number=None, field=field)

    # The lines

    def compare_lines(self, new_id: Callable[[], str]) -> None:
        lines = self.mine.lines
        ids = known_ids(lines, self.previous)
        last_known = max((index for index, id_ in enumerate(ids) if id_ in self.held), default=-1)
        for index, (line, id_) in enumerate(zip(lines, ids, strict=True)):
            held = None if id_ is None else self.held.get(id_)
            if held is None:
                self.ids.append(self._add(index, line, id_ or new_id(), insertion=index < last_known))
            else:
                self.ids.append(self._compare_line(index, line, held, new_id))
            self.rewrite = self.rewrite or line.id != self.ids[-1]
        self._compare_order()

    def _add(self, index: int, line: Line, id_: str, *, insertion: bool) -> str:
        self._check_time(index, line)
        above = self.ids[-1] if self.ids else None
        message = msgspec.structs.replace(line, id=id_)
        self.actions.append(AddMessage(index, id_, above, insertion, message))
        if line.id is not None and self.current.header.id is not None:
            self._report("unknown-id-added", number=self.mine.numbers[index], id_=id_)
        return id_

    def _add_anew(self, index: int, line: Line, held: Held, id_: str) -> str:
        """Add an edited line whose message cannot be shown again as a new message behind it."""
        self._check_time(index, line)
        message = msgspec.structs.replace(line, id=id_)
        self.actions.append(AddMessage(index, id_, held.line.id, True, message))
        self._report("deleted-line-restored", number=self.mine.numbers[index], id_=id_)
        return id_

    def _compare_line(self, index: int, line: Line, held: Held, new_id: Callable[[], str]) -> str:
        id_, number = _id(held.line), self.mine.numbers[index]
        if not held.hidden and _equal(line, held.line):
            return id_
        reference = self._reference(id_)
        edits = self._edits(line, held, reference)
        restored = held.hidden and bool(edits or (self.known is not None and not self._knew(id_)))
        if restored and held.cleared:
            return self._add_anew(index, line, held, new_id())
        if restored:
            self.actions.append(Restore(id_))
            self._report("deleted-line-restored", number=number, id_=id_)
        elif held.hidden:
            self.rewrite = True
        if edits:
            if "timestamp" in edits:
                self._check_time(index, line)
            before = (reference or held.line).metadata
            leaves = tuple(_leaves(before, line.metadata)) if "metadata" in edits else ()
            self.actions.append(EditMessage(id_, edits, leaves))
        self._report_births(line, held.line, reference, number)
        shown = {field: edits.get(field, getattr(held.line, field)) for field in _EDITABLE}
        self.rewrite = self.rewrite or not all(_same_field(f, getattr(line, f), shown[f]) for f in _EDITABLE)
        return id_

    def _edits(self, line: Line, held: Held, reference: Line | None) -> dict[str, Json]:
        """The fields that the file set. What the store holds already is no edit, unless it is hidden."""
        edits: dict[str, Json] = {}
        for field in _EDITABLE:
            value, now = getattr(line, field), getattr(held.line, field)
            if field == "timestamp" and value is None:
                continue
            if reference is None:
                changed = value not in _UNSTATED and not _same_field(field, value, now)
            else:
                changed = not _same_field(field, value, getattr(reference, field))
            if changed and (held.hidden or not _same_field(field, value, now)):
                edits[field] = value
        return edits

    def _report_births(self, line: Line, now: Line, reference: Line | None, number: int) -> None:
        for field in (*_BIRTH, "timestamp"):
            value, restored = getattr(line, field), getattr(now, field)
            stated = reference is not None and getattr(reference, field) is not None
            removed = value is None and restored is not None and stated
            if removed or (field in _BIRTH and value is not None and not _same(value, restored)):
                self._report("birth-restored", number=number, id_=_id(now), field=field)

    def _compare_order(self) -> None:
        order = {_id(held.line): place for place, held in enumerate(self.current.messages)}
        places = [order[id_] for id_ in self.ids if id_ in order]
        for above, below in pairwise(places):
            if below < above:
                self._report("order-restored", number=None, id_=_id(self.current.messages[below].line))
                return

    def find_missing(self) -> None:
        """Delete the lines that the file dropped; what it could not know comes back."""
        shown = set(self.ids)
        for held in self.current.messages:
            id_ = _id(held.line)
            if id_ in shown or held.hidden:
                continue
            if self.base is None or not self._knew(id_):
                self.rewrite = True
            elif self._changed_since(id_, held):
                self._report("line-came-back", number=None, id_=id_)
            else:
                self.actions.append(DeleteMessage(id_))

    def _changed_since(self, id_: str, held: Held) -> bool:
        if self.previous and self.known:
            return not _same(held.line.content, self.known[id_].content)
        return held.content_changed_since_base

    def _knew(self, id_: str) -> bool:
        """Say whether the person saw this message in the version that was edited."""
        return self.known is not None and id_ in self.known

    def _reference(self, id_: str) -> Line | None:
        """The line that an edit is measured against: as last accepted, by an earlier save too, else as in the base."""
        return (self.known or {}).get(id_) or self.older.get(id_)

    def _check_time(self, index: int, line: Line) -> None:
        try:
            if line.timestamp is not None:
                parse_time(line.timestamp)
        except InvalidInput as exc:
            raise Refused(self.mine.numbers[index], str(exc)) from exc

    def _report(self, kind: Kind, *, number: int | None, id_: str | None = None, field: str | None = None) -> None:
        self.reports.append(Report(kind, number, id_, field))
        self.rewrite = True


def _id(line: Line) -> str:
    if line.id is None:
        raise TypeError("a message of the store has an id")
    return line.id


def _field(header: Header, field: str) -> Json:
    value = getattr(header, field)
    return _DEFAULT_STATUS if field == "status" and value is None else value


def _ordered(tags: Sequence[str], now: Sequence[str], added: Sequence[str], removed: Sequence[str]) -> tuple[str, ...]:
    """The tags in the order of the file, without those removed meanwhile; what arrived meanwhile stands behind."""
    wanted = [tag for tag in tags if tag in now or tag in added]
    return (*wanted, *(tag for tag in now if tag not in tags and tag not in removed))


def _one_line(title: str) -> str:
    return " ".join(title.split())


def _equal(line: Line, other: Line) -> bool:
    """Say whether two lines read the same, the id apart."""
    return reads_same(line if line.id == other.id else msgspec.structs.replace(line, id=other.id), other)


def _same(value: Json, other: Json) -> bool:
    """Say whether two values are the same JSON: key order does not matter, 1 and true and 1.0 differ."""
    if isinstance(value, str) or value is None:
        return value == other
    return value == other and _sorted(value) == _sorted(other)


def _sorted(value: Json) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _same_field(field: str, value: Json, other: Json) -> bool:
    if _same(value, other):
        return True
    if field not in _TIMES:
        return False
    try:
        return parse_time(value) == parse_time(other)
    except InvalidInput:
        return False


def _leaves(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Leaf]:
    """The leaves that turn one document into another, in the order of their paths."""
    for where, text in sorted(changes(old, new)):
        yield Leaf(path_of(where), value_of(text) if text != REMOVED else REMOVED)


def _stated(leaf: Leaf) -> bool:
    return leaf.value not in (REMOVED, {})


def _holds(document: Mapping[str, Any], leaf: Leaf) -> bool:
    """Say whether a document already is at this leaf as it should be."""
    node: Json = document
    for key in leaf.path:
        if not isinstance(node, dict) or key not in node:
            return leaf.value == REMOVED
        node = node[key]
    return leaf.value != REMOVED and _same(node, leaf.value)
