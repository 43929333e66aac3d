"""``steno files``: how the session files stand, where they lie, and what to do where they and the store differ."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from ..daemon import control
from ..daemon.status import files_status, history_keeps, lately
from ..storage.database import wall_ms
from ..storage.errors import Incomplete, InvalidInput
from ..storage.home import Home
from ..storage.store import Store
from ..sync.files.breaker import halt_of
from ..sync.files.ledger import Ledger
from ..sync.files.reports import at_place
from ..sync.files.verify import Difference, Place, verify
from .editing import edit
from .keeper import keeper, standing
from .options import examples, format_option
from .progress import Progress
from .stores import opened
from .terminal import counted, local_time, note, print_json, safe_line

_RESUMING = "see `steno files status`, and say what to do with `steno files resume --restore` or `--delete`"
_MENDING = "`steno files rebuild` takes up edits and writes the rest anew; what is refused must be mended first"
_MOST_REPORTS = 20
_WATCHED = {
    True: "saves are taken at once",
    False: "no, since nothing tells of saves there; the files are looked at now and then",
    None: "no, since no daemon runs: `steno daemon start`",
}


@click.group(
    short_help="Look after the session files: their state, their places, and editing them.",
    epilog=examples("steno files status", "steno files edit @last", "steno files verify"),
)
def files() -> None:
    """Look after the session files: one file for each session, kept equal to the store in both directions."""


files.add_command(edit)


@files.command(
    short_help="Say how the files stand.", epilog=examples("steno files status", "steno files status --json")
)
@format_option
def status(*, as_json: bool) -> None:
    """Say how the files stand; the exit code is 8 where one is refused or they stand still."""
    home = _home()
    found = _status(home)
    if as_json:
        print_json(found)
    else:
        for name, text in _facts(found):
            click.echo(safe_line(f"{name + ':':<14}{text}"))
    wrong = len(found["refused"]) + bool(found["halted"] or found["stopped"])
    if wrong:
        raise Incomplete(count=wrong, hint=_advice(found))


@files.command(
    short_help="Print where a session's file lies.",
    epilog=examples("steno files path @last", 'grep -n password "$(steno files path k3v9)"'),
)
@click.argument("session", metavar="ID")
@format_option
def path(*, session: str, as_json: bool) -> None:
    """Print where a session's file lies, once it shows the session as it is."""
    home = _home()
    with opened(home.database) as store:
        session_id = store.resolve(session)
    with keeper(home) as keeping:
        found = keeping.current(session_id)
    place = standing(found)
    if as_json:
        print_json({"session": session_id, "path": place})
    else:
        click.echo(place)


@files.command(
    "verify",
    short_help="Compare every file with the store.",
    epilog=examples("steno files verify", "steno files verify --json"),
)
@format_option
def verify_files(*, as_json: bool) -> None:
    """Compare every file with what the store would write there; nothing is written.

    The exit code is 8 where one is missing, differs, is refused or cannot be read. Files that are no session's are
    named only.
    """
    home = _home()
    compared, wrong, found = 0, 0, list[Difference]()
    with opened(home.database) as store, _progress() as progress:
        total, halted = Ledger(store).count(), halt_of(store) is not None
        after: Place | None = Place()
        while after is not None:
            part = verify(store, home.sessions, after)
            after, compared = part.after, compared + part.compared
            progress.say(f"compared {compared:,} of {total:,} files")
            wrong += sum(each.kind != "foreign" for each in part.differences)
            if as_json:
                found += part.differences
                continue
            for each in part.differences:
                progress.end()
                click.echo(safe_line(_line(each)))
    if as_json:
        print_json({"compared": compared, "differences": [msgspec.to_builtins(each) for each in found]})
    else:
        note(f"Compared {counted(compared, 'file')}; not as it should be: {wrong:,}.")
    if wrong:
        raise Incomplete(count=wrong, hint=_RESUMING if halted else _MENDING)


@files.command(short_help="Write anew what is missing or differs.", epilog=examples("steno files rebuild"))
@format_option
def rebuild(*, as_json: bool) -> None:
    """Write every file anew that is missing or does not show its session; edits are taken up first."""
    home = _home()
    with keeper(home) as keeping:
        written = keeping.rebuild()
    if as_json:
        print_json({"written": written})
    else:
        click.echo(f"Wrote {written:,} {'file' if written == 1 else 'files'}.")
    refused = len(_status(home)["refused"])
    if refused:
        raise Incomplete(count=refused, hint="they are left alone: see `steno files status`")


