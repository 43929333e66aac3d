"""What the mirror remembers of its files: written or read, refused, and still to be written.

Every change of it is made in the transaction of what it belongs to, so it needs one
(tests/unit/test_files_mirror.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from ...storage.rows import HIDDEN_FOR_EVER
from ...storage.store import Store
from .reading import Fingerprint

CURSOR = "files"


class Record(msgspec.Struct, frozen=True):
    """What was last written to, or read from, a session's file; ``seq`` is that of its rev, 0 for a foreign one."""

    session: int
    path: str
    seq: int
    fingerprint: Fingerprint

    @property
    def stands(self) -> bool:
        """Say whether a file was left there; else it is to be written there anew."""
        return self.fingerprint.size >= 0


class RefusedFile(msgspec.Struct, frozen=True):
    """A file that is left alone until it is mended: why, and where (0 where that is not known).

    ``dropped`` is how many messages it would delete, for one that waits until somebody says that this is meant.
    """

    path: str
    line: int
    column: int
    reason: str
    dropped: int = 0


class TakenOut(msgspec.Struct, frozen=True):
    """A session from whose file somebody took text by hand lately, which its history still holds.

    ``messages`` is how many of them were changed or removed, ``at_ms`` when that was last.
    """

    session: str
    at_ms: int
    messages: int


LATELY_MS = 7 * 86_400_000
_TAKEN_OUT = """
SELECT s.id, max(t.at_ms), count(*) FROM taken_out t JOIN sessions s ON s.no = t.session
JOIN messages m ON m.session = t.session AND m.no = t.message
WHERE t.seq > s.history_seq AND m.hidden < ? AND t.at_ms > ? GROUP BY s.no ORDER BY 2 DESC
"""


_PURGED_SINCE = """
SELECT EXISTS (SELECT 1 FROM sessions WHERE no = ?1 AND history_seq > ?2)
    OR EXISTS (SELECT 1 FROM messages WHERE session = ?1 AND hidden >= ?3 AND seq > ?2)
"""


