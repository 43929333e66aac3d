"""Editors and programs that have a session's file open, real ones and imitations of how others save.

Each takes the same four words: change a text, add a message, remove one, save. An editor keeps what it
has opened and knows nothing of what was written since; a program that reads anew says so (`reads_anew`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from steno.sync.files.reading import look_at
from steno.tests.e2e.device import until
from steno.tests.e2e.terminal import Terminal


def program(name: str) -> str:
    """The path of a program; a test that needs it is skipped by name where it is missing, and fails in CI."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed"
        if os.environ.get("STENO_REQUIRE_SERVERS") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


# What tests edit lies below /tmp, where editors make no backups unless they are told.
_VIM = ("-c", "set backupskip=")
_EMACS = ("--eval", "(setq backup-enable-predicate #'identity)")


def line(content: str, **more: str) -> str:
    """A line as a person types it: no id, no time."""
    return json.dumps({"role": "user", "content": content, **more}, ensure_ascii=False, separators=(",", ":"))


def environment(home: Path) -> dict[str, str]:
    """What a program sees: no settings of whoever runs the tests."""
    own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"), str(home))
    return {**os.environ, **own, "LC_ALL": "C.UTF-8"}


class Editor:
    """Something that edits one session's file; ``home`` is a directory for its own things."""

    reads_anew: ClassVar[bool] = False
    leaves: ClassVar[tuple[str, ...]] = ()
    """The names, with ``{}`` for the file's, of what it leaves beside the file."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path, self.home = path, home

    def change(self, old: str, new: str) -> None:
        """Replace the content of a message."""
        raise NotImplementedError

    def add(self, content: str) -> None:
        """Add a message at the end."""
        raise NotImplementedError

    def remove(self, content: str) -> None:
        """Remove the line of a message."""
        raise NotImplementedError

    def save(self) -> None:
        """Save, whatever stands on the disk by now; return when the file is another one."""

    def close(self) -> None:
        """End without saving."""

    def kill(self) -> None:
        """End, whatever it is about."""


class Buffer(Editor):
    """An editor that is imitated: a text in memory, and how it is saved."""

    def __init__(self, path: Path, home: Path, *, write: Callable[[Path, bytes], None]) -> None:
        super().__init__(path, home)
        self._write = write
        self._text = path.read_text(encoding="utf-8")

    def change(self, old: str, new: str) -> None:
        assert quoted(old) in self._text
        self._text = self._text.replace(quoted(old), quoted(new))

    def add(self, content: str) -> None:
        self._text += line(content) + "\n"

    def remove(self, content: str) -> None:
        lines = self._text.splitlines(keepends=True)
        kept = [each for each in lines if quoted(content) not in each]
        assert len(kept) == len(lines) - 1
        self._text = "".join(kept)

    def save(self) -> None:
        self._write(self.path, self._text.encode())


def quoted(content: str) -> str:
    """A content as it stands in a line."""
    return f'"content":{json.dumps(content, ensure_ascii=False)}'


# How other editors save


def in_place(path: Path, data: bytes) -> None:
    """VS Code, and whatever opens, truncates and writes."""
    path.write_bytes(data)


def in_pieces(path: Path, data: bytes) -> None:
    """What writes with a small buffer."""
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(data), 40):
            file.write(data[at : at + 40])


def written_over(path: Path, data: bytes) -> None:
    """What writes over the old bytes and cuts the rest off afterwards."""
    with path.open("r+b", buffering=0) as file:
        file.write(data)
        file.truncate()


def renamed_over(pattern: str) -> Callable[[Path, bytes], None]:
    """A temporary file beside it, or below the directory, that is renamed over the file."""

    def write(path: Path, data: bytes) -> None:
        aside = path.parent / pattern.format(path.name)
        aside.parent.mkdir(exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
        if aside.parent != path.parent:
            aside.parent.rmdir()

    return write


def by_backup(path: Path, data: bytes) -> None:
    """The old file is renamed, a new one written, the old one removed."""
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    path.write_bytes(data)
    backup.unlink()


def by_jetbrains(path: Path, data: bytes) -> None:
    """IntelliJ's safe write."""
    new, old = (path.with_name(f"{path.name}___jb_{each}___") for each in ("tmp", "old"))
    new.write_bytes(data)
    path.rename(old)
    new.rename(path)
    old.unlink()


