"""What this device publishes in a vault: about to be sent, standing on the remote, replaced, given up.

The intent to publish is committed with the sealed bytes before the first byte leaves, so a
retry sends the same bytes under the same name (tests/e2e/test_crash.py kills between them).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256

import msgspec

from ...storage.change import StandsFor
from ...storage.deletion import LAST_PURGE
from ...storage.identity import Moment, moment
from .ledger import DELETED, INTENDED, REPLACED, THERE, Ledger
from .names import LOG, SegmentName
from .ranges import Ranges

HASH_BYTES = 8

Healing = tuple[StandsFor, int]
"""What is to be stood for, and the number of the last session that was published for it; 0 for none yet."""


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


_decode_mark = msgspec.json.Decoder(Mark).decode
_decode_told = msgspec.json.Decoder(tuple[int, int, str]).decode
_NOTHING_TOLD = '[0,0,""]'
_PURGED_HERE = (
    "SELECT EXISTS (SELECT 1 FROM registers r JOIN sessions s ON s.no = r.session "
    "WHERE r.path = 'purged' AND r.local_seq > ? AND NOT s.local_only)"
)


class OwnLog:
    """The records of this device's own log in one vault."""

    def __init__(self, ledger: Ledger) -> None:
        self.store, self.vault = ledger.store, ledger.vault
        self._ledger = ledger
        self._healing = f"healing:{ledger.vault}"

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

    def pending_names(self) -> set[str]:
        """The names of the segments that are decided and not acknowledged."""
        rows = self.store.execute("SELECT name FROM outbox WHERE vault = ?", (self.vault,))
        return {name for (name,) in rows.fetchall()}

    def pending_count(self) -> int:
        """How many segments are decided and not acknowledged."""
        return self.store.one("SELECT count(*) FROM outbox WHERE vault = ?", (self.vault,))[0]

    def next_number(self, device: str) -> int:
        """The number of the next publication."""
        row = self.store.one("SELECT max(number) FROM outbox WHERE vault = ?", (self.vault,))
        return max(self._ledger.cursor().of(device).last, row[0] or 0) + 1

    def move(
        self, seq: int, *, complete: bool, intent: Intent | None = None, segment: Segment | None = None, now_ms: int = 0
    ) -> None:
        """Keep an intent, and that the feed was read up to ``seq``, durably and together."""
        store = self.store
        with self.store.durably():
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
        with self.store.durably():
            self._ledger.met(target.device, writers)
            if healing is None:
                self.store.execute("DELETE FROM meta WHERE key = ?", (self._healing,))
            elif healing[1]:
                self.store.set_meta(self._healing, msgspec.json.encode(healing).decode())
            if stands_for:
                self._ledger.stand_in(target, stands_for)
            self.store.execute(
                "INSERT INTO outbox VALUES (?, ?, ?, ?, ?)",
                (self.vault, intent.number, intent.name, intent.sealed, segment.seq),
            )
            self._announce(segment, now_ms)
            self.mark(intent.number, made_here=True)

    def healing(self, stands_for: StandsFor) -> int:
        """The number of the last session that was published to stand for these; 0 where none was yet."""
        found = msgspec.json.decode(self.store.meta(self._healing) or "[{},0]", type=Healing)
        return found[1] if found[0] == stands_for else 0

    def intend_again(self, intents: Iterable[Intent]) -> list[Intent]:
        """Keep those intents once more, durably, whose segments stand for something still; return them."""
        standing = {each.name: each.seq for each in self.standing()}
        again = [intent for intent in intents if intent.name in standing]
        with self.store.durably():
            for intent in again:
                self.store.execute(
                    "INSERT INTO outbox VALUES (?, ?, ?, ?, ?)",
                    (self.vault, intent.number, intent.name, intent.sealed, standing[intent.name]),
                )
                self._set_state(intent.name, INTENDED)
        return again

    def acknowledge(self, intent: Intent) -> None:
        """The remote has it."""
        with self.store.transaction():
            self.store.execute("DELETE FROM outbox WHERE vault = ? AND number = ?", (self.vault, intent.number))
            self._set_state(intent.name, THERE)
            name = SegmentName.parse(intent.name)
            if name is not None:
                self._ledger.record(name, gapless_clock=0)

    # Those that stand on the remote

    def announce(self, segment: Segment, *, now_ms: int) -> None:
        """Remember the name of a segment that is about to be put, durably: it is ours, whatever becomes of it."""
        with self.store.durably():
            self._announce(segment, now_ms)

    def replaced(self, by: str, names: Iterable[str], *, now_ms: int) -> None:
        """One segment stands for others now, which may be deleted."""
        with self.store.transaction():
            self._set_state(by, THERE)
            for name in names:
                self._set_state(name, REPLACED, since_ms=now_ms)

    def deleted(self, name: str, *, now_ms: int) -> None:
        """A segment is gone from the remote; its name stays known, since a listing may still show it."""
        store, here = self.store, (self.vault, name)
        with store.transaction():
            self._set_state(name, DELETED, since_ms=now_ms)
            store.execute("UPDATE published SET sessions = NULL WHERE vault = ? AND name = ?", here)
            store.execute("DELETE FROM objects WHERE vault = ? AND name = ? AND problem = ''", here)

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
        again = [name for (name,) in self.store.execute(sql, (self.vault, DELETED, before_ms, paths)).fetchall()]
        if not again:
            return
        with self.store.transaction():
            for path in again:
                self._set_state(path, THERE)
            self.store.set_cursor(f"scrubbed:{self.vault}", 0)

    def standing(self) -> list[Segment]:
        """Our segments that stand on the remote and are not replaced."""
        rows = self.store.execute(
            "SELECT name, content_bytes, key, seq, sessions FROM published WHERE vault = ? AND state = ? ORDER BY name",
            (self.vault, THERE),
        )
        return [Segment(*row) for row in rows.fetchall()]

    def to_delete(self, *, before_ms: int) -> list[str]:
        """Our segments that were replaced before a time, and those whose replacing was never finished."""
        rows = self.store.execute(
            "SELECT name FROM published WHERE vault = ? AND (state = ? AND since_ms < ? OR state = ? AND name NOT IN "
            "(SELECT name FROM outbox WHERE vault = ?)) ORDER BY name",
            (self.vault, REPLACED, before_ms, INTENDED, self.vault),
        )
        return [name for (name,) in rows.fetchall()]

    @property
    def scrubbed(self) -> int:
        """Up to where in the feed what was purged is gone from our segments on the remote."""
        return self.store.cursor(f"scrubbed:{self.vault}")

    def set_scrubbed(self, seq: int) -> None:
        """Keep up to where it is gone, and which publication told of what was purged here. All must be told."""
        store, key = self.store, f"purge-told:{self.vault}"
        before, *_ = _decode_told(store.meta(key) or _NOTHING_TOLD)
        with store.transaction():
            store.set_cursor(f"scrubbed:{self.vault}", seq)
            if store.one(_PURGED_HERE, (before,))[0]:
                number = self._ledger.cursor().of(store.device).last
                store.set_meta(key, msgspec.json.encode((seq, number, store.device)).decode())

    @property
    def is_clean(self) -> bool:
        """Whether nothing that was purged stands in our segments on the remote."""
        return int(self.store.meta(LAST_PURGE) or 0) <= self.scrubbed

    @property
    def told(self) -> int:
        """By which of our publications all is told that was purged here under this id; 0 where nothing was."""
        _, number, device = _decode_told(self.store.meta(f"purge-told:{self.vault}") or _NOTHING_TOLD)
        return number if device == self.store.device else 0

    def given_up(self, names: Collection[str]) -> list[str]:
        """Those of some segments that are ours and for which others stand now."""
        sql = "SELECT name FROM published WHERE vault = ? AND state = ?"
        rows = self.store.execute(sql, (self.vault, DELETED)).fetchall()
        return sorted(name for (name,) in rows if name in names)

    def give_up(self, names: Iterable[str]) -> None:
        """Forget segments for which others stand now."""
        with self.store.transaction():
            for name in names:
                self.store.execute("DELETE FROM objects WHERE vault = ? AND name = ?", (self.vault, name))
                self._set_state(name, DELETED)

    def let_go(self, name: SegmentName) -> bool:
        """Give up a segment for which another device stands, or others of ours; False where nothing does."""
        spans = [span for each in self._ledger.healed() for span in each.stands_for.get(name.device, [])]
        others = (SegmentName.parse(each.name) for each in self.standing() if each.name != name.path)
        # What a restored store sent under its former id is numbered on its own.
        spans += [(each.first, each.last) for each in others if each is not None and each.device == name.device]
        if not Ranges.of(*spans).covers(name.first, name.last):
            return False
        self.give_up([name.path])
        return True

    # The id under which they stand

    def marks(self) -> dict[int, Mark]:
        """Where this store stood, by numbers of its log; not of each that another store gave."""
        rows = self.store.execute("SELECT key, value FROM meta WHERE key GLOB 'given-*:' || ?", (self.vault,))
        return {int(key[6 : key.index(":")]): _decode_mark(value) for key, value in rows.fetchall()}

    def made_here(self) -> list[SegmentName]:
        """The segments under our id that this store made itself, and did not delete."""
        rows = self.store.execute(
            "SELECT name FROM published WHERE vault = ? AND state != ? AND key != ''", (self.vault, DELETED)
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
            (self.vault, name.path, THERE, content_bytes, hashes),
        )
        here = (self.vault, name.path)
        self.store.execute("DELETE FROM objects WHERE vault = ? AND name = ? AND problem != ''", here)
        for (path,) in self.store.execute(
            "SELECT name FROM published WHERE vault = ? AND state != ?", (self.vault, DELETED)
        ).fetchall():
            ours = SegmentName.parse(path)
            if ours is None or ours.device != name.device:
                continue
            if name.first <= ours.first and ours.last <= name.last and ours.level < name.level:
                self._set_state(path, REPLACED if path in listed else DELETED)

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
        for path in [*self._ledger.applied()]:
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

    def _announce(self, segment: Segment, now_ms: int) -> None:
        self.store.execute(
            "INSERT INTO published VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.vault, segment.name, INTENDED, now_ms, segment.content_bytes, segment.key,
                segment.seq, segment.sessions,
            ),
        )  # fmt: skip

    def _set_state(self, name: str, state: int, *, since_ms: int = 0) -> None:
        self.store.execute(
            "UPDATE published SET state = ?, since_ms = max(since_ms, ?) WHERE vault = ? AND name = ?",
            (state, since_ms, self.vault, name),
        )
