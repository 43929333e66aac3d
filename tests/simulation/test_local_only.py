"""Devices of which some sessions are local-only, over a remote that fails: no object ever tells of one of them.

The schedules are those of `test_vault_simulation`, with what people do to such sessions in between. Each id stands in
all that is written to its session, and the remote looks for it in every segment that is put there (`vault_world`).
What is shared is the same on all devices at the end, as if it had never been kept.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from steno.storage import change
from steno.storage.errors import InvalidInput
from steno.storage.forks import fork
from steno.storage.local_only import share
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.storage.store import Store
from steno.tests.simulation import vault_schedule
from steno.tests.simulation.vault_room import Room, opened
from steno.tests.simulation.vault_schedule import Step, schedule
from steno.tests.simulation.vault_world import Device, World

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "80"))
FIRST = int(os.environ.get("STENO_SEED", "0"))
DEEDS = ["create", "create", "append", "append", "append", "edit", "title", "fork", "purge", "share"]
PARTS, FEW = 4, 40


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setitem(vault_schedule._OF_A_DEVICE, "local", local)
    with opened() as room:
        yield room


def local(world: World, device: Device, what: str, number: int) -> None:
    """Do something to a session that is local-only."""
    store = device.store
    sql = "SELECT id FROM sessions WHERE local_only AND hidden = 0 ORDER BY id"
    there = [each for (each,) in store.execute(sql).fetchall()]
    new = f"kept{next(world.deeds.numbers)}x"
    if what == "create" or not there:
        world.kept.add(new)
        store.create(id=new, title=new, metadata={"k": new}, tags=[new], local_only=True)
        say(store, new)
        return
    session = there[number % len(there)]
    messages = [each.id for each in store.messages(session)]
    if what == "append":
        say(store, session)
    elif what == "edit":
        store.edit_message(session, messages[number % len(messages)], {"content": f"{session} edited {new}"})
    elif what == "title":
        store.update(session, fields={"title": f"{session} {new}"})
    elif what == "fork":
        world.kept.add(new)
        fork(store, session, id=new)
    elif what == "purge":
        purge_session(store, session)
    elif not world.is_copied:  # a copy of the home keeps them
        shared(world, store, there)


def say(store: Store, session: str) -> None:
    store.append(session, NewMessage(role="user", content=f"{session} said"))


def shared(world: World, store: Store, sessions: list[str]) -> None:
    before = set(world.kept)
    world.kept -= set(sessions)
    try:
        share(store, sessions)
    except InvalidInput:  # one of them is a fork of what was purged
        world.kept |= before


def with_local(seed: int) -> list[Step]:
    """The schedule of a seed, with sessions that are local-only in between."""
    rng, steps = random.Random(seed), schedule(seed)
    for _ in range(rng.randint(3, 10)):
        step = Step("local", rng.randrange(2), (rng.choice(DEEDS), rng.randrange(8)))
        steps.insert(rng.randint(1, len(steps)), step)
    return steps


def first_failure(room: Room, seeds: Iterator[int] | range) -> str | None:
    for seed in seeds:
        error = room.fails(with_local(seed))
        if error is not None:
            return f"seed {seed}: {error!r} after {with_local(seed)}"
    return None


@pytest.mark.parametrize("part", range(PARTS))
def test_no_object_tells_of_what_is_local_only_and_what_is_shared_arrives(room: Room, part: int):
    assert first_failure(room, range(FIRST + part, FIRST + SCHEDULES, PARTS)) is None


def test_the_remote_notices_what_should_have_stayed(room: Room, monkeypatch: pytest.MonkeyPatch):
    kept = change._row
    monkeypatch.setattr(change, "_row", lambda *at: replace(kept(*at), local_only=0))
    failure = first_failure(room, itertools.islice(itertools.count(FIRST), FEW))
    assert failure is not None
    assert "which are local-only" in failure
