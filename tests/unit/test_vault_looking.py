"""What a look at a remote costs: what the listing and the store say now, not what was ever there."""

from __future__ import annotations

from typing import Any

import pytest

from steno.sync.vault import ledger, pulling
from steno.sync.vault.names import SegmentName
from steno.sync.vault.rewriting import GRACE_MS
from steno.tests.unit.vaults import Device, Vault


async def _history(device: Device, segments: int) -> str:
    session = device.session("first")
    await device.sync()
    for at in range(segments - 1):
        device.add(session, str(at))
        await device.engine.push()
    return session


def _names(device: Device) -> list[str]:
    return [name for (name,) in device.store.execute("SELECT name FROM objects ORDER BY name")]


async def _compacted(vault: Vault, device: Device) -> None:
    """Let a device write its log again and delete what that stands for."""
    await device.engine.tend()
    vault.clock_ms += 2 * GRACE_MS
    await device.engine.tend()


@pytest.fixture
def thought(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many names were thought over, look by look."""
    counts: list[int] = []
    real = pulling.plan_pull

    def plan_pull(listing: list[str], **known: Any) -> Any:
        counts.append(len(listing))
        return real(listing, **known)

    monkeypatch.setattr(pulling, "plan_pull", plan_pull)
    return counts


async def test_a_listing_that_is_as_before_is_not_thought_over_again(
    laptop: Device, desktop: Device, thought: list[int]
):
    await _history(laptop, 20)
    await desktop.sync()
    await desktop.engine.pull()
    thought.clear()
    for _ in range(3):
        await desktop.engine.pull()
    assert thought == []


async def test_a_listing_that_is_as_before_is_thought_over_where_the_store_is_another_one(
    laptop: Device, desktop: Device, thought: list[int]
):
    await _history(laptop, 3)
    await desktop.sync()
    await desktop.engine.pull()
    thought.clear()
    with desktop.store.transaction():
        desktop.store.execute("DELETE FROM logs")
        desktop.store.execute("DELETE FROM objects")
    report = await desktop.engine.pull()
    assert (thought[:1], report.received_segments) == ([3], 3)


async def test_segments_of_others_that_were_written_again_and_are_gone_are_forgotten(
    laptop: Device, desktop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger, "WORTH_FORGETTING", 4)
    session = await _history(laptop, 64)
    await desktop.sync()
    assert len(_names(desktop)) == 64
    await _compacted(vault, laptop)
    assert (await desktop.sync()).complete
    assert _names(desktop) == vault.log()
    desktop.asked()
    await desktop.engine.pull()
    assert desktop.asked() == {"list": 1}
    assert desktop.contents(session) == laptop.contents(session)


async def test_one_that_stands_for_forgotten_segments_is_missed_where_it_is_lost(
    laptop: Device, desktop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger, "WORTH_FORGETTING", 4)
    await _history(laptop, 64)
    await desktop.sync()
    await _compacted(vault, laptop)
    await desktop.sync()
    [whole] = [name for name in vault.log() if (SegmentName.parse(name) or name).level]  # pyright: ignore[reportAttributeAccessIssue]
    del vault.remote.objects[whole]
    report = await desktop.sync()
    assert [each for each in report.problems if whole in each]


async def test_forgotten_segments_that_a_remote_shows_again_change_nothing(
    laptop: Device, desktop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger, "WORTH_FORGETTING", 4)
    await _history(laptop, 64)
    await desktop.sync()
    before = dict(vault.remote.objects)
    await _compacted(vault, laptop)
    await desktop.sync()
    shown = desktop.everything()
    vault.remote.objects |= before
    assert (await desktop.sync()).complete
    assert desktop.everything() == shown


async def test_our_own_segments_that_were_deleted_cost_a_look_nothing(laptop: Device, vault: Vault):
    await _history(laptop, 64)
    await _compacted(vault, laptop)
    await laptop.sync()
    assert len(vault.log()) < 16
    assert laptop.engine._ledger.applied_of(vault.log()) == set(vault.log())
    assert len(_names(laptop)) <= len(vault.log())
