"""What a save sends: what changed in a session since it was loaded, never the session.

So two programs that save the same session both keep their messages, and saving costs what
changed (tests/contract/test_session_stores.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..document import patched
from ..model import Json, Message, SessionHeader, format_ms

FIELDS = ("title", "status", "provider", "model", "user_id")
"""The fields of a session that can be changed one by one."""

Leaves = Sequence[tuple[str, bytes]]
"""Leaves of a JSON object that were set or removed: (JSON pointer, JSON text or `registers.REMOVED`)."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was done to one session between two saves, to be applied all or not at all.

    A store applies it in this order: make the session if it is ``new`` and not there; ``cleared_upto``;
    ``removed``; ``edited``; ``added`` (which makes an archived session active); ``fields``, tags and documents.
    """

    id: str
    touched_ms: int
    """When the save was made, UTC ms."""
    life: int = 1
    """Which life of the id was loaded: a save does not reach into a later one (`SessionHeader.life`)."""
    fresh: bool = False
    """The session must not be there yet, else `SessionExists`."""
    new: bool = False
    """The session was made here: it need not be in the store. If it is, it is added to; if it was deleted, woken."""
    created_ms: int = 0
    forked_from: dict[str, Json] | None = None
    local_only: bool = False
    """These are of a new session alone."""
    cleared_upto: int | None = None
    """Every message that had arrived at this revision is removed."""
    touched: bool = False
    """The session was written to, if only in name: `touched_ms` counts without anything else."""
    removed: Sequence[str] = ()
    """Ids of messages to remove; one that is not there is no error."""
    edited: Mapping[str, Mapping[str, Any]] = {}
    """By message id the fields that changed: content, sender, model, usage; of metadata its `Leaves`."""
    added: Sequence[Message] = ()
    """Messages to append, in order. One that the session shows already, equal in role and content, is a save that was
    repeated: skipped. Where other messages have, or had, some of the ids, `MessageIdsTaken` is raised."""
    fields: Mapping[str, Json] = {}
    tags: tuple[Sequence[str], Sequence[str]] = ((), ())
    """Tags to add, in order, and to remove."""
    tag_order: Sequence[str] = ()
    """All tags in the order that they are to have, where it is another one than adding and removing gives."""
    metadata: Leaves = ()
    state: Leaves = ()

    @property
    def changes_header(self) -> bool:
        """Say whether it says anything of the session besides its messages."""
        return bool(self.touched or self.fields or any(self.tags) or self.tag_order or self.metadata or self.state)

    @property
    def rewrites(self) -> bool:
        """Say whether it takes away or changes messages that are there."""
        return bool(self.cleared_upto is not None or self.removed or self.edited)

    @property
    def only_adds(self) -> bool:
        """Say whether it does nothing to a session but add messages to it."""
        return not (self.new or self.rewrites or self.changes_header)

    def tags_after(self, before: Iterable[str]) -> list[str]:
        """The tags of a session that had some before."""
        added, removed = self.tags
        tags = list(dict.fromkeys([*(tag for tag in before if tag not in removed), *added]))
        order = {tag: at for at, tag in enumerate(self.tag_order)}
        return sorted(tags, key=lambda tag: order.get(tag, len(order))) if order else tags

    def is_all_of(self, header: SessionHeader, messages: Sequence[Message]) -> bool:
        """Say whether a session that is there is what this makes where there is none."""
        return (
            [each.id for each in messages] == [each.id for each in self.added]
            and (header.created_at, header.forked_from) == (format_ms(self.created_ms), self.forked_from)
            and all(getattr(header, name) == value for name, value in self.fields.items())
            and header.tags == self.tags_after([])
            and header.metadata == patched({}, self.metadata)
            and header.state == patched({}, self.state)
        )

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to save."""
        return self.only_adds and not self.added


class Snapshot(msgspec.Struct, frozen=True):
    """A session's header and the revision of the store at which it was read.

    A revision is any number that grows with each change of that session: what had arrived at it can be cleared.
    """

    header: SessionHeader
    revision: int
