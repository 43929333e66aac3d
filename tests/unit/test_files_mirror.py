"""The directory and the store stay equal: what is written, what is read back, and what must not be lost."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.conflicts import conflicts
from steno.storage.errors import LocalStorageError, SessionNotFound
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.exchange import replace
from steno.sync.files.mirror import MARKER, Mirror

NOW_MS = 1_800_000_000_000


class Desk:
    """A store, its directory, and somebody who edits files there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "sessions"
        self.store = Store(folder / "steno.db", now_ms=itertools.count(NOW_MS).__next__)
        self.clock = 0.0
        self.mirror = self.opened()

    def opened(self) -> Mirror:
        """The mirror of a daemon that was started again."""
        self.mirror = Mirror(self.store, self.root, monotonic=lambda: self.clock, sleep=self._sleep)
        self.mirror.start()
        return self.mirror

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds

    def session(self, *contents: str, title: str | None = "A title", **fields: Any) -> str:
        """A session with these messages, whose ids are their contents."""
        session = self.store.create(title=title, **fields).id
        self.store.add_messages(session, [NewMessage(role="user", content=each, id=each) for each in contents])
        return session

    def write(self) -> None:
        """Write everything that is pending."""
        for _ in range(1000):
            wait = self.mirror.write_pending()
            if wait is None:
                return
            self.clock += wait
        raise AssertionError("writing does not come to an end")

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*.jsonl") if not path.name.startswith("."))

    def path(self, session: str) -> Path:
        return next(path for path in self.files() if self.head(path)["id"] == session)

    def head(self, path: Path) -> dict[str, Any]:
        return json.loads(path.read_text().splitlines()[0])

    def lines(self, session: str) -> list[dict[str, Any]]:
        """The messages as the file of a session shows them."""
        return [json.loads(line) for line in self.path(session).read_text().splitlines()[1:]]

    def shown(self, session: str) -> list[Any]:
        return [line["content"] for line in self.lines(session)]

    def contents(self, session: str) -> list[Any]:
        return [message.content for message in self.store.messages(session)]

    def save(self, path: Path, text: str) -> None:
        """Save as an editor does, and let the mirror hear of it."""
        path.write_text(text)
        self.mirror.saved([path])

    def change(self, session: str, old: str, new: str) -> None:
        path = self.path(session)
        assert old in path.read_text()
        self.save(path, path.read_text().replace(old, new))

    def everything(self) -> dict[str, bytes]:
        """Every file of the directory, ours too."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def live(self) -> list[str]:
        return sorted(each.id for each in self.store.sessions())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def _line(content: str, **fields: Any) -> str:
    return json.dumps({"role": "user", "content": content, **fields}) + "\n"


# Writing


def test_a_session_is_written_with_its_messages(desk: Desk):
    session = desk.session("one", "two", tags=["a"], metadata={"k": 1})
    desk.write()
    assert desk.shown(session) == ["one", "two"]
    head = desk.head(desk.path(session))
    assert (head["title"], head["tags"], head["metadata"]) == ("A title", ["a"], {"k": 1})
    assert head["rev"].startswith(f"{desk.store.store_name}.")


def test_a_file_is_written_anew_when_its_session_changed(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="assistant", content="two"))
    desk.write()
    assert desk.shown(session) == ["one", "two"]


def test_a_file_whose_session_did_not_change_is_not_written(desk: Desk):
    desk.session("one")
    desk.write()
    before = desk.everything()
    look = [path.stat() for path in desk.files()]
    other = desk.session("two")
    desk.write()
    desk.path(other).unlink()
    assert desk.everything().items() <= before.items()
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in desk.files()] == [
        (each.st_ino, each.st_mtime_ns) for each in look
    ]


def test_a_file_keeps_its_name_when_the_title_changes(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    desk.store.update(session, fields={"title": "Another"})
    desk.write()
    assert desk.files() == [path]


def test_the_file_of_a_deleted_session_is_removed_and_comes_back_with_it(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.store.delete(session)
    desk.write()
    assert desk.files() == []
    desk.store.restore(session)
    desk.write()
    assert desk.shown(session) == ["one"]


def test_our_own_writes_cause_nothing(desk: Desk):
    desk.session("one")
    desk.write()
    before, seq = desk.everything(), desk.store.last_seq
    assert desk.mirror.saved([*desk.files(), desk.root, desk.root / MARKER]) == []
    desk.mirror.scan()
    desk.write()
    assert (desk.everything(), desk.store.last_seq) == (before, seq)


def test_files_and_folders_are_private(desk: Desk):
    desk.session("one")
    desk.write()
    assert {oct(path.stat().st_mode & 0o777) for path in desk.root.rglob("*") if path.is_file()} == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in desk.root.rglob("*") if path.is_dir()} == {"0o700"}


def test_a_slow_file_is_written_so_seldom_that_it_takes_a_twentieth_of_the_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    def slow(*arguments: Any, **how: Any) -> Any:
        desk.clock += 0.5
        return replace(*arguments, **how)

    monkeypatch.setattr("steno.sync.files.writing.replace", slow)
    session = desk.session("one")
    assert desk.mirror.write_pending() is None
    desk.store.append(session, NewMessage(role="user", content="two"))
    wait = desk.mirror.write_pending()
    assert wait is not None
    assert 9 < wait <= 10
    assert desk.shown(session) == ["one"]
    desk.clock += 10
    assert desk.mirror.write_pending() is None
    assert desk.shown(session) == ["one", "two"]


def test_a_file_that_waits_does_not_hold_up_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steno.sync.files.writing.CHUNK", 3)
    big = desk.session("one")
    desk.write()
    desk.mirror._writing._pace.hold(desk.store.live(big).no, 100.0)
    desk.store.append(big, NewMessage(role="user", content="two"))
    others = [desk.session(f"other {at}") for at in range(5)]
    wait = desk.mirror.write_pending()
    while wait is not None and wait < 1:
        wait = desk.mirror.write_pending()
    assert wait is not None
    assert wait > 99
    assert sorted(desk.head(path)["id"] for path in desk.files()) == sorted([big, *others])
    desk.clock = 101.0
    desk.write()
    assert desk.shown(big) == ["one", "two"]


# Reading back


def test_an_edited_line_is_an_edit(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    desk.change(session, '"content":"two"', '"content":"2"')
    assert desk.contents(session) == ["one", "2"]
    assert list(conflicts(desk.store)) == []


def test_a_line_without_id_is_a_new_message_that_gets_one(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    head, one, two = desk.path(session).read_text().splitlines(keepends=True)
    desk.save(desk.path(session), head + one + _line("between") + two + _line("last"))
    assert desk.contents(session) == ["one", "between", "two", "last"]
    assert all(line["id"] for line in desk.lines(session))


def test_a_removed_line_is_a_deleted_message(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    head, one, _ = desk.path(session).read_text().splitlines(keepends=True)
    desk.save(desk.path(session), head + one)
    assert desk.contents(session) == ["one"]


def test_a_changed_header_sets_the_fields(desk: Desk):
    session = desk.session("one", tags=["a", "b"], metadata={"k": 1, "gone": 1})
    desk.write()
    path = desk.path(session)
    head, *rest = path.read_text().splitlines(keepends=True)
    changed = json.loads(head) | {"title": "New", "status": "paused", "tags": ["b", "c"], "metadata": {"k": 2}}
    desk.save(path, json.dumps(changed) + "\n" + "".join(rest))
    now = desk.store.get(session)
    assert (now.title, now.status, now.tags, now.metadata) == ("New", "paused", ["b", "c"], {"k": 2})


def test_saving_twice_from_an_editor_that_does_not_reload_adds_a_line_once(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    text = path.read_text() + _line("new")
    desk.save(path, text)
    desk.save(path, text)
    assert desk.contents(session) == ["one", "new"]


def test_a_second_save_of_the_editor_edits_the_line_that_the_first_one_added(desk: Desk):
    session = desk.session("one")
    desk.write()
    path, text = desk.path(session), desk.path(session).read_text()
    desk.save(path, text + _line("new"))
    desk.save(path, text + _line("new and better"))
    assert desk.contents(session) == ["one", "new and better"]
    assert list(conflicts(desk.store)) == []


def test_a_line_that_the_same_editor_edited_and_then_removed_is_deleted(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    head, one, two = path.read_text().splitlines(keepends=True)
    desk.save(path, head + one + two.replace('"content":"two"', '"content":"2"'))
    desk.save(path, head + one)
    assert desk.contents(session) == ["one"]
    assert desk.shown(session) == ["one"]


def test_a_line_that_the_same_editor_added_and_then_removed_is_deleted(desk: Desk):
    session = desk.session("one")
    desk.write()
    path, text = desk.path(session), desk.path(session).read_text()
    desk.save(path, text + _line("new", metadata={"k": 1}))
    desk.save(path, text + _line("new", metadata={"k": 2}))
    desk.save(path, text)
    assert desk.contents(session) == ["one"]
    assert list(conflicts(desk.store)) == []


def test_a_line_that_was_edited_elsewhere_meanwhile_comes_back_when_it_is_removed(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    stale = desk.path(session).read_text().splitlines(keepends=True)
    desk.store.edit_message(session, "two", {"content": "edited elsewhere"})
    desk.write()
    desk.save(desk.path(session), "".join(stale[:2]))
    assert desk.contents(session) == ["one", "edited elsewhere"]
    assert desk.shown(session) == ["one", "edited elsewhere"]


def test_a_stale_file_changes_nothing_of_a_line_that_was_edited_elsewhere_meanwhile(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    stale = desk.path(session).read_text()
    desk.store.edit_message(session, "two", {"content": "edited elsewhere"})
    desk.write()
    desk.save(desk.path(session), stale.replace('"content":"one"', '"content":"1"'))
    assert desk.contents(session) == ["1", "edited elsewhere"]
    assert list(conflicts(desk.store)) == []


def test_a_line_that_both_sides_edited_is_a_conflict_and_neither_is_lost(desk: Desk):
    session = desk.session("one")
    desk.write()
    stale = desk.path(session).read_text()
    desk.store.edit_message(session, "one", {"content": "theirs"})
    desk.write()
    desk.save(desk.path(session), stale.replace('"content":"one"', '"content":"mine"'))
    (conflict,) = conflicts(desk.store)
    assert {conflict.shown.value, *(other.value for other in conflict.others)} == {"theirs", "mine"}


def test_a_message_that_arrived_while_the_editor_was_open_comes_back(desk: Desk):
    session = desk.session("one")
    desk.write()
    stale = desk.path(session).read_text()
    desk.store.append(session, NewMessage(role="assistant", content="arrived"))
    desk.write()
    desk.save(desk.path(session), stale.replace('"content":"one"', '"content":"1"'))
    assert desk.contents(session) == ["1", "arrived"]
    assert desk.shown(session) == ["1", "arrived"]


def test_an_edit_saved_before_a_pending_append_was_written_keeps_both(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="assistant", content="arrived"))
    path = desk.path(session)
    path.write_text(path.read_text().replace('"content":"one"', '"content":"1"'))
    desk.write()
    assert desk.contents(session) == ["1", "arrived"]
    assert desk.shown(session) == ["1", "arrived"]


def test_a_file_that_was_only_touched_still_gets_what_arrived(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="assistant", content="arrived"))
    os.utime(desk.path(session))
    desk.write()
    assert desk.shown(session) == ["one", "arrived"]


def test_a_file_that_was_away_for_a_moment_still_gets_what_arrived(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    desk.store.append(session, NewMessage(role="assistant", content="arrived"))
    path.rename(path.with_suffix(".away"))
    desk.mirror.write_pending()
    path.with_suffix(".away").rename(path)
    desk.mirror.saved([path])
    desk.write()
    assert desk.shown(session) == ["one", "arrived"]


@pytest.mark.parametrize(
    "damage", ["{", '{"role":"user"}', '{"content":"x"}', "[]", '"x"', "\x00", '{"role":"user","content":7}']
)
def test_a_file_with_a_line_that_is_none_is_refused_whole_and_left_alone(desk: Desk, damage: str):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    broken = path.read_text().replace('"content":"one"', '"content":"1"') + damage + "\n"
    desk.save(path, broken)
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    desk.write()
    assert path.read_text() == broken
    assert desk.contents(session) == ["one", "two", "arrived"]
    (refused,) = desk.mirror.refused()
    assert (refused.path, refused.line) == (str(path.relative_to(desk.root)), 4)


def test_a_mended_file_is_taken_and_gets_what_arrived_meanwhile(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    edited = path.read_text().replace('"content":"one"', '"content":"1"')
    desk.save(path, edited + "{\n")
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    desk.write()
    desk.save(path, edited)
    assert desk.contents(session) == ["1", "arrived"]
    assert desk.shown(session) == ["1", "arrived"]
    assert desk.mirror.refused() == []


def test_a_refused_file_that_is_put_back_as_it_was_gets_what_arrived_meanwhile(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    before = path.read_text()
    desk.save(path, before + "{\n")
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    desk.write()
    desk.save(path, before)
    desk.write()
    assert desk.shown(session) == ["one", "arrived"]
    assert desk.mirror.refused() == []


def test_a_refused_file_that_is_put_right_and_renamed_gets_what_arrived_meanwhile(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    desk.save(path, text + "{")
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    desk.write()
    path.write_text(text)
    path.rename(path.with_name("renamed.jsonl"))
    desk.mirror.scan()
    desk.write()
    assert desk.shown(session) == ["one", "arrived"]


def test_a_refused_file_that_is_removed_is_no_longer_named(desk: Desk):
    path = desk.root / "new.jsonl"
    desk.save(path, "{\n")
    assert len(desk.mirror.refused()) == 1
    path.unlink()
    desk.mirror.vanished(desk.mirror.saved([path]))
    assert desk.mirror.refused() == []


@pytest.mark.fault(3)
def test_an_empty_file_is_refused_and_its_session_stays(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.save(desk.path(session), "")
    assert desk.contents(session) == ["one"]
    assert len(desk.mirror.refused()) == 1


def test_a_file_whose_name_is_no_text_is_refused_and_the_others_go_on(desk: Desk):
    strange = os.fsencode(desk.root) + b"/\xff\xfe.jsonl"
    Path(os.fsdecode(strange)).write_text(_line("text"))
    session = desk.session("one")
    desk.write()
    desk.opened()
    desk.change(session, '"content":"one"', '"content":"1"')
    assert desk.contents(session) == ["1"]
    assert len(desk.mirror.refused()) == 1
    Path(os.fsdecode(strange)).unlink()
    desk.mirror.vanished(desk.mirror.saved([Path(os.fsdecode(strange))]))
    assert desk.mirror.refused() == []


def test_a_fault_that_nobody_foresaw_refuses_its_file_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = desk.session("one")
    desk.write()

    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr("steno.sync.files.taking.absorb", broken)
        desk.change(session, '"content":"one"', '"content":"1"')
    (refused,) = desk.mirror.refused()
    assert "KeyError" in refused.reason
    assert desk.contents(session) == ["one"]
    desk.opened()
    assert desk.contents(session) == ["1"]


# Files that come


def test_a_file_without_header_becomes_a_session(desk: Desk):
    desk.save(desk.root / "notes.jsonl", _line("hello") + _line("there", role="assistant"))
    (session,) = desk.live()
    assert desk.contents(session) == ["hello", "there"]
    assert desk.store.get(session).title == "hello"
    assert desk.shown(session) == ["hello", "there"]


def test_a_file_of_another_store_becomes_a_session_under_its_own_id(desk: Desk):
    head = {"steno": 1, "id": "from-elsewhere", "rev": "zzzzzzzz.00000007", "title": "Theirs"}
    desk.save(desk.root / "x.jsonl", json.dumps(head) + "\n" + _line("hello", id="m1"))
    assert desk.live() == ["from-elsewhere"]
    assert [message.id for message in desk.store.messages("from-elsewhere")] == ["m1"]


def test_a_copied_file_becomes_a_session_of_its_own(desk: Desk):
    session = desk.session("one")
    desk.write()
    copy = desk.path(session).with_name("copy.jsonl")
    shutil.copy(desk.path(session), copy)
    desk.mirror.saved([copy])
    other = desk.head(copy)["id"]
    assert other != session
    assert desk.live() == sorted([session, other])
    assert desk.contents(other) == desk.contents(session) == ["one"]


def test_a_copy_and_its_original_are_edited_apart(desk: Desk):
    session = desk.session("one")
    desk.write()
    original = desk.path(session)
    copy = original.with_name("copy.jsonl")
    shutil.copy(original, copy)
    desk.mirror.saved([copy])
    desk.save(copy, copy.read_text().replace('"content":"one"', '"content":"copied"'))
    assert desk.contents(session) == ["one"]
    assert desk.contents(desk.head(copy)["id"]) == ["copied"]


def test_a_renamed_file_stays_the_session(desk: Desk):
    session = desk.session("one")
    desk.write()
    old = desk.path(session)
    new = desk.root / "my own name.jsonl"
    old.rename(new)
    gone = desk.mirror.saved([old, new])
    desk.mirror.vanished(gone)
    assert desk.live() == [session]
    desk.store.append(session, NewMessage(role="user", content="two"))
    desk.write()
    assert desk.files() == [new]
    assert desk.shown(session) == ["one", "two"]


def test_a_renamed_folder_keeps_its_sessions(desk: Desk):
    sessions = sorted(desk.session(f"text {at}") for at in range(3))
    desk.write()
    folder = desk.files()[0].parent
    moved = folder.rename(desk.root / "archive")
    desk.mirror.vanished(desk.mirror.saved([folder, moved]))
    assert desk.live() == sessions
    assert {path.parent for path in desk.files()} == {moved}


def test_a_file_that_was_renamed_and_edited_at_once_is_both(desk: Desk):
    session = desk.session("one")
    desk.write()
    old, new = desk.path(session), desk.root / "new.jsonl"
    text = old.read_text().replace('"content":"one"', '"content":"1"')
    old.unlink()
    new.write_text(text)
    desk.mirror.vanished(desk.mirror.saved([old, new]))
    assert desk.live() == [session]
    assert desk.contents(session) == ["1"]


def test_a_file_with_another_id_in_its_header_becomes_a_copy_and_the_session_stays(desk: Desk):
    session = desk.session("one")
    desk.write()
    desk.change(session, f'"id":"{session}"', '"id":"somebody-else"')
    desk.write()
    assert len(desk.live()) == 2
    assert desk.contents(session) == ["one"]
    assert len(desk.files()) == 2


# Files that go


def test_a_vanished_file_deletes_its_session_softly(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    path.unlink()
    assert desk.mirror.vanished(desk.mirror.saved([path])) == 1
    with pytest.raises(SessionNotFound):
        desk.store.get(session)
    desk.store.restore(session)
    desk.write()
    assert desk.shown(session) == ["one"]


def test_a_vanished_file_that_is_put_back_restores_its_session(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    path.unlink()
    desk.mirror.vanished(desk.mirror.saved([path]))
    desk.save(path, text)
    assert desk.contents(session) == ["one"]


def test_a_vanished_file_that_is_put_back_restores_its_messages_also_beside_one_that_arrived(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    text = path.read_text()
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    path.unlink()
    desk.mirror.scan()
    desk.write()
    assert desk.contents(session) == ["arrived"]
    desk.save(path, text)
    desk.write()
    assert desk.contents(session) == desk.shown(session) == ["one", "two", "arrived"]


def test_a_message_that_the_vanished_file_never_showed_is_not_deleted_with_it(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    path.unlink()
    desk.mirror.vanished(desk.mirror.saved([path]))
    assert desk.contents(session) == ["arrived"]
    desk.write()
    assert desk.shown(session) == ["arrived"]


def test_a_message_that_a_refused_file_never_showed_is_not_deleted_with_it(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    opened = path.read_text()
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    desk.write()
    desk.save(path, opened + "{")
    assert len(desk.mirror.refused()) == 1
    path.unlink()
    desk.mirror.vanished(desk.mirror.saved([path]))
    assert desk.contents(session) == ["arrived"]


def test_a_removed_folder_deletes_its_few_sessions(desk: Desk):
    session = desk.session("one")
    kept = desk.session("two", created_ms=1)
    desk.write()
    folder = desk.path(session).parent
    folder.rename(desk.root.parent / "elsewhere")
    desk.mirror.vanished(desk.mirror.saved([folder]))
    assert desk.live() == [kept]


def test_the_directory_of_a_store_that_was_restored_is_taken_up_and_deletes_nothing(desk: Desk):
    kept, lost = desk.session("one"), desk.session("two")
    desk.write()
    desk.path(lost).unlink()
    with desk.store.transaction():
        desk.store.set_meta("formerly", desk.store.device)
        desk.store.set_meta("device", "restored0001")
    desk.store.device = "restored0001"
    desk.opened()
    desk.write()
    assert [desk.shown(session) for session in (kept, lost)] == [["one"], ["two"]]
    assert json.loads((desk.root / MARKER).read_bytes())["device"] == "restored0001"


# While nothing ran


def test_an_edit_made_while_nothing_ran_is_taken_at_the_start(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    path.write_text(path.read_text().replace('"content":"one"', '"content":"1"'))
    desk.opened()
    assert desk.contents(session) == ["1"]


def test_a_file_that_vanished_while_nothing_ran_deletes_its_session(desk: Desk):
    session, kept = desk.session("one"), desk.session("two")
    desk.write()
    desk.path(session).unlink()
    desk.opened()
    assert desk.live() == [kept]


# What a crash leaves


def _swap_name(path: Path) -> Path:
    return path.with_name(f".steno-0123456789ab.{path.name}.swap")


def test_an_edit_that_a_crash_left_aside_is_merged(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    _swap_name(path).write_text(path.read_text().replace('"content":"one"', '"content":"1"'))
    desk.opened()
    desk.write()
    assert desk.contents(session) == ["1"]
    assert desk.shown(session) == ["1"]
    assert not _swap_name(path).exists()


def test_our_own_bytes_that_a_crash_left_aside_change_nothing(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    shutil.copy(path, _swap_name(path))
    desk.store.edit_message(session, "one", {"content": "1"})
    desk.write()
    desk.opened()
    assert desk.contents(session) == ["1"]
    assert list(conflicts(desk.store)) == []
    assert not _swap_name(path).exists()


def test_a_file_that_a_crash_left_aside_and_whose_place_is_empty_is_put_back(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    path.rename(_swap_name(path))
    desk.opened()
    assert desk.live() == [session]
    assert desk.shown(session) == ["one"]


def test_a_file_that_a_crash_left_aside_does_not_bring_back_a_deleted_session(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    shutil.copy(path, _swap_name(path))
    desk.store.delete(session)
    desk.write()
    desk.opened()
    desk.write()
    assert desk.live() == []
    assert list(desk.root.rglob("*.swap")) == []


def test_an_edit_that_a_crash_left_aside_brings_back_a_deleted_session(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    _swap_name(path).write_text(path.read_text().replace('"content":"one"', '"content":"1"'))
    desk.store.delete(session)
    desk.write()
    desk.opened()
    desk.write()
    assert desk.contents(session) == ["1"]


def test_an_edit_set_aside_that_cannot_be_understood_is_put_back_and_named(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    broken = path.read_text() + "{\n"
    _swap_name(path).write_text(broken)
    desk.opened()
    assert path.read_text() == broken
    assert [each.line for each in desk.mirror.refused()] == [3]
    assert desk.contents(session) == ["one"]


def test_a_torn_file_of_ours_is_removed(desk: Desk):
    session = desk.session("one")
    desk.write()
    torn = desk.path(session).with_name(".steno-0123456789ab.x.jsonl.part")
    torn.write_text("half")
    desk.opened()
    assert not torn.exists()


def test_an_edit_made_while_the_file_is_exchanged_is_merged(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    from steno.sync.files import exchange

    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="user", content="arrived"))
    swap = exchange._swap

    def edited_at_the_last_moment(new: Path, target: Path, **options: bool) -> Path:
        monkeypatch.setattr(exchange, "_swap", swap)
        target.write_text(target.read_text().replace('"content":"one"', '"content":"1"'))
        return swap(new, target, **options)

    monkeypatch.setattr(exchange, "_swap", edited_at_the_last_moment)
    desk.write()
    assert desk.contents(session) == ["1", "arrived"]
    assert desk.shown(session) == ["1", "arrived"]
    assert list(desk.root.rglob("*.swap")) == []


def test_a_mirror_that_is_told_to_stop_ends_early_and_goes_on_later(desk: Desk):
    for at in range(5):
        desk.session(f"text {at}")
    asked: Callable[[], bool] = iter([False, False, True, True]).__next__
    mirror = Mirror(desk.store, desk.root, stopping=asked)
    assert mirror.write_pending() is not None
    assert 0 < len(desk.files()) < 5
    desk.write()
    assert len(desk.files()) == 5


# Saves of more than one editor, and of programs that know no ids


def test_an_editor_that_saves_again_after_another_one_adds_its_line_once(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    first = path.read_text() + _line("my note")
    desk.save(path, first)
    desk.change(session, '"content":"one"', '"content":"1"')
    desk.save(path, first)
    assert desk.contents(session) == ["1", "my note"]


def test_a_file_without_header_that_is_written_again_and_grows_adds_what_is_new(desk: Desk):
    path = desk.root / "log.jsonl"
    desk.save(path, _line("one") + _line("two"))
    desk.save(path, _line("one") + _line("two") + _line("three"))
    desk.save(path, _line("one") + _line("two") + _line("three") + _line("four"))
    (session,) = desk.live()
    assert desk.contents(session) == ["one", "two", "three", "four"]


def test_a_file_without_header_that_is_written_again_and_shrinks_deletes_nothing(desk: Desk):
    path = desk.root / "log.jsonl"
    desk.save(path, _line("one") + _line("two"))
    desk.save(path, _line("one"))
    (session,) = desk.live()
    assert desk.contents(session) == ["one", "two"]


def test_a_file_without_header_whose_content_is_another_overwrites_nothing(desk: Desk):
    path = desk.root / "log.jsonl"
    desk.save(path, _line("one") + _line("two"))
    desk.save(path, _line("three") + _line("four"))
    (session,) = desk.live()
    assert sorted(desk.contents(session)) == ["four", "one", "three", "two"]


def test_a_file_of_another_store_that_is_saved_again_adds_its_line_once(desk: Desk):
    path = desk.root / "brought.jsonl"
    text = json.dumps({"steno": 1, "id": "other", "rev": "elsewhere.00000007"}) + "\n" + _line("one", id="a")
    desk.save(path, text + _line("my note"))
    desk.save(path, text + _line("my note") + _line("more"))
    assert desk.contents("other") == ["one", "my note", "more"]


def test_a_copy_that_is_saved_again_from_the_same_editor_is_one_copy(desk: Desk):
    session = desk.session("one")
    desk.write()
    copy = desk.root / "copy.jsonl"
    text = desk.path(session).read_text() + _line("my note")
    desk.save(copy, text)
    desk.save(copy, text + _line("more"))
    assert len(desk.live()) == 2
    assert desk.contents(desk.head(copy)["id"]) == ["one", "my note", "more"]
    assert desk.contents(session) == ["one"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who has a file open")
def test_a_program_that_keeps_the_file_open_and_appends_adds_each_line_once(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    with path.open("a") as log:
        log.write(_line("log 1"))
        log.flush()
        desk.mirror.saved([path])
        desk.change(session, '"content":"one"', '"content":"1"')
        log.write(_line("log 2"))
    desk.mirror.scan()
    desk.write()
    assert desk.contents(session) == ["1", "log 1", "log 2"]
    assert desk.shown(session) == ["1", "log 1", "log 2"]


def test_a_save_that_changed_nothing_is_the_last_one_all_the_same(desk: Desk):
    session = desk.session("one", title=None)
    desk.write()
    path = desk.path(session)
    text = path.read_text().replace('"title":"one"', '"title":""')
    desk.save(path, text)
    desk.store.update(session, fields={"title": "Given by hand"})
    desk.write()
    desk.save(path, text.replace('"content":"one"', '"content":"1"'))
    assert desk.store.get(session).title == "Given by hand"
    assert list(conflicts(desk.store)) == []


def test_a_save_that_changed_nothing_is_not_held_against_who_opened_the_file_after_it(desk: Desk):
    session = desk.session("one", title=None)
    desk.write()
    path = desk.path(session)
    desk.save(path, path.read_text().replace('"title":"one"', '"title":""'))
    opened = path.read_text()
    desk.store.update(session, fields={"title": "Given by hand"})
    desk.write()
    desk.save(path, opened.replace('"content":"one"', '"content":"1"'))
    assert desk.store.get(session).title == "Given by hand"


def test_the_saves_that_are_kept_of_a_session_are_few(desk: Desk):
    session = desk.session("one")
    desk.write()
    for number in range(30):
        desk.save(desk.path(session), desk.path(session).read_text() + _line(f"note {number}"))
    assert desk.store.one("SELECT count(*) FROM saves")[0] == 20


# What arrived while the file was open stays


def test_a_line_added_to_a_file_with_an_automatic_title_does_not_undo_a_rename(desk: Desk):
    session = desk.session("hello world", title=None)
    desk.write()
    path = desk.path(session)
    opened = path.read_text()
    desk.store.update(session, fields={"title": "Given by hand"})
    desk.write()
    desk.save(path, opened + _line("a new line"))
    assert desk.store.get(session).title == "Given by hand"
    assert list(conflicts(desk.store)) == []


def test_a_line_added_to_a_file_with_an_older_automatic_title_leaves_the_title_automatic(desk: Desk):
    session = desk.session("hello world", title=None)
    desk.write()
    path = desk.path(session)
    opened = path.read_text()
    desk.store.edit_message(session, "hello world", {"content": "bye"})
    desk.write()
    desk.save(path, opened + _line("a new line"))
    header = desk.store.get(session)
    assert (header.title, header.automatic_title) == ("bye", True)


def test_tags_in_another_order_do_not_remove_a_tag_that_arrived(desk: Desk):
    session = desk.session("one", tags=["x", "y"])
    desk.write()
    path = desk.path(session)
    opened = path.read_text()
    desk.store.update(session, add_tags=["urgent"])
    desk.write()
    desk.save(path, opened.replace('["x","y"]', '["new","y","x"]'))
    assert desk.store.get(session).tags == ["new", "y", "x", "urgent"]
    assert list(conflicts(desk.store)) == []


def test_tags_in_another_order_do_not_bring_back_a_tag_that_was_removed(desk: Desk):
    session = desk.session("one", tags=["x", "y", "z"])
    desk.write()
    path = desk.path(session)
    opened = path.read_text()
    desk.store.update(session, remove_tags=["x"])
    desk.write()
    desk.save(path, opened.replace('["x","y","z"]', '["z","y","x"]'))
    assert desk.store.get(session).tags == ["z", "y"]


def test_an_edited_line_of_a_cleared_session_becomes_a_message_again(desk: Desk):
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    opened = path.read_text()
    desk.store.delete(session)
    desk.store.append(session, NewMessage(role="user", content="fresh start"))
    desk.write()
    edited = opened.replace('"content":"one"', '"content":"one, my hour of editing"')
    desk.save(path, edited)
    assert desk.contents(session) == ["one, my hour of editing", "fresh start"]
    desk.save(path, edited)
    assert desk.contents(session) == ["one, my hour of editing", "fresh start"]
    desk.save(path, edited.replace("my hour", "my two hours"))
    assert desk.contents(session) == ["one, my two hours of editing", "fresh start"]


# A rewriting that did not happen


class _Killed(BaseException):
    pass


def _no_room(*_: Any, **__: Any) -> None:
    raise LocalStorageError("no room left")


def test_a_stale_file_that_was_taken_is_rewritten_after_a_kill(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def killed(name: str) -> None:
        if name == "files.absorbed":
            raise _Killed

    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    old = path.read_text()
    desk.store.append(session, NewMessage(role="user", content="two"))
    desk.write()
    with monkeypatch.context() as patched:
        patched.setattr("steno.sync.files.taking.step", killed)
        with pytest.raises(_Killed):
            desk.save(path, old + "\n")
    desk.opened()
    desk.write()
    assert desk.shown(session) == ["one", "two"]


def test_a_stale_file_that_was_taken_is_rewritten_once_there_is_room(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    old = path.read_text()
    desk.store.append(session, NewMessage(role="user", content="two"))
    desk.write()
    with monkeypatch.context() as patched:
        patched.setattr("steno.sync.files.writing.replace", _no_room)
        with pytest.raises(LocalStorageError):
            desk.save(path, old + "\n")
    desk.write()
    assert desk.shown(session) == ["one", "two"]


# What is no plain file


@pytest.mark.parametrize("target", ["annex.jsonl", "nowhere.jsonl"])
def test_a_link_in_the_place_of_a_file_is_refused_and_the_others_go_on(desk: Desk, target: str):
    linked, other = desk.session("one"), desk.session("1")
    desk.write()
    path, theirs = desk.path(linked), desk.path(other)
    path.rename(desk.root.parent / "annex.jsonl")
    path.symlink_to(desk.root.parent / target)
    desk.opened()
    for session in (linked, other):
        desk.store.append(session, NewMessage(role="user", content="more"))
    desk.write()
    assert [each.path for each in desk.mirror.refused()] == [str(path.relative_to(desk.root))]
    assert desk.live() == sorted([linked, other])
    assert "more" in theirs.read_text()
    assert path.is_symlink()
    path.unlink()
    (desk.root.parent / "annex.jsonl").rename(path)
    desk.opened()
    desk.write()
    assert desk.mirror.refused() == []
    assert desk.shown(linked) == ["one", "more"]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_folder_in_the_place_of_a_file_is_refused_and_the_others_go_on(desk: Desk, deleted: bool):
    session, other = desk.session("one"), desk.session("1")
    desk.write()
    path = desk.path(session)
    path.unlink()
    (path / "inside").mkdir(parents=True)
    desk.store.append(session, NewMessage(role="user", content="more"))
    desk.store.append(other, NewMessage(role="user", content="more"))
    if deleted:
        desk.store.delete(session)
    desk.write()
    assert [each.path for each in desk.mirror.refused()] == [str(path.relative_to(desk.root))]
    assert (path / "inside").is_dir()
    assert "more" in next(each for each in desk.files() if each.is_file()).read_text()


# Files that change places


def _both(desk: Desk) -> tuple[str, str, Path, Path]:
    one, other = desk.session("in one"), desk.session("in other")
    desk.write()
    return one, other, desk.path(one), desk.path(other)


def _exchanged(one: Path, other: Path) -> None:
    aside = one.with_name("aside.tmp")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("running", [True, False])
def test_two_files_that_change_names_stay_their_sessions(desk: Desk, running: bool):
    one, other, path, theirs = _both(desk)
    _exchanged(path, theirs)
    if running:
        assert desk.mirror.saved([path, theirs]) == []
    else:
        desk.opened()
    desk.write()
    assert desk.live() == sorted([one, other])
    assert (desk.path(one), desk.path(other)) == (theirs, path)
    desk.store.append(one, NewMessage(role="user", content="more"))
    desk.write()
    assert desk.files() == sorted([path, theirs])
    assert desk.shown(one) == ["in one", "more"]


def test_two_files_that_change_names_and_are_edited_at_once_are_both(desk: Desk):
    one, other, path, theirs = _both(desk)
    _exchanged(path, theirs)
    for each in (path, theirs):
        each.write_text(each.read_text().replace('"content":"in', '"content":"at'))
    desk.opened()
    desk.write()
    assert (desk.contents(one), desk.contents(other)) == (["at one"], ["at other"])
    assert desk.live() == sorted([one, other])


@pytest.mark.parametrize("running", [True, False])
def test_a_file_moved_over_another_stays_its_session_and_the_other_gets_a_new_file(desk: Desk, running: bool):
    one, other, path, theirs = _both(desk)
    theirs.rename(path)
    if running:
        desk.mirror.vanished(desk.mirror.saved([path, theirs]))
    else:
        desk.opened()
    desk.write()
    assert desk.live() == sorted([one, other])
    assert desk.path(other) == path
    assert desk.shown(one) == ["in one"]


def test_a_file_moved_over_its_copy_stays_its_session_also_while_the_copy_is_written(desk: Desk):
    session = desk.session("one")
    desk.write()
    path, place = desk.path(session), desk.root / "copy.jsonl"
    desk.save(place, path.read_text())
    [copy] = [each for each in desk.live() if each != session]
    desk.store.append(copy, NewMessage(role="user", content="of the copy"))
    path.rename(place)
    desk.write()
    desk.mirror.scan()
    desk.write()
    assert (desk.path(session), desk.shown(session), desk.shown(copy)) == (place, ["one"], ["one", "of the copy"])


def test_a_file_copied_over_another_leaves_both_sessions_as_they_were(desk: Desk):
    one, other, path, theirs = _both(desk)
    desk.save(path, theirs.read_text())
    desk.write()
    assert len(desk.live()) == 3
    assert (desk.contents(one), desk.contents(other)) == (["in one"], ["in other"])
    assert desk.path(other) == theirs
