"""A session that is talked in: which one it is, and how both sides get into the store.

What a person says stands in the store before the model is asked, what the model says in a draft as it comes, and in
the store as soon as it ends or is broken off, however that comes about (tests/e2e/test_chat.py). Between two writes
the store is closed, so that nobody waits for a person who types.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from ..storage.current import current_session, set_current
from ..storage.drafts import INTERRUPTED, Draft, Heading
from ..storage.errors import InvalidInput, SessionError, SessionNotFound
from ..storage.home import Home
from ..storage.model import Json, Message, NewMessage, SessionHeader
from ..storage.steps import step
from ..storage.store import Store
from .chat_context import turns
from .stores import writing

if TYPE_CHECKING:
    from .chat_model import Model  # which brings llm

_OF_TITLE = "title = ?"
_NOT_ARCHIVED = "status != 'archived'"


class NothingToGoOnWith(SessionError):
    """No session was there to go on with."""

    exit_code = 3


def the_current(store: Store) -> SessionHeader:
    """The current session; raises `NothingToGoOnWith`."""
    current = current_session(store)
    if current is None:
        raise NothingToGoOnWith("there is no current session", hint="choose one with `steno resume ID`")
    return store.get(current)


def the_last(store: Store) -> SessionHeader:
    """The session that was written to last, of those that are not put away; raises `NothingToGoOnWith`."""
    for session in store.sessions(where=[(_NOT_ARCHIVED, ())], limit=1):
        return session
    raise NothingToGoOnWith("there is no session to resume yet", hint="begin one with `steno chat`")


def the_last_of_title(store: Store, title: str) -> SessionHeader | None:
    """The session of this title that was written to last; None where there is none."""
    return next(iter([*store.sessions(where=[(_OF_TITLE, (title,))], limit=1)]), None)


def the_named(store: Store, ref: str) -> SessionHeader:
    """The session of this id, beginning of an id, or title; raises `SessionNotFound`, `AmbiguousRef`."""
    return store.get(store.resolve(ref))


def the_empty(store: Store, title: str | None) -> SessionHeader | None:
    """The current session while nothing was said in it; None where a new one is to be made."""
    current = current_session(store)
    if current is None:
        return None
    session = store.get(current)
    fits = title is None or session.title == title
    return session if fits and session.message_count == 0 and session.status != "archived" else None


class Talk:
    """A session and the model that answers in it. A new session is made with the first message."""

    def __init__(self, session: SessionHeader | None, model: Model, *, title: str | None, chosen: bool) -> None:
        """``chosen``: the model was asked for, and is to be the session's from now on."""
        self.session = session
        self.model = model
        self._title = title
        self._chosen = chosen

    def say(self, text: str, show: Callable[[str], None]) -> Message | None:
        """Store what a person says, ask the model, ``show`` each piece as it comes, and store them.

        None where the model said nothing. What was said so far is stored too where the model fails or somebody
        interrupts; the error is raised then.
        """
        if not text.strip():
            raise InvalidInput("message cannot be empty")
        messages, heading = self._ask(text)
        step("chat.asked")
        draft = Draft(Home.from_environment().drafts, heading)
        began = monotonic()
        answer = None
        try:
            answer = self.model.answer(turns(messages))
            for piece in answer.pieces():
                draft.add(piece)
                show(piece)
        except BaseException:
            self._keep(draft, usage=answer and answer.usage, metadata={INTERRUPTED: True})
            raise
        took_ms = round((monotonic() - began) * 1000)
        return self._keep(draft, usage=answer.usage, metadata={"duration_ms": took_ms})

    def _ask(self, text: str) -> tuple[list[Message], Heading]:
        """Store what a person says; everything that was said, and the heading of the answer to it."""
        with writing() as store, store.transaction():
            session = self._session(store)
            asked = store.append(session.id, NewMessage(role="user", content=text))
            set_current(store, session.id)
            self.session = store.get(session.id)
            heading = Heading(
                session=session.id, life=session.life, id=store.new_message_id(), after=asked.id, model=self.model.id
            )
            # What waits for the message that it hangs on is shown at the end; the question is the last all the same.
            return [each for each in store.messages(session.id) if each.id != asked.id] + [asked], heading

    def _session(self, store: Store) -> SessionHeader:
        if self.session is None:
            return store.create(title=self._title, provider=self.model.provider, model=self.model.id)
        session = store.get(self.session.id)
        if session.life != self.session.life:
            raise SessionNotFound(ref=session.id)
        changes: dict[str, Json] = {} if session.status == "active" else {"status": "active"}
        if session.model is None or (self._chosen and session.model != self.model.id):
            changes |= {"provider": self.model.provider, "model": self.model.id}
        return store.update(session.id, fields=changes) if changes else session

    def _keep(self, draft: Draft, *, usage: dict[str, Json] | None, metadata: dict[str, Json]) -> Message | None:
        if not draft.text:
            draft.drop()
            return None
        with writing() as store:
            return draft.keep(store, usage=usage, metadata=metadata)
