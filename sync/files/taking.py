"""From a file to the store: whose it is, what it says, and what becomes of one that cannot be understood.

Nothing is written to the directory here: whoever takes a file is told which session's file is to be written
because of it (tests/unit/test_files_mirror.py).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...storage.errors import InvalidInput, LocalStorageError, StenoError
from ...storage.rows import SESSION_COLUMNS, SessionRow
from ...storage.state import find_message
from ...storage.steps import step
from ...storage.store import Store
from .absorb import TO_KEEP, Absorbed, Deletions, HalfSaved, TooManyDeleted, absorb, saved_under
from .exchange import Displaced, is_open_for_writing, leftover
from .ledger import Ledger, Record, RefusedFile
from .left_alone import LeftAlone
from .lines import ParsedFile, Refused, named_message, named_rev, named_session, parse, parse_rev
from .pace import Pace
from .plan import DeleteMessage, EditMessage
from .power import Power
from .reading import (
    MAX_FILE_BYTES,
    FileChanged,
    Fingerprint,
    Forbidden,
    TooLarge,
    fingerprint_of,
    first_line,
    give_back_memory,
    look_at,
    read_settled,
)
from .reports import Report, at_place, keep, reports_of, said_of
from .walk import Directory

PATIENCE_S = 2.0
LOOK_AGAIN_S = 1.0
WRITTEN_ANEW_S = 5.0
"""So long after a file was renamed, one that is written under its old name is a save: the other is a backup."""
_MUCH_BYTES = 16 << 20

_log = logging.getLogger("steno.files")


class Clock(NamedTuple):
    """The time by which files are seen to hold still; a simulation gives its own."""

    monotonic: Callable[[], float] = time.monotonic
    wall_ns: Callable[[], int] = time.time_ns
    sleep: Callable[[float], object] = time.sleep


class _Saved(msgspec.Struct):
    """The bytes of a file, of which only the first line is kept once they are understood, and what it was.

    ``unsure`` says that some of it may be lost with the power.
    """

    data: bytes
    fingerprint: Fingerprint
    unsure: bool

    def release(self) -> None:
        """Let go of what stands below the first line: its messages are held as such by now."""
        end = self.data.find(b"\n")
        if end >= 0:
            self.data = self.data[:end]


class Taking:
    """Takes saved files into the store. ``unsettled`` are those that did not hold still and must be read again."""

    def __init__(
        self, store: Store, ledger: Ledger, directory: Directory, pace: Pace, power: Power, clock: Clock
    ) -> None:
        self._store, self._ledger, self._directory, self._pace = store, ledger, directory, pace
        self._power, self._clock = power, clock
        self._read_much = False
        self.left_alone = LeftAlone(store, ledger, directory)
        self._moved: dict[int, tuple[str, float]] = {}
        self.former: dict[str, int] = {}
        """The former paths of files that were given other names, with their sessions: kept in no database."""
        self.unsettled: set[Path] = set()
        self.aside: set[Path] = set()
        """What lies aside and must be looked at again: somebody still writes to it."""

    def is_news(self, path: Path) -> bool:
        """Say whether a file does not look as it was last written or read, or is refused."""
        relative = self._directory.relative(path)
        record = self._ledger.at(relative)
        if record is None or self._ledger.is_refused(relative):
            return True
        try:
            return self._directory.in_the_way(path) is not None or look_at(path) != record.fingerprint.look
        except (InvalidInput, Forbidden):
            return True

    def take(self, path: Path, *, deletions: Deletions = "some", at_a_glance: bool = True) -> int | None:
        """Take one file; return the session whose file must be written now. A failure is that file's alone.

        ``at_a_glance`` False reads also a file that looks as it was left. What missing lines are: see `absorb`.
        """
        try:
            if not _is_text(str(path)):
                raise InvalidInput("its name, or that of its folder, is not UTF-8 text; rename it")
            if self._directory.in_the_way(path) and self._ledger.at(self._directory.relative(path)) is None:
                return None  # it never was ours
            self._directory.check_way(path)
            return self._take_in_place(path, deletions, at_a_glance=at_a_glance)
        except FileChanged as exc:
            _log.info("%s; it is read again", exc)
            self.unsettled.add(path)
        except HalfSaved:
            self.unsettled.add(path)
        except Forbidden as exc:
            self.refuse(self._directory.relative(path), exc.line)
        except LocalStorageError:
            raise
        except StenoError as exc:
            self.refuse(self._directory.relative(path), exc.line)
        except Exception as exc:  # noqa: BLE001  a bug that one file meets must not stop the others
            _log.exception("%s could not be taken", path)
            self.refuse(self._directory.relative(path), f"something unexpected happened ({type(exc).__name__}: {exc})")
        return None

    def _take_in_place(self, path: Path, deletions: Deletions, *, at_a_glance: bool) -> int | None:
        relative = self._directory.relative(path)
        record = self._ledger.at(relative)
        if record is None and (now := self._under_other_name(relative)):
            # Half a file would stand in the place of a whole one, with an editor that goes on writing to it.
            if is_open_for_writing(path) or not self._take_displaced(Displaced(self._directory.place(now.path), path)):
                self.unsettled.add(path)
                return None
            return now.session
        if record and at_a_glance and look_at(path) == record.fingerprint.look:
            return self._as_written(record)
        try:
            found = self._read(path)
        except TooLarge as exc:
            # A file that we wrote may be larger than any that is read.
            if record is None or exc.size_bytes != record.fingerprint.size:
                raise
            seen = fingerprint_of(path)
            if seen.sha256 != record.fingerprint.sha256:
                self.left_alone.keep(relative, seen.look, by_store=True)
                raise
            return self._as_written(msgspec.structs.replace(record, fingerprint=seen))
        if record and found.fingerprint.sha256 == record.fingerprint.sha256:
            return self._as_written(msgspec.structs.replace(record, fingerprint=found.fingerprint))
        finished = not is_open_for_writing(path)
        absorbed = self._absorb(relative, found, record, deletions=deletions, finished=finished)
        return absorbed.session.no if absorbed else None

    def _under_other_name(self, relative: str) -> Record | None:
        """The record of the file that had this path when an editor opened it, and was given another name since."""
        no = self.former.get(relative)
        row, record = (self.session(no), self._ledger.of(no)) if no is not None else (None, None)
        if row is None or record is None or self._ledger.is_refused(record.path) or not self._holds(record, row.id):
            return None
        return record if self._named(self._directory.place(relative)) == row.id else None

    def _read(self, path: Path) -> _Saved:
        clock = self._clock
        data, fingerprint = read_settled(
            path, limit_bytes=MAX_FILE_BYTES, patience_s=PATIENCE_S,
            monotonic=clock.monotonic, wall_ns=clock.wall_ns, sleep=clock.sleep,
        )  # fmt: skip
        self._read_much = self._read_much or len(data) > _MUCH_BYTES
        return _Saved(data, fingerprint, self._power.lost and self._power.is_untouched(path))

    def give_back_memory(self) -> None:
        """Give back what a large file took, once it is taken."""
        if self._read_much:
            self._read_much = False
            give_back_memory()

    def _as_written(self, record: Record) -> int | None:
        """The file holds what was last written; if it had been refused, it is mended by that."""
        refused = self._ledger.is_refused(record.path)
        if refused or record != self._ledger.at(record.path):
            with self._store.transaction():
                self._ledger.keep(record)
                self._ledger.mended(record.path)
        return record.session if refused else None

    def _absorb(
        self, relative: str, found: _Saved, record: Record | None, *, in_place: bool = True,
        deletions: Deletions = "some", finished: bool = True,
    ) -> Absorbed | None:  # fmt: skip
        """Apply a saved file; None where it is refused. ``in_place`` says that it stands at its path."""
        understood = False
        if found.unsure:
            deletions = "none"
        try:
            mine = parse(found.data)
            found.release()
            understood = True
            step("files.read")
            elsewhere = self._is_elsewhere(mine, relative)
            with self._store.transaction():
                session_id = self._identity(mine, record, elsewhere=elsewhere)
                absorbed = absorb(
                    self._store, mine, session_id=session_id, revive=in_place, deletions=deletions, finished=finished
                )
                no = absorbed.session.no
                self._ledger.took_out(no, self._changed_by(absorbed))
                if in_place:
                    if record and record.session != no:
                        self.replaced(relative)
                    self._ledger.keep(Record(no, relative, self._rev_seq(mine), found.fingerprint))
                    self._ledger.owe(no)
                elif (before := self._ledger.of(no)) and self._directory.is_missing(before.path):
                    self.replaced(before.path)
                if not in_place and self._ledger.is_refused(relative):
                    self._ledger.owe(no)
                self._ledger.mended(relative)
                said = self._said(relative, mine, absorbed, kept=absorbed.kept if found.unsure else [])
                keep(self._store, said)
        except Refused as exc:
            dropped = exc.dropped if isinstance(exc, TooManyDeleted) else 0
            self.refuse(relative, exc.reason, line=exc.line_number or 0, column=exc.column or 0, dropped=dropped)
            self.left_alone.keep(relative, found.fingerprint.look, by_store=understood)
            self._shows_less(record, found)
            return None
        step("files.absorbed")
        for each in said:
            _log.info("%s: %s", relative, each.text)
        return absorbed

    def _shows_less(self, record: Record | None, found: _Saved) -> None:
        """A refused file stands where ours was: whoever removes it knows what it shows, and nothing that came later."""
        rev = named_rev(found.data.partition(b"\n")[0])
        if record and rev and rev.store == self._store.store_name and rev.seq < record.seq:
            with self._store.transaction():
                self._ledger.keep(msgspec.structs.replace(record, seq=rev.seq))

    def _changed_by(self, absorbed: Absorbed) -> list[int]:
        """The messages that lost text by a file."""
        ids = [
            action.id
            for action in absorbed.plan.actions
            if isinstance(action, DeleteMessage) or (isinstance(action, EditMessage) and "content" in action.fields)
        ]
        found = [find_message(self._store, absorbed.session.no, each) for each in ids]
        return [each.no for each in found if each]

    def _said(self, relative: str, mine: ParsedFile, absorbed: Absorbed, *, kept: list[str]) -> list[Report]:
        """What is to be said of a save beyond what was asked for."""
        session = absorbed.session.id
        return reports_of(
            absorbed.plan.reports,
            purged=absorbed.purged,
            kept=kept,
            copied=absorbed.created and mine.header is not None and mine.header.id not in (None, session),
            path=relative,
            session=session,
            now_ms=self._store.now_ms(),
        )

    # Whose file it is

    def _is_elsewhere(self, mine: ParsedFile, relative: str) -> bool:
        """Say whether the session that a file names has another file, which stands where it was left."""
        named = mine.header.id if mine.header else None
        row = self._store.find(named) if named else None
        other = self._ledger.of(row.no) if row else None
        return other is not None and row is not None and other.path != relative and self._holds(other, row.id)

    def _identity(self, mine: ParsedFile, record: Record | None, *, elsewhere: bool) -> str | None:
        """The session that a file is of; None makes it a session, or a copy, of its own. Raises `Refused`."""
        ours = self.session(record.session) if record else None
        named = mine.header.id if mine.header else None
        if named is None:
            return ours.id if ours else None
        theirs = self._store.find(named)
        if theirs is None and self._store.lives_over(named):
            raise Refused(1, f"session {named} was purged; {TO_KEEP}")
        if ours is not None and (named == ours.id or (mine.header and saved_under(self._store, ours, mine.header))):
            return ours.id
        if theirs is None:
            return None if ours else named
        return None if elsewhere else named

    def settle_moves(self, paths: Iterable[Path]) -> None:
        """Let sessions follow their files, all at once, before any of them is taken for a copy.

        Two files may have changed names, or one was put over another: then that other one is written anew. Editors
        rename a file to a backup and write it anew: then the session goes back, and the backup is a copy.
        """
        moves = self._moves(paths)
        if not moves:
            return
        with self._store.transaction():
            self._ledger.forget(before.session for before, _ in moves)
            for before, relative in moves:
                self.replaced(relative)
                self._ledger.keep(msgspec.structs.replace(before, path=relative))
                if self._ledger.is_refused(before.path):  # what came meanwhile was not written
                    self._ledger.owe(before.session)
                self._ledger.mended(before.path)
        for before, relative in moves:
            _log.info("%s is now %s", before.path, relative)
            if not self._is_written_anew(before.session, relative):
                self._moved[before.session] = before.path, self._clock.monotonic()
                continue
            del self._moved[before.session]
            if not self._directory.is_missing(before.path):
                self.unsettled.add(self._directory.place(before.path))

    def _moves(self, paths: Iterable[Path]) -> list[tuple[Record, str]]:
        """The records of sessions whose files stand elsewhere now, each with its new place."""
        if not self._ledger.count():
            return []
        claims: dict[int, list[tuple[bool, bool, str]]] = {}
        found: dict[int, Record] = {}
        for path in paths:
            named = self._named(path) if _is_text(str(path)) else None
            row = self._store.find(named) if named else None
            record = self._ledger.of(row.no) if row else None
            relative = self._directory.relative(path)
            if row is None or record is None or record.path == relative:
                continue
            anew, other = self._is_written_anew(row.no, relative), not _is_very_file(path, record)
            if anew or not self._holds(record, row.id) or self._is_anothers(record, row):
                claims.setdefault(row.no, []).append((not anew, other, relative))
                found[row.no] = record
        return [(found[no], min(places)[-1]) for no, places in claims.items()]

    def _is_written_anew(self, session: int, relative: str) -> bool:
        """Say whether a session's file stood there until it was renamed just now."""
        since = self._clock.monotonic() - WRITTEN_ANEW_S
        self._moved = {no: moved for no, moved in self._moved.items() if moved[1] > since}
        return self._moved.get(session, ("", 0.0))[0] == relative

    def _holds(self, record: Record, session_id: str) -> bool:
        """Say whether what stands at a session's path still is of that session, as far as it says."""
        place = self._directory.place(record.path)
        if self._directory.is_missing(record.path) or self._directory.in_the_way(place):
            return False
        return self._named(place) in (None, session_id)

    def _is_anothers(self, record: Record, row: SessionRow) -> bool:
        """Say whether a session's place holds another file, without header, that begins with none of its messages.

        That may be the session's all the same, unless another file says so.
        """
        place = self._directory.place(record.path)
        id_ = None if _is_very_file(place, record) else named_message(first_line(place))
        return id_ == "" or (id_ not in (None, row.id) and find_message(self._store, row.no, id_) is None)

    def _named(self, path: Path) -> str | None:
        """The session that the first line of a file names; None for what lies behind a link, or names none."""
        return None if self._directory.in_the_way(path) else named_session(first_line(path))

    def replaced(self, relative: str) -> None:
        """Another file stands where this one was: its session did not go with it, and is written anew after a while."""
        record = self._ledger.at(relative)
        if record is not None:
            self._ledger.forget([record.session])
            self._ledger.owe(record.session)
            # Whoever exchanges two files is not done yet: the other one is about to appear.
            self._pace.hold(record.session, LOOK_AGAIN_S)

    def _rev_seq(self, mine: ParsedFile) -> int:
        rev = parse_rev(mine.header.rev if mine.header else None)
        return rev.seq if rev and rev.store == self._store.store_name else 0

    # Files that lie aside

    def take_leftover(self, displaced: Displaced) -> None:
        """Settle a file that lies aside: what it changed is merged, and an empty place gets it back."""
        stands = os.path.lexists(displaced.target)
        if stands and self._is_remnant(displaced):
            displaced.kept.unlink()
        elif stands or self._is_deleted(displaced):
            self.take_displaced(displaced)
            return
        try:
            displaced.put_back(None)
        except FileChanged:
            _log.info("%s is there again", displaced.target)
        except Forbidden as exc:
            _log.warning("%s, which a crash left, stays there: %s", displaced.kept, exc)

    def _is_remnant(self, displaced: Displaced) -> bool:
        """Say whether what lies aside is of our own writing, and was lost but for that with the power."""
        if not self._power.lost or not self._power.is_untouched(displaced.kept):
            return False
        return self._power.remnant(displaced.kept, self._directory.relative(displaced.target)) is not None

    def _is_deleted(self, displaced: Displaced) -> bool:
        record = self._ledger.at(self._directory.relative(displaced.target))
        if record is not None:
            row = self.session(record.session)
            return row is None or bool(row.hidden)
        try:
            mine = parse(self._read(displaced.kept).data)
        except StenoError:
            return False
        row = self._store.find(mine.header.id) if mine.header and mine.header.id else None
        return row is not None and bool(row.hidden)

    def take_aside(self) -> None:
        """Look again at what lies aside, if nobody writes to it any more."""
        for kept in [kept for kept in sorted(self.aside) if not is_open_for_writing(kept)]:
            self.aside.discard(kept)
            if kept.exists():
                self.take_leftover(leftover(kept))

    def take_displaced(self, displaced: Displaced) -> bool:
        """Merge the edit that stood in the place of what we wrote; False where it must wait, or was put back."""
        settled = self._take_displaced(displaced)
        if not settled and displaced.kept.exists():
            self.aside.add(displaced.kept)
        return settled

    def _take_displaced(self, displaced: Displaced) -> bool:
        relative = self._directory.relative(displaced.target)
        record = self._ledger.at(relative)
        try:
            try:
                found = self._read(displaced.kept)
            except (TooLarge, Forbidden) as exc:
                self.refuse(relative, said_of(displaced.kept, exc.line))
                return self._put_back(displaced, record)
            if (
                record
                and self.session(record.session) is None
                and found.fingerprint.sha256 == record.fingerprint.sha256
            ):
                return displaced.discard(found.fingerprint)  # ours, of a session that is purged
            finished = not is_open_for_writing(displaced.kept)
            absorbed = self._absorb(relative, found, record, in_place=False, finished=finished)
            if absorbed is None:
                return self._put_back(displaced, record)
            step("files.displaced-absorbed")
            return displaced.discard(found.fingerprint)
        except (FileChanged, HalfSaved, Forbidden):
            return False
        except LocalStorageError:
            raise
        except Exception:  # noqa: BLE001
            # Nothing is lost: it lies there under a name of ours, and what stands in its place is whole.
            _log.exception("%s, which stood in the place of %s, could not be merged", displaced.kept, relative)
            return False

    def _put_back(self, displaced: Displaced, record: Record | None) -> bool:
        """Put what is refused back where it stood; False, unless something newer stood there and was taken."""
        missing = self._directory.is_missing(self._directory.relative(displaced.target))
        newer = displaced.put_back(record.fingerprint if record and not missing else None)
        return newer is not None and self._take_displaced(newer)

    # Files that are left alone

    def refuse(self, relative: str, reason: str, *, line: int = 0, column: int = 0, dropped: int = 0) -> None:
        """Leave a file alone until it is mended; said again it is no news."""
        reason = said_of(self._directory.place(relative), reason)
        with self._store.transaction():
            news = self._ledger.refuse(RefusedFile(relative, line, column, reason, dropped))
        if news:
            place = at_place(relative, line, column)
            _log.warning("%s: %s; the file is left alone until it is mended", place, reason)

    def mended(self, relative: str) -> None:
        """A file is gone, or was understood: nothing is to be said of it any more."""
        if self._ledger.is_refused(relative):
            record = self._ledger.at(relative)
            with self._store.transaction():
                if record is not None:  # what came meanwhile was not written
                    self._ledger.owe(record.session)
                self._ledger.mended(relative)

    def session(self, no: int) -> SessionRow | None:
        """The row of a session that has, or had, a file; None where it was purged."""
        row = self._store.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE no = ?", (no,))  # noqa: S608
        return SessionRow(*row) if row else None


def _is_very_file(path: Path, record: Record) -> bool:
    """Say whether a file is the one that was written or read, wherever it stands now."""
    try:
        return path.lstat().st_ino == record.fingerprint.inode
    except OSError:
        return False


def _is_text(name: str) -> bool:
    """Say whether a file name can be kept; one that is not UTF-8 comes with halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
