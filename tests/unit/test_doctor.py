"""Every rule of a store is looked at: broken it is named, whole it is not, and mending loses nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.apply import Applied, apply
from steno.storage.change import decode_batch, local_changes
from steno.storage.database import Database
from steno.storage.doctor import Finding, examine, mend, rebuild_index
from steno.storage.forks import fork
from steno.storage.indexing import index
from steno.storage.model import NewMessage
from steno.storage.purge import purge_message, purge_session
from steno.storage.search import search
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with something of everything, indexed."""
    with Store(tmp_path / "steno.db", actor="ann") as opened:
        opened.create(id="s", title="Plan", tags=["go", "x"], metadata={"a": {"b": 1}}, state={"n": 1}, user_id="u")
        for number in range(12):
            role = "user" if number % 2 == 0 else "assistant"
            opened.append("s", NewMessage(role=role, content=f"words of message {number}", id=f"m{number}"))
        opened.append("s", NewMessage(role="user", content="between", id="x", after="m3"))
        opened.edit_message("s", "m1", {"content": "other words", "metadata": {"k": 1}})
        opened.delete_message("s", "m2")
        opened.create(id="untitled")
        opened.append("untitled", NewMessage(role="user", content="A first question", id="q"))
        opened.create(id="gone")
        opened.append("gone", NewMessage(role="user", content="hidden"))
        opened.delete("gone")
        opened.append("gone", NewMessage(role="user", content="shown again"))
        opened.delete("untitled")
        opened.restore("untitled")
        fork(opened, "s", at="m5", id="branch")
        opened.create(id="purged")
        purge_session(opened, "purged")
        purge_message(opened, "s", "m11")
        index(opened)
        yield opened


def wrong(store: Database) -> dict[str, str]:
    return {each.name: each.what for each in examine(store) if not each.ok}


def named(store: Database, name: str) -> Finding:
    return next(each for each in examine(store) if each.name == name)


def broken(store: Store, sql: str) -> dict[str, str]:
    store.execute(sql)
    return wrong(store)


def state(store: Store) -> list[object]:
    tables = [
        ("sessions", "id, title, status, tags, metadata, state, message_count, size_bytes, updated_ms, hidden"),
        ("messages", "id, ord, hidden, content, sender, metadata, time_ms"),
        ("registers", "session, message, path, conflict, state"),
        ("forks", "*"),
    ]
    return [store.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall() for table, columns in tables]


def test_a_sound_store_has_nothing_wrong(store: Store) -> None:
    assert wrong(store) == {}


def test_an_empty_store_has_nothing_wrong(tmp_path: Path) -> None:
    with Store(tmp_path / "empty.db") as empty:
        assert wrong(empty) == {}


