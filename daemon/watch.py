"""What the file system says happened, brought to the event loop.

Events are hints: every consumer also looks by itself now and then, since watchers overflow, and
network mounts say nothing (tests/e2e/test_daemon.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from watchdog.events import DirDeletedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

_log = logging.getLogger("steno.watch")
_QUIET = frozenset({"opened", "closed_no_write"})


class _Handler(FileSystemEventHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, happened: Callable[[Path], None]) -> None:
        self._loop = loop
        self._happened = happened

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _QUIET or (event.is_directory and event.event_type == "modified"):
            return
        for path in {event.src_path, event.dest_path} - {""}:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._happened, Path(str(path)))
        if isinstance(event, DirDeletedEvent):
            _log.debug("%s was removed", event.src_path)


class Watcher:
    """Watches directories; what happens there is told on the event loop, by path."""

    def __init__(self) -> None:
        self._watches: dict[Path, ObservedWatch] = {}
        self._observer = Observer()
        self._observer.daemon = True
        self._loop = asyncio.get_running_loop()
        self._observer.start()

    def watch(self, folder: Path, happened: Callable[[Path], None], *, recursive: bool) -> bool:
        """Watch a directory; False where the system cannot, so that only looking by itself remains.

        Watched again, it is the directory that stands there now.
        """
        self.unwatch(folder)
        try:
            handler = _Handler(self._loop, happened)
            self._watches[folder] = self._observer.schedule(handler, str(folder), recursive=recursive)
        except OSError as exc:
            _log.warning("%s cannot be watched (%s); it is looked at now and then", folder, exc.strerror)
            return False
        return True

    def unwatch(self, folder: Path) -> None:
        """Watch a directory no more; one that is not watched is no error."""
        watch = self._watches.pop(folder, None)
        if watch is not None:
            self._observer.unschedule(watch)

    async def stop(self) -> None:
        """Stop watching."""
        self._observer.stop()
        await asyncio.to_thread(self._observer.join)
