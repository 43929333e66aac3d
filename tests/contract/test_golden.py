"""The bytes of every format stay as they are: small files, kept since they were first written, are read and made again.

`STENO_MAKE_GOLDEN=vault-1 pytest tests/contract/test_golden.py` writes them anew, and fails so that nobody does it
unnoticed. That is right for a format that nobody has used yet, or for a new directory; else what changed is a fault.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from steno.storage.database import ALPHABET
from steno.storage.forks import fork
from steno.storage.home import Home
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.purge import purge_message, purge_session
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.sync.files.breaker import marked
from steno.sync.files.lines import parse
from steno.sync.files.mirror import Mirror
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import KdfCost
from steno.sync.vault.membership import Membership, join_vault, make_vault, membership
from steno.sync.vault.names import NoticeName, SegmentName
from steno.sync.vault.opendal_remote import FolderRemote
from steno.sync.vault.pairing import open_offer, parse_offer, wrap_offer
from steno.sync.vault.peers import DeviceRecord
from steno.sync.vault.rotation import open_notice, sealed_notice
from steno.sync.vault.seal import VaultKey, pack, seal, unpack, unseal
from steno.sync.vault.segment import Sealer
from steno.tests.contract.test_format import by_id, shown_by
from steno.tests.contract.vault_reader import read_vault

GOLDEN = Path(__file__).parents[1] / "golden" / "vault-1"
ANEW = os.environ.get("STENO_MAKE_GOLDEN") == GOLDEN.name
PASSPHRASE = "correct horse ü 鍵"
SECRET = "k3v9-x0a1-b2c4-d5e6"
LAPTOP, RETIRED, NEXT_KEY = "laptop000000", "retired00000", "nextnextkey0"
OFFER, RECORD = "pair/offeroffer00", "devices/laptop000000.12"
START_MS = 1_800_000_000_000
ZSTD = (1, 5, 7)


class Keeping(FolderRemote):
    """A folder that remembers what was published, also if it was written again since."""

    def __init__(self, folder: Path, published: dict[str, bytes]) -> None:
        super().__init__(folder)
        self._published = published

    async def put(self, name: str, data: bytes) -> None:
        await super().put(name, data)
        segment = SegmentName.parse(name)
        if segment is not None and segment.level == 0:
            self._published[name] = data


class Made:
    """A vault of two devices, and the home of the first, made from nothing but numbers that are always the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = folder / "remote"
        self.home = Home(folder / "home", folder / "home")
        self.draw = random.Random(1).randbytes
        self.now_ms = START_MS
        self.published: dict[str, bytes] = {}
        self.others: dict[str, bytes] = {}
        self.shown: dict[str, str] = {}
        asyncio.run(self._make())

    async def _make(self) -> None:
        cost = KdfCost()
        member = await make_vault(
            self.home, str(self.remote), passphrase=PASSPHRASE, made=str, draw=self.draw, cost=cost
        )
        other = Home(self.folder / "other", self.folder / "other")
        other.make()
        with self._store(self.home, 2) as laptop, self._store(other, 3) as desktop:
            sync = [self._engine(store, member).sync for store in (laptop, desktop)]
            _first(laptop)
            await sync[0]()
            await sync[1]()
            self.now_ms += 60_000
            _second(laptop, desktop)
            await sync[1]()
            await sync[0]()
            self.now_ms += 60_000
            _third(laptop)
            await sync[0]()
            self.shown = shown_by(laptop)
            mirror = Mirror(laptop, self.home.sessions, monotonic=lambda: 0.0, sleep=lambda _: None)
            mirror.start()
            while mirror.write_pending() is not None:
                pass
        self._write_others(member)
        path = str(self.remote)
        kept = self.home.vault_file.read_text(encoding="utf-8")
        self.home.vault_file.write_text(kept.replace(path, "/remote"), encoding="utf-8")

    def _store(self, home: Home, seed: int) -> Store:
        choices = random.Random(seed).choices
        return Store(
            home.database, now_ms=lambda: self.now_ms, random=lambda length: "".join(choices(ALPHABET, k=length))
        )

    def _write_others(self, member: Membership) -> None:
        """A notice, a device record and an offer, which nobody needs who reads the sessions."""
        ring, vault, draw = member.keyring, member.vault, self.draw
        record = DeviceRecord(
            name="laptop", platform="linux", version="0.1.0", written_ms=START_MS,
            applied={LAPTOP: [(1, 3)]}, retired={RETIRED: 7},
        )  # fmt: skip
        sealer = Sealer(vault, lambda: ring, draw)
        name, notice = sealed_notice(NEXT_KEY, b"s" * 32, old=ring.current, vault_id=vault, draw=draw)
        offer = wrap_offer(
            ring, secret=SECRET, vault_id=vault, name=OFFER, expires_ms=START_MS, draw=draw, cost=KdfCost()
        )
        self.others = {
            name: notice,
            OFFER: offer,
            RECORD: sealer.close(msgspec.json.encode(record), name=RECORD),
        }

    def _engine(self, store: Store, member: Membership) -> VaultEngine:
        remote = Keeping(self.remote, self.published)
        return VaultEngine(
            store, remote, vault=member.vault, keyring=member.keyring, now_ms=lambda: START_MS, draw=self.draw
        )

    def files(self) -> dict[str, bytes]:
        """What is kept: the remote, and of the home what others may read."""
        kept = [
            *self.remote.glob("vault.json"),
            *self.remote.glob("keys/*"),
            self.home.vault_file,
            self.home.sessions / ".steno",
            *self.home.sessions.rglob("*.jsonl"),
        ]
        shown = json.dumps([json.loads(each) for each in self.shown.values()], ensure_ascii=False, indent=1)
        found = {str(path.relative_to(self.folder)): path.read_bytes() for path in kept}
        found |= {f"remote/{name}": data for name, data in (self.published | self.others).items()}
        return found | {"sessions.json": shown.encode() + b"\n"}


