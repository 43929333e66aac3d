"""A process of its own that syncs the home of the environment once, and prints what that took.

``push`` and ``pull`` are the engine's; ``compact`` tends the log until it is as small as it gets, which ends when what
was replaced has stood for a while: the clock goes on faster meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time

from homes import memory_mb

from steno.daemon.arenas import share_one_arena
from steno.daemon.lock import vault_lock
from steno.storage.database import wall_ms
from steno.storage.home import Home
from steno.storage.store import Store
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.membership import required_membership
from steno.sync.vault.remote import open_remote
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.rotation import HomeKeys


async def main(verb: str) -> dict[str, object]:
    """Do one verb as the daemon does it; it must be complete."""
    share_one_arena()
    home = Home.from_environment()
    found = required_membership(home)
    remote = open_remote(found.url)
    keys = HomeKeys(home, found, lock=lambda: vault_lock(home))
    ahead_ms = 0
    try:
        with Store(home.database) as store:
            engine = VaultEngine(
                store, remote, vault=found.vault, keyring=keys, draw=secrets.token_bytes,
                now_ms=lambda: wall_ms() + ahead_ms,
            )  # fmt: skip
            began = time.perf_counter()
            if verb == "compact":
                await engine.tend()
                ahead_ms = 2 * GRACE_MS
            report = await {"push": engine.push, "pull": engine.pull, "compact": engine.tend}[verb]()
            took_s = time.perf_counter() - began
            assert report.complete, report.problems
    finally:
        await remote.close()
    return {"took_s": took_s, "most_mb": memory_mb(os.getpid())[1], "requests": dict(remote.requests)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
