"""Delete says what its writer knew, so that what somebody else wrote unknowingly is never swallowed.

A session's ``deleted`` and ``cleared`` registers hold a vector: per writer the newest stamp
seen in that session, and single stamps seen beyond a gap in that device's log. A message is
within a vector if any of its birth stamps is. Proved by tests/unit/test_deletion.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from .registers import Known, Register, covers, text_of
from .stamps import BY_HAND, Stamp, Writer

PURGED = "purged"
"""The register of a message, or of an id of sessions, by which it was purged. Nothing takes it back."""
LAST_PURGE = "purged"
"""The name in ``meta`` under which the number of the feed stands at which something was last purged here."""
MAX_LIFE = 1 << 31


class Vector(msgspec.Struct, frozen=True):
    """What one or several deletions knew; ``at_ms`` is when the newest of them was made."""

    upto: Mapping[Writer, int]
    also: frozenset[Stamp] = frozenset()
    at_ms: int = 0

    def has(self, births: Iterable[Stamp]) -> bool:
        """Say whether a message with these birth stamps lies within."""
        return any(covers(self.upto, stamp) or stamp in self.also for stamp in births)


class _Wire(msgspec.Struct, frozen=True):
    at: int
    upto: dict[str, int] = {}
    also: list[tuple[int, int, str]] = []


class _Purge(_Wire, frozen=True):
    life: Annotated[int, msgspec.Meta(ge=0, le=MAX_LIFE)] = 0


def vector(births: Iterable[Stamp], *, gapless: Mapping[str, int], at_ms: int) -> Vector:
    """The vector of someone who has seen these births now.

    ``gapless`` names, for a device whose log has a hole here, the last clock before the hole: what was
    seen beyond it is named one by one, since something unseen may be older.
    """
    upto: dict[Writer, int] = {}
    also: set[Stamp] = set()
    for stamp in births:
        if stamp.clock > gapless.get(stamp.device, stamp.clock):
            also.add(stamp)
        else:
            upto[stamp.writer] = max(upto.get(stamp.writer, -1), stamp.clock)
    return Vector(upto, frozenset(also), at_ms)


def join(vectors: Iterable[Vector]) -> Vector | None:
    """What all of them together knew; None for none."""
    upto: dict[Writer, int] = {}
    also: set[Stamp] = set()
    at_ms = -1
    for each in vectors:
        at_ms = max(at_ms, each.at_ms)
        also |= each.also
        for writer, clock in each.upto.items():
            upto[writer] = max(upto.get(writer, -1), clock)
    return Vector(upto, frozenset(also), at_ms) if at_ms >= 0 else None


def encode(value: Vector | None) -> bytes:
    """The register text of a vector; None (not deleted) is null."""
    return b"null" if value is None else text_of(_Wire(value.at_ms, _upto(value.upto), sorted(value.also)))


def decode(text: bytes) -> Vector | None:
    """The vector of a register text; raises `msgspec.ValidationError` or `ValueError` for anything else."""
    return None if text in (b"", b"null") else _vector(msgspec.json.decode(text, type=_Wire))


def purge(knew: Vector, *, life: int = 0) -> bytes:
    """The register text by which a message was purged, or every life of a session's id up to ``life``."""
    return text_of(_Purge(knew.at_ms, _upto(knew.upto), sorted(knew.also), life))


def check_purge(text: bytes) -> None:
    """Raise `msgspec.ValidationError` or `ValueError` for what is no text of a purge."""
    _vector(msgspec.json.decode(text, type=_Purge))


def purged_life(purged: Register) -> int:
    """The greatest life that a session's ``purged`` register says is over; 0 where none is."""
    return max((msgspec.json.decode(value.text, type=_Purge).life for value in purged.open.values()), default=0)


def purge_knew(purged: Register) -> Vector:
    """What those who purged knew of what they purged, all of them together."""
    return join(_vector(msgspec.json.decode(value.text, type=_Wire)) for value in purged.open.values()) or Vector({})


def _upto(known: Known) -> dict[str, int]:
    return {f"{device}:{rank}": clock for (device, rank), clock in sorted(known.items())}


def _vector(wire: _Wire) -> Vector:
    upto: dict[Writer, int] = {}
    for name, clock in wire.upto.items():
        device, _, rank = name.rpartition(":")
        upto[device, int(rank)] = clock
    return Vector(upto, frozenset(Stamp(*stamp) for stamp in wire.also), wire.at)


def in_force(register: Register) -> Vector | None:
    """The vector that a ``deleted`` or ``cleared`` register shows.

    Where null is the greatest open value the session was restored; else all open vectors are joined. A vector that
    knew nothing hides nothing: it is what stays of one that was moved to ``cleared``.
    """
    if register.shown in (b"", b"null"):
        return None
    found = (decode(value.text) for value in register.open.values())
    return join(each for each in found if each is not None and (each.upto or each.also))


def message_deletion(content: Known, *, at_ms: int) -> bytes:
    """The register text by which a message is deleted by someone who knew ``content`` of its content."""
    return text_of(_Wire(at_ms, _upto(content)))


def message_deleted(deleted: Register, content: Register) -> int | None:
    """When a message was deleted (ms), or None where it is not, or was edited by hand unknown to the deleter."""
    found = in_force(deleted)
    if found is None:
        return None
    unknown = any(stamp.rank == BY_HAND for stamp in unknown_to(found, content))
    return None if unknown else found.at_ms


def unknown_to(knew: Vector, content: Register) -> list[Stamp]:
    """The stamps of the open values that somebody did not know.

    A store that got a new id says what it had said once more, at the same time: whoever knew the one knows the other.
    """
    known = {(stamp.clock, value.text) for stamp, value in content.open.items() if knew.has([stamp])}
    return [stamp for stamp, value in content.open.items() if (stamp.clock, value.text) not in known]


def session_hidden(deleted: Vector | None, hand_births_outside: bool) -> bool:
    """A session is hidden while it is deleted and no message born by hand lies outside the deletion."""
    return deleted is not None and not hand_births_outside
