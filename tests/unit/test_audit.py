"""The audit tells every write once, with who made it and what stood there before, and it travels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.apply import Applied, apply
from steno.storage.audit import BIRTH, AuditEntry, audit
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import InvalidInput, SessionNotFound
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript


class Clock:
    """A time that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        self.ms += 1000
        return self.ms


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=Clock()) as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "other.db", now_ms=Clock()) as opened:
        yield opened


def message(id_: str, content: str = "text") -> NewMessage:
    return NewMessage(role="user", content=content, id=id_)


def send(source: Store, target: Store, since: int = 0) -> Applied:
    batch = decode_batch(local_changes(source, since=since, floor=since, max_bytes=1 << 20)[0])
    done = Applied()
    with target.transaction():
        apply(target, batch, batch.sessions, done=done)
    return done


def written(store: Store, session: str = "s") -> list[tuple[str | None, str | None, str, object, object]]:
    return [(each.actor, each.message, each.path, each.before, each.after) for each in audit(store, session)]


def born(entries: list[AuditEntry]) -> list[str | None]:
    return [each.message for each in entries if each.path == BIRTH]


@pytest.mark.check("MDB-30")
def test_every_change_is_told_with_before_after_and_actor(store: Store) -> None:
    with store.acting("ann"):
        store.create(id="s", title="Plan", metadata={"topic": "go", "deep": {"a": 1}})
        store.append("s", message("m", "Hello"))
    with store.acting("bob"):
        store.update("s", metadata={"topic": "rust"})
        store.edit_message("s", "m", {"content": "Hello!"})
    store.update("s", fields={"title": "Other"})
    entries = list(audit(store, "s"))
    assert [(each.actor, each.message, each.path, each.before, each.after) for each in entries] == [
        ("ann", None, BIRTH, None, {"created_at": store.get("s").created_at}),
        ("ann", None, "metadata/deep/a", None, 1),
        ("ann", None, "metadata/topic", None, "go"),
        ("ann", None, "title", None, "Plan"),
        ("ann", "m", BIRTH, None, {"role": "user", "content": "Hello"}),
        ("bob", None, "metadata/topic", "go", "rust"),
        ("bob", "m", "content", "Hello", "Hello!"),
        (None, None, "title", "Plan", "Other"),
    ]
    assert [each.seq for each in entries] == sorted(each.seq for each in entries)
    assert {each.device for each in entries} == {store.device}
    assert entries[0].at < entries[-1].at


@pytest.mark.check("MDB-30")
def test_a_metadata_update_merges_and_bumps_the_time_of_the_last_write(store: Store) -> None:
    before = store.create(id="s", metadata={"a": 1, "b": 2})
    after = store.update("s", metadata={"b": 3})
    assert after.metadata == {"a": 1, "b": 3}
    assert after.updated_at > before.updated_at


def test_each_value_that_a_field_ever_had_is_told(store: Store) -> None:
    store.create(id="s", title="1")
    for title in ("2", "3", "4"):
        store.update("s", fields={"title": title})
    values = [(before, after) for _, _, path, before, after in written(store) if path == "title"]
    assert values == [(None, "1"), ("1", "2"), ("2", "3"), ("3", "4")]


def test_a_value_that_arrived_and_is_not_shown_is_told_as_such(store: Store, other: Store) -> None:
    store.create(id="s", title="1")
    send(store, other)
    since = store.last_seq
    store.update("s", fields={"title": "earlier"})
    for title in ("later", "latest"):
        other.update("s", fields={"title": title})
    send(store, other, since=since)
    titles = [(each.before, each.after, each.beaten) for each in audit(other, "s") if each.path == "title"]
    assert titles == [
        (None, "1", False),
        ("1", "later", False),
        ("later", "latest", False),
        ("latest", "earlier", True),
    ]


def test_a_field_that_was_taken_away_is_told_from_one_that_was_set_to_null(store: Store) -> None:
    store.create(id="s", metadata={"a": 1, "b": 2})
    store.update("s", metadata={"a": None})
    store.update("s", fields={"model": None}, state={"k": {}})
    removed = [(each.path, each.before, each.after) for each in audit(store, "s") if each.removed]
    assert removed == [("metadata/a", 1, None)]


def test_a_deletion_is_told_by_its_time(store: Store) -> None:
    store.create(id="s")
    store.append("s", message("m"))
    store.delete_message("s", "m")
    deleted_at = store.delete("s").deleted_at
    store.restore("s")
    entries = written(store)
    assert [each[1:] for each in entries if each[2] == "deleted"] == [
        ("m", "deleted", None, store.get_message("s", "m").deleted_at),
        (None, "deleted", None, deleted_at),
        (None, "deleted", deleted_at, None),
    ]


def test_metadata_of_a_message_is_told_by_leaf_and_not_twice(store: Store) -> None:
    store.create(id="s")
    store.append("s", NewMessage(role="user", content="text", id="m", metadata={"a": 1, "b": 2}))
    store.edit_message("s", "m", {"metadata": {"b": 3}})
    assert [each[2:] for each in written(store)][2:] == [("metadata/b", 2, 3)]


def test_a_deleted_session_is_audited_and_an_unknown_one_is_refused(store: Store) -> None:
    store.create(id="s")
    store.delete("s")
    assert len(list(audit(store, "s"))) == 2
    with pytest.raises(SessionNotFound):
        audit(store, "nowhere")


