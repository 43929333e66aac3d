"""Drafts: what is being said, until the store has it."""

from __future__ import annotations

import resource
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from steno.storage.drafts import INTERRUPTED, Draft, Heading, left_over, take_up
from steno.storage.errors import LocalStorageError, SessionDeleted
from steno.storage.model import NewMessage
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db") as opened:
        opened.create(id="k3v9")
        opened.append("k3v9", NewMessage(role="user", content="asked", id="asked"))
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "drafts"


def begin(folder: Path, text: str = "") -> Draft:
    draft = Draft(folder, Heading(session="k3v9", life=1, id="answer", after="asked", model="m"))
    draft.add(text)
    return draft


def abandon(draft: Draft) -> None:
    """End a draft as the end of its process does."""
    draft._file.close()


def contents(store: Store) -> list[object]:
    return [each.content for each in store.messages("k3v9")]


@contextmanager
def files_of_at_most(size_bytes: int) -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_kept_draft_is_a_message_and_no_file(store: Store, folder: Path) -> None:
    kept = begin(folder, "an answer").keep(store, usage={"input_tokens": 1})
    assert (kept.id, kept.role, kept.content, kept.model) == ("answer", "assistant", "an answer", "m")
    assert [*folder.iterdir()] == []


def test_only_its_owner_may_read_it(folder: Path) -> None:
    draft = begin(folder)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "answer")] == [0o700, 0o600]
    draft.drop()


def test_a_draft_that_is_being_written_is_left_alone(store: Store, folder: Path) -> None:
    draft = begin(folder, "half")
    assert (left_over(folder), take_up(store, folder)) == ([], [])
    draft.keep(store)
    assert contents(store) == ["asked", "half"]


def test_a_draft_that_is_left_over_is_taken_up_once(store: Store, folder: Path) -> None:
    abandon(begin(folder, "half"))
    store.append("k3v9", NewMessage(role="user", content="later"))
    assert left_over(folder) == [folder / "answer"]
    [taken] = take_up(store, folder)
    assert taken.metadata == {INTERRUPTED: True}
    assert take_up(store, folder) == []
    assert contents(store) == ["asked", "half", "later"]


def test_a_draft_whose_message_is_there_already_goes(store: Store, folder: Path) -> None:
    abandon(begin(folder, "half"))
    copy = (folder / "answer").read_bytes()
    take_up(store, folder)
    (folder / "answer").write_bytes(copy)
    assert take_up(store, folder) == []
    assert (contents(store), [*folder.iterdir()]) == (["asked", "half"], [])


def test_a_draft_in_which_nothing_was_said_is_no_message(store: Store, folder: Path) -> None:
    abandon(begin(folder))
    assert take_up(store, folder) == []
    assert (contents(store), [*folder.iterdir()]) == (["asked"], [])


def test_a_character_whose_end_did_not_come_is_left_out(store: Store, folder: Path) -> None:
    abandon(begin(folder, "zwölf"))
    whole = (folder / "answer").read_bytes()
    (folder / "answer").write_bytes(whole[: whole.rindex("ö".encode()) + 1])
    take_up(store, folder)
    assert contents(store) == ["asked", "zw"]


def test_what_has_only_just_been_made_is_left_to_its_maker(store: Store, folder: Path) -> None:
    folder.mkdir()
    (folder / "answer").write_bytes(b'{"session":')
    assert (left_over(folder), take_up(store, folder)) == ([], [])
    assert (folder / "answer").exists()


def test_a_deleted_session_is_not_brought_back(store: Store, folder: Path) -> None:
    draft = begin(folder, "half")
    store.delete("k3v9")
    with pytest.raises(SessionDeleted):
        draft.keep(store)
    abandon(draft)
    assert take_up(store, folder) == []
    store.restore("k3v9")
    take_up(store, folder)
    assert contents(store) == ["asked", "half"]


def test_a_full_disk_costs_nothing_of_what_is_said(store: Store, folder: Path) -> None:
    draft = begin(folder)
    with files_of_at_most(300):
        for each in "abc":
            draft.add(each * 150)
    assert draft.keep(store).content == "a" * 150 + "b" * 150 + "c" * 150


def test_what_a_full_disk_kept_is_a_beginning_without_a_gap(store: Store, folder: Path) -> None:
    draft = begin(folder)
    with files_of_at_most(300):
        draft.add("a" * 400)
    draft.add("later")
    abandon(draft)
    [taken] = take_up(store, folder)
    assert set(taken.content) == {"a"}


def test_where_no_draft_can_be_begun_is_said(folder: Path) -> None:
    with files_of_at_most(10), pytest.raises(LocalStorageError):
        begin(folder)
    assert [*folder.iterdir()] == []
