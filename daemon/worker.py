"""A thread of its own for a store of its own: SQLite and files never stop the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..storage.store import Store

_T = TypeVar("_T")


class Worker:
    """One thread and the store that is used on it alone."""

    def __init__(self, name: str, open_store: Callable[[], Store]) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"steno-{name}")
        try:
            self.store = self.thread.submit(open_store).result()
        except BaseException:
            self.thread.shutdown()
            raise

    async def run(self, call: Callable[[], _T], /) -> _T:
        """Run a call on the thread. Cancelled, it waits until a call that began has ended: no write is half-watched."""
        running = self.thread.submit(call)
        future = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not running.cancel():
                await asyncio.wait([future])
                future.exception()  # looked at, so that nobody complains that it was not
            raise

    def close(self) -> None:
        """Close the store and end the thread, after what runs on it."""
        self.thread.submit(self.store.close)
        self.thread.shutdown(wait=True)
