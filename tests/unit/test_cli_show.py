"""``steno show``: a session as it is printed, whole or in part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from steno.storage.model import NewMessage, format_ms
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Run, home, run

__all__ = ["home", "run"]

CREATED_MS = int(datetime(2024, 1, 15, 10, 30).timestamp() * 1000)  # noqa: DTZ001  as this machine's clock shows it
RULE = "─" * 60


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "steno.db", now_ms=lambda: CREATED_MS) as opened:
        yield opened


@pytest.fixture
def talk(store: Store) -> None:
    """Twelve messages, which take turns."""
    store.create(
        id="abc123def456", title="REST API", provider="anthropic", model="claude-3-5-sonnet-20241022", tags=["go"],
        created_ms=CREATED_MS,
    )  # fmt: skip
    for number in range(1, 13):
        assistant = number % 2 == 0
        store.append(
            "abc123def456",
            NewMessage(
                role="assistant" if assistant else "user",
                content=f"Answer {number}" if assistant else f"Question {number}",
                timestamp=format_ms(CREATED_MS + number * 5000),
                usage={"input_tokens": 1000, "output_tokens": 200 + number} if assistant else None,
            ),
        )


def contents(run: Run, *options: str) -> list[str]:
    return [each["content"] for each in run("show", "abc", *options, "--json").json["messages"]]


@pytest.mark.check("AIN-21")
def test_a_session_is_shown_with_its_head_rules_and_messages(run: Run, talk: None) -> None:
    lines = run("show", "abc123def456").out.splitlines()
    first, last = lines.index(RULE), len(lines) - 1 - lines[::-1].index(RULE)
    assert lines[: first - 1] == [
        "Session: REST API",
        "ID: abc123def456",
        "Status: active",
        "Created: 2024-01-15 10:30:00",
        "Last Updated: 2024-01-15 10:31:00",
        "Provider: anthropic",
        "Model: claude-3-5-sonnet-20241022",
        "Tags: go",
        "Messages: 12",
        "By Role: user 6, assistant 6",
        "Total Tokens: 7,242",
    ]
    assert lines[first : first + 7] == [
        RULE, "", "[User - 10:30:05]", "Question 1", "", "[Assistant - 10:30:10]", "Answer 2",
    ]  # fmt: skip
    assert (last, len([line for line in lines if line.startswith("[")])) == (len(lines) - 1, 12)


@pytest.mark.check("AIN-21")
def test_a_message_is_shown_whole_whatever_its_length_and_script(run: Run, store: Store) -> None:
    text = "é€😀機器\n" * 40_000
    store.create(id="x")
    store.append("x", NewMessage(role="user", content=text))
    assert text in run("show", "x").out


@pytest.mark.check("AIN-21")
def test_a_session_without_messages_says_so(run: Run, store: Store) -> None:
    store.create(id="x", title="T")
    assert run("show", "x").out.splitlines()[-4:] == ["", "No messages in this session yet.", "", RULE]


def test_another_day_is_named_before_its_first_message(run: Run, store: Store) -> None:
    store.create(id="x", created_ms=CREATED_MS)
    for hours in (1, 20, 21):
        store.append(
            "x", NewMessage(role="user", content=f"{hours}", timestamp=format_ms(CREATED_MS + hours * 3600000))
        )
    days = [line for line in run("show", "x").out.splitlines() if line.startswith(("┄┄", "[User"))]
    assert days == ["[User - 11:30:00]", "┄┄ 2024-01-16", "[User - 06:30:00]", "[User - 07:30:00]"]


@pytest.mark.check("AIN-22")
def test_a_summary_has_no_messages(run: Run, talk: None) -> None:
    done = run("show", "abc", "--summary")
    assert "Messages: 12" in done.out
    assert not {RULE, "Question"} & set(done.out.split())
    assert "messages" not in run("show", "abc", "--summary", "--json").json


@pytest.mark.check("AIN-22")
@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (("--limit", "5"), range(1, 6)),
        (("--skip", "10", "--limit", "10"), range(11, 13)),
        (("--skip", "3", "--limit", "4"), range(4, 8)),
        (("--last", "3"), range(10, 13)),
        (("--skip", "99"), range(0)),
    ],
)
def test_a_part_counts_from_the_beginning_or_is_the_newest(
    run: Run, talk: None, options: tuple[str, ...], numbers: range
) -> None:
    assert [int(each.split()[1]) for each in contents(run, *options)] == list(numbers)


@pytest.mark.check("AIN-22")
def test_to_skip_beyond_the_end_is_no_failure(run: Run, talk: None) -> None:
    done = run("show", "abc", "--skip", "12")
    assert (done.code, "[User" in done.out, "No messages" in done.out) == (0, False, False)


@pytest.mark.check("AIN-23")
def test_json_is_one_object_with_the_messages_and_what_they_come_to(run: Run, talk: None) -> None:
    for options in (("--format", "json"), ("--json",), ("--format", "JSON")):
        found = run("show", "abc", *options).json
        assert (found["status"], found["roles"], found["total_tokens"]) == (
            "active", {"user": 6, "assistant": 6}, 7242,
        )  # fmt: skip
        assert len(found["messages"]) == 12


@pytest.mark.check("AIN-23")
def test_tokens_that_nobody_counted_are_not_shown(run: Run, store: Store) -> None:
    store.create(id="x")
    store.append("x", NewMessage(role="user", content="Hello"))
    assert "Tokens" not in run("show", "x").out
    assert run("show", "x", "--json").json["total_tokens"] is None


@pytest.mark.check("AIN-23")
@pytest.mark.parametrize("form", ["markdown", "md"])
def test_markdown_keeps_a_message_as_it_is(run: Run, store: Store, form: str) -> None:
    text = 'Is `a < b` && "c"?\n\n```html\n<b>&amp;</b>\n```'
    store.create(id="x", title="T")
    store.append("x", NewMessage(role="user", content=text))
    done = run("show", "x", "--format", form)
    assert done.out.startswith("# T\n")
    assert f"\n{text}\n" in done.out


@pytest.mark.check("AIN-23")
def test_markdown_of_a_part_has_that_part(run: Run, talk: None) -> None:
    out = run("show", "abc", "--format", "markdown", "--skip", "2", "--limit", "1").out
    assert ("Question 3" in out, "Answer" in out) == (True, False)


@pytest.mark.check("AIN-23")
def test_text_is_what_is_printed_without_a_format(run: Run, talk: None) -> None:
    assert run("show", "abc", "--format", "text").out == run("show", "abc").out


@pytest.mark.check("AIN-23")
def test_another_format_is_refused(run: Run, talk: None) -> None:
    done = run("show", "abc", "--format", "html")
    assert (done.code, done.out) == (2, "")


@pytest.mark.check("AIN-23")
@pytest.mark.parametrize("alias", ["view", "get"])
def test_an_alias_shows(run: Run, talk: None, alias: str) -> None:
    assert run(alias, "abc").out == run("show", "abc").out


@pytest.mark.check("AIN-51")
@pytest.mark.parametrize("status", ["active", "paused", "archived"])
def test_the_status_is_shown(run: Run, store: Store, status: str) -> None:
    store.create(id="x", status=status)
    assert f"\nStatus: {status}\n" in run("show", "x").out
    assert run("show", "x", "--json").json["status"] == status


def test_a_part_of_a_long_session_reads_no_more_than_that(run: Run, store: Store) -> None:
    """What counts is the work: no role and no usage of another message is read."""
    store.create(id="x")
    store.add_messages("x", [NewMessage(role="user", content="x", usage={"total_tokens": 1})] * 3)
    store.execute("UPDATE messages SET usage = 'no JSON' WHERE ord = 1")
    assert run("show", "x", "--last", "1").code == 0
    assert "roles" not in json.loads(run("show", "x", "--last", "1", "--json").out)
