"""Push and pull of one home: carries out what `plan` decides.

The engine reads no clock and draws nothing at random itself: both come in. Store calls run
through ``work``, so that a daemon can give them a thread. Killed anywhere it resumes: what is
sent is kept until it is acknowledged, what is applied is recorded with its last slice
(tests/e2e/test_crash.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from ...storage.apply import Applied, apply, slices
from ...storage.change import VERSION, Batch, decode_batch, local_changes
from ...storage.errors import (
    LocalStorageError,
    NewerFormat,
    NoVault,
    ObjectDamaged,
    ObjectMissing,
    OtherVault,
    RemoteRefused,
    RemoteUnreachable,
)
from ...storage.steps import step
from ...storage.store import Store
from .ledger import Intent, Ledger
from .names import Draw, SegmentName, new_id
from .plan import PullPlan, plan_pull
from .remote import Remote
from .seal import SALT_BYTES, Keyring, UnknownKey, pack, seal, unpack, unseal
from .vault import vault_at

SEGMENT_BYTES = 4 * 1024 * 1024
PREFETCH = 4
_RETRY_FIRST_MS = 5_000
_RETRY_LAST_MS = 30 * 60_000

_T = TypeVar("_T")
_log = logging.getLogger("steno.vault")


class Work(Protocol):
    """Runs a call of the store."""

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        """Run it and wait for it."""
        ...


class SyncReport(msgspec.Struct):
    """What a sync did, and what it could not do. ``rescued``: what was purged elsewhere and kept here, and where."""

    sent_segments: int = 0
    sent_bytes: int = 0
    received_segments: int = 0
    received_messages: int = 0
    changed_sessions: int = 0
    pending_segments: int = 0
    rescued: list[str] = []
    problems: list[str] = []

    @property
    def complete(self) -> bool:
        """Say whether nothing is left to do or to report."""
        return not self.problems and not self.pending_segments


async def directly(call: Callable[[], _T], /) -> _T:
    """Run a call of the store here and now."""
    return call()


class VaultEngine:
    """One home's way to its vault. One process at a time has one (``sync.lock``)."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        *,
        vault: str,
        keyring: Keyring,
        now_ms: Callable[[], int],
        draw: Draw,
        work: Work = directly,
    ) -> None:
        self._store = store
        self._remote = remote
        self._ledger = Ledger(store, vault)
        self._vault = vault
        self._keyring = keyring
        self._now_ms = now_ms
        self._draw = draw
        self._work = work
        self._verified = False
        self._tried_ms: dict[str, int] = {}
        self._standing: list[str] = []
        self._busy = asyncio.Lock()

    async def sync(self) -> SyncReport:
        """Send what waits, look what is new, take it in, send what was written here. Raises errors of the remote."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            refused = await self._try_to_send(report)
            await self._pull(report)
            if refused is not None:
                raise refused
            await self._push(report)
            return await self._finish(report)

    async def push(self) -> SyncReport:
        """Send what was written here, without looking at the remote: for right after a `sync`."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            await self._send_pending(report)
            await self._push(report)
            return await self._finish(report)

    async def pull(self) -> SyncReport:
        """Look what is new and take it in: one LIST where nothing is."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            await self._pull(report)
            return await self._finish(report)

    async def _verify(self) -> None:
        """Make sure, once, that the remote is the vault that this home belongs to."""
        if self._verified:
            return
        found = await vault_at(self._remote)
        if found != self._vault:
            raise OtherVault(remote=self._remote.address, found=found, expected=self._vault)
        self._verified = True

    async def _try_to_send(self, report: SyncReport) -> RemoteRefused | None:
        """Send what waits; a remote that takes nothing more may still have something for us."""
        try:
            await self._send_pending(report)
        except RemoteRefused as exc:
            return exc
        return None

    async def _send_pending(self, report: SyncReport) -> None:
        for intent in await self._work(self._ledger.pending):
            await self._send(intent, report)

    async def _send(self, intent: Intent, report: SyncReport) -> None:
        step("push.intended")
        await self._remote.put(intent.name, intent.sealed)
        step("push.put")
        await self._work(lambda: self._ledger.acknowledge(intent))
        step("push.acknowledged")
        report.sent_segments += 1
        report.sent_bytes += len(intent.sealed)

    async def _push(self, report: SyncReport) -> None:
        complete = False
        while not complete:
            intent, complete = await self._work(self._intend)
            if intent is not None:
                await self._send(intent, report)

    def _intend(self) -> tuple[Intent | None, bool]:
        """Seal the next segment and keep it; None where nothing was written here."""
        since, floor = self._ledger.position
        batch, seq, complete = local_changes(self._store, since=since, floor=floor, max_bytes=SEGMENT_BYTES)
        if not batch:
            if seq > since:
                self._ledger.move(seq, complete=complete)
            return None, complete
        number = self._ledger.next_number(self._store.device)
        name = SegmentName(self._store.device, number, number, 0, new_id(self._draw)).path
        step("push.batched")
        sealed = seal(
            pack(batch), key=self._keyring.current, vault_id=self._vault, name=name, salt=self._draw(SALT_BYTES)
        )
        intent = Intent(number, name, sealed)
        self._ledger.move(seq, complete=complete, intent=intent)
        return intent, complete

    async def _pull(self, report: SyncReport) -> None:
        listing = await self._remote.list("log/")
        plan, aside = await self._work(lambda: self._plan(listing))
        if plan.lost:
            await self._account_for(plan)
        self._standing = _problems(plan)
        fetch = [name for name in plan.fetch if self._due(name.path, aside)]
        await self._fetch(fetch, report)
        await self._work(lambda: self._close_pull(set(plan.holes), aside.keys() - set(listing)))

    def _plan(self, listing: list[str]) -> tuple[PullPlan, dict[str, int]]:
        ledger = self._ledger
        plan = plan_pull(
            listing,
            device=self._store.device,
            cursor=ledger.cursor(),
            applied=ledger.applied(),
            pending={intent.name for intent in ledger.pending()},
        )
        return plan, {problem.name: problem.since_ms for problem in ledger.problems()}

    def _close_pull(self, missing: set[str], gone: set[str]) -> None:
        if gone:
            self._ledger.forget(gone)
        aside = (SegmentName.parse(problem.name) for problem in self._ledger.problems())
        self._ledger.keep_gaps(missing | {name.device for name in aside if name is not None})

    async def _account_for(self, plan: PullPlan) -> None:
        """Objects are gone: make sure that this still is the vault, and not an empty directory in its place."""
        try:
            self._verified = False
            await self._verify()
        except NoVault as exc:
            raise NoVault(remote=f"{self._remote.address}; {len(plan.lost)} objects that were there are gone") from exc

    def _due(self, name: str, aside: dict[str, int]) -> bool:
        """Say whether an object that was set aside may be tried again: ever more seldom."""
        since_ms = aside.get(name)
        if since_ms is None:
            return True
        now_ms = self._now_ms()
        wait_ms = min(max(_RETRY_FIRST_MS, (now_ms - since_ms) // 2), _RETRY_LAST_MS)
        if now_ms - self._tried_ms.get(name, 0) < wait_ms:
            return False
        self._tried_ms[name] = now_ms
        return True

    async def _fetch(self, names: list[SegmentName], report: SyncReport) -> None:
        """Get objects a few ahead, and apply them in order."""
        coming: list[tuple[SegmentName, asyncio.Task[bytes]]] = []
        waiting = iter(names)
        try:
            while True:
                while len(coming) < PREFETCH and (name := next(waiting, None)) is not None:
                    coming.append((name, asyncio.create_task(self._remote.get(name.path))))
                if not coming:
                    return
                name, task = coming.pop(0)
                await self._take(name, task, report)
        finally:
            for _, task in coming:
                task.cancel()
            await asyncio.gather(*(task for _, task in coming), return_exceptions=True)

    async def _take(self, name: SegmentName, task: asyncio.Task[bytes], report: SyncReport) -> None:
        try:
            sealed = await task
            step("pull.fetched")
            batch = await self._work(lambda: self._open(name.path, sealed))
            done = await self._apply_slices(name, batch)
        except (LocalStorageError, RemoteUnreachable, RemoteRefused):
            raise
        except ObjectMissing:
            # Compacted meanwhile, or a listing that ran ahead: forgotten when it is listed no more, else tried again.
            await self._set_aside(name, f"remote object {name.path} is listed and not there")
            return
        except (ObjectDamaged, NewerFormat, UnknownKey) as exc:
            await self._set_aside(name, str(exc))
            return
        except Exception as exc:  # noqa: BLE001  a bug that one object meets must not hold up the others
            _log.exception("%s could not be applied", name.path)
            what = f"{type(exc).__name__}: {exc}"
            await self._set_aside(name, f"remote object {name.path} cannot be applied ({what})")
            return
        report.received_segments += 1
        report.received_messages += done.messages
        report.changed_sessions += done.sessions
        report.rescued += done.rescued
        for each in done.rescued:
            _log.warning("%s", each)

    async def _set_aside(self, name: SegmentName, problem: str) -> None:
        now_ms = self._now_ms()
        self._tried_ms[name.path] = now_ms
        await self._work(lambda: self._ledger.set_aside(name.path, problem, now_ms=now_ms))

    async def _apply_slices(self, name: SegmentName, batch: Batch) -> Applied:
        done = Applied()
        for part, last in _with_last(list(slices(batch))):
            await self._work(lambda part=part, last=last: self._apply(name, batch, part, done, last=last))
            step("pull.slice")
        return done

    def _open(self, name: str, sealed: bytes) -> Batch:
        content = unpack(unseal(sealed, keyring=self._keyring, vault_id=self._vault, name=name), name=name)
        try:
            head: Any = msgspec.msgpack.decode(content, type=tuple[int, msgspec.Raw, msgspec.Raw])
            if head[0] > VERSION:
                raise NewerFormat(name=name)
            return decode_batch(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise ObjectDamaged(name=name, reason=f"its content is no batch: {exc}") from exc

    def _apply(self, name: SegmentName, batch: Batch, part: list[Any], done: Applied, *, last: bool) -> None:
        with self._store.transaction():
            apply(self._store, batch, part, done=done)
            if last:
                self._record(name, batch, done)

    def _record(self, name: SegmentName, batch: Batch, done: Applied) -> None:
        """Remember that a segment is applied. One of which records were refused stays named and is tried again."""
        numbers = {number for number, device in batch.devices.items() if device == name.device}
        own = [born.clock for change in batch.sessions for born in change.messages if born.author // 4 in numbers]
        self._ledger.record(name, gapless_clock=0 if done.refused else max(own, default=0))
        if done.refused:
            now_ms = self._now_ms()
            self._tried_ms[name.path] = now_ms
            problem = f"{len(done.refused)} records in remote object {name.path} are refused ({done.refused[0]})"
            self._ledger.set_aside(name.path, problem, now_ms=now_ms)

    async def _finish(self, report: SyncReport) -> SyncReport:
        def read() -> tuple[int, list[str]]:
            return self._ledger.pending_count(), [problem.problem for problem in self._ledger.problems()]

        report.pending_segments, aside = await self._work(read)
        report.problems = [*aside, *self._standing]
        return report


def _with_last(parts: list[_T]) -> list[tuple[_T, bool]]:
    return [(part, at == len(parts)) for at, part in enumerate(parts, start=1)]


def _problems(plan: PullPlan) -> list[str]:
    problems = [
        f"publications {', '.join(f'{first}-{last}' for first, last in holes)} of device {device} are not on the remote"
        for device, holes in plan.holes.items()
    ]
    if plan.strange:
        problems.append(
            f"{len(plan.strange)} objects on the remote carry this device's id and were not written here "
            f"({plan.strange[0].path}): this home was copied or restored from a backup"
        )
    if plan.lost:
        problems.append(f"{len(plan.lost)} objects that were on the remote are gone ({plan.lost[0].path})")
    return problems
