"""Which editor is chosen, and what it is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from steno.cli.editors import Editor, Spot, editor
from steno.storage.errors import InvalidInput

FILE, SPOT = "/s/a b.jsonl", Spot(4, 17)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory of programs, none so far."""
    place = tmp_path / "bin"
    place.mkdir()
    return place


def put(programs: Path, *names: str) -> dict[str, str]:
    """Make programs that do nothing; the environment in which only they are found."""
    for name in names:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o700)
    return {"PATH": str(programs)}


@pytest.mark.parametrize(
    ("installed", "variables", "words"),
    [
        (["mine", "yours", "nano"], {"VISUAL": "mine", "EDITOR": "yours"}, ["mine"]),
        (["yours", "nano"], {"EDITOR": "yours"}, ["yours"]),
        (["yours"], {"VISUAL": "", "EDITOR": " yours "}, ["yours"]),
        (["code"], {"EDITOR": "code --wait --user-data-dir 'a b'"}, ["code", "--wait", "--user-data-dir", "a b"]),
        (["nano", "vim", "vi"], {}, ["nano"]),
        (["vim", "vi"], {}, ["vim"]),
        (["vi"], {}, ["vi"]),
    ],
)
def test_the_editor_is_that_of_the_person_or_the_first_that_is_found(
    programs: Path, installed: list[str], variables: dict[str, str], words: list[str]
) -> None:
    assert editor({**put(programs, *installed), **variables}).words == words


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"EDITOR": "gone -w"}, "EDITOR names no program that is found: gone"),
        ({"VISUAL": "nano 'a"}, "VISUAL is no command"),
        ({}, "no editor is found"),
    ],
)
def test_an_editor_that_cannot_be_run_is_said_before_anything_is_done(
    programs: Path, variables: dict[str, str], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        editor({**put(programs, "other"), **variables})


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("vi", ["vi", "+4", FILE]),
        ("/usr/bin/vim -u NONE", ["/usr/bin/vim", "-u", "NONE", "+4", FILE]),
        ("nvim", ["nvim", "+4", FILE]),
        ("nano", ["nano", "+4,17", FILE]),
        ("emacs -nw", ["emacs", "-nw", "+4:17", FILE]),
        ("emacsclient", ["emacsclient", "+4:17", FILE]),
        ("micro", ["micro", "+4:17", FILE]),
        ("kak", ["kak", "+4:17", FILE]),
        ("hx", ["hx", f"{FILE}:4:17"]),
        ("subl -w", ["subl", "-w", f"{FILE}:4:17"]),
        ("code --wait", ["code", "--wait", "--goto", f"{FILE}:4:17"]),
        ("ed", ["ed", FILE]),
        ("an-editor-of-mine", ["an-editor-of-mine", FILE]),
    ],
)
def test_an_editor_is_told_the_place_as_it_takes_it(command: str, told: list[str]) -> None:
    assert Editor(command.split()).command(FILE, SPOT) == told


def test_without_a_place_an_editor_is_told_the_file_alone() -> None:
    assert Editor(["code", "--wait"]).command(FILE) == ["code", "--wait", FILE]


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("code", "--wait"),
        ("subl", "--wait"),
        ("gvim", "-f"),
        ("code --wait", None),
        ("code -w", None),
        ("gvim -f", None),
        ("vim", None),
        ("mine", None),
    ],
)
def test_an_editor_that_returns_at_once_is_known(command: str, wanted: str | None) -> None:
    assert Editor(command.split()).patience == wanted


def test_ctrl_c_is_the_editor_s_own(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nkill -INT {os.getpid()}\nexit 7\n")
    program.chmod(0o700)
    assert Editor([str(program)]).run(FILE) == 7
    assert signal.getsignal(signal.SIGINT) is before


def test_an_editor_that_ctrl_c_ends_is_ended_by_it() -> None:
    assert Editor(["sh", "-c", "kill -INT $$; exit 7"]).run(FILE) == -signal.SIGINT
