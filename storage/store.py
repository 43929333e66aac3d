"""The session store: every write by hand, on top of what can be read.

Any number of processes may have it open. A write that returned is there after ``kill -9``
(tests/e2e/test_crash.py); an append costs the same at any size of the session (benchmarks).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .deletion import Vector, encode, in_force, join, message_deletion, vector
from .document import leaves, merge_patch, patched
from .edit import Base, Edit
from .errors import (
    InvalidInput,
    LocalStorageError,
    MessageExists,
    SessionDeleted,
    SessionExists,
    SessionNotFound,
)
from .local_only import check_origins, keep_here, stays
from .model import (
    Json,
    Message,
    NewMessage,
    SessionHeader,
    check_content,
    check_message_id,
    check_ms,
    check_object,
    check_role,
    check_session_id,
    check_status,
    check_tag,
    check_text,
    check_title,
    format_ms,
    parse_time,
)
from .reader import Reader
from .registers import check_path, text_of
from .rows import (
    INSERT_MESSAGE,
    MessageRow,
    SessionBirth,
    SessionRow,
    check_document,
    check_size,
    content_column,
    decode_json,
    encode_births,
    header,
    json_column,
    message,
    originals,
    session_births,
    size_bytes,
)
from .stamps import BY_HAND, REBUILT, Stamp, tick
from .state import (
    birth_stamps,
    document,
    family,
    find_message,
    link_forks,
    load,
    message_births,
    renumber,
    retitle,
    save_births,
    session_row,
    touch,
)

# What an append needs to know, in one statement: the session, its last message, and the newest of the feed.
_END = """
SELECT s.no, s.life, s.hidden, s.status, s.automatic, s.title, tail.id, ifnull(tail.ord, 0),
    max(clock.seq, ifnull(newest.seq, 0)), max(clock.hlc, ifnull(newest.clock, 0))
