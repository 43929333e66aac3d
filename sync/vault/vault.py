"""A vault on a remote: make one, look at one, unlock one, delete one.

A vault is there as soon as ``vault.json`` is: it is written last, when the key object that
opens it lies there already. Nothing is written before the passphrase is known to be right,
and an existing vault is never overwritten. What is deleted half-way opens for nobody who
does not belong to it, and is not taken for an empty vault (tests/unit/test_vault_vault.py).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ...storage.errors import (
    HomeExists,
    InvalidInput,
    NewerFormat,
    NoVault,
    ObjectDamaged,
    ObjectMissing,
    OtherVault,
    StenoError,
    WrongKey,
)
from ...storage.steps import step
from .deadlines import TIMEOUT_S, in_thread
from .kdf import Derive, KdfCost, derive_in_child
from .keys import checksum, open_key, parse_key_object, wrap_key
from .names import (
    ATOMIC_WRITE_DIR,
    DEVICES,
    KEYS,
    LOG,
    PAIR,
    VAULT,
    Draw,
    KeyName,
    counting_keys,
    is_id,
    is_object,
    new_id,
)
from .remote import Remote
from .seal import Keyring, VaultKey

FORMAT = 1
MAX_VAULT_BYTES = 4096
# A remote may be written by anybody, and each try costs a run of the KDF.
_MAX_TRIES = 4


class KeysGone(StenoError):
    """A vault has no key object any more: nobody can join it, while its devices go on."""

    exit_code = 6
    hint = "`steno vault passwd` on a device that has the vault gives it a key again, `steno vault delete` ends it"

    def __init__(self, *, remote: str) -> None:
        super().__init__(f"the vault at {remote} has no keys any more")


class _Format(msgspec.Struct, frozen=True):
    steno_vault: int


class _Vault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    steno_vault: Literal[1]
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{12}$", max_length=12)]
    check: str


def vault_json(vault_id: str) -> bytes:
    """The content of ``vault.json``: the same bytes on every device, so that each can put it back."""
    if not is_id(vault_id):
        raise InvalidInput(f"not the id of a vault: {vault_id}")
    return msgspec.json.encode(_Vault(FORMAT, vault_id, checksum("steno vault", vault_id))) + b"\n"


def parse_vault_json(data: bytes) -> str:
    """The vault's id; raise `ObjectDamaged` or `NewerFormat`. A rotten id is damage, not another vault."""
    try:
        if len(data) > MAX_VAULT_BYTES:
            raise ObjectDamaged(name=VAULT, reason=f"{len(data)} bytes")
        if msgspec.json.decode(data, type=_Format).steno_vault > FORMAT:
            raise NewerFormat(name=VAULT)
        found = msgspec.json.decode(data, type=_Vault)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ObjectDamaged(name=VAULT, reason="it is no vault.json") from exc
    if found.check != checksum("steno vault", found.id):
        raise ObjectDamaged(name=VAULT, reason="its check does not agree")
    return found.id


async def vault_at(remote: Remote) -> str:
    """The id of the vault that lies there; raise `NoVault` if there is none."""
    try:
        return parse_vault_json(await remote.get(VAULT))
    except ObjectMissing as exc:
        raise NoVault(remote=remote.address) from exc


def vault_in(folder: Path) -> str:
    """The id of the vault in a folder; raise `OSError`, `ObjectDamaged` or `NewerFormat`."""
    with (folder / VAULT).open("rb") as file:
        return parse_vault_json(file.read(MAX_VAULT_BYTES + 1))


async def found_vault(
    remote: Remote, *, passphrase: str, draw: Draw, cost: KdfCost, derive: Derive = derive_in_child
) -> tuple[str, Keyring]:
    """Make a vault with a new key on a remote that has none; raise `HomeExists` if it has one."""
    try:
        there = await vault_at(remote)
    except NoVault:
        pass
    else:
        raise HomeExists(f"there is a vault at {remote.address} already ({there})", hint="join it: `steno join URL`")
    vault_id, keyring = new_id(draw), Keyring((VaultKey.new(draw),))
    key_object = await asyncio.to_thread(
        wrap_key, keyring, passphrase=passphrase, vault_id=vault_id, n=1, draw=draw, cost=cost, derive=derive
    )
    await remote.put(KeyName(1, new_id(draw)).path, key_object)
    step("vault.key-put")
    await remote.put(VAULT, vault_json(vault_id))
    # Another device may have done the same in between, and no store is trusted to refuse the second.
    there = await vault_at(remote)
    if there != vault_id:
        raise OtherVault(remote=remote.address, found=there, expected=vault_id)
    return vault_id, keyring


async def unlock_vault(remote: Remote, *, passphrase: str, vault_id: str, derive: Derive = derive_in_child) -> Keyring:
    """The keys of the vault at this remote; raise `WrongKey` if the passphrase is another. Writes nothing.

    Where two devices changed the passphrase at once, either of the two opens it.
    """
    failures: list[StenoError] = []
    for key_name in counting_keys(await remote.list(KEYS))[:_MAX_TRIES]:
        name = key_name.path
        try:
            key_object = parse_key_object(await remote.get(name), name=name, vault_id=vault_id)
            return await asyncio.to_thread(open_key, key_object, passphrase=passphrase, name=name, derive=derive)
        except (WrongKey, ObjectDamaged, ObjectMissing, NewerFormat) as exc:
            failures.append(exc)
    # A wrong passphrase says more than an object beside it that does not open.
    raise min(failures, key=lambda exc: not isinstance(exc, WrongKey), default=KeysGone(remote=remote.address))


async def delete_vault(remote: Remote, *, vault_id: str) -> list[str]:
    """Delete every object of this vault; the names of what lies there besides and is left alone.

    The keys go first, so that nobody joins what is half there, and ``vault.json`` last: until then the vault can be
    known again by who deletes it. Of a folder the directories go that are empty then. Run again it goes on. Raises
    `NoVault` where all is gone, and `OtherVault`.
    """
    there = await vault_at(remote)
    if there != vault_id:
        raise OtherVault(remote=remote.address, found=there, expected=vault_id)
    foreign: list[str] = []
    for _ in range(_MAX_TRIES):  # other devices may write meanwhile
        listed = [name for directory in (KEYS, PAIR, LOG, DEVICES) for name in await remote.list(directory)]
        foreign = [name for name in listed if not is_object(name)]
        if len(listed) == len(foreign):
            break
        for name in listed:
            if is_object(name):
                await remote.delete(name)
                step("delete.object")
    folder = remote.folder
    if folder is not None:
        with suppress(TimeoutError):
            await in_thread(lambda: _remove_empty(folder), timeout_s=TIMEOUT_S)
    await remote.delete(VAULT)
    return foreign


def _remove_empty(folder: Path) -> None:
    """Remove a vault's own directories, those in which nothing is."""
    for name in (KEYS, PAIR, LOG, DEVICES, ATOMIC_WRITE_DIR):
        with suppress(OSError):
            (folder / name).rmdir()
