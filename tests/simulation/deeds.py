"""What people did on several devices, kept beside the stores: what was written, what that hid, what it replaced.

So whoever looks at a store later knows what it must hold: `lost`, `swallowed` and `forgotten` say what it lacks, all
of them empty where nothing went wrong. (tests/simulation/vault_check.py, tests/e2e/soak.py)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from typing import NamedTuple

from steno.storage.registers import Register
from steno.storage.rows import HIDDEN_FOR_EVER, TOMBSTONE
from steno.storage.stamps import BY_HAND
from steno.storage.state import find_message, load
from steno.storage.store import Store

MARK = "plainword"
"""Stands in all that is written; nobody else may see it."""

Place = tuple[str, str]
"""A session and a message of it."""
Field = tuple[str, str | None, str]
"""A session, a message of it or None, and the path of a register."""
Write = Callable[[Store, int], object]
"""Writes to a store; the number makes what it writes like nothing else."""


class Look(NamedTuple):
    """What somebody sees of a store: the messages that are here, those that are shown, and the edits that stand."""

    here: set[Place]
    shown: set[Place]
    standing: set[str]


class Act:
    """One write of a person: the messages that it wrote, those that it hid or purged, and what they said."""

    def __init__(self, written: set[Place], gone: set[Place], purged: set[Place]) -> None:
        self.written, self.gone, self.purged = written, gone, purged


class Deeds:
    """What was done so far, by the number of the act."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.acts: dict[int, Act] = {}
        self.authors: dict[Place, str] = {}
        self.edits: dict[str, tuple[Field, int]] = {}
        self.replaced_by: dict[str, set[int]] = {}

    def act(self, store: Store, write: Write, *, edits: Field | None = None) -> int:
        """One write, and what it replaced and hid; its number. ``edits``: the field that takes the text of it."""
        action, before = next(self.numbers), self.look(store)
        write(store, action)
        self.done(action, store, before=before, edits=edits)
        return action

    def look(self, store: Store) -> Look:
        """What a store shows just now."""
        return Look(here(store), shown(store), self.standing(store))

    def done(
        self, action: int, store: Store, *, before: Look, knew: Look | None = None, edits: Field | None = None
    ) -> None:
        """Keep what an act did to a store. Of what its writer never ``knew`` it was to hide and replace nothing."""
        now, knew = self.look(store), knew or before
        purged = before.here - now.here
        gone = (before.shown - now.shown) & knew.shown
        self.acts[action] = Act(now.here - before.here, gone | purged, purged)
        self.authors |= dict.fromkeys(now.here - before.here, store.device)
        for text in (before.standing & knew.standing) - now.standing:
            self.replaced_by[text].add(action)
        if edits is not None:
            self._edited(edits, action)

    def saved(self, action: int, *, edits: Field | None = None, hides: Collection[Place] = ()) -> None:
        """A file was saved that the store takes up later: of a field it may replace whatever was written before."""
        self.acts[action] = Act(set(), set(hides), set())
        for text in [text for text, (field, _) in self.edits.items() if field == edits]:
            self.replaced_by[text].add(action)
        if edits is not None:
            self._edited(edits, action)

    def _edited(self, field: Field, action: int) -> None:
        self.edits[edit_text(action)] = (field, action)
        self.replaced_by[edit_text(action)] = set()

    def standing(self, store: Store) -> set[str]:
        """The edits that stand, shown or in conflict."""
        fields = {field for field, _ in self.edits.values()}
        found = {field: open_texts(store, field) for field in fields}
        return {text for text, (field, _) in self.edits.items() if text in found[field]}

    @property
    def gone(self) -> set[Place]:
        """The messages that somebody hid or purged."""
        return set[Place]().union(*(each.gone for each in self.acts.values()))

    # What a store lacks

    def lost(self, store: Store, known: Collection[int]) -> set[Place]:
        """The messages of ``known`` acts that nobody purged and that are not here."""
        purged = set[Place]().union(*(each.purged for each in self.acts.values()))
        return set[Place]().union(*(self.acts[each].written for each in known)) - purged - here(store)

    def swallowed(self, store: Store) -> set[Place]:
        """The messages that are hidden though nobody hid them who had seen them."""
        return here(store) - shown(store) - self.gone

    def forgotten(self, store: Store, known: Collection[int]) -> set[str]:
        """The edits of ``known`` acts that stand no more, though no such act replaced them and nothing was purged."""
        there, standing = here(store), self.standing(store)
        found = set[str]()
        for text, ((session, message, _), action) in self.edits.items():
            row = store.row(session)
            is_purged = row is None or bool(row.purged) or (message is not None and (session, message) not in there)
            is_replaced = not self.replaced_by[text].isdisjoint(known)
            if action in known and not is_purged and not is_replaced and text not in standing:
                found.add(text)
        return found


def edit_text(action: int) -> str:
    """What a field holds that was edited, by the number of the act."""
    return f"<{action}> {MARK} edited"


def here(store: Store) -> set[Place]:
    """Every message that is here, not purged, and of a session that is sent; hidden or not."""
    sql = (
        "SELECT s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session WHERE m.hidden < ? AND NOT s.local_only"
    )
    return set(store.execute(sql, (HIDDEN_FOR_EVER,)).fetchall())


def shown(store: Store) -> set[Place]:
    """Those of them that are shown."""
    sql = (
        "SELECT s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session "
        "WHERE m.hidden = 0 AND s.hidden = 0 AND NOT s.local_only"
    )
    return set(store.execute(sql).fetchall())


def open_texts(store: Store, field: Field) -> set[str]:
    """What people wrote into a field that stands, shown or in conflict; nothing where it was purged."""
    session, message, path = field
    row = store.row(session)
    if row is None or row.hidden == TOMBSTONE:
        return set()
    found = None if message is None else find_message(store, row.no, message)
    if message is not None and found is None:
        return set()
    register: Register = load(store, row.no, found, path)
    return {value.text.decode().strip('"') for stamp, value in register.open.items() if stamp.rank == BY_HAND}
