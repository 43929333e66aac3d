"""Merging whole states is commutative, associative and idempotent, and equal knowledge is equal state.

What a device knows is a set of publications, and its state is a function of that set. So it is shown here of readers
that know the same set, some of it or all, whatever the order, the brackets and the repetitions in which it came: they
agree in everything that is kept of any session, lives, tombstones, births, vectors, every register with what it knows,
what waits for its message, and what stands in conflict. The publications are those of devices that wrote, edited,
tagged, deleted, restored and purged beside each other (`Purging`, `Device`).

What is shown elsewhere, of parts or of whole devices:

| what | where |
|---|---|
| one register: the same four properties | tests/unit/test_registers.py |
| documents: the replay of leaves is the patches one after another | tests/unit/test_document.py |
| the order of messages does not depend on the order of arrival | tests/unit/test_order.py |
| devices that write and pull at any time end equal | tests/simulation/test_stores_converge.py |
| so they do where they purge, and lose nothing that nobody purged | tests/simulation/test_purges_converge.py |
| so they do where one is made anew from its files | tests/simulation/test_rebuilds_converge.py |
| compacted segments say what those said that they stand for | tests/unit/test_vault_compaction.py |
| any slices of a large next life, and tombstones that come twice | tests/unit/test_lives.py |
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.change import Batch, decode_batch
from steno.storage.document import leaves
from steno.storage.registers import Register
from steno.storage.rows import SCALARS, TOMBSTONE, MessageRow, decode_json, header, session_births
from steno.storage.state import StateWire, birth_stamps, from_wire, implied, load, session_row
from steno.storage.store import Store
from steno.sync.vault.compaction import combine
from steno.tests.simulation.test_purges_converge import Purging
from steno.tests.simulation.test_stores_converge import SESSIONS, step
from steno.tests.unit.test_vault_compaction import Nothing, again, lives, take

SEEDS = 8
_decode_state = msgspec.msgpack.Decoder(StateWire).decode


def act(device: Purging, rng: random.Random) -> None:
    """One thing that a person does: what `Purging` does, or emptying a session."""
    session = rng.choice(SESSIONS)
    row = device.store.find(session)
    if row is not None and not row.hidden and rng.random() < 0.08:
        device.store.clear(session)
    else:
        device.act(rng)


def whole(store: Store) -> dict[str, Any]:
    """Everything that a store keeps of every session, but where it stands in its own feed."""
    return {id_: _session(store, no) for no, id_ in store.execute("SELECT no, id FROM sessions").fetchall()}


def _session(store: Store, no: int) -> dict[str, Any]:
    row = session_row(store, no)
    births = [
        (store.stamp(each.clock, each.author), each.created_ms, each.forked_from, each.source)
        for each in session_births(row.births)
    ]
    registers = store.execute(
        "SELECT message, path, state, conflict FROM registers WHERE session = ? ORDER BY message, path", (no,)
    ).fetchall()
    own = {path: (_plain(store, state), bool(flag)) for message, path, state, flag in registers if not message}
    of_messages: dict[int, list[tuple[str, bytes, int]]] = {}
    for message, path, state, flag in registers:
        of_messages.setdefault(message, []).append((path, state, flag))
    waiting = store.execute("SELECT message, path, state FROM waiting WHERE session = ?", (no,)).fetchall()
    return {
        "life": (row.life, row.purged, row.hidden),
        "births": births,
        "shown": None if row.hidden == TOMBSTONE else msgspec.json.encode(header(row), order="deterministic"),
        "registers": own,
        "messages": [_message(store, each, of_messages) for each in store.message_rows(no, hidden=True)],
        "waiting": {(message, path): _plain(store, state) for message, path, state in waiting},
    }


def _message(store: Store, row: MessageRow, registers: dict[int, list[tuple[str, bytes, int]]]) -> dict[str, Any]:
    """A message with each of its registers, be it a row of its own or implied by the birth."""
    found = {path: _state(load(store, row.session, row, path)) for path in SCALARS}
    here = registers.get(row.no, [])
    found |= {path: _plain(store, state) for path, state, _ in here}
    if row.metadata and not any(path.startswith("metadata/") for path, *_ in here):
        for where, text in leaves(decode_json(row.metadata)):
            found[f"metadata{where}"] = _state(implied(store, row, text))
    fields = {name: value for name, value in msgspec.structs.asdict(row).items() if name in _SHARED}
    return {
        **fields,
        "births": birth_stamps(store, row),
        "metadata": row.metadata and msgspec.json.encode(decode_json(row.metadata), order="deterministic"),
        "registers": found,
        "conflicts": sorted(path for path, _, flag in here if flag),
    }


_SHARED = (
    "ord", "hidden", "id", "after", "inserted", "role", "sender", "content", "time_ms", "time_text", "parent",
    "model", "usage", "origin",
)  # fmt: skip


def _plain(store: Store, state: bytes) -> Any:
    return _state(from_wire(store, _decode_state(state)))


def _state(register: Register) -> Any:
    return sorted(register.open.items()), sorted(register.known.items())


def published(devices: Sequence[Purging]) -> list[list[Batch]]:
    """What each device published, as others read it."""
    return [[decode_batch(each) for each in device.log] for device in devices]


@pytest.fixture(scope="module", params=range(SEEDS))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("world")
    world = World(request.param, place)
    yield world
    for device in world.devices:
        device.store.close()


class World:
    """Devices that lived beside each other, and what they published."""

    def __init__(self, seed: int, place: Path) -> None:
        self.place, self.rng = place, random.Random(-seed - 1)
        self.devices = lives(seed, place / "devices", act)
        self.logs = published(self.devices)
        self.all = [batch for log in self.logs for batch in log]
        self._count = 0

    def read(self, batches: Sequence[Batch], *, rows: int = 2000) -> dict[str, Any]:
        """The state of a reader that knew nothing and took these in."""
        self._count += 1
        with Store(self.place / f"{self._count}.db") as store:
            store.execute("PRAGMA synchronous = OFF")
            return whole(take(store, batches, rows))

    def some(self) -> list[Batch]:
        """A part of what was published, with holes."""
        return [batch for batch in self.all if self.rng.random() < 0.6]

    def shuffled(self, batches: Sequence[Batch]) -> list[Batch]:
        return self.rng.sample(batches, len(batches))

    def in_brackets(self, batches: list[Batch]) -> Batch:
        """A run of publications as one, put together two by two in any way."""
        parts = list(batches)
        while len(parts) > 1:
            at = self.rng.randrange(len(parts) - 1)
            parts[at : at + 2] = [again(combine(parts[at : at + 2], Nothing()))]
        return parts[0]


def test_the_order_in_which_publications_come_does_not_matter(world: World):
    expected = world.read(world.all)
    assert world.read(world.shuffled(world.all), rows=world.rng.choice([1, 3, 2000])) == expected


def test_equal_knowledge_is_equal_state_also_where_something_is_missing(world: World):
    known = world.some()
    assert world.read(world.shuffled(known)) == world.read(known)


def test_what_is_known_already_changes_nothing(world: World):
    known = world.some()
    repeated = world.shuffled([*known, *world.rng.sample(known, len(known) // 2)])
    with Store(world.place / "again.db") as store:
        once = whole(take(store, known))
        assert whole(take(store, world.shuffled(known))) == once
    assert world.read(repeated) == once


def test_publications_may_be_put_together_in_any_brackets(world: World):
    """Whoever takes in (a b) c, a (b c) or a b c, of each log, and of a part of it that follows, knows the same."""
    cuts = [world.rng.randint(0, len(log)) for log in world.logs]
    runs = [run for log, cut in zip(world.logs, cuts, strict=True) for run in (log[:cut], log[cut:]) if run]
    expected = world.read(world.all)
    for _ in range(2):
        assert world.read(world.shuffled([world.in_brackets(run) for run in runs])) == expected


def test_what_two_readers_know_is_together_what_a_third_one_knows(world: World):
    """One knows some, then takes in what the other knows, and the other way round."""
    one, other = world.some(), world.some()
    assert (
        world.read([*one, *other])
        == world.read([*other, *one])
        == world.read([batch for batch in world.all if any(batch is each for each in (*one, *other))])
    )


def test_devices_that_wrote_know_what_those_know_who_only_read(tmp_path: Path):
    """Their own writes are no other than those that came. Where nothing is rescued from a purge, nothing is added."""
    for seed in range(4):
        devices = lives(seed, tmp_path / str(seed), step)
        world = [batch for log in published(devices) for batch in log]
        with Store(tmp_path / f"{seed}.db") as reader:
            expected = whole(take(reader, world))
        for device in devices:
            assert whole(take(device.store, world)) == expected, f"seed {seed}"
            device.store.close()


def test_the_states_hold_what_they_are_to_be_shown_of(tmp_path: Path):
    """All that is to be merged occurs, so that nothing is shown of nothing."""
    met: set[str] = set()
    for seed in range(SEEDS):
        devices = lives(seed, tmp_path / f"d{seed}", act)
        logs = published(devices)
        rng = random.Random(seed)
        with Store(tmp_path / f"{seed}.db") as store:
            take(store, [batch for log in logs for batch in log if rng.random() < 0.6])
            for found in whole(store).values():
                met |= _kinds(found)
        for device in devices:
            device.store.close()
    assert met >= {
        "tombstone",
        "next life",
        "deleted",
        "cleared",
        "conflict",
        "two births",
        "erased",
        "waiting",
        "tags",
    }


def _kinds(found: dict[str, Any]) -> set[str]:
    messages = found["messages"]
    kinds = {
        "tombstone": found["life"][2] == TOMBSTONE,
        "next life": found["life"][0] > 1,
        "deleted": "deleted" in found["registers"],
        "cleared": "cleared" in found["registers"],
        "conflict": any(flag for _, flag in found["registers"].values()) or any(each["conflicts"] for each in messages),
        "two births": len(found["births"]) > 1 or any(len(each["births"]) > 1 for each in messages),
        "erased": any(each["hidden"] >= 4 for each in messages),
        "waiting": bool(found["waiting"]),
        "tags": any(path.startswith("tags/") for path in found["registers"]),
    }
    return {name for name, true in kinds.items() if true}
