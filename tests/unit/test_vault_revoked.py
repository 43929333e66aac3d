"""Who holds a revoked key and goes on writing: nothing of it is taken in, and what others send again is."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from steno.storage.change import VERSION, encode_batch, local_changes
from steno.storage.home import Home
from steno.sync.vault import rotation
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.keys import joined
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.membership import join_vault, make_vault, required_membership
from steno.sync.vault.names import SegmentName
from steno.sync.vault.peers import DeviceRecord
from steno.sync.vault.revoked import MAX_BYTES, published, shut
from steno.sync.vault.rotation import sealed_notice
from steno.sync.vault.seal import Keyring, VaultKey, pack, seal, sealed_with

from .test_vault_engine_keys import NEW, OLD, Device

pytestmark = pytest.mark.fault(27)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[Device, Device, Device]]:
    """Two devices that wrote, and a copy of the second one's home in other hands, which is about to write."""
    first = Home(tmp_path / "a", tmp_path / "a")
    vault = make_vault(first, str(tmp_path / "r"), passphrase=OLD, made=str, draw=os.urandom, cost=MINIMUM_COST)
    asyncio.run(vault)
    (tmp_path / "b").mkdir()
    shutil.copy(first.vault_file, tmp_path / "b" / first.vault_file.name)
    laptop, desktop = Device(tmp_path / "a"), Device(tmp_path / "b")
    laptop.store.create(id="s", title="S")
    laptop.add("s", "of a")
    laptop.sync()
    desktop.sync()
    desktop.add("s", "of b")
    desktop.sync()
    laptop.sync()
    desktop.store.close()
    shutil.copytree(tmp_path / "b", tmp_path / "t")
    desktop, thief = Device(tmp_path / "b"), Device(tmp_path / "t")
    yield laptop, desktop, thief
    for device in (laptop, desktop, thief):
        device.store.close()


def revoke(laptop: Device) -> None:
    laptop.rotate(NEW, revoke=True)
    laptop.add("s", "under the next key")
    laptop.sync()


def join(device: Device) -> None:
    asyncio.run(join_vault(device.home, str(device.folder), passphrase=NEW))


def late(tmp_path: Path, laptop: Device) -> Device:
    """A device that joins after the revocation."""
    home = Home(tmp_path / "late", tmp_path / "late")
    asyncio.run(join_vault(home, str(laptop.folder), passphrase=NEW))
    return Device(tmp_path / "late")


def planted(thief: Device, name: SegmentName, content: bytes | None = None) -> SegmentName:
    """What somebody puts there who has the former key, and no need of a program."""
    if content is None:
        thief.add("s", f"planted as {name.path}")
        content, _, _ = local_changes(thief.store, since=0, floor=0, max_bytes=1 << 20)
    key, vault = thief.member.keyring.current, thief.member.vault
    sealed = seal(pack(content), key=key, vault_id=vault, name=name.path, salt=bytes(16))
    (thief.folder / name.path).write_bytes(sealed)
    return name


def under(device: Device, number: int, *, last: int = 0, level: int = 0, id_: str | None = None) -> SegmentName:
    return SegmentName(id_ or device.store.device, number, last or number, level, "rrrrrrrrrrrr")


def last_of(device: Device) -> int:
    return Ledger(device.store, device.member.vault).cursor().of(device.store.device).last


def planted_in(device: Device) -> list[object]:
    return [content for content in device.contents("s") if "planted" in str(content)]


@pytest.mark.parametrize("how", ["next", "far ahead", "again", "rewritten", "as a stranger", "as the laptop"])
def test_nothing_that_comes_under_the_former_key_is_taken_in(three: tuple[Device, Device, Device], how: str):
    laptop, _, thief = three
    revoke(laptop)
    last = last_of(thief)
    name = {
        "next": under(thief, last + 1),
        "far ahead": under(thief, last + 1000),
        "again": under(thief, last),
        "rewritten": under(thief, 1, last=last + 1, level=9),
        "as a stranger": under(thief, 1, id_="strangerstra"),
        "as the laptop": under(laptop, last_of(laptop) + 1),
    }[how]
    planted(thief, name)
    report = laptop.sync()
    assert planted_in(laptop) == []
    assert [problem for problem in report.problems if name.path in problem and "steno join" in problem] != []
    assert (thief.folder / name.path).exists()
    laptop.add("s", "and it goes on")
    assert laptop.sync().sent_segments == 1


def test_the_real_program_of_who_was_shut_out_brings_nothing_in(three: tuple[Device, Device, Device]):
    laptop, _, thief = three
    revoke(laptop)
    thief.add("s", "planted by a program that does not know")
    asyncio.run(thief.engine.push())
    laptop.sync()
    assert planted_in(laptop) == []


