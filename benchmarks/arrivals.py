"""Real daemons: how soon one device shows what was written on the other, over each kind of remote.

A server is started for the measurement, without a network between; where its program is missing the row is left out.
Whether what is there is told (a watched folder, Redis, PostgreSQL) or polled for (S3) is most of the difference.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from generate import Prose
from homes import Home, pair, until
from measure import Bench, Figure, LeftOut, percentile
from s3 import SETTINGS, bucket_at

from steno.storage.database import Database
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.servers import Missing, Server, start_postgres, start_redis, start_s3

GOAL_P50_S, GOAL_P99_S, GOAL_POLLED_S = 0.3, 1.5, 2.5
SYNCTHING = "about 10 s, Syncthing's default"
_WHAT = "append on A, readable on B"
_Row = Figure | LeftOut


def figures(bench: Bench) -> list[_Row]:
    """From an append on A to the message standing in B's store."""
    scale = bench.scale
    folder = _seconds(bench, pair(_below(bench, "folder"), str(bench.folder / "remote")), scale.arrivals)
    return [
        _within(f"{_WHAT}, p50", statistics.median(folder), GOAL_P50_S, folder, yardstick=SYNCTHING),
        _within(f"{_WHAT}, p99", percentile(folder, 0.99), GOAL_P99_S, folder),
        _over(bench, "Redis", start_redis, lambda server: f"{server.url}?prefix=bench", GOAL_P50_S),
        _over(bench, "PostgreSQL", lambda: start_postgres(durable=True), lambda server: server.url, GOAL_P50_S),
        _over(bench, "S3", start_s3, lambda server: bucket_at(server.url), GOAL_POLLED_S),
    ]


def arrival(near: Store, far: Database, *, session: str, text: str) -> float:
    """Seconds from an append in one store until it is read in the other."""
    began = time.perf_counter()
    message = near.append(session, NewMessage(role="user", content=text)).id
    until(lambda: far.one("SELECT 1 FROM messages WHERE id = ?", (message,)) is not None, "the message arrives")
    return time.perf_counter() - began


def _over(
    bench: Bench,
    name: str,
    start: Callable[[], AbstractContextManager[Server]],
    url: Callable[[Server], str],
    goal: float,
) -> _Row:
    what = f"{_WHAT}, {name}, p50"
    try:
        started = start()
    except Missing as missing:
        return LeftOut(what, str(missing))
    with started as server:
        homes = pair(_below(bench, name), url(server), **SETTINGS)
        seconds = _seconds(bench, homes, bench.scale.distant_arrivals)
    return _within(what, statistics.median(seconds), goal, seconds, yardstick=SYNCTHING)


def _below(bench: Bench, name: str) -> Path:
    folder = bench.folder / name
    folder.mkdir()
    return folder


def _seconds(bench: Bench, homes: tuple[Home, Home], count: int) -> list[float]:
    near, far = homes
    prose, draw = Prose(5), random.Random(5)
    with near.daemon(), far.daemon(), Store(near.database) as store, Database(far.database, read_only=True) as other:
        session = store.create(title="latency").id
        arrival(store, other, session=session, text="it also brings the session, and finds both daemons starting")
        seconds: list[float] = []
        for _ in range(count):
            time.sleep(draw.uniform(0, bench.scale.pause_s))
            seconds.append(arrival(store, other, session=session, text=prose.text(700)))
    return seconds


def _within(what: str, seconds: float, goal: float, all_of_them: list[float], *, yardstick: str = "-") -> Figure:
    spread = f"{min(all_of_them) * 1e3:.0f}-{max(all_of_them) * 1e3:.0f} ms"
    return Figure(
        what=what,
        ours=f"{seconds * 1e3:.0f} ms",
        yardstick=yardstick,
        value=seconds,
        goal=goal,
        unit="s",
        spread=spread,
    )
