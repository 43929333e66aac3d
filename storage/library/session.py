"""One session in the hands of a program: what it holds, and what was done to it since it was loaded.

Messages are fetched when they are first looked at. Nothing here writes: a save takes the
`Delta`, and what it sent is no longer pending (tests/library/test_session_delta.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from threading import RLock
from typing import Any, NamedTuple, Never, overload

import msgspec

from ..database import random_text, wall_ms
from ..document import changes, patched
from ..errors import InvalidInput, MessageNotFound, SessionTooLarge
from ..model import (
    EXTRA,
    ROLES,
    Json,
    Message,
    SessionHeader,
    automatic_title,
    check_content,
    check_count,
    check_message_id,
    check_object,
    check_session_id,
    check_status,
    check_tag,
    check_text,
    check_title,
    format_ms,
    list_of,
    object_of,
    parse_time,
)
from ..rows import check_size, content_column, encode_json
from . import checkpoints
from .checkpoints import Checkpoint
from .delta import FIELDS, Delta
from .dicts import MessageDict, check_fields, from_dict, usage_of, without_extra
from .transcript import Source, Transcript, in_order, weight

CONTEXT, CHECKPOINTS = "steno.context", "steno.checkpoints"
"""Keys of the state under which a session's context and checkpoints are kept; `Session.state` does not show them."""

_CHECKS: dict[str, Callable[[object], Json]] = {
    "status": check_status,
    "provider": partial(check_text, what="provider"),
    "model": partial(check_text, what="model"),
    "user_id": partial(check_text, what="user_id"),
}
_DIRECT = ("id", "timestamp", "sender", "parent", "model", "usage", "metadata")


class Limits(NamedTuple):
    """What a session may grow to and how much of it is kept at hand."""

    size_bytes: int | None = None
    """Contents of all messages together; None is no limit."""
    cached_messages: int = 1000
    """How many of the newest messages the first look at the end of a session fetches."""


