"""A save in the editor, and when another process finds it in the store: a real daemon, and files as editors write them.

Measured from the moment at which a file is closed, or renamed into its place, to the first look of a connection of
this process that finds the new text.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from generate import Prose
from homes import Home, until
from listing import fill
from measure import Bench, Figure, percentile

from steno.storage.database import Database

GOAL_P50_MS, GOAL_P99_MS = 150.0, 600.0
PER_SESSION = 40
WRITTEN_WITHIN_S = 120.0


class Row(msgspec.Struct, frozen=True):
    """A message of a session, as the store numbers and names it."""

    session: int
    id: str


def figures(bench: Bench) -> list[Figure]:
    """Saves in place and by rename, each of another session than the one before."""
    scale, prose, draw = bench.scale, Prose(11), random.Random(11)
    home = Home(bench.folder / "saving")
    home.steno("init")
    fill(home.database, scale.edited, messages=PER_SESSION)
    took: dict[str, list[float]] = {in_place.__name__: [], by_rename.__name__: []}
    with home.daemon(), Database(home.database, read_only=True) as database:
        until(lambda: len(_files(home)) == scale.edited, "the files are written", within_s=WRITTEN_WITHIN_S)
        files = _files(home)
        draw.shuffle(files)
        for at in range(scale.saves + 1):
            way = (in_place, by_rename)[at % 2]
            ms = _save(database, files[at % len(files)], prose.text(300), way) * 1e3
            if at:
                took[way.__name__].append(ms)
            time.sleep(draw.uniform(0, scale.breath_s))
    every = sorted(ms for way in took.values() for ms in way)
    spread = f"{every[0]:.0f}-{every[-1]:.0f} ms"
    for name, found in took.items():
        bench.say(f"{len(found)} saves {name}: p50 {statistics.median(found):.0f} ms, most {max(found):.0f} ms")
    what = f"save in the editor, in the store ({len(every)} saves)"
    return [
        _within(f"{what}, p50", statistics.median(every), GOAL_P50_MS, spread),
        _within(f"{what}, p99", percentile(every, 0.99), GOAL_P99_MS, spread),
    ]


def in_place(path: Path, data: bytes) -> float:
    """Truncate and write, as nano does; the moment before it is closed."""
    with path.open("wb", buffering=0) as file:
        file.write(data)
        return time.perf_counter()


def by_rename(path: Path, data: bytes) -> float:
    """Write beside and rename, as many editors do; the moment before it is renamed."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(data)
    moment = time.perf_counter()
    beside.rename(path)
    return moment


def _save(database: Database, path: Path, text: str, way: Callable[[Path, bytes], float]) -> float:
    """Give one message of a file another text; the seconds until the store holds it."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = len(lines) // 2
    shown = msgspec.json.decode(lines[at])
    [no] = database.one("SELECT no FROM sessions WHERE id = ?", (msgspec.json.decode(lines[0])["id"],))
    lines[at] = msgspec.json.encode({**shown, "content": text}) + b"\n"
    row = Row(no, shown["id"])
    began = way(path, b"".join(lines))
    until(lambda: _holds(database, row, text), f"the store holds what was saved in {path}")
    return time.perf_counter() - began


def _holds(database: Database, row: Row, text: str) -> bool:
    sql = "SELECT 1 FROM messages WHERE session = ? AND id = ? AND content = ?"
    return database.one(sql, (row.session, row.id, text)) is not None


def _files(home: Home) -> list[Path]:
    return sorted((home.folder / "sessions").rglob("*.jsonl"))


def _within(what: str, ms: float, goal: float, spread: str) -> Figure:
    return Figure(what=what, ours=f"{ms:.0f} ms", yardstick="-", value=ms, goal=goal, unit="ms", spread=spread)
