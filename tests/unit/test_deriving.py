"""A file without a base is derived data: each value it shows is new, known, an edit, or it yields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied, apply
from steno.storage.change import decode_batch, local_changes
from steno.storage.conflicts import conflicts
from steno.storage.forks import fork
from steno.storage.model import NewMessage
from steno.storage.purge import purge_message, purge_session
from steno.storage.registers import EMPTY, Register, Value, born
from steno.storage.stamps import BY_HAND, DERIVED, REBUILT, Stamp
from steno.storage.state import birth_stamps, find_message, load
from steno.storage.store import Store
from steno.sync.files.absorb import absorb
from steno.sync.files.deriving import Derived, Verdict, derive, verdict
from steno.sync.files.lines import Refused, Rev, header_of, line_of, parse, render

NOW_MS = 1_800_000_000_000
LOST, OTHER = "lostlostlost", "otherotherot"


class Side:
    """A store, and what it published so far."""

    def __init__(self, path: Path, clock: Iterator[int]) -> None:
        self.store = Store(path, now_ms=clock.__next__)
        self._cursor = 0

    def tell(self, other: Side) -> None:
        """Give another store all that was written here since."""
        batch, self._cursor, _ = local_changes(self.store, since=self._cursor, floor=self._cursor, max_bytes=1 << 30)
        if batch:
            decoded = decode_batch(batch)
            with other.store.transaction():
                done = Applied()
                apply(other.store, decoded, decoded.sessions, done=done)
            assert done.refused == []


class Desk:
    """The store that was lost, the one that is made anew, and another device's."""

    def __init__(self, folder: Path) -> None:
        clock = iter(range(NOW_MS, NOW_MS + 10_000_000, 1000))
        self.lost, self.new, self.other = (Side(folder / f"{name}.db", clock) for name in ("lost", "new", "other"))

    def text(self, session: str = "s") -> str:
        """The file of a session as the lost store wrote it."""
        store = self.lost.store
        shown = header_of(store.get(session), rev=Rev(store.store_name, store.last_seq))
        return render(shown, map(line_of, store.messages(session))).decode()

    def derive(self, text: str, session: str = "s") -> Derived:
        """Take a file into the new store."""
        return derived(self.new.store, text, session, lost=self.lost.store.device)

    def close(self) -> None:
        for side in (self.lost, self.new, self.other):
            side.store.close()


def derived(store: Store, text: str, session: str = "s", *, lost: str = "") -> Derived:
    with store.transaction():
        return derive(store, parse(text.encode()), session_id=session, lost=[lost])


def later(folder: Path) -> Store:
    """A store that is made when all others have written what they write."""
    return Store(folder / "fresh.db", now_ms=lambda: NOW_MS * 2)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


@pytest.fixture
def full(desk: Desk) -> Desk:
    """A session with everything that a file can show, known to the other device and to the new store."""
    store = desk.lost.store
    store.create(
        id="s", title="Plan", status="paused", provider="anthropic", model="m", user_id="u", tags=["b", "a"],
        metadata={"a": {"b": 1, "empty": {}}, "n": None}, state={"k": [1, {"x": 2}]}, source={"tool": "x"},
        forked_from={"session": "elsewhere", "message": "m"}, created_ms=NOW_MS - 5,
    )  # fmt: skip
    store.add_messages(
        "s",
        [
            NewMessage(role="user", content="one", id="1", sender="Ann", timestamp="2026-01-02T03:04:05+01:00"),
            NewMessage(role="assistant", content=[{"type": "text", "text": "two"}], id="2", parent="1", model="x",
                       usage={"input_tokens": 3}, metadata={"k": {"l": 1}}, origin={"session": "o", "message": "p"}),
            NewMessage(role="user", content="three", id="3"),
        ],
    )  # fmt: skip
    tell_all(desk)
    return desk


