"""Which vault a home belongs to: written when it is right, private, and never before."""

from __future__ import annotations

import asyncio
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from steno.storage.errors import (
    HomeExists,
    InvalidInput,
    LocalStorageError,
    NoVault,
    OtherVault,
    RemoteNotConfigured,
    RemoteUnreachable,
    WrongKey,
)
from steno.storage.home import Home
from steno.sync.vault import membership as module
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.membership import Membership, join_vault, leave, make_vault, membership, required_membership

PASSPHRASE = "correct horse"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", tmp_path / "home")


def _make(home: Home, url: object, passphrase: str | None = PASSPHRASE, made: str = "drawn") -> Membership:
    vault = make_vault(home, str(url), passphrase=passphrase, made=lambda: made, draw=os.urandom, cost=MINIMUM_COST)
    return asyncio.run(vault)


def _join(home: Home, url: object, passphrase: str = PASSPHRASE) -> Membership:
    return asyncio.run(join_vault(home, str(url), passphrase=passphrase))


def _other(home: Home, name: str = "other") -> Home:
    return Home(home.data.parent / name, home.data.parent / name)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_home_without_a_vault_has_none(home: Home):
    assert membership(home) is None
    with pytest.raises(RemoteNotConfigured):
        required_membership(home)


def test_a_vault_that_was_made_is_kept(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r")
    assert membership(home) == made == required_membership(home)
    assert (made.url, made.recovery) == (str(tmp_path / "r"), None)


def test_the_file_is_private_and_does_not_hold_a_passphrase_that_somebody_chose(home: Home, tmp_path: Path):
    _make(home, tmp_path / "r")
    assert home.vault_file.stat().st_mode & 0o777 == 0o600
    assert PASSPHRASE.encode() not in home.vault_file.read_bytes()


def test_a_passphrase_that_was_made_here_is_kept_for_the_next_device(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r", None)
    assert made.recovery == "drawn"
    assert _join(_other(home), tmp_path / "r", "drawn").vault == made.vault


def test_two_devices_of_a_vault_hold_the_same_keys(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r")
    joined = _join(_other(home), tmp_path / "r")
    assert (joined.vault, joined.keyring) == (made.vault, made.keyring)


def test_a_relative_path_is_kept_whole(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert _make(home, "r").url == str(tmp_path / "r")
    assert _join(_other(home), "file://" + str(tmp_path / "r")).url == str(tmp_path / "r")


def test_a_wrong_passphrase_writes_nothing(home: Home, tmp_path: Path):
    _make(home, tmp_path / "r")
    before = _tree(tmp_path)
    with pytest.raises(WrongKey):
        _join(_other(home), tmp_path / "r", "wrong")
    assert _tree(tmp_path) == before
    assert not _other(home).data.exists()


def test_joining_where_no_vault_is_writes_nothing(home: Home, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoVault):
        _join(home, tmp_path / "empty")
    with pytest.raises(RemoteUnreachable):
        _join(home, tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_joining_again_keeps_what_is_kept(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r", None)
    assert _join(home, tmp_path / "r", "drawn") == made


@pytest.mark.fault(13)
def test_a_vault_that_moved_is_joined_at_its_new_address(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r")
    (tmp_path / "r").rename(tmp_path / "moved")
    assert _join(home, tmp_path / "moved").vault == made.vault
    assert required_membership(home).url == str(tmp_path / "moved")


def test_a_home_does_not_change_to_another_vault(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r")
    _make(_other(home), tmp_path / "r2")
    with pytest.raises(OtherVault):
        _join(home, tmp_path / "r2")
    assert membership(home) == made


def test_a_home_that_has_a_vault_makes_no_second_one(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r")
    with pytest.raises(HomeExists):
        _make(home, tmp_path / "r2")
    assert membership(home) == made
    assert not (tmp_path / "r2").exists()


def test_a_vault_of_others_is_not_made_over(home: Home, tmp_path: Path):
    _make(home, tmp_path / "r")
    before = _tree(tmp_path / "r")
    with pytest.raises(HomeExists):
        _make(_other(home), tmp_path / "r", "another")
    assert _tree(tmp_path / "r") == before
    assert membership(_other(home)) is None


def test_an_address_that_is_none_writes_nothing(home: Home):
    with pytest.raises(InvalidInput):
        _make(home, "nothing://x", None)
    assert not home.data.exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"url":7}', b'{"url":"x","kept":{"a":1}}', b"\xff\xfe"])
def test_a_file_that_is_none_is_said_and_left_alone(home: Home, data: bytes):
    home.make()
    home.vault_file.write_bytes(data)
    with pytest.raises(LocalStorageError) as caught:
        membership(home)
    assert str(home.vault_file) in caught.value.line
    assert home.vault_file.read_bytes() == data


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", ["vault.passphrase-kept", "vault.made"])
def test_a_making_that_was_cut_short_is_finished_with_the_same_passphrase(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
):
    def step(name: str) -> None:
        if name == at:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(module, "step", step)
        with pytest.raises(Crash):
            _make(home, tmp_path / "r", None, made="first")
    assert membership(home) is None
    made = _make(home, tmp_path / "r", None, made="second")
    assert made.recovery == "first"
    assert _join(_other(home), tmp_path / "r", "first").vault == made.vault


def test_a_passphrase_that_was_kept_for_another_address_is_not_taken(home: Home, tmp_path: Path):
    home.make()
    home.vault_file.write_bytes(b'{"url":"/elsewhere","recovery":"first"}')
    assert _make(home, tmp_path / "r", None, made="second").recovery == "second"


def test_a_home_that_left_has_no_vault_and_may_come_back(home: Home, tmp_path: Path):
    made = _make(home, tmp_path / "r")
    before = _tree(tmp_path / "r")
    assert leave(home, lock=nullcontext) == made
    assert membership(home) is None
    assert _tree(tmp_path / "r") == before
    assert _join(home, tmp_path / "r") == made


def test_a_home_that_left_may_join_another_vault(home: Home, tmp_path: Path):
    _make(home, tmp_path / "r")
    other = _make(_other(home), tmp_path / "r2")
    leave(home, lock=nullcontext)
    assert _join(home, tmp_path / "r2") == other


def test_a_home_without_a_vault_leaves_none(home: Home):
    with pytest.raises(RemoteNotConfigured):
        leave(home, lock=nullcontext)
