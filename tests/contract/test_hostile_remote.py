"""A remote that anybody may have written to: whatever it holds and lists, nothing wrong is taken in.

Every bit and every length of a small vault, every swap and every other name; contents that unfold without end; listings
without sense. Each time the right objects go on being applied, and time, memory and requests stay bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import zstandard

from steno.storage.change import VERSION
from steno.storage.errors import NewerFormat, ObjectDamaged, RemoteRefused
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault import listed, opendal_remote
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.intake import AHEAD
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import KEYS, LOG, VAULT, SegmentName
from steno.sync.vault.plan import MOST_MISSES
from steno.sync.vault.report import MOST_NAMED, SyncReport
from steno.sync.vault.seal import Keyring, pack, seal, unpack, unseal
from steno.sync.vault.vault import found_vault, unlock_vault
from steno.tests.simulation.test_stores_converge import state

PASSPHRASE = "p"
START_MS = 1_800_000_000_000
MIB = 1 << 20
PEAK = Path("/proc/self/clear_refs")


class Hostile(MemoryRemote):
    """A remote whose owner decides what is read and listed."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = dict(objects)
        self.listed: list[str] | None = None
        self.served: Callable[[str], bytes | None] = lambda _: None

    async def get(self, name: str, **options: Any) -> bytes:
        data = await super().get(name, **options)
        served = self.served(name)
        return data if served is None else served

    async def list(self, prefix: str) -> list[str]:
        names = await super().list(prefix)
        return names if self.listed is None or prefix != LOG else self.listed


class Victim:
    """A device that has nothing yet, and reads this remote."""

    def __init__(self, vault: Vault, path: Path, objects: dict[str, bytes]) -> None:
        self.remote = Hostile(objects)
        self.now_ms = START_MS
        self.vault = vault
        self.store = Store(path, now_ms=lambda: self.now_ms)
        self.restart()

    def restart(self) -> None:
        self.engine = VaultEngine(
            self.store,
            self.remote,
            vault=self.vault.id,
            keyring=self.vault.keyring,
            now_ms=lambda: self.now_ms,
            draw=random.Random(7).randbytes,
        )

    async def pull(self) -> SyncReport:
        """Look what is there, so much later that whatever was set aside is tried again."""
        self.now_ms += 3_600_000
        return await self.engine.pull()

    @property
    def state(self) -> object:
        return state(self.store)

    @property
    def holds_nothing(self) -> bool:
        tables = ("sessions", "messages", "registers", "waiting")
        return not any(self.store.one(f"SELECT count(*) FROM {each}")[0] for each in tables)


class Vault:
    """A vault that two devices wrote, three segments each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()
        self.victims: list[Victim] = []
        self.id, self.keyring, self.objects = asyncio.run(_written(folder))
        self.log = sorted(name for name in self.objects if name.startswith(LOG))
        self.devices = sorted({name[4:16] for name in self.log})
        self.key = next(name for name in self.objects if name.startswith(KEYS))

    def victim(self, more: Mapping[str, bytes] | None = None, *, without: Iterable[str] = ()) -> Victim:
        path = self.folder / f"victim-{next(self.numbers)}.db"
        gone = set(without)
        objects = {name: data for name, data in self.objects.items() if name not in gone}
        made = Victim(self, path, objects | dict(more or {}))
        self.victims.append(made)
        return made

    async def state_without(self, *names: str) -> object:
        """What a device shows that never saw these objects."""
        victim = self.victim(without=names)
        await victim.pull()
        return victim.state

    def content(self, name: str) -> bytes:
        """The batch's bytes in a segment."""
        opened = unseal(self.objects[name], keyring=self.keyring, vault_id=self.id, name=name)
        return unpack(opened, name=name)

    def sealed(self, content: bytes, *, name: str, packed: bool = False) -> bytes:
        """What somebody who holds the key can make."""
        plain = content if packed else pack(content)
        return seal(plain, key=self.keyring.current, vault_id=self.id, name=name, salt=bytes(16))


