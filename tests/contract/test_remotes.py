"""What every remote keeps, whatever lies behind it.

A PUT that is cut off leaves nothing, but on WebDAV: there its beginning is listed under the name of the whole, and only
the seal tells it from one.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from steno.storage.errors import InvalidInput, ObjectDamaged, ObjectMissing, RemoteRefused, RemoteUnreachable
from steno.sync.vault import listed
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.remote import Remote, open_remote
from steno.tests.server_fixtures import RCLONE_SETTINGS, S3_SETTINGS

HERE = ("memory", "folder")
DATABASES = ("redis", "postgres")
WEBDAV = ("rclone", "wsgidav")
SERVERS = (*DATABASES, "s3", *WEBDAV)


class Place(NamedTuple):
    """A remote of this test alone: its address, and what the environment says."""

    kind: str
    url: str
    environ: Mapping[str, str]

    def open(self) -> Remote:
        return open_remote(self.url, create=True, environ=self.environ)


def place_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    environ: Mapping[str, str] = {"s3": S3_SETTINGS, "rclone": RCLONE_SETTINGS}.get(kind, {})
    if kind == "redis":
        url = f"{request.getfixturevalue('redis_url')}?prefix={request.getfixturevalue('redis_prefix')}"
    elif kind == "postgres":
        url = f"{request.getfixturevalue('postgres_url')}?table=test_{secrets.token_hex(6)}"
    else:
        url = str(tmp_path / "remote") if kind == "folder" else request.getfixturevalue(f"{kind}_url")
    return Place(kind, url, environ)


Open = Callable[[Place], Remote]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens remotes, which are closed after the test."""
    remotes: list[Remote] = []

    def opened(place: Place) -> Remote:
        remotes.append(place.open())
        return remotes[-1]

    yield opened
    for each in remotes:
        await each.close()


