"""Daemons killed at thirty random moments while people write: all devices end equal, sound, and without a loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import Device
from steno.tests.e2e.soak import Soak
from steno.tests.server_fixtures import RCLONE_SETTINGS, S3_SETTINGS

SEED = 20_261_121
KILLS = 10

pytestmark = pytest.mark.usefixtures("forked")


@pytest.mark.fault(1, 2, 35)
@pytest.mark.parametrize("kind", ["folder", "s3", "rclone"])
def test_devices_whose_daemons_are_killed_at_random_moments_end_equal_and_lose_nothing(
    kind: str, place: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"s3": S3_SETTINGS, "rclone": RCLONE_SETTINGS}.get(kind, {}).items():
        monkeypatch.setenv(name, value)
    remote = place / "remote" if kind == "folder" else request.getfixturevalue(f"{kind}_url")
    soak = Soak(place, remote, seed=SEED)
    try:
        soak.run(KILLS)
    finally:
        soak.close()
    assert soak.kills == KILLS
    assert sum(soak.done.values()) > KILLS


@pytest.fixture
def soak(place: Path):
    made = Soak(place, place / "remote", seed=SEED)
    yield made
    made.close()


def written(soak: Soak) -> Device:
    """A device where one message was acknowledged."""
    device = soak.devices[0]
    with device.store(write=True) as store:
        soak.deeds.act(store, lambda store, _: store.create(id="session-0"))
        soak.deeds.act(store, lambda store, _: store.append("session-0", NewMessage(role="user", content="said")))
    return device


def test_a_message_that_is_gone_is_noticed(soak: Soak):
    device = written(soak)
    with device.store(write=True) as store, store.transaction():
        store.execute("DELETE FROM messages")
        store.execute("UPDATE sessions SET message_count = 0")
    with pytest.raises(AssertionError, match="lost"):
        soak.check(device)


def test_a_message_that_is_hidden_though_nobody_hid_it_is_noticed(soak: Soak):
    device = written(soak)
    with device.store(write=True) as store:
        store.delete("session-0")
    with pytest.raises(AssertionError, match="swallowed"):
        soak.check(device)


def test_an_edit_that_is_gone_is_noticed(soak: Soak):
    device = written(soak)
    title = ("session-0", None, "title")
    with device.store(write=True) as store:
        soak.deeds.act(store, lambda store, _: store.update("session-0", fields={"title": "other"}), edits=title)
    with pytest.raises(AssertionError, match="nobody replaced it"):
        soak.check(device)
