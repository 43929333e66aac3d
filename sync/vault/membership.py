"""Which vault a home belongs to: the remote's address and the kept keys, in one 0600 file.

Where the settings say so the keys stand in the system's keyring, and the file holds only under which name.

The file is written in one piece when the remote is known to be right. A passphrase that was
made here is written down before the vault is, so that a crash in between leaves no vault that
nobody can open (tests/e2e/test_crash.py). Nothing is written where the passphrase is wrong.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import msgspec

from ...storage.errors import HomeExists, LocalStorageError, NoVault, OtherVault, RemoteNotConfigured
from ...storage.home import Home, write_private
from ...storage.steps import step
from . import system_keyring
from .kdf import KdfCost
from .keys import joined, kept_key, parse_kept_key
from .names import Draw, new_id
from .remote import Remote, folder_of, open_remote
from .seal import Keyring
from .system_keyring import KeyringUnavailable
from .vault import found_vault, unlock_vault, vault_at


class Membership(msgspec.Struct, frozen=True):
    """``recovery`` is the passphrase where it was made here, else None."""

    url: str
    vault: str
    keyring: Keyring
    recovery: str | None


Lock = Callable[[], AbstractContextManager[object]]
"""Keeps other processes of this home from writing the file while it is read and written anew."""

_log = logging.getLogger("steno.vault")
_NOTHING = msgspec.Raw(b"null")


class _File(msgspec.Struct, frozen=True):
    url: str
    recovery: str | None = None
    kept: msgspec.Raw = _NOTHING
    keyring: str | None = None
    vault: str | None = None


class _Secrets(msgspec.Struct, frozen=True):
    """What stands in the keyring in the file's stead."""

    recovery: str | None
    kept: msgspec.Raw


def membership(home: Home) -> Membership | None:
    """The vault of a home; None where it has none (yet). Raises `LocalStorageError` for a file that is none."""
    file = _read(home)
    if file is None or bytes(file.kept) == b"null":
        return None
    vault, keyring = parse_kept_key(bytes(file.kept), path=str(home.vault_file))
    return Membership(file.url, vault, keyring, file.recovery)


def required_membership(home: Home) -> Membership:
    """The vault of a home; raises `RemoteNotConfigured` where it has none."""
    found = membership(home)
    if found is None:
        raise RemoteNotConfigured(home=str(home.data))
    return found


async def make_vault(
    home: Home, url: str, *, passphrase: str | None, made: Callable[[], str], draw: Draw, cost: KdfCost
) -> Membership:
    """Make a vault at an address and let the home belong to it.

    ``passphrase`` None takes one that ``made`` gives, which is kept as ``recovery``. Raises `HomeExists` where the home
    has a vault or the remote holds one.
    """
    present = membership(home)
    if present is not None:
        raise HomeExists(f"this home already belongs to the vault at {present.url}")
    url = _absolute(url)
    remote = open_remote(url, create=True)
    recovery = None
    if passphrase is None:
        file = _read(home)
        recovery = passphrase = file.recovery if file and file.recovery and file.url == url else made()
        home.make()
        _write(home, _File(url, recovery))
        step("vault.passphrase-kept")
    try:
        if recovery is not None and await _is_there(remote):
            vault = await vault_at(remote)
            keyring = await unlock_vault(remote, passphrase=passphrase, vault_id=vault)
        else:
            vault, keyring = await found_vault(remote, passphrase=passphrase, draw=draw, cost=cost)
    finally:
        await remote.close()
    step("vault.made")
    return _keep(home, Membership(url, vault, keyring, recovery))


async def join_vault(home: Home, url: str, *, passphrase: str, lock: Lock = nullcontext) -> Membership:
    """Let a home belong to the vault at an address; joining the same one again only renews what is kept.

    No key that is held is dropped. Raises `WrongKey` and `NoVault` before anything is written, and `OtherVault` where
    the home belongs to another.
    """
    url = _absolute(url)
    remote = open_remote(url)
    try:
        vault = await vault_at(remote)
        check_free(home, url=url, vault=vault)
        keyring = await unlock_vault(remote, passphrase=passphrase, vault_id=vault)
    finally:
        await remote.close()
    return take_up(home, url=url, vault=vault, keyring=keyring, lock=lock)


def check_free(home: Home, *, url: str, vault: str) -> None:
    """Raise `OtherVault` where the home belongs to another vault than this one."""
    file = _decoded(home)
    if file is not None and file.keyring is not None:
        present = file.vault  # also where the keyring has lost the rest
    else:
        found = membership(home)
        present = None if found is None else found.vault
    if present is not None and present != vault:
        raise OtherVault(remote=url, found=vault, expected=present)


