"""Replacing a session's file while anybody may be saving it, and reading one that holds still.

A file is replaced by exchanging it with a finished one, so whatever stood there, also what an
editor saved a moment ago, lies beside it under a name of ours and is looked at afterwards:

    .steno-….swap (new)  ⇄  x.jsonl (old)      then   .steno-….swap (old): our last bytes? remove : keep

Only what is seen to be our own last bytes, open for writing nowhere, is removed; everything else
is kept until the caller has merged it, and found again by `leftovers` after a crash. Nothing that
appeared at an empty place is ever overwritten (tests/unit/test_files_exchange.py; the trial in
which check-then-rename lost thousands of saves is repeated there).

Nothing is synced to the disk: the store is the truth, a file lost with the power is written anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import secrets
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

import msgspec

from ...storage.errors import InvalidInput, LocalStorageError, StenoError
from ...storage.steps import step

if sys.platform != "win32":
    import fcntl

HOLD_STILL_S = 0.1
LONG_AGO_S = 2.0
"""A file whose times lie further back has held still already; coarser clocks of file systems tick within it."""
MAX_FILE_BYTES = 2 << 30

_PREFIX, _TORN, _WHOLE = ".steno-", ".part", ".swap"
_NAME_BYTES = 255
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY}
_NO_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EMLINK}
_NO_LEAVE = {errno.EACCES, errno.EPERM}
_AT_FDCWD = -100
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


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
    """A file is not what it was taken for; nothing was overwritten. Read it, then try again."""

    retryable = True
    hint = "it is looked at again"

    def __init__(
        self, path: Path, state: Literal["appeared", "vanished", "edited"], *, displaced: Displaced | None = None
    ) -> None:
        super().__init__(f"{path} {state} meanwhile")
        self.path, self.state, self.displaced = path, state, displaced


class Displaced(msgspec.Struct, frozen=True):
    """A file that stood in the place of ours and is not ours: an edit to be merged.

    Read it with `read_settled` (an editor may still be writing to it), merge it, then `discard` it;
    or, where it cannot be understood, `put_back`.
    """

    target: Path
    kept: Path

    def discard(self, merged: Fingerprint) -> bool:
        """Remove the file if it still is what was merged; else keep it and say False."""
        with _translated(self.kept):
            return _remove_if(self.kept, merged)

    def put_back(self, written: Fingerprint | None, *, exchange: bool = True) -> Displaced | None:
        """Put the edit back in its place and remove ours, which `written` describes (None: the place is empty).

        Where yet another edit stood there, that newer one stays in place and what it displaces is returned.
        """
        with _translated(self.target):
            try:
                if written is None:
                    _publish(self.kept, self.target, exchange=exchange)
                    return None
                kept = _swap(self.kept, self.target, exchange=exchange)
                if _remove_if(kept, written):
                    return None
                return Displaced(self.target, _swap(kept, self.target, exchange=exchange))
            except FileExistsError as exc:
                raise FileChanged(self.target, "appeared") from exc
            except FileNotFoundError as exc:
                raise FileChanged(self.target, "vanished") from exc


class Replaced(NamedTuple):
    """What stands in the place now, and the edit that stood there, if it was not what was expected."""

    written: Fingerprint
    displaced: Displaced | None


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


def replace(path: Path, data: bytes, *, expected: Fingerprint | None, exchange: bool = True) -> Replaced:
    """Put these bytes in the place of a file, 0600; the directory must exist.

    ``expected`` is what our last write or read found there, None for nothing. Raise `FileChanged` with
    nothing touched if something else is there before we begin, and return as displaced what came later.
    ``exchange`` False takes the way of systems that cannot exchange two files.
    """
    with _translated(path):
        _expect(path, expected)
        temporary, written = _write(path, data)
        try:
            if expected is None:
                _publish(temporary, path, exchange=exchange)
                step("files.published")
                return Replaced(written, None)
            kept = _swap(temporary, path, exchange=exchange)
        except (OSError, FileChanged) as exc:  # no other: after the exchange an edit may bear this name
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise _changed(path, expected, exc) from exc
        step("files.exchanged")
        if _remove_if(kept, expected):
            step("files.displaced-removed")
            return Replaced(written, None)
        step("files.displaced-kept")
        return Replaced(written, Displaced(path, kept))


def leftovers(folder: Path) -> list[Displaced]:
    """The files that a crash left between exchanging and settling, each an edit or our own bytes.

    Merged like any edit, our own bytes change nothing. Where ``target`` is missing, the crash may have
    come in the moment when a system without exchange had set it aside: ``put_back(None)`` before it is
    taken for deleted. (A name that was too long stands there as a hash; then only the header tells.)
    Call it only while nothing else replaces files in the folder.
    """
    with _translated(folder):
        names = sorted(name for name in os.listdir(folder) if _is_ours(name, _WHOLE))
    return [Displaced(folder / _target_name(name), folder / name) for name in names]


def remove_torn(folder: Path) -> int:
    """Remove the files that a crash left half written, which never stood in any place; say how many."""
    with _translated(folder):
        torn = [folder / name for name in os.listdir(folder) if _is_ours(name, _TORN)]
        for path in torn:
            path.unlink(missing_ok=True)
    return len(torn)


def make_folder(root: Path, relative: PurePath) -> Path:
    """Make a folder, 0700, below a root that must be there: an unmounted root is never made up."""
    folder = root
    with _translated(root):
        if not root.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for part in relative.parts:
            folder /= part
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
    return folder


def look_at(path: Path) -> Look | None:
    """What a file looks like now; None where there is none. Raise `InvalidInput` for what is no plain file."""
    with _translated(path):
        try:
            return _look(path, path.lstat())
        except FileNotFoundError:
            return None


def read_once(path: Path, *, limit_bytes: int = MAX_FILE_BYTES) -> Found:
    """Read a file; raise `FileChanged` if it is gone, or changed while it was read."""
    with _translated(path):
        try:
            with _opened(path) as descriptor:
                before = _look(path, os.fstat(descriptor))
                if before.size > limit_bytes:
                    raise InvalidInput(f"{path} is larger than {limit_bytes} bytes", hint="split the session")
                data = _read_all(descriptor, before.size)
                after = _look(path, os.fstat(descriptor))
        except FileNotFoundError as exc:
            raise FileChanged(path, "vanished") from exc
    if after != before or len(data) != before.size:
        raise FileChanged(path, "edited")
    return Found(data, Fingerprint(*before, sha256=hashlib.sha256(data).digest()))


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

    Raise `FileChanged` if there is none, or if it does not hold still within ``patience_s``.
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


def _expect(path: Path, expected: Fingerprint | None) -> None:
    look = look_at(path)
    if look is None and expected is not None:
        raise FileChanged(path, "vanished")
    if look is not None and expected is None:
        raise FileChanged(path, "appeared")
    if look is not None and expected is not None and look != expected.look:
        raise FileChanged(path, "edited")


def _write(path: Path, data: bytes) -> tuple[Path, Fingerprint]:
    """Write the new file beside the old one; it bears its lasting name only when it is whole."""
    torn, whole = (path.with_name(name) for name in _own_names(path.name))
    try:
        descriptor = os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            look = _look(torn, os.fstat(descriptor))
        os.rename(torn, whole)
    except BaseException:
        with contextlib.suppress(OSError):
            torn.unlink()
        raise
    step("files.temp-written")
    return whole, Fingerprint(*look, sha256=hashlib.sha256(data).digest())


def _swap(new: Path, target: Path, *, exchange: bool) -> Path:
    """Put one file in the place of another; return where the other is kept. The target must exist."""
    if exchange and _rename(new, target, "exchange"):
        return new
    kept = target.with_name(_own_names(target.name)[1])
    os.rename(target, kept)
    step("files.set-aside")
    try:
        _publish(new, target, exchange=exchange)
    except FileExistsError as exc:
        raise FileChanged(target, "edited", displaced=Displaced(target, kept)) from exc
    except OSError:
        _publish(kept, target, exchange=exchange)
        raise
    return kept


def _publish(new: Path, target: Path, *, exchange: bool) -> None:
    """Put a file in an empty place; raise FileExistsError if it is not empty any more."""
    if exchange and _rename(new, target, "noreplace"):
        return
    try:
        os.link(new, target)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # Neither way exists here (FAT over FUSE): a check is all that is left.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from exc
        os.rename(new, target)
    else:
        new.unlink()


def _changed(path: Path, expected: Fingerprint | None, exc: BaseException) -> BaseException:
    """The error of a replacement that did not happen, its own copy of the expected bytes removed."""
    if isinstance(exc, FileExistsError):
        return FileChanged(path, "appeared")
    if isinstance(exc, FileNotFoundError) and expected is not None:
        return FileChanged(path, "vanished")
    if isinstance(exc, FileChanged) and exc.displaced and expected and _remove_if(exc.displaced.kept, expected):
        return FileChanged(path, "edited")
    return exc


def _remove_if(kept: Path, expected: Fingerprint) -> bool:
    """Remove a file if it holds these bytes and nobody is about to write others to it."""
    if _open_for_writing(kept):
        return False
    try:
        found = read_once(kept)
    except FileChanged as exc:
        return exc.state == "vanished"
    except InvalidInput:
        return False
    if found.fingerprint.sha256 != expected.sha256:
        return False
    kept.unlink(missing_ok=True)
    return True


def _open_for_writing(path: Path) -> bool:
    """Say whether some process has the file open for writing, where the system can tell (Linux).

    A read lease is granted only if nobody has. An editor that writes in place may have opened
    the file just before the exchange; where this cannot be told, such a save may be lost.
    """
    if sys.platform != "linux":
        return False
    try:
        with _opened(path) as descriptor:
            # Breaking a lease sends SIGIO, which kills by default; SIGURG is ignored by default.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN
    return False


def _rename(source: Path, target: Path, way: Literal["exchange", "noreplace"]) -> bool:
    """Rename atomically in a way that os.rename lacks; False where this system or file system has it not."""
    call = _native_rename()
    if call is None:
        return False
    code = call(os.fsencode(source), os.fsencode(target), way == "exchange")
    if code in _UNSUPPORTED:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    return True


@functools.cache
def _native_rename() -> Callable[[bytes, bytes, bool], int] | None:
    """The system's call: (source, target, exchange or else no-replace) to error number."""
    if sys.platform not in {"linux", "darwin"}:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        renameat2 = getattr(library, "renameat2", None)  # glibc 2.28, musl 1.2.6
        if renameat2 is None:
            return None
        return lambda source, target, exchange: _errno_of(
            renameat2(_AT_FDCWD, source, _AT_FDCWD, target, ctypes.c_uint(2 if exchange else 1))
        )
    renamex_np = getattr(library, "renamex_np", None)  # macOS 10.12
    if renamex_np is None:
        return None
    return lambda source, target, exchange: _errno_of(renamex_np(source, target, ctypes.c_uint(2 if exchange else 4)))


