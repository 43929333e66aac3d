"""How a home stands: values, for people and programs, with or without a running daemon."""

from __future__ import annotations

from typing import Any

import msgspec

from ..storage.home import Home
from ..storage.model import format_ms
from ..storage.store import Store
from ..sync.files.breaker import Halt, halt_of
from ..sync.files.ledger import Ledger, RefusedFile, TakenOut

_MOST_NOTES = 5
_UNSENT_SESSIONS = "SELECT count(*) FROM sessions WHERE seq > ?1 AND local_seq > ?2"
_UNSENT_MESSAGES = (
    "SELECT count(*) FROM messages m WHERE seq > ?1 AND (local_seq > ?2 OR edited AND EXISTS "
    "(SELECT 1 FROM registers r WHERE r.session = m.session AND r.message = m.no AND r.local_seq > ?2))"
)


def status_of(store: Store, home: Home, *, live: dict[str, Any] | None = None) -> dict[str, Any]:
    """The status of a home. ``live`` is what only a running daemon knows; None where none runs."""
    sessions, messages = store.count()
    vault = _vault(store, home)
    conflicts = store.one("SELECT count(*) FROM registers WHERE conflict")[0]
    incomplete = [row[0] for row in store.execute("SELECT id FROM sessions WHERE incomplete ORDER BY id LIMIT 20")]
    found: dict[str, Any] = {
        "home": str(home.data),
        "device": store.device,
        "sessions": sessions,
        "messages": messages,
        "conflicts": conflicts,
        "incomplete": incomplete,
        "files": files_status(store, home),
        "search": {"not_indexed": _behind(store, "search")},
        "vault": vault,
        "daemon": None,
    }
    for part, values in (live or {}).items():
        here = found.get(part)
        found[part] = {**here, **values} if isinstance(here, dict) else values
    found["problems"] = _problems(found)
    found["notes"] = _notes(found["files"]["taken_out"])
    return found


def files_status(store: Store, home: Home) -> dict[str, Any]:
    """How the session files stand. ``watched`` and ``stopped`` are known to a running daemon only."""
    ledger, halt = Ledger(store), halt_of(store)
    return {
        "directory": str(home.sessions),
        "files": ledger.count(),
        "not_written": _behind(store, "files"),
        "watched": None,
        "refused": [_refused(each) for each in ledger.refused()],
        "halted": None if halt is None else _halted(halt),
        "stopped": None,
        "taken_out": [_taken_out(each) for each in ledger.taken_out()],
    }


def _refused(found: RefusedFile) -> dict[str, Any]:
    return msgspec.to_builtins(found)


def _halted(halt: Halt) -> dict[str, Any]:
    return {"kind": halt.kind, "reason": halt.line, "missing": halt.missing, "since": format_ms(halt.at_ms)}


def _taken_out(found: TakenOut) -> dict[str, Any]:
    return {"session": found.session, "at": format_ms(found.at_ms), "messages": found.messages}


def _place(refused: dict[str, Any]) -> str:
    parts = [f", {name} {refused[name]}" for name in ("line", "column") if refused[name]]
    return refused["path"] + "".join(parts)


def _notes(taken_out: list[dict[str, Any]]) -> list[str]:
    """What a person should know and need not do anything about, one line each."""
    notes = [history_keeps(each) for each in taken_out[:_MOST_NOTES]]
    more = len(taken_out) - len(notes)
    return [*notes, *([f"so it is with {more} more sessions: see `steno files status`"] if more else [])]


def history_keeps(taken_out: dict[str, Any]) -> str:
    """The line on a session from whose file somebody took text that is not gone yet."""
    session, messages = taken_out["session"], taken_out["messages"]
    return (
        f"session {session}: text of {messages} message{'s' * (messages > 1)} was taken out by hand; "
        f"the history keeps it until `steno purge {session} --history`, and a remote keeps what was sent to it"
    )


def _vault(store: Store, home: Home) -> dict[str, Any] | None:
    if not home.vault_file.exists():
        return None
    from ..sync.vault.membership import membership  # noqa: PLC0415  cryptography: only where there is a vault

    found = membership(home)
    if found is None:
        return None
    sent, floor = store.cursor(f"push:{found.vault}"), store.cursor(f"push-floor:{found.vault}")
    pending = store.one("SELECT count(*) FROM outbox WHERE vault = ?", (found.vault,))[0]
    aside = store.execute(
        "SELECT name, problem FROM objects WHERE vault = ? AND problem != '' ORDER BY name", (found.vault,)
    ).fetchall()
    unsent = sum(store.one(sql, (sent, floor))[0] for sql in (_UNSENT_SESSIONS, _UNSENT_MESSAGES))
    return {
        "remote": found.url,
        "id": found.vault,
        "not_sent": unsent,
        "pending_segments": pending,
        "set_aside": [{"object": name, "problem": problem} for name, problem in aside],
    }


def _behind(store: Store, consumer: str) -> int:
    since = store.cursor(consumer)
    return sum(
        store.one(f"SELECT count(*) FROM {table} WHERE seq > ?", (since,))[0]  # noqa: S608
        for table in ("sessions", "messages")
    )


def _problems(found: dict[str, Any]) -> list[str]:
    """What a person should look at, one line each."""
    files, vault = found["files"], found["vault"] or {}
    problems = [f"{_place(each)}: {each['reason']}" for each in files["refused"]]
    if files["halted"]:
        problems.append(files["halted"]["reason"])
    elif files["stopped"]:
        problems.append(files["stopped"])
    if found["search"].get("error"):
        problems.append(found["search"]["error"])
    if vault.get("error"):
        problems.append(vault["error"])
    problems += [each["problem"] for each in vault.get("set_aside", [])]
    problems += [each for each in vault.get("problems", []) if each not in problems]
    problems += [f"session {each} is incomplete: some of it has not arrived" for each in found["incomplete"]]
    return problems
