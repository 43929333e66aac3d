"""Local-only sessions go along into a store that takes another one's place: no remote has them.

(tests/unit/test_local_only.py)
"""

from __future__ import annotations

from .apply import Applied, apply, slices
from .change import decode_batch, whole
from .errors import InvalidInput, LocalStorageError
from .local_only import keep_here
from .rows import TOMBSTONE
from .store import Store

_BATCH_BYTES = 4 << 20


def carry_over(store: Store, *, into: Store) -> None:
    """Give a new store the sessions that are local-only in another, and the ids of those that were purged there.

    Raises `LocalStorageError` where something of them is refused, `InvalidInput` where another device purged it.
    """
    rows = store.execute("SELECT no, id FROM sessions WHERE local_only ORDER BY no").fetchall()
    done = Applied()
    for no, session in rows:
        with into.transaction():
            for content in whole(store, [no], max_bytes=_BATCH_BYTES, local_only=True):
                batch = decode_batch(content)
                for part in slices(batch):
                    apply(into, batch, part, done=done)
            if done.refused:
                reason = f"a local-only session cannot be taken along: {done.refused[0]}"
                raise LocalStorageError(reason, hint="nothing was changed; see `steno doctor`")
            here, row = store.row(session), into.row(session)
            assert here is not None
            assert row is not None
            if here.hidden != TOMBSTONE and (row.hidden == TOMBSTONE or row.life != here.life):
                raise InvalidInput(
                    f"session {session} was purged on another device and is local-only here",
                    hint="`steno sync` first, which keeps what was written here",
                )
            keep_here(into, row.no)