def by_syncthing(path: Path, data: bytes) -> None:
    """Syncthing: a temporary file with the time that the file had on the other machine."""
    aside = path.with_name(f".syncthing.{path.name}.tmp")
    aside.write_bytes(data)
    os.utime(aside, (1_700_000_000, 1_700_000_000))
    aside.replace(path)


def with_windows_line_ends(path: Path, data: bytes) -> None:
    path.write_bytes(data.replace(b"\n", b"\r\n"))


def with_byte_order_mark(path: Path, data: bytes) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + data)


def without_final_newline(path: Path, data: bytes) -> None:
    path.write_bytes(data.rstrip(b"\n"))


def with_blank_lines(path: Path, data: bytes) -> None:
    path.write_bytes(b"\n" + data.replace(b"\n", b"\n\n"))


def with_other_key_order(path: Path, data: bytes) -> None:
    """A program that reads JSON and writes it with its keys sorted."""
    lines = [json.dumps(json.loads(each), sort_keys=True) for each in data.splitlines()]
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")


def through(*command: str) -> Callable[[Path, bytes], None]:
    """A copy elsewhere, that a program puts over the file; ``{}`` stands for both in this order."""

    def write(path: Path, data: bytes) -> None:
        program(command[0])
        with tempfile.TemporaryDirectory() as elsewhere:
            copy = Path(elsewhere) / path.name
            copy.write_bytes(data)
            subprocess.run([*command, str(copy), str(path)], check=True)

    return write


# Programs that read the file, change it and write it


class Filter(Editor):
    """A program that does at once what it is told, on the file as it is."""

    reads_anew: ClassVar[bool] = True

    def run(self, *command: str, stdin: str = "") -> None:
        """Run a program on the file."""
        subprocess.run(
            [program(command[0]), *command[1:]],
            input=stdin, text=True, check=True, capture_output=True, env=environment(self.home),
        )  # fmt: skip


class Sed(Filter):
    def change(self, old: str, new: str) -> None:
        self.run("sed", "-i", f"s/{quoted(old)}/{quoted(new)}/", str(self.path))

    def add(self, content: str) -> None:
        self.run("sed", "-i", f"$a {line(content)}", str(self.path))

    def remove(self, content: str) -> None:
        self.run("sed", "-i", f"/{quoted(content)}/d", str(self.path))


class SedWithBackup(Sed):
    leaves: ClassVar[tuple[str, ...]] = ("{}.bak",)

    def run(self, *command: str, stdin: str = "") -> None:
        super().run(command[0], "-i.bak", *command[2:], stdin=stdin)


class Perl(Filter):
    def change(self, old: str, new: str) -> None:
        self.run("perl", "-i", "-pe", f"s/{quoted(old)}/{quoted(new)}/", str(self.path))

    def add(self, content: str) -> None:
        self.run("perl", "-i", "-pe", f"$_ .= q({line(content)}) . qq(\\n) if eof", str(self.path))

    def remove(self, content: str) -> None:
        self.run("perl", "-i", "-ne", f"print unless /{quoted(content)}/", str(self.path))


class Jq(Filter):
    """``jq … x > tmp && mv tmp x``; with ``-c`` one line for each value, without it many."""

    compact: ClassVar[bool] = True

    def change(self, old: str, new: str) -> None:
        self._filter(f'if .content == "{old}" then .content = "{new}" else . end')

    def add(self, content: str) -> None:
        self._filter(f"., (if .content == $last then {line(content)} else empty end)")

    def remove(self, content: str) -> None:
        self._filter(f'select(.content != "{content}")')

    def _filter(self, text: str) -> None:
        last = json.loads(self.path.read_bytes().splitlines()[-1])["content"]
        aside = self.path.with_name(f"{self.path.name}.tmp")
        command = [program("jq"), *(["-c"] if self.compact else []), "--arg", "last", last, text, str(self.path)]
        with aside.open("wb") as file:
            subprocess.run(command, check=True, stdout=file)
        aside.rename(self.path)


