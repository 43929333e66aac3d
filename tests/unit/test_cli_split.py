"""``steno show`` marks where devices diverged, and ``steno split`` makes two sessions of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from steno.cli.main import main
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_settling import tell


def add(store: Store, session: str, *ids: str) -> None:
    store.add_messages(session, [NewMessage(id=each, role="user", content=f"text {each}") for each in ids])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The store of a home that diverged from another device once in ``s``, and twice in ``twice``."""
    monkeypatch.setenv("STENO_HOME", str(tmp_path))
    clock = itertools.count(1_800_000_000_000, 1000)
    here, there = (Store(tmp_path / f"{name}.db", now_ms=lambda: next(clock)) for name in ("steno", "other"))
    with here, there:
        for session in ("s", "twice"):
            here.create(id=session, title=f"Title {session}")
            add(here, session, "a")
        tell(here, there)
        add(here, "s", "b", "b1")
        add(there, "s", "c", "c1")
        add(here, "twice", "b")
        add(there, "twice", "c")
        tell(here, there)
        tell(there, here)
        add(here, "twice", "d")
        add(there, "twice", "e")
        tell(there, here)
        yield here


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str, code: int = 0) -> str:
        found = main(arguments)
        said = capsys.readouterr()
        assert found == code, said.err
        return said.err if code else said.out

    return run


def ids(store: Store, session: str) -> list[str]:
    return [each.id for each in store.messages(session)]


def test_show_marks_where_the_second_run_begins_and_says_what_to_do(run: Any):
    lines = [line for line in run("show", "s").splitlines() if line.startswith(("text", "┄┄"))]
    mark = "┄┄ Diverged: what follows (2 messages) was written without knowing of b; steno split s --at c"
    assert lines == ["text a", "text b", "text b1", mark, "text c", "text c1"]


def test_a_part_without_the_place_has_no_mark(run: Any):
    assert "Diverged" not in run("show", "s", "--last", "1")


def test_show_in_json_names_the_places(run: Any):
    expected = [{"at": "c", "anchor": "a", "against": "b", "run": ["c", "c1"]}]
    assert json.loads(run("show", "s", "--json"))["divergences"] == expected


def test_a_split_moves_the_run_and_says_where_to(run: Any, store: Store):
    said = run("split", "s")
    [fork] = {header.id for header in store.sessions()} - {"s", "twice"}
    assert said == f"Moved 2 messages of s to {fork} (Fork of Title s)\n"
    assert (ids(store, "s"), ids(store, fork)) == (["a", "b", "b1"], ["a", "c", "c1"])


def test_a_split_in_json_is_the_session_that_was_made(run: Any, store: Store):
    made = json.loads(run("split", "s", "--json"))
    assert made["forked_from"] == {"session": "s", "message": "a"}
    assert made["message_count"] == len(ids(store, made["id"])) == 3


def test_a_dry_run_names_the_places_and_changes_nothing(run: Any, store: Store):
    before = store.last_seq
    assert run("split", "s", "--dry-run") == (
        "c  2 messages behind a, written without knowing of b: steno split s --at c\n"
    )
    assert [each["at"] for each in json.loads(run("split", "s", "--dry-run", "--json"))] == ["c"]
    assert store.last_seq == before


def test_of_several_places_one_must_be_named(run: Any, store: Store):
    before = store.last_seq
    assert "devices diverged in session twice at c, e: name one" in run("split", "twice", code=3)
    assert store.last_seq == before


def test_the_run_that_is_named_is_moved_and_that_others_are_left_is_said(
    run: Any, store: Store, capsys: pytest.CaptureFixture[str]
):
    assert main(("split", "twice", "--at", "e")) == 0
    assert "Devices diverged there once more: see `steno split twice --dry-run`" in capsys.readouterr().err
    assert ids(store, "twice") == ["a", "b", "c", "d"]


def test_where_nothing_diverged_it_is_said_in_a_line(run: Any):
    run("split", "s")
    assert run("split", "s", code=4) == "Error: no devices diverged in session s\n"


def test_a_place_that_is_none_is_answered_with_where_they_are(run: Any):
    assert "no devices diverged in session s at b: `steno show` marks" in run("split", "s", "--at", "b", code=4)


def test_an_unknown_session_is_not_found(run: Any):
    assert "session not found" in run("split", "nowhere", code=3)
