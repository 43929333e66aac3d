"""The names of objects on a remote: one spelling for each, everything else is foreign.

A listing is the manifest, so a name must say the same to every device and must not be
taken from a file that some program left there ("… (conflicted copy).…"). Parsing accepts
exactly what ``path`` writes. The numbers of a segment are padded, so that a listing in
byte order is a device's log in order; the numbers of keys and device records are not.
tests/unit/test_vault_names.py proves that parse and path are inverses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Self

import msgspec

from ...storage.errors import InvalidInput

VAULT = "vault.json"
KEYS = "keys/"
LOG = "log/"
DEVICES = "devices/"
PAIR = "pair/"
ATOMIC_WRITE_DIR = ".tmp"
"""Where a folder's objects are until they are whole; no listing shows it."""

MAX_NUMBER = 10**12 - 1
MAX_LEVEL = 99
ID_LENGTH = 12
MAX_OBJECT_BYTES = 65 * 1024 * 1024

Draw = Callable[[int], bytes]
"""Gives that many random bytes; `os.urandom` outside of tests and simulations."""

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID = f"[0-9a-z]{{{ID_LENGTH}}}"
_PADDED = "[0-9]{12}"
_PLAIN = "[1-9][0-9]{0,11}"
_NAME = re.compile(r"(?!\.)[\w.-]{1,200}(/(?!\.)[\w.-]{1,200})?", re.ASCII)
_ID_FORM = re.compile(_ID)
_SEGMENT_FORM = re.compile(rf"log/({_ID})\.({_PADDED})-({_PADDED})\.(0|[1-9][0-9]?)\.({_ID})")
_KEY_FORM = re.compile(rf"keys/({_PLAIN})\.({_ID})")
_DEVICE_FORM = re.compile(rf"devices/({_ID})\.({_PLAIN})")
_NOTICE_FORM = re.compile(rf"keys/({_ID})-({_ID})")
_PAIR_FORM = re.compile(rf"pair/({_ID})")


def new_id(draw: Draw) -> str:
    """Draw an id of a device, vault or key, or the random end of a name: 62 bits."""
    # 16 bytes for 62 bits: the remainder's bias is below 2**-65.
    number = int.from_bytes(draw(16)) % 36**ID_LENGTH
    digits = ""
    for _ in range(ID_LENGTH):
        number, digit = divmod(number, 36)
        digits = _ALPHABET[digit] + digits
    return digits


def is_id(value: str) -> bool:
    """Whether this is 12 characters ``[0-9a-z]``."""
    return _ID_FORM.fullmatch(value) is not None


def check_name(name: str) -> str:
    """Return an object's name; raise `InvalidInput` if it could lead out of the remote's root or into hidden files."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(f"not the name of an object: {name!r}")
    return name


class SegmentName(msgspec.Struct, frozen=True, order=True):
    """``log/<device>.<first>-<last>.<level>.<random>``: that device's publications number first to last."""

    device: str
    first: int
    last: int
    level: int
    random: str

    def __post_init__(self) -> None:
        """Refuse what `parse` would not read back."""
        if not (
            is_id(self.device)
            and 1 <= self.first <= self.last <= MAX_NUMBER
            and 0 <= self.level <= MAX_LEVEL
            and is_id(self.random)
        ):
            raise InvalidInput(f"not the name of a segment: {self!r}")

    @property
    def path(self) -> str:
        """The name on the remote."""
        return f"{LOG}{self.device}.{self.first:012d}-{self.last:012d}.{self.level}.{self.random}"

    def stands_for(self, other: SegmentName) -> bool:
        """Whether it was made of segments among which that one was."""
        is_within = self.first <= other.first and other.last <= self.last
        return self.device == other.device and is_within and other.level < self.level

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The parts of a segment's name; None for anything else."""
        found = _SEGMENT_FORM.fullmatch(name)
        if found is None:
            return None
        device, first, last, level, random = found.groups()
        if not 1 <= int(first) <= int(last):
            return None
        return cls(device, int(first), int(last), int(level), random)


class KeyName(msgspec.Struct, frozen=True, order=True):
    """``keys/<n>.<random>``: the vault's keys, wrapped by its n-th passphrase."""

    n: int
    random: str

    def __post_init__(self) -> None:
        """Refuse what `parse` would not read back."""
        if not (1 <= self.n <= MAX_NUMBER and is_id(self.random)):
            raise InvalidInput(f"not the name of a key: {self!r}")

    @property
    def path(self) -> str:
        """The name on the remote."""
        return f"{KEYS}{self.n}.{self.random}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The parts of a key's name; None for anything else."""
        found = _KEY_FORM.fullmatch(name)
        return cls(int(found[1]), found[2]) if found else None


class DeviceName(msgspec.Struct, frozen=True, order=True):
    """``devices/<device>.<n>``: the n-th record that a device wrote about itself."""

    device: str
    n: int

    def __post_init__(self) -> None:
        """Refuse what `parse` would not read back."""
        if not (is_id(self.device) and 1 <= self.n <= MAX_NUMBER):
            raise InvalidInput(f"not the name of a device record: {self!r}")

    @property
    def path(self) -> str:
        """The name on the remote."""
        return f"{DEVICES}{self.device}.{self.n}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The parts of a device record's name; None for anything else."""
        found = _DEVICE_FORM.fullmatch(name)
        return cls(found[1], int(found[2])) if found else None


class NoticeName(msgspec.Struct, frozen=True, order=True):
    """``keys/<old>-<new>``: that the vault's key ``old`` was followed by ``new``, sealed with ``old``."""

    old: str
    new: str

    def __post_init__(self) -> None:
        """Refuse what `parse` would not read back."""
        if not (is_id(self.old) and is_id(self.new) and self.old != self.new):
            raise InvalidInput(f"not the name of a notice: {self!r}")

    @property
    def path(self) -> str:
        """The name on the remote."""
        return f"{KEYS}{self.old}-{self.new}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The parts of a notice's name; None for anything else."""
        found = _NOTICE_FORM.fullmatch(name)
        return cls(found[1], found[2]) if found and found[1] != found[2] else None


class PairName(msgspec.Struct, frozen=True, order=True):
    """``pair/<id>``: an offer to another device, which holds the vault's keys for a few minutes."""

    id: str

    def __post_init__(self) -> None:
        """Refuse what `parse` would not read back."""
        if not is_id(self.id):
            raise InvalidInput(f"not the name of an offer: {self!r}")

    @property
    def path(self) -> str:
        """The name on the remote."""
        return f"{PAIR}{self.id}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The id in an offer's name; None for anything else."""
        found = _PAIR_FORM.fullmatch(name)
        return cls(found[1]) if found else None


def is_object(name: str) -> bool:
    """Whether an object of this name belongs to a vault; everything else on a remote is foreign."""
    forms = (SegmentName, KeyName, NoticeName, DeviceName, PairName)
    return name == VAULT or any(form.parse(name) is not None for form in forms)


def counting_keys(listing: Iterable[str]) -> list[KeyName]:
    """The keys that count: those with the greatest n (two, where two devices changed the passphrase at once)."""
    keys = [key for key in map(KeyName.parse, listing) if key is not None]
    greatest = max((key.n for key in keys), default=0)
    return sorted(key for key in keys if key.n == greatest)