def _first(laptop: Store) -> None:
    """What one device wrote alone."""
    metadata = {"project": "backend", "a/b": {"~": [1, None, 2.5, {"deep": True}]}, "": {}, "big": 2**70}
    fields: dict[str, Any] = {"provider": "anthropic", "model": "m-1", "user_id": "ada"}
    laptop.create(id="rest", title="REST API, naïve", tags=["go", "ü/1"], metadata=metadata, state={"n": {}}, **fields)
    with laptop.acting("Ada <ada@example.org>"):
        laptop.append("rest", NewMessage(id="m1", role="user", content="How do I …?\n\u2028\U0001f600", sender="Ada"))
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "Start with"}, {"type": "tool_use", "input": {"x": [1]}}]
    usage = {"input_tokens": 12, "cost": 0.25}
    laptop.append("rest", NewMessage(id="m2", role="assistant", content=blocks, usage=usage, model="m-2", parent="m1"))
    laptop.append("rest", NewMessage(id="m3", role="user", content="lorem ipsum " * 1000))
    laptop.append("rest", NewMessage(id="m4", role="user", content="gone", metadata={"k": {"l": 1}}))
    laptop.append("rest", NewMessage(id="m5", role="tool", content="", timestamp="2026-11-20T12:00:00+02:00"))
    laptop.append("rest", NewMessage(id="m6", role="user", content="between", after="m1"))
    laptop.create(id="secret")
    laptop.append("secret", NewMessage(id="s1", role="user", content="a password"))
    laptop.create(id="untitled", created_ms=START_MS - 1)
    long_text = "This first message is so long that the title which it makes is cut before its end"
    laptop.append("untitled", NewMessage(id="u1", role="user", content=long_text))
    laptop.create(id="deleted", title="Deleted")
    _capture(laptop, "native")