def test_a_device_that_joins_later_takes_in_what_counts_and_nothing_else(
    three: tuple[Device, Device, Device], tmp_path: Path
):
    laptop, desktop, thief = three
    before = laptop.contents("s")
    revoke(laptop)
    planted(thief, under(thief, last_of(thief) + 1))
    device = late(tmp_path, laptop)
    report = device.sync()
    assert device.contents("s") == [*before, "under the next key"]
    assert len(report.problems) == 1
    device.store.close()
    assert desktop.store.device == thief.store.device


def test_what_an_honest_device_sent_unaware_is_taken_in_when_it_has_joined_again(
    three: tuple[Device, Device, Device], tmp_path: Path
):
    laptop, desktop, _ = three
    revoke(laptop)
    for number in range(12):
        desktop.add("s", f"unaware {number}")
        asyncio.run(desktop.engine.push())
    asyncio.run(desktop.engine.tend())  # rewritten under the former key, too
    assert laptop.sync().problems != []
    assert "unaware 0" not in laptop.contents("s")

    join(desktop)
    assert desktop.sync().problems == []
    asyncio.run(desktop.engine.tend())
    laptop.sync()
    device = late(tmp_path, laptop)
    device.sync()
    assert sorted(map(str, laptop.contents("s"))) == sorted(map(str, desktop.contents("s")))
    assert sorted(map(str, device.contents("s"))) == sorted(map(str, desktop.contents("s")))
    assert {f"unaware {number}" for number in range(12)} <= set(map(str, laptop.contents("s")))
    device.store.close()


def test_when_its_former_segments_are_gone_nothing_is_said_any_more(
    three: tuple[Device, Device, Device], monkeypatch: pytest.MonkeyPatch
):
    laptop, desktop, _ = three
    revoke(laptop)
    desktop.add("s", "unaware")
    asyncio.run(desktop.engine.push())
    laptop.sync()
    join(desktop)
    desktop.sync()
    asyncio.run(desktop.engine.tend())
    monkeypatch.setattr("steno.sync.vault.rewriting.GRACE_MS", -1)
    asyncio.run(desktop.engine.tend())
    assert laptop.sync().problems == []
    assert "unaware" in laptop.contents("s")


def test_a_device_whose_home_was_copied_joins_again_and_is_not_held_up_by_the_copy(
    three: tuple[Device, Device, Device],
):
    laptop, desktop, thief = three
    revoke(laptop)
    name = planted(thief, under(thief, last_of(thief) + 1))
    id_ = desktop.store.device
    join(desktop)
    desktop.add("s", "of the real one")
    report = desktop.sync()
    assert [problem for problem in report.problems if name.path in problem] != []
    assert (desktop.store.device, report.sent_segments) == (id_, 1)
    laptop.sync()
    assert "of the real one" in laptop.contents("s")
    assert planted_in(laptop) == planted_in(desktop) == []


def test_what_was_planted_is_never_sealed_anew_by_the_device_under_whose_id_it_lies(
    three: tuple[Device, Device, Device],
):
    laptop, desktop, thief = three
    revoke(laptop)
    planted(thief, under(thief, last_of(thief) + 1))
    planted(thief, under(thief, 1, last=last_of(thief), level=3))
    join(desktop)
    for _ in range(2):
        desktop.sync()
        asyncio.run(desktop.engine.tend())
    laptop.sync()
    current = required_membership(desktop.home).keyring.current.id
    anew = {
        path.name for path in (desktop.folder / "log").iterdir() if sealed_with(path.read_bytes(), name="") == current
    }
    assert any(name.startswith(desktop.store.device) for name in anew)
    assert not any("rrrrrrrrrrrr" in name for name in anew)
    assert planted_in(laptop) == planted_in(desktop) == []


def test_a_device_that_was_told_of_a_revocation_takes_nothing_more_under_that_key_until_it_has_joined_again(
    three: tuple[Device, Device, Device],
):
    laptop, desktop, thief = three
    revoke(laptop)
    desktop.sync()
    name = planted(thief, under(thief, 1, id_="strangerstra"))
    desktop.store.close()
    desktop = Device(desktop.home.data)  # nor does another process
    assert [problem for problem in desktop.sync().problems if name.path in problem] != []
    assert planted_in(desktop) == []
    join(desktop)
    desktop.sync()
    assert desktop.contents("s") == laptop.contents("s")
    desktop.store.close()


