"""Errors in the words that MemoriesDB's own have, for programs that look at them."""

from __future__ import annotations

from ..storage.errors import SessionError, SessionNotFound


class UnknownSession(SessionNotFound):
    """A message was to be added to what is no session."""

    def __init__(self, *, ref: str) -> None:
        SessionError.__init__(self, f"Session not found: {ref}", hint=self.hint)
        self.ref = ref


class UnknownOriginal(SessionNotFound):
    """A fork was asked for of what is no session."""

    def __init__(self, *, ref: str) -> None:
        SessionError.__init__(self, f"Original session not found: {ref}", hint=self.hint)
        self.ref = ref
