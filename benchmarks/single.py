"""What one message more costs in a long history until both ends have it, against git, rclone and unison.

Ours are two running daemons with a Redis between them; the others work on the same files, and are run by hand. Bytes
and turns are counted for each where it speaks to the other end or to what stands between: by a proxy that delays
nothing. Each brings its two ends together, and does one message, before it is measured.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from arrivals import arrival
from generate import Prose
from homes import Home
from idling import came_to_rest
from measure import Bench, Figure, LeftOut, Noted, seconds_of
from peers import Git, Rclone, Unison
from proxy import Proxy, proxy

from steno.storage.database import Database
from steno.storage.indexing import CURSOR as SEARCH
from steno.storage.store import Store
from steno.sync.vault.names import DEVICES, KEYS, LOG
from steno.sync.vault.remote import open_remote
from steno.tests.servers import Missing, start_redis

GOAL_TIME, GOAL_BYTES = 0.2, 0.1
_TEXT_BYTES = 700
_QUIET_S = 1.0

Peer = Git | Rclone | Unison
_Row = Figure | LeftOut | Noted


class Cost(msgspec.Struct, frozen=True):
    """What one message took."""

    took_s: float
    size_bytes: float
    turns: float


def figures(bench: Bench, near: Home, far: Home, git: Git, *, messages: int) -> list[_Row]:
    """Ours against each peer; the two homes and the ends of the repository hold the same history."""
    what = _what(messages)
    try:
        server = start_redis()
    except Missing as missing:
        return left_out(messages, str(missing))
    with server, proxy(server.url) as between:
        ours = _ours(bench, near, far, between, f"{between.at(server.url)}?prefix=bench")
    rows: list[_Row] = []
    costs = {"ours": ours}
    for peer in (git, Rclone(bench.folder, git.files), Unison(bench.folder, git.files)):
        if shutil.which(peer.name):
            costs[peer.name] = _of_peer(bench, peer)
            rows += _compared(what, ours, peer.name, costs[peer.name])
        else:
            rows += left_out(messages, f"{peer.name} is not installed", of=[peer.name])
    turns = ", ".join(f"{name} {cost.turns:.0f}" for name, cost in costs.items())
    return [*rows, Noted(f"{what}, turns", turns)]


def left_out(messages: int, why: str, of: Sequence[str] = ("git", "rclone", "unison")) -> list[_Row]:
    """The rows of some peers, not measured."""
    return [LeftOut(f"{_what(messages)}, {cost}: {name}", why) for name in of for cost in ("time", "bytes")]


def _what(messages: int) -> str:
    return f"1 message to {messages:,}, both ends"


def _compared(what: str, ours: Cost, name: str, theirs: Cost) -> list[Figure]:
    return [
        Figure(
            what=f"{what}, time: {name}",
            ours=f"{ours.took_s * 1e3:.0f} ms",
            yardstick=f"{theirs.took_s * 1e3:.0f} ms",
            value=ours.took_s / theirs.took_s,
            goal=GOAL_TIME,
        ),
        Figure(
            what=f"{what}, bytes: {name}",
            ours=f"{ours.size_bytes:,.0f}",
            yardstick=f"{theirs.size_bytes:,.0f}",
            value=ours.size_bytes / theirs.size_bytes,
            goal=GOAL_BYTES,
        ),
    ]


def _of_peer(bench: Bench, peer: Peer) -> Cost:
    """Append a line to a file at one end, and let the program bring it to the other."""
    prose = Prose(7)
    paths = sorted(peer.files.rglob("*.jsonl"))
    with peer.server() as url, proxy(url) as between:

        def once() -> float:
            path = prose.random.choice(paths)
            _append(path, prose.text(_TEXT_BYTES))
            took_s = seconds_of(lambda: peer.sync(between.at(url)))
            there = peer.far / path.relative_to(peer.files)
            assert there.read_bytes() == path.read_bytes(), f"{peer.name} did not bring it"
            return took_s

        peer.sync(between.at(url))
        return _typical(once, between, bench.scale.singles)


def _ours(bench: Bench, near: Home, far: Home, between: Proxy, url: str) -> Cost:
    """Append a message in one home, and wait for it in the other."""
    prose = Prose(7)
    asyncio.run(_copy(str(near.folder.parent / "remote"), url))
    for home in (near, far):
        home.steno("remote", "set", url)
        _skip_index(home)
    with near.daemon() as one, far.daemon() as other:
        for process, home in ((one, near), (other, far)):
            came_to_rest(bench, process, home, sessions=0)
        with Store(near.database) as store, Database(far.database, read_only=True) as there:
            sessions = [row[0] for row in store.execute("SELECT id FROM sessions ORDER BY id")]

            def once() -> float:
                session, text = prose.random.choice(sessions), prose.text(_TEXT_BYTES)
                took_s = arrival(store, there, session=session, text=text)
                time.sleep(_QUIET_S)  # what is said afterwards counts as well
                return took_s

            return _typical(once, between, bench.scale.singles)


def _skip_index(home: Home) -> None:
    """Leave what is there out of the search index: making it takes minutes, and nothing here waits for it."""
    with Store(home.database) as store, store.transaction():
        store.set_cursor(SEARCH, store.last_seq)


def _typical(once: Callable[[], float], between: Proxy, rounds: int) -> Cost:
    """The medians, after one round for warmth."""
    once()
    costs: list[Cost] = []
    for _ in range(rounds):
        before = between.count()
        took_s = once()
        passed = between.count().since(before)
        costs.append(Cost(took_s, passed.size_bytes, passed.turns))
    return Cost(*(statistics.median(getattr(cost, each) for cost in costs) for each in Cost.__struct_fields__))


def _append(path: Path, text: str) -> None:
    """Replace a file by one with a line more: other directories may share its bytes."""
    line = json.dumps({"id": f"m-{time.time_ns():x}", "role": "user", "content": text})
    written = path.with_name(f".{path.name}")
    written.write_bytes(path.read_bytes() + line.encode() + b"\n")
    written.replace(path)


async def _copy(folder: str, url: str) -> None:
    """Copy a vault from one remote to another."""
    source, target = open_remote(folder), open_remote(url)
    try:
        for directory in ("", KEYS, LOG, DEVICES):
            for name in await source.list(directory):
                await target.put(name, await source.get(name))
    finally:
        await source.close()
        await target.close()