class JqPretty(Jq):
    compact: ClassVar[bool] = False


class VimScript(Filter):
    """``vim -es``: no terminal, the defaults of a person's vim."""

    def change(self, old: str, new: str) -> None:
        self._vim(f"%s/{quoted(old)}/{quoted(new)}/")

    def add(self, content: str) -> None:
        self._vim(f"call append('$', '{line(content)}')")

    def remove(self, content: str) -> None:
        self._vim(f"g/{quoted(content)}/d")

    def _vim(self, command: str) -> None:
        self.run("vim", "-es", "-N", "-u", "DEFAULTS", *_VIM, "-c", command, "-c", "wq", str(self.path))


class EmacsBatch(Filter):
    leaves: ClassVar[tuple[str, ...]] = ("{}~",)

    def change(self, old: str, new: str) -> None:
        self._emacs(
            f"(while (search-forward {json.dumps(quoted(old))} nil t) (replace-match {json.dumps(quoted(new))} t t))"
        )

    def add(self, content: str) -> None:
        self._emacs(f"(progn (goto-char (point-max)) (insert {json.dumps(line(content))} ?\\n))")

    def remove(self, content: str) -> None:
        self._emacs(f"(delete-matching-lines (regexp-quote {json.dumps(quoted(content))}))")

    def _emacs(self, form: str) -> None:
        self.run("emacs", "--batch", *_EMACS, str(self.path), "--eval", form, "--eval", "(save-buffer)")


# Editors that stay open


class Ed(Editor):
    """ed: the one editor that is driven through a pipe as through a terminal."""

    def __init__(self, path: Path, home: Path) -> None:
        super().__init__(path, home)
        self._ed = subprocess.Popen([program("ed"), "-s", str(self.path)], stdin=subprocess.PIPE, text=True)

    def change(self, old: str, new: str) -> None:
        self._say(f",s/{quoted(old)}/{quoted(new)}/")

    def add(self, content: str) -> None:
        self._say(f"$a\n{line(content)}\n.")

    def remove(self, content: str) -> None:
        self._say(f"g/{quoted(content)}/d")

    def save(self) -> None:
        with another_file(self.path):
            self._say("w")

    def close(self) -> None:
        self._ed.communicate("Q\n")

    def kill(self) -> None:
        self._ed.kill()
        self._ed.communicate()

    def _say(self, command: str) -> None:
        assert self._ed.stdin is not None
        self._ed.stdin.write(command + "\n")
        self._ed.stdin.flush()


class OnScreen(Editor):
    """An editor in a terminal."""

    command: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, home: Path) -> None:
        super().__init__(path, home)
        command = [program(self.command[0]), *self.command[1:], str(path)]
        self.terminal = Terminal(command, environment=environment(home), term="xterm")
        try:
            self.ready()
        except BaseException:
            self.terminal.close()
            raise

    def ready(self) -> None:
        """Wait until it has the file open."""
        raise NotImplementedError

    def close(self) -> None:
        self.quit()
        assert self.terminal.end() == 0

    def kill(self) -> None:
        self.terminal.close()

    def quit(self) -> None:
        """Type what ends it."""
        raise NotImplementedError


