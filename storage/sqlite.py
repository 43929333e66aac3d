"""The one SQLite library of this process, and how a connection is opened.

SQLite before 3.51.3 (3.50.7, 3.44.6 in the older lines) can corrupt a database when a WAL is
reset while another process checkpoints. Where the platform's library has the bug, `pysqlite3`
brings a fixed one; where neither is fixed, `FIXED` is False and writers take a file lock.
Everything else imports `dbapi` from here: two SQLite libraries in one process break each
other's locks.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DatabaseDamaged, LocalStorageError, NoHome
from .packing import attach

if TYPE_CHECKING:
    import sqlite3 as dbapi
    from sqlite3 import Connection

_FIXED_FROM = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def _has_the_fix(version: tuple[int, ...]) -> bool:
    newest, *older = _FIXED_FROM
    return version >= newest or any(fixed <= version < (*fixed[:2], 1000) for fixed in older)


def _library() -> Any:
    import sqlite3 as standard  # noqa: PLC0415  the choice is made here, once

    if _has_the_fix(standard.sqlite_version_info):
        return standard
    try:
        from pysqlite3 import dbapi2 as bundled  # noqa: PLC0415  a platform without wheels has no such module
    except ImportError:
        return standard
    return bundled if bundled.sqlite_version_info > standard.sqlite_version_info else standard


if not TYPE_CHECKING:
    dbapi = _library()

FIXED = _has_the_fix(dbapi.sqlite_version_info)
BUSY_TIMEOUT_MS = 20_000
MEMORY = ":memory:"


def connect(path: Path, *, read_only: bool, durability: str, compress: bool) -> Connection:
    """Open a database file (mode 0600 where it is made).

    The path `MEMORY` is none: such a database ends with its connection. ``durability`` is "normal" or "full";
    ``compress`` says whether large contents are written compressed.
    """
    if read_only and not path.exists():
        raise NoHome(home=str(path.parent))
    try:
        if str(path) == MEMORY:
            return _opened("file::memory:", compress=compress)
        if not read_only and not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        connection = _opened(address, compress=compress)
        if read_only and not _room_beside(connection) and not _has_log(path):
            connection.close()
            connection = _opened(f"{address}&immutable=1", compress=compress)
        if not read_only:
            _use_wal(connection)
            connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
    except OSError as exc:
        raise LocalStorageError(f"{path} cannot be opened ({exc.strerror})") from exc
    except dbapi.Error as exc:
        raise translated(exc, path) from exc
    return connection


def _opened(address: str, *, compress: bool) -> Connection:
    connection = dbapi.connect(address, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.create_function("folded", 1, str.casefold, deterministic=True)
    attach(connection, compress=compress)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return connection


def _room_beside(connection: Connection) -> bool:
    """Say whether the files can be made that even a reader of a WAL database needs beside it."""
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except dbapi.OperationalError as exc:
        return not any(reason in str(exc) for reason in ("disk I/O error", "unable to open"))
    except dbapi.Error:
        return True  # the reader's first question tells
    return True


def _has_log(path: Path) -> bool:
    """Say whether something may stand in the log that is not in the database yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _use_wal(connection: Connection) -> None:
    """Change to WAL; unlike everything else this does not wait for a lock by itself."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except dbapi.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def translated(exc: Exception, path: Path) -> LocalStorageError:
    """The error that a person is told for an error of SQLite."""
    reason = str(exc)
    if "full" in reason:
        return LocalStorageError(
            f"no room left for {path} ({reason})", hint="free some space; nothing was half-written"
        )
    if "malformed" in reason or "not a database" in reason:
        return DatabaseDamaged(path=str(path), reason=reason)
    if "locked" in reason or "busy" in reason:
        return LocalStorageError(f"{path} is in use by another process ({reason})", hint="run it again")
    return LocalStorageError(f"{path}: {reason}")
