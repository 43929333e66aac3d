"""A store that somebody else wrote, as the manager sees it.

Its methods may be coroutines: these run on a loop of their own, in a thread of their own, so that a
manager can be used from plain code and from inside a running loop alike. Coda's names (load,
list_all) are known as well (tests/contract/test_session_stores.py).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import InvalidInput, SessionExists, SessionNotFound, Unsupported
from ..model import Message, check_session_id
from .contract import Backend, Selection, User
from .session import Session

if TYPE_CHECKING:
    import asyncio


class Adapter(Backend):
    """Makes a `Backend` of a class with save, get (or load), delete, and what of the listings it has.

    Such a store keeps whole sessions: of two that save the same one at once, the later is what it holds, unless the
    store sees to that. There a deletion is final, and users' profiles are not kept.
    """

    def __init__(self, store: Any) -> None:
        """Raises `InvalidInput` for what is no store."""
        if isinstance(store, type) or not all(hasattr(store, name) for name in ("save", "delete")):
            raise InvalidInput(
                f"not a store: {store!r:.60}", hint="make one, as SQLiteSessionStore(path), or write a SessionStore"
            )
        self.store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    @property
    def kind(self) -> str:
        """The name of the class of the store that was given."""
        return type(self.store).__name__

    def save(self, session: Session) -> None:
        """Hand over the whole session."""
        delta = session.delta()
        if delta.empty:
            return
        self.check_stays(local_only=delta.local_only)
        if delta.fresh and self.get(session.id) is not None:
            raise SessionExists(session=session.id)
        session.offered(delta)
        self._call("save", session)  # without the session's lock: a coroutine reads it from another thread
        session.saved(delta, None)

    def get(self, session_id: str, *, deleted: bool = False) -> Session | None:  # noqa: ARG002  deleted is gone here
        """The session that the store gives."""
        check_session_id(session_id)
        try:
            return _stored(self._call("get" if hasattr(self.store, "get") else "load", session_id))
        except KeyError:
            return None

    def delete(self, session_id: str) -> bool:
        """Delete for good; True where the store had it."""
        if self.get(session_id) is None:
            return False
        return self._call("delete", session_id) is not False

    def restore(self, session_id: str) -> bool:
        """Such a store brings nothing back."""
        raise Unsupported(store=self.kind, what=f"way to bring back session {session_id}")

    def purge(self, session_id: str) -> bool:
        """The same as `delete`."""
        return self.delete(session_id)

    def select(self, selection: Selection) -> list[Session]:
        """Those of the store's sessions that are meant."""
        if selection.deleted:
            return []
        if selection.user_id is not None and hasattr(self.store, "list_for_user"):
            found = [_stored(each) for each in self._call("list_for_user", selection.user_id)]
            return selection.of([each for each in found if each is not None])
        return selection.of(self._all())

    def count(self, selection: Selection = Selection()) -> int:  # noqa: B008  a frozen value
        """How many of the store's sessions are meant."""
        return len(self.select(selection))

    def newest(self, session_id: str, limit: int | None) -> tuple[list[Message], int]:
        """The newest messages of a session, oldest first."""
        session = self.get(session_id)
        known = [] if session is None else session.all_messages()
        return (known if limit is None else known[max(len(known) - limit, 0) :]), 0

    def stream(self, session_id: str) -> Iterator[Message]:
        """All messages of a session in order."""
        session = self.get(session_id)
        if session is None:
            raise SessionNotFound(ref=session_id)
        yield from session.all_messages()

    def find_user(self, user_id: str) -> User | None:  # noqa: ARG002  as `Backend` has it
        """No profile is kept."""
        return None

    def save_user(self, user: User) -> None:
        """No profile can be kept."""
        raise Unsupported(store=self.kind, what=f"profile of user {user.id}")

    def users(self, *, limit: int | None = None, offset: int = 0) -> Sequence[User]:  # noqa: ARG002  as above
        """No profiles are kept."""
        return []

    def close(self) -> None:
        """Close the store, if it can be, and end the thread."""
        if hasattr(self.store, "close"):
            self._call("close")
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _all(self) -> list[Session]:
        found = [self._call("get" if hasattr(self.store, "get") else "load", each) if isinstance(each, str) else each
                 for each in self._call("list_all")]  # fmt: skip
        return [each for each in map(_stored, found) if each is not None]

    def _call(self, name: str, *arguments: Any) -> Any:
        method: Callable[..., Any] | None = getattr(self.store, name, None)
        if method is None:
            raise Unsupported(store=self.kind, what=name)
        result = method(*arguments)
        if not inspect.isawaitable(result):
            return result

        async def wait() -> Any:
            return await result

        from asyncio import run_coroutine_threadsafe  # noqa: PLC0415  35 ms, which only such stores need

        return run_coroutine_threadsafe(wait(), self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                from asyncio import new_event_loop  # noqa: PLC0415  as above

                self._loop = new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name="steno-store", daemon=True).start()
            return self._loop


def _stored(session: Session | None) -> Session | None:
    """A session that a store gave: one that it made anew has nothing that waits to be saved."""
    if session is not None and session.is_new:
        session.saved(msgspec.structs.replace(session.delta(), touched_ms=0), None)
    return session


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
