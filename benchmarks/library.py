"""The library as programs use it: appending, loading, forking, and reading what does not fit into memory.

Redis and PostgreSQL, and the servers that they need, are in library_servers.py.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import library_servers
from generate import Prose, messages
from measure import Bench, Figure, LeftOut, compared, percentile, seconds_of, side_by_side

from steno import SessionManager, SQLiteSessionStore
from steno.storage.model import NewMessage
from steno.storage.packing import attach
from steno.storage.sqlite import dbapi
from steno.storage.store import Store

GOAL_APPEND, GOAL_LOAD, GOAL_FORK_MS, GOAL_READ_MB = 0.8, 3.0, 50.0, 60.0
READER = Path(__file__).with_name("library_reader.py")
MESSAGE_BYTES = 4096
COLUMNS = "id, role, sender, content, time_ms, time_text, parent, model, usage, metadata, origin"


def figures(bench: Bench) -> list[Figure | LeftOut]:
    """Everything that is promised of the library."""
    return [append(bench), load(bench), forked(bench), *library_servers.figures(bench), reading(bench)]


def append(bench: Bench) -> Figure | LeftOut:
    """One message, saved so that it survives power loss, against another library's session as it comes."""
    what = "library append, durability full"
    try:
        agents = importlib.import_module("agents")
    except ImportError:
        return LeftOut(what, "openai-agents is not installed (make bench installs it)")
    prose = Prose(6)
    texts = [prose.text(700) for _ in range(bench.scale.appends)]
    with (
        closing(SQLiteSessionStore(bench.folder / "append.db", durability="full")) as store,
        closing(agents.SQLiteSession("s", bench.folder / "agents.db")) as theirs,
        asyncio.Runner() as runner,
    ):
        manager = SessionManager(store=store)
        session = manager.create_session(session_id="s")

        def ours(_: int) -> float:
            began = time.perf_counter()
            for text in texts:
                session.add_message("user", text)
                manager.save(session)
            return time.perf_counter() - began

        async def add_items() -> float:
            began = time.perf_counter()
            for text in texts:
                await theirs.add_items([{"role": "user", "content": text}])
            return time.perf_counter() - began

        timed = side_by_side(ours, lambda _: runner.run(add_items()), rounds=bench.scale.rounds)
    return compared(what, timed, goal=GOAL_APPEND, unit="us", per=len(texts))


def load(bench: Bench) -> Figure:
    """A whole session as objects, against its rows."""
    path = bench.folder / "load.db"
    _fill(path, messages(Prose(7), bench.scale.loaded))
    bare = dbapi.connect(str(path))
    attach(bare, compress=True)
    with closing(SQLiteSessionStore(path)) as store, closing(bare):
        manager = SessionManager(store=store)

        def ours(_: int) -> float:
            return seconds_of(lambda: list(_found(manager).messages))

        def yardstick(_: int) -> float:
            sql = f"SELECT {COLUMNS} FROM messages WHERE session = 1 AND hidden = 0 ORDER BY ord"  # noqa: S608
            return seconds_of(lambda: bare.execute(sql).fetchall())

        assert len(_found(manager).messages) == bench.scale.loaded
        timed = side_by_side(ours, yardstick, rounds=bench.scale.rounds)
    return compared(f"library load, {bench.scale.loaded:,} messages", timed, goal=GOAL_LOAD, unit="ms")


def forked(bench: Bench) -> Figure:
    """A fork of a session: what nine of ten take at most."""
    path = bench.folder / "fork.db"
    _fill(path, messages(Prose(8), bench.scale.forked))
    with closing(SQLiteSessionStore(path)) as store:
        manager = SessionManager(store=store)
        assert manager.forks.fork("s").message_count == bench.scale.forked
        took = [seconds_of(lambda: manager.forks.fork("s")) * 1e3 for _ in range(bench.scale.rounds)]
    value = percentile(took, 0.9)
    return Figure(
        what=f"fork of {bench.scale.forked:,} messages, p90", ours=f"{value:.1f} ms", yardstick="-", value=value,
        goal=GOAL_FORK_MS, unit="ms", spread=f"{min(took):.1f}-{max(took):.1f} ms",
    )  # fmt: skip


def reading(bench: Bench) -> Figure:
    """The memory that a process takes for reading a large session message by message."""
    path = bench.folder / "large.db"
    size_bytes = bench.scale.large_bytes
    _fill(path, _of_size(size_bytes))
    bench.say(f"a session of {size_bytes / 1e9:g} GB takes {path.stat().st_size / 1e9:.2f} GB")
    done = subprocess.run([sys.executable, str(READER), str(path), "s"], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    assert found["size_bytes"] >= size_bytes
    above = found["most_mb"] - found["start_mb"]
    return Figure(
        what=f"memory for reading a session of {size_bytes / 1e9:g} GB", ours=f"{above:.1f} MB above start",
        yardstick="-", value=above, goal=GOAL_READ_MB, unit="MB", spread=f"start {found['start_mb']:.0f} MB",
    )  # fmt: skip


def _found(manager: SessionManager) -> Any:
    session = manager.get_session("s")
    assert session is not None
    return session


def _fill(path: Path, texts: Iterable[tuple[str, str]]) -> None:
    """A store with one session, in one file."""
    remaining = iter(texts)
    with Store(path) as store:
        store.create(id="s")
        while batch := list(islice(remaining, 2000)):
            store.add_messages("s", [NewMessage(role=role, content=text) for role, text in batch])
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _of_size(size_bytes: int) -> Iterator[tuple[str, str]]:
    """Messages of so many bytes together, short and long ones; their texts repeat."""
    pool = messages(Prose(9), 2000, mean=MESSAGE_BYTES)
    at = 0
    while size_bytes > 0:
        role, text = pool[at % len(pool)]
        yield role, text
        size_bytes -= len(text)
        at += 1
