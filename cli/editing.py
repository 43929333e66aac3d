"""``steno files edit``: an editor on a session's file, and what became of the save (tests/unit/test_cli_files.py)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from ..storage.errors import InvalidInput, LocalStorageError
from ..storage.home import Home
from ..storage.store import Store
from ..sync.files.absorb import Deletions
from ..sync.files.breaker import MirrorStopped, halt_of
from ..sync.files.handwork import Handwork, handwork, newest_save
from ..sync.files.ledger import Ledger, RefusedFile
from ..sync.files.lines import parse_rev
from ..sync.files.reports import Report, at_place, report_json, reports
from ..sync.files.session_file import SessionFile, as_stored, rev_of, set_aside
from .editors import Editor, Spot, editor
from .keeper import keeper, standing
from .options import examples, format_option
from .stores import opened
from .terminal import note, print_json, safe_line

TAKEN_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1
_BACK = "The session's own text stands there again; what you typed is kept in"


@click.command(
    short_help="Edit a session's file, and say what became of it.",
    epilog=examples(
        "steno files edit @last", "EDITOR='code --wait' steno files edit k3v9", "steno files edit @last --discard"
    ),
)
@click.argument("session", metavar="ID")
@click.option("--discard", is_flag=True, help="Open nothing; give up a save that is refused, as at the question.")
@format_option
def edit(*, session: str, discard: bool, as_json: bool) -> None:
    """Open a session's file in $VISUAL, $EDITOR, nano or vim, wait, and say what was changed.

    A save that is not understood is refused whole: you may open the file again at the place, leave it as it is, or
    have the session's own text back (without a terminal: `--discard`); what you typed is kept beside it then.
    """
    home = Home.from_environment()
    home.require()
    home.settings()
    with_ = None if discard else editor()
    with opened(home.database) as store:
        session_id = store.resolve(session)
        if halt := halt_of(store):
            raise MirrorStopped(halt)
    file = _ready(home, session_id)
    if with_ is None:
        _give_up(home, file, as_json=as_json)
        return
    with opened(home.database) as store:
        since, before = newest_save(store), reports(store)
    sitting = _edited(home, file, with_)
    with opened(home.database) as store:
        other = _session_at(store, home, standing(file))
        done = handwork(store, session_id, since=since)
        if not _is_of(store, sitting.rev):
            done = msgspec.structs.replace(done, unknown=True)
        reported = _reported(store, home, standing(file), before)
    became = None if other == session_id else other
    if sitting.code and done.nothing and not became and not reported:
        raise LocalStorageError(
            f"{with_.name} ended with code {sitting.code}, and nothing was changed", hint="see what it said"
        )
    if as_json:
        of_file = {"session": session_id, "path": file.path, "became": became}
        print_json({**of_file, **msgspec.to_builtins(done), "reports": [report_json(each) for each in reported]})
    else:
        click.echo(safe_line(_said(session_id, done, became)))
    for each in reported:
        if each.kind != "copy" or not became:  # which is said above
            note(safe_line(f"{each.text[:1].upper()}{each.text[1:]}."))
    if done.old_texts:
        note(_history_keeps(home, session_id, done.old_texts))
    if done.nothing and not became and with_.patience:
        note(f"{with_.name} returns at once unless told to wait: set EDITOR to `{with_.name} {with_.patience}`")


class _Sitting(NamedTuple):
    """How an editor ended, and the rev that the file named which it left."""

    code: int
    rev: str | None


def _ready(home: Home, session: str) -> SessionFile:
    """The file of a session, up to date; what was saved in it before is taken up first."""
    with keeper(home) as keeping:
        file = keeping.current(session)
        if not file.taken:
            file = keeping.take(session)
    standing(file)
    return file


def _edited(home: Home, file: SessionFile, with_: Editor) -> _Sitting:
    """Let the file be edited until it is understood, or given up. Raises `InvalidInput`."""
    refused = file.refused
    while True:
        code = with_.run(standing(file), _spot(refused))
        sitting = _Sitting(code, rev_of(Path(standing(file))))
        refused = _taken(home, file)
        what = _choice(file, refused) if refused else "taken"
        if what == "discard":
            note(safe_line(f"{_BACK} {_discarded(home, file)}"))
            refused, sitting = _taken(home, file), _Sitting(0, rev_of(Path(standing(file))))
        elif what in ("delete", "keep"):
            refused = _taken(home, file, deletions="all" if what == "delete" else "none")
        if refused is None:
            return sitting
        if what != "again":
            raise _refusal(file, refused)


def _taken(home: Home, file: SessionFile, *, deletions: Deletions = "some") -> RefusedFile | None:
    """Have what was saved taken up; why it is refused, or None. Raises `LocalStorageError` where it is neither."""
    deadline = time.monotonic() + TAKEN_WITHIN_S
    while True:
        with keeper(home) as keeping:
            now = keeping.take(file.session, deletions=deletions)
        if now.path != file.path or now.taken:
            return now.refused
        standing(file)
        if time.monotonic() > deadline:
            raise LocalStorageError(f"{file.path} does not hold still", hint="it is taken up once nobody writes to it")
        time.sleep(_LOOK_EVERY_S)


def _spot(refused: RefusedFile | None) -> Spot | None:
    return Spot(refused.line, max(refused.column, 1)) if refused and refused.line else None


def _choice(file: SessionFile, refused: RefusedFile) -> str:
    """What to do with a refused save: ask, where somebody sits at a terminal."""
    if not sys.stdin.isatty():
        return "leave"
    note(f"Not taken, and left alone: {_place(file, refused)}")
    if refused.dropped:
        choices = {"d": "delete", "k": "keep", "a": "again"}
        question = f"[d]elete these {refused.dropped} messages, [k]eep them, or open the file [a]gain?"
    else:
        choices = {"a": "again", "l": "leave", "d": "discard"}
        question = "Open it [a]gain there, [l]eave it as it is, or [d]iscard what you changed?"
    letters = click.Choice(list(choices), case_sensitive=False)
    return choices[click.prompt(question, type=letters, default="a", show_choices=False, err=True)]


def _give_up(home: Home, file: SessionFile, *, as_json: bool) -> None:
    """Do what `--discard` asks for; raises `InvalidInput` where nothing is refused."""
    if file.refused is None:
        raise InvalidInput(f"the file of session {file.session} is not refused: there is nothing to discard")
    kept = _discarded(home, file)
    if refused := _taken(home, file):
        raise _refusal(file, refused)
    if as_json:
        print_json({"session": file.session, "path": file.path, "kept": str(kept)})
    else:
        click.echo(safe_line(f"{_BACK} {kept}"))


def _discarded(home: Home, file: SessionFile) -> Path:
    """Put the session's own text in the place of one that was refused; where that is kept."""
    path = Path(standing(file))
    with opened(home.database) as store:
        return set_aside(path, as_stored(store, file.session))