def tell_all(desk: Desk) -> None:
    """What the lost device and the other one sent reaches both of those that live."""
    batches = [(side, side.store) for side in (desk.lost, desk.other)]
    for side, store in batches:
        batch, _, _ = local_changes(store, since=0, floor=0, max_bytes=1 << 30)
        if not batch:
            continue
        decoded = decode_batch(batch)
        for target in (desk.lost, desk.other, desk.new):
            if target is not side:
                with target.store.transaction():
                    apply(target.store, decoded, decoded.sessions, done=Applied())


def shown(store: Store, session: str = "s") -> tuple[Any, list[Any]]:
    return store.get(session), list(store.messages(session))


def written(store: Store) -> bytes:
    """What a store would publish."""
    return local_changes(store, since=0, floor=0, max_bytes=1 << 30)[0]


def edited(text: str, change: Callable[[dict[str, Any], list[dict[str, Any]]], object]) -> str:
    """A file in which somebody changed the header or the lines."""
    head, *lines = [json.loads(line) for line in text.splitlines()]
    change(head, lines)
    return "".join(json.dumps(line) + "\n" for line in [head, *lines])


# What becomes of one value


def _by(rank: int, device: str, text: bytes = b'"theirs"') -> Register:
    return born(Stamp(rank, 7, device), text)


def _two() -> Register:
    mine, theirs = Stamp(BY_HAND, 1, LOST), Stamp(BY_HAND, 1, OTHER)
    return Register({mine: Value(b'"a"'), theirs: Value(b'"b"')}, {mine.writer: 1, theirs.writer: 1})


@pytest.mark.parametrize(
    ("register", "earlier", "expected"),
    [
        (EMPTY, [], "new"),
        (_by(BY_HAND, OTHER, b'"mine"'), [], "known"),
        (_by(BY_HAND, OTHER), [_by(BY_HAND, LOST, b'"mine"')], "known"),
        (_by(BY_HAND, LOST), [_by(BY_HAND, LOST, b'"mine"')], "known"),
        (_by(BY_HAND, LOST), [], "edit"),
        (_by(DERIVED, LOST), [], "edit"),
        (_by(BY_HAND, OTHER), [], "yields"),
        (_by(DERIVED, OTHER), [_by(BY_HAND, LOST)], "yields"),
        (_two(), [], "yields"),
    ],
)
def test_a_value_is_weighed_by_what_is_known_of_its_register(
    register: Register, earlier: list[Register], expected: Verdict
):
    assert verdict(register, earlier, same=lambda text: text == b'"mine"', lost=[LOST]) == expected


# A session that nobody else knows


def test_all_that_a_file_shows_comes_back(full: Desk, tmp_path: Path):
    with later(tmp_path) as fresh:
        done = derived(fresh, full.text())
        assert (done.created, done.added, done.yielded, done.edits) == (True, 3, [], [])
        before, messages = shown(full.lost.store)
        after, again = shown(fresh)
        assert again == messages
        assert header_of(after, rev=Rev("x", 0)) == header_of(before, rev=Rev("x", 0))


def test_what_comes_back_is_of_the_class_that_yields(full: Desk, tmp_path: Path):
    with later(tmp_path) as fresh:
        derived(fresh, full.text())
        row = fresh.find("s")
        assert row is not None
        title = load(fresh, row.no, None, "title")
        assert [(stamp.rank, stamp.clock < 1 << 16) for stamp in title.open] == [(REBUILT, True)]
        message = find_message(fresh, row.no, "1")
        assert message is not None
        [birth] = birth_stamps(fresh, message)
        assert birth.rank == REBUILT
        assert birth.clock >= NOW_MS * 2 << 16


def test_the_stamps_of_rebuilt_values_are_never_given_twice(desk: Desk, tmp_path: Path):
    for session in ("s", "t"):
        desk.lost.store.create(id=session, title=session)
    clocks: list[int] = []
    for session in ("s", "t"):
        with later(tmp_path) as fresh:
            derived(fresh, desk.text(session), session)
            row = fresh.find(session)
            assert row is not None
            clocks += [stamp.clock for stamp in load(fresh, row.no, None, "title").open]
    assert clocks == [1, 2]


