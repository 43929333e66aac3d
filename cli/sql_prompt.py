"""The prompt of ``steno sql``: a statement ends with a semicolon, a line that begins with a dot is for the prompt.

What was typed is kept in the home, for its owner's eyes only, and comes back with the arrow keys. Ctrl-C drops
what was typed, or ends the statement that runs; an error ends neither the prompt nor what came before it
(tests/e2e/test_sql_prompt.py).
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from ..memoriesdb.functions import FUNCTIONS
from ..memoriesdb.sql import SqlConnection
from ..memoriesdb.statements import complete, statements
from ..memoriesdb.views import VIEWS
from ..storage.errors import StenoError
from .sql_output import Printer
from .terminal import note

_READY, _GOING_ON = "steno> ", "  ...> "
_KEPT_LINES = 1000
_HELP = """.schema [VIEW]  the columns of the views
.help           this
.quit           the end; so does Ctrl-D

A statement ends with a semicolon and may go over several lines. Ctrl-C drops it."""


class Prompt:
    """Asks for statements and runs them until there are no more."""

    def __init__(self, connection: SqlConnection, printer: Printer, *, history: Path) -> None:
        self._connection = connection
        self._printer = printer
        self._history = history

    def run(self) -> None:
        """Go on until Ctrl-D or ``.quit``."""
        with _remembering(self._history):
            note("SQL on your sessions; .help says more.")
            typed = ""
            while True:
                try:
                    line = input(_GOING_ON if typed else _READY)
                    if not typed and line.lstrip().startswith("."):
                        if not self._command(line.split()):
                            return
                        continue
                    typed += line + "\n"
                    if complete(typed):
                        whole, typed = typed, ""
                        self._run(whole)
                except KeyboardInterrupt:
                    typed = ""
                    note("")
                except EOFError:
                    note("")
                    return

    def _run(self, typed: str) -> None:
        """Run statements until one fails."""
        try:
            for each in statements(typed):
                self._printer.show(self._connection.run(each))
        except StenoError as exc:
            note(f"Error: {exc.line}")
        sys.stdout.flush()

    def _command(self, words: list[str]) -> bool:
        """Do what a line with a dot says; False for the end."""
        match words:
            case [".quit" | ".exit"]:
                return False
            case [".help"]:
                click.echo(_HELP)
                for each in FUNCTIONS:
                    click.echo(
                        f"{each.name}({each.arguments})\n    {each.purpose}{' (--write)' if each.writes else ''}"
                    )
            case [".schema", *names]:
                for view in VIEWS:
                    if not names or view.name in names:
                        columns = self._connection.run(f"SELECT * FROM {view.name} LIMIT 0").columns  # noqa: S608
                        click.echo(f"{view.name}({', '.join(columns)})\n    {view.purpose}")
            case _:
                note(f"Error: there is no {words[0]} that goes with this: see .help")
        return True


@contextmanager
def _remembering(path: Path) -> Generator[None]:
    """Lines that can be edited, and those of earlier times with them, where this Python can do that."""
    try:
        import readline  # noqa: PLC0415  some platforms have none
    except ImportError:
        yield
        return
    readline.set_auto_history(True)
    readline.set_history_length(_KEPT_LINES)
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with suppress(OSError):  # a home that is read-only, or none at all
            path.touch(mode=0o600)
            readline.write_history_file(path)
            path.chmod(0o600)
