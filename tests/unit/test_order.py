"""The order of messages: one list on every device, nothing falls out, runs and insertions stay where they belong."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from steno.storage.order import Place, walk

NATIVE = [f"n{number}" for number in range(6)]


class Step(NamedTuple):
    """What one device does next; the numbers are read as the step's kind needs them."""

    kind: str
    who: int
    other: int
    late: int
    pick: int


@dataclass
class Device:
    """A device as the order sees it: what was born, and how far it read the native file."""

    name: str
    clock: int = 0
    born: dict[str, Place] = field(default_factory=dict)
    captured: int = 0

    def bear(self, message: str, after: str | None, *, wall: int, inserted: bool = False) -> None:
        """Give a message its birth here and now."""
        self.clock = max(self.clock + 1, wall)
        self.meet(Place(message, after, inserted, (self.clock, self.name)))

    def meet(self, place: Place) -> None:
        """Of several births of one message the least instant stands."""
        self.clock = max(self.clock, place.instant[0])
        self.born[place.id] = min(place, self.born.get(place.id, place), key=lambda each: each.instant)

    def listed(self) -> list[str]:
        """The messages as this device shows them."""
        return walk(self.born.values())[0]


@dataclass
class World:
    """Three devices; two of them capture one native file, one of them from a copy with two records swapped."""

    devices: list[Device] = field(default_factory=lambda: [Device(name) for name in "abc"])
    hand: int = 0
    generation: int = 0

    def do(self, step: Step, *, wall: int) -> None:
        """Let one device append, insert, capture, pull, or lose its database and rebuild it from its file."""
        device, other = self.devices[step.who], self.devices[step.other]
        listed = device.listed()
        anchor = listed[step.pick % len(listed)] if listed else None
        if step.kind == "append" or (step.kind == "insert" and anchor is None):
            device.bear(self._name(), listed[-1] if listed else None, wall=wall)
        elif step.kind == "insert":
            device.bear(self._name(), anchor, wall=wall, inserted=True)
        elif step.kind == "capture" and step.who < 2:
            self._capture(device, step, wall=wall)
        elif step.kind == "rebuild":
            self._rebuild(step, listed, wall=wall)
        elif step.kind == "foreign line" and anchor is not None:
            unknown = sorted(other.born.keys() - device.born.keys())
            if unknown:
                device.bear(unknown[step.pick % len(unknown)], anchor, wall=wall, inserted=True)
        else:
            for number, place in enumerate(list(other.born.values())):
                if not step.pick >> (number % 8) & 1:
                    device.meet(place)

    def settle(self) -> None:
        """Let everybody take everything."""
        for _ in range(2):
            for device in self.devices:
                for other in self.devices:
                    for place in list(other.born.values()):
                        device.meet(place)

    def _name(self) -> str:
        self.hand += 1
        return f"h{self.hand}"

    def _capture(self, device: Device, step: Step, *, wall: int) -> None:
        native = NATIVE if step.who == 0 else [*NATIVE[:2], NATIVE[3], NATIVE[2], *NATIVE[4:]]
        for _ in range(1 + step.pick % 2):
            if device.captured < len(native):
                message = native[device.captured]
                if message not in device.born:
                    device.bear(message, native[device.captured - 1] if device.captured else None, wall=wall)
                device.captured += 1

    def _rebuild(self, step: Step, lines: list[str], *, wall: int) -> None:
        self.generation += 1
        old = self.devices[step.who]
        device = Device(f"{old.name}{self.generation}", captured=old.captured)
        self.devices[step.who] = device
        if step.pick % 2:
            for place in self.devices[step.other].born.values():
                device.meet(place)
        above = None
        for message in lines:
            if message not in device.born:
                device.bear(message, above, wall=wall)
            above = message


STEPS = st.builds(
    Step,
    kind=st.sampled_from(["append", "append", "insert", "capture", "rebuild", "foreign line", "pull", "pull"]),
    who=st.integers(0, 2),
    other=st.integers(0, 2),
    late=st.integers(-5, 5),
    pick=st.integers(0, 255),
)


def _world_of(steps: list[Step]) -> World:
    world = World()
    for at, step in enumerate(steps):
        world.do(step, wall=10 + 3 * at + step.late)
    return world


WORLDS = st.lists(STEPS, min_size=3, max_size=18).map(_world_of)


# Laws


@given(WORLDS)
def test_every_device_computes_the_same_list(world: World):
    world.settle()
    assert world.devices[0].listed() == world.devices[1].listed() == world.devices[2].listed()


@given(WORLDS, st.randoms(use_true_random=False))
def test_the_list_does_not_depend_on_the_order_of_arrival(world: World, random: Random):
    places = list(world.devices[0].born.values())
    assert walk(random.sample(places, len(places))) == walk(places)


@given(WORLDS)
def test_no_message_falls_out_and_none_is_doubled(world: World):
    for device in world.devices:
        assert sorted(device.listed()) == sorted(device.born)
    world.settle()
    assert sorted(world.devices[0].listed()) == sorted(world.devices[0].born)


@given(WORLDS)
def test_a_message_stands_behind_its_anchor(world: World):
    for device in world.devices:
        ordered, orphans = walk(device.born.values())
        at = {message: number for number, message in enumerate(ordered)}
        for place in device.born.values():
            assert place.after is None or place.id in orphans or at[place.after] < at[place.id]


@given(WORLDS)
def test_messages_whose_anchor_has_not_arrived_are_marked(world: World):
    for device in world.devices:
        missing = {place.id for place in device.born.values() if place.after not in {None, *device.born}}
        assert missing <= walk(device.born.values())[1]


