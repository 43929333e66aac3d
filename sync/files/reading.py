"""Reading a session's file only when it holds still, and telling later whether it is still that file.

A save may come in pieces, in place, while we look: a file is read once its size and times have
held still, and what changed under the reading is not believed (tests/unit/test_files_exchange.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from ...storage.errors import InvalidInput, LocalStorageError, StenoError

HOLD_STILL_S = 0.1
LONG_AGO_S = 2.0
"""A file whose times lie further back has held still already; coarser clocks of file systems tick within it."""
MAX_FILE_BYTES = 256 << 20
"""A file that is larger is not read: merging it would take some ten times as much memory."""
_FIRST_LINE_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20

NO_FOLLOWING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_NO_LEAVE = {errno.EACCES, errno.EPERM}


class Look(NamedTuple):
    """What a file looks like without being read."""

    size: int
    mtime_ns: int
    inode: int


class Fingerprint(msgspec.Struct, frozen=True):
    """What a file was when it was written or read: its look, and the hash of its bytes."""

    size: int
    mtime_ns: int
    inode: int
    sha256: bytes

    @property
    def look(self) -> Look:
        """The part that a glance can compare."""
        return Look(self.size, self.mtime_ns, self.inode)


class Found(NamedTuple):
    """The bytes of a file, and what it was when they were read."""

    data: bytes
    fingerprint: Fingerprint


class FileChanged(StenoError):
    """A file is not what it was taken for; nothing was overwritten. Read it, then try again.

    ``kept`` is an older edit that was set aside before a newer one appeared, on systems without exchange.
    """

    retryable = True
    hint = "it is looked at again"

    def __init__(
        self, path: Path, state: Literal["appeared", "vanished", "edited"], *, kept: Path | None = None
    ) -> None:
        super().__init__(f"{path} {state} meanwhile")
        self.path, self.state, self.kept = path, state, kept


class Forbidden(LocalStorageError):
    """The system does not let steno at one file or folder; others may go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, hint="give steno permission to read and write there")


class TooLarge(InvalidInput):
    """A file is larger than is read; nothing of it was."""

    def __init__(self, path: Path, size_bytes: int, *, limit_bytes: int) -> None:
        super().__init__(
            f"{path} has {size_bytes:,} bytes, and a file larger than {limit_bytes:,} bytes is not read",
            hint="move it elsewhere and bring in what is new in it with `steno import`",
        )
        self.size_bytes = size_bytes


class Settling(NamedTuple):
    """How long a file has looked the same: pure, fed with what was seen when."""

    look: Look
    since_s: float

    @classmethod
    def begin(cls, look: Look, *, now_s: float, age_s: float) -> Settling:
        """A file met just now, whose times lie ``age_s`` back."""
        return cls(look, now_s - age_s if age_s >= LONG_AGO_S else now_s)

    def seen(self, look: Look, *, now_s: float) -> Settling:
        """The file was looked at again."""
        return self if look == self.look else Settling(look, now_s)

    def wait_s(self, *, now_s: float) -> float:
        """How long to wait before the next look; 0 when the file may be read."""
        return max(0.0, self.since_s + HOLD_STILL_S - now_s)


def look_at(path: Path) -> Look | None:
    """What a file looks like now; None where there is none. Raise `InvalidInput` for what is no plain file."""
    with translated(path):
        try:
            return look_of(path, path.lstat())
        except FileNotFoundError:
            return None


def read_once(path: Path, *, limit_bytes: int = MAX_FILE_BYTES) -> Found:
    """Read a file; raise `FileChanged` if it is gone, or changed while it was read, and `TooLarge`."""
    with translated(path):
        try:
            with opened(path) as descriptor:
                before = look_of(path, os.fstat(descriptor))
                if before.size > limit_bytes:
                    raise TooLarge(path, before.size, limit_bytes=limit_bytes)
                data = _read_all(descriptor, before.size)
                after = look_of(path, os.fstat(descriptor))
        except FileNotFoundError as exc:
            raise FileChanged(path, "vanished") from exc
    if after != before or len(data) != before.size:
        raise FileChanged(path, "edited")
    return Found(data, Fingerprint(*before, sha256=hashlib.sha256(data).digest()))


