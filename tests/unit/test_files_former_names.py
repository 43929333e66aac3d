"""The name of a session's file forgets what was purged: no slug of it stays on the disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from steno.storage.backup import backup
from steno.storage.model import NewMessage
from steno.storage.purge import is_shrunk, purge_history, purge_message, shrink
from steno.storage.schema import VERSION
from steno.storage.sqlite import dbapi
from steno.sync.files.exchange import is_whole, move
from steno.sync.files.mirror import halt_of
from steno.sync.files.reading import FileChanged
from steno.sync.files.reports import reports
from steno.tests.unit.test_apply import Stores, take
from steno.tests.unit.test_files_mirror import Desk
from steno.tests.unit.traces import traces

SECRET = "the quokka sleeps"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def named(desk: Desk, session: str) -> str:
    """The part of a file's name that is given by a title."""
    return desk.path(session).name.partition(".")[0]


def told(desk: Desk, word: str = "quokka") -> set[str]:
    """Where a word still stands, by the names of files."""
    assert shrink(desk.store).problems == []
    return {name for name, _ in traces(desk.root.parent, [word])}


def with_secret(desk: Desk) -> str:
    """A session whose first message made its title, and the name of its file."""
    session = desk.store.create().id
    texts = {"first": SECRET, "second": "two"}
    desk.store.add_messages(session, [NewMessage(role="user", content=text, id=each) for each, text in texts.items()])
    desk.write()
    assert named(desk, session) == "the-quokka-sleeps"
    return session


def reorder(desk: Desk, session: str) -> None:
    path = desk.path(session)
    head, *lines = path.read_text().splitlines(keepends=True)
    desk.save(path, "".join([head, *reversed(lines)]))
    desk.write()
    assert [each.session for each in reports(desk.store)] == [session]


def test_no_word_of_a_purged_message_stays_in_a_name_the_database_or_a_report(desk: Desk):
    session = with_secret(desk)
    reorder(desk, session)
    purge_message(desk.store, session, "first")
    desk.write()
    assert told(desk) == set()
    assert (named(desk, session), desk.shown(session)) == ("two", ["two"])
    assert [each.path for each in reports(desk.store)] == [str(desk.path(session).relative_to(desk.root))]


def test_no_word_of_it_stays_where_the_purge_came_from_another_device(desk: Desk, tmp_path: Path):
    session = with_secret(desk)
    others = Stores(tmp_path)
    with others.open() as other:
        take(other, others.news(desk.store))
        purge_message(other, session, "first")
        take(desk.store, others.news(other))
        desk.write()
        assert {name for name in told(desk) if name.startswith(("sessions", "steno.db"))} == set()


def test_no_word_of_a_purged_history_stays_in_a_name(desk: Desk):
    session = with_secret(desk)
    reorder(desk, session)
    desk.store.edit_message(session, "first", {"content": "harmless"})
    purge_history(desk.store, session)
    desk.write()
    assert (told(desk), named(desk, session)) == (set(), "harmless")


def test_no_word_of_a_former_title_stays_after_a_purge_of_the_history(desk: Desk):
    session = desk.session("one", title=SECRET)
    desk.write()
    desk.store.update(session, fields={"title": "harmless"})
    desk.write()
    assert named(desk, session) == "the-quokka-sleeps"
    purge_history(desk.store, session)
    desk.write()
    assert (told(desk), named(desk, session)) == (set(), "harmless")


def test_the_file_is_told_until_it_has_its_new_name_and_the_database_is_to_be_written_anew(desk: Desk):
    session = with_secret(desk)
    old = str(desk.path(session).relative_to(desk.root))
    purge_message(desk.store, session, "first")
    assert shrink(desk.store).files == [old]
    assert is_shrunk(desk.store)
    desk.write()
    assert not is_shrunk(desk.store)
    assert (shrink(desk.store).files, told(desk)) == ([], set())


def test_a_purge_of_a_message_that_had_been_deleted_is_told_until_the_file_is_written(desk: Desk):
    session = with_secret(desk)
    desk.store.delete_message(session, "first")
    desk.write()
    purge_message(desk.store, session, "first")
    desk.write()
    assert (shrink(desk.store).files, told(desk)) == ([], set())


