"""What people and programs meant, told without looking at how files become writes.

Everything that anybody says is a `Write`: a value of one field, the writes that its author knew, and those that had
arrived where it was made. A field shows a value that no other write replaced knowingly; where several stand, none of
them may be lost, and of two the one made where the other had arrived is shown. Knowledge is a set of numbers, kept as
the bits of an integer; nothing here knows of stamps, registers, plans or revisions of a file but its name.

Whoever holds a version of a file knows what it shows (`Opened`). What a saved file says is what differs from the last
version of the same person: a field set, a message added or deleted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GONE = "\0gone"
"""The value of a key or tag that was taken away; a key that was never set has no write at all."""

SCALARS = ("content", "sender", "parent", "timestamp", "model", "usage")
PLAIN = ("title", "status", "provider", "model", "user_id")
EVERYTHING = -1
"""What somebody knows who knows all writes there are."""

Field = tuple[str, str, str]
"""Session, message (empty: the session itself), and path."""


class Write(NamedTuple):
    number: int
    value: Any
    knew: int
    there: int


class Page(NamedTuple):
    """A file as its bytes say: header (None where there is none) and lines."""

    header: dict[str, Any] | None
    lines: list[dict[str, Any]]

    @property
    def named(self) -> str | None:
        return self.header.get("id") if self.header else None

    @property
    def rev(self) -> str | None:
        return self.header.get("rev") if self.header else None


@dataclass
class Opened:
    """What one person knows who opened one version of a file, and what they saved since."""

    knew: int
    header: dict[str, Any] | None
    lines: dict[str, dict[str, Any]]
    automatic: str | None = None
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    anew: dict[str, str] = field(default_factory=dict)
    stale: bool = False
    at_first: int = 0

    def __post_init__(self) -> None:
        self.at_first = self.knew
        self.seen = {**self.lines, **self.seen}


class Taken(NamedTuple):
    """A saved file that was taken: ``ids`` name its lines, ``before`` is what the store showed.

    ``title`` was taken for its own, if any, since a message that is purged may have made that.
    """

    session: str
    created: bool
    page: Page
    ids: Sequence[str]
    header: Mapping[str, Any]
    before: Mapping[str, tuple[bool, Mapping[str, Any]]]
    after: Mapping[str, tuple[bool, Mapping[str, Any]]]
    title: str | None = None


class Model:
    """Everything that was said, and what each device has heard of it."""

    def __init__(self) -> None:
        self.count = 0
        self.fields: dict[Field, list[Write]] = defaultdict(list)
        self.births: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.sessions: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.known: dict[str, int] = defaultdict(int)
        self.made: dict[str, int] = defaultdict(int)
        self.opened: dict[tuple[str, str, str | None, str | None], Opened] = {}

    # Saying

    def number(self) -> int:
        self.count += 1
        return self.count

    def say(self, device: str, where: Field, value: Any, *, knew: int = EVERYTHING, number: int | None = None) -> int:
        """One write on one device; what is not said otherwise knew all that had arrived there. Returns its bit."""
        number = number or self.number()
        there = self.known[device] & ~(1 << number)
        self.fields[where].append(Write(number, value, there if knew == EVERYTHING else knew, there))
        self.known[device] |= 1 << number
        self.made[device] |= 1 << number
        return 1 << number

    def session_born(self, device: str, session: str, fields: Mapping[str, Any]) -> int:
        bit = 1 << self.number()
        self.sessions[session] = bit
        self.known[device] |= bit
        for path, value in fields.items():
            bit |= self.say(device, (session, "", path), value)
        return bit

    def message_born(self, device: str, session: str, message: str, line: Mapping[str, Any]) -> int:
        """A message with its fields, all of one write; a ``timestamp`` that nobody gave is told by the caller."""
        number = self.number()
        self.births[session][message] |= 1 << number
        for path in SCALARS:
            self.say(device, (session, message, path), line.get(path), knew=0, number=number)
        for key, value in (line.get("metadata") or {}).items():
            self.say(device, (session, message, f"metadata/{key}"), value, knew=0, number=number)
        return 1 << number

    def tell(self, device: str, where: Field, value: Any) -> int:
        """A write by somebody who sees what the device shows; what it shows already is nothing."""
        heads = {write.value for write in self.heads(self.known[device], where)}
        if heads == {value} or (not heads and value == GONE):
            return 0
        return self.say(device, where, value)

    # What a device holds

    def heads(self, known: int, where: Field) -> list[Write]:
        """The writes that arrived and that no other one that arrived replaced knowingly."""
        arrived = [write for write in self.fields.get(where, ()) if known >> write.number & 1]
        return [
            write
            for write in arrived
            if not any(other.knew >> write.number & 1 and other.number != write.number for other in arrived)
        ]

    def shown(self, known: int, where: Field) -> list[Write]:
        """The heads of which one is shown: those that had not arrived where another one was made."""
        heads = self.heads(known, where)
        return [write for write in heads if not any(other.there >> write.number & 1 for other in heads)]

    def _deletions(self, known: int, where: Field) -> tuple[bool | None, int]:
        """Whether a deletion is in force (None: either), and what those who deleted knew together."""
        tops = {write.value is None for write in self.shown(known, where)}
        knew = 0
        for write in self.heads(known, where):
            knew |= write.value or 0
        if tops == {True} or not knew:
            return False, 0
        return (True if tops == {False} else None), knew

    def deletion(self, known: int, session: str) -> int:
        """What those who deleted a session, and were not overruled, knew together."""
        return self._deletions(known, (session, "", "deleted"))[1]

    def _outside(self, known: int, session: str, knew: int) -> bool:
        """Say whether a message lies outside of a deletion."""
        return any(bits & known and not bits & known & knew for bits in self.births[session].values())

    def is_hidden(self, known: int, session: str) -> bool | None:
        deleted, knew = self._deletions(known, (session, "", "deleted"))
        return False if deleted is False or self._outside(known, session, knew) else deleted

    def is_live(self, known: int, session: str, message: str) -> bool | None:
        """Whether a message of a session that is shown is shown; None where either may be."""
        births = self.births[session][message] & known
        either = False
        for path in ("deleted", "cleared"):
            deleted, knew = self._deletions(known, (session, "", path))
            if births & knew and deleted:
                return False
            either |= bool(births & knew) and deleted is None
        deleted, knew = self._deletions(known, (session, message, "deleted"))
        contents = self.heads(known, (session, message, "content"))
        read = {write.value for write in contents if knew >> write.number & 1}
        if deleted is False or any(write.value not in read for write in contents):  # the same text is no other edit
            return None if either else True
        return None if either or deleted is None else False

    def overtaken(self, device: str, before: int) -> list[tuple[str, set[str], bool]]:
        """What was written on a device to messages that others purged without knowing of it.

        Each with its session, the texts of which one was shown, and whether it was shown indeed.
        """
        found = []
        for session, message, path in [where for where in self.fields if where[2] == "content"]:
            purges = self.heads(self.known[device], (session, message, "purged"))
            if not purges or self.heads(before, (session, message, "purged")):
                continue
            knew = purges[0].there
            own = [
                each for each in self.heads(before, (session, message, path)) if self.made[device] >> each.number & 1
            ]
            if any(not knew >> each.number & 1 for each in own):
                live = self.is_live(before, session, message) is True and self.is_hidden(before, session) is False
                found.append((session, {each.value for each in self.shown(before, (session, message, path))}, live))
        return found

    def messages(self, known: int, session: str) -> list[str]:
        return [message for message, bits in self.births[session].items() if bits & known]

    # Files

    def rendered(self, device: str, session: str, page: Page, *, automatic: bool) -> None:
        """The mirror wrote a file: whoever opens it knows what has arrived here."""
        lines = {line["id"]: line for line in page.lines}
        key = (device, session, session, page.rev)
        title = page.header["title"] if page.header and automatic else None
        if key not in self.opened:
            self.opened[key] = Opened(self.known[device], page.header, lines, title)

    def holder(self, device: str, session: str, page: Page) -> Opened | None:
        """What whoever saved these bytes knew; None where the session has no such version."""
        return self.opened.get((device, session, page.named, page.rev))

    def says_nothing_new(self, device: str, session: str, page: Page) -> bool:
        """Say whether a file shows what its person saved last."""
        opened = self.holder(device, session, page)
        if opened is None:
            return False
        page = self.without_purged(device, session, page)
        lines = {id_: line for id_, line in opened.lines.items() if not self.is_purged(device, session, id_)}
        if {*lines} - opened.given != {line["id"] for line in page.lines if "id" in line}:
            return False
        given = {id_: _text(line) for id_, line in opened.lines.items() if id_ in opened.given}
        unnamed = Counter(_text(line) for line in page.lines if "id" not in line)
        same = Counter(text for id_, text in given.items() if id_ in lines) <= unnamed <= Counter(given.values())
        same &= all(_text(line) == _text(lines[line["id"]]) for line in page.lines if "id" in line)
        return same and _head(page.header) == _head(opened.header)

    def without_purged(self, device: str, session: str, page: Page) -> Page:
        """A file of a session without the lines of messages that were purged."""
        opened = self.holder(device, session, page)
        stands_for = opened.anew if opened else {}
        said: list[str] = [line.get("id", "") for line in page.lines]
        ids = [stands_for.get(id_, id_) for id_ in said]
        here = self.births[session]
        of = page.named or session  # of a copy that is saved again the session that it was made from
        gone = [self.is_purged(device, session if id_ in here else of, id_) for id_ in ids]
        return page._replace(lines=[line for line, is_gone in zip(page.lines, gone, strict=True) if not is_gone])

    def may_hold_purged(self, device: str, page: Page) -> bool:
        """Say whether a line without id may be one that got an id whose message was purged since."""
        return any(
            self.is_purged(device, key[1], id_)
            for key, opened in self.opened.items()
            if (key[0], *key[2:]) == (device, page.named, page.rev)
            for id_ in opened.given
        )

    def is_purged(self, device: str, session: str, message: str) -> bool:
        return bool(self.heads(self.known[device], (session, message, "purged")))

    def taken(self, device: str, taken: Taken) -> None:
        """A saved file was taken: everything that it says differently from what its person saved last is said."""
        session, page = taken.session, taken.page
        key = (device, session, page.named, page.rev)
        if taken.created:
            self.session_born(device, session, {})
        if taken.created or (page.header is None and not self._is_of_it(self.opened.get(key), page)):
            self.opened[key] = Opened(self.known[device], None, {})
        if taken.created and (copied := self.holder(device, page.named or "", page)) is not None:
            self.opened[key].automatic = copied.automatic
        opened = self.opened.get(key)
        assert opened is not None, f"a file was taken for {session} that was never written for it: {key}"
        assert not opened.stale, "a file was taken whose history is purged"
        assert len(taken.ids) == len(page.lines), "a line of a purged message was taken, or another one was left out"
        self._check_ids(opened, taken)
        if page.header is not None:
            opened.knew |= self._say_header(device, taken, opened, page.header)
        said = 0
        for line, id_ in zip(page.lines, taken.ids, strict=True):
            said |= self._say_line(device, taken, opened, line, id_)
        for id_ in opened.lines.keys() - {*taken.ids} if page.header else ():
            said |= self._say_missing(device, taken, opened, id_)
        opened.knew |= said
        lines = dict(zip(taken.ids, page.lines, strict=True))
        opened.given |= {id_ for id_, line in lines.items() if line.get("id") != id_}
        opened.anew |= {line["id"]: id_ for id_, line in lines.items() if line.get("id", id_) != id_}
        opened.header, opened.lines = page.header, lines
        opened.seen |= lines

    def _is_of_it(self, opened: Opened | None, page: Page) -> bool:
        """Say whether a file that does not say what it was shows any of what somebody saved."""
        texts = {_text(line) for line in opened.lines.values()} if opened else set()
        return any(_text(line) in texts for line in page.lines)

    def _say_header(self, device: str, taken: Taken, opened: Opened, header: dict[str, Any]) -> int:
        before, said = opened.header or {}, 0
        if taken.title is not None:
            header = {**header, "title": taken.title}
        for path in PLAIN:
            old, new, now = (_plain(path, each.get(path)) for each in (before, header, taken.header))
            if new in (None if taken.created else old, now):
                continue
            if path == "title" and (not new or new == opened.automatic):
                said |= self.tell_late(device, (taken.session, "", path), None, opened.knew)
            else:
                said |= self.say(device, (taken.session, "", path), new, knew=opened.knew)
        for name in ("metadata", "state"):
            for key, value in _changed(before.get(name) or {}, header.get(name) or {}):
                if (taken.header.get(name) or {}).get(key, GONE) != value:
                    said |= self.say(device, (taken.session, "", f"{name}/{key}"), value, knew=opened.knew)
        return said | self._say_tags(device, taken, opened, before.get("tags") or [], header.get("tags") or [])

    def tell_late(self, device: str, where: Field, value: Any, knew: int) -> int:
        shown = {write.value for write in self.shown(self.known[device], where)}
        return 0 if shown == {value} or (value is None and not shown) else self.say(device, where, value, knew=knew)

    def _say_tags(self, device: str, taken: Taken, opened: Opened, old: list[str], new: list[str]) -> int:
        now, said = taken.header["tags"], 0
        new = list(dict.fromkeys(new))
        kept = [tag for tag in old if tag in new]
        moved = new[: len(kept)] != kept
        for tag in new:
            if tag not in now and tag in old:
                continue
            if tag not in now or moved:  # one that is moved is wanted
                said |= self.say(device, (taken.session, "", f"tags/{tag}"), True, knew=opened.knew)
        for tag in old:
            if tag not in new and tag in now:
                said |= self.say(device, (taken.session, "", f"tags/{tag}"), GONE, knew=opened.knew)
        return said

    def _say_line(self, device: str, taken: Taken, opened: Opened, line: dict[str, Any], id_: str) -> int:
        session = taken.session
        if id_ not in taken.before:
            line = {"timestamp": taken.after[id_][1]["timestamp"], **line}
            return self.message_born(device, session, id_, line)
        hidden, now = taken.before[id_]
        before = opened.lines.get(id_) or opened.seen.get(id_)
        said = 0
        for path in SCALARS:
            old, new = (before or {}).get(path), line.get(path)
            if new == old or (path == "timestamp" and new is None) or (new == now.get(path) and not hidden):
                continue
            said |= self.say(device, (session, id_, path), new, knew=opened.knew)
        for key, value in _changed((before or {}).get("metadata") or {}, line.get("metadata") or {}):
            if (now.get("metadata") or {}).get(key, GONE) != value or hidden:
                said |= self.say(device, (session, id_, f"metadata/{key}"), value, knew=opened.knew)
        # A line that was gone in an earlier save is wanted again. Where that save did not delete it, who knows?
        again = id_ not in opened.lines and (self._deleted_by(opened, device, session, id_) or not taken.after[id_][0])
        if hidden and (said or again):
            said |= self.say(device, (session, id_, "deleted"), None, knew=opened.knew)
        return said

    def _deleted_by(self, opened: Opened, device: str, session: str, id_: str) -> bool:
        """Say whether all who deleted a message are known to somebody."""
        return all(opened.knew >> each.number & 1 for each in self.heads(self.known[device], (session, id_, "deleted")))

    def _say_missing(self, device: str, taken: Taken, opened: Opened, id_: str) -> int:
        """A line was taken out: its message is deleted, unless its content changed where its person could not see."""
        if id_ not in taken.before or taken.before[id_][0]:
            return 0
        contents = self.heads(self.known[device], (taken.session, id_, "content"))
        if any(not opened.knew >> write.number & 1 for write in contents):
            return 0
        return self.say(device, (taken.session, id_, "deleted"), opened.knew, knew=opened.knew)

    def _check_ids(self, opened: Opened, taken: Taken) -> None:
        """Which message a line without id is: a new one, or one that such a line was before, and the same if equal."""
        assert len(set(taken.ids)) == len(taken.ids), "two lines became one message"
        named = {opened.anew.get(line["id"], line["id"]) for line in taken.page.lines if "id" in line}
        earlier = _once({id_: _text(opened.lines[id_]) for id_ in opened.given & opened.lines.keys() - named})
        texts = {at: _text(line) for at, line in enumerate(taken.page.lines) if "id" not in line}
        now = _once(texts)
        for line, id_ in zip(taken.page.lines, taken.ids, strict=True):
            if "id" in line and line["id"] != id_:
                was_hidden = line["id"] in taken.before and taken.before[line["id"]][0]
                assert was_hidden or id_ in opened.given, f"the line of {line['id']} became {id_}"
            elif "id" not in line:
                assert id_ not in named, f"a line without id became {id_}, which another line is"
                assert id_ in opened.given or id_ not in taken.before, f"a line without id became {id_}"
                text = _text(line)
                if text in earlier and text in now:
                    assert id_ == earlier[text], f"the line {text} was saved again and became {id_}, {earlier[text]}"
        said = [line.get("id", id_) for line, id_ in zip(taken.page.lines, taken.ids, strict=True)]
        known = [id_ for id_ in said if id_ in taken.before]
        places = {id_: place for place, id_ in enumerate(taken.after)}
        assert [each for each in taken.after if each in taken.before] == [*taken.before], "messages changed places"
        if [*map(places.__getitem__, known)] == sorted(map(places.__getitem__, known)):
            in_order = [places[id_] for id_ in taken.ids]
            assert in_order == sorted(in_order), "new lines do not stand where they were written"


def _plain(path: str, value: Any) -> Any:
    if path == "title":
        return " ".join((value or "").split())
    return value or "active" if path == "status" else value


def _head(header: Mapping[str, Any] | None) -> Any:
    header = header or {}
    plain = [_plain(path, header.get(path)) for path in PLAIN]
    return plain, header.get("tags") or [], header.get("metadata") or {}, header.get("state") or {}


def _text(line: Mapping[str, Any]) -> str:
    return repr(sorted((key, value) for key, value in line.items() if key != "id"))


def _once(texts: Mapping[Any, str]) -> dict[str, Any]:
    """The keys of texts that stand only once, by text."""
    found: dict[str, list[Any]] = defaultdict(list)
    for key, text in texts.items():
        found[text].append(key)
    return {text: keys[0] for text, keys in found.items() if len(keys) == 1}


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key, GONE) != new.get(key, GONE):
            yield key, new.get(key, GONE)
