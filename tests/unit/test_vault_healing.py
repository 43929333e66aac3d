"""What a remote lost is published again, by one device, once, and nothing that anybody wrote is missing after it."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from steno.storage.change import StandsFor
from steno.storage.errors import RemoteRefused, RemoteUnreachable, StenoError
from steno.storage.purge import purge_session
from steno.sync.vault import healing
from steno.sync.vault.healing import WAIT_MS, Healer
from steno.sync.vault.names import VAULT, SegmentName
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.vault import vault_json
from steno.tests.simulation.test_stores_converge import state
from steno.tests.unit.test_vault_rewriting import said
from steno.tests.unit.vaults import Device, Vault, vault_in_memory

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "12"))


def lose(vault: Vault, *names: str) -> None:
    for name in names or vault.log():
        del vault.remote.objects[name]


def of(device: Device) -> list[str]:
    found = [(name, SegmentName.parse(name)) for name in device.vault.log()]
    return [name for name, parsed in found if parsed is not None and parsed.device == device.store.device]


async def healed(vault: Vault, *devices: Device) -> None:
    """Let every device look several times while the wait goes by."""
    for _ in range(6):
        vault.clock_ms += WAIT_MS // 2
        for device in devices:
            await device.sync()


async def orphaned(vault: Vault, laptop: Device, desktop: Device) -> None:
    """Let the remote lose what the laptop published, after the desktop has read it."""
    await laptop.sync()
    await desktop.sync()
    lose(vault, *of(laptop))


async def handed_on(vault: Vault, laptop: Device, desktop: Device) -> None:
    """Let the desktop publish what the remote lost of the laptop."""
    await orphaned(vault, laptop, desktop)
    await healed(vault, desktop)


async def newcomer(vault: Vault) -> Device:
    """A device that reads the remote for the first time, and lacks nothing."""
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == [], vault.folder
    return fresh


async def goes_on(device: Device, session: str) -> None:
    """Add enough messages, each sent for itself, that segments are to be written again."""
    for at in range(20):
        device.add(session, f"{at}")
        await device.sync()


@pytest.mark.fault(8, 11)
async def test_what_the_remote_lost_is_there_again(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one", "two", title="T", tags=["a"], metadata={"k": {"l": 1}})
    laptop.store.edit_message(session, next(iter(laptop.store.messages(session))).id, {"content": "1"})
    await laptop.sync()
    await desktop.sync()
    lose(vault)
    await healed(vault, laptop, desktop)
    fresh = await newcomer(vault)
    assert state(fresh.store) == state(laptop.store) == state(desktop.store)


@pytest.mark.fault(11, 33)
async def test_what_is_gone_for_a_moment_only_is_not_published_again(vault: Vault, laptop: Device):
    laptop.session("one")
    await laptop.sync()
    [name] = vault.log()
    kept = vault.remote.objects.pop(name)
    laptop.restart()
    report = await laptop.sync()
    assert len(report.problems) == 1
    vault.remote.objects[name] = kept
    vault.clock_ms += 3 * WAIT_MS
    report = await laptop.sync()
    assert (report.problems, vault.log()) == ([], [name])


@pytest.mark.fault(11)
async def test_one_device_heals_for_all(vault: Vault, laptop: Device, desktop: Device):
    devices = [laptop, desktop, *(vault.device(name) for name in "abc")]
    laptop.session("one")
    for device in devices:
        await device.sync()
    lose(vault)
    for _ in range(30):
        vault.clock_ms += WAIT_MS // 10
        for device in devices:
            await device.sync()
    assert len({name.split(".")[0] for name in vault.log()}) == 1
    assert [(await device.sync()).problems for device in devices] == [[]] * 5


@pytest.mark.fault(8)
async def test_the_log_of_a_device_that_never_comes_back_is_healed_by_another(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await handed_on(vault, laptop, desktop)
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


async def test_a_hole_in_a_log_is_filled_by_what_stands_for_it(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    for each in ("two", "three"):
        laptop.add(session, each)
        await laptop.sync()
    await desktop.sync()
    lose(vault, of(laptop)[1])
    fresh = vault.device("fresh")
    assert len((await fresh.sync()).problems) == 1
    await healed(vault, desktop)
    report = await fresh.sync()
    assert report.problems == []
    assert fresh.contents(session) == ["one", "two", "three"]


async def test_a_hole_before_what_stands_for_others_is_named_at_once(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    [first] = of(laptop)
    laptop.add(session, "two")
    await laptop.sync()
    lose(vault, first)
    await desktop.sync()
    lose(vault, *of(laptop))
    await healed(vault, desktop)
    report = await vault.device("fresh").sync()
    assert [each for each in report.problems if "publications 1-1 of" in each], report.problems


async def test_what_stands_for_others_is_healed_in_its_turn(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await handed_on(vault, laptop, desktop)
    third = vault.device("third")
    await third.sync()
    lose(vault, *of(desktop))
    await healed(vault, third)
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


async def test_of_what_was_published_again_for_another_a_part_is_healed_as_well(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await laptop.sync()
    desktop.session("of the desktop")
    await desktop.sync()
    lose(vault, *of(laptop))
    await healed(vault, desktop)
    lose(vault, *of(desktop)[:-1])  # the last one says what all of them stand for
    await healed(vault, desktop)
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


async def test_a_log_that_another_device_healed_is_written_again_without_what_is_gone(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await handed_on(vault, laptop, desktop)
    await goes_on(laptop, session)
    assert (await laptop.engine.tend()).problems == []
    vault.clock_ms += GRACE_MS + 1
    assert (await laptop.engine.tend()).problems == []
    assert len(of(laptop)) < 10


async def test_what_stands_for_others_still_does_when_it_is_written_again(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await handed_on(vault, laptop, desktop)
    await goes_on(desktop, session)
    await desktop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await desktop.engine.tend()
    assert (await laptop.sync()).problems == []
    fresh = await newcomer(vault)
    assert state(fresh.store) == state(desktop.store)


async def test_what_was_purged_does_not_come_back_by_healing(vault: Vault, laptop: Device, desktop: Device):
    gone, kept = laptop.session("gone"), laptop.session("kept")
    await laptop.sync()
    await desktop.sync()
    purge_session(laptop.store, gone)
    await laptop.sync()
    await desktop.sync()
    lose(vault)
    await healed(vault, desktop)
    fresh = await newcomer(vault)
    assert fresh.store.find(gone) is None
    assert fresh.contents(kept) == ["kept"]


async def test_what_a_device_published_under_a_former_id_is_healed_with_its_log(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("written under the former id")
    with laptop.store.transaction():
        laptop.store.set_meta("formerly", laptop.store.device)
        laptop.store.set_meta("device", "n" * 12)
    laptop.store.device = "n" * 12
    await laptop.sync()
    await desktop.sync()
    lose(vault)
    await healed(vault, desktop)
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["written under the former id"]


async def test_random_losses_are_healed_and_devices_end_equal(tmp_path: Path):
    for seed in range(SCHEDULES):
        with vault_in_memory(tmp_path / str(seed)) as vault:
            await _healed_of_losses(vault, random.Random(seed))


async def _healed_of_losses(vault: Vault, rng: random.Random) -> None:
    devices = [vault.device(name) for name in "abc"]
    for _ in range(60):
        device = rng.choice(devices)
        sessions = [each.id for each in device.store.sessions()]
        if not sessions or rng.random() < 0.1:
            device.session(f"first {rng.random()}")
        elif rng.random() < 0.4:
            device.add(rng.choice(sessions), f"more {rng.random()}")
        elif rng.random() < 0.1:
            lose(vault, *rng.sample(vault.log(), min(len(vault.log()), 2)))
        vault.clock_ms += rng.choice([1, WAIT_MS // 4, WAIT_MS])
        await (device.engine.tend if rng.random() < 0.2 else device.sync)()
    await healed(vault, *devices)
    await healed(vault, *devices)
    fresh = await newcomer(vault)
    assert [state(device.store) for device in devices] == [state(fresh.store)] * 3, vault.folder


# Repairing at once


@pytest.mark.fault(8)
async def test_a_repair_publishes_what_is_gone_without_waiting(vault: Vault, laptop: Device):
    session = laptop.session("one")
    await laptop.sync()
    lose(vault)
    laptop.restart()
    report = await laptop.engine.repair()
    assert (report.healed_segments, report.problems) == (1, [])
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


@pytest.mark.fault(12)
async def test_a_repair_puts_back_a_vault_that_was_emptied(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    vault.remote.objects.clear()
    report = await laptop.engine.repair()
    assert "vault.json was gone or damaged, and was put back" in report.notes
    assert vault.remote.objects[VAULT] == vault_json(vault.id)
    assert (await desktop.sync()).problems == []
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


@pytest.mark.fault(4, 7)
async def test_a_repair_replaces_an_object_of_ours_that_does_not_open(vault: Vault, laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    [name] = vault.log()
    vault.remote.objects[name] = vault.remote.objects[name][:-1] + b"?"
    assert (await laptop.engine.inspect()).damaged.keys() == {name}
    report = await laptop.engine.repair()
    assert (report.problems, name in vault.log()) == ([], False)
    assert (await laptop.engine.inspect()).damaged == {}
    assert (await desktop.sync()).problems == []
    assert desktop.contents(session) == ["one"]


async def test_an_object_that_does_not_open_goes_by_the_repair_of_its_owner_although_another_device_healed_it(
    vault: Vault, laptop: Device, desktop: Device
):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    [name] = vault.log()
    vault.remote.objects[name] = vault.remote.objects[name][:-1] + b"?"
    await desktop.engine.repair()
    assert name in vault.log()
    await laptop.engine.repair()
    assert name not in vault.log()
    await newcomer(vault)


async def test_what_does_not_open_goes_when_its_device_is_retired_once_another_one_healed_it(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    [name] = of(laptop)
    vault.remote.objects[name] = b"it does not open"
    await desktop.engine.repair()
    await desktop.engine.retire(laptop.store.device)
    assert of(laptop) == []
    report = await desktop.sync()
    assert report.complete
    third = await newcomer(vault)
    assert third.contents(session) == ["one"]


async def test_a_repair_of_a_sound_remote_writes_nothing(vault: Vault, laptop: Device):
    laptop.session("one")
    await laptop.sync()
    before = dict(vault.remote.objects)
    await laptop.engine.repair()
    assert vault.remote.objects == before


async def test_a_repair_leaves_what_it_cannot_vouch_for(vault: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    [name] = vault.log()
    vault.remote.objects[name] = vault.remote.objects[name][:-1] + b"?"
    report = await desktop.engine.repair()
    assert len(report.problems) == 1
    assert vault.log() == [name]


# What lies between two steps of a healing


async def test_what_a_healer_published_of_others_is_healed_with_its_own_log(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    await handed_on(vault, laptop, desktop)
    content, *_, claim = of(desktop)
    assert content != claim
    lose(vault, content)
    await healed(vault, desktop)
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


class Between(Healer):
    """Something happens after the healer has read a part, and before it publishes it."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    async def _publish(self, content: bytes, stands_for: StandsFor, **more: Any) -> None:
        self.happens()
        await super()._publish(content, stands_for, **more)


