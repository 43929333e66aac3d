"""``steno search``."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import click
import msgspec

from ..storage.errors import LocalStorageError
from ..storage.search import Hit, search
from ..storage.store import Store
from .options import examples, filter_of, filter_options, format_option, positive
from .stores import reading, writing
from .terminal import columns, local_time, note, print_json, safe_line

MAX_LIMIT = 1000
DEFAULT_LIMIT = 50

# The index drops control characters from what it quotes, so these two can only be marks.
_BEGIN, _END = "\x01", "\x02"


@click.command(
    "search",
    short_help="Find messages and sessions by their words.",
    epilog=examples(
        "steno search JWT authentication",
        """steno search '"exact phrase"' --tag go""",
        "steno search 'config* OR setting -docker'",
        "steno search 'token NEAR/5 expired' --session @last --json",
    ),
)
@click.argument("words", metavar="WORDS...", nargs=-1, required=True)
@click.option(
    "--limit", "-n", type=int, callback=positive, default=DEFAULT_LIMIT, show_default=True, help="At most so many."
)
@click.option("--session", "-s", metavar="ID", help="In this session only.")
@filter_options
@click.option("--archived", is_flag=True, help="In archived sessions too.")
@format_option
def search_sessions(
    *,
    words: tuple[str, ...],
    limit: int,
    session: str | None,
    tags: tuple[str, ...],
    project: str | None,
    provider: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    archived: bool,
    as_json: bool,
) -> None:
    """Find messages and sessions in which all the words stand, the best match first.

    A word is found in its other forms too. "In quotes" words stand in a row, begin* finds by the
    beginning; OR, -word (or NOT), brackets and a NEAR/3 b join them. Quote the whole for the shell.
    """
    if limit > MAX_LIMIT:
        raise click.UsageError(f"search limit exceeds maximum allowed ({MAX_LIMIT})")
    chosen = filter_of(tags=tags, project=project, provider=provider, status=status, since=since, until=until)
    query = " ".join(words)
    marks = ("**", "**") if as_json else (_BEGIN, _END)
    with _catching_up() as store:
        inside = None if session is None else store.resolve(session)
        found = search(store, query, chosen=chosen, session=inside, archived=archived, limit=limit, marks=marks)
    if as_json:
        print_json({"query": query, "limit": limit, **msgspec.to_builtins(found)})
    else:
        coloured = columns() is not None
        click.echo("\n\n".join(_lines(hit, coloured=coloured) for hit in found.hits), nl=bool(found.hits))
        if not found.hits:
            note(f"No results found: {found.hint}." if found.hint else "No results found.")
    if found.more and not as_json:
        note(f"Showing the best {len(found.hits)} results. Use --limit to see more.")
    if found.not_indexed:
        note(f"{found.not_indexed} changes are not indexed yet; run it again, or let the daemon index them.")


@contextmanager
def _catching_up() -> Generator[Store]:
    """The store, writable so that the index can catch up first; read-only where the disk refuses that."""
    with ExitStack() as stack:
        try:
            store = stack.enter_context(writing())
        except LocalStorageError:
            store = stack.enter_context(reading())
        yield store


def _lines(hit: Hit, *, coloured: bool) -> str:
    who = hit.role or "title"
    head = f"{hit.session}  {hit.title or '(untitled)'}  [{who}, {local_time(hit.timestamp)}]"
    snippet = "".join(_styled(piece, coloured=coloured) for piece in hit.snippet.split(_BEGIN))
    return f"{safe_line(head)}\n    {snippet}"


def _styled(piece: str, *, coloured: bool) -> str:
    """Text behind a mark: up to the end mark it matched."""
    matched, end, rest = piece.partition(_END)
    if not end:
        return safe_line(piece)
    return (click.style(safe_line(matched), bold=True) if coloured else safe_line(matched)) + safe_line(rest)
