"""What lies on the remote under ids that this home had, and who may take what was purged out of it.

A home that was restored, rebuilt or copied goes on under another id. Its former log may still have an owner: the home
of which it is a copy. Only that one may write it again, and nobody can know whether it is there at all. So it is said,
until that home has read of the purge, or a person retires the id (tests/unit/test_vault_former.py).
"""

from __future__ import annotations

from ...storage.deletion import LAST_PURGE
from .ledger import Ledger
from .own_log import OwnLog
from .peers import known
from .ranges import Ranges


def former_logs(ledger: Ledger) -> list[str]:
    """The former ids of this device that published something which nobody has adopted since."""
    cursor = ledger.cursor()
    retired = {device for record in known(ledger).values() for device in record.retired}
    return [each for each in ledger.store.former_devices if cursor.of(each).last and each not in retired]


def unscrubbed(ledger: Ledger) -> list[str]:
    """Those in whose logs something may still stand that was purged, for all that this device knows."""
    purged = int(ledger.store.meta(LAST_PURGE) or 0)
    if not purged:
        return []
    told = min((number for number, mark in OwnLog(ledger).marks().items() if mark.moment.seq >= purged), default=0)
    records, own = known(ledger), ledger.store.device

    def knows(device: str) -> bool:
        record = records.get(device)
        return bool(told and record and Ranges.of(*record.applied.get(own, [])).covers(told, told))

    return [each for each in former_logs(ledger) if not knows(each)]


def said_of(device: str) -> str:
    """The line on a former id under which something may still stand."""
    return (
        f"what was purged may still stand in what this home sent under its former id {device}: it goes when a home "
        f"that still has this id syncs; where there is none, `steno devices retire {device}` removes it"
    )
