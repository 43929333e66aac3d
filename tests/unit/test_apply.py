"""Taking in what others wrote: twice is once, any order is one state, and what cannot be is refused alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import Batch, RegisterState, SessionChange, decode_batch, encode_batch, local_changes
from steno.storage.doctor import examine
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.rows import Born, SessionBirth
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.tests.simulation.test_stores_converge import state

NOW_MS = 1_800_000_000_000
CLOCK = NOW_MS << 16
SENDER = "s" * 12


class Stores:
    """Stores that share a clock, and what each of them sent last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = itertools.count(NOW_MS).__next__
        self.opened: list[Store] = []
        self.sent: dict[str, int] = {}

    def open(self) -> Store:
        store = Store(self._folder / f"{len(self.opened)}.db", now_ms=self._now)
        self.opened.append(store)
        return store

    def news(self, store: Store) -> Batch:
        """What a store wrote since it was asked last."""
        floor = self.sent.get(store.device, 0)
        data, self.sent[store.device], _ = local_changes(store, since=floor, floor=floor, max_bytes=1 << 30)
        return decode_batch(data)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path)
    yield made
    for store in made.opened:
        store.close()


@pytest.fixture
def store(stores: Stores) -> Store:
    return stores.open()


def take(store: Store, *batches: Batch, rows: int = 2000) -> Applied:
    done = Applied()
    for batch in batches:
        for part in slices(batch, rows=rows):
            with store.transaction():
                apply(store, batch, part, done=done)
    return done


def new(content: str, **fields: Any) -> NewMessage:
    return NewMessage(role="user", content=content, id=content, **fields)


def contents(store: Store, session: str = "s") -> list[Any]:
    return [message.content for message in store.messages(session)]


def written(stores: Stores, source: Store) -> list[Batch]:
    """A life of a session in several batches."""
    batches = []
    source.create(id="s", title="First", tags=["a", "b"], metadata={"k": {"l": 1}})
    source.add_messages("s", [new("one"), new("two", metadata={"x": 1})])
    batches.append(stores.news(source))
    source.append("s", new("between", after="one"))
    source.edit_message("s", "two", {"content": "2", "metadata": {"x": None, "y": 2}})
    batches.append(stores.news(source))
    source.update("s", fields={"title": "Second"}, tags=["b", "c"], metadata={"k": {"m": 2}})
    source.delete_message("s", "one")
    batches.append(stores.news(source))
    source.append("s", new("three"))
    source.delete("s")
    batches.append(stores.news(source))
    source.restore("s")
    source.append("s", new("four"))
    batches.append(stores.news(source))
    return batches


# Twice, in any order, in any parts


def test_what_is_applied_is_what_was_written(stores: Stores, store: Store):
    source = stores.open()
    done = take(store, *written(stores, source))
    assert state(store) == state(source)
    assert (done.messages, done.refused) == (5, [])
    assert store.get("s") == source.get("s")


def test_applying_twice_changes_nothing(stores: Stores, store: Store):
    batches = written(stores, stores.open())
    take(store, *batches)
    before, seq = state(store), store.last_seq
    done = take(store, *batches)
    assert (state(store), store.last_seq) == (before, seq)
    assert done == Applied()


def test_every_order_ends_in_the_same_state(stores: Stores):
    source = stores.open()
    batches = written(stores, source)
    for order in itertools.permutations(batches):
        target = stores.open()
        assert take(target, *order).refused == []
        assert state(target) == state(source)
        assert target.one("SELECT count(*) FROM waiting")[0] == 0
        assert not target.get("s").incomplete


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_slices_of_any_size_end_in_the_same_state(stores: Stores, store: Store, rows: int):
    source = stores.open()
    take(store, *written(stores, source), rows=rows)
    assert state(store) == state(source)


def test_a_slice_is_about_as_large_as_it_was_asked_to_be(stores: Stores):
    source = stores.open()
    source.create(id="s", title="T")
    source.add_messages("s", [new(str(at)) for at in range(95)])
    parts = list(slices(stores.news(source), rows=10))
    assert [sum(len(change.messages) for change in part) for part in parts][:9] == [10] * 9
    assert sum(len(change.messages) for part in parts for change in part) == 95


