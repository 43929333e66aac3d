"""Making a database anew where it is lost or damaged: beside its place first, then in it.

What is made is another device under another name, as a restored store is (docs/decisions/0011),
and stands in its place only when it is whole. What stood there is moved to ``backups`` just before:
whoever is killed in between leaves no database, which every verb says, and never half of one
(tests/unit/test_rebuilding.py, tests/e2e/test_crash.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import msgspec

from .backup import BESIDE, dated, fsync, publish, settle
from .checks import file
from .database import Database, wall_ms
from .errors import DatabaseDamaged, LocalStorageError, OlderSchema
from .restore import alone, reached
from .sqlite import connect, dbapi, translated
from .steps import step
from .store import Store

_STAGING = ".rebuilding-"
_TABLES = ("clock", "messages", "meta", "registers", "sessions")


class Former(msgspec.Struct, frozen=True):
    """What is known of a lost store: the ids that it had, the last number of its feed, and its clock."""

    devices: list[str] = []
    seq: int = 0
    clock: int = 0


def fault(database: Path) -> str | None:
    """Why a database is to be made anew; None where it is sound, or was never written to.

    Raises `NewerSchema`, and `LocalStorageError` where it cannot be looked at: that is no reason.
    """
    if not database.exists() or not database.stat().st_size:
        return "it was missing"
    try:
        with _translated(database):
            if not _has_tables(database):
                return "it is no store of steno"
            with _opened(database) as store:
                return next(file(store), None)
    except DatabaseDamaged as exc:
        return str(exc)


def is_unused(database: Path) -> bool:
    """Say whether nothing was ever written to a sound store."""
    with Database(database, read_only=True) as store:
        return store.last_seq == 0


def former(database: Path) -> Former:
    """What a damaged database still tells of the store that it was."""
    if not database.exists():
        return Former()
    try:
        with closing(dbapi.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            devices, seq, clock = reached(connection)
    except dbapi.Error:
        return Former()
    return Former(list(devices), seq, clock)


def sweep(database: Path) -> None:
    """Remove what one left beside a database that was killed while it made another."""
    for left in database.parent.glob(f"{_STAGING}*"):
        shutil.rmtree(left)


@contextmanager
def staging(database: Path) -> Generator[Path]:
    """The path of a new database, beside its place; what is left of it is removed."""
    sweep(database)
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=database.parent) as folder:
        yield Path(folder) / database.name


def begin(store: Store, lost: Former) -> None:
    """Let a new store go on behind all that the lost one gave, and know the directory of its files."""
    with store.transaction():
        store.set_meta("formerly", " ".join(lost.devices))
        store.execute("UPDATE clock SET seq = max(seq, ?), hlc = max(hlc, ?)", (lost.seq, lost.clock))


def put_in_place(staged: Path, database: Path, *, backups: Path) -> list[Path]:
    """Give a finished database its place, durably; return where what stood there is kept.

    Raises `LocalStorageError` where another process has the one there open, and `TargetExists` where one was made
    meanwhile.
    """
    settle(staged)
    fsync(staged)
    step("rebuild.staged")
    try:
        # One that nobody can open has nobody who writes to it, and is kept with its log as it is.
        with alone(database) if _can_be_opened(database) else nullcontext():
            kept = _set_aside(database, backups)
        step("rebuild.set-aside")
        publish(staged, database, overwrite=False)
        staged.unlink(missing_ok=True)  # where it was linked
    except OSError as exc:
        raise LocalStorageError(f"{database} cannot be replaced ({exc.strerror})") from exc
    step("rebuild.placed")
    return kept


def _set_aside(database: Path, backups: Path) -> list[Path]:
    """Move a database to the backups, and behind it what SQLite put beside it, which nobody may take for the new one's.

    The database first: while it is there without its log it would seem sound and be older.
    """
    present = [path for end in ("", *BESIDE) if os.path.lexists(path := database.with_name(database.name + end))]
    if not present:
        return []
    kept = dated(backups, now_ms=wall_ms())
    moved: list[Path] = []
    for path in present:
        moved.append(kept.with_name(kept.name + path.name.removeprefix(database.name)))
        shutil.move(path, moved[-1])
        fsync(database.parent)
        step("rebuild.moved")
    fsync(backups)
    return moved


def _has_tables(database: Path) -> bool:
    with closing(connect(database, read_only=True, durability="normal", compress=True)) as connection:
        names = ", ".join(f"'{name}'" for name in _TABLES)
        sql = f"SELECT count(*) FROM sqlite_master WHERE name IN ({names})"  # noqa: S608
        return connection.execute(sql).fetchone()[0] == len(_TABLES)


@contextmanager
def _translated(database: Path) -> Generator[None]:
    """Errors of SQLite become ours; reading rows may raise one as well."""
    try:
        yield
    except dbapi.Error as exc:
        raise translated(exc, database) from exc


def _can_be_opened(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        with _translated(database):
            return _has_tables(database)
    except DatabaseDamaged:
        return False


def _opened(database: Path) -> Database:
    """A database to look at; one of an older steno is migrated first."""
    try:
        return Database(database, read_only=True)
    except OlderSchema:
        Database(database).close()
        return Database(database, read_only=True)
