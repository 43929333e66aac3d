"""The sessions of other tools on this machine: where they lie, how many, and the offer to import them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from ..storage.errors import StenoError
from .importing import import_sessions
from .terminal import note


class Found(NamedTuple):
    """Session files of one tool."""

    tool: str
    folder: Path
    files: int
    size_bytes: int


def sources() -> Iterator[Found]:
    """The tools whose session files are found here."""
    claude = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    codex = Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")
    for tool, folder in (("Claude Code", claude / "projects"), ("Codex", codex / "sessions")):
        sizes = [path.stat().st_size for path in folder.rglob("*.jsonl*") if path.is_file()] if folder.is_dir() else []
        if sizes:
            yield Found(tool, folder, len(sizes), sum(sizes))


def offer_import(*, yes: bool) -> None:
    """Say what is found and import it if wanted; importing again changes nothing."""
    for found in sources():
        what = f"{found.files:,} session files of {found.tool} ({found.size_bytes / 1e6:,.1f} MB) in {found.folder}"
        if yes or (sys.stdin.isatty() and click.confirm(f"Found {what}. Import them?", default=True)):
            click.echo(f"Importing {what} …")
            try:
                import_sessions.main([str(found.folder)], standalone_mode=False)
            except StenoError as exc:
                note(exc.line)
        else:
            click.echo(f"Found {what}; `steno import {found.folder}` takes them in.")
