from __future__ import annotations

import contextlib
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput, LocalStorageError, NewerFormat, ObjectDamaged, WrongKey
from steno.sync.vault.kdf import MINIMUM_COST, KdfCost, derive
from steno.sync.vault.keys import (
    MAX_KEY_OBJECT_BYTES,
    KeyObject,
    joined,
    kept_key,
    learned,
    open_key,
    parse_kept_key,
    parse_key_object,
    wrap_key,
)
from steno.sync.vault.seal import Keyring, VaultKey

VAULT_ID = "vaultvault00"
NAME = "keys/3.rrrrrrrrrrrr"
RING = Keyring((VaultKey("key000000001", bytes(range(32))), VaultKey("key000000002", bytes(32))))
PASSPHRASE = "correct horse"


def wrapped(passphrase: str = PASSPHRASE, *, n: int = 3, draw: Any = os.urandom) -> bytes:
    return wrap_key(RING, passphrase=passphrase, vault_id=VAULT_ID, n=n, draw=draw, cost=MINIMUM_COST, derive=derive)


def parsed(data: bytes, *, name: str = NAME, vault_id: str = VAULT_ID) -> KeyObject:
    return parse_key_object(data, name=name, vault_id=vault_id)


def opened(key_object: KeyObject, passphrase: str = PASSPHRASE) -> Keyring:
    return open_key(key_object, passphrase=passphrase, name=NAME, derive=derive)


def changed(data: bytes, **fields: Any) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(data), **fields})


WRAPPED = wrapped(draw=lambda size_bytes: bytes(range(size_bytes)))


def test_the_passphrase_opens_the_whole_ring():
    assert opened(parsed(wrapped())) == RING


def test_another_passphrase_is_a_wrong_key_and_names_the_vault():
    with pytest.raises(WrongKey) as caught:
        opened(parsed(WRAPPED), "correct horsf")
    assert caught.value.vault == VAULT_ID


def test_the_same_draw_wraps_to_the_same_bytes():
    assert wrapped(draw=lambda size_bytes: bytes(range(size_bytes))) == WRAPPED


def test_the_format_of_version_one_stays_as_it_is():
    golden = (
        b'{"steno_key":1,"vault":"vaultvault00","n":3,"key":"key000000002","kdf":{"salt":"AAECAwQFBg'
        b'cICQoLDA0ODw==","cost":{"memory_kib":8,"iterations":1,"lanes":1},"name":"argon2id"},"canar'
        b'y":"xXqbDo3B9ua25FJ9klWqAw==","wrapped":"oi8VVywQ5uMrpFG3cmd6tx5VMWAOm2YNLMUQXRc5On66ezYpZ'
        b"PqRMDaG4/LwrcyMvPySYjrfXmGB+oHmLDtT+9uKlz4GDM4Y5o4syj6bd8h2q7HsrmgiZP6dFrPbnmXtHZCqSyClQJZ"
        b"aSoo5sDVVpA6FDlgX1TBbqyf1/3j7Hk3dehuBcsc4EKv/WIcbik2ZGhgHQFqLUF4ARXBsGwPjtKhpXpc+Ph9wohd43"
        b'cDlSEczn1mgZIA=","check":"a7b788b5a1bd3375"}'
        b"\n"
    )
    assert golden == WRAPPED
    assert opened(parsed(golden)) == RING


def test_neither_keys_nor_passphrase_stand_in_the_object():
    assert all(
        word not in WRAPPED for word in (b"secret", PASSPHRASE.encode(), msgspec.json.encode(RING.keys[0].secret))
    )


def test_every_truncation_is_damage():
    # The last byte is a newline, which says nothing.
    for size_bytes in range(len(WRAPPED) - 1):
        with pytest.raises(ObjectDamaged):
            parsed(WRAPPED[:size_bytes])


def test_a_flipped_bit_is_damage_or_changes_nothing_and_is_never_a_wrong_passphrase():
    intact = parsed(WRAPPED)
    for bit in range(len(WRAPPED) * 8):
        torn = bytearray(WRAPPED)
        torn[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ObjectDamaged, NewerFormat):
            assert parsed(bytes(torn)) == intact


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_arbitrary_bytes_are_damage(data: bytes):
    with pytest.raises(ObjectDamaged):
        parsed(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.sampled_from(["vault", "n", "key", "kdf", "canary", "wrapped", "check"]), json_values)