async def _written(folder: Path) -> tuple[str, Keyring, dict[str, bytes]]:
    remote, rng = MemoryRemote(), random.Random(5)
    vault, keyring = await found_vault(
        remote, passphrase=PASSPHRASE, draw=rng.randbytes, cost=MINIMUM_COST, derive=derive
    )
    clock = itertools.count(START_MS).__next__
    for device in "ab":
        with Store(folder / f"{device}.db", now_ms=clock) as store:
            engine = VaultEngine(store, remote, vault=vault, keyring=keyring, now_ms=clock, draw=rng.randbytes)
            store.create(id=device)
            for number in range(3):
                store.append(device, NewMessage(role="user", content=f"{device}{number}"))
                await engine.push()
    return vault, keyring, remote.objects


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def vault(made: Vault) -> Iterator[Vault]:
    yield made
    for victim in made.victims:
        victim.store.close()
    made.victims.clear()


@contextmanager
def at_most(size_bytes: int) -> Generator[None]:
    """Fail where this process takes more memory than this at any moment inside."""
    PEAK.write_text("5", encoding="ascii")  # the peak from now on
    before = _peak_bytes()
    yield
    taken = _peak_bytes() - before
    assert taken <= size_bytes, f"{taken / MIB:.0f} MiB"


def _peak_bytes() -> int:
    said = Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2]
    return int(said.split()[0]) * 1024


