"""The daemon as a process: it starts, answers, stops in time, goes on after a fault, and is one for each home."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.daemon import app
from steno.daemon.client import DaemonClient
from steno.daemon.lock import ProcessLock
from steno.storage.errors import StenoError
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.e2e.device import WITHIN_S, Device, equal, until

Pair = tuple[Device, Device]
STOPS_WITHIN_S = 5.0


@pytest.fixture
def running(lonely: Device) -> Iterator[Device]:
    yield lonely.start()
    lonely.stop()


def fill(device: Device, sessions: int, *, messages: int = 3) -> None:
    """Make sessions, all in one transaction."""
    with device.store(write=True) as store, store.transaction():
        for number in range(sessions):
            made = store.create(title=f"Session {number}").id
            text = f"text of {number} " * 20
            store.add_messages(made, [NewMessage(role="user", content=text) for _ in range(messages)])


def stops_in_time(device: Device) -> None:
    process = device.daemon
    assert process is not None
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0, device.log()[-2000:]
    assert time.monotonic() - began < STOPS_WITHIN_S


# Starting and stopping


def test_the_verbs_start_name_and_stop_the_daemon(lonely: Device):
    assert lonely.steno("daemon", "status", code=1).err.startswith("Error: no daemon is running")
    started = lonely.steno("daemon", "start").out
    status = lonely.json("daemon", "status")
    assert status["running"] is True
    assert f"process {status['pid']}" in started
    assert lonely.json("status")["daemon"]["port"] == status["port"]
    assert lonely.steno("daemon", "stop").out.startswith("The daemon (process")
    assert lonely.steno("daemon", "status", code=1)
    assert lonely.steno("daemon", "stop", code=1).err.startswith("Error: no daemon is running")


def test_a_daemon_that_stopped_leaves_neither_socket_nor_address(lonely: Device):
    lonely.start()
    assert lonely.home.socket.exists()
    lonely.stop()
    assert not lonely.home.socket.exists()
    assert not lonely.home.daemon_file.exists()


def test_an_idle_daemon_stops_in_time(lonely: Device):
    lonely.start()
    stops_in_time(lonely)
    assert lonely.steno("daemon", "status", code=1).err.startswith("Error: no daemon is running")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_without_a_word_of_error(lonely: Device, number: int):
    lonely.start()
    assert lonely.daemon is not None
    lonely.daemon.send_signal(number)
    assert lonely.daemon.wait(WITHIN_S) == 0
    assert "Error" not in lonely.log()
    assert "Traceback" not in lonely.log()


def test_a_daemon_stops_in_time_during_a_large_first_mirror_and_goes_on_later(pair: Pair):
    laptop, _ = pair
    fill(laptop, 1500)
    laptop.start()
    until(lambda: len(laptop.files()) > 50, "the mirror has begun")
    stops_in_time(laptop)
    done = len(laptop.files())
    assert done < 1500, "too fast to be stopped in the middle"
    assert [path.name for path in laptop.home.sessions.rglob(".steno-*.part")] == []
    laptop.start()
    until(laptop.settled, "everything is written", within_s=90)
    assert len(laptop.files()) == 1500
    laptop.stop()


def test_a_daemon_stops_in_time_while_somebody_writes_to_a_file_without_end(running: Device):
    running.steno("create", "--id", "noisy")
    path = running.file("noisy")
    script = f"import time\nwhile True: open({str(path)!r}, 'a').write(' '), time.sleep(0.001)"
    noise = subprocess.Popen([sys.executable, "-c", script])
    try:
        until(lambda: running.log().count("is read again"), "it writes")
        stops_in_time(running)
    finally:
        noise.kill()
        noise.wait()


def test_a_daemon_stops_in_time_while_a_client_holds_a_request_open(running: Device):
    client = DaemonClient(running.home)
    with contextlib.closing(client._connected(20)) as connection:
        connection.putrequest("POST", "/v1/sessions")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        stops_in_time(running)


# One for each home


@pytest.mark.fault(35)
def test_a_second_daemon_is_refused_and_names_the_first(running: Device):
    done = running.steno("daemon", "run", code=1)
    assert running.daemon is not None
    assert f"process {running.daemon.pid}" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert running.steno("daemon", "start", code=1).err == done.err
    assert running.steno("daemon", "status").code == 0


def test_a_second_daemon_does_not_disturb_the_first(running: Device):
    before = running.home.daemon_file.read_bytes()
    running.steno("daemon", "run", code=1)
    assert running.home.daemon_file.read_bytes() == before
    assert running.client.health()


@pytest.mark.fault(35)
def test_of_daemons_started_at_once_one_runs(lonely: Device):
    processes = [lonely.begin("daemon", "run") for _ in range(3)]
    until(lambda: sum(each.poll() is not None for each in processes) == 2, "two give up")
    (first,) = [each for each in processes if each.poll() is None]
    until(lambda: _running_pid(lonely) == first.pid, "one answers")
    lonely.daemon = first
    lonely.stop()


def test_asking_whether_a_daemon_runs_never_keeps_one_from_starting(lonely: Device):
    stopped = threading.Event()

    def ask() -> None:
        from steno.daemon.lock import holder_of

        while not stopped.is_set():
            holder_of(lonely.home.daemon_lock)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        lonely.start()
    finally:
        stopped.set()
        asking.join()
    lonely.stop()


def _running_pid(device: Device) -> int | None:
    with contextlib.suppress(StenoError):
        client = device.client
        return client.running.pid if client.health() else None
    return None


# With others on the same home


def test_appends_of_four_processes_beside_the_daemon_are_all_there_once(pair: Pair):
    laptop, _ = pair
    for device in pair:
        device.start()
    laptop.steno("create", "--id", "busy")
    script = (
        "import sys; from steno.storage.store import Store; from steno.storage.model import NewMessage\n"
        "store = Store(sys.argv[1])\n"
        "for number in range(50):\n"
        "    store.append('busy', NewMessage(role='user', content=f'{sys.argv[2]} {number}'))\n"
    )
    path = str(laptop.home.database)
    writers = [subprocess.Popen([sys.executable, "-c", script, path, name]) for name in "abc"]
    commands = [laptop.begin("add", "busy", f"d {number}") for number in range(4)]
    assert [each.wait(WITHIN_S) for each in [*writers, *commands]] == [0] * 7
    wanted = sorted([*(f"{name} {number}" for name in "abc" for number in range(50)), *(f"d {n}" for n in range(4))])
    assert sorted(laptop.contents("busy")) == wanted
    for name in "abc":
        mine = [each for each in laptop.contents("busy") if each.startswith(f"{name} ")]
        assert mine == [f"{name} {number}" for number in range(50)]
    until(lambda: equal(*pair), "the desktop has them all, in this order")
    file = laptop.file("busy")
    until(lambda: len(file.read_text(encoding="utf-8").splitlines()) == 1 + len(wanted), "so has the file")


def test_a_sync_right_after_the_start_syncs(pair: Pair):
    laptop, desktop = pair
    fill(desktop, 1)
    desktop.sync_here()
    laptop.steno("daemon", "start")
    laptop.steno("sync")
    assert equal(*pair)
    laptop.steno("daemon", "stop")


def test_a_command_that_syncs_just_now_is_waited_for(pair: Pair):
    laptop, desktop = pair
    fill(desktop, 1)
    desktop.sync_here()
    with ProcessLock(laptop.home.sync_lock, task="syncing"):
        laptop.start()
        assert laptop.everything() == {}
        assert laptop.status()["problems"] == []
    until(lambda: equal(*pair), "the daemon goes on when it is done")


@pytest.mark.fault(35)
def test_a_sync_without_daemon_is_refused_while_another_one_runs(pair: Pair):
    laptop, _ = pair
    with ProcessLock(laptop.home.sync_lock, task="syncing"):
        done = laptop.steno("sync", code=1)
    assert "syncing already runs" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_home_that_gets_its_vault_while_the_daemon_runs_is_mirrored_from_then_on(running: Device, place: Path):
    running.steno("create", "--id", "first")
    remote = place / "remote"
    running.steno("init", "--remote", str(remote))
    other = Device(place / "other").configure()
    other.steno("join", str(remote))
    until(lambda: running.settled() and (remote / "log").is_dir(), "the session is sent")
    other.steno("sync")
    assert equal(running, other)


# Faults


class Inside:
    """The daemon of a home in this process, so that a test can break one of its parts."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._stop: Callable[[], None] = lambda: None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Device:
        self._thread.start()
        assert self._ready.wait(WITHIN_S)
        return self.device

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._daemon())

    async def _daemon(self) -> None:
        home, stop, loop = self.device.home, asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stop.set) and None

        def ready(listening: Any) -> None:
            running = {"pid": 1, "port": listening.port, "socket": str(listening.socket)}
            home.daemon_file.write_text(json.dumps(running), encoding="utf-8")
            self._ready.set()

        app._make_token(home)
        await app.Daemon(home, lambda: Store(home.database)).run(port=0, ready=ready, stop=stop)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what failed be tried again at once."""
    monkeypatch.setattr(app, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(app, "RETRY_LAST_S", 0.02)


# A new folder may be told of twice to watchdog, which warns of itself; as an error that would end its thread.
@pytest.mark.filterwarnings("ignore:Callback with id")
@pytest.mark.usefixtures("soon")
def test_a_job_that_fails_unforeseen_is_said_and_begins_anew(lonely: Device, monkeypatch: pytest.MonkeyPatch):
    real, broken = app.index, True

    def index(*arguments: Any) -> Any:
        if broken:
            raise KeyError("a bug")
        return real(*arguments)

    monkeypatch.setattr(app, "index", index)
    with Inside(lonely) as device:
        device.steno("create", "--title", "quuxfrobnicate")
        until(lambda: "KeyError" in str(device.status()["problems"]), "the fault is in the status")
        path = until(device.files, "the other jobs go on")[0]
        assert path.read_text(encoding="utf-8")
        broken = False
        until(lambda: device.status()["problems"] == [], "the job is well again")
        until(lambda: device.status()["search"]["not_indexed"] == 0, "it caught up")
        assert len(device.json("search", "quuxfrobnicate")["results"]) == 1


@pytest.mark.filterwarnings("ignore:Callback with id")
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("fault", [KeyError("a bug"), OSError("unforeseen"), AssertionError()], ids=repr)
def test_a_fault_in_the_files_or_the_vault_ends_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch, fault: Exception):
    laptop, desktop = pair
    broken = True

    def breaking(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if broken:
                raise fault
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(app.Mirror, "write_pending", breaking(app.Mirror.write_pending))
    monkeypatch.setattr(app.VaultEngine, "sync", breaking(app.VaultEngine.sync))
    with Inside(laptop) as device:
        device.steno("create", "--id", "first")
        until(lambda: len(device.status()["problems"]) == 2, "both faults are in the status")
        broken = False
        until(lambda: device.status()["problems"] == [], "both jobs are well again")
        until(device.settled, "everything is written and sent")
        assert len(device.files()) == 1
    desktop.sync_here()
    assert equal(laptop, desktop)


def test_what_others_write_is_noticed_also_while_the_settings_cannot_be_read(
    lonely: Device, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.Watcher, "watch", lambda *_, **__: False)
    monkeypatch.setattr(app, "STORE_POLL_S", 0.01)
    monkeypatch.setattr(app, "RETRY_FIRST_S", 1000.0)
    lonely.home.config_file.write_text("[", encoding="utf-8")
    with Inside(lonely) as device:
        for number in range(2):
            fill(device, 1)
            until(lambda: device.status()["search"]["not_indexed"] == 0, f"write {number} is in the index")


def test_a_vault_file_that_is_none_is_said_and_the_rest_goes_on(pair: Pair):
    laptop, _ = pair
    kept = laptop.home.vault_file.read_bytes()
    laptop.home.vault_file.write_bytes(b"{")
    laptop.start()
    laptop.steno("create", "--id", "first")
    until(laptop.files, "files are written")
    assert "cannot be read" in laptop.steno("status", code=None).err + laptop.steno("sync", code=None).err
    laptop.home.vault_file.write_bytes(kept)
    until(laptop.settled, "the daemon goes on when the file is whole again")
