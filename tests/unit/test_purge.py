"""What is purged is gone for good: from every table, from the disk, and with the next life of its id."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.backup import backup
from steno.storage.conflicts import conflicts
from steno.storage.database import Database
from steno.storage.errors import InvalidInput, MessageNotFound, MessagePurged, SessionNotFound
from steno.storage.forks import ancestors, descendants, fork
from steno.storage.importing import Imported, take_in
from steno.storage.indexing import index
from steno.storage.model import NewMessage
from steno.storage.purge import Remains, is_shrunk, purge_deleted, purge_history, purge_message, purge_session, shrink
from steno.storage.rows import session_births
from steno.storage.schema import MIGRATIONS
from steno.storage.search import search
from steno.storage.sqlite import dbapi
from steno.storage.state import load
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.sync.files.mirror import Mirror
from steno.tests.unit.traces import traces

NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(NOW_MS).__next__) as opened:
        yield opened


def new(content: str, **fields: Any) -> NewMessage:
    return NewMessage(role="user", content=content, id=content, **fields)


def session(store: Store, *contents: str, id: str = "s", **fields: Any) -> str:
    store.create(id=id, **fields)
    store.add_messages(id, [new(each) for each in contents])
    return id


def contents(store: Store, id: str = "s") -> list[Any]:
    return [message.content for message in store.messages(id)]


def indexed(store: Store) -> None:
    while index(store).remaining:
        pass


def rows(store: Store, table: str) -> int:
    return store.one(f"SELECT count(*) FROM {table}")[0]


# A session


@pytest.mark.check("COD-27", "ZEP-10")
@pytest.mark.parametrize("deleted", [False, True])
def test_of_a_purged_session_no_row_and_no_entry_of_the_index_is_left(store: Store, deleted: bool):
    session(store, "one", "two", title="Quokka", tags=["a"], metadata={"k": 1}, state={"l": 2})
    store.edit_message("s", "one", {"content": "edited"})
    indexed(store)
    if deleted:
        store.delete("s")
    assert purge_session(store, "s")
    assert [rows(store, each) for each in ("messages", "revisions", "waiting", "saves", "search")] == [0] * 5
    assert store.execute("SELECT path FROM registers").fetchall() == [("purged",)]
    assert search(store, "Quokka").hits == []


def test_a_purged_session_is_as_one_that_never_was(store: Store):
    session(store, "one", title="T")
    purge_session(store, "s")
    assert store.find("s") is None
    assert [*store.sessions(), *store.sessions(deleted=True)] == []
    for call in (store.get, store.resolve, store.restore, store.delete):
        with pytest.raises(SessionNotFound):
            call("s")
    with pytest.raises(SessionNotFound):
        contents(store)
    with pytest.raises(SessionNotFound):
        store.get("s", deleted=True)
    with pytest.raises(SessionNotFound):
        store.append("s", new("two"))


def test_purging_twice_does_nothing(store: Store):
    session(store, "one")
    purge_session(store, "s")
    before = store.last_seq
    assert not purge_session(store, "s")
    assert store.last_seq == before


def test_an_unknown_session_cannot_be_purged(store: Store):
    for call in (purge_session, purge_history):
        with pytest.raises(SessionNotFound):
            call(store, "nobody")


def test_other_sessions_are_untouched_by_a_purge(store: Store):
    session(store, "one", id="kept", title="T", tags=["a"])
    before = store.get("kept"), list(store.messages("kept"))
    session(store, "two")
    purge_session(store, "s")
    assert (store.get("kept"), list(store.messages("kept"))) == before


def test_the_feed_and_the_clock_go_on_where_the_purged_message_was_the_last(store: Store):
    session(store, "one")
    seq, clock = store.last_seq, store.one("SELECT clock FROM messages")[0]
    purge_session(store, "s")
    assert store.last_seq > seq
    assert store.advance()[1] > clock


@pytest.mark.check("ZEP-12")
def test_the_same_id_starts_afresh_after_a_purge(store: Store):
    session(store, "one", title="T", tags=["a"], metadata={"k": 1}, state={"l": 2}, user_id="u", provider="p")
    first = store.row("s")
    purge_session(store, "s")
    made = store.create(id="s")
    assert (made.title, made.tags, made.metadata, made.state, made.user_id, made.provider) == (
        "",
        [],
        {},
        {},
        None,
        None,
    )
    assert contents(store) == []
    again = store.row("s")
    assert first is not None
    assert again is not None
    assert (first.life, again.life, again.purged) == (1, 2, 1)
    assert again.no > first.no


def test_a_message_may_have_the_id_that_one_had_in_an_earlier_life(store: Store):
    session(store, "one")
    purge_session(store, "s")
    session(store, "one")
    assert contents(store) == ["one"]


def test_every_life_of_an_id_can_be_purged(store: Store):
    for life in (1, 2, 3):
        session(store, "one")
        assert purge_session(store, "s")
        assert store.lives_over("s") == life


def test_who_wrote_what_is_purged_is_forgotten(store: Store):
    with store.acting("alice"):
        session(store, "one", title="T")
        store.edit_message("s", "one", {"content": "two"})
    with store.acting("bob"):
        store.create(id="kept")
        purge_session(store, "s")
    assert {actor for (actor,) in store.execute("SELECT actor FROM actors")} == {"bob"}


@pytest.mark.check("MDB-20", "COD-27")
def test_a_fork_is_whole_after_its_original_was_purged(store: Store):
    session(store, "one", "two", title="Original")
    fork(store, "s", id="forked", title="Fork")
    nested = fork(store, "forked", id="nested", title="Nested")
    purge_session(store, "s")
    assert contents(store, "forked") == contents(store, "nested") == ["one", "two"]
    purge_session(store, "forked")
    assert contents(store, "nested") == ["one", "two"]
    assert [each.id for each in ancestors(store, nested.id)] == ["forked", "s"]
    assert descendants(store, nested.id)[0].session.id == "nested"
    stone = store.row("forked")
    assert stone is not None
    assert session_births(stone.births)[0].forked_from is None


# A message


def test_a_purged_message_keeps_id_place_role_and_birth_and_nothing_else(store: Store):
    session(store, "one")
    store.append(
        "s", NewMessage(role="user", content="two", id="two", sender="x", model="y", usage={"z": 1}, metadata={"k": 1})
    )
    store.append("s", new("three"))
    before = store.one("SELECT ord, after, inserted, role, clock, author, born_seq FROM messages WHERE id = 'two'")
    assert purge_message(store, "s", "two")
    assert contents(store) == ["one", "three"]
    after = store.one("SELECT ord, after, inserted, role, clock, author, born_seq FROM messages WHERE id = 'two'")
    assert after == before
    left = store.one("SELECT content, sender, model, usage, metadata, time_ms, origin FROM messages WHERE id = 'two'")
    assert left == ("", None, None, None, None, 0, None)


def test_counts_size_and_automatic_title_follow_a_purged_message(store: Store):
    session(store, "one", "three")
    purge_message(store, "s", "one")
    found = store.get("s")
    assert (found.title, found.message_count, found.size_bytes) == ("three", 1, 5)


def test_purging_a_message_writes_to_the_session(store: Store):
    session(store, "one")
    before = store.get("s").updated_at
    purge_message(store, "s", "one")
    assert store.get("s").updated_at > before


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.edit_message("s", "one", {"content": "x"}),
        lambda store: store.get_message("s", "one"),
        lambda store: store.delete_message("s", "one"),
        lambda store: purge_history(store, "s", "one"),
    ],
)
def test_a_purged_message_can_be_neither_read_nor_edited_nor_restored(store: Store, call: Any):
    session(store, "one")
    purge_message(store, "s", "one")
    before = store.last_seq
    with pytest.raises(MessagePurged, match="was purged: one"):
        call(store)
    assert store.last_seq == before


def test_restoring_its_session_does_not_bring_back_a_purged_message(store: Store):
    session(store, "one", "two")
    purge_message(store, "s", "one")
    store.delete("s")
    store.restore("s")
    assert contents(store) == ["two"]


def test_a_message_of_a_deleted_session_can_be_purged(store: Store):
    session(store, "one", "two")
    store.delete("s")
    assert purge_message(store, "s", "one")
    store.restore("s")
    assert contents(store) == ["two"]


def test_purging_a_message_twice_does_nothing(store: Store):
    session(store, "one")
    purge_message(store, "s", "one")
    before = store.last_seq
    assert not purge_message(store, "s", "one")
    assert store.last_seq == before


def test_an_unknown_message_cannot_be_purged(store: Store):
    session(store, "one")
    for call in (purge_message, purge_history):
        with pytest.raises(MessageNotFound):
            call(store, "s", "nobody")


def test_what_is_added_behind_a_purged_message_stands_there(store: Store):
    session(store, "one", "two", "three")
    purge_message(store, "s", "two")
    store.append("s", new("between", after="two"))
    assert contents(store) == ["one", "between", "three"]


def test_the_id_of_a_purged_message_is_taken(store: Store):
    session(store, "one")
    purge_message(store, "s", "one")
    with pytest.raises(InvalidInput, match="already exists"):
        store.append("s", new("one"))


# A history


def test_after_its_history_is_purged_a_session_shows_what_it_showed(store: Store):
    session(store, "one", title="T", tags=["a", "b"], metadata={"k": {"l": 1}}, state={"x": [1]})
    store.update("s", fields={"title": "U"}, remove_tags=["a"], metadata={"k": 5}, state={"x": None, "y": {"z": 1}})
    store.edit_message("s", "one", {"content": "edited", "metadata": {"m": 1}})
    before = store.get("s"), list(store.messages("s"))
    purge_history(store, "s")
    assert (store.get("s"), list(store.messages("s"))) == before
    assert rows(store, "revisions") == 0


def test_a_leaf_that_is_hidden_by_another_is_gone_with_the_history(store: Store):
    session(store, "one", metadata={"k": {"l": "hidden"}})
    store.update("s", metadata={"k": "shown"})
    store.update("s", metadata={"k": {"m": "below"}})
    purge_history(store, "s")
    assert store.get("s").metadata == {"k": {"m": "below"}}
    states = b"".join(state for (state,) in store.execute("SELECT state FROM registers").fetchall())
    assert b"hidden" not in states
    assert b"shown" not in states


def test_deleted_messages_are_purged_with_the_history(store: Store):
    session(store, "one", "two", "three")
    store.delete_message("s", "one")
    purge_message(store, "s", "two")
    assert purge_history(store, "s") == 1
    assert store.one("SELECT count(*) FROM messages WHERE content = ''")[0] == 2


def test_the_history_of_one_message_leaves_the_others_theirs(store: Store):
    session(store, "one", "two")
    for each in ("one", "two"):
        store.edit_message("s", each, {"content": f"{each} edited"})
    assert purge_history(store, "s", "one") == 0
    left = {message for (message,) in store.execute("SELECT m.id FROM revisions JOIN messages m ON m.no = message")}
    assert (left, contents(store)) == ({"two"}, ["one edited", "two edited"])


def test_a_message_that_was_edited_after_a_purge_of_its_history_is_edited(store: Store):
    session(store, "one")
    store.edit_message("s", "one", {"content": "two"})
    purge_history(store, "s")
    store.edit_message("s", "one", {"content": "three"})
    assert contents(store) == ["three"]


# Deleted sessions


@pytest.mark.check("ZEP-10")
def test_what_was_deleted_before_a_time_is_purged_and_what_is_live_stays(store: Store):
    for each in ("long ago", "now", "live"):
        session(store, "one", id=each)
    store.delete("long ago")
    before_ms = store.now_ms()
    store.delete("now")
    assert purge_deleted(store, before_ms=before_ms) == ["long ago"]
    assert [each.id for each in store.sessions(deleted=True)] == ["now"]
    assert [each.id for each in store.sessions()] == ["live"]
    assert purge_deleted(store, before_ms=before_ms) == []


def test_all_that_is_deleted_is_purged_where_no_time_is_named(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steno.storage.purge.SLICE", 2)
    ids = [session(store, "one", id=str(at)) for at in range(5)]
    for each in ids:
        store.delete(each)
    assert purge_deleted(store) == ids
    assert rows(store, "messages") == 0


# Sources


def transcript(*contents: str, id: str = "s") -> Transcript:
    return Transcript(id=id, title="T", created_ms=1, source={"tool": "x"}, messages=[new(each) for each in contents])


def test_a_source_does_not_bring_back_a_session_that_was_purged(store: Store):
    take_in(store, transcript("one"))
    purge_session(store, "s")
    assert take_in(store, transcript("one", "two")) == Imported("s", created=False, added=0, changed=0, purged=True)
    assert store.find("s") is None


def test_a_source_does_not_write_to_the_next_life_of_what_was_purged(store: Store):
    take_in(store, transcript("one"))
    purge_session(store, "s")
    session(store, "by hand")
    assert take_in(store, transcript("one")).purged
    assert contents(store) == ["by hand"]


def test_a_source_does_not_bring_back_a_message_that_was_purged(store: Store):
    take_in(store, transcript("one", "two"))
    purge_message(store, "s", "one")
    done = take_in(store, transcript("one", "two", "three"))
    assert (done.added, done.changed) == (1, 0)
    assert contents(store) == ["two", "three"]


# The disk

WORDS = (
    "quokkaword", "wombatword", "platypusword", "echidnaword", "kangarooword", "bilbyword", "numbatword", "quollword",
    "dugongword", "emuword", "kiwiword", "takaheword", "keaword", "bändikutword",
)  # fmt: skip


def planted(store: Store, folder: Path) -> None:
    """A session with a word of `WORDS` in every place that there is, in files and backups as well."""
    mirror = Mirror(store, folder / "sessions")
    mirror.start()
    with store.acting("emuword"):
        store.create(
            id="s",
            title="Quokkaword",
            tags=["wombatword"],
            metadata={"k": "platypusword", "takaheword": 1},
            state={"k": {"l": "echidnaword"}},
            source={"tool": "keaword"},
        )
        store.add_messages(
            "s",
            [
                NewMessage(role="user", content="kangarooword " * 1000, id="large"),
                NewMessage(role="user", content="Bilbyword", id="edited", sender="quollword"),
                NewMessage(role="user", content=[{"type": "text", "text": "BÄNDIKUTWORD"}], id="blocks"),
                NewMessage(role="user", content="kiwiword", id="deleted", metadata={"k": "dugongword"}),
            ],
        )
    store.edit_message("s", "edited", {"content": "numbatword"})
    store.delete_message("s", "deleted")
    store.create(id="kept", title="Kept")
    store.add_messages("kept", [new("something else")])
    indexed(store)
    assert mirror.write_pending() is None
    path = next((folder / "sessions").rglob("quokkaword*"))
    path.write_text(path.read_text() + '{"id":"typed","role":"user","content":"kangarooword by editor"}\n')
    mirror.saved([path])
    indexed(store)
    (folder / "backups").mkdir()
    backup(store, folder / "backups" / "steno-1.db")


@pytest.mark.check("COD-27", "ZEP-10")
def test_no_word_of_a_purged_session_is_left_on_the_disk(store: Store, tmp_path: Path):
    planted(store, tmp_path)
    assert {word for _, word in traces(tmp_path, WORDS)} == {word.lower() for word in WORDS}
    purge_session(store, "s")
    mirror = Mirror(store, tmp_path / "sessions")
    mirror.start()
    assert mirror.write_pending() is None
    assert shrink(store) == Remains([], [], 0)
    assert traces(tmp_path, WORDS) == set()
    assert contents(store, "kept") == ["something else"]
    assert [hit.session for hit in search(store, "something").hits] == ["kept"]
    assert store.one("PRAGMA integrity_check")[0] == "ok"


def test_no_word_of_a_purged_message_is_left_on_the_disk(store: Store, tmp_path: Path):
    planted(store, tmp_path)
    store.update("s", fields={"title": "Other"})
    for each in ("edited", "deleted", "blocks"):
        purge_message(store, "s", each)
    mirror = Mirror(store, tmp_path / "sessions")
    mirror.start()
    mirror.write_pending()
    remains = shrink(store)
    assert (remains.problems, remains.files) == ([], [])
    gone = ("bilbyword", "numbatword", "quollword", "bändikutword", "kiwiword", "dugongword")
    assert traces(tmp_path, gone) == set()
    assert contents(store) == ["kangarooword " * 1000, "kangarooword by editor"]


def test_no_word_of_a_purged_history_is_left_on_the_disk_and_what_is_shown_is(store: Store, tmp_path: Path):
    planted(store, tmp_path)
    # The name of its file keeps the first title.
    for title in ("Secondtitle", "Thirdtitle"):
        store.update("s", fields={"title": title}, metadata={"k": title}, state={"k": None})
    purge_history(store, "s")
    mirror = Mirror(store, tmp_path / "sessions")
    mirror.start()
    mirror.write_pending()
    assert shrink(store).problems == []
    gone = ("secondtitle", "platypusword", "echidnaword", "bilbyword", "kiwiword", "dugongword")
    assert traces(tmp_path, gone) == set()
    found = {word for _, word in traces(tmp_path, WORDS)}
    assert found >= {"numbatword", "kangarooword", "wombatword", "bändikutword"}


@pytest.mark.check("ZEP-10")
def test_the_file_shrinks_when_what_was_purged_is_got_off_the_disk(store: Store):
    session(store, "one", id="kept")
    session(store)
    store.add_messages("s", [NewMessage(role="user", content=f"{at} {'x' * 3000}") for at in range(300)])
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = store.path.stat().st_size
    purge_session(store, "s")
    shrink(store)
    assert store.path.stat().st_size < before - 500_000


def test_a_store_knows_whether_it_was_shrunk_since_the_last_purge(store: Store):
    session(store, "one")
    session(store, "two", id="t")
    found = [is_shrunk(store)]
    purge_session(store, "s")
    found.append(is_shrunk(store))
    shrink(store)
    found.append(is_shrunk(store))
    purge_message(store, "t", "two")
    found.append(is_shrunk(store))
    assert found == [True, False, True, False]


def test_where_another_process_reads_the_log_stays_and_that_is_told(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steno.storage.shrink.PATIENCE_MS", 10)
    session(store, "one")
    with Database(store.path, read_only=True) as reader:
        reader.execute("BEGIN")
        reader.one("SELECT count(*) FROM messages")
        purge_session(store, "s")
        [problem] = shrink(store).problems
        assert "another process reads" in problem
        assert not is_shrunk(store)
    assert shrink(store).problems == []
    assert is_shrunk(store)


def test_a_database_is_not_written_anew_inside_a_transaction(store: Store):
    with pytest.raises(InvalidInput), store.transaction():
        shrink(store)


def test_what_was_read_for_the_index_before_a_purge_is_not_indexed_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    from steno.storage import indexing

    session(store, "one")
    read = indexing._slice  # the moment between reading and writing

    def purged_meanwhile(*given: Any, **named: Any) -> Any:
        found = read(*given, **named)
        monkeypatch.setattr(indexing, "_slice", read)
        purge_session(store, "s")
        return found

    monkeypatch.setattr(indexing, "_slice", purged_meanwhile)
    index(store)
    assert rows(store, "search") == 0
    indexed(store)
    assert rows(store, "search") == 0


def test_segments_that_wait_to_be_sent_are_told(store: Store):
    session(store, "one")
    with store.transaction():
        store.execute("INSERT INTO outbox VALUES ('v', 1, 'name', x'00', 1)")
    purge_session(store, "s")
    assert shrink(store).unsent == 1


# The copies beside it


def beside(store: Store, name: str = "steno-1.db") -> Path:
    folder = store.path.parent / "backups"
    folder.mkdir(exist_ok=True)
    return folder / name


def test_a_backup_that_is_put_in_place_has_what_was_purged_no_more(store: Store):
    session(store, "one", "two", id="kept")
    session(store, "three")
    copied = backup(store, beside(store))
    purge_session(store, "s")
    purge_message(store, "kept", "one")
    assert shrink(store).problems == []
    with Store(copied) as found:
        assert [each.id for each in found.sessions()] == ["kept"]
        assert (contents(found, "kept"), found.lives_over("s")) == (["two"], 1)
        assert found.one("PRAGMA integrity_check")[0] == "ok"


def test_a_backup_is_one_file_and_not_written_where_nothing_in_it_was_purged(store: Store):
    session(store, "one")
    copied = backup(store, beside(store))
    session(store, "two", id="later")
    before = copied.read_bytes()
    purge_session(store, "later")
    shrink(store)
    assert copied.read_bytes() == before
    purge_session(store, "s")
    shrink(store)
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def killed_at(statement: str, store: Store) -> None:
    """Shrink a store in a process that is killed as soon as it comes to a statement in a copy."""
    child = os.fork()
    if child:
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        return
    connect = dbapi.connect

    def traced(file: str, *given: Any, **named: Any) -> Any:
        def kill(said: str) -> None:
            if "backups" in file and said.startswith(statement):
                os.kill(os.getpid(), signal.SIGKILL)

        made = connect(file, *given, **named)
        made.set_trace_callback(kill)
        return made

    dbapi.connect = traced
    try:
        with Store(store.path) as opened:
            shrink(opened)
    finally:
        os._exit(0)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("at", ["VACUUM", "PRAGMA wal_checkpoint", "DELETE FROM meta", "PRAGMA journal_mode = DELETE"])
def test_a_backup_whose_purge_was_killed_half_way_is_written_anew_the_next_time(store: Store, at: str, older: bool):
    session(store, *(f"{number} quokkaword {'x' * 1500}" for number in range(12)))
    copied = beside(store)
    if older:
        as_first_version(store, copied)
    else:
        backup(store, copied)
    purge_session(store, "s")
    path = store.path
    store.close()
    killed_at(at, store)
    with Store(path) as again:
        assert shrink(again).problems == []
    assert traces(copied.parent, ("quokkaword",)) == set()


def test_of_a_later_life_a_backup_loses_only_the_one_that_was_purged(store: Store):
    session(store, "one")
    first = backup(store, beside(store))
    purge_session(store, "s")
    session(store, "two")
    second = backup(store, beside(store, "steno-2.db"))
    shrink(store)
    with Store(first) as found:
        assert found.find("s") is None
    with Store(second) as found:
        assert contents(found) == ["two"]


@pytest.mark.parametrize("name", ["notes.db", "torn.db"])
def test_a_file_that_is_no_copy_of_the_store_is_left_alone(store: Store, name: str):
    session(store, "one")
    path = beside(store, name)
    if name == "notes.db":
        other = dbapi.connect(str(path))
        other.execute("CREATE TABLE sessions (id TEXT)")
        other.close()
    else:
        path.write_bytes(b"no database " * 1000)
    before = path.read_bytes()
    purge_session(store, "s")
    problems = shrink(store).problems
    assert path.read_bytes() == before
    assert [str(path) in each for each in problems] == ([True] if name == "torn.db" else [])


def as_first_version(store: Store, path: Path) -> None:
    """The sessions and messages of a store as its first schema holds them."""
    connection = dbapi.connect(str(path), isolation_level=None)
    connection.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    connection.execute("ATTACH ? AS now", (str(store.path),))
    for table in ("meta", "sessions", "messages"):
        columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
        connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
    connection.close()


def test_a_copy_that_an_older_version_left_loses_the_rows(store: Store):
    session(store, "onceword", id="gone")
    session(store, "twiceword", "three", id="kept")
    older = store.path.with_name("steno.db.before-2.1")
    as_first_version(store, older)
    purge_session(store, "gone")
    purge_message(store, "kept", "twiceword")
    assert shrink(store).problems == []
    connection = dbapi.connect(str(older))
    found = connection.execute("SELECT id, content FROM messages ORDER BY no").fetchall()
    assert found == [("twiceword", ""), ("three", "three")]
    assert connection.execute("SELECT id FROM sessions").fetchall() == [("kept",)]
    connection.close()
    assert b"onceword" not in older.read_bytes()
    before = older.stat().st_mtime_ns
    assert shrink(store).problems == []
    assert older.stat().st_mtime_ns == before


def test_a_copy_of_an_older_version_that_may_hold_earlier_texts_is_told(store: Store):
    session(store, "one")
    as_first_version(store, store.path.with_name("steno.db.before-2.1"))
    store.edit_message("s", "one", {"content": "two"})
    purge_history(store, "s")
    [problem] = shrink(store).problems
    assert "steno.db.before-2.1 is of an older version and may hold earlier texts of session s" in problem


def test_a_conflict_is_settled_by_purging_the_history(store: Store, tmp_path: Path):
    from steno.storage.registers import Register, Value
    from steno.storage.stamps import Stamp
    from steno.storage.state import save

    session(store, "one", title="T")
    row = store.find("s")
    assert row is not None
    with store.transaction():
        before = load(store, row.no, None, "title")
        seq, clock = store.advance()
        other = Stamp(2, clock, "o" * 12)
        both = Register({**before.open, other: Value(b'"Beaten"')}, {**before.known, other.writer: clock})
        save(store, row.no, None, "title", before, both, seq=seq, local=False)
    assert len(list(conflicts(store))) == 1
    purge_history(store, "s")
    assert list(conflicts(store)) == []
    title = load(store, row.no, None, "title")
    assert (len(title.open), title.known) == (1, both.known)
