"""Renaming two files at once, and renaming without overwriting: what os.rename cannot.

Linux has renameat2, macOS renamex_np; elsewhere, and on file systems without them, the answer
is False and `exchange` takes the longer way (tests/unit/test_files_exchange.py runs both).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY})

_AT_FDCWD = -100


def atomic_rename(source: Path, target: Path, way: Literal["exchange", "noreplace"]) -> bool:
    """Rename atomically in a way that os.rename lacks; False where this system or file system has it not."""
    call = _native_rename()
    if call is None:
        return False
    code = call(os.fsencode(source), os.fsencode(target), way == "exchange")
    if code in UNSUPPORTED:
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
