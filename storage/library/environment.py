"""Which store a manager uses where nobody hands it one: settings, the environment, the home.

(tests/library/test_pyai.py)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..home import Home
from ..settings import Session as SessionSettings
from ..settings import Settings
from .contract import Backend
from .memory_store import MemorySessionStore
from .session import Limits
from .sqlite_store import SQLiteSessionStore

BACKEND, REDIS_HOST, REDIS_PORT, SQLITE_PATH, POSTGRES_URL, REDIS_URL = (
    "STENO_BACKEND", "STENO_REDIS_HOST", "STENO_REDIS_PORT", "STENO_SQLITE_PATH", "STENO_POSTGRES_URL",
    "STENO_REDIS_URL",
)  # fmt: skip
DATABASE_NAME = "sessions.db"


def store_from_environment(environment: Mapping[str, str] | None = None, **options: Any) -> Backend:
    """The store that the environment names: ``STENO_BACKEND``, Redis' host or URL, PostgreSQL's URL, SQLite's path.

    Else it is one in memory.

    ``options`` are the clock and ids of the store. Raises `InvalidInput` (a ValueError) ``Unknown backend: x``.
    """
    given = os.environ if environment is None else environment
    backend = given.get(BACKEND) or _implied(given)
    if backend == "redis":
        host, port = given.get(REDIS_HOST, "localhost"), given.get(REDIS_PORT, "6379")
        return _redis(given.get(REDIS_URL) or f"redis://{host}:{port}", **options)
    if backend == "postgres":
        return _postgres(given.get(POSTGRES_URL, ""), **options)
    if backend == "sqlite":
        return SQLiteSessionStore(given.get(SQLITE_PATH) or DATABASE_NAME, **options)
    if backend == "memory":
        return MemorySessionStore(**options)
    raise InvalidInput(f"Unknown backend: {backend}", hint="there are sqlite, memory, redis and postgres")


def _implied(given: Mapping[str, str]) -> str:
    if given.get(REDIS_HOST) or given.get(REDIS_URL):
        return "redis"
    if given.get(POSTGRES_URL):
        return "postgres"
    return "sqlite" if given.get(SQLITE_PATH) else "memory"


def environment_names_a_store() -> bool:
    """Say whether `store_from_environment` was told anything."""
    return any(os.environ.get(name) for name in (BACKEND, REDIS_HOST, REDIS_URL, POSTGRES_URL, SQLITE_PATH))


def store_from_settings(settings: Settings, *, clock: Callable[[], int], ids: Callable[[int], str]) -> Backend:
    """The store that settings name; of SQLite the home's, where they give no place."""
    session = settings.session
    options: dict[str, Any] = {"clock": clock, "ids": ids}
    if session.backend == "memory":
        return MemorySessionStore(limits=limits(session), **options)
    if session.backend in ("redis", "postgres"):
        if session.storage_path is None:
            raise InvalidInput(f"[session] storage_path must be the URL of the {session.backend} server")
        opened = (_redis if session.backend == "redis" else _postgres)(session.storage_path, **options)
        opened.limits = limits(session)
        return opened
    if session.storage_path is None:
        home = Home.from_environment()
        home.make()
        path = home.database
    else:
        path = Path(session.storage_path).expanduser() / DATABASE_NAME
    return SQLiteSessionStore(
        path,
        durability=settings.storage.durability,
        compress=session.compress_messages,
        pool_size=session.connection_pool_size,
        limits=limits(session),
        **options,
    )


def limits(session: SessionSettings) -> Limits:
    """What settings let a session grow to."""
    return Limits(size_bytes=int(session.max_session_size * 1_000_000), cached_messages=session.message_cache_size)


def _redis(url: str, **options: Any) -> Backend:
    from .redis_store import RedisSessionStore  # noqa: PLC0415  its driver is an extra

    return RedisSessionStore(url, **options)


def _postgres(url: str, **options: Any) -> Backend:
    from .postgres_store import PostgresSessionStore  # noqa: PLC0415  its driver is an extra

    return PostgresSessionStore(url, **options)
