"""A device that loses its database makes it anew, while another went on: both end equal, and nothing is twice or gone.

The real stores, files and sealed bytes; a virtual clock; every schedule from a seed. STENO_SCHEDULES says how many.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from steno.storage.conflicts import conflicts
from steno.storage.doctor import examine
from steno.storage.purge import purge_message, purge_session
from steno.storage.rebuilding import Former, begin
from steno.storage.rows import HIDDEN_FOR_EVER
from steno.storage.store import Store
from steno.sync.files.breaker import marked
from steno.sync.files.lines import line_of, parse
from steno.sync.files.mirror import Mirror
from steno.sync.files.rebuild import Rebuilt, adopt, rebuild, survey
from steno.sync.files.taking import Clock
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import VAULT, SegmentName
from steno.sync.vault.seal import Keyring, VaultKey
from steno.sync.vault.vault import vault_json
from steno.tests.simulation.test_stores_converge import SESSIONS, state, step

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "40"))
VAULT_ID, KEYRING = "vaultvault00", Keyring((VaultKey("keykeykeyk00", b"k" * 32),))
START_MS = 1_700_000_000_000

Way = Literal["remote first", "files only"]
Place = tuple[str, str]
"""A session and a message of it."""


class World:
    """Chance, time and objects of one schedule."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ms = START_MS
        self.remote = MemoryRemote()
        self.remote.objects[VAULT] = vault_json(VAULT_ID)

    def random(self, length: int) -> str:
        return "".join(self.rng.choices("abcdefghij", k=length))

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def sleep(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000) + 1

    @property
    def clock(self) -> Clock:
        return Clock(self.monotonic, lambda: self.now_ms * 1_000_000, self.sleep)


class Device:
    """A store with its engine; its mirror runs when it is asked to."""

    def __init__(self, folder: Path, name: str, world: World) -> None:
        self.folder, self.world = folder, world
        self.root = folder / "sessions"
        self.captured = 0
        self.skew_ms = world.rng.choice([0, -50, 50])
        self.open(folder / f"{name}.db")

    def open(self, path: Path) -> None:
        self.store = Store(path, now_ms=lambda: self.world.now_ms + self.skew_ms, random=self.world.random)
        self.engine = VaultEngine(
            self.store, self.world.remote.peer(), vault=VAULT_ID, keyring=KEYRING,
            now_ms=lambda: self.world.now_ms, draw=self.world.rng.randbytes,
        )  # fmt: skip

    def write(self) -> None:
        step(self, self.world.rng)  # pyright: ignore[reportArgumentType]  all that it asks for is here

    def purge(self) -> None:
        rng, session = self.world.rng, self.world.rng.choice(SESSIONS)
        row = self.store.find(session)
        if row is None:
            return
        rows = [each for each in self.store.message_rows(row.no, hidden=True) if not each.hidden & HIDDEN_FOR_EVER]
        if rows and rng.random() < 0.7:
            purge_message(self.store, session, rng.choice(rows).id)
        else:
            purge_session(self.store, session)

    def sync(self) -> None:
        assert asyncio.run(self.engine.sync()).complete

    def mirror(self) -> Mirror:
        """Bring store and files together, as a daemon does."""
        world = self.world
        mirror = Mirror(
            self.store, self.root, monotonic=world.monotonic, wall_ns=world.clock.wall_ns, sleep=world.sleep
        )
        self.root.mkdir(exist_ok=True)
        mirror.start()
        while (wait := mirror.write_pending()) is not None:
            world.sleep(wait)
        return mirror

    def shown(self) -> dict[str, Any]:
        """Every session that is shown, as people see it."""
        return {each.id: (each, list(self.store.messages(each.id))) for each in list(self.store.sessions())}

    def places(self) -> set[Place]:
        return {(session, message.id) for session, (_, messages) in self.shown().items() for message in messages}

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*.jsonl") if not path.name.startswith("."))


class Loss:
    """What the files of a lost database show, what was typed into them since, and how often they were copied."""

    def __init__(self, lost: Device) -> None:
        self.files: dict[Place, str] = {}
        self.typed: set[Place] = set()
        self.sessions: set[str] = set()
        self.copies = 0
        for path in lost.files():
            mine = parse(path.read_bytes())
            assert mine.header is not None
            assert mine.header.id is not None
            self.sessions.add(mine.header.id)
            for line in mine.lines:
                assert line.id is not None
                self.files[mine.header.id, line.id] = str(line.content)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory in memory, where there is one: thousands of commits wait for the disk otherwise."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="steno-simulation-", dir=memory if os.access(memory, os.W_OK) else None))
    yield made
    shutil.rmtree(made)


