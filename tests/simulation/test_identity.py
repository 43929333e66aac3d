"""Homes that are copied, or replaced by an older copy of themselves, and go on beside what they were.

Each schedule comes from a seed: a database is copied or put back at any moment, all go on writing, deleting, purging
and syncing in any order. At the end every device holds the same, what was acknowledged is there, nothing is hidden
that nobody deleted knowingly, no edit is gone that nobody replaced knowingly, and logs tile. Broken rules are caught.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage import identity as restamping
from steno.storage.model import NewMessage
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.storage.registers import Known
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.sync.vault import compaction, intake, lease, sending
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.identity import Verdict
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import VAULT, SegmentName
from steno.sync.vault.ranges import Ranges
from steno.sync.vault.seal import Keyring, VaultKey
from steno.sync.vault.vault import vault_json
from steno.sync.vault.work import directly
from steno.tests.simulation.deeds import Deeds, Field, Write, edit_text, here
from steno.tests.simulation.test_stores_converge import NATIVE, SESSIONS, state, step

VAULT_ID, KEYRING = "vaultvault00", Keyring((VaultKey("keykeykeyk00", b"k" * 32),))
START_MS = 1_700_000_000_000
SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "120"))


class Crash(BaseException):
    """The process ends here."""


class World:
    """What all devices of a schedule share: chance, time, objects, and what was ever written."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ms = START_MS
        self.remote = MemoryRemote()
        self.remote.objects[VAULT] = vault_json(VAULT_ID)
        self.looks_first = seed % 2 == 0
        """Whether nobody publishes without having looked: then no number is given twice."""
        self.crash_share = self.rng.choice([0.0, 0.2])
        self.deeds = Deeds()
        self.undone: set[tuple[Path, str]] = set()
        """The homes, with the sessions, that were put back before they wrote there, and those that purged them."""
        self.purged: set[tuple[Path, str]] = set()
        self.sent: set[int] = set()
        self.lost: set[int] = set()

    def step(self, name: str) -> None:
        if name.startswith("identity.") and self.rng.random() < self.crash_share:
            raise Crash


