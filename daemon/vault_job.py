"""The vault's job in the daemon: when the remote is asked, how often, and how long it is left alone.

    sync ─ well ──→ push what was written · pull what is new · tend ──→ …
      └─── fails ─→ wait, ever longer, and sync again

What was written while somebody wanted the remote left alone is sent when that is over. On a connection that costs
the remote is asked less often, and what can wait waits (tests/unit/test_vault_job.py, tests/e2e/test_pause.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from ..storage.database import wall_ms
from ..storage.errors import HomeBusy, RemoteNotConfigured, RemoteRefused, RemoteUnreachable, StenoError
from ..storage.home import Home
from ..storage.store import Store
from ..sync.vault.deadlines import TIMEOUT_S, in_thread
from ..sync.vault.engine import VaultEngine
from ..sync.vault.membership import Membership, membership
from ..sync.vault.names import LOG, SegmentName
from ..sync.vault.remote import Remote
from ..sync.vault.report import SyncReport
from ..sync.vault.restraint import METERED, PAUSED
from .lock import ProcessLock
from .waking import Signal, either
from .watch import Watcher

GATHER_S = 0.5
POLL_FIRST_S, POLL_LAST_S = 2.0, 60.0
LOOK_GAP_S = 0.1
"""News that comes without end, as a folder has it into which something large is copied, is looked at so often."""
METERED_GATHER_S, METERED_POLL_S = 10.0, 300.0
BACK_OFF_FIRST_S, BACK_OFF_LAST_S = 1.0, 1800.0
PAUSE_LOOK_S = 5.0
LOCK_LOOK_S = 0.2
ENGINE_WITHIN_S = 30.0
LET_GO_S = 1.0

_T = TypeVar("_T")


class Pace(NamedTuple):
    """How long writes are gathered, and how soon and how seldom a remote is asked what is new."""

    gather_s: float
    poll_first_s: float
    poll_last_s: float


_log = logging.getLogger("steno.daemon")


class VaultJob:
    """Keeps a store and the remote of its vault equal, once the home has one.

    ``make`` gives an engine and its remote, ``watcher`` something to watch a folder with. ``written``, ``news`` and
    ``joined`` are for whoever knows that something was written here or elsewhere, or that the home's vault is another.
    """

    def __init__(
        self,
        home: Home,
        reader: Store,
        *,
        make: Callable[[Membership], tuple[VaultEngine, Remote]],
        watcher: Callable[[], Watcher],
    ) -> None:
        self.written, self.news, self.joined = Signal(), Signal(), Signal()
        self.live: dict[str, Any] = {}
        self._home, self._reader = home, reader
        self._make, self._make_watcher = make, watcher
        self._engine: VaultEngine | None = None
        self._engine_made = asyncio.Event()
        self._remote: Remote | None = None
        self._unopened: StenoError | None = None
        self._credentials: tuple[int, ...] = ()
        self._watcher: Watcher | None = None
        self._failures = self._refusals = 0
        self._send_after = 0.0
        self._refused: str | None = None
        self._heard = 0
        """How often the remote told of news since it was listened to: the first time only says that it is."""

    def status(self) -> dict[str, Any] | None:
        """What only the job knows; None before it has begun."""
        if self._remote is None:
            return dict(self.live) or None
        progress = None if self._engine is None else msgspec.to_builtins(self._engine.course.now)
        return {**self.live, "requests": dict(self._remote.requests), "progress": progress}

    async def ask(self, call: Callable[[VaultEngine], Awaitable[_T]], /) -> _T:
        """Run a call with the engine, at once; raises the errors of the remote."""
        if membership(self._home) is None:
            raise RemoteNotConfigured(home=str(self._home.data))
        try:
            async with asyncio.timeout(ENGINE_WITHIN_S):
                await self._engine_made.wait()
        except TimeoutError as exc:
            raise HomeBusy(home=str(self._home.data), holder=None, task="syncing") from exc
        if self._engine is None:
            assert self._unopened is not None, "set before the event"
            raise self._unopened
        result = await call(self._engine)
        if isinstance(result, SyncReport):
            self._refused, self._refusals = None, 0
            self._say(result)
            self.news.set()
        return result

    def awoke(self) -> None:
        """The machine slept, and what was waited for may be over."""
        self._failures = 0
        self.news.set()

    async def close(self) -> None:
        """Let go of the remote; a disk that hangs does not let go."""
        if self._watcher is not None:
            with contextlib.suppress(TimeoutError):
                await in_thread(self._watcher.end, timeout_s=LET_GO_S)
        if self._remote is not None:
            await self._remote.close()

    async def run(self) -> None:
        """Do the job for ever; raises what is no fault of the remote."""
        while (found := membership(self._home)) is None:
            await self.joined.wait(None)
        lock = await self._sync_lock()
        hearing: asyncio.Task[None] | None = None
        try:
            engine, remote = self._engine_of(found)
            hearing = asyncio.create_task(self._hear(remote))
            while True:
                asked_s: float | None = None
                try:
                    await self._mirror(engine, remote)
                except StenoError as exc:
                    self._failures += 1
                    self.live.update(error=exc.line)
                    _log.warning("%s", exc.line)
                    asked_s = exc.retry_after_s if isinstance(exc, RemoteUnreachable) else None
                    # What was watched may be another directory when the remote is back.
                    await self._unwatch(remote)
                    if self._is_outdated():
                        await self._let_go()
                        raise
                wait_s = _back_off_s(self._failures)
                await self.news.wait(max(wait_s, min(asked_s or 0.0, BACK_OFF_LAST_S)))
        finally:
            if hearing is not None:
                hearing.cancel()
            lock.release()

    def _is_outdated(self) -> bool:
        """Whether the file with credentials is another than when the remote was opened, so that it may do better."""
        return self._credentials != _stands(self._home.credentials_file)

    async def _let_go(self) -> None:
        """Let the remote be opened anew."""
        remote, self._remote, self._engine = self._remote, None, None
        self._engine_made.clear()
        if remote is not None:
            await remote.close()

    async def _sync_lock(self) -> ProcessLock:
        """The lock of whoever syncs this home, taken; a command that syncs just now is waited for."""
        while True:
            with contextlib.suppress(HomeBusy):
                return ProcessLock(self._home.sync_lock, task="syncing").take()
            await asyncio.sleep(LOCK_LOOK_S)

    def _engine_of(self, found: Membership) -> tuple[VaultEngine, Remote]:
        if self._engine is None or self._remote is None:
            self._credentials = _stands(self._home.credentials_file)
            try:
                self._engine, self._remote = self._make(found)
            except StenoError as exc:  # its address is not complete here, or its driver is missing
                self._unopened = exc
                self._engine_made.set()
                raise
            self._engine_made.set()
        return self._engine, self._remote

    async def _hear(self, remote: Remote) -> None:
        """Let a remote that tells of news wake the pull; one that cannot be heard just now is polled meanwhile."""
        while remote.folder is None:
            try:
                if await remote.news(timeout_s=POLL_LAST_S):
                    self._heard += 1
                    self.news.set()
            except StenoError:
                self._heard = 0
                await asyncio.sleep(POLL_LAST_S * random.uniform(0.5, 1.0))  # noqa: S311

    async def _unpaused(self) -> bool:
        """Wait while somebody wants the remote left alone; whether it was, so that something may have been written."""
        waited = False
        while (until_ms := PAUSED.until(self._reader, now_ms=wall_ms())) is not None:
            waited = True
            await self.written.wait(min(PAUSE_LOOK_S, (until_ms - wall_ms()) / 1000 + 0.001))
        return waited

    def _is_told(self) -> bool:
        """Say whether the remote tells of news, so that it need not be asked often."""
        return self._heard > 1

    def _is_metered(self) -> bool:
        return METERED.until(self._reader, now_ms=wall_ms()) is not None

    async def _mirror(self, engine: VaultEngine, remote: Remote) -> None:
        await self._unpaused()
        watched, sparing = await self._watch(remote), self._is_metered()
        self._say(await self._sent(partial(engine.sync, sparing=sparing)) or await engine.pull(sparing=sparing))
        await self._tend(engine, sparing=sparing)
        told = self._is_told()
        pace = pace_of(watched=watched, metered=sparing, told=told)
        poll_s = pace.poll_first_s
        pulled, pushed, unsent, unseen = time.monotonic(), -math.inf, False, False
        while True:
            send_at = self._send_at(pushed + pace.gather_s, unsent=unsent)
            look_at = pulled + (min(LOOK_GAP_S, poll_s) if unseen else poll_s)
            wanted_s = max(0.0, min(look_at, send_at) - time.monotonic())
            written, news = await either(self.written, self.news, wanted_s)
            unsent |= await self._unpaused() or written
            unseen |= news
            metered, tells = self._is_metered(), self._is_told()
            if (metered, tells) != (sparing, told):
                unseen |= sparing and not metered
                sparing, told = metered, tells
                pace = pace_of(watched=watched, metered=sparing, told=told)
                poll_s = pace.poll_first_s
            if time.monotonic() >= self._send_at(pushed + pace.gather_s, unsent=unsent):
                unsent = False
                report = await self._sent(engine.push)
                if report is not None:
                    if report.sent_segments:
                        pushed = time.monotonic()
                        poll_s = pace.poll_first_s
                    self._say(report)
            if time.monotonic() - pulled >= (LOOK_GAP_S if unseen else poll_s):
                unseen = False
                report = await engine.pull(sparing=sparing)
                pulled = time.monotonic()
                poll_s = pace.poll_first_s if report.received_segments else min(poll_s * 1.5, pace.poll_last_s)
                self._say(report)
                await self._tend(engine, sparing=sparing)

    def _send_at(self, gathered_s: float, *, unsent: bool) -> float:
        """When something is to be sent next, by the monotonic clock: what is gathered, or what was refused."""
        if self._refused:
            return self._send_after
        return gathered_s if unsent else math.inf

    async def _tend(self, engine: VaultEngine, *, sparing: bool) -> None:
        if not self._refused and (tended := await self._sent(partial(engine.tend, sparing=sparing))):
            self._say(tended)

    async def _sent(self, send: Callable[[], Awaitable[SyncReport]]) -> SyncReport | None:
        """Send something; None where the remote takes nothing: it is read on, and asked ever more seldom to take."""
        try:
            report = await send()
        except RemoteRefused as exc:
            if self._is_outdated():
                raise
            self._refusals += 1
            self._refused = exc.line
            self._send_after = time.monotonic() + _back_off_s(self._refusals)
            self.live.update(error=exc.line)
            _log.warning("%s", exc.line)
            return None
        self._refused, self._refusals = None, 0
        return report

    def _say(self, report: SyncReport) -> None:
        self._failures = 0
        self.live.update(error=self._refused, problems=report.problems, synced_ms=wall_ms())
        if report.sent_segments or report.received_segments:
            _log.info(
                "sent %d segments, received %d with %d new messages",
                report.sent_segments, report.received_segments, report.received_messages,
            )  # fmt: skip

    async def _watch(self, remote: Remote) -> bool:
        """Watch a folder remote for what others put there; our own objects are no news.

        Its watcher is one of its own, asked by threads that nobody waits for: a network disk may hang.
        """
        folder = remote.folder
        if folder is None:
            return False
        watcher = self._watcher = self._watcher or self._make_watcher()
        own, log = f"{self._reader.device}.", LOG.rstrip("/")

        def happened(path: Path) -> None:
            # The directory above log/ is watched, since log/ may not be there yet. What goes is no news.
            others = path.parent.name == log and not path.name.startswith((own, "."))
            if (others and SegmentName.parse(LOG + path.name) is not None) or path == folder / log:
                self.news.set()

        def watch() -> bool:
            return folder.is_dir() and watcher.watch(folder, happened, recursive=True)

        try:
            return await in_thread(watch, timeout_s=TIMEOUT_S)
        except TimeoutError as exc:
            raise RemoteUnreachable(remote=remote.address, reason="it did not answer in time") from exc

    async def _unwatch(self, remote: Remote) -> None:
        watcher, folder = self._watcher, remote.folder
        if folder is not None and watcher is not None:
            try:
                await in_thread(lambda: watcher.unwatch(folder), timeout_s=LET_GO_S)
            except TimeoutError:
                self._watcher = None


def pace_of(*, watched: bool, metered: bool, told: bool = False) -> Pace:
    """The pace for a remote that is watched, or tells of news itself, or is polled, on a connection that may cost."""
    gather_s = METERED_GATHER_S if metered else GATHER_S
    if watched:
        return Pace(gather_s, POLL_LAST_S, POLL_LAST_S)
    if metered:
        return Pace(gather_s, METERED_POLL_S, METERED_POLL_S)
    return Pace(gather_s, POLL_LAST_S if told else POLL_FIRST_S, POLL_LAST_S)


def _stands(path: Path) -> tuple[int, ...]:
    """What tells a file from what it was before; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _back_off_s(failures: int) -> float:
    longest_s = min(BACK_OFF_FIRST_S * 2 ** min(failures, 20), BACK_OFF_LAST_S)
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311