FROM sessions s CROSS JOIN clock
LEFT JOIN messages tail ON tail.session = s.no AND tail.ord = (SELECT max(ord) FROM messages WHERE session = s.no)
LEFT JOIN messages newest ON newest.seq = (SELECT max(seq) FROM messages)
WHERE s.id = ? AND s.hidden < 2
"""
_TAKEN = "SELECT 1 FROM messages WHERE session = ? AND id = ?"
_MANY = 100
_COUNT = (
    "UPDATE sessions SET updated_ms = max(updated_ms, ?), message_count = message_count + ?, "
    "size_bytes = size_bytes + ? WHERE no = ?"
)


class _End(NamedTuple):
    """Where an append begins: a session with its last message, and the newest number and clock of the feed."""

    id: str
    no: int
    life: int
    hidden: int
    status: str
    automatic: int
    title: str
    tail: str | None
    place: int
    seq: int
    clock: int


class Placed(NamedTuple):
    """A checked message with its id, the column of its content, its time, and where and as what class it is born."""

    new: NewMessage
    id: str
    content: str | bytes
    time_ms: int
    after: str | None
    inserted: bool
    rank: int = BY_HAND


class Store(Reader):
    """Sessions and messages in one SQLite file."""

    # Writing sessions

    def create(
        self,
        *,
        id: str | None = None,
        title: str | None = None,
        status: str = "active",
        provider: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: dict[str, Json] | None = None,
        state: dict[str, Json] | None = None,
        source: dict[str, Json] | None = None,
        forked_from: dict[str, Json] | None = None,
        created_ms: int | None = None,
        rank: int = BY_HAND,
        local_only: bool = False,
    ) -> SessionHeader:
        """Make a session; raises `InvalidInput`, and `SessionExists` where the id is taken.

        ``local_only``: nothing of it is ever sent to a remote, unless it is shared.
        """
        session_id = self.random(12) if id is None else check_session_id(id)
        texts: dict[str, bytes] = {}
        if title is not None:
            texts["title"] = text_of(check_title(title))
        if check_status(status) != "active":
            texts["status"] = text_of(status)
        for name, value in (("provider", provider), ("model", model), ("user_id", user_id)):
            if value is not None:
                texts[name] = text_of(check_text(value, name))
        for place, tag in enumerate(dict.fromkeys(check_tag(tag) for tag in tags), start=1):
            texts[f"tags/{tag}"] = text_of(place)
        for name, value in (("metadata", metadata), ("state", state)):
            texts |= {name + where: text for where, text in leaves(check_object(value or {}, name))}
            check_document(value or {}, name)
        for path, text in texts.items():
            check_path(path)
            check_size(text)
        with self.transaction():
            if self.find(session_id):
                raise SessionExists(session=session_id)
            row = self.insert_session(
                session_id,
                created_ms=created_ms,
                forked_from=json_column(check_object(forked_from or {}, "forked_from")),
                source=json_column(source),
                rank=rank,
                metadata=metadata or {},
                local_only=local_only,
            )
            stamp = Stamp(rank, session_births(row.births)[0].clock, self.device)
            save_births(self, row.no, stamp, texts, seq=row.seq)
            return header(session_row(self, row.no))

    def insert_session(
        self, session_id: str, *,
        created_ms: int | None, forked_from: str | None, source: str | None, rank: int,
        metadata: Mapping[str, Json], local_only: bool,
    ) -> SessionRow:  # fmt: skip
        """Insert the row of a session that is born here and now, in the next life of its id. Needs a transaction.

        It is ``local_only`` also where the ``metadata`` that it is about to get say so (`local_only.stays`).
        """
        life = self.lives_over(session_id) + 1
        seq, clock = self.advance()
        self.sign(clock)
        created_ms = check_ms(self.now_ms() if created_ms is None else created_ms, "the time of creation")
        births = [SessionBirth(clock, self.author(self.device, rank), created_ms, forked_from, source)]
        row = self.insert_session_row(session_id, births, seq=seq, local_seq=seq, touched=0, life=life)
        if local_only or stays(self, metadata=metadata, above=originals(births)):
            keep_here(self, row.no)
            row = session_row(self, row.no)
        return row

    def insert_session_row(
        self, session_id: str, births: list[SessionBirth], *, seq: int, local_seq: int, touched: int, life: int = 1
    ) -> SessionRow:
        """Insert a session's row with empty caches, in the place of a tombstone of its id. Needs a transaction."""
        created_ms = births[0].created_ms
        [no] = self.one(
            "INSERT INTO sessions (id, life, seq, local_seq, born_seq, births, touched, title, automatic, status, "
            "tags, metadata, state, created_ms, updated_ms, message_count, hidden, vectors, incomplete) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, '', 1, 'active', '[]', '{}', '{}', ?, ?, 0, 0, 0, 0) "
            "ON CONFLICT (id) DO UPDATE SET life = excluded.life, seq = excluded.seq, "
            "local_seq = max(local_seq, excluded.local_seq), "
            "born_seq = excluded.born_seq, births = excluded.births, touched = excluded.touched, hidden = 0, "
            "created_ms = excluded.created_ms, updated_ms = excluded.updated_ms "
            "WHERE hidden = 2 RETURNING no",
            (
                session_id,
                life,
                seq,
                local_seq,
                seq,
                encode_births(births),
                touched,
                created_ms,
                max(created_ms, touched),
            ),
        )
        if births[0].forked_from is not None:
            link_forks(self, no, births)
        return session_row(self, no)

    def update(
        self,
        session_id: str,
        *,
        fields: dict[str, Json] | None = None,
        tags: Sequence[str] | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        metadata: dict[str, Json] | None = None,
        state: dict[str, Json] | None = None,
    ) -> SessionHeader:
        """Change a session: ``fields`` are title, status, provider, model and user_id.

        ``metadata`` and ``state`` are merge patches. A title of None makes the title automatic again. Raises
        `InvalidInput` and `SessionNotFound`.
        """
        texts = {name: text_of(_check_field(name, value)) for name, value in (fields or {}).items()}
        patches = {name: patch for name, patch in (("metadata", metadata), ("state", state)) if patch is not None}
        for name, patch in patches.items():
            check_object(patch, name)
        with self.transaction():
            row = self.live(session_id)
            edit = Edit(self, row)
            for path, text in texts.items():
                edit.set(path, text)
            if tags is not None or add_tags or remove_tags:
                edit.set_tags(_tags(decode_json(row.tags) if tags is None else list(tags), add_tags, remove_tags))
            for name, patch in patches.items():
                before = document(family(self, row.no, 0, name), name)
                edit.set_document(name, merge_patch(before, patch), named=[where for where, _ in leaves(patch)])
            edit.finish()
            return header(session_row(self, row.no))

    def delete(self, session_id: str, *, known_seq: int | None = None) -> SessionHeader:
        """Hide a session and what is known of it here, until it is restored; raises `SessionNotFound`.

        ``known_seq``: only what had arrived by that number of the feed is deleted; a message by hand that came later
        keeps the session.
        """
        with self.transaction():
            row = self.live(session_id)
            edit = Edit(self, row)
            before = in_force(load(self, row.no, None, "deleted"))
            edit.set("deleted", encode(join(each for each in (before, self.vector_of(row, known_seq)) if each)))
            edit.finish()
            return header(session_row(self, row.no))

    def restore(self, session_id: str) -> SessionHeader:
        """Show a deleted session again with its messages; a session that is not deleted stays as it is."""
        with self.transaction():
            row = self.find(session_id)
            if row is None:
                raise SessionNotFound(ref=session_id)
            edit = Edit(self, row)
            if row.hidden or row.vectors:
                edit.set("deleted", b"null")
                edit.finish()
            return header(session_row(self, row.no))

    def vector_of(self, row: SessionRow, known_seq: int | None = None) -> Vector:
        """What this device knows, or knew at a number of the feed, of a session, as a deletion says it."""
        upto = self.last_seq if known_seq is None else known_seq
        seen, later = message_births(self, row.no, upto_seq=upto)
        own = [self.stamp(birth.clock, birth.author) for birth in session_births(row.births)]
        gapless = self._gapless(row)
        for stamp in later:  # what came later may be older than what was there
            gapless[stamp.device] = min(gapless.get(stamp.device, stamp.clock), stamp.clock - 1)
        return vector([*own, *seen], gapless=gapless, at_ms=self.now_ms())

    def _gapless(self, row: SessionRow) -> dict[str, int]:
        """Up to where devices are known of which something may be missing in a session.

        Where anything is missing that may be all of them, from their beginning: what was local-only is published long
        after its births, also of others.
        """
        if row.incomplete or self.one("SELECT 1 FROM gaps LIMIT 1"):
            return dict.fromkeys(self.devices.values(), 0)
        return {}

    # Writing messages

    def append(self, session_id: str, new: NewMessage) -> Message:
        """Add one message at the end, or behind ``new.after``; raises `InvalidInput` and `SessionNotFound`.

        An archived session becomes active again; a deleted one is shown again without its old messages.
        """
        return self.add_messages(session_id, [new])[0]

    def add_messages(self, session_id: str, batch: Sequence[NewMessage]) -> list[Message]:
        """Add messages in order, all or none, and return them."""
        return [message(row) for row in self.extend(session_id, batch)]

    def extend(
        self, session_id: str, batch: Sequence[NewMessage], *, life: int | None = None, checked: bool = False
    ) -> list[MessageRow]:
        """Add messages in order, all or none, as `add_messages` does.

        With a ``life`` they are for that one alone: a session that was deleted, or began anew, raises
        `SessionDeleted`. ``checked``: that replies are to messages of the session has been seen to.
        """
        if not batch:
            return []
        now_ms = self.now_ms()
        columns = [check_new(new) for new in batch]
        times = [now_ms if new.timestamp is None else parse_time(new.timestamp) for new in batch]
        with self.transaction():
            end = self._end(session_id)
            if life is not None and (end.hidden or end.life != life):
                raise SessionDeleted(session=session_id)
            if end.hidden or end.status == "archived":
                self._wake(session_row(self, end.no))
                end = self._end(session_id)._replace(title="")  # made anew: a hidden message may have given it
            if not checked:
                self._check_parents(end.no, batch)
            placed, inserted = self._placed(end.tail, batch, columns, times)
            rows = self._insert(end, placed)
            self.write(_COUNT, (max(times), len(rows), size_bytes(*columns), end.no))
            if end.automatic and (inserted or not end.title) and any(new.role == "user" for new in batch):
                retitle(self, end.no)
        return rows

    def _check_parents(self, no: int, batch: Sequence[NewMessage]) -> None:
        """Raise `InvalidInput` for a reply to what is neither in the session nor earlier in the batch."""
        earlier: set[str | None] = {None}
        for new in batch:
            if new.parent not in earlier and not self.one(_TAKEN, (no, new.parent)):
                raise InvalidInput(f"there is no message {new.parent} in this session to reply to")
            earlier.add(new.id)

    def _end(self, session_id: str) -> _End:
        row = self.one(_END, (session_id,))
        if row is None:
            raise SessionNotFound(ref=session_id)
        return _End(session_id, *row)

    def _placed(
        self, tail: str | None, batch: Sequence[NewMessage], columns: Sequence[str | bytes], times: Sequence[int]
    ) -> tuple[list[Placed], bool]:
        """Where each message is born, and whether any is an insertion."""
        placed: list[Placed] = []
        any_inserted = False
        for new, content, time_ms in zip(batch, columns, times, strict=True):
            inserted = new.after is not None and new.after != tail
            message_id = new.id or self.new_message_id()
            placed.append(Placed(new, message_id, content, time_ms, new.after if inserted else tail, inserted))
            if inserted:
                any_inserted = True
            else:
                tail = message_id
        return placed, any_inserted

    def insert_messages(self, no: int, placed: Sequence[Placed]) -> list[MessageRow]:
        """Insert messages that are born here and now, where each says. Needs a transaction; counts nothing."""
        return self._insert(self._end(session_row(self, no).id), placed)

    def _insert(self, end: _End, placed: Sequence[Placed]) -> list[MessageRow]:
        # What a file still shows when the database is lost was told before.
        check_origins(self, end.no, (each.new.origin for each in placed if each.rank != REBUILT))
        seq, clock = end.seq, tick(end.clock, now_ms=self.now_ms()) - 1
        no, tail, place = end.no, end.tail, end.place
        authors = {rank: self.author(self.device, rank) for rank in {each.rank for each in placed}}
        rows: list[MessageRow] = []
        moved = False
        for new, message_id, content, time_ms, after, inserted, rank in placed:
            if inserted or after != tail:
                moved = True
                if after is not None and not find_message(self, no, after):
                    raise InvalidInput(f"there is no message {after} to stand behind")
            place, seq, clock = place + 1, seq + 1, clock + 1
            row = (
                no, place, seq, seq, seq, 0, 0, message_id, clock, authors[rank], after, int(inserted), new.role,
                new.sender, content, time_ms, _time_text(new.timestamp, time_ms), new.parent, new.model,
                json_column(new.usage), json_column(new.metadata), json_column(new.origin), None,
            )  # fmt: skip
            check_size(*row[14:])
            rows.append(MessageRow(self._insert_row(end.id, row), *row))
            tail = message_id
        self.sign(clock - len(rows) + 1, len(rows))
        if moved:
            renumber(self, no)
        return rows

    def _insert_row(self, session_id: str, row: tuple[Any, ...]) -> int:
        try:
            return self.write(INSERT_MESSAGE, row)
        except LocalStorageError as exc:
            if "messages.session, messages.id" not in str(exc):  # the index that keeps ids apart
                raise
            raise MessageExists(session=session_id, message=row[7]) from exc

    def edit_message(
        self, session_id: str, message_id: str, changes: dict[str, Json], *, base: Base | None = None
    ) -> Message:
        """Change fields of a message: content, sender, parent, timestamp, model, usage; metadata is a merge patch."""
        metadata = changes.get("metadata")
        texts = {
            name: text_of(_check_message_field(name, value)) for name, value in changes.items() if name != "metadata"
        }
        with self.transaction():
            session = self.live(session_id)
            row = self.message_row(session, message_id)
            edit = Edit(self, session, base=base)
            for path, text in texts.items():
                edit.set(path, text, message=row)
            if "content" in texts and in_force(load(self, session.no, row, "deleted")) is not None:
                edit.set("deleted", b"null", message=row)  # whoever writes a deleted message anew wants it
            if metadata is not None:
                before = decode_json(row.metadata) if row.metadata else {}
                wanted = merge_patch(before, check_object(metadata, "metadata"))
                edit.set_document("metadata", wanted, message=row, named=[where for where, _ in leaves(metadata)])
            edit.finish()
            return message(self.message_row(session, message_id))

    def set_message_leaves(self, session_id: str, message_id: str, changed: Iterable[tuple[str, bytes]]) -> None:
        """Write leaves (JSON pointer, text or `REMOVED`) of a message's metadata; raises `MessageNotFound`."""
        with self.transaction():
            session = self.live(session_id)
            row = self.message_row(session, message_id)
            edit = Edit(self, session)
            before = decode_json(row.metadata) if row.metadata else {}
            edit.set_document("metadata", patched(before, changed), message=row)
            edit.finish()

    def delete_message(self, session_id: str, message_id: str) -> None:
        """Hide one message; one that is already deleted stays as it is. Raises `MessageNotFound`."""
        with self.transaction():
            session = self.live(session_id)
            row = self.message_row(session, message_id)
            if row.hidden:
                return
            edit = Edit(self, session)
            edit.set(
                "deleted",
                message_deletion(load(self, session.no, row, "content").known, at_ms=self.now_ms()),
                message=row,
            )
            edit.finish()

    def delete_messages(self, session_id: str, message_ids: Iterable[str]) -> None:
        """Hide messages, all in one change; those that are not there or deleted already are passed over.

        Where many go that one vector tells apart from those that stay, as at the beginning of a session, they are
        cleared by that: one write, instead of one for each of them, which would keep others waiting.
        """
        with self.transaction():
            session = self.live(session_id)
            edit = Edit(self, session)
            gone = list(message_ids)
            cut = self._cut(session, gone) if len(gone) >= _MANY else None
            if cut is not None:
                before = in_force(load(self, session.no, None, "cleared"))
                edit.set("cleared", encode(join(each for each in (before, cut) if each)))
                gone = []
            for message_id in gone:
                row = find_message(self, session.no, message_id)
                if row is not None and not row.hidden:
                    known = load(self, session.no, row, "content").known
                    edit.set("deleted", message_deletion(known, at_ms=self.now_ms()), message=row)
            edit.finish()

    def _cut(self, session: SessionRow, message_ids: list[str]) -> Vector | None:
        """The vector that holds these messages and none of the others that are shown; None where none does."""
        gone = set(message_ids)
        removed: list[Stamp] = []
        kept: list[list[Stamp]] = []
        for row in self.message_rows(session.no):
            stamps = birth_stamps(self, row)
            if row.id in gone:
                removed += stamps
            else:
                kept.append(stamps)
        cut = vector(removed, gapless=self._gapless(session), at_ms=self.now_ms())
        return None if any(cut.has(stamps) for stamps in kept) else cut

    def clear(self, session_id: str, *, known_seq: int | None = None) -> None:
        """Empty a session without hiding it; ``known_seq``: only of what had arrived by that number of the feed."""
        with self.transaction():
            row = self.live(session_id)
            edit = Edit(self, row)
            before = in_force(load(self, row.no, None, "cleared"))
            edit.set("cleared", encode(join(each for each in (before, self.vector_of(row, known_seq)) if each)))
            edit.finish()

    def wake(self, session_id: str) -> None:
        """Show a deleted session again without its old messages, and make an archived one active."""
        with self.transaction():
            row = self.find(session_id)
            if row is None:
                raise SessionNotFound(ref=session_id)
            self._wake(row)

    def touch(self, session_id: str, at_ms: int) -> None:
        """Say that a session was written to at this time; an earlier one than is known changes nothing."""
        with self.transaction():
            row = self.live(session_id)
            if at_ms > row.touched:
                seq, _ = self.advance()
                self.execute("UPDATE sessions SET seq = ?1, local_seq = ?1 WHERE no = ?2", (seq, row.no))
                touch(self, row.no, at_ms)

    def _wake(self, row: SessionRow) -> None:
        """Show a deleted session again without its old messages, and make an archived one active."""
        edit = Edit(self, row)
        if row.hidden:
            known = [in_force(load(self, row.no, None, path)) for path in ("cleared", "deleted")]
            edit.set("cleared", encode(join(each for each in known if each)))
            # Not null: that would be a restore, and end deletions which are not known here.
            edit.set("deleted", encode(Vector({}, at_ms=self.now_ms())))
        if row.status == "archived":
            edit.set("status", text_of("active"))
        edit.finish()

    def new_message_id(self) -> str:
        """A message id that nothing else has: ``m-``, the time, eight random characters. It sorts by birth."""
        return f"m-{self.now_ms():011x}{self.random(8)}"


