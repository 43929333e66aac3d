"""A remote in Redis: an object is a key, and the names of a directory are a set beside it.

Both change in one transaction, which also says so to whoever listens, so that a name is listed
exactly when its object is whole, and news comes at once. An object that Redis threw out for want
of memory is listed and missing; a directory that it threw out lists as empty: neither is a
deletion to anybody (tests/contract/test_remotes.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ...storage.errors import (
    InvalidInput,
    MissingDriver,
    ObjectDamaged,
    ObjectMissing,
    RemoteUnreachable,
    StenoError,
)
from .credentials import refused
from .deadlines import CONNECT_TIMEOUT_S, TIMEOUT_S, TRANSFER_TIMEOUT_S
from .listed import MAX_NAME_BYTES, Listed
from .names import MAX_OBJECT_BYTES, check_name
from .trust import on_the_certificate

try:
    from redis import exceptions as foreign
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ImportError as exc:
    raise MissingDriver(store="a remote in Redis", extra="redis") from exc

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

_CONNECTIONS = 9  # eight transfers, and one that listens
_GRACE_S = 1.0  # for who waits for news: only a server that falls silent while a connection is made anew needs it
_REASON_LENGTH = 160
_DEFAULT_PREFIX = "steno"
_PREFIX = re.compile(r"[\w.:{}-]{1,100}", re.ASCII)
_DATABASE = re.compile(r"/?|/[0-9]{1,9}/?")
_PASSING = ("LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS")
_SIZED = """
local size = redis.call('STRLEN', KEYS[1])
if size > tonumber(ARGV[1]) then return size end
return redis.call('GET', KEYS[1])
"""
"""An object, or its size where that is above the limit: one round trip, and nothing too large leaves the server."""
_PAGE = """
local page = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', 1000)
local names = {}
for _, name in ipairs(page[2]) do
    if #name <= tonumber(ARGV[2]) then names[#names + 1] = name end
