"""Sessions in one SQLite file: the default, and the only back end with feed, search, files and vaults.

Any number of threads and processes may use one file. What a save sends becomes stamped registers
and births like any other write, so it syncs (tests/contract/test_session_stores.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..audit import AuditEntry, audit
from ..backup import backup
from ..database import random_text, wall_ms
from ..document import patched
from ..edit import Edit
from ..errors import (
    AmbiguousRef,
    InvalidInput,
    MessageExists,
    MessageIdsTaken,
    MessageNotFound,
    MessagePurged,
    SessionDeleted,
    SessionExists,
    SessionNotFound,
    Unsupported,
)
from ..feed import Changes, NewArrival, changes, follow
from ..forks import fork
from ..home import private_directory
from ..listing import Condition, Filter
from ..local_only import check_joins, stays
from ..model import (
    Json,
    Message,
    NewMessage,
    SessionHeader,
    check_actor,
    check_count,
    check_name,
    check_session_id,
    check_text,
    format_ms,
    list_of,
    object_of,
    parse_time,
)
from ..purge import is_shrunk, purge_history, purge_message, purge_session, shrink
from ..registers import text_of
from ..retention import archive_inactive, delete_where
from ..rows import SESSION_COLUMNS, SessionRow, decode_json, encode_json, header
from ..search import Hit, search
from ..state import document, family
from ..store import Store
from ..upkeep import size_bytes, vacuum
from .contract import Backend, Selection, User
from .delta import Delta, Snapshot
from .pool import Pool, Single
from .session import Limits, Session

_log = logging.getLogger("steno")
DEFAULT_TABLE = "sessions"
SEPARATOR = "\u241f"
"""Between the name of a space and an id in it; the default space has neither (docs/decisions/0007)."""

_OF_SESSIONS = ("title", "tags", "project", "provider", "model", "user_id", "status")
_ORDERS = {"updated": "updated_ms DESC, id", "created": "created_ms, no", "title": "folded(title), id"}


class _Narrowed(msgspec.Struct, frozen=True):
    """What a search may be narrowed by; the times are those of messages."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    user_id: str | None = None
    status: str | None = None
    role: str | None = None
    since_ms: Annotated[int, Meta(ge=0)] | None = None
    before_ms: Annotated[int, Meta(ge=0)] | None = None
    archived: bool = False
    offset: Annotated[int, Meta(ge=0)] = 0
    marks: tuple[str, str] = ("**", "**")