def test_a_name_without_anything_purged_stays(desk: Desk):
    session = desk.session("one", title="Before")
    desk.write()
    desk.store.update(session, fields={"title": "After"})
    desk.write()
    assert named(desk, session) == "before"


def test_a_name_that_somebody_chose_stays(desk: Desk):
    session = with_secret(desk)
    mine = desk.path(session).with_name("Mine.jsonl")
    desk.path(session).rename(mine)
    desk.mirror.saved([mine])
    purge_message(desk.store, session, "first")
    desk.write()
    assert (desk.files(), desk.shown(session)) == ([mine], ["two"])


def test_a_file_that_was_moved_gets_its_new_name_where_it_stands(desk: Desk):
    session = with_secret(desk)
    (desk.root / "mine").mkdir()
    there = desk.root / "mine" / desk.path(session).name
    desk.path(session).rename(there)
    desk.mirror.saved([there])
    purge_message(desk.store, session, "first")
    desk.write()
    assert [path.relative_to(desk.root).as_posix() for path in desk.files()] == [f"mine/two.{session}.jsonl"]


def test_an_edit_of_the_old_file_is_taken_before_it_is_written(desk: Desk):
    session = with_secret(desk)
    purge_message(desk.store, session, "first")
    path = desk.path(session)
    path.write_text(path.read_text().replace('"content":"two"', '"content":"2"'))
    desk.write()
    assert desk.contents(session) == desk.shown(session) == ["2"]
    assert told(desk) == set()
    assert desk.live() == [session]


def test_a_refused_file_keeps_its_name_and_is_told_until_it_is_mended(desk: Desk):
    session = with_secret(desk)
    path = desk.path(session)
    text = path.read_text()
    desk.save(path, text + "what is no JSON\n")
    purge_message(desk.store, session, "first")
    desk.write()
    assert path.read_text() == text + "what is no JSON\n"
    assert shrink(desk.store).files == [str(path.relative_to(desk.root))]
    desk.save(path, text)
    desk.write()
    assert (desk.shown(session), told(desk), desk.live()) == (["two"], set(), [session])


def test_a_link_in_its_place_is_left_alone(desk: Desk, tmp_path: Path):
    session = with_secret(desk)
    path = desk.path(session)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    purge_message(desk.store, session, "first")
    desk.write()
    assert path.is_symlink()
    assert [each.path for each in desk.mirror.refused()] == [str(path.relative_to(desk.root))]


def test_what_stands_under_the_new_name_stays(desk: Desk):
    session = with_secret(desk)
    other = desk.path(session).with_name(f"two.{session}.jsonl")
    other.write_text("no session\n")
    purge_message(desk.store, session, "first")
    desk.write()
    assert other.read_text() == "no session\n"
    assert other.with_name(f"two.{session}.2.jsonl") in desk.files()
    assert told(desk) == set()


def test_many_new_names_at_once_are_no_vanished_files(desk: Desk):
    sessions = [with_secret(desk) for _ in range(15)]
    for each in sessions:
        purge_message(desk.store, each, "first")
    desk.write()
    desk.mirror.scan()
    desk.mirror.vanished([f"2027/01/the-quokka-sleeps.{each}.jsonl" for each in sessions])
    desk.write()
    assert halt_of(desk.store) is None
    assert desk.live() == sorted(sessions)
    assert {path.name.partition(".")[0] for path in desk.files()} == {"two"}


def test_a_file_that_is_gone_meanwhile_is_a_deletion_as_ever(desk: Desk):
    session = with_secret(desk)
    purge_message(desk.store, session, "first")
    path = desk.path(session)
    path.unlink()
    desk.mirror.write_pending()
    desk.mirror.vanished([str(path.relative_to(desk.root))])
    desk.write()
    assert (desk.live(), desk.files()) == ([], [])


def test_a_missing_file_is_restored_under_the_present_title(desk: Desk):
    session = with_secret(desk)
    desk.path(session).unlink()
    purge_message(desk.store, session, "first")
    desk.mirror.resume(restore=True)
    desk.write()
    assert (desk.live(), named(desk, session), told(desk)) == ([session], "two", set())


