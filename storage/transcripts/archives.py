"""What the ZIP that ChatGPT and claude.ai hand out holds: its conversations, read as they come, nothing unpacked.

Nothing is written anywhere, so names with ``..`` lead nowhere. An archive that claims too much is refused before it is
read (tests/unit/test_transcript_archives.py).
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from ..errors import InvalidInput
from .transcript import Reading

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
"""What reading a member raises whose bytes are not those that were packed."""
MAGIC = b"PK\x03\x04"
MAX_DIRECTORY_BYTES = 64 << 20
MOST_TIMES = 250
"""How many times its size something may be unpacked; conversations are some five to twenty."""
_SUSPICIOUS_BYTES = 64 << 20
_CONVERSATIONS = re.compile(r"conversations(-\d+)?\.json")
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"


def conversations(stream: BinaryIO, reading: Reading, *, name: str) -> Iterator[BinaryIO]:
    """The files of conversations of an archive, in order; what else it holds is counted. Raises `InvalidInput`."""
    _check_directory(stream, name)
    try:
        with zipfile.ZipFile(stream) as archive:
            wanted = []
            for each in sorted(archive.infolist(), key=lambda each: each.filename):
                if each.is_dir():
                    continue
                if _CONVERSATIONS.fullmatch(PurePosixPath(each.filename).name):
                    _check_size(each, name)
                    wanted.append(each)
                else:
                    reading.leave_out(_kind(each.filename))
            if not wanted:
                raise InvalidInput(f"{name} holds no conversations.json", hint="give the ZIP that you were sent")
            for each in wanted:
                with archive.open(each) as member:
                    yield member  # pyright: ignore[reportReturnType]  it reads as one
    except (*DAMAGED, NotImplementedError, RuntimeError) as exc:
        raise InvalidInput(f"{name} cannot be unpacked ({exc})") from exc


def _check_directory(stream: BinaryIO, name: str) -> None:
    """Refuse an archive whose table of contents alone would fill the memory."""
    size = stream.seek(0, 2)
    start = max(0, size - (1 << 16) - 200)
    stream.seek(start)
    tail = stream.read(size - start)
    stream.seek(0)
    at, at_64 = tail.rfind(_END), tail.rfind(_END_64)
    claimed = 0
    if at >= 0 and len(tail) >= at + 22:
        [claimed] = struct.unpack_from("<L", tail, at + 12)
    if at_64 >= 0 and len(tail) >= at_64 + 56:
        claimed = max(claimed if claimed < 0xFFFFFFFF else 0, *struct.unpack_from("<Q", tail, at_64 + 40))
    if claimed > MAX_DIRECTORY_BYTES:
        raise InvalidInput(f"{name} has too long a table of contents", hint="unpack conversations.json yourself")


def _check_size(member: zipfile.ZipInfo, name: str) -> None:
    if member.file_size > max(_SUSPICIOUS_BYTES, MOST_TIMES * member.compress_size):
        raise InvalidInput(
            f"{name} is packed as no conversations are ({member.file_size:,} bytes in {member.compress_size:,})",
            hint="unpack conversations.json yourself if you trust it",
        )


def _kind(name: str) -> str:
    path = PurePosixPath(name)
    return path.name if path.suffix in (".json", ".html") and len(path.name) < 40 else "file of media"