class SQLiteSessionStore(Backend):
    """Sessions in one SQLite file, which is made where it is missing.

    ``table_name`` names a space of its own within the file: sessions of other spaces are not seen.
    ``durability`` "full" survives power loss, "normal" only the end of a process. ``pool_size`` bounds the
    connections that are open at once. ``actor`` is who writes where `acting` names nobody. ``clock`` gives UTC ms,
    ``ids`` that many random characters.
    """

    keeps_local_only = True

    def __init__(
        self,
        path: Path | str = "sessions.db",
        table_name: str = DEFAULT_TABLE,
        *,
        durability: str = "normal",
        compress: bool = True,
        pool_size: int = 5,
        actor: str | None = None,
        limits: Limits = Limits(),  # noqa: B008  a frozen value
        clock: Callable[[], int] = wall_ms,
        ids: Callable[[int], str] = random_text,
    ) -> None:
        if durability not in ("normal", "full"):
            raise InvalidInput(f"durability must be normal or full, not {durability!r:.60}")
        if check_count(pool_size, "pool_size") < 1:
            raise InvalidInput("pool_size must be at least 1")
        self.path = _path(path).expanduser()
        self.clock, self.ids, self.limits = clock, ids, limits
        self.table_name = check_name(table_name, "table_name")
        if SEPARATOR in table_name:
            raise InvalidInput(f"table_name cannot hold {SEPARATOR}")
        self._prefix = "" if table_name == DEFAULT_TABLE else table_name + SEPARATOR
        self._options: dict[str, Any] = {
            "durability": durability, "compress": compress,
            "now_ms": self._now_ms, "random": self._random,
        }  # fmt: skip
        if self.on_disk:
            private_directory(self.path.absolute().parent)
        self._pool = Pool(self._open, size=pool_size) if self.on_disk else Single(self._open())
        self._actor: ContextVar[str | None] = ContextVar("actor", default=None if actor is None else check_actor(actor))
        with self._pool.take():
            pass  # what is wrong with the file is said here, not at the first save

    @property
    def on_disk(self) -> bool:
        """Say whether the sessions outlive the process."""
        return str(self.path) != ":memory:"

    def _now_ms(self) -> int:
        return self.clock()  # a manager may bring its own

    def _random(self, length: int) -> str:
        return self.ids(length)

    def _open(self) -> Store:
        return Store(self.path, **self._options)

    @contextmanager
    def database(self) -> Generator[Store]:
        """The store below, for this thread until the block ends: what has no method here is found there."""
        with self._pool.take() as store:
            store.actor = self._actor.get()
            try:
                yield store
            except SessionNotFound as exc:
                if self._prefix and exc.ref.startswith(self._prefix):
                    raise SessionNotFound(ref=self.outer(exc.ref)) from exc
                raise

    @contextmanager
    def acting(self, actor: str) -> Generator[None]:
        """Name who writes what this thread or task writes inside: it stands in the audit, and travels."""
        before = self._actor.set(check_actor(actor))
        try:
            yield
        finally:
            self._actor.reset(before)

    def close(self) -> None:
        """Close all connections; called twice it does nothing."""
        self._pool.close()

    # Spaces

    def inner(self, session_id: str) -> str:
        """The id that a session of this space has in the file."""
        if SEPARATOR in check_session_id(session_id):
            raise InvalidInput(f"a session id cannot hold {SEPARATOR} here")
        return self._prefix + session_id

    def outer(self, inner: str) -> str:
        """The id that a program gave a session of this space."""
        return inner.removeprefix(self._prefix)

    @property
    def prefix(self) -> str:
        """What stands in the file before the ids of this space."""
        return self._prefix

    def _shown(self, found: SessionHeader) -> SessionHeader:
        if not self._prefix:
            return found
        forked = found.forked_from
        if forked is not None:
            forked = {key: self._bare(value) for key, value in forked.items()}
        return msgspec.structs.replace(found, id=self.outer(found.id), forked_from=forked)

    def _bare(self, value: Json) -> Json:
        if isinstance(value, list):
            return [self._bare(each) for each in value]
        return self.outer(value) if isinstance(value, str) else value

    @property
    def _space(self) -> tuple[str, tuple[Any, ...]]:
        if self._prefix:
            return "id >= ? AND id < ?", (self._prefix, self.table_name + chr(ord(SEPARATOR) + 1))
        return "instr(id, ?) = 0", (SEPARATOR,)

    # Saving

    def apply(self, delta: Delta) -> SessionHeader:
        """Bring a session up to a delta in one transaction."""
        inner = self.inner(delta.id)
        with self.database() as store:
            if delta.only_adds:
                self._add(store, inner, delta)
            else:
                with store.transaction():
                    self._prepare(store, inner, delta)
                    self._change_messages(store, inner, delta)
                    self._add(store, inner, delta)
                    if delta.changes_header:
                        self._apply_header(store, inner, delta)
            row = store.row(inner)
        assert row is not None  # a tombstone, if somebody purged it this moment
        return self._shown(header(row))

    def _add(self, store: Store, inner: str, delta: Delta) -> None:
        life = None if delta.new else delta.life
        try:
            store.extend(inner, [_new(each) for each in delta.added], life=life, checked=True)
        except MessageExists:
            with store.transaction():
                store.extend(inner, self._unknown(store, inner, delta), life=life, checked=True)
        except (SessionDeleted, SessionNotFound) as exc:
            raise SessionDeleted(session=delta.id) from exc

    def _prepare(self, store: Store, inner: str, delta: Delta) -> None:
        row = store.find(inner)
        if not delta.new and (row is None or row.hidden or row.life != delta.life):
            raise SessionDeleted(session=delta.id)
        if delta.fresh and row is not None:
            raise SessionExists(session=delta.id)
        if row is not None:
            check_joins(row, local_only=delta.new and delta.local_only)
        if row is None:
            self._create(store, inner, delta)
        elif row.hidden:
            store.wake(inner)

    def _unknown(self, store: Store, inner: str, delta: Delta) -> list[NewMessage]:
        """What a save adds that the session has not: some of it was saved before, or its ids are those of others."""
        here = store.known_messages(inner, [each.id for each in delta.added])
        taken = [each.id for each in delta.added if each.id in here and not _same(each, here[each.id])]
        if taken:
            raise MessageIdsTaken(session=delta.id, ids=taken)
        return [_new(each) for each in delta.added if each.id not in here]

    def _create(self, store: Store, inner: str, delta: Delta) -> None:
        forked = delta.forked_from
        if forked and self._prefix and "session" in forked:
            forked = {**forked, "session": self._prefix + str(forked["session"])}
        stays_here = delta.local_only or stays(store, metadata=patched({}, delta.metadata), above=())
        store.create(id=inner, created_ms=delta.created_ms, forked_from=forked, local_only=stays_here)

    def _change_messages(self, store: Store, inner: str, delta: Delta) -> None:
        if delta.cleared_upto is not None:
            store.clear(inner, known_seq=delta.cleared_upto)
        if delta.removed:
            store.delete_messages(inner, delta.removed)
        for message_id, fields in delta.edited.items():
            plain = {name: value for name, value in fields.items() if name != "metadata"}
            with suppress(MessageNotFound, MessagePurged):  # it was purged meanwhile; the rest is saved
                if plain:
                    store.edit_message(inner, message_id, plain)
                if "metadata" in fields:
                    store.set_message_leaves(inner, message_id, fields["metadata"])

    def _apply_header(self, store: Store, inner: str, delta: Delta) -> None:
        row = store.find(inner)
        assert row is not None
        edit = Edit(store, row)
        for name, value in delta.fields.items():
            edit.set(name, text_of(value))
        if any(delta.tags) or delta.tag_order:
            edit.set_tags(delta.tags_after(decode_json(row.tags)))
        for name, leaves in (("metadata", delta.metadata), ("state", delta.state)):
            if leaves:
                edit.set_document(name, patched(document(family(store, row.no, 0, name), name), leaves))
        edit.finish(touched_ms=delta.touched_ms)
        if delta.touched:
            store.touch(inner, delta.touched_ms)

    # Reading

    def snapshot(self, session_id: str, *, deleted: bool = False) -> Snapshot | None:
        """A session's header, and the feed's number now."""
        with self.database() as store:
            revision = store.last_seq  # first: what arrives in between counts as unseen
            row = store.find(self.inner(session_id))
        if row is None or (row.hidden and not deleted):
            return None
        return Snapshot(self._shown(header(row)), revision)

    def snapshots(self, selection: Selection) -> list[Snapshot]:
        """The headers of the sessions that are meant."""
        where, values = _joined(self._conditions(selection))
        sql = (
            f"SELECT {SESSION_COLUMNS} FROM sessions WHERE {where} ORDER BY {_ORDERS[selection.sort]} "  # noqa: S608
            f"LIMIT {-1 if selection.limit is None else int(selection.limit)} OFFSET {int(selection.offset)}"
        )
        with self.database() as store:
            revision = store.last_seq
            rows = store.execute(sql, values).fetchall()
        return [Snapshot(self._shown(header(SessionRow(*row))), revision) for row in rows]

    def count(self, selection: Selection = Selection()) -> int:  # noqa: B008  a frozen value
        """How many sessions are meant."""
        where, values = _joined(self._conditions(selection))
        with self.database() as store:
            return store.one(f"SELECT count(*) FROM sessions WHERE {where}", values)[0]  # noqa: S608

    def _conditions(self, selection: Selection) -> list[Condition]:
        wanted: list[tuple[str, Any]] = [
            ("hidden = ?", int(selection.deleted)),
            ("user_id = ?", selection.user_id),
            ("json_extract(metadata, '$.agent_id') = ?", selection.agent_id),
            ("title = ?", selection.title),
            ("status = ?", selection.status),
            ("updated_ms >= ?", selection.since_ms),
            ("updated_ms < ?", selection.before_ms),
        ]
        given = [(text, (value,)) for text, value in wanted if value is not None]
        archived: list[Condition] = [] if selection.archived else [("status <> 'archived'", ())]
        return [self._space, *given, *archived]

    def newest(self, session_id: str, limit: int | None) -> tuple[list[Message], int]:
        """The newest messages of a session, oldest first."""
        inner = self.inner(session_id)
        with self.database() as store:
            revision = store.last_seq
            try:
                found = list(store.messages(inner)) if limit is None else store.newest_messages(inner, limit)
            except SessionNotFound:
                found = []
        return found, revision

    def page(self, session_id: str, *, skip: int, limit: int | None) -> list[Message]:
        """Messages of a session in order, ``skip`` of them left out (None: to the end)."""
        with self.database() as store:
            return list(store.messages(self.inner(session_id), skip=skip, limit=limit))

    def find_message(self, session_id: str, message_id: str) -> Message | None:
        """One message of a session, or None."""
        with self.database() as store:
            return store.known_messages(self.inner(session_id), [message_id]).get(message_id)

    def stream(self, session_id: str) -> Iterator[Message]:
        """All messages in order as they stand at one moment, in bounded memory."""
        inner = self.inner(session_id)
        if not self.on_disk:
            with self.database() as store:
                found = list(store.messages(inner))
            yield from found
            return
        # A connection of its own: one of the pool would be taken for as long as the caller reads.
        with Store(self.path, read_only=True) as store:
            store.execute("BEGIN")
            yield from store.messages(inner)

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
        """A new session with a copy of another's messages, made inside the database (`storage.forks.fork`)."""
        fork_id = f"sess_{self.ids(12)}"
        changed = dict(fields or {})
        tags = list_of(changed.pop("tags"), "tags") if "tags" in changed else None
        with self.database() as store, store.transaction():
            if title is None:
                title = f"Fork of {store.get(self.inner(session_id)).title or session_id}"
            made = fork(
                store,
                self.inner(session_id),
                at=at,
                id=self.inner(fork_id),
                title=title,
                reason=reason,
                metadata=None if metadata is None else object_of(metadata, "metadata"),
            )
            if fields:
                made = store.update(made.id, fields=changed, tags=tags)
            return self._session(Snapshot(self._shown(made), store.last_seq))

    # Deleting

    def delete(self, session_id: str) -> bool:
        """Hide a session until it is restored."""
        try:
            with self.database() as store:
                store.delete(self.inner(session_id))
        except SessionNotFound:
            return False
        return True

    def restore(self, session_id: str) -> bool:
        """Show a deleted session again with its messages."""
        try:
            with self.database() as store:
                store.restore(self.inner(session_id))
        except SessionNotFound:
            return False
        return True

    def delete_where(self, selection: Selection, *, dry_run: bool = False) -> list[str]:
        """Delete the sessions that are meant, with ``dry_run`` none, and return their ids."""
        chosen = Filter(also=tuple(self._conditions(selection)))
        with self.database() as store:
            return [self.outer(each) for each in delete_where(store, chosen, dry_run=dry_run)]

    def archive_inactive(self, *, before_ms: int) -> int:
        """Archive the sessions last written to before a time, and say how many those were."""
        with self.database() as store:
            return archive_inactive(store, before_ms=before_ms - 1, among=[self._space])

    def purge(self, session_id: str) -> bool:
        """Remove a session for good: its words leave the file, its log and the backups beside it."""
        return self._purged(lambda store: purge_session(store, self.inner(session_id)))

    def purge_message(self, session_id: str, message_id: str) -> bool:
        """Remove a message for good; only its place stays. False where that was done; raises `MessageNotFound`."""
        return self._purged(lambda store: purge_message(store, self.inner(session_id), message_id))

    def purge_history(self, session_id: str, message_id: str | None = None) -> bool:
        """Remove for good what a session, or one message, was before, and its deleted messages."""
        return self._purged(lambda store: bool(purge_history(store, self.inner(session_id), message_id)))

    def purge_deleted(self, *, before_ms: int) -> list[str]:
        """Remove for good the sessions that were deleted before a time, and return their ids."""
        deleted = [found.header for found in self.snapshots(Selection(deleted=True))]
        ids = [each.id for each in deleted if each.deleted_at and parse_time(each.deleted_at) < before_ms]

        def purge(store: Store) -> bool:
            return any([purge_session(store, self.inner(each)) for each in ids])  # noqa: C419  every one of them

        self._purged(purge)
        return ids

    def _purged(self, purge: Callable[[Store], bool]) -> bool:
        try:
            with self.database() as store:
                done = purge(store)
                if done or not is_shrunk(store):
                    for problem in shrink(store).problems:
                        _log.warning("purged, but some of it may still stand on the disk: %s", problem)
                return done
        except SessionNotFound:
            return False

    # Users

    def find_user(self, user_id: str) -> User | None:
        """The profile of a user."""
        with self.database() as store:
            row = store.one(f"SELECT {_USER} FROM users WHERE id = ? AND deleted_ms IS NULL", (user_id,))  # noqa: S608
        return None if row is None else _user(row)

    def save_user(self, user: User) -> None:
        """Keep a profile."""
        deleted_ms = None if user.deleted_at is None else parse_time(user.deleted_at)
        with self.database() as store, store.transaction():
            store.execute(
                f"INSERT OR REPLACE INTO users ({_USER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    check_session_id(user.id), parse_time(user.created_at), parse_time(user.updated_at), deleted_ms,
                    user.email, user.first_name, user.last_name, encode_json(user.metadata).decode(),
                ),
            )  # fmt: skip

    def users(self, *, limit: int | None = None, offset: int = 0) -> Sequence[User]:
        """Profiles in the order in which they were made."""
        sql = f"SELECT {_USER} FROM users WHERE deleted_ms IS NULL ORDER BY created_ms, id LIMIT ? OFFSET ?"  # noqa: S608
        with self.database() as store:
            return [_user(row) for row in store.execute(sql, (-1 if limit is None else limit, offset)).fetchall()]

    # What only this store has

    def resolve(self, ref: str) -> str:
        """The id that a reference means: an id, its beginning, a title whatever its case, or a part of a title.

        Raises `SessionNotFound`, and `AmbiguousRef` naming the candidates.
        """
        space, within = self._space
        inner = self._prefix + check_text(ref, "a session's id or title")
        with self.database() as store:
            for where, values in (
                ("id = ?", (inner,)),
                ("id >= ? AND id < ?", (inner, inner + "\U0010ffff")),
                ("folded(title) = ?", (ref.casefold(),)),
                ("instr(folded(title), ?) > 0", (ref.casefold(),)),
            ):
                sql = f"SELECT id FROM sessions WHERE hidden = 0 AND {space} AND {where} ORDER BY id LIMIT 6"  # noqa: S608
                rows = store.execute(sql, (*within, *values)) if ref.strip() else []
                found = [self.outer(row[0]) for row in rows]
                if len(found) > 1:
                    raise AmbiguousRef(ref=ref, candidates=found)
                if found:
                    return found[0]
        raise SessionNotFound(ref=ref)

    def changes(self, since: int = 0, *, session: str | None = None, limit: int = 1000) -> Changes:
        """What changed behind a number of the feed, and the number to go on from (`storage.feed.changes`)."""
        within = None if session is None else self.inner(session)
        with self.database() as store:
            found = changes(store, check_count(since, "since"), session=within, limit=check_count(limit, "limit"))
        here = [each for each in found.items if self._is_here(each.session)]
        items = [msgspec.structs.replace(each, session=self.outer(each.session)) for each in here]
        return msgspec.structs.replace(found, items=items)

    def _is_here(self, inner: str) -> bool:
        return inner.startswith(self._prefix) if self._prefix else SEPARATOR not in inner

    def follow(
        self, session_id: str, *, since: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[NewArrival]:
        """Each new message of a session once, by whatever process it is added (`storage.feed.follow`).

        Raises `SessionNotFound`, and `Unsupported` in memory, where nobody else can write.
        """
        if not self.on_disk:
            raise Unsupported(store=type(self).__name__, what="messages of other processes to follow")
        with self.database() as store:
            known = None if since is None else check_count(since, "since")
            return follow(store, self.inner(session_id), since=known, stop=stop)

    def audit(self, session_id: str) -> list[AuditEntry]:
        """Every change of a session with who made it, what stood there and what stands there since."""
        with self.database() as store:
            return list(audit(store, self.inner(session_id)))

    def search(self, query: str, *, limit: int = 20, session: str | None = None, **filters: Any) -> list[Hit]:
        """Messages and titles in which a query finds something, the best first.

        ``filters`` are those of docs/library/search.md. Raises `InvalidInput` for a blank query or what is no filter,
        and `SessionNotFound`.
        """
        unknown = filters.keys() - set(_Narrowed.__struct_fields__)
        if unknown:
            raise InvalidInput(f"a search has no filter {', '.join(sorted(unknown))}")
        try:
            narrowed = msgspec.structs.asdict(msgspec.convert(filters, _Narrowed))
        except msgspec.ValidationError as exc:
            raise InvalidInput(f"a search is not filtered so: {exc}") from exc
        chosen = Filter(also=(self._space,), **{name: narrowed.pop(name) for name in _OF_SESSIONS})
        within = None if session is None else self.inner(session)
        with self.database() as store:
            found = search(
                store, query, chosen=chosen, limit=check_count(limit, "limit"), session=within, **narrowed
            ).hits
        return [msgspec.structs.replace(hit, session=self.outer(hit.session)) for hit in found]

    def backup(self, target: Path | str) -> Path:
        """Copy the whole file consistently while it is in use (`storage.backup.backup`)."""
        with self.database() as store:
            return backup(store, _path(target))

    def vacuum(self) -> None:
        """Give the room of what was deleted back to the disk."""
        with self.database() as store:
            vacuum(store)

    def size_bytes(self) -> int:
        """How large the database is, its log included."""
        with self.database() as store:
            return size_bytes(store)


def _joined(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    return " AND ".join(f"({text})" for text, _ in conditions), [value for _, values in conditions for value in values]


_USER = "id, created_ms, updated_ms, deleted_ms, email, first_name, last_name, metadata"


def _user(row: Sequence[Any]) -> User:
    return User(
        id=row[0],
        created_at=format_ms(row[1]),
        updated_at=format_ms(row[2]),
        deleted_at=None if row[3] is None else format_ms(row[3]),
        email=row[4],
        first_name=row[5],
        last_name=row[6],
        metadata=decode_json(row[7]),
    )


def _path(value: Path | str) -> Path:
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise InvalidInput(f"not the path of a file: {value!r:.60}")
    return Path(value)


def _same(message: Message, stored: Message | None) -> bool:
    return stored is not None and (message.role, message.content) == (stored.role, stored.content)


def _new(message: Message) -> NewMessage:
    return NewMessage(
        id=message.id,
        role=message.role,
        content=message.content,
        timestamp=message.timestamp,
        sender=message.sender,
        parent=message.parent,
        model=message.model,
        usage=message.usage,
        metadata=message.metadata,
        origin=message.origin,
    )
