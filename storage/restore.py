"""Putting a backup in the place of a store.

What is restored goes on as another device: after the backup was taken this one may have published
more, and must not use the same numbers and stamps again (docs/decisions/0011). The old database
is kept, and is replaced only while nobody else has it open (tests/unit/test_restore.py,
tests/e2e/test_backup.py).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .backup import BESIDE, Progress, beside, check, copy, dated, fsync, publish, settle
from .database import Database
from .errors import InvalidInput, LocalStorageError, NewerSchema
from .home import private_directory
from .schema import VERSION
from .sqlite import dbapi, translated
from .stamps import plausible
from .steps import step

if TYPE_CHECKING:
    from sqlite3 import Connection

PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.02
_STAGING = ".restoring-"
_NAME_A_BACKUP = "name a file that `steno backup` wrote"


class Restored(msgspec.Struct, frozen=True):
    """A store whose place a backup took: the id that it goes on under, and where what it replaced is kept."""

    database: Path
    device: str
    kept: Path | None


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
        for left in database.parent.glob(f"{_STAGING}*"):  # by one that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=database.parent) as folder:
            staged = Path(folder) / database.name
            _stage(source, staged, progress)
            step("restore.staged")
            with alone(database) as replaced:
                device = _identify(staged, replaced)
                kept = _keep(database, replaced, backups)
                step("restore.kept")
                staged.replace(database)
                step("restore.replaced")
                fsync(database.parent)
    except OSError as exc:
        raise LocalStorageError(f"{database} cannot be replaced ({exc.strerror})") from exc
    return Restored(database, device, kept)


def _stage(source: Path, staged: Path, progress: Progress | None) -> None:
    """Copy a backup to where it can be looked at and brought up to this version; raises as `restore` does."""
    # As any program opens it: it may be a plain copy with a log beside it.
    opened = dbapi.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        if _version(opened, source) > VERSION:
            raise NewerSchema(path=str(source))
        staged.touch(mode=0o600)
        copy(opened, staged, progress)
    finally:
        opened.close()
    check(staged, named=source)
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
def alone(database: Path) -> Generator[Connection | None]:
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
    former, seq, clock = reached(replaced)
    with Database(staged) as store, store.transaction():
        device = store.random(12)
        store.device_no(device)
        names = [store.device, *store.former_devices, *former]
        store.set_meta("formerly", " ".join(dict.fromkeys(names)))
        store.set_meta("device", device)
        store.set_meta("store", store.random(8))
        store.execute("UPDATE clock SET seq = max(seq, ?), hlc = max(hlc, ?)", (seq, clock))
        store.set_cursor("files", 0)  # they are written anew, under the new name
    settle(staged)
    fsync(staged)
    return device


def reached(replaced: Connection | None) -> tuple[Sequence[str], int, int]:
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
    present = [path for end in ("", *BESIDE) if (path := database.with_name(database.name + end)).exists()]
    if not present:
        return None
    kept = dated(backups, now_ms=time.time_ns() // 1_000_000)
    if database in present:
        # A copy, not a second name: after a crash in the next moment two names would lead to one living database.
        with beside(kept) as temporary:
            if replaced is None:
                shutil.copyfile(database, temporary)
            else:
                copy(replaced, temporary)
            publish(temporary, kept, overwrite=False)
    for path in present:
        if path != database:
            shutil.move(path, kept.with_name(kept.name + path.name.removeprefix(database.name)))
    return kept
