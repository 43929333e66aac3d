"""Letting another device join without the passphrase: an offer on the remote that is open for a few minutes.

A *code* says where the vault lies and which offer is meant; it may be read by anybody. A *secret* of 80 random bits is
typed by a person. The offer, ``pair/<id>``, is a JSON object that holds the vault's keys:

    {"steno_pair":1,"vault":…,"expires_ms":…,"kdf":{"salt":…,"cost":{…},"name":"argon2id"},
     "canary":…,"wrapped":…,"check":…}

``master`` is Argon2id of the secret as it is printed, dashes included, as for ``keys/``; ``bound`` the JSON array
``["steno pair",1,vault,name,expires_ms,["argon2id",salt,memory_kib,iterations,lanes]]``. ``canary`` is
HKDF-Expand-SHA256(master, "steno pair canary", 16). ``wrapped`` is the JSON of the keyring under AES-256-GCM with the
key HKDF-Expand-SHA256(master, "steno pair wrap", 32), a nonce of 12 zero bytes, and ``bound`` as associated data.
``check`` is the `checksum` of bound, canary and wrapped. So a remote can neither prolong an offer nor put another in
its place. A code is the base64url, without padding, of the msgpack array ``[1,vault,offer,url]`` and the first 4 bytes
of its SHA-256.

Who joins deletes the offer; what nobody took is deleted by the next `steno pair`. Whether it has expired is judged by
the clock of who judges (tests/unit/test_vault_pairing.py).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...storage.errors import InvalidInput, NewerFormat, ObjectDamaged, ObjectMissing, OtherVault, StenoError, WrongKey
from ...storage.home import Home
from ...storage.model import format_ms
from ...storage.steps import step
from .kdf import KEY_BYTES, SALT_BYTES, Derive, KdfCost, derive_in_child
from .keys import CANARY_BYTES, Canary, Id, Kdf, Wrapped, checksum, subkey
from .membership import Lock, Membership, check_free, take_up
from .names import PAIR, Draw, PairName, new_id
from .remote import Remote, open_remote
from .seal import Keyring
from .vault import vault_at

FORMAT = 1
OPEN_FOR_MS = 10 * 60_000
MAX_OFFER_BYTES = 64 * 1024
MAX_CODE_LENGTH = 4096

_NONCE = bytes(12)  # the wrapping key comes from a salt that is drawn for this one object
_CHECK_BYTES = 4
_SECRET_BYTES = 10
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # 32, without those that are mistaken for others
_GROUP = 4
_MAX_EXPIRED = 32


class OfferGone(StenoError):
    """The offer is not, or no longer, on the remote; or it has expired. Nothing was written."""

    exit_code = 5
    hint = "run `steno pair` again on the device that has the vault"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this pairing code is of no use any more ({reason})")


class Code(msgspec.Struct, frozen=True):
    """Where the vault lies, and which offer is meant."""

    vault: str
    offer: str
    url: str


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An offer as it stands on the remote: checked in form, not opened."""

    steno_pair: Literal[1] = FORMAT
    vault: Id
    expires_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    kdf: Kdf
    canary: Canary
    wrapped: Wrapped
    check: str = ""


class _Format(msgspec.Struct, frozen=True):
    steno_pair: int


def code_text(code: Code) -> str:
    """A code as people hand it on: letters that no shell changes."""
    packed = msgspec.msgpack.encode((FORMAT, code.vault, code.offer, code.url))
    return base64.urlsafe_b64encode(packed + _short_check(packed)).rstrip(b"=").decode()


def parse_code(text: str) -> Code:
    """What `code_text` wrote; raises `InvalidInput` for anything else."""
    text = "".join(text.split())
    try:
        if len(text) > MAX_CODE_LENGTH:
            raise ValueError
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        packed, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        if check != _short_check(packed):
            raise ValueError
        version, *_ = msgspec.msgpack.decode(packed, type=list[int | str])
        if isinstance(version, int) and version > FORMAT:
            raise NewerFormat(name="pairing code")
        _, vault, offer, url = msgspec.msgpack.decode(packed, type=tuple[Literal[1], Id, Id, str])
    except (ValueError, binascii.Error, UnicodeError, msgspec.MsgspecError, RecursionError):
        raise InvalidInput(
            "this is no pairing code", hint="copy the whole code that `steno pair` printed on the other device"
        ) from None
    return Code(vault, offer, url)


