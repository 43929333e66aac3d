"""How soon a remote answers: it is asked for its smallest object (tests/unit/test_vault_latency.py)."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...storage.errors import OtherVault
from .remote import Remote
from .vault import vault_at


async def latency(
    remote: Remote, *, vault: str, times: int, clock: Callable[[], float] = time.monotonic
) -> list[float]:
    """Ask a remote for its vault so many times; how many milliseconds each answer took, the first with connecting.

    Raises `NoVault`, `OtherVault` and what the remote raises.
    """
    took_ms: list[float] = []
    for _ in range(times):
        began = clock()
        there = await vault_at(remote)
        took_ms.append(round((clock() - began) * 1000, 3))
        if there != vault:
            raise OtherVault(remote=remote.address, found=there, expected=vault)
    return took_ms
