"""The directory of JSONL files, kept equal to the store: what is written there, and what is read back.

A file is written as a whole, by exchange, when its session changed (`writing`); a file that is not what was last
written is somebody's edit and is taken before anything is written over it (`taking`). Our own writes are known by
what was recorded of them and cause nothing. A vanished file deletes its session only while the directory
demonstrably is ours and few vanish at once (`breaker`; tests/unit/test_files_mirror.py, tests/e2e/test_files.py).
"""

from __future__ import annotations

import contextlib
import logging
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
from .names import is_session_file
from .pace import Pace
from .power import Machine, Power, machine
from .taking import LOOK_AGAIN_S, Clock, Taking
from .unnamed import Unnamed
from .walk import Differences, Directory, differences, is_folder, is_gone
from .writing import Writing

__all__ = ["MARKER", "Halt", "Mirror", "MirrorStopped", "Resumed", "halt_of"]

_log = logging.getLogger("steno.files")


class Resumed(msgspec.Struct, frozen=True):
    """What became of a halt: how many sessions were deleted, or brought back, and how many files are to be written.

    ``messages`` were deleted by saves that had waited, or came back; ``refused`` are such files that cannot be
    understood by now. ``kept`` says which sessions are not deleted, since another file may be the missing one.
    """

    deleted: int = 0
    restored: int = 0
    files: int = 0
    messages: int = 0
    refused: list[str] = []
    kept: list[str] = []


