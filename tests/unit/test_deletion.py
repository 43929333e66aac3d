"""Deletions say what they knew: nothing unseen is swallowed, nothing known is shown again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.deletion import (
    Vector,
    decode,
    encode,
    in_force,
    join,
    message_deleted,
    message_deletion,
    session_hidden,
    vector,
)
from steno.storage.registers import EMPTY, Register, Value, born, merge, write
from steno.storage.stamps import BY_HAND, DERIVED, REBUILT, Stamp, tick

Births = frozenset[Stamp]

STAMPS = st.builds(Stamp, st.sampled_from([BY_HAND, DERIVED, REBUILT]), st.integers(1, 9), st.sampled_from("abc"))
GAPS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3)
VECTORS = st.builds(
    lambda births, gapless, at_ms: vector(births, gapless=gapless, at_ms=at_ms),
    st.frozensets(STAMPS, max_size=6),
    GAPS,
    st.integers(0, 2**46),
)


# Vectors


@given(st.frozensets(STAMPS), GAPS)
def test_a_vector_has_everything_that_its_writer_saw(births: Births, gapless: dict[str, int]):
    deletion = vector(births, gapless=gapless, at_ms=1)
    assert all(deletion.has([stamp]) for stamp in births)


@given(st.frozensets(STAMPS), GAPS, STAMPS)
def test_a_vector_speaks_of_nothing_beyond_a_gap_but_what_was_seen(
    births: Births, gapless: dict[str, int], stamp: Stamp
):
    if stamp not in births and stamp.clock > gapless.get(stamp.device, 99):
        assert not vector(births, gapless=gapless, at_ms=1).has([stamp])


@given(st.frozensets(STAMPS), GAPS)
def test_what_was_seen_beyond_a_gap_is_named_one_by_one(births: Births, gapless: dict[str, int]):
    deletion = vector(births, gapless=gapless, at_ms=1)
    assert deletion.also == {stamp for stamp in births if stamp.clock > gapless.get(stamp.device, 99)}


def test_a_vector_does_not_speak_of_what_its_writer_could_not_have_seen():
    deletion = vector([Stamp(BY_HAND, 5, "a")], gapless={}, at_ms=1)
    assert not deletion.has([Stamp(BY_HAND, 6, "a")])
    assert not deletion.has([Stamp(BY_HAND, 5, "b")])
    assert not deletion.has([Stamp(DERIVED, 5, "a")])


def test_a_message_lies_within_a_vector_if_any_of_its_births_does():
    deletion = vector([Stamp(DERIVED, 5, "a")], gapless={}, at_ms=1)
    assert deletion.has([Stamp(DERIVED, 9, "b"), Stamp(DERIVED, 4, "a")])


@given(st.lists(VECTORS, max_size=3), STAMPS)
def test_vectors_joined_have_what_any_of_them_had(vectors: list[Vector], stamp: Stamp):
    joined = join(vectors)
    assert (joined is not None and joined.has([stamp])) == any(each.has([stamp]) for each in vectors)


@given(VECTORS, VECTORS, VECTORS)
def test_joining_vectors_does_not_depend_on_order_or_grouping(one: Vector, two: Vector, three: Vector):
    assert join([one, two, three]) == join([three, one, two]) == _pair(one, _pair(two, three))


@given(VECTORS)
def test_joining_a_vector_with_itself_changes_nothing(each: Vector):
    assert join([each, each]) == join([each]) == each


def _pair(one: Vector, other: Vector) -> Vector:
    joined = join([one, other])
    assert joined is not None
    return joined


def test_nothing_joined_is_no_deletion():
    assert join([]) is None


@given(VECTORS)
def test_a_vector_comes_back_from_its_text(each: Vector):
    assert decode(encode(each)) == each


@given(VECTORS)
def test_equal_vectors_have_equal_text(each: Vector):
    shuffled = Vector(dict(reversed(list(each.upto.items()))), frozenset(sorted(each.also, reverse=True)), each.at_ms)
    assert encode(shuffled) == encode(each)


def test_no_deletion_is_null():
    assert encode(None) == b"null"
    assert decode(b"null") is decode(b"") is None


@pytest.mark.parametrize("text", [b"7", b"{}", b'{"at":1,"upto":{"a":1}}', b'{"at":1,"also":[[1]]}', b"[", b"\xff"])
def test_a_text_that_is_no_vector_is_refused(text: bytes):
    with pytest.raises((msgspec.DecodeError, ValueError, TypeError)):
        decode(text)


# Registers that hold vectors


def _hand(clock: int, device: str = "a") -> Stamp:
    return Stamp(BY_HAND, clock, device)


def _deleted(*births: Stamp, at_ms: int = 1) -> bytes:
    return encode(vector(births, gapless={}, at_ms=at_ms))


def test_a_register_never_written_deletes_nothing():
    assert in_force(EMPTY) is None


def test_several_open_vectors_are_joined():
    register = merge(born(_hand(5), _deleted(_hand(1))), born(_hand(6, "b"), _deleted(_hand(2, "b"), at_ms=7)))
    assert in_force(register) == Vector({("a", BY_HAND): 1, ("b", BY_HAND): 2}, at_ms=7)


def test_restoring_ends_what_was_deleted():
    deleted = born(_hand(5), _deleted(_hand(1)))
    assert in_force(write(deleted, _hand(6, "b"), Value(b"null"))) is None


def test_a_deletion_that_is_younger_than_a_concurrent_restore_stands():
    assert in_force(merge(born(_hand(5), b"null"), born(_hand(6, "b"), _deleted(_hand(1))))) is not None


# One message


CONTENT = born(_hand(1), b'"as it was born"')
DELETED = born(_hand(2, "b"), message_deletion(CONTENT.known, at_ms=77))


def test_a_deleted_message_is_hidden_since_it_was_deleted():
    assert message_deleted(DELETED, CONTENT) == 77


def test_a_message_never_deleted_is_shown():
    assert message_deleted(EMPTY, CONTENT) is None


def test_an_edit_by_hand_that_the_deleter_did_not_know_shows_the_message_again():
    assert message_deleted(DELETED, write(CONTENT, _hand(3), Value(b'"edited"'))) is None


def test_an_edit_that_the_deleter_knew_stays_deleted():
    edited = write(CONTENT, _hand(2), Value(b'"edited"'))
    assert message_deleted(born(_hand(3, "b"), message_deletion(edited.known, at_ms=77)), edited) == 77


def test_a_derived_change_of_content_does_not_show_a_deleted_message_again():
    captured = born(Stamp(DERIVED, 1, "a"), b'"captured"')
    deleted = born(_hand(2, "b"), message_deletion(captured.known, at_ms=77))
    assert message_deleted(deleted, write(captured, Stamp(DERIVED, 3, "a"), Value(b'"captured anew"'))) == 77


def test_two_deletions_that_together_knew_every_edit_hide_the_message():
    one, other = write(CONTENT, _hand(3, "a"), Value(b'"x"')), write(CONTENT, _hand(3, "b"), Value(b'"y"'))
    by_one = born(_hand(4, "a"), message_deletion(one.known, at_ms=4))
    by_other = born(_hand(4, "b"), message_deletion(other.known, at_ms=5))
    assert message_deleted(merge(by_one, by_other), merge(one, other)) == 5
    assert message_deleted(by_one, merge(one, other)) is None


# Sessions: three devices, captures of one native file, rebuilds, holes

NOTHING_KNOWN = encode(Vector({}))
"""What adding to a deleted session leaves in ``deleted``: null would undo what others deleted meanwhile."""


@dataclass
class Published:
    """One publication: what was born, and the session's two vectors as they were."""

    clock: int
    births: dict[str, Births]
    deleted: Register
    cleared: Register


