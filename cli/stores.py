"""How a verb opens the store of this home: to look, or to write.

Looking opens the database read-only, so that it needs no room on the disk and never waits for a
writer (tests/unit/test_cli_sessions.py).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..storage.errors import LocalStorageError, OlderSchema, StenoError
from ..storage.home import Home
from ..storage.local_only import follow_projects
from ..storage.store import Store


@contextmanager
def reading() -> Generator[Store]:
    """The store to look at, as it is at one moment; one of an older steno is migrated first. Raises `NoHome`."""
    home = Home.from_environment()
    home.require()
    home.settings()  # what is wrong in them is told by every verb
    _take_up_drafts(home)
    with opened(home.database) as store:
        # One snapshot: a session and its messages are read by several statements.
        store.execute("BEGIN")
        yield store


@contextmanager
def writing() -> Generator[Store]:
    """The store to write to; raises `NoHome`."""
    home = Home.from_environment()
    home.require()
    settings = home.settings()
    compress = settings.session.compress_messages
    with Store(home.database, durability=settings.storage.durability, compress=compress) as store:
        follow_projects(store, settings.vault.local_only)
        if _has_drafts(home):
            from ..storage.drafts import take_up  # noqa: PLC0415  there hardly ever are any

            take_up(store, home.drafts)
        yield store


def _take_up_drafts(home: Home) -> None:
    """Let a message that was broken off by the end of its process be seen; where nothing can be written it waits."""
    if not _has_drafts(home):
        return
    from ..storage.drafts import left_over  # noqa: PLC0415  as above

    if left_over(home.drafts):
        with suppress(StenoError), writing():
            pass


def _has_drafts(home: Home) -> bool:
    try:
        return bool(os.listdir(home.drafts))  # noqa: PTH208  every verb asks, so it must cost nothing
    except OSError:
        return False


def opened(path: Path) -> Store:
    """A store to look at, without a snapshot; one of an older steno is migrated first, after a copy was made."""
    try:
        return Store(path, read_only=True)
    except OlderSchema as exc:
        try:
            Store(path).close()
        except LocalStorageError:
            raise exc from None
        return Store(path, read_only=True)
