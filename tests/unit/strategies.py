"""What several tests draw: JSON values, and three devices that write one register in any order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st

from steno.storage.registers import EMPTY, Known, Register, Value, merge, write
from steno.storage.stamps import BY_HAND, DERIVED, REBUILT, Stamp, tick

# JSON

KEYS = st.sampled_from(["a", "b", "c", "", "/", "~", "~1", "a/b", "é"])
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 0.5, -1e300, 2**64]),
    st.text(alphabet='ab/~"é\n', max_size=3),
)


def _nested(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(KEYS, below, max_size=3)


VALUES = st.recursive(
    st.one_of(SCALARS, st.none()), lambda below: st.one_of(_nested(below), st.lists(below, max_size=2)), max_leaves=6
)
"""Any JSON value."""

DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)
"""Any JSON object, as metadata and state are."""

_PATCHED = st.one_of(SCALARS, st.none(), st.just([None, {"a": None}]))
PATCHES = st.dictionaries(KEYS, st.recursive(_PATCHED, _nested, max_leaves=6), max_size=3)
"""A JSON merge patch whose target is an object; null removes."""


def canonical(value: Any) -> str:
    """JSON text that differs wherever two values do: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


# One register, three devices


class Step(NamedTuple):
    """What one device does next; the numbers are read as the step's kind needs them."""

    kind: str
    who: int
    other: int
    late: int
    text: int
    pick: int


STEPS = st.builds(
    Step,
    kind=st.sampled_from(["by hand", "derived", "rebuilt", "heal", "pull", "pull"]),
    who=st.integers(0, 2),
    other=st.integers(0, 2),
    late=st.integers(-6, 6),
    text=st.integers(0, 5),
    pick=st.integers(0, 255),
)
RANKS = {"by hand": BY_HAND, "derived": DERIVED, "rebuilt": REBUILT}


@dataclass
class Device:
    """A device as the rule sees it: its clock, its state, and what it published."""

    name: str
    clock: int = 0
    rebuilt: int = 0
    register: Register = EMPTY
    published: list[Register] = field(default_factory=list)
    taken: set[tuple[str, int]] = field(default_factory=set)
    knew: list[Known] = field(default_factory=lambda: [{}])

    def stamp(self, rank: int, *, wall_ms: int) -> Stamp:
        """The stamp of the next write; a rebuild's have a counter of their own."""
        if rank == REBUILT:
            self.rebuilt += 1
            return Stamp(rank, self.rebuilt, self.name)
        self.clock = tick(self.clock, now_ms=wall_ms)
        return Stamp(rank, self.clock, self.name)

    def take(self, state: Register) -> None:
        """Merge what somebody published."""
        self.register = merge(self.register, state)
        self.clock = max([self.clock, *(stamp.clock for stamp in state.open)])
        self.knew.append(self.register.known)


class Written(NamedTuple):
    """What is true of one write, whatever the code made of it."""

    text: bytes
    replaced: frozenset[Stamp]


@dataclass
class World:
    """Three devices, everything that they wrote, and every state that one of them ever had."""

    devices: list[Device] = field(default_factory=lambda: [Device(name) for name in "abc"])
    writes: dict[Stamp, Written] = field(default_factory=dict)
    states: list[Register] = field(default_factory=lambda: [EMPTY])

    @property
    def alive(self) -> set[Stamp]:
        """The stamps of the values that nobody replaced who knew them and was allowed to."""
        return set(self.writes) - {stamp for written in self.writes.values() for stamp in written.replaced}

    def do(self, step: Step, *, wall_ms: int) -> None:
        """Let one device write, publish what it holds again, or take some of what another published."""
        device = self.devices[step.who]
        if step.kind in RANKS:
            self._write(device, step, wall_ms=wall_ms)
        elif step.kind == "heal":
            device.published.append(device.register)
        else:
            self._pull(device, self.devices[step.other], holes=step.pick)
        self.states.append(device.register)

    def settle(self) -> None:
        """Let everybody take everything, the holes included."""
        for _ in range(2):
            for device in self.devices:
                for other in self.devices:
                    self._pull(device, other, holes=0)
                self.states.append(device.register)

    def _write(self, device: Device, step: Step, *, wall_ms: int) -> None:
        base = device.knew[step.pick % len(device.knew)] if step.pick % 3 == 0 else None
        knew = device.register.known if base is None else base
        stamp = device.stamp(RANKS[step.kind], wall_ms=wall_ms)
        text = b"%d" % step.text
        self.writes[stamp] = Written(
            text,
            frozenset(
                old
                for old in self.writes
                if knew.get(old.writer, -1) >= old.clock and (stamp.rank == BY_HAND or old.rank != BY_HAND)
            ),
        )
        device.register = write(device.register, stamp, Value(text), base=base)
        device.knew.append(device.register.known)
        device.published.append(device.register)

    def _pull(self, device: Device, other: Device, *, holes: int) -> None:
        numbers = range(len(other.published))
        for number in numbers if holes % 2 else reversed(numbers):
            if (other.name, number) in device.taken or holes >> (number % 7 + 1) & 1:
                continue
            device.taken.add((other.name, number))
            device.take(other.published[number])


def world_of(steps: list[Step]) -> World:
    """What a schedule leads to; clocks of the devices differ by up to six milliseconds."""
    world = World()
    for at, step in enumerate(steps):
        world.do(step, wall_ms=10 + 2 * at + step.late)
    return world


WORLDS = st.lists(STEPS, min_size=2, max_size=16).map(world_of)
"""Reachable whole states, with the writes that led to them."""
