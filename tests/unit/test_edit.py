"""One change of registers: one stamp and one number of the feed a row, caches brought up, what was before kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.document import merge_patch
from steno.storage.edit import Edit
from steno.storage.model import NewMessage
from steno.storage.registers import REMOVED, Known, Register, text_of
from steno.storage.rows import MessageRow, SessionRow
from steno.storage.stamps import BY_HAND, DERIVED
from steno.storage.state import family, find_message, load
from steno.storage.store import Store
from steno.tests.unit.strategies import DOCUMENTS, PATCHES, canonical

NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all; each test and each example has a session of its own."""
    path = tmp_path_factory.mktemp("edit") / "steno.db"
    with Store(path, now_ms=itertools.count(NOW_MS).__next__) as opened:
        yield opened


@pytest.fixture
def session(store: Store) -> SessionRow:
    return _row(store, store.create().id)


def _row(store: Store, session_id: str) -> SessionRow:
    row = store.find(session_id)
    assert row is not None
    return row


def _message(store: Store, session: SessionRow, message_id: str) -> MessageRow:
    row = find_message(store, session.no, message_id)
    assert row is not None
    return row


def _write(store: Store, session: SessionRow, path: str, value: Any, **how: Any) -> Register:
    """Write one register and return its state."""
    with store.transaction():
        edit = Edit(store, session, **how)
        edit.set(path, text_of(value))
        edit.finish()
    return load(store, session.no, None, path)


# Documents


@given(DOCUMENTS, st.lists(PATCHES, max_size=5))
def test_metadata_is_what_the_patches_make_of_it(store: Store, first: dict[str, Any], patches: list[Any]):
    session_id = store.create(metadata=first).id
    expected = first
    for patch in patches:
        expected = merge_patch(expected, patch)
        assert canonical(store.update(session_id, metadata=patch).metadata) == canonical(expected)
    assert canonical(store.get(session_id).metadata) == canonical(expected)


@given(DOCUMENTS, st.lists(PATCHES, max_size=5))
def test_metadata_of_a_message_is_what_the_patches_make_of_it(store: Store, first: dict[str, Any], patches: list[Any]):
    session_id = store.create().id
    store.append(session_id, NewMessage(id="m", role="user", content="text", metadata=first))
    expected = first
    for patch in patches:
        expected = merge_patch(expected, patch)
        shown = store.edit_message(session_id, "m", {"metadata": patch})
        assert canonical(shown.metadata) == canonical(expected)


def test_a_value_that_went_with_its_object_can_be_set_again(store: Store):
    session_id = store.create(metadata={"a": {"b": 1}}).id
    store.update(session_id, metadata={"a": None})
    assert store.update(session_id, metadata={"a": {"b": 1}}).metadata == {"a": {"b": 1}}


def test_a_key_may_be_empty(store: Store):
    session_id = store.create(metadata={"": 1}).id
    assert store.update(session_id, metadata={"a": 2}).metadata == {"": 1, "a": 2}


def test_a_patch_writes_only_the_leaves_that_it_changes(store: Store):
    session_id = store.create(metadata={"a": {"b": 1, "c": 2}}).id
    no = _row(store, session_id).no
    before = family(store, no, 0, "metadata")
    store.update(session_id, metadata={"a": {"b": 1, "c": 3}})
    after = family(store, no, 0, "metadata")
    assert {path for path in after if after[path] != before.get(path)} == {"metadata/a/c"}


def test_a_leaf_says_what_its_writer_knew_of_the_paths_above_and_below(store: Store):
    session_id = store.create(metadata={"a": {"b": 1}, "x": 1}).id
    store.update(session_id, metadata={"a": 2})
    leaf = family(store, _row(store, session_id).no, 0, "metadata")["metadata/a"]
    assert b"metadata/a/b" in leaf.top[1].seen
    assert b"metadata/x" not in leaf.top[1].seen


# Tags


TAGS = st.lists(st.sampled_from(["a", "b", "c", "d/e", "d"]), unique=True, max_size=5)


