"""The formats of an export: each a function from sessions with their messages to the pieces of a file.

json and jsonl hold all that a session is and come back equal; the others are for reading, or for other programs
(tests/unit/test_cli_export.py, and golden files under tests/golden/export).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import msgspec

from ..storage.model import Content, Json, Message, SessionHeader
from ..storage.store import Store
from .rendering import readable
from .terminal import escaped

Pieces = Iterable[bytes]
Told = tuple[SessionHeader, Iterable[Message]]
Document = Callable[[Iterable[Told], bool], Pieces]
"""Makes a file of sessions; the flag says that it may be several, which in JSON are an array."""

FORMS = {"json": "json", "jsonl": "jsonl", "openai": "jsonl", "markdown": "md", "html": "html", "text": "txt"}
"""The formats, and how their files are named."""
ALIASES = {"md": "markdown", "htm": "html", "txt": "text", "openai-jsonl": "openai"}
NAMES = {"json": "json", "jsonl": "jsonl", "md": "markdown", "markdown": "markdown", "html": "html", "htm": "html",
         "txt": "text"}  # fmt: skip
"""The formats by the ends of files' names."""

_ROLES = ("system", "user", "assistant", "tool", "developer", "function")
_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
_RULE = "─" * 41


def document(store: Store, form: str) -> Document:
    """How a format makes a file; the page of html is made elsewhere."""
    if form == "jsonl":
        return _session_files(store)
    return {"json": _json, "openai": _openai, "markdown": _markdown, "text": _text}[form]


def _json(sessions: Iterable[Told], several: bool) -> Pieces:
    from ..storage.transcripts.steno_json import written  # noqa: PLC0415  only this format needs it

    yield b"[" if several else b""
    for number, told in enumerate(sessions):
        yield b",\n" if number else b""
        yield escaped(b"".join(written(*told)))
    yield b"]\n" if several else b"\n"


def _session_files(store: Store) -> Document:
    from ..sync.files.lines import Rev, header_of, line_of, render  # noqa: PLC0415  only this format needs it

    rev = Rev(store.store_name, store.last_seq)

    def lines(sessions: Iterable[Told], _: bool) -> Pieces:
        # A message at a time would render the header each time; a session is what a file holds anyway.
        return (render(header_of(session, rev=rev), map(line_of, messages)) for session, messages in sessions)

    return lines


def _openai(sessions: Iterable[Told], _: bool) -> Pieces:
    """A line for each session as OpenAI's chat data has it; the thoughts of a model are no part of that."""
    for _header, messages in sessions:
        said = list(chain.from_iterable(map(_openai_messages, messages)))
        yield escaped(msgspec.json.encode({"messages": said})) + b"\n"


def _openai_messages(message: Message) -> Iterator[dict[str, Json]]:
    role = message.role if message.role in _ROLES else "user"
    sender = message.sender or (message.role if role != message.role else "")
    named = {"name": sender} if _NAME.fullmatch(sender or "") else {}
    if isinstance(message.content, str):
        yield {"role": role, "content": message.content, **named}
        return
    said: Content = []
    calls: list[dict[str, Json]] = []
    for block in message.content:
        if block["type"] == "tool_result":
            answer = block.get("content")
            shown = answer if isinstance(answer, str) else readable([{**block, "type": "tool_result"}])
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id") or "unknown", "content": shown}
        elif block["type"] == "tool_use" and role == "assistant":
            arguments = msgspec.json.encode(block.get("input", {})).decode()
            function = {"name": block.get("name") or "unknown", "arguments": arguments}
            calls.append({"id": block.get("id") or f"call-{len(calls) + 1}", "type": "function", "function": function})
        elif block["type"] not in ("thinking", "redacted_thinking"):
            said.append(block)
    if said or calls:
        asked = {"tool_calls": calls} if calls else {}
        yield {"role": role, "content": readable(said) if said else None, **named, **asked}


def _markdown(sessions: Iterable[Told], _: bool) -> Pieces:
    for number, (session, messages) in enumerate(sessions):
        yield b"\n" if number else b""
        facts = [f"id: {session.id}", f"created: {session.created_at}"]
        about = (("provider", session.provider), ("model", session.model))
        facts += [f"{name}: {value}" for name, value in about if value]
        facts += [f"tags: {', '.join(session.tags)}"] if session.tags else []
        yield "\n".join([f"# {session.title or session.id}", "", *(f"- {fact}" for fact in facts), ""]).encode()
        for message in messages:
            yield f"\n## {speaker(message)} · {message.timestamp}\n\n".encode()
            yield f"{readable(message.content)}\n".encode()


def _text(sessions: Iterable[Told], _: bool) -> Pieces:
    for number, (session, messages) in enumerate(sessions):
        yield b"\n\n" if number else b""
        lines = [f"Session: {session.title or session.id}", f"ID: {session.id}"]
        lines += [f"Created: {session.created_at}", f"Last Updated: {session.updated_at}"]
        about = (("Provider", session.provider), ("Model", session.model), ("Tags", ", ".join(session.tags)))
        lines += [f"{name}: {value}" for name, value in about if value]
        lines += [f"Messages: {session.message_count}", "", _RULE]
        yield "\n".join([*lines, ""]).encode()
        for message in messages:
            head = f"\n[{speaker(message, capital=True)} - {message.timestamp}]\n"
            yield f"{head}{readable(message.content)}\n".encode()
        yield f"\n{_RULE}\n".encode()


def speaker(message: Message, *, capital: bool = False) -> str:
    """Who said a message: the role, and the sender where there is one."""
    role = message.role.capitalize() if capital else message.role
    return f"{role} ({message.sender})" if message.sender else role
