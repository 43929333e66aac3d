"""Taking in Claude Code transcripts, and what they weigh on a remote.

Real transcripts are taken where ``STENO_BENCH_CORPUS`` names a directory of them, or where one lies
beside this repository; else ones of the same shape are generated.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
from pathlib import Path

import msgspec
from generate import claude_code_files
from measure import Bench, Figure, seconds_of
from mirroring import Vault

from steno.storage.database import wall_ms
from steno.storage.errors import InvalidInput
from steno.storage.importing import take_in
from steno.storage.store import Store
from steno.storage.transcripts import read_transcripts
from steno.sync.vault.rewriting import GRACE_MS

GOAL_MB_PER_S = 25.0
GOAL_REMOTE, GOAL_COMPACTED = 0.3, 0.25
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "claude-code"


class Corpus(msgspec.Struct, frozen=True):
    """The transcripts, and whether they are real."""

    name: str
    files: list[Path]
    size_bytes: int


def figures(bench: Bench) -> list[Figure]:
    """How fast the corpus comes in, and how small it lies on a remote."""
    corpus = _corpus(bench)
    bench.say(f"{corpus.name}: {len(corpus.files)} files, {corpus.size_bytes / 1e6:.1f} MB")
    seconds: list[float] = []
    raw: list[float] = []
    for at in range(bench.scale.import_rounds + 1):
        with Store(bench.folder / f"import-{at}.db") as store:
            raw.append(seconds_of(lambda: _read(corpus.files)))
            seconds.append(seconds_of(lambda store=store: _import(store, corpus.files)))
    rates = [corpus.size_bytes / 1e6 / each for each in seconds[1:] or seconds]
    reading = corpus.size_bytes / 1e6 / statistics.median(raw)
    with Store(bench.folder / "import-0.db") as store:
        on_remote = asyncio.run(_pushed_bytes(store))
    with Store(bench.folder / "compacted.db") as store:
        compacted, before, after = asyncio.run(_compacted_bytes(store, corpus.files))
    bench.say(f"{before} objects before compaction, {after} after it")
    return [
        Figure(
            what=f"import, {corpus.name}",
            ours=f"{statistics.median(rates):.1f} MB/s",
            yardstick=f"{reading:.0f} MB/s read and decoded",
            value=statistics.median(rates),
            goal=GOAL_MB_PER_S,
            at_least=True,
            unit="MB/s",
            spread=f"{min(rates):.1f}-{max(rates):.1f}",
        ),
        Figure(
            what=f"bytes on the remote, {corpus.name}",
            ours=f"{on_remote / 1e6:.3g} MB",
            yardstick=f"{corpus.size_bytes / 1e6:.3g} MB of JSONL",
            value=on_remote / corpus.size_bytes,
            goal=GOAL_REMOTE,
        ),
        Figure(
            what=f"the same after compaction, {corpus.name}",
            ours=f"{compacted / 1e6:.3g} MB",
            yardstick=f"{corpus.size_bytes / 1e6:.3g} MB of JSONL",
            value=compacted / corpus.size_bytes,
            goal=GOAL_COMPACTED,
        ),
    ]


def _corpus(bench: Bench) -> Corpus:
    named = os.environ.get("STENO_BENCH_CORPUS")
    place = Path(named) if named else BESIDE
    if bench.scale.corpus_bytes > 1_000_000 and place.is_dir():
        files = [path for path in sorted(place.rglob("*.jsonl")) if _readable(path)]
        return Corpus("real transcripts", files, sum(path.stat().st_size for path in files))
    files = claude_code_files(bench.folder / "projects", seed=3, size_bytes=bench.scale.corpus_bytes)
    return Corpus("generated transcripts", files, sum(path.stat().st_size for path in files))


def _readable(path: Path) -> bool:
    try:
        return read_transcripts(path, name=str(path)).format == "claude-code"
    except InvalidInput:
        return False


def _import(store: Store, files: list[Path]) -> None:
    """As ``steno import`` does: each file whole."""
    for path in files:
        found = read_transcripts(path, name=str(path), default_ms=int(path.stat().st_mtime * 1000))
        with store.transaction():
            for transcript in found.transcripts:
                take_in(store, transcript)


def _read(files: list[Path]) -> None:
    """What nobody can do without: the bytes, and their JSON."""
    for path in files:
        for line in path.read_bytes().splitlines():
            try:
                msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):  # a torn line; they are part of the corpus
                continue


async def _pushed_bytes(store: Store) -> int:
    vault = await Vault.new()
    await vault.engine(store).push()
    return vault.size_bytes


async def _compacted_bytes(store: Store, files: list[Path]) -> tuple[int, int, int]:
    """Send each transcript when it is there, then compact: the bytes, and the objects before and after."""
    vault = await Vault.new()
    late_ms = itertools.count(wall_ms(), 2 * GRACE_MS)  # what was replaced goes after a while
    engine = vault.engine(store, now_ms=lambda: next(late_ms))
    for path in files:
        _import(store, [path])
        await engine.push()
    before = len(vault.remote.objects)
    objects: set[str] = set()
    while objects != (objects := set(vault.remote.objects)):
        await engine.tend()
    return vault.size_bytes, before, len(objects)
