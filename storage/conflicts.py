"""Open conflicts: what was written by hand differently on two devices that did not know of each other.

What is shown is the same everywhere; the other values wait here until somebody settles it. Settling is a
write by hand of someone who knew all open values, so it settles the conflict everywhere, and what a device
that did not know of it writes meanwhile is a conflict again (tests/unit/test_conflicts.py,
tests/unit/test_settling.py).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from .deletion import Vector, decode, encode, in_force, join, message_deletion
from .document import beaten, patched
from .edit import Edit
from .errors import ConflictNotFound, InvalidInput
from .model import Json, format_ms
from .registers import REMOVED, Register, value_of
from .rows import HIDDEN_ITSELF, MessageRow, SessionRow
from .stamps import BY_HAND, Stamp, clock_ms
from .state import DOCUMENTS, VECTORS, deleted_ms, document, family, find_message, load
from .store import Store

Place = tuple[int, int, int, str]
"""Where a conflict stands among all of them: seq, session, message, path."""

_Named = tuple[str, str | None, str]
_BEYOND = 1 << 62
_NEVER = Stamp(-1, 0, "")


class Written(msgspec.Struct, frozen=True):
    """One value, who wrote it, and when by that device's clock. ``removed``: the field was taken away.

    ``number`` counts the values of a conflict from 1 on, the oldest first: what arrives later seldom moves them.
    """

    value: Json
    device: str
    written_at: str
    removed: bool = False
    number: int = 0


class Conflict(msgspec.Struct, frozen=True):
    """One field with several values; ``shown`` is the one that everybody sees. Its ``id`` is the same everywhere.

    Where ``field`` is ``deleted``, a value is the time of a deletion, or null for one that was not deleted.
    """

    id: str
    session: str
    title: str
    message: str | None
    field: str
    shown: Written
    others: list[Written]

    @property
    def values(self) -> list[Written]:
        """Every value, by its number."""
        return sorted([self.shown, *self.others], key=lambda each: each.number)


class _Choice(NamedTuple):
    stamp: Stamp
    text: bytes
    written: Written


class _Choices(NamedTuple):
    """The value that is shown, and the others, the last written first."""

    shown: _Choice
    others: list[_Choice]


def conflicts(store: Store, session: str | None = None) -> Iterator[Conflict]:
    """Every open conflict of a session that is shown, or of one session alone, the last one first."""
    return (conflict for _, conflict in placed(store, session))


def placed(store: Store, session: str | None = None, *, after: Place | None = None) -> Iterator[tuple[Place, Conflict]]:
    """Every open conflict with its place, from behind a place on."""
    seq, *rest = after or (_BEYOND, 0, 0, "")
    rows = store.execute(
        "SELECT registers.seq, registers.path, sessions.no, sessions.id, sessions.title, messages.no, messages.id "
        "FROM registers JOIN sessions ON sessions.no = registers.session AND sessions.hidden = 0 "
        "LEFT JOIN messages ON messages.no = registers.message WHERE registers.conflict "
        "AND (?1 IS NULL OR sessions.id = ?1) AND (registers.seq < ?2 OR registers.seq = ?2 "
        "AND (registers.session, registers.message, registers.path) > (?3, ?4, ?5)) "
        "ORDER BY registers.seq DESC, registers.session, registers.message, registers.path",
        (session, seq, *rest),
    ).fetchall()
    for at, path, session_no, session_id, title, message_no, message in rows:
        row = find_message(store, session_no, message) if message is not None else None
        choices = _choices(store, session_no, row, path)
        if choices is not None:
            numbers = _numbers(choices)
            yield (
                (at, session_no, message_no or 0, path),
                Conflict(
                    conflict_id(session_id, message, path),
                    session_id,
                    title,
                    message,
                    path,
                    _numbered(choices.shown, numbers),
                    [_numbered(each, numbers) for each in choices.others],
                ),
            )


def conflict_id(session: str, message: str | None, field: str) -> str:
    """The id of the conflict of a field, opaque to others."""
    return base64.urlsafe_b64encode(msgspec.json.encode((session, message, field))).decode().rstrip("=")


def named(conflict: str) -> tuple[str, str | None, str]:
    """The session, message and field of a `conflict_id`; raises `ConflictNotFound`."""
    try:
        text = base64.b64decode(conflict + "=" * (-len(conflict) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=_Named)
    except (ValueError, RecursionError) as exc:
        raise ConflictNotFound(what=f"{conflict[:40]!r}, which names no field") from exc


def restore(store: Store, session_id: str, message: str | None, field: str, *, number: int) -> Written:
    """Write one value of a conflict by hand, knowing all of them; that of the shown one keeps what is shown.

    Raises `SessionNotFound`, `ConflictNotFound`, and `InvalidInput` where no value has this number.
    """
    with store.transaction():
        session, row, choices = _found(store, session_id, message, field)
        numbers = _numbers(choices)
        for each in (choices.shown, *choices.others):
            if numbers[each.stamp] == number:
                if each is choices.shown:
                    _keep(store, session, row, field)
                else:
                    _write(store, session, row, field, each)
                return _numbered(each, numbers)
    raise InvalidInput(f"{field} has no value {number}", hint=f"its values are numbered from 1 to {len(numbers)}")


def dismiss(store: Store, session_id: str, message: str | None = None, field: str | None = None) -> list[Conflict]:
    """Settle conflicts by what is shown: of one field, of a message's fields, or of a whole session; return them.

    What stands above and below a key in the same document may be settled with it. Raises `SessionNotFound`, and
    `ConflictNotFound` where nothing is to be settled.
    """
    with store.transaction():
        session = store.live(session_id)
        if field is not None:
            _found(store, session_id, message, field)
        chosen = [
            each
            for each in conflicts(store, session_id)
            if (field is None and message is None)
            or (each.message == message and (field is None or each.field == field))
        ]
        if not chosen:
            raise ConflictNotFound(what=f"session {session_id}" if message is None else f"message {message}")
        for each in chosen:
            row = None if each.message is None else find_message(store, session.no, each.message)
            if _choices(store, session.no, row, each.field) is not None:  # else settled with another one
                _keep(store, session, row, each.field)
    return chosen


def _found(
    store: Store, session_id: str, message: str | None, field: str
) -> tuple[SessionRow, MessageRow | None, _Choices]:
    session = store.live(session_id)
    row = None if message is None else store.message_row(session, message)
    flagged = store.one(
        "SELECT 1 FROM registers WHERE conflict AND session = ? AND message = ? AND path = ?",
        (session.no, row.no if row else 0, field),
    )
    choices = _choices(store, session.no, row, field) if flagged else None
    if choices is None:
        of = f"session {session_id}" if message is None else f"message {message}"
        raise ConflictNotFound(what=f"the field {field} of {of}")
    return session, row, choices


# Settling


def _write(store: Store, session: SessionRow, row: MessageRow | None, path: str, chosen: _Choice) -> None:
    """Write a value as somebody would who sees it and all that stands against it."""
    if path == "deleted" and row is None:
        if chosen.written.value is None:
            store.restore(session.id)
        else:
            store.delete(session.id)
        return
    edit = Edit(store, session)
    name = _head(path)
    if path == "deleted" and row is not None:
        edit.set(path, _deletion_of(store, session, row, deleted=chosen.written.value is not None), message=row)
    elif name in DOCUMENTS and "/" in path:
        edit.set_leaves(name, [(path.removeprefix(name), chosen.text)], message=row)
    else:
        edit.set(path, chosen.text, message=row)
        if path == "content" and row is not None and in_force(load(store, session.no, row, "deleted")) is not None:
            edit.set("deleted", b"null", message=row)  # whoever writes a deleted message anew wants it
    edit.finish()


def _keep(store: Store, session: SessionRow, row: MessageRow | None, path: str) -> None:
    """Write what is shown again, so that nothing changes but what is known."""
    name = _head(path)
    if name in DOCUMENTS and "/" in path:
        _keep_leaf(store, session, row, name, path)
        return
    edit = Edit(store, session)
    if path in VECTORS and row is None:
        _keep_vector(store, session, edit, path)
    elif path == "deleted" and row is not None:
        edit.set(path, _deletion_of(store, session, row, deleted=deleted_ms(store, row) is not None), message=row)
    else:
        edit.set(path, load(store, session.no, row, path).shown, message=row)
        if path == "content" and row is not None and row.hidden & HIDDEN_ITSELF:
            # A deletion that does not know the new stamp would show the message again.
            edit.set("deleted", _deletion_of(store, session, row, deleted=True), message=row)
    edit.finish()


def _deletion_of(store: Store, session: SessionRow, row: MessageRow, *, deleted: bool) -> bytes:
    """The text of a message's ``deleted`` by someone who knows all that its content was."""
    if not deleted:
        return b"null"
    at_ms = deleted_ms(store, row)
    content = load(store, session.no, row, "content")
    return message_deletion(content.known, at_ms=store.now_ms() if at_ms is None else at_ms)


