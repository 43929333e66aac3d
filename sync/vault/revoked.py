"""What was sealed with a revoked key after its revocation: set aside, named, and obeyed in nothing.

    revoked key → up to which publication of each device it counts      (`VaultKey.until`, told with the next key)

Whoever shuts a device out takes in what is there, and writes that down beside the key. A device that was told, by the
next passphrase, takes nothing more under the revoked key but what is missing of that. A device that was away and joins
again seals its own segments anew, and they are taken in then (tests/unit/test_vault_revoked.py).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...storage.errors import StenoError
from .ledger import Ledger
from .names import SegmentName
from .own_log import OwnLog
from .peers import known
from .seal import Keyring, VaultKey, sealed_with
from .segment import Sealer

MAX_BYTES = 40_000
"""So much of a key object may be taken by keys and what counts under them; else nothing counts under the oldest."""


class RevokedKey(StenoError):
    """A segment came under a key that had been revoked: it is not taken in, and stays where it lies."""

    exit_code = 8
    retryable = True
    hint = (
        "if that device is yours, run `steno join URL` there with the vault's present passphrase, and it is taken in; "
        "if not, it stays aside"
    )

    def __init__(self, *, name: SegmentName) -> None:
        super().__init__(f"remote object {name.path} of device {name.device} came under a key that had been revoked")


class Revocations:
    """Judges segments by the keys that are held now and by what is applied of a vault.

    ``superseded`` tells whether the key that seals here was revoked, and nobody here was told the next one.
    """

    def __init__(self, ledger: Ledger, sealer: Sealer, *, superseded: Callable[[], bool]) -> None:
        self._ledger, self._sealer, self._superseded = ledger, sealer, superseded
        self._heeded, self._waiting = f"revoked:{ledger.vault}", f"superseded:{ledger.vault}"

    def check(self, name: SegmentName, sealed: bytes) -> None:
        """Raise `RevokedKey` for a segment that is not to be taken in; what does not open is left to who opens it."""
        key = self._sealer.keyring.find(sealed_with(sealed, name=name.path))
        if key is None or self._ledger.is_applied(name.path):
            return
        if key.until is None:
            # What counts under it is told by the next passphrase.
            if key.id == self._sealer.keyring.current.id and self.is_superseded():
                raise RevokedKey(name=name)
            return
        # Another one of a number that is applied would not be missed: it may have been made at any time.
        missing = self._ledger.cursor().of(name.device).missing(name.first, name.last)
        if name.last > key.until.get(name.device, 0) or not missing:
            raise RevokedKey(name=name)

    def may_refuse(self) -> bool:
        """Say whether anything can be refused: where no key was revoked, nothing need be read to know."""
        return any(key.until is not None for key in self._sealer.keyring.keys) or self.is_superseded()

    def is_superseded(self) -> bool:
        """Say whether the key that seals here is known to be revoked, also where what told it is there no more."""
        return self._superseded() or self._ledger.store.meta(self._waiting) == self._sealer.keyring.current.id

    def heed(self) -> None:
        """Remember what was revoked. Where a key was since this was last done, believe nothing that others had claimed.

        Their names stay: who was shut out may have said the rest. Those that have joined again say it again.
        """
        current = self._sealer.keyring.current.id
        if self._superseded() and self._ledger.store.meta(self._waiting) != current:
            with self._ledger.store.transaction():
                self._ledger.store.set_meta(self._waiting, current)
        revoked = ",".join(key.id for key in self._sealer.keyring.keys if key.until is not None)
        store = self._ledger.store
        if store.meta(self._heeded) == revoked:
            return
        numbers = {device: n for device, n, _ in self._ledger.peers()}
        with store.transaction():
            for device, record in known(self._ledger).items():
                if device != store.device:
                    self._ledger.keep_peer(device, numbers[device], msgspec.json.encode(record.claiming_nothing()))
            store.set_meta(self._heeded, revoked)


def set_aside(ledger: Ledger) -> list[SegmentName]:
    """The segments that are set aside for that."""
    found = [(SegmentName.parse(each.name), each.problem) for each in ledger.problems()]
    return [name for name, problem in found if name is not None and problem == RevokedKey(name=name).line]


def published(ledger: Ledger) -> dict[str, int]:
    """The last publication of every device that is taken in here, or decided."""
    cursor = ledger.cursor()
    own = ledger.store.device
    return {device: cursor.of(device).last for device in cursor.devices} | {own: OwnLog(ledger).next_number(own) - 1}


def shut(keyring: Keyring, until: dict[str, int]) -> Keyring:
    """The ring with all its keys revoked: each counts up to these publications, or those of its own revocation."""
    keys = [key if key.until is not None else VaultKey(key.id, key.secret, until) for key in keyring.keys]
    for at, key in enumerate(keys):
        if len(msgspec.json.encode(keys)) <= MAX_BYTES:
            break
        keys[at] = VaultKey(key.id, key.secret, {})
    return Keyring(tuple(keys))
