"""``steno list``."""

from __future__ import annotations

from datetime import datetime

import click

from ..storage.listing import SORTS, Filter, listed
from ..storage.shape import session_json
from .options import examples, filter_of, filter_options, format_option, positive
from .stores import reading
from .terminal import local_time, note, print_json, safe_line, table

DEFAULT_LIMIT = 10


@click.command(
    "list",
    short_help="List sessions, the last written to first.",
    epilog=examples(
        "steno list --tag go --since 2026-11-01", "steno list --all --sort title", "steno list --all --json | jq length"
    ),
)
@click.option("--all", "every", is_flag=True, help="Every session, not only the first ones.")
@click.option("--limit", "-n", type=int, callback=positive, help=f"At most so many (default {DEFAULT_LIMIT}).")
@click.option("--search", "title", metavar="TEXT", help="With this text in the title.")
@filter_options
@click.option("--sort", type=click.Choice(list(SORTS), case_sensitive=False), default="date", show_default=True)
@click.option("--reverse", is_flag=True, help="Turn the order around.")
@click.option("--deleted", is_flag=True, help="Deleted sessions instead; `steno restore` brings them back.")
@format_option
def list_sessions(
    *,
    every: bool,
    limit: int | None,
    title: str | None,
    tags: tuple[str, ...],
    project: str | None,
    provider: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    sort: str,
    reverse: bool,
    deleted: bool,
    as_json: bool,
) -> None:
    """List sessions, the last written to first."""
    chosen = filter_of(
        title=title, tags=tags, project=project, provider=provider, status=status, since=since, until=until
    )
    most = limit or (None if every else DEFAULT_LIMIT)
    with reading() as store:
        asked = None if most is None else most + 1
        found = list(listed(store, chosen, sort=sort, reverse=reverse, limit=asked, deleted=deleted))
    shown = found if most is None else found[:most]
    if as_json:
        print_json([session_json(session) for session in shown])
    elif shown:
        rows = [
            (
                safe_line(each.id),
                safe_line(each.title) or "(untitled)",
                local_time(each.created_at),
                str(each.message_count),
            )
            for each in shown
        ]
        click.echo("\n".join(table(("ID", "TITLE", "CREATED", "MESSAGES"), rows, flexible=1)))
    else:
        note("No sessions found.")
        if chosen == Filter() and not deleted:
            note('Make one with `steno create --title "…"`, or bring yours in with `steno import PATH`.')
    if len(found) > len(shown) and not limit:
        note(f"Showing {len(shown)} sessions. Use --all to see all sessions.")
