"""What systemd hears of the daemon, over a real socket: that it is ready, that it goes on, and when it does not."""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from steno.storage.errors import StenoError
from steno.tests.e2e.device import WITHIN_S, Device, until

WATCHED_S = 0.3
UNIT = Path(__file__).parents[2] / "systemd" / "steno.service"
STUCK = (
    "import os, sys, time\n"
    "from steno.daemon import app\n"
    "stuck, app.STUCK_S, real = sys.argv[1], 0.5, app.index\n"
    "def waits(then):\n"
    "    while os.path.exists(stuck): time.sleep(0.01)\n"
    "    return then()\n"
    "{where}\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)
IN_A_THREAD = STUCK.format(where="app.index = lambda store: waits(lambda: real(store))")
IN_THE_LOOP = STUCK.format(
    where="status = app.Daemon.status; app.Daemon.status = lambda self: waits(lambda: status(self))"
)
"""Daemons that stand still as long as a file is there: where they index, or where they are asked how they are."""


class Systemd:
    """The end of the socket at which systemd listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def environment(self, *, within_s: float | None = WATCHED_S, pid: int | None = None) -> dict[str, str]:
        found = {"NOTIFY_SOCKET": str(self.path)}
        found |= {} if within_s is None else {"WATCHDOG_USEC": str(int(within_s * 1_000_000))}
        return found | ({} if pid is None else {"WATCHDOG_PID": str(pid)})

    def heard(self, *, within_s: float = WITHIN_S) -> str | None:
        """The next thing that is said; None where nothing is for so long."""
        self._socket.settimeout(within_s)
        try:
            return self._socket.recv(1000).decode()
        except TimeoutError:
            return None

    def rest(self) -> list[str]:
        """What was said and not heard yet."""
        found: list[str] = []
        while (said := self.heard(within_s=0.05)) is not None:
            found.append(said)
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(place: Path) -> Iterator[Systemd]:
    made = Systemd(place / "notify")
    yield made
    made.close()


@pytest.fixture
def device(place: Path) -> Iterator[Device]:
    made = Device(place / "home").make()
    yield made
    made.kill()


def start(device: Device, program: str, stuck: Path, environment: dict[str, str]) -> None:
    device.daemon = device.run("-c", program, str(stuck), **environment)
    until(lambda: device.home.daemon_file.exists() and device.client.health(), "the daemon answers")


def test_it_hears_that_the_daemon_is_ready_goes_on_and_stops(device: Device, systemd: Systemd):
    device.spawn(**systemd.environment())
    assert [systemd.heard() for _ in range(4)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
    device.stop()
    assert systemd.rest()[-1] == "STOPPING=1"


@pytest.mark.parametrize("asks", [{"within_s": None}, {"pid": 1}], ids=["nobody", "another process"])
def test_who_was_not_asked_to_says_nothing_to_the_watchdog(
    device: Device, systemd: Systemd, asks: dict[str, float | int]
):
    device.start(**systemd.environment(**asks))  # pyright: ignore[reportArgumentType]
    device.stop()
    assert systemd.rest() == ["READY=1", "STOPPING=1"]


@pytest.mark.fault(15)
def test_a_thread_that_stands_still_is_not_kept_from_the_watchdog(device: Device, systemd: Systemd, place: Path):
    stuck = place / "stuck"
    start(device, IN_A_THREAD, stuck, systemd.environment())
    assert [systemd.heard() for _ in range(2)] == ["READY=1", "WATCHDOG=1"]
    stuck.touch()
    device.steno("create", "--id", "to be indexed")
    until(lambda: systemd.heard(within_s=2 * WATCHED_S) is None, "nothing is said any more")
    assert device.client.health(), "the loop still turns"
    stuck.unlink()
    assert systemd.heard() == "WATCHDOG=1", "it goes on"
    device.stop()


@pytest.mark.fault(15)
def test_a_loop_that_stands_still_is_not_kept_from_the_watchdog(device: Device, systemd: Systemd, place: Path):
    stuck = place / "stuck"
    start(device, IN_THE_LOOP, stuck, systemd.environment())
    assert [systemd.heard() for _ in range(2)] == ["READY=1", "WATCHDOG=1"]
    stuck.touch()

    def ask() -> None:
        with suppress(StenoError):
            device.status()

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: systemd.heard(within_s=2 * WATCHED_S) is None, "nothing is said any more")
    stuck.unlink()
    assert systemd.heard() == "WATCHDOG=1", "it goes on"
    asking.join()
    device.stop()


def test_the_unit_lets_systemd_watch_the_daemon():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    assert unit["Service"]["Type"] == "notify"
    assert 30 <= int(unit["Service"]["WatchdogSec"]) <= 300
    assert int(unit["Service"]["TimeoutStopSec"]) >= 10
    assert unit["Service"]["ExecStart"].endswith("/steno daemon run")


def test_systemd_finds_no_fault_with_the_unit(place: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    program = place / "steno"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = place / "steno.service"
    unit.write_text(UNIT.read_text().replace("%h/.local/bin/steno", str(program)))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place)}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
