"""Pushing many messages, and pulling them into a new device, against the same steps done bare.

Both sides work with a remote in memory, so that what is compared is the work and not the disk of
a remote.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from bare import Bare
from generate import Prose, messages
from measure import Bench, Figure, compared, seconds_of, side_by_side

from steno.storage.database import wall_ms
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault.engine import VaultEngine
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

    def engine(self, store: Store, *, now_ms: Callable[[], int] = wall_ms) -> VaultEngine:
        """A device's way to it."""
        return VaultEngine(
            store, self.remote.peer(), vault=self.id, keyring=self.keyring, now_ms=now_ms, draw=secrets.token_bytes
        )

    @property
    def size_bytes(self) -> int:
        """What all its objects weigh."""
        return sum(map(len, self.remote.objects.values()))


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
