"""A remote in PostgreSQL: one table, a row for each object.

A put is one statement, which also notifies whoever listens, so that a row is seen whole or not
at all, and news comes at once. The table is made by the first put; until then the remote is an
empty one (tests/contract/test_remotes.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...storage.errors import (
    InvalidInput,
    MissingDriver,
    ObjectDamaged,
    ObjectMissing,
    RemoteUnreachable,
    StenoError,
)
from .credentials import refused
from .deadlines import CONNECT_TIMEOUT_S, TRANSFER_TIMEOUT_S
from .listed import MAX_NAME_BYTES, Listed
from .names import MAX_OBJECT_BYTES, check_name
from .trust import on_the_certificate

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as exc:
    raise MissingDriver(store="a remote in PostgreSQL", extra="postgres") from exc

_CONNECTIONS = 8
_PAGE_NAMES = 10_000
_REASON_LENGTH = 160
_DEFAULT_TABLE = "steno_objects"
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_OPTIONS = {"sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs", "user"}
_SECRETS = {"password", "passfile", "sslpassword"}
_REFUSALS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied", "no password")
"""What libpq says of a connection that will be refused tomorrow as well: it gives no code."""
_PASSING = ("08", "40", "57", "58", "53200", "53300", "55")
"""Gone, in each other's way, shutting down, a disk that fails, short of memory or connections, locked."""

