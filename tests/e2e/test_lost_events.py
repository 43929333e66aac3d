"""More happens in the directory than the system keeps for the daemon: what it was not told of is taken all the same."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

KEPT_BY_THE_SYSTEM = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def device(lonely: Device, forked: None) -> Iterator[Device]:
    """A device of this test alone."""
    yield lonely.start()
    lonely.stop()


@contextmanager
def deaf(device: Device) -> Generator[None]:
    """Let the daemon hear nothing of what is done here, but that something was lost.

    It is halted until the queue of its events is full: two files by turns, since equal events in a row are one.
    """
    daemon = device.daemon
    assert daemon is not None
    daemon.send_signal(signal.SIGSTOP)
    try:
        until(lambda: _state(daemon.pid) == "T", "the daemon is halted")
        ticks = [device.home.sessions / name for name in ("tick", "tock")]
        for each in ticks:
            each.touch()
        for number in range(int(KEPT_BY_THE_SYSTEM.read_text()) + 100):
            ticks[number % 2].chmod(0o600)
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]


def session(device: Device) -> tuple[str, Path]:
    """A session and its file, once nothing is left to be done."""
    with device.store(write=True) as store:
        made = store.create(title="Edited unheard").id
        store.append(made, NewMessage(role="user", content="one"))
    path = device.file(made)
    until(device.settled, "nothing is pending")
    return made, path


def test_an_edit_whose_event_was_lost_is_taken(device: Device):
    made, path = session(device)
    with deaf(device):
        path.write_text(path.read_text().replace('"content":"one"', '"content":"edited"'))
    until(lambda: device.contents(made) == ["edited"], "the edit is in the store")
    assert "more happened at once than the system could tell" in device.log()


def test_a_file_that_was_removed_unheard_deletes_its_session(device: Device):
    made, path = session(device)
    with deaf(device):
        path.unlink()
    until(lambda: device.title(made) is None, "the session is deleted")
    assert "session not found" in device.steno("show", made, code=3).err


def test_what_happens_in_a_folder_that_was_made_unheard_is_heard(device: Device):
    folder = device.home.sessions / "new" / "folder"
    with deaf(device):
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text('{"role":"user","content":"one"}\n')
    until(lambda: len(device.everything()) == 1, "the file became a session")
    until(device.settled, "nothing is pending")
    (folder / "b.jsonl").write_text('{"role":"user","content":"two"}\n')
    until(lambda: len(device.everything()) == 2, "the next one became one too")
    assert sorted(device.contents(each) for each in device.everything()) == [["one"], ["two"]]
