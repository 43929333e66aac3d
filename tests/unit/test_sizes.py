"""What a session weighs stands in its row, kept up by every write: the UTF-8 bytes of the contents that are shown."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage import rows
from steno.storage.errors import InvalidInput
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.rows import content_column
from steno.storage.shape import session_json
from steno.storage.state import recount
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.tests.simulation.test_stores_converge import Device, step

LARGE = "é" * 10_000
BLOCKS = [{"type": "text", "text": "漢" * 3000}]
CONTENTS: list[Any] = ["", "short", LARGE, BLOCKS]


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", compress=request.param) as opened:
        opened.create(id="s")
        yield opened


def add(store: Store, *contents: Any) -> list[str]:
    return [each.id for each in store.add_messages("s", [NewMessage(role="user", content=each) for each in contents])]


def weight(*contents: Any) -> int:
    columns = map(content_column, contents)
    return sum(len(each if isinstance(each, bytes) else each.encode()) for each in columns)


def size(store: Store) -> int:
    return store.get("s").size_bytes


def test_an_empty_session_weighs_nothing(store: Store):
    assert size(store) == 0


@pytest.mark.check("COD-5")
def test_a_list_says_what_each_session_weighs(store: Store):
    add(store, *CONTENTS)
    store.create(id="other")
    assert {each.id: each.size_bytes for each in store.sessions()} == {"s": weight(*CONTENTS), "other": 0}


def test_what_is_added_adds_its_bytes(store: Store):
    for at, content in enumerate(CONTENTS, start=1):
        add(store, content)
        assert size(store) == weight(*CONTENTS[:at])


def test_an_edit_of_a_content_changes_the_weight_by_the_difference(store: Store):
    first, *_ = add(store, *CONTENTS)
    for content in (LARGE, "x", BLOCKS, ""):
        store.edit_message("s", first, {"content": content})
        assert size(store) == weight(content, *CONTENTS[1:])


def test_an_edit_of_anything_else_changes_nothing(store: Store):
    first, *_ = add(store, *CONTENTS)
    store.edit_message("s", first, {"sender": "x" * 5000, "metadata": {"k": LARGE}})
    assert size(store) == weight(*CONTENTS)


def test_a_deleted_message_weighs_nothing_until_it_is_written_anew(store: Store):
    *_, last = add(store, *CONTENTS)
    store.delete_message("s", last)
    assert size(store) == weight(*CONTENTS[:-1])
    store.edit_message("s", last, {"content": "back"})
    assert size(store) == weight(*CONTENTS[:-1], "back")


def test_a_session_that_is_written_to_after_it_was_deleted_weighs_what_was_written_since(store: Store):
    add(store, *CONTENTS)
    store.delete("s")
    add(store, LARGE)
    assert size(store) == weight(LARGE)


def test_a_restored_session_weighs_what_it_did(store: Store):
    add(store, *CONTENTS)
    store.delete("s")
    store.restore("s")
    assert size(store) == weight(*CONTENTS)


def test_an_import_adds_and_changes_the_weight(store: Store):
    def take(*contents: Any) -> None:
        messages = [NewMessage(id=str(at), role="user", content=each) for at, each in enumerate(contents)]
        take_in(store, Transcript(id="s", created_ms=1, source={"tool": "x"}, messages=messages))

    take(*CONTENTS)
    assert size(store) == weight(*CONTENTS)
    take("longer than nothing", *CONTENTS[1:], LARGE)
    assert size(store) == weight("longer than nothing", *CONTENTS[1:], LARGE)


def test_counting_anew_decompresses_nothing(store: Store):
    add(store, *CONTENTS)
    store.connection.create_function("unpacked", 1, lambda _: 1 / 0)
    store.execute("UPDATE sessions SET size_bytes = 0")
    with store.transaction():
        recount(store, 1)
    assert size(store) == weight(*CONTENTS)


def test_the_json_of_a_session_is_as_before(store: Store):
    assert "size_bytes" not in session_json(store.get("s"))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_written_and_pulled_a_session_weighs_what_it_shows(tmp_path: Path, seed: int):
    rng, clock = random.Random(seed), [0]
    devices = [Device(name, tmp_path, clock, rng) for name in ("a", "b")]
    for _ in range(60):
        clock[0] += rng.randint(0, 20)
        device, other = rng.sample(devices, 2)
        step(device, rng)
        if rng.random() < 0.2:
            rows = list(device.store.execute("SELECT s.id, m.id FROM messages m JOIN sessions s ON s.no = m.session"))
            for session, message in rng.sample(rows, min(1, len(rows))):
                if not device.store.get(session, deleted=True).deleted_at:
                    device.store.edit_message(session, message, {"content": LARGE[: rng.randint(0, 6000)]})
        if rng.random() < 0.3:
            device.publish(500)
            other.pull(device, rng, 0.2)
        for each in devices:
            _weighs_what_it_shows(each.store)
    for device in devices:
        device.store.close()


def _weighs_what_it_shows(store: Store) -> None:
    for no, said in store.execute("SELECT no, size_bytes FROM sessions").fetchall():
        assert said == sum(
            weight(row.content) if isinstance(row.content, str) else len(row.content) for row in store.message_rows(no)
        )


def _only(field: str, document: dict[str, Any]) -> dict[str, Any]:
    return {field: document}


@pytest.mark.fault(37)
@pytest.mark.parametrize("field", ["state", "metadata"])
def test_what_no_segment_could_carry_is_refused_where_it_is_written(
    store: Store, field: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rows, "MAX_MESSAGE_BYTES", 1 << 20)
    part = "x" * (1 << 18)
    with pytest.raises(InvalidInput, match=rf"^{field} of more than 1 MiB"):
        store.create(id="large", **_only(field, dict.fromkeys("abcd", part)))
    kept = store.update("s", **_only(field, dict.fromkeys("abc", part)))
    with pytest.raises(InvalidInput, match=rf"^{field} of more than 1 MiB"):
        store.update("s", **_only(field, {"d": part}))
    assert list(store.sessions()) == [kept]


def test_a_state_that_is_too_large_may_become_smaller(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.update("s", state={"a": "x" * 1000, "b": "x" * 1000})
    monkeypatch.setattr(rows, "MAX_MESSAGE_BYTES", 100)
    assert set(store.update("s", state={"a": None}).state) == {"b"}
