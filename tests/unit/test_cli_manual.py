"""The reference is what the commands say, and they say something of everything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest

from steno.cli.main import steno
from steno.cli.manual import MAN, PAGE, entries, main, man, markdown
from steno.cli.verbs import VERBS
from steno.tests.unit.test_cli_verbs import LEAVES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", [PAGE, MAN])
def test_what_is_checked_in_is_what_the_commands_say(name: str, tmp_path: Path) -> None:
    main(tmp_path)
    same = (DOCS / name).read_bytes() == (tmp_path / name).read_bytes()
    assert same, f"docs/{name} is out of date: `make docs` writes it anew"


@pytest.mark.parametrize("path", LEAVES)
def test_every_verb_and_every_option_says_what_it_does(path: str) -> None:
    command = LEAVES[path]
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert (bool(command.help), [each.name for each in options if not each.help]) == (True, [])


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_with_every_option_stands_in_both(name: str) -> None:
    page, manual = markdown(), man().replace("\\-", "-")
    for entry in entries(name):
        assert f"\n### {entry.path}\n" in page
        assert f"\n.SS {entry.path}\n" in manual
        assert [option for option, _ in entry.options if f"- `{option}`: " not in page] == []
        assert [option for option, _ in entry.options if f"\n.B {option}\n" not in manual] == []


def test_no_option_is_left_out() -> None:
    named = {option for name in VERBS for entry in entries(name) for option, _ in entry.options}
    spoken = {word.strip(",") for each in named for word in each.replace(" / ", " ").split()}
    options = [each for leaf in LEAVES.values() for each in leaf.params if isinstance(each, click.Option)]
    assert [each.opts for each in options if not each.hidden and not set(each.opts) <= spoken] == []


def test_the_line_behind_the_name_is_the_program_s_own() -> None:
    assert steno.help is not None
    assert steno.help.split(":")[0].lower().startswith("keep your ai and chat sessions")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_man_page_has_no_fault() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-z", str(DOCS / MAN)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