class Home:
    """A database, its engine, and what its person did."""

    def __init__(self, path: Path, world: World) -> None:
        self.path, self.world = path, world
        self.captured = 0
        self.skew_ms = world.rng.choice([0, -50, 50, 86_400_000])
        self.acts: set[int] = set()
        self.open()

    def open(self) -> None:
        self.store = Store(self.path, now_ms=self._now, random=self._random)
        self.engine = VaultEngine(
            self.store,
            MemoryRemote(peer_of=self.world.remote),
            vault=VAULT_ID,
            keyring=KEYRING,
            now_ms=self._now,
            draw=self.world.rng.randbytes,
            beside=directly,
        )

    def copied(self, path: Path) -> Home:
        """Another home that begins as this one stands."""
        self.copy_to(path)
        made = Home(path, self.world)
        made.acts, made.captured = set(self.acts), self.captured
        return made

    def copy_to(self, path: Path) -> None:
        target = dbapi.connect(str(path))
        self.store.connection.backup(target)
        target.close()

    def put_back(self, path: Path, acts: set[int]) -> None:
        """Replace the database by an older copy: what was written since and not published is gone."""
        self.store.close()
        for end in ("-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        shutil.copy(path, self.path)
        gone = self.acts - acts
        self.world.lost |= gone - self.world.sent
        self.world.undone |= {
            (self.path, session) for action in gone for session, _ in self.world.deeds.acts[action].written
        }
        self.acts = set(acts)
        self.open()

    def act(self) -> None:
        """One write, and what it replaced and hid."""
        write, edits = self._drawn()
        self.acts.add(self.world.deeds.act(self.store, write, edits=edits))

    def _drawn(self) -> tuple[Write, Field | None]:
        store, rng = self.store, self.world.rng
        session = rng.choice(SESSIONS)
        row, choice = store.find(session), rng.random()
        rows = [] if row is None else list(store.message_rows(row.no))
        if row is None or row.hidden or choice < 0.5:
            return lambda *_: step(self, rng), None  # pyright: ignore[reportArgumentType]  all that it asks for is here
        if choice < 0.62:
            return lambda store, at: store.update(session, fields={"title": edit_text(at)}), (session, None, "title")
        if choice < 0.75 and rows:
            message = rng.choice(rows).id
            edited: Write = lambda store, at: store.edit_message(session, message, {"content": edit_text(at)})  # noqa: E731
            return edited, (session, message, "content")
        ways: list[tuple[float, Write]] = [
            (0.9, lambda store, at: store.append(session, NewMessage(role="user", content=f"said {at}"))),
            (0.93 if rows else 0, lambda store, _: purge_message(store, session, rng.choice(rows).id)),
            (0.95, lambda store, _: self._purge(store, session)),
            (0.97, lambda store, _: purge_history(store, session)),
            (1, lambda *_: None),
        ]
        return next(write for upto, write in ways if choice < upto), None

    def _purge(self, store: Store, session: str) -> None:
        purge_session(store, session)
        self.world.purged.add((self.path, session))

    async def sync(self, part: str = "sync") -> bool:
        try:
            report = await getattr(self.engine, part)()
        except Crash:
            self.store.close()
            self.open()
            return False
        if part in ("sync", "push") and not report.pending_segments and not report.problems:
            self.world.sent |= self.acts
        return report.complete

    def _now(self) -> int:
        return self.world.now_ms + self.skew_ms

    def _random(self, length: int) -> str:
        return "".join(self.world.rng.choices("abcdefghij", k=length))


async def live(world: World, homes: list[Home], folder: Path) -> None:
    """Let everything happen, and then let everybody hear of everything."""
    rng = world.rng
    copies: list[tuple[Home, Path, set[int]]] = []
    for at in range(rng.randint(15, 60)):
        world.now_ms += rng.choice([1, 20, 6_000, 400_000])
        home, choice = rng.choice(homes), rng.random()
        if choice < 0.5:
            home.act()
        elif choice < 0.56:
            home.copy_to(folder / f"{at}.copy")
            copies.append((home, folder / f"{at}.copy", set(home.acts)))
        elif choice < 0.6 and len(homes) < 5:
            homes.append(home.copied(folder / f"{at}.db"))
        elif choice < 0.64 and copies:
            home, path, acts = rng.choice(copies)
            home.put_back(path, acts)
        elif choice < 0.68:
            await home.sync("tend")
        else:
            await home.sync("sync" if world.looks_first else rng.choice(["sync", "push", "pull"]))
    world.crash_share = 0
    complete = [False]
    for _ in range(6):
        world.now_ms += 3_600_000
        complete = [await home.sync() for home in homes]
    assert all(complete)


def check(world: World, homes: list[Home], seed: int) -> None:
    """What must be true of every schedule."""
    states = [state(home.store) for home in homes]
    assert all(each == states[0] for each in states), f"seed {seed}: devices differ"
    deeds, store = world.deeds, homes[0].store
    known = deeds.acts.keys() - (world.lost - world.sent)
    kept = {message for _, message in here(store)}
    lost = {each for each in deeds.lost(store, known) - deeds.gone if each[1] not in kept and each[1] not in NATIVE}
    # Of a session that somebody purges unknowingly the writer keeps its messages, if there still is that writer, and
    # if it was not the one who purged when it had forgotten them.
    writers = {device for home in homes for device in (home.store.device, *home.store.former_devices)}
    forgotten = {session for _, session in world.undone & world.purged}
    lost = {each for each in lost if deeds.authors[each] in writers and each[0] not in forgotten}
    assert lost == set(), f"seed {seed}: messages are lost: {lost}"
    if world.looks_first:
        hidden = {each for each in deeds.swallowed(store) if each[1] not in NATIVE}
        assert hidden == set(), f"seed {seed}: a deletion swallowed what its writer had not seen"
    assert twice(store) == set(), f"seed {seed}: messages are doubled"
    gone = deeds.forgotten(store, known)
    assert gone == set(), f"seed {seed}: {gone} are gone, and nobody replaced them knowingly"
    _check_logs(world, homes, seed)


def twice(store: Store) -> set[str]:
    """The texts that stand more than once, each time as another message."""
    sql = "SELECT content FROM messages WHERE content LIKE 'said %' GROUP BY content HAVING count(DISTINCT id) > 1"
    return {content for (content,) in store.execute(sql)}


def _check_logs(world: World, homes: list[Home], seed: int) -> None:
    covered: dict[str, Ranges] = {}
    for name in filter(None, map(SegmentName.parse, world.remote.objects)):
        covered[name.device] = covered.get(name.device, Ranges()).add(name.first, name.last)
    for device, ranges in covered.items():
        assert ranges.holes == [], f"seed {seed}: the log of {device} does not tile"
    for home in homes:
        for table in ("waiting", "gaps", "outbox"):
            assert home.store.one(f"SELECT count(*) FROM {table}")[0] == 0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="steno-identity-", dir=memory if os.access(memory, os.W_OK) else None))
    Store(made / "empty.db").close()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def simulated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def run(seed: int) -> None:
        world = World(seed)
        for module in (intake, sending, lease):
            monkeypatch.setattr(module, "step", world.step)
        monkeypatch.setattr(sending, "SEGMENT_BYTES", world.rng.choice([200, 1000, 1 << 22]))
        monkeypatch.setattr(compaction, "FAN_IN", world.rng.choice([2, 3, 8]))
        monkeypatch.setattr(compaction, "GROWTH", world.rng.choice([1, 4]))
        place = folder / str(seed)
        place.mkdir()
        homes = [_home(folder / "empty.db", place / f"{name}.db", name, world) for name in "abc"[: 2 + seed % 2]]
        try:
            asyncio.run(live(world, homes, place))
            check(world, homes, seed)
        finally:
            for home in homes:
                home.store.close()
            shutil.rmtree(place)

    return run


