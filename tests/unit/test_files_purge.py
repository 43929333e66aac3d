"""Files of what was purged: they go, and what reappears of them brings nothing back."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage
from steno.storage.purge import purge_history, purge_message, purge_session, shrink
from steno.storage.rows import HIDDEN_FOR_EVER
from steno.storage.saves import unpack
from steno.sync.files.absorb import MAY_BE_PURGED, Save
from steno.sync.files.exchange import is_whole
from steno.tests.unit.test_apply import Stores, take
from steno.tests.unit.test_files_mirror import Desk
from steno.tests.unit.traces import traces


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


def test_a_copy_that_is_saved_again_stays_without_the_purged_message(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    purge_message(desk.store, session, "one")
    desk.write()
    for _ in range(2):  # by an editor that does not reload
        desk.save(path.with_name("copy.jsonl"), text)
        desk.write()
    [copy] = [each.id for each in desk.store.sessions() if each.id != session]
    assert desk.contents(copy) == ["two"]


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


def test_a_file_of_before_a_purge_of_the_history_that_lacks_a_line_is_refused(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    before = desk.path(session).read_text()
    purge_history(desk.store, session)
    desk.write()
    desk.save(desk.path(session), "".join(row for row in before.splitlines(keepends=True) if '"two"' not in row))
    assert desk.contents(session) == ["one", "two"]
    assert "the history of session" in refusals(desk)[0]


def test_a_file_of_before_a_purge_of_the_history_that_lacks_what_arrived_is_as_it_was(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    before = desk.path(session).read_text()
    desk.store.add_messages(session, [NewMessage(role="user", content="three")])
    purge_history(desk.store, session)
    desk.write()
    desk.save(desk.path(session), before)
    desk.write()
    assert refusals(desk) == []
    assert '"three"' in desk.path(session).read_text()


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


# What is kept of saves


SECRET = "the quokka sleeps"


def conversation(desk: Desk, *contents: str, **fields: Any) -> tuple[str, str]:
    """A session of messages m0, m1, …, and its file as an editor opened it that never loads it again."""
    session = desk.store.create(**fields).id
    said = [NewMessage(role="user", content=each, id=f"m{at}") for at, each in enumerate(contents)]
    desk.store.add_messages(session, said)
    desk.write()
    return session, desk.path(session).read_text()


def typed(content: str, **fields: Any) -> str:
    return json.dumps({"role": "user", "content": content, **fields}) + "\n"


def purge(desk: Desk, session: str, content: str) -> None:
    """Purge the message that says this."""
    [message] = [each.id for each in desk.store.messages(session) if each.content == content]
    purge_message(desk.store, session, message)
    desk.write()


def saved(desk: Desk, session: str, text: str) -> list[Any]:
    """What the messages say after a save, which is taken as a whole."""
    desk.save(desk.path(session), text)
    desk.write()
    assert refusals(desk) == []
    return desk.contents(session)


def holders(desk: Desk, word: str) -> list[str]:
    """Where the store still holds a word: files of it, and kept saves, which are compressed."""
    assert shrink(desk.store).problems == []
    files = sorted(name for name, _ in traces(desk.root.parent, [word]) if name.startswith("steno.db"))
    saves = desk.store.execute("SELECT rev, lines FROM saves").fetchall()
    return [*files, *(f"save of {rev}" for rev, lines in saves if word in repr(unpack(lines, Save)))]


def test_an_editor_that_saves_again_after_a_purge_adds_each_of_its_lines_once(desk: Desk):
    session, text = conversation(desk, "one", SECRET, "three", title="T")
    assert saved(desk, session, text + typed("new")) == ["one", SECRET, "three", "new"]
    purge(desk, session, SECRET)
    assert saved(desk, session, text + typed("new")) == ["one", "three", "new"]
    assert saved(desk, session, text + typed("new") + typed("newer")) == ["one", "three", "new", "newer"]
    assert desk.shown(session) == ["one", "three", "new", "newer"]
    assert holders(desk, "quokka") == []


def test_a_purged_line_that_had_become_another_message_is_not_taken_again_and_again(desk: Desk):
    session, text = conversation(desk, "one", "two", title="T")
    desk.store.delete(session)
    desk.store.append(session, NewMessage(role="user", content="fresh start"))
    desk.write()
    edited = text.replace('"content":"two"', f'"content":"{SECRET}"')
    assert saved(desk, session, edited) == [SECRET, "fresh start"]
    purge(desk, session, SECRET)
    assert [saved(desk, session, edited) for _ in range(3)] == [["fresh start"]] * 3
    assert holders(desk, "quokka") == []


def test_a_purge_leaves_the_other_lines_of_a_save_and_nothing_of_its_own(desk: Desk):
    session, text = conversation(desk, "one", SECRET, title="T")
    changed = text.replace(SECRET, f"{SECRET} well")
    changed = changed.replace('"id":"m1"', '"id":"m1","metadata":{"quokka":1}')
    assert saved(desk, session, changed + typed("new")) == ["one", f"{SECRET} well", "new"]
    assert any(each.startswith("save of ") for each in holders(desk, "quokka"))
    purge(desk, session, f"{SECRET} well")
    assert len(desk.store.execute("SELECT lines FROM saves").fetchall()) == 1
    assert holders(desk, "quokka") == []
    assert holders(desk, "new") != []


def test_a_purge_of_another_device_leaves_the_other_lines_of_a_save(desk: Desk, tmp_path: Path):
    session, text = conversation(desk, "one", SECRET, title="T")
    saved(desk, session, text + typed("new"))
    others = Stores(tmp_path)
    with others.open() as other:
        take(other, others.news(desk.store))
        purge_message(other, session, "m1")
        take(desk.store, others.news(other))
    desk.write()
    assert holders(desk, "quokka") == []
    assert saved(desk, session, text + typed("new") + typed("newer")) == ["one", "new", "newer"]


def test_a_purge_forgets_a_line_that_a_later_save_of_the_same_editor_dropped(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text + typed("new") + typed(SECRET))
    secret = next(each.id for each in desk.store.messages(session) if each.content == SECRET)
    assert saved(desk, session, text + typed("new")) == ["one", "new"]
    purge_message(desk.store, session, secret)
    desk.write()
    assert holders(desk, "quokka") == []


@pytest.mark.parametrize("title", [None, "one"])
def test_an_edit_that_somebody_overwrote_meanwhile_is_no_edit_after_a_purge(desk: Desk, title: str | None):
    session, text = conversation(desk, "one", SECRET, title=title, tags=["a"])
    edited = text.replace('"content":"one"', '"content":"1"').replace('"tags":["a"]', '"tags":["a","b"]')
    edited = edited.replace('"title":"one"', '"title":"Mine"')
    assert saved(desk, session, edited) == ["1", SECRET]
    desk.store.edit_message(session, "m0", {"content": "elsewhere"})
    desk.store.update(session, fields={"title": "Elsewhere"}, tags=["a"])
    purge(desk, session, SECRET)
    assert saved(desk, session, edited + typed("new")) == ["elsewhere", "new"]
    now = desk.store.get(session)
    assert (now.title, now.tags) == ("Elsewhere", ["a"])


@pytest.mark.parametrize("again", [SECRET, f"{SECRET} well", "what is new"])
@pytest.mark.parametrize("below", ["", typed("newer")])
def test_a_line_that_may_be_a_purged_one_is_asked_for(desk: Desk, again: str, below: str):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text + typed("new") + typed(SECRET))
    purge(desk, session, SECRET)
    path = desk.path(session)
    desk.save(path, text + typed("new") + typed(again) + below)
    desk.write()
    assert desk.contents(session) == ["one", "new"]
    [refused] = desk.mirror.refused()
    assert (refused.line, refused.reason) == (4, MAY_BE_PURGED)
    assert "quokka" in path.read_text() or again == "what is new", "it is left alone"
    assert holders(desk, "quokka") == []


def test_a_line_that_may_be_a_purged_one_is_taken_with_an_id(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text + typed(SECRET))
    purge(desk, session, SECRET)
    assert saved(desk, session, text + typed("what is new", id="mine")) == ["one", "what is new"]
    assert saved(desk, session, text + typed("what is new", id="mine")) == ["one", "what is new"]
    desk.save(desk.path(session), text + typed("what is new", id="mine") + typed(SECRET))
    assert refusals(desk) == [MAY_BE_PURGED]


def test_without_the_purged_line_an_editor_goes_on_as_before(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text + typed("new") + typed(SECRET))
    purge(desk, session, SECRET)
    assert saved(desk, session, text + typed("new")) == ["one", "new"]


def test_a_purged_line_of_a_file_without_header_does_not_come_back(desk: Desk):
    path = desk.root / "dropped.jsonl"
    desk.save(path, typed(SECRET))
    desk.write()
    [session] = desk.live()
    purge(desk, session, SECRET)
    desk.save(desk.path(session), typed(SECRET))
    desk.write()
    assert (desk.contents(session), refusals(desk)) == ([], [MAY_BE_PURGED])


def test_a_copy_of_what_an_editor_holds_does_not_bring_a_purged_line_back(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text + typed(SECRET))
    purge(desk, session, SECRET)
    desk.save(desk.path(session).with_name("copy.jsonl"), text + typed(SECRET))
    desk.write()
    assert (desk.live(), refusals(desk)) == ([session], [MAY_BE_PURGED])


def test_an_edit_of_a_cleared_message_that_was_purged_is_not_taken_again(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    desk.store.delete(session)
    desk.store.append(session, NewMessage(role="user", content="two", id="m1"))
    desk.write()
    edited = text.replace('"content":"one"', f'"content":"{SECRET}"')
    assert sorted(saved(desk, session, edited)) == sorted(["two", SECRET])
    purge(desk, session, SECRET)
    assert saved(desk, session, edited) == ["two"]
    assert holders(desk, "quokka") == []


@pytest.mark.parametrize("change", ["nothing", "the line is edited", "the line is removed"])
@pytest.mark.parametrize("before", [False, True])
def test_the_title_that_a_purged_message_made_is_no_edit(desk: Desk, change: str, before: bool):
    session, text = conversation(desk, SECRET, "two")
    assert desk.store.get(session).title == SECRET
    if before:
        saved(desk, session, text + typed("new"))
    purge(desk, session, SECRET)
    assert holders(desk, SECRET) == []
    head, secret, rest = text.split("\n", 2)
    lines = {"nothing": [secret], "the line is edited": [secret.replace("sleeps", "wakes")], "the line is removed": []}
    saved(desk, session, "\n".join([head, *lines[change], rest]) + typed("new") + typed("newer"))
    now = desk.store.get(session)
    assert (now.title, now.automatic_title) == ("two", True)
    assert desk.contents(session) == ["two", "new", "newer"]
    assert desk.head(desk.path(session))["title"] == "two"
    assert holders(desk, SECRET) == []


def test_the_title_of_a_purged_message_does_not_come_back_by_a_copy(desk: Desk):
    session, text = conversation(desk, SECRET, "two")
    purge(desk, session, SECRET)
    desk.save(desk.path(session).with_name("copy.jsonl"), text)
    desk.write()
    assert [each.title for each in desk.store.sessions()] == ["two", "two"]


def test_the_title_of_a_copy_comes_from_its_own_first_message_after_a_purge(desk: Desk):
    session, text = conversation(desk, SECRET, "two")
    purge(desk, session, SECRET)
    copied = desk.path(session).with_name("copy.jsonl")
    for new in ("three", "four"):
        text = text.replace('"content":"two"', '"content":"zwei"') + typed(new)
        desk.save(copied, text)
        desk.write()
    [copy] = set(desk.live()) - {session}
    now = desk.store.get(copy)
    assert (now.title, now.automatic_title) == ("zwei", True)
    assert desk.contents(copy) == ["zwei", "three", "four"]
    purge(desk, copy, "zwei")
    assert desk.store.get(copy).title == "three"


@pytest.mark.parametrize("title", [None, SECRET])
@pytest.mark.parametrize("edited", [False, True])
def test_the_title_that_a_message_of_a_copied_file_made_goes_with_the_message(
    desk: Desk, title: str | None, edited: bool
):
    session, text = conversation(desk, SECRET, "two", title=title)
    copied = desk.path(session).with_name("copy.jsonl")
    now = text.replace(f'"content":"{SECRET}"', '"content":"edited"') if edited else text
    desk.save(copied, now)
    desk.write()
    [copy] = set(desk.live()) - {session}
    assert desk.store.get(copy).title == (title or ("edited" if edited else SECRET))
    assert desk.store.get(copy).automatic_title == (title is None)
    purge(desk, copy, "edited" if edited else SECRET)
    desk.save(copied, now + typed("three"))
    desk.write()
    assert desk.store.get(copy).title == (title or "two")


def test_a_title_of_a_copy_that_is_taken_back_is_made_by_its_messages_again(desk: Desk):
    session, text = conversation(desk, SECRET, "two")
    copied = desk.path(session).with_name("copy.jsonl")
    for title in (SECRET, "By hand", SECRET):
        desk.save(copied, text.replace(f'"title":"{SECRET}"', f'"title":"{title}"'))
        desk.write()
        [copy] = set(desk.live()) - {session}
        assert desk.store.get(copy).title == title
    purge(desk, copy, SECRET)
    assert desk.store.get(copy).title == "two"


def test_the_title_that_another_message_made_can_be_edited_after_a_purge(desk: Desk):
    session, text = conversation(desk, "one", SECRET)
    saved(desk, session, text + typed("new"))
    purge(desk, session, SECRET)
    saved(desk, session, text + typed("new"))
    assert desk.store.get(session).automatic_title
    saved(desk, session, text.replace('"title":"one"', '"title":"By hand"') + typed("new"))
    assert desk.store.get(session).title == "By hand"


def test_a_title_that_was_given_meanwhile_stays_after_a_purge(desk: Desk):
    session, text = conversation(desk, "one", SECRET)
    saved(desk, session, text + typed("new"))
    desk.store.update(session, fields={"title": "Elsewhere"})
    purge(desk, session, SECRET)
    saved(desk, session, text + typed("new") + typed("newer"))
    assert desk.store.get(session).title == "Elsewhere"


def test_a_title_by_hand_can_be_edited_after_the_first_message_is_purged(desk: Desk):
    session, text = conversation(desk, SECRET, "two", title="T")
    purge(desk, session, SECRET)
    saved(desk, session, text.replace('"title":"T"', '"title":"By hand"'))
    assert desk.store.get(session).title == "By hand"


def test_a_purge_of_the_history_leaves_no_text_in_the_saves(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text.replace('"content":"one"', f'"content":"{SECRET}"') + typed("new"))
    desk.store.edit_message(session, "m0", {"content": "1"})
    purge_history(desk.store, session)
    desk.write()
    assert holders(desk, "quokka") == []


def test_a_file_without_header_saved_again_after_a_purge_of_the_history_adds_nothing_twice(desk: Desk):
    path = desk.root / "dropped.jsonl"
    desk.save(path, typed("one"))
    desk.write()
    [session] = desk.live()
    purge_history(desk.store, session)
    desk.write()
    desk.save(desk.path(session), typed("one") + typed("two"))
    desk.write()
    assert (desk.contents(session), refusals(desk)) == (["one"], [MAY_BE_PURGED])


def test_a_purge_of_a_session_leaves_no_save(desk: Desk):
    session, text = conversation(desk, "one", title="T")
    saved(desk, session, text + typed(SECRET))
    purge_session(desk.store, session)
    desk.write()
    assert desk.store.one("SELECT count(*) FROM saves")[0] == 0
    assert holders(desk, "quokka") == []


def test_a_save_that_cannot_be_read_goes_with_a_purge(desk: Desk):
    session, text = conversation(desk, "one", SECRET, title="T")
    saved(desk, session, text + typed("new"))
    desk.store.execute("UPDATE saves SET lines = x'00'")
    purge(desk, session, SECRET)
    assert desk.store.one("SELECT count(*) FROM saves")[0] == 0


class Typist:
    """Somebody who edits a file, saves it again and again, and rarely loads it, while others write and purge."""

    def __init__(self, desk: Desk, rng: random.Random) -> None:
        self.desk, self.rng = desk, rng
        self.texts = (f"word {number}" for number in itertools.count())
        self.session = desk.store.create(title=rng.choice([None, "T"])).id
        self.purged: set[str] = set()
        self.arrived: list[str] = []
        self.arrive()
        self.load()

    def load(self) -> None:
        self.header, *self.lines = map(json.loads, self.desk.path(self.session).read_text().splitlines())
        self.arrived = []

    def arrive(self) -> None:
        text = next(self.texts)
        self.desk.store.append(self.session, NewMessage(role=self.rng.choice(["user", "assistant"]), content=text))
        self.desk.write()
        self.arrived.append(text)

    def add(self) -> None:
        place = self.rng.randint(0, len(self.lines))
        self.lines.insert(place, {"role": "user", "content": next(self.texts)})

    def change(self) -> None:
        known = [line for line in self.lines if line["content"] not in self.purged]
        if known:
            self.rng.choice(known)["content"] = next(self.texts)

    def take_out(self) -> None:
        if self.lines and self.rng.random() < 0.4:
            self.lines.pop(self.rng.randrange(len(self.lines)))

    def purge(self) -> None:
        sql = "SELECT id, content FROM messages WHERE hidden < ? ORDER BY no"
        found = self.desk.store.execute(sql, (HIDDEN_FOR_EVER,)).fetchall()
        if found:
            message, text = self.rng.choice(found)
            self.purged.add(text)
            purge_message(self.desk.store, self.session, message)
            self.desk.write()

    def save(self) -> None:
        """Save, do what is asked for until it is taken, and look at what became of it."""
        while True:
            text = "".join(json.dumps(each) + "\n" for each in (self.header, *self.lines))
            self.desk.save(self.desk.path(self.session), text)
            self.desk.write()
            refused = self.desk.mirror.refused()
            if not refused:
                break
            assert refused[0].reason == MAY_BE_PURGED
            line = self.lines[refused[0].line - 2]
            if line["content"] in self.purged:
                self.lines.remove(line)
            else:
                line["id"] = line["content"].replace(" ", "-")
        gone = "SELECT id FROM messages WHERE hidden >= ?"
        erased = {each for (each,) in self.desk.store.execute(gone, (HIDDEN_FOR_EVER,)).fetchall()}
        typed_here = [line["content"] for line in self.lines if line.get("id") not in erased]
        wanted = sorted(each for each in (*typed_here, *self.arrived) if each not in self.purged)
        assert sorted(self.desk.contents(self.session)) == wanted

    def check(self) -> None:
        """No save, no title and no history holds what was purged."""
        store = self.desk.store
        saves = [repr(unpack(lines, Save)) for (lines,) in store.execute("SELECT lines FROM saves").fetchall()]
        titles = [title for (title,) in store.execute("SELECT title FROM sessions").fetchall()]
        states = "SELECT state FROM registers UNION ALL SELECT state FROM revisions"
        said = b"\n".join(state for (state,) in store.execute(states).fetchall())
        for each in self.purged:
            assert each not in titles
            assert f"'{each}'" not in "".join(saves)
            assert f'"{each}"'.encode() not in said


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_saved_and_purged_no_line_is_doubled_or_lost_and_none_comes_back(desk: Desk, seed: int):
    typist = Typist(desk, random.Random(seed))
    ways = {typist.add: 2, typist.save: 3, typist.purge: 1, typist.arrive: 1, typist.change: 1, typist.take_out: 1}
    for _ in range(30):
        typist.rng.choices([*ways, typist.load], [*ways.values(), 0.3])[0]()
        typist.check()
    typist.save()


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
