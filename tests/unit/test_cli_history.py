"""``steno history`` tells what was written to a session, and shows it as it was at any moment of this store."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steno.cli.main import main
from steno.storage.apply import Applied, apply
from steno.storage.change import decode_batch, local_changes
from steno.storage.model import NewMessage, format_ms, parse_time
from steno.storage.purge import purge_history
from steno.storage.store import Store

Run = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STENO_HOME", str(tmp_path))
    clock = itertools.count(1_700_000_000_000, 60_000)
    with Store(tmp_path / "steno.db", now_ms=lambda: next(clock)) as store:
        store.create(id="s", title="First", tags=["a"])
        store.append("s", NewMessage(id="m", role="user", content="one"))
        store.append("s", NewMessage(id="n", role="assistant", content="answer"))
        yield store


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, code: int = 0) -> str:
        found = main(("history", *arguments))
        said = capsys.readouterr()
        assert found == code, said.err
        return said.err if code else said.out

    return run


def at(run: Run, moment: object) -> Any:
    return json.loads(run("s", "--at", str(moment), "--json"))


def test_a_value_that_another_one_beats_is_not_said_to_have_replaced_it(store: Store, run: Run, tmp_path: Path):
    with Store(tmp_path / "other.db", now_ms=lambda: 1_600_000_000_000) as other:
        whole = decode_batch(local_changes(store, since=0, floor=0, max_bytes=1 << 20)[0])
        with other.transaction():
            apply(other, whole, whole.sessions, done=Applied())
        since = other.last_seq
        other.update("s", fields={"title": "Earlier"})
        for minute in range(3):
            store.update("s", fields={"title": f"Later {minute}"})
        batch = decode_batch(local_changes(other, since=since, floor=since, max_bytes=1 << 20)[0])
        with store.transaction():
            apply(store, batch, batch.sessions, done=Applied())
    assert run("s").splitlines()[-1].endswith('title: "Earlier", which another value beats')


def test_each_write_is_a_line_with_what_stood_there_before(store: Store, run: Run):
    store.update("s", fields={"title": "Second"})
    store.edit_message("s", "m", {"content": "two " * 100})
    store.delete_message("s", "n")
    told = [line.partition("this device  ")[2] for line in run("s").splitlines()]
    assert told[0] == "session made"
    assert told[1:5] == [
        "tags/a: nothing -> 1", 'title: nothing -> "First"', 'message m added (user): "one"',
        'message n added (assistant): "answer"',
    ]  # fmt: skip
    assert told[5] == 'title: "First" -> "Second"'
    assert told[6].startswith('message m content: "one" -> "two two')
    assert len(told[6]) < 120
    assert told[7] == "message n deleted"


def test_the_newest_entries_can_be_told_alone(store: Store, run: Run):
    store.update("s", fields={"title": "Second"})
    found = json.loads(run("s", "--last", "1", "--json"))
    assert [(each["path"], each["before"], each["after"]) for each in found] == [("title", "First", "Second")]


def test_one_message_can_be_told_alone(run: Run):
    assert {each["message"] for each in json.loads(run("s", "--message", "m", "--json"))} == {"m"}


def test_every_moment_shows_what_the_session_was_then(store: Store, run: Run):
    seen: list[tuple[int, Any, Any]] = []
    for change in (
        lambda: store.update("s", fields={"title": "Second"}, metadata={"k": {"l": 1}}),
        lambda: store.edit_message("s", "m", {"content": "edited"}),
        lambda: store.delete_message("s", "n"),
        lambda: store.update("s", tags=["b"], metadata={"k": None}),
        lambda: store.append("s", NewMessage(role="user", content="late")),
        lambda: store.clear("s"),
    ):
        header = store.get("s")
        seen.append((store.last_seq, (header.title, header.tags, header.metadata, header.message_count), [
            (each.id, each.content) for each in store.messages("s")
        ]))  # fmt: skip
        change()
    for seq, header, messages in seen:
        then = at(run, seq)
        assert (then["title"], then["tags"], then["metadata"], then["message_count"]) == header
        assert [(each["id"], each["content"]) for each in then["messages"]] == messages


def test_a_time_shows_what_the_session_was_then(store: Store, run: Run):
    moment = store.last_seq
    before = format_ms(parse_time(json.loads(run("s", "--json"))[-1]["at"]) + 1)
    store.update("s", fields={"title": "Second"})
    then = at(run, before)
    assert (then["title"], then["seq"]) == ("First", moment)


def test_a_time_without_a_zone_is_one_of_this_machine(run: Run):
    assert at(run, "2100-01-01 00:00")["title"] == "First"


def test_a_deleted_session_is_shown_as_it_was_and_as_deleted(store: Store, run: Run):
    before = store.last_seq
    store.delete("s")
    assert (at(run, before)["deleted_at"], len(at(run, before)["messages"])) == (None, 2)
    assert (at(run, store.last_seq)["deleted_at"] is not None, at(run, store.last_seq)["messages"]) == (True, [])


def test_people_see_the_session_as_it_is_shown_elsewhere(store: Store, run: Run):
    store.update("s", fields={"title": "Second"})
    shown = run("s", "--at", str(store.last_seq - 1))
    assert "First" in shown
    assert "Second" not in shown


@pytest.mark.parametrize("moment", ["0", "99999", "never", "1999-01-01"])
def test_a_moment_at_which_there_was_no_session_is_refused(run: Run, moment: str):
    run("s", "--at", moment, code=4)


def test_what_was_purged_is_not_shown(store: Store, run: Run):
    before = store.last_seq
    store.edit_message("s", "m", {"content": "two"})
    purge_history(store, "s")
    assert "is purged" in run("s", "--at", str(before), code=4)
    assert at(run, store.last_seq)["messages"][0]["content"] == "two"


def test_nothing_is_written_by_looking_back(store: Store, run: Run):
    before = store.last_seq
    run("s")
    run("s", "--at", str(before))
    assert store.last_seq == before


@pytest.mark.parametrize("wrong", [["--message", "m"], ["--last", "1"]])
def test_at_goes_alone(run: Run, wrong: list[str]):
    run("s", "--at", "3", *wrong, code=2)
