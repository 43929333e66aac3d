"""What must be true of every schedule: while it runs, of what a device says; when all came to rest, of all there is.

Nothing acknowledged is lost, equal knowledge is equal state, nobody is told "done" when something is missing, what was
purged is gone, and nothing costs more requests than it may.
"""

from __future__ import annotations

import itertools
from typing import Any

from steno.storage.identity import is_written_since
from steno.storage.model import NewMessage
from steno.sync.vault import compaction
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.names import LOG, SegmentName
from steno.sync.vault.ranges import Ranges
from steno.sync.vault.report import SyncReport
from steno.sync.vault.revoked import set_aside
from steno.tests.simulation.deeds import MARK, Place, here
from steno.tests.simulation.test_stores_converge import state
from steno.tests.simulation.vault_hands import check_files, take_up
from steno.tests.simulation.vault_world import NATIVE, VAULT_ID, Device, World, join_again, keys_again

ROUNDS = 14
REST_MS, LONG_MS = 3 * 3_600_000, 20 * 86_400_000


def check_told(device: Device, report: SyncReport, part: str) -> None:
    """Whoever says that all is done has all that it saw, misses nothing that it had, and has told what it wrote."""
    if not report.complete or device.way.listed is None:
        return
    store, ledger = device.store, device.engine._ledger
    listed = {name.path: name for name in map(SegmentName.parse, device.way.listed) if name is not None}
    cursor = ledger.cursor()
    # What came while it worked is for the next time.
    for name in filter(None, map(SegmentName.parse, device.way.listed_first)):
        assert cursor.covers(name.device, name.first, name.last), f"{device.name} is told done and has not {name.path}"
    for other, ranges in cursor:
        assert ranges.holes == [], f"{device.name} is told done and lacks {ranges.holes} of {other}"
    covered = device.world.covered_by(listed)
    put = [SegmentName.parse(name) for name in device.way.put_names]
    for name in put:
        if name is not None:
            covered[name.device] = covered.get(name.device, Ranges()).add(name.first, name.last)
            for other, ranges in device.world.stands_for[name.path].items():
                covered[other] = covered.get(other, Ranges()) | ranges
    for other, ranges in cursor:
        missing = [gap for span in ranges.spans for gap in covered.get(other, Ranges()).missing(*span)]
        assert not missing, f"{device.name} is told done and the remote lacks {missing} of {other}"
    if part == "sync":
        position = device.engine._log.position
        assert not is_written_since(store, *position), f"{device.name} is told done and has not sent all"


async def check_end(world: World) -> None:
    """Let everybody hear of everything, and look."""
    await _come_to_rest(world)
    devices = world.live
    for device in devices:
        if device.shows is not None:
            take_up(device)
            assert not is_written_since(device.store, *device.engine._log.position), "files write to a store at rest"
            check_files(device)
    states = [state(device.store) for device in devices]
    assert all(each == states[0] for each in states), "devices differ"
    _check_writes(world, devices[0])
    _check_objects(world)
    for device in devices:
        for table in ("waiting", "gaps", "outbox"):
            assert device.store.one(f"SELECT count(*) FROM {table}")[0] == 0, f"{device.name} has a rest in {table}"
    fresh = world.join()
    if not world.newer.isdisjoint(world.objects.whole):
        report = await fresh.sync()
        assert report is not None, "a fresh device of an earlier version cannot sync"
        assert not report.complete, "a fresh device of an earlier version is told done"
    fresh.becomes(world.newest_version)
    report = await fresh.sync()
    has_strays = world.is_revoked and world.is_copied and report is not None and not report.complete
    if has_strays:
        _remove_strays(world, [fresh])
        report = await fresh.sync()
    assert report is not None, "a fresh device cannot sync"
    assert report.complete, f"a fresh device is not complete: {report.problems}"
    check_told(fresh, report, "sync")
    assert state(fresh.store) == states[0], "a fresh device differs"
    if len(world.deeds.acts) % 4 == 0 and not has_strays:  # the same everywhere, and not for nothing
        await _check_requests(devices[0], fresh)


async def _come_to_rest(world: World) -> None:
    world.faulty = False
    world.objects.settle()
    world.now_ms += LONG_MS
    for device in world.live:
        _calm(world, device)
    if world.are_keys_lost:
        await keys_again(world)
    for device in world.live if world.is_revoked else []:
        join_again(device)
    if world.is_damaged or world.is_emptied:
        for device in world.live:
            await device.sync("repair")
    if world.is_damaged:
        for dead in world.retired:
            await world.live[0].run(lambda engine, dead=dead: engine.retire(dead))
        await _retire_what_nobody_is(world)
    reports: list[SyncReport | None] = []
    for number in range(ROUNDS):
        before = set(world.objects.whole)
        reports = []
        for device in world.live:
            report = await device.sync()
            if report is not None:
                check_told(device, report, "sync")
            reports += [report, await device.sync("tend")]
        if before == set(world.objects.whole) and all(each is not None and each.complete for each in reports):
            return
        world.now_ms += REST_MS
        if number == ROUNDS // 2 and world.is_revoked and world.is_copied:
            _remove_strays(world, world.live)
    problems = [each and each.problems for each in reports]
    raise AssertionError(f"they do not come to rest: {problems}")


