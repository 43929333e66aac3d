"""``steno search``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from ..storage.errors import LocalStorageError, StenoError
from ..storage.listing import Filter
from ..storage.model import Json
from ..storage.search import Hit, search, total
from ..storage.shape import message_json
from ..storage.store import Store
from .dates import Span, date_option
from .options import examples, filter_options, format_option, positive
from .progress import Progress
from .stores import reading, writing
from .terminal import colours, counted, json_bytes, local_time, note, print_json, safe_line

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
        "steno search OAuth --provider anthropic --date-from 2024-01-01",
        "steno search 'token NEAR/5 expired' --session @last --json",
        'steno search "Go REST API" --export results.json',
    ),
)
@click.argument("words", metavar="WORDS...", nargs=-1, required=True)
@click.option("--session", "-s", metavar="ID", help="In this session only.")
@click.option("--date-from", metavar="DATE", callback=date_option, help="Messages of then or later.")
@click.option("--date-to", metavar="DATE", callback=date_option, help="Messages of then or earlier.")
@filter_options
@click.option("--archived", is_flag=True, help="In archived sessions too.")
@click.option(
    "--limit", "-n", type=int, callback=positive, default=DEFAULT_LIMIT, show_default=True, help="At most so many."
)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out so many of the best.")
@click.option("--export", "place", metavar="FILE|-", help="Write what is found to a file, as --json prints it.")
@format_option
def search_sessions(
    *,
    words: tuple[str, ...],
    session: str | None,
    date_from: Span | None,
    date_to: Span | None,
    chosen: Filter,
    archived: bool,
    limit: int,
    offset: int,
    place: str | None,
    as_json: bool,
) -> None:
    """Find messages and sessions in which all the words stand, the best match first.

    A word is found in its other forms too. "In quotes" words stand in a row, begin* finds by the
    beginning; OR, -word (or NOT), brackets and a NEAR/3 b join them. Quote the whole for the shell.
    --date-from and --date-to are about a message's own time, --since and --until about its session.
    """
    if limit > MAX_LIMIT:
        raise click.UsageError(f"search limit exceeds maximum allowed ({MAX_LIMIT})")
    if date_from and date_to and date_from.first_ms >= date_to.behind_ms:
        raise click.UsageError("--date-from is later than --date-to")
    query, for_programs = " ".join(words), as_json or place is not None
    marks = ("**", "**") if for_programs else (_BEGIN, _END)
    with _catching_up() as store:
        asked: dict[str, Any] = {
            "chosen": chosen,
            "session": None if session is None else store.resolve(session),
            "since_ms": date_from and date_from.first_ms,
            "before_ms": date_to and date_to.behind_ms,
            "archived": archived,
        }
        progress = Progress()
        found = search(store, query, limit=limit, offset=offset, marks=marks, told=_saying(progress), **asked)
        progress.end()
        if for_programs:
            known = not found.more and (found.hits or not offset)
            count = offset + len(found.hits) if known else total(store, query, **asked)
            document = {
                "results": _results(store, found.hits),
                "total_count": count,
                "query": query,
                "limit": limit,
                "offset": offset,
                "not_indexed": found.not_indexed,
                "hint": found.hint,
            }
            _put(document, place)
    if not for_programs:
        coloured = colours()
        click.echo("\n\n".join(_lines(hit, coloured=coloured) for hit in found.hits), nl=bool(found.hits))
        if not found.hits:
            note(f"No results found: {found.hint}." if found.hint else "No results found.")
        if found.more:
            shown = f"results {offset + 1} to {offset + limit}" if offset else f"the best {counted(limit, 'result')}"
            note(f"Showing {shown}. Use --limit and --offset to see more.")
    if found.not_indexed:
        note(f"{found.not_indexed} changes are not indexed yet; run it again, or let the daemon index them.")


def _put(document: dict[str, Json], place: str | None) -> None:
    """Print what was found, or write it to a file whole or not at all; directories on the way are made."""
    if place in (None, "-"):
        print_json(document)
        return
    from .exporting import write_file  # noqa: PLC0415  only where a file is written

    path = Path(str(place))
    write_file(path, [json_bytes(document), b"\n"])
    note(f"Wrote {path} ({counted(len(document['results']), 'result')})")


def _results(store: Store, hits: list[Hit]) -> list[dict[str, Json]]:
    """What was found, each with its whole message; ``message`` is null for a session found by its title or tags."""
    results: list[dict[str, Json]] = []
    for hit in hits:
        try:
            status = store.get(hit.session).status
            message = None if hit.message is None else store.get_message(hit.session, hit.message)
        except StenoError:  # deleted or purged since it was found
            continue
        results.append(
            {
                "session": hit.session,
                "session_name": hit.title,
                "session_status": status,
                "message": None if message is None else message_json(message),
                "timestamp": hit.timestamp,
                "snippet": hit.snippet,
                "relevance_score": hit.score,
            }
        )
    return results


def _saying(progress: Progress) -> Callable[[int], None]:
    return lambda left: progress.say(f"indexing: {left:,} changes left")


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
