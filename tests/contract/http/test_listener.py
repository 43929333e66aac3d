"""Where the server listens, and what it does when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from steno.daemon.http import Listening, serve
from steno.storage.errors import HomeBusy, InvalidInput, LocalStorageError


@pytest.fixture
def listen(loop: Any) -> Iterator[Any]:
    """Listen as told; stopped at the end of the test."""
    started: list[Listening] = []

    def start(**where: Any) -> Listening:
        app = web.Application()
        app.router.add_get("/", _hello)
        where.setdefault("port", 0)
        started.append(loop.run(serve(app, **where)))
        return started[-1]

    yield start
    for each in started:
        loop.run(each.stop())


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"hello"
    finally:
        connection.close()


def _answers_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("rb").read().endswith(b"hello")


def test_it_listens_on_the_port_that_it_was_given(listen: Any):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert listen(port=port).port == port
    assert _answers(port)


def test_a_port_that_is_taken_is_replaced_by_a_free_one_and_said(listen: Any):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listening = listen(port=port)
    assert listening.port != port
    assert str(port) in listening.notes[0]
    assert _answers(listening.port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be_is_refused(listen: Any, port: int):
    with pytest.raises(InvalidInput):
        listen(port=port)


def test_an_address_of_another_machine_is_refused(listen: Any):
    with pytest.raises(LocalStorageError):
        listen(host="192.0.2.1")


def test_only_this_machine_reaches_the_port(listen: Any):
    listening = listen()
    assert listening._servers[0].sockets[0].getsockname()[0] == "127.0.0.1"


def test_the_socket_is_its_owners_alone(listen: Any, short_directory: Path):
    path = short_directory / "s"
    listen(socket_path=path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _answers_on(path)


def test_the_socket_a_dead_process_left_is_replaced(listen: Any, short_directory: Path):
    path = short_directory / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listen(socket_path=path)
    assert _answers_on(path)


def test_the_socket_of_a_living_process_is_left_to_it(listen: Any, short_directory: Path):
    path = short_directory / "s"
    listen(socket_path=path)
    with pytest.raises(HomeBusy):
        listen(socket_path=path)
    assert _answers_on(path)


def test_a_file_in_the_place_of_the_socket_is_left_alone_and_said(listen: Any, short_directory: Path):
    path = short_directory / "s"
    path.write_text("mine")
    listening = listen(socket_path=path)
    assert (listening.socket, path.read_text()) == (None, "mine")
    assert str(path) in listening.notes[0]
    assert _answers(listening.port)


def test_a_path_too_long_for_a_socket_leaves_the_port_and_is_said(listen: Any, short_directory: Path):
    listening = listen(socket_path=short_directory / ("x" * 120))
    assert (listening.socket, len(listening.notes)) == (None, 1)
    assert _answers(listening.port)


def test_the_socket_is_gone_after_the_stop(listen: Any, loop: Any, short_directory: Path):
    listening = listen(socket_path=short_directory / "s")
    loop.run(listening.stop())
    assert list(short_directory.iterdir()) == []


def test_the_port_is_free_after_the_stop(listen: Any, loop: Any):
    listening = listen()
    loop.run(listening.stop())
    with pytest.raises(ConnectionRefusedError):
        _answers(listening.port)


def test_a_second_stop_leaves_the_socket_of_who_came_after(listen: Any, loop: Any, short_directory: Path):
    path = short_directory / "s"
    first = listen(socket_path=path)
    loop.run(first.stop())
    listen(socket_path=path)
    loop.run(first.stop())
    assert _answers_on(path)


async def test_a_connection_that_comes_at_the_stop_is_closed(short_directory: Path):
    for turns in range(6):
        listening = await serve(web.Application(), port=0, socket_path=short_directory / "s")
        with socket.create_connection(("127.0.0.1", listening.port), timeout=20) as connection:
            for _ in range(turns):
                await asyncio.sleep(0)
            await listening.stop()
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
