"""Publishing again what a remote lost: all that the store knows of the sessions in which the lost devices wrote.

    X published 3-7, the remote lost them  →  we publish what they said, and that ours stands for X 3-7

The last segment names what all of them stand for, so that one which was only begun stands for nothing. Whoever meets
it counts those publications as present, and nobody heals them a second time. A device waits for a while before it
heals, another while than all others, and looks again: what a replicated folder shows only half is soon there, and
five devices do not heal the same (tests/unit/test_vault_healing.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable

from ...storage.change import StandsFor, decode_batch, encode_batch, known_to, sessions_in, whole, withheld
from ...storage.steps import step
from ...storage.store import Store
from .ledger import Ledger
from .names import Draw, SegmentName, new_id
from .own_log import Healing, Intent, OwnLog, Segment, hashes_of
from .plan import covered_by
from .ranges import Ranges
from .seal import sealed_with
from .segment import Sealer
from .work import Work

WAIT_MS = 60 * 60_000
SEGMENT_BYTES = 4 << 20
_log = logging.getLogger("steno.vault")


def kept_back(ledger: Ledger, device: str) -> str | None:
    """A session that is local-only here and in which another device wrote, so that this one cannot stand for it."""
    own = {ledger.store.device, *ledger.store.former_devices}
    return None if device in own else withheld(ledger.store, ledger.writers([device]) - own)


def beyond_us(ledger: Ledger, names: Collection[SegmentName]) -> list[SegmentName]:
    """Those of some segments that stand for what is not here: who stands for them without that makes it forgotten."""
    have = ledger.vouched()
    unread = [
        each
        for each in ledger.healed()
        if not all(have.of(device).covers(*span) for device, spans in each.stands_for.items() for span in spans)
    ]
    return [
        name
        for name in names
        if any(name.device == each.publisher and name.first <= each.first and each.last <= name.last for each in unread)
    ]


class Healer:
    """Heals the log of any device from what this store holds. ``send`` publishes an intent that is kept."""

    def __init__(
        self, store: Store, ledger: Ledger, log: OwnLog, sealer: Sealer, *,
        now_ms: Callable[[], int], draw: Draw, work: Work, send: Callable[[Intent], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._log, self._sealer = store, ledger, log, sealer
        self._now_ms, self._draw, self._work, self._send = now_ms, draw, work, send

    def due(self, lost: Collection[SegmentName]) -> list[SegmentName]:
        """Those of the lost segments that have been gone for long enough to be healed."""
        now_ms = self._now_ms()
        jitter_ms = int.from_bytes(self._draw(4)) % WAIT_MS if lost else 0
        names = [name.path for name in lost]
        due_ms = self._ledger.lost(names, due_ms=now_ms + WAIT_MS + jitter_ms, latest_ms=now_ms + 2 * WAIT_MS)
        return self.possible([name for name in lost if due_ms[name.path] <= now_ms])

    def possible(self, lost: Collection[SegmentName]) -> list[SegmentName]:
        """Those of some segments of which this store may publish all: the others are left to other devices."""
        if not lost:
            return []
        left = {device for device in {name.device for name in lost} if kept_back(self._ledger, device) is not None}
        beyond = beyond_us(self._ledger, lost)
        return [name for name in lost if name.device not in left and name not in beyond]

    async def heal(self, lost: Collection[SegmentName], *, listed: Iterable[SegmentName]) -> int:
        """Publish what some segments said that a listing lacks; return how many segments that took."""
        stands_for = await self._work(lambda: self._missing(lost, list(listed)))
        if not stands_for:  # something stands for it by now
            await self._work(lambda: self._log.give_up([name.path for name in lost]))
            return 0
        sessions = await self._work(lambda: self._left(stands_for))
        count = 0
        while sessions:
            part, sessions = await self._work(lambda left=sessions: self._part(left))
            seq, contents = await self._work(lambda part=part: self._said(part))
            for at, content in enumerate(contents, start=1):
                done = part[-1] if at == len(contents) else 0
                await self._publish(content, {}, seq=seq, healing=(stands_for, done))
                count += 1
        seq = await self._work(lambda: self._store.last_seq)
        await self._publish(encode_batch({}, [], stands_for), stands_for, seq=seq, healing=None)
        await self._work(lambda: self._log.give_up([name.path for name in lost]))
        step("heal.ended")
        _log.info("%d segments that the remote lost were published again", len(lost))
        return count + 1

    def _missing(self, lost: Collection[SegmentName], listed: list[SegmentName]) -> StandsFor:
        """The publications that are to be stood for: what is lost, and what that stood for in its turn."""
        healed = self._ledger.healed()
        covered = covered_by(listed, healed)
        gone: dict[str, Ranges] = {}
        for name in lost:
            gone[name.device] = gone.get(name.device, Ranges()).add(name.first, name.last)
        for each in healed:
            if gone.get(each.publisher, Ranges()).covers(each.first, each.last):
                for device, ranges in each.stands_for.items():
                    gone[device] = gone.get(device, Ranges()) | Ranges.of(*ranges)
        have = self._ledger.vouched()
        found: StandsFor = {}
        for device, ranges in gone.items():
            there = covered.get(device, Ranges())
            missing = [left for span in ranges.spans for left in there.missing(*span)]
            if held := [span for span in missing if have.of(device).covers(*span)]:
                found[device] = held
        return found

    def _writers(self, publishers: Collection[str]) -> set[str]:
        own = self._store.former_devices if self._store.device in publishers else []
        return self._ledger.writers([*publishers, *own])

    def _left(self, stands_for: StandsFor) -> list[int]:
        """The sessions that are to be published, without those that were before it was cut short."""
        done = self._log.healing(stands_for)
        return [no for no in known_to(self._store, self._writers(stands_for)) if no > done]

    def _part(self, sessions: list[int]) -> tuple[list[int], list[int]]:
        """As many of the sessions as fill a few segments, and the rest."""
        size = 0
        for at, no in enumerate(sessions, start=1):
            [bytes_of] = self._store.one("SELECT size_bytes FROM sessions WHERE no = ?", (no,)) or (0,)
            size += bytes_of
            if size > SEGMENT_BYTES:
                return sessions[:at], sessions[at:]
        return sessions, []

    def _said(self, sessions: list[int]) -> tuple[int, list[bytes]]:
        """All that is known of some sessions, and where the feed stood before it was read: a purge may come behind it.

        One that was purged meanwhile has another number; whoever purged it says so.
        """
        seq = self._store.last_seq
        here = [no for no in sessions if self._store.one("SELECT 1 FROM sessions WHERE no = ?", (no,))]
        return seq, list(whole(self._store, here, max_bytes=SEGMENT_BYTES))

    async def _publish(self, content: bytes, stands_for: StandsFor, *, seq: int, healing: Healing | None) -> None:
        intent = await self._work(lambda: self._intend(content, stands_for, seq, healing))
        await self._send(intent)

    def _intend(self, content: bytes, stands_for: StandsFor, seq: int, healing: Healing | None) -> Intent:
        device = self._store.device
        number = self._log.next_number(device)
        target = SegmentName(device, number, number, 0, new_id(self._draw))
        intent = Intent(number, target.path, self._sealer.close(content, name=target.path))
        key = sealed_with(intent.sealed, name=target.path)  # which may have changed since
        segment = Segment(target.path, len(content), key, seq, hashes_of(sessions_in(content)))
        writers = decode_batch(content).writers()  # of whom nothing may be left out when this is lost in its turn
        self._log.intend(
            intent, segment, now_ms=self._now_ms(), target=target, stands_for=stands_for, writers=writers,
            healing=healing,
        )  # fmt: skip
        return intent
