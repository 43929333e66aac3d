"""A device with its directory and the people at it: real store, real mirror, real files; time and chance are given.

Whatever the mirror commits is told to the model in the transaction's order. At every point between two writes of the
mirror (each `step`, each transaction, each wait) it may be killed, or somebody else may do something.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.conflicts import conflicts
from steno.storage.database import Transaction
from steno.storage.doctor import examine
from steno.storage.model import NewMessage
from steno.storage.registers import REMOVED, value_of
from steno.storage.rows import HIDDEN_IN_VECTOR, header, message
from steno.storage.state import find_message, load
from steno.storage.store import Store
from steno.sync.files import exchange
from steno.sync.files.lines import Rev, header_of, line_of, parse_rev, render
from steno.sync.files.mirror import MARKER, Mirror
from steno.tests.simulation.files_model import GONE, PLAIN, SCALARS, Model, Page, Taken
from steno.tests.simulation.test_stores_converge import state

NOW_MS = 1_800_000_000_000
OURS = ".steno-"

_Kind = TypeVar("_Kind", bound=Store)


class Killed(BaseException):
    """The process ends here."""


def page_of(data: bytes) -> Page | None:
    """What bytes say, read as plainly as can be; None where that is no file of a session."""
    try:
        rows = [json.loads(row) for row in data.decode().split("\n") if row.strip()]
    except ValueError:
        return None
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    head = rows.pop(0) if "steno" in rows[0] else None
    lines = [{key: value for key, value in row.items() if value is not None} for row in rows]
    named = [line["id"] for line in lines if "id" in line]
    if len(set(named)) != len(named) or not all("role" in line and "content" in line for line in lines):
        return None
    return Page(head, lines)


class World:
    """Two devices, and what happens between two of their steps."""

    def __init__(self, folder: Path, templates: dict[str, Path]) -> None:
        self.folder = folder
        self.model = Model()
        self.clock = itertools.count(NOW_MS)
        self.texts = itertools.count(1)
        self.tokens = itertools.count(1)
        self.times = itertools.count(1_000_000_000)
        self.job: Desk | None = None
        self.passed = 0
        self.disturbed = False
        self.crash_at: int | None = None
        self.later_at: int | None = None
        self.later: Callable[[], None] | None = None
        self.deleted: set[str] = set()
        self.objections: list[Exception] = []
        self.desks = {name: Desk(self, name, folder, template) for name, template in templates.items()}
        for desk in self.desks.values():
            self.work(desk, desk.mirror.start)

    def close(self) -> None:
        for desk in self.desks.values():
            desk.close()

    def judge(self, told: Callable[[], None]) -> None:
        """Tell the model; what it objects to is said when the work is done: a mirror passes over one file's fault."""
        try:
            told()
        except Exception as exc:  # noqa: BLE001
            self.objections.append(exc)

    # Points at which something may happen

    def point(self, _: str = "") -> None:
        """Between two writes of a mirror at work: here it may be killed, and others may do something."""
        desk = self.job
        if desk is None:
            return
        self.passed += 1
        if self.crash_at is not None and self.passed >= self.crash_at:
            self.crash_at = None
            raise Killed
        if self.later is not None and self.later_at is not None and self.passed >= self.later_at:
            self.now()

    def sleep(self, seconds: float) -> None:
        assert self.job is not None
        self.job.seconds += seconds
        self.job.writers_go_on()
        self.point()

    def now(self) -> None:
        """Do what somebody is about to do."""
        later, self.later, job = self.later, None, self.job
        self.disturbed = True
        self.job = None
        try:
            if later is not None:
                later()
        finally:
            self.job = job

    def do(self, action: Callable[[], None]) -> None:
        """Let somebody do something: at once, or in the middle of the mirror's next work."""
        if self.later_at is not None and self.later is None:
            self.later = action
        else:
            action()

    def work(self, desk: Desk, job: Callable[[], None]) -> None:
        """Let a mirror work; killed, it is started again."""
        self.job, self.passed, self.disturbed = desk, 0, False
        try:
            job()
        except Killed:
            self.job = None
            desk.open()
            self.job, self.passed = desk, 0
            desk.mirror.start()
        finally:
            self.job = self.crash_at = None
            if self.later is not None or self.later_at is not None:
                self.now()
                self.later_at = None
        if self.objections:
            raise self.objections[0]

    # Two devices

    def settle(self) -> None:
        """Let everything come to rest, and compare."""
        if self.later is not None:
            self.now()
        self.crash_at = self.later_at = None
        for desk in self.desks.values():
            desk.people_end()
            desk.seconds += 100
        for _ in range(10):
            before = [desk.store.last_seq for desk in self.desks.values()]
            for desk in self.desks.values():
                desk.rest()
            for desk in self.desks.values():
                desk.publish()
            for desk in self.desks.values():
                desk.pull(self.other(desk))
            refused = [each for desk in self.desks.values() for each in desk.mirror.refused()]
            if not refused and before == [desk.store.last_seq for desk in self.desks.values()]:
                break
        else:
            raise AssertionError("it does not come to rest")
        for desk in self.desks.values():
            desk.check()
        first, second = self.desks.values()
        assert state(first.store) == state(second.store), "the devices differ"
        assert self.model.known["a"] == self.model.known["b"]

    def other(self, desk: Desk) -> Desk:
        return next(each for each in self.desks.values() if each is not desk)


