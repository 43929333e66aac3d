"""What the file system says happened, brought to the event loop.

Events are hints: every consumer also looks by itself now and then, since watchers overflow, and
network mounts say nothing (tests/e2e/test_daemon.py, tests/e2e/test_lost_events.py).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import DirDeletedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

_log = logging.getLogger("steno.watch")
_watchdog_log = logging.getLogger("watchdog.observers.inotify_c")
_REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse", "vboxsf", "virtiofs", "gluster", "lustre")
_MOUNTS = Path("/proc/self/mountinfo")
_QUIET = frozenset({"opened", "closed_no_write"})


class _Handler(FileSystemEventHandler):
    """Tells the loop of many paths by one call: a flood of calls fills its pipe, and a signal to stop is lost there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, happened: Callable[[Path], None]) -> None:
        self._loop = loop
        self._happened = happened
        self._lock = threading.Lock()
        self._paths: dict[Path, None] = {}

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _QUIET or (event.is_directory and event.event_type == "modified"):
            return
        for path in {event.src_path, event.dest_path} - {""}:
            with self._lock:
                awaited = bool(self._paths)
                self._paths[Path(str(path))] = None
            if not awaited and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._tell)
        if isinstance(event, DirDeletedEvent):
            _log.debug("%s was removed", event.src_path)

    def _tell(self) -> None:
        with self._lock:
            paths, self._paths = self._paths, {}
        for path in paths:
            self._happened(path)


class _Overflow(logging.Handler):
    """Hears that events were lost: watchdog tells that by its log alone."""

    def __init__(self, lost: Callable[[], object]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one line of the log."""
        if "overflow" in record.getMessage():
            self._lost()


class Watcher:
    """Watches directories; what happens there is told on the event loop, by path.

    ``lost`` is called there when the system had more to tell than it keeps.
    """

    def __init__(self, lost: Callable[[], object]) -> None:
        self._watches: dict[Path, ObservedWatch] = {}
        self._observer = Observer()
        self._observer.daemon = True
        self._loop = loop = asyncio.get_running_loop()
        self._overflow = _Overflow(lambda: loop.is_closed() or loop.call_soon_threadsafe(lost))
        _watchdog_log.addHandler(self._overflow)
        self._observer.start()

    def watch(self, folder: Path, happened: Callable[[Path], None], *, recursive: bool) -> bool:
        """Watch a directory; False where the system cannot tell all, so that it must be looked at now and then.

        Watched again, it is the directory that stands there now. What other machines write to a network mount is
        told by no system.
        """
        self.unwatch(folder)
        try:
            handler = _Handler(self._loop, happened)
            self._watches[folder] = self._observer.schedule(handler, str(folder), recursive=recursive)
        except OSError as exc:
            _log.warning("%s cannot be watched (%s); it is looked at now and then", folder, exc.strerror)
            return False
        return not is_remote(folder)

    def unwatch(self, folder: Path) -> None:
        """Watch a directory no more; one that is not watched is no error."""
        watch = self._watches.pop(folder, None)
        if watch is not None:
            self._observer.unschedule(watch)

    async def stop(self) -> None:
        """Stop watching."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """Stop watching, and wait until that is done."""
        _watchdog_log.removeHandler(self._overflow)
        self._observer.stop()
        self._observer.join()


def is_remote(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Say whether a directory lies on a file system that others may write to unseen; False where nobody can tell.

    The form of the list of mounts is that of proc(5): the mount point is its fifth field, the type follows a dash.
    """
    try:
        place = folder.resolve()
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    best, remote = -1, False
    for line in lines:
        where, _, what = line.partition(" - ")
        point = Path(where.split(" ")[4].encode().decode("unicode_escape"))
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, remote = len(point.parts), what.split(" ")[0].startswith(_REMOTE)
    return remote
