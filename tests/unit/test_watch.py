"""What the system cannot tell of a directory is known."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import sys
from pathlib import Path

import pytest

from steno.daemon.watch import Watcher, is_remote

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 21 0:35 / /home/shared rw - nfs4 server:/shared rw
41 40 8:2 / /home/shared/local rw - ext4 /dev/sdb1 rw
42 21 0:40 / /media/with\\040space rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize(
    ("folder", "remote"),
    [
        ("/home/me/sessions", False),
        ("/home/shared/sessions", True),
        ("/home/shared/local/sessions", False),
        ("/home/sharedish", False),
        ("/media/with space/sessions", True),
    ],
)
def test_a_network_mount_is_told_from_a_disk(tmp_path: Path, folder: str, remote: bool):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert is_remote(Path(folder), mounts) is remote


def test_without_a_list_of_mounts_a_directory_is_taken_for_local(tmp_path: Path):
    assert not is_remote(tmp_path, tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_watchdog_still_tells_of_lost_events_by_its_log():
    source = inspect.getsource(importlib.import_module("watchdog.observers.inotify_c"))
    assert 'logger.warning("Inotify queue overflowed' in source


async def test_lost_events_are_told():
    lost = asyncio.Event()
    watcher = Watcher(lost.set)
    try:
        logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; events were lost")
        async with asyncio.timeout(10):
            await lost.wait()
    finally:
        await watcher.stop()
    assert lost.is_set()
