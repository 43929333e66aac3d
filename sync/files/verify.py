"""Whether the files show what the store would write there: looking only, a slice at a time.

A session is read and its file compared piece by piece, so that neither is ever held whole; where
a slice ended the next one goes on, so that nothing is remembered of the files already seen. What
is written while we look is looked at again (tests/unit/test_files_verify.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ...storage.errors import StenoError
from ...storage.rows import SESSION_COLUMNS, SessionRow, header, message
from ...storage.store import Store
from .exchange import is_whole
from .ledger import Ledger, Record, RefusedFile
from .lines import Rev, header_of, line_of, render_header, render_lines
from .names import is_session_file, is_session_folder
from .reading import Look, look_at, opened, translated
from .reports import said_of
from .session_file import rev_of

SLICE_FILES = 1000
SLICE_BYTES = 32 << 20
_LINES_AT_ONCE = 200
_TRIES = 3

Kind = Literal["missing", "behind", "differs", "refused", "unreadable", "unknown", "foreign"]


class Difference(msgspec.Struct, frozen=True):
    """A file that does not show what the store would write; ``path`` is None where none was written yet.

    ``foreign`` files are no session's and left alone: they are named, and nothing is wrong with them.
    """

    kind: Kind
    path: str | None
    reason: str
    session: str | None = None
    line: int = 0
    column: int = 0


class Place(msgspec.Struct, frozen=True):
    """How far looking has come: first the sessions by number, then whatever else lies in the directory."""

    session: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0
    path: bytes | None = None


class Slice(msgspec.Struct, frozen=True):
    """What was found among some files, how many were compared, and the place to go on from; None at the end."""

    differences: list[Difference]
    compared: int
    after: Place | None


def verify(store: Store, root: Path, after: Place | None = None, *, limit: int = SLICE_FILES) -> Slice:
    """Look at some files and go on behind ``after``; a slice ends behind ``limit`` files or `SLICE_BYTES`."""
    after = after or Place()
    return _Looking(store, root, after).slice(after, limit)


class _Looking:
    def __init__(self, store: Store, root: Path, after: Place) -> None:
        self._store = store
        self._ledger = Ledger(store)
        self._root = root
        self._refused = {each.path: each for each in self._ledger.refused()}
        self._read_bytes = 0
        self._files = self._all(after)

    def slice(self, after: Place, limit: int) -> Slice:
        found: list[Difference] = []
        sessions = 0
        for _ in range(limit):
            if self._read_bytes > SLICE_BYTES:
                break
            place, difference = next(self._files, (None, None))
            if place is None:
                return Slice(found, sessions, None)
            if difference is not None:
                found.append(difference)
            sessions += place.path is None
            after = place
        return Slice(found, sessions, after)

    def _all(self, after: Place) -> Iterator[tuple[Place, Difference | None]]:
        if after.path is None:
            for no in self._numbers(after.session):
                yield Place(no), self._of_session(no)
        for parts, entry in _walk(self._root, tuple((after.path or b"").split(b"/"))):
            relative = b"/".join(parts)
            difference = self._of_entry(relative.decode(errors="backslashreplace"), entry)
            yield Place(path=relative), difference

    # The sessions

    def _numbers(self, after: int) -> Iterator[int]:
        """The sessions that have a file or should have one."""
        sql = (
            "SELECT no FROM sessions WHERE no > ?1 AND hidden = 0 UNION SELECT session FROM files WHERE session > ?1 "
            "ORDER BY 1 LIMIT ?2"
        )
        while rows := self._store.execute(sql, (after, SLICE_FILES)).fetchall():
            yield from (no for (no,) in rows)
            after = rows[-1][0]

    def _of_session(self, no: int) -> Difference | None:
        """What is wrong with a session's file; looked at again where somebody wrote one of the two meanwhile."""
        difference = None
        for _ in range(_TRIES):
            before = self._state(no)
            difference = self._compared(no)
            if difference is None or self._state(no) == before:
                break
        return difference

    def _state(self, no: int) -> tuple[Record | None, int, Look | None]:
        record = self._ledger.of(no)
        return record, self._changed_at(no), _look(self._root / record.path) if record else None

    def _compared(self, no: int) -> Difference | None:
        self._store.execute("BEGIN")  # one snapshot: a session and its messages are read by several statements
        try:
            return self._difference(no)
        finally:
            self._store.execute("COMMIT")

    def _difference(self, no: int) -> Difference | None:
        session, record = self._session(no), self._ledger.of(no)
        live = session is not None and not session.hidden
        if record is None:
            return Difference("missing", None, "it is not written yet", session.id) if session and live else None
        id_ = session.id if session else None
        if record.path in self._refused:
            return _refusal(self._refused[record.path], id_)
        try:
            look = look_at(self._root / record.path)
            if look is None:
                return Difference("missing", record.path, "it is gone", id_) if live else None
            if session is None or not live:
                return Difference("behind", record.path, "its session is deleted, and it still stands there", id_)
            line = self._first_difference(session, record)
        except StenoError as exc:
            return Difference("unreadable", record.path, said_of(self._root / record.path, exc.line), id_)
        return None if line is None else Difference(*self._why(record, look), id_, line)

    def _why(self, record: Record, look: Look) -> tuple[Kind, str, str]:
        if look != record.fingerprint.look:
            return "differs", record.path, "it was changed, and that is not taken up yet"
        if self._changed_at(record.session) > record.seq:
            return "behind", record.path, "the session changed, and that is not written yet"
        return "differs", record.path, "it does not show what was written there"

    def _first_difference(self, session: SessionRow, record: Record) -> int | None:
        """The line in which a file begins to differ from what the store would write; None where it does not."""
        path, number = self._root / record.path, 1
        with translated(path), opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            for wanted in self._pieces(session, path, record):
                found = file.read(len(wanted))
                self._read_bytes += len(found)
                if found != wanted:
                    return number + wanted.count(b"\n", 0, _same(found, wanted))
                number += wanted.count(b"\n")
            return number if file.read(1) else None

    def _pieces(self, session: SessionRow, path: Path, record: Record) -> Iterator[bytes]:
        """What the store would write, under the rev that the file names: that alone is no reason to write it."""
        rev = Rev(self._store.store_name, record.seq)
        head = msgspec.structs.replace(header_of(header(session), rev=rev), rev=rev_of(path) or str(rev))
        yield render_header(head)
        rows = self._store.message_rows(session.no)
        while lines := [line_of(message(row)) for row in islice(rows, _LINES_AT_ONCE)]:
            yield render_lines(lines)

    def _changed_at(self, no: int) -> int:
        """When a session was last changed, in the feed; 0 where it was purged."""
        sql = (
            "SELECT max(seq) FROM (SELECT seq FROM sessions WHERE no = ?1 "
            "UNION ALL SELECT max(seq) FROM messages WHERE session = ?1)"
        )
        return self._store.one(sql, (no,))[0] or 0

    def _session(self, no: int) -> SessionRow | None:
        row = self._store.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE no = ?", (no,))  # noqa: S608
        return SessionRow(*row) if row else None

    # Whatever else lies in the directory

    def _of_entry(self, relative: str, entry: os.DirEntry[str] | OSError) -> Difference | None:
        """What a file is that no session has."""
        if isinstance(entry, OSError):
            return Difference("unreadable", relative or ".", entry.strerror or str(entry))
        if relative in self._refused and self._ledger.at(relative) is None:
            return _refusal(self._refused[relative], None)
        if is_whole(entry.name):
            return Difference("unknown", relative, "an edit that lies aside until it is merged")
        if entry.name.startswith(".") or self._ledger.at(relative) is not None:
            return None
        if is_session_file(entry.name) and entry.is_file(follow_symlinks=False):
            return Difference("unknown", relative, "it is not taken up yet")
        return Difference("foreign", relative, "it is no session's file, and is left alone")


def _walk(root: Path, after: tuple[bytes, ...]) -> Iterator[tuple[tuple[bytes, ...], os.DirEntry[str] | OSError]]:
    """Whatever is no folder, in the order of names, behind a place; nothing below what is hidden."""
    levels = [_level((), root)]
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
            continue
        parts, entry = found
        if isinstance(entry, OSError) or not entry.is_dir(follow_symlinks=False):
            if parts > after:
                yield parts, entry
        elif is_session_folder(entry.name) and parts >= after[: len(parts)]:
            levels.append(_level(parts, Path(entry.path)))


def _level(parts: tuple[bytes, ...], folder: Path) -> Iterator[tuple[tuple[bytes, ...], os.DirEntry[str] | OSError]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except FileNotFoundError:
        return
    except OSError as exc:
        yield parts, exc
        return
    for entry in found:
        yield (*parts, os.fsencode(entry.name)), entry


def _same(found: bytes, wanted: bytes) -> int:
    """How many bytes two texts begin with alike."""
    return next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), len(found))


def _look(path: Path) -> Look | None:
    try:
        return look_at(path)
    except StenoError:
        return None


def _refusal(found: RefusedFile, session: str | None) -> Difference:
    return Difference("refused", found.path, found.reason, session, found.line, found.column)
