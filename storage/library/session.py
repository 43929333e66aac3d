"""One session in the hands of a program: what it holds, and what was done to it since it was loaded.

Messages are fetched when they are first looked at. Nothing here writes: a save takes the
`Delta`, and what it sent is no longer pending (tests/library/test_session_delta.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Never, overload

import msgspec

from ..database import random_text, wall_ms
from ..errors import InvalidInput, MessageNotFound, SessionTooLarge
from ..model import (
    Json,
    Message,
    SessionHeader,
    automatic_title,
    check_count,
    check_object,
    check_session_id,
    check_text,
    check_title,
    format_ms,
    list_of,
    object_of,
    parse_time,
)
from . import checkpoints
from .checkpoints import Checkpoint
from .composing import Composer, changed
from .delta import Delta
from .dicts import MessageDict, check_fields
from .heading import CHECKPOINTS, Heading
from .transcript import Source, Transcript, in_order, weight


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


class Session(Heading):
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
        local_only: bool = False,
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
                local_only=local_only,
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
        super().__init__(header, clock=clock)
        self.limits = limits
        self._ids = ids
        self._new = self._fresh = False
        self._transcript = Transcript(
            header.id,
            count=header.message_count,
            size=header.size_bytes,
            revision=revision,
            cached=limits.cached_messages,
        )
        self._composer = Composer(clock=clock, ids=ids, is_message=self._transcript.has)

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
            return self._admit(self._composer.made(message, content, role, more))

    def add_messages(self, messages: Sequence[Mapping[str, Json]]) -> list[Message]:
        """Add messages given as dicts, all or none."""
        given = list_of(messages, "messages")
        with self.lock:
            done: list[Message] = []
            before = self.title, self._automatic, self.status
            try:
                done.extend(self._admit(self._composer.made(each)) for each in given)
            except BaseException:
                self.title, self._automatic, self.status = before
                self._transcript.remove([each.id for each in done])
                raise
            return done

    def _admit(self, made: Message) -> Message:
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
            old = self.message(message_id)
            new = changed(old, fields)
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

    # Saving

    def delta(self) -> Delta:
        """What was done since the session was loaded or last saved; raises `InvalidInput` for what cannot be kept."""
        with self.lock:
            messages = self._transcript.changes()
            return Delta(
                id=self.id,
                touched_ms=self._clock(),
                life=self._base.life,
                fresh=self._fresh,
                new=self._new,
                created_ms=parse_time(self._base.created_at),
                forked_from=self.forked_from,
                local_only=self.local_only,
                cleared_upto=messages.cleared_upto,
                removed=messages.removed,
                edited=messages.edited,
                added=messages.added,
                **self._header_changes(),
            )

    def renew(self, message_ids: Collection[str]) -> None:
        """Give messages that wait to be saved new ids, since the store's session has theirs for others."""
        with self.lock:
            new = self._transcript.renew(message_ids, self._composer.new_id)
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
            self._rebase(delta, header or self._sent(delta))

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
                "local_only": self.local_only,
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
                local_only=bool(given.get("local_only")),
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
