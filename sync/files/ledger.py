"""What the mirror remembers of its files: written or read, refused, and still to be written.

Every change of it is made in the transaction of what it belongs to, so it needs one
(tests/unit/test_files_mirror.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...storage.store import Store
from .reading import Fingerprint


class Record(msgspec.Struct, frozen=True):
    """What was last written to, or read from, a session's file; ``seq`` is that of its rev, 0 for a foreign one."""

    session: int
    path: str
    seq: int
    fingerprint: Fingerprint


class RefusedFile(msgspec.Struct, frozen=True):
    """A file that cannot be understood and is left alone until it is mended."""

    path: str
    line: int
    reason: str


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

    def paths(self) -> list[tuple[int, str]]:
        """Every session with the path of its file."""
        return self._store.execute("SELECT session, path FROM files ORDER BY session").fetchall()

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

    def refuse(self, path: str, line: int, reason: str) -> None:
        """Remember that a file is left alone."""
        self._store.execute(
            "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", (path, line, reason, self._store.now_ms())
        )

    def is_refused(self, path: str) -> bool:
        """Say whether a file is left alone."""
        return self._store.one("SELECT 1 FROM refused WHERE path = ?", (path,)) is not None

    def mended(self, path: str) -> None:
        """A file is understood again, or gone."""
        self._store.execute("DELETE FROM refused WHERE path = ?", (path,))

    def refused(self) -> list[RefusedFile]:
        """The files that are left alone."""
        rows = self._store.execute("SELECT path, line, reason FROM refused ORDER BY path").fetchall()
        return [RefusedFile(*row) for row in rows]

    def _where(self, condition: str, value: object) -> Record | None:
        row = self._store.one(
            f"SELECT session, path, seq, size, mtime_ns, inode, sha256 FROM files WHERE {condition}",  # noqa: S608
            (value,),
        )
        return Record(row[0], row[1], row[2], Fingerprint(*row[3:])) if row else None
