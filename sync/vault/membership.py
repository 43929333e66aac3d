"""Which vault a home belongs to: the remote's address and the kept keys, in one 0600 file.

The file is written in one piece when the remote is known to be right. A passphrase that was
made here is written down before the vault is, so that a crash in between leaves no vault that
nobody can open (tests/e2e/test_crash.py). Nothing is written where the passphrase is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...storage.errors import HomeExists, LocalStorageError, NoVault, OtherVault, RemoteNotConfigured
from ...storage.home import Home, write_private
from ...storage.steps import step
from .kdf import KdfCost
from .keys import kept_key, parse_kept_key
from .names import Draw
from .remote import Remote, folder_of, open_remote
from .seal import Keyring
from .vault import found_vault, unlock_vault, vault_at


class Membership(msgspec.Struct, frozen=True):
    """``recovery`` is the passphrase where it was made here, else None."""

    url: str
    vault: str
    keyring: Keyring
    recovery: str | None


_NOTHING = msgspec.Raw(b"null")


class _File(msgspec.Struct, frozen=True):
    url: str
    recovery: str | None = None
    kept: msgspec.Raw = _NOTHING


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


async def join_vault(home: Home, url: str, *, passphrase: str) -> Membership:
    """Let a home belong to the vault at an address; joining the same one again only renews what is kept.

    Raises `WrongKey` and `NoVault` before anything is written, and `OtherVault` where the home belongs to another.
    """
    url = _absolute(url)
    present = membership(home)
    remote = open_remote(url)
    try:
        vault = await vault_at(remote)
        if present is not None and present.vault != vault:
            raise OtherVault(remote=url, found=vault, expected=present.vault)
        keyring = await unlock_vault(remote, passphrase=passphrase, vault_id=vault)
    finally:
        await remote.close()
    return _keep(home, Membership(url, vault, keyring, present.recovery if present else None))


def _keep(home: Home, found: Membership) -> Membership:
    home.make()
    _write(home, _File(found.url, found.recovery, msgspec.Raw(kept_key(found.keyring, vault_id=found.vault).strip())))
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
    try:
        return msgspec.json.decode(home.vault_file.read_bytes(), type=_File)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no vault file"
        raise LocalStorageError(
            f"{home.vault_file} cannot be read ({reason})", hint="run `steno join URL` again"
        ) from exc


def _write(home: Home, file: _File) -> None:
    write_private(home.vault_file, msgspec.json.encode(file) + b"\n")
