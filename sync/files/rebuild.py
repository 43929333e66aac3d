"""The files of a lost store, taken into a new one: each session once, from the file that is most likely its own.

What is left is for the mirror, by its own rules: a file without a header or an id is a new session, a second file of
a session is a copy, and one that cannot be understood is refused and named. Nothing in the directory is changed but
what a crash of the lost store left aside there, and no text that a file shows goes without a copy of that file
(tests/unit/test_rebuild.py, tests/e2e/test_rebuild.py).
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Collection
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...storage.errors import StenoError
from ...storage.home import private_directory, write_private
from ...storage.steps import step
from ...storage.store import Store
from .breaker import mark, marked
from .deriving import Derived, derive
from .exchange import leftover
from .ledger import Ledger, Record
from .lines import ParsedFile, Refused, Rev, parse, parse_rev
from .names import SUFFIX, id_in_name
from .objects import BOM
from .reading import FileChanged, Found, first_line, read_once, read_settled
from .taking import PATIENCE_S, Clock
from .walk import Directory, differences

NOW = Clock()
_MAX_SEQ = 1 << 50
"""No feed comes so far: a number from there on was typed."""
_log = logging.getLogger("steno.files")

Told = Callable[[str], None]
"""Is told, now and then, how far it is."""


class Candidate(NamedTuple):
    """A file that says which session it is of; the least of a session's is its file."""

    session: str
    renamed: bool
    age: int
    path: str


class Survey(msgspec.Struct, frozen=True):
    """What a directory says at a glance: the files of each session, and the greatest number of a feed in a rev."""

    candidates: list[Candidate] = []
    last_seq: int = 0


class Rebuilt(msgspec.Struct):
    """What the files gave: how many were taken, and the sessions and messages that the store did not know.

    ``edits`` counts values that the lost device never sent, ``yielded`` those that the store shows otherwise, for
    which ``kept`` files lie aside as they were. ``passed_over`` says of files why they were not taken.
    """

    files: int = 0
    sessions: int = 0
    messages: int = 0
    edits: int = 0
    yielded: int = 0
    kept: int = 0
    passed_over: dict[str, str] = {}


class _Head(msgspec.Struct, frozen=True):
    steno: int
    id: str
    rev: str | None = None


def adopt(store: Store, root: Path) -> None:
    """Mark a directory that has no marker as that of a store which was made from it; others are known as former."""
    if marked(root) is None:
        mark(root, store.device)


def survey(root: Path, *, aside: Path) -> Survey:
    """Look through a directory. What a crash left in it is put back where its place is empty, else moved ``aside``.

    There it may be an edit, or what the lost store had written before; only that store could tell.
    """
    if not root.is_dir():
        return Survey()
    directory = Directory(root)
    for path in differences(directory, ()).leftovers:
        _settle(directory, path, aside)
    found: list[Candidate] = []
    last_seq = 0
    for path in differences(directory, ()).changed:
        session, rev = _named(path)
        if session is not None:
            seq = rev.seq if rev and rev.seq < _MAX_SEQ else 0
            last_seq = max(last_seq, seq)
            renamed = not path.name.endswith(f".{id_in_name(session)}{SUFFIX}")
            found.append(Candidate(session, renamed, -seq, directory.relative(path)))
    return Survey(sorted(found), last_seq)


def rebuild(
    store: Store,
    root: Path,
    found: Survey,
    *,
    lost: Collection[str],
    aside: Path,
    told: Told = lambda _: None,
    clock: Clock = NOW,
) -> Rebuilt:
    """Add to a new store what the files show and it does not know; no file is half taken.

    ``lost`` are the ids of the device whose database was lost. A file that shows what the store will not is kept
    ``aside`` as it is.
    """
    taking = _Taking(store, root, lost, aside, clock)
    for at, (session, candidates) in enumerate(groupby(found.candidates, key=lambda each: each.session), start=1):
        told(f"taking in the files: {at:,} sessions so far")
        for candidate in candidates:
            if taking.take(session, candidate.path):
                break
        step("rebuild.session")
    return taking.done


class _Taking:
    def __init__(self, store: Store, root: Path, lost: Collection[str], aside: Path, clock: Clock) -> None:
        self._store, self._root, self._lost, self._aside, self._clock = store, root, lost, aside, clock
        self._ledger = Ledger(store)
        self.done = Rebuilt()

    def take(self, session: str, relative: str) -> bool:
        """Take one file; False, and the reason kept, where it is no file of this session after all."""
        try:
            path = self._root / relative
            found = read_settled(path, limit_bytes=sys.maxsize, patience_s=PATIENCE_S, **self._clock._asdict())
            mine = parse(found.data, limited=False)
        except StenoError as exc:
            self.done.passed_over[relative] = str(exc)
            return False
        if mine.header is None or mine.header.id != session:
            self.done.passed_over[relative] = "it was written meanwhile"
            return False
        try:
            derived = self._derive(session, relative, found, mine)
        except Refused as exc:
            self.done.passed_over[relative] = str(exc)
            return False
        except StenoError:
            raise
        except Exception as exc:  # noqa: BLE001  a bug that one file meets must not stop the others
            _log.exception("%s could not be taken", relative)
            self.done.passed_over[relative] = f"something unexpected happened ({type(exc).__name__}: {exc})"
            return False
        self._count(derived)
        if derived.yielded:
            self._keep(relative, found.data)
        return True

    def _derive(self, session: str, relative: str, found: Found, mine: ParsedFile) -> Derived:
        with self._store.transaction():
            derived = derive(self._store, mine, session_id=session, lost=self._lost)
            self._ledger.keep(Record(derived.session, relative, 0, found.fingerprint))
        return derived

    def _count(self, derived: Derived) -> None:
        done = self.done
        done.files += 1
        done.sessions += derived.created
        done.messages += derived.added
        done.edits += len(derived.edits)
        done.yielded += len(derived.yielded)

    def _keep(self, relative: str, data: bytes) -> None:
        target = self._aside / relative
        private_directory(target.parent)
        write_private(target, data)
        self.done.kept += 1
        _log.info("%s shows what others wrote otherwise; it is kept as it was in %s", relative, target)


def _settle(directory: Directory, path: Path, aside: Path) -> None:
    left = leftover(path)
    if not os.path.lexists(left.target):
        try:
            left.put_back(None)
        except FileChanged:
            _log.info("%s is there again", left.target)
        else:
            return
    target = aside / directory.relative(path)
    private_directory(target.parent)
    shutil.move(path, target)
    _log.info("%s lay aside since a crash; it is kept in %s", directory.relative(path), target)


def _named(path: Path) -> tuple[str | None, Rev | None]:
    """The session that a file says it is of, and its rev; None where it is of none, or does not say."""
    try:
        path.name.encode()
        found = msgspec.json.decode(first_line(path).removeprefix(BOM), type=_Head)
    except msgspec.ValidationError:
        return None, None
    except (msgspec.DecodeError, UnicodeDecodeError):  # spread over several lines, or none
        return _named_inside(path)
    except (UnicodeEncodeError, RecursionError):
        return None, None
    return found.id, parse_rev(found.rev)


def _named_inside(path: Path) -> tuple[str | None, Rev | None]:
    try:
        header = parse(read_once(path, limit_bytes=sys.maxsize).data, limited=False).header
    except StenoError:
        return None, None
    return (header.id, parse_rev(header.rev)) if header else (None, None)
