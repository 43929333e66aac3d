"""The files of a lost store come back: each session once, and the mirror takes the directory for its own."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.storage.model import NewMessage
from steno.storage.rebuilding import Former, begin
from steno.storage.store import Store
from steno.sync.files import rebuild as module
from steno.sync.files.breaker import marked
from steno.sync.files.exchange import is_whole
from steno.sync.files.lines import parse
from steno.sync.files.mirror import MARKER, Mirror
from steno.sync.files.rebuild import Rebuilt, adopt, rebuild, survey
from steno.sync.files.taking import Clock

NOW_MS = 1_800_000_000_000


class Desk:
    """A directory whose store was lost, and the one that is made from it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.aside = folder, folder / "sessions", folder / "aside"
        self.root.mkdir()
        self.clock = 0.0
        self.store = self.opened("lost")

    def opened(self, name: str) -> Store:
        return Store(self.folder / f"{name}.db", now_ms=itertools.count(NOW_MS).__next__)

    def session(self, session: str, *contents: str, **fields: Any) -> None:
        self.store.create(id=session, title=f"About {session}", **fields)
        self.store.add_messages(session, [NewMessage(role="user", content=each, id=each) for each in contents])

    def mirror(self) -> Mirror:
        """Bring store and files together."""
        mirror = Mirror(self.store, self.root, monotonic=lambda: self.clock, sleep=self.sleep)
        mirror.start()
        while (wait := mirror.write_pending()) is not None:
            self.sleep(wait)
        return mirror

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def lose(self) -> None:
        """Go on without the store, as if its database had never been."""
        self.store.close()

    def rebuild(self) -> Rebuilt:
        device = marked(self.root)
        found = survey(self.root, aside=self.aside)
        self.store = self.opened("new")
        lost = [device] if device else []
        begin(self.store, Former(lost, found.last_seq))
        clock = Clock(lambda: self.clock, time.time_ns, self.sleep)
        done = rebuild(self.store, self.root, found, lost=lost, aside=self.aside, clock=clock)
        adopt(self.store, self.root)
        return done

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*.jsonl") if not path.name.startswith("."))

    def path(self, session: str) -> Path:
        return next(path for path in self.files() if json.loads(path.read_text().splitlines()[0])["id"] == session)

    def shown(self) -> dict[str, Any]:
        return {
            each.id: (each.title, each.automatic_title, list(self.store.messages(each.id)))
            for each in list(self.store.sessions())
        }

    def live(self) -> list[str]:
        return sorted(each.id for each in self.store.sessions())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.session("s", "one", "two", tags=["a"])
    made.session("t", "three")
    made.mirror()
    yield made
    made.store.close()


@pytest.mark.fault(39)
def test_every_session_comes_back_and_the_files_stay(desk: Desk):
    before, files = desk.shown(), desk.files()
    desk.lose()
    assert desk.rebuild() == Rebuilt(files=2, sessions=2, messages=3)
    assert desk.shown() == before
    desk.mirror()
    assert desk.shown() == before
    assert desk.files() == files


def test_each_file_is_written_once_under_the_new_name_and_then_left(desk: Desk):
    desk.lose()
    desk.rebuild()
    desk.mirror()
    revs = [json.loads(path.read_text().splitlines()[0])["rev"] for path in desk.files()]
    assert len(revs) == 2
    assert all(rev.startswith(f"{desk.store.store_name}.") for rev in revs)
    looks = [path.stat() for path in desk.files()]
    desk.mirror()
    assert [path.stat() for path in desk.files()] == looks


def test_nothing_in_the_directory_is_changed(desk: Desk):
    desk.lose()
    before = {path: path.read_bytes() for path in desk.files()}
    desk.rebuild()
    assert {path: path.read_bytes() for path in desk.files()} == before