@pytest.mark.fault(6)
def test_an_edit_that_arrives_before_its_message_waits_and_marks_the_session(stores: Stores, store: Store):
    source = stores.open()
    source.create(id="s")
    first = stores.news(source)
    source.append("s", new("one"))
    birth = stores.news(source)
    source.edit_message("s", "one", {"content": "1"})
    edit = stores.news(source)
    take(store, first, edit)
    assert store.get("s").incomplete
    assert contents(store) == []
    take(store, birth)
    assert not store.get("s").incomplete
    assert contents(store) == ["1"]


@pytest.mark.fault(6)
def test_a_message_whose_anchor_has_not_arrived_stands_at_the_end_and_marks_the_session(stores: Stores, store: Store):
    source = stores.open()
    source.create(id="s")
    batches = [stores.news(source)]
    for content in ("one", "two", "three"):
        source.append("s", new(content))
        batches.append(stores.news(source))
    take(store, batches[0], batches[1], batches[3])
    assert contents(store) == ["one", "three"]
    assert store.get("s").incomplete
    take(store, batches[2])
    assert contents(store) == ["one", "two", "three"]
    assert not store.get("s").incomplete


# Two devices


@pytest.mark.fault(22)
def test_runs_that_were_added_at_once_stay_in_one_piece_each_on_every_device(stores: Stores):
    left, right = stores.open(), stores.open()
    left.create(id="s")
    take(right, stores.news(left))
    for content in "ab":
        left.append("s", new(f"left {content}"))
        right.append("s", new(f"right {content}"))
    batches = stores.news(left), stores.news(right)
    take(left, batches[1])
    take(right, batches[0])
    assert contents(left) == contents(right) == ["left a", "left b", "right a", "right b"]


def test_a_message_born_on_two_devices_is_there_once_under_its_least_birth(stores: Stores):
    left, right = stores.open(), stores.open()
    transcript = Transcript(id="s", created_ms=1, source={"tool": "x"}, messages=[new("m", timestamp=None)])
    take_in(left, transcript)
    take_in(right, transcript)
    batches = stores.news(left), stores.news(right)
    take(left, batches[1])
    take(right, batches[0])
    assert state(left) == state(right)
    assert contents(left) == ["m"]


def test_a_message_born_on_two_devices_with_and_without_metadata_shows_it_alike_on_both(stores: Stores):
    first, second = stores.open(), stores.open()
    for store, metadata in ((first, {"z": 1, "a": {"k": 2}}), (second, {})):
        store.create(id="s")
        store.append("s", new("one", metadata=metadata))
    sent, answered = stores.news(first), stores.news(second)
    take(second, sent)
    take(first, answered)
    assert state(first) == state(second)
    assert [each for store in (first, second) for each in examine(store) if not each.ok] == []


@pytest.mark.fault(19)
def test_concurrent_writes_of_one_field_end_equal_on_both_and_keep_both_values(stores: Stores):
    left, right = stores.open(), stores.open()
    left.create(id="s", title="T")
    take(right, stores.news(left))
    left.update("s", fields={"title": "left"})
    right.update("s", fields={"title": "right"})
    batches = stores.news(left), stores.news(right)
    take(left, batches[1])
    take(right, batches[0])
    assert state(left) == state(right)
    assert left.get("s").title == "right"
    assert left.one("SELECT count(*) FROM registers WHERE conflict")[0] == 1


@pytest.mark.fault(21)
def test_an_append_that_a_deletion_did_not_know_of_keeps_the_session(stores: Stores):
    left, right = stores.open(), stores.open()
    left.create(id="s", title="T")
    left.append("s", new("one"))
    take(right, stores.news(left))
    left.delete("s")
    right.append("s", new("two"))
    batches = stores.news(left), stores.news(right)
    take(left, batches[1])
    take(right, batches[0])
    assert contents(left) == contents(right) == ["two"]