def take_up(home: Home, *, url: str, vault: str, keyring: Keyring, lock: Lock) -> Membership:
    """Let a home belong to a vault with these keys, and with those of it that it holds already."""
    home.make()
    with lock():
        check_free(home, url=url, vault=vault)
        try:
            present = membership(home)
        except KeyringUnavailable as exc:
            _log.warning("%s; the home takes what the passphrase opens", exc)
            present = None
        if present is None:
            return _keep(home, Membership(url, vault, keyring, None))
        return _keep(home, Membership(url, vault, joined(present.keyring, keyring), present.recovery))


def change_keys(
    home: Home, *, vault: str, changed: Callable[[Keyring], Keyring], lock: Lock, forget_recovery: bool = False
) -> Membership:
    """Change the keys that a home holds of this vault, from what they are just now."""
    with lock():
        found = required_membership(home)
        check_free(home, url=found.url, vault=vault)
        recovery = None if forget_recovery else found.recovery
        after = Membership(found.url, vault, changed(found.keyring), recovery)
        return found if after == found else _keep(home, after)


@asynccontextmanager
async def remote_of(found: Membership) -> AsyncGenerator[Remote]:
    """The remote of a home, once it is seen that its vault lies there; raises `NoVault` and `OtherVault`."""
    remote = open_remote(found.url)
    try:
        there = await vault_at(remote)
        if there != found.vault:
            raise OtherVault(remote=remote.address, found=there, expected=found.vault)
        yield remote
    finally:
        await remote.close()


def leave(home: Home, *, lock: Lock) -> Membership:
    """Let a home belong to no vault; what it was.

    What the store remembers of that vault stays: it must not publish under the same numbers again if it comes back.
    """
    with lock():
        found = required_membership(home)
        try:
            entry = _entry(home)
            home.vault_file.unlink()
            directory = os.open(home.data, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            raise LocalStorageError(f"{home.vault_file} cannot be removed ({exc.strerror})") from exc
        if entry is not None:
            system_keyring.remove(entry)
        return found


def in_keyring(home: Home) -> bool:
    """Whether the keys stand in the system's keyring."""
    return _entry(home) is not None


def move_keys(home: Home, *, lock: Lock) -> None:
    """Keep the keys where the settings say."""
    with lock():
        _keep(home, required_membership(home))


def _keep(home: Home, found: Membership) -> Membership:
    home.make()
    kept = msgspec.Raw(kept_key(found.keyring, vault_id=found.vault).strip())
    _write(home, _File(found.url, found.recovery, kept, vault=found.vault))
    step("vault.kept")
    return found


def _absolute(url: str) -> str:
    folder = folder_of(url)
    return url if folder is None else str(folder)


async def _is_there(remote: Remote) -> bool:
    try:
        await vault_at(remote)
    except NoVault:
        return False
    return True


def _read(home: Home) -> _File | None:
    file = _decoded(home)
    if file is None or file.keyring is None:
        return file
    try:
        secrets = msgspec.json.decode(system_keyring.load(file.keyring), type=_Secrets)
    except msgspec.MsgspecError:
        raise KeyringUnavailable(reason="what it holds is no vault key") from None
    return _File(file.url, secrets.recovery, secrets.kept, file.keyring)


def _decoded(home: Home) -> _File | None:
    try:
        return msgspec.json.decode(home.vault_file.read_bytes(), type=_File)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no vault file"
        raise LocalStorageError(
            f"{home.vault_file} cannot be read ({reason})", hint="run `steno join URL` again"
        ) from exc


def _entry(home: Home) -> str | None:
    file = _decoded(home)
    return None if file is None else file.keyring


def _write(home: Home, file: _File) -> None:
    former = _entry(home)
    if home.settings().vault.key == "keyring":
        file = _put_away(file)
        step("keyring.stored")
    write_private(home.vault_file, msgspec.json.encode(file) + b"\n")
    if former is not None:
        step("keyring.named")
        system_keyring.remove(former)


def _put_away(file: _File) -> _File:
    """The file without what is now in the keyring; where that cannot be used, the file as it was."""
    entry = new_id(os.urandom)
    try:
        system_keyring.store(entry, msgspec.json.encode(_Secrets(file.recovery, file.kept)).decode())
    except KeyringUnavailable as exc:
        _log.warning("%s; the vault's key is kept in a file", exc)
        return file
    return _File(file.url, keyring=entry, vault=file.vault)
