"""Fixtures that give a test a real server: one of each kind a run, and in it a place of the test's own.

Where the program is missing the test is skipped by name and reason; ``STENO_REQUIRE_SERVERS=1`` makes that a
failure. (tests/e2e/test_servers.py)
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn
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


WEBDAV_USER, WEBDAV_PASSWORD = "ada", "made up for tests"
S3_SETTINGS = {"STENO_S3_ACCESS_KEY_ID": "ada", "STENO_S3_SECRET_ACCESS_KEY": "made-up-for-tests"}
RCLONE_SETTINGS = {"STENO_WEBDAV_USERNAME": WEBDAV_USER, "STENO_WEBDAV_PASSWORD": WEBDAV_PASSWORD}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A server that speaks S3, of this run."""
    from steno.tests.servers import start_s3

    with _required(start_s3) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[Server]:
    """A WebDAV server of rclone, of this run; it wants a password."""
    from steno.tests.servers import start_rclone

    with _required(lambda: start_rclone(user=WEBDAV_USER, password=WEBDAV_PASSWORD)) as server:
        yield server


@pytest.fixture(scope="session")
def wsgidav_server() -> Iterator[Server]:
    """A WebDAV server of WsgiDAV, of this run."""
    from steno.tests.servers import start_wsgidav

    with _required(start_wsgidav) as server:
        yield server


@pytest.fixture
def s3_url(s3_server: Server) -> str:
    """An empty bucket of this test alone."""
    from steno.tests.servers import bucket

    return bucket(s3_server)


@pytest.fixture
def rclone_url(rclone_server: Server) -> str:
    """An empty place of this test alone."""
    return f"webdav+{rclone_server.url}/{secrets.token_hex(6)}/vault"


@pytest.fixture
def wsgidav_url(wsgidav_server: Server) -> str:
    """An empty place of this test alone."""
    return f"webdav+{wsgidav_server.url}/{secrets.token_hex(6)}/vault"


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


def need(program: str, *, package: str) -> None:
    """Go on only where a program is installed."""
    from steno.tests.servers import Missing

    if shutil.which(program) is None:
        _lack(Missing(program, package=package))


def _required(start: Callable[[], Server]) -> Server:
    from steno.tests.servers import Missing

    try:
        return start()
    except Missing as missing:
        _lack(missing)


def _lack(missing: Exception) -> NoReturn:
    if os.environ.get("STENO_REQUIRE_SERVERS") == "1":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
