"""The tree of forks downwards and the line of originals upwards, whatever was deleted and whatever births say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.storage import lineage as lineage_module
from steno.storage import schema
from steno.storage.database import Database
from steno.storage.errors import InvalidInput, SessionNotFound
from steno.storage.forks import Ancestor, ancestors, descendants, fork
from steno.storage.lineage import lineage, live, owner
from steno.storage.model import NewMessage
from steno.storage.purge import purge_session
from steno.storage.rows import SessionBirth, encode_births
from steno.storage.sqlite import dbapi
from steno.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "steno.db", now_ms=itertools.count(1_700_000_000_000).__next__) as opened:
        yield opened


def _tree(store: Store, session: str) -> list[tuple[str, int]]:
    return [(node.session.id, node.level) for node in descendants(store, session)]


def _family(store: Store) -> None:
    """root ─┬─ older ── grandchild; and younger."""
    store.create(id="root", title="Root")
    store.append("root", NewMessage(role="user", content="Hi"))
    for name, original in (("older", "root"), ("grandchild", "older"), ("younger", "root")):
        fork(store, original, id=name, title=name.title())


@pytest.mark.check("MDB-23")
def test_a_tree_of_three_levels_stands_by_level_and_then_by_creation(store: Store):
    _family(store)
    assert _tree(store, "root") == [("root", 1), ("older", 2), ("younger", 2), ("grandchild", 3)]


@pytest.mark.check("MDB-23")
def test_a_tree_begins_with_the_session_that_was_asked_for(store: Store):
    _family(store)
    assert _tree(store, "older") == [("older", 1), ("grandchild", 2)]
    assert _tree(store, "younger") == [("younger", 1)]


@pytest.mark.check("MDB-23")
def test_ancestors_are_named_nearest_first(store: Store):
    _family(store)
    assert ancestors(store, "grandchild") == [
        Ancestor("older", "Older", deleted=False),
        Ancestor("root", "Root", deleted=False),
    ]
    assert ancestors(store, "root") == []


def test_a_deleted_fork_is_left_out_of_the_tree_and_its_forks_are_not(store: Store):
    _family(store)
    store.delete("older")
    assert _tree(store, "root") == [("root", 1), ("younger", 2), ("grandchild", 3)]


def test_a_deleted_ancestor_is_named_and_said_to_be_deleted(store: Store):
    _family(store)
    store.delete("older")
    assert ancestors(store, "grandchild")[0] == Ancestor("older", "Older", deleted=True)


def test_ancestors_that_are_not_here_are_named_by_their_ids(tmp_path: Path, store: Store):
    _family(store)
    stated = store.get("grandchild").forked_from
    with Store(tmp_path / "elsewhere.db") as elsewhere:
        elsewhere.create(id="grandchild", title="G", forked_from=stated)
        assert ancestors(elsewhere, "grandchild") == [
            Ancestor("older", None, deleted=True),
            Ancestor("root", None, deleted=True),
        ]


@pytest.mark.check("COD-27")
def test_what_was_forked_from_a_purged_fork_keeps_its_place_and_its_line(store: Store):
    _family(store)
    purge_session(store, "older")
    assert _tree(store, "root") == [("root", 1), ("younger", 2), ("grandchild", 3)]
    assert ancestors(store, "grandchild") == [
        Ancestor("older", None, deleted=True),
        Ancestor("root", "Root", deleted=False),
    ]


@pytest.mark.check("COD-27")
def test_of_a_purged_fork_no_link_remains(store: Store):
    _family(store)
    purge_session(store, "younger")
    linked = store.execute("SELECT DISTINCT session FROM forks ORDER BY session").fetchall()
    assert linked == [(live(store, each).no,) for each in ("older", "grandchild")]


def test_a_birth_that_names_its_original_alone_goes_on_with_what_that_one_says(store: Store):
    _family(store)
    store.create(id="copy", title="Copy", forked_from={"session": "grandchild"})
    assert [each.id for each in ancestors(store, "copy")] == ["grandchild", "older", "root"]


@pytest.mark.parametrize("call", [descendants, ancestors])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_session_that_is_not_there_has_no_relatives(store: Store, call: Any, deleted: bool):
    if deleted:
        store.create(id="none", title="T")
        store.delete("none")
    with pytest.raises(SessionNotFound):
        call(store, "none")


def test_forks_that_name_each_other_in_a_circle_are_named_once(store: Store):
    for name, original in (("a", "c"), ("b", "a"), ("c", "b")):
        store.create(id=name, title=name, forked_from={"session": original})
    assert _tree(store, "a") == [("a", 1), ("b", 2), ("c", 3)]
    assert [each.id for each in ancestors(store, "a")] == ["c", "b"]


def test_a_session_that_names_itself_has_itself_alone(store: Store):
    store.create(id="a", title="A", forked_from={"session": "a", "above": ["a"]})
    assert _tree(store, "a") == [("a", 1)]
    assert ancestors(store, "a") == []


@pytest.mark.parametrize("stated", [{}, {"session": 7}, {"session": None, "above": 3}, {"above": [[], {}, None, 1]}])
def test_a_birth_that_names_no_session_makes_no_fork(store: Store, stated: dict[str, Any]):
    store.create(id="odd", title="Odd", forked_from=stated)
    assert ancestors(store, "odd") == []
    assert _tree(store, "odd") == [("odd", 1)]


def test_a_session_is_not_forked_from_what_is_no_object(store: Store):
    with pytest.raises(InvalidInput):
        store.create(id="odd", title="Odd", forked_from="root")  # pyright: ignore[reportArgumentType]
    assert store.find("odd") is None


@pytest.mark.parametrize("origin", [None, {}, {"session": None}, {"session": ["s"]}, {"message": "m"}])
def test_an_origin_that_names_no_session_has_no_owner(origin: dict[str, Any] | None):
    assert owner(origin) == ""


def test_forks_are_found_through_an_index(store: Store):
    plan = str(store.execute(f"EXPLAIN QUERY PLAN {lineage_module._FORKS_OF}", ("[]",)).fetchall())
    assert "USING PRIMARY KEY (ancestor=?)" in plan
    assert "SCAN sessions" not in plan
    assert "SCAN forks" not in plan


@settings(max_examples=25)
@given(originals=st.lists(st.integers(0, 9), min_size=1, max_size=10), deleted=st.sets(st.integers(0, 9)))
def test_who_is_below_a_session_has_it_above(
    tmp_path_factory: pytest.TempPathFactory, originals: list[int], deleted: set[int]
):
    folder = tmp_path_factory.mktemp("tree")
    with Store(folder / "steno.db") as store:
        store.create(id="0", title="0")
        for at, original in enumerate(originals, start=1):
            fork(store, str(original % at), id=str(at))
        for each in deleted:
            if 0 < each <= len(originals):
                store.delete(str(each))
        above = {row[0]: lineage(store, live(store, row[0])) for row in _shown(store)}
        for session in above:
            expected = {each: len(up[: up.index(session)]) + 2 for each, up in above.items() if session in up}
            assert dict(_tree(store, session)) == expected | {session: 1}


def _shown(store: Store) -> list[tuple[str]]:
    return store.execute("SELECT id FROM sessions WHERE hidden = 0").fetchall()


def test_a_store_of_the_first_version_knows_its_forks_once_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "old.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "VERSION", 1)
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        Database(path).close()
    old = dbapi.connect(str(path), isolation_level=None)
    for no, (session, original) in enumerate([("root", None), ("fork", "root")], start=1):
        births = encode_births([SessionBirth(no, 2, 1, original and f'{{"session":"{original}"}}', None)])
        old.execute(
            "INSERT INTO sessions (no, id, life, seq, local_seq, births, touched, title, automatic, status, tags, "
            "metadata, state, created_ms, updated_ms, message_count, hidden, vectors, incomplete) "
            "VALUES (?, ?, 1, ?, 0, ?, 0, '', 1, 'active', '[]', '{}', '{}', 1, 1, 0, 0, 0, 0)",
            (no, session, no, births),
        )
    old.close()
    with Store(path) as store:
        assert _tree(store, "root") == [("root", 1), ("fork", 2)]
