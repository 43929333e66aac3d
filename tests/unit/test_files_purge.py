"""Files of what was purged: they go, and what reappears of them brings nothing back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.purge import purge_history, purge_message, purge_session, shrink
from steno.sync.files.exchange import is_whole
from steno.tests.unit.test_files_mirror import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def refusals(desk: Desk) -> list[str]:
    return [each.reason for each in desk.mirror.refused()]


def test_the_file_of_a_purged_session_is_removed_and_forgotten(desk: Desk):
    session = desk.session("one")
    desk.write()
    purge_session(desk.store, session)
    desk.write()
    assert desk.files() == []
    assert desk.store.one("SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM unwritten)")[0] == 0


def test_the_file_is_removed_when_the_mirror_is_started_after_the_purge(desk: Desk):
    session = desk.session("one")
    kept = desk.session("two")
    desk.write()
    purge_session(desk.store, session)
    desk.opened()
    desk.write()
    assert desk.files() == [desk.path(kept)]


def test_a_session_that_is_purged_before_it_was_ever_written_gets_no_file(desk: Desk):
    purge_session(desk.store, desk.session("one"))
    desk.write()
    assert desk.files() == []


def test_files_of_purged_sessions_are_told_until_they_are_removed(desk: Desk):
    session = desk.session("one")
    desk.write()
    name = str(desk.path(session).relative_to(desk.root))
    purge_session(desk.store, session)
    assert shrink(desk.store).files == [name]
    desk.write()
    assert shrink(desk.store).files == []


def test_files_that_show_a_purged_message_are_told_until_they_are_written(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    purge_message(desk.store, session, "one")
    assert shrink(desk.store).files == [str(desk.path(session).relative_to(desk.root))]
    desk.write()
    assert (desk.shown(session), shrink(desk.store).files) == (["two"], [])


def test_some_files_can_be_settled_without_writing_all(desk: Desk):
    purged, other, late = desk.session("one"), desk.session("two", "three"), desk.session("four")
    desk.write()
    purge_message(desk.store, other, "two")
    desk.store.update(late, fields={"title": "Changed"})
    numbers = [desk.store.row(each).no for each in (purged, other)]  # pyright: ignore[reportOptionalMemberAccess]
    purge_session(desk.store, purged)
    desk.mirror.settle(numbers)
    assert {path.name for path in desk.files()} == {desk.path(other).name, desk.path(late).name}
    assert (desk.shown(other), desk.head(desk.path(late))["title"]) == (["three"], "A title")


def test_a_file_that_was_edited_before_its_session_is_purged_is_left_alone_and_named(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    edited = path.read_text().replace("one", "edited")
    path.write_text(edited)
    purge_session(desk.store, session)
    desk.write()
    assert path.read_text() == edited
    assert desk.store.find(session) is None
    assert [f"session {session} was purged" in each for each in refusals(desk)] == [True]
    assert not any(is_whole(each.name) for each in path.parent.iterdir())
    assert shrink(desk.store).files == [str(path.relative_to(desk.root))]
    path.unlink()
    desk.mirror.vanished([str(path.relative_to(desk.root))])
    desk.write()
    assert refusals(desk) == []
    assert desk.store.one("SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM unwritten)")[0] == 0


@pytest.mark.parametrize("place", ["same", "other"])
def test_a_file_of_a_purged_session_that_reappears_brings_nothing_back(desk: Desk, place: str):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    purge_session(desk.store, session)
    desk.write()
    path = path if place == "same" else path.with_name("restored.jsonl")
    desk.save(path, text)
    desk.write()
    assert list(desk.store.sessions()) == []
    assert path.read_text() == text
    assert [f"session {session} was purged" in each for each in refusals(desk)] == [True]


def test_without_its_id_such_a_file_is_a_new_session(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    purge_session(desk.store, session)
    desk.write()
    desk.save(path, text)
    head, *lines = text.splitlines()
    header = {key: value for key, value in json.loads(head).items() if key != "id"}
    desk.save(path, "\n".join([json.dumps(header), *lines, ""]))
    desk.write()
    [made] = list(desk.store.sessions())
    assert made.id != session
    assert (desk.contents(made.id), refusals(desk)) == (["one"], [])


def test_a_file_of_an_earlier_life_does_not_write_to_the_next_one(desk: Desk):
    session = desk.session("one", title="Before")
    desk.write()
    before = desk.path(session).read_text()
    purge_session(desk.store, session)
    desk.write()
    desk.store.create(id=session, title="After")
    desk.write()
    now = desk.path(session)
    restored = now.with_name("restored.jsonl")
    for path in (restored, now):
        text = path.read_text() if path.exists() else None
        desk.save(path, before)
        desk.write()
        assert desk.contents(session) == []
        assert [each.title for each in desk.store.sessions()] == ["After"]
        assert "purged" in refusals(desk)[0]
        path.unlink() if text is None else desk.save(path, text)
        desk.mirror.vanished([str(restored.relative_to(desk.root))])
        desk.write()
    assert refusals(desk) == []


def test_a_copy_of_a_file_is_a_session_without_the_purged_message(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    purge_message(desk.store, session, "one")
    desk.write()
    desk.save(path.with_name("copy.jsonl"), text)
    desk.write()
    [copy] = [each.id for each in desk.store.sessions() if each.id != session]
    assert (desk.contents(copy), desk.shown(copy)) == (["two"], ["two"])


def test_the_next_life_has_a_file_of_its_own_name(desk: Desk):
    session = desk.session("one", title="Before")
    desk.write()
    purge_session(desk.store, session)
    desk.store.create(id=session, title="After")
    desk.write()
    assert [path.name for path in desk.files()] == [f"after.{session}.jsonl"]


def test_the_next_life_is_edited_in_its_file(desk: Desk):
    session = desk.session("one")
    purge_session(desk.store, session)
    desk.store.create(id=session)
    desk.write()
    path = desk.path(session)
    desk.save(path, path.read_text() + '{"role":"user","content":"by hand"}\n')
    assert (desk.contents(session), refusals(desk)) == (["by hand"], [])


@pytest.mark.parametrize("edit", [False, True])
def test_a_line_of_a_purged_message_is_not_taken_again(desk: Desk, edit: bool):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    purge_message(desk.store, session, "one")
    desk.write()
    text = text.replace('"content":"one"', '"content":"edited"') if edit else text
    desk.save(path, text.replace('"content":"two"', '"content":"2"'))
    desk.write()
    assert (desk.contents(session), desk.shown(session)) == (["2"], ["2"])
    assert desk.store.one("SELECT content FROM messages WHERE id = 'one'")[0] == ""
    assert desk.store.one("SELECT count(*) FROM saves WHERE instr(lines, 'one')")[0] == 0


def test_a_line_below_one_of_a_purged_message_is_added(desk: Desk):
    session = desk.session("one", "two", "three")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    purge_message(desk.store, session, "two")
    desk.write()
    head, one, two, three = text.splitlines()
    desk.save(path, f'{head}\n{one}\n{two}\n{{"role":"user","content":"between"}}\n{three}\n')
    assert desk.contents(session) == ["one", "between", "three"]


def test_after_a_purge_of_the_history_the_file_can_be_edited(desk: Desk):
    session = desk.session("one")
    desk.store.edit_message(session, "one", {"content": "two"})
    desk.write()
    purge_history(desk.store, session)
    desk.write()
    desk.change(session, '"content":"two"', '"content":"three"')
    assert (desk.contents(session), refusals(desk)) == (["three"], [])


def test_a_file_of_before_a_purge_of_the_history_brings_no_earlier_text_back(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    before = path.read_text()
    desk.store.edit_message(session, "one", {"content": "two"})
    desk.write()
    purge_history(desk.store, session)
    desk.write()
    desk.save(path, before)
    desk.write()
    assert desk.contents(session) == ["two"]
    assert "the history of session" in refusals(desk)[0]


def test_a_crash_while_the_file_is_removed_leaves_nothing_of_it(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    purge_session(desk.store, session)
    path.rename(path.with_name(f".steno-0123456789ab.{path.name}.swap"))
    desk.opened()
    desk.write()
    assert list(desk.root.rglob("*.jsonl*")) == []
    assert refusals(desk) == []
