"""What is forked behaves as what is started: `Device.forker` changes the time that a test takes, not what it sees."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, Done, until
from steno.tests.e2e.forking import Forker


@pytest.fixture
def device(lonely: Device, forker: Forker, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(Device, "forker", forker)
    return lonely


@pytest.mark.parametrize(
    "arguments", [("list",), ("show", "nobody"), ("frobnicate",), ("add", "s", "-"), ("sync",)], ids=" ".join
)
def test_a_command_that_is_forked_says_and_ends_as_one_that_is_started(
    device: Device, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    with device.store(write=True) as store:
        store.create(id="s", title="Plan")
    forked = device.steno(*arguments, code=None, stdin="one\ntwo")
    monkeypatch.setattr(Device, "forker", None)
    started = device.steno(*arguments, code=None, stdin="one\ntwo")
    assert _without_ids(forked) == _without_ids(started)
    assert device.contents("s") in ([], ["one\ntwo", "one\ntwo"])


def _without_ids(done: Done) -> Done:
    return Done(done.code, re.sub(r"message \d|m-\w+", "", done.out), done.err)


@pytest.mark.parametrize("way", ["forked", "started", "here"])
def test_what_a_command_writes_where_it_runs_lies_beside_the_home(
    device: Device, way: str, monkeypatch: pytest.MonkeyPatch
):
    with device.store(write=True) as store:
        store.create(id="s", title="Plan")
    if way == "started":
        monkeypatch.setattr(Device, "forker", None)
    (device.here if way == "here" else device.steno)("export", "s")
    assert (device.place.parent / "session-s.json").exists()


def test_a_daemon_that_is_forked_answers_and_stops_as_it_is_asked_to(device: Device):
    device.start()
    daemon = device.daemon
    assert daemon is not None
    assert device.client.running.pid == daemon.pid
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0


def test_who_waits_for_a_process_that_goes_on_is_told(device: Device):
    device.start()
    daemon = device.daemon
    assert daemon is not None
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(0.01)


def test_a_process_that_is_forked_can_be_killed_at_once_and_at_a_step(device: Device):
    device.start()
    device.kill()
    assert device.daemon is not None
    assert device.daemon.returncode == -signal.SIGKILL
    with device.store(write=True) as store:
        store.create(id="s")
        store.append("s", NewMessage(role="user", content="text"))
    assert device.spawn(STENO_KILL_AT="files.published").wait(60) == -signal.SIGKILL


def test_forks_know_nothing_of_each_other(device: Device):
    other = device.copy(device.place.with_name("other"))
    with device.store(write=True) as store:
        store.create(id="s", title="Plan")
    for each in (device, other):
        each.start()
    until(lambda: device.settled() and other.settled(), "the files are written")
    other.stop()
    assert (len(device.files()), len(other.files())) == (1, 0)
    assert device.client.health()
