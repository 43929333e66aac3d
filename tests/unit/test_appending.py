"""An append writes no row of the clock: the message is what persists its number and its clock."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.storage.store import Store

NOW_MS = 1_800_000_000_000
NEW = NewMessage(role="user", content="text")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(NOW_MS).__next__) as opened:
        opened.create(id="s")
        opened.append("s", NEW)  # the first one also makes the title
        yield opened


def _marks(store: Store, message_id: str) -> tuple[int, int]:
    return store.one("SELECT seq, clock FROM messages WHERE id = ?", (message_id,))


def _statements(store: Store) -> list[str]:
    run: list[str] = []
    store.connection.set_trace_callback(run.append)
    store.append("s", NEW)
    store.connection.set_trace_callback(None)
    return [statement.split()[0] for statement in run]


def test_an_append_runs_six_statements_at_any_size(store: Store):
    few = _statements(store)
    store.add_messages("s", [NEW] * 500)
    who, append = ["SELECT"], ["SELECT", "INSERT", "UPDATE"]
    assert few == _statements(store) == ["BEGIN", *who, *append, "COMMIT"]


def test_the_number_of_an_append_is_the_last_of_the_feed(store: Store):
    before = store.last_seq
    message = store.append("s", NEW)
    assert _marks(store, message.id)[0] == store.last_seq == before + 1


def test_a_write_after_an_append_takes_the_number_and_a_clock_behind_it(store: Store):
    seq, clock = _marks(store, store.append("s", NEW).id)
    with store.transaction():
        next_seq, next_clock = store.advance()
    assert (next_seq, next_clock > clock) == (seq + 1, True)


def test_an_append_after_a_write_takes_the_number_and_a_clock_behind_it(store: Store):
    with store.transaction():
        seq, clock = store.advance(10)
    own_seq, own_clock = _marks(store, store.append("s", NEW).id)
    assert (own_seq, own_clock > clock + 9) == (seq + 10, True)


def test_an_append_follows_a_clock_that_was_met(store: Store):
    ahead = (NOW_MS + 3_600_000) << 16
    with store.transaction():
        store.follow(ahead)
    clocks = [_marks(store, store.append("s", NEW).id)[1] for _ in range(2)]
    assert clocks == [ahead + 1, ahead + 2]


def test_appends_under_a_wall_that_runs_backwards_keep_their_order(tmp_path: Path):
    with Store(tmp_path / "back.db", now_ms=itertools.count(NOW_MS, -1000).__next__) as store:
        store.create(id="s")
        marks = [_marks(store, store.append("s", NEW).id) for _ in range(5)]
    assert marks == sorted(marks)


def test_another_process_goes_on_behind_an_append(store: Store):
    with Store(store.path, now_ms=lambda: NOW_MS) as other:
        marks = [_marks(store, each.append("s", NEW).id) for each in (store, other, store, other)]
    assert [seq for seq, _ in marks] == list(range(marks[0][0], marks[0][0] + 4))
    assert [clock for _, clock in marks] == sorted({clock for _, clock in marks})


def test_an_append_that_was_undone_leaves_feed_and_clock_as_they_were(store: Store):
    before = store.last_seq
    with contextlib.suppress(RuntimeError), store.transaction():
        store.append("s", NEW)
        raise RuntimeError
    assert store.last_seq == before
    assert _marks(store, store.append("s", NEW).id)[0] == before + 1


def test_what_an_append_looks_up_is_found_by_indexes(store: Store):
    run: list[str] = []
    store.connection.set_trace_callback(run.append)
    store.append("s", NEW)
    store.connection.set_trace_callback(None)
    plan = [row[3] for row in store.execute(f"EXPLAIN QUERY PLAN {run[2]}")]
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN clock"]  # its one row
