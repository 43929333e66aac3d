"""Where calls of the store run: a daemon gives them a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Work(Protocol):
    """Runs a call of the store."""

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        """Run it and wait for it."""
        ...


async def directly(call: Callable[[], _T], /) -> _T:
    """Run a call of the store here and now."""
    return call()
