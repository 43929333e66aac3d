"""Whether the directory is in its place, and whether files that are gone may delete their sessions.

An unmounted disk, a directory moved away, `rm -rf`, `git clean`: all look like a person who deleted every
session. So the mirror stops where the directory cannot be shown to be the one that was written, or where many
files are gone at once. That is kept in the store: it outlasts restarts, until a person says what was meant or all
is as it was (tests/unit/test_files_breaker.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from ...storage.database import Database
from ...storage.errors import LocalStorageError
from ...storage.home import write_private
from ...storage.steps import step
from ...storage.store import Store
from .ledger import Ledger
from .walk import Directory

MARKER = ".steno"
FEW, FEW_PERCENT = 10, 20
WINDOW_S = 60.0

Kind = Literal["root-missing", "marker-missing", "other-device", "other-volume", "vanished"]

_NEW: tuple[Kind, ...] = ("root-missing", "marker-missing")
_HALT, _VOLUME = "files-halt", "files-volume"
_RESUME = "`steno files resume --restore` writes them again, `--delete` deletes their sessions"


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """Why the mirror stands still, since when; ``missing`` files.

    ``deleted`` are sessions that were deleted just before, each with the time in ms that it was deleted at.
    """

    kind: Kind
    reason: str
    missing: int
    at_ms: int
    deleted: dict[str, int] = {}

    @property
    def line(self) -> str:
        """What happened and what to do, on one line."""
        return f"{self.reason}; {_RESUME}"


class MirrorStopped(LocalStorageError):
    """The directory is not what it should be; nothing is written there and nothing is deleted."""

    def __init__(self, halt: Halt) -> None:
        super().__init__(halt.reason, hint=_RESUME)
        self.halt = halt


class _Marker(msgspec.Struct, frozen=True):
    steno: int
    device: str


def marked(root: Path) -> str | None:
    """The device whose directory this is, as its marker says; None where there is none that can be understood."""
    marker = root / MARKER
    try:
        return msgspec.json.decode(marker.read_bytes(), type=_Marker).device
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    except OSError as exc:
        raise LocalStorageError(f"{marker} cannot be read ({exc.strerror})") from exc


def mark(root: Path, device: str) -> None:
    """Make a directory a device's."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise LocalStorageError(f"{root} cannot be made ({exc.strerror})") from exc
    write_private(root / MARKER, msgspec.json.encode(_Marker(1, device)) + b"\n")


def halt_of(store: Database) -> Halt | None:
    """Why the mirror of a store stands still; None where it does not."""
    kept = store.meta(_HALT)
    return msgspec.json.decode(kept, type=Halt) if kept else None


class Breaker:
    """Looks whether the directory is ours, and counts what vanishes."""

    def __init__(self, store: Store, ledger: Ledger, directory: Directory, monotonic: Callable[[], float]) -> None:
        self._store, self._ledger, self._directory = store, ledger, directory
        self._monotonic = monotonic
        self._deleted: dict[str, float] = {}

    def check(self) -> None:
        """Make sure that the directory is in its place, and make it where it never was; else raise `MirrorStopped`.

        A halt ends here by itself only where the directory is ours and no file is missing.
        """
        fault = self._fault()
        if fault is not None:
            if fault.kind not in _NEW or self._ledger.count():
                self._stop(fault)
            self._mark()
        halt = halt_of(self._store)
        if halt is None:
            return
        if self._ledger.first_gone(self._directory.is_missing) is not None:
            raise MirrorStopped(halt)
        with self._store.transaction():
            self.end()

    def may_delete(self, missing: int) -> None:
        """Raise `MirrorStopped` if so many files that are missing cannot be meant to delete their sessions."""
        if missing and self._is_other_volume():
            reason = f"{self._directory.root} is another volume, and files are missing"
            self._stop(self._halt("other-volume", reason, missing=missing))
        lately = self._lately_deleted()
        total = self._ledger.count_shown() + len(lately)
        if missing and missing + len(lately) > max(FEW, total * FEW_PERCENT // 100):
            reason = f"{missing + len(lately)} of {total} session files are gone from {self._directory.root}"
            self._stop(self._halt("vanished", reason, missing=missing, deleted=lately))

    def all_is_there(self) -> None:
        """The whole directory was looked at and no file is missing: whatever volume it is on now, it is the one."""
        volume = self._volume()
        if volume != self._store.meta(_VOLUME):
            with self._store.transaction():
                self._store.set_meta(_VOLUME, volume)

    def deleted(self, session_id: str) -> None:
        """A session was deleted because its file was gone."""
        self._deleted[session_id] = self._monotonic()

    def _lately_deleted(self) -> dict[str, int]:
        """The sessions that were deleted so in the last `WINDOW_S` seconds and still are, and when."""
        since = self._monotonic() - WINDOW_S
        self._deleted = {each: at for each, at in self._deleted.items() if at > since}
        rows = [self._store.find(each) for each in self._deleted]
        return {row.id: row.deleted_ms for row in rows if row and row.hidden and row.deleted_ms is not None}

    def adopt(self) -> None:
        """Take the directory as it is for ours, at the word of a person; the halt goes by `end`."""
        self._mark()
        self.all_is_there()

    def end(self) -> None:
        """The halt is over. Needs a transaction."""
        self._deleted = {}
        self._store.set_meta(_HALT, "")

    def _stop(self, halt: Halt) -> NoReturn:
        """Keep a halt and raise it; said again it stays the one that it was."""
        known = halt_of(self._store)
        if known is None or known.kind != halt.kind:
            deleted = {**(known.deleted if known else {}), **halt.deleted}
            halt = msgspec.structs.replace(halt, deleted=deleted)
            with self._store.transaction():
                self._store.set_meta(_HALT, msgspec.json.encode(halt).decode())
            step("files.halted")
        else:
            halt = known
        raise MirrorStopped(halt)

    def _fault(self) -> Halt | None:
        """What is wrong with the place. A directory of this store before it was restored is taken over."""
        root = self._directory.root
        if not root.is_dir():
            return self._halt("root-missing", f"the directory {root} is gone", missing=self._ledger.count())
        found = marked(root)
        if found is None:
            return self._halt("marker-missing", f"{root / MARKER} is gone, so nobody knows whose directory this is")
        if found == self._store.device:
            return None
        if found in self._store.former_devices:
            # It shows what came after the backup: what is missing there is no deletion.
            self._adopt_gone()
            self._mark()
            return None
        return self._halt(
            "other-device",
            f"{root} is the directory of another device ({found}); let no other program synchronise it",
        )

    def _adopt_gone(self) -> None:
        with self._store.transaction():
            self._ledger.write_again(self._ledger.gone(self._directory.is_missing))

    def _mark(self) -> None:
        mark(self._directory.root, self._store.device)

    def _volume(self) -> str:
        with contextlib.suppress(OSError):
            return str(self._directory.root.stat().st_dev)
        return ""

    def _is_other_volume(self) -> bool:
        known = self._store.meta(_VOLUME)
        return bool(known) and known != self._volume()

    def _halt(self, kind: Kind, reason: str, *, missing: int = 0, deleted: dict[str, int] | None = None) -> Halt:
        return Halt(
            kind=kind, reason=f"{reason}; no session was deleted" if not deleted else reason, missing=missing,
            at_ms=self._store.now_ms(), deleted=deleted or {},
        )  # fmt: skip
