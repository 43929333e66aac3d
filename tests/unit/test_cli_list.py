"""``steno list``: which sessions it shows, in which order, page by page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from steno.cli import terminal
from steno.cli.listing import _NOT_ARCHIVED
from steno.storage import listing
from steno.storage.listing import Filter
from steno.storage.model import NewMessage, format_ms
from steno.storage.store import Store
from steno.tests.server_fixtures import need
from steno.tests.unit.test_cli_sessions import Run, home, run

__all__ = ["home", "run"]

DAY_MS = 86_400_000
NOON_MS = int(datetime(2024, 1, 15, 12).timestamp() * 1000)  # noqa: DTZ001  days are those of this machine


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "steno.db") as opened:
        yield opened


@pytest.fixture
def five(store: Store) -> None:
    """Five sessions, one a day, the last of them on the 15th."""
    about: list[dict[str, Any]] = [
        {"title": "OAuth Implementation", "provider": "anthropic", "tags": ["go", "auth"], "user_id": "ada"},
        {"title": "zebra crossing", "provider": "openai", "tags": ["go"], "metadata": {"project": "backend"}},
        {"title": "About oauth again", "provider": "anthropic", "tags": ["auth", "go"], "user_id": "ada"},
        {"title": "Übung", "status": "paused", "metadata": {"project": "backend"}, "tags": ["go"]},
        {"title": "Last", "provider": "Anthropic", "metadata": {"project": "web"}},
    ]
    for number, each in enumerate(about, start=1):
        at_ms = NOON_MS - (5 - number) * DAY_MS
        with store.transaction():
            store.create(id=f"s{number}", created_ms=at_ms, **each)
            store.add_messages(
                f"s{number}", [NewMessage(role="user", content="x", timestamp=format_ms(at_ms))] * (number % 3)
            )
            # What is written is written now; these were written long ago.
            store.execute("UPDATE sessions SET updated_ms = ?, touched = 0 WHERE id = ?", (at_ms, f"s{number}"))


def listed(run: Run, *options: str) -> list[str]:
    return [each["id"] for each in run("list", *options, "--json").json]


@pytest.mark.check("AIN-10")
def test_the_ten_last_written_to_are_listed_one_on_a_line_without_colours(run: Run, store: Store) -> None:
    for number in range(12):
        store.create(id=f"s{number:02d}", title="T", created_ms=number * 1000)
    heads, *lines = run("list").out.splitlines()
    assert heads.split() == ["ID", "TITLE", "CREATED", "MESSAGES"]
    assert [line.split()[0] for line in lines] == [f"s{number:02d}" for number in range(11, 1, -1)]
    assert "\x1b" not in "".join(lines)


@pytest.mark.check("AIN-11")
def test_all_lists_250_of_250(run: Run, store: Store) -> None:
    with store.transaction():
        for number in range(250):
            store.create(id=f"s{number}")
    assert len(listed(run, "--all")) == 250


@pytest.mark.check("AIN-12")
def test_a_limit_is_kept(run: Run, store: Store) -> None:
    with store.transaction():
        for number in range(30):
            store.create(id=f"s{number}")
    assert [len(listed(run, *limit)) for limit in (("--limit", "20"), ("-n", "5"))] == [20, 5]


def test_a_limit_may_be_beyond_all_bounds(run: Run, five: None) -> None:
    assert len(listed(run, "--limit", "9" * 20)) == 5


@pytest.mark.check("AIN-12")
@pytest.mark.parametrize("limit", ["0", "-1", "-999"])
def test_a_limit_that_is_not_positive_is_refused_with_nothing_printed(run: Run, five: None, limit: str) -> None:
    done = run("list", "--limit", limit)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: limit must be a positive integer")


@pytest.mark.check("AIN-13")
@pytest.mark.parametrize("text", ["OAuth", "oauth", "OAUTH"])
def test_search_finds_a_part_of_the_title_in_any_case(run: Run, five: None, text: str) -> None:
    assert listed(run, "--search", text) == ["s3", "s1"]


@pytest.mark.check("AIN-14")
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--since", "2024-01-13"), ["s5", "s4", "s3"]),
        (("--until", "2024-01-13"), ["s3", "s2", "s1"]),
        (("--since", "2024-01-13", "--until", "2024-01-13"), ["s3"]),
        (("--since", "2024-01-12", "--until", "2024-01-14"), ["s4", "s3", "s2"]),
        (("--until", "30d"), ["s5", "s4", "s3", "s2", "s1"]),
        (("--since", "30d"), []),
        (("--since", "yesterday"), []),
        (("--since", format_ms(NOON_MS)), ["s5"]),
        (("--until", format_ms(NOON_MS - 4 * DAY_MS)), ["s1"]),
    ],
)
def test_since_and_until_mean_whole_days_each_alone_and_together(
    run: Run, five: None, options: tuple[str, ...], found: list[str]
) -> None:
    assert listed(run, *options) == found


@pytest.mark.check("AIN-14")
def test_what_was_written_now_is_of_today(run: Run, store: Store) -> None:
    store.create(id="now")
    today = date.today()  # noqa: DTZ011
    assert listed(run, "--since", str(today - timedelta(days=1)), "--until", str(today + timedelta(days=1))) == ["now"]


@pytest.mark.check("AIN-14")
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_date_that_is_none_is_refused_with_the_forms_that_are(run: Run, option: str) -> None:
    done = run("list", option, "01/02/2024")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: invalid {option[2:]} format: 01/02/2024 (use YYYY-MM-DD, ")


@pytest.mark.check("AIN-14")
@pytest.mark.parametrize("until", ["2024-01-31", "2024-01-31T23:59:59"])
def test_since_later_than_until_is_refused(run: Run, until: str) -> None:
    done = run("list", "--since", "2024-02-01", "--until", until)
    assert (done.code, done.err) == (2, "Error: --since is later than --until: see `steno list --help`\n")


@pytest.mark.check("AIN-15")
def test_a_provider_is_meant_in_any_case(run: Run, five: None) -> None:
    assert listed(run, "--provider", "anthropic") == ["s5", "s3", "s1"]


@pytest.mark.check("AIN-16")
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--tag", "go"), ["s4", "s3", "s2", "s1"]),
        (("--tag", "go", "--tag", "auth"), ["s3", "s1"]),
        (("--project", "backend"), ["s4", "s2"]),
        (("--tag", "go", "--project", "backend"), ["s4", "s2"]),
        (("--tag", "go", "--project", "backend", "--provider", "openai"), ["s2"]),
        (("--search", "oauth", "--until", "2024-01-12"), ["s1"]),
        (("--user", "ada", "--since", "2024-01-12"), ["s3"]),
        (("--status", "paused", "--tag", "auth"), []),
    ],
)
def test_all_filters_must_hold(run: Run, five: None, options: tuple[str, ...], found: list[str]) -> None:
    assert listed(run, *options) == found


@pytest.mark.check("AIN-17")
@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("date", ["s5", "s4", "s3", "s2", "s1"]),
        ("title", ["s3", "s5", "s1", "s2", "s4"]),
        ("messages", ["s5", "s2", "s4", "s1", "s3"]),
    ],
)
def test_a_list_is_sorted_and_turned_around_exactly(run: Run, five: None, sort: str, found: list[str]) -> None:
    assert listed(run, "--sort", sort) == found
    assert listed(run, "--sort", sort, "--reverse") == found[::-1]


@pytest.mark.check("AIN-17")
@pytest.mark.parametrize("option", [("--sort", "size"), ("--status", "lost")])
def test_another_sort_or_status_is_refused(run: Run, option: tuple[str, str]) -> None:
    done = run("list", *option)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_nothing_is_shared_yet(run: Run, five: None) -> None:
    assert listed(run, "--shared", "--all") == []


@pytest.mark.check("AIN-19")
def test_json_is_one_array_with_every_field_and_nothing_else(run: Run, five: None) -> None:
    for option in (("--json",), ("--format", "json")):
        found = run("list", *option)
        fields = "id title name status provider model created_at updated_at message_count tags project metadata"
        assert all({*fields.split()} <= each.keys() for each in found.json)
        assert (len(found.json), found.err) == (5, "")


@pytest.mark.check("AIN-19")
def test_json_of_an_empty_list_is_an_empty_array(run: Run) -> None:
    assert run("list", "--json").out == "[]\n"


@pytest.mark.check("AIN-19")
@pytest.mark.parametrize(
    ("recipe", "found"),
    [
        ("length", 5),
        (
            "group_by(.provider) | map({provider: .[0].provider, count: length}) | map([.provider, .count])",
            [[None, 1], ["Anthropic", 1], ["anthropic", 2], ["openai", 1]],
        ),
        ("[.[] | .message_count] | add / length", 1.2),
        ("[.[] | .id]", ["s5", "s4", "s3", "s2", "s1"]),
        ('[.[] | select(.id | contains("s4")) | .title]', ["Übung"]),
    ],
)
def test_the_recipes_for_jq_work(run: Run, five: None, recipe: str, found: object) -> None:
    need("jq", package="jq")
    out = run("list", "--all", "--format", "json").out
    done = subprocess.run(["jq", recipe], input=out, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == found


@pytest.mark.check("AIN-20")
@pytest.mark.parametrize("alias", ["ls", "l"])
def test_an_alias_lists(run: Run, five: None, alias: str) -> None:
    assert run(alias).out == run("list").out


@pytest.mark.check("AIN-20")
def test_an_empty_store_says_so_and_how_to_make_a_session(run: Run) -> None:
    done = run("list")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[0] == "No sessions found."
    assert "steno create --title" in done.err


@pytest.mark.check("AIN-20")
def test_a_capped_list_says_so(run: Run, store: Store) -> None:
    with store.transaction():
        for number in range(11):
            store.create(id=f"s{number}")
    assert run("list").err == "Showing 10 sessions. Use --all to see all sessions.\n"
    assert run("list", "--all").err == ""


@pytest.mark.check("AIN-51")
def test_a_list_shows_the_status_where_a_session_is_not_active(run: Run, five: None) -> None:
    heads, *lines = run("list").out.splitlines()
    assert heads.split()[-1] == "STATUS"
    assert {line.split()[0]: line.split()[-1] for line in lines}["s4"] == "paused"


@pytest.mark.check("AIN-51")
@pytest.mark.parametrize("status", ["active", "paused", "archived"])
def test_the_status_stands_in_json_and_can_be_asked_for(run: Run, store: Store, status: str) -> None:
    for each in ("active", "paused", "archived"):
        store.create(id=each, status=each)
    assert [(each["id"], each["status"]) for each in run("list", "--status", status, "--json").json] == [(status,) * 2]


@pytest.mark.check("AIN-40")
@pytest.mark.parametrize("options", [("--all",), ("--archived",), ("--status", "archived")])
def test_archived_sessions_are_listed_when_they_are_asked_for(run: Run, store: Store, options: tuple[str, ...]) -> None:
    store.create(id="away", status="archived")
    assert (listed(run), listed(run, *options)) == ([], ["away"])


@pytest.mark.parametrize("sort", ["date", "title", "messages"])
@pytest.mark.parametrize("reverse", [(), ("--reverse",)])
def test_pages_show_each_session_once(run: Run, store: Store, sort: str, reverse: tuple[str, ...]) -> None:
    with store.transaction():
        for number in range(11):
            store.create(id=f"s{number}", title="ÄaBb"[number % 4], created_ms=number // 3)
    shown, cursor = [], ""
    while cursor is not None:
        page = run("list", "-n", "3", "--sort", sort, *reverse, "--cursor", cursor, "--json").json
        shown += [each["id"] for each in page["sessions"]]
        cursor = page["next"]
    assert shown == listed(run, "--all", "--sort", sort, *reverse)
    assert len(shown) == 11


def test_a_page_for_people_says_where_it_goes_on(run: Run, five: None) -> None:
    token = run("list", "-n", "2").err.split()[-1]
    assert [line.split()[0] for line in run("list", "--cursor", token).out.splitlines()[1:]] == ["s3", "s2", "s1"]


def test_what_is_written_meanwhile_moves_no_page(run: Run, five: None, store: Store) -> None:
    token = run("list", "-n", "2", "--cursor", "", "--json").json["next"]
    store.create(id="new")
    following = run("list", "-n", "2", "--cursor", token, "--json").json
    assert [each["id"] for each in following["sessions"]] == ["s3", "s2"]


@pytest.mark.parametrize("cursor", ["x", "é", "W10", "bm9uZQ", "WyJkYXRlIixmYWxzZSx7fSwiYSJd"])
def test_a_cursor_that_no_list_gave_is_refused(run: Run, five: None, cursor: str) -> None:
    done = run("list", "--cursor", cursor)
    assert (done.code, done.out) == (4, "")
    assert "begin again without a cursor" in done.err


def test_a_cursor_of_another_order_is_refused(run: Run, five: None) -> None:
    token = run("list", "-n", "2").err.split()[-1]
    assert [run("list", *other, "--cursor", token).code for other in (("--sort", "title"), ("--reverse",))] == [4, 4]


def test_a_title_is_cut_to_the_terminal_and_the_status_stays(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(id="x", title="long " * 50, status="paused")
    monkeypatch.setattr(terminal, "columns", lambda: 80)
    assert all(len(line) < 80 for line in run("list").out.splitlines())
    assert run("list").out.splitlines()[1].endswith("paused")


def test_the_first_page_reads_no_more_than_its_sessions(store: Store, run: Run) -> None:
    """Steps of SQLite's machine for a store, and for one of four times as many sessions."""
    steps = []
    for more in (100, 300):
        with store.transaction():
            for number in range(more):
                store.create(id=f"{more}-{number}", created_ms=number * 1000)
        steps.append(_steps(store))
    assert all(later < earlier * 1.5 for earlier, later in pairwise(steps))


def _steps(store: Store) -> int:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    store.connection.set_progress_handler(step, 1)
    assert len(list(listing.listed(store, Filter(also=(_NOT_ARCHIVED,)), limit=11))) == 11
    store.connection.set_progress_handler(None, 1)
    return count
