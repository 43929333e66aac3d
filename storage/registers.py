"""The one merge rule: a register keeps its open values and what it knows.

    written by A ─┐                      an open value stays unless the other side
                  ├─ merge ─ equal       knows its stamp and no longer holds it
    written by B ─┘

`merge` is commutative, associative and idempotent, and equal knowledge is equal state
(tests/unit/test_registers.py). A value is JSON text, opaque here; `REMOVED` is no text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from .errors import InvalidInput
from .stamps import BY_HAND, Stamp, Writer

REMOVED = b""
"""The value of a register whose key was removed: distinct from null."""

MAX_PATH_LENGTH = 4096
"""Characters of a register's path: what nobody may send nobody may write."""

Known = Mapping[Writer, int]
"""Per writer, the clock of the newest of its stamps met."""


class Value(NamedTuple):
    """One open value: JSON text, and what its writer knew of the paths above and below (JSON text or nothing)."""

    text: bytes
    seen: bytes = b""


class Register(msgspec.Struct, frozen=True):
    """The whole state of a register; what is published, merged and kept."""

    open: Mapping[Stamp, Value]
    known: Known

    @property
    def shown(self) -> bytes:
        """The text of the greatest open value; `REMOVED` where nothing was ever written."""
        return self.top[1].text

    @property
    def top(self) -> tuple[Stamp, Value]:
        """The greatest open value with its stamp."""
        return max(self.open.items()) if self.open else (Stamp(-1, 0, ""), Value(REMOVED))

    @property
    def conflict(self) -> bool:
        """Say whether several values written by hand are open that differ."""
        return len({value.text for stamp, value in self.open.items() if stamp.rank == BY_HAND}) > 1

    @property
    def plain(self) -> bool:
        """Say whether the state is one value that knows only itself, as nearly every register is."""
        if len(self.open) != 1 or len(self.known) != 1:
            return False
        ((stamp, value),) = self.open.items()
        return self.known == {stamp.writer: stamp.clock} and not value.seen


EMPTY = Register({}, {})


def born(stamp: Stamp, text: bytes) -> Register:
    """A register that was written once."""
    return Register({stamp: Value(text)}, {stamp.writer: stamp.clock})


def covers(known: Known, stamp: Stamp) -> bool:
    """Say whether the knowledge has met this stamp."""
    return known.get((stamp.device, stamp.rank), -1) >= stamp.clock


def join_known(local: Known, other: Known) -> Known:
    """The greater clock per writer."""
    if local == other:
        return local
    joined = dict(local)
    for writer, clock in other.items():
        joined[writer] = max(joined.get(writer, -1), clock)
    return joined


def merge(local: Register, other: Register) -> Register:
    """The state that knows what both knew."""
    kept: dict[Stamp, Value] = {}
    for stamp, value in local.open.items():
        theirs = other.open.get(stamp)
        if theirs is not None:
            kept[stamp] = max(value, theirs)
        elif not covers(other.known, stamp):
            kept[stamp] = value
    kept |= {
        stamp: value
        for stamp, value in other.open.items()
        if stamp not in local.open and not covers(local.known, stamp)
    }
    return Register(kept, join_known(local.known, other.known))


def write(
    register: Register, stamp: Stamp, value: Value, *, base: Known | None = None, own: Collection[Stamp] = ()
) -> Register:
    """The register after a write by someone who knew ``base`` (None: all that the register knows), and ``own`` besides.

    A write by hand replaces every open value that it knew; any other replaces only what was not written by hand.
    """
    knew = register.known if base is None else base
    kept = {
        old: held
        for old, held in register.open.items()
        if not (covers(knew, old) or old in own) or (stamp.rank != BY_HAND and old.rank == BY_HAND)
    }
    return Register({**kept, stamp: value}, join_known(register.known, {stamp.writer: stamp.clock}))


def check_path(path: str) -> str:
    """Return the path of a register; raises `InvalidInput` for one that no other device would take."""
    if len(path) > MAX_PATH_LENGTH:
        raise InvalidInput(f"a key or tag is longer than {MAX_PATH_LENGTH} characters: {path[:40]}…")
    return path


def text_of(value: Any) -> bytes:
    """JSON text of a value, as every device will keep it."""
    return msgspec.json.encode(value)


def value_of(text: bytes) -> Any:
    """The value of a register's text; None for `REMOVED`."""
    return msgspec.json.decode(text) if text else None
