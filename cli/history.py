"""``steno history``: what was written to a session, by whom, and what it looked like before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime

import click
import msgspec

from ..storage.audit import BIRTH, AuditEntry
from ..storage.errors import InvalidInput
from ..storage.history import as_it_was, entries, seq_before
from ..storage.model import Json, parse_time
from ..storage.shape import message_json, session_json
from ..storage.store import Store
from .naming import device_names, said
from .options import examples, format_option, positive
from .showing import print_session
from .stores import reading
from .terminal import fit, local_time, note, one_line_json, print_json, safe_line

_VALUE_COLUMNS = 60
_TIMES = ("deleted", "cleared", "purged")


@click.command(
    short_help="List what was written to a session, or show it as it was.",
    epilog=examples(
        "steno history k3v9",
        "steno history @last --last 5 --json",
        "steno history k3v9 --message m-018f3a2b1c9d",
        "steno history k3v9 --at 1234",
        'steno history k3v9 --at "2026-11-21 17:00"',
    ),
)
@click.argument("session", metavar="ID")
@click.option("--message", metavar="ID", help="Only what was written to this message.")
@click.option("--at", metavar="SEQ|TIME", help="Show the session as it was: behind a number of the list, or at a time.")
@click.option("--last", type=int, callback=positive, help="Only the newest so many entries.")
@format_option
def history(*, session: str, message: str | None, at: str | None, last: int | None, as_json: bool) -> None:
    """List what was written to a session and its messages, in the order in which it arrived on this device.

    Each entry has a number, the time and device of who wrote it, and the value before and after. What was purged is
    not told. With --at nothing is listed: the session is shown as it was on this device then. A deleted session is
    named by its whole id.
    """
    if at is not None and (message is not None or last is not None):
        raise click.UsageError("--at shows the whole session: it goes without --message and --last")
    with reading() as store:
        session_id = store.resolve(session)
        if at is not None:
            _show(store, session_id, at, as_json=as_json)
            return
        found: Iterable[AuditEntry] = entries(store, session_id, message=message)
        if last is not None:
            found = deque(found, maxlen=last)
        if as_json:
            print_json([msgspec.to_builtins(each) for each in found])
            return
        names = device_names(store)
        for each in found:
            click.echo(_line(each, names))


def _show(store: Store, session: str, at: str, *, as_json: bool) -> None:
    seq = int(at) if at.isascii() and at.isdigit() else seq_before(store, session, at_ms=_moment(at))
    past = as_it_was(store, session, seq)
    header, messages = past.header, past.messages
    if as_json:
        print_json({**session_json(header), "messages": [message_json(each) for each in messages], "seq": seq})
        return
    note(f"As it was behind change {seq} of this device; nothing is changed.")
    print_session(header, messages)


def _moment(text: str) -> int:
    """The milliseconds of a time; one without a zone is one of this machine's clock."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return parse_time(text)
    except InvalidInput as exc:
        hint = "give a number of the list, or a time as 2026-11-21T17:00"
        raise InvalidInput(f"{text} is neither a number nor a time", hint=hint) from exc


def _line(entry: AuditEntry, names: dict[str, str]) -> str:
    when = local_time(entry.at, "%Y-%m-%d %H:%M:%S")
    who = said(entry.device, names) + (f", {entry.actor}" if entry.actor else "")
    return safe_line(f"{entry.seq:>6}  {when}  {who}  {_what(entry)}")


def _what(entry: AuditEntry) -> str:
    of = f"message {entry.message} " if entry.message is not None else ""
    if entry.path == BIRTH:
        born = entry.after if isinstance(entry.after, dict) else {}
        if entry.message is None:
            return "session made"
        return f"{of}added ({born.get('role')}){': ' + _short(born['content']) if 'content' in born else ''}"
    if entry.path in _TIMES:
        done = entry.path if entry.after is not None else f"no longer {entry.path}"
        return f"{of}{done}"
    before = "nothing" if entry.before is None else _short(entry.before)
    after = "removed" if entry.removed else _short(entry.after)
    if entry.beaten:
        return f"{of}{entry.path}: {after}, which another value beats"
    return f"{of}{entry.path}: {before} -> {after}"


def _short(value: Json) -> str:
    return fit(one_line_json(value), _VALUE_COLUMNS)
