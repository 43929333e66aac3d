"""The verbs that say how a session stands: ``pause``, ``activate``, ``archive``, and ``resume``."""

from __future__ import annotations

import click

from ..storage.current import set_current
from ..storage.model import SessionHeader
from ..storage.shape import session_json
from ..storage.store import Store
from .options import examples, format_option
from .stores import writing
from .terminal import note, print_json, safe_line


@click.command(
    short_help="Say that a session waits.", epilog=examples("steno pause k3v9", "steno list --status paused")
)
@click.argument("session", metavar="ID")
@format_option
def pause(*, session: str, as_json: bool) -> None:
    """Say that a session waits; nothing else changes. `steno resume` goes on with it."""
    with writing() as store:
        changed, before = _become(store, session, "paused")
    _tell(changed, before, as_json=as_json)


@click.command(short_help="Make a paused or archived session active.", epilog=examples("steno activate k3v9"))
@click.argument("session", metavar="ID")
@format_option
def activate(*, session: str, as_json: bool) -> None:
    """Make a paused or archived session active again. `steno resume` makes it the current one as well."""
    with writing() as store:
        changed, before = _become(store, session, "active")
    _tell(changed, before, as_json=as_json)


@click.command(
    short_help="Put a session away; it is kept.",
    epilog=examples("steno archive k3v9", 'steno archive "REST API Development"', "steno list --status archived"),
)
@click.argument("session", metavar="ID")
@format_option
def archive(*, session: str, as_json: bool) -> None:
    """Put a session away that is done with: it is kept, and neither listed nor searched unless asked for.

    `steno list --archived` and `steno search --archived` look there too. Adding a message makes it active again.
    """
    with writing() as store:
        changed, before = _become(store, session, "archived")
    _tell(changed, before, as_json=as_json)


@click.command(short_help="Make a session active and the current one.", epilog=examples("steno resume k3v9"))
@click.argument("session", metavar="ID")
@format_option
def resume(*, session: str, as_json: bool) -> None:
    """Make a session active, whatever it was, and the one that this device goes on with.

    Which session is the current one stays on this device; that it is active is seen on every one.
    """
    with writing() as store, store.transaction():
        changed, _ = _become(store, session, "active")
        set_current(store, changed.id)
    if as_json:
        print_json(session_json(changed))
        return
    click.echo(f"{_named(changed)} is active, and the current session.")
    note(f"Go on with `steno chat -s {changed.id}`, or see what was said: `steno show {changed.id}`.")


def _become(store: Store, ref: str, status: str) -> tuple[SessionHeader, str]:
    """Set a session's status; the session, and the status that it had."""
    with store.transaction():
        before = store.get(store.resolve(ref))
        if before.status == status:
            return before, status
        return store.update(before.id, fields={"status": status}), before.status


def _tell(session: SessionHeader, before: str, *, as_json: bool) -> None:
    if as_json:
        print_json(session_json(session))
    elif session.status == before:
        click.echo(f"{_named(session)} is {session.status} already.")
    else:
        click.echo(f"{_named(session)} is {session.status} now.")


def _named(session: SessionHeader) -> str:
    return safe_line(f"{session.id} ({session.title or '(untitled)'})")