@pytest.mark.parametrize("title", ["Given", None])
def test_an_automatic_title_stays_automatic_and_a_given_one_given(desk: Desk, tmp_path: Path, title: str | None):
    desk.lost.store.create(id="s", title=title)
    desk.lost.store.append("s", NewMessage(role="user", content="What is to be done?"))
    with later(tmp_path) as fresh:
        derived(fresh, desk.text())
        assert fresh.get("s").title == desk.lost.store.get("s").title
        assert fresh.get("s").automatic_title == (title is None)


def test_a_fork_knows_its_original_again(desk: Desk, tmp_path: Path):
    desk.lost.store.create(id="s", title="Plan")
    desk.lost.store.append("s", NewMessage(role="user", content="one", id="1"))
    made = fork(desk.lost.store, "s")
    with later(tmp_path) as fresh:
        for session in ("s", made.id):
            derived(fresh, desk.text(session), session)
        assert fresh.get(made.id).forked_from == desk.lost.store.get(made.id).forked_from
        assert fresh.execute("SELECT ancestor FROM forks").fetchall() == [("s",)]
        assert [each.origin for each in fresh.messages(made.id)] == [
            each.origin for each in desk.lost.store.messages(made.id)
        ]


def test_a_time_that_is_none_is_refused_with_its_line_and_leaves_nothing(desk: Desk):
    desk.lost.store.create(id="s")
    desk.lost.store.append("s", NewMessage(role="user", content="one", id="1"))
    text = edited(desk.text(), lambda _, lines: lines[0].update(timestamp="yesterday"))
    with pytest.raises(Refused, match="yesterday"):
        desk.derive(text)
    assert desk.new.store.find("s") is None


# A session that others know


def test_a_file_that_shows_what_is_known_writes_nothing(full: Desk):
    before = full.new.store.last_seq
    done = full.derive(full.text())
    assert (done.added, done.edits, done.yielded) == (0, [], [])
    assert full.new.store.last_seq == before
    assert written(full.new.store) == b""


