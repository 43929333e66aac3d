"""A session as it was: what the store showed at any number of its feed, it can show again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.history import Past
from steno.storage.model import NewMessage
from steno.storage.state import load
from steno.storage.store import Store
from steno.tests.simulation.test_stores_converge import SESSIONS, step

NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(NOW_MS).__next__) as opened:
        yield opened


def filled(store: Store) -> int:
    """A session of two messages; the number of the feed at which it is so."""
    store.create(id="s", title="T", tags=["a", "b"], metadata={"k": 1, "deep": {"l": 1}}, provider="p")
    for each in ("one", "two"):
        store.append("s", NewMessage(role="user", content=each, id=each, metadata={"x": 1}))
    return store.last_seq


def past(store: Store, seq: int, session: str = "s") -> Past:
    row = store.find(session)
    assert row is not None
    return Past(store, row, seq)


def contents(found: Past) -> list[Any]:
    return [message.content for _, message in found.messages()]


def test_now_is_the_past_of_now(store: Store):
    found = past(store, filled(store))
    assert found.header() == store.get("s")
    assert [message for _, message in found.messages()] == list(store.messages("s"))


def test_an_edited_message_is_as_it_was(store: Store):
    seq = filled(store)
    before = list(store.messages("s"))
    changes = {"content": "1", "sender": "x", "model": "y", "usage": {"z": 1}, "timestamp": "2020-01-01T00:00:00Z"}
    store.edit_message("s", "one", {**changes, "metadata": {"x": None, "y": 2}})
    store.edit_message("s", "one", {"content": "2"})
    assert [message for _, message in past(store, seq).messages()] == before


def test_each_state_between_two_edits_is_there(store: Store):
    seqs = [filled(store)]
    for content in ("1", "2", "3"):
        store.edit_message("s", "one", {"content": content})
        seqs.append(store.last_seq)
    assert [contents(past(store, seq))[0] for seq in seqs] == ["one", "1", "2", "3"]


def test_messages_that_arrived_later_were_not_there(store: Store):
    seq = filled(store)
    store.append("s", NewMessage(role="user", content="three"))
    store.append("s", NewMessage(role="user", content="between", after="one"))
    assert contents(past(store, seq)) == ["one", "two"]


def test_a_message_that_was_deleted_later_was_there(store: Store):
    seq = filled(store)
    store.delete_message("s", "one")
    assert contents(past(store, seq)) == ["one", "two"]
    assert contents(past(store, store.last_seq)) == ["two"]


def test_a_session_that_was_deleted_and_restored_was_empty_in_between(store: Store):
    before = filled(store)
    store.delete("s")
    deleted = store.last_seq
    store.restore("s")
    assert contents(past(store, before)) == ["one", "two"]
    assert contents(past(store, deleted)) == []
    assert contents(past(store, store.last_seq)) == ["one", "two"]


def test_a_deleted_session_that_was_added_to_shows_the_new_message_only(store: Store):
    before = filled(store)
    store.delete("s")
    store.append("s", NewMessage(role="user", content="three"))
    after = store.last_seq
    store.append("s", NewMessage(role="user", content="four"))
    assert contents(past(store, before)) == ["one", "two"]
    assert contents(past(store, after)) == ["three"]


def test_the_header_is_as_it_was(store: Store):
    seq = filled(store)
    before = store.get("s")
    fields = {"title": "U", "status": "archived", "provider": "q", "model": "m", "user_id": "ann"}
    store.update("s", fields=fields, tags=["b", "c"], metadata={"k": None, "deep": {"m": 2}, "new": []}, state={"z": 1})
    found = past(store, seq).header()
    for name in ("title", "status", "provider", "model", "user_id", "tags", "metadata", "state"):
        assert getattr(found, name) == getattr(before, name), name


def test_a_title_that_was_automatic_is_the_one_that_was_shown_then(store: Store):
    store.create(id="s")
    store.append("s", NewMessage(role="user", content="hello", id="one"))
    seq = store.last_seq
    store.edit_message("s", "one", {"content": "good-bye"})
    store.update("s", fields={"title": "given"})
    then = past(store, seq).header()
    assert (then.title, then.automatic_title) == ("hello", True)


def test_what_was_known_then_does_not_cover_what_was_written_since(store: Store):
    seq = filled(store)
    row = next(store.message_rows(1))
    store.edit_message("s", "one", {"content": "1", "metadata": {"x": 2}})
    store.update("s", fields={"title": "U"})
    found, row = past(store, seq), next(store.message_rows(row.session))
    for each, path in ((row, "content"), (row, "metadata/x"), (None, "title")):
        now = load(store, row.session, each, path)
        assert all(found.known(each, path).get(stamp.writer, -1) < stamp.clock for stamp in now.open)
        assert found.known(each, path)


def test_nothing_was_known_of_what_was_not_there(store: Store):
    seq = filled(store)
    store.append("s", NewMessage(role="user", content="three", id="three"))
    store.update("s", metadata={"new": 1})
    found = past(store, seq)
    row = list(store.message_rows(1))[-1]
    assert (found.known(row, "content"), found.known(None, "metadata/new")) == ({}, {})


def test_what_was_pulled_later_was_not_there(store: Store, tmp_path: Path):
    with Store(tmp_path / "other.db", now_ms=itertools.count(NOW_MS).__next__) as other:
        seq = filled(store)
        _exchange(store, other)
        other.edit_message("s", "two", {"content": "2"})
        other.append("s", NewMessage(role="user", content="three"))
        other.update("s", fields={"title": "theirs"})
        _exchange(other, store)
    assert store.get("s").title == "theirs"
    assert (past(store, seq).header().title, contents(past(store, seq))) == ("T", ["one", "two"])


def _exchange(source: Store, target: Store) -> None:
    data, _, _ = local_changes(source, since=0, floor=0, max_bytes=1 << 30)
    batch = decode_batch(data)
    for part in slices(batch):
        with target.transaction():
            apply(target, batch, part, done=Applied())


class _Writer:
    """What `step` writes through, with a feed whose every state is remembered."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.store = Store(path, now_ms=itertools.count(NOW_MS).__next__)
        self.captured = 0
        self.rng = rng
        self.shown: dict[int, dict[str, Any]] = {}

    def remember(self) -> None:
        self.shown[self.store.last_seq] = {
            session: _shown(header := self.store.get(session, deleted=True), self._messages(header.deleted_at, session))
            for session in SESSIONS
            if self.store.find(session)
        }

    def _messages(self, deleted_at: str | None, session: str) -> list[Any]:
        return [] if deleted_at else list(self.store.messages(session))


