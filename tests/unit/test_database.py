"""Transactions undo all or nothing, the clock and the feed never run backwards, processes do not disturb each other."""

from __future__ import annotations

import ast
import fcntl
import itertools
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import steno
from steno.storage import sqlite
from steno.storage.database import Database
from steno.storage.errors import InvalidInput, LocalStorageError, NoHome, StenoError
from steno.storage.stamps import BY_HAND, MAX_CLOCK, Stamp, plausible, tick

NOW_MS = 1_800_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "steno.db", now_ms=itertools.count(NOW_MS).__next__) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all examples of a law, which need not start from nothing."""
    with Database(tmp_path_factory.mktemp("shared") / "steno.db") as opened:
        yield opened


class Boom(Exception):
    """What goes wrong within a transaction."""


@contextmanager
def _undone(database: Database) -> Generator[None]:
    """A transaction that an error ends."""
    with pytest.raises(Boom), database.transaction():  # noqa: PT012  the transaction is the point
        yield
        raise Boom


# Transactions


def test_a_transaction_keeps_what_was_written(database: Database):
    with database.transaction():
        database.set_meta("a", "1")
    with Database(database.path) as other:
        assert other.meta("a") == "1"


def test_an_error_undoes_the_whole_transaction(database: Database):
    with _undone(database):
        database.set_meta("a", "1")
    assert database.meta("a") == ""


def test_an_error_in_a_nested_transaction_undoes_only_that_one(database: Database):
    with database.transaction():
        database.set_meta("outer", "1")
        with _undone(database):
            database.set_meta("inner", "1")
        database.set_meta("after", "1")
    assert [database.meta(key) for key in ("outer", "inner", "after")] == ["1", "", "1"]


def test_an_error_in_the_outer_transaction_undoes_the_nested_one(database: Database):
    with _undone(database), database.transaction():
        database.set_meta("inner", "1")
    assert database.meta("inner") == ""


def test_transactions_nest_to_any_depth(database: Database):
    with database.transaction(), database.transaction(), database.transaction():
        with _undone(database):
            database.set_meta("a", "lost")
        database.set_meta("a", "kept")
    assert database.meta("a") == "kept"


def test_the_next_transaction_starts_afresh_after_an_error(database: Database):
    with pytest.raises(Boom), database.transaction(), database.transaction():
        raise Boom
    assert not database.connection.in_transaction
    with database.transaction():
        database.set_meta("a", "1")
    assert database.meta("a") == "1"


def test_nobody_sees_a_transaction_before_its_end(database: Database):
    with Database(database.path) as other:
        with database.transaction():
            database.set_meta("a", "1")
            assert other.meta("a") == ""
        assert other.meta("a") == "1"


def test_an_error_of_sqlite_within_a_transaction_is_translated_and_undoes_it(database: Database):
    with pytest.raises(LocalStorageError), database.transaction():  # noqa: PT012  the transaction is the point
        database.set_meta("a", "1")
        database.execute("INSERT INTO clock VALUES (1, 0, 0, 0)")
    assert database.meta("a") == ""


def test_an_error_of_a_bare_statement_is_translated_too(database: Database):
    with pytest.raises(LocalStorageError), database.transaction():
        database.connection.execute("INSERT INTO clock VALUES (1, 0, 0, 0)")


def test_text_that_sqlite_cannot_hold_is_refused_as_such(database: Database):
    with pytest.raises(StenoError):
        database.meta("\udcff")


@pytest.mark.fault(31)
def test_a_full_disk_is_reported_as_one_and_undoes_the_transaction(database: Database):
    pages = database.one("PRAGMA page_count")[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LocalStorageError, match="no room left"), database.transaction():  # noqa: PT012  the transaction is the point
        database.set_meta("small", "1")
        database.set_meta("big", "x" * 1_000_000)
    assert not database.connection.in_transaction
    assert database.meta("small") == ""


# The clock and the feed


@given(st.lists(st.tuples(st.integers(0, 2**42), st.integers(1, 3)), min_size=1, max_size=6))
def test_the_clock_of_a_store_never_runs_backwards(shared: Database, turns: list[tuple[int, int]]):
    for now_ms, count in turns:
        last_seq, last = shared.one("SELECT seq, hlc FROM clock")
        shared.now_ms = lambda now_ms=now_ms: now_ms
        with shared.transaction():
            seq, clock = shared.advance(count)
        assert clock == tick(last, now_ms=now_ms)
        assert seq == last_seq + 1
        assert shared.one("SELECT seq, hlc FROM clock") == (seq + count - 1, clock + count - 1)


def test_several_numbers_taken_at_once_are_not_given_again(database: Database):
    with database.transaction():
        first, clock = database.advance(10)
        assert database.advance(1) == (first + 10, max(clock + 10, (NOW_MS + 1) << 16))


def test_the_clock_follows_a_stamp_that_is_ahead(database: Database):
    ahead = (NOW_MS + 86_400_000) << 16
    with database.transaction():
        database.follow(ahead)
        assert database.advance()[1] == ahead + 1


def test_the_clock_stays_where_a_stamp_is_behind(database: Database):
    with database.transaction():
        _, clock = database.advance()
        database.follow(5)
        assert database.advance()[1] > clock


@pytest.mark.fault(18)
@pytest.mark.parametrize("clock", [0, -1, MAX_CLOCK])
def test_a_stamp_that_cannot_be_is_refused(database: Database, clock: int):
    with pytest.raises(InvalidInput, match="refused"), database.transaction():
        database.follow(clock)


def test_the_clock_goes_on_where_it_stood_after_a_restart(database: Database):
    with database.transaction():
        _, clock = database.advance()
    with Database(database.path, now_ms=lambda: 0) as again, again.transaction():
        assert again.advance()[1] == clock + 1


def test_a_number_that_was_taken_and_undone_is_taken_again(database: Database):
    before = database.last_seq
    with _undone(database):
        database.advance()
    assert database.last_seq == before


# Names and cursors


def test_a_store_keeps_its_names(database: Database):
    with Database(database.path) as again:
        assert (again.device, again.store_name) == (database.device, database.store_name)


def test_two_stores_have_different_names(database: Database, tmp_path: Path):
    with Database(tmp_path / "other.db") as other:
        assert other.device != database.device
        assert other.store_name != database.store_name


def test_a_device_has_the_number_zero_in_its_own_store(database: Database):
    assert database.device_no(database.device) == 0
    assert database.stamp(7, database.author(database.device, BY_HAND)) == Stamp(BY_HAND, 7, database.device)


def test_a_device_that_was_met_keeps_its_number(database: Database):
    with database.transaction():
        number = database.device_no("elsewhere001")
    with Database(database.path) as again:
        assert again.device_no("elsewhere001") == number
        assert again.devices == {0: database.device, number: "elsewhere001"}


def test_a_device_that_another_process_met_has_one_number(database: Database):
    with Database(database.path) as other:
        with database.transaction():
            number = database.device_no("elsewhere001")
        with other.transaction():
            assert other.device_no("elsewhere001") == number
        assert other.stamp(1, number * 4).device == "elsewhere001"


def test_a_device_that_was_met_in_an_undone_transaction_is_met_again(database: Database):
    with _undone(database):
        database.device_no("elsewhere001")
    with database.transaction():
        number = database.device_no("elsewhere001")
    assert database.one("SELECT id FROM devices WHERE no = ?", (number,)) == ("elsewhere001",)


def test_a_new_cursor_stands_at_the_beginning(database: Database):
    assert database.cursor("files") == 0


def test_a_cursor_stays_where_it_was_set(database: Database):
    with database.transaction():
        database.set_cursor("files", 7)
        database.set_cursor("files", 9)
    assert database.cursor("files") == 9


# Opening


def test_a_new_database_is_for_its_owner_only(database: Database):
    with database.transaction():
        database.set_meta("a", "1")
    assert {path.stat().st_mode & 0o777 for path in database.path.parent.iterdir()} == {0o600}


def test_a_reader_sees_what_was_written(database: Database):
    with database.transaction():
        database.set_meta("a", "1")
    with Database(database.path, read_only=True) as reader:
        assert (reader.device, reader.meta("a")) == (database.device, "1")


def test_a_reader_sees_what_is_written_while_it_is_open(database: Database):
    with Database(database.path, read_only=True) as reader:
        with database.transaction():
            database.set_meta("a", "1")
        assert reader.meta("a") == "1"


def test_a_reader_cannot_write(database: Database):
    with Database(database.path, read_only=True) as reader, pytest.raises(LocalStorageError), reader.transaction():
        reader.set_meta("a", "1")
    assert database.meta("a") == ""


def test_reading_where_no_store_is_says_so_and_makes_none(tmp_path: Path):
    with pytest.raises(NoHome):
        Database(tmp_path / "steno.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_reported_and_left_alone(tmp_path: Path):
    path = tmp_path / "steno.db"
    path.write_bytes(b"no database, but notes of somebody" * 100)
    with pytest.raises(LocalStorageError, match="damaged"):
        Database(path)
    assert path.read_bytes() == b"no database, but notes of somebody" * 100


def test_a_directory_that_is_missing_is_reported(tmp_path: Path):
    with pytest.raises(LocalStorageError, match="cannot be opened"):
        Database(tmp_path / "missing" / "steno.db")


def test_closing_twice_does_nothing(tmp_path: Path):
    database = Database(tmp_path / "steno.db")
    database.close()
    database.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
def test_durability_is_what_the_settings_say(tmp_path: Path, durability: str, synchronous: int):
    with Database(tmp_path / "steno.db", durability=durability) as database:
        assert database.one("PRAGMA synchronous") == (synchronous,)
        assert database.one("PRAGMA journal_mode") == ("wal",)


OPEN_AT_ONCE = """
import sys
from steno.storage.database import Database
print("ready", flush=True)
for line in sys.stdin:
    with Database(line.rstrip("\\n")) as database:
        print(database.device, flush=True)