def _remove_strays(world: World, devices: list[Device]) -> None:
    """Take away what nobody seals anew that came under a revoked key: a person must.

    A copy of a home sent it under an id that it has no more, or a home that was put back and has forgotten it.
    """
    for device in devices:
        for name in set_aside(device.engine._ledger):
            sealed = world.objects.whole.pop(name.path, None)
            world.strays += b"" if sealed is None else world.opened(name.path, sealed)


def _calm(world: World, device: Device) -> None:
    device.calm()
    device.skew_ms = min(max(device.skew_ms, -50), 50)
    device.becomes(world.newest_version)
    device.buffer = None
    if device.shows is not None:
        take_up(device)


async def _retire_what_nobody_is(world: World) -> None:
    """Under an id that copies gave up nobody puts right what does not open: a person retires it, on whom it lets."""
    ledgers = [Ledger(device.store, VAULT_ID) for device in world.live]
    aside = {name for ledger in ledgers for each in ledger.problems() if (name := SegmentName.parse(each.name))}
    former = {each for device in world.live for each in device.store.former_devices}
    held = {device.store.device for device in world.live}
    for device in sorted({name.device for name in aside} & former - held):
        for live in world.live:
            if await live.run(lambda engine, device=device: engine.retire(device)) is not None:
                break


def _check_writes(world: World, device: Device) -> None:
    store, deeds = device.store, world.deeds
    known = deeds.acts.keys() - (world.lost - world.sent)
    lost = {each for each in deeds.lost(store, known) if each[1] not in NATIVE}
    # Of a session that somebody purges unknowingly the writer keeps the messages that nobody deleted, if there still is
    # that writer, and if it was not the one who purged when it had forgotten them.
    purged = {session for _, session in world.purged}
    kept = {message for _, message in here(store)}
    writers = {one for each in world.live for one in (each.store.device, *each.store.former_devices)}
    forgotten = {session for _, session in world.undone & world.purged}

    def is_rescued(each: Place) -> bool:
        is_left = each not in deeds.gone and each[0] not in forgotten
        return is_left and deeds.authors[each] in writers

    lost = {each for each in lost if each[0] not in purged or (each[1] not in kept and is_rescued(each))}
    lost = {each for each in lost if each[1].encode() not in world.strays}
    assert not lost, f"messages are lost: {lost}"
    if not (world.is_copied and world.is_blind):
        hidden = {each for each in deeds.swallowed(store) if each[1] not in NATIVE}
        assert not hidden, f"a deletion swallowed what its writer had not seen: {hidden}"
    gone = {text for text in deeds.forgotten(store, known) if text.encode() not in world.strays}
    assert not gone, f"{sorted(gone)} is gone, and nobody replaced it knowingly"


def _check_objects(world: World) -> None:
    """Logs tile, few objects stand, and none of them holds what was purged."""
    names = [name for name in map(SegmentName.parse, world.objects.whole) if name is not None]
    for device, ranges in world.covered_by(world.objects.whole).items():
        assert ranges.holes == [], f"the log of {device} does not tile: {ranges.holes}"
    for device in {name.device for name in names}:
        own = sorted((name for name in names if name.device == device), key=lambda name: (name.first, name.last))
        breaks = sum(later.first != name.last + 1 for name, later in itertools.pairwise(own))
        assert len(own) <= compaction.MOST + 8 + breaks, f"{len(own)} objects of {device}"
    purged = {place for each in world.deeds.acts.values() for place in each.purged}
    contents = b"".join(world.opened(name, data) for name, data in world.objects.whole.items() if name.startswith(LOG))
    kept = {message for device in world.live for _, message in here(device.store)}
    for action, each in world.deeds.acts.items():
        if each.written and each.written <= purged and not {message for _, message in each.written} & kept:
            assert f"<{action}> {MARK} said".encode() not in contents, f"what was purged still lies there: {action}"


async def _check_requests(device: Device, other: Device) -> None:
    """Looking costs one LIST, an append one PUT, and reading it a LIST and a GET."""

    async def asked(who: Device, part: str) -> dict[str, Any]:
        who.way.requests.clear()
        await who.sync(part)
        return dict(who.way.requests)

    await device.sync()
    assert await asked(device, "pull") == {"list": 1}, "looking costs more than one LIST"
    device.store.create(id="at the end")
    await device.sync()
    await other.sync()
    device.store.append("at the end", NewMessage(role="user", content=MARK))
    assert await asked(device, "push") == {"put": 1}, "an append costs more than one PUT"
    assert await asked(other, "pull") == {"list": 1, "get": 1}, "reading an append costs more than a LIST and a GET"
    assert [each.content for each in other.store.messages("at the end")] == [MARK], "an append does not arrive"