@pytest.fixture
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Remote]:
    remote = MemoryRemote() if request.param == "memory" else place_of(request.param, request, tmp_path).open()
    yield remote
    await remote.close()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `remote` gets each; one that needs a whole view leaves out those that show parts."""
    if "remote" in metafunc.fixturenames:
        shows_parts = WEBDAV if "never_sees_half" in metafunc.function.__name__ else ()
        kinds = [kind for kind in (*HERE, *SERVERS) if kind not in shows_parts]
        metafunc.parametrize("remote", kinds, indirect=True)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), os.urandom(5_000_000)], ids=len)
async def test_what_was_put_is_got(remote: Remote, data: bytes):
    await remote.put("log/one", data)
    assert await remote.get("log/one") == data


async def test_an_object_that_is_not_there_is_missing(remote: Remote):
    await remote.put("log/one", b"1")
    with pytest.raises(ObjectMissing) as caught:
        await remote.get("log/two")
    assert caught.value.name == "log/two"


async def test_an_empty_remote_lacks_everything(remote: Remote):
    with pytest.raises(ObjectMissing):
        await remote.get("vault.json")


async def test_a_put_of_the_same_name_replaces_the_whole(remote: Remote):
    await remote.put("vault.json", b"a long first version")
    await remote.put("vault.json", b"second")
    assert await remote.get("vault.json") == b"second"


async def test_a_listing_names_the_objects_of_one_directory_in_order(remote: Remote):
    for name in ("log/b", "log/a", "keys/c", "vault.json", "log/a.2"):
        await remote.put(name, b"x")
    assert await remote.list("log/") == ["log/a", "log/a.2", "log/b"]


async def test_a_listing_of_the_root_leaves_out_directories(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.put("vault.json", b"x")
    assert await remote.list("") == ["vault.json"]


async def test_a_directory_that_is_absent_lists_as_empty(remote: Remote):
    assert await remote.list("log/") == []
    await remote.put("keys/a", b"x")
    assert await remote.list("log/") == []


async def test_a_directory_whose_objects_are_gone_lists_as_empty(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.delete("log/a")
    assert await remote.list("log/") == []


async def test_a_deleted_object_is_missing(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.delete("log/a")
    with pytest.raises(ObjectMissing):
        await remote.get("log/a")


async def test_deleting_what_is_not_there_is_no_error(remote: Remote):
    await remote.delete("log/a")
    await remote.put("log/b", b"x")
    await remote.delete("log/a")
    assert await remote.list("log/") == ["log/b"]


async def test_an_object_above_the_limit_is_damage(remote: Remote):
    await remote.put("log/a", b"12345")
    with pytest.raises(ObjectDamaged) as caught:
        await remote.get("log/a", limit_bytes=4)
    assert caught.value.name == "log/a"


async def test_an_object_of_the_limit_is_got(remote: Remote):
    await remote.put("log/a", b"12345")
    assert await remote.get("log/a", limit_bytes=5) == b"12345"


@pytest.mark.parametrize("name", ["../a", "log/../../a", "/etc/hostname", "log/", ".tmp/a", "log/.a", ""])
async def test_a_name_that_leads_elsewhere_is_refused(remote: Remote, name: str):
    with pytest.raises(InvalidInput):
        await remote.put(name, b"x")
    with pytest.raises(InvalidInput):
        await remote.get(name)
    with pytest.raises(InvalidInput):
        await remote.delete(name)


async def test_many_calls_at_once_do_not_disturb_each_other(remote: Remote):
    contents = {f"log/{number:02d}": bytes([number]) * 1000 for number in range(40)}
    await asyncio.gather(*(remote.put(name, data) for name, data in contents.items()))
    assert await asyncio.gather(*(remote.get(name) for name in contents)) == list(contents.values())
    assert await remote.list("log/") == sorted(contents)


async def test_a_reader_never_sees_half_of_an_object_that_is_being_replaced(remote: Remote):
    first, second = b"1" * 300_000, b"2" * 300_000
    await remote.put("log/a", first)

    async def replaced() -> None:
        for number in range(10):
            await remote.put("log/a", second if number % 2 else first)

    writer = asyncio.create_task(replaced())
    while not writer.done():
        assert await remote.get("log/a") in {first, second}
    await writer


async def test_every_request_is_counted_failures_included(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.get("log/a")
    with pytest.raises(ObjectMissing):
        await remote.get("log/b")
    await remote.list("log/")
    await remote.delete("log/a")
    assert remote.requests == {"put": 1, "get": 2, "list": 1, "delete": 1}


async def test_a_listing_of_more_than_a_page_is_one_request_of_ours_and_names_all_in_order(remote: Remote):
    names = [f"log/{number:04d}" for number in range(1001)]
    room = asyncio.Semaphore(8)

    async def put(name: str) -> None:
        async with room:
            await remote.put(name, b"x")

    await asyncio.gather(*map(put, reversed(names)))
    before = remote.requests.total()
    assert await remote.list("log/") == names
    assert remote.requests.total() - before == 1


@pytest.mark.fault(38)
@pytest.mark.parametrize("kind", ["folder", *SERVERS])
async def test_a_listing_of_more_than_any_vault_has_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path, opened: Open
):
    monkeypatch.setattr(listed, "MAX_LISTED", 4)  # some services list the directory itself as well
    remote = opened(place_of(kind, request, tmp_path))
    names = [f"log/{number}" for number in range(5)]
    for name in names:
        await remote.put(name, b"x")
    with pytest.raises(RemoteRefused, match="it lists more than 4 objects in log/"):
        await remote.list("log/")
    for name in names[3:]:
        await remote.delete(name)
    assert await remote.list("log/") == names[:3]


async def test_what_is_too_long_for_a_name_never_leaves_redis(redis_url: str, redis_prefix: str, opened: Open):
    import redis

    remote = opened(Place("redis", f"{redis_url}?prefix={redis_prefix}", {}))
    await remote.put("log/a", b"x")
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(f"{redis_prefix}:names:log/", "log/" + "x" * 10_000_000)
        before = client.info("stats")["total_net_output_bytes"]
        assert await remote.list("log/") == ["log/a"]
        assert client.info("stats")["total_net_output_bytes"] - before < 100_000


async def test_what_is_too_long_for_a_name_never_leaves_postgres(postgres_url: str, opened: Open):
    import psycopg

    table = f"test_{secrets.token_hex(6)}"
    remote = opened(Place("postgres", f"{postgres_url}?table={table}", {}))
    await remote.put("log/a", b"x")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey".encode())  # its index takes no such name
        connection.execute(f"INSERT INTO {table} VALUES ('log/', repeat('x', 10000), '')".encode())
    assert await remote.list("log/") == ["log/a"]


async def test_every_character_of_a_name_is_kept(remote: Remote):
    name = "log/_AZaz09.-." + "x" * 100
    await remote.put(name, b"x")
    assert await remote.list("log/") == [name]
    assert await remote.get(name) == b"x"


async def test_a_second_look_sees_what_a_first_one_wrote(server: Place, opened: Open):
    first, second = opened(server), opened(server)
    assert await second.list("log/") == []
    await first.put("log/a", b"x")
    assert await second.list("log/") == ["log/a"]
    assert await second.get("log/a") == b"x"


async def test_no_news_comes_where_nothing_happens(remote: Remote):
    await remote.put("log/a", b"x")
    said = [await remote.news(timeout_s=0.1) for _ in range(3)]
    assert said[-1] is False


# Databases


async def test_a_put_is_news_to_another_device_at_once(database: Place, opened: Open):
    here, there = opened(database), opened(database)
    while await here.news(timeout_s=0.2):
        pass
    waiting = asyncio.create_task(here.news(timeout_s=60))
    began = time.monotonic()
    await there.put("log/a", b"x")
    assert await waiting is True
    assert time.monotonic() - began < 10


async def test_what_was_put_while_nobody_waited_is_told_later(database: Place, opened: Open):
    here, there = opened(database), opened(database)
    while await here.news(timeout_s=0.2):
        pass
    await there.put("log/a", b"x")
    assert await here.news(timeout_s=60) is True


async def test_the_first_look_for_news_says_that_something_may_have_been_missed(database: Place, opened: Open):
    remote = opened(database)
    assert await remote.news(timeout_s=60) is True


async def test_what_a_device_puts_is_no_news_to_itself(database: Place, opened: Open):
    remote = opened(database)
    while await remote.news(timeout_s=0.2):
        pass
    await remote.put("log/a", b"x")
    assert await remote.news(timeout_s=0.3) is False


async def test_two_vaults_share_a_database(database: Place, opened: Open):
    first = opened(database)
    second = opened(database._replace(url=database.url + "2"))
    await first.put("log/a", b"first")
    await second.put("log/a", b"second")
    await second.put("log/b", b"second")
    assert (await first.get("log/a"), await first.list("log/")) == (b"first", ["log/a"])


@pytest.mark.fault(30)
async def test_a_redis_without_room_refuses_and_still_gives(redis_url: str, redis_prefix: str, opened: Open):
    import redis

    remote = opened(Place("redis", f"{redis_url}?prefix={redis_prefix}", {}))
    await remote.put("log/a", b"x")
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(RemoteRefused, match="maxmemory"):
                await remote.put("log/b", b"x")
            assert await remote.list("log/") == ["log/a"]
            assert await remote.get("log/a") == b"x"
        finally:
            client.config_set("maxmemory", "0")


async def test_an_object_that_redis_threw_out_is_missing(redis_url: str, redis_prefix: str, opened: Open):
    import redis

    remote = opened(Place("redis", f"{redis_url}?prefix={redis_prefix}", {}))
    await remote.put("log/a", b"x")
    with redis.Redis.from_url(redis_url) as client:
        assert client.delete(f"{redis_prefix}:log/a") == 1
    with pytest.raises(ObjectMissing):
        await remote.get("log/a")


@pytest.mark.fault(30)
async def test_a_postgres_without_room_refuses(postgres_url: str, opened: Open):
    import psycopg

    table = f"test_{secrets.token_hex(6)}"
    remote = opened(Place("postgres", f"{postgres_url}?table={table}", {}))
    await remote.put("log/a", b"x")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        raising = "BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END"
        connection.execute(f"CREATE FUNCTION full_{table}() RETURNS trigger LANGUAGE plpgsql AS $${raising}$$".encode())
        connection.execute(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} EXECUTE FUNCTION full_{table}()".encode())
    with pytest.raises(RemoteRefused, match="could not extend file"):
        await remote.put("log/b", b"x")
    assert await remote.list("log/") == ["log/a"]


async def test_devices_that_make_the_table_at_once_all_put(postgres_url: str, opened: Open):
    url = f"{postgres_url}?table=test_{secrets.token_hex(6)}"
    remotes = [opened(Place("postgres", url, {})) for _ in range(8)]
    await asyncio.gather(*(each.put(f"log/{at}", b"x") for at, each in enumerate(remotes)))
    assert len(await remotes[0].list("log/")) == 8


@pytest.mark.fault(29)
@pytest.mark.parametrize("more", ["?prefix=x", "?table=x"], ids=DATABASES)
async def test_credentials_that_a_database_does_not_know_are_refused_and_not_repeated(
    more: str, redis_url: str, postgres_url: str, opened: Open
):
    url = redis_url if "prefix" in more else postgres_url.replace("steno@", "nobody@")
    environ = {"STENO_REDIS_PASSWORD": "hunter2", "STENO_POSTGRESQL_PASSWORD": "hunter2"}
    remote = opened(Place("", url + more, environ))
    with pytest.raises(RemoteRefused) as caught:
        await remote.list("log/")
    assert "hunter2" not in caught.value.line


async def test_who_is_cancelled_at_any_moment_ends(database: Place, opened: Open):
    remote = opened(database)
    moment = random.Random(7)

    async def without_end() -> None:
        while True:
            await remote.put("log/a", bytes(200_000))
            await remote.list("log/")

    for _ in range(150):
        task = asyncio.create_task(without_end())
        await asyncio.sleep(moment.random() * 0.004)
        task.cancel()
        ended, _ = await asyncio.wait({task}, timeout=20)
        assert ended
    # Another name: a put that was given up may still arrive.
    await remote.put("log/b", b"x")
    assert await remote.get("log/b") == b"x"


# What goes wrong on the way


class Wire:
    """A place between a remote and its server that can be told to fail, once much of a connection went through."""

    def __init__(self, url: str) -> None:
        found = re.search(r"127\.0\.0\.1:(\d+)", url)
        assert found is not None
        self._server = int(found[1])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(found[0], f"127.0.0.1:{self._listener.getsockname()[1]}")
        self.failing = ""
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._server))
                self._sockets += [near, far]
                sent = [0]
                for source, target in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._carry, args=(source, target, near, sent)))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, near: socket.socket, sent: list[int]) -> None:
        answers = target is near
        with suppress(OSError):
            while data := source.recv(65536):
                if self.failing == "silent":
                    continue
                sent[0] += 0 if answers or not self.failing else len(data)
                if sent[0] > MUCH and self.failing == ("lost answer" if answers else "torn"):
                    break
                target.sendall(data)
        for each in (source, target):
            _shut(each)

    def close(self) -> None:
        """Cut every connection."""
        for each in self._sockets:
            _shut(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(server: Place) -> Iterator[Wire]:
    """A wire to the server."""
    wire = Wire(server.url)
    yield wire
    wire.close()


@pytest.fixture
def wired(wire: Wire, server: Place, opened: Open) -> Remote:
    """A remote that is reached over the wire."""
    return opened(server._replace(url=wire.url))


MUCH = 150_000
DATA = os.urandom(300_000)


@pytest.mark.fault(4, 32)
async def test_a_put_that_is_cut_off_is_not_there_or_on_webdav_in_part_and_can_be_repeated(
    wire: Wire, wired: Remote, server: Place
):
    await wired.put("log/a", b"x")
    wire.failing = "torn"
    with pytest.raises(RemoteUnreachable):
        await wired.put("log/b", DATA)
    wire.failing = ""
    if server.kind in WEBDAV:
        left = await wired.get("log/b")
        assert DATA.startswith(left)
        assert len(left) < len(DATA)
    else:
        assert await wired.list("log/") == ["log/a"]
    await wired.put("log/b", DATA)
    assert await wired.get("log/b") == DATA


@pytest.mark.fault(5, 32)
async def test_a_put_whose_answer_was_lost_is_there_and_can_be_repeated(wire: Wire, wired: Remote, server: Place):
    await wired.put("log/a", b"x")
    wire.failing = "lost answer"
    with pytest.raises(RemoteUnreachable):
        await wired.put("log/b", DATA)
    wire.failing = ""
    assert await wired.get("log/b") == DATA
    await wired.put("log/b", DATA)
    assert await wired.list("log/") == ["log/a", "log/b"]
    assert await wired.get("log/b") == DATA


@pytest.mark.fault(32)
@pytest.mark.parametrize("server", DATABASES, indirect=True)  # the deadlines of OpenDAL's services are minutes
async def test_a_database_that_falls_silent_is_unreachable_in_time(wire: Wire, wired: Remote):
    await wired.put("log/a", b"x")
    wired._timeout_s = 0.3  # pyright: ignore[reportAttributeAccessIssue]
    wire.failing = "silent"
    began = time.monotonic()
    with pytest.raises(RemoteUnreachable, match="in time"):
        await wired.put("log/b", DATA)
    assert time.monotonic() - began < 4
    wire.failing = ""
    wired._timeout_s = 60  # pyright: ignore[reportAttributeAccessIssue]
    assert await wired.get("log/a") == b"x"


async def test_a_server_that_is_not_there_is_unreachable(server: Place, opened: Open):
    remote = opened(server._replace(url=re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", server.url)))
    calls = (remote.put("log/a", b"x"), remote.get("log/a"), remote.list("log/"), remote.delete("log/a"))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in errors] == [RemoteUnreachable] * 4
    assert not any("\n" in str(each) for each in errors)


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with one status."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 0

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_DELETE = do_PROPFIND = do_MKCOL = do_POST = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str]:
    """A server of this test, and its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def address_at(kind: str, url: str) -> str:
    return f"s3://bucket/x?region=x&endpoint={url}" if kind == "s3" else f"webdav+{url}/x"


