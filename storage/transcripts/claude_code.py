"""Claude Code: one JSONL file per session, one record per content block, written append-only.

Each native record that says something becomes one message under its own uuid, in file order: the chain of
``parentUuid`` has holes, and times run backwards. Records that share an API message share ``metadata.api_message``,
and its usage stands once, on the first of them, so that summing over messages is right; it is the one with the
greatest output count, as it grows while the message arrives. Always the same record has it, so that copies of
different lengths, merged, never count a message twice (tests/unit/test_transcript_claude_code.py).

What a person typed has the role ``user``, what tools answered ``tool``; everything that the program put in
a prompt's place has the role ``system`` and says in ``metadata.injected`` what it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec

from ..model import Content, Json
from .injected import kind_of, separated
from .lines import Lines, records
from .transcript import (
    Draft,
    Reading,
    Transcript,
    assemble,
    created_ms,
    digest,
    project_of,
    shallow,
    text,
    tidy,
    time_text,
    tool_result,
    tool_use,
    usable_id,
)

TOOL = "claude-code"

_Other = str | int | float | bool | list[Any] | None
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_RENAME = re.compile(r"<command-name>/rename</command-name>.*?<command-args>(.*?)</command-args>", re.DOTALL)
_COMMAND = re.compile(r"/[\w:-]+(?:\s|$)")  # what it does is recorded where it runs
_CHAIN = ("user", "assistant", "system")


class _Message(msgspec.Struct, gc=False):
    role: Any = None
    id: Any = None
    model: Any = None
    content: Any = None
    usage: Any = None


class _Outcome(msgspec.Struct, gc=False, rename="camel"):
    agent_id: Any = None


class _Attachment(msgspec.Struct, gc=False, rename="camel"):
    type: Any = None
    prompt: Any = None
    command_mode: Any = None


class _Origin(msgspec.Struct, gc=False):
    kind: Any = None


class _Compaction(msgspec.Struct, gc=False, rename="camel"):
    trigger: Any = None
    pre_tokens: Any = None


class _Record(msgspec.Struct, gc=False, rename="camel"):
    """The fields that a message is made of; whatever else a record has is skipped undecoded."""

    type: Any = None
    uuid: Any = None
    session_id: Any = None
    timestamp: Any = None
    message: _Message | _Other = None
    is_sidechain: Any = None
    agent_id: Any = None
    is_meta: Any = None
    is_compact_summary: Any = None
    is_api_error_message: Any = None
    request_id: Any = None
    cwd: Any = None
    git_branch: Any = None
    version: Any = None
    tool_use_result: _Outcome | list[msgspec.Raw] | str | int | float | bool | None = None
    origin: _Origin | _Other = None
    subtype: Any = None
    content: Any = None
    compact_metadata: _Compaction | _Other = None
    attachment: _Attachment | _Other = None
    operation: Any = None
    custom_title: Any = None
    ai_title: Any = None
    summary: Any = None
    leaf_uuid: Any = None
    name: Any = None
    input: Any = None
    output: Any = None


_decode = msgspec.json.Decoder(_Record).decode


class _Session:
    """One session while its file is being read."""

    def __init__(self, native: str, *, session_id: str) -> None:
        self.native = native
        self.id = session_id
        self.drafts: list[Draft] = []
        self.queued: set[int] = set()  # places of prompts that may turn up again as records
        self.usages: dict[tuple[str, object], tuple[float, Draft, dict[str, Json]]] = {}
        self.titles: dict[str, str] = {}
        self.cwd = self.branch = self.version = ""


class _Reader:
    def __init__(self, reading: Reading, *, name: str) -> None:
        self.reading = reading
        self.path = PurePosixPath(name.replace("\\", "/"))
        self.sessions: dict[str, _Session] = {}
        self.main: _Session | None = None  # the session that records without one belong to
        self.agent: str | None = None
        self.summaries: dict[str, str] = {}
        self.place = (0, b"")
        stem = self.path.name.split(".", 1)[0]
        if stem.startswith("agent-"):
            self.agent = stem.removeprefix("agent-")

    def add(self, record: _Record, *, number: int, line: bytes) -> None:
        kind = record.type
        if kind == "progress":
            self.reading.leave_out("progress")
            return
        self.place = (number, line)
        message = record.message
        if isinstance(message, _Message) and (kind in _CHAIN or kind is None):
            self._message(record, message)
        elif kind == "system":
            self._system(record)
        elif kind == "attachment":
            self._attachment(record)
        elif kind == "queue-operation":
            self._queue_operation(record)
        elif kind in ("tool_use", "tool_result") and (record.name is not None or record.output is not None):
            self._loose_tool(record)
        else:
            self._header(record)

    def finish(self) -> Iterator[Transcript]:
        for session in self.sessions.values():
            for _, draft, usage in session.usages.values():
                draft.usage = usage
            messages = assemble(self._without_repeated_prompts(session), self.reading)
            if not messages:
                continue
            for message in messages:
                if message.id in self.summaries:
                    session.titles["summary"] = self.summaries[message.id]
            title = next((session.titles[by] for by in ("custom", "ai", "summary") if by in session.titles), None)
            yield Transcript(
                id=session.id,
                title=" ".join(title.split()) if title else None,
                created_ms=created_ms(messages, default_ms=self.reading.default_ms),
                provider="anthropic" if any(message.role == "assistant" for message in messages) else None,
                model=_model(session.drafts),
                metadata=self._metadata(session),
                source={"tool": TOOL, "id": session.id},
                messages=messages,
            )

    def _message(self, record: _Record, message: _Message) -> None:
        role = record.type if record.type in _CHAIN else message.role
        if role == "assistant":
            self._assistant(record, message)
        elif role == "system":
            self._append(record, role="system", content=tidy(message.content), metadata={"kind": "system"})
        else:
            self._user(record, message)

    def _assistant(self, record: _Record, message: _Message) -> None:
        metadata: dict[str, Json] = {}
        if message.id is not None:
            metadata["api_message"] = message.id
        if record.request_id is not None:
            metadata["request_id"] = record.request_id
        if record.is_api_error_message is True:
            metadata["api_error"] = True
        model = text(message.model)
        if model == "<synthetic>":  # written by the program itself, mostly what an error says
            metadata["synthetic"], model = True, None
        session, draft = self._append(record, role="assistant", content=tidy(message.content), metadata=metadata)
        draft.model = model
        usage = message.usage
        if isinstance(usage, dict) and usage and model is not None:
            count = usage.get("output_tokens")
            count = count if isinstance(count, int | float) else -1
            key = (message.id, record.request_id) if isinstance(message.id, str) else ("", len(session.drafts))
            known = session.usages.get(key)
            if known is None or known[0] < count:
                session.usages[key] = (count, known[1] if known else draft, usage)

    def _user(self, record: _Record, message: _Message) -> None:
        content = tidy(message.content)
        outcome = record.tool_use_result
        metadata: dict[str, Json] = {}
        if record.is_meta is True:
            metadata["is_meta"] = True
        if outcome is not None or _answers(content):
            if isinstance(outcome, _Outcome) and isinstance(outcome.agent_id, str):
                metadata["agent_id"] = outcome.agent_id
            self._append(record, role="tool", content=content, metadata=metadata)
            return
        content, kind = separated(content)
        if record.is_compact_summary is True:
            kind = "compact-summary"
        elif isinstance(record.origin, _Origin) and record.origin.kind not in (None, "human"):
            kind = kind or str(record.origin.kind)
        elif record.is_meta is True:
            kind = kind or "meta"
        elif record.is_sidechain is True and self.agent is None:
            kind = "agent-prompt"  # the model, not a person, asked its subagent
        if kind in ("command-name", "command-message"):
            self._rename(record, content)
        if kind is not None:
            metadata["injected"] = kind
        self._append(record, role="user" if kind is None else "system", content=content, metadata=metadata)

    def _system(self, record: _Record) -> None:
        kind = text(record.subtype) or "system"
        self._rename(record, record.content)
        compaction = record.compact_metadata
        if not text(record.content) and kind not in ("compact_boundary", "microcompact_boundary"):
            self.reading.leave_out(f"system/{kind}")
            return
        metadata: dict[str, Json] = {"kind": kind}
        if isinstance(compaction, _Compaction):
            if compaction.trigger is not None:
                metadata["trigger"] = compaction.trigger
            if compaction.pre_tokens is not None:
                metadata["pre_tokens"] = compaction.pre_tokens
        self._append(record, role="system", content=tidy(record.content), metadata=metadata)

    def _attachment(self, record: _Record) -> None:
        """Take a prompt that was typed while the model was busy: such a prompt has no record of its own."""
        attachment = record.attachment
        kind = attachment.type if isinstance(attachment, _Attachment) else None
        if not isinstance(attachment, _Attachment) or kind != "queued_command" or not attachment.prompt:
            self.reading.leave_out(f"attachment/{kind}" if kind else "attachment")
            return
        content, injected = separated(tidy(attachment.prompt))
        if attachment.command_mode not in (None, "prompt", "bash"):
            injected = injected or str(attachment.command_mode)
        metadata: dict[str, Json] = {"queued": True}
        if injected is not None:
            metadata["injected"] = injected
        self._append(record, role="user" if injected is None else "system", content=content, metadata=metadata)

    def _queue_operation(self, record: _Record) -> None:
        prompt = text(record.content)
        if record.operation != "enqueue" or prompt is None or _COMMAND.match(prompt) or kind_of(prompt):
            self.reading.leave_out("queue-operation")
            return
        session, _ = self._append(record, role="user", content=prompt, metadata={"queued": True})
        session.queued.add(len(session.drafts) - 1)

    def _loose_tool(self, record: _Record) -> None:
        """Take the tool records of early versions, which stand outside of any message."""
        if record.type == "tool_use":
            content, role = tool_use(None, record.name, record.input), "assistant"
        else:
            content, role = tool_result(None, record.output), "tool"
        self._append(record, role=role, content=[content], metadata={})

    def _header(self, record: _Record) -> None:
        """Take what a record says of the session as a whole; it is no message."""
        kind = text(record.type) or "unknown"
        self.reading.leave_out(kind)
        if kind == "summary" and text(record.summary) and isinstance(record.leaf_uuid, str):
            self.summaries[record.leaf_uuid] = record.summary
        elif kind == "custom-title" and text(record.custom_title):
            self._session(record).titles["custom"] = record.custom_title
        elif kind == "ai-title" and text(record.ai_title):
            self._session(record).titles["ai"] = record.ai_title
        elif text(record.session_id):
            self._session(record)

    def _rename(self, record: _Record, content: object) -> None:
        found = _RENAME.search(content) if isinstance(content, str) and "/rename<" in content else None
        if found and found[1].strip():
            self._session(record).titles["custom"] = found[1]

    def _append(
        self, record: _Record, *, role: str, content: Content, metadata: dict[str, Json]
    ) -> tuple[_Session, Draft]:
        session = self._session(record)
        if record.is_sidechain is True:
            metadata["sidechain"] = True
            if self.agent is None and isinstance(record.agent_id, str):
                metadata["agent_id"] = record.agent_id
        cwd, branch = record.cwd, record.git_branch
        if cwd and cwd != session.cwd and isinstance(cwd, str):
            if session.cwd:
                metadata["cwd"] = cwd
            else:
                session.cwd = cwd
        if branch and branch != session.branch and isinstance(branch, str):
            if session.branch:
                metadata["git_branch"] = branch
            else:
                session.branch = branch
        if not session.version and isinstance(record.version, str):
            session.version = record.version
        if type(content) is list:
            number, line = self.place
            content = shallow(content, line, number=number, reading=self.reading)
        draft = Draft(
            role=role,
            content=content,
            id=record.uuid if isinstance(record.uuid, str) else None,
            timestamp=time_text(record.timestamp),
            metadata=metadata,
        )
        session.drafts.append(draft)
        return session, draft

    def _session(self, record: _Record) -> _Session:
        """The session of a record: the one that it names; a subagent's records go where its file says."""
        main = self.main
        native = record.session_id
        if main is not None and (native == main.native or record.is_sidechain is True or not text(native)):
            return main
        if self.agent is not None and main is not None:
            return main
        if main is None and record.is_sidechain is True and text(record.agent_id) and self.path.stem != native:
            self.agent = self.agent or record.agent_id
        native = (text(native) and usable_id(native)) or self._fallback_id(record)
        session = self.sessions.get(native)
        if session is None:
            session = self.sessions[native] = _Session(native, session_id=self._id(native))
        self.main = session
        return session

    def _id(self, native: str) -> str:
        if self.agent is None:
            return native
        parent = self._parent(native)
        return f"{parent}.agent-{self.agent}" if parent else f"agent-{self.agent}"

    def _parent(self, native: str) -> str | None:
        """The session that a subagent worked for; newer versions name only the subagent in its records."""
        if native != f"agent-{self.agent}":
            return native
        parts = self.path.parts
        return parts[parts.index("subagents") - 1] if "subagents" in parts[1:] else None

    def _fallback_id(self, record: _Record) -> str:
        """An id for records that name no session: the file's name, if it can be one, else from the first of them."""
        stem = self.path.stem
        if _UUID.fullmatch(stem):
            return stem
        message = record.message
        content = message.content if isinstance(message, _Message) else None
        return digest([record.timestamp, content])

    def _metadata(self, session: _Session) -> dict[str, Json]:
        metadata: dict[str, Json] = {}
        if session.cwd:
            metadata["cwd"] = session.cwd
            if project := project_of(session.cwd):
                metadata["project"] = project
        if session.branch:
            metadata["git_branch"] = session.branch
        if session.version:
            metadata["tool_version"] = session.version
        if self.agent is not None:
            metadata["agent_id"] = self.agent
            if parent := self._parent(session.native):
                metadata["parent_session"] = parent
        return metadata

    def _without_repeated_prompts(self, session: _Session) -> list[Draft]:
        """The drafts without the queued prompts that were recorded later on as what they became."""
        if not session.queued:
            return session.drafts
        later: Counter[str] = Counter()
        kept: list[Draft] = []
        for place in range(len(session.drafts) - 1, -1, -1):
            draft = session.drafts[place]
            said = str(draft.content).strip()
            if place in session.queued and later[said]:
                later[said] -= 1
                self.reading.leave_out("queue-operation")
                continue
            if place not in session.queued and draft.role == "user" and isinstance(draft.content, str):
                later[said] += 1
            kept.append(draft)
        return kept[::-1]


