"""The keys of a vault, wrapped by a passphrase for the remote, and kept as they are in the home.

On the remote, ``keys/<n>.<random>`` is a JSON object:

    {"steno_key":1,"vault":…,"n":1,"key":…,"kdf":{"name":"argon2id","salt":…,"cost":{…}},"canary":…,"wrapped":…,"check":…}

It has three lines of defence, so that each failure has its own name. ``check`` is a plain
hash: an object that rotted is damaged, and nobody is told that the passphrase was wrong.
``canary`` comes from the passphrase: a wrong one is `WrongKey` before anything else.
``wrapped`` is AES-256-GCM over the whole keyring with everything else as associated data:
a remote cannot bring back an old key, raise n or lower the cost. All this is
tests/unit/test_vault_keys.py. Whoever writes a kept key to disk makes the file 0600.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ...storage.errors import InvalidInput, LocalStorageError, NewerFormat, ObjectDamaged, WrongKey
from .kdf import KEY_BYTES, SALT_BYTES, Derive, KdfCost, derive_in_child
from .names import Draw, KeyName, is_id
from .seal import Keyring, VaultKey

FORMAT = 1
MAX_KEY_OBJECT_BYTES = 64 * 1024
CANARY_BYTES = 16

_NONCE = bytes(12)  # the wrapping key comes from a salt that is drawn for this one object

Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{12}$", max_length=12)]
Canary = Annotated[bytes, msgspec.Meta(min_length=CANARY_BYTES, max_length=CANARY_BYTES)]
Wrapped = Annotated[bytes, msgspec.Meta(min_length=16)]
"""What is wrapped, with its tag."""


class Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the passphrase of a key object becomes a key."""

    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=64)]
    cost: KdfCost
    name: Literal["argon2id"] = "argon2id"


class KeyObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key object as it stands on the remote: checked in form, not opened."""

    steno_key: Literal[1] = FORMAT
    vault: Id
    n: Annotated[int, msgspec.Meta(ge=1, le=10**12 - 1)]
    key: Id
    kdf: Kdf
    canary: Canary
    wrapped: Wrapped
    check: str = ""


class _Format(msgspec.Struct, frozen=True):
    steno_key: int


class _KeptKey(msgspec.Struct, frozen=True):
    """The unwrapped keys as they lie in the home."""

    steno_kept_key: Literal[1]
    vault: Id
    keyring: Keyring


def wrap_key(
    keyring: Keyring,
    *,
    passphrase: str,
    vault_id: str,
    n: int,
    draw: Draw,
    cost: KdfCost,
    derive: Derive = derive_in_child,
) -> bytes:
    """The content of ``keys/<n>.<random>``: these keys, to be opened by this passphrase."""
    kdf = Kdf(salt=draw(SALT_BYTES), cost=cost)
    bare = KeyObject(
        vault=vault_id, n=n, key=keyring.current.id, kdf=kdf, canary=bytes(CANARY_BYTES), wrapped=bytes(16)
    )
    master = derive(passphrase, kdf.salt, cost)
    cipher = AESGCM(subkey(master, "steno key wrap", KEY_BYTES))
    wrapped = cipher.encrypt(_NONCE, msgspec.json.encode(keyring), _bound(bare))
    canary = subkey(master, "steno key canary", CANARY_BYTES)
    full = msgspec.structs.replace(bare, canary=canary, wrapped=wrapped)
    return msgspec.json.encode(msgspec.structs.replace(full, check=_check(full))) + b"\n"


def open_key(key_object: KeyObject, *, passphrase: str, name: str, derive: Derive = derive_in_child) -> Keyring:
    """Open a key object; raise `WrongKey` for another passphrase, `ObjectDamaged` if it is not what was wrapped."""
    master = derive(passphrase, key_object.kdf.salt, key_object.kdf.cost)
    if not hmac.compare_digest(subkey(master, "steno key canary", CANARY_BYTES), key_object.canary):
        raise WrongKey(vault=key_object.vault)
    cipher = AESGCM(subkey(master, "steno key wrap", KEY_BYTES))
    try:
        plain = cipher.decrypt(_NONCE, key_object.wrapped, _bound(key_object))
        return msgspec.json.decode(plain, type=Keyring)
    except (InvalidTag, msgspec.MsgspecError) as exc:
        raise ObjectDamaged(name=name, reason="the wrapped key was changed") from exc


def parse_key_object(data: bytes, *, name: str, vault_id: str) -> KeyObject:
    """Read a key object that anybody may have written; raise `ObjectDamaged` or `NewerFormat`.

    It must be of this vault and carry the number that its name says.
    """
    if len(data) > MAX_KEY_OBJECT_BYTES:
        raise ObjectDamaged(name=name, reason=f"a key object of {len(data)} bytes")
    try:
        if msgspec.json.decode(data, type=_Format).steno_key > FORMAT:
            raise NewerFormat(name=name)
        found = msgspec.json.decode(data, type=KeyObject)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ObjectDamaged(name=name, reason="it is no key object") from exc
    if found.check != _check(found):
        raise ObjectDamaged(name=name, reason="its check does not agree")
    parsed = KeyName.parse(name)
    if found.vault != vault_id or parsed is None or found.n != parsed.n:
        raise ObjectDamaged(name=name, reason="it is of another vault, or has another number than its name says")
    return found


def joined(held: Keyring, found: Keyring) -> Keyring:
    """The keys of both rings; ``found``, which a passphrase opened, says which of them seals if it says anything new.

    A key that is held is never dropped: something may be sealed with it that nobody else can open. A key that was
    revoked in either is revoked; where two devices did so at once, what either had taken in counts. With a key that was
    revoked since, those end that only ``held`` has: whoever stole it may have told them.
    """
    if any(key.until is None and (now := found.find(key.id)) and now.until is not None for key in held.keys):
        held = Keyring(tuple(key if found.find(key.id) else _ended(key) for key in held.keys))
    held, found = _revoked_by(held, found), _revoked_by(found, held)
    if all(held.find(key.id) for key in found.keys):
        return held
    return Keyring((*(key for key in held.keys if found.find(key.id) is None), *found.keys))


def _ended(key: VaultKey) -> VaultKey:
    return key if key.until is not None else VaultKey(key.id, key.secret, {})


def _revoked_by(keyring: Keyring, other: Keyring) -> Keyring:
    """The ring with what another one says of its keys."""
    return Keyring(tuple(_counting(key, other.find(key.id)) for key in keyring.keys))


def _counting(key: VaultKey, other: VaultKey | None) -> VaultKey:
    if other is None or other.until is None or other.until == key.until:
        return key
    until = dict(key.until or {})
    for device, number in other.until.items():
        until[device] = max(number, until.get(device, 0))
    return VaultKey(key.id, key.secret, until)


def learned(held: Keyring, key: VaultKey, *, after: str) -> Keyring:
    """The ring with a key that was told under the key ``after``.

    It seals from now on only where ``after`` did until now: whoever stole an older key can tell the vault a key, and
    nothing must be sealed with that.
    """
    if held.find(key.id) is not None:
        return held
    if held.current.id == after:
        return Keyring((*held.keys, key))
    return Keyring((*held.keys[:-1], key, held.current))


def kept_key(keyring: Keyring, *, vault_id: str) -> bytes:
    """The keys as the home keeps them: unwrapped, so the file must be 0600."""
    if not is_id(vault_id):
        raise InvalidInput(f"not the id of a vault: {vault_id}")
    return msgspec.json.encode(_KeptKey(1, vault_id, keyring)) + b"\n"


def parse_kept_key(data: bytes, *, path: str) -> tuple[str, Keyring]:
    """The vault's id and keys from what `kept_key` wrote."""
    try:
        kept = msgspec.json.decode(data, type=_KeptKey)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The cause could quote the secret; it is not chained.
        raise LocalStorageError(
            f"{path} is no kept vault key", hint="run `steno join URL` again with the passphrase"
        ) from None
    return kept.vault, kept.keyring


def checksum(*parts: str | int | bytes) -> str:
    """A plain hash against rot, not against malice: 16 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def subkey(master: bytes, purpose: str, length: int) -> bytes:
    """One of the keys that follow from what was derived from a passphrase."""
    return HKDFExpand(algorithm=SHA256(), length=length, info=purpose.encode()).derive(master)


def _check(key_object: KeyObject) -> str:
    return checksum(_bound(key_object), key_object.canary, key_object.wrapped)


def _bound(key_object: KeyObject) -> bytes:
    """Everything that stands in the clear, the canary apart, which follows from it."""
    cost = key_object.kdf.cost
    return msgspec.json.encode(
        [
            "steno key",
            FORMAT,
            key_object.vault,
            key_object.n,
            key_object.key,
            [key_object.kdf.name, key_object.kdf.salt, cost.memory_kib, cost.iterations, cost.lanes],
        ]
    )
