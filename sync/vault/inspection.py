"""Reading a whole remote, to say what of it does not open, and what is not there.

Nothing is written, neither here nor there (tests/unit/test_vault_inspection.py).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...storage.errors import NewerFormat, ObjectDamaged, ObjectMissing
from .names import DEVICES, KEYS, LOG, DeviceName, SegmentName, counting_keys
from .remote import Remote
from .revoked import RevokedKey
from .seal import UnknownKey
from .segment import Sealer
from .work import Work

KEYLESS = "no passphrase opens this vault any more, so nobody can join it: `steno vault passwd` sets one"
Told = Callable[[int, int], None]
"""Is told how many of how many objects are read."""


class Findings(msgspec.Struct):
    """What a remote holds: segments, their bytes, and why some of them do not open, or are set aside, by name.

    ``missing`` is what was there, or is to be, and is not: a line each.
    """

    segments: int = 0
    size_bytes: int = 0
    damaged: dict[str, str] = {}
    revoked: dict[str, str] = {}
    missing: list[str] = []


async def inspect(
    remote: Remote, sealer: Sealer, *, check: Callable[[SegmentName, bytes], None], work: Work,
    told: Told = lambda *_: None,
) -> Findings:  # fmt: skip
    """Read and open every segment of a remote, and what devices say of themselves. Raises errors of the remote.

    ``check`` raises `RevokedKey` for those that came under a key that had been revoked.
    """

    def opened(name: SegmentName, sealed: bytes) -> None:
        sealer.open(sealed, name=name.path)
        check(name, sealed)

    names = [name for name in map(SegmentName.parse, await remote.list(LOG)) if name is not None]
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
            sealed = await remote.get(name.path)
            found.size_bytes += len(sealed)
            await work(lambda name=name, sealed=sealed: opened(name, sealed))
        except ObjectMissing:
            continue  # written again meanwhile, as a listing that is made now would show
        except (ObjectDamaged, NewerFormat, UnknownKey) as exc:
            found.damaged[name.path] = exc.line
        except RevokedKey as exc:
            found.revoked[name.path] = exc.line
        found.segments += 1
        told(at, len(names))
    return found


async def keyless(remote: Remote) -> list[str]:
    """Say so where no key lies on a remote that a passphrase opens."""
    return [] if counting_keys(await remote.list(KEYS)) else [KEYLESS]
