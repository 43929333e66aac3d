"""The reference of the command line, written from the commands themselves: docs/cli.md and the man page.

``python -P -m steno.cli.manual docs`` writes both (`make docs`); tests/unit/test_cli_manual.py fails where they are not
what the commands say, or where a verb or an option says nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from .. import __version__
from .main import steno
from .verbs import ALIASES, SECTIONS

PAGE, MAN = "cli.md", "steno.1"

_NAMING = (
    "A session may be named by its id, by the beginning of it as long as no other begins so, by its exact title, or as "
    "`-` or `@last`, the one that was last written to."
)
_OUTPUT = (
    "What is asked for goes to standard output, everything else to standard error: notes, questions, progress, and "
    "each error as one line that says what happened and what to do. `--format json`, or `--json`, prints for programs. "
    "On a terminal tables fit its width, times are told as people tell them, and what is longer than the screen goes "
    "through the pager; in a pipe nothing is cut, coloured or asked."
)
_CODES = (
    (0, "done"),
    (1, "failed"),
    (2, "wrong usage"),
    (3, "not found, or more than one found"),
    (4, "invalid input"),
    (5, "refused because of other content"),
    (6, "the remote cannot be reached, or refused"),
    (7, "wrong key"),
    (8, "incomplete: something is pending, quarantined or refused"),
    (130, "interrupted by Ctrl-C"),
    (141, "the reader of the output has gone"),
)
_VARIABLES = (
    ("STENO_HOME", "The directory of everything; without it the usual directories of the platform."),
    ("STENO_PASSPHRASE", "The passphrase of the vault, where nobody can be asked."),
    ("STENO_DEBUG", "`1` shows where an unexpected error happened."),
    ("PAGER", "The program for what is longer than the screen; `cat` for none. Without it `less`."),
    ("VISUAL, EDITOR", "The program that edits."),
    ("NO_COLOR", "Where it is set nothing is coloured."),
)


class Entry(NamedTuple):
    """A verb as it is documented."""

    path: str
    usage: str
    text: list[str]
    options: list[tuple[str, str]]
    epilog: list[str]
    aliases: list[str]


def main(folder: Path) -> None:
    """Write both."""
    (folder / PAGE).write_text(markdown(), encoding="utf-8")
    (folder / MAN).write_text(man(), encoding="utf-8")


def entries(name: str) -> Iterator[Entry]:
    """A verb, and the verbs below it."""
    root = click.Context(steno, info_name="steno")
    command = steno.get_command(root, name)
    assert command is not None
    yield from _entries(command, root, name)


def markdown() -> str:
    """The page of docs."""
    parts = [
        "# The command line",
        "Written by `make docs` from what `steno --help` and `steno VERB --help` say.",
        _NAMING,
        _OUTPUT,
        "`steno completion` lets bash, zsh and fish complete verbs, options, and the ids and titles of sessions.",
        "\n".join(["| exit code | means |", "|---|---|", *(f"| {code} | {what} |" for code, what in _CODES)]),
        "\n".join(["| variable | says |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in _VARIABLES)]),
    ]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}")
        for name in section:
            for entry in entries(name):
                parts += _markdown_of(entry)
    return "\n\n".join(parts) + "\n"


def man() -> str:
    """The man page, in the macros of man."""
    lines = [
        f'.TH STENO 1 "" "steno {__version__}" "User Commands"',
        ".SH NAME",
        r"steno \- keep your AI and chat sessions",
        ".SH SYNOPSIS",
        r".B steno",
        r"[\fIVERB\fR] [\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        *_paragraphs([_said(steno.help)[0], _NAMING, _OUTPUT]),
    ]
    for title, section in SECTIONS.items():
        lines.append(f".SH {_roff(title.upper())}")
        for name in section:
            for entry in entries(name):
                lines += _man_of(entry)
    lines.append(".SH EXIT STATUS")
    for code, what in _CODES:
        lines += [".TP", f".B {code}", _roff(what)]
    lines.append(".SH ENVIRONMENT")
    for variable, what in _VARIABLES:
        lines += [".TP", f".B {_roff(variable)}", _roff(what)]
    return "\n".join(lines) + "\n"


def _entries(command: click.Command, above: click.Context, name: str) -> Iterator[Entry]:
    ctx = click.Context(command, info_name=name, parent=above, max_content_width=100_000, terminal_width=100_000)
    path = ctx.command_path
    shown = [each for each in command.get_params(ctx) if "--help" not in each.opts]
    records = [record for each in shown if (record := each.get_help_record(ctx)) is not None and record[1]]
    yield Entry(
        path=path,
        usage=" ".join([path, *command.collect_usage_pieces(ctx)]),
        text=_said(command.help),
        options=[(name, " ".join(what.split())) for name, what in records],
        epilog=_said(command.epilog),
        aliases=[f"steno {alias}" for alias, meant in ALIASES.items() if f"steno {meant}" == path],
    )
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            assert found is not None
            yield from _entries(found, ctx, below)


def _said(text: str | None) -> list[str]:
    """The paragraphs of a help text; one that is kept as it is begins with a backspace."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", (text or "").strip()):
        lines = [line.strip() if not paragraph.startswith("\b") else line for line in paragraph.split("\n")]
        found.append("\n".join(lines) if paragraph.startswith("\b") else " ".join(lines))
    return [each for each in found if each]


def _markdown_of(entry: Entry) -> Iterator[str]:
    yield f"### {entry.path}"
    yield f"```text\n{entry.usage}\n```"
    for paragraph in entry.text:
        kept = _kept(paragraph)
        yield f"```text\n{kept}\n```" if kept else _marked(paragraph)
    if entry.aliases:
        yield f"The same: {', '.join(f'`{each}`' for each in entry.aliases)}."
    if entry.options:
        yield "\n".join(f"- `{name}`: {_marked(what)}" for name, what in entry.options)
    for paragraph in entry.epilog:
        kept = _kept(paragraph)
        yield f"```sh\n{_without_heading(kept)}\n```" if kept else _marked(paragraph)


def _man_of(entry: Entry) -> Iterator[str]:
    yield f".SS {_roff(entry.path)}"
    yield from (".PP", f".B {_roff(entry.usage)}")
    yield from _paragraphs(entry.text)
    if entry.aliases:
        yield from _paragraphs([f"The same: {', '.join(entry.aliases)}."])
    for name, what in entry.options:
        yield from (".TP", f".B {_roff(name)}", _roff(what))
    yield from _paragraphs(entry.epilog)


def _paragraphs(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        kept = _kept(paragraph)
        yield ".PP"
        if kept:
            yield from (".nf", *map(_roff, kept.split("\n")), ".fi")
        else:
            yield _roff(paragraph)


def _kept(paragraph: str) -> str:
    """The lines of a paragraph that is kept as it is; nothing for one that is not."""
    return paragraph.removeprefix("\b").strip("\n") if paragraph.startswith("\b") else ""


def _without_heading(kept: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in kept.split("\n") if line != "Examples:")


def _marked(text: str) -> str:
    """Text in which nothing but what stands in backquotes is Markdown's."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([*_<\\|])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def _roff(text: str) -> str:
    """Text in which nothing steers roff."""
    safe = text.replace("`", "").replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{safe}" if safe.startswith((".", "'")) else safe


if __name__ == "__main__":
    main(Path(sys.argv[1]))
