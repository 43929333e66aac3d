"""The messages of one session: those that a store holds, fetched when they are looked at, and what was done since.

Pure bookkeeping: a save is told what to send (`Changes`) and says what arrived. What was done while
it was under way stays to be sent, and of a save that failed anything may have arrived
(tests/library/test_session_delta.py, tests/library/test_transcript.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from ..document import changes
from ..model import Message
from ..rows import content_column, size_bytes
from .delta import Delta, Snapshot


class Source(Protocol):
    """Where a loaded session's messages come from."""

    def newest(self, session_id: str, limit: int | None) -> tuple[list[Message], int]:
        """The newest messages, oldest first (None: all), and the revision at which they were read."""
        ...

    def stream(self, session_id: str) -> Iterator[Message]:
        """All messages in order, a few at a time."""
        ...

    def page(self, session_id: str, *, skip: int, limit: int | None) -> list[Message]:
        """Messages in order, ``skip`` of them left out (None: to the end)."""
        ...

    def find_message(self, session_id: str, message_id: str) -> Message | None:
        """One message that is shown."""
        ...

    def snapshot(self, session_id: str) -> Snapshot | None:
        """The session's header as it stands now; asked for where others wrote since the last look."""
        ...


class Changes(NamedTuple):
    """What a `Delta` says of a session's messages."""

    cleared_upto: int | None
    removed: list[str]
    edited: dict[str, Mapping[str, Any]]
    added: list[Message]


