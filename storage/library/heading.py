"""What a session is besides its messages, and what was done to that since it was loaded.

Where others saved the same session meanwhile, it shows what they wrote once its own save is done, and keeps what was
changed here since (tests/library/test_session_delta.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from threading import RLock
from typing import Any

import msgspec

from ..document import changes, merged, patched
from ..errors import InvalidInput
from ..model import (
    Json,
    SessionHeader,
    check_object,
    check_status,
    check_tag,
    check_text,
    check_title,
    format_ms,
    list_of,
    object_of,
    parse_time,
)
from . import checkpoints
from .checkpoints import Checkpoint
from .delta import FIELDS, Delta

CONTEXT, CHECKPOINTS = "steno.context", "steno.checkpoints"
"""Keys of the state under which a session's context and checkpoints are kept; `Session.state` does not show them."""

_CHECKS: dict[str, Callable[[object], Json]] = {
    "status": check_status,
    "provider": partial(check_text, what="provider"),
    "model": partial(check_text, what="model"),
    "user_id": partial(check_text, what="user_id"),
}


class Heading:
    """The header of a session in the hands of a program: `Session` without its messages."""

    def __init__(self, header: SessionHeader, *, clock: Callable[[], int]) -> None:
        self.lock = RLock()
        """Held while the session is changed, and while it is saved."""
        self.on_change: Callable[[Any], None] | None = None
        """Called when something is done to the session that a save would send."""
        self._clock = clock
        self._touched = False
        self._base = header
        self._automatic = header.title if header.automatic_title else ""
        self._updated_ms = parse_time(header.updated_at)
        self.title = header.title
        self.status = header.status
        self.provider, self.model, self.user_id = header.provider, header.model, header.user_id
        self._tags = list(header.tags)
        self._metadata = copy.deepcopy(header.metadata)
        self._state: dict[str, Json] = {}
        self._context: dict[str, Json] = {}
        self._checkpoints: list[Checkpoint] = []
        self._show_state(copy.deepcopy(header.state))

    def _show_state(self, kept: dict[str, Json]) -> None:
        context, marks = kept.pop(CONTEXT, {}), kept.pop(CHECKPOINTS, {})
        self.context = context if isinstance(context, dict) else {}
        self._checkpoints = checkpoints.read(marks)
        self.state = kept

    # What it is

    @property
    def tags(self) -> list[str]:
        """The tags in their order; the list may be changed, or another one set."""
        return self._tags

    @tags.setter
    def tags(self, value: Iterable[str]) -> None:
        self._tags[:] = dict.fromkeys(check_tag(tag) for tag in list_of(value, "tags"))

    @property
    def metadata(self) -> dict[str, Json]:
        """What programs keep with the session; the object may be changed, or another one set."""
        return self._metadata

    @metadata.setter
    def metadata(self, value: Mapping[str, Json]) -> None:
        _become(self._metadata, value, "metadata")

    @property
    def state(self) -> dict[str, Json]:
        """What an agent keeps with the session, apart from metadata; it may be changed, or another one set."""
        return self._state

    @state.setter
    def state(self, value: Mapping[str, Json]) -> None:
        _become(self._state, value, "state")

    @property
    def context(self) -> dict[str, Json]:
        """What a checkpoint remembers and brings back; it may be changed, or another one set."""
        return self._context

    @context.setter
    def context(self, value: Mapping[str, Json]) -> None:
        _become(self._context, value, "context")

    @property
    def id(self) -> str:
        """The id, which never changes."""
        return self._base.id

    @property
    def local_only(self) -> bool:
        """Say whether it stays on this device: nothing of it is sent to a remote."""
        return self._base.local_only

    @property
    def session_id(self) -> str:
        """The id, as some tools call it."""
        return self.id

    @property
    def name(self) -> str:
        """The title, as some tools call it."""
        return self.title

    @name.setter
    def name(self, value: str) -> None:
        self.title = check_title(value)
        self._touch()

    @property
    def agent_id(self) -> str | None:
        """``metadata.agent_id`` where that is text."""
        value = self.metadata.get("agent_id")
        return value if isinstance(value, str) else None

    @property
    def mode(self) -> str | None:
        """Coda's mode: ``metadata["coda.mode"]``."""
        return self.metadata.get("coda.mode")

    @property
    def description(self) -> str | None:
        """Coda's description: ``metadata["coda.description"]``."""
        return self.metadata.get("coda.description")

    @property
    def system_prompt(self) -> str | None:
        """Coda's system prompt: ``metadata["coda.system_prompt"]``."""
        return self.metadata.get("coda.system_prompt")

    @property
    def config(self) -> dict[str, Json]:
        """Coda's settings of a session: ``metadata["coda.config"]``."""
        return self.metadata.get("coda.config") or {}

    @property
    def forked_from(self) -> dict[str, Json] | None:
        """The session and message that this one was copied from, if it is a fork."""
        return self._base.forked_from

    @property
    def parent(self) -> str | None:
        """The id of the session that this one was copied from."""
        return (self._base.forked_from or {}).get("session")

    @property
    def created_at(self) -> datetime:
        """When the session began."""
        return _moment(parse_time(self._base.created_at))

    @property
    def updated_at(self) -> datetime:
        """When it was last written to, here or in the store it came from."""
        return _moment(self._updated_ms)

    @property
    def deleted_at(self) -> datetime | None:
        """When it was deleted, of one that was asked for although it is."""
        return None if self._base.deleted_at is None else _moment(parse_time(self._base.deleted_at))

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The places to come back to, oldest first."""
        return list(self._checkpoints)

    # What belongs to it

    def set_state(self, key: str, value: Json) -> None:
        """Keep any JSON value under a key of the state."""
        with self.lock:
            if key in (CONTEXT, CHECKPOINTS):
                raise InvalidInput(f"the key {key} of a state is taken", hint="choose another")
            self.state[check_text(key, "a key of the state")] = object_of({"value": value}, "state")["value"]
            self._touch()

    def get_state(self, key: str, default: Any = None) -> Any:
        """The value under a key of the state, or ``default``."""
        return self.state.get(check_text(key, "a key of the state"), default)

    def update_metadata(self, metadata: Mapping[str, Json]) -> None:
        """Merge objects to any depth; lists and all else replace, None is kept as null. Other keys stay."""
        with self.lock:
            self.metadata = merged(self.metadata, object_of(metadata, "metadata"))
            self._touch()

    def remove_metadata(self, *keys: str) -> None:
        """Remove keys of the metadata; one that is not there is passed over."""
        with self.lock:
            for key in keys:
                self.metadata.pop(key, None)
            self._touch()

    def add_tag(self, *tags: str) -> None:
        """Add tags that it has not."""
        with self.lock:
            self.tags += [tag for tag in map(check_tag, tags) if tag not in self.tags]
            self._touch()

    def remove_tag(self, *tags: str) -> None:
        """Remove tags; one that it has not is passed over."""
        with self.lock:
            self.tags[:] = [tag for tag in self.tags if tag not in tags]
            self._touch()

    def touch(self) -> None:
        """Let the next save say when the session was written to, also if it says nothing else."""
        with self.lock:
            self._touched = True
            self._touch()

    def _touch(self, at_ms: int = 0) -> None:
        self._updated_ms = max(self._updated_ms, self._clock(), at_ms)
        if self.on_change is not None:
            self.on_change(self)

    # Saving

    def _state_now(self) -> dict[str, Json]:
        state = dict(self.state)
        if CONTEXT in state or CHECKPOINTS in state:
            raise InvalidInput(f"a state cannot have the keys {CONTEXT} and {CHECKPOINTS}", hint="choose others")
        if self.context:
            state[CONTEXT] = self.context
        if self._checkpoints:
            state[CHECKPOINTS] = checkpoints.kept(self._checkpoints)
        return state

    def _header_changes(self) -> dict[str, Any]:
        """What a `Delta` says of the header; raises `InvalidInput` for what cannot be kept."""
        base = self._base
        before = "" if base.automatic_title else base.title
        now = self._given_title()
        fields: dict[str, Json] = {} if now == before else {"title": None if now == "" else check_title(now)}
        for name in FIELDS[1:]:
            value = getattr(self, name)
            if value != getattr(base, name):
                fields[name] = None if value is None else _CHECKS[name](value)
        check_status(self.status)
        tags = list(dict.fromkeys(check_tag(tag) for tag in self.tags))
        added = [tag for tag in tags if tag not in base.tags]
        return {
            "touched": self._touched,
            "fields": fields,
            "tags": (added, [tag for tag in base.tags if tag not in tags]),
            "tag_order": () if tags == [*(tag for tag in base.tags if tag in tags), *added] else tags,
            "metadata": _changes(base.metadata, self.metadata, "metadata"),
            "state": _changes(base.state, self._state_now(), "state"),
        }

    def _given_title(self) -> str:
        """The title that somebody chose; empty where it is made from the first message."""
        return "" if self.title in (None, "", self._automatic) else self.title

    def _sent(self, delta: Delta) -> SessionHeader:
        """What the store holds after a delta, if nobody else wrote to it."""
        base = self._base
        return msgspec.structs.replace(
            base,
            **{name: delta.fields.get(name, getattr(base, name)) for name in FIELDS[1:]},
            title=delta.fields.get("title", base.title) or self._automatic,
            automatic_title=not delta.fields.get("title", "" if base.automatic_title else base.title),
            tags=delta.tags_after(base.tags),
            metadata=patched(base.metadata, delta.metadata),
            state=patched(base.state, delta.state),
            updated_at=format_ms(max(self._updated_ms, delta.touched_ms)),
        )

    def _rebase(self, delta: Delta, header: SessionHeader) -> None:
        """Take note that a delta was saved, and what the store holds now."""
        self._touched = self._touched and not delta.touched
        if not delta.changes_header and _alike(header, self._base):
            self._base = header  # an append, and nobody else wrote to the header
        else:
            self._rebase_header(self._sent(delta), header)
        self._automatic = header.title if header.automatic_title else ""
        self._updated_ms = max(self._updated_ms, parse_time(header.updated_at))

    def _rebase_header(self, sent: SessionHeader, header: SessionHeader) -> None:
        for name in FIELDS:
            if getattr(self, name) == getattr(sent, name):
                setattr(self, name, getattr(header, name))
        if self.tags == sent.tags:
            self.tags = header.tags
        metadata = patched(header.metadata, changes(sent.metadata, self.metadata))
        if any(changes(self.metadata, metadata)):
            self.metadata = metadata
        now = self._state_now()
        state = patched(header.state, changes(sent.state, now))
        if any(changes(now, state)):
            self._show_state(state)
        self._base = header


def _changes(old: dict[str, Json], new: dict[str, Json], what: str) -> list[tuple[str, bytes]]:
    if not old and not new:  # as mostly
        return []
    return list(changes(old, check_object(new, what)))


_shown = attrgetter(*FIELDS, "tags", "metadata", "state")


def _alike(one: SessionHeader, other: SessionHeader) -> bool:
    return msgspec.json.encode(_shown(one)) == msgspec.json.encode(_shown(other))  # 1, 1.0 and True differ


def _become(held: dict[str, Json], new: Mapping[str, Json], what: str) -> None:
    kept = object_of(new, what)
    held.clear()
    held |= kept


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
