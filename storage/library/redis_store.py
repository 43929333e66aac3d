"""Sessions in Redis, for programs on several machines: messages as items of a list, so that a save appends.

A save is one script, which does all of it or nothing and says what stands there then. Done twice it does no more
than once. What is patched (fields, tags, metadata, state, edits of messages) is patched here, and the script refuses
what was patched in an older version; then it is patched again (tests/contract/test_redis_store.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from ..database import random_text, wall_ms
from ..document import patched
from ..errors import InvalidInput, MessageIdsTaken, SessionDeleted, SessionNotFound, StoreDamaged, StoreRefused
from ..model import Json, Message, SessionHeader, check_session_id, format_ms, parse_time
from . import redis_scripts as scripts
from .contract import Backend, Selection, User
from .delta import Delta, Snapshot
from .items import Item, edited, item, message, repeated
from .redis_link import Link, Script
from .session import Limits

T = TypeVar("T")

_PAGE_BYTES = 1 << 20
_PAGE_SESSIONS = 256
_STALE = _UNDECIDED = 0

_APPEND, _SAVE, _HIDE, _RESTORE, _PURGE, _EDITED, _NEWEST, _PAGE, _HEADERS, _ALIVE, _PROFILE = map(
    Script,
    (
        scripts.APPEND, scripts.SAVE, scripts.HIDE, scripts.RESTORE, scripts.PURGE, scripts.EDITED, scripts.NEWEST, scripts.PAGE,
        scripts.HEADERS, scripts.ALIVE, scripts.PROFILE,
    ),
)  # fmt: skip


class _Fixed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a header no script reads, and a save replaces as a whole."""

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
        value = self.metadata.get("agent_id")
        return value if isinstance(value, str) else None


class _Head(msgspec.Struct, frozen=True, kw_only=True):
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


