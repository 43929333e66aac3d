"""The HTTP API: every operation on sessions for programs on this machine, as JSON under ``/v1``.

The handlers translate and decide nothing: the store says what is valid. The store is used on
one thread of its own, so that a slow disk never stops the event loop. Every error is a problem
(`problem.py`), every route but two needs the token (`guard.py`); tests/contract/http
runs them against a server that really listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec
from aiohttp import web

from ..storage.conflicts import dismiss, named, restore
from ..storage.document import merge_patch
from ..storage.errors import InvalidInput
from ..storage.forks import divergences, split
from ..storage.local_only import set_local_only
from ..storage.model import Json, SessionHeader, check_message_id, check_session_id
from ..storage.search import search
from ..storage.shape import divergence_json, message_json, session_json
from ..storage.store import Store
from ..sync.files.mirror import Mirror
from ..sync.files.session_file import SessionFile, session_file
from ..sync.vault.engine import VaultEngine
from .bodies import (
    MAX_BODY_BYTES,
    PATCH_TYPES,
    ChosenValue,
    MessagePatch,
    NewSession,
    Resumption,
    Save,
    SessionPatch,
    Split,
    body_of,
    decoded,
    given,
    message_bodies,
)
from .guard import guard, proof
from .listener import Listening, serve
from .pages import (
    FILTERS,
    MAX_PAGE,
    conflict_page,
    difference_page,
    filter_of,
    history_page,
    message_page,
    past_session,
    session_page,
)
from .problem import HEADERS, problems

__all__ = ["Api", "Listening", "make_app", "serve"]

MAX_NONCE_CHARACTERS = 256
DEFAULT_HITS = 20

Result = TypeVar("Result")
Parameters = Mapping[str, list[str]]


class OnFiles(Protocol):
    """Runs a call with the files' mirror where that is used, between its other calls."""

    def __call__(self, call: Callable[[Mirror], Result], /) -> Awaitable[Result]:
        """The result of the call."""
        ...


class OnVault(Protocol):
    """Runs a call with the engine of the vault."""

    def __call__(self, call: Callable[[VaultEngine], Awaitable[Result]], /) -> Awaitable[Result]:
        """The result of the call."""
        ...


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes work on.

    ``store`` is used on ``thread`` alone, an executor of one worker; whoever made the two closes
    them, after the server stopped. ``status``, ``on_vault`` and ``on_files`` run on the event loop.
    ``directory`` is where the session files lie.
    """

    store: Store
    thread: Executor
    status: Callable[[], dict[str, Any]]
    on_vault: OnVault
    on_files: OnFiles
    directory: Path

    async def run(self, work: Callable[[Store], Result]) -> Result:
        """Run work on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work, self.store)

    async def answer(self, work: Callable[[Store], Json], *, status: int = 200) -> web.Response:
        """Answer with the result of work, made JSON on the store's thread too."""
        return _json(await self.run(lambda store: msgspec.json.encode(work(store))), status=status)


