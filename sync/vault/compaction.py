"""Fewer segments that say the same: which of a device's own are written again as one, and what that one holds; pure.

    0 0 0 0 0 0 0 0 | 1 | 2   →   the eight become one segment of level 1 over their whole range

A run is written again where the whole is several times its greatest part, so that a byte is written again only as
often as sizes double, and wherever more segments stand than a listing should hold. The input is segments, never the
store: the new one says what those said that it stands for. Only what was purged is left out
(tests/unit/test_vault_compaction.py applies both and compares).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from ...storage.change import VERSION, Batch, RegisterState, SessionChange, StandsFor
from ...storage.deletion import PURGED, purged_life
from ...storage.document import leaves, patched
from ...storage.registers import EMPTY, REMOVED, Register, Value, covers, merge
from ...storage.rows import SCALARS, Born, decode_json, erased, json_column
from ...storage.stamps import Stamp
from .names import SegmentName

FAN_IN = 8
GROWTH = 4
MOST = 32
ROOM = FAN_IN
"""So many fewer are left where there were more than `MOST`, that not each one that follows is joined by itself."""
BYTES_EACH = 16 << 20
MAX_CONTENT_BYTES = 16 << 20
ONCE_BYTES = 256 << 10
"""What the requests for one writing are worth, where the cheapest for each segment that goes is looked for."""
MOST_AT_ONCE = 256
"""So many are joined at once: choosing takes time for each that could be."""

_decode_pairs = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode
_encode = msgspec.msgpack.encode


class Published(msgspec.Struct, frozen=True):
    """A segment of our own that stands on the remote, and the bytes of its content before compression."""

    name: SegmentName
    content_bytes: int


class Gone(Protocol):
    """What was purged, as far as somebody knows."""

    def ended(self, session: str, /) -> int:
        """The greatest life of a session's id that was purged; 0 where none was."""
        ...

    def erased(self, session: str, life: int, message: str, /) -> bool:
        """Say whether a message was purged."""
        ...

    def forgotten(self, session: str, life: int, message: str | None, /) -> Mapping[str, Register] | None:
        """The registers as they are now of a session, or a message of it, whose history was purged; None for others."""
        ...


def is_crowded(own: Sequence[Published], *, most: int = MOST) -> bool:
    """Say whether more segments stand than a listing should hold."""
    return len(own) > most + sum(each.content_bytes for each in own) // BYTES_EACH


def choose(own: Iterable[Published], *, most: int = MOST) -> list[Published]:
    """The segments to write again as one, oldest first; [] where all may stand as they do.

    They lie side by side, and what they hold fits into one. ``most`` is how many may stand, apart from large ones.
    """
    found = sorted(own, key=lambda each: (each.name.first, each.name.last))
    grown: tuple[int, int, int, int] | None = None
    crowded: tuple[float, int, int] | None = None
    for start in range(len(found)):
        total = greatest = 0
        for end in range(start, min(start + MOST_AT_ONCE, len(found))):
            if end > start and found[end].name.first != found[end - 1].name.last + 1:
                break
            total += found[end].content_bytes
            greatest = max(greatest, found[end].content_bytes)
            if total > MAX_CONTENT_BYTES:
                break
            count = end - start + 1
            if count >= FAN_IN and total >= GROWTH * greatest:
                grown = min(grown or (-count, total, start, end), (-count, total, start, end))
            if 1 < count <= FAN_IN:
                price = (total + ONCE_BYTES) / (count - 1)
                crowded = min(crowded or (price, start, end), (price, start, end))
    if grown is not None:
        return found[grown[2] : grown[3] + 1]
    if crowded is not None and is_crowded(found, most=most):
        return found[crowded[1] : crowded[2] + 1]
    return []


def combine(batches: Sequence[Batch], gone: Gone) -> Batch:
    """One batch that says what these said, in the order in which they were published, without what is ``gone``."""
    devices: dict[int, str] = {}
    changes = [change for batch in batches for change in _adopted(batch, devices)]
    wire = _Wire(devices)
    purged = _purged(changes, wire)
    entries: list[_Entry] = []
    last: dict[str, _Entry] = {}
    for change in changes:
        entry = _Entry(change, wire)
        if change.life <= max(purged.ended(change.id), gone.ended(change.id)) and not entry.ends:
            continue
        for message in entry.named:
            if purged.erased(change.id, change.life, message) or gone.erased(change.id, change.life, message):
                entry.erase(message)
        for message in (None, *entry.named):
            now = gone.forgotten(change.id, change.life, message)
            if now is not None:
                entry.forget(message, now)
        before = last.get(change.id)
        if before is not None and before.takes(entry):
            before.add(entry)
        else:
            entries.append(entry)
            last[change.id] = entry
    stands_for: StandsFor = {}
    for batch in batches:
        for device, ranges in batch.stands_for.items():
            stands_for.setdefault(device, []).extend(ranges)
    return Batch(VERSION, devices, [entry.change() for entry in entries], stands_for)


