"""What a store of sessions is, to the manager and to whoever writes one.

`SessionStore` is the small contract that a class of your own fulfils, sync or async; `Backend` is
what the manager asks of any store, with answers made from the small contract, so that ours only
say what they can do better (tests/contract/test_session_stores.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from ..database import random_text, wall_ms
from ..document import merge_patch
from ..errors import (
    AmbiguousRef,
    InvalidInput,
    MessageIdsTaken,
    MessageNotFound,
    SessionExists,
    SessionNotFound,
    Unsupported,
)
from ..model import Json, Message, SessionHeader, check_count, check_status, check_text, object_of
from .delta import Delta, Snapshot
from .session import Limits, Session


class SessionStore:
    """A store of sessions: the four methods that it must have, and `list_all` where it can. Each may be ``async``.

    A store that keeps whole sessions reads them with `Session.to_dict` and makes them with `Session.from_dict`.
    """

    def save(self, session: Session) -> Any:
        """Keep a session and its messages; one that is there already is brought up to it."""
        raise NotImplementedError

    def get(self, session_id: str) -> Any:
        """The session with all its messages, or None."""
        raise NotImplementedError

    def delete(self, session_id: str) -> Any:
        """Delete a session; True, or None, where there was one and False where there was none."""
        raise NotImplementedError

    def list_for_user(self, user_id: str) -> Any:
        """The sessions of a user, archived ones included."""
        raise NotImplementedError

    def list_all(self) -> Any:
        """Every session, archived ones included."""
        raise Unsupported(store=type(self).__name__, what="list of all sessions (list_all)")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions are meant, all conditions together, and in which order: None asks for nothing.

    Times are of the last write, UTC ms; ``before_ms`` is exclusive. ``sort`` is "updated" (newest first), "created"
    (oldest first) or "title". Deleted sessions are meant only by ``deleted``. Raises `InvalidInput`.
    """

    user_id: str | None = None
    agent_id: str | None = None
    title: str | None = None
    status: str | None = None
    archived: bool = True
    deleted: bool = False
    since_ms: int | None = None
    before_ms: int | None = None
    sort: str = "updated"
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        for name in ("user_id", "agent_id", "title", "sort"):
            value = getattr(self, name)
            if value is not None:
                check_text(value, name)
        if self.status is not None:
            check_status(self.status)
        if self.sort not in _SORTS:
            raise InvalidInput(f"sessions are not sorted by {self.sort} (but by {', '.join(_SORTS)})")
        if self.limit is not None:
            check_count(self.limit, "limit")
        check_count(self.offset, "offset")

    def picks(self, session: Session) -> bool:
        """Say whether a session is meant; deletion is the store's to know."""
        updated_ms = int(session.updated_at.timestamp() * 1000)
        return (
            self.user_id in (None, session.user_id)
            and self.agent_id in (None, session.agent_id)
            and self.title in (None, session.title)
            and self.status in (None, session.status)
            and (self.archived or session.status != "archived")
            and (self.since_ms is None or updated_ms >= self.since_ms)
            and (self.before_ms is None or updated_ms < self.before_ms)
        )

    def of(self, sessions: Iterable[Session]) -> list[Session]:
        """Those of some sessions that are meant, in order, within the limit."""
        chosen = sorted((each for each in sessions if self.picks(each)), key=_SORTS[self.sort])
        return chosen[self.offset : None if self.limit is None else self.offset + self.limit]


