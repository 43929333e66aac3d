"""``steno search``: what it finds, prints and writes; the index itself is tests/unit/test_search.py's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage, format_ms
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Run, home, run

__all__ = ["home", "run"]

DAY_MS = 86_400_000
NOON_MS = int(datetime(2024, 1, 15, 12).timestamp() * 1000)  # noqa: DTZ001  days are those of this machine


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "steno.db") as opened:
        yield opened


@pytest.fixture
def talks(store: Store) -> None:
    """Three sessions about tokens, of the 13th, the 14th and the 15th."""
    for number, provider in ((1, "anthropic"), (2, "openai"), (3, "anthropic")):
        at_ms = NOON_MS - (3 - number) * DAY_MS
        store.create(id=f"s{number}", title=f"Talk {number}", provider=provider, created_ms=at_ms)
        said = NewMessage(
            id=f"m{number}",
            role="user",
            content=f"A JWT is good for authentication {number}",
            timestamp=format_ms(at_ms),
        )
        store.append(f"s{number}", said)
        store.execute("UPDATE sessions SET updated_ms = ?, touched = 0 WHERE id = ?", (at_ms, f"s{number}"))


def found(run: Run, *arguments: str) -> Any:
    return run("search", *arguments, "--json").json


def sessions(run: Run, *arguments: str) -> set[str]:
    return {each["session"] for each in found(run, *arguments)["results"]}


@pytest.mark.check("AIN-44")
def test_words_need_not_be_adjacent_and_title_id_role_and_time_are_shown(run: Run, talks: None) -> None:
    head, snippet = run("search", "JWT authentication", "--limit", "1").out.splitlines()
    assert head == "s3  Talk 3  [user, 2024-01-15 12:00]"
    assert snippet.strip() == "A JWT is good for authentication 3"


@pytest.mark.check("AIN-44")
def test_the_better_match_stands_first(run: Run, store: Store) -> None:
    store.create(id="x", title="T")
    for content in ("token " + "and much else " * 50, "token token"):
        store.append("x", NewMessage(role="user", content=content))
    assert [each["message"]["content"][:11] for each in found(run, "token")["results"]] == [
        "token token",
        "token and m",
    ]


@pytest.mark.check("AIN-44")
@pytest.mark.parametrize(
    ("options", "which"),
    [
        (("--provider", "anthropic"), {"s1", "s3"}),
        (("--since", "2024-01-14"), {"s2", "s3"}),
        (("--until", "2024-01-14"), {"s1", "s2"}),
        (("--date-from", "2024-01-14"), {"s2", "s3"}),
        (("--date-to", "2024-01-14"), {"s1", "s2"}),
        (("--date-from", "2024-01-14", "--date-to", "2024-01-14"), {"s2"}),
        (("--provider", "anthropic", "--since", "2024-01-14"), {"s3"}),
        (("--search", "talk 2"), {"s2"}),
        (("--session", "s1"), {"s1"}),
    ],
)
def test_what_is_found_can_be_narrowed(run: Run, talks: None, options: tuple[str, ...], which: set[str]) -> None:
    assert sessions(run, "jwt", *options) == which


@pytest.mark.check("AIN-44")
def test_dates_of_messages_are_not_those_of_their_session(run: Run, store: Store) -> None:
    store.create(id="x")
    for day in (13, 15):
        store.append("x", NewMessage(role="user", content="jwt", timestamp=f"2024-01-{day}T12:00:00Z"))
    for options in (("--date-to", "2024-01-14"), ("--date-from", "2024-01-14")):
        assert len(found(run, "jwt", *options)["results"]) == 1


@pytest.mark.check("AIN-44")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--limit", "1001"), "search limit exceeds maximum allowed (1000)"),
        (("--limit", "0"), "limit must be a positive integer"),
        (("--date-from", "soon"), "invalid date-from format: soon (use YYYY-MM-DD, "),
        (("--date-from", "2024-02-01", "--date-to", "2024-01-01"), "--date-from is later than --date-to"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: Run, options: tuple[str, ...], said: str) -> None:
    done = run("search", "jwt", *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {said}")


@pytest.mark.check("AIN-44")
@pytest.mark.parametrize("query", ["", "  ", "\t"])
def test_a_blank_query_is_refused(run: Run, query: str) -> None:
    assert run("search", query) == (4, "", "Error: search query cannot be empty\n")


@pytest.mark.check("AIN-44")
def test_fifty_are_shown_unless_more_are_asked_for(run: Run, store: Store) -> None:
    store.create(id="x")
    store.add_messages("x", [NewMessage(role="user", content="jwt")] * 60)
    assert [len(found(run, "jwt", *more)["results"]) for more in ((), ("--limit", "1000"))] == [50, 60]


@pytest.mark.check("AIN-44")
def test_what_is_deleted_is_not_found(run: Run, talks: None, store: Store) -> None:
    store.delete("s1")
    store.delete_message("s2", "m2")
    assert sessions(run, "jwt") == {"s3"}


@pytest.mark.check("AIN-44")
def test_nothing_found_is_no_failure(run: Run, talks: None) -> None:
    assert run("search", "rhododendron") == (0, "", "No results found.\n")


@pytest.mark.check("AIN-44")
@pytest.mark.parametrize(
    "query", ["what's up?", "C++", "a-b", "*", '"', "(", "NEAR/", "AND OR NOT", "%", "\\", "'; --", "日"]
)
def test_an_odd_query_is_a_query(run: Run, talks: None, query: str) -> None:
    done = run("search", "--", query)
    assert (done.code, "Error" in done.err) == (0, False)


@pytest.mark.check("AIN-45")
def test_json_has_messages_names_states_snippets_and_scores(run: Run, talks: None) -> None:
    document = found(run, "jwt", "authentication", "--session", "s2")
    (hit,) = document["results"]
    assert (hit["session_name"], hit["session_status"]) == ("Talk 2", "active")
    assert hit["snippet"] == "A **JWT** is good for **authentication** 2"
    assert (hit["message"]["id"], hit["message"]["role"]) == ("m2", "user")
    assert hit["message"]["content"] == "A JWT is good for authentication 2"
    assert hit["relevance_score"] > 0
    about = {name: document[name] for name in ("total_count", "query", "limit", "offset")}
    assert about == {"total_count": 1, "query": "jwt authentication", "limit": 50, "offset": 0}


@pytest.mark.check("AIN-45")
@pytest.mark.parametrize(("offset", "shown"), [("0", 2), ("2", 1), ("3", 0), ("9", 0)])
def test_all_that_was_found_is_counted_whatever_is_shown(run: Run, talks: None, offset: str, shown: int) -> None:
    document = found(run, "jwt", "--limit", "2", "--offset", offset)
    assert (document["total_count"], len(document["results"]), document["offset"]) == (3, shown, int(offset))


@pytest.mark.check("AIN-45")
def test_what_is_counted_keeps_to_the_filters(run: Run, talks: None, store: Store) -> None:
    store.update("s1", fields={"status": "archived"})
    narrow = ("jwt", "--limit", "1", "--date-to", "2024-01-14")
    assert [found(run, *narrow, *more)["total_count"] for more in ((), ("--archived",))] == [1, 2]


@pytest.mark.check("AIN-45")
def test_a_session_found_by_its_title_has_no_message(run: Run, store: Store) -> None:
    store.create(id="x", title="Rhododendron", tags=["plants"])
    (hit,) = found(run, "rhododendron")["results"]
    assert (hit["session"], hit["message"]) == ("x", None)


@pytest.mark.check("AIN-45")
def test_export_writes_what_json_prints(run: Run, talks: None, tmp_path: Path) -> None:
    place = tmp_path / "new" / "results.json"
    done = run("search", "jwt", "--export", str(place))
    assert (done.code, done.out, done.err) == (0, "", f"Wrote {place} (3 results)\n")
    assert json.loads(place.read_bytes()) == found(run, "jwt")


@pytest.mark.check("AIN-45")
def test_export_that_cannot_be_written_names_the_place_and_leaves_nothing(
    run: Run, talks: None, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    done = run("search", "jwt", "--export", str(tmp_path / "file" / "results.json"))
    assert (done.code, str(tmp_path / "file") in done.err) == (1, True)
    assert run("search", "jwt", "--export", str(tmp_path)).code == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "home"]


def test_export_to_standard_output_prints_it(run: Run, talks: None) -> None:
    assert run("search", "jwt", "--export", "-").json == found(run, "jwt")


def test_more_results_are_told_of(run: Run, talks: None) -> None:
    assert run("search", "jwt", "-n", "1").err == "Showing the best 1 result. Use --limit and --offset to see more.\n"
    assert run("search", "jwt", "-n", "1", "--offset", "1").err.startswith("Showing results 2 to 2. ")
