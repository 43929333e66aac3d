"""When the daemon's job for the vault asks the remote, and what it asks; over a remote in memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from steno.daemon import vault_job
from steno.daemon.vault_job import Pace, VaultJob, pace_of
from steno.storage.database import wall_ms
from steno.storage.errors import RemoteRefused, StenoError
from steno.storage.home import Home
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.membership import Membership, make_vault
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import DEVICES, LOG, VAULT
from steno.sync.vault.restraint import METERED, PAUSED
from steno.sync.vault.vault import vault_json

WITHIN_S = 20.0


class Refusing(MemoryRemote):
    """A remote that refuses a listing when it is told to."""

    fails: Callable[[], StenoError | None] = staticmethod(lambda: None)

    async def list(self, prefix: str) -> list[str]:
        error = self.fails()
        if error is not None:
            raise error
        return await super().list(prefix)


class Running:
    """A job that runs over a remote which nobody watches, and its store."""

    def __init__(self, home: Home, found: Membership) -> None:
        self.store, self.reader = Store(home.database), Store(home.database)
        self.remote = Refusing()
        self.opened = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.remote.objects[VAULT] = vault_json(found.vault)
        self.job = VaultJob(home, self.reader, make=self._engine, watcher=lambda: pytest.fail("nothing is watched"))

    def _engine(self, found: Membership) -> tuple[VaultEngine, MemoryRemote]:
        self.opened += 1
        engine = VaultEngine(
            self.store, self.remote, vault=found.vault, keyring=found.keyring, now_ms=wall_ms, draw=os.urandom
        )
        return engine, self.remote

    def begin(self) -> None:
        """Let the job run, as the daemon does again and again."""
        self.tasks.append(asyncio.create_task(self.job.run()))

    def append(self, content: str) -> None:
        if self.store.find("s") is None:
            self.store.create(id="s")
        self.store.append("s", NewMessage(role="user", content=content))
        self.job.written.set()

    def sent(self) -> int:
        return sum(name.startswith(LOG) for name in self.remote.objects)


class Run(Protocol):
    """Runs the job of a home."""

    def __call__(self, *, metered: bool = False) -> AbstractAsyncContextManager[Running]: ...


async def turns() -> None:
    """Let the job go on as far as it can."""
    for _ in range(100):
        await asyncio.sleep(0)


async def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, f"not within {WITHIN_S:.0f} s: {what}"
        await asyncio.sleep(0)


@pytest.fixture
def running(tmp_path: Path) -> Run:
    """Make a home with a vault, and run its job until the test is done with it."""
    home = Home(tmp_path, tmp_path)
    home.make()
    Store(home.database).close()
    url = str(tmp_path / "remote")
    found = asyncio.run(make_vault(home, url, passphrase="of a test", made=str, draw=os.urandom, cost=MINIMUM_COST))

    @asynccontextmanager
    async def run(*, metered: bool = False) -> AsyncGenerator[Running]:
        made = Running(home, found)
        if metered:
            METERED.begin(made.store)
        made.begin()
        await until(lambda: made.job.live.get("synced_ms"), "the first sync is done")
        yield made
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        made.store.close()
        made.reader.close()

    return run


async def test_a_remote_that_refuses_is_opened_anew_once_the_credentials_are_others(
    running: Run, tmp_path: Path
) -> None:
    async with running() as device:
        refused = RemoteRefused(remote="memory", reason="401")
        device.remote.fails = lambda: refused
        device.job.news.set()
        await until(lambda: device.job.live.get("error"), "the remote has refused")
        assert device.opened == 1
        (tmp_path / "credentials").write_text("STENO_S3_SECRET_ACCESS_KEY=x\n", encoding="utf-8")
        device.job.news.set()
        await until(device.tasks[0].done, "the job ends, to begin anew")
        assert device.tasks[0].exception() is refused
        device.remote.fails = lambda: None
        device.begin()
        await until(lambda: device.opened == 2, "the remote is opened anew")
        await until(lambda: device.job.live.get("error") is None, "it is synced")


async def test_what_was_written_during_a_pause_is_sent_after_it_whatever_had_woken_the_job(running: Run) -> None:
    async with running() as device:
        PAUSED.begin(device.store)
        device.job.news.set()
        await until(lambda: not device.job.news.is_set(), "the job was woken")
        await turns()  # and stands in the pause
        device.append("written meanwhile")
        await until(lambda: not device.job.written.is_set(), "the job has heard of it")
        assert device.sent() == 0
        PAUSED.end(device.store)
        device.job.written.set()
        await until(device.sent, "it is sent")


async def test_on_a_connection_that_costs_an_append_is_one_put_and_a_look_one_list(running: Run) -> None:
    async with running(metered=True) as device:
        assert dict(device.remote.requests) == {"get": 1, "list": 1}, "the first sync: vault.json and the log"
        device.append("at once")
        await until(device.sent, "it is sent")
        device.job.news.set()
        await until(lambda: device.remote.requests["list"] == 2, "it looks")
        await turns()
        assert dict(device.remote.requests) == {"get": 1, "list": 2, "put": 1}


async def test_when_the_connection_costs_nothing_again_what_waited_is_done_at_once(running: Run) -> None:
    async with running(metered=True) as device:
        METERED.end(device.store)
        device.job.written.set()
        await until(lambda: any(name.startswith(DEVICES) for name in device.remote.objects), "it says who it is")


@pytest.mark.fault(40)
async def test_news_without_end_is_looked_at_some_times_a_second_and_the_last_of_it_too(
    running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_job, "POLL_FIRST_S", 3600.0)
    async with running() as device:
        listed, began = device.remote.requests["list"], time.monotonic()
        for _ in range(2000):
            device.job.news.set()
            await asyncio.sleep(0)
        within_s = time.monotonic() - began
        storm = device.remote.requests["list"]
        assert storm - listed <= 2 + within_s / vault_job.LOOK_GAP_S
        device.job.news.set()
        await until(lambda: device.remote.requests["list"] > storm, "it is looked at")


async def test_a_remote_that_tells_of_news_is_not_asked_again_and_again(
    running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("POLL_FIRST_S", "LOOK_GAP_S", "GATHER_S"):
        monkeypatch.setattr(vault_job, pause, 0.0)
    async with running() as device:
        for told in range(1, 4):
            device.append("which the remote tells of")
            await until(lambda told=told: device.sent() == told, "it is sent")
        await turns()
        asked = device.remote.requests["list"]
        await turns()
        assert device.remote.requests["list"] == asked


@pytest.mark.parametrize(
    ("watched", "metered", "pace"),
    [
        (False, False, Pace(0.5, 2, 60)),
        (True, False, Pace(0.5, 60, 60)),
        (False, True, Pace(10, 300, 300)),
        (True, True, Pace(10, 60, 60)),
    ],
)
def test_a_connection_that_costs_is_asked_twelve_times_an_hour(*, watched: bool, metered: bool, pace: Pace) -> None:
    assert pace_of(watched=watched, metered=metered) == pace
