"""Forks, as a manager offers them: copies on every store; their tree, merging and reading on SQLite's.

(tests/library/test_forks.py; the rules stand in storage/forks.py)
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .. import conversation, forks, lineage
from ..conversation import Entry, Reply, Turn
from ..errors import Unsupported
from ..lineage import Ancestor
from ..model import Json
from ..runs import Divergence
from .contract import Backend
from .session import Session
from .sqlite_store import SQLiteSessionStore


class Forks:
    """The forks of one store's sessions."""

    def __init__(self, store: Backend) -> None:
        self._store = store

    def fork(
        self,
        session_id: str,
        *,
        at: str | None = None,
        title: str | None = None,
        reason: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Session:
        """A new session with a copy of the messages up to and including ``at``, None: of all.

        Later changes to either never show in the other. Raises `SessionNotFound` and `MessageNotFound`.
        """
        return self._store.fork(session_id, at=at, title=title, reason=reason, metadata=metadata)

    def tree(self, session_id: str) -> list[tuple[int, Session]]:
        """A session at level 1 and all forks below it, by level and then by creation; raises `SessionNotFound`."""
        store = self._sqlite("tree of forks")
        with store.database() as database:
            nodes = lineage.descendants(database, store.inner(session_id))
        found = [(node.level, store.get(store.outer(node.session.id))) for node in nodes]
        return [(level, session) for level, session in found if session is not None]

    def ancestors(self, session_id: str) -> list[Ancestor]:
        """What a session was forked from, the nearest first, also what is gone; raises `SessionNotFound`."""
        store = self._sqlite("ancestry of forks")
        with store.database() as database:
            found = lineage.ancestors(database, store.inner(session_id))
        return [msgspec.structs.replace(each, id=store.outer(each.id)) for each in found]

    def merge(self, fork_id: str) -> int:
        """Append a fork's own messages to its origin, each once however often it is called; how many were new.

        Raises `SessionNotFound`, also where the origin is deleted, and `InvalidInput` for what is no fork.
        """
        store = self._sqlite("merging of forks")
        with store.database() as database:
            return len(forks.merge(database, store.inner(fork_id)))

    def divergences(self, session_id: str) -> list[Divergence]:
        """Where runs of several devices begin that did not know of an earlier one; raises `SessionNotFound`."""
        store = self._sqlite("divergences of sessions")
        with store.database() as database:
            return forks.divergences(database, store.inner(session_id))

    def split(self, session_id: str, *, at: str | None = None) -> Session:
        """Make the second of two runs that diverged a fork of its own; ``at`` is that of one of `divergences`.

        Raises `SessionNotFound`, `InvalidInput` where none diverged, and `AmbiguousSplit` where several did and none
        is named.
        """
        store = self._sqlite("splitting of sessions")
        with store.database() as database:
            made = forks.split(database, store.inner(session_id), at=at, prefix=store.prefix)
        found = store.get(store.outer(made.id))
        assert found is not None
        return found

    def messages(self, session_id: str) -> list[Entry]:
        """A session's messages with whence each came; raises `SessionNotFound`."""
        store = self._sqlite("history of forks")
        with store.database() as database:
            entries = list(conversation.history(database, store.inner(session_id)))
        return [
            msgspec.structs.replace(
                each, session_id=store.outer(each.session_id), fork_chain=tuple(map(store.outer, each.fork_chain))
            )
            for each in entries
        ]

    def formatted(self, session_id: str, *, include_metadata: bool = False) -> list[Turn]:
        """A session's messages as a conversation to read; raises `SessionNotFound`."""
        store = self._sqlite("formatted conversation")
        with store.database() as database:
            turns = conversation.formatted(database, store.inner(session_id), include_metadata=include_metadata)
            return [
                msgspec.structs.replace(
                    each,
                    session_id=store.outer(each.session_id),
                    fork_info=each.fork_info.replace(f"(from: {store.prefix}", "(from: "),
                )
                for each in turns
            ]

    def text(self, session_id: str) -> str:
        """A session as text, a message a line; raises `SessionNotFound`."""
        return conversation.lines(self.formatted(session_id))

    def replies(self, session_id: str, message_id: str) -> list[Reply]:
        """All replies below a message, in time order; raises `SessionNotFound` and `MessageNotFound`."""
        store = self._sqlite("tree of replies")
        with store.database() as database:
            return conversation.replies(database, store.inner(session_id), message_id)

    def _sqlite(self, what: str) -> SQLiteSessionStore:
        if not isinstance(self._store, SQLiteSessionStore):
            raise Unsupported(store=self._store.kind, what=what)
        return self._store
