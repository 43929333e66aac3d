"""Stores that meet: what each wrote is there on both, shown alike, and nothing that was not known is covered."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import RegisterState, SessionChange, decode_batch, local_changes
from steno.storage.conflicts import conflicts
from steno.storage.errors import InvalidInput
from steno.storage.importing import take_in
from steno.storage.model import NewMessage
from steno.storage.rows import MAX_MESSAGE_BYTES
from steno.storage.state import load
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript


class Device:
    """A store with a clock of its own and the batches that it published."""

    def __init__(self, name: str, folder: Path) -> None:
        draw = random.Random(name)
        self.at_ms = 1_700_000_000_000
        self.store = Store(
            folder / f"{name}.db",
            now_ms=lambda: self.at_ms,
            random=lambda length: name + "".join(draw.choice("abcdefghij") for _ in range(length - 1)),
        )
        self.log: list[bytes] = []
        self._since = self._floor = 0

    def publish(self, *, max_bytes: int = 10**6) -> None:
        complete = False
        while not complete:
            batch, self._since, complete = local_changes(
                self.store, since=self._since, floor=self._floor, max_bytes=max_bytes
            )
            if batch:
                self.log.append(batch)
        self._floor = self._since

    def pull(self, other: Device, *only: int) -> list[str]:
        done = Applied()
        for number, batch in enumerate(other.log):
            if not only or number in only:
                decoded = decode_batch(batch)
                for part in slices(decoded):
                    with self.store.transaction():
                        apply(self.store, decoded, part, done=done)
        return done.refused

    def contents(self) -> list[Any]:
        return [message.content for message in self.store.messages("s")]

    def conflicts(self) -> list[tuple[str, Any, list[Any]]]:
        return [
            (each.field, each.shown.value, [other.value for other in each.others]) for each in conflicts(self.store)
        ]


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[tuple[Device, Device, Device]]:
    made = Device("a", tmp_path), Device("b", tmp_path), Device("c", tmp_path)
    yield made
    for device in made:
        device.store.close()


def _meet(one: Device, other: Device) -> None:
    for device in (one, other):
        device.publish()
    one.pull(other)
    other.pull(one)


def _transcript(text: str, *, sender: str | None = None, **fields: Any) -> Transcript:
    message = NewMessage(id="n0", role="user", content=text, sender=sender, timestamp="2023-11-14T00:00:00Z")
    return Transcript(
        id="s", created_ms=1, title=None, provider=None, model=None, source={"tool": "x"}, messages=[message], **fields
    )


def test_two_versions_of_one_transcript_show_the_same_text_on_both_devices(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    take_in(a.store, _transcript("old: zzz"))
    a.publish()
    b.at_ms += 1000
    take_in(b.store, _transcript("abc: aaa"))
    b.pull(a)
    _meet(a, b)
    assert a.contents() == b.contents()


def test_what_waited_for_a_message_meets_both_of_its_births(devices: tuple[Device, Device, Device]):
    a, b, c = devices
    take_in(a.store, _transcript("text", sender="from a"))
    a.publish()
    b.at_ms += 10
    take_in(b.store, _transcript("text"))
    b.pull(a)
    a.store.edit_message("s", "n0", {"metadata": {"k": 1}})
    _meet(a, b)
    c.pull(a, 1)
    c.pull(b)
    c.pull(a)
    states = []
    for device in devices:
        row = device.store.find("s")
        assert row is not None
        states.append(
            sorted(load(device.store, row.no, next(device.store.message_rows(row.no)), "sender").open.items())
        )
    assert states[0] == states[1] == states[2]


def test_a_deleter_who_got_only_a_part_of_a_push_does_not_hide_what_was_born_before(
    devices: tuple[Device, Device, Device],
):
    a, b, _ = devices
    b.store.create(id="s")
    b.publish()
    first = b.store.append("s", NewMessage(role="user", content="first " + "x" * 300))
    b.store.append("s", NewMessage(role="user", content="second " + "x" * 300))
    b.store.edit_message("s", first.id, {"content": "first, edited " + "y" * 300})
    b.publish(max_bytes=400)
    a.pull(b, 0, 1)
    a.store.delete("s")
    _meet(a, b)
    assert [text[:6] for text in a.contents()] == [text[:6] for text in b.contents()] == ["second"]


def test_a_deletion_of_what_was_known_earlier_spares_what_came_later_and_is_older(
    devices: tuple[Device, Device, Device],
):
    a, b, _ = devices
    b.store.create(id="s")
    b.publish()
    for text in ("one", "two", "three"):
        b.at_ms += 1
        b.store.append("s", NewMessage(role="user", content=text))
        b.publish()
    a.pull(b, 0, 1, 3)
    known = a.store.last_seq
    a.pull(b)
    a.store.delete("s", known_seq=known)
    assert a.contents() == ["two"]


def test_a_message_that_both_added_by_hand_keeps_both_texts(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    b.at_ms += 5
    for device, text in ((a, "text of a"), (b, "text of b")):
        device.store.create(id="s")
        device.store.append("s", NewMessage(id="m1", role="user", content=text, timestamp="2023-11-14T00:00:00Z"))
    _meet(a, b)
    assert a.conflicts() == b.conflicts() == [("content", "text of b", ["text of a"])]


def test_a_value_above_does_not_silently_cover_one_below_that_it_did_not_know(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    a.store.create(id="s")
    a.publish()
    b.pull(a)
    a.at_ms += 1
    a.store.update("s", metadata={"c": {"d": "child of a"}})
    b.at_ms += 2
    b.store.update("s", metadata={"c": 1})
    _meet(a, b)
    assert a.conflicts() == b.conflicts() == [("metadata/c/d", 1, ["child of a"])]


def test_a_value_above_that_knew_the_one_below_is_no_conflict(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    a.store.create(id="s", metadata={"c": {"d": "child of a"}})
    a.publish()
    b.pull(a)
    b.at_ms += 2
    b.store.update("s", metadata={"c": 1})
    _meet(a, b)
    assert a.conflicts() == b.conflicts() == []


@pytest.mark.parametrize("patch", [{"c": 1}, {"c": {"d": "child of a"}}])
def test_writing_either_value_settles_a_conflict_above_and_below(
    devices: tuple[Device, Device, Device], patch: dict[str, Any]
):
    a, b, _ = devices
    a.store.create(id="s")
    a.publish()
    b.pull(a)
    a.store.update("s", metadata={"c": {"d": "child of a"}})
    b.at_ms += 2
    b.store.update("s", metadata={"c": 1})
    _meet(a, b)
    a.at_ms += 10
    a.store.update("s", metadata=patch)
    _meet(a, b)
    assert (a.conflicts(), b.conflicts()) == ([], [])
    assert a.store.get("s").metadata == b.store.get("s").metadata == patch


def test_confirming_what_is_shown_settles_a_conflict(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    a.store.create(id="s")
    message = a.store.append("s", NewMessage(role="user", content="x"))
    _meet(a, b)
    a.store.update("s", metadata={"k": 1})
    a.store.delete_message("s", message.id)
    b.at_ms += 9
    b.store.update("s", metadata={"k": 2})
    b.store.edit_message("s", message.id, {"content": "edited"})
    _meet(a, b)
    assert len(a.conflicts()) == 2
    a.at_ms += 50
    a.store.update("s", metadata={"k": 2})
    a.store.edit_message("s", message.id, {"content": "edited, and kept"})
    _meet(a, b)
    assert (a.conflicts(), b.conflicts()) == ([], [])


def test_taking_in_again_what_another_device_edited_by_hand_changes_nothing(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    transcript = _transcript("original", metadata={"project": "source"})
    take_in(a.store, transcript)
    a.store.edit_message("s", "n0", {"content": "by hand"})
    a.store.update("s", metadata={"project": None})
    _meet(a, b)
    assert [take_in(device.store, transcript).changed for device in (a, b)] == [0, 0]
    assert b.contents() == ["by hand"]


@pytest.mark.fault(37)
def test_a_poisoned_register_is_refused_alone(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    b.store.create(id="s", title="kept")
    b.publish()
    batch = decode_batch(b.log[0])
    (change,) = batch.sessions
    state = change.registers[0].state
    poison = [RegisterState("bad\nid", "content", state), RegisterState(None, "x" * 5000, state)]
    poisoned = SessionChange(change.id, 1, change.births, 0, [*poison, *change.registers], change.messages)
    done = Applied()
    with a.store.transaction():
        apply(a.store, batch, [poisoned], done=done)
    assert (len(done.refused), a.store.get("s").title) == (2, "kept")


@pytest.mark.fault(37)
def test_a_message_that_no_segment_can_carry_is_refused_where_it_is_written(devices: tuple[Device, Device, Device]):
    a, _, _ = devices
    a.store.create(id="s")
    with pytest.raises(InvalidInput, match="16 MiB"):
        a.store.append("s", NewMessage(role="user", content="é" * (MAX_MESSAGE_BYTES // 2 + 1)))
    assert a.contents() == []


def test_a_key_that_no_device_would_take_is_refused_where_it_is_written(devices: tuple[Device, Device, Device]):
    a, _, _ = devices
    with pytest.raises(InvalidInput, match="longer than"):
        a.store.create(id="s", metadata={"k" * 5000: 1})


def test_large_metadata_is_spread_over_batches(devices: tuple[Device, Device, Device]):
    a, b, _ = devices
    a.store.create(id="s")
    for _ in range(20):
        a.store.append("s", NewMessage(role="user", content="x", metadata={"large": "y" * 50_000}))
    a.publish(max_bytes=200_000)
    assert max(map(len, a.log)) < 300_000
    b.pull(a)
    assert len(b.contents()) == 20
