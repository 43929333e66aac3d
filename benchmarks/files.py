"""The directory of files: the first mirror, what every start looks at, and what files_saving and files_growing measure.

A mirror runs on a store of its own, with nothing around the class that the daemon uses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import files_growing
import files_saving
import msgspec
from files_store import bring_up, fill
from measure import Bench, Figure, LeftOut, Noted, compared, seconds_of, side_by_side

from steno.storage.model import format_ms
from steno.storage.packing import attach
from steno.storage.rows import SHOWN_COLUMNS
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.sync.files.lines import parse
from steno.sync.files.mirror import Mirror

GOAL_FIRST, GOAL_START = 2.0, 3.0


def figures(bench: Bench) -> list[Figure | LeftOut | Noted]:
    """Everything that is promised of the files."""
    return [*files_saving.figures(bench), first(bench), *start(bench), *files_growing.figures(bench)]


def first(bench: Bench) -> Figure:
    """Every session of a store into an empty directory, against its rows encoded, written beside and renamed."""
    sessions, each = bench.scale.mirrored, bench.scale.mirrored_messages
    source = bench.folder / "first.db"
    fill(source, sessions, each=each)
    bench.say(f"{sessions * each:,} messages take {source.stat().st_size / 1e6:.0f} MB")
    made: dict[str, Path] = {}

    def ours(at: int) -> float:
        made["ours"] = folder = _folder(bench, f"ours-{at}")
        with Store(shutil.copy(source, folder / "steno.db")) as store:
            mirror = Mirror(store, folder / "sessions")
            return _on_a_quiet_disk(lambda: bring_up(mirror))

    def yardstick(at: int) -> float:
        made["bare"] = folder = _folder(bench, f"bare-{at}")
        took = _on_a_quiet_disk(lambda: _write_bare(source, folder))
        if at == 0:
            assert _shown_below(made["ours"] / "sessions") == _shown_below(folder), "the files show the same messages"
        for path in made.values():
            shutil.rmtree(path)
        return took

    timed = side_by_side(ours, yardstick, rounds=bench.scale.first_rounds)
    source.unlink()
    return compared(f"first mirror, {sessions * each:,} messages", timed, goal=GOAL_FIRST, unit="s")


def start(bench: Bench) -> list[Figure | LeftOut | Noted]:
    """What a start costs where nothing changed, against a look at every file."""
    count = bench.scale.unchanged
    what = f"start with {count:,} unchanged files"
    find = shutil.which("find")
    if find is None:
        return [LeftOut(what, "find is not installed")]
    folder = _folder(bench, "unchanged")
    database, root, marker = folder / "steno.db", folder / "sessions", folder / "MARKER"
    fill(database, count, each=1)
    with Store(database) as store:
        took_s = seconds_of(lambda: bring_up(Mirror(store, root)))
    marker.touch()

    def ours(_: int) -> float:
        with Store(database) as store:
            return seconds_of(lambda: bring_up(Mirror(store, root)))

    def yardstick(_: int) -> float:
        began = time.perf_counter()
        found = subprocess.run([find, str(root), "-newer", str(marker)], check=True, stdout=subprocess.PIPE)
        took = time.perf_counter() - began
        assert not found.stdout, f"a start wrote to the directory: {found.stdout.decode()}"
        return took

    timed = side_by_side(ours, yardstick, rounds=bench.scale.start_rounds)
    again = files_growing.in_a_process("mirror", database, root)
    shutil.rmtree(folder)
    return [
        compared(what, timed, goal=GOAL_START, unit="s"),
        Noted(f"first mirror of {count:,} files", f"{took_s:.3g} s"),
        Noted(f"memory for a {what}", files_growing.memory(again)),
    ]


# The yardstick of the first mirror


class _Bare(msgspec.Struct, omit_defaults=True):
    id: str
    role: str
    content: Any
    timestamp: str
    sender: str | None = None
    parent: str | None = None
    model: str | None = None
    usage: Any = None
    metadata: Any = None
    origin: Any = None


def _write_bare(database: Path, folder: Path) -> None:
    """Select, encode, write beside, rename: what nobody can do without."""
    connection = dbapi.connect(str(database))
    attach(connection, compress=True)
    encoder = msgspec.json.Encoder()
    sessions = connection.execute("SELECT no, id, title, tags, metadata, state, created_ms FROM sessions")
    lines = f"SELECT {SHOWN_COLUMNS} FROM messages WHERE session = ? AND hidden = 0 ORDER BY ord"  # noqa: S608
    for no, session, title, tags, metadata, state, created_ms in sessions.fetchall():
        created = format_ms(created_ms)
        header = {
            "steno": 1, "id": session, "title": title, "tags": _raw(tags), "metadata": _raw(metadata),
            "state": _raw(state), "created_at": created,
        }  # fmt: skip
        data = encoder.encode_lines([header, *(_bare(*row) for row in connection.execute(lines, (no,)))])
        month = folder / created[:4] / created[5:7]
        temporary = month / f".{session}.part"
        month.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.rename(month / f"title.{session}.jsonl")
    connection.close()


def _bare(
    id_: str, role: str, content: Any, time_ms: int, time_text: str | None, sender: str | None, parent: str | None,
    model: str | None, usage: str | None, metadata: str | None, origin: str | None,
) -> _Bare:  # fmt: skip
    return _Bare(
        id_, role, content, time_text or format_ms(time_ms), sender, parent, model,
        usage and _raw(usage), metadata and _raw(metadata), origin and _raw(origin),
    )  # fmt: skip


def _raw(column: str) -> msgspec.Raw:
    return msgspec.Raw(column.encode())


def _shown_below(folder: Path) -> dict[str, Sequence[Any]]:
    """The messages that every file below a folder shows, by the id in its name."""
    return {path.name.split(".")[-2]: parse(path.read_bytes()).lines for path in folder.rglob("*.jsonl")}


def _folder(bench: Bench, name: str) -> Path:
    folder = bench.folder / name
    folder.mkdir()
    return folder


def _on_a_quiet_disk(call: Callable[[], object]) -> float:
    """How long a call takes when nothing of what was before is still to be written out."""
    os.sync()
    return seconds_of(call)