class Mirror:
    """The mirror of one store. One process at a time runs it; calls are not concurrent.

    ``stopping`` is asked between two files: True ends a call early, and the next one goes on where it was.
    ``monotonic`` counts the seconds of every wait, ``wall_ns`` is held against the times of files, ``sleep`` waits
    until a file holds still, and ``machine`` tells when that was started. All but `resume` raise `MirrorStopped` while
    the directory is not in its place.
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
        machine: Callable[[], Machine] = machine,
    ) -> None:
        self._store = store
        self._stopping = stopping
        self._directory = Directory(root)
        self._ledger = Ledger(store)
        self._breaker = Breaker(store, self._ledger, self._directory, monotonic)
        pace = Pace(monotonic)
        self._power = power = Power(store, self._ledger, self._directory, machine(), wall_ns)
        self._taking = Taking(store, self._ledger, self._directory, pace, power, Clock(monotonic, wall_ns, sleep))
        self._kept: set[str] = set()
        self._writing = Writing(store, self._ledger, self._directory, pace, power, self._taking, stopping)

    def close(self) -> None:
        """Let what was written reach the disk, so that nothing of it is in doubt after the machine's end."""
        self._power.close()

    # From the directory to the store

    def start(self) -> None:
        """Take up the directory: finish what a crash left, and take what was edited meanwhile."""
        self.scan()

    def scan(self) -> None:
        """Compare the whole directory with what was last written, and merge edits that still lie aside."""
        self._breaker.check()
        found = self._differences()
        for torn in found.torn:
            with contextlib.suppress(OSError):
                torn.unlink()
        if found.leftovers:
            for kept in found.leftovers:
                self._taking.take_leftover(leftover(kept))
            found = self._differences()
        strays = [path for path in found.strays if self._is_alone(path)]
        suspects = self._power.suspects() if self._power.lost else []
        changed = list(dict.fromkeys([*found.changed, *strays, *self._refused(), *suspects]))
        news = [path for path in changed if not self._taking.left_alone.is_as_refused(path)]
        if news or found.gone:
            # A file that is refused as before may be the one that another was renamed to.
            self._taking.settle_moves(changed)
        for path in news:
            if self._stopping():
                return
            if not self._power.lost or not self._is_settled(path):
                self._take(path, at_a_glance=not self._power.lost)
        self.vanished(found.gone)
        if not found.gone:
            self._breaker.all_is_there()
        if self._power.lost:
            self._power.all_seen()

    def _is_settled(self, path: Path) -> bool:
        """Write a file anew that holds what we wrote, as far as it arrived; False where it must be taken."""
        relative = self._directory.relative(path)
        found = self._power.remnant(path, relative) if self._power.is_untouched(path) else None
        if found is None:
            return False
        self._power.settle(relative, found)
        self._writing.write(found.session, anew=True)
        return True

    def _differences(self) -> Differences:
        return differences(self._directory, self._ledger.looks())

    def _refused(self) -> list[Path]:
        """Where refused files stand; of those that are gone nothing is said any more."""
        refused = [each.path for each in self._ledger.refused()]
        for path in refused:
            if self._directory.is_missing(path):
                self._taking.mended(path)
            self._make_way(path)
        return [self._directory.place(path) for path in refused if self._ledger.is_refused(path)]

    def _make_way(self, relative: str) -> None:
        """Say nothing any more of what was refused where now a folder stands, or a file that is no session's."""
        if not self._ledger.is_refused(relative) or self._ledger.at(relative):
            return
        path = self._directory.place(relative)
        if is_folder(path) or not (is_session_file(path.name) or self._directory.is_stray(path)):
            self._taking.mended(relative)

    def _is_alone(self, path: Path) -> bool:
        """Say whether nothing is known to lie below a path; what does lie there is refused itself."""
        relative = self._directory.relative(path)
        return not [each for each in self._ledger.known_below(relative) if each != relative]

    def saved(self, paths: Iterable[Path], *, deletions: Deletions = "some") -> list[str]:
        """Take files that were written; return the relative paths of those that are gone instead.

        What missing lines are: see `absorb`.
        """
        gone: list[str] = []
        present: list[Path] = []
        for path in paths:
            relative = self._directory.relative(path)
            self._make_way(relative)
            if is_folder(path) and not self._ledger.at(relative):
                present += self._directory.below(path)
            elif is_gone(path):
                gone += self._ledger.known_below(relative)
            else:
                # What stands in the place of a folder is in the way of what lay below it.
                known = [self._directory.place(each) for each in self._ledger.known_below(relative)]
                present += known or (
                    [path] if self._directory.may_be_session(path) or self._directory.is_stray(path) else []
                )
        present = [path for path in present if self._taking.is_news(path)]
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
        self._taking.give_back_memory()

    def vanished(self, paths: list[str]) -> int:
        """Delete the sessions whose files are gone, if that can be meant; return how many files are missing."""
        missing = [path for path in paths if self._directory.is_missing(path)]
        if not missing:
            return 0
        for path in missing:
            self._taking.mended(path)
        self._breaker.check()
        # Taking up the directory of a store that was restored lets what is missing be written again.
        records = [record for path in missing if (record := self._ledger.at(path)) and record.stands]
        kept = self._kept_by(records, Unnamed(self._unnamed()))
        gone = [record for record in records if record.session not in kept]
        if self._power.lost:
            fresh = [record for record in gone if self._power.is_fresh(record)]
            self._power.write_again(fresh)
            gone = [record for record in gone if record not in fresh]
        self._breaker.may_delete(len([record for record in gone if self._is_shown(record)]))
        for record in gone:
            self._delete(record)
        for line in set(kept.values()) - self._kept:
            _log.warning("%s", line)
        self._kept = set(kept.values())
        return len(records)

    def _unnamed(self) -> list[Path]:
        """Where refused files stand that are no session's, as far as is known; nothing is read behind a link."""
        paths = [self._directory.place(each.path) for each in self._ledger.refused() if not self._ledger.at(each.path)]
        return [path for path in paths if self._directory.in_the_way(path) is None]

    def _kept_by(self, records: Iterable[Record], unnamed: Unnamed) -> dict[int, str]:
        """The sessions whose missing files may stand under other names, each with the line that says so."""
        kept: dict[int, str] = {}
        for record in records:
            row = self._taking.session(record.session)
            path = None if row is None or row.hidden else unnamed.like(record, row.id)
            if row is not None and path is not None:
                kept[row.no] = (
                    f"{record.path} is gone, but {self._directory.relative(path)} may be it: session {row.id} is kept "
                    "until that file is mended or removed"
                )
        return kept

    def _is_shown(self, record: Record) -> bool:
        row = self._taking.session(record.session)
        return row is not None and not row.hidden

    def _delete(self, record: Record) -> None:
        """Delete the session of a file that is gone, as the file showed it.

        One that was not written since it was taken is written instead: nobody knows what else it would have shown.
        """
        row, shown = self._taking.session(record.session), self._is_shown(record)
        with self._store.transaction():
            if shown and not record.seq:
                self._ledger.write_again([record])
                return
            self._ledger.forget([record.session])
            if row is not None and shown:
                self._store.delete(row.id, known_seq=record.seq)
        if row is not None and shown:
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
        self._taking.left_alone.forget()
        self._taking.settle_moves(self._differences().changed)
        with self._store.transaction():
            self._ledger.write_again(self._ledger.gone(self._directory.is_missing))
        self.scan()
        for path in self._ledger.every_path():
            if self._stopping():
                break
            self._take(self._directory.place(path), at_a_glance=False)
        self.write_due()
        return self._writing.count - count

    def write_due(self) -> None:
        """Write what can be written without waiting; the rest is left to `write_pending`."""
        while not self._stopping() and self.write_pending() == 0.0:
            pass

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
            if self._directory.is_missing(each.path):
                self._taking.mended(each.path)
                continue
            no = self._taking.take(self._directory.place(each.path), deletions="none" if restore else "all")
            if no is not None:
                self._writing.write(no, anew=True)
        refused = {each.path for each in self._ledger.refused()}
        messages = sum(each.dropped for each in waiting if each.path not in refused)
        left = [each.path for each in waiting if each.path in refused]
        self.write_pending()
        return msgspec.structs.replace(done, messages=messages, refused=left)

    def _end(self, halt: Halt | None, *, restore: bool) -> Resumed:
        self._breaker.adopt()
        changed = self._differences().changed
        self._taking.settle_moves(changed)
        gone = self._ledger.gone(self._directory.is_missing)
        kept: dict[int, str] = {}
        if not restore:
            unknown = [path for path in changed if not self._ledger.at(self._directory.relative(path))]
            kept = self._kept_by(gone, Unnamed([*unknown, *self._unnamed()]))
            gone = [record for record in gone if record.session not in kept]
        with self._store.transaction():
            restored = self._restored(halt) if halt and restore else 0
            if restore:
                self._ledger.write_again(gone)
            else:
                for record in gone:
                    self._delete(record)
            self._breaker.end()
        if restore:
            return Resumed(restored=restored, files=len(gone))
        return Resumed(deleted=len(gone), kept=list(kept.values()))

    def _restored(self, halt: Halt) -> int:
        """Bring back what was deleted just before a halt, unless somebody deleted it again since."""
        rows = [self._store.find(each) for each in halt.deleted]
        ours = [row for row in rows if row and row.hidden and row.deleted_ms == halt.deleted[row.id]]
        for row in ours:
            self._store.restore(row.id)
        return len(ours)

    def refused(self) -> list[RefusedFile]:
        """The files that are left alone until they are mended."""
        return self._ledger.refused()
