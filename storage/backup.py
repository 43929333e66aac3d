"""A consistent copy of a store while others write to it, and putting such a copy in the store's place.

A copy is made beside its target, checked, and only then given its name: no half-written backup
ever has one. It is read from one snapshot, so a writer neither waits for it nor prolongs it.
What is restored goes on as another device: after the backup was taken this one may have published
more, and must not use the same numbers and stamps again (docs/decisions/, tests/unit/test_backup.py,
tests/e2e/test_backup.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .database import Database
from .errors import InvalidInput, LocalStorageError, NewerSchema, TargetExists
from .home import private_directory
from .indexing import CURSOR
from .model import format_ms
from .schema import VERSION
from .sqlite import MEMORY, dbapi, translated
from .stamps import plausible

if TYPE_CHECKING:
    from sqlite3 import Connection

STEP_PAGES = 256
PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.02
_BESIDE = ("-wal", "-shm", "-journal")
_NAME_A_BACKUP = "name a file that `steno backup` wrote"

Progress = Callable[[int, int], None]
"""Is told how many pages are copied, and how many there are."""


class Restored(msgspec.Struct, frozen=True):
    """A store whose place a backup took: the id that it goes on under, and where what it replaced is kept."""

    database: Path
    device: str
    kept: Path | None


def backup(store: Database, target: Path, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Copy a store as it is now, with all that was committed before, into a file of its own (0600), durably.

    Raises `TargetExists`, unless it may ``overwrite``, and `LocalStorageError`; then nothing stands there that did not.
    """
    if store.depth:
        raise InvalidInput("a backup is not taken inside a transaction")
    if not overwrite and os.path.lexists(target):
        raise TargetExists(path=str(target))
    with _beside(target) as temporary:
        if str(store.path) == MEMORY:
            _copy(store.connection, temporary, progress)
        else:
            with Database(store.path, read_only=True) as source:
                _copy(source.connection, temporary, progress)
        _check(temporary, named=store.path)
        _publish(temporary, target, overwrite=overwrite)
    return target


def dated(backups: Path, *, now_ms: int) -> Path:
    """The path of a backup that is taken now (UTC), in a directory that is made if need be; nothing stands there."""
    private_directory(backups)
    stem = "steno-" + format_ms(now_ms)[:19].replace("-", "").replace(":", "").replace("T", "-")
    path, number = backups / f"{stem}.db", 1
    while os.path.lexists(path):
        number += 1
        path = backups / f"{stem}-{number}.db"
    return path


def restore(source: Path, database: Path, *, backups: Path, progress: Progress | None = None) -> Restored:
    """Put a backup in the place of a store, under a new identity; what it replaces is kept in ``backups``.

    Killed anywhere it leaves the one or the other. Raises `InvalidInput` for what is no store, `NewerSchema`, and
    `LocalStorageError`: also where the backup is damaged, and where another process has the store open.
    """
    if not source.is_file() or (database.exists() and source.samefile(database)):
        raise InvalidInput(f"{source} is no backup", hint=_NAME_A_BACKUP)
    database = database.resolve()
    private_directory(database.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=database.parent) as folder:
            staged = Path(folder) / database.name
            _stage(source, staged, progress)
            with _alone(database) as replaced:
                device = _identify(staged, replaced)
                kept = _keep(database, replaced, backups)
                staged.replace(database)
                _fsync(database.parent)
    except OSError as exc:
        raise LocalStorageError(f"{database} cannot be replaced ({exc.strerror})") from exc
    return Restored(database, device, kept)


# Making a copy


@contextmanager
def _beside(target: Path) -> Generator[Path]:
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
        for path in (temporary, *(temporary.with_name(temporary.name + end) for end in _BESIDE)):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _copy(source: Connection, target: Path, progress: Progress | None = None) -> None:
    """Copy a database into an empty file, as one that needs no log beside it."""
    copy = dbapi.connect(str(target), isolation_level=None)
    alone = not source.in_transaction
    try:
        # Nobody else has it, and it is made durable as a whole.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        if alone:
            source.execute("BEGIN")
        # Without a snapshot that is held, every commit of another process would make the copy begin again.
        source.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        told = None if progress is None else lambda _, remaining, total: progress(total - remaining, total)
        source.backup(copy, pages=STEP_PAGES, progress=told)
    except dbapi.Error as exc:
        raise translated(exc, target) from exc
    finally:
        if alone and source.in_transaction:
            source.execute("ROLLBACK")
        copy.close()
    _settle(target)


