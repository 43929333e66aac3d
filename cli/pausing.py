"""The verbs that hold the daemon back: from the remote altogether, or from what can wait."""

from __future__ import annotations

import click

from ..storage.home import Home
from ..storage.model import format_ms
from ..storage.store import Store
from ..sync.vault.restraint import FOREVER, METERED, PAUSED, Restraint
from .options import age_ms, examples, format_option
from .terminal import local_time, print_json

_PAUSED, _METERED = "leaves the remote alone", "spares the connection"


@click.command("pause-sync", epilog=examples("steno pause-sync", "steno pause-sync 2h", "steno pause-sync --off"))
@click.argument("time", metavar="[FOR]", required=False, callback=age_ms)
@click.option("--off", is_flag=True, help="Go on at once.")
@format_option
def pause_sync(*, time: int | None, off: bool, as_json: bool) -> None:
    """Let the daemon leave the remote alone, for a while (90m, 12h, 2d) or until told otherwise.

    Writing goes on, and nothing is lost: what waits is sent afterwards. `steno sync` still syncs when it is asked to.
    """
    until = _changed(PAUSED, time, off=off)
    if as_json:
        print_json({"paused_until": until})
    else:
        click.echo("The daemon syncs." if until is None else f"The daemon {paused_said(until)}.")


@click.command(epilog=examples("steno metered 2h", "steno metered", "steno metered --off"))
@click.argument("time", metavar="[FOR]", required=False, callback=age_ms)
@click.option("--off", is_flag=True, help="The connection costs nothing again: do now what waited.")
@format_option
def metered(*, time: int | None, off: bool, as_json: bool) -> None:
    """Let the daemon spare a connection that costs, for a while (90m, 12h, 2d) or until told otherwise.

    What is written here is still sent, and what is written elsewhere still arrives, less often. The histories of
    devices that are new to this one wait, and so does tidying up on the remote. `steno sync` still does everything.
    """
    until = _changed(METERED, time, off=off)
    if as_json:
        print_json({"metered_until": until})
    else:
        click.echo("The daemon syncs as ever." if until is None else f"The daemon {metered_said(until)}.")


def paused_said(until: str) -> str:
    """How long the remote is left alone."""
    return f"{_PAUSED} {_end(until, 'pause-sync')}"


def metered_said(until: str) -> str:
    """How long the connection is spared."""
    return f"{_METERED} {_end(until, 'metered')}"


def _end(until: str, verb: str) -> str:
    return f"until `steno {verb} --off`" if until.startswith("9999") else f"until {local_time(until)}"


def _changed(restraint: Restraint, time: int | None, *, off: bool) -> str | None:
    """Let a restraint stand or stand no more; return until when it does."""
    if off and time is not None:
        raise click.UsageError("--off takes no time")
    home = Home.from_environment()
    home.require()
    with Store(home.database) as store:
        if off:
            restraint.end(store)
        else:
            restraint.begin(store, until_ms=FOREVER if time is None else min(store.now_ms() + time, FOREVER))
        until_ms = restraint.until(store, now_ms=store.now_ms())
    return None if until_ms is None else format_ms(until_ms)