def test_the_marker_is_that_of_the_new_store_and_edits_are_taken_from_then_on(desk: Desk):
    desk.lose()
    desk.rebuild()
    desk.mirror()
    assert marked(desk.root) == desk.store.device
    path = desk.path("s")
    path.write_text(path.read_text().replace('"two"', '"2"'))
    desk.mirror()
    assert [each.content for each in desk.store.messages("s")] == ["one", "2"]


def test_a_directory_whose_marker_is_gone_too_is_adopted(desk: Desk):
    desk.lose()
    (desk.root / MARKER).unlink()
    desk.rebuild()
    desk.mirror()
    assert marked(desk.root) == desk.store.device
    assert desk.live() == ["s", "t"]


def test_the_feed_goes_on_behind_what_the_files_name(desk: Desk):
    desk.lose()
    last = desk.opened("lost").last_seq
    desk.rebuild()
    assert desk.store.one("SELECT min(seq) FROM sessions")[0] > last


def test_a_renamed_and_moved_file_is_its_session(desk: Desk):
    desk.lose()
    (desk.root / "mine").mkdir()
    desk.path("s").rename(desk.root / "mine" / "notes.jsonl")
    assert desk.rebuild().sessions == 2
    desk.mirror()
    assert desk.path("s") == desk.root / "mine" / "notes.jsonl"


def test_of_two_files_of_a_session_the_one_that_bears_its_name_is_it_and_the_other_becomes_a_copy(desk: Desk):
    path = desk.path("s")
    desk.lose()
    (path.parent / "a copy.jsonl").write_text(path.read_text().replace('"two"', '"another"'))
    assert desk.rebuild().sessions == 2
    desk.mirror()
    assert [each.content for each in desk.store.messages("s")] == ["one", "two"]
    [copy] = set(desk.live()) - {"s", "t"}
    assert [each.content for each in desk.store.messages(copy)] == ["one", "another"]
    assert len(desk.files()) == 3


def test_a_file_that_is_refused_lets_the_next_one_of_its_session_be_it(desk: Desk):
    path = desk.path("s")
    desk.lose()
    text = path.read_text()
    path.write_text(text + "no JSON\n")
    (path.parent / "saved.jsonl").write_text(text)
    done = desk.rebuild()
    assert list(done.passed_over) == [str(path.relative_to(desk.root))]
    assert desk.live() == ["s", "t"]
    [refused] = desk.mirror().refused()
    assert (refused.path, refused.line) == (str(path.relative_to(desk.root)), 4)
    assert path.read_text() == text + "no JSON\n"


def test_files_that_the_mirror_makes_sessions_of_are_left_to_it(desk: Desk):
    desk.lose()
    (desk.root / "dropped.jsonl").write_text('{"role":"user","content":"dropped in"}\n')
    (desk.root / "without id.jsonl").write_text('{"steno":1,"title":"No id"}\n')
    assert desk.rebuild().sessions == 2
    desk.mirror()
    assert len(desk.live()) == 4
    assert "No id" in {each.title for each in desk.store.sessions()}


def test_a_header_that_a_formatter_spread_over_lines_names_its_session(desk: Desk):
    path = desk.path("s")
    desk.lose()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(line, indent=2) for line in lines))
    assert desk.rebuild().sessions == 2
    desk.mirror()
    assert desk.live() == ["s", "t"]


def test_typed_lines_get_ids_in_the_file(desk: Desk):
    path = desk.path("s")
    desk.lose()
    with path.open("a") as file:
        file.write('{"role":"user","content":"typed"}\n')
    assert desk.rebuild().messages == 4
    desk.mirror()
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [line["content"] for line in lines] == ["one", "two", "typed"]
    assert all("id" in line for line in lines)


def left_aside(desk: Desk, session: str) -> Path:
    """What lies beside a file when a crash comes between the exchange and its end: what it showed before."""
    path = desk.path(session)
    aside = path.with_name(f".steno-0123456789ab.{path.name}.swap")
    assert is_whole(aside.name)
    aside.write_bytes(path.read_bytes())
    return aside


