"""A file system on which every call waits for ever, as on a network disk whose server is gone."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from pathlib import Path

_INIT = 26
_MINOR = 31


class HungMount:
    """Lies over a directory from when it is made until `end`; needs root and /dev/fuse.

    It answers the kernel's first question, as FUSE demands, and no other one (linux/fuse.h).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"steno-tests", os.fsencode(folder), b"fuse", 0, options.encode()):
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "mounting fuse")
        _, asked, unique = struct.unpack_from("<IIQ", os.read(self._device, 1 << 17))
        assert asked == _INIT
        answer = struct.pack("<4I2H2I2H8I", 7, _MINOR, 4096, 0, 1, 1, 4096, 1, 1, 0, *([0] * 8))
        os.write(self._device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)

    def end(self) -> None:
        """Let everybody go who waits, with an error, and show what lies below again."""
        os.close(self._device)
        subprocess.run(["umount", "-l", str(self._folder)], check=True)
