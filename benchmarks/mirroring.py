"""Pushing many messages, and pulling them into a new device, against the same steps done bare.

Both sides work with a remote in memory, so that what is compared is the work and not the disk of
a remote: bare is a select, msgpack, zstd and AES-GCM, and the reverse with ``executemany``.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from generate import Prose, messages
from measure import Bench, Figure, compared, seconds_of, side_by_side

from steno.storage.database import wall_ms
from steno.storage.model import NewMessage
from steno.storage.packing import attach
from steno.storage.rows import BORN_COLUMNS, INSERT_MESSAGE
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.sync.vault.engine import SEGMENT_BYTES, VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.seal import Keyring
from steno.sync.vault.vault import found_vault

GOAL = 3.0
PER_SESSION = 200
MEAN_BYTES = 700


class Vault(msgspec.Struct, frozen=True):
    """A vault on a remote in memory."""

    remote: MemoryRemote
    id: str
    keyring: Keyring

    @classmethod
    async def new(cls) -> Vault:
        """An empty one."""
        remote = MemoryRemote()
        vault_id, keyring = await found_vault(
            remote, passphrase=secrets.token_hex(), draw=secrets.token_bytes, cost=MINIMUM_COST
        )
        return cls(remote, vault_id, keyring)

    def engine(self, store: Store) -> VaultEngine:
        """A device's way to it."""
        return VaultEngine(
            store, self.remote.peer(), vault=self.id, keyring=self.keyring, now_ms=wall_ms, draw=secrets.token_bytes
        )


class Bare:
    """Sealed batches of rows, made and read back with nothing around them."""

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


def figures(bench: Bench) -> list[Figure]:
    """Push, and pull into a new device."""
    count = bench.scale.messages
    source = bench.folder / "source.db"
    _fill(source, count)
    empty = bench.folder / "empty.db"
    Store(empty).close()
    bare, pushed = Bare(), itertools.count()
    vaults: list[Vault] = []

    def push(_: int) -> float:
        vaults[:] = [asyncio.run(Vault.new())]
        with Store(source) as store:
            return seconds_of(lambda: asyncio.run(vaults[0].engine(store).push()))

    def pull(_: int) -> float:
        target = Path(shutil.copy(empty, bench.folder / f"ours-{next(pushed)}.db"))
        with Store(target) as store:
            _be_new(store)
            took = seconds_of(lambda: asyncio.run(vaults[0].engine(store).pull()))
            assert store.count()[1] == count
        _remove(target)
        return took

    def bare_pull(_: int) -> float:
        target = Path(shutil.copy(empty, bench.folder / f"bare-{next(pushed)}.db"))
        took = seconds_of(lambda: bare.pull(target))
        _remove(target)
        return took

    rounds = bench.scale.mirror_rounds
    pushes = side_by_side(push, lambda _: seconds_of(lambda: bare.push(source)), rounds=rounds)
    pulls = side_by_side(pull, bare_pull, rounds=rounds)
    ours = sum(len(data) for name, data in vaults[0].remote.objects.items() if name.startswith("log/"))
    theirs = sum(map(len, bare.objects))
    bench.say(f"{ours / 1e6:.2f} MB in segments, {theirs / 1e6:.2f} MB bare")
    what = f"{count:,} messages"
    return [
        compared(f"push {what}", pushes, goal=GOAL, unit="s"),
        compared(f"pull {what} into a new device", pulls, goal=GOAL, unit="s"),
    ]


def _fill(path: Path, count: int) -> None:
    prose = Prose(4)
    with Store(path) as store:
        for start in range(0, count, PER_SESSION):
            many = min(PER_SESSION, count - start)
            header = store.create(title=prose.text(40))
            batch = [NewMessage(role=role, content=text) for role, text in messages(prose, many, mean=MEAN_BYTES)]
            store.add_messages(header.id, batch)
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _be_new(store: Store) -> None:
    """Give a copied empty store a name of its own."""
    with store.transaction():
        store.execute("UPDATE devices SET id = ? WHERE no = 0", ("b" * 12,))
        store.set_meta("device", "b" * 12)
    store.device = "b" * 12


def _remove(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
