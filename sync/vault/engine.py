"""Push and pull of one home: what each verb of the vault does, part by part.

The engine reads no clock and draws nothing at random itself: both come in. Store calls run
through ``work``, so that a daemon can give them a thread, and what takes long without the store through
``beside``. How far it is stands in `course`. Killed anywhere it resumes: what is
sent is kept until it is acknowledged, what is applied is recorded with its last slice
(tests/e2e/test_crash.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from ...storage.change import VERSION
from ...storage.errors import InvalidInput, LocalStorageError, NoVault, ObjectDamaged
from ...storage.steps import step
from ...storage.store import Store
from .devices import Device, devices
from .healing import Healer
from .inspection import Findings, Told, inspect, keyless
from .intake import Intake
from .ledger import Ledger
from .names import DEVICES, LOG, VAULT, Draw, SegmentName
from .own_log import OwnLog
from .peers import Peers
from .progress import Course
from .pulling import Puller
from .remote import Remote
from .report import MOST_NAMED, SyncReport
from .retiring import last_to_adopt
from .revoked import Revocations
from .rewriting import Rewriter
from .rotation import FixedKeys, Keys
from .seal import Keyring
from .segment import Sealer
from .sending import Sender
from .unseen import Unseen
from .vault import vault_json
from .work import Work, beside, directly

_SUPERSEDED = (
    "the vault's key was revoked, so nothing more is sent from here: run `steno join URL` again with the passphrase "
    "that it has now"
)

_OUTDATED = "the vault needs a later version of steno, so nothing more is sent from here: upgrade steno on this machine"
_HINTS = {
    _SUPERSEDED: "`steno join URL` asks for the passphrase that the vault has now",
    _OUTDATED: "`steno devices` says which versions the others have",
}


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
        beside: Work = beside,
    ) -> None:
        self._store = store
        self._remote = remote
        self._vault = vault
        self._keys = FixedKeys(keyring) if isinstance(keyring, Keyring) else keyring
        self._work = work
        self._ledger = ledger = Ledger(store, vault)
        self._log = log = OwnLog(ledger)
        self.course = course = Course(now_ms)
        self._sealer = sealer = Sealer(vault, self._keys.held, draw)
        self._unseen = unseen = Unseen(log, work=work)
        self._sender = Sender(
            store, log, remote, sealer,
            unseen=unseen, course=course, now_ms=now_ms, draw=draw, work=work, beside=beside,
        )  # fmt: skip
        self._rewriter = Rewriter(
            store, log, remote, sealer, now_ms=now_ms, draw=draw, work=work,
            find=lambda key_id: self._keys.find(remote, key_id),
        )  # fmt: skip
        self._healer = Healer(store, ledger, log, sealer, now_ms=now_ms, draw=draw, work=work, send=self._sender.send)
        self._revocations = revocations = Revocations(ledger, sealer, superseded=lambda: self._keys.superseded)
        self._intake = Intake(
            store, ledger, log, remote, sealer,
            keys=self._keys, revocations=revocations, course=course, now_ms=now_ms, work=work, beside=beside,
        )  # fmt: skip
        self._puller = Puller(
            store, ledger, log, remote, self._intake, self._healer,
            vault=vault, keys=self._keys, revocations=revocations, now_ms=now_ms, work=work,
            may_write=lambda: self._held_back() is None, send_again=self._send_again,
        )  # fmt: skip
        self.peers = Peers(store, ledger, remote, sealer, now_ms=now_ms, work=work)
        self._unwritten: list[str] = []
        self._busy = asyncio.Lock()

    async def sync(self, *, sparing: bool = False) -> SyncReport:
        """Send what waits, look what is new, take it in, send what was written here. Raises errors of the remote.

        ``sparing``, here and below, leaves what can wait on a connection that costs: see `Puller.pull`.
        """
        async with self._busy:
            report = SyncReport()
            await self._puller.verify()
            refused = await self._sender.try_to_send_pending(report)
            try:
                await self._puller.pull(report, sparing=sparing)
            except LocalStorageError:  # what others wrote waits for room on this disk; what was written here need not
                await self._puller.look()
                if refused is None:
                    await self._push(report)
                raise
            if refused is not None:
                raise refused
            await self._push(report)
            await self._scrub()
            return await self._finish(report)

    async def push(self) -> SyncReport:
        """Send what was written here, without looking at the remote: for right after a `sync`."""
        async with self._busy:
            report = SyncReport()
            await self._puller.verify()
            await self._sender.send_pending(report)
            await self._push(report)
            await self._scrub()
            return await self._finish(report)

    async def send(self) -> SyncReport:
        """Send what was written here and take nothing in; nothing where another store writes under our id."""
        async with self._busy:
            report = SyncReport()
            await self._puller.verify()
            await self._puller.look()
            if not self._puller.unsettled:
                await self._sender.send_pending(report)
                await self._push(report)
                await self._scrub()
            return await self._finish(report)

    async def pull(self, *, sparing: bool = False) -> SyncReport:
        """Look what is new and take it in: one LIST where nothing is."""
        async with self._busy:
            report = SyncReport()
            await self._puller.verify()
            await self._puller.pull(report, sparing=sparing)
            return await self._finish(report)

    async def tend(self, *, sparing: bool = False) -> SyncReport:
        """Keep what we published small and few: for when nothing is urgent. Called again it does nothing.

        ``sparing`` takes out what was purged, and joins segments only where far too many stand.
        """
        async with self._busy:
            report = SyncReport()
            await self._puller.verify()
            if await self._work(self._revocations.is_superseded):
                return await self._finish(report)
            if not sparing:
                await self._scrub()  # before it is said what stands here
            if not sparing and (await self.peers.tend() or self._puller.unaccounted is None):
                await self._puller.account()
                if self._puller.unaccounted:  # it may have come since it was looked last
                    await self._puller.pull(report)
            if await self._may_rewrite():
                self._unwritten = await self._rewriter.tend(sparing=sparing)
            return await self._finish(report)

    async def devices(self, *, hear: bool = False) -> list[Device]:
        """Every device of the vault that is known here; ``hear`` reads what they say of themselves now."""
        if hear:
            async with self._busy:
                await self._puller.verify()
                await self.peers.hear()
        return await self._work(lambda: devices(self._ledger))

    async def retire(self, device: str) -> SyncReport:
        """Adopt the log of a device that never comes back: publish what it said, and remove its objects.

        Raises `DeviceNotFound`, and `InvalidInput` for this device and one of which something is missing here.
        """
        async with self._busy:
            report = SyncReport()
            await self._puller.verify()
            await self._puller.pull(report)
            await self._check_may_publish()
            await self._push(report)
            listing = [name for name in map(SegmentName.parse, await self._remote.list(LOG)) if name is not None]
            names = [name for name in listing if name.device == device]
            last = await self._work(lambda: last_to_adopt(self._ledger, device, names))
            await self._healer.heal(names, listed=[name for name in listing if name.device != device])
            step("retire.healed")
            await self.peers.exchange(retire={device: last})
            step("retire.told")
            for name in names:
                await self._remote.delete(name.path)
                step("retire.deleted")
            return await self._finish(report)

    async def inspect(self, told: Told = lambda *_: None) -> Findings:
        """Read the whole remote, and say what does not open and what is not there. Nothing is written."""
        async with self._busy:
            await self._puller.verify()
            found = await self._inspected(told)
            found.missing = [*await self._puller.missing(), *await keyless(self._remote)]
            return found

    async def _inspected(self, told: Told) -> Findings:
        check = self._revocations.check
        return await inspect(self._remote, self._sealer, check=check, work=self._work, told=told)

    async def repair(self, told: Told = lambda *_: None) -> SyncReport:
        """Publish again, at once, what the remote lost or does not give back as it was put there.

        ``vault.json`` is put back where it is missing; ``told`` is as for `inspect`. Raises errors of the remote.
        """
        async with self._busy:
            report = SyncReport()
            await self._check_not_held_back()
            try:
                await self._puller.verify(anew=True)
            except (NoVault, ObjectDamaged):
                await self._remote.put(VAULT, vault_json(self._vault))
                report.notes.append(f"{VAULT} was gone or damaged, and was put back")
            await self._sender.send_pending(report)
            damaged = (await self._inspected(told)).damaged
            await self._puller.pull(report)
            await self._check_not_held_back()  # only the pull may have met what revoked the key
            if not self._puller.unsettled:
                await self._puller.heal(report, unreadable=damaged)
            if any(name.startswith(DEVICES) for name in damaged):
                await self.peers.exchange()
            await self._work(lambda: self._let_go(damaged))
            for name in await self._work(lambda: self._log.given_up(damaged)):
                await self._remote.delete(name)
            await self._push(report)
            await self._puller.pull(report)
            report.notes += await keyless(self._remote)
            return await self._finish(report)

    def _let_go(self, damaged: Collection[str]) -> None:
        """Give up those of our segments that do not open and for which another device stands by now."""
        for name in map(SegmentName.parse, damaged):
            if name is not None and name.device == self._store.device:
                self._log.let_go(name)

    async def _check_may_publish(self) -> None:
        """Raise `InvalidInput` where nothing is sent from here, or something under our id was not taken in."""
        await self._check_not_held_back()
        if self._puller.unsettled:
            what = "something on the remote carries this device's id and is not taken in yet"
            raise InvalidInput(what, hint="`steno verify` says what does not open")

    async def _check_not_held_back(self) -> None:
        """Raise `InvalidInput` where nothing is sent from here: the key was revoked, or a later version is needed."""
        held_back = await self._work(self._held_back)
        if held_back is not None:
            raise InvalidInput(held_back, hint=_HINTS[held_back])

    async def _push(self, report: SyncReport) -> None:
        if not self._puller.unsettled and not await self._work(self._held_back):
            await self._sender.push(report)

    async def _send_again(self, listing: list[str]) -> list[str]:
        """Send again what was sent and a listing lacks; return what may well be there now."""
        missing = await self._unseen.missing(listing)
        if not missing or await self._work(self._held_back):
            return []
        try:
            await self._puller.verify(anew=True)
        except NoVault:  # a directory in its place, say: whoever pulls says what is gone
            return []
        return await self._unseen.send_again(missing, send=self._sender.send)

    async def _scrub(self) -> None:
        """Take what was purged out of what we published."""
        if await self._may_rewrite():
            self._unwritten = await self._rewriter.scrub()

    async def _may_rewrite(self) -> bool:
        """Whether our log may be written anew: not before all that is listed of it is taken in.

        What was written anew covers more than the rest, which could not be told from another store's then.
        """
        return not self._puller.unsettled and not await self._work(self._held_back)

    async def _finish(self, report: SyncReport) -> SyncReport:
        def read() -> tuple[int, list[str]]:
            problems = [problem.problem for problem in self._ledger.problems()]
            more = [f"{len(problems) - MOST_NAMED} more objects are set aside"] if len(problems) > MOST_NAMED else []
            return self._log.pending_count(), problems[:MOST_NAMED] + more

        report.pending_segments, aside = await self._work(read)
        standing = [*self._puller.standing, *(self._puller.unaccounted or []), *self._unwritten]
        held_back = await self._work(self._held_back)
        standing += [] if held_back is None else [held_back]
        report.problems = [*aside, *standing]
        notes = self._puller.notes
        report.notes += notes or []
        if notes is not None:
            await self._work(lambda: self._ledger.keep_standing(standing, notes=notes))
        return report

    def _held_back(self) -> str | None:
        """Why nothing is sent from here; None where it is."""
        if self._revocations.is_superseded():
            return _SUPERSEDED
        return _OUTDATED if self.peers.needed() > VERSION else None
