"""What is done to a long session costs what is done, not what the session is long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno import Limits, Session, SessionManager, SQLiteSessionStore
from steno.storage.library.contract import Backend

LONG = 3000


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    store = SQLiteSessionStore(tmp_path / "s.db", limits=Limits(cached_messages=20))
    with SessionManager(store=store) as made:
        made.add_messages("s", [{"role": "user", "content": str(n), "id": f"m{n}"} for n in range(LONG)])
        yield made


def _rows_read(manager: SessionManager, act: Callable[[], object]) -> int:
    """How many messages are made into objects while something is done."""
    read = 0
    newest, page = manager.store.newest, manager.store.page

    def counted(found: list[object]) -> list[object]:
        nonlocal read
        read += len(found)
        return found

    manager.store.newest = lambda *a: (counted((got := newest(*a))[0]), got[1])
    manager.store.page = lambda *a, **k: counted(page(*a, **k))
    try:
        act()
    finally:
        manager.store.newest, manager.store.page = newest, page
    return read


@pytest.mark.parametrize(
    "act",
    [
        lambda session: session.add_message("user", "x"),
        lambda session: session.add_message({"role": "user", "content": "x", "id": "given"}),
        lambda session: session.add_message("user", "x", parent="m17"),
        lambda session: session.get_messages(limit=10),
        lambda session: session.get_messages(limit=10, offset=2000),
        lambda session: session.messages[-1],
        lambda session: session.message("m17"),
        lambda session: session.edit_message("m17", content="y"),
        lambda session: session.checkpoint("here"),
    ],
)
@pytest.mark.check("MDB-25")
def test_a_small_thing_reads_few_messages_of_a_long_session(manager: SessionManager, act: Callable[[Session], object]):
    session = manager.load_session("s")
    assert _rows_read(manager, lambda: (act(session), manager.save(session))) <= 20


def test_a_page_is_what_the_whole_list_would_show_there(manager: SessionManager):
    session = manager.load_session("s")
    session.add_message("user", "last")
    for offset, limit in ((0, 3), (2998, 1), (2999, 5), (3000, 5), (3001, 5), (2990, None)):
        page = manager.load_session("s") if offset < 0 else session
        shown = [(each["content"], each.sequence) for each in page.get_messages(limit, offset)]
        whole = [*map(str, range(LONG)), "last"]
        stop = None if limit is None else offset + limit
        assert shown == [(text, offset + at + 1) for at, text in enumerate(whole[offset:stop])]


def _shown(manager: SessionManager) -> list[str]:
    return [each["content"] for each in manager.get_messages("s")]


@pytest.mark.check("COD-10")
def test_cutting_off_a_long_beginning_is_one_write(manager: SessionManager):
    session = manager.load_session("s")
    session.truncate_messages(50)
    manager.save(session)
    assert _shown(manager) == [str(n) for n in range(LONG - 50, LONG)]
    with manager.store.database() as store:
        assert store.one("SELECT count(*) FROM registers WHERE message > 0") == (0,)


def test_what_was_added_meanwhile_stays_when_a_long_beginning_is_cut_off(manager: SessionManager):
    session = manager.load_session("s")
    session.truncate_messages(50)
    manager.add_message("s", "user", "meanwhile")
    manager.save(session)
    assert _shown(manager) == [*map(str, range(LONG - 50, LONG)), "meanwhile"]


def test_many_messages_between_others_are_removed_and_those_stay(manager: SessionManager):
    session = manager.load_session("s")
    session.remove_messages([f"m{n}" for n in range(0, 400, 2)])
    manager.save(session)
    assert _shown(manager) == [*map(str, range(1, 400, 2)), *map(str, range(400, LONG))]


def test_what_is_cut_off_the_end_is_gone_and_what_comes_later_stays(manager: SessionManager):
    session = manager.load_session("s")
    session.rewind("m99")
    manager.save(session)
    manager.add_message("s", "user", "later")
    assert _shown(manager) == [*map(str, range(100)), "later"]


def test_a_back_end_need_not_know_pages(manager: SessionManager):
    whole = manager.load_session("s").all_messages()
    assert Backend.page(manager.store, "s", skip=5, limit=2) == whole[5:7]
    assert Backend.find_message(manager.store, "s", "m5") == whole[5]
