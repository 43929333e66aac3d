"""``steno export``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..storage.errors import InvalidInput, LocalStorageError
from ..storage.home import Home
from ..storage.listing import Filter
from ..storage.model import Message, SessionHeader
from ..storage.store import Store
from .export_forms import ALIASES, FORMS, NAMES, Document, document
from .options import examples, filter_options
from .progress import Progress
from .stores import reading
from .terminal import note, safe

_Pieces = Iterable[bytes]
_TOLD_EVERY = 500


class _Form(click.ParamType[str]):
    """A format by its name, an alias of it, or the end of a file's name."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002  click's
        """Give the format's own name."""
        found = ALIASES.get(str(value).lower(), str(value).lower())
        if found not in FORMS:
            raise click.UsageError(f"invalid format: {value} (supported: {', '.join(FORMS)})", ctx)
        return found


@click.command(
    short_help="Write sessions to files.",
    epilog=examples(
        "steno export k3v9",
        "steno export k3v9 --format markdown -o session.md",
        "steno export --all -o backup.json",
        'steno export --since 2026-01-01 --tag go -o "$HOME/exports/"',
        "steno export k3v9 --template page.html.j2 -o page.html",
        "steno export @last -o - | jq '.messages | length'",
    ),
)
@click.argument("sessions", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every session.")
@click.option(
    "--output", "-o", "--file", "-f", "outputs", metavar="FILE|DIR/|-", multiple=True,
    help="Where to; - is standard output, a directory takes a file for each.  [default: session-<id>.<ext>]",
)  # fmt: skip
@click.option(
    "--format", "form", type=_Form(), metavar="FORMAT",
    help=f"{', '.join(FORMS)}. json and jsonl can be imported again.  [default: as the file is named, else json]",
)  # fmt: skip
@click.option("--template", metavar="FILE", help="Write by a Jinja2 template of yours instead.")
@filter_options
def export(
    *, sessions: tuple[str, ...], every: bool, outputs: tuple[str, ...], form: str | None, template: str | None,
    chosen: Filter,
) -> None:  # fmt: skip
    """Write sessions to files: those that you name, all of them, or those that the filters choose.

    Without -o, each goes into a file of its own in this directory; with -o FILE, all go into that one. What was written
    is summed up on standard error.
    """
    filtered = chosen != Filter()
    if sessions and (every or filtered):
        raise click.UsageError("name the sessions to export, or choose them by --all and filters, not both")
    if not (sessions or every or filtered):
        raise click.UsageError("name the sessions to export, or give --all or a filter")
    if len(outputs) > 1:
        raise click.UsageError("give one place: -o and -f are the same")
    if form is not None and template is not None:
        raise click.UsageError("--format and --template exclude each other")
    output = outputs[0] if outputs else None
    named = Path(output).suffix[1:].lower() if output else ""
    form = form or NAMES.get(named, "json")
    with reading() as store:
        headers = _chosen(store, sessions, chosen)
        make = _template(template) if template is not None else _document(store, form)
        extension = _extension(template) if template is not None else FORMS[form]
        several = not sessions or len(headers) > 1
        written = _Writer(store, make, "template" if template is not None else form)
        if output == "-":
            _print(written.pieces(headers, several=several))
        elif output is not None and not _is_directory(output):
            written.file(Path(output), headers, several=several)
        else:
            for header in headers:
                name = f"session-{_file_name(header.id)}.{extension}"
                written.file(Path(output or "", name), [header], several=False)
            if not headers:
                note("No sessions found.")


class _Counted:
    """The messages of an export, counted on their way with their tokens."""

    def __init__(self) -> None:
        self.messages = 0
        self.tokens: int | None = None
        self.progress = Progress()

    def __call__(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Pass the messages on."""
        for message in messages:
            self.messages += 1
            if not self.messages % _TOLD_EVERY:
                self.progress.say(f"exported {self.messages:,} messages")
            if message.usage:
                self.tokens = (self.tokens or 0) + message.token_usage["total"]
            yield message


class _Writer(NamedTuple):
    """Writes documents and tells what was written."""

    store: Store
    make: Document
    form: str

    def pieces(self, headers: Sequence[SessionHeader], *, several: bool, counted: _Counted | None = None) -> _Pieces:
        """A document of sessions, each with its messages."""
        count = counted or _Counted()
        return self.make(((each, count(self.store.messages(each.id))) for each in headers), several)

    def file(self, path: Path, headers: Sequence[SessionHeader], *, several: bool) -> None:
        """Write a file and sum it up."""
        counted = _Counted()
        size_bytes = write_file(path, self.pieces(headers, several=several, counted=counted))
        counted.progress.end()
        tokens = "n/a" if counted.tokens is None else f"{counted.tokens:,}"
        note(f"File: {path}")
        note(f"Size: {_size(size_bytes)}")
        note(f"Format: {self.form}")
        note(f"Messages: {counted.messages:,}")
        note(f"Total Tokens: {tokens}")


def _chosen(store: Store, sessions: tuple[str, ...], chosen: Filter) -> list[SessionHeader]:
    """The sessions that are named, in that order; else those that are chosen, in the order in which they were made."""
    if sessions:
        return [store.get(each) for each in dict.fromkeys(map(store.resolve, sessions))]
    return list(store.sessions(where=chosen.conditions(), order="created_ms", descending=False))


def _document(store: Store, form: str) -> Document:
    if form == "html":
        from .export_html import page  # noqa: PLC0415  only this format needs it

        return page
    return document(store, form)


def _template(name: str) -> Document:
    from .export_template import by_template  # noqa: PLC0415  Jinja2 is for those alone who ask for it

    return by_template(Path(name))


def _extension(template: str) -> str:
    """How a template's output is named: `page.html.j2` makes .html; .txt where its name says nothing."""
    path = Path(template)
    inner = path.with_suffix("") if path.suffix in (".j2", ".jinja", ".jinja2", ".tmpl", ".template") else path
    return inner.suffix[1:] or "txt"


def _is_directory(output: str) -> bool:
    return output.endswith(("/", os.sep)) or Path(output).expanduser().is_dir()


def _print(document: _Pieces) -> None:
    """Write to standard output; on a terminal nothing that would steer it."""
    shown = sys.stdout.isatty()
    for piece in document:
        click.echo(safe(piece.decode()) if shown else piece, nl=False)


def write_file(path: Path, document: _Pieces) -> int:
    """Write a file whole or not at all, and return its size; directories on the way are made.

    A link stays one, and into a device or a pipe it is written as it comes.
    """
    path = Path(os.path.realpath(special := path.expanduser()))
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise LocalStorageError(f"{path} is a directory", hint="name the file to write")
        if special.exists() and not special.is_file():
            with special.open("wb") as file:
                return sum(map(file.write, document))
        if path in _own_files():
            raise InvalidInput(f"{path} is a file of Steno's own", hint="choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
            file.writelines(document)
            file.flush()
            os.fsync(descriptor)
            size_bytes = file.tell()
        temporary.replace(path)
    except OSError as exc:
        raise LocalStorageError(
            f"{path} cannot be written ({exc.strerror})", hint="choose another place with -o"
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return size_bytes


def _own_files() -> set[Path]:
    """The files of this home that nothing may take the place of."""
    home = Home.from_environment()
    database = [home.database.with_name(home.database.name + end) for end in ("", "-wal", "-shm")]
    return {each.resolve() for each in (*database, home.config_file, home.vault_file)}


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e3:,.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1e6:,.1f} MB"


def _file_name(session: str) -> str:
    from ..sync.files.names import id_in_name  # noqa: PLC0415  an id may be anything, a file name may not

    return id_in_name(session)
