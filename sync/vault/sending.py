"""Sending what was written here: one segment after the other is sealed and kept, and several travel at once.

    seal 6 → keep → PUT 6 ┐
    seal 7 → keep → PUT 7 ┤ acknowledged in the order of their numbers

Whoever looks meanwhile may see 7 and not yet 6: a hole, as a listing that lags shows one, named until 6 is there.
Killed anywhere, what is not acknowledged is sent again, the same bytes under the same names
(tests/e2e/test_crash.py, tests/unit/test_vault_sending.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple

from ...storage.change import encode_batch, local_changes, sessions_in
from ...storage.errors import RemoteRefused
from ...storage.steps import step
from ...storage.store import Store
from .names import Draw, SegmentName, new_id
from .own_log import Intent, OwnLog, Segment, hashes_of
from .progress import Course
from .remote import Remote
from .report import SyncReport
from .seal import sealed_with
from .segment import Sealer
from .unseen import Unseen
from .work import Work

SEGMENT_BYTES = 4 * 1024 * 1024
IN_FLIGHT = 8
IN_FLIGHT_BYTES = 16 * 1024 * 1024

_Going = deque[tuple[Intent, "asyncio.Task[None]"]]


class Sender:
    """Publishes what stands in the feed of one home."""

    def __init__(
        self, store: Store, log: OwnLog, remote: Remote, sealer: Sealer,
        *, unseen: Unseen, course: Course, now_ms: Callable[[], int], draw: Draw, work: Work, beside: Work,
    ) -> None:  # fmt: skip
        self._store, self._log, self._remote, self._sealer, self._unseen = store, log, remote, sealer, unseen
        self._now_ms, self._draw, self._work, self._beside = now_ms, draw, work, beside
        self._course = course
        self._reached: dict[int, int] = {}
        """By number of a segment that is on its way: how much of the feed is sent with it, counted from the first."""

    async def send(self, intent: Intent) -> None:
        """Put one segment that is kept."""
        await self._put(intent)
        await self._acknowledge(intent, SyncReport())

    async def send_pending(self, report: SyncReport) -> None:
        """Send what waits since an earlier time. Raises errors of the remote."""
        await self._all(self._waiting(), report)

    async def try_to_send_pending(self, report: SyncReport) -> RemoteRefused | None:
        """Send what waits; a remote that takes nothing more may still have something for us."""
        try:
            await self.send_pending(report)
        except RemoteRefused as exc:
            return exc
        return None

    async def push(self, report: SyncReport) -> None:
        """Send all that was written here. Raises errors of the remote."""
        await self._all(self._written(), report)

    async def _waiting(self) -> AsyncGenerator[Intent]:
        for intent in await self._work(self._log.pending):
            yield intent

    async def _written(self) -> AsyncGenerator[Intent]:
        """Seal and keep what was written here; while one segment is sealed, the next is read."""
        since, floor = await self._work(lambda: self._log.position)
        following = await self._work(lambda: self._read(since, floor))
        if not following.complete:
            self._course.begin("sending", total=await self._work(lambda: self._store.last_seq) - since)
        while following is not None:
            here = following
            intent, following = await self._next(here, floor)
            if intent is not None:
                self._reached[intent.number] = here.seq - since
                yield intent

    async def _next(self, read: _Read, floor: int) -> tuple[Intent | None, _Read | None]:
        """The segment of what was read, and what is read next; None at the end."""

        async def following() -> _Read | None:
            return None if read.complete else await self._work(lambda: self._read(read.seq, floor))

        begun = await self._work(lambda: self._begin(read))
        if begun is None:
            return None, await following()
        sealing = asyncio.ensure_future(self._beside(lambda: self._sealed(begun)))
        try:
            await asyncio.sleep(0)  # it begins
            next_read = await following()
        finally:
            sealed = await sealing
        return await self._work(lambda: self._keep(read, begun, sealed)), next_read

    async def _all(self, intents: AsyncGenerator[Intent], report: SyncReport) -> None:
        """Put segments, several at once; none is begun behind one that failed."""
        going: _Going = deque()
        try:
            async with aclosing(intents):
                async for intent in intents:
                    going.append((intent, asyncio.create_task(self._put(intent))))
                    await asyncio.sleep(0)  # it sets out before the next one is sealed
                    while going and (going[0][1].done() or _is_full(going)):
                        await self._arrived(going, report)
            while going:
                await self._arrived(going, report)
        finally:
            self._course.end()
            self._reached.clear()
            for _, task in going:
                task.cancel()
            await asyncio.gather(*(task for _, task in going), return_exceptions=True)

    async def _arrived(self, going: _Going, report: SyncReport) -> None:
        intent, task = going[0]
        await task
        await self._acknowledge(intent, report)
        going.popleft()
        if intent.number in self._reached:
            self._course.reached(self._reached.pop(intent.number), size_bytes=len(intent.sealed))

    async def _put(self, intent: Intent) -> None:
        step("push.intended")
        await self._remote.put(intent.name, intent.sealed)
        step("push.put")

    async def _acknowledge(self, intent: Intent, report: SyncReport) -> None:
        await self._work(lambda: self._log.acknowledge(intent))
        step("push.acknowledged")
        self._unseen.sent(intent)
        report.sent_segments += 1
        report.sent_bytes += len(intent.sealed)

    def _read(self, since: int, floor: int) -> _Read:
        return _Read(since, *local_changes(self._store, since=since, floor=floor, max_bytes=SEGMENT_BYTES))

    def _begin(self, read: _Read) -> _Begun | None:
        """Give what was read a number; None where nothing was written here."""
        batch = read.batch
        if not batch and self._log.owes_sign:
            batch = encode_batch({}, [])
        if not batch:
            if read.seq > read.since:
                self._log.move(read.seq, complete=read.complete)
            return None
        number = self._log.next_number(self._store.device)
        name = SegmentName(self._store.device, number, number, 0, new_id(self._draw)).path
        step("push.batched")
        return _Begun(number, name, batch)

    def _sealed(self, begun: _Begun) -> _Sealed:
        sealed = self._sealer.close(begun.batch, name=begun.name)
        return _Sealed(sealed, sealed_with(sealed, name=begun.name), hashes_of(sessions_in(begun.batch)))

    def _keep(self, read: _Read, begun: _Begun, sealed: _Sealed) -> Intent:
        intent = Intent(begun.number, begun.name, sealed.object)
        segment = Segment(begun.name, len(begun.batch), sealed.key, read.seq, sealed.sessions)
        self._log.move(read.seq, complete=read.complete, intent=intent, segment=segment, now_ms=self._now_ms())
        return intent


class _Read(NamedTuple):
    """What stands behind number ``since`` of the feed, up to ``seq``."""

    since: int
    batch: bytes
    seq: int
    complete: bool


class _Begun(NamedTuple):
    """A segment that has a name and is not sealed yet."""

    number: int
    name: str
    batch: bytes


class _Sealed(NamedTuple):
    """A sealed object, the id of its key, and the hashes of its sessions."""

    object: bytes
    key: str
    sessions: bytes


def _is_full(going: _Going) -> bool:
    return len(going) >= IN_FLIGHT or sum(len(intent.sealed) for intent, _ in going) >= IN_FLIGHT_BYTES
