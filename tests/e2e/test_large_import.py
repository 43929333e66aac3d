"""A file far larger than what it takes to import it: memory stays small, and a bar says how far it is."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from steno.storage.store import Store

STENO = [sys.executable, "-m", "steno.cli.main"]
IMPORTING = """
import pathlib, sys
from steno.cli.main import main
code = main(["import", *sys.argv[1:]])
print(pathlib.Path("/proc/self/status").read_text())
sys.exit(code)
"""
SIZE_BYTES = 60_000_000
MOST_MB = 110
WORDS = "the quick brown fox jumps over the lazy dog and goes on "


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ChatGPT's export: one line of many conversations."""
    return _written(tmp_path_factory.mktemp("large"), SIZE_BYTES // 400_000, said=10, words=700)


@pytest.fixture(scope="module")
def tedious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of so many messages that it takes a while."""
    return _written(tmp_path_factory.mktemp("tedious"), 300, said=100, words=1)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    Store(tmp_path / "steno.db").close()
    return {**os.environ, "STENO_HOME": str(tmp_path)}


def _written(folder: Path, conversations: int, *, said: int, words: int) -> Path:
    path = folder / "conversations.json"
    with path.open("w") as file:
        for number in range(conversations):
            file.write(("," if number else "[") + json.dumps(_conversation(number, said=said, words=words)))
        file.write("]")
    return path


def _conversation(number: int, *, said: int, words: int) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for at in range(said):
        content = {"content_type": "text", "parts": [f"{number} {at} {WORDS * words}"]}
        message = {"id": f"{number}-{at}", "author": {"role": "user"}, "content": content}
        mapping[str(at)] = {"id": str(at), "parent": str(at - 1) if at else None, "children": [], "message": message}
    return {"id": f"c{number}", "title": "T", "create_time": 1.7e9, "mapping": mapping, "current_node": str(said - 1)}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory a process took")
def test_a_large_export_takes_little_memory(export: Path, environment: dict[str, str], tmp_path: Path) -> None:
    # Not `getrusage`: that counts what the process that started it held.
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, str(export)], env=environment, check=True, stdout=subprocess.PIPE
    )
    assert int(done.stdout.partition(b"VmHWM:")[2].split()[0]) * 1024 < MOST_MB * 1_000_000
    with Store(tmp_path / "steno.db", read_only=True) as store:
        assert store.count() == (SIZE_BYTES // 400_000, SIZE_BYTES // 40_000)


def test_a_bar_says_how_far_it_is_and_goes_away(tedious: Path, environment: dict[str, str]) -> None:
    shown, terminal = pty.openpty()
    process = subprocess.Popen(
        [*STENO, "import", str(tedious)], env=environment, stdout=subprocess.DEVNULL, stderr=terminal
    )
    os.close(terminal)
    said = b""
    while True:
        try:
            more = os.read(shown, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        said += more
    os.close(shown)
    assert process.wait() == 0
    assert b"[####" in said
    assert b"%, " in said
    assert said.endswith(b"\r\x1b[K")
