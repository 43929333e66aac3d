"""The rules of editing by hand, each of them broken on purpose: the machine must say so, or it shows nothing.

A mutant breaks one rule in the modules that keep it. `MUTANTS` names with each the first seed whose schedule the model
objects to, and what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from steno.storage.state import load
from steno.storage.store import Store
from steno.sync.files import absorb as absorbing
from steno.sync.files import exchange, taking
from steno.sync.files.ledger import CURSOR
from steno.sync.files.mirror import Mirror
from steno.sync.files.plan import Base, Held, Line, _Draft
from steno.sync.files.taking import Taking
from steno.sync.files.writing import Writing

Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    """A broken rule: ``seed`` is the first that shows it, and ``says`` stands in what the model says then."""

    breaks: Callable[[Patch], None]
    seed: int
    says: str

    @property
    def name(self) -> str:
        return self.breaks.__name__


# What a saved file means


def the_file_is_the_truth(patch: Patch) -> None:
    """Whatever the store shows and the file does not is taken for an edit of who saved it."""
    plan = absorbing.plan

    def planned(mine: Any, *, current: Any, new_id: Callable[[], str], **_: Any) -> Any:
        now = Base(current.header, [held.line for held in current.messages if not held.hidden])
        return plan(mine, current=current, base=now, previous=None, new_id=new_id)

    patch.setattr(absorbing, "plan", planned)


def a_stale_save_sets_fields_back(patch: Patch) -> None:
    """A line is held against what the store shows now, not against what its person had opened."""

    def reference(draft: _Draft, id_: str) -> Line | None:
        return draft.held[id_].line

    patch.setattr(_Draft, "_reference", reference)


def a_stale_save_deletes_what_arrived(patch: Patch) -> None:
    """Whoever saves is taken to have seen every message."""
    patch.setattr(_Draft, "_knew", lambda _draft, _id: True)


def a_line_changed_meanwhile_is_deleted_all_the_same(patch: Patch) -> None:
    """Whoever takes a line out is taken to have seen what its message says now."""

    def deletion(store: Any, row: Any, each: Any, *_: Any) -> bytes:
        known = load(store, row.no, each, "content").known
        return absorbing.encode(absorbing.Vector(dict(known), frozenset(), store.now_ms()))

    patch.setattr(_Draft, "_changed_since", lambda *_: False)
    patch.setattr(absorbing, "_deletion", deletion)


def an_edit_replaces_what_it_did_not_know(patch: Patch) -> None:
    """A value that arrived while the file was open is overwritten, and no conflict is left of it."""

    def known(past: Any, row: Any, path: str) -> Any:
        return load(past._store, past._session.no, row, path).known

    patch.setattr(absorbing.Past, "known", known)


def saves_are_not_remembered(patch: Patch) -> None:
    """A line without id that is saved twice is added twice."""
    patch.setattr(absorbing, "keep_save", lambda *_: None)


def new_lines_come_last(patch: Patch) -> None:
    placed = absorbing._placed

    def at_the_end(store: Any, action: Any) -> Any:
        return placed(store, msgspec.structs.replace(action, insertion=False))

    patch.setattr(absorbing, "_placed", at_the_end)


def a_deleted_message_comes_back_with_any_save(patch: Patch) -> None:
    """A line that stands in a file is taken to be wanted."""
    real = _Draft._compare_line

    def compare(draft: _Draft, index: int, line: Line, held: Held, new_id: Callable[[], str]) -> str:
        if held.hidden:
            draft.actions.append(absorbing.Restore(str(held.line.id)))
        return real(draft, index, line, held, new_id)

    patch.setattr(_Draft, "_compare_line", compare)


def a_purged_line_is_taken_again(patch: Patch) -> None:
    patch.setattr(absorbing, "_without_purged", lambda _store, _row, mine, *_, **_options: (mine, []))


def a_line_without_id_is_never_a_purged_one(patch: Patch) -> None:
    """An editor that saves again brings back what got an id and was purged."""
    patch.setattr(absorbing, "may_be_purged", lambda *_: None)


# Whose file it is, and whether it is whole


def half_a_file_is_taken_for_the_whole(patch: Patch) -> None:
    """Lines that somebody has not written yet are deleted."""
    patch.setattr(taking, "is_open_for_writing", lambda _: False)


def a_copy_is_taken_for_the_file(patch: Patch) -> None:
    """A second file that names a session is that session's, although its own stands there."""
    patch.setattr(Taking, "_is_elsewhere", lambda *_: False)


