"""A device with its directory and the people at it: real store, real mirror, real files; time and chance are given.

Whatever the mirror commits is told to the model in the transaction's order. At every point between two writes of the
mirror (each `step`, each transaction, each wait) it may be killed, or somebody else may do something.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from steno.storage.database import Transaction
from steno.storage.rows import HIDDEN_IN_VECTOR, header, message
from steno.storage.store import Store
from steno.sync.files.mirror import MARKER, Mirror
from steno.tests.simulation.files_device import Device, line_as_read
from steno.tests.simulation.files_model import PLAIN, Model, Page, Taken

NOW_MS = 1_800_000_000_000

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
        self.half: bytes | None = None
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
        self.desk.saves_over(path, self.header.get("id"))
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
            self.half = data[:cut]
            self.rest = lambda: self._complete(file, data, cut)
        else:
            self.desk.writes(path, data)
            self.desk.wrote(path, data)
        self.patience = 1 + patience // 2
        self.desk.touched[path] = None

    def finish(self) -> None:
        """Do the second half of a save."""
        if self.rest is not None:
            rest, self.rest, self.half = self.rest, None, None
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


class Desk(Device):
    """One device with its directory, and the people at it."""

    def __init__(self, world: World, name: str, folder: Path, template: Path) -> None:
        self.world = world
        self.root = folder / name
        self.database = folder / f"{name}.db"
        shutil.copy(template, self.database)
        super().__init__(world.model, name, self._connected(Store, name))
        self.store: _Store
        self.mirror: Mirror
        self.seconds = 0.0
        self.editors: dict[int, Editor] = {}
        self.touched: dict[Path, None] = {}
        self.gone: dict[str, None] = {}
        self.unread: list[tuple[Path, bytes]] = []
        self.removed: list[tuple[Page, bool]] = []
        self.covered: dict[Path, Page] = {}
        self.left: dict[str, int] = {}
        self.pending: list[Callable[[], None]] = []
        self.parsed = b""
        self.written_last: dict[str, bytes] = {}
        self.taken_last: dict[str, bytes] = {}
        self.head: dict[str, Any] = {}
        self.before: dict[str, tuple[bool, dict[str, Any]]] = {}
        self.opened = False
        self.open()

    def open(self) -> None:
        """The process of a daemon that was started anew."""
        if self.opened:
            self.store.close()
        self.store = self._connected(_Store, self.name)
        self.opened = True
        self.store.desk = self
        self.store._transaction = _Watched(self, self.store)
        self.mirror = Mirror(
            self.store, self.root, monotonic=lambda: self.seconds, wall_ns=self.wall_ns, sleep=self.world.sleep
        )
        self.pending.clear()

    def _connected(self, kind: type[_Kind], name: str) -> _Kind:
        def random(length: int) -> str:
            return f"{next(self.world.tokens):x}{name}".rjust(length, "0")

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
        # Where several files of it went, each knew something else; what the mirror believes to be gone counts. That is
        # an earlier version where it was killed before it remembered the last. Who removes a broken file of another
        # session from its place knows what that one shows.
        others = [self.model.holder(self.name, page.named or "", page) for page, _ in self.removed]
        earlier = [opened for key, opened in self.model.opened.items() if key[:2] == (self.name, session)]
        may_have = {before | opened.at_first for opened in (*others, *earlier) if opened is not None}
        of_it = filter(self._is_so(session), sorted(knew | may_have, reverse=True))
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
            title = _head(store, session_id)["title"]
            done = absorb(store, mine, session_id=session_id, **options)
            after = self.shown(done.session.id)
            if done.created and page.named is not None:
                self.world.judge(lambda named=page.named: self._check_copy(named))
            if any(editor.half == self.parsed for editor in self.editors.values()):
                self.world.judge(lambda: self._check_half(after))
            ids = list(done.plan.ids)
            page = self.model.without_purged(self.name, page.named or "" if done.created else done.session.id, page)
            stays = _head(store, done.session.id)["title"] == title and self._may_have_had_one(done.session.id, page)
            title = title if "title" in done.purged or stays else None
            taken = Taken(done.session.id, done.created, page, ids, self.head, self.before, after, title)
            data = self.parsed
            self.pending.append(lambda: self._taken(taken, data))
            return done

        return absorbed

    def _may_have_had_one(self, session: str, page: Page) -> bool:
        """Say whether a file shows no title, and a purge may have taken from its last save the one that it showed."""
        purged = any(self.model.is_purged(self.name, session, id_) for id_ in self.model.births[session])
        return purged and page.header is not None and not page.header.get("title")

    def _check_copy(self, named: str) -> None:
        others = self._naming(named)
        known = self.known & self.model.sessions.get(named, 0)
        assert self.world.disturbed or len(others) > 1 or not known, f"{named} became two: {others}"

    def _check_half(self, after: dict[str, tuple[bool, dict[str, Any]]]) -> None:
        gone = [id_ for id_, (hidden, _) in self.before.items() if not hidden and after[id_][0]]
        assert not gone, f"half a file deleted {gone}"

    def _taken(self, taken: Taken, data: bytes) -> None:
        self.model.taken(self.name, taken)
        opened = self.model.holder(self.name, taken.session, taken.page)
        self.left[taken.session] = opened.at_first if opened else 0
        self.unread = [each for each in self.unread if each[1] != data]
        self.taken_last[taken.session] = data

    def shown(self, session: str) -> dict[str, tuple[bool, dict[str, Any]]]:
        row = self.store.find(session)
        if row is None:
            return {}
        rows = self.store.message_rows(row.no, hidden=True)
        return {each.id: (bool(each.hidden), line_as_read(message(each))) for each in rows}

    def _naming(self, session: str) -> list[Path]:
        """The files that may be of a session: one whose first line is half written does not say."""
        found = []
        for path in self.root.rglob("*"):
            if path.is_file() and path.name != MARKER:
                page = page_of(path.read_bytes().split(b"\n", 1)[0])
                if page is None or page.named == session:
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
        page = page_of(data)
        # Else it is as it was written, or taken, last.
        if page is None or data not in (at.get(page.named or "") for at in (self.written_last, self.taken_last)):
            self.unread.append((path, data))

    def saves_over(self, path: Path, session: str | None) -> None:
        """Remember what stands there, if it is another session's than the one that is about to be saved there."""
        page = page_of(path.read_bytes().split(b"\n")[0]) if path.exists() else None
        if page is not None and page.named not in (None, session):
            self.covered[path] = page

    def takes_away(self, path: Path) -> None:
        """What stands there is about to stand there no more: whoever does it knows what it shows."""
        data = path.read_bytes()
        covered = self.covered.pop(path, None)
        if covered is not None and (path, data) in self.unread:  # the mirror sees what was saved over go, and no save
            self.removed.append((covered, False))
            self.model.deleted |= {key[1] for key in self.model.opened if key[2:] == (covered.named, covered.rev)}
        page = page_of(data.split(b"\n")[0])
        if page is not None:
            refused = any(self.root / each.path == path for each in self.mirror.refused())
            self.removed.append((page, (path, data) in self.unread and not refused))
            # A file that still names another session than the one it was taken for is anew a copy if it comes back.
            taken_for = {key[1] for key in self.model.opened if key[2:] == (page.named, page.rev)}
            self.model.deleted |= taken_for - {page.named}

    def destroys(self, path: Path) -> None:
        """What stands there will be nowhere: its session may be deleted by that."""
        if path.exists():
            self.takes_away(path)
            self.may_be_deleted(path)

    def may_be_deleted(self, path: Path) -> None:
        """Remember that somebody put an end to this file, whichever session it was taken for."""
        page = page_of(path.read_bytes().split(b"\n")[0])
        if page is not None:
            self.model.deleted |= {key[1] for key in self.model.opened if key[2:] == (page.named, page.rev)}

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

    def drops(self, path: Path, texts: list[str]) -> None:
        """Put a file of another program there, which says nothing of a session."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "".join(json.dumps({"role": "user", "content": text}) + "\n" for text in texts).encode()
        self.writes(path, data)
        self.wrote(path, data)
        self.touched[path] = None

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

    # The mirror

    def hear(self, some: int, *, again: bool) -> None:
        """Some of what happened is heard, 0: all of it; ``again`` it will be heard once more."""
        heard = [path for at, path in enumerate(self.touched) if not some or some >> at % 4 & 1]
        for path in heard if not again else ():
            del self.touched[path]
        self.gone |= dict.fromkeys(self.mirror.saved(heard))

    def miss(self) -> None:
        gone, self.gone = [*self.gone], {}
        sql = "SELECT id FROM files JOIN sessions ON no = session WHERE path = ? AND hidden = 0"
        again = [self.store.one(sql, (path,)) for path in gone if (self.root / path).exists()]
        self.mirror.vanished(gone)
        deleted = {id_ for (id_,) in filter(None, again)}.difference(self.live())
        assert self.world.disturbed or not deleted, f"{deleted} is deleted, whose file is there again"

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
        """What cannot be read is mended by hand, and lines are taken out that may be purged ones."""
        purged = [
            self.root / each.path for each in self.mirror.refused() if "may be one that was purged" in each.reason
        ]
        for path in self.files():
            found = path.read_bytes()
            page = page_of(found)
            if page is None or (path in purged and self.model.may_hold_purged(self.name, page)):
                # What was saved under a former name of the file lies here.
                self.unread = [each for each in self.unread if each[1] != found]
                data = _mended(found, unnamed=page is None)
                if page is not None and not data:  # an empty file would be refused as well
                    kept = [{"id": f"kept-{next(self.world.texts)}", **line} for line in page.lines]
                    data = "".join(json.dumps(line) + "\n" for line in kept).encode()
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


def _mended(data: bytes, *, unnamed: bool) -> bytes:
    """A file without the lines that are none, and without those that repeat an id, or have none if not ``unnamed``."""
    rows: dict[Any, bytes] = {}
    for at, row in enumerate(data.split(b"\n")):
        page = page_of(row)
        if page is not None and (unnamed or page.header or "id" in page.lines[0]):
            rows.setdefault(page.lines[0].get("id", at) if page.lines else at, row)
    return b"\n".join([*rows.values(), b""])


def _head(store: Store, session: str | None) -> dict[str, Any]:
    row = None if session is None else store.find(session)
    if row is None:
        return {"title": "", "status": "active", "tags": [], "metadata": {}, "state": {}}
    return {name: getattr(header(row), name) for name in (*PLAIN, "tags", "metadata", "state")}