@pytest.mark.fault(16)
def test_our_clock_follows_a_stamp_from_the_future(stores: Stores, store: Store):
    ahead = 10_000_000
    source = Store(store.path.with_name("ahead.db"), now_ms=lambda: NOW_MS + ahead)
    stores.opened.append(source)
    source.create(id="s", title="of the future")
    take(store, stores.news(source))
    store.update("s", fields={"title": "edited afterwards"})
    take(source, stores.news(store))
    assert source.get("s").title == "edited afterwards"
    assert store.one("SELECT count(*) FROM registers WHERE conflict")[0] == 0


@pytest.mark.fault(16)
def test_times_that_are_shown_do_not_follow_a_stamp_from_the_future(stores: Stores, store: Store):
    source = Store(store.path.with_name("ahead.db"), now_ms=lambda: NOW_MS + 10**9)
    stores.opened.append(source)
    source.create(id="s")
    take(store, stores.news(source))
    store.append("s", new("one"))
    assert next(store.messages("s")).timestamp.startswith("2027-01-15T")


# What cannot be


def born(message_id: str = "m", **fields: Any) -> Born:
    made = Born(
        id=message_id, clock=CLOCK + 1, author=2, after=None, inserted=0, role="user", sender=None, content=message_id,
        time_ms=NOW_MS, time_text=None, parent=None, model=None, usage=None, metadata=None, origin=None, births=None,
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


def change(*messages: Born, session: str = "s", registers: tuple[RegisterState, ...] = (), **fields: Any) -> Batch:
    birth = SessionBirth(CLOCK, 2, NOW_MS, None, None)
    made = SessionChange(session, 1, [birth], 0, list(registers), list(messages))
    return decode_batch(encode_batch({0: SENDER}, [msgspec.structs.replace(made, **fields)]))


def register(path: str, text: bytes, *, message: str | None = None, clock: int = CLOCK + 2, author: int = 2):
    return RegisterState(message, path, ([(clock, author, text, b"")], [(author, clock)]))


def test_a_made_up_change_that_is_right_is_taken(store: Store):
    batch = change(born(), registers=(register("title", b'"T"'), register("content", b'"edited"', message="m")))
    assert take(store, batch).refused == []
    assert (store.get("s").title, contents(store)) == ("T", ["edited"])


@pytest.mark.parametrize(
    "fields",
    [
        {"clock": 0},
        {"clock": -1},
        {"clock": 2**63 - 1},
        {"author": 3},
        {"author": 7},
        {"author": -1},
        {"role": ""},
        {"role": "a\nb"},
        {"inserted": 2},
        {"time_ms": -1},
        {"time_ms": 2**60},
        {"time_text": "soon"},
        {"content": b"{"},
        {"content": b"[1]"},
        {"content": 7},
        {"content": None},
        {"usage": "[]"},
        {"metadata": "{"},
        {"metadata": '"x"'},
        {"origin": "7"},
        {"births": b"\xc1"},
        {"births": msgspec.msgpack.encode([(CLOCK, 99)])},
        {"metadata": '{"a":' * 70 + "1" + "}" * 70},
    ],
    ids=str,
)
def test_a_message_that_cannot_be_is_refused_alone(store: Store, fields: dict[str, Any]):
    done = take(store, change(born("good"), born("bad", **fields), born("fine")))
    assert sorted(contents(store)) == ["fine", "good"]
    (refused,) = done.refused
    assert "'bad'" in refused


@pytest.mark.parametrize("message_id", ["", "a\x00b", "x" * 3000, "\x85"])
def test_a_message_id_that_cannot_be_is_refused_alone(store: Store, message_id: str):
    done = take(store, change(born("good"), born(message_id, content="bad")))
    assert contents(store) == ["good"]
    assert len(done.refused) == 1
    assert len(done.refused[0]) < 300


@pytest.mark.parametrize(
    "state_",
    [
        register("title", b"{"),
        register("title", b"7"),
        register("title", b""),
        register("", b'"x"'),
        register("x" * 5000, b'"x"'),
        register("title", b'"x"', clock=0),
        register("title", b'"x"', author=99),
        register("tags/a", b'"first"'),
        register("deleted", b"7"),
        register("deleted", b'{"at":"x"}'),
        register("content", b"[7]", message="m"),
        register("timestamp", b'"soon"', message="m"),
        register("usage", b"[]", message="m"),
        register("deleted", b"[]", message="m"),
        RegisterState(None, "title", ([], [(2, CLOCK)])),
        RegisterState("m", "content", ([], [(2, CLOCK)])),
    ],
    ids=lambda state_: f"{state_.path[:20]} {[text for _, _, text, _ in state_.state[0]]!r}",
)
def test_a_register_that_cannot_be_is_refused_alone(store: Store, state_: RegisterState):
    good = register("provider", b'"good"')
    done = take(store, change(born(), registers=(good, state_)))
    assert len(done.refused) == 1
    assert (store.get("s").provider, contents(store)) == ("good", ["m"])


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a\nb"},
        {"births": []},
        {"births": [SessionBirth(0, 2, NOW_MS, None, None)]},
        {"births": [SessionBirth(CLOCK, 99, NOW_MS, None, None)]},
        {"births": [SessionBirth(CLOCK, 2, -1, None, None)]},
        {"births": [SessionBirth(CLOCK, 2, NOW_MS, "[]", None)]},
        {"births": [SessionBirth(CLOCK, 2, NOW_MS, None, "{")]},
        {"touched": 2**63},
        {"touched": -1},
        {"life": 2**63},
        {"life": 0},
    ],
    ids=str,
)
def test_a_session_that_cannot_be_is_refused_alone(store: Store, fields: dict[str, Any]):
    good = change(born(), session="good").sessions[0]
    bad = change(born(), **fields).sessions[0]
    done = take(store, Batch(1, {0: SENDER}, [bad, good]))
    assert [each.id for each in store.sessions()] == ["good"]
    assert len(done.refused) == 1


