"""Which logs of others may be adopted: those of which nothing is missing here (tests/unit/test_vault_healing.py)."""

from __future__ import annotations

from ...storage.errors import DeviceNotFound, InvalidInput
from .healing import beyond_us, kept_back
from .ledger import Ledger
from .names import SegmentName
from .ranges import Ranges
from .report import numbers


def last_to_adopt(ledger: Ledger, device: str, names: list[SegmentName]) -> int:
    """The last number of a log that is to be adopted and of which these segments stand on the remote.

    Raises `DeviceNotFound` for an unknown one, and `InvalidInput` for this device's own, one of which something is
    missing here, and one that wrote in a session of which nothing is sent from here.
    """
    if device == ledger.store.device:
        hint = "run it on another device, or `steno vault leave` here"
        raise InvalidInput("this device cannot retire itself", hint=hint)
    have = ledger.cursor().of(device)
    if not names and not have.last:
        raise DeviceNotFound(device=device)
    healed = Ranges.of(*(span for each in ledger.healed() for span in each.stands_for.get(device, [])))
    aside = {each.name for each in ledger.problems()} - {
        name.path for name in names if healed.covers(name.first, name.last)
    }
    beyond = beyond_us(ledger, names)
    missing = [
        name.path for name in names if name.path in aside or name in beyond or not have.covers(name.first, name.last)
    ]
    if missing or have.holes:
        raise InvalidInput(
            f"not all that device {device} published is here ({', '.join(missing[:3]) or numbers(have.holes)})",
            hint="`steno sync` first; `steno verify` says what does not open",
        )
    session = kept_back(ledger, device)
    if session is not None:
        raise InvalidInput(
            f"device {device} wrote in session {session}, which is local-only here", hint="retire it on another device"
        )
    return have.last
