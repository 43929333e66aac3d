"""What real daemons ask of a folder remote: an append one PUT, an idle poll one LIST, whatever the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]
SESSION = "counted"


class Counted(NamedTuple):
    """Two devices with a history of so many segments, both daemons running and quiet."""

    laptop: Device
    desktop: Device
    segments: int


# The daemon of the command line, but that it polls the folder as it polls a remote that cannot be watched.
POLLING = (
    "import sys; from steno.daemon.vault_job import VaultJob\n"
    "async def unwatched(*_): return False\n"
    "VaultJob._watch = unwatched\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)


@pytest.fixture(scope="module", params=[10, 1000])
def counted(request: pytest.FixtureRequest, short: Path, make_pair: Callable[[Path], Pair]) -> Iterator[Counted]:
    folder = short / f"counted-{request.param}"
    laptop, desktop = devices = make_pair(folder)
    laptop.publish_here(SESSION, segments=request.param)
    assert len(list((laptop.folder / "log").iterdir())) == request.param
    for device in devices:
        device.steno("sync")  # and what is to be written again now and then is
    for device in devices:
        device.start()
        until(device.settled, "nothing is pending")
    yield Counted(laptop, desktop, request.param)
    for device in devices:
        device.kill()


def asked(device: Device, before: dict[str, int]) -> dict[str, int]:
    """What was asked of the remote since."""
    now = device.requests()
    return {verb: now[verb] - before.get(verb, 0) for verb in now if now[verb] != before.get(verb, 0)}


def append(device: Device, content: str) -> None:
    with device.store(write=True) as store:
        store.append(SESSION, NewMessage(role="user", content=content))


def arrived(device: Device, content: str) -> bool:
    return content in device.contents(SESSION)[-1:]


def test_an_append_is_one_put_and_nothing_else(counted: Counted):
    before = counted.laptop.requests()
    append(counted.laptop, "to be counted")
    until(lambda: arrived(counted.desktop, "to be counted"), "the desktop has it")
    until(counted.laptop.settled, "the laptop has nothing pending")
    assert asked(counted.laptop, before) == {"put": 1}


def test_what_arrives_is_one_list_and_one_get(counted: Counted):
    until(counted.desktop.settled, "nothing is pending")
    before = counted.desktop.requests()
    append(counted.laptop, "to be fetched")
    until(lambda: arrived(counted.desktop, "to be fetched"), "the desktop has it")
    until(counted.desktop.settled, "nothing is pending")
    found = asked(counted.desktop, before)
    # A file that is written beside and moved into place may be told of twice, so that one LIST more finds nothing.
    assert found.pop("list") in (1, 2)
    assert found == {"get": 1}


def test_what_is_written_here_and_what_is_only_looked_at_asks_nothing(counted: Counted):
    for device in (counted.laptop, counted.desktop):
        until(device.settled, "nothing is pending")
    before = [device.requests() for device in (counted.laptop, counted.desktop)]
    for device in (counted.laptop, counted.desktop):
        device.json("list")
        device.json("show", SESSION, "--last", "1")
        device.json("status")
        device.client.request("GET", "/v1/sessions")
    assert asked(counted.laptop, before[0]) == asked(counted.desktop, before[1]) == {}


def test_a_sync_with_nothing_new_is_one_list(counted: Counted):
    until(counted.desktop.settled, "nothing is pending")
    before = counted.desktop.requests()
    counted.desktop.client.request("POST", "/v1/sync")
    found = asked(counted.desktop, before)
    assert found.keys() == {"list"}


def test_a_poll_that_finds_nothing_is_one_list_and_nothing_else(counted: Counted):
    desktop = counted.desktop
    desktop.stop()
    desktop.daemon = desktop.run("-c", POLLING)
    until(lambda: desktop.home.daemon_file.exists() and desktop.client.health(), "the daemon answers")
    until(desktop.settled, "the first sync is done")
    before = desktop.requests()
    until(lambda: asked(desktop, before), "it polls")
    assert asked(desktop, before) == {"list": 1}
    assert desktop.status()["problems"] == []
