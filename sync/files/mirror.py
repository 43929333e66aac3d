"""The directory of JSONL files, kept equal to the store: what is written there, and what is read back.

A file is written as a whole, by exchange, when its session changed (`writing`); a file that is not what was last
written is somebody's edit and is taken before anything is written over it (`taking`). Our own writes are known by
what was recorded of them and cause nothing. A vanished file deletes its session only while the directory
demonstrably is ours and few vanish at once (`breaker`; tests/unit/test_files_mirror.py, tests/e2e/test_files.py).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ...storage.errors import InvalidInput
from ...storage.store import Store
from .absorb import Deletions
from .breaker import MARKER, Breaker, Halt, MirrorStopped, halt_of
from .exchange import leftover
from .ledger import Ledger, Record, RefusedFile
from .names import SUFFIX
from .pace import Pace
from .taking import LOOK_AGAIN_S, Clock, Taking
from .walk import Differences, Directory, differences
from .writing import Writing

__all__ = ["MARKER", "Halt", "Mirror", "MirrorStopped", "Resumed", "halt_of"]

_log = logging.getLogger("steno.files")


class Resumed(msgspec.Struct, frozen=True):
    """What became of a halt: how many sessions were deleted, or brought back, and how many files are to be written."""

    deleted: int = 0
    restored: int = 0
    files: int = 0


class Mirror:
    """The mirror of one store. One process at a time runs it; calls are not concurrent.

    ``stopping`` is asked between two files: True ends a call early, and the next one goes on where it was.
    ``monotonic`` counts the seconds of every wait, ``wall_ns`` is held against the times of files, and ``sleep``
    waits until a file holds still. All but `resume` raise `MirrorStopped` while the directory is not in its place.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], object] = time.sleep,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._stopping, self._sleep = stopping, sleep
        self._directory = Directory(root)
        self._ledger = Ledger(store)
        self._breaker = Breaker(store, self._ledger, self._directory, monotonic)
        pace = Pace(monotonic)
        self._taking = Taking(store, self._ledger, self._directory, pace, Clock(monotonic, wall_ns, sleep))
        self._writing = Writing(store, self._ledger, self._directory, pace, self._taking, stopping)

    # From the directory to the store

    def start(self) -> None:
        """Take up the directory: finish what a crash left, and take what was edited meanwhile."""
        self.scan()

    def scan(self) -> None:
        """Compare the whole directory with what was last written, and merge edits that still lie aside."""
        self._breaker.check()
        found = self._differences()
        for torn in found.torn:
            torn.unlink(missing_ok=True)
        if found.leftovers:
            for kept in found.leftovers:
                self._taking.take_leftover(leftover(kept))
            found = self._differences()
        changed = list(dict.fromkeys([*found.changed, *self._refused()]))
        self._taking.settle_moves(changed)
        for path in changed:
            if self._stopping():
                return
            self._take(path)
        self.vanished(found.gone)

    def _differences(self) -> Differences:
        return differences(self._directory, self._ledger.looks())

    def _refused(self) -> list[Path]:
        """Where refused files stand; of those that are gone nothing is said any more."""
        refused = [each.path for each in self._ledger.refused()]
        for path in refused:
            if self._directory.is_missing(path):
                self._taking.mended(path)
        return [self._directory.place(path) for path in refused if not self._directory.is_missing(path)]

    def saved(self, paths: Iterable[Path], *, deletions: Deletions = "some") -> list[str]:
        """Take files that were written; return the relative paths of those that are gone instead.

        What missing lines are: see `absorb`.
        """
        gone: list[str] = []
        present: list[Path] = []
        for path in paths:
            relative = self._directory.relative(path)
            if path.is_dir() and not self._ledger.at(relative):
                present += [each for each in sorted(path.rglob(f"*{SUFFIX}")) if each.is_file()]
            elif not os.path.lexists(path):
                gone += self._ledger.known_below(relative)
            else:
                present.append(path)
        present = [path for path in present if self._directory.may_be_session(path) and self._taking.is_news(path)]
        if present:
            self._breaker.check()
        self._taking.settle_moves(present)
        for path in present:
            self._take(path, deletions=deletions)
        return gone

    def _take(self, path: Path, *, deletions: Deletions = "some", at_a_glance: bool = True) -> None:
        no = self._taking.take(path, deletions=deletions, at_a_glance=at_a_glance)
        if no is not None:
            self._writing.write(no, anew=True)

    def vanished(self, paths: list[str]) -> int:
        """Delete the sessions whose files are gone, if that can be meant; return how many files are missing."""
        missing = [path for path in paths if self._directory.is_missing(path)]
        for path in missing:
            self._taking.mended(path)
        records = [record for path in missing if (record := self._ledger.at(path))]
        if records:
            self._breaker.check()
        # Taking up the directory of a store that was restored forgets what is missing.
        records = [record for record in records if self._ledger.at(record.path)]
        self._breaker.may_delete(len(records))
        for record in records:
            self._delete(record)
        return len(records)

    def _delete(self, record: Record) -> None:
        row = self._taking.session(record.session)
        with self._store.transaction():
            self._ledger.forget([record.session])
            if row is not None and not row.hidden:
                # Whoever removed the file knew what it showed, and nothing that came later.
                self._store.delete(row.id, known_seq=record.seq or None)
        if row is not None and not row.hidden:
            self._breaker.deleted(row.id)
            _log.info(
                "%s is gone: session %s is deleted (`steno restore %s` brings it back)", record.path, row.id, row.id
            )

    # From the store to the directory

    def write_pending(self) -> float | None:
        """Write the files of some sessions that changed. Returns after how many seconds to call again; None: never.

        A file that must wait holds up no other, but the cursor does not pass it before it is written.
        """
        self._breaker.check()
        unsettled, self._taking.unsettled = self._taking.unsettled, set()
        self.saved(sorted(unsettled))
        self._taking.take_aside()
        wait = self._writing.pending()
        look_again = self._taking.unsettled or self._taking.aside
        waits = [*([] if wait is None else [wait]), *([LOOK_AGAIN_S] if look_again else [])]
        return min(waits, default=None)

    def settle(self, sessions: Iterable[int]) -> None:
        """Bring the files of some sessions up to the store now, those of purged ones included.

        A file that must wait, or is refused, is left to `write_pending`.
        """
        self._breaker.check()
        for no in sessions:
            self._writing.write(no, anew=True)

    def rebuild(self) -> int:
        """Write every file anew that is missing or shows something else, edits taken first; return how many.

        Every file is read, also those that look as they were left. Nothing is deleted, missing files least of all.
        """
        self._breaker.check()
        count = self._writing.count
        with self._store.transaction():
            self._ledger.write_again(self._ledger.gone(self._directory.is_missing))
        self.scan()
        for path, *_ in list(self._ledger.looks()):
            if self._stopping():
                break
            self._take(self._directory.place(path), at_a_glance=False)
        while not self._stopping() and (wait := self.write_pending()) is not None:
            self._sleep(wait)
        return self._writing.count - count

    # What a person says of a halt

    def resume(self, *, restore: bool) -> Resumed:
        """End a halt: write the missing files again, or delete their sessions; so for saves that would delete much.

        With ``restore`` also the sessions come back that were deleted just before. Raises `InvalidInput` where no file
        is missing and none waits for that.
        """
        halt, waiting = halt_of(self._store), self._ledger.waiting()
        gone = self._ledger.first_gone(self._directory.is_missing)
        if halt is None and not waiting and gone is None:
            raise InvalidInput("the files do not stand still, and none is missing: there is nothing to resume")
        done = Resumed() if halt is None and gone is None else self._end(halt, restore=restore)
        for each in waiting:
            no = self._taking.take(self._directory.place(each.path), deletions="none" if restore else "all")
            if no is not None:
                self._writing.write(no, anew=True)
        return done

    def _end(self, halt: Halt | None, *, restore: bool) -> Resumed:
        self._breaker.adopt()
        self._taking.settle_moves(self._differences().changed)
        gone = self._ledger.gone(self._directory.is_missing)
        with self._store.transaction():
            rows = [self._store.find(each) for each in halt.deleted] if halt and restore else []
            deleted = [row.id for row in rows if row is not None and row.hidden]
            for session_id in deleted:
                self._store.restore(session_id)
            if restore:
                self._ledger.write_again(gone)
            else:
                for record in gone:
                    self._delete(record)
            self._breaker.end()
        return Resumed(0 if restore else len(gone), len(deleted), len(gone) if restore else 0)

    def refused(self) -> list[RefusedFile]:
        """The files that are left alone until they are mended."""
        return self._ledger.refused()
