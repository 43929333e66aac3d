"""The options that several verbs share, so that one name means one thing everywhere."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from ..storage.errors import InvalidInput
from ..storage.listing import Filter
from ..storage.model import STATUSES, Json
from .dates import FORMS, Span, date_option

_Verb = TypeVar("_Verb", bound=Callable[..., Any])
_MOST = 1 << 62  # more than that SQLite cannot count
_FORMATS = ("text", "json")
_AGE = re.compile("([0-9]{1,6})([mhdw])")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def examples(*lines: str) -> str:
    """The end of a verb's help: commands that work as they are printed."""
    # click keeps a paragraph that begins with a backspace as it is.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def format_option(verb: Callable[..., None]) -> Callable[..., None]:
    """Add ``--format text|json`` and ``--json``; the verb gets ``as_json``."""

    @functools.wraps(verb)
    def printing(*args: Any, form: str, as_json: bool, **options: Any) -> None:
        verb(*args, as_json=as_json or form == "json", **options)

    choice = click.Choice(_FORMATS, case_sensitive=False)
    with_json = click.option("--json", "as_json", is_flag=True, help="The same as --format json.")(printing)
    form = click.option("--format", "form", type=choice, default="text", show_default=True, help="How to print.")
    return form(with_json)


def local_only_option(verb: _Verb) -> _Verb:
    """Add ``--local-only`` to a verb that makes a session."""
    return click.option("--local-only", is_flag=True, help="It stays on this device: nothing of it is ever sent.")(verb)


def filter_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose sessions; the verb gets ``chosen``, a `Filter` in which all that is said holds."""

    @functools.wraps(verb)
    def choosing(*args: Any, since: Span | None, until: Span | None, user: str | None, **options: Any) -> None:
        if since and until and since.first_ms >= until.behind_ms:
            raise click.UsageError("--since is later than --until")
        named = {name: options.pop(name) for name in ("title", "tags", "project", "provider", "status", "shared")}
        chosen = Filter(
            user_id=user,
            since_ms=since.first_ms if since else None,
            before_ms=until.behind_ms if until else None,
            **named,
        )
        verb(*args, chosen=chosen, **options)

    with_options: Callable[..., None] = choosing
    for option in reversed((
        click.option("--search", "title", metavar="TEXT", help="With this text in the title."),
        click.option("--since", metavar="DATE", callback=date_option, help=f"Written to then or later: {FORMS}."),
        click.option("--until", metavar="DATE", callback=date_option, help="Last written to then or earlier."),
        click.option("--provider", metavar="NAME", help="Of this provider."),
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="With this tag; repeated, with all of them."),
        click.option("--project", metavar="NAME", help="Of this project (metadata.project)."),
        click.option("--user", metavar="ID", help="Of this user."),
        click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="With this status."),
        click.option("--shared", is_flag=True, help="Shared with others; Steno cannot share yet, so there are none."),
    )):  # fmt: skip
        with_options = option(with_options)
    return with_options


def age_ms(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """The milliseconds of an age as ``30m``, ``12h``, ``30d`` or ``8w``."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        raise click.UsageError(f"invalid {parameter.name}: {value} (use 30m, 12h, 30d or 8w)")
    return int(found[1]) * _UNIT_MS[found[2]]


def positive(_: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    """A count of at least one."""
    if value is not None and value < 1:
        raise click.UsageError(f"{parameter.name} must be a positive integer")
    return None if value is None else min(value, _MOST)


def json_object(_: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Json] | None:
    """The JSON object that an option's text is; raises `InvalidInput`."""
    if value is None:
        return None
    found = json_value(value, str(parameter.name))
    if not isinstance(found, dict):
        raise InvalidInput(f"{parameter.name} must be a JSON object", hint="""write it as '{"project": "backend"}'""")
    return found


def json_value(text: str, what: str) -> Json:
    """The value of a JSON text; raises `InvalidInput`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as exc:
        raise InvalidInput(f"invalid {what} JSON: {exc}") from exc
