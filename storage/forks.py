"""Forks: a session copied up to a message, merged back into its original, or split from it.

Later changes to a fork or its original never show in the other. What a merge brings back gets an id made from the
fork and the message, so that whoever merges it, here or on another device, merges the same message: that it is
there says that it was merged (tests/unit/test_forks.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import msgspec

from .copying import Part, copy_session, inherited
from .deletion import message_deletion
from .edit import Edit
from .errors import AmbiguousSplit, InvalidInput, MessageNotFound
from .lineage import Ancestor, Node, ancestors, descendants, fork_point, lineage, live
from .model import Json, Message, NewMessage, SessionHeader
from .rows import SessionRow, encode_json, message
from .runs import Divergence, Link, diverged
from .state import StateWire, find_message, from_wire, load
from .store import Store

__all__ = ["Ancestor", "Divergence", "Node", "ancestors", "descendants", "divergences", "fork", "merge", "split"]

_HERE = "SELECT id FROM messages WHERE session = ? AND id IN (SELECT value FROM json_each(?))"
_SIBLINGS = "SELECT 1 FROM messages WHERE session = ? AND inserted = 0 GROUP BY after HAVING count(*) > 1 LIMIT 1"
# Where messages that stand side by side begin no run, each of them hangs on the one before it. What is hidden right
# before the first may be the beginning of a run that begins to show with that.
_STRAIGHT = """
WITH part AS (
    SELECT (
        SELECT ifnull(max(p.ord), -1 << 62) FROM messages p WHERE p.session = ?1 AND p.hidden = 0 AND p.ord < m.ord
    ) AS above, (SELECT ord FROM messages WHERE session = ?1 AND id = ?3) AS last
    FROM messages m WHERE session = ?1 AND id = ?2
)
SELECT NOT EXISTS (
    SELECT 1 FROM (
        SELECT ord, inserted, after, lag(id) OVER (ORDER BY ord) AS before FROM messages, part
        WHERE session = ?1 AND ord BETWEEN above AND last
    ), part
    WHERE ord > above AND NOT inserted AND after IS NOT before
)
"""
_LINKS = "SELECT id, ord, after, inserted, hidden, clock, author, births FROM messages WHERE session = ? ORDER BY ord"
_DELETIONS = (
    "SELECT messages.id, state FROM registers JOIN messages ON messages.no = message "
    "WHERE registers.session = ? AND message > 0 AND path = 'deleted' AND hidden"
)
_decode_births = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode
_decode_state = msgspec.msgpack.Decoder(StateWire).decode


def fork(
    store: Store,
    session_id: str,
    *,
    at: str | None = None,
    id: str | None = None,
    title: str | None = None,
    reason: str | None = None,
    metadata: dict[str, Json] | None = None,
) -> SessionHeader:
    """Make a session of what another shows, up to and including message ``at`` (None: the last one).

    The header is that of the original, ``metadata`` merged into its metadata as a patch; its state goes along only
    with its last message. Raises `SessionNotFound`, `MessageNotFound`, `InvalidInput`, and `SessionExists` where
    ``id`` is taken.
    """
    with store.transaction():
        source = live(store, session_id)
        part = Part()
        if at is not None:
            row = find_message(store, source.no, at)
            if row is None or row.hidden:
                raise MessageNotFound(session=session_id, message=at)
            part = Part(row.ord + 1)
        return copy_session(store, source, part, id=id, title=title, reason=reason, metadata=metadata)


def merge(store: Store, fork_id: str) -> list[Message]:
    """Append what was written in a fork to its original, in one piece; what was merged before is left out.

    Returns what was appended. Edits of copies stay in the fork. Raises `SessionNotFound`, also where the original is
    deleted, `InvalidInput` for what is no fork, and `MessageNotFound` where the original has no such fork point.
    """
    with store.transaction():
        row = live(store, fork_id)
        above = lineage(store, row)
        if not above:
            raise InvalidInput(f"session {fork_id} is not a fork")
        target = live(store, above[0])
        if row.local_only and not target.local_only:
            raise InvalidInput(
                f"session {fork_id} is local-only and its original {target.id} is not",
                hint=f"`steno vault share {fork_id}` first, if it may be sent",
            )
        point = (fork_point(row) or {}).get("message")
        if isinstance(point, str) and find_message(store, target.no, point) is None:
            raise MessageNotFound(session=target.id, message=point)
        own = [message(each) for each in store.message_rows(row.no) if not inherited(each.origin, above)]
        return store.add_messages(target.id, _to_append(store, row, target, own))


def divergences(store: Store, session_id: str, *, among: Sequence[str] | None = None) -> list[Divergence]:
    """Where runs of several devices begin that did not know of an earlier one, in order; raises `SessionNotFound`.

    ``among``: only those that begin with one of these messages, which are shown side by side. Where none does, that
    costs little, however long the session is.
    """
    session = live(store, session_id)
    if among is None:
        return _divergences(store, session)
    if not among or store.one(_STRAIGHT, (session.no, among[0], among[-1]))[0]:
        return []
    return [each for each in _divergences(store, session) if each.at in among]


def split(store: Store, session_id: str, *, at: str | None = None, prefix: str = "") -> SessionHeader:
    """Move a run that diverged into a fork of its own, behind copies of what stands before both runs.

    ``at`` is that of one of `divergences`; None is the only one. In the original the run is deleted as it is known
    here: what others add to it or change in it meanwhile is shown there again. Two devices that split the same run
    make the same fork; its id begins with ``prefix``. Raises `SessionNotFound`, `InvalidInput` where no such run is,
    and `AmbiguousSplit` where several are and none is named.
    """
    with store.transaction():
        source = live(store, session_id)
        found = _chosen(source, _divergences(store, source), at)
        # Where it was split before, what was moved is shown again: the next fork of it is another one.
        names = (prefix + _made_from(source, found.at + "\n" * turn, length=12) for turn in count())
        name = next(each for each in names if store.find(each) is None)
        made = copy_session(store, source, Part(found.shared, found.run), id=name)
        edit = Edit(store, source)
        for each in found.run:
            row = find_message(store, source.no, each)
            assert row is not None
            known = load(store, source.no, row, "content").known
            edit.set("deleted", message_deletion(known, at_ms=store.now_ms()), message=row)
        edit.finish()
        return made


def _chosen(session: SessionRow, found: list[Divergence], at: str | None) -> Divergence:
    chosen = [each for each in found if at in (None, each.at)]
    if not chosen:
        raise InvalidInput(
            f"no devices diverged in session {session.id}{'' if at is None else f' at {at}'}",
            hint="`steno show` marks where they did" if found else "",
        )
    if len(chosen) > 1:
        raise AmbiguousSplit(session=session.id, places=[each.at for each in chosen])
    return chosen[0]


def _to_append(store: Store, fork: SessionRow, target: SessionRow, own: list[Message]) -> list[NewMessage]:
    """What of a fork's own messages its original has not got yet, as they will stand there."""
    ids = {each.id: _made_from(fork, each.id, length=24) for each in own}
    parents = {each.id: ids.get(each.parent, each.parent) for each in own if each.parent}
    asked = encode_json([*ids.values(), *parents.values()]).decode()
    here = {found for (found,) in store.execute(_HERE, (target.no, asked))}
    known = set(here)
    news: list[NewMessage] = []
    for each in own:
        if ids[each.id] in here:
            continue
        parent = parents.get(each.id)
        news.append(
            NewMessage(
                id=ids[each.id],
                role=each.role,
                content=each.content,
                timestamp=each.timestamp,
                sender=each.sender,
                parent=parent if parent in known else None,
                model=each.model,
                usage=each.usage,
                metadata=each.metadata,
                origin={"session": fork.id, "message": each.id},
            )
        )
        known.add(ids[each.id])
    return news


def _made_from(session: SessionRow, message_id: str, *, length: int) -> str:
    """An id that every device makes alike from a message of a session."""
    from hashlib import sha256  # noqa: PLC0415  looking at a session asks where devices diverged, and needs none

    return sha256(f"{session.id}\n{session.life}\n{message_id}".encode()).hexdigest()[:length]


def _divergences(store: Store, session: SessionRow) -> list[Divergence]:
    if store.one(_SIBLINGS, (session.no,)) is None:  # as nearly everywhere
        return []
    deletions = {
        message_id: from_wire(store, _decode_state(state)).top[0].clock
        for message_id, state in store.execute(_DELETIONS, (session.no,)).fetchall()
    }
    links: list[Link] = []
    for message_id, place, after, inserted, hidden, clock, author, births in store.execute(_LINKS, (session.no,)):
        authors = [author, *(each for _, each in _decode_births(births))] if births else [author]
        links.append(
            Link(
                id=message_id,
                place=place,
                after=after,
                inserted=bool(inserted),
                shown=not hidden,
                cut=deletions.get(after, clock) < clock,
                rank=max(each % 4 for each in authors),
                devices=frozenset(each // 4 for each in authors),
            )
        )
    return diverged(links)
