"""A batch that somebody else made, decoded piece by piece: a small text may unfold to much more than it is.

Whoever holds the key can seal what takes twenty times its bytes once it is decoded. So what a batch holds is counted
before anything of it is decoded, by the lengths that its lists declare; and what lies deeper as soon as the piece is
decoded in which it lies (tests/unit/test_unfolding.py, tests/contract/test_hostile_remote.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec

from .actors import Signed
from .change import Batch, RegisterState, SessionChange, StandsFor
from .rows import Born, SessionBirth

MAX_ENTRIES = 1 << 19
"""More messages, registers and births than a batch of ours holds: a message takes 35 bytes, a batch of many 16 MiB."""
PIECE_BYTES = 1 << 20
"""What is no larger is decoded at once."""

_FIELDS = 64
"""More than the arrays have that are no lists."""
_CONTENT = Born.__struct_fields__.index("content")
_TEXT_OR_BYTES = frozenset((*range(0xA0, 0xC0), 0xC0, 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB))
_Raw = msgspec.Raw
_NONE = _Raw(b"\x90")


class _Outline(msgspec.Struct, frozen=True, array_like=True):
    """A batch with its lists as they came."""

    version: int
    devices: msgspec.Raw
    sessions: msgspec.Raw
    stands_for: msgspec.Raw = _Raw(b"\x80")


class _Session(msgspec.Struct, frozen=True, array_like=True):
    """A change of a session with its lists as they came."""

    id: str
    life: int
    births: msgspec.Raw
    touched: int
    registers: msgspec.Raw
    messages: msgspec.Raw
    actors: msgspec.Raw = _NONE


class _Count:
    """How many entries were met so far."""

    def __init__(self) -> None:
        self._entries = 0

    def add(self, entries: int) -> None:
        self._entries += entries
        if self._entries > MAX_ENTRIES:
            raise msgspec.ValidationError(f"it holds more than {MAX_ENTRIES:,} entries")


_batch = msgspec.msgpack.Decoder(Batch).decode
_outline = msgspec.msgpack.Decoder(_Outline).decode
_pieces = msgspec.msgpack.Decoder(list[_Raw]).decode
_session = msgspec.msgpack.Decoder(_Session).decode
_change = msgspec.msgpack.Decoder(SessionChange).decode
_births = msgspec.msgpack.Decoder(list[SessionBirth]).decode
_actors = msgspec.msgpack.Decoder(list[Signed]).decode
_devices = msgspec.msgpack.Decoder(dict[int, str]).decode
_ranges = msgspec.msgpack.Decoder(dict[str, _Raw]).decode
_stands_for = msgspec.msgpack.Decoder(StandsFor).decode
_decode_register = msgspec.msgpack.Decoder(RegisterState).decode
_decode_message = msgspec.msgpack.Decoder(Born).decode


def unfolded(content: bytes) -> Batch:
    """The batch of some bytes; raise `msgspec.MsgspecError`, also for what would take too much memory."""
    if len(content) <= PIECE_BYTES:
        batch = _batch(content)
        _check(batch.sessions, _Count())
        return batch
    outline, declared, met = _outline(content), _Count(), _Count()
    for each in (outline.devices, outline.sessions, outline.stands_for):
        declared.add(_length(each))
    sessions = _pieces(outline.sessions)
    for each in sessions:
        found = _session(each)
        declared.add(sum(map(_length, (found.births, found.registers, found.messages, found.actors))))
    declared.add(sum(map(_length, _ranges(outline.stands_for).values())))
    return Batch(
        outline.version,
        _devices(outline.devices),
        [_unfolded(each, met) for each in sessions],
        _stands_for(outline.stands_for),
    )


def _unfolded(raw: msgspec.Raw, met: _Count) -> SessionChange:
    if _size(raw) <= PIECE_BYTES:
        change = _change(raw)
    else:
        found = _session(raw)
        change = SessionChange(
            found.id,
            found.life,
            _births(found.births),
            found.touched,
            [_register(each, met) for each in _pieces(found.registers)],
            [_message(each) for each in _pieces(found.messages)],
            _actors(found.actors),
        )
    _check([change], met)
    return change


def _register(raw: msgspec.Raw, met: _Count) -> RegisterState:
    if _size(raw) > PIECE_BYTES:
        for values in _pieces(_field(raw, 2)):
            met.add(_length(values))
    return _decode_register(raw)


def _message(raw: msgspec.Raw) -> Born:
    if _size(raw) > PIECE_BYTES and memoryview(_field(raw, _CONTENT))[0] not in _TEXT_OR_BYTES:
        raise msgspec.ValidationError("a content is neither text nor bytes")
    return _decode_message(raw)


def _field(raw: msgspec.Raw, place: int) -> msgspec.Raw:
    if not place < _length(raw) <= _FIELDS:
        _fail()
    return _pieces(raw)[place]


def _check(changes: Iterable[SessionChange], met: _Count) -> None:
    """Count what was decoded, with what lies in registers and in contents that are no text."""
    for change in changes:
        met.add(1 + len(change.births) + len(change.registers) + len(change.messages) + len(change.actors))
        for each in change.registers:
            opened, known = each.state
            met.add(max(0, len(opened) - 1) + max(0, len(known) - 1))
        for each in change.messages:
            if type(each.content) is not str and type(each.content) is not bytes:
                met.add(_spread(each.content))


def _spread(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_spread, inner))


def _length(raw: msgspec.Raw) -> int:
    """How many items a list or map declares; nothing is decoded."""
    data = memoryview(raw)
    kind = data[0]
    if kind & 0b1110_0000 == 0b1000_0000:  # the short forms of both
        return kind & 0b1111
    width = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(kind)
    if width is None:
        _fail()
    return int.from_bytes(data[1 : 1 + width])


def _size(raw: msgspec.Raw) -> int:
    return len(memoryview(raw))


def _fail() -> NoReturn:
    raise msgspec.ValidationError("a list is none")
