from __future__ import annotations

import contextlib
import os

import pytest

from steno.storage.errors import (
    HomeExists,
    InvalidInput,
    NewerFormat,
    NoVault,
    ObjectDamaged,
    OtherVault,
    WrongKey,
)
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.keys import wrap_key
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import VAULT
from steno.sync.vault.seal import Keyring
from steno.sync.vault.vault import (
    KeysGone,
    delete_vault,
    found_vault,
    parse_vault_json,
    unlock_vault,
    vault_at,
    vault_json,
)

VAULT_ID = "vaultvault00"
PASSPHRASE = "correct horse"


async def founded(remote: MemoryRemote) -> tuple[str, Keyring]:
    return await found_vault(remote, passphrase=PASSPHRASE, draw=os.urandom, cost=MINIMUM_COST, derive=derive)


async def unlocked(remote: MemoryRemote, vault_id: str, passphrase: str = PASSPHRASE) -> Keyring:
    return await unlock_vault(remote, passphrase=passphrase, vault_id=vault_id, derive=derive)


def test_every_device_writes_the_same_vault_json():
    assert vault_json(VAULT_ID) == b'{"steno_vault":1,"id":"vaultvault00","check":"054c75294f8e339a"}\n'


def test_a_vault_json_is_read_back():
    assert parse_vault_json(vault_json(VAULT_ID)) == VAULT_ID


def test_a_flipped_bit_in_vault_json_is_damage_and_never_another_vault():
    intact = vault_json(VAULT_ID)
    for bit in range(len(intact) * 8):
        torn = bytearray(intact)
        torn[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ObjectDamaged, NewerFormat):
            assert parse_vault_json(bytes(torn)) == VAULT_ID


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b"<html>", b'{"steno_vault":1,"id":"vaultvault00"}', b"[" * 4000, b" " * 5000]
)
def test_what_is_no_vault_json_is_damage(data: bytes):
    with pytest.raises(ObjectDamaged):
        parse_vault_json(data)


def test_a_vault_of_a_later_format_waits():
    with pytest.raises(NewerFormat):
        parse_vault_json(b'{"steno_vault":2}')


def test_a_vault_json_is_not_made_without_an_id():
    with pytest.raises(InvalidInput):
        vault_json("")


async def test_a_founded_vault_is_unlocked_by_its_passphrase():
    remote = MemoryRemote()
    vault_id, keyring = await founded(remote)
    assert await vault_at(remote) == vault_id
    assert await unlocked(remote, vault_id) == keyring


async def test_the_vault_is_there_only_when_its_key_is():
    remote = MemoryRemote()
    await founded(remote)
    assert list(remote.objects)[-1] == VAULT


@pytest.mark.fault(25)
async def test_a_wrong_passphrase_moves_nothing():
    remote = MemoryRemote()
    vault_id, _ = await founded(remote)
    device = remote.peer()
    with pytest.raises(WrongKey):
        await unlocked(device, vault_id, "another")
    assert device.requests == {"list": 1, "get": 1}


async def test_a_second_vault_is_not_made_over_the_first():
    remote = MemoryRemote()
    await founded(remote)
    before = dict(remote.objects)
    with pytest.raises(HomeExists):
        await founded(remote)
    assert remote.objects == before


async def test_a_vault_json_that_does_not_open_is_not_overwritten():
    remote = MemoryRemote()
    remote.objects[VAULT] = b"torn"
    with pytest.raises(ObjectDamaged):
        await founded(remote)
    assert remote.objects == {VAULT: b"torn"}


@pytest.mark.fault(34)
async def test_of_two_founders_at_once_one_is_told_of_the_other():
    class Raced(MemoryRemote):
        async def put(self, name: str, data: bytes) -> None:
            await super().put(name, vault_json(VAULT_ID) if name == VAULT else data)

    with pytest.raises(OtherVault) as caught:
        await founded(Raced())
    assert VAULT_ID in caught.value.line


async def test_an_empty_remote_has_no_vault():
    with pytest.raises(NoVault):
        await vault_at(MemoryRemote())


@pytest.mark.fault(12)
async def test_a_vault_whose_keys_are_gone_says_so():
    remote = MemoryRemote()
    remote.objects[VAULT] = vault_json(VAULT_ID)
    with pytest.raises(KeysGone):
        await unlocked(remote, VAULT_ID)