def _keep_vector(store: Store, session: SessionRow, edit: Edit, path: str) -> None:
    vector = in_force(load(store, session.no, None, path))
    if path == "deleted" and vector is not None:
        # The session is shown without what was deleted, and stays so: see `Store.wake`.
        cleared = in_force(load(store, session.no, None, "cleared"))
        edit.set("cleared", encode(join(each for each in (cleared, vector) if each)))
        vector = Vector({}, at_ms=store.now_ms())
    edit.set(path, encode(vector))


def _keep_leaf(store: Store, session: SessionRow, row: MessageRow | None, name: str, path: str) -> None:
    """Write a leaf so that the whole document stays what it is."""
    number, where = row.no if row else 0, path.removeprefix(name)
    whole = document(family(store, session.no, number, name), name)
    for text in (load(store, session.no, row, path).shown, REMOVED):
        if _same(patched(whole, [(where, text)]), whole):
            edit = Edit(store, session)
            edit.set_leaves(name, [(where, text)], message=row)
            edit.finish()
            return
    # What is shown below it would go: take it away, and put all back as it was.
    edit = Edit(store, session)
    edit.set_leaves(name, [(where, REMOVED)], message=row)
    edit.finish()
    edit = Edit(store, session)
    edit.set_document(name, whole, message=None if row is None else store.message_row(session, row.id))
    edit.finish()


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