def test_a_crash_between_the_new_name_and_its_record_loses_and_doubles_nothing(desk: Desk):
    session = with_secret(desk)
    purge_message(desk.store, session, "first")
    path = desk.path(session)
    path.rename(path.with_name(f"two.{session}.jsonl"))
    desk.opened()
    desk.write()
    assert (desk.live(), desk.shown(session), named(desk, session)) == ([session], ["two"], "two")
    assert told(desk) == set()


def test_a_save_of_an_editor_that_had_the_file_open_is_a_save(desk: Desk):
    session = with_secret(desk)
    old, text = desk.path(session), desk.path(session).read_text()
    purge_message(desk.store, session, "first")
    desk.write()
    for new in ("three", "four"):
        text += json.dumps({"role": "user", "content": new}) + "\n"
        desk.save(old, text)
        desk.write()
    assert (desk.live(), desk.shown(session)) == ([session], ["two", "three", "four"])
    assert (len(desk.files()), told(desk)) == (1, set())


def test_a_refused_save_of_such_an_editor_stands_under_the_new_name(desk: Desk):
    session = with_secret(desk)
    old, text = desk.path(session), desk.path(session).read_text()
    purge_message(desk.store, session, "first")
    desk.write()
    now = desk.path(session)
    desk.save(old, text + "what is no JSON\n")
    desk.write()
    assert desk.files() == [now]
    assert now.read_text() == text + "what is no JSON\n"
    assert [each.path for each in desk.mirror.refused()] == [str(now.relative_to(desk.root))]
    assert not [path for path in now.parent.iterdir() if is_whole(path.name)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who has a file open")
def test_such_a_save_is_taken_when_it_is_whole(desk: Desk):
    session = with_secret(desk)
    old, text = desk.path(session), desk.path(session).read_text()
    purge_message(desk.store, session, "first")
    desk.write()
    now = desk.path(session)
    text += json.dumps({"role": "user", "content": "three"}) + "\n"
    with old.open("w") as file:
        file.write(text[:-20])
        file.flush()
        desk.mirror.saved([old])
        desk.mirror.write_pending()
        assert (desk.files(), desk.head(now)["id"], desk.mirror.refused()) == ([old, now], session, [])
        file.write(text[-20:])
    desk.write()
    assert (desk.files(), desk.shown(session)) == ([now], ["two", "three"])


def test_after_the_daemon_was_started_again_such_a_save_becomes_a_copy(desk: Desk):
    session = with_secret(desk)
    old, text = desk.path(session), desk.path(session).read_text()
    purge_message(desk.store, session, "first")
    desk.write()
    desk.opened()
    desk.save(old, text)
    desk.write()
    assert len(desk.live()) == 2
    assert desk.shown(session) == ["two"]
    assert [desk.contents(each) for each in desk.live()] == [["two"], ["two"]]


def test_a_new_message_later_does_not_change_the_name(desk: Desk):
    session = with_secret(desk)
    purge_message(desk.store, session, "first")
    desk.write()
    desk.store.update(session, fields={"title": "Later"})
    desk.store.append(session, NewMessage(role="user", content="three"))
    desk.write()
    assert named(desk, session) == "two"


@pytest.mark.parametrize("version", [VERSION - 1, VERSION])
def test_no_word_of_it_stays_in_a_backup_whose_file_is_to_be_written(desk: Desk, version: int):
    session = with_secret(desk)
    reorder(desk, session)
    folder = desk.root.parent / "backups"
    folder.mkdir()
    copied = backup(desk.store, folder / "steno-1.db")
    with closing(dbapi.connect(str(copied))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    purge_message(desk.store, session, "first")
    desk.write()
    assert (told(desk), is_shrunk(desk.store)) == (set(), True)
    with closing(dbapi.connect(str(copied))) as connection:
        assert connection.execute("SELECT session FROM unwritten").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM files").fetchone() == (0,)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_file_is_never_moved_over_another(tmp_path: Path, exchange: bool):
    path, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text("a")
    move(path, target, exchange=exchange)
    path.write_text("other")
    with pytest.raises(FileChanged, match="appeared"):
        move(path, target, exchange=exchange)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"a.jsonl": "other", "b.jsonl": "a"}
    path.unlink()
    with pytest.raises(FileChanged, match="vanished"):
        move(path, target, exchange=exchange)
