"""One process at a time: an operating system's lock on a file, which a crash gives back by itself.

A lock file's text names its holder for people; only the lock itself counts
(tests/unit/test_lock.py).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ..storage.errors import HomeBusy, LocalStorageError
from ..storage.home import Home

_TRIES, _TRY_EVERY_S = 10, 0.01


class ProcessLock:
    """Held from `take` until `release` or the end of the process."""

    def __init__(self, path: Path, *, task: str) -> None:
        self._path = path
        self._task = task
        self._descriptor: int | None = None

    def take(self) -> Self:
        """Take the lock; raises `HomeBusy` naming the holder where another process has it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise LocalStorageError(f"{self._path} cannot be opened ({exc.strerror})") from exc
        if not _locked_soon(descriptor):
            holder = _number(os.read(descriptor, 32))
            os.close(descriptor)
            raise HomeBusy(home=str(self._path.parent), holder=holder, task=self._task)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the lock back; called twice it does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self.take()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def vault_lock(home: Home) -> ProcessLock:
    """The lock of whoever writes the file with the vault's keys; held for a moment."""
    return ProcessLock(home.data / "vault.lock", task="changing the vault's keys")


def holder_of(path: Path) -> int | None:
    """The process that holds a lock; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _locked(descriptor) else _number(os.read(descriptor, 32)) or 0
    finally:
        os.close(descriptor)


def _locked_soon(descriptor: int) -> bool:
    """Lock, but for one who only asks who holds it: that takes the lock for a moment."""
    for _ in range(_TRIES):
        if _locked(descriptor):
            return True
        time.sleep(_TRY_EVERY_S)
    return False


def _locked(descriptor: int) -> bool:
    if os.name == "nt":
        import msvcrt  # noqa: PLC0415  exists on Windows only

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl  # noqa: PLC0415  does not exist on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _number(text: bytes) -> int | None:
    return int(text) if text.strip().isdigit() else None
