"""Loading MemoriesDB's nodes and edges, one JSON object a line, in any order and of any size.

    {"kind":"node","id":…,"content":…,"_metadata":{…},"_created_at":…}
    {"kind":"edge","source_id":…,"target_id":…,"relation":"belongs_to"|"forked_from"|"reply_to"}

Sessions are nodes whose metadata has the type ``session``, and those that edges make one. Ids are kept, and what
is here already, be it deleted or purged, stays as it is; so loading a file again changes nothing, and goes on
where it was broken off. What is loaded is derived, as every import is: it yields to what a person wrote
(tests/unit/test_memoriesdb_loading.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..storage.errors import InvalidInput, LocalStorageError
from ..storage.importing import insert_derived
from ..storage.lineage import fork_point, lineage, owner
from ..storage.model import NewMessage
from ..storage.rows import MESSAGE_COLUMNS, MessageRow, SessionRow, message
from ..storage.stamps import DERIVED
from ..storage.state import find_message
from ..storage.store import Store
from .calling import on_store
from .conversation import PARENT_MESSAGE, REASON
from .messages import new_message
from .sessions import owner_in
from .staging import MAX_LINE_BYTES, Skipped, StagedMessage, StagedSession, Staging, staged

SLICE_MESSAGES, SLICE_BYTES = 500, 4 * 1024 * 1024

Source = str | os.PathLike[str] | Iterable[str | bytes]

_UPTO = (
    f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ?1 AND hidden = 0 "  # noqa: S608
    "AND (?2 IS NULL OR time_ms <= ?2) ORDER BY ord DESC LIMIT 1"
)
_SLICE = (
    f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ? AND hidden = 0 AND ord > ? AND ord <= ? "  # noqa: S608
    "ORDER BY ord LIMIT ?"
)
_TAIL = "SELECT id FROM messages WHERE session = ? ORDER BY ord DESC LIMIT 1"


class LoadResult(NamedTuple):
    """How many nodes and edges of a file stand in the store now; the lines that do not, each with the reason."""

    nodes: int
    edges: int
    skipped: list[Skipped]


@on_store
def load_jsonl(store: Store, source: Source) -> LoadResult:
    """Load sessions, messages and links from a file (a path) or from its lines.

    A line that cannot be taken is skipped and told. Raises `LocalStorageError` for a file that cannot be read.
    """
    with staged(_lines(source)) as staging:
        _Loading(store, staging).run()
        return LoadResult(staging.taken("nodes"), staging.taken("edges"), staging.skipped())


class _Loading:
    """Brings what is staged into a store, some hundred messages a transaction; the copies of a fork are one."""

    def __init__(self, store: Store, staging: Staging) -> None:
        self._store = store
        self._staging = staging

    def run(self) -> None:
        """Load everything, and note what is not taken."""
        steps = self._steps()
        step = next(steps, None)
        while step is not None:
            done = 0
            with self._store.transaction():
                while step is not None and done < SLICE_MESSAGES:
                    done += step()
                    step = next(steps, None)
        self._staging.note_what_is_left()

    def _steps(self) -> Iterator[Callable[[], int]]:
        """What is to be done, in order; each step says how many rows it was about."""
        for session in self._staging.sessions():
            yield partial(self._session, session)
            yield from self._parts(session.id)
        for session_id in self._staging.sessions_elsewhere():
            yield from self._parts(session_id)

    # Sessions

    def _session(self, session: StagedSession) -> int:
        """Make a session, unless it is here or was purged."""
        row = self._store.find(session.id)
        if row is not None:
            if session.origin is not None and owner(fork_point(row)) != session.origin:
                self._staging.skip(session.origin_line, "the session is here already, and no fork of that one")
        elif self._store.lives_over(session.id):
            self._staging.skip(session.line, "the session was purged")
        else:
            return self._make(session)
        return 1

    def _make(self, session: StagedSession) -> int:
        original, point = self._original(session)
        stated: dict[str, Any] | None = None
        if original is not None:
            above, reason = lineage(self._store, original), session.metadata.get(REASON)
            stated = {"session": original.id, "message": None if point is None else point.id}
            stated |= {"reason": reason} if isinstance(reason, str) else {}
            stated |= {"above": above} if above else {}
        self._store.create(
            id=session.id,
            title=session.title,
            metadata=session.metadata,
            user_id=owner_in(session.metadata),
            forked_from=stated,
            created_ms=session.created_ms,
            rank=DERIVED,
        )
        return 1 if original is None or point is None else self._copy(session.id, original, point)

    def _original(self, session: StagedSession) -> tuple[SessionRow | None, MessageRow | None]:
        """What a session was forked from, and the last message that it took; the edge is skipped if that is unknown."""
        if session.origin is None:
            return None, None
        row = self._store.find(session.origin)
        if row is None or row.hidden:
            self._staging.skip(session.origin_line, f"there is no session {session.origin}")
            return None, None
        named = session.metadata.get(PARENT_MESSAGE)
        if named is None:
            found = self._store.one(_UPTO, (row.no, session.created_ms))
            return row, None if found is None else MessageRow(*found)
        point = find_message(self._store, row.no, named) if isinstance(named, str) else None
        if point is None or point.hidden:
            self._staging.skip(session.origin_line, f"session {session.origin} has no message {named}")
            return None, None
        return row, point

    def _copy(self, fork: str, original: SessionRow, point: MessageRow) -> int:
        """Copy what a fork inherited."""
        row = self._store.find(fork)
        assert row is not None
        above = {*lineage(self._store, original)}
        after, place, count = None, 0, 0
        while rows := self._store.execute(_SLICE, (original.no, place, point.ord, SLICE_MESSAGES)).fetchall():
            copies: list[NewMessage] = []
            for each in (MessageRow(*columns) for columns in rows):
                copies.append(_copied(each, original.id, after, above=above))
                after, place = each.id, each.ord
            insert_derived(self._store, row, copies, default_ms=row.created_ms)
            count += len(copies)
        return count

    # Messages

    def _parts(self, session_id: str) -> Iterator[Callable[[], int]]:
        """Add the messages of a session, some at a time."""
        part: list[StagedMessage] = []
        before, size = None, 0
        for each in self._staging.messages(session_id):
            part.append(each)
            size += each.size_bytes
            if len(part) == SLICE_MESSAGES or size > SLICE_BYTES:
                yield partial(self._add, session_id, part, before)
                before, part, size = part[-1].id, [], 0
        if part:
            yield partial(self._add, session_id, part, before)

    def _add(self, session_id: str, part: list[StagedMessage], before: str | None) -> int:
        """Add messages that are not here, each behind the one before it."""
        row = self._store.find(session_id)
        if row is None:
            for each in part:
                self._staging.skip(each.edge_line, f"there is no session {session_id}")
            return len(part)
        known = self._store.known_messages(session_id, [each.id for each in part])
        after = before if before is not None and find_message(self._store, row.no, before) else self._tail(row)
        fresh: dict[str, NewMessage] = {}
        for each in part:
            if each.id in known:
                self._compare(row, each)
            elif (new := self._new(row, each, after, fresh)) is not None:
                fresh[each.id] = new
            else:
                continue
            after = each.id
        insert_derived(self._store, row, [*fresh.values()], default_ms=row.created_ms)
        return len(part)

    def _new(
        self, row: SessionRow, staged: StagedMessage, after: str | None, fresh: dict[str, NewMessage]
    ) -> NewMessage | None:
        """The message as it is to be inserted; None where it says that it replies to what is not there."""
        new = new_message(staged.content, staged.metadata, id=staged.id)
        timestamp = new.timestamp or staged.created_at
        if new.parent is not None:
            if not self._has(row, new.parent, fresh):
                self._staging.skip(staged.edge_line, f"there is no message {new.parent} in this session to reply to")
                return None
            parent = new.parent
        elif staged.parent is not None and self._has(row, staged.parent, fresh):
            parent = staged.parent
        else:
            parent = None
        if parent is not None and parent == staged.parent:
            self._staging.use(staged.parent_line)
        return msgspec.structs.replace(new, after=after, timestamp=timestamp, parent=parent)

    def _compare(self, row: SessionRow, staged: StagedMessage) -> None:
        """Take note of an edge that says what is here already."""
        if staged.parent is not None:
            found = find_message(self._store, row.no, staged.id)
            if found is not None and found.parent == staged.parent:
                self._staging.use(staged.parent_line)

    def _has(self, row: SessionRow, message_id: str, fresh: dict[str, NewMessage]) -> bool:
        return message_id in fresh or find_message(self._store, row.no, message_id) is not None

    def _tail(self, row: SessionRow) -> str | None:
        found = self._store.one(_TAIL, (row.no,))
        return found[0] if found else None


def _copied(row: MessageRow, session_id: str, after: str | None, *, above: set[str]) -> NewMessage:
    shown = message(row)
    inherited = owner(shown.origin) in above
    return NewMessage(
        id=shown.id,
        role=shown.role,
        content=shown.content,
        after=after,
        timestamp=shown.timestamp,
        sender=shown.sender,
        parent=shown.parent,
        model=shown.model,
        usage=shown.usage,
        metadata=shown.metadata,
        origin=shown.origin if inherited else {"session": session_id, "message": shown.id},
    )


def _lines(source: Source) -> Iterator[bytes | None]:
    """The lines of a file or of what gives lines; None for one that is too long to be read."""
    if not isinstance(source, str | os.PathLike):
        for line in source:
            yield line.encode(errors="surrogatepass") if isinstance(line, str) else bytes(line)
        return
    try:
        with Path(source).expanduser().open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
                yield line if whole else None
                while not whole:
                    rest = file.readline(MAX_LINE_BYTES)
                    whole = rest.endswith(b"\n") or len(rest) < MAX_LINE_BYTES
    except OSError as exc:
        hint = "name a file that you may read"
        raise LocalStorageError(f"{source} cannot be read ({exc.strerror})", hint=hint) from exc
    except ValueError as exc:
        raise InvalidInput(f"not the name of a file: {source!r}") from exc
