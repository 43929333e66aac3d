"""One open ``steno.db``: its transactions, its clock, the numbers of its feed and of its devices.

``with database.transaction():`` is the only way to write. It is ``BEGIN IMMEDIATE``, short,
and holds no I/O and no await; nested it is a savepoint. The clock and the feed's counter are
persisted with the write that took them: in their own row, or, by an append, in the message
alone, which is then the newest of the feed (tests/unit/test_database.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .errors import InvalidInput, NoHome
from .model import check_actor
from .schema import ready
from .sqlite import FIXED, connect, dbapi, translated
from .stamps import Stamp, plausible, wall_clock

if TYPE_CHECKING:
    from types import TracebackType

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
# A random byte is a character; the four beyond the last multiple of 36 are dropped, so that all are as likely.
_CHARACTERS = bytes(ord(ALPHABET[byte % 36]) for byte in range(256))
_BEYOND = bytes(range(252, 256))

_ADVANCE = """
UPDATE clock SET
    seq = max(seq, ifnull((SELECT max(seq) FROM messages), 0)) + ?1,
    hlc = max(hlc + 1, ifnull((SELECT clock FROM messages ORDER BY seq DESC LIMIT 1), 0) + 1, ?2) + ?1 - 1
RETURNING seq, hlc
"""

_DEVICE = "SELECT value FROM meta WHERE key = 'device'"


def wall_ms() -> int:
    """Milliseconds since 1970 by this machine's clock."""
    return time.time_ns() // 1_000_000


def random_text(length: int) -> str:
    """Random characters ``[a-z0-9]``."""
    text = b""
    while len(text) < length:
        text += os.urandom(length + 4).translate(_CHARACTERS, _BEYOND)
    return text[:length].decode()


class Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``, or a savepoint inside one. An error undoes all of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        database = self._database
        if database.depth:
            database.write(f"SAVEPOINT s{database.depth}")
        else:
            database.begin()
        database.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        database = self._database
        database.depth -= 1
        try:
            if kind is None:
                database.write(f"RELEASE s{database.depth}" if database.depth else "COMMIT")
            else:
                self._undo()
        except BaseException:
            self._undo()
            raise
        finally:
            if not database.depth:
                database.unlock()
        if isinstance(exc, dbapi.Error):
            raise translated(exc, database.path) from exc

    def _undo(self) -> None:
        database = self._database
        database.forget_devices()
        if not database.connection.in_transaction:
            return
        if database.depth:
            with suppress(dbapi.Error):  # released when a signal came: it is undone with the one around it
                database.connection.execute(f"ROLLBACK TO s{database.depth}")
                database.connection.execute(f"RELEASE s{database.depth}")
        else:
            database.connection.execute("ROLLBACK")


