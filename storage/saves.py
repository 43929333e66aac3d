"""The form in which an accepted save of a file is kept, and what a purge takes out of it.

A kept save says which message each line of a file is, for editors that save again without having loaded the file
anew. What it was made of is known to whoever keeps the files; here are only the parts that hold what somebody said.
No hash of a text that was purged stays, since a short text is found by trying; so the ids that were ``given`` to lines
without one stay alone, and tell that something was there (tests/unit/test_files_purge.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from .database import Database
from .registers import text_of
from .rows import MessageRow

_Kind = TypeVar("_Kind")


class _Accepted(msgspec.Struct):
    header: dict[str, msgspec.Raw] | None
    lines: list[msgspec.Raw]
    given: list[str]
    anew: dict[str, str] = {}
    dropped: list[msgspec.Raw] = []


class _Save(msgspec.Struct):
    accepted: _Accepted
    written: dict[str, msgspec.Raw]


class _Line(msgspec.Struct):
    id: str


_NAMES_IT = ("id", "rev")
"""The keys of a header that say nothing but which file it is."""
_line_id = msgspec.json.Decoder(_Line).decode


def pack(save: msgspec.Struct) -> bytes:
    """A save as it stands in its column."""
    import zstandard  # noqa: PLC0415  only who saves a file needs it

    # JSON, since MessagePack has no numbers beyond 64 bits.
    return zstandard.ZstdCompressor(level=1).compress(msgspec.json.encode(save))


def unpack(lines: bytes, kind: type[_Kind]) -> _Kind:
    """A save as it was kept, also one of the first, which were MessagePack."""
    text = _opened(lines)
    return msgspec.json.decode(text, type=kind) if _is_json(text) else msgspec.msgpack.decode(text, type=kind)


def forget_messages(database: Database, session: int, messages: Sequence[MessageRow]) -> None:
    """Take messages out of the saves of their session: lines, stamps, and a title that one of them may have made."""
    if not messages:
        return
    gone = {each.id for each in messages}
    may_title = any(each.role == "user" for each in messages)
    for no, save in _saves(database, session):
        accepted = save.accepted
        accepted.lines = [line for line in accepted.lines if _line_id(line).id not in gone]
        accepted.dropped = [line for line in accepted.dropped if _line_id(line).id not in gone]
        if accepted.header and may_title and not _is_given_title(database, session, accepted.header):
            accepted.header["title"] = msgspec.Raw(b'""')
        save.written = {key: stamps for key, stamps in save.written.items() if key.partition("\n")[0] not in gone}
        _keep(database, no, save)


def forget_texts(database: Database, session: int) -> None:
    """Take all that was said out of the saves of a session: only ids remain."""
    for no, save in _saves(database, session):
        stated = save.accepted.header
        header = None if stated is None else {name: stated[name] for name in _NAMES_IT if name in stated}
        _keep(database, no, _Save(_Accepted(header, [], save.accepted.given), {}))


def _saves(database: Database, session: int) -> Iterator[tuple[int, _Save]]:
    """The saves of a session by number; one of the first, or that cannot be read, is removed."""
    for (no,) in database.execute("SELECT no FROM saves WHERE session = ?", (session,)).fetchall():
        [lines] = database.one("SELECT lines FROM saves WHERE no = ?", (no,))
        try:
            text = _opened(lines)
            save = msgspec.json.decode(text, type=_Save) if _is_json(text) else None
        except (msgspec.MsgspecError, ValueError):
            save = None
        if save is None:
            database.execute("DELETE FROM saves WHERE no = ?", (no,))
        else:
            yield no, save


def _opened(lines: bytes) -> bytes:
    import zstandard  # noqa: PLC0415  only who saves a file needs it

    try:
        return zstandard.ZstdDecompressor().decompress(lines)
    except zstandard.ZstdError as exc:
        raise ValueError("a kept save is damaged") from exc


def _is_json(text: bytes) -> bool:
    return text.startswith(b"{")


def _keep(database: Database, no: int, save: _Save) -> None:
    database.execute("UPDATE saves SET lines = ? WHERE no = ?", (pack(save), no))


def _is_given_title(database: Database, session: int, header: dict[str, msgspec.Raw]) -> bool:
    """Say whether the title of a save was given by somebody, so that it stands in the history: no message made it."""
    title = text_of(" ".join(msgspec.json.decode(header.get("title", b'""'), type=str).split()))
    return any(
        database.one(
            f"SELECT 1 FROM {table} WHERE session = ? AND message = 0 AND path = 'title' AND instr(state, ?)",  # noqa: S608
            (session, title),
        )
        for table in ("registers", "revisions")
    )