def make_app(api: Api, *, token: str) -> web.Application:
    """Make the application; `serve` makes it listen."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[problems, guard(token)])
    routes = _Routes(api, token)
    session, message = "/v1/sessions/{id:[^/]+}", "/v1/sessions/{id:[^/]+}/messages/{mid:[^/]+}"
    for method, path, handler in (
        ("GET", "/healthz", routes.alive),
        ("GET", "/v1/health", routes.health),
        ("GET", "/v1/status", routes.status),
        ("GET", "/v1/sessions", routes.list_sessions),
        ("POST", "/v1/sessions", routes.create_session),
        ("GET", session, routes.show_session),
        ("PATCH", session, routes.change_session),
        ("DELETE", session, routes.delete_session),
        ("POST", f"{session}/restore", routes.restore_session),
        ("GET", f"{session}/divergences", routes.list_divergences),
        ("POST", f"{session}/split", routes.split_session),
        ("GET", f"{session}/messages", routes.list_messages),
        ("POST", f"{session}/messages", routes.add_messages),
        ("PATCH", message, routes.change_message),
        ("DELETE", message, routes.delete_message),
        ("GET", f"{session}/file", routes.show_file),
        ("POST", f"{session}/file", routes.take_file),
        ("GET", f"{session}/history", routes.history),
        ("GET", "/v1/conflicts", routes.list_conflicts),
        ("POST", "/v1/conflicts/{id:[^/]+}/restore", routes.restore_conflict),
        ("POST", "/v1/conflicts/{id:[^/]+}/dismiss", routes.dismiss_conflict),
        ("GET", "/v1/search", routes.search),
        ("GET", "/v1/files", routes.files),
        ("GET", "/v1/files/verify", routes.verify_files),
        ("POST", "/v1/files/rebuild", routes.rebuild_files),
        ("POST", "/v1/files/resume", routes.resume_files),
        ("POST", "/v1/sync", routes.sync),
        ("GET", "/v1/devices", routes.devices),
        ("POST", "/v1/devices/{id:[^/]+}/retire", routes.retire),
        ("POST", "/v1/repair", routes.repair),
    ):
        app.router.add_route(method, path, handler, expect_handler=_expect)
    app.on_response_prepare.append(_set_headers)
    return app


class _Routes:
    """One method for each route."""

    def __init__(self, api: Api, token: str) -> None:
        self._api = api
        self._token = token

    async def alive(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        return web.Response(text=".")

    async def health(self, request: web.Request) -> web.Response:
        """Say that a daemon is here; given a nonce, prove that it holds this home's token."""
        nonce = _one(_parameters(request, ("nonce",)), "nonce")
        if nonce is not None and not 0 < len(nonce) <= MAX_NONCE_CHARACTERS:
            raise InvalidInput(f"nonce must be 1 to {MAX_NONCE_CHARACTERS} characters")
        answer = {"status": "ok"} | ({} if nonce is None else {"hmac": proof(self._token, nonce)})
        return _json(msgspec.json.encode(answer))

    async def status(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        return _json(msgspec.json.encode(self._api.status()))

    async def sync(self, request: web.Request) -> web.Response:
        """Push and pull now, or only one of them; the answer comes when that is done."""
        only = _one(_parameters(request, ("only",)), "only")
        ways = {None: VaultEngine.sync, "push": VaultEngine.send, "pull": VaultEngine.pull}
        if only not in ways:
            raise InvalidInput("only must be push or pull")
        return _json(msgspec.json.encode(await self._api.on_vault(ways[only])))

    async def devices(self, request: web.Request) -> web.Response:
        """The devices of the vault."""
        _parameters(request, ())
        found = await self._api.on_vault(VaultEngine.devices)
        return _json(msgspec.json.encode({"devices": found}))

    async def retire(self, request: web.Request) -> web.Response:
        """Adopt the log of a device that never comes back."""
        _parameters(request, ())
        device = request.match_info["id"]
        return _json(msgspec.json.encode(await self._api.on_vault(lambda engine: engine.retire(device))))

    async def repair(self, request: web.Request) -> web.Response:
        """Publish again what the remote lost; the answer comes when that is done."""
        _parameters(request, ())
        return _json(msgspec.json.encode(await self._api.on_vault(VaultEngine.repair)))

    async def list_sessions(self, request: web.Request) -> web.Response:
        given_ = _parameters(request, {"limit", "cursor", "deleted", *FILTERS})
        cursor, limit, deleted = _one(given_, "cursor") or "", _limit(given_), _flag(given_, "deleted")
        chosen = filter_of(given_)
        return await self._api.answer(
            lambda store: session_page(store, chosen=chosen, cursor=cursor, limit=limit, deleted=deleted)
        )

    async def create_session(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        new = decoded(await body_of(request), NewSession)
        fields: dict[str, Any] = given(new)
        return _made(await self._api.run(lambda store: store.create(**fields)))

    async def show_session(self, request: web.Request) -> web.Response:
        deleted = _flag(_parameters(request, ("deleted",)), "deleted")
        session = _session(request)
        return await self._api.answer(lambda store: session_json(store.get(session, deleted=deleted)))

    async def change_session(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        session = _session(request)
        patch = given(decoded(await body_of(request, types=PATCH_TYPES), SessionPatch))
        others: dict[str, Any] = {name: patch.pop(name) for name in ("tags", "metadata", "state") if name in patch}
        local_only = patch.pop("local_only", None)

        def change(store: Store) -> Json:
            with store.transaction():
                header = store.get(session)
                if local_only is not None:
                    set_local_only(store, header, local_only)
                changes = {name: _or_removal(value, getattr(header, name)) for name, value in others.items()}
                return session_json(store.update(session, fields=patch, **changes))

        return await self._api.answer(change)

    async def delete_session(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        session = _session(request)
        return await self._api.answer(lambda store: session_json(store.delete(session)))

    async def restore_session(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        session = _session(request)
        return await self._api.answer(lambda store: session_json(store.restore(session)))

    async def list_divergences(self, request: web.Request) -> web.Response:
        """Where devices diverged in a session, in order."""
        _parameters(request, ())
        session = _session(request)
        return await self._api.answer(
            lambda store: {"divergences": [divergence_json(each) for each in divergences(store, session)]}
        )

    async def split_session(self, request: web.Request) -> web.Response:
        """Make a run that diverged a session of its own."""
        _parameters(request, ())
        session = _session(request)
        at = decoded(await body_of(request), Split).at
        return _made(await self._api.run(lambda store: split(store, session, at=at)))

    async def list_messages(self, request: web.Request) -> web.Response:
        given_ = _parameters(request, ("limit", "cursor"))
        session, cursor, limit = _session(request), _one(given_, "cursor"), _limit(given_)
        return await self._api.answer(lambda store: message_page(store, session, cursor=cursor, limit=limit))

    async def add_messages(self, request: web.Request) -> web.Response:
        """Add one message or several, all or none; a session that does not exist is made with them."""
        _parameters(request, ())
        session = _session(request)
        batch, single = message_bodies(await body_of(request))

        def add(store: Store) -> Json:
            with store.transaction():
                if store.find(session) is None:
                    store.create(id=session)
                added = [message_json(each) for each in store.add_messages(session, batch)]
            return added[0] if single else {"messages": added}

        return await self._api.answer(add, status=201)

    async def change_message(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        session, message = _session(request), _message(request)
        patch = given(decoded(await body_of(request, types=PATCH_TYPES), MessagePatch))

        def change(store: Store) -> Json:
            with store.transaction():
                before = store.get_message(session, message)
                changes = dict(patch)
                if "metadata" in patch:
                    changes["metadata"] = _or_removal(patch["metadata"], before.metadata)
                if patch.get("usage") is not None:
                    changes["usage"] = merge_patch(before.usage, patch["usage"])
                store.edit_message(session, message, changes)
                return message_json(store.get_message(session, message))

        return await self._api.answer(change)

    async def delete_message(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        session, message = _session(request), _message(request)

        def delete(store: Store) -> Json:
            store.delete_message(session, message)
            return message_json(store.get_message(session, message))

        return await self._api.answer(delete)

    async def history(self, request: web.Request) -> web.Response:
        """What was written to a session; with ``at`` the session as it was then."""
        given_ = _parameters(request, ("limit", "cursor", "message", "at"))
        session, message, at = _session(request), _one(given_, "message"), _one(given_, "at")
        cursor, limit = _one(given_, "cursor") or "", _limit(given_)
        if at is None:
            return await self._api.answer(
                lambda store: history_page(store, session, message=message, cursor=cursor, limit=limit)
            )
        if message is not None or cursor or limit is not None:
            raise InvalidInput("at shows the whole session: it goes without message, cursor and limit")
        return await self._api.answer(lambda store: past_session(store, session, at=at))

    async def list_conflicts(self, request: web.Request) -> web.Response:
        given_ = _parameters(request, ("limit", "cursor", "session"))
        session, cursor, limit = _one(given_, "session"), _one(given_, "cursor") or "", _limit(given_)
        return await self._api.answer(lambda store: conflict_page(store, session=session, cursor=cursor, limit=limit))

    async def restore_conflict(self, request: web.Request) -> web.Response:
        """Write a value of a conflict again, by its number, and say which."""
        _parameters(request, ())
        session, message, field = named(_segment(request, 3))
        number = decoded(await body_of(request), ChosenValue).value
        return await self._api.answer(
            lambda store: msgspec.to_builtins(restore(store, session, message, field, number=number))
        )

    async def dismiss_conflict(self, request: web.Request) -> web.Response:
        """Settle a conflict by what is shown, and say what that is."""
        _parameters(request, ())
        session, message, field = named(_segment(request, 3))

        def settle(store: Store) -> Json:
            (settled,) = dismiss(store, session, message, field)
            return msgspec.to_builtins(settled.shown)

        return await self._api.answer(settle)

    async def search(self, request: web.Request) -> web.Response:
        """Find messages and sessions; the filters of the list narrow it down."""
        given_ = _parameters(request, {"q", "limit", "session", "archived", *FILTERS})
        query, session, limit = _one(given_, "q") or "", _one(given_, "session"), _limit(given_) or DEFAULT_HITS
        chosen, archived = filter_of(given_), _flag(given_, "archived")
        return await self._api.answer(
            lambda store: search(store, query, chosen=chosen, session=session, archived=archived, limit=limit)
        )

    async def show_file(self, request: web.Request) -> web.Response:
        """Say where a session's file lies, once it shows the session as it is."""
        _parameters(request, ())
        session = _session(request)
        found = await self._file(session)
        if not found.written:
            no = await self._api.run(lambda store: store.live(session).no)
            await self._api.on_files(lambda mirror: mirror.settle([no]))
            found = await self._file(session)
        return _json(msgspec.json.encode(found))

    async def take_file(self, request: web.Request) -> web.Response:
        """Take up what was saved in a session's file, and say how it stands then."""
        _parameters(request, ())
        session = _session(request)
        deletions = decoded(await body_of(request), Save).deletions
        path = (await self._file(session)).path
        if path is not None:
            await self._api.on_files(lambda mirror: mirror.saved([Path(path)], deletions=deletions))
        return _json(msgspec.json.encode(await self._file(session)))

    async def _file(self, session: str) -> SessionFile:
        return await self._api.run(lambda store: session_file(store, self._api.directory, session))

    async def files(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        return _json(msgspec.json.encode(self._api.status()["files"]))

    async def verify_files(self, request: web.Request) -> web.Response:
        """Compare some files with the store; a client goes on with ``next`` until it is null."""
        given_ = _parameters(request, ("limit", "cursor"))
        cursor, limit = _one(given_, "cursor") or "", _limit(given_)
        return await self._api.answer(
            lambda store: difference_page(store, self._api.directory, cursor=cursor, limit=limit)
        )

    async def rebuild_files(self, request: web.Request) -> web.Response:
        """Write every file anew that is missing or differs; the answer comes when that is done."""
        _parameters(request, ())
        written = await self._api.on_files(lambda mirror: mirror.rebuild())
        return _json(msgspec.json.encode({"written": written}))

    async def resume_files(self, request: web.Request) -> web.Response:
        """Let files that stand still go on, and say what became of those that were missing."""
        _parameters(request, ())
        restore = decoded(await body_of(request), Resumption).action == "restore"
        done = await self._api.on_files(lambda mirror: mirror.resume(restore=restore))
        return _json(msgspec.json.encode(done))


def _json(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _made(session: SessionHeader) -> web.Response:
    """The answer that shows a session that was made, and says where it is."""
    location = f"/v1/sessions/{quote(session.id, safe='')}"
    return _json(msgspec.json.encode(session_json(session)), status=201, headers={"Location": location})


def _or_removal(patch: Json, before: dict[str, Json] | list[str]) -> Json:
    """A patch as it is; null, which removes the whole member, as what leaves it empty."""
    if patch is not None:
        return patch
    return dict.fromkeys(before) if isinstance(before, dict) else []


def _session(request: web.Request) -> str:
    return check_session_id(_segment(request, 3))


def _message(request: web.Request) -> str:
    return check_message_id(_segment(request, 5))


def _segment(request: web.Request, place: int) -> str:
    return _text(request.rel_url.raw_path.split("/")[place], "an id in the address")


def _parameters(request: web.Request, allowed: Collection[str]) -> Parameters:
    """The query by name; a name that this route does not know is refused, so that no filter is silently missed."""
    found: dict[str, list[str]] = {}
    for part in request.rel_url.raw_query_string.replace("+", " ").split("&"):
        name, _, value = part.partition("=")
        if part:
            found.setdefault(_text(name, "a parameter"), []).append(_text(value, "a parameter"))
    for name in found:
        if name not in allowed:
            hint = f"known here: {', '.join(sorted(allowed))}" if allowed else "none is known here"
            raise InvalidInput(f"unknown parameter: {name}", hint=hint)
    return found


def _text(raw: str, what: str) -> str:
    """The text of a part of the address; the router's own decoding lets bytes pass that are no UTF-8."""
    try:
        return unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"{what} is not UTF-8") from exc


def _one(given_: Parameters, name: str) -> str | None:
    values = given_.get(name, [])
    if len(values) > 1:
        raise InvalidInput(f"{name} is given more than once")
    return values[0] if values else None


def _limit(given_: Parameters) -> int | None:
    text = _one(given_, "limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) <= MAX_PAGE):
        raise InvalidInput(f"limit must be a number from 1 to {MAX_PAGE}")
    return int(text)


def _flag(given_: Parameters, name: str) -> bool:
    text = _one(given_, name) or "false"
    if text not in ("true", "false"):
        raise InvalidInput(f"{name} must be true or false")
    return text == "true"


async def _expect(request: web.Request) -> None:
    """Ask for a body that a client holds back; the guard and the limit have their say when it is read."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _set_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
