"""Devices that write apart, split and sync in any order lose no message and no edit, and change no order.

The real stores, the real bytes; a virtual clock; every schedule from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from steno.storage.conflicts import conflicts
from steno.storage.forks import divergences, split
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.simulation.test_stores_converge import Device, state

STEPS = 60


class Room:
    """Three devices, what was written on any of them, and what a later edit replaced."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.clock = [0]
        self.devices = [Device(name, folder, self.clock, self.rng) for name in "abc"]
        self.written: set[object] = set()
        self.replaced: set[object] = set()
        self.splits = 0
        first = self.devices[0]
        first.store.create(id="s", title="S")
        self.meet()

    def meet(self) -> None:
        for _ in range(2):
            for each in self.devices:
                each.publish(1 << 20)
            for each, other in permutations(self.devices, 2):
                each.pull(other, self.rng, holes=0)

    def step(self) -> None:
        self.clock[0] += self.rng.randint(0, 20)
        device = self.rng.choice(self.devices)
        store, choice = device.store, self.rng.random()
        session = self.rng.choice(sessions(store))
        if choice < 0.45:
            self.append(store, session)
        elif choice < 0.6:
            self.edit(store, session)
        elif choice < 0.85:
            device.publish(1 << 20)
            self.rng.choice(self.devices).pull(device, self.rng, holes=0.3)
        elif found := divergences(store, session):
            self.split(store, session, self.rng.choice(found).at)

    def append(self, store: Store, session: str) -> None:
        shown = [each.id for each in store.messages(session)]
        after = self.rng.choice(shown) if shown and self.rng.random() < 0.2 else None
        text = f"text {len(self.written)}"
        self.written.add(text)
        store.append(session, NewMessage(role="user", content=text, after=after))

    def edit(self, store: Store, session: str) -> None:
        """Change a message that nobody changed yet, so that what it said before is replaced by this edit alone."""
        fresh = [each for each in store.messages(session) if str(each.content).startswith("text")]
        if fresh:
            text = f"edit {len(self.written)}"
            chosen = self.rng.choice(fresh)
            self.written.add(text)
            self.replaced.add(chosen.content)
            store.edit_message(session, chosen.id, {"content": text})

    def split(self, store: Store, session: str, at: str) -> None:
        [place] = [each for each in divergences(store, session) if each.at == at]
        before = shown(store, session)
        made = split(store, session, at=at)
        run = [each for each in before if each[0] in place.run]
        assert [id_ for id_, _ in run] == list(place.run)
        assert shown(store, session) == [each for each in before if each not in run]
        shared = shown(store, made.id)[: -len(run)]
        assert shown(store, made.id) == [*before[: len(shared)], *run]
        assert place.against not in [id_ for id_, _ in shared]
        assert (made.forked_from or {})["message"] == (shared[-1][0] if shared else None)
        self.splits += 1

    def split_all(self, store: Store) -> None:
        for session in sessions(store):
            while diverged := divergences(store, session):
                self.split(store, session, diverged[-1].at)


def sessions(store: Store) -> list[str]:
    return [session for (session,) in store.execute("SELECT id FROM sessions WHERE hidden = 0 ORDER BY id").fetchall()]


def shown(store: Store, session: str) -> list[tuple[str, object]]:
    return [(each.id, each.content) for each in store.messages(session)]


def found(store: Store) -> Iterator[object]:
    """Every text that is shown, or stands in a conflict beside what is."""
    for session in sessions(store):
        yield from (content for _, content in shown(store, session))
    for each in conflicts(store):
        yield from (written.value for written in each.others)


@pytest.fixture(params=range(12))
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    made = Room(request.param, tmp_path)
    yield made
    for each in made.devices:
        each.store.close()


@pytest.mark.fault(22)
def test_what_was_written_is_found_after_any_splits(room: Room):
    for _ in range(STEPS):
        room.step()
    room.meet()
    first, *others = (each.store for each in room.devices)
    assert [state(each) for each in others] == [state(first)] * len(others)
    assert room.written - room.replaced <= set(found(first))


@pytest.mark.fault(22)
def test_devices_with_equal_knowledge_that_split_everything_at_once_make_the_same_sessions(room: Room):
    for _ in range(STEPS):
        room.step()
    room.append(room.devices[0].store, "s")
    room.append(room.devices[1].store, "s")
    room.meet()
    for each in room.devices:
        room.split_all(each.store)
    made = [sessions(each.store) for each in room.devices]
    assert room.splits > 0
    assert made == [made[0]] * len(made)
    room.meet()
    assert sessions(room.devices[0].store) == made[0]
    assert room.written - room.replaced <= set(found(room.devices[0].store))
