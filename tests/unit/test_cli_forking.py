"""`steno fork`, `merge` and `tree`: a copy that stands alone, what it brings back, and how forks hang together."""

from __future__ import annotations

import pytest

from steno.storage.forks import fork
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Run, home, run
from steno.tests.unit.test_cli_sessions import store as empty

__all__ = ["empty", "home", "run"]


@pytest.fixture
def store(empty: Store) -> Store:
    """A session of three messages."""
    empty.create(id="plan", title="Plan", metadata={"project": "x", "note": "y"})
    for number in (1, 2, 3):
        empty.append("plan", NewMessage(role="user", content=f"message {number}", id=f"m{number}"))
    return empty


def contents(store: Store, session: str) -> list[object]:
    return [each.content for each in store.messages(session)]


# fork


@pytest.mark.check("AIN-42")
def test_a_branch_is_a_whole_copy_that_is_linked_to_its_origin(run: Run, store: Store) -> None:
    made = run("fork", "plan", "--title", "Branched Session", "--json").json
    assert (made["title"], made["project"], made["message_count"]) == ("Branched Session", "x", 3)
    assert made["forked_from"] == {"session": "plan", "message": "m3"}
    assert contents(store, made["id"]) == contents(store, "plan")


@pytest.mark.check("AIN-42")
def test_what_is_written_to_a_branch_does_not_show_in_its_origin(run: Run, store: Store) -> None:
    made = run("fork", "plan", "--json").json["id"]
    run("add", made, "apart")
    assert (len(contents(store, "plan")), len(contents(store, made))) == (3, 4)


@pytest.mark.parametrize("at", ["m2", "2"])
def test_a_fork_at_a_message_ends_with_it_by_id_or_by_number(run: Run, store: Store, at: str) -> None:
    made = run("fork", "plan", "--at", at, "--json").json
    assert contents(store, made["id"]) == ["message 1", "message 2"]
    assert made["forked_from"]["message"] == "m2"


def test_the_number_of_a_message_is_its_place_among_those_that_are_shown(run: Run, store: Store) -> None:
    store.delete_message("plan", "m1")
    made = run("fork", "plan", "--at", "1", "--json").json
    assert contents(store, made["id"]) == ["message 2"]


def test_an_id_that_looks_like_a_number_is_an_id(run: Run, store: Store) -> None:
    store.append("plan", NewMessage(role="user", content="message 4", id="1"))
    assert run("fork", "plan", "--at", "1", "--json").json["message_count"] == 4


@pytest.mark.parametrize("at", ["m9", "0", "4", "-1", "9" * 30])
def test_a_message_that_is_not_there_is_not_found_and_nothing_is_made(run: Run, store: Store, at: str) -> None:
    assert (run("fork", "plan", "--at", at).code, store.count()[0]) == (3, 1)


def test_a_fork_is_told_with_what_it_was_made_of(run: Run, store: Store) -> None:
    done = run("fork", "plan", "--at", "1")
    made = next(each.id for each in store.sessions() if each.id != "plan")
    assert done.out.splitlines() == [
        f"ID: {made}",
        "Title: Fork of Plan",
        "Status: active",
        "Forked from: plan (Plan)",
        "Messages: 1 of 3",
    ]
    assert f"steno merge {made}" in done.err


def test_the_reason_of_a_fork_is_kept_and_its_metadata_are_merged(run: Run, store: Store) -> None:
    made = run("fork", "plan", "--reason", "Focus", "--metadata", '{"note": null, "a": 1}', "--json").json
    assert (made["forked_from"]["reason"], made["metadata"]) == ("Focus", {"project": "x", "a": 1})


# merge


def test_merging_brings_what_is_new_once(run: Run, store: Store) -> None:
    fork = run("fork", "plan", "--json").json["id"]
    run("add", fork, "apart")
    first, second = run("merge", fork), run("merge", fork)
    assert first.out == f"Merged 1 message of {fork} (Fork of Plan) into plan (Plan)\n"
    assert second.out == f"plan (Plan) has everything of {fork} (Fork of Plan) already\n"
    assert contents(store, "plan") == ["message 1", "message 2", "message 3", "apart"]


def test_what_merging_did_is_printed_as_json(run: Run, store: Store) -> None:
    fork = run("fork", "plan", "--json").json["id"]
    run("add", fork, "apart")
    done = run("merge", fork, "--json").json
    assert (done["fork"], done["into"]["id"], done["into"]["message_count"]) == (fork, "plan", 4)
    assert [each["content"] for each in done["messages"]] == ["apart"]


def test_what_is_no_fork_cannot_be_merged(run: Run, store: Store) -> None:
    assert run("merge", "plan").code == 4


def test_a_fork_of_a_deleted_session_cannot_be_merged(run: Run, store: Store) -> None:
    fork = run("fork", "plan", "--json").json["id"]
    store.delete("plan")
    assert run("merge", fork).code == 3


# tree


@pytest.fixture
def family(store: Store) -> Store:
    """plan ─┬─ one ── deep; and two."""
    for made, source in (("one", "plan"), ("deep", "one"), ("two", "plan")):
        fork(store, source, id=made, title=made.title())
    return store


def test_a_tree_is_drawn_with_all_forks_below(run: Run, family: Store) -> None:
    assert run("tree", "plan").out.splitlines() == [
        "plan  Plan  (3 messages)  ←",
        "├─ one  One  (3 messages)",
        "│  └─ deep  Deep  (3 messages)",
        "└─ two  Two  (3 messages)",
    ]


def test_a_tree_is_drawn_from_the_first_ancestor_down(run: Run, family: Store) -> None:
    fork(family, "deep", id="last", title="Last")
    assert run("tree", "deep").out.splitlines() == [
        "plan  Plan",
        "└─ one  One",
        "   └─ deep  Deep  (3 messages)  ←",
        "      └─ last  Last  (3 messages)",
    ]


def test_a_session_that_is_no_fork_and_has_none_stands_alone(run: Run, store: Store) -> None:
    assert run("tree", "plan").out == "plan  Plan  (3 messages)\n"


def test_a_fork_hangs_where_its_deleted_original_stood(run: Run, family: Store) -> None:
    family.delete("one")
    assert "└─ deep  Deep  (3 messages)" in run("tree", "plan").out.splitlines()
    assert run("tree", "deep").out.splitlines()[1] == "└─ one  One  (deleted)"


def test_a_tree_is_printed_as_json(run: Run, family: Store) -> None:
    found = run("tree", "one", "--json").json
    assert (found["session"]["id"], found["session"]["message_count"]) == ("one", 3)
    assert found["ancestors"] == [{"id": "plan", "title": "Plan", "deleted": False}]
    assert [(each["id"], each["parent"], each["depth"]) for each in found["forks"]] == [("deep", "one", 1)]


def test_forks_that_name_each_other_in_a_circle_are_drawn_once_each(run: Run, store: Store) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        store.create(id=name, title="T", forked_from={"session": other, "message": None})
    assert run("tree", "a").out.splitlines() == ["b  T", "└─ a  T  (0 messages)  ←", "   └─ b  T  (0 messages)"]


def test_a_long_chain_of_forks_is_drawn(run: Run, store: Store) -> None:
    for number in range(1, 60):
        fork(store, "plan" if number == 1 else f"f{number - 1}", id=f"f{number}", title="F")
    lines = run("tree", "plan").out.splitlines()
    assert (len(lines), lines[-1].strip()) == (60, "└─ f59  F  (3 messages)")
