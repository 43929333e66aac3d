"""``steno sync --force --pull``: this device as the remote has it, without what was never sent from here.

A store is made from the remote alone, beside the one that is here, and takes its place as a restored backup does: as
another device, after all that stood there was copied into ``backups`` (docs/decisions/0011). Where the remote does not
give everything that is known to be there, nothing is changed. Files that were saved meanwhile are taken up before, so
that the copy has them (tests/e2e/test_force_pull.py, tests/e2e/test_crash.py).
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click
import msgspec

from ..storage.carrying import carry_over
from ..storage.errors import Incomplete
from ..storage.home import Home
from ..storage.local_only import follow_projects
from ..storage.rebuilding import begin, former, staging
from ..storage.restore import restore
from ..storage.store import Store
from .progress import Progress
from .rebuilding import mirrored, pulled
from .terminal import counted, note, print_json, safe_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..sync.vault.membership import Membership

_USERS = 8
_GHOSTS = 1 << 40
"""From here on no session has a number; files of sessions that the remote does not have stand under such."""


class Pulled(msgspec.Struct):
    """What became of a home: its new id, where what it was is kept, and what it shows now.

    ``discarded`` counts changes that had never been sent.
    """

    device: str
    kept: str
    discarded: int
    sessions: int
    messages: int
    problems: list[str] = []


def pull_by_force(home: Home, *, yes: bool, as_json: bool) -> None:
    """Make a home what the remote says, and tell. Raises `Incomplete` where the remote does not give everything."""
    from ..daemon.lock import ProcessLock  # noqa: PLC0415  only here
    from ..sync.vault.membership import required_membership  # noqa: PLC0415  cryptography

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--force --pull discards what was not sent from here: add --yes")
    found = required_membership(home)
    with ProcessLock(home.daemon_lock, task="the daemon"), ProcessLock(home.sync_lock, task="syncing"):
        unsent = _take_up(home)
        if not yes and not _agreed(home, unsent):
            note("Cancelled; nothing was changed.")
            return
        progress = Progress()
        try:
            done = _replaced(home, found, unsent, progress)
        finally:
            progress.end()
    _tell(done, as_json=as_json)
    if done.problems:
        raise Incomplete(count=len(done.problems))


def _take_up(home: Home) -> int:
    """Take up what was saved in the files; return how many changes were never sent."""
    from ..daemon.status import status_of  # noqa: PLC0415
    from ..sync.files.mirror import Mirror  # noqa: PLC0415

    with Store(home.database) as store:
        follow_projects(store, home.settings().vault.local_only)
        with closing(Mirror(store, home.sessions)) as mirror:
            mirror.start()
        vault = status_of(store, home)["vault"]
        return vault["not_sent"] + vault["pending_segments"]


def _agreed(home: Home, unsent: int) -> bool:
    what = f"{counted(unsent, 'change')} never sent" if unsent else "nothing that is not sent"
    question = f"Discard {what}, and take everything from the remote anew? A copy is kept in {home.backups}"
    return click.confirm(safe_line(question), err=True)


def _replaced(home: Home, found: Membership, unsent: int, progress: Progress) -> Pulled:
    settings = home.settings()
    with staging(home.database) as staged:
        with Store(staged, compress=settings.session.compress_messages) as store:
            store.execute("PRAGMA synchronous = OFF")  # it is made durable as a whole
            begin(store, former(home.database))
            follow_projects(store, settings.vault.local_only)
            report = asyncio.run(pulled(home, store, found, progress))
            with Store(home.database) as here:
                _check(here, store, found, report.problems)
                carried = here.last_seq
                carry_over(here, into=store)
                _take_over(here, store)
        done = restore(staged, home.database, backups=home.backups)
    with Store(home.database, durability=settings.storage.durability) as store:
        if done.kept is not None:
            with Store(done.kept, read_only=True) as before:
                if before.last_seq > carried:  # some program wrote meanwhile
                    carry_over(before, into=store)
        problems = mirrored(store, home, progress)
        return Pulled(done.device, str(done.kept), unsent, *store.count(), problems)


def _check(here: Store, store: Store, found: Membership, problems: list[str]) -> None:
    """Raise `Incomplete` where a store that was just made does not hold all that is known to be on the remote."""
    missing = [*problems, *_missing(here, store, found.vault)]
    for each in missing:
        note(each)
    if missing:
        raise Incomplete(
            count=len(missing),
            hint="the remote does not give everything, so nothing was changed; `steno verify` looks through it, "
            "`steno repair` sends again what it lost",
        )


def _missing(here: Store, store: Store, vault: str) -> Iterator[str]:
    """What this device, or another one, has of the remote's logs and the new store has not."""
    from ..sync.vault.ledger import Ledger  # noqa: PLC0415
    from ..sync.vault.peers import claimed  # noqa: PLC0415
    from ..sync.vault.ranges import Ranges  # noqa: PLC0415

    ledger = Ledger(here, vault)
    wanted = claimed(ledger)
    for device, ranges in ledger.cursor():
        wanted[device] = wanted.get(device, Ranges()) | ranges
    have = Ledger(store, vault).cursor()
    for device, ranges in sorted(wanted.items()):
        gaps = [gap for first, last in ranges.spans for gap in have.of(device).missing(first, last)]
        if gaps:
            shown = ", ".join(f"{first}-{last}" for first, last in gaps[:10])
            yield f"publications {shown} of device {device} were there and are not on the remote"


def _take_over(here: Store, store: Store) -> None:
    """Give a new store what is no session's: users, names of devices, and which files are the former store's."""
    from ..sync.files.ledger import Ledger, Record  # noqa: PLC0415

    files = here.execute("SELECT session FROM files ORDER BY session").fetchall()
    ids = dict(here.execute("SELECT no, id FROM sessions").fetchall())
    before, after = Ledger(here), Ledger(store)
    with store.transaction():
        for table, columns in (("users", _USERS), ("peers", 4)):
            rows = here.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            marks = ", ".join("?" * columns)
            store.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608
        for at, (no,) in enumerate(files):
            record = before.of(no)
            row = store.find(ids[no]) if no in ids else None
            if record is None or not record.stands:
                continue
            session = _GHOSTS + at if row is None else row.no
            after.keep(Record(session, record.path, 0, record.fingerprint))
            after.owe(session)


def _tell(done: Pulled, *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    click.echo(safe_line(f"What was here is kept in {done.kept}"))
    click.echo(
        f"This is device {done.device} now: {counted(done.sessions, 'session')} "
        f"with {counted(done.messages, 'message')}, as the remote has them."
    )
    if done.discarded:
        click.echo(
            safe_line(
                f"Discarded: {counted(done.discarded, 'change')} never sent; "
                f"`steno backup --restore {done.kept}` brings back what was here."
            )
        )
    for each in done.problems:
        note(each)
