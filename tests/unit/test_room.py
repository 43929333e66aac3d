"""What arrives from elsewhere stops before it takes the last room of a disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from steno.storage.errors import LocalStorageError
from steno.storage.room import LEFT_BYTES, check_room
from steno.tests.unit.vaults import Device

GIB = 1 << 30
Disk = Callable[[int, int], None]


class Usage(NamedTuple):
    total: int
    free: int


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Let every disk be so large and have so much free."""

    def of(total: int, free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(total, free))

    return of


@pytest.mark.fault(31)
def test_a_nearly_full_disk_takes_nothing_in(disk: Disk, tmp_path: Path):
    disk(100 * GIB, LEFT_BYTES - 1)
    with pytest.raises(LocalStorageError, match="nearly full"):
        check_room(tmp_path / "steno.db", taking=0)


def test_what_would_fill_the_disk_is_not_taken_in(disk: Disk, tmp_path: Path):
    disk(100 * GIB, LEFT_BYTES + 1000)
    check_room(tmp_path / "steno.db", taking=100)
    with pytest.raises(LocalStorageError):
        check_room(tmp_path / "steno.db", taking=1000)


def test_of_a_small_disk_a_share_is_left(disk: Disk, tmp_path: Path):
    disk(4 << 20, 1 << 20)
    check_room(tmp_path / "steno.db", taking=10_000)
    disk(4 << 20, 1 << 16)
    with pytest.raises(LocalStorageError):
        check_room(tmp_path / "steno.db", taking=0)


def test_a_disk_of_which_nothing_is_known_is_tried(tmp_path: Path):
    check_room(tmp_path / "nowhere" / "steno.db", taking=1 << 60)


@pytest.mark.fault(31)
async def test_what_is_written_on_a_nearly_full_disk_goes_out_though_nothing_comes_in(
    laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch
):
    await laptop.sync()
    arriving = desktop.session("on the desktop")
    await desktop.sync()
    written = laptop.session("on the laptop")
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: Usage(100 * GIB, LEFT_BYTES - 1))
        with pytest.raises(LocalStorageError, match="nearly full"):
            await laptop.sync()
    await desktop.sync()
    assert desktop.contents(written) == ["on the laptop"]
    await laptop.sync()
    assert laptop.contents(arriving) == ["on the desktop"]
