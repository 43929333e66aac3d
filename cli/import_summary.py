"""What an import tells: what came in, what was left out, and every fault with its place."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from ..storage.errors import StenoError
from ..storage.importing import Imported
from .terminal import counted, note, print_json, safe_line

MAX_FAULTS_TOLD = 20
MAX_KINDS_TOLD = 4


class Fault(msgspec.Struct, frozen=True):
    """Something that could not be read as it stands; the column is there where it is known."""

    file: str
    line: int
    reason: str
    column: int | None = None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.file}, line {self.line}" + ("" if self.column is None else f", column {self.column}")


class Refused(msgspec.Struct, frozen=True):
    """A file of which nothing was taken; ``differs`` where a session is here and is another."""

    file: str
    reason: str
    differs: bool = False
    faults: list[Fault] = []


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
    dry_run: bool = False
    by_file: list[tuple[str, str]] | None = None

    def count(self, done: Imported, *, deleted: bool) -> None:
        """Count one session that was taken in."""
        self.messages_added += done.added
        self.messages_changed += done.changed
        self.kept[done.session] = done.kept
        if deleted:
            self.deleted.add(done.session)
        if done.purged:
            self.purged.add(done.session)
        elif done.created:
            self.new.add(done.session)
        elif done.added or done.changed:
            self.changed.add(done.session)
        else:
            self.unchanged.add(done.session)

    def add(self, part: Summary, file: str) -> None:
        """Add what one file brought."""
        self.files += 1
        for name in ("new", "changed", "unchanged", "deleted", "purged"):
            setattr(self, name, getattr(self, name) | getattr(part, name))
        self.messages_added += part.messages_added
        self.messages_changed += part.messages_changed
        for session, kept in part.kept.items():
            self.kept[session] = self.kept.get(session, kept) & kept
        for kind, count in part.left_out.items():
            self.left_out[kind] = self.left_out.get(kind, 0) + count
        self.faults = self.faults + part.faults
        if self.by_file is not None:
            self.by_file.append((file, part.sessions))

    @property
    def sessions(self) -> str:
        """The sessions, counted for people."""
        return f"{len(self.new)} new, {len(self.changed - self.new)} changed, {len(self._unchanged)} unchanged"

    def as_json(self) -> dict[str, Any]:
        """The same for programs; all faults, not only the first ones."""
        return {
            "dry_run": self.dry_run,
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
        lines = [f"Sessions: {self.sessions}", f"Messages: {self.messages_added} added"]
        if self.left_out:
            most = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))
            counts = [f"{count} {safe_line(kind)}" for kind, count in most[:MAX_KINDS_TOLD]]
            counts += [f"{len(most) - MAX_KINDS_TOLD} other kinds"] if len(most) > MAX_KINDS_TOLD else []
            lines.append(f"Left out: {sum(self.left_out.values())} records without a message ({', '.join(counts)})")
        return ["Nothing was kept; this is what would come in.", *lines] if self.dry_run else lines

    @property
    def _unchanged(self) -> set[str]:
        return self.unchanged - self.new - self.changed


class _Nothing(StenoError):
    """Some of the files were refused; the others came in."""

    exit_code = 4


class _Differs(StenoError):
    """Files were refused for sessions that are here and differ; the others came in."""

    exit_code = 5


def tell(summary: Summary, *, as_json: bool, single: bool) -> None:
    """Print what came in and, on standard error, what did not; raises where a file was refused."""
    if as_json:
        print_json(summary.as_json())
    elif summary.files or not summary.refused:
        _by_file(summary)
        click.echo("\n".join(summary.lines()))
    _tell_faults(summary, as_json=as_json)
    if summary.deleted:
        note(f"{len(summary.deleted)} of them are deleted here and stay so; see `steno list --deleted`")
    shorter = {session for session, kept in summary.kept.items() if kept}
    if shorter:
        count = sum(len(summary.kept[session]) for session in shorter)
        note(f"Shorter than what is here, where {count} messages more stay: {_named(shorter)}")
    if summary.purged:
        note(f"Purged here and not taken in: {_named(summary.purged)}")
    if summary.refused:
        _refuse(summary, single=single)


def _by_file(summary: Summary) -> None:
    for file, sessions in summary.by_file or ():
        click.echo(f"{safe_line(file)}: {sessions}")


def _tell_faults(summary: Summary, *, as_json: bool) -> None:
    # A refused file with one fault says it in its own line.
    found = [*([] if as_json else summary.faults)]
    for refused in summary.refused:
        found += refused.faults if len(refused.faults) > 1 else []
    for fault in found[:MAX_FAULTS_TOLD] if as_json or summary.files else found:
        note(f"{fault.place}: {fault.reason}")
    if summary.files and len(found) > MAX_FAULTS_TOLD:
        note(f"… and {len(found) - MAX_FAULTS_TOLD} more faults; --json lists all of them")


def _refuse(summary: Summary, *, single: bool) -> None:
    error = _Differs if all(refused.differs for refused in summary.refused) else _Nothing
    if single:
        refused = summary.refused[0]
        several = len(refused.faults) > 1
        reason = f"{counted(len(refused.faults), 'fault')}, so nothing of it was taken" if several else refused.reason
        raise error(f"{refused.file}: {reason}")
    for refused in summary.refused[:MAX_FAULTS_TOLD]:
        note(f"Refused {refused.file}: {refused.reason}")
    raise error(f"{len(summary.refused)} of {summary.files + len(summary.refused)} files were refused")


def _named(sessions: set[str]) -> str:
    first = sorted(sessions)[:MAX_KINDS_TOLD]
    return ", ".join([*first, *(["…"] if len(sessions) > len(first) else [])])
