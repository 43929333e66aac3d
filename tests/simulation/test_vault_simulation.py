"""Devices with the real engine over one remote that fails in every way a remote may, and that crash at any step.

Requests fail before or after they are done, listings lag and repeat themselves, objects come back torn, processes
die between any two writes and are started again. Each schedule comes from a seed. At the end every device holds
the same, everything that was acknowledged is there, and each log tiles.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import slices
from steno.storage.errors import RemoteRefused, RemoteUnreachable, StenoError
from steno.storage.store import Store
from steno.sync.vault import engine as engine_module
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import LOG, VAULT, SegmentName
from steno.sync.vault.seal import Keyring, VaultKey
from steno.sync.vault.vault import vault_json
from steno.tests.simulation.test_stores_converge import NATIVE, state, step

VAULT_ID, KEYRING = "vaultvault00", Keyring((VaultKey("keykeykeyk00", b"k" * 32),))
START_MS = 1_700_000_000_000
SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "250"))


class Crash(BaseException):
    """The process ends here."""


class World:
    """What all devices of one schedule share: chance, time, objects, and whether anything may go wrong."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ms = START_MS
        self.remote = MemoryRemote()
        self.remote.objects[VAULT] = vault_json(VAULT_ID)
        self.faulty = True
        self.crash_share = self.rng.choice([0.0, 0.02, 0.1])
        self.fault_share = self.rng.choice([0.0, 0.05, 0.2])

    def happens(self, share: float) -> bool:
        return self.faulty and self.rng.random() < share

    def step(self, _: str) -> None:
        if self.happens(self.crash_share):
            raise Crash


class FaultyRemote(MemoryRemote):
    """One device's way to the objects."""

    def __init__(self, world: World) -> None:
        super().__init__(peer_of=world.remote)
        self._world = world

    async def put(self, name: str, data: bytes) -> None:
        self._fail()
        await super().put(name, data)
        self._fail()

    async def get(self, name: str, **options: Any) -> bytes:
        self._fail()
        data = await super().get(name, **options)
        if name.startswith(LOG) and self._world.happens(self._world.fault_share):
            return data[: self._world.rng.randrange(len(data))]
        return data

    async def list(self, prefix: str) -> list[str]:
        self._fail()
        names = await super().list(prefix)
        if self._world.happens(self._world.fault_share):
            names = [name for name in names if self._world.rng.random() < 0.7]
        if self._world.happens(self._world.fault_share):
            names = self._world.rng.choices(names, k=len(names)) if names else names
        return names

    def _fail(self) -> None:
        if self._world.happens(self._world.fault_share):
            kind = self._world.rng.choice([RemoteUnreachable, RemoteRefused])
            raise kind(remote="memory", reason="by chance")


class Device:
    """A store, its engine, and what it acknowledged."""

    def __init__(self, path: Path, world: World) -> None:
        self.path = path
        self.world = world
        self.captured = 0
        self.skew_ms = world.rng.choice([0, -50, 50, 9 * 86_400_000])
        self.acknowledged: set[tuple[str, str]] = set()
        self.deleted_knowingly: set[tuple[str, str]] = set()
        self.start()

    def start(self) -> None:
        """Open the store as a process that was just started does."""
        self.store = Store(self.path, now_ms=self._now, random=self._random)
        self.engine = VaultEngine(
            self.store,
            FaultyRemote(self.world),
            vault=VAULT_ID,
            keyring=KEYRING,
            now_ms=self._now,
            draw=self.world.rng.randbytes,
        )

    def write(self) -> None:
        """One write of a person or an import."""
        before = self.hidden()
        step(self, self.world.rng)  # pyright: ignore[reportArgumentType]  all that it asks for is here
        self.acknowledged |= self.messages()
        self.deleted_knowingly |= self.hidden() - before

    def messages(self) -> set[tuple[str, str]]:
        """Every message that is here, hidden or not."""
        sql = "SELECT s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session"
        return set(self.store.execute(sql).fetchall())

    def hidden(self) -> set[tuple[str, str]]:
        """The messages written by hand that nobody is shown."""
        live = [each.id for each in list(self.store.sessions())]
        shown = {(session, message.id) for session in live for message in self.store.messages(session)}
        return {each for each in self.messages() - shown if each[1] not in NATIVE}

    async def sync(self) -> bool:
        """Sync, or a part of it; say whether it was complete. A crash is followed by a new start."""
        part = self.world.rng.choice(["sync", "sync", "push", "pull"]) if self.world.faulty else "sync"
        try:
            return (await getattr(self.engine, part)()).complete
        except StenoError:
            return False
        except Crash:
            self.store.close()
            self.start()
            return False

    def _now(self) -> int:
        return self.world.now_ms + self.skew_ms

    def _random(self, length: int) -> str:
        return "".join(self.world.rng.choices("abcdefghij", k=length))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory in memory, where there is one: thousands of commits wait for the disk otherwise."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="steno-simulation-", dir=memory if os.access(memory, os.W_OK) else None))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def empty(folder: Path) -> Path:
    """A store that nobody used: copying it is quicker than making one."""
    path = folder / "empty.db"
    Store(path).close()
    return path


