"""Large contents stand compressed in the database, and nobody but the disk knows."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steno.cli.stores import writing
from steno.daemon.pages import message_page
from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.errors import ContentDamaged
from steno.storage.history import Past
from steno.storage.home import Home
from steno.storage.importing import take_in
from steno.storage.indexing import index
from steno.storage.model import NewMessage
from steno.storage.packing import LARGE_BYTES, MAX_MESSAGE_BYTES, packed, read_sql, size_sql, unpack, write_sql
from steno.storage.search import search
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.sync.files.mirror import Mirror

NOW_MS = 1_800_000_000_000
LARGE = "The quick brown fox jumps over the lazy dog. " * 300
BLOCKS = [{"type": "text", "text": LARGE}, {"type": "tool_result", "content": "grün " * 2000}]


def opened(path: Path, **options: Any) -> Store:
    """A store whose ids and times are the same in each run."""
    drawn = itertools.count()
    return Store(
        path,
        now_ms=itertools.count(NOW_MS).__next__,
        random=lambda length: f"{next(drawn):0{length}d}",
        **options,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "steno.db") as made:
        made.create(id="s")
        yield made


def say(store: Store, content: Any, **fields: Any) -> str:
    return store.append("s", NewMessage(role="user", content=content, **fields)).id


def column(store: Store, message: str) -> Any:
    """What stands in the table."""
    return store.one("SELECT content FROM messages WHERE id = ?", (message,))[0]


def through(store: Store, sql: str, value: Any) -> Any:
    return store.one(f"SELECT {sql}", (value,))[0]


# The column


TEXTS = st.builds(lambda text, times: text * times, st.text(max_size=50), st.sampled_from([1, 200]))
JSON = st.builds(msgspec.json.encode, st.lists(st.dictionaries(st.text(max_size=5), TEXTS, max_size=2)))


@given(TEXTS | JSON | st.builds(lambda blank, json: blank + json, st.text(" \t\r\n", max_size=2).map(str.encode), JSON))
def test_no_content_is_taken_for_a_packed_one(content: Any):
    assert unpack(content) == content


CONTENTS = st.one_of(
    TEXTS,
    JSON,
    st.sampled_from(["x", "é", "漢", "😀", "a\0"]).flatmap(lambda each: st.integers(4000, 4200).map(each.__mul__)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONTENTS)
@example("a\0" + "b" * 5000)
@example("\0" * 5000)
def test_any_content_is_packed_if_it_is_large_and_read_and_weighed_as_it_was(store: Store, content: Any):
    raw = content.encode() if isinstance(content, str) else content
    stored = through(store, write_sql("?1"), content)
    if len(raw) > LARGE_BYTES and packed(raw, isinstance(content, str)):
        assert stored == packed(raw, isinstance(content, str))
        assert unpack(stored) == content
    else:
        assert stored == content
    assert through(store, read_sql("?1"), stored) == content
    assert through(store, size_sql("?1"), stored) == len(raw)


def test_what_does_not_become_smaller_stays_as_it_is(store: Store):
    noise = random.Random(1).randbytes(10_000)
    assert packed(noise, is_text=False) is None
    assert through(store, write_sql("?1"), noise) == noise


def test_more_than_a_message_may_hold_is_left_as_it_is():
    assert packed(b"x" * (MAX_MESSAGE_BYTES + 1), is_text=True) is None
    column = packed(b"x" * MAX_MESSAGE_BYTES, is_text=True)
    assert column
    assert unpack(column) == "x" * MAX_MESSAGE_BYTES


def test_a_short_message_pays_no_call_into_python(store: Store):
    called: list[str] = []
    store.connection.create_function("packed", 2, lambda *_: called.append("packed"))
    store.connection.create_function("unpacked", 1, lambda *_: called.append("unpacked"))
    for content in ("x" * 4096, [{"type": "text", "text": "short"}]):
        say(store, content)
    assert [len(list(store.messages("s"))), called] == [2, []]
    say(store, "x" * 4097)
    assert called == ["packed"]


# Damage


def _frame(raw: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(raw)


GOOD = packed(LARGE.encode(), is_text=True) or b""
DAMAGED = {
    "cut off": GOOD[:-1],
    "only its kind": GOOD[:1],
    "no frame": GOOD[:9],
    "a bit turned": GOOD[:-10] + bytes([GOOD[-10] ^ 1]) + GOOD[-9:],
    "another size": b"\x01%08d" % (len(LARGE) - 1) + GOOD[9:],
    "no size": b"\x01" + b"x" * 8 + GOOD[9:],
    "more than it says": b"\x01%08d" % 10 + _frame(b"x" * 5000),
    "a size that is hidden": b"\x01%08d" % 5000 + _frame(b"x" * 5000, write_content_size=False),
    "too much": b"\x01%08d" % (MAX_MESSAGE_BYTES + 1) + _frame(b"x" * (MAX_MESSAGE_BYTES + 1)),
    "something behind it": GOOD + b"x",
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_column_that_is_damaged_is_read_as_it_stands(store: Store, damaged: bytes):
    assert unpack(GOOD) == LARGE
    assert unpack(damaged) == damaged
    assert through(store, read_sql("?1"), damaged) == damaged


def damage(store: Store) -> str:
    message = say(store, "damaged " + LARGE)
    store.execute("UPDATE messages SET content = ? WHERE id = ?", (column(store, message)[:-1], message))
    return message


def test_a_damaged_message_is_an_error_that_names_it_and_the_others_are_read(store: Store):
    message, well = damage(store), say(store, "well")
    with pytest.raises(ContentDamaged, match=message):
        store.get_message("s", message)
    with pytest.raises(ContentDamaged, match=message):
        list(store.messages("s"))
    assert store.get_message("s", well).content == "well"


def test_a_damaged_message_does_not_stop_the_index_and_has_no_text(store: Store):
    damage(store)
    well = say(store, "well")
    assert [hit.message for hit in search(store, "well").hits] == [well]
    assert search(store, "fox").hits == []


def test_a_message_that_was_damaged_behind_the_index_is_a_hit_without_text(store: Store):
    message = say(store, LARGE)
    index(store)
    store.execute("UPDATE messages SET content = ? WHERE id = ?", (column(store, message)[:-1], message))
    assert [(hit.message, hit.snippet) for hit in search(store, "fox").hits] == [(message, "")]


def test_a_damaged_message_can_be_written_anew(store: Store):
    message = damage(store)
    store.edit_message("s", message, {"content": "well again"})
    assert store.get_message("s", message).content == "well again"
    assert store.get("s").title == "well again"


def test_a_damaged_message_gives_no_title_and_the_session_can_be_written(store: Store):
    damage(store)
    say(store, "after it")
    store.update("s", fields={"title": None})
    assert store.get("s").title == "after it"


def test_a_damaged_message_that_is_sent_is_refused_alone(store: Store, tmp_path: Path):
    message, well = damage(store), say(store, "well")
    with opened(tmp_path / "other.db") as other:
        assert [message in each for each in pull(other, batches(store))] == [True]
        assert [each.id for each in other.messages("s")] == [well]


# As before


def batches(store: Store) -> list[bytes]:
    return [local_changes(store, since=0, floor=0, max_bytes=10**9)[0]]


def pull(store: Store, sent: list[bytes]) -> list[str]:
    done = Applied()
    for batch in map(decode_batch, sent):
        for part in slices(batch):
            with store.transaction():
                apply(store, batch, part, done=done)
    return done.refused


def transcript(*contents: Any) -> Transcript:
    messages = [
        NewMessage(id=str(at), role="user", content=content, timestamp="2023-11-14T22:13:20Z")
        for at, content in enumerate(contents)
    ]
    return Transcript(id="taken", created_ms=NOW_MS, source={"tool": "x"}, messages=messages)


def lived(folder: Path, *, compress: bool) -> dict[str, Any]:
    """Everything that a store with large messages says of itself, and what others get of it."""
    said: dict[str, Any] = {}
    with opened(folder / "one.db", compress=compress) as one, opened(folder / "two.db", compress=compress) as two:
        one.create(id="s")
        ids = [say(one, content, id=str(at)) for at, content in enumerate([LARGE, BLOCKS, "short", LARGE * 3])]
        before = one.last_seq
        said["title"] = one.get("s").title
        one.edit_message("s", "0", {"content": "Now " + LARGE})
        one.edit_message("s", "2", {"content": [{"type": "text", "text": LARGE}]})
        one.delete_message("s", "3")
        said["retitled"] = one.get("s").title
        said["taken"] = [take_in(one, transcript(LARGE, BLOCKS)), take_in(one, transcript(LARGE, BLOCKS))]
        said["taken again"] = take_in(one, transcript(LARGE, [*BLOCKS, *BLOCKS], LARGE))
        row = one.find("s")
        assert row is not None
        said["rows"] = list(one.message_rows(row.no, hidden=True))
        said["messages"] = [one.get_message("s", each) for each in ids]
        said["newest"] = one.newest_messages("s", 2)
        said["pages"] = [message_page(one, "s"), message_page(one, "taken", limit=2)]
        said["past"] = [shown for _, shown in Past(one, row, before).messages()]
        said["slice"] = index(one, limit_bytes=10_000)
        said["found"] = search(one, "fox jumps")
        said["found in blocks"] = search(one, '"grün grün"')
        said["batch"] = batches(one)
        assert pull(two, batches(one)) == []
        said["pulled"] = [list(two.messages(each)) for each in ("s", "taken")]
        said["headers"] = [list(each.sessions()) for each in (one, two)]
        said["files"] = mirrored(two, folder / "sessions")
        columns = list(one.execute("SELECT content FROM messages")) + list(two.execute("SELECT content FROM messages"))
        said["packed"] = sum(isinstance(each, bytes) and each[0] < 3 for (each,) in columns)
        return said


def mirrored(store: Store, root: Path) -> Any:
    """The files of a store, and the messages that a person's edit of them makes."""
    mirror = Mirror(store, root)
    mirror.start()
    while mirror.write_pending() is not None:
        pass
    paths = sorted(root.rglob("*.s.jsonl"))
    texts = [path.read_text() for path in paths]
    for path in paths:
        path.write_text(path.read_text().replace("lazy dog", "busy cat"))
    mirror.saved(paths)
    return texts, list(store.messages("s"))


