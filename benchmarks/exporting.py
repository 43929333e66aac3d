"""Many sessions out into one JSON file and in again, as whole commands; and a file far larger than memory should be."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from generate import Prose, messages
from measure import Bench, Figure, Noted, seconds_of

from steno.storage.model import NewMessage
from steno.storage.store import Store

GOAL_EXPORT_MB_PER_S, GOAL_IMPORT_MB_PER_S, GOAL_MEMORY_MB = 40.0, 25.0, 200.0
SAID = 20
_NODES = 40
# The most memory that a command took, in KiB on Linux: of the children of one process, only it.
_MEASURED = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def figures(bench: Bench) -> list[Figure | Noted]:
    """How fast sessions leave and come back, and what a large file of another program takes."""
    sessions = bench.scale.exported
    home = _home(bench.folder / "home")
    fill(home / "steno.db", sessions)
    file = bench.folder / "all.json"
    out: list[float] = []
    back: list[float] = []
    for at in range(bench.scale.import_rounds):
        out.append(seconds_of(lambda: _steno(home, "export", "--all", "-o", str(file))))
        other = _home(bench.folder / f"other-{at}")
        Store(other / "steno.db").close()
        back.append(seconds_of(lambda other=other: _steno(other, "import", str(file))))
        for each in other.iterdir():
            each.unlink()
    size_mb = file.stat().st_size / 1e6
    bench.say(f"{sessions:,} sessions of {SAID} messages are {size_mb:,.1f} MB")
    memory, seconds, large_bytes = _large(bench)
    return [
        _rate(f"export of {sessions:,} sessions to one JSON", out, size_mb, goal=GOAL_EXPORT_MB_PER_S),
        _rate(f"import of {sessions:,} sessions from one JSON", back, size_mb, goal=GOAL_IMPORT_MB_PER_S),
        Figure(
            what=f"memory for importing {bench.scale.large_bytes / 1e9:g} GB of ChatGPT",
            ours=f"{memory:.0f} MB",
            yardstick=f"{large_bytes / 1e6:,.0f} MB of JSON",
            value=memory,
            goal=GOAL_MEMORY_MB,
            unit="MB",
        ),
        Noted("time for importing it", f"{seconds:.1f} s, {large_bytes / 1e6 / seconds:.1f} MB/s"),
    ]


def fill(database: Path, sessions: int) -> None:
    """Make a store of sessions as people have them."""
    prose = Prose(5)
    with Store(database) as store:
        for first in range(0, sessions, 500):
            with store.transaction():
                for _ in range(first, min(first + 500, sessions)):
                    made = store.create(
                        title=prose.text(45).replace("\n", " "),
                        provider="anthropic",
                        model="claude",
                        tags=[prose.name(), prose.name()],
                        metadata={"project": prose.name()},
                    )
                    said = [NewMessage(role=role, content=text) for role, text in messages(prose, SAID)]
                    store.add_messages(made.id, said)


def write_chatgpt(file: Path, size_bytes: int) -> int:
    """Write an export of ChatGPT's shape of about a size, on one line; returns how large it is."""
    prose = Prose(6)
    texts = [text for _, text in messages(prose, 2000)]
    number = 0
    with file.open("w", encoding="utf-8") as out:
        out.write("[")
        while out.tell() < size_bytes:
            out.write((", " if number else "") + json.dumps(_conversation(number, texts)))
            number += 1
        out.write("]")
    return file.stat().st_size


def _conversation(number: int, texts: list[str]) -> dict[str, object]:
    began = 1_700_000_000 + number * 60
    mapping: dict[str, object] = {"root": {"id": "root", "parent": None, "children": ["0"], "message": None}}
    for at in range(_NODES):
        mapping[str(at)] = {
            "id": str(at),
            "parent": str(at - 1) if at else "root",
            "children": [str(at + 1)],
            "message": {
                "id": f"{number}-{at}",
                "author": {"role": "assistant" if at % 2 else "user", "name": None, "metadata": {}},
                "create_time": began + at + 0.25,
                "content": {"content_type": "text", "parts": [texts[(number * _NODES + at) % len(texts)]]},
                "status": "finished_successfully",
                "weight": 1.0,
                "metadata": {"model_slug": "gpt-4o", "request_id": f"r{number}", "timestamp_": "absolute"},
                "recipient": "all",
            },
        }
    return {
        "title": f"Conversation {number}", "create_time": float(began), "update_time": began + 99.5,
        "mapping": mapping, "current_node": str(_NODES - 1), "conversation_id": f"conversation-{number}",
        "id": f"conversation-{number}",
    }  # fmt: skip


def _large(bench: Bench) -> tuple[float, float, int]:
    """Megabytes of memory and seconds that a large import takes, and how large it is."""
    file = bench.folder / "conversations.json"
    size_bytes = write_chatgpt(file, bench.scale.large_bytes)
    home = _home(bench.folder / "large")
    Store(home / "steno.db").close()
    memory: list[str] = []
    seconds = seconds_of(lambda: memory.append(_steno(home, "import", str(file), measured=True)))
    file.unlink()
    return int(memory[0].split()[-1]) * 1024 / 1e6, seconds, size_bytes


def _rate(what: str, seconds: list[float], size_mb: float, *, goal: float) -> Figure:
    rates = [size_mb / each for each in seconds]
    return Figure(
        what=what,
        ours=f"{statistics.median(rates):.1f} MB/s",
        yardstick=f"{size_mb:,.1f} MB",
        value=statistics.median(rates),
        goal=goal,
        at_least=True,
        unit="MB/s",
        spread=f"{min(rates):.1f}-{max(rates):.1f}",
    )


def _home(place: Path) -> Path:
    place.mkdir()
    return place


def _steno(home: Path, *arguments: str, measured: bool = False) -> str:
    command = [str(Path(sys.executable).with_name("steno")), *arguments]
    before = [sys.executable, "-c", _MEASURED] if measured else []
    environment = {**os.environ, "STENO_HOME": str(home)}
    return subprocess.run([*before, *command], env=environment, check=True, capture_output=True, text=True).stdout