@pytest.fixture
def simulated(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def run(seed: int) -> None:
        world = World(seed)
        monkeypatch.setattr(engine_module, "step", world.step)
        monkeypatch.setattr(engine_module, "SEGMENT_BYTES", world.rng.choice([200, 1000, 1 << 22]))
        monkeypatch.setattr(engine_module, "slices", functools.partial(slices, rows=world.rng.choice([1, 3, 2000])))
        place = empty.parent / str(seed)
        place.mkdir()
        devices = [
            Device(_fresh(empty, place / f"{name}.db", name), world) for name in "abcd"[: world.rng.randint(2, 4)]
        ]
        try:
            asyncio.run(_live(world, devices))
            _check(world, devices, seed)
        finally:
            for device in devices:
                device.store.close()
            shutil.rmtree(place)

    return run


def _fresh(empty: Path, path: Path, name: str) -> Path:
    shutil.copy(empty, path)
    with Store(path) as store, store.transaction():
        store.set_meta("device", name * 12)
        store.set_meta("store", name * 8)
        store.execute("UPDATE devices SET id = ? WHERE no = 0", (name * 12,))
    return path


async def _live(world: World, devices: list[Device]) -> None:
    rng = world.rng
    for _ in range(rng.randint(10, 60)):
        world.now_ms += rng.choice([1, 20, 6_000])
        if rng.random() < 0.6:
            rng.choice(devices).write()
        else:
            # Several at once, each asking between the requests of the others.
            await asyncio.gather(*(device.sync() for device in rng.sample(devices, rng.randint(1, len(devices)))))
    world.faulty, done = False, [False]
    for _ in range(4):
        world.now_ms += 3_600_000
        done = [await device.sync() for device in devices]
    assert all(done)


def _check(world: World, devices: list[Device], seed: int) -> None:
    states = [state(device.store) for device in devices]
    assert all(each == states[0] for each in states), f"seed {seed}: devices differ"
    acknowledged = set().union(*(device.acknowledged for device in devices))
    deleted = set().union(*(device.deleted_knowingly for device in devices))
    for device in devices:
        assert device.hidden() <= deleted, f"seed {seed}: a deletion swallowed what its writer had not seen"
        assert acknowledged == device.messages(), f"seed {seed}: messages are lost or made up"
        assert device.store.one("SELECT count(*) FROM waiting")[0] == 0
        assert device.store.one("SELECT count(*) FROM gaps")[0] == 0
        assert device.store.one("SELECT count(*) FROM outbox")[0] == 0
    names = [name for name in map(SegmentName.parse, world.remote.objects) if name is not None]
    for device in devices:
        numbers = sorted(name.first for name in names if name.device == device.store.device)
        assert numbers == list(range(1, len(numbers) + 1)), f"seed {seed}: a log does not tile"


@pytest.mark.parametrize("start", range(0, SCHEDULES, 50))
def test_devices_over_a_failing_remote_end_equal_and_lose_nothing(simulated: Callable[[int], None], start: int):
    for seed in range(start, start + 50):
        simulated(seed)
