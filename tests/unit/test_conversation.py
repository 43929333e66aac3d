"""A session read as a conversation: where each message comes from, who says it, and what replies to what."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.storage import conversation
from steno.storage.conversation import NO_ROLE, formatted, history, replies, text
from steno.storage.errors import InvalidInput, MessageNotFound, NotASession, SessionNotFound
from steno.storage.forks import fork, merge
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.storage.rows import MESSAGE_COLUMNS
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.tests.unit.test_apply import Stores, take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(1_700_000_000_000).__next__) as opened:
        yield opened


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path)
    yield made
    for each in made.opened:
        each.close()


def new(content: Any, role: str = "user", **fields: Any) -> NewMessage:
    return NewMessage(role=role, content=content, **fields)


@pytest.fixture
def family(store: Store) -> Store:
    """Root with three messages, its fork with one more, and an empty fork of that one."""
    store.create(id="root", title="Root")
    store.add_messages(
        "root",
        [
            new("Be kind", "system", id="m1"),
            new("Message 1", id="m2"),
            new("Response 1", "assistant", id="m3", sender="bot", metadata={"a": 1}, timestamp="2024-01-01T00:00:00Z"),
        ],
    )
    fork(store, "root", id="fork1", title="Fork one")
    store.append("fork1", new("Fork1 Message", id="m4"))
    fork(store, "fork1", id="fork2", title="Fork two")
    return store


# History


@pytest.mark.check("MDB-18", "MDB-16")
def test_the_history_of_a_fork_is_that_of_its_ancestors_and_then_its_own(family: Store):
    assert [each.content for each in history(family, "fork2")] == [
        "Be kind",
        "Message 1",
        "Response 1",
        "Fork1 Message",
    ]
    assert [each.role for each in history(family, "fork2")] == ["system", "user", "assistant", "user"]


@pytest.mark.check("MDB-16")
def test_each_message_of_a_history_says_who_owns_it_and_through_which_forks_it_came(family: Store):
    family.append("fork2", new("Own", id="m5"))
    found = [(each.message_id, each.session_id, each.fork_depth, each.fork_chain) for each in history(family, "fork2")]
    assert found == [
        ("m1", "root", 2, ("fork2", "fork1", "root")),
        ("m2", "root", 2, ("fork2", "fork1", "root")),
        ("m3", "root", 2, ("fork2", "fork1", "root")),
        ("m4", "fork1", 1, ("fork2", "fork1")),
        ("m5", "fork2", 0, ("fork2",)),
    ]


@pytest.mark.check("MDB-16")
def test_a_history_ends_at_each_fork_point(family: Store):
    fork(family, "root", id="early", at="m2")
    family.append("root", new("Later"))
    assert [each.content for each in history(family, "early")] == ["Be kind", "Message 1"]


def test_a_history_has_what_was_said_of_each_message(family: Store):
    *_, found, _ = history(family, "fork2")
    assert (found.sender, found.timestamp, found.metadata, found.parent) == (
        "bot",
        "2024-01-01T00:00:00Z",
        {"a": 1},
        None,
    )


@pytest.mark.check("MDB-16")
def test_a_message_without_a_role_is_the_systems(store: Store):
    store.create(id="s", title="S")
    store.append("s", new("Hello team!", NO_ROLE, sender="user1"))
    assert [each.role for each in history(store, "s")] == ["system"]


@pytest.mark.check("MDB-20")
def test_a_history_says_where_it_comes_from_also_where_its_ancestors_are_not(tmp_path: Path, family: Store):
    family.delete("root")
    family.delete("fork1")
    before = list(history(family, "fork2"))
    assert [each.session_id for each in before] == ["root", "root", "root", "fork1"]
    header = family.get("fork2")
    with Store(tmp_path / "elsewhere.db") as alone:
        alone.create(id="fork2", title=header.title, forked_from=header.forked_from)
        alone.add_messages(
            "fork2",
            [new(m.content, m.role, id=m.id, origin=m.origin, sender=m.sender) for m in family.messages("fork2")],
        )
        assert [(each.session_id, each.fork_chain) for each in history(alone, "fork2")] == [
            (each.session_id, each.fork_chain) for each in before
        ]


def test_what_was_merged_into_a_session_is_its_own(family: Store):
    merge(family, "fork1")
    *_, merged = history(family, "root")
    assert (merged.content, merged.fork_depth, merged.session_id) == ("Fork1 Message", 0, "root")


def test_an_origin_that_is_no_ancestor_makes_a_message_nobody_elses(store: Store):
    store.create(id="s", title="S")
    for origin in ({"session": "elsewhere"}, {"session": ["s"]}, {"tool": "x"}):
        store.append("s", new("x", origin=origin))
    assert {(each.fork_depth, each.session_id) for each in history(store, "s")} == {(0, "s")}


@pytest.mark.parametrize("session", ["unknown", "deleted"])
def test_what_is_no_session_has_no_history(store: Store, session: str):
    store.create(id="deleted", title="D")
    store.delete("deleted")
    with pytest.raises(SessionNotFound):
        history(store, session)


@pytest.mark.check("MDB-12")
def test_eight_writers_at_once_leave_positions_without_gap_or_repeat(tmp_path: Path, store: Store):
    store.create(id="s", title="S")
    gate = threading.Barrier(8)

    def write(writer: int) -> None:
        with Store(tmp_path / "steno.db") as own:
            gate.wait()
            for number in range(50):
                own.append("s", new(f"{writer}.{number}"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    entries = list(history(store, "s"))
    assert [each.position for each in entries] == list(range(1, 401))
    assert len({each.message_id for each in entries}) == 400
    for writer in range(8):
        said = [each.content for each in entries if str(each.content).startswith(f"{writer}.")]
        assert said == [f"{writer}.{number}" for number in range(50)]


# Read aloud


@pytest.mark.check("MDB-21")
def test_a_conversation_says_who_speaks_and_where_what_is_inherited_comes_from(family: Store):
    family.append("fork2", new("Own", id="m5"))
    found = [(each.speaker, each.message, each.fork_info, each.session_id) for each in formatted(family, "fork2")]
    assert found == [
        ("system: ", "Be kind", "(from: Fork one → Root)", "root"),
        ("user: ", "Message 1", "(from: Fork one → Root)", "root"),
        ("assistant: ", "Response 1", "(from: Fork one → Root)", "root"),
        ("user: ", "Fork1 Message", "(from: Fork one)", "fork1"),
        ("user: ", "Own", "", "fork2"),
    ]


@pytest.mark.check("MDB-21")
@pytest.mark.parametrize(
    ("role", "sender", "speaker"),
    [
        ("user", "alice", "user: "),
        ("机器", None, "机器: "),
        (NO_ROLE, "user 1", "user 1: "),
        (NO_ROLE, None, "unknown: "),
    ],
)
def test_a_speaker_is_the_role_else_the_sender_else_unknown(store: Store, role: str, sender: str, speaker: str):
    store.create(id="s", title="S")
    store.append("s", new("Hi", role, sender=sender))
    assert [each.speaker for each in formatted(store, "s")] == [speaker]


@pytest.mark.check("MDB-21")
def test_the_metadata_of_a_message_is_told_only_if_asked_for(family: Store):
    assert {each.message_metadata is None for each in formatted(family, "root")} == {True}
    told = [each.message_metadata for each in formatted(family, "root", include_metadata=True)]
    assert told == [{}, {}, {"a": 1}]
    assert [each.timestamp for each in formatted(family, "root")][2] == "2024-01-01T00:00:00Z"
    assert [each.message_id for each in formatted(family, "root")] == ["m1", "m2", "m3"]


@pytest.mark.check("MDB-21")
def test_an_ancestor_that_was_purged_is_named_by_its_id(family: Store):
    purge_session(family, "root")
    assert [each.fork_info for each in formatted(family, "fork1")] == ["(from: root)"] * 3 + [""]
    assert [each.fork_info for each in formatted(family, "fork2")] == ["(from: Fork one → root)"] * 3 + [
        "(from: Fork one)"
    ]


@pytest.mark.check("MDB-21")
@pytest.mark.parametrize("call", [formatted, text])
def test_what_is_no_session_is_said_to_be_none(store: Store, call: Any):
    with pytest.raises(NotASession, match="Session not found or is not a valid session: nobody"):
        call(store, "nobody")


def test_blocks_are_read_aloud_as_their_text(store: Store):
    store.create(id="s", title="S")
    store.append("s", new([{"type": "text", "text": "Look"}, {"type": "tool_use", "name": "x"}]))
    assert [each.message for each in formatted(store, "s")] == ["Look"]


@pytest.mark.check("MDB-22")
def test_a_conversation_as_text_has_a_line_for_each_message(family: Store):
    family.append("fork1", new("Own"))
    assert text(family, "fork1") == (
        "system: Be kind (from: Root)\n"
        "user: Message 1 (from: Root)\n"
        "assistant: Response 1 (from: Root)\n"
        "user: Fork1 Message\n"
        "user: Own\n"
    )


@pytest.mark.check("MDB-22")
def test_an_empty_session_is_the_empty_text(store: Store):
    store.create(id="s", title="S")
    assert text(store, "s") == ""


# Replies


@pytest.fixture
def thread(store: Store) -> Store:
    """top ─┬─ a ─┬─ a1 ── a11
    │     └─ a2
    └─ b                  and, apart from them, other."""
    store.create(id="s", title="S")
    store.add_messages(
        "s",
        [
            new("top", id="top"),
            new("a", id="a", parent="top"),
            new("b", id="b", parent="top"),
            new("other", id="other"),
            new("a1", id="a1", parent="a"),
            new("a2", id="a2", parent="a"),
            new("a11", id="a11", parent="a1"),
        ],
    )
    return store


def _told(store: Store, message: str) -> list[tuple[str, int]]:
    return [(reply.message.id, reply.depth) for reply in replies(store, "s", message)]


@pytest.mark.check("MDB-10")
def test_replies_are_a_tree_with_depths(thread: Store):
    assert _told(thread, "top") == [("a", 1), ("a1", 2), ("a11", 3), ("a2", 2), ("b", 1)]
    assert _told(thread, "a1") == [("a11", 1)]
    assert _told(thread, "other") == []


@pytest.mark.check("MDB-10")
def test_replies_to_one_message_stand_in_the_order_of_time(store: Store):
    store.create(id="s", title="S")
    store.append("s", new("top", id="top"))
    for message, year in (("late", 2026), ("early", 2024), ("between", 2025)):
        store.append("s", new(message, id=message, parent="top", timestamp=f"{year}-01-01T00:00:00Z"))
    assert _told(store, "top") == [("early", 1), ("between", 1), ("late", 1)]


def test_a_deleted_reply_is_left_out_and_what_replies_to_it_is_not(thread: Store):
    thread.delete_message("s", "a1")
    assert _told(thread, "a") == [("a11", 2), ("a2", 1)]


@pytest.mark.check("MDB-10")
def test_replies_that_reply_to_each_other_end(thread: Store):
    thread.edit_message("s", "top", {"parent": "a11"})
    thread.edit_message("s", "other", {"parent": "other"})
    assert _told(thread, "top") == [("a", 1), ("a1", 2), ("a11", 3), ("a2", 2), ("b", 1)]
    assert _told(thread, "a1") == [("a11", 1), ("top", 2), ("a", 3), ("a2", 4), ("b", 3)]
    assert _told(thread, "other") == []


@pytest.mark.parametrize(("session", "error"), [("unknown", SessionNotFound), ("s", MessageNotFound)])
def test_replies_to_what_is_not_there_are_an_error(thread: Store, session: str, error: type[Exception]):
    with pytest.raises(error):
        replies(thread, session, "nothing")


def test_replies_in_a_fork_are_those_that_it_copied(thread: Store):
    fork(thread, "s", id="f", at="a1")
    assert [reply.message.id for reply in replies(thread, "f", "top")] == ["a", "a1", "b"]


@settings(max_examples=50)
@given(parents=st.lists(st.none() | st.integers(0, 7), min_size=8, max_size=8), root=st.integers(0, 7))
def test_every_message_that_leads_to_another_is_a_reply_to_it_once(
    tmp_path_factory: pytest.TempPathFactory, parents: list[int | None], root: int
):
    with Store(tmp_path_factory.mktemp("replies") / "steno.db") as store:
        store.create(id="s", title="S")
        store.add_messages("s", [new(str(at), id=str(at)) for at in range(8)])
        for at, parent in enumerate(parents):
            if parent is not None:
                store.edit_message("s", str(at), {"parent": str(parent)})

        def distance(message: int | None) -> int | None:
            for steps in range(9):
                if message == root:
                    return steps
                message = None if message is None else parents[message]
            return None

        expected = {str(at): distance(at) for at in range(8) if distance(at)}
        found = _told(store, str(root))
        assert dict(found) == expected
        assert len(found) == len(expected)


# What a message may reply to


@pytest.mark.check("MDB-9")
def test_a_message_may_reply_to_one_of_its_session_or_earlier_in_its_batch(store: Store):
    store.create(id="s", title="S")
    store.append("s", new("one", id="one"))
    added = store.add_messages("s", [new("two", id="two", parent="one"), new("three", parent="two")])
    assert [each.parent for each in added] == ["one", "two"]


@pytest.mark.check("MDB-9")
def test_a_message_of_a_fork_may_reply_to_what_the_fork_inherited(family: Store):
    assert family.append("fork2", new("Yes", parent="m2")).parent == "m2"


@pytest.mark.check("MDB-9")
@pytest.mark.parametrize("parent", ["unknown", "elsewhere", "itself", "later", ""])
def test_a_reply_to_what_is_not_there_yet_is_refused_and_nothing_is_written(store: Store, parent: str):
    for session in ("s", "unrelated"):
        store.create(id=session, title=session)
    store.append("unrelated", new("x", id="elsewhere"))
    with pytest.raises(InvalidInput, match="reply"):
        store.add_messages("s", [new("fine"), new("x", id="itself", parent=parent), new("x", id="later")])
    assert list(store.messages("s")) == []


@pytest.mark.check("MDB-9")
def test_a_refused_reply_does_not_bring_a_deleted_session_back(store: Store):
    store.create(id="s", title="S")
    store.delete("s")
    with pytest.raises(InvalidInput):
        store.append("s", new("x", parent="unknown"))
    assert store.get("s", deleted=True).deleted_at is not None


def test_an_import_may_name_a_parent_that_it_does_not_bring(store: Store):
    message = new("x", id="x", parent="lost")
    take_in(
        store,
        Transcript(id="s", title="T", created_ms=1, provider=None, model=None, source={"t": 1}, messages=[message]),
    )
    assert next(store.messages("s")).parent == "lost"


def test_a_reply_from_another_device_may_come_before_what_it_replies_to(stores: Stores):
    here, there = stores.open(), stores.open()
    here.create(id="s", title="S")
    here.append("s", new("one", id="one"))
    first = stores.news(here)
    here.append("s", new("two", id="two", parent="one"))
    take(there, stores.news(here))
    assert [(each.id, each.parent) for each in there.messages("s")] == [("two", "one")]
    take(there, first)
    assert _told(there, "one") == [("two", 1)]


def test_messages_that_name_no_parent_cost_no_look_up(store: Store):
    store.create(id="s", title="S")
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    store.add_messages("s", [new(str(at)) for at in range(10)])
    store.connection.set_trace_callback(None)
    assert not [each for each in statements if each.startswith("SELECT 1 FROM messages")]


# What the MDB pages ask of the store itself


@pytest.mark.check("MDB-3")
@pytest.mark.parametrize("title", ["", " \t\n", "\x00"])
def test_a_session_title_of_nothing_is_refused(store: Store, title: str):
    with pytest.raises(InvalidInput, match=r"(?i)session title cannot be empty"):
        store.create(id="never", title=title)
    assert store.find("never") is None


@pytest.mark.check("MDB-8")
def test_a_message_to_an_unknown_session_is_refused_by_name(store: Store):
    with pytest.raises(SessionNotFound, match=r"(?i)session not found: nowhere"):
        store.append("nowhere", new("Hi"))
    with pytest.raises(InvalidInput):
        store.create(id="", title="T")


@pytest.mark.check("MDB-25")
@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ?1 AND hidden = 0 ORDER BY ord LIMIT 50",
            "messages_ord",
        ),
        ("SELECT no FROM messages WHERE session = ?1 AND id = ?2", "messages_id"),
        ("SELECT no FROM messages WHERE session = ?1 AND parent = ?2", "messages_parent"),
        (conversation._BELOW, "messages_parent"),
    ],
)
def test_messages_are_found_by_session_and_by_parent_through_an_index(store: Store, sql: str, index: str):
    plan = str(store.execute(f"EXPLAIN QUERY PLAN {sql}", (1, "x")[: 2 if "?2" in sql else 1]).fetchall())
    assert f"USING INDEX {index} (session=?" in plan or f"USING COVERING INDEX {index} (session=?" in plan
    assert "SCAN messages" not in plan
    assert "SCAN m " not in plan


@pytest.mark.check("MDB-25")
def test_a_late_page_of_a_session_is_skipped_to_without_reading_what_stands_before_it(store: Store):
    plan = store.execute(
        "EXPLAIN QUERY PLAN SELECT ord FROM messages WHERE session = 1 AND hidden = 0 ORDER BY ord LIMIT 5 OFFSET 99995"
    ).fetchall()
    assert "USING COVERING INDEX messages_ord (session=?)" in str(plan)
