"""`steno stats`: the page of numbers, for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Run, home, run, store

__all__ = ["home", "run", "store"]

TALK = [
    ("user", "2024-01-15T10:30:00Z", None),
    ("assistant", "2024-01-15T10:30:03.200Z", {"input_tokens": 12_000, "output_tokens": 3_234}),
    ("user", "2024-01-15T12:45:00Z", None),
]


@pytest.fixture
def east() -> Iterator[None]:
    """This machine stands an hour east of Greenwich."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TZ", "UTC-1")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def abc(store: Store, east: None) -> Store:
    """The session of the guide, nearly."""
    store.create(id="abc123def456", title="REST", provider="anthropic")
    for role, at, usage in TALK:
        store.append("abc123def456", NewMessage(role=role, content="x", timestamp=at, usage=usage))
    return store


@pytest.mark.check("AIN-46", "AIN-53")
def test_the_statistics_of_a_session_are_those_of_the_guide(run: Run, abc: Store) -> None:
    assert run("stats", "abc123").out.splitlines() == [
        "Session Statistics for abc123",
        "─────────────────────────────",
        "Total Messages: 3",
        "User Messages: 2",
        "Assistant Messages: 1",
        "Total Tokens: 15,234",
        "Average Response Time: 3.2s",
        "Duration: 2h 15m",
        "First Message: 2024-01-15 11:30:00",
        "Last Message: 2024-01-15 13:45:00",
    ]


@pytest.mark.check("AIN-46")
def test_what_nobody_said_is_not_available(run: Run, store: Store) -> None:
    store.create(id="empty")
    lines = run("stats", "empty").out.splitlines()[2:]
    assert lines[:3] == ["Total Messages: 0", "User Messages: 0", "Assistant Messages: 0"]
    assert {line.partition(": ")[2] for line in lines[3:]} == {"n/a"}


@pytest.mark.check("AIN-46", "AIN-53")
def test_programs_get_numbers_and_utc(run: Run, abc: Store) -> None:
    found = run("stats", "abc123", "--json").json
    assert (found["session"], found["messages"], found["roles"]) == ("abc123def456", 3, {"user": 2, "assistant": 1})
    assert found["tokens"] == {"input": 12_000, "output": 3_234, "total": 15_234}
    assert (found["average_response_s"], found["duration_s"]) == (3.2, 8100.0)
    assert found["first_message_at"] == "2024-01-15T10:30:00.000Z"


@pytest.mark.check("AIN-46")
def test_what_nobody_said_is_null_for_programs(run: Run, store: Store) -> None:
    store.create(id="empty")
    found = run("stats", "empty", "--json").json
    assert [found[name] for name in ("tokens", "average_response_s", "duration_s", "last_message_at")] == [None] * 4


@pytest.mark.check("AIN-46")
def test_without_a_session_all_are_counted(run: Run, abc: Store) -> None:
    abc.create(status="paused")
    lines = run("stats").out.splitlines()
    assert lines[:4] == [
        "Session Statistics",
        "──────────────────",
        "Total Sessions: 2",
        "By Status: active 1, paused 1",
    ]
    assert "Total Tokens: 15,234" in lines


def test_all_sessions_are_counted_for_programs_too(run: Run, abc: Store) -> None:
    found = run("stats", "--json").json
    assert (found["sessions"], found["statuses"], found["providers"]) == (1, {"active": 1}, {"anthropic": 1})
    assert found["messages"] == 3


def test_a_filter_chooses_what_is_counted(run: Run, abc: Store) -> None:
    assert run("stats", "--provider", "openai", "--json").json["messages"] == 0


def test_a_session_and_a_filter_are_a_usage_error(run: Run, abc: Store) -> None:
    done = run("stats", "abc123", "--provider", "openai")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_an_unknown_session_is_not_found(run: Run) -> None:
    assert run("stats", "nowhere").code == 3


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0s"), (59.96, "1m 0s"), (61, "1m 1s"), (3599.6, "1h 0m"), (7260, "2h 1m"), (90_000, "1d 1h")],
)
def test_a_duration_is_said_in_its_two_greatest_units(run: Run, store: Store, seconds: float, said: str) -> None:
    store.create(id="s")
    for at_ms in (0, int(seconds * 1000)):
        time_ = f"2024-01-{1 + at_ms // 86_400_000:02d}T{at_ms // 3_600_000 % 24:02d}:{at_ms // 60_000 % 60:02d}"
        time_ += f":{at_ms // 1000 % 60:02d}.{at_ms % 1000:03d}Z"
        store.append("s", NewMessage(role="user", content="x", timestamp=time_))
    assert f"Duration: {said}" in run("stats", "s").out.splitlines()