_SORTS: dict[str, Callable[[Session], Any]] = {
    "updated": lambda session: (-session.updated_at.timestamp(), session.id),
    "created": lambda session: (session.created_at, session.id),
    "title": lambda session: (session.title.casefold(), session.id),
}


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Whom sessions belong to. Profiles are kept by the store they were made in and are not synced."""

    id: str
    created_at: str
    updated_at: str
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    metadata: dict[str, Json] = {}
    deleted_at: str | None = None


class Backend(SessionStore):
    """A store as the manager sees it: synchronous, from any thread, and complete."""

    clock: Callable[[], int] = staticmethod(wall_ms)
    ids: Callable[[int], str] = staticmethod(random_text)
    limits = Limits()
    keeps_local_only = False
    """Whether it is a file of this device, which may hold what is not to leave it."""

    @property
    def kind(self) -> str:
        """The name of the class that somebody chose."""
        return type(self).__name__

    def close(self) -> None:
        """Give back what the store holds; called twice it does nothing."""

    # What a back end must answer: a session's header and messages, and what a save sends.

    def apply(self, delta: Delta) -> SessionHeader:
        """Bring a session up to a delta, all or nothing, and return its header as it stands then.

        Raises `SessionDeleted` where it was deleted or purged and the delta is not ``new``.
        """
        raise NotImplementedError

    def snapshot(self, session_id: str, *, deleted: bool = False) -> Snapshot | None:
        """A session's header; None where there is none, or where it is deleted and those are not asked for."""
        raise NotImplementedError

    def newest(self, session_id: str, limit: int | None) -> tuple[list[Message], int]:
        """The newest messages, oldest first (None: all), and the revision at which they were read."""
        raise NotImplementedError

    def stream(self, session_id: str) -> Iterator[Message]:
        """All messages in order, a few at a time; raises `SessionNotFound`."""
        raise NotImplementedError

    def snapshots(self, selection: Selection) -> Sequence[Snapshot]:
        """The headers of the sessions that are meant."""
        raise NotImplementedError

    def delete(self, session_id: str) -> bool:
        """Hide a session until it is restored; False where there is none, or none any more."""
        raise NotImplementedError

    def restore(self, session_id: str) -> bool:
        """Show a deleted session again with its messages; False where there is none or it is purged."""
        raise NotImplementedError

    def purge(self, session_id: str) -> bool:
        """Remove a session for good, deleted or not; False where there is none."""
        raise NotImplementedError

    def find_user(self, user_id: str) -> User | None:
        """The profile of a user; None where there is none or it was deleted."""
        raise NotImplementedError

    def save_user(self, user: User) -> None:
        """Keep a profile; one with ``deleted_at`` is hidden."""
        raise NotImplementedError

    def users(self, *, limit: int | None = None, offset: int = 0) -> Sequence[User]:
        """Profiles in the order in which they were made."""
        raise NotImplementedError

    # What follows from that.

    def save(self, session: Session) -> None:
        """Send what was done to a session since it was loaded or saved; without anything it does nothing."""
        with session.lock:
            delta = session.delta()
            if delta.empty:
                return
            self.check_stays(local_only=delta.local_only)
            session.offered(delta)
            try:
                header = self.apply(delta)
            except MessageIdsTaken as exc:
                session.renew(exc.ids)
                delta = session.delta()
                session.offered(delta)
                header = self.apply(delta)
            session.attach(self)
            session.saved(delta, header)

    def check_stays(self, *, local_only: bool) -> None:
        """Raise `Unsupported` where a local-only session would leave this device."""
        if local_only and not self.keeps_local_only:
            raise Unsupported(store=self.kind, what="local-only session")

    def made_before(self, delta: Delta) -> SessionHeader:
        """The session that a save was to make, where it did: a server is told again when its answer was lost.

        Raises `SessionExists` where it is somebody else's.
        """
        there = self.snapshot(delta.id)
        if there is None or there.header.message_count != len(delta.added):
            raise SessionExists(session=delta.id)
        if not delta.is_all_of(there.header, self.newest(delta.id, None)[0]):
            raise SessionExists(session=delta.id)
        return there.header

    def get(self, session_id: str, *, deleted: bool = False) -> Session | None:
        """A session, whose messages are fetched when they are looked at."""
        found = self.snapshot(session_id, deleted=deleted)
        return None if found is None else self._session(found)

    def list_for_user(self, user_id: str) -> list[Session]:
        """The sessions of a user, the last written to first."""
        return self.select(Selection(user_id=user_id))

    def list_all(self) -> list[Session]:
        """Every session, the last written to first."""
        return self.select(Selection())

    def select(self, selection: Selection) -> list[Session]:
        """The sessions that are meant; their messages are fetched when they are looked at."""
        return [self._session(found) for found in self.snapshots(selection)]

    def count(self, selection: Selection = Selection()) -> int:  # noqa: B008  a frozen value
        """How many sessions are meant."""
        return len(self.snapshots(selection))

    def page(self, session_id: str, *, skip: int, limit: int | None) -> list[Message]:
        """Messages of a session in order, ``skip`` of them left out (None: to the end)."""
        return list(islice(self.stream(session_id), skip, None if limit is None else skip + limit))

    def find_message(self, session_id: str, message_id: str) -> Message | None:
        """One message of a session, or None."""
        return next((each for each in self.newest(session_id, None)[0] if each.id == message_id), None)

    def delete_where(self, selection: Selection, *, dry_run: bool = False) -> list[str]:
        """Delete the sessions that are meant, with ``dry_run`` none, and return their ids."""
        ids = [session.id for session in self.select(selection)]
        return ids if dry_run else [each for each in ids if self.delete(each)]

    def archive_inactive(self, *, before_ms: int) -> int:
        """Archive the sessions last written to before a time, and say how many those were."""
        idle = self.select(Selection(before_ms=before_ms, archived=False))
        for session in idle:
            session.status = "archived"
            self.save(session)
        return len(idle)

    def resolve(self, ref: str) -> str:
        """The id that a reference means: an id, its beginning, a title whatever its case, or a part of a title.

        Raises `SessionNotFound`, and `AmbiguousRef` naming the candidates.
        """
        known = self.list_all() if check_text(ref, "a session's id or title").strip() else []
        sought = ref.casefold()
        for means in (
            lambda each: each.id == ref,
            lambda each: each.id.startswith(ref),
            lambda each: each.title.casefold() == sought,
            lambda each: sought in each.title.casefold(),
        ):
            found = sorted(each.id for each in known if means(each))
            if len(found) > 1:
                raise AmbiguousRef(ref=ref, candidates=found[:6])
            if found:
                return found[0]
        raise SessionNotFound(ref=ref)

    def fork(
        self,
        session_id: str,
        *,
        at: str | None = None,
        title: str | None = None,
        reason: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Session:
        """A new session with a copy of the messages up to and including ``at``, None: of all, in one write.

        It has what its original has; ``metadata`` is merged into the original's, ``fields`` are the provider, model,
        user_id and tags that it is to have instead. Raises `SessionNotFound`, `MessageNotFound` and `InvalidInput`.
        """
        original = self.get(session_id)
        if original is None:
            raise SessionNotFound(ref=session_id)
        known = original.all_messages()
        ids = [message.id for message in known]
        if at is not None and at not in ids:
            raise MessageNotFound(session=session_id, message=at)
        copied = known[: len(known) if at is None else ids.index(at) + 1]
        point: dict[str, Json] = {"session": session_id, "message": copied[-1].id if copied else None}
        kept = {name: getattr(original, name) for name in ("provider", "model", "user_id", "tags")}
        fork = Session(
            metadata=merge_patch(original.metadata, {} if metadata is None else object_of(metadata, "metadata")),
            title=title or f"Fork of {original.title or original.id}",
            **{**kept, **(fields or {})},
            forked_from={key: value for key, value in {**point, "reason": reason}.items() if value is not None},
            clock=self.clock,
            ids=self.ids,
            limits=self.limits,
        )
        fork.take_copies(copied)
        if len(copied) == len(known):
            fork.take_state(original)
        self.save(fork)
        return fork

    def _session(self, found: Snapshot) -> Session:
        return Session.of(
            found.header, self, revision=found.revision, clock=self.clock, ids=self.ids, limits=self.limits
        )
