"""Files that the machine's end cut short, told from files that somebody edited.

Files are exchanged without waiting for the disk, for the store is the truth. Where the power is lost, one that was
written just before may be shorter than it was, hold zeros, or be gone: it must never be read as a deletion. So a mark
lies durably in the store while not every file is known to be on the disk. The first look after the machine was started
anew finds it: what nobody touched since then and is as much of what we wrote as arrived is written anew, and nothing
that is missing is a deletion (tests/unit/test_files_power.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...storage.errors import StenoError
from ...storage.history import Past
from ...storage.rows import SessionRow
from ...storage.store import Store
from .ledger import Ledger, Record
from .lines import Rev, header_of, line_of, parse_rev, render_header, render_lines
from .names import SUFFIX
from .reading import Fingerprint, fingerprint_of, first_line, opened, translated
from .reports import SAID, Report, keep
from .walk import Directory

CUT_SHORT, LOST = "cut-short", "lost-with-power"
WRITE_OUT_S = 2.0
_MARK = "files-not-on-disk"
_CLOCKS_NS = 3600 * 10**9
"""So far a file's time may lie before the mark that was made before it: clocks are coarse, and are put right."""
_COARSE_NS = 10**9
_LINES = 500
_FIRST_BYTES = re.compile(rb'\{"steno":[0-9]+,"id":("(?:[^"\\]|\\.)*")(?:,"rev":"([^"]*)")?')
_ARRIVED = re.compile(rb"[^\0]+")


class Machine(NamedTuple):
    """This start of the machine: its name, empty where the system gives none, and when it was."""

    boot: str
    started_ns: int


class Remnant(msgspec.Struct, frozen=True):
    """A file that holds what we wrote for a session at ``seq``, or as much of it as arrived."""

    session: int
    seq: int
    fingerprint: Fingerprint
    cut: bool


class _Mark(msgspec.Struct, frozen=True):
    """Files that were written since then, under this start of the machine, may not be on the disk yet."""

    boot: str
    since_ns: int


def machine() -> Machine:
    """How this machine was started. Where it has no name for that, every start of the daemon counts as one."""
    since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic_ns()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Machine(boot, time.time_ns() - since_ns)


