"""Several segments on their way at once: in which order they count, and what one that fails leaves behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from steno.storage.errors import RemoteUnreachable
from steno.sync.vault import intake, sending
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.names import MAX_OBJECT_BYTES, SegmentName
from steno.tests.unit.vaults import Device, Flaky, Vault


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        for _ in itertools.count():
            if true():
                return
            await asyncio.sleep(0)


class Slow(Flaky):
    """A remote whose every request waits until others wait with it; a PUT ends when it may."""

    def __init__(self, vault: Vault) -> None:
        super().__init__(vault.remote)
        self.under_way = self.most = 0
        self.may_end: Callable[[str], bool] = lambda _: True

    async def put(self, name: str, data: bytes) -> None:
        await self._wait(name)
        await super().put(name, data)

    async def get(self, name: str, **options: object) -> bytes:
        await self._wait(name)
        return await super().get(name, **options)

    async def _wait(self, name: str) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(50):
                await asyncio.sleep(0)
            await _until(lambda: self.may_end(name))
        finally:
            self.under_way -= 1


@pytest.fixture
def slow(vault: Vault, laptop: Device, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """The laptop's way to the remote; what it writes goes in small segments."""
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 2000)
    laptop.remote = Slow(vault)
    laptop.restart()
    return laptop.remote


def _number(name: str) -> int:
    parsed = SegmentName.parse(name)
    return 0 if parsed is None else parsed.first


def _written(device: Device, messages: int = 40) -> str:
    return device.session(*(f"{at} " + "x" * 300 for at in range(messages)))


async def test_eight_segments_travel_at_once(laptop: Device, slow: Slow):
    _written(laptop, 100)
    slow.may_end = lambda name: not _number(name) or slow.most >= sending.IN_FLIGHT
    await laptop.sync()
    assert slow.most == sending.IN_FLIGHT


async def test_what_travels_at_once_is_bounded_in_bytes(laptop: Device, slow: Slow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "IN_FLIGHT_BYTES", 1)
    _written(laptop)
    await laptop.sync()
    assert slow.most == 1


async def test_eight_objects_are_fetched_at_once(laptop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 2000)
    _written(laptop, 100)
    await laptop.sync()
    desktop = vault.device("desktop")
    desktop.remote = slow = Slow(vault)
    desktop.restart()
    slow.may_end = lambda name: not _number(name) or slow.most >= intake.AHEAD
    await desktop.sync()
    assert slow.most == intake.AHEAD
    assert desktop.everything() == laptop.everything()


async def test_what_is_fetched_ahead_is_bounded_in_bytes(laptop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(intake, "AHEAD_BYTES", 1)
    _written(laptop, 100)
    await laptop.sync()
    desktop = vault.device("desktop")
    desktop.remote = slow = Slow(vault)
    desktop.restart()
    await desktop.sync()
    assert slow.most == 1
    assert desktop.everything() == laptop.everything()


class Weighed(Flaky):
    """A remote that counts how many objects of any size are under way at once."""

    unbounded = most_unbounded = 0

    async def get(self, name: str, **options: int) -> bytes:
        is_unbounded = options.get("limit_bytes", MAX_OBJECT_BYTES) >= MAX_OBJECT_BYTES
        self.unbounded += is_unbounded
        self.most_unbounded = max(self.most_unbounded, self.unbounded)
        try:
            await asyncio.sleep(0)
            return await super().get(name, **options)
        finally:
            self.unbounded -= is_unbounded


@pytest.mark.fault(38)
async def test_what_is_large_is_fetched_when_its_turn_comes_and_not_before(
    laptop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(intake, "AHEAD_BYTES", 4000)
    monkeypatch.setattr(intake, "_EXPECTED_BYTES", 100)
    for number in range(20):
        laptop.session(vault.draw(10 if number % 3 else 10_000).hex())
        await laptop.engine.push()
    await laptop.sync()
    desktop = vault.device("desktop")
    desktop.remote = weighed = Weighed(vault.remote)
    desktop.restart()
    await desktop.sync()
    assert desktop.everything() == laptop.everything()
    assert weighed.most_unbounded == 1


async def test_who_looks_while_a_later_number_is_there_first_is_told_and_misses_nothing_later(
    laptop: Device, desktop: Device, slow: Slow
):
    session = _written(laptop)
    slow.may_end = lambda name: _number(name) != 2
    sent = asyncio.create_task(laptop.sync())
    await _until(lambda: any(_number(name) == 3 for name in slow.objects))
    report = await desktop.sync()
    assert [each for each in report.problems if "publications 2-2" in each]
    slow.may_end = lambda _: True
    await sent
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == laptop.contents(session)


async def test_a_number_is_acknowledged_behind_all_before_it(laptop: Device, slow: Slow):
    _written(laptop)
    slow.may_end = lambda name: _number(name) != 2
    sent = asyncio.create_task(laptop.sync())
    await _until(lambda: any(_number(name) == 4 for name in slow.objects))
    ledger = Ledger(laptop.store, laptop.vault.id)
    assert ledger.cursor().of(laptop.store.device).last == 1
    slow.may_end = lambda _: True
    await sent
    assert ledger.cursor().of(laptop.store.device).spans == ((1, len(laptop.vault.log())),)


async def test_behind_one_that_fails_nothing_more_is_begun_and_all_of_it_is_sent_later(
    laptop: Device, desktop: Device, vault: Vault, slow: Slow
):
    session = _written(laptop, 200)
    away = RemoteUnreachable(remote="memory", reason="away")
    slow.fails = lambda verb, name: away if verb == "put" and _number(name) == 3 else None
    with pytest.raises(RemoteUnreachable):
        await laptop.sync()
    assert {_number(name) for name in vault.log()} <= set(range(1, 3 + sending.IN_FLIGHT))
    sent = dict(vault.remote.objects)
    slow.fails = lambda *_: None
    laptop.restart()
    await laptop.sync()
    assert vault.remote.objects.items() >= sent.items()
    assert [_number(name) for name in vault.log()] == list(range(1, len(vault.log()) + 1))
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == laptop.contents(session)


async def test_a_killed_push_sends_again_only_what_was_not_acknowledged(laptop: Device, vault: Vault, slow: Slow):
    _written(laptop, 200)
    slow.may_end = lambda name: _number(name) < 12
    push = asyncio.create_task(laptop.sync())
    await _until(lambda: any(_number(name) == 11 for name in vault.log()))
    push.cancel()
    await asyncio.gather(push, return_exceptions=True)
    slow.may_end = lambda _: True
    laptop.restart()
    laptop.asked()
    await laptop.sync()
    total = len(vault.log())
    assert laptop.asked()["put"] <= total - 11 + sending.IN_FLIGHT
    assert [_number(name) for name in vault.log()] == list(range(1, total + 1))