def recognises(record: dict[str, Any]) -> bool:
    """Say whether a record is one of Claude Code."""
    kind, message = record.get("type"), record.get("message")
    if isinstance(message, dict):
        speaks = kind in _CHAIN or (kind is None and "sessionId" in record)
        return speaks and "parts" not in message
    native = kind == "file-history-snapshot" or any(key in record for key in ("sessionId", "parentUuid", "leafUuid"))
    return native and isinstance(kind, str) and "projectHash" not in record


def read(lines: Lines, reading: Reading, *, name: str) -> Iterator[Transcript]:
    """The sessions of a file; most hold one, some hold records of a second."""
    reader = _Reader(reading, name=name)
    for number, line, record in records(lines, _decode, reading, stands_alone=_stands_alone):
        reader.add(record, number=number, line=line)
    yield from reader.finish()


def _stands_alone(value: dict[str, Any]) -> bool:
    return isinstance(value.get("type"), str) and ("sessionId" in value or "leafUuid" in value)


def _answers(content: Content) -> bool:
    return not isinstance(content, str) and any(block["type"] == "tool_result" for block in content)


def _model(drafts: list[Draft]) -> str | None:
    """The model that spoke last, a subagent's only if no other did."""
    own = (draft.model for draft in reversed(drafts) if draft.model and "sidechain" not in draft.metadata)
    return next(own, None) or next((draft.model for draft in reversed(drafts) if draft.model), None)
