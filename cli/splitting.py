"""``steno split``: what two devices wrote apart becomes two sessions."""

from __future__ import annotations

import click

from ..storage.forks import divergences, split
from ..storage.model import SessionHeader
from ..storage.runs import Divergence
from ..storage.shape import divergence_json, session_json
from .options import examples, format_option
from .stores import reading, writing
from .terminal import counted, note, print_json, safe_line


@click.command(
    "split",
    short_help="Make a session of its own of what another device wrote apart.",
    epilog=examples("steno split k3v9", "steno split k3v9 --dry-run", "steno split k3v9 --at m-018f3a2b1c9d"),
)
@click.argument("session", metavar="ID")
@click.option("--at", metavar="MESSAGE", help="Where the run begins; needed where devices diverged several times.")
@click.option("--dry-run", is_flag=True, help="Say where devices diverged, and change nothing.")
@format_option
def split_session(*, session: str, at: str | None, dry_run: bool, as_json: bool) -> None:
    """Move what a device added without knowing what another one added there into a fork.

    `steno show` marks where that was. The fork begins with copies of what stands before both; in the session itself
    the moved messages are deleted. What other devices add to them meanwhile stays in the session.
    """
    if dry_run:
        with reading() as store:
            header = store.get(store.resolve(session))
            _tell(header, [each for each in divergences(store, header.id) if at in (None, each.at)], as_json=as_json)
        return
    with writing() as store, store.transaction():
        source = store.get(store.resolve(session))
        made = split(store, source.id, at=at)
        moved = source.message_count - store.get(source.id).message_count
        left = len(divergences(store, source.id))
    if as_json:
        print_json(session_json(made))
        return
    click.echo(safe_line(f"Moved {counted(moved, 'message')} of {source.id} to {made.id} ({made.title})"))
    if left:
        note(f"Devices diverged there {_more(left)}: see `steno split {source.id} --dry-run`.")


def _tell(session: SessionHeader, found: list[Divergence], *, as_json: bool) -> None:
    if as_json:
        print_json([divergence_json(each) for each in found])
        return
    for each in found:
        where = f"behind {each.anchor}" if each.anchor is not None else "at the beginning"
        click.echo(
            safe_line(
                f"{each.at}  {counted(len(each.run), 'message')} {where}, written without knowing of {each.against}: "
                f"steno split {session.id} --at {each.at}"
            )
        )
    if not found:
        note(f"No devices diverged in {session.id}.")


def _more(count: int) -> str:
    return "once more" if count == 1 else f"{count} times more"