"""


def test_processes_that_open_a_new_store_at_once_agree_on_its_names(tmp_path: Path):
    with ExitStack() as stack:
        processes = [stack.enter_context(_python(OPEN_AT_ONCE)) for _ in range(4)]
        assert {_line(process) for process in processes} == {"ready"}
        for number in range(20):
            for process in processes:
                _tell(process, str(tmp_path / f"{number}.db"))
            names = {_line(process) for process in processes}
            assert len(names) == 1
            assert len(names.pop()) == 12
        assert [process.communicate(timeout=30) for process in processes] == [("", "")] * 4


def test_opening_a_new_store_waits_for_another_process_that_is_making_it(tmp_path: Path):
    path = tmp_path / "steno.db"
    maker = sqlite.dbapi.connect(str(path), isolation_level=None)
    maker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(lambda: Database(path))
        wait([opening], timeout=0.2)
        maker.execute("COMMIT")
        maker.close()
        opening.result().close()


def _python(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    """The next line that a process says; what went wrong, where it ended instead."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.readline().rstrip("\n") or process.stderr.read()


# The SQLite library


def test_the_sqlite_in_use_has_the_fix_for_wal_resets():
    pytest.importorskip("pysqlite3", reason="no wheel of pysqlite3 for this platform: writers take a file lock")
    assert sqlite.FIXED


