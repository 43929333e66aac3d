"""MemoriesDB's functions, by their own names, do what its page says, and what its source gets wrong besides."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import steno.memoriesdb
from steno.memoriesdb import (
    add_message_to_session,
    create_session,
    fork_session,
    get_conversation_text,
    get_formatted_conversation,
    get_replies,
    get_session_ancestors,
    get_session_messages,
    get_session_tree,
    list_sessions,
    message_view,
    session_view,
    soft_delete_session,
    update_session_metadata,
)
from steno.storage.audit import audit
from steno.storage.errors import InvalidInput, MessageNotFound, NotASession, SessionNotFound
from steno.storage.library.sqlite_store import SQLiteSessionStore
from steno.storage.model import format_ms
from steno.storage.retention import archive_inactive
from steno.storage.store import Store

GROUP = {"type": "group_chat", "members": ["user1", "user2"], "status": "active"}


@pytest.fixture
def now() -> list[int]:
    return [1_750_000_000_000]


@pytest.fixture
def store(tmp_path: Path, now: list[int]) -> Iterator[Store]:
    def tick() -> int:
        now[0] += 1
        return now[0]

    with Store(tmp_path / "steno.db", now_ms=tick) as opened:
        yield opened


@pytest.fixture
def session(store: Store) -> str:
    return create_session(store, "Team Discussion", GROUP)


def texts(store: Store, session: str) -> list[Any]:
    return [each.content for each in get_session_messages(store, session)]


# Sessions


@pytest.mark.check("MDB-1", "MDB-2")
def test_a_session_is_read_as_it_was_made(store: Store):
    metadata = {**GROUP, "created_by": "user1"}
    view = session_view(store, create_session(store, "Team Discussion", metadata))
    assert (view["content"], view["_metadata"]) == ("Team Discussion", metadata)


@pytest.mark.check("MDB-2")
def test_what_a_session_is_and_the_type_that_its_maker_gave_it_stand_apart(store: Store, session: str):
    view = session_view(store, session)
    assert (view["kind"], view["_metadata"]["type"]) == ("session", "group_chat")


@pytest.mark.check("MDB-3")
@pytest.mark.parametrize("title", ["", " \t\n", None])
def test_a_session_without_a_title_is_refused(store: Store, title: Any):
    with pytest.raises(InvalidInput, match="Session title cannot be empty"):
        create_session(store, title)
    assert store.count() == (0, 0)


@pytest.mark.check("MDB-4")
def test_a_session_is_seen_as_a_memory(store: Store, session: str):
    view = session_view(store, session)
    assert view.keys() >= {"id", "content", "_metadata", "_created_at"}
    assert (view["id"], view["_created_at"][-1]) == (session, "Z")


# Messages


@pytest.mark.check("MDB-5")
def test_a_message_is_seen_as_a_memory(store: Store, session: str):
    message = add_message_to_session(store, session, "user1", "Hello team!", {"type": "text"})
    view = message_view(store, session, message)
    sent_at = view["_metadata"].pop("sent_at")
    assert view == {
        "id": message,
        "kind": "message",
        "content": "Hello team!",
        "role": None,
        "session_id": session,
        "parent_id": None,
        "_metadata": {"type": "text", "sender": "user1"},
        "_created_at": sent_at,
    }


@pytest.mark.check("MDB-6")
def test_a_message_is_sent_now_unless_it_says_otherwise(store: Store, session: str, now: list[int]):
    before = format_ms(now[0])
    message = add_message_to_session(store, session, "user1", "Hello")
    assert before < message_view(store, session, message)["_metadata"]["sent_at"] <= format_ms(now[0])


@pytest.mark.check("MDB-6")
@pytest.mark.parametrize("sent_at", ["2025-06-27T10:05:00Z", "2025-06-27T12:05:00.123456+02:00", "2025-06-27 10:05"])
def test_a_time_that_was_given_is_kept_to_the_digit(store: Store, session: str, sent_at: str):
    message = add_message_to_session(store, session, "user1", "Hello", {"sent_at": sent_at})
    view = message_view(store, session, message)
    assert view["_metadata"]["sent_at"] == sent_at
    assert view["_created_at"].startswith("2025-06-27T10:05:00")


@pytest.mark.check("MDB-6")
def test_a_time_that_is_none_is_refused(store: Store, session: str):
    with pytest.raises(InvalidInput, match="not a time"):
        add_message_to_session(store, session, "user1", "Hello", {"sent_at": "yesterday"})
    assert store.count() == (1, 0)


@pytest.mark.check("MDB-6")
def test_metadata_of_any_kind_is_kept(store: Store, session: str):
    given = {"emotion": "joy", "priority": 3, "nested": {"a": [1, None]}, "role": "user"}
    message = add_message_to_session(store, session, "user1", "Hello", given)
    assert message_view(store, session, message)["_metadata"].items() >= given.items()


@pytest.mark.check("MDB-7")
@pytest.mark.parametrize("sender", ["alice", "user 1", "机器", "assistant"])
def test_anybody_may_send(store: Store, session: str, sender: str):
    message = add_message_to_session(store, session, sender, "Hello")
    [entry] = get_session_messages(store, session)
    assert (entry.message_id, entry.sender) == (message, sender)
    assert get_conversation_text(store, session) == f"{sender}: Hello\n"


@pytest.mark.check("MDB-7")
def test_a_role_stands_beside_the_sender(store: Store, session: str):
    add_message_to_session(store, session, "alice", "Hello", {"role": "user"})
    [entry] = get_session_messages(store, session)
    assert (entry.role, entry.sender) == ("user", "alice")


@pytest.mark.check("MDB-8")
def test_nothing_is_added_to_an_unknown_session(store: Store):
    with pytest.raises(SessionNotFound, match=r"^Session not found: nope"):
        add_message_to_session(store, "nope", "user1", "Hello")


@pytest.mark.check("MDB-8")
def test_nothing_is_added_to_no_session(store: Store):
    with pytest.raises(InvalidInput, match="Session ID cannot be NULL"):
        add_message_to_session(store, None, "user1", "Hello")


@pytest.mark.check("MDB-9")
def test_a_message_may_reply_to_one_of_its_history(store: Store, session: str):
    first = add_message_to_session(store, session, "user1", "Hello")
    fork = fork_session(store, session)
    for history in (session, fork):
        reply = add_message_to_session(store, history, "user2", "Hi", {"parent_id": first})
        assert message_view(store, history, reply)["parent_id"] == first


@pytest.mark.check("MDB-9")
def test_a_message_replies_to_nothing_else(store: Store, session: str):
    other = create_session(store, "Other")
    elsewhere = add_message_to_session(store, other, "user1", "Hello")
    for parent in ("nope", elsewhere, "itself"):
        with pytest.raises(InvalidInput, match="no message"):
            add_message_to_session(store, session, "user2", "Hi", {"parent_id": parent}, id="itself")
    assert texts(store, session) == []


@pytest.mark.check("MDB-10")
def test_replies_are_a_tree_in_the_order_of_time(store: Store, session: str):
    root = add_message_to_session(store, session, "a", "root")
    first = add_message_to_session(store, session, "b", "first", {"parent_id": root})
    add_message_to_session(store, session, "c", "second", {"parent_id": root})
    add_message_to_session(store, session, "a", "below", {"parent_id": first})
    found = [(each.message.content, each.depth) for each in get_replies(store, session, root)]
    assert found == [("first", 1), ("below", 2), ("second", 1)]


@pytest.mark.check("MDB-11")
def test_the_same_text_twice_is_two_messages(store: Store, session: str):
    other = create_session(store, "Other")
    ids = {add_message_to_session(store, each, "user1", "Hello") for each in (session, session, other)}
    assert len(ids) == 3
    assert (texts(store, session), texts(store, other)) == (["Hello", "Hello"], ["Hello"])


@pytest.mark.check("MDB-12")
def test_positions_have_no_gap_whoever_writes_at_once(tmp_path: Path):
    with Store(tmp_path / "steno.db") as store:
        session = create_session(store, "Busy")

        def write(writer: int) -> None:
            with Store(tmp_path / "steno.db") as own:
                for number in range(50):
                    add_message_to_session(own, session, f"writer {writer}", f"{writer}:{number}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        entries = get_session_messages(store, session)
    assert [each.position for each in entries] == list(range(1, 401))
    assert len({str(each.content) for each in entries}) == 400


# Forks


@pytest.mark.check("MDB-13")
def test_a_fork_says_where_it_comes_from_and_leaves_its_original_as_it_is(store: Store, session: str):
    point = add_message_to_session(store, session, "user1", "Mobile?")
    add_message_to_session(store, session, "user2", "Later")
    before = store.execute("SELECT * FROM sessions WHERE id = ?", (session,)).fetchall()
    rows = store.execute("SELECT * FROM messages ORDER BY no").fetchall()
    metadata = {"parent_message_id": point, "reason": "Focus on mobile design"}
    fork = fork_session(store, session, "Mobile Design Discussion", metadata)
    view = session_view(store, fork)
    assert (view["content"], view["parent_id"]) == ("Mobile Design Discussion", session)
    assert view["forked_from"] == {"session": session, "message": point, "reason": "Focus on mobile design"}
    assert view["_metadata"].items() >= metadata.items()
    assert texts(store, fork) == ["Mobile?"]
    assert store.execute("SELECT * FROM messages ORDER BY no LIMIT 2").fetchall() == rows
    assert store.execute("SELECT * FROM sessions WHERE id = ?", (session,)).fetchall() == before


@pytest.mark.check("MDB-13")
def test_a_fork_of_a_fork_does_not_give_the_reason_of_the_first(store: Store, session: str):
    first = fork_session(store, session, "First", {"reason": "because"})
    second = fork_session(store, first, "Second")
    assert "reason" not in session_view(store, second)["_metadata"]


@pytest.mark.check("MDB-14")
def test_a_fork_of_which_nothing_is_said_is_called_after_its_original_and_takes_all(store: Store, session: str):
    add_message_to_session(store, session, "user1", "One")
    last = add_message_to_session(store, session, "user1", "Two")
    view = session_view(store, fork_session(store, session))
    assert (view["content"], view["forked_from"]["message"]) == ("Fork of Team Discussion", last)


@pytest.mark.check("MDB-14")
def test_an_empty_session_is_forked_at_no_point(store: Store, session: str):
    fork = fork_session(store, session)
    assert session_view(store, fork)["forked_from"] == {"session": session, "message": None}
    assert texts(store, fork) == []


@pytest.mark.check("MDB-15")
def test_what_is_no_session_is_not_forked(store: Store):
    with pytest.raises(SessionNotFound, match="Original session not found"):
        fork_session(store, "nope")
    assert store.count() == (0, 0)


@pytest.mark.check("MDB-15")
def test_a_session_is_forked_at_a_message_of_its_own(store: Store, session: str):
    other = create_session(store, "Other")
    foreign = add_message_to_session(store, other, "user1", "Hello")
    for point in ("nope", foreign):
        with pytest.raises(MessageNotFound):
            fork_session(store, session, "Fork", {"parent_message_id": point})
    assert store.count()[0] == 2


@pytest.mark.check("MDB-16")
def test_a_history_goes_through_its_forks(store: Store, session: str):
    point = add_message_to_session(store, session, "user1", "One")
    add_message_to_session(store, session, "user1", "not inherited")
    fork1 = fork_session(store, session, "Fork 1", {"parent_message_id": point})
    add_message_to_session(store, fork1, "user2", "Two")
    fork2 = fork_session(store, fork1, "Fork 2")
    add_message_to_session(store, fork2, "bot", "Three", {"role": "assistant"})
    found = [
        (each.content, each.role, each.fork_depth, each.position, each.session_id, each.fork_chain)
        for each in get_session_messages(store, fork2)
    ]
    assert found == [
        ("One", "system", 2, 1, session, (fork2, fork1, session)),
        ("Two", "system", 1, 2, fork1, (fork2, fork1)),
        ("Three", "assistant", 0, 3, fork2, (fork2,)),
    ]


@pytest.mark.check("MDB-17")
def test_what_is_said_after_a_fork_stays_where_it_is_said(store: Store, session: str):
    add_message_to_session(store, session, "user1", "both")
    fork = fork_session(store, session)
    add_message_to_session(store, session, "user1", "original")
    add_message_to_session(store, fork, "user1", "fork")
    assert (texts(store, session), texts(store, fork)) == (["both", "original"], ["both", "fork"])


@pytest.mark.check("MDB-18")
def test_a_fork_of_a_fork_tells_the_whole_story(store: Store, session: str):
    for sender, text in (("system", "system"), ("user", "Message 1"), ("assistant", "Response 1")):
        add_message_to_session(store, session, sender, text)
    fork1 = fork_session(store, session, "fork1")
    add_message_to_session(store, fork1, "user", "Fork1 Message")
    assert texts(store, fork_session(store, fork1, "fork2")) == ["system", "Message 1", "Response 1", "Fork1 Message"]


@pytest.mark.check("MDB-20", "MDB-24")
def test_a_fork_needs_its_original_no_more(store: Store, session: str):
    add_message_to_session(store, session, "user1", "Hello")
    fork = fork_session(store, session, "Fork")
    store.update(session, fields={"status": "archived"})
    assert texts(store, fork) == ["Hello"]
    store.delete(session)
    assert texts(store, fork) == ["Hello"]
    assert get_conversation_text(store, fork) == "user1: Hello (from: Team Discussion)\n"


@pytest.mark.check("MDB-21")
def test_a_formatted_conversation_names_the_speakers_and_where_they_spoke(store: Store, session: str):
    add_message_to_session(store, session, "user1", "Hello", {"emotion": "joy"})
    fork = fork_session(store, session, "Fork")
    add_message_to_session(store, fork, None, "Who is there?")
    add_message_to_session(store, fork, "bot", "I am", {"role": "assistant"})
    found = [(each.speaker, each.message, each.fork_info) for each in get_formatted_conversation(store, fork)]
    assert found == [
        ("user1: ", "Hello", "(from: Team Discussion)"),
        ("unknown: ", "Who is there?", ""),
        ("assistant: ", "I am", ""),
    ]


@pytest.mark.check("MDB-21")
def test_metadata_stands_in_a_formatted_conversation_where_it_is_asked_for(store: Store, session: str):
    add_message_to_session(store, session, "user1", "Hello", {"emotion": "joy"})
    [plain] = get_formatted_conversation(store, session)
    [full] = get_formatted_conversation(store, session, include_metadata=True)
    assert (plain.message_metadata, full.message_metadata) == (None, {"emotion": "joy"})


@pytest.mark.check("MDB-21")
def test_what_is_no_session_is_no_conversation(store: Store):
    with pytest.raises(NotASession, match="Session not found or is not a valid session: nope"):
        get_formatted_conversation(store, "nope")


@pytest.mark.check("MDB-22")
def test_a_conversation_is_a_line_for_each_message(store: Store, session: str):
    assert get_conversation_text(store, session) == ""
    add_message_to_session(store, session, "user1", "Hello")
    add_message_to_session(store, session, "user2", "Hi")
    assert get_conversation_text(store, session) == "user1: Hello\nuser2: Hi\n"


@pytest.mark.check("MDB-23")
def test_the_tree_of_a_session_goes_down_and_its_ancestry_up(store: Store, session: str):
    first = fork_session(store, session, "First")
    fork_session(store, session, "Second")
    third = fork_session(store, first, "Third")
    found = [(each.session.title, each.level) for each in get_session_tree(store, session)]
    assert found == [("Team Discussion", 1), ("First", 2), ("Second", 2), ("Third", 3)]
    assert [each.id for each in get_session_ancestors(store, third)] == [first, session]


# Owners


@pytest.mark.check("MDB-28")
def test_an_owner_s_sessions_are_listed_newest_first(store: Store):
    ids = [create_session(store, f"Session {number}", {"created_by": "user1"}) for number in range(25)]
    create_session(store, "of somebody else", {"created_by": "user2"})
    add_message_to_session(store, ids[3], "user1", "Hello")
    newest = [ids[3], *(each for each in reversed(ids) if each != ids[3])]
    assert [each["id"] for each in list_sessions(store, "user1")] == newest[:20]
    assert [each["id"] for each in list_sessions(store, "user1", limit=10, offset=20)] == newest[20:]


@pytest.mark.check("MDB-28", "MDB-24")
def test_deleted_and_archived_sessions_are_not_listed(store: Store):
    kept, deleted, archived = (create_session(store, name, {"created_by": "user1"}) for name in "kda")
    store.delete(deleted)
    store.update(archived, fields={"status": "archived"})
    assert [each["id"] for each in list_sessions(store, "user1")] == [kept]
    assert session_view(store, archived)["content"] == "a"


@pytest.mark.check("MDB-24")
def test_what_was_long_silent_can_be_archived_and_is_read_all_the_same(store: Store, now: list[int]):
    old = create_session(store, "Old", {"created_by": "user1"})
    add_message_to_session(store, old, "user1", "Hello")
    now[0] += 30 * 24 * 3600 * 1000
    new = create_session(store, "New", {"created_by": "user1"})
    assert archive_inactive(store, before_ms=now[0] - 1000) == 1
    assert [each["id"] for each in list_sessions(store, "user1")] == [new]
    assert texts(store, old) == ["Hello"]


def test_a_list_has_no_negative_length(store: Store):
    with pytest.raises(InvalidInput):
        list_sessions(store, "user1", limit=-1)


@pytest.mark.check("MDB-29")
def test_an_owner_deletes_a_session_and_its_messages(store: Store):
    session = create_session(store, "Mine", {"created_by": "user1"})
    message = add_message_to_session(store, session, "user1", "Hello")
    assert soft_delete_session(store, session, "user1") is True
    with pytest.raises(SessionNotFound):
        message_view(store, session, message)
    assert soft_delete_session(store, session, "user1") is False


@pytest.mark.check("MDB-29")
def test_nobody_else_deletes_a_session(store: Store, session: str):
    mine = create_session(store, "Mine", {"created_by": "user1"})
    before = store.last_seq
    assert not soft_delete_session(store, mine, "user2")
    assert not soft_delete_session(store, session, "user1")
    assert not soft_delete_session(store, "nope", "user1")
    assert store.last_seq == before


@pytest.mark.check("MDB-29")
def test_who_makes_a_fork_owns_it(store: Store):
    session = create_session(store, "Mine", {"created_by": "user1"})
    fork = fork_session(store, session, "Yours", {"created_by": "user2"})
    assert soft_delete_session(store, fork, "user2")
    assert not soft_delete_session(store, session, "user2")


@pytest.mark.check("MDB-30")
def test_metadata_is_merged_and_the_session_updated(store: Store, session: str):
    before = session_view(store, session)["_updated_at"]
    merged = update_session_metadata(store, session, {"status": "closed", "members": ["user3"], "note": None})
    view = session_view(store, session)
    assert merged == view["_metadata"] == {"type": "group_chat", "members": ["user3"], "status": "closed", "note": None}
    assert view["_updated_at"] > before


@pytest.mark.check("MDB-30")
def test_an_update_that_changes_nothing_is_none(store: Store, session: str):
    before = store.last_seq
    update_session_metadata(store, session, {"status": "active"})
    assert store.last_seq == before


@pytest.mark.check("MDB-30")
def test_the_audit_says_who_changed_what(store: Store, session: str):
    update_session_metadata(store, session, {"status": "closed"}, actor="user2")
    last = list(audit(store, session))[-1]
    assert (last.path, last.before, last.after, last.actor) == ("metadata/status", "active", "closed", "user2")


# The package


def test_the_functions_also_take_the_library_s_store(tmp_path: Path):
    store = SQLiteSessionStore(tmp_path / "sessions.db")
    session = create_session(store, "Team Discussion")
    add_message_to_session(store, session, "user1", "Hello")
    assert get_conversation_text(store, session) == "user1: Hello\n"
    assert store.get(session) is not None
    store.close()


def test_a_space_of_its_own_is_refused(tmp_path: Path):
    store = SQLiteSessionStore(tmp_path / "sessions.db", table_name="other")
    with pytest.raises(InvalidInput, match="table_name"):
        create_session(store, "Team Discussion")
    store.close()


def test_every_name_is_there():
    assert all(hasattr(steno.memoriesdb, name) for name in steno.memoriesdb.__all__)
    assert not hasattr(steno.memoriesdb, "nothing")


def test_importing_the_package_imports_no_store():
    code = "import sys, steno.memoriesdb; print([name for name in sys.modules if name.startswith('steno.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['steno.memoriesdb']"
