"""The devices of a vault as they are shown to people."""

from __future__ import annotations

from collections import Counter

import msgspec

from ...storage.model import format_ms
from .ledger import Ledger
from .peers import DeviceRecord
from .revoked import set_aside


class Device(msgspec.Struct, frozen=True):
    """A device that published something, or said who it is; ``name`` and what follows is None where it did not.

    ``published`` is the number of its last publication that is known here, ``behind`` how many publications of this
    device it had not read when it last said so, ``set_aside`` how many of its segments came under a key that had been
    revoked.
    """

    id: str
    this: bool
    published: int
    retired: bool = False
    name: str | None = None
    platform: str | None = None
    version: str | None = None
    seen_at: str | None = None
    behind: int | None = None
    set_aside: int = 0


def devices(ledger: Ledger) -> list[Device]:
    """Every device of a vault that is known here, this one first."""
    own = ledger.store.device
    records = {device: msgspec.json.decode(content, type=DeviceRecord) for device, _, content in ledger.peers()}
    cursor, count = ledger.cursor(), Counter(name.device for name in set_aside(ledger))
    adopted = {each for record in records.values() for each in record.retired.items()}
    retired = {device for device, last in adopted if cursor.of(device).last <= last}  # else it came back
    found = [
        _device(id_, own, cursor.of(id_).last, records.get(id_), sent=cursor.of(own).last, retired=id_ in retired)
        for id_ in {own, *records, *cursor.devices, *count}
    ]
    found = [msgspec.structs.replace(each, set_aside=count[each.id]) for each in found]
    return sorted(found, key=lambda each: (not each.this, each.retired, each.name or "", each.id))


def _device(id_: str, own: str, published: int, record: DeviceRecord | None, *, sent: int, retired: bool) -> Device:
    if record is None:
        return Device(id_, id_ == own, published, retired)
    has = sum(last - first + 1 for first, last in record.applied.get(own, []))
    return Device(
        id_,
        id_ == own,
        published,
        retired,
        record.name,
        record.platform,
        record.version,
        format_ms(record.written_ms),
        None if id_ == own else max(sent - has, 0),
    )
