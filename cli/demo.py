"""``steno demo``: two devices, two real daemons, one folder between them, in front of your eyes.

Everything happens in a temporary directory and nothing is left behind (tests/e2e/test_demo.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..storage.errors import StenoError

SAMPLE = Path(__file__).parent / "demo_sample" / "claude-code.jsonl"
WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02


class DemoFailed(StenoError):
    """A step of the demo did not end as promised."""

    hint = "please report this with the output above"


class Device:
    """A home of its own, driven by the real commands."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.home = folder / name
        self.home.mkdir()
        (self.home / "config.toml").write_text("[daemon]\nport = 0\n", encoding="utf-8")

    def steno(self, *arguments: str) -> str:
        """Run a command on this device and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "steno.cli.main", *arguments],
            env={**os.environ, "STENO_HOME": str(self.home), "STENO_PASSPHRASE": "demo passphrase"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise DemoFailed(f"on {self.name}, `steno {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.steno(*arguments, "--format", "json"))

    def file(self) -> Path | None:
        """The file of the one session."""
        return next((path for path in (self.home / "sessions").rglob("*.jsonl")), None)


def show() -> None:
    """Run the demo; raises `DemoFailed` where a promise is not kept."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="steno-demo-") as folder:
        laptop, desktop = Device("laptop", Path(folder)), Device("desktop", Path(folder))
        try:
            _play(laptop, desktop, Path(folder) / "remote")
        finally:
            for device in (laptop, desktop):
                _stop_quietly(device)
    click.echo(f"\nBoth devices are equal. All of it took {time.monotonic() - began:.1f} s; nothing is left behind.")


def _play(laptop: Device, desktop: Device, remote: Path) -> None:
    _say("Two devices and a folder between them, which sees sealed bytes only")
    laptop.steno("init", "--remote", str(remote))
    desktop.steno("join", str(remote))
    for device in (laptop, desktop):
        device.steno("daemon", "start")

    _say("laptop:  steno import claude-code.jsonl")
    laptop.steno("import", str(SAMPLE))
    session = laptop.json("list")[0]["id"]
    took = _until(lambda: _shown(desktop, session) == _shown(laptop, session), "the session is on desktop")
    click.echo(f"         on desktop after {took:.2f} s:")
    click.echo("         " + desktop.steno("list").strip().replace("\n", "\n         "))

    _say("desktop: a hand edit of the JSONL file, in any editor")
    _until(lambda: desktop.file() is not None, "the file is on desktop")
    path = desktop.file()
    assert path is not None
    before, after = "Use a cursor:", "Use a keyset cursor:"
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    took = _until(lambda: after in json.dumps(_shown(laptop, session)), "the edit is on laptop")
    click.echo(f"         {before!r} became {after!r}; on laptop after {took:.2f} s")

    _say("both offline: each edits the same session")
    for device in (laptop, desktop):
        device.steno("daemon", "stop")
    laptop.steno("rename", session, "Pagination of orders")
    laptop.steno("meta", session, "ticket", "API-7")
    laptop.steno("tag", session, "api")
    desktop.steno("rename", session, "Cursor or offset?")
    desktop.steno("meta", session, "reviewer", "grace")
    desktop.steno("tag", session, "backend")
    desktop.steno("add", session, "A note from the desktop.")
    click.echo("         laptop:  title, metadata.ticket, tag api")
    click.echo("         desktop: title, metadata.reviewer, tag backend, a message")

    _say("both online again")
    for device in (laptop, desktop):
        device.steno("daemon", "start")
    took = _until(lambda: _settled(laptop, desktop, session), "both devices are equal")
    _tell(laptop, desktop, session, took)
    _check_remote(remote)


def _tell(laptop: Device, desktop: Device, session: str, took: float) -> None:
    click.echo(f"         equal after {took:.2f} s; what each now shows:")
    for device in (laptop, desktop):
        found = _shown(device, session)
        tags, metadata = ", ".join(found["tags"]), found["metadata"]
        kept = {key: metadata[key] for key in ("ticket", "reviewer")}
        click.echo(
            f"         {device.name:8} {found['title']!r}, tags {tags}, {kept}, {found['message_count']} messages"
        )
    click.echo("         the title that lost is kept, on both (steno conflicts):")
    click.echo("         " + laptop.steno("conflicts").strip().replace("\n", "\n         "))


def _check_remote(remote: Path) -> None:
    objects = [path for path in remote.rglob("*") if path.is_file()]
    words = (b"pagina", b"cursor", b"orders", b"API-7", b"backend")
    readable = [path for path in objects if any(word in path.read_bytes().lower() for word in words)]
    if readable:
        raise DemoFailed(f"words of the session can be read in {readable[0].name}")
    size = sum(path.stat().st_size for path in objects)
    _say(f"the folder between them: {len(objects)} objects, {size:,} bytes, no word of the session readable")


def _settled(laptop: Device, desktop: Device, session: str) -> bool:
    found = _shown(laptop, session)
    complete = {"ticket", "reviewer"} <= found["metadata"].keys() and set(found["tags"]) >= {"api", "backend"}
    return complete and found == _shown(desktop, session) and laptop.json("conflicts") == desktop.json("conflicts")


def _shown(device: Device, session: str) -> Any:
    try:
        return device.json("show", session)
    except DemoFailed:
        return None


def _until(true: Callable[[], bool], what: str) -> float:
    """Wait until something is so; returns how long that took, in seconds."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > WITHIN_S:
            raise DemoFailed(f"not within {WITHIN_S:.0f} s: {what}")
        time.sleep(_LOOK_EVERY_S)
    return time.monotonic() - began


def _stop_quietly(device: Device) -> None:
    try:
        device.steno("daemon", "stop")
    except DemoFailed:
        return


def _say(line: str) -> None:
    click.echo(f"• {line}")
