"""What this device remembers of a vault: sent, about to be sent, applied, set aside.

The intent to publish is committed with the sealed bytes before the first byte leaves, so a
retry sends the same bytes under the same name; the range of a segment is recorded in the
transaction of its last slice (tests/e2e/test_crash.py kills between them).
"""

from __future__ import annotations

import msgspec

from ...storage.store import Store
from .names import SegmentName
from .ranges import Cursor, Ranges


class Intent(msgspec.Struct, frozen=True):
    """A sealed segment that was decided and is not yet acknowledged."""

    number: int
    name: str
    sealed: bytes


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

    @property
    def position(self) -> tuple[int, int]:
        """Up to where the feed was read for publishing, and the number that the present run started behind."""
        return self.store.cursor(f"push:{self.vault}"), self.store.cursor(f"push-floor:{self.vault}")

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

    def move(self, seq: int, *, complete: bool, intent: Intent | None = None) -> None:
        """Keep an intent, and that the feed was read up to ``seq``, durably and together."""
        store = self.store
        before = store.one("PRAGMA synchronous")[0]
        store.execute("PRAGMA synchronous = FULL")
        try:
            with store.transaction():
                if intent is not None:
                    store.execute(
                        "INSERT INTO outbox VALUES (?, ?, ?, ?, ?)",
                        (self.vault, intent.number, intent.name, intent.sealed, seq),
                    )
                store.set_cursor(f"push:{self.vault}", seq)
                if complete:
                    store.set_cursor(f"push-floor:{self.vault}", seq)
        finally:
            store.execute(f"PRAGMA synchronous = {before}")

    def acknowledge(self, intent: Intent) -> None:
        """The remote has it."""
        with self.store.transaction():
            self.store.execute("DELETE FROM outbox WHERE vault = ? AND number = ?", (self.vault, intent.number))
            name = SegmentName.parse(intent.name)
            if name is not None:
                self.record(name, gapless_clock=0)

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

    def keep_gaps(self, devices_with_holes: set[str]) -> None:
        """Tell the store up to where it knows those devices, for what a deletion says that it knew."""
        known = dict(self.store.execute("SELECT device, clock FROM gaps").fetchall())
        clocks = dict(
            self.store.execute("SELECT device, gapless_clock FROM logs WHERE vault = ?", (self.vault,)).fetchall()
        )
        gaps = {device: clocks.get(device, 0) for device in devices_with_holes}
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
        """The names of the objects that are applied or published here."""
        rows = self.store.execute("SELECT name FROM objects WHERE vault = ? AND problem = ''", (self.vault,))
        return {name for (name,) in rows.fetchall()}

    def set_aside(self, name: str, problem: str, *, now_ms: int) -> None:
        """Remember that an object does not open."""
        with self.store.transaction():
            self.store.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?) "
                "ON CONFLICT (vault, name) DO UPDATE SET problem = excluded.problem",
                (self.vault, name, problem, now_ms),
            )

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