def test_the_sqlite_in_use_is_the_one_that_is_named(database: Database):
    assert isinstance(database.connection, sqlite.dbapi.Connection)
    assert database.one("SELECT sqlite_version()") == (sqlite.dbapi.sqlite_version,)


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_versions_of_sqlite_with_and_without_the_fix(version: tuple[int, ...], fixed: bool):
    assert sqlite._has_the_fix(version) == fixed


def test_nothing_else_imports_a_sqlite_library():
    root = Path(steno.__file__).parent
    parts = ("cli", "daemon", "storage", "sync")
    modules = [root / "__init__.py", *(path for part in parts for path in (root / part).rglob("*.py"))]
    importers = {str(path.relative_to(root)) for path in modules if {"sqlite3", "pysqlite3"} & _imported(path)}
    assert importers <= {"storage/sqlite.py"}


def _imported(path: Path) -> set[str]:
    """The libraries that a module imports when it runs."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
        nodes += ast.iter_child_nodes(node)
    return found


# Without the fix


def test_where_sqlite_lacks_the_fix_writers_take_a_file_lock(database: Database):
    database._wants_lock = True
    with database.transaction():
        database.set_meta("a", "1")
        assert not _free(database)
    assert _free(database)


def test_where_sqlite_lacks_the_fix_a_write_that_fails_gives_the_file_lock_back(database: Database):
    database._wants_lock = True
    with _undone(database):
        pass
    assert _free(database)


def _free(database: Database) -> bool:
    with database.path.with_name(f"{database.path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_wall_clock_beyond_the_year_2200_makes_no_stamp_that_others_refuse(tmp_path: Path):
    with Database(tmp_path / "steno.db", now_ms=lambda: 8_000_000_000_000) as database:
        with database.transaction():
            _, clock = database.advance()
        assert plausible(clock)
