"""Where the contract suites keep their sessions: each of our stores, and two as somebody else writes them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from steno.storage.library.adapter import Adapter
from steno.storage.library.contract import Backend, SessionStore
from steno.storage.library.memory_store import MemorySessionStore
from steno.storage.library.session import Session
from steno.storage.library.sqlite_store import SQLiteSessionStore

BEGAN_MS = 1_795_000_000_000
OURS = ["sqlite", "sqlite, another table", "memory", "redis", "postgres"]
OWN = ["own sync class", "own async class"]
SERVERS = ["redis", "postgres"]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = BEGAN_MS

    def __call__(self) -> int:
        return self.now_ms


class OwnStore(SessionStore):
    """A store as its users write one: whole sessions as text."""

    def __init__(self, clock: Clock) -> None:
        self.kept: dict[str, str] = {}
        self.clock = clock

    def save(self, session: Session) -> None:
        self.kept[session.id] = session.to_json()

    def get(self, session_id: str) -> Session | None:
        text = self.kept.get(session_id)
        return None if text is None else Session.from_json(text, clock=self.clock)

    def delete(self, session_id: str) -> bool:
        return self.kept.pop(session_id, None) is not None

    def list_for_user(self, user_id: str) -> list[Session]:
        return [each for each in self.list_all() if each.user_id == user_id]

    def list_all(self) -> list[Session]:
        return [Session.from_json(text, clock=self.clock) for text in self.kept.values()]


class OwnAsyncStore(SessionStore):
    """The same, all of it async."""

    def __init__(self, clock: Clock) -> None:
        self.plain = OwnStore(clock)

    async def save(self, session: Session) -> None:
        self.plain.save(session)

    async def get(self, session_id: str) -> Session | None:
        return self.plain.get(session_id)

    async def delete(self, session_id: str) -> bool:
        return self.plain.delete(session_id)

    async def list_for_user(self, user_id: str) -> list[Session]:
        return self.plain.list_for_user(user_id)

    async def list_all(self) -> list[Session]:
        return self.plain.list_all()


class Place(NamedTuple):
    """Where sessions are kept: each call opens it once more, as another program would."""

    open: Callable[[], Backend]
    clock: Clock


@contextmanager
def place_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    """A place of a kind of store, empty; servers are asked of the fixtures."""
    clock = Clock()
    opened: list[Backend] = []
    for made in _openers(kind, request, tmp_path, clock):

        def remembered(made: Callable[[], Backend] = made) -> Backend:
            opened.append(made())
            return opened[-1]

        yield Place(remembered, clock)
        for store in opened:
            store.close()


def _openers(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> Iterator[Callable[[], Backend]]:
    if kind == "sqlite":
        yield lambda: SQLiteSessionStore(tmp_path / "sessions.db", clock=clock)
    elif kind == "sqlite, another table":
        yield lambda: SQLiteSessionStore(tmp_path / "sessions.db", "team a", clock=clock)
    elif kind in SERVERS:
        url = request.getfixturevalue(f"{kind}_url")
        yield lambda: on_server(kind, url, request, clock)
    else:
        store: Backend
        if kind == "memory":
            store = MemorySessionStore(clock=clock)
        else:
            store = Adapter(OwnStore(clock) if kind == "own sync class" else OwnAsyncStore(clock))
            store.clock = clock
        yield lambda: store


def on_server(kind: str, url: str, request: pytest.FixtureRequest, clock: Clock, **options: Any) -> Backend:
    """A store on a server, in the test's own place there."""
    if kind == "redis":
        from steno.storage.library.redis_store import RedisSessionStore

        return RedisSessionStore(url, request.getfixturevalue("redis_prefix"), clock=clock, **options)
    from steno.storage.library.postgres_store import PostgresSessionStore

    return PostgresSessionStore(url, schema=request.getfixturevalue("postgres_schema"), clock=clock, **options)


def made(store: Backend, session_id: str = "one", *texts: str, **options: Any) -> Session:
    """A session that is in the store, with a message of a user for each text."""
    session = Session(session_id, clock=store.clock, **options)
    for text in texts:
        session.add_message("user", text)
    store.save(session)
    return session


def loaded(store: Backend, session_id: str = "one") -> Session:
    """A session as the store gives it."""
    session = store.get(session_id)
    assert session is not None
    return session


def contents(store: Backend, session_id: str = "one") -> list[Any]:
    """The contents of a session's messages in the store."""
    return [message.content for message in loaded(store, session_id).messages]


class Cost(NamedTuple):
    """Bytes to a server, bytes back, and how often something was sent and waited for."""

    bytes_sent: int
    bytes_answered: int
    turns: int


class Wire:
    """A place between a program and a server that counts what goes through."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{parts.port}", f":{port}", 1)
        self.bytes_sent = self.bytes_answered = self.turns = 0
        self._waiting = self._losing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                for source, target, answers in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._carry, args=(source, target, answers), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self._losing:
                    self._losing = False
                    break
                if answers:
                    self.bytes_answered += len(data)
                    self._waiting = False
                else:
                    self.bytes_sent += len(data)
                    self.turns += not self._waiting
                    self._waiting = True
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # the other thread waits on it, and a mere close would leave it so
            each.close()

    def lose_next_answer(self) -> None:
        """Cut the connection instead of bringing what the server answers next."""
        self._losing = True

    def cost(self, call: Callable[[], object]) -> Cost:
        """What goes through while a call lasts."""
        before = Cost(self.bytes_sent, self.bytes_answered, self.turns)
        call()
        return Cost(
            self.bytes_sent - before.bytes_sent, self.bytes_answered - before.bytes_answered, self.turns - before.turns
        )

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