def _capture(store: Store, title: str) -> None:
    rows = [
        NewMessage(id=f"n{at}", role="user", content=f"native {at}", after=f"n{at - 1}" if at else None,
                   timestamp="2026-01-01T00:00:00Z", metadata={"native": {"line": at}})
        for at in range(3)
    ]  # fmt: skip
    transcript = Transcript(
        id="captured", title=title, created_ms=1, provider="q", model=None, source={"tool": "codex"}, messages=rows
    )
    take_in(store, transcript)


def _second(laptop: Store, desktop: Store) -> None:
    """What two devices wrote without knowing of each other."""
    patch: dict[str, Any] = {"a/b": {"~": None, "x": 1}}
    laptop.update("rest", fields={"title": "From the laptop"}, metadata=patch, add_tags=["one"])
    desktop.update("rest", fields={"title": "From the desktop"}, metadata={"a/b": 7}, add_tags=["two"])
    laptop.edit_message("rest", "m4", {"content": "not gone"})
    desktop.delete_message("rest", "m4")
    desktop.edit_message("rest", "m2", {"metadata": {"k": {"l": None, "m": [1]}}, "timestamp": "2030-01-01T00:00:00Z"})
    laptop.append("rest", NewMessage(id="l1", role="user", content="laptop's run"))
    laptop.append("rest", NewMessage(id="l2", role="assistant", content="goes on"))
    desktop.append("rest", NewMessage(id="d1", role="user", content="desktop's run"))
    desktop.append("rest", NewMessage(id="d2", role="user", content="pasted", after="m1"))
    desktop.delete("deleted")
    laptop.delete("untitled")
    desktop.append("untitled", NewMessage(id="u2", role="user", content="unknown to who deleted it"))
    _capture(desktop, "native, too")
    purge_session(desktop, "secret")


def _third(laptop: Store) -> None:
    """What was written when both had met."""
    purge_message(laptop, "rest", "m3")
    laptop.delete_message("rest", "l1")
    laptop.restore("deleted")
    laptop.create(id="secret", title="Another life")
    laptop.clear("captured")
    laptop.append("captured", NewMessage(id="c1", role="user", content="after that"))
    fork(laptop, "rest", at="d1", id="forked", title="A fork")
    laptop.update("untitled", fields={"status": "archived"}, state={"gone": None, "kept": {}})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = Made(tmp_path_factory.mktemp("made"))
    if ANEW:
        _write(made.files())
        pytest.fail(f"{GOLDEN} was written anew: look at what changed, and run this again without STENO_MAKE_GOLDEN")
    return made


@pytest.fixture
def golden(made: Made) -> dict[str, bytes]:
    return {str(path.relative_to(GOLDEN)): path.read_bytes() for path in GOLDEN.rglob("*") if path.is_file()}


def _write(files: dict[str, bytes]) -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for name, data in files.items():
        path = GOLDEN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def expected(golden: dict[str, bytes]) -> dict[str, str]:
    return by_id(json.loads(golden["sessions.json"]))


@pytest.fixture
def opened() -> Callable[[str, bytes], bytes]:
    """The content of a segment, by the keys that the home keeps."""
    kept = parsed_membership()

    def opened(name: str, sealed: bytes) -> bytes:
        return unpack(_packed(name, sealed, kept), name=name)

    return opened


def test_what_is_written_today_is_what_was_written_then(
    made: Made, golden: dict[str, bytes], opened: Callable[[str, bytes], bytes]
):
    """Segments end in random characters: what they hold is compared here, and how it is sealed below."""
    written, kept = (
        {_without_end(name): (name, data) for name, data in each.items()} for each in (made.files(), golden)
    )
    assert written.keys() == kept.keys()
    for place, (name, data) in written.items():
        if place.startswith(("remote/log/", "remote/devices/")):
            assert opened(name, data) == opened(*kept[place]), place
        else:
            assert data == kept[place][1], place


