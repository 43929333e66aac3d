"""``steno delete`` and ``steno restore``: what is deleted is hidden until it is restored, or purged."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec

from ..storage.errors import SessionNotFound
from ..storage.home import Home
from ..storage.listing import Filter, resolve_deleted
from ..storage.retention import delete_where, select
from ..storage.shape import session_json
from ..storage.store import Store
from .dates import AGES, Span, age_option, date_option
from .options import examples, filter_options, format_option
from .progress import Progress
from .stores import reading, writing
from .terminal import counted, note, print_json
from .writing import named

_NAMED_AT_MOST = 10


@click.command(
    short_help="Delete sessions; they can be restored.",
    epilog=examples(
        "steno delete k3v9",
        "steno delete k3v9 x7f2 --dry-run",
        "steno delete --older-than 90d --confirm",
        "steno delete --before 2024-01-01 --provider openai",
        "steno delete --all --force",
    ),
)
@click.argument("sessions", metavar="[ID]...", nargs=-1)
@click.option("--before", metavar="DATE", callback=date_option, help="Last written to before this day.")
@click.option("--older-than", metavar="AGE", callback=age_option, help=f"Last written to longer ago: {AGES}.")
@filter_options
@click.option("--all", "every", is_flag=True, help="Every session.")
@click.option("--confirm", is_flag=True, help="Ask first, also where there is no terminal.")
@click.option("--force", "-f", is_flag=True, help="Do not ask, also on a terminal.")
@click.option("--hard", is_flag=True, help="Remove them for good, as `steno purge` does; nothing brings them back.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@format_option
def delete(
    *,
    sessions: tuple[str, ...],
    before: Span | None,
    older_than: int | None,
    chosen: Filter,
    every: bool,
    confirm: bool,
    force: bool,
    hard: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete sessions: those named, all of them or none if one is unknown, or those that the options choose.

    `steno restore` brings them back. On a terminal it asks before it deletes what was not named.
    """
    by_choice = before is not None or older_than is not None or chosen != Filter()
    if chosen.title is not None and not chosen.title.strip():
        raise click.UsageError("--search is blank: every session would be deleted, for which there is --all")
    _check_use(named=bool(sessions), by_choice=by_choice, every=every, confirm=confirm, force=force)
    on_terminal = sys.stdin.isatty()
    if every and not (confirm or force or dry_run or on_terminal):
        raise click.UsageError("--all deletes without a question only with --force; --confirm asks")
    with reading() if dry_run else writing() as store:
        among = _older(chosen, before, None if older_than is None else store.now_ms() - older_than)
        ids = _resolve_all(store, sessions) if sessions else select(store, among)
        if dry_run:
            _tell(store, ids, "Would delete", each=True, as_json=as_json)
            return
        asks = confirm or (on_terminal and not force and (hard or not sessions))
        if ids and asks and not _agreed(store, ids, hard=hard):
            note("Deletion cancelled.")
            return
        if not hard:
            _delete(store, ids, None if sessions else among, as_json=as_json)
            return
        from .purging import removed, report  # noqa: PLC0415  it needs more than looking at sessions does

        home = Home.from_environment()
        done = removed(home, store, ids if sessions else _still(store, among, ids))
    report(home, done, as_json=as_json)


@click.command(
    short_help="Bring back deleted sessions with their messages.",
    epilog=examples("steno list --deleted", "steno restore k3v9"),
)
@click.argument("sessions", metavar="ID...", nargs=-1, required=True)
@format_option
def restore(*, sessions: tuple[str, ...], as_json: bool) -> None:
    """Bring back deleted sessions with their messages: all of them, or none if one is unknown."""
    with writing() as store, store.transaction():
        done = [store.restore(each) for each in _resolve_all(store, sessions, deleted=True)]
    if as_json:
        print_json([session_json(each) for each in done])
        return
    for each in done:
        click.echo(f"Restored {named(each)} with {counted(each.message_count, 'message')}")


def _check_use(*, named: bool, by_choice: bool, every: bool, confirm: bool, force: bool) -> None:
    if named + by_choice + every != 1:
        raise click.UsageError("name the sessions to delete, or say which by options, or give --all")
    if confirm and force:
        raise click.UsageError("--confirm asks, --force does not: give one of them")


def _older(chosen: Filter, before: Span | None, older_ms: int | None) -> Filter:
    """A filter that also asks for sessions last written to before these times."""
    bounds = [chosen.before_ms, before.first_ms if before else None, older_ms]
    return msgspec.structs.replace(chosen, before_ms=min((each for each in bounds if each is not None), default=None))


def _agreed(store: Store, ids: Sequence[str], *, hard: bool) -> bool:
    """Ask once; only y and yes agree, the end of the input does not."""
    what = f"session {named(store.get(ids[0]))}" if len(ids) == 1 else counted(len(ids), "session")
    click.echo(f"Delete {what}{' for good' * hard}? (y/N): ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not (answer.endswith("\n") and sys.stdin.isatty()):  # a terminal has shown the line end that was typed
        click.echo(err=True)
    return answer.strip().lower() in ("y", "yes")


def _delete(store: Store, ids: list[str], chosen: Filter | None, *, as_json: bool) -> None:
    """Delete named sessions, or those that are chosen still, a few at a time; and say so."""
    if chosen is None:
        with store.transaction():
            for each in ids:
                store.delete(each)
    else:
        ids = _delete_chosen(store, chosen, ids)
    _tell(store, ids, "Deleted", each=chosen is None, as_json=as_json)
    if ids and not as_json:
        which = " ".join(ids) if len(ids) <= _NAMED_AT_MOST else "ID"
        note(f"Bring back with `steno restore {which}`; `steno list --deleted` lists what can be restored.")


def _delete_chosen(store: Store, chosen: Filter, ids: list[str]) -> list[str]:
    """Delete those of the sessions that were chosen, and asked about, which are chosen still."""
    progress = Progress()
    told = f"of {len(ids):,} sessions"
    try:
        return delete_where(store, chosen, among=ids, told=lambda done: progress.say(f"deleted {done:,} {told}"))
    finally:
        progress.end()


def _still(store: Store, chosen: Filter, ids: list[str]) -> list[str]:
    """Those of some sessions that are chosen now: what was written to since it was asked about may not be."""
    now = set(select(store, chosen))
    return [each for each in ids if each in now]


def _tell(store: Store, ids: list[str], what: str, *, each: bool, as_json: bool) -> None:
    """Say which sessions, or how many."""
    if as_json:
        print_json([session_json(store.get(one, deleted=True)) for one in ids])
        return
    if each:
        for one in ids:
            click.echo(f"{what} {named(store.get(one, deleted=True))}")
    if not each or len(ids) != 1:
        click.echo(f"{what} {counted(len(ids), 'session')}")


def _resolve_all(store: Store, refs: tuple[str, ...], *, deleted: bool = False) -> list[str]:
    """The ids of several references, each once; raises `SessionNotFound` naming all that are unknown."""
    found: list[str] = []
    unknown: list[str] = []
    for ref in refs:
        try:
            found.append(_resolve_either(store, ref) if deleted else store.get(store.resolve(ref)).id)
        except SessionNotFound:
            unknown.append(ref)
    if unknown:
        raise SessionNotFound(ref=", ".join(unknown))
    return list(dict.fromkeys(found))


def _resolve_either(store: Store, ref: str) -> str:
    """A session that was deleted; one that was not stays as it is."""
    try:
        return resolve_deleted(store, ref)
    except SessionNotFound:
        return store.resolve(ref)
