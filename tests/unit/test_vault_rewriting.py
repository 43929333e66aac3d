"""A device's own segments written again: few enough, without what was purged, under the present key, whatever dies."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from steno.storage import unfolding
from steno.storage.errors import RemoteUnreachable
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.sync.vault import rewriting
from steno.sync.vault.compaction import MOST
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.names import SegmentName
from steno.sync.vault.own_log import OwnLog
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.rotation import FixedKeys
from steno.sync.vault.seal import Keyring, VaultKey, sealed_with, unpack, unseal
from steno.tests.unit.vaults import Device, Vault, vault_in_memory

SECRET = "the word that must go"


def said(vault: Vault) -> bytes:
    """All that stands in the objects of a vault, opened."""
    return b"".join(
        unpack(unseal(sealed, keyring=vault.keyring, vault_id=vault.id, name=name), name=name)
        for name, sealed in vault.remote.objects.items()
        if SegmentName.parse(name) is not None
    )


async def chatty(device: Device, count: int, session: str | None = None) -> str:
    """A session that grew message by message, each in a segment of its own."""
    session = session or device.session()
    for at in range(count):
        device.add(session, f"message {at}")
        await device.engine.push()
    return session


def contents(device: Device) -> dict[str, list[object]]:
    return {session: [message.content for message in found] for session, (_, found) in device.everything().items()}


# Few


async def test_a_log_of_many_small_segments_becomes_a_short_one(vault: Vault, laptop: Device, desktop: Device):
    await chatty(laptop, 100)
    assert len(vault.log()) == 100
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert len(vault.log()) <= MOST
    await desktop.sync()
    assert contents(desktop) == contents(laptop)


async def test_nothing_is_joined_to_what_nobody_would_read(
    vault: Vault, laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(unfolding, "MAX_ENTRIES", 25)
    await chatty(laptop, 100)
    for _ in range(2):
        await laptop.engine.tend()
        vault.clock_ms += GRACE_MS + 1
    assert len(vault.log()) < 20
    assert (await desktop.sync()).complete
    assert contents(desktop) == contents(laptop)


async def test_what_cannot_be_joined_is_not_tried_again_and_again(laptop: Device, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unfolding, "MAX_ENTRIES", 5)
    await chatty(laptop, MOST + 20)
    await laptop.engine.tend()
    laptop.asked()
    await laptop.engine.tend()
    assert laptop.asked() == {}


@pytest.mark.fault(36)
async def test_whoever_reads_half_of_a_log_before_it_is_short_reads_the_rest_after(
    vault: Vault, laptop: Device, desktop: Device
):
    session = await chatty(laptop, 20)
    await desktop.sync()
    await chatty(laptop, 30, session)
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    report = await desktop.sync()
    assert contents(desktop) == contents(laptop)
    assert report.problems == []


async def test_what_is_replaced_stays_a_while(vault: Vault, laptop: Device):
    await chatty(laptop, 8)
    before = set(vault.log())
    await laptop.engine.tend()
    assert before < set(vault.log())
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert len(vault.log()) == 1


async def test_a_log_that_is_short_is_left_alone_without_a_request(laptop: Device):
    await chatty(laptop, 5)
    await laptop.engine.tend()
    laptop.asked()
    await laptop.engine.tend()
    assert laptop.asked() == {}


@pytest.mark.fault(36)
async def test_a_log_is_read_from_the_start_where_it_was_written_again(vault: Vault, laptop: Device, desktop: Device):
    session = await chatty(laptop, 60)
    await laptop.engine.tend()
    laptop.store.delete(session)
    await laptop.sync()
    await desktop.sync()
    assert contents(desktop) == {}
    desktop.store.restore(session)
    assert len(desktop.contents(session)) == 60


async def test_a_segment_that_does_not_open_is_not_replaced(vault: Vault, laptop: Device):
    await chatty(laptop, 8)
    damaged = vault.log()[3]
    vault.remote.objects[damaged] = vault.remote.objects[damaged][:-1] + b"?"
    report = await laptop.engine.tend()
    assert len(vault.log()) == 8
    assert any(damaged in problem for problem in report.problems)


async def test_what_could_not_be_joined_is_read_again_only_after_a_while_and_named_meanwhile(
    vault: Vault, laptop: Device
):
    session = await chatty(laptop, 8)
    damaged = vault.log()[7]
    whole, vault.remote.objects[damaged] = vault.remote.objects[damaged], b"torn"
    await laptop.engine.tend()
    laptop.asked()
    for _ in range(3):
        report = await laptop.engine.tend()
        assert any(damaged in problem for problem in report.problems)
        await chatty(laptop, 1, session)
    assert laptop.asked() == {"put": 3}
    vault.remote.objects[damaged] = whole
    vault.clock_ms += GRACE_MS
    assert (await laptop.engine.tend()).complete
    assert len(vault.log()) == 12


async def test_a_segment_that_does_not_read_back_replaces_nothing(vault: Vault, laptop: Device):
    await chatty(laptop, 8)
    before = dict(vault.remote.objects)
    put = laptop.remote.put

    async def torn(name: str, data: bytes) -> None:
        await put(name, data[:-1])

    laptop.remote.put = torn
    report = await laptop.engine.tend()
    laptop.remote.put = put
    vault.clock_ms += GRACE_MS + 1
    assert len(report.problems) == 1
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert len(vault.log()) == 1
    assert before.keys().isdisjoint(vault.log())


# Purged


@pytest.mark.parametrize("which", ["session", "message", "history"])
async def test_what_was_purged_is_on_no_remote_after_the_next_sync(
    vault: Vault, laptop: Device, desktop: Device, which: str
):
    session = laptop.session("harmless", SECRET)
    await laptop.sync()
    message = list(laptop.store.messages(session))[1].id
    if which == "history":
        laptop.store.edit_message(session, message, {"content": "plain"})
        await laptop.sync()
    assert SECRET.encode() in said(vault)
    purge: Callable[[Store], object] = {
        "session": lambda store: purge_session(store, session),
        "message": lambda store: purge_message(store, session, message),
        "history": lambda store: purge_history(store, session),
    }[which]
    purge(laptop.store)
    await laptop.sync()
    assert SECRET.encode() not in said(vault)
    await desktop.sync()
    assert contents(desktop) == contents(laptop)


async def test_what_another_device_purged_goes_from_the_log_of_whoever_wrote_it(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session(SECRET)
    await laptop.sync()
    await desktop.sync()
    purge_session(desktop.store, session)
    await desktop.sync()
    assert SECRET.encode() in said(vault)
    await laptop.sync()
    assert SECRET.encode() not in said(vault)
    assert len(vault.log()) == 2


async def test_a_purge_reads_only_the_segments_in_which_the_session_stands(vault: Vault, laptop: Device):
    await chatty(laptop, 30)
    session = laptop.session(SECRET)
    await laptop.sync()
    purge_session(laptop.store, session)
    laptop.asked()
    await laptop.sync()
    assert laptop.asked() == {"list": 1, "put": 2, "get": 2, "delete": 1}


async def test_a_purge_is_done_once(laptop: Device):
    session = laptop.session(SECRET)
    await laptop.sync()
    purge_session(laptop.store, session)
    await laptop.sync()
    laptop.asked()
    await laptop.sync()
    assert laptop.asked() == {"list": 1}


async def test_a_segment_of_which_nothing_is_left_still_stands_for_its_number(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session(SECRET)
    await laptop.sync()
    kept = laptop.session("kept")
    await laptop.sync()
    purge_session(laptop.store, session)
    await laptop.sync()
    report = await desktop.sync()
    assert report.problems == []
    assert contents(desktop) == {kept: ["kept"]}
    assert (await desktop.sync()).received_segments == 0


# Keys


async def test_what_an_old_key_seals_is_sealed_anew(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    vault.keyring = Keyring((*vault.keyring.keys, VaultKey("newnewnewn00", b"n" * 32)))
    laptop.restart()
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    [name] = vault.log()
    assert sealed_with(vault.remote.objects[name], name=name) == "newnewnewn00"
    desktop.restart()
    await desktop.sync()
    assert desktop.contents(session) == ["one"]


class Turning(FixedKeys):
    """Keys that are changed whenever somebody has just looked at them."""

    def __init__(self, *rings: Keyring) -> None:
        self._rings = itertools.cycle(rings)

    def held(self) -> Keyring:
        return next(self._rings)


async def test_which_key_seals_a_segment_is_known_also_where_it_changed_meanwhile(vault: Vault, laptop: Device):
    former = vault.keyring
    vault.keyring = Keyring((*former.keys, VaultKey.new(vault.draw)))
    laptop.engine = VaultEngine(
        laptop.store, laptop.remote, vault=vault.id, keyring=Turning(former, vault.keyring), now_ms=vault.now,
        draw=vault.draw,
    )  # fmt: skip
    await chatty(laptop, 20)
    await laptop.engine.tend()
    for name in vault.log()[:2]:
        del vault.remote.objects[name]
    await laptop.engine.repair()
    standing = OwnLog(Ledger(laptop.store, vault.id)).standing()
    for each in standing:
        if each.name in vault.remote.objects:
            assert each.key == sealed_with(vault.remote.objects[each.name], name=each.name)


async def test_two_homes_under_one_id_do_not_take_turns_in_sealing_anew(vault: Vault, laptop: Device):
    laptop.session("one")
    await laptop.sync()
    copy = dbapi.connect(str(vault.folder / "twin.db"))
    laptop.store.connection.backup(copy)
    copy.close()
    twin = vault.device("twin")
    laptop.session("two")
    await laptop.sync()
    await twin.sync()
    vault.keyring = Keyring((*vault.keyring.keys, VaultKey("newnewnewn00", b"n" * 32)))
    seen: list[list[str]] = []
    for device in (laptop, twin):
        device.restart()
    for _ in range(5):
        for device in (laptop, twin):
            vault.clock_ms += GRACE_MS + 1
            await device.sync()
            await device.engine.tend()
        seen.append(vault.log())
    assert seen[-2] == seen[-1]
    assert {sealed_with(vault.remote.objects[name], name=name) for name in vault.log()} == {"newnewnewn00"}


# Killed


class Died(BaseException):
    """The process ends here."""


STEPS = ["rewrite.announced", "rewrite.put", "rewrite.replaced", "rewrite.deleted"]


@pytest.mark.parametrize("passed", STEPS)
async def test_whoever_dies_while_it_writes_again_loses_nothing(
    vault: Vault, laptop: Device, desktop: Device, passed: str, monkeypatch: pytest.MonkeyPatch
):
    session = await chatty(laptop, 8)
    laptop.add(session, SECRET)
    gone = laptop.session(SECRET)
    await laptop.sync()
    purge_session(laptop.store, gone)
    purge_message(laptop.store, session, list(laptop.store.messages(session))[-1].id)

    def step(name: str) -> None:
        if name == passed:
            monkeypatch.setattr(rewriting, "step", lambda _: None)
            raise Died

    monkeypatch.setattr(rewriting, "step", step)
    with pytest.raises(Died):
        await laptop.sync()
    await desktop.sync()
    laptop.restart()
    report = await laptop.sync()
    assert report.problems == []
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert SECRET.encode() not in said(vault)
    await desktop.sync()
    fresh = vault.device("fresh")
    await fresh.sync()
    assert contents(fresh) == contents(desktop) == contents(laptop)
    ranges = sorted((name.first, name.last) for name in map(SegmentName.parse, vault.log()) if name is not None)
    assert [number for first, last in ranges for number in range(first, last + 1)] == list(range(1, 11))


def test_schedules_of_writing_and_dying_end_with_equal_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for seed in range(20):
        with vault_in_memory(tmp_path / str(seed)) as vault:
            asyncio.run(_lived(vault, random.Random(seed), monkeypatch))


async def _lived(vault: Vault, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(_: str) -> None:
        if rng.random() < 0.1:
            raise Died

    monkeypatch.setattr(rewriting, "step", step)
    devices = [vault.device(name) for name in "ab"]
    for _ in range(60):
        device = rng.choice(devices)
        sessions = [each.id for each in device.store.sessions()]
        choice = rng.random()
        if not sessions or choice < 0.1:
            device.session("first")
        elif choice < 0.5:
            device.add(rng.choice(sessions), f"more {rng.random()}")
        elif choice < 0.55:
            purge_session(device.store, rng.choice(sessions))
        elif choice < 0.6 and device.contents(session := rng.choice(sessions)):
            purge_message(device.store, session, rng.choice(list(device.store.messages(session))).id)
        vault.clock_ms += rng.choice([1, GRACE_MS])
        try:
            await (device.engine.tend if rng.random() < 0.3 else device.sync)()
        except Died:
            device.restart()
    monkeypatch.setattr(rewriting, "step", lambda _: None)
    for _ in range(3):
        for device in devices:
            vault.clock_ms += GRACE_MS
            assert (await device.sync()).problems == []
            await device.engine.tend()
    fresh = vault.device("fresh")
    await fresh.sync()
    assert contents(fresh) == contents(devices[0]) == contents(devices[1])


# A remote that goes back


async def test_what_was_purged_goes_again_where_the_remote_is_put_back(vault: Vault, laptop: Device, desktop: Device):
    session = await chatty(laptop, 100)
    gone = laptop.session(SECRET)
    await laptop.sync()
    before = dict(vault.remote.objects)
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    purge_session(laptop.store, gone)
    await laptop.sync()
    assert SECRET.encode() not in said(vault)

    vault.remote.objects.clear()
    vault.remote.objects.update(before)
    for _ in range(8):
        vault.clock_ms += WAIT_MS // 2
        await laptop.sync()
    assert SECRET.encode() not in said(vault)
    await chatty(laptop, 40, session)
    assert (await laptop.engine.tend()).problems == []
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert len(vault.log()) <= MOST
    await desktop.sync()
    assert contents(desktop) == contents(laptop)


async def test_a_put_that_arrives_after_it_was_given_up_keeps_nothing_that_was_purged(vault: Vault, laptop: Device):
    await chatty(laptop, 40)
    gone = laptop.session(SECRET)
    await laptop.sync()
    late: dict[str, bytes] = {}
    put = laptop.remote.put

    async def delayed(name: str, data: bytes) -> None:
        if late:
            return await put(name, data)
        late[name] = data
        raise RemoteUnreachable(remote="memory", reason="timed out")

    laptop.remote.put = delayed
    with pytest.raises(RemoteUnreachable):
        await laptop.engine.tend()
    await laptop.engine.tend()
    purge_session(laptop.store, gone)
    await laptop.sync()
    vault.remote.objects |= late
    vault.clock_ms += GRACE_MS + 1
    await laptop.sync()
    assert SECRET.encode() not in said(vault)


async def test_what_was_purged_goes_at_once_also_where_the_clock_was_put_back(vault: Vault, laptop: Device):
    await chatty(laptop, 100)
    gone = laptop.session(SECRET)
    await laptop.sync()
    vault.clock_ms += 100 * GRACE_MS
    await laptop.engine.tend()
    vault.clock_ms -= 100 * GRACE_MS
    purge_session(laptop.store, gone)
    await laptop.sync()
    assert SECRET.encode() not in said(vault)
