"""What a service can do, found out with one small object of our own.

Sync takes services as they are: it works where a listing lags or nothing can be deleted, only slower or larger. So what
is found is said once, when a vault is made, and nothing is decided by it (tests/unit/test_vault_probe.py).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from ...storage.errors import ObjectMissing, RemoteRefused
from .names import Draw, new_id
from .remote import Remote

SLOW_S = 1.0


async def remarks_on(remote: Remote, *, draw: Draw, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """What a person should know of this service, one line each; [] where it does all that is wanted.

    Raises what the remote raises where it can neither put nor list.
    """
    # A name of nobody's: a sync that meets it leaves it alone.
    name, data = f"probe.{new_id(draw)}", draw(64)
    remarks: list[str] = []
    began = clock()
    await remote.put(name, data)
    try:
        if name not in await remote.list(""):
            remarks.append("its listings lag behind what is put there: other devices will see changes later")
        if await _got(remote.get(name)) != data:
            remarks.append("it does not give back at once what was put there: other devices will see changes later")
    finally:
        refused = await _refused(remote.delete(name))
    if refused is not None:
        remarks.append(f"it lets nothing be deleted, so what is out of date stays there and takes room ({refused})")
    took_s = (clock() - began) / 4
    if took_s > SLOW_S:
        remarks.append(f"it takes {took_s:.1f} s for a request: sync will be slow, nothing is lost")
    return remarks


async def _got(call: Awaitable[bytes]) -> bytes | None:
    try:
        return await call
    except ObjectMissing:
        return None


async def _refused(call: Awaitable[None]) -> RemoteRefused | None:
    try:
        await call
    except RemoteRefused as exc:
        return exc
    return None
