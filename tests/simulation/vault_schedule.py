"""What may happen to devices and their remote, in what order.

A step is a name with numbers and words, read as the state needs them (the third object means one of those that are
there), so any part of a schedule is a schedule. One seed gives one schedule, whatever else runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import random
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.storage.apply import slices
from steno.storage.change import VERSION
from steno.storage.edit import Edit
from steno.storage.forks import fork
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.purge import purge_deleted, purge_history, purge_message, purge_session
from steno.storage.registers import text_of
from steno.storage.rows import HIDDEN_FOR_EVER
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.sync.files import exchange
from steno.sync.vault import compaction, healing, intake, rewriting, rotation, sending
from steno.sync.vault.compaction import is_crowded
from steno.sync.vault.names import LOG, VAULT
from steno.sync.vault.vault import vault_json
from steno.tests.simulation import vault_world
from steno.tests.simulation.deeds import MARK, Field, edit_text
from steno.tests.simulation.vault_check import check_end, check_told
from steno.tests.simulation.vault_hands import SAVES, open_file, save, take_up
from steno.tests.simulation.vault_world import (
    NAMES,
    NATIVE,
    OUTAGES,
    REFUSALS,
    START_MS,
    Copy,
    Device,
    Objects,
    World,
    flipped,
    join_again,
    new_key,
    new_passphrase,
    passed,
    shut_out,
)

SESSIONS = ["one", "two"]
DAY_MS = 86_400_000
WAITS_MS = [1, 20, 6_000, 400_000, 3_700_000, 7_500_000, DAY_MS]
SKEWS_MS = [0, -50, 50, 9 * DAY_MS, -DAY_MS, -START_MS + 1000]
"""The last one is 1970."""
SEGMENT_BYTES = [1 << 22, 200, 1000]
ORDERS = [0, 1, 2, 3, 4]
ROWS, FAN_INS, GROWTHS, MOSTS = [2000, 1, 3], [8, 2, 3], [4, 1], [32, 3, 6]
FAULTS = ["unheard", "tear", "flip", "short", "twice", *REFUSALS, *OUTAGES]
WRITES = {
    "append": 8, "append behind": 1, "edit": 4, "message metadata": 1, "delete message": 2, "title": 2, "metadata": 1,
    "state": 1, "tags": 1, "status": 1, "delete": 1, "clear": 0.5, "restore": 1, "fork": 0.7, "capture": 1,
    "purge session": 0.5, "purge message": 0.7, "purge history": 0.3, "purge message history": 0.2,
    "purge deleted": 0.2, "later": 1,
}  # fmt: skip


SELDOM = 0.05
"""How many schedules meet another vault at the address."""
LATER = VERSION + 1


class Step(NamedTuple):
    """What happens, to which device, and how: numbers and words that `play` reads."""

    what: str
    device: int
    how: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"Step({self.what!r}, {self.device!r}, {self.how!r})"


# Drawing

Draw = Callable[[random.Random], tuple[Any, ...]]


def _number(rng: random.Random) -> tuple[Any, ...]:
    return (rng.randrange(16),)


def _save(rng: random.Random) -> tuple[Any, ...]:
    return _one(rng, SAVES), rng.randrange(8), rng.randrange(4), rng.random() < 0.6


_ALWAYS: dict[str, tuple[float, Draw]] = {
    "write": (14, lambda rng: (_one(rng, WRITES), rng.randrange(4), rng.randrange(8), rng.randrange(4))),
    "sync": (8, lambda _: ()),
    "tend": (1.5, lambda _: ()),
    "together": (1.5, lambda rng: tuple(sorted(rng.sample(range(6), 2)))),
    "wait": (3, lambda rng: (rng.randrange(len(WAITS_MS)),)),
    "repair": (0.3, lambda _: ()),
}
_KINDS: dict[str, dict[str, tuple[float, Draw]]] = {
    "blind": {"push": (2, lambda _: ()), "pull": (2, lambda _: ())},
    "requests": {
        "fault": (4, lambda rng: (rng.randrange(8), rng.choice(FAULTS))),
        "outage": (1, lambda rng: (rng.randrange(1, 12),)),
        "hide": (2, lambda rng: (rng.randrange(16), rng.randrange(1, 6))),
    },
    "crashes": {"crash": (4, lambda rng: (rng.randrange(1, 24),)), "restart": (1, lambda _: ())},
    "clocks": {"clock": (2, lambda rng: (rng.randrange(len(SKEWS_MS)),))},
    "keys": {"rotate": (1.5, lambda _: ()), "passphrase": (1, _number)},
    "versions": {"upgrade": (2, lambda _: ()), "downgrade": (1, lambda _: ()), "demand": (0.7, lambda _: ())},
    "retiring": {"retire": (1.5, lambda rng: (rng.randrange(6), rng.random() < 0.7))},
    "losses": {
        "lose": (2, _number),
        "snapshot": (1, lambda _: ()),
        "roll back": (1, _number),
        "empty": (0.3, lambda _: ()),
    },
    "damage": {"damage": (2, _number), "swap": (1, lambda rng: (rng.randrange(16), rng.randrange(16)))},
    "folders": {"replicate": (1, lambda _: ()), "carry": (8, _number)},
    "hands": {
        "open": (2, _number),
        "save": (6, _save),
    },
    "revoking": {"revoke": (1.5, lambda _: ()), "join again": (3, lambda _: ())},
    "copies": {
        "clone": (1, lambda _: ()),
        "keep a copy": (1, lambda _: ()),
        "put back": (1.5, _number),
    },
}


def schedule(seed: int) -> list[Step]:
    """The steps of a seed. Each schedule knows some kinds of trouble only, and likes some steps more than others."""
    rng = random.Random(seed)
    troubles = rng.sample(sorted(_KINDS), rng.choice([1, 2, 2, 3, 4]))
    kinds = {**_ALWAYS, **{name: kind for each in troubles for name, kind in _KINDS[each].items()}}
    likes = {name: rng.choice([0.3, 1, 1, 3]) * weight for name, (weight, _) in kinds.items()}
    likes |= {name: 3 for name in _CHAINS if name in troubles}
    names, weights = [*likes], [*likes.values()]
    count = rng.choice([2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 5, 6])
    settings = tuple(rng.randrange(len(each)) for each in (SEGMENT_BYTES, ROWS, FAN_INS, GROWTHS, MOSTS, ORDERS))
    drawn = [Step("settings", 0, settings)]
    size = rng.randint(5, 22)
    while len(drawn) <= size:
        [name] = rng.choices(names, weights)
        device = rng.randrange(count)
        drawn += _CHAINS[name](rng, device) if name in _CHAINS else [Step(name, device, kinds[name][1](rng))]
    seldom = random.Random(f"{seed} seldom")  # apart, so that no other schedule is another one for it
    if seldom.random() < SELDOM:
        drawn.insert(seldom.randint(1, len(drawn)), Step("another vault", 0, ()))
    return drawn


def _write_step(rng: random.Random, device: int, *kinds: str, session: int = 0) -> Step:
    return Step("write", device, (rng.choice(kinds), session, rng.randrange(8), rng.randrange(4)))


def _killed_over_news(rng: random.Random, device: int) -> list[Step]:
    """A process dies while it takes in what another wrote."""
    other = (device + 1) % 2
    written = [_write_step(rng, other, "append", "edit", "title") for _ in range(3)]
    return [*written, Step("sync", other, ()), Step("crash", device, (rng.randrange(6, 10),)), Step("sync", device, ())]


def _purged_while_it_waits(rng: random.Random, device: int) -> list[Step]:
    """What waits to be sent is purged, and the own log is tended before it is sent."""
    return [
        _write_step(rng, device, "append"),
        Step("fault", device, (rng.randrange(1, 3), rng.choice(["tear", *REFUSALS, *OUTAGES]))),
        Step("sync", device, ()),
        _write_step(rng, device, "purge message", "purge session"),
        Step("tend", device, ()),
        Step("sync", device, ()),
    ]


def _deleted_over_a_hole(rng: random.Random, device: int) -> list[Step]:
    """Of two messages the later one is seen first, and what is seen is deleted."""
    other, number = rng.randrange(2), rng.randrange(16)
    return [
        _write_step(rng, other, "append"),
        Step("push", other, ()),
        _write_step(rng, other, "append"),
        Step("push", other, ()),
        Step("hide", device, (number, rng.randrange(1, 4))),
        Step("sync", device, ()),
        _write_step(rng, device, "delete", "clear"),
        Step("push", device, ()),
    ]


def _healed_and_lost_again(rng: random.Random, device: int) -> list[Step]:
    """What was published again is lost as well."""
    other = rng.randrange(2)
    return [
        _write_step(rng, other, "append"),
        Step("sync", other, ()),
        Step("sync", device, ()),
        Step("lose", 0, (rng.randrange(16),)),
        *[Step(what, device, how) for _ in range(2) for what, how in (("sync", ()), ("wait", (5,)))],
        Step("sync", device, ()),
        Step("lose", 0, (rng.randrange(16),)),
        Step("lose", 0, (rng.randrange(16),)),
    ]


def _two_programs(rng: random.Random, device: int) -> list[Step]:
    """A later version wrote a log that an earlier one is to tend, or says that no earlier one may write."""
    other = (device + 1) % 2
    if rng.random() < 0.5:
        demanded = [Step("upgrade", device, ()), Step("demand", device, ()), Step("tend", other, ())]
        return [*demanded, _write_step(rng, other, "append", "title"), Step(rng.choice(["sync", "repair"]), other, ())]
    written = [_write_step(rng, device, "append", "later", "title") for _ in range(rng.randrange(3, 9))]
    logged = [step for each in written for step in (each, Step("sync", device, ()))]
    return [Step("upgrade", device, ()), *logged, Step("downgrade", device, ()), Step("tend", device, ())]


def _saved_over_news(rng: random.Random, device: int) -> list[Step]:
    """Somebody holds a file open while others write to its session, and saves it then."""
    other = (device + 1) % 2
    there = [
        _write_step(rng, other, "append"),
        *[_write_step(rng, other, "append", "edit", "title")] * rng.randrange(2),
    ]
    news = ["append", "append behind", "edit", "title", "delete message", "delete", "clear", "purge message"]
    return [
        *there,
        Step("sync", other, ()),
        Step("sync", device, ()),
        Step("open", device, (0,)),
        *[_write_step(rng, rng.choice([device, other]), *news) for _ in range(rng.randrange(1, 3))],
        Step("sync", other, ()),
        Step("sync", device, ()),
        *[Step("crash", device, (rng.randrange(1, 8),))][: rng.randrange(2)],
        *[Step("save", device, _save(rng)) for _ in range(rng.randrange(1, 3))],
    ]


def _shut_out_unaware(rng: random.Random, device: int) -> list[Step]:
    """Who is shut out goes on writing, hears of it, and joins again."""
    other = (device + 1) % 2
    before = [_write_step(rng, other, "append"), Step("sync", other, ())]
    unaware = [step for _ in range(rng.randrange(1, 3)) for step in (_write_step(rng, other, *WRITES), before[1])]
    told = [Step("sync", device, ()), Step("sync", other, ())]
    return [
        *before,
        Step("revoke", device, ()),
        *unaware,
        *told,
        Step("join again", other, ()),
        Step("sync", other, ()),
    ]


_CHAINS: dict[str, Callable[[random.Random, int], list[Step]]] = {
    "crashes": _killed_over_news,
    "requests": _purged_while_it_waits,
    "blind": _deleted_over_a_hole,
    "losses": _healed_and_lost_again,
    "versions": _two_programs,
    "hands": _saved_over_news,
    "revoking": _shut_out_unaware,
}
"""What seldom comes together by chance, by the kind of trouble that it is."""


def _one(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices([*weights], [*weights.values()])[0]


# Playing


@contextlib.contextmanager
def wired(worlds: Callable[[], World]) -> Generator[pytest.MonkeyPatch]:
    """Let the points of the engine's work be those of the world that is running, and its keys stand in memory."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in sys.modules.items():
            if name.startswith(("steno.sync.vault.", "steno.sync.files.")) and hasattr(module, "step"):
                patch.setattr(module, "step", passed)
        tokens = itertools.count()
        patch.setattr(exchange.secrets, "token_hex", lambda _: f"{next(tokens):012x}")
        vault_world.wire_versions(patch)
        patch.setattr(rotation, "required_membership", vault_world.membership_of)
        patch.setattr(rotation, "change_keys", vault_world.change_keys)
        patch.setattr(rotation, "remote_of", vault_world.remote_of(worlds))
        for name in ("vault", "files"):
            patch.setattr(logging.getLogger(f"steno.{name}"), "disabled", True)
        for module, name in ((sending, "SEGMENT_BYTES"), (intake, "slices"), (healing, "SEGMENT_BYTES")):
            patch.setattr(module, name, getattr(module, name))  # so that it comes back
        for name in ("FAN_IN", "GROWTH", "MOST"):
            patch.setattr(compaction, name, getattr(compaction, name))
        for name in ("MOST", "ROOM", "is_crowded"):
            patch.setattr(rewriting, name, getattr(rewriting, name))
        yield patch


