"""Appending to sessions in Redis and PostgreSQL, against the same item and the same row without us.

Each server is started for the measurement, as it comes from its makers: PostgreSQL waits for the disk. Where the
program is missing, the row is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import redis
from generate import Prose
from measure import Bench, Figure, LeftOut, compared, side_by_side
from psycopg.rows import dict_row

from steno import PostgresSessionStore, RedisSessionStore, SessionManager
from steno.tests.servers import Missing, Server, start_postgres, start_redis

GOAL = 2.0
PREFIX = "bench:"


def figures(bench: Bench) -> list[Figure | LeftOut]:
    """Both stores."""
    return [
        _measured(bench, "Redis append", start_redis, _redis),
        _measured(bench, "PostgreSQL append", lambda: start_postgres(durable=True), _postgres),
    ]


def _measured(
    bench: Bench, what: str, start: Callable[[], Server], measure: Callable[[Bench, str, str], Figure]
) -> Figure | LeftOut:
    try:
        server = start()
    except Missing as missing:
        return LeftOut(what, str(missing))
    with server:
        return measure(bench, what, server.url)


def _redis(bench: Bench, what: str, url: str) -> Figure:
    texts = _texts(bench)
    with closing(RedisSessionStore(url, prefix=PREFIX)) as store, redis.Redis.from_url(url) as bare:
        append = _appender(store)
        append(texts[:1])
        (messages,) = [key for key in bare.scan_iter(f"{PREFIX}*") if bare.type(key) == b"list"]
        item = bare.lindex(messages, -1)
        assert item is not None

        def push(texts: list[str]) -> None:
            for _ in texts:
                bare.rpush("bare", item)

        return _compared(bench, what, append, push, texts)


def _postgres(bench: Bench, what: str, url: str) -> Figure:
    texts = _texts(bench)
    with closing(PostgresSessionStore(url)) as store, psycopg.connect(url, autocommit=True) as bare:
        append = _appender(store)
        _appender(store)(texts[:1])  # a session whose messages the bare rows follow
        cursor = bare.cursor(row_factory=dict_row)
        row = cursor.execute("SELECT * FROM steno.messages").fetchone()
        assert row is not None
        columns, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        sql = f"INSERT INTO steno.messages ({columns}) VALUES ({values})".encode()  # noqa: S608

        def insert(texts: list[str]) -> None:
            for _ in texts:
                row["place"] += 1
                row["id"] = f"m-{row['place']:019d}"
                cursor.execute(sql, row)

        return _compared(bench, what, append, insert, texts)


def _texts(bench: Bench) -> list[str]:
    return [Prose(6).text(700)] * bench.scale.appends


def _appender(store: Any) -> Callable[[list[str]], None]:
    """Add messages to one session, each saved by itself."""
    manager = SessionManager(store=store)
    session = manager.create_session("ann")

    def append(texts: list[str]) -> None:
        for text in texts:
            session.add_message("user", text)
            manager.save(session)

    return append


def _compared(
    bench: Bench, what: str, ours: Callable[[list[str]], None], bare: Callable[[list[str]], None], texts: list[str]
) -> Figure:
    def timed(call: Callable[[list[str]], None]) -> Callable[[int], float]:
        def run(_: int) -> float:
            began = time.perf_counter()
            call(texts)
            return time.perf_counter() - began

        return run

    seconds = side_by_side(timed(ours), timed(bare), rounds=bench.scale.rounds)
    return compared(what, seconds, goal=GOAL, unit="us", per=len(texts))
