"""How long a remote is waited for: every wait of every remote ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 10.0

_T = TypeVar("_T")


async def in_thread(call: Callable[[], _T], /, *, timeout_s: float) -> _T:
    """Run a file system call that may never return (a dead network disk); raise `TimeoutError` when it takes too long.

    It has a thread that nobody waits for, not even the end of the process. (tests/e2e/test_hung_mounts.py)
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def ended(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # pyright: ignore[reportArgumentType]
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as exc:  # noqa: BLE001  raised where it is awaited
            error = exc
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(ended, result, error)

    threading.Thread(target=run, name="steno-disk", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await future
