"""Random argument lists for every verb: what comes back is an answer, or one line that says what was wrong.

``python -P -m steno.tests.e2e.arguments --lines 10000`` (`make fuzz`) tries so many from new seeds;
tests/unit/test_cli_random.py tries two thousand. Each starts from the same small home, local only or in a vault on a
folder, in a directory that is thrown away.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import click
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from steno.cli.main import main, steno
from steno.cli.verbs import ALIASES
from steno.storage.forks import fork
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.e2e.device import Device

RUNS_ON = ("up", "demo", "daemon run", "daemon start", "chat", "open")
"""What stays running, or talks with somebody else: called with a fault or for its help only."""

CODES = frozenset(range(9))
_TELLS_BESIDE = frozenset({1, 5, 6, 8})
"""With these a verb may have printed something before: a report of what is wrong, or part of what was asked."""

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/~"), max_size=12)
_WORDS = st.sampled_from([
    "", "-", "--", "s", "s1", "s2", "s3", "@last", "missing", "Bug Investigation", "m1", "m2", "bug",
    "what's up?", "C++", "a-b",
    "*", '"', "OR", "NOT x", "(", "a NEAR/2 b", "token*", "日本", "\u202e", "\x1b[2J", "\udcff", "x" * 3000, "=", "-n",
])  # fmt: skip
_SESSIONS = st.sampled_from(["s1", "s1", "s2", "s3", "f1", "s", "@last", "d1", "missing", "Bug Investigation", "-"])
_NUMBERS = st.sampled_from(["0", "1", "3", "-1", "9" * 25, "1.5", "1e3", "٣", "½", "0x10", " 2"])
_DATES = st.sampled_from([
    "30d", "0d", "999999d", "-1d", "yesterday", "today", "2026-11-20", "2026-13-45", "0001-01-01", "9999-12-31", "12h",
    "2026-11-20T10:00:00Z", "2026-11-20T10:00:00+99:99", "1700000000", "5w",
])  # fmt: skip
_JSON = st.sampled_from([
    "{}", '{"project": "backend"}', "[1", "null", '"x"', '{"a": {"b": [1, null]}}', "NaN", "1e999", '{"a": 1, "a": 2}',
    "[" * 2000,
    '[{"type": "text", "text": "x"}]', '{"\\ud800": 1}', '{"": {"": ""}}', '{"input_tokens": -1}', "9" * 400,
])  # fmt: skip
_PATHS = st.sampled_from([
    ".", "..", "-", "export.json", "export.jsonl", "broken.json", "binary", "empty", "missing.json",
    "missing/dir/file.json",
    "folder", "folder/", "template.j2", "bad.j2", "new.md", "new.html", "new.txt",
    "export.json/below", "x" * 300,
])  # fmt: skip
_PLACES = st.sampled_from(
    ["", "nonsense:", "ftp://x", "file://", "folder", "export.json/x", "http://", "s3:", "memory://"]
)
_SQL = st.sampled_from([
    "SELECT 1", "SELECT * FROM sessions", "SELECT", "DELETE FROM sessions", "SELECT count(*) FROM messages; SELECT 2",
    ";", "--",
    "ATTACH 'x.db' AS x", "PRAGMA journal_mode=delete", "SELECT create_session('x')", "SELECT load_extension('x')",
    "VALUES (x'00ff')",
    "SELECT zeroblob(10), 1e999, NULL, 'a' || char(27)", "EXPLAIN SELECT 1", "BEGIN", "SELECT json('[')",
])  # fmt: skip
_ANY = st.one_of(_WORDS, _TEXT, _NUMBERS, _DATES, _JSON, _PATHS)
_STDIN = st.sampled_from(
    [b"", b"y\n", b"n\n", b"hello\nworld\n", b"\xff\xfe\n", b'{"id": "p", "role": "user", "content": "x"}\n']
)


class Line(NamedTuple):
    """A command line, and what is piped into it."""

    arguments: list[str]
    stdin: bytes
    in_a_vault: bool


class Told(NamedTuple):
    """What came back."""

    code: int
    out: str
    err: str


def leaves(found: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every verb, also those that only hold others, by the words that call it."""
    if path:
        yield " ".join(path), found
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            assert below is not None
            yield from leaves(below, (*path, name))


