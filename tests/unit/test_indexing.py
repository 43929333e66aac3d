from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steno.storage.indexing import backlog, forget, index, rebuild, scrub
from steno.storage.model import Content, NewMessage
from steno.storage.search import search
from steno.storage.store import Store

ALL = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steno.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def say(store: Store, text: Content) -> str:
    if store.find("s") is None:
        store.create(id="s", title="Untitled")
    return store.append("s", NewMessage(role="user", content=text)).id


def found(store: Store, query: str, *, index_bytes: int = ALL) -> list[str | None]:
    return [hit.message for hit in search(store, query, index_bytes=index_bytes, limit=1000).hits]


def fill(store: Store, count: int) -> None:
    for number in range(count):
        say(store, f"alpha number{number}")


def test_a_slice_ends_at_its_limit_and_the_next_goes_on_there(store: Store):
    fill(store, 9)
    dones = []
    while True:
        progress = index(store, limit_rows=4)
        dones.append(progress.done)
        if not progress.remaining:
            break
    assert dones == [4, 4, 2]
    assert index(store) == (0, 0)
    assert len(found(store, "alpha", index_bytes=0)) == 9


def test_the_message_that_reaches_the_byte_limit_is_the_last_of_its_slice(store: Store):
    fill(store, 5)
    index(store, limit_rows=1)
    assert index(store, limit_bytes=1).done == 1


def test_a_search_indexes_what_is_missing(store: Store):
    fill(store, 5)
    results = search(store, "alpha")
    assert (len(results.hits), results.not_indexed) == (5, 0)


def test_a_search_that_may_not_index_says_how_much_is_missing(store: Store):
    fill(store, 5)
    index(store, limit_rows=3)
    results = search(store, "alpha", index_bytes=0)
    assert (len(results.hits), results.not_indexed) == (2, 3)


def test_a_store_opened_read_only_is_searched_as_far_as_it_is_indexed(store: Store, path: Path):
    fill(store, 3)
    index(store)
    say(store, "alpha late")
    with Store(path, read_only=True) as reader:
        results = search(reader, "alpha")
    assert (len(results.hits), results.not_indexed) == (3, 1)


def test_a_slice_that_is_undone_is_done_again(store: Store):
    fill(store, 3)

    class Crash(Exception):
        pass

    def crash_behind_a_slice() -> None:
        with store.transaction():
            index(store)
            raise Crash

    with pytest.raises(Crash):
        crash_behind_a_slice()
    assert found(store, "alpha", index_bytes=0) == []
    assert backlog(store) == 4
    index(store)
    assert len(found(store, "alpha", index_bytes=0)) == 3


def test_two_processes_that_index_at_once_do_not_index_twice(store: Store, path: Path):
    fill(store, 3)
    with Store(path) as other:
        assert index(store, limit_rows=2).done == 2
        while index(other, limit_rows=2).remaining:
            pass
        assert index(store) == (0, 0)
    assert len(found(store, "alpha")) == 3


def test_a_slice_that_another_process_overtook_is_dropped(store: Store, path: Path):
    fill(store, 3)
    with Store(path) as other:
        store.connection.set_trace_callback(lambda statement: "UNION ALL" in statement and index(other))
        assert index(store) == (0, 0)
        store.connection.set_trace_callback(None)
    assert len(found(store, "number1")) == 1


def test_a_rebuilt_index_answers_as_before(store: Store):
    fill(store, 4)
    store.update("s", add_tags=["alpha"])
    before = search(store, "alpha").hits
    rebuild(store)
    assert backlog(store) == 5
    assert search(store, "alpha").hits == before


def test_a_rebuilt_index_holds_nothing_but_what_the_store_holds(store: Store):
    fill(store, 1)
    index(store)
    store.execute("INSERT OR REPLACE INTO search (rowid, text) SELECT no, 'stray' FROM messages")
    assert len(found(store, "stray")) == 1
    rebuild(store)
    assert found(store, "stray") == []


def test_numbers_of_the_feed_without_a_row_are_passed(store: Store):
    fill(store, 2)
    with store.transaction():
        store.advance(3)
    index(store)
    assert index(store) == (0, 0)
    assert store.cursor("search") == store.last_seq


def test_a_content_that_cannot_be_read_does_not_stop_the_index(store: Store):
    broken = say(store, [{"type": "text", "text": "x"}])
    store.execute("UPDATE messages SET content = ? WHERE id = ?", (b"[{", broken))
    there = say(store, "alpha")
    assert found(store, "alpha") == [there]


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["say", "edit", "delete", "retitle", "drop", "restore", "index", "scrub"]), st.integers(0, 5)
    ),
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=COMMANDS)
def test_an_index_kept_up_in_slices_equals_one_made_at_the_end(
    tmp_path_factory: pytest.TempPathFactory, commands: list[tuple[str, int]]
):
    with Store(tmp_path_factory.mktemp("model") / "steno.db") as store:
        store.create(id="s", title="Word0")
        ids = []
        for name, number in commands:
            if name == "say":
                ids.append(say(store, f"word{number} common"))
            elif name == "index":
                index(store, limit_rows=number + 1)
            elif name == "scrub":
                with store.transaction():
                    scrub(store)
            elif name == "restore":
                store.restore("s")
            elif store.get("s", deleted=True).deleted_at:
                continue
            elif name == "drop":
                store.delete("s")
            elif name == "retitle":
                store.update("s", fields={"title": f"Word{number}"}, tags=["common"])
            elif ids and name == "edit":
                store.edit_message("s", ids[number % len(ids)], {"content": f"word{number} edited"})
            elif ids:
                store.delete_message("s", ids[number % len(ids)])
        queries = ["common", "edited", *(f"word{n}" for n in range(6))]
        kept_up = {query: search(store, query, index_bytes=ALL, limit=1000).hits for query in queries}
        rebuild(store)
        anew = {query: search(store, query, index_bytes=ALL, limit=1000).hits for query in queries}
    assert {q: {(h.message, h.snippet) for h in hits} for q, hits in kept_up.items()} == {
        q: {(h.message, h.snippet) for h in hits} for q, hits in anew.items()
    }