def fingerprint_of(path: Path) -> Fingerprint:
    """What a file of any size is now, read piece by piece; raise `FileChanged` as `read_once` does."""
    digest, size = hashlib.sha256(), 0
    with translated(path):
        try:
            with opened(path) as descriptor:
                before = look_of(path, os.fstat(descriptor))
                while part := os.read(descriptor, _PIECE_BYTES):
                    digest.update(part)
                    size += len(part)
                after = look_of(path, os.fstat(descriptor))
        except FileNotFoundError as exc:
            raise FileChanged(path, "vanished") from exc
    if after != before or size != before.size:
        raise FileChanged(path, "edited")
    return Fingerprint(*before, sha256=digest.digest())


def read_settled(
    path: Path,
    *,
    limit_bytes: int = MAX_FILE_BYTES,
    patience_s: float = 10.0,
    monotonic: Callable[[], float] = time.monotonic,
    wall_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], object] = time.sleep,
) -> Found:
    """Read a file once its size and time have held still for `HOLD_STILL_S`.

    Raise `FileChanged` if there is none, or if it does not hold still within ``patience_s``, and `TooLarge`.
    """
    deadline_s = monotonic() + patience_s
    settling = Settling.begin(_present(path), now_s=monotonic(), age_s=_age_s(path, wall_ns()))
    while monotonic() <= deadline_s:
        wait_s = settling.wait_s(now_s=monotonic())
        if wait_s > 0:
            sleep(wait_s)
        settling = settling.seen(_present(path), now_s=monotonic())
        if settling.wait_s(now_s=monotonic()) > 0:
            continue
        with contextlib.suppress(FileChanged):
            found = read_once(path, limit_bytes=limit_bytes)
            if found.fingerprint.look == settling.look:
                return found
    raise FileChanged(path, "edited")


def first_line(path: Path, *, limit_bytes: int = _FIRST_LINE_BYTES) -> bytes:
    """The first line of a file as it is now, unsettled; empty where there is no plain file to read."""
    with contextlib.suppress(OSError, InvalidInput), opened(path) as descriptor:
        look_of(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            return file.readline(limit_bytes)
    return b""


def give_back_memory() -> None:
    """Give the system back what a large file took: of that the C library would keep the most for later."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc


def _present(path: Path) -> Look:
    look = look_at(path)
    if look is None:
        raise FileChanged(path, "vanished")
    return look


def _age_s(path: Path, now_ns: int) -> float:
    """How long ago a file was last written, renamed or touched; its own time can be set by anyone."""
    try:
        status = path.lstat()
    except OSError:
        return 0.0
    return (now_ns - max(status.st_mtime_ns, status.st_ctime_ns)) / 1e9


@contextlib.contextmanager
def opened(path: Path) -> Generator[int]:
    """A descriptor for reading; a link or a pipe is not followed and not waited for."""
    descriptor = os.open(path, os.O_RDONLY | NO_FOLLOWING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    """All that is there, at most one byte more than expected."""
    parts: list[bytes] = []
    missing = size + 1
    while missing > 0 and (part := os.read(descriptor, min(missing, 1 << 24))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def look_of(path: Path, status: os.stat_result) -> Look:
    """The look that a status tells; raise `InvalidInput` for a link, a folder, a pipe."""
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{path} is no plain file", hint="session files are neither links nor folders")
    return Look(status.st_size, status.st_mtime_ns, status.st_ino)


@contextlib.contextmanager
def translated(path: Path) -> Generator[None]:
    """Foreign errors of this path become ours."""
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise InvalidInput(f"{path} is no plain file", hint="session files are neither links nor folders") from exc
        reason = f"{path}: {exc.strerror or exc}"
        raise (Forbidden if exc.errno in _NO_LEAVE else LocalStorageError)(reason) from exc