def _errno_of(returned: int) -> int:
    return ctypes.get_errno() if returned else 0


def _own_names(name: str) -> tuple[str, str]:
    """The names, torn and whole, under which a file waits beside its target; they carry the target's if it fits."""
    token = secrets.token_hex(6)
    stem = f"{_PREFIX}{token}.{name}"
    if len(os.fsencode(stem + _WHOLE)) > _NAME_BYTES:
        stem = f"{_PREFIX}{token}.{hashlib.sha256(os.fsencode(name)).hexdigest()}.jsonl"
    return stem + _TORN, stem + _WHOLE


def _target_name(name: str) -> str:
    return name.removeprefix(_PREFIX).partition(".")[2].removesuffix(_WHOLE)


def _is_ours(name: str, ending: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(ending)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor for reading; a link or a pipe is not followed and not waited for."""
    descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW)
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


def _look(path: Path, status: os.stat_result) -> Look:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{path} is no plain file", hint="session files are neither links nor folders")
    return Look(status.st_size, status.st_mtime_ns, status.st_ino)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Foreign errors of this path become ours."""
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise InvalidInput(f"{path} is no plain file", hint="session files are neither links nor folders") from exc
        reason = f"{path}: {exc.strerror or exc}"
        if exc.errno in _NO_LEAVE:
            raise LocalStorageError(reason, hint="give steno permission to read and write there") from exc
        raise LocalStorageError(reason) from exc