@dataclass
class Device:
    """A device as deletions see it."""

    name: str
    clock: int = 0
    births: dict[str, Births] = field(default_factory=dict)
    deleted: Register = EMPTY
    cleared: Register = EMPTY
    taken: set[tuple[str, int]] = field(default_factory=set)

    def stamp(self, rank: int, *, wall: int) -> Stamp:
        """The stamp of the next write."""
        self.clock = tick(self.clock, now_ms=wall)
        return Stamp(rank, self.clock, self.name)

    def vectors(self) -> list[Vector]:
        """Both vectors, where they are in force."""
        return [each for each in (in_force(self.deleted), in_force(self.cleared)) if each is not None]

    @property
    def hidden(self) -> bool:
        """Say whether the session is hidden here."""
        deleted = in_force(self.deleted)
        outside = deleted is not None and any(
            any(stamp.rank == BY_HAND for stamp in births) and not deleted.has(births)
            for births in self.births.values()
        )
        return session_hidden(deleted, outside)

    @property
    def shown(self) -> set[str]:
        """The messages that a person sees here."""
        if self.hidden:
            return set()
        return {message for message, births in self.births.items() if not any(v.has(births) for v in self.vectors())}


class Step(NamedTuple):
    """What one device does next; the numbers are read as the step's kind needs them."""

    kind: str
    who: int
    other: int
    late: int
    pick: int


