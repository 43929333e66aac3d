"""A server that really listens, on a free port and a Unix socket, over a store of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from steno.daemon.client import DaemonClient
from steno.daemon.http import Api, Listening, OnFiles, make_app, serve
from steno.storage.errors import RemoteUnreachable
from steno.storage.home import Home
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror

TOKEN = "the-token-of-this-home"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Loop:
    """An event loop on a thread of its own, so that a test may block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@dataclass
class Server:
    listening: Listening
    store: Store
    directory: Path
    fails: list[bool] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    token: str = TOKEN

    @property
    def home(self) -> Home:
        return Home(self.directory, self.directory)

    def path(self, session: str, *more: str) -> str:
        return "/".join(["/v1/sessions", *(quote(part, safe="") for part in (session, *more))])

    def ask(
        self,
        method: str,
        address: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = TOKEN,
    ) -> Answer:
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.listening.port, timeout=20)
        try:
            connection.request(method, address, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def drop(self, data: bytes) -> None:
        """Send bytes and hang up."""
        with socket.create_connection(("127.0.0.1", self.listening.port), timeout=20) as connection:
            connection.sendall(data)

    def send(self, data: bytes, *, unix: bool = False) -> Answer:
        """Send bytes as they are and read the answer."""
        if unix:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(20)
            connection.connect(str(self.listening.socket))
        else:
            connection = socket.create_connection(("127.0.0.1", self.listening.port), timeout=20)
        with connection:
            connection.sendall(data)
            with contextlib.closing(http.client.HTTPResponse(connection)) as response:
                response.begin()
                return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def short_directory(short: Path) -> Iterator[Path]:
    """A directory of this test alone."""
    made = Path(tempfile.mkdtemp(dir=short))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def running_server() -> Callable[[Loop, Path], Iterator[Server]]:
    return running


@pytest.fixture
def server(loop: Loop, short_directory: Path) -> Iterator[Server]:
    yield from running(loop, short_directory)


def running(loop: Loop, directory: Path) -> Iterator[Server]:
    with Store(directory / "steno.db") as store, _executor() as thread, _files(directory) as on_files:
        fails: list[bool] = []
        said: dict[str, Any] = {"pid": 1}

        def status() -> dict[str, Any]:
            if fails:
                raise RuntimeError("a secret of the insides")
            return said

        async def on_vault(_: object) -> Any:
            if fails:
                raise RemoteUnreachable(remote="file:///away", reason="no such directory")
            return {"pushed": 0}

        api = Api(store, thread, status, on_vault, on_files, directory / "sessions")
        listening = loop.run(serve(make_app(api, token=TOKEN), port=0, socket_path=directory / "steno.sock"))
        yield Server(listening, store, directory, fails, said)
        loop.run(listening.stop())


@contextlib.contextmanager
def _files(directory: Path) -> Generator[OnFiles]:
    """Calls with a mirror of the same store, on a thread of their own as in the daemon; made when it is first used."""
    made: list[tuple[Store, Mirror]] = []

    def run(call: Callable[[Mirror], Any]) -> Any:
        if not made:
            store = Store(directory / "steno.db")
            made.append((store, Mirror(store, directory / "sessions")))
        return call(made[0][1])

    with _executor() as thread:

        async def on_files(call: Callable[[Mirror], Any], /) -> Any:
            return await asyncio.get_running_loop().run_in_executor(thread, run, call)

        yield on_files
        for store, _ in made:
            thread.submit(store.close).result()


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1)


@pytest.fixture
def client(server: Server) -> DaemonClient:
    """Our own client, which finds the server as it finds a daemon."""
    running = {"pid": 1, "port": server.listening.port, "socket": str(server.listening.socket)}
    server.home.daemon_file.write_text(json.dumps(running), encoding="utf-8")
    server.home.token_file.write_text(server.token + "\n", encoding="utf-8")
    return DaemonClient(server.home)
