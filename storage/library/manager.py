"""The manager: makes, finds, saves, archives and deletes sessions on whatever store there is.

One class for the ways in which people speak of sessions: by the name of a user, by the title, by
the id. What belongs to one idea has a place of its own: `users`, `forks`, and the store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..database import random_text, wall_ms
from ..errors import AmbiguousRef, InvalidInput, SessionDeleted, SessionError, SessionNotFound, Unsupported
from ..home import Home
from ..model import Json, Message, check_count, check_text, check_title, list_of, object_of
from ..search import Hit
from ..settings import Settings, settings_of
from . import budget, exporting, tools
from .adapter import Adapter
from .autosave import Autosave
from .budget import Context
from .contract import Backend, Selection, SessionStore
from .dicts import MessageDict
from .environment import environment_names_a_store, store_from_environment, store_from_settings
from .forks import Forks
from .session import Limits, Session
from .sqlite_store import SQLiteSessionStore
from .templates import TEMPLATES, Template, begin
from .users import Users

DAY_MS = 86_400_000
HITS_PER_SESSION = 20
MAX_DAYS = 100_000
_CODA = ("mode", "description", "system_prompt", "config")


class Found(NamedTuple):
    """A session in which a search found something, and where; the best first."""

    session: Session
    messages: list[Hit]
    score: float


class SessionManager:
    """Sessions on a store.

    Without an argument the store is the one that the environment names (``STENO_BACKEND``, …), else this home's.
    A mapping ``{"session": {…}}`` holds the settings of docs/config.md; then a session is called by its name, and
    saved by itself, as the home's sessions are. ``store`` (or ``storage``) is any `SessionStore`, sync or async.
    ``clock`` gives UTC ms, ``ids`` that many random characters: for the store as well, whose own they are by default.
    Closing saves what autosave would.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        store: SessionStore | Any = None,
        storage: SessionStore | Any = None,
        clock: Callable[[], int] | None = None,
        ids: Callable[[int], str] | None = None,
    ) -> None:
        self._clock, self._ids = clock or wall_ms, ids or random_text
        self._by_name, self._of_home = config is not None, False
        given = store if store is not None else storage
        settings, backend = self._chosen(config, given)
        backend.clock = self._clock = clock or backend.clock
        backend.ids = self._ids = ids or backend.ids
        self.store: Any = backend
        """The store, with what is its own."""
        self.templates: dict[str, Template] = dict(TEMPLATES)
        self.users = Users(backend, clock=self._clock, strict=settings.session.strict_users)
        self.forks = Forks(backend)
        self._limits = backend.limits
        interval_s = settings.session.autosave_interval if self._by_name or self._of_home else 0
        self._autosave = Autosave(backend, interval_s=interval_s)

    def _chosen(self, config: Mapping[str, Any] | None, given: Any) -> tuple[Settings, Backend]:
        if config is not None and not isinstance(config, Mapping):
            raise InvalidInput("the configuration must be a mapping of sections", hint="a store goes as store=…")
        settings = Settings() if config is None else settings_of(config, where="the configuration")
        if given is not None:
            return settings, given if isinstance(given, Backend) else Adapter(given)
        if config is None and environment_names_a_store():
            return settings, store_from_environment(clock=self._clock, ids=self._ids)
        if config is None:
            settings, self._of_home = Home.from_environment().settings(), True
        return settings, store_from_settings(settings, clock=self._clock, ids=self._ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Save what autosave watches and close the store; called twice it does nothing."""
        try:
            self._autosave.close()
        finally:
            self.store.close()

    def autosave(self) -> int:
        """Save now what autosave would save later, and say how many sessions that were."""
        return self._autosave.save()

    @contextmanager
    def acting(self, actor: str) -> Generator[None]:
        """Name who writes what is written inside; raises `Unsupported` on a store that does not keep it."""
        with self._sqlite("record of who wrote").acting(actor):
            yield

    # Making

    def create_session(
        self,
        name_or_user: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        *,
        user_id: str | None = None,
        title: str | None = None,
        name: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        branch_from: str | None = None,
        template: str | None = None,
        values: Mapping[str, Json] | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Json] | None = None,
        state: Mapping[str, Json] | None = None,
        local_only: bool = False,
        **coda: Json,
    ) -> Session:
        """Make a session, which stands in the store at once; one that is ``local_only`` is never sent to a remote.

        The first argument is the user's id; of a manager made from a mapping the session's name, and then a session of
        that name is loaded as it is where there is one, unless provider, model or mode is given. ``branch_from`` (an
        id or name) begins it with another session's messages. ``template`` is one of `templates`, ``values`` what
        stands in it. ``coda`` are mode, description, system_prompt and config, kept in metadata. Raises `InvalidInput`,
        `SessionNotFound`, and `SessionError` where id or, for a branch, name is taken.
        """
        if name_or_user is not None:
            name, user_id = (name_or_user, user_id) if self._by_name else (name, name_or_user)
        anew = provider is not None or model is not None or "mode" in coda
        fields = {"provider": provider, "model": model, "user_id": user_id, "tags": list_of(tags, "tags")}
        if anew and self._by_name and branch_from is None:
            coda["mode"] = coda.get("mode") or "general"
        metadata = _metadata(metadata, agent_id, coda)
        title = name if title is None else title
        loads = self._by_name and (branch_from is not None or not anew)
        known = self._named(name) if loads and name is not None else None
        if local_only:
            self._check_stays(known, branch_from)
        if branch_from is not None:
            if known is not None:
                raise SessionError(f"session already exists: {name}", hint="choose another name")
            if (session_id, template, state) != (None, None, None):
                raise InvalidInput("a branch has its messages and state from its original, and an id of its own")
            return self._branch(branch_from, title=title, metadata=metadata, fields=fields)
        if known is not None:
            return known
        session = self._blank(session_id, title=title, metadata=metadata, state=state, local_only=local_only, **fields)
        if template is not None:
            self._begin(session, template, {} if values is None else object_of(values, "values"))
        return self._keep(session)

    def _check_stays(self, known: Session | None, branch_from: str | None) -> None:
        """Raise where a session that is to be local-only would be on a server, or is one that is sent."""
        self.store.check_stays(local_only=True)
        if known is not None and not known.local_only:
            raise SessionError(f"session {known.id} exists and is not local-only", hint="choose another name")
        if branch_from is not None and not self.load_session(branch_from).local_only:
            raise InvalidInput("a branch is local-only where its original is")

    def create_from_template(self, template: str, name: str | None = None, **values: Json) -> Session:
        """Make a session that begins with a template's instruction; raises `InvalidInput` for an unknown one."""
        return self.create_session(title=name or template.replace("_", " "), template=template, values=values)

    def _begin(self, session: Session, name: str, values: Mapping[str, Json]) -> None:
        template = self.templates.get(check_text(name, "template"))
        if template is None:
            raise InvalidInput(f"unknown template: {name} (there are {', '.join(sorted(self.templates))})")
        begin(session, name, template, values)

    def _blank(self, session_id: str | None = None, **given: Any) -> Session:
        return Session(session_id, **given, clock=self._clock, ids=self._ids, limits=self._limits)

    def _keep(self, session: Session) -> Session:
        """Let a session that was made here stand in the store; raises `SessionExists` where its id is taken."""
        if session.user_id is not None:
            self.users.meet(session.user_id)
        session.must_be_new()
        self.store.save(session)
        return self._out(session)

    def _branch(
        self, ref: str, *, title: str | None, metadata: Mapping[str, Json], fields: Mapping[str, Any]
    ) -> Session:
        if fields["user_id"] is not None:
            self.users.meet(fields["user_id"])
        original = self.load_session(ref)
        self._autosave.save(only=original.id)
        given = {name: value for name, value in fields.items() if value not in (None, [])}
        return self._out(self.store.fork(original.id, title=title or None, metadata=metadata, fields=given))

    def get_or_create(self, session_id: str, user_id: str | None = None, **more: Any) -> Session:
        """The session of this id, made where there is none."""
        return self.get_session(session_id) or self.create_session(session_id=session_id, user_id=user_id, **more)

    # Finding

    def get_session(self, session_id: str) -> Session | None:
        """The session of this id, or None; its messages are fetched when they are looked at."""
        found = self.store.get(session_id)
        return None if found is None else self._out(found)

    def load_session(self, ref: str) -> Session:
        """The session that an id or title means (`resolve`); raises `SessionNotFound` and `AmbiguousRef`."""
        found = self.store.get(ref) or self._named(ref)
        return self._out(found or self._must(self.resolve(ref)))

    def resolve(self, ref: str) -> str:
        """The id that an id, its beginning, a title in any case or a part of one means; see `Backend.resolve`."""
        return self.store.resolve(ref)

    def get_session_info(self, ref: str) -> Session | None:
        """What `load_session` gives, or None."""
        try:
            return self.load_session(ref)
        except SessionNotFound:
            return None

    def last(self) -> Session | None:
        """The active session that was used last."""
        found = self.store.select(Selection(status="active", limit=1))
        return self._out(found[0]) if found else None

    def exists(self, session_id: str) -> bool:
        """Say whether there is a session of this id."""
        return self.store.get(session_id) is not None

    def count(self, user_id: str | None = None) -> int:
        """How many sessions there are, of a user or of all; archived ones included."""
        return self.store.count(Selection(user_id=user_id))

    def list_sessions(
        self,
        user_id: str | None = None,
        agent_id: str | None = None,
        limit: int | None = None,
        *,
        offset: int = 0,
        status: str | None = None,
        include_archived: bool = True,
        sort: str = "updated",
    ) -> list[Session]:
        """Sessions, the last written to first, without fetching a message; the limit counts those that are meant."""
        selection = Selection(
            user_id=user_id,
            agent_id=agent_id,
            status=status,
            archived=include_archived,
            sort=sort,
            limit=limit,
            offset=offset,
        )
        return [self._out(session, hold=False) for session in self.store.select(selection)]

    def get_active_sessions(self, limit: int | None = None) -> list[Session]:
        """The active sessions, the last written to first."""
        return self.list_sessions(status="active", limit=limit)

    def get_sessions_for_user(self, user_id: str, include_archived: bool = False) -> list[Session]:
        """The sessions of a user, the last written to first."""
        return [self._out(each, hold=False) for each in self.users.sessions(user_id, include_archived=include_archived)]

    def search(self, query: str, limit: int = 20, **filters: Any) -> list[Found]:
        """At most ``limit`` sessions in which a query finds something, the best first, each with what was found there.

        The query is that of ``steno search`` (docs/search.md); ``filters`` are those of `storage.search.search`.
        Raises `InvalidInput` for a blank query, and `Unsupported` on a store without an index.
        """
        grouped: dict[str, list[Hit]] = {}
        store = self._sqlite("search")
        for hit in store.search(query, limit=check_count(limit, "limit") * HITS_PER_SESSION or 1, **filters):
            grouped.setdefault(hit.session, []).append(hit)
        found = [(self.get_session(session_id), hits) for session_id, hits in islice(grouped.items(), limit)]
        return [
            Found(session, [hit for hit in hits if hit.message is not None][:HITS_PER_SESSION], hits[0].score)
            for session, hits in found
            if session is not None
        ]

    def _named(self, name: str) -> Session | None:
        found = self.store.select(Selection(title=check_title(name), limit=1))
        return self._out(found[0]) if found else None

    def _must(self, session_id: str) -> Session:
        session = self.get_session(session_id)
        if session is None:
            raise SessionNotFound(ref=session_id)
        return session

    def _writable(self, session_id: str) -> Session:
        """The session of an id to write to, a deleted one woken; raises `SessionNotFound`."""
        session = self.get_session(session_id)
        if session is None and self.store.get(session_id, deleted=True) is not None:
            self.store.save(self._blank(session_id))
            session = self.get_session(session_id)
        if session is None:
            raise SessionNotFound(ref=session_id)
        return session

    def _out(self, session: Session, *, hold: bool = True) -> Session:
        """A session on its way to the caller, watched by autosave and within the limits."""
        session.limits = self._limits
        self._autosave.watch(session, hold=hold)
        return session

    # Saving and changing

    def save(self, session: Session) -> None:
        """Save what was done to a session; raises `SessionDeleted` where it was deleted since it was loaded."""
        if not isinstance(session, Session):
            raise InvalidInput(f"only a Session can be saved, not a value of type {type(session).__name__}")
        self.store.save(session)

    def save_session(self, session: Session) -> None:
        """Save what was done to a session; the other word for `save`."""
        self.save(session)

    def add_message(self, session_id: str, message: Any = None, content: Any = None, **more: Any) -> Message:
        """Add a message to a session by its id, and save; see `Session.add_message` and `add_messages`."""

        def add(session: Session) -> list[Message]:
            return [session.add_message(message, content, **more)]

        return self._add(session_id, add)[0]

    def add_messages(self, session_id: str, messages: Sequence[Mapping[str, Json]]) -> list[Message]:
        """Add messages to a session by its id, all or none, and save.

        An unknown session is made; a deleted one is shown again without its old messages.
        """
        return self._add(session_id, lambda session: session.add_messages(messages))

    def _add(self, session_id: str, add: Callable[[Session], list[Message]]) -> list[Message]:
        session = self.store.get(session_id)
        if session is not None:
            session.limits = self._limits
            added = add(session)
            try:
                self.store.save(session)
            except SessionDeleted:
                session = None
            else:
                return added
        session = self._blank(session_id)
        added = add(session)
        self.store.save(session)
        return added

    def get_messages(
        self, session_id: str, limit: int | None = None, offset: int | None = None, *, last_n: int | None = None
    ) -> list[MessageDict]:
        """The messages of a session (`Session.get_messages`); of an unknown or deleted one none."""
        session = self.store.get(session_id)
        return Session("none").get_messages(limit, offset, last_n=last_n) if session is None else session.get_messages(
            limit, offset, last_n=last_n
        )  # fmt: skip

    def iter_messages(self, session_id: str) -> Iterator[Message]:
        """The messages of a session, a few at a time: for one larger than memory. Raises `SessionNotFound`."""
        return self.store.stream(session_id)

    def get_message(self, session_id: str, message_id: str) -> Message:
        """One message of a session; raises `SessionNotFound` and `MessageNotFound`."""
        return self._must(session_id).message(message_id)

    def update_message(self, session_id: str, message_id: str, **fields: Json) -> Message:
        """Change a message and save (`Session.edit_message`); raises `SessionNotFound` and `MessageNotFound`."""
        session = self._must(session_id)
        changed = session.edit_message(message_id, **fields)
        self.store.save(session)
        return changed

    def update_metadata(self, session_id: str, metadata: Mapping[str, Json] | None = None) -> Session:
        """Merge metadata and save; None only says that the session was written to. Raises `SessionNotFound`.

        A deleted session is shown again without its old messages.
        """
        session = self._writable(session_id)
        if metadata is None:
            session.touch()
        else:
            session.update_metadata(metadata)
        self.store.save(session)
        return session

    def update_session(
        self,
        session_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        config: Mapping[str, Json] | None = None,
        status: str | None = None,
        user_id: str | None = None,
    ) -> Session:
        """Change what is given and save: tags and config are replaced. Raises `SessionNotFound`.

        A deleted session is shown again without its old messages.
        """
        session = self._writable(session_id)
        if name is not None:
            session.name = name
        if status is not None:
            session.status = status
        if user_id is not None:
            self.users.meet(user_id)
            session.user_id = user_id
        if tags is not None:
            session.tags = tags
        if description is not None:
            session.metadata["coda.description"] = check_text(description, "description")
        if config is not None:
            session.metadata["coda.config"] = object_of(config, "config")
        self.store.save(session)
        return session

    # Ending

    def archive(self, session: Session | str) -> Session:
        """Let a session leave the usual lists; adding to it makes it active again. Raises `SessionNotFound`."""
        return self._become(session, "archived")

    def activate(self, session: Session | str) -> Session:
        """Make a paused or archived session active."""
        return self._become(session, "active")

    def pause(self, session: Session | str) -> Session:
        """Say that a session waits."""
        return self._become(session, "paused")

    def _become(self, session: Session | str, status: str) -> Session:
        chosen = session if isinstance(session, Session) else self._must(session)
        chosen.status = status
        self.store.save(chosen)
        return chosen

    def archive_inactive(self, days: float = 30) -> int:
        """Archive the sessions that were not written to for that many days, and say how many those were."""
        return self.store.archive_inactive(before_ms=self._ago(days) + 1)

    def delete(self, session_id: str, *, owner: str | None = None) -> bool:
        """Hide a session until it is restored or purged; False where there is none, or it is not ``owner``'s."""
        if owner is not None:
            session = self.store.get(session_id)
            if session is None or session.user_id != owner:
                return False
        return self.store.delete(session_id)

    def delete_session(self, ref: str, hard: bool = False) -> bool:
        """Delete a session by id or title, ``hard`` for good; False where there is none. Raises `AmbiguousRef`."""
        if self.store.get(ref, deleted=hard) is not None:
            session_id = ref
        else:
            named = self.store.select(Selection(title=ref, limit=6))
            if not named:
                return False
            if len(named) > 1:
                raise AmbiguousRef(ref=ref, candidates=[session.id for session in named])
            session_id = named[0].id
        return self.purge(session_id) if hard else self.store.delete(session_id)

    def restore(self, session_id: str) -> bool:
        """Show a deleted session again with its messages; False where there is none any more."""
        return self.store.restore(session_id)

    def purge(self, session_id: str) -> bool:
        """Remove a session for good, deleted or not; False where there is none."""
        return self.store.purge(session_id)

    def delete_where(
        self,
        *,
        older_than_days: float | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Delete the sessions of which all that is given holds, and return their ids; with ``dry_run`` delete none.

        Raises `InvalidInput` where nothing is given.
        """
        if (older_than_days, user_id, agent_id, status) == (None, None, None, None):
            raise InvalidInput("say which sessions", hint="clear_all deletes every one")
        before_ms = None if older_than_days is None else self._ago(older_than_days)
        selection = Selection(before_ms=before_ms, user_id=user_id, agent_id=agent_id, status=status)
        return self.store.delete_where(selection, dry_run=dry_run)

    def purge_deleted(self, *, older_than_days: float = 30) -> list[str]:
        """Remove for good what was deleted that long ago, and return the ids; raises `Unsupported` on other stores."""
        return self._sqlite("purge by age").purge_deleted(before_ms=self._ago(older_than_days))

    def _ago(self, days: float) -> int:
        """The time that many days ago, UTC ms."""
        if not isinstance(days, int | float) or not 0 <= days <= MAX_DAYS:
            raise InvalidInput(f"days must be a number from 0 to {MAX_DAYS:,}")
        return self._clock() - int(days * DAY_MS)

    def clear_all(self) -> int:
        """Delete every session, and say how many those were."""
        return len(self.store.delete_where(Selection()))

    # Looking closer

    def get_session_context(self, session_id: str, max_tokens: int) -> Context:
        """The messages of a session that fit a model's window (`budget.fit`); of an unknown one none."""
        session = self.store.get(session_id)
        return budget.fit([] if session is None else session.all_messages(), max_tokens)

    def get_token_count(self, session_id: str) -> int:
        """About how many tokens a session's messages take; raises `SessionNotFound`."""
        return sum(budget.message_tokens(message) for message in self.iter_messages(session_id))

    def get_tool_history(self, session_id: str) -> list[dict[str, Any]]:
        """What tools were asked and answered in a session, in order; raises `SessionNotFound`."""
        return tools.tool_history(self.iter_messages(session_id))

    def get_tool_summary(self, session_id: str) -> dict[str, Any]:
        """Which tools a session called, and how often; raises `SessionNotFound`."""
        return tools.tool_summary(self.iter_messages(session_id))

    def export_session(self, session_id: str, form: str = "json") -> str:
        """A session as json, markdown, txt or html; raises `SessionNotFound` and `InvalidInput`."""
        session = self.store.get(session_id)
        if session is None:
            raise SessionNotFound(ref=session_id)
        return exporting.export(session, form)

    def import_session(self, exported: Mapping[str, Json]) -> Session:
        """A new session from what the json export describes; raises `InvalidInput`, and nothing is kept then."""
        return self._keep(exporting.imported(exported, self._blank))

    def backup(self, target: Path | str) -> Path:
        """Copy the store to a file while it is in use; raises `Unsupported` on a store that is no file."""
        return self._sqlite("backup").backup(target)

    def _sqlite(self, what: str) -> SQLiteSessionStore:
        if not isinstance(self.store, SQLiteSessionStore):
            raise Unsupported(store=self.store.kind, what=what)
        return self.store


def _metadata(given: Mapping[str, Json] | None, agent_id: str | None, coda: Mapping[str, Json]) -> dict[str, Json]:
    """All that is kept in a new session's metadata; raises `InvalidInput`."""
    unknown = coda.keys() - set(_CODA)
    if unknown:
        raise InvalidInput(f"a session has no {', '.join(sorted(unknown))}")
    metadata = {} if given is None else object_of(given, "metadata")
    metadata |= {f"coda.{name}": value for name, value in coda.items() if value is not None}
    return metadata if agent_id is None else {**metadata, "agent_id": check_text(agent_id, "agent_id")}


__all__ = ["Found", "Limits", "SessionManager"]
