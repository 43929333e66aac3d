"""What came of saves that nobody asked for: kept for a while, in few words, and gone with its session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from steno.storage.backup import backup
from steno.storage.purge import purge_message, purge_session, shrink
from steno.storage.schema import VERSION
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.storage.tombstones import REPORTS
from steno.sync.files.reports import KEPT_MS, KINDS, MOST, Report, keep, reports, reports_of
from steno.tests.unit.test_files_mirror import NOW_MS, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def session(desk: Desk) -> str:
    made = desk.session("one", "two", "three")
    desk.write()
    return made


def said(desk: Desk) -> list[tuple[str, str]]:
    return [(each.kind, each.text) for each in reports(desk.store)]


def reorder(desk: Desk, session: str) -> None:
    """Save the file of a session with its last line in the first place."""
    head, *lines = desk.path(session).read_text().splitlines(keepends=True)
    desk.save(desk.path(session), "".join([head, lines[-1], *lines[:-1]]))


def kept(store: Store, *given: Report) -> list[Report]:
    with store.transaction():
        for each in given:
            keep(store, [each])
    return reports(store)


# What is said


def test_a_save_that_did_what_it_said_is_not_reported(desk: Desk, session: str):
    desk.change(session, '"content":"two"', '"content":"2"')
    assert said(desk) == []


@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_new_line_saved_again_without_loading_is_not_reported(desk: Desk, session: str, place: int):
    rows = desk.path(session).read_text().splitlines(keepends=True)
    rows.insert(place, '{"role":"user","content":"new"}\n')
    for _ in range(3):
        desk.save(desk.path(session), "".join(rows))
    assert said(desk) == []


def test_a_report_names_time_file_and_session(desk: Desk, session: str):
    reorder(desk, session)
    (found,) = reports(desk.store)
    assert (found.session, desk.root / found.path, found.kind) == (session, desk.path(session), "order-restored")
    assert found.at_ms > NOW_MS


def test_a_birth_that_was_changed_is_reported(desk: Desk, session: str):
    desk.change(session, '"id":"two","role":"user"', '"id":"two","role":"system"')
    assert said(desk) == [("birth-restored", "what does not change was edited, and is restored (role of two)")]


def test_a_line_that_came_back_is_reported(desk: Desk, session: str):
    stale = desk.path(session).read_text()
    desk.store.edit_message(session, "two", {"content": "edited elsewhere"})
    desk.save(desk.path(session), "".join(row for row in stale.splitlines(keepends=True) if '"two"' not in row))
    assert said(desk) == [("line-came-back", "what was taken away had changed meanwhile, and came back (two)")]


def test_an_edit_of_what_was_deleted_is_reported(desk: Desk, session: str):
    stale = desk.path(session).read_text()
    desk.store.delete_message(session, "two")
    desk.save(desk.path(session), stale.replace('"content":"two"', '"content":"2"'))
    assert said(desk) == [("deleted-line-restored", "what had been deleted was edited, and came back (two)")]


def test_a_line_with_an_unknown_id_is_reported(desk: Desk, session: str):
    path = desk.path(session)
    desk.save(path, path.read_text() + json.dumps({"id": "new", "role": "user", "content": "x"}) + "\n")
    assert said(desk) == [("unknown-id-added", "what has an id that was not known here was added (new)")]


def test_a_line_that_was_left_out_since_it_was_purged_is_reported(desk: Desk, session: str):
    stale = desk.path(session).read_text()
    purge_message(desk.store, session, "two")
    desk.write()
    (row,) = [each for each in stale.splitlines(keepends=True) if '"two"' in each]
    desk.save(desk.path(session), desk.path(session).read_text() + row)
    assert said(desk) == [("purged-line", "what had been purged was left out (two)")]


def test_a_copy_is_reported_with_the_session_that_it_became(desk: Desk, session: str):
    path = desk.path(session)
    copy = path.with_name("copy (conflicted).jsonl")
    desk.save(copy, path.read_text())
    (other,) = set(desk.live()) - {session}
    (found,) = reports(desk.store)
    assert (found.session, desk.root / found.path) == (other, copy)
    assert found.text == f"this is a copy, and became a session of its own ({other})"


def test_a_new_file_is_no_copy(desk: Desk, session: str):
    lines = [json.dumps({"role": "user", "content": "x"}), json.dumps({"id": "i", "role": "user", "content": "y"})]
    desk.save(desk.path(session).with_name("new.jsonl"), "\n".join(lines) + "\n")
    assert said(desk) == []


def test_no_text_of_a_message_is_in_a_report(desk: Desk, session: str):
    desk.store.edit_message(session, "two", {"content": "a secret"})
    desk.write()
    path = desk.path(session)
    new = json.dumps({"id": "new", "role": "user", "content": "another secret"}) + "\n"
    desk.save(path, path.read_text().replace('"role":"user","content":"a', '"role":"system","content":"a') + new)
    assert len(said(desk)) == 2
    assert "secret" not in desk.store.meta(REPORTS)


def test_the_documents_name_every_kind():
    page = Path(__file__).parents[2].joinpath("docs", "http.md").read_text(encoding="utf-8")
    (row,) = [each for each in page.splitlines() if each.startswith("| `GET /v1/files` |")]
    assert [kind for kind in KINDS if f"`{kind}`" not in row] == []


# How much is kept


def test_a_save_is_reported_once_for_each_kind_and_names_few(desk: Desk, session: str):
    path = desk.path(session)
    new = [json.dumps({"id": f"new{number}", "role": "user", "content": "x"}) + "\n" for number in range(500)]
    desk.save(path, path.read_text() + "".join(new))
    ((_, text),) = said(desk)
    assert text.endswith("was added (new0, new1, new2 and 497 more)")


def test_a_long_id_is_cut():
    (found,) = reports_of([], purged=["i" * 2048], copied=False, path="p", session="s", now_ms=1)
    assert len(found.text) < 200


def test_what_is_said_again_is_said_once_and_stands_first(desk: Desk, session: str):
    reorder(desk, session)
    desk.change(session, '"id":"two","role":"user"', '"id":"two","role":"system"')
    before = [each for each in reports(desk.store) if each.kind == "order-restored"]
    reorder(desk, session)
    assert [kind for kind, _ in said(desk)] == ["order-restored", "birth-restored"]
    assert reports(desk.store)[0].at_ms > before[0].at_ms


def test_the_latest_are_kept(desk: Desk):
    found = kept(desk.store, *(Report(NOW_MS, f"{number}.jsonl", "s", "copy", "x") for number in range(MOST + 5)))
    assert [each.path for each in found] == [f"{number}.jsonl" for number in reversed(range(5, MOST + 5))]


def test_reports_of_long_ago_are_told_no_more_and_go(desk: Desk):
    old, young = (Report(NOW_MS - age, "a.jsonl", "s", "copy", str(age)) for age in (KEPT_MS, KEPT_MS // 2))
    assert kept(desk.store, old, young) == [young]
    kept(desk.store, Report(NOW_MS, "a.jsonl", "s", "copy", "x"))
    assert f'"{old.text}"' not in desk.store.meta(REPORTS)


def test_a_kind_that_a_newer_version_knows_is_told(desk: Desk):
    later = Report(NOW_MS, "a.jsonl", "s", "something-new", "x")
    assert kept(desk.store, later) == [later]


# A purge


def test_a_purge_drops_the_reports_of_its_session_and_no_other(desk: Desk):
    purged, other = desk.session("one", "two", title="Quokka"), desk.session("one", "two")
    desk.write()
    for each in (purged, other):
        reorder(desk, each)
    purge_session(desk.store, purged)
    assert [each.session for each in reports(desk.store)] == [other]
    assert "quokka" not in desk.store.meta(REPORTS)


@pytest.mark.parametrize("version", [VERSION - 1, VERSION])
def test_a_purge_drops_them_from_backups_too(desk: Desk, tmp_path: Path, version: int):
    purged = desk.session("one", "two", title="Quokka")
    desk.write()
    reorder(desk, purged)
    (tmp_path / "backups").mkdir()
    copied = backup(desk.store, tmp_path / "backups" / "steno-1.db")
    with closing(dbapi.connect(str(copied))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    assert b"quokka" in copied.read_bytes()
    purge_session(desk.store, purged)
    assert shrink(desk.store).problems == []
    assert b"quokka" not in copied.read_bytes()
