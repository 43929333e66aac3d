"""The JSON of sessions and messages says everything that they hold, and always all of it."""

from __future__ import annotations

import msgspec

from steno.storage.model import Message, SessionHeader
from steno.storage.shape import message_json, session_json

SESSION = SessionHeader(
    id="one", title="REST API", status="active", provider="anthropic", model="m", user_id="ada", tags=["go"],
    metadata={"project": "web"}, state={"step": 1}, created_at="2026-11-20T10:00:00.000Z",
    updated_at="2026-11-20T11:00:00.000Z", message_count=2, deleted_at="2026-11-20T12:00:00.000Z",
    forked_from={"session": "zero", "message": "m0"}, source={"tool": "codex"},
)  # fmt: skip
MESSAGE = Message(
    id="m1", role="user", content=[{"type": "text", "text": "Hello"}], timestamp="2026-11-20T10:00:05+01:00",
    sender="Ada", parent="m0", model="m", usage={"input_tokens": 1}, metadata={"a": 1},
    deleted_at="2026-11-20T12:00:00.000Z", origin={"session": "zero"},
)  # fmt: skip


def test_a_session_stands_in_its_json_field_by_field():
    inner = {"automatic_title", "incomplete", "size_bytes", "life"}
    fields = {name: value for name, value in msgspec.structs.asdict(SESSION).items() if name not in inner}
    assert session_json(SESSION) == fields | {"name": "REST API", "project": "web"}


def test_a_message_stands_in_its_json_field_by_field():
    assert message_json(MESSAGE) == msgspec.structs.asdict(MESSAGE)


def test_a_session_without_values_has_the_same_members():
    bare = msgspec.structs.replace(
        SESSION, provider=None, model=None, user_id=None, metadata={}, deleted_at=None, forked_from=None, source=None
    )
    assert list(session_json(bare)) == list(session_json(SESSION))


def test_a_project_that_is_no_text_is_none():
    assert session_json(msgspec.structs.replace(SESSION, metadata={"project": 5}))["project"] is None
