"""Files that are refused: they are read again when they, or what they are refused for, have changed, and not before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.storage.purge import purge_session

from .test_files_mirror import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


Opened = Callable[[], list[str]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The names of the session files that were opened since this was asked the last time."""
    names: list[str] = []
    really = os.open

    def noting(path: str | bytes | os.PathLike[str], *arguments: int, **options: int | None) -> int:
        name = os.path.basename(os.fsdecode(path))  # noqa: PTH119  it may be no text
        if name.endswith(".jsonl"):
            names.append(name)
        return really(path, *arguments, **options)

    def since() -> list[str]:
        found = list(names)
        names.clear()
        return found

    monkeypatch.setattr(os, "open", noting)
    return since


def _line(content: str, **fields: object) -> str:
    return json.dumps({"role": "user", "content": content, **fields}) + "\n"


def _refused(desk: Desk) -> list[str]:
    return [each.path for each in desk.mirror.refused()]


def _broken(desk: Desk) -> Path:
    """A foreign file and one of ours that are no JSON; the foreign one."""
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    path.write_text(path.read_text() + "{")
    foreign = desk.root / "foreign.jsonl"
    foreign.write_text(_line("typed") + "{")
    desk.mirror.scan()
    assert len(_refused(desk)) == 2
    return foreign


def test_refused_files_that_did_not_change_are_not_read_again(desk: Desk, opened: Opened):
    _broken(desk)
    opened()
    for _ in range(3):
        desk.mirror.scan()
        desk.write()
    assert opened() == []
    assert len(_refused(desk)) == 2


def test_refused_files_are_not_read_again_because_something_else_changed(desk: Desk, opened: Opened):
    foreign = _broken(desk)
    desk.session("another")
    desk.write()
    opened()
    desk.mirror.scan()
    assert opened() == []
    assert foreign.name in _refused(desk)


def test_refused_files_are_read_once_by_a_mirror_that_was_started_again(desk: Desk, opened: Opened):
    _broken(desk)
    desk.opened()
    opened()
    desk.mirror.scan()
    assert opened() == []


def test_a_refused_file_that_was_mended_unheard_is_taken(desk: Desk):
    foreign = _broken(desk)
    foreign.write_text(_line("typed"))
    desk.mirror.scan()
    assert foreign.name not in _refused(desk)
    assert ["typed"] in [desk.contents(each) for each in desk.live()]


def test_a_refused_file_that_was_put_back_as_it_was_is_refused_no_more(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    aside = path.rename(desk.root.parent / "aside")
    path.write_text("{")
    desk.mirror.scan()
    aside.replace(path)
    desk.mirror.scan()
    assert _refused(desk) == []


def test_a_refused_file_of_ours_that_stands_elsewhere_keeps_its_session(desk: Desk):
    session = desk.session("one")
    desk.write()
    path = desk.path(session)
    copy = desk.root / "copy.jsonl"
    copy.write_text(path.read_text() + "{")
    desk.mirror.scan()
    path.unlink()
    desk.mirror.scan()
    assert (desk.live(), _refused(desk)) == ([session], ["copy.jsonl"])


def test_a_file_that_may_be_read_at_last_is_taken(desk: Desk):
    foreign = _broken(desk)
    foreign.write_text(_line("typed"))
    foreign.chmod(0)
    desk.mirror.scan()
    foreign.chmod(0o600)
    desk.mirror.scan()
    assert foreign.name not in _refused(desk)


def _many(desk: Desk) -> tuple[str, Path]:
    """A session from whose file over half of its lines were taken: whether that is meant is asked."""
    session = desk.session(*(f"text {at}" for at in range(30)))
    desk.write()
    path = desk.path(session)
    desk.save(path, "".join(path.read_text().splitlines(keepends=True)[:5]))
    assert _refused(desk) == [str(path.relative_to(desk.root))]
    return session, path


def test_a_save_that_waits_for_a_word_is_not_read_again(desk: Desk, opened: Opened):
    _many(desk)
    opened()
    desk.mirror.scan()
    assert opened() == []
    desk.mirror.resume(restore=False)
    assert _refused(desk) == []


def test_a_save_that_waits_for_a_word_is_taken_once_it_would_delete_little(desk: Desk):
    session, _ = _many(desk)
    for at in range(4, 30):
        desk.store.delete_message(session, f"text {at}")
    desk.mirror.scan()
    assert _refused(desk) == []


def test_a_file_of_a_purged_session_is_read_again_once_something_came_to_the_store(desk: Desk, opened: Opened):
    session = desk.session("one")
    desk.write()
    text = desk.path(session).read_text()
    desk.store.delete(session)
    purge_session(desk.store, session)
    desk.write()
    (desk.root / "kept.jsonl").write_text(text)
    desk.mirror.scan()
    assert _refused(desk) == ["kept.jsonl"]
    opened()
    desk.mirror.scan()
    assert opened() == []
    desk.store.append(desk.session("two"), NewMessage(role="user", content="three"))
    desk.mirror.scan()
    assert "kept.jsonl" in opened()


def test_rebuilding_reads_refused_files_all_the_same(desk: Desk, opened: Opened):
    foreign = _broken(desk)
    opened()
    desk.mirror.rebuild()
    assert foreign.name in opened()
