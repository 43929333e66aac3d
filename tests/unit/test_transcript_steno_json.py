"""A session that is exported comes back equal; a file with a fault is refused whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput
from steno.storage.model import Message, NewMessage, SessionHeader
from steno.storage.restoring import bring_back
from steno.storage.shape import message_json, session_json
from steno.storage.store import Store
from steno.storage.transcripts import read_transcripts
from steno.storage.transcripts.steno_json import Exported, written

HEADER = {"steno": 1, "id": "s1", "title": "Plans", "created_at": "2026-11-20T10:00:00.000Z"}
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
JSON = st.recursive(SCALARS, lambda below: st.dictionaries(TEXT, below, max_size=3), max_leaves=5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "steno.db")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other.db")


def test_an_exported_session_is_equal_in_another_store(store: Store, other: Store) -> None:
    store.create(
        id="s1", title="Plans", tags=["b", "a"], metadata={"k": {"n": None}}, provider="p", model="m", user_id="u"
    )
    store.update("s1", fields={"status": "paused"}, state={"step": [1, 2]})
    first = store.append(
        "s1", NewMessage(role="user", content="Hello", timestamp="2020-01-01T00:00:00+02:00", sender="ann")
    )
    blocks = [{"type": "text", "text": "Hi"}]
    store.append("s1", NewMessage(role="assistant", content=blocks, parent=first.id, usage={"n": 1}, metadata={"x": 1}))

    _take(other, _export(store, "s1"))

    assert _whole(other, "s1") == _whole(store, "s1")


@given(title=TEXT, metadata=st.dictionaries(TEXT, JSON, max_size=3), contents=st.lists(TEXT, max_size=4))
def test_whatever_a_session_holds_its_export_reads_back_the_same(
    title: str, metadata: dict[str, Any], contents: list[str]
) -> None:
    session = _header(title=title, metadata=metadata)
    messages = [
        Message(id=f"m{number}", role="user", content=content, timestamp="2026-11-20T10:00:00.000Z")
        for number, content in enumerate(contents)
    ]

    (found,) = read_transcripts(b"".join(written(session, messages)), name="x").transcripts

    assert found.metadata == metadata
    assert [(each.id, each.content, each.timestamp) for each in found.messages] == [
        (each.id, each.content, each.timestamp) for each in messages
    ]


def test_importing_a_session_into_the_store_that_exported_it_changes_nothing(store: Store) -> None:
    store.create(id="s1", title="Plans", tags=["a"], metadata={"project": "x"})
    store.append("s1", NewMessage(role="user", content="Hello"))

    done = _take(store, _export(store, "s1"))

    assert [(each.created, each.added, each.changed) for each in done] == [(False, 0, 0)]


def test_importing_an_export_twice_changes_nothing(store: Store) -> None:
    data = _jsonl(HEADER, {"id": "m1", "role": "user", "content": "Hello"})
    _take(store, data)
    before = store.last_seq

    _take(store, data)

    assert store.last_seq == before


def test_the_same_session_comes_from_json_and_from_jsonl() -> None:
    message = {"id": "m1", "role": "user", "content": "Hello", "timestamp": "2026-11-20T10:00:05.120Z"}
    as_json = json.dumps({**HEADER, "messages": [message]}, indent=2).encode()

    assert _read(as_json) == _read(_jsonl(HEADER, message))


def test_several_sessions_stand_behind_each_other_in_one_jsonl_file() -> None:
    message = {"id": "m1", "role": "user", "content": "Hello"}
    found = _read(_jsonl(HEADER, message, {**HEADER, "id": "s2"}, message))
    assert [(each.id, len(each.messages)) for each in found] == [("s1", 1), ("s2", 1)]


def test_several_sessions_stand_in_one_json_array() -> None:
    found = _read(json.dumps([{**HEADER, "messages": []}, {**HEADER, "id": "s2"}]).encode())
    assert [each.id for each in found] == ["s1", "s2"]


def test_messages_without_an_id_get_one_and_equal_twins_both_stay() -> None:
    (found,) = _read(_jsonl(HEADER, *[{"role": "user", "content": "Again"}] * 2))
    assert len({each.id for each in found.messages}) == 2


def test_each_message_hangs_on_the_one_before() -> None:
    lines = [{"id": f"m{number}", "role": "user", "content": "x"} for number in range(3)]
    (found,) = _read(_jsonl(HEADER, *lines))
    assert [each.after for each in found.messages] == [None, "m0", "m1"]


def test_a_title_that_the_first_message_makes_stays_automatic() -> None:
    (found,) = _read(
        _jsonl({**HEADER, "title": "Hello there"}, {"id": "m1", "role": "user", "content": "Hello  there"})
    )
    assert found.title is None


def test_deleted_messages_are_left_out_and_counted() -> None:
    line = {"id": "m1", "role": "user", "content": "x", "deleted_at": "2026-11-20T10:00:00.000Z"}
    reading = read_transcripts(_jsonl(HEADER, line), name="x")
    assert (reading.transcripts[0].messages, reading.left_out) == ([], {"deleted message": 1})


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([HEADER, {"id": "m1", "content": "x"}], "line 2, column 1: role is required"),
        ([HEADER, {"id": "m1", "role": "user", "content": 7}], "line 2, column .*: content must be text"),
        ([HEADER, {"role": "user", "content": "x", "colour": "red"}], "line 2, column .*: there is no field colour"),
        ([{**HEADER, "colour": "red"}], "line 1, column .*: there is no field colour"),
        ([{**HEADER, "steno": 2}], "newer version"),
        ([{**HEADER, "steno": "1"}], "`steno` must be 1"),
        ([{**HEADER, "id": ""}], "session id"),
        ([{**HEADER, "status": "lost"}], "invalid status"),
        ([{**HEADER, "created_at": "soon"}], "not a time"),
        ([HEADER, *[{"id": "m1", "role": "user", "content": "x"}] * 2], "line 3, column 1: the id m1 stands twice"),
        ([HEADER, {"role": "user", "content": "x", "timestamp": "soon"}], "line 2, column .*: timestamp: not a time"),
    ],
)
def test_a_fault_refuses_the_file_and_says_where_it_is(lines: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        _read(_jsonl(*lines))


def test_a_torn_last_line_refuses_the_file() -> None:
    data = _jsonl(HEADER, {"id": "m1", "role": "user", "content": "x"})
    with pytest.raises(InvalidInput, match="line 2"):
        _read(data[:-5])


def test_a_session_that_is_here_keeps_its_own_state(store: Store) -> None:
    data = _jsonl({**HEADER, "status": "archived"})
    _take(store, data)
    store.update("s1", fields={"status": "active"})

    _take(store, data)

    assert store.get("s1").status == "active"


def test_a_session_that_was_deleted_here_stays_deleted(store: Store) -> None:
    _take(store, _jsonl(HEADER))
    store.delete("s1")

    _take(store, _jsonl(HEADER, {"id": "m1", "role": "user", "content": "x"}))

    assert store.get("s1", deleted=True).deleted_at is not None


def test_no_line_of_an_export_is_json_by_itself() -> None:
    messages = [Message(id="m1", role="user", content="x", timestamp="2026-11-20T10:00:00.000Z")] * 2
    for line in b"".join(written(_header(), messages)).splitlines():
        with pytest.raises(json.JSONDecodeError):
            json.loads(line)


def _header(**fields: Any) -> SessionHeader:
    blank = SessionHeader(
        id="s1", title="", status="active", provider=None, model=None, user_id=None, tags=[], metadata={}, state={},
        created_at="2026-11-20T10:00:00.000Z", updated_at="2026-11-20T10:00:00.000Z", message_count=0,
    )  # fmt: skip
    return msgspec.structs.replace(blank, **fields)


def _jsonl(*lines: dict[str, Any]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _read(data: bytes) -> list[Exported]:
    found = read_transcripts(data, name="a file").transcripts
    return [each for each in found if isinstance(each, Exported)]


def _take(store: Store, data: bytes) -> list[Any]:
    return [bring_back(store, each) for each in _read(data)]


def _export(store: Store, session: str) -> bytes:
    return b"".join(written(store.get(session), store.messages(session)))


def _whole(store: Store, session: str) -> dict[str, Any]:
    messages = [message_json(each) for each in store.messages(session)]
    return {**session_json(store.get(session)), "messages": messages}