def _place(file: SessionFile, refused: RefusedFile) -> str:
    return f"{at_place(str(file.path), refused.line, refused.column)}: {refused.reason}"


def _refusal(file: SessionFile, refused: RefusedFile) -> InvalidInput:
    hint = "" if refused.dropped else f"mend it with `steno files edit {file.session}`, or give it up with --discard"
    return InvalidInput(_place(file, refused), hint=hint)


def _session_at(store: Store, home: Home, path: str) -> str | None:
    """The session whose file stands at a path now."""
    record = Ledger(store).at(str(Path(path).relative_to(home.sessions)))
    row = store.one("SELECT id FROM sessions WHERE no = ?", (record.session,)) if record else None
    return row[0] if row else None


def _reported(store: Store, home: Home, path: str, before: list[Report]) -> list[Report]:
    """What was said of saves at a path that had not been said before."""
    relative = str(Path(path).relative_to(home.sessions))
    return [each for each in reports(store) if each.path == relative and each not in before]


def _is_of(store: Store, text: str | None) -> bool:
    """Say whether a rev is one of this store, so that what was changed can be told."""
    rev = parse_rev(text)
    return rev is not None and rev.store == store.store_name


def _said(session: str, done: Handwork, became: str | None) -> str:
    """One line on what was changed."""
    if became:
        return f"The file became session {became}, since its id was changed; session {session} stays as it was."
    if done.unknown:
        return f"Session {session}: the file was taken as it is; it does not say which version it was made from."
    if done.nothing:
        return "Nothing changed."
    counts = [("edited", done.edited), ("added", done.added), ("removed", done.removed)]
    parts = [f"{len(ids)} {'message' if len(ids) == 1 else 'messages'} {verb}" for verb, ids in counts if ids]
    parts += [f"{', '.join(done.fields)} set"] if done.fields else []
    parts += [f"{len(done.returned)} came back, changed meanwhile"] if done.returned else []
    return f"Session {session}: {'; '.join(parts)}."


def _history_keeps(home: Home, session: str, messages: int) -> str:
    """What becomes of a text that was taken out."""
    keepers = "history and the remote keep" if home.vault_file.exists() else "history keeps"
    what = "the earlier text of 1 message" if messages == 1 else f"the earlier texts of {messages} messages"
    return f"The {keepers} {what} until `steno purge {session} --history`."
