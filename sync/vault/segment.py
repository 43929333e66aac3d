"""A segment: a batch of changes, compressed and sealed under its own name."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...storage.change import VERSION, Batch
from ...storage.errors import NewerFormat, ObjectDamaged
from ...storage.unfolding import unfolded
from .names import Draw
from .seal import COMPRESSION_LEVEL, SALT_BYTES, Keyring, pack, seal, unpack, unseal


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int


class Sealer:
    """Seals and opens the segments of one vault."""

    def __init__(self, vault: str, held: Callable[[], Keyring], draw: Draw) -> None:
        self._vault, self._held, self._draw = vault, held, draw

    @property
    def keyring(self) -> Keyring:
        """The keys that this home holds now."""
        return self._held()

    def close(self, content: bytes, *, name: str, level: int = COMPRESSION_LEVEL) -> bytes:
        """The object that holds a batch's bytes."""
        salt = self._draw(SALT_BYTES)
        packed = pack(content, level=level)
        return seal(packed, key=self.keyring.current, vault_id=self._vault, name=name, salt=salt)

    def content(self, sealed: bytes, *, name: str) -> bytes:
        """The batch's bytes in an object; raise `ObjectDamaged`, `UnknownKey` or `NewerFormat`."""
        return unpack(unseal(sealed, keyring=self.keyring, vault_id=self._vault, name=name), name=name)

    def open(self, sealed: bytes, *, name: str) -> Batch:
        """The batch in an object; raise `ObjectDamaged`, `UnknownKey` or `NewerFormat`."""
        return batch_of(self.content(sealed, name=name), name=name)


def batch_of(content: bytes, *, name: str) -> Batch:
    """The batch of some bytes; raise `ObjectDamaged` or `NewerFormat`."""
    try:
        if msgspec.msgpack.decode(content, type=_Head).version > VERSION:
            raise NewerFormat(name=name)
        return unfolded(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ObjectDamaged(name=name, reason=f"its content is no batch: {exc}") from exc
