"""Replacing a session's file while anybody may be saving it.

A file is replaced by exchanging it with a finished one, so whatever stood there, also what an
editor saved a moment ago, lies beside it under a name of ours and is looked at afterwards:

    .steno-….swap (new)  ⇄  x.jsonl (old)      then   .steno-….swap (old): our last bytes? remove : keep

Only what is seen to be our own last bytes, open for writing nowhere, is removed; everything else
is kept until the caller has merged it, and found again by its name after a crash (`is_whole`). Nothing that
appeared at an empty place is ever overwritten (tests/unit/test_files_exchange.py; the trial in
which check-then-rename lost thousands of saves is repeated there).

Nothing is synced to the disk: the store is the truth, a file lost with the power is written anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import signal
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

import msgspec

from ...storage.errors import InvalidInput, LocalStorageError
from ...storage.steps import step
from .reading import NO_FOLLOWING, FileChanged, Fingerprint, fingerprint_of, look_at, look_of, opened, translated
from .rename import UNSUPPORTED, atomic_rename

_PREFIX, _TORN, _WHOLE = ".steno-", ".part", ".swap"
_NAME_BYTES = 255
_NO_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK}


class Displaced(msgspec.Struct, frozen=True):
    """A file that stood in the place of ours and is not ours: an edit to be merged.

    Read it with `read_settled` (an editor may still be writing to it), merge it, then `discard` it;
    or, where it cannot be understood, `put_back`.
    """

    target: Path
    kept: Path

    def discard(self, merged: Fingerprint) -> bool:
        """Remove the file if it still is what was merged; else keep it and say False."""
        with translated(self.kept):
            return _remove_if(self.kept, merged)

    def put_back(self, written: Fingerprint | None, *, exchange: bool = True) -> Displaced | None:
        """Put the edit back in its place and remove ours, which `written` describes (None: the place is empty).

        Where yet another edit stood there, that newer one stays in place and what it displaces is returned.
        """
        with translated(self.target):
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


def replace(
    path: Path, parts: Iterable[bytes], *, expected: Fingerprint | None, wanted: Callable[[], bool] = lambda: True,
    exchange: bool = True,
) -> Replaced | None:  # fmt: skip
    """Put these bytes in the place of a file, 0600; the directory must exist.

    ``expected`` is what our last write or read found there, None for nothing. Raise `FileChanged` with
    nothing touched if something else is there before we begin, and return as displaced what came later.
    ``wanted`` is asked when all bytes have been seen: False leaves what is there, and None is returned.
    ``exchange`` False takes the way of systems that cannot exchange two files.
    """
    with translated(path):
        _expect(path, expected)
        temporary, written = _write(path, parts)
        try:
            if not wanted():
                temporary.unlink()
                return None
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


def remove(path: Path, *, expected: Fingerprint) -> Displaced | None:
    """Remove a file that is as we last saw it; what was there instead is returned, kept. Gone already is no error."""
    with translated(path):
        kept = path.with_name(_own_names(path.name)[1])
        try:
            path.rename(kept)
        except FileNotFoundError:
            return None
        step("files.set-aside-for-removal")
        return None if _remove_if(kept, expected) else Displaced(path, kept)


def move(path: Path, target: Path, *, exchange: bool = True) -> None:
    """Give a file another name in its folder, whatever it is by now.

    Raise `FileChanged` where nothing stands there any more, or something stands under the other name.
    """
    with translated(path):
        try:
            if exchange and atomic_rename(path, target, "noreplace"):
                return
            kept = target.with_name(_own_names(target.name)[1])
            path.rename(kept)
            step("files.set-aside-for-name")
            try:
                _publish(kept, target, exchange=exchange)
            except OSError:
                _publish(kept, path, exchange=exchange)
                raise
        except FileExistsError as exc:
            raise FileChanged(target, "appeared") from exc
        except FileNotFoundError as exc:
            raise FileChanged(path, "vanished") from exc


def swap(new: Path, target: Path) -> Path:
    """Put a file in the place of another, whatever that is by now; return where the other is kept.

    Raise `FileChanged` where a newer one appeared in the moment that systems without exchange leave.
    """
    with translated(target):
        return _swap(new, target, exchange=True)


def is_torn(name: str) -> bool:
    """Say whether a file name is of one that we were writing: a crash left it, and it never stood in any place."""
    return name.startswith(_PREFIX) and name.endswith(_TORN)


def is_whole(name: str) -> bool:
    """Say whether a file name is of one that lies beside its place: a crash came before it was settled."""
    return name.startswith(_PREFIX) and name.endswith(_WHOLE)


def leftover(kept: Path) -> Displaced:
    """What a crash left between exchanging and settling: an edit or our own bytes.

    Merged like any edit, our own bytes change nothing. Where ``target`` is missing, the crash may have
    come in the moment when a system without exchange had set it aside: ``put_back(None)`` before it is
    taken for deleted. (A name that was too long stands there as a hash; then only the header tells.)
    Call it only while nothing else replaces files in the folder.
    """
    return Displaced(kept.with_name(kept.name.removeprefix(_PREFIX).partition(".")[2].removesuffix(_WHOLE)), kept)


def make_folder(root: Path, relative: PurePath) -> Path:
    """Make a folder, 0700, below a root that must be there: an unmounted root is never made up.

    Raise `InvalidInput` where a link or a file stands in its way.
    """
    folder = root
    with translated(root):
        if not root.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for part in relative.parts:
            folder /= part
            if not os.path.lexists(folder):
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise InvalidInput(f"{folder} is no folder", hint="move it away; sessions are written below it")
    return folder


def _expect(path: Path, expected: Fingerprint | None) -> None:
    look = look_at(path)
    if look is None and expected is not None:
        raise FileChanged(path, "vanished")
    if look is not None and expected is None:
        raise FileChanged(path, "appeared")
    if look is not None and expected is not None and look != expected.look:
        raise FileChanged(path, "edited")


def _write(path: Path, parts: Iterable[bytes]) -> tuple[Path, Fingerprint]:
    """Write the new file beside the old one; it bears its lasting name only when it is whole."""
    torn, whole = (path.with_name(name) for name in _own_names(path.name))
    try:
        digest = hashlib.sha256()
        descriptor = os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOWING, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for part in parts:
                digest.update(part)
                view = memoryview(part)
                while view:
                    view = view[file.write(view) :]
            look = look_of(torn, os.fstat(descriptor))
        torn.rename(whole)
    except BaseException:
        with contextlib.suppress(OSError):
            torn.unlink()
        raise
    step("files.temp-written")
    return whole, Fingerprint(*look, sha256=digest.digest())


def _swap(new: Path, target: Path, *, exchange: bool) -> Path:
    """Put one file in the place of another; return where the other is kept. The target must exist."""
    if exchange and atomic_rename(new, target, "exchange"):
        return new
    kept = target.with_name(_own_names(target.name)[1])
    target.rename(kept)
    step("files.set-aside")
    try:
        _publish(new, target, exchange=exchange)
    except FileExistsError as exc:
        raise FileChanged(target, "edited", kept=kept) from exc
    except OSError:
        _publish(kept, target, exchange=exchange)
        raise
    return kept


def _publish(new: Path, target: Path, *, exchange: bool) -> None:
    """Put a file in an empty place; raise FileExistsError if it is not empty any more."""
    if exchange and atomic_rename(new, target, "noreplace"):
        return
    try:
        os.link(new, target)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # Neither way exists here (FAT over FUSE): a check is all that is left.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from exc
        new.rename(target)
    else:
        new.unlink()


def _changed(path: Path, expected: Fingerprint | None, exc: BaseException) -> BaseException:
    """The error of a replacement that did not happen, its own copy of the expected bytes removed."""
    if isinstance(exc, FileExistsError):
        return FileChanged(path, "appeared")
    if isinstance(exc, FileNotFoundError) and expected is not None:
        return FileChanged(path, "vanished")
    if isinstance(exc, FileChanged) and exc.kept and expected and _remove_if(exc.kept, expected):
        return FileChanged(path, "edited")
    return exc


def _remove_if(kept: Path, expected: Fingerprint) -> bool:
    """Remove a file if it holds these bytes and nobody is about to write others to it."""
    if is_open_for_writing(kept):
        return False
    try:
        look = look_at(kept)
        if look is None:
            return True
        if look.size != expected.size or fingerprint_of(kept).sha256 != expected.sha256:
            return False
    except FileChanged as exc:
        return exc.state == "vanished"
    except (InvalidInput, LocalStorageError):
        return False
    kept.unlink(missing_ok=True)
    return True


def is_open_for_writing(path: Path) -> bool:
    """Say whether some process has the file open for writing, where the system can tell (Linux).

    A read lease is granted only if nobody has. An editor that writes in place may have opened
    the file just before the exchange; where this cannot be told, such a save may be lost.
    """
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415  # Windows has none

    try:
        with opened(path) as descriptor:
            # Breaking a lease sends SIGIO, which kills by default; SIGURG is ignored by default.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN
    return False


def _own_names(name: str) -> tuple[str, str]:
    """The names, torn and whole, under which a file waits beside its target; they carry the target's if it fits."""
    token = secrets.token_hex(6)
    stem = f"{_PREFIX}{token}.{name}"
    if len(os.fsencode(stem + _WHOLE)) > _NAME_BYTES:
        stem = f"{_PREFIX}{token}.{hashlib.sha256(os.fsencode(name)).hexdigest()}.jsonl"
    return stem + _TORN, stem + _WHOLE