def test_a_field_of_any_other_value_is_damage(field: str, value: Any):
    with pytest.raises(ObjectDamaged):
        parsed(changed(WRAPPED, **{field: value}))


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": 2**21, "iterations": 1, "lanes": 1},
        {"memory_kib": 8, "iterations": 10**6, "lanes": 1},
        {"memory_kib": 8, "iterations": 1, "lanes": 10**9},
        {"memory_kib": 10**30, "iterations": 1, "lanes": 1},
        {"memory_kib": 8, "iterations": 1, "lanes": 1, "more": 1},
        {"memory_kib": "8", "iterations": 1, "lanes": 1},
    ],
)
def test_a_cost_out_of_bounds_is_refused_before_it_is_paid(cost: dict[str, Any]):
    kdf = {**msgspec.json.decode(WRAPPED)["kdf"], "cost": cost}
    with pytest.raises(ObjectDamaged, match="no key object"):
        parsed(changed(WRAPPED, kdf=kdf))


def test_nesting_without_end_is_damage():
    with pytest.raises(ObjectDamaged):
        parsed(b'{"steno_key":1,"x":' + b"[" * 60_000)


def test_an_object_that_is_too_large_is_damage():
    with pytest.raises(ObjectDamaged):
        parsed(WRAPPED + b" " * MAX_KEY_OBJECT_BYTES)


def test_an_object_of_a_later_format_waits():
    with pytest.raises(NewerFormat):
        parsed(b'{"steno_key":2,"everything":"else may differ"}')


@pytest.mark.parametrize("name", ["keys/4.rrrrrrrrrrrr", "keys/3", "keys/3.rrrrrrrrrrrr (copy)"])
def test_a_renamed_object_is_damage(name: str):
    with pytest.raises(ObjectDamaged):
        parsed(WRAPPED, name=name)


def test_an_object_of_another_vault_is_damage():
    with pytest.raises(ObjectDamaged):
        parsed(WRAPPED, vault_id="vaultvault01")


@pytest.mark.parametrize(
    "forged",
    [
        {"n": 4},
        {"vault": "vaultvault01"},
        {"key": "key000000001"},
        {"wrapped": bytes(100)},
    ],
)
def test_what_stands_in_the_clear_cannot_be_forged_even_with_a_check_that_agrees(forged: dict[str, Any]):
    with pytest.raises(ObjectDamaged):
        opened(msgspec.structs.replace(parsed(WRAPPED), **forged))


def test_a_cheaper_cost_does_not_open():
    kdf = parsed(WRAPPED).kdf
    dearer = msgspec.structs.replace(kdf, cost=KdfCost(memory_kib=16, iterations=1, lanes=1))
    with pytest.raises(WrongKey):
        opened(msgspec.structs.replace(parsed(WRAPPED), kdf=dearer))


def test_kept_keys_come_back_from_the_home():
    assert parse_kept_key(kept_key(RING, vault_id=VAULT_ID), path="key") == (VAULT_ID, RING)


def test_a_kept_key_of_no_vault_is_refused():
    with pytest.raises(InvalidInput):
        kept_key(RING, vault_id="")


@given(st.binary(max_size=100))
def test_a_kept_key_that_rotted_says_so(data: bytes):
    with pytest.raises(LocalStorageError):
        parse_kept_key(data, path="key")


def test_the_error_about_a_kept_key_does_not_quote_it():
    torn = kept_key(RING, vault_id=VAULT_ID)[:-4]
    with pytest.raises(LocalStorageError) as caught:
        parse_kept_key(torn, path="home/key")
    assert caught.value.__cause__ is None
    assert "home/key" in caught.value.line


FIRST, SECOND, THIRD = (VaultKey(f"key00000000{number}", bytes([number]) * 32) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("held", "found", "both"),
    [
        ((FIRST,), (FIRST, SECOND), (FIRST, SECOND)),
        ((FIRST, SECOND), (FIRST,), (FIRST, SECOND)),
        ((FIRST, SECOND), (FIRST, SECOND), (FIRST, SECOND)),
        ((FIRST, SECOND), (FIRST, THIRD), (SECOND, FIRST, THIRD)),
    ],
)
def test_two_rings_become_one_that_drops_no_key_and_never_goes_back(
    held: tuple[VaultKey, ...], found: tuple[VaultKey, ...], both: tuple[VaultKey, ...]
):
    assert joined(Keyring(held), Keyring(found)) == Keyring(both)


@pytest.mark.parametrize(
    ("held", "after", "ring"),
    [
        ((FIRST,), FIRST, (FIRST, THIRD)),
        ((FIRST, SECOND), SECOND, (FIRST, SECOND, THIRD)),
        ((FIRST, SECOND), FIRST, (FIRST, THIRD, SECOND)),
        ((FIRST, THIRD), FIRST, (FIRST, THIRD)),
    ],
)
def test_a_key_that_was_told_seals_only_where_the_one_before_it_did(
    held: tuple[VaultKey, ...], after: VaultKey, ring: tuple[VaultKey, ...]
):
    assert learned(Keyring(held), THIRD, after=after.id) == Keyring(ring)