class Transcript:
    """Messages as a session shows them; ``cached`` is how many the first look at their end fetches."""

    def __init__(self, session_id: str, *, count: int = 0, size: int = 0, revision: int = 0, cached: int) -> None:
        self._id = session_id
        self._cached = cached
        self._revision = revision
        self.source: Source | None = None
        self.size_bytes = size
        self._stored_count = count
        self._stored: list[Message] = []  # the newest of them, or all
        self._complete = count == 0
        self._added: dict[str, Message] = {}
        self._offered: dict[str, list[Message]] = {}  # what saves sent that did not come to an end: it may be stored
        self._saved: list[str] = []  # what was added and saved since the session was loaded
        self._removed: dict[str, None] = {}
        self._edited: dict[str, tuple[Message, Message]] = {}  # as it is stored, as it is here
        self._cleared = False
        self._by_id: dict[str, Message] | None = None

    @property
    def count(self) -> int:
        """How many messages there are, fetched or not."""
        return self._stored_count + len(self._added)

    def all(self) -> list[Message]:
        """Every message, oldest first, in a new list."""
        return self.newest(None)

    def newest(self, count: int | None) -> list[Message]:
        """At least the newest ``count`` messages, as far as there are so many; None for all."""
        self._fetch(None if count is None else count - len(self._added))
        return [*self._stored, *self._added.values()]

    def stream(self) -> Iterator[Message]:
        """Every message, oldest first, a few at a time where that can be."""
        if self.source is None or self._is_own_view:
            yield from self.all()
            return
        waiting = dict(self._added)
        for message in self.source.stream(self._id):
            waiting.pop(message.id, None)  # it was saved meanwhile
            yield message
        yield from waiting.values()

    def has(self, message_id: str) -> bool:
        """Say whether a message has this id."""
        return self.find(message_id) is not None

    def find(self, message_id: str) -> Message | None:
        """The message of this id; a store is asked for it alone."""
        if message_id in self._added:
            return self._added[message_id]
        if message_id in self._edited:
            return self._edited[message_id][1]
        if self._complete or self.source is None:
            if self._by_id is None:
                self._by_id = {message.id: message for message in self._stored}
            return self._by_id.get(message_id)
        return None if message_id in self._removed else self.source.find_message(self._id, message_id)

    def page(self, skip: int, limit: int | None) -> list[Message]:
        """Messages from the ``skip``-th on, at most ``limit`` (None: all of them)."""
        stop = None if limit is None else skip + limit
        if self.source is None or self._is_own_view:
            return self.all()[skip:stop]
        found = self.source.page(self._id, skip=skip, limit=limit)
        left = None if limit is None else limit - len(found)
        if left == 0:
            return found
        if skip and not found:
            self._recount(0)
        first = 0 if found else max(skip - self._stored_count, 0)
        added = list(self._added.values())[first : None if left is None else first + left]
        return found + added

    def add(self, message: Message) -> None:
        """Add a message at the end; its id must be free."""
        self._added[message.id] = message
        self.size_bytes += weight(message)

    def edit(self, old: Message, new: Message) -> None:
        """Put a message in the place of one with its id."""
        if old.id in self._added:
            self._added[old.id] = new
        else:
            self._stored = [new if each.id == old.id else each for each in self._stored]
            self._edited[old.id] = (self._edited.get(old.id, (old, old))[0], new)
            self._by_id = None
        self.size_bytes += weight(new) - weight(old)

    def remove(self, message_ids: Collection[str]) -> None:
        """Remove messages; ids that are not there are passed over."""
        gone = set(message_ids)
        self._fetch(None)
        stored = [each for each in self._stored if each.id in gone]
        unsaved = [self._added.pop(id_) for id_ in gone & self._added.keys()]
        self._removed |= dict.fromkeys(each.id for each in stored)
        self._remove_offered(gone)
        self._stored = [each for each in self._stored if each.id not in gone]
        for each in stored:
            self._edited.pop(each.id, None)
        self._stored_count = len(self._stored)
        self.size_bytes -= sum(map(weight, [*stored, *unsaved]))
        self._by_id = None

    def clear(self) -> None:
        """Remove every message that was seen here; what arrived in the store unseen is not meant."""
        if self._stored_count:
            self._cleared = True
            self._removed |= dict.fromkeys(self._saved)
        self._stored, self._complete, self._by_id = [], True, None
        self._remove_offered(self._offered)
        self._added, self._edited = {}, {}
        self._stored_count = self.size_bytes = 0

    def changes(self) -> Changes:
        """What was done since the session was loaded or saved."""
        return Changes(
            self._revision if self._cleared else None,
            list(self._removed),
            {id_: _changed(old, new) for id_, (old, new) in self._edited.items()} | self._edited_offers(),
            list(self._added.values()),
        )

    def offer(self, messages: Iterable[Message]) -> None:
        """Take note that messages are about to be sent: until `saved` says so, nobody knows whether they are stored.

        One that is edited before that is sent as an edit and as added, one that is removed as removed.
        """
        for message in (each for each in messages if each.id in self._added):
            versions = self._offered.setdefault(message.id, [])
            if message not in versions:
                versions.append(message)

    def saved(self, delta: Delta, *, count: int | None, size: int | None) -> None:
        """Take note that a delta was saved, and how many messages of what size the store holds now."""
        if delta.cleared_upto is not None:
            self._cleared = False
        for message_id in delta.removed:
            self._removed.pop(message_id, None)
        for message_id, fields in delta.edited.items():
            pair = self._edited.get(message_id)
            if pair is not None and _changed(*pair) == fields:
                del self._edited[message_id]
        arrived = [message for message in delta.added if message.id in self._added]
        for sent in delta.added:
            self._offered.pop(sent.id, None)
        for sent in arrived:
            now = self._added.pop(sent.id)
            if now != sent:
                self._edited[sent.id] = sent, now
        self._saved += [message.id for message in arrived]
        self._stored_count += len(arrived)
        self._by_id = None
        shown = [self._as_here(message) for message in arrived]
        if self._complete:
            self._stored += shown
        elif count is None or size is None or count == self._stored_count:
            self._stored += shown if self._stored else []
        else:
            self._stored = []  # others wrote between: it is fetched anew
        if not self._complete and count is not None and size is not None:
            self._stored_count, self.size_bytes = count, size + self._unsaved_size()

    def renew(self, message_ids: Collection[str], new_id: Callable[[], str]) -> dict[str, str]:
        """Give messages that wait to be saved new ids, and return these by the old ones; replies to them follow."""
        new = {id_: new_id() for id_ in self._added if id_ in set(message_ids)}
        for id_ in new:
            self._offered.pop(id_, None)  # the message of this id is somebody else's
        renewed = (
            msgspec.structs.replace(
                each,
                id=new.get(each.id, each.id),
                parent=None if each.parent is None else new.get(each.parent, each.parent),
            )
            if each.id in new or each.parent in new
            else each
            for each in self._added.values()
        )
        self._added = {message.id: message for message in renewed}
        return new

    @property
    def _is_own_view(self) -> bool:
        """Say whether what the store shows is not what is shown here."""
        return bool(self._complete or self._removed or self._edited or self._offered)

    def _as_here(self, stored: Message) -> Message:
        return self._edited[stored.id][1] if stored.id in self._edited else stored

    def _unsaved_size(self) -> int:
        """The bytes that the store does not count yet."""
        edits = sum(weight(new) - weight(old) for old, new in self._edited.values())
        return edits + sum(map(weight, self._added.values()))

    def _remove_offered(self, message_ids: Collection[str]) -> None:
        offered = [id_ for id_ in self._offered if id_ in message_ids]
        self._removed |= dict.fromkeys(offered)
        for id_ in offered:
            del self._offered[id_]

    def _edited_offers(self) -> dict[str, Mapping[str, Any]]:
        """What makes of each message that may be stored, whichever version of it, the one that is here."""
        found: dict[str, Mapping[str, Any]] = {}
        for id_, versions in self._offered.items():
            fields: dict[str, Any] = {}
            leaves: dict[str, bytes] = {}
            for old in versions:
                fields |= _changed(old, self._added[id_])
                leaves |= dict(fields.pop("metadata", []))
            if fields or leaves:
                found[id_] = {**fields, "metadata": list(leaves.items())} if leaves else fields
        return found

    def _fetch(self, wanted: int | None) -> None:
        """Have the newest ``wanted`` of the stored messages at hand; None for all."""
        if self._complete or self.source is None or (wanted is not None and wanted <= len(self._stored)):
            return
        limit = None if wanted is None else max(wanted, self._cached)
        found, revision = self.source.newest(self._id, limit)
        unsaved = self._added.keys()
        self._stored = [
            self._as_here(each) for each in found if each.id not in self._removed and each.id not in unsaved
        ]
        self._by_id = None
        self._complete = limit is None or len(found) < limit
        if self._complete:
            self._stored_count = len(self._stored)
            self.size_bytes = sum(map(weight, self._stored)) + sum(map(weight, self._added.values()))
        elif revision != self._revision:
            self._recount(len(found))
            self._stored_count -= len(found) - len(self._stored)  # what waits here and was stored nevertheless
        self._revision = max(self._revision, revision)

    def _recount(self, least: int) -> None:
        """Learn how many messages the store holds, where others may have written; ``least`` were seen."""
        there = None if self.source is None else self.source.snapshot(self._id)
        if there is not None:
            self._stored_count = max(there.header.message_count, least)
            self.size_bytes = there.header.size_bytes + self._unsaved_size()


def weight(message: Message) -> int:
    """The bytes of a message's content."""
    return size_bytes(content_column(message.content))


def in_order(messages: Sequence[Message], message_id: str) -> int | None:
    """The place of a message among others, from 0."""
    return next((place for place, each in enumerate(messages) if each.id == message_id), None)


def _changed(old: Message, new: Message) -> dict[str, Any]:
    fields = ("content", "sender", "model", "usage")
    changed: dict[str, Any] = {name: getattr(new, name) for name in fields if getattr(new, name) != getattr(old, name)}
    leaves = list(changes(old.metadata, new.metadata))
    return {**changed, "metadata": leaves} if leaves else changed
