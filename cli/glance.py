"""``steno`` without a verb: how this home stands in a few lines, and what to type next.

It asks nobody, not even the daemon, so that it is there at once (tests/unit/test_cli_verbs.py).
"""

from __future__ import annotations

import click

from ..daemon.lock import holder_of
from ..storage.current import current_session
from ..storage.errors import NoHome
from ..storage.home import Home
from ..storage.store import Store
from .stores import reading
from .terminal import counted, local_time, safe_line

_NEW = (
    ("steno up", "set everything up and run, with the sessions of other tools"),
    ("steno init", "make a home on this machine"),
    ("steno join URL", "join the vault of your other devices"),
)
_EMPTY = (
    ('steno create --title "…"', "make a session"),
    ("steno import PATH", "bring sessions of other tools in"),
)
_USED = (
    ("steno list", "the last sessions"),
    ("steno show @last", "what was said in the last one"),
    ("steno search WORDS", "find what was said"),
)
_ALWAYS = (("steno status", "what is pending, and what is wrong"), ("steno --help", "every verb"))


def glance() -> None:
    """Print how this home stands, and the commands that are likely next. Raises `NoHome` where a store was lost."""
    home = Home.from_environment()
    try:
        with reading() as store:
            sessions, messages = store.count()
            lines = [f"Sessions:  {sessions:,} with {counted(messages, 'message')}", *_standing(store)]
    except NoHome as exc:
        if exc.hint != NoHome.hint:  # what was lost is no beginning
            raise
        click.echo("Steno keeps your AI and chat sessions. There are none here yet.")
        _print_next((*_NEW, _ALWAYS[1]))
        return
    click.echo(safe_line(f"Home:      {home.data}{', in a vault' if home.vault_file.exists() else ''}"))
    for line in [*lines, _daemon(home)]:
        click.echo(safe_line(line))
    _print_next((*(_USED if sessions else _EMPTY), *_ALWAYS))


def _standing(store: Store) -> list[str]:
    lines: list[str] = []
    last = next(store.sessions(limit=1), None)
    if last is not None:
        lines.append(f"Last:      {last.id}  {last.title or '(untitled)'}  ({local_time(last.updated_at)})")
    current = current_session(store)
    if current is not None and (last is None or current != last.id):
        lines.append(f"Current:   {current}  {store.get(current).title or '(untitled)'}")
    [conflicts] = store.one("SELECT count(*) FROM registers WHERE conflict")
    if conflicts:
        lines.append(f"Conflicts: {conflicts:,}, see `steno conflicts`")
    return lines


def _daemon(home: Home) -> str:
    holder = holder_of(home.daemon_lock)
    if holder is None:
        return "Daemon:    not running; `steno daemon start` starts it"
    return f"Daemon:    runs{f' (process {holder})' if holder else ''}"


def _print_next(commands: tuple[tuple[str, str], ...]) -> None:
    room = max(len(command) for command, _ in commands)
    click.echo()
    for command, what in commands:
        click.echo(f"  {command:<{room}}  {what}")
