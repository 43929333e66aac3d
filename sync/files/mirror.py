"""The directory of JSONL files, kept equal to the store: what is written there, and what is read back.

A file is written as a whole, by exchange, when its session changed; a file that is not what was
last written is somebody's edit and is absorbed before anything is written over it. Our own
writes are known by what was recorded of them and cause nothing. A vanished file deletes its
session only while the directory demonstrably is ours and few vanish at once
(tests/unit/test_files_mirror.py, tests/e2e/test_files.py).
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath

import msgspec

from ...storage.errors import InvalidInput, LocalStorageError, StenoError
from ...storage.home import write_private
from ...storage.model import SessionHeader
from ...storage.rows import SESSION_COLUMNS, SessionRow, header, message
from ...storage.steps import step
from ...storage.store import Store
from .absorb import TO_KEEP, Absorbed, absorb, saved_under
from .exchange import Displaced, leftovers, make_folder, remove, remove_torn, replace
from .ledger import Ledger, Record, RefusedFile
from .lines import ParsedFile, Refused, Rev, header_of, line_of, named_session, parse, parse_rev, render
from .names import SUFFIX, file_name, is_session_path
from .reading import FileChanged, Found, first_line, look_at, read_settled

MARKER = ".steno"
CURSOR = "files"
CHUNK = 1000
BUSY_SHARE = 20
PATIENCE_S = 2.0
LOOK_AGAIN_S = 1.0
_FEW, _FEW_PERCENT = 10, 20
_TRIES = 3

_SAID = {
    "birth-restored": "what is written once was changed, and is restored",
    "line-came-back": "a line that was taken away had changed meanwhile, and came back",
    "order-restored": "lines stood in another order, which is restored",
    "unknown-id-added": "a line with an id that was not known here was added",
    "deleted-line-restored": "an edit of a deleted message brought it back",
}

_log = logging.getLogger("steno.files")


class _Marker(msgspec.Struct, frozen=True):
    steno: int
    device: str


class MirrorStopped(LocalStorageError):
    """The directory is not what it should be; nothing is written there and nothing is deleted."""


class Mirror:
    """The mirror of one store. One process at a time runs it; calls are not concurrent.

    ``stopping`` is asked between two files: True ends a call early, and the next one goes on where it was.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._ledger = Ledger(store)
        self._root = root
        self._monotonic = monotonic
        self._stopping = stopping
        self._not_before: dict[int, float] = {}
        self._ahead = _Ahead()
        self._unsettled: set[Path] = set()
        self._may_delete = False

    # From the directory to the store

    def start(self) -> None:
        """Take up the directory: finish what a crash left, absorb what was edited meanwhile. Raises `MirrorStopped`."""
        self._may_delete = self._claim()
        for folder in self._folders():
            remove_torn(folder)
        self.scan()
        self._may_delete = True

    def scan(self) -> None:
        """Compare the whole directory with what was last written, and merge edits that still lie aside."""
        for folder in self._folders():
            for displaced in leftovers(folder):
                self._take_leftover(displaced)
        changed = self._changed_files(self._session_files())
        self._settle_moves(changed)
        for path in changed:
            if self._stopping():
                return
            self._safely(path)
        recorded = [path for _, path in self._ledger.paths()]
        self.vanished([path for path in recorded if self._missing(path)])
        for path in recorded:
            place = self._root / path
            if not self._missing(path) and (place.is_symlink() or place.is_dir()) and not self._ledger.is_refused(path):
                self._safely(place)

    def saved(self, paths: Iterable[Path]) -> list[str]:
        """Absorb files that were written; return the relative paths of those that are gone instead."""
        gone: list[str] = []
        present: list[Path] = []
        for path in paths:
            if path.is_dir() and not self._ledger.at(self._relative(path)):
                present += [each for each in sorted(path.rglob(f"*{SUFFIX}")) if each.is_file()]
            elif not os.path.lexists(path):
                gone += self._ledger.known_below(self._relative(path))
            else:
                present.append(path)
        present = [path for path in present if is_session_path(path.relative_to(self._root))]
        self._settle_moves(self._changed_files(present))
        for path in present:
            self._safely(path)
        return gone

    def _changed_files(self, paths: Iterable[Path]) -> list[Path]:
        """The files that do not look as they were last written or read, and those that are refused."""
        refused = {each.path for each in self.refused()}
        return [path for path in paths if self._relative(path) in refused or self._looks_changed(path)]

    def _looks_changed(self, path: Path) -> bool:
        record = self._ledger.at(self._relative(path))
        try:
            return record is None or look_at(path) != record.fingerprint.look
        except InvalidInput:
            return True

    def _settle_moves(self, paths: list[Path]) -> None:
        """Let sessions follow their files, all at once, before any of them is taken for a copy.

        Two files may have changed names, or one was put over another: then that other one is written anew.
        """
        moves = self._moves(paths)
        if not moves:
            return
        with self._store.transaction():
            self._ledger.forget(before.session for before, _ in moves)
            for before, relative in moves:
                self._replaced(relative)
                self._ledger.keep(msgspec.structs.replace(before, path=relative))
                self._ledger.mended(before.path)
        for before, relative in moves:
            _log.info("%s is now %s", before.path, relative)

    def _moves(self, paths: list[Path]) -> list[tuple[Record, str]]:
        """The records of sessions whose files stand elsewhere now, each with its new place."""
        if not self._ledger.count():
            return []
        claims: dict[int, list[tuple[bool, str]]] = {}
        found: dict[int, Record] = {}
        for path in paths:
            named = named_session(first_line(path)) if _is_text(path.name) else None
            row = self._store.find(named) if named else None
            record = self._ledger.of(row.no) if row else None
            if row and record and record.path != self._relative(path) and not self._holds(record, row.id):
                other = path.lstat().st_ino != record.fingerprint.inode
                claims.setdefault(row.no, []).append((other, self._relative(path)))
                found[row.no] = record
        return [(found[no], min(places)[1]) for no, places in claims.items()]

    def _holds(self, record: Record, session_id: str) -> bool:
        """Say whether what stands at a session's path still is of that session, as far as it says."""
        if self._missing(record.path):
            return False
        return named_session(first_line(self._root / record.path)) in (None, session_id)

    def _replaced(self, relative: str) -> None:
        """Another file stands where this one was: its session did not go with it, and is written anew after a while."""
        record = self._ledger.at(relative)
        if record is not None:
            self._ledger.forget([record.session])
            self._ledger.owe(record.session)
            # Whoever exchanges two files is not done yet: the other one is about to appear.
            self._not_before[record.session] = self._monotonic() + LOOK_AGAIN_S

    def vanished(self, paths: list[str]) -> int:
        """Delete the sessions whose files are gone, if that can be meant; return how many files are missing."""
        records = [record for path in paths if (record := self._ledger.at(path)) and self._missing(path)]
        for path in paths:
            if self._missing(path):
                self._mended(path)
        if not records:
            return 0
        total = self._ledger.count()
        if not self._claim():
            return 0
        if not self._may_delete:
            self._write_again(records)
            return 0
        if len(records) > max(_FEW, total * _FEW_PERCENT // 100):
            raise MirrorStopped(
                f"{len(records)} of {total} session files are gone from {self._root}; no session was deleted",
                hint="put them back; or remove the whole directory and restart the daemon to have it written anew",
            )
        for record in records:
            self._delete(record)
        return len(records)

    def _claim(self) -> bool:
        """Make sure that the directory is ours; False where it is new, so that its emptiness means nothing."""
        marker = self._root / MARKER
        try:
            found = msgspec.json.decode(marker.read_bytes(), type=_Marker).device
        except (FileNotFoundError, msgspec.MsgspecError):
            found = None
        except OSError as exc:
            raise MirrorStopped(f"{marker} cannot be read ({exc.strerror})") from exc
        if found == self._store.device:
            return True
        if found is not None and found not in self._store.former_devices:
            raise MirrorStopped(
                f"{self._root} is the mirror of another device ({found})",
                hint="let no other program synchronise this directory; give each device its own",
            )
        # New, or of this store before it was restored: then it shows what came after the backup.
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise MirrorStopped(f"{self._root} cannot be made ({exc.strerror})") from exc
        write_private(marker, msgspec.json.encode(_Marker(1, self._store.device)) + b"\n")
        self._forget_missing()
        return False

    def _forget_missing(self) -> None:
        """Write the files anew that are missing from a directory that is not known to be ours."""
        missing = [no for no, path in self._ledger.paths() if self._missing(path)]
        self._write_again([record for no in missing if (record := self._ledger.of(no))])

    def _write_again(self, records: list[Record]) -> None:
        """Let `write_pending` write these files as if they had never been; the others are passed over."""
        if records:
            with self._store.transaction():
                self._ledger.forget(each.session for each in records)
                self._store.set_cursor(CURSOR, 0)

    def _delete(self, record: Record) -> None:
        row = self._session(record.session)
        with self._store.transaction():
            self._ledger.forget([record.session])
            if row is not None and not row.hidden:
                # Whoever removed the file knew what it showed, and nothing that came later.
                self._store.delete(row.id, known_seq=record.seq or None)
        if row is not None:
            _log.info(
                "%s is gone: session %s is deleted (`steno restore %s` brings it back)", record.path, row.id, row.id
            )

    def _safely(self, path: Path) -> None:
        """Absorb one file; a failure is that file's alone."""
        try:
            if not _is_text(path.name):
                raise InvalidInput("its name is not UTF-8 text; rename it")
            self._absorb(path)
        except FileChanged as exc:
            _log.info("%s; it is read again", exc)
            self._unsettled.add(path)
        except LocalStorageError:
            raise
        except StenoError as exc:
            self._refuse(self._relative(path), 0, str(exc))
        except Exception as exc:  # noqa: BLE001  a bug that one file meets must not stop the others
            _log.exception("%s could not be taken", path)
            self._refuse(self._relative(path), 0, f"something unexpected happened ({type(exc).__name__}: {exc})")

    def _absorb(self, path: Path) -> None:
        relative = self._relative(path)
        record = self._ledger.at(relative)
        if record and look_at(path) == record.fingerprint.look:
            self._as_written(record)
            return
        found = read_settled(path, patience_s=PATIENCE_S)
        if record and found.fingerprint.sha256 == record.fingerprint.sha256:
            self._as_written(msgspec.structs.replace(record, fingerprint=found.fingerprint))
            return
        absorbed = self._take(relative, found, record)
        if absorbed is not None:
            self._write(absorbed.session.no, anew=True)

    def _as_written(self, record: Record) -> None:
        """The file holds what was last written; if it had been refused, it is mended by that."""
        refused = self._ledger.is_refused(record.path)
        if refused or record != self._ledger.at(record.path):
            with self._store.transaction():
                self._ledger.keep(record)
                self._ledger.mended(record.path)
        if refused:
            self._write(record.session)

    def _take(self, relative: str, found: Found, record: Record | None, *, in_place: bool = True) -> Absorbed | None:
        """Apply a saved file; None where it is refused. ``in_place`` says that it stands at its path."""
        try:
            mine = parse(found.data)
            step("files.read")
            with self._store.transaction():
                session_id = self._identity(mine, relative, record)
                absorbed = absorb(self._store, mine, session_id=session_id, revive=in_place)
                no = absorbed.session.no
                if in_place:
                    if record and record.session != no:
                        self._replaced(relative)
                    self._ledger.keep(Record(no, relative, self._rev_seq(mine), found.fingerprint))
                    self._ledger.owe(no)
                elif (before := self._ledger.of(no)) and self._missing(before.path):
                    self._replaced(before.path)
                self._ledger.mended(relative)
        except Refused as exc:
            self._refuse(relative, exc.line_number or 0, exc.reason)
            return None
        step("files.absorbed")
        for report in absorbed.plan.reports:
            _log.info("%s: %s (%s)", relative, _SAID[report.kind], report.id or report.field or "")
        for each in absorbed.purged:
            _log.info("%s: a line was left out, since its message was purged (%s)", relative, each)
        if absorbed.created and mine.header and mine.header.id not in (None, absorbed.session.id):
            _log.info("%s is a copy: it became session %s", relative, absorbed.session.id)
        return absorbed

    def _identity(self, mine: ParsedFile, relative: str, record: Record | None) -> str | None:
        """The session that a file is of; None makes it a session, or a copy, of its own. Raises `Refused`."""
        ours = self._session(record.session) if record else None
        named = mine.header.id if mine.header else None
        if named is None:
            return ours.id if ours else None
        if self._store.find(named) is None and self._store.lives_over(named):
            raise Refused(1, f"session {named} was purged; {TO_KEEP}")
        if ours is not None and (named == ours.id or (mine.header and saved_under(self._store, ours, mine.header))):
            return ours.id
        theirs = self._store.find(named)
        if theirs is None:
            return None if ours else named
        other = self._ledger.of(theirs.no)
        if other is not None and other.path != relative and self._holds(other, named):
            return None
        return named

    def _rev_seq(self, mine: ParsedFile) -> int:
        rev = parse_rev(mine.header.rev if mine.header else None)
        return rev.seq if rev and rev.store == self._store.store_name else 0

    def _take_leftover(self, displaced: Displaced) -> None:
        """Settle a file that lies aside: what it changed is merged, and an empty place gets it back."""
        if os.path.lexists(displaced.target) or self._is_deleted(displaced):
            self._take_displaced(displaced)
            return
        try:
            displaced.put_back(None)
        except FileChanged:
            _log.info("%s is there again", displaced.target)

    def _is_deleted(self, displaced: Displaced) -> bool:
        record = self._ledger.at(self._relative(displaced.target))
        if record is not None:
            row = self._session(record.session)
            return row is None or bool(row.hidden)
        try:
            mine = parse(read_settled(displaced.kept, patience_s=PATIENCE_S).data)
        except StenoError:
            return False
        row = self._store.find(mine.header.id) if mine.header and mine.header.id else None
        return row is not None and bool(row.hidden)

    def _take_displaced(self, displaced: Displaced) -> bool:
        """Merge the edit that stood in the place of what we wrote; False where it must wait for the next `scan`."""
        relative = self._relative(displaced.target)
        record = self._ledger.at(relative)
        try:
            found = read_settled(displaced.kept, patience_s=PATIENCE_S)
            if (
                record
                and self._session(record.session) is None
                and found.fingerprint.sha256 == record.fingerprint.sha256
            ):
                return displaced.discard(found.fingerprint)  # ours, of a session that is purged
            absorbed = self._take(relative, found, record, in_place=False)
            if absorbed is None:
                displaced.put_back(record.fingerprint if record and not self._missing(relative) else None)
                return False
            step("files.displaced-absorbed")
            return displaced.discard(found.fingerprint)
        except LocalStorageError:
            raise
        except Exception:  # noqa: BLE001
            # Nothing is lost: it lies there under a name of ours, and what stands in its place is whole.
            _log.exception("%s, which stood in the place of %s, could not be merged", displaced.kept, relative)
            return False

    def _refuse(self, relative: str, line: int, reason: str) -> None:
        with self._store.transaction():
            self._ledger.refuse(relative, line, reason)
        _log.warning("%s, line %d: %s; the file is left alone until it is mended", relative, line, reason)

    def _mended(self, relative: str) -> None:
        if self._ledger.is_refused(relative):
            with self._store.transaction():
                self._ledger.mended(relative)

    # From the store to the directory

    def write_pending(self) -> float | None:
        """Write the files of some sessions that changed. Returns after how many seconds to call again; None: never.

        A file that must wait holds up no other, but the cursor does not pass it before it is written.
        """
        self._read_unsettled()
        cursor, last = self._store.cursor(CURSOR), self._store.last_seq
        ahead = self._ahead if self._ahead.cursor == cursor else _Ahead(cursor, cursor)
        upto = min(last, ahead.upto + CHUNK)
        owed = self._ledger.owed()
        waiting = dict.fromkeys(sorted({*ahead.waiting, *owed, *self._changed(ahead.upto, upto)}), 0.0)
        for no in list(waiting):
            if self._stopping():
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
        waits = [*waiting.values(), *([0.0] if upto < last else []), *([LOOK_AGAIN_S] if self._unsettled else [])]
        return min(waits, default=None)

    def settle(self, sessions: Iterable[int]) -> None:
        """Bring the files of some sessions up to the store now, those of purged ones included; raises `MirrorStopped`.

        A file that must wait, or is refused, is left to `write_pending`.
        """
        if self._claim():
            for no in sessions:
                self._write(no, anew=True)

    def _read_unsettled(self) -> None:
        paths, self._unsettled = self._unsettled, set()
        self.saved(sorted(paths))

    def _changed(self, since: int, upto: int) -> list[int]:
        rows = self._store.execute(
            "SELECT no FROM sessions WHERE seq > ?1 AND seq <= ?2 UNION "
            "SELECT session FROM messages WHERE seq > ?1 AND seq <= ?2",
            (since, upto),
        ).fetchall()
        return [no for (no,) in rows if not self._written_at(no, upto)]

    def _written_at(self, no: int, seq: int) -> bool:
        record = self._ledger.of(no)
        return record is not None and record.seq >= seq

    def _write_in_time(self, no: int, *, anew: bool) -> float | None:
        """Write a file, or say how long to wait so that writing it stays under a twentieth of the time."""
        now = self._monotonic()
        wait = self._not_before.get(no, 0.0) - now
        if wait > 0:
            return wait
        written = self._write(no, anew=anew)
        took = self._monotonic() - now
        self._not_before = {each: at for each, at in self._not_before.items() if at > now}
        if took * BUSY_SHARE > 1:
            self._not_before[no] = now + took * BUSY_SHARE
        return None if written else LOOK_AGAIN_S

    def _write(self, no: int, *, anew: bool = False) -> bool:
        """Bring a session's file up to the store, ``anew`` also where only its rev differs; False: look again later."""
        for _ in range(_TRIES):
            try:
                displaced = self._replace(no, anew=anew)
            except FileChanged as exc:
                if not self._meet(exc):
                    return False
                continue
            except InvalidInput as exc:
                return self._refuse_place(no, exc)
            if self._ledger.is_owed(no) and (self._session(no) is not None or self._ledger.of(no) is None):
                with self._store.transaction():
                    self._ledger.owe_no_more(no)
            if displaced is None:
                return True
            if not self._take_displaced(displaced):
                return True
            anew = True
        return False

    def _refuse_place(self, no: int, exc: InvalidInput) -> bool:
        """Leave alone what stands in a file's place and is no file, until it is gone."""
        record = self._ledger.of(no)
        if record is not None:
            self._refuse(record.path, 0, str(exc))
        return record is not None

    def _replace(self, no: int, *, anew: bool) -> Displaced | None:
        record = self._ledger.of(no)
        row = self._session(no)
        if record and self._ledger.is_refused(record.path):
            return None
        if row is None or row.hidden:
            return self._remove(record) if record else None
        rendered = self._render(no)
        if rendered is None:
            return self._replace(no, anew=anew)
        shown, body, seq = rendered
        if record and not anew and record.seq:
            before = _with_rev(shown, body, Rev(self._store.store_name, record.seq))
            if hashlib.sha256(before).digest() == record.fingerprint.sha256:
                return None
        path = record.path if record else self._new_path(row.id, row.title, row.created_ms)
        data = _with_rev(shown, body, Rev(self._store.store_name, seq))
        make_folder(self._root, PurePath(path).parent)
        replaced = replace(self._root / path, data, expected=record.fingerprint if record else None)
        with self._store.transaction():
            self._ledger.keep(Record(no, path, seq, replaced.written))
        step("files.recorded")
        return replaced.displaced

    def _remove(self, record: Record) -> Displaced | None:
        look_at(self._root / record.path)  # a link or a folder is not ours to remove
        displaced = remove(self._root / record.path, expected=record.fingerprint)
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
            self._take_displaced(Displaced(changed.path, changed.kept))
        if changed.state == "vanished":
            return False
        self._safely(changed.path)
        _log.info("%s before it was written", changed)
        return changed.path not in self._unsettled

    def _session(self, no: int) -> SessionRow | None:
        """The row of a session that has, or had, a file; None where it was purged."""
        row = self._store.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE no = ?", (no,))  # noqa: S608
        return SessionRow(*row) if row else None

    def _render(self, no: int) -> tuple[SessionHeader, bytes, int] | None:
        store = self._store
        store.execute("BEGIN")
        try:
            seq = store.last_seq
            row = self._session(no)
            if row is None:
                return None
            shown = header(row)
            lines = [line_of(message(row)) for row in store.message_rows(no)]
        finally:
            store.execute("COMMIT")
        rev = Rev(store.store_name, seq)
        whole = render(header_of(shown, rev=rev), lines)
        return shown, whole[len(render(header_of(shown, rev=rev), [])) :], seq

    def _new_path(self, session_id: str, title: str, created_ms: int) -> str:
        name = file_name(session_id, title=title, created_ms=created_ms)
        taken, number = name, 1
        while self._ledger.at(taken) or not self._missing(taken):
            number += 1
            taken = f"{name.removesuffix(SUFFIX)}.{number}{SUFFIX}"
        return taken

    # Names and places

    def refused(self) -> list[RefusedFile]:
        """The files that are left alone until they are mended."""
        return self._ledger.refused()

    def _missing(self, relative: str) -> bool:
        """Say whether nothing at all stands there; a link that leads nowhere is something."""
        return not os.path.lexists(self._root / relative)

    def _relative(self, path: Path) -> str:
        """A path as it is recorded and shown; a name that is not UTF-8 is shown by its numbers."""
        return os.fsencode(path.relative_to(self._root)).decode(errors="backslashreplace")

    def _folders(self) -> Iterator[Path]:
        for folder, names, _ in os.walk(self._root):
            names[:] = sorted(name for name in names if not name.startswith("."))
            yield Path(folder)

    def _session_files(self) -> Iterator[Path]:
        for folder in self._folders():
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                path = Path(entry.path)
                if entry.is_file(follow_symlinks=False) and is_session_path(path.relative_to(self._root)):
                    yield path


class _Ahead(msgspec.Struct, frozen=True):
    """How far writing is ahead of a cursor, which stays behind the files that must wait."""

    cursor: int = -1
    upto: int = 0
    waiting: tuple[int, ...] = ()


def _with_rev(shown: SessionHeader, body: bytes, rev: Rev) -> bytes:
    return render(header_of(shown, rev=rev), []) + body


def _is_text(name: str) -> bool:
    """Say whether a file name can be kept; one that is not UTF-8 comes with halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
