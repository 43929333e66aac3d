"""The daemon: one process of a home that keeps files, remote, index and API up to the store.

Every job is a cursor on the feed, so each of them can die and resume; this module names the
concrete classes, wires them, and wakes each job when there may be something to do
(tests/e2e/test_daemon.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .. import __version__
from ..storage.database import wall_ms
from ..storage.errors import HomeBusy, RemoteNotConfigured, RemoteRefused, RemoteUnreachable, StenoError
from ..storage.home import Home, write_private
from ..storage.indexing import index
from ..storage.shrink import is_shrunk, shrink
from ..storage.steps import step
from ..storage.store import Store
from ..sync.files.mirror import Mirror
from ..sync.vault.deadlines import TIMEOUT_S, in_thread
from ..sync.vault.engine import SyncReport, VaultEngine
from ..sync.vault.membership import Membership, membership
from ..sync.vault.names import LOG
from ..sync.vault.pause import paused_until
from ..sync.vault.remote import Remote, open_remote
from ..sync.vault.rotation import HomeKeys
from .http import Api, Listening, make_app, serve
from .lock import ProcessLock, vault_lock
from .status import status_of
from .watch import Watcher
from .worker import Worker

GATHER_S = 0.5
POLL_FIRST_S, POLL_LAST_S = 2.0, 60.0
BACK_OFF_FIRST_S, BACK_OFF_LAST_S = 1.0, 1800.0
STORE_POLL_S = 5.0
VANISH_S = 1.0
RESCAN_S = 3600.0
UNWATCHED_S = 5.0
BUSY_SHARE = 50
HOUSE_S = 3600.0
RETRY_FIRST_S, RETRY_LAST_S = 2.0, 10.0
LOCK_LOOK_S = 0.2
ENGINE_WITHIN_S = 30.0
SLEPT_S = 30.0
LET_GO_S = 1.0

_T = TypeVar("_T")

_log = logging.getLogger("steno.daemon")


class Signal:
    """Something may have happened: set from anywhere on the loop, waited for by one job."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self, *_: object) -> None:
        """Say that something may have happened."""
        self._event.set()

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait until it is set, and clear it; False when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Daemon:
    """The jobs of one home while they run. None ends the daemon: what one raises is said, and it begins anew."""

    def __init__(self, home: Home, open_store: Callable[[], Store]) -> None:
        self._home = home
        self._open_store = open_store
        self._reader = open_store()
        self._workers: dict[str, Worker] = {}
        self._live: dict[str, Any] = {"files": {}, "search": {}, "vault": {}, "daemon": {}}
        self._wake_files, self._wake_index, self._wake_vault = Signal(), Signal(), Signal()
        self._new_on_remote, self._new_membership = Signal(), Signal()
        self._engine: VaultEngine | None = None
        self._engine_made = asyncio.Event()
        self._remote: Remote | None = None
        self._watcher: Watcher | None = None
        self._remote_watcher: Watcher | None = None
        self._mirror: Mirror | None = None
        self._events_lost = False
        self._listening: Listening | None = None
        self._stopping = threading.Event()
        self._failures = self._refusals = 0
        self._send_after = 0.0
        self._refused: str | None = None

    async def run(self, *, port: int, ready: Callable[[Listening], None], stop: asyncio.Event) -> None:
        """Run every job until ``stop`` is set; ``ready`` is called when the API listens."""
        jobs: list[asyncio.Task[None]] = []
        try:
            self._watcher = Watcher(self._lost_events)
            api = self._worker("api")
            self._listening = await self._serve(api, port)
            self._watcher.watch(self._home.data, self._in_home, recursive=False)
            jobs = [
                asyncio.create_task(self._kept(self._poll_store, {}, "error", Signal())),
                asyncio.create_task(self._kept(self._keep_files, self._live["files"], "stopped", self._wake_files)),
                asyncio.create_task(self._kept(self._keep_index, self._live["search"], "error", self._wake_index)),
                asyncio.create_task(self._kept(self._keep_vault, self._live["vault"], "error", self._wake_vault)),
                asyncio.create_task(self._kept(self._keep_house, {}, "error", Signal())),
            ]
            ready(self._listening)
            await stop.wait()
        finally:
            self._stopping.set()
            await self._close(jobs)

    async def _kept(self, job: Callable[[], Awaitable[None]], live: dict[str, Any], key: str, wake: Signal) -> None:
        """Run a job again and again; what it raises stands in the status under ``key`` until it is well again.

        It is tried again soon if something happened meanwhile, which may have mended it.
        """
        while True:
            try:
                await job()
            except StenoError as exc:
                if live.get(key) != exc.line:
                    _log.error("%s", exc.line)
                live[key] = exc.line
            except Exception as exc:  # noqa: BLE001  whatever it is, the other jobs go on
                _log.exception("a job of the daemon failed; it begins anew")
                live[key] = f"something unexpected happened ({type(exc).__name__}: {exc}): see {self._home.log_file}"
            await asyncio.sleep(RETRY_FIRST_S)
            await wake.wait(RETRY_LAST_S - RETRY_FIRST_S)

    async def _close(self, jobs: list[asyncio.Task[None]]) -> None:
        if self._listening is not None:
            await self._listening.stop()
        for job in jobs:
            job.cancel()
        if "house" in self._workers:
            self._workers["house"].store.connection.interrupt()  # writing a large database anew takes long
        await asyncio.gather(*jobs, return_exceptions=True)
        if self._watcher is not None:
            await self._watcher.stop()
        if self._remote_watcher is not None:  # a disk that hangs does not let go
            with contextlib.suppress(TimeoutError):
                await in_thread(self._remote_watcher.end, timeout_s=LET_GO_S)
        if self._remote is not None:
            await self._remote.close()
        for worker in self._workers.values():
            worker.close()
        self._reader.close()

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name, self._open_store)
        return self._workers[name]

    async def _serve(self, worker: Worker, port: int) -> Listening:
        api = Api(
            store=worker.store, thread=worker.thread, status=self.status, on_vault=self.on_vault,
            on_files=self.on_files, directory=self._home.sessions,
        )  # fmt: skip
        token = self._home.token_file.read_text(encoding="ascii").strip()
        listening = await serve(make_app(api, token=token), port=port, socket_path=self._home.socket)
        for note in listening.notes:
            _log.warning("%s", note)
        return listening

    def status(self) -> dict[str, Any]:
        """How the home stands, with what only the running daemon knows."""
        live = {part: values for part, values in self._live.items() if part != "vault" or self._engine is not None}
        if self._remote is not None:
            live["vault"] = {**live["vault"], "requests": dict(self._remote.requests)}
        port = self._listening.port if self._listening else 0
        live["daemon"] = {"pid": os.getpid(), "port": port, "version": __version__}
        return status_of(self._reader, self._home, live=live)

    async def on_vault(self, call: Callable[[VaultEngine], Awaitable[_T]], /) -> _T:
        """Run a call with the engine of the vault, at once; raises the errors of the remote."""
        if membership(self._home) is None:
            raise RemoteNotConfigured(home=str(self._home.data))
        try:
            async with asyncio.timeout(ENGINE_WITHIN_S):
                await self._engine_made.wait()
        except TimeoutError as exc:
            raise HomeBusy(home=str(self._home.data), holder=None, task="syncing") from exc
        assert self._engine is not None, "set before the event"
        result = await call(self._engine)
        if isinstance(result, SyncReport):
            self._refused, self._refusals = None, 0
            self._say(result)
            self._new_on_remote.set()
        return result

    # What wakes the jobs

    def _in_home(self, path: Path) -> None:
        if path.name.startswith(self._home.database.name):
            self._feed_moved()
        elif path == self._home.sessions:
            self._wake_files.set()
        elif path == self._home.vault_file:
            self._new_membership.set()
            self._new_on_remote.set()

    def _lost_events(self) -> None:
        """The system had more to tell than it keeps: whatever is watched must be looked at as a whole."""
        _log.warning("more happened at once than the system could tell; the files are compared with the store")
        self._events_lost = True
        self._wake_files.set()
        self._new_on_remote.set()
        self._feed_moved()

    def _feed_moved(self) -> None:
        for wake in (self._wake_files, self._wake_index, self._wake_vault):
            wake.set()

    async def _poll_store(self) -> None:
        """Look now and then whether another process wrote, where the file system did not say so."""
        seen = 0
        while True:
            version = self._reader.one("PRAGMA data_version")[0]
            if version != seen:
                seen = version
                self._feed_moved()
            before_s = time.time() - time.monotonic()
            await asyncio.sleep(STORE_POLL_S)
            if time.time() - time.monotonic() - before_s > SLEPT_S:
                # The machine slept, and what was waited for may be over.
                self._failures = 0
                self._new_on_remote.set()

    # The files

    async def on_files(self, call: Callable[[Mirror], _T], /) -> _T:
        """Run a call with the mirror of the files between its other calls, also while it stands still."""
        try:
            result = await self._worker("files").run(lambda: call(self._files_mirror()))
            self._live["files"].update(stopped=None)
            return result
        finally:
            self._wake_files.set()

    def _files_mirror(self) -> Mirror:
        """The one mirror; made and used on the thread of the files."""
        if self._mirror is None:
            store = self._worker("files").store
            self._mirror = Mirror(store, self._home.sessions, stopping=self._stopping.is_set)
        return self._mirror

    async def _keep_files(self) -> None:
        touched: set[Path] = set()

        def happened(path: Path) -> None:
            touched.add(path)
            self._wake_files.set()

        while True:
            self._events_lost = False
            # Watched first, so that nothing falls between the two; one that `scan` has to make is taken up again.
            directory = _inode(self._home.sessions)
            watched = False
            if directory is not None and self._watcher is not None:
                watched = self._watcher.watch(self._home.sessions, happened, recursive=True)
            self._live["files"].update(watched=watched)
            began = time.monotonic()
            stopped = self._live["files"].get("stopped")
            await self.on_files(Mirror.scan)
            if stopped:
                _log.info("the files go on")
            poll_s = RESCAN_S if watched else max(UNWATCHED_S, BUSY_SHARE * (time.monotonic() - began))
            await self._mirror_files(touched, directory, poll_s=poll_s)

    async def _mirror_files(self, touched: set[Path], directory: int | None, *, poll_s: float) -> None:
        """Keep files and store equal until the directory is another one, or is to be looked at as a whole."""
        gone: dict[str, None] = {}
        quiet_since = scanned = time.monotonic()
        wait_s: float | None = 0.0
        while _inode(self._home.sessions) == directory and not self._events_lost:
            await self._wake_files.wait(wait_s)
            paths = [path for path in touched if path.is_relative_to(self._home.sessions)]
            touched.clear()
            now = time.monotonic()
            if paths:
                found = await self._worker("files").run(lambda paths=paths: self._files_mirror().saved(paths))
                if found:
                    # Whoever removes many files does so one by one: they are judged together.
                    gone.update(dict.fromkeys(found))
                    quiet_since = now
            if gone and now - quiet_since >= VANISH_S:
                await self._worker("files").run(lambda due=list(gone): self._files_mirror().vanished(due))
                gone.clear()
            if now - scanned > poll_s:
                return
            later_s = await self._worker("files").run(lambda: self._files_mirror().write_pending())
            wait_s = min([poll_s, *([] if later_s is None else [later_s]), *([VANISH_S] if gone else [])])

    # The index

    async def _keep_index(self) -> None:
        worker = self._worker("index")
        self._wake_index.set()
        while True:
            await self._wake_index.wait(None)
            self._live["search"].update(error=None)
            # Bulk writes come in bursts: let them pass, the index is allowed to lag.
            await asyncio.sleep(GATHER_S)
            remaining = 1
            while remaining:
                remaining = (await worker.run(lambda: index(worker.store))).remaining
                step("index.slice")

    # The house

    async def _keep_house(self) -> None:
        """Get off the disk, now and then, what was purged by other devices or could not be got off at once."""
        while True:
            await asyncio.sleep(HOUSE_S)
            worker = self._worker("house")
            if not await worker.run(lambda store=worker.store: is_shrunk(store)):
                remains = await worker.run(lambda store=worker.store: shrink(store))
                for problem in remains.problems:
                    _log.warning("%s", problem)

    # The vault

    async def _keep_vault(self) -> None:
        while (found := membership(self._home)) is None:
            await self._new_membership.wait(None)
        lock = await self._sync_lock()
        hearing: asyncio.Task[None] | None = None
        try:
            engine, remote = self._engine_of(found)
            hearing = asyncio.create_task(self._hear(remote))
            while True:
                asked_s: float | None = None
                try:
                    await self._mirror_vault(engine, remote)
                except StenoError as exc:
                    self._failures += 1
                    self._live["vault"].update(error=exc.line)
                    _log.warning("%s", exc.line)
                    asked_s = exc.retry_after_s if isinstance(exc, RemoteUnreachable) else None
                    # What was watched may be another directory when the remote is back.
                    await self._unwatch(remote)
                wait_s = _back_off_s(self._failures)
                await self._new_on_remote.wait(max(wait_s, min(asked_s or 0.0, BACK_OFF_LAST_S)))
        finally:
            if hearing is not None:
                hearing.cancel()
            lock.release()

    async def _hear(self, remote: Remote) -> None:
        """Let a remote that tells of news wake the pull; one that cannot be heard just now is polled meanwhile."""
        while remote.folder is None:
            try:
                if await remote.news(timeout_s=POLL_LAST_S):
                    self._new_on_remote.set()
            except StenoError:
                await asyncio.sleep(POLL_LAST_S * random.uniform(0.5, 1.0))  # noqa: S311

    async def _sync_lock(self) -> ProcessLock:
        """The lock of whoever syncs this home, taken; a command that syncs just now is waited for."""
        while True:
            with contextlib.suppress(HomeBusy):
                return ProcessLock(self._home.sync_lock, task="syncing").take()
            await asyncio.sleep(LOCK_LOOK_S)

    def _engine_of(self, found: Membership) -> tuple[VaultEngine, Remote]:
        if self._engine is None or self._remote is None:
            worker = self._worker("sync")
            self._remote = open_remote(found.url)
            keys = HomeKeys(self._home, found, lock=lambda: vault_lock(self._home))
            self._engine = VaultEngine(
                worker.store, self._remote, vault=found.vault, keyring=keys,
                now_ms=wall_ms, draw=secrets.token_bytes, work=worker.run,
            )  # fmt: skip
            self._engine_made.set()
        return self._engine, self._remote

    async def _unpaused(self) -> None:
        """Wait while somebody wants the remote left alone."""
        while (until_ms := paused_until(self._reader, now_ms=wall_ms())) is not None:
            await self._wake_vault.wait(min(STORE_POLL_S, (until_ms - wall_ms()) / 1000 + 0.001))

    async def _mirror_vault(self, engine: VaultEngine, remote: Remote) -> None:
        await self._unpaused()
        watched = await self._watch_remote(remote)
        self._say(await self._sent(engine.sync) or await engine.pull())
        if not self._refused and (tended := await self._sent(engine.tend)):
            self._say(tended)
        poll_s = POLL_LAST_S if watched else POLL_FIRST_S
        pulled = pushed = time.monotonic()
        while True:
            next_s = min(pulled + poll_s, self._send_after) if self._refused else pulled + poll_s
            wanted_s = max(0.0, next_s - time.monotonic())
            written, news = await _either(self._wake_vault, self._new_on_remote, wanted_s)
            await self._unpaused()
            if (time.monotonic() >= self._send_after) if self._refused else written:
                await asyncio.sleep(max(0.0, pushed + GATHER_S - time.monotonic()))
                report = await self._sent(engine.push)
                if report is not None:
                    if report.sent_segments:
                        pushed = time.monotonic()
                        poll_s = POLL_LAST_S if watched else POLL_FIRST_S
                    self._say(report)
            if news or time.monotonic() - pulled >= poll_s:
                report = await engine.pull()
                pulled = time.monotonic()
                poll_s = POLL_LAST_S if watched else min(poll_s * 1.5, POLL_LAST_S)
                if report.received_segments:
                    poll_s = POLL_LAST_S if watched else POLL_FIRST_S
                self._say(report)
                if not self._refused and (tended := await self._sent(engine.tend)):
                    self._say(tended)

    async def _sent(self, send: Callable[[], Awaitable[SyncReport]]) -> SyncReport | None:
        """Send something; None where the remote takes nothing: it is read on, and asked ever more seldom to take."""
        try:
            report = await send()
        except RemoteRefused as exc:
            self._refusals += 1
            self._refused = exc.line
            self._send_after = time.monotonic() + _back_off_s(self._refusals)
            self._live["vault"].update(error=exc.line)
            _log.warning("%s", exc.line)
            return None
        self._refused, self._refusals = None, 0
        return report

    def _say(self, report: SyncReport) -> None:
        self._failures = 0
        self._live["vault"].update(error=self._refused, problems=report.problems, synced_ms=wall_ms())
        if report.sent_segments or report.received_segments:
            _log.info(
                "sent %d segments, received %d with %d new messages",
                report.sent_segments, report.received_segments, report.received_messages,
            )  # fmt: skip

    async def _watch_remote(self, remote: Remote) -> bool:
        """Watch a folder remote for what others put there; our own objects are no news.

        Its watcher is one of its own, asked by threads that nobody waits for: a network disk may hang.
        """
        folder = remote.folder
        if folder is None:
            return False
        watcher = self._remote_watcher = self._remote_watcher or Watcher(self._lost_events)
        own, log = f"{self._reader.device}.", LOG.rstrip("/")

        def happened(path: Path) -> None:
            # The directory above log/ is watched, since log/ may not be there yet. What goes is no news.
            others = path.parent.name == log and not path.name.startswith((own, "."))
            if others or path == folder / log:
                self._new_on_remote.set()

        def watch() -> bool:
            return folder.is_dir() and watcher.watch(folder, happened, recursive=True)

        try:
            return await in_thread(watch, timeout_s=TIMEOUT_S)
        except TimeoutError as exc:
            raise RemoteUnreachable(remote=remote.address, reason="it did not answer in time") from exc

    async def _unwatch(self, remote: Remote) -> None:
        watcher, folder = self._remote_watcher, remote.folder
        if folder is not None and watcher is not None:
            try:
                await in_thread(lambda: watcher.unwatch(folder), timeout_s=LET_GO_S)
            except TimeoutError:
                self._remote_watcher = None