def templates(folder: Path) -> dict[str, Path]:
    """An empty store for each device, made once: copying it is quicker."""
    made = {}
    for name in NAMES:
        made[name] = folder / f"{name}.template"
        Store(made[name], random=lambda length, name=name: name * length).close()
    return made


def play(world: World, steps: list[Step]) -> None:
    """Let steps happen, then come to rest, and look whether all is as it should be."""
    asyncio.run(_played(world, steps))


async def _played(world: World, steps: list[Step]) -> None:
    _settings(world, (0, 0, 0, 0, 0, 0))
    for number in range(2):
        world.device(number)
    for step in steps:
        await _play(world, step)
    await check_end(world)


async def _play(world: World, step: Step) -> None:
    device = world.device(step.device)
    world.now_ms += 7
    if step.what in _OF_THE_REMOTE:
        _OF_THE_REMOTE[step.what](world, device, *step.how)
    elif not device.is_dead:
        happening = _OF_A_DEVICE[step.what](world, device, *step.how)
        if happening is not None:
            await happening


def _settings(world: World, how: tuple[int, ...]) -> None:
    segment, rows, fan_in, growth, most, world.order = how
    sending.SEGMENT_BYTES = healing.SEGMENT_BYTES = SEGMENT_BYTES[segment]
    intake.slices = functools.partial(slices, rows=ROWS[rows])
    compaction.FAN_IN, compaction.GROWTH, compaction.MOST = FAN_INS[fan_in], GROWTHS[growth], MOSTS[most]
    rewriting.MOST, rewriting.ROOM = MOSTS[most], MOSTS[most] // 4
    rewriting.is_crowded = functools.partial(is_crowded, most=MOSTS[most])