# EXTERNAL: what is sealed cannot be compressed, and the length of what is not is known without reading it.
_MAKE = """
SELECT pg_advisory_xact_lock(hashtext('{table}'));
CREATE TABLE IF NOT EXISTS {table} (
    directory text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, data bytea NOT NULL,
    PRIMARY KEY (directory, name)
);
ALTER TABLE {table} ALTER data SET STORAGE EXTERNAL"""
_PUT = """
WITH put AS (
    INSERT INTO {table} VALUES (%s, %s, %b) ON CONFLICT (directory, name) DO UPDATE SET data = excluded.data RETURNING 1
) SELECT pg_notify('{table}', %s) FROM put"""
_GET = """
SELECT CASE WHEN octet_length(data) <= %s THEN data END FROM {table} WHERE directory = %s AND name = %s"""
_PAGE = """
SELECT name FROM {table} WHERE directory = %s AND name > %s AND octet_length(name) <= %s ORDER BY name LIMIT %s"""
_DELETE = "DELETE FROM {table} WHERE directory = %s AND name = %s"

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresRemote:
    """A `Remote` in one table of a PostgreSQL database: each vault has its own."""

    folder: Path | None = None

    def __init__(
        self, conninfo: Mapping[str, str], *, address: str, table: str, timeout_s: float = TRANSFER_TIMEOUT_S
    ) -> None:
        self.address = address
        self.requests: Counter[str] = Counter()
        self._conninfo: dict[str, Any] = {**conninfo}
        self._table = table
        self._timeout_s = timeout_s
        self._me = secrets.token_hex(8)
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(_CONNECTIONS)
        self._listener: _Connection | None = None

    async def put(self, name: str, data: bytes) -> None:
        """Store an object."""
        self.requests["put"] += 1
        values = (*_place(check_name(name)), data, self._me)
        with self._translated():
            try:
                await self._run(_PUT, values)
            except psycopg.errors.UndefinedTable:
                await self._run(_MAKE)
                await self._run(_PUT, values)

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The object; raise `ObjectMissing`, or `ObjectDamaged` if it is larger than ``limit_bytes``."""
        self.requests["get"] += 1
        values = (limit_bytes, *_place(check_name(name)))
        with self._translated(), contextlib.suppress(psycopg.errors.UndefinedTable):
            for (data,) in await self._run(_GET, values):
                if data is None:
                    raise ObjectDamaged(name=name, reason=f"larger than {limit_bytes} bytes")
                return data
        raise ObjectMissing(name=name)

    async def list(self, prefix: str) -> list[str]:
        """The names of one directory, sorted; [] if it is absent."""
        self.requests["list"] += 1
        listed, last = Listed(self.address, prefix), ""
        with self._translated(), contextlib.suppress(psycopg.errors.UndefinedTable):
            while last is not None:
                names = [name for (name,) in await self._run(_PAGE, (prefix, last, MAX_NAME_BYTES, _PAGE_NAMES))]
                listed.add(prefix + name for name in names)
                last = names[-1] if len(names) == _PAGE_NAMES else None
        return listed.all()

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self.requests["delete"] += 1
        values = _place(check_name(name))
        with self._translated(), contextlib.suppress(psycopg.errors.UndefinedTable):
            await self._run(_DELETE, values)

    async def news(self, *, timeout_s: float) -> bool:
        """Wait until another device put something."""
        with self._translated():
            if self._listener is None or self._listener.closed:
                try:
                    async with asyncio.timeout(timeout_s):
                        self._listener = await self._listening()
                except TimeoutError:
                    return False
                return True
            async with contextlib.aclosing(self._listener.notifies(timeout=timeout_s)) as notices:
                async for notice in notices:
                    if notice.payload != self._me:
                        return True
            return False

    async def close(self) -> None:
        """Close the connections."""
        connections = [*self._idle, *([] if self._listener is None else [self._listener])]
        self._idle, self._listener = [], None
        for connection in connections:
            await connection.close()

    async def _run(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of an answer. What was cut while it stood idle is opened again, and asked again."""
        async with self._room:
            idle = self._idle.pop() if self._idle else None
            if idle is not None:
                try:
                    return await self._asked(idle, query, values)
                except psycopg.OperationalError:
                    if not idle.closed:
                        raise
            return await self._asked(await self._connected(), query, values)

    async def _asked(self, connection: _Connection, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return await self._in_time(connection, query, values)
        finally:
            if not connection.closed:
                self._idle.append(connection)

    async def _in_time(self, connection: _Connection, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of an answer; who does not get one in time, or is cancelled, hangs up.

        A driver that is cancelled asks the server to stop, and waits for that: a dead one would hold up whoever stops.
        """
        task = asyncio.create_task(_rows(connection, query.format(table=self._table), values))
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
        finally:
            if not task.done():
                connection.pgconn.finish()
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise TimeoutError
        return task.result()

    async def _connected(self) -> _Connection:
        # Nothing is prepared: poolers that hand out a connection for one statement would not know it again.
        async with asyncio.timeout(min(self._timeout_s, CONNECT_TIMEOUT_S)):
            return await psycopg.AsyncConnection.connect(**self._conninfo, autocommit=True, prepare_threshold=None)

    async def _listening(self) -> _Connection:
        connection = await self._connected()
        try:
            await self._in_time(connection, 'LISTEN "{table}"')
        except BaseException:
            await connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        """Raise our error for whatever PostgreSQL, its driver or the time raises inside."""
        try:
            yield
        except (psycopg.Error, OSError) as exc:  # TimeoutError is an OSError
            raise translated(exc, remote=self.address) from exc


async def _rows(connection: _Connection, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    # Several statements in one go are possible only without values, and in text.
    cursor = await connection.execute(query.encode(), values or None, binary=bool(values))
    return await cursor.fetchall() if cursor.description else []


def _place(name: str) -> tuple[str, str]:
    """The directory of a name, with its slash, and the rest."""
    directory, slash, last = name.rpartition("/")
    return directory + slash, last


def postgres_remote(url: str, *, options: Mapping[str, str], settings: Mapping[str, str]) -> PostgresRemote:
    """The remote at ``postgresql://host:port/database?table=…``.

    What the address leaves open libpq takes from where it always does (``PGPASSWORD``, ``~/.pgpass``, …). ``settings``
    may hold ``password``, ``passfile`` and whatever an address may hold.
    """
    table = options.get("table", _DEFAULT_TABLE)
    unknown = sorted(options.keys() - _OPTIONS - {"table"})
    if unknown or not _TABLE.fullmatch(table):
        wrong = f"it has no option {unknown[0]}" if unknown else "a table is a name of a-z, 0-9 and _"
        raise InvalidInput(f"not the address of a PostgreSQL: {url} ({wrong})", hint=_HINT)
    known = {name: value for name, value in settings.items() if name in _OPTIONS | _SECRETS}
    more = {name: value for name, value in options.items() if name != "table"}
    try:
        place = conninfo_to_dict(url.partition("?")[0])
    except psycopg.Error:
        raise InvalidInput(f"not the address of a PostgreSQL: {url}", hint=_HINT) from None
    conninfo = {name: str(value) for name, value in {**known, **place, **more}.items() if value is not None}
    return PostgresRemote(conninfo, address=url, table=table)


def translated(exc: Exception, *, remote: str) -> StenoError:
    """Our error for one of psycopg's or of the system's."""
    reason = " ".join(str(exc).partition("\n")[0].split())[:_REASON_LENGTH] or "it did not answer in time"
    code = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    if code is None:
        passing = isinstance(exc, psycopg.OperationalError | OSError) and not any(each in reason for each in _REFUSALS)
    else:
        passing = code.startswith(_PASSING)
    kind = RemoteUnreachable if passing else refused
    return kind(remote=remote, reason=reason + on_the_certificate(str(exc), authority="?sslrootcert= in the address"))


_HINT = "write it as postgresql://host:5432/database?table=steno_objects"
