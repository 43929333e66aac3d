"""The directory is compared with its records in one pass: what differs is found, whatever the names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.sync.files.walk import Differences, Directory, differences

NAMES = st.sampled_from(["a", "a-b", "a.b", "b", "é", "0", "a~x", "2026"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".jsonl")


def _make(root: Path, relative: str) -> None:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def _looks(root: Path, relatives: set[str]) -> list[tuple[str, int, int, int]]:
    found = []
    for each in sorted(relatives):
        status = (root / each).lstat()
        found.append((each, status.st_size, status.st_mtime_ns, status.st_ino))
    return found


def _shown(root: Path, found: Differences) -> tuple[set[str], set[str]]:
    return {str(path.relative_to(root)) for path in found.changed}, set(found.gone)


@settings(deadline=None)
@given(st.sets(PLACES), st.sets(PLACES), st.sets(PLACES))
def test_new_changed_and_vanished_files_are_told_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, same: set[str], new: set[str], gone: set[str]
):
    root = tmp_path_factory.mktemp("sessions")
    for each in same | new | gone:
        _make(root, each)
    records = _looks(root, same | (gone - new))
    for each in gone - same - new:
        (root / each).unlink()
    found = differences(Directory(root), records)
    assert _shown(root, found) == (new - same, gone - same - new)


def test_a_file_of_another_look_is_told(tmp_path: Path):
    _make(tmp_path, "2026/11/a.jsonl")
    records = _looks(tmp_path, {"2026/11/a.jsonl"})
    (tmp_path / "2026/11/a.jsonl").write_text("longer")
    assert _shown(tmp_path, differences(Directory(tmp_path), records)) == ({"2026/11/a.jsonl"}, set())


def test_what_stands_in_the_place_of_a_file_is_told_as_changed_not_as_gone(tmp_path: Path):
    for name in ("folder.jsonl", "link.jsonl", "dangling.jsonl"):
        _make(tmp_path, name)
    records = _looks(tmp_path, {"folder.jsonl", "link.jsonl", "dangling.jsonl"})
    for name in ("folder.jsonl", "link.jsonl", "dangling.jsonl"):
        (tmp_path / name).unlink()
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to("/etc/passwd")
    (tmp_path / "dangling.jsonl").symlink_to("nowhere")
    found = differences(Directory(tmp_path), records)
    assert _shown(tmp_path, found) == ({"folder.jsonl", "link.jsonl", "dangling.jsonl"}, set())


def test_hidden_folders_and_links_to_folders_are_not_entered(tmp_path: Path):
    _make(tmp_path / "elsewhere", "a.jsonl")
    root = tmp_path / "sessions"
    _make(root, ".git/x.jsonl")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert _shown(root, differences(Directory(root), [])) == (set(), set())


def test_files_that_a_crash_left_are_told_apart(tmp_path: Path):
    _make(tmp_path, "2026/.steno-0011.x.jsonl.part")
    with (tmp_path / "2026/.steno-0022.x.jsonl.swap").open("w"):
        pass
    found = differences(Directory(tmp_path), [])
    assert ([path.name for path in found.torn], [path.name for path in found.leftovers]) == (
        [".steno-0011.x.jsonl.part"],
        [".steno-0022.x.jsonl.swap"],
    )


def test_a_name_that_is_no_text_is_told_as_changed(tmp_path: Path):
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl")
    Path(strange).write_text("x")
    _make(tmp_path, "z.jsonl")
    records = _looks(tmp_path, {"z.jsonl"})
    assert differences(Directory(tmp_path), records).changed == [Path(strange)]


def test_a_system_that_finds_files_by_their_whole_paths_only_tells_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for each in ("2026/a.jsonl", "2026/b.jsonl", "c.jsonl"):
        _make(tmp_path, each)
    records = _looks(tmp_path, {"2026/a.jsonl", "c.jsonl"})
    monkeypatch.setattr(os, "supports_dir_fd", set())
    assert _shown(tmp_path, differences(Directory(tmp_path), records)) == ({"2026/b.jsonl"}, set())
