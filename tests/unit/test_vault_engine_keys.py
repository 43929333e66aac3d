"""A vault whose key changes while its devices sync: who follows, who waits, and what that asks of the remote."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from steno.storage.change import local_changes
from steno.storage.database import wall_ms
from steno.storage.errors import InvalidInput
from steno.storage.home import Home
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault import rotation
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.membership import join_vault, make_vault, required_membership
from steno.sync.vault.names import SegmentName
from steno.sync.vault.own_log import OwnLog
from steno.sync.vault.remote import open_remote
from steno.sync.vault.report import SyncReport
from steno.sync.vault.revoked import published
from steno.sync.vault.rotation import HomeKeys
from steno.sync.vault.seal import VaultKey, pack, seal, sealed_with

OLD, NEW = "correct horse", "battery staple"


class Device:
    """A home and its running engine."""

    def __init__(self, place: Path) -> None:
        self.home = Home(place, place)
        self.member = required_membership(self.home)
        self.store = Store(self.home.database)
        self.remote = open_remote(self.member.url)
        self.folder = Path(self.member.url)
        self.engine = VaultEngine(
            self.store, self.remote, vault=self.member.vault,
            keyring=HomeKeys(self.home, self.member, lock=nullcontext), now_ms=wall_ms, draw=os.urandom,
        )  # fmt: skip

    def sync(self) -> SyncReport:
        return asyncio.run(self.engine.sync())

    def add(self, session: str, text: str) -> None:
        self.store.append(session, NewMessage(role="user", content=text))

    def contents(self, session: str) -> list[object]:
        return [message.content for message in self.store.messages(session)]

    def asked(self) -> Counter[str]:
        before = Counter(self.remote.requests)
        self.sync()
        return Counter(self.remote.requests) - before

    def rotate(self, passphrase: str = OLD, *, revoke: bool = False) -> str:
        taken_in = published(Ledger(self.store, self.member.vault))
        change = partial(rotation.revoke, published=taken_in) if revoke else rotation.rotate
        rotated = change(
            self.home, passphrase=passphrase, draw=os.urandom, cost=MINIMUM_COST, lock=nullcontext, derive=derive
        )
        return asyncio.run(rotated).key

    def keys_of_log(self) -> dict[str, str]:
        """The key of every segment of this device on the remote, by its first number."""
        paths = (path for path in (self.folder / "log").iterdir() if path.name.startswith(self.store.device))
        names = [SegmentName.parse(f"log/{path.name}") for path in paths]
        return {
            str(name.first): sealed_with((self.folder / name.path).read_bytes(), name=name.path)
            for name in names
            if name is not None
        }


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Device, Device]]:
    first = Home(tmp_path / "a", tmp_path / "a")
    vault = make_vault(first, str(tmp_path / "r"), passphrase=OLD, made=str, draw=os.urandom, cost=MINIMUM_COST)
    asyncio.run(vault)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    devices = Device(tmp_path / "a"), Device(tmp_path / "b")
    devices[0].store.create(id="s", title="S")
    for device in devices:
        device.sync()
    yield devices
    for device in devices:
        device.store.close()


@pytest.mark.fault(26)
def test_a_device_that_runs_follows_a_rotation_in_the_pull_that_meets_it(pair: tuple[Device, Device]):
    laptop, desktop = pair
    key = laptop.rotate()
    laptop.add("s", "under the new key")
    laptop.sync()
    assert desktop.sync().problems == []
    assert desktop.contents("s") == ["under the new key"]
    desktop.add("s", "also")
    desktop.sync()
    assert set(desktop.keys_of_log().values()) == {key}


def test_following_costs_one_list_and_one_get_and_later_nothing(pair: tuple[Device, Device]):
    laptop, desktop = pair
    laptop.rotate()
    for number in range(3):
        laptop.add("s", str(number))
        laptop.sync()
    plain = desktop.asked()
    assert plain["list"] == 2
    laptop.add("s", "more")
    laptop.sync()
    assert desktop.asked() == {"list": 1, "get": 1}


def test_many_objects_under_keys_that_nobody_holds_cost_one_list_a_pull(pair: tuple[Device, Device]):
    _, desktop = pair
    for number in range(1, 20):
        name = SegmentName("devicedevice", number, number, 0, "rrrrrrrrrrrr").path
        sealed = seal(b"x", key=VaultKey.new(os.urandom), vault_id=desktop.member.vault, name=name, salt=bytes(16))
        (desktop.folder / name).write_bytes(sealed)
    assert desktop.asked() == {"list": 2, "get": 19}


@pytest.mark.fault(26)
def test_the_old_data_stays_readable_for_a_device_that_joins_after_a_rotation(
    pair: tuple[Device, Device], tmp_path: Path
):
    laptop, desktop = pair
    desktop.add("s", "before")
    desktop.sync()
    laptop.sync()
    laptop.rotate()
    laptop.add("s", "after")
    laptop.sync()
    late = Home(tmp_path / "late", tmp_path / "late")
    asyncio.run(join_vault(late, str(laptop.folder), passphrase=OLD))
    device = Device(tmp_path / "late")
    assert device.sync().problems == []
    assert device.contents("s") == ["before", "after"]
    device.store.close()


@pytest.mark.fault(26, 27)
def test_after_a_revocation_a_device_sends_nothing_until_it_has_joined_again(pair: tuple[Device, Device]):
    laptop, desktop = pair
    laptop.rotate(NEW, revoke=True)
    laptop.add("s", "for those who joined again")
    laptop.sync()
    desktop.add("s", "written meanwhile")
    desktop.sync()
    desktop.add("s", "and later")
    report = desktop.sync()
    assert report.sent_segments == 0
    assert any("steno join" in problem for problem in report.problems)
    assert desktop.contents("s") == ["written meanwhile", "and later"]

    asyncio.run(join_vault(desktop.home, str(desktop.folder), passphrase=NEW))
    assert desktop.sync().problems == []
    laptop.sync()
    assert laptop.contents("s") == desktop.contents("s")
    assert len(laptop.contents("s")) == 3


@pytest.mark.fault(27)
def test_what_is_sent_before_a_revocation_is_known_is_set_aside_until_its_device_has_joined_again(
    pair: tuple[Device, Device],
):
    laptop, desktop = pair
    before = desktop.keys_of_log()
    laptop.rotate(NEW, revoke=True)
    laptop.sync()
    desktop.add("s", "unaware")
    assert desktop.sync().problems == []
    assert len(desktop.keys_of_log()) == len(before) + 1
    assert any("steno join" in problem for problem in laptop.sync().problems)
    assert laptop.contents("s") == []

    asyncio.run(join_vault(desktop.home, str(desktop.folder), passphrase=NEW))
    assert desktop.sync().problems == []
    asyncio.run(desktop.engine.tend())
    laptop.sync()
    assert laptop.contents("s") == ["unaware"]


@pytest.mark.fault(27)
def test_what_somebody_seals_with_a_revoked_key_is_set_aside_and_said(pair: tuple[Device, Device]):
    laptop, desktop = pair
    stolen = desktop.member.keyring.current
    laptop.rotate(NEW, revoke=True)
    laptop.sync()
    desktop.add("s", "by whoever has the revoked key")
    batch, _, _ = local_changes(desktop.store, since=0, floor=0, max_bytes=1 << 20)
    name = SegmentName(desktop.store.device, 2, 2, 0, "rrrrrrrrrrrr").path
    sealed = seal(pack(batch), key=stolen, vault_id=desktop.member.vault, name=name, salt=bytes(16))
    (desktop.folder / name).write_bytes(sealed)
    report = laptop.sync()
    assert laptop.contents("s") == []
    assert any(name in problem for problem in report.problems)
    assert (desktop.folder / name).exists()


def test_a_sign_is_one_segment_that_holds_nothing_and_is_owed_once(pair: tuple[Device, Device]):
    laptop, desktop = pair
    OwnLog(Ledger(laptop.store, laptop.member.vault)).owe_sign()
    assert laptop.sync().sent_segments == 1
    assert laptop.sync().sent_segments == 0
    report = desktop.sync()
    assert (report.received_segments, report.problems) == (1, [])
    assert desktop.sync().received_segments == 0


def test_a_sign_tells_of_a_revocation_where_nothing_else_is_written(pair: tuple[Device, Device]):
    laptop, desktop = pair
    laptop.rotate(NEW, revoke=True)
    OwnLog(Ledger(laptop.store, laptop.member.vault)).owe_sign()
    laptop.sync()
    desktop.add("s", "held back from the first look on")
    desktop.sync()
    desktop.add("s", "more")
    assert desktop.sync().sent_segments == 0


def test_a_vault_that_is_forgotten_leaves_nothing_in_the_ledger(pair: tuple[Device, Device]):
    laptop, _ = pair
    ledger = Ledger(laptop.store, laptop.member.vault)
    ledger.forget_vault()
    log = OwnLog(ledger)
    assert (log.position, log.pending(), ledger.applied(), list(ledger.cursor())) == ((0, 0), [], set(), [])


def started_again(device: Device) -> Device:
    device.store.close()
    return Device(device.home.data)


def revoked(laptop: Device, desktop: Device) -> Device:
    """The other device, started again after it was told that its key was revoked."""
    laptop.add("s", "before")
    laptop.sync()
    desktop.sync()
    laptop.rotate(NEW, revoke=True)
    laptop.add("s", "after")
    laptop.sync()
    assert any("steno join" in problem for problem in desktop.sync().problems)
    return started_again(desktop)


def test_a_push_alone_sends_nothing_under_a_key_that_is_known_to_be_revoked(pair: tuple[Device, Device]):
    laptop, desktop = pair[0], revoked(*pair)
    before = desktop.keys_of_log()
    desktop.add("s", "for nobody who stole the key")
    report = asyncio.run(desktop.engine.send())
    desktop.store.close()
    assert (report.sent_segments, desktop.keys_of_log()) == (0, before)
    assert any("steno join" in problem for problem in report.problems)
    assert laptop.sync().problems == []


def test_a_repair_publishes_nothing_under_a_revoked_key(pair: tuple[Device, Device]):
    laptop, desktop = pair[0], revoked(*pair)
    before = desktop.keys_of_log()
    first, *_ = sorted((desktop.folder / "log").glob(f"{laptop.store.device}.*"))
    first.unlink()
    with pytest.raises(InvalidInput, match="revoked"):
        asyncio.run(desktop.engine.repair())
    desktop.store.close()
    assert desktop.keys_of_log() == before