class Vim(OnScreen):
    command: ClassVar[tuple[str, ...]] = ("vim", *_VIM)

    def ready(self) -> None:
        self.terminal.wait("1,1")  # where the cursor stands
        self.terminal.wait("All")
        assert self.swap().exists()

    def swap(self) -> Path:
        """Its swap file, as long as it has the file open."""
        return self.path.with_name(f".{self.path.name}.swp")

    def change(self, old: str, new: str) -> None:
        self.terminal.type(f":%s/{quoted(old)}/{quoted(new)}/\r")

    def add(self, content: str) -> None:
        self.terminal.type(f"Go{line(content)}\x1c\x0e")  # an Escape that no other key begins with

    def remove(self, content: str) -> None:
        self.terminal.type(f":g/{quoted(content)}/d\r")

    def save(self) -> None:
        self.terminal.type(":w\r")
        answer = self.terminal.wait_for_one_of(" written", "(y/n)?", "E949: File changed while writing")
        if answer == "(y/n)?":  # it has changed since it was read
            self.terminal.type("y")
            answer = self.terminal.wait_for_one_of(" written", "E949: File changed while writing")
            self.terminal.wait("Press ENTER")
            self.terminal.type("\r")
        if answer != " written":  # it was replaced after vim had looked at it, and vim wrote nothing
            self.save()

    def quit(self) -> None:
        self.terminal.type(":q!\r")


def vim(*settings: str, leaves: tuple[str, ...] = ()) -> type[Vim]:
    """A vim that is set up like this."""
    command = (*Vim.command, *(each for setting in settings for each in ("-c", f"set {setting}")))
    return type("Vim", (Vim,), {"command": command, "leaves": leaves})


class Neovim(Vim):
    command: ClassVar[tuple[str, ...]] = ("nvim", *_VIM)

    def swap(self) -> Path:
        return next(self.home.rglob("*.swp"))


class Nano(OnScreen):
    command: ClassVar[tuple[str, ...]] = ("nano",)

    def ready(self) -> None:
        self.terminal.wait("^X Exit")  # the title gives way to a long path

    def change(self, old: str, new: str) -> None:
        self.terminal.type(f"\x1c{quoted(old)}\r{quoted(new)}\r")
        self.terminal.wait("this instance?")
        self.terminal.type("a")

    def add(self, content: str) -> None:
        self.terminal.type(f"\x1b/{line(content)}")

    def remove(self, content: str) -> None:
        self.terminal.type(f"\x17{quoted(content)}\r\x0b")

    def save(self) -> None:
        self.terminal.type("\x13")
        if self.terminal.wait_for_one_of("Wrote ", "continue saving?") == "continue saving?":
            self.terminal.type("y")
            self.terminal.wait("Wrote ")

    def quit(self) -> None:
        self.terminal.type("\x18")


class Emacs(OnScreen):
    command: ClassVar[tuple[str, ...]] = ("emacs", "-nw", "-q", *_EMACS)
    leaves: ClassVar[tuple[str, ...]] = ("{}~",)

    changed = False
    stale = False
    """The file was written since it was read."""

    def ready(self) -> None:
        self.terminal.wait("(Fundamental)")

    def change(self, old: str, new: str) -> None:
        self._find(old)
        self._press("\x7f")
        self.terminal.type("\x7f" * (len(quoted(old)) - 1) + quoted(new))

    def add(self, content: str) -> None:
        self.terminal.type("\x1b>")
        self._press("{")
        self.terminal.type(f"{line(content)[1:]}\r")

    def remove(self, content: str) -> None:
        self._find(content)
        self.terminal.type("\x01")
        self._press("\x0b")
        self.terminal.type("\x0b")

    def save(self) -> None:
        if not self.changed:  # it saves nothing that it has not changed
            self._press(" ")
            self.terminal.type("\x7f")
        self.terminal.type("\x18\x13")
        if self.stale:
            self.terminal.wait("Save anyway? (yes or no)")
            self.terminal.type("yes\r")
        self.terminal.wait(f"Wrote {self.path}")
        self.changed, self.stale = False, True

    def quit(self) -> None:
        self.terminal.type("\x18\x03")

    def _find(self, content: str) -> None:
        self.terminal.type(f"\x1b<\x13{quoted(content)}\r")

    def _press(self, key: str) -> None:
        """The first key of a change: it asks about a file that was written since it was read."""
        self.terminal.type(key)
        if self.stale and not self.changed:
            self.terminal.wait("really edit the buffer?")
            self.terminal.type("y")
        self.changed = True


@contextmanager
def another_file(path: Path) -> Generator[None]:
    """Wait until a file is another one than before."""
    before = look_at(path)
    yield
    until(lambda: look_at(path) != before, f"{path} is saved")
