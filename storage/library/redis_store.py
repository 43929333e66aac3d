"""Sessions in Redis, for programs on several machines: messages as items of a list, so that a save appends.

A save is one script, which does all of it or nothing and says what stands there then. Done twice it does no more
than once. What is patched (fields, tags, metadata, state, edits of messages) is patched here, and the script refuses
what was patched in an older version; then it is patched again (tests/contract/test_redis_store.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from ..database import random_text, wall_ms
from ..errors import InvalidInput, MessageIdsTaken, SessionDeleted, SessionNotFound, StoreDamaged, StoreRefused
from ..model import Message, SessionHeader, check_session_id, check_text, parse_time
from . import redis_scripts as scripts
from .contract import Backend, Selection, User
from .delta import Delta, Snapshot
from .items import edited, item, message, repeated
from .redis_link import Link, Script
from .redis_records import ORDERS, Fixed, Found, found, line_of, text_of
from .session import Limits

T = TypeVar("T")

_PAGE_BYTES = 1 << 20
_PAGE_SESSIONS = 256
_STALE = _UNDECIDED = 0
"""What a script answers that did nothing: for it was told of an older version, or is not the one to do it."""

_TIMED = ("all", "user:", "deleted")
"""The beginnings of those indexes that are sorted by the last write."""

_APPEND, _SAVE, _HIDE, _RESTORE, _PURGE, _BASE, _NEWEST, _PAGE, _HEADERS, _ALIVE, _PROFILE = map(
    Script,
    (
        scripts.APPEND, scripts.SAVE, scripts.HIDE, scripts.RESTORE, scripts.PURGE, scripts.BASE,
        scripts.NEWEST, scripts.PAGE, scripts.HEADERS, scripts.ALIVE, scripts.PROFILE,
    ),
)  # fmt: skip


class _Base(NamedTuple):
    """What a save patches: the version and header that stood there, and edited messages' items as they are to be."""

    version: int
    fixed: Fixed
    edits: list[tuple[str, str]]


