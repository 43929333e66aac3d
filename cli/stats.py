"""``steno stats``: how much was said in a session or in all of them, by whom, and how fast."""

from __future__ import annotations

import click
import msgspec

from ..storage.listing import Filter
from ..storage.statistics import Kept, Spoken, all_statistics, statistics
from .options import examples, filter_options, format_option
from .progress import Progress
from .stores import reading
from .terminal import local_time, print_json, safe_line, width

_UNKNOWN = "n/a"
_FIRST = ("user", "assistant")


@click.command(
    short_help="Count messages, tokens and times of a session, or of all.",
    epilog=examples(
        "steno stats k3v9", "steno stats --project backend-service", "steno stats @last --json | jq .tokens.total"
    ),
)
@click.argument("session", metavar="[ID]", required=False)
@filter_options
@format_option
def stats(*, session: str | None, chosen: Filter, as_json: bool) -> None:
    """Count the messages and tokens of a session, and say how long it took. Without ID, of all sessions chosen.

    The average response time is the mean of the times from a message of the user to the assistant's that follows it.
    What no message says is n/a, null in JSON. Times are this machine's, in JSON UTC.
    """
    if session is not None:
        if chosen != Filter():
            raise click.UsageError("an ID names the session: it goes without the options that choose several")
        with reading() as store:
            header = store.get(store.resolve(session))
            found = statistics(store, header.id)
        if as_json:
            print_json({"session": header.id, "title": header.title, **msgspec.to_builtins(found)})
        else:
            _print(f"Session Statistics for {session}", _spoken(found))
        return
    progress = Progress()
    with reading() as store:
        try:
            of_all = all_statistics(store, chosen, told=lambda count: progress.say(f"counted {count:,} messages"))
        finally:
            progress.end()
    if as_json:
        counts = {"sessions": of_all.sessions, "statuses": of_all.statuses, "providers": of_all.providers}
        print_json({**counts, **msgspec.to_builtins(of_all.spoken)})
    else:
        _print("Session Statistics", [*_kept(of_all), *_spoken(of_all.spoken)])


def _print(heading: str, rows: list[tuple[str, str]]) -> None:
    click.echo(safe_line(heading))
    click.echo("─" * width(safe_line(heading)))
    for name, value in rows:
        click.echo(safe_line(f"{name}: {value}"))


def _kept(found: Kept) -> list[tuple[str, str]]:
    rows = [("Total Sessions", f"{found.sessions:,}")]
    for name, counts in (("By Status", found.statuses), ("By Provider", found.providers)):
        rows.append((name, ", ".join(f"{each} {count:,}" for each, count in counts.items()) or _UNKNOWN))
    return rows


def _spoken(found: Spoken) -> list[tuple[str, str]]:
    roles = [*_FIRST, *(role for role in found.roles if role not in _FIRST)]
    tokens = _UNKNOWN if found.tokens is None else f"{found.tokens.total:,}"
    return [
        ("Total Messages", f"{found.messages:,}"),
        *((f"{role.capitalize()} Messages", f"{found.roles.get(role, 0):,}") for role in roles),
        ("Total Tokens", tokens),
        ("Average Response Time", _time(found.average_response_s)),
        ("Duration", _time(found.duration_s)),
        ("First Message", _moment(found.first_message_at)),
        ("Last Message", _moment(found.last_message_at)),
    ]


def _moment(at: str | None) -> str:
    return _UNKNOWN if at is None else local_time(at, "%Y-%m-%d %H:%M:%S")


def _time(seconds: float | None) -> str:
    """A length of time in its two greatest units, as 3.2s, 4m 5s, 2h 15m or 3d 4h."""
    if seconds is None:
        return _UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 59.95 else "1m 0s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes_ = divmod(minutes, 60)
    days, hours_ = divmod(hours, 24)
    if days:
        return f"{days:,}d {hours_}h"
    return f"{hours}h {minutes_}m" if hours else f"{minutes}m {rest_s}s"
