"""An offer to join: what it says, who can open it, for how long, and what a hostile remote or code can do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput, NewerFormat, NoVault, ObjectDamaged, OtherVault, WrongKey
from steno.storage.home import Home
from steno.sync.vault import pairing
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.membership import make_vault, membership, remote_of, required_membership
from steno.sync.vault.pairing import (
    MAX_OFFER_BYTES,
    OPEN_FOR_MS,
    Code,
    Offer,
    OfferGone,
    code_text,
    new_secret,
    open_offer,
    parse_code,
    parse_offer,
    typed_secret,
    wrap_offer,
)
from steno.sync.vault.seal import Keyring, VaultKey

VAULT_ID, NAME = "vaultvault00", "pair/offeroffer00"
RING = Keyring((VaultKey("key000000001", bytes(range(32))), VaultKey("key000000002", bytes(32))))
SECRET = "aaaa-bbbb-cccc-dddd"
NOW_MS = 1_800_000_000_000
CODE = Code(VAULT_ID, "offeroffer00", "s3://bucket/notes?region=eu")
GOLDEN = (
    b'{"steno_pair":1,"vault":"vaultvault00","expires_ms":1800000000000,"kdf":{"salt":"AAECAwQFBgcICQoLDA0'
    b'ODw==","cost":{"memory_kib":8,"iterations":1,"lanes":1},"name":"argon2id"},"canary":"zFILXZ+hSdFmNZS'
    b'UbSHc4w==","wrapped":"F4yopIots9Du/qUzOxu6DjtoyioYnWsubGnTjwPcak4snzBiTnfDTlkYcKFzU+R7GM73Rm0hApGc1G'
    b"5TZYabVuqq3oEdGJYp2XriDwadXgpmSx7byx/J6FYY7YUhIYXnwEBC0s9ofINk7NL6MWSAQ6uSn9tpcEDKLhwSnFy3dXY7wbOhte"
    b'FxfiEfzP58+ymbvbCmvSbMN+icu4te6lOBkJWSq4yxbfToh/sE/h3SR7iWbQ3O+bE=","check":"0a672a8a3daeccc5"}'
    b"\n"
)


def wrapped(*, vault_id: str = VAULT_ID, name: str = NAME, draw: Any = os.urandom) -> bytes:
    return wrap_offer(
        RING,
        secret=SECRET,
        vault_id=vault_id,
        name=name,
        expires_ms=NOW_MS,
        draw=draw,
        cost=MINIMUM_COST,
        derive=derive,
    )


def parsed(data: bytes) -> Offer:
    return parse_offer(data, name=NAME)


def opened(offer: Offer, secret: str = SECRET) -> Keyring:
    return open_offer(offer, secret=secret, name=NAME, derive=derive)


WRAPPED = wrapped(draw=lambda size_bytes: bytes(range(size_bytes)))


# The wire form of an offer


def test_the_secret_opens_the_whole_ring():
    assert opened(parsed(wrapped())) == RING


def test_another_secret_is_a_wrong_key_and_says_what_to_type():
    with pytest.raises(WrongKey, match="offer to join vault vaultvault00") as caught:
        opened(parsed(WRAPPED), "aaaa-bbbb-cccc-ddde")
    assert "steno pair" in caught.value.hint


def test_the_format_of_version_one_stays_as_it_is():
    assert WRAPPED == GOLDEN
    assert opened(parsed(GOLDEN)) == RING


def test_neither_keys_nor_secret_stand_in_the_offer():
    assert all(word not in WRAPPED for word in (SECRET.encode(), msgspec.json.encode(RING.keys[0].secret)))


def test_every_truncation_is_damage():
    for size_bytes in range(len(WRAPPED) - 1):  # the last byte is a newline, which says nothing
        with pytest.raises(ObjectDamaged):
            parsed(WRAPPED[:size_bytes])


def test_a_flipped_bit_is_damage_or_changes_nothing():
    intact = parsed(WRAPPED)
    for bit in range(len(WRAPPED) * 8):
        torn = bytearray(WRAPPED)
        torn[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ObjectDamaged, NewerFormat):
            assert parsed(bytes(torn)) == intact


def test_a_remote_cannot_prolong_an_offer_or_move_it():
    offer = parsed(WRAPPED)
    for forged, name in (
        (msgspec.structs.replace(offer, expires_ms=NOW_MS + 1), NAME),
        (msgspec.structs.replace(offer, vault="othervault00"), NAME),
        (offer, "pair/offeroffer11"),
    ):
        with pytest.raises(ObjectDamaged):
            open_offer(forged, secret=SECRET, name=name, derive=derive)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_arbitrary_bytes_are_no_offer(data: bytes):
    with pytest.raises(ObjectDamaged):
        parsed(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.sampled_from(["vault", "expires_ms", "kdf", "canary", "wrapped", "check"]), json_values)
def test_a_field_of_any_other_value_is_damage(field: str, value: Any):
    with pytest.raises(ObjectDamaged):
        parsed(msgspec.json.encode({**msgspec.json.decode(WRAPPED), field: value}))


@pytest.mark.parametrize("cost", [{"memory_kib": 2**21}, {"iterations": 10**6}, {"lanes": 10**9}])
def test_a_cost_out_of_bounds_is_refused_before_it_is_paid(cost: dict[str, int]):
    kdf = msgspec.json.decode(WRAPPED)["kdf"]
    forged = {**msgspec.json.decode(WRAPPED), "kdf": {**kdf, "cost": {**kdf["cost"], **cost}}}
    with pytest.raises(ObjectDamaged, match="no offer"):
        parsed(msgspec.json.encode(forged))


def test_an_offer_that_is_too_large_or_nested_without_end_is_damage():
    for data in (WRAPPED + b" " * MAX_OFFER_BYTES, b'{"steno_pair":1,"x":' + b"[" * 60_000):
        with pytest.raises(ObjectDamaged):
            parsed(data)


def test_an_offer_of_a_later_format_waits():
    with pytest.raises(NewerFormat):
        parsed(b'{"steno_pair":2,"everything":"else may differ"}')


# Codes and secrets


def test_a_code_is_read_back_however_it_was_broken_into_lines():
    text = code_text(CODE)
    assert parse_code(text) == CODE
    assert parse_code(f" {text[:20]}\n {text[20:]}\n") == CODE


def test_the_code_of_version_one_stays_as_it_is():
    assert code_text(CODE) == "lAGsdmF1bHR2YXVsdDAwrG9mZmVyb2ZmZXIwMLtzMzovL2J1Y2tldC9ub3Rlcz9yZWdpb249ZXVBsJfJ"


@given(st.text(max_size=300))
def test_any_other_text_is_no_code(text: str):
    with pytest.raises(InvalidInput):
        parse_code(text)


def coded(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed + hashlib.sha256(packed).digest()[:4]).decode()


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        1,
        [1],
        [1, VAULT_ID, "offeroffer00"],
        [1, "x", "offeroffer00", "/r"],
        [1, VAULT_ID, "../../../../", "/r"],
        [1, VAULT_ID, "offeroffer00", 7],
        [0, VAULT_ID, "offeroffer00", "/r"],
        ["1", VAULT_ID, "offeroffer00", "/r"],
    ],
)
def test_a_code_with_other_content_is_none(content: Any):
    with pytest.raises(InvalidInput):
        parse_code(coded(msgspec.msgpack.encode(content)))


def test_a_code_nested_or_long_without_end_is_none():
    for text in (coded(b"\x91" * 2000), "A" * 10**6):
        with pytest.raises(InvalidInput):
            parse_code(text)


def test_a_code_of_a_later_version_waits():
    with pytest.raises(NewerFormat):
        parse_code(coded(msgspec.msgpack.encode([2, "whatever"])))


def test_a_code_that_was_copied_in_part_is_none():
    text = code_text(CODE)
    for length in range(len(text)):
        with pytest.raises(InvalidInput):
            parse_code(text[:length])


@given(st.binary(min_size=10, max_size=10))
def test_a_secret_is_typed_in_any_way(random: bytes):
    secret = new_secret(lambda size_bytes: random[:size_bytes])
    assert typed_secret(f" {secret.upper().replace('-', ' ')}\n") == secret


def test_secrets_of_different_draws_differ_and_hold_every_bit():
    draws = [bytes(10), *((1 << at).to_bytes(10) for at in range(80))]
    assert len({new_secret(lambda _, drawn=drawn: drawn) for drawn in draws}) == 81


@pytest.mark.parametrize("text", ["", "aaaa-bbbb-cccc", "aaaa-bbbb-cccc-dddd-eeee", "aaaa-bbbb-cccc-ddd0", "a" * 10**6])
def test_what_cannot_be_a_secret_is_said_before_the_remote_is_asked(text: str):
    with pytest.raises(InvalidInput) as caught:
        typed_secret(text)
    assert text not in caught.value.line or not text


# Two homes


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    home = Home(folder / "home", folder / "home")
    vault = make_vault(home, str(folder / "r"), passphrase="chosen", made=str, draw=os.urandom, cost=MINIMUM_COST)
    asyncio.run(vault)
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    """A home of a vault."""
    shutil.copytree(template / "r", tmp_path / "r")
    home = Home(tmp_path / "home", tmp_path / "home")
    home.make()
    kept = (template / "home" / "vault.json").read_text(encoding="utf-8")
    home.vault_file.write_text(kept.replace(str(template), str(tmp_path)), encoding="utf-8")
    return home


@pytest.fixture
def fresh(tmp_path: Path) -> Home:
    return Home(tmp_path / "fresh", tmp_path / "fresh")


def offered(home: Home, *, secret: str = SECRET, now_ms: int = NOW_MS) -> Code:
    async def offer() -> Code:
        found = required_membership(home)
        async with remote_of(found) as remote:
            return await pairing.offer(
                remote, found, secret=secret, now_ms=now_ms, draw=os.urandom, cost=MINIMUM_COST, derive=derive
            )

    return asyncio.run(offer())


def accepted(home: Home, code: Code, *, secret: str = SECRET, now_ms: int = NOW_MS, url: str | None = None) -> None:
    asyncio.run(pairing.accept(home, code, secret=secret, now_ms=now_ms, lock=nullcontext, url=url, derive=derive))


def offers(home: Home) -> list[str]:
    folder = Path(required_membership(home).url) / "pair"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_device_that_accepts_an_offer_has_the_vault_and_the_offer_is_gone(home: Home, fresh: Home):
    accepted(fresh, offered(home))
    assert required_membership(fresh) == required_membership(home)
    assert offers(home) == []


def test_an_offer_is_good_for_one_device(home: Home, fresh: Home, tmp_path: Path):
    code = offered(home)
    accepted(fresh, code)
    with pytest.raises(OfferGone):
        accepted(Home(tmp_path / "late", tmp_path / "late"), code)


def test_an_offer_that_has_expired_is_refused_and_both_clocks_are_named(home: Home, fresh: Home):
    code = offered(home)
    with pytest.raises(OfferGone, match=r"expired at 2027-01-15T08:10:00.000Z.*clock says 2027-01-15T08:10:00.001Z"):
        accepted(fresh, code, now_ms=NOW_MS + OPEN_FOR_MS + 1)
    assert membership(fresh) is None


def test_a_wrong_secret_writes_nothing_and_the_offer_stands(home: Home, fresh: Home):
    code = offered(home)
    with pytest.raises(WrongKey):
        accepted(fresh, code, secret="aaaa-bbbb-cccc-ddde")
    assert not fresh.data.exists()
    assert offers(home) == [code.offer]


def test_what_nobody_took_is_deleted_with_the_next_offer(home: Home):
    first = offered(home)
    second = offered(home, now_ms=NOW_MS + OPEN_FOR_MS // 2)
    assert offers(home) == sorted([first.offer, second.offer])
    third = offered(home, now_ms=NOW_MS + OPEN_FOR_MS + 1)
    assert offers(home) == sorted([second.offer, third.offer])


def test_a_home_of_another_vault_does_not_change_it(home: Home, fresh: Home, tmp_path: Path):
    other = make_vault(fresh, str(tmp_path / "r2"), passphrase="x", made=str, draw=os.urandom, cost=MINIMUM_COST)
    asyncio.run(other)
    before = required_membership(fresh)
    code = offered(home)
    with pytest.raises(OtherVault):
        accepted(fresh, code)
    assert required_membership(fresh) == before
    assert offers(home) == [code.offer]


def test_a_code_of_another_vault_than_lies_there_is_refused(home: Home, fresh: Home):
    code = offered(home)
    with pytest.raises(OtherVault):
        accepted(fresh, msgspec.structs.replace(code, vault="othervault00"))
    assert membership(fresh) is None


def test_the_vault_may_lie_elsewhere_for_the_other_device(home: Home, fresh: Home, tmp_path: Path):
    code = offered(home)
    (tmp_path / "r").rename(tmp_path / "mounted")
    accepted(fresh, code, url=str(tmp_path / "mounted"))
    assert required_membership(fresh).url == str(tmp_path / "mounted")


def test_where_no_vault_is_nothing_is_written(home: Home, fresh: Home, tmp_path: Path):
    code = offered(home)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoVault):
        accepted(fresh, code, url=str(tmp_path / "empty"))
    assert not fresh.data.exists()


@pytest.mark.parametrize("data", [b"", b"torn", b"{}", b"\0" * (MAX_OFFER_BYTES + 1)])
def test_an_offer_that_is_none_is_damage_and_holds_up_no_other(home: Home, fresh: Home, tmp_path: Path, data: bytes):
    code = offered(home)
    (tmp_path / "r" / "pair" / code.offer).write_bytes(data)
    with pytest.raises(ObjectDamaged):
        accepted(fresh, code)
    assert membership(fresh) is None
    accepted(fresh, offered(home))


def test_a_home_that_has_the_vault_already_may_accept_and_drops_no_key(home: Home, fresh: Home):
    accepted(fresh, offered(home))
    accepted(fresh, offered(home))
    assert required_membership(fresh) == required_membership(home)
