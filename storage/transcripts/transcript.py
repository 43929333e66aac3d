"""What a reader of another tool's sessions hands over."""

from __future__ import annotations

from typing import Any

import msgspec

from ..model import NewMessage


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """One session as its source has it; ids are native, so that taking it in again changes nothing."""

    id: str
    title: str | None
    created_ms: int
    provider: str | None
    model: str | None
    source: dict[str, Any]
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    messages: list[NewMessage]
