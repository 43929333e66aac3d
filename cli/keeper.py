"""Who keeps the session files just now: the daemon that runs, or this process in its place.

Never both: without a daemon the work is done under its lock (tests/unit/test_cli_files.py).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from ..daemon import control
from ..daemon.client import DaemonClient
from ..daemon.lock import ProcessLock
from ..storage.errors import HomeBusy, LocalStorageError
from ..storage.home import Home
from ..storage.store import Store
from ..sync.files.absorb import Deletions
from ..sync.files.mirror import Mirror, Resumed
from ..sync.files.session_file import SessionFile, session_file
from .stores import writing

BUSY_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05

# What the mirror says of a file is told by the verb; a daemon has a log for it.
logging.getLogger("steno").addHandler(logging.NullHandler())


class Keeper(Protocol):
    """What is asked of whoever keeps the files. All but `resume` fail while they stand still."""

    def current(self, session: str) -> SessionFile:
        """The file of a session, brought up to it."""
        ...

    def take(self, session: str, *, deletions: Deletions = "some") -> SessionFile:
        """The file of a session, after what was saved in it was taken up if it could be."""
        ...

    def rebuild(self) -> int:
        """Write every file anew that is missing or differs; how many were."""
        ...

    def resume(self, *, restore: bool) -> Resumed:
        """Let files that stand still go on; raises `InvalidInput` where they do not."""
        ...


@contextmanager
def keeper(home: Home) -> Generator[Keeper]:
    """Whoever keeps the files of a home; raises `HomeBusy` where somebody does who does not answer."""
    deadline = time.monotonic() + BUSY_WITHIN_S
    while True:
        client = control.running(home)
        if client is not None:
            yield _Daemon(client)
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(ProcessLock(home.daemon_lock, task="the daemon"))
            except HomeBusy:  # a daemon that is about to answer, or a command that is about to end
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_EVERY_S)
                continue
            store = stack.enter_context(writing())
            yield _Here(store, home.sessions, stack.enter_context(closing(Mirror(store, home.sessions))))
            return


def standing(file: SessionFile) -> str:
    """The path of a file that is there; raises `LocalStorageError`."""
    if file.path is None:
        raise LocalStorageError(f"session {file.session} has no file yet", hint="see `steno files status`")
    if not os.path.lexists(file.path):
        raise LocalStorageError(
            f"the file of session {file.session} is gone from {file.path}",
            hint="write it anew with `steno files rebuild`",
        )
    return file.path


class _Daemon:
    def __init__(self, client: DaemonClient) -> None:
        self._client = client

    def current(self, session: str) -> SessionFile:
        return msgspec.convert(self._client.session_file(session), SessionFile)

    def take(self, session: str, *, deletions: Deletions = "some") -> SessionFile:
        return msgspec.convert(self._client.take_file(session, deletions), SessionFile)

    def rebuild(self) -> int:
        return self._client.rebuild_files()

    def resume(self, *, restore: bool) -> Resumed:
        return msgspec.convert(self._client.resume_files("restore" if restore else "delete"), Resumed)


class _Here:
    def __init__(self, store: Store, root: Path, mirror: Mirror) -> None:
        self._store, self._root, self._mirror = store, root, mirror

    def current(self, session: str) -> SessionFile:
        found = session_file(self._store, self._root, session)
        if not found.written:
            self._mirror.settle([self._store.live(session).no])
        return session_file(self._store, self._root, session)

    def take(self, session: str, *, deletions: Deletions = "some") -> SessionFile:
        found = session_file(self._store, self._root, session)
        if found.path is not None:
            self._mirror.saved([Path(found.path)], deletions=deletions)
        return session_file(self._store, self._root, session)

    def rebuild(self) -> int:
        return self._mirror.rebuild()

    def resume(self, *, restore: bool) -> Resumed:
        done = self._mirror.resume(restore=restore)
        self._mirror.write_due()
        return done