def test_nobody_in_particular_wrote_what_was_written_without_an_actor(store: Store) -> None:
    store.create(id="s")
    store.append("s", message("m"))
    assert {each.actor for each in audit(store, "s")} == {None}
    assert store.one("SELECT count(*) FROM actors") == (0,)


def test_the_actor_of_a_store_writes_until_another_one_acts(tmp_path: Path) -> None:
    with Store(tmp_path / "steno.db", actor="ann") as store:
        store.create(id="s")
        with store.acting("bob"), store.acting(None):
            store.append("s", message("1"))
        store.append("s", message("2"))
        assert [(each.message, each.actor) for each in audit(store, "s")] == [(None, "ann"), ("1", None), ("2", "ann")]


def test_an_error_gives_the_former_actor_back(store: Store) -> None:
    with pytest.raises(SessionNotFound), store.acting("ann"):
        store.append("nowhere", message("m"))
    assert store.actor is None


def test_a_batch_is_signed_message_by_message(store: Store) -> None:
    store.create(id="s")
    with store.acting("ann"):
        store.add_messages("s", [message("1"), message("2"), message("3")])
    assert [each.actor for each in audit(store, "s")] == [None, "ann", "ann", "ann"]


def test_an_import_is_signed(store: Store) -> None:
    with store.acting("importer"):
        take_in(store, Transcript(id="s", messages=[message("1"), message("2")], created_ms=1, source={}))
    assert {each.actor for each in audit(store, "s")} == {"importer"}
    assert born(list(audit(store, "s"))) == [None, "1", "2"]


def test_a_write_that_was_undone_is_signed_by_nobody(store: Store) -> None:
    store.create(id="s")
    with store.acting("ann"), pytest.raises(InvalidInput):
        store.add_messages("s", [message("1"), message("1")])
    assert store.one("SELECT count(*) FROM actors") == (0,)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 257, 7])
def test_a_name_that_is_none_is_refused(store: Store, name: object) -> None:
    with pytest.raises(InvalidInput), store.acting(name):  # pyright: ignore[reportArgumentType]
        pass


def test_who_wrote_travels_with_the_change(store: Store, other: Store) -> None:
    with store.acting("ann"):
        store.create(id="s", title="Plan")
        store.append("s", message("m", "Hello"))
    with store.acting("bob"):
        store.edit_message("s", "m", {"content": "Hello!"})
    assert send(store, other).refused == []
    assert {(each.path, each.actor) for each in audit(other, "s")} == {
        (BIRTH, "ann"),
        ("title", "ann"),
        ("content", "bob"),
    }
    assert {each.device for each in audit(other, "s")} == {store.device}


def test_who_wrote_travels_on_with_what_another_device_publishes_of_it(store: Store, other: Store, tmp_path: Path):
    with store.acting("ann"):
        store.create(id="s", title="Plan")
    send(store, other)
    since = other.last_seq
    with other.acting("bob"):
        other.update("s", metadata={"a": 1})
    with Store(tmp_path / "third.db", now_ms=Clock()) as third:
        send(other, third, since)
        assert ("ann", None, BIRTH) in [each[:3] for each in written(third)]
        assert ("bob", None, "metadata/a") in [each[:3] for each in written(third)]


def test_a_change_from_elsewhere_is_told_with_what_was_shown_before(store: Store, other: Store) -> None:
    store.create(id="s", title="Plan")
    send(store, other)
    since = other.last_seq
    with other.acting("bob"):
        other.update("s", fields={"title": "Other"})
    send(other, store, since)
    [entry] = [each for each in audit(store, "s") if each.path == "title" and each.before is not None]
    assert (entry.actor, entry.device, entry.before, entry.after) == ("bob", other.device, "Plan", "Other")


def test_a_message_that_was_edited_before_it_arrived_is_told_in_order(store: Store, other: Store) -> None:
    store.create(id="s")
    store.append("s", message("m", "1"))
    store.edit_message("s", "m", {"content": "2"})
    send(store, other)
    assert [each[1:] for each in written(other)][1:] == [
        ("m", BIRTH, None, {"role": "user"}),
        ("m", "content", None, "2"),
    ]


def test_of_a_purged_session_it_is_told_who_purged_it_and_nothing_else(store: Store) -> None:
    with store.acting("ann"):
        store.create(id="s", title="Secret")
        store.append("s", message("m", "secret"))
    with store.acting("bob"):
        purge_session(store, "s")
    assert [(each.actor, each.path) for each in audit(store, "s")] == [(None, BIRTH), ("bob", "purged")]


def test_of_a_purged_message_its_words_are_not_told(store: Store) -> None:
    store.create(id="s")
    store.append("s", message("m", "secret"))
    store.edit_message("s", "m", {"content": "secret too"})
    with store.acting("bob"):
        purge_message(store, "s", "m")
    told = [each for each in audit(store, "s") if each.message == "m"]
    assert [(each.actor, each.path, each.before) for each in told] == [(None, BIRTH, None), ("bob", "purged", None)]
    assert told[0].after == {"role": "user"}
    assert "secret" not in str(told)


def test_a_history_that_was_purged_leaves_what_is_shown(store: Store) -> None:
    store.create(id="s", title="1")
    store.append("s", message("m", "1"))
    store.edit_message("s", "m", {"content": "2"})
    store.update("s", fields={"title": "2"})
    purge_history(store, "s")
    assert [each[2:] for each in written(store)] == [
        (BIRTH, None, {"created_at": store.get("s").created_at}),
        (BIRTH, None, {"role": "user"}),
        ("content", None, "2"),
        ("title", None, "2"),
    ]
