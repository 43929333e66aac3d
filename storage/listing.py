"""Which sessions a list shows, and in which order.

A filter is a value; all that it says must hold. Text is compared without case, in any script
(tests/unit/test_listing.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .errors import AmbiguousRef, SessionNotFound
from .model import SessionHeader, parse_time
from .store import Store

Condition = tuple[str, tuple[Any, ...]]

SORTS = {"date": ("updated_ms", True), "title": ("folded(title)", False), "messages": ("message_count", True)}
"""What can be sorted by: the SQL of it, and whether the greatest comes first."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What sessions must be; None and nothing ask for nothing. Times are of the last write."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    user_id: str | None = None
    status: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None
    shared: bool = False
    """Shared with others. Nothing can be shared yet, so no session is."""
    also: tuple[Condition, ...] = ()
    """Further conditions of SQL on the table of sessions, each with its values."""

    def conditions(self) -> list[Condition]:
        """The same as conditions of SQL on the table of sessions."""
        wanted: list[tuple[str, Any]] = [
            ("instr(folded(title), ?) > 0", None if self.title is None else self.title.casefold()),
            *(("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)", tag.strip()) for tag in self.tags),
            ("json_extract(metadata, '$.project') = ?", self.project),
            ("lower(provider) = lower(?)", self.provider),
            ("model = ?", self.model),
            ("user_id = ?", self.user_id),
            ("status = ?", self.status),
            ("updated_ms >= ?", self.since_ms),
            ("updated_ms < ?", self.before_ms),
        ]
        shared: list[Condition] = [("FALSE", ())] if self.shared else []
        return [*((text, (value,)) for text, value in wanted if value is not None), *shared, *self.also]


def listed(
    store: Store,
    chosen: Filter,
    *,
    sort: str = "date",
    reverse: bool = False,
    limit: int | None = None,
    deleted: bool = False,
    after: tuple[Any, str] | None = None,
) -> Iterator[SessionHeader]:
    """The sessions that a filter chooses; ``sort`` is one of `SORTS`, ``reverse`` turns the whole order around.

    ``after`` continues behind the `place` of the last one seen.
    """
    order, descending = SORTS[sort]
    return store.sessions(
        where=chosen.conditions(),
        order=order,
        descending=descending != reverse,
        limit=limit,
        deleted=deleted,
        after=after,
    )


def place(session: SessionHeader, *, sort: str) -> tuple[int | str, str]:
    """Where a session stands in a list: behind it goes on what is ``listed`` ``after`` that."""
    if sort == "title":
        return session.title.casefold(), session.id
    return session.message_count if sort == "messages" else parse_time(session.updated_at), session.id


def resolve_deleted(store: Store, ref: str) -> str:
    """The id of the deleted session that a reference means: an id, its unique prefix, or an exact title."""
    for where, parameters in (
        ("id = ?", (ref,)),
        ("id >= ? AND id < ?", (ref, ref + "\U0010ffff")),
        ("title = ?", (ref,)),
    ):
        sql = f"SELECT id FROM sessions WHERE hidden = 1 AND {where} ORDER BY id LIMIT 6"  # noqa: S608
        found = [row[0] for row in store.execute(sql, parameters)] if ref else []
        if len(found) > 1:
            raise AmbiguousRef(ref=ref, candidates=found)
        if found:
            return found[0]
    raise SessionNotFound(ref=ref)
