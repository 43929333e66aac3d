"""The command line as a person meets it: whole processes over a large store, and search against ripgrep.

What a read verb takes is compared with a Python that imports what it cannot do without, and with the list of another
keeper of conversations, simonw's llm, over the same ones. Search is asked for two words of one message each, seeded,
and ripgrep for the same two in the same messages as JSONL files, one for each session, warm.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from generate import Prose
from measure import Bench, Figure, LeftOut, Noted, Timed, compared, percentile, seconds_of, side_by_side

from steno.storage import indexing
from steno.storage.model import NewMessage
from steno.storage.search import search
from steno.storage.store import Store

GOAL_START, GOAL_LLM, GOAL_P50, GOAL_P95 = 2.0, 0.2, 0.1, 1.0
SHORT, LONG = 4, 40
START_MS, STEP_MS = 1_760_000_000_000, 30_000
SHOWN = 50
STENO, LLM = (Path(sys.executable).with_name(name) for name in ("steno", "llm"))
_WORD = re.compile(r"\b[a-z]{3,}\b")
_BARE = [sys.executable, "-c", "import click, sqlite3"]


class Said(NamedTuple):
    """A conversation: its title, when it began, and what was said by turns of a person and a model."""

    id: str
    title: str
    begun_ms: int
    texts: list[str]


def figures(bench: Bench) -> list[Figure | LeftOut | Noted]:
    """The verbs that look, and the search of everything."""
    return [*looking(bench), *finding(bench)]


def looking(bench: Bench) -> Iterator[Figure | LeftOut]:
    """``steno list``, ``show`` and ``search`` as whole processes."""
    count = bench.scale.conversations
    home = bench.folder / "home"
    home.mkdir()
    bench.say(f"making {count:,} sessions of {SHORT} messages")
    fill(home / "steno.db", conversations(11, count, SHORT, mean=300))
    environment = {**os.environ, "STENO_HOME": str(home)}
    asked = list(islice(conversations(11, count, SHORT, mean=300), 0, min(count, 50 * 97), 97))
    draw = random.Random(12)
    pairs = [pair_of(draw, each) for each in asked]

    def command(*arguments: Callable[[int], str]) -> Callable[[int], float]:
        return lambda at: timed_process([str(STENO), *(each(at) for each in arguments)], environment)

    verbs = {
        "list": command(lambda _: "list"),
        "show": command(lambda _: "show", lambda at: asked[at % len(asked)].id),
        "search": command(lambda _: "search", lambda at: " ".join(pairs[at % len(pairs)])),
    }
    among = f"{count:,} sessions, {count * SHORT:,} messages"
    for verb, ours in verbs.items():
        timed = side_by_side(ours, lambda _: timed_process(_BARE, environment), rounds=bench.scale.starts)
        yield compared(f"steno {verb}, {among}", timed, goal=GOAL_START, unit="ms")
    what = f"steno list, {count:,} sessions: llm logs list"
    if importlib.util.find_spec("llm") is None:
        yield LeftOut(what, "llm is not installed (make bench installs it)")
    else:
        theirs = bench.folder / "llm"
        fill_llm(theirs, conversations(11, count, SHORT, mean=300))
        other = {**environment, "LLM_USER_PATH": str(theirs)}
        listed = [str(LLM), "logs", "list"]
        timed = side_by_side(verbs["list"], lambda _: timed_process(listed, other), rounds=bench.scale.starts)
        yield compared(what, timed, goal=GOAL_LLM, unit="ms")
        shutil.rmtree(theirs)
    shutil.rmtree(home)


def finding(bench: Bench) -> Iterator[Figure | LeftOut | Noted]:
    """Two words of one message among all, by the library's search and by ripgrep."""
    what = f"search, {bench.scale.sought:,} messages"
    if shutil.which("rg") is None:
        yield from (LeftOut(f"{what}, {part}", "ripgrep is not installed") for part in ("p50", "p95"))
        return
    database, files = bench.folder / "sought.db", bench.folder / "files"
    count = max(bench.scale.sought // LONG, 1)
    bench.say(f"making {count:,} sessions of {LONG} messages")
    fill(database, conversations(13, count, LONG, mean=700))
    size_bytes = write(files, conversations(13, count, LONG, mean=700))
    bench.say(f"JSONL files of {size_bytes / 1e6:,.0f} MB, a store of {database.stat().st_size / 1e6:,.0f} MB")
    pairs = drawn_pairs(conversations(13, count, LONG, mean=700), count, bench.scale.pairs)
    with Store(database, read_only=True) as store:

        def ours(at: int) -> float:
            return seconds_of(lambda: search(store, " ".join(pairs[at - 1]), limit=SHOWN))

        timed = side_by_side(ours, lambda at: ripgrep(files, *pairs[at - 1]), rounds=len(pairs))
    yield Noted("pairs of words for which search finds what ripgrep does", _agreement(database, files, pairs))
    for part, goal in ((0.5, GOAL_P50), (0.95, GOAL_P95)):
        at_part = Timed([percentile(timed.ours, part)], [percentile(timed.yardstick, part)])
        yield compared(f"{what}, p{part * 100:.0f}", at_part, goal=goal, unit="ms")


def conversations(seed: int, count: int, each: int, *, mean: int) -> Iterator[Said]:
    """So many conversations of so many messages; one seed gives the same ones."""
    prose = Prose(seed)
    for at in range(count):
        texts = [prose.text(size) for size in prose.sizes(mean, each)]
        yield Said(f"s{at:011d}", prose.text(45).replace("\n", " "), START_MS + at * 100 * STEP_MS, texts)


def fill(database: Path, found: Iterable[Said]) -> None:
    """A store with the conversations, indexed and in one file."""
    remaining = iter(found)
    with Store(database) as store:
        while batch := list(islice(remaining, 500)):
            with store.transaction():
                for each in batch:
                    store.create(id=each.id, title=each.title, created_ms=each.begun_ms)
                    store.add_messages(each.id, [NewMessage(role=role, content=text) for role, text in _turns(each)])
        while indexing.index(store, limit_bytes=64 << 20, limit_rows=100_000).remaining:
            pass
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def write(folder: Path, found: Iterable[Said]) -> int:
    """The conversations as JSONL files, and their size in bytes."""
    size_bytes = 0
    for at, each in enumerate(found):
        place = folder / f"{at // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        lines = [{"steno": 1, "id": each.id, "title": each.title}]
        lines += [
            {"id": f"m{number}", "role": role, "content": text} for number, (role, text) in enumerate(_turns(each))
        ]
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        (place / f"{each.id}.jsonl").write_bytes(data)
        size_bytes += len(data)
    return size_bytes


def fill_llm(folder: Path, found: Iterable[Said]) -> None:
    """The conversations in the database of llm, as it would have logged them."""
    from llm import Message  # noqa: PLC0415  a yardstick that may be missing
    from llm.logs import message_hash  # noqa: PLC0415
    from llm.migrations import migrate  # noqa: PLC0415
    from llm.parts import TextPart  # noqa: PLC0415
    from sqlite_utils import Database  # noqa: PLC0415

    folder.mkdir()
    database = Database(folder / "logs.db")
    migrate(database)
    connection = database.conn
    for each in found:
        above: str | None = None
        for number, (role, text) in enumerate(_turns(each)):
            asked, above = above, message_hash(Message(role=role, parts=[TextPart(text=text)]), above)
            connection.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, NULL)", (above, asked, role))
            connection.execute(
                "INSERT OR IGNORE INTO parts (message_hash, position, type, text) VALUES (?, 0, 'text', ?)",
                (above, text),
            )
            if number % 2:
                time = f"2026-01-01T00:00:{number:02d}"
                turn = (f"{each.id}{number:02d}", each.id, asked, above, "model", time)
                connection.execute(
                    "INSERT INTO turns (id, thread_id, parent_message_hash, tip_message_hash, model, datetime_utc) "
                    "VALUES (?, ?, ?, ?, ?, ?)", turn,
                )  # fmt: skip
        connection.execute(
            "INSERT INTO threads (id, name, tip_message_hash) VALUES (?, ?, ?)", (each.id, each.title, above)
        )
    connection.commit()
    database.close()