# What an entry for one session holds


class _Entry:
    """What is said of one session in one go: a message that stands here brings all the registers that it has."""

    def __init__(self, change: SessionChange, wire: _Wire) -> None:
        self._wire = wire
        self._change = change
        self._births = set(change.births)
        self._touched = change.touched
        self._actors = dict.fromkeys(change.actors)
        self._messages = {born.id: born for born in change.messages}
        self._registers: dict[str | None, dict[str, Register]] = {}
        for state in change.registers:
            self._registers.setdefault(state.message, {})[state.path] = wire.register(state)
        self._purged_life = purged_life(self._registers.get(None, {}).get(PURGED, EMPTY))
        self.ends = self._purged_life == change.life
        """Whether it says nothing but that this life is over."""

    @property
    def named(self) -> list[str]:
        """The messages of which it says something."""
        return [*self._messages, *(each for each in self._registers if each is not None and each not in self._messages)]

    def takes(self, later: _Entry) -> bool:
        """Say whether another entry can be said with this one: neither may seem to say all of what it says in part."""
        if (self._change.life, self._purged_life) != (later._change.life, later._purged_life):
            return False
        return not (self._would_hide(later) or later._would_hide(self))

    def _would_hide(self, other: _Entry) -> bool:
        """Say whether a register that the other one says would stand for what is implied by a birth that stands here.

        A message none of whose registers is told is all implied, and so are the keys of its metadata where none is.
        """
        for message, registers in other._registers.items():
            born = self._messages.get(message) if message is not None else None
            if born is None or message in other._messages:
                continue
            ours = self._registers.get(message)
            if ours is None or (born.metadata is not None and _of_metadata(registers) and not _of_metadata(ours)):
                return True
        return False

    def add(self, later: _Entry) -> None:
        """Say also what a later entry says."""
        self._births |= later._births
        self._touched = max(self._touched, later._touched)
        self._actors |= later._actors
        self._messages |= later._messages
        for message, registers in later._registers.items():
            ours = self._registers.setdefault(message, {})
            for path, register in registers.items():
                ours[path] = merge(ours.get(path, EMPTY), register)

    def erase(self, message: str) -> None:
        """Leave of a message what stays of one that was purged."""
        born = self._messages.get(message)
        registers = self._registers.pop(message, {})
        gone = {stamp for register in registers.values() for stamp in register.open}
        if born is not None:
            self._messages[message] = erased(born)
            gone |= set(self._wire.stamps(born))
        if PURGED in registers:
            self._registers[message] = {PURGED: registers[PURGED]}
            gone -= set(registers[PURGED].open)
        self._disown(gone)

    def forget(self, message: str | None, now: Mapping[str, Register]) -> None:
        """Leave out the values that are known to be overwritten, of the session itself or of a message."""
        registers = self._registers.get(message, {})
        for path, register in list(registers.items()):
            if path in now:
                left = {stamp: value for stamp, value in register.open.items() if not _over(now[path], [stamp])}
                registers[path] = Register(left, register.known)
                if not left:  # what replaced them is told elsewhere, with all that it knew
                    del registers[path]
                self._disown(register.open.keys() - left.keys())
        born = self._messages.get(message) if message is not None else None
        if born is not None:
            self._messages[born.id] = _without_past(born, self._wire.stamps(born), now)

    def change(self) -> SessionChange:
        """The entry as it travels."""
        states = [
            RegisterState(message, path, self._wire.state(register))
            for message, registers in self._registers.items()
            for path, register in registers.items()
        ]
        return msgspec.structs.replace(
            self._change,
            births=sorted(self._births),
            touched=self._touched,
            registers=states,
            messages=sorted(self._messages.values(), key=lambda born: born.clock),
            actors=list(self._actors),
        )

    def _disown(self, stamps: Iterable[Stamp]) -> None:
        """Forget who gave some stamps."""
        gone = {(self._wire.number(stamp.device), stamp.clock) for stamp in stamps}
        self._actors = {each: None for each in self._actors if each[:2] not in gone}


def _of_metadata(paths: Iterable[str]) -> bool:
    return any(path.startswith("metadata/") for path in paths)