def a_renamed_file_is_taken_for_a_copy(patch: Patch) -> None:
    """A session's file is believed to stand where it was left."""
    patch.setattr(Taking, "_holds", lambda *_: True)


def a_file_set_aside_for_a_moment_is_gone(patch: Patch) -> None:
    """Editors that rename the old file before they write the new one delete the session."""
    real = Mirror.vanished

    def vanished(mirror: Mirror, paths: list[str]) -> int:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(mirror._directory, "is_missing", lambda _: True)
            return real(mirror, paths)

    patch.setattr(Mirror, "vanished", vanished)


def a_removed_file_takes_all_with_it(patch: Patch) -> None:
    """What came to a session after its file was written is deleted with the file."""
    real = Store.delete

    def delete(store: Store, session_id: str, **_: Any) -> Any:
        return real(store, session_id)

    patch.setattr(Store, "delete", delete)


# Crashes, and edits in the middle of writing


def what_stood_in_the_way_is_thrown_away(patch: Patch) -> None:
    """An edit made between looking at a file and exchanging it is not compared with what was expected there."""

    def remove(kept: Path, _: Any) -> bool:
        kept.unlink(missing_ok=True)
        return True

    patch.setattr(exchange, "_remove_if", remove)


def what_a_crash_left_aside_is_thrown_away(patch: Patch) -> None:
    patch.setattr(Taking, "take_leftover", lambda _, displaced: displaced.kept.unlink())


def a_file_is_read_before_it_is_taken(patch: Patch) -> None:
    """The ledger says that a save was read in a transaction before the one that applies it."""
    real = Taking._absorb

    def absorb(self: Taking, relative: str, found: Any, record: Any, **options: Any) -> Any:
        if record is not None:
            with self._store.transaction():
                self._ledger.keep(msgspec.structs.replace(record, fingerprint=found.fingerprint))
        return real(self, relative, found, record, **options)

    patch.setattr(Taking, "_absorb", absorb)


def the_cursor_runs_ahead_of_the_files(patch: Patch) -> None:
    """A crash while files are written leaves the others unwritten."""
    real = Writing._write_in_time

    def write(self: Writing, no: int, *, anew: bool) -> float | None:
        with self._store.transaction():
            self._store.set_cursor(CURSOR, self._store.last_seq)
        return real(self, no, anew=anew)

    patch.setattr(Writing, "_write_in_time", write)


MUTANTS = [
    Mutant(the_file_is_the_truth, 1, "is hidden: 1, live: True"),
    Mutant(a_stale_save_sets_fields_back, 5, " shows "),
    Mutant(a_stale_save_deletes_what_arrived, 1, "is hidden: 1, live: True"),
    Mutant(a_line_changed_meanwhile_is_deleted_all_the_same, 64, "is hidden: 1, live: True"),
    Mutant(an_edit_replaces_what_it_did_not_know, 41, "should hold"),
    Mutant(saves_are_not_remembered, 2, "was saved again and became"),
    Mutant(new_lines_come_last, 1, "new lines do not stand where they were written"),
    Mutant(a_deleted_message_comes_back_with_any_save, 13, "is hidden: 0, live: False"),
    Mutant(a_purged_line_is_taken_again, 1, "a line of a purged message was taken"),
    Mutant(a_line_without_id_is_never_a_purged_one, 29, "was saved again and became"),
    Mutant(half_a_file_is_taken_for_the_whole, 2, "half a file deleted"),
    Mutant(a_copy_is_taken_for_the_file, 3, "there is not one file for each session"),
    Mutant(a_renamed_file_is_taken_for_a_copy, 13, "became two"),
    Mutant(a_file_set_aside_for_a_moment_is_gone, 3, "is deleted, whose file is there again"),
    Mutant(a_removed_file_takes_all_with_it, 17, "is hidden: 1, should be False"),
    Mutant(what_stood_in_the_way_is_thrown_away, 8, "was never taken"),
    Mutant(what_a_crash_left_aside_is_thrown_away, 219, "was never taken"),
    Mutant(a_file_is_read_before_it_is_taken, 21, "was never taken"),
    Mutant(the_cursor_runs_ahead_of_the_files, 1, "is not what the store holds"),
]
