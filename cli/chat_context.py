"""A session as a model is told it: who said what, in order, as text (tests/unit/test_cli_chat.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..storage.model import Message
from .rendering import readable

_SPOKEN = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_GAP = "\n\n"


class Turn(NamedTuple):
    """What one side said; ``role`` is system, user or assistant."""

    role: str
    text: str


def turns(messages: Iterable[Message]) -> list[Turn]:
    """Messages as turns. What follows each other from one side is one turn, for many models insist on taking turns.

    What is neither the system's, the user's nor the model's, such as a tool's result, is told to the model by the
    user's side, with its role before it.
    """
    told: list[Turn] = []
    for message in messages:
        text = readable(message.content)
        if not text.strip():
            continue
        role = _SPOKEN.get(message.role, "user")
        if message.role not in _SPOKEN:
            text = f"[{message.sender or message.role}] {text}"
        if told and told[-1].role == role:
            told[-1] = Turn(role, told[-1].text + _GAP + text)
        else:
            told.append(Turn(role, text))
    return told


def system_text(told: Iterable[Turn]) -> str:
    """Everything that the system said."""
    return _GAP.join(turn.text for turn in told if turn.role == "system")


def exchanges(told: Sequence[Turn]) -> Iterator[tuple[str, str]]:
    """What was asked and what was answered, in pairs, without the system; either may be missing and is empty then."""
    asked: list[str] = []
    for turn in told:
        if turn.role == "user":
            asked.append(turn.text)
        elif turn.role == "assistant":
            yield _GAP.join(asked), turn.text
            asked = []
    if asked:
        yield _GAP.join(asked), ""
