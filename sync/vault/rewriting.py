"""Our own segments, written again: as fewer, without what was purged, under the present key.

    read them → one that stands for them: remembered → put → read back → they are replaced → deleted

Killed anywhere nothing is missing: what is replaced is deleted only when the other one was read back, and one whose
replacing was not finished is deleted itself. What was purged goes from the remote at once; what is only replaced
stays a while, since a folder that something replicates may show the deletion first
(tests/unit/test_vault_rewriting.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from ...storage.change import encode_batch, sessions_in
from ...storage.deletion import LAST_PURGE
from ...storage.errors import NewerFormat, ObjectDamaged, ObjectMissing
from ...storage.identity import is_written_since
from ...storage.purged import Purged, purged_since
from ...storage.steps import step
from ...storage.store import Store
from .compaction import MAX_CONTENT_BYTES, MOST, ROOM, Published, choose, combine, is_crowded
from .names import MAX_LEVEL, Draw, SegmentName, new_id
from .own_log import OwnLog, Segment, hash_of, hashes_of
from .remote import Remote
from .seal import UnknownKey, sealed_with
from .segment import Sealer, batch_of
from .work import Work

GRACE_MS = 5 * 60_000
SPARING_MOST = 256
COMPRESSION_LEVEL = 9
_EVER_MS = 1 << 53
_log = logging.getLogger("steno.vault")


class _TooMuch(Exception):
    """Some segments hold more together than anybody reads in one."""


class _Stuck(NamedTuple):
    """Segments, from ``first`` on, that could not be joined, and why: they are read again after a while."""

    first: SegmentName
    since_ms: int
    problems: list[str]


class Rewriter:
    """Writes segments of this device again where there is a reason to. ``find`` looks for a key that is not held."""

    def __init__(
        self, store: Store, log: OwnLog, remote: Remote, sealer: Sealer,
        *, now_ms: Callable[[], int], draw: Draw, work: Work, find: Callable[[str], Awaitable[bool]],
    ) -> None:  # fmt: skip
        self._store, self._log, self._remote, self._sealer = store, log, remote, sealer
        self._now_ms, self._draw, self._work, self._find = now_ms, draw, work, find
        self._anew: set[tuple[str, str]] = set()
        self._stuck: _Stuck | None = None
        self._full: set[SegmentName] = set()
        """What is joined to nothing more: it holds as many entries as anybody reads."""

    async def tend(self, *, sparing: bool = False) -> list[str]:
        """Write again what is due; return what could not be done. Called again it does nothing.

        ``sparing`` writes anew only what was purged, unless more than `SPARING_MOST` stand. Raises errors of the
        remote.
        """
        problems = await self.scrub()
        if sparing and len(await self._work(self._own)) <= SPARING_MOST:
            return problems
        if not await self._work(self._all_is_told):
            return problems
        await self._delete(before_ms=self._now_ms() - GRACE_MS)
        await self._seal_anew(problems)
        most = MOST - ROOM if is_crowded(await self._work(self._own)) else MOST
        while run := choose(await self._work(self._own), most=most):
            now_ms, stuck = self._now_ms(), self._stuck
            if stuck is None or stuck.first != run[0].name or not 0 <= now_ms - stuck.since_ms < GRACE_MS:
                found: list[str] = []
                if await self._join(run, found):
                    continue
                stuck = self._stuck = _Stuck(run[0].name, now_ms, found)
            problems += stuck.problems
            break
        return problems

    def _own(self) -> list[Published]:
        named = ((SegmentName.parse(each.name), each.content_bytes) for each in self._log.standing())
        own = self._store.device  # what a restored store sent under its former id is numbered on its own
        return [
            Published(name, MAX_CONTENT_BYTES if name in self._full else size)
            for name, size in named
            if name is not None and name.device == own and size
        ]

    async def _join(self, run: list[Published], problems: list[str]) -> bool:
        """Let one segment stand for some, or for fewer of them where nobody would read all in one."""
        while True:
            try:
                return await self._replace([each.name for each in run], problems)
            except _TooMuch:
                if len(run) == 2:
                    self._full.add(max(run, key=lambda each: each.content_bytes).name)
                    return True
                run = run[: max(len(run) // 2, 2)]

    async def scrub(self) -> list[str]:
        """Write every segment again in which something stands that was purged since this was last done.

        Returns what could not be done. Raises errors of the remote.
        """
        problems: list[str] = []
        upto, names = await self._work(self._to_scrub)
        if upto is None:
            return problems
        for name in names:
            await self._replace([name], problems)
        await self._delete(before_ms=_EVER_MS)
        if not problems:
            await self._work(lambda: self._log.set_scrubbed(upto))
        return problems

    def _all_is_told(self) -> bool:
        """Say whether nothing waits to be published: what replaced a value that is left out must be there first."""
        return not self._log.pending_count() and not is_written_since(self._store, *self._log.position)

    def _to_scrub(self) -> tuple[int | None, list[SegmentName]]:
        last, scrubbed = int(self._store.meta(LAST_PURGE) or 0), self._log.scrubbed
        if last <= scrubbed or not self._all_is_told():
            return None, []
        hashes = {hash_of(session) for session in purged_since(self._store, scrubbed)}
        return last, _names(each for each in self._log.standing() if each.seq < last and each.names_any(hashes))

    async def _seal_anew(self, problems: list[str]) -> None:
        """Seal again what an older key seals."""
        keyring = self._sealer.keyring
        if len(keyring.keys) == 1:
            return
        standing = await self._work(self._log.standing)
        for each in standing:
            # What another home put under our id may be sealed anew already: two homes would take turns for ever.
            if each.key != keyring.current.id and (each.key or not await self._is_anew(each.name)):
                await self._replace(_names([each]), problems)

    async def _is_anew(self, name: str) -> bool:
        """Say whether the present key seals a segment; asked of the remote once."""
        current = self._sealer.keyring.current.id
        if (name, current) not in self._anew:
            try:
                if sealed_with(await self._remote.get(name), name=name) != current:
                    return False
            except (ObjectMissing, ObjectDamaged, NewerFormat):
                return False
            self._anew.add((name, current))
        return True

    async def _replace(self, inputs: list[SegmentName], problems: list[str]) -> bool:
        """Let one new segment stand for some that lie side by side; False where one of them cannot be read.

        One that is gone and that others stand for is given up instead.
        """
        contents: list[bytes] = []
        for name in inputs:
            try:
                contents.append(await self._read(name))
            except (ObjectMissing, ObjectDamaged, NewerFormat, UnknownKey) as exc:
                if isinstance(exc, ObjectMissing) and await self._work(lambda name=name: self._log.let_go(name)):
                    return True
                problems.append(str(exc))
                return False
        level = min(max(name.level for name in inputs) + 1, MAX_LEVEL)
        target = SegmentName(inputs[0].device, inputs[0].first, inputs[-1].last, level, new_id(self._draw)).path
        replaced = [name.path for name in inputs]
        sealed = await self._work(lambda: self._combined(target, replaced, contents))
        step("rewrite.announced")
        await self._remote.put(target, sealed)
        step("rewrite.put")
        if await self._remote.get(target) != sealed:
            problems.append(f"remote object {target} is not what was put there")
            return False
        await self._work(lambda: self._log.replaced(target, replaced, now_ms=self._now_ms()))
        step("rewrite.replaced")
        return True

    async def _read(self, name: SegmentName) -> bytes:
        sealed = await self._remote.get(name.path)
        try:
            return await self._work(lambda: self._content(name, sealed))
        except UnknownKey as exc:  # of what another home put under our id
            if not await self._find(exc.key_id):
                raise
            return await self._work(lambda: self._content(name, sealed))

    def _content(self, name: SegmentName, sealed: bytes) -> bytes:
        content = self._sealer.content(sealed, name=name.path)
        batch_of(content, name=name.path)  # what a later version wrote is left to it
        return content

    def _combined(self, target: str, inputs: list[str], contents: list[bytes]) -> bytes:
        seq = self._store.last_seq
        batches = [batch_of(content, name=name) for name, content in zip(inputs, contents, strict=True)]
        combined = combine(batches, Purged(self._store))
        content = encode_batch(combined.devices, combined.sessions, combined.stands_for)
        if len(inputs) > 1:
            try:
                batch_of(content, name=target)
            except ObjectDamaged as exc:
                raise _TooMuch from exc
        sealed = self._sealer.close(content, name=target, level=COMPRESSION_LEVEL)
        key = sealed_with(sealed, name=target)  # which may have changed since
        segment = Segment(target, len(content), key, seq, hashes_of(sessions_in(content)))
        self._log.announce(segment, now_ms=self._now_ms())
        return sealed

    async def _delete(self, *, before_ms: int) -> None:
        """Delete what was replaced before a time, and what a crash left."""
        for name in await self._work(lambda: self._log.to_delete(before_ms=before_ms)):
            with suppress(ObjectMissing):
                await self._remote.delete(name)
            step("rewrite.deleted")
            await self._work(lambda name=name: self._log.deleted(name, now_ms=self._now_ms()))


def _names(segments: Iterable[Segment]) -> list[SegmentName]:
    return [name for name in (SegmentName.parse(each.name) for each in segments) if name is not None]
