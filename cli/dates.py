"""What a person writes for a time: a day, a moment, or how long ago.

    2026-11-20            a day of this machine's calendar, as are `today` and `yesterday`
    2026-11-20T10:00:00Z  a moment; without an offset it is this machine's time
    30d                   so long ago: h, d, w, m (of 30 days), y (of 365 days)

A day has a beginning and an end, so that whoever asks up to a day gets the whole of it, also where the
clocks are turned on it (tests/unit/test_cli_dates.py).
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import NamedTuple

import click

_AGE = re.compile("([0-9]{1,6})([hdwmy])")
_DAY_MS = 86_400_000
_UNIT_MS = {"h": 3_600_000, "d": _DAY_MS, "w": 7 * _DAY_MS, "m": 30 * _DAY_MS, "y": 365 * _DAY_MS}
FORMS = "YYYY-MM-DD, 2026-11-20T10:00:00Z, 30d, today or yesterday"
AGES = "12h, 30d, 8w, 6m or 1y"


class Span(NamedTuple):
    """A day or a moment: the milliseconds from its first one up to the one behind it."""

    first_ms: int
    behind_ms: int


def span(text: str, *, now: datetime) -> Span:
    """The time that a text means at a moment of this machine's time; raises `ValueError`."""
    age = _age_ms(text)
    if age is not None:
        return _moment(_ms(now) - age)
    if text in ("today", "yesterday"):
        return _day(now.date() - timedelta(days=text == "yesterday"))
    try:
        return _day(date.fromisoformat(text))
    except ValueError:
        return _moment(_ms(datetime.fromisoformat(text)))


def date_option(_: click.Context, parameter: click.Parameter, value: str | None) -> Span | None:
    """The time that an option says."""
    if value is None:
        return None
    try:
        return span(value, now=datetime.now())  # noqa: DTZ005  this machine's time
    except (ValueError, OverflowError, OSError) as exc:
        raise click.UsageError(f"invalid {_spelled(parameter)} format: {value} (use {FORMS})") from exc


def age_option(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """The milliseconds of the age that an option says."""
    if value is None:
        return None
    age = _age_ms(value)
    if age is None:
        raise click.UsageError(f"invalid {_spelled(parameter)} format: {value} (use {AGES})")
    return age


def _age_ms(text: str) -> int | None:
    found = _AGE.fullmatch(text)
    return None if found is None else int(found[1]) * _UNIT_MS[found[2]]


def _day(day: date) -> Span:
    begins = _ms(datetime(day.year, day.month, day.day))  # noqa: DTZ001  this machine's time
    if day == date.max:
        return Span(begins, begins + _DAY_MS)
    after = day + timedelta(days=1)
    return Span(begins, _ms(datetime(after.year, after.month, after.day)))  # noqa: DTZ001


def _moment(at_ms: int) -> Span:
    return Span(at_ms, at_ms + 1)


def _ms(moment: datetime) -> int:
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def _spelled(parameter: click.Parameter) -> str:
    return str(parameter.name).replace("_", "-")