def lived(world: World, folder: Path, *, tidy: bool) -> tuple[Device, Device, Loss]:
    """Two devices, of which one has lost its database; ``tidy``: it had sent and mirrored all, and nobody edited."""
    rng = world.rng
    devices = [Device(_made(folder / name), name, world) for name in "ab"]
    lost, other = devices
    for _ in range(rng.randint(5, 40)):
        world.now_ms += rng.choice([1, 20, 6_000])
        device, choice = rng.choice(devices), rng.random()
        if choice < 0.6:
            device.write()
        elif choice < 0.64:
            device.purge()
        elif choice < 0.85:
            device.sync()
        else:
            lost.mirror()
    if tidy:
        lost.sync()
        lost.mirror()
        lost.sync()  # what was edited in files, had it been
    else:
        lost.mirror() if rng.random() < 0.5 else None
    for _ in range(rng.randint(0, 12)):
        world.now_ms += rng.choice([1, 20, 6_000])
        other.write() if rng.random() < 0.85 else other.purge()
        other.sync() if rng.random() < 0.3 else None
    lost.store.close()
    (lost.folder / "a.db").unlink()
    for path in lost.folder.glob("a.db*"):
        path.unlink()
    lost.root.mkdir(exist_ok=True)
    return lost, other, Loss(lost)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def rebuilt(lost: Device, way: Way) -> Rebuilt:
    """Make the database anew, as `steno doctor --rebuild` does."""
    aside = lost.folder / "aside"
    found = survey(lost.root, aside=aside)
    device = marked(lost.root)
    lost.open(lost.folder / "new.db")
    begin(lost.store, Former([device] if device else [], found.last_seq))
    if way == "remote first":
        assert asyncio.run(lost.engine.pull()).complete
    done = rebuild(lost.store, lost.root, found, lost=[device] if device else [], aside=aside, clock=lost.world.clock)
    adopt(lost.store, lost.root)
    return done


def rescues(device: Device, sessions: Collection[str]) -> set[str]:
    """Those of some sessions that hold nothing but what another one held that was purged."""
    return {
        session
        for session in sessions
        for origins in [[message.origin for message in device.store.messages(session)]]
        if origins and all(origin and device.store.lives_over(str(origin["session"])) for origin in origins)
    }


def open_conflicts(device: Device) -> list[str]:
    return sorted(map(repr, conflicts(device.store)))


def settle(*devices: Device) -> None:
    for _ in range(3):
        for device in devices:
            device.world.now_ms += 1_000
            device.sync()


def check_sound(lost: Device, other: Device, seed: int) -> None:
    assert state(lost.store) == state(other.store), f"seed {seed}: devices differ"
    for device in (lost, other):
        assert [each for each in examine(device.store) if not each.ok] == [], f"seed {seed}"
        assert device.store.one("SELECT count(*) FROM waiting")[0] == 0
        assert device.store.one("SELECT count(*) FROM outbox")[0] == 0


@pytest.mark.parametrize("way", ["remote first", "files only"])
@pytest.mark.parametrize("start", range(0, SCHEDULES, 20))
def test_a_device_that_had_sent_all_changes_nothing_on_the_other(folder: Path, start: int, way: Way) -> None:
    """Its files are as old as its death: whatever the other one wrote since stands.

    What the other one purged without having known of it is kept in a session of its own, as the lost one would have.
    """
    for seed in range(start, start + 20):
        place = folder / f"{way} {seed}"
        lost, other, _ = lived(World(seed), place, tidy=True)
        done = rebuilt(lost, way)
        assert done.passed_over == {} or way == "remote first", f"seed {seed}: {done.passed_over}"
        lost.mirror()
        other.sync()
        before, objects = other.shown(), set(lost.world.remote.objects)
        open_before = open_conflicts(other)
        lost.sync()
        sent = [SegmentName.parse(name) for name in lost.world.remote.objects.keys() - objects]
        settle(lost, other)
        rescued = rescues(other, other.shown().keys() - before.keys())
        shown = {session: each for session, each in other.shown().items() if session not in rescued}
        assert shown == before, f"seed {seed}: the other device shows something else"
        if way == "remote first":
            assert not sent or rescued, f"seed {seed}: what the remote has was sent again"
        assert open_conflicts(other) == open_before, f"seed {seed}"
        check_sound(lost, other, seed)
        check_files(lost, seed)
        leave(lost, other)


