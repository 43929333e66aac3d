"""Devices that purge sessions, messages and histories at any moment end equal, and lose nothing that nobody purged.

The real stores, the real bytes; a virtual clock; every schedule from a seed. STENO_SCHEDULES says how many.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from steno.storage.deletion import PURGED
from steno.storage.purge import purge_deleted, purge_history, purge_message, purge_session
from steno.storage.rows import HIDDEN_FOR_EVER
from steno.storage.state import load
from steno.tests.simulation.test_stores_converge import NATIVE, SESSIONS, Device, state, step

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "80"))

Place = tuple[str, str]
"""A session and a message of it."""


class Purging(Device):
    """A device, and what its person knowingly hid or purged."""

    def __init__(self, name: str, folder: Path, clock: list[int], rng: random.Random) -> None:
        super().__init__(name, folder, clock, rng)
        self.gone: set[Place] = set()
        self.written: set[Place] = set()

    def act(self, rng: random.Random) -> None:
        before, visible = self.here(), self.shown()
        if rng.random() < 0.75:
            step(self, rng)
        else:
            self.purge(rng)
        self.written |= {each for each in self.shown() - before if each[1] not in NATIVE}
        self.gone |= visible - self.shown()
        self.gone |= before - self.here()

    def purge(self, rng: random.Random) -> None:
        store, session, choice = self.store, rng.choice(SESSIONS), rng.random()
        row = store.find(session)
        if choice < 0.1:
            purge_deleted(store)
        elif row is None:
            return
        elif choice < 0.35:
            purge_session(store, session)
        elif choice < 0.55:
            purge_history(store, session)
        else:
            rows = [each for each in store.message_rows(row.no, hidden=True) if not each.hidden & HIDDEN_FOR_EVER]
            if rows and choice < 0.85:
                purge_message(store, session, rng.choice(rows).id)
            elif rows:
                purge_history(store, session, rng.choice(rows).id)

    def here(self) -> set[Place]:
        """Every message that is here and not purged, hidden or not."""
        sql = "SELECT s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session WHERE m.hidden < ?"
        return set(self.store.execute(sql, (HIDDEN_FOR_EVER,)).fetchall())

    def shown(self) -> set[Place]:
        return {(each.id, found.id) for each in list(self.store.sessions()) for found in self.store.messages(each.id)}


def lived(rng: random.Random, folder: Path, *, holes: float) -> list[Purging]:
    """Devices that did this and that and then told each other everything."""
    clock = [0]
    folder.mkdir()
    devices = [Purging(name, folder, clock, rng) for name in "abc"]
    for _ in range(rng.randint(5, 50)):
        clock[0] += rng.randint(0, 20)
        device = rng.choice(devices)
        if rng.random() < 0.6:
            device.act(rng)
        elif rng.random() < 0.5:
            device.publish(rng.choice([1, 300, 10**6]))
        else:
            device.pull(rng.choice([each for each in devices if each is not device]), rng, holes)
    for _ in range(3):  # what is rescued is written anew, and told in its turn
        for device in devices:
            device.publish(10**6)
        for device in devices:
            for other in devices:
                if other is not device:
                    device.pull(other, rng, 0.0)
    return devices


@pytest.mark.parametrize("start", range(0, SCHEDULES, 20))
def test_devices_that_purge_end_equal_and_lose_nothing_that_nobody_purged(start: int, tmp_path: Path) -> None:
    for seed in range(start, start + 20):
        # Here nobody tells a store of holes in what it pulled, so that a purge may seem to have known what lies in one.
        holes = seed % 2 * 0.2
        devices = lived(random.Random(seed), tmp_path / str(seed), holes=holes)
        states = [state(device.store) for device in devices]
        assert states[0] == states[1] == states[2], f"seed {seed}: devices differ"
        gone = set().union(*(device.gone for device in devices))
        for device in devices:
            store = device.store
            assert store.one("SELECT count(*) FROM waiting")[0] == 0
            kept = {message for _, message in device.here()}
            lost = {each for each in device.written - gone if each[1] not in kept}
            assert holes or not lost, f"seed {seed}: {lost} is purged, and nobody who purged knew it"
            _nothing_is_left(device, seed)
            store.close()


def _nothing_is_left(device: Purging, seed: int) -> None:
    """No table holds anything of a life that is over, nor of a message that was purged."""
    store = device.store
    live = {no for (no,) in store.execute("SELECT no FROM sessions WHERE hidden < 2").fetchall()}
    stones = {no for (no,) in store.execute("SELECT no FROM sessions WHERE hidden = 2").fetchall()}
    for table in ("messages", "registers", "revisions", "waiting", "saves"):
        found = {no for (no,) in store.execute(f"SELECT DISTINCT session FROM {table}").fetchall()}
        assert found <= (live | stones if table == "registers" else live), f"seed {seed}: {table}"
    for no in stones:
        assert store.execute("SELECT path FROM registers WHERE session = ?", (no,)).fetchall() == [(PURGED,)]
        assert load(store, no, None, PURGED).open
    rows = "SELECT no, session, content, sender, metadata FROM messages WHERE hidden >= ?"
    for no, session, *said in store.execute(rows, (HIDDEN_FOR_EVER,)).fetchall():
        assert said == ["", None, None], f"seed {seed}"
        paths = store.execute("SELECT path FROM registers WHERE session = ? AND message = ?", (session, no)).fetchall()
        assert paths == [(PURGED,)]
        assert not store.one("SELECT 1 FROM revisions WHERE session = ? AND message = ?", (session, no))
