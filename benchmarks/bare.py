"""The yardstick of push and pull: sealed batches of rows, made and read back with nothing around them.

A select, msgpack, zstd and AES-GCM, and the reverse with ``executemany``; nothing is merged and nothing remembered.
Run as a program it brings one database into an empty one, and prints the seconds of both halves.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from measure import seconds_of

from steno.storage.packing import attach
from steno.storage.rows import BORN_COLUMNS, INSERT_MESSAGE
from steno.storage.sqlite import dbapi
from steno.sync.vault.sending import SEGMENT_BYTES


class Bare:
    """Messages on their way from one database to another."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []
        self._cipher = AESGCM(secrets.token_bytes(32))

    def push(self, database: Path) -> None:
        """Select, encode, compress, encrypt."""
        connection = dbapi.connect(str(database))
        attach(connection, compress=True)
        self.objects.clear()
        rows = connection.execute(f"SELECT session, {BORN_COLUMNS} FROM messages ORDER BY seq")  # noqa: S608
        batch: list[tuple[Any, ...]] = []
        size = 0
        for row in rows:
            batch.append(row)
            size += 100 + len(row[8])
            if size > SEGMENT_BYTES:
                self._seal(batch)
                batch, size = [], 0
        self._seal(batch)
        connection.close()

    def _seal(self, batch: list[tuple[Any, ...]]) -> None:
        packed = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(batch))
        self.objects.append(self._cipher.encrypt(len(self.objects).to_bytes(12), packed, None))

    def pull(self, database: Path) -> None:
        """Decrypt, decompress, decode, and insert batch by batch."""
        connection = dbapi.connect(str(database), isolation_level=None)
        attach(connection, compress=True)
        connection.execute("PRAGMA synchronous = NORMAL")
        seq = 0
        for number, sealed in enumerate(self.objects):
            packed = self._cipher.decrypt(number.to_bytes(12), sealed, None)
            batch = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(packed))
            rows = [(row[0], at, at, 0, at, 0, 0, *row[1:]) for at, row in enumerate(batch, start=seq + 1)]
            seq += len(batch)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT_MESSAGE, rows)
            connection.execute("COMMIT")
        connection.close()


def _main(source: str, target: str) -> None:
    bare = Bare()
    push_s = seconds_of(lambda: bare.push(Path(source)))
    pull_s = seconds_of(lambda: bare.pull(Path(target)))
    print(json.dumps({"push_s": push_s, "pull_s": pull_s}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
