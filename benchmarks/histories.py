"""Whole histories: stores full of sessions that began one after the other, and the directories of their files."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from files_store import bring_up
from generate import Prose, messages

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror

EACH = 40
_POOL = 50_000
"""So many messages differ: when they come again, more has passed than a segment holds, so none helps another."""
_BATCH = 500
_FIRST_MS = 1_700_000_000_000
_HOUR_MS = 3_600_000


def write_history(database: Path, sessions: int) -> None:
    """Make sessions of forty messages, one an hour."""
    prose = Prose(5)
    texts = messages(prose, min(_POOL, sessions * EACH))
    pool = cycle([NewMessage(role=role, content=text) for role, text in texts])
    with Store(database) as store:
        for start in range(0, sessions, _BATCH):
            with store.transaction():
                for at in range(start, min(start + _BATCH, sessions)):
                    title = prose.text(40).replace("\n", " ")
                    session = store.create(title=title, created_ms=_FIRST_MS + at * _HOUR_MS).id
                    store.extend(session, list(islice(pool, EACH)))
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def write_files(database: Path, folder: Path) -> None:
    """Bring a directory up to a store."""
    with Store(database) as store:
        bring_up(Mirror(store, folder))


def check_equal(near: Path, far: Path) -> None:
    """Make sure that two stores hold as many sessions and messages."""
    with Store(near) as ours, Store(far) as theirs:
        assert ours.count() == theirs.count(), "the second device lacks something"


def size_of(folder: Path) -> int:
    """The bytes of all files below a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
