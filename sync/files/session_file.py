"""The file of one session, for whoever wants to open it: where it lies, and whether it and the store agree.

Only looking, but for `set_aside`, which puts the store's version in the place of a text that was
refused and keeps that text beside it (tests/unit/test_cli_files.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ...storage.errors import InvalidInput, LocalStorageError
from ...storage.rows import header, message
from ...storage.steps import step
from ...storage.store import Store
from .exchange import swap
from .ledger import Ledger, RefusedFile
from .lines import Rev, header_of, line_of, named_session, render
from .names import SUFFIX, id_in_name
from .reading import NO_FOLLOWING, FileChanged, first_line, look_at, translated

ASIDE = ".refused"
_MOST_ASIDE, _NAME_BYTES = 1000, 240


class SessionFile(msgspec.Struct, frozen=True):
    """Where a session's file lies; ``path`` is None before it is first written.

    ``written`` says that it shows the session as it is now, ``taken`` that what stands there was read, or refused.
    """

    session: str
    path: str | None
    written: bool = False
    taken: bool = False
    refused: RefusedFile | None = None


class _Revised(msgspec.Struct, frozen=True):
    rev: str | None = None


def session_file(store: Store, root: Path, session: str) -> SessionFile:
    """How the file of a session stands; raises `SessionNotFound`."""
    row = store.live(session)
    ledger = Ledger(store)
    record = ledger.of(row.no)
    if record is None:
        return SessionFile(session, None)
    path = root / record.path
    refused = next((each for each in ledger.refused() if each.path == record.path), None)
    try:
        look = look_at(path)
    except (InvalidInput, LocalStorageError):
        look = None
    return SessionFile(
        session,
        str(path),
        written=look is not None and record.seq >= changed_at(store, row.no),
        taken=look == record.fingerprint.look or refused is not None,
        refused=refused,
    )


def changed_at(store: Store, no: int) -> int:
    """When a session was last changed, in the feed; 0 where there is none."""
    sql = (
        "SELECT max(seq) FROM (SELECT seq FROM sessions WHERE no = ?1 "
        "UNION ALL SELECT max(seq) FROM messages WHERE session = ?1)"
    )
    return store.one(sql, (no,))[0] or 0


def rev_of(path: Path) -> str | None:
    """The rev that the first line of a file names, whatever it is."""
    try:
        return msgspec.json.decode(first_line(path), type=_Revised).rev
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def as_stored(store: Store, session: str) -> bytes:
    """The bytes that the store would write for a session now; raises `SessionNotFound`."""
    store.execute("BEGIN")  # one snapshot of the session, its messages and the number of the feed
    try:
        row = store.live(session)
        head = header_of(header(row), rev=Rev(store.store_name, store.last_seq))
        return render(head, [line_of(message(each)) for each in store.message_rows(row.no)])
    finally:
        store.execute("COMMIT")


def set_aside(path: Path, data: bytes) -> Path:
    """Put these bytes in the place of a file and keep what stood there beside it; returns where it is kept.

    The two change places in one moment, so that whatever is being saved meanwhile is kept as well. Raises
    `LocalStorageError` where that is not possible here and somebody saved in the moment between.
    """
    with translated(path):
        kept = _written_beside(path, data)
        step("files.own-text-beside")
        try:
            displaced = swap(kept, path)
        except FileChanged as exc:
            kept.unlink()
            raise LocalStorageError(f"{path} was saved meanwhile", hint="look at it again") from exc
        step("files.refused-set-aside")
        return displaced.rename(kept)


def set_aside_of(root: Path, sessions: Iterable[str]) -> Iterator[Path]:
    """What `set_aside` kept of these sessions, or may have: its name tells, or its first line, if that can be read."""
    ids = set(sessions)
    in_names = [f".{id_in_name(each)}." for each in ids]
    for folder, _, names in os.walk(root):
        for path in (Path(folder, each) for each in sorted(names) if SUFFIX + ASIDE in each):
            named = named_session(first_line(path))
            if named is None or named in ids or any(each in path.name for each in in_names):
                yield path


def _written_beside(path: Path, data: bytes) -> Path:
    """A new file, 0600, whose name no mirror takes for a session's."""
    stem = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    for number in range(1, _MOST_ASIDE):
        place = path.with_name(f"{stem}{ASIDE}{'' if number == 1 else f'.{number}'}")
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOWING, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return place
    raise LocalStorageError(f"{path} was set aside too often", hint=f"remove what ends in {ASIDE} beside it")