@pytest.mark.parametrize("way", ["remote first", "files only"])
@pytest.mark.parametrize("start", range(0, SCHEDULES, 20))
def test_what_was_never_sent_or_typed_without_a_database_is_kept_and_nothing_is_deleted(
    folder: Path, start: int, way: Way
) -> None:
    for seed in range(start, start + 20):
        world = World(seed + 10_000)
        lost, other, loss = lived(world, folder / f"{way} {seed}", tidy=False)
        for path in lost.files():
            edit(path, loss, world.rng)
        other.sync()
        before = other.shown()
        hidden_before, deleted = hidden(other), {each.id for each in other.store.sessions(deleted=True)}
        done = rebuilt(lost, way)
        lost.mirror()
        settle(lost, other)
        check_sound(lost, other, seed)
        shown, after = lost.places(), lost.shown()
        for session, (_, messages) in before.items():
            gone = {(session, each.id) for each in messages} - shown
            assert not gone, f"seed {seed}: {gone} were on the other device"
        purged = {session for session in SESSIONS if other.store.lives_over(session)}
        for place, content in loss.files.items():
            if place[0] in purged or place in hidden_before or (way == "files only" and place[0] in deleted):
                continue
            assert place in shown, f"seed {seed}: {place} stood in a file"
            texts = [each.content for each in after[place[0]][1] if each.id == place[1]]
            known = [str(each.content) for each in before.get(place[0], (None, []))[1] if each.id == place[1]]
            assert texts in ([content], known), f"seed {seed}: {place}"
        everywhere = [str(each.content) for _, messages in after.values() for each in messages]
        for session, text in loss.typed:
            assert everywhere.count(text) == 1 or session in purged, f"seed {seed}: {text}"
        made = after.keys() - before.keys() - set(SESSIONS) - loss.sessions
        # What was typed into a session that the other device purged is kept in a session of its own.
        assert len(made) <= loss.copies + len(purged), f"seed {seed}: {made} are made up"
        if done.yielded:
            assert list((lost.folder / "aside").rglob("*.jsonl")), f"seed {seed}"
        check_files(lost, seed)
        leave(lost, other)


@pytest.mark.parametrize("start", range(0, SCHEDULES, 20))
def test_two_devices_of_which_nothing_is_left_but_their_files_end_equal(folder: Path, start: int) -> None:
    """Both databases and all that lay on the remote are gone, and one directory is older than the other."""
    for seed in range(start, start + 20):
        world = World(seed + 20_000)
        lost, other, loss = lived(world, folder / f"both {seed}", tidy=seed % 2 == 0)
        for path in lost.files():
            edit(path, loss, world.rng)
        other.mirror()
        shown = other.shown()
        other.store.close()
        for name in [name for name in world.remote.objects if name != VAULT]:
            del world.remote.objects[name]
        for device in (lost, other):
            rebuilt(device, "files only")
            device.mirror()
        settle(lost, other)
        check_sound(lost, other, seed)
        places = lost.places()
        for session, (_, messages) in shown.items():
            assert {(session, each.id) for each in messages} <= places, f"seed {seed}"
        assert loss.files.keys() <= places, f"seed {seed}"
        everywhere = [str(each.content) for _, messages in lost.shown().values() for each in messages]
        assert all(everywhere.count(text) == 1 for _, text in loss.typed), f"seed {seed}"
        assert len(lost.shown().keys() - shown.keys() - loss.sessions) <= loss.copies, f"seed {seed}"
        check_files(lost, seed)
        leave(lost, other)


def hidden(device: Device) -> set[Place]:
    sql = "SELECT s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session WHERE m.hidden OR s.hidden"
    return set(device.store.execute(sql).fetchall())


def edit(path: Path, loss: Loss, rng: random.Random) -> None:
    """What a person does to a file while there is no database."""
    head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    session, number = head["id"], len(loss.typed)
    for _ in range(rng.choice([0, 0, 1, 2])):
        choice = rng.random()
        if choice < 0.4:
            text = f"typed {number} {rng.random()}"
            lines.insert(rng.randint(0, len(lines)), {"role": "user", "content": text})
            loss.typed.add((session, text))
        elif choice < 0.7 and lines:
            line = rng.choice(lines)
            if "id" in line:
                line["content"] = loss.files[session, line["id"]] = f"changed {rng.random()}"
        elif choice < 0.8 and lines:
            line = lines.pop(rng.randrange(len(lines)))
            loss.files.pop((session, line.get("id", "")), None)
            loss.typed.discard((session, line["content"]))
        elif choice < 0.9:
            head["title"] = f"title by hand {rng.random()}"
        else:
            head["metadata"] = {**head["metadata"], "by hand": rng.randint(0, 9)}
    text = "".join(json.dumps(line) + "\n" for line in [head, *lines])
    path.write_text(text, encoding="utf-8")
    if rng.random() < 0.2 and not any("id" not in line for line in lines):
        path.with_name("a copy.jsonl").write_text(text, encoding="utf-8")
        loss.copies += 1


def check_files(device: Device, seed: int) -> None:
    """The files show what the store holds, one for each session, and are left as they are from then on."""
    refused = {device.root / each.path for each in device.mirror().refused()}
    written = {path: path.read_bytes() for path in device.files()}
    found: dict[str, Any] = {}
    for path, data in written.items():
        if path in refused:
            continue
        mine = parse(data)
        assert mine.header is not None
        assert mine.header.id is not None
        assert mine.header.id not in found, f"seed {seed}: two files of {mine.header.id}"
        found[mine.header.id] = (mine.header.title, mine.header.tags, mine.header.metadata, mine.lines)
    assert found == {
        session: (header.title, header.tags, header.metadata, [line_of(each) for each in messages])
        for session, (header, messages) in device.shown().items()
    }, f"seed {seed}: the files show something else"
    device.mirror()
    assert {path: path.read_bytes() for path in device.files()} == written, f"seed {seed}: written again"


def leave(*devices: Device) -> None:
    for device in devices:
        device.store.close()
    shutil.rmtree(devices[0].folder.parent)