class _Found(msgspec.Struct, frozen=True):
    """A session that was found, and its revision."""

    id: str
    fixed: _Fixed
    head: _Head

    @property
    def title(self) -> str:
        return self.fixed.title or self.head.automatic

    @property
    def updated_ms(self) -> int:
        return max(self.head.touched, self.head.newest)

    @property
    def snapshot(self) -> Snapshot:
        fixed, head = self.fixed, self.head
        header = SessionHeader(
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
        return Snapshot(header, head.pushed)

    def picked(self, selection: Selection) -> bool:
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


_ORDERS: dict[str, Callable[[_Found], Any]] = {
    "updated": lambda found: (-found.updated_ms, found.id),
    "created": lambda found: (found.fixed.created_ms, found.id),
    "title": lambda found: (found.title.casefold(), found.id),
}


class RedisSessionStore(Backend):
    """Sessions in one Redis database; every key begins with ``prefix``.

    ``ttl`` is how many seconds a session lives after each save of it; None keeps it until it is purged. An expired
    session is gone: it is not found, listed or counted. ``clock`` gives UTC ms, ``ids`` that many random characters.
    Nothing is sent before the first call. Raises `MissingDriver`, and `InvalidInput` for what is no URL.
    Redis Cluster is not supported: the keys of one save do not lie in one slot.
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
                return self._found(delta.id, reply).snapshot.header
        base = None if delta.new or not _patches(delta) else self._base(delta)
        added = delta.added
        while True:
            lines = [part for each in added for part in (each.id, _line(item(each)))]
            reply = self._run(_SAVE, delta.id, _encode(self._request(delta, base)), *lines)
            if reply is None:
                raise SessionDeleted(session=delta.id)
            if reply == _STALE:
                base = self._base(delta)
            elif isinstance(reply, list):
                added = self._unrepeated(delta, added, *reply)
            else:
                return self._found(delta.id, reply).snapshot.header

    def _appended(self, delta: Delta) -> Any:
        items = [item(each) for each in delta.added]
        counted = [(each.id, each.size_bytes, each.time_ms) for each in items]
        key = f"{self.prefix}session:{check_session_id(delta.id)}"
        return self._link.run(_APPEND, (key,), _encode((self.prefix, delta.id, counted)), *map(_line, items))

    def _unrepeated(
        self, delta: Delta, added: Sequence[Message], ids: Sequence[bytes], lines: Sequence[bytes | None]
    ) -> list[Message]:
        """The messages to add without those that are there; raises `MessageIdsTaken` where others have their ids."""
        there = {id_.decode(): None if line is None else _text(line) for id_, line in zip(ids, lines, strict=True)}
        check = {each.id: each for each in added if each.id in there}
        taken = [
            id_
            for id_, each in check.items()
            if not self._opened(lambda text, m=each: repeated(m, text), there[id_], delta.id)
        ]
        if taken:
            raise MessageIdsTaken(session=delta.id, ids=taken)
        return [each for each in added if each.id not in there]

    def _base(self, delta: Delta) -> _Base | None:
        """What stands there that the delta patches; None where there is no session."""
        reply = self._run(_EDITED, delta.id, *delta.edited)
        if reply is None:
            return None
        packed, lines = reply
        found = self._found(delta.id, packed)
        edits = {
            id_: _line(self._opened(lambda text, m=changed: edited(text, m), _text(line), delta.id)).decode()
            for (id_, changed), line in zip(delta.edited.items(), lines, strict=True)
            if line is not None
        }
        return _Base(found.head.version, found.fixed, edits)

    def _request(self, delta: Delta, base: _Base | None) -> dict[str, Any]:
        """What the script is told; what is not there is nothing to do."""
        request: dict[str, Any] = {"new": delta.new, "touched": delta.touched_ms}
        if self.ttl is not None:
            request["ttl"] = self.ttl
        patches = _patches(delta)
        if delta.new or patches:
            old = _Fixed(created_ms=delta.created_ms, forked_from=delta.forked_from) if base is None else base.fixed
            fixed = _patched(old, delta)
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
                "edited": [] if base is None else list(base.edits.items()),
            }
            if delta.cleared_upto is not None:
                request["cleared"] = delta.cleared_upto
        if delta.rewrites or delta.changes_header:
            request["touches"] = True
        return request

    # Reading

    def snapshot(self, session_id: str, *, deleted: bool = False) -> Snapshot | None:
        """A session's header, and how many messages were ever pushed to it."""
        (found,) = self._headers([check_session_id(session_id)], index="all")
        return None if found is None or (found.head.deleted is not None and not deleted) else found.snapshot

    def snapshots(self, selection: Selection) -> list[Snapshot]:
        """The headers of the sessions that are meant."""
        end = None if selection.limit is None else selection.offset + selection.limit
        index, exact = _index(selection)
        most = end if exact and selection.sort == "updated" else None
        ids = self._listed(index, selection, most)
        found = self._picked(ids, selection, index)
        if len(ids) == most and len(found) < len(ids):  # some had expired: others stand behind them
            found = self._picked(self._listed(index, selection, None), selection, index)
        found.sort(key=_ORDERS[selection.sort])
        return [each.snapshot for each in found[selection.offset : end]]

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
        found = self._link.send("ZRANGEBYSCORE", f"{self.prefix}index:{index}", least, greatest, *bounds)
        return [each.decode() for each in found]

    def _picked(self, ids: Sequence[str], selection: Selection, index: str) -> list[_Found]:
        found = (each for page in _pages(ids) for each in self._headers(page, index=index))
        return [each for each in found if each is not None and each.picked(selection)]

    def _headers(self, ids: Sequence[str], *, index: str) -> list[_Found | None]:
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
        text = self._link.send("HGET", f"{self.prefix}profiles", user_id)
        user = None if text is None else self._opened(_decode_user, text, f"of user {user_id}")
        return None if user is None or user.deleted_at is not None else user

    def save_user(self, user: User) -> None:
        """Keep a profile; it does not expire."""
        listed = "" if user.deleted_at is not None else parse_time(user.created_at)
        self._run(_PROFILE, user.id, _encode_json(user), listed)

    def users(self, *, limit: int | None = None, offset: int = 0) -> list[User]:
        """Profiles in the order in which they were made."""
        if limit == 0:
            return []
        last = -1 if limit is None else offset + limit - 1
        ids = self._link.send("ZRANGE", f"{self.prefix}users", offset, last)
        texts = self._link.send("HMGET", f"{self.prefix}profiles", *ids) if ids else []
        return [self._opened(_decode_user, text, "of a user") for text in texts if text is not None]

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

    def _found(self, session_id: str, packed: bytes) -> _Found:
        head = self._opened(_decode_head, packed, session_id)
        return _Found(session_id, self._opened(_decode_fixed, head.fixed, session_id), head)

    def _messages(self, lines: Sequence[bytes], session_id: str) -> list[Message]:
        return [self._opened(message, _text(line), session_id) for line in lines]

    def _opened(self, decode: Callable[[Any], T], text: Any, session_id: str) -> T:
        try:
            return decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise StoreDamaged(server=self._link.server, what=f"session {session_id}", reason=str(exc)) from exc


class _Base(msgspec.Struct, frozen=True):
    """What stood in a session before it was patched: its version, its header, and the items as they are to be."""

    version: int
    fixed: _Fixed
    edits: dict[str, str]


def _patches(delta: Delta) -> bool:
    """Say whether what a save sends depends on what is there."""
    return bool(delta.fields or any(delta.tags) or delta.metadata or delta.state or delta.edited)


def _patched(fixed: _Fixed, delta: Delta) -> _Fixed:
    add, remove = delta.tags
    tags = [tag for tag in fixed.tags if tag not in remove]
    return msgspec.structs.replace(
        fixed,
        **{name: value for name, value in delta.fields.items() if name != "status"},
        tags=[*tags, *(tag for tag in add if tag not in tags)],
        metadata=patched(fixed.metadata, delta.metadata),
        state=patched(fixed.state, delta.state),
    )


def _index(selection: Selection) -> tuple[str, bool]:
    """The shortest index in which all that are meant stand, and whether no others do (by time apart)."""
    facets = {"title": selection.title, "agent": selection.agent_id, "user": selection.user_id}
    wanted = [f"{name}:{value}" for name, value in facets.items() if value is not None]
    plain = selection.status is None and selection.archived
    if selection.deleted:
        return "deleted", plain and not wanted
    index = wanted[0] if wanted else "all"
    return index, plain and len(wanted) < 2 and index.startswith(_TIMED)


def _line(kept: Item) -> bytes:
    """The item of the list: what the scripts count, and the message."""
    counted = f"{kept.size_bytes}\t{kept.time_ms}\t{kept.id}\t{kept.title}\n"
    return counted.encode() + kept.text


def _text(line: bytes) -> bytes:
    return line.partition(b"\n")[2]


def _pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + _PAGE_SESSIONS] for at in range(0, len(ids), _PAGE_SESSIONS))


_TIMED = ("all", "user:", "deleted")
"""The beginnings of those indexes that are sorted by the last write."""

_encode = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_fixed = msgspec.json.Decoder(_Fixed).decode
_decode_user = msgspec.json.Decoder(User).decode
