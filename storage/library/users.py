"""Whom sessions belong to: profiles, and what happens to the sessions when one is deleted.

(tests/library/test_zep_model.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from ..errors import InvalidInput
from ..model import Json, check_count, check_text, check_user_id, format_ms, object_of
from .contract import Backend, Selection, User
from .session import Session

_PROFILE = ("email", "first_name", "last_name")


class Users:
    """The users of one store; a user needs no profile to have sessions, unless ``strict`` was asked for."""

    def __init__(self, store: Backend, *, clock: Callable[[], int], strict: bool) -> None:
        self._store = store
        self._clock = clock
        self._strict = strict

    def create(self, user_id: str, *, metadata: Mapping[str, Json] | None = None, **profile: str | None) -> User:
        """Keep a profile (email, first_name, last_name, metadata); raises `InvalidInput` where there is one."""
        if self._store.find_user(check_user_id(user_id)) is not None:
            raise InvalidInput(f"user already exists with user_id: {user_id}")
        now = format_ms(self._clock())
        user = User(
            id=user_id,
            created_at=now,
            updated_at=now,
            metadata={} if metadata is None else object_of(metadata, "metadata"),
            **_checked(profile),
        )
        self._store.save_user(user)
        return user

    def get(self, user_id: str) -> User | None:
        """A user's profile, or None."""
        return self._store.find_user(check_text(user_id, "user id"))

    def update(self, user_id: str, *, metadata: Mapping[str, Json] | None = None, **profile: str | None) -> User:
        """Change a profile; metadata is merged by its top-level keys. Raises `InvalidInput` for an unknown user."""
        user = self._known(user_id)
        merged = {**user.metadata, **({} if metadata is None else object_of(metadata, "metadata"))}
        changed = msgspec.structs.replace(
            user, metadata=merged, updated_at=format_ms(self._clock()), **_checked(profile)
        )
        self._store.save_user(changed)
        return changed

    def delete(self, user_id: str) -> bool:
        """Delete a profile and (softly) every session of the user; False where there was neither."""
        user = self._store.find_user(check_text(user_id, "user id"))
        deleted = [self._store.delete(session.id) for session in self.sessions(user_id, include_archived=True)]
        if user is not None:
            self._store.save_user(msgspec.structs.replace(user, deleted_at=format_ms(self._clock())))
        return user is not None or any(deleted)

    def list(self, *, limit: int | None = None, offset: int = 0) -> Sequence[User]:
        """Profiles in the order in which they were made."""
        return self._store.users(
            limit=None if limit is None else check_count(limit, "limit"), offset=check_count(offset, "offset")
        )

    def sessions(self, user_id: str, *, include_archived: bool = False) -> Sequence[Session]:
        """The sessions of a user, the last written to first."""
        return self._store.select(Selection(user_id=check_text(user_id, "user id"), archived=include_archived))

    def meet(self, user_id: str) -> None:
        """Be told that a session is to belong to a user; raises `InvalidInput` if strict and there is none."""
        if self._strict and self._store.find_user(user_id) is None:
            raise InvalidInput(f"user does not exist with user_id: {user_id}")

    def _known(self, user_id: str) -> User:
        user = self._store.find_user(check_text(user_id, "user id"))
        if user is None:
            raise InvalidInput(f"user does not exist with user_id: {user_id}")
        return user


def _checked(profile: Mapping[str, str | None]) -> dict[str, str | None]:
    unknown = profile.keys() - set(_PROFILE)
    if unknown:
        raise InvalidInput(f"a user has no {', '.join(sorted(unknown))} (there are {', '.join(_PROFILE)}, metadata)")
    return {name: None if value is None else check_text(value, name) for name, value in profile.items()}
