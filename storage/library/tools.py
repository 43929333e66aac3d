"""What tools were asked for and what they answered, in the order of a session's messages.

(tests/library/test_coda.py)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..model import Message


def tool_history(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Every call ({type: call, tool_calls}) and every answer ({type: result, tool_call_id}), with its place."""
    history: list[dict[str, Any]] = []
    for sequence, message in enumerate(messages, start=1):
        about = {"sequence": sequence, "message_id": message.id, "role": message.role, "timestamp": message.timestamp}
        calls = called(message)
        if calls:
            history.append({**about, "type": "call", "tool_calls": calls})
        for call_id, content in _answered(message):
            history.append({**about, "type": "result", "tool_call_id": call_id, "content": content})
    return history


def tool_summary(messages: Iterable[Message]) -> dict[str, Any]:
    """How often which tool was called; ``most_used`` is None where none was."""
    counts = Counter(_name(call) for message in messages for call in called(message))
    most = counts.most_common(1)
    return {
        "total_tool_calls": counts.total(),
        "unique_tools": len(counts),
        "tool_counts": dict(counts),
        "most_used": most[0][0] if most else None,
    }


def called(message: Message) -> list[dict[str, Any]]:
    """The calls in a message: given beside its content, or as blocks of it."""
    blocks = message.content if isinstance(message.content, list) else []
    calls = [call for call in message.tool_calls if isinstance(call, dict)]
    return calls + [block for block in blocks if block.get("type") == "tool_use"]


def _answered(message: Message) -> list[tuple[str, Any]]:
    if message.tool_call_id is not None:
        return [(message.tool_call_id, message.content)]
    blocks = message.content if isinstance(message.content, list) else []
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return [(str(block.get("tool_use_id")), block.get("content")) for block in results]


def _name(call: dict[str, Any]) -> str:
    function = call.get("function")
    named = call.get("name") or (function.get("name") if isinstance(function, dict) else None)
    return str(named or "unknown")