@dataclass
class World:
    """Three devices, their logs, and what is true of every message."""

    devices: list[Device] = field(default_factory=lambda: [Device(name) for name in "abc"])
    logs: dict[str, list[Published]] = field(default_factory=dict)
    by_hand: set[str] = field(default_factory=set)
    known_and_deleted: set[str] = field(default_factory=set)

    def do(self, step: Step, *, wall: int) -> None:
        """Let one device write, delete, clear, pull with holes, or rebuild from its file.

        A new vector is joined with the one it replaces, which may speak of what has not arrived here.
        """
        device = self.devices[step.who]
        if step.kind == "add":
            self._add(device, wall=wall)
        elif step.kind == "capture" and step.who < 2:
            message = f"n{step.pick % 4}"
            if message not in device.births:
                self._publish(device, {message: frozenset({device.stamp(DERIVED, wall=wall)})})
        elif step.kind in ("delete", "clear") and not device.hidden:
            self._delete(device, step.kind, wall=wall)
        elif step.kind == "rebuild":
            self._rebuild(step, wall=wall)
        else:
            names = sorted(self.logs)
            if names:
                self.pull(device, names[step.other % len(names)], holes=step.pick)

    def settle(self) -> None:
        """Let everybody take everything, the holes included."""
        for device in self.devices:
            for name in self.logs:
                self.pull(device, name, holes=0)

    def pull(self, device: Device, name: str, *, holes: int) -> None:
        """Take what a log holds but for some holes."""
        for number, published in enumerate(self.logs[name]):
            if (name, number) in device.taken or holes >> (number % 8) & 1:
                continue
            device.taken.add((name, number))
            device.clock = max(device.clock, published.clock)
            device.deleted = merge(device.deleted, published.deleted)
            device.cleared = merge(device.cleared, published.cleared)
            for message, births in published.births.items():
                device.births[message] = device.births.get(message, frozenset()) | births

    def _seen(self, device: Device, *, at_ms: int) -> Vector:
        gapless = {}
        for name, log in self.logs.items():
            missing = [number for number in range(len(log)) if (name, number) not in device.taken]
            if missing:
                gapless[name] = log[missing[0] - 1].clock if missing[0] else 0
        return vector(_all(device.births.values()), gapless=gapless, at_ms=at_ms)

    def _add(self, device: Device, *, wall: int) -> None:
        message = f"h{len(self.by_hand)}"
        self.by_hand.add(message)
        if device.hidden:
            stamp = device.stamp(BY_HAND, wall=wall)
            device.cleared = write(device.cleared, stamp, Value(encode(join(device.vectors()))))
            device.deleted = write(device.deleted, stamp, Value(NOTHING_KNOWN))
        self._publish(device, {message: frozenset({device.stamp(BY_HAND, wall=wall)})})

    def _delete(self, device: Device, kind: str, *, wall: int) -> None:
        self.known_and_deleted |= device.births.keys()
        name = "deleted" if kind == "delete" else "cleared"
        register: Register = getattr(device, name)
        seen = [self._seen(device, at_ms=wall), in_force(register)]
        text = encode(join(each for each in seen if each is not None))
        setattr(device, name, write(register, device.stamp(BY_HAND, wall=wall), Value(text)))
        self._publish(device, {})

    def _rebuild(self, step: Step, *, wall: int) -> None:
        old = self.devices[step.who]
        device = Device(f"{old.name}{len(self.logs)}")
        self.devices[step.who] = device
        for name in sorted(self.logs):
            if step.pick >> (len(name) % 8) & 1:
                self.pull(device, name, holes=step.pick >> 1)
        lines = sorted(old.shown - device.births.keys())
        births = {message: frozenset({device.stamp(REBUILT, wall=wall)}) for message in lines}
        self._publish(device, births)

    def _publish(self, device: Device, births: dict[str, Births]) -> None:
        device.births |= births
        log = self.logs.setdefault(device.name, [])
        device.taken.add((device.name, len(log)))
        log.append(Published(device.clock, births, device.deleted, device.cleared))


def _all(births: Iterable[Births]) -> list[Stamp]:
    return [stamp for each in births for stamp in each]


STEPS = st.builds(
    Step,
    kind=st.sampled_from(["add", "add", "capture", "delete", "clear", "rebuild", "pull", "pull", "pull"]),
    who=st.integers(0, 2),
    other=st.integers(0, 5),
    late=st.integers(-4, 4),
    pick=st.integers(0, 255),
)


def _world_of(steps: list[Step]) -> World:
    world = World()
    for at, step in enumerate(steps):
        world.do(step, wall=10 + 3 * at + step.late)
    world.settle()
    return world


WORLDS = st.lists(STEPS, min_size=3, max_size=18).map(_world_of)


@pytest.mark.fault(21)
@given(WORLDS)
def test_every_device_shows_the_same_messages(world: World):
    assert world.devices[0].shown == world.devices[1].shown == world.devices[2].shown


@given(WORLDS)
def test_a_message_that_no_deleter_knew_is_never_swallowed(world: World):
    assert world.by_hand - world.known_and_deleted <= world.devices[0].shown


@given(WORLDS)
def test_a_message_that_its_deleter_knew_is_not_shown_again(world: World):
    assert not world.known_and_deleted & world.devices[0].shown