@given(st.lists(TAGS, min_size=1, max_size=5))
def test_tags_are_the_last_ones_set_in_their_order(store: Store, turns: list[list[str]]):
    session_id = store.create(tags=turns[0]).id
    for tags in turns:
        assert store.update(session_id, tags=tags).tags == tags


@given(TAGS, TAGS, TAGS)
def test_tags_are_added_behind_and_taken_away_wherever_they_stand(
    store: Store, first: list[str], add: list[str], remove: list[str]
):
    session_id = store.create(tags=first).id
    expected = [tag for tag in [*first, *(tag for tag in add if tag not in first)] if tag not in remove]
    assert store.update(session_id, add_tags=add, remove_tags=remove).tags == expected


def test_a_tag_added_writes_no_other_tag(store: Store):
    session_id = store.create(tags=["a", "b"]).id
    no = _row(store, session_id).no
    before = family(store, no, 0, "tags")
    store.update(session_id, add_tags=["c"])
    after = family(store, no, 0, "tags")
    assert {path for path in after if after[path] != before.get(path)} == {"tags/c"}


def test_tags_that_two_devices_put_in_one_place_stay_there_when_another_is_added(store: Store, session: SessionRow):
    for tag in "ab":
        _write(store, session, f"tags/{tag}", 1)
    before = family(store, session.no, 0, "tags")
    assert store.update(session.id, add_tags=["c"]).tags == ["a", "b", "c"]
    after = family(store, session.no, 0, "tags")
    assert {path for path in after if after[path] != before.get(path)} == {"tags/c"}


def test_a_tag_removed_is_a_removal_and_no_null(store: Store):
    session_id = store.create(tags=["a"]).id
    store.update(session_id, tags=[])
    assert load(store, _row(store, session_id).no, None, "tags/a").shown == REMOVED


# One change


def test_a_change_takes_one_number_and_one_stamp_however_many_registers_it_writes(store: Store, session: SessionRow):
    before = store.last_seq
    store.update(session.id, fields={"title": "A", "provider": "p"}, tags=["x"], metadata={"a": 1, "b": 2})
    assert store.last_seq == before + 1
    registers = [load(store, session.no, None, path) for path in ("title", "provider", "tags/x", "metadata/a")]
    assert len({register.top[0] for register in registers}) == 1


def test_a_change_of_a_session_and_its_messages_takes_one_number_a_row(store: Store, session: SessionRow):
    store.append(session.id, NewMessage(id="m", role="user", content="text"))
    before = store.last_seq
    with store.transaction():
        edit = Edit(store, session)
        edit.set("title", text_of("A"))
        edit.set("content", text_of("edited"), message=_message(store, session, "m"))
        edit.set("sender", text_of("ann"), message=_message(store, session, "m"))
        edit.finish()
    assert store.last_seq == before + 2
    assert (store.get(session.id).title, store.get_message(session.id, "m").content) == ("A", "edited")
    assert store.get_message(session.id, "m").sender == "ann"


def test_a_change_that_changes_nothing_writes_nothing(store: Store):
    fields = {"title": "A", "status": "paused", "provider": "p"}
    created = store.create(title="A", status="paused", provider="p", tags=["x"], metadata={"a": {}}, state={"s": None})
    before = store.last_seq
    again = store.update(created.id, fields=fields, tags=["x"], metadata={"a": {}}, state={})
    assert (store.last_seq, again) == (before, created)


def test_a_register_written_twice_in_one_change_has_the_last_value(store: Store, session: SessionRow):
    with store.transaction():
        edit = Edit(store, session)
        edit.set("title", text_of("first"))
        edit.set("title", text_of("second"))
        edit.finish()
    register = load(store, session.no, None, "title")
    assert (register.shown, len(register.open)) == (text_of("second"), 1)


def test_what_a_register_was_before_is_kept_with_its_span(store: Store, session: SessionRow):
    seqs = []
    for title in ("first", "second", "third"):
        _write(store, session, "title", title)
        seqs.append(store.last_seq)
    spans = store.execute(
        "SELECT from_seq, until_seq FROM revisions WHERE session = ? AND path = 'title' ORDER BY from_seq",
        (session.no,),
    ).fetchall()
    assert spans == [(seqs[0], seqs[1]), (seqs[1], seqs[2])]


