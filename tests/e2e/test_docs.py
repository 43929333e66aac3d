"""What README and docs say is run as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from steno.storage.database import wall_ms
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.e2e.scripted_models import Models
from steno.tests.unit.test_settling import tell

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FIELD = r"""field() { sed -nE "s/.*\"$1\": ?\"([^\"]*)\".*/\1/p" "$2"; }"""


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _run(script: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "STENO_HOME": str(home / "device"),
        "STENO_PASSPHRASE": "a passphrase",
        **environment,
    }
    return subprocess.run(
        ["bash", "-eu", "-c", script],
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    claude = tmp_path / ".claude" / "projects" / "-home-ada-backend"
    claude.mkdir(parents=True)
    (claude / "sample.jsonl").write_bytes((ROOT / "cli" / "demo_sample" / "claude-code.jsonl").read_bytes())
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "config.toml").write_text("[daemon]\nport = 0\n", encoding="utf-8")
    return tmp_path


def test_the_first_look_of_the_readme_works(home: Path):
    first, imports = [block for block in _blocks("README.md", "sh") if "@last" in block]
    done = _run(f"steno init >/dev/null\n{first}\n{imports}", home)
    assert done.returncode == 0, done.stderr
    assert "Why does the token expire early?" in done.stdout
    assert "No results found." not in done.stdout
    assert json.loads((home / "session.json").read_text(encoding="utf-8"))["messages"]


def test_the_two_devices_of_the_readme_work(home: Path):
    (block,) = [block for block in _blocks("README.md", "sh") if "steno join" in block]
    lines = [line.replace("/media/usb/steno", str(home / "usb")) for line in block.splitlines()]
    make, join, *rest = lines
    second = f"STENO_HOME={home}/second"
    (home / "second").mkdir()
    (home / "second" / "config.toml").write_text("[daemon]\nport = 0\n", encoding="utf-8")
    script = "\n".join([make, f"{second} {join}", *rest, *(f"{second} {line}" for line in rest)])
    done = _run(f"trap 'steno daemon stop; {second} steno daemon stop' EXIT\n{script}", home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("has stopped") == 2


def test_the_library_example_of_the_readme_works(home: Path):
    (block,) = _blocks("README.md", "python")
    look = "print(manager.get_messages(session.id), manager.count('user123'))"
    done = subprocess.run(
        [sys.executable, "-c", f"{block}\n{look}"],
        cwd=home,
        env={"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[{'role': 'user', 'content': 'Hello!'}] 1\n", "")


def test_the_examples_of_the_http_page_work(home: Path):
    (block,) = _blocks("docs/http.md", "sh")
    done = _run(
        f"steno init >/dev/null; steno daemon start >/dev/null; trap 'steno daemon stop >/dev/null' EXIT\n{block}", home
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(each) for each in done.stdout.replace("}{", "}\n{").splitlines()]
    assert answers[0]["sessions"] == []
    assert answers[2]["hits"]


def test_the_examples_of_the_files_page_work(home: Path):
    look, resume = _blocks("docs/files.md", "sh")
    made = "steno init >/dev/null; steno create --id s --title T >/dev/null; steno add s Hello >/dev/null"
    done = _run(f"{made}\n{look}", home, EDITOR="sed -i s/Hello/Hi/")
    assert done.returncode == 0, done.stderr
    assert "Session s: 1 message edited." in done.stdout
    assert str(home / "device" / "sessions") in done.stdout
    vanish = 'rm -r "$STENO_HOME/sessions"; steno files rebuild || steno files status || true'
    done = _run(f"{vanish}\n{resume}\nsteno files status\nsteno show s", home)
    assert done.returncode == 0, done.stderr
    assert "Stands still:" in done.stdout
    assert "Hi" in done.stdout


def test_the_examples_of_the_maintenance_page_work(home: Path):
    block, rebuild = _blocks("docs/maintenance.md", "sh")
    done = _run(f"steno init >/dev/null; steno create --id s >/dev/null\n{block}\nsteno list", home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Saved 1 session with 0 messages") == 2
    assert "Restored 1 session with" in done.stdout
    assert len(list((home / "device" / "backups").iterdir())) == 2
    done = _run(f'steno files rebuild; rm "$STENO_HOME"/steno.db*\n{rebuild}\nsteno show s', home)
    assert done.returncode == 0, done.stderr
    assert "1 session with 0 messages: 0 from the remote" in done.stdout


def test_the_examples_of_the_page_of_sessions_work(home: Path):
    life, forks, figures = _blocks("docs/sessions.md", "sh")
    made = "steno init; steno create --id k3v9 --title 'REST API'; steno meta k3v9 project backend"
    done = _run(f"{made}\nfor each in 1 2 3; do steno add k3v9 $each; done\n{life}\n{forks}\n{figures}", home)
    assert done.returncode == 0, done.stderr
    for said in ("is archived now.", "k3v9  REST API  (3 messages)  ←", "└─", "has everything of", "Total Messages: 3"):
        assert said in done.stdout


def test_the_examples_of_the_page_of_chat_work(home: Path):
    models = Models(home / "models")
    (models.user / "aliases.json").write_text('{"sonnet": "scripted-other"}')
    [block] = _blocks("docs/chat.md", "sh")
    made = "steno init >/dev/null; git init -q; echo new > file; git add -N file"
    done = _run(f"{made}\n{block}\nsteno show --json Authentication", home, **models.environment)
    assert done.returncode == 0, done.stderr
    assert [(each["model"], len(each["told"])) for each in models.told()] == [
        ("scripted", 1), ("scripted", 3), ("scripted", 1), ("scripted-other", 1), ("scripted-other", 3),
    ]  # fmt: skip
    assert "You said: diff --git" in done.stdout


def test_the_examples_of_the_page_of_settings_work(home: Path):
    [block] = _blocks("docs/config.md", "sh")
    done = _run(block, home, EDITOR="sed -i 1i#mine")
    assert done.returncode == 0, done.stderr
    assert 'vault.local-only = ["private","diary"]' in done.stdout
    text = (home / "device" / "config.toml").read_text(encoding="utf-8")
    assert (text.startswith("#mine\n"), "port" in text) == (True, False)


def test_the_examples_of_the_vault_page_work(home: Path):
    blocks = [block.replace("/media/usb/steno", f"{home}/usb") for block in _blocks("docs/vault.md", "sh")]
    make, join, stays, share, pair, passwd, rotate, revoke, look, spare, leave, delete = blocks
    script = [
        FIELD,
        make,
        f"{stays}steno sync; {share}steno sync",
        f"export STENO_HOME={home}/second\n{join}steno show notes",
        pair.replace("steno pair", "steno pair --no-wait --json > offer"),
        f"export STENO_HOME={home}/third",
        'field secret offer | steno pair "$(field code offer)"',
        "steno sync; steno show notes",
        f"STENO_PASSPHRASE='another one' {passwd}",
        f"STENO_PASSPHRASE='another one' {rotate}",
        f"steno sync; STENO_HOME={home}/second steno sync",
        f"STENO_PASSPHRASE='a third one' {revoke}",
        f"steno sync; STENO_HOME={home}/second steno sync && exit 1",
        f"STENO_HOME={home}/second STENO_PASSPHRASE='a third one' steno join {home}/usb",
        f"STENO_HOME={home}/second steno sync",
        look,
        spare,
        leave,
        f"export STENO_HOME={home}/second",
        delete.replace("delete", "delete $(field vault second/vault.json)"),
        "steno show notes",
    ]
    done = _run("\n".join(script), home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("notes") >= 3
    assert "was revoked" in done.stderr
    assert "Nothing that this device holds is lost." in done.stdout
    assert [path for path in (home / "usb").rglob("*") if path.is_file()] == []


def test_the_examples_of_the_conflicts_page_work(home: Path):
    settling, _, history, syncing = _blocks("docs/conflicts.md", "sh")
    assert _run(f"steno init --remote {home}/usb", home).returncode == 0
    with Store(home / "device" / "steno.db") as here, Store(home / "other.db") as there:
        here.create(id="k3v9", title="First")
        here.append("k3v9", NewMessage(id="m-018f3a2b1c9d", role="user", content="text"))
        for line in settling.splitlines():
            tell(here, there)
            for store, value in ((here, "mine"), (there, "theirs")):
                store.update("k3v9", fields={"title": f"{value} {line}"})
            tell(there, here)
            done = _run(line, home)
            assert (done.returncode, "title" in done.stdout) == (0, True), done.stderr
        history = history.replace("--at 1234", f"--at {here.last_seq}").replace("2026-", "2126-")
    synced = syncing.replace("--force --pull", "--force --pull --yes")
    done = _run(f"{history}\nsteno sync\n{synced}", home)
    assert done.returncode == 0, done.stderr
    assert "What was here is kept in" in done.stdout


def test_the_examples_of_splitting_work(home: Path):
    [*first, last] = _blocks("docs/conflicts.md", "sh")[1].splitlines()
    assert _run("steno init", home).returncode == 0
    with (
        Store(home / "device" / "steno.db") as here,
        Store(home / "other.db", now_ms=lambda: wall_ms() + 5) as there,  # what it writes is the later one
    ):
        here.create(id="k3v9", title="First")
        for commands, message in ((first, "m-1"), ([last], "m-018f3a2b1c9d")):
            tell(here, there)
            for store, written in ((here, f"{message}-here"), (there, message)):
                store.append("k3v9", NewMessage(id=written, role="user", content="text"))
            tell(there, here)
            done = _run("\n".join(commands), home)
            assert done.returncode == 0, done.stderr
            assert "Moved 1 message of k3v9" in done.stdout
            assert [each.id for each in here.messages("k3v9")][-1] == f"{message}-here"


def test_the_examples_of_the_sql_page_work(home: Path):
    [shell] = _blocks("docs/sql.md", "sh")
    questions = [f"steno sql --write - <<'SQL'\n{block}SQL" for block in _blocks("docs/sql.md", "sql")]
    done = _run("\n".join(["steno init >/dev/null", shell, *questions]), home)
    assert done.returncode == 0, done.stderr
    assert "user1: Hello team! (from: Team Discussion)" in done.stdout
    assert re.search(r"Mobile Design Discussion +\w+ +2 ", done.stdout)


def test_the_library_example_of_the_sql_page_works(home: Path):
    [block] = _blocks("docs/sql.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=home, env={"HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("2 1 4\nuser1: Hello team!\n", "")


@pytest.mark.parametrize("word", ["up", "demo", "test", "acceptance", "faults", "check", "bench"])
def test_the_makefile_knows_the_words_of_the_readme(word: str):
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{word}:", rules, flags=re.MULTILINE)