@files.command(
    short_help="Let files go on that stand still.",
    epilog=examples("steno files resume --restore", "steno files resume --delete --yes"),
)
@click.option("--restore", is_flag=True, help="Write every missing file anew; no session is deleted.")
@click.option("--delete", is_flag=True, help="Delete the sessions whose files are missing; `steno restore` undoes it.")
@click.option("--yes", "-y", is_flag=True, help="Delete without asking.")
@format_option
def resume(*, restore: bool, delete: bool, yes: bool, as_json: bool) -> None:
    """Let files go on that stand still, and say what is meant: that they come back, or that their sessions go."""
    if restore == delete:
        raise click.UsageError("give either --restore or --delete")
    home = _home()
    with opened(home.database) as store:
        missing, messages = _at_stake(store, home)
        halted = halt_of(store) is not None
    if not halted and not missing and not messages:
        raise InvalidInput("the files do not stand still, and none is missing: there is nothing to resume")
    if delete and not yes and not _agreed(missing, messages):
        note("Nothing was changed; the files still stand still.")
        return
    with keeper(home) as keeping:
        done = keeping.resume(restore=restore)
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    if delete:
        click.echo(f"Deleted {_both(done.deleted, done.messages)}; the files go on.")
    else:
        kept = f", {counted(done.messages, 'message')} came back" if done.messages else ""
        missing = counted(done.files, "missing file")
        click.echo(f"Wrote {missing}{kept}; the files go on, and nothing was deleted.")
    for path in done.refused:
        note(f"{path} was not taken: see `steno files status`")
    for line in done.kept:
        note(line)
    if done.restored:
        click.echo(f"Restored {counted(done.restored, 'session')} that had been deleted just before.")


def _home() -> Home:
    home = Home.from_environment()
    home.require()
    home.settings()
    return home


def _status(home: Home) -> dict[str, Any]:
    client = control.running(home)
    if client is not None:
        return client.files()
    with opened(home.database) as store:
        return files_status(store, home)


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("Directory", found["directory"]), ("Files", f"{found['files']:,}")]
    if found["not_written"]:
        facts.append(("Not written", counted(found["not_written"], "change")))
    if not found["halted"]:
        facts.append(("Watched", _WATCHED[found["watched"]]))
    if found["halted"]:
        since = local_time(found["halted"]["since"])
        facts.append(("Stands still", f"since {since}: {found['halted']['reason']}"))
    elif found["stopped"]:
        facts.append(("Stands still", found["stopped"]))
    facts += [
        ("Refused", f"{at_place(each['path'], each['line'], each['column'])}: {each['reason']}")
        for each in found["refused"]
    ]
    facts += [("Note", history_keeps(each)) for each in found["taken_out"]]
    return [*facts, *_reported(found)]


def _reported(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What came of saves in the last day beyond what was asked for, the latest first."""
    shown = lately(found, now_ms=wall_ms())[:_MOST_REPORTS]
    lines = [f"{local_time(each['at'])}, {each['path']}: {each['text']}" for each in shown]
    more = len(found["reports"]) - len(shown)
    lines += [f"{more} more: `steno files status --json`"] if more else []
    return [("Reported", each) for each in lines]


def _advice(found: dict[str, Any]) -> str:
    if found["halted"]:
        return "see above what to say with `steno files resume`"
    if any("`steno files resume" in each["reason"] for each in found["refused"]):
        return "see above what to say with `steno files resume`"
    if found["refused"]:
        return "mend the file and save it; `steno files edit ID` opens it at its line"
    return "see above"


def _line(found: Difference) -> str:
    place = at_place(found.path or f"session {found.session}", found.line, found.column)
    return f"{found.kind:<10}  {place}: {found.reason}"


def _at_stake(store: Store, home: Home) -> tuple[int, int]:
    """How many sessions and messages would be deleted."""
    ledger = Ledger(store)
    missing = sum(not os.path.lexists(home.sessions / path) for path, *_ in ledger.looks())
    return missing, sum(each.dropped for each in ledger.waiting())


def _agreed(missing: int, messages: int) -> bool:
    what = _both(missing, messages)
    if not sys.stdin.isatty():
        raise click.UsageError(f"--delete would delete {what}; give --yes where nobody can be asked")
    return click.confirm(f"Delete {what}? `steno restore ID` brings a session back", err=True)


def _both(sessions: int, messages: int) -> str:
    """So many sessions, and messages if there are any."""
    parts = [counted(sessions, "session")] if sessions or not messages else []
    return " and ".join([*parts, *([counted(messages, "message")] if messages else [])])


@contextmanager
def _progress() -> Generator[Progress]:
    progress = Progress()
    try:
        yield progress
    finally:
        progress.end()