def test_a_device_that_was_told_sends_nothing_under_that_key_though_somebody_removes_what_told_it(
    three: tuple[Device, Device, Device],
):
    laptop, desktop, _ = three
    revoke(laptop)
    desktop.sync()
    for notice in (desktop.folder / "keys").glob("*-*"):
        notice.unlink()
    desktop.store.close()
    desktop = Device(desktop.home.data)
    desktop.add("s", "of no thief's business")
    assert [each for each in desktop.sync().problems if "nothing more is sent" in each] != []
    assert asyncio.run(desktop.engine.push()).sent_segments == 0
    join(desktop)
    assert desktop.sync().sent_segments == 1
    desktop.store.close()


def _told(thief: Device) -> tuple[VaultKey, str]:
    """A key that somebody who was shut out tells everybody, and the name of a segment under it."""
    own, vault = VaultKey.new(os.urandom), thief.member.vault
    name, notice = sealed_notice(own.id, own.secret, old=thief.member.keyring.current, vault_id=vault, draw=os.urandom)
    (thief.folder / name).write_bytes(notice)
    thief.add("s", "planted under a key of their own")
    content, _, _ = local_changes(thief.store, since=0, floor=0, max_bytes=1 << 20)
    segment = under(thief, 1, id_="strangerstra").path
    sealed = seal(pack(content), key=own, vault_id=vault, name=segment, salt=bytes(16))
    (thief.folder / segment).write_bytes(sealed)
    return own, segment


def test_a_key_that_is_told_under_a_revoked_one_is_not_taken_up(three: tuple[Device, Device, Device]):
    laptop, _, thief = three
    revoke(laptop)
    own, segment = _told(thief)
    assert [problem for problem in laptop.sync().problems if segment in problem] != []
    assert planted_in(laptop) == []
    assert required_membership(laptop.home).keyring.find(own.id) is None


def test_one_that_was_taken_up_before_ends_with_the_key_under_which_it_was_told(three: tuple[Device, Device, Device]):
    laptop, desktop, thief = three
    revoke(laptop)
    for path in (laptop.folder / "log").glob(f"{laptop.store.device}.*"):  # which told of it
        path.rename(laptop.folder / path.name)
    own, _ = _told(thief)
    desktop.sync()
    for path in laptop.folder.glob(f"{laptop.store.device}.*"):
        path.rename(laptop.folder / "log" / path.name)
    assert required_membership(desktop.home).keyring.current == own
    join(desktop)
    ended = required_membership(desktop.home).keyring.find(own.id)
    assert ended is not None
    assert ended.until == {}


def test_nothing_is_stood_for_by_who_was_shut_out(three: tuple[Device, Device, Device]):
    laptop, _, thief = three
    revoke(laptop)
    content = encode_batch({}, [], {"strangerstra": [(1, 5)]})
    planted(thief, under(thief, last_of(thief) + 1), content)
    laptop.sync()
    ledger = Ledger(laptop.store, laptop.member.vault)
    assert ledger.healed() == []
    assert ledger.cursor().of("strangerstra").last == 0


class _Demanding(DeviceRecord, frozen=True, kw_only=True):
    needs: int = 0


def _claim(thief: Device, laptop: Device, n: int) -> None:
    """Say under the thief's id that the laptop is retired, and that nobody may write."""
    name = f"devices/{thief.store.device}.{n}"
    record = _Demanding(
        name="mine", platform="linux", version="1", written_ms=1, retired={laptop.store.device: 1},
        applied={laptop.store.device: [(1, 999)]}, needs=VERSION + 1,
    )  # fmt: skip
    key, vault = thief.member.keyring.current, thief.member.vault
    sealed = seal(pack(msgspec.json.encode(record)), key=key, vault_id=vault, name=name, salt=bytes(16))
    (thief.folder / "devices").mkdir(exist_ok=True)
    (thief.folder / name).write_bytes(sealed)


def _is_obeyed(device: Device, of: Device) -> bool:
    device.add("s", "more")
    report = device.sync()
    known = {each.id: each for each in asyncio.run(device.engine.devices())}
    return report.sent_segments == 0 or known[of.store.device].retired


def test_a_record_under_the_former_key_names_its_device_and_is_not_obeyed(three: tuple[Device, Device, Device]):
    laptop, _, thief = three
    revoke(laptop)
    _claim(thief, laptop, 900)
    asyncio.run(laptop.engine.peers.exchange())
    assert not _is_obeyed(laptop, laptop)
    assert "mine" in [each.name for each in asyncio.run(laptop.engine.devices())]


