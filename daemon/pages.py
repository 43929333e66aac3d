"""Lists, a page at a time.

A cursor names the last thing that was shown, not a number of rows, so that what is added or
moved meanwhile is neither shown twice nor jumps over others (tests/contract/http/test_messages.py, test_sessions.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ..storage.audit import AuditEntry
from ..storage.conflicts import placed
from ..storage.errors import SessionNotFound
from ..storage.history import as_it_was, entries, seq_before
from ..storage.listing import Filter, listed
from ..storage.model import check_status, parse_time
from ..storage.paging import bad_cursor, cursor_of, place_of
from ..storage.rows import MESSAGE_COLUMNS, MessageRow, message
from ..storage.shape import message_json, session_json
from ..storage.store import Store
from ..sync.files.verify import Place, verify

MAX_PAGE = 1000
MAX_PAGE_BYTES = 8 * 1024 * 1024
DEFAULT_SESSIONS = 50

FILTERS = ("title", "provider", "model", "status", "user_id", "project", "tag")
"""The parameters that choose sessions, as `steno list` does; ``tag`` may stand several times."""

_BEYOND = 1 << 62
_Whole = Annotated[int, msgspec.Meta(ge=0, lt=_BEYOND)]
_SessionPlace = tuple[_Whole, str]
_ConflictPlace = tuple[_Whole, _Whole, _Whole, str]
_HistoryPlace = tuple[_Whole, _Whole]
_MessagePlace = tuple[Literal["newer", "older"], str]


def filter_of(given: Mapping[str, Sequence[str]]) -> Filter:
    """The filter that parameters named in `FILTERS` ask for. Raises `InvalidInput`."""
    single = {name: values[-1] for name, values in given.items() if values}
    if "status" in single:
        check_status(single["status"])
    return Filter(
        title=single.get("title"),
        tags=tuple(given.get("tag", ())),
        project=single.get("project"),
        provider=single.get("provider"),
        model=single.get("model"),
        user_id=single.get("user_id"),
        status=single.get("status"),
    )


def session_page(
    store: Store,
    *,
    chosen: Filter,
    cursor: str = "",
    limit: int | None = None,
    deleted: bool = False,
) -> dict[str, Any]:
    """Sessions, the last written to first."""
    limit = limit or DEFAULT_SESSIONS
    after = place_of(cursor, _SessionPlace) if cursor else None
    found = list(listed(store, chosen, limit=limit + 1, after=after, deleted=deleted))
    shown, more = found[:limit], found[limit:]
    following = cursor_of((parse_time(shown[-1].updated_at), shown[-1].id)) if more else None
    return {"sessions": [session_json(each) for each in shown], "next": following}


def message_page(
    store: Store, session_id: str, *, cursor: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Messages in order. A ``limit`` alone shows the newest, and ``next`` leads to older ones.

    Without a limit, or with an empty cursor, the pages begin at the first message. A page ends early
    behind `MAX_PAGE_BYTES` of content. Raises `SessionNotFound` and `InvalidInput`.
    """
    session = store.find(session_id)
    if session is None or session.hidden:
        raise SessionNotFound(ref=session_id)
    way, anchor = ("older" if limit and cursor is None else "newer"), None
    if cursor:
        way, anchor = place_of(cursor, _MessagePlace)
    older = way == "older"
    place = _place_of(store, session.no, anchor) if anchor is not None else _BEYOND if older else -_BEYOND
    rows, more = _rows(store, session.no, place, older=older, limit=limit or MAX_PAGE)
    following = cursor_of((way, rows[-1].id)) if more else None
    shown = rows[::-1] if older else rows
    return {"messages": [message_json(message(row)) for row in shown], "next": following}


def conflict_page(
    store: Store, *, session: str | None = None, cursor: str = "", limit: int | None = None
) -> dict[str, Any]:
    """Open conflicts, the last one first; ``session`` alone, where one is named."""
    limit = limit or DEFAULT_SESSIONS
    after = place_of(cursor, _ConflictPlace) if cursor else None
    found = list(islice(placed(store, session, after=after), limit + 1))
    shown, more = found[:limit], found[limit:]
    following = cursor_of(shown[-1][0]) if more else None
    return {"conflicts": [msgspec.to_builtins(each) for _, each in shown], "next": following}


def history_page(
    store: Store, session: str, *, message: str | None = None, cursor: str = "", limit: int | None = None
) -> dict[str, Any]:
    """What was written to a session, or to one of its messages, in the order of arrival.

    Raises `SessionNotFound`, `MessageNotFound` and `InvalidInput`.
    """
    limit = limit or MAX_PAGE
    seen = place_of(cursor, _HistoryPlace) if cursor else (0, 0)
    shown: list[AuditEntry] = []
    following = None
    at = (0, 0)
    for each in entries(store, session, message=message):
        place = (each.seq, at[1] + 1 if each.seq == at[0] else 1)
        if place > seen:
            if len(shown) == limit:
                following = cursor_of(at)
                break
            shown.append(each)
        at = place
    return {"entries": [msgspec.to_builtins(each) for each in shown], "next": following}


def past_session(store: Store, session: str, *, at: str) -> dict[str, Any]:
    """A session with its messages as it was: ``at`` is a number of its history, or a time.

    Raises `SessionNotFound` and `InvalidInput`.
    """
    with store.transaction():
        if at.isascii() and at.isdigit() and len(at) < 19:
            seq = int(at)
        else:
            seq = seq_before(store, session, at_ms=parse_time(at))
        past = as_it_was(store, session, seq)
    return {**session_json(past.header), "messages": [message_json(each) for each in past.messages], "seq": seq}


def difference_page(store: Store, root: Path, *, cursor: str = "", limit: int | None = None) -> dict[str, Any]:
    """What is wrong with some of the session files; ``compared`` says how many of them were read."""
    after = place_of(cursor, Place) if cursor else None
    found = verify(store, root, after, limit=limit or MAX_PAGE)
    differences = [msgspec.to_builtins(each) for each in found.differences]
    following = cursor_of(found.after) if found.after else None
    return {"differences": differences, "compared": found.compared, "next": following}


def _rows(store: Store, session: int, place: int, *, older: bool, limit: int) -> tuple[list[MessageRow], bool]:
    """The rows on one side of a place, the nearest first, and whether there are more."""
    sign, way = ("<", "DESC") if older else (">", "ASC")
    condition = f"session = ? AND hidden = 0 AND ord {sign} ? ORDER BY ord {way} LIMIT ?"
    sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE {condition}"  # noqa: S608
    rows: list[MessageRow] = []
    size = 0
    for columns in store.execute(sql, (session, place, limit + 1)):
        if len(rows) == limit or size > MAX_PAGE_BYTES:
            return rows, True
        rows.append(MessageRow(*columns))
        size += len(rows[-1].content)
    return rows, False


def _place_of(store: Store, session: int, message_id: str) -> int:
    row = store.one("SELECT ord FROM messages WHERE session = ? AND id = ?", (session, message_id))
    if row is None:
        raise bad_cursor()
    return row[0]
