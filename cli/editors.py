"""Which editor opens a file, and how it is told to open it at a place (tests/unit/test_cli_editors.py)."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..storage.errors import InvalidInput

_FALLBACKS = ("nano", "vim", "vi")
_AT = {
    "+{line}": ("vi", "vim", "nvim", "view", "gvim", "nvi", "vile", "joe", "jed", "mg", "zile"),
    "+{line}:{column}": ("emacs", "emacsclient", "micro", "kak"),
    "+{line},{column}": ("nano", "pico", "ne"),
}
_BEHIND_NAME = ("hx", "helix", "subl", "zed", "zeditor")
_GOTO = ("code", "code-insiders", "code-oss", "codium", "vscodium", "cursor", "windsurf")
_WAITS_IF_ASKED = {**dict.fromkeys((*_GOTO, "subl", "zed", "zeditor"), "--wait"), "gvim": "-f"}


class Spot(NamedTuple):
    """A place in a file, both counted from 1."""

    line: int
    column: int


class Editor(NamedTuple):
    """The command of an editor, which may have arguments of its own."""

    words: list[str]

    @property
    def name(self) -> str:
        """The name of the program."""
        return Path(self.words[0]).name.lower().removesuffix(".exe").removesuffix(".cmd")

    @property
    def patience(self) -> str | None:
        """The argument without which this editor returns at once; None where it waits, or has that argument."""
        wanted = _WAITS_IF_ASKED.get(self.name)
        return None if wanted is None or {wanted, wanted[1:3]} & set(self.words[1:]) else wanted

    def command(self, path: str, at: Spot | None = None) -> list[str]:
        """What to run to edit a file, at a place if this editor is known to take one."""
        if at is None:
            return [*self.words, path]
        place = f"{path}:{at.line}:{at.column}"
        if self.name in _GOTO:
            return [*self.words, "--goto", place]
        if self.name in _BEHIND_NAME:
            return [*self.words, place]
        form = next((form for form, names in _AT.items() if self.name in names), None)
        return [*self.words, *([form.format(line=at.line, column=at.column)] if form else []), path]

    def run(self, path: str, at: Spot | None = None) -> int:
        """Edit a file and wait; the exit code of the editor."""
        with _ctrl_c_is_the_editors():
            return subprocess.run(self.command(path, at), check=False).returncode


def editor(environment: Mapping[str, str] = os.environ) -> Editor:
    """The editor that ``VISUAL`` names, else ``EDITOR``, else the first that is found; raises `InvalidInput`."""
    for name in ("VISUAL", "EDITOR"):
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            words = shlex.split(text)
        except ValueError as exc:
            raise InvalidInput(f"{name} is no command ({exc}): {text}", hint="mend its quotes") from exc
        if shutil.which(words[0], path=environment.get("PATH")) is None:
            raise InvalidInput(f"{name} names no program that is found: {words[0]}", hint=f"set {name} to another")
        return Editor(words)
    found = next((each for each in _FALLBACKS if shutil.which(each, path=environment.get("PATH"))), None)
    if found is None:
        raise InvalidInput("no editor is found", hint="set EDITOR to the command of yours")
    return Editor([found])


@contextmanager
def _ctrl_c_is_the_editors() -> Generator[None]:
    """Let Ctrl-C reach the editor alone. A handler, unlike an ignored signal, is not handed down to it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
