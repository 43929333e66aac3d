"""Appending one message, committed: the library against the bare row."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generate import Prose
from measure import Bench, Figure, compared, side_by_side

from steno.storage.model import NewMessage
from steno.storage.packing import attach
from steno.storage.rows import INSERT_MESSAGE, MESSAGE_COLUMNS
from steno.storage.sqlite import dbapi
from steno.storage.store import Store

GOAL = 1.8


def figures(bench: Bench) -> list[Figure]:
    """At each size of the session."""
    return [_figure(bench, size) for size in bench.scale.session_sizes]


def _figure(bench: Bench, size: int) -> Figure:
    scale, prose = bench.scale, Prose(1)
    texts = [prose.text(700) for _ in range(scale.appends)]
    path = _filled(bench.folder / f"session-{size}.db", size, texts)
    bare = Path(shutil.copy(path, path.with_suffix(".bare.db")))
    store = Store(path)
    insert = _bare(bare, store)

    def ours(_: int) -> float:
        began = time.perf_counter()
        for text in texts:
            store.append("s", NewMessage(role="user", content=text))
        return time.perf_counter() - began

    def yardstick(_: int) -> float:
        began = time.perf_counter()
        for text in texts:
            insert(text)
        return time.perf_counter() - began

    timed = side_by_side(ours, yardstick, rounds=scale.rounds)
    assert store.get("s").message_count == size + (scale.rounds + 1) * scale.appends
    store.close()
    return compared(f"append to a session of {size:,}", timed, goal=GOAL, unit="us", per=scale.appends)


def _filled(path: Path, size: int, texts: list[str]) -> Path:
    """A store with one session of this size, in one file."""
    with Store(path) as store:
        store.create(id="s")
        for start in range(0, size, 2000):
            batch = [_message(at, texts) for at in range(start, min(start + 2000, size))]
            store.add_messages("s", batch)
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _message(at: int, texts: list[str]) -> NewMessage:
    return NewMessage(role="assistant" if at % 2 else "user", content=texts[at % len(texts)])


def _bare(path: Path, store: Store) -> Callable[[str], None]:
    """The same row into the same table with its indexes, in a transaction of its own, by sqlite3 alone."""
    connection = dbapi.connect(str(path), isolation_level=None)
    attach(connection, compress=True)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {store.one('PRAGMA synchronous')[0]}")
    assert connection.execute("PRAGMA journal_mode").fetchone() == store.one("PRAGMA journal_mode")
    last: list[Any] = list(
        connection.execute(f"SELECT {MESSAGE_COLUMNS} FROM messages ORDER BY no DESC LIMIT 1").fetchone()  # noqa: S608
    )
    session, place, seq, _, _, hidden, edited, message_id, clock, *rest = last[1:]

    def insert(text: str) -> None:
        nonlocal place, seq, clock, message_id
        before, place, seq, clock = message_id, place + 1, seq + 1, clock + 1
        message_id = f"m-{clock >> 16:011x}{seq:08d}"
        author, _, inserted, role, sender, _, *others = rest
        row = (
            session, place, seq, seq, seq, hidden, edited, message_id, clock, author, before, inserted, role, sender,
            text, *others,
        )  # fmt: skip
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(INSERT_MESSAGE, row)
        connection.execute("COMMIT")

    return insert