def _settle(path: Path) -> None:
    """Let a database be one file, without a log; nobody else may have it open."""
    connection = dbapi.connect(str(path), isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
    except dbapi.Error as exc:
        raise translated(exc, path) from exc
    finally:
        connection.close()


def _check(path: Path, *, named: Path) -> None:
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


def _publish(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished file its name, durably."""
    _fsync(temporary)
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
    _fsync(target.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Putting one in place


def _stage(source: Path, staged: Path, progress: Progress | None) -> None:
    """Copy a backup to where it can be looked at and brought up to this version; raises as `restore` does."""
    # As any program opens it: it may be a plain copy with a log beside it.
    opened = dbapi.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        if _version(opened, source) > VERSION:
            raise NewerSchema(path=str(source))
        staged.touch(mode=0o600)
        _copy(opened, staged, progress)
    finally:
        opened.close()
    _check(staged, named=source)
    Database(staged).close()  # migrates an older one


def _version(opened: Connection, source: Path) -> int:
    """The schema's version of what may be a store; raises `InvalidInput`."""
    try:
        version = int(opened.execute("PRAGMA user_version").fetchone()[0])
        tables = opened.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'clock', 'sessions')")
        if version and tables.fetchone()[0] == 3:
            return version
        reason = "it has other tables"
    except dbapi.Error as exc:
        reason = str(exc)
    raise InvalidInput(f"{source} is no store of steno ({reason})", hint=_NAME_A_BACKUP)


@contextmanager
def _alone(database: Path) -> Generator[Connection | None]:
    """Have a database to ourselves, as one file without a log; None where there is none, or none that opens.

    Whoever had opened it before would write on into a file that has no name any more, and whoever opens it while it
    is replaced is refused by SQLite, which sees that the file was moved.
    """
    if not database.exists():
        yield None
        return
    connection = dbapi.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    try:
        yield connection if _taken(connection, database) else None
    finally:
        connection.close()


def _taken(connection: Connection, database: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = DELETE")  # only ever granted to who is alone
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # the lock is kept; out of a transaction that writes nothing can be copied
        except dbapi.Error as exc:
            if any(reason in str(exc) for reason in ("malformed", "not a database")):
                return False
            if "locked" not in str(exc):
                raise translated(exc, database) from exc
            if time.monotonic() > deadline:
                raise LocalStorageError(
                    f"{database} is in use by another process", hint="stop what has it open, then run it again"
                ) from exc
            time.sleep(_LOOK_EVERY_S)
        else:
            return True


def _identify(staged: Path, replaced: Connection | None) -> str:
    """Let a restored store go on as another device, ahead of all numbers and times that the replaced one gave."""
    former, seq, clock = _reached(replaced)
    with Database(staged) as store, store.transaction():
        device = store.random(12)
        store.device_no(device)
        names = [store.device, *store.former_devices, *former]
        store.set_meta("formerly", " ".join(dict.fromkeys(names)))
        store.set_meta("device", device)
        store.set_meta("store", store.random(8))
        store.execute("UPDATE clock SET seq = max(seq, ?), hlc = max(hlc, ?)", (seq, clock))
        store.set_cursor("files", 0)  # they are written anew, under the new name
    _settle(staged)
    _fsync(staged)
    return device


def _reached(replaced: Connection | None) -> tuple[Sequence[str], int, int]:
    """The ids that a store had, the greatest number of its feed, and its clock; nothing where it cannot be read."""
    if replaced is None:
        return [], 0, 0
    try:
        names = replaced.execute("SELECT value FROM meta WHERE key IN ('device', 'formerly') ORDER BY key").fetchall()
        seq, clock = replaced.execute(
            "SELECT max(seq, ifnull((SELECT max(seq) FROM messages), 0)), "
            "max(hlc, ifnull((SELECT clock FROM messages ORDER BY seq DESC LIMIT 1), 0)) FROM clock"
        ).fetchone()
    except dbapi.Error:
        return [], 0, 0
    return " ".join(name for (name,) in names).split(), seq, clock if plausible(clock) else 0


def _keep(database: Path, replaced: Connection | None, backups: Path) -> Path | None:
    """Keep what is about to be replaced, and leave no log of it that SQLite would take for the new one's."""
    present = [path for end in ("", *_BESIDE) if (path := database.with_name(database.name + end)).exists()]
    if not present:
        return None
    kept = dated(backups, now_ms=time.time_ns() // 1_000_000)
    if database in present:
        # A copy, not a second name: after a crash in the next moment two names would lead to one living database.
        with _beside(kept) as temporary:
            if replaced is None:
                shutil.copyfile(database, temporary)
            else:
                _copy(replaced, temporary)
            _publish(temporary, kept, overwrite=False)
    for path in present:
        if path != database:
            shutil.move(path, kept.with_name(kept.name + path.name.removeprefix(database.name)))
    return kept
