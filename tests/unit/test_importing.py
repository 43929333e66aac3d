"""Taking sessions in: what a source says comes in once, and yields to what a person wrote."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.errors import InvalidInput
from steno.storage.history import Past
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.stamps import DERIVED
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript

NOW_MS = 1_800_000_000_000
BEGAN_MS = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(NOW_MS).__next__) as opened:
        yield opened


def messages(*contents: str, **fields: Any) -> list[NewMessage]:
    """Messages that hang on each other, as a source records them; their ids are their contents."""
    after: list[str | None] = [None, *contents]
    return [
        NewMessage(role="user", content=each, id=each, after=after[at], timestamp="2023-11-14T22:13:20Z", **fields)
        for at, each in enumerate(contents)
    ]


def transcript(*contents: str, **fields: Any) -> Transcript:
    made = Transcript(id="s", created_ms=BEGAN_MS, source={"tool": "x"}, messages=messages(*contents))
    return msgspec.structs.replace(made, **fields)


def contents(store: Store) -> list[Any]:
    return [message.content for message in store.messages("s")]


def test_a_transcript_becomes_a_session(store: Store):
    done = take_in(
        store, transcript("one", "two", title="T", provider="p", model="m", tags=["a"], metadata={"project": "x"})
    )
    assert (done.session, done.created, done.added, done.changed) == ("s", True, 2, 0)
    found = store.get("s")
    assert (found.title, found.provider, found.model, found.tags) == ("T", "p", "m", ["a"])
    assert (found.metadata, found.source, found.message_count) == ({"project": "x"}, {"tool": "x"}, 2)
    assert contents(store) == ["one", "two"]


def test_a_session_is_as_old_as_its_source_says_and_not_as_its_import(store: Store):
    take_in(store, transcript("one"))
    found = store.get("s")
    assert found.created_at == found.updated_at == "2023-11-14T22:13:20.000Z"


def test_a_source_without_a_title_gets_an_automatic_one(store: Store):
    take_in(store, transcript("one"))
    assert (store.get("s").title, store.get("s").automatic_title) == ("one", True)


def test_taking_the_same_in_twice_changes_nothing(store: Store):
    wanted = transcript("one", "two", title="T", tags=["a"], metadata={"k": {"l": 1}}, model="m")
    take_in(store, wanted)
    before, seq = store.get("s"), store.last_seq
    done = take_in(store, wanted)
    assert (done.created, done.added, done.changed) == (False, 0, 0)
    assert (store.get("s"), store.last_seq) == (before, seq)


def test_a_title_and_tags_that_are_kept_otherwise_than_they_were_given_are_no_news_either(store: Store):
    wanted = transcript("one", title="  a \n title ", tags=[" a", "a ", "b"])
    take_in(store, wanted)
    assert (store.get("s").title, store.get("s").tags) == ("a title", ["a", "b"])
    assert take_in(store, wanted).changed == 0


def test_a_blank_title_is_none(store: Store):
    take_in(store, transcript("one", title="  "))
    assert store.get("s").title == "one"


def test_what_was_imported_is_derived(store: Store):
    take_in(store, transcript("one", title="T"))
    row = next(store.message_rows(1))
    assert row.author % 4 == DERIVED


def test_a_longer_transcript_adds_what_is_new(store: Store):
    take_in(store, transcript("one"))
    done = take_in(store, transcript("one", "two", "three"))
    assert (done.added, done.changed) == (2, 0)
    assert contents(store) == ["one", "two", "three"]


def test_a_note_that_a_person_added_stays_where_it_was_written(store: Store):
    take_in(store, transcript("one", "two"))
    store.append("s", NewMessage(role="user", content="a note", id="note"))
    take_in(store, transcript("one", "two", "three"))
    assert contents(store) == ["one", "two", "a note", "three"]


@pytest.mark.fault(23)
def test_a_shorter_transcript_takes_nothing_away(store: Store):
    take_in(store, transcript("one", "two"))
    done = take_in(store, transcript("one"))
    assert (done.added, done.changed) == (0, 0)
    assert done.kept == {"two"}
    assert contents(store) == ["one", "two"]


@pytest.mark.fault(23)
def test_what_a_person_added_or_deleted_is_not_missed_in_a_transcript(store: Store):
    take_in(store, transcript("one", "two"))
    store.append("s", NewMessage(role="user", content="a note"))
    store.delete_message("s", "two")
    assert take_in(store, transcript("one")).kept == frozenset()


@pytest.mark.fault(24)
def test_what_a_source_wrote_before_can_be_read_as_it_was(store: Store):
    take_in(store, transcript("one", "two"))
    before = store.last_seq
    take_in(store, transcript(messages=[msgspec.structs.replace(messages("one")[0], content="1")]))
    row = store.find("s")
    assert row is not None
    with store.transaction():
        assert [message.content for _, message in Past(store, row, before).messages()] == ["one", "two"]
    assert contents(store) == ["1", "two"]


@pytest.mark.fault(24)
def test_a_line_that_its_source_rewrote_is_rewritten(store: Store):
    take_in(store, transcript("one", "two"))
    changed = [msgspec.structs.replace(messages("one")[0], content="1", model="m"), messages("one", "two")[1]]
    done = take_in(store, transcript(messages=changed))
    assert (done.added, done.changed) == (0, 1)
    assert contents(store) == ["1", "two"]
    assert take_in(store, transcript(messages=changed)).changed == 0


def test_what_a_person_edited_stays_whatever_the_source_says_later(store: Store):
    take_in(store, transcript("one"))
    store.edit_message("s", "one", {"content": "by hand"})
    for content in ("one", "rewritten", "rewritten again"):
        take_in(store, transcript(messages=[msgspec.structs.replace(messages("one")[0], content=content)]))
        assert contents(store) == ["by hand"]
    assert store.one("SELECT count(*) FROM registers WHERE conflict")[0] == 0


def test_importing_again_what_a_person_edited_changes_nothing(store: Store):
    wanted = transcript("one", title="T", tags=["a"], metadata={"k": 1})
    take_in(store, wanted)
    store.edit_message("s", "one", {"content": "by hand"})
    store.update("s", fields={"title": "by hand"}, tags=[], metadata={"k": 2})
    before, seq = store.get("s"), store.last_seq
    assert take_in(store, wanted).changed == 0
    assert (store.get("s"), store.last_seq) == (before, seq)


def test_a_message_that_a_person_deleted_stays_deleted(store: Store):
    take_in(store, transcript("one", "two"))
    store.delete_message("s", "one")
    done = take_in(store, transcript("one", "two", "three"))
    assert done.added == 1
    assert contents(store) == ["two", "three"]


def test_a_session_that_a_person_deleted_stays_deleted(store: Store):
    take_in(store, transcript("one"))
    store.delete("s")
    take_in(store, transcript("one", "two"))
    assert list(store.sessions()) == []
    store.restore("s")
    assert contents(store) == ["one", "two"]


def test_a_title_that_the_source_changed_is_changed(store: Store):
    take_in(store, transcript("one", title="T"))
    assert take_in(store, transcript("one", title="U")).changed == 1
    assert store.get("s").title == "U"


def test_a_title_that_the_source_does_not_name_any_more_stays(store: Store):
    take_in(store, transcript("one", title="T"))
    take_in(store, transcript("one"))
    assert store.get("s").title == "T"


def test_metadata_of_a_person_and_of_the_source_stand_beside_each_other(store: Store):
    take_in(store, transcript("one", metadata={"branch": "main"}))
    store.update("s", metadata={"mine": 1})
    take_in(store, transcript("one", metadata={"branch": "next"}))
    assert store.get("s").metadata == {"branch": "next", "mine": 1}


def test_a_tag_that_a_person_removed_does_not_come_back(store: Store):
    take_in(store, transcript("one", tags=["a", "b"]))
    store.update("s", remove_tags=["a"])
    take_in(store, transcript("one", tags=["a", "b", "c"]))
    assert store.get("s").tags == ["b", "c"]


def test_a_record_that_arrives_late_stands_behind_its_predecessor(store: Store):
    one, two, three = messages("one", "two", "three")
    take_in(store, transcript(messages=[one, msgspec.structs.replace(three, after="two")]))
    assert store.get("s").incomplete
    take_in(store, transcript(messages=[one, two, three]))
    assert contents(store) == ["one", "two", "three"]
    assert not store.get("s").incomplete


@pytest.mark.parametrize(
    "bad",
    [{"role": ""}, {"content": 7}, {"id": None}, {"metadata": {"x": float("nan")}}, {"timestamp": "soon"}],
    ids=str,
)
def test_a_transcript_with_a_message_that_cannot_be_is_refused_whole(store: Store, bad: dict[str, Any]):
    one, two = messages("one", "two")
    with pytest.raises(InvalidInput):
        take_in(store, transcript(messages=[one, msgspec.structs.replace(two, **bad)]))
    assert store.find("s") is None
    assert store.one("SELECT count(*) FROM messages")[0] == 0


def test_a_refused_update_leaves_the_session_as_it_was(store: Store):
    take_in(store, transcript("one", title="T"))
    before, seq = store.get("s"), store.last_seq
    with pytest.raises(InvalidInput):
        take_in(store, transcript("one", "two", title="U", tags=["\x00"]))
    assert (store.get("s"), store.last_seq) == (before, seq)


def test_a_session_without_messages_is_taken_in_too(store: Store):
    assert take_in(store, transcript(title="T")).created
    assert store.get("s").message_count == 0


def test_two_files_of_one_session_do_not_undo_each_other_for_ever(store: Store):
    here = transcript("one", title="T", metadata={"cwd": "/here"})
    there = transcript("one", title="U", metadata={"cwd": "/there"})
    for each in (here, there):
        take_in(store, each)
    assert [take_in(store, each).changed for each in (here, there, here)] == [0, 0, 0]
