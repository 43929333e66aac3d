"""``steno show``."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ..storage.forks import divergences
from ..storage.model import Message, SessionHeader
from ..storage.runs import Divergence
from ..storage.shape import divergence_json, message_json, session_json
from ..storage.store import Store
from .options import examples, format_option, positive
from .rendering import readable
from .stores import reading
from .terminal import local_time, print_json, safe, safe_line

_RULE = "─" * 60


@click.command(
    short_help="Show a session and its messages.",
    epilog=examples("steno show k3v9", "steno show @last --last 5", 'steno show "Bug Investigation" --json'),
)
@click.argument("session", metavar="ID")
@click.option("--limit", "-n", type=int, callback=positive, help="At most so many messages, from the first on.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Leave out so many messages at the beginning.")
@click.option("--last", type=int, callback=positive, help="Only the newest so many messages.")
@click.option("--summary", is_flag=True, help="No messages.")
@format_option
def show(*, session: str, limit: int | None, skip: int, last: int | None, summary: bool, as_json: bool) -> None:
    """Show a session and its messages."""
    if last is not None and (limit is not None or skip):
        raise click.UsageError("--last goes without --limit and --skip")
    with reading() as store:
        session_id = store.resolve(session)
        header = store.get(session_id)
        messages: Iterable[Message] = ()
        diverged: list[Divergence] = []
        if not summary:
            messages = _chosen(store, session_id, skip=skip, limit=limit, last=last)
            part = None
            if skip or limit is not None or last is not None:
                messages = list(messages)
                part = [each.id for each in messages]
            diverged = divergences(store, session_id, among=part)
        if as_json:
            shown = session_json(header)
            if not summary:
                shown["messages"] = [message_json(each) for each in messages]
                shown["divergences"] = [divergence_json(each) for each in diverged]
            print_json(shown)
        else:
            print_session(header, messages, diverged=diverged, summary=summary)


def _chosen(store: Store, session: str, *, skip: int, limit: int | None, last: int | None) -> Iterable[Message]:
    if last is not None:
        return store.newest_messages(session, last)
    return store.messages(session, skip=skip, limit=limit)


def print_session(
    session: SessionHeader,
    messages: Iterable[Message],
    *,
    diverged: Iterable[Divergence] = (),
    summary: bool = False,
) -> None:
    """Print a session and some of its messages for people, with a mark where devices ``diverged``."""
    for name, value in _facts(session):
        click.echo(f"{name + ':':<14}{safe_line(value)}")
    if summary:
        return
    click.echo(_RULE)
    empty = True
    marks = {each.at: _mark(session, each) for each in diverged}
    for message in messages:
        empty = False
        if message.id in marks:
            click.echo(f"\n{marks[message.id]}")
        click.echo(f"\n[{_speaker(message)} - {local_time(message.timestamp, '%Y-%m-%d %H:%M:%S')}]")
        click.echo(safe(readable(message.content)))
    if empty and not session.message_count:
        click.echo("\nNo messages in this session yet.")
    click.echo(f"\n{_RULE}")


def _mark(session: SessionHeader, divergence: Divergence) -> str:
    unknown = f"was written without knowing of {divergence.against}"
    many = len(divergence.run)
    what = "the next message" if many == 1 else f"what follows ({many} messages)"
    return safe_line(f"┄┄ Diverged: {what} {unknown}; steno split {session.id} --at {divergence.at}")


def _facts(session: SessionHeader) -> list[tuple[str, str]]:
    facts = [
        ("Session", session.title or "(untitled)"),
        ("ID", session.id),
        ("Status", session.status),
        ("Created", local_time(session.created_at, "%Y-%m-%d %H:%M:%S")),
        ("Last updated", local_time(session.updated_at, "%Y-%m-%d %H:%M:%S")),
        ("Provider", session.provider or ""),
        ("Model", session.model or ""),
        ("Project", session.project or ""),
        ("Tags", ", ".join(session.tags)),
        ("Messages", str(session.message_count)),
    ]
    if session.local_only:
        facts.append(("Local only", "it stays on this device; `steno vault share` sends it"))
    if session.incomplete:
        facts.append(("Incomplete", "some messages have not arrived on this device yet"))
    return [(name, value) for name, value in facts if value]


def _speaker(message: Message) -> str:
    """Role and, where it says more, sender."""
    role = message.role.capitalize()
    return safe_line(f"{role} ({message.sender})" if message.sender and message.sender != message.role else role)