VERBS = dict(leaves(steno))


@st.composite
def lines(draw: st.DrawFn, paths: Sequence[str]) -> Line:
    """A command line of one of some verbs: mostly such as somebody might mean, sometimes with a slip."""
    path = draw(st.sampled_from(paths))
    words: list[list[str]] = []
    for parameter in VERBS[path].params:
        if isinstance(parameter, click.Option):
            if draw(st.integers(0, 5)) == 0:
                name = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
                value = draw(_values(parameter)) if not parameter.is_flag else None
                joined = value is not None and name.startswith("--") and draw(st.booleans())
                words.append([f"{name}={value}"] if joined else [name] if value is None else [name, value])
        else:
            count = draw(st.integers(0, 3)) if parameter.nargs == -1 else int(draw(st.integers(0, 7)) > 0)
            words += [[draw(_values(parameter))] for _ in range(count)]
    if draw(st.integers(0, 9)) == 0:
        words.append([draw(_ANY)])
    if draw(st.booleans()):
        words = draw(st.permutations(words))
    called = path.split()
    aliases = [alias for alias, meant in ALIASES.items() if meant == called[0]]
    if aliases and draw(st.booleans()):
        called[0] = draw(st.sampled_from(aliases))
    if path in RUNS_ON:
        words.insert(0, [draw(st.sampled_from(["--help", "--no-such-option"]))])
    return Line([*called, *(word for each in words for word in each)], draw(_STDIN), draw(st.booleans()))


