"""The prompt of ``steno chat``: what a person types becomes messages, of one line or several.

Ctrl-C stops an answer, or drops what is being typed; the second one in a row ends the chat
(tests/unit/test_cli_chat.py, tests/e2e/test_chat.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from ..storage.errors import StenoError
from .terminal import note

READY, GOING_ON = "you> ", "...> "
HELP = 'Ctrl-C stops an answer, Ctrl-D or exit ends. A line that ends with \\ goes on; so does all between two """.'
_BLOCK = '"""'
_ENDS = ("exit", "quit", "/exit", "/quit")


def converse(say: Callable[[str], None], line: Callable[[str], str]) -> None:
    """Say each message that is typed, until ``line`` raises `EOFError`, a word ends it, or two Ctrl-C do.

    An answer that fails or is stopped ends nothing.
    """
    interrupted = False
    while True:
        saying = False
        try:
            text = message(line)
            if text.strip().casefold() in _ENDS:
                return
            interrupted, saying = False, bool(text.strip())
            if saying:
                say(text)
        except KeyboardInterrupt:
            note("")
            if interrupted:
                return
            interrupted = True
            note(f"{'Stopped; what was said is kept. ' * saying}Ctrl-C once more ends.")
        except EOFError:
            note("")
            return
        except StenoError as exc:
            note(f"Error: {exc.line}")


def message(line: Callable[[str], str]) -> str:
    """One message: a line with those that it goes on in, or all between two lines of three quotation marks."""
    lines = [line(READY)]
    if lines[0].strip() == _BLOCK:
        while lines[-1].strip() != _BLOCK or len(lines) == 1:
            lines.append(line(GOING_ON))
        return "\n".join(lines[1:-1])
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(line(GOING_ON))
    return "\n".join(lines)


def line_of_terminal(prompt: str) -> str:
    """One line that a person types."""
    if sys.stdout.isatty():
        return input(prompt)
    click.echo(prompt, nl=False, err=True)  # the answers go to a file
    return input()


def edited_lines() -> None:
    """Let the arrow keys edit, where this Python can. What was typed stands in the session, and nowhere else."""
    try:
        import readline  # noqa: PLC0415  some platforms have none
    except ImportError:
        return
    readline.set_auto_history(True)
