"""Stores for what is measured of the files, and a mirror that brings their directories up."""

from __future__ import annotations

import time
from itertools import cycle, islice
from pathlib import Path

from generate import Prose, messages

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror

_POOL = 4000
_BATCH = 2000
_QUARTER_MS = 900_000


def bring_up(mirror: Mirror) -> None:
    """Take up a directory, and write until nothing is left to be written."""
    mirror.start()
    while (wait_s := mirror.write_pending()) is not None:
        time.sleep(wait_s)


def fill(database: Path, sessions: int, *, each: int) -> None:
    """Make a store with so many sessions of so many messages; one begins a quarter of an hour after the other."""
    prose = Prose(10)
    pool = cycle(_drafts(prose, min(_POOL, sessions * each)))
    titles = [prose.text(45).replace("\n", " ") for _ in range(min(_POOL, sessions))]
    with Store(database) as store:
        for start in range(0, sessions, _BATCH):
            with store.transaction():
                for at in range(start, min(start + _BATCH, sessions)):
                    created_ms = 1_760_000_000_000 + at * _QUARTER_MS
                    session = store.create(title=titles[at % _POOL], created_ms=created_ms).id
                    for first in range(0, each, _BATCH):
                        store.extend(session, list(islice(pool, min(_BATCH, each - first))))
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _drafts(prose: Prose, count: int) -> list[NewMessage]:
    return [_answer(text) if at % 2 else _question(text) for at, (_, text) in enumerate(messages(prose, count))]


def _question(text: str) -> NewMessage:
    return NewMessage(role="user", content=text)


def _answer(text: str) -> NewMessage:
    return NewMessage(
        role="assistant", content=text, model="a-model", usage={"input_tokens": 1200, "output_tokens": 340}
    )