class Ledger:
    """The records of one mirror in the store's own database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, session: int) -> Record | None:
        """The record of a session's file."""
        return self._where("session = ?", session)

    def at(self, path: str) -> Record | None:
        """The record of the file at a path."""
        return self._where("path = ?", path)

    def count(self) -> int:
        """How many files are recorded."""
        return self._store.one("SELECT count(*) FROM files")[0]

    def looks(self) -> Iterator[tuple[str, int, int, int]]:
        """Path, size, mtime and inode of every recorded file, in the order of their paths; write nothing meanwhile."""
        return iter(self._store.execute("SELECT path, size, mtime_ns, inode FROM files WHERE size >= 0 ORDER BY path"))

    def written_since(self, mtime_ns: int) -> list[str]:
        """The paths of the recorded files whose times are not before that."""
        sql = "SELECT path FROM files WHERE size >= 0 AND mtime_ns >= ? ORDER BY path"
        rows = self._store.execute(sql, (mtime_ns,))
        return [path for (path,) in rows.fetchall()]

    def every_path(self) -> Iterator[str]:
        """The path of every recorded file; between two of them others may be written."""
        last = ""
        while some := self._store.execute(
            "SELECT path FROM files WHERE path > ? AND size >= 0 ORDER BY path LIMIT 1000", (last,)
        ).fetchall():
            yield from (path for (path,) in some)
            last = some[-1][0]

    def count_shown(self) -> int:
        """How many files are recorded of sessions that are not deleted."""
        sql = "SELECT count(*) FROM files JOIN sessions ON no = session WHERE hidden = 0 AND size >= 0"
        return self._store.one(sql)[0]

    def first_gone(self, is_missing: Callable[[str], bool]) -> str | None:
        """The first recorded file that is gone; None where all are there."""
        return next((path for path, *_ in self.looks() if is_missing(path)), None)

    def gone(self, is_missing: Callable[[str], bool]) -> list[Record]:
        """The records of all files that are gone."""
        paths = [path for path, *_ in self.looks() if is_missing(path)]
        return [record for path in paths if (record := self.at(path))]

    def write_again(self, records: Iterable[Record]) -> None:
        """Let these files be written at their places, where nothing stands any more."""
        for each in records:
            self._store.execute("UPDATE files SET size = -1, sha256 = x'' WHERE session = ?", (each.session,))
            self.owe(each.session)

    def known_below(self, path: str) -> list[str]:
        """The recorded and refused files at a path, or below it where it was a directory."""
        rows = self._store.execute(
            "SELECT path FROM files WHERE path = ?1 OR (path > ?1 || '/' AND path < ?1 || '0') "
            "UNION SELECT path FROM refused WHERE path = ?1 OR (path > ?1 || '/' AND path < ?1 || '0')",
            (path,),
        )
        return [each for (each,) in rows.fetchall()]

    def keep(self, record: Record) -> None:
        """Remember what stands in a file; another session that had this path has no file now."""
        found = record.fingerprint
        self._store.execute("DELETE FROM files WHERE path = ? AND session != ?", (record.path, record.session))
        self._store.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
            (record.session, record.path, record.seq, found.size, found.mtime_ns, found.inode, found.sha256),
        )

    def shows_purged(self, record: Record) -> bool:
        """Say whether something of a session was purged since its file was written: its name may tell of it."""
        return bool(self._store.one(_PURGED_SINCE, (record.session, record.seq, HIDDEN_FOR_EVER))[0])

    def forget(self, sessions: Iterable[int]) -> None:
        """Forget the files of sessions."""
        self._store.executemany("DELETE FROM files WHERE session = ?", [(session,) for session in sessions])

    def owed(self) -> set[int]:
        """The sessions whose files must be written although nothing may have changed: what was taken shows less."""
        return {no for (no,) in self._store.execute("SELECT session FROM unwritten").fetchall()}

    def owe(self, session: int) -> None:
        """Remember that a session's file must be written."""
        self._store.execute("INSERT OR IGNORE INTO unwritten VALUES (?)", (session,))

    def is_owed(self, session: int) -> bool:
        """Say whether a session's file must be written."""
        return self._store.one("SELECT 1 FROM unwritten WHERE session = ?", (session,)) is not None

    def owe_no_more(self, session: int) -> None:
        """A session's file is written."""
        self._store.execute("DELETE FROM unwritten WHERE session = ?", (session,))

    def refuse(self, refused: RefusedFile) -> bool:
        """Remember that a file is left alone; False where that was known."""
        if self._refused("WHERE path = ?", refused.path) == [refused]:
            return False
        self._store.execute(
            "INSERT OR REPLACE INTO refused (path, line, col, reason, dropped, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (refused.path, refused.line, refused.column, refused.reason, refused.dropped, self._store.now_ms()),
        )
        return True

    def is_refused(self, path: str) -> bool:
        """Say whether a file is left alone."""
        return self._store.one("SELECT 1 FROM refused WHERE path = ?", (path,)) is not None

    def mended(self, path: str) -> None:
        """A file is understood again, or gone; what came to its session meanwhile must be written."""
        done = self._store.execute("DELETE FROM refused WHERE path = ?", (path,))
        record = self.at(path) if done.rowcount else None
        if record is not None:
            self.owe(record.session)

    def refused(self) -> list[RefusedFile]:
        """The files that are left alone."""
        return self._refused("ORDER BY path")

    def waiting(self) -> list[RefusedFile]:
        """The files that would delete so much that somebody must say whether that is meant."""
        return self._refused("WHERE dropped ORDER BY path")

    def took_out(self, session: int, messages: Iterable[int]) -> None:
        """Remember which messages lost text by hand; those of long ago are forgotten."""
        seq, now_ms = self._store.last_seq, self._store.now_ms()
        self._store.execute("DELETE FROM taken_out WHERE at_ms < ?", (now_ms - LATELY_MS,))
        self._store.executemany(
            "INSERT OR REPLACE INTO taken_out VALUES (?, ?, ?, ?)", [(session, each, seq, now_ms) for each in messages]
        )

    def taken_out(self) -> list[TakenOut]:
        """The sessions whose history holds text that was taken out of their files in the last days."""
        since_ms = self._store.now_ms() - LATELY_MS
        rows = self._store.execute(_TAKEN_OUT, (HIDDEN_FOR_EVER, since_ms)).fetchall()
        return [TakenOut(*row) for row in rows]

    def _refused(self, condition: str, *values: object) -> list[RefusedFile]:
        sql = f"SELECT path, line, col, reason, dropped FROM refused {condition}"  # noqa: S608
        return [RefusedFile(*row) for row in self._store.execute(sql, values).fetchall()]

    def _where(self, condition: str, value: object) -> Record | None:
        row = self._store.one(
            f"SELECT session, path, seq, size, mtime_ns, inode, sha256 FROM files WHERE {condition}",  # noqa: S608
            (value,),
        )
        return Record(row[0], row[1], row[2], Fingerprint(*row[3:])) if row else None
