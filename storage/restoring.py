"""Taking in what this program exported: besides what other tools know, its own fields return.

A session that is here already is not touched unless its caller says how: what is the same is no news, what differs is
refused, merged or replaced (tests/unit/test_transcript_steno_json.py, tests/unit/test_restoring.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .edit import Edit
from .errors import InvalidInput, SessionError
from .importing import Imported, take_in
from .model import Message, NewMessage, SessionHeader, automatic_title, format_ms, parse_time, plain_text
from .registers import text_of
from .rows import content_column
from .state import find_message, recount, retitle, touch
from .store import Placed, Store
from .transcripts.steno_json import Exported
from .transcripts.transcript import Transcript

How = Literal["refuse", "merge", "replace"]


class SessionDiffers(SessionError):
    """A session is here already and not as the file has it; nothing was taken in."""

    hint = "use --merge, --replace or --new-id"

    def __init__(self, *, session: str) -> None:
        super().__init__(f"session {session} is here already and differs", hint=self.hint)
        self.session = session


def bring_back(store: Store, exported: Exported, *, how: How = "merge") -> Imported:
    """Bring in a session that was exported, all or nothing; raises `InvalidInput`.

    Where it is here already: "refuse" raises `SessionDiffers` unless it is the same; "merge" brings it up to the
    file's messages like any other transcript, where what a person wrote stays; "replace" makes it what the file says,
    as a change by hand. A deleted one stays deleted, unless it is replaced.
    """
    with store.transaction():
        row = store.find(exported.id)
        if row is not None and how != "merge":
            if row.hidden and how == "replace":
                store.restore(exported.id)
            elif row.hidden or is_same(store, exported):
                return Imported(exported.id, created=False, added=0, changed=0)
            if how == "refuse":
                raise SessionDiffers(session=exported.id)
            return _replace(store, exported)
        done = take_in(store, exported)
        made = store.find(exported.id) if done.created else None
        if made is not None:
            touch(store, made.no, exported.updated_ms)
        return done


def renamed(store: Store, transcript: Transcript, new_id: str, *, named: dict[str, str]) -> Transcript:
    """The transcript as a new session; its origin is kept, and is a fork's original where it is here.

    ``named`` are the new ids that sessions of the same file have got.
    """
    old = transcript.id
    here = store.find(old)
    is_fork = here is not None and not here.hidden
    stated = {**transcript.forked_from}
    if stated.get("session") in named:
        stated["session"] = named[stated["session"]]
        stated.pop("above", None)
    elif is_fork:
        last = transcript.messages[-1].id if transcript.messages else None
        stated = {"session": old, "message": last, "reason": "imported as a new session"}
    messages = transcript.messages
    if is_fork:
        messages = [
            msgspec.structs.replace(each, origin=each.origin or {"session": old, "message": each.id})
            for each in messages
        ]
    source = {"tool": "steno", "id": old, **({"source": transcript.source} if transcript.source else {})}
    named[old] = new_id
    return msgspec.structs.replace(transcript, id=new_id, forked_from=stated, source=source, messages=messages)


def is_same(store: Store, exported: Exported) -> bool:
    """Say whether a session that is here is what an export of it says; about what that leaves out nothing is asked."""
    here = store.get(exported.id)
    if not _same_header(here, exported):
        return False
    messages = store.messages(exported.id)
    if here.message_count != len(exported.messages):
        return False
    return all(_same_message(mine, new) for mine, new in zip(messages, exported.messages, strict=True))


def _same_header(here: SessionHeader, exported: Exported) -> bool:
    pairs = {
        "title": (here.title, exported.shown_title or _automatic(exported)),
        "created_at": (parse_time(here.created_at), exported.created_ms),
        **{
            name: (getattr(here, name), getattr(exported, name))
            for name in ("status", "tags", "provider", "model", "user_id", "metadata", "state")
        },
        **{name: (getattr(here, name) or {}, getattr(exported, name)) for name in ("source", "forked_from")},
    }
    return all(mine == theirs for name, (mine, theirs) in pairs.items() if name in exported.stated)


def _automatic(exported: Exported) -> str:
    spoken = (each.content for each in exported.messages if each.role == "user" and plain_text(each.content).strip())
    first = next(spoken, None)
    return "" if first is None else automatic_title(first)


def _same_message(mine: Message, new: NewMessage) -> bool:
    return (
        mine.id == new.id
        and mine.role == new.role
        and mine.content == new.content
        and (new.timestamp is None or mine.timestamp == _shown_time(new.timestamp))
        and (mine.sender, mine.parent, mine.model) == (new.sender, new.parent, new.model)
        and (mine.usage or None, mine.metadata, mine.origin or None)
        == (new.usage or None, new.metadata, new.origin or None)
    )


def _shown_time(text: str) -> str:
    ms = parse_time(text)
    return format_ms(ms) if text == format_ms(ms) else text


def _replace(store: Store, exported: Exported) -> Imported:
    """Write by hand whatever the file says otherwise; messages that it lacks are deleted."""
    name = exported.id
    row = store.live(name)
    edit = Edit(store, row)
    for field in ("status", "provider", "model", "user_id"):
        if field in exported.stated:
            edit.set(field, text_of(getattr(exported, field)))
    if "title" in exported.stated:
        edit.set("title", text_of(exported.title))
    if "tags" in exported.stated:
        edit.set_tags(exported.tags)
    for field in ("metadata", "state"):
        if field in exported.stated:
            edit.set_document(field, getattr(exported, field))
    edit.finish(touched_ms=exported.updated_ms or None)
    wanted = [each.id for each in exported.messages]
    gone = [each.id for each in store.messages(name) if each.id not in set(wanted)]
    if gone:
        store.delete_messages(name, gone)
    added = changed = 0
    after: str | None = None
    for new in exported.messages:
        assert new.id is not None
        mine = find_message(store, row.no, new.id)
        if mine is None:
            _insert(store, row.no, new, after=after, default_ms=exported.created_ms)
            added += 1
        elif mine.role != new.role:
            raise InvalidInput(f"message {new.id} has another role in the file", hint="use --new-id")
        else:
            changed += _rewrite(store, name, new, hidden=bool(mine.hidden))
        after = new.id
    recount(store, row.no)
    retitle(store, row.no)
    if [each.id for each in store.messages(name)] != wanted:
        raise InvalidInput(f"the messages of session {name} stand in another order in the file", hint="use --new-id")
    return Imported(name, created=False, added=added, changed=changed + len(gone) + int(edit.written))


def _insert(store: Store, no: int, new: NewMessage, *, after: str | None, default_ms: int) -> None:
    time_ms = parse_time(new.timestamp) if new.timestamp else default_ms
    store.insert_messages(no, [Placed(new, str(new.id), content_column(new.content), time_ms, after, inserted=True)])


def _rewrite(store: Store, session: str, new: NewMessage, *, hidden: bool) -> int:
    """Write what the file says otherwise of a message that is here; a deleted one is shown again."""
    assert new.id is not None
    if hidden:
        edit = Edit(store, store.live(session))
        edit.set("deleted", b"null", message=store.message_row(store.live(session), new.id))
        edit.finish()
    mine = store.get_message(session, new.id)
    wanted = {name: getattr(new, name) for name in ("content", "sender", "parent", "model")}
    wanted["usage"] = new.usage or None
    if new.timestamp is not None:
        wanted["timestamp"] = new.timestamp
    changes = {name: value for name, value in wanted.items() if getattr(mine, name) != value}
    patch = {**{key: None for key in mine.metadata if key not in new.metadata}, **new.metadata}
    if mine.metadata != new.metadata:
        changes["metadata"] = patch
    if changes:
        store.edit_message(session, new.id, changes)
    return int(bool(changes) or hidden)
