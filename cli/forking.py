"""The verbs about forks: ``fork``, ``merge``, and the ``tree`` of what was forked from what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ..storage.errors import MessageNotFound
from ..storage.forks import Ancestor, Node, ancestors, descendants, fork, merge
from ..storage.model import SessionHeader
from ..storage.shape import message_json, session_json
from ..storage.store import Store
from .options import examples, format_option, json_object
from .stores import reading, writing
from .terminal import counted, note, print_json, safe_line

_NO_TITLE = "(untitled)"


@click.command(
    "fork",
    short_help="Copy a session, or its beginning, into one of its own.",
    epilog=examples(
        'steno fork k3v9 --title "Another way"',
        "steno fork k3v9 --at 12",
        'steno fork k3v9 --at m-018f3a2b1c9d --reason "Focus on mobile" --json',
    ),
)
@click.argument("session", metavar="ID")
@click.option(
    "--at", metavar="MESSAGE", help="The last message to copy: its id, or its number in the session; all without it."
)
@click.option("--title", "-t", metavar="TEXT", help="Its title; without one “Fork of …”.")
@click.option("--reason", metavar="TEXT", help="Why; kept with where it was forked from.")
@click.option("--metadata", metavar="JSON", callback=json_object, help="A JSON object; merged into the original's.")
@format_option
def fork_session(
    *,
    session: str,
    at: str | None,
    title: str | None,
    reason: str | None,
    metadata: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Copy a session, up to a message or whole, into a new one, and print that.

    The copy stands alone: what is written to either later never shows in the other, until `steno merge` brings what
    was added to the copy into the original. The copy knows where it came from, as `steno tree` shows.
    """
    with writing() as store, store.transaction():
        source = store.get(store.resolve(session))
        point = None if at is None else _message(store, source, at)
        made = fork(store, source.id, at=point, title=title, reason=reason, metadata=metadata)
    if as_json:
        print_json(session_json(made))
        return
    rows = [("ID", made.id), ("Title", made.title), ("Status", made.status), ("Forked from", _named(source))]
    rows += [("Messages", f"{made.message_count:,} of {source.message_count:,}")]
    for name, value in rows:
        click.echo(f"{name}: {safe_line(value)}")
    note(f"Bring what you add to it back with `steno merge {made.id}`.")


@click.command(
    "merge", short_help="Bring what was added to a fork into its original.", epilog=examples("steno merge k3v9")
)
@click.argument("fork", metavar="ID")
@format_option
def merge_session(*, fork: str, as_json: bool) -> None:
    """Append what was written in a fork to the session that it was forked from.

    What was merged before is left out, so it may be run again. The fork stays as it is; messages that were copied into
    it and edited there stay edited there only.
    """
    with writing() as store, store.transaction():
        source = store.get(store.resolve(fork))
        added = merge(store, source.id)
        into = store.get(ancestors(store, source.id)[0].id)
    if as_json:
        print_json({"fork": source.id, "into": session_json(into), "messages": [message_json(each) for each in added]})
    elif added:
        click.echo(f"Merged {counted(len(added), 'message')} of {_named(source)} into {_named(into)}")
    else:
        click.echo(f"{_named(into)} has everything of {_named(source)} already")


@click.command(
    "tree",
    short_help="Show what a session was forked from, and its forks.",
    epilog=examples("steno tree k3v9", "steno tree @last --json | jq '.forks | length'"),
)
@click.argument("session", metavar="ID")
@format_option
def tree(*, session: str, as_json: bool) -> None:
    """Show what a session was forked from, up to the first, and all that was forked from it.

    A session that is deleted or purged, or never came to this device, is named where it is an ancestor; forks of it
    hang where it stood.
    """
    with reading() as store:
        session_id = store.resolve(session)
        above, below = ancestors(store, session_id), descendants(store, session_id)
        parents = _parents(store, below)
    if as_json:
        print_json(_tree_json(above, below, parents))
        return
    for line in _drawn(above, below, parents):
        click.echo(line)


def _message(store: Store, session: SessionHeader, ref: str) -> str:
    """The id of the message that an id or a number means; raises `MessageNotFound`."""
    if not store.known_messages(session.id, [ref]) and ref.isascii() and ref.isdecimal() and int(ref):
        found = list(store.messages(session.id, skip=int(ref) - 1, limit=1)) if len(ref) < 10 else []
        if not found:
            raise MessageNotFound(session=session.id, message=ref)
        return found[0].id
    return ref


def _parents(store: Store, below: list[Node]) -> dict[str, str]:
    """Under which of some forks each of them hangs: the nearest original that is shown, of a lesser level."""
    levels = {node.session.id: node.level for node in below}
    return {
        node.session.id: next(
            (each.id for each in ancestors(store, node.session.id) if levels.get(each.id, node.level) < node.level),
            below[0].session.id,
        )
        for node in below[1:]
    }


def _tree_json(above: list[Ancestor], below: list[Node], parents: dict[str, str]) -> dict[str, Any]:
    return {
        "session": session_json(below[0].session),
        "ancestors": [{"id": each.id, "title": each.title, "deleted": each.deleted} for each in above],
        "forks": [
            {**session_json(each.session), "parent": parents[each.session.id], "depth": each.level - 1}
            for each in below[1:]
        ],
    }


def _drawn(above: list[Ancestor], below: list[Node], parents: dict[str, str]) -> Iterator[str]:
    """The lines of a tree, the first ancestor at its root, the session that was asked for marked."""
    for depth, each in enumerate(reversed(above)):
        gone = "  (deleted)" if each.deleted else ""
        yield safe_line(f"{_indent(depth)}{each.id}  {each.title or _NO_TITLE}{gone}")
    forks: dict[str, list[SessionHeader]] = {}
    for node in below[1:]:
        forks.setdefault(parents[node.session.id], []).append(node.session)
    asked = below[0].session
    mark = "  ←" if above or len(below) > 1 else ""
    yield f"{_indent(len(above))}{_shown(asked)}{mark}"
    # Depth first by hand: a chain of forks may be longer than Python's stack.
    waiting = [(each, "   " * len(above)) for each in _last_first(forks.get(asked.id, []))]
    while waiting:
        (session, last), rails = waiting.pop()
        yield f"{rails}{'└─ ' if last else '├─ '}{_shown(session)}"
        rails += "   " if last else "│  "
        waiting += [(each, rails) for each in _last_first(forks.get(session.id, []))]


def _last_first(sessions: list[SessionHeader]) -> list[tuple[SessionHeader, bool]]:
    """Sessions from the last to the first, each with whether it is the last."""
    return [(each, at == len(sessions) - 1) for at, each in enumerate(sessions)][::-1]


def _indent(depth: int) -> str:
    return "" if depth == 0 else f"{'   ' * (depth - 1)}└─ "


def _shown(session: SessionHeader) -> str:
    return safe_line(f"{session.id}  {session.title or _NO_TITLE}  ({counted(session.message_count, 'message')})")


def _named(session: SessionHeader) -> str:
    return safe_line(f"{session.id} ({session.title or _NO_TITLE})")
