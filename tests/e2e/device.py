"""A device that is driven as a person drives it: the real command, real daemons, a home of its own.

Nothing here waits for time: `until` polls a condition and says what was awaited when it never comes.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest import mock

from steno.cli.main import main
from steno.daemon.client import DaemonClient
from steno.storage.database import wall_ms
from steno.storage.errors import StenoError
from steno.storage.home import Home
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST
from steno.sync.vault.membership import join_vault, make_vault, required_membership
from steno.sync.vault.remote import open_remote
from steno.tests.e2e.forking import Forked, Forker

PASSPHRASE = "a passphrase of these tests"
WITHIN_S = 30.0
_LOOK_EVERY_S = 0.01


Process = subprocess.Popen[bytes] | Forked


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def until(true: Callable[[], Any], what: str, *, within_s: float = WITHIN_S) -> Any:
    """Wait until a condition holds, and return what it returned."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(_LOOK_EVERY_S)
    return found


class Device:
    """One home. ``daemon`` is the process that was started here, if any."""

    forker: ClassVar[Forker | None] = None
    """What commands are forked from; None starts each anew."""

    def __init__(self, place: Path, *, remote: Path | str | None = None) -> None:
        self.place = place
        self.remote = remote
        self.home = Home(place, place)
        self.daemon: Process | None = None

    # Making one, without the cost of a real key derivation

    def make(self, *, found: bool = False) -> Device:
        """Make the home; with a remote, make its vault or join it."""
        self.configure()
        self.home.make()
        Store(self.home.database).close()
        if self.remote is not None and found:
            vault = make_vault(
                self.home, str(self.remote), passphrase=PASSPHRASE, made=str, draw=os.urandom, cost=MINIMUM_COST
            )
            asyncio.run(vault)
        elif self.remote is not None:
            asyncio.run(join_vault(self.home, str(self.remote), passphrase=PASSPHRASE))
        return self

    def configure(self) -> Device:
        """Let the daemon take any port, so that tests run beside each other."""
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.config_file.write_text("[daemon]\nport = 0\n", encoding="utf-8")
        self.home.config_file.chmod(0o600)
        return self

    @property
    def folder(self) -> Path:
        """The remote, where it is a folder."""
        assert isinstance(self.remote, Path), "no folder"
        return self.remote

    def copy(self, place: Path, *, remote: Path | str | None = None) -> Device:
        """The same device at another place; the one here is not used any more."""
        shutil.copytree(self.place, place)
        moved = Device(place, remote=remote)
        if remote is not None and self.remote is not None:
            text = moved.home.vault_file.read_text(encoding="utf-8")
            moved.home.vault_file.write_text(text.replace(str(self.remote), str(remote)), encoding="utf-8")
        return moved

    # Commands

    def steno(self, *arguments: str, code: int | None = 0, stdin: str = "", **environment: str) -> Done:
        """Run a command; ``code`` None lets it end as it likes."""
        seen = self.environment(**environment)
        if self.forker is None:
            command = [sys.executable, "-m", "steno.cli.main", *arguments]
            ran = subprocess.run(
                command, env=seen, cwd=self.cwd, input=stdin, capture_output=True, text=True, check=False
            )
            done = Done(ran.returncode, ran.stdout, ran.stderr)
        else:
            done = Done(*self.forker.run(arguments, seen, stdin, cwd=self.cwd))
        assert code is None or done.code == code, f"steno {' '.join(arguments)}: {done.code} {done.err}"
        return done

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return self.steno(*arguments, "--format", "json").json

    def begin(self, *arguments: str, **environment: str) -> Process:
        """Start a command and do not wait for it; its talk goes to the log of the home."""
        if self.forker is None:
            return self.run("-m", "steno.cli.main", *arguments, **environment)
        with self._log_to_write() as log, Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), log, log)
            return self.forker.start(arguments, self.environment(**environment), streams, cwd=self.cwd)

    def run(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start Python as this device would."""
        with self._log_to_write() as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env=self.environment(**environment), cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @contextmanager
    def _log_to_write(self) -> Generator[int]:
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.home.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @property
    def cwd(self) -> Path:
        """Where its commands run: beside the home, so that what they write by itself is gone with the test."""
        return self.place.parent

    def environment(self, **more: str) -> dict[str, str]:
        """What a command of this device sees."""
        return {**os.environ, "STENO_HOME": str(self.place), "STENO_PASSPHRASE": PASSPHRASE, **more}

    def show(self, session: str) -> Any:
        """A session as `steno show --format json` prints it; None where there is none."""
        done = self.steno("show", session, "--format", "json", code=None)
        assert done.code in (0, 3), done.err
        return done.json if done.code == 0 else None

    # What the daemon does, in this process: for what a test needs and does not look at

    def sync_here(self) -> None:
        """Push and pull."""
        asyncio.run(self._sync())

    async def _sync(self) -> None:
        found = required_membership(self.home)
        remote = open_remote(found.url)
        with self.store(write=True) as store:
            report = await VaultEngine(
                store, remote, vault=found.vault, keyring=found.keyring, now_ms=wall_ms, draw=os.urandom
            ).sync()
        await remote.close()
        assert report.complete, report.problems

    def publish_here(self, session: str, *, segments: int) -> None:
        """Make a session and a history of so many segments."""
        asyncio.run(self._publish(session, segments))

    async def _publish(self, session: str, segments: int) -> None:
        found = required_membership(self.home)
        remote = open_remote(found.url)
        with self.store(write=True) as store:
            engine = VaultEngine(
                store, remote, vault=found.vault, keyring=found.keyring, now_ms=wall_ms, draw=os.urandom
            )
            store.create(id=session, title=session)
            for number in range(segments):
                store.append(session, NewMessage(role="user", content=f"message {number}"))
                await engine.push()
        await remote.close()

    def write_files_here(self) -> None:
        """Take up what was saved and write what is pending."""
        with self.store(write=True) as store:
            mirror = Mirror(store, self.home.sessions)
            mirror.start()
            until(lambda: mirror.write_pending() is None, "the files are written")

    def here(self, *arguments: str) -> Done:
        """Run a command that must succeed, without the cost of a process: for what a test needs, and for many."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        seen = mock.patch.dict(os.environ, self.environment())
        with seen, chdir(self.cwd), redirect_stdout(out), redirect_stderr(err):
            code = main(arguments)
        for each in (out, err):
            each.seek(0)
        assert code == 0, err.read()
        return Done(code, out.read(), err.read())

    # The store, for looking often

    @contextmanager
    def store(self, *, write: bool = False) -> Generator[Store]:
        """The device's store, opened beside the daemon's."""
        with Store(self.home.database, read_only=not write) as store:
            yield store

    def contents(self, session: str) -> list[Any]:
        """The contents of a session's messages; none where it is not shown."""
        with self.store() as store, suppress(StenoError):
            return [message.content for message in store.messages(session)]
        return []

    def title(self, session: str) -> str | None:
        """A session's title; None where it is not shown."""
        with self.store() as store, suppress(StenoError):
            return store.get(session).title
        return None

    def everything(self) -> dict[str, Any]:
        """Every session that is shown, with its messages."""
        with self.store() as store:
            store.execute("BEGIN")
            return {each.id: (each, list(store.messages(each.id))) for each in list(store.sessions())}

    # The files

    def files(self) -> list[Path]:
        """The session files."""
        return sorted(path for path in self.home.sessions.rglob("*.jsonl") if not path.name.startswith("."))

    def file(self, session: str) -> Path:
        """The file of a session, once it is there."""
        wanted = f'"id":{json.dumps(session)}'
        return until(
            lambda: next((path for path in self.files() if wanted in _head(path)), None), f"a file of {session}"
        )

    # The daemon

    def start(self, **environment: str) -> Device:
        """Start the daemon and wait until it answers."""
        self.spawn(**environment)
        until(self.answers, "the daemon answers")
        return self

    def runs(self) -> bool:
        """Say whether the daemon that was started here still runs."""
        return self.daemon is not None and self.daemon.poll() is None

    def answers(self) -> bool:
        """Say whether the daemon that was started here answers by now; it must not have ended."""
        assert self.runs(), f"the daemon ended: {self.log()[-2000:]}"
        assert self.daemon is not None
        return self._client_of(self.daemon) is not None

    def spawn(self, **environment: str) -> Process:
        """Start the daemon's process and do not wait."""
        assert self.daemon is None or self.daemon.poll() is not None
        self.daemon = self.begin("daemon", "run", **environment)
        return self.daemon

    def _client_of(self, process: Process) -> DaemonClient | None:
        with suppress(StenoError):
            client = DaemonClient(self.home)
            return client if client.running.pid == process.pid and client.health() else None
        return None

    @property
    def client(self) -> DaemonClient:
        """Our own client of the daemon."""
        return DaemonClient(self.home)

    def status(self) -> dict[str, Any]:
        """What the running daemon says of itself."""
        return self.client.status()

    def requests(self) -> dict[str, int]:
        """How often the running daemon asked the remote, by kind."""
        return self.status()["vault"]["requests"]

    def settled(self) -> bool:
        """Say whether nothing is left to write, to index or to send."""
        found = self.status()
        vault = found["vault"] or {"not_sent": 0, "pending_segments": 0, "synced_ms": 1}
        return not (
            found["files"]["not_written"]
            or found["search"]["not_indexed"]
            or vault["not_sent"]
            or vault["pending_segments"]
        ) and bool(vault.get("synced_ms"))

    def kill(self) -> None:
        """End the daemon as a power cut does."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def stop(self) -> None:
        """Ask the daemon to stop and wait until it has; one that died by itself is a failure."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            assert self.daemon.wait(WITHIN_S) == 0, self.log()[-2000:]
        self.daemon = None

    def log(self) -> str:
        """What the daemon said."""
        return self.home.log_file.read_text(encoding="utf-8") if self.home.log_file.exists() else ""


def equal(*devices: Device) -> bool:
    """Say whether devices hold the same sessions; at least one."""
    first, *others = [device.everything() for device in devices]
    return bool(first) and all(first == other for other in others)


def _head(path: Path) -> str:
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        return file.readline()
    return ""
