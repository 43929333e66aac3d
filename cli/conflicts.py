"""``steno conflicts``."""

from __future__ import annotations

import click
import msgspec

from ..storage.conflicts import Conflict, Written, conflicts
from .options import examples, format_option
from .stores import reading
from .terminal import local_time, note, one_line_json, print_json, safe_line


@click.command(
    "conflicts",
    short_help="List what was edited differently on two devices.",
    epilog=examples("steno conflicts", "steno conflicts --json | jq '.[].field'"),
)
@format_option
def list_conflicts(*, as_json: bool) -> None:
    """List fields that were edited differently on two devices: what is shown, and the values that lost.

    Writing the field again, on any device, settles it everywhere.
    """
    with reading() as store:
        device = store.device
        found = list(conflicts(store))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for each in found:
        click.echo("\n".join(_lines(each, device)))
    if not found:
        note("No open conflicts.")


def _lines(conflict: Conflict, device: str) -> list[str]:
    where = conflict.session if conflict.message is None else f"{conflict.session} message {conflict.message}"
    lines = [safe_line(f"{where} ({conflict.title or '(untitled)'}): {conflict.field}")]
    for word, written in [("shown", conflict.shown), *(("also", other) for other in conflict.others)]:
        lines.append(f"  {word}  {_value(conflict, written)}  ({_origin(written, device)})")
    return lines


def _value(conflict: Conflict, written: Written) -> str:
    if written.removed:
        return "removed"
    if conflict.field == "deleted":
        return "not deleted" if written.value is None else "deleted"
    return one_line_json(written.value)


def _origin(written: Written, device: str) -> str:
    who = "this device" if written.device == device else f"device {safe_line(written.device)}"
    return f"{who}, {local_time(written.written_at)}"
