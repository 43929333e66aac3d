"""``steno doctor --rebuild``: a database that is lost or damaged, made anew from the remote and the files.

First all that the remote holds, then what the files show beyond that: so what others wrote meanwhile is known
before a file is compared with it. Nothing stands in the place of the database before it is whole
(tests/e2e/test_rebuild.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from ..storage.backup import dated
from ..storage.database import wall_ms
from ..storage.errors import (
    HomeExists,
    Incomplete,
    NoVault,
    OtherVault,
    RemoteRefused,
    RemoteUnreachable,
    StenoError,
)
from ..storage.home import Home
from ..storage.local_only import follow_projects
from ..storage.rebuilding import Former, begin, fault, former, is_unused, put_in_place, staging, sweep
from ..storage.store import Store
from .progress import Progress
from .terminal import counted, note, print_json, safe_line

if TYPE_CHECKING:
    from ..sync.files.rebuild import Rebuilt
    from ..sync.vault.membership import Membership
    from ..sync.vault.report import SyncReport

NOT_IN_FILES = (
    "Files hold no earlier texts, nothing that was deleted, no conflicts, no users' profiles, and not who wrote what"
)
_WITHOUT = "or make it from the files alone with `steno doctor --rebuild --files-only`"

_T = TypeVar("_T")


class Outcome(msgspec.Struct):
    """What a rebuild did, as it is printed."""

    device: str = ""
    reason: str = ""
    sessions: int = 0
    messages: int = 0
    from_remote: int = 0
    from_files: int = 0
    edits: int = 0
    yielded: int = 0
    kept: list[str] = []
    aside: str | None = None
    problems: list[str] = []


def rebuild(home: Home, *, files_only: bool, as_json: bool) -> None:
    """Make the database of a home anew, and say what became of it. Raises `HomeExists` where it is sound."""
    from ..daemon.lock import ProcessLock  # noqa: PLC0415  only here

    if not (home.exists or home.has_files or home.vault_file.exists()):
        home.require()
    home.make()
    progress = Progress()
    with ProcessLock(home.daemon_lock, task="the daemon"), ProcessLock(home.sync_lock, task="syncing"):
        try:
            done = _rebuilt(home, files_only=files_only, progress=progress)
        finally:
            progress.end()
    _print(home, done, as_json=as_json)
    if done.problems:
        raise Incomplete(count=len(done.problems))


def _rebuilt(home: Home, *, files_only: bool, progress: Progress) -> Outcome:
    from ..sync.files.breaker import marked  # noqa: PLC0415  only here, as below
    from ..sync.files.rebuild import adopt, survey  # noqa: PLC0415
    from ..sync.files.rebuild import rebuild as take_files  # noqa: PLC0415
    from ..sync.vault.membership import membership  # noqa: PLC0415

    sweep(home.database)
    done = Outcome(reason=_reason(home))
    found = None if files_only else membership(home)
    dated_path = dated(home.backups, now_ms=wall_ms())
    aside = dated_path.with_name(dated_path.stem.replace("steno", "files", 1))
    progress.say("looking through the files")
    surveyed = survey(home.sessions, aside=aside)
    lost = _lost(home, marked(home.sessions), surveyed.last_seq)
    settings = home.settings()
    with staging(home.database) as staged:
        with Store(staged, compress=settings.session.compress_messages) as store:
            store.execute("PRAGMA synchronous = OFF")  # it is made durable as a whole
            begin(store, lost)
            follow_projects(store, settings.vault.local_only)
            if found is not None:
                report = asyncio.run(_pull(home, store, found, progress))
                done.problems += report.problems
            done.from_remote = store.count()[1]
            taken = take_files(store, home.sessions, surveyed, lost=lost.devices, aside=aside, told=progress.say)
            _count(done, store, taken)
        done.kept = [str(path) for path in put_in_place(staged, home.database, backups=home.backups)]
    with Store(home.database, durability=settings.storage.durability) as store:
        adopt(store, home.sessions)
        done.problems += mirrored(store, home, progress)
        done.sessions, done.messages = store.count()
    done.aside = str(aside) if aside.exists() else None
    return done


def _reason(home: Home) -> str:
    """Why the database is to be made anew; raises `HomeExists` where it must not be."""
    reason = fault(home.database)
    if reason is None and home.has_files and is_unused(home.database):
        reason = "nothing was ever written to it"
    if reason is None:
        raise HomeExists(f"the database in {home.data} is sound; nothing was changed", hint="see `steno doctor`")
    return reason


def _lost(home: Home, device: str | None, last_seq: int) -> Former:
    known = former(home.database)
    devices = list(dict.fromkeys(each for each in (device, *known.devices) if each))
    return Former(devices, max(known.seq, last_seq), known.clock)


async def _pull(home: Home, store: Store, found: Membership, progress: Progress) -> SyncReport:
    try:
        return await pulled(home, store, found, progress)
    except (RemoteUnreachable, RemoteRefused, NoVault, OtherVault) as exc:
        exc.hint = f"{exc.hint}; {_WITHOUT}"
        raise


async def pulled(home: Home, store: Store, found: Membership, progress: Progress) -> SyncReport:
    """Take in all that the remote holds. Nothing is sent: nobody knows yet whether this store will be."""
    from .syncing import engine_of  # noqa: PLC0415

    async def telling(call: Callable[[], _T], /) -> _T:
        result = call()
        progress.say(f"taking in what the remote holds: {store.last_seq:,} changes so far")
        return result

    async with engine_of(home, store, found=found, work=telling) as engine:
        return await engine.pull()


def _count(done: Outcome, store: Store, taken: Rebuilt) -> None:
    done.device = store.device
    done.from_files, done.edits, done.yielded = taken.messages, taken.edits, taken.yielded


def mirrored(store: Store, home: Home, progress: Progress) -> list[str]:
    """Let the directory be the new store's; return what is wrong with its files, which holds up nothing."""
    from ..sync.files.mirror import Mirror  # noqa: PLC0415
    from ..sync.files.reports import at_place  # noqa: PLC0415

    with closing(Mirror(store, home.sessions)) as mirror:
        try:
            mirror.start()
            while mirror.write_pending() == 0.0:
                progress.say("writing the files")
        except StenoError as exc:
            return [exc.line]
        return [f"{at_place(each.path, each.line, each.column)}: {each.reason}" for each in mirror.refused()]


def _print(home: Home, done: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    click.echo(safe_line(f"Rebuilt {home.database} ({done.reason}); this is device {done.device} now."))
    click.echo(
        f"{counted(done.sessions, 'session')} with {counted(done.messages, 'message')}: "
        f"{done.from_remote:,} from the remote, {done.from_files:,} from the files."
    )
    click.echo(f"{NOT_IN_FILES}.")
    if done.edits:
        edits = counted(done.edits, "value")
        click.echo(f"{edits} in files had never been sent; `steno conflicts` shows what was replaced.")
    if done.yielded:
        click.echo(f"To what others wrote {counted(done.yielded, 'value')} in files yielded.")
    if done.aside:
        click.echo(safe_line(f"Files that showed something else are kept as they were in {done.aside}"))
    if done.kept:
        click.echo(safe_line(f"What was there before is kept in {', '.join(done.kept)}"))
    if home.vault_file.exists() and (done.from_files or done.edits):
        note("What only the files held is sent with the next `steno sync`.")
    for each in done.problems:
        note(safe_line(each))