def check_new(new: NewMessage) -> str | bytes:
    """Check a message on its way in and return the column of its content; raises `InvalidInput`."""
    check_role(new.role)
    if new.id is not None:
        check_message_id(new.id)
    for name in ("sender", "parent", "model"):
        value = getattr(new, name)
        if value is not None:
            check_text(value, name)
    if new.usage is not None:
        check_object(new.usage, "usage")
    check_object(new.metadata, "metadata")
    if new.origin is not None:
        check_object(new.origin, "origin")
    return content_column(check_content(new.content))


def _check_field(name: str, value: Json) -> Json:
    if name == "title":
        return None if value is None else check_title(value)
    if name == "status":
        return check_status(value)
    if name in ("provider", "model", "user_id"):
        return None if value is None else check_text(value, name)
    raise InvalidInput(f"a session has no field {name} that can be changed")


def _check_message_field(name: str, value: Json) -> Json:
    if name == "content":
        return check_content(value)
    if name == "timestamp":
        parse_time(value)
        return value
    if name in ("sender", "parent", "model"):
        return None if value is None else check_text(value, name)
    if name == "usage":
        return None if value is None else check_object(value, name)
    raise InvalidInput(f"a message has no field {name} that can be changed")


def _tags(before: list[str], add: Sequence[str], remove: Sequence[str]) -> list[str]:
    unwanted = {check_tag(tag) for tag in remove}
    wanted = [check_tag(tag) for tag in [*before, *add]]
    return [tag for tag in dict.fromkeys(wanted) if tag not in unwanted]


def _time_text(text: str | None, time_ms: int) -> str | None:
    return None if text is None or text == format_ms(time_ms) else text