def flips(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            yield bytes(flipped)


def cuts(data: bytes) -> Iterator[bytes]:
    return (data[:length] for length in range(len(data)))


def named(device: str, first: int, last: int | None = None, *, level: int = 0, end: str = "z" * 12) -> str:
    return SegmentName(device, first, last or first, level, end).path


# Bits and lengths


@pytest.mark.fault(7)
@pytest.mark.parametrize("damaged", [flips, cuts])
async def test_no_damage_to_a_segment_is_taken_for_content(vault: Vault, damaged: Callable[[bytes], Iterator[bytes]]):
    victim = vault.victim()
    series = {name: damaged(data) for name, data in vault.objects.items() if name in vault.log}
    tried = 0

    def next_of(name: str) -> bytes | None:
        nonlocal tried
        if name not in series:
            return None
        data = next(series[name], None)
        tried += data is not None
        return b"" if data is None else data

    victim.remote.served = next_of
    longest = max(len(vault.objects[name]) for name in vault.log) * (8 if damaged is flips else 1)
    for _ in range(longest):
        report = await victim.pull()
        assert len(report.problems) == len(vault.log)
        assert not report.received_segments
    assert victim.holds_nothing
    assert tried == sum(len(vault.objects[name]) for name in vault.log) * (8 if damaged is flips else 1)
    victim.remote.served = lambda _: None
    assert (await victim.pull()).problems == []
    assert victim.state == await vault.state_without()


@pytest.mark.parametrize("damaged", [flips, cuts])
async def test_no_damage_to_a_key_opens_another_or_says_that_the_passphrase_is_wrong(
    vault: Vault, damaged: Callable[[bytes], Iterator[bytes]]
):
    remote = Hostile(vault.objects)
    for data in damaged(vault.objects[vault.key]):
        remote.objects[vault.key] = data
        try:
            found: Keyring | None = await unlock_vault(remote, passphrase=PASSPHRASE, vault_id=vault.id, derive=derive)
        except (ObjectDamaged, NewerFormat):
            found = None
        assert found in (None, vault.keyring)


@pytest.mark.fault(7)
@pytest.mark.parametrize("damaged", [flips, cuts])
async def test_nothing_is_read_or_sent_where_vault_json_is_damaged(
    vault: Vault, damaged: Callable[[bytes], Iterator[bytes]]
):
    victim = vault.victim()
    victim.store.create(id="mine")
    before = victim.state
    for data in damaged(vault.objects[VAULT].rstrip()):
        victim.remote.objects[VAULT] = data
        with pytest.raises((ObjectDamaged, NewerFormat)):
            await victim.engine.sync()
    assert victim.state == before
    assert victim.remote.objects.keys() == vault.objects.keys()
    assert victim.remote.requests.keys() == {"get"}


@pytest.mark.fault(7)
async def test_the_others_are_applied_where_one_is_damaged(vault: Vault):
    for name in vault.log:
        victim = vault.victim()
        data = bytearray(vault.objects[name])
        data[-1] ^= 1
        victim.remote.objects[name] = bytes(data)
        report = await victim.pull()
        assert [name in problem for problem in report.problems] == [True]
        assert victim.state == await vault.state_without(name)
        victim.remote.objects[name] = vault.objects[name]
        assert (await victim.pull()).problems == []
        assert victim.state == await vault.state_without()


# Places and names


async def test_objects_that_changed_places_are_not_applied(vault: Vault):
    for one, other in itertools.combinations(vault.log, 2):
        victim = vault.victim({one: vault.objects[other], other: vault.objects[one]})
        report = await victim.pull()
        assert len(report.problems) == 2
        assert victim.state == await vault.state_without(one, other)


async def test_a_segment_in_the_place_of_the_vault_or_of_a_key_is_refused(vault: Vault):
    for one, other in itertools.permutations([VAULT, vault.key, vault.log[0]], 2):
        victim = vault.victim({one: vault.objects[other], other: vault.objects[one]})
        try:
            await victim.engine.sync()
            await unlock_vault(victim.remote, passphrase=PASSPHRASE, vault_id=vault.id, derive=derive)
        except (ObjectDamaged, NewerFormat):
            pass
        else:
            pytest.fail(f"{one} and {other} were taken for each other")
        assert victim.state in (await vault.state_without(vault.log[0]), [])


@pytest.mark.fault(34)
async def test_an_object_under_another_name_is_not_applied(vault: Vault):
    for path in vault.log:
        name = SegmentName.parse(path)
        assert name is not None
        others = [
            named("q" * 12, name.first, end=name.random),
            *(named(each, name.first, end=name.random) for each in vault.devices if each != name.device),
            named(name.device, name.first + 10, end=name.random),
            named(name.device, name.first, 10**12 - 1, end=name.random),
            named(name.device, name.first, level=1, end=name.random),
            named(name.device, name.first, level=99, end=name.random),
            named(name.device, name.first),
        ]
        for other in others:
            moved = vault.victim({other: vault.objects[path]}, without=[path])
            assert any(other in problem for problem in (await moved.pull()).problems)
            assert moved.state == await vault.state_without(path)
        copied = vault.victim(dict.fromkeys(others, vault.objects[path]))
        await copied.pull()
        await copied.pull()
        assert copied.state == await vault.state_without()


async def test_a_name_that_claims_everything_hides_nothing(vault: Vault):
    """Where segments were written again, a remote may list one that stands for all of them, and does not open."""
    written_again: dict[str, bytes] = {}
    for path in vault.log:
        name = SegmentName.parse(path)
        assert name is not None
        higher = named(name.device, name.first, level=1)
        written_again[higher] = vault.sealed(vault.content(path), name=higher)
    victim = vault.victim(written_again, without=vault.log)
    victim.remote.listed = sorted([*written_again, *(named(each, 1, 10**12 - 1, level=9) for each in vault.devices)])
    await victim.pull()
    report = await victim.pull()
    assert victim.state == await vault.state_without()
    assert len(report.problems) == len(vault.devices)


# Contents


def bombs() -> Iterator[tuple[str, bytes, bool]]:
    """What can be wrong with a content whose seal is right: name, bytes, whether they are packed already."""
    zeros = zstandard.ZstdCompressor(level=1)
    yield "more than a content may hold", zeros.compress(bytes(65 * MIB)), True
    yield "all that a content may hold", zeros.compress(bytes(64 * MIB)), True
    yield "a size that is not declared", _undeclared(65 * MIB), True
    yield "a size that is a lie", _with_size(zeros.compress(bytes(300)), 299), True
    yield "a frame behind the frame", pack(b"\x93\x01\x80\x90") + pack(bytes(MIB)), True
    yield "a frame in the frame", pack(zeros.compress(bytes(64 * MIB))), True
    yield "no frame", b"\x93\x01\x80\x90", True
    yield "nothing", b"", False
    yield "lists in lists", b"\x91" * (4 * MIB), False
    yield "maps in maps", b"\x81\x01" * (4 * MIB), False
    yield "a list that claims more than there is", b"\x93\x01\x80\xdd\xff\xff\xff\xff", False
    yield "a map that claims more than there is", b"\x93\x01\xdf\xff\xff\xff\xff", False
    yield "a text that claims more than there is", b"\x93\x01\x81\x01\xdb\xff\xff\xff\xff", False
    yield "a later version", msgspec.msgpack.encode((VERSION + 1, "anything", 7)), False
    yield "a number for a list", msgspec.msgpack.encode((VERSION, {}, 7)), False
    yield "changes that are none", msgspec.msgpack.encode((VERSION, {}, [None] * MIB)), False
    yield "a change without anything", msgspec.msgpack.encode((VERSION, {}, [()])), False


def _undeclared(size_bytes: int) -> bytes:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    return packer.compress(bytes(size_bytes)) + packer.flush()


def _with_size(frame: bytes, size: int) -> bytes:
    """A frame of one segment whose header says another size; it stands in two bytes, less 256."""
    assert frame[4] & 0b1110_0000 == 0b0110_0000
    return frame[:5] + (size - 256).to_bytes(2, "little") + frame[7:]


@pytest.mark.fault(28, 37)
@pytest.mark.parametrize(("content", "packed"), [pytest.param(*each[1:], id=each[0]) for each in bombs()])
async def test_what_unfolds_without_end_is_set_aside(vault: Vault, content: bytes, packed: bool):
    name = named("q" * 12, 1)
    victim = vault.victim({name: vault.sealed(content, name=name, packed=packed)})
    with at_most(160 * MIB):
        report = await victim.pull()
    [problem] = report.problems
    assert name in problem
    assert victim.state == await vault.state_without()


def _many(item: bytes) -> bytes:
    count = (60 * MIB) // len(item)
    return b"\xdd" + count.to_bytes(4) + item * count


def _alone(registers: bytes, messages: bytes) -> bytes:
    return b"\x93\x01\x80\x91\x96\xa0\x00\x90\x00" + registers + messages


FOLDED: dict[str, Callable[[], bytes]] = {
    "sessions": lambda: b"\x93\x01\x80" + _many(b"\x96\xa0\x00\x90\x00\x90\x90"),
    "messages": lambda: _alone(b"\x90", _many(b"\xdc\x00\x10\xa0" + bytes(15))),
    "registers": lambda: _alone(_many(b"\x93\xc0\xa0\x92\x90\x90"), b"\x90"),
    "writers": lambda: _alone(b"\x91\x93\xc0\xa0\x92\x90" + _many(b"\x92\x01\x01"), b"\x90"),
    "texts": lambda: _alone(b"\x90", b"\x91\xdc\x00\x10\xa0" + bytes(6) + _many(b"\xa2ab") + bytes(8)),
    "ranges": lambda: b"\x94\x01\x80\x90\x81\xa1q" + _many(b"\x92\x01\x01"),
}
"""Batches of nearly as many bytes as a content may hold, which take up to forty times as much once decoded."""


@pytest.mark.fault(37)
@pytest.mark.parametrize("kind", FOLDED)
async def test_a_batch_that_takes_much_more_than_its_bytes_is_set_aside(vault: Vault, kind: str):
    name = named("q" * 12, 1)
    victim = vault.victim({name: vault.sealed(FOLDED[kind](), name=name)})
    with at_most(160 * MIB):
        report = await victim.pull()
    [problem] = report.problems
    assert "its content is no batch" in problem
    assert victim.state == await vault.state_without()


# Listings


def _segment(device: str, first: int, last: int, level: int) -> str:
    return f"{LOG}{device}.{first:012d}-{last:012d}.{level}.zzzzzzzzzzzz"


Q = "q" * 12
A_MILLION = ("garbage", "one device")
LISTED: dict[str, Callable[[int], str]] = {
    "garbage": lambda at: f"{LOG}{at:x} (conflicted copy).tmp",
    "one name": lambda _: _segment(Q, 1, 1, 0),
    "one device": lambda at: _segment(Q, at, at, 0),
    "far apart": lambda at: _segment(Q, 7 * at, 7 * at, 0),
    "many devices": lambda at: _segment(f"q{at:011d}", 5, 5, 0),
    "written again": lambda at: _segment(Q, 3 * at, 3 * at, 1 + at % 99),
    "covering each other": lambda at: _segment(Q, 10**7 - at, 10**7 + at, 1),
    "a huge number": lambda at: _segment(Q, 10**12 - at - 1, 10**12 - 1, at % 100),
    "no name of an object": lambda at: f"{LOG}../../{at}/\u202e\u00fc\n{chr(at % 0xD800)}",
    "another case": lambda at: _segment(Q, at, at, 0).upper(),
}


@pytest.mark.fault(37, 38)
@pytest.mark.parametrize("kind", LISTED)
async def test_names_without_end_cost_few_requests_and_little_memory(vault: Vault, kind: str):
    """What comes from a device that was heard of before is applied all the same."""
    last = [max(name for name in vault.log if name[4:16] == device) for device in vault.devices]
    victim = vault.victim()
    victim.remote.listed = sorted(set(vault.log) - set(last))
    await victim.pull()
    victim.remote.requests.clear()
    name = LISTED[kind]
    victim.remote.listed = [*map(name, range(1, 1 + (1_000_000 if kind in A_MILLION else 25_000))), *vault.log]
    with at_most(160 * MIB):
        report = await victim.pull()
    assert report.received_segments == len(last)
    assert victim.state == await vault.state_without()
    assert victim.remote.requests["get"] <= len(last) + MOST_MISSES + AHEAD
    assert len(report.problems) <= 2 * MOST_NAMED + 3


async def test_names_of_a_device_that_is_known_do_not_hold_up_another(vault: Vault):
    one, _ = vault.devices
    victim = vault.victim()
    victim.remote.listed = [name for name in vault.log if name[4:16] == one or ".000000000001-" in name]
    await victim.pull()
    victim.remote.listed = [*(_segment(one, at, at, 0) for at in range(1, 1000)), *vault.log]
    await victim.pull()
    assert victim.state == await vault.state_without()


async def test_a_new_device_finds_what_is_right_among_much_that_is_not(vault: Vault):
    victim = vault.victim()
    victim.remote.listed = [*(_segment("0" * 12, at, at, 0) for at in range(1, 5 * MOST_MISSES)), *vault.log]
    for _ in range(6):
        await victim.pull()
    assert victim.state == await vault.state_without()
    victim.remote.listed = None
    assert (await victim.pull()).problems == []


async def test_what_is_listed_and_not_there_is_asked_for_ever_more_seldom(vault: Vault):
    victim = vault.victim()
    names = [_segment(Q, at, at, 0) for at in range(1, 3 * MOST_MISSES)]
    victim.remote.listed = [*names, *vault.log]
    for _ in range(200):
        victim.now_ms += 60_000
        await victim.engine.pull()
    victim.remote.requests.clear()
    for _ in range(30):
        victim.now_ms += 60_000
        await victim.engine.pull()
    assert victim.remote.requests["get"] <= 2 * len(names)


class Entry(NamedTuple):
    path: str


class Endless:
    """The pages of a service that lead back to the first."""

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        return self._entries(prefix)

    async def _entries(self, prefix: str) -> AsyncGenerator[Entry]:
        while True:
            yield Entry(f"{prefix}x")


async def test_a_listing_without_end_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listed, "MAX_LISTED", 10_000)
    operator: Any = Endless()
    remote = opendal_remote.OpendalRemote(operator, address="service")
    with pytest.raises(RemoteRefused, match="it lists more than 10,000 objects in log/"):
        await remote.list(LOG)
