"""The recipes of the session guide, run by a real shell as they are printed there, but for the name of the program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steno.storage.lineage import lineage
from steno.storage.model import NewMessage
from steno.storage.store import Store

Shell = Callable[[str], str]

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("jq") and not os.environ.get("STENO_REQUIRE_SERVERS"), reason="jq is not installed"
    ),
    pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed"),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "home").mkdir()
    store = Store(tmp_path / "home" / "steno.db")
    for number, session in enumerate(("abc123def456", "def456ghi789", "ghi789jkl012")):
        provider = "anthropic" if number else "openai"
        store.create(id=session, title=f"Topic {number}", provider=provider, metadata={"project": "project-x"})
        said = [NewMessage(role="user", content=f"{session} <{at}>") for at in range(2 * number)]
        store.add_messages(session, said)
    return store


@pytest.fixture
def shell(tmp_path: Path, store: Store) -> Shell:
    """Run a script as somebody would type it, with nothing but the programs of this environment and the system's."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "STENO_HOME": str(tmp_path / "home"), "PATH": programs, "HOME": str(tmp_path)}
    (tmp_path / "work").mkdir()

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment,
            cwd=tmp_path / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.check("AIN-43")
def test_a_loop_tags_several_sessions(shell: Shell, store: Store) -> None:
    shell("""
        for id in abc123 def456 ghi789; do
          steno tag $id project-x
        done
    """)
    assert [each.tags for each in store.sessions()] == [["project-x"]] * 3


@pytest.mark.check("AIN-43")
def test_what_a_list_names_is_exported_one_by_one(shell: Shell, store: Store, tmp_path: Path) -> None:
    shell("""
        steno list --project project-x --format json | \\
          jq -r '.[] | .id' | \\
          xargs -I {} steno export {} -o {}.json
    """)
    made = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "work").iterdir()}
    assert {name: len(each["messages"]) for name, each in made.items()} == {
        "abc123def456": 0, "def456ghi789": 2, "ghi789jkl012": 4,
    }  # fmt: skip


@pytest.mark.check("AIN-42")
def test_a_template_session_is_used_again(shell: Shell, store: Store) -> None:
    shell("""
        steno export ghi789 -o templates/api-dev.json
        steno import -i templates/api-dev.json --new-id
    """)
    [made] = {each.id for each in store.sessions()} - {"abc123def456", "def456ghi789", "ghi789jkl012"}
    assert [each.content for each in store.messages(made)] == [each.content for each in store.messages("ghi789jkl012")]


@pytest.mark.check("AIN-42")
def test_a_session_is_shared_by_a_file(shell: Shell, store: Store, tmp_path: Path) -> None:
    shell("""
        steno export def456 -o shared-session.json
        export STENO_HOME="$HOME/theirs"
        steno init
        steno import -i shared-session.json
    """)
    with Store(tmp_path / "theirs" / "steno.db", read_only=True) as theirs:
        assert list(theirs.messages("def456ghi789")) == list(store.messages("def456ghi789"))


@pytest.mark.check("AIN-42")
def test_a_session_is_branched_by_a_file(shell: Shell, store: Store) -> None:
    shell("""
        steno export def456 -o base-session.json
        steno import -i base-session.json --new-id --title "Branched Session"
    """)
    row = store.find(store.resolve("Branched Session"))
    assert row is not None
    assert (row.message_count, lineage(store, row)) == (2, ["def456ghi789"])


@pytest.mark.check("AIN-19")
def test_the_recipes_of_analytics_answer(shell: Shell) -> None:
    out = shell("""
        steno list --all --format json | jq length
        steno list --all --format json | \\
          jq -c 'group_by(.provider) | map({provider: .[0].provider, count: length})'
        steno list --all --format json | \\
          jq '[.[] | .message_count] | add / length'
        steno list --all --format json | jq -r '.[] | select(.id | contains("abc")) | .id'
    """)
    assert out.splitlines() == [
        "3", '[{"provider":"anthropic","count":2},{"provider":"openai","count":1}]', "2", "abc123def456",
    ]  # fmt: skip


@pytest.mark.check("AIN-52")
def test_the_weekly_backup_runs_without_a_terminal(shell: Shell, tmp_path: Path) -> None:
    assert shell("steno export --all -o ~/backups/sessions-$(date +%Y%m%d).json") == ""
    [made] = (tmp_path / "backups").iterdir()
    assert len(json.loads(made.read_text())) == 3


@pytest.mark.check("AIN-29")
def test_what_was_exported_is_json_for_others_too(shell: Shell) -> None:
    assert shell("""
        steno export ghi789 -o session.json
        cat session.json | jq -c '{id, title, messages: (.messages | length)}'
        steno export ghi789 -o - | jq -r '.messages[0].content'
    """).splitlines() == ['{"id":"ghi789jkl012","title":"Topic 2","messages":4}', "ghi789jkl012 <0>"]


@pytest.mark.check("AIN-24")
def test_a_place_that_cannot_be_written_leaves_nothing_behind(shell: Shell, tmp_path: Path) -> None:
    out = shell("""
        touch file
        steno export ghi789 -o file/x.json || echo "exit $?"
        steno export ghi789 > redirected.json || echo "exit $?"
        ls
    """)
    assert out.splitlines() == ["exit 1", "file", "redirected.json", "session-ghi789jkl012.json"]
