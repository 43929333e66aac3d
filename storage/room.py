"""The room that is left on the disk of a store: what is taken in from elsewhere leaves some to what is written here.

(tests/unit/test_room.py)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import LocalStorageError

LEFT_BYTES = 64 << 20
LEFT_SHARE = 20
"""Of a small disk, one part in so many is left."""
_GROWTH = 8


def check_room(path: Path, *, taking: int) -> None:
    """Raise `LocalStorageError` where the disk of a file would be nearly full with so many more packed bytes."""
    try:
        disk = shutil.disk_usage(path.parent)
    except OSError:  # a disk of which nothing is known is tried
        return
    least = min(LEFT_BYTES, disk.total // LEFT_SHARE)
    if disk.free - taking * _GROWTH < least:
        raise LocalStorageError(
            f"the disk of {path} is nearly full ({disk.free >> 20:,} MiB left); what other devices wrote waits",
            hint="make room; it is taken in then",
        )
