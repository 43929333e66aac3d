"""Devices that exchange their changes in any order, with holes and repeats, end with equal sessions.

The real stores, the real bytes; a virtual clock; every schedule from a seed.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.deletion import PURGED
from steno.storage.doctor import examine
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.rows import TOMBSTONE, encode_json, session_births
from steno.storage.state import family, load, session_row
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript

SESSIONS = ["one", "two"]
NATIVE = [f"n{at}" for at in range(6)]


class Device:
    """A store, what it published, and which publications of others it has applied."""

    def __init__(self, name: str, folder: Path, clock: list[int], rng: random.Random) -> None:
        self.store = Store(
            folder / f"{name}.db",
            now_ms=lambda: 1_700_000_000_000 + clock[0] + self.skew,
            random=lambda length: "".join(rng.choice("abcdefghij") for _ in range(length)),
        )
        self.skew = rng.randint(-50, 50)
        self.log: list[bytes] = []
        self.cursor = 0
        self.captured = 0
        self.applied: set[tuple[str, int]] = set()

    def publish(self, max_bytes: int) -> None:
        floor, complete = self.cursor, False
        while not complete:
            batch, self.cursor, complete = local_changes(
                self.store, since=self.cursor, floor=floor, max_bytes=max_bytes
            )
            if batch:
                self.log.append(batch)

    def pull(self, other: Device, rng: random.Random, holes: float) -> None:
        for number, batch in enumerate(other.log):
            key = (other.store.device, number)
            if key in self.applied and rng.random() > 0.05:
                continue
            if rng.random() < holes:
                continue
            decoded = decode_batch(batch)
            done = Applied()
            for part in slices(decoded, rows=3):
                with self.store.transaction():
                    apply(self.store, decoded, part, done=done)
            assert done.refused == []
            self.applied.add(key)


def state(store: Store) -> object:
    """Everything that equal devices agree on."""
    found = []
    for row in store.execute("SELECT no, id, hidden FROM sessions WHERE NOT local_only ORDER BY id").fetchall():
        if row[2] == TOMBSTONE:
            stone = session_row(store, row[0])
            purged = load(store, row[0], None, PURGED)
            births = [(each.clock, store.stamp(each.clock, each.author)) for each in session_births(stone.births)]
            found.append((row[1], stone.life, stone.purged, births, sorted(purged.open.items())))
            continue
        header = store.get(row[1], deleted=True)
        messages = [
            (m.id, m.role, m.content, m.sender, m.metadata, m.hidden) for m in store.message_rows(row[0], hidden=True)
        ]
        if header.deleted_at:
            messages = [each[:-1] for each in messages]
        registers = [
            (path, sorted(register.open.items()), sorted(register.known.items()))
            for name in ("metadata", "tags", "state")
            for path, register in sorted(family(store, row[0], 0, name).items())
        ]
        title = load(store, row[0], None, "title")
        found.append((encode_json(header), messages, registers, sorted(title.open.items())))
    return found


def step(device: Device, rng: random.Random) -> None:
    store = device.store
    session = rng.choice(SESSIONS)
    row = store.find(session)
    if row is None:
        store.create(id=session, title=rng.choice([None, "born"]), tags=rng.sample(["a", "b"], rng.randint(0, 2)))
        return
    choice = rng.random()
    rows = list(store.message_rows(row.no))
    if choice < 0.3:
        after = rng.choice(rows).id if rows and rng.random() < 0.3 and not row.hidden else None
        role = rng.choice(["user", "assistant"])
        store.append(
            session,
            NewMessage(
                role=role,
                content=f"text {rng.randint(0, 99)}",
                after=after,
                metadata={"x": 1} if rng.random() < 0.3 else {},
            ),
        )
    elif choice < 0.45:
        device.captured = min(len(NATIVE), device.captured + rng.randint(1, 2))
        messages = [
            NewMessage(
                id=each,
                role="user",
                content=each,
                after=NATIVE[at - 1] if at else None,
                timestamp="2023-11-14T00:00:00Z",
                metadata={"native": True},
            )
            for at, each in enumerate(NATIVE[: device.captured])
        ]
        title = rng.choice([None, "derived"])
        take_in(
            store,
            Transcript(
                id=session,
                title=title,
                created_ms=1,
                provider=None,
                model=None,
                source={"tool": "x"},
                messages=messages,
            ),
        )
    elif row.hidden:
        store.restore(session)
    elif choice < 0.55 and rows:
        store.edit_message(session, rng.choice(rows).id, {"content": f"edit {rng.randint(0, 99)}"})
    elif choice < 0.62 and rows:
        store.edit_message(
            session, rng.choice(rows).id, {"metadata": {rng.choice("xyz"): rng.choice([None, 1, {"k": 2}])}}
        )
    elif choice < 0.7 and rows:
        store.delete_message(session, rng.choice(rows).id)
    elif choice < 0.78:
        store.update(session, fields={"title": f"title {rng.randint(0, 9)}"})
    elif choice < 0.86:
        store.update(session, metadata={rng.choice("ab"): rng.choice([None, 1, {"c": 1}, {"c": {"d": 2}}, {}])})
    elif choice < 0.92:
        store.update(session, add_tags=[rng.choice("abc")], remove_tags=[rng.choice("abc")])
    elif choice < 0.96:
        store.delete(session)


@pytest.mark.parametrize("start", range(4))
def test_devices_that_know_the_same_are_the_same(start: int, tmp_path: Path) -> None:
    for seed in range(start * 15, start * 15 + 15):
        rng = random.Random(seed)
        clock = [0]
        folder = tmp_path / str(seed)
        folder.mkdir()
        devices = [Device(name, folder, clock, rng) for name in "abc"]
        for _ in range(rng.randint(5, 40)):
            clock[0] += rng.randint(0, 20)
            device = rng.choice(devices)
            if rng.random() < 0.6:
                step(device, rng)
            elif rng.random() < 0.5:
                device.publish(rng.choice([1, 300, 10**6]))
            else:
                device.pull(rng.choice([each for each in devices if each is not device]), rng, 0.2)
        for device in devices:
            device.publish(10**6)
        for device in devices:
            for other in devices:
                if other is not device:
                    device.pull(other, rng, 0.0)
        wrong = [each for device in devices for each in examine(device.store) if not each.ok]
        assert wrong == [], seed
        states = [state(device.store) for device in devices]
        for device in devices:
            assert device.store.execute("SELECT count(*) FROM waiting").fetchone()[0] == 0
            device.store.close()
        assert states[0] == states[1] == states[2], f"seed {seed}"
