"""One line on a terminal's standard error that says how far something is, and goes away."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

_AFTER_S, _EVERY_S = 0.5, 0.2


class Progress:
    """Says something only where somebody looks, only after a while, and a few times a second."""

    def __init__(self) -> None:
        self._wanted = sys.stderr.isatty()
        self._next_s = time.monotonic() + _AFTER_S
        self._shown = False

    def say(self, text: str) -> None:
        """Say how far it is."""
        if self._wanted and time.monotonic() >= self._next_s:
            self._next_s, self._shown = time.monotonic() + _EVERY_S, True
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", nl=False, err=True)


def far(found: dict[str, Any]) -> str:
    """How far a sync is, from its `sync.vault.progress.Progress` as JSON has it."""
    left = f"{found['done']:,} of {found['total']:,}"
    rest = "" if found["rest_s"] is None else f"; {_about(found['rest_s'])} left"
    if found["doing"] == "sending":
        return f"sending {left} changes, {found['size_bytes'] / 1e6:,.1f} MB so far{rest}"
    return f"receiving {left} segments, {found['messages']:,} messages so far{rest}"


def _about(seconds: float) -> str:
    if seconds < 60:
        return f"about {max(round(seconds), 1)} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