def test_what_a_crash_left_beside_a_file_is_kept_aside_and_undoes_nothing(desk: Desk):
    aside = left_aside(desk, "s")
    before = aside.read_bytes()
    desk.store.edit_message("s", "two", {"content": "2"})
    desk.lose()
    path = desk.path("s")
    path.write_text(path.read_text().replace('"content":"two"', '"content":"2"'))
    desk.rebuild()
    desk.mirror()
    assert [each.content for each in desk.store.messages("s")] == ["one", "2"]
    assert not aside.exists()
    assert [each.read_bytes() for each in desk.aside.rglob("*") if each.is_file()] == [before]


def test_what_a_crash_left_beside_an_empty_place_is_put_back(desk: Desk):
    aside, path = left_aside(desk, "s"), desk.path("s")
    desk.lose()
    path.unlink()
    assert desk.rebuild().sessions == 2
    assert path.exists()
    assert not aside.exists()
    assert not desk.aside.exists()


def test_a_file_that_shows_what_the_store_will_not_is_kept_as_it_was(desk: Desk):
    desk.lose()
    path = desk.path("s")
    path.write_text(path.read_text().replace('"content":"two"', '"content":"mine"'))
    text = path.read_text()
    lost = desk.opened("lost")
    lost.close()
    (desk.root / MARKER).unlink()  # nobody knows whose the last word was
    found = survey(desk.root, aside=desk.aside)
    (desk.folder / "lost.db").rename(desk.folder / "new.db")
    desk.store = desk.opened("new")
    done = rebuild(desk.store, desk.root, found, lost=[], aside=desk.aside)
    assert (done.yielded, done.kept) == (1, 1)
    kept = desk.aside / path.relative_to(desk.root)
    assert kept.read_text() == text
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [each.content for each in desk.store.messages("s")] == ["one", "two"]


def test_a_file_that_cannot_be_read_holds_up_no_other(desk: Desk):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    desk.lose()
    desk.path("s").chmod(0)
    done = desk.rebuild()
    assert len(done.passed_over) == 1
    assert desk.live() == ["t"]


def test_a_bug_that_one_file_meets_holds_up_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk.lose()
    derive = module.derive

    def broken(store: Store, mine: Any, **options: Any) -> Any:
        if options["session_id"] == "s":
            raise RuntimeError("a bug")
        return derive(store, mine, **options)

    monkeypatch.setattr(module, "derive", broken)
    done = desk.rebuild()
    assert "a bug" in next(iter(done.passed_over.values()))
    assert desk.live() == ["t"]


def test_a_link_in_the_place_of_a_file_is_not_followed(desk: Desk, tmp_path: Path):
    desk.lose()
    path = desk.path("s")
    (tmp_path / "outside.jsonl").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "outside.jsonl")
    desk.rebuild()
    assert desk.live() == ["t"]


def test_a_directory_that_is_not_there_gives_nothing(tmp_path: Path):
    assert survey(tmp_path / "sessions", aside=tmp_path / "aside").candidates == []


def test_a_number_that_no_feed_reaches_does_not_become_the_feeds(desk: Desk):
    path = desk.path("s")
    desk.lose()
    head, *lines = path.read_text().splitlines()
    rev = json.loads(head)["rev"]
    path.write_text("\n".join([head.replace(rev, "x.9999999999999999999"), *lines]) + "\n")
    desk.rebuild()
    assert desk.store.last_seq < 10_000
    assert desk.live() == ["s", "t"]


def test_a_survey_names_the_greatest_number_of_the_feed(desk: Desk):
    found = survey(desk.root, aside=desk.aside)
    assert [each.session for each in found.candidates] == ["s", "t"]
    revs = [parse(path.read_bytes()).header for path in desk.files()]
    assert found.last_seq == max(int((head.rev or "").partition(".")[2]) for head in revs if head)
