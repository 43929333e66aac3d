"""What a person writes for a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steno.cli.dates import age_option, date_option, span

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CONTEXT = click.Context(click.Command("list"))


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in Berlin, in whatever place it stands."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


NOW = datetime(2026, 11, 20, 15, 30)  # noqa: DTZ001  of this machine


def utc_ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize("text", ["2026-11-19", "yesterday"])
def test_a_day_goes_from_midnight_to_midnight_here(text: str) -> None:
    assert span(text, now=NOW) == (utc_ms(2026, 11, 18, 23), utc_ms(2026, 11, 19, 23))


def test_today_is_the_day_that_it_is_here() -> None:
    assert span("today", now=NOW).first_ms == utc_ms(2026, 11, 19, 23)


@pytest.mark.parametrize(("text", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_on_which_the_clocks_are_turned_is_whole(text: str, hours: int) -> None:
    first, behind = span(text, now=NOW)
    assert behind - first == hours * HOUR_MS


@pytest.mark.parametrize("text", ["2026-11-20T10:00:00Z", "2026-11-20T11:00:00", "2026-11-20 12:00+02:00"])
def test_a_moment_is_here_unless_it_says_where(text: str) -> None:
    assert span(text, now=NOW).first_ms == utc_ms(2026, 11, 20, 10)


def test_a_moment_is_exact_to_the_millisecond_and_counts_itself() -> None:
    first, behind = span("2026-11-20T10:00:00.123Z", now=NOW)
    assert (first % 1000, behind - first) == (123, 1)


@pytest.mark.parametrize(
    ("text", "ago_ms"),
    [("12h", 12 * HOUR_MS), ("30d", 30 * DAY_MS), ("2w", 14 * DAY_MS), ("6m", 180 * DAY_MS), ("1y", 365 * DAY_MS)],
)
def test_an_age_is_so_long_before_now(text: str, ago_ms: int) -> None:
    assert utc_ms(2026, 11, 20, 14, 30) - span(text, now=NOW).first_ms == ago_ms


def test_the_last_day_of_all_has_an_end() -> None:
    first, behind = span("9999-12-31", now=NOW)
    assert behind - first == DAY_MS


@given(st.text())
@example("2026-02-30")
@example("0001-01-01T00:00:00+23:59")
def test_any_text_is_a_time_or_a_usage_error_that_names_the_forms(text: str) -> None:
    said = ""
    try:
        found = date_option(CONTEXT, click.Option(["--since"]), text)
    except click.UsageError as exc:
        found, said = None, exc.message
    assert (found is None) == said.startswith("invalid since format: ")
    assert said.endswith("(use YYYY-MM-DD, 2026-11-20T10:00:00Z, 30d, today or yesterday)" if said else "")


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "1.5d", "30 d", "3s", "٣d"])
def test_what_is_no_age_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError, match="invalid older-than format"):
        age_option(CONTEXT, click.Option(["--older-than"]), text)
