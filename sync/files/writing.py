"""From the store to the files: each is written as a whole, by exchange, when its session changed.

A file that is not what was last written is somebody's edit: it is taken before anything is written over it. The
cursor on the feed does not pass a file that must wait, but no file holds up another (tests/unit/test_files_mirror.py).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePath

import msgspec

from ...storage.errors import ContentDamaged, InvalidInput, StenoError
from ...storage.model import SessionHeader
from ...storage.rows import SessionRow, header
from ...storage.steps import step
from ...storage.store import Store
from ...storage.tombstones import mark
from .exchange import Displaced, Replaced, make_folder, move, remove, replace
from .ledger import CURSOR, Ledger, Record
from .lines import Rev, header_of, line_of, render_header, render_lines
from .names import SUFFIX, file_name, name_under_title
from .pace import Pace
from .power import Power
from .reading import FileChanged, Forbidden, look_at
from .reports import name_anew
from .taking import LOOK_AGAIN_S, Taking
from .walk import Directory

CHUNK = 1000
SLICE_S = 0.5
"""So long files are written at one go; then others who wait for the mirror have their turn."""
_TRIES = 3
_LINES = 500

_log = logging.getLogger("steno.files")


class Writing:
    """Writes the files of sessions. ``stopping`` is asked between two files."""

    def __init__(
        self, store: Store, ledger: Ledger, directory: Directory, pace: Pace, power: Power, taking: Taking,
        stopping: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._directory, self._pace = store, ledger, directory, pace
        self._power, self._taking, self._stopping = power, taking, stopping
        self._ahead = _Ahead()
        self.count = 0
        """How many files were written."""

    def pending(self) -> float | None:
        """Write the files of some sessions that changed. Returns after how many seconds to call again; None: never."""
        cursor, last = self._store.cursor(CURSOR), self._store.last_seq
        ahead = self._ahead if self._ahead.cursor == cursor else _Ahead(cursor, cursor)
        upto = min(last, ahead.upto + CHUNK)
        began_s, owed = self._pace.now(), self._ledger.owed()
        changed = self._changed(ahead.upto, upto)
        for no in changed:
            self._pace.changed(no)
        waiting = dict.fromkeys(sorted({*ahead.waiting, *owed, *changed}), 0.0)
        for taken, no in enumerate(list(waiting)):
            if self._stopping() or (taken and self._pace.now() - began_s > SLICE_S):
                break
            wait = self._write_in_time(no, anew=no in owed)
            if wait is None:
                del waiting[no]
            else:
                waiting[no] = wait
        if not waiting and upto > cursor:
            with self._store.transaction():
                self._store.set_cursor(CURSOR, upto)
            cursor = upto
            step("files.cursor")
        self._ahead = _Ahead(cursor, upto, tuple(waiting))
        return min([*waiting.values(), *([0.0] if upto < last else [])], default=None)

    def _changed(self, since: int, upto: int) -> list[int]:
        rows = self._store.execute(
            "SELECT no FROM sessions WHERE seq > ?1 AND seq <= ?2 UNION "
            "SELECT session FROM messages WHERE seq > ?1 AND seq <= ?2",
            (since, upto),
        ).fetchall()
        return [no for (no,) in rows if not self._is_written(no, upto)]

    def _is_written(self, no: int, seq: int) -> bool:
        record = self._ledger.of(no)
        return record is not None and record.seq >= seq

    def _write_in_time(self, no: int, *, anew: bool) -> float | None:
        """Write a file, or say how long to wait until that is due."""
        wait = self._pace.wait_s(no)
        if wait > 0:
            return wait
        began_s, count = self._pace.now(), self.count
        written = self.write(no, anew=anew)
        if self.count > count:
            self._pace.wrote(no, began_s=began_s)
        return None if written else LOOK_AGAIN_S

    def write(self, no: int, *, anew: bool = False) -> bool:
        """Bring a session's file up to the store, ``anew`` also where only its rev differs; False: look again later."""
        for _ in range(_TRIES):
            try:
                displaced = self._replace(no, anew=anew)
            except FileChanged as exc:
                if not self._meet(exc):
                    return False
                continue
            except (InvalidInput, Forbidden, ContentDamaged) as exc:
                return self._refuse(no, exc)
            if self._ledger.is_owed(no) and (self._taking.session(no) is not None or self._ledger.of(no) is None):
                with self._store.transaction():
                    self._ledger.owe_no_more(no)
            if displaced is None:
                return True
            if not self._taking.take_displaced(displaced):
                return True
            anew = True
        return False

    def _refuse(self, no: int, exc: StenoError) -> bool:
        """Leave a file alone that cannot be written: it stands where no file can, or its session is damaged."""
        path = self._path(no)
        if path is not None:
            self._taking.refuse(path, exc.line)
        return isinstance(exc, ContentDamaged) or self._ledger.of(no) is not None

    def _path(self, no: int) -> str | None:
        """The path of a session's file, or the one that it will get."""
        record, row = self._ledger.of(no), self._taking.session(no)
        if record is not None:
            return record.path
        return None if row is None else file_name(row.id, title=row.title, created_ms=row.created_ms)

    def _replace(self, no: int, *, anew: bool) -> Displaced | None:
        record = self._ledger.of(no)
        row = self._taking.session(no)
        if record and self._ledger.is_refused(record.path):
            return None
        self._power.before_writing()
        if row is None or row.hidden:
            return self._remove(record) if record else None
        purged = record is not None and self._ledger.shows_purged(record)
        if record and purged:
            record, anew = self._under_title(record, row), True
        path = record.path if record else self._new_path(row)
        make_folder(self._directory.root, PurePath(path).parent)
        with self._snapshot() as seq:
            shown = self._header(no)
            replaced = None if shown is None else self._shown(shown, path, record, seq, anew=anew)
        if shown is None:  # deleted meanwhile
            return self._remove(record) if record else None
        if replaced is None:
            return None
        self.count += 1
        with self._store.transaction():
            self._ledger.keep(Record(no, path, seq, replaced.written))
            if purged and name_anew(self._store, row.id, title=row.title):
                self._mark()
        step("files.recorded")
        return replaced.displaced

    def _shown(
        self, shown: SessionHeader, path: str, record: Record | None, seq: int, *, anew: bool
    ) -> Replaced | None:
        """Write a session's file as it is at a moment; None where nothing but its rev would be another."""
        known = record if record and record.seq and not anew else None
        former = hashlib.sha256(self._first(shown, known.seq)) if known else None
        return replace(
            self._directory.place(path),
            self._parts(shown.id, self._first(shown, seq), former),
            expected=record.fingerprint if record and record.stands else None,
            wanted=lambda: not (known and former) or former.digest() != known.fingerprint.sha256,
        )

    def _under_title(self, record: Record, row: SessionRow) -> Record:
        """Give a file of which something was purged the name of its session's present title: its own may tell of it.

        What somebody saved there meanwhile goes with it. A crash in between leaves a file that was renamed.
        """
        wanted = name_under_title(record.path, row.id, title=row.title)
        if wanted == record.path:
            return record
        named = msgspec.structs.replace(record, path=self._free(wanted))
        place = self._directory.place(record.path)
        self._directory.check_way(place)
        look_at(place)  # a link or a folder is not ours to rename
        with self._store.transaction():
            self._mark()
        if record.stands:
            move(place, self._directory.place(named.path))
        elif not self._directory.is_missing(record.path):
            raise FileChanged(place, "appeared")
        step("files.renamed")
        with self._store.transaction():
            self._ledger.keep(named)
            self._mark()
        self._taking.former[record.path] = record.session
        _log.info("%s is named so since something of its session was purged", named.path)
        return named

    def _mark(self) -> None:
        """Have the database written anew, in which the former name of a file still stands."""
        mark(self._store, self._store.advance()[0])

    @contextmanager
    def _snapshot(self) -> Generator[int]:
        """Let several reads see the store at one moment, whose number is given."""
        self._store.execute("BEGIN")
        try:
            yield self._store.last_seq
        finally:
            self._store.execute("COMMIT")

    def _header(self, no: int) -> SessionHeader | None:
        row = self._taking.session(no)
        return None if row is None or row.hidden else header(row)

    def _first(self, shown: SessionHeader, seq: int) -> bytes:
        return render_header(header_of(shown, rev=Rev(self._store.store_name, seq)))

    def _parts(self, session_id: str, first: bytes, former: hashlib._Hash | None) -> Iterator[bytes]:
        """The bytes of a file; those below the first line are added to a hash as well."""
        yield first
        messages = self._store.messages(session_id)
        while some := list(islice(messages, _LINES)):
            part = render_lines(map(line_of, some))
            if former is not None:
                former.update(part)
            yield part

    def _remove(self, record: Record) -> Displaced | None:
        place = self._directory.place(record.path)
        self._directory.check_way(place)
        look_at(place)  # a link or a folder is not ours to remove
        if self._directory.is_missing(record.path) and record.stands:
            # It may have changed its name: whoever looks at the whole directory will see.
            raise FileChanged(place, "vanished")
        displaced = remove(place, expected=record.fingerprint)
        if displaced is None:
            step("files.removed")
            with self._store.transaction():
                self._ledger.forget([record.session])
        return displaced

    def _meet(self, changed: FileChanged) -> bool:
        """What stands in a file's place is not what was last written: an edit, or a file that was put there.

        False where nothing stands there: whoever took it away may bring it back, or it is seen to be gone.
        """
        if changed.kept is not None:
            self._taking.take_displaced(Displaced(changed.path, changed.kept))
        if changed.state == "vanished":
            return False
        self._taking.settle_moves([changed.path])
        self._taking.take(changed.path)
        _log.info("%s before it was written", changed)
        return changed.path not in self._taking.unsettled

    def _new_path(self, row: SessionRow) -> str:
        name = file_name(row.id, title=row.title, created_ms=row.created_ms)
        self._directory.check_way(self._directory.place(name))
        return self._free(name)

    def _free(self, name: str) -> str:
        """A path where nothing stands: this one, or with a number."""
        taken, number = name, 1
        while self._ledger.at(taken) or self._directory.stands(taken):
            number += 1
            taken = f"{name.removesuffix(SUFFIX)}.{number}{SUFFIX}"
        return taken


class _Ahead(msgspec.Struct, frozen=True):
    """How far writing is ahead of a cursor, which stays behind the files that must wait."""

    cursor: int = -1
    upto: int = 0
    waiting: tuple[int, ...] = ()
