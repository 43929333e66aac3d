"""The engine of a home's vault, made in one place for the daemon and the commands."""

from __future__ import annotations

import secrets

from ..storage.database import wall_ms
from ..storage.home import Home
from ..storage.store import Store
from ..sync.vault.engine import VaultEngine
from ..sync.vault.membership import Membership
from ..sync.vault.remote import Remote, open_remote
from ..sync.vault.rotation import HomeKeys
from ..sync.vault.work import Work, directly
from .lock import vault_lock


def home_engine(home: Home, found: Membership, store: Store, *, work: Work = directly) -> tuple[VaultEngine, Remote]:
    """The engine of a store, and its remote, which whoever asked closes; nothing is asked of the remote yet."""
    remote = open_remote(found.url)
    engine = VaultEngine(
        store, remote, vault=found.vault, keyring=HomeKeys(home, found, lock=lambda: vault_lock(home)),
        now_ms=wall_ms, draw=secrets.token_bytes, work=work,
    )  # fmt: skip
    return engine, remote
