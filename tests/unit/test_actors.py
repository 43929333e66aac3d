"""What others say of who wrote is taken as what they say: checked, bounded, and never over what is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from steno.storage.actors import Signed, actor_of, keep, signed
from steno.storage.apply import Applied, apply, slices
from steno.storage.change import SessionChange, decode_batch, encode_batch, local_changes
from steno.storage.errors import InvalidInput
from steno.storage.model import NewMessage
from steno.storage.stamps import MAX_CLOCK
from steno.storage.store import Store

CLOCK = 1_800_000_000_000 << 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        yield opened


def taken(store: Store, *sent: Signed) -> list[str]:
    with store.transaction():
        number = store.device_no("otherdevice1")

        def local_author(author: int) -> int:
            if author != 0:
                raise InvalidInput("an author that is no device")
            return number * 4

        return keep(store, sent, local_author=local_author)


def said(store: Store, clock: int) -> str | None:
    return actor_of(store, store.device_no("otherdevice1"), clock)


def test_what_another_device_says_is_kept(store: Store) -> None:
    assert taken(store, (0, CLOCK, "ann"), (0, CLOCK + 1, "bob")) == []
    assert (said(store, CLOCK), said(store, CLOCK + 1), said(store, CLOCK + 2)) == ("ann", "bob", None)


def test_what_is_known_already_stays(store: Store) -> None:
    taken(store, (0, CLOCK, "ann"))
    assert taken(store, (0, CLOCK, "mallory")) == []
    assert said(store, CLOCK) == "ann"


BAD: dict[str, Signed] = {
    "unknown device": (1, CLOCK, "ann"),
    "no time": (0, 0, "ann"),
    "beyond 2200": (0, MAX_CLOCK, "ann"),
    "blank": (0, CLOCK, ""),
    "control characters": (0, CLOCK, "a\x1b[2J"),
    "too long": (0, CLOCK, "x" * 257),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_alone(store: Store, bad: Signed) -> None:
    [refused] = taken(store, bad, (0, CLOCK + 1, "bob"))
    assert refused.startswith("actor")
    assert store.execute("SELECT actor FROM actors").fetchall() == [("bob",)]


def test_a_batch_of_an_older_version_names_nobody() -> None:
    change = ("s", 1, [], 0, [], [])
    assert decode_batch(encode_batch({0: "otherdevice1"}, [change])).sessions[0].actors == []


def test_nothing_is_sent_of_stamps_that_nobody_signed(store: Store) -> None:
    store.create(id="s")
    with store.acting("ann"):
        store.create(id="t")
    batch = decode_batch(local_changes(store, since=0, floor=0, max_bytes=1 << 20)[0])
    assert [[actor for _, _, actor in change.actors] for change in batch.sessions] == [[], ["ann"]]
    assert signed(store, []) == []


def test_a_refused_name_is_reported_with_its_session(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path / "other.db") as other:
        other.create(id="s")
        batch = decode_batch(local_changes(other, since=0, floor=0, max_bytes=1 << 20)[0])
    poisoned = [msgspec.structs.replace(change, actors=[(9, CLOCK, "ann")]) for change in batch.sessions]
    done = Applied()
    with store.transaction():
        apply(store, batch, poisoned, done=done)
    assert len(done.refused) == 1
    assert "'ann'" in done.refused[0]
    assert "'s'" in done.refused[0]
    assert store.get("s").id == "s"


def test_a_change_in_slices_brings_who_wrote_once(store: Store) -> None:
    with store.acting("ann"):
        store.create(id="s")
        store.add_messages("s", [NewMessage(role="user", content="text") for _ in range(7)])
    batch = decode_batch(local_changes(store, since=0, floor=0, max_bytes=1 << 20)[0])
    parts: list[SessionChange] = [change for part in slices(batch, rows=3) for change in part]
    assert len(parts) > 2
    assert [len(part.actors) for part in parts] == [0] * (len(parts) - 1) + [8]
