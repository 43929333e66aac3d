"""One PostgreSQL database as a store talks to it: a pool of connections, one schema, its errors as ours.

What was cut while it stood idle is opened again and the work done again, so each piece of work may be done twice
(tests/contract/test_postgres_store.py).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidInput, MissingDriver, StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

T = TypeVar("T")
Row = tuple[Any, ...]

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_REFUSALS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied")
"""What libpq says of a connection that will be refused tomorrow as well: it gives no code."""
_GONE = ("08", "57P", "53300")


class Work:
    """Statements on one connection; each is committed by itself, unless a transaction is open.

    Tables are named ``steno.…``, whatever the schema is called.
    """

    def __init__(self, connection: Connection[Row], schema: str, *, duplicate: type[Exception]) -> None:
        self.connection = connection
        self.schema = schema
        self.duplicate = duplicate
        """What is raised where a row is there already."""

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """All rows of an answer."""
        return self.connection.execute(_named(sql, self.schema), values or None).fetchall()

    def row(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row of an answer."""
        return self.connection.execute(_named(sql, self.schema), values or None).fetchone()

    def do(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> int:
        """How many rows a statement changed; without values it may be several statements."""
        return self.connection.execute(_named(sql, self.schema), values or None).rowcount

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All statements of the block, or none."""
        with self.connection.transaction():
            yield


class Link:
    """Work on one database, from any thread.

    ``prepare`` is the first work of all. Raises `MissingDriver` without psycopg and its pool, `InvalidInput` for what
    is no URL or schema; work raises `StoreUnreachable` and `StoreRefused`.
    """

    def __init__(self, url: str, *, schema: str, pool_size: int, prepare: Callable[[Work], None]) -> None:
        if not _SCHEMA.fullmatch(schema):
            raise InvalidInput("schema must be a name of a-z, 0-9 and _")
        if pool_size < 1:
            raise InvalidInput("pool_size must be at least 1")
        self._psycopg, self._pools = _drivers()
        try:
            place = self._psycopg.conninfo.conninfo_to_dict(url)
        except self._psycopg.Error:
            # Not its text, which may quote a password.
            raise InvalidInput(
                "not the URL of a PostgreSQL", hint="write it as postgresql://user@host:5432/database"
            ) from None
        self.server = f"{place.get('host') or 'localhost'}:{place.get('port') or 5432}/{place.get('dbname') or ''}"
        self._url, self._schema, self._size, self._prepare = url, schema, pool_size, prepare
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._pool: ConnectionPool[Connection[Row]] | None = None

    def run(self, work: Callable[[Work], T]) -> T:
        """Do some work on a connection of the pool, and give its result."""
        errors = self._psycopg
        try:
            try:
                return self._once(work)
            except errors.OperationalError as exc:
                if self._pool is None or not _gone(exc) or isinstance(exc, self._pools.PoolTimeout):
                    raise
                self._pool.check()
                return self._once(work)
        except errors.OperationalError as exc:
            raise self._translated(exc) from exc
        except errors.Error as exc:
            raise StoreRefused(server=self.server, reason=_line(exc)) from exc

    def close(self) -> None:
        """Close the connections; the next work opens others."""
        if os.getpid() == self._process:
            with self._opening:
                pool, self._pool = self._pool, None
            if pool is not None:
                pool.close()

    def _once(self, work: Callable[[Work], T]) -> T:
        with self._opened().connection() as connection:
            return work(self._work(connection))

    def _opened(self) -> ConnectionPool[Connection[Row]]:
        if os.getpid() != self._process:  # the parent goes on with its own
            _OF_PARENTS.append(self._pool)
            self._begin()
        if self._pool is None:
            with self._opening:
                if self._pool is None:
                    self._pool = self._made()
        return self._pool

    def _made(self) -> ConnectionPool[Connection[Row]]:
        options = {"autocommit": True, "client_encoding": "utf8"}
        with self._psycopg.connect(self._url, **options) as first:  # says at once what is wrong; a pool tries again
            self._prepare(self._work(first))
        return self._pools.ConnectionPool(
            self._url,
            kwargs=options,
            configure=_configure,
            min_size=1,
            max_size=self._size,
            open=True,
            name="steno",
        )

    def _work(self, connection: Connection[Row]) -> Work:
        return Work(connection, self._schema, duplicate=self._psycopg.errors.UniqueViolation)

    def _translated(self, exc: Exception) -> StoreUnreachable | StoreRefused:
        refused = any(each in str(exc) for each in _REFUSALS)
        kind = StoreUnreachable if _gone(exc) and not refused else StoreRefused
        return kind(server=self.server, reason=_line(exc))


def _configure(connection: Connection[Row]) -> None:
    # Whoever waited for a row must see it as the other left it. And each statement here finds its rows by an index,
    # whatever the values: planning an append anew each time takes nearly as long as doing it.
    connection.execute("SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_generic_plan")


_OF_PARENTS: list[Any] = []
"""Pools that a fork brought along: were they let go, they would say farewell on the parent's connections."""


def _gone(exc: Any) -> bool:
    """Say whether the connection is what failed."""
    return exc.sqlstate is None or exc.sqlstate.startswith(_GONE)


def _line(exc: Exception) -> str:
    return str(exc).partition("\n")[0]


@lru_cache(maxsize=256)
def _named(sql: str, schema: str) -> bytes:
    return sql.replace("steno.", f'"{schema}".').encode()


def _drivers() -> tuple[ModuleType, ModuleType]:
    try:
        import psycopg  # noqa: PLC0415  an extra
        import psycopg_pool  # noqa: PLC0415  an extra
    except ImportError as exc:
        raise MissingDriver(store="PostgresSessionStore", extra="postgres") from exc
    return psycopg, psycopg_pool