class Power:
    """What may have been lost with the power, for one mirror. ``lost`` says that everything must be looked at so."""

    def __init__(
        self, store: Store, ledger: Ledger, directory: Directory, machine: Machine, wall_ns: Callable[[], int]
    ) -> None:
        self._store, self._ledger, self._directory = store, ledger, directory
        self._machine, self._wall_ns = machine, wall_ns
        self._began_ns = wall_ns()
        self._marked = False
        mark = self._mark()
        # Where the clock was ahead when it was made, it says nothing of when files were written.
        self._since_ns = mark.since_ns - _CLOCKS_NS if mark and mark.since_ns <= self._began_ns else 0
        self.lost = mark is not None and (not mark.boot or mark.boot != machine.boot)
        self._came_up_ns = machine.started_ns
        if mark is not None and mark.boot and machine.boot and machine.started_ns < mark.since_ns - _COARSE_NS:
            # It ran before what was lost was written: on another machine, or its clock was put back.
            self._came_up_ns = self._began_ns

    def before_writing(self) -> None:
        """Mark durably that a file is about to be written; done once until all is known to be on the disk."""
        if self._marked:
            return
        if self._mark() is None:
            with self._store.durably():
                self._set_mark(_Mark(self._machine.boot, self._wall_ns()))
        self._marked = True

    def all_seen(self) -> None:
        """Everything was looked at: what is in doubt now is what was written since the machine started."""
        self.lost, self._marked = False, True
        with self._store.transaction():
            self._set_mark(_Mark(self._machine.boot, self._began_ns))

    def close(self) -> None:
        """Have the system write all files to the disk, and take the mark away if it did so in time."""
        with contextlib.suppress(StenoError):  # the files stay in doubt
            if not self.lost and self._mark() is not None and _written_out(self._directory.root):
                with self._store.transaction():
                    self._set_mark(None)
                self._marked = False

    # What is there

    def suspects(self) -> list[Path]:
        """The files that may hold zeros although they look as they were left."""
        return [self._directory.place(path) for path in self._ledger.written_since(self._since_ns)]

    def is_fresh(self, record: Record) -> bool:
        """Say whether a file was written so lately that it may be gone because its name never reached the disk."""
        return record.fingerprint.mtime_ns >= self._since_ns

    def is_untouched(self, path: Path) -> bool:
        """Say whether nobody wrote, renamed or made a file since the machine was started.

        What was is not from a time that is still to come: the clock was put back meanwhile.
        """
        try:
            found = path.lstat()
        except OSError:
            return False
        if found.st_ctime_ns > self._wall_ns() + _COARSE_NS:
            return True
        return max(found.st_ctime_ns, found.st_mtime_ns) < self._came_up_ns  # some systems have no ctime

    def remnant(self, path: Path, relative: str) -> Remnant | None:
        """What a file at a path is of that which we wrote to ``relative``; None for what is as recorded, or an edit."""
        record = self._ledger.at(relative)
        try:
            found = fingerprint_of(path)
            if record is not None and found.sha256 == record.fingerprint.sha256:
                return None
            row, seq = self._written_at(path, relative, record)
            if row is None or self._has_another(row, relative):
                return None
            whole = self._compared(path, self._written(row, seq)) if self._reaches(row, seq) else None
        except StenoError:
            return None
        return None if whole is None else Remnant(row.no, seq, found, cut=not whole)

    def settle(self, relative: str, remnant: Remnant) -> None:
        """Let a file be written anew, and say so where it was cut short."""
        with self._store.transaction():
            self._ledger.keep(Record(remnant.session, relative, remnant.seq, remnant.fingerprint))
            self._ledger.owe(remnant.session)
            self._ledger.mended(relative)
            if remnant.cut:
                self._say(CUT_SHORT, relative, remnant.session)

    def write_again(self, records: list[Record]) -> None:
        """Let files be written anew that are gone. Needs no transaction."""
        with self._store.transaction():
            self._ledger.write_again(records)
            for each in records:
                self._say(LOST, each.path, each.session)

    def _say(self, kind: str, relative: str, session: int) -> None:
        row = self._row(session)
        if row is not None:
            keep(self._store, [Report(self._store.now_ms(), relative, row.id, kind, SAID[kind])])

    # What was written

    def _written_at(self, path: Path, relative: str, record: Record | None) -> tuple[SessionRow | None, int]:
        """The session that a file was written for and its ``seq``, as far as its first line, record and name tell."""
        id_, rev = None, None
        if (match := _FIRST_BYTES.match(first_line(path))) is not None:
            id_, rev = msgspec.json.decode(match[1], type=str), parse_rev((match[2] or b"").decode(errors="replace"))
        elif record is None:
            id_ = next(iter(Path(relative).name.removesuffix(SUFFIX).split(".")[1:2]), None)
        row = self._store.find(id_) if id_ is not None else self._row(record.session) if record else None
        if rev is not None:
            return (row if rev.store == self._store.store_name else None), rev.seq
        return row, record.seq if record else self._store.last_seq

    def _has_another(self, row: SessionRow, relative: str) -> bool:
        """Say whether a session has its file elsewhere: this one may be a copy."""
        record = self._ledger.of(row.no)
        return record is not None and record.path != relative and not self._directory.is_missing(record.path)

    def _reaches(self, row: SessionRow, seq: int) -> bool:
        return row.history_seq <= seq <= self._store.last_seq

    def _written(self, row: SessionRow, seq: int) -> Iterator[bytes]:
        """The bytes that were written for a session at ``seq``."""
        past = Past(self._store, row, seq)
        yield render_header(header_of(past.header(), rev=Rev(self._store.store_name, seq)))
        lines = (line_of(shown) for _, shown in past.messages())
        while some := list(islice(lines, _LINES)):
            yield render_lines(some)

    def _compared(self, path: Path, written: Iterable[bytes]) -> bool | None:
        """Whether all of what was written is there, or but a part; None where there is something else."""
        whole = True
        self._store.execute("BEGIN")
        try:
            with translated(path), opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
                for part in written:
                    found = file.read(len(part))
                    if not _is_left_of(found, part):
                        return None
                    whole = whole and found == part
                return None if file.read(1) else whole
        finally:
            self._store.execute("COMMIT")

    def _row(self, no: int) -> SessionRow | None:
        found = self._store.one("SELECT id FROM sessions WHERE no = ?", (no,))
        return self._store.find(found[0]) if found else None

    # The mark

    def _mark(self) -> _Mark | None:
        kept = self._store.meta(_MARK)
        return msgspec.json.decode(kept, type=_Mark) if kept else None

    def _set_mark(self, mark: _Mark | None) -> None:
        self._store.set_meta(_MARK, msgspec.json.encode(mark).decode() if mark else "")


def _is_left_of(found: bytes, written: bytes) -> bool:
    """Say whether bytes are those that were written, but for an end that is missing and for zeros: we write none."""
    return all(written[each.start() : each.end()] == each[0] for each in _ARRIVED.finditer(found))


def _written_out(root: Path) -> bool:
    """Have the system write what it holds for a directory's disk; False where it cannot, or takes too long."""
    done: list[bool] = []
    # A disk that hangs holds up the thread, and nobody who waits for the end of the daemon.
    thread = threading.Thread(target=lambda: done.append(_write_out(root)), daemon=True)
    thread.start()
    thread.join(WRITE_OUT_S)
    return done == [True]


def _write_out(root: Path) -> bool:
    if sys.platform == "win32":
        return False
    if sys.platform != "linux":
        os.sync()  # which elsewhere asks for all disks, and may be back before they are done
        return True
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        write_out = getattr(ctypes.CDLL(None), "syncfs", None)
        return write_out is not None and write_out(descriptor) == 0
    finally:
        os.close(descriptor)
