"""Everything at rest: the store is what the model says, and the files are what the store says."""

from __future__ import annotations

import json
from typing import Any

from steno.storage.conflicts import conflicts
from steno.storage.doctor import examine
from steno.storage.registers import REMOVED, value_of
from steno.storage.rows import HIDDEN_FOR_EVER, header, message
from steno.storage.state import load
from steno.sync.files.lines import Rev, header_of, line_of, parse_rev, render
from steno.tests.simulation.files_desk import Desk, World, page_of
from steno.tests.simulation.files_device import line_as_read
from steno.tests.simulation.files_model import GONE, PLAIN, SCALARS
from steno.tests.simulation.test_stores_converge import state

OURS = ".steno-"


def settle(world: World) -> None:
    """Let everything come to rest, and compare."""
    if world.later is not None:
        world.now()
    world.crash_at = world.later_at = None
    for desk in world.desks.values():
        desk.people_end()
        desk.seconds += 100
    for _ in range(10):
        before = [desk.store.last_seq for desk in world.desks.values()]
        for desk in world.desks.values():
            desk.rest()
        for desk in world.desks.values():
            desk.publish()
        for desk in world.desks.values():
            desk.pull(world.other(desk))
        refused = [each for desk in world.desks.values() for each in desk.mirror.refused()]
        if not refused and before == [desk.store.last_seq for desk in world.desks.values()]:
            break
    else:
        raise AssertionError("it does not come to rest")
    for desk in world.desks.values():
        _check(desk)
    first, second = world.desks.values()
    assert state(first.store) == state(second.store), "the devices differ"
    assert world.model.known["a"] == world.model.known["b"]


def _check(desk: Desk) -> None:
    """The store is what the model says, and the files are what the store says."""
    desk.touched.clear()
    desk.gone.clear()
    assert desk.mirror.refused() == [], f"refused: {desk.mirror.refused()}"
    _check_files(desk)
    _check_store(desk)
    if not desk.model.count % 8:  # it takes longer than all else
        wrong = [finding for finding in examine(desk.store) if not finding.ok]
        assert wrong == []


def _check_files(desk: Desk) -> None:
    store, named = desk.store, []
    for path in desk.files():
        page = page_of(path.read_bytes())
        assert page is not None
        assert page.named is not None
        named.append(page.named)
        row = store.find(page.named)
        assert row is not None
        rev = parse_rev(page.rev)
        assert rev is not None
        lines = [line_of(message(each)) for each in store.message_rows(row.no)]
        shown = render(header_of(header(row), rev=Rev(store.store_name, rev.seq)), lines)
        assert path.read_bytes() == shown, f"the file of {row.id} is not what the store holds"
    assert sorted(named) == desk.live(), "there is not one file for each session"
    ours = [path.name for path in desk.root.rglob("*") if path.name.startswith(OURS)]
    assert ours == [], "something lies aside"
    for path, data in desk.unread:
        page = page_of(data)
        if page is None or data == desk.written_last.get(page.named or ""):  # mended, or as it is
            continue
        holders = [key for key in desk.model.opened if key[0] == desk.name and key[2:] == (page.named, page.rev)]
        same = any(desk.model.says_nothing_new(desk.name, key[1], page) for key in holders)
        assert same, f"a save of {path.name} was never taken: {data!r}"
    desk.unread.clear()
    desk.removed.clear()
    desk.covered.clear()


def _check_store(desk: Desk) -> None:
    model, known, conflicting = desk.model, desk.known, set()
    held = [session for session, bit in model.sessions.items() if bit & known]
    assert sorted(held) == [each for (each,) in desk.store.execute("SELECT id FROM sessions ORDER BY id")]
    for session in held:
        row = desk.store.find(session)
        assert row is not None
        hidden = model.is_hidden(known, session)
        assert hidden in (None, bool(row.hidden)), f"{session} is hidden: {row.hidden}, should be {hidden}"
        assert not row.hidden or session in model.deleted, f"nobody deleted {session}"
        rows = {each.id: each for each in desk.store.message_rows(row.no, hidden=True)}
        assert sorted(rows) == sorted(model.messages(known, session)), f"the messages of {session}"
        if row.hidden:
            continue
        conflicting |= _check_header(desk, row)
        for id_, each in rows.items():
            if model.is_purged(desk.name, session, id_):
                assert (each.hidden & HIDDEN_FOR_EVER, each.content) == (HIDDEN_FOR_EVER, ""), f"{id_} is purged"
                continue
            live = model.is_live(known, session, id_)
            assert live in (None, not each.hidden), f"{session} {id_} is hidden: {each.hidden}, live: {live}"
            conflicting |= _check_fields(desk, session, id_, each)
    listed = {
        (each.session, each.message or "", each.field)
        for each in conflicts(desk.store)
        if each.field not in ("deleted", "cleared") and not each.field.startswith("tags/")
    }
    assert listed == conflicting, "the conflicts"


def _check_header(desk: Desk, row: Any) -> set[Any]:
    now, conflicting = header(row), set()
    for path in PLAIN:
        value = None if path == "title" and now.automatic_title else getattr(now, path)
        default = "active" if path == "status" else None
        conflicting |= _check_value(desk, row, None, (row.id, "", path), value, default)
    for name in ("metadata", "state"):
        document = getattr(now, name)
        for key in _keys(desk, row.id, "", name) | document.keys():
            where = (row.id, "", f"{name}/{key}")
            conflicting |= _check_value(desk, row, None, where, document.get(key, GONE), GONE)
    for tag in _keys(desk, row.id, "", "tags") | {*now.tags}:
        values = {write.value for write in desk.model.heads(desk.known, (row.id, "", f"tags/{tag}"))}
        assert (True if tag in now.tags else GONE) in values, f"the tag {tag} of {row.id}"
    return conflicting


def _check_fields(desk: Desk, session: str, id_: str, each: Any) -> set[Any]:
    line, conflicting = line_as_read(message(each)), set()
    row = desk.store.find(session)
    for path in SCALARS:
        conflicting |= _check_value(desk, row, each, (session, id_, path), line.get(path), None)
    document = line.get("metadata") or {}
    for key in _keys(desk, session, id_, "metadata") | document.keys():
        where = (session, id_, f"metadata/{key}")
        conflicting |= _check_value(desk, row, each, where, document.get(key, GONE), GONE)
    return conflicting


def _check_value(desk: Desk, row: Any, each: Any, where: Any, value: Any, default: Any) -> set[Any]:
    """What is shown is what was meant, and whatever else was meant is held."""
    heads = desk.model.heads(desk.known, where)
    shown = [_default(write.value, default) for write in desk.model.shown(desk.known, where)] or [default]
    assert _plain(value) in [_plain(each) for each in shown], f"{where} shows {value!r}, should be of {shown!r}"
    if len(heads) < 2:
        return set()
    texts = load(desk.store, row.no, each, where[2]).open.values()
    held = {_plain(GONE if text.text == REMOVED else value_of(text.text)) for text in texts}
    meant = {_plain(write.value) for write in heads}
    assert meant <= held, f"{where} holds {held}, should hold {meant}"
    return {where} if len(meant) > 1 else set()


def _keys(desk: Desk, session: str, id_: str, name: str) -> set[str]:
    found = (path.split("/", 1) for at, where, path in desk.model.fields if (at, where) == (session, id_))
    return {each[1] for each in found if len(each) == 2 and each[0] == name}


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True)
