"""A whole history to a folder remote and into a second device, against git doing the same with the JSONL files."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from files_store import bring_up
from generate import Prose, messages
from measure import Bench, Figure, LeftOut, Noted, seconds_of

from steno.storage.database import wall_ms
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.remote import open_remote
from steno.sync.vault.seal import Keyring
from steno.sync.vault.vault import found_vault

GOAL = 0.35
EACH = 40
_BATCH = 500
_WHAT = "first push + bootstrap of {sessions:,} sessions, {messages:,} messages"


def figures(bench: Bench) -> list[Figure | LeftOut | Noted]:
    """Push into a new vault in a folder and pull into an empty store; git: add, commit, push to a bare one, clone."""
    sessions = bench.scale.kept
    what = _WHAT.format(sessions=sessions, messages=sessions * EACH)
    if shutil.which("git") is None:
        return [LeftOut(what, "git is not installed")]
    source = bench.folder / "source.db"
    _fill(source, sessions)
    files = bench.folder / "sessions"
    with Store(source) as store:
        bring_up(Mirror(store, files))
    jsonl = _size(files)
    bench.say(f"{jsonl / 1e6:,.0f} MB of JSONL files")
    vault_id, keyring = asyncio.run(_vault(bench.folder / "remote"))
    remote = bench.folder / "remote"
    target = bench.folder / "target.db"
    push = _synced(source, remote, vault_id, keyring, "push")
    pull = _synced(target, remote, vault_id, keyring, "pull")
    with Store(source) as ours, Store(target) as theirs:
        assert ours.count() == theirs.count(), "the second device lacks something"
        written = seconds_of(lambda: bring_up(Mirror(theirs, bench.folder / "written")))
    git = _git(files, bench.folder)
    log = _size(remote / "log")
    bench.say(f"push {push:.1f} s, pull {pull:.1f} s, git {git:.1f} s")
    return [
        Figure(
            what=what,
            ours=f"{push + pull:.1f} s",
            yardstick=f"{git:.1f} s",
            value=(push + pull) / git,
            goal=GOAL,
        ),
        Noted("its files written on the second device", f"{written:.1f} s"),
        Noted("bytes on the remote, of the JSONL files", f"{log / jsonl:.3f} x"),
        Noted("objects in the log", f"{len(list((remote / 'log').iterdir())):,}"),
    ]


async def _vault(folder: Path) -> tuple[str, Keyring]:
    remote = open_remote(str(folder), create=True)
    try:
        return await found_vault(remote, passphrase=secrets.token_hex(), draw=secrets.token_bytes, cost=MINIMUM_COST)
    finally:
        await remote.close()


def _synced(database: Path, folder: Path, vault_id: str, keyring: Keyring, verb: str) -> float:
    async def run(store: Store) -> None:
        remote = open_remote(str(folder))
        try:
            engine = VaultEngine(
                store, remote, vault=vault_id, keyring=keyring, now_ms=wall_ms, draw=secrets.token_bytes
            )
            report = await getattr(engine, verb)()
            assert report.complete, report.problems
        finally:
            await remote.close()

    with Store(database) as store:
        return seconds_of(lambda: asyncio.run(run(store)))


def _git(files: Path, folder: Path) -> float:
    """Seconds that git takes for the same files."""
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    roles = [f"GIT_{role}_{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    who = dict.fromkeys(roles, "bench@localhost")

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "gc.auto=0", *arguments], check=True, cwd=files, env={**os.environ, **settings, **who}
        )

    bare, clone = folder / "bare.git", folder / "clone"

    def run() -> None:
        git("add", "-A")
        git("commit", "-qm", "all")
        git("push", "-q", str(bare), "HEAD:main")
        git("clone", "-q", "-b", "main", str(bare), str(clone))

    git("init", "-q", "--bare", str(bare))
    git("init", "-q")
    return seconds_of(run)


def _fill(database: Path, sessions: int) -> None:
    prose = Prose(5)
    with Store(database) as store:
        for start in range(0, sessions, _BATCH):
            with store.transaction():
                for _ in range(start, min(start + _BATCH, sessions)):
                    session = store.create(title=prose.text(40).replace("\n", " ")).id
                    store.extend(session, [NewMessage(role=role, content=text) for role, text in messages(prose, EACH)])
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