BREAKS = {
    "sessions' and messages' numbers are one counter": (
        "UPDATE messages SET seq = (SELECT seq FROM sessions WHERE id = 'branch') WHERE id = 'm0' AND session = 1",
        "numbers",
        "session branch and message m0",
    ),
    "a session beyond the feed": (
        "UPDATE sessions SET seq = 99999 WHERE id = 's'",
        "numbers",
        "session s",
    ),
    "a message that changed before it arrived": (
        "UPDATE messages SET born_seq = seq + 1 WHERE id = 'm0' AND session = 1",
        "numbers",
        "message m0",
    ),
    "a register that changed after its session": (
        "UPDATE registers SET seq = (SELECT seq + 1 FROM sessions WHERE no = 1) WHERE path = 'title' AND session = 1",
        "numbers",
        "register title of session s",
    ),
    "a revision that lasted no time": (
        "UPDATE revisions SET until_seq = from_seq",
        "numbers",
        "lasted no time",
    ),
    "a message born after the clock": (
        "UPDATE messages SET clock = clock + 1000000000 WHERE id = 'm0' AND session = 1",
        "numbers",
        "message m0",
    ),
    "a consumer ahead of the feed": (
        "UPDATE cursors SET seq = 99999",
        "cursors",
        "consumer search",
    ),
    "a message without a session": (
        "UPDATE messages SET session = 99 WHERE id = 'q'",
        "orphans",
        "message q",
    ),
    "a message of a purged session": (
        "UPDATE messages SET session = (SELECT no FROM sessions WHERE id = 'purged') WHERE id = 'q'",
        "orphans",
        "message q",
    ),
    "a register without a session": (
        "UPDATE registers SET session = 99 WHERE path = 'user_id' AND session = 1",
        "orphans",
        "user_id",
    ),
    "a register without a message": (
        "UPDATE registers SET message = 999 WHERE message > 0 AND path = 'content'",
        "orphans",
        "register content is of no message",
    ),
    "a revision without a session": (
        "UPDATE revisions SET session = 99",
        "orphans",
        "is of no session",
    ),
    "a revision without a message": (
        "UPDATE revisions SET message = 999 WHERE message > 0",
        "orphans",
        "no message",
    ),
    "something that waits without a session": (
        "INSERT INTO waiting VALUES (99, 'm', 'content', (SELECT state FROM registers LIMIT 1))",
        "orphans",
        "waits for message m",
    ),
    "a save without a session": (
        "INSERT INTO saves VALUES (1, 99, 'r.1', x'00')",
        "orphans",
        "a save of r.1",
    ),
    "a file without a session": (
        "INSERT INTO files VALUES (99, 'f.jsonl', 1, 1, 1, 1, x'00')",
        "orphans",
        "f.jsonl",
    ),
    "an actor without a device": (
        "UPDATE actors SET device = 9 WHERE clock = 1 OR 1 = 1",
        "orphans",
        "actor ann",
    ),
    "a session without births": (
        "UPDATE sessions SET births = x'90' WHERE id = 's'",
        "births",
        "session s has no",
    ),
    "a session's birth that is no msgpack": (
        "UPDATE sessions SET births = x'c1' WHERE id = 's'",
        "births",
        "session s",
    ),
    "a message born on no device": (
        "UPDATE messages SET author = 402 WHERE id = 'q'",
        "births",
        "message q",
    ),
    "a message born at no time": (
        "UPDATE messages SET clock = 0 WHERE id = 'q'",
        "births",
        "message q",
    ),
    "births of a message that are no msgpack": (
        "UPDATE messages SET births = x'c1' WHERE id = 'q'",
        "births",
        "of message q",
    ),
    "a state that is no msgpack": (
        "UPDATE registers SET state = x'c1' WHERE path = 'title'",
        "registers",
        "of title",
    ),
    "a revision that is no msgpack": (
        "UPDATE revisions SET state = x'c1'",
        "registers",
        "in revisions",
    ),
    "content that is no JSON": (
        "UPDATE messages SET content = x'7b7b' WHERE id = 'q'",
        "contents",
        "message q",
    ),
    "compressed content that is damaged": (
        "UPDATE messages SET content = x'0130303030' WHERE id = 'q'",
        "contents",
        "message q",
    ),
    "metadata that is no JSON": (
        "UPDATE messages SET metadata = '{' WHERE id = 'q'",
        "contents",
        "message q",
    ),
    "an index of what is not there": (
        "INSERT INTO search (rowid, text) VALUES (9999, 'word')",
        "index",
        "row 9999",
    ),
    "an index without a message": (
        "DELETE FROM search WHERE rowid = 1",
        "index",
        "message m0 is not found",
    ),
    "a wrong place": (
        "UPDATE messages SET ord = 99 WHERE id = 'm0' AND session = 1",
        "order",
        "ord of message m0",
    ),
    "two messages in one place": (
        "UPDATE messages SET ord = 2 WHERE id = 'm0' AND session = 1",
        "order",
        "m0",
    ),
    "a wrong count": (
        "UPDATE sessions SET message_count = 99 WHERE id = 's'",
        "counts",
        "message_count of session s",
    ),
    "a wrong size": (
        "UPDATE sessions SET size_bytes = 1 WHERE id = 's'",
        "counts",
        "size_bytes of session s",
    ),
    "a wrong time": (
        "UPDATE sessions SET updated_ms = 1 WHERE id = 's'",
        "counts",
        "updated_ms of session s",
    ),
    "a wrong title": (
        "UPDATE sessions SET title = 'x' WHERE id = 's'",
        "titles",
        "title of session s",
    ),
    "a wrong automatic title": (
        "UPDATE sessions SET title = 'x' WHERE id = 'untitled'",
        "titles",
        "untitled",
    ),
    "a session that is hidden for nothing": (
        "UPDATE sessions SET hidden = 1 WHERE id = 's'",
        "hidden",
        "session s",
    ),
    "a deleted message that is shown": (
        "UPDATE messages SET hidden = 0 WHERE id = 'm2' AND session = 1",
        "hidden",
        "hidden of message m2",
    ),
    "a message of a deletion that is shown": (
        "UPDATE messages SET hidden = 0 WHERE hidden = 2",
        "hidden",
        "of session gone",
    ),
    "a conflict that is none": (
        "UPDATE registers SET conflict = 1 WHERE path = 'title' AND session = 1",
        "conflicts",
        "s",
    ),
    "a fork that does not know its original": (
        "DELETE FROM forks",
        "forks",
        "forks of session branch",
    ),
    "a wrong tag": (
        "UPDATE sessions SET tags = '[]' WHERE id = 's'",
        "fields",
        "tags of session s",
    ),
    "wrong metadata": (
        "UPDATE sessions SET metadata = '{}' WHERE id = 's'",
        "fields",
        "metadata of session s",
    ),
    "a wrong text": (
        "UPDATE messages SET content = 'x' WHERE id = 'm1' AND session = 1",
        "fields",
        "content of message m1",
    ),
}


