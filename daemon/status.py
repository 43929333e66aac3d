"""How a home stands: values, for people and programs, with or without a running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..storage.home import Home
from ..storage.identity import IDENTIFIED
from ..storage.local_only import kept_here
from ..storage.model import format_ms, parse_time
from ..storage.store import Store
from ..sync.files.breaker import Halt, halt_of
from ..sync.files.ledger import Ledger, RefusedFile, TakenOut
from ..sync.files.reports import at_place, report_json, reports

if TYPE_CHECKING:
    from ..sync.vault.restraint import Restraint

_MOST_NOTES = 5
_LATELY_MS = 86_400_000
_UNSENT_SESSIONS = "SELECT count(*) FROM sessions WHERE seq > ?1 AND local_seq > ?2 AND NOT local_only"
_UNSENT_MESSAGES = (
    "SELECT count(*) FROM messages m WHERE seq > ?1 AND (local_seq > ?2 OR edited AND EXISTS "
    "(SELECT 1 FROM registers r WHERE r.session = m.session AND r.message = m.no AND r.local_seq > ?2)) "
    "AND session NOT IN (SELECT no FROM sessions WHERE local_only)"
)


def status_of(store: Store, home: Home, *, live: dict[str, Any] | None = None) -> dict[str, Any]:
    """The status of a home. ``live`` is what only a running daemon knows; None where none runs."""
    sessions, messages = store.count()
    vault = _vault(store, home)
    conflicts = store.one("SELECT count(*) FROM registers WHERE conflict")[0]
    incomplete = [row[0] for row in store.execute("SELECT id FROM sessions WHERE incomplete ORDER BY id LIMIT 20")]
    found: dict[str, Any] = {
        "home": str(home.data),
        "device": store.meta("device"),
        "sessions": sessions,
        "messages": messages,
        "local_only": kept_here(store),
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
    found["notes"] = [
        *_on_identity(store),
        *(found["vault"] or {}).get("notes", []),
        *_notes(found["files"]["taken_out"]),
        *_on_reports(found["files"], now_ms=store.now_ms()),
    ]
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
        "reports": [report_json(each) for each in reports(store)],
    }


def _refused(found: RefusedFile) -> dict[str, Any]:
    return msgspec.to_builtins(found)


def _halted(halt: Halt) -> dict[str, Any]:
    return {"kind": halt.kind, "reason": halt.line, "missing": halt.missing, "since": format_ms(halt.at_ms)}


def _taken_out(found: TakenOut) -> dict[str, Any]:
    return {"session": found.session, "at": format_ms(found.at_ms), "messages": found.messages}


def _notes(taken_out: list[dict[str, Any]]) -> list[str]:
    """What a person should know and need not do anything about, one line each."""
    notes = [history_keeps(each) for each in taken_out[:_MOST_NOTES]]
    more = len(taken_out) - len(notes)
    return [*notes, *([f"so it is with {more} more sessions: see `steno files status`"] if more else [])]


def _on_identity(store: Store) -> list[str]:
    """What came of a copy of this home in the last day."""
    said = store.meta(IDENTIFIED)
    found = msgspec.json.decode(said) if said else None
    return [found["note"]] if found and parse_time(found["at"]) > store.now_ms() - _LATELY_MS else []


def _on_reports(files: dict[str, Any], *, now_ms: int) -> list[str]:
    count = len(lately(files, now_ms=now_ms))
    return [f"{count} report{'s' * (count > 1)} on files saved by hand: see `steno files status`"] if count else []


def lately(files: dict[str, Any], *, now_ms: int) -> list[dict[str, Any]]:
    """The reports of the last day: those that a person is shown unasked."""
    return [each for each in files["reports"] if parse_time(each["at"]) > now_ms - _LATELY_MS]


def history_keeps(taken_out: dict[str, Any]) -> str:
    """The line on a session from whose file somebody took text that is not gone yet."""
    session, messages = taken_out["session"], taken_out["messages"]
    return (
        f"session {session}: text of {messages} message{'s' * (messages > 1)} was taken out by hand; "
        f"the history keeps it, here and where it was sent, until `steno purge {session} --history`"
    )


def _vault(store: Store, home: Home) -> dict[str, Any] | None:
    if not home.vault_file.exists():
        return None
    from ..sync.vault.former import said_of, unscrubbed  # noqa: PLC0415
    from ..sync.vault.ledger import Ledger as VaultLedger  # noqa: PLC0415
    from ..sync.vault.ledger import standing  # noqa: PLC0415
    from ..sync.vault.membership import membership  # noqa: PLC0415  cryptography: only where there is a vault
    from ..sync.vault.peers import said_of_unscrubbed  # noqa: PLC0415
    from ..sync.vault.peers import unscrubbed as others_unscrubbed  # noqa: PLC0415
    from ..sync.vault.restraint import METERED, PAUSED  # noqa: PLC0415

    found = membership(home)
    if found is None:
        return None
    sent, floor = store.cursor(f"push:{found.vault}"), store.cursor(f"push-floor:{found.vault}")
    pending = store.one("SELECT count(*) FROM outbox WHERE vault = ?", (found.vault,))[0]
    aside = store.execute(
        "SELECT name, problem FROM objects WHERE vault = ? AND problem != '' ORDER BY name", (found.vault,)
    ).fetchall()
    unsent = sum(store.one(sql, (sent, floor))[0] for sql in (_UNSENT_SESSIONS, _UNSENT_MESSAGES))
    stands = standing(store, found.vault)
    ledger = VaultLedger(store, found.vault)
    former = unscrubbed(ledger)
    return {
        "remote": found.url,
        "id": found.vault,
        "problems": stands.problems if stands.failure is None else [stands.failure, *stands.problems],
        "notes": [*stands.notes, *map(said_of, former), *said_of_unscrubbed(ledger)],
        "holds_purged": [*former, *others_unscrubbed(ledger)],
        "not_sent": unsent,
        "pending_segments": pending,
        "paused_until": _until(PAUSED, store),
        "metered_until": _until(METERED, store),
        "set_aside": [{"object": name, "problem": problem} for name, problem in aside],
    }


def _until(restraint: Restraint, store: Store) -> str | None:
    until_ms = restraint.until(store, now_ms=store.now_ms())
    return None if until_ms is None else format_ms(until_ms)


def _behind(store: Store, consumer: str) -> int:
    since = store.cursor(consumer)
    return sum(
        store.one(f"SELECT count(*) FROM {table} WHERE seq > ?", (since,))[0]  # noqa: S608
        for table in ("sessions", "messages")
    )


def _problems(found: dict[str, Any]) -> list[str]:
    """What a person should look at, one line each."""
    files, vault = found["files"], found["vault"] or {}
    refused = [(at_place(each["path"], each["line"], each["column"]), each["reason"]) for each in files["refused"]]
    problems = [f"{place}: {reason}" for place, reason in refused]
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
