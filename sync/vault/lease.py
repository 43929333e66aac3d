"""The id of this store as a lease: kept as long as nobody else writes under it.

What `identity.decide` says is carried out here: our own log is taken in as anybody's and its numbers are ours, or the
store goes on under a new id, in one transaction, and publishes from number 1 what it wrote since the fork. Killed
anywhere it is the one or the other (tests/unit/test_identity_lease.py, tests/e2e/test_clones.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection

import msgspec

from ...storage.change import Batch, encode_batch, sessions_in
from ...storage.errors import ObjectDamaged, ObjectMissing
from ...storage.identity import IDENTIFIED, Moment, is_written_since, reidentify
from ...storage.model import format_ms
from ...storage.steps import step
from ...storage.store import Store
from .healing import WAIT_MS
from .identity import decide, doubtful, holds
from .ledger import Ledger
from .names import SegmentName
from .own_log import OwnLog
from .plan import wanted
from .ranges import Ranges
from .work import Work

_log = logging.getLogger("steno.vault")


class Apart(Exception):
    """Something was written here while the store was catching up with its own log."""


class Settled(msgspec.Struct, frozen=True):
    """What came of it: whether the id is a new one, what to fetch of our own log, and what to tell a person."""

    is_new: bool = False
    fetch: list[SegmentName] = []
    note: str | None = None


class Lease:
    """The id under which a store publishes in one vault."""

    def __init__(
        self, store: Store, ledger: Ledger, log: OwnLog, *, work: Work, read: Callable[[SegmentName], Awaitable[Batch]]
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._log, self._work, self._read = store, ledger, log, work, read
        self._listed: frozenset[str] = frozenset()
        self._held: dict[tuple[str, str], bool] = {}
        self._catches_up = False

    async def settle(self, strange: list[SegmentName], listing: Collection[str]) -> Settled:
        """Carry out what strange objects under our id mean.

        Raises errors of the remote, and those of a strange object that does not open, which leaves it undecided; one
        that has not for as long as a loss is waited for is taken for another store's.
        """
        self._listed = frozenset(listing)
        differing = await self._differing(strange)
        settled = await self._work(lambda: self._decided(strange, differing))
        step("identity.settled")
        if settled.note is not None:
            _log.info("%s", settled.note)  # the report has it as well
        return settled

    def check(self, name: SegmentName) -> None:
        """Raise `Apart` where something was written here since the store began to catch up. In a transaction."""
        if self._is_news(name) and is_written_since(self._store, *self._log.position):
            raise Apart

    def adopt(self, name: SegmentName, batch: Batch | None) -> None:
        """A segment under our id that another store published is ours from now on. In a transaction."""
        if self._is_news(name):
            self._log.mark(name.last, made_here=False)
        content = None if batch is None else encode_batch(batch.devices, batch.sessions, batch.stands_for)
        self._log.adopt(
            name, len(content or b""), None if content is None else sessions_in(content), listed=self._listed
        )

    def _is_news(self, name: SegmentName) -> bool:
        return not self._ledger.cursor().covers(name.device, name.first, name.last)

    def _ours(self) -> list[SegmentName]:
        """What this store published itself and that is listed."""
        return [name for name in self._log.made_here() if name.path in self._listed]

    async def _differing(self, strange: list[SegmentName]) -> list[SegmentName]:
        """Those of our segments that a strange one covers and does not hold."""
        found: list[SegmentName] = []
        for name, ours in doubtful(strange, await self._work(self._ours)):
            whole: Batch | None = None
            for each in ours:
                here = (name.path, each.path)
                if here not in self._held:
                    try:
                        whole = whole or await self._read(name)
                    except ObjectDamaged:
                        if not await self._work(lambda name=name: self._is_given_up(name)):
                            raise
                        # Who reads it may miss of ours what it does not hold: under another id nobody does.
                        found += ours
                        break
                    try:
                        self._held[here] = holds(whole, await self._read(each))
                    except ObjectMissing:  # deleted since it was listed, by somebody who knew it
                        continue
                if self._held[here]:
                    break  # what comes before it is agreed as well
                found.append(each)
        return found

    def _is_given_up(self, name: SegmentName) -> bool:
        """Whether a strange segment has not opened for so long that nobody waits for it any more."""
        since_ms = {problem.name: problem.since_ms for problem in self._ledger.problems()}.get(name.path)
        return since_ms is not None and self._store.now_ms() - since_ms >= WAIT_MS

    def _decided(self, strange: list[SegmentName], differing: list[SegmentName]) -> Settled:
        store, ledger, log = self._store, self._ledger, self._log
        try:
            with store.transaction():
                have = ledger.cursor().of(store.device)
                given = [number for number, mark in log.marks().items() if mark.made_here]
                is_written = is_written_since(store, *log.position)
                verdict = decide(strange, have=have, given=given, differing=differing, is_written=is_written)
                if verdict.kind == "apart":
                    return Settled(is_new=True, note=self._say(self._leave(verdict.agreed)))
                note = None
                if verdict.kind == "same":
                    self._adopt_what_stands(strange, have)
                elif not self._catches_up:
                    note = self._say(
                        f"this home was restored or copied: it catches up with what device {store.device} published"
                    )
                self._catches_up = verdict.kind == "behind"
                return Settled(fetch=wanted(strange, have, ledger.applied(), ()), note=note)
        except BaseException:
            store.look_who()
            raise

    def _adopt_what_stands(self, strange: list[SegmentName], have: Ranges) -> None:
        for name in strange:
            if name.level and have.covers(name.first, name.last):
                self.adopt(name, None)

    def _leave(self, agreed: int) -> str:
        """Go on under a new id, with all that was written here behind the last number that is agreed."""
        store, log = self._store, self._log
        old, marks = store.device, log.marks()
        common = max((number for number in marks if number <= agreed), default=0)
        fork = marks[common].moment if common else Moment()
        floor = marks[common].floor if common else 0
        given = max((number for number, mark in marks.items() if mark.made_here and number > common), default=0)
        told = marks[given].moment if given else fork
        new = reidentify(store, fork=fork, told=told)
        log.leave(old, agreed=common, clock=fork.clock, seq=fork.seq, floor=floor)
        return (
            f"another store writes as device {old}, of which this home is a copy or an older state: this is device "
            f"{new} now, and publishes under that id what was written here since"
        )

    def _say(self, note: str) -> str:
        said = {"at": format_ms(self._store.now_ms()), "note": note}
        self._store.set_meta(IDENTIFIED, msgspec.json.encode(said).decode())
        return note
