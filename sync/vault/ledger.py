"""What this device remembers of a vault: sent, about to be sent, applied, set aside.

The intent to publish is committed with the sealed bytes before the first byte leaves, so a
retry sends the same bytes under the same name; the range of a segment is recorded in the
transaction of its last slice (tests/e2e/test_crash.py kills between them).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from hashlib import sha256

import msgspec

from ...storage.change import StandsFor
from ...storage.identity import Moment, moment
from ...storage.store import Store
from .names import LOG, SegmentName
from .plan import Healed
from .ranges import Cursor, Ranges

HASH_BYTES = 8

Healing = tuple[StandsFor, int]
"""What is to be stood for, and the number of the last session that was published for it; 0 for none yet."""

_INTENDED, _THERE, _REPLACED, _DELETED = range(4)


def hash_of(session: str) -> bytes:
    """What stands for the id of a session among the `Segment.sessions`."""
    return sha256(session.encode()).digest()[:HASH_BYTES]


def hashes_of(sessions: Iterable[str]) -> bytes:
    """The `Segment.sessions` of some ids."""
    return b"".join(sorted({hash_of(session) for session in sessions}))


class Intent(msgspec.Struct, frozen=True):
    """A sealed segment that was decided and is not yet acknowledged."""

    number: int
    name: str
    sealed: bytes


class Segment(msgspec.Struct, frozen=True):
    """A segment under our own id: its name, the bytes of its content, its key's id, and hashes of the sessions in it.

    ``seq`` is the feed's number when the content was made. ``sessions`` is None where it is not known what it holds.
    """

    name: str
    content_bytes: int
    key: str
    seq: int
    sessions: bytes | None

    def names_any(self, hashes: Collection[bytes]) -> bool:
        """Say whether something of one of these sessions (`hash_of` their ids) may stand in it."""
        if self.sessions is None:
            return True
        here = self.sessions
        return any(here[at : at + HASH_BYTES] in hashes for at in range(0, len(here), HASH_BYTES))


class Mark(msgspec.Struct, frozen=True):
    """Where this store stood when a number of its log was given: here, or by another store, as it learned later."""

    made_here: bool
    moment: Moment
    floor: int


class Standing(msgspec.Struct, frozen=True):
    """What the last look at a remote left to be said."""

    problems: list[str] = []
    notes: list[str] = []


_NOTHING_STANDS = msgspec.json.encode(Standing()).decode()


def standing(store: Store, vault: str) -> Standing:
    """What the last look at a vault's remote left to be said."""
    return msgspec.json.decode(store.meta(f"standing:{vault}") or _NOTHING_STANDS, type=Standing)


class Problem(msgspec.Struct, frozen=True):
    """An object that was set aside."""

    name: str
    problem: str
    since_ms: int


_decode_mark = msgspec.json.Decoder(Mark).decode


