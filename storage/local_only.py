"""Sessions that stay on this device: which they are, since when, and how one of them is shared after all.

A session is local-only from its birth or never: nothing of it is sent then, nor that it was purged, since the mark
stays with its id (`steno.storage.change` leaves it out of every batch). What a person shares is published whole, as if
it had been written now (tests/unit/test_local_only.py, tests/simulation/test_local_only.py).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping

import msgspec

from .database import Database
from .errors import InvalidInput, SessionNotFound
from .model import Json, SessionHeader
from .rows import SESSION_COLUMNS, TOMBSTONE, SessionRow, decode_json, header, originals, session_births

PROJECTS = "local-only"
"""The name in ``meta`` of the projects whose sessions are born local-only: a list in JSON."""

_MARKED = "SELECT id FROM sessions WHERE local_only AND id IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 1"
_COPIED = """
SELECT 1 FROM sessions s CROSS JOIN json_each(?) j JOIN messages m ON m.session = s.no AND m.id = j.value ->> 0
WHERE s.local_only AND m.time_ms = j.value ->> 1 LIMIT 1
"""
_ORIGINS = """
SELECT DISTINCT json_extract(origin, '$.session') FROM messages
WHERE session = ? AND origin IS NOT NULL AND json_type(origin, '$.session') = 'text'
"""


def follow_projects(database: Database, projects: Iterable[str]) -> None:
    """Let sessions of these projects be born local-only from now on, whoever opens the store."""
    said = msgspec.json.encode(sorted(set(projects))).decode()
    if (database.meta(PROJECTS) or "[]") != said:
        with database.transaction():
            database.set_meta(PROJECTS, said)


def stays(database: Database, *, metadata: Mapping[str, Json], above: Collection[str]) -> bool:
    """Say whether a session that is born now stays here: by its project, or since one that it was forked from does."""
    project = metadata.get("project")
    if isinstance(project, str) and any(
        _is_same(project, each) for each in decode_json(database.meta(PROJECTS) or "[]")
    ):
        return True
    return bool(above) and _marked(database, above) is not None


def keep_here(database: Database, no: int) -> None:
    """Mark a session by its number. In the transaction of its birth, before anything of it could be sent."""
    database.execute("UPDATE sessions SET local_only = 1 WHERE no = ?", (no,))


def copies(database: Database, messages: Iterable[tuple[str, int]]) -> bool:
    """Say whether any of some messages, by id and time, is one of a session that stays."""
    return database.one(_COPIED, (msgspec.json.encode(list(messages)).decode(),)) is not None


def check_origins(database: Database, no: int, origins: Iterable[Mapping[str, Json] | None]) -> None:
    """Raise `InvalidInput` where messages that a session is about to get would tell others of one that stays."""
    named = {origin["session"] for origin in origins if origin and isinstance(origin.get("session"), str)}
    stays_here = _marked(database, named) if named else None
    if stays_here is not None and not database.one("SELECT local_only FROM sessions WHERE no = ?", (no,))[0]:
        raise InvalidInput(
            f"the origin of a message names session {stays_here}, which is local-only",
            hint=f"leave `origin` out, or `steno vault share {stays_here}` first, if it may be sent",
        )


def kept_here(database: Database) -> int:
    """How many sessions are local-only, those that were purged apart."""
    return database.one("SELECT count(*) FROM sessions WHERE local_only AND hidden < ?", (TOMBSTONE,))[0]


def share(database: Database, sessions: Collection[str]) -> list[SessionHeader]:
    """Let sessions be sent from now on, with all that they hold; those that are sent anyway stay as they are.

    Raises `SessionNotFound`, and `InvalidInput` where one names another that stays: as its original, or in a copy.
    """
    with database.transaction():
        rows = [_live(database, each) for each in dict.fromkeys(sessions)]
        for row in rows:
            if row.local_only:
                _check_names(database, row, sessions)
        for row in rows:
            if row.local_only:
                _publish(database, row)
        return [header(_live(database, each.id)) for each in rows]


def check_joins(session: SessionHeader | SessionRow, *, local_only: bool) -> None:
    """Raise `InvalidInput` where what is local-only elsewhere would join a session that is sent."""
    if local_only and not session.local_only:
        raise InvalidInput(f"session {session.id} is local-only there and not here, so nothing is taken of it")


def set_local_only(database: Database, session: SessionHeader, wanted: bool) -> None:
    """Share a session, or leave it as it is; raises `InvalidInput` for one that is sent and is not to be any more."""
    if wanted and not session.local_only:
        raise InvalidInput(
            f"session {session.id} was not made local-only and may lie on the remote",
            hint=f"`steno purge {session.id}` removes it everywhere",
        )
    if not wanted:
        share(database, [session.id])


def _is_same(project: str, named: str) -> bool:
    """Compare projects as people name them: by their directory or its path, in whatever case."""
    (project, last), (named, named_last) = _spelled(project), _spelled(named)
    return bool(project) and (named in (project, last) or project == named_last)


def _spelled(name: str) -> tuple[str, str]:
    """A name for comparing, and the last part of it."""
    whole = unicodedata.normalize("NFC", name.casefold()).replace("\\", "/").rstrip("/")
    return whole, whole.rpartition("/")[2]


def _live(database: Database, session: str) -> SessionRow:
    found = database.one(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ? AND hidden = 0", (session,))  # noqa: S608
    if found is None:
        raise SessionNotFound(ref=session)
    return SessionRow(*found)


def _check_names(database: Database, row: SessionRow, shared: Collection[str]) -> None:
    copied = (origin for (origin,) in database.execute(_ORIGINS, (row.no,)).fetchall())
    forked = (each for birth in session_births(row.births) for each in originals([birth]))
    named = {*forked, *copied} - {row.id, *shared}
    stays_here = _marked(database, named)
    if stays_here is not None:
        raise InvalidInput(
            f"session {row.id} names session {stays_here}, which is local-only",
            hint=f"share both: `steno vault share {row.id} {stays_here}`",
        )


def _marked(database: Database, sessions: Collection[str]) -> str | None:
    """One of some sessions that is local-only, or was when it was purged."""
    found = database.one(_MARKED, (msgspec.json.encode(sorted(sessions)).decode(),))
    return None if found is None else found[0]


def _publish(database: Database, row: SessionRow) -> None:
    """Give everything of a session a place in the feed behind what was sent, messages in the order of birth."""
    messages = database.execute("SELECT no FROM messages WHERE session = ? ORDER BY clock, no", (row.no,)).fetchall()
    seq, _ = database.advance(len(messages) + 1)
    numbered = [(number, no) for number, (no,) in enumerate(messages, start=seq)]
    database.executemany("UPDATE messages SET seq = ?1, local_seq = ?1 WHERE no = ?2", numbered)
    last = seq + len(messages)
    database.execute("UPDATE registers SET local_seq = ? WHERE session = ?", (last, row.no))
    database.execute("UPDATE sessions SET seq = ?1, local_seq = ?1, local_only = 0 WHERE no = ?2", (last, row.no))
