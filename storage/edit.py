"""One change of registers in one session: every write but a birth goes through here.

    with database.transaction():
        edit = Edit(database, session)
        edit.set("title", text_of("New title"))
        edit.finish()

Each row that is touched takes one number of the feed and one stamp. ``base`` says what the
writer knew, for someone who looked at an older state (a file that was open in an editor).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from .database import Database
from .document import changes, leaves, related
from .registers import REMOVED, Known, Value, check_path, text_of, value_of, write
from .rows import MessageRow, SessionRow, check_document, check_size, decode_json
from .stamps import BY_HAND, REBUILT, Stamp
from .state import (
    document,
    family,
    flagged,
    load,
    materialise_metadata,
    recount,
    refresh_message,
    refresh_session,
    retitle,
    save,
    seen_around,
    touch,
)

Base = Callable[[MessageRow | None, str], Known]
"""What a writer knew of one register of a message (None: of the session)."""

Written = dict[str, list[Stamp]]
"""The stamps that a writer gave, by message id (empty: the session) and path, joined by a line break."""


class Edit:
    """Writes of one author at one moment; `finish` brings the caches up to them."""

    def __init__(
        self,
        database: Database,
        session: SessionRow,
        *,
        rank: int = BY_HAND,
        base: Base | None = None,
        earlier: Written | None = None,
    ) -> None:
        """``earlier`` are writes by the same author that ``base`` does not know of: they are replaced as well."""
        self._database = database
        self.session = session
        self._rank = rank
        self._base = base
        self.stamps: Written = {key: list(stamps) for key, stamps in (earlier or {}).items()}
        self._marks: dict[int, tuple[int, Stamp]] = {}
        self._messages: dict[int, tuple[MessageRow, set[str]]] = {}
        self._paths: set[str] = set()

    @property
    def written(self) -> bool:
        """Say whether anything was written."""
        return bool(self._marks)

    def set(self, path: str, text: bytes, *, message: MessageRow | None = None, seen: bytes = b"") -> None:
        """Write one register, unless its view would stay as it is."""
        check_path(path)
        check_size(text)
        row = None if message is None else self._current(message)
        old = load(self._database, self.session.no, row, path)
        if old.shown == text and len(old.open) == 1 and "/" not in path:  # what a leaf shows depends on others
            return
        base = None if self._base is None else self._base(message, path)
        seq, stamp = self._mark(message)
        stamps = self.stamps.setdefault(f"{message.id if message else ''}\n{path}", [])
        new = write(old, stamp, Value(text, seen), base=base, own=stamps)
        stamps.append(stamp)
        save(self._database, self.session.no, row, path, old, new, seq=seq, local=True)
        if message is None:
            self._paths.add(path)
        else:
            self._messages.setdefault(message.no, (message, set()))[1].add(path)

    def set_leaves(self, name: str, changed: list[tuple[str, bytes]], *, message: MessageRow | None = None) -> None:
        """Write leaves (pointer, text) of a document."""
        if not changed:
            return
        if message is not None:
            materialise_metadata(self._database, message)
            self._messages.setdefault(message.no, (message, set()))
        registers = family(self._database, self.session.no, message.no if message else 0, name)
        known = {
            path: register.known if self._base is None else self._base(message, path)
            for path, register in registers.items()
        }
        for where, text in changed:
            path = name + where
            self.set(path, text, message=message, seen=seen_around(known, path))

    def set_document(
        self, name: str, new: dict[str, Any], *, message: MessageRow | None = None, named: Iterable[str] = ()
    ) -> None:
        """Turn a whole document into another, by writing the leaves that differ.

        A leaf (pointer) that is ``named`` and in conflict is written also where it shows what it should. Raises
        `InvalidInput` for one that grows too large to travel.
        """
        if message is not None:
            old = decode_json(message.metadata) if message.metadata else {}
        else:
            old = document(family(self._database, self.session.no, 0, name), name)
        wanted = dict(changes(old, new))
        if wanted:
            check_document(new, name, before=old)
        shown = dict(leaves(new))
        open_conflicts = flagged(self._database, self.session.no, message.no if message else 0, name)
        for where in named:
            path = name + where
            if where in shown and any(path == other or related(path, other) for other in open_conflicts):
                wanted[where] = shown[where]
        self.set_leaves(name, list(wanted.items()), message=message)

    def set_tags(self, tags: list[str]) -> None:
        """Turn the tags into these, in this order."""
        registers = family(self._database, self.session.no, 0, "tags")
        shown = {path.removeprefix("tags/"): register.shown for path, register in registers.items()}
        places = {tag: int(value_of(text)) for tag, text in shown.items() if text != REMOVED}
        for tag in sorted(places.keys() - set(tags)):
            self.set(f"tags/{tag}", REMOVED)
        last = 0, ""
        for tag in tags:
            place = places.get(tag, 0)
            # Two devices may have put two into one place: these stand by name.
            if tag not in places or (place, tag) <= last:
                place = max([last[0], *places.values()]) + 1 if tag not in places else last[0] + 1
                self.set(f"tags/{tag}", text_of(place))
                places[tag] = place
            last = place, tag

    def finish(self, *, touched_ms: int | None = None) -> None:
        """Bring the caches of everything written up to date; without a write it does nothing.

        ``touched_ms`` says when the session was written to, None now.
        """
        if not self.written:
            return
        database, no = self._database, self.session.no
        recount_needed = False
        for row, paths in self._messages.values():
            recount_needed |= refresh_message(database, row, paths) or "timestamp" in paths
        touch(database, no, database.now_ms() if touched_ms is None else touched_ms)
        if recount_needed:
            recount(database, no)
        if self._messages:
            retitle(database, no)
        refresh_session(database, no, self._paths)

    def _current(self, message: MessageRow) -> MessageRow:
        """The row as it was read, but with its registers looked up once this edit has written one."""
        if message.edited or message.no not in self._messages:
            return message
        return msgspec.structs.replace(message, edited=1)

    def _mark(self, message: MessageRow | None) -> tuple[int, Stamp]:
        key = message.no if message else 0
        if key not in self._marks:
            seq, clock = self._database.advance()
            self._database.sign(clock)
            if self._rank == REBUILT:
                clock = self._database.advance_rebuilt()
            self._marks[key] = seq, Stamp(self._rank, clock, self._database.device)
        return self._marks[key]
