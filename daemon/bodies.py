"""What requests may say in their bodies: typed, and nothing unknown passes silently.

Only the form is checked here; what counts as a title, a tag or a role the store says
(tests/contract/http/test_problems.py).
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from ..storage.errors import InvalidInput
from ..storage.model import Json, NewMessage
from ..sync.files.absorb import Deletions
from .problem import Refused

MAX_BODY_BYTES = 16 * 1024 * 1024
JSON_TYPES = ("application/json",)
PATCH_TYPES = ("application/merge-patch+json", "application/json")

_Body = TypeVar("_Body")


class NewSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/sessions``."""

    id: str | None = None
    title: str | None = None
    status: str = "active"
    provider: str | None = None
    model: str | None = None
    user_id: str | None = None
    tags: list[str] = []
    metadata: dict[str, Json] = {}
    state: dict[str, Json] = {}
    local_only: bool = False


class SessionPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``PATCH /v1/sessions/{id}``, a JSON merge patch: null removes. ``local_only`` false shares."""

    title: str | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    provider: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    metadata: dict[str, Json] | UnsetType | None = UNSET
    state: dict[str, Json] | UnsetType | None = UNSET
    local_only: bool | UnsetType = UNSET


class MessagePatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``PATCH /v1/sessions/{id}/messages/{mid}``, a JSON merge patch: null removes."""

    content: str | list[dict[str, Any]] | UnsetType = UNSET
    sender: str | UnsetType | None = UNSET
    parent: str | UnsetType | None = UNSET
    timestamp: str | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    usage: dict[str, Json] | UnsetType | None = UNSET
    metadata: dict[str, Json] | UnsetType | None = UNSET


class Save(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/sessions/{id}/file``: what lines that are missing mean, where they are many."""

    deletions: Deletions = "some"


class Resumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/files/resume``."""

    action: Literal["restore", "delete"]


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/sessions/{id}/split``: where the run begins that becomes a session of its own."""

    at: str | None = None


class ChosenValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/conflicts/{id}/restore``: the number of a value."""

    value: int


class NewMessageBody(NewMessage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message in the body of ``POST …/messages``."""


class NewMessages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several messages in the body of ``POST …/messages``."""

    messages: list[NewMessageBody]


async def body_of(request: web.Request, *, types: tuple[str, ...] = JSON_TYPES) -> bytes:
    """The body of a request; raises `Refused` for what is no JSON by its headers, or too large."""
    if request.content_type not in types:
        raise Refused(415, f"send JSON, with Content-Type: {types[0]}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "send the body as it is, without Content-Encoding")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
    try:
        return await request.read()
    except (ConnectionError, web.RequestPayloadError) as exc:
        raise Refused(400, "the body did not arrive whole") from exc


def decoded(body: bytes, kind: type[_Body]) -> _Body:
    """The value that a body holds; raises `InvalidInput` saying where it is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError as exc:
        raise InvalidInput("the body nests too deep") from exc
    except ValueError as exc:  # msgspec's errors, and those of text that is no UTF-8
        raise InvalidInput(f"the body is not what is asked for here: {exc}") from exc


def message_bodies(body: bytes) -> tuple[list[NewMessageBody], bool]:
    """The messages of a body, and whether it was a single one."""
    if isinstance(members := decoded(body, object), dict) and "messages" in members:
        batch = decoded(body, NewMessages).messages
        if not batch:
            raise InvalidInput("messages is empty: there is nothing to add")
        return batch, False
    return [decoded(body, NewMessageBody)], True


def given(patch: msgspec.Struct) -> dict[str, Json]:
    """The members that a patch names."""
    fields = {name: getattr(patch, name) for name in patch.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET}