class Ledger:
    """The records of one vault in the store's own database."""

    def __init__(self, store: Store, vault: str) -> None:
        self.store = store
        self.vault = vault
        self._healed, self._lost, self._healing = f"healed:{vault}", f"lost:{vault}", f"healing:{vault}"

    @property
    def position(self) -> tuple[int, int]:
        """Up to where the feed was read for publishing, and the number that the present run started behind."""
        return self.store.cursor(f"push:{self.vault}"), self.store.cursor(f"push-floor:{self.vault}")

    @property
    def owes_sign(self) -> bool:
        """Whether a new key is to be shown to the other devices by a segment, though it may hold nothing."""
        return bool(self.store.meta(f"sign:{self.vault}"))

    def owe_sign(self) -> None:
        """Let the next push send a segment in any case: devices that cannot open it look for a new key."""
        with self.store.transaction():
            self.store.set_meta(f"sign:{self.vault}", "1")

    def pending(self) -> list[Intent]:
        """The intents, oldest first."""
        rows = self.store.execute(
            "SELECT number, name, sealed FROM outbox WHERE vault = ? ORDER BY number", (self.vault,)
        )
        return [Intent(*row) for row in rows.fetchall()]

    def pending_count(self) -> int:
        """How many segments are decided and not acknowledged."""
        return self.store.one("SELECT count(*) FROM outbox WHERE vault = ?", (self.vault,))[0]

    def next_number(self, device: str) -> int:
        """The number of the next publication."""
        row = self.store.one("SELECT max(number) FROM outbox WHERE vault = ?", (self.vault,))
        return max(self.cursor().of(device).last, row[0] or 0) + 1

    def move(
        self, seq: int, *, complete: bool, intent: Intent | None = None, segment: Segment | None = None, now_ms: int = 0
    ) -> None:
        """Keep an intent, and that the feed was read up to ``seq``, durably and together."""
        store = self.store
        with self._durably():
            if intent is not None and segment is not None:
                store.execute(
                    "INSERT INTO outbox VALUES (?, ?, ?, ?, ?)",
                    (self.vault, intent.number, intent.name, intent.sealed, seq),
                )
                self._announce(segment, now_ms)
                store.execute("DELETE FROM meta WHERE key = ?", (f"sign:{self.vault}",))
            store.set_cursor(f"push:{self.vault}", seq)
            if complete:
                store.set_cursor(f"push-floor:{self.vault}", seq)
            if intent is not None:
                self.mark(intent.number, made_here=True)

    def intend(
        self, intent: Intent, segment: Segment, *,
        now_ms: int, target: SegmentName, stands_for: StandsFor, writers: Collection[str], healing: Healing | None,
    ) -> None:  # fmt: skip
        """Keep an intent to publish what is known already, durably; the feed stays where it was read.

        ``healing`` is how far that is, None with the last: what is cut short again and again comes to its end.
        """
        with self._durably():
            self.met(target.device, writers)
            if healing is None:
                self.store.execute("DELETE FROM meta WHERE key = ?", (self._healing,))
            elif healing[1]:
                self.store.set_meta(self._healing, msgspec.json.encode(healing).decode())
            if stands_for:
                self.stand_in(target, stands_for)
            self.store.execute(
                "INSERT INTO outbox VALUES (?, ?, ?, ?, ?)",
                (self.vault, intent.number, intent.name, intent.sealed, segment.seq),
            )
            self._announce(segment, now_ms)
            self.mark(intent.number, made_here=True)

    def acknowledge(self, intent: Intent) -> None:
        """The remote has it."""
        with self.store.transaction():
            self.store.execute("DELETE FROM outbox WHERE vault = ? AND number = ?", (self.vault, intent.number))
            self._set_state(intent.name, _THERE)
            name = SegmentName.parse(intent.name)
            if name is not None:
                self.record(name, gapless_clock=0)

    # Our own segments

    def announce(self, segment: Segment, *, now_ms: int) -> None:
        """Remember the name of a segment that is about to be put, durably: it is ours, whatever becomes of it."""
        with self._durably():
            self._announce(segment, now_ms)

    def replaced(self, by: str, names: Iterable[str], *, now_ms: int) -> None:
        """One segment stands for others now, which may be deleted."""
        with self.store.transaction():
            self._set_state(by, _THERE)
            for name in names:
                self._set_state(name, _REPLACED, since_ms=now_ms)

    def deleted(self, name: str, *, now_ms: int) -> None:
        """A segment is gone from the remote; its name stays known, since a listing may still show it."""
        with self.store.transaction():
            self._set_state(name, _DELETED, since_ms=now_ms)

    def take_up(self, listing: Iterable[str], *, before_ms: int) -> None:
        """Let segments of ours that were deleted before a time and are listed stand again.

        A remote was put back to what it had been, or took a PUT long after: what was purged may be in them.
        """
        own = [name for name in listing if name.startswith(f"{LOG}{self.store.device}.")]
        sql = (
            "SELECT name FROM published WHERE vault = ? AND state = ? AND since_ms < ? "
            "AND name IN (SELECT value FROM json_each(?))"
        )
        paths = msgspec.json.encode(own).decode()
        again = [name for (name,) in self.store.execute(sql, (self.vault, _DELETED, before_ms, paths)).fetchall()]
        if not again:
            return
        with self.store.transaction():
            for path in again:
                self._set_state(path, _THERE)
            self.store.set_cursor(f"scrubbed:{self.vault}", 0)

    def standing(self) -> list[Segment]:
        """Our segments that stand on the remote and are not replaced."""
        rows = self.store.execute(
            "SELECT name, content_bytes, key, seq, sessions FROM published WHERE vault = ? AND state = ? ORDER BY name",
            (self.vault, _THERE),
        )
        return [Segment(*row) for row in rows.fetchall()]

    def to_delete(self, *, before_ms: int) -> list[str]:
        """Our segments that were replaced before a time, and those whose replacing was never finished."""
        rows = self.store.execute(
            "SELECT name FROM published WHERE vault = ? AND (state = ? AND since_ms < ? OR state = ? AND name NOT IN "
            "(SELECT name FROM outbox WHERE vault = ?)) ORDER BY name",
            (self.vault, _REPLACED, before_ms, _INTENDED, self.vault),
        )
        return [name for (name,) in rows.fetchall()]

    @property
    def scrubbed(self) -> int:
        """Up to where in the feed what was purged is gone from our segments on the remote."""
        return self.store.cursor(f"scrubbed:{self.vault}")

    def set_scrubbed(self, seq: int) -> None:
        """Keep up to where it is gone."""
        with self.store.transaction():
            self.store.set_cursor(f"scrubbed:{self.vault}", seq)

    def given_up(self, names: Collection[str]) -> list[str]:
        """Those of some segments that are ours and for which others stand now."""
        sql = "SELECT name FROM published WHERE vault = ? AND state = ?"
        rows = self.store.execute(sql, (self.vault, _DELETED)).fetchall()
        return sorted(name for (name,) in rows if name in names)

    def _announce(self, segment: Segment, now_ms: int) -> None:
        self.store.execute(
            "INSERT INTO published VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.vault, segment.name, _INTENDED, now_ms, segment.content_bytes, segment.key,
                segment.seq, segment.sessions,
            ),
        )  # fmt: skip

    def _set_state(self, name: str, state: int, *, since_ms: int = 0) -> None:
        self.store.execute(
            "UPDATE published SET state = ?, since_ms = max(since_ms, ?) WHERE vault = ? AND name = ?",
            (state, since_ms, self.vault, name),
        )

    @contextmanager
    def _durably(self) -> Generator[None]:
        """A transaction that is on the disk when it ends."""
        store = self.store
        before = store.one("PRAGMA synchronous")[0]
        store.execute("PRAGMA synchronous = FULL")
        try:
            with store.transaction():
                yield
        finally:
            store.execute(f"PRAGMA synchronous = {before}")

    # The id under which they stand

    def marks(self) -> dict[int, Mark]:
        """Where this store stood, by numbers of its log; not of each that another store gave."""
        rows = self.store.execute("SELECT key, value FROM meta WHERE key GLOB 'given-*:' || ?", (self.vault,))
        return {int(key[6 : key.index(":")]): _decode_mark(value) for key, value in rows.fetchall()}

    def made_here(self) -> list[SegmentName]:
        """The segments under our id that this store made itself, and did not delete."""
        rows = self.store.execute(
            "SELECT name FROM published WHERE vault = ? AND state != ? AND key != ''", (self.vault, _DELETED)
        )
        return [name for (path,) in rows.fetchall() if (name := SegmentName.parse(path)) is not None]

    def adopt(
        self, name: SegmentName, content_bytes: int, sessions: list[str] | None, *, listed: Collection[str]
    ) -> None:
        """A segment under our id is ours that another store published. In a transaction.

        Ours for which it stands are replaced by it; of those that are ``listed`` no more it had been made.
        """
        hashes = None if sessions is None else hashes_of(sessions)
        self.store.execute(
            "INSERT OR IGNORE INTO published VALUES (?, ?, ?, 0, ?, '', 0, ?)",
            (self.vault, name.path, _THERE, content_bytes, hashes),
        )
        for (path,) in self.store.execute(
            "SELECT name FROM published WHERE vault = ? AND state != ?", (self.vault, _DELETED)
        ).fetchall():
            ours = SegmentName.parse(path)
            if ours is not None and name.first <= ours.first and ours.last <= name.last and ours.level < name.level:
                self._set_state(path, _REPLACED if path in listed else _DELETED)

    def mark(self, number: int, *, made_here: bool) -> None:
        """Remember where this store stands while a number of its log is given. In a transaction."""
        seq, floor = self.position
        mark = Mark(made_here, moment(self.store, seq), floor)
        self.store.set_meta(f"given-{number:012d}:{self.vault}", msgspec.json.encode(mark).decode())

    def leave(self, device: str, *, agreed: int, clock: int, seq: int, floor: int) -> None:
        """The log under our id is another store's behind a number, and we publish anew what is behind ``seq``.

        ``clock`` is the newest stamp of that log that we know up to this number. Needs a transaction.
        """
        store, vault = self.store, (self.vault,)
        kept = []
        for path in [*self.applied()]:
            name = SegmentName.parse(path)
            if name is not None and name.device == device:
                kept += [(self.vault, path)] if name.last <= agreed else []
                store.execute("DELETE FROM objects WHERE vault = ? AND name = ?", (self.vault, path))
        store.executemany("INSERT INTO objects VALUES (?, ?, '', 0)", kept)
        store.execute("DELETE FROM logs WHERE vault = ? AND device = ?", (self.vault, device))
        if agreed:
            ranges = msgspec.json.encode(Ranges.of((1, agreed)).to_json()).decode()
            store.execute("INSERT INTO logs VALUES (?, ?, ?, ?)", (self.vault, device, ranges, clock))
        for table in ("outbox", "published"):
            store.execute(f"DELETE FROM {table} WHERE vault = ?", vault)  # noqa: S608
        store.execute("DELETE FROM meta WHERE key GLOB 'given-*:' || ?", vault)
        store.set_cursor(f"push:{self.vault}", seq)
        store.set_cursor(f"push-floor:{self.vault}", floor)

    # What other devices say of themselves

    def peers(self) -> list[tuple[str, int, bytes]]:
        """The records of devices that were last read: device, number, content."""
        sql = "SELECT device, n, record FROM peers WHERE vault = ? ORDER BY device"
        return self.store.execute(sql, (self.vault,)).fetchall()

    def keep_peer(self, device: str, n: int, content: bytes) -> None:
        """Keep the newest record of a device."""
        with self.store.transaction():
            self.store.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)", (self.vault, device, n, content))

    # What is applied, and what could not be

    def record(self, name: SegmentName, *, gapless_clock: int) -> None:
        """A segment is applied, or published. ``gapless_clock`` is the newest of its device's own stamps in it."""
        ranges = self.cursor().of(name.device)
        contiguous = ranges.first_missing >= name.first
        ranges = ranges.add(name.first, name.last)
        self.store.execute(
            "INSERT INTO logs VALUES (?, ?, ?, ?) ON CONFLICT (vault, device) DO UPDATE SET ranges = excluded.ranges, "
            "gapless_clock = max(gapless_clock, excluded.gapless_clock)",
            (
                self.vault,
                name.device,
                msgspec.json.encode(ranges.to_json()).decode(),
                gapless_clock if contiguous else 0,
            ),
        )
        self.store.execute(
            "INSERT INTO objects VALUES (?, ?, '', 0) ON CONFLICT (vault, name) DO UPDATE SET problem = ''",
            (self.vault, name.path),
        )
        if not contiguous:
            # At once: a deletion made before this pull has ended must not seem to know what lies in the hole.
            self.store.execute(
                "INSERT OR IGNORE INTO gaps SELECT device, gapless_clock FROM logs WHERE vault = ? AND device = ?",
                (self.vault, name.device),
            )

    def stand_in(self, name: SegmentName, stands_for: StandsFor) -> None:
        """A segment is applied, or published, that stands for publications which the remote lost. In a transaction."""
        healed = [*self.healed(), Healed(name.device, name.first, name.last, stands_for)]
        self.store.set_meta(self._healed, msgspec.json.encode(healed).decode())
        for device, spans in stands_for.items():
            ranges = self.cursor().of(device) | Ranges.of(*spans)
            self.store.execute(
                "INSERT INTO logs VALUES (?, ?, ?, 0) "
                "ON CONFLICT (vault, device) DO UPDATE SET ranges = excluded.ranges",
                (self.vault, device, msgspec.json.encode(ranges.to_json()).decode()),
            )

    def healed(self) -> list[Healed]:
        """What stands for publications that the remote lost."""
        found = self.store.meta(self._healed)
        return msgspec.json.decode(found, type=list[Healed]) if found else []

    def healing(self, stands_for: StandsFor) -> int:
        """The number of the last session that was published to stand for these; 0 where none was yet."""
        found = msgspec.json.decode(self.store.meta(self._healing) or "[{},0]", type=Healing)
        return found[1] if found[0] == stands_for else 0

    def writers(self, publishers: Collection[str]) -> set[str]:
        """The devices of whose writing something stood in what some devices published: mostly they themselves."""
        found = self._writers()
        return {writer for publisher in publishers for writer in (publisher, *found.get(publisher, ()))}

    def met(self, publisher: str, writers: Collection[str]) -> None:
        """A device published what these wrote. In a transaction."""
        found = self._writers()
        more = set(writers) - {publisher, *found.get(publisher, ())}
        if more:
            found[publisher] = sorted({*found.get(publisher, ()), *more})
            self.store.set_meta(f"writers:{self.vault}", msgspec.json.encode(found).decode())

    def _writers(self) -> dict[str, list[str]]:
        found = self.store.meta(f"writers:{self.vault}")
        return msgspec.json.decode(found, type=dict[str, list[str]]) if found else {}

    def lost(self, names: Collection[str], *, due_ms: int) -> dict[str, int]:
        """Remember which segments are gone from the remote, and no others; when each is to be healed.

        ``due_ms`` is when those are that are gone only now.
        """
        found = self.store.meta(self._lost)
        before = msgspec.json.decode(found, type=dict[str, int]) if found else {}
        lost = {name: before.get(name, due_ms) for name in names}
        if lost != before:
            with self.store.transaction():
                self.store.set_meta(self._lost, msgspec.json.encode(lost).decode())
        return lost

    def give_up(self, names: Iterable[str]) -> None:
        """Forget segments for which others stand now."""
        with self.store.transaction():
            for name in names:
                self.store.execute("DELETE FROM objects WHERE vault = ? AND name = ?", (self.vault, name))
                self._set_state(name, _DELETED)

    def let_go(self, name: SegmentName) -> bool:
        """Give up a segment for which another device stands, or others of ours; False where nothing does."""
        spans = [span for each in self.healed() for span in each.stands_for.get(name.device, [])]
        others = (SegmentName.parse(each.name) for each in self.standing() if each.name != name.path)
        spans += [(each.first, each.last) for each in others if each is not None]
        if not Ranges.of(*spans).covers(name.first, name.last):
            return False
        self.give_up([name.path])
        return True

    def keep_gaps(self, devices_with_holes: Collection[str], *, unsure: Collection[str]) -> None:
        """Tell the store up to where it knows those devices, for what a deletion says that it knew.

        Of those that are ``unsure`` anything may be missing.
        """
        known = dict(self.store.execute("SELECT device, clock FROM gaps").fetchall())
        clocks = dict(
            self.store.execute("SELECT device, gapless_clock FROM logs WHERE vault = ?", (self.vault,)).fetchall()
        )
        gaps = {device: clocks.get(device, 0) for device in devices_with_holes} | dict.fromkeys(unsure, 0)
        if gaps == known:
            return
        with self.store.transaction():
            self.store.execute("DELETE FROM gaps")
            self.store.executemany("INSERT INTO gaps VALUES (?, ?)", sorted(gaps.items()))

    def cursor(self) -> Cursor:
        """What is applied of every device's log, our own included."""
        rows = self.store.execute("SELECT device, ranges FROM logs WHERE vault = ?", (self.vault,)).fetchall()
        return Cursor({device: Ranges.from_json(msgspec.json.decode(ranges)) for device, ranges in rows})

    def applied(self) -> set[str]:
        """The names of the objects that are applied, or published here, or about to be."""
        sql = (
            "SELECT name FROM objects WHERE vault = ?1 AND problem = '' "
            "UNION SELECT name FROM published WHERE vault = ?1"
        )
        return {name for (name,) in self.store.execute(sql, (self.vault,)).fetchall()}

    def set_aside(self, name: str, problem: str, *, now_ms: int) -> None:
        """Remember that an object does not open."""
        with self.store.transaction():
            self.store.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?) "
                "ON CONFLICT (vault, name) DO UPDATE SET problem = excluded.problem",
                (self.vault, name, problem, now_ms),
            )

    def keep_standing(self, problems: list[str], *, notes: list[str]) -> None:
        """Keep what the last look at the remote left to be said, for whoever asks when nobody looks."""
        key, said = f"standing:{self.vault}", msgspec.json.encode(Standing(problems, notes)).decode()
        if (self.store.meta(key) or _NOTHING_STANDS) != said:
            with self.store.transaction():
                self.store.set_meta(key, said)

    def forget_vault(self) -> None:
        """Forget all that is remembered of the vault: for one that is there no more."""
        with self.store.transaction():
            for table in ("outbox", "logs", "objects", "published", "peers"):
                self.store.execute(f"DELETE FROM {table} WHERE vault = ?", (self.vault,))  # noqa: S608
            for table, named in (("cursors", "name"), ("meta", "key")):
                self.store.execute(f"DELETE FROM {table} WHERE {named} GLOB '*:' || ?", (self.vault,))  # noqa: S608

    def problems(self) -> list[Problem]:
        """The objects that are set aside."""
        rows = self.store.execute(
            "SELECT name, problem, since_ms FROM objects WHERE vault = ? AND problem != '' ORDER BY name", (self.vault,)
        )
        return [Problem(*row) for row in rows.fetchall()]

    def forget(self, names: set[str]) -> None:
        """Forget the objects that were set aside and are no longer there."""
        with self.store.transaction():
            self.store.executemany(
                "DELETE FROM objects WHERE vault = ? AND name = ? AND problem != ''",
                [(self.vault, name) for name in names],
            )
