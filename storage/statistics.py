"""How much was said in sessions, by whom, at what cost and how fast; only what is shown counts.

Nothing is guessed: where no message says its tokens, or nobody was answered, there is no number
(tests/unit/test_statistics.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from .listing import Filter
from .model import Message, format_ms
from .reader import Reader
from .rows import decode_json

_COLUMNS = "m.session, m.role, m.time_ms, m.usage"
_OF_SESSION = f"SELECT {_COLUMNS} FROM messages m WHERE m.session = ? AND m.hidden = 0 ORDER BY m.ord"  # noqa: S608
_OF_ALL = "SELECT {columns} FROM messages m WHERE m.hidden = 0 AND m.session IN ({chosen}) ORDER BY m.session, m.ord"
_COUNTS = "SELECT {column}, count(*) FROM sessions WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1"
_TELL_EVERY = 20_000


class Tokens(msgspec.Struct, frozen=True):
    """What messages say that they used."""

    input: int
    output: int
    total: int


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """What some messages come to. Times are UTC; None: nothing is known.

    ``average_response_s`` is the mean time from a message of a user to the assistant's that follows it,
    ``duration_s`` that from the first message to the last.
    """

    messages: int
    roles: dict[str, int]
    tokens: Tokens | None
    average_response_s: float | None
    duration_s: float | None
    first_message_at: str | None
    last_message_at: str | None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What all of some sessions come to; counts of sessions by status and provider, the most frequent first."""

    sessions: int
    statuses: dict[str, int]
    providers: dict[str, int]
    spoken: Spoken


def statistics(store: Reader, session_id: str) -> Spoken:
    """What the messages of a session come to; raises `SessionNotFound`."""
    return _spoken(store.execute(_OF_SESSION, (store.live(session_id).no,)))


def all_statistics(store: Reader, chosen: Filter, *, told: Callable[[int], None] = lambda _: None) -> Kept:
    """What the sessions that a filter chooses come to; ``told`` hears now and then how many messages were counted."""
    clauses = [("hidden = 0", ()), *chosen.conditions()]
    where = " AND ".join(f"({text})" for text, _ in clauses)
    values = [value for _, of_clause in clauses for value in of_clause]

    def counted(column: str) -> dict[str, int]:
        rows = store.execute(_COUNTS.format(column=column, where=where), values)
        return {name: count for name, count in rows if name is not None}

    statuses = counted("status")
    chosen_rows = f"SELECT no FROM sessions WHERE {where}"  # noqa: S608
    return Kept(
        sessions=sum(statuses.values()),
        statuses=statuses,
        providers=counted("lower(provider)"),
        spoken=_spoken(store.execute(_OF_ALL.format(columns=_COLUMNS, chosen=chosen_rows), values), told),
    )


def _spoken(rows: Iterable[tuple[int, str, int, Any]], told: Callable[[int], None] = lambda _: None) -> Spoken:
    roles: Counter[str] = Counter()
    prompt = completion = total = 0
    first = last = asked = session = None
    waited_ms = answers = 0
    for at, (no, role, time_ms, usage) in enumerate(rows, start=1):
        roles[role] += 1
        if no != session:
            session, asked = no, None
        if role == "user":
            asked = time_ms
        elif role == "assistant" and asked is not None:
            if time_ms >= asked:  # clocks of two machines may say otherwise
                waited_ms, answers = waited_ms + time_ms - asked, answers + 1
            asked = None
        if usage is not None:
            used = Message(id="", role="", content="", timestamp="", usage=decode_json(usage)).token_usage
            prompt, completion, total = prompt + used["prompt"], completion + used["completion"], total + used["total"]
        first = time_ms if first is None else min(first, time_ms)
        last = time_ms if last is None else max(last, time_ms)
        if at % _TELL_EVERY == 0:
            told(at)
    return Spoken(
        messages=roles.total(),
        roles=dict(roles.most_common()),
        tokens=Tokens(prompt, completion, total) if total else None,
        average_response_s=waited_ms / answers / 1000 if answers else None,
        duration_s=None if first is None or last is None else (last - first) / 1000,
        first_message_at=None if first is None else format_ms(first),
        last_message_at=None if last is None else format_ms(last),
    )
