"""A session that another process changes between two looks at it, while its file is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest

from steno.storage.model import NewMessage
from steno.storage.purge import purge_message, purge_session
from steno.storage.store import Store
from steno.sync.files import writing

from .test_files_mirror import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def other(desk: Desk) -> Iterator[Store]:
    """The store as another process has it open."""
    with Store(desk.store.path) as opened:
        yield opened


Before = Callable[[Callable[[], object]], None]


@pytest.fixture
def before_a_file_is_written(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Let something happen once, when it was seen that a file must be written and nothing of it was read yet."""
    real = writing.make_folder

    def to_happen(what: Callable[[], object]) -> None:
        def make_folder(root: Path, relative: PurePath) -> Path:
            monkeypatch.setattr(writing, "make_folder", real)
            what()
            return real(root, relative)

        monkeypatch.setattr(writing, "make_folder", make_folder)

    return to_happen


def test_the_file_of_a_session_that_is_deleted_before_it_is_written_is_removed(
    desk: Desk, other: Store, before_a_file_is_written: Before
):
    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="user", content="two"))
    before_a_file_is_written(lambda: other.delete(session))
    desk.write()
    assert desk.files() == []


def test_a_session_that_is_deleted_before_its_first_file_is_written_gets_none(
    desk: Desk, other: Store, before_a_file_is_written: Before
):
    session = desk.session("one")
    before_a_file_is_written(lambda: other.delete(session))
    desk.write()
    assert desk.files() == []


def test_a_session_that_was_deleted_before_its_file_was_written_gets_it_again_when_it_is_restored(
    desk: Desk, other: Store, before_a_file_is_written: Before
):
    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="user", content="two"))
    before_a_file_is_written(lambda: other.delete(session))
    desk.write()
    other.restore(session)
    desk.write()
    assert desk.shown(session) == ["one", "two"]


def test_an_edit_of_a_file_whose_session_is_deleted_before_it_is_written_is_taken(
    desk: Desk, other: Store, before_a_file_is_written: Before
):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    desk.store.append(session, NewMessage(role="user", content="two"))

    def somebody_edits_and_another_deletes() -> None:
        path.write_text(path.read_text().replace('"content":"one"', '"content":"edited"'))
        other.delete(session)

    before_a_file_is_written(somebody_edits_and_another_deletes)
    desk.write()
    desk.mirror.scan()
    assert "edited" in desk.contents(session)


def test_the_file_of_a_session_that_is_purged_before_it_is_written_is_removed(
    desk: Desk, other: Store, before_a_file_is_written: Before
):
    session = desk.session("one")
    desk.write()
    desk.store.append(session, NewMessage(role="user", content="two"))
    before_a_file_is_written(lambda: purge_session(other, session))
    desk.write()
    desk.mirror.scan()
    desk.write()
    assert desk.files() == []


def test_a_message_that_is_purged_before_its_file_is_written_is_not_in_it(
    desk: Desk, other: Store, before_a_file_is_written: Before
):
    session = desk.session("one", "secret")
    desk.write()
    desk.store.append(session, NewMessage(role="user", content="two"))
    before_a_file_is_written(lambda: purge_message(other, session, "secret"))
    desk.write()
    assert desk.shown(session) == ["one", "two"]
