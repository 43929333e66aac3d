"""`steno sql`: what it prints, what it refuses, and which store it opens."""

from __future__ import annotations

import csv
import io
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.cli.main import main
from steno.storage.change import decode_batch, local_changes
from steno.storage.model import NewMessage
from steno.storage.sqlite import dbapi
from steno.storage.store import Store


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("STENO_HOME", str(place))
    Store(place / "steno.db").close()
    return place


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home / "steno.db")


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(["sql", *arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


# Printing


def test_rows_are_a_table(run: Run):
    assert run("SELECT 1 AS one, 'two' AS second UNION ALL SELECT 100000, NULL").out == (
        "one     second\n1       two\n100000\n"
    )


def test_a_single_column_is_printed_as_it_stands(run: Run):
    assert run("SELECT 'a' || char(10) || 'b' AS text").out == "text\na\nb\n"


def test_several_statements_give_several_tables(run: Run):
    assert run("SELECT 1 AS a, 2 AS b; SELECT 3 AS c;").out == "a  b\n1  2\n\nc\n3\n"


def test_a_wide_row_further_down_keeps_its_place(run: Run):
    done = run(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 300) "
        "SELECT i, iif(i = 300, 'much wider than the rest', 'x') AS text, 'end' AS last FROM n"
    )
    assert done.out.splitlines()[-1] == "300  much wider than the rest  end"


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_rows_are_json(run: Run, option: list[str]):
    done = run(*option, "SELECT 1 AS a, 2.5 AS a, NULL AS b, 'é' AS c, x'00ff' AS d UNION ALL SELECT 9e999, 2, 3, 4, 5")
    assert json.loads(done.out) == [
        {"a": 1, "a:1": 2.5, "b": None, "c": "é", "d": "x'00ff'"},
        {"a": None, "a:1": 2, "b": 3, "c": 4, "d": 5},
    ]


def test_no_rows_are_an_empty_array(run: Run):
    assert json.loads(run("--json", "SELECT * FROM sessions").out) == []


def test_rows_are_csv(run: Run):
    done = run("--csv", """SELECT 1 AS a, 'x,"y"' AS b, NULL AS c UNION ALL SELECT 2, 'line' || char(10), 'z'""")
    assert list(csv.reader(io.StringIO(done.out))) == [["a", "b", "c"], ["1", 'x,"y"', ""], ["2", "line\n", "z"]]


def test_what_is_stored_does_not_steer_the_terminal(run: Run, store: Store):
    store.create(title="T")
    store.append(next(store.sessions()).id, NewMessage(role="user", content="\x1b[2J\u202e"))
    for form in ("text", "json"):
        assert "\x1b" not in run("--format", form, "SELECT content, 1 FROM messages").out


def test_a_statement_without_rows_prints_nothing(run: Run):
    assert run("CREATE TEMP TABLE t (a); INSERT INTO t VALUES (1)") == (0, "", "")


@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_a_large_result_is_not_held_in_memory(run: Run, form: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("click.echo", lambda *_, **__: None)
    tracemalloc.start()
    try:
        assert run("--format", form, _MANY).code == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


_MANY = (
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 3000) "
    "SELECT i, printf('%.*c', 10000, 'x') AS text FROM n"
)


# Where the SQL comes from


@pytest.mark.parametrize("arguments", [["-"], []])
def test_statements_are_read_from_standard_input(run: Run, arguments: list[str]):
    assert run(*arguments, stdin=b"SELECT 1 AS a;\n-- the end\nSELECT 2 AS b").out == "a\n1\n\nb\n2\n"


def test_standard_input_is_text(run: Run):
    assert run("-", stdin=b"\xff").code == 4


# Writing


def test_a_function_writes_where_that_was_asked_for(run: Run, store: Store):
    done = run("--write", "--csv", "SELECT create_session('Team Discussion', '{}') AS id")
    [session] = store.sessions()
    assert (session.title, done.out) == ("Team Discussion", f"id\n{session.id}\n")
    batch, _, _ = local_changes(store, since=0, floor=0, max_bytes=1 << 20)
    assert [each.id for each in decode_batch(batch).sessions] == [session.id]


def test_nothing_is_written_unless_it_was_asked_for(run: Run, store: Store):
    assert run("SELECT create_session('A')") == (4, "", "Error: read-only: use --write\n")
    assert store.count() == (0, 0)


def test_statements_before_one_that_fails_stand(run: Run, store: Store):
    done = run(
        "--write", "SELECT create_session('A') IS NULL AS a; SELECT create_session(''); SELECT create_session('B')"
    )
    assert (done.code, done.out, done.err) == (4, "a\n0\n", "Error: Session title cannot be empty\n")
    assert [each.title for each in store.sessions()] == ["A"]


@pytest.mark.parametrize("arguments", [[], ["--write"]])
def test_updates_are_refused_with_what_to_use(run: Run, arguments: list[str]):
    done = run(*arguments, "UPDATE sessions SET name = 'x'")
    assert done.code == 4
    assert done.err.startswith("Error: SQL does not write to Steno's tables: write through the functions")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELEC", 4),
        ("SELECT get_conversation_text('nope')", 3),
        ("ATTACH 'x' AS y", 4),
        ("PRAGMA writable_schema=1", 4),
    ],
)
def test_what_goes_wrong_is_one_line(run: Run, statement: str, code: int):
    done = run(statement)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)


# Which store


def test_another_store_is_named_by_its_file(run: Run, tmp_path: Path):
    with Store(tmp_path / "other.db") as other:
        other.create(title="There")
    assert run("--db", str(tmp_path / "other.db"), "SELECT name FROM sessions").out == "name\nThere\n"
    assert run("--db", str(tmp_path / "other.db"), "--write", "SELECT create_session('A')").code == 0
    assert run("SELECT count(*) AS n FROM sessions").out == "n\n0\n"


@pytest.mark.parametrize("arguments", [[], ["--write"]])
def test_no_store_is_made_by_naming_it(run: Run, tmp_path: Path, arguments: list[str]):
    assert run("--db", str(tmp_path / "none.db"), *arguments, "SELECT 1").code == 1
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("arguments", [[], ["--write"]])
def test_a_database_of_another_program_stays_as_it_is(run: Run, tmp_path: Path, arguments: list[str]):
    file = tmp_path / "other.db"
    connection = dbapi.connect(str(file))
    connection.execute("CREATE TABLE sessions (a)")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    done = run("--db", str(file), *arguments, "SELECT 1")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert file.read_bytes() == before


def test_a_home_without_a_store_is_said_so(run: Run, home: Path):
    (home / "steno.db").unlink()
    done: Any = run("SELECT 1")
    assert (done.code, "steno init" in done.err) == (1, True)