@given(WORLDS)
def test_no_other_message_is_marked_but_one_that_closes_a_circle(world: World):
    for device in world.devices:
        for message in walk(device.born.values())[1]:
            above = _above(device.born, message)
            assert above[-1] in {message, None}


@given(WORLDS)
def test_messages_whose_anchor_has_not_arrived_stand_at_the_end_with_all_behind_them(world: World):
    for device in world.devices:
        ordered, orphans = walk(device.born.values())
        rooted = [not _hangs_on(device.born, message, orphans) for message in ordered]
        assert rooted == sorted(rooted, reverse=True)


@given(WORLDS)
def test_what_arrives_later_changes_nothing_in_the_order_of_what_is_in_place(world: World):
    parts = [device.born.copy() for device in world.devices]
    world.settle()
    whole = world.devices[0].born
    for part in parts:
        same = {message: place for message, place in part.items() if whole[message] == place}
        ordered, orphans = walk(same.values())
        in_place = [message for message in ordered if not _hangs_on(same, message, orphans)]
        assert in_place == [message for message in world.devices[0].listed() if message in set(in_place)]


@given(WORLDS, st.integers(0, 99))
def test_an_insertion_lands_right_behind_its_anchor(world: World, pick: int):
    device = world.devices[0]
    before = device.listed()
    if before:
        at = pick % len(before)
        device.bear("new", before[at], wall=10_000, inserted=True)
        assert device.listed() == [*before[: at + 1], "new", *before[at + 1 :]]


@given(WORLDS)
def test_an_append_lands_at_the_end(world: World):
    device = world.devices[0]
    before = device.listed()
    device.bear("new", before[-1] if before else None, wall=10_000)
    assert device.listed() == [*before, "new"]


@given(WORLDS, st.lists(st.integers(0, 2), max_size=15))
def test_concurrent_runs_stay_in_one_piece_each(world: World, turns: list[int]):
    world.settle()
    before = world.devices[0].listed()
    runs: list[list[str]] = [[], [], []]
    for wall, who in enumerate(turns, start=10_000):
        device, run = world.devices[who], runs[who]
        run.append(f"r{who}.{len(run)}")
        device.bear(run[-1], device.listed()[-1] if device.born else None, wall=wall)
    world.settle()
    first_to_start = sorted((run for run in runs if run), key=lambda run: world.devices[0].born[run[0]].instant)
    assert world.devices[0].listed() == before + [message for run in first_to_start for message in run]


def _above(born: dict[str, Place], message: str) -> list[str | None]:
    """The anchors above a message: up to itself where they are a circle, up to None where one has not arrived."""
    above: list[str | None] = []
    after = born[message].after
    while after in born and after not in above:
        above.append(after)
        if after == message:
            return above
        after = born[after].after
    return [*above, None if after not in born else after]


def _hangs_on(born: dict[str, Place], message: str, orphans: set[str]) -> bool:
    place = born[message]
    while place.id not in orphans and place.after is not None:
        place = born[place.after]
    return place.id in orphans


# Examples


def _place(message: str, after: str | None, clock: int, *, inserted: bool = False, device: str = "a") -> Place:
    return Place(message, after, inserted, (clock, device))


def test_no_births_are_an_empty_list():
    assert walk([]) == ([], set())


def test_insertions_stand_before_appends_and_the_younger_one_first():
    places = [
        _place("a", None, 1),
        _place("older append", "a", 2),
        _place("younger append", "a", 3),
        _place("older insertion", "a", 4, inserted=True),
        _place("younger insertion", "a", 5, inserted=True),
    ]
    assert walk(places)[0] == ["a", "younger insertion", "older insertion", "older append", "younger append"]


def test_one_clock_on_two_devices_is_settled_by_their_names():
    places = [_place("a", None, 1), _place("by b", "a", 2, device="b"), _place("by a", "a", 2, device="a")]
    assert walk(places)[0] == ["a", "by a", "by b"]


def test_a_captured_record_hangs_on_its_native_predecessor_so_that_a_note_stays_where_it_was_written():
    places = [_place("n0", None, 1), _place("note", "n0", 2), _place("n1", "n0", 3), _place("n2", "n1", 4)]
    assert walk(places)[0] == ["n0", "note", "n1", "n2"]


def test_a_line_put_behind_what_hangs_on_its_own_missing_birth_closes_no_circle():
    orphan, pasted = _place("reply", "question", 5, device="b"), _place("question", "reply", 9, inserted=True)
    assert walk([_place("a", None, 1), orphan, pasted]) == (["a", "reply", "question"], {"reply"})
    arrived = _place("question", "a", 4, device="b")
    assert walk([_place("a", None, 1), orphan, arrived]) == (["a", "question", "reply"], set())


def test_messages_in_a_circle_stand_at_the_end_whatever_arrived_first():
    circle = [_place("a", None, 1), _place("x", "z", 2), _place("y", "x", 3), _place("z", "y", 4), _place("on", "z", 5)]
    assert walk(circle) == walk(circle[::-1]) == (["a", "x", "y", "z", "on"], {"x"})


def test_a_message_that_hangs_on_itself_does_not_fall_out():
    assert walk([_place("a", "a", 1)]) == (["a"], {"a"})


def test_a_long_conversation_needs_no_deep_stack():
    places = [_place(str(number), str(number - 1) if number else None, number + 1) for number in range(20_000)]
    assert walk(reversed(places))[0] == [str(number) for number in range(20_000)]
