"""A consistent copy of a store while others write to it.

A copy is made beside its target, checked, and only then given its name: no half-written backup
ever has one. It is read from one snapshot, so a writer neither waits for it nor prolongs it
(tests/unit/test_backup.py, tests/e2e/test_backup.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .database import Database
from .errors import InvalidInput, LocalStorageError, TargetExists
from .home import private_directory
from .indexing import CURSOR
from .model import format_ms
from .sqlite import MEMORY, dbapi, translated

if TYPE_CHECKING:
    from sqlite3 import Connection

STEP_PAGES = 256
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database, by the end of its name."""

Progress = Callable[[int, int], None]
"""Is told how many pages are copied, and how many there are."""


def backup(store: Database, target: Path, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Copy a store as it is now, with all that was committed before, into a file of its own (0600), durably.

    Raises `TargetExists`, unless it may ``overwrite``, and `LocalStorageError`; then nothing stands there that did not.
    """
    if store.depth:
        raise InvalidInput("a backup is not taken inside a transaction")
    if not overwrite and os.path.lexists(target):
        raise TargetExists(path=str(target))
    _check_place(store, target)
    with beside(target) as temporary:
        if str(store.path) == MEMORY:
            copy(store.connection, temporary, progress)
        else:
            with Database(store.path, read_only=True) as source:
                copy(source.connection, temporary, progress)
        check(temporary, named=store.path)
        publish(temporary, target, overwrite=overwrite)
    return target


def _check_place(store: Database, target: Path) -> None:
    """Raise `InvalidInput` where a backup would take the place of what it is there to save, or of a device."""
    own = [f"{store.path}{end}" for end in ("", *BESIDE)]
    if os.path.realpath(target) in map(os.path.realpath, own) or (
        target.is_file() and Path(store.path).exists() and target.samefile(store.path)
    ):
        raise InvalidInput(f"{target} is the store itself", hint="name another file")
    if target.exists() and not target.is_file():
        raise InvalidInput(f"{target} is no file", hint="name the file to write")


def dated(backups: Path, *, now_ms: int) -> Path:
    """The path of a backup that is taken now (UTC), in a directory that is made if need be; nothing stands there."""
    private_directory(backups)
    stem = "steno-" + format_ms(now_ms)[:19].replace("-", "").replace(":", "").replace("T", "-")
    path, number = backups / f"{stem}.db", 1
    while os.path.lexists(path):
        number += 1
        path = backups / f"{stem}-{number}.db"
    return path


@contextmanager
def beside(target: Path) -> Generator[Path]:
    """A new file beside a target; whatever is left of it is removed at the end."""
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.tmp")
    try:
        if target.is_dir():
            raise InvalidInput(f"{target} is a directory", hint="name the file to write")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        yield temporary
    except OSError as exc:
        raise LocalStorageError(
            f"{target} cannot be written ({exc.strerror})", hint="choose another place, or make room there"
        ) from exc
    finally:
        for path in (temporary, *(temporary.with_name(temporary.name + end) for end in BESIDE)):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def copy(source: Connection, target: Path, progress: Progress | None = None) -> None:
    """Copy a database into an empty file, as one that needs no log beside it."""
    made = dbapi.connect(str(target), isolation_level=None)
    alone = not source.in_transaction
    try:
        # Nobody else has it, and it is made durable as a whole.
        made.execute("PRAGMA journal_mode = OFF")
        made.execute("PRAGMA synchronous = OFF")
        if alone:
            source.execute("BEGIN")
        # Without a snapshot that is held, every commit of another process would make the copy begin again.
        source.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        told = None if progress is None else lambda _, remaining, total: progress(total - remaining, total)
        source.backup(made, pages=STEP_PAGES, progress=told)
    except dbapi.Error as exc:
        raise translated(exc, target) from exc
    finally:
        if alone and source.in_transaction:
            source.execute("ROLLBACK")
        made.close()
    settle(target)


def settle(path: Path) -> None:
    """Let a database be one file, without a log; nobody else may have it open."""
    connection = dbapi.connect(str(path), isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
    except dbapi.Error as exc:
        raise translated(exc, path) from exc
    finally:
        connection.close()


def check(path: Path, *, named: Path) -> None:
    """Raise `LocalStorageError` for a copy that is damaged; only the index may be, which is then left out."""
    if _fault(path) is None:
        return
    with suppress(dbapi.Error), closing(dbapi.connect(str(path), isolation_level=None)) as connection:
        connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
        connection.execute("DELETE FROM cursors WHERE name = ?", (CURSOR,))
    fault = _fault(path)
    if fault is not None:
        raise LocalStorageError(f"{named} is damaged ({fault})", hint="see `steno doctor`, and restore a backup")


def _fault(path: Path) -> str | None:
    with closing(dbapi.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except dbapi.Error as exc:
            return str(exc)
    return None if found == "ok" else found


def publish(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished file its name, durably."""
    fsync(temporary)
    if overwrite:
        temporary.replace(target)
    else:
        try:
            os.link(temporary, target)
        except FileExistsError as exc:
            raise TargetExists(path=str(target)) from exc
        except OSError:  # no links there (FAT): looking first is all that is left
            if os.path.lexists(target):
                raise TargetExists(path=str(target)) from None
            temporary.replace(target)
    fsync(target.parent)


def fsync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