def test_what_a_message_was_born_with_is_kept_when_it_is_edited(store: Store, session: SessionRow):
    store.append(session.id, NewMessage(id="m", role="user", content="born"))
    born = _message(store, session, "m")
    store.edit_message(session.id, "m", {"content": "edited"})
    spans = store.execute(
        "SELECT from_seq, until_seq FROM revisions WHERE session = ? AND message = ?", (session.no, born.no)
    ).fetchall()
    assert spans == [(born.born_seq, store.last_seq)]


def test_an_edited_message_knows_its_birth(store: Store, session: SessionRow):
    store.append(session.id, NewMessage(id="m", role="user", content="born"))
    store.edit_message(session.id, "m", {"content": "edited"})
    register = load(store, session.no, _message(store, session, "m"), "content")
    assert len(register.open) == 1
    assert not register.conflict


def test_an_edit_that_is_undone_leaves_neither_number_nor_stamp(store: Store, session: SessionRow):
    before = store.one("SELECT seq, hlc FROM clock")
    with pytest.raises(RuntimeError), store.transaction():  # noqa: PT012  the transaction is the point
        edit = Edit(store, session)
        edit.set("title", text_of("lost"))
        edit.finish()
        raise RuntimeError
    assert store.one("SELECT seq, hlc FROM clock") == before
    assert store.get(session.id).title == ""


# Classes and bases


def test_a_derived_write_yields_to_what_a_person_wrote(store: Store, session: SessionRow):
    _write(store, session, "title", "by hand")
    register = _write(store, session, "title", "derived", rank=DERIVED)
    assert store.get(session.id).title == "by hand"
    assert {stamp.rank for stamp in register.open} == {BY_HAND, DERIVED}
    assert not register.conflict


def test_a_write_by_hand_replaces_what_was_derived(store: Store, session: SessionRow):
    _write(store, session, "title", "derived", rank=DERIVED)
    assert len(_write(store, session, "title", "by hand").open) == 1


def test_a_write_on_an_older_base_stands_beside_what_arrived_meanwhile(store: Store, session: SessionRow):
    old = _write(store, session, "title", "as the editor had it").known
    _write(store, session, "title", "meanwhile")

    def base(message: MessageRow | None, path: str) -> Known:
        assert (message, path) == (None, "title")
        return old

    register = _write(store, session, "title", "from the editor", base=base)
    assert register.conflict
    assert store.get(session.id).title == "from the editor"
    assert store.one("SELECT conflict FROM registers WHERE session = ? AND path = 'title'", (session.no,)) == (1,)


def test_writing_the_shown_value_settles_a_conflict(store: Store, session: SessionRow):
    _write(store, session, "title", "one")
    _write(store, session, "title", "other", base=lambda _message, _path: {})
    register = _write(store, session, "title", "other")
    assert not register.conflict
    assert store.one("SELECT conflict FROM registers WHERE session = ? AND path = 'title'", (session.no,)) == (0,)


# Caches


def test_a_change_says_when_a_session_was_written_to(store: Store, session: SessionRow):
    before = store.get(session.id).updated_at
    assert store.update(session.id, fields={"title": "A"}).updated_at > before


def test_hiding_a_message_counts_and_titles_the_session_anew(store: Store, session: SessionRow):
    for number in ("first", "second"):
        store.append(session.id, NewMessage(id=number, role="user", content=number))
    store.delete_message(session.id, "first")
    header = store.get(session.id)
    assert (header.message_count, header.title) == (1, "second")


def test_editing_the_first_message_changes_an_automatic_title(store: Store, session: SessionRow):
    store.append(session.id, NewMessage(id="m", role="user", content="before"))
    store.edit_message(session.id, "m", {"content": "after"})
    assert store.get(session.id).title == "after"


def test_editing_a_time_moves_the_last_change_of_the_session(store: Store, session: SessionRow):
    store.append(session.id, NewMessage(id="m", role="user", content="text"))
    store.edit_message(session.id, "m", {"timestamp": "2999-01-01T00:00:00.000Z"})
    assert store.get(session.id).updated_at == "2999-01-01T00:00:00.000Z"