@pytest.mark.parametrize(("sql", "check", "what"), BREAKS.values(), ids=BREAKS)
def test_what_does_not_hold_is_named_by_its_check(store: Store, sql: str, check: str, what: str) -> None:
    found = broken(store, sql)
    assert what in found.get(check, "nothing"), found


MENDED = [name for name, (_, check, _) in BREAKS.items() if check in
          ("cursors", "order", "counts", "titles", "hidden", "conflicts", "forks", "fields")]  # fmt: skip


@pytest.mark.parametrize("name", MENDED)
def test_what_is_cached_wrongly_is_mended(store: Store, name: str) -> None:
    before = state(store)
    broken(store, BREAKS[name][0])
    mend(store)
    index(store)
    assert wrong(store) == {}
    assert state(store) == before


def test_mending_a_sound_store_writes_no_session(store: Store) -> None:
    seq = store.last_seq
    assert mend(store) == 0
    assert store.last_seq == seq


def test_what_was_mended_stands_in_the_feed_and_is_not_sent(store: Store) -> None:
    seq = store.last_seq
    store.execute("UPDATE sessions SET title = 'x' WHERE id = 's'")
    assert mend(store) == 1
    assert store.one("SELECT id FROM sessions WHERE seq > ?", (seq,)) == ("s",)
    assert local_changes(store, since=seq, floor=seq, max_bytes=1 << 20)[0] == b""


def test_a_damaged_session_does_not_stop_the_mending_of_others(store: Store) -> None:
    store.execute("UPDATE sessions SET births = x'c1' WHERE id = 's'")
    store.execute("UPDATE sessions SET title = 'x' WHERE id = 'untitled'")
    assert mend(store) == 1
    assert store.one("SELECT title FROM sessions WHERE id = 'untitled'") == ("A first question",)
    assert "session s cannot be made anew" in wrong(store)["fields"]


