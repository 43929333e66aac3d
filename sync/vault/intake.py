"""Taking in what lies on a remote: objects are fetched a few ahead, opened, and applied in order, slice by slice.

What does not open, or cannot be applied, is set aside, named, and tried again ever more seldom; the others go on
(tests/unit/test_vault_engine.py, tests/contract/test_hostile_remote.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...storage.apply import Applied, apply, slices
from ...storage.change import Batch, SessionChange
from ...storage.deletion import PURGED
from ...storage.errors import (
    LocalStorageError,
    NewerFormat,
    ObjectDamaged,
    ObjectMissing,
    RemoteRefused,
    RemoteUnreachable,
)
from ...storage.purged import Purged
from ...storage.room import check_room
from ...storage.steps import step
from ...storage.store import Store
from .lease import Apart, Lease
from .ledger import Ledger
from .names import SegmentName
from .own_log import OwnLog
from .plan import Fetching
from .progress import Course
from .remote import Remote
from .report import SyncReport
from .revoked import Revocations, RevokedKey
from .rotation import Keys
from .seal import UnknownKey
from .segment import Sealer, batch_of
from .work import Work

AHEAD = 8
AHEAD_BYTES = 8 * 1024 * 1024
"""What is fetched and waits for its turn takes about this much at most; what alone takes more is not fetched before."""

_EXPECTED_BYTES = 1024 * 1024
_SMALL_BYTES = 2 * 1024 * 1024
_RETRY_FIRST_MS = 5_000
_RETRY_LAST_MS = 30 * 60_000

_T = TypeVar("_T")
_log = logging.getLogger("steno.vault")


class Intake:
    """Takes segments in. ``is_apart``: something was written here while the store was catching up with its own log.

    ``met_revoked``: something came under a key that had been revoked.
    """

    def __init__(
        self, store: Store, ledger: Ledger, log: OwnLog, remote: Remote, sealer: Sealer,
        *, keys: Keys, revocations: Revocations, course: Course, now_ms: Callable[[], int], work: Work, beside: Work,
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._remote, self._sealer = store, ledger, remote, sealer
        self._keys, self._revocations = keys, revocations
        self._now_ms, self._work, self._beside = now_ms, work, beside
        self._course = course
        self._tried_ms: dict[str, int] = {}
        self.lease = Lease(store, ledger, log, work=work, read=self.read)
        self.is_apart = self.met_revoked = False

    def retry_all(self) -> None:
        """Let what was set aside be tried again at once."""
        self._tried_ms.clear()

    async def read(self, name: SegmentName) -> Batch:
        """What a segment says. Raises errors of the remote, and those of an object that does not open."""
        return await self._opened(name, await self._remote.get(name.path))

    async def set_revoked_aside(self, names: list[SegmentName]) -> None:
        """Set aside what came under a key that had been revoked."""
        for name in names if await self._work(self._revocations.may_refuse) else []:
            try:
                sealed = await self._remote.get(name.path)
                await self._work(lambda name=name, sealed=sealed: self._revocations.check(name, sealed))
            except RevokedKey as exc:
                await self.set_aside(name, exc.line)
            except (ObjectDamaged, ObjectMissing, NewerFormat):
                continue

    async def fetch(self, names: Iterator[SegmentName], fetching: Fetching, report: SyncReport) -> None:
        """Get objects a few ahead, and apply them in order."""
        if fetching.total > 1:
            self._course.begin("receiving", total=fetching.total)
        try:
            await self._fetch(names, fetching, report)
        finally:
            self._course.end()

    async def _fetch(self, names: Iterator[SegmentName], fetching: Fetching, report: SyncReport) -> None:
        done = 0
        coming: deque[_Coming] = deque()
        largest_bytes = _EXPECTED_BYTES

        async def fetched(name: SegmentName, turn: asyncio.Event) -> bytes:
            nonlocal largest_bytes
            try:
                sealed = await self._remote.get(name.path, limit_bytes=AHEAD_BYTES)
            except ObjectDamaged:  # whoever lists eight such at once, and they may be rubbish, takes all our memory
                largest_bytes = max(largest_bytes, AHEAD_BYTES)
                await turn.wait()
                sealed = await self._remote.get(name.path)
            largest_bytes = max(largest_bytes, len(sealed))
            return sealed

        def has_room() -> bool:
            return _has_room([each.sealed for each in coming], largest_bytes=largest_bytes)

        try:
            while True:
                while has_room() and (name := next(names, None)) is not None:
                    turn = asyncio.Event()
                    coming.append(_Coming(name, asyncio.create_task(fetched(name, turn)), turn))
                if not coming:
                    return
                coming[0].turn.set()
                for each in itertools.islice(coming, 2):  # the next one is opened while this one is applied
                    if each is coming[0] or each.is_small:
                        each.content = each.content or asyncio.create_task(self._content(each))
                before = report.received_messages
                if not await self._take(coming[0], report):
                    fetching.missed(coming[0].name)
                taken = coming.popleft()
                done += 1
                size_bytes = 0 if taken.sealed.exception() else len(taken.sealed.result())
                del taken  # before the next one is there
                self._course.reached(done, size_bytes=size_bytes, messages=report.received_messages - before)
        finally:
            tasks = [task for each in coming for task in (each.sealed, each.content) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def due(self, name: str, aside: dict[str, int]) -> bool:
        """Say whether an object that was set aside may be tried again: ever more seldom."""
        since_ms = aside.get(name)
        if since_ms is None:
            return True
        now_ms = self._now_ms()
        wait_ms = min(max(_RETRY_FIRST_MS, (now_ms - since_ms) // 2), _RETRY_LAST_MS)
        if 0 <= now_ms - self._tried_ms.get(name, 0) < wait_ms:  # else the clock was put back
            return False
        self._tried_ms[name] = now_ms
        return True

    async def _content(self, coming: _Coming) -> bytes:
        """What an object holds, as soon as it is there."""
        return await self._unsealed(coming.name, await coming.sealed)

    async def _batch(self, coming: _Coming) -> Batch:
        """What an object says; what it was decoded from is let go, since both together are large."""
        content = await (coming.content or self._content(coming))  # raises what fetching did
        coming.content = None
        step("pull.fetched")
        name, sealed = coming.name, coming.sealed.result()
        await self._work(lambda: check_room(self._store.path, taking=len(sealed)))
        await self._work(lambda: self._revocations.check(name, sealed))
        return await self._work(lambda: batch_of(content, name=name.path))

    async def _take(self, coming: _Coming, report: SyncReport) -> bool:
        """Apply an object, or set it aside; say whether it was applied."""
        name = coming.name
        try:
            done = await self._apply_slices(name, await self._batch(coming))
        except (LocalStorageError, RemoteUnreachable, RemoteRefused):
            raise
        except Apart:
            self.is_apart = True
            return False
        except ObjectMissing:
            # Compacted meanwhile, or a listing that ran ahead: forgotten when it is listed no more, else tried again.
            await self.set_aside(name, f"remote object {name.path} is listed and not there")
            return False
        except (ObjectDamaged, NewerFormat, UnknownKey, RevokedKey) as exc:
            self.met_revoked = self.met_revoked or isinstance(exc, RevokedKey)
            await self.set_aside(name, exc.line)
            return False
        except Exception as exc:  # noqa: BLE001  a bug that one object meets must not hold up the others
            _log.exception("%s could not be applied", name.path)
            what = f"{type(exc).__name__}: {exc}"
            await self.set_aside(name, f"remote object {name.path} cannot be applied ({what})")
            return False
        report.received_segments += 1
        report.received_messages += done.messages
        report.changed_sessions += done.sessions
        report.rescued += done.rescued
        for each in done.rescued:
            _log.info("%s", each)  # a command says it itself
        return True

    async def set_aside(self, name: SegmentName, problem: str) -> None:
        """Name an object that cannot be taken in, and try it again later."""
        now_ms = self._now_ms()
        self._tried_ms[name.path] = now_ms
        await self._work(lambda: self._ledger.set_aside(name.path, problem, now_ms=now_ms))

    async def _unsealed(self, name: SegmentName, sealed: bytes) -> bytes:
        try:
            return await self._beside(lambda: self._sealer.content(sealed, name=name.path))
        except UnknownKey as exc:
            if not await self._keys.find(self._remote, exc.key_id):
                raise
            return await self._beside(lambda: self._sealer.content(sealed, name=name.path))

    async def _opened(self, name: SegmentName, sealed: bytes) -> Batch:
        content = await self._unsealed(name, sealed)
        await self._work(lambda: self._revocations.check(name, sealed))
        return await self._work(lambda: batch_of(content, name=name.path))

    async def _apply_slices(self, name: SegmentName, batch: Batch) -> Applied:
        done = Applied()
        for part, last in _with_last(list(slices(batch)) or [[]]):  # also of one that says nothing
            await self._work(lambda part=part, last=last: self._apply(name, batch, part, done, last=last))
            step("pull.slice")
        return done

    def _apply(self, name: SegmentName, batch: Batch, part: list[Any], done: Applied, *, last: bool) -> None:
        with self._store.transaction():
            if name.device == self._store.device:
                self.lease.check(name)
            apply(self._store, batch, part, done=done)
            if last:
                self._record(name, batch, done)

    def _record(self, name: SegmentName, batch: Batch, done: Applied) -> None:
        """Remember that a segment is applied. One of which records were refused stays named and is tried again."""
        ours = {number for number, device in batch.devices.items() if device == name.device}
        own = [born.clock for change in batch.sessions for born in change.messages if born.author // 4 in ours]
        if name.device == self._store.device:
            self.lease.adopt(name, batch)
        self._ledger.record(name, gapless_clock=0 if done.refused else max(own, default=0))
        self._ledger.met(name.device, batch.writers())
        if name.device != self._store.device and any(map(self._tells_of_purge, batch.sessions)):
            self._ledger.meet_purge()
        if batch.stands_for:
            self._ledger.stand_in(name, batch.stands_for)
        if done.refused:
            now_ms = self._now_ms()
            self._tried_ms[name.path] = now_ms
            count = len(done.refused)
            what = "a record is" if count == 1 else f"{count} records are"
            problem = f"in remote object {name.path} {what} refused ({done.refused[0]})"
            self._ledger.set_aside(name.path, problem, now_ms=now_ms)

    def _tells_of_purge(self, change: SessionChange) -> bool:
        """Say whether a change that is applied purges something. One of a later life only names the purge."""
        purged = [each.message for each in change.registers if each.path == PURGED]
        is_ended = None in purged and Purged(self._store).ended(change.id) >= change.life
        return is_ended or any(message is not None for message in purged)


class _Coming:
    """An object on its way, and what it holds once that is asked for."""

    def __init__(self, name: SegmentName, sealed: asyncio.Task[bytes], turn: asyncio.Event) -> None:
        self.name, self.sealed, self.turn = name, sealed, turn
        self.content: asyncio.Task[bytes] | None = None

    @property
    def is_small(self) -> bool:
        """Whether it is there, and what it holds may be kept beside what the one before it holds."""
        sealed = self.sealed
        is_here = sealed.done() and not sealed.cancelled() and not sealed.exception()
        return is_here and len(sealed.result()) <= _SMALL_BYTES


def _has_room(coming: list[asyncio.Task[bytes]], *, largest_bytes: int) -> bool:
    """Say whether one more may be fetched; what is under way is taken to be as large as the largest so far."""
    here = [len(task.result()) for task in coming if task.done() and not task.cancelled() and not task.exception()]
    size = sum(here) + (len(coming) - len(here) + 1) * max([largest_bytes, *here])
    return not coming or (len(coming) < AHEAD and size <= AHEAD_BYTES)


def _with_last(parts: list[_T]) -> list[tuple[_T, bool]]:
    return [(part, at == len(parts)) for at, part in enumerate(parts, start=1)]
