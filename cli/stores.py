"""How a verb opens the store of this home: to look, or to write.

Looking opens the database read-only, so that it needs no room on the disk and never waits for a
writer (tests/unit/test_cli_sessions.py).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..storage.errors import LocalStorageError, OlderSchema
from ..storage.home import Home
from ..storage.local_only import follow_projects
from ..storage.store import Store


@contextmanager
def reading() -> Generator[Store]:
    """The store to look at, as it is at one moment; one of an older steno is migrated first. Raises `NoHome`."""
    home = Home.from_environment()
    home.require()
    home.settings()  # what is wrong in them is told by every verb
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
        yield store


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
