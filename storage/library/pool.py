"""Connections to one database, shared by the threads of a process.

At most ``size`` are open at once; a thread that takes one again while it has one gets the same, so
that a transaction reaches everything below it. After a fork the child opens its own: a connection
that two processes use corrupts the database. A signal that comes while one is taken or given back leaves no
lock and no transaction open, so nothing here is held by a lock that is written in Python, as semaphores are
(tests/library/test_pool.py, tests/library/test_interrupts.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue

from ..errors import LocalStorageError
from ..store import Store


class Pool:
    """Opens stores when they are wanted and keeps them for the next one who wants one."""

    def __init__(self, opener: Callable[[], Store], *, size: int) -> None:
        self._opener = opener
        self._size = size
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._closed = False
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(self._size):
            self._room.put(True)
        self._idle: list[Store] = []
        self._mine = threading.local()

    @contextmanager
    def take(self) -> Generator[Store]:
        """A store for this thread alone, until the block ends; waits while all are taken."""
        if os.getpid() != self._process:
            self._begin()  # the parent's are left as they are: closing them here would break its locks
        taken: Store | None = getattr(self._mine, "taken", None)
        if taken is not None:
            yield taken
            return
        with self._place():
            if self._closed:
                raise _closed()
            store: Store | None = None
            try:
                store = self._mine.taken = self._take_idle() or self._opener()
                yield store
            finally:
                self._mine.taken = None
                if store is not None:
                    store.abandon()  # a signal may have come where no transaction saw it
                    self._idle.append(store)
                if self._closed:
                    self._drop_idle()

    @contextmanager
    def _place(self) -> Generator[None]:
        """One of the places for those who take; waits while there is none."""
        held: list[bool] = []
        try:
            held.extend(islice(iter(self._room.get, None), 1))  # one step: a signal finds it done, or not begun
            yield
        finally:
            if held:
                self._room.put(True)

    def close(self) -> None:
        """Close what nobody has taken; what is taken is closed when it is given back."""
        self._closed = True
        if os.getpid() == self._process:
            self._drop_idle()

    def _take_idle(self) -> Store | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _drop_idle(self) -> None:
        while (store := self._take_idle()) is not None:
            store.close()


class Single:
    """One store, as one in memory is: for one thread at a time, and never opened again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = threading.RLock()
        self._taken = self._closed = False

    @contextmanager
    def take(self) -> Generator[Store]:
        """The store for this thread alone, until the block ends; waits while another has it."""
        with self._turn:
            if self._closed:
                raise _closed()
            taken, self._taken = self._taken, True
            try:
                yield self._store
            finally:
                self._taken = taken
                if not taken:
                    self._store.abandon()  # as above

    def close(self) -> None:
        """Close the store; called twice it does nothing."""
        with self._turn:
            self._closed = True
            self._store.close()


def _closed() -> LocalStorageError:
    return LocalStorageError("the store is closed", hint="open it again")
