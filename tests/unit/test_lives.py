"""Lives of an id that end elsewhere: what ends here, what is dropped, and what is kept although it was purged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import Batch, RegisterState, SessionChange, local_changes
from steno.storage.deletion import Vector, purge
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.storage.rows import SessionBirth
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.tests.simulation.test_stores_converge import state

NOW_MS = 1_800_000_000_000
CLOCK = NOW_MS << 16
SENDER = "s" * 12


class Pair:
    """Two devices, and what each has not told yet."""

    def __init__(self, folder: Path) -> None:
        clock = itertools.count(NOW_MS).__next__
        self.here, self.there = (Store(folder / f"{name}.db", now_ms=clock) for name in ("here", "there"))
        self._sent = {self.here.device: 0, self.there.device: 0}

    def news(self, store: Store) -> Batch | None:
        since = self._sent[store.device]
        data, self._sent[store.device], _ = local_changes(store, since=since, floor=since, max_bytes=1 << 30)
        return msgspec.msgpack.decode(data, type=Batch) if data else None

    def tell(self, store: Store) -> Applied:
        """Let the other device know what is new on this one."""
        other = self.there if store is self.here else self.here
        return take(other, self.news(store))

    def meet(self) -> None:
        """Let both know all that the other one knows."""
        for _ in range(3):
            batches = self.news(self.here), self.news(self.there)
            take(self.there, batches[0])
            take(self.here, batches[1])
        assert state(self.here) == state(self.there)


def take(store: Store, *batches: Batch | None, rows: int = 2000) -> Applied:
    done = Applied()
    for batch in filter(None, batches):
        for part in slices(batch, rows=rows):
            with store.transaction():
                apply(store, batch, part, done=done)
    return done


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.here.close()
    made.there.close()


def new(content: str, **fields: Any) -> NewMessage:
    return NewMessage(role="user", content=content, id=content, **fields)


def contents(store: Store, session: str = "s") -> list[Any]:
    return [message.content for message in store.messages(session)]


def shared(pair: Pair, *given: str, **fields: Any) -> None:
    """A session that both know."""
    pair.here.create(id="s", **fields)
    pair.here.add_messages("s", [new(each) for each in given])
    pair.tell(pair.here)


# Sessions


def test_a_session_that_was_purged_elsewhere_is_gone_here(pair: Pair):
    shared(pair, "one", title="T", tags=["a"])
    purge_session(pair.here, "s")
    pair.tell(pair.here)
    assert pair.there.find("s") is None
    assert pair.there.one("SELECT count(*) FROM messages")[0] == 0
    assert pair.there.execute("SELECT path FROM registers").fetchall() == [("purged",)]
    assert state(pair.here) == state(pair.there)


def test_a_tombstone_of_a_session_that_never_came_here_is_kept(pair: Pair):
    pair.here.create(id="s", title="T")
    first = pair.news(pair.here)
    purge_session(pair.here, "s")
    pair.tell(pair.here)
    assert pair.there.lives_over("s") == 1
    done = take(pair.there, first)
    assert (done.sessions, done.refused) == (0, [])
    assert state(pair.here) == state(pair.there)


@pytest.mark.fault(21)
def test_what_comes_late_of_a_life_that_is_over_is_dropped(pair: Pair):
    shared(pair, "one")
    pair.there.append("s", new("two"))
    late = pair.news(pair.there)
    purge_session(pair.here, "s")
    assert take(pair.here, late).messages == 0
    assert pair.here.find("s") is None


def test_a_tombstone_that_is_applied_twice_changes_nothing_more(pair: Pair):
    shared(pair, "one")
    purge_session(pair.here, "s")
    stone = pair.news(pair.here)
    take(pair.there, stone)
    before = pair.there.last_seq
    assert take(pair.there, stone) == Applied()
    assert pair.there.last_seq == before


def test_the_next_life_replaces_one_whose_end_is_not_known_here(pair: Pair):
    shared(pair, "one", title="T", metadata={"k": 1})
    purge_session(pair.here, "s")
    pair.here.create(id="s", title="U")
    pair.here.append("s", new("two"))
    pair.tell(pair.here)
    assert (contents(pair.there), pair.there.get("s").title, pair.there.get("s").metadata) == (["two"], "U", {})
    assert state(pair.here) == state(pair.there)


def test_a_large_next_life_comes_in_any_slices(pair: Pair):
    shared(pair, "one")
    purge_session(pair.here, "s")
    pair.here.create(id="s")
    pair.here.add_messages("s", [new(str(at)) for at in range(10)])
    done = take(pair.there, pair.news(pair.here), rows=3)
    assert (done.refused, contents(pair.there)) == ([], [str(at) for at in range(10)])


def test_two_devices_that_purge_the_same_session_end_equal(pair: Pair):
    shared(pair, "one")
    purge_session(pair.here, "s")
    purge_session(pair.there, "s")
    pair.meet()
    assert pair.here.one("SELECT count(*) FROM registers WHERE conflict")[0] == 0


def test_two_devices_that_start_the_same_life_share_it(pair: Pair):
    shared(pair, "one")
    purge_session(pair.here, "s")
    pair.tell(pair.here)
    for store, content in ((pair.here, "here"), (pair.there, "there")):
        store.create(id="s")
        store.append("s", new(content))
    pair.meet()
    assert sorted(contents(pair.here)) == ["here", "there"]


def test_a_purge_that_is_not_sent_yet_is_sent_although_another_one_arrived(pair: Pair):
    shared(pair, "one")
    purge_session(pair.here, "s")
    purge_session(pair.there, "s")
    pair.there.create(id="s")
    purge_session(pair.there, "s")
    pair.meet()
    assert (pair.here.find("s"), pair.there.find("s")) == (None, None)


def test_what_was_captured_on_another_device_ends_with_the_purge(pair: Pair):
    transcript = Transcript(id="s", created_ms=1, source={"tool": "x"}, messages=[new("one")])
    for store in (pair.here, pair.there):
        take_in(store, transcript)
    purge_session(pair.here, "s")
    done = pair.tell(pair.here)
    assert (done.rescued, pair.there.find("s")) == ([], None)
    assert take_in(pair.there, transcript).purged


# What was written here, unknown to whoever purged


def test_messages_that_a_purge_could_not_know_become_a_session_of_their_own(pair: Pair):
    shared(pair, "one", title="T")
    pair.there.append(
        "s", NewMessage(role="user", content="two", id="two", sender="me", metadata={"k": 1}, parent="one")
    )
    pair.there.append("s", new("three", parent="two"))
    purge_session(pair.here, "s")
    [said] = pair.tell(pair.here).rescued
    assert pair.there.find("s") is None
    [kept] = pair.there.sessions()
    assert said == f"session s was purged on another device; what was written here meanwhile is session {kept.id} now"
    found = list(pair.there.messages(kept.id))
    assert [(each.id, each.content, each.parent) for each in found] == [("two", "two", None), ("three", "three", "two")]
    assert (kept.title, found[0].sender, found[0].metadata) == ("T", "me", {"k": 1})
    assert found[0].origin == {"session": "s", "message": "two"}
    pair.meet()
    assert contents(pair.here, kept.id) == ["two", "three"]


def test_what_is_kept_may_reply_to_what_stands_behind_it(pair: Pair):
    shared(pair, "one")
    pair.there.add_messages("s", [new("two"), new("three")])
    pair.there.edit_message("s", "two", {"parent": "three"})
    purge_session(pair.here, "s")
    pair.tell(pair.here)
    [kept] = [session.id for session in pair.there.sessions()]
    assert [(each.id, each.parent) for each in pair.there.messages(kept)] == [("two", "three"), ("three", None)]


def test_what_a_purge_knew_is_not_kept(pair: Pair):
    shared(pair, "one")
    pair.there.append("s", new("two"))
    pair.tell(pair.there)
    purge_session(pair.here, "s")
    assert pair.tell(pair.here).rescued == []
    assert list(pair.there.sessions()) == []


@pytest.mark.parametrize("unwanted", [lambda store: store.delete("s"), lambda store: store.delete_message("s", "two")])
def test_what_is_deleted_here_is_not_kept(pair: Pair, unwanted: Any):
    shared(pair, "one")
    pair.there.append("s", new("two"))
    unwanted(pair.there)
    purge_session(pair.here, "s")
    assert pair.tell(pair.here).rescued == []
    assert list(pair.there.sessions()) == []


def test_what_was_kept_is_the_same_session_if_it_happens_again(pair: Pair, tmp_path: Path):
    import shutil

    shared(pair, "one")
    pair.there.append("s", new("two"))
    pair.there.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(pair.there.path, tmp_path / "copy.db")
    purge_session(pair.here, "s")
    stone = pair.news(pair.here)
    take(pair.there, stone)
    with Store(tmp_path / "copy.db", now_ms=pair.there.now_ms) as copy:
        take(copy, pair.news(pair.there), stone)
        assert [(each.id, contents(copy, each.id)) for each in list(copy.sessions())] == [
            (each.id, ["two"]) for each in pair.there.sessions()
        ]


# Messages


def test_a_message_that_was_purged_elsewhere_is_erased_here(pair: Pair):
    shared(pair, "one", "two")
    purge_message(pair.here, "s", "one")
    pair.tell(pair.here)
    assert contents(pair.there) == ["two"]
    assert state(pair.here) == state(pair.there)


def test_a_message_that_is_purged_before_it_arrives_arrives_erased(pair: Pair):
    shared(pair)
    pair.here.append("s", new("one"))
    pair.here.append("s", new("two"))
    birth = pair.news(pair.here)
    pair.here.edit_message("s", "one", {"content": "edited"})
    edit = pair.news(pair.here)
    purge_message(pair.here, "s", "one")
    end = pair.news(pair.here)
    take(pair.there, edit)
    assert pair.there.one("SELECT count(*) FROM waiting")[0] == 1
    take(pair.there, end)
    assert pair.there.execute("SELECT path FROM waiting").fetchall() == [("purged",)]
    take(pair.there, edit, birth)
    assert contents(pair.there) == ["two"]
    assert pair.there.one("SELECT content FROM messages WHERE id = 'one'")[0] == ""
    assert state(pair.here) == state(pair.there)


@pytest.mark.fault(21)
def test_a_purge_beats_a_later_edit_of_another_device(pair: Pair):
    shared(pair, "one")
    pair.there.edit_message("s", "one", {"sender": "somebody"})
    purge_message(pair.here, "s", "one")
    pair.meet()
    assert contents(pair.there) == []


def test_when_a_session_was_written_to_is_told_although_the_message_was_purged_meanwhile(pair: Pair):
    shared(pair, "one", "two")
    purge_message(pair.here, "s", "one")
    pair.there.edit_message("s", "one", {"metadata": {"a": 1}})
    pair.tell(pair.here)
    pair.tell(pair.there)
    assert pair.here.get("s").updated_at == pair.there.get("s").updated_at


def test_a_text_that_a_purge_could_not_know_becomes_a_message_of_its_own(pair: Pair):
    shared(pair, "one", "two")
    pair.there.edit_message("s", "one", {"content": "unknown"})
    purge_message(pair.here, "s", "one")
    [said] = pair.tell(pair.here).rescued
    assert "message one of session s was purged on another device" in said
    assert contents(pair.there) == ["unknown", "two"]
    pair.meet()
    assert contents(pair.here) == ["unknown", "two"]


def test_a_text_that_a_purge_knew_is_not_kept(pair: Pair):
    shared(pair, "one")
    pair.there.edit_message("s", "one", {"content": "known"})
    pair.tell(pair.there)
    purge_message(pair.here, "s", "one")
    assert pair.tell(pair.here).rescued == []
    assert contents(pair.there) == []


def test_values_that_were_beaten_are_gone_everywhere_when_a_history_is_purged(pair: Pair):
    shared(pair, "one", title="T")
    pair.here.update("s", fields={"title": "here"})
    pair.there.update("s", fields={"title": "there"})
    pair.meet()
    purge_history(pair.here, "s")
    pair.meet()
    for store in (pair.here, pair.there):
        assert store.one("SELECT count(*) FROM registers WHERE conflict")[0] == 0
        assert store.get("s").title == "there"


# What cannot be


def change(life: int, register: RegisterState | None) -> Batch:
    birth = SessionBirth(CLOCK + 9, 2, NOW_MS, None, None)  # later than ours, whatever the names of the devices
    registers = [] if register is None else [register]
    return Batch(1, {0: SENDER}, [SessionChange("s", life, [birth], 0, registers, [])])


def ended(life: int) -> RegisterState:
    return RegisterState(None, "purged", ([(CLOCK + 1, 2, purge(Vector({}), life=life), b"")], [(2, CLOCK + 1)]))


@pytest.mark.parametrize(
    "batch", [change(2, None), change(3, ended(1)), change(1, ended(2)), change(1, ended(1 << 40))], ids=str
)
def test_a_life_whose_place_cannot_be_told_is_refused(pair: Pair, batch: Batch):
    pair.here.create(id="s", title="T")
    before = state(pair.here)
    assert len(take(pair.here, batch).refused) == 1
    assert state(pair.here)[:1] == before[:1]  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    "text", [b"7", b"null", b"{", b'{"at":1,"upto":{},"life":-1}', b'{"at":1,"upto":{"x":1}}', b""]
)
def test_a_purge_that_no_steno_writes_is_refused(pair: Pair, text: bytes):
    register = RegisterState(None, "purged", ([(CLOCK + 1, 2, text, b"")], [(2, CLOCK + 1)]))
    pair.here.create(id="s", title="T")
    assert take(pair.here, change(1, register)).refused
    assert pair.here.get("s").title == "T"
