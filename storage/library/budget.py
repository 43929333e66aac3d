"""How many tokens text takes, and which messages fit a budget of them.

Without the tokenizer of a model tokens are estimated: four characters each, of Chinese, Japanese and
Korean one (tests/library/test_coda.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..model import Message, check_count, plain_text
from ..prose import CJK
from .dicts import to_dict

_CJK = re.compile(f"[{CJK}]")
PER_MESSAGE = 4
"""What a message takes besides its text."""


class Context(NamedTuple):
    """What is sent to a model, and whether something had to stay away."""

    messages: list[dict[str, Any]]
    truncated: bool


def count_tokens(text: str) -> int:
    """About how many tokens a text takes."""
    wide = len(_CJK.findall(text)) if not text.isascii() else 0
    return wide + -(-(len(text) - wide) // 4)


def message_tokens(message: Message) -> int:
    """About how many tokens a message takes."""
    return PER_MESSAGE + count_tokens(plain_text(message.content))


def fit(messages: Sequence[Message], max_tokens: int) -> Context:
    """The messages that fit: instructions always, then the newest; what stays away is summed up in one instruction.

    That stands where the messages it speaks of stood. Raises `InvalidInput` for a negative budget.
    """
    check_count(max_tokens, "max_tokens")
    costs = [message_tokens(message) for message in messages]
    if sum(costs) <= max_tokens:
        return Context([to_dict(message) for message in messages], truncated=False)
    spoken = [at for at, message in enumerate(messages) if message.role != "system"]
    left = max_tokens - sum(cost for cost, message in zip(costs, messages, strict=True) if message.role == "system")
    left -= PER_MESSAGE + count_tokens(_summary([messages[at] for at in spoken]))
    kept = len(spoken)
    while kept and costs[spoken[kept - 1]] <= left:
        kept -= 1
        left -= costs[spoken[kept]]
    dropped = set(spoken[:kept])
    fitting = [to_dict(message) for at, message in enumerate(messages) if at not in dropped]
    if dropped:
        before = sum(at not in dropped for at in range(max(dropped)))
        fitting.insert(before, {"role": "system", "content": _summary([messages[at] for at in sorted(dropped)])})
    return Context(fitting, truncated=True)


def _summary(dropped: Sequence[Message]) -> str:
    users = sum(message.role == "user" for message in dropped)
    assistants = sum(message.role == "assistant" for message in dropped)
    topics = "; ".join(
        " ".join(plain_text(message.content)[:200].split())[:60] for message in dropped[:3] if message.role == "user"
    )
    counted = f"{len(dropped)} messages ({users} user, {assistants} assistant)"
    return f"[Previous conversation summary: {counted}]" + (f" {topics}" if topics else "")
