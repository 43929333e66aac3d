"""The console entry: runs a verb and turns whatever goes wrong into one line and an exit code.

stdout is data, stderr is talk. Each error is one line that says what happened and what to do;
no traceback is ever shown unless ``STENO_DEBUG=1`` asks for it (tests/unit/test_cli_main.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..storage.errors import StenoError
from .options import examples
from .terminal import note
from .verbs import Verbs

EXIT_FAILED, EXIT_USAGE, EXIT_INVALID, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 1, 2, 4, 130, 141


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""A session may be named by its id, the beginning of it, its exact title, or @last for the most recent.

{examples("steno up", "steno list", 'steno search "words"', "steno show @last")}""",
)
@click.version_option(__version__, prog_name="steno")
@click.pass_context
def steno(ctx: click.Context) -> None:
    """Keep your AI and chat sessions: in files you can edit, searchable, the same on every machine."""
    if ctx.invoked_subcommand is None:
        from .glance import glance  # noqa: PLC0415  no verb needs it

        glance()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code."""
    _open_what_is_closed()
    try:
        for stream in (sys.stdout, sys.stderr):
            _never_fail_to_encode(stream)
        if asked := os.environ.get("_STENO_COMPLETE"):
            from .completing import complete  # noqa: PLC0415  asked for by a shell, not by a person

            return complete(steno, asked)
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough.
        _discard_output()
        return EXIT_PIPE_CLOSED
    except BaseException as exc:  # the last place where anything can be told
        if isinstance(exc, SystemExit):
            raise
        if os.environ.get("STENO_DEBUG", "") not in ("", "0"):
            import traceback  # noqa: PLC0415  only where it was asked for

            traceback.print_exc()
        line, code = told(exc)
        note(line)
        _flush_or_discard()
    return code


def told(exc: BaseException) -> tuple[str, int]:  # noqa: PLR0911  one line for each kind
    """The line that a person is told, and the exit code."""
    if isinstance(exc, StenoError):
        return f"Error: {exc.line}", exc.exit_code
    if isinstance(exc, click.UsageError):
        where = f": see `{exc.ctx.command_path} --help`" if exc.ctx else ""
        return f"Error: {_one_line(exc.format_message()).rstrip('.')}{where}", EXIT_USAGE
    if isinstance(exc, click.ClickException):
        return f"Error: {_one_line(exc.format_message())}", exc.exit_code
    if isinstance(exc, KeyboardInterrupt):
        return "Interrupted.", EXIT_INTERRUPTED
    if isinstance(exc, click.Abort | EOFError):
        return "Error: no answer was given: run it again in a terminal, or see its --help", EXIT_FAILED
    if isinstance(exc, UnicodeEncodeError):
        return "Error: an argument is not UTF-8 text", EXIT_INVALID
    if isinstance(exc, OSError) and exc.strerror:
        place = f"{exc.filename}: " if exc.filename else ""
        return f"Error: {place}{exc.strerror}", EXIT_FAILED
    if _of_sqlite(exc):
        return f"Error: the database refused ({_one_line(str(exc))}): run it again, or see `steno status`", EXIT_FAILED
    said = _one_line(f"{type(exc).__name__}: {exc}")
    return f"Error: something unexpected happened ({said}): STENO_DEBUG=1 shows where", EXIT_FAILED


def _run(arguments: list[str]) -> int:
    # Not click's own main(): it prints errors over several lines and ends the process itself.
    try:
        with steno.make_context("steno", arguments) as ctx:
            steno.invoke(ctx)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return EXIT_USAGE
    return 0


def _of_sqlite(exc: BaseException) -> bool:
    """Say whether the one SQLite library of this process raised it; asked only once it was imported."""
    module = sys.modules.get(f"{StenoError.__module__.rpartition('.')[0]}.sqlite")
    return module is not None and isinstance(exc, module.dbapi.Error)


def _open_what_is_closed() -> None:
    """Let a stream that whoever started this has closed lead nowhere, so that no opened file is taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  open to the end


def _never_fail_to_encode(stream: object) -> None:
    """Let a terminal that cannot show a character show its number."""
    if getattr(stream, "encoding", "utf-8").lower() != "utf-8":
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def _flush_or_discard() -> None:
    """Send what was printed; what cannot be sent must not be tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
