"""``steno export``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from ..storage.errors import InvalidInput, LocalStorageError
from ..storage.model import Message, SessionHeader
from ..storage.store import Store
from .options import examples
from .rendering import readable
from .stores import reading
from .terminal import escaped, note, safe

_Pieces = Iterable[bytes]
_EXTENSIONS = {"json": "json", "jsonl": "jsonl", "markdown": "md"}


@click.command(
    short_help="Write sessions to files.",
    epilog=examples(
        "steno export k3v9",
        "steno export k3v9 --format markdown -o session.md",
        "steno export --all -o backup.json",
        "steno export @last -o - | jq '.messages | length'",
    ),
)
@click.argument("sessions", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every session.")
@click.option("--output", "-o", metavar="FILE|-", help="Where to; - is standard output.  [default: session-<id>.<ext>]")
@click.option(
    "--format", "-f", "form", default="json", show_default=True, help="json and jsonl can be imported again.",
    type=click.Choice([*_EXTENSIONS, "md"], case_sensitive=False),
)  # fmt: skip
def export(*, sessions: tuple[str, ...], every: bool, output: str | None, form: str) -> None:
    """Write sessions to files. Without -o, each goes into a file of its own in this directory."""
    if every == bool(sessions):
        raise click.UsageError("name the sessions to export, or give --all")
    if every and output is None:
        raise click.UsageError("--all needs -o FILE, or -o - for standard output")
    form = "markdown" if form == "md" else form
    with reading() as store:
        ids = _all_ids(store) if every else list(dict.fromkeys(map(store.resolve, sessions)))
        headers = [store.get(each) for each in ids]
        if output is None:
            for header in headers:
                place = Path(f"session-{_file_name(header.id)}.{_EXTENSIONS[form]}")
                _write_file(place, _document(store, [header], form, several=False))
                note(f"Wrote {place} ({header.message_count} messages)")
            return
        document = _document(store, headers, form, several=every or len(ids) > 1)
        if output == "-":
            _print(document)
        else:
            _write_file(Path(output), document)
            note(f"Wrote {output} ({len(ids)} sessions)")


def _all_ids(store: Store) -> list[str]:
    """Every session that is not deleted, in the order in which they were made."""
    return [row[0] for row in store.execute("SELECT id FROM sessions WHERE hidden = 0 ORDER BY created_ms, id")]


def _document(store: Store, headers: list[SessionHeader], form: str, *, several: bool) -> _Pieces:
    """A whole file: of several sessions in JSON one array, else one after the other."""
    pieces = _writer(store, form)
    if form != "json":
        between = b"\n" if form == "markdown" else b""
        for number, header in enumerate(headers):
            yield between if number else b""
            yield from pieces(header, store.messages(header.id))
        return
    yield b"[" if several else b""
    for number, header in enumerate(headers):
        yield b",\n" if number else b""
        yield from map(escaped, pieces(header, store.messages(header.id)))
    yield b"]\n" if several else b"\n"


def _writer(store: Store, form: str) -> Callable[[SessionHeader, Iterable[Message]], _Pieces]:
    if form == "markdown":
        return _markdown
    if form == "json":
        from ..storage.transcripts.steno_json import written  # noqa: PLC0415  only this format needs it

        return written
    from ..sync.files.lines import Rev, header_of, line_of, render  # noqa: PLC0415  only this format needs it

    rev = Rev(store.store_name, store.last_seq)

    def lines(session: SessionHeader, messages: Iterable[Message]) -> _Pieces:
        # A message at a time would render the header each time; a session is what a file holds anyway.
        return (render(header_of(session, rev=rev), map(line_of, messages)),)

    return lines


def _markdown(session: SessionHeader, messages: Iterable[Message]) -> Iterator[bytes]:
    facts = [f"id: {session.id}", f"created: {session.created_at}"]
    facts += [f"{name}: {value}" for name, value in (("provider", session.provider), ("model", session.model)) if value]
    facts += [f"tags: {', '.join(session.tags)}"] if session.tags else []
    yield "\n".join([f"# {session.title or session.id}", "", *(f"- {fact}" for fact in facts), ""]).encode()
    for message in messages:
        speaker = f"{message.role} ({message.sender})" if message.sender else message.role
        yield f"\n## {speaker} · {message.timestamp}\n\n".encode()
        yield f"{readable(message.content)}\n".encode()


def _print(document: _Pieces) -> None:
    """Write to standard output; on a terminal nothing that would steer it."""
    shown = sys.stdout.isatty()
    for piece in document:
        click.echo(safe(piece.decode()) if shown else piece, nl=False)


def _write_file(path: Path, document: _Pieces) -> None:
    """Write a file whole or not at all; directories on the way are made."""
    path = path.expanduser()
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise InvalidInput(f"{path} is a directory", hint="name the file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(document)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as exc:
        raise LocalStorageError(
            f"{path} cannot be written ({exc.strerror})", hint="choose another place with -o"
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _file_name(session: str) -> str:
    from ..sync.files.names import id_in_name  # noqa: PLC0415  an id may be anything, a file name may not

    return id_in_name(session)
