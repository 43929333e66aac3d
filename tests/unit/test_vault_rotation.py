"""Another passphrase, another key: what opens afterwards, who follows, and what a remote can do about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput, NewerFormat, ObjectDamaged, WrongKey
from steno.storage.home import Home
from steno.sync.vault import rotation
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.keys import parse_key_object
from steno.sync.vault.membership import change_keys, join_vault, make_vault, required_membership
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import Draw, KeyName, NoticeName
from steno.sync.vault.rotation import HomeKeys, KeyChanged, Rotated, open_notice, opens, seal, sealed_notice, seek
from steno.sync.vault.seal import Keyring, UnknownKey, VaultKey

VAULT_ID = "vaultvault00"
FIRST, SECOND, THIRD = (VaultKey(f"key00000000{number}", bytes([number]) * 32) for number in (1, 2, 3))
HELD = Keyring((FIRST,))
GOLDEN = (
    "5354454e4f016b6579303030303030303031000102030405060708090a0b0c0d0e0fbfba3b41b7067e80e438bfca16d6402c"
    "c622536e8c14558096df521a82d10c2c3391719cdf8d5027916f03169c15231f7fec11698b84afc0da5733ea7cc8e110d933"
    "ab1c478948a7d72323fdfcc361b5f83850b4f5f82c00f051ba085ed4753e769cb7cce009143231da4a18fcd062"
)
OLD, NEW = "correct horse", "battery staple"


def drawn(size_bytes: int) -> bytes:
    return bytes(range(size_bytes))


def notice(old: VaultKey, new: VaultKey, *, told: bool = True, vault_id: str = VAULT_ID) -> tuple[str, bytes]:
    return sealed_notice(new.id, new.secret if told else None, old=old, vault_id=vault_id, draw=drawn)


def opened(data: bytes, name: str, keyring: Keyring = HELD) -> VaultKey | None:
    parsed = NoticeName.parse(name)
    assert parsed is not None
    return open_notice(data, name=parsed, keyring=keyring, vault_id=VAULT_ID)


def found(objects: dict[str, bytes], wanted: VaultKey, keyring: Keyring = HELD) -> rotation.Found:
    remote = MemoryRemote()
    remote.objects.update(objects)
    return asyncio.run(seek(remote, wanted.id, keyring=keyring, vault_id=VAULT_ID, listing=list(objects)))


# The wire form of a notice


def test_who_holds_the_old_key_reads_the_new_one():
    name, data = notice(FIRST, SECOND)
    assert name == "keys/key000000001-key000000002"
    assert opened(data, name) == SECOND


def test_a_notice_of_a_revoked_key_tells_no_secret():
    name, data = notice(FIRST, SECOND, told=False)
    assert opened(data, name) is None


def test_the_format_of_version_one_stays_as_it_is():
    name, data = notice(FIRST, SECOND)
    assert data.hex() == GOLDEN
    content = rotation.unseal(data, keyring=HELD, vault_id=VAULT_ID, name=name)
    assert content == (
        b'{"steno_notice":1,"key":"key000000002","secret":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}'
    )


def test_who_does_not_hold_the_old_key_reads_nothing():
    name, data = notice(FIRST, SECOND)
    with pytest.raises(UnknownKey):
        opened(data, name, Keyring((THIRD,)))


def test_a_flipped_bit_of_a_notice_is_one_of_the_three_errors():
    name, data = notice(FIRST, SECOND)
    for bit in range(len(data) * 8):
        torn = bytearray(data)
        torn[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ObjectDamaged, NewerFormat, UnknownKey)):
            opened(bytes(torn), name)


def test_every_truncation_of_a_notice_is_damage():
    name, data = notice(FIRST, SECOND)
    for size_bytes in range(len(data)):
        with pytest.raises(ObjectDamaged):
            opened(data[:size_bytes], name)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_notice(data: bytes):
    with pytest.raises(ObjectDamaged):
        opened(data, "keys/key000000001-key000000002")


def test_a_notice_under_another_name_or_in_another_vault_is_damage():
    _, data = notice(FIRST, SECOND)
    with pytest.raises(ObjectDamaged):
        opened(data, "keys/key000000001-key000000003")
    name, data = notice(FIRST, SECOND, vault_id="othervault00")
    with pytest.raises(ObjectDamaged):
        opened(data, name)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ObjectDamaged),
        (b"[" * 2000, ObjectDamaged),
        (b'{"steno_notice":1,"key":"key000000002"}', ObjectDamaged),
        (b'{"steno_notice":1,"key":"key000000002","secret":"AAAA"}', ObjectDamaged),
        (b'{"steno_notice":1,"key":"key000000003","secret":null}', ObjectDamaged),
        (b'{"steno_notice":1,"key":"key000000002","secret":null,"more":1}', ObjectDamaged),
        (b'{"steno_notice":2}', NewerFormat),
    ],
)
def test_what_is_sealed_and_no_notice_is_damage(content: bytes, error: type[Exception]):
    name = "keys/key000000001-key000000002"
    with pytest.raises(error) as caught:
        opened(seal(content, key=FIRST, vault_id=VAULT_ID, name=name, salt=bytes(16)), name)
    assert "AAAA" not in str(caught.value)


def test_a_notice_without_end_is_damage():
    with pytest.raises(ObjectDamaged):
        opened(bytes(rotation.MAX_NOTICE_BYTES + 1), "keys/key000000001-key000000002")


# Following them


def test_a_key_is_found_over_several_rotations():
    objects = dict([notice(FIRST, SECOND), notice(SECOND, THIRD)])
    assert found(objects, THIRD).taken_up(HELD) == Keyring((FIRST, SECOND, THIRD))


def test_a_revoked_key_is_known_to_be_superseded_and_nothing_is_told():
    objects = dict([notice(FIRST, SECOND, told=False), notice(SECOND, THIRD)])
    assert found(objects, THIRD) == rotation.Found((), frozenset({FIRST.id}))


def test_a_key_told_under_an_older_one_opens_and_does_not_seal():
    """Whoever stole the first key cannot make the vault seal with a key that they know."""
    ring = Keyring((FIRST, SECOND))
    objects = dict([notice(FIRST, THIRD)])
    assert found(objects, THIRD, ring).taken_up(ring).current == SECOND


def test_a_notice_that_does_not_open_hides_no_other():
    name, _ = notice(FIRST, THIRD)
    objects = {name: b"torn", **dict([notice(FIRST, SECOND), notice(SECOND, THIRD)])}
    assert found(objects, THIRD).taken_up(HELD).find(THIRD.id) == THIRD


def test_notices_in_a_circle_and_without_end_are_followed_a_few_times_only():
    remote = MemoryRemote()
    names = [NoticeName(THIRD.id, "000000000000").path]
    names += [NoticeName(f"{number:012d}", THIRD.id).path for number in range(2000)]
    names += [NoticeName(FIRST.id, f"{number:012d}").path for number in range(10**5)]
    keyring = asyncio.run(seek(remote, THIRD.id, keyring=HELD, vault_id=VAULT_ID, listing=names)).taken_up(HELD)
    assert keyring == HELD
    assert remote.requests["get"] <= 32


# A home's passphrase and key


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    home = Home(folder / "home", folder / "home")
    vault = make_vault(home, str(folder / "r"), passphrase=OLD, made=str, draw=os.urandom, cost=MINIMUM_COST)
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


def another(home: Home) -> Home:
    """A second home of the vault, as it stands now."""
    place = home.data.with_name("other")
    shutil.copytree(home.data, place)
    return Home(place, place)


def joined(home: Home, name: str, passphrase: str) -> Home:
    """A home that joins the vault, perhaps again."""
    place = home.data.with_name(name)
    asyncio.run(join_vault(Home(place, place), str(place.with_name("r")), passphrase=passphrase))
    return Home(place, place)


def changed(home: Home, passphrase: str = NEW, *, draw: Draw = os.urandom) -> bool:
    return asyncio.run(
        rotation.change_passphrase(
            home, passphrase=passphrase, draw=draw, cost=MINIMUM_COST, lock=nullcontext, derive=derive
        )
    )


def rotated(home: Home, passphrase: str = OLD, *, revoke: bool = False) -> Rotated:
    change = partial(rotation.revoke, published={}) if revoke else rotation.rotate
    return asyncio.run(
        change(home, passphrase=passphrase, draw=os.urandom, cost=MINIMUM_COST, lock=nullcontext, derive=derive)
    )


def unlocks(home: Home, passphrase: str) -> bool:
    return asyncio.run(opens(required_membership(home), passphrase=passphrase, derive=derive))


def ring(home: Home) -> Keyring:
    return required_membership(home).keyring


def key_objects(home: Home) -> list[Path]:
    folder = Path(required_membership(home).url) / "keys"
    return sorted(path for path in folder.iterdir() if KeyName.parse(f"keys/{path.name}") is not None)


def follows(home: Home, key_id: str) -> HomeKeys:
    member = required_membership(home)
    keys = HomeKeys(home, member, lock=nullcontext)

    async def look() -> None:
        remote = rotation.remote_of(member)
        async with remote as opened_remote:
            await keys.find(opened_remote, key_id)

    asyncio.run(look())
    return keys


class Crash(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: str):
    def step(name: str) -> None:
        if name == at:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(rotation, "step", step)
        with pytest.raises(Crash):
            yield


def test_after_a_change_only_the_new_passphrase_opens(home: Home):
    before = ring(home)
    assert changed(home)
    assert (unlocks(home, NEW), unlocks(home, OLD)) == (True, False)
    assert len(key_objects(home)) == 1
    assert ring(home) == before


def test_a_passphrase_that_was_made_here_is_forgotten_when_it_is_changed(tmp_path: Path):
    home = Home(tmp_path / "h", tmp_path / "h")
    vault = make_vault(
        home, str(tmp_path / "r"), passphrase=None, made=lambda: "drawn", draw=os.urandom, cost=MINIMUM_COST
    )
    asyncio.run(vault)
    changed(home, "drawn")
    assert required_membership(home).recovery == "drawn"
    changed(home)
    assert required_membership(home).recovery is None


def test_the_present_passphrase_again_changes_nothing(home: Home):
    before = key_objects(home)
    assert not changed(home, OLD)
    assert key_objects(home) == before


def test_two_devices_that_change_it_at_once_leave_two_that_open(home: Home):
    other = another(home)
    before = {path: path.read_bytes() for path in key_objects(home)}
    changed(home, "mine")
    mine = {path: path.read_bytes() for path in key_objects(home)}
    for path in mine:
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    changed(other, "theirs")
    for path, data in mine.items():
        path.write_bytes(data)
    assert unlocks(home, "mine")
    assert unlocks(home, "theirs")
    assert not unlocks(home, OLD)


def test_a_passphrase_that_another_device_changed_meanwhile_is_said(home: Home):
    (present,) = key_objects(home)

    def draw(size_bytes: int) -> bytes:
        (present.parent / "7.aaaaaaaaaaaa").write_bytes(present.read_bytes())
        return os.urandom(size_bytes)

    with pytest.raises(KeyChanged):
        changed(home, draw=draw)
    assert [path.name for path in key_objects(home)] == [present.name, "7.aaaaaaaaaaaa"]


def test_a_vault_that_lost_its_keys_gets_them_back(home: Home):
    for path in key_objects(home):
        path.unlink()
    changed(home)
    assert unlocks(home, NEW)


@pytest.mark.parametrize("at", ["passwd.key-put", "passwd.kept", "vault.former-key-deleted"])
def test_a_change_that_was_cut_short_leaves_the_new_passphrase_and_is_finished(
    home: Home, monkeypatch: pytest.MonkeyPatch, at: str
):
    with dying(monkeypatch, at):
        changed(home)
    assert unlocks(home, NEW)
    changed(home)
    assert unlocks(home, NEW)
    assert len(key_objects(home)) == 1


def test_a_new_key_seals_and_the_old_one_opens(home: Home):
    before = ring(home)
    done = rotated(home)
    assert ring(home).current.id == done.key
    assert ring(home).keys[:-1] == before.keys
    assert ring(joined(home, "late", OLD)) == ring(home)
    assert len(key_objects(home)) == 1


def test_another_device_follows_without_a_passphrase(home: Home):
    other = another(home)
    rotated(home)
    done = rotated(home)
    assert follows(other, done.key).held() == ring(home) == ring(other)


def test_a_wrong_passphrase_rotates_nothing(home: Home):
    before = ring(home), [(path, path.read_bytes()) for path in key_objects(home)]
    with pytest.raises(WrongKey):
        rotated(home, "wrong")
    assert (ring(home), [(path, path.read_bytes()) for path in key_objects(home)]) == before


@pytest.mark.parametrize("at", ["rotate.notice-put", "rotate.key-put", "rotate.kept", "vault.former-key-deleted"])
def test_a_rotation_that_was_cut_short_is_done_again_and_everybody_follows(
    home: Home, monkeypatch: pytest.MonkeyPatch, at: str
):
    other = another(home)
    with dying(monkeypatch, at):
        rotated(home)
    assert unlocks(home, OLD)
    done = rotated(home)
    assert follows(other, done.key).held().current.id == done.key
    assert len(key_objects(home)) == 1


def test_after_a_revocation_nobody_follows_and_everybody_knows(home: Home):
    other = another(home)
    done = rotated(home, NEW, revoke=True)
    keys = follows(other, done.key)
    assert keys.held().find(done.key) is None
    assert keys.superseded
    assert (unlocks(home, NEW), unlocks(home, OLD)) == (True, False)


def test_a_device_that_joins_again_after_a_revocation_goes_on_and_drops_no_key(home: Home):
    other = another(home)
    before = ring(other)
    keys = follows(other, rotated(home, NEW, revoke=True).key)
    assert not keys.refresh()
    joined(home, "other", NEW)
    assert keys.refresh()
    assert not keys.superseded
    assert keys.held() == ring(home)
    assert [key.secret for key in before.keys] == [key.secret for key in ring(other).keys[:-1]]


def test_a_revocation_with_the_present_passphrase_is_refused(home: Home):
    before = ring(home)
    with pytest.raises(InvalidInput):
        rotated(home, OLD, revoke=True)
    assert ring(home) == before


@pytest.mark.parametrize("at", ["revoke.key-put", "revoke.notice-put", "revoke.kept", "vault.former-key-deleted"])
def test_a_revocation_that_was_cut_short_is_finished_with_the_same_passphrase(
    home: Home, monkeypatch: pytest.MonkeyPatch, at: str
):
    other = another(home)
    with dying(monkeypatch, at):
        rotated(home, NEW, revoke=True)
    assert unlocks(home, NEW)
    with contextlib.suppress(InvalidInput):  # where only the former key object was left to delete
        rotated(home, NEW, revoke=True)
    changed(home)
    assert follows(other, ring(home).current.id).superseded
    assert (len(ring(home).keys), len(key_objects(home))) == (2, 1)


def test_a_device_that_was_left_behind_changes_no_passphrase(home: Home):
    """It would wrap a ring without the new key, and take that from whoever joins later."""
    other = another(home)
    rotated(home, NEW, revoke=True)
    with pytest.raises(KeyChanged):
        changed(other, "theirs")
    assert unlocks(home, NEW)


def test_a_device_that_did_not_hear_of_a_rotation_follows_before_it_changes_the_passphrase(home: Home):
    other = another(home)
    rotated(home)
    changed(other)
    assert ring(joined(home, "late", NEW)) == ring(home) == ring(other)


def test_two_revocations_at_once_end_with_both_keys_on_both(home: Home):
    other = another(home)
    folder = key_objects(home)[0].parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rotated(home, "mine", revoke=True)
    mine = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    for name, data in before.items():
        (folder / name).write_bytes(data)
    rotated(other, "theirs", revoke=True)
    for name, data in mine.items():
        (folder / name).write_bytes(data)
    joined(home, "home", "theirs")
    joined(home, "other", "mine")
    assert {key.id for key in ring(home).keys} == {key.id for key in ring(other).keys}
    assert len(ring(home).keys) == 3


def test_the_keys_of_a_running_home_are_those_of_its_file(home: Home):
    keys = HomeKeys(home, required_membership(home), lock=nullcontext)
    done = rotated(home)
    assert keys.held().current.id == done.key


def test_a_key_that_is_learned_is_added_to_those_that_the_home_holds_by_then(home: Home):
    member = required_membership(home)
    for key in (SECOND, THIRD):
        taken_up = rotation.Found(((member.keyring.current.id, key),)).taken_up
        change_keys(home, vault=member.vault, changed=taken_up, lock=nullcontext)
    assert ring(home) == Keyring((*member.keyring.keys, THIRD, SECOND))


def test_a_key_object_of_another_vault_is_no_reason_to_refuse(home: Home):
    name = key_objects(home)[0]
    forged = msgspec.json.encode({**msgspec.json.decode(name.read_bytes()), "vault": "othervault00"})
    with pytest.raises(ObjectDamaged):
        parse_key_object(forged, name=f"keys/{name.name}", vault_id=required_membership(home).vault)
    (name.parent / "1.aaaaaaaaaaaa").write_bytes(forged)
    assert changed(home)
    assert unlocks(home, NEW)