def test_one_that_was_believed_before_is_believed_no_more(three: tuple[Device, Device, Device], tmp_path: Path):
    laptop, _, thief = three
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c" / "steno.db").unlink()
    third = Device(tmp_path / "c")
    third.sync()
    _claim(thief, laptop, 900)
    asyncio.run(third.engine.peers.exchange())
    assert _is_obeyed(third, laptop)
    revoke(laptop)
    join(third)
    assert not _is_obeyed(third, laptop)
    third.store.close()


def test_verify_and_devices_name_what_is_set_aside_and_repair_leaves_it(three: tuple[Device, Device, Device]):
    laptop, _, thief = three
    revoke(laptop)
    name = planted(thief, under(thief, last_of(thief) + 1))
    laptop.sync()
    findings = asyncio.run(laptop.engine.inspect())
    assert (list(findings.revoked), findings.damaged) == ([name.path], {})
    counted = {each.id: each.set_aside for each in asyncio.run(laptop.engine.devices())}
    assert counted == {laptop.store.device: 0, thief.store.device: 1}
    asyncio.run(laptop.engine.repair())
    assert (thief.folder / name.path).exists()
    assert planted_in(laptop) == []


def test_what_is_set_aside_costs_a_poll_nothing_more(three: tuple[Device, Device, Device]):
    laptop, desktop, thief = three
    revoke(laptop)
    for number in range(3):
        planted(thief, under(thief, last_of(thief) + 1 + number))
    laptop.sync()
    assert laptop.asked() == {"list": 1}
    join(desktop)
    desktop.sync()
    desktop.sync()
    assert desktop.asked() == {"list": 1}


def test_a_second_revocation_leaves_the_first_as_it_was(three: tuple[Device, Device, Device]):
    laptop, _, thief = three
    revoke(laptop)
    first = required_membership(laptop.home).keyring.keys[0]
    laptop.add("s", "between")
    laptop.sync()
    laptop.rotate("a third one", revoke=True)
    ring = required_membership(laptop.home).keyring
    assert ring.keys[0] == first
    assert ring.keys[1].until == published(Ledger(laptop.store, laptop.member.vault))
    assert ring.current.until is None
    assert first.until is not None
    assert first.until[thief.store.device] == last_of(thief)


# The keys themselves


def key(number: int, until: dict[str, int] | None = None) -> VaultKey:
    return VaultKey(f"key00000000{number}", bytes([number]) * 32, until)


def test_a_key_that_was_revoked_in_either_ring_is_revoked():
    held, found = Keyring((key(1), key(2))), Keyring((key(1, {"devicedevice": 3}), key(2)))
    assert joined(held, found) == joined(found, held) == found


def test_where_two_devices_revoked_at_once_what_either_had_taken_in_counts():
    mine = Keyring((key(1, {"devicedevice": 3, "otherdevice0": 9}), key(2)))
    theirs = Keyring((key(1, {"devicedevice": 5}), key(3)))
    ring = joined(mine, theirs)
    assert ring.find("key000000001") == key(1, {"devicedevice": 5, "otherdevice0": 9})
    assert {each.id for each in ring.keys} == {"key000000001", "key000000002", "key000000003"}


def test_a_ring_of_many_revoked_keys_still_fits_into_a_key_object():
    until = {f"device{number:06}": 10**9 for number in range(300)}
    ring = Keyring(tuple(key(number, until) for number in range(1, 9)))
    cut = shut(ring, until)
    assert len(msgspec.json.encode(cut.keys)) <= MAX_BYTES
    assert (cut.keys[0].until, cut.keys[-1].until) == ({}, until)


def test_a_key_that_was_not_revoked_is_written_as_ever():
    assert msgspec.json.decode(msgspec.json.encode(key(1))).keys() == {"id", "secret"}


def test_the_same_passphrase_again_wraps_the_keys_that_are_missing_there(three: tuple[Device, Device, Device]):
    laptop, *_ = three
    member = required_membership(laptop.home)
    folder = laptop.folder / "keys"
    former = {path.name: path.read_bytes() for path in folder.iterdir()}
    laptop.rotate(OLD)
    for path in folder.iterdir():
        path.unlink()
    for name, data in former.items():  # as another device that did not know the new key had left it
        (folder / name).write_bytes(data)
    changed = rotation.change_passphrase(
        laptop.home, passphrase=OLD, draw=os.urandom, cost=MINIMUM_COST, lock=nullcontext, derive=derive
    )
    assert not asyncio.run(changed)
    other = Home(laptop.home.data.with_name("other"), laptop.home.data.with_name("other"))
    found = asyncio.run(join_vault(other, member.url, passphrase=OLD))
    assert found.keyring == required_membership(laptop.home).keyring
    assert len(found.keyring.keys) == 2
