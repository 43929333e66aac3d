"""Saving by itself what nobody saved: every so often, and when the program ends.

A session with something to save is held until it is saved, also when the program let go of it
(tests/library/test_autosave.py).
"""

from __future__ import annotations

import atexit
import logging
import threading
from weakref import WeakSet

from ..errors import StenoError
from .contract import Backend
from .session import Session

_log = logging.getLogger("steno")


class Autosave:
    """Watches sessions and saves them to a store every ``interval_s`` seconds; 0 only when asked."""

    def __init__(self, store: Backend, *, interval_s: float) -> None:
        self._store = store
        self._interval_s = interval_s
        self._known: WeakSet[Session] = WeakSet()
        self._changed: dict[int, Session] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def on(self) -> bool:
        """Say whether sessions are saved by themselves."""
        return self._interval_s > 0

    def watch(self, session: Session, *, hold: bool = True) -> None:
        """Save this session from now on; does nothing where autosave is off.

        ``hold`` it until the next look, since what is changed in place (metadata, say) is only seen then.
        """
        if not self.on or self._stop.is_set():
            return
        with self._lock:
            self._known.add(session)
            if hold:
                self._changed[id(session)] = session
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="steno-autosave", daemon=True)
                self._thread.start()
                atexit.register(self.save)
        session.on_change = self._note

    def save(self, *, only: str | None = None) -> int:
        """Save what waits to be saved, and say how many sessions that were; one that cannot be is logged and kept.

        ``only``: the sessions of that id alone.
        """
        with self._lock:
            waiting = {id(each): each for each in self._known} | self._changed
        saved = 0
        for session in waiting.values():
            if only not in (None, session.id):
                continue
            try:
                with session.lock:
                    saved += session.pending
                    self._store.save(session)
                    with self._lock:
                        self._changed.pop(id(session), None)
            except StenoError as exc:
                _log.warning("session %s is not saved: %s", session.id, exc.line)
            except Exception:  # noqa: BLE001  a store of somebody's own may raise anything, and the others are to be saved
                _log.exception("session %s is not saved", session.id)
        return saved

    def close(self) -> None:
        """Save a last time and stop; called twice it does nothing."""
        if self.on and not self._stop.is_set():
            self._stop.set()
            self.save()
            atexit.unregister(self.save)

    def _note(self, session: Session) -> None:
        with self._lock:
            self._changed[id(session)] = session

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.save()
