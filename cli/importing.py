"""``steno import``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from ..storage.errors import InvalidInput
from ..storage.importing import Imported, take_in
from ..storage.restoring import How, SessionDiffers, bring_back, renamed
from ..storage.steps import step
from ..storage.store import Store
from ..storage.transcripts import Reading, Transcript, stream_transcripts
from ..storage.transcripts.faults import Faulty
from ..storage.transcripts.steno_json import Exported
from .import_summary import Fault, Refused, Summary, tell
from .options import examples, format_option
from .progress import Progress
from .stores import writing

SUFFIXES = (".jsonl", ".json", ".jsonl.zst")
# What Claude Code keeps beside its transcripts; named on the command line they are read like any other.
NOTES_OF_TOOLS = (".meta.json", "sessions-index.json")
OURS = "steno"
BATCH_MESSAGES = 20_000
"""After so many messages of another program's file what came in is kept, and other writers have their turn."""

_STDIN = "standard input"
_BAR = 20


class _Wanted(NamedTuple):
    """What is to become of the sessions."""

    how: How
    new_id: bool
    title: str | None


class _Undone(Exception):
    """A dry run is over."""


@click.command(
    "import",
    short_help="Import sessions of other tools, or exported ones.",
    epilog=examples(
        "steno import ~/.claude/projects",
        "steno import session.json backup.json",
        'steno import -i session.json --new-id --title "Another try"',
        "steno import --dir ~/session-backups/ --dry-run",
        "steno import ~/Downloads/chatgpt-export.zip",
        "curl -s https://example.com/chats.jsonl | steno import -",
    ),
)
@click.argument("paths", metavar="[PATH|-]...", nargs=-1, type=click.Path(exists=True, allow_dash=True, readable=False))
@click.option(
    "-i", "--input", "inputs", metavar="FILE|-", multiple=True, help="A file to import, as if it were named alone.",
    type=click.Path(exists=True, allow_dash=True, readable=False),
)  # fmt: skip
@click.option(
    "--dir", "folders", metavar="DIR", multiple=True, help="Import every *.json right in a directory, by name.",
    type=click.Path(exists=True, file_okay=False, readable=False),
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would come in, and keep nothing of it.")
@click.option("--new-id", is_flag=True, help="Make new sessions, even of what is here already.")
@click.option("--title", metavar="TITLE", help="Another title, for a file with one session.")
@click.option("--merge", is_flag=True, help="Add to a session that is here and differs; what you wrote stays.")
@click.option("--replace", is_flag=True, help="Make a session that is here what the file says.")
@format_option
def import_sessions(
    *, paths: tuple[str, ...], inputs: tuple[str, ...], folders: tuple[str, ...], dry_run: bool, new_id: bool,
    title: str | None, merge: bool, replace: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import sessions from files and directories; the format is told by what is in them.

    Known are Claude Code and Codex transcripts, the exports of ChatGPT and claude.ai as they are sent to you (ZIP or
    JSON), OpenAI and ShareGPT JSONL, AINative Code's JSON, and what `steno export` wrote. Importing twice changes
    nothing. A directory is searched for *.jsonl, *.json and *.jsonl.zst.

    A file of Steno's or AINative Code's own is taken whole or not at all: it is looked through first, and every fault
    is named with its line and column. A session that is here already and differs is refused unless you say --merge,
    --replace or --new-id.
    """
    if not (paths or inputs or folders):
        raise click.UsageError("name the files to import")
    if merge + replace + new_id > 1:
        raise click.UsageError("--merge, --replace and --new-id exclude each other")
    if title is not None and not title.strip():
        raise click.UsageError("the title is blank")
    wanted = _Wanted("merge" if merge else "replace" if replace else "refuse", new_id, title)
    summary = Summary(dry_run=dry_run, by_file=[] if folders else None)
    progress = Progress()
    with writing() as store:
        for name, source in _sources([*paths, *inputs], folders):
            try:
                with _opened(source, name) as stream:
                    _take_file(store, _File(name, stream, _began_ms(source, store), progress), summary, wanted)
            except InvalidInput as exc:
                summary.refused.append(Refused(name, _reason(exc, name), faults=_faults(name, exc)))
            except SessionDiffers as exc:
                summary.refused.append(Refused(name, exc.line, differs=True))
    progress.end()
    tell(summary, as_json=as_json, single=len(summary.refused) == 1 and not summary.files)


class _File(NamedTuple):
    """A file that is being taken in."""

    name: str
    stream: BinaryIO
    began_ms: int
    progress: Progress

    def read(self) -> tuple[Reading, Iterator[Transcript]]:
        """Begin to read it, from its start."""
        self.stream.seek(0)
        reading = Reading(default_ms=self.began_ms)
        return reading, self._watched(stream_transcripts(self.stream, reading, name=self.name))

    def _watched(self, transcripts: Iterator[Transcript]) -> Iterator[Transcript]:
        size = os.fstat(self.stream.fileno()).st_size or 1
        for number, transcript in enumerate(transcripts, start=1):
            part = min(self.stream.tell() / size, 1.0)
            bar = "#" * round(part * _BAR)
            self.progress.say(f"{Path(self.name).name} [{bar:<{_BAR}}] {part:4.0%}, {number:,} sessions")
            yield transcript


def _take_file(store: Store, file: _File, summary: Summary, wanted: _Wanted) -> None:
    """Take in one file: of other programs each session as it comes, ours all or nothing.

    Ours are looked through to their end also behind a fault, which is raised there and undoes what was written.
    """
    reading, transcripts = file.read()
    first = next(transcripts, None)
    found = chain([] if first is None else [first], transcripts)
    if wanted.title is not None:
        count = sum(1 for _ in found)
        if count != 1:
            raise InvalidInput(f"--title is for a file with one session, {file.name} has {count}")
        reading, found = file.read()
    part = Summary()
    named: dict[str, str] = {}
    done = False
    try:
        while not done:
            with store.transaction():
                done = _take_batch(store, found, part, reading, wanted, named)
                if summary.dry_run and done:
                    raise _Undone
            step("import.file")
    except _Undone:
        pass
    part.faults = [Fault(file.name, fault.line, fault.reason, fault.column) for fault in [*reading.faults]]
    part.left_out = reading.left_out
    summary.add(part, file.name)


def _take_batch(
    store: Store, found: Iterator[Transcript], part: Summary, reading: Reading, wanted: _Wanted, named: dict[str, str]
) -> bool:
    """Take in sessions until enough of them are there; say whether those were the last."""
    messages = 0
    for transcript in found:
        try:
            done = _take_in(store, transcript, wanted, named)
        except InvalidInput as exc:
            if reading.format not in ("chatgpt", "claude-ai"):
                raise
            reading.fault((reading.place or (1, 1))[0], f"session {transcript.id}: {exc}")
            continue
        row = None if done.created else store.find(done.session)
        part.count(done, deleted=row is not None and bool(row.hidden))
        messages += done.added
        if messages >= BATCH_MESSAGES and reading.format != OURS:
            return False
    return True


def _take_in(store: Store, transcript: Transcript, wanted: _Wanted, named: dict[str, str]) -> Imported:
    if wanted.new_id:
        transcript = renamed(store, transcript, store.random(12), named=named)
    elif wanted.how == "replace" and named.setdefault(transcript.id, transcript.id) is not transcript.id:
        raise InvalidInput(f"session {transcript.id} stands twice in the file", hint="use --merge or --new-id")
    if wanted.title is not None:
        transcript = transcript.titled(wanted.title)
    return (
        bring_back(store, transcript, how=wanted.how)
        if isinstance(transcript, Exported)
        else take_in(store, transcript)
    )


def _faults(name: str, exc: InvalidInput) -> list[Fault]:
    found = exc.faults if isinstance(exc, Faulty) else []
    return [Fault(name, fault.line, fault.reason, fault.column) for fault in found]


def _sources(paths: list[str], folders: tuple[str, ...]) -> Iterator[tuple[str, Path | None]]:
    """What to read: files as they are named, those of directories by their suffix, in order; None is what is piped."""
    for path in paths:
        if path == "-":
            yield _STDIN, None
        elif Path(path).is_dir():
            yield from ((str(each), each) for each in _files_below(Path(path)))
        else:
            yield path, Path(path)
    for folder in folders:
        yield from ((str(each), each) for each in sorted(Path(folder).glob("*.json")) if each.is_file())


@contextmanager
def _opened(source: Path | None, name: str) -> Generator[BinaryIO]:
    """The bytes of a file, or of what is piped, kept aside so that they can be read twice."""
    if source is None:
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            yield kept
        return
    try:
        stream = source.open("rb")
    except OSError as exc:
        raise InvalidInput(f"cannot read {name} ({exc.strerror})") from exc
    with stream:
        yield stream


def _began_ms(source: Path | None, store: Store) -> int:
    return store.now_ms() if source is None else int(source.stat().st_mtime * 1000)


def _files_below(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(place, name)
            # Opening a pipe would wait for whoever fills it.
            if name.endswith(SUFFIXES) and not name.endswith(NOTES_OF_TOOLS) and not path.is_fifo():
                yield path


def _reason(exc: InvalidInput, name: str) -> str:
    return exc.line.replace(f" of {name} is", " is")
