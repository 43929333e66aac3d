"""One Redis as a store talks to it: connections that threads share, scripts by their hash, its errors as ours.

A connection is taken for one command, which redis-py's own pool makes as dear as the command itself. What was cut
while it stood idle is opened again and the command sent again, so each command here may be done twice
(tests/contract/test_redis_store.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha1
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, MissingDriver, StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from redis import Connection


class Script:
    """A script that Redis knows by its hash once it has seen it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Link:
    """Commands to one Redis, from any thread.

    Raises `MissingDriver` without redis-py, `InvalidInput` for what is no URL; commands raise `StoreUnreachable` and
    `StoreRefused`.
    """

    def __init__(self, url: str) -> None:
        self._errors = _driver().exceptions
        try:
            pool = _driver().ConnectionPool.from_url(url, socket_timeout=10.0, socket_connect_timeout=5.0)
        except ValueError:
            # Not its text, which may quote a password.
            raise InvalidInput("not the URL of a Redis", hint="write it as redis://host:6379/0") from None
        self._connect = lambda: pool.connection_class(**pool.connection_kwargs)
        place = pool.connection_kwargs
        self.server = str(place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}")
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """What a script answers."""
        try:
            return self._answered(("EVALSHA", script.sha, len(keys), *keys, *arguments))
        except self._errors.NoScriptError:
            return self.send("EVAL", script.text, len(keys), *keys, *arguments)
        except self._errors.RedisError as exc:
            raise self._translated(exc) from exc

    def send(self, *command: str | bytes | int) -> Any:
        """What Redis answers to a command."""
        try:
            return self._answered(command)
        except self._errors.RedisError as exc:
            raise self._translated(exc) from exc

    def close(self) -> None:
        """Close the connections that nobody is using; called twice it does nothing."""
        if os.getpid() == self._process:
            self._drop_idle()

    def _answered(self, command: Sequence[str | bytes | int]) -> Any:
        if os.getpid() != self._process:  # the parent goes on with these
            self._process, self._idle = os.getpid(), []
        try:
            idle = self._idle.pop()
        except IndexError:
            return self._exchange(self._connect(), command)
        try:
            return self._exchange(idle, command)
        except self._errors.ConnectionError:
            self._drop_idle()
        return self._exchange(self._connect(), command)

    def _exchange(self, connection: Connection, command: Sequence[str | bytes | int]) -> Any:
        try:
            connection.send_packed_command((_packed(command),))
            answer = connection.read_response()
        except self._errors.ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()  # the rest of an answer may still come
            raise
        self._idle.append(connection)
        return answer

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()

    def _translated(self, exc: Exception) -> StoreRefused | StoreUnreachable:
        errors = self._errors
        refused = isinstance(exc, errors.AuthenticationError | errors.AuthorizationError)
        if not refused and isinstance(exc, errors.ConnectionError | errors.TimeoutError):
            return StoreUnreachable(server=self.server, reason=str(exc))
        return StoreRefused(server=self.server, reason=str(exc))


def _packed(command: Sequence[str | bytes | int]) -> bytes:
    """A command as Redis reads it: redis-py's own takes three times as long."""
    parts = [each if isinstance(each, bytes) else str(each).encode() for each in command]
    return b"".join([b"*%d\r\n" % len(parts), *[b"$%d\r\n%b\r\n" % (len(each), each) for each in parts]])


def _driver() -> ModuleType:
    try:
        import redis  # noqa: PLC0415  an extra
    except ImportError as exc:
        raise MissingDriver(store="RedisSessionStore", extra="redis") from exc
    return redis
