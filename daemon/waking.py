"""What wakes the jobs of the daemon."""

from __future__ import annotations

import asyncio


class Signal:
    """Something may have happened: set from anywhere on the loop, waited for by one job."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self, *_: object) -> None:
        """Say that something may have happened."""
        self._event.set()

    def is_set(self) -> bool:
        """Say whether something may have happened that nobody has heard yet."""
        return self._event.is_set()

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait until it is set, and clear it; False when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


async def either(first: Signal, second: Signal, timeout_s: float) -> tuple[bool, bool]:
    """Wait until one of two signals is set or the time is over; which of them were."""
    waits = [asyncio.ensure_future(each.wait(timeout_s)) for each in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return tuple(wait.done() and wait.result() for wait in waits)  # pyright: ignore[reportReturnType]
    finally:
        for wait in waits:
            wait.cancel()
