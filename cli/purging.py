"""``steno purge``: what it removes it removes for good, so it asks first, and says at the end where words may stay."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import click
import msgspec

from ..daemon.lock import ProcessLock
from ..storage.errors import AmbiguousRef, HomeBusy, SessionNotFound, StenoError
from ..storage.home import Home
from ..storage.listing import resolve_deleted
from ..storage.purge import Remains, purge_deleted, purge_history, purge_message, purge_session, shrink
from ..storage.retention import SLICE
from ..storage.store import Store
from .dates import AGES, age_option
from .options import examples, format_option
from .stores import writing
from .terminal import note, print_json, safe_line

DAEMON_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05
_BEHIND = "SELECT 1 FROM files WHERE session = ?1 AND (seq < ?2 OR ?1 NOT IN (SELECT no FROM sessions))"


@click.command(
    short_help="Remove sessions, messages or histories for good.",
    epilog=examples(
        "steno purge k3v9",
        "steno purge k3v9 --message m-018f3a2b1c9d",
        "steno purge k3v9 --history",
        "steno purge --deleted --older-than 30d --yes",
    ),
)
@click.argument("sessions", metavar="[ID]...", nargs=-1)
@click.option(
    "--message", "messages", metavar="ID", multiple=True, help="Only this message of the session; repeatable."
)
@click.option(
    "--history", is_flag=True, help="Only earlier texts, conflicts and deleted messages; what is shown stays."
)
@click.option("--deleted", is_flag=True, help="Every deleted session.")
@click.option("--older-than", metavar="AGE", callback=age_option, help=f"Those deleted longer ago: {AGES}.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, also on a terminal.")
@format_option
def purge(
    *,
    sessions: tuple[str, ...],
    messages: tuple[str, ...],
    history: bool,
    deleted: bool,
    older_than: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove sessions, deleted or not, and all that they hold; nothing brings them back.

    Other devices remove the same when they sync. Forks of a session are sessions of their own and stay.
    """
    _check_use(sessions, messages, history=history, deleted=deleted, older_than=older_than)
    home = Home.from_environment()
    with writing() as store:
        before_ms = None if older_than is None else store.now_ms() - older_than
        ids = _deleted(store, before_ms) if deleted else _resolved(store, sessions)
        if ids and not yes and not _agreed(store, ids, messages, history=history):
            note("Purge cancelled; nothing was changed.")
            return
        if deleted:
            done = _settled(home, store, ids, lambda: purge_deleted(store, before_ms=before_ms))
        else:
            done = removed(home, store, ids, messages, history=history)
    report(home, done, messages, history=history, as_json=as_json)


class Purged(NamedTuple):
    """What was purged: the ids of the sessions, where their words may still stand, and the home's former ids."""

    ids: list[str]
    remains: Remains
    former: list[str]


def removed(
    home: Home, store: Store, ids: list[str], messages: tuple[str, ...] = (), *, history: bool = False
) -> Purged:
    """Purge sessions, or of them only ``messages`` or what they were before."""

    def purge() -> list[str]:
        for start in range(0, len(ids), SLICE):
            with store.transaction():
                for each in ids[start : start + SLICE]:
                    _purge(store, each, messages, history=history)
        return ids

    return _settled(home, store, ids, purge)


def report(
    home: Home, done: Purged, messages: tuple[str, ...] = (), *, history: bool = False, as_json: bool = False
) -> None:
    """Say what was purged, and what remains."""
    if as_json:
        rest = {"former": done.former, **msgspec.to_builtins(done.remains)}
        print_json({"purged": done.ids, "messages": list(messages), **rest})
        return
    for line in _lines(done.ids, messages, history=history):
        click.echo(line)
    _tell(home, done.ids, done.remains, done.former, history=history)


def _settled(home: Home, store: Store, ids: list[str], purge: Callable[[], list[str]]) -> Purged:
    """Purge, and then bring files and database up to that."""
    numbers = [row.no for each in ids if (row := store.row(each))]
    done = purge()
    _settle_files(home, store, numbers)
    return Purged(done, shrink(store), _former(home, store))


def _check_use(
    sessions: tuple[str, ...], messages: tuple[str, ...], *, history: bool, deleted: bool, older_than: int | None
) -> None:
    if bool(sessions) == deleted:
        raise click.UsageError("name the sessions to purge, or give --deleted")
    if deleted and (messages or history):
        raise click.UsageError("--deleted goes with neither --message nor --history")
    if older_than is not None and not deleted:
        raise click.UsageError("--older-than needs --deleted")
    if messages and len(sessions) > 1:
        raise click.UsageError("--message takes one session")


def _deleted(store: Store, before_ms: int | None) -> list[str]:
    sql = "SELECT id FROM sessions WHERE hidden = 1 AND (?1 IS NULL OR deleted_ms < ?1) ORDER BY no"
    return [each for (each,) in store.execute(sql, (before_ms,)).fetchall()]


