"""One process at a time; a crash gives the lock back; asking who holds it disturbs nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.daemon.lock import ProcessLock, holder_of
from steno.storage.errors import HomeBusy, LocalStorageError

_HOLDER = (
    "import sys; from pathlib import Path; from steno.daemon.lock import ProcessLock\n"
    "ProcessLock(Path(sys.argv[1]), task='the daemon').take(); print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.lock"


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until it is ended."""
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_that_nobody_holds_is_taken_and_names_its_holder(path: Path):
    assert holder_of(path) is None
    with ProcessLock(path, task="the daemon"):
        assert path.read_text() == str(os.getpid())
        assert holder_of(path) == os.getpid()
    assert holder_of(path) is None


@pytest.mark.fault(35)
def test_a_lock_of_another_process_is_refused_and_its_holder_named(path: Path, other: subprocess.Popen[str]):
    with pytest.raises(HomeBusy) as caught:
        ProcessLock(path, task="the daemon").take()
    assert caught.value.holder == other.pid
    assert f"the daemon already runs for {path.parent} (process {other.pid})" in caught.value.line
    assert holder_of(path) == other.pid


@pytest.mark.fault(35)
def test_a_lock_of_a_process_that_was_killed_is_free(path: Path, other: subprocess.Popen[str]):
    other.kill()
    other.wait()
    assert path.read_text() == str(other.pid)
    assert holder_of(path) is None
    with ProcessLock(path, task="the daemon"):
        assert holder_of(path) == os.getpid()


def test_a_lock_file_whose_text_is_no_number_still_locks(path: Path):
    with ProcessLock(path, task="the daemon"):
        path.write_text("garbage")
        assert holder_of(path) == 0
        with pytest.raises(HomeBusy) as caught:
            ProcessLock(path, task="the daemon").take()
    assert caught.value.holder is None
    assert "another process" in caught.value.line


def test_a_lock_can_be_given_back_twice_and_taken_again(path: Path):
    lock = ProcessLock(path, task="the daemon")
    for _ in range(2):
        lock.take()
        lock.release()
        lock.release()
    assert holder_of(path) is None


def test_a_lock_is_not_handed_on_to_child_processes(path: Path):
    with ProcessLock(path, task="the daemon"):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert holder_of(path) is None
    finally:
        child.kill()
        child.communicate()


def test_a_lock_file_is_private(path: Path):
    with ProcessLock(path, task="the daemon"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_in_a_directory_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(LocalStorageError):
        ProcessLock(tmp_path / "nowhere" / "x.lock", task="the daemon").take()
    assert holder_of(tmp_path / "nowhere" / "x.lock") is None