async def test_the_key_of_a_founding_that_was_cut_short_is_in_nobodys_way():
    remote = MemoryRemote()
    await founded(remote)
    del remote.objects[VAULT]
    vault_id, keyring = await founded(remote)
    assert await unlocked(remote, vault_id) == keyring


async def test_only_the_latest_passphrase_opens():
    remote = MemoryRemote()
    vault_id, keyring = await founded(remote)
    remote.objects["keys/2.rrrrrrrrrrrr"] = wrap_key(
        keyring, passphrase="new one", vault_id=vault_id, n=2, draw=os.urandom, cost=MINIMUM_COST, derive=derive
    )
    assert await unlocked(remote, vault_id, "new one") == keyring
    with pytest.raises(WrongKey):
        await unlocked(remote, vault_id, PASSPHRASE)


@pytest.mark.fault(34)
async def test_two_passphrases_changed_at_once_both_open():
    remote = MemoryRemote()
    vault_id, keyring = await founded(remote)
    for random, passphrase in (("aaaaaaaaaaaa", "mine"), ("zzzzzzzzzzzz", "theirs")):
        remote.objects[f"keys/2.{random}"] = wrap_key(
            keyring, passphrase=passphrase, vault_id=vault_id, n=2, draw=os.urandom, cost=MINIMUM_COST, derive=derive
        )
    assert await unlocked(remote, vault_id, "mine") == keyring
    assert await unlocked(remote, vault_id, "theirs") == keyring


async def test_a_broken_key_beside_a_good_one_does_not_hide_a_wrong_passphrase():
    remote = MemoryRemote()
    vault_id, _ = await founded(remote)
    remote.objects["keys/1.000000000000"] = b"torn"
    with pytest.raises(WrongKey):
        await unlocked(remote, vault_id, "another")


SEGMENT = "log/devicedevice.000000000001-000000000001.0.rrrrrrrrrrrr"
REST = (SEGMENT, "devices/devicedevice.1", "pair/offeroffer00", "keys/key000000001-key000000002")


async def full(remote: MemoryRemote) -> str:
    vault_id, _ = await founded(remote)
    remote.objects.update(dict.fromkeys(REST, b"sealed"))
    return vault_id


async def test_a_deleted_vault_leaves_what_is_not_its_own():
    remote = MemoryRemote()
    vault_id = await full(remote)
    foreign = ["log/read me.txt", "photo.jpg", "vault (1).json"]
    remote.objects.update(dict.fromkeys(foreign, b"somebody's"))
    assert await delete_vault(remote, vault_id=vault_id) == ["log/read me.txt"]
    assert sorted(remote.objects) == foreign


async def test_a_vault_that_is_half_deleted_opens_for_nobody_and_never_looks_empty():
    remote = MemoryRemote()
    vault_id = await full(remote)
    count = len(remote.objects)
    seen: list[set[str]] = []

    class Watched(MemoryRemote):
        async def delete(self, name: str) -> None:
            await super().delete(name)
            seen.append(set(self.objects))

    await delete_vault(Watched(peer_of=remote), vault_id=vault_id)
    assert len(seen) == count
    keyless = [left for left in seen if VAULT in left and SEGMENT not in left]
    assert keyless
    assert not any(name.startswith("keys/") for left in keyless for name in left)
    assert seen[-1] == set()


async def test_what_another_device_writes_meanwhile_is_deleted_too():
    remote = MemoryRemote()
    vault_id = await full(remote)
    later = SEGMENT.replace("000000000001.0", "000000000002.0")

    class Written(MemoryRemote):
        async def delete(self, name: str) -> None:
            await super().delete(name)
            if name == SEGMENT:
                self.objects[later] = b"sealed"

    await delete_vault(Written(peer_of=remote), vault_id=vault_id)
    assert remote.objects == {}


async def test_another_vault_is_not_deleted():
    remote = MemoryRemote()
    await full(remote)
    before = dict(remote.objects)
    with pytest.raises(OtherVault):
        await delete_vault(remote, vault_id=VAULT_ID)
    assert remote.objects == before


async def test_without_a_vault_nothing_is_deleted():
    remote = MemoryRemote()
    vault_id = await full(remote)
    del remote.objects[VAULT]
    before = dict(remote.objects)
    with pytest.raises(NoVault):
        await delete_vault(remote, vault_id=vault_id)
    assert remote.objects == before