def _resolved(store: Store, refs: tuple[str, ...]) -> list[str]:
    """The ids of references to sessions, deleted or not, each once; raises `SessionNotFound` and `AmbiguousRef`."""
    return list(dict.fromkeys(_resolve(store, each) for each in refs))


def _resolve(store: Store, ref: str) -> str:
    found: set[str] = set()
    for resolve in (store.resolve, lambda ref: resolve_deleted(store, ref)):
        try:
            found.add(resolve(ref))
        except SessionNotFound:
            continue
        if ref in found:  # a whole id means nothing else
            return ref
    if not found:
        raise SessionNotFound(ref=ref)
    if len(found) > 1:
        raise AmbiguousRef(ref=ref, candidates=sorted(found))
    return found.pop()


def _agreed(store: Store, ids: list[str], messages: tuple[str, ...], *, history: bool) -> bool:
    """Ask, where somebody sits at a terminal."""
    if not sys.stdin.isatty():
        return True
    if len(ids) > 1:
        what = f"{len(ids)} sessions"
    else:
        found = store.get(ids[0], deleted=True)
        what = f"session {found.id} ({found.title or 'untitled'}, messages: {found.message_count})"
    if messages:
        what = f"{len(messages)} message{'s' * (len(messages) > 1)} of {what}"
    return click.confirm(safe_line(f"Purge {'the history of ' * history}{what}? It cannot be undone"), err=True)


def _purge(store: Store, session_id: str, messages: tuple[str, ...], *, history: bool) -> None:
    if history:
        for message_id in messages or (None,):
            purge_history(store, session_id, message_id)
    elif messages:
        for message_id in messages:
            purge_message(store, session_id, message_id)
    else:
        purge_session(store, session_id)


def _settle_files(home: Home, store: Store, sessions: list[int]) -> None:
    """Bring the sessions' files up to what was purged, or wait until the daemon that runs has done it."""
    if not store.one("SELECT 1 FROM files LIMIT 1"):
        return
    from ..sync.files.mirror import Mirror  # noqa: PLC0415  only where there are files
    from .warned import say_warnings  # noqa: PLC0415  the mirror may

    say_warnings()
    try:
        with ProcessLock(home.daemon_lock, task="the daemon"), closing(Mirror(store, home.sessions)) as mirror:
            mirror.settle(sessions)
    except HomeBusy:
        deadline, last = time.monotonic() + DAEMON_WITHIN_S, store.last_seq
        while time.monotonic() < deadline and any(store.one(_BEHIND, (each, last)) for each in sessions):
            time.sleep(_LOOK_EVERY_S)
    except StenoError as exc:
        note(exc.line)


def _lines(ids: list[str], messages: tuple[str, ...], *, history: bool) -> list[str]:
    if not ids:
        return ["No deleted session to purge."]
    of = "the history of " * history
    if messages:
        return [safe_line(f"Purged {of}message {each} of session {ids[0]}") for each in messages]
    return [safe_line(f"Purged {of}session {each}") for each in ids]


def _former(home: Home, store: Store) -> list[str]:
    """The ids that this home had and under which what was purged may still lie on the remote."""
    if not home.vault_file.exists() or not store.former_devices:
        return []
    from ..sync.vault.former import former_logs  # noqa: PLC0415  only here, as below
    from ..sync.vault.ledger import Ledger  # noqa: PLC0415
    from ..sync.vault.membership import membership  # noqa: PLC0415

    found = membership(home)
    return [] if found is None else former_logs(Ledger(store, found.vault))


def _tell(home: Home, ids: list[str], remains: Remains, former: list[str], *, history: bool) -> None:
    """Say where the words may still stand."""
    from ..sync.files.session_file import set_aside_of  # noqa: PLC0415  only where something was purged

    for path in remains.files:
        note(f"The file {home.sessions / path} is still as it was: the daemon sees to it, or see `steno status`.")
    for path in set_aside_of(home.sessions, ids):
        note(safe_line(f"{path} may hold what was purged; remove it."))
    for problem in remains.problems:
        note(f"{problem[:1].upper()}{problem[1:]}.")
    if remains.unsent:
        note(
            f"Sealed and waiting to be sent as they are: {remains.unsent} segments, unreadable without the vault's key."
        )
    if home.vault_file.exists():
        others = "keep the earlier texts that they have and sent" if history else "remove it, and what they sent, then"
        note(f"What this device sent goes from the remote when it syncs. Other devices {others}.")
    for each in former:
        still = "stays as it was" if history else "goes when a home that still has this id syncs"
        note(
            f"What this home sent under its former id {each} {still}; where no home has it any more, "
            f"`steno devices retire {each}` removes it."
        )
    note("Not touched: forks, exports, copies by other programs, and names of files in logs.")