@pytest.fixture(scope="module")
def with_and_without(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        lived(tmp_path_factory.mktemp("with"), compress=True),
        lived(tmp_path_factory.mktemp("without"), compress=False),
    )


def test_only_one_of_the_two_stores_compresses(with_and_without: tuple[dict[str, Any], dict[str, Any]]):
    compressed, plain = with_and_without
    assert (compressed["packed"], plain["packed"]) == (14, 0)


@pytest.mark.parametrize(
    "what",
    [
        "title",
        "retitled",
        "taken",
        "taken again",
        "rows",
        "messages",
        "newest",
        "pages",
        "past",
        "slice",
        "found",
        "found in blocks",
        "batch",
        "pulled",
        "headers",
        "files",
    ],
)
def test_large_messages_are_as_they_are_without_compression(
    what: str, with_and_without: tuple[dict[str, Any], dict[str, Any]]
):
    compressed, plain = with_and_without
    assert compressed[what]
    assert compressed[what] == plain[what]


def test_a_store_that_compresses_no_more_reads_what_it_compressed(tmp_path: Path):
    path = tmp_path / "steno.db"
    with opened(path) as store:
        store.create(id="s")
        say(store, LARGE, id="before")
    with opened(path, compress=False) as store:
        say(store, LARGE, id="after")
        assert [len(column(store, each)) < LARGE_BYTES for each in ("before", "after")] == [True, False]
        assert [each.content for each in store.messages("s")] == [LARGE, LARGE]


