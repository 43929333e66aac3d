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
import secrets
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .. import __version__
from ..storage.errors import StenoError
from ..storage.home import Home, write_private
from ..storage.indexing import index
from ..storage.local_only import follow_projects
from ..storage.shrink import is_shrunk, shrink
from ..storage.steps import step
from ..storage.store import Store
from ..sync.files.mirror import Mirror
from ..sync.vault.engine import VaultEngine
from ..sync.vault.membership import Membership
from ..sync.vault.remote import Remote
from .arenas import share_one_arena
from .engines import home_engine
from .http import Api, Listening, make_app, serve
from .lock import ProcessLock
from .status import status_of
from .systemd import keep_watchdog, notify
from .vault_job import VaultJob
from .waking import Signal
from .watch import Watcher
from .worker import Worker

GATHER_S = 0.5
STORE_POLL_S = 5.0
VANISH_S = 1.0
RESCAN_S = 3600.0
UNWATCHED_S = 5.0
BUSY_SHARE = 50
HOUSE_S = 3600.0
STUCK_S = 1800.0
"""A thread that does one thing for so long does not come back: writing a large database anew takes minutes."""
RETRY_FIRST_S, RETRY_LAST_S = 2.0, 10.0
SLEPT_S = 30.0

_T = TypeVar("_T")

_log = logging.getLogger("steno.daemon")


class Daemon:
    """The jobs of one home while they run. None ends the daemon: what one raises is said, and it begins anew."""

    def __init__(self, home: Home, open_store: Callable[[], Store]) -> None:
        self._home = home
        self._open_store = open_store
        self._reader = open_store()
        self._workers: dict[str, Worker] = {}
        self._live: dict[str, dict[str, Any]] = {"files": {}, "search": {}}
        self._wake_files, self._wake_index = Signal(), Signal()
        self._vault = VaultJob(home, self._reader, make=self._engine, watcher=lambda: Watcher(self._lost_events))
        self._watcher: Watcher | None = None
        self._mirror: Mirror | None = None
        self._events_lost = False
        self._listening: Listening | None = None
        self._stopping = threading.Event()

    async def run(self, *, port: int, ready: Callable[[Listening], None], stop: asyncio.Event) -> None:
        """Run every job until ``stop`` is set; ``ready`` is called when the API listens."""
        jobs: list[asyncio.Task[None]] = []
        watchdog: asyncio.Task[None] | None = None
        try:
            self._watcher = Watcher(self._lost_events)
            api = self._worker("api")
            self._listening = await self._serve(api, port)
            self._watcher.watch(self._home.data, self._in_home, recursive=False)
            jobs = [
                asyncio.create_task(self._kept(self._poll_store, {}, "error", Signal())),
                asyncio.create_task(self._kept(self._follow_projects, {}, "error", Signal())),
                asyncio.create_task(self._kept(self._keep_files, self._live["files"], "stopped", self._wake_files)),
                asyncio.create_task(self._kept(self._keep_index, self._live["search"], "error", self._wake_index)),
                asyncio.create_task(self._kept(self._vault.run, self._vault.live, "error", self._vault.written)),
                asyncio.create_task(self._kept(self._keep_house, {}, "error", Signal())),
            ]
            ready(self._listening)
            watchdog = asyncio.create_task(keep_watchdog(lambda: self._turns(jobs)))
            await stop.wait()
        finally:
            self._stopping.set()
            await self._close(jobs if watchdog is None else [*jobs, watchdog])

    def _turns(self, jobs: list[asyncio.Task[None]]) -> bool:
        """Say whether every job and every thread goes on. A remote that hangs stops neither: its waits end."""
        return not any(job.done() for job in jobs) and all(
            worker.behind_s() < STUCK_S for worker in self._workers.values()
        )

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
        if self._mirror is not None:
            await self._worker("files").run(self._mirror.close)
        if self._watcher is not None:
            await self._watcher.stop()
        await self._vault.close()
        for worker in self._workers.values():
            worker.close()
        self._reader.close()

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name, self._open_store)
        return self._workers[name]

    async def _serve(self, worker: Worker, port: int) -> Listening:
        api = Api(
            store=worker.store, thread=worker.thread, status=self.status, on_vault=self._vault.ask,
            on_files=self.on_files, directory=self._home.sessions,
        )  # fmt: skip
        token = self._home.token_file.read_text(encoding="ascii").strip()
        listening = await serve(make_app(api, token=token), port=port, socket_path=self._home.socket)
        for note in listening.notes:
            _log.warning("%s", note)
        return listening

    def status(self) -> dict[str, Any]:
        """How the home stands, with what only the running daemon knows."""
        port = self._listening.port if self._listening else 0
        live: dict[str, Any] = {**self._live, "daemon": {"pid": os.getpid(), "port": port, "version": __version__}}
        if (vault := self._vault.status()) is not None:
            live["vault"] = vault
        return status_of(self._reader, self._home, live=live)

    def _engine(self, found: Membership) -> tuple[VaultEngine, Remote]:
        worker = self._worker("sync")
        return home_engine(self._home, found, worker.store, work=worker.run)

    # What wakes the jobs

    def _in_home(self, path: Path) -> None:
        if path.name.startswith(self._home.database.name):
            self._feed_moved()
        elif path == self._home.sessions:
            self._wake_files.set()
        elif path == self._home.vault_file:
            self._vault.joined.set()
            self._vault.news.set()
        elif path == self._home.credentials_file:
            self._vault.news.set()

    def _lost_events(self) -> None:
        """The system had more to tell than it keeps: whatever is watched must be looked at as a whole."""
        _log.warning("more happened at once than the system could tell; the files are compared with the store")
        self._events_lost = True
        self._wake_files.set()
        self._vault.news.set()
        self._feed_moved()

    def _feed_moved(self) -> None:
        for wake in (self._wake_files, self._wake_index, self._vault.written):
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
                self._vault.awoke()

    async def _follow_projects(self) -> None:
        """Keep to the projects that the settings name by now, not to those of when the daemon was started."""
        worker = self._worker("api")
        while True:
            projects = self._home.settings().vault.local_only
            await worker.run(lambda projects=projects: follow_projects(worker.store, projects))
            await asyncio.sleep(STORE_POLL_S)

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


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


async def run(home: Home, *, started: Callable[[Listening], None]) -> None:
    """Run the daemon of a home until SIGTERM or SIGINT; raises `HomeBusy` where one runs already."""
    share_one_arena()
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

        with open_store() as store:
            follow_projects(store, settings.vault.local_only)  # before any job can make a session

        def ready(listening: Listening) -> None:
            running = {
                "pid": os.getpid(),
                "port": listening.port,
                "socket": None if listening.socket is None else str(listening.socket),
            }
            write_private(home.daemon_file, msgspec.json.encode(running) + b"\n")
            notify("READY=1")
            started(listening)

        try:
            await Daemon(home, open_store).run(port=settings.daemon.port, ready=ready, stop=stop)
        finally:
            notify("STOPPING=1")
            with contextlib.suppress(OSError):
                home.daemon_file.unlink()


def _make_token(home: Home) -> None:
    if not home.token_file.exists():
        write_private(home.token_file, secrets.token_urlsafe(32).encode() + b"\n")