def _values(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """What somebody might give for a parameter; now and then anything."""
    kind, metavar = parameter.type, (parameter.metavar or parameter.name or "").upper()
    if isinstance(kind, click.Choice):
        likely = st.sampled_from([*map(str, kind.choices), "JSON", "nonsense"])
    elif parameter.name in ("session", "sessions", "fork"):
        likely = _SESSIONS
    elif "INT" in type(kind).__name__.upper():
        likely = _NUMBERS
    elif any(word in metavar for word in ("DATE", "TIME", "AGE", "FOR")):
        likely = _DATES
    elif "JSON" in metavar:
        likely = _JSON
    elif "SQL" in metavar:
        likely = _SQL
    elif "URL" in metavar:
        return _PLACES
    elif any(word in metavar for word in ("FILE", "PATH", "DIR")) or isinstance(kind, click.Path):
        likely = _PATHS
    else:
        likely = _WORDS
    return st.integers(0, 7).flatmap(lambda rare: likely if rare else _ANY)


class Room:
    """A home in a directory of its own, made anew for each line."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / "place"
        self._templates = [folder / name for name in ("alone", "in-a-vault")]
        for template, remote in zip(self._templates, (None, self._place / "remote"), strict=True):
            _furnish(Device(self._place / "home", remote=remote).make(found=True))
            self._place.rename(template)

    def run(self, line: Line) -> Told:
        """Run a command line as a process would be run, with nobody at a terminal."""
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._templates[line.in_a_vault], self._place)
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")  # as Python opens it
        stdin = io.TextIOWrapper(io.BytesIO(line.stdin), encoding="utf-8")
        streams = mock.patch.multiple(sys, stdin=stdin, stdout=out, stderr=err)
        with mock.patch.dict(os.environ, self._environment()), chdir(self._place / "work"), streams:
            code = main(line.arguments)
            out.flush()
            err.flush()
        return Told(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())

    def _environment(self) -> dict[str, str]:
        return {
            "STENO_HOME": str(self._place / "home"), "HOME": str(self._place), "EDITOR": "true", "VISUAL": "true",
            "PAGER": "cat", "SHELL": "/bin/sh", "CLAUDE_CONFIG_DIR": "", "CODEX_HOME": "", "STENO_PASSPHRASE": "",
        }  # fmt: skip


def _furnish(device: Device) -> None:
    work = device.place.parent / "work"
    (work / "folder").mkdir(parents=True)
    with Store(device.home.database) as store:
        store.create(
            id="s1", title="Bug Investigation", tags=["go"], provider="anthropic", metadata={"project": "backend"}
        )
        turns = [
            NewMessage(id="m1", role="user", content="Why does the token expire?"),
            NewMessage(id="m2", role="assistant", content="A bug."),
        ]
        store.add_messages("s1", turns)
        store.create(id="s2", title="Bug Investigation", user_id="ada")
        store.create(id="s3")
        store.update("s3", fields={"status": "archived"})
        fork(store, "s1", at="m1", id="f1")
        store.create(id="d1", title="Deleted")
        store.delete("d1")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (work / "export.json").write_text(
        '{"id": "e1", "title": "x", "messages": [{"role": "user", "content": "hi"}]}', encoding="utf-8"
    )
    (work / "export.jsonl").write_text(
        '{"steno":1,"id":"e2","title":"x"}\n{"role":"user","content":"hi"}\n', encoding="utf-8"
    )
    (work / "broken.json").write_text('{"id": "e3", "messages": [', encoding="utf-8")
    (work / "binary").write_bytes(bytes(range(256)))
    (work / "empty").write_bytes(b"")
    (work / "template.j2").write_text("{% for s in sessions %}{{ s.title }}{% endfor %}", encoding="utf-8")
    (work / "bad.j2").write_text("{% for %}", encoding="utf-8")


def faults(line: Line, told: Told) -> list[str]:
    """What is wrong with an answer."""
    found: list[str] = []
    if "Traceback" in told.err or "something unexpected" in told.err:
        found.append("an error that nobody foresaw")
    if told.code not in CODES:
        found.append(f"exit code {told.code} stands in no table")
    if told.code and not told.err and not told.out:
        found.append("it failed and said nothing")
    summed_up = line.arguments[0] == "import" and told.code == 4  # what came in, and what did not
    if told.code and told.code not in _TELLS_BESIDE and told.out and not summed_up:
        found.append("it failed, and something stands on standard output")
    if (
        told.code in (2, 3, 4)
        and not told.err.startswith("Usage: ")
        and not told.err.splitlines()[-1].startswith("Error: ")
    ):
        found.append("its last line is no error")
    for_programs = "--json" in line.arguments and not {"--", "--help", "-h"} & set(line.arguments)
    if told.code == 0 and told.out and for_programs and not _is_json(told.out):
        found.append("what it printed for programs is no JSON")
    return found


def _is_json(text: str) -> bool:
    """Say whether it is JSON: one value, or, of several statements of SQL, one after the other."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        try:
            _, end = decoder.raw_decode(rest)
        except ValueError:
            return False
        rest = rest[end:].lstrip()
    return True


@contextmanager
def room() -> Generator[Room]:
    """A room in memory where there is one."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="steno-arguments-", dir=memory if memory.is_dir() else None))
    try:
        yield Room(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tried(paths: Sequence[str], count: int, *, within: Room) -> None:
    """Try so many lines of some verbs; fails with the shortest that goes wrong."""

    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )  # fmt: skip
    @given(lines(paths))
    def each(line: Line) -> None:
        told = within.run(line)
        assert faults(line, told) == [], f"{line}\n{told}"

    each()


def _main() -> int:
    parser = argparse.ArgumentParser(description="Run the commands with random arguments.")
    parser.add_argument("--lines", type=int, default=10_000, help="how many")
    parser.add_argument("--verb", action="append", help="this verb only; repeatable")
    chosen = parser.parse_args()
    began = time.monotonic()
    with room() as made:
        tried(chosen.verb or list(VERBS), chosen.lines, within=made)
    print(f"{chosen.lines:,} argument lists in {time.monotonic() - began:.0f} s: each was answered")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main())
