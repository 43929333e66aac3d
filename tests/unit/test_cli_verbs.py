"""The table of verbs agrees with the verbs, and looking at sessions imports little."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from steno.cli.main import main, steno
from steno.cli.verbs import ALIASES, SESSIONS, VERBS, Verbs
from steno.storage.store import Store

HEAVY = (
    "aiohttp", "asyncio", "cryptography", "opendal", "platformdirs", "rich", "sqlite_utils", "watchdog", "zstandard",
    "steno.storage.transcripts", "steno.storage.search", "steno.sync", "steno.daemon",
)  # fmt: skip


FOR_PEOPLE = {"up", "daemon run", "demo", "export", "completion"}
"""What runs until it is ended, or is looked at; an export has formats of its own, a completion is read by a shell."""


def leaves(found: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every verb that does something, with the words that call it."""
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            assert below is not None
            yield from leaves(below, (*path, name))
    if not isinstance(found, click.Group) or found.invoke_without_command:
        yield " ".join(path), found


LEAVES = {path: found for path, found in leaves(steno) if path}


def command(name: str) -> click.Command:
    found = Verbs().get_command(click.Context(steno), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SESSIONS)
def test_the_line_in_the_table_is_the_verb_s_own(name: str) -> None:
    assert command(name).get_short_help_str(limit=200) == SESSIONS[name][1]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"steno {name}" in capsys.readouterr().out.partition("xample")[2]


@pytest.mark.parametrize("path", LEAVES)
def test_every_verb_below_another_shows_an_example(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path.split(), "--help"]) == 0
    assert f"steno {path}" in capsys.readouterr().out.partition("xample")[2]


@pytest.mark.parametrize("path", sorted(LEAVES.keys() - FOR_PEOPLE))
def test_every_verb_that_prints_does_so_for_programs_too(path: str) -> None:
    assert {option for each in LEAVES[path].params for option in each.opts} >= {"--format", "--json"}


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_is_its_verb(alias: str, name: str) -> None:
    assert command(alias) is command(name)


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert listed >= VERBS.keys()


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lst"]) == 2
    assert capsys.readouterr().err == "Error: there is no verb lst; did you mean list?: see `steno --help`\n"


def test_a_mistyped_option_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--limt", "3"]) == 2
    assert "Did you mean '--limit'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"], ["list", "--json"], ["list", "--since", "30d", "--cursor", ""], ["show", "x"], ["stats"],
        ["show", "x", "--format", "md"], ["--help"], ["sql", "SELECT 1"], [], ["delete", "x", "--dry-run"],
    ],
)  # fmt: skip
def test_looking_at_sessions_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    with Store(tmp_path / "steno.db") as store:
        store.create(id="x", title="日本")
    script = f"import sys; from steno.cli.main import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"STENO_HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    imported = done.stderr.split()
    assert "click" in imported
    light = set() if arguments else {"steno.daemon", "steno.daemon.lock"}  # which asks for a lock, and no more
    assert [name for name in imported if name.startswith(HEAVY) and name not in light] == []