def _home(empty: Path, path: Path, name: str, world: World) -> Home:
    shutil.copy(empty, path)
    with Store(path) as store, store.transaction():
        store.set_meta("device", name * 12)
        store.set_meta("store", name * 8)
        store.execute("UPDATE devices SET id = ? WHERE no = 0", (name * 12,))
    return Home(path, world)


@pytest.mark.parametrize("start", range(0, SCHEDULES, 40))
def test_copied_and_restored_homes_end_equal_and_lose_nothing(simulated: Callable[[int], None], start: int):
    for seed in range(start, start + 40):
        simulated(seed)


# Broken rules


class _KnowsAsBefore(restamping._Restamping):
    """What was claimed to be known of the old id stays claimed."""

    def _known(self, known: Known, back: Known) -> Known:
        return {**super()._known(known, back), **known}


class _KeepsStamps(restamping._Restamping):
    """Only what is written from now on has the new id."""

    def run(self) -> None:
        pass


class _KeepsBirths(restamping._Restamping):
    """Messages stay under the old id."""

    def _bear(self, row: Any) -> bool:
        return row is None


def _catches_up_although_written(*_: Any) -> bool:
    return False


def _never_looks(strange: Any, *, have: Ranges, **_: Any) -> Verdict:
    return Verdict("same", have.last)


_RESTAMPING = (restamping, "_Restamping")
MUTANTS: list[tuple[Any, str, Any, int]] = [
    (*_RESTAMPING, _KnowsAsBefore, 10),
    (*_RESTAMPING, _KeepsStamps, 10),
    (*_RESTAMPING, _KeepsBirths, 176),
    (lease, "is_written_since", _catches_up_although_written, 10),
    (lease, "decide", _never_looks, 0),
]
"""Where a rule stands, what takes its place, and the first seed that fails."""


@pytest.mark.parametrize(("module", "name", "mutant", "seed"), MUTANTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_broken_rule_is_caught(
    simulated: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutant: Any, seed: int
):
    simulated(seed)
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises(AssertionError):
        simulated(seed)
