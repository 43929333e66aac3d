from __future__ import annotations

import contextlib
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput, NewerFormat, ObjectDamaged
from steno.sync.vault.seal import Keyring, UnknownKey, VaultKey, pack, seal, unpack, unseal

VAULT_ID = "vaultvault00"
NAME = "log/aaaaaaaaaaaa.000000000001-000000000001.0.rrrrrrrrrrrr"
SALT = bytes(range(16))
KEY = VaultKey("key000000001", bytes(range(32)))
OTHER = VaultKey("key000000002", bytes(32))
RING = Keyring((KEY,))
SEALED = seal(b"Hello!", key=KEY, vault_id=VAULT_ID, name=NAME, salt=SALT)
GOLDEN = (
    "5354454e4f016b6579303030303030303031000102030405060708090a0b0c0d0e0f0d500619e3e8309041fc7bd20916a78a29a6a2caf08b"
)


def opened(sealed: bytes, *, keyring: Keyring = RING, vault_id: str = VAULT_ID, name: str = NAME) -> bytes:
    return unseal(sealed, keyring=keyring, vault_id=vault_id, name=name)


@given(st.binary(max_size=300), st.binary(min_size=16, max_size=16))
def test_what_was_sealed_opens(plain: bytes, salt: bytes):
    assert opened(seal(plain, key=KEY, vault_id=VAULT_ID, name=NAME, salt=salt)) == plain


def test_the_format_of_version_one_stays_as_it_is():
    assert SEALED.hex() == GOLDEN


def test_the_golden_object_opens():
    assert opened(bytes.fromhex(GOLDEN)) == b"Hello!"


def test_every_truncation_is_damage():
    for size_bytes in range(len(SEALED)):
        with pytest.raises(ObjectDamaged):
            opened(SEALED[:size_bytes])


def test_every_flipped_bit_is_noticed():
    for bit in range(len(SEALED) * 8):
        torn = bytearray(SEALED)
        torn[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ObjectDamaged, NewerFormat, UnknownKey)):
            opened(bytes(torn))


def test_bytes_behind_the_end_are_damage():
    with pytest.raises(ObjectDamaged):
        opened(SEALED + b"\0")


@given(st.binary(max_size=100), st.booleans())
def test_arbitrary_bytes_never_raise_anything_else(data: bytes, with_head: bool):
    with pytest.raises((ObjectDamaged, NewerFormat, UnknownKey)):
        opened(SEALED[:18] + data if with_head else data)


def test_a_renamed_object_does_not_open():
    with pytest.raises(ObjectDamaged):
        opened(SEALED, name=NAME.replace("rrrr", "ssss"))


def test_an_object_of_another_vault_does_not_open():
    with pytest.raises(ObjectDamaged):
        opened(SEALED, vault_id="vaultvault01")


def test_an_object_that_claims_another_key_does_not_open():
    forged = SEALED.replace(KEY.id.encode(), OTHER.id.encode())
    with pytest.raises(ObjectDamaged):
        opened(forged, keyring=Keyring((KEY, OTHER)))


def test_an_object_under_a_key_that_is_not_held_names_that_key():
    with pytest.raises(UnknownKey) as caught:
        opened(SEALED, keyring=Keyring((OTHER,)))
    assert caught.value.key_id == KEY.id


def test_an_object_of_a_later_format_waits():
    with pytest.raises(NewerFormat):
        opened(SEALED[:5] + b"\x02" + b"whatever is written there one day")


def test_an_older_key_on_the_ring_still_opens():
    assert opened(SEALED, keyring=Keyring((KEY, OTHER))) == b"Hello!"


def test_the_last_key_on_the_ring_is_the_one_that_seals():
    assert Keyring((KEY, OTHER)).current is OTHER


@pytest.mark.parametrize("keys", [(), (KEY, KEY)])
def test_a_ring_without_keys_or_with_one_twice_is_refused(keys: tuple[VaultKey, ...]):
    with pytest.raises(InvalidInput):
        Keyring(keys)


def test_another_salt_gives_other_bytes_throughout():
    other = seal(b"Hello!", key=KEY, vault_id=VAULT_ID, name=NAME, salt=bytes(16))
    assert other[34:] != SEALED[34:]


def test_a_salt_of_another_length_is_refused():
    with pytest.raises(InvalidInput):
        seal(b"", key=KEY, vault_id=VAULT_ID, name=NAME, salt=b"short")


def test_no_secret_shows_in_a_repr():
    key = VaultKey.new(os.urandom)
    assert repr(Keyring((key,))) == f"Keyring(keys=(VaultKey({key.id}),))"


@given(st.binary(max_size=2000))
def test_what_was_packed_unpacks(content: bytes):
    assert unpack(pack(content), name=NAME) == content


@given(st.binary(max_size=200))
def test_arbitrary_bytes_do_not_unpack_to_more_than_the_limit(data: bytes):
    with contextlib.suppress(ObjectDamaged):
        assert len(unpack(data, name=NAME, limit_bytes=1000)) <= 1000


def test_every_flipped_bit_of_a_packed_content_is_damage_or_stays_within_the_limit():
    packed = pack(b"Hello, hello, hello, hello!" * 5)
    for bit in range(len(packed) * 8):
        torn = bytearray(packed)
        torn[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ObjectDamaged):
            assert len(unpack(bytes(torn), name=NAME, limit_bytes=1000)) <= 1000


def test_a_content_above_the_limit_is_damage():
    with pytest.raises(ObjectDamaged):
        unpack(pack(bytes(1001)), name=NAME, limit_bytes=1000)


def test_a_content_of_the_limit_unpacks():
    assert unpack(pack(bytes(1000)), name=NAME, limit_bytes=1000) == bytes(1000)


def test_a_content_that_hides_its_size_is_damage():
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1_000_000))
    with pytest.raises(ObjectDamaged):
        unpack(hidden, name=NAME)


def test_a_content_that_is_larger_than_it_declares_is_damage():
    large = pack(bytes(100_000))
    at = len(b"\x28\xb5\x2f\xfd") + 1
    lying = large[: at + 4].replace((100_000).to_bytes(4, "little"), (70_000).to_bytes(4, "little")) + large[at + 4 :]
    assert lying != large
    with pytest.raises(ObjectDamaged):
        unpack(lying, name=NAME)


def test_bytes_behind_a_packed_content_are_damage():
    with pytest.raises(ObjectDamaged):
        unpack(pack(b"one") + pack(b"two"), name=NAME)