def drawn_pairs(found: Iterable[Said], count: int, wanted: int) -> list[tuple[str, str]]:
    """Two words of one message each, of messages drawn over all."""
    draw = random.Random(14)
    chosen = set(draw.sample(range(count), min(count, wanted)))
    pairs = [pair_of(draw, each) for at, each in enumerate(found) if at in chosen]
    return [pairs[at % len(pairs)] for at in range(wanted)]


def pair_of(draw: random.Random, said: Said) -> tuple[str, str]:
    """Two different words that stand in one message."""
    while True:
        words = sorted(set(_WORD.findall(draw.choice(said.texts))))
        if len(words) > 1:
            first, second = draw.sample(words, 2)
            return first, second


def ripgrep(folder: Path, first: str, second: str) -> float:
    """Seconds that ripgrep takes to print the lines in which both words stand, whatever their case."""
    return seconds_of(lambda: _ripgrep(folder, first, second))


def timed_process(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of a process from its start to its end."""
    return seconds_of(
        lambda: subprocess.run(
            command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    )


def _ripgrep(folder: Path, first: str, second: str) -> bytes:
    """The lines with both: two plain words behind each other, many times as fast as one pattern of both orders."""
    plain = ["rg", "--ignore-case", "--word-regexp", "--fixed-strings", "--no-filename"]
    with subprocess.Popen([*plain, first, str(folder)], stdout=subprocess.PIPE) as every:
        return subprocess.run([*plain, second], stdin=every.stdout, stdout=subprocess.PIPE, check=False).stdout


def _agreement(database: Path, files: Path, pairs: list[tuple[str, str]]) -> str:
    """In how many of a few asked pairs our search finds at least what ripgrep does; a stem finds more."""
    agreed = 0
    few = pairs[:10]
    with Store(database, read_only=True) as store:
        for pair in few:
            lines = _ripgrep(files, *pair).count(b"\n")
            found = search(store, " ".join(pair), limit=SHOWN).hits
            agreed += len(found) >= min(lines, SHOWN)
    return f"{agreed} of {len(few)}"


def _turns(said: Said) -> list[tuple[str, str]]:
    return [("assistant" if at % 2 else "user", text) for at, text in enumerate(said.texts)]
