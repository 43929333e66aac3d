"""A shell is offered what stands in the store, quickly, and never a message instead."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from steno.cli.completing import SHELLS, kind_of
from steno.cli.main import main
from steno.storage.store import Store
from steno.tests.unit.test_cli_verbs import LEAVES

Offered = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STENO_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def store(home: Path) -> None:
    with Store(home / "steno.db") as opened:
        opened.create(
            id="abc1", title="Bug Investigation", tags=["go", "api"], provider="anthropic", user_id="ada",
            metadata={"project": "backend"},
        )  # fmt: skip
        opened.create(id="abd2", title="It's 5$, (maybe)", model="gpt-5")
        opened.create(id="gone", title="Gone")
        opened.delete("gone")
        opened.create(id="bad\u202eid", title="\x1b[31mred")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offered:
    """What bash is offered behind words, the last of them half-typed."""

    def asked(*words: str, shell: str = "bash") -> list[str]:
        monkeypatch.setenv("_STENO_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["steno", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert main([]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return [line.partition(",")[2] for line in out.splitlines() if line]

    return asked


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sho"], ["show"]),
        (["show", "--sum"], ["--summary"]),
        (["show", "ab"], ["abc1", "abd2"]),
        (["show", "abc"], ["abc1"]),
        (["show", "Bug"], ["Bug\\ Investigation"]),
        (["show", '"Bug I'], ["Bug Investigation"]),
        (["show", "It"], ["It\\'s\\ 5\\$,\\ \\(maybe\\)"]),
        (["show", ""], ["abd2", "abc1"]),
        (["view", "abc"], ["abc1"]),
        (["delete", "abc1", "abd"], ["abd2"]),
        (["restore", "g"], ["gone"]),
        (["show", "g"], []),
        (["files", "path", "abc"], ["abc1"]),
        (["conflicts", "show", "abc"], ["abc1"]),
        (["search", "--session", "abc"], ["abc1"]),
        (["list", "--tag", ""], ["api", "go"]),
        (["tag", "abc1", "g"], ["go"]),
        (["list", "--provider", "an"], ["anthropic"]),
        (["list", "--project", "b"], ["backend"]),
        (["list", "--user", ""], ["ada"]),
        (["list", "--status", "p"], ["paused"]),
        (["create", "--model", ""], ["gpt-5"]),
        (["list", "--tag=a"], ["api"]),
    ],
)
def test_what_is_half_typed_is_completed(offered: Offered, words: list[str], expected: list[str]) -> None:
    assert sorted(offered(*words)) == sorted(expected)


@pytest.mark.usefixtures("store")
def test_a_name_of_a_file_is_left_to_the_shell(offered: Offered) -> None:
    assert offered("import", "x") == ["x"]


@pytest.mark.parametrize("words", [["show", "a"], ["list", "--tag", ""], ["nonsense", "a"], ["show", "'"], []])
@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_home_nothing_is_offered_and_nothing_is_said(offered: Offered, words: list[str], shell: str) -> None:
    offered(*words, shell=shell)


def test_a_database_that_is_none_offers_nothing(offered: Offered, home: Path) -> None:
    (home / "steno.db").write_bytes(b"no database" * 1000)
    assert offered("show", "a") == []


def test_a_store_is_asked_for_a_bounded_number_of_names(offered: Offered, home: Path) -> None:
    with Store(home / "steno.db") as opened, opened.transaction():
        for at in range(300):
            opened.create(id=f"s{at:04d}", title=f"s title {at}")
    assert len(offered("show", "s")) == 50


@pytest.mark.parametrize("path", LEAVES)
def test_every_parameter_that_names_a_session_is_completed(path: str) -> None:
    named = [each for each in LEAVES[path].params if each.name in ("session", "sessions", "fork", "tag", "project")]
    plain = [each for each in named if not (isinstance(each, click.Option) and each.is_flag)]
    assert [each.name for each in plain if kind_of(LEAVES[path], each) is None] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_printed_for_a_shell_is_a_script_that_it_reads(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    assert subprocess.run([program, "-n", str(script)], capture_output=True, check=False).stderr == b""


def test_the_shell_is_the_one_in_use_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main(["completion"]) == 0
    assert "complete --no-files --command steno" in capsys.readouterr().out
    monkeypatch.setenv("SHELL", "/bin/odd")
    assert main(["completion"]) == 2
