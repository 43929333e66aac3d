"""Whether a store is sound: every check as a value, and the mending of what can be mended without loss.

Looking only reads, also a store that is damaged or cannot be written. What is mended is made anew
from what people and programs wrote: the index, and the caches of sessions; nothing else is touched
(tests/unit/test_doctor.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

import msgspec

from . import checks
from .caches import Comparison, remake
from .database import Database
from .errors import LocalStorageError
from .indexing import backlog, rebuild
from .indexing import index as index_slice
from .rows import TOMBSTONE
from .sqlite import FIXED, dbapi
from .store import Store

NAMED = 5
_PAGE = 500

Told = Callable[[str], None]
"""Is told, now and then, what is being looked at."""

_RESTORE = "keep a copy of the file, then put back a backup: `steno backup --restore FILE`"
_REMAKE = f"{_RESTORE}; or make it anew from the files: `steno doctor --rebuild`"
_REPAIR = "run `steno doctor --repair`"
_REBUILD = "run `steno doctor --rebuild-index`"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check: whether all is well there, what was found, and what to do where it is not.

    ``count`` is how many things are wrong; ``what`` names the first few of them.
    """

    name: str
    ok: bool
    what: str
    advice: str = ""
    count: int = 0


class _Check(NamedTuple):
    name: str
    holds: str
    advice: str
    look: Callable[[Database], Iterator[str]]


_CHECKS = (
    _Check("file", "every page, table and index is whole", _REMAKE, checks.file),
    _Check("numbers", "the feed counts each change once", _RESTORE, checks.numbers),
    _Check("cursors", "no consumer is ahead of the feed", _REPAIR, checks.cursors),
    _Check("orphans", "nothing belongs to what is not there", _RESTORE, checks.orphans),
    _Check("births", "every session and message has its birth", _RESTORE, checks.births),
    _Check("registers", "every state can be read", _RESTORE, checks.registers),
    _Check("contents", "every message can be read", _RESTORE, checks.contents),
    _Check("index", "what is indexed is found", _REBUILD, checks.index),
)
_CACHES = {
    "order": ("messages stand in the order of their births", ("ord", "incomplete")),
    "counts": ("sessions say how much is in them", ("message_count", "size_bytes", "updated_ms", "created_ms")),
    "titles": ("sessions show their titles", ("title", "automatic")),
    "hidden": ("what is deleted is hidden, and nothing else", ("hidden", "deleted_ms", "vectors")),
    "conflicts": ("what is in conflict is marked so, and nothing else", ("conflict",)),
    "forks": ("forks know their originals", ("forks",)),
    "fields": ("sessions and messages show what was written last", ()),
}
_CACHE_OF = {column: name for name, (_, columns) in _CACHES.items() for column in columns}


def examine(store: Database, *, told: Told = lambda _: None) -> list[Finding]:
    """Look at everything, as it is at one moment; nothing is written."""
    with _one_moment(store):
        found = [_library()]
        for check in _CHECKS:
            told(f"looking at {check.name}")
            found.append(_looked(check, store))
        return [*found, *_caches(store, told), _backlog(store)]


def mend(store: Store, *, told: Told = lambda _: None) -> int:
    """Make anew what is cached wrongly, a session a transaction; return of how many sessions.

    Consumers that are ahead of the feed begin again. A session that is too damaged stays as it is. Done twice it
    changes nothing.
    """
    with store.transaction():
        store.execute("UPDATE cursors SET seq = 0 WHERE seq > ?", (store.last_seq,))
    mended = 0
    with closing(Comparison(store)) as comparison:
        for no, _ in _sessions(store, told):
            with suppress(Exception), store.transaction():  # `examine` tells of those that break
                mended += _mended(store, comparison, no)
    return mended


def rebuild_index(store: Store, *, told: Told = lambda _: None) -> None:
    """Make the search index anew, a slice a transaction; what is not indexed yet is so when a search needs it."""
    rebuild(store)
    while (progress := index_slice(store)).remaining:
        told(f"{progress.remaining:,} changes are left to index")


