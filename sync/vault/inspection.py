"""Reading a whole remote, to say what of it does not open.

Nothing is written, neither here nor there (tests/unit/test_vault_inspection.py).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...storage.errors import NewerFormat, ObjectDamaged, ObjectMissing
from .names import DEVICES, LOG, DeviceName, SegmentName
from .remote import Remote
from .seal import UnknownKey
from .segment import Sealer
from .work import Work

Told = Callable[[int, int], None]
"""Is told how many of how many objects are read."""


class Findings(msgspec.Struct):
    """What a remote holds: segments, their bytes, and why some of them do not open, by name."""

    segments: int = 0
    size_bytes: int = 0
    damaged: dict[str, str] = {}


async def inspect(remote: Remote, sealer: Sealer, *, work: Work, told: Told = lambda *_: None) -> Findings:
    """Read and open every segment of a remote, and what devices say of themselves. Raises errors of the remote."""
    names = [name for name in await remote.list(LOG) if SegmentName.parse(name) is not None]
    records = [name for name in await remote.list(DEVICES) if DeviceName.parse(name) is not None]
    found = Findings()
    for name in records:
        try:
            sealed = await remote.get(name)
            await work(lambda name=name, sealed=sealed: sealer.content(sealed, name=name))
        except ObjectMissing:
            continue
        except (ObjectDamaged, NewerFormat, UnknownKey) as exc:
            found.damaged[name] = exc.line
    for at, name in enumerate(names, start=1):
        try:
            sealed = await remote.get(name)
            found.size_bytes += len(sealed)
            await work(lambda name=name, sealed=sealed: sealer.open(sealed, name=name))
        except ObjectMissing:
            continue  # written again meanwhile, as a listing that is made now would show
        except (ObjectDamaged, NewerFormat, UnknownKey) as exc:
            found.damaged[name] = exc.line
        found.segments += 1
        told(at, len(names))
    return found
