"""Sessions in PostgreSQL, for programs on several machines: a message is a row, so that a save appends.

A save that only adds messages is one statement, committed by itself; any other is one transaction that holds the
session's row. Done twice it does no more than once (tests/contract/test_postgres_store.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from ..database import random_text, wall_ms
from ..errors import SessionDeleted, SessionExists, SessionNotFound, StoreDamaged
from ..model import Message, SessionHeader, check_session_id, check_text, format_ms, parse_time
from .contract import Backend, Selection, User
from .delta import Delta, Snapshot
from .items import Item, item, message
from .postgres_link import Link, Row, Work
from .postgres_save import COLUMNS, RECOUNT, append, carried, given, save
from .postgres_schema import ready
from .session import Limits

T = TypeVar("T")

_PAGE_BYTES = 1 << 20

_ORDERS = {"updated": "updated_ms DESC, id", "created": "created_ms, no", "title": "no"}

_NEWEST = """
SELECT sessions.pushed, page.body FROM steno.sessions LEFT JOIN LATERAL (
    SELECT place, body FROM steno.messages WHERE session = sessions.no AND place > sessions.hidden_upto
    ORDER BY place DESC LIMIT %s
) AS page ON true WHERE sessions.id = %s AND sessions.deleted_ms IS NULL ORDER BY page.place
"""

_PAGE = """
SELECT page.place, page.body FROM steno.sessions LEFT JOIN LATERAL (
    SELECT place, body, sum(octet_length(body)) OVER (ORDER BY place) - octet_length(body) AS before FROM (
        SELECT place, body FROM steno.messages
        WHERE session = sessions.no AND place > greatest(sessions.hidden_upto, %s) ORDER BY place LIMIT 64
    ) AS next
) AS page ON page.before <= %s
WHERE sessions.id = %s AND sessions.deleted_ms IS NULL ORDER BY page.place
"""


class PostgresSessionStore(Backend):
    """Sessions in one schema of a PostgreSQL database; its tables are made at the first call.

    ``pool_size`` bounds the connections that are open at once. ``clock`` gives UTC ms, ``ids`` that many random
    characters. Raises `MissingDriver`, and `InvalidInput` for what is no URL. Needs PostgreSQL 12 or later.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "steno",
        pool_size: int = 5,
        limits: Limits = Limits(),  # noqa: B008  a frozen value
        clock: Callable[[], int] = wall_ms,
        ids: Callable[[int], str] = random_text,
    ) -> None:
        self.clock, self.ids, self.limits = clock, ids, limits
        self._link = Link(url, schema=schema, pool_size=pool_size, prepare=ready)

    def close(self) -> None:
        """Close the connections; called twice it does nothing."""
        self._link.close()

    # Saving

    def apply(self, delta: Delta) -> SessionHeader:
        """Bring a session up to a delta: in one statement where it only adds messages, else in one transaction."""
        check_session_id(delta.id)
        items = [item(each) for each in delta.added]
        try:
            row = self._link.run(lambda work: _saved(work, delta, items))
        except SessionExists:
            return self.made_before(delta)
        if row is None:
            raise SessionDeleted(session=delta.id)
        return self._snapshot(row).header

    # Reading

    def snapshot(self, session_id: str, *, deleted: bool = False) -> Snapshot | None:
        """A session's header, and how many messages were ever pushed to it."""
        row = self._row(f"SELECT {COLUMNS} FROM steno.sessions WHERE id = %s", (check_session_id(session_id),))  # noqa: S608
        found = None if row is None else self._snapshot(row)
        return None if found is None or (found.header.deleted_at is not None and not deleted) else found

    def snapshots(self, selection: Selection) -> list[Snapshot]:
        """The headers of the sessions that are meant."""
        where, values = _conditions(selection)
        order = f"SELECT {COLUMNS} FROM steno.sessions WHERE {where} ORDER BY {_ORDERS[selection.sort]}"  # noqa: S608
        end = None if selection.limit is None else selection.offset + selection.limit
        if selection.sort == "title":  # as Python folds it, which no collation does
            found = [self._snapshot(row) for row in self._rows(order, values)]
            found.sort(key=lambda each: (each.header.title.casefold(), each.header.id))
            return found[selection.offset : end]
        rows = self._rows(f"{order} LIMIT %s OFFSET %s", [*values, selection.limit, selection.offset])
        return [self._snapshot(row) for row in rows]

    def count(self, selection: Selection = Selection()) -> int:  # noqa: B008  a frozen value
        """How many sessions are meant."""
        where, values = _conditions(selection)
        row = self._row(f"SELECT count(*) FROM steno.sessions WHERE {where}", values)  # noqa: S608
        return 0 if row is None else row[0]

    def newest(self, session_id: str, limit: int | None) -> tuple[list[Message], int]:
        """The newest messages of a session, oldest first."""
        rows = self._rows(_NEWEST, (limit, check_session_id(session_id)))
        bodies = [body for _, body in rows if body is not None]
        return [self._message(body, session_id) for body in bodies], rows[0][0] if rows else 0

    def stream(self, session_id: str) -> Iterator[Message]:
        """All messages in order, in bounded memory; what arrives meanwhile comes too."""
        after = 0
        while True:
            rows = self._rows(_PAGE, (after, _PAGE_BYTES, check_session_id(session_id)))
            if not rows:
                raise SessionNotFound(ref=session_id)
            if rows[-1][0] is None:
                return
            after = rows[-1][0]
            for _, body in rows:
                yield self._message(body, session_id)

    # Deleting

    def delete(self, session_id: str) -> bool:
        """Hide a session until it is restored or purged."""
        return self._changed(
            "UPDATE steno.sessions SET deleted_ms = %(now)s, touched_ms = greatest(touched_ms, %(now)s) "
            "WHERE id = %(id)s AND deleted_ms IS NULL",
            {"id": check_session_id(session_id), "now": self.clock()},
        )

    def restore(self, session_id: str) -> bool:
        """Show a deleted session again with its messages, also with those that it lost by being written to since."""
        check_session_id(session_id)
        return self._link.run(lambda work: _restored(work, session_id, now_ms=self.clock()))

    def purge(self, session_id: str) -> bool:
        """Remove a session for good."""
        return self._changed("DELETE FROM steno.sessions WHERE id = %s", (check_session_id(session_id),))

    # Users

    def find_user(self, user_id: str) -> User | None:
        """The profile of a user."""
        row = self._row(
            "SELECT profile::text FROM steno.users WHERE id = %s AND deleted_ms IS NULL",
            (carried(check_text(user_id, "user id")),),
        )
        return None if row is None else self._user(row)

    def save_user(self, user: User) -> None:
        """Keep a profile."""
        self._changed(
            "INSERT INTO steno.users (id, created_ms, deleted_ms, profile) VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO "
            "UPDATE SET created_ms = excluded.created_ms, deleted_ms = excluded.deleted_ms, profile = excluded.profile",
            (
                check_session_id(user.id), parse_time(user.created_at),
                None if user.deleted_at is None else parse_time(user.deleted_at), msgspec.json.encode(user).decode(),
            ),
        )  # fmt: skip

    def users(self, *, limit: int | None = None, offset: int = 0) -> Sequence[User]:
        """Profiles in the order in which they were made."""
        sql = (
            "SELECT profile::text FROM steno.users WHERE deleted_ms IS NULL ORDER BY created_ms, id LIMIT %s OFFSET %s"
        )
        return [self._user(row) for row in self._rows(sql, (limit, offset))]

    # What stands there

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        return self._link.run(lambda work: work.rows(sql, values))

    def _row(self, sql: str, values: Sequence[Any]) -> Row | None:
        return self._link.run(lambda work: work.row(sql, values))

    def _changed(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> bool:
        return self._link.run(lambda work: work.do(sql, values)) > 0

    def _snapshot(self, row: Row) -> Snapshot:
        (
            _, session_id, title, automatic, status, provider, model, user_id, tags, metadata, state, forked_from,
            created_ms, updated_ms, deleted_ms, message_count, size_bytes, pushed,
        ) = row  # fmt: skip
        header = SessionHeader(
            id=session_id,
            title=given(title) or "",
            status=status,
            provider=given(provider),
            model=given(model),
            user_id=given(user_id),
            tags=self._json(tags, session_id),
            metadata=self._json(metadata, session_id),
            state=self._json(state, session_id),
            created_at=format_ms(created_ms),
            updated_at=format_ms(updated_ms),
            message_count=message_count,
            deleted_at=None if deleted_ms is None else format_ms(deleted_ms),
            forked_from=None if forked_from is None else self._json(forked_from, session_id),
            automatic_title=automatic,
            size_bytes=size_bytes,
        )
        return Snapshot(header, pushed)

    def _json(self, text: str, session_id: str) -> Any:
        return self._opened(msgspec.json.decode, text, f"session {session_id}")

    def _message(self, body: str, session_id: str) -> Message:
        return self._opened(message, body, f"session {session_id}")

    def _user(self, row: Row) -> User:
        return self._opened(_decode_user, row[0], "the profile of a user")

    def _opened(self, decode: Callable[[str], T], text: str, what: str) -> T:
        try:
            return decode(text)
        except msgspec.DecodeError as exc:
            raise StoreDamaged(server=self._link.server, what=what, reason=str(exc)) from exc


def _saved(work: Work, delta: Delta, items: Sequence[Item]) -> Row | None:
    if items and delta.only_adds:
        try:
            return append(work, delta, items)
        except work.duplicate:
            pass  # a save that was repeated, in part perhaps
    return save(work, delta, items)


def _restored(work: Work, session_id: str, *, now_ms: int) -> bool:
    with work.transaction():
        row = work.row(
            "SELECT no, deleted_ms IS NOT NULL OR EXISTS (SELECT 1 FROM steno.messages WHERE session = no AND "
            "place <= hidden_upto) FROM steno.sessions WHERE id = %s FOR UPDATE",
            (session_id,),
        )
        if row is None:
            return False
        no, hides = row
        if hides:
            work.do(
                "UPDATE steno.sessions SET deleted_ms = NULL, hidden_upto = 0, touched_ms = greatest(touched_ms, %s) "
                "WHERE no = %s",
                (now_ms, no),
            )
            work.do(RECOUNT, (no,))
        return True


def _conditions(selection: Selection) -> tuple[str, list[Any]]:
    user, title = carried(selection.user_id), carried(selection.title)
    wanted: list[tuple[str, Any]] = [
        ("left(user_id, 255) = left(%s, 255)", user),  # as the index has it, which cannot hold long ones
        ("user_id = %s", user),
        ("agent_id = %s", carried(selection.agent_id)),
        ("left(shown, 255) = left(%s, 255)", title),
        ("shown = %s", title),
        ("status = %s", selection.status),
        ("updated_ms >= %s", selection.since_ms),
        ("updated_ms < %s", selection.before_ms),
    ]
    kept = [(text, value) for text, value in wanted if value is not None]
    texts = [f"deleted_ms IS {'NOT NULL' if selection.deleted else 'NULL'}", *(text for text, _ in kept)]
    if not selection.archived:
        texts.append("status <> 'archived'")
    return " AND ".join(texts), [value for _, value in kept]


_decode_user = msgspec.json.Decoder(User).decode
