"""The vault's key in the system's keyring: nothing of it in the file, and never lost in moving."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import keyring
import msgspec
import pytest
from keyring.backends.fail import Keyring as NoKeyring

from steno.storage.errors import OtherVault
from steno.storage.home import Home
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.membership import (
    Membership,
    change_keys,
    in_keyring,
    join_vault,
    leave,
    make_vault,
    membership,
    move_keys,
    required_membership,
)
from steno.sync.vault.rotation import Found
from steno.sync.vault.seal import VaultKey
from steno.sync.vault.system_keyring import KeyringUnavailable
from steno.tests.e2e.file_keyring import FileKeyring

SECRET = VaultKey("key000000002", b"\x02" * 32)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the keyring."""
    folder = tmp_path / "keyring"
    folder.mkdir()
    monkeypatch.setenv("STENO_TEST_KEYRING", str(folder))
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    yield folder
    keyring.set_keyring(before)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", tmp_path / "home")


def wants(home: Home, place: str) -> None:
    home.make()
    home.config_file.write_text(f'[vault]\nkey = "{place}"\n', encoding="utf-8")


def made(home: Home, *, passphrase: str | None = None) -> Membership:
    url = str(home.data.with_name("r"))
    vault = make_vault(home, url, passphrase=passphrase, made=lambda: "drawn", draw=os.urandom, cost=MINIMUM_COST)
    return asyncio.run(vault)


def moved(home: Home, place: str) -> None:
    wants(home, place)
    move_keys(home, lock=nullcontext)


def secrets_in(text: bytes, found: Membership) -> bool:
    return b"drawn" in text or msgspec.json.encode(found.keyring.keys[0].secret)[1:-1] in text


def test_neither_key_nor_passphrase_stand_in_the_file(home: Home, entries: Path):
    wants(home, "keyring")
    found = made(home)
    assert in_keyring(home)
    assert not secrets_in(home.vault_file.read_bytes(), found)
    (entry,) = entries.iterdir()
    assert secrets_in(entry.read_bytes(), found)
    assert membership(home) == found
    assert found.recovery == "drawn"


def test_the_key_moves_where_the_settings_say_and_back(home: Home, entries: Path):
    found = made(home)
    moved(home, "keyring")
    assert membership(home) == found
    assert not secrets_in(home.vault_file.read_bytes(), found)
    moved(home, "file")
    assert membership(home) == found
    assert not in_keyring(home)
    assert list(entries.iterdir()) == []


def test_a_key_that_is_learned_goes_where_the_others_are(home: Home, entries: Path):
    found = made(home)
    moved(home, "keyring")
    taken_up = Found(((found.keyring.current.id, SECRET),)).taken_up
    change_keys(home, vault=found.vault, changed=taken_up, lock=nullcontext)
    assert required_membership(home).keyring.current == SECRET
    assert in_keyring(home)
    assert len(list(entries.iterdir())) == 1


def test_where_there_is_no_keyring_that_is_said_and_the_file_is_kept(
    home: Home, entries: Path, caplog: pytest.LogCaptureFixture
):
    keyring.set_keyring(NoKeyring())
    wants(home, "keyring")
    found = made(home)
    assert not in_keyring(home)
    assert membership(home) == found
    assert "kept in a file" in caplog.text
    assert "drawn" not in caplog.text


def test_a_keyring_that_is_locked_is_said(home: Home, entries: Path):
    made(home)
    moved(home, "keyring")
    entries.rename(entries.with_name("locked"))
    with pytest.raises(KeyringUnavailable, match="KeyringLocked"):
        membership(home)


@pytest.mark.fault(26)
def test_a_key_that_the_keyring_lost_comes_back_with_the_passphrase(home: Home, entries: Path):
    found = made(home, passphrase="chosen")
    moved(home, "keyring")
    for entry in entries.iterdir():
        entry.unlink()
    with pytest.raises(KeyringUnavailable):
        membership(home)
    asyncio.run(join_vault(home, found.url, passphrase="chosen"))
    assert membership(home) == found


def test_a_home_whose_keyring_lost_the_key_does_not_change_to_another_vault(home: Home, entries: Path, tmp_path: Path):
    made(home)
    moved(home, "keyring")
    before = home.vault_file.read_bytes()
    for entry in entries.iterdir():
        entry.unlink()
    other = Home(tmp_path / "o", tmp_path / "o")
    vault = make_vault(other, str(tmp_path / "r2"), passphrase="x", made=str, draw=os.urandom, cost=MINIMUM_COST)
    asyncio.run(vault)
    with pytest.raises(OtherVault):
        asyncio.run(join_vault(home, str(tmp_path / "r2"), passphrase="x"))
    assert home.vault_file.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"recovery":7,"kept":null}'])
def test_an_entry_that_is_no_key_is_said_and_not_quoted(home: Home, entries: Path, content: str):
    made(home)
    moved(home, "keyring")
    (entry,) = entries.iterdir()
    entry.write_text(content, encoding="utf-8")
    with pytest.raises(KeyringUnavailable, match="no vault key"):
        membership(home)


def test_a_home_that_leaves_takes_the_key_out_of_the_keyring(home: Home, entries: Path):
    made(home)
    moved(home, "keyring")
    leave(home, lock=nullcontext)
    assert list(entries.iterdir()) == []