# The room that it takes


def room(store: Store) -> int:
    """Bytes of the database's file, with all that was in its log."""
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return store.path.stat().st_size


@pytest.mark.check("COD-18")
@pytest.mark.parametrize("kind", ["text", "blocks"])
def test_a_repetitive_message_of_a_megabyte_takes_under_a_fifth_on_disk_and_is_read_and_found(store: Store, kind: str):
    text = ("All work and no play makes Jack a dull boy. " * 24_000)[:1_000_000]
    content: Any = text if kind == "text" else [{"type": "text", "text": text}]
    before = room(store)
    message = say(store, content)
    # Measured before it is indexed: what the index holds of a text is no smaller because the text repeats itself.
    assert room(store) - before < 200_000
    assert store.get_message("s", message).content == content
    assert [hit.message for hit in search(store, "jack dull").hits] == [message]


@pytest.mark.check("COD-16", "COD-18")
@pytest.mark.parametrize("compress", [True, False])
def test_the_settings_say_whether_a_command_compresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool):
    monkeypatch.setenv("STENO_HOME", str(tmp_path))
    home = Home.from_environment()
    home.make()
    home.config_file.write_text(f"[session]\ncompress_messages = {str(compress).lower()}\n", encoding="utf-8")
    Store(home.database).close()
    with writing() as store:
        store.create(id="s")
        assert (len(column(store, say(store, LARGE))) < LARGE_BYTES) == compress


def test_reading_short_messages_does_not_load_the_compressor(store: Store):
    code = (
        "import sys; from pathlib import Path; from steno.storage.store import Store\n"
        "with Store(Path(sys.argv[1]), read_only=True) as store: print([len(m.content) for m in store.messages('s')])\n"
        "print('zstandard' in sys.modules)"
    )
    say(store, "short")
    assert _python(code, store.path) == ["[5]", "False"]
    say(store, LARGE)
    assert _python(code, store.path) == [f"[5, {len(LARGE)}]", "True"]


def _python(code: str, path: Path) -> list[str]:
    import subprocess

    done = subprocess.run([sys.executable, "-c", code, os.fspath(path)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
