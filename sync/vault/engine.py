"""Push and pull of one home: carries out what `plan` decides.

The engine reads no clock and draws nothing at random itself: both come in. Store calls run
through ``work``, so that a daemon can give them a thread. Killed anywhere it resumes: what is
sent is kept until it is acknowledged, what is applied is recorded with its last slice
(tests/e2e/test_crash.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from ...storage.apply import Applied, apply, slices
from ...storage.change import VERSION, Batch, encode_batch, local_changes, sessions_in
from ...storage.errors import (
    InvalidInput,
    LocalStorageError,
    NewerFormat,
    NoVault,
    ObjectDamaged,
    ObjectMissing,
    OtherVault,
    RemoteRefused,
    RemoteUnreachable,
)
from ...storage.room import check_room
from ...storage.steps import step
from ...storage.store import Store
from .devices import Device, devices
from .healing import Healer
from .inspection import Findings, Told, inspect
from .lease import Apart, Lease
from .ledger import Intent, Ledger, Segment, hashes_of
from .names import DEVICES, LOG, VAULT, Draw, SegmentName, new_id
from .peers import Peers
from .plan import Fetching, PullPlan, plan_pull
from .ranges import Range
from .remote import Remote
from .rewriting import GRACE_MS, Rewriter
from .rotation import FixedKeys, Keys
from .seal import Keyring, UnknownKey
from .segment import Sealer
from .vault import vault_at, vault_json
from .work import Work, directly

SEGMENT_BYTES = 4 * 1024 * 1024
PREFETCH = 4
MOST_NAMED = 100
"""How many of the objects that are set aside a report names."""
_RETRY_FIRST_MS = 5_000
_RETRY_LAST_MS = 30 * 60_000

_SUPERSEDED = (
    "the vault's key was revoked, so nothing more is sent from here: run `steno join URL` again with the passphrase "
    "that it has now"
)

_OUTDATED = "the vault needs a later version of steno, so nothing more is sent from here: upgrade steno on this machine"

_T = TypeVar("_T")
_log = logging.getLogger("steno.vault")


class SyncReport(msgspec.Struct):
    """What a sync did, and what it could not do. ``rescued``: what was purged elsewhere and kept here, and where.

    ``notes`` are what a person should know and need not do anything about.
    """

    sent_segments: int = 0
    sent_bytes: int = 0
    received_segments: int = 0
    received_messages: int = 0
    changed_sessions: int = 0
    healed_segments: int = 0
    pending_segments: int = 0
    rescued: list[str] = []
    notes: list[str] = []
    problems: list[str] = []

    @property
    def complete(self) -> bool:
        """Say whether nothing is left to do or to report."""
        return not self.problems and not self.pending_segments


class VaultEngine:
    """One home's way to its vault. One process at a time has one (``sync.lock``)."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        *,
        vault: str,
        keyring: Keyring | Keys,
        now_ms: Callable[[], int],
        draw: Draw,
        work: Work = directly,
    ) -> None:
        self._store = store
        self._remote = remote
        self._ledger = Ledger(store, vault)
        self._vault = vault
        self._keys = FixedKeys(keyring) if isinstance(keyring, Keyring) else keyring
        self._now_ms = now_ms
        self._draw = draw
        self._work = work
        self._sealer = Sealer(vault, self._keys.held, draw)
        self._rewriter = Rewriter(
            store, self._ledger, remote, self._sealer, now_ms=now_ms, draw=draw, work=work,
            find=lambda key_id: self._keys.find(remote, key_id),
        )  # fmt: skip
        self._healer = Healer(
            store, self._ledger, self._sealer, now_ms=now_ms, draw=draw, work=work, send=self._send_healing
        )
        self._lease = Lease(store, self._ledger, work=work, read=self._read)
        self.peers = Peers(store, self._ledger, remote, self._sealer, now_ms=now_ms, work=work)
        self._verified = False
        self._unsettled = self._apart = False
        self._tried_ms: dict[str, int] = {}
        self._standing: list[str] = []
        self._foreign: list[str] = []
        self._looked = False
        self._unaccounted: list[str] | None = None
        self._unwritten: list[str] = []
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
            await self._scrub()
            return await self._finish(report)

    async def push(self) -> SyncReport:
        """Send what was written here, without looking at the remote: for right after a `sync`."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            await self._send_pending(report)
            await self._push(report)
            await self._scrub()
            return await self._finish(report)

    async def send(self) -> SyncReport:
        """Send what was written here and take nothing in; nothing where another store writes under our id."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            self._keys.refresh()
            listing = await self._remote.list(LOG)
            plan, aside = await self._work(lambda: self._plan(listing))
            self._unsettled = bool(plan.strange)
            for name in [each for each in plan.fetch if each.path in aside][:PREFETCH]:
                with suppress(ObjectDamaged, ObjectMissing, NewerFormat, UnknownKey):
                    await self._read(name)  # it may be sealed with the key that follows a revoked one
            if plan.strange:
                self._standing = _problems(plan)
            else:
                await self._send_pending(report)
                await self._push(report)
                await self._scrub()
            return await self._finish(report)

    async def pull(self) -> SyncReport:
        """Look what is new and take it in: one LIST where nothing is."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            await self._pull(report)
            return await self._finish(report)

    async def tend(self) -> SyncReport:
        """Keep what we published small and few: for when nothing is urgent. Called again it does nothing."""
        async with self._busy:
            report = SyncReport()
            await self._verify()
            if self._keys.superseded:
                return await self._finish(report)
            if await self.peers.tend() or self._unaccounted is None:
                self._unaccounted = await self._work(self._not_here)
                if self._unaccounted:  # it may have come since it was looked last
                    await self._pull(report)
            if not await self._work(self._held_back):
                self._unwritten = await self._rewriter.tend()
            return await self._finish(report)

    def _not_here(self) -> list[str]:
        """What other devices have of each other's logs and this one does not, apart from holes, which are named."""
        have = self._ledger.cursor()
        return [
            f"publications {_ranges(missing)} of device {device} are with other devices, and not on the remote"
            for device, ranges in self.peers.claimed().items()
            if device != self._store.device
            and (missing := have.of(device).missing(have.of(device).last + 1, ranges.last))
        ]

    async def devices(self) -> list[Device]:
        """Every device of the vault that is known here."""
        return await self._work(lambda: devices(self._ledger))

    async def retire(self, device: str) -> SyncReport:
        """Adopt the log of a device that never comes back: publish what it said, and remove its objects.

        Raises `InvalidInput` for this device, one whose log is unknown, and one of which something is missing here.
        """
        async with self._busy:
            report = SyncReport()
            await self._verify()
            await self._pull(report)
            self._check_may_publish()
            await self._push(report)
            listing = await self._remote.list(LOG)
            names = [name for name in map(SegmentName.parse, listing) if name is not None and name.device == device]
            last = await self._work(lambda: self._retiring(device, names))
            kept = [name for name in map(SegmentName.parse, listing) if name is not None and name.device != device]
            await self._healer.heal(names, listed=kept)
            await self.peers.exchange(retire={device: last})
            for name in names:
                await self._remote.delete(name.path)
            return await self._finish(report)

    def _check_may_publish(self) -> None:
        """Raise `InvalidInput` where the vault's key was revoked, or something under our id was not taken in."""
        self._check_key()
        if self._unsettled:
            what = "something on the remote carries this device's id and is not taken in yet"
            raise InvalidInput(what, hint="`steno verify` says what does not open")

    def _check_key(self) -> None:
        """Raise `InvalidInput` where the vault's key was revoked."""
        if self._keys.superseded:
            raise InvalidInput(_SUPERSEDED, hint="`steno join URL` asks for the passphrase that the vault has now")

    def _retiring(self, device: str, names: list[SegmentName]) -> int:
        """The last number of a log that is to be adopted."""
        if device == self._store.device:
            hint = "run it on another device, or `steno vault leave` here"
            raise InvalidInput("this device cannot retire itself", hint=hint)
        have = self._ledger.cursor().of(device)
        if not names and not have.last:
            raise InvalidInput(f"no device {device} wrote to this vault", hint="see `steno devices`")
        aside = {problem.name for problem in self._ledger.problems()}
        missing = [name.path for name in names if name.path in aside or not have.covers(name.first, name.last)]
        if missing or have.holes:
            raise InvalidInput(
                f"not all that device {device} published is here ({', '.join(missing[:3]) or _ranges(have.holes)})",
                hint="`steno sync` first; `steno verify` says what does not open",
            )
        return have.last

    async def inspect(self, told: Told = lambda *_: None) -> Findings:
        """Read the whole remote, and say what does not open. Nothing is written."""
        async with self._busy:
            await self._verify()
            return await inspect(self._remote, self._sealer, work=self._work, told=told)

    async def repair(self, told: Told = lambda *_: None) -> SyncReport:
        """Publish again, at once, what the remote lost or does not give back as it was put there.

        ``vault.json`` is put back where it is missing; ``told`` is as for `inspect`. Raises errors of the remote.
        """
        async with self._busy:
            report = SyncReport()
            self._verified = False
            self._check_key()
            try:
                await self._verify()
            except (NoVault, ObjectDamaged):
                await self._remote.put(VAULT, vault_json(self._vault))
            await self._send_pending(report)
            damaged = (await inspect(self._remote, self._sealer, work=self._work, told=told)).damaged
            await self._pull(report)
            self._check_key()  # only the pull may have met what revoked it
            if not self._unsettled:
                await self._heal(report, unreadable=damaged)
            if any(name.startswith(DEVICES) for name in damaged):
                await self.peers.exchange()
            await self._work(lambda: self._let_go(damaged))
            for name in await self._work(lambda: self._ledger.given_up(damaged)):
                await self._remote.delete(name)
            await self._push(report)
            await self._pull(report)
            return await self._finish(report)

    def _let_go(self, damaged: Collection[str]) -> None:
        """Give up those of our segments that do not open and for which another device stands by now."""
        for name in map(SegmentName.parse, damaged):
            if name is not None and name.device == self._store.device:
                self._ledger.let_go(name)

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

    async def _send_healing(self, intent: Intent) -> None:
        await self._send(intent, SyncReport())

    async def _push(self, report: SyncReport) -> None:
        complete = self._unsettled or bool(await self._work(self._held_back))
        while not complete:
            intent, complete = await self._work(self._intend)
            if intent is not None:
                await self._send(intent, report)

    async def _scrub(self) -> None:
        """Take what was purged out of what we published."""
        if not await self._work(self._held_back):
            self._unwritten = await self._rewriter.scrub()

    def _intend(self) -> tuple[Intent | None, bool]:
        """Seal the next segment and keep it; None where nothing was written here."""
        since, floor = self._ledger.position
        batch, seq, complete = local_changes(self._store, since=since, floor=floor, max_bytes=SEGMENT_BYTES)
        if not batch and self._ledger.owes_sign:
            batch = encode_batch({}, [])
        if not batch:
            if seq > since:
                self._ledger.move(seq, complete=complete)
            return None, complete
        number = self._ledger.next_number(self._store.device)
        name = SegmentName(self._store.device, number, number, 0, new_id(self._draw)).path
        step("push.batched")
        intent = Intent(number, name, self._sealer.close(batch, name=name))
        key = self._sealer.keyring.current.id
        segment = Segment(name, len(batch), key, seq, hashes_of(sessions_in(batch)))
        self._ledger.move(seq, complete=complete, intent=intent, segment=segment, now_ms=self._now_ms())
        return intent, complete

    async def _pull(self, report: SyncReport, *, again: bool = False) -> None:
        if self._keys.refresh():
            self._tried_ms.clear()
        listing = await self._remote.list(LOG)
        plan, aside = await self._work(lambda: self._plan(listing))
        if plan.lost:
            await self._account_for(plan)
        self._apart = False
        if plan.strange:
            plan = await self._settle(plan, listing, report)
        fetching = Fetching(plan)
        await self._fetch((name for name in fetching if self._due(name.path, aside)), fetching, report)
        if plan.holes or plan.lost or plan.strange:  # what was fetched may stand for it
            plan, _ = await self._work(lambda: self._plan(listing))
        self._unsettled = bool(plan.strange)  # what is given a number now might be given it twice
        if self._apart and not again:
            await self._pull(report, again=True)
            return
        self._standing, self._foreign, self._looked = _problems(plan), _notes(plan), True
        if self._unaccounted:
            self._unaccounted = await self._work(self._not_here)
        await self._work(lambda: self._close_pull(set(plan.holes), aside.keys() - set(listing)))
        due = await self._work(lambda: self._healer.due(plan.lost))
        if self._unsettled:
            return
        await self._work(lambda: self._ledger.take_up(listing, before_ms=self._now_ms() - GRACE_MS))
        if due and not await self._work(self._held_back):
            await self._heal(report, only=due)

    async def _heal(
        self, report: SyncReport, *, only: Collection[SegmentName] | None = None, unreadable: Collection[str] = ()
    ) -> None:
        """Publish again what is gone from the remote, if it still is; what cannot be read is as good as gone."""
        listing = [name for name in await self._remote.list(LOG) if name not in unreadable]
        plan, _ = await self._work(lambda: self._plan(listing))
        gone = [name for name in plan.lost if only is None or name in only]
        if gone:
            listed = [name for name in map(SegmentName.parse, listing) if name is not None]
            report.healed_segments += len(gone)
            await self._healer.heal(gone, listed=listed)
            listing = await self._remote.list(LOG)
            plan, _ = await self._work(lambda: self._plan(listing))
        self._standing = _problems(plan)

    async def _settle(self, plan: PullPlan, listing: list[str], report: SyncReport) -> PullPlan:
        """Find out whether another store writes under our id, before anything of what it wrote is taken in."""
        try:
            settled = await self._lease.settle(plan.strange, listing)
        except (ObjectDamaged, ObjectMissing, NewerFormat, UnknownKey):
            return plan
        report.notes += [] if settled.note is None else [settled.note]
        if settled.is_new:
            plan, _ = await self._work(lambda: self._plan(listing))
        # What was written here once comes first: where somebody purged it unknowingly, this store is to keep it.
        own = self._store.former_devices
        others = sorted(plan.fetch, key=lambda name: name.device not in own)
        return msgspec.structs.replace(plan, fetch=[*settled.fetch, *others])

    async def _read(self, name: SegmentName) -> Batch:
        return await self._opened(name.path, await self._remote.get(name.path))

    def _plan(self, listing: list[str]) -> tuple[PullPlan, dict[str, int]]:
        ledger = self._ledger
        aside = {problem.name: problem.since_ms for problem in ledger.problems()}
        plan = plan_pull(
            listing,
            device=self._store.device,
            cursor=ledger.cursor(),
            applied=ledger.applied(),
            pending={intent.name for intent in ledger.pending()},
            aside=aside,
            healed=ledger.healed(),
        )
        return plan, aside

    def _close_pull(self, missing: set[str], gone: set[str]) -> None:
        if gone:
            self._ledger.forget(gone)
        aside = (SegmentName.parse(problem.name) for problem in self._ledger.problems())
        missing |= {name.device for name in aside if name is not None}
        # What stands for a log says so behind its content, which may be what is missing.
        unsure = {device for each in self._ledger.healed() if each.publisher in missing for device in each.stands_for}
        self._ledger.keep_gaps(missing, unsure=unsure)

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

    async def _fetch(self, names: Iterator[SegmentName], fetching: Fetching, report: SyncReport) -> None:
        """Get objects a few ahead, and apply them in order."""
        coming: list[tuple[SegmentName, asyncio.Task[bytes]]] = []
        try:
            while True:
                while len(coming) < PREFETCH and (name := next(names, None)) is not None:
                    coming.append((name, asyncio.create_task(self._remote.get(name.path))))
                if not coming:
                    return
                name, task = coming.pop(0)
                if not await self._take(name, task, report):
                    fetching.missed(name)
        finally:
            for _, task in coming:
                task.cancel()
            await asyncio.gather(*(task for _, task in coming), return_exceptions=True)

    async def _take(self, name: SegmentName, task: asyncio.Task[bytes], report: SyncReport) -> bool:
        """Apply an object, or set it aside; say whether it was applied."""
        try:
            sealed = await task
            step("pull.fetched")
            await self._work(lambda: check_room(self._store.path, taking=len(sealed)))
            batch = await self._opened(name.path, sealed)
            done = await self._apply_slices(name, batch)
        except (LocalStorageError, RemoteUnreachable, RemoteRefused):
            raise
        except Apart:
            self._apart = True
            return False
        except ObjectMissing:
            # Compacted meanwhile, or a listing that ran ahead: forgotten when it is listed no more, else tried again.
            await self._set_aside(name, f"remote object {name.path} is listed and not there")
            return False
        except (ObjectDamaged, NewerFormat, UnknownKey) as exc:
            await self._set_aside(name, exc.line)
            return False
        except Exception as exc:  # noqa: BLE001  a bug that one object meets must not hold up the others
            _log.exception("%s could not be applied", name.path)
            what = f"{type(exc).__name__}: {exc}"
            await self._set_aside(name, f"remote object {name.path} cannot be applied ({what})")
            return False
        report.received_segments += 1
        report.received_messages += done.messages
        report.changed_sessions += done.sessions
        report.rescued += done.rescued
        for each in done.rescued:
            _log.warning("%s", each)
        return True

    async def _set_aside(self, name: SegmentName, problem: str) -> None:
        now_ms = self._now_ms()
        self._tried_ms[name.path] = now_ms
        await self._work(lambda: self._ledger.set_aside(name.path, problem, now_ms=now_ms))

    async def _apply_slices(self, name: SegmentName, batch: Batch) -> Applied:
        done = Applied()
        for part, last in _with_last(list(slices(batch)) or [[]]):  # also of one that says nothing
            await self._work(lambda part=part, last=last: self._apply(name, batch, part, done, last=last))
            step("pull.slice")
        return done

    async def _opened(self, name: str, sealed: bytes) -> Batch:
        try:
            return await self._work(lambda: self._sealer.open(sealed, name=name))
        except UnknownKey as exc:
            if not await self._keys.find(self._remote, exc.key_id):
                raise
            return await self._work(lambda: self._sealer.open(sealed, name=name))

    def _apply(self, name: SegmentName, batch: Batch, part: list[Any], done: Applied, *, last: bool) -> None:
        with self._store.transaction():
            if name.device == self._store.device:
                self._lease.check(name)
            apply(self._store, batch, part, done=done)
            if last:
                self._record(name, batch, done)

    def _record(self, name: SegmentName, batch: Batch, done: Applied) -> None:
        """Remember that a segment is applied. One of which records were refused stays named and is tried again."""
        numbers = {number for number, device in batch.devices.items() if device == name.device}
        own = [born.clock for change in batch.sessions for born in change.messages if born.author // 4 in numbers]
        if name.device == self._store.device:
            self._lease.adopt(name, batch)
        self._ledger.record(name, gapless_clock=0 if done.refused else max(own, default=0))
        self._ledger.met(name.device, batch.writers())
        if batch.stands_for:
            self._ledger.stand_in(name, batch.stands_for)
        if done.refused:
            now_ms = self._now_ms()
            self._tried_ms[name.path] = now_ms
            problem = f"{len(done.refused)} records in remote object {name.path} are refused ({done.refused[0]})"
            self._ledger.set_aside(name.path, problem, now_ms=now_ms)

    async def _finish(self, report: SyncReport) -> SyncReport:
        def read() -> tuple[int, list[str]]:
            problems = [problem.problem for problem in self._ledger.problems()]
            more = [f"{len(problems) - MOST_NAMED} more objects are set aside"] if len(problems) > MOST_NAMED else []
            return self._ledger.pending_count(), problems[:MOST_NAMED] + more

        report.pending_segments, aside = await self._work(read)
        standing = [*self._standing, *(self._unaccounted or []), *self._unwritten]
        held_back = await self._work(self._held_back)
        standing += [] if held_back is None else [held_back]
        report.problems = [*aside, *standing]
        report.notes += self._foreign
        if self._looked:
            await self._work(lambda: self._ledger.keep_standing(standing, notes=self._foreign))
        return report

    def _held_back(self) -> str | None:
        """Why nothing is sent from here; None where it is."""
        if self._keys.superseded:
            return _SUPERSEDED
        return _OUTDATED if self.peers.needed() > VERSION else None


def _with_last(parts: list[_T]) -> list[tuple[_T, bool]]:
    return [(part, at == len(parts)) for at, part in enumerate(parts, start=1)]


def _problems(plan: PullPlan) -> list[str]:
    problems = [
        f"publications {_ranges(holes)} of device {device} are not on the remote"
        for device, holes in itertools.islice(plan.holes.items(), MOST_NAMED)
    ]
    if len(plan.holes) > MOST_NAMED:
        problems.append(f"publications of {len(plan.holes) - MOST_NAMED} more devices are not on the remote")
    if plan.strange:
        problems.append(
            f"{len(plan.strange)} objects on the remote carry this device's id and were not written here "
            f"({plan.strange[0].path}): this home was copied or restored, and what they hold is not taken in yet"
        )
    if plan.passed_over:
        problems.append(f"the remote lists {plan.passed_over} more names than any vault has; they are passed over")
    if plan.lost:
        problems.append(f"{len(plan.lost)} objects that were on the remote are gone ({plan.lost[0].path})")
    return problems


def _notes(plan: PullPlan) -> list[str]:
    if not plan.foreign:
        return []
    count = len(plan.foreign)
    what = "a name that is none of ours is" if count == 1 else f"{count} names that are none of ours are"
    return [f"{what} on the remote and passed over ({plan.foreign[0]!a})"]


def _ranges(holes: list[Range]) -> str:
    shown = ", ".join(f"{first}-{last}" for first, last in holes[:10])
    return shown if len(holes) <= 10 else f"{shown} and others"
