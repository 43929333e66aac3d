"""What systemd is told by a service that it started (sd_notify(3), sd_watchdog_enabled(3)); elsewhere nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable


def notify(state: str) -> None:
    """Tell systemd, where it started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())


def watchdog_s() -> float | None:
    """Within how long systemd wants to hear of this process, again and again; None where it does not."""
    pid, usec = os.environ.get("WATCHDOG_PID"), os.environ.get("WATCHDOG_USEC", "")
    if pid not in (None, str(os.getpid())) or not usec.isdecimal() or not int(usec):
        return None
    return int(usec) / 1_000_000


async def keep_watchdog(turns: Callable[[], bool]) -> None:
    """Let systemd hear of us for as long as ``turns`` is true; it starts anew what it does not hear of."""
    within_s = watchdog_s()
    while within_s is not None:
        if turns():
            notify("WATCHDOG=1")
        await asyncio.sleep(within_s / 3)
