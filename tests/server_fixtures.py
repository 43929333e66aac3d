"""Fixtures that give a test a real server: one of each kind a run, and in it a place of the test's own.

Where the program is missing the test is skipped by name and reason; ``STENO_REQUIRE_SERVERS=1`` makes that a
failure. (tests/e2e/test_servers.py)
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:  # the drivers are imported where a test asks for a server: most runs need none
    from steno.tests.servers import Server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of this run."""
    from steno.tests.servers import start_redis

    with _required(start_redis) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of this run: its superuser and its first database."""
    from steno.tests.servers import start_postgres

    with _required(start_postgres) as server:
        yield server.url


@pytest.fixture
def redis_prefix(redis_url: str) -> str:
    """A key prefix that no other test uses, in a Redis that is empty."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return f"test-{secrets.token_hex(6)}:"


@pytest.fixture
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """An empty database of this test alone, which is dropped after it, whoever is still connected."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _required(start: Callable[[], Server]) -> Server:
    from steno.tests.servers import Missing

    try:
        return start()
    except Missing as missing:
        if os.environ.get("STENO_REQUIRE_SERVERS") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
