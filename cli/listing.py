"""``steno list``."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from ..storage.listing import SORTS, Filter, listed, place
from ..storage.model import SessionHeader
from ..storage.shape import session_json
from .options import examples, filter_options, format_option, positive
from .stores import reading
from .terminal import counted, note, print_json, safe_line, table, when

DEFAULT_LIMIT = 10
_NOT_ARCHIVED = ("status <> 'archived'", ())


@click.command(
    "list",
    short_help="List sessions, the last written to first.",
    epilog=examples(
        "steno list --tag go --since 2026-11-01",
        "steno list --provider anthropic --since 30d --until yesterday",
        "steno list --all --sort title",
        "steno list --all --json | jq length",
    ),
)
@filter_options
@click.option("--archived", is_flag=True, help="Archived sessions too; so do --all and --status archived.")
@click.option("--deleted", is_flag=True, help="Deleted sessions instead; `steno restore` brings them back.")
@click.option(
    "--sort", type=click.Choice(list(SORTS), case_sensitive=False), default="date", show_default=True,
    help="By what they are sorted.",
)  # fmt: skip
@click.option("--reverse", is_flag=True, help="Turn the order around.")
@click.option("--limit", "-n", type=int, callback=positive, help=f"At most so many (default {DEFAULT_LIMIT}).")
@click.option("--all", "every", is_flag=True, help="Every session, not only the first ones.")
@click.option(
    "--cursor", metavar="TOKEN", help="Go on where a page ended; '' begins. JSON has the page's `next` token then."
)
@format_option
def list_sessions(
    *,
    chosen: Filter,
    archived: bool,
    deleted: bool,
    sort: str,
    reverse: bool,
    limit: int | None,
    every: bool,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List sessions, the last written to first. All that the options ask for must hold."""
    most = limit or (None if every else DEFAULT_LIMIT)
    among = chosen
    if not (archived or every or deleted or chosen.status):
        among = msgspec.structs.replace(chosen, also=(_NOT_ARCHIVED,))
    with reading() as store:
        asked = None if most is None else most + 1
        after = _after(cursor, sort, reverse=reverse) if cursor else None
        found = list(listed(store, among, sort=sort, reverse=reverse, limit=asked, deleted=deleted, after=after))
    shown = found if most is None else found[:most]
    more, paged = len(found) > len(shown), limit is not None or cursor is not None
    following = _cursor(shown[-1], sort, reverse=reverse) if more and paged else None
    if as_json:
        page = [session_json(session) for session in shown]
        print_json(page if cursor is None else {"sessions": page, "next": following})
    elif shown:
        click.echo("\n".join(_table(shown)))
    else:
        note("No sessions found.")
        if chosen == Filter() and not deleted and not cursor:
            note('Make one with `steno create --title "…"`, or bring yours in with `steno import PATH`.')
    if following:
        note(f"Showing {counted(len(shown), 'session')}. Go on with --cursor {following}")
    elif more:
        note(f"Showing {len(shown)} sessions. Use --all to see all sessions.")


def _table(sessions: list[SessionHeader]) -> list[str]:
    """Lines for people; with a column of states where not every session is active."""
    heads = ("ID", "TITLE", "CREATED", "MESSAGES")
    rows = [
        (
            safe_line(each.id),
            safe_line(each.title or "(untitled)"),
            when(each.created_at),
            f"{each.message_count}",
        )
        for each in sessions
    ]
    if any(each.status != "active" for each in sessions):
        heads = (*heads, "STATUS")
        rows = [(*row, each.status) for row, each in zip(rows, sessions, strict=True)]
    return table(heads, rows, flexible=1)


def _cursor(last: SessionHeader, sort: str, *, reverse: bool) -> str:
    from ..storage.paging import cursor_of  # noqa: PLC0415  most lists fit on their page

    return cursor_of((sort, reverse, *place(last, sort=sort)))


def _after(cursor: str, sort: str, *, reverse: bool) -> tuple[Any, str]:
    from ..storage.paging import bad_cursor, place_of  # noqa: PLC0415  as above

    made_by, was_reversed, value, session = place_of(cursor, tuple[str, bool, int | str, str])
    if (made_by, was_reversed) != (sort, reverse):
        raise bad_cursor()
    return value, session
