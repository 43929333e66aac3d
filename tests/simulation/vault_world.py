"""A remote that fails in every way a remote may, and devices on it that crash at any point: real engine, store, codec.

Time, chance and objects are the world's. A device sees what lies on the remote through a way of its own, on which
requests fail, listings lag and objects come late. What a person did is kept beside it, for `vault_check`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext, suppress
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.storage.change import VERSION, decode_batch
from steno.storage.errors import (
    NewerFormat,
    ObjectDamaged,
    ObjectMissing,
    RemoteRefused,
    RemoteUnreachable,
    StenoError,
)
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror
from steno.sync.vault import engine, rotation, segment
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.keys import joined, open_key, parse_key_object, wrap_key
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.membership import Membership
from steno.sync.vault.names import LOG, MAX_OBJECT_BYTES, VAULT, KeyName, SegmentName, counting_keys
from steno.sync.vault.peers import Peers
from steno.sync.vault.ranges import Ranges
from steno.sync.vault.report import SyncReport
from steno.sync.vault.revoked import published
from steno.sync.vault.rotation import HomeKeys
from steno.sync.vault.seal import Keyring, VaultKey, sealed_with, unpack, unseal
from steno.sync.vault.segment import Sealer
from steno.sync.vault.vault import vault_json
from steno.sync.vault.work import directly
from steno.tests.simulation.deeds import MARK, Deeds, Field, Look, Write

VAULT_ID = "vaultvault00"
START_MS = 1_700_000_000_000
NAMES = "abcdefghij"
NATIVE = [f"n{at}" for at in range(6)]
REFUSALS = ["401 Unauthorized", "403 Forbidden", "507 Insufficient Storage"]
OUTAGES = ["429 Too Many Requests", "503 Slow Down", "timed out"]


class Crash(BaseException):
    """The process ends here."""


class Objects:
    """What lies on the remote, and what each device sees of it: with replicated folders something else for a while."""

    def __init__(self) -> None:
        self.whole: dict[str, bytes] = {}
        self._views: dict[str, dict[str, bytes]] | None = None
        self._late: dict[str, list[tuple[str, bytes | None]]] = {}

    def seen_by(self, device: str) -> dict[str, bytes]:
        if self._views is None:
            return self.whole
        if device not in self._views:
            self._views[device], self._late[device] = dict(self.whole), []
        return self._views[device]

    def change(self, device: str, name: str, data: bytes | None) -> None:
        """Put an object, or remove one; the others of a replicated folder see it later."""
        _apply(self.seen_by(device), name, data)
        _apply(self.whole, name, data)
        for other, late in self._late.items():
            if other != device:
                late.append((name, data))

    def replicate(self) -> None:
        """From now on each device has a folder of its own, which hears of the others by and by."""
        if self._views is None:
            self._views = {}

    def carry(self, device: str, number: int) -> None:
        """Let one change reach a device, out of order but for what happened to the same object."""
        late = self._late.get(device, [])
        if late and self._views is not None:
            name = late[number % len(late)][0]
            for each in [each for each in late if each[0] == name]:
                late.remove(each)
                _apply(self._views[device], *each)

    def carry_all(self) -> None:
        """Let everybody see everything."""
        if self._views is not None:
            self._views, self._late = {}, {}

    def settle(self) -> None:
        """Everybody sees the same from now on."""
        self._views, self._late = None, {}


def _apply(objects: dict[str, bytes], name: str, data: bytes | None) -> None:
    if data is None:
        objects.pop(name, None)
    else:
        objects[name] = data


class Copy(NamedTuple):
    """A home as it was once: what had been written there, and which objects it had taken in."""

    device: Device
    path: Path
    acts: set[int]
    applied: set[str]
    shows: Look | None


class Buffer(NamedTuple):
    """A file as somebody opened it: what it said, and what whoever reads it knows of."""

    path: Path
    lines: tuple[str, ...]
    knew: Look


class Save(NamedTuple):
    """A save, or a removal, that the mirror has not taken up yet."""

    action: int
    session: str
    path: Path
    knew: Look
    edits: Field | None


class World:
    """What all devices of a schedule share: time, objects, and what was ever done."""

    def __init__(self, folder: Path, templates: dict[str, Path]) -> None:
        self.folder, self.templates = folder, templates
        self.now_ms = START_MS
        self.times = itertools.count(1_000_000_000)
        self.objects = Objects()
        self.devices: list[Device] = []
        self.deeds = Deeds()
        self.faulty = True
        self.passphrase = "first"
        """The one that opens the vault, if nobody was killed while it was changed."""
        self.passphrases = {"first"}
        self.order = 0
        """In which order requests are done that are under way at the same time; 0 is as they were asked for."""
        self.newer: set[str] = set()
        """The objects that a later version of the program sealed, on the remote or about to be."""
        self.kept: set[str] = set()
        """The ids, which stand in all that is written there, of sessions that are local-only."""
        self.stands_for: dict[str, dict[str, Ranges]] = {}
        """By object: of which devices it stands for which publications."""
        self.keyring = Keyring((VaultKey("keykeykeyk00", b"k" * 32),))
        self.snapshots: list[dict[str, bytes]] = []
        self.copies: list[Copy] = []
        self.gone: set[str] = set()
        """The objects that the remote lost, or that changed on it."""
        self.retired: list[str] = []
        """The ids of devices that are no more."""
        self.is_damaged = self.is_emptied = self.are_keys_lost = self.is_copied = self.is_blind = False
        self.is_revoked = False
        """Somebody was shut out, or somebody tried."""
        self.strays = b""
        """What nobody seals anew that came under a revoked key."""
        self.is_demanded = False
        """A later version asked everybody for no less."""
        self.undone: set[tuple[str, str]] = set()
        """The homes, with the sessions, that were put back before they wrote there, and those that purged them."""
        self.purged: set[tuple[str, str]] = set()
        self.sent: set[int] = set()
        self.lost: set[int] = set()
        self._found()

    def _found(self) -> None:
        draw = random.Random(0).randbytes
        name = KeyName(1, "firstkey0000")
        wrapped = wrap_key(
            self.keyring, passphrase="first", vault_id=VAULT_ID, n=1, draw=draw, cost=MINIMUM_COST, derive=derived
        )
        self.objects.whole |= {VAULT: vault_json(VAULT_ID), name.path: wrapped}

    def device(self, number: int) -> Device:
        """One of the devices; one that was not there joins the vault."""
        while len(self.devices) <= number:
            self.join()
        return self.devices[number]

    def join(self) -> Device:
        """A device that has the address and a passphrase, nothing else; where the keys are gone, somebody paired it."""
        name = NAMES[len(self.devices)]
        path = self.folder / f"{name}.db"
        shutil.copy(self.templates[name], path)
        keyring = self.unlocked() or next((each.keyring for each in self.live), self.keyring)
        self.met(keyring)
        self.devices.append(Device(name, path, self, keyring=keyring))
        return self.devices[-1]

    def met(self, keyring: Keyring) -> None:
        """Remember keys, so that what they seal can be looked at."""
        for key in keyring.keys:
            if self.keyring.find(key.id) is None:
                self.keyring = Keyring((*self.keyring.keys, key))

    def unlocked(self) -> Keyring | None:
        """The keys that passphrases open, by the key objects that count on the remote: two, if written at once."""
        objects, opened = self.objects.whole, None
        for found in counting_keys(objects):
            for passphrase in (self.passphrase, *sorted(self.passphrases)):
                with suppress(StenoError):
                    parsed = parse_key_object(objects[found.path], name=found.path, vault_id=VAULT_ID)
                    keyring = open_key(parsed, passphrase=passphrase, name=found.path, derive=derived)
                    opened = keyring if opened is None else joined(opened, keyring)
                    break
        return opened

    @property
    def newest_version(self) -> int:
        """Which version of the program reads all that was written."""
        return VERSION + 1 if self.newer or self.is_demanded else VERSION

    @property
    def live(self) -> list[Device]:
        return [device for device in self.devices if not device.is_dead]

    def close(self) -> None:
        for device in self.devices:
            device.store.close()

    def opened(self, name: str, sealed: bytes) -> bytes:
        """The content of an object, which some device put."""
        return unpack(unseal(sealed, keyring=self.keyring, vault_id=VAULT_ID, name=name), name=name)

    def covered_by(self, listing: Iterable[str]) -> dict[str, Ranges]:
        """The publications of each device that are there, or stood for, where these objects are."""
        listed = [name for name in map(SegmentName.parse, listing) if name is not None]
        covered: dict[str, Ranges] = {}
        for name in listed:
            covered[name.device] = covered.get(name.device, Ranges()).add(name.first, name.last)
        for name in listed:
            for device, ranges in self.stands_for.get(name.path, {}).items():
                covered[device] = covered.get(device, Ranges()) | ranges
        return covered

    def is_held(self, name: str, *, without: Device | None = None) -> bool:
        """Say whether somebody who stays has what an object says."""
        segment = SegmentName.parse(name)
        holders = [device for device in self.live if device is not without]
        if segment is None:
            return bool(holders)
        if self.copies or self.is_copied:  # several may write under one number
            return any(name in device.applied() for device in holders)
        return any(device.has(segment) for device in holders)


RUNNING: ContextVar[Device | None] = ContextVar("RUNNING", default=None)
"""Whose engine is at work."""


def passed(_: str) -> None:
    """A named point of the engine: the process may end here."""
    device = RUNNING.get()
    if device is not None:
        device.pass_point()


def derived(passphrase: str, salt: bytes, _: object) -> bytes:
    """A key from a passphrase, as cheaply as can be."""
    return sha256(passphrase.encode() + salt).digest()


class Device:
    """A store, its engine, its way to the remote, and what its person did."""

    def __init__(self, name: str, path: Path, world: World, *, keyring: Keyring) -> None:
        self.name, self.path, self.world = name, path, world
        self.rng = random.Random(name)
        self.skew_ms = 0
        self.captured = 0
        self.acts: set[int] = set()
        self.is_dead = False
        self.armed: list[list[Any]] = []
        """Faults of requests: how many requests from now, and which."""
        self.crash_in = 0
        self.is_gone = False
        """The process has ended, and what it had under way may not have heard of it yet."""
        self.version, self.demands = VERSION, False
        """Which version of segments the program writes, and whether it asks all others to write no lesser one."""
        self.unheard = 0
        """So many requests more are refused."""
        self.hidden: dict[str, int] = {}
        """Objects that are not seen, for so many listings."""
        self.keyring = keyring
        self.had: set[str] = set()
        """What it had taken in when it last was given keys."""
        self.shutting_out: str | None = None
        """The passphrase of a revocation that was cut short here."""
        self.files = path.with_suffix(".files")
        self.mirror: Mirror | None = None
        self.seconds = 0.0
        self.shows: Look | None = None
        """What the files that the mirror wrote show; None where there never was one."""
        self.buffer: Buffer | None = None
        self.saved: Save | None = None
        self._asked = 0
        self.way = Way(self)
        self.start()

    def start(self) -> None:
        """Open the store as a process that was just started does."""
        self.is_gone, self.mirror = False, None
        self.store = Store(self.path, now_ms=self.now, random=self._random)
        self.engine = VaultEngine(
            self.store, self.way, vault=VAULT_ID, keyring=SimulatedKeys(self), now_ms=self.now, draw=self.rng.randbytes,
            beside=directly,
        )  # fmt: skip

    def restart(self) -> None:
        """Begin again after the process has ended."""
        self.crash_in = 0
        self.store.close()
        self.start()

    def now(self) -> int:
        return max(self.world.now_ms + self.skew_ms, 1)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def turns(self) -> int:
        """How many others come first with their requests."""
        self._asked += 1
        return (self._asked * 7 + self._asked // 3) * self.world.order % 5 if self.world.order else 0

    def _random(self, length: int) -> str:
        return "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=length))

    # Faults

    def pass_point(self) -> None:
        if self.crash_in and self.world.faulty:
            self.crash_in -= 1
            self.is_gone |= not self.crash_in
        if self.is_gone:
            raise Crash

    def calm(self) -> None:
        """Nothing more goes wrong here."""
        self.armed, self.crash_in, self.unheard, self.hidden = [], 0, 0, {}

    # What a person does

    def act(self, write: Write, *, edits: Field | None = None) -> None:
        """One write, what it replaced and hid, and the sessions that it purged."""
        before = self._ended()
        self.acts.add(self.world.deeds.act(self.store, write, edits=edits))
        self.world.purged |= {(self.name, session) for session, _ in self._ended() - before}

    def _ended(self) -> set[tuple[str, int]]:
        """The sessions that somebody purged, with how many of their lives that ended."""
        return set(self.store.execute("SELECT id, purged FROM sessions WHERE purged").fetchall())

    def has(self, name: SegmentName) -> bool:
        """Whether this store has taken in, or published, what a segment says."""
        return self.engine._ledger.cursor().covers(name.device, name.first, name.last)

    def applied(self) -> set[str]:
        """The objects that this store has taken in, or published."""
        return self.engine._ledger.applied()

    # Its program

    def becomes(self, version: int) -> None:
        """Another version of the program is installed, and started."""
        if version == self.version:
            return
        self.version, self.demands = version, False
        self.store.close()
        self.start()

    def check_may_write(self) -> None:
        """Whoever was told that a later version is needed writes nothing more."""
        records = [json.loads(record) for *_, record in self.engine.peers._ledger.peers()]
        needed = max((record.get("needs", 0) for record in records), default=0)
        assert self.version >= needed, f"{self.name} writes though it was told that a later version is needed"

    # Its keys

    def take_keys(self, keyring: Keyring) -> None:
        """Hold these keys from now on."""
        if keyring != self.keyring:
            self.had = self.applied()
        self.keyring = keyring
        self.world.met(keyring)

    def check_may_seal(self) -> None:
        """Whoever was told that the key is revoked seals nothing more with it."""
        assert not self.engine._keys.superseded, f"{self.name} seals with a key that it knows to be revoked"

    def check_taken_in(self) -> None:
        """Nothing was taken in, since the keys are held, that came under a revoked one and does not count."""
        if all(key.until is None for key in self.keyring.keys):
            return
        own, objects = {self.store.device, *self.store.former_devices}, self.world.objects.whole
        for path in sorted((self.applied() - self.had) & objects.keys()):
            name, key = SegmentName.parse(path), None
            with suppress(ObjectDamaged, NewerFormat):
                key = self.keyring.find(sealed_with(objects[path], name=path))
            if name is None or name.device in own or key is None or key.until is None:
                continue
            assert name.last <= key.until.get(name.device, 0), f"{self.name} has taken in {path}, which is revoked"

    # What its engine does

    async def run(self, part: Callable[[VaultEngine], Any]) -> Any:
        """Let the engine work; what it reports, or None where that ended early. A crash is followed by a new start."""
        RUNNING.set(self)
        self.way.listed, self.way.listed_first, self.way.put_names = None, [], []
        try:
            return await part(self.engine)
        except StenoError:
            return None
        except Crash:
            self.restart()
            return None

    async def sync(self, part: str = "sync") -> SyncReport | None:
        acts = set(self.acts)
        report: SyncReport | None = await self.run(lambda engine: getattr(engine, part)())
        if report is not None and part in ("sync", "push") and report.complete:
            self.world.sent |= acts
        return report

    # Homes that are copied

    def copied(self, name: str) -> Device:
        """Another home that begins as this one stands."""
        path = self.world.folder / f"{name}.db"
        self.copy_to(path)
        made = Device(name, path, self.world, keyring=self.keyring)
        made.had, made.shows = self.had, self.shows
        made.acts, made.captured, made.skew_ms = set(self.acts), self.captured, self.skew_ms
        made.version = self.version
        return made

    def copy_to(self, path: Path) -> None:
        target = dbapi.connect(str(path))
        self.store.connection.backup(target)
        target.close()
        if self.files.exists():
            shutil.copytree(self.files, path.with_suffix(".files"))

    def may_be(self, copy: Copy) -> bool:
        """Say whether everything is somewhere else that the remote lost and this home would forget."""
        forgotten = (self.applied() - copy.applied) & self.world.gone
        return all(self.world.is_held(name, without=self) for name in forgotten)

    def put_back(self, copy: Copy) -> None:
        """Replace the database by an older copy: what was written since and not published is gone."""
        self.store.close()
        for end in ("-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        shutil.copy(copy.path, self.path)
        self._put_files_back(copy)
        gone, world = self.acts - copy.acts, self.world
        world.lost |= gone - world.sent
        world.undone |= {(self.name, session) for action in gone for session, _ in world.deeds.acts[action].written}
        self.acts = set(copy.acts)
        self.start()

    def _put_files_back(self, copy: Copy) -> None:
        """What was there at the time of the copy stands there again; nobody has a file open."""
        self.buffer, self.saved, self.shows = None, None, copy.shows
        shutil.rmtree(self.files, ignore_errors=True)
        files = copy.path.with_suffix(".files")
        if files.exists():
            shutil.copytree(files, self.files)


class Way:
    """One device's way to the objects."""

    folder: Path | None = None

    def __init__(self, device: Device) -> None:
        self.address = f"memory of {device.name}"
        self.requests: Counter[str] = Counter()
        self.listed: list[str] | None = None
        """What the last listing of the logs showed, since the engine's work began."""
        self.listed_first: list[str] = []
        self.put_names: list[str] = []
        """What was put since then, and acknowledged."""
        self._device, self._world = device, device.world

    async def put(self, name: str, data: bytes) -> None:
        fault = await self._asked("put")
        assert MARK.encode() not in data, f"plaintext in {name}"
        if fault == "tear":
            self._change(name, data[: len(data) // 2])
            raise RemoteUnreachable(remote=self.address, reason="cut off")
        self._know(name, data)
        self._change(name, data)
        self._answered(fault)
        self.put_names.append(name)

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        fault = await self._asked("get")
        data = None if name in self._device.hidden or fault == "short" else self._objects.get(name)
        self._answered(fault)
        if data is None:
            raise ObjectMissing(name=name)
        if len(data) > limit_bytes:
            raise ObjectDamaged(name=name, reason=f"larger than {limit_bytes} bytes")
        if fault == "tear" and name != VAULT:
            return data[: len(data) // 2]
        return flipped(data, 7 * len(data)) if fault == "flip" and name != VAULT else data

    async def list(self, prefix: str) -> list[str]:
        fault = await self._asked("list")
        names = sorted(name for name in self._objects if name.startswith(prefix) and "/" not in name[len(prefix) :])
        self._answered(fault)
        if prefix == LOG:
            names = [name for name in names if not self._is_hidden(name)]
        if fault == "short":
            names = names[::2]
        elif fault == "twice":
            names = [*names[::-1], *names]
        if prefix == LOG:
            self.listed_first = names if self.listed is None else self.listed_first
            self.listed = names
        return names

    async def delete(self, name: str) -> None:
        fault = await self._asked("delete")
        self._change(name, None)
        self._answered(fault)

    async def news(self, *, timeout_s: float) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def _objects(self) -> dict[str, bytes]:
        return self._world.objects.seen_by(self._device.name)

    def _change(self, name: str, data: bytes | None) -> None:
        self._world.objects.change(self._device.name, name, data)

    def _is_hidden(self, name: str) -> bool:
        hidden = self._device.hidden
        if name not in hidden:
            return False
        hidden[name] -= 1
        if not hidden[name]:
            del hidden[name]
        return True

    async def _asked(self, verb: str) -> str:
        """Count a request and let the others run; what goes wrong with it, if it is not that it is never done."""
        self.requests[verb] += 1
        device = self._device
        for _ in range(1 + device.turns()):
            await asyncio.sleep(0)
        if not self._world.faulty:
            return ""
        device.pass_point()
        if device.unheard:
            device.unheard -= 1
            reasons = REFUSALS + OUTAGES
            self._refuse(reasons[device.unheard % len(reasons)])
        fault = ""
        for each in [*device.armed]:
            each[0] -= 1
            if each[0] < 0:
                device.armed.remove(each)
                fault = each[1]
        if fault in REFUSALS + OUTAGES:
            self._refuse(fault)
        return fault

    def _refuse(self, reason: str) -> None:
        kind = RemoteRefused if reason in REFUSALS else RemoteUnreachable
        raise kind(remote=self.address, reason=reason)

    def _answered(self, fault: str) -> None:
        """The request is done; the answer may not come."""
        if fault == "unheard":
            raise RemoteUnreachable(remote=self.address, reason="timed out")
        if self._world.faulty:
            self._device.pass_point()

    def _know(self, name: str, data: bytes) -> None:
        """Remember what a segment stands for, and who could write it."""
        found, world = SegmentName.parse(name), self._world
        if found is None or name in world.stands_for:
            return
        content = world.opened(name, data)
        told = [session for session in world.kept if session.encode() in content]
        assert not told, f"{self._device.name} tells of {told}, which are local-only"
        batch = decode_batch(content)
        world.stands_for[name] = {device: Ranges.of(*spans) for device, spans in batch.stands_for.items()}
        if batch.version == VERSION and found.level and not world.is_copied:
            later = [each for each in map(SegmentName.parse, world.newer) if each is not None and _holds(found, each)]
            assert not later, f"{name} says again what a later version wrote: {later}"


def _holds(whole: SegmentName, part: SegmentName) -> bool:
    return whole.device == part.device and whole.first <= part.first and part.last <= whole.last


# Versions


class RunningVersion:
    """The version of the program that is at work, where the engine looks what it can read."""

    def __lt__(self, other: int) -> bool:
        device = RUNNING.get()
        return device is not None and device.version < other


def wire_versions(patch: pytest.MonkeyPatch) -> None:
    """Let each device run a version of its own: a later one says so in what it writes, which earlier ones heed."""
    close, record = Sealer.close, Peers._record

    def closed(sealer: Sealer, content: bytes, *, name: str, **options: Any) -> bytes:
        device = RUNNING.get()
        if device is not None and name.startswith(LOG):
            device.check_may_write()
            device.check_may_seal()
            assert content[1] == VERSION
            content = content[:1] + bytes([device.version]) + content[2:]
            if device.version > VERSION:
                device.world.newer.add(name)
        return close(sealer, content, name=name, **options)

    def recorded(peers: Peers, retire: dict[str, int]) -> bytes:
        device, said = RUNNING.get(), record(peers, retire)
        if device is None or not device.demands:
            return said
        return json.dumps({**json.loads(said), "needs": device.version}).encode()

    patch.setattr(Sealer, "close", closed)
    patch.setattr(Peers, "_record", recorded)
    for module in (segment, engine):
        patch.setattr(module, "VERSION", RunningVersion())


def flipped(data: bytes, number: int) -> bytes:
    """The data with one bit flipped."""
    at = number % (len(data) * 8)
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


# Keys


class SimulatedKeys(HomeKeys):
    """The keys of a device, which stand in its memory."""

    def __init__(self, device: Device) -> None:
        super().__init__(device, membership_of(device), lock=nullcontext)  # pyright: ignore[reportArgumentType]
        self._device = device

    def held(self) -> Keyring:
        return self._device.keyring


def membership_of(device: Device) -> Membership:
    return Membership(device.name, VAULT_ID, device.keyring, None)


def change_keys(home: Device, *, changed: Callable[[Keyring], Keyring], **_: Any) -> Membership:
    """What `rotation` calls to keep keys in a home."""
    home.take_keys(changed(home.keyring))
    return membership_of(home)


def remote_of(world: Callable[[], World]) -> Callable[[Membership], Any]:
    """What `rotation` calls to reach the remote of a home."""

    @asynccontextmanager
    async def reached(found: Membership) -> AsyncGenerator[Way]:
        [device] = [each for each in world().devices if each.name == found.url]
        yield device.way

    return reached


def _options(device: Device) -> Any:
    return {"draw": device.rng.randbytes, "cost": MINIMUM_COST, "lock": nullcontext, "derive": derived}


async def new_key(device: Device) -> None:
    """Give the vault another key; with a passphrase that is not the present one nothing happens."""
    await device.run(lambda _: rotation.rotate(device, passphrase=device.world.passphrase, **_options(device)))  # pyright: ignore[reportArgumentType]


async def new_passphrase(device: Device, passphrase: str) -> None:
    """Wrap the vault's keys by another passphrase."""
    world = device.world
    world.passphrases.add(passphrase)
    done = await device.run(lambda _: rotation.change_passphrase(device, passphrase=passphrase, **_options(device)))  # pyright: ignore[reportArgumentType]
    if done is not None:
        world.passphrase = passphrase


async def shut_out(device: Device) -> None:
    """Revoke the key: nobody else follows before they join again. One that was cut short here is ended."""
    world = device.world
    passphrase = device.shutting_out or f"revoked {len(world.passphrases)}"
    world.passphrases.add(passphrase)
    world.is_revoked, device.shutting_out = True, passphrase
    await device.run(lambda engine: engine.pull())
    until = published(Ledger(device.store, VAULT_ID))
    done = await device.run(
        lambda _: rotation.revoke(device, passphrase=passphrase, published=until, **_options(device))  # pyright: ignore[reportArgumentType]
    )
    if done is not None:
        world.passphrase, device.shutting_out = passphrase, None


def join_again(device: Device) -> None:
    """What `steno join` does on a device that has the vault: take up the keys that the passphrase opens."""
    found = device.world.unlocked()
    if found is not None:
        device.take_keys(joined(device.keyring, found))


async def keys_again(world: World) -> None:
    """Bring the keys together where the remote lost them: `steno vault passwd` on a device, `steno join` on others."""
    for at, device in enumerate([*world.live, *world.live]):
        join_again(device)
        await new_passphrase(device, f"at the end {at}")