class Messages(Sequence[Message]):
    """A session's messages, oldest first, as it shows them now; they are changed through the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __len__(self) -> int:
        return self._session.message_count

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        if isinstance(index, int) and index < 0:
            return self._session.newest_messages(-index)[index]
        return self._session.all_messages()[index]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._session.all_messages())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Messages | list | tuple) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<{len(self)} messages of {self._session.id}>"


class Session:
    """A conversation: messages, and what belongs to it.

    Made here it is new and stands nowhere until it is saved; a manager hands out those that a store holds.
    ``metadata``, ``state``, ``context`` and ``tags`` may be changed in place. Times are UTC. Raises
    `InvalidInput` where a value cannot be kept.
    """

    def __init__(
        self,
        session_id: str | None = None,
        user_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        *,
        title: str | None = None,
        name: str | None = None,
        status: str = "active",
        provider: str | None = None,
        model: str | None = None,
        agent_id: str | None = None,
        tags: Sequence[str] = (),
        state: Mapping[str, Json] | None = None,
        forked_from: Mapping[str, Json] | None = None,
        clock: Callable[[], int] = wall_ms,
        ids: Callable[[int], str] = random_text,
        limits: Limits = Limits(),  # noqa: B008  a frozen value
    ) -> None:
        """``name`` is the title by another word; ``clock`` gives UTC ms, ``ids`` that many random characters."""
        given = title if title is not None else name
        created_ms = clock()
        self._begin(
            SessionHeader(
                id=f"sess_{ids(12)}" if session_id is None else check_session_id(session_id),
                title="",
                status="active",
                provider=None,
                model=None,
                user_id=None,
                tags=[],
                metadata={},
                state={},
                created_at=format_ms(created_ms),
                updated_at=format_ms(created_ms),
                message_count=0,
                forked_from=None if forked_from is None else object_of(forked_from, "forked_from"),
                automatic_title=True,
            ),
            revision=0,
            clock=clock,
            ids=ids,
            limits=limits,
        )
        self._new = True
        self.title = "" if given is None else check_title(given)
        self.status = status
        self.provider, self.model, self.user_id = provider, model, user_id
        self.tags = tags
        if metadata is not None:
            self.metadata = object_of(metadata, "metadata")
        if agent_id is not None:
            self.metadata["agent_id"] = check_text(agent_id, "agent_id")
        if state is not None:
            self.state = object_of(state, "state")

    @classmethod
    def of(
        cls,
        header: SessionHeader,
        source: Source,
        *,
        revision: int,
        clock: Callable[[], int] = wall_ms,
        ids: Callable[[int], str] = random_text,
        limits: Limits = Limits(),  # noqa: B008  a frozen value
    ) -> Session:
        """A session that a store holds; its messages are fetched when they are looked at."""
        session = cls.__new__(cls)
        session._begin(header, revision=revision, clock=clock, ids=ids, limits=limits)  # noqa: SLF001  its own class
        session.attach(source)
        return session

    def _begin(
        self,
        header: SessionHeader,
        *,
        revision: int,
        clock: Callable[[], int],
        ids: Callable[[int], str],
        limits: Limits,
    ) -> None:
        self.lock = RLock()
        """Held while the session is changed, and while it is saved."""
        self.on_change: Callable[[Session], None] | None = None
        """Called when something is done to the session that a save would send."""
        self.limits = limits
        self._clock, self._ids = clock, ids
        self._new = self._touched = self._fresh = False
        self._base = header
        self._automatic = header.title if header.automatic_title else ""
        self._updated_ms = parse_time(header.updated_at)
        self._transcript = Transcript(
            header.id,
            count=header.message_count,
            size=header.size_bytes,
            revision=revision,
            cached=limits.cached_messages,
        )
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
    def message_count(self) -> int:
        """How many messages it shows; they need not have been fetched."""
        return self._transcript.count

    @property
    def size_bytes(self) -> int:
        """The bytes of all messages' contents."""
        return self._transcript.size_bytes

    @property
    def total_tokens(self) -> int:
        """Tokens of all messages, as far as their usage says."""
        return sum(message.token_usage["total"] for message in self.messages)

    @property
    def total_cost(self) -> float:
        """The cost of all messages, as far as their usage says."""
        return sum(message.cost for message in self.messages)

    @property
    def pending(self) -> bool:
        """Say whether anything waits to be saved."""
        return not self.delta().empty

    def __reduce__(self) -> Never:
        raise InvalidInput("a session is not copied or pickled", hint="use to_json and from_json, or get it by its id")

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.title!r}: {self.message_count} messages>"

    # Messages

    @property
    def messages(self) -> Messages:
        """The messages, oldest first."""
        return Messages(self)

    def all_messages(self) -> list[Message]:
        """The messages, oldest first, in a new list."""
        with self.lock:
            return self._transcript.all()

    def newest_messages(self, count: int) -> list[Message]:
        """The newest messages, at least ``count`` of them as far as there are so many, oldest first."""
        with self.lock:
            return self._transcript.newest(count)

    def iter_messages(self) -> Iterator[Message]:
        """The messages, oldest first, a few at a time: for a session larger than memory."""
        return self._transcript.stream()

    def add_message(
        self,
        message: Mapping[str, Json] | str | None = None,
        content: Any = None,
        *,
        role: str | None = None,
        **more: Any,
    ) -> Message:
        """Add a message at the end, and return it as it is kept.

        Either a dict with a ``role`` and whatever else, all of which comes back from `get_messages`; or a role of
        `ROLES` and its text; or ``role=`` any role and ``content=``. ``more`` are the message's other fields, and
        token_usage, cost, tool_calls, tool_call_id and any other key. A repeated id gets a new one. Raises
        `InvalidInput`, and `SessionTooLarge` beyond the limit. The session stays as it was then.
        """
        with self.lock:
            return self._admit(self._made(message, content, role, more))

    def add_messages(self, messages: Sequence[Mapping[str, Json]]) -> list[Message]:
        """Add messages given as dicts, all or none."""
        given = list_of(messages, "messages")
        with self.lock:
            done: list[Message] = []
            before = self.title, self._automatic, self.status
            try:
                done.extend(self._admit(self._made(each, None, None, {})) for each in given)
            except BaseException:
                self.title, self._automatic, self.status = before
                self._transcript.remove([each.id for each in done])
                raise
            return done

    def _admit(self, made: Message) -> Message:
        _check_size(made)
        self._check_room(weight(made))
        self._transcript.add(made)
        if self.status == "archived":
            self.status = "active"
        if not self.title and made.role == "user":
            self._automatic = self.title = automatic_title(made.content)
        self._touch(parse_time(made.timestamp))
        return made

    def _check_room(self, more_bytes: int) -> None:
        limit = self.limits.size_bytes
        if limit is not None and more_bytes > 0 and self._transcript.size_bytes + more_bytes > limit:
            raise SessionTooLarge(session=self.id, limit_bytes=limit)

    def take_copies(self, messages: Sequence[Message]) -> None:
        """Begin a new session with copies of another one's messages, each naming what it came from."""
        source = (self.forked_from or {}).get("session")
        with self.lock:
            for message in messages:
                origin = message.origin or {"session": source, "message": message.id}
                self._admit(msgspec.structs.replace(message, origin=origin))

    def take_state(self, other: Session) -> None:
        """Begin a new session with a copy of another one's state, context and checkpoints."""
        with self.lock:
            self.state, self.context = copy.deepcopy(other.state), copy.deepcopy(other.context)
            self._checkpoints = other.checkpoints

    def add_user_message(self, content: Any, **more: Any) -> Message:
        """Add what a user says."""
        return self.add_message("user", content, **more)

    def add_assistant_message(self, content: Any, **more: Any) -> Message:
        """Add what the assistant says."""
        return self.add_message("assistant", content, **more)

    def add_system_message(self, content: Any, **more: Any) -> Message:
        """Add an instruction."""
        return self.add_message("system", content, **more)

    def _made(
        self, message: Mapping[str, Json] | str | None, content: Any, role: str | None, more: Mapping[str, Any]
    ) -> Message:
        timestamp = format_ms(self._clock())
        if isinstance(message, Mapping):
            given = {**message, **more}
            free = self._free_id(given.get("id"))
            return from_dict(given, id=free, timestamp=timestamp, is_message=self._transcript.has)
        if message is not None and message not in ROLES:
            if not isinstance(message, str):
                raise InvalidInput(
                    f"a message is a dict, or a role and its text, not a value of type {type(message).__name__}"
                )
            raise InvalidInput(
                f"invalid role: {message:.60} (valid: {', '.join(ROLES)})", hint="any other goes as role=…"
            )
        chosen = message if role is None else role
        if chosen is None:
            raise InvalidInput("a message must have a role")
        fields: dict[str, Any] = {name: more[name] for name in _DIRECT if more.get(name) is not None}
        fields.setdefault("timestamp", timestamp)
        if "parent" in fields and not self._transcript.has(check_text(fields["parent"], "parent")):
            raise InvalidInput(f"there is no message {fields['parent']} in this session to reply to")
        fields["id"] = self._free_id(fields.get("id"))
        usage = usage_of(more.get("token_usage"), more.get("cost"))
        if usage:
            fields.setdefault("usage", usage)
        named = (*_DIRECT, "token_usage", "cost")
        extra = {key: value for key, value in more.items() if key not in named and value is not None}
        if extra:
            fields["metadata"] = {**fields.get("metadata", {}), EXTRA: check_object(extra, "a message")}
        text: Any = "" if content is None and "tool_calls" in extra else content
        return check_fields(Message(**fields, role=chosen, content=text))

    def _free_id(self, wanted: Json) -> str:
        """The id that was asked for if it can be had, else a new one that sorts by birth."""
        if wanted is None:
            return self._new_id()
        try:
            taken = self._transcript.has(check_message_id(wanted))
        except InvalidInput:
            taken = True
        return self._new_id() if taken else wanted

    def _new_id(self) -> str:
        return f"m-{self._clock():011x}{self._ids(8)}"

    def get_messages(
        self,
        limit: int | None = None,
        offset: int | None = None,
        *,
        include_system: bool = True,
        last_n: int | None = None,
    ) -> list[MessageDict]:
        """The messages as the dicts that were given, oldest first.

        ``limit`` alone (or ``last_n``) keeps the newest that many; with ``offset`` that many are skipped from the
        beginning, and ``limit`` counts from there. Raises `InvalidInput` for a negative number.
        """
        for name, number in (("limit", limit), ("offset", offset), ("last_n", last_n)):
            if number is not None:
                check_count(number, name)
        newest = last_n if last_n is not None else (limit if offset is None else None)
        if newest is None and include_system:
            with self.lock:
                page = self._transcript.page(offset or 0, limit)
            return [MessageDict(message, at) for at, message in enumerate(page, start=(offset or 0) + 1)]
        with self.lock:
            known = self._transcript.newest(newest if include_system else None)
            first = self.message_count - len(known) + 1
            shown = [
                MessageDict(message, first + at)
                for at, message in enumerate(known)
                if include_system or message.role != "system"
            ]
        if newest is not None:
            return shown[len(shown) - min(newest, len(shown)) :]
        start = offset or 0
        return shown[start : None if limit is None else start + limit]

    def get_api_messages(self) -> list[dict[str, Any]]:
        """The messages as chat APIs want them: role and content, and of tools what was given."""
        tools = ("tool_calls", "tool_call_id", "name")
        return [
            {"role": message.role, "content": message.extra.get("content", message.content)}
            | {name: message.extra[name] for name in tools if message.extra.get(name)}
            for message in self.messages
        ]

    def edit_message(self, message_id: str, **fields: Json) -> Message:
        """Change a message's content, sender, model or usage; metadata is merged. Raises `MessageNotFound`."""
        with self.lock:
            unknown = fields.keys() - {"content", "sender", "model", "usage", "metadata"}
            if unknown:
                raise InvalidInput(f"a message has no field {', '.join(sorted(unknown))} that can be changed")
            if "content" in fields:
                check_content(fields["content"])
            old = self.message(message_id)
            bare = without_extra(old, fields)
            metadata = _merged(bare.metadata, check_object(fields.pop("metadata", {}), "metadata"))
            new = check_fields(msgspec.structs.replace(bare, **fields, metadata=metadata))
            _check_size(new)
            self._check_room(weight(new) - weight(old))
            self._transcript.edit(old, new)
            self._touch()
            return new

    def remove_messages(self, message_ids: Collection[str]) -> None:
        """Remove messages; ids that are not there are passed over."""
        with self.lock:
            self._transcript.remove(list_of(message_ids, "message_ids"))
            self._touch()

    def clear_messages(self) -> None:
        """Remove every message; metadata, state and id stay. What arrived in the store unseen stays there."""
        with self.lock:
            self._transcript.clear()
            self._touch()

    def clear(self, *, keep_system: bool = True) -> None:
        """Remove every message but the instructions."""
        if not keep_system:
            self.clear_messages()
            return
        self.remove_messages([each.id for each in self.messages if each.role != "system"])

    def reset(self) -> None:
        """Remove every message, the context, the state and the checkpoints."""
        with self.lock:
            self.clear_messages()
            self.context.clear()
            self.state.clear()
            self._checkpoints = []

    def truncate_messages(self, max_messages: int) -> int:
        """Keep the newest ``max_messages``, remove the others, and say how many those were."""
        check_count(max_messages, "max_messages")
        with self.lock:
            self.newest_messages(max_messages + 1)
            extra = self.message_count - max_messages
            if extra <= 0:
                return 0
            if max_messages == 0:
                self.clear_messages()
            else:
                self.remove_messages([each.id for each in self.all_messages()[:-max_messages]])
            return extra

    def touch(self) -> None:
        """Let the next save say when the session was written to, also if it says nothing else."""
        with self.lock:
            self._touched = True
            self._touch()

    def _touch(self, at_ms: int = 0) -> None:
        self._updated_ms = max(self._updated_ms, self._clock(), at_ms)
        if self.on_change is not None:
            self.on_change(self)

    def message(self, message_id: str) -> Message:
        """The message of this id; raises `MessageNotFound`."""
        with self.lock:
            found = self._transcript.find(check_text(message_id, "message id"))
        if found is None:
            raise MessageNotFound(session=self.id, message=message_id)
        return found

    # Going back

    def rewind(self, message_id: str, *, inclusive: bool = False) -> bool:
        """Remove what came after a message, ``inclusive`` of it; False where there is no such message."""
        with self.lock:
            known = self.all_messages()
            at = in_order(known, message_id)
            if at is None:
                return False
            self._cut(known, at if inclusive else at + 1)
            return True

    def rewind_n_messages(self, count: int) -> int:
        """Remove the newest ``count`` messages and say how many those were; raises `InvalidInput` below 0."""
        check_count(count, "the number of messages")
        with self.lock:
            known = self.all_messages()
            keep = max(len(known) - count, 0)
            self._cut(known, keep)
            return len(known) - keep

    def _cut(self, known: list[Message], keep: int) -> None:
        if keep < len(known):
            kept = {each.id for each in known[:keep]}
            self.remove_messages([each.id for each in known[keep:]])
            self._checkpoints = [mark for mark in self._checkpoints if mark.message is None or mark.message in kept]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The places to come back to, oldest first."""
        return list(self._checkpoints)

    def checkpoint(self, name: str | None = None) -> str:
        """Remember this place and the context, and return the checkpoint's id."""
        with self.lock:
            known = self.get_messages(limit=1)
            mark = Checkpoint(
                id=f"cp_{self._ids(12)}",
                name=None if name is None else check_text(name, "name"),
                message=known[-1].message.id if known else None,
                context=copy.deepcopy(check_object(self.context, "context")),
                created_at=format_ms(self._clock()),
            )
            check_object({**self._state_now(), CHECKPOINTS: checkpoints.kept([*self._checkpoints, mark])}, "state")
            self._checkpoints.append(mark)
            self._touch()
            return mark.id

    def rewind_to_checkpoint(self, checkpoint: str, *, restore_context: bool = True) -> bool:
        """Go back to a checkpoint by its id, or to the newest of a name; False where there is none.

        Messages that came after it are removed, and checkpoints made after it forgotten.
        """
        with self.lock:
            at = checkpoints.meant(self._checkpoints, checkpoint)
            if at is None:
                return False
            mark, earlier = self._checkpoints[at], self._checkpoints[: at + 1]
            known = self.all_messages()
            place = -1 if mark.message is None else in_order(known, mark.message)
            if place is None:
                return False
            self._cut(known, place + 1)
            self._checkpoints = earlier
            if restore_context:
                self.context = copy.deepcopy(mark.context)
            self._touch()
            return True

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
            self.metadata = _merged(self.metadata, object_of(metadata, "metadata"))
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

    def delta(self) -> Delta:
        """What was done since the session was loaded or last saved; raises `InvalidInput` for what cannot be kept."""
        with self.lock:
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
            messages = self._transcript.changes()
            return Delta(
                id=self.id,
                touched_ms=self._clock(),
                life=base.life,
                fresh=self._fresh,
                new=self._new,
                touched=self._touched,
                created_ms=parse_time(base.created_at),
                forked_from=base.forked_from,
                cleared_upto=messages.cleared_upto,
                removed=messages.removed,
                edited=messages.edited,
                added=messages.added,
                fields=fields,
                tags=(added, [tag for tag in base.tags if tag not in tags]),
                tag_order=() if tags == [*(tag for tag in base.tags if tag in tags), *added] else tags,
                metadata=_changes(base.metadata, self.metadata, "metadata"),
                state=_changes(base.state, self._state_now(), "state"),
            )

    def _given_title(self) -> str:
        """The title that somebody chose; empty where it is made from the first message."""
        return "" if self.title in (None, "", self._automatic) else self.title

    def renew(self, message_ids: Collection[str]) -> None:
        """Give messages that wait to be saved new ids, since the store's session has theirs for others."""
        with self.lock:
            new = self._transcript.renew(message_ids, self._new_id)
            self._checkpoints = checkpoints.renamed(self._checkpoints, new)

    def offered(self, delta: Delta) -> None:
        """Take note that a delta is sent: until a store answers, what it adds may be there or not."""
        with self.lock:
            self._transcript.offer(delta.added)

    @property
    def is_new(self) -> bool:
        """Say whether it was made here and not saved since."""
        return self._new

    def must_be_new(self) -> None:
        """Let the first save be refused where the store has a session of this id, deleted or not."""
        self._fresh = True

    def attach(self, source: Source) -> None:
        """Let messages be fetched from a store from now on."""
        self._transcript.source = source

    def saved(self, delta: Delta, header: SessionHeader | None) -> None:
        """Take note that a delta was saved; ``header`` is what the store holds now, None what the session shows.

        What others changed meanwhile is shown from now on; what was done here since the delta stays pending.
        """
        with self.lock:
            count, size = (header.message_count, header.size_bytes) if header else (None, None)
            self._transcript.saved(delta, count=count, size=size)
            self._new = self._fresh = False
            self._touched = self._touched and not delta.touched
            self._rebase(delta, header or self._sent(delta))

    def _sent(self, delta: Delta) -> SessionHeader:
        """What the store holds after a delta, if nobody else wrote to it."""
        base = self._base
        added, removed = delta.tags
        return msgspec.structs.replace(
            base,
            **{name: delta.fields.get(name, getattr(base, name)) for name in FIELDS[1:]},
            title=delta.fields.get("title", base.title) or self._automatic,
            automatic_title=not delta.fields.get("title", "" if base.automatic_title else base.title),
            tags=list(delta.tag_order) or [tag for tag in base.tags if tag not in removed] + list(added),
            metadata=patched(base.metadata, delta.metadata),
            state=patched(base.state, delta.state),
            updated_at=format_ms(max(self._updated_ms, delta.touched_ms)),
            message_count=self._transcript.count,
            size_bytes=self._transcript.size_bytes,
        )

    def _rebase(self, delta: Delta, header: SessionHeader) -> None:
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

    # As text

    def to_dict(self) -> dict[str, Json]:
        """Everything of the session as JSON values; `from_dict` makes an equal one of it."""
        with self.lock:
            return {
                "session_id": self.id,
                "user_id": self.user_id,
                "title": self.title,
                "status": self.status,
                "provider": self.provider,
                "model": self.model,
                "tags": list(self.tags),
                "metadata": copy.deepcopy(self.metadata),
                "state": copy.deepcopy(self.state),
                "context": copy.deepcopy(self.context),
                "checkpoints": [msgspec.to_builtins(mark) for mark in self._checkpoints],
                "forked_from": self.forked_from,
                "created_at": self._base.created_at,
                "updated_at": format_ms(self._updated_ms),
                "messages": [msgspec.to_builtins(message) for message in self.messages],
            }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return msgspec.json.encode(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, given: Mapping[str, Json], *, clock: Callable[[], int] = wall_ms) -> Session:
        """A new session equal to the one that `to_dict` described; raises `InvalidInput`."""
        if not isinstance(given, Mapping):
            raise InvalidInput(f"not a session (a value of type {type(given).__name__})")
        try:
            session = cls(
                given["session_id"],
                given.get("user_id"),
                given.get("metadata"),
                title=given.get("title") or None,
                status=given.get("status") or "active",
                provider=given.get("provider"),
                model=given.get("model"),
                tags=given.get("tags") or (),
                state=given.get("state"),
                forked_from=given.get("forked_from"),
                clock=clock,
            )
            messages = msgspec.convert(given.get("messages") or [], list[Message])
            session._checkpoints = msgspec.convert(given.get("checkpoints") or [], list[Checkpoint])
            updated_ms = parse_time(given["updated_at"]) if given.get("updated_at") else session._updated_ms
            if given.get("created_at"):
                session._base = msgspec.structs.replace(
                    session._base, created_at=format_ms(parse_time(given["created_at"]))
                )
        except (KeyError, msgspec.ValidationError) as exc:
            raise InvalidInput(f"not a session ({exc})") from exc
        if given.get("context") is not None:
            session.context = given["context"]
        for message in messages:
            if session._transcript.has(message.id):
                raise InvalidInput(f"not a session (two messages have the id {message.id})")
            session._transcript.add(check_fields(message))
        session._updated_ms = updated_ms
        return session

    @classmethod
    def from_json(cls, text: str | bytes, *, clock: Callable[[], int] = wall_ms) -> Session:
        """The session of `to_json`; raises `InvalidInput`."""
        try:
            given = msgspec.json.decode(text)
        except (TypeError, ValueError) as exc:
            raise InvalidInput(f"not a session ({exc})") from exc
        return cls.from_dict(given, clock=clock)


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


def _merged(old: Mapping[str, Json], patch: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(old)
    for key, value in patch.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(value, dict) and isinstance(before, dict) else value
    return merged


def _check_size(message: Message) -> None:
    """Refuse here what no store would keep: a session that holds it could not be saved again."""
    more = [encode_json(part) for part in (message.usage, message.metadata) if part]
    check_size(content_column(message.content), *more)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
