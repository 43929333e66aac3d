"""Places in a session to come back to, as they are kept in its state (tests/library/test_pyai.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..model import Json


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a session to come back to: behind ``message`` (None: at the beginning)."""

    id: str
    name: str | None
    message: str | None
    context: dict[str, Json]
    created_at: str


def meant(marks: Sequence[Checkpoint], ref: str) -> int | None:
    """The place of the checkpoint of an id, or of the newest of a name."""
    places = range(len(marks) - 1, -1, -1)
    by_id = (place for place in places if marks[place].id == ref)
    by_name = (place for place in places if marks[place].name is not None and marks[place].name == ref)
    return next(by_id, None) if any(mark.id == ref for mark in marks) else next(by_name, None)


def kept(marks: Sequence[Checkpoint]) -> dict[str, Json]:
    """The JSON object that checkpoints are kept as: by id, since objects merge where two devices add to them."""
    return {
        mark.id: {
            "place": place, "name": mark.name, "message": mark.message, "context": mark.context,
            "created_at": mark.created_at,
        }
        for place, mark in enumerate(marks)
    }  # fmt: skip


def renamed(marks: Sequence[Checkpoint], ids: Mapping[str, str]) -> list[Checkpoint]:
    """The checkpoints behind the same messages, some of which got new ids: ``ids`` by the old ones."""
    return [
        msgspec.structs.replace(mark, message=ids.get(mark.message, mark.message)) if mark.message else mark
        for mark in marks
    ]


def read(value: Json) -> list[Checkpoint]:
    """The checkpoints of `kept`, oldest first; what is none is passed over."""
    found: list[tuple[int, str, Checkpoint]] = []
    for id_, each in value.items() if isinstance(value, dict) else ():
        try:
            mark = msgspec.convert({**each, "id": id_}, Checkpoint)
            found.append((int(each["place"]), mark.created_at, mark))
        except (KeyError, TypeError, ValueError):
            continue
    return [mark for _, _, mark in sorted(found, key=lambda each: each[:2])]
