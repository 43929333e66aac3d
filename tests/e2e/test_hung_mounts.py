"""A remote on a disk that does not answer: nothing but the sync waits, and not even that for ever."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from steno.tests.e2e.device import Device, Process, equal, until
from steno.tests.e2e.hung_mount import HungMount

Pair = tuple[Device, Device]

IMPATIENT = (
    "import sys; from steno.daemon import vault_job as job\n"
    "from steno.sync.vault import opendal_remote as remote, pulling\n"
    "job.TIMEOUT_S = pulling.TIMEOUT_S = remote.TIMEOUT_S = remote.TRANSFER_TIMEOUT_S = 0.5\n"
    "from steno.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
"""A program that waits half a second for a disk."""


def _needs_fuse() -> None:
    if os.geteuid() != 0 or not Path("/dev/fuse").exists() or shutil.which("umount") is None:
        if os.environ.get("STENO_REQUIRE_SERVERS"):
            raise AssertionError("a disk that hangs needs root and /dev/fuse")
        pytest.skip("a disk that hangs needs root and /dev/fuse")


@pytest.fixture
def hang() -> Iterator[Callable[[Path], HungMount]]:
    """Let a directory hang; at the end of the test none does."""
    _needs_fuse()
    made: list[HungMount] = []

    def hung(folder: Path) -> HungMount:
        made.append(HungMount(folder))
        return made[-1]

    yield hung
    for each in made:
        with suppress(OSError):
            each.end()


def _start(device: Device) -> Process:
    device.daemon = started = device.run("-c", IMPATIENT, "daemon", "run")
    until(lambda: device.home.daemon_file.exists() and device.client.health(), "the daemon answers")
    return started


def _stops_in_time(device: Device) -> None:
    began = time.monotonic()
    device.stop()
    assert time.monotonic() - began < 5


def _folder(device: Device) -> Path:
    assert isinstance(device.remote, Path)
    return device.remote


@pytest.mark.fault(15)
def test_a_disk_that_hangs_holds_up_neither_daemon_nor_api_nor_files(pair: Pair, hang: Callable[[Path], HungMount]):
    laptop, desktop = pair
    _start(laptop)
    laptop.steno("create", "--id", "before")
    until(laptop.settled, "all is sent")
    mount = hang(_folder(laptop))
    laptop.steno("create", "--id", "meanwhile")
    until(lambda: laptop.status()["vault"].get("error"), "the remote is said to be stuck")
    assert "did not answer in time" in laptop.steno("status", code=8).out
    began = time.monotonic()
    assert len(laptop.client.request("GET", "/v1/sessions")["sessions"]) == 2
    assert time.monotonic() - began < 2
    assert laptop.file("meanwhile").exists()
    _stops_in_time(laptop)
    _start(laptop)
    until(lambda: laptop.status()["vault"].get("error"), "so it is after a new start")
    mount.end()
    until(lambda: laptop.settled() and not laptop.status()["problems"], "it goes on by itself")
    _stops_in_time(laptop)
    desktop.sync_here()
    assert equal(laptop, desktop)


@pytest.mark.fault(15)
def test_a_sync_on_a_disk_that_hangs_ends_and_says_so(pair: Pair, hang: Callable[[Path], HungMount]):
    laptop, _ = pair
    hang(_folder(laptop))
    assert laptop.run("-c", IMPATIENT, "sync").wait(30) == 6
    assert "did not answer in time" in laptop.log()


@pytest.mark.fault(15)
def test_an_object_whose_reading_hangs_holds_up_no_stop(pair: Pair):
    laptop, _ = pair
    (_folder(laptop) / "vault.json").unlink()
    os.mkfifo(_folder(laptop) / "vault.json")
    _start(laptop)
    until(lambda: laptop.status()["vault"].get("error"), "the remote is said to be stuck")
    _stops_in_time(laptop)
