"""What a compacted segment says is what those said that it stands for, and what was purged stands in none."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import Batch, decode_batch, encode_batch, local_changes
from steno.storage.model import NewMessage
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.storage.purged import Purged
from steno.storage.store import Store
from steno.sync.vault.compaction import (
    BYTES_EACH,
    FAN_IN,
    MAX_CONTENT_BYTES,
    MOST,
    MOST_AT_ONCE,
    ROOM,
    Gone,
    Published,
    choose,
    combine,
    is_crowded,
)
from steno.sync.vault.names import SegmentName
from steno.tests.simulation.test_purges_converge import Purging
from steno.tests.simulation.test_stores_converge import state, step

SCHEDULES = int(os.environ.get("STENO_SCHEDULES", "40"))


FEW = 300


class Nothing:
    """Nothing was purged, as far as this one knows."""

    def ended(self, *_: str) -> int:
        return 0

    def erased(self, *_: object) -> bool:
        return False

    def forgotten(self, *_: object) -> None:
        return None


def encode(batch: Batch) -> bytes:
    return encode_batch(batch.devices, batch.sessions)


def again(batch: Batch) -> Batch:
    """A batch as it is read by another device."""
    return decode_batch(encode(batch))


def take(store: Store, batches: Sequence[Batch], rows: int = 2000) -> Store:
    done = Applied()
    for batch in batches:
        for part in slices(batch, rows=rows):
            with store.transaction():
                apply(store, batch, part, done=done)
    assert done.refused == []
    return store


def lives(seed: int, folder: Path, write: Callable[[Purging, random.Random], None]) -> list[Purging]:
    """Devices that wrote, published and pulled for a while."""
    rng, clock = random.Random(seed), [0]
    folder.mkdir()
    devices = [Purging(name, folder, clock, rng) for name in "abc"]
    for _ in range(rng.randint(20, 80)):
        clock[0] += rng.randint(0, 20)
        device = rng.choice(devices)
        if rng.random() < 0.6:
            write(device, rng)
        elif rng.random() < 0.7:
            device.publish(rng.choice([1, 300, 10**6]))
        else:
            device.pull(rng.choice([each for each in devices if each is not device]), rng, 0.2)
    for device in devices:
        device.publish(10**6)
    return devices


def in_runs(log: list[Batch], rng: random.Random) -> list[list[Batch]]:
    """A log cut into runs."""
    runs: list[list[Batch]] = []
    while log:
        length = rng.randint(1, 6)
        runs.append(log[:length])
        log = log[length:]
    return runs


def compared(seed: int, folder: Path, devices: list[Purging], rng: random.Random, gone: Gone) -> None:
    """Whoever reads compacted segments, in any order, mixed with those they stand for, sees what others see."""
    logs = [[decode_batch(each) for each in device.log] for device in devices]
    plain = [batch for log in logs for batch in log]
    compacted = [again(combine(run, gone)) for log in logs for run in in_runs(log, rng)]
    mixed = [*compacted, *rng.sample(plain, len(plain) // 2)]
    rng.shuffle(mixed)
    first, second, third = (Store(folder / f"{name}.db") for name in ("plain", "compacted", "mixed"))
    with first, second, third:
        expected = state(take(first, plain))
        assert state(take(second, compacted)) == expected, f"seed {seed}"
        assert state(take(third, mixed, rows=rng.choice([1, 3, 2000]))) == expected, f"seed {seed}"


# What a compacted segment says


@pytest.mark.parametrize("start", range(0, SCHEDULES, 20))
def test_compacted_segments_say_what_those_said_that_they_stand_for(start: int, tmp_path: Path):
    for seed in range(start, start + 20):
        folder = tmp_path / str(seed)
        devices = lives(seed, folder, step)
        compared(seed, folder, devices, random.Random(-seed), Nothing())
        for device in devices:
            device.store.close()


@pytest.mark.parametrize("start", range(0, SCHEDULES, 20))
def test_what_was_purged_changes_nothing_else(start: int, tmp_path: Path):
    for seed in range(start, start + 20):
        folder = tmp_path / str(seed)
        devices = lives(seed, folder, Purging.act)
        compared(seed, folder, devices, random.Random(-seed), Nothing())
        for device in devices:
            device.store.close()


class Author:
    """A store whose every write is published at once."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.log: list[Batch] = []
        self._position = 0

    def publish(self) -> None:
        batch, self._position, _ = local_changes(
            self.store, since=self._position, floor=self._position, max_bytes=1 << 20
        )
        if batch:
            self.log.append(decode_batch(batch))

    def rewritten(self) -> bytes:
        """Every segment written again, each for itself, as after a purge."""
        return b"".join(encode(combine([batch], Purged(self.store))) for batch in self.log)


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    made = Author(tmp_path / "author.db")
    yield made
    made.store.close()


