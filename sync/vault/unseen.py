"""What was sent and no listing has shown yet: sent again where the next listing lacks it.

Something may answer in the remote's place, as the page of a network that wants a sign-in does: it takes every PUT and
keeps nothing. The bytes and the name are the same, so a listing that only lags does no harm. It is an intent again
before it is put, since a PUT that breaks off may spoil what was there after all. What was replaced or taken out
meanwhile is not sent again, for what was purged may be in it (tests/unit/test_vault_unseen.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection

from ...storage.errors import RemoteRefused
from .own_log import Intent, OwnLog
from .work import Work

MOST_BYTES = 8 * 1024 * 1024
MOST_TIMES = 16
"""So often something is put again; where it is missing still, a remote keeps nothing, and it is healed as any loss."""


class Unseen:
    """Remembers as long as the process runs. What is too much to remember is missed and healed as any loss."""

    def __init__(self, log: OwnLog, *, work: Work) -> None:
        self._log, self._work = log, work
        self._sent: dict[str, Intent] = {}
        self._again: Counter[str] = Counter()

    def sent(self, intent: Intent) -> None:
        """The remote said that it has this."""
        self._sent[intent.name] = intent
        while sum(len(each.sealed) for each in self._sent.values()) > MOST_BYTES:
            del self._sent[next(iter(self._sent))]

    async def missing(self, listing: Collection[str]) -> list[Intent]:
        """What a listing lacks and should show; what it shows is forgotten."""
        names = self._sent.keys() - set(listing)
        if names:
            names &= await self._work(lambda: {each.name for each in self._log.standing()})
        self._sent = {name: self._sent[name] for name in names if self._again[name] < MOST_TIMES}
        self._again = Counter({name: times for name, times in self._again.items() if name in names})
        return sorted(self._sent.values(), key=lambda intent: intent.number)

    async def send_again(self, missing: list[Intent], *, send: Callable[[Intent], Awaitable[None]]) -> list[str]:
        """Send again what is missing; return what was for the first time, and may well be there now.

        Raises `RemoteUnreachable`; what was not reached waits as what was never sent.
        """
        self._sent.clear()
        first: list[str] = []
        for intent in await self._work(lambda: self._log.intend_again(missing)):
            try:
                await send(intent)
            except RemoteRefused:  # it takes nothing just now, and may still have something for us
                break
            self._again[intent.name] += 1
            if self._again[intent.name] == 1:
                first.append(intent.name)
        return first
