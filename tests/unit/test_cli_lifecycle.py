"""The verbs that say how a session stands, on the way from its making to its end."""

from __future__ import annotations

import pytest

from steno.storage.current import current_session
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Run, home, run, store

__all__ = ["home", "run", "store"]

WAYS = [("pause", "paused"), ("archive", "archived"), ("activate", "active"), ("resume", "active")]


def _standing(run: Run, session: str) -> str:
    return run("show", session, "--summary", "--json").json["status"]


@pytest.mark.check("AIN-51")
@pytest.mark.parametrize(("verb", "status"), WAYS)
@pytest.mark.parametrize("before", ["active", "paused", "archived"])
def test_every_state_is_reached_from_every_other(run: Run, store: Store, before: str, verb: str, status: str) -> None:
    store.create(id="k3v9", status=before)
    assert run(verb, "k3v9", "--json").json["status"] == status
    assert _standing(run, "k3v9") == status


@pytest.mark.check("AIN-51")
@pytest.mark.parametrize(("verb", "status"), WAYS[:2])
def test_the_state_is_seen_in_the_list_in_show_and_by_a_filter(run: Run, store: Store, verb: str, status: str) -> None:
    for name in ("k3v9", "other"):
        store.create(id=name)
    run(verb, "k3v9")
    [line] = [line for line in run("list", "--status", status).out.splitlines() if "k3v9" in line]
    assert status in line
    assert [each["id"] for each in run("list", "--status", status, "--json").json] == ["k3v9"]
    assert [each["id"] for each in run("list", "--status", "active", "--json").json] == ["other"]
    assert any(line.split() == ["Status:", status] for line in run("show", "k3v9").out.splitlines())


@pytest.mark.check("AIN-51")
@pytest.mark.parametrize("verb", ["pause", "archive"])
def test_a_session_goes_from_its_making_to_its_deletion(run: Run, verb: str) -> None:
    session = run("create", "--title", "Plan", "--json").json["id"]
    assert _standing(run, session) == "active"
    run(verb, session)
    run("resume", session)
    assert _standing(run, session) == "active"
    run("archive", session)
    run("delete", session)
    assert [run("list", "--all", "--json").json, run("show", session).code] == [[], 3]


@pytest.mark.check("AIN-51")
def test_adding_to_an_archived_session_makes_it_active(run: Run, store: Store) -> None:
    store.create(id="k3v9")
    run("archive", "k3v9")
    run("add", "k3v9", "One more thing")
    assert _standing(run, "k3v9") == "active"


def test_adding_to_a_paused_session_leaves_it_paused(run: Run, store: Store) -> None:
    store.create(id="k3v9", status="paused")
    run("add", "k3v9", "A note")
    assert _standing(run, "k3v9") == "paused"


def test_resuming_makes_a_session_the_current_one(run: Run, store: Store) -> None:
    for name in ("k3v9", "other"):
        store.create(id=name, title=name.title())
    done = run("resume", "K3V9")  # by its title
    assert (done.out, current_session(store)) == ("k3v9 (K3V9) is active, and the current session.\n", "k3v9")


@pytest.mark.parametrize("verb", ["pause", "archive", "activate"])
def test_the_other_verbs_leave_the_current_session_as_it_is(run: Run, store: Store, verb: str) -> None:
    for name in ("k3v9", "other"):
        store.create(id=name)
    run("resume", "k3v9")
    run(verb, "other")
    run(verb, "k3v9")
    assert current_session(store) == "k3v9"


def test_what_is_so_already_is_said_and_not_written(run: Run, store: Store) -> None:
    store.create(id="k3v9", title="Plan", status="paused")
    before = store.last_seq
    assert run("pause", "k3v9").out == "k3v9 (Plan) is paused already.\n"
    assert store.last_seq == before


def test_a_title_cannot_steer_the_terminal(run: Run, store: Store) -> None:
    store.create(id="k3v9", title="\u202eevil")
    assert run("archive", "k3v9").out == "k3v9 (\\u202eevil) is archived now.\n"


@pytest.mark.parametrize("verb", ["pause", "archive", "activate", "resume"])
def test_an_unknown_or_deleted_session_is_not_found(run: Run, store: Store, verb: str) -> None:
    store.create(id="gone")
    store.delete("gone")
    assert [run(verb, session).code for session in ("nowhere", "gone")] == [3, 3]
    assert current_session(store) is None