def told(author: Author) -> None:
    """A session with a message that was edited, and one that stays."""
    store = author.store
    store.create(id="s", title="Secret title", metadata={"key": "secret value"})
    author.publish()
    leaf: dict[str, Any] = {"a": "secret leaf"}
    store.append("s", NewMessage(role="user", id="m", content="secret first", sender="secret name", metadata=leaf))
    store.append("s", NewMessage(role="user", id="stays", content="what stays"))
    author.publish()
    store.edit_message("s", "m", {"content": "secret second"})
    author.publish()
    store.edit_message("s", "m", {"content": "harmless", "metadata": {"a": "plain"}})
    store.update("s", fields={"title": "Plain"}, metadata={"key": "plain"})
    author.publish()


def test_segments_hold_nothing_of_a_session_that_was_purged(author: Author):
    told(author)
    purge_session(author.store, "s")
    author.publish()
    said = author.rewritten()
    assert b"secret" not in said.lower()
    assert b"harmless" not in said
    assert b"what stays" not in said


def test_segments_hold_nothing_of_a_message_that_was_purged(author: Author):
    told(author)
    purge_message(author.store, "s", "m")
    author.publish()
    said = author.rewritten()
    for word in (b"first", b"second", b"secret name", b"secret leaf", b"harmless"):
        assert word not in said
    assert b"what stays" in said


def test_segments_hold_only_what_is_shown_where_a_history_was_purged(author: Author):
    told(author)
    purge_history(author.store, "s")
    author.publish()
    said = author.rewritten()
    for word in (b"Secret title", b"secret value", b"first", b"second", b"secret leaf"):
        assert word not in said
    for word in (b"harmless", b"what stays", b"Plain", b"secret name"):
        assert word in said


@pytest.mark.parametrize("purge", [purge_session, purge_history])
def test_devices_that_read_what_is_left_see_what_the_author_sees(
    author: Author, tmp_path: Path, purge: Callable[[Store, str], object]
):
    told(author)
    purge(author.store, "s")
    author.publish()
    left = [again(combine([batch], Purged(author.store))) for batch in author.log]
    with Store(tmp_path / "reader.db") as reader, Store(tmp_path / "plain.db") as plain:
        assert state(take(reader, left)) == state(take(plain, author.log)) == state(author.store)


def test_a_key_that_a_message_was_born_with_stays_where_another_one_is_set_later(tmp_path: Path):
    with Store(tmp_path / "author.db") as store, Store(tmp_path / "reader.db") as reader:
        store.create(id="s")
        store.append("s", NewMessage(id="m", role="user", content="text", metadata={"born": 1}))
        store.edit_message("s", "m", {"content": "edited"})
        first, seq, _ = local_changes(store, since=0, floor=0, max_bytes=1 << 20)
        store.edit_message("s", "m", {"metadata": {"later": 2}})
        second, _, _ = local_changes(store, since=seq, floor=seq, max_bytes=1 << 20)
        take(reader, [again(combine([decode_batch(first), decode_batch(second)], Nothing()))])
        assert [each.metadata for each in reader.messages("s")] == [{"born": 1, "later": 2}]