async def _sync(world: World, device: Device, part: str) -> None:
    world.is_blind |= part in ("push", "pull")
    # In a task of its own what is running is known by its context.
    report = await asyncio.create_task(device.sync(part))
    if report is not None:
        check_told(device, report, part)
    device.check_taken_in()


async def _retire(world: World, device: Device, number: int, dies: bool) -> None:
    other = world.devices[number % len(world.devices)]
    if other is device or other.is_dead:
        return
    mine = [name for name in {*other.engine._ledger.applied(), *world.objects.whole} if name.startswith(LOG)]
    if dies and all(world.is_held(name, without=other) for name in mine):
        world.objects.carry_all()
        other.is_dead = True
        world.retired.append(other.store.device)
        world.lost |= other.acts - world.sent
        other.store.close()
    retired = other.store.device
    await asyncio.create_task(device.run(lambda engine: engine.retire(retired)))


# What happens to the remote


def _object(world: World, number: int) -> str | None:
    names = sorted(name for name in world.objects.whole if name.startswith(LOG))
    return names[number % len(names)] if names else None


def _lose(world: World, _: Device, number: int) -> None:
    """An object is gone, which somebody has."""
    name = _object(world, number)
    if name is not None and world.is_held(name):
        world.objects.carry_all()
        del world.objects.whole[name]
        world.gone.add(name)


