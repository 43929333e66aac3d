"""A command that does the vault's work itself, where no daemon does it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

from ..daemon.arenas import share_one_arena
from ..daemon.engines import home_engine
from ..daemon.lock import ProcessLock
from ..storage.errors import NoVault, OtherVault, RemoteRefused, RemoteUnreachable
from ..storage.home import Home
from ..storage.local_only import follow_projects
from ..storage.store import Store
from ..sync.vault.engine import VaultEngine
from ..sync.vault.ledger import Ledger
from ..sync.vault.membership import Membership, required_membership
from ..sync.vault.work import Work, directly


@asynccontextmanager
async def engine_of(
    home: Home, store: Store, *, found: Membership | None = None, work: Work = directly
) -> AsyncGenerator[VaultEngine]:
    """The engine of a store over the home's remote, which is closed behind it; raises `RemoteNotConfigured`."""
    share_one_arena()
    engine, remote = home_engine(home, found or required_membership(home), store, work=work)
    try:
        yield engine
    finally:
        await remote.close()


@asynccontextmanager
async def alone(home: Home, *, exclusive: bool = True) -> AsyncGenerator[tuple[Store, VaultEngine]]:
    """The home's own store and its engine; ``exclusive`` lets nobody else sync meanwhile, or raises `HomeBusy`.

    Where the remote fails, `steno status` says so until it is reached again.
    """
    found = required_membership(home)
    with ExitStack() as held:
        if exclusive:
            held.enter_context(ProcessLock(home.sync_lock, task="syncing"))
        store = held.enter_context(Store(home.database))
        follow_projects(store, home.settings().vault.local_only)
        async with engine_of(home, store, found=found) as engine:
            try:
                yield store, engine
            except (RemoteUnreachable, RemoteRefused, NoVault, OtherVault) as exc:
                Ledger(store, found.vault).keep_failure(exc.line)
                raise
