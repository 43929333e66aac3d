"""A session and a message as they stand in Redis, where `redis_scripts` keeps them.

What a script must know stands beside JSON that none reads (tests/contract/test_redis_store.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..document import patched
from ..model import Json, SessionHeader, format_ms
from .contract import Selection
from .delta import Delta, Snapshot
from .items import Item


class Fixed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a header no script reads; a save replaces it as a whole."""

    created_ms: int
    forked_from: dict[str, Json] | None = None
    title: str | None = None
    provider: str | None = None
    model: str | None = None
    user_id: str | None = None
    tags: list[str] = []
    metadata: dict[str, Json] = {}
    state: dict[str, Json] = {}

    @property
    def agent_id(self) -> str | None:
        """``metadata.agent_id`` where that is text."""
        value = self.metadata.get("agent_id")
        return value if isinstance(value, str) else None

    def after(self, delta: Delta) -> Fixed:
        """What it is once a save has patched it."""
        return msgspec.structs.replace(
            self,
            **{name: value for name, value in delta.fields.items() if name != "status"},
            tags=delta.tags_after(self.tags),
            metadata=patched(self.metadata, delta.metadata),
            state=patched(self.state, delta.state),
        )


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the scripts keep it, as far as it is shown."""

    fixed: str
    status: str
    automatic: str
    count: int
    size: int
    newest: int
    touched: int
    version: int
    pushed: int
    deleted: int | None = None


class Found(msgspec.Struct, frozen=True):
    """A session that was found."""

    id: str
    fixed: Fixed
    head: Head

    @property
    def title(self) -> str:
        """The title that was given, else the one made of the first words."""
        return self.fixed.title or self.head.automatic

    @property
    def updated_ms(self) -> int:
        """When it was last written to."""
        return max(self.head.touched, self.head.newest)

    @property
    def header(self) -> SessionHeader:
        """The same as everybody sees it."""
        fixed, head = self.fixed, self.head
        return SessionHeader(
            id=self.id,
            title=self.title,
            status=head.status,
            provider=fixed.provider,
            model=fixed.model,
            user_id=fixed.user_id,
            tags=fixed.tags,
            metadata=fixed.metadata,
            state=fixed.state,
            created_at=format_ms(fixed.created_ms),
            updated_at=format_ms(self.updated_ms),
            message_count=head.count,
            deleted_at=None if head.deleted is None else format_ms(head.deleted),
            forked_from=fixed.forked_from,
            automatic_title=not fixed.title,
            size_bytes=head.size,
        )

    @property
    def snapshot(self) -> Snapshot:
        """The header with its revision."""
        return Snapshot(self.header, self.head.pushed)

    def picked(self, selection: Selection) -> bool:
        """Say whether it is meant."""
        fixed, status = self.fixed, self.head.status
        return (
            selection.deleted == (self.head.deleted is not None)
            and selection.user_id in (None, fixed.user_id)
            and selection.agent_id in (None, fixed.agent_id)
            and selection.title in (None, self.title)
            and selection.status in (None, status)
            and (selection.archived or status != "archived")
            and (selection.since_ms is None or self.updated_ms >= selection.since_ms)
            and (selection.before_ms is None or self.updated_ms < selection.before_ms)
        )


ORDERS: dict[str, Callable[[Found], Any]] = {
    "updated": lambda found: (-found.updated_ms, found.id),
    "created": lambda found: (found.fixed.created_ms, found.id),
    "title": lambda found: (found.title.casefold(), found.id),
}


def line_of(item: Item) -> bytes:
    """The item of the list: what the scripts count, and the message."""
    counted = f"{item.size_bytes}\t{item.time_ms}\t{item.id}\t{item.title}\n"
    return counted.encode() + item.text


def text_of(line: bytes) -> bytes:
    """The message of an item of the list, as JSON."""
    return line.partition(b"\n")[2]


def found(session_id: str, packed: bytes) -> Found:
    """The session that stands under a key; raises `msgspec.DecodeError` for what is none."""
    head = _decode_head(packed)
    return Found(session_id, _decode_fixed(head.fixed), head)


_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_fixed = msgspec.json.Decoder(Fixed).decode