def _roll_back(world: World, _: Device, number: int) -> None:
    if world.snapshots:
        _become(world, world.snapshots[number % len(world.snapshots)])


def _become(world: World, objects: dict[str, bytes]) -> None:
    """Other objects than before, as far as somebody has what is gone."""
    world.objects.carry_all()
    whole = world.objects.whole
    kept = {name: data for name, data in whole.items() if name not in objects and not world.is_held(name)}
    world.gone |= whole.keys() - objects.keys() - kept.keys()
    whole.clear()
    whole |= objects | kept
    world.is_emptied |= VAULT not in whole
    world.are_keys_lost = True


def _empty(world: World, _: Device) -> None:
    _become(world, {})


def _damage(world: World, _: Device, number: int) -> None:
    """A bit of an object is another one from now on."""
    name = _object(world, number)
    if name is not None and world.is_held(name):
        world.objects.carry_all()
        world.objects.whole[name] = flipped(world.objects.whole[name], number * 131)
        world.is_damaged = True
        world.gone.add(name)


def _swap(world: World, _: Device, number: int, other: int) -> None:
    """Two objects change their names."""
    names = [_object(world, number), _object(world, other)]
    first, second = names
    if first is not None and second is not None and all(world.is_held(str(name)) for name in names):
        world.objects.carry_all()
        whole = world.objects.whole
        whole[first], whole[second] = whole[second], whole[first]
        world.gone |= {first, second}
        world.is_damaged = True


