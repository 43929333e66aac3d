"""Taking sessions in from elsewhere: what another tool recorded becomes sessions here.

A transcript is what its source says now. New messages are born as derived, changed ones are
derived writes, which yield to what a person wrote; taking the same transcript in twice changes
nothing, and nothing that a person deleted comes back (tests/unit/test_importing.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from .document import leaves
from .edit import Edit
from .errors import InvalidInput
from .local_only import check_joins, check_origins
from .model import NewMessage, check_object, check_tag, check_text, check_title, format_ms, parse_time
from .packing import MAX_MESSAGE_BYTES
from .registers import text_of
from .rows import (
    HIDDEN_FOR_EVER,
    INSERT_QUICKLY,
    MESSAGE_COLUMNS,
    MessageRow,
    SessionRow,
    check_size,
    content_column,
    decode_json,
    json_column,
    quick,
    size_bytes,
)
from .stamps import BY_HAND, DERIVED
from .state import StateWire, family, from_wire, load, refresh_session, renumber, retitle, session_row
from .store import Store, check_new
from .transcripts.transcript import Transcript

_PLENTY_BYTES = MAX_MESSAGE_BYTES >> 1
"""Up to here a content that stands alone is not too large."""
_decode_state = msgspec.msgpack.Decoder(StateWire).decode


class Imported(msgspec.Struct, frozen=True):
    """What taking a transcript in did: nothing where an earlier life of the session was ``purged``.

    ``kept`` are the messages that came from a source before and that this transcript lacks: they stay.
    """

    session: str
    created: bool
    added: int
    changed: int
    purged: bool = False
    kept: frozenset[str] = frozenset()


def take_in(store: Store, transcript: Transcript) -> Imported:
    """Bring a session up to a transcript of it, all or nothing; raises `InvalidInput`.

    A source may still hold what was purged here, so nothing is taken of a session that ever was.
    """
    transcript = _checked(transcript)
    with store.transaction():
        if store.lives_over(transcript.id):
            return Imported(transcript.id, created=False, added=0, changed=0, purged=True)
        row = store.find(transcript.id)
        created = row is None
        if row is not None:
            check_joins(row, local_only=transcript.local_only)
        else:
            store.create(
                id=transcript.id,
                title=transcript.title,
                status=transcript.status,
                user_id=transcript.user_id,
                state=transcript.state,
                provider=transcript.provider,
                model=transcript.model,
                tags=transcript.tags,
                metadata=transcript.metadata,
                source=transcript.source,
                forked_from=transcript.forked_from,
                created_ms=transcript.created_ms,
                rank=DERIVED,
                local_only=transcript.local_only,
            )
            row = store.find(transcript.id)
        assert row is not None
        changed = 0 if created else _update_header(store, row, transcript)
        added, edited, kept = _messages(store, row, transcript, created=created)
        return Imported(transcript.id, created, added, changed + edited, kept=kept)


def _checked(transcript: Transcript) -> Transcript:
    """The transcript as the store will hold it, so that what it says again is seen to be no news."""
    title = transcript.title
    for name in ("provider", "model"):
        if getattr(transcript, name) is not None:
            check_text(getattr(transcript, name), name)
    check_object(transcript.metadata, "metadata")
    return msgspec.structs.replace(
        transcript,
        title=check_title(title) if title is not None and title.strip() else None,
        tags=list(dict.fromkeys(map(check_tag, transcript.tags))),
    )


def _update_header(store: Store, row: SessionRow, transcript: Transcript) -> int:
    """Write what the source now says otherwise of the session; a value that a person wrote stays."""
    edit = Edit(store, row, rank=DERIVED)
    wanted: dict[str, bytes] = {}
    for name in ("title", "provider", "model"):
        value = getattr(transcript, name)
        if value is not None:
            wanted[name] = text_of(value)
    shown = dict(leaves(decode_json(row.metadata)))
    wanted |= {f"metadata{where}": text for where, text in leaves(transcript.metadata) if shown.get(where) != text}
    for path, text in wanted.items():
        if _is_news(store, row.no, None, path, text):
            edit.set(path, text)
    missing = [tag for tag in transcript.tags if f"tags/{tag}" not in family(store, row.no, 0, "tags")]
    if missing:
        edit.set_tags([*decode_json(row.tags), *missing])
    edit.finish(touched_ms=0)
    return int(edit.written)


def _messages(
    store: Store, row: SessionRow, transcript: Transcript, *, created: bool
) -> tuple[int, int, frozenset[str]]:
    """How many messages were added, how many changed, and which the transcript lacks."""
    here: dict[str, MessageRow] = {}
    if not created:
        sql = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session = ?"  # noqa: S608
        here = {found[8]: MessageRow(*found) for found in store.execute(sql, (row.no,))}
    fresh = [new for new in transcript.messages if new.id not in here]
    edited = 0
    for new in transcript.messages:
        if new.id in here:
            edited += _update(store, row, here[new.id], new)
    insert_derived(store, row, fresh, default_ms=transcript.created_ms, checked=transcript.checked)
    named = {new.id for new in transcript.messages}
    lacking = (each for each in here.values() if each.author % 4 == DERIVED and not each.hidden)
    return len(fresh), edited, frozenset(each.id for each in lacking if each.id not in named)


def insert_derived(
    store: Store, row: SessionRow, fresh: list[NewMessage], *, default_ms: int, checked: bool = False
) -> None:
    """Insert messages that a source has, each behind the one that it names. Needs a transaction.

    ``default_ms`` is the time of those that have none before them that says one. ``checked``: that they can be stored
    has been seen to, but for their size.
    """
    if not fresh:
        return
    check_origins(store, row.no, (new.origin for new in fresh))
    seq, clock = store.advance(len(fresh))
    store.sign(clock, len(fresh))
    author = store.author(store.device, DERIVED)
    tail, place = store.one("SELECT id, ord FROM messages WHERE session = ? ORDER BY ord DESC LIMIT 1", (row.no,)) or (
        None,
        0,
    )
    moved = bool(row.incomplete)
    newest, time_ms, rows = 0, default_ms, []
    sizes: list[int] = []
    for at, new in enumerate(fresh):
        if new.id is None:
            raise InvalidInput("a message of a transcript has no id")
        content = content_column(new.content) if checked else check_new(new)
        text = new.timestamp
        if text is not None:
            time_ms = parse_time(text)
            text = None if text == format_ms(time_ms) else text
        moved |= new.after != tail
        tail = new.id
        newest = max(newest, time_ms)
        number = seq + at
        rows.append(
            (row.no, place + at + 1, number, number, number, 0, 0, new.id, clock + at, author, new.after, 0, new.role,
             new.sender, content, time_ms, text, new.parent, new.model, json_column(new.usage),
             json_column(new.metadata), json_column(new.origin), None)
        )  # fmt: skip
        sizes.append(size_bytes(content))
        if sizes[-1] > _PLENTY_BYTES or new.usage or new.metadata or new.origin or new.parent or new.model:
            check_size(*rows[-1][14:])
    values = (quick(each, content_bytes=size) for each, size in zip(rows, sizes, strict=True))
    store.executemany(INSERT_QUICKLY, values)
    store.execute(
        "UPDATE sessions SET message_count = message_count + ?, size_bytes = size_bytes + ?, "
        "updated_ms = max(updated_ms, ?) WHERE no = ?",
        (len(rows), sum(sizes), newest, row.no),
    )
    if moved:
        renumber(store, row.no)
    now = session_row(store, row.no)
    if now.vectors:
        refresh_session(store, row.no, {"deleted"})
    elif now.automatic and not now.title:
        retitle(store, row.no)


def _update(store: Store, row: SessionRow, local: MessageRow, new: NewMessage) -> int:
    """Write what the source now says otherwise of a message that is here."""
    if local.hidden & HIDDEN_FOR_EVER or (not local.edited and _as_born(local, new)):
        return 0
    edit = Edit(store, row, rank=DERIVED)
    wanted: dict[str, Any] = {
        "content": new.content, "sender": new.sender, "parent": new.parent, "model": new.model, "usage": new.usage,
    }  # fmt: skip
    for path, value in wanted.items():
        text = text_of(value)
        if _is_news(store, row.no, local, path, text):
            edit.set(path, text, message=local)
    edit.finish(touched_ms=0)
    return int(edit.written)


def _as_born(local: MessageRow, new: NewMessage) -> bool:
    return (
        local.content == content_column(new.content)
        and local.sender == new.sender
        and local.parent == new.parent
        and local.model == new.model
        and local.usage == json_column(new.usage)
    )


def _is_news(store: Store, session: int, local: MessageRow | None, path: str, text: bytes) -> bool:
    """Say whether a source has something to say: not where a person wrote over what a source had said before.

    What that was may only be known on the device where it was overwritten, so it is not asked. And not what a source
    said earlier: two files may be of one session, and each would undo the other for ever.
    """
    register = load(store, session, local, path)
    stamp, shown = register.top
    if stamp.rank == BY_HAND:
        return all(rank == BY_HAND for _, rank in register.known)
    if shown.text == text:
        return False
    rows = store.execute(
        "SELECT state FROM revisions WHERE session = ? AND message = ? AND path = ?",
        (session, local.no if local else 0, path),
    )
    earlier = (from_wire(store, _decode_state(state)) for (state,) in rows.fetchall())
    return all(value.text != text for register in earlier for value in register.open.values())