def test_looking_writes_nothing(store: Store) -> None:
    before, changes = state(store), store.connection.total_changes
    examine(store)
    assert store.connection.total_changes == changes
    assert state(store) == before


def test_a_store_that_may_only_be_read_is_looked_at(store: Store) -> None:
    with Store(store.path, read_only=True) as reader:
        assert wrong(reader) == {}


def test_a_file_with_torn_pages_is_named_and_stops_nothing(store: Store) -> None:
    store.create(id="filler", metadata={"text": "x" * 300_000})
    path = store.path
    store.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 150_000)
        file.write(b"\xaa" * 100_000)
    with Store(path, read_only=True) as damaged:
        found = wrong(damaged)
    assert "file" in found
    assert all("\n" not in what for what in found.values())


def test_a_damaged_index_is_told_apart_and_made_anew(store: Store) -> None:
    store.execute("DELETE FROM search_data WHERE id > 100")
    found = wrong(store)
    assert set(found) == {"index"}
    assert named(store, "index").advice == "run `steno doctor --rebuild-index`"
    rebuild_index(store)
    assert wrong(store) == {}
    assert [hit.message for hit in search(store, "question").hits if hit.message] == ["q"]


def test_an_index_that_lags_is_no_fault(store: Store) -> None:
    store.append("s", NewMessage(role="user", content="not indexed yet"))
    assert wrong(store) == {}
    assert named(store, "backlog").what.startswith("1 changes are not indexed yet")


def test_only_the_first_few_are_named_and_all_are_counted(store: Store) -> None:
    store.execute("UPDATE messages SET ord = ord + 100 WHERE session = 1")
    found = named(store, "order")
    assert found.count == 13
    assert found.what.count("ord of message") == 5
    assert found.what.endswith("; and 8 more")


def test_progress_is_told(store: Store) -> None:
    told: list[str] = []
    examine(store, told=told.append)
    assert told[0] == "looking at file"
    assert told[-1].startswith("looking at sessions")


@pytest.mark.parametrize("seed", range(5))
def test_stores_that_met_in_any_order_have_nothing_wrong(tmp_path: Path, seed: int) -> None:
    """What merging leaves in the caches is what they would be if they were made anew."""
    rng = random.Random(seed)
    with Store(tmp_path / "a.db") as a, Store(tmp_path / "b.db") as b:
        a.create(id="s", tags=["t"])
        sent = {a: 0, b: 0}
        for round_ in range(40):
            for source, target in ((a, b), (b, a)):
                write(source, rng, round_)
                if rng.random() < 0.6:
                    sent[source] = send(source, target, sent[source])
            assert (wrong(a), wrong(b)) == ({}, {}), round_


def write(store: Store, rng: random.Random, round_: int) -> None:
    row = store.find("s")
    if row is None:
        return
    ids = [each.id for each in store.message_rows(row.no)]
    choice = rng.random()
    if row.hidden:
        store.restore("s")
    elif choice < 0.4 or not ids:
        after = rng.choice([None, *ids])
        store.append("s", NewMessage(role=rng.choice(["user", "assistant"]), content=f"text {round_}", after=after))
    elif choice < 0.6:
        store.edit_message("s", rng.choice(ids), {"content": f"edit {round_}", "metadata": {"k": round_}})
    elif choice < 0.7:
        store.delete_message("s", rng.choice(ids))
    elif choice < 0.85:
        store.update("s", fields={"title": f"T{round_}"}, metadata={"a": {"b": round_}}, add_tags=[f"t{round_}"])
    else:
        store.delete("s")


def send(source: Store, target: Store, since: int) -> int:
    """Send what was written in one store to another; returns how far its feed was read."""
    content, upto, _ = local_changes(source, since=since, floor=since, max_bytes=1 << 20)
    if content:
        batch, done = decode_batch(content), Applied()
        with target.transaction():
            apply(target, batch, batch.sessions, done=done)
        assert done.refused == []
    return upto
