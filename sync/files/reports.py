"""What a save by hand led to that nobody asked for, kept for a while so that people see it.

A line that came back, a copy that became a session: the latest stand in the store's own database, written in the
transaction of the save. Ids and paths only, never a text; a purge of a session drops its own
(tests/unit/test_files_reports.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ...storage.model import format_ms
from ...storage.store import Store
from ...storage.tombstones import REPORTS
from .names import name_under_title

if TYPE_CHECKING:
    from .plan import Report as Planned

MOST = 100
KEPT_MS = 30 * 86_400_000

SAID = {
    "birth-restored": "what does not change was edited, and is restored",
    "line-came-back": "what was taken away had changed meanwhile, and came back",
    "order-restored": "lines stood in another order, which is restored",
    "unknown-id-added": "what has an id that was not known here was added",
    "deleted-line-restored": "what had been deleted was edited, and came back",
    "purged-line": "what had been purged was left out",
    "copy": "this is a copy, and became a session of its own",
    "cut-short": "what the machine's end had cut short was written anew",
    "lost-with-power": "what was gone when the machine came up again was written anew; remove it again if you did so",
    "line-kept": "what was missing when the machine came up again was not taken for deleted, and came back",
}
KINDS = tuple(SAID)
_MOST_NAMED, _MOST_CHARACTERS = 3, 64


class Report(msgspec.Struct, frozen=True):
    """One thing that came of a save: when, of which file and session, and what, for programs and in plain words."""

    at_ms: int
    path: str
    session: str
    kind: str
    text: str


def reports(store: Store) -> list[Report]:
    """What is kept, the latest first."""
    since_ms = store.now_ms() - KEPT_MS
    found = msgspec.json.decode(store.meta(REPORTS) or "[]", type=list[Report])
    return [each for each in found if each.at_ms > since_ms]


def report_json(report: Report) -> dict[str, str]:
    """A report as programs are told of it everywhere."""
    return {
        "at": format_ms(report.at_ms), "path": report.path, "session": report.session, "kind": report.kind,
        "text": report.text,
    }  # fmt: skip


def keep(store: Store, new: Sequence[Report]) -> None:
    """Keep what is new; said again it is said once. Needs a transaction."""
    if new:
        said = {_matter(each) for each in new}
        kept = [*new, *(each for each in reports(store) if _matter(each) not in said)]
        store.set_meta(REPORTS, msgspec.json.encode(kept[:MOST]).decode())


def name_anew(store: Store, session: str, *, title: str) -> bool:
    """Forget former names of a session's file, which may tell what was purged; say whether there were any.

    Needs a transaction.
    """
    before = reports(store)
    after = [msgspec.structs.replace(each, path=name_under_title(each.path, session, title=title)) for each in before]
    if after != before:
        store.set_meta(REPORTS, msgspec.json.encode(after).decode())
    return after != before


def reports_of(
    planned: Iterable[Planned], *, purged: Sequence[str], copied: bool, path: str, session: str, now_ms: int,
    kept: Sequence[str] = (),
) -> list[Report]:  # fmt: skip
    """What is to be said of a save, once for each kind.

    ``purged`` are the lines that were left out of it, ``kept`` those that it lacked and that came back.
    """
    about: dict[str, list[str]] = {"copy": [session]} if copied else {}
    for each in planned:
        names = " of ".join(name for name in (each.field, each.id) if name)
        about.setdefault(each.kind, []).append(names)
    for kind, ids in (("purged-line", purged), ("line-kept", kept)):
        if ids:
            about[kind] = list(ids)
    return [Report(now_ms, path, session, kind, f"{SAID[kind]}{_named(names)}") for kind, names in about.items()]


def at_place(path: str, line: int, column: int) -> str:
    """A place in a file as editors and compilers write it, as far as it is known: ``path:line:column``."""
    return ":".join([path, *(str(each) for each in (line, column) if each)])


def said_of(path: Path, line: str) -> str:
    """What a line says of a file, without its path: whoever shows it names that first."""
    for begin, instead in ((f"{path}: ", ""), (f"{path} ", "it ")):
        if line.startswith(begin):
            return instead + line.removeprefix(begin)
    return line


def _matter(report: Report) -> tuple[str, ...]:
    return report.path, report.session, report.kind, report.text


def _named(names: Sequence[str]) -> str:
    shown = [name if len(name) <= _MOST_CHARACTERS else f"{name[:_MOST_CHARACTERS]}…" for name in names[:_MOST_NAMED]]
    more = len(names) - len(shown)
    return f" ({', '.join(shown)}{f' and {more} more' if more else ''})"