def _shown(header: Any, messages: list[Any]) -> Any:
    title = None if header.automatic_title else header.title
    fields = (title, header.status, header.tags, header.metadata, header.state)
    return fields, sorted((m.id, m.role, str(m.content), str(m.metadata), m.timestamp) for m in messages)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_was_shown_at_a_number_can_be_shown_again(tmp_path: Path, seed: int):
    rng = random.Random(seed)
    here, there = (_Writer(tmp_path / f"{name}.db", rng) for name in "ab")
    sent = {here: 0, there: 0}
    for _ in range(40):
        writer = rng.choice([here, there])
        if rng.random() < 0.8:
            step(writer, rng)  # pyright: ignore[reportArgumentType]
        else:
            source, target = (there, here) if writer is here else (here, there)
            data, upto, _ = local_changes(source.store, since=sent[source], floor=sent[source], max_bytes=1 << 30)
            sent[source] = upto
            if data:
                batch = decode_batch(data)
                for part in slices(batch):
                    with target.store.transaction():
                        apply(target.store, batch, part, done=Applied())
        here.remember()
    for seq, shown in here.shown.items():
        for session, wanted in shown.items():
            found = past(here.store, seq, session)
            assert _shown(found.header(), [message for _, message in found.messages()]) == wanted, f"{session} at {seq}"
    for writer in (here, there):
        writer.store.close()
