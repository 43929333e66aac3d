"""Where what takes long is run: a daemon gives calls of the store a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Work(Protocol):
    """Runs a call."""

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        """Run it and wait for it."""
        ...


async def directly(call: Callable[[], _T], /) -> _T:
    """Run a call here and now."""
    return call()


async def beside(call: Callable[[], _T], /) -> _T:
    """Run a call that needs no store on some thread: compressing and sealing leave the others a core meanwhile."""
    return await asyncio.to_thread(call)
