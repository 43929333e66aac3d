"""Open conflicts say what is shown, what lost, and who wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.conflicts import Conflict, conflicts
from steno.storage.model import NewMessage
from steno.storage.store import Store


class Pair:
    """Two stores that exchange all they have."""

    def __init__(self, folder: Path) -> None:
        self.clock = 1_000
        self.local, self.other = (Store(folder / f"{name}.db", now_ms=self._tick) for name in "ab")
        self.local.create(id="s", title="First", tags=["go"], metadata={"k": 1})
        self.local.append("s", NewMessage(id="m", role="user", content="text"))
        self.exchange()

    def _tick(self) -> int:
        self.clock += 1_000
        return self.clock

    def exchange(self) -> None:
        sent = [local_changes(store, since=0, floor=0, max_bytes=1 << 30)[0] for store in (self.local, self.other)]
        for store, data in zip((self.other, self.local), sent, strict=True):
            if data:
                batch = decode_batch(data)
                for part in slices(batch):
                    with store.transaction():
                        apply(store, batch, part, done=Applied())

    def found(self) -> list[Conflict]:
        here, there = list(conflicts(self.local)), list(conflicts(self.other))
        assert {(each.field, each.shown) for each in here} == {(each.field, each.shown) for each in there}
        return here


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_equal_devices_have_no_conflict(pair: Pair) -> None:
    assert pair.found() == []


@pytest.mark.fault(19)
def test_two_titles_are_a_conflict_that_names_both_and_who_wrote_them(pair: Pair) -> None:
    pair.local.update("s", fields={"title": "Mine"})
    pair.other.update("s", fields={"title": "Theirs"})
    pair.exchange()

    (conflict,) = pair.found()

    assert (conflict.session, conflict.title, conflict.message, conflict.field) == ("s", "Theirs", None, "title")
    assert (conflict.shown.value, conflict.shown.device) == ("Theirs", pair.other.device)
    assert [(each.value, each.device) for each in conflict.others] == [("Mine", pair.local.device)]


def test_two_contents_of_a_message_are_a_conflict_of_that_message(pair: Pair) -> None:
    pair.local.edit_message("s", "m", {"content": "mine"})
    pair.other.edit_message("s", "m", {"content": "theirs"})
    pair.exchange()

    assert [(each.message, each.field, each.others[0].value) for each in pair.found()] == [("m", "content", "mine")]


def test_a_value_against_its_removal_is_a_conflict_that_says_removed(pair: Pair) -> None:
    pair.local.update("s", metadata={"k": None})
    pair.other.update("s", metadata={"k": 2})
    pair.exchange()

    (conflict,) = pair.found()

    assert (conflict.field, conflict.shown.value, conflict.others[0].removed) == ("metadata/k", 2, True)


@pytest.mark.fault(19)
def test_writing_again_settles_a_conflict_on_both_devices(pair: Pair) -> None:
    pair.local.update("s", fields={"title": "Mine"})
    pair.other.update("s", fields={"title": "Theirs"})
    pair.exchange()
    pair.local.update("s", fields={"title": "Ours"})
    pair.exchange()

    assert pair.found() == []


@pytest.mark.fault(21)
def test_a_session_that_stays_because_of_an_unknown_message_is_reported(pair: Pair) -> None:
    pair.local.delete("s")
    pair.other.append("s", NewMessage(role="user", content="still here"))
    pair.exchange()

    assert _deletions(pair) == [("s", None, None, [True])]


@pytest.mark.fault(21)
def test_a_message_that_stays_because_of_an_unknown_edit_is_reported(pair: Pair) -> None:
    pair.local.delete_message("s", "m")
    pair.other.edit_message("s", "m", {"content": "better"})
    pair.exchange()

    assert _deletions(pair) == [("s", "m", None, [True])]


def test_conflicts_of_a_deleted_session_are_not_listed(pair: Pair) -> None:
    pair.local.update("s", fields={"title": "Mine"})
    pair.other.update("s", fields={"title": "Theirs"})
    pair.exchange()
    pair.local.delete("s")
    pair.exchange()

    assert pair.found() == []


def _deletions(pair: Pair) -> list[Any]:
    return [
        (each.session, each.message, each.shown.value, [other.value is not None for other in each.others])
        for each in pair.found()
        if each.field == "deleted"
    ]
