"""The servers that tests start answer, are the test's own, and end with whoever started them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from steno.tests.servers import Server, start_postgres, start_redis

TWICE = pytest.mark.parametrize("turn", [1, 2])


@pytest.fixture(params=[("redis_url", start_redis), ("postgres_url", start_postgres)], ids=["redis", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    fixture, start = request.param
    request.getfixturevalue(fixture)  # it knows what to do where the program is missing
    with start() as server:
        yield server


def _listens(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as client:
        return client.connect_ex((address.hostname, address.port)) == 0


def test_redis_answers(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()


def test_postgres_answers(postgres_url: str):
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@TWICE
def test_each_test_finds_redis_empty(redis_url: str, redis_prefix: str, turn: int):
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == []
        client.set(f"{redis_prefix}a", "left behind")


@TWICE
def test_each_test_has_a_database_of_its_own(postgres_database_url: str, turn: int):
    with psycopg.connect(postgres_database_url) as connection:
        connection.execute("CREATE TABLE left_behind (a int)")
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


def test_a_server_that_is_stopped_is_gone_with_its_directory(server: Server):
    assert _listens(server.url)
    server.stop()
    assert (_listens(server.url), server.folder.exists()) == (False, False)


def test_stopping_twice_is_stopping_once(server: Server):
    server.stop()
    server.stop()
    assert not _listens(server.url)


def test_a_server_ends_with_a_run_that_was_killed(redis_url: str):
    script = (
        "from steno.tests.servers import start_redis\nserver = start_redis()\nprint(server.url, flush=True)\ninput()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        address = urlsplit(run.stdout.readline().decode().strip())
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            run.kill()
            assert client.recv(1) == b""  # the server closed it


@pytest.mark.parametrize(("required", "result"), [("", "1 skipped"), ("1", "1 error")])
def test_a_program_that_is_missing_is_named(tmp_path: Path, required: str, result: str):
    (tmp_path / "test_made.py").write_text("def test_made(redis_url):\n    pass\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest"), "-p", "steno.tests.server_fixtures", "-rsE", "--rootdir", tmp_path],
        cwd=tmp_path, env={"PATH": "", "STENO_REQUIRE_SERVERS": required}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result in done.stdout
    assert "redis-server is not installed (Debian's package redis-server)" in done.stdout
