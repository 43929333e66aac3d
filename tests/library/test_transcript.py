"""What a session shows of its messages while others write to it and saves fail, through the public classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno import Session, SessionManager, SQLiteSessionStore
from steno.storage.library.delta import Delta
from steno.storage.library.session import Limits
from steno.storage.model import SessionHeader


class AnswersLost(SQLiteSessionStore):
    """A store that can be told to fail a save: before anything is stored, or when everything is."""

    fails: str | None = None

    def apply(self, delta: Delta) -> SessionHeader:
        fails, self.fails = self.fails, None
        if fails == "before":
            raise OSError("the disk is full")
        header = super().apply(delta)
        if fails == "behind":
            raise OSError("the answer was lost")
        return header


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswersLost]:
    made = AnswersLost(tmp_path / "s.db", limits=Limits(cached_messages=3))
    yield made
    made.close()


@pytest.fixture
def manager(store: AnswersLost) -> SessionManager:
    return SessionManager(store=store)


def opened(manager: SessionManager, session_id: str) -> Session:
    found = manager.get_session(session_id)
    assert found is not None
    return found


def numbered(session: Session, limit: int | None = None) -> list[tuple[int, Any]]:
    return [(each.sequence, each["content"]) for each in session.get_messages(limit=limit)]


def stored(manager: SessionManager, session: Session) -> list[Any]:
    return [each.content for each in opened(manager, session.id).messages]


def filled(manager: SessionManager, count: int) -> Session:
    session = manager.create_session("u")
    add(manager, session, range(count))
    return session


def add(manager: SessionManager, session: Session, texts: Any) -> None:
    for text in texts:
        session.add_message("user", str(text))
    manager.save(session)


def fail(manager: SessionManager, store: AnswersLost, session: Session, when: str) -> None:
    store.fails = when
    with pytest.raises(OSError):  # noqa: PT011  that of `AnswersLost`
        manager.save(session)


# Others write


def test_the_newest_messages_are_numbered_by_what_the_store_holds_now(manager: SessionManager):
    writer = filled(manager, 1)
    reader = opened(manager, writer.id)
    add(manager, writer, range(1, 20))
    assert (numbered(reader, 2), reader.message_count) == ([(19, "18"), (20, "19")], 20)


def test_a_window_has_no_hole_after_a_save_between_whose_messages_others_wrote(manager: SessionManager):
    one = opened(manager, filled(manager, 9).id)
    numbered(one, 2)
    add(manager, one, ["a1"])
    add(manager, opened(manager, one.id), ["b1"])
    add(manager, one, ["a2"])
    assert numbered(one, 3) == [(10, "a1"), (11, "b1"), (12, "a2")]


def test_a_window_shows_what_waits_behind_what_is_stored(manager: SessionManager):
    one = opened(manager, filled(manager, 9).id)
    numbered(one, 2)
    add(manager, opened(manager, one.id), ["b1"])
    add(manager, one, ["a1"])
    one.add_message("user", "a2")
    assert numbered(one, 3) == [(10, "b1"), (11, "a1"), (12, "a2")]


def test_a_session_that_was_read_whole_goes_on_showing_what_it_showed(manager: SessionManager):
    one = opened(manager, filled(manager, 2).id)
    list(one.messages)
    add(manager, opened(manager, one.id), ["b1"])
    add(manager, one, ["a1"])
    assert (numbered(one, 2), one.message_count) == ([(2, "1"), (3, "a1")], 3)


def test_a_page_behind_what_others_added_holds_what_waits(manager: SessionManager):
    writer = filled(manager, 2)
    reader = opened(manager, writer.id)
    add(manager, writer, ["2", "3"])
    reader.add_message("user", "waits")
    assert [each["content"] for each in reader.get_messages(offset=4)] == ["waits"]


def test_truncating_keeps_as_many_as_it_was_told_of_what_others_added_too(manager: SessionManager):
    writer = filled(manager, 20)
    reader = opened(manager, writer.id)
    add(manager, writer, range(20, 25))
    reader.truncate_messages(10)
    assert [each.content for each in reader.messages] == [str(n) for n in range(15, 25)]


def test_the_size_is_that_of_all_messages_once_they_are_fetched(manager: SessionManager):
    writer = manager.create_session("u")
    add(manager, writer, ["12345"])
    reader = opened(manager, writer.id)
    add(manager, writer, ["678"])
    reader.add_message("user", "9")
    list(reader.messages)
    assert reader.size_bytes == 9


def test_iterating_gives_a_message_once_that_is_saved_meanwhile(manager: SessionManager, store: AnswersLost):
    reader = opened(manager, filled(manager, 300).id)
    reader.add_message("user", "waits")
    texts = []
    for message in reader.iter_messages():
        if not texts:
            manager.save(reader)
        texts.append(message.content)
    assert texts.count("waits") == 1


# Ids that others took


def test_a_reply_follows_the_message_that_got_a_new_id(manager: SessionManager):
    one = manager.create_session("u")
    other = opened(manager, one.id)
    one.add_message({"role": "user", "id": "x", "content": "alice"})
    manager.save(one)
    other.add_message({"role": "user", "id": "x", "content": "bob"})
    other.add_message("user", "to bob", parent="x")
    manager.save(other)
    found = {each.content: each for each in opened(manager, one.id).messages}
    assert found["to bob"].parent == found["bob"].id != "x"


def test_a_checkpoint_stays_at_the_message_that_got_a_new_id(manager: SessionManager):
    one = manager.create_session("u")
    other = opened(manager, one.id)
    one.add_message({"role": "user", "id": "x", "content": "alice"})
    manager.save(one)
    other.add_message({"role": "user", "id": "x", "content": "bob"})
    other.checkpoint("here")
    manager.save(other)
    again = opened(manager, one.id)
    assert again.checkpoints[0].message == again.all_messages()[-1].id


# Saves that failed


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_what_is_edited_after_a_failed_save_stands_there_once_in_its_place_with_its_id(
    manager: SessionManager, store: AnswersLost, when: str, attempts: int
):
    session = filled(manager, 1)
    draft = session.add_message("user", "draft", metadata={"at": 0})
    session.add_message("user", "next")
    for attempt in range(attempts):
        fail(manager, store, session, when)
        session.edit_message(draft.id, content=f"final {attempt}", metadata={"at": attempt + 1})
    manager.save(session)
    found = opened(manager, session.id).all_messages()
    assert [each.content for each in found] == ["0", f"final {attempts - 1}", "next"]
    assert (found[1].id, found[1].metadata) == (draft.id, {"at": attempts})
    assert not session.pending


def test_an_edit_that_is_taken_back_after_a_failed_save_is_taken_back_in_the_store(
    manager: SessionManager, store: AnswersLost
):
    session = filled(manager, 1)
    draft = session.add_message("user", "first")
    fail(manager, store, session, "behind")
    session.edit_message(draft.id, content="second")
    fail(manager, store, session, "behind")
    session.edit_message(draft.id, content="first")
    manager.save(session)
    assert stored(manager, session) == ["0", "first"]


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("how", ["remove", "clear"])
def test_what_is_removed_after_a_failed_save_is_not_in_the_store(
    manager: SessionManager, store: AnswersLost, when: str, how: str
):
    session = manager.create_session("u", title="t")
    draft = session.add_message("user", "draft")
    fail(manager, store, session, when)
    if how == "remove":
        session.remove_messages([draft.id])
    else:
        session.clear_messages()
    manager.save(session)
    assert (stored(manager, session), session.pending) == ([], False)


def test_a_failed_save_that_is_repeated_shows_and_stores_each_message_once(manager: SessionManager, store: AnswersLost):
    session = opened(manager, filled(manager, 5).id)
    session.add_message("user", "a")
    fail(manager, store, session, "behind")
    shown = numbered(session, 2), [each.content for each in session.iter_messages()]
    manager.save(session)
    assert shown == ([(5, "4"), (6, "a")], ["0", "1", "2", "3", "4", "a"])
    assert stored(manager, session) == shown[1]


def test_looking_at_what_is_pending_changes_nothing_that_is_sent(manager: SessionManager):
    session = manager.create_session("u")
    draft = session.add_message("user", "draft")
    assert session.pending
    session.edit_message(draft.id, content="final")
    assert (session.delta().edited, [each.id for each in session.delta().added]) == ({}, [draft.id])
