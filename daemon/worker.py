"""A thread of its own for a store of its own: SQLite and files never stop the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..storage.store import Store

_T = TypeVar("_T")


class Worker:
    """One thread and the store that is used on it alone."""

    def __init__(self, name: str, open_store: Callable[[], Store]) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"steno-{name}")
        self._asked: tuple[Future[None], float] | None = None
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

    def behind_s(self) -> float:
        """How long the thread has owed an answer, as far as that was asked before: it is behind what it runs."""
        if self._asked is None or self._asked[0].done():
            self._asked = self.thread.submit(_answer), time.monotonic()
        return time.monotonic() - self._asked[1]

    def close(self) -> None:
        """Close the store and end the thread, after what runs on it."""
        self.thread.submit(self.store.close)
        self.thread.shutdown(wait=True)


def _answer() -> None:
    """Do nothing, on a thread that goes on."""