def _back_off_s(failures: int) -> float:
    longest_s = min(BACK_OFF_FIRST_S * 2 ** min(failures, 20), BACK_OFF_LAST_S)
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


async def _either(first: Signal, second: Signal, timeout_s: float) -> tuple[bool, bool]:
    """Wait until one of two signals is set or the time is over; which of them were."""
    waits = [asyncio.ensure_future(each.wait(timeout_s)) for each in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return tuple(wait.done() and wait.result() for wait in waits)  # pyright: ignore[reportReturnType]
    finally:
        for wait in waits:
            wait.cancel()


async def run(home: Home, *, started: Callable[[Listening], None]) -> None:
    """Run the daemon of a home until SIGTERM or SIGINT; raises `HomeBusy` where one runs already."""
    home.require()
    settings = home.settings()
    with ProcessLock(home.daemon_lock, task="the daemon"):
        _make_token(home)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

        def open_store() -> Store:
            compress = settings.session.compress_messages
            return Store(home.database, durability=settings.storage.durability, compress=compress)

        def ready(listening: Listening) -> None:
            running = {
                "pid": os.getpid(),
                "port": listening.port,
                "socket": None if listening.socket is None else str(listening.socket),
            }
            write_private(home.daemon_file, msgspec.json.encode(running) + b"\n")
            _notify("READY=1")
            started(listening)

        try:
            await Daemon(home, open_store).run(port=settings.daemon.port, ready=ready, stop=stop)
        finally:
            _notify("STOPPING=1")
            with contextlib.suppress(OSError):
                home.daemon_file.unlink()


def _make_token(home: Home) -> None:
    if not home.token_file.exists():
        write_private(home.token_file, secrets.token_urlsafe(32).encode() + b"\n")


def _notify(state: str) -> None:
    """Tell systemd, where it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())
