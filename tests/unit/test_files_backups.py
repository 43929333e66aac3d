"""Editors that rename the file to a backup and write it anew under its name: the session stays where it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_files_mirror import Desk

NAMES = [
    "{}.bak", "{}~", "{}.orig", "#{}#", "{}.~1~", "{}.old", ".{}.swp", "{}.1",
    "{stem}.bak", "{stem}~", "{stem}.orig", "{stem}.old",
    "bak_{}", "{stem}.bak.jsonl", "{stem}~.jsonl", "{stem}.orig.jsonl", "zz.jsonl", "00.jsonl",
]  # fmt: skip
"""What editors, `sed -i`, `cp --backup` and people call a backup."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(params=NAMES)
def saved(request: pytest.FixtureRequest, desk: Desk) -> tuple[str, Path, Path, str]:
    """A session, its file, what that is renamed to, and what is saved in its place."""
    session = desk.session("one", "two")
    desk.write()
    path = desk.path(session)
    backup = path.with_name(request.param.format(path.name, stem=path.name.removesuffix(".jsonl")))
    return session, path, backup, path.read_text().replace('"content":"one"', '"content":"edited"')


def _is_settled(desk: Desk, session: str, path: Path, backup: Path) -> None:
    """The session is the file's, with the edit; a backup that is called like a session's file is a copy of its own."""
    for _ in range(3):
        desk.mirror.scan()
        desk.write()
    record = desk.mirror._ledger.of(desk.store.live(session).no)
    assert record is not None
    assert record.path == str(path.relative_to(desk.root))
    assert desk.contents(session) == desk.shown(session) == ["edited", "two"]
    copies = [desk.contents(each) for each in desk.live() if each != session]
    assert copies == ([["one", "two"]] if backup.name.endswith(".jsonl") else [])
    assert backup.exists()
    assert desk.mirror.refused() == []


@pytest.mark.parametrize("backwards", [False, True])
def test_seen_at_once(desk: Desk, saved: tuple[str, Path, Path, str], backwards: bool):
    session, path, backup, text = saved
    path.rename(backup)
    path.write_text(text)
    desk.mirror.saved([backup, path] if backwards else [path, backup])
    _is_settled(desk, session, path, backup)


def test_seen_by_a_scan(desk: Desk, saved: tuple[str, Path, Path, str]):
    session, path, backup, text = saved
    path.rename(backup)
    path.write_text(text)
    _is_settled(desk, session, path, backup)


@pytest.mark.parametrize("empty", [False, True])
def test_seen_one_after_the_other(desk: Desk, saved: tuple[str, Path, Path, str], empty: bool):
    session, path, backup, text = saved
    path.rename(backup)
    gone = desk.mirror.saved([path, backup])
    desk.mirror.write_pending()
    if empty:
        path.touch()
        desk.mirror.saved([path])
    path.write_text(text)
    desk.mirror.saved([path])
    desk.mirror.vanished(gone)
    _is_settled(desk, session, path, backup)
