"""What a shell offers behind a half-typed word: verbs and options by click, and here what stands in the store.

A parameter says what it is by its name and metavar, so that no verb needs to know of completion. Questions are bounded
by a limit and an index, also with a hundred thousand sessions, and whatever goes wrong offers nothing: a message in the
middle of a half-typed line helps nobody (tests/unit/test_cli_completing.py; tests/e2e/test_terminal.py in real shells).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
)

from ..storage.home import Home
from ..storage.store import Store
from .options import examples
from .terminal import safe_line
from .verbs import Verbs

VARIABLE = "_STENO_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_MOST, _LOOKED_AT, _WIDEST = 50, 2_000, 60
_LAST = "\U0010ffff"
_UNQUOTED = re.compile(r"([^\w@%+=:,./-])")

Offer = tuple[str, str]
"""A word, and what to say of it."""
Question = Callable[[Store, str], Iterable[Offer]]
"""What is asked of the store for what is typed."""


def complete(group: click.Group, instruction: str) -> int:
    """Answer a shell; it is told nothing where anything goes wrong."""
    with suppress(Exception):
        taught = _Taught(name=group.name, params=group.params, context_settings=group.context_settings)
        return shell_complete(taught, {}, "steno", VARIABLE, instruction)
    return 0


@click.command(
    short_help="Print what lets your shell complete verbs, options, ids and titles.",
    epilog=examples(
        "steno completion bash >> ~/.bashrc",
        "steno completion zsh >> ~/.zshrc",
        "steno completion fish > ~/.config/fish/completions/steno.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(*, shell: str | None) -> None:
    """Print what lets your shell complete verbs, options, and the ids and titles of sessions.

    Without a name it is the shell that you use. In zsh it goes behind the line that runs compinit.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise click.UsageError(f"name your shell: {', '.join(SHELLS)}")
    shell_complete(click.Group("steno"), {}, "steno", VARIABLE, f"{name}_source")


class Stored(click.ParamType[str]):
    """A word that stands in the store."""

    name = "text"

    def __init__(self, question: Question) -> None:
        self._question = question

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:  # noqa: ARG002  click's
        """Offer what begins so, each once."""
        offered: dict[str, str] = {}
        home = Home.from_environment()
        with Store(home.database, read_only=True) as store:
            for word, what in self._question(store, incomplete):
                if word.startswith(incomplete) and safe_line(word) == word:
                    offered.setdefault(word, what)
        return [CompletionItem(word, help=safe_line(what)[:_WIDEST]) for word, what in offered.items()][:_MOST]


class _File(click.ParamType[str]):
    """A name of a file; the shell knows which there are."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:  # noqa: ARG002  click's
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type="file")]


class _Taught(Verbs):
    """The verbs, their parameters completed by what they are."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb with its parameters taught."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _teach(found)
        return found


def kind_of(command: click.Command, parameter: click.Parameter) -> click.ParamType[Any] | None:
    """What completes a parameter; None for what only its person knows."""
    metavar = (parameter.metavar or "").strip("[].")
    if parameter.name in ("session", "sessions", "fork"):
        return Stored(_deleted if command.name == "restore" else _sessions)
    if metavar == "TAG":
        return Stored(_tags)
    if parameter.name in ("user", "user_id") and metavar == "ID":
        return Stored(_column("user_id"))
    if parameter.name in ("provider", "model"):
        return Stored(_column(parameter.name))
    if parameter.name == "project":
        return Stored(_column("json_extract(metadata, '$.project')"))
    return _File() if {"PATH", "FILE", "DIR", "DIRECTORY", "DIR/"} & set(metavar.split("|")) else None


def _teach(command: click.Command) -> None:
    for parameter in command.params:
        kind = kind_of(command, parameter)
        if kind is not None and isinstance(parameter.type, type(click.STRING)):
            parameter.type = kind
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _teach(below)


def _sessions(store: Store, begun: str) -> Iterator[Offer]:
    """Ids and titles; of all sessions the last written to."""
    return _named(store, begun, hidden=0)


def _deleted(store: Store, begun: str) -> Iterator[Offer]:
    return _named(store, begun, hidden=1)


def _named(store: Store, begun: str, *, hidden: int) -> Iterator[Offer]:
    select = "SELECT id, title FROM sessions WHERE hidden = ?"
    if not begun:
        yield from store.execute(f"{select} ORDER BY updated_ms DESC LIMIT {_MOST}", (hidden,))
        return
    bounds = (hidden, begun, begun + _LAST)
    yield from store.execute(f"{select} AND id >= ? AND id < ? ORDER BY id LIMIT {_MOST}", bounds)
    for session, title in store.execute(
        f"{select} AND title >= ? AND title < ? ORDER BY title LIMIT {_MOST}", bounds
    ).fetchall():
        yield title, session


def _tags(store: Store, _: str) -> Iterator[Offer]:
    sql = "SELECT DISTINCT value FROM (SELECT tags FROM sessions WHERE hidden = 0 ORDER BY updated_ms DESC LIMIT ?)"
    for [tag] in store.execute(f"{sql}, json_each(tags)", (_LOOKED_AT,)):
        yield tag, ""


def _column(expression: str) -> Question:
    recent = f"SELECT {expression} AS word FROM sessions WHERE hidden = 0 ORDER BY updated_ms DESC LIMIT {_LOOKED_AT}"  # noqa: S608  ours

    def ask(store: Store, _: str) -> Iterator[Offer]:
        for [word] in store.execute(f"SELECT DISTINCT word FROM ({recent}) WHERE typeof(word) = 'text'"):  # noqa: S608  ours
            yield word, ""

    return ask


class _Bash(BashComplete):
    """Click's, for words with blanks in them."""

    source_template = BashComplete.source_template.replace("COMPREPLY+=($value)", 'COMPREPLY+=("$value")').replace(
        "read type value", "read -r type value"
    )

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """A word as it must be typed: behind an open quote as it is, else with a backslash where one is needed."""
        raw = os.environ.get("COMP_WORDS", "").rpartition("\n")[2]
        if item.type != "plain" or raw[:1] in ("'", '"'):
            return super().format_completion(item)
        return f"{item.type}," + _UNQUOTED.sub(r"\\\1", item.value)


class _Fish(FishComplete):
    """Click's, for words with commas in them."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(_Bash)
add_completion_class(ZshComplete)
add_completion_class(_Fish)