# What a purge leaves behind: nothing. Messages speak in capitals here, so that the small letters are the index's.


def row(store: Store, message: str) -> int:
    return store.one("SELECT no FROM messages WHERE id = ?", (message,))[0]


def on_disk(store: Store, word: str) -> bool:
    """Whether the file or its log holds a word; it must begin like no other, for FTS5 leaves out what two share."""
    return any(word.encode() in path.read_bytes() for path in store.path.parent.iterdir())


def purge(store: Store, rows: Iterable[int]) -> None:
    """Erase rows from the index, and what the file keeps of them."""
    with store.transaction():
        forget(store, rows)
    with store.transaction():
        scrub(store)
    store.execute("VACUUM")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_no_term_of_a_forgotten_row_is_left_in_the_file(store: Store):
    gone, kept = say(store, "QUUXTAGO ZYXED alpha"), say(store, "alpha alone")
    index(store)
    assert on_disk(store, "quuxtago")
    assert on_disk(store, "zyx")
    purge(store, [row(store, gone)])
    assert not on_disk(store, "quuxtago")
    assert not on_disk(store, "zyx")
    assert found(store, "alpha") == [kept]


def test_a_session_is_forgotten_by_its_number_negated(store: Store):
    store.create(id="other", title="ZYXOMMA", tags=["QUUXTAG"])
    there = say(store, "alpha")
    index(store)
    assert on_disk(store, "zyxomma")
    purge(store, [-1, 4711])
    assert not on_disk(store, "zyxomma")
    assert not on_disk(store, "quuxtag")
    assert found(store, "alpha") == [there]


def test_terms_that_an_edit_left_are_scrubbed_too(store: Store):
    edited = say(store, "QUUXTAGO alpha")
    index(store)
    store.edit_message("s", edited, {"content": "beta"})
    index(store)
    assert on_disk(store, "quuxtago")
    purge(store, [])
    assert not on_disk(store, "quuxtago")
    assert found(store, "beta") == [edited]


def test_an_edit_that_is_not_indexed_yet_is_no_hiding_place(store: Store):
    edited = say(store, "QUUXTAGO alpha")
    index(store)
    store.edit_message("s", edited, {"content": "beta"})
    purge(store, [])
    assert not on_disk(store, "quuxtago")
    assert found(store, "alpha", index_bytes=0) == []
    assert found(store, "beta") == [edited]


def test_an_index_that_is_to_be_made_anew_is_no_hiding_place(store: Store):
    there = say(store, "QUUXTAGO alpha")
    index(store)
    rebuild(store)
    purge(store, [])
    assert not on_disk(store, "quuxtago")
    assert found(store, "alpha") == [there]


def test_scrubbing_twice_writes_nothing_the_second_time(store: Store):
    forgotten = say(store, "alpha gone")
    for number in range(49):
        index(store)
        say(store, f"alpha number{number}")
    purge(store, [row(store, forgotten)])
    before = store.one("SELECT block FROM search_data WHERE id = 10")
    with store.transaction():
        scrub(store)
    assert store.one("SELECT block FROM search_data WHERE id = 10") == before
    assert len(found(store, "alpha")) == 49


def test_no_merge_under_way_keeps_a_term(store: Store):
    """In about one of twenty of these indexes a single pass of FTS5's ``optimize`` leaves terms behind."""
    for name, value in (("pgsz", 32), ("automerge", 2)):
        store.execute("INSERT INTO search (search, rank) VALUES (?, ?)", (name, value))
    store.set_meta("any", "thing")
    store.create(id="s")
    index(store)
    for seed in range(40):
        live, gone = grown(store, random.Random(seed))
        with store.transaction():
            scrub(store)
        kept = b"".join(block for (block,) in store.execute("SELECT block FROM search_data"))
        assert [name for name in gone if name[2:].encode() in kept] == [], seed
        assert not live or any(name[2:].encode() in kept for name in live)
        store.execute("INSERT INTO search (search) VALUES ('delete-all')")


def grown(store: Store, draw: random.Random) -> tuple[list[str], list[str]]:
    """Fill the index in small pieces with deletions between them; the names that are in it, and those that are not."""
    live: dict[str, int] = {}
    gone: list[str] = []

    def delete(count: int) -> None:
        for name in draw.sample(sorted(live), min(count, len(live))):
            gone.append(name)
            forget(store, [live.pop(name)])

    for piece in range(draw.randint(3, 60)):
        with store.transaction():
            for at in range(draw.randint(1, 60)):
                name = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=14))
                live[name] = piece * 100 + at + 1
                filler = " ".join(f"w{draw.randint(0, 500)}" for _ in range(draw.randint(1, 20)))
                store.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (live[name], f"{name} {filler}"))
            delete(draw.choice((0, 0, 1, 10)))
    with store.transaction():
        delete(draw.randint(1, 100))
    return list(live), gone