end
return {page[1], names}
"""
"""Some of the names of a directory, and where the others go on: whatever stands there, an answer is a small one."""


class RedisRemote:
    """A `Remote` in one database of a Redis, below a prefix: several vaults may share it."""

    folder: Path | None = None

    def __init__(self, client: Redis, *, address: str, prefix: str, timeout_s: float = TRANSFER_TIMEOUT_S) -> None:
        self.address = address
        self.requests: Counter[str] = Counter()
        self._client = client
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._me = secrets.token_bytes(8)
        self._listener: PubSub | None = None

    async def put(self, name: str, data: bytes) -> None:
        """Store an object."""
        self.requests["put"] += 1
        key, names = self._key(check_name(name)), self._names(name)
        async with self._translated(), self._client.pipeline(transaction=True) as together:
            together.set(key, data)
            together.sadd(names, name)
            together.publish(self._news, self._me)
            await together.execute()

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The object; raise `ObjectMissing`, or `ObjectDamaged` if it is larger than ``limit_bytes``."""
        self.requests["get"] += 1
        key = self._key(check_name(name))
        async with self._translated():
            found: Any = await self._client.execute_command("EVAL", _SIZED, 1, key, limit_bytes)
        if found is None:
            raise ObjectMissing(name=name)
        if isinstance(found, int):
            raise ObjectDamaged(name=name, reason=f"larger than {limit_bytes} bytes")
        return found

    async def list(self, prefix: str) -> list[str]:
        """The names of one directory, sorted; [] if it is absent."""
        self.requests["list"] += 1
        listed = Listed(self.address, prefix)
        names, at = self._names(prefix), b"0"
        async with self._translated():
            while at is not None:
                page: Any = await self._client.execute_command("EVAL", _PAGE, 1, names, at, MAX_NAME_BYTES)
                listed.add(name.decode(errors="replace") for name in page[1])
                at = page[0] if page[0] != b"0" else None
        return listed.all()

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self.requests["delete"] += 1
        key, names = self._key(check_name(name)), self._names(name)
        async with self._translated(), self._client.pipeline(transaction=True) as together:
            together.delete(key)
            together.srem(names, name)
            await together.execute()

    async def news(self, *, timeout_s: float) -> bool:
        """Wait until another device put something."""
        end = time.monotonic() + timeout_s
        try:
            listener = await self._listening(timeout_s)
            async with asyncio.timeout(timeout_s + _GRACE_S):
                while (left_s := end - time.monotonic()) > 0:
                    said = await listener.get_message(timeout=left_s)
                    # That it is heard at all is news as well: a connection that broke is made anew in there.
                    if said is not None and said["data"] != self._me:
                        return True
        except TimeoutError:
            return False
        except (foreign.RedisError, OSError) as exc:
            await self._stop_listening()
            raise translated(exc, remote=self.address) from exc
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._stop_listening()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _listening(self, timeout_s: float) -> PubSub:
        if self._listener is None:
            listener = self._client.pubsub()
            try:
                async with asyncio.timeout(timeout_s):
                    await listener.subscribe(self._news)
            except BaseException:
                await listener.aclose()
                raise
            self._listener = listener
        return self._listener

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(foreign.RedisError, OSError):
                await listener.aclose()

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncGenerator[None]:
        """Raise our error for whatever Redis, its driver or the time raises inside."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (foreign.RedisError, OSError) as exc:  # TimeoutError is an OSError
            raise translated(exc, remote=self.address) from exc

    @property
    def _news(self) -> str:
        return f"{self._prefix}:news"

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _names(self, name: str) -> str:
        """The key of the set that names what lies in the directory of a name."""
        directory, slash, _ = name.rpartition("/")
        return f"{self._prefix}:names:{directory}{slash}"


def redis_remote(url: str, *, options: Mapping[str, str], settings: Mapping[str, str]) -> RedisRemote:
    """The remote at ``redis://host:port/database?prefix=…`` (``rediss``: over TLS).

    ``settings`` may hold ``username``, ``password``, and for TLS ``ssl_ca_certs``.
    """
    parts = urlsplit(url)
    unknown = sorted(options.keys() - {"prefix"})
    prefix = options.get("prefix", _DEFAULT_PREFIX)
    if unknown or not _PREFIX.fullmatch(prefix) or not _DATABASE.fullmatch(unquote(parts.path)):
        wrong = f"it has no option {unknown[0]}" if unknown else "its database is a number, its prefix a short word"
        raise InvalidInput(f"not the address of a Redis: {url} ({wrong})", hint=_HINT)
    known = ["username", "password", *(["ssl_ca_certs"] if parts.scheme == "rediss" else [])]
    try:
        pool = BlockingConnectionPool.from_url(
            url.partition("?")[0],
            max_connections=_CONNECTIONS,
            timeout=TIMEOUT_S,
            protocol=2,
            socket_timeout=None,  # ours are around each call; redis-py's loses cancellations before Python 3.12
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1, supported_errors=(foreign.ConnectionError,)),  # one that was cut while idle
            **{name: settings[name] for name in known if name in settings},
        )
    except ValueError:
        raise InvalidInput(f"not the address of a Redis: {url}", hint=_HINT) from None
    return RedisRemote(Redis(connection_pool=pool), address=url, prefix=prefix)


def translated(exc: Exception, *, remote: str) -> StenoError:
    """Our error for one of redis-py's or of the system's."""
    reason = " ".join(str(exc).split())[:_REASON_LENGTH] or "it did not answer in time"
    told_who_we_are = isinstance(exc, foreign.AuthenticationError | foreign.AuthorizationError)
    passing = isinstance(exc, foreign.ConnectionError | foreign.TimeoutError | OSError) or reason.startswith(_PASSING)
    if passing and not told_who_we_are:
        no_file = "; STENO_REDIS_SSL_CA_CERTS names no file" if os.strerror(errno.ENOENT) in reason else ""
        return RemoteUnreachable(remote=remote, reason=reason + no_file + on_the_certificate(str(exc)))
    return refused(remote=remote, reason=reason)


_HINT = "write it as redis://host:6379/0?prefix=steno"