async def _another_vault(world: World, _: Device) -> None:
    """Another vault stands at the address when all start anew: nobody takes anything from it, or puts it there."""
    ours, world.objects = world.objects, Objects()
    found = {VAULT: vault_json("othervault00"), "log/zzzzzzzzzzzz.000000000001-000000000001.0.zzzzzzzzzzzz": b"theirs"}
    world.objects.whole |= found
    for device in world.live:
        device.restart()
        for part in ("sync", "push", "tend", "repair"):
            report = await asyncio.create_task(device.sync(part))
            assert report is None, f"{device.name} works with another vault"
    assert world.objects.whole == found, "somebody writes into another vault"
    world.objects = ours


_OF_THE_REMOTE: dict[str, Callable[..., None]] = {
    "settings": lambda world, _, *how: _settings(world, how),
    "lose": _lose,
    "snapshot": lambda world, _: world.snapshots.append(dict(world.objects.whole)),
    "roll back": _roll_back,
    "empty": _empty,
    "damage": _damage,
    "swap": _swap,
    "replicate": lambda world, _: world.objects.replicate(),
    "carry": lambda world, device, number: world.objects.carry(device.name, number),
}


def _wait(world: World, _: Device, number: int) -> None:
    world.now_ms += WAITS_MS[number]


_OF_THE_REMOTE["wait"] = _wait


# What happens to a device


async def _together(world: World, device: Device, *numbers: int) -> None:
    """Several sync at once, each asking between the requests of the others."""
    others = [world.devices[number % len(world.devices)] for number in numbers]
    all_of_them = dict.fromkeys(each for each in [device, *others] if not each.is_dead)
    await asyncio.gather(*(asyncio.create_task(_sync(world, each, "sync")) for each in all_of_them))


def _hide(world: World, device: Device, number: int, times: int) -> None:
    """An object is not seen by a device for a while."""
    name = _object(world, number)
    if name is not None:
        device.hidden[name] = times


def _outage(_: World, device: Device, count: int) -> None:
    device.unheard = count


def _crash(_: World, device: Device, points: int) -> None:
    device.crash_in = points


