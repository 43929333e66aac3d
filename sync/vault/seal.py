"""Sealed objects: what a remote holds opens only with the vault's key, in this vault, under its own name.

    "STENO" | format, 1 byte | key id, 12 | salt, 16 | AES-256-GCM of the content, with its tag of 16

Each object has a key of its own, HKDF-SHA256(vault key, salt, what and name). Vault id,
name and format are associated data: an object cannot be swapped, renamed, moved to another
vault or forged. Every truncation and every single flipped bit of an object is one of the
three errors below (tests/unit/test_vault_seal.py tries them all). Nothing here draws
randomness: the salt is an argument, so sealing the same again gives the same bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...storage.errors import InvalidInput, NewerFormat, ObjectDamaged, StenoError
from .names import ID_LENGTH, MAX_NUMBER, Draw, is_id, new_id

MAGIC = b"STENO"
FORMAT = 1
SALT_BYTES = 16
SECRET_BYTES = 32
MAX_CONTENT_BYTES = 64 * 1024 * 1024
COMPRESSION_LEVEL = 3

_KEY_ID_AT = len(MAGIC) + 1
_SALT_AT = _KEY_ID_AT + ID_LENGTH
_BODY_AT = _SALT_AT + SALT_BYTES
_TAG_BYTES = 16
# A fixed nonce is safe here and only here: a key seals one object, as salt and name are drawn
# for each, and a retry sends the bytes that were kept and does not seal again.
_NONCE = bytes(12)


class UnknownKey(StenoError):
    """An object is sealed with a vault key that is not held here; it waits for a look at ``keys/``."""

    exit_code = 8
    retryable = True
    hint = "if the vault's key was rotated, run `steno join URL` again with the present passphrase"

    def __init__(self, *, name: str, key_id: str) -> None:
        super().__init__(f"remote object {name} is sealed with key {key_id}, which this device does not hold")
        self.name, self.key_id = name, key_id


_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{12}$", max_length=ID_LENGTH)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]


class VaultKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key of a vault; its id stands in the clear in everything that it seals.

    ``until`` is the last publication of each device that counts under it, for one that was revoked.
    """

    id: str
    secret: bytes
    until: dict[_Id, _Number] | None = None

    def __post_init__(self) -> None:
        """Refuse an id or a secret of another form."""
        if not is_id(self.id) or len(self.secret) != SECRET_BYTES:
            raise InvalidInput("not a vault key: its id or its length is wrong")

    def __repr__(self) -> str:
        """Show the id only; a secret belongs in no log."""
        return f"VaultKey({self.id})"

    @classmethod
    def new(cls, draw: Draw) -> VaultKey:
        """Draw a key."""
        return cls(new_id(draw), draw(SECRET_BYTES))


class Keyring(msgspec.Struct, frozen=True):
    """The keys of a vault, oldest first: the last one seals, all of them open."""

    keys: tuple[VaultKey, ...]

    def __post_init__(self) -> None:
        """Refuse an empty ring, and two keys of one id."""
        if not self.keys or len({key.id for key in self.keys}) != len(self.keys):
            raise InvalidInput("not a keyring: it is empty or holds one id twice")

    @property
    def current(self) -> VaultKey:
        """The key that seals."""
        return self.keys[-1]

    def find(self, key_id: str) -> VaultKey | None:
        """The key of this id; None if it is not held."""
        return next((key for key in self.keys if key.id == key_id), None)


def seal(plain: bytes, *, key: VaultKey, vault_id: str, name: str, salt: bytes) -> bytes:
    """Seal bytes for one vault and one name; ``salt`` is 16 random bytes, never used twice for a name."""
    if len(salt) != SALT_BYTES:
        raise InvalidInput(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    cipher = AESGCM(_object_key(key.secret, salt=salt, name=name))
    body = cipher.encrypt(_NONCE, plain, _bound(vault_id, name))
    return b"".join((MAGIC, bytes((FORMAT,)), key.id.encode(), salt, body))


def unseal(sealed: bytes, *, keyring: Keyring, vault_id: str, name: str) -> bytes:
    """Open what `seal` made; raise `ObjectDamaged`, `NewerFormat` or `UnknownKey`, and nothing else."""
    key_id = sealed_with(sealed, name=name)
    key = keyring.find(key_id)
    if key is None:
        raise UnknownKey(name=name, key_id=key_id)
    cipher = AESGCM(_object_key(key.secret, salt=sealed[_SALT_AT:_BODY_AT], name=name))
    try:
        return cipher.decrypt(_NONCE, memoryview(sealed)[_BODY_AT:], _bound(vault_id, name))
    except InvalidTag as exc:
        raise ObjectDamaged(name=name, reason="its seal is broken") from exc


def sealed_with(sealed: bytes, *, name: str) -> str:
    """The id of the key that seals the object; raise `ObjectDamaged` or `NewerFormat` if it is none of ours."""
    if not sealed.startswith(MAGIC):
        raise ObjectDamaged(name=name, reason="it is no sealed object")
    if len(sealed) > len(MAGIC) and sealed[len(MAGIC)] > FORMAT:
        raise NewerFormat(name=name)
    if len(sealed) < _BODY_AT + _TAG_BYTES:
        raise ObjectDamaged(name=name, reason=f"it ends after {len(sealed)} bytes")
    key_id = sealed[_KEY_ID_AT:_SALT_AT].decode("latin-1")
    if sealed[len(MAGIC)] != FORMAT or not is_id(key_id):
        raise ObjectDamaged(name=name, reason="its head is broken")
    return key_id


def pack(content: bytes, *, level: int = COMPRESSION_LEVEL) -> bytes:
    """Compress with zstd; the size of the content stands in the frame."""
    return zstandard.ZstdCompressor(level=level).compress(content)


def unpack(packed: bytes, *, name: str, limit_bytes: int = MAX_CONTENT_BYTES) -> bytes:
    """Decompress what `pack` made; raise `ObjectDamaged` for anything else and for more than ``limit_bytes``.

    The frame's own size is checked before any memory is taken, and zstandard never
    writes more than the frame declares.
    """
    try:
        declared = zstandard.get_frame_parameters(packed).content_size
        if declared > limit_bytes:  # a frame that hides its size declares 2**64 - 1
            raise ObjectDamaged(name=name, reason=f"its content is larger than {limit_bytes} bytes")
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise ObjectDamaged(name=name, reason="its content does not decompress") from exc


def _object_key(secret: bytes, *, salt: bytes, name: str) -> bytes:
    info = msgspec.json.encode(["steno object", FORMAT, name])
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=salt, info=info).derive(secret)


def _bound(vault_id: str, name: str) -> bytes:
    # JSON, because joined text could be split in two ways.
    return msgspec.json.encode(["steno object", FORMAT, vault_id, name])
