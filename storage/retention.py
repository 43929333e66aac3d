"""What is archived, deleted or purged because of its age or what it is: which sessions, and doing it to them.

Each is done to a few sessions in a transaction, so that others can write meanwhile, and what has changed until
then is left alone; stopped in between, the same call goes on (tests/unit/test_retention.py). Purging what was
deleted long ago is `steno.storage.purge.purge_deleted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .listing import Condition, Filter, listed
from .rows import encode_json
from .store import Store

SLICE = 200
_AMONG = "id IN (SELECT value FROM json_each(?))"


def archive_inactive(store: Store, *, before_ms: int, among: Sequence[Condition] = ()) -> int:
    """Archive the sessions that were last written to at this time or before; return how many. Again it is none.

    ``among`` are further conditions on the table of sessions.
    """
    inactive = Filter(before_ms=before_ms + 1, also=(("status != 'archived'", ()), *among))
    archived = 0
    for ids in _slices(select(store, inactive)):
        with store.transaction():
            for session_id in _still(store, inactive, ids):
                store.update(session_id, fields={"status": "archived"})
                archived += 1
    return archived


def select(store: Store, chosen: Filter) -> list[str]:
    """The ids of the sessions that a filter chooses, the last written to first; an empty one chooses all."""
    return [each.id for each in listed(store, chosen)]


def delete_where(
    store: Store,
    chosen: Filter,
    *,
    among: Sequence[str] | None = None,
    dry_run: bool = False,
    told: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Delete the sessions that a filter chooses, as `Store.delete` does; with ``dry_run`` none. Returns their ids.

    With ``among`` only of these. ``told`` hears now and then how many were deleted.
    """
    if among is None:
        among = select(store, chosen)
    if dry_run:
        return list(among)
    deleted: list[str] = []
    for ids in _slices(among):
        with store.transaction():
            for session_id in _still(store, chosen, ids):
                store.delete(session_id)
                deleted.append(session_id)
        told(len(deleted))
    return deleted


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), SLICE):
        yield ids[start : start + SLICE]


def _still(store: Store, chosen: Filter, ids: Sequence[str]) -> list[str]:
    """Those of some sessions that a filter chooses now."""
    among = (_AMONG, (encode_json(list(ids)).decode(),))
    return [each.id for each in store.sessions(where=[*chosen.conditions(), among])]
