"""``steno import``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from ..storage.errors import InvalidInput, StenoError
from ..storage.importing import Imported, take_in
from ..storage.restoring import bring_back
from ..storage.steps import step
from ..storage.store import Store
from ..storage.transcripts import Transcript, read_transcripts
from ..storage.transcripts.steno_json import Exported
from .options import examples, format_option
from .progress import Progress
from .stores import writing
from .terminal import note, print_json, safe_line

SUFFIXES = (".jsonl", ".json", ".jsonl.zst")
# What Claude Code keeps beside its transcripts; named on the command line they are read like any other.
NOTES_OF_TOOLS = (".meta.json", "sessions-index.json")
MAX_FAULTS_TOLD = 20
MAX_KINDS_TOLD = 4

_STDIN = "standard input"


class Fault(msgspec.Struct, frozen=True):
    """A line that could not be read as it stands."""

    file: str
    line: int
    reason: str


class Refused(msgspec.Struct, frozen=True):
    """A file of which nothing was taken."""

    file: str
    reason: str


class Summary(msgspec.Struct, kw_only=True):
    """What came in. A session that several files hold is new or changed once."""

    files: int = 0
    new: set[str] = set()
    changed: set[str] = set()
    unchanged: set[str] = set()
    deleted: set[str] = set()
    purged: set[str] = set()
    messages_added: int = 0
    messages_changed: int = 0
    kept: dict[str, frozenset[str]] = {}
    left_out: dict[str, int] = {}
    faults: list[Fault] = []
    refused: list[Refused] = []

    def count(self, done: Imported) -> None:
        """Count one session that was taken in."""
        self.messages_added += done.added
        self.messages_changed += done.changed
        self.kept[done.session] = self.kept.get(done.session, done.kept) & done.kept
        if done.purged:
            self.purged.add(done.session)
        elif done.created:
            self.new.add(done.session)
        elif done.added or done.changed:
            self.changed.add(done.session)
        else:
            self.unchanged.add(done.session)

    def as_json(self) -> dict[str, Any]:
        """The same for programs; all faults, not only the first ones."""
        return {
            "files": self.files,
            "sessions": {
                "new": len(self.new),
                "changed": len(self.changed - self.new),
                "unchanged": len(self._unchanged),
            },
            "purged": sorted(self.purged),
            "kept": {session: len(kept) for session, kept in sorted(self.kept.items()) if kept},
            "session_ids": sorted(self.new | self.changed | self.unchanged),
            "messages_added": self.messages_added,
            "left_out": dict(sorted(self.left_out.items())),
            "faults": msgspec.to_builtins(self.faults),
            "refused": msgspec.to_builtins(self.refused),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        sessions = (
            f"Sessions: {len(self.new)} new, {len(self.changed - self.new)} changed, {len(self._unchanged)} unchanged"
        )
        lines = [sessions, f"Messages: {self.messages_added} added"]
        if self.left_out:
            most = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))
            counts = [f"{count} {safe_line(kind)}" for kind, count in most[:MAX_KINDS_TOLD]]
            counts += [f"{len(most) - MAX_KINDS_TOLD} other kinds"] if len(most) > MAX_KINDS_TOLD else []
            lines.append(f"Left out: {sum(self.left_out.values())} records without a message ({', '.join(counts)})")
        return lines

    @property
    def _unchanged(self) -> set[str]:
        return self.unchanged - self.new - self.changed


class _Nothing(StenoError):
    """Some of the files were refused; the others came in."""

    exit_code = 4


@click.command(
    "import",
    short_help="Import sessions of other tools, or exported ones.",
    epilog=examples(
        "steno import ~/.claude/projects",
        "steno import session.json backup.json",
        "curl -s https://example.com/chats.jsonl | steno import -",
    ),
)
@click.argument(
    "paths", metavar="PATH...|-", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, readable=False)
)
@format_option
def import_sessions(*, paths: tuple[str, ...], as_json: bool) -> None:
    """Import sessions from files and directories; the format is told by what is in them.

    Known are Claude Code and Codex transcripts, OpenAI and ShareGPT JSONL, and what `steno export` wrote. Importing
    twice changes nothing. A directory is searched for *.jsonl, *.json and *.jsonl.zst.
    """
    summary = Summary()
    progress = Progress()
    with writing() as store:
        for name, source in _sources(paths):
            progress.say(f"{summary.files} files, {summary.messages_added} messages")
            try:
                _take_file(store, name, source, summary)
                step("import.file")
            except InvalidInput as exc:
                summary.refused.append(Refused(name, _reason(exc, name)))
    progress.end()
    _tell(summary, as_json=as_json, single=len(summary.refused) == 1 and not summary.files)


def _tell(summary: Summary, *, as_json: bool, single: bool) -> None:
    if as_json:
        print_json(summary.as_json())
    elif summary.files or not summary.refused:
        click.echo("\n".join(summary.lines()))
    if not as_json:
        for fault in summary.faults[:MAX_FAULTS_TOLD]:
            note(f"{fault.file}, line {fault.line}: {fault.reason}")
        if len(summary.faults) > MAX_FAULTS_TOLD:
            note(f"… and {len(summary.faults) - MAX_FAULTS_TOLD} more faults; --json lists all of them")
    if summary.deleted:
        note(f"{len(summary.deleted)} of them are deleted here and stay so; see `steno list --deleted`")
    shorter = {session for session, kept in summary.kept.items() if kept}
    if shorter:
        count = sum(len(summary.kept[session]) for session in shorter)
        note(f"Shorter than what is here, where {count} messages more stay: {_named(shorter)}")
    if summary.purged:
        note(f"Purged here and not taken in: {_named(summary.purged)}")
    if single:
        raise _Nothing(f"{summary.refused[0].file}: {summary.refused[0].reason}")
    for refused in summary.refused[:MAX_FAULTS_TOLD]:
        note(f"Refused {refused.file}: {refused.reason}")
    if summary.refused:
        raise _Nothing(f"{len(summary.refused)} of {summary.files + len(summary.refused)} files were refused")


def _take_file(store: Store, name: str, source: Path | bytes, summary: Summary) -> None:
    """Take in one file, all or nothing."""
    began_ms = int(source.stat().st_mtime * 1000) if isinstance(source, Path) else store.now_ms()
    read = read_transcripts(source, name=name, default_ms=began_ms)
    with store.transaction():
        done = [_take_in(store, transcript) for transcript in read.transcripts]
        deleted = {each.session for each in done if (row := store.find(each.session)) and row.hidden}
    summary.files += 1
    for each in done:
        summary.count(each)
    summary.deleted |= deleted
    summary.faults += [Fault(name, fault.line, fault.reason) for fault in read.faults]
    for kind, count in read.left_out.items():
        summary.left_out[kind] = summary.left_out.get(kind, 0) + count


def _take_in(store: Store, transcript: Transcript) -> Imported:
    return bring_back(store, transcript) if isinstance(transcript, Exported) else take_in(store, transcript)


def _named(sessions: set[str]) -> str:
    first = sorted(sessions)[:MAX_KINDS_TOLD]
    return ", ".join([*first, *(["…"] if len(sessions) > len(first) else [])])


def _sources(paths: tuple[str, ...]) -> Iterator[tuple[str, Path | bytes]]:
    """What to read: files as they are named, those of directories by their suffix, in order."""
    for path in paths:
        if path == "-":
            piped: bytes = sys.stdin.buffer.read()
            yield _STDIN, piped
        elif Path(path).is_dir():
            yield from ((str(each), each) for each in _files_below(Path(path)))
        else:
            yield path, Path(path)


def _files_below(directory: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.endswith(NOTES_OF_TOOLS):
                yield Path(place, name)


def _reason(exc: InvalidInput, name: str) -> str:
    return exc.line.replace(f" of {name} is", " is")
