"""What somebody changed of a session by saving its file: told from the saves that were accepted.

Others may have written to the session meanwhile, and the file may have been written anew since:
a save says what the person meant all the same (tests/unit/test_cli_files.py).
"""

from __future__ import annotations

import msgspec

from ...storage.store import Store
from .absorb import newest_save, saves_since
from .alignment import Accepted
from .lines import Header, Line

__all__ = ["Handwork", "handwork", "newest_save"]

_HEADER = ("title", "status", "provider", "model", "user_id", "tags", "metadata", "state")
_LINE = ("sender", "content", "timestamp", "parent", "model", "usage", "metadata")


class Handwork(msgspec.Struct, frozen=True):
    """The ids of messages that were edited, added and taken away, and the fields of the header that were set.

    ``returned`` were taken away and came back, since they had changed meanwhile; ``old_texts`` counts the messages
    whose earlier text the history keeps; ``unknown`` says that something was saved over nobody knows what.
    """

    edited: list[str] = []
    added: list[str] = []
    removed: list[str] = []
    returned: list[str] = []
    fields: list[str] = []
    old_texts: int = 0
    unknown: bool = False

    @property
    def nothing(self) -> bool:
        """Say whether nothing was changed."""
        return self == Handwork()


def handwork(store: Store, session: str, *, since: int) -> Handwork:
    """What was changed by hand since a `newest_save`; raises `SessionNotFound`."""
    store.execute("BEGIN")
    try:
        row = store.live(session)
        saves = saves_since(store, row, since)
        shown = {each.id for each in store.message_rows(row.no)}
    finally:
        store.execute("COMMIT")
    edited, added, removed, fields, texts = set[str](), set[str](), set[str](), set[str](), set[str]()
    for base, save in saves:
        if base is None:
            continue
        before = {line.id: line for line in base.lines if line.id}
        after = {line.id: line for line in save.lines if line.id}
        added |= after.keys() - before.keys()
        removed |= before.keys() - after.keys()
        for id_ in before.keys() & after.keys():
            changed = _changed(before[id_], after[id_])
            edited |= {id_} if changed else set()
            texts |= {id_} if "content" in changed else set()
        fields |= _set(base.header, save)
    gone = removed - shown
    return Handwork(
        edited=sorted(edited - added - removed),
        added=sorted(added - removed),
        removed=sorted(gone - added),
        returned=sorted(removed & shown),
        fields=[name for name in _HEADER if name in fields],
        old_texts=len((texts | gone) - added),
        unknown=any(base is None for base, _ in saves),
    )


def _changed(before: Line, after: Line) -> set[str]:
    found = {name for name in _LINE if getattr(before, name) != getattr(after, name)}
    return found - ({"timestamp"} if after.timestamp is None else set())


def _set(before: Header, save: Accepted) -> set[str]:
    after = save.header
    return set() if after is None else {name for name in _HEADER if getattr(before, name) != getattr(after, name)}
