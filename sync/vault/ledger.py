"""What this device has of a vault: what is applied of every log, what is set aside, what others say of themselves.

The range of a segment is recorded in the transaction of its last slice (tests/e2e/test_crash.py kills between them).
What this device publishes itself stands in `own_log`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import msgspec

from ...storage.change import StandsFor
from ...storage.store import Store
from .names import LOG, SegmentName
from .plan import Healed
from .ranges import Cursor, Range, Ranges

WORTH_FORGETTING = 256
INTENDED, THERE, REPLACED, DELETED = range(4)
"""How a segment of our own stands."""


class Standing(msgspec.Struct, frozen=True):
    """What the last look at a remote left to be said; ``failure`` is why the last one came to nothing, if it did."""

    problems: list[str] = []
    notes: list[str] = []
    failure: str | None = None


_NOTHING_STANDS = msgspec.json.encode(Standing()).decode()


def standing(store: Store, vault: str) -> Standing:
    """What the last look at a vault's remote left to be said."""
    return msgspec.json.decode(store.meta(f"standing:{vault}") or _NOTHING_STANDS, type=Standing)


class Problem(msgspec.Struct, frozen=True):
    """An object that was set aside."""

    name: str
    problem: str
    since_ms: int


class Ledger:
    """The records of one vault in the store's own database."""

    def __init__(self, store: Store, vault: str) -> None:
        self.store = store
        self.vault = vault
        self._healed, self._lost = f"healed:{vault}", f"lost:{vault}"

    # What other devices say of themselves

    def peers(self) -> list[tuple[str, int, bytes]]:
        """The records of devices that were last read: device, number, content."""
        sql = "SELECT device, n, record FROM peers WHERE vault = ? ORDER BY device"
        return self.store.execute(sql, (self.vault,)).fetchall()

    def keep_peer(self, device: str, n: int, content: bytes) -> None:
        """Keep the newest record of a device; another process may have read one that is newer."""
        with self.store.transaction():
            self.store.execute(
                "INSERT INTO peers VALUES (?, ?, ?, ?) ON CONFLICT (vault, device) "
                "DO UPDATE SET n = excluded.n, record = excluded.record WHERE excluded.n >= n",
                (self.vault, device, n, content),
            )

    @property
    def has_met_purge(self) -> bool:
        """Whether others told of a purge since this device last said what it has read."""
        return bool(self.store.meta(f"purge-met:{self.vault}"))

    def meet_purge(self) -> None:
        """Remember that others told of a purge. In a transaction."""
        self.store.set_meta(f"purge-met:{self.vault}", "1")

    def purge_said(self) -> None:
        """It was said that this is read, and taken out."""
        with self.store.transaction():
            self.store.execute("DELETE FROM meta WHERE key = ?", (f"purge-met:{self.vault}",))

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
        cursor = self.cursor()
        unread = {
            device: missing
            for device, spans in stands_for.items()
            if (missing := [left for span in spans for left in cursor.of(device).missing(*span)])
        }
        healed = [*self.healed(), Healed(name.device, name.first, name.last, stands_for, unread)]
        self.store.set_meta(self._healed, msgspec.json.encode(healed).decode())
        for device, spans in stands_for.items():
            ranges = cursor.of(device) | Ranges.of(*spans)
            self.store.execute(
                "INSERT INTO logs VALUES (?, ?, ?, 0) "
                "ON CONFLICT (vault, device) DO UPDATE SET ranges = excluded.ranges",
                (self.vault, device, msgspec.json.encode(ranges.to_json()).decode()),
            )
        doubtful = [device for device, spans in unread.items() if not self.vouched().of(device).covers(*spans[0])]
        # At once, as for a hole: what it stands for is said before it, and that may be what is missing.
        self.store.executemany("INSERT OR REPLACE INTO gaps VALUES (?, 0)", [(device,) for device in doubtful])

    def vouched(self) -> Cursor:
        """What of every log is really here: without what others stand for of whom something is missing.

        That they do counts at once, so that one device heals; but only who has read it can heal it in its turn.
        """
        aside = {name.device for each in self.problems() if (name := SegmentName.parse(each.name)) is not None}
        read: dict[str, Ranges] = {}
        for name in map(SegmentName.parse, self.applied()):
            if name is not None:
                read[name.device] = read.get(name.device, Ranges()).add(name.first, name.last)
        sound, unsound = self.healed(), list[Healed]()
        while True:
            kept = _joined(read, _spans(each.stands_for for each in sound))
            found = _without(self.cursor(), _spans(each.unread for each in unsound), but=kept)
            doubtful = [
                each for each in sound if each.publisher in aside or not found.covers(each.publisher, 1, each.last)
            ]
            if not doubtful:
                return found
            sound = [each for each in sound if each not in doubtful]
            unsound += doubtful

    def healed(self) -> list[Healed]:
        """What stands for publications that the remote lost."""
        found = self.store.meta(self._healed)
        return msgspec.json.decode(found, type=list[Healed]) if found else []

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

    def lost(self, names: Collection[str], *, due_ms: int, latest_ms: int) -> dict[str, int]:
        """Remember which segments are gone from the remote, and no others; when each is to be healed.

        ``due_ms`` is when those are that are gone only now; none is later than ``latest_ms``: a clock was ahead.
        """
        found = self.store.meta(self._lost)
        before = msgspec.json.decode(found, type=dict[str, int]) if found else {}
        lost = {name: due_ms if (due := before.get(name, due_ms)) > latest_ms else due for name in names}
        if lost != before:
            with self.store.transaction():
                self.store.set_meta(self._lost, msgspec.json.encode(lost).decode())
        return lost

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

    def is_applied(self, name: str) -> bool:
        """Say whether an object is applied, or published here, or about to be."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM objects WHERE vault = ?1 AND name = ?2 AND problem = '') "
            "OR EXISTS (SELECT 1 FROM published WHERE vault = ?1 AND name = ?2)"
        )
        return bool(self.store.one(sql, (self.vault, name))[0])

    def applied_of(self, listing: Collection[str]) -> set[str]:
        """Those of `applied` that a listing may show: all but what was deleted from our log and is not listed."""
        own = [name for name in listing if name.startswith(f"{LOG}{self.store.device}.")]
        sql = (
            "SELECT name FROM objects WHERE vault = ?1 AND problem = '' "
            "UNION SELECT name FROM published WHERE vault = ?1 AND state != ?2 "
            "UNION SELECT name FROM published WHERE vault = ?1 AND name IN (SELECT value FROM json_each(?3))"
        )
        rows = self.store.execute(sql, (self.vault, DELETED, msgspec.json.encode(own).decode())).fetchall()
        return {name for (name,) in rows}

    def forget_replaced(self, listing: Collection[str]) -> None:
        """Forget the segments of others that are listed no more and for which one stands that is listed.

        That one is remembered in their place, so that it is missed where it is lost; were they listed again, they
        would be read again. Done where it is worth it.
        """
        sql = "SELECT name FROM objects WHERE vault = ? AND problem = ''"
        gone = {name for (name,) in self.store.execute(sql, (self.vault,)).fetchall()}.difference(listing)
        if len(gone) < WORTH_FORGETTING:
            return
        have, standing = self.cursor(), dict[str, list[SegmentName]]()
        for name in map(SegmentName.parse, listing):
            if name is not None and name.level and have.covers(name.device, name.first, name.last):
                standing.setdefault(name.device, []).append(name)
        replaced: dict[str, str] = {}
        for name in map(SegmentName.parse, gone):
            if name is not None and name.device != self.store.device:
                by = next((each for each in standing.get(name.device, []) if each.stands_for(name)), None)
                replaced |= {} if by is None else {name.path: by.path}
        if not replaced:
            return
        with self.store.transaction():
            delete = "DELETE FROM objects WHERE vault = ? AND name = ? AND problem = ''"
            self.store.executemany(delete, [(self.vault, name) for name in replaced])
            insert = "INSERT OR IGNORE INTO objects VALUES (?, ?, '', 0)"
            self.store.executemany(insert, [(self.vault, name) for name in set(replaced.values())])

    def set_aside(self, name: str, problem: str, *, now_ms: int) -> None:
        """Remember that an object does not open."""
        with self.store.transaction():
            self.store.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT (vault, name) "
                "DO UPDATE SET problem = excluded.problem, since_ms = min(since_ms, excluded.since_ms)",
                (self.vault, name, problem, now_ms),
            )

    def keep_standing(self, problems: list[str], *, notes: list[str]) -> None:
        """Keep what the last look at the remote left to be said, for whoever asks when nobody looks."""
        self._say(Standing(problems, notes))

    def keep_failure(self, line: str) -> None:
        """Keep why the remote could not be looked at, until it can."""
        self._say(msgspec.structs.replace(standing(self.store, self.vault), failure=line))

    def _say(self, stands: Standing) -> None:
        key, said = f"standing:{self.vault}", msgspec.json.encode(stands).decode()
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


def _spans(named: Iterable[StandsFor]) -> dict[str, Ranges]:
    found: dict[str, list[Range]] = {}
    for device, spans in itertools.chain.from_iterable(each.items() for each in named):
        found.setdefault(device, []).extend(spans)
    return {device: Ranges.of(*spans) for device, spans in found.items()}


def _joined(one: dict[str, Ranges], other: dict[str, Ranges]) -> dict[str, Ranges]:
    return {device: one.get(device, Ranges()) | other.get(device, Ranges()) for device in {*one, *other}}


def _without(cursor: Cursor, doubtful: dict[str, Ranges], *, but: dict[str, Ranges]) -> Cursor:
    """A cursor without what is doubtful, apart from some of it."""
    found = dict(cursor)
    for device, ranges in doubtful.items():
        doubted = Ranges.of(*(left for span in ranges.spans for left in but.get(device, Ranges()).missing(*span)))
        kept = [left for span in found.get(device, Ranges()).spans for left in doubted.missing(*span)]
        found[device] = Ranges.of(*kept)
    return Cursor(found)
