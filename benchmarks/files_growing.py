"""The file of a long session: while another process appends to the session, after a burst, and edited at one line.

The mirror is driven as the daemon drives it: when the feed moved, and after the time that it asked for.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from files_store import bring_up, fill
from generate import Prose
from measure import Bench, Figure, Noted

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror

GOAL_BUSY_PERCENT, GOAL_WRITE_TIMES = 5.0, 20.0
PACE_S, BURST_PAUSE_S = 0.1, 0.002
SHORT = 40
_LOOK_S = 0.01
_END_BYTES = 1 << 16
_PROCESS = Path(__file__).with_name("files_process.py")


class Watched:
    """A mirror at work on a store of one session, and how long its calls took."""

    def __init__(self, store: Store, root: Path) -> None:
        self._store = store
        self._mirror = Mirror(store, root)
        bring_up(self._mirror)
        [self._file] = root.rglob("*.jsonl")
        self._inode = self._file.stat().st_ino
        self.busy_s = 0.0
        self.writes: list[float] = []

    def work(self, done: Callable[[], bool]) -> None:
        """Do what the daemon does until something is true."""
        seen, due = -1, 0.0
        while not done():
            now = time.monotonic()
            if (last := self._store.last_seq) != seen or now >= due:
                wait_s = self._call()
                seen, due = last, time.monotonic() + (_LOOK_S if wait_s is None else wait_s)
            time.sleep(_LOOK_S)

    def shows(self, message: str) -> bool:
        """Say whether a message stands at the end of the file."""
        with self._file.open("rb") as file:
            file.seek(max(0, self._file.stat().st_size - _END_BYTES))
            return f'"{message}"'.encode() in file.read()

    def _call(self) -> float | None:
        began = time.perf_counter()
        wait_s = self._mirror.write_pending()
        took_s = time.perf_counter() - began
        self.busy_s += took_s
        inode = self._file.stat().st_ino
        if inode != self._inode:  # a file is always replaced whole
            self._inode = inode
            self.writes.append(took_s)
        return wait_s


def figures(bench: Bench) -> list[Figure | Noted]:
    """What a long session costs."""
    folder = bench.folder / "growing"
    folder.mkdir()
    database, root = folder / "steno.db", folder / "sessions"
    fill(database, 1, each=bench.scale.long)
    what = f"session of {bench.scale.long:,}"
    written = in_a_process("mirror", database, root)
    [file] = root.rglob("*.jsonl")
    bench.say(f"the file of a {what} has {file.stat().st_size / 1e6:.0f} MB")
    edit(file, text := Prose(13).text(300))
    absorbed = in_a_process("mirror", database, root)
    with Store(database) as store:
        [session] = [each for (each,) in store.execute("SELECT id FROM sessions")]
        assert store.one("SELECT 1 FROM messages WHERE content = ?", (text,)), "the edit is in the store"
        found = appended(bench, store, root, session=session, what=what)
    shutil.rmtree(folder)
    return [
        *found,
        Noted(f"time to write a {what}", f"{written['took_s']:.3g} s"),
        Noted(f"memory for writing a {what}", memory(written)),
        Noted(f"time to absorb an edit in a {what}", f"{absorbed['took_s']:.3g} s"),
        Noted(f"memory for absorbing an edit in a {what}", memory(absorbed)),
        burst(bench),
    ]


def appended(bench: Bench, store: Store, root: Path, *, session: str, what: str) -> list[Figure]:
    """Append at a pace from one write of the file to another: no moment leaves it behind for longer than that."""
    store.append(session, NewMessage(role="user", content="to be written before the first"))
    watched = Watched(store, root)
    began = time.monotonic()
    with _appending(store.path, session, pause_s=PACE_S) as appending:
        watched.work(lambda: time.monotonic() - began >= bench.scale.paced_s)
        before = len(watched.writes)
        watched.work(lambda: len(watched.writes) > before)
        last = appending.ended()
    busy = 100 * watched.busy_s / (last.at_s - began)
    watched.work(lambda: watched.shows(last.last))
    now = time.monotonic()
    # What a write takes varies where others are at work: the wait follows from the one, and ends with the other.
    behind = (now - last.at_s) / max(watched.writes[-2:])
    spread = f"{len(watched.writes)} writes of {min(watched.writes):.2g}-{max(watched.writes):.2g} s"
    return [
        Figure(
            what=f"{what}, 10 appends a second, writing", ours=f"{busy:.2f} % of the time", yardstick="-",
            value=busy, goal=GOAL_BUSY_PERCENT, unit="%", spread=spread,
        ),
        Figure(
            what=f"{what}, file current after the last", ours=f"{behind:.1f} write-times", yardstick="-",
            value=behind, goal=GOAL_WRITE_TIMES, unit="write-times", spread=f"{now - last.at_s:.3g} s",
        ),
    ]  # fmt: skip


def burst(bench: Bench) -> Noted:
    """How often the file of a short session is written while many messages come to it."""
    folder = bench.folder / "burst"
    folder.mkdir()
    fill(folder / "steno.db", 1, each=SHORT)
    with Store(folder / "steno.db") as store:
        [session] = [each for (each,) in store.execute("SELECT id FROM sessions")]
        watched = Watched(store, folder / "sessions")
        with _appending(store.path, session, pause_s=BURST_PAUSE_S, at_most=bench.scale.burst) as appending:
            watched.work(appending.is_done)
            last = appending.ended()
        watched.work(lambda: watched.shows(last.last))
    shutil.rmtree(folder)
    return Noted(f"writes of a file in a burst of {bench.scale.burst:,} messages", str(len(watched.writes)))


def edit(file: Path, text: str) -> None:
    """Give the message in the middle of a file another text, in place."""
    lines = file.read_bytes().splitlines(keepends=True)
    at = len(lines) // 2
    lines[at] = msgspec.json.encode({**msgspec.json.decode(lines[at]), "content": text}) + b"\n"
    file.write_bytes(b"".join(lines))


def in_a_process(*arguments: object) -> dict[str, Any]:
    """What files_process prints."""
    done = subprocess.run(_command(*arguments), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def memory(measured: dict[str, Any]) -> str:
    """What a process took at most."""
    return f"{measured['most_mb'] - measured['start_mb']:.0f} MB above {measured['start_mb']:.0f} MB"


class Last(msgspec.Struct, frozen=True):
    """The last message of an appending process."""

    count: int
    last: str
    at_s: float


class Appending:
    """A process that appends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def is_done(self) -> bool:
        """Say whether it appended as many as it was told to."""
        return self._process.poll() is not None

    def ended(self) -> Last:
        """End it; what it appended last."""
        return msgspec.json.decode(self._process.communicate()[0], type=Last)


@contextmanager
def _appending(database: Path, session: str, *, pause_s: float, at_most: int = 1 << 30) -> Generator[Appending]:
    command = _command("append", database, session, pause_s, at_most)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Appending(process)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, str(_PROCESS), *map(str, arguments)]