# What stands against what


def _choices(store: Store, session_no: int, row: MessageRow | None, path: str) -> _Choices | None:
    register = load(store, session_no, row, path)
    if path in VECTORS:
        return _of_deletion(register, hidden=row is not None and bool(row.hidden))
    return _of_values(register) or _of_leaves(family(store, session_no, row.no if row else 0, _head(path)), path)


def _of_values(register: Register) -> _Choices | None:
    top, value = register.top
    others: dict[bytes, _Choice] = {}
    for stamp, other in sorted(register.open.items(), reverse=True):
        if stamp.rank == BY_HAND and other.text != value.text:
            others.setdefault(other.text, _choice(stamp, other.text))
    return _Choices(_choice(top, value.text), list(others.values())) if others else None


def _of_leaves(registers: dict[str, Register], path: str) -> _Choices | None:
    """A value of metadata or state that is not shown because of one above or below it."""
    tops = {each: register.top for each, register in registers.items() if register.open}
    shown = beaten(tops).get(path)
    if shown is None:
        return None
    return _Choices(_choice(tops[shown][0], tops[shown][1].text), [_choice(tops[path][0], tops[path][1].text)])


def _head(path: str) -> str:
    return path.partition("/")[0]


def _of_deletion(register: Register, *, hidden: bool) -> _Choices | None:
    """What is shown of a deletion that somebody overruled, knowingly or not: it, and what it stands against."""
    values = [_deletion(stamp, value.text) for stamp, value in sorted(register.open.items(), reverse=True)]
    against = [each for each in values if (each.written.value is not None) != hidden]
    agreeing = [each for each in values if (each.written.value is not None) == hidden]
    newest = values[0].written if values else None
    if newest is None:
        return None
    shown = agreeing[0] if agreeing else _Choice(_NEVER, b"null", Written(None, newest.device, newest.written_at))
    return _Choices(shown, against) if against else None


def _choice(stamp: Stamp, text: bytes) -> _Choice:
    written = Written(value_of(text), stamp.device, format_ms(clock_ms(stamp.clock)), text == REMOVED)
    return _Choice(stamp, text, written)


def _deletion(stamp: Stamp, text: bytes) -> _Choice:
    vector = decode(text)
    value = None if vector is None else format_ms(vector.at_ms)
    return _Choice(stamp, text, Written(value, stamp.device, format_ms(clock_ms(stamp.clock))))


def _numbers(choices: _Choices) -> dict[Stamp, int]:
    by_age = sorted((each.stamp for each in (choices.shown, *choices.others)), key=lambda stamp: (stamp.instant, stamp))
    return {stamp: number for number, stamp in enumerate(by_age, start=1)}


def _numbered(choice: _Choice, numbers: dict[Stamp, int]) -> Written:
    return msgspec.structs.replace(choice.written, number=numbers[choice.stamp])