def _restart(_: World, device: Device) -> None:
    device.restart()


def _clock(_: World, device: Device, number: int) -> None:
    device.skew_ms = SKEWS_MS[number]


async def _demand(world: World, device: Device) -> None:
    """A later version asks everybody for no less."""
    if device.version == LATER:
        device.demands = world.is_demanded = True
        await asyncio.create_task(device.run(lambda engine: engine.peers.exchange()))


def _syncs(part: str) -> Callable[[World, Device], Coroutine[Any, Any, None]]:
    return lambda world, device: _sync(world, device, part)


def _copies(what: str) -> Callable[..., None]:
    return lambda world, device, number=0: _copy(world, device, what, number)


_OF_A_DEVICE: dict[str, Callable[..., Coroutine[Any, Any, None] | None]] = {
    "write": lambda _, device, *how: _write(device, *how),
    **{part: _syncs(part) for part in ("sync", "push", "pull", "tend", "repair")},
    "together": _together,
    "another vault": _another_vault,
    "fault": lambda _, device, after, kind: device.armed.append([after, kind]),
    "outage": _outage,
    "hide": _hide,
    "crash": _crash,
    "restart": _restart,
    "clock": _clock,
    "rotate": lambda _, device: new_key(device),
    "passphrase": lambda _, device, number: new_passphrase(device, f"passphrase {number}"),
    "upgrade": lambda _, device: device.becomes(LATER),
    "downgrade": lambda _, device: device.becomes(VERSION),
    "demand": _demand,
    "revoke": lambda _, device: shut_out(device),
    "join again": lambda _, device: join_again(device),
    "open": lambda _, device, number: open_file(device, number),
    "save": lambda _, device, *how: save(device, *how),
    "retire": _retire,
    **{what: _copies(what) for what in ("clone", "keep a copy", "put back")},
}


def _copy(world: World, device: Device, what: str, number: int) -> None:
    if device.saved is not None:
        take_up(device)
    if what == "clone" and len(world.devices) < len(NAMES) - 2:
        world.is_copied = True
        world.devices.append(device.copied(NAMES[len(world.devices)]))
    elif what == "keep a copy":
        path = world.folder / f"{len(world.copies)}.copy"
        device.copy_to(path)
        world.copies.append(Copy(device, path, set(device.acts), device.applied(), device.shows))
    elif what == "put back":
        copies = [each for each in world.copies if each.device is device and device.may_be(each)]
        if copies:
            world.is_copied = True
            device.put_back(copies[number % len(copies)])


# What a person does


def _write(device: Device, what: str, session: int, message: int, number: int) -> None:
    store = device.store
    sql = "SELECT id FROM sessions WHERE hidden < 2 AND NOT local_only ORDER BY id"
    there = [each for (each,) in store.execute(sql).fetchall()]
    name = (there or SESSIONS)[session % len(there or SESSIONS)] if session > 1 else SESSIONS[session]
    row = store.find(name)
    if what == "purge deleted":
        device.act(lambda store, _: purge_deleted(store))
    elif row is None:
        device.act(lambda store, at: store.create(id=name, title=f"<{at}> {MARK}" if number else None))
    elif what in ("purge session", "purge history"):
        purge = purge_session if what == "purge session" else purge_history
        device.act(lambda store, _: purge(store, name))
    elif what == "capture":
        _capture(device, name, number)
    elif row.hidden:
        device.act(lambda store, _: store.restore(name))
    elif what in _TO_SESSIONS:
        edits: Field | None = (name, None, what) if what in ("title", "later") else None
        device.act(lambda store, at: _TO_SESSIONS[what](store, name, at, number), edits=edits)
    else:
        _to_message(device, name, what, message, number)


