"""Devices for tests that run the real commands; whatever they started is ended with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.tests.e2e.device import Device
from steno.tests.e2e.forking import Forker

Pair = tuple[Device, Device]


@pytest.fixture
def place(short: Path) -> Iterator[Path]:
    """A directory of this test alone."""
    made = Path(tempfile.mkdtemp(dir=short))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """What commands are forked from."""
    made = Forker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def forked(forker: Forker) -> Iterator[None]:
    """Let the commands of a module be forked: for tests of what they do, not of how they come up."""
    Device.forker = forker
    yield
    Device.forker = None


@pytest.fixture(scope="session")
def template(short: Path) -> Pair:
    """Two devices of one vault that nobody used yet; tests take copies."""
    folder = short / "t"
    laptop = Device(folder / "a", remote=folder / "r").make(found=True)
    return laptop, Device(folder / "b", remote=folder / "r").make()


@pytest.fixture(scope="session")
def make_pair(template: Pair) -> Callable[[Path], Pair]:
    """Give two fresh devices of one vault in a directory."""

    def made(folder: Path) -> Pair:
        laptop, desktop = template
        assert laptop.remote is not None
        shutil.copytree(laptop.remote, folder / "r")
        return laptop.copy(folder / "a", remote=folder / "r"), desktop.copy(folder / "b", remote=folder / "r")

    return made


@pytest.fixture
def pair(place: Path, make_pair: Callable[[Path], Pair]) -> Iterator[Pair]:
    """Two fresh devices, whose daemons are ended with the test."""
    devices = make_pair(place)
    yield devices
    for device in devices:
        device.kill()


@pytest.fixture
def lonely(place: Path) -> Iterator[Device]:
    """One fresh device without a remote."""
    device = Device(place / "h").make()
    yield device
    device.kill()