def test_a_segment_that_is_sealed_again_has_the_same_bytes(
    golden: dict[str, bytes], opened: Callable[[str, bytes], bytes]
):
    member = parsed_membership()
    segments = {name: data for name, data in golden.items() if name.startswith("remote/log/")}
    assert len(segments) == 4
    for name, data in segments.items():
        packed = pack(opened(name, data))
        if zstandard.ZSTD_VERSION != ZSTD:  # the same content may be packed into other bytes
            packed = _packed(name, data, member)
        name_there = name.removeprefix("remote/")
        key, salt = member.keyring.current, data[18:34]
        assert seal(packed, key=key, vault_id=member.vault, name=name_there, salt=salt) == data


def _packed(name: str, data: bytes, member: Membership) -> bytes:
    return unseal(data, keyring=member.keyring, vault_id=member.vault, name=name.removeprefix("remote/"))


def _without_end(name: str) -> str:
    return name.rpartition(".")[0] if name.startswith("remote/log/") else name


def test_a_new_device_reads_what_was_written_then(golden: dict[str, bytes], expected: dict[str, str], tmp_path: Path):
    remote = shutil.copytree(GOLDEN / "remote", tmp_path / "remote")
    home = Home(tmp_path / "home", tmp_path / "home")

    async def read() -> dict[str, str]:
        member = await join_vault(home, str(remote), passphrase=PASSPHRASE)
        assert member.keyring == parsed_membership().keyring
        with Store(home.database) as store:
            folder = FolderRemote(remote)
            engine = VaultEngine(
                store, folder, vault=member.vault, keyring=member.keyring, now_ms=lambda: START_MS, draw=os.urandom
            )
            report = await engine.sync()
            assert report.complete
            return shown_by(store)

    assert asyncio.run(read()) == expected


def test_the_reader_of_the_page_reads_it(expected: dict[str, str]):
    found = read_vault(GOLDEN / "remote", PASSPHRASE)
    assert found.problems == []
    assert by_id(found.sessions) == expected


def test_a_notice_a_record_and_an_offer_are_read(golden: dict[str, bytes], opened: Callable[[str, bytes], bytes]):
    member = parsed_membership()
    notice = NoticeName(member.keyring.current.id, NEXT_KEY)
    data = golden[f"remote/{notice.path}"]
    told = open_notice(data, name=notice, keyring=member.keyring, vault_id=member.vault)
    assert told == VaultKey(NEXT_KEY, b"s" * 32)
    offer = parse_offer(golden[f"remote/{OFFER}"], name=OFFER)
    assert open_offer(offer, secret=SECRET, name=OFFER) == member.keyring
    record = msgspec.json.decode(opened(RECORD, golden[f"remote/{RECORD}"]), type=DeviceRecord)
    assert (record.applied, record.retired) == ({LAPTOP: [(1, 3)]}, {RETIRED: 7})


def parsed_membership() -> Membership:
    found = membership(Home(GOLDEN / "home", GOLDEN / "home"))
    assert found is not None
    return found


def test_the_vault_file_of_a_home_is_read(golden: dict[str, bytes]):
    found = parsed_membership()
    assert found.url == "/remote"
    assert found.recovery is None
    assert found.vault == json.loads(golden["remote/vault.json"])["id"]


def test_the_marker_names_the_device_that_published(golden: dict[str, bytes]):
    device = marked(GOLDEN / "home" / "sessions")
    assert any(name.startswith(f"remote/log/{device}.") for name in golden)


def test_the_files_of_the_sessions_are_read(golden: dict[str, bytes], expected: dict[str, str]):
    files = [parse(data) for name, data in golden.items() if name.endswith(".jsonl")]
    said = {each.header.id: [line.id for line in each.lines] for each in files if each.header is not None}
    shown = {name: [message["id"] for message in json.loads(text)["messages"]] for name, text in expected.items()}
    assert said == shown