def test_what_was_refused_leaves_no_trace(store: Store):
    seq = store.last_seq
    take(store, change(born(), births=[]))
    assert store.last_seq == seq
    assert store.one("SELECT count(*) FROM sessions")[0] == 0


@pytest.mark.fault(37)
def test_random_bytes_in_the_place_of_any_field_raise_nothing_unforeseen(stores: Stores, store: Store):
    from steno.storage.errors import StenoError

    rng = random.Random(7)
    whole = encode_batch({0: SENDER}, change(born(), registers=(register("title", b'"T"'),)).sessions)
    for _ in range(2000):
        at = rng.randrange(len(whole))
        damaged = whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]
        try:
            batch = decode_batch(damaged)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        try:
            take(store, batch)
        except StenoError:
            continue
    assert store.one("PRAGMA integrity_check")[0] == "ok"


def test_births_of_one_stamp_that_differ_end_in_one_order(stores: Stores):
    """No steno writes them; whoever has the key may."""
    births = [
        SessionBirth(CLOCK, 2, NOW_MS, forked_from, source)
        for forked_from in (None, '{"session":"a"}')
        for source in (None, '{"tool":"b"}')
    ]
    here, there = stores.open(), stores.open()
    for birth in births:
        take(here, change(born(), births=[birth]))
    for birth in reversed(births):
        take(there, change(born(), births=[birth]))
    assert state(here) == state(there)


def test_a_new_session_costs_so_many_statements_beside_those_that_insert_its_messages(stores: Stores, store: Store):
    source = stores.open()
    for name in "abcdefgh":
        source.create(id=name, title=name)
        source.extend(name, [new(f"{name}{at}") for at in range(20)])
    batch = stores.news(source)
    said: list[str] = []
    store.connection.set_trace_callback(said.append)
    take(store, batch)
    store.connection.set_trace_callback(None)
    counted = [each for each in said if not each.startswith("INSERT INTO messages")]
    assert len(said) - len(counted) == 8 * 20
    assert len(counted) <= 8 * 17 + 8
