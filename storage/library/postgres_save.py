"""What a save does in PostgreSQL: the one statement that appends, and the transaction for all else.

Both take the session's row first, so that savers of one session come one after the other
(tests/contract/test_session_stores.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..document import patched
from ..errors import MessageIdsTaken, SessionExists
from ..model import Json
from ..registers import value_of
from .delta import Delta
from .items import Item, edited, repeated
from .postgres_link import Row, Work

COLUMNS = (
    "no, id, shown, title = '' AS automatic_title, status, provider, model, user_id, tags::text, metadata::text, "
    "state::text, forked_from::text, created_ms, updated_ms, deleted_ms, message_count, size_bytes, pushed"
)

_APPEND = f"""
WITH target AS (
    UPDATE steno.sessions SET
        message_count = message_count + %(count)s, size_bytes = size_bytes + %(size)s, pushed = pushed + %(count)s,
        newest_ms = greatest(newest_ms, %(newest)s),
        automatic = CASE WHEN automatic = '' THEN %(title)s ELSE automatic END,
        touched_ms = CASE WHEN status = 'archived' THEN greatest(touched_ms, %(touched)s) ELSE touched_ms END,
        status = CASE WHEN status = 'archived' THEN 'active' ELSE status END
    WHERE id = %(id)s AND deleted_ms IS NULL RETURNING {COLUMNS}
), added AS (
    INSERT INTO steno.messages (session, place, id, size_bytes, time_ms, title, body)
    SELECT target.no, target.pushed - %(count)s + item.n, item.id, item.size_bytes::bigint, item.time_ms::bigint,
        coalesce(item.title, ''), item.body
    FROM target, unnest(
        string_to_array(%(ids)s, E'\\n'), string_to_array(%(sizes)s, E'\\n'), string_to_array(%(times)s, E'\\n'),
        string_to_array(%(titles)s, E'\\n'), string_to_array(%(bodies)s, E'\\n')
    ) WITH ORDINALITY AS item(id, size_bytes, time_ms, title, body, n)
)
SELECT * FROM target
"""  # noqa: S608  names of ours
# Lines, for none of these texts can hold a line feed, and psycopg makes arrays of lists in Python, slowly.

_LOCK = """
SELECT no, hidden_upto, deleted_ms, tags::text, metadata::text, state::text
FROM steno.sessions WHERE id = %s FOR UPDATE
"""

_CREATE = """
INSERT INTO steno.sessions (id, created_ms, touched_ms, pushed, hidden_upto, forked_from)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING RETURNING no
"""

RECOUNT = """
UPDATE steno.sessions SET (message_count, size_bytes, newest_ms) = (
    SELECT count(*), coalesce(sum(size_bytes), 0), coalesce(max(time_ms), 0)
    FROM steno.messages WHERE session = sessions.no AND place > sessions.hidden_upto
), automatic = coalesce((
    SELECT title FROM steno.messages
    WHERE session = sessions.no AND place > sessions.hidden_upto AND title <> '' ORDER BY place LIMIT 1
), '') WHERE no = %s
"""


def append(work: Work, delta: Delta, items: Sequence[Item]) -> Row | None:
    """Add messages that are not there, in one statement; None where there is no session, or a deleted one.

    Raises psycopg's UniqueViolation, with nothing done, where a message is there already.
    """
    return work.row(
        _APPEND,
        {
            "id": delta.id,
            "touched": delta.touched_ms,
            "count": len(items),
            "size": sum(each.size_bytes for each in items),
            "newest": max(each.time_ms for each in items),
            "title": next((each.title for each in items if each.title), ""),
            "ids": "\n".join([each.id for each in items]),
            "sizes": "\n".join([str(each.size_bytes) for each in items]),
            "times": "\n".join([str(each.time_ms) for each in items]),
            "titles": "\n".join([each.title for each in items]),
            "bodies": "\n".join([each.text.decode() for each in items]),
        },
    )


def save(work: Work, delta: Delta, items: Sequence[Item]) -> Row | None:
    """Do all that a delta says; None where there is no session, or a deleted one, and the delta is not of a new one."""
    with work.transaction():
        held = _held(work, delta)
        if held is None:
            return None
        no, hidden_upto, *documents = held
        if delta.rewrites:
            _rewrite(work, delta, no, hidden_upto)
        fresh = _fresh(work, delta, no, hidden_upto, items)
        if fresh:
            append(work, delta, fresh)
        sets = _fields(delta) | _documents(delta, *documents)
        if delta.rewrites or delta.changes_header:
            names = ", ".join(f"{name} = %({name})s" for name in sets)
            work.do(
                f"UPDATE steno.sessions SET {names}{', ' if names else ''}"  # noqa: S608  names of ours
                "touched_ms = greatest(touched_ms, %(touched)s) WHERE no = %(no)s",
                {**sets, "touched": delta.touched_ms, "no": no},
            )
        return work.row(f"SELECT {COLUMNS} FROM steno.sessions WHERE no = %s", (no,))  # noqa: S608  names of ours


def carried(text: str | None) -> str | None:
    """Text as PostgreSQL can carry it, which knows no NUL; `given` is the way back."""
    if text is None or ("\0" not in text and "\x01" not in text):
        return text
    return text.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")


def given(text: str | None) -> str | None:
    """The text that `carried` was given."""
    if text is None or "\x01" not in text:
        return text
    return text.replace("\x01\x01", "\0").replace("\x01\x02", "\x01")


def _held(work: Work, delta: Delta) -> tuple[Any, ...] | None:
    """The session's row for this transaction alone: number, what is hidden, tags, metadata and state.

    Raises `SessionExists`.
    """
    if delta.new:
        forked = None if delta.forked_from is None else _json(delta.forked_from)
        # Places begin at a time, so that those of a session of this id that was purged are not given again.
        begin = delta.touched_ms
        made = work.row(_CREATE, (delta.id, delta.created_ms, delta.created_ms, begin, begin, forked))
        if made is None and delta.fresh:
            raise SessionExists(session=delta.id)
    row = work.row(_LOCK, (delta.id,))
    if row is None:
        return None
    no, hidden_upto, deleted_ms, *documents = row
    if deleted_ms is not None:
        if not delta.new:
            return None
        woken = work.row(
            "UPDATE steno.sessions SET deleted_ms = NULL, hidden_upto = pushed, message_count = 0, size_bytes = 0, "
            "newest_ms = 0, automatic = '', touched_ms = greatest(touched_ms, %s) WHERE no = %s RETURNING hidden_upto",
            (delta.touched_ms, no),
        )
        (hidden_upto,) = woken or (hidden_upto,)
    return no, hidden_upto, *documents


def _rewrite(work: Work, delta: Delta, no: int, hidden_upto: int) -> None:
    if delta.cleared_upto is not None:
        work.do("DELETE FROM steno.messages WHERE session = %s AND place <= %s", (no, delta.cleared_upto))
    if delta.removed:
        work.do(
            "DELETE FROM steno.messages WHERE session = %s AND id = ANY(%s) AND place > %s",
            (no, list(delta.removed), hidden_upto),
        )
    there = work.rows(
        "SELECT id, body FROM steno.messages WHERE session = %s AND id = ANY(%s) AND place > %s",
        (no, list(delta.edited), hidden_upto),
    )
    for message_id, body in there:
        new = edited(body, delta.edited[message_id])
        work.do(
            "UPDATE steno.messages SET size_bytes = %s, title = %s, body = %s WHERE session = %s AND id = %s",
            (new.size_bytes, new.title, new.text.decode(), no, message_id),
        )
    work.do(RECOUNT, (no,))


def _fresh(work: Work, delta: Delta, no: int, hidden_upto: int, items: Sequence[Item]) -> list[Item]:
    """The items of messages that the session has not; raises `MessageIdsTaken` where others have their ids."""
    if not items:
        return []
    there = {
        message_id: None if place <= hidden_upto else body
        for message_id, place, body in work.rows(
            "SELECT id, place, body FROM steno.messages WHERE session = %s AND id = ANY(%s)",
            (no, [each.id for each in items]),
        )
    }
    taken = [each.id for each in delta.added if each.id in there and not repeated(each, there[each.id])]
    if taken:
        raise MessageIdsTaken(session=delta.id, ids=taken)
    return [each for each in items if each.id not in there]


def _fields(delta: Delta) -> dict[str, Any]:
    sets = {name: carried(value) for name, value in delta.fields.items()}
    if "title" in sets:
        sets["title"] = sets["title"] or ""
    return sets


def _documents(delta: Delta, tags: str, metadata: str, state: str) -> dict[str, Any]:
    sets: dict[str, Any] = {}
    if any(delta.tags) or delta.tag_order:
        sets["tags"] = _json(delta.tags_after(value_of(tags.encode())))
    if delta.metadata:
        new = patched(value_of(metadata.encode()), delta.metadata)
        agent = new.get("agent_id")
        sets |= {"metadata": _json(new), "agent_id": carried(agent) if isinstance(agent, str) else None}
    if delta.state:
        sets["state"] = _json(patched(value_of(state.encode()), delta.state))
    return sets


def _json(value: Json) -> str:
    return msgspec.json.encode(value).decode()
