"""A machine that lost its power, as the daemon finds it when it is started again."""

from __future__ import annotations

import os

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until

# The same daemon, on a machine that was started since the files were written.
ANOTHER_START = (
    "import sys, time; from steno.sync.files.mirror import Mirror; from steno.sync.files.power import Machine\n"
    "Mirror.__init__.__kwdefaults__['machine'] = lambda: Machine('another start', time.time_ns())\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)
WORDS = [f"message {number} {'x' * 200}" for number in range(30)]
MARK = "files-not-on-disk"
pytestmark = pytest.mark.usefixtures("forked")


@pytest.fixture
def device(lonely: Device) -> Device:
    with lonely.store(write=True) as store:
        store.create(id="s", title="S")
        store.add_messages("s", [NewMessage(role="user", content=each) for each in WORDS])
    return lonely


def mark(device: Device) -> str:
    with device.store() as store:
        return store.meta(MARK)


def shown(device: Device) -> int:
    return len(device.file("s").read_text(encoding="utf-8").splitlines()) - 1


@pytest.mark.fault(3)
def test_the_daemon_writes_anew_what_the_power_cut_short(device: Device):
    device.start()
    until(device.settled, "the file is written")
    device.kill()
    path = device.file("s")
    times = path.stat()
    lines = path.read_bytes().splitlines(keepends=True)
    with path.open("r+b") as file:
        file.truncate(len(b"".join(lines[:20])))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    device.daemon = device.run("-c", ANOTHER_START)
    until(lambda: len(path.read_text(encoding="utf-8").splitlines()) == len(WORDS) + 1, "the file is whole")
    assert device.contents("s") == WORDS
    assert "cut-short" in [each["kind"] for each in device.json("files", "status")["reports"]]
    device.stop()


def test_a_clean_stop_leaves_no_file_in_doubt(device: Device):
    device.start()
    until(device.settled, "the file is written")
    assert mark(device) != ""
    device.stop()
    assert mark(device) == ""


def test_neither_does_a_command_that_wrote_files(device: Device):
    device.steno("files", "rebuild")
    assert shown(device) == len(WORDS)
    assert mark(device) == ""