def _mended(store: Store, comparison: Comparison, no: int) -> bool:
    stale = comparison.stale(no)
    if not stale:
        return False
    remake(store, no)
    # The files and the index are to see what is shown otherwise; it was no write, so nothing is sent.
    for table, row in (("sessions", no), *(("messages", each.no) for each in stale if each.no)):
        seq, _ = store.advance()
        store.execute(f"UPDATE {table} SET seq = ? WHERE no = ?", (seq, row))  # noqa: S608
    return True


def _library() -> Finding:
    version = dbapi.sqlite_version
    if FIXED:
        return Finding(name="sqlite", ok=True, what=f"SQLite {version} has the fix for WAL resets")
    what = f"SQLite {version} can damage a database when a log is reset; writers here take turns by a file lock"
    return Finding(name="sqlite", ok=True, what=what, advice="let no other program write to this database")


def _backlog(store: Database) -> Finding:
    """How much the index lacks: that is no fault."""
    left = backlog(store)
    what = f"{left:,} changes are not indexed yet; the next search does it" if left else "nothing waits to be indexed"
    return Finding(name="backlog", ok=True, what=what)


def _caches(store: Database, told: Told) -> list[Finding]:
    wrong: dict[str, list[str]] = {name: [] for name in _CACHES}
    counts = dict.fromkeys(_CACHES, 0)
    with closing(Comparison(store)) as comparison:
        for name, what in _stale(store, comparison, told):
            counts[name] += 1
            if counts[name] <= NAMED:
                wrong[name].append(what)
    return [_finding(name, holds, _REPAIR, wrong[name], counts[name]) for name, (holds, _) in _CACHES.items()]


def _stale(store: Database, comparison: Comparison, told: Told) -> Iterator[tuple[str, str]]:
    """What is cached wrongly: to which check it belongs, and what it is."""
    for no, session in _sessions(store, told):
        try:
            for each in comparison.stale(no):
                whose = f"session {session}" if each.message is None else f"message {each.message} of session {session}"
                yield from ((_CACHE_OF.get(column, "fields"), f"{column} of {whose}") for column in each.columns)
        except Exception as exc:  # noqa: BLE001  what is damaged breaks anything; the others are looked at all the same
            yield "fields", f"session {session} cannot be made anew ({type(exc).__name__}: {exc})"


def _sessions(store: Database, told: Told) -> Iterator[tuple[int, str]]:
    """Every session that is no tombstone: its number and its id."""
    sql = f"SELECT no, id FROM sessions WHERE no > ? AND hidden <> {TOMBSTONE} ORDER BY no LIMIT {_PAGE}"  # noqa: S608
    last, looked = 0, 0
    while page := store.execute(sql, (last,)).fetchall():
        told(f"looking at sessions: {looked:,} so far")
        yield from page
        last, looked = page[-1][0], looked + len(page)


def _looked(check: _Check, store: Database) -> Finding:
    wrong: list[str] = []
    count = 0
    try:
        for what in check.look(store):
            count += 1
            if count <= NAMED:
                wrong.append(" ".join(what.split()))
    except Exception as exc:  # noqa: BLE001  as above
        wrong.append(f"it cannot be looked at ({type(exc).__name__}: {exc})")
        count += 1
    return _finding(check.name, check.holds, check.advice, wrong, count)


def _finding(name: str, holds: str, advice: str, wrong: list[str], count: int) -> Finding:
    if not count:
        return Finding(name=name, ok=True, what=holds)
    more = f"; and {count - len(wrong):,} more" if count > len(wrong) else ""
    return Finding(name=name, ok=False, what="; ".join(wrong) + more, advice=advice, count=count)


@contextmanager
def _one_moment(store: Database) -> Generator[None]:
    """Let all checks see one moment, unless they do already."""
    if store.connection.in_transaction:
        yield
        return
    store.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(LocalStorageError):  # of a damaged store even the end of a reading may fail
            store.execute("ROLLBACK")
