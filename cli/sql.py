"""``steno sql``."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from ..memoriesdb.sql import SqlConnection
from ..memoriesdb.statements import statements
from ..storage.errors import InvalidInput, LocalStorageError
from ..storage.home import Home
from ..storage.store import Store
from .options import examples
from .sql_output import FORMS, Printer
from .stores import opened, writing


@click.command(
    "sql",
    short_help="Ask and write with SQL.",
    epilog=examples(
        'steno sql "SELECT name, message_count FROM sessions ORDER BY updated_at DESC LIMIT 5"',
        """steno sql --write "SELECT create_session('Team Discussion', '{}')\"""",
        "steno sql --csv - < report.sql > report.csv",
        "steno sql",
    ),
)
@click.argument("statement", metavar="[SQL|-]", required=False)
@click.option("--db", metavar="FILE", type=click.Path(path_type=Path), help="Another store than that of this home.")
@click.option("--write", is_flag=True, help="Let functions write.")
@click.option("--format", "form", type=click.Choice(FORMS), default="text", show_default=True, help="How to print.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--csv", "as_csv", is_flag=True, help="The same as --format csv.")
def sql(*, statement: str | None, db: Path | None, write: bool, form: str, as_json: bool, as_csv: bool) -> None:
    """Run SQL on the sessions, read-only unless --write. Without SQL it asks for it, with - it reads standard input.

    Views: sessions, messages, session_messages, memories, memory_edges. Functions: create_session,
    add_message_to_session, fork_session, get_conversation_text and others; .help in the prompt lists them all.
    """
    printer = Printer("json" if as_json else "csv" if as_csv else form)
    asking = statement is None and sys.stdin.isatty() and sys.stdout.isatty()
    with _store(db, write=write) as store, closing(SqlConnection(store, writable=write)) as connection:
        if asking:
            from .sql_prompt import Prompt  # noqa: PLC0415  only where somebody sits

            Prompt(connection, printer, history=Home.from_environment().sql_history).run()
            return
        for each in statements(_script() if statement in (None, "-") else str(statement)):
            printer.show(connection.run(each))


@contextmanager
def _store(db: Path | None, *, write: bool) -> Generator[Store]:
    """The store whose functions are called; a file that is none is never made one."""
    home = Home.from_environment()
    if db is None:
        home.require()
    elif not db.is_file():
        raise LocalStorageError(f"{db} is no file", hint="name a store with --db")
    with opened(home.database if db is None else db) as store:
        if not write:
            yield store
            return
    if db is None:
        with writing() as store:
            yield store
    else:
        with Store(db) as store:
            yield store


def _script() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput("standard input is not UTF-8 text") from exc