def test_numbers_of_devices_may_mean_others_in_another_segment(tmp_path: Path):
    with Store(tmp_path / "one.db") as one, Store(tmp_path / "two.db") as two, Store(tmp_path / "read.db") as read:
        batches = []
        for at, store in enumerate((one, two)):
            store.create(id=f"s{at}")
            store.append(f"s{at}", NewMessage(role="user", content=f"said by {at}"))
            batches.append(decode_batch(local_changes(store, since=0, floor=0, max_bytes=1 << 20)[0]))
        take(read, [again(combine(batches, Nothing()))])
        with Store(tmp_path / "plain.db") as plain:
            assert state(read) == state(take(plain, batches))


# Which are written again


def log_of(*sizes: int) -> list[Published]:
    return [Published(SegmentName("d" * 12, at, at, 0, "r" * 12), size) for at, size in enumerate(sizes, start=1)]


def test_a_few_segments_stand_as_they_are():
    assert choose(log_of(*[FEW] * (FAN_IN - 1))) == []


def test_as_many_alike_as_one_takes_are_written_as_one():
    log = log_of(*[FEW] * FAN_IN)
    assert choose(log) == log


def test_a_large_one_is_not_written_again_for_some_small_ones():
    log = log_of(1 << 20, *[FEW] * FAN_IN)
    assert choose(log) == log[1:]


def test_what_does_not_lie_side_by_side_stays_apart():
    log = log_of(*[FEW] * (2 * FAN_IN - 1))
    del log[FAN_IN - 1]
    assert choose(log) == []


def test_what_fits_into_no_segment_stays_apart():
    assert choose(log_of(*[MAX_CONTENT_BYTES // 2 + 1] * 100)) == []


def shape(kind: str, rng: random.Random) -> Iterator[int]:
    while True:
        match kind:
            case "even":
                yield FEW
            case "mixed":
                yield rng.choice([FEW, 10 * FEW, 40_000])
            case "bursts":
                yield 4 << 20 if rng.random() < 0.002 else 2 * FEW
            case _:
                yield int(rng.paretovariate(0.8) * FEW) % (8 << 20)


@pytest.mark.parametrize("kind", ["even", "mixed", "bursts", "heavy tail"])
def test_segments_stay_few_and_no_byte_is_written_again_often(kind: str):
    sizes, log, rewritten, total = shape(kind, random.Random(1)), [], 0, 0
    for number in range(1, 8001):
        size = next(sizes)
        total += size
        log.append(Published(SegmentName("d" * 12, number, number, 0, "r" * 12), size))
        most = MOST - ROOM if is_crowded(log) else MOST
        while run := choose(log, most=most):
            rewritten += sum(each.content_bytes for each in run)
            log = joined(log, run)
        assert len(log) <= MOST + total // BYTES_EACH
    assert rewritten <= 4 * total


def joined(log: list[Published], run: list[Published]) -> list[Published]:
    at = log.index(run[0])
    name = msgspec.structs.replace(run[0].name, last=run[-1].name.last, level=1)
    return [*log[:at], Published(name, sum(each.content_bytes for each in run)), *log[at + len(run) :]]


def test_where_too_many_stood_there_is_room_for_the_next_few():
    log = log_of(*[5 << 20] * 200)
    assert is_crowded(log)
    while run := choose(log, most=MOST - ROOM):
        log = joined(log, run)
    last = log[-1].name.last
    log += [Published(SegmentName("d" * 12, last + at, last + at, 0, "r" * 12), FEW) for at in range(1, FAN_IN)]
    assert choose(log) == []


def test_a_log_of_thousands_is_chosen_from_in_parts():
    own = [Published(SegmentName("a" * 12, at, at, 0, "b" * 12), 300) for at in range(1, 2 * MOST_AT_ONCE)]
    assert len(choose(own)) == MOST_AT_ONCE
