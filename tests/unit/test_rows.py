"""What people see, what rows hold and what registers say are three forms of the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steno.storage.database import Database
from steno.storage.model import format_ms, parse_time
from steno.storage.registers import text_of, value_of
from steno.storage.rows import (
    BORN_COLUMNS,
    INSERT_MESSAGE,
    INSERT_QUICKLY,
    MESSAGE_COLUMNS,
    SCALARS,
    SESSION_COLUMNS,
    Born,
    MessageRow,
    SessionBirth,
    SessionRow,
    content_column,
    content_of,
    encode_births,
    header,
    json_column,
    message,
    quick,
    scalar_columns,
    scalar_text,
    session_births,
    size_bytes,
)
from steno.storage.sqlite import MEMORY
from steno.tests.unit.strategies import DOCUMENTS, VALUES, canonical

TEXTS = st.text(max_size=12)
BLOCKS = st.lists(st.builds(lambda kind, more: {**more, "type": kind}, st.sampled_from(["text", "image"]), DOCUMENTS))
CONTENTS = st.one_of(TEXTS, BLOCKS)
TIMES_MS = st.integers(0, 2**42)
OPTIONAL = st.one_of(st.none(), TEXTS)
OBJECTS = st.one_of(st.none(), DOCUMENTS)


def _row(**fields: Any) -> MessageRow:
    columns: dict[str, Any] = {
        **dict.fromkeys(MessageRow.__struct_fields__),
        "no": 1,
        "session": 1,
        "ord": 1,
        "seq": 1,
        "local_seq": 1,
        "born_seq": 1,
        "hidden": 0,
        "edited": 0,
        "id": "m",
        "clock": 1,
        "author": 2,
        "inserted": 0,
        "role": "user",
        "content": "text",
        "time_ms": 0,
    }
    return MessageRow(**{**columns, **fields})


@st.composite
def _rows(draw: st.DrawFn) -> MessageRow:
    time_ms = draw(TIMES_MS)
    return _row(
        sender=draw(OPTIONAL),
        content=content_column(draw(CONTENTS)),
        time_ms=time_ms,
        time_text=draw(st.sampled_from([None, format_ms(time_ms).replace("Z", "+00:00")])),
        parent=draw(OPTIONAL),
        model=draw(OPTIONAL),
        usage=json_column(draw(OBJECTS)),
        metadata=json_column(draw(OBJECTS)),
    )


@pytest.mark.parametrize(
    ("columns", "table", "struct"),
    [
        (BORN_COLUMNS, "messages", Born),
        (MESSAGE_COLUMNS, "messages", MessageRow),
        (SESSION_COLUMNS, "sessions", SessionRow),
    ],
)
def test_the_columns_that_are_selected_are_the_fields_in_their_order(
    tmp_path: Path, columns: str, table: str, struct: type[msgspec.Struct]
):
    with Database(tmp_path / "steno.db") as database:
        selected = database.execute(f"SELECT {columns} FROM {table}").description
    assert tuple(name for name, *_ in selected) == struct.__struct_fields__


def test_a_message_travels_as_the_columns_from_its_id_on():
    fields = MessageRow.__struct_fields__
    assert fields[fields.index("id") :] == Born.__struct_fields__


@given(_rows(), st.sampled_from(["", "0", "word", "é" * 3000, "a" * 5000, b'["' + b"b" * 5000 + b'"]']))
@example(_row(sender="", parent="0"), "a\0" + "b" * 5000)
def test_a_row_is_the_same_however_it_is_inserted(row: MessageRow, content: str | bytes):
    values = msgspec.structs.astuple(msgspec.structs.replace(row, content=content))[1:]
    columns = f"{MESSAGE_COLUMNS}, content, typeof(content), typeof(sender), typeof(parent), typeof(births)"
    found = []
    with Database(MEMORY) as database:
        for insert, given_values in (
            (INSERT_MESSAGE, values),
            (INSERT_QUICKLY, quick(values, content_bytes=size_bytes(content))),
        ):
            database.executemany(insert, [given_values])
            found.append(database.one(f"SELECT {columns} FROM messages"))
            database.execute("DELETE FROM messages")
    assert found[0] == found[1]


@given(CONTENTS)
def test_content_comes_back_from_its_column(content: Any):
    assert canonical(content_of(content_column(content))) == canonical(content)


@given(DOCUMENTS)
def test_an_object_comes_back_from_its_column_and_an_empty_one_is_null(document: dict[str, Any]):
    column = json_column(document)
    assert (column is None) == (not document)
    assert canonical({} if column is None else msgspec.json.decode(column)) == canonical(document)


def test_nothing_is_a_null_column():
    assert json_column(None) is None


@given(_rows())
def test_a_row_comes_back_from_the_texts_of_its_registers(row: MessageRow):
    again = _row(metadata=row.metadata)
    for path in SCALARS:
        text = scalar_text(row, path)
        time_ms = parse_time(value_of(text)) if path == "timestamp" else 0
        again = msgspec.structs.replace(again, **scalar_columns(path, text, time_ms=time_ms))
    assert again == row


@given(CONTENTS, TIMES_MS, OPTIONAL, OBJECTS)
def test_a_columns_register_text_is_the_json_of_what_people_see(
    content: Any, time_ms: int, text: str | None, usage: Any
):
    row = _row(content=content_column(content), time_ms=time_ms, sender=text, usage=json_column(usage))
    shown = message(row)
    assert scalar_text(row, "content") == text_of(shown.content)
    assert scalar_text(row, "timestamp") == text_of(shown.timestamp)
    assert scalar_text(row, "sender") == text_of(shown.sender)
    assert scalar_text(row, "usage") == text_of(shown.usage)


@given(VALUES)
def test_a_list_of_blocks_is_told_from_text_that_looks_like_one(value: Any):
    text = msgspec.json.encode([{"type": "text", "value": value}]).decode()
    assert content_of(content_column(text)) == text


def test_a_message_of_nulls_has_an_empty_object_for_its_metadata():
    shown = message(_row())
    assert (shown.metadata, shown.usage, shown.origin, shown.deleted_at) == ({}, None, None, None)


def test_a_time_that_was_given_is_kept_as_it_was_written():
    assert message(_row(time_ms=0, time_text="1970-01-01T01:00:00+01:00")).timestamp == "1970-01-01T01:00:00+01:00"


def test_a_deleted_message_says_when():
    assert message(_row(), deleted_ms=1).deleted_at == "1970-01-01T00:00:00.001Z"


# Sessions


def _session(**fields: Any) -> SessionRow:
    columns: dict[str, Any] = {
        **dict.fromkeys(SessionRow.__struct_fields__),
        "no": 1,
        "id": "s",
        "life": 1,
        "seq": 1,
        "local_seq": 1,
        "births": b"",
        "touched": 0,
        "title": "A title",
        "automatic": 0,
        "status": "active",
        "tags": "[]",
        "metadata": "{}",
        "state": "{}",
        "created_ms": 0,
        "updated_ms": 1,
        "message_count": 2,
        "hidden": 0,
        "vectors": 0,
        "incomplete": 0,
        "size_bytes": 0,
        "purged": 0,
        "history_seq": 0,
    }
    return SessionRow(**{**columns, **fields})


def test_the_least_birth_of_a_session_says_where_it_comes_from():
    births = [SessionBirth(1, 2, 0, '{"session":"x"}', None), SessionBirth(2, 6, 5, None, '{"tool":"y"}')]
    shown = header(_session(births=encode_births(births)))
    assert (shown.forked_from, shown.source) == ({"session": "x"}, None)


def test_births_come_back_from_their_column():
    births = [SessionBirth(1, 2, 0, None, None), SessionBirth(2, 6, 5, "{}", "{}")]
    assert session_births(encode_births(births)) == births


def test_times_of_a_session_are_text_in_utc():
    shown = header(_session(births=encode_births([SessionBirth(1, 2, 0, None, None)]), deleted_ms=3))
    assert (shown.created_at, shown.updated_at, shown.deleted_at) == (format_ms(0), format_ms(1), format_ms(3))