async def test_what_is_purged_while_it_is_healed_does_not_stay_on_the_remote(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("the word that must go")
    await orphaned(vault, laptop, desktop)

    def purged() -> None:
        if desktop.store.find(session) is not None:
            purge_session(desktop.store, session)

    desktop.engine._healer.__class__ = Between
    desktop.engine._healer.happens = purged  # pyright: ignore[reportAttributeAccessIssue]
    await healed(vault, desktop)
    assert desktop.store.find(session) is None
    assert b"the word that must go" not in said(vault)


async def test_a_session_that_is_purged_between_two_parts_does_not_stop_the_healing(
    vault: Vault, laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch
):
    sessions = [laptop.session(f"{at}" * 10) for at in range(6)]
    await orphaned(vault, laptop, desktop)

    def purged() -> None:
        if desktop.store.find(sessions[4]) is not None:
            purge_session(desktop.store, sessions[4])

    monkeypatch.setattr(healing, "SEGMENT_BYTES", 5)
    desktop.engine._healer.__class__ = Between
    desktop.engine._healer.happens = purged  # pyright: ignore[reportAttributeAccessIssue]
    await healed(vault, desktop)
    fresh = await newcomer(vault)
    assert state(fresh.store) == state(desktop.store)


async def test_a_healing_that_is_cut_short_again_and_again_ends(
    vault: Vault, laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch
):
    for at in range(6):
        laptop.session(f"{at}" * 10)
    await orphaned(vault, laptop, desktop)
    puts = itertools.count(1)

    def fails(verb: str, _: str) -> StenoError | None:
        fourth = verb == "put" and next(puts) % 4 == 0
        return RemoteUnreachable(remote="memory", reason="timed out") if fourth else None

    monkeypatch.setattr(healing, "SEGMENT_BYTES", 5)
    desktop.remote.fails = fails
    for _ in range(40):
        vault.clock_ms += WAIT_MS // 10
        with suppress(RemoteUnreachable):
            await desktop.sync()
    assert len(of(desktop)) < 20  # thirteen, and a part again for some of the cuts
    fresh = await newcomer(vault)
    assert state(fresh.store) == state(desktop.store)


@pytest.mark.fault(30)
async def test_a_healing_that_a_full_remote_refuses_waits_and_fills_no_disk(
    vault: Vault, laptop: Device, desktop: Device
):
    session = laptop.session("one")
    for device in (laptop, desktop, laptop):
        await device.sync()
    lose(vault, *of(laptop))
    full = RemoteRefused(remote="memory", reason="full")
    desktop.remote.fails = lambda verb, _: full if verb == "put" else None
    for _ in range(6):
        vault.clock_ms += WAIT_MS
        with suppress(RemoteRefused):
            await desktop.sync()
    laptop.add(session, "two")
    await laptop.sync()
    report = await desktop.engine.pull()
    assert desktop.contents(session) == ["one", "two"], "it is read on"
    assert report.pending_segments == 1
    desktop.remote.fails = lambda *_: None
    await healed(vault, desktop)
    assert len(of(desktop)) == 2
    await newcomer(vault)


async def test_nothing_is_healed_while_something_under_our_id_is_not_taken_in(
    vault: Vault, laptop: Device, desktop: Device
):
    laptop.session("one")
    desktop.session("two")
    await laptop.sync()
    await desktop.sync()
    await laptop.sync()
    strange = SegmentName(laptop.store.device, 2, 2, 0, "z" * 12).path
    vault.remote.objects[strange] = b"it does not open"
    lose(vault, *of(desktop))
    before = of(laptop)
    await healed(vault, laptop)
    assert of(laptop) == before


async def test_a_deletion_swallows_nothing_that_a_healing_has_not_brought_yet(
    vault: Vault, laptop: Device, desktop: Device
):
    third = vault.device("third")
    session = laptop.session("one")
    await laptop.sync()
    [first] = of(laptop)
    laptop.add(session, "two")
    await laptop.sync()
    await desktop.sync()
    lose(vault, first)
    await healed(vault, desktop)
    late = of(desktop)[0]
    content = vault.remote.objects.pop(late)
    await third.sync()
    assert third.contents(session) == ["two"]
    third.store.delete(session)
    await third.sync()
    vault.remote.objects[late] = content
    for device in (third, laptop):
        await device.sync()
        assert device.contents(session) == ["one"]


async def test_a_deletion_in_a_pull_that_was_cut_short_swallows_nothing_that_a_healing_has_not_brought_yet(
    vault: Vault, laptop: Device, desktop: Device
):
    third = vault.device("third")
    session = laptop.session("one")
    await laptop.sync()
    laptop.add(session, "two")
    await laptop.sync()
    lost = of(laptop)
    for each in ("three", "four"):
        laptop.add(session, each)
        await laptop.sync()
    await desktop.sync()
    lose(vault, *lost)
    await healed(vault, desktop)
    late, last = of(desktop)[0], of(laptop)[-1]
    content = vault.remote.objects.pop(late)
    third.remote.fails = lambda _, name: RemoteUnreachable(remote="r", reason="gone") if name == last else None
    with pytest.raises(RemoteUnreachable):
        await third.sync()
    third.remote.fails = lambda *_: None
    assert third.contents(session) == ["three"]
    third.store.delete(session)
    vault.remote.objects[late] = content
    for device in (third, laptop):
        await device.sync()
        assert device.contents(session) == ["one", "two", "four"]


@pytest.mark.fault(8, 11)
async def test_what_says_what_it_stands_for_is_left_to_whoever_has_that(vault: Vault, laptop: Device, desktop: Device):
    laptop.session("one")
    for _ in range(2):  # the second time it sees its own
        await laptop.sync()
    lose(vault)
    await healed(vault, laptop)
    content, claim = of(laptop)
    lose(vault, content)
    await desktop.sync()  # it hears that something stands for the first, and never what that said
    lose(vault, claim)
    await healed(vault, desktop)
    assert vault.log() == []
    await healed(vault, laptop, desktop)
    fresh = vault.device("fresh")
    assert (await fresh.sync()).complete
    assert state(fresh.store) == state(laptop.store) == state(desktop.store)


async def test_nobody_stands_for_what_a_healing_has_not_brought_it(vault: Vault, laptop: Device, desktop: Device):
    third, fourth = vault.device("third"), vault.device("fourth")
    session = laptop.session("one")
    await laptop.sync()
    for device in (desktop, fourth):
        await device.sync()
    lose(vault, *of(laptop))
    await healed(vault, desktop)
    content, claim = of(desktop)
    lose(vault, content)
    await third.sync()
    lose(vault, claim)
    await healed(vault, third)
    await healed(vault, fourth)
    fresh = await newcomer(vault)
    assert fresh.contents(session) == ["one"]


async def something(
    vault: Vault, device: Device, word: str, rng: random.Random,
    copies: list[dict[str, bytes]], words: dict[str, str], gone: set[str],
) -> None:  # fmt: skip
    """One thing that happens: somebody writes or purges, a device looks, the remote is put back or loses an object."""
    chance = rng.random()
    sessions = list(device.everything())
    if not sessions or chance < 0.3:
        words[device.session(word)] = word
    elif chance < 0.5:
        device.add(rng.choice(sessions), f"more, not {len(word)}")
    elif chance < 0.55:
        session = rng.choice(sessions)
        purge_session(device.store, session)
        gone.add(session)
    elif chance < 0.75:
        await device.sync()
    elif chance < 0.82:
        await device.engine.tend()
    elif chance < 0.86:
        vault.clock_ms += GRACE_MS + 1
    elif chance < 0.9 or not copies:
        copies.append(dict(vault.remote.objects))
    elif chance < 0.95:
        vault.remote.objects.clear()
        vault.remote.objects.update(rng.choice(copies))
    elif vault.log():
        lose(vault, rng.choice(vault.log()))


async def test_a_remote_that_is_put_back_again_and_again_ends_with_equal_devices_and_nothing_that_was_purged(
    tmp_path: Path,
):
    for seed in range(max(SCHEDULES // 3, 1)):
        with vault_in_memory(tmp_path / str(seed)) as vault:
            await _put_back_again_and_again(vault, random.Random(seed))


async def _put_back_again_and_again(vault: Vault, rng: random.Random) -> None:
    devices = [vault.device(name) for name in "abc"]
    copies: list[dict[str, bytes]] = []
    words: dict[str, str] = {}
    gone: set[str] = set()
    for at in range(90):
        await something(vault, rng.choice(devices), f"secret {vault.folder.name} {at}.", rng, copies, words, gone)
    for _ in range(14):
        vault.clock_ms += WAIT_MS
        for device in devices:
            await device.sync()
            await device.engine.tend()
    fresh = vault.device("fresh")
    reports = [await device.sync() for device in (*devices, fresh)]
    assert [report.problems for report in reports] == [[]] * 4, vault.folder
    assert [state(device.store) for device in devices] == [state(fresh.store)] * 3, vault.folder
    kept = str(fresh.everything())  # what was written by hand meanwhile outlives a purge
    left = [word for session, word in words.items() if session in gone and word.encode() in said(vault)]
    assert [word for word in left if word not in kept] == [], vault.folder
