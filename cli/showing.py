"""``steno show``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from ..storage.forks import divergences
from ..storage.model import Message, SessionHeader
from ..storage.runs import Divergence
from ..storage.shape import divergence_json, message_json, session_json
from ..storage.statistics import Spoken, statistics
from ..storage.store import Store
from .options import examples, positive
from .paging import paged
from .rendering import readable
from .stores import reading
from .terminal import local_time, print_json, safe, safe_line

_RULE = "─" * 60
_DAY = "%Y-%m-%d"


@click.command(
    short_help="Show a session and its messages.",
    epilog=examples(
        "steno show k3v9",
        "steno show @last --last 5",
        "steno show k3v9 --skip 10 --limit 10",
        "steno show k3v9 --format markdown",
        'steno show "Bug Investigation" --json',
    ),
)
@click.argument("session", metavar="ID")
@click.option("--summary", is_flag=True, help="No messages.")
@click.option("--limit", "-n", type=int, callback=positive, help="At most so many messages, from the first on.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Leave out so many messages at the beginning.")
@click.option("--last", type=int, callback=positive, help="Only the newest so many messages.")
@click.option(
    "--format", "form", default="text", show_default=True, help="How to print.",
    type=click.Choice(["text", "json", "markdown", "md"], case_sensitive=False),
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def show(
    *, session: str, summary: bool, limit: int | None, skip: int, last: int | None, form: str, as_json: bool
) -> None:
    """Show a session and its messages.

    Messages are counted by role, and their tokens summed up, unless only a part of them is asked for.
    """
    if last is not None and (limit is not None or skip):
        raise click.UsageError("--last goes without --limit and --skip")
    with paged(), reading() as store:
        header = store.get(store.resolve(session))
        part = bool(skip) or limit is not None or last is not None
        messages: Iterable[Message] = ()
        if not summary:
            messages = _chosen(store, header.id, skip=skip, limit=limit, last=last)
        if not as_json and form in ("markdown", "md"):
            _print_markdown(store, header, messages)
            return
        spoken = None if part and not summary else statistics(store, header.id)
        diverged: list[Divergence] = []
        if not summary:
            messages = list(messages) if part else messages
            diverged = divergences(store, header.id, among=[each.id for each in messages] if part else None)
        if as_json or form == "json":
            print_json(_json(header, spoken, None if summary else messages, diverged))
        else:
            print_session(header, messages, spoken=spoken, diverged=diverged, summary=summary)


def _chosen(store: Store, session: str, *, skip: int, limit: int | None, last: int | None) -> Iterable[Message]:
    if last is not None:
        return store.newest_messages(session, last)
    return store.messages(session, skip=skip, limit=limit)


def _print_markdown(store: Store, header: SessionHeader, messages: Iterable[Message]) -> None:
    from .export_forms import document  # noqa: PLC0415  only this format needs it

    shown = sys.stdout.isatty()
    for piece in document(store, "markdown")([(header, messages)], False):
        click.echo(safe(piece.decode()) if shown else piece, nl=False)


def _json(
    header: SessionHeader, spoken: Spoken | None, messages: Iterable[Message] | None, diverged: Iterable[Divergence]
) -> dict[str, Any]:
    shown = session_json(header)
    if spoken is not None:
        shown["roles"] = spoken.roles
        shown["total_tokens"] = spoken.tokens and spoken.tokens.total
    if messages is not None:
        shown["messages"] = [message_json(each) for each in messages]
        shown["divergences"] = [divergence_json(each) for each in diverged]
    return shown


def print_session(
    session: SessionHeader,
    messages: Iterable[Message],
    *,
    spoken: Spoken | None = None,
    diverged: Iterable[Divergence] = (),
    summary: bool = False,
) -> None:
    """Print a session and some of its messages for people, with a mark where devices ``diverged``.

    Where a message was written on another day than what stands before it, that day is named.
    """
    for name, value in _facts(session, spoken):
        click.echo(f"{name}: {safe_line(value)}")
    if summary:
        return
    click.echo(f"\n{_RULE}")
    empty, day = True, local_time(session.created_at, _DAY)
    marks = {each.at: _mark(session, each) for each in diverged}
    for message in messages:
        empty = False
        if message.id in marks:
            click.echo(f"\n{marks[message.id]}")
        if (written := local_time(message.timestamp, _DAY)) != day:
            day = written
            click.echo(f"\n┄┄ {day}")
        click.echo(f"\n[{_speaker(message)} - {local_time(message.timestamp, '%H:%M:%S')}]")
        click.echo(safe(readable(message.content)))
    if empty and not session.message_count:
        click.echo("\nNo messages in this session yet.")
    click.echo(f"\n{_RULE}")


def _mark(session: SessionHeader, divergence: Divergence) -> str:
    unknown = f"was written without knowing of {divergence.against}"
    many = len(divergence.run)
    what = "the next message" if many == 1 else f"what follows ({many} messages)"
    return safe_line(f"┄┄ Diverged: {what} {unknown}; steno split {session.id} --at {divergence.at}")


def _facts(session: SessionHeader, spoken: Spoken | None) -> list[tuple[str, str]]:
    facts = [
        ("Session", session.title or "(untitled)"),
        ("ID", session.id),
        ("Status", session.status),
        ("Created", local_time(session.created_at, f"{_DAY} %H:%M:%S")),
        ("Last Updated", local_time(session.updated_at, f"{_DAY} %H:%M:%S")),
        ("Provider", session.provider or ""),
        ("Model", session.model or ""),
        ("Project", session.project or ""),
        ("Tags", ", ".join(session.tags)),
        ("Messages", f"{session.message_count:,}"),
    ]
    if spoken is not None:
        facts.append(("By Role", ", ".join(f"{role} {count:,}" for role, count in spoken.roles.items())))
        facts.append(("Total Tokens", f"{spoken.tokens.total:,}" if spoken.tokens else ""))
    if session.local_only:
        facts.append(("Local only", "it stays on this device; `steno vault share` sends it"))
    if session.incomplete:
        facts.append(("Incomplete", "some messages have not arrived on this device yet"))
    return [(name, value) for name, value in facts if value]


def _speaker(message: Message) -> str:
    """Role and, where it says more, sender."""
    role = message.role.capitalize()
    return safe_line(f"{role} ({message.sender})" if message.sender and message.sender != message.role else role)
