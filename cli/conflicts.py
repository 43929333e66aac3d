"""``steno conflicts``: what was edited differently on two devices, and settling it."""

from __future__ import annotations

import click
import msgspec

from ..storage.conflicts import Conflict, Written, conflicts, dismiss, restore
from ..storage.errors import ConflictNotFound
from ..storage.store import Store
from .naming import device_names, said
from .options import examples, format_option
from .stores import reading, writing
from .terminal import local_time, note, one_line_json, print_json, safe_line

_message_option = click.option("--message", metavar="ID", help="A field of this message, not of the session.")


@click.group(
    "conflicts",
    invoke_without_command=True,
    short_help="List and settle what was edited differently on two devices.",
    epilog=examples(
        "steno conflicts",
        "steno conflicts show k3v9",
        "steno conflicts restore k3v9 title 1",
        "steno conflicts dismiss k3v9",
        "steno conflicts --json | jq '.[].field'",
    ),
)
@click.pass_context
@format_option
def list_conflicts(ctx: click.Context, *, as_json: bool) -> None:
    """List fields that were edited differently on two devices: what is shown, and the values that lost.

    Writing the field again, on any device, settles it everywhere; `restore` and `dismiss` do that.
    """
    if ctx.invoked_subcommand is not None:
        return
    with reading() as store:
        _tell(store, list(conflicts(store)), as_json=as_json)


@list_conflicts.command(
    "show", epilog=examples("steno conflicts show k3v9", "steno conflicts show k3v9 content --message m-018f3a2b1c9d")
)
@click.argument("session")
@click.argument("field", required=False)
@_message_option
@format_option
def show(*, session: str, field: str | None, message: str | None, as_json: bool) -> None:
    """Show every value of a session's conflicts, or of one FIELD: its number, who wrote it and when, which is shown."""
    with reading() as store:
        session_id = store.resolve(session)
        found = _chosen(store, session_id, message, field)
        _tell(store, found, as_json=as_json)


@list_conflicts.command(
    "restore",
    epilog=examples(
        "steno conflicts restore k3v9 title 1", "steno conflicts restore k3v9 content 2 --message m-018f3a2b1c9d"
    ),
)
@click.argument("session")
@click.argument("field")
@click.argument("number", metavar="VALUE-NUMBER", type=int)
@_message_option
@format_option
def restore_value(*, session: str, field: str, number: int, message: str | None, as_json: bool) -> None:
    """Write a value that lost again, by the number that `show` gives it: it is shown, and settled, on every device.

    What was shown before is kept in the history of the session.
    """
    with writing() as store:
        session_id = store.resolve(session)
        (conflict,) = _chosen(store, session_id, message, field)
        written = restore(store, session_id, message, field, number=number)
    if as_json:
        print_json({"conflict": conflict.id, "restored": msgspec.to_builtins(written)})
    else:
        click.echo(safe_line(f"{_where(conflict)}: {conflict.field} is now {_value(conflict, written)}"))


@list_conflicts.command(
    "dismiss", epilog=examples("steno conflicts dismiss k3v9 title", "steno conflicts dismiss k3v9")
)
@click.argument("session")
@click.argument("field", required=False)
@_message_option
@format_option
def dismiss_values(*, session: str, field: str | None, message: str | None, as_json: bool) -> None:
    """Leave what is shown as it is, for one FIELD or for all of a session or message: settled on every device.

    The values that lost are kept in the history of the session.
    """
    with writing() as store:
        session_id = store.resolve(session)
        _chosen(store, session_id, message, field)
        settled = dismiss(store, session_id, message, field)
    if as_json:
        print_json({"dismissed": msgspec.to_builtins(settled)})
        return
    for each in settled:
        click.echo(safe_line(f"{_where(each)}: {each.field} stays {_value(each, each.shown)}"))


def _chosen(store: Store, session: str, message: str | None, field: str | None) -> list[Conflict]:
    """The conflicts that are named; raises `ConflictNotFound` where there is none."""
    found = list(conflicts(store, session))
    chosen = [
        each
        for each in found
        if (each.message == message or (message is None and field is None)) and field in (None, each.field)
    ]
    if chosen:
        return chosen
    what = f"session {session}" if message is None else f"message {message}"
    error = ConflictNotFound(what=what if field is None else f"the field {field} of {what}")
    elsewhere = sorted(each.message for each in found if each.field == field and each.message)
    if elsewhere:
        error.hint = f"there is one in message {elsewhere[0]}: add --message {elsewhere[0]}"
    raise error


def _tell(store: Store, found: list[Conflict], *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    names = device_names(store)
    for each in found:
        click.echo("\n".join(_lines(each, names)))
    if not found:
        note("No open conflicts.")


def _lines(conflict: Conflict, names: dict[str, str]) -> list[str]:
    lines = [safe_line(f"{_where(conflict)} ({conflict.title or '(untitled)'}): {conflict.field}")]
    for written in [conflict.shown, *conflict.others]:
        word = "shown" if written is conflict.shown else "also"
        who = f"{said(written.device, names)}, {local_time(written.written_at)}"
        lines.append(f"  {written.number}  {word:<5}  {_value(conflict, written)}  ({who})")
    return lines


def _where(conflict: Conflict) -> str:
    return conflict.session if conflict.message is None else f"{conflict.session} message {conflict.message}"


def _value(conflict: Conflict, written: Written) -> str:
    if written.removed:
        return "removed"
    if conflict.field == "deleted":
        return "not deleted" if written.value is None else "deleted"
    return one_line_json(written.value)