class _Watched(Transaction):
    """Tells the desk when a transaction is about to begin and when it has ended."""

    def __init__(self, desk: Desk, store: Store) -> None:
        super().__init__(store)
        self.desk, self.store = desk, store

    def __enter__(self) -> None:
        if not self.store.depth:
            self.desk.world.point()
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, exc, trace)
        if not self.store.depth:
            self.desk.ended(committed=kind is None)
            if kind is None:
                self.desk.world.point()


class _Store(Store):
    """Tells the model what a mirror does to whole sessions."""

    desk: Desk  # pyright: ignore[reportUninitializedInstanceVariable]

    def delete(self, session_id: str, *, known_seq: int | None = None) -> Any:
        done = super().delete(session_id, known_seq=known_seq)
        self.desk.pending.append(lambda: self.desk.vanished(session_id))
        return done

    def restore(self, session_id: str) -> Any:
        done = super().restore(session_id)
        self.desk.before, self.desk.head = self.desk.shown(session_id), _head(self, session_id)
        self.desk.pending.append(lambda: self.desk.restored(session_id))
        return done


class Editor:
    """A buffer that somebody holds open."""

    def __init__(self, desk: Desk, path: Path, page: Page) -> None:
        assert page.header is not None
        self.desk, self.path = desk, path
        self.header = dict(page.header)
        self.lines = [dict(line) for line in page.lines]
        self.at_first = json.dumps([self.header, self.lines])
        self.broken = ""
        self.rest: Callable[[], None] | None = None
        self.patience = 0

    @property
    def version(self) -> tuple[Any, Any]:
        return self.header.get("id"), self.header.get("rev")

    def bytes(self) -> bytes:
        rows = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in [self.header, *self.lines]]
        return ("\n".join(rows) + "\n" + self.broken).encode()

    def undo(self) -> None:
        self.header, self.lines = json.loads(self.at_first)
        self.broken = ""

    def save(self, how: str, *, patience: int = 0) -> None:
        """Save the buffer as editors do; what is not done at once is done by `finish`, or after some waits."""
        data, path = self.bytes(), self.path
        self.desk.saves_end(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if how == "rename":
            other = path.with_name(f".{path.name}.tmp")
            self.desk.writes(other, data)
            other.rename(path)
            self.desk.wrote(path, data)
        elif how == "backup" and path.exists():
            aside = path.with_name(f"{path.name}~")
            self.desk.takes_away(path)
            if self.desk.removed[-1][0].named != self.header.get("id"):
                self.desk.may_be_deleted(path)
            path.rename(aside)
            self.rest = lambda: self._replace(aside, data)
        elif how == "halves":
            cut = data.find(b"\n", len(data) // 2) + 1 if patience % 2 else len(data) * 2 // 3
            file = path.open("wb", buffering=0)
            file.write(data[:cut])
            self.desk.wrote(path, data[:cut])
            self.rest = lambda: self._complete(file, data, cut)
        else:
            self.desk.writes(path, data)
            self.desk.wrote(path, data)
        self.patience = 1 + patience // 2
        self.desk.touched[path] = None

    def finish(self) -> None:
        """Do the second half of a save."""
        if self.rest is not None:
            rest, self.rest = self.rest, None
            rest()
            self.desk.touched[self.path] = None

    def _replace(self, aside: Path, data: bytes) -> None:
        self.desk.writes(self.path, data)
        self.desk.wrote(self.path, data)
        aside.unlink()

    def _complete(self, file: Any, data: bytes, cut: int) -> None:
        file.write(data[cut:])
        self.desk.stamp(file.fileno())
        file.close()
        self.desk.wrote(self.path, data)


class Desk:
    """One device."""

    def __init__(self, world: World, name: str, folder: Path, template: Path) -> None:
        self.world, self.name = world, name
        self.root = folder / name
        self.database = folder / f"{name}.db"
        shutil.copy(template, self.database)
        self.store: _Store
        self.mirror: Mirror
        self.seconds = 0.0
        self.editors: dict[int, Editor] = {}
        self.touched: dict[Path, None] = {}
        self.gone: dict[str, None] = {}
        self.unread: list[tuple[Path, bytes]] = []
        self.removed: list[tuple[Page, bool]] = []
        self.left: dict[str, int] = {}
        self.pending: list[Callable[[], None]] = []
        self.parsed = b""
        self.written_last: dict[str, bytes] = {}
        self.head: dict[str, Any] = {}
        self.before: dict[str, tuple[bool, dict[str, Any]]] = {}
        self.log: list[tuple[bytes, int]] = []
        self.cursor = 0
        self.applied = 0
        self.opened = False
        self.programs = self._connected(Store)
        self.open()

    @property
    def model(self) -> Model:
        return self.world.model

    @property
    def known(self) -> int:
        return self.model.known[self.name]

    def open(self) -> None:
        """The process of a daemon that was started anew."""
        if self.opened:
            self.store.close()
        self.store = self._connected(_Store)
        self.opened = True
        self.store.desk = self
        self.store._transaction = _Watched(self, self.store)
        self.mirror = Mirror(
            self.store, self.root, monotonic=lambda: self.seconds, wall_ns=self.wall_ns, sleep=self.world.sleep
        )
        self.pending.clear()

    def _connected(self, kind: type[_Kind]) -> _Kind:
        def random(length: int) -> str:
            return f"{next(self.world.tokens):x}{self.name}".rjust(length, "0")

        return kind(self.database, now_ms=lambda: next(self.world.clock), random=random)

    def close(self) -> None:
        for editor in self.editors.values():
            editor.finish()
        self.store.close()
        self.programs.close()

    # What the mirror does is told to the model

    def ended(self, *, committed: bool) -> None:
        pending, self.pending[:] = self.pending[:], []
        for each in pending if committed else ():
            self.world.judge(each)

    def wall_ns(self) -> int:
        """The time now: files were written long ago, unless somebody is at it."""
        writing = any(editor.rest is not None for editor in self.editors.values())
        return 0 if writing or self.world.later is not None else 1 << 62

    def writers_go_on(self) -> None:
        for editor in self.editors.values():
            if editor.rest is not None and editor.patience > 0:
                editor.patience -= 1
                if not editor.patience:
                    editor.finish()

    def vanished(self, session: str) -> None:
        """The mirror deleted a session whose file is gone."""
        before = self.model.deletion(self.known, session)
        knew = {
            before | (self.left.get(session, 0) if unread else opened.at_first)
            for page, unread in self.removed
            if (opened := self.model.holder(self.name, session, page)) is not None
        }
        assert knew, f"{session} was deleted, whose file nobody took away"
        # Where several files of it went, each knew something else; what the mirror believes to be gone counts.
        of_it = filter(self._is_so(session), sorted(knew, reverse=True))
        self.model.say(self.name, (session, "", "deleted"), next(of_it, max(knew)))

    def _is_so(self, session: str) -> Callable[[int], bool]:
        """Whether a session shows what it would after a deletion by somebody who knew so much."""
        row = self.store.find(session)
        assert row is not None
        rows = {each.id: bool(each.hidden & HIDDEN_IN_VECTOR) for each in self.store.message_rows(row.no, hidden=True)}

        def is_so(knew: int) -> bool:
            within = {id_: bool(self.model.births[session][id_] & self.known & knew) for id_ in rows}
            return all(within.values()) if row.hidden else all(rows[id_] or not within[id_] for id_ in rows)

        return is_so

    def restored(self, session: str) -> None:
        self.model.say(self.name, (session, "", "deleted"), None)

    def absorbing(self, absorb: Callable[..., Any]) -> Callable[..., Any]:
        """The real `absorb`, and what it took."""

        def absorbed(store: Any, mine: Any, *, session_id: str | None, **options: Any) -> Any:
            page = page_of(self.parsed)
            assert page is not None, f"a file was taken that is none: {self.parsed!r}"
            self.before = {} if session_id is None else self.shown(session_id)
            self.head = _head(store, session_id)
            done = absorb(store, mine, session_id=session_id, **options)
            after = self.shown(done.session.id)
            if done.created and page.named is not None:
                self.world.judge(lambda named=page.named: self._check_copy(named))
            ids = list(done.plan.ids)
            taken = Taken(done.session.id, done.created, page, ids, self.head, self.before, after)
            data = self.parsed
            self.pending.append(lambda: self._taken(taken, data))
            return done

        return absorbed

    def _check_copy(self, named: str) -> None:
        others = self._naming(named)
        known = self.known & self.model.sessions.get(named, 0)
        assert self.world.disturbed or len(others) > 1 or not known, f"{named} became two: {others}"

    def _taken(self, taken: Taken, data: bytes) -> None:
        self.model.taken(self.name, taken)
        opened = self.model.holder(self.name, taken.session, taken.page)
        self.left[taken.session] = opened.at_first if opened else 0
        self.unread = [each for each in self.unread if each[1] != data]

    def shown(self, session: str) -> dict[str, tuple[bool, dict[str, Any]]]:
        row = self.store.find(session)
        if row is None:
            return {}
        rows = self.store.message_rows(row.no, hidden=True)
        return {each.id: (bool(each.hidden), _line(message(each))) for each in rows}

    def _naming(self, session: str) -> list[Path]:
        found = []
        for path in self.root.rglob("*"):
            if path.is_file() and path.name != MARKER:
                page = page_of(path.read_bytes().split(b"\n", 1)[0])
                if page is not None and page.named == session:
                    found.append(path)
        return found

    def written(self, data: bytes) -> None:
        """The mirror is about to put a file in its place."""
        page = page_of(data)
        assert page is not None
        assert page.named is not None
        self.left[page.named] = self.known
        self.written_last[page.named] = data
        self.model.rendered(self.name, page.named, page, automatic=self.store.get(page.named).automatic_title)

    # What people do

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*.jsonl") if not path.name.startswith("."))

    def stamp(self, path: Any) -> None:
        """Give a file a time of its own: two saves within one tick of a clock are another question."""
        at = next(self.world.times) * 1_000_000
        os.utime(path, ns=(at, at))

    def writes(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.stamp(path)

    def wrote(self, path: Path, data: bytes) -> None:
        self.unread = [each for each in self.unread if each[0] != path]
        self.unread.append((path, data))

    def takes_away(self, path: Path) -> None:
        """What stands there is about to stand there no more: whoever does it knows what it shows."""
        data = path.read_bytes()
        page = page_of(data.split(b"\n")[0])
        if page is not None:
            refused = any(self.root / each.path == path for each in self.mirror.refused())
            self.removed.append((page, (path, data) in self.unread and not refused))
            # A file that still names another session than the one it was taken for is anew a copy if it comes back.
            taken_for = {key[1] for key in self.model.opened if key[2:] == (page.named, page.rev)}
            self.world.deleted |= taken_for - {page.named}

    def destroys(self, path: Path) -> None:
        """What stands there will be nowhere: its session may be deleted by that."""
        if path.exists():
            self.takes_away(path)
            self.may_be_deleted(path)

    def may_be_deleted(self, path: Path) -> None:
        """Remember that somebody put an end to this file, whichever session it was taken for."""
        page = page_of(path.read_bytes().split(b"\n")[0])
        if page is not None:
            self.world.deleted |= {key[1] for key in self.model.opened if key[2:] == (page.named, page.rev)}

    def opens(self, slot: int, at: int) -> Editor | None:
        """Open a file in an editor; two buffers of one version are one buffer, since none can tell them apart."""
        files = self.files()
        if not files:
            return None
        path = files[at % len(files)]
        if slot in self.editors:
            self.editors.pop(slot).finish()
        page = page_of(path.read_bytes())
        if page is None or page.header is None:
            return None
        version = page.named, page.rev
        if any(editor.version == version for editor in self.editors.values()):
            return None
        self.editors[slot] = Editor(self, path, page)
        return self.editors[slot]

    def editor(self, slot: int) -> Editor | None:
        """What is open, else the first file that can be opened."""
        tried = (self.opens(slot, at) for at in range(len(self.files())))
        return self.editors.get(slot) or next((each for each in tried if each is not None), None)

    def moves(self, path: Path, to: Path) -> None:
        self.saves_end()
        if path == to or not path.exists():
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        self.takes_away(path)
        if to.exists():
            self.may_be_deleted(path)
        self.destroys(to)
        path.rename(to)
        self.unread = [(to if at == path else at, each) for at, each in self.unread if at != to]
        self.touched[path] = self.touched[to] = None

    def copies(self, path: Path, to: Path) -> None:
        self.saves_end()
        if path == to or not path.exists():
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        self.destroys(to)
        self.writes(to, path.read_bytes())
        self.unread = [each for each in self.unread if each[0] != to]
        self.touched[to] = None

    def removes(self, path: Path) -> None:
        self.saves_end()
        if not path.exists():
            return
        self.takes_away(path)
        self.destroys(path)
        path.unlink()
        self.unread = [each for each in self.unread if each[0] != path]
        self.touched[path] = None

    def saves_end(self, path: Path | None = None) -> None:
        """Whatever is half saved is saved whole, everywhere or at one place."""
        for editor in self.editors.values():
            if path in (None, editor.path):
                editor.finish()

    # What programs do

    def live(self) -> list[str]:
        return sorted(each.id for each in self.programs.sessions())

    def create(self, session: str) -> None:
        if self.programs.row(session) is None and session not in self.model.sessions:
            made = self.programs.create(id=session, title=f"title {session}" if len(session) % 2 else None)
            self.model.session_born(self.name, session, {} if made.automatic_title else {"title": made.title})

    def append(self, session: str, text: str, after: str | None = None) -> None:
        row = self.programs.find(session)
        if row is None:
            return
        if row.hidden:
            known = [self.model._deletions(self.known, (session, "", path))[1] for path in ("cleared", "deleted")]
            self.model.say(self.name, (session, "", "cleared"), known[0] | known[1])
            self.model.say(self.name, (session, "", "deleted"), 0)
        if row.status == "archived":
            self.model.say(self.name, (session, "", "status"), "active")
        new = NewMessage(role="user", content=text, after=after, metadata={"by": "program"})
        done = self.programs.append(session, new)
        self.model.message_born(self.name, session, done.id, _line(done))

    def edit(self, session: str, id_: str, changes: dict[str, Any]) -> None:
        row = self.programs.find(session)
        if row is None or row.hidden:
            return
        for path, value in changes.items():
            for key, leaf in value.items() if path == "metadata" else ():
                self.model.tell(self.name, (session, id_, f"metadata/{key}"), GONE if leaf is None else leaf)
            if path != "metadata":
                self.model.tell(self.name, (session, id_, path), value)
        if "content" in changes and self.model._deletions(self.known, (session, id_, "deleted"))[1]:
            self.model.say(self.name, (session, id_, "deleted"), None)
        self.programs.edit_message(session, id_, changes)

    def delete_message(self, session: str, id_: str) -> None:
        row = self.programs.find(session)
        each = None if row is None else find_message(self.programs, row.no, id_)
        if row is not None and not row.hidden and each is not None and not each.hidden:
            self.programs.delete_message(session, id_)
            self.model.say(self.name, (session, id_, "deleted"), self.known)

    def update(self, session: str, **changes: Any) -> None:
        for path, value in changes.get("fields", {}).items():
            self.model.tell(self.name, (session, "", path), value)
        for name in ("metadata", "state"):
            for key, leaf in changes.get(name, {}).items():
                self.model.tell(self.name, (session, "", f"{name}/{key}"), GONE if leaf is None else leaf)
        tags = self.programs.get(session).tags
        for tag in changes.get("add_tags", ()):
            if tag not in tags:
                self.model.say(self.name, (session, "", f"tags/{tag}"), True)
        for tag in changes.get("remove_tags", ()):
            if tag in tags:
                self.model.say(self.name, (session, "", f"tags/{tag}"), GONE)
        self.programs.update(session, **changes)

    def delete(self, session: str) -> None:
        row = self.programs.find(session)
        if row is not None and not row.hidden:
            self.programs.delete(session)
            self.model.say(self.name, (session, "", "deleted"), self.known)
            self.world.deleted.add(session)

    def restore(self, session: str) -> None:
        row = self.programs.find(session)
        if row is not None and (row.hidden or row.vectors):
            self.programs.restore(session)
            self.model.say(self.name, (session, "", "deleted"), None)

    def publish(self) -> None:
        complete, floor = False, self.cursor
        while not complete:
            batch, self.cursor, complete = local_changes(self.programs, since=self.cursor, floor=floor, max_bytes=10**7)
            if batch:
                self.log.append((batch, self.known))

    def pull(self, other: Desk) -> None:
        for batch, known in other.log[self.applied :]:
            decoded, done = decode_batch(batch), Applied()
            for part in slices(decoded, rows=100):
                with self.programs.transaction():
                    apply(self.programs, decoded, part, done=done)
            assert done.refused == []
            self.applied += 1
            self.model.known[self.name] |= known

    # The mirror

    def hear(self, some: int, *, again: bool) -> None:
        """Some of what happened is heard, 0: all of it; ``again`` it will be heard once more."""
        heard = [path for at, path in enumerate(self.touched) if not some or some >> at % 4 & 1]
        for path in heard if not again else ():
            del self.touched[path]
        self.gone |= dict.fromkeys(self.mirror.saved(heard))

    def miss(self) -> None:
        gone, self.gone = [*self.gone], {}
        self.mirror.vanished(gone)

    def some_writing(self, *, once: bool) -> None:
        for _ in range(1 if once else 5):
            wait = self.mirror.write_pending()
            if wait is None:
                return
            self.seconds += wait

    def restart(self) -> None:
        self.open()
        self.mirror.start()

    def write_all(self) -> None:
        self.world.work(self, self.write)

    # Rest

    def people_end(self) -> None:
        """Whoever holds a file open ends."""
        self.saves_end()
        self.editors.clear()

    def mends(self) -> None:
        """What cannot be read is mended by hand."""
        for path in self.files():
            if page_of(path.read_bytes()) is None:
                data = _mended(path.read_bytes())
                self.writes(path, data)
                self.wrote(path, data)

    def rest(self) -> None:
        self.mends()
        self.world.work(self, self.mirror.scan)
        self.world.work(self, self.write)

    def write(self) -> None:
        for _ in range(100):
            wait = self.mirror.write_pending()
            if wait is None:
                return
            self.seconds += wait
        raise AssertionError("writing does not come to an end")

    def check(self) -> None:
        """The store is what the model says, and the files are what the store says."""
        self.touched.clear()
        self.gone.clear()
        assert self.mirror.refused() == [], f"refused: {self.mirror.refused()}"
        self._check_files()
        self._check_store()
        if not self.model.count % 8:  # it takes longer than all else
            wrong = [finding for finding in examine(self.store) if not finding.ok]
            assert wrong == []

    def _check_files(self) -> None:
        store, named = self.store, []
        for path in self.files():
            page = page_of(path.read_bytes())
            assert page is not None
            assert page.named is not None
            named.append(page.named)
            row = store.find(page.named)
            assert row is not None
            rev = parse_rev(page.rev)
            assert rev is not None
            lines = [line_of(message(each)) for each in store.message_rows(row.no)]
            shown = render(header_of(header(row), rev=Rev(store.store_name, rev.seq)), lines)
            assert path.read_bytes() == shown, f"the file of {row.id} is not what the store holds"
        assert sorted(named) == self.live(), "there is not one file for each session"
        ours = [path.name for path in self.root.rglob("*") if path.name.startswith(OURS)]
        assert ours == [], "something lies aside"
        for path, data in self.unread:
            page = page_of(data)
            if page is None or data == self.written_last.get(page.named or ""):  # mended, or as it is
                continue
            holders = [key for key in self.model.opened if key[0] == self.name and key[2:] == (page.named, page.rev)]
            same = any(self.model.says_nothing_new(self.name, key[1], page) for key in holders)
            assert same, f"a save of {path.name} was never taken: {data!r}"
        self.unread.clear()
        self.removed.clear()

    def _check_store(self) -> None:
        model, known, conflicting = self.model, self.known, set()
        held = [session for session, bit in model.sessions.items() if bit & known]
        assert sorted(held) == [each for (each,) in self.store.execute("SELECT id FROM sessions ORDER BY id")]
        for session in held:
            row = self.store.find(session)
            assert row is not None
            hidden = model.is_hidden(known, session)
            assert hidden in (None, bool(row.hidden)), f"{session} is hidden: {row.hidden}, should be {hidden}"
            assert not row.hidden or session in self.world.deleted, f"nobody deleted {session}"
            rows = {each.id: each for each in self.store.message_rows(row.no, hidden=True)}
            assert sorted(rows) == sorted(model.messages(known, session)), f"the messages of {session}"
            if row.hidden:
                continue
            conflicting |= self._check_header(row)
            for id_, each in rows.items():
                live = model.is_live(known, session, id_)
                assert live in (None, not each.hidden), f"{session} {id_} is hidden: {each.hidden}, live: {live}"
                conflicting |= self._check_fields(session, id_, each)
        listed = {
            (each.session, each.message or "", each.field)
            for each in conflicts(self.store)
            if each.field not in ("deleted", "cleared") and not each.field.startswith("tags/")
        }
        assert listed == conflicting, "the conflicts"

    def _check_header(self, row: Any) -> set[Any]:
        now, conflicting = header(row), set()
        for path in PLAIN:
            value = None if path == "title" and now.automatic_title else getattr(now, path)
            default = "active" if path == "status" else None
            conflicting |= self._check_value(row, None, (row.id, "", path), value, default)
        for name in ("metadata", "state"):
            document = getattr(now, name)
            for key in self._keys(row.id, "", name) | document.keys():
                where = (row.id, "", f"{name}/{key}")
                conflicting |= self._check_value(row, None, where, document.get(key, GONE), GONE)
        for tag in self._keys(row.id, "", "tags") | {*now.tags}:
            values = {write.value for write in self.model.heads(self.known, (row.id, "", f"tags/{tag}"))}
            assert (True if tag in now.tags else GONE) in values, f"the tag {tag} of {row.id}"
        return conflicting

    def _check_fields(self, session: str, id_: str, each: Any) -> set[Any]:
        line, conflicting = _line(message(each)), set()
        row = self.store.find(session)
        for path in SCALARS:
            conflicting |= self._check_value(row, each, (session, id_, path), line.get(path), None)
        document = line.get("metadata") or {}
        for key in self._keys(session, id_, "metadata") | document.keys():
            where = (session, id_, f"metadata/{key}")
            conflicting |= self._check_value(row, each, where, document.get(key, GONE), GONE)
        return conflicting

    def _check_value(self, row: Any, each: Any, where: Any, value: Any, default: Any) -> set[Any]:
        """What is shown is what was meant, and whatever else was meant is held."""
        heads = self.model.heads(self.known, where)
        shown = [_default(write.value, default) for write in self.model.shown(self.known, where)] or [default]
        assert _plain(value) in [_plain(each) for each in shown], f"{where} shows {value!r}, should be of {shown!r}"
        if len(heads) < 2:
            return set()
        texts = load(self.store, row.no, each, where[2]).open.values()
        held = {_plain(GONE if text.text == REMOVED else value_of(text.text)) for text in texts}
        meant = {_plain(write.value) for write in heads}
        assert meant <= held, f"{where} holds {held}, should hold {meant}"
        return {where} if len(meant) > 1 else set()

    def _keys(self, session: str, id_: str, name: str) -> set[str]:
        found = (path.split("/", 1) for at, where, path in self.model.fields if (at, where) == (session, id_))
        return {each[1] for each in found if len(each) == 2 and each[0] == name}


def _mended(data: bytes) -> bytes:
    """A file without the lines that are none, and without those that repeat an id."""
    rows: dict[Any, bytes] = {}
    for at, row in enumerate(data.split(b"\n")):
        page = page_of(row)
        if page is not None:
            rows.setdefault(page.lines[0].get("id", at) if page.lines else at, row)
    return b"\n".join([*rows.values(), b""])


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True)


def _head(store: Store, session: str | None) -> dict[str, Any]:
    row = None if session is None else store.find(session)
    if row is None:
        return {"title": "", "status": "active", "tags": [], "metadata": {}, "state": {}}
    return {name: getattr(header(row), name) for name in (*PLAIN, "tags", "metadata", "state")}


def _line(shown: Any) -> dict[str, Any]:
    line = {path: getattr(shown, path) for path in ("id", "role", *SCALARS)}
    return {**{key: value for key, value in line.items() if value is not None}, "metadata": shown.metadata}


# The machinery of a run


@contextlib.contextmanager
def wired(worlds: Callable[[], World | None]) -> Generator[pytest.MonkeyPatch]:
    """Let time, chance and the points of the mirror's work be those of the world that is running."""
    modules = [module for name, module in sys.modules.items() if name.startswith("steno.sync.files.")]
    real_write, names = exchange._write, itertools.count()

    def world() -> World:
        found = worlds()
        assert found is not None
        return found

    def desk() -> Desk:
        found = world().job
        assert found is not None
        return found

    def parsed(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def remembered(data: bytes) -> Any:
            desk().parsed = data
            return parse(data)

        return remembered

    def absorbing(absorb: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: desk().absorbing(absorb)(*given, **options)  # noqa: PLW0108  by who runs it

    def write(path: Path, parts: Iterable[bytes]) -> Any:
        data = b"".join(parts)
        desk().written(data)
        return real_write(path, [data])

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            if hasattr(module, "step"):
                patch.setattr(module, "step", lambda at: world().point(at))
            if module.__name__ != "steno.sync.files.lines" and hasattr(module, "parse"):
                patch.setattr(module, "parse", parsed(module.parse))
            if module.__name__ != "steno.sync.files.absorb" and hasattr(module, "absorb"):
                patch.setattr(module, "absorb", absorbing(module.absorb))
        patch.setattr(exchange, "_write", write)
        patch.setattr(logging.getLogger("steno.files"), "disabled", True)
        patch.setattr(exchange.secrets, "token_hex", lambda _: f"{next(names):012x}")
        yield patch


def template(folder: Path) -> dict[str, Path]:
    """An empty store for each device, made once."""
    made = {}
    for name in ("a", "b"):
        made[name] = folder / f"{name}.template"
        Store(made[name], random=lambda length, name=name: name.rjust(length, "0")).close()
    return made