_TO_SESSIONS: dict[str, Callable[[Store, str, int, int], Any]] = {
    "append": lambda store, name, at, number: store.append(name, _new(at, number)),
    "title": lambda store, name, at, _: store.update(name, fields={"title": edit_text(at)}),
    "metadata": lambda store, name, at, number: store.update(name, metadata={"ab"[number % 2]: _leaf(at, number)}),
    "state": lambda store, name, at, number: store.update(name, state={"ab"[number % 2]: _leaf(at, number)}),
    "tags": lambda store, name, _, number: store.update(
        name, add_tags=["xyz"[number % 3]], remove_tags=["yzx"[number % 3]]
    ),
    "status": lambda store, name, _, number: store.update(
        name, fields={"status": ["active", "paused", "archived"][number % 3]}
    ),
    "delete": lambda store, name, *_: store.delete(name),
    "clear": lambda store, name, *_: store.clear(name),
    "restore": lambda store, name, *_: store.restore(name),
    "fork": lambda store, name, at, _: fork(store, name, id=f"fork{at}"),
    "later": lambda store, name, at, _: _write_later(store, name, at),
}


def _write_later(store: Store, session: str, action: int) -> None:
    """Write what only a later version knows of: others pass it on."""
    with store.transaction():
        edit = Edit(store, store.live(session))
        edit.set("later", text_of(edit_text(action)))
        edit.finish()


def _new(action: int, number: int, after: str | None = None) -> NewMessage:
    role = "assistant" if number % 2 else "user"
    metadata: dict[str, Any] = {"x": 1} if number == 3 else {}
    return NewMessage(role=role, content=f"<{action}> {MARK} said", after=after, metadata=metadata)


def _leaf(action: int, number: int) -> Any:
    return [None, f"<{action}> {MARK}", {"c": {"d": action}}, {}][number]


def _capture(device: Device, session: str, number: int) -> None:
    device.captured = min(len(NATIVE), device.captured + 1 + number % 2)
    messages = [
        NewMessage(
            id=each, role="user", content=f"{each} {MARK}", after=NATIVE[at - 1] if at else None,
            timestamp="2023-11-14T00:00:00Z", metadata={"native": True},
        )
        for at, each in enumerate(NATIVE[: device.captured])
    ]  # fmt: skip
    transcript = Transcript(
        id=session, title="derived" if number else None, created_ms=1, provider=None, model=None,
        source={"tool": "x"}, messages=messages,
    )  # fmt: skip
    device.act(lambda store, _: take_in(store, transcript))


def _to_message(device: Device, session: str, what: str, message: int, number: int) -> None:
    store = device.store
    row = store.find(session)
    assert row is not None
    rows = [
        each.id
        for each in store.message_rows(row.no, hidden=what.startswith("purge"))
        if not each.hidden & HIDDEN_FOR_EVER
    ]
    if not rows:
        return
    id_ = rows[message % len(rows)]
    if what == "edit":
        device.act(
            lambda store, at: store.edit_message(session, id_, {"content": edit_text(at)}),
            edits=(session, id_, "content"),
        )
    elif what == "append behind":
        device.act(lambda store, at: store.append(session, _new(at, number, id_)))
    elif what == "message metadata":
        change = {"metadata": {"xyz"[number % 3]: [None, 1, {"k": 2}, {}][number]}}
        device.act(lambda store, _: store.edit_message(session, id_, change))
    elif what == "delete message":
        device.act(lambda store, _: store.delete_message(session, id_))
    else:
        purge = purge_message if what == "purge message" else purge_history
        device.act(lambda store, _: purge(store, session, id_))


# Shrinking


def size(steps: list[Step]) -> int:
    """How much there is to read, and of how many devices."""
    return len(repr(steps)) + sum(step.device for step in steps)


def plainer(steps: list[Step]) -> Iterator[list[Step]]:
    """The same steps, one of them with a lesser number or on another device."""
    for at, step in enumerate(steps):
        for where, value in enumerate(step.how):
            if isinstance(value, int) and value and step.what != "settings":
                for less in (0, value // 2, value - 1):
                    how = (*step.how[:where], type(value)(less), *step.how[where + 1 :])
                    yield [*steps[:at], step._replace(how=how), *steps[at + 1 :]]
        for device in range(step.device):
            yield [*steps[:at], step._replace(device=device), *steps[at + 1 :]]
