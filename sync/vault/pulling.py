"""Looking at a remote: what is new is taken in, what is missing is named, and what is gone for long is healed.

Absence is never deletion: a listing that lacks something is reported and healed, never obeyed
(tests/unit/test_vault_engine.py, tests/unit/test_vault_healing.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

import msgspec

from ...storage.errors import NewerFormat, NoVault, ObjectDamaged, ObjectMissing, OtherVault, RemoteUnreachable
from ...storage.store import Store
from .deadlines import TIMEOUT_S, in_thread
from .healing import Healer
from .intake import Intake
from .ledger import Ledger
from .names import LOG, SegmentName
from .own_log import OwnLog
from .peers import claimed
from .plan import MOST_NAMES, Fetching, PullPlan, covered_by, plan_pull, without_histories
from .ranges import Ranges
from .remote import Remote
from .report import SyncReport, notes_of, numbers, problems_of
from .revoked import Revocations, RevokedKey, set_aside
from .rewriting import GRACE_MS
from .rotation import Keys
from .seal import UnknownKey
from .vault import vault_at, vault_in
from .work import Work

_MOST_LOOKED_AT = 4
_EMPTY = (
    "nothing is deleted here; see that the address is right and the disk is there: what was emptied by mistake "
    "`steno repair` sends again, a vault that was deleted `steno vault leave` forgets"
)


class Puller:
    """Pulls for one home. ``may_write`` says whether anything may be published.

    ``unsettled``: something under our id is not taken in. ``standing`` and ``notes`` are what the last look left to be
    said; None before the first. ``unaccounted`` is what other devices have and nobody finds, None before `account`.
    """

    def __init__(
        self, store: Store, ledger: Ledger, log: OwnLog, remote: Remote, intake: Intake, healer: Healer,
        *, vault: str, keys: Keys, revocations: Revocations, now_ms: Callable[[], int], work: Work,
        may_write: Callable[[], bool], send_again: Callable[[list[str]], Awaitable[list[str]]],
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._log, self._remote = store, ledger, log, remote
        self._intake, self._healer, self._send_again, self._vault, self._keys = intake, healer, send_again, vault, keys
        self._revocations = revocations
        self._now_ms, self._work, self._may_write = now_ms, work, may_write
        self._verified = False
        self._planned: tuple[list[str], tuple[Any, int], tuple[PullPlan, dict[str, int]]] | None = None
        self.unsettled = False
        self.standing: list[str] = []
        self.notes: list[str] | None = None
        self.unaccounted: list[str] | None = None

    async def verify(self, *, anew: bool = False) -> None:
        """Make sure that the remote is the vault that this home belongs to: once, unless a folder shows that it is not.

        A disk that is not mounted leaves an empty directory in its place, and nothing is put there.
        """
        if self._verified and not anew and await self._looks_right():
            return
        self._verified = False
        try:
            found = await vault_at(self._remote)
        except NoVault as exc:
            exc.hint = _EMPTY
            raise
        if found != self._vault:
            raise OtherVault(remote=self._remote.address, found=found, expected=self._vault)
        self._verified = True

    async def missing(self) -> list[str]:
        """What a listing that is made now lacks, one line each; nothing is taken in."""
        listing = await self._remote.list(LOG)
        plan, _ = await self._work(lambda: self._plan(listing))
        return problems_of(plan)

    async def _looks_right(self) -> bool:
        folder = self._remote.folder
        if folder is None:
            return True
        try:
            return await in_thread(lambda: vault_in(folder), timeout_s=TIMEOUT_S) == self._vault
        except TimeoutError as exc:
            raise RemoteUnreachable(remote=self._remote.address, reason="it did not answer in time") from exc
        except (OSError, ObjectDamaged, NewerFormat):  # whoever reads it says why
            return False

    async def look(self) -> None:
        """See what lies there and take nothing in, for whoever only sends."""
        self._keys.refresh()
        listing = await self._remote.list(LOG)
        plan, aside = await self._work(lambda: self._plan(listing))
        self.unsettled = bool(plan.strange)
        for name in [each for each in plan.fetch if each.path in aside][:_MOST_LOOKED_AT]:
            with suppress(ObjectDamaged, ObjectMissing, NewerFormat, UnknownKey, RevokedKey):
                await self._intake.read(name)  # it may be sealed with the key that follows a revoked one
        if plan.strange:
            self.standing = problems_of(plan)

    async def pull(self, report: SyncReport, *, sparing: bool = False, again: bool = False) -> None:
        """Take in what is new, and heal what has been gone for long. Raises errors of the remote.

        ``sparing`` takes in no histories of devices that were never heard of, and heals nothing.
        """
        if self._keys.refresh():
            self._intake.retry_all()
        await self._work(self._revocations.heed)
        listing = await self._remote.list(LOG)
        listing += await self._send_again(listing)
        plan, aside = await self._work(lambda: self._plan(listing))
        if plan.lost:
            await self._account_for()
        self._intake.is_apart = False
        if plan.strange:
            plan = await self._settle(plan, listing, report)
        left_out: list[SegmentName] = []
        if sparing:
            plan, left_out = without_histories(plan, but=self._store.former_devices)
        healed = await self._work(self._ledger.healed)
        await self._fetch(plan, aside, report)
        if not sparing:
            plan = await self._fetch_instead(plan, listing, report)
        # What was fetched may stand for what is missing, or for a part of a log of which the rest is.
        if plan.holes or plan.lost or plan.strange or await self._work(self._ledger.healed) != healed:
            plan, _ = await self._work(lambda: self._plan(listing))
        await self._work(self._revocations.heed)
        self.unsettled = bool(plan.strange)  # what is given a number now might be given it twice
        if self._intake.is_apart and not again:
            await self.pull(report, sparing=sparing, again=True)
            return
        self.standing, self.notes = problems_of(plan), notes_of(plan, left_out)
        if self.unaccounted:
            await self.account()
        await self._work(lambda: self._close_pull(listing, set(plan.holes), aside.keys() - set(listing)))
        due = await self._work(lambda: self._healer.due(plan.lost))
        if self.unsettled:
            return
        await self._work(lambda: self._log.take_up(listing, before_ms=self._now_ms() - GRACE_MS))
        if due and not sparing and await self._work(self._may_heal):
            await self.heal(report, only=due)

    def _may_heal(self) -> bool:
        """Say whether anything may be published, and nothing waits: a remote that refuses it takes no more of it."""
        return self._may_write() and not self._log.pending_count()

    async def _fetch(self, plan: PullPlan, aside: dict[str, int], report: SyncReport) -> None:
        self._intake.met_revoked = False
        fetching = Fetching(plan)
        await self._intake.fetch((name for name in fetching if self._intake.due(name.path, aside)), fetching, report)

    async def _fetch_instead(self, plan: PullPlan, listing: list[str], report: SyncReport) -> PullPlan:
        """Where something came under a revoked key, fetch what its device may have sealed anew in its place."""
        for _ in range(_MOST_LOOKED_AT):
            if not self._intake.met_revoked:
                break
            plan, aside = await self._work(lambda: self._plan(listing))
            await self._fetch(plan, aside, report)
        return plan

    async def account(self) -> None:
        """See what other devices have of each other's logs and this one does not, apart from holes, which are named."""
        self.unaccounted = await self._work(self._not_here)

    def _not_here(self) -> list[str]:
        have = self._ledger.cursor()
        return [
            f"publications {numbers(missing)} of device {device} are with other devices, and not on the remote"
            for device, ranges in claimed(self._ledger).items()
            if device != self._store.device
            and (missing := have.of(device).missing(have.of(device).last + 1, ranges.last))
        ]

    async def heal(
        self, report: SyncReport, *, only: Collection[SegmentName] | None = None, unreadable: Collection[str] = ()
    ) -> None:
        """Publish again what is gone from the remote, if it still is; what cannot be read is as good as gone."""
        listing = [name for name in await self._remote.list(LOG) if name not in unreadable]
        plan, _ = await self._work(lambda: self._plan(listing))
        lost = [name for name in plan.lost if only is None or name in only]
        gone = await self._work(lambda: self._healer.possible(lost))
        if gone:
            listed = [name for name in map(SegmentName.parse, listing) if name is not None]
            report.healed_segments += len(gone)
            await self._healer.heal(gone, listed=listed)
            listing = await self._remote.list(LOG)
            plan, _ = await self._work(lambda: self._plan(listing))
        self.standing = problems_of(plan)

    async def _settle(self, plan: PullPlan, listing: list[str], report: SyncReport) -> PullPlan:
        """Find out whether another store writes under our id, before anything of what it wrote is taken in."""
        await self._intake.set_revoked_aside(plan.strange)  # who was shut out says nothing of our id
        plan, _ = await self._work(lambda: self._plan(listing))
        try:
            settled = await self._intake.lease.settle(plan.strange, listing)
        except ObjectDamaged as exc:
            for name in [each for each in plan.strange if each.path == exc.name]:
                await self._intake.set_aside(name, exc.line)
            return plan
        except (ObjectMissing, NewerFormat, UnknownKey, RevokedKey):
            return plan
        report.notes += [] if settled.note is None else [settled.note]
        if settled.is_new:
            plan, _ = await self._work(lambda: self._plan(listing))
        # What was written here once comes first: where somebody purged it unknowingly, this store is to keep it.
        own = self._store.former_devices
        others = sorted(plan.fetch, key=lambda name: name.device not in own)
        return msgspec.structs.replace(plan, fetch=[*settled.fetch, *others])

    def _plan(self, listing: list[str]) -> tuple[PullPlan, dict[str, int]]:
        """What to do about a listing; nothing is thought over where neither it nor the store is another one."""
        store = self._store
        if self._planned is not None:
            seen, stood, planned = self._planned
            if stood == (store.one("PRAGMA data_version"), store.connection.total_changes) and seen == listing:
                return planned
        stands = store.one("PRAGMA data_version"), store.connection.total_changes  # before another process writes
        planned = self._planned_anew(listing)
        self._planned = (listing, stands, planned) if len(listing) <= MOST_NAMES else None
        return planned

    def _planned_anew(self, listing: list[str]) -> tuple[PullPlan, dict[str, int]]:
        ledger = self._ledger
        aside = {problem.name: problem.since_ms for problem in ledger.problems()}
        plan = plan_pull(
            listing,
            device=self._store.device,
            cursor=ledger.cursor(),
            applied=ledger.applied_of(listing),
            pending=self._log.pending_names(),
            aside=aside,
            healed=ledger.healed(),
        )
        if plan.strange and aside:
            revoked = set_aside(ledger)
            plan = msgspec.structs.replace(plan, strange=[name for name in plan.strange if name not in revoked])
        return plan, aside

    def _close_pull(self, listing: list[str], missing: set[str], gone: set[str]) -> None:
        have, own = self._ledger.cursor(), self._store.device
        aside = [name for each in self._ledger.problems() if (name := SegmentName.parse(each.name)) is not None]
        gone |= self._needless(aside, listing)
        if gone:
            self._ledger.forget(gone)
        missing |= {
            name.device
            for name in aside
            # What stands for our own numbers hides nothing of them from us.
            if name.path not in gone and not (name.device == own and have.covers(own, name.first, name.last))
        }
        # What stands for a log says so behind its content, which may be what is missing.
        unsure = {device for each in self._ledger.healed() if each.publisher in missing for device in each.stands_for}
        self._ledger.keep_gaps(missing, unsure=unsure)
        self._ledger.forget_replaced(listing)

    def _needless(self, aside: list[SegmentName], listing: list[str]) -> set[str]:
        """The compacted ones of others that are set aside and bring nothing: nobody would open them any more."""
        compacted = [name for name in aside if name.level and name.device != self._store.device]
        if not compacted:
            return set()
        taken = map(SegmentName.parse, self._ledger.applied_of(listing))
        here = covered_by((name for name in taken if name is not None), ())
        return {name.path for name in compacted if here.get(name.device, Ranges()).covers(name.first, name.last)}

    async def _account_for(self) -> None:
        """Objects are gone: make sure that this still is the vault, and not an empty directory in its place."""
        try:
            await self.verify(anew=True)
        except NoVault as exc:
            gone = NoVault(remote=f"{self._remote.address}, and objects that were there are gone")
            gone.hint = exc.hint
            raise gone from exc
