"""How a large content stands in its column: compressed, where that saves room.

    kind, 1 byte: 1 text, 2 JSON | bytes before, 8 digits | a zstd frame with its size and checksum

Neither text nor JSON begins like that, so rows that were written with compression and without stand
side by side. It ends at the edge of the database: statements read through `read_sql` and write
through `write_sql`, and everything else sees contents as they are (tests/unit/test_packing.py).
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite3 import Connection

LARGE_BYTES = 4096
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
LEVEL = 3

_TEXT, _JSON = b"\x01", b"\x02"
_SIZE = slice(1, 9)
_FRAME_AT = 9


def attach(connection: Connection, *, compress: bool) -> None:
    """Teach a connection what the statements of this module need; without ``compress`` it writes contents as given."""
    connection.create_function("packed", 2, packed if compress else _as_given, deterministic=True)
    connection.create_function("unpacked", 1, unpacked, deterministic=True)


# Functions are given and give BLOBs: pysqlite3 ends a TEXT at its first NUL. And length() of a TEXT counts characters,
# also only those before the first NUL.


def read_sql(column: str) -> str:
    """SQL for the content that a column holds; of most it is seen without a call into Python.

    One that is damaged is read as it stands, which is no content: an error of a function would reach whoever ran the
    statement without its name.
    """
    opened = f"iif({column} < x'02', CAST(unpacked({column}) AS TEXT), unpacked({column}))"
    return f"iif({_is_packed(column)}, ifnull({opened}, {column}), {column})"


def write_sql(value: str) -> str:
    """SQL for the column that is to hold a content; a short one pays no call into Python."""
    raw = f"CAST({value} AS BLOB)"
    kept = f"ifnull(packed({raw}, typeof({value}) = 'text'), {value})"
    return f"iif(length({raw}) > {LARGE_BYTES}, {kept}, {value})"


def size_sql(column: str) -> str:
    """SQL for how many bytes the content has that a column holds; nothing is decompressed."""
    declared = f"CAST(CAST(substr({column}, 2, 8) AS TEXT) AS INTEGER)"
    return f"iif({_is_packed(column)}, {declared}, length(CAST({column} AS BLOB)))"


def packed(raw: bytes, is_text: int) -> bytes | None:
    """The column of a large content; None where it had better stay as it is."""
    if len(raw) > MAX_MESSAGE_BYTES:  # `unpacked` would refuse it
        return None
    column = b"%b%08d%b" % (_TEXT if is_text else _JSON, len(raw), _zstd().compressor.compress(raw))
    return column if len(column) < len(raw) else None


def unpacked(column: bytes) -> bytes | None:
    """What `packed` was given; None where the column is damaged or claims more than `MAX_MESSAGE_BYTES`."""
    zstd, frame = _zstd(), column[_FRAME_AT:]
    try:
        declared = zstd.declared_bytes(frame)
        if declared > MAX_MESSAGE_BYTES or declared != int(column[_SIZE]):
            return None
        return zstd.decompressor.decompress(frame, allow_extra_data=False)
    except (zstd.error, ValueError):
        return None


def unpack(column: str | bytes) -> str | bytes:
    """A column that was selected as it stands, as `read_sql` reads it."""
    if isinstance(column, str) or column[:1] not in (_TEXT, _JSON):
        return column
    raw = unpacked(column)
    if raw is None:
        return column
    return raw.decode() if column[:1] == _TEXT else raw


class _Zstd(threading.local):
    """What one thread compresses with: two at once may not use the same."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415  many reads meet no large content

        self.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()
        self.declared_bytes = zstandard.frame_content_size
        self.error = zstandard.ZstdError


@cache
def _zstd() -> _Zstd:
    return _Zstd()


def _is_packed(column: str) -> str:
    return f"typeof({column}) = 'blob' AND {column} < x'03'"


def _as_given(raw: bytes, is_text: int) -> None:  # noqa: ARG001
    return None
