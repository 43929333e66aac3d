"""Where a verb gets a passphrase from: a file, the environment, or a prompt, in this order; never from an argument."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..storage.errors import InvalidInput

passphrase_file_option = click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False), help="Read the passphrase from this file."
)


def secret_in(file: Path) -> str:
    """What stands in a file that a person names; raises `InvalidInput`, and quotes nothing of it."""
    try:
        return file.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except OSError as exc:
        raise InvalidInput(f"{file} cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is no text in UTF-8") from None


def passphrase_of(file: Path | None, *, confirm: bool, prompt: str = "Passphrase") -> str:
    """The passphrase from a file, the environment or a prompt; raises `InvalidInput` where there is none of them."""
    if file is not None:
        text = secret_in(file).rstrip("\r\n")
    elif "STENO_PASSPHRASE" in os.environ:
        text = os.environ["STENO_PASSPHRASE"]
    elif sys.stdin.isatty():
        text = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    else:
        raise InvalidInput(
            "a passphrase is needed and there is no terminal to ask on",
            hint="set STENO_PASSPHRASE or give --passphrase-file",
        )
    if not text:
        raise InvalidInput(
            "the passphrase is empty", hint="set STENO_PASSPHRASE to it, or give a --passphrase-file that holds it"
        )
    return text