def test_a_file_whose_keys_stand_in_another_order_writes_nothing(full: Desk):
    def turn(head: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        head["metadata"]["a"] = dict(reversed(head["metadata"]["a"].items()))
        lines[1]["content"] = [dict(reversed(lines[1]["content"][0].items()))]

    full.derive(edited(full.text(), turn))
    assert written(full.new.store) == b""


CHANGES: dict[str, Callable[[Store], object]] = {
    "title": lambda store: store.update("s", fields={"title": "Theirs"}),
    "status": lambda store: store.update("s", fields={"status": "archived"}),
    "provider": lambda store: store.update("s", fields={"provider": "openai"}),
    "a tag taken away": lambda store: store.update("s", remove_tags=["b"]),
    "a tag given": lambda store: store.update("s", add_tags=["c"]),
    "metadata set": lambda store: store.update("s", metadata={"a": {"b": 2}}),
    "metadata removed": lambda store: store.update("s", metadata={"a": {"b": None}}),
    "metadata replaced above": lambda store: store.update("s", metadata={"a": 5}),
    "state": lambda store: store.update("s", state={"k": 5}),
    "content": lambda store: store.edit_message("s", "1", {"content": "theirs"}),
    "sender": lambda store: store.edit_message("s", "1", {"sender": "Bob"}),
    "timestamp": lambda store: store.edit_message("s", "1", {"timestamp": "2026-05-05T05:05:05Z"}),
    "metadata of a message": lambda store: store.edit_message("s", "2", {"metadata": {"k": {"l": 2}}}),
    "a message deleted": lambda store: store.delete_message("s", "2"),
    "a message added": lambda store: store.append("s", NewMessage(role="user", content="four")),
    "a message inserted": lambda store: store.append("s", NewMessage(role="user", content="between", after="1")),
    "a message purged": lambda store: purge_message(store, "s", "2"),
    "cleared": lambda store: store.clear("s"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_others_wrote_since_stands_and_no_conflict_arises(full: Desk, name: str):
    text = full.text()
    CHANGES[name](full.other.store)
    full.other.tell(full.new)
    before = shown(full.new.store)
    done = full.derive(text)
    assert shown(full.new.store) == before == shown(full.other.store)
    assert (done.added, done.edits) == (0, [])
    assert written(full.new.store) == b""
    assert list(conflicts(full.new.store)) == []


def test_a_session_that_was_deleted_meanwhile_stays_deleted(full: Desk):
    full.other.store.delete("s")
    full.other.tell(full.new)
    full.derive(full.text())
    assert list(full.new.store.sessions()) == []
    assert written(full.new.store) == b""


def test_the_fields_of_a_session_that_was_deleted_meanwhile_are_left_as_they_are(full: Desk):
    full.lost.store.update("s", fields={"title": "Mine"}, add_tags=["c"])
    text = full.text()
    full.other.store.delete("s")
    full.other.tell(full.new)
    full.derive(text)
    assert written(full.new.store) == b""


def test_a_status_that_nobody_had_set_in_the_file_yields_silently(desk: Desk):
    desk.lost.store.create(id="s")
    tell_all(desk)
    desk.other.store.update("s", fields={"status": "archived"})
    desk.other.tell(desk.new)
    assert desk.derive(desk.text()).yielded == []
    assert desk.new.store.get("s").status == "archived"


def test_what_the_deleter_of_a_session_did_not_know_is_shown_again_alone(full: Desk):
    full.other.store.delete("s")
    full.other.tell(full.new)
    full.lost.store.append("s", NewMessage(role="user", content="never sent"))
    full.derive(full.text())
    assert [each.content for each in full.new.store.messages("s")] == ["never sent"]


def test_a_session_that_was_purged_meanwhile_is_refused(full: Desk):
    purge_session(full.other.store, "s")
    full.other.tell(full.new)
    with pytest.raises(Refused, match="was purged"):
        full.derive(full.text())


def test_a_file_that_may_be_of_an_earlier_life_adds_nothing_to_the_next(full: Desk):
    purge_session(full.other.store, "s")
    full.other.store.create(id="s", title="Anew")
    full.other.tell(full.new)
    with pytest.raises(Refused, match="was purged once"):
        full.derive(full.text())
    assert [each.content for each in full.new.store.messages("s")] == []
    assert full.new.store.get("s").title == "Anew"


def test_a_message_that_is_known_to_be_purged_before_it_arrived_is_left_out(full: Desk, tmp_path: Path):
    """Its birth lies in a hole of what was pulled."""
    purge_message(full.other.store, "s", "2")
    batch = decode_batch(local_changes(full.other.store, since=0, floor=0, max_bytes=1 << 30)[0])
    with later(tmp_path) as fresh:
        with fresh.transaction():
            apply(fresh, batch, batch.sessions, done=Applied())
        derived(fresh, full.text())
        assert [each.id for each in fresh.messages("s")] == ["1", "3"]


def test_the_title_that_a_purged_message_made_is_left_out(desk: Desk):
    desk.lost.store.create(id="s")
    desk.lost.store.add_messages("s", [NewMessage(role="user", content=each, id=each) for each in ("one", "two")])
    tell_all(desk)
    purge_message(desk.other.store, "s", "one")
    desk.other.tell(desk.new)
    desk.derive(desk.text())
    assert (desk.new.store.get("s").title, desk.new.store.get("s").automatic_title) == ("two", True)


def test_a_purged_message_is_left_out_also_where_its_session_is_deleted(full: Desk, tmp_path: Path):
    purge_message(full.other.store, "s", "2")
    full.other.store.delete("s")
    batch = decode_batch(local_changes(full.other.store, since=0, floor=0, max_bytes=1 << 30)[0])
    with later(tmp_path) as fresh:
        with fresh.transaction():
            apply(fresh, batch, batch.sessions, done=Applied())
        derived(fresh, full.text())
        said = [str(content) for (content,) in fresh.execute("SELECT content FROM messages")]
        assert not any("two" in each for each in said)


def test_a_deletion_that_waited_for_its_message_meets_it(full: Desk, tmp_path: Path):
    full.other.store.delete_message("s", "2")
    batch = decode_batch(local_changes(full.other.store, since=0, floor=0, max_bytes=1 << 30)[0])
    with later(tmp_path) as fresh:
        with fresh.transaction():
            apply(fresh, batch, batch.sessions, done=Applied())
        derived(fresh, full.text())
        assert [each.id for each in fresh.messages("s")] == ["1", "3"]
        assert not fresh.get("s").incomplete


# What the lost device never sent


def test_messages_that_were_never_sent_are_added_in_their_places(full: Desk):
    full.lost.store.append("s", NewMessage(role="user", content="between", id="b", after="1"))
    full.lost.store.append("s", NewMessage(role="user", content="four", id="4"))
    assert full.derive(full.text()).added == 2
    assert [each.id for each in full.new.store.messages("s")] == ["1", "b", "2", "3", "4"]
    assert shown(full.new.store)[1] == shown(full.lost.store)[1]


UNSENT: dict[str, Callable[[Store], object]] = {
    "title": lambda store: store.update("s", fields={"title": "Mine"}),
    "status": lambda store: store.update("s", fields={"status": "archived"}),
    "user": lambda store: store.update("s", fields={"user_id": "v"}),
    "metadata": lambda store: store.update("s", metadata={"a": {"b": 2}}),
    "new metadata": lambda store: store.update("s", metadata={"new": {"b": 2}}),
    "metadata replaced above": lambda store: store.update("s", metadata={"a": 5}),
    "state put below": lambda store: store.update("s", state={"k": {"x": 1}}),
    "state": lambda store: store.update("s", state={"k": 5}),
    "a tag": lambda store: store.update("s", add_tags=["c"]),
    "content": lambda store: store.edit_message("s", "1", {"content": "mine"}),
    "content of blocks": lambda store: store.edit_message("s", "2", {"content": [{"type": "text", "text": "mine"}]}),
    "sender": lambda store: store.edit_message("s", "3", {"sender": "Bob"}),
    "parent": lambda store: store.edit_message("s", "3", {"parent": "2"}),
    "usage": lambda store: store.edit_message("s", "2", {"usage": {"input_tokens": 4}}),
    "timestamp": lambda store: store.edit_message("s", "1", {"timestamp": "2026-05-05T05:05:05Z"}),
    "metadata of a message": lambda store: store.edit_message("s", "2", {"metadata": {"k": {"l": 2}}}),
    "new metadata of a message": lambda store: store.edit_message("s", "3", {"metadata": {"k": 2}}),
}


@pytest.mark.parametrize("name", UNSENT)
def test_an_edit_that_was_never_sent_is_shown_again(full: Desk, name: str):
    UNSENT[name](full.lost.store)
    done = full.derive(full.text())
    assert done.yielded == []
    before, messages = shown(full.lost.store)
    after, again = shown(full.new.store)
    assert again == messages
    assert header_of(after, rev=Rev("x", 0)) == header_of(before, rev=Rev("x", 0))
    full.new.tell(full.other)
    assert shown(full.other.store) == (after, again)


def test_an_edit_that_was_never_sent_stands_beside_what_was(full: Desk):
    """A file may also have been a moment behind when the database was lost: then what was sent last is to be seen."""
    full.lost.store.edit_message("s", "1", {"content": "mine"})
    full.derive(full.text())
    [conflict] = conflicts(full.new.store)
    assert (conflict.message, conflict.shown.value) == ("1", "mine")
    assert [each.value for each in conflict.others] == ["one"]


def test_an_edit_yields_to_what_another_wrote_and_is_told(full: Desk):
    full.lost.store.edit_message("s", "1", {"content": "mine"})
    text = full.text()
    full.other.store.edit_message("s", "1", {"content": "theirs"})
    full.other.tell(full.new)
    [yielded] = full.derive(text).yielded
    assert yielded == ("1", "content", "mine")
    assert next(full.new.store.messages("s")).content == "theirs"
    assert list(conflicts(full.new.store)) == []


def test_what_stands_above_a_value_of_another_yields_to_it_and_is_told(full: Desk):
    full.lost.store.update("s", metadata={"a": 5})
    text = full.text()
    full.other.store.update("s", metadata={"a": {"b": 7}})
    full.other.tell(full.new)
    [yielded] = full.derive(text).yielded
    assert yielded == (None, "metadata/a", 5)
    assert full.new.store.get("s").metadata["a"] == {"b": 7, "empty": {}}


def test_an_edit_of_a_message_that_was_deleted_meanwhile_is_told_and_does_not_bring_it_back(full: Desk):
    full.lost.store.edit_message("s", "1", {"content": "mine"})
    text = full.text()
    full.other.store.delete_message("s", "1")
    full.other.tell(full.new)
    [yielded] = full.derive(text).yielded
    assert yielded == ("1", "content", "mine")
    assert [each.id for each in full.new.store.messages("s")] == ["2", "3"]


def test_two_edits_of_one_message_are_both_written(full: Desk):
    full.lost.store.edit_message("s", "2", {"metadata": {"k": {"l": 2}, "fresh": 1}, "sender": "Bob"})
    full.derive(full.text())
    [message] = [each for each in full.new.store.messages("s") if each.id == "2"]
    assert (message.metadata, message.sender) == ({"k": {"l": 2}, "fresh": 1}, "Bob")


# What was typed while there was no database


def typed(head: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines.insert(1, {"role": "user", "content": "typed between"})
    lines.append({"role": "user", "content": "typed last"})


def test_lines_that_were_typed_are_added_by_hand_where_they_stand(full: Desk):
    full.derive(edited(full.text(), typed))
    contents = [each.content for each in full.new.store.messages("s")]
    assert contents[0:2] == ["one", "typed between"]
    assert contents[-1] == "typed last"
    row = full.new.store.find("s")
    assert row is not None
    ranks = {each.content: each.author % 4 for each in full.new.store.message_rows(row.no)}
    assert ranks["typed between"] == ranks["typed last"] == BY_HAND


def test_lines_that_were_typed_into_a_session_that_nobody_else_knows_stay_in_their_places(full: Desk, tmp_path: Path):
    with later(tmp_path) as fresh:
        derived(fresh, edited(full.text(), typed))
        before = [each.content for each in fresh.messages("s")]
        batch = decode_batch(written(full.lost.store))
        with fresh.transaction():
            apply(fresh, batch, batch.sessions, done=Applied())
        assert [each.content for each in fresh.messages("s")] == before
        assert before[1] == "typed between"


def test_an_editor_that_saves_the_same_lines_again_adds_none_of_them_twice(full: Desk):
    text = edited(full.text(), typed)
    full.derive(text)
    before = [each.id for each in full.new.store.messages("s")]
    with full.new.store.transaction():
        absorb(full.new.store, parse(text.encode()), session_id="s")
    assert [each.id for each in full.new.store.messages("s")] == before


# What is rebuilt from files alone meets the others later


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_rebuilt_before_the_remote_answered_yields_to_it(full: Desk, tmp_path: Path, name: str):
    text = full.text()
    CHANGES[name](full.other.store)
    fresh = Side(tmp_path / "fresh.db", iter(range(NOW_MS * 2, NOW_MS * 3, 1000)))
    with fresh.store:
        derived(fresh.store, text)
        before = shown(full.other.store)
        for side in (full.lost, full.other):
            batch = decode_batch(written(side.store))
            with fresh.store.transaction():
                apply(fresh.store, batch, batch.sessions, done=Applied())
        fresh.tell(full.other)
        assert shown(fresh.store) == shown(full.other.store) == before
        assert list(conflicts(fresh.store)) == []