def new_secret(draw: Draw) -> str:
    """80 random bits as four groups of letters and digits."""
    number = int.from_bytes(draw(_SECRET_BYTES))
    letters = "".join(_LETTERS[number >> 5 * at & 31] for at in range(_SECRET_BYTES * 8 // 5))
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def typed_secret(text: str) -> str:
    """A secret as it was drawn, whatever case, blanks and dashes it was typed with; raises `InvalidInput`."""
    letters = "".join(text.lower().split()).replace("-", "")
    if len(letters) != _SECRET_BYTES * 8 // 5 or not set(letters) <= set(_LETTERS):
        raise InvalidInput("this is no pairing secret", hint="it has 16 letters and digits: xxxx-xxxx-xxxx-xxxx")
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def wrap_offer(
    keyring: Keyring,
    *,
    secret: str,
    vault_id: str,
    name: str,
    expires_ms: int,
    draw: Draw,
    cost: KdfCost,
    derive: Derive = derive_in_child,
) -> bytes:
    """The content of ``pair/<id>``: these keys, to be opened by this secret."""
    kdf = Kdf(salt=draw(SALT_BYTES), cost=cost)
    bare = Offer(vault=vault_id, expires_ms=expires_ms, kdf=kdf, canary=bytes(CANARY_BYTES), wrapped=bytes(16))
    master = derive(secret, kdf.salt, cost)
    cipher = AESGCM(subkey(master, "steno pair wrap", KEY_BYTES))
    wrapped = cipher.encrypt(_NONCE, msgspec.json.encode(keyring), _bound(bare, name))
    full = msgspec.structs.replace(bare, canary=subkey(master, "steno pair canary", CANARY_BYTES), wrapped=wrapped)
    return msgspec.json.encode(msgspec.structs.replace(full, check=_check(full, name))) + b"\n"


def parse_offer(data: bytes, *, name: str) -> Offer:
    """Read an offer that anybody may have written; raise `ObjectDamaged` or `NewerFormat`."""
    if len(data) > MAX_OFFER_BYTES:
        raise ObjectDamaged(name=name, reason=f"an offer of {len(data)} bytes")
    try:
        if msgspec.json.decode(data, type=_Format).steno_pair > FORMAT:
            raise NewerFormat(name=name)
        found = msgspec.json.decode(data, type=Offer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ObjectDamaged(name=name, reason="it is no offer") from exc
    if found.check != _check(found, name):
        raise ObjectDamaged(name=name, reason="its check does not agree")
    return found


def open_offer(offer: Offer, *, secret: str, name: str, derive: Derive = derive_in_child) -> Keyring:
    """Open an offer; raise `WrongKey` for another secret, `ObjectDamaged` if it is not what was wrapped."""
    master = derive(secret, offer.kdf.salt, offer.kdf.cost)
    if not hmac.compare_digest(subkey(master, "steno pair canary", CANARY_BYTES), offer.canary):
        raise WrongSecret(vault=offer.vault)
    cipher = AESGCM(subkey(master, "steno pair wrap", KEY_BYTES))
    try:
        return msgspec.json.decode(cipher.decrypt(_NONCE, offer.wrapped, _bound(offer, name)), type=Keyring)
    except (InvalidTag, msgspec.MsgspecError):
        # The cause could quote the secret keys; it is not chained.
        raise ObjectDamaged(name=name, reason="the wrapped keys were changed") from None


class WrongSecret(WrongKey):
    """The secret does not open the offer; nothing was written."""

    hint = "type the secret that `steno pair` printed on the other device"

    def __init__(self, *, vault: str) -> None:
        StenoError.__init__(self, f"this secret does not open the offer to join vault {vault}")
        self.vault = vault


# On the remote


async def offer(
    remote: Remote,
    found: Membership,
    *,
    secret: str,
    now_ms: int,
    draw: Draw,
    cost: KdfCost,
    derive: Derive = derive_in_child,
) -> Code:
    """Put an offer on the remote of a home; what has expired there is deleted first."""
    await _delete_expired(remote, now_ms=now_ms)
    name = PairName(new_id(draw))
    data = await asyncio.to_thread(
        wrap_offer, found.keyring, secret=secret, vault_id=found.vault, name=name.path,
        expires_ms=now_ms + OPEN_FOR_MS, draw=draw, cost=cost, derive=derive,
    )  # fmt: skip
    await remote.put(name.path, data)
    step("pair.offered")
    return Code(found.vault, name.id, found.url)


async def accept(
    home: Home,
    code: Code,
    *,
    secret: str,
    now_ms: int,
    lock: Lock,
    url: str | None = None,
    derive: Derive = derive_in_child,
) -> Membership:
    """Let a home belong to the vault that a code offers, and delete the offer. ``url`` where it lies elsewhere for us.

    Raises `OfferGone`, `WrongKey` and `OtherVault` before anything is written.
    """
    remote = open_remote(url or code.url)
    try:
        there = await vault_at(remote)
        if there != code.vault:
            raise OtherVault(remote=remote.address, found=there, expected=code.vault)
        check_free(home, url=remote.address, vault=code.vault)
        name = PairName(code.offer).path
        try:
            found = parse_offer(await remote.get(name, limit_bytes=MAX_OFFER_BYTES), name=name)
        except ObjectMissing as exc:
            raise OfferGone("it was used or has expired") from exc
        if found.vault != code.vault:
            raise ObjectDamaged(name=name, reason="it is of another vault")
        if found.expires_ms < now_ms:
            raise OfferGone(
                f"it expired at {format_ms(found.expires_ms)}, and this machine's clock says {format_ms(now_ms)}"
            )
        keyring = await asyncio.to_thread(open_offer, found, secret=secret, name=name, derive=derive)
        kept = take_up(home, url=remote.address if url else code.url, vault=code.vault, keyring=keyring, lock=lock)
        step("pair.kept")
        await remote.delete(name)
    finally:
        await remote.close()
    return kept


async def _delete_expired(remote: Remote, *, now_ms: int) -> None:
    for each in [found for found in map(PairName.parse, await remote.list(PAIR)) if found is not None][:_MAX_EXPIRED]:
        try:
            found = parse_offer(await remote.get(each.path, limit_bytes=MAX_OFFER_BYTES), name=each.path)
        except (ObjectMissing, ObjectDamaged, NewerFormat):
            continue
        if found.expires_ms < now_ms:
            await remote.delete(each.path)


def _check(found: Offer, name: str) -> str:
    return checksum(_bound(found, name), found.canary, found.wrapped)


def _bound(found: Offer, name: str) -> bytes:
    cost = found.kdf.cost
    return msgspec.json.encode(
        [
            "steno pair",
            FORMAT,
            found.vault,
            name,
            found.expires_ms,
            [found.kdf.name, found.kdf.salt, cost.memory_kib, cost.iterations, cost.lanes],
        ]
    )


def _short_check(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:_CHECK_BYTES]