class Database:
    """An open database. One thread at a time uses it; any number of processes and threads may open their own.

    ``compress`` says whether large contents are written compressed; they are read either way. ``now_ms`` and
    ``random`` are where time and randomness come from. ``actor`` names who writes, for the audit (`acting`).
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_only: bool = False,
        durability: str = "normal",
        compress: bool = True,
        actor: str | None = None,
        now_ms: Callable[[], int] = wall_ms,
        random: Callable[[int], str] = random_text,
    ) -> None:
        self.path = Path(path)
        self.actor = None if actor is None else check_actor(actor)
        self.now_ms = now_ms
        self.random = random
        self.depth = 0
        self.device = self.store_name = ""
        self._devices: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._transaction = Transaction(self)
        self._lock_file: Any = None
        self._wants_lock = not FIXED and not read_only
        self.connection = connect(self.path, read_only=read_only, durability=durability, compress=compress)
        self._writer = self.connection.cursor()
        try:
            if not ready(self.connection, self.path, read_only=read_only):
                raise NoHome(home=str(self.path.parent))
            if not read_only:
                self._identify()
            self.look_who()
        except dbapi.Error as exc:
            self.connection.close()
            raise translated(exc, self.path) from exc
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; called twice it does nothing."""
        self.connection.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def transaction(self) -> Transaction:
        """The only way to write."""
        return self._transaction

    @contextmanager
    def durably(self) -> Generator[None]:
        """A transaction that is on the disk when it ends, whatever the store's durability is."""
        before = self.one("PRAGMA synchronous")[0]
        self.execute("PRAGMA synchronous = FULL")
        try:
            with self.transaction():
                yield
        finally:
            self.execute(f"PRAGMA synchronous = {before}")

    def begin(self) -> None:
        """Begin to write, alone; for `Transaction`."""
        self.lock()
        try:
            self.write("BEGIN IMMEDIATE")
            if self._writer.execute(_DEVICE).fetchone() != (self.device,):  # another process gave the store a new id
                self.look_who()
        except BaseException:
            self.abandon()  # a signal may have come when it had begun
            raise

    def abandon(self) -> None:
        """Undo what was begun and never ended, as a signal in the wrong moment leaves it; else it does nothing."""
        self.depth = 0
        if self.connection.in_transaction:
            self.forget_devices()
            self.connection.execute("ROLLBACK")
        self.unlock()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Run one statement; errors of SQLite are translated."""
        try:
            return self.connection.execute(sql, parameters)
        except dbapi.Error as exc:
            raise translated(exc, self.path) from exc
        except (UnicodeEncodeError, OverflowError) as exc:
            raise InvalidInput("a value that no database can hold: half a character, or a number too large") from exc

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement that gives no rows, on the cursor kept for these; the number of the row it inserted."""
        try:
            return self._writer.execute(sql, parameters).lastrowid or 0
        except dbapi.Error as exc:
            raise translated(exc, self.path) from exc

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for every row."""
        try:
            self.connection.executemany(sql, rows)
        except dbapi.Error as exc:
            raise translated(exc, self.path) from exc

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row, or None."""
        return self.execute(sql, parameters).fetchone()

    def meta(self, key: str) -> str:
        """One of the store's own names; the empty text where it has none of that kind."""
        row = self.one("SELECT value FROM meta WHERE key = ?", (key,))
        return row[0] if row else ""

    def set_meta(self, key: str, value: str) -> None:
        """Keep one of the store's own names."""
        self.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def cursor(self, name: str) -> int:
        """How far a consumer of the feed has come; 0 for a new one."""
        row = self.one("SELECT seq FROM cursors WHERE name = ?", (name,))
        return row[0] if row else 0

    def set_cursor(self, name: str, seq: int) -> None:
        """Keep how far a consumer of the feed has come."""
        self.execute(
            "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq", (name, seq)
        )

    @property
    def last_seq(self) -> int:
        """The feed's greatest number."""
        return self.one("SELECT max(seq, ifnull((SELECT max(seq) FROM messages), 0)) FROM clock")[0]

    def advance(self, count: int = 1) -> tuple[int, int]:
        """Take ``count`` numbers of the feed and as many clocks; the first of each. Needs a transaction."""
        seq, clock = self.execute(_ADVANCE, (count, wall_clock(self.now_ms()))).fetchone()
        return seq - count + 1, clock - count + 1

    def advance_rebuilt(self) -> int:
        """Take the next clock of what is rebuilt from files: it lies at millisecond 0. Needs a transaction."""
        return self.execute("UPDATE clock SET rebuilt = rebuilt + 1 RETURNING rebuilt").fetchone()[0]

    @contextmanager
    def acting(self, actor: str | None) -> Generator[None]:
        """Name who writes what is written inside, None for nobody in particular; raises `InvalidInput`."""
        before, self.actor = self.actor, None if actor is None else check_actor(actor)
        try:
            yield
        finally:
            self.actor = before

    def sign(self, clock: int, count: int = 1) -> None:
        """Keep who wrote the stamps that this device gives from ``clock`` on, if anybody is named. In a transaction."""
        if self.actor is not None:
            number = self.device_no(self.device)
            signed = [(number, clock + at, self.actor) for at in range(count)]
            self.executemany("INSERT OR REPLACE INTO actors VALUES (?, ?, ?)", signed)

    def follow(self, clock: int) -> None:
        """Let the clock follow a stamp met; raises `InvalidInput` for one beyond the year 2200."""
        if not plausible(clock):
            raise InvalidInput(f"a stamp beyond the year 2200 is refused ({clock})")
        self.execute("UPDATE clock SET hlc = max(hlc, ?)", (clock,))

    @property
    def former_devices(self) -> list[str]:
        """The ids that this store had before it was restored from a backup, the last one first."""
        return self.meta("formerly").split()

    def look_who(self) -> None:
        """Learn under which id this store writes now."""
        self.device = self.meta("device")
        self.store_name = self.meta("store")
        self._load_devices()

    def device_no(self, device: str) -> int:
        """The local number of a device; 0 is the one that this store was made by. A new device needs a transaction."""
        number = self._numbers.get(device)
        if number is None:
            self.execute("INSERT OR IGNORE INTO devices (id) VALUES (?)", (device,))
            self._load_devices()
            number = self._numbers[device]
        return number

    def author(self, device: str, rank: int) -> int:
        """Device and class as the one integer that rows hold."""
        return self.device_no(device) * 4 + rank

    def stamp(self, clock: int, author: int) -> Stamp:
        """The stamp of a row's clock and author."""
        number, rank = divmod(author, 4)
        if number not in self._devices:
            self._load_devices()
        return Stamp(rank, clock, self._devices[number])

    @property
    def devices(self) -> dict[int, str]:
        """Every device met: local number to id."""
        self._load_devices()
        return dict(self._devices)

    def lock(self) -> None:
        """Where no SQLite of this machine has the fix for WAL resets, one writer at a time also by file lock."""
        if self._wants_lock:
            import fcntl  # noqa: PLC0415  absent on Windows, where this branch is not taken

            if self._lock_file is None:
                self._lock_file = self.path.with_name(f"{self.path.name}.lock").open("w")
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)

    def unlock(self) -> None:
        """Give the file lock back."""
        if self._lock_file is not None:
            import fcntl  # noqa: PLC0415

            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def forget_devices(self) -> None:
        """Forget the numbers of devices: the transaction that gave some of them is undone."""
        self._devices = {}
        self._numbers = {}

    def _load_devices(self) -> None:
        self._devices = dict(self.execute("SELECT no, id FROM devices").fetchall())
        self._numbers = {device: number for number, device in self._devices.items()}

    def _identify(self) -> None:
        if self.meta("device"):
            return
        with self.transaction():
            if not self.meta("device"):
                device = self.random(12)
                self.set_meta("device", device)
                self.set_meta("store", self.random(8))
                self.execute("INSERT INTO devices VALUES (0, ?)", (device,))