def _without_past(born: Born, births: Sequence[Stamp], now: Mapping[str, Register]) -> Born:
    """A message without those of its first values that are overwritten."""
    emptied: dict[str, object] = {
        path: "" if path == "content" else None
        for path in SCALARS
        if path != "timestamp" and path in now and _over(now[path], births)
    }
    if born.metadata is not None:
        document = decode_json(born.metadata)
        past = [where for where, _ in leaves(document) if _over(now.get(f"metadata{where}", EMPTY), births)]
        emptied["metadata"] = json_column(patched(document, [(where, REMOVED) for where in past]))
    return msgspec.structs.replace(born, **emptied)


def _over(now: Register, stamps: Iterable[Stamp]) -> bool:
    """Say whether a register knows of values under all these stamps, and holds none of them any more."""
    return all(covers(now.known, stamp) and stamp not in now.open for stamp in stamps)


class _Purges:
    """What some changes say was purged."""

    def __init__(self) -> None:
        self.lives: dict[str, int] = {}
        self.messages: set[tuple[str, int, str]] = set()

    def ended(self, session: str) -> int:
        return self.lives.get(session, 0)

    def erased(self, session: str, life: int, message: str) -> bool:
        return (session, life, message) in self.messages


def _purged(changes: Iterable[SessionChange], wire: _Wire) -> _Purges:
    found = _Purges()
    for change in changes:
        for state in change.registers:
            if state.path == PURGED and state.message is not None:
                found.messages.add((change.id, change.life, state.message))
            elif state.path == PURGED:
                found.lives[change.id] = max(found.ended(change.id), purged_life(wire.register(state)))
    return found


# Numbers of devices


class _Wire:
    """Registers between numbers of devices and their ids."""

    def __init__(self, devices: Mapping[int, str]) -> None:
        self._devices = devices
        self._numbers = {device: number for number, device in devices.items()}

    def number(self, device: str) -> int:
        return self._numbers[device]

    def stamp(self, clock: int, author: int) -> Stamp:
        number, rank = divmod(author, 4)
        return Stamp(rank, clock, self._devices[number])

    def stamps(self, born: Born) -> list[Stamp]:
        others = [] if born.births is None else _decode_pairs(born.births)
        return [self.stamp(clock, author) for clock, author in ((born.clock, born.author), *others)]

    def register(self, state: RegisterState) -> Register:
        opened, known = state.state
        return Register(
            {self.stamp(clock, author): Value(text, seen) for clock, author, text, seen in opened},
            {self.stamp(clock, author).writer: clock for author, clock in known},
        )

    def state(self, register: Register) -> tuple[list[tuple[int, int, bytes, bytes]], list[tuple[int, int]]]:
        opened = [
            (stamp.clock, self.number(stamp.device) * 4 + stamp.rank, value.text, value.seen)
            for stamp, value in sorted(register.open.items())
        ]
        known = [(self.number(device) * 4 + rank, clock) for (device, rank), clock in sorted(register.known.items())]
        return opened, known


def _adopted(batch: Batch, devices: dict[int, str]) -> Iterator[SessionChange]:
    """The changes of a batch, its devices numbered as in ``devices``, which takes up those that are new."""
    numbers = {device: number for number, device in devices.items()}
    moved: dict[int, int] = {}
    for number, device in batch.devices.items():
        if device in numbers:
            moved[number] = numbers[device]
        else:
            moved[number] = number if number not in devices else max(devices) + 1
            devices[moved[number]] = device
    if all(number == new for number, new in moved.items()):
        return iter(batch.sessions)
    return (_moved(change, moved) for change in batch.sessions)


def _moved(change: SessionChange, numbers: Mapping[int, int]) -> SessionChange:
    def author(old: int) -> int:
        return numbers[old // 4] * 4 + old % 4

    def pairs(births: bytes | None) -> bytes | None:
        return None if births is None else _encode([(clock, author(old)) for clock, old in _decode_pairs(births)])

    replace = msgspec.structs.replace
    return replace(
        change,
        births=[replace(birth, author=author(birth.author)) for birth in change.births],
        messages=[replace(born, author=author(born.author), births=pairs(born.births)) for born in change.messages],
        registers=[
            replace(
                state,
                state=(
                    [(clock, author(old), text, seen) for clock, old, text, seen in state.state[0]],
                    [(author(old), clock) for old, clock in state.state[1]],
                ),
            )
            for state in change.registers
        ],
        actors=[(numbers[device], clock, actor) for device, clock, actor in change.actors],
    )