class RedisSessionStore(Backend):
    """Sessions in one Redis database; every key begins with ``prefix``.

    ``ttl`` is how many seconds a session lives after each save of it; None keeps it until it is purged. An expired
    session is gone: it is not found, listed or counted. ``clock`` gives UTC ms, ``ids`` that many random characters.
    Nothing is sent before the first call. Raises `MissingDriver`, and `InvalidInput` for what is no URL.
    Needs Redis 6 or later, and one server: the keys of one save do not lie in one slot of a Redis Cluster.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        prefix: str = "steno:sessions:",
        ttl: int | None = None,
        *,
        limits: Limits = Limits(),  # noqa: B008  a frozen value
        clock: Callable[[], int] = wall_ms,
        ids: Callable[[int], str] = random_text,
    ) -> None:
        if ttl is not None and ttl < 1:
            raise InvalidInput("ttl must be a number of seconds above 0")
        self.clock, self.ids, self.limits = clock, ids, limits
        self.prefix, self.ttl = prefix, ttl
        self._link = Link(url)

    def close(self) -> None:
        """Close the connections; called twice it does nothing."""
        self._link.close()

    # Saving

    def apply(self, delta: Delta) -> SessionHeader:
        """Bring a session up to a delta in one step."""
        if delta.only_adds and self.ttl is None:
            reply = self._appended(delta)
            if reply != _UNDECIDED:
                return self._found(delta.id, reply).header
        base = None if delta.new or not _patches(delta) else self._base(delta)
        added = delta.added
        while True:
            lines = [part for each in added for part in (each.id, line_of(item(each)))]
            reply = self._run(_SAVE, delta.id, _encode(self._request(delta, base)), *lines)
            if reply is None:
                raise SessionDeleted(session=delta.id)
            if reply == _STALE and delta.fresh:
                return self.made_before(delta)
            if reply == _STALE:
                base = self._base(delta)
            elif isinstance(reply, list):
                added = self._unrepeated(delta, added, *reply)
            else:
                return self._found(delta.id, reply).header

    def _appended(self, delta: Delta) -> Any:
        items = [item(each) for each in delta.added]
        counted = [(each.id, each.size_bytes, each.time_ms) for each in items]
        key = f"{self.prefix}session:{check_session_id(delta.id)}"
        return self._link.run(_APPEND, (key,), _encode((self.prefix, delta.id, counted)), *map(line_of, items))

    def _unrepeated(
        self, delta: Delta, added: Sequence[Message], ids: Sequence[bytes], lines: Sequence[bytes | None]
    ) -> list[Message]:
        """The messages to add without those that are there; raises `MessageIdsTaken` where others have their ids."""
        there = {id_.decode(): None if line is None else text_of(line) for id_, line in zip(ids, lines, strict=True)}

        def differs(each: Message) -> bool:
            changed = delta.edited.get(each.id)  # a draft that was sent before, and edited since

            def same(text: str | None) -> bool:
                if changed is not None and text is not None:
                    return repeated(each, edited(text, changed).text)
                return repeated(each, text)

            return not self._opened(same, there[each.id], f"session {delta.id}")

        taken = [each.id for each in added if each.id in there and differs(each)]
        if taken:
            raise MessageIdsTaken(session=delta.id, ids=taken)
        return [each for each in added if each.id not in there]

    def _base(self, delta: Delta) -> _Base | None:
        """What stands there that the delta patches; None where there is no session."""
        reply = self._run(_BASE, delta.id, *delta.edited)
        if reply is None:
            return None
        packed, lines = reply
        there = self._found(delta.id, packed)
        edits = [
            (id_, line_of(self._opened(lambda text, m=changed: edited(text, m), text_of(line), f"session {delta.id}")))
            for (id_, changed), line in zip(delta.edited.items(), lines, strict=True)
            if line is not None
        ]
        return _Base(there.head.version, there.fixed, [(id_, line.decode()) for id_, line in edits])

    def _request(self, delta: Delta, base: _Base | None) -> dict[str, Any]:
        """What the script is told; what is not there is nothing to do."""
        request: dict[str, Any] = {"new": delta.new, "touched": delta.touched_ms}
        if self.ttl is not None:
            request["ttl"] = self.ttl
        patches = _patches(delta)
        if delta.new or patches:
            begin = Fixed(created_ms=delta.created_ms, forked_from=delta.forked_from)
            fixed = (begin if base is None else base.fixed).after(delta)
            request |= {
                "version": 0 if base is None else base.version,
                "created": fixed.created_ms,
                "fixed": _encode_json(fixed).decode(),
                "title": fixed.title or False,
                "user": fixed.user_id or False,
                "agent": fixed.agent_id or False,
            }
            if "status" in delta.fields:
                request["status"] = delta.fields["status"]
        if delta.rewrites:
            request |= {
                "rewrites": True,
                "removed": list(delta.removed),
                "edited": [] if base is None else base.edits,
            }
            if delta.cleared_upto is not None:
                request["cleared"] = delta.cleared_upto
        if delta.rewrites or delta.changes_header:
            request["touches"] = True
        return request

    # Reading

    def snapshot(self, session_id: str, *, deleted: bool = False) -> Snapshot | None:
        """A session's header, and how many messages were ever pushed to it."""
        (there,) = self._headers([check_session_id(session_id)], index="all")
        return None if there is None or (there.head.deleted is not None and not deleted) else there.snapshot

    def snapshots(self, selection: Selection) -> list[Snapshot]:
        """The headers of the sessions that are meant."""
        end = None if selection.limit is None else selection.offset + selection.limit
        index, exact = _index(selection)
        most = end if exact and selection.sort == "updated" else None
        ids = self._listed(index, selection, most)
        picked = self._picked(ids, selection, index)
        if len(ids) == most and len(picked) < len(ids):  # some had expired: others stand behind them
            picked = self._picked(self._listed(index, selection, None), selection, index)
        picked.sort(key=ORDERS[selection.sort])
        return [each.snapshot for each in picked[selection.offset : end]]

    def count(self, selection: Selection = Selection()) -> int:  # noqa: B008  a frozen value
        """How many sessions are meant."""
        index, exact = _index(selection)
        ids = self._listed(index, selection, None)
        if exact:
            return sum(self._run(_ALIVE, "", index, *page) for page in _pages(ids))
        return len(self._picked(ids, selection, index))

    def _listed(self, index: str, selection: Selection, most: int | None) -> list[str]:
        """The ids in an index, the last written to first: its scores are negative times, where they are times."""
        least, greatest = "-inf", "+inf"
        if index.startswith(_TIMED):
            least = least if selection.before_ms is None else f"({-selection.before_ms}"
            greatest = greatest if selection.since_ms is None else str(-selection.since_ms)
        bounds = () if most is None else ("LIMIT", 0, most)
        ids = self._link.send("ZRANGEBYSCORE", f"{self.prefix}index:{index}", least, greatest, *bounds)
        return [each.decode() for each in ids]

    def _picked(self, ids: Sequence[str], selection: Selection, index: str) -> list[Found]:
        there = (each for page in _pages(ids) for each in self._headers(page, index=index))
        return [each for each in there if each is not None and each.picked(selection)]

    def _headers(self, ids: Sequence[str], *, index: str) -> list[Found | None]:
        reply = self._run(_HEADERS, "", index, *ids)
        return [None if each is None else self._found(id_, each) for id_, each in zip(ids, reply, strict=True)]

    def newest(self, session_id: str, limit: int | None) -> tuple[list[Message], int]:
        """The newest messages of a session, oldest first."""
        asked = limit
        while True:
            reply = self._run(_NEWEST, session_id, -1 if asked is None else asked)
            if reply is None:
                return [], 0
            revision, older, lines = reply
            kept = [line for line in lines if line]
            if limit is None or asked is None:
                return self._messages(kept, session_id), revision
            if len(kept) >= limit or not older:
                return self._messages(kept[len(kept) - min(limit, len(kept)) :], session_id), revision
            asked = 2 * asked  # some of these were removed

    def stream(self, session_id: str) -> Iterator[Message]:
        """All messages in order, in bounded memory; what arrives meanwhile comes too."""
        after = 0
        while True:
            reply = self._run(_PAGE, session_id, after, _PAGE_BYTES)
            if reply is None:
                raise SessionNotFound(ref=session_id)
            after, lines = reply
            if not lines:
                return
            yield from self._messages([line for line in lines if line], session_id)

    # Deleting

    def delete(self, session_id: str) -> bool:
        """Hide a session until it is restored, purged or expired."""
        return bool(self._run(_HIDE, session_id, self.clock()))

    def restore(self, session_id: str) -> bool:
        """Show a deleted session again with its messages, also with those that it lost by being written to since."""
        return bool(self._run(_RESTORE, session_id, self.clock()))

    def purge(self, session_id: str) -> bool:
        """Remove a session for good."""
        return bool(self._run(_PURGE, session_id))

    # Users

    def find_user(self, user_id: str) -> User | None:
        """The profile of a user."""
        text = self._link.send("HGET", f"{self.prefix}profiles", check_text(user_id, "user id"))
        user = None if text is None else self._opened(_decode_user, text, "the profile of a user")
        return None if user is None or user.deleted_at is not None else user

    def save_user(self, user: User) -> None:
        """Keep a profile; it does not expire."""
        listed = "" if user.deleted_at is not None else parse_time(user.created_at)
        self._run(_PROFILE, check_session_id(user.id), _encode_json(user), listed)

    def users(self, *, limit: int | None = None, offset: int = 0) -> list[User]:
        """Profiles in the order in which they were made."""
        if limit == 0:
            return []
        last = -1 if limit is None else offset + limit - 1
        ids = self._link.send("ZRANGE", f"{self.prefix}users", offset, last)
        texts = self._link.send("HMGET", f"{self.prefix}profiles", *ids) if ids else []
        return [self._opened(_decode_user, text, "the profile of a user") for text in texts if text is not None]

    # What stands there

    def _run(self, script: Script, session_id: str, *arguments: str | bytes | int) -> Any:
        if session_id:
            check_session_id(session_id)
        key = f"{self.prefix}session:{session_id}"
        try:
            return self._link.run(script, (key,), self.prefix, session_id, *arguments)
        except StoreRefused as exc:
            _, damaged, rest = str(exc).partition(scripts.DAMAGED)
            if not damaged:
                raise
            what = f"session {rest.rpartition(']')[0].removeprefix(f'{self.prefix}session:')}"
            raise StoreDamaged(server=self._link.server, what=what, reason="no header of ours") from exc

    def _found(self, session_id: str, packed: bytes) -> Found:
        try:
            return found(session_id, packed)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self._damaged(f"session {session_id}", exc) from exc

    def _messages(self, lines: Sequence[bytes], session_id: str) -> list[Message]:
        return [self._opened(message, text_of(line), f"session {session_id}") for line in lines]

    def _opened(self, decode: Callable[[Any], T], text: Any, what: str) -> T:
        try:
            return decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self._damaged(what, exc) from exc

    def _damaged(self, what: str, exc: Exception) -> StoreDamaged:
        return StoreDamaged(server=self._link.server, what=what, reason=str(exc))


def _patches(delta: Delta) -> bool:
    """Say whether what a save sends depends on what is there."""
    return bool(delta.fields or any(delta.tags) or delta.metadata or delta.state or delta.edited)


def _index(selection: Selection) -> tuple[str, bool]:
    """The shortest index in which all that are meant stand, and whether no others do (by time apart)."""
    facets = {"title": selection.title, "agent": selection.agent_id, "user": selection.user_id}
    wanted = [f"{name}:{value}" for name, value in facets.items() if value is not None]
    plain = selection.status is None and selection.archived
    if selection.deleted:
        return "deleted", plain and not wanted
    index = wanted[0] if wanted else "all"
    return index, plain and len(wanted) < 2 and index.startswith(_TIMED)


def _pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + _PAGE_SESSIONS] for at in range(0, len(ids), _PAGE_SESSIONS))


_encode = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder().encode
_decode_user = msgspec.json.Decoder(User).decode