@pytest.fixture(params=[401, 403, 429, 503, 507])
def refusing(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    with serving(type("Handler", (Refusing,), {"status": request.param})) as url:
        yield request.param, url


@pytest.mark.fault(29, 30, 32)
@pytest.mark.parametrize("kind", ["s3", "webdav"])
async def test_what_a_server_answers_becomes_one_of_our_errors(kind: str, refusing: tuple[int, str], opened: Open):
    status, url = refusing
    remote = opened(Place(kind, address_at(kind, url), {**S3_SETTINGS, **RCLONE_SETTINGS}))
    calls = (remote.put("log/a", b"x"), remote.get("log/a"), remote.list("log/"), remote.delete("log/a"))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    ours = RemoteUnreachable if status in (429, 503) else RemoteRefused
    assert [type(each) for each in errors] == [ours] * 4
    for each in errors:
        assert isinstance(each, RemoteUnreachable | RemoteRefused)
        assert f"status {status}" in each.line
        assert "\n" not in each.line
        assert "made" not in each.line
        assert len(str(each)) < 300
        if isinstance(each, RemoteUnreachable):
            assert each.retry_after_s == 7


class Counting(BaseHTTPRequestHandler):
    """Has every directory, and takes what it is given."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(self.command)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_PROPFIND = do_MKCOL = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["s3", "webdav"])
async def test_a_put_is_one_request_to_the_server(kind: str, opened: Open):
    asked: list[str] = []
    with serving(type("Handler", (Counting,), {"asked": asked})) as url:
        remote = opened(Place(kind, address_at(kind, url), {**S3_SETTINGS, **RCLONE_SETTINGS}))
        await remote.put("log/a", b"x")
    assert asked == ["PUT"]
